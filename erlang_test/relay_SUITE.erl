%% Calls through the relay of a node, and its place in a Horde registry.
-module(relay_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(RELAY, llm_router_relay).
-define(HORDE, 'Elixir.Horde.Registry').
-define(REGISTRY, 'Elixir.SwarmService.DistributedRegistry').
-define(ASK, {call_with_prompt, simple, <<"hi">>}).
-define(TEXT, <<"Hello there, how are you today?">>).
-define(MANY, 2000).
-define(MESSAGES, [#{role => user, content => <<"Say hello to me">>}]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% calls
     a_call_gives_what_the_router_gives,
     a_relay_can_be_called_from_another_node,
     a_slow_call_holds_up_no_other,
     thousands_of_calls_at_once_are_answered_and_forgotten,
     one_call_too_many_is_overloaded,
     a_caller_that_dies_takes_its_call_back,
     a_caller_that_dies_with_its_node_takes_its_call_back,
     a_relay_that_dies_takes_its_calls_back,
     %% what goes to the calling process
     a_stream_goes_to_who_called_the_relay,
     a_stream_goes_to_whom_it_names,
     watchers_and_subscribers_are_who_called_the_relay,
     messages_and_casts_are_passed_on,
     a_stray_message_is_passed_over,
     %% without a router
     without_a_router_the_answer_comes_at_once,
     calls_in_flight_are_answered_when_the_router_goes,
     the_next_router_is_found,
     the_name_passing_to_a_living_router_is_followed,
     two_relays_do_not_call_each_other,
     without_the_option_there_is_no_relay,
     %% Horde
     the_routers_own_process_is_not_found_in_the_registry,
     a_relay_names_the_routers_node_in_the_registry,
     the_value_can_be_a_map,
     a_client_finds_the_router_in_the_registry,
     of_two_relays_the_other_takes_over,
     a_relay_that_loses_a_conflict_lives,
     the_registry_may_come_later_and_go,
     a_holder_that_does_not_answer_holds_up_no_call,
     the_value_follows_the_router].

init_per_suite(Config) ->
    bed:up(Config, #{callers => 2, router => none}).

end_per_suite(Config) ->
    bed:down(Config).

init_per_testcase(_Case, Config) ->
    reset(Config),
    Up = bed:start_router(bed:renamed(Config), #{}),
    [{relay, start_relay(bed:caller(Up), true)} | Up].

end_per_testcase(_Case, Config) ->
    bed:must(fun() ->
                 [stop_relay(Caller) || Caller <- callers(Config)],
                 [stop_registry(Caller) || Caller <- callers(Config)],
                 bed:stop_router(Config)
             end).

reset(Config) ->
    set(Config, fun scripted_model:from_document/1).

set(Config, Handler) ->
    scripted_provider:set_handler(bed:provider(Config), Handler).

hangs() ->
    fun(_) -> [hang] end.

slow(Ms) ->
    fun(_) -> [{sleep, Ms} | scripted_provider:answer(<<"slow">>)] end.

callers(Config) ->
    [bed:caller(Config, 1), bed:caller(Config, 2)].

%% ----------------------------------------------------- relays, registries

%% A relay on the caller's node with an owner that stays.
start_relay(Caller, Relay) ->
    bed:on(Caller, fun() ->
        Self = self(),
        spawn(fun() ->
                  Self ! {started,
                          llm_router_relay:start_link(#{relay => Relay})},
                  receive never -> ok end
              end),
        receive {started, {ok, Pid}} -> Pid end
    end).

%% One that has found the router.
start_attached(Caller, Relay) ->
    stop_relay(Caller),
    start_relay(Caller, Relay),
    attached(Caller).

attached(Caller) ->
    bed:eventually(fun() -> ask(Caller, ping) =:= pong end).

stop_relay(Caller) ->
    bed:on(Caller, fun() -> stop(whereis(?RELAY)) end).

stop(undefined) ->
    ok;
stop(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

ask(Caller, Op) ->
    bed:on(Caller, fun() -> gen_server:call(?RELAY, Op, 20000) end).

%% How many it waits for.
requests(Caller) ->
    bed:on(Caller, fun() ->
               #{requests := Requests} = sys:get_state(?RELAY),
               map_size(Requests) div 2
           end).

start_registry(Caller) ->
    bed:on(Caller, fun() ->
               ok = standin:load(?HORDE, horde_standin),
               {ok, _} = horde_standin:start(?REGISTRY)
           end).

stop_registry(Caller) ->
    bed:on(Caller, fun() ->
               _ = whereis(?REGISTRY) =:= undefined
                   orelse horde_standin:stop(?REGISTRY),
               code:purge(?HORDE),
               code:delete(?HORDE)
           end).

lookup(Caller) ->
    bed:on(Caller, fun() -> horde_standin:lookup(?REGISTRY, llm_router) end).

%% What a client on this node knows.
configure() ->
    llm_router_env:store(llm_router_env:options(#{mode => external,
                                                  relay => in_registry()})).

in_registry() ->
    [{registry, ?REGISTRY}].

%% ------------------------------------------------------------------ calls

a_call_gives_what_the_router_gives(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    Direct = fun(Op) -> bed:call(Config, Op) end,
    Through = fun(Op) -> ask(Caller, Op) end,
    [?assertEqual(Direct(Op), Through(Op))
     || Op <- [ping,
               {parse_prd, <<"# Login\n# Logout">>, 2},
               {generate_task, <<"Check addresses">>, [{priority, high}]},
               {select_model, simple, qa},
               {no_such_operation, 1},
               {cancel, <<"not there">>}]],
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}}, Through(?ASK)),
    ?assertMatch(#{node := _}, Through(version)).

a_relay_can_be_called_from_another_node(Config) ->
    attached(bed:caller(Config)),
    #{node := Node} = bed:caller(Config),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}},
                 bed:on(bed:caller(Config, 2),
                        fun() -> gen_server:call({?RELAY, Node}, ?ASK) end)).

a_slow_call_holds_up_no_other(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    set(Config, hangs()),
    Asking = asking(Caller, ?RELAY),
    ?assertEqual(pong, ask(Caller, ping)),
    ?assertEqual(1, requests(Caller)),
    bed:on(Caller, fun() -> exit(Asking, kill) end).

%% A process of the caller's node that waits for an answer of the provider.
asking(Caller, Relay) ->
    bed:on(Caller, fun() ->
        spawn(fun() -> gen_server:call(Relay, ?ASK, infinity) end)
    end).

is_asking() ->
    #{requests := Requests} = sys:get_state(?RELAY),
    map_size(Requests) > 0.

thousands_of_calls_at_once_are_answered_and_forgotten(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    set(Config, slow(1500)),
    bed:on(Caller, fun() ->
        Before = footprint(),
        Pids = [spawn_monitor(fun() ->
                    exit({answer, gen_server:call(?RELAY, ?ASK, infinity)})
                end) || _ <- lists:seq(1, ?MANY)],
        pong = gen_server:call(?RELAY, ping),
        #{requests := Requests} = sys:get_state(?RELAY),
        ?assert(map_size(Requests) > ?MANY),
        [receive
             {'DOWN', M, _, _, {answer, {ok, #{text := <<"slow">>}}}} -> ok
         end || {_, M} <- Pids],
        bed:eventually(fun() -> not is_asking() end),
        {Bytes, Monitors} = footprint(),
        ?assertEqual(element(2, Before), Monitors),
        ?assert(Bytes < element(1, Before) + 100000)
    end).

%% Bytes and monitors of the relay.
footprint() ->
    Relay = whereis(?RELAY),
    garbage_collect(Relay),
    {memory, Bytes} = process_info(Relay, memory),
    {monitors, Monitors} = process_info(Relay, monitors),
    {Bytes, length(Monitors)}.

one_call_too_many_is_overloaded(Config) ->
    Caller = bed:caller(Config),
    start_attached(Caller, [{max_requests, 2}]),
    set(Config, slow(1000)),
    bed:on(Caller, fun() ->
        Wait = [gen_server:send_request(?RELAY, ?ASK) || _ <- [1, 2]],
        {error, {overloaded, #{message := Text}}} =
            gen_server:call(?RELAY, ping),
        true = is_binary(Text),
        [{reply, {ok, #{text := <<"slow">>}}} =
             gen_server:receive_response(Id, infinity) || Id <- Wait],
        bed:eventually(fun() -> not is_asking() end),
        pong = gen_server:call(?RELAY, ping)
    end).

a_caller_that_dies_takes_its_call_back(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    set(Config, hangs()),
    Asking = asking(Caller, ?RELAY),
    scripted_provider:await_requests(bed:provider(Config), 1),
    bed:on(Caller, fun() -> exit(Asking, kill) end),
    scripted_provider:await_aborted(bed:provider(Config), 1),
    bed:eventually(fun() -> requests(Caller) =:= 0 end).

a_caller_that_dies_with_its_node_takes_its_call_back(Config) ->
    #{node := Node} = Caller = bed:caller(Config),
    attached(Caller),
    set(Config, hangs()),
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Third = bed:start_caller(Cookie, bed:node_name(caller)),
    asking(Third, {?RELAY, Node}),
    scripted_provider:await_requests(bed:provider(Config), 1),
    bed:kill_caller(Third),
    scripted_provider:await_aborted(bed:provider(Config), 1),
    bed:eventually(fun() -> requests(Caller) =:= 0 end).

a_relay_that_dies_takes_its_calls_back(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    set(Config, hangs()),
    [asking(Caller, ?RELAY) || _ <- [1, 2, 3]],
    scripted_provider:await_requests(bed:provider(Config), 3),
    stop_relay(Caller),
    scripted_provider:await_aborted(bed:provider(Config), 3).

%% --------------------------------------------- what goes to the caller

a_stream_goes_to_who_called_the_relay(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    set(Config, fun(_) -> scripted_provider:answer(?TEXT, #{chunk_size => 5})
                end),
    bed:on(Caller, fun() ->
        [begin
             {ok, Ref} = gen_server:call(?RELAY, Op),
             ?assertEqual(?TEXT, text(Ref))
         end || Op <- [{stream, simple, ?MESSAGES},
                       {stream, simple, ?MESSAGES, #{}},
                       {stream, simple, ?MESSAGES, [{max_tokens, 50}]},
                       {stream, simple, ?MESSAGES, #{<<"max_tokens">> => 50}}]],
        ?assertEqual([], bed:drain())
    end).

%% The text of a stream to this process.
text(Ref) ->
    receive
        {llm_stream, Ref, {delta, Delta}} ->
            <<Delta/binary, (text(Ref))/binary>>;
        {llm_stream, Ref, {done, _}} -> <<>>
    after 5000 ->
            error(no_end)
    end.

a_stream_goes_to_whom_it_names(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    set(Config, fun(_) -> scripted_provider:answer(?TEXT) end),
    bed:on(Caller, fun() ->
        Self = self(),
        [begin
             Ref = in_another_process(fun() ->
                 {ok, Ref} = gen_server:call(?RELAY, {stream, simple, ?MESSAGES,
                                                      Opts}),
                 Ref
             end),
             ?assertEqual(?TEXT, text(Ref))
         end || Opts <- [#{to => Self}, #{<<"to">> => Self}, [{to, Self}],
                         [{max_tokens, 5}, {<<"to">>, Self}]]],
        {error, {invalid_request, _}} =
            gen_server:call(?RELAY, {stream, simple, ?MESSAGES, neither}),
        {error, {invalid_request, _}} =
            gen_server:call(?RELAY, {stream, simple, ?MESSAGES, [a | b]})
    end).

%% What Fun gives in a process that is gone when we have it.
in_another_process(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({result, Fun()}) end),
    receive {'DOWN', Monitor, process, Pid, {result, Result}} -> Result end.

watchers_and_subscribers_are_who_called_the_relay(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    bed:on(Caller, fun() ->
        Ask = {call_with_prompt, simple, <<"hi">>, #{task_id => <<"t">>}},
        ok = gen_server:call(?RELAY, {watch_task, <<"t">>}),
        {ok, _} = gen_server:call(?RELAY, Ask),
        receive {task_completed, <<"t">>} -> ok end,
        ok = gen_server:call(?RELAY, {unwatch_task, <<"t">>, []}),
        bed:drain(),
        ok = gen_server:call(?RELAY, {subscribe, telemetry,
                                      [{scope, node}]}),
        {ok, _} = gen_server:call(?RELAY, Ask),
        receive {llm_router_telemetry, [_, _, stop], _, _} -> ok end,
        ok = gen_server:call(?RELAY, {unsubscribe, telemetry}),
        bed:drain(),
        {ok, _} = gen_server:call(?RELAY, Ask),
        ?assertEqual([], bed:drain())
    end).

messages_and_casts_are_passed_on(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    bed:on(Caller, fun() ->
        Self = self(),
        ?RELAY ! {llm_request, Self, one, ping},
        receive {llm_response, one, pong} -> ok end,
        ?RELAY ! {prd_request, Self, opaque, <<"# Login">>, 1},
        receive {prd_response, {ok, [_]}} -> ok end,
        ?RELAY ! {generate_task, <<"Check addresses">>, Self},
        receive {llm_result, generate_task, {ok, #{title := _}}} -> ok end,
        gen_server:cast(?RELAY, {generate_task, <<"Check addresses">>, Self,
                                 two}),
        receive {llm_response, two, {ok, #{title := _}}} -> ok end
    end).

a_stray_message_is_passed_over(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    bed:on(Caller, fun() ->
        Relay = whereis(?RELAY),
        [Relay ! Stray || Stray <- [hello, {}, {a, b}, {a, b, c},
                                    {holder, nobody},
                                    {llm_router_attachment, self(), detached},
                                    {make_ref(), x},
                                    {'EXIT', self(), x},
                                    {'DOWN', make_ref(), process, self(), x}]],
        pong = gen_server:call(?RELAY, ping),
        Relay = whereis(?RELAY)
    end).

%% ------------------------------------------------------- without a router

without_a_router_the_answer_comes_at_once(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    bed:kill_router(Config),
    bed:on(Caller, fun() ->
        bed:eventually(fun() ->
                           maps:get(server, sys:get_state(?RELAY)) =:= none
                       end),
        {Us, Answer} = timer:tc(fun() -> gen_server:call(?RELAY, ping) end),
        ?assertEqual({error, router_down}, Answer),
        ?assert(Us < bed:limit_ms(1000) * 1000),
        gen_server:cast(?RELAY, {generate_task, <<"x">>, self()}),
        ?RELAY ! {generate_task, <<"x">>, self()},
        ?assertEqual({error, router_down}, gen_server:call(?RELAY, ?ASK))
    end).

calls_in_flight_are_answered_when_the_router_goes(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    set(Config, hangs()),
    Answers = in_background(fun() ->
        bed:on(Caller, fun() ->
            Ids = [gen_server:send_request(?RELAY, ?ASK)
                   || _ <- lists:seq(1, 20)],
            [gen_server:receive_response(Id, 20000) || Id <- Ids]
        end)
    end),
    scripted_provider:await_requests(bed:provider(Config), 20),
    bed:kill_router(Config),
    ?assertEqual(lists:duplicate(20, {reply, {error, router_down}}),
                 Answers()).

%% A fun that waits for the result.
in_background(Fun) ->
    {Pid, Monitor} = spawn_monitor(fun() -> exit({result, Fun()}) end),
    fun() ->
        receive {'DOWN', Monitor, process, Pid, {result, Result}} -> Result end
    end.

the_next_router_is_found(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    bed:kill_router(Config),
    Up = bed:start_router(Config, #{}),
    attached(Caller),
    {exited, 0} = bed:stop_router(Up).

%% A router that drains gives the name up while it still answers.
the_name_passing_to_a_living_router_is_followed(Config) ->
    Caller = bed:caller(Config),
    attached(Caller),
    Next = bed:node_name(router),
    Standby = bed:run_router(Config, Next, #{}),
    set(Config, slow(4000)),
    Answer = in_background(fun() -> ask(Caller, ?ASK) end),
    scripted_provider:await_requests(bed:provider(Config), 1),
    ok = ask(Caller, drain),
    bed:eventually(fun() -> answers_from(Caller) =:= Next end),
    ?assertEqual(1, requests(Caller)),
    ?assertMatch({ok, #{text := <<"slow">>}}, Answer()),
    {exited, 0} = router:stop(Standby).

answers_from(Caller) ->
    case ask(Caller, version) of
        #{node := Node} -> binary_to_atom(Node);
        {error, _} -> none
    end.

%% A client here is told to call the other node's relay while the router that
%% it names cannot be reached.
two_relays_do_not_call_each_other(Config) ->
    [One, Two] = callers(Config),
    [start_registry(Caller) || Caller <- [One, Two]],
    start_attached(One, in_registry()),
    bed:eventually(fun() -> lookup(Two) =/= [] end),
    bed:kill_router(Config),
    Seen = bed:on(Two, fun() ->
        configure(),
        bed:eventually(fun() ->
            case llm_router:whereis() of
                {ok, Pid} -> is_pid(Pid);
                _ -> false
            end
        end),
        llm_router:whereis()
    end),
    [{Pid, _}] = lookup(Two),
    ?assertEqual({ok, Pid}, Seen),
    start_relay(Two, true),
    timer:sleep(1500),
    bed:on(Two, fun() ->
        #{server := none} = sys:get_state(?RELAY),
        persistent_term:erase({llm_router, options})
    end),
    ?assertEqual({error, router_down}, ask(Two, ping)).

without_the_option_there_is_no_relay(Config) ->
    bed:on(bed:caller(Config, 2), fun() ->
        ignore = llm_router_relay:start_link(#{}),
        ignore = llm_router_relay:start_link(#{relay => false})
    end).

%% ------------------------------------------------------------------ Horde

the_routers_own_process_is_not_found_in_the_registry(Config) ->
    Caller = bed:caller(Config),
    start_registry(Caller),
    bed:on(Caller, fun() ->
        Router = global:whereis_name(llm_router),
        gen_server:cast(?REGISTRY, {put, {llm_router, Router, node(Router)}}),
        _ = sys:get_state(?REGISTRY),
        [{llm_router, Router, _}] = ets:tab2list(?REGISTRY)
    end),
    ?assertEqual([], lookup(Caller)).

a_relay_names_the_routers_node_in_the_registry(Config) ->
    [One, Two] = callers(Config),
    [start_registry(Caller) || Caller <- [One, Two]],
    start_attached(One, in_registry()),
    bed:eventually(fun() -> lookup(Two) =/= [] end),
    [{Pid, Node}] = lookup(Two),
    ?assertEqual(bed:node(Config), Node),
    ?assertEqual(Pid, bed:on(One, fun() -> whereis(?RELAY) end)),
    ?assertEqual(pong, bed:on(Two, fun() -> gen_server:call(Pid, ping) end)),
    ?assertEqual(pong, bed:on(Two, fun() ->
                                  gen_server:call({llm_router, Node}, ping)
                              end)).

the_value_can_be_a_map(Config) ->
    Caller = bed:caller(Config),
    start_registry(Caller),
    start_attached(Caller, [{value, map}, {key, router} | in_registry()]),
    Node = bed:node(Config),
    bed:on(Caller, fun() ->
        bed:eventually(fun() ->
                           [] =/= ?HORDE:lookup(?REGISTRY, router)
                       end),
        [{_, #{node := Node}}] = ?HORDE:lookup(?REGISTRY, router),
        [] = ?HORDE:lookup(?REGISTRY, llm_router)
    end).

a_client_finds_the_router_in_the_registry(Config) ->
    [One, Two] = callers(Config),
    [start_registry(Caller) || Caller <- [One, Two]],
    start_attached(One, in_registry()),
    bed:eventually(fun() -> lookup(Two) =/= [] end),
    Node = bed:node(Config),
    bed:on(Two, fun() ->
        Pid = global:whereis_name(llm_router),
        global:unregister_name(llm_router),
        configure(),
        Found = llm_router:whereis(),
        persistent_term:erase({llm_router, options}),
        yes = global:register_name(llm_router, Pid),
        {ok, {llm_router, Node}} = Found
    end).

of_two_relays_the_other_takes_over(Config) ->
    [One, Two] = callers(Config),
    [start_registry(Caller) || Caller <- [One, Two]],
    First = start_attached_pid(One),
    bed:eventually(fun() -> holder(Two) =:= First end),
    Second = start_attached_pid(Two),
    timer:sleep(500),
    ?assertEqual(First, holder(Two)),
    stop_relay(One),
    bed:eventually(fun() -> holder(One) =:= Second end, 10000),
    ?assertEqual(Second, holder(Two)).

start_attached_pid(Caller) ->
    start_attached(Caller, in_registry()),
    bed:on(Caller, fun() -> whereis(?RELAY) end).

holder(Caller) ->
    case lookup(Caller) of
        [{Pid, _}] -> Pid;
        [] -> none
    end.

a_relay_that_loses_a_conflict_lives(Config) ->
    [Winner, Loser] =
        lists:sort(fun(#{node := A}, #{node := B}) -> A < B end,
                   callers(Config)),
    [start_registry(Caller) || Caller <- [Winner, Loser]],
    Lost = start_attached_pid(Loser),
    bed:eventually(fun() -> holder(Loser) =:= Lost end),
    stop_relay(Winner),
    Won = start_relay(Winner, true),
    attached(Winner),
    bed:on(Loser, fun() ->
        gen_server:cast(?REGISTRY, {put, {llm_router, Won, won}}),
        _ = sys:get_state(?REGISTRY)
    end),
    ?assertEqual([{Won, won}], lookup(Loser)),
    ?assertEqual(pong, ask(Loser, ping)),
    stop_relay(Winner),
    bed:eventually(fun() -> holder(Loser) =:= Lost end, 10000).

the_registry_may_come_later_and_go(Config) ->
    Caller = bed:caller(Config),
    Relay = start_attached_pid(Caller),
    start_registry(Caller),
    bed:eventually(fun() -> holder(Caller) =:= Relay end, 10000),
    stop_registry(Caller),
    ?assertEqual(pong, ask(Caller, ping)),
    start_registry(Caller),
    ?assertEqual(none, holder(Caller)),
    bed:eventually(fun() -> holder(Caller) =:= Relay end, 10000).

%% Horde's lookup asks the node of the holder, for as long as it takes.
a_holder_that_does_not_answer_holds_up_no_call(Config) ->
    [One, Two] = callers(Config),
    [start_registry(Caller) || Caller <- [One, Two]],
    Second = start_attached_pid(Two),
    bed:eventually(fun() -> holder(One) =:= Second end),
    start_attached(One, in_registry()),
    OsPid = bed:on(Two, fun() -> os:getpid() end),
    _ = os:cmd("kill -s STOP " ++ OsPid),
    try
        bed:on(One, fun() ->
            bed:eventually(fun is_looking_up/0, 10000),
            {Us, pong} = timer:tc(fun() -> gen_server:call(?RELAY, ping) end),
            true = Us < bed:limit_ms(1000) * 1000
        end)
    after
        _ = os:cmd("kill -s CONT " ++ OsPid)
    end.

%% Besides its attachment, owner and the registry a process is linked to the
%% relay.
is_looking_up() ->
    Relay = whereis(?RELAY),
    {links, Links} = process_info(Relay, links),
    lists:any(fun(Pid) ->
                  {current_stacktrace, Stack} =
                      process_info(Pid, current_stacktrace),
                  lists:keymember(horde_standin, 1, Stack)
              end, [Pid || Pid <- Links, is_pid(Pid)]).

the_value_follows_the_router(Config) ->
    Caller = bed:caller(Config),
    start_registry(Caller),
    Relay = start_attached_pid(Caller),
    bed:eventually(fun() -> holder(Caller) =:= Relay end),
    bed:kill_router(Config),
    Up = bed:start_router(bed:renamed(Config), #{}),
    Node = bed:node(Up),
    bed:eventually(fun() -> lookup(Caller) =:= [{Relay, Node}] end),
    ?assertNotEqual(bed:node(Config), Node),
    {exited, 0} = bed:stop_router(Up).
