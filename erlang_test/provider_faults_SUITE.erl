%% What callers get when the provider misbehaves, and how often it is asked.
-module(provider_faults_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(KEY, <<"sk-test-key">>).
-define(OP, {call_with_prompt, simple, <<"Say hello to me">>}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% size
     an_endless_json_body_is_too_large,
     an_endless_stream_is_too_large,
     endless_headers_are_an_error,
     a_gzip_bomb_is_an_error,
     %% time
     a_tls_handshake_that_never_ends_times_out,
     silence_before_the_headers_times_out,
     headers_that_trickle_time_out,
     silence_before_the_first_token_times_out,
     comments_are_not_tokens,
     silence_between_tokens_times_out,
     a_stream_without_end_stops_at_the_callers_deadline,
     %% form
     bad_bodies_are_bad_responses,
     a_cut_stream_is_a_failure,
     a_stream_without_its_terminal_event_is_a_failure,
     an_error_inside_a_200_is_a_failure,
     a_whole_answer_to_a_streaming_request_is_accepted,
     odd_but_correct_streams_are_accepted,
     text_is_cleaned,
     odd_usage_is_sanitised,
     a_refusal_is_refused,
     filtered_content_is_an_error,
     an_answer_cut_by_length_says_so,
     %% retries
     status_codes_that_are_final_are_asked_once,
     status_codes_that_may_pass_are_asked_three_times,
     a_failure_that_passes_is_not_seen_by_the_caller,
     the_backoff_grows,
     retry_after_in_seconds_is_honoured,
     retry_after_as_a_date_is_honoured,
     x_should_retry_false_is_obeyed,
     a_retry_after_the_deadline_is_not_waited_for,
     no_credit_is_asked_once,
     timeouts_are_retried,
     %% connections
     a_reset_connection_is_retried,
     a_refused_connection_is_unreachable,
     an_unknown_host_is_unreachable,
     a_restarted_server_is_not_noticed,
     one_connection_serves_calls_in_turn,
     redirects_are_not_followed,
     more_calls_than_slots_are_refused_at_once,
     %% TLS
     a_trusted_certificate_is_accepted,
     an_unknown_authority_is_unreachable_and_gets_nothing,
     a_certificate_for_another_host_is_unreachable_and_gets_nothing,
     an_expired_certificate_is_unreachable_and_gets_nothing,
     %% HTTP/2
     http2_calls_share_a_connection,
     an_http2_server_that_goes_away_is_not_noticed,
     an_http2_call_that_is_given_up_leaves_the_others_alone].

%% Settings of the router for one test; the others have the defaults.
settings(silence_before_the_headers_times_out) ->
    [{"HEADERS_MS", "400"} | no_retry()];
settings(headers_that_trickle_time_out) ->
    [{"HEADERS_MS", "400"} | no_retry()];
settings(silence_before_the_first_token_times_out) ->
    [{"FIRST_TOKEN_MS", "400"} | no_retry()];
settings(comments_are_not_tokens) ->
    [{"FIRST_TOKEN_MS", "400"} | no_retry()];
settings(silence_between_tokens_times_out) ->
    [{"IDLE_MS", "400"} | no_retry()];
settings(timeouts_are_retried) ->
    [{"HEADERS_MS", "200"}];
settings(more_calls_than_slots_are_refused_at_once) ->
    [{limit, "LLM_ROUTER_LIMITS_IN_FLIGHT", "2"},
     {limit, "LLM_ROUTER_LIMITS_QUEUED", "0"}];
settings(Case)
  when Case =:= an_endless_json_body_is_too_large;
       Case =:= an_endless_stream_is_too_large;
       Case =:= endless_headers_are_an_error;
       Case =:= a_gzip_bomb_is_an_error;
       Case =:= bad_bodies_are_bad_responses;
       Case =:= a_cut_stream_is_a_failure;
       Case =:= a_stream_without_its_terminal_event_is_a_failure;
       Case =:= an_error_inside_a_200_is_a_failure ->
    no_retry();
settings(_) ->
    [].

no_retry() ->
    [{limit, "LLM_ROUTER_RETRY_MAX", "0"}].

variable({limit, Name, Value}) -> {Name, Value};
variable({Timer, Value}) -> {"LLM_ROUTER_TIMEOUTS_" ++ Timer, Value}.

init_per_suite(Config) ->
    bed:up(Config, #{router => none}).

end_per_suite(Config) ->
    bed:down(Config).

%% Every test has a fresh router, because routers remember failures.
init_per_testcase(Case, Config) ->
    router_with(Config, [variable(S) || S <- settings(Case)]).

%% A router that failed a memory check exits with another status than 0.
end_per_testcase(_Case, Config) ->
    case bed:stop_router(Config) of
        {exited, 0} -> ok;
        none -> ok;
        Other -> {fail, Other}
    end.

router_with(Config, Env) ->
    bed:start_router(Config, #{connect => [], env => Env}).

%% With a fresh router for each: one that is refused, or failed often, is asked
%% less.
each_afresh(Config, Test, Rows) ->
    Last = lists:foldl(fun(Row, Up) ->
                               {exited, 0} = bed:stop_router(Up),
                               Fresh = router_with(Up, []),
                               Test(Fresh, Row),
                               Fresh
                       end, Config, Rows),
    {exited, 0} = bed:stop_router(Last),
    ok.

%% Makes one call against a handler: {Answer, requests seen, milliseconds}.
ask(Config, Handler) ->
    ask(Config, Handler, ?OP).

ask(Config, Handler, Op) ->
    Provider = bed:provider(Config),
    scripted_provider:set_handler(Provider, Handler),
    Start = bed:now_ms(),
    Answer = bed:call(Config, Op, 30000),
    Ms = bed:now_ms() - Start,
    Requests = scripted_provider:requests(Provider),
    ct:log("~b ms, ~b requests: ~0tP", [Ms, length(Requests), Answer, 50]),
    pong = bed:call(Config, ping),
    {Answer, Requests, Ms}.

%% The details of the one error code, or one of several, that must come.
fails(Config, Handler, Codes) ->
    {{error, {Code, Details}}, Requests, Ms} = ask(Config, Handler),
    ?assert(lists:member(Code, lists:flatten([Codes]))),
    ?assertMatch(#{message := M} when is_binary(M), Details),
    {Details, Requests, Ms}.

succeeds(Config, Handler) ->
    {{ok, Response}, Requests, _Ms} = ask(Config, Handler),
    {Response, Requests}.

%% The events of a streamed answer, without its header action.
events(Text) ->
    [_ | Events] = scripted_provider:stream(Text, #{}),
    Events.

sse(Actions) ->
    [{header, <<"content-type">>, <<"text/event-stream">>} | Actions].

json(Text) ->
    [{header, <<"content-type">>, <<"application/json">>}, {body, Text}].

within(Least, Most, Ms) ->
    ?assert(Ms >= Least),
    ?assert(Ms =< bed:limit_ms(Most)).

%% ------------------------------------------------------------------- size

an_endless_json_body_is_too_large(Config) ->
    Chunk = binary:copy(<<"x">>, 65536),
    stays_small(Config, [[{chunk, <<"{\"choices\":[{\"text\":\"">>},
                          {repeat, infinity, [{chunk, Chunk}]}]]).

an_endless_stream_is_too_large(Config) ->
    [Role, Delta | _] = scripted_provider:stream(
                          binary:copy(<<"x">>, 65536), #{chunk_size => 65536})
        -- [{header, <<"content-type">>, <<"text/event-stream">>}],
    stays_small(Config, [sse([Role, {repeat, infinity, [Delta]}])]).

stays_small(Config, Handler) ->
    Before = router:rss_kib(bed:router(Config)),
    {_, _, Ms} = fails(Config, Handler, too_large),
    within(0, 10000, Ms),
    bed:has_grown_less(Config, 16384, Before).

endless_headers_are_an_error(Config) ->
    Line = [<<"x-filler: ">>, binary:copy(<<"y">>, 1000), <<"\r\n">>],
    fails(Config, [[{raw, <<"HTTP/1.1 200 OK\r\n">>},
                    {repeat, infinity, [{raw, Line}]}]],
          [too_large, bad_response, unreachable, provider_error]).

a_gzip_bomb_is_an_error(Config) ->
    Bomb = zlib:gzip(binary:copy(<<"{\"choices\":[]}">>, 10 * 1024 * 1024)),
    Before = router:rss_kib(bed:router(Config)),
    fails(Config, [[{header, <<"content-encoding">>, <<"gzip">>},
                    {header, <<"content-type">>, <<"application/json">>},
                    {body, Bomb}]], [too_large, bad_response]),
    bed:has_grown_less(Config, 16384, Before).

%% ------------------------------------------------------------------- time

a_tls_handshake_that_never_ends_times_out(Config) ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    Answer = with_base_url(Config, url("https", Port),
                           [{"CONNECT_MS", "400"} | no_retry()], ?OP),
    gen_tcp:close(Listener),
    ?assertMatch({error, {Code, _}}
                   when Code =:= timeout; Code =:= unreachable, Answer).

silence_before_the_headers_times_out(Config) ->
    {_, _, Ms} = fails(Config, [[hang]], timeout),
    within(400, 1000, Ms).

headers_that_trickle_time_out(Config) ->
    {_, _, Ms} = fails(Config,
                       [[{raw, <<"HTTP/1.1 200 OK\r\n">>},
                         {repeat, infinity,
                          [{sleep, 100}, {raw, <<"x-slow: loris\r\n">>}]}]],
                       timeout),
    within(400, 1000, Ms).

silence_before_the_first_token_times_out(Config) ->
    [Role | _] = events(<<"Hello">>),
    {_, _, Ms} = fails(Config, [sse([Role, hang])], timeout),
    within(400, 1000, Ms).

comments_are_not_tokens(Config) ->
    [Role | _] = events(<<"Hello">>),
    Comment = {chunk, <<": keep-alive\n\n">>},
    {_, _, Ms} = fails(Config,
                       [sse([Role, {repeat, infinity,
                                    [Comment, Role, {sleep, 50}]}])], timeout),
    within(400, 1000, Ms).

silence_between_tokens_times_out(Config) ->
    [Role, Hello | _] = events(<<"Hello">>),
    {_, _, Ms} = fails(Config,
                       [sse([Role, Hello,
                             {repeat, infinity,
                              [{chunk, <<": ping\n\n">>}, {sleep, 50}]}])],
                       timeout),
    within(400, 1000, Ms).

a_stream_without_end_stops_at_the_callers_deadline(Config) ->
    [Role, Hello | _] = events(<<"Hello">>),
    Handler = [sse([Role, {repeat, infinity, [Hello, {sleep, 50}]}])],
    Op = erlang:append_element(?OP, #{timeout => 700}),
    {{error, {timeout, _}}, [_], Ms} = ask(Config, Handler, Op),
    within(650, 1000, Ms),
    [_] = scripted_provider:await_aborted(bed:provider(Config), 1).

%% ------------------------------------------------------------------- form

bad_bodies_are_bad_responses(Config) ->
    [begin
         ct:log("~ts", [Name]),
         fails(Config, [Actions], bad_response)
     end || {Name, Actions} <- bad_bodies()].

bad_bodies() ->
    Answer = <<"{\"choices\":[{\"index\":0,\"finish_reason\":\"stop\","
               "\"message\":{\"role\":\"assistant\",\"content\":\"hi\"}}]}">>,
    Deep = [binary:copy(<<"[">>, 100000), binary:copy(<<"]">>, 100000)],
    [{"nothing", json(<<>>)},
     {"no content", [{status, 204}]},
     {"no JSON", json(<<"hello">>)},
     {"truncated", json(binary:part(Answer, 0, byte_size(Answer) - 5))},
     {"more than one", json([Answer, Answer])},
     {"not a number", json(<<"{\"choices\":NaN}">>)},
     {"deep", json(Deep)},
     {"a duplicate key", json(<<"{\"choices\":[],\"choices\":[]}">>)},
     {"an array", json(<<"[]">>)},
     {"an empty object", json(<<"{}">>)},
     {"no choices", json(<<"{\"choices\":[]}">>)},
     {"choices of a wrong type", json(<<"{\"choices\":\"hi\"}">>)},
     {"a choice of a wrong type", json(<<"{\"choices\":[42]}">>)},
     {"content of a wrong type",
      json(<<"{\"choices\":[{\"finish_reason\":\"stop\","
             "\"message\":{\"content\":42}}]}">>)},
     {"HTML", [{header, <<"content-type">>, <<"text/html">>},
               {body, <<"<html><body>Welcome to the proxy</body></html>">>}]},
     {"plain text", [{header, <<"content-type">>, <<"text/plain">>},
                     {body, <<"upstream is busy">>}]},
     {"an empty stream", sse([{chunk, <<"\n">>}])},
     {"a stream that is no JSON", sse([{chunk, <<"data: hello\n\n">>}])},
     {"only the end of a stream", sse([done_marker])}].

a_cut_stream_is_a_failure(Config) ->
    Events = lists:sublist(events(<<"Hello out there, all of you">>), 2),
    [fails(Config, [sse(Events ++ [End])],
           [bad_response, unreachable, provider_error])
     || End <- [close, reset]].

a_stream_without_its_terminal_event_is_a_failure(Config) ->
    Events = lists:sublist(events(<<"Hello out there, all of you">>), 2),
    fails(Config, [sse(Events)], bad_response).

an_error_inside_a_200_is_a_failure(Config) ->
    [Role, Hello | _] = events(<<"Hello">>),
    Error = #{error => #{message => <<"The server had an error">>,
                         type => server_error, code => null}},
    fails(Config, [sse([Role, Hello, {sse, Error}])], provider_error),
    fails(Config, [sse([{sse, Error}])], provider_error),
    fails(Config, [json(test_json:encode(Error))], provider_error).

a_whole_answer_to_a_streaming_request_is_accepted(Config) ->
    Json = #{model => m, object => <<"chat.completion">>,
             choices => [#{index => 0, finish_reason => stop,
                           message => #{role => assistant,
                                        content => <<"Hello">>}}],
             usage => #{prompt_tokens => 3, completion_tokens => 2,
                        total_tokens => 5}},
    {Response, [_]} = succeeds(Config, [json(test_json:encode(Json))]),
    ?assertMatch(#{text := <<"Hello">>, finish_reason := stop,
                   usage := #{input_tokens := 3, output_tokens := 2}},
                 Response).

%% Line ends, comments, names, split and joined lines, unknown fields.
odd_but_correct_streams_are_accepted(Config) ->
    Text = <<"Grüße, 世界 😀"/utf8>>,
    Lines = [[<<"data:">>, test_json:encode(Json)]
             || {sse, Json} <- events(Text)] ++ [<<"data: [DONE]">>],
    Plain = iolist_to_binary([[L, "\n\n"] || L <- Lines]),
    Crlf = iolist_to_binary([[L, "\r\n\r\n"] || L <- Lines]),
    Cr = iolist_to_binary([[L, "\r\r"] || L <- Lines]),
    Noisy = iolist_to_binary(
              [<<"\xef\xbb\xbf">>,
               [[": ping\n", "event: chunk\nid: 7\nretry: 10\n", L, "\n\n"]
                || L <- Lines]]),
    Unknown = iolist_to_binary(
                [<<"data: {\"object\":\"something.new\",\"choices\":[]}\n\n">>,
                 Plain]),
    NoMarker = iolist_to_binary([[L, "\n\n"] || L <- lists:droplast(Lines)]),
    [begin
         {#{text := Got}, [_]} = succeeds(Config, [sse(Chunks)]),
         ?assertEqual(Text, Got)
     end || Stream <- [Plain, Crlf, Cr, Noisy, Unknown, NoMarker],
            Chunks <- [[{chunk, Stream}],
                       [{chunk, <<Byte>>} || <<Byte>> <= Stream]]].

text_is_cleaned(Config) ->
    [begin
         Chunk = [<<"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                    "\"a">>, Odd, <<"b\"},\"finish_reason\":null}]}\n\n">>],
         Stop = <<"data: {\"choices\":[{\"index\":0,\"delta\":{},"
                  "\"finish_reason\":\"stop\"}]}\n\n">>,
         Handler = [sse([{chunk, Chunk}, {chunk, Stop}, done_marker])],
         {{ok, #{text := Text}}, _, _} = ask(Config, Handler),
         ?assert(is_list(unicode:characters_to_list(Text))),
         ?assertEqual(nomatch, binary:match(Text, <<0>>)),
         ?assertMatch(<<"a", _/binary>>, Text),
         ?assertEqual($b, binary:last(Text))
     end || Odd <- [<<"\\u0000">>, <<"\\ud800">>, <<"\\udc00x">>,
                    <<"\\ud83d\\ude00">>, <<"\\ud800\\ud800">>]].

odd_usage_is_sanitised(Config) ->
    [begin
         {#{text := <<"Hello">>, usage := Got}, _} =
             succeeds(Config,
                      [scripted_provider:answer(<<"Hello">>,
                                                #{usage => Usage})]),
         [?assert(is_nil_or_count(V)) || V <- maps:values(Got)]
     end || Usage <- [none, null, <<"many">>, [], #{},
                      #{prompt_tokens => -5, completion_tokens => <<"7">>},
                      #{prompt_tokens => 1.5, completion_tokens => 1.0e300,
                        total_tokens => null},
                      #{prompt_tokens => 123456789012345678901234567890},
                      #{prompt_tokens_details => <<"none">>,
                        completion_tokens_details => []}]].

is_nil_or_count(nil) -> true;
is_nil_or_count(N) -> is_integer(N) andalso N >= 0.

a_refusal_is_refused(Config) ->
    Refusal = #{choices => [#{index => 0, finish_reason => null,
                              delta => #{refusal => <<"I cannot do that">>}}]},
    Stop = #{choices => [#{index => 0, finish_reason => stop, delta => #{}}]},
    {_, Requests, _} = fails(Config, [sse([{sse, Refusal}, {sse, Stop},
                                           done_marker])], refused),
    ?assertEqual(1, length(Requests)).

filtered_content_is_an_error(Config) ->
    {_, Requests, _} =
        fails(Config, [scripted_provider:answer(
                         <<"Hel">>, #{finish_reason => content_filter})],
              content_filtered),
    ?assertEqual(1, length(Requests)).

an_answer_cut_by_length_says_so(Config) ->
    {Response, [_]} =
        succeeds(Config, [scripted_provider:answer(
                            <<"Hello and">>, #{finish_reason => length})]),
    ?assertMatch(#{text := <<"Hello and">>, finish_reason := length}, Response).

%% ---------------------------------------------------------------- retries

status_codes_that_are_final_are_asked_once(Config) ->
    Quoting = <<"That came with ", (?KEY)/binary>>,
    Test = fun(Up, {Status, Codes}) ->
         {Details, Requests, _} =
             fails(Up, [scripted_provider:error(Status, bad, Quoting, [])],
                   Codes),
         ?assertEqual(1, length(Requests)),
         ?assertMatch(#{http_status := Status}, Details),
         ?assertEqual(nomatch, binary:match(term_to_binary(Details), ?KEY))
    end,
    each_afresh(Config, Test, [{400, invalid_request},
                               {404, no_route},
                               {422, invalid_request},
                               {401, unauthorized},
                               {403, unauthorized}]).

status_codes_that_may_pass_are_asked_three_times(Config) ->
    Test = fun(Up, {Status, Code}) ->
         {Details, Requests, _} =
             fails(Up, [scripted_provider:error(Status, busy, <<"busy">>,
                                                    soon())], Code),
         ?assertEqual({Status, 3}, {Status, length(Requests)}),
         ?assertMatch(#{http_status := Status, attempts := 3}, Details)
    end,
    each_afresh(Config, Test, [{408, [provider_error, timeout]},
                               {409, provider_error},
                               {429, rate_limited},
                               {500, provider_error},
                               {502, provider_error},
                               {503, [provider_error, overloaded]},
                               {504, [provider_error, timeout]},
                               {529, [provider_error, overloaded]}]).

soon() ->
    [{<<"retry-after-ms">>, <<"20">>}].

a_failure_that_passes_is_not_seen_by_the_caller(Config) ->
    Good = scripted_provider:answer(<<"Hello">>),
    Cut = sse(lists:sublist(events(<<"Hello out there">>), 2) ++ [close]),
    [begin
         {#{text := <<"Hello">>, attempts := Attempts}, Requests} =
             succeeds(Config, [Bad, Good]),
         ?assertEqual(2, length(Requests)),
         %% A kept connection that was closed meanwhile is no failed attempt.
         ?assert(Attempts =:= 2 orelse Bad =:= [reset] orelse Bad =:= [close])
     end || Bad <- [scripted_provider:error(503, busy, <<"busy">>, soon()),
                    scripted_provider:error(429, busy, <<"busy">>, soon()),
                    Cut, [reset], [close],
                    json(<<"{\"choices\":">>),
                    [{header, <<"content-type">>, <<"text/html">>},
                     {body, <<"<html>busy</html>">>}]]].

the_backoff_grows(Config) ->
    {_, Requests, _} = fails(Config, [scripted_provider:error(500, x, <<"x">>,
                                                              [])],
                             provider_error),
    [First, Second] = gaps(Requests),
    within(375, 900, First),
    within(750, 1500, Second).

gaps(Requests) ->
    Times = [At || #{at := At} <- Requests],
    [B - A || {A, B} <- lists:zip(lists:droplast(Times), tl(Times))].

retry_after_in_seconds_is_honoured(Config) ->
    Busy = scripted_provider:error(429, busy, <<"busy">>,
                                   [{<<"retry-after">>, <<"1">>}]),
    {_, Requests} = succeeds(Config,
                             [Busy, scripted_provider:answer(<<"Hello">>)]),
    [Gap] = gaps(Requests),
    within(995, 1500, Gap). %% of a provider that counts whole milliseconds

retry_after_as_a_date_is_honoured(Config) ->
    Then = calendar:system_time_to_universal_time(
             erlang:system_time(second) + 2, second),
    Busy = scripted_provider:error(503, busy, <<"busy">>,
                                   [{<<"retry-after">>, http_date(Then)}]),
    {_, Requests} = succeeds(Config,
                             [Busy, scripted_provider:answer(<<"Hello">>)]),
    [Gap] = gaps(Requests),
    within(900, 2500, Gap).

http_date({{Year, Month, Day} = Date, {Hour, Minute, Second}}) ->
    Days = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"},
    Months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep",
              "Oct", "Nov", "Dec"},
    io_lib:format("~s, ~2..0b ~s ~b ~2..0b:~2..0b:~2..0b GMT",
                  [element(calendar:day_of_the_week(Date), Days), Day,
                   element(Month, Months), Year, Hour, Minute, Second]).

x_should_retry_false_is_obeyed(Config) ->
    {_, Requests, _} =
        fails(Config, [scripted_provider:error(503, busy, <<"busy">>,
                                               [{<<"x-should-retry">>,
                                                 <<"false">>}])],
              [provider_error, overloaded]),
    ?assertEqual(1, length(Requests)).

a_retry_after_the_deadline_is_not_waited_for(Config) ->
    Busy = scripted_provider:error(429, busy, <<"busy">>,
                                   [{<<"retry-after">>, <<"30">>}]),
    Op = erlang:append_element(?OP, #{timeout => 3000}),
    {{error, {rate_limited, Details}}, Requests, Ms} = ask(Config, [Busy], Op),
    ?assertMatch(#{retry_after_ms := 30000}, Details),
    ?assertEqual(1, length(Requests)),
    within(0, 500, Ms).

no_credit_is_asked_once(Config) ->
    Test = fun(Up, Code) ->
         {_, Requests, _} =
             fails(Up, [scripted_provider:error(429, Code, <<"no credit">>,
                                                    soon())], quota_exceeded),
         ?assertEqual(1, length(Requests))
    end,
    each_afresh(Config, Test, [insufficient_quota, credit_balance_exhausted]).

timeouts_are_retried(Config) ->
    {Response, Requests} =
        succeeds(Config, [[hang], scripted_provider:answer(<<"Hello">>)]),
    ?assertMatch(#{attempts := 2}, Response),
    ?assertEqual(2, length(Requests)).

%% ------------------------------------------------------------ connections

a_reset_connection_is_retried(Config) ->
    {_, Requests, _} = fails(Config, [[reset]], unreachable),
    ?assert(length(Requests) >= 3).

%% The same call by a router with another base URL.
with_base_url(Config, Url, Env, Op) ->
    {exited, 0} = bed:stop_router(Config),
    Vars = [{"OPENAI_BASE_URL", binary_to_list(Url)}
            | [variable(S) || S <- Env]],
    Config1 = router_with(Config, Vars),
    Answer = bed:call(Config1, Op, 30000),
    ct:log("~0tP", [Answer, 50]),
    pong = bed:call(Config1, ping),
    {exited, 0} = bed:stop_router(Config1),
    Answer.

url(Scheme, Port) ->
    iolist_to_binary(io_lib:format("~s://127.0.0.1:~b/v1", [Scheme, Port])).

a_refused_connection_is_unreachable(Config) ->
    {ok, Listener} = gen_tcp:listen(0, []),
    {ok, Port} = inet:port(Listener),
    gen_tcp:close(Listener),
    ?assertMatch({error, {unreachable, #{attempts := 3}}},
                 with_base_url(Config, url("http", Port), [], ?OP)).

an_unknown_host_is_unreachable(Config) ->
    ?assertMatch({error, {unreachable, _}},
                 with_base_url(Config, <<"http://no-such-host.invalid/v1">>,
                               no_retry(), ?OP)).

a_restarted_server_is_not_noticed(Config) ->
    Handler = fun(_) -> scripted_provider:answer(<<"Hello">>) end,
    First = scripted_provider:start(#{handler => Handler}),
    #{port := Port} = First,
    {exited, 0} = bed:stop_router(Config),
    Config1 = router_with(Config, [{"OPENAI_BASE_URL",
                                    binary_to_list(url("http", Port))}]),
    {ok, #{attempts := 1}} = bed:call(Config1, ?OP),
    scripted_provider:stop(First),
    Second = scripted_provider:start(#{handler => Handler, port => Port}),
    ?assertMatch({ok, #{text := <<"Hello">>}}, bed:call(Config1, ?OP)),
    scripted_provider:stop(Second),
    {exited, 0} = bed:stop_router(Config1).

one_connection_serves_calls_in_turn(Config) ->
    Provider = bed:provider(Config),
    scripted_provider:set_handler(
      Provider, fun(_) -> scripted_provider:answer(<<"Hello">>) end),
    [{ok, _} = bed:call(Config, ?OP) || _ <- lists:seq(1, 10)],
    ?assertMatch(#{opened := 1}, scripted_provider:counters(Provider)).

redirects_are_not_followed(Config) ->
    Trap = scripted_provider:start(),
    Self = scripted_provider:url(bed:provider(Config)),
    [begin
         {_, Requests, _} =
             fails(Config, [[{status, Status}, {header, <<"location">>, To}]],
                   [provider_error, bad_response]),
         [] = scripted_provider:requests(Trap),
         [<<"/v1/chat/completions">>] =
             lists:usort([Path || #{path := Path} <- Requests])
     end || Status <- [301, 307],
            To <- [<<(scripted_provider:url(Trap))/binary, "/elsewhere">>,
                   <<Self/binary, "/elsewhere">>,
                   <<"file:///etc/passwd">>]],
    scripted_provider:stop(Trap).

more_calls_than_slots_are_refused_at_once(Config) ->
    Provider = bed:provider(Config),
    scripted_provider:set_handler(Provider, [[hang]]),
    Server = {llm_router, bed:node(Config)},
    Call = fun() -> gen_server:call(Server, ?OP, infinity) end,
    Busy = bed:on(bed:caller(Config), fun() -> [spawn(Call), spawn(Call)] end),
    scripted_provider:await_requests(Provider, 2),
    {Us, Answer} = bed:on(bed:caller(Config), fun() -> timer:tc(Call) end),
    ct:log("~b us: ~0tp", [Us, Answer]),
    ?assertMatch({error, {overloaded, _}}, Answer),
    ?assert(Us < bed:limit_ms(100) * 1000),
    pong = bed:call(Config, ping),
    bed:on(bed:caller(Config), fun() -> [exit(P, kill) || P <- Busy] end),
    scripted_provider:await_aborted(Provider, 2),
    scripted_provider:set_handler(
      Provider, fun(_) -> scripted_provider:answer(<<"Hello">>) end),
    {ok, _} = bed:call(Config, ?OP).

%% -------------------------------------------------------------------- TLS

a_trusted_certificate_is_accepted(Config) ->
    {Tls, CaFile} = certificate(Config, {iPAddress, <<127, 0, 0, 1>>}, valid()),
    {Answer, Requests} = over_tls(Config, Tls, CaFile),
    ?assertMatch({ok, #{text := <<"You wrote: Say hello to me">>}}, Answer),
    ?assertEqual(1, length(Requests)).

an_unknown_authority_is_unreachable_and_gets_nothing(Config) ->
    {Tls, _} = certificate(Config, {iPAddress, <<127, 0, 0, 1>>}, valid()),
    {_, OtherCa} = certificate(Config, {iPAddress, <<127, 0, 0, 1>>}, valid()),
    is_refused(over_tls(Config, Tls, OtherCa)).

a_certificate_for_another_host_is_unreachable_and_gets_nothing(Config) ->
    {Tls, CaFile} = certificate(Config, {dNSName, "example.org"}, valid()),
    is_refused(over_tls(Config, Tls, CaFile)).

an_expired_certificate_is_unreachable_and_gets_nothing(Config) ->
    {Tls, CaFile} = certificate(Config, {iPAddress, <<127, 0, 0, 1>>},
                                {{2020, 1, 1}, {2021, 1, 1}}),
    is_refused(over_tls(Config, Tls, CaFile)).

is_refused({Answer, Requests}) ->
    ?assertMatch({error, {unreachable, _}}, Answer),
    ?assertEqual([], Requests).

over_tls(Config, Tls, CaFile) ->
    Provider = scripted_provider:start(#{tls => Tls}),
    Answer = with_base_url(Config, scripted_provider:url(Provider),
                           [{limit, "LLM_ROUTER_TLS_CA_FILE", CaFile}
                            | no_retry()], ?OP),
    Requests = scripted_provider:requests(Provider),
    scripted_provider:stop(Provider),
    {Answer, Requests}.

certificate(Config, Name, Validity) ->
    https:certificate(proplists:get_value(priv_dir, Config), Name, Validity).

valid() ->
    https:valid().

%% ----------------------------------------------------------------- HTTP/2

%% Runs Fun(Config, Restart) with a router whose provider speaks HTTP/2: nghttpx
%% before the scripted one. Restart() makes the proxy say goodbye and start
%% again.
over_http2(Config, Fun) ->
    case https:proxy() of
        false -> {skip, "no nghttpx here"};
        _ -> over_proxy(Config, Fun)
    end.

over_proxy(Config, Fun) ->
    {Tls, CaFile} = certificate(Config, {iPAddress, <<127, 0, 0, 1>>}, valid()),
    Port = https:free_port(),
    Start = fun() ->
                    https:start_proxy(proplists:get_value(priv_dir, Config),
                                      bed:provider(Config), Tls, Port)
            end,
    Proxy = Start(),
    {exited, 0} = bed:stop_router(Config),
    Config1 = router_with(Config, [{"OPENAI_BASE_URL",
                                    binary_to_list(url("https", Port))},
                                   {"LLM_ROUTER_TLS_CA_FILE", CaFile}]),
    Fun(Config1, fun() -> https:stop_proxy(Proxy, "QUIT"), Start() end),
    {exited, 0} = bed:stop_router(Config1).

%% Answers of so many calls at once.
calls_at_once(Config, N) ->
    Server = {llm_router, bed:node(Config)},
    bed:on(bed:caller(Config),
           fun() ->
                   Ids = [gen_server:send_request(Server, ?OP)
                          || _ <- lists:seq(1, N)],
                   [begin
                        {reply, Answer} =
                            gen_server:receive_response(Id, 10000),
                        Answer
                    end || Id <- Ids]
           end).

slow_model(Config) ->
    scripted_provider:set_handler(
      bed:provider(Config),
      fun(Request) ->
              [{sleep, 300} | scripted_model:from_document(Request)]
      end).

connections_opened(Config) ->
    #{provider := #{connections_opened := N}} = bed:call(Config, stats),
    N.

http2_calls_share_a_connection(Config) ->
    over_http2(Config,
               fun(Config1, _Restart) ->
                       slow_model(Config),
                       {ok, _} = bed:call(Config1, ?OP),
                       Start = bed:now_ms(),
                       Answers = calls_at_once(Config1, 20),
                       ?assertEqual(20, length([ok || {ok, _} <- Answers])),
                       ?assert(bed:now_ms() - Start < bed:limit_ms(2000)),
                       ?assertEqual(1, connections_opened(Config1))
               end).

an_http2_server_that_goes_away_is_not_noticed(Config) ->
    over_http2(Config,
               fun(Config1, Restart) ->
                       {ok, _} = bed:call(Config1, ?OP),
                       Restart(),
                       ?assertMatch({ok, #{attempts := 1}},
                                    bed:call(Config1, ?OP))
               end).

an_http2_call_that_is_given_up_leaves_the_others_alone(Config) ->
    over_http2(Config,
               fun(Config1, _Restart) ->
                       slow_model(Config),
                       {ok, _} = bed:call(Config1, ?OP),
                       Impatient = erlang:append_element(?OP,
                                                         #{timeout => 100}),
                       Self = self(),
                       spawn_link(fun() ->
                                          Self ! {answers,
                                                  calls_at_once(Config1, 10)}
                                  end),
                       {error, {timeout, _}} = bed:call(Config1, Impatient),
                       Answers = receive {answers, A} -> A end,
                       ?assertEqual(10, length([ok || {ok, _} <- Answers])),
                       ?assertEqual(1, connections_opened(Config1))
               end).
