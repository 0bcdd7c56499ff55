%% What every measurement needs: nodes, a provider, routers, and rounds in which
%% two sides take turns.
-module(bench_rig).

-export([with_rig/2, with_rig/3, with_provider/3, with_router/3]).
-export([with_router/4, start_router/2, router_node/1]).
-export([config/3, base/0]).
-export([program/3, finish/1, request_file/1]).
-export([rounds/3, round_count/0, compare/4, alone/3, median/1]).
-export([window/4, router_window/4, stat/2, at/4, say/2, callers/1]).
-export([task_call/1, ask_call/1, curl_loop/3, descriptors/0]).
-export_type([rig/0, sample/0, row/0]).

-define(ROUNDS, 5).
-define(PROMPT, <<"New customers mistype their postal addresses and parcels "
                  "come back. Check the address at sign-up, offer the nearest "
                  "one that exists, and never keep anybody from signing up "
                  "because the register does not answer.">>).

%% The nodes and programs of a measurement.
-type rig() :: #{dir := file:filename(), cookie := string(),
                 caller := bed:caller(), other := bed:caller(), echo := node(),
                 router => router:router(), url => string(),
                 provider => pos_integer(), atom() => term()}.

%% What one window or one run of curl_loop gave.
-type sample() :: #{atom() => number()}.

%% Goal bounds the ratio, or the value where there is no peer.
-type row() :: {Name :: iodata(), Value :: number(), Peer :: number() | none,
                Ratio :: float() | none, Goal :: number() | none}.

%% ------------------------------------------------------------------- nodes

-spec with_rig(file:filename(), fun((rig()) -> Result)) -> Result.
with_rig(Dir, Fun) ->
    with_rig(Dir, #{}, Fun).

%% Opts as for bed:start_caller/3.
-spec with_rig(file:filename(), map(), fun((rig()) -> Result)) -> Result.
with_rig(Dir, Opts, Fun) ->
    Epmd = bed:start_epmd(),
    Cookie = "bench" ++ os:getpid(),
    Caller = bed:start_caller(Cookie, bed:node_name(caller), Opts),
    Other = #{node := Echo} = bed:start_caller(Cookie, bed:node_name(echo),
                                               Opts),
    {ok, _} = at(Other, bench_echo, start, []),
    try
        Fun(#{dir => Dir, cookie => Cookie, caller => Caller, other => Other,
              echo => Echo})
    after
        bed:stop_caller(Caller),
        bed:stop_caller(Other),
        bed:stop_epmd(Epmd)
    end.

at(#{peer := Peer}, Module, Function, Args) ->
    peer:call(Peer, Module, Function, Args, infinity).

%% --------------------------------------------------------------- programs

-spec with_provider(rig(), [string()], fun((rig()) -> Result)) -> Result.
with_provider(#{dir := Dir} = Rig, Args, Fun) ->
    Provider = program(Dir, "provider",
                       ["--save-request", request_file(Dir) | Args]),
    Url = receive {Provider, {data, {eol, "listening " ++ At}}} -> At end,
    {os_pid, OsPid} = erlang:port_info(Provider, os_pid),
    try
        Fun(Rig#{url => Url, provider => OsPid})
    after
        os:cmd("kill " ++ integer_to_list(OsPid)),
        finish(Provider)
    end.

%% A provider and a router that knows it, both fresh. Opts as for
%% router:start/1.
with_router(Rig, ProviderArgs, Fun) ->
    with_router(Rig, ProviderArgs, #{}, Fun).

-spec with_router(rig(), [string()], map(), fun((rig()) -> Result)) -> Result.
with_router(Rig, ProviderArgs, Opts, Fun) ->
    with_provider(
      Rig, ProviderArgs,
      fun(Rig1) ->
              Router = start_router(Rig1, Opts),
              try
                  Rig2 = Rig1#{router => Router},
                  0 = stat(Rig2, in_flight),
                  Fun(Rig2)
              after
                  router:stop(Router)
              end
      end).

-spec start_router(rig(), map()) -> router:router().
start_router(#{dir := Dir, cookie := Cookie, url := Url}, Opts) ->
    Env = [{"OPENAI_BASE_URL", Url}, {"OPENAI_API_KEY", "sk-bench"},
           {"LLM_ROUTER_LOG_LEVEL", "warn"} | maps:get(env, Opts, [])],
    {ok, Router} = router:start(Opts#{node => bed:node_name(router),
                                      cookie => Cookie, dir => Dir,
                                      env => Env}),
    Router.

%% A configuration file of these settings; the arguments that name it.
-spec config(rig(), string(), map()) -> [string()].
config(#{dir := Dir}, Name, Settings) ->
    File = filename:join(Dir, Name),
    ok = file:write_file(File, test_json:encode(Settings)),
    ["--config", File].

%% For start_router/2: the build that LLM_ROUTER_BENCH_BASE names, or `none`.
-spec base() -> map() | none.
base() ->
    case os:getenv("LLM_ROUTER_BENCH_BASE", "") of
        "" ->
            none;
        Program ->
            Instead = "shift; exec \"$0\" \"$@\"",
            #{wrapper => ["/bin/sh", "-c", Instead, Program],
              env => [{"LLM_ROUTER_PRIV_DIR", filename:dirname(Program)}]}
    end.

router_node(#{router := Router}) ->
    router:node(Router).

request_file(Dir) ->
    filename:join(Dir, "request.json").

program(Dir, Name, Args) ->
    open_port({spawn_executable, filename:join(Dir, Name)},
              [{args, Args}, {line, 4096}, exit_status]).

%% {Status, lines of output, the last one first}
finish(Port) ->
    finish(Port, []).

finish(Port, Lines) ->
    receive
        {Port, {data, {eol, Line}}} -> finish(Port, [Line | Lines]);
        {Port, {exit_status, Status}} -> {Status, Lines}
    end.

%% ---------------------------------------------------------------- rounds

round_count() ->
    ?ROUNDS.

%% One round to warm up, then ?ROUNDS pairs; who is first alternates.
-spec rounds(iodata(), fun(() -> sample()), fun(() -> sample())) ->
    [{sample(), sample()}].
rounds(Name, Ours, Theirs) ->
    say("~s", [Name]),
    _ = {Ours(), Theirs()},
    [pair(Round rem 2, Ours, Theirs) || Round <- lists:seq(1, ?ROUNDS)].

pair(0, Ours, Theirs) ->
    Theirs1 = Theirs(),
    {Ours(), Theirs1};
pair(1, Ours, Theirs) ->
    Ours1 = Ours(),
    {Ours1, Theirs()}.

-spec compare(iodata(), atom(), [{sample(), sample()}], number() | none) ->
    row().
compare(Name, Key, Rounds, Goal) ->
    Pairs = [{maps:get(Key, Ours), maps:get(Key, Theirs)}
             || {Ours, Theirs} <- Rounds],
    {Name, median([Ours || {Ours, _} <- Pairs]),
     median([Theirs || {_, Theirs} <- Pairs]),
     median([Ours / Theirs || {Ours, Theirs} <- Pairs]), Goal}.

alone(Name, Key, Rounds) ->
    {Name, median([maps:get(Key, Ours) || {Ours, _} <- Rounds]), none, none,
     none}.

median(Values) ->
    lists:nth((length(Values) + 1) div 2, lists:sort(Values)).

%% --------------------------------------------------------------- samples

%% The call that most figures are about.
-spec task_call(rig()) -> bench_load:call().
task_call(Rig) ->
    {generate_task, {llm_router, router_node(Rig)}, ?PROMPT}.

%% The same prompt, and the model's answer as it is.
-spec ask_call(gen_server:server_ref()) -> bench_load:call().
ask_call(Server) ->
    {call, Server, {call_with_prompt, simple, ?PROMPT}}.

%% What curl_loop said of so many calls, so many of them in flight.
-spec curl_loop(file:filename(), [string()],
                {InFlight :: pos_integer(), Calls :: pos_integer()}) ->
    sample().
curl_loop(Dir, Args, {InFlight, Calls}) ->
    {0, Output} =
        finish(program(Dir, "curl_loop",
                       Args ++ ["--in-flight", integer_to_list(InFlight),
                                "--calls", integer_to_list(Calls)])),
    maps:from_list([{list_to_atom(Name), list_to_float(Value)}
                    || Line <- Output,
                       [Name, Value] <- [string:lexemes(Line, " ")]]).

window(#{caller := Caller}, Call, Callers, Ms) ->
    at(Caller, bench_load, window, [Call, Callers, Ms]).

%% The same with the processor time that the router used for a call.
router_window(Rig, Call, Callers, Ms) ->
    Before = stat(Rig, cpu_us),
    #{calls := Calls} = Sample = window(Rig, Call, Callers, Ms),
    Sample#{cpu_us => (stat(Rig, cpu_us) - Before) / Calls}.

stat(#{caller := Caller} = Rig, Name) ->
    maps:get(Name, at(Caller, gen_server, call,
                      [{llm_router, router_node(Rig)}, stats])).

%% How many a process may have; without a limit as many as any part wants.
-spec descriptors() -> pos_integer().
descriptors() ->
    case string:trim(os:cmd("ulimit -n")) of
        "unlimited" -> 1000000;
        Number -> list_to_integer(Number)
    end.

say(Format, Args) ->
    io:format(standard_error, "measuring ~s~n", [io_lib:format(Format, Args)]).

callers(1) -> "1 caller";
callers(N) -> io_lib:format("~b callers", [N]).
