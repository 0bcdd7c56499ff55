%% What a caller gets when a provider fails: every row of the table in
%% docs/faults.md, for every dialect, with the number of requests made.
%%
%% A fault has up to three forms: the provider streams; it sends one document
%% although a stream was asked for; the caller has the answer streamed to
%% itself. Each form is a case with a provider of its own, so that none is in
%% bad health because of another, and all cases of a dialect happen at once.
-module(provider_table_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(TEXT, <<"Hello out there, all of you">>).
-define(NEXT, <<"The next one answers">>).
-define(KEY, "sk-table-key").
-define(CONTEXT, 100000).
-define(PROVIDERS, 28). %% of one router, besides those that are healthy
-define(TIMER_MS, 1200).
-define(LARGEST, 33554432).
-define(GROWTH_KIB, 32768).

suite() ->
    [{timetrap, bed:limit_ms(120000)}].

all() ->
    [the_table_has_a_row_for_every_fault,
     openai_faults_end_as_the_table_says,
     azure_faults_end_as_the_table_says,
     openai_responses_faults_end_as_the_table_says,
     anthropic_faults_end_as_the_table_says,
     gemini_faults_end_as_the_table_says,
     ollama_faults_end_as_the_table_says,
     openai_faults_go_on_as_the_table_says,
     azure_faults_go_on_as_the_table_says,
     openai_responses_faults_go_on_as_the_table_says,
     anthropic_faults_go_on_as_the_table_says,
     gemini_faults_go_on_as_the_table_says,
     ollama_faults_go_on_as_the_table_says,
     answers_without_end_are_as_the_table_says,
     a_silent_name_server_is_as_the_table_says,
     an_http2_goodbye_is_as_the_table_says].

init_per_suite(Config) ->
    Config1 = bed:up(Config, #{router => none}),
    Local = {iPAddress, <<127, 0, 0, 1>>},
    Past = {{2020, 1, 1}, {2021, 1, 1}},
    {Trusted, Ca1} = certificate(Config1, Local, https:valid()),
    {Unknown, _} = certificate(Config1, Local, https:valid()),
    {Elsewhere, Ca2} = certificate(Config1, {dNSName, "example.org"},
                                   https:valid()),
    {Expired, Ca3} = certificate(Config1, Local, Past),
    CaFile = filename:join(proplists:get_value(priv_dir, Config), "ca.pem"),
    ok = file:write_file(CaFile, [begin {ok, Pem} = file:read_file(F), Pem end
                                  || F <- [Ca1, Ca2, Ca3]]),
    Start = fun(_, Tls) -> scripted_provider:start(#{tls => Tls}) end,
    Servers = maps:map(Start, #{unknown_authority => Unknown,
                                another_host => Elsewhere,
                                expired => Expired}),
    persistent_term:put(?MODULE, bomb()),
    [{ca_file, CaFile}, {trusted, Trusted}, {tls_servers, Servers} | Config1].

end_per_suite(Config) ->
    [scripted_provider:stop(S)
     || S <- maps:values(proplists:get_value(tls_servers, Config))],
    bed:down(Config).

certificate(Config, Name, Validity) ->
    https:certificate(proplists:get_value(priv_dir, Config), Name, Validity).

%% White space, which is nothing in a stream and in a document, half as much
%% again as an answer may have.
bomb() ->
    zlib:gzip(binary:copy(<<"\n">>, ?LARGEST div 2 * 3)).

%% --------------------------------------------------------------- the table

%% #{Fault => #{answer, calls, next}} in docs/faults.md.
table() ->
    {ok, Text} = file:read_file(filename:join([router:project(), "docs",
                                               "faults.md"])),
    Rows = [[string:trim(Cell) || Cell <- binary:split(Line, <<"|">>, [global])]
            || <<"| ", Line/binary>> <- binary:split(Text, <<"\n">>, [global])],
    maps:from_list([{Fault, #{answer => binary_to_atom(string:trim(Answer, both,
                                                                   "`")),
                              calls => binary_to_integer(Calls),
                              next => next(Next)}}
                    || [Fault, <<"`", _/binary>> = Answer, Calls, Next, _]
                           <- Rows]).

next(<<>>) -> none;
next(Word) -> binary_to_existing_atom(Word).

the_table_has_a_row_for_every_fault(_Config) ->
    ?assertEqual(lists:sort(maps:keys(table())),
                 lists:sort([Name || {Name, _} <- faults()])).

%% -------------------------------------------------------------- the faults

%% What happens: `stream` and `whole` give the actions of a provider of a
%% dialect, `whole` only where it is another fault than in a stream. `dialects`
%% are those that have it (default: all). `server` says that there is another
%% one than a scripted provider. `gap_ms`: how long the provider must be left
%% alone. `text`: what a good answer says. `apart`: it is in a test of its
%% own.
faults() ->
    connection_faults() ++ time_faults() ++ size_faults() ++ form_faults()
        ++ told_with_200() ++ told() ++ declined().

connection_faults() ->
    [{<<"connection refused">>, elsewhere(refused)},
     {<<"unknown host name">>, elsewhere(unknown_host)},
     {<<"name server that does not answer">>,
      (elsewhere(silent_name))#{apart => silence}},
     {<<"TLS certificate of an unknown authority">>,
      elsewhere(unknown_authority)},
     {<<"TLS certificate for another host">>, elsewhere(another_host)},
     {<<"TLS certificate that expired">>, elsewhere(expired)},
     {<<"connection closed before the headers">>, streamed([close])},
     {<<"connection reset before the headers">>, streamed([reset])},
     {<<"connection closed after some text">>, cut([close])},
     {<<"connection reset after some text">>, cut([{sleep, 50}, reset])},
     {<<"HTTP/2 GOAWAY between two questions">>, #{apart => goodbye}}].

time_faults() ->
    [{<<"silence before the headers">>, streamed([hang])},
     {<<"headers that trickle">>,
      streamed([{raw, <<"HTTP/1.1 200 OK\r\n">>},
                {repeat, infinity, [{sleep, 100},
                                    {raw, <<"x-slow: loris\r\n">>}]}])},
     {<<"silence after the headers">>,
      #{stream => fun(D) -> head(D) ++ [{chunk, <<"\n">>}, hang] end,
        whole => fun(_) -> json_head() ++ [{chunk, <<"\n">>}, hang] end}},
     {<<"nothing but comments and pings">>,
      #{stream => fun(D) -> head(D) ++ [{repeat, infinity, ping(D)}] end}},
     {<<"silence after some text">>, cut([hang])},
     {<<"one byte at a time">>,
      #{stream => fun(D) ->
                          head(D) ++ [{bytewise, events(D, ?TEXT, #{})}]
                  end,
        whole => fun(D) ->
                         json_head() ++ [{bytewise,
                                          [{chunk, document(D, ?TEXT)}]}]
                 end}}].

size_faults() ->
    Much = {repeat, infinity, [{chunk, binary:copy(<<" ">>, 1048576)}]},
    [{Fault, Spec#{apart => size}}
     || {Fault, Spec} <-
            [{<<"endless headers">>,
              streamed([{raw, <<"HTTP/1.1 200 OK\r\n">>},
                        {repeat, infinity, [{raw, [<<"x-filler: ">>,
                                                   binary:copy(<<"y">>, 1000),
                                                   <<"\r\n">>]}]}])},
             {<<"no end after some text">>,
              #{stream => fun endless/1}},
             {<<"endless document">>,
              #{whole => fun(_) ->
                                 json_head() ++ [{chunk, <<"{">>}, Much]
                         end}},
             {<<"compressed answer that unpacks to too much">>,
              #{stream => fun(D) -> head(D) ++ bomb_actions() end,
                whole => fun(_) -> json_head() ++ bomb_actions() end}}]].

form_faults() ->
    Html = [{header, <<"content-type">>, <<"text/html">>},
            {body, <<"<html><body>Welcome to the proxy</body></html>">>}],
    Plain = [{header, <<"content-type">>, <<"text/plain">>},
             {body, <<"upstream is busy">>}],
    Deep = [binary:copy(<<"[">>, 100000), binary:copy(<<"]">>, 100000)],
    [{<<"empty answer">>,
      #{stream => fun(D) -> head(D) ++ [{body, <<>>}] end,
        whole => fun(_) -> json_head() ++ [{body, <<>>}] end}},
     {<<"status 204">>, streamed([{status, 204}])},
     {<<"no terminal event after some text">>,
      #{stream => fun(D) -> head(D) ++ begun(D) end}},
     {<<"JSON that is cut short">>,
      #{stream => fun(D) -> head(D) ++ [{chunk, half_an_event(D)}] end,
        whole => fun(D) -> json_head() ++ [{body, half(D)}] end}},
     {<<"JSON of another shape">>,
      #{stream => fun(D) -> head(D) ++ [event(D, [42])] end,
        whole => fun(_) -> json_head() ++ [{body, <<"{\"a\":[]}">>}] end}},
     {<<"JSON that is too deep">>,
      #{whole => fun(_) -> json_head() ++ [{body, Deep}] end}},
     {<<"JSON with a key twice: the last counts">>,
      #{whole => fun(D) -> json_head() ++ [{body, twice(D)}] end}},
     {<<"line that is no JSON">>,
      #{stream => fun(D) -> head(D) ++ [{chunk, nonsense(D)}] end}},
     {<<"HTML with status 200">>, streamed(Html)},
     {<<"plain text with status 200">>, streamed(Plain)},
     {<<"unknown events and members">>,
      #{stream => fun(D) ->
                          head(D) ++ [unknown(D) | events(D, ?TEXT, #{})]
                              ++ [unknown(D)]
                  end}},
     {<<"invalid UTF-8 in the text">>,
      #{stream => fun(D) ->
                          head(D) ++ [{chunk, spoilt(scripted_provider:bytes(
                                                       events(D, <<"a@@b">>,
                                                              #{})))}]
                  end,
        whole => fun(D) ->
                         json_head() ++ [{body, spoilt(document(D,
                                                                <<"a@@b">>))}]
                 end,
        text => <<"a\x{FFFD}b"/utf8>>}},
     {<<"usage of wrong types">>,
      #{stream => fun(_) -> answer(#{usage => odd_usage()}) end,
        whole => fun(_) -> answer(#{usage => odd_usage(), whole => true}) end}},
     {<<"redirect">>,
      streamed([{status, 307}, {header, <<"location">>, <<"/elsewhere">>}])}].

told_with_200() ->
    [{<<"error event before any text">>, told_with_200(server)},
     {<<"error event after some text">>,
      #{stream => fun(D) ->
                          head(D) ++ begun(D) ++ dialect_errors:event(D, server)
                  end}},
     {<<"error event: overloaded">>, told_with_200(overloaded)},
     {<<"error event: rate limit">>,
      (told_with_200(rate))#{dialects => dialects:all() -- [ollama]}},
     {<<"answer whose status is failed">>,
      #{dialects => [openai_responses],
        stream => fun(D) ->
                          head(D) ++ start(D)
                              ++ [{event, <<"response.failed">>,
                                   #{type => <<"response.failed">>,
                                     response => failed()}}]
                  end,
        whole => fun(_) -> json_head() ++ [{body, test_json:encode(failed())}]
                 end}}].

told() ->
    Long = after_s(<<"600">>),
    [{<<"400 bad request">>, told(bad_request, 400)},
     {<<"400 prompt filtered">>, told(filter, 400)},
     {<<"400 context length">>, told(context, 400)},
     {<<"400 invalid key">>, told(bad_key, 400)},
     {<<"401">>, told(auth, 401)},
     {<<"402">>, told(credit, bad_request, 402)},
     {<<"403">>, told(permission, 403)},
     {<<"404">>, told(not_found, 404)},
     {<<"408">>, told(timeout, 408)},
     {<<"409">>, told(conflict, 409)},
     {<<"413">>, told(too_large, 413)},
     {<<"422">>, told(bad_request, 422)},
     {<<"429 rate limit">>, told(rate, 429)},
     {<<"429 rate limit, retry-after in seconds">>,
      (told(rate, 429, after_s(<<"1">>)))#{gap_ms => 1000}},
     {<<"429 rate limit, retry-after as a date">>,
      #{stream => fun(_) -> fun rate_until_a_date/1 end, gap_ms => 900}},
     {<<"429 rate limit, retry-after-ms">>,
      (told(rate, 429, #{headers => [{<<"retry-after-ms">>, <<"1200">>}]}))
      #{gap_ms => 1200}},
     {<<"429 rate limit, retryDelay in the body">>,
      (told(rate, 429, #{retry_delay => <<"1.2s">>}))
      #{dialects => [gemini], gap_ms => 1200}},
     {<<"429 rate limit, retry-after over `retry.max_retry_after_ms`">>,
      told(rate, 429, Long)},
     {<<"429 rate limit, x-should-retry: false">>,
      told(rate, 429, #{headers => [{<<"x-should-retry">>, <<"false">>}]})},
     {<<"429 slow down">>, told(slow_down, 429)},
     {<<"429 quota used up">>, told(quota, 429)},
     {<<"429 no credit">>,
      (told(credit, 429))#{dialects => [openai, azure, openai_responses]}},
     {<<"429 spend limit">>, told(spend, 429)},
     {<<"500">>, told(server, 500)},
     {<<"502">>, told(server, 502)},
     {<<"503">>, told(server, 503)},
     {<<"503 overloaded, retry-after in seconds">>,
      (told(overloaded, 503, after_s(<<"1">>)))#{gap_ms => 1000}},
     {<<"504">>, told(server, 504)},
     {<<"529 overloaded">>, (told(overloaded, 529))#{gap_ms => 1500}}].

declined() ->
    [{<<"refusal">>,
      (answered(#{finish_reason => refusal}))
      #{dialects => [openai, azure, openai_responses, anthropic]}},
     {<<"answer filtered">>,
      (answered(#{finish_reason => content_filter}))
      #{dialects => [openai, azure, openai_responses, gemini]}},
     {<<"prompt blocked">>,
      (answered(#{prompt_blocked => 'SAFETY'}))#{dialects => [gemini]}}].

elsewhere(Server) ->
    (streamed(answer(#{})))#{server => Server}.

%% The same whether a stream or a document was meant.
streamed(Actions) ->
    #{stream => fun(_) -> Actions end}.

answer(Opts) ->
    scripted_provider:answer(?TEXT, Opts).

answered(Opts) ->
    #{stream => fun(_) -> answer(Opts) end,
      whole => fun(_) -> answer(Opts#{whole => true}) end}.

told(Kind, Status) ->
    told(Kind, Status, #{}).

told(Kind, Status, Opts) when is_map(Opts) ->
    (streamed([{error, Kind, Opts#{status => Status}}]))
        #{dialects => [D || D <- dialects:all(),
                            dialect_errors:status(D, Kind) =/= none]};
%% Of a proxy, in other words where the dialect has none for it.
told(Kind, Else, Status) ->
    #{stream =>
          fun(D) ->
                  Known = dialect_errors:status(D, Kind) =/= none,
                  [{error, if Known -> Kind; true -> Else end,
                    #{status => Status}}]
          end}.

after_s(Text) ->
    #{headers => [{<<"retry-after">>, Text}]}.

rate_until_a_date(_Request) ->
    Then = calendar:system_time_to_universal_time(
             erlang:system_time(second) + 2, second),
    [{error, rate, #{headers => [{<<"retry-after">>, http_date(Then)}]}}].

http_date({{Year, Month, Day} = Date, {Hour, Minute, Second}}) ->
    Days = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"},
    Months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep",
              "Oct", "Nov", "Dec"},
    io_lib:format("~s, ~2..0b ~s ~b ~2..0b:~2..0b:~2..0b GMT",
                  [element(calendar:day_of_the_week(Date), Days), Day,
                   element(Month, Months), Year, Hour, Minute, Second]).

told_with_200(Kind) ->
    #{stream => fun(D) ->
                        head(D) ++ start(D) ++ dialect_errors:event(D, Kind)
                end,
      whole => fun(D) ->
                       Error = dialect_errors:document(D, Kind, #{}),
                       json_head() ++ [{body, test_json:encode(Error)}]
               end}.

%% After some text.
cut(End) ->
    #{stream => fun(D) -> head(D) ++ begun(D) ++ End end,
      whole => fun(D) -> json_head() ++ [{chunk, half(D)} | End] end}.

pieces(Dialect, Text, Opts) ->
    dialects:pieces(Dialect, Text, Opts).

head(Dialect) ->
    maps:get(head, pieces(Dialect, ?TEXT, #{})).

start(Dialect) ->
    maps:get(start, pieces(Dialect, ?TEXT, #{})).

begun(Dialect) ->
    #{start := Start, text := Deltas} = pieces(Dialect, ?TEXT, #{}),
    Start ++ lists:append(Deltas).

events(Dialect, Text, Opts) ->
    #{start := Start, text := Deltas, finish := Finish}
        = pieces(Dialect, Text, Opts),
    Start ++ lists:append(Deltas) ++ Finish.

endless(Dialect) ->
    #{start := Start, text := [Delta]} =
        pieces(Dialect, binary:copy(<<"x">>, 65536), #{chunk_size => 65536}),
    head(Dialect) ++ Start
        ++ [{repeat, infinity, [{chunk, scripted_provider:bytes(Delta)}]}].

json_head() ->
    [{header, <<"content-type">>, <<"application/json">>}].

document(Dialect, Text) ->
    [_, {body, Document}] = dialects:answer(request(Dialect), Text,
                                            #{whole => true}),
    Document.

%% A request as the dialect's clients make it.
request(Dialect) ->
    Path = case Dialect of
               openai -> <<"/v1/chat/completions">>;
               azure -> <<"/openai/deployments/m/chat/completions">>;
               openai_responses -> <<"/v1/responses">>;
               anthropic -> <<"/v1/messages">>;
               gemini -> <<"/v1beta/models/m:streamGenerateContent">>;
               ollama -> <<"/api/chat">>
           end,
    #{path => Path, json => #{<<"stream">> => true}, body => <<>>}.

half(Dialect) ->
    Document = document(Dialect, ?TEXT),
    binary:part(Document, 0, byte_size(Document) div 2).

half_an_event(Dialect) ->
    #{text := [[Delta] | _]} = pieces(Dialect, ?TEXT, #{}),
    Bytes = string:trim(scripted_provider:bytes([Delta])),
    [binary:part(Bytes, 0, byte_size(Bytes) - 3), <<"\n\n">>].

%% Every member of the document, first with a value that is nonsense.
twice(Dialect) ->
    <<"{", Rest/binary>> = Document = document(Dialect, ?TEXT),
    Names = maps:keys(test_json:decode(Document)),
    [<<"{">>, [[$", Name, "\":42,"] || Name <- Names], Rest].

ping(ollama) -> [{chunk, <<"\n">>}, {sleep, 50}];
ping(anthropic) -> [{event, <<"ping">>, #{type => ping}}, {sleep, 50}];
ping(_) -> [{chunk, <<": keep-alive\n\n">>}, {sleep, 50}].

event(ollama, Json) -> {line, Json};
event(_, Json) -> {sse, Json}.

nonsense(ollama) -> <<"hello\n">>;
nonsense(_) -> <<"data: hello\n\n">>.

unknown(ollama) -> {line, #{something => [new]}};
unknown(_) -> {event, <<"something.new">>, #{type => <<"something.new">>,
                                             something => [new]}}.

spoilt(Bytes) ->
    binary:replace(Bytes, <<"@@">>, <<16#FF>>, [global]).

odd_usage() ->
    maps:from_list([{Name, Odd}
                    || {Name, Odd} <- [{prompt_tokens, -5},
                                       {completion_tokens, <<"7">>},
                                       {input_tokens, 1.5},
                                       {output_tokens, null},
                                       {promptTokenCount, []},
                                       {candidatesTokenCount, #{}},
                                       {prompt_eval_count, true},
                                       {eval_count, -1}]]).

bomb_actions() ->
    [{header, <<"content-encoding">>, <<"gzip">>},
     {body, persistent_term:get(?MODULE)}].

failed() ->
    #{id => <<"resp_scripted">>, object => response, status => failed,
      output => [], error => #{code => server_error,
                               message => <<"The server had an error.">>}}.

%% ------------------------------------------------------------- the dialects

openai_faults_end_as_the_table_says(Config) -> end_well(Config, openai).
azure_faults_end_as_the_table_says(Config) -> end_well(Config, azure).
openai_responses_faults_end_as_the_table_says(Config) ->
    end_well(Config, openai_responses).
anthropic_faults_end_as_the_table_says(Config) -> end_well(Config, anthropic).
gemini_faults_end_as_the_table_says(Config) -> end_well(Config, gemini).
ollama_faults_end_as_the_table_says(Config) -> end_well(Config, ollama).

openai_faults_go_on_as_the_table_says(Config) -> go_on(Config, openai).
azure_faults_go_on_as_the_table_says(Config) -> go_on(Config, azure).
openai_responses_faults_go_on_as_the_table_says(Config) ->
    go_on(Config, openai_responses).
anthropic_faults_go_on_as_the_table_says(Config) -> go_on(Config, anthropic).
gemini_faults_go_on_as_the_table_says(Config) -> go_on(Config, gemini).
ollama_faults_go_on_as_the_table_says(Config) -> go_on(Config, ollama).

%% With no other candidate.
end_well(Config, Dialect) ->
    judge(asked(Config, cases(Dialect, none, [none]))).

%% With a healthy candidate behind it.
go_on(Config, Dialect) ->
    judge(asked(Config, cases(Dialect, none, [larger, smaller]))).

judge(Asked) ->
    report([{C, case Next of
                    none -> wrong_end(C);
                    _ -> wrong_next(C)
                end} || #{next := Next} = C <- Asked]).

wrong_end(#{row := #{answer := Answer, calls := Calls}, outcome := Outcome,
            requests := Requests} = Case) ->
    wrong(answer, expected(Answer, Case), Outcome)
        ++ wrong(calls, case is_final(Case) of true -> 1; false -> Calls end,
                 length(Requests))
        ++ wrong_gaps(Case).

expected(ok, #{spec := Spec}) -> {ok, maps:get(text, Spec, ?TEXT)};
expected(Code, _Case) -> {error, Code}.

%% The receiver has some of the text: nothing can be tried again.
is_final(#{form := to_caller, fault := Fault}) ->
    binary:match(Fault, <<"after some text">>) =/= nomatch;
is_final(_) ->
    false.

wrong_gaps(#{spec := #{gap_ms := Ms}, requests := Requests}) ->
    %% One less: the provider counts whole milliseconds.
    [{gap_ms, Gap} || Gap <- gaps([At || #{at := At} <- Requests]),
                      Gap < Ms - 1];
wrong_gaps(_) ->
    [].

gaps([A, B | Later]) -> [B - A | gaps([B | Later])];
gaps(_) -> [].

wrong_next(#{row := #{answer := Answer, calls := Calls},
             outcome := Outcome, asked_next := Asked,
             requests := Requests} = Case) ->
    case goes_on(Case) of
        true ->
            wrong(answer, {ok, ?NEXT}, Outcome)
                ++ wrong(asked_next, 1, Asked)
                ++ [{calls, length(Requests)}
                    || length(Requests) > Calls orelse
                           length(Requests) < min(1, Calls)];
        false ->
            wrong(answer, expected(Answer, Case), Outcome)
                ++ wrong(asked_next, 0, Asked)
    end.

goes_on(#{row := #{next := Next}, next := Behind} = Case) ->
    not is_final(Case) andalso (Next =:= yes orelse Next =:= Behind).

wrong(_What, Same, Same) -> [];
wrong(What, Wanted, Got) -> [{What, {wanted, Wanted}, {got, Got}}].

report(Judged) ->
    ct:log("~b cases", [length(Judged)]),
    Wrong = [{Fault, Form, Faults, maps:with([details, next, dialect], Case)}
             || {#{fault := Fault, form := Form} = Case, Faults} <- Judged,
                Faults =/= []],
    [ct:log("~ts, ~p:~n~0tp~n~0tp", tuple_to_list(W)) || W <- Wrong],
    ?assertEqual([], [{Fault, Form, Faults}
                      || {Fault, Form, Faults, _} <- Wrong]).

%% Those of the faults that are apart for one reason, or for none: one case for
%% each form that the dialect has, before each of the candidates. One with a
%% smaller context is only where the row says `larger`, none where it says that
%% there is nothing to go on from.
cases(Dialect, Apart, Behind) ->
    Rows = table(),
    [#{fault => Fault, dialect => Dialect, form => Form, spec => Spec,
       row => Row, next => Candidate}
     || {Fault, Spec} <- faults(),
        maps:get(apart, Spec, none) =:= Apart,
        lists:member(Dialect, maps:get(dialects, Spec, dialects:all())),
        #{next := Next} = Row <- [maps:get(Fault, Rows)],
        Form <- forms(Spec),
        Candidate <- Behind,
        Candidate =:= none orelse Next =/= none,
        Candidate =/= smaller orelse Next =:= larger].

forms(Spec) ->
    [Form || {Form, Key} <- [{stream, stream}, {whole, whole},
                             {to_caller, stream}],
             maps:is_key(Key, Spec)].

%% ----------------------------------------------------------------- running

%% The cases with what came of them: outcome, details, requests, asked_next.
asked(Config, Cases) ->
    Next = [{Name, scripted_provider:start(
                     #{handler => [scripted_provider:answer(?NEXT)]})}
            || Name <- [larger, smaller]],
    Groups = groups([with_provider(Config, C) || C <- numbered(Cases)]),
    Routers = [run_router(Config, Next, Group) || Group <- Groups],
    Healthy = [P || {_, P} <- Next],
    [answers_soon(Config, R) || R <- Routers],
    Before = [footprint(R, Healthy) || R <- Routers],
    Answers = answers(Config, [{router:node(Router), Case}
                               || {Router, Group} <- lists:zip(Routers, Groups),
                                  Case <- Group]),
    Prompts = [prompt_of(R) || P <- Healthy,
                               R <- scripted_provider:requests(P)],
    Done = [finish(maps:merge(Case, maps:get(Id, Answers)), Prompts)
            || #{id := Id} = Case <- lists:append(Groups)],
    [answers_soon(Config, R) || R <- Routers],
    [gave_back(Router, Footprint, Healthy ++ [P || #{provider := P} <- Group])
     || {Router, Footprint, Group} <- lists:zip3(Routers, Before, Groups)],
    [{exited, 0} = router:stop(Router) || Router <- Routers],
    [ok = scripted_provider:stop(P)
     || P <- Healthy ++ [P || #{provider := P} <- Done]],
    Done.

%% A healthy provider's answer comes within a second.
answers_soon(Config, Router) ->
    Node = router:node(Router),
    Op = {call_with_prompt, simple, <<"Are you well?">>,
          #{model => <<"larger/m">>}},
    {Us, {ok, #{text := ?NEXT}}} =
        bed:on(bed:caller(Config),
               fun() ->
                       timer:tc(fun() ->
                                        gen_server:call({llm_router, Node}, Op)
                                end)
               end),
    ?assert(Us < bed:limit_ms(1000) * 1000).

%% Descriptors but for the connections that the providers see, and memory.
footprint(Router, Providers) ->
    {router:fd_count(Router) - opened(Providers), router:rss_kib(Router)}.

%% Two more are libcurl's own, once it looked for a name.
gave_back(Router, {Fds, Rss}, Providers) ->
    bed:eventually(fun() ->
                           element(1, footprint(Router, Providers)) =< Fds + 2
                   end),
    Growth = router:rss_kib(Router) - Rss,
    ct:log("~b KiB more", [Growth]),
    ?assert(Growth < ?GROWTH_KIB orelse bed:limit_ms(1) > 1).

opened(Providers) ->
    lists:sum([maps:get(open, scripted_provider:counters(P))
               || P <- Providers]).

numbered(Cases) ->
    [C#{id => list_to_binary("f" ++ integer_to_list(N))}
     || {N, C} <- lists:zip(lists:seq(1, length(Cases)), Cases)].

groups(Cases) when length(Cases) =< ?PROVIDERS ->
    [Cases];
groups(Cases) ->
    {Some, Others} = lists:split(?PROVIDERS, Cases),
    [Some | groups(Others)].

with_provider(Config, #{spec := #{server := Server}} = Case) ->
    #{dialect := Dialect} = Case,
    Case#{url => url_of(Config, Server, Dialect)};
with_provider(_Config, #{spec := Spec, form := Form} = Case) ->
    #{dialect := Dialect} = Case,
    Make = maps:get(case Form of whole -> whole; _ -> stream end, Spec),
    Handler = case Make(Dialect) of
                  Actions when is_list(Actions) -> [Actions];
                  Fun -> Fun
              end,
    Provider = scripted_provider:start(#{handler => Handler}),
    Case#{provider => Provider,
          url => scripted_provider:url(Provider, Dialect)}.

url_of(_Config, refused, Dialect) ->
    url("http", "127.0.0.1", 1, Dialect); %% no port that another may get
url_of(_Config, unknown_host, Dialect) ->
    url("http", "no-such-host.invalid", 80, Dialect);
url_of(_Config, silent_name, Dialect) ->
    url("http", "models.example", 80, Dialect);
url_of(Config, Tls, Dialect) ->
    #{Tls := Server} = proplists:get_value(tls_servers, Config),
    scripted_provider:url(Server, Dialect).

url(Scheme, Host, Port, Dialect) ->
    Path = case lists:member(Dialect, [openai, openai_responses]) of
               true -> "/v1";
               false -> ""
           end,
    iolist_to_binary([Scheme, "://", Host, $:, integer_to_list(Port), Path]).

%% A router with a provider for every case and the healthy ones, which speak
%% the dialect of the first.
run_router(Config, Next, [#{dialect := Dialect} | _] = Cases) ->
    Context = #{larger => ?CONTEXT * 10, smaller => ?CONTEXT div 10},
    Providers = [{Id, Of, Url, ?CONTEXT}
                 || #{id := Id, dialect := Of, url := Url} <- Cases]
        ++ [{atom_to_binary(Name), Dialect,
             scripted_provider:url(Provider, Dialect), maps:get(Name, Context)}
            || {Name, Provider} <- Next],
    Routes = [{Id, [Id | [atom_to_binary(Behind) || Behind =/= none]]}
              || #{id := Id, next := Behind} <- Cases],
    start_router(Config, Providers, Routes).

%% Providers: {Name, Dialect, BaseUrl, Context of its model m}; Routes:
%% {TaskType, [Name]}.
start_router(Config, Providers, Routes) ->
    Node = bed:node_name(router),
    File = filename:join(proplists:get_value(priv_dir, Config),
                         atom_to_list(Node)),
    Models = list_to_binary(File ++ ".models.json"),
    ok = file:write_file(Models, test_json:encode(models(Providers))),
    ok = file:write_file(File, test_json:encode(
                                 settings(Providers, Routes, Models))),
    bed:run_router(Config, Node,
                   #{connect => [], args => ["--config", File],
                     env => [{"TABLE_KEY", ?KEY},
                             {"LLM_ROUTER_TLS_CA_FILE",
                              proplists:get_value(ca_file, Config)}
                             | timers(Config)]}).

timers(Config) ->
    Ms = bed:limit_ms(proplists:get_value(timer_ms, Config, ?TIMER_MS)),
    [{"LLM_ROUTER_TIMEOUTS_" ++ Name ++ "_MS", integer_to_list(Limit)}
     || {Name, Limit} <- [{"CONNECT", 2 * Ms}, {"HEADERS", Ms},
                          {"FIRST_TOKEN", Ms}, {"IDLE", Ms}]].

%% OpenAI's two dialects are one provider's; a model says which one it speaks.
models(Providers) ->
    #{models => [#{provider => Name, id => m, context => Size,
                   api => case Dialect of
                              openai_responses -> responses;
                              _ -> chat
                          end}
                 || {Name, Dialect, _, Size} <- Providers]}.

settings(Providers, Routes, Models) ->
    #{providers => maps:from_list(
                     [{Name, #{dialect => configured(Dialect),
                               base_url => Url,
                               api_key_env => <<"TABLE_KEY">>}}
                      || {Name, Dialect, Url, _} <- Providers]),
      catalogue => #{file => Models},
      routes => maps:from_list(
                  [{<<"*/", Type/binary>>, [<<Name/binary, "/m">>
                                            || Name <- Names]}
                   || {Type, Names} <- Routes])}.

configured(openai_responses) -> openai;
configured(Dialect) -> Dialect.

%% Asks everything at once, from one node: #{Id => #{outcome, details}}.
answers(Config, Asked) ->
    Questions = [{Node, Id, Form}
                 || {Node, #{id := Id, form := Form}} <- Asked],
    bed:on(bed:caller(Config),
           fun() ->
                   Self = self(),
                   [spawn_link(fun() -> Self ! {Q, ask(Q)} end)
                    || Q <- Questions],
                   maps:from_list([receive {{_, Id, _} = Q, A} -> {Id, A} end
                                   || {_, Id, _} = Q <- Questions])
           end).

ask({Node, Id, to_caller}) ->
    Server = {llm_router, Node},
    Messages = [#{role => user, content => prompt(Id)}],
    Op = {stream, simple, Messages, #{task_type => Id}},
    case gen_server:call(Server, Op, 50000) of
        {ok, Ref} -> streamed_to_me(Ref, []);
        Answer -> outcome(Answer)
    end;
ask({Node, Id, _Form}) ->
    outcome(gen_server:call({llm_router, Node},
                            {call_with_prompt, simple, prompt(Id),
                             #{task_type => Id}}, 50000)).

streamed_to_me(Ref, Deltas) ->
    receive
        {llm_stream, Ref, {delta, Delta}} ->
            streamed_to_me(Ref, [Deltas, Delta]);
        {llm_stream, Ref, {error, Error}} ->
            outcome({error, Error});
        {llm_stream, Ref, {done, #{text := Text} = Response}} ->
            case iolist_to_binary(Deltas) of
                Text -> outcome({ok, Response});
                Other -> #{outcome => {deltas, Other, Text}, details => none}
            end
    after 50000 ->
            #{outcome => no_end, details => none}
    end.

outcome({ok, #{text := Text} = Response}) ->
    #{outcome => {ok, Text}, details => Response};
outcome({error, {Code, #{message := Message} = Details}})
  when is_binary(Message) ->
    #{outcome => {error, Code}, details => Details};
outcome(Other) ->
    #{outcome => Other, details => none}.

prompt(Id) ->
    <<"This is ", Id/binary, ".">>.

prompt_of(Request) ->
    #{texts := Texts} = dialects:asked(Request),
    lists:last(Texts).

%% What the providers saw; and no error tells the key.
finish(#{id := Id, details := Details} = Case, Prompts) ->
    ?assertEqual(nomatch, binary:match(term_to_binary(Details), <<?KEY>>)),
    Case#{requests => requests(Case),
          asked_next => length([P || P <- Prompts, P =:= prompt(Id)])}.

requests(#{provider := Provider}) ->
    scripted_provider:requests(Provider);
requests(_) ->
    [].

%% ------------------------------------------------------ tests of their own

%% One dialect after the other, with more patience: this is work.
answers_without_end_are_as_the_table_says(Config) ->
    [judge(asked([{timer_ms, 10 * ?TIMER_MS} | Config],
                 cases(D, size, [none, larger]))) || D <- dialects:all()].

%% Every dialect at once, while the name server is one that says nothing.
a_silent_name_server_is_as_the_table_says(Config) ->
    with_silent_name_server(
      Config,
      fun() ->
              judge(asked(Config, [C || D <- dialects:all(),
                                        C <- cases(D, silence,
                                                   [none, larger])]))
      end).

%% Only in the namespaces that run-ct makes: the machine's own file stays.
with_silent_name_server(Config, Fun) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "resolv.conf"),
    %% A little more than the router's own patience.
    Options = io_lib:format("nameserver 127.0.0.1\noptions timeout:~b "
                            "attempts:1\n",
                            [bed:limit_ms(2 * ?TIMER_MS) div 1000 + 1]),
    ok = file:write_file(File, Options),
    Mount = "mount --bind '" ++ File ++ "' /etc/resolv.conf && echo done",
    case os:getenv("LLM_ROUTER_CT") =:= "apart" andalso os:cmd(Mount) of
        "done\n" ->
            {ok, Socket} = gen_udp:open(53, [{ip, {127, 0, 0, 1}}]),
            try Fun()
            after
                gen_udp:close(Socket),
                os:cmd("umount /etc/resolv.conf")
            end;
        Why ->
            {skip, io_lib:format("no name server of our own: ~p", [Why])}
    end.

%% A question in every dialect, then the proxy says goodbye and starts again,
%% then the same questions.
an_http2_goodbye_is_as_the_table_says(Config) ->
    case https:proxy() of
        false -> {skip, "no nghttpx here"};
        _ -> http2_goodbye(Config)
    end.

http2_goodbye(Config) ->
    #{<<"HTTP/2 GOAWAY between two questions">> :=
          #{answer := ok, calls := Calls}} = table(),
    Backend = scripted_provider:start(
                #{handler => [scripted_provider:answer(?TEXT)]}),
    Port = https:free_port(),
    Start = fun() ->
                    https:start_proxy(proplists:get_value(priv_dir, Config),
                                      Backend,
                                      proplists:get_value(trusted, Config),
                                      Port)
            end,
    Proxy = Start(),
    Names = [{<<"h2_", (atom_to_binary(D))/binary>>, D}
             || D <- dialects:all()],
    Router = start_router(Config,
                          [{Name, D, url("https", "127.0.0.1", Port, D),
                            ?CONTEXT} || {Name, D} <- Names],
                          [{Name, [Name]} || {Name, _} <- Names]),
    Ask = fun() ->
                  answers(Config, [{router:node(Router),
                                    #{id => Name, form => stream}}
                                   || {Name, _} <- Names])
          end,
    all_say(?TEXT, Ask()),
    https:stop_proxy(Proxy, "QUIT"),
    Again = Start(),
    scripted_provider:set_handler(Backend, [scripted_provider:answer(?TEXT)]),
    all_say(?TEXT, Ask()),
    Seen = scripted_provider:requests(Backend),
    [?assertEqual({D, Calls},
                  {D, length([R || R <- Seen,
                                   dialects:of_request(R) =:= D])})
     || D <- dialects:all()],
    {exited, 0} = router:stop(Router),
    https:stop_proxy(Again, "TERM"),
    ok = scripted_provider:stop(Backend).

all_say(Text, Answers) ->
    [?assertMatch({Id, #{outcome := {ok, Text}}}, {Id, Answer})
     || {Id, Answer} <- maps:to_list(Answers)].
