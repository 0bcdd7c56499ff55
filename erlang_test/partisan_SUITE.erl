%% The bridge to Partisan. `near' is a node of the router's cluster, `far' one
%% without Erlang distribution; Partisan joins the two, and both have a bridge.
-module(partisan_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(BRIDGE, llm_router_partisan).
-define(NEAR, 'near@partisan').
-define(FAR, 'far@partisan').
-define(ASK(Opts), {call_with_prompt, simple, <<"hi">>, Opts}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% tasks
     a_task_is_told_on_every_node,
     what_came_in_is_not_sent_out_again,
     an_update_of_ones_own_is_told_on_every_node,
     the_channel_is_that_of_the_options,
     who_no_longer_watches_is_told_nothing,
     a_watcher_that_dies_is_forgotten,
     %% requests
     a_request_without_distribution_is_answered,
     a_slow_request_holds_up_no_other,
     a_request_whose_answer_goes_to_a_pid_is_refused,
     without_a_router_a_request_is_answered,
     a_request_in_flight_is_answered_when_the_router_goes,
     one_request_too_many_is_overloaded,
     %% pids
     a_pid_of_the_router_does_not_leave,
     the_next_router_is_found,
     %% without Partisan
     a_node_that_is_not_there_is_an_error,
     when_partisan_ends_the_bridge_stays,
     without_partisan_nothing_is_started,
     without_the_option_nothing_is_started,
     the_name_is_that_of_the_options].

init_per_suite(Config) ->
    Up = bed:up(Config, #{router => none}),
    {ok, Far, _} =
        peer:start(#{connection => standard_io,
                     args => ["-pa", filename:dirname(code:which(?MODULE)),
                              "-kernel", "logger_level", "emergency"]}),
    [{far, #{peer => Far, node => ?FAR}} | Up].

end_per_suite(Config) ->
    bed:stop_caller(far(Config)),
    bed:down(Config).

init_per_testcase(_Case, Config) ->
    set(Config, fun scripted_model:from_document/1),
    Up = bed:start_router(bed:renamed(Config), #{}),
    Ports = [{Name, bed:on(Node, fun() -> start_partisan(Name) end)}
             || {Node, Name} <- [{near(Up), ?NEAR}, {far(Up), ?FAR}]],
    [bed:on(Node, fun() -> partisan_standin:join(Name, Port) end)
     || Node <- [near(Up), far(Up)], {Name, Port} <- Ports],
    start_bridge(near(Up), true),
    start_bridge(far(Up), true),
    attached(Up),
    Up.

end_per_testcase(_Case, Config) ->
    bed:must(fun() ->
                 [bed:on(Node, fun() -> stop(whereis(?BRIDGE)),
                                        stop_partisan()
                               end) || Node <- [near(Config), far(Config)]],
                 bed:stop_router(Config)
             end).

near(Config) -> bed:caller(Config).
far(Config) -> proplists:get_value(far, Config).

set(Config, Handler) ->
    scripted_provider:set_handler(bed:provider(Config), Handler).

start_partisan(Name) ->
    ok = standin:load(partisan, partisan_standin),
    partisan_standin:start(Name).

stop_partisan() ->
    _ = ets:whereis(partisan_standin) =:= undefined
        orelse partisan_standin:stop(),
    code:purge(partisan),
    code:delete(partisan).

%% A bridge with an owner that stays.
start_bridge(Node, Opts) ->
    bed:on(Node, fun() ->
        Self = self(),
        spawn(fun() ->
                  Self ! {started,
                          llm_router_partisan:start_link(#{partisan => Opts})},
                  receive never -> ok end
              end),
        receive {started, {ok, Pid}} -> Pid end
    end).

stop(undefined) ->
    ok;
stop(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

attached(Config) ->
    bed:eventually(fun() -> router_of(near(Config)) =/= none end).

router_of(Node) ->
    bed:on(Node, fun() -> maps:get(server, sys:get_state(?BRIDGE)) end).

call(Config, Op) ->
    Server = {llm_router, router:node(bed:router(Config))},
    bed:on(near(Config), fun() -> gen_server:call(Server, Op) end).

sent(Node) ->
    bed:on(Node, fun partisan_standin:sent/0).

%% A process on the node that watches the id and keeps what it is told.
watcher(Node, Id) ->
    bed:on(Node, fun() ->
        Self = self(),
        Pid = spawn(fun() ->
                        ok = llm_router_partisan:watch(Id),
                        Self ! {self(), watches},
                        keep([])
                    end),
        receive {Pid, watches} -> Pid end
    end).

keep(Kept) ->
    receive
        {what, From} -> From ! {self(), lists:reverse(Kept)}, keep(Kept);
        Message -> keep([Message | Kept])
    end.

told(Node, Pid) ->
    bed:on(Node, fun() ->
        Pid ! {what, self()},
        receive {Pid, Kept} -> Kept end
    end).

%% All that it was told, once the task is complete.
told_all(Node, Pid, Id) ->
    bed:eventually(fun() ->
                       lists:member({task_completed, Id}, told(Node, Pid))
                   end),
    timer:sleep(100),
    told(Node, Pid).

%% ------------------------------------------------------------------ tasks

a_task_is_told_on_every_node(Config) ->
    Watchers = [{Node, watcher(Node, <<"t1">>)}
                || Node <- [near(Config), far(Config)]],
    {ok, #{request_id := Id}} = call(Config, ?ASK(#{task_id => <<"t1">>})),
    [begin
         Told = told_all(Node, Pid, <<"t1">>),
         ?assertMatch({task_update, <<"t1">>, #{status := accepted,
                                                request_id := Id}}, hd(Told)),
         ?assertMatch([{task_update, <<"t1">>, #{status := done}},
                       {task_completed, <<"t1">>}],
                      lists:nthtail(length(Told) - 2, Told))
     end || {Node, Pid} <- Watchers],
    [One, Other] = [told(Node, Pid) || {Node, Pid} <- Watchers],
    ?assertEqual(One, Other).

what_came_in_is_not_sent_out_again(Config) ->
    Near = watcher(near(Config), t),
    Far = watcher(far(Config), t),
    {ok, _} = call(Config, ?ASK(#{task_id => t})),
    Told = told_all(far(Config), Far, t),
    ?assertEqual(Told, told(near(Config), Near)),
    ?assertEqual(lists:usort(Told), lists:sort(Told)),
    ?assertEqual([], sent(far(Config))),
    ?assertEqual(Told, [Message || {?FAR, ?BRIDGE, Message, _}
                                       <- sent(near(Config))]).

an_update_of_ones_own_is_told_on_every_node(Config) ->
    Near = watcher(near(Config), 7),
    Far = watcher(far(Config), 7),
    ok = bed:on(far(Config), fun() ->
             llm_router_partisan:broadcast_task_update(7, #{status => mine})
         end),
    Mine = [{task_update, 7, #{status => mine}}],
    bed:eventually(fun() -> told(near(Config), Near) =:= Mine end),
    ?assertEqual(Mine, told(far(Config), Far)),
    ?assertEqual([], sent(near(Config))).

the_channel_is_that_of_the_options(Config) ->
    Broadcast = fun() ->
        bed:on(near(Config), fun() ->
            llm_router_partisan:broadcast_task_update(1, #{}),
            [Opts || {_, _, _, Opts} <- partisan_standin:sent()]
        end)
    end,
    ?assertEqual([#{channel => task_ops}], Broadcast()),
    bed:on(near(Config), fun() -> stop(whereis(?BRIDGE)) end),
    start_bridge(near(Config), [{channel, other}]),
    ?assertEqual([#{channel => task_ops}, #{channel => other}], Broadcast()).

who_no_longer_watches_is_told_nothing(Config) ->
    bed:on(near(Config), fun() ->
        Ids = [1, two, <<"three">>],
        [ok = llm_router_partisan:watch(Id) || Id <- Ids ++ Ids],
        ok = llm_router_partisan:unwatch(two),
        ok = llm_router_partisan:unwatch(never),
        [llm_router_partisan:broadcast_task_update(Id, x) || Id <- Ids],
        ?assertEqual([{task_update, 1, x}, {task_update, <<"three">>, x}],
                     bed:drain()),
        [ok = llm_router_partisan:unwatch(Id) || Id <- Ids],
        [llm_router_partisan:broadcast_task_update(Id, x) || Id <- Ids],
        ?assertEqual([], bed:drain()),
        #{watchers := Watchers, monitors := Monitors} = sys:get_state(?BRIDGE),
        ?assertEqual({0, 0}, {map_size(Watchers), map_size(Monitors)}),
        {monitors, Left} = process_info(whereis(?BRIDGE), monitors),
        ?assertNot(lists:member({process, self()}, Left))
    end).

a_watcher_that_dies_is_forgotten(Config) ->
    Watcher = watcher(near(Config), 1),
    bed:on(near(Config), fun() ->
        exit(Watcher, kill),
        bed:eventually(fun() ->
            #{watchers := Watchers, monitors := Monitors} =
                sys:get_state(?BRIDGE),
            {0, 0} =:= {map_size(Watchers), map_size(Monitors)}
        end)
    end).

%% --------------------------------------------------------------- requests

%% Asks from the far node, as one without this bridge would: the answers in the
%% order of the operations.
ask_from_far(Config, Ops) ->
    bed:on(far(Config), fun() ->
        register(asker, self()),
        [partisan:forward_message(?NEAR, ?BRIDGE,
                                  {llm_request, {asker, ?FAR}, N, Op},
                                  #{channel => task_ops})
         || {N, Op} <- numbered(Ops)],
        [receive {llm_response, N, Result} -> Result
         after 20000 -> error({no_answer, N})
         end || {N, _} <- numbered(Ops)]
    end).

numbered(List) ->
    lists:zip(lists:seq(1, length(List)), List).

a_request_without_distribution_is_answered(Config) ->
    ?assertMatch([pong, {ok, #{text := <<"You wrote: hi">>}}, {ok, [_, _]},
                  {error, {unknown_request, _}}, {error, _}],
                 ask_from_far(Config, [ping, ?ASK(#{}),
                                       {parse_prd, <<"# A\n# B">>, 2},
                                       {no_such_thing, 1}, {}])).

a_slow_request_holds_up_no_other(Config) ->
    set(Config, fun(_) -> [{sleep, 1000} | scripted_provider:answer(<<"x">>)]
                end),
    bed:on(far(Config), fun() ->
        register(asker, self()),
        Ask = fun(N, Op) ->
            partisan:forward_message(?NEAR, ?BRIDGE,
                                     {llm_request, {asker, ?FAR}, N, Op}, #{})
        end,
        Ask(1, ?ASK(#{})),
        Ask(2, ping),
        receive {llm_response, N, Result} -> {2, pong} = {N, Result} end
    end).

a_request_whose_answer_goes_to_a_pid_is_refused(Config) ->
    Ops = [{stream, simple, [{user, <<"hi">>}]}, {watch_task, 1},
           {unwatch_task, 1}, {subscribe, tasks}, {unsubscribe, tasks, #{}}],
    [?assertMatch({error, {invalid_request, #{message := <<_, _/binary>>}}},
                  Answer) || Answer <- ask_from_far(Config, Ops)],
    ?assertEqual([], scripted_provider:requests(bed:provider(Config))).

without_a_router_a_request_is_answered(Config) ->
    bed:kill_router(Config),
    bed:eventually(fun() -> router_of(near(Config)) =:= none end),
    ?assertEqual([{error, router_down}], ask_from_far(Config, [ping])).

a_request_in_flight_is_answered_when_the_router_goes(Config) ->
    set(Config, fun(_) -> [hang] end),
    {Pid, Monitor} =
        spawn_monitor(fun() ->
                          exit({answers, ask_from_far(Config, [?ASK(#{})])})
                      end),
    scripted_provider:await_requests(bed:provider(Config), 1),
    bed:kill_router(Config),
    receive
        {'DOWN', Monitor, process, Pid, {answers, Answers}} ->
            ?assertEqual([{error, router_down}], Answers)
    end.

one_request_too_many_is_overloaded(Config) ->
    set(Config, fun(_) -> [{sleep, 3000} | scripted_provider:answer(<<"x">>)]
                end),
    Answers = ask_from_far(Config, lists:duplicate(1001, ?ASK(#{}))),
    {Right, Wrong} = lists:split(1000, Answers),
    ?assertEqual(1000, length([ok || {ok, #{text := <<"x">>}} <- Right])),
    ?assertMatch([{error, {overloaded, #{message := _}}}], Wrong),
    ?assertEqual([pong], ask_from_far(Config, [ping])).

%% ------------------------------------------------------------------- pids

a_pid_of_the_router_does_not_leave(Config) ->
    bed:on(far(Config), fun() -> stop(whereis(?BRIDGE)) end),
    Collector = bed:on(far(Config), fun() ->
        Pid = spawn(fun() -> keep([]) end),
        register(?BRIDGE, Pid),
        Pid
    end),
    Own = bed:on(near(Config), fun() ->
        Router = global:whereis_name(llm_router),
        Own = whereis(?BRIDGE),
        ok = llm_router_partisan:forward_to_node(
               ?FAR, {Router, [Router, a | Router], #{Router => {Router}},
                      #{k => [#{v => Router}]}, "text", <<"b">>, Own}),
        pid_to_list(Own)
    end),
    Name = {?BRIDGE, ?NEAR},
    Ref = {partisan_remote_ref, ?NEAR, {encoded_pid, Own}},
    Expected = {Name, [Name, a | Name], #{Name => {Name}},
                #{k => [#{v => Name}]}, "text", <<"b">>, Ref},
    bed:eventually(fun() -> told(far(Config), Collector) =/= [] end),
    ?assertEqual([Expected], told(far(Config), Collector)).

the_next_router_is_found(Config) ->
    Watcher = watcher(far(Config), 5),
    bed:kill_router(Config),
    bed:eventually(fun() -> router_of(near(Config)) =:= none end),
    Up = bed:start_router(bed:renamed(Config), #{}),
    attached(Up),
    {ok, _} = call(Up, ?ASK(#{task_id => 5})),
    ?assertMatch([{task_update, 5, _} | _], told_all(far(Config), Watcher, 5)),
    ?assertEqual([pong], ask_from_far(Config, [ping])),
    {exited, 0} = bed:stop_router(Up).

%% -------------------------------------------------------- without Partisan

a_node_that_is_not_there_is_an_error(Config) ->
    ?assertEqual({error, disconnected},
                 bed:on(near(Config), fun() ->
                     llm_router_partisan:forward_to_node('no@where', hello)
                 end)).

when_partisan_ends_the_bridge_stays(Config) ->
    bed:on(near(Config), fun() ->
        Bridge = whereis(?BRIDGE),
        ok = llm_router_partisan:watch(1),
        partisan_standin:stop(),
        ok = llm_router_partisan:broadcast_task_update(1, x),
        receive {task_update, 1, x} -> ok end,
        {error, not_running} =
            llm_router_partisan:forward_to_node(?FAR, hello),
        [Bridge ! Stray || Stray <- [stray, {llm_request, self(), 1, ping},
                                     {llm_request, {a, ?FAR}, 1, ping}]],
        #{} = sys:get_state(Bridge),
        Bridge = whereis(?BRIDGE)
    end).

without_partisan_nothing_is_started(Config) ->
    bed:on(near(Config), fun() ->
        stop(whereis(?BRIDGE)),
        stop_partisan(),
        ok = logger:set_primary_config(level, info),
        ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
        ignore = llm_router_partisan:start_link(#{partisan => true}),
        ok = logger:remove_handler(?MODULE),
        [{log, #{level := info}}] = bed:drain()
    end).

log(#{meta := #{domain := [llm_router]}} = Event, #{config := Pid}) ->
    Pid ! {log, Event};
log(_Event, _Config) ->
    ok.

without_the_option_nothing_is_started(Config) ->
    bed:on(near(Config), fun() ->
        ignore = llm_router_partisan:start_link(#{}),
        ignore = llm_router_partisan:start_link(#{partisan => false})
    end).

the_name_is_that_of_the_options(Config) ->
    [bed:on(Node, fun() -> stop(whereis(?BRIDGE)) end)
     || Node <- [near(Config), far(Config)]],
    [start_bridge(Node, [{name, swarm}])
     || Node <- [near(Config), far(Config)]],
    bed:on(far(Config), fun() ->
        llm_router_env:store(llm_router_env:options(
                               #{partisan => [{name, swarm}]}))
    end),
    Watcher = watcher(far(Config), 9),
    bed:on(near(Config), fun() ->
        bed:eventually(fun() ->
            maps:get(server, sys:get_state(swarm)) =/= none
        end)
    end),
    {ok, _} = call(Config, ?ASK(#{task_id => 9})),
    ?assertMatch([{task_update, 9, _} | _], told_all(far(Config), Watcher, 9)),
    [bed:on(Node, fun() ->
                stop(whereis(swarm)),
                persistent_term:erase({llm_router, options})
            end) || Node <- [near(Config), far(Config)]].
