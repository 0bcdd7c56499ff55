%% Metrics, health and the status document, by HTTP and from BEAM nodes.
-module(metrics_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(prometheus, [value/2, value/3, sum/3]).

-define(CALLS, "gen_ai_client_operation_duration_seconds_count").
-define(FIRST,
        "gen_ai_client_operation_time_to_first_chunk_seconds_count").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [every_line_is_by_the_book,
     every_metric_is_documented,
     counters_agree_with_the_provider,
     a_retry_that_nobody_waits_for_is_none,
     failures_are_counted_by_what_they_were,
     a_call_that_nobody_waits_for_is_counted_as_cancelled,
     answers_from_memory_are_counted_apart,
     tokens_and_cost_are_those_of_the_answers,
     the_routers_share_is_without_the_providers,
     waiting_is_neither_of_the_two,
     streams_and_tasks_are_measured_like_calls,
     a_benched_key_is_seen,
     counters_never_go_back,
     the_status_document_agrees_with_the_metrics,
     the_status_document_adds_up,
     the_status_document_is_had_by_every_form_of_call,
     failures_are_in_the_status_document,
     it_is_ready_until_it_drains,
     it_is_not_ready_without_an_epmd,
     nothing_is_served_unless_it_is_asked_for,
     a_port_that_is_taken_is_said,
     the_page_outlives_a_reload_without_its_address,
     each_request_has_one_line].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(inets),
    two_providers:up(Config).

end_per_suite(Config) ->
    two_providers:down(Config).

%% ------------------------------------------------------------- the router

models() ->
    [#{provider => <<"one">>, id => <<"small">>, in => 10, out => 20},
     #{provider => <<"two">>, id => <<"large">>, in => 1, out => 2}].

with(Config, Test) ->
    with(Config, #{}, Test).

%% A router of its own, that serves at a port of its own.
with(Config, Settings, Test) ->
    Port = free_port(),
    Listen = iolist_to_binary(["127.0.0.1:", integer_to_list(Port)]),
    Up = two_providers:router(Config, Settings#{http => #{listen => Listen}},
                              models()),
    try
        Test([{port, Port} | Up])
    after
        {exited, 0} = bed:stop_router(Up)
    end.

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% {Status, Body}.
get(Up, Path) ->
    Url = "http://127.0.0.1:" ++ integer_to_list(proplists:get_value(port, Up))
        ++ Path,
    {ok, {{_, Status, _}, _, Body}} =
        httpc:request(get, {Url, []}, [], [{body_format, binary}]),
    {Status, Body}.

metrics(Up) ->
    {200, Text} = get(Up, "/metrics"),
    prometheus:parse(Text).

status(Up) ->
    {200, Text} = get(Up, "/status.json"),
    test_json:decode(Text).

set(Up, Name, Handler) ->
    scripted_provider:set_handler(two_providers:Name(Up), Handler).

seen(Up, Name) ->
    length(scripted_provider:requests(two_providers:Name(Up))).

prompt() ->
    {call_with_prompt, simple, <<"hi">>}.

prompt(Opts) ->
    {call_with_prompt, simple, <<"hi">>, Opts}.

%% Until its assertions hold.
soon(Assertions) ->
    bed:eventually(fun() -> holds(Assertions) end).

holds(Assertions) ->
    try Assertions() of
        _ -> true
    catch
        error:_ -> false
    end.

%% The requests that ended so.
ended(Metrics, Outcome) ->
    sum(Metrics, "llm_router_requests_total", #{outcome => Outcome}).

%% ------------------------------------------------------------------ tests

every_line_is_by_the_book(Config) ->
    with(Config, fun(Up) ->
        Fresh = metrics(Up),
        {ok, _} = bed:call(Up, prompt()),
        Used = metrics(Up),
        ?assertEqual([], prometheus:families(Fresh)
                         -- prometheus:families(Used)),
        ?assertEqual(1, value(Used, "llm_router_build_info")),
        ?assertEqual(1, value(Used, "llm_router_ready"))
    end).

%% By its name, or by what is behind the "llm_router" that the row begins with.
every_metric_is_documented(Config) ->
    File = filename:join([router:project(), "docs", "operations.md"]),
    {ok, Docs} = file:read_file(File),
    with(Config, fun(Up) ->
        ?assertEqual([], [Name || Name <- prometheus:families(metrics(Up)),
                                  not is_documented(Name, Docs)])
    end).

is_documented("llm_router" ++ Rest = Name, Docs) ->
    is_quoted(Name, Docs) orelse is_quoted(Rest, Docs)
        orelse is_quoted("_" ++ string:replace(Rest, "_queue_", ""), Docs);
is_documented(Name, Docs) ->
    is_quoted(Name, Docs).

is_quoted(Name, Docs) ->
    binary:match(Docs, iolist_to_binary([$`, Name, $`])) =/= nomatch.

counters_agree_with_the_provider(Config) ->
    with(Config, fun(Up) ->
        set(Up, one, two_providers:fails(500)),
        [{ok, _} = bed:call(Up, prompt()) || _ <- lists:seq(1, 10)],
        M = metrics(Up),
        One = seen(Up, one),
        ?assertEqual(10, seen(Up, two)),
        ?assertEqual(10, ended(M, "ok")),
        ?assertEqual(10, sum(M, ?CALLS, #{gen_ai_provider_name => "two"})),
        ?assertEqual(One, sum(M, ?CALLS, #{gen_ai_provider_name => "one"})),
        ?assertEqual(One, sum(M, ?CALLS, #{error_type => "provider_error"})),
        ?assertEqual(10, sum(M, ?FIRST, #{})),
        ?assertEqual(One, value(M, "llm_router_retries_total")),
        %% The first one is left alone after some failures.
        ?assert(One < 10),
        ?assert(value(M, "llm_router_fallbacks_total") >= 1),
        ?assertEqual(One + 10, value(M, "llm_router_http_transfers_total"))
    end).

a_retry_that_nobody_waits_for_is_none(Config) ->
    with(Config, fun(Up) ->
        set(Up, one, two_providers:fails(500, [{<<"retry-after">>,
                                                <<"5">>}])),
        {'EXIT', _} = (catch bed:call(Up, prompt(#{model => <<"one/small">>}),
                                      300)),
        soon(fun() -> ?assertEqual(1, ended(metrics(Up), "cancelled")) end),
        ?assertEqual(1, seen(Up, one)),
        ?assertEqual(0, value(metrics(Up), "llm_router_retries_total"))
    end).

failures_are_counted_by_what_they_were(Config) ->
    with(Config, fun(Up) ->
        {error, {invalid_request, _}} =
            bed:call(Up, prompt(#{timeout => -1})),
        {error, {unknown_request, _}} = bed:call(Up, {no_such_thing, 1}),
        {error, {no_route, _}} = bed:call(Up, prompt(#{provider => none})),
        set(Up, one, two_providers:fails(400)),
        {error, {_, _}} = bed:call(Up, prompt(#{model => <<"one/small">>})),
        M = metrics(Up),
        ?assertEqual(1, value(M, "llm_router_requests_total",
                              #{operation => "call_with_prompt",
                                outcome => "invalid_request",
                                provider => ""})),
        ?assertEqual(1, value(M, "llm_router_requests_total",
                              #{operation => "unknown",
                                outcome => "unknown_request"})),
        %% What a caller wrote becomes no label: anything may be there.
        ?assertEqual(1, value(M, "llm_router_requests_total",
                              #{outcome => "no_route", provider => "",
                                model => ""})),
        ?assertEqual(1, sum(M, "llm_router_requests_total",
                            #{provider => "one", model => "small"}))
    end).

a_call_that_nobody_waits_for_is_counted_as_cancelled(Config) ->
    with(Config, fun(Up) ->
        set(Up, one, two_providers:hangs()),
        {'EXIT', _} = (catch bed:call(Up, prompt(), 200)),
        soon(fun() ->
            M = metrics(Up),
            ?assertEqual(1, ended(M, "cancelled")),
            ?assertEqual(1, value(M, ?CALLS, #{error_type => "cancelled"})),
            ?assertEqual(
               1, value(M, "llm_router_http_transfers_aborted_total")),
            ?assertEqual(0, value(M, "llm_router_in_flight")),
            ?assertMatch(#{<<"requests">> := 1, <<"cancelled">> := 1,
                           <<"models">> := [#{<<"requests">> := 0,
                                              <<"failed">> := 0}]},
                         status(Up))
        end)
    end).

%% Whatever model the provider says that it was.
answers_from_memory_are_counted_apart(Config) ->
    with(Config, #{cache => #{max_bytes => 1000000}}, fun(Up) ->
        set(Up, one, fun(_) -> scripted_provider:answer(
                                 <<"Hello.">>, #{model => <<"build 7">>})
                     end),
        [{ok, _} = bed:call(Up, prompt(#{cache => true}))
         || _ <- [1, 2, 3]],
        [{ok, _} = bed:call(Up, prompt(#{request_id => <<"id">>}))
         || _ <- [1, 2]],
        M = metrics(Up),
        ?assertEqual(2, ended(M, "ok")),
        ?assertEqual(2, ended(M, "cached")),
        ?assertEqual(1, ended(M, "shared")),
        ?assertEqual(0, sum(M, "llm_router_requests_total",
                            #{model => "build 7"})),
        ?assertEqual(2, seen(Up, one)),
        ?assertEqual(2, sum(M, ?CALLS, #{}))
    end).

tokens_and_cost_are_those_of_the_answers(Config) ->
    with(Config, fun(Up) ->
        Answers = [bed:call(Up, prompt()) || _ <- lists:seq(1, 5)],
        Cost = lists:sum([C || {ok, #{cost_usd := C}} <- Answers]),
        In = lists:sum([I || {ok, #{usage := #{input_tokens := I}}}
                                 <- Answers]),
        M = metrics(Up),
        Tokens = "gen_ai_client_token_usage_sum",
        ?assert(In > 0 andalso Cost > 0),
        ?assertEqual(In, sum(M, Tokens, #{gen_ai_token_type => "input"})),
        ?assert(abs(sum(M, "llm_router_cost_usd_total", #{}) - Cost) < 1.0e-9),
        #{<<"cost_usd">> := Shown, <<"tokens">> := #{<<"input">> := In}} =
            status(Up),
        ?assert(abs(Shown - Cost) < 1.0e-9)
    end).

the_routers_share_is_without_the_providers(Config) ->
    with(Config, fun(Up) ->
        set(Up, one, fun(_) ->
            [{sleep, 300} | scripted_provider:answer(<<"late">>)]
        end),
        {ok, _} = bed:call(Up, prompt()),
        M = metrics(Up),
        Whole = value(M, "llm_router_request_duration_seconds_sum"),
        Provider = sum(M, "gen_ai_client_operation_duration_seconds_sum", #{}),
        Own = value(M, "llm_router_overhead_seconds_sum"),
        ?assert(Whole >= 0.3),
        ?assert(Provider >= 0.3),
        ?assert(Own < 0.2),
        ?assert(Own + Provider =< Whole + 0.01)
    end).

waiting_is_neither_of_the_two(Config) ->
    Settings = #{limits => #{in_flight => 1}},
    with(Config, Settings, fun(Up) ->
        set(Up, one, fun(_) ->
            [{sleep, 300} | scripted_provider:answer(<<"late">>)]
        end),
        Self = self(),
        [spawn_link(fun() -> Self ! bed:call(Up, prompt()) end)
         || _ <- [1, 2]],
        [receive {ok, _} -> ok end || _ <- [1, 2]],
        M = metrics(Up),
        ?assert(value(M, "llm_router_waiting_seconds_sum") >= 0.25),
        ?assert(value(M, "llm_router_overhead_seconds_sum") < 0.2)
    end).

streams_and_tasks_are_measured_like_calls(Config) ->
    with(Config, fun(Up) ->
        Caller = bed:caller(Up),
        Node = router:node(bed:router(Up)),
        ok = bed:on(Caller, fun() -> stream(Node) end),
        set(Up, two, fun scripted_model:from_document/1),
        {ok, [_, _]} = bed:call(Up, {parse_prd, <<"# A\n\n- b\n- c\n">>, 2,
                                     #{model => <<"two/large">>}}),
        M = metrics(Up),
        ?assertEqual(1, sum(M, "llm_router_requests_total",
                            #{operation => "stream", outcome => "ok"})),
        ?assertEqual(1, sum(M, "llm_router_requests_total",
                            #{operation => "parse_prd", outcome => "ok"})),
        ?assertEqual(seen(Up, two), sum(M, ?CALLS, #{gen_ai_provider_name
                                                     => "two"})),
        ?assertEqual(1, sum(M, ?FIRST, #{gen_ai_provider_name => "one"}))
    end).

stream(Node) ->
    Messages = [#{role => user, content => <<"hi">>}],
    {ok, Ref} = gen_server:call({llm_router, Node},
                                {stream, simple, Messages, #{}}),
    receive {llm_stream, Ref, {done, _}} -> ok end.

a_benched_key_is_seen(Config) ->
    with(Config, fun(Up) ->
        set(Up, one, two_providers:fails(401)),
        {ok, _} = bed:call(Up, prompt()),
        M = metrics(Up),
        ?assertEqual(1, value(M, "llm_router_key_benched",
                              #{provider => "one"})),
        ?assertEqual(0, value(M, "llm_router_key_benched",
                              #{provider => "two"})),
        ?assertEqual(1, value(M, "llm_router_key_benches_total",
                              #{provider => "one"})),
        soon(fun() ->
            has(router:stderr(bed:router(Up)),
                ["level=warn component=job msg=\"a key is left alone\" "
                 "provider=one key=default error=unauthorized\n"])
        end)
    end).

counters_never_go_back(Config) ->
    with(Config, fun(Up) ->
        Before = counters(metrics(Up)),
        [bed:call(Up, prompt()) || _ <- [1, 2, 3]],
        After = counters(metrics(Up)),
        maps:foreach(
          fun(Key, Old) -> ?assert(maps:get(Key, After) >= Old) end, Before)
    end).

counters(Metrics) ->
    maps:from_list([{{Name, Labels}, Value}
                    || {Name, #{type := "counter"}} <- maps:to_list(Metrics),
                       {Labels, Value} <- prometheus:samples(Metrics, Name)]).

the_status_document_agrees_with_the_metrics(Config) ->
    with(Config, fun(Up) ->
        [{ok, _} = bed:call(Up, prompt()) || _ <- lists:seq(1, 4)],
        M = metrics(Up),
        #{<<"requests">> := 4, <<"succeeded">> := 4, <<"failed">> := 0,
          <<"ready">> := true, <<"state">> := <<"ok">>,
          <<"queue">> := null, <<"models">> := [Model],
          <<"providers">> := Providers, <<"history">> := History} = status(Up),
        ?assertEqual(4, ended(M, "ok")),
        ?assertMatch(#{<<"provider">> := <<"one">>, <<"model">> := <<"small">>,
                       <<"requests">> := 4, <<"failed">> := 0}, Model),
        ?assertMatch([#{<<"name">> := <<"one">>,
                        <<"keys">> := [#{<<"state">> := <<"ok">>}]},
                      #{<<"name">> := <<"openai">>},
                      #{<<"name">> := <<"two">>, <<"keys">> := [_]}],
                     lists:sort(fun by_name/2, Providers)),
        #{<<"steps">> := 60, <<"requests">> := #{<<"ok">> := Ok},
          <<"providers">> := [#{<<"name">> := <<"one">>,
                                <<"calls">> := Calls}]} = History,
        ?assertEqual({60, 4}, {length(Ok), lists:sum(Ok)}),
        ?assertEqual({60, 4}, {length(Calls), lists:sum(Calls)})
    end).

%% Whatever a request was answered with, and nothing that is none.
the_status_document_adds_up(Config) ->
    with(Config, #{cache => #{max_bytes => 1000000}}, fun(Up) ->
        [{ok, _} = bed:call(Up, prompt(Opts))
         || Opts <- [#{cache => true}, #{cache => true},
                     #{request_id => <<"id">>}, #{request_id => <<"id">>}]],
        {error, _} = bed:call(Up, prompt(#{timeout => -1})),
        {error, _} = bed:call(Up, {select_model, nonsense, nonsense, #{}}),
        #{<<"requests">> := Requests, <<"succeeded">> := Succeeded,
          <<"failed">> := Failed, <<"cancelled">> := Cancelled,
          <<"history">> := #{<<"requests">> := #{<<"ok">> := Ok,
                                                 <<"failed">> := Bad}}} =
            status(Up),
        ?assertEqual({5, 4, 1, 0}, {Requests, Succeeded, Failed, Cancelled}),
        ?assertEqual({4, 1}, {lists:sum(Ok), lists:sum(Bad)}),
        ?assertEqual(5, sum(metrics(Up), "llm_router_requests_total", #{}))
    end).

by_name(#{<<"name">> := A}, #{<<"name">> := B}) ->
    A =< B.

the_status_document_is_had_by_every_form_of_call(Config) ->
    with(Config, fun(Up) ->
        Node = router:node(bed:router(Up)),
        Caller = bed:caller(Up),
        Documents =
            [bed:call(Up, status),
             bed:on(Caller,
                    fun() -> rpc:call(Node, llm_router, status, []) end),
             bed:on(Caller, fun() ->
                 Ref = make_ref(),
                 {llm_router, Node} ! {llm_request, self(), Ref, status},
                 receive {llm_response, Ref, Document} -> Document end
             end)],
        [?assertMatch(#{<<"state">> := <<"ok">>}, test_json:decode(Document))
         || Document <- Documents]
    end).

failures_are_in_the_status_document(Config) ->
    with(Config, fun(Up) ->
        set(Up, one, two_providers:fails(400)),
        {error, {Code, _}} =
            bed:call(Up, prompt(#{model => <<"one/small">>,
                                  request_id => <<"find-me">>})),
        #{<<"errors">> := [Failure]} = status(Up),
        Node = atom_to_binary(maps:get(node, bed:caller(Up))),
        Text = atom_to_binary(Code),
        ?assertMatch(#{<<"request_id">> := <<"find-me">>, <<"code">> := Text,
                       <<"provider">> := <<"one">>, <<"model">> := <<"small">>,
                       <<"operation">> := <<"call_with_prompt">>,
                       <<"node">> := Node, <<"attempts">> := 1}, Failure)
    end).

it_is_ready_until_it_drains(Config) ->
    with(Config, fun(Up) ->
        ?assertEqual({200, <<"ready\n">>}, get(Up, "/ready")),
        ?assertEqual({200, <<"ok\n">>}, get(Up, "/health")),
        set(Up, one, fun(_) ->
            [{sleep, 1500} | scripted_provider:answer(<<"late">>)]
        end),
        Self = self(),
        spawn_link(fun() -> Self ! bed:call(Up, prompt()) end),
        soon(fun() ->
            ?assertEqual(1, value(metrics(Up), "llm_router_in_flight"))
        end),
        ok = router:signal(bed:router(Up), "TERM"),
        soon(fun() ->
            ?assertEqual({503, <<"draining\n">>}, get(Up, "/ready"))
        end),
        ?assertEqual({200, <<"ok\n">>}, get(Up, "/health")),
        ?assertEqual(1, value(metrics(Up), "llm_router_draining")),
        receive {ok, _} -> ok end,
        %% A second signal would end it at once.
        ?assertEqual({exited, 0}, router:await_exit(bed:router(Up), 10000))
    end).

%% The port where no epmd is.
it_is_not_ready_without_an_epmd(Config) ->
    Port = free_port(),
    Self = self(),
    Up = [{port, Port} | Config],
    spawn_link(fun() ->
        Self ! {ended, run(Config, Port,
                           [{"ERL_EPMD_PORT", integer_to_list(free_port())},
                            {"LLM_ROUTER_TIMEOUTS_STARTUP_MS", "3000"}])}
    end),
    soon(fun() ->
        ?assertEqual({503, <<"starting\n">>}, get(Up, "/ready"))
    end),
    ?assertEqual({200, <<"ok\n">>}, get(Up, "/health")),
    receive {ended, {Status, _, _}} -> ?assertEqual(3, Status) end.

%% To its end.
run(Config, Port, Env) ->
    router:run(#{node => bed:node_name(never), cookie => "c",
                 dir => proplists:get_value(priv_dir, Config),
                 args => ["--http", integer_to_list(Port)],
                 env => [{"OPENAI_API_KEY", "k"} | Env]}).

nothing_is_served_unless_it_is_asked_for(Config) ->
    Up = two_providers:router(Config, #{}, models()),
    Listening = os:cmd("ss -Hltnp"),
    Pid = "pid=" ++ integer_to_list(maps:get(os_pid, bed:router(Up))) ++ ",",
    Own = [L || L <- string:split(Listening, "\n", all),
                string:find(L, Pid) =/= nomatch],
    {exited, 0} = bed:stop_router(Up),
    %% That of the distribution.
    ?assertMatch([_], Own).

a_port_that_is_taken_is_said(Config) ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    Text = integer_to_list(Port),
    {Status, _, Stderr} = run(Config, Port, []),
    ok = gen_tcp:close(Socket),
    ?assertEqual(3, Status),
    ?assertNotEqual(nomatch, string:find(Stderr, "127.0.0.1 port " ++ Text)).

%% What was opened at the start goes on, and still has something to show.
the_page_outlives_a_reload_without_its_address(Config) ->
    Port = free_port(),
    Listen = iolist_to_binary(io_lib:format("127.0.0.1:~b", [Port])),
    Up = two_providers:router(Config, #{http => #{listen => Listen}}, models()),
    File = proplists:get_value(config_file, Up),
    try
        {200, Page} = get([{port, Port} | Up], "/"),
        {ok, Text} = file:read_file(File),
        Json = maps:remove(<<"http">>, test_json:decode(Text)),
        ok = file:write_file(File, test_json:encode(Json)),
        ok = bed:call(Up, reload),
        ?assertEqual({200, Page}, get([{port, Port} | Up], "/"))
    after
        {exited, 0} = bed:stop_router(Up)
    end.

each_request_has_one_line(Config) ->
    with(Config, fun(Up) ->
        {ok, _} = bed:call(Up, prompt(#{request_id => <<"well">>})),
        {ok, _} = bed:call(Up, prompt(#{request_id => <<"well">>})),
        set(Up, one, two_providers:fails(400)),
        {error, _} = bed:call(Up, prompt(#{request_id => <<"badly">>,
                                           model => <<"one/small">>})),
        {error, _} = bed:call(Up, prompt(#{request_id => <<"refused">>,
                                           timeout => -1})),
        pong = bed:call(Up, ping),
        soon(fun() ->
            Lines = [L || L <- string:split(router:stderr(bed:router(Up)),
                                            "\n", all),
                          string:find(L, "component=job") =/= nomatch],
            ?assertMatch([_, _, _, _], Lines),
            [Well, Shared, Badly, Refused] = Lines,
            Node = atom_to_list(maps:get(node, bed:caller(Up))),
            has(Well, ["level=info", "request_id=well", "node=" ++ Node,
                       "operation=call_with_prompt", "provider=one",
                       "model=small", "attempts=1", " ms=", "input_tokens=",
                       "output_tokens=", "cost_usd=", "outcome=ok"]),
            has(Shared, ["request_id=well", "outcome=shared"]),
            has(Badly, ["request_id=badly", "http_status=400", "error="]),
            has(Refused, ["outcome=invalid_request", "path=opts.timeout"])
        end)
    end).

has(Line, Parts) ->
    [?assertNotEqual({Part, nomatch}, {Part, string:find(Line, Part)})
     || Part <- Parts].
