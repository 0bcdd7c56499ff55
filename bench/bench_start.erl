%% How long a router under a supervisor takes to be ready, and to be back after
%% it was killed.
-module(bench_start).

-export([sections/1, start_ms/1, restart_ms/1]).

-import(bench_rig, [median/1, at/4, say/2]).

-define(ROUNDS, 20).
-define(GOAL_MS, 300).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(#{caller := Caller}) ->
    Options = options(),
    [{io_lib:format("under a supervisor, ~b rounds", [?ROUNDS]),
      rows(Caller, "start to ready", start_ms, Options, ?GOAL_MS)
      ++ rows(Caller, "killed until it answers again", restart_ms, Options,
              none)}].

options() ->
    Config = #{providers => #{local => #{base_url =>
                                             <<"http://127.0.0.1:9/v1">>}},
               log => #{level => error}},
    #{config => Config, telemetry => false, program => program()}.

program() ->
    os:getenv("LLM_ROUTER_BIN",
              filename:join([router:project(), "priv", "llm_router"])).

rows(Caller, Name, Measure, Options, Goal) ->
    say("~s", [Name]),
    Took = [at(Caller, ?MODULE, Measure, [Options])
            || _ <- lists:seq(1, ?ROUNDS)],
    [{[Name, ", median (ms)"], median(Took), none, none, Goal},
     {[Name, ", longest (ms)"], lists:max(Took), none, none, none}].

%% On the caller's node: from the supervisor's start until it returns.
-spec start_ms(map()) -> float().
start_ms(Options) ->
    Start = now_us(),
    Sup = start(Options),
    Took = now_us() - Start,
    stop(Sup),
    Took / 1000.

%% From kill -9 until another process of the program answers a ping.
-spec restart_ms(map()) -> float().
restart_ms(Options) ->
    Sup = start(Options),
    #{node := Node} = persistent_term:get({llm_router, options}),
    pong = ping(Node),
    OsPid = llm_router_program:os_pid(),
    Start = now_us(),
    _ = os:cmd("kill -s KILL " ++ integer_to_list(OsPid)),
    await_other(OsPid, Node),
    Took = now_us() - Start,
    stop(Sup),
    Took / 1000.

start(Options) ->
    {ok, Sup} = llm_router_sup:start_link(Options),
    unlink(Sup),
    Sup.

stop(Sup) ->
    gen_server:stop(Sup, shutdown, infinity).

await_other(OsPid, Node) ->
    case catch llm_router_program:os_pid() of
        Other when is_integer(Other), Other =/= OsPid -> pong = ping(Node);
        _ -> timer:sleep(1), await_other(OsPid, Node)
    end.

ping(Node) ->
    gen_server:call({llm_router, Node}, ping).

now_us() ->
    erlang:monotonic_time(microsecond).
