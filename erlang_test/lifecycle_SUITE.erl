%% Starting, stopping, and living through what the operating system does: exit
%% codes, signals, epmd, descriptors, logs, secrets.
-module(lifecycle_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"hi">>}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% without a cluster
     wrong_usage_exits_with_2,
     wrong_configuration_exits_with_1,
     a_wrong_cookie_file_exits_with_1,
     questions_are_answered_on_stdout,
     a_checked_configuration_is_not_run,
     %% starting
     a_name_that_is_taken_exits_with_3,
     a_missing_epmd_exits_with_3,
     an_epmd_that_comes_late_is_waited_for,
     a_long_name_is_served,
     the_port_may_be_given,
     the_cookie_may_come_from_a_file,
     the_key_may_come_from_a_file,
     %% living
     a_restarted_epmd_gets_the_name_again,
     a_hangup_is_survived,
     a_log_that_nobody_reads_stops_nothing,
     secrets_and_prompts_are_in_no_log_and_no_error,
     %% stopping
     termination_answers_what_is_in_flight_and_refuses_the_rest,
     termination_waits_no_longer_than_its_limit,
     a_second_termination_ends_at_once,
     an_idle_router_ends_at_once,
     a_killed_router_can_be_started_again_at_once].

init_per_suite(Config) ->
    bed:up(Config, #{router => none}).

end_per_suite(Config) ->
    bed:down(Config).

%% A node name of its own for each test's routers.
init_per_testcase(_Case, Config) ->
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1),
    bed:renamed(Config).

dir(Config) ->
    proplists:get_value(priv_dir, Config).

%% A new file in the test's directory.
file(Config, Text, Mode) ->
    Name = integer_to_list(erlang:unique_integer([positive])),
    File = filename:join(dir(Config), "file-" ++ Name),
    ok = file:write_file(File, Text),
    ok = file:change_mode(File, Mode),
    File.

%% {Status, Stdout, Stderr} of the program with these arguments.
run(Config, Args) ->
    run(Config, Args, [{"OPENAI_API_KEY", "sk-test-key"}]).

run(Config, Args, Env) ->
    router:run(#{dir => dir(Config), cookie => "c", args => Args, env => Env}).

is_one_line(Text) ->
    ?assertEqual(1, length(string:lexemes(Text, "\n"))).

%% ------------------------------------------------------- without a cluster

wrong_usage_exits_with_2(Config) ->
    [?assertMatch({Args, {2, <<>>, <<_, _/binary>>}}, {Args, run(Config, Args)})
     || Args <- [["--nosuch"], ["--config"], ["--sname"], ["file"],
                 ["--sname", "a b"], ["--sname", "a@b@c"], ["--name", "nohost"],
                 ["--sname", "a", "--name", "b@c.d"], ["--connect", "nohost"],
                 ["--connect", ""], ["-v"]]].

wrong_configuration_exits_with_1(Config) ->
    Key = {"OPENAI_API_KEY", "sk-test-key"},
    [begin
         {Status, <<>>, Stderr} = Run = run(Config, ["--check-config"], Env),
         ct:log("~0tp: ~0tp", [Env, Run]),
         ?assertEqual({Env, 1}, {Env, Status}),
         is_one_line(Stderr),
         ?assertEqual(nomatch, string:find(Stderr, "sk-test"))
     end || Env <- [[],
                    [{"OPENAI_API_KEY", ""}],
                    [{"OPENAI_API_KEY", "sk-test\r\nX-Header: 1"}],
                    [Key, {"OPENAI_BASE_URL", "ftp://host/v1"}],
                    [Key, {"OPENAI_BASE_URL", "http://"}],
                    [Key, {"OPENAI_BASE_URL", "https://u:p@host/v1"}],
                    [Key, {"OPENAI_BASE_URL", "no url"}],
                    [{"OPENAI_API_KEY_FILE", "/no/such/file"}],
                    [Key, {"LLM_ROUTER_TIMEOUTS_IDLE_MS", "soon"}],
                    [Key, {"LLM_ROUTER_TIMEOUTS_IDLE_MS", "-1"}],
                    [Key, {"LLM_ROUTER_LOG_LEVEL", "loud"}],
                    [Key, {"LLM_ROUTER_TLS_CA_FILE", "/no/such/file"}]]],
    [begin
         Args = ["--check-config", "--config", File],
         {Status, <<>>, Stderr} = Run = run(Config, Args),
         ct:log("~0tp", [Run]),
         ?assertEqual(1, Status),
         is_one_line(Stderr),
         ?assertNotEqual(nomatch, string:find(Stderr, Named))
     end || {File, Named} <-
                [{"/no/such/file", "/no/such/file"},
                 {"/proc", "/proc"},
                 {file(Config, "{", 8#600), "line 1"},
                 {file(Config, "[]", 8#600), "object"},
                 {file(Config, "{\"nosuch\":{}}", 8#600), "nosuch"},
                 {file(Config, "{\"timeouts\":{\"idle\":1}}", 8#600),
                  "timeouts.idle"},
                 {file(Config, "{\"timeouts\":{\"idle_ms\":\"1\"}}", 8#600),
                  "timeouts.idle_ms"},
                 {file(Config, "{\"timeouts\":{\"idle_ms\":0}}", 8#600),
                  "timeouts.idle_ms"},
                 {file(Config, "{\"timeouts\":{},\"timeouts\":{}}", 8#600),
                  "duplicate"},
                 {file(Config, "{\"providers\":{\"x\":{\"base_url\":\"y\"}}}",
                       8#600), "providers.x"}]].

a_wrong_cookie_file_exits_with_1(Config) ->
    [begin
         {Status, <<>>, Stderr} =
             router:run(#{dir => dir(Config), args => ["--cookie-file", File],
                          env => [{"OPENAI_API_KEY", "sk-test-key"}]}),
         ct:log("~ts", [Stderr]),
         ?assertEqual(1, Status),
         ?assertEqual(nomatch, string:find(Stderr, "tastycookie"))
     end || File <- ["/no/such/file", dir(Config),
                     file(Config, "", 8#600)
                     | [file(Config, "tastycookie", Mode)
                        || Mode <- [8#644, 8#440, 8#604, 8#610, 8#602]]]].

questions_are_answered_on_stdout(Config) ->
    {0, Version, <<>>} = run(Config, ["--version"]),
    ?assertMatch(<<"llm_router ", _/binary>>, Version),
    {0, Help, <<>>} = run(Config, ["--help"]),
    [?assertNotEqual(nomatch, string:find(Help, Option))
     || Option <- ["--config", "--name", "--sname", "--connect",
                   "--cookie-file", "--check-config", "--print-config"]].

a_checked_configuration_is_not_run(Config) ->
    {0, _, _} = run(Config, ["--check-config"]),
    {0, Printed, _} = run(Config, ["--print-config"]),
    ?assertMatch(#{<<"timeouts">> := #{<<"idle_ms">> := _}},
                 test_json:decode(Printed)),
    ?assertEqual(nomatch, string:find(Printed, "sk-test-key")).

%% ---------------------------------------------------------------- starting

a_name_that_is_taken_exits_with_3(Config) ->
    Config1 = bed:start_router(Config, #{}),
    {Status, <<>>, Stderr} =
        router:run(#{dir => dir(Config), cookie => "c",
                     node => bed:node(Config),
                     env => [{"OPENAI_API_KEY", "sk-test-key"},
                             {"LLM_ROUTER_TIMEOUTS_STARTUP_MS", "1000"}]}),
    ct:log("~ts", [Stderr]),
    ?assertEqual(3, Status),
    pong = bed:call(Config1, ping),
    {exited, 0} = bed:stop_router(Config1).

%% A port on which no epmd listens.
a_missing_epmd_exits_with_3(Config) ->
    {Status, <<>>, Stderr} =
        run(Config, ["--sname", atom_to_list(bed:node_name(alone))],
            [{"OPENAI_API_KEY", "sk-test-key"}, {"ERL_EPMD_PORT", "4"},
             {"LLM_ROUTER_TIMEOUTS_STARTUP_MS", "300"}]),
    ct:log("~ts", [Stderr]),
    ?assertEqual(3, Status).

an_epmd_that_comes_late_is_waited_for(Config) ->
    needs_own_epmd(Config),
    Self = self(),
    bed:restart_epmd(
      Config,
      fun() ->
              spawn_link(fun() ->
                                 Self ! {started, bed:start_router(
                                                    Config, #{connect => []})}
                         end),
              timer:sleep(700)
      end),
    Config1 = receive {started, C} -> C end,
    pong = bed:call(Config1, ping),
    {exited, 0} = bed:stop_router(Config1).

needs_own_epmd(Config) ->
    case proplists:get_value(bed, Config) of
        #{epmd := running} -> throw({skip, "epmd here is not ours to stop"});
        _ -> ok
    end.

a_long_name_is_served(Config) ->
    Router = 'long_router@127.0.0.1',
    Caller = bed:start_caller("long", 'long_caller@127.0.0.1'),
    {ok, Running} = router:start(with_provider(Config, Router, "long")),
    {pong, pong} = bed:on(Caller,
                          fun() -> {net_adm:ping(Router),
                                    gen_server:call({llm_router, Router}, ping)}
                          end),
    bed:stop_caller(Caller),
    {exited, 0} = router:stop(Running).

the_port_may_be_given(Config) ->
    Router = bed:node_name(router),
    {ok, Probe} = gen_tcp:listen(0, [{reuseaddr, true}]),
    {ok, Port} = inet:port(Probe),
    ok = gen_tcp:close(Probe),
    #{env := Env} = Opts = with_provider(Config, Router, "port"),
    Variable = {"LLM_ROUTER_NODE_PORT", integer_to_list(Port)},
    {ok, Running} = router:start(Opts#{env => [Variable | Env]}),
    [Name, Host] = string:split(atom_to_list(Router), "@"),
    {port, Port, _} = erl_epmd:port_please(Name, Host),
    {error, {exited, 3, Stderr}} =
        router:start(Opts#{node => bed:node_name(second),
                           env => [Variable | Env]}),
    {_, _} = binary:match(Stderr, integer_to_binary(Port)),
    {exited, 0} = router:stop(Running).

with_provider(Config, Node, Cookie) ->
    Url = scripted_provider:url(bed:provider(Config)),
    #{node => Node, cookie => Cookie, dir => dir(Config),
      env => [{"OPENAI_BASE_URL", binary_to_list(Url)}]}.

%% As erl has it: readable by its owner, and by nobody else.
the_cookie_may_come_from_a_file(Config) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    [begin
         File = file(Config, [Cookie, "\n"], Mode),
         Node = bed:node_name(cookie),
         Opts = maps:remove(cookie, with_provider(Config, Node, "")),
         {ok, Router} = router:start(Opts#{args => ["--cookie-file", File]}),
         pong = bed:on(bed:caller(Config), fun() -> net_adm:ping(Node) end),
         {exited, 0} = router:stop(Router)
     end || Mode <- [8#600, 8#400]].

the_key_may_come_from_a_file(Config) ->
    File = file(Config, <<"sk-from-file\r\n">>, 8#600),
    Config1 = bed:start_router(Config,
                               #{env => [{"OPENAI_API_KEY", false},
                                         {"OPENAI_API_KEY_FILE", File}]}),
    {ok, _} = bed:call(Config1, ?OP),
    [#{headers := #{<<"authorization">> := Header}}] =
        scripted_provider:requests(bed:provider(Config)),
    ?assertEqual(<<"Bearer sk-from-file">>, Header),
    {exited, 0} = bed:stop_router(Config1).

%% ------------------------------------------------------------------ living

a_restarted_epmd_gets_the_name_again(Config) ->
    needs_own_epmd(Config),
    Config1 = bed:start_router(Config, #{}),
    bed:restart_epmd(Config1,
                     fun() ->
                             timer:sleep(300),
                             pong = bed:call(Config1, ping)
                     end),
    [Name, Host] = string:split(atom_to_list(bed:node(Config)), "@"),
    Ms = bed:eventually(
           fun() ->
                   is_tuple(erl_epmd:port_please(Name, Host))
           end),
    ct:log("registered again after ~b ms", [Ms]),
    pong = bed:call(Config1, ping),
    Router = bed:node(Config),
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    New = bed:start_caller(Cookie, bed:node_name(new)),
    pong = bed:on(New, fun() -> net_adm:ping(Router) end),
    bed:stop_caller(New),
    {exited, 0} = bed:stop_router(Config1).

a_hangup_is_survived(Config) ->
    Config1 = bed:start_router(Config, #{}),
    [router:signal(bed:router(Config1), Signal) || Signal <- ["HUP", "PIPE"]],
    pong = bed:call(Config1, ping),
    {exited, 0} = bed:stop_router(Config1).

%% Its stderr is a pipe that is open and never read.
a_log_that_nobody_reads_stops_nothing(Config) ->
    Fifo = filename:join(dir(Config), "log.fifo"),
    "" = os:cmd("mkfifo " ++ Fifo),
    Holder = open_port({spawn_executable, "/bin/sh"},
                       [{args, ["-c", "exec sleep 60 <>" ++ Fifo]}]),
    {os_pid, HolderPid} = erlang:port_info(Holder, os_pid),
    Config1 = bed:start_router(
                Config, #{stderr => Fifo,
                          env => [{"LLM_ROUTER_LOG_LEVEL", "debug"}]}),
    Server = {llm_router, bed:node(Config)},
    pong = bed:on(bed:caller(Config),
                  fun() ->
                          [Server ! {stray, N} || N <- lists:seq(1, 5000)],
                          gen_server:call(Server, ping)
                  end),
    {ok, _} = bed:call(Config1, ?OP),
    #{log_lines_dropped := Dropped} = bed:call(Config1, stats),
    ct:log("~b lines dropped", [Dropped]),
    ?assert(Dropped > 0),
    {exited, 0} = bed:stop_router(Config1),
    os:cmd("kill " ++ integer_to_list(HolderPid)).

secrets_and_prompts_are_in_no_log_and_no_error(Config) ->
    Config1 = bed:start_router(Config,
                               #{env => [{"LLM_ROUTER_LOG_LEVEL", "debug"},
                                         {"LLM_ROUTER_RETRY_MAX", "0"}]}),
    Secret = <<"the merger is on Tuesday">>,
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Echo = fun(#{headers := #{<<"authorization">> := Header}, body := Body}) ->
                   scripted_provider:error(
                     401, bad_key, <<"no: ", Header/binary, Body/binary>>, [])
           end,
    Handlers = [Echo, [reset], [{body, <<"{\"choices\":[{}]}">>}],
                scripted_provider:answer(Secret)],
    scripted_provider:set_handler(bed:provider(Config), Handlers),
    Answers = [bed:call(Config1, {call_with_prompt, simple, Secret})
               || _ <- Handlers]
        ++ [bed:call(Config1, {generate_task, Secret, #{Option => Secret}})
            || Option <- [timeout, colour, model]]
        ++ [bed:call(Config1, {parse_prd, Secret, Secret})],
    Stranger = raw_peer:dial(bed:node(Config)),
    {refused, _} = raw_peer:handshake(Stranger, #{cookie => "no"}),
    gen_tcp:close(Stranger),
    {exited, 0} = bed:stop_router(Config1),
    Log = router:stderr(bed:router(Config1)),
    Errors = unicode:characters_to_binary(
               io_lib:format("~tp", [[E || {error, E} <- Answers]])),
    ?assert(byte_size(Log) > 100),
    [?assertEqual({Part, nomatch}, {Part, string:find(Text, Part)})
     || Text <- [Log, Errors], Part <- ["sk-test-key", "Tuesday", Cookie]].

%% ---------------------------------------------------------------- stopping

%% The provider's answers take this long.
slow_answers(Config, Ms) ->
    scripted_provider:set_handler(
      bed:provider(Config),
      fun(Request) ->
              [{sleep, Ms} | scripted_model:from_document(Request)]
      end).

%% Makes a call in the background; its answer comes as {answer, Answer}.
call_later(Config) ->
    Self = self(),
    spawn_link(fun() -> Self ! {answer, catch bed:call(Config, ?OP)} end),
    scripted_provider:await_requests(bed:provider(Config), 1).

answer() ->
    receive {answer, Answer} -> Answer after 10000 -> none end.

termination_answers_what_is_in_flight_and_refuses_the_rest(Config) ->
    Config1 = bed:start_router(Config, #{}),
    slow_answers(Config, 1500),
    call_later(Config1),
    router:signal(bed:router(Config1), "TERM"),
    timer:sleep(200),
    ?assertMatch({error, {shutting_down, #{message := _}}},
                 bed:call(Config1, ?OP)),
    pong = bed:call(Config1, ping),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}}, answer()),
    {exited, 0} = router:await_exit(bed:router(Config1), 3000),
    1 = length(scripted_provider:requests(bed:provider(Config))).

termination_waits_no_longer_than_its_limit(Config) ->
    Config1 = bed:start_router(
                Config, #{env => [{"LLM_ROUTER_TIMEOUTS_DRAIN_MS", "500"}]}),
    scripted_provider:set_handler(bed:provider(Config), [[hang]]),
    call_later(Config1),
    Start = bed:now_ms(),
    router:signal(bed:router(Config1), "TERM"),
    {exited, 0} = router:await_exit(bed:router(Config1), 5000),
    Ms = bed:now_ms() - Start,
    ct:log("~b ms, ~0tp", [Ms, answer()]),
    ?assert(Ms >= 450),
    ?assert(Ms < bed:limit_ms(3500)),
    [_] = scripted_provider:await_aborted(bed:provider(Config), 1).

a_second_termination_ends_at_once(Config) ->
    Config1 = bed:start_router(Config, #{}),
    scripted_provider:set_handler(bed:provider(Config), [[hang]]),
    call_later(Config1),
    router:signal(bed:router(Config1), "TERM"),
    timer:sleep(300),
    Start = bed:now_ms(),
    router:signal(bed:router(Config1), "TERM"),
    {exited, _} = router:await_exit(bed:router(Config1), 5000),
    ?assert(bed:now_ms() - Start < bed:limit_ms(1500)),
    ?assertNotMatch({ok, _}, answer()).

an_idle_router_ends_at_once(Config) ->
    Config1 = bed:start_router(Config, #{}),
    Start = bed:now_ms(),
    {exited, 0} = bed:stop_router(Config1),
    ?assert(bed:now_ms() - Start < bed:limit_ms(1500)).

%% With a call in flight, which learns of it at once.
a_killed_router_can_be_started_again_at_once(Config) ->
    Provider = bed:provider(Config),
    lists:foldl(fun(_, Acc) ->
                        Next = bed:start_router(Acc, #{}),
                        pong = bed:call(Next, ping),
                        {ok, _} = bed:call(Next, ?OP),
                        scripted_provider:set_handler(Provider, [[hang]]),
                        call_later(Next),
                        Start = bed:now_ms(),
                        bed:kill_router(Next),
                        ?assertMatch({'EXIT', {{nodedown, _}, _}}, answer()),
                        ?assert(bed:now_ms() - Start < bed:limit_ms(1000)),
                        scripted_provider:set_handler(
                          Provider, fun scripted_model:from_document/1),
                        Next
                end, Config, [1, 2, 3]).
