%% The global name `llm_router` is there whenever one visible node is, points to
%% the router that can answer, and is neither fought for nor left behind.
-module(global_name_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(BACK_MS, 5000).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [every_node_finds_the_name,
     a_node_that_joins_later_finds_the_name,
     the_name_survives_the_death_of_any_one_node,
     the_name_is_back_after_all_nodes_restarted,
     separate_clusters_each_find_the_name,
     a_node_that_never_connects_by_itself_finds_the_name,
     a_node_that_loses_its_connection_is_dialled,
     a_name_that_is_taken_is_not_fought_for,
     a_name_taken_away_is_not_fought_for_and_retaken_when_free,
     a_stray_exit_signal_takes_nothing_away,
     two_routers_have_one_owner_and_the_other_takes_over,
     a_standby_leaves_the_name_to_a_living_holder,
     a_name_conflict_is_resolved_when_clusters_merge,
     a_peer_that_was_not_there_at_start_is_connected_later,
     termination_gives_up_the_name_before_it_stops_answering,
     a_kill_leaves_no_name_behind].

%% Each test has a bed of its own: it kills the nodes of it.
init_per_testcase(Case, Config) ->
    bed:up(Config, opts(Case)).

end_per_testcase(_Case, Config) ->
    bed:down(Config).

opts(every_node_finds_the_name) -> #{callers => 3};
opts(the_name_survives_the_death_of_any_one_node) -> #{callers => 3};
opts(the_name_is_back_after_all_nodes_restarted) -> #{callers => 2};
opts(a_name_that_is_taken_is_not_fought_for) -> #{router => none};
opts(_) -> #{}.

%% The router's pid as a caller sees it by the name, if it answers.
answers_by_name(Caller, Config) ->
    Router = bed:node(Config),
    bed:on(Caller,
           fun() ->
                   case global:whereis_name(llm_router) of
                       Pid when node(Pid) =:= Router ->
                           pong =:= catch gen_server:call(Pid, ping, 1000);
                       _ ->
                           false
                   end
           end).

back(Caller, Config) ->
    Ms = bed:eventually(fun() -> answers_by_name(Caller, Config) end, ?BACK_MS),
    ct:log("by name after ~b ms", [Ms]).

whereis_node(Caller) ->
    bed:on(Caller, fun() ->
                           case global:whereis_name(llm_router) of
                               undefined -> undefined;
                               Pid -> node(Pid)
                           end
                   end).

%% A node of the bed's cluster, not connected to anything yet.
new_caller(Config) ->
    new_caller(Config, bed:node_name(late)).

new_caller(Config, Node) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    bed:start_caller(Cookie, Node).

connect(Caller, Node) ->
    bed:on(Caller, fun() -> net_kernel:connect_node(Node) end).

%% ---------------------------------------------------------------- presence

every_node_finds_the_name(Config) ->
    [back(bed:caller(Config, N), Config) || N <- [1, 2, 3]].

a_node_that_joins_later_finds_the_name(Config) ->
    Late = new_caller(Config),
    true = connect(Late, maps:get(node, bed:caller(Config))),
    back(Late, Config),
    bed:stop_caller(Late).

the_name_survives_the_death_of_any_one_node(Config) ->
    [First, Second, Third] = [bed:caller(Config, N) || N <- [1, 2, 3]],
    bed:kill_caller(First),
    back(Second, Config),
    back(Third, Config),
    bed:kill_caller(Second),
    back(Third, Config).

the_name_is_back_after_all_nodes_restarted(Config) ->
    Callers = [bed:caller(Config, N) || N <- [1, 2]],
    lists:foreach(fun bed:kill_caller/1, Callers),
    Again = [new_caller(Config, Node) || #{node := Node} <- Callers],
    [back(Caller, Config) || Caller <- Again],
    lists:foreach(fun bed:stop_caller/1, Again).

%% Only a node that the router is connected to sees it.
a_node_that_never_connects_by_itself_finds_the_name(Config) ->
    #{node := Node} = Loner = new_loner(Config),
    true = connect(bed:caller(Config), Node),
    bed:eventually(fun() -> answers_by_name(Loner, Config) end, 10000),
    bed:stop_caller(Loner).

a_node_that_loses_its_connection_is_dialled(Config) ->
    Loner = new_loner(Config),
    Router = bed:node(Config),
    true = connect(Loner, Router),
    back(Loner, Config),
    true = bed:on(Loner, fun() -> erlang:disconnect_node(Router) end),
    undefined = whereis_node(Loner),
    back(Loner, Config),
    bed:stop_caller(Loner).

new_loner(Config) ->
    Loner = new_caller(Config),
    ok = bed:on(Loner, fun() ->
                               application:set_env(kernel, dist_auto_connect,
                                                   never)
                       end),
    Loner.

separate_clusters_each_find_the_name(Config) ->
    Apart = new_loner(Config),
    true = connect(Apart, bed:node(Config)),
    back(Apart, Config),
    back(bed:caller(Config), Config),
    [] = bed:on(Apart, fun() -> nodes() end),
    bed:stop_caller(Apart).

a_peer_that_was_not_there_at_start_is_connected_later(Config) ->
    {exited, 0} = bed:stop_router(Config),
    Node = bed:node_name(later),
    #{node := First} = bed:caller(Config),
    Config1 = bed:start_router(Config, #{connect => [First, Node]}),
    timer:sleep(1000),
    Later = new_caller(Config, Node),
    back(Later, Config),
    bed:stop_caller(Later),
    timer:sleep(500),
    Again = new_caller(Config, Node),
    back(Again, Config),
    bed:stop_caller(Again),
    {exited, 0} = bed:stop_router(Config1).

%% ------------------------------------------------------------------ rivals

%% A process of a caller's node that holds the name until it is told to end.
hold_name(Caller) ->
    bed:on(Caller,
           fun() ->
                   Self = self(),
                   Pid = spawn(fun() ->
                                       yes = global:re_register_name(
                                               llm_router, self()),
                                       Self ! held,
                                       receive stop -> ok end
                               end),
                   receive held -> Pid after 5000 -> error(not_held) end
           end).

stop_holding(Caller, Pid) ->
    bed:on(Caller, fun() -> Pid ! stop end).

a_name_that_is_taken_is_not_fought_for(Config) ->
    #{node := Node} = Caller = bed:caller(Config),
    Rival = hold_name(Caller),
    Config1 = bed:start_router(Config, #{connect => []}),
    true = connect(Caller, bed:node(Config)),
    timer:sleep(2500),
    ?assertEqual(Node, whereis_node(Caller)),
    pong = bed:call(Config1, ping),
    stop_holding(Caller, Rival),
    back(Caller, Config1),
    {exited, 0} = bed:stop_router(Config1).

a_name_taken_away_is_not_fought_for_and_retaken_when_free(Config) ->
    #{node := Node} = Caller = bed:caller(Config),
    Rival = hold_name(Caller),
    timer:sleep(2500),
    ?assertEqual(Node, whereis_node(Caller)),
    pong = bed:call(Config, ping),
    stop_holding(Caller, Rival),
    back(Caller, Config).

a_stray_exit_signal_takes_nothing_away(Config) ->
    Caller = bed:caller(Config),
    bed:on(Caller, fun() ->
                           Pid = global:whereis_name(llm_router),
                           exit(Pid, kill),
                           exit(Pid, normal)
                   end),
    pong = bed:call(Config, ping),
    back(Caller, Config).

%% The second router stands by, and takes the name when the first is killed.
two_routers_have_one_owner_and_the_other_takes_over(Config) ->
    Caller = bed:caller(Config),
    {Standby, Second} = start_standby(Config),
    timer:sleep(1500),
    ?assertEqual(bed:node(Config), whereis_node(Caller)),
    pong = bed:on(Caller, fun() -> gen_server:call({llm_router, Second}, ping)
                          end),
    bed:kill_router(Config),
    bed:eventually(fun() -> whereis_node(Caller) =:= Second end, 10000),
    {exited, 0} = router:stop(Standby).

start_standby(Config) ->
    #{cookie := Cookie, dir := Dir, provider := Provider} =
        proplists:get_value(bed, Config),
    Url = binary_to_list(scripted_provider:url(Provider)),
    Second = bed:node_name(second),
    {ok, Standby} =
        router:start(#{node => Second, cookie => Cookie, dir => Dir,
                       connect => [maps:get(node, bed:caller(Config))],
                       env => [{"OPENAI_API_KEY", "sk-test-key"},
                               {"OPENAI_BASE_URL", Url}]}),
    {Standby, Second}.

%% A node that cannot reach the holder forgets it, and what a standby registers
%% there is registered in the whole cluster.
a_standby_leaves_the_name_to_a_living_holder(Config) ->
    Caller = bed:caller(Config),
    {Standby, Second} = start_standby(Config),
    Holder = bed:node(Config),
    Loner = new_loner(Config),
    true = connect(Caller, maps:get(node, Loner)),
    ok = bed:on(Loner, fun global:sync/0),
    bed:eventually(fun() -> whereis_node(Loner) =:= undefined end),
    true = connect(Loner, Second),
    Seen = [begin timer:sleep(50), whereis_node(Caller) end
            || _ <- lists:seq(1, 150)],
    ?assertEqual([Holder], lists:usort(Seen)),
    back(Loner, Config),
    bed:stop_caller(Loner),
    {exited, 0} = router:stop(Standby).

%% Both orders of names: global asks the router, or decides without it.
a_name_conflict_is_resolved_when_clusters_merge(Config) ->
    Caller = bed:caller(Config),
    [merge(Config, Caller, Prefix) || Prefix <- [aaa, zzz]].

merge(Config, #{node := Node} = Caller, Prefix) ->
    Apart = new_caller(Config, bed:node_name(Prefix)),
    Rival = hold_name(Apart),
    back(Caller, Config),
    true = connect(Apart, Node),
    bed:eventually(fun() -> agreed([Caller, Apart]) end),
    [yes, yes] = [bed:on(C, fun() -> not_frozen() end) || C <- [Caller, Apart]],
    pong = bed:call(Config, ping),
    stop_holding(Apart, Rival),
    back(Caller, Config),
    back(Apart, Config),
    bed:stop_caller(Apart).

agreed(Callers) ->
    case lists:usort([whereis_node(C) || C <- Callers]) of
        [undefined] -> false;
        [_] -> true;
        _ -> false
    end.

%% Registers and frees another name, which takes the lock of the whole cluster.
not_frozen() ->
    Self = self(),
    {Pid, Monitor} =
        spawn_monitor(fun() ->
                              Name = make_ref(),
                              yes = global:register_name(Name, Self),
                              global:unregister_name(Name)
                      end),
    receive {'DOWN', Monitor, _, Pid, normal} -> yes
    after 8000 -> frozen
    end.

%% --------------------------------------------------------------------- end

%% The name is gone while a call that is in flight still gets its answer.
termination_gives_up_the_name_before_it_stops_answering(Config) ->
    Caller = bed:caller(Config),
    Provider = bed:provider(Config),
    Self = self(),
    scripted_provider:set_handler(
      Provider, fun(Request) ->
                        [{sleep, 1500} | scripted_model:from_document(Request)]
                end),
    spawn_link(fun() ->
                       Self ! {answer, bed:call(Config, {call_with_prompt,
                                                         simple, <<"hi">>})}
               end),
    scripted_provider:await_requests(Provider, 1),
    router:signal(bed:router(Config), "TERM"),
    bed:eventually(fun() -> whereis_node(Caller) =:= undefined end, 1000),
    #{in_flight := 1} = scripted_provider:counters(Provider),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}},
                 receive {answer, Answer} -> Answer end),
    {exited, 0} = router:await_exit(bed:router(Config), 5000).

a_kill_leaves_no_name_behind(Config) ->
    Caller = bed:caller(Config),
    bed:kill_router(Config),
    bed:eventually(fun() -> whereis_node(Caller) =:= undefined end, 1000).
