%% How long the global name is without a router when its holder ends and
%% another one stands by.
-module(bench_takeover).

-export([sections/1]).

-import(bench_rig, [with_provider/3, start_router/2, median/1, at/4, say/2]).

-define(ROUNDS, 20).
-define(LONGEST_MS, 20000).
-define(GOAL_MS, 5000).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(Rig) ->
    [{io_lib:format("take-over: until the global name answers from another "
                    "node, ~b rounds", [?ROUNDS]),
      with_provider(Rig, [],
                    fun(R) ->
                            rows(R, "holder killed", fun router:kill/1)
                                ++ rows(R, "holder terminated",
                                        fun router:stop/1)
                    end)}].

rows(Rig, Name, End) ->
    say("~s", [Name]),
    First = start(Rig),
    await_holder(Rig, First),
    {Took, Last} = lists:mapfoldl(fun(_, Holder) ->
                                          take_over(Rig, Holder, End)
                                  end, First, lists:seq(1, ?ROUNDS)),
    router:stop(Last),
    [{[Name, ", median (ms)"], median(Took), none, none, none},
     {[Name, ", longest (ms)"], lists:max(Took), none, none, ?GOAL_MS}].

start(#{caller := #{node := Caller}, other := #{node := Other}} = Rig) ->
    start_router(Rig, #{connect => [Caller, Other]}).

%% A round begins at any moment of the second after which a standby asks for
%% the name again.
take_over(#{caller := Caller} = Rig, Holder, End) ->
    Standby = start(Rig),
    timer:sleep(1000 + rand:uniform(1000)),
    Self = self(),
    Node = router:node(Holder),
    Watcher = spawn_link(
                fun() ->
                        Self ! {self(), at(Caller, bench_load, await_other,
                                           [Node, ?LONGEST_MS])}
                end),
    timer:sleep(10),
    Start = os:system_time(microsecond),
    End(Holder),
    At = receive {Watcher, Us} when is_integer(Us) -> Us end,
    await_holder(Rig, Standby),
    {(At - Start) / 1000, Standby}.

await_holder(#{caller := Caller}, Router) ->
    Node = router:node(Router),
    bed:eventually(fun() ->
                           case at(Caller, global, whereis_name,
                                   [llm_router]) of
                               undefined -> false;
                               Pid -> node(Pid) =:= Node
                           end
                   end, 20000).
