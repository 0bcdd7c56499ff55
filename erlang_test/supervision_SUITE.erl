%% The program under a supervisor of the BEAM: started, told, watched, ended,
%% and never left behind.
-module(supervision_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"hi">>}).
-define(GONE_MS, 2000).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [%% starting
     the_application_starts_a_router_that_answers,
     the_cookie_is_in_no_command_line_and_no_environment,
     a_release_starts_it_by_its_application_file,
     a_long_name_is_served,
     two_nodes_on_one_host_have_a_router_each,
     a_node_that_is_not_alive_is_waited_for,
     it_may_stand_in_a_tree_of_its_own,
     a_router_elsewhere_is_not_started_here,
     %% starting wrongly
     a_wrong_configuration_is_an_error_that_names_the_key,
     a_wrong_option_is_an_error_that_names_it,
     the_start_error_says_what_the_exit_status_means,
     a_start_that_takes_too_long_is_given_up,
     what_is_told_becomes_json,
     %% running
     its_lines_are_log_events,
     its_variables_are_in_no_report,
     a_new_configuration_is_taken_over,
     a_wrong_new_configuration_changes_nothing,
     a_tree_of_its_own_keeps_the_configuration_of_its_options,
     a_killed_program_is_started_again,
     a_program_killed_while_a_script_runs_is_started_again,
     too_many_restarts_end_the_supervisor,
     %% ending
     a_stop_answers_what_is_in_flight,
     a_stop_answers_what_came_through_the_relay_and_tells_telemetry,
     a_stop_takes_no_longer_than_it_may,
     an_end_of_the_node_drains,
     the_program_ends_when_its_node_is_killed,
     the_program_ends_when_its_node_is_killed_while_it_drains,
     the_program_ends_when_its_process_is_killed,
     a_program_that_does_not_end_is_killed,
     %% without
     without_supervision_its_input_means_nothing].

init_per_suite(Config) ->
    bed:up(Config, #{router => none}).

end_per_suite(Config) ->
    bed:down(Config).

init_per_testcase(_Case, Config) ->
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1),
    Config.

%% Nodes of a test are stopped at its end, however it went; no program may be
%% there then.
end_per_testcase(_Case, _Config) ->
    Hosts = [Host || {host, Host} <- erase_hosts()],
    lists:foreach(fun bed:stop_caller/1, Hosts),
    AllGone = fun() -> programs() =:= [] end,
    Result = bed:must(fun() -> bed:eventually(AllGone) end),
    [signal(OsPid, "KILL") || OsPid <- programs()],
    Result.

%% ------------------------------------------------------------------- nodes

%% A node that can host a router. It is stopped at the end of the test.
host(Config) ->
    host(Config, bed:node_name(host), #{}).

host(Config, Node, Opts) ->
    keep(bed:start_caller(cookie(Config), Node, Opts)).

%% Tests and end_per_testcase run in different processes.
keep(Host) ->
    Hosts = persistent_term:get(?MODULE, []),
    persistent_term:put(?MODULE, [{host, Host} | Hosts]),
    Host.

erase_hosts() ->
    Hosts = persistent_term:get(?MODULE, []),
    persistent_term:put(?MODULE, []),
    Hosts.

cookie(Config) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Cookie.

%% Options of a router that knows the bed's provider and no others.
options(Config) ->
    Url = scripted_provider:url(bed:provider(Config)),
    Options = #{config => #{providers => #{openai => #{base_url => Url}}},
                env => [{"OPENAI_API_KEY", "sk-test-key"} | cleared()]},
    case os:getenv("LLM_ROUTER_BIN") of
        false -> Options;
        Program -> Options#{program => Program}
    end.

cleared() ->
    [{Name, false} || {Name, _} <- os:env(),
                      re:run(Name, "_KEY|_BASE_URL|OLLAMA|COOKIE|^LLM_ROUTER")
                          =/= nomatch,
                      Name =/= "LLM_ROUTER_PRIV_DIR"].

%% Starts the application on a node, with these in its environment.
start(Host, Options) ->
    bed:on(Host,
           fun() ->
                   _ = application:load(llm_router),
                   [application:set_env(llm_router, Key, Value)
                    || {Key, Value} <- maps:to_list(Options)],
                   application:ensure_all_started(llm_router)
           end).

stop(Host) ->
    bed:on(Host, fun() -> application:stop(llm_router) end).

start(Config) ->
    Host = host(Config),
    {ok, _} = start(Host, options(Config)),
    Host.

os_pid(Host) ->
    bed:on(Host, fun llm_router_program:os_pid/0).

router_node(#{node := Node}) ->
    list_to_atom("llm_router_" ++ atom_to_list(Node)).

%% A call from a node to its own router.
call(Host, Op) ->
    Server = {llm_router, router_node(Host)},
    bed:on(Host, fun() -> gen_server:call(Server, Op, 20000) end).

%% Its answer comes as {answer, Answer}.
call_later(Config, Host) ->
    call_later(Config, {llm_router, router_node(Host)}, ?OP).

call_later(Config, Server, Op) ->
    Self = self(),
    Caller = bed:caller(Config),
    spawn_link(fun() ->
                       Call = fun() -> gen_server:call(Server, Op, 60000) end,
                       Self ! {answer, catch bed:on(Caller, Call)}
               end),
    scripted_provider:await_requests(bed:provider(Config), 1).

answer() ->
    receive {answer, Answer} -> Answer after 20000 -> none end.

handler(Config, Handler) ->
    scripted_provider:set_handler(bed:provider(Config), Handler).

slow(Ms) ->
    fun(Request) -> [{sleep, Ms} | scripted_model:from_document(Request)] end.

%% --------------------------------------------------------------- processes

%% Whoever should have waited for a process may be gone: a zombie is none.
is_running(OsPid) ->
    case file:read_file(["/proc/", integer_to_list(OsPid), "/stat"]) of
        {ok, Stat} -> re:run(Stat, "\\) [ZX] ") =:= nomatch;
        {error, _} -> false
    end.

%% Milliseconds until it is gone.
await_gone(OsPid) ->
    Ms = bed:eventually(fun() -> not is_running(OsPid) end, 10000),
    ct:log("gone after ~b ms", [Ms]),
    Ms.

signal(OsPid, Name) ->
    "" = os:cmd("kill -s " ++ Name ++ " " ++ integer_to_list(OsPid)),
    ok.

%% Supervised programs of this run's nodes.
programs() ->
    Ours = "^ *([0-9]+) [^Z].*--supervised.*host_" ++ os:getpid() ++ "[_@]",
    [list_to_integer(OsPid)
     || Line <- string:lexemes(os:cmd("ps -e -o pid=,stat=,args="), "\n"),
        {match, [OsPid]} <- [re:run(Line, Ours, [{capture, [1], list}])]].

%% ---------------------------------------------------------------- starting

the_application_starts_a_router_that_answers(Config) ->
    Host = start(Config),
    Router = router_node(Host),
    ?assertEqual(pong, call(Host, ping)),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}}, call(Host, ?OP)),
    %% It has connected by itself, and has the global name there.
    bed:eventually(
      fun() ->
              Router =:= bed:on(Host, fun() ->
                  case global:whereis_name(llm_router) of
                      undefined -> undefined;
                      Pid -> node(Pid)
                  end
              end)
      end),
    ?assertMatch(#{node := Router, mode := supervised},
                 bed:on(Host, fun() ->
                     persistent_term:get({llm_router, options})
                 end)),
    OsPid = os_pid(Host),
    ?assertEqual(ok, stop(Host)),
    ?assertNot(is_running(OsPid)).

the_cookie_is_in_no_command_line_and_no_environment(Config) ->
    Cookie = cookie(Config),
    Host = host(Config, bed:node_name(host),
                #{env => [{"RELEASE_COOKIE", Cookie}]}),
    {ok, _} = start(Host, options(Config)),
    ?assertEqual(pong, call(Host, ping)),
    OsPid = integer_to_list(os_pid(Host)),
    Shown = [os:cmd("cat /proc/" ++ OsPid ++ "/" ++ File)
             || File <- ["cmdline", "environ"]]
        ++ [Line || Line <- string:lexemes(os:cmd("ps -ef e"), "\n"),
                    hd(tl(string:lexemes(Line, " "))) =:= OsPid],
    ct:log("~tp", [Shown]),
    ?assertEqual(3, length(Shown)),
    [?assertEqual(nomatch, string:find(Text, Part))
     || Text <- Shown, Part <- [Cookie, "base_url"]],
    ?assertNotEqual(nomatch, string:find(hd(Shown), "--supervised")).

a_release_starts_it_by_its_application_file(Config) ->
    Host = host(Config),
    Modules = bed:on(Host,
                     fun() ->
                             ok = application:load(llm_router),
                             {ok, {Module, _}} =
                                 application:get_key(llm_router, mod),
                             {ok, Registered} =
                                 application:get_key(llm_router, registered),
                             [Module | Registered]
                     end),
    ?assertEqual([], [llm_router_app, llm_router_sup, llm_router_program]
                 -- Modules),
    {ok, [llm_router]} = start(Host, options(Config)),
    ?assertEqual([llm_router_telemetry, llm_router_program], children(Host)).

%% In the order in which they were started.
children(Host) ->
    Children = bed:on(Host,
                      fun() -> supervisor:which_children(llm_router_sup) end),
    [Id || {Id, Pid, _, _} <- lists:reverse(Children), is_pid(Pid)].

a_long_name_is_served(Config) ->
    Host = host(Config, list_to_atom("host_" ++ os:getpid() ++ "@127.0.0.1"),
                #{}),
    {ok, _} = start(Host, options(Config)),
    ?assertEqual(pong, call(Host, ping)).

two_nodes_on_one_host_have_a_router_each(Config) ->
    Hosts = [start(Config), start(Config)],
    ?assertEqual([pong, pong], [call(Host, ping) || Host <- Hosts]),
    ?assertEqual(2, length(lists:usort([os_pid(Host) || Host <- Hosts]))).

%% A node without a name; it gets one later.
a_node_that_is_not_alive_is_waited_for(Config) ->
    {ok, Peer, _} = peer:start(#{connection => standard_io,
                                 args => ["-pa", filename:dirname(
                                                   code:which(?MODULE)),
                                          "-setcookie", "none",
                                          "-kernel", "logger_level", "none"]}),
    Node = bed:node_name(host),
    Host = keep(#{peer => Peer, node => Node}),
    log_to_me(Host),
    {ok, _} = start(Host, options(Config)),
    #{level := warning, msg := {string, Says}} =
        next_event(Host, fun(#{level := Level}) -> Level =:= warning end),
    ?assertNotEqual(nomatch, string:find(Says, "net_kernel:start")),
    ?assertEqual(undefined, os_pid(Host)),
    Cookie = list_to_atom(cookie(Config)),
    Now = bed:now_ms(),
    bed:on(Host, fun() ->
                         {ok, _} = net_kernel:start([Node, shortnames]),
                         erlang:set_cookie(Cookie)
                 end),
    bed:eventually(fun() -> is_integer(os_pid(Host)) end),
    ct:log("ready ~b ms after the node", [bed:now_ms() - Now]),
    ?assertEqual(pong, call(Host, ping)),
    Router = router_node(Host),
    ?assertMatch(#{node := Router},
                 bed:on(Host, fun() ->
                     persistent_term:get({llm_router, options})
                 end)).

it_may_stand_in_a_tree_of_its_own(Config) ->
    Host = host(Config),
    {ok, _} = start(Host, #{mode => none}),
    ?assertEqual(undefined, bed:on(Host, fun() -> whereis(llm_router_sup) end)),
    Options = maps:to_list(options(Config)),
    Tree = bed:on(Host,
                  fun() ->
                          Spec = llm_router_sup:child_spec(Options),
                          {ok, Pid} = supervisor:start_link(?MODULE, [Spec]),
                          unlink(Pid),
                          Pid
                  end),
    ?assertEqual(pong, call(Host, ping)),
    OsPid = os_pid(Host),
    bed:on(Host, fun() -> gen_server:stop(Tree, shutdown, 10000) end),
    ?assertNot(is_running(OsPid)).

%% A supervisor of the one above.
init(Children) ->
    {ok, {#{}, Children}}.

a_router_elsewhere_is_not_started_here(Config) ->
    Config1 = bed:start_router(bed:renamed(Config), #{}),
    Host = host(Config),
    Node = bed:node(Config1),
    {ok, _} = start(Host, #{mode => external, node => Node,
                            telemetry => false}),
    ?assertEqual([], children(Host)),
    ?assertMatch(#{node := Node, mode := external},
                 bed:on(Host, fun() ->
                     persistent_term:get({llm_router, options})
                 end)),
    ok = stop(Host),
    ?assertEqual(pong, bed:call(Config1, ping)),
    {exited, 0} = bed:stop_router(Config1).

%% -------------------------------------------------------- starting wrongly

a_wrong_configuration_is_an_error_that_names_the_key(Config) ->
    Host = host(Config),
    #{config := Good} = Options = options(Config),
    [begin
         {error, {llm_router, Reason}} =
             start(Host, Options#{config => maps:merge(Good, Bad)}),
         ct:log("~tp", [Reason]),
         Text = unicode:characters_to_binary(io_lib:format("~tp", [Reason])),
         ?assertNotEqual(nomatch, binary:match(Text, Says))
     end || {Bad, Says} <-
                [{#{limits => #{in_flight => 0}},
                  <<"config: limits.in_flight: 0 is not between">>},
                 {#{limits => [{in_flihgt, 1}]},
                  <<"limits.in_flihgt: there is no such key">>},
                 {#{routes => [{simple, [self()]}]},
                  <<"{bad_config,<<\"config.routes.simple[0]\">>">>}]],
    ?assertMatch({ok, _}, start(Host, Options)).

a_wrong_option_is_an_error_that_names_it(Config) ->
    Host = host(Config),
    [begin
         Fun = fun() -> llm_router_sup:start_link([{Key, Value}]) end,
         ?assertMatch({error, {bad_option, Key, _}}, bed:on(Host, Fun))
     end || {Key, Value} <- [{mode, often}, {node, "a@b"}, {node, nohost},
                             {config, 3}, {env, 3}, {args, <<"--help">>},
                             {connect, [nohost]}, {start_timeout, 0},
                             {shutdown, -1}, {intensity, 5}, {relay, 1},
                             {relay, [{value, nodes}]}, {relay, [registry]},
                             {telemetry, [{scope, galaxy}]},
                             {telemetry, #{summary_ms => 0}},
                             {partisan, [{name, "bridge"}]},
                             {colour, red}]].

the_start_error_says_what_the_exit_status_means(Config) ->
    Host = host(Config),
    Options = options(Config),
    #{env := Env} = Options,
    Meant = fun(More) ->
                    {error, {llm_router, Reason}} =
                        start(Host, maps:merge(Options, More)),
                    ct:log("~tp", [Reason]),
                    {{shutdown, {failed_to_start_child, llm_router_program,
                                 Why}}, _} = Reason,
                    Why
            end,
    ?assertMatch({exit_status, configuration, <<"OPENAI_API_KEY", _/binary>>},
                 Meant(#{env => Env ++ [{"OPENAI_API_KEY", "a\nb"}]})),
    ?assertMatch({exit_status, usage, <<"--nosuch", _/binary>>},
                 Meant(#{env => Env, args => ["--nosuch"]})),
    %% A port that is taken.
    {ok, Taken} = gen_tcp:listen(0, []),
    {ok, Port} = inet:port(Taken),
    ?assertMatch({exit_status, cannot_start, <<"cannot start", _/binary>>},
                 Meant(#{args => [],
                         env => [{"LLM_ROUTER_NODE_PORT", Port} | Env]})),
    ?assertMatch({port, enoent}, Meant(#{program => "/no/such/program"})),
    [?assertMatch({port, {bad_option, env, _}}, Meant(#{env => Wrong}))
     || Wrong <- [["OPENAI_API_KEY=sk-test-key"], [{"A", {b}}],
                  [{"A", <<255>>}], fun() -> 7 end]].

what_is_told_becomes_json(_Config) ->
    Encode = fun(Term) ->
                     {ok, Text} = llm_router_json:encode(Term),
                     nomatch = binary:match(Text, <<"\n">>),
                     test_json:decode(Text)
             end,
    [?assertEqual({Term, Json}, {Term, Encode(Term)})
     || {Term, Json} <-
            [{#{a => 1, <<"b">> => -2}, #{<<"a">> => 1, <<"b">> => -2}},
             {[{a, [{b, c}]}, {<<"d">>, []}],
              #{<<"a">> => #{<<"b">> => <<"c">>}, <<"d">> => []}},
             {[true, false, null, nil, undefined, text],
              [true, false, null, null, null, <<"text">>]},
             {"ab", "ab"},
             {[1.5, 1.0e100, 0.1, -0.0], [1.5, 1.0e100, 0.1, -0.0]},
             {<<"\"\\\n\t", 0, 31, 127, "é€😀"/utf8>>,
              <<"\"\\\n\t", 0, 31, 127, "é€😀"/utf8>>},
             {#{}, #{}}]],
    [?assertMatch({Term, {error, {Path, <<"must ", _/binary>>}}},
                  {Term, llm_router_json:encode(Term)})
     || {Term, Path} <-
            [{self(), <<>>},
             {#{a => [1, #{b => {1, 2, 3}}]}, <<"a[1].b">>},
             {[[1], [2, [make_ref()]]], <<"[1][1][0]">>},
             {[{a, 1}, b], <<>>},
             {[1, {a, 1}], <<"[1]">>},
             {#{a => #{1 => 2}}, <<"a">>},
             {#{a => [1 | 2]}, <<"a">>},
             {#{a => <<255>>}, <<"a">>},
             {#{<<200>> => 1}, <<>>}]].

a_start_that_takes_too_long_is_given_up(Config) ->
    Host = host(Config),
    Script = filename:join(proplists:get_value(priv_dir, Config), "mute"),
    ok = file:write_file(Script, "#!/bin/sh\necho $$ >&2\nexec sleep 60 # $*"),
    ok = file:change_mode(Script, 8#755),
    log_to_me(Host),
    {error, Reason} = start(Host, (options(Config))#{program => Script,
                                                     start_timeout => 300}),
    ct:log("~tp", [Reason]),
    #{msg := {string, OsPid}} =
        next_event(Host, fun(#{level := Level}) -> Level =:= notice end),
    ?assertNot(is_running(binary_to_integer(OsPid))).

%% ----------------------------------------------------------------- running

%% The log events of a node come to this process.
log_to_me(Host) ->
    Self = self(),
    Relay = spawn_link(fun() -> poll_events(Host, Self) end),
    bed:on(Host,
           fun() ->
                   register(log_events, spawn(fun() -> keep_events([]) end)),
                   ok = logger:set_primary_config(level, all),
                   ok = logger:add_handler(?MODULE, ?MODULE, #{level => all})
           end),
    Relay ! go,
    ok.

poll_events(Host, To) ->
    receive go -> ok end,
    poll_events_now(Host, To).

%% A node that ends ends this, too.
poll_events_now(#{node := Node} = Host, To) ->
    Take = fun() ->
                   log_events ! {take, self()},
                   receive {events, Events} -> Events end
           end,
    try bed:on(Host, Take) of
        Events ->
            [To ! {event, Node, Event} || Event <- Events],
            timer:sleep(20),
            poll_events_now(Host, To)
    catch
        _:_ -> ok
    end.

keep_events(Events) ->
    receive
        {event, Event} -> keep_events([Event | Events]);
        {take, From} -> From ! {events, lists:reverse(Events)}, keep_events([])
    end.

%% The handler of the logger.
log(#{meta := #{domain := [llm_router | _]}} = Event, _) ->
    log_events ! {event, Event};
log(#{level := Level} = Event, _) when Level =:= error; Level =:= info ->
    log_events ! {event, Event};
log(_, _) ->
    ok.

next_event(#{node := Node} = Host, Is) ->
    receive
        {event, Node, Event} ->
            case Is(Event) of
                true -> Event;
                false -> next_event(Host, Is)
            end
    after bed:limit_ms(5000) ->
            error(no_such_event)
    end.

its_lines_are_log_events(Config) ->
    Host = host(Config),
    log_to_me(Host),
    {ok, _} = start(Host, options(Config)),
    OsPid = os_pid(Host),
    Ready = fun(#{msg := {string, Text}}) ->
                    string:prefix(Text, "ready ") =/= nomatch;
               (_) -> false
            end,
    #{level := info, meta := Meta, msg := {string, Text}} =
        next_event(Host, Ready),
    ?assertMatch(#{domain := [llm_router], component := <<"server">>,
                   os_pid := OsPid}, Meta),
    #{fields := #{<<"node">> := Node}} = Meta,
    ?assertEqual(<<"ready node=", Node/binary>>, Text),
    %% The configuration that it is told is none.
    ok = bed:on(Host, fun() ->
                          llm_router_program:configure(#{nosuch => 1})
                      end),
    #{level := error, msg := {string, Says}} =
        next_event(Host, fun(#{level := Level}) -> Level =:= error end),
    ?assertNotEqual(nomatch, string:find(Says, "config: nosuch: there is no")).

%% Neither in those of a supervisor that cannot start it, nor of one that has.
its_variables_are_in_no_report(Config) ->
    Host = host(Config),
    log_to_me(Host),
    #{config := Good} = Options = options(Config),
    {error, _} = start(Host, Options#{config => #{nosuch => 1}}),
    {ok, _} = start(Host, Options#{config => Good}),
    signal(os_pid(Host), "KILL"),
    Crashed = fun(#{msg := {report, Report}}) ->
                      string:find(io_lib:format("~tp", [Report]), "signal")
                          =/= nomatch;
                 (_) -> false
              end,
    _ = next_event(Host, Crashed),
    bed:eventually(fun() -> is_integer(catch os_pid(Host)) end),
    timer:sleep(200),
    Events = bed:drain(),
    State = bed:on(Host, fun() ->
                             [sys:get_status(llm_router_program),
                              sys:get_status(llm_router_sup),
                              persistent_term:get()]
                         end),
    ?assert(length(Events) > 0),
    Text = unicode:characters_to_binary(
             io_lib:format("~tp", [[Events, State]])),
    ?assertEqual(nomatch, binary:match(Text, <<"sk-test-key">>)).

a_new_configuration_is_taken_over(Config) ->
    Host = start(Config),
    #{config := Good} = options(Config),
    ?assertMatch({ok, #{model := <<"gpt", _/binary>>}}, call(Host, ?OP)),
    New = Good#{routes => #{simple => [<<"openai/other">>]}},
    ok = bed:on(Host, fun() -> llm_router_program:configure(New) end),
    Asked = fun() ->
                    {ok, #{model := Model}} = call(Host, ?OP),
                    Model
            end,
    bed:eventually(fun() -> Asked() =:= <<"other">> end),
    %% A reload, and a new start, are made with it.
    ok = call(Host, reload),
    ?assertEqual(<<"other">>, Asked()),
    signal(os_pid(Host), "KILL"),
    bed:eventually(fun() -> (catch Asked()) =:= <<"other">> end),
    %% As a release handler would say it.
    bed:on(Host, fun() ->
                         llm_router_app:config_change([{config, Good}], [], [])
                 end),
    bed:eventually(fun() -> Asked() =/= <<"other">> end).

a_wrong_new_configuration_changes_nothing(Config) ->
    Host = start(Config),
    ?assertMatch({error, {bad_config, <<"config.a">>, _}},
                 bed:on(Host, fun() ->
                                  llm_router_program:configure(#{a => self()})
                              end)),
    ?assertMatch({error, {bad_config, <<"config">>, _}},
                 bed:on(Host, fun() -> llm_router_program:configure(42) end)),
    ?assertEqual({error, file},
                 bed:on(Host, fun() ->
                                  llm_router_program:configure("other.json")
                              end)),
    ok = bed:on(Host, fun() -> llm_router_program:configure(#{a => 1}) end),
    bed:eventually(fun() ->
                       #{reloads_failed := N} = call(Host, stats),
                       N =:= 1
                   end),
    ?assertMatch({ok, _}, call(Host, ?OP)).

a_tree_of_its_own_keeps_the_configuration_of_its_options(Config) ->
    Host = host(Config),
    {ok, _} = start(Host, #{mode => none}),
    #{config := Good} = Options = options(Config),
    New = Good#{routes => #{simple => [<<"openai/other">>]}},
    bed:on(Host, fun() ->
                         {ok, Tree} = llm_router_sup:start_link(Options),
                         unlink(Tree),
                         llm_router_app:config_change([{config, New}], [], [])
                 end),
    %% What the program was told before is taken over before this.
    ok = call(Host, reload),
    {ok, #{model := Model}} = call(Host, ?OP),
    ?assertNotEqual(<<"other">>, Model).

a_killed_program_is_started_again(Config) ->
    Host = start(Config),
    OsPid = os_pid(Host),
    signal(OsPid, "KILL"),
    Ms = bed:eventually(fun() -> (catch call(Host, ping)) =:= pong end),
    ct:log("answers again after ~b ms", [Ms]),
    ?assertNotEqual(OsPid, os_pid(Host)),
    ?assertMatch({ok, _}, call(Host, ?OP)).

%% A script runs in a process of its own, which has the program's stderr: were
%% it left behind, nobody would hear of the program's end.
a_program_killed_while_a_script_runs_is_started_again(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    ok = file:write_file(filename:join(Dir, "endless.lua"),
                         "string.find(('a'):rep(40), ('a-'):rep(30) .. 'b')"),
    Host = host(Config),
    #{config := Given} = Options = options(Config),
    Scripts = #{path => unicode:characters_to_binary(Dir), time_ms => 60000},
    {ok, _} = start(Host, Options#{config => Given#{scripts => Scripts}}),
    OsPid = os_pid(Host),
    Self = self(),
    spawn_link(fun() ->
                       Op = {call_with_script, <<"endless.lua">>, #{}},
                       Self ! {answer, catch call(Host, Op)}
               end),
    bed:eventually(fun() ->
                       os:cmd("ps -o pid= --ppid " ++ integer_to_list(OsPid))
                           =/= ""
                   end),
    timer:sleep(200),
    signal(OsPid, "KILL"),
    bed:eventually(fun() -> (catch call(Host, ping)) =:= pong end),
    ?assertNotEqual(OsPid, os_pid(Host)),
    ?assertMatch({'EXIT', _}, answer()).

too_many_restarts_end_the_supervisor(Config) ->
    Host = host(Config),
    Options = (options(Config))#{intensity => {1, 60}},
    {Sup, Monitor} =
        bed:on(Host,
               fun() ->
                       Self = self(),
                       Pid = spawn(fun() -> watch(Options, Self) end),
                       receive {started, Sup} -> {Sup, Pid} end
               end),
    signal(os_pid(Host), "KILL"),
    bed:eventually(fun() -> (catch call(Host, ping)) =:= pong end),
    ?assert(bed:on(Host, fun() -> is_process_alive(Sup) end)),
    signal(os_pid(Host), "KILL"),
    bed:eventually(fun() ->
                       not bed:on(Host, fun() -> is_process_alive(Sup) end)
                   end),
    ?assertEqual(shutdown, bed:on(Host, fun() ->
                                            Monitor ! {reason, self()},
                                            receive {reason, R} -> R end
                                        end)).

%% The parent of a supervisor; says why it ended.
watch(Options, Starter) ->
    process_flag(trap_exit, true),
    {ok, Sup} = llm_router_sup:start_link(Options),
    Starter ! {started, Sup},
    receive
        {'EXIT', Sup, Reason} ->
            receive {reason, From} -> From ! {reason, Reason} end
    end.

%% ------------------------------------------------------------------ ending

a_stop_answers_what_is_in_flight(Config) ->
    Host = start(Config),
    OsPid = os_pid(Host),
    handler(Config, slow(1500)),
    call_later(Config, Host),
    ok = stop(Host),
    ?assertNot(is_running(OsPid)),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}}, answer()).

a_stop_answers_what_came_through_the_relay_and_tells_telemetry(Config) ->
    #{node := Node} = Host = host(Config),
    bed:on(Host, fun() ->
                         ok = telemetry_standin:start(),
                         ok = standin:load(telemetry, telemetry_standin)
                 end),
    {ok, _} = start(Host, (options(Config))#{relay => true,
                                             telemetry => [{scope, cluster}]}),
    Relay = {llm_router_relay, Node},
    bed:eventually(fun() ->
                       pong =:= bed:on(Host, fun() ->
                                           gen_server:call(Relay, ping)
                                       end)
                   end),
    handler(Config, slow(1500)),
    call_later(Config, Relay, ?OP),
    ok = stop(Host),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}}, answer()),
    ?assertMatch([{[_, _, start], _, _}, {[_, _, stop], _, _}],
                 bed:on(Host, fun telemetry_standin:events/0)).

a_stop_takes_no_longer_than_it_may(Config) ->
    Host = host(Config),
    {ok, _} = start(Host, (options(Config))#{shutdown => 5000}),
    OsPid = os_pid(Host),
    handler(Config, [[hang]]),
    call_later(Config, Host),
    Start = bed:now_ms(),
    ok = stop(Host),
    Ms = bed:now_ms() - Start,
    ct:log("stopped after ~b ms", [Ms]),
    ?assertNot(is_running(OsPid)),
    ?assertMatch({error, {shutting_down, _}}, answer()),
    ?assert(Ms < bed:limit_ms(5000)).

an_end_of_the_node_drains(Config) ->
    Host = start(Config),
    OsPid = os_pid(Host),
    handler(Config, slow(1500)),
    call_later(Config, Host),
    bed:on(Host, fun init:stop/0),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}}, answer()),
    await_gone(OsPid).

the_program_ends_when_its_node_is_killed(Config) ->
    Host = start(Config),
    OsPid = os_pid(Host),
    handler(Config, [[hang]]),
    call_later(Config, Host),
    bed:kill_caller(Host),
    ?assert(await_gone(OsPid) < bed:limit_ms(?GONE_MS)),
    ?assertMatch({error, {shutting_down, _}}, answer()).

the_program_ends_when_its_node_is_killed_while_it_drains(Config) ->
    Host = start(Config),
    OsPid = os_pid(Host),
    handler(Config, [[hang]]),
    call_later(Config, Host),
    signal(OsPid, "TERM"),
    timer:sleep(300),
    ?assert(is_running(OsPid)),
    bed:kill_caller(Host),
    ?assert(await_gone(OsPid) < bed:limit_ms(?GONE_MS)),
    ?assertMatch({error, {shutting_down, _}}, answer()).

%% The next one has the name as soon as the old one is gone.
the_program_ends_when_its_process_is_killed(Config) ->
    Host = start(Config),
    OsPid = os_pid(Host),
    bed:on(Host, fun() -> exit(whereis(llm_router_program), kill) end),
    ?assert(await_gone(OsPid) < bed:limit_ms(?GONE_MS)),
    bed:eventually(fun() -> (catch call(Host, ping)) =:= pong end),
    ?assertNotEqual(OsPid, os_pid(Host)).

a_program_that_does_not_end_is_killed(Config) ->
    Host = host(Config),
    {ok, _} = start(Host, (options(Config))#{shutdown => 2000}),
    OsPid = os_pid(Host),
    signal(OsPid, "STOP"),
    Start = bed:now_ms(),
    ok = stop(Host),
    ct:log("stopped after ~b ms", [bed:now_ms() - Start]),
    ?assertNot(is_running(OsPid)).

%% ----------------------------------------------------------------- without

%% Its standard input is /dev/null (see router.erl), as under systemd.
without_supervision_its_input_means_nothing(Config) ->
    Config1 = bed:start_router(bed:renamed(Config), #{}),
    timer:sleep(500),
    ?assertEqual(pong, bed:call(Config1, ping)),
    {exited, 0} = bed:stop_router(Config1),
    {1, <<>>, Says} =
        router:run(#{dir => proplists:get_value(priv_dir, Config),
                     args => ["--supervised"],
                     env => [{"OPENAI_API_KEY", "sk-test-key"}]}),
    ?assertNotEqual(nomatch, string:find(Says, "needs a pipe")).
