%% Every dialect from a caller's point of view: what is asked of the provider is
%% what its vendor documents, and an answer means the same whoever gave it.
%%
%% One router with all providers switched on by their environment variables; all
%% of them are one scripted provider, which knows the dialect by the path.
-module(dialects_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(TEXT, <<"Grüße, 世界 😀: the answer is 42."/utf8>>).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% requests
     a_request_goes_to_its_address_with_its_key,
     the_conversation_is_in_the_vendors_words,
     a_limit_of_tokens_is_in_the_vendors_words,
     sampling_is_sent_only_to_models_that_take_it,
     anthropic_speaks_both_of_its_versions,
     an_api_is_asked_for_by_name,
     an_answer_that_was_kept_is_gone_on_from,
     secrets_of_mcp_servers_go_to_the_provider_only,
     %% answers
     a_streamed_answer_is_read,
     a_whole_answer_is_read,
     an_answer_may_come_in_pieces_of_any_size,
     thoughts_are_not_the_answer,
     an_answer_is_streamed_to_the_caller,
     finish_reasons_are_translated,
     a_refusal_is_refused_and_costs,
     filtered_answers_are_content_filtered,
     %% money
     usage_is_translated,
     cost_follows_the_vendors_formula,
     cost_of_a_long_prompt_is_that_of_the_long_tier,
     cost_is_nil_where_no_price_is_known,
     %% objects and tools
     an_object_is_asked_for_in_the_native_mode,
     tools_are_offered_in_the_vendors_words,
     a_choice_of_tools_is_in_the_vendors_words,
     tool_calls_are_read,
     several_tool_calls_keep_their_order,
     answers_of_tools_are_sent_back,
     %% embeddings
     texts_are_embedded,
     %% compatible servers
     compatible_servers_have_names_of_their_own,
     errors_of_compatible_servers_are_understood,
     %% errors
     an_error_names_provider_model_and_status,
     an_error_never_shows_the_key].

init_per_suite(Config) ->
    Provider = scripted_provider:start(),
    bed:up([{scripted, Provider} | Config], #{env => env(Provider)}).

end_per_suite(Config) ->
    bed:down(Config),
    scripted_provider:stop(provider(Config)).

env(Provider) ->
    V1 = binary_to_list(scripted_provider:url(Provider)),
    Root = binary_to_list(scripted_provider:url(Provider, anthropic)),
    [{"OPENAI_API_KEY", key(openai)}, {"OPENAI_BASE_URL", V1},
     {"AZURE_OPENAI_API_KEY", key(azure)}, {"AZURE_OPENAI_ENDPOINT", Root},
     {"ANTHROPIC_API_KEY", key(anthropic)}, {"ANTHROPIC_BASE_URL", Root},
     {"GEMINI_API_KEY", key(gemini)}, {"GEMINI_BASE_URL", Root},
     {"OLLAMA_HOST", Root}]
        ++ [{Name ++ "_BASE_URL", V1} || {Name, _} <- compatible()]
        ++ [{Variable, "sk-test-" ++ Name} || {Name, Variable} <- compatible()].

key(openai_responses) -> key(openai);
key(Dialect) -> "sk-test-" ++ atom_to_list(Dialect).

%% Name of the variables and of the one with the key.
compatible() ->
    [{"OPENROUTER", "OPENROUTER_API_KEY"}, {"GROQ", "GROQ_API_KEY"},
     {"MISTRAL", "MISTRAL_API_KEY"}, {"DEEPSEEK", "DEEPSEEK_API_KEY"},
     {"XAI", "XAI_API_KEY"}, {"VLLM", "VLLM_API_KEY"},
     {"LLAMACPP", "LLAMA_API_KEY"}].

provider(Config) ->
    proplists:get_value(scripted, Config).

model(openai) -> <<"openai/gpt-5.4-mini">>;
model(azure) -> <<"azure/gpt-5.4-mini">>;
model(openai_responses) -> <<"openai/gpt-6.1-sol">>;
model(anthropic) -> <<"anthropic/claude-sonnet-5">>;
model(gemini) -> <<"gemini/gemini-3.5-flash">>;
model(ollama) -> <<"ollama/llama3.2">>.

%% The model's own name and its provider's.
id(Dialect) ->
    [Provider, Id] = binary:split(model(Dialect), <<"/">>),
    {Provider, Id}.

%% Runs Test(Dialect) for each; all that fail are told.
each(Dialects, Test) ->
    Failed = [F || D <- Dialects, F <- failure(D, Test)],
    [ct:log("~p:~n~0tp", [D, F]) || {D, F} <- Failed],
    ?assertEqual([], Failed).

failure(Dialect, Test) ->
    try Test(Dialect) of
        _ -> []
    catch
        _:Reason:Stack -> [{Dialect, {Reason, lists:sublist(Stack, 4)}}]
    end.

each(Test) ->
    each(dialects:all(), Test).

%% One call against a handler: {Answer, Requests}.
ask(Config, Handler, Op) ->
    Provider = provider(Config),
    scripted_provider:set_handler(Provider, Handler),
    Answer = bed:call(Config, Op),
    {Answer, scripted_provider:requests(Provider)}.

op(Dialect) ->
    op(Dialect, #{}).

op(Dialect, Opts) ->
    {call_with_prompt, simple, <<"Say hello">>,
     Opts#{model => model(Dialect)}}.

%% The request that is made for an operation.
request(Config, Op) ->
    {{ok, _}, [Request]} = ask(Config, [scripted_provider:answer(<<"Hello">>)],
                               Op),
    Request.

%% The body of it.
body(Config, Op) ->
    maps:get(json, request(Config, Op)).

%% What comes of an answer.
response(Config, Dialect, Text, Opts) ->
    {Answer, [_]} = ask(Config, [scripted_provider:answer(Text, Opts)],
                        op(Dialect)),
    Answer.

%% ---------------------------------------------------------------- requests

a_request_goes_to_its_address_with_its_key(Config) ->
    each(fun(D) ->
                 #{method := <<"POST">>, path := Path, headers := Headers}
                     = request(Config, op(D)),
                 {Pattern, Expected} = address(D),
                 ?assertMatch({match, _}, re:run(Path, Pattern)),
                 ?assertEqual(Expected, maps:with(secrets(), Headers)),
                 ?assertMatch(#{<<"content-type">> := <<"application/json">>},
                              Headers),
                 ?assertEqual(nomatch, binary:match(Path, <<"sk-test">>))
         end).

secrets() ->
    [<<"authorization">>, <<"x-api-key">>, <<"api-key">>,
     <<"x-goog-api-key">>].

address(openai) ->
    {"^/v1/chat/completions$", bearer(openai)};
address(openai_responses) ->
    {"^/v1/responses$", bearer(openai)};
address(azure) ->
    {"^/openai/deployments/gpt-5.4-mini/chat/completions\\?api-version="
     "[-0-9a-z]+$", #{<<"api-key">> => list_to_binary(key(azure))}};
address(anthropic) ->
    {"^/v1/messages$", #{<<"x-api-key">> => list_to_binary(key(anthropic))}};
address(gemini) ->
    {"^/v1beta/models/gemini-3.5-flash:streamGenerateContent\\?alt=sse$",
     #{<<"x-goog-api-key">> => list_to_binary(key(gemini))}};
address(ollama) ->
    {"^/api/chat$", #{}}.

bearer(Dialect) ->
    #{<<"authorization">> => list_to_binary(["Bearer ", key(Dialect)])}.

the_conversation_is_in_the_vendors_words(Config) ->
    Messages = [#{role => system, content => <<"Be brief">>},
                #{role => user, content => <<"One">>},
                #{role => assistant, content => <<"Two">>},
                #{role => user, content => <<"Three \"3\"\n">>}],
    each(fun(D) ->
                 Json = body(Config, {call, simple, Messages,
                                      #{model => model(D)}}),
                 {_, Id} = id(D),
                 ?assertEqual(Id, maps:get(<<"model">>, Json, Id)),
                 ?assertEqual({[<<"Be brief">>], [{user, <<"One">>},
                                                  {assistant, <<"Two">>},
                                                  {user, <<"Three \"3\"\n">>}]},
                              conversation(D, Json)),
                 ?assertEqual(asks_for_a_stream(D),
                              maps:get(<<"stream">>, Json, none)),
                 D =:= openai andalso
                     ?assertMatch(#{<<"stream_options">> :=
                                        #{<<"include_usage">> := true}}, Json),
                 D =:= openai_responses andalso
                     ?assertMatch(#{<<"store">> := false}, Json)
         end).

%% Gemini's address does.
asks_for_a_stream(gemini) -> none;
asks_for_a_stream(_) -> true.

%% {System, Turns} of a request's body.
conversation(anthropic, #{<<"system">> := System, <<"messages">> := Turns}) ->
    {[text(System)], [turn(T) || T <- Turns]};
conversation(gemini, #{<<"systemInstruction">> := #{<<"parts">> := System},
                       <<"contents">> := Turns}) ->
    {[text(System)], [turn(T) || T <- Turns]};
conversation(openai_responses, #{<<"input">> := Turns} = Json) ->
    {[S || #{<<"instructions">> := S} <- [Json]]
     ++ [text(C) || #{<<"role">> := Role, <<"content">> := C} <- Turns,
                    is_system(Role)],
     [turn(T) || #{<<"role">> := Role} = T <- Turns, not is_system(Role)]};
conversation(_, #{<<"messages">> := Turns}) ->
    {[text(C) || #{<<"role">> := Role, <<"content">> := C} <- Turns,
                 is_system(Role)],
     [turn(T) || #{<<"role">> := Role} = T <- Turns, not is_system(Role)]}.

is_system(Role) ->
    lists:member(Role, [<<"system">>, <<"developer">>]).

turn(#{<<"role">> := <<"model">>} = Turn) ->
    turn(Turn#{<<"role">> := <<"assistant">>});
turn(#{<<"role">> := Role, <<"parts">> := Parts}) ->
    {binary_to_existing_atom(Role), text(Parts)};
turn(#{<<"role">> := Role, <<"content">> := Content}) ->
    {binary_to_existing_atom(Role), text(Content)}.

text(Text) when is_binary(Text) -> Text;
text(Parts) -> << <<T/binary>> || #{<<"text">> := T} <- Parts >>.

a_limit_of_tokens_is_in_the_vendors_words(Config) ->
    each(fun(D) ->
                 Json = body(Config, op(D, #{max_tokens => 777})),
                 ?assertEqual(777, limit_of_tokens(D, Json))
         end),
    %% Anthropic wants one always.
    ?assertMatch(#{<<"max_tokens">> := N} when is_integer(N) andalso N >= 1024,
                 body(Config, op(anthropic))).

limit_of_tokens(openai_responses, #{<<"max_output_tokens">> := N}) -> N;
limit_of_tokens(gemini, #{<<"generationConfig">> :=
                              #{<<"maxOutputTokens">> := N}}) -> N;
limit_of_tokens(ollama, #{<<"options">> := #{<<"num_predict">> := N}}) -> N;
limit_of_tokens(anthropic, #{<<"max_tokens">> := N}) -> N;
limit_of_tokens(azure, #{<<"max_completion_tokens">> := N}) -> N;
limit_of_tokens(D, #{<<"max_tokens">> := N}) when D =:= openai; D =:= azure ->
    N.

sampling_is_sent_only_to_models_that_take_it(Config) ->
    Temperature = fun(D) ->
                          #{json := Json} =
                              request(Config, op(D, #{temperature => 0.25})),
                          temperature(D, Json)
                  end,
    ?assertEqual(0.25, Temperature(openai)),
    ?assertEqual(0.25, Temperature(gemini)),
    ?assertEqual(0.25, Temperature(ollama)),
    ?assertEqual(none, Temperature(anthropic)),
    ?assertEqual(none, Temperature(openai_responses)).

temperature(gemini, #{<<"generationConfig">> := Settings}) ->
    temperature(openai, Settings);
temperature(ollama, #{<<"options">> := Settings}) ->
    temperature(openai, Settings);
temperature(_, Json) ->
    maps:get(<<"temperature">>, Json, none).

anthropic_speaks_both_of_its_versions(Config) ->
    #{headers := #{<<"anthropic-version">> := <<"2023-06-01">>}}
        = request(Config, op(anthropic)),
    File = filename:join(proplists:get_value(priv_dir, Config), "newer.json"),
    Url = scripted_provider:url(provider(Config), anthropic),
    Newer = #{providers =>
                  #{newer => #{dialect => anthropic, base_url => Url,
                               api_version => <<"2026-10-21">>}}},
    ok = file:write_file(File, test_json:encode(Newer)),
    Node = bed:node_name(router),
    Router = bed:run_router(Config, Node, #{connect => [],
                                            args => ["--config", File]}),
    Provider = provider(Config),
    scripted_provider:set_handler(Provider,
                                  [scripted_provider:answer(<<"Hello">>)]),
    {ok, #{text := <<"Hello">>}} =
        bed:on(bed:caller(Config),
               fun() ->
                       gen_server:call({llm_router, Node},
                                       {call_with_prompt, simple, <<"Hi">>,
                                        #{model => <<"newer/claude-new">>,
                                          temperature => 0.5, top_p => 0.5}})
               end),
    [#{headers := #{<<"anthropic-version">> := <<"2026-10-21">>},
       json := Json}] = scripted_provider:requests(Provider),
    ?assertEqual(#{}, maps:with([<<"temperature">>, <<"top_p">>, <<"top_k">>],
                                Json)),
    {exited, 0} = router:stop(Router).

an_api_is_asked_for_by_name(Config) ->
    Path = fun(D, Api) ->
                   #{path := Path} = request(Config, op(D, #{api_version =>
                                                                 Api})),
                   Path
           end,
    ?assertEqual(<<"/v1/responses">>, Path(openai, responses)),
    ?assertEqual(<<"/v1/chat/completions">>, Path(openai, chat_completions)),
    ?assertEqual(<<"/v1/responses">>, Path(openai_responses, responses)),
    ?assertEqual(<<"/openai/v1/responses">>, Path(azure, responses)),
    [?assertMatch({{error, {no_route, #{message := _}}}, []},
                  ask(Config, [scripted_provider:answer(<<"Hello">>)],
                      op(D, #{api_version => Api})))
     || {D, Api} <- [{openai_responses, chat_completions},
                     {anthropic, responses}, {gemini, chat_completions}]].

an_answer_that_was_kept_is_gone_on_from(Config) ->
    {{ok, #{response_id := Id}}, [#{json := First}]} =
        ask(Config, [scripted_provider:answer(<<"Hello">>)],
            op(openai, #{api_version => responses, store => true})),
    ?assertMatch(#{<<"store">> := true}, First),
    ?assert(is_binary(Id)),
    {{ok, _}, [#{path := <<"/v1/responses">>, json := Next}]} =
        ask(Config, [scripted_provider:answer(<<"Hello">>)],
            op(openai, #{previous_response_id => Id})),
    ?assertMatch(#{<<"previous_response_id">> := Id, <<"store">> := false},
                 Next),
    ?assertMatch({{ok, #{response_id := nil}}, [_]},
                 ask(Config, [scripted_provider:answer(<<"Hello">>)],
                     op(openai))).

%% A provider may quote what it does not like.
secrets_of_mcp_servers_go_to_the_provider_only(Config) ->
    Secret = <<"hunter2hunter2">>,
    Op = op(openai, #{return => full,
                      mcp_servers =>
                          [#{server_label => <<"dice">>,
                             server_url => <<"https://dice.example/sse">>,
                             headers => #{<<"X-Key">> => Secret}}]}),
    Quoting = <<"cannot reach dice with X-Key: ", Secret/binary>>,
    {Answer, [#{json := #{<<"tools">> := [Tool]}}]} =
        ask(Config, [scripted_provider:answer(<<"Hello">>)], Op),
    ?assertMatch(#{<<"type">> := <<"mcp">>, <<"server_label">> := <<"dice">>,
                   <<"headers">> := #{<<"X-Key">> := Secret}}, Tool),
    {Error, [_]} =
        ask(Config, [[{error, bad_request, #{message => Quoting}}]], Op),
    ?assertMatch({error, {invalid_request, _}}, Error),
    [?assertEqual(nomatch, binary:match(term_to_binary(Term), Secret))
     || Term <- [Answer, Error]].

%% ----------------------------------------------------------------- answers

a_streamed_answer_is_read(Config) ->
    each(fun(D) -> is_read(Config, D, #{}) end).

a_whole_answer_is_read(Config) ->
    each(fun(D) -> is_read(Config, D, #{whole => true}) end).

an_answer_may_come_in_pieces_of_any_size(Config) ->
    each(fun(D) ->
                 [is_read(Config, D, #{chunk_size => Size})
                  || Size <- [1, 2, 5]],
                 #{head := Head, start := Start, text := Text,
                   finish := Finish} = dialects:pieces(D, ?TEXT, #{}),
                 Events = Start ++ lists:append(Text) ++ Finish,
                 {Answer, [_]} = ask(Config, [Head ++ [{bytewise, Events}]],
                                     op(D)),
                 ?assertMatch({ok, #{text := ?TEXT}}, Answer)
         end).

is_read(Config, Dialect, Opts) ->
    {Provider, Id} = id(Dialect),
    {ok, Response} = response(Config, Dialect, ?TEXT, Opts),
    ?assertMatch(#{text := ?TEXT, content := ?TEXT, finish_reason := stop,
                   tool_calls := [], attempts := 1}, Response),
    ?assertEqual({Provider, Id}, {maps:get(provider, Response),
                                  maps:get(model, Response)}).

thoughts_are_not_the_answer(Config) ->
    each(fun(D) ->
                 [?assertMatch({ok, #{text := <<"Hello">>}},
                               response(Config, D, <<"Hello">>,
                                        #{thinking => <<"Let me think">>,
                                          whole => Whole}))
                  || Whole <- [false, true]]
         end).

%% In as many deltas as the provider sent.
an_answer_is_streamed_to_the_caller(Config) ->
    Provider = provider(Config),
    Node = bed:node(Config),
    each(fun(D) ->
                 scripted_provider:set_handler(
                   Provider, [scripted_provider:answer(?TEXT,
                                                       #{chunk_size => 4,
                                                         delay => 5})]),
                 Model = model(D),
                 {Deltas, End} =
                     bed:on(bed:caller(Config),
                            fun() -> streamed(Node, Model) end),
                 ?assertMatch({done, #{text := ?TEXT, finish_reason := stop}},
                              End),
                 ?assertEqual(?TEXT, iolist_to_binary(Deltas)),
                 ?assert(length(Deltas) > 2)
         end).

streamed(Node, Model) ->
    Messages = [#{role => user, content => <<"Say hello">>}],
    {ok, Ref} = gen_server:call({llm_router, Node},
                                {stream, simple, Messages, #{model => Model}}),
    streamed_on(Ref, []).

streamed_on(Ref, Deltas) ->
    receive
        {llm_stream, Ref, {delta, Delta}} -> streamed_on(Ref, [Delta | Deltas]);
        {llm_stream, Ref, End} -> {lists:reverse(Deltas), End}
    after 10000 ->
            {lists:reverse(Deltas), nothing_more}
    end.

finish_reasons_are_translated(Config) ->
    each(fun(D) ->
                 [begin
                      {ok, Response} =
                          response(Config, D, <<"Hello">>,
                                   #{finish_reason => Word, whole => Whole}),
                      ?assertEqual({Word, Reason},
                                   {Word, maps:get(finish_reason, Response)})
                  end || {Word, Reason} <- finish_words(D),
                         Whole <- [false, true]]
         end).

finish_words(anthropic) ->
    [{<<"end_turn">>, stop}, {<<"stop_sequence">>, stop},
     {<<"max_tokens">>, length},
     {<<"model_context_window_exceeded">>, length},
     {<<"something_new">>, stop}];
finish_words(gemini) ->
    [{<<"STOP">>, stop}, {<<"MAX_TOKENS">>, length},
     {<<"SOMETHING_NEW">>, stop}];
finish_words(openai_responses) ->
    [{stop, stop}, {length, length}];
finish_words(ollama) ->
    [{<<"stop">>, stop}, {<<"length">>, length}, {<<"something_new">>, stop}];
finish_words(_OpenAi) ->
    [{<<"stop">>, stop}, {<<"length">>, length}, {<<"something_new">>, stop}].

a_refusal_is_refused_and_costs(Config) ->
    each([openai, azure, openai_responses, anthropic],
         fun(D) ->
                 [begin
                      {error, {refused, Details}} =
                          response(Config, D, <<"I will not do that">>,
                                   #{finish_reason => refusal,
                                     whole => Whole}),
                      D =:= azure orelse
                          ?assertMatch(#{cost_usd := C} when C > 0, Details)
                  end || Whole <- [false, true]]
         end).

filtered_answers_are_content_filtered(Config) ->
    each([openai, azure, openai_responses, gemini],
         fun(D) ->
                 [?assertMatch({error, {content_filtered, _}},
                               response(Config, D, <<"Hel">>,
                                        Opts#{whole => Whole}))
                  || Opts <- filters(D), Whole <- [false, true]]
         end).

filters(gemini) ->
    [#{finish_reason => Word}
     || Word <- [<<"SAFETY">>, <<"RECITATION">>, <<"BLOCKLIST">>,
                 <<"PROHIBITED_CONTENT">>, <<"SPII">>]]
        ++ [#{prompt_blocked => Word}
            || Word <- ['SAFETY', 'PROHIBITED_CONTENT', 'JAILBREAK']];
filters(_) ->
    [#{finish_reason => content_filter}].

%% ------------------------------------------------------------------- money

%% The same usage in everybody's words: 1000 tokens of input, of which 300 were
%% read from the cache and 200 written to it; 150 of output, of which 40 were
%% thoughts. Not all of them count all of it.
usage(D) when D =:= openai; D =:= azure ->
    #{prompt_tokens => 1000, completion_tokens => 150, total_tokens => 1150,
      prompt_tokens_details => #{cached_tokens => 300,
                                 cache_write_tokens => 200},
      completion_tokens_details => #{reasoning_tokens => 40}};
usage(openai_responses) ->
    #{input_tokens => 1000, output_tokens => 150, total_tokens => 1150,
      input_tokens_details => #{cached_tokens => 300,
                                cache_write_tokens => 200},
      output_tokens_details => #{reasoning_tokens => 40}};
usage(anthropic) ->
    #{input_tokens => 500, cache_read_input_tokens => 300,
      cache_creation_input_tokens => 200,
      cache_creation => #{ephemeral_5m_input_tokens => 50,
                          ephemeral_1h_input_tokens => 150},
      output_tokens => 150,
      output_tokens_details => #{thinking_tokens => 40}};
usage(gemini) ->
    #{promptTokenCount => 1000, cachedContentTokenCount => 300,
      candidatesTokenCount => 110, thoughtsTokenCount => 40,
      totalTokenCount => 1150};
usage(ollama) ->
    #{prompt_eval_count => 1000, eval_count => 150}.

usage_is_translated(Config) ->
    each(fun(D) ->
                 Expected = #{input_tokens => 1000, output_tokens => 150,
                              total_tokens => 1150,
                              cached_tokens => counted(D, 300),
                              reasoning_tokens => counted(D, 40)},
                 [begin
                      {ok, #{usage := Usage, tokens_used := Used}} =
                          response(Config, D, <<"Hello">>,
                                   #{usage => usage(D), whole => Whole}),
                      ?assertEqual(Expected,
                                   maps:with(maps:keys(Expected), Usage)),
                      ?assertEqual(1150, Used)
                  end || Whole <- [false, true]]
         end).

counted(ollama, _N) -> nil;
counted(_, N) -> N.

%% By the prices in priv/models.json, per million tokens.
cost_follows_the_vendors_formula(Config) ->
    each([openai, openai_responses, anthropic, gemini],
         fun(D) ->
                 {ok, #{cost_usd := Usd, cost_cents := Cents}} =
                     response(Config, D, <<"Hello">>, #{usage => usage(D)}),
                 is_close(formula(D, prices(D)) / 1000000, Usd),
                 is_close(Usd * 100, Cents)
         end).

formula(anthropic, #{in := In, out := Out, cache_read := Read,
                     cache_write := Write}) ->
    500 * In + 300 * Read + 50 * Write + 150 * 2 * In + 150 * Out;
formula(gemini, #{in := In, out := Out, cache_read := Read}) ->
    700 * In + 300 * Read + 150 * Out;
formula(_OpenAi, #{in := In, out := Out, cache_read := Read} = Prices) ->
    500 * In + 300 * Read + 200 * maps:get(cache_write, Prices, In) + 150 * Out.

prices(Dialect) ->
    {Provider, Id} = id(Dialect),
    File = filename:join([router:project(), "priv", "models.json"]),
    {ok, Text} = file:read_file(File),
    #{<<"models">> := Models} = test_json:decode(Text),
    [Row] = [M || #{<<"provider">> := P, <<"id">> := I} = M <- Models,
                  P =:= Provider, I =:= Id],
    maps:from_list([{Key, Price}
                    || Key <- [in, out, cache_read, cache_write, long_over,
                               long_in, long_out],
                       {ok, Price} <- [maps:find(atom_to_binary(Key), Row)],
                       is_number(Price)]).

is_close(Expected, Got) ->
    ?assert(is_float(Got)),
    ?assert(abs(Expected - Got) =< Expected * 1.0e-6, {Expected, Got}).

cost_of_a_long_prompt_is_that_of_the_long_tier(Config) ->
    #{long_over := Over, long_in := In, long_out := Out} = prices_of_gpt(),
    Cost = fun(Tokens) ->
                   Usage = #{prompt_tokens => Tokens, completion_tokens => 1000,
                             total_tokens => Tokens + 1000},
                   {{ok, #{cost_usd := Usd}}, _} =
                       ask(Config, [scripted_provider:answer(
                                      <<"Hello">>, #{usage => Usage})],
                           {call_with_prompt, simple, <<"Hi">>,
                            #{model => <<"openai/gpt-5.4">>}}),
                   Usd
           end,
    #{in := ShortIn, out := ShortOut} = prices_of_gpt(),
    is_close((Over * ShortIn + 1000 * ShortOut) / 1000000, Cost(Over)),
    is_close(((Over + 1) * In + 1000 * Out) / 1000000, Cost(Over + 1)).

prices_of_gpt() ->
    File = filename:join([router:project(), "priv", "models.json"]),
    {ok, Text} = file:read_file(File),
    #{<<"models">> := Models} = test_json:decode(Text),
    [#{<<"in">> := In, <<"out">> := Out, <<"long_over">> := Over,
       <<"long_in">> := LongIn, <<"long_out">> := LongOut}]
        = [M || #{<<"id">> := <<"gpt-5.4">>, <<"provider">> := <<"openai">>} = M
                    <- Models],
    #{in => In, out => Out, long_over => Over, long_in => LongIn,
      long_out => LongOut}.

cost_is_nil_where_no_price_is_known(Config) ->
    [begin
         {{ok, Response}, _} =
             ask(Config, [scripted_provider:answer(<<"Hello">>)],
                 {call_with_prompt, simple, <<"Hi">>, #{model => Model}}),
         ?assertMatch(#{cost_usd := nil, cost_cents := nil}, Response)
     end || Model <- [<<"openai/nobody-knows-me">>, <<"ollama/llama3.2">>]].

%% ------------------------------------------------------- objects and tools

schema() ->
    #{type => object, additionalProperties => false,
      required => [<<"city">>, <<"days">>],
      properties => #{city => #{type => string},
                      days => #{type => array, items => #{type => integer}}}}.

schema_json() ->
    test_json:decode(test_json:encode(schema())).

an_object_is_asked_for_in_the_native_mode(Config) ->
    Object = #{<<"city">> => <<"Bern">>, <<"days">> => [1, 2]},
    each(fun(D) ->
                 {{ok, Response}, [#{json := Json}]} =
                     ask(Config, [scripted_provider:answer(Object)],
                         op(D, #{schema => schema()})),
                 ?assertMatch(#{object := Object}, Response),
                 ?assertEqual(schema_json(), native_schema(D, Json))
         end).

native_schema(openai_responses,
              #{<<"text">> := #{<<"format">> :=
                                    #{<<"type">> := <<"json_schema">>,
                                      <<"name">> := Name,
                                      <<"strict">> := true,
                                      <<"schema">> := Schema}}}) ->
    true = is_name(Name),
    Schema;
native_schema(anthropic, #{<<"output_config">> :=
                               #{<<"format">> :=
                                     #{<<"type">> := <<"json_schema">>,
                                       <<"schema">> := Schema}}}) ->
    Schema;
native_schema(gemini, #{<<"generationConfig">> :=
                            #{<<"responseMimeType">> := <<"application/json">>,
                              <<"responseJsonSchema">> := Schema}}) ->
    Schema;
native_schema(ollama, #{<<"format">> := Schema}) ->
    Schema;
native_schema(_OpenAi, #{<<"response_format">> :=
                             #{<<"type">> := <<"json_schema">>,
                               <<"json_schema">> :=
                                   #{<<"name">> := Name, <<"strict">> := true,
                                     <<"schema">> := Schema}}}) ->
    true = is_name(Name),
    Schema.

is_name(Name) ->
    match =:= re:run(Name, "^[A-Za-z0-9_-]{1,64}$", [{capture, none}]).

tools() ->
    [#{name => <<"get_weather">>, description => <<"The weather of a city">>,
       parameters => #{type => object, required => [<<"city">>],
                       additionalProperties => false,
                       properties => #{city => #{type => string}}}},
     #{name => <<"get_time">>}].

tools_are_offered_in_the_vendors_words(Config) ->
    [#{parameters := Parameters} | _] = tools(),
    Weather = test_json:decode(test_json:encode(Parameters)),
    each(fun(D) ->
                 Json = body(Config, op(D, #{tools => tools()})),
                 [{<<"get_weather">>, <<"The weather of a city">>, Weather},
                  {<<"get_time">>, _, _}] = offered(D, Json)
         end).

offered(gemini, #{<<"tools">> := [#{<<"functionDeclarations">> := Tools}]}) ->
    [{Name, maps:get(<<"description">>, T, none),
      maps:get(<<"parametersJsonSchema">>, T,
               maps:get(<<"parameters">>, T, none))}
     || #{<<"name">> := Name} = T <- Tools];
offered(anthropic, #{<<"tools">> := Tools}) ->
    [{Name, maps:get(<<"description">>, T, none), Schema}
     || #{<<"name">> := Name, <<"input_schema">> := Schema} = T <- Tools];
offered(openai_responses, #{<<"tools">> := Tools}) ->
    [offered_function(T) || #{<<"type">> := <<"function">>} = T <- Tools];
offered(_OpenAi, #{<<"tools">> := Tools}) ->
    [offered_function(F) || #{<<"type">> := <<"function">>,
                              <<"function">> := F} <- Tools].

offered_function(#{<<"name">> := Name} = Function) ->
    {Name, maps:get(<<"description">>, Function, none),
     maps:get(<<"parameters">>, Function, none)}.

%% Ollama has no words for it.
a_choice_of_tools_is_in_the_vendors_words(Config) ->
    Choice = fun(D, Choice) ->
                     choice(D, body(Config, op(D, #{tools => tools(),
                                                    tool_choice => Choice})))
             end,
    each(dialects:all() -- [ollama],
         fun(D) ->
                 ?assertEqual(auto, Choice(D, auto)),
                 ?assertEqual(none, Choice(D, none)),
                 ?assertEqual(required, Choice(D, required)),
                 ?assertEqual({named, <<"get_time">>},
                              Choice(D, <<"get_time">>))
         end),
    ?assertMatch({{error, {invalid_request, #{path := _}}}, []},
                 ask(Config, [scripted_provider:answer(<<"Hello">>)],
                     op(ollama, #{tools => tools(), tool_choice => required}))).

choice(anthropic, #{<<"tool_choice">> := Choice}) ->
    case Choice of
        #{<<"type">> := <<"auto">>} -> auto;
        #{<<"type">> := <<"none">>} -> none;
        #{<<"type">> := <<"any">>} -> required;
        #{<<"type">> := <<"tool">>, <<"name">> := Name} -> {named, Name}
    end;
choice(gemini, #{<<"toolConfig">> := #{<<"functionCallingConfig">> := C}}) ->
    case C of
        #{<<"mode">> := <<"AUTO">>} -> auto;
        #{<<"mode">> := <<"NONE">>} -> none;
        #{<<"mode">> := <<"ANY">>, <<"allowedFunctionNames">> := [Name]} ->
            {named, Name};
        #{<<"mode">> := <<"ANY">>} -> required
    end;
choice(_OpenAi, #{<<"tool_choice">> := Choice}) ->
    case Choice of
        #{<<"function">> := #{<<"name">> := Name}} -> {named, Name};
        #{<<"name">> := Name} -> {named, Name};
        Word -> binary_to_existing_atom(Word)
    end.

tool_calls_are_read(Config) ->
    Arguments = #{<<"city">> => <<"Zürich"/utf8>>,
                  <<"days">> => [1, 2.5, null],
                  <<"deep">> => #{<<"a">> => true}},
    Call = #{id => <<"call_7">>, name => <<"get_weather">>,
             arguments => Arguments},
    each(fun(D) ->
                 [begin
                      {{ok, Response}, [_]} =
                          ask(Config, [scripted_provider:answer(
                                         Text, #{tool_calls => [Call],
                                                 whole => Whole})],
                              op(D, #{tools => tools()})),
                      #{tool_calls := [#{id := Id, name := <<"get_weather">>,
                                         arguments := Got}],
                        finish_reason := tool_calls, text := Text} = Response,
                      ?assertEqual(nil_for_null(Arguments), Got),
                      is_id(D, <<"call_7">>, Id)
                  end || Text <- [<<>>, <<"Let me look">>],
                         Whole <- [false, true]]
         end).

%% What JSON's null is for a caller.
nil_for_null(null) -> nil;
nil_for_null(List) when is_list(List) -> [nil_for_null(V) || V <- List];
nil_for_null(Map) when is_map(Map) ->
    maps:map(fun(_, V) -> nil_for_null(V) end, Map);
nil_for_null(Value) -> Value.

%% Gemini and Ollama have none: one is made up.
is_id(Dialect, _Sent, Id) when Dialect =:= gemini; Dialect =:= ollama ->
    ?assertMatch(<<_, _/binary>>, Id);
is_id(_, Sent, Id) ->
    ?assertEqual(Sent, Id).

several_tool_calls_keep_their_order(Config) ->
    Calls = [#{id => <<"call_", N>>, name => <<"get_weather">>,
               arguments => #{<<"city">> => <<N>>}} || N <- "abc"],
    each(fun(D) ->
                 {{ok, #{tool_calls := Got}}, _} =
                     ask(Config, [scripted_provider:answer(
                                    <<>>, #{tool_calls => Calls})],
                         op(D, #{tools => tools()})),
                 ?assertEqual([<<"a">>, <<"b">>, <<"c">>],
                              [City || #{arguments := #{<<"city">> := City}}
                                           <- Got]),
                 ?assertEqual(3, length(lists:usort(
                                          [Id || #{id := Id} <- Got])))
         end).

answers_of_tools_are_sent_back(Config) ->
    Messages = [#{role => user, content => <<"How is the weather?">>},
                #{role => assistant,
                  tool_calls => [#{id => <<"call_7">>,
                                   name => <<"get_weather">>,
                                   arguments => #{city => <<"Bern">>}}]},
                #{role => tool, tool_call_id => <<"call_7">>,
                  content => <<"It rains">>}],
    each(fun(D) ->
                 Json = body(Config, {call, simple, Messages,
                                      #{model => model(D), tools => tools()}}),
                 ?assertMatch({{<<"get_weather">>,
                                #{<<"city">> := <<"Bern">>}}, <<"It rains">>},
                              exchange(D, Json))
         end).

%% {{Name, Arguments} of the call, the answer} in a request's body, whose ids
%% fit each other.
exchange(openai_responses, #{<<"input">> := Items}) ->
    [{Id, Name, Arguments}] = [{I, N, A} || #{<<"type">> := <<"function_call">>,
                                              <<"call_id">> := I,
                                              <<"name">> := N,
                                              <<"arguments">> := A} <- Items],
    [{Id, Answer}] = [{I, O} || #{<<"type">> := <<"function_call_output">>,
                                  <<"call_id">> := I, <<"output">> := O}
                                    <- Items],
    {{Name, test_json:decode(Arguments)}, Answer};
exchange(anthropic, #{<<"messages">> := Turns}) ->
    [#{<<"role">> := <<"assistant">>, <<"content">> := [Use]},
     #{<<"role">> := <<"user">>, <<"content">> := [Result]}] = tl(Turns),
    #{<<"type">> := <<"tool_use">>, <<"id">> := Id, <<"name">> := Name,
      <<"input">> := Arguments} = Use,
    #{<<"type">> := <<"tool_result">>, <<"tool_use_id">> := Id,
      <<"content">> := Content} = Result,
    {{Name, Arguments}, text(Content)};
exchange(gemini, #{<<"contents">> := Turns}) ->
    [#{<<"role">> := <<"model">>, <<"parts">> := [Call]},
     #{<<"role">> := <<"user">>, <<"parts">> := [Answer]}] = tl(Turns),
    #{<<"functionCall">> := #{<<"name">> := Name, <<"args">> := Arguments}}
        = Call,
    #{<<"functionResponse">> := #{<<"name">> := Name,
                                  <<"response">> := Response}} = Answer,
    [Text] = maps:values(Response),
    {{Name, Arguments}, Text};
exchange(ollama, #{<<"messages">> := Turns}) ->
    [#{<<"role">> := <<"assistant">>,
       <<"tool_calls">> := [#{<<"function">> := Function}]},
     #{<<"role">> := <<"tool">>, <<"content">> := Answer} = Tool] = tl(Turns),
    #{<<"name">> := Name, <<"arguments">> := Arguments} = Function,
    Name = maps:get(<<"tool_name">>, Tool),
    {{Name, Arguments}, Answer};
exchange(_OpenAi, #{<<"messages">> := Turns}) ->
    [#{<<"role">> := <<"assistant">>,
       <<"tool_calls">> := [#{<<"id">> := Id, <<"type">> := <<"function">>,
                              <<"function">> := Function}]},
     #{<<"role">> := <<"tool">>, <<"tool_call_id">> := Id,
       <<"content">> := Answer}] = tl(Turns),
    #{<<"name">> := Name, <<"arguments">> := Arguments} = Function,
    {{Name, test_json:decode(Arguments)}, Answer}.

%% -------------------------------------------------------------- embeddings

texts_are_embedded(Config) ->
    Texts = [<<"One">>, <<"Zwei 😀"/utf8>>],
    Vectors = [[0.5, -1.0, 0.25], [1, 2.0e-3, 3]],
    Embed = fun(Model) ->
                    ask(Config, [[{embeddings, Vectors, #{}}]],
                        {embed, Texts, #{model => Model}})
            end,
    each([openai, azure, gemini, ollama],
         fun(D) ->
                 {{ok, Value}, [#{path := Path} = Request]} =
                     Embed(embedding_model(D)),
                 #{embeddings := Got, model := _, usage := #{}} = Value,
                 ?assert(lists:all(fun is_float/1, lists:append(Got))),
                 ?assertEqual([[float(N) || N <- V] || V <- Vectors], Got),
                 #{inputs := Asked} = dialects:asked(Request),
                 ?assertEqual(Texts, Asked),
                 ?assertMatch({match, _}, re:run(Path, embedding_path(D)))
         end),
    ?assertMatch({{error, {invalid_request, _}}, []}, Embed(model(anthropic))).

embedding_model(openai) -> <<"openai/text-embedding-3-small">>;
embedding_model(azure) -> <<"azure/text-embedding-3-small">>;
embedding_model(gemini) -> <<"gemini/gemini-embedding-001">>;
embedding_model(ollama) -> <<"ollama/nomic-embed-text">>.

embedding_path(openai) -> "^/v1/embeddings$";
embedding_path(azure) ->
    "^/openai/deployments/text-embedding-3-small/embeddings\\?api-version=";
embedding_path(gemini) -> "^/v1beta/models/gemini-embedding-001"
                              ":batchEmbedContents$";
embedding_path(ollama) -> "^/api/embed$".

%% ------------------------------------------------------ compatible servers

compatible_servers_have_names_of_their_own(Config) ->
    each([list_to_binary(string:lowercase(Name)) || {Name, _} <- compatible()],
         fun(Name) ->
                 Model = <<"some/model-", Name/binary>>,
                 {{ok, Response}, [#{path := Path, headers := Headers,
                                     json := Json}]} =
                     ask(Config, [scripted_provider:answer(<<"Hello">>)],
                         {call_with_prompt, simple, <<"Hi">>,
                          #{model => <<Name/binary, "/", Model/binary>>,
                            max_tokens => 50}}),
                 ?assertMatch(#{text := <<"Hello">>, provider := Name,
                                model := Model}, Response),
                 ?assertEqual(<<"/v1/chat/completions">>, Path),
                 Bearer = iolist_to_binary(["Bearer sk-test-",
                                            string:uppercase(Name)]),
                 ?assertMatch(#{<<"authorization">> := Bearer}, Headers),
                 ?assertMatch(#{<<"model">> := Model, <<"max_tokens">> := 50},
                              Json)
         end).

%% Documents as these servers send them. The last of each may bench its key.
errors_of_compatible_servers_are_understood(Config) ->
    each(compatible_errors(),
         fun({Server, Status, Document, Code}) ->
                 Json = test_json:encode(Document),
                 {{error, {Got, #{http_status := Status}}}, [_]} =
                     ask(Config, [[{status, Status},
                                   {header, <<"content-type">>,
                                    <<"application/json">>}, {body, Json}]],
                         {call_with_prompt, simple, <<"Hi">>,
                          #{model => <<Server/binary, "/m">>}}),
                 ?assertEqual(Code, Got)
         end).

compatible_errors() ->
    [{<<"vllm">>, 404,
      #{object => error, message => <<"The model `m` does not exist.">>,
        type => 'NotFoundError', param => null, code => 404}, no_route},
     {<<"llamacpp">>, 400,
      #{error => #{code => 400, type => exceed_context_size_error,
                   message => <<"the request exceeds the context size">>,
                   n_prompt_tokens => 9000, n_ctx => 4096}}, too_large},
     {<<"openrouter">>, 402,
      #{error => #{code => 402, message => <<"Insufficient credits">>}},
      quota_exceeded},
     {<<"deepseek">>, 402,
      #{error => #{message => <<"Insufficient Balance">>, param => null,
                   type => unknown_error, code => invalid_request_error}},
      quota_exceeded},
     {<<"mistral">>, 422,
      #{detail => [#{type => missing, loc => [body, messages],
                     msg => <<"Field required">>}]}, invalid_request},
     {<<"mistral">>, 401, #{message => <<"Unauthorized">>,
                            request_id => <<"1">>}, unauthorized},
     {<<"groq">>, 413,
      #{error => #{message => <<"Request too large">>, type => tokens,
                   code => rate_limit_exceeded}}, too_large},
     {<<"xai">>, 400,
      #{code => <<"Client specified an invalid argument">>,
        error => <<"Incorrect API key provided: sk***">>}, unauthorized}].

%% ------------------------------------------------------------------ errors

an_error_names_provider_model_and_status(Config) ->
    each(fun(D) ->
                 {Provider, Id} = id(D),
                 {{error, {invalid_request, Details}}, [_]} =
                     ask(Config, [[{error, bad_request,
                                    #{message => <<"That is wrong">>}}]],
                         op(D)),
                 ?assertMatch(#{provider := Provider, model := Id,
                                http_status := 400, attempts := 1}, Details),
                 #{message := Message} = Details,
                 ?assertNotEqual(nomatch,
                                 binary:match(Message, <<"That is wrong">>))
         end).

%% Once for each key, since a refused one is left alone for a while.
an_error_never_shows_the_key(Config) ->
    each([openai, azure, anthropic, gemini],
         fun(D) ->
                 Quoting = iolist_to_binary(["Bad key ", key(D), " of yours"]),
                 {{error, {unauthorized, Details}}, [_]} =
                     ask(Config, [[{error, auth, #{message => Quoting}}]],
                         op(D)),
                 ?assertEqual(nomatch,
                              binary:match(term_to_binary(Details),
                                           list_to_binary(key(D))))
         end).
