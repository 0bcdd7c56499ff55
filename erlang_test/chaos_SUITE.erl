%% Calls at a steady rate from four nodes, two of them behind wires, to two
%% routers, while these are killed, terminated and stopped, and the wires held
%% and cut, by chance: every call is answered, once, with its own answer.
%%
%%     LLM_ROUTER_CHAOS_SECONDS   how long, default 20
%%     LLM_ROUTER_CHAOS_RATE      calls a second of all nodes, default 200
%%     LLM_ROUTER_CHAOS_SEED      of all that is left to chance
-module(chaos_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(TICK_MS, 4000).

suite() ->
    [{timetrap, {seconds, setting("SECONDS", 20) + 180}}].

all() ->
    [every_call_is_answered_once_whatever_happens].

setting(Name, Default) ->
    list_to_integer(os:getenv("LLM_ROUTER_CHAOS_" ++ Name,
                              integer_to_list(Default))).

init_per_testcase(_Case, Config) ->
    bed:up(Config, #{router => none, callers => 2, caller => caller_opts()}).

end_per_testcase(_Case, Config) ->
    bed:down(Config).

%% A connection that is begun while a wire is held is given up after 2 s, else
%% one hold would last until the next.
caller_opts() ->
    #{args => ["-kernel", "net_ticktime", integer_to_list(?TICK_MS div 1000),
               "-kernel", "net_setuptime", "2"]}.

every_call_is_answered_once_whatever_happens(Config) ->
    Seed = setting("SEED", erlang:phash2(make_ref())),
    Rate = setting("RATE", 200),
    Seconds = setting("SECONDS", 20),
    ct_report:print("     chaos: ~b calls a second for ~b s, seed ~b",
                    [Rate, Seconds, Seed]),
    Answered = counters:new(1, []),
    Forgetter = start_provider(Config, Answered),
    Routers = [bed:node_name(router) || _ <- [1, 2]],
    {Wires, Far} = start_far_nodes(Config, Routers),
    Callers = callers(Config) ++ Far,
    Troubles = [start_trouble({router, Config, Node}, Seed + I)
                || {I, Node} <- lists:zip([1, 2], Routers)],
    Keepers = [keep_connected(Caller, Callers) || Caller <- Callers],
    await_routers(Callers, Routers),
    Pids = [start_calls(Caller, #{routers => Routers, seed => Seed + 10 * I,
                                  rate => Rate div length(Callers)})
            || {I, Caller} <- lists:zip([1, 2, 3, 4], Callers)],
    More = [start_trouble({wire, Wire}, Seed + 100 + I)
            || {I, Wire} <- lists:zip([1, 2], Wires)],
    [Trouble ! go || Trouble <- Troubles ++ More],
    timer:sleep(Seconds * 1000),
    Events = [stop_trouble(Trouble) || Trouble <- Troubles ++ More],
    Totals = stop_calls(lists:zip(Callers, Pids)),
    [stop_keeping(Caller, Pid) || {Caller, Pid} <- lists:zip(Callers, Keepers)],
    unlink(Forgetter),
    exit(Forgetter, shutdown),
    report(Totals, Events, counters:get(Answered, 1)),
    [are_idle(Config, Node) || Node <- Routers],
    [Trouble ! finish || Trouble <- Troubles],
    [receive {finished, Trouble, Exit} -> ?assertEqual({exited, 0}, Exit) end
     || Trouble <- Troubles],
    lists:foreach(fun bed:stop_caller/1, Far),
    lists:foreach(fun wire:stop/1, Wires),
    ?assertEqual({[], [], []}, {all(lost, Totals), all(wrong, Totals),
                                all(junk, Totals)}),
    ?assertEqual(sum(calls, Totals), sum(answered, Totals)),
    ?assert(sum(calls, Totals) > Rate * Seconds * 9 div 10).

callers(Config) ->
    maps:get(callers, proplists:get_value(bed, Config)).

all(Key, Totals) ->
    lists:append([maps:get(Key, T) || T <- Totals]).

sum(Key, Totals) ->
    lists:sum([maps:get(Key, T) || T <- Totals]).

report(Totals, Events, Requests) ->
    Add = fun(A, B) ->
                  maps:fold(fun(K, N, Acc) ->
                                    maps:update_with(K, fun(M) -> M + N end, N,
                                                     Acc)
                            end, A, B)
          end,
    ct_report:print("     ~b calls, ~b answered, ~b lost, ~b wrong, ~b junk,"
                    " slowest ~0tp, ~b provider requests~n"
                    "     failed attempts: ~0tp~n"
                    "     events: ~0tp",
                    [sum(calls, Totals), sum(answered, Totals),
                     length(all(lost, Totals)), length(all(wrong, Totals)),
                     length(all(junk, Totals)),
                     lists:max([Slowest || #{slowest := Slowest} <- Totals]),
                     Requests,
                     lists:foldl(Add, #{}, [F || #{failures := F} <- Totals]),
                     lists:foldl(Add, #{}, Events)]).

are_idle(Config, Router) ->
    bed:eventually(
      fun() ->
              #{in_flight := N} =
                  bed:on(bed:caller(Config),
                         fun() -> gen_server:call({llm_router, Router}, stats)
                         end),
              N =:= 0
      end).

%% --------------------------------------------------------------- provider

%% Answers in one write after some milliseconds. What it records of every
%% request is forgotten each second.
start_provider(Config, Count) ->
    Provider = bed:provider(Config),
    Handler = fun(#{n := N, body := Body}) ->
                      counters:add(Count, 1, 1),
                      [{sleep, N rem 8} | answer(Body)]
              end,
    spawn_link(fun() -> forget(Provider, Handler) end).

forget(Provider, Handler) ->
    scripted_provider:set_handler(Provider, Handler),
    timer:sleep(1000),
    forget(Provider, Handler).

answer(Body) ->
    {match, [Id]} = re:run(Body, "call [0-9]+ of [0-9]+",
                           [{capture, first, binary}]),
    [{header, <<"content-type">>, <<"text/event-stream">>},
     {body, [<<"data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\","
               "\"model\":\"scripted\",\"choices\":[{\"index\":0,\"delta\":"
               "{\"role\":\"assistant\",\"content\":\"You wrote: ">>, Id,
             <<"\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n">>]}].

%% ------------------------------------------------------------------ nodes

%% Two nodes, each behind a wire of its own, also from each other.
start_far_nodes(Config, Routers) ->
    #{cookie := Cookie, callers := Callers} = proplists:get_value(bed, Config),
    Near = Routers ++ [Node || #{node := Node} <- Callers],
    Far = [bed:node_name(far) || _ <- [1, 2]],
    Wires = [wire:start(#{near => Near ++ (Far -- [Node]), far => [Node]})
             || Node <- Far],
    {Wires, [bed:start_caller(Cookie, Node,
                              (caller_opts())#{env => wire:env(Wire)})
             || {Node, Wire} <- lists:zip(Far, Wires)]}.

await_routers(Callers, Routers) ->
    [bed:eventually(fun() ->
                            pong =:= bed:on(Caller,
                                            fun() -> try_ping({global, Name})
                                            end)
                    end)
     || Caller <- Callers,
        Name <- [llm_router | [{llm_router, Node} || Node <- Routers]]].

try_ping(Server) ->
    try gen_server:call(Server, ping, 2000)
    catch exit:_ -> none
    end.

%% As a cluster's own discovery does.
keep_connected(Caller, Callers) ->
    Nodes = [Node || #{node := Node} <- Callers],
    bed:on(Caller, fun() -> spawn(fun() -> connect_again(Nodes) end) end).

connect_again(Nodes) ->
    lists:foreach(fun net_kernel:connect_node/1, Nodes),
    timer:sleep(1000),
    connect_again(Nodes).

stop_keeping(Caller, Pid) ->
    bed:on(Caller, fun() -> exit(Pid, kill) end).

start_calls(Caller, Opts) ->
    bed:on(Caller, fun() -> chaos_caller:start(Opts) end).

%% All at the same time.
stop_calls(CallersAndPids) ->
    Self = self(),
    Stopping = [spawn_link(fun() ->
                                   %% A call is lost after 60 s at most.
                                   Totals = bed:on(Caller,
                                                   fun() ->
                                                           chaos_caller:stop(
                                                             Pid)
                                                   end, 90000),
                                   Self ! {self(), Totals}
                           end) || {Caller, Pid} <- CallersAndPids],
    [receive
         {Pid, Totals} -> ct:log("~0tp", [Totals]), Totals
     end || Pid <- Stopping].

%% ---------------------------------------------------------------- trouble

%% A process that owns a router, or a wire, and does things to it at moments
%% left to chance, until it is told to stop: then all is well again.
start_trouble({router, Config, Node}, Seed) ->
    Parent = self(),
    spawn_link(fun() ->
                       _ = rand:seed(exsss, Seed),
                       Router = start_router(Config, Node),
                       receive go -> ok end,
                       Last = trouble({router, Config, Router}, Parent, #{}),
                       receive finish -> ok end,
                       Parent ! {finished, self(), router:stop(Last)}
               end);
start_trouble({wire, Wire}, Seed) ->
    Parent = self(),
    spawn_link(fun() ->
                       _ = rand:seed(exsss, Seed),
                       receive go -> ok end,
                       trouble({wire, Wire}, Parent, #{})
               end).

stop_trouble(Pid) ->
    Pid ! stop,
    receive {stopped, Pid, Events} -> Events end.

trouble({_, _, Router} = What, Parent, Events) ->
    await_next(What, Parent, Events, Router);
trouble({wire, Wire} = What, Parent, Events) ->
    await_next(What, Parent, Events, Wire).

await_next(What, Parent, Events, Last) ->
    receive
        stop ->
            Parent ! {stopped, self(), Events},
            Last
    after 2500 + up_to(3500) ->
            Event = chance(What),
            ct:log("~s: ~0tp", [Event, Last]),
            Next = do(Event, What),
            trouble(Next, Parent,
                    maps:update_with(Event, fun(N) -> N + 1 end, 1, Events))
    end.

up_to(Ms) ->
    rand:uniform(Ms).

chance({router, _, _}) ->
    pick([kill, terminate, stop_for_short, stop_for_long]);
chance({wire, _}) ->
    pick([cut, hold_for_short, hold_for_long, lose]).

pick(List) ->
    lists:nth(rand:uniform(length(List)), List).

do(Event, {router, Config, #{os_pid := OsPid} = Router}) ->
    ?assert(filelib:is_dir("/proc/" ++ integer_to_list(OsPid))),
    {router, Config, do_to_router(Event, Config, Router)};
do(Event, {wire, Wire} = What) ->
    do_to_wire(Event, Wire),
    What.

do_to_router(kill, Config, #{node := Node} = Router) ->
    router:kill(Router),
    start_again(Config, Node);
do_to_router(terminate, Config, #{node := Node} = Router) ->
    {exited, 0} = router:stop(Router),
    start_again(Config, Node);
do_to_router(stop_for_short, _Config, Router) ->
    stand_still(Router, up_to(?TICK_MS div 2));
do_to_router(stop_for_long, _Config, Router) ->
    stand_still(Router, ?TICK_MS + up_to(?TICK_MS)).

%% At once, half of the time.
start_again(Config, Node) ->
    timer:sleep(max(0, up_to(4000) - 2000)),
    start_router(Config, Node).

start_router(Config, Node) ->
    #{callers := Callers} = proplists:get_value(bed, Config),
    bed:run_router(Config, Node,
                   #{connect => [N || #{node := N} <- Callers],
                     env => [{"LLM_ROUTER_NODE_TICK_TIME_MS",
                              integer_to_list(?TICK_MS)}]}).

stand_still(Router, Ms) ->
    router:signal(Router, "STOP"),
    timer:sleep(Ms),
    router:signal(Router, "CONT"),
    Router.

do_to_wire(cut, Wire) ->
    wire:cut(Wire);
do_to_wire(hold_for_short, Wire) ->
    hold(Wire, up_to(?TICK_MS div 2), fun wire:release/1);
do_to_wire(hold_for_long, Wire) ->
    hold(Wire, ?TICK_MS + up_to(?TICK_MS), fun wire:release/1);
do_to_wire(lose, Wire) ->
    hold(Wire, up_to(2 * ?TICK_MS), fun wire:lose/1).

hold(Wire, Ms, Heal) ->
    wire:hold(Wire),
    timer:sleep(Ms),
    Heal(Wire).
