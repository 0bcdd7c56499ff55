%% Measures the router against its peers, in one run and in turn, and prints
%% the figures beside their goals. How to read them: README.md.
-module(bench).

-export([main/0]).

-define(ROUNDS, 5).
-define(PING_MS, 500).
-define(TASK_MS, 1500).
-define(CURL_CALLS, 20000).
-define(CURL_CALLS_ALONE, 3000).
-define(WAITING, 10000).
-define(WAIT_MS, 10000).
-define(DESCRIPTORS, 12000).
-define(PROMPT, <<"New customers mistype their postal addresses and parcels "
                  "come back. Check the address at sign-up, offer the nearest "
                  "one that exists, and never keep anybody from signing up "
                  "because the register does not answer.">>).

%% The nodes and programs of a measurement.
-type rig() :: #{dir := file:filename(), cookie := string(),
                 caller := bed:caller(), echo := node(),
                 router => router:router(), url => string()}.

%% What one window or one run of curl_loop gave.
-type sample() :: #{atom() => number()}.

%% Goal bounds the ratio, or the value where there is no peer.
-type row() :: {Name :: iodata(), Value :: number(), Peer :: number() | none,
                Ratio :: float() | none, Goal :: number() | none}.

-type section() :: {Title :: iodata(), [row()] | iodata()}.

main() ->
    Start = erlang:monotonic_time(second),
    Dir = filename:dirname(code:which(?MODULE)),
    Sections = with_rig(Dir, fun(Rig) -> pings_and_tasks(Rig)
                                             ++ many_chunks(Rig)
                                             ++ waiting(Rig) end),
    Took = erlang:monotonic_time(second) - Start,
    Report = [[section(Section) || Section <- Sections], footer(Took)],
    ok = file:write_file(filename:join(Dir, "results.txt"), Report),
    io:put_chars(Report),
    halt(0).

%% --------------------------------------------------------------- figures

-spec pings_and_tasks(rig()) -> [section()].
pings_and_tasks(Rig) ->
    with_router(Rig, [], fun(R) ->
        [{"ping: router against BEAM node", pings(R)},
         {"generate_task, provider without delay: "
          "router against bare libcurl loop", tasks(R)},
         {"main loop", [{"longest stall, all of the above (ms)",
                         stat(R, longest_stall_ms), none, none, 50}]}]
    end).

pings(#{echo := Echo} = Rig) ->
    Node = router_node(Rig),
    lists:append(
      [ping_rows(Name, Rig, Ours, Theirs)
       || {Name, Ours, Theirs} <-
              [{"gen_server:call", {ping, {llm_router, Node}},
                {ping, {bench_echo, Echo}}},
               {"rpc:call", {ping, Node, llm_router},
                {ping, Echo, bench_echo}}]]).

ping_rows(Name, Rig, Ours, Theirs) ->
    Rounds = [{Callers,
               rounds([Name, ", ", callers(Callers)],
                      fun() -> router_window(Rig, Ours, Callers, ?PING_MS) end,
                      fun() -> window(Rig, Theirs, Callers, ?PING_MS) end)}
              || Callers <- [1, 16, 256]],
    {1, Alone} = hd(Rounds),
    {256, Many} = lists:last(Rounds),
    [compare(Name ++ ", median (us)", median_us, Alone, 1.0),
     compare(Name ++ ", p99 (us)", p99_us, Alone, 1.0)]
        ++ [compare([Name, ", ", callers(Callers), " (calls/s)"], calls_per_s,
                    Pairs, none)
            || {Callers, Pairs} <- Rounds]
        ++ [alone(Name ++ ", 256 callers, CPU (us/call)", cpu_us, Many)].

tasks(Rig) ->
    Alone = task_rounds(Rig, 1, 1000, ?CURL_CALLS_ALONE),
    Some = task_rounds(Rig, 32, ?TASK_MS, ?CURL_CALLS),
    Many = task_rounds(Rig, 256, ?TASK_MS, ?CURL_CALLS),
    Added = median([Ours - Theirs || {#{median_us := Ours},
                                      #{median_us := Theirs}} <- Alone]),
    [compare("1 caller, median (us)", median_us, Alone, none),
     {"1 caller, added by the router (us)", Added, none, none, 500},
     compare("32 callers, CPU (us/call)", cpu_us, Some, 2.5),
     compare("32 callers (calls/s)", calls_per_s, Some, none),
     compare("256 callers, CPU (us/call)", cpu_us, Many, none),
     compare("256 callers (calls/s)", calls_per_s, Many, none)].

%% A model's stream comes in tokens, not in the few pieces of the figures
%% above.
many_chunks(Rig) ->
    with_router(Rig, ["--chunks", "128"], fun(R) ->
        Rounds = task_rounds(R, 32, ?TASK_MS, ?CURL_CALLS),
        [{"generate_task, the same answer in 128 chunks",
          [compare("32 callers, CPU (us/call)", cpu_us, Rounds, none)]}]
    end).

task_rounds(Rig, Callers, Ms, CurlCalls) ->
    Task = {generate_task, {llm_router, router_node(Rig)}, ?PROMPT},
    rounds(["generate_task, ", callers(Callers)],
           fun() -> router_window(Rig, Task, Callers, Ms) end,
           fun() -> curl_loop(Rig, Callers, CurlCalls) end).

waiting(Rig) ->
    Title = io_lib:format("memory: ~b calls wait for a provider that takes "
                          "~b s; peer: bare libcurl loop",
                          [?WAITING, ?WAIT_MS div 1000]),
    [{Title, case descriptors() >= ?DESCRIPTORS of
                 true ->
                     Delay = ["--delay-ms", integer_to_list(?WAIT_MS)],
                     with_router(Rig, Delay, fun waiting_rows/1);
                 false ->
                     io_lib:format("not measured: ulimit -n is ~b, ~b wanted~n",
                                   [descriptors(), ?DESCRIPTORS])
             end}].

%% A router that has done nothing else: what the memory allocator kept from
%% earlier work would hide what the waiting calls take.
waiting_rows(#{router := Router} = Rig) ->
    say("~b calls waiting", [?WAITING]),
    Idle = router:rss_kib(Router),
    Wave = wave(Rig, {generate_task, {llm_router, router_node(Rig)}, ?PROMPT}),
    timer:sleep(?WAIT_MS * 8 div 10),
    InFlight = stat(Rig, in_flight),
    Plateau = router:rss_kib(Router),
    #{answered := Answered, last_ms := LastMs} = Wave(),
    #{resident_kib_per_call := Peer} = curl_loop(Rig, ?WAITING, ?WAITING),
    Each = (Plateau - Idle) / ?WAITING,
    [{"resident, idle (MiB)", Idle / 1024, none, none, 16},
     {"calls in flight when measured", InFlight, none, none, none},
     {"resident, per waiting call (KiB)", Each, Peer,
      none, 22},
     {"calls without a right answer", ?WAITING - Answered, none, none, 0},
     {"last answer after (s)", LastMs / 1000, none, none, 12.5},
     {"longest stall (ms)", stat(Rig, longest_stall_ms), none, none, 50}].

%% ---------------------------------------------------------------- rounds

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

window(#{caller := Caller}, Call, Callers, Ms) ->
    at(Caller, bench_load, window, [Call, Callers, Ms]).

router_window(Rig, Call, Callers, Ms) ->
    Before = stat(Rig, cpu_us),
    #{calls := Calls} = Sample = window(Rig, Call, Callers, Ms),
    Sample#{cpu_us => (stat(Rig, cpu_us) - Before) / Calls}.

%% Starts the wave; the fun waits for its result.
wave(#{caller := Caller}, Call) ->
    {_, Monitor} =
        spawn_monitor(fun() ->
            exit({wave, at(Caller, bench_load, wave, [Call, ?WAITING])})
        end),
    fun() ->
        receive {'DOWN', Monitor, _, _, {wave, Result}} -> Result end
    end.

stat(#{caller := Caller} = Rig, Name) ->
    maps:get(Name, at(Caller, gen_server, call,
                      [{llm_router, router_node(Rig)}, stats])).

at(#{peer := Peer}, Module, Function, Args) ->
    peer:call(Peer, Module, Function, Args, infinity).

%% The same requests from curl_loop: the body is one that the router sent.
curl_loop(#{dir := Dir, url := Url}, InFlight, Calls) ->
    {0, Output} =
        finish(program(Dir, "curl_loop",
                       ["--url", Url ++ "/chat/completions",
                        "--body", request_file(Dir),
                        "--in-flight", integer_to_list(InFlight),
                        "--calls", integer_to_list(Calls)]), []),
    maps:from_list([{list_to_atom(Name), list_to_float(Value)}
                    || Line <- Output,
                       [Name, Value] <- [string:lexemes(Line, " ")]]).

%% ------------------------------------------------------------------- rig

with_rig(Dir, Fun) ->
    Epmd = bed:start_epmd(),
    Cookie = "bench" ++ os:getpid(),
    Caller = bed:start_caller(Cookie, bed:node_name(caller)),
    Other = #{node := Echo} = bed:start_caller(Cookie, bed:node_name(echo)),
    {ok, _} = at(Other, bench_echo, start, []),
    try
        Fun(#{dir => Dir, cookie => Cookie, caller => Caller, echo => Echo})
    after
        bed:stop_caller(Caller),
        bed:stop_caller(Other),
        bed:stop_epmd(Epmd)
    end.

%% A provider and a router that knows it, both fresh.
with_router(#{dir := Dir, cookie := Cookie} = Rig, ProviderArgs, Fun) ->
    {Provider, Url} = start_provider(Dir, ProviderArgs),
    {ok, Router} = router:start(#{node => bed:node_name(router),
                                  cookie => Cookie, dir => Dir,
                                  env => [{"OPENAI_BASE_URL", Url},
                                          {"OPENAI_API_KEY", "sk-bench"},
                                          {"LLM_ROUTER_LOG_LEVEL", "warn"}]}),
    try
        #{in_flight := 0} = at(maps:get(caller, Rig), gen_server, call,
                               [{llm_router, router:node(Router)}, stats]),
        Fun(Rig#{router => Router, url => Url})
    after
        router:stop(Router),
        {os_pid, OsPid} = erlang:port_info(Provider, os_pid),
        os:cmd("kill " ++ integer_to_list(OsPid)),
        finish(Provider, [])
    end.

router_node(#{router := Router}) ->
    router:node(Router).

start_provider(Dir, Args) ->
    Port = program(Dir, "provider", ["--save-request", request_file(Dir) | Args]),
    receive
        {Port, {data, {eol, "listening " ++ Url}}} -> {Port, Url}
    end.

request_file(Dir) ->
    filename:join(Dir, "request.json").

program(Dir, Name, Args) ->
    open_port({spawn_executable, filename:join(Dir, Name)},
              [{args, Args}, {line, 4096}, exit_status]).

finish(Port, Lines) ->
    receive
        {Port, {data, {eol, Line}}} -> finish(Port, [Line | Lines]);
        {Port, {exit_status, Status}} -> {Status, Lines}
    end.

descriptors() ->
    case string:trim(os:cmd("ulimit -n")) of
        "unlimited" -> ?DESCRIPTORS;
        Number -> list_to_integer(Number)
    end.

%% ---------------------------------------------------------------- report

say(Format, Args) ->
    io:format(standard_error, "measuring ~s~n", [io_lib:format(Format, Args)]).

section({Title, Rows}) when is_tuple(hd(Rows)) ->
    [heading(Title), [line(Row) || Row <- Rows], $\n];
section({Title, Text}) ->
    [heading(Title), Text, $\n].

heading(Title) ->
    [io_lib:format("~s~n", [Title]),
     cells("", "router", "peer", "ratio", "goal", "")].

callers(1) -> "1 caller";
callers(N) -> io_lib:format("~b callers", [N]).

line({Name, Value, Peer, Ratio, Goal}) ->
    cells(Name, number(Value), number(Peer), number(Ratio), goal(Ratio, Goal),
          verdict(Value, Ratio, Goal)).

cells(Name, Value, Peer, Ratio, Goal, Verdict) ->
    Line = io_lib:format("  ~-52s ~9s ~9s ~7s  ~-13s ~s",
                         [Name, Value, Peer, Ratio, Goal, Verdict]),
    [string:trim(Line, trailing), $\n].

goal(_, none) -> "";
goal(none, Goal) -> "<= " ++ number(Goal);
goal(_, Goal) -> "ratio <= " ++ number(Goal).

verdict(_, _, none) -> "";
verdict(Value, none, Goal) -> reached(Value =< Goal);
verdict(_, Ratio, Goal) -> reached(Ratio =< Goal).

reached(true) -> "reached";
reached(false) -> "not reached".

number(none) -> "";
number(N) when is_integer(N) -> integer_to_list(N);
number(N) when N >= 1000 -> integer_to_list(round(N));
number(N) when N >= 100 -> io_lib:format("~.1f", [N]);
number(N) -> io_lib:format("~.2f", [N]).

footer(Seconds) ->
    io_lib:format("Medians of ~b rounds in turn; a ratio is the median of the "
                  "rounds' ratios.~nOTP ~s, ~b processors, ~b s.~n",
                  [?ROUNDS, erlang:system_info(otp_release),
                   erlang:system_info(logical_processors_available), Seconds]).
