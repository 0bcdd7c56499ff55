%% What the providers say when they fail, each in its dialect's words, as
%% actions of scripted_provider.
%%
%% Kinds of errors, and the status that each dialect gives them (status/2):
%%     bad_request, auth, permission, not_found, too_large, conflict, timeout,
%%     server
%%     bad_key       auth in the words of a provider that says 400 to it
%%     context       the conversation is longer than the model's context
%%     filter        the prompt was filtered
%%     rate          too many requests or tokens a minute
%%     slow_down     the load grew too fast
%%     quota         the account's allowance is used up
%%     credit        it has no money left
%%     spend         it reached the limit that its owner set
%%     overloaded    the provider has too much to do
-module(dialect_errors).

-export([status/2, answer/4, document/3, event/2]).

-type kind() :: bad_request | auth | permission | not_found | too_large
              | conflict | timeout | server | bad_key | context | filter
              | rate | slow_down | quota | credit | spend | overloaded.
-export_type([kind/0]).

%% none: the dialect has no words for it.
-spec status(dialects:dialect(), kind()) -> 400..599 | none.
status(_, bad_request) -> 400;
status(_, auth) -> 401;
status(_, permission) -> 403;
status(_, not_found) -> 404;
status(_, too_large) -> 413;
status(gemini, timeout) -> 504;
status(anthropic, timeout) -> 504;
status(_, timeout) -> 408;
status(_, conflict) -> 409;
status(_, server) -> 500;
status(_, context) -> 400;
status(_, rate) -> 429;
status(anthropic, overloaded) -> 529;
status(_, overloaded) -> 503;
status(gemini, bad_key) -> 400;
status(_, bad_key) -> none;
status(D, filter) when D =:= openai; D =:= azure; D =:= openai_responses -> 400;
status(_, filter) -> none;
status(ollama, _Money) -> none;
status(anthropic, credit) -> 402;
status(anthropic, spend) -> 429;
status(gemini, quota) -> 429;
status(D, _) when D =:= anthropic; D =:= gemini -> none;
status(_, _Money) -> 429.

%% The whole answer. Opts: headers, a list of {Name, Value}; message;
%% retry_delay, what Gemini has instead of a header.
-spec answer(dialects:dialect(), 100..599, kind(), map()) ->
          [scripted_provider:action()].
answer(Dialect, Status, Kind, Opts) ->
    [{status, Status}]
        ++ [{header, Name, Value}
            || {Name, Value} <- maps:get(headers, Opts, [])]
        ++ [{header, <<"content-type">>, <<"application/json">>},
            {body, test_json:encode(
                     document(Dialect, Kind, Opts#{status => Status}))}].

%% Its JSON: also what some send with status 200.
-spec document(dialects:dialect(), kind(), map()) -> map().
document(anthropic, Kind, Opts) ->
    {Type, Text} = anthropic(Kind),
    Error = #{type => Type, message => message(Text, Opts)},
    #{type => error, request_id => <<"req_scripted">>,
      error => case Kind of
                   spend -> Error#{details =>
                                       #{error_code =>
                                             enforced_spend_limit_reached}};
                   _ -> Error
               end};
document(gemini, Kind, Opts) ->
    {Status, Text} = gemini(Kind),
    #{error => #{code => maps:get(status, Opts, status(gemini, Kind)),
                 message => message(Text, Opts), status => Status,
                 details => gemini_details(Kind)
                     ++ [#{<<"@type">> => google(<<"RetryInfo">>),
                           retryDelay => Delay}
                         || #{retry_delay := Delay} <- [Opts]]}};
document(ollama, Kind, Opts) ->
    #{error => message(ollama(Kind), Opts)};
document(azure, Kind, Opts) ->
    Status = integer_to_binary(maps:get(status, Opts, status(azure, Kind))),
    {Type, Code, Text} = openai(Kind),
    case lists:member(Kind, [auth, permission, rate, server, overloaded,
                             too_large, conflict, timeout]) of
        true -> #{error => #{code => Status, message => message(Text, Opts)}};
        false -> #{error => #{type => Type, code => azure(Kind, Code),
                              message => message(Text, Opts), param => null}}
    end;
document(_OpenAi, Kind, Opts) ->
    {Type, Code, Text} = openai(Kind),
    #{error => #{type => Type, code => Code, message => message(Text, Opts),
                 param => null}}.

message(Text, Opts) ->
    maps:get(message, Opts, Text).

%% The same inside a stream that began with status 200.
-spec event(dialects:dialect(), kind()) -> [scripted_provider:action()].
event(openai_responses, Kind) ->
    {Type, Code, Text} = openai(Kind),
    [{event, <<"error">>,
      #{type => error, param => null, message => Text,
        code => case Code of null -> Type; _ -> Code end}}];
event(anthropic, Kind) ->
    [{event, <<"error">>, document(anthropic, Kind, #{})}];
event(ollama, Kind) ->
    [{line, document(ollama, Kind, #{})}];
event(Dialect, Kind) ->
    [{sse, document(Dialect, Kind, #{})}].

openai(bad_request) ->
    {invalid_request_error, null, <<"Unknown parameter: 'nonsense'.">>};
openai(auth) ->
    {invalid_request_error, invalid_api_key, <<"Incorrect API key provided.">>};
openai(permission) ->
    {invalid_request_error, null,
     <<"You do not have access to this project.">>};
openai(not_found) ->
    {invalid_request_error, model_not_found, <<"The model does not exist.">>};
openai(too_large) ->
    {invalid_request_error, null, <<"Request too large.">>};
openai(conflict) ->
    {invalid_request_error, null, <<"The resource was updated meanwhile.">>};
openai(timeout) ->
    {timeout, null, <<"Request timed out.">>};
openai(server) ->
    {server_error, null, <<"The server had an error.">>};
openai(context) ->
    {invalid_request_error, context_length_exceeded,
     <<"This model's maximum context length is 8192 tokens.">>};
openai(filter) ->
    {invalid_request_error, content_filter,
     <<"The prompt triggered the content management policy.">>};
openai(rate) ->
    {tokens, rate_limit_exceeded, <<"Rate limit reached for the model.">>};
openai(slow_down) ->
    {rate_limit_error, slow_down, <<"Please slow down.">>};
openai(quota) ->
    {insufficient_quota, insufficient_quota,
     <<"You exceeded your current quota.">>};
openai(credit) ->
    {insufficient_quota, credit_balance_exhausted,
     <<"Your credit balance is used up.">>};
openai(spend) ->
    {insufficient_quota, enforced_spend_limit_reached,
     <<"You reached your spend limit.">>};
openai(overloaded) ->
    {service_unavailable_error, server_is_overloaded,
     <<"The server is overloaded.">>}.

azure(not_found, _) -> 'DeploymentNotFound';
azure(bad_request, _) -> 'BadRequest';
azure(_, Code) -> Code.

anthropic(bad_request) ->
    {invalid_request_error, <<"messages: field required">>};
anthropic(auth) ->
    {authentication_error, <<"invalid x-api-key">>};
anthropic(permission) ->
    {permission_error, <<"Your key may not use this resource.">>};
anthropic(not_found) ->
    {not_found_error, <<"model: not found">>};
anthropic(too_large) ->
    {request_too_large, <<"Request exceeds the maximum size">>};
anthropic(conflict) ->
    {conflict_error, <<"The resource was changed meanwhile.">>};
anthropic(timeout) ->
    {timeout_error, <<"Request timed out.">>};
anthropic(server) ->
    {api_error, <<"Internal server error">>};
anthropic(context) ->
    {invalid_request_error,
     <<"prompt is too long: 210000 tokens > 200000 maximum">>};
anthropic(rate) ->
    {rate_limit_error, <<"This request would exceed your rate limit.">>};
anthropic(credit) ->
    {billing_error, <<"Your credit balance is too low.">>};
anthropic(spend) ->
    {rate_limit_error, <<"You reached your spend limit for this month.">>};
anthropic(overloaded) ->
    {overloaded_error, <<"Overloaded">>}.

gemini(bad_request) ->
    {'INVALID_ARGUMENT', <<"Invalid JSON payload received.">>};
gemini(bad_key) ->
    {'INVALID_ARGUMENT', <<"API key not valid. Please pass a valid API key.">>};
gemini(auth) ->
    {'UNAUTHENTICATED', <<"The request has no valid credentials.">>};
gemini(permission) ->
    {'PERMISSION_DENIED', <<"The caller does not have permission">>};
gemini(not_found) ->
    {'NOT_FOUND', <<"The model is not found for API version v1beta.">>};
gemini(too_large) ->
    {'INVALID_ARGUMENT', <<"Request payload size exceeds the limit.">>};
gemini(conflict) ->
    {'ABORTED', <<"The operation was aborted.">>};
gemini(timeout) ->
    {'DEADLINE_EXCEEDED', <<"The request timed out.">>};
gemini(server) ->
    {'INTERNAL', <<"An internal error has occurred.">>};
gemini(context) ->
    {'INVALID_ARGUMENT',
     <<"The input token count (1100000) exceeds the maximum number of tokens "
       "allowed (1048576).">>};
gemini(rate) ->
    {'RESOURCE_EXHAUSTED', <<"You exceeded your current quota.">>};
gemini(quota) ->
    {'RESOURCE_EXHAUSTED', <<"You exceeded your current quota.">>};
gemini(overloaded) ->
    {'UNAVAILABLE', <<"The model is overloaded.">>}.

gemini_details(bad_key) ->
    [#{<<"@type">> => google(<<"ErrorInfo">>), reason => 'API_KEY_INVALID',
       domain => <<"googleapis.com">>}];
gemini_details(rate) ->
    [quota_failure(<<"GenerateRequestsPerMinutePerProjectPerModel">>)];
gemini_details(quota) ->
    [quota_failure(<<"GenerateRequestsPerDayPerProjectPerModel">>)];
gemini_details(_) ->
    [].

quota_failure(Id) ->
    #{<<"@type">> => google(<<"QuotaFailure">>),
      violations => [#{quotaId => Id}]}.

google(Type) ->
    <<"type.googleapis.com/google.rpc.", Type/binary>>.

ollama(bad_request) -> <<"invalid format: expected \"json\" or a JSON schema">>;
ollama(auth) -> <<"unauthorized">>;
ollama(permission) -> <<"this model requires a subscription">>;
ollama(not_found) -> <<"model 'llama3.2' not found">>;
ollama(too_large) -> <<"request too large">>;
ollama(conflict) -> <<"the model is being changed">>;
ollama(timeout) -> <<"timed out waiting for the model to start">>;
ollama(server) -> <<"llama runner process has terminated">>;
ollama(context) ->
    <<"prompt too long; exceeded max context length by 1024 tokens">>;
ollama(rate) -> <<"you have reached your hourly usage limit">>;
ollama(overloaded) ->
    <<"server busy, please try again.  maximum pending requests exceeded">>.
