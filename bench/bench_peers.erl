%% What 200 connected peers cost one that calls.
-module(bench_peers).

-export([sections/1]).

-import(bench_rig, [with_router/3, router_node/1, rounds/3, compare/4,
                    window/4, at/4]).

-define(PEERS, 200).
-define(PING_MS, 1500).
-define(ASK_MS, 1000).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(Rig) ->
    with_router(Rig, [], fun(#{caller := Caller, other := Other} = R) ->
        pong = at(Other, net_adm, ping, [router_node(R)]),
        Call = {ping, service_pid(Caller)},
        [{io_lib:format("ping by gen_server:call to the pid, 1 caller: ~b "
                        "connected peers against 2", [?PEERS]),
          rows(R, Call, "the others idle", fun idle/1)
              ++ rows(R, Call, "each of them pings once a second",
                      fun pinging/1)}]
    end).

service_pid(Caller) ->
    Find = fun() -> at(Caller, global, whereis_name, [llm_router]) end,
    bed:eventually(fun() -> is_pid(Find()) end),
    Find().

rows(Rig, Call, Name, Life) ->
    Sample = fun() -> window(Rig, Call, 1, ?PING_MS) end,
    Rounds = rounds(["ping with ", integer_to_list(?PEERS), " peers, ", Name],
                    fun() -> among_peers(Rig, Life, Sample) end, Sample),
    [compare([Name, ", median (us)"], median_us, Rounds, 2.0),
     compare([Name, ", p99 (us)"], p99_us, Rounds, 2.0)].

%% They are gone when this returns; no real nodes, which would want the
%% processors for themselves.
among_peers(#{cookie := Cookie} = Rig, Life, Fun) ->
    Router = router_node(Rig),
    Self = self(),
    Connect = fun() ->
                      Peer = raw_peer:connect(Router, #{cookie => Cookie}),
                      Self ! {connected, self()},
                      Life(Peer)
              end,
    Peers = [spawn_link(Connect) || _ <- lists:seq(3, ?PEERS)],
    [receive {connected, Peer} -> ok end || Peer <- Peers],
    await_peers(Rig, ?PEERS),
    Sample = Fun(),
    [begin unlink(Peer), exit(Peer, kill) end || Peer <- Peers],
    await_peers(Rig, 2),
    Sample.

await_peers(Rig, Count) ->
    bed:eventually(fun() ->
                           #{peers := Peers} = bench_rig:stat(Rig, node),
                           Peers =:= Count
                   end).

idle(_Peer) ->
    receive after infinity -> ok end.

pinging(Peer) ->
    timer:sleep(rand:uniform(?ASK_MS)),
    ping_on(Peer).

ping_on(Peer) ->
    {reply, pong} = raw_peer:call(Peer, llm_router, ping),
    timer:sleep(?ASK_MS),
    ping_on(Peer).
