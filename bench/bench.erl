%% Measures the router against its peers, in one run and in turn, and prints
%% the figures beside their goals. How to read them: README.md.
-module(bench).

-export([main/0]).

-import(bench_rig, [with_rig/2, with_router/3, with_router/4, base/0,
                    router_node/1, rounds/3, compare/4, alone/3, median/1,
                    window/4, router_window/4, stat/2, at/4, request_file/1,
                    descriptors/0, say/2, callers/1, task_call/1]).

-define(PING_MS, 500).
-define(TASK_MS, 1500).
-define(CURL_CALLS, 20000).
-define(CURL_CALLS_ALONE, 3000).
-define(WAITING, 10000).
-define(WAIT_MS, 10000).
-define(DESCRIPTORS, 12000).

-type section() :: {Title :: iodata(), [bench_rig:row()] | iodata()}.

%% What can be measured by itself.
-spec parts() -> [{string(), fun((file:filename()) -> [section()])}].
parts() ->
    [{"calls", within(fun pings_and_tasks/1)},
     {"chunks", within(fun many_chunks/1)},
     {"limits", within(fun bench_limits:sections/1)},
     {"memory", within(fun waiting/1)},
     {"peers", within(fun bench_peers:sections/1)},
     {"large", within(fun bench_large:sections/1)},
     {"tls", fun bench_tls:sections/1},
     {"takeover", within(fun bench_takeover:sections/1)},
     {"start", within(fun bench_start:sections/1)},
     {"scripts", within(fun bench_scripts:sections/1)},
     {"watchers", within(fun bench_watchers:sections/1)},
     {"relay", within(fun bench_relay:sections/1)},
     {"streams", within(fun bench_streams:sections/1)},
     {"failing", within(fun bench_failing:sections/1)},
     {"queue", within(fun bench_queue:sections/1)},
     {"compare", within(fun bench_compare:sections/1)}].

within(Fun) ->
    fun(Dir) -> with_rig(Dir, Fun) end.

%% The parts that the arguments name, or all but the one that needs what others
%% have made.
main() ->
    case init:get_plain_arguments() of
        [] -> run([Name || {Name, _} <- parts()] -- ["compare"], [write]);
        Names -> run(Names, [append])
    end.

run(Names, How) ->
    case Names -- [Name || {Name, _} <- parts()] of
        [] -> ok;
        Unknown -> usage(Unknown)
    end,
    Start = erlang:monotonic_time(second),
    Dir = filename:dirname(code:which(?MODULE)),
    Sections = lists:append([Part(Dir) || {Name, Part} <- parts(),
                                          lists:member(Name, Names)]),
    Took = erlang:monotonic_time(second) - Start,
    Report = [[section(Section) || Section <- Sections], footer(Took)],
    ok = file:write_file(filename:join(Dir, "results.txt"), Report, How),
    io:put_chars(Report),
    halt(0).

-spec usage([string()]) -> no_return().
usage(Unknown) ->
    io:format(standard_error, "bench/run: no part ~s; there are: ~s~n",
              [lists:join(", ", Unknown),
               lists:join(", ", [Name || {Name, _} <- parts()])]),
    halt(2).

%% --------------------------------------------------------------- figures

-spec pings_and_tasks(bench_rig:rig()) -> [section()].
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
    rounds(["generate_task, ", callers(Callers)],
           fun() -> router_window(Rig, task_call(Rig), Callers, Ms) end,
           fun() -> curl_loop(Rig, Callers, CurlCalls) end).

waiting(Rig) ->
    Title = io_lib:format("memory: ~b calls wait for a provider that takes "
                          "~b s; peer: bare libcurl loop",
                          [?WAITING, ?WAIT_MS div 1000]),
    [{[Title, Which],
      case descriptors() >= ?DESCRIPTORS of
          true ->
              Delay = ["--delay-ms", integer_to_list(?WAIT_MS)],
              with_router(Rig, Delay, Opts, fun waiting_rows/1);
          false ->
              io_lib:format("not measured: ulimit -n is ~b, ~b wanted~n",
                            [descriptors(), ?DESCRIPTORS])
      end} || {Which, Opts} <- [{"", #{}}
                                | [{" (the base)", Opts}
                                   || #{} = Opts <- [base()]]]].

%% A router that has done nothing else: what the memory allocator kept from
%% earlier work would hide what the waiting calls take.
waiting_rows(#{router := Router} = Rig) ->
    say("~b calls waiting", [?WAITING]),
    Idle = router:rss_kib(Router),
    Wave = wave(Rig, task_call(Rig)),
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

%% --------------------------------------------------------------- samples

%% Starts the wave; the fun waits for its result.
wave(#{caller := Caller}, Call) ->
    {_, Monitor} =
        spawn_monitor(fun() ->
            exit({wave, at(Caller, bench_load, wave, [Call, ?WAITING])})
        end),
    fun() ->
        receive {'DOWN', Monitor, _, _, {wave, Result}} -> Result end
    end.

%% The same requests from curl_loop: the body is one that the router sent.
curl_loop(#{dir := Dir, url := Url}, InFlight, Calls) ->
    bench_rig:curl_loop(Dir, ["--url", Url ++ "/chat/completions",
                              "--body", request_file(Dir)], {InFlight, Calls}).

%% ---------------------------------------------------------------- report

section({Title, Rows}) when is_tuple(hd(Rows)) ->
    [heading(Title), [line(Row) || Row <- Rows], $\n];
section({Title, Text}) ->
    [heading(Title), Text, $\n].

heading(Title) ->
    [io_lib:format("~s~n", [Title]),
     cells("", "router", "peer", "ratio", "goal", "")].

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
                  [bench_rig:round_count(), erlang:system_info(otp_release),
                   erlang:system_info(logical_processors_available), Seconds]).
