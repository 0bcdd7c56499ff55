%% A provider that fails every time, with a healthy one after it: how many
%% provider calls a call costs, and how much later than from the healthy one
%% alone its answer comes.
-module(bench_failing).

-export([sections/1]).

-import(bench_rig, [with_provider/3, start_router/2, router_node/1, config/3,
                    stat/2, at/4, median/1, say/2]).

-define(PER_SECOND, 50).
-define(MS, 25000).
-define(BENCHED_MS, 10000). % by then, but for a probe or two
-define(STRAIGHT_MS, 4000).
-define(HEADERS_MS, 500).
-define(GOAL_CALLS, 1.2).
-define(GOAL_ADDED_MS, 50).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(Rig) ->
    Faults = [{"answers 500", ["--status", "500"]},
              {"refuses connections", refused},
              {io_lib:format("is silent (headers_ms ~b)", [?HEADERS_MS]),
               ["--delay-ms", "3600000"]}],
    [{io_lib:format("~b calls a second for ~b s, the first of two providers ~s",
                    [?PER_SECOND, ?MS div 1000, Name]),
      with_provider(Rig, [],
                    fun(#{url := Healthy}) ->
                            with_failing(Rig, Fault,
                                         fun(Failing) ->
                                                 say("failing: it ~s", [Name]),
                                                 rows(Failing, Healthy)
                                         end)
                    end)}
     || {Name, Fault} <- Faults].

%% Its url is that of the failing provider.
with_failing(Rig, refused, Fun) ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    ok = gen_tcp:close(Listener),
    Fun(Rig#{url => lists:flatten(io_lib:format("http://127.0.0.1:~b/v1",
                                                [Port]))});
with_failing(Rig, Args, Fun) ->
    with_provider(Rig, Args, Fun).

rows(#{url := Failing} = Rig, Healthy) ->
    Args = config(Rig, "failing.json", settings(Failing, Healthy)),
    Router = start_router(Rig, #{args => Args}),
    try
        rates(Rig#{router => Router})
    after
        router:stop(Router)
    end.

%% The fallback alone, then with the failing one before it.
rates(Rig) ->
    Straight = answered(rate(Rig, #{model => <<"healthy/m">>}, ?STRAIGHT_MS)),
    Alone = median([Us || {_, Us, _} <- Straight]),
    Before = attempts(Rig),
    All = rate(Rig, #{}, ?MS),
    Tried = attempts(Rig) - Before,
    Answered = answered(All),
    Late = [Sample || {At, _, _} = Sample <- Answered, At >= ?BENCHED_MS],
    Added = lists:sort([(Us - Alone) / 1000 || {_, Us, _} <- Late]),
    Count = length(Added),
    Calls = lists:sum([N || {_, _, N} <- Late]) / Count,
    [{"provider calls per call, after 10 s", Calls, none, none, ?GOAL_CALLS},
     {"provider calls that failed, all the time", Tried - length(All), none,
      none, none},
     {"fallback alone, median (ms)", Alone / 1000, none, none, none},
     {"added to it after 10 s, median (ms)", median(Added), none, none,
      ?GOAL_ADDED_MS},
     {"added after 10 s, p99 (ms)",
      lists:nth(max(1, Count * 99 div 100), Added), none, none, ?GOAL_ADDED_MS},
     {"added after 10 s, longest (ms)", lists:last(Added), none, none, none},
     {"calls that had more than 50 ms added after 10 s",
      length([Ms || Ms <- Added, Ms > ?GOAL_ADDED_MS]), none, none, none},
     {"calls without an answer", length(All) - length(Answered), none, none,
      0}].

rate(#{caller := Caller} = Rig, Opts, Ms) ->
    Call = {ask, {llm_router, router_node(Rig)}, Opts},
    at(Caller, bench_load, rate, [Call, ?PER_SECOND, Ms]).

%% What the fallback said, with the number of attempts it took.
answered(Samples) ->
    [{At, Us, Attempts}
     || {At, Us, {ok, #{provider := <<"healthy">>,
                        attempts := Attempts}}} <- Samples].

attempts(Rig) ->
    maps:get(attempts, stat(Rig, provider)).

settings(Failing, Healthy) ->
    #{providers => #{failing => provider(Failing),
                     healthy => provider(Healthy)},
      routes => #{simple => [<<"failing/m">>, <<"healthy/m">>]},
      timeouts => #{headers_ms => ?HEADERS_MS}}.

provider(Url) ->
    #{dialect => openai, base_url => list_to_binary(Url)}.
