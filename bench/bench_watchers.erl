%% How long it takes until all watchers of a task know that it is completed.
-module(bench_watchers).

-export([sections/1, told_ms/2]).

-import(bench_rig, [with_router/3, router_node/1, median/1, at/4, say/2]).

-define(ROUNDS, 5).
-define(CROWD, 10000).
-define(DELAY_MS, "500").
-define(GOAL_MS, 100).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(Rig) ->
    [{io_lib:format("~b watchers of one task", [?CROWD]),
      with_router(Rig, ["--delay-ms", ?DELAY_MS], fun rows/1)}].

rows(#{caller := Caller} = Rig) ->
    Server = {llm_router, router_node(Rig)},
    say("watchers", []),
    Took = [at(Caller, ?MODULE, told_ms, [Server, ?CROWD])
            || _ <- lists:seq(1, ?ROUNDS)],
    [{"the last one told after the answer, median (ms)", median(Took), none,
      none, ?GOAL_MS},
     {"longest (ms)", lists:max(Took), none, none, none}].

%% On the caller's node, where they all are: from the answer of the call.
-spec told_ms(gen_server:server_ref(), pos_integer()) -> float().
told_ms(Server, Count) ->
    Watchers = [watcher(Server) || _ <- lists:seq(1, Count)],
    {ok, _} = gen_server:call(Server, {call_with_prompt, simple, <<"Hi">>,
                                       #{task_id => crowd}}),
    Answered = now_us(),
    Told = [receive {Pid, told, At} -> At end || Pid <- Watchers],
    [Pid ! stop || Pid <- Watchers],
    (lists:max(Told) - Answered) / 1000.

watcher(Server) ->
    Self = self(),
    Pid = spawn(fun() ->
        receive {task_completed, crowd} -> Self ! {self(), told, now_us()} end,
        receive stop -> ok end
    end),
    ok = gen_server:call(Server, {watch_task, crowd, #{to => Pid}}),
    Pid.

now_us() ->
    erlang:monotonic_time(microsecond).
