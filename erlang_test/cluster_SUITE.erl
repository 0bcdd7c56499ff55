%% Several routers and several nodes, while processes are killed, stopped and
%% replaced and the network between them is held: one router has the name, each
%% call is answered at most once, and nobody waits for what is gone.
-module(cluster_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(TICK_MS, 4000).
-define(TAKE_OVER_MS, 5000).
%% Silence is noticed after the tick time and a quarter of it, the router looks
%% twice; the rest is for a busy machine.
-define(NOTICED_MS, 10000).
-define(BACK_MS, 20000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [%% several routers, one name
     the_standby_takes_over_from_a_killed_holder,
     the_standby_takes_over_from_a_terminated_holder,
     the_standby_takes_over_from_a_draining_holder,
     the_end_of_a_standby_is_not_noticed,
     two_routers_drain_at_once,
     a_draining_router_answers_a_busy_node,
     every_router_has_a_global_name_of_its_own,
     every_way_to_call_reaches_the_router_that_is_meant,
     all_nodes_restart_and_one_router_has_the_name,
     epmd_restarts_and_knows_all_routers_again,
     %% calls to a router that dies
     calls_in_flight_end_at_once_when_the_router_is_killed,
     answers_racing_with_a_kill_come_at_most_once,
     a_new_router_under_an_old_node_name_is_reached_at_once,
     %% networks that hold the bytes
     split_clusters_merge_and_one_router_has_the_name,
     a_held_link_is_given_up_and_its_bytes_come_late,
     a_held_link_is_given_up_and_its_bytes_are_lost,
     answers_written_into_a_held_link_reach_nobody_later,
     a_short_hold_loses_nothing,
     a_link_that_is_cut_is_made_again,
     %% processes that stand still
     a_router_stopped_for_long_is_found_again,
     a_router_stopped_for_a_moment_loses_nothing,
     a_stopped_peer_holds_up_nobody,
     a_stopped_peer_that_is_owed_much_is_given_up,
     a_stopped_peer_delays_a_take_over_until_it_is_given_up,
     %% nodes that come again
     a_node_name_is_used_again_at_once,
     a_node_that_stands_still_is_replaced_by_a_new_one].

%% Each test has a bed of its own, with a short tick time on both sides.
init_per_testcase(_Case, Config) ->
    Tick = integer_to_list(?TICK_MS),
    bed:up(Config, #{router => none, callers => 2, caller => caller_opts(),
                     env => [{"LLM_ROUTER_NODE_TICK_TIME_MS", Tick},
                             {"LLM_ROUTER_LIMITS_SEND_QUEUE_BYTES",
                              "4194304"}]}).

end_per_testcase(_Case, Config) ->
    bed:down(Config).

caller_opts() ->
    #{args => ["-kernel", "net_ticktime", integer_to_list(?TICK_MS div 1000)]}.

callers(Config) ->
    maps:get(callers, proplists:get_value(bed, Config)).

start_caller(Config, Node) ->
    start_caller(Config, Node, []).

start_caller(Config, Node, Env) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    bed:start_caller(Cookie, Node, (caller_opts())#{env => Env}).

connect(Caller, Node) ->
    bed:on(Caller, fun() -> net_kernel:connect_node(Node) end).

%% A stopped node cannot be asked for it.
os_pid(Caller) ->
    bed:on(Caller, fun os:getpid/0).

signal(OsPid, Signal) ->
    "" = os:cmd("kill -s " ++ Signal ++ " " ++ OsPid).

%% ------------------------------------------------------------------ names

%% The node of the one that has a global name, as a caller's node knows it.
holder(Caller, Name) ->
    bed:on(Caller, fun() ->
                           case global:whereis_name(Name) of
                               undefined -> undefined;
                               Pid -> node(Pid)
                           end
                   end).

is_held(Callers, Name, Node) ->
    lists:all(fun(Caller) -> holder(Caller, Name) =:= Node end, Callers).

%% All have it by that name, and it answers.
is_found(Callers, Name, Node) ->
    is_held(Callers, Name, Node)
        andalso lists:all(fun(Caller) ->
                                  answers_as(Caller, {global, Name}) =:= Node
                          end, Callers).

answers_as(Caller, Server) ->
    bed:on(Caller,
           fun() ->
                   try gen_server:call(Server, version, 2000) of
                       #{node := Node} -> binary_to_atom(Node)
                   catch exit:_ -> none
                   end
           end).

await_found(Callers, Name, Node) ->
    await_found(Callers, Name, Node, ?BACK_MS).

await_found(Callers, Name, Node, Ms) ->
    After = bed:eventually(fun() -> is_found(Callers, Name, Node) end, Ms),
    ct:log("~0tp on ~s found after ~b ms", [Name, Node, After]),
    After.

%% Says whether Fun holds, again and again, for so long.
always(Fun, Ms) ->
    Deadline = bed:now_ms() + Ms,
    always_until(Fun, Deadline).

always_until(Fun, Deadline) ->
    true = Fun(),
    timer:sleep(50),
    bed:now_ms() > Deadline orelse always_until(Fun, Deadline).

%% Two routers, of which the first has the name.
start_pair(Config) ->
    [First, Second] = [bed:node_name(router) || _ <- [1, 2]],
    start_pair(Config, {First, []}, {Second, []}).

start_pair(Config, {First, FirstEnv}, {Second, SecondEnv}) ->
    Holder = start(Config, First, FirstEnv),
    await_found(callers(Config), llm_router, First),
    [Holder, start(Config, Second, SecondEnv)].

start(Config, Node) ->
    start(Config, Node, []).

%% With Env before that of the bed.
start(Config, Node, Env) ->
    #{opts := #{env := BedEnv}} = proplists:get_value(bed, Config),
    bed:run_router(Config, Node, #{env => Env ++ BedEnv}).

stop(Routers) ->
    [{exited, 0} = router:stop(Router) || Router <- Routers].

health(Caller, Router) ->
    bed:on(Caller, fun() -> gen_server:call({llm_router, Router}, health) end).

node_stats(Caller, Router) ->
    #{node := Stats} =
        bed:on(Caller,
               fun() -> gen_server:call({llm_router, Router}, stats) end),
    Stats.

%% ------------------------------------------------------------------ asking

%% Questions from a caller's node, each in a process of its own, with a prompt
%% of its own, in the ways given. The processes end with their node.
ask(Caller, Router, Forms) ->
    bed:on(Caller, fun() -> [asker(Form, Router) || Form <- Forms] end).

asker(Form, Router) ->
    spawn(fun() ->
                  Prompt = prompt(),
                  Outcome = ask:text(Form, Router, ask:op(Prompt), 30000),
                  report(#{form => Form, at => os:system_time(millisecond),
                           outcome => judged(Outcome, Prompt)})
          end).

%% As often as it is asked to, so that it hears what comes later, too.
report(Report) ->
    receive {report, From} -> From ! {self(), Report#{junk => bed:drain()}} end,
    report(Report).

prompt() ->
    Unique = erlang:unique_integer([positive]),
    iolist_to_binary(io_lib:format("number ~b of ~b",
                                   [Unique, erlang:phash2(node())])).

%% An answer counts as such when it quotes the prompt.
judged({ok, <<"You wrote: ", Prompt/binary>>}, Prompt) -> answered;
judged({ok, Text}, _Prompt) -> {wrong, Text};
judged({_, Why}, _Prompt) -> Why.

%% What became of them, when all have ended; nothing else came to any of them.
reports(Caller, Askers) ->
    Reports = bed:on(Caller,
                     fun() ->
                             [Asker ! {report, self()} || Asker <- Askers],
                             [receive {Asker, Report} -> Report end
                              || Asker <- Askers]
                     end),
    ct:log("~0tp", [[maps:with([form, outcome], R) || R <- Reports]]),
    ?assertEqual([], lists:append([Junk || #{junk := Junk} <- Reports])),
    Reports.

outcomes(Caller, Askers) ->
    [Outcome || #{outcome := Outcome} <- reports(Caller, Askers)].

are_answered(Caller, Askers) ->
    ?assertEqual([answered], lists:usort(outcomes(Caller, Askers))).

are_told_that_it_is_gone(Outcomes) ->
    ?assertEqual([], lists:usort(Outcomes)
                 -- [noproc, nodedown, noconnection]).

every_way_works(Caller, Router) ->
    are_answered(Caller, ask(Caller, Router, ask:forms())).

%% Calls by the global name, one after another, until stop_asking/2.
keep_asking(Caller) ->
    bed:on(Caller, fun() -> spawn(fun() -> keep_asking_until_told([]) end) end).

keep_asking_until_told(Outcomes) ->
    receive
        {report, From} ->
            From ! {self(), Outcomes, bed:drain()}
    after 20 ->
            Prompt = prompt(),
            Outcome = ask:text(by_global_name, none, ask:op(Prompt), 5000),
            keep_asking_until_told([judged(Outcome, Prompt) | Outcomes])
    end.

stop_asking(Caller, Asker) ->
    {Outcomes, []} = bed:on(Caller,
                            fun() ->
                                    Asker ! {report, self()},
                                    receive {Asker, Os, Junk} -> {Os, Junk} end
                            end),
    {Good, Bad} = lists:partition(fun(O) -> O =:= answered end, Outcomes),
    ct:log("~b answered, ~b not", [length(Good), length(Bad)]),
    ?assert(length(Good) > 0),
    Bad.

slow_answers(Config, Ms) ->
    scripted_provider:set_handler(
      bed:provider(Config),
      fun(Request) ->
              [{sleep, Ms} | scripted_model:from_document(Request)]
      end).

hang(Config) ->
    scripted_provider:set_handler(bed:provider(Config), [[hang]]).

await_requests(Config, N) ->
    scripted_provider:await_requests(bed:provider(Config), N).

await_aborted(Config, N, Ms) ->
    Provider = bed:provider(Config),
    bed:eventually(fun() ->
                           length(scripted_provider:aborted(Provider)) =:= N
                   end, Ms).

%% ------------------------------------------------ several routers, one name

the_standby_takes_over_from_a_killed_holder(Config) ->
    take_over(Config, fun(Holder, _Caller) -> router:kill(Holder) end).

the_standby_takes_over_from_a_terminated_holder(Config) ->
    take_over(Config, fun(Holder, _Caller) -> stop([Holder]) end).

%% The name goes before the last answer.
the_standby_takes_over_from_a_draining_holder(Config) ->
    take_over(Config,
              fun(#{node := Node} = Holder, Caller) ->
                      slow_answers(Config, 1000),
                      Askers = ask(Caller, Node, [by_node_name, by_rpc]),
                      await_requests(Config, 2),
                      router:signal(Holder, "TERM"),
                      bed:eventually(fun() ->
                                             holder(Caller, llm_router) =/= Node
                                     end, ?TAKE_OVER_MS),
                      are_answered(Caller, Askers),
                      {exited, 0} = router:stop(Holder),
                      slow_answers(Config, 0)
              end).

%% Each of two routers in turn, three times.
take_over(Config, End) ->
    stop(lists:foldl(fun(_Round, [Holder, Standby]) ->
                             Again = take_over(Config, End, Holder, Standby),
                             [Standby, Again]
                     end, start_pair(Config), lists:seq(1, 6))).

%% The one that ended starts again and stands by.
take_over(Config, End, #{node := Old} = Holder, #{node := New}) ->
    Callers = [Caller | _] = callers(Config),
    Asker = keep_asking(Caller),
    End(Holder, Caller),
    await_found(Callers, llm_router, New, ?TAKE_OVER_MS),
    Again = start(Config, Old),
    always(fun() -> is_found(Callers, llm_router, New) end, 1500),
    [?assertEqual(Old, answers_as(C, {llm_router, Old})) || C <- Callers],
    ?assertEqual([], lists:usort(stop_asking(Caller, Asker))
                 -- [noproc, nodedown, noconnection, shutting_down]),
    Again.

the_end_of_a_standby_is_not_noticed(Config) ->
    Callers = [Caller | _] = callers(Config),
    [#{node := Holder} = First, #{node := Other} = Second] = start_pair(Config),
    Asker = keep_asking(Caller),
    router:kill(Second),
    always(fun() -> is_held(Callers, llm_router, Holder) end, 500),
    stop([start(Config, Other)]),
    always(fun() -> is_held(Callers, llm_router, Holder) end, 500),
    ?assertEqual([], stop_asking(Caller, Asker)),
    stop([First]).

two_routers_drain_at_once(Config) ->
    [Caller | _] = callers(Config),
    Routers = start_pair(Config),
    slow_answers(Config, 1000),
    Askers = lists:append([ask(Caller, Node, [by_node_name, by_erpc])
                           || #{node := Node} <- Routers]),
    await_requests(Config, 4),
    [router:signal(Router, "TERM") || Router <- Routers],
    bed:eventually(fun() -> holder(Caller, llm_router) =:= undefined end,
                   ?TAKE_OVER_MS),
    are_answered(Caller, Askers),
    [{exited, 0} = router:await_exit(Router, 5000) || Router <- Routers],
    ?assertEqual(undefined, holder(Caller, llm_router)).

%% Whose other processes go on calling: what they say while the connection ends
%% must not cost it the answers that are under way.
a_draining_router_answers_a_busy_node(Config) ->
    [Caller | _] = callers(Config),
    slow_answers(Config, 300),
    [begin
         Router = start(Config, bed:node_name(router)),
         #{node := Node} = Router,
         bed:on(Caller, fun() ->
                                [spawn(fun() -> ping_until_it_ends(Node) end)
                                 || _ <- lists:seq(1, 8)]
                        end),
         Askers = ask(Caller, Node, lists:duplicate(10, by_node_name)),
         await_in_flight(Config, 10),
         router:signal(Router, "TERM"),
         are_answered(Caller, Askers),
         {exited, 0} = router:await_exit(Router, 5000)
     end || _Round <- lists:seq(1, 5)].

ping_until_it_ends(Router) ->
    try gen_server:call({llm_router, Router}, ping) of
        pong -> ping_until_it_ends(Router)
    catch exit:_ -> ok
    end.

await_in_flight(Config, N) ->
    Provider = bed:provider(Config),
    bed:eventually(fun() ->
                           #{in_flight := Now} =
                               scripted_provider:counters(Provider),
                           Now =:= N
                   end).

every_router_has_a_global_name_of_its_own(Config) ->
    Callers = callers(Config),
    [#{node := A} = First, #{node := B} = Second] = start_pair(Config),
    [await_found(Callers, {llm_router, Node}, Node) || Node <- [A, B]],
    router:kill(First),
    bed:eventually(fun() -> is_held(Callers, {llm_router, A}, undefined) end),
    ?assert(is_found(Callers, {llm_router, B}, B)),
    Again = start(Config, A),
    [await_found(Callers, {llm_router, Node}, Node) || Node <- [A, B]],
    lists:foreach(fun bed:kill_caller/1, Callers),
    New = [start_caller(Config, Node) || #{node := Node} <- Callers],
    [await_found(New, {llm_router, Node}, Node) || Node <- [A, B]],
    stop([Second]),
    bed:eventually(fun() -> is_held(New, {llm_router, B}, undefined) end),
    stop([Again]),
    lists:foreach(fun bed:stop_caller/1, New).

every_way_to_call_reaches_the_router_that_is_meant(Config) ->
    Callers = callers(Config),
    Routers = start_pair(Config),
    [every_way_works(Caller, Node)
     || Caller <- Callers, #{node := Node} <- Routers],
    [?assertEqual(Node, answers_as(Caller, Server))
     || Caller <- Callers, #{node := Node} <- Routers,
        Server <- [{llm_router, Node}, {global, {llm_router, Node}}]],
    stop(Routers).

%% Nodes that come up apart may each be told the name by another router.
all_nodes_restart_and_one_router_has_the_name(Config) ->
    Callers = callers(Config),
    Routers = start_pair(Config),
    lists:foreach(fun bed:kill_caller/1, Callers),
    New = [First, Second] = [start_caller(Config, Node)
                             || #{node := Node} <- Callers],
    timer:sleep(1000),
    true = connect(First, maps:get(node, Second)),
    one_has_the_name(New, [Node || #{node := Node} <- Routers]),
    stop(Routers),
    lists:foreach(fun bed:stop_caller/1, New).

epmd_restarts_and_knows_all_routers_again(Config) ->
    needs_own_epmd(Config),
    Callers = callers(Config),
    [#{node := Holder} = First, #{node := Other} = Second] = start_pair(Config),
    bed:restart_epmd(Config, fun() -> timer:sleep(500) end),
    bed:eventually(fun() ->
                           lists:all(fun is_registered/1, [Holder, Other])
                   end, ?TAKE_OVER_MS),
    New = start_caller(Config, bed:node_name(new)),
    [pong = bed:on(New, fun() -> net_adm:ping(Node) end)
     || Node <- [Holder, Other]],
    await_found([New | Callers], llm_router, Holder),
    router:kill(First),
    await_found([New | Callers], llm_router, Other, ?TAKE_OVER_MS),
    bed:stop_caller(New),
    stop([Second]).

needs_own_epmd(Config) ->
    case proplists:get_value(bed, Config) of
        #{epmd := running} -> throw({skip, "epmd here is not ours to stop"});
        _ -> ok
    end.

is_registered(Node) ->
    [Name, Host] = string:split(atom_to_list(Node), "@"),
    is_tuple(erl_epmd:port_please(Name, Host)).

%% --------------------------------------------- calls to a router that dies

calls_in_flight_end_at_once_when_the_router_is_killed(Config) ->
    [Caller | _] = callers(Config),
    [#{node := Node} = Holder, Standby] = start_pair(Config),
    hang(Config),
    Askers = ask(Caller, Node, ask:forms() ++ ask:forms()),
    await_requests(Config, length(Askers)),
    Killed = os:system_time(millisecond),
    router:kill(Holder),
    Reports = reports(Caller, Askers),
    are_told_that_it_is_gone([Outcome || #{outcome := Outcome} <- Reports]),
    [?assert(At - Killed < bed:limit_ms(1000)) || #{at := At} <- Reports],
    stop([Standby]).

%% Answers that take up to 400 ms, and a kill in the middle of them.
answers_racing_with_a_kill_come_at_most_once(Config) ->
    Callers = [Caller | _] = callers(Config),
    [#{node := Node} = Holder, #{node := Other} = Standby] = start_pair(Config),
    scripted_provider:set_handler(
      bed:provider(Config),
      fun(#{n := N} = Request) ->
              [{sleep, N * 137 rem 400} | scripted_model:from_document(Request)]
      end),
    Askers = ask(Caller, Node, lists:append(lists:duplicate(12, ask:forms()))),
    await_requests(Config, length(Askers)),
    timer:sleep(100),
    router:kill(Holder),
    await_found(Callers, llm_router, Other, ?TAKE_OVER_MS),
    timer:sleep(500),
    {Good, Gone} = lists:partition(fun(O) -> O =:= answered end,
                                   outcomes(Caller, Askers)),
    ct:log("~b answered, ~b gone", [length(Good), length(Gone)]),
    ?assert(length(Good) > 0),
    ?assert(length(Gone) > 0),
    are_told_that_it_is_gone(Gone),
    stop([Standby]).

%% What was said to the old one is not answered by the new one.
a_new_router_under_an_old_node_name_is_reached_at_once(Config) ->
    Callers = [Caller | _] = callers(Config),
    Node = bed:node_name(router),
    stop([lists:foldl(
            fun(_Round, Old) ->
                    await_found(Callers, llm_router, Node),
                    Pid = bed:on(Caller, fun() ->
                                                 global:whereis_name(llm_router)
                                         end),
                    router:kill(Old),
                    New = start(Config, Node),
                    every_way_by_node_name_works(Caller, Node),
                    ?assertEqual(noproc, outcome_of_ping(Caller, Pid)),
                    New
            end, start(Config, Node), [1, 2, 3])]).

%% Without those that need a global name.
every_way_by_node_name_works(Caller, Node) ->
    are_answered(Caller, ask(Caller, Node, [by_node_name, by_request, by_rpc,
                                            by_erpc, by_message])).

outcome_of_ping(Caller, Server) ->
    bed:on(Caller, fun() ->
                           try gen_server:call(Server, ping, 5000)
                           catch exit:{Reason, _} -> Reason
                           end
                   end).

%% ----------------------------------------------- networks that hold the bytes

%% Nodes and a router on each side of a split. Whichever names are smaller, one
%% router keeps the name, and the other lives on.
split_clusters_merge_and_one_router_has_the_name(Config) ->
    [merge(Config, bed:node_name(Far), bed:node_name(A), bed:node_name(B))
     || Far <- [aaa, zzz], {A, B} <- [{ra, rb}, {rb, ra}]].

merge(Config, Far, A, B) ->
    Near = callers(Config),
    Nodes = [Node || #{node := Node} <- Near],
    Wire = wire:start(#{near => [A | Nodes], far => [B, Far]}),
    FarCaller = start_caller(Config, Far, wire:env(Wire)),
    true = connect(FarCaller, hd(Nodes)),
    All = [FarCaller | Near],
    Connect = #{connect => [Far | Nodes]},
    First = bed:run_router(Config, A, Connect),
    await_found(All, llm_router, A),
    Second = bed:run_router(Config, B, with_env(Config, Connect, Wire)),
    always(fun() -> is_held(All, llm_router, A) end, 1500),
    wire:hold(Wire),
    wire:cut(Wire),
    await_found([FarCaller], llm_router, B),
    await_found(Near, llm_router, A),
    wire:release(Wire),
    true = connect(FarCaller, hd(Nodes)),
    one_has_the_name(All, [A, B]),
    [pong = bed:on(Caller, fun() -> net_adm:ping(Node) end)
     || Caller <- All, Node <- [A, B]],
    stop([First, Second]),
    bed:stop_caller(FarCaller),
    wire:stop(Wire).

with_env(Config, Opts, Wire) ->
    #{opts := #{env := Env}} = proplists:get_value(bed, Config),
    Opts#{env => wire:env(Wire) ++ Env}.

%% It is the same for all, stays that, knows it, and the other knows that it
%% stands by; and the lock of `global` is free.
one_has_the_name(Callers, Routers) ->
    [Caller | _] = Callers,
    bed:eventually(fun() ->
                           Node = holder(Caller, llm_router),
                           lists:member(Node, Routers)
                               andalso is_found(Callers, llm_router, Node)
                   end, ?BACK_MS),
    Holder = holder(Caller, llm_router),
    ct:log("~s of ~0tp has the name", [Holder, Routers]),
    bed:eventually(fun() ->
                           [Node || Node <- Routers, says_held(Caller, Node)]
                               =:= [Holder]
                   end, ?BACK_MS),
    always(fun() -> is_held(Callers, llm_router, Holder) end, 1500),
    [?assert(bed:on(C, fun lock_is_free/0)) || C <- Callers].

%% Registering any name takes the lock of the whole cluster.
lock_is_free() ->
    {_, Monitor} = spawn_monitor(fun() ->
                                         yes = global:register_name(make_ref(),
                                                                    self())
                                 end),
    receive {'DOWN', Monitor, _, _, Why} -> Why =:= normal
    after 8000 -> false
    end.

says_held(Caller, Router) ->
    #{global_name := Held} = health(Caller, Router),
    Held.

a_held_link_is_given_up_and_its_bytes_come_late(Config) ->
    hold(Config, fun wire:release/1).

a_held_link_is_given_up_and_its_bytes_are_lost(Config) ->
    hold(Config, fun wire:lose/1).

%% The bed's first caller and the router on one side, another node, with calls
%% in flight, on the other.
hold(Config, Heal) ->
    {Wire, Config1, Far} = start_with_far_node(Config),
    #{node := FarNode} = Far,
    [Near | _] = callers(Config),
    Router = bed:node(Config),
    hang(Config),
    NearAskers = ask(Near, Router, [by_node_name]),
    FarAskers = ask(Far, Router, ask:forms()),
    Taker = bed:on(Far, fun() -> spawn(timer, sleep, [infinity]) end),
    bed:on(Near, fun() ->
                         gen_server:cast({llm_router, Router},
                                         {generate_task, <<"hi">>, Taker})
                 end),
    Gone = length(FarAskers) + 1,
    await_requests(Config, Gone + 1),
    wire:hold(Wire),
    await_aborted(Config, Gone, ?NOTICED_MS),
    ?assertEqual(Router, answers_as(Near, {llm_router, Router})),
    is_logged(Config1, FarNode, "silent for the tick time"),
    ?assertMatch(#{peers := 2}, node_stats(Near, Router)),
    are_told_that_it_is_gone(outcomes(Far, FarAskers)),
    slow_answers(Config, 0),
    Heal(Wire),
    await_found([Far], llm_router, Router),
    await_found([Far], {llm_router, Router}, Router),
    every_way_works(Far, Router),
    bed:on(Near, fun() -> [exit(Asker, kill) || Asker <- NearAskers] end),
    {exited, 0} = bed:stop_router(Config1),
    bed:stop_caller(Far),
    wire:stop(Wire).

%% The router is kept connected with the far node, too.
start_with_far_node(Config) ->
    start_with_far_node(Config, #{}).

start_with_far_node(Config, WireOpts) ->
    Near = [Node || #{node := Node} <- callers(Config)],
    Far = bed:node_name(far),
    Wire = wire:start(WireOpts#{near => [bed:node(Config) | Near],
                                far => [Far]}),
    FarCaller = start_caller(Config, Far, wire:env(Wire)),
    Config1 = bed:start_router(Config, #{connect => [Far | Near]}),
    true = connect(FarCaller, hd(Near)),
    [await_found([FarCaller], Name, bed:node(Config))
     || Name <- [llm_router, {llm_router, bed:node(Config)}]],
    {Wire, Config1, FarCaller}.

is_logged(Config, Node, What) ->
    Line = io_lib:format("msg=\"connection closed\" peer=~s reason=\"~s\"",
                         [Node, What]),
    ?assertNotEqual(nomatch, string:find(router:stderr(bed:router(Config)),
                                         Line)).

%% Answers that the router sent before it noticed.
answers_written_into_a_held_link_reach_nobody_later(Config) ->
    {Wire, Config1, Far} = start_with_far_node(Config),
    Router = bed:node(Config),
    slow_answers(Config, 500),
    Askers = ask(Far, Router, ask:forms()),
    await_requests(Config, length(Askers)),
    wire:hold(Wire),
    are_told_that_it_is_gone(outcomes(Far, Askers)),
    wire:release(Wire),
    await_found([Far], llm_router, Router),
    timer:sleep(1000),
    are_told_that_it_is_gone(outcomes(Far, Askers)),
    every_way_works(Far, Router),
    {exited, 0} = bed:stop_router(Config1),
    bed:stop_caller(Far),
    wire:stop(Wire).

%% Nor does anything pass meanwhile.
a_short_hold_loses_nothing(Config) ->
    Passed = counters:new(1, []),
    Count = fun(_Connection, _Direction, Bytes) ->
                    counters:add(Passed, 1, byte_size(Bytes))
            end,
    {Wire, Config1, Far} = start_with_far_node(Config, #{tap => Count}),
    [Near | _] = callers(Config),
    Router = bed:node(Config),
    slow_answers(Config, 500),
    #{closed_peers := Before} = node_stats(Near, Router),
    Askers = ask(Far, Router, ask:forms()),
    await_requests(Config, length(Askers)),
    wire:hold(Wire),
    timer:sleep(100),
    Held = counters:get(Passed, 1),
    timer:sleep(1400),
    ?assertEqual(Held, counters:get(Passed, 1)),
    wire:release(Wire),
    are_answered(Far, Askers),
    ?assert(counters:get(Passed, 1) > Held),
    ?assertMatch(#{closed_peers := Before}, node_stats(Near, Router)),
    {exited, 0} = bed:stop_router(Config1),
    bed:stop_caller(Far),
    wire:stop(Wire).

a_link_that_is_cut_is_made_again(Config) ->
    {Wire, Config1, Far} = start_with_far_node(Config),
    Router = bed:node(Config),
    [begin
         hang(Config),
         Askers = ask(Far, Router, ask:forms()),
         await_requests(Config, length(Askers)),
         wire:cut(Wire),
         are_told_that_it_is_gone(outcomes(Far, Askers)),
         await_aborted(Config, length(Askers), 5000),
         slow_answers(Config, 0),
         await_found([Far], llm_router, Router),
         await_found([Far], {llm_router, Router}, Router),
         every_way_works(Far, Router)
     end || _Round <- [1, 2, 3]],
    {exited, 0} = bed:stop_router(Config1),
    bed:stop_caller(Far),
    wire:stop(Wire).

%% ------------------------------------------------- processes that stand still

a_router_stopped_for_long_is_found_again(Config) ->
    Callers = [Caller | _] = callers(Config),
    Router = bed:node(Config),
    Config1 = bed:start_router(Config, #{}),
    [begin
         slow_answers(Config, 500),
         Askers = ask(Caller, Router, ask:forms()),
         await_requests(Config, length(Askers)),
         router:signal(bed:router(Config1), "STOP"),
         are_told_that_it_is_gone(outcomes(Caller, Askers)),
         bed:eventually(fun() -> is_held(Callers, llm_router, undefined) end,
                        ?NOTICED_MS),
         timer:sleep(Ms),
         router:signal(bed:router(Config1), "CONT"),
         await_found(Callers, llm_router, Router),
         await_found(Callers, {llm_router, Router}, Router),
         are_told_that_it_is_gone(outcomes(Caller, Askers)),
         every_way_works(Caller, Router)
     end || Ms <- [0, 2 * ?TICK_MS]],
    ?assertMatch(#{peers := 2}, node_stats(Caller, Router)),
    {exited, 0} = bed:stop_router(Config1).

a_router_stopped_for_a_moment_loses_nothing(Config) ->
    Callers = [Caller | _] = callers(Config),
    Router = bed:node(Config),
    Config1 = bed:start_router(Config, #{}),
    slow_answers(Config, 500),
    #{closed_peers := Before} = node_stats(Caller, Router),
    Askers = ask(Caller, Router, ask:forms()),
    await_requests(Config, length(Askers)),
    router:signal(bed:router(Config1), "STOP"),
    always(fun() -> is_held(Callers, llm_router, Router) end, 1500),
    router:signal(bed:router(Config1), "CONT"),
    are_answered(Caller, Askers),
    ?assertMatch(#{closed_peers := Before}, node_stats(Caller, Router)),
    {exited, 0} = bed:stop_router(Config1).

a_stopped_peer_holds_up_nobody(Config) ->
    [Caller, #{node := Node} = Stopped] = callers(Config),
    Router = bed:node(Config),
    Config1 = bed:start_router(Config, #{}),
    slow_answers(Config, 1000),
    Askers = ask(Stopped, Router, ask:forms()),
    await_requests(Config, length(Askers)),
    OsPid = os_pid(Stopped),
    signal(OsPid, "STOP"),
    bed:eventually(fun() ->
                           {Us, pong} = timed_ping(Caller, Router),
                           ?assert(Us < bed:limit_ms(1000) * 1000),
                           #{peers := Peers} = node_stats(Caller, Router),
                           Peers =:= 1
                   end, ?NOTICED_MS),
    is_logged(Config1, Node, "silent for the tick time"),
    signal(OsPid, "CONT"),
    await_found([Caller, Stopped], llm_router, Router),
    _ = outcomes(Stopped, Askers),
    every_way_works(Stopped, Router),
    {exited, 0} = bed:stop_router(Config1).

timed_ping(Caller, Router) ->
    bed:on(Caller,
           fun() ->
                   timer:tc(fun() -> gen_server:call({llm_router, Router}, ping)
                            end)
           end).

%% 40 answers of 1 MB, of which a queue of 4 MB and the sockets take some; the
%% others become small errors.
a_stopped_peer_that_is_owed_much_is_given_up(Config) ->
    [Caller, #{node := Node} = Stopped] = callers(Config),
    Router = bed:node(Config),
    Config1 = bed:start_router(Config, #{}),
    scripted_provider:set_handler(bed:provider(Config),
                                  [[{sleep, 1000} | large_answer()]]),
    Askers = ask(Stopped, Router, lists:duplicate(40, by_erpc)),
    await_requests(Config, length(Askers)),
    OsPid = os_pid(Stopped),
    Rss = router:rss_kib(bed:router(Config1)),
    signal(OsPid, "STOP"),
    bed:eventually(fun() ->
                           #{peers := Peers} = node_stats(Caller, Router),
                           Peers =:= 1
                   end, ?NOTICED_MS),
    is_logged(Config1, Node, "silent for the tick time"),
    bed:has_grown_less(Config1, 32768, Rss),
    slow_answers(Config, 0),
    every_way_works(Caller, Router),
    signal(OsPid, "CONT"),
    await_found([Caller, Stopped], llm_router, Router),
    every_way_works(Stopped, Router),
    {exited, 0} = bed:stop_router(Config1).

%% The lock of `global` is held up by a node that does not answer, until the
%% others believe it to be down; and then global.erl sleeps up to 8 s between
%% two tries (random_sleep).
a_stopped_peer_delays_a_take_over_until_it_is_given_up(Config) ->
    Callers = [Caller, Stopped] = callers(Config),
    [Holder, #{node := Other} = Standby] = start_pair(Config),
    OsPid = os_pid(Stopped),
    signal(OsPid, "STOP"),
    router:kill(Holder),
    await_found([Caller], llm_router, Other, 3 * ?BACK_MS),
    signal(OsPid, "CONT"),
    await_found(Callers, llm_router, Other),
    stop([Standby]).

%% In one event, encoded by hand: the provider is to be quick.
large_answer() ->
    [{header, <<"content-type">>, <<"text/event-stream">>},
     {body, [<<"data: {\"model\":\"scripted\",\"choices\":[{\"index\":0,"
               "\"delta\":{\"content\":\"">>,
             binary:copy(<<"0123456789abcdef">>, 65536),
             <<"\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n">>]}].

%% ------------------------------------------------------- nodes that come again

a_node_name_is_used_again_at_once(Config) ->
    [_, #{node := Node} = Old] = callers(Config),
    Router = bed:node(Config),
    Config1 = bed:start_router(Config, #{}),
    Last = lists:foldl(
             fun(_Round, Caller) ->
                     hang(Config),
                     Askers = ask(Caller, Router, ask:forms()),
                     await_requests(Config, length(Askers)),
                     bed:kill_caller(Caller),
                     New = start_caller(Config, Node),
                     true = connect(New, Router),
                     await_aborted(Config, length(Askers), 5000),
                     slow_answers(Config, 0),
                     await_found([New], llm_router, Router),
                     await_found([New], {llm_router, Router}, Router),
                     every_way_works(New, Router),
                     New
             end, Old, [1, 2, 3]),
    bed:stop_caller(Last),
    {exited, 0} = bed:stop_router(Config1).

%% The old node stands still and the router still believes in its connection.
%% An epmd that starts anew has forgotten it, so that the new one may register.
a_node_that_stands_still_is_replaced_by_a_new_one(Config) ->
    needs_own_epmd(Config),
    [Caller, #{node := Node} = Old] = callers(Config),
    Router = bed:node(Config),
    Config1 = bed:start_router(Config, #{}),
    hang(Config),
    Askers = ask(Old, Router, ask:forms()),
    await_requests(Config, length(Askers)),
    OsPid = os_pid(Old),
    signal(OsPid, "STOP"),
    bed:restart_epmd(Config, fun() -> ok end),
    bed:eventually(fun() -> is_registered(Router) end, ?TAKE_OVER_MS),
    ?assertMatch(#{peers := 2}, node_stats(Caller, Router)),
    New = start_caller(Config, Node),
    true = connect(New, Router),
    await_aborted(Config, length(Askers), 1000),
    slow_answers(Config, 0),
    await_found([Caller, New], llm_router, Router),
    await_found([Caller, New], {llm_router, Router}, Router),
    every_way_works(New, Router),
    signal(OsPid, "KILL"),
    bed:stop_caller(New),
    {exited, 0} = bed:stop_router(Config1).
