%% The router beside what its users would take instead (bench_rivals.erl): the
%% same provider, the same request, the same answer; all are up at the same time
%% and measured in turn. bench_compare_report.erl says what came of it.
-module(bench_compare).

-export([sections/1, streams/3]).

-import(bench_rig, [with_provider/3, round_count/0, at/4, say/2, callers/1,
                    window/4, ask_call/1, stat/2]).
-import(bench_rivals, [with/3, start/2, stop/1, sample/3, hold/3,
                       server/1, cpu_us/1, rss_kib/1]).

-define(CHUNKS, 500).
-define(STREAMS, 64).
-define(GAP_MS, 5).
-define(STREAM_MS, 60000).
-define(WAITING, 10000).
-define(DESCRIPTORS, 12000).
-define(WAITING_AT_GATEWAY, 2000). % it takes seconds to accept even these
-define(ARRIVAL_MS, 240000).
-define(LOOK_MS, 250).
-define(NEVER_MS, "3600000").
-define(SETTLE_MS, 1000).
-define(LARGE_MS, 2000).

%% A value for each round.
-type figures() :: #{figure() => #{bench_rivals:name() => [number()]}}.
-type figure() :: {Name :: atom(), Callers :: pos_integer()}
                | {added, Name :: atom(), Callers :: pos_integer()}
                | atom().
-export_type([figures/0, figure/0]).

%% Measures all figures of its rival once.
-type measure() :: {bench_rivals:name(),
                    fun(() -> #{figure() => number()})}.

-spec sections(bench_rig:rig()) -> [tuple()].
sections(#{dir := Dir} = Rig) ->
    Rig1 = bench_rivals:prepared(Rig),
    Figures = lists:foldl(fun(Measure, Acc) ->
                                  maps:merge(Acc, Measure(Rig1))
                          end, #{},
                          [fun calls/1, fun chunks/1, fun streams/1,
                           fun waiting/1, fun waiting_secure/1, fun cold/1,
                           fun large/1]),
    bench_compare_report:sections(Dir, Figures, absent(Dir)).

here(Names, #{dir := Dir}) ->
    [Name || Name <- Names, bench_rivals:is_available(Name, Dir)].

absent(Dir) ->
    bench_rivals:names() -- here(bench_rivals:names(), #{dir => Dir}).

%% One round to warm up, then those that count.
-spec rounds(iodata(), [measure()]) -> figures().
rounds(What, Measures) ->
    _ = [Measure() || {_, Measure} <- Measures],
    fresh_rounds(What, Measures).

%% For those that are started anew each time. Who is first goes round.
-spec fresh_rounds(iodata(), [measure()]) -> figures().
fresh_rounds(What, Measures) ->
    say("compare, ~s", [What]),
    Samples = [{Name, Measure()}
               || Round <- lists:seq(1, round_count()),
                  {Name, Measure} <- turned(Round, Measures)],
    lists:foldl(fun({Name, Sample}, Figures) ->
                        maps:fold(fun(Figure, Value, Acc) ->
                                          add(Figure, Name, Value, Acc)
                                  end, Figures, Sample)
                end, #{}, Samples).

turned(Round, Measures) ->
    {Last, First} = lists:split(Round rem length(Measures), Measures),
    First ++ Last.

add(Figure, Name, Value, Figures) ->
    Values = maps:get(Figure, Figures, #{}),
    Figures#{Figure => maps:update_with(Name, fun(Vs) -> Vs ++ [Value] end,
                                        [Value], Values)}.

%% ------------------------------------------------------------------ calls

%% An answer of 1 KiB, as one JSON document.
calls(Rig) ->
    with_provider(Rig, ["--json"], fun(Rig1) ->
        with(here(bench_rivals:names(), Rig1), Rig1, fun(Rivals) ->
            lists:foldl(fun maps:merge/2, #{},
                        [added(Callers, calls(Rig1, Rivals, Callers))
                         || Callers <- [1, 32, 256]])
        end)
    end).

calls(Rig, Rivals, Callers) ->
    rounds(callers(Callers),
           [{Name, fun() -> named(sample(Rival, Rig, Callers), Callers) end}
            || #{name := Name} = Rival <- Rivals]).

named(Sample, Callers) ->
    maps:from_list([{{Key, Callers}, maps:get(Key, Sample)}
                    || Key <- [cpu_us, calls_per_s, median_us, p99_us]]).

%% And what each round's times were over those of bare libcurl.
added(Callers, Figures) ->
    Added = [{{added, Key, Callers}, over(maps:get({Key, Callers}, Figures))}
             || Key <- [median_us, p99_us]],
    maps:merge(Figures, maps:from_list(Added)).

over(#{libcurl := Bare} = Values) ->
    maps:map(fun(_, Mine) -> lists:zipwith(fun erlang:'-'/2, Mine, Bare) end,
             maps:remove(libcurl, Values)).

%% ---------------------------------------------------------------- streams

%% The ordinary call, whose answer comes as a stream of many small chunks, all
%% of them at once.
chunks(Rig) ->
    Args = ["--chunks", integer_to_list(?CHUNKS)],
    with_provider(Rig, Args, fun(Rig1) ->
        with(here([router, elixir], Rig1), Rig1, fun(Rivals) ->
            rounds("an answer in many chunks",
                   [{Name, fun() -> chunks_sample(Rig1, Rival) end}
                    || #{name := Name} = Rival <- Rivals])
        end)
    end).

chunks_sample(Rig, Rival) ->
    #{cpu_us := Cpu} = sample(Rival, Rig, 32),
    #{chunks_cpu_us => Cpu}.

%% The operation `stream`: the chunks come as a model's tokens do.
streams(Rig) ->
    Args = ["--chunks", integer_to_list(?CHUNKS),
            "--gap-ms", integer_to_list(?GAP_MS)],
    with_provider(Rig, Args, fun(Rig1) ->
        with(here([router, elixir], Rig1), Rig1, fun(Rivals) ->
            rounds("streams",
                   [{Name, fun() -> streams_sample(Rig1, Rival) end}
                    || #{name := Name} = Rival <- Rivals])
        end)
    end).

streams_sample(#{caller := Caller}, Rival) ->
    Before = cpu_us(Rival),
    ok = at(Caller, ?MODULE, streams, [server(Rival), ?STREAMS, ?CHUNKS]),
    #{stream_cpu_us => (cpu_us(Rival) - Before) / ?STREAMS}.

%% On the caller's node: so many streams at the same time, each of which has all
%% its chunks. Those of the provider end with a space.
-spec streams(gen_server:server_ref(), pos_integer(), pos_integer()) -> ok.
streams(Server, Count, Chunks) ->
    Pids = [spawn_monitor(fun() -> exit({chunks, stream(Server)}) end)
            || _ <- lists:seq(1, Count)],
    lists:foreach(fun({Pid, Monitor}) ->
                          receive
                              {'DOWN', Monitor, process, Pid, Reason} ->
                                  {chunks, Chunks} = Reason
                          end
                  end, Pids).

stream(Server) ->
    Messages = [#{role => user, content => <<"Say something.">>}],
    {ok, Ref} = gen_server:call(Server, {stream, medium, Messages}, ?STREAM_MS),
    count_chunks(Ref, 0).

count_chunks(Ref, Count) ->
    receive
        {llm_stream, Ref, {delta, Text}} ->
            count_chunks(Ref, Count + length(binary:matches(Text, <<" ">>)));
        {llm_stream, Ref, {done, #{text := _}}} ->
            Count
    after ?STREAM_MS ->
            error(stuck)
    end.

%% ----------------------------------------------------------------- memory

%% Resident memory of calls that wait for the provider, over that of one: what
%% is loaded once is there then.
waiting(Rig) ->
    waiting(Rig, waiting_kib, bench_rivals:names(),
            fun(Name, Rig1) -> waiting_kib(Name, Rig1) end).

%% nginx ends the TLS: without it nobody is measured.
waiting_secure(#{dir := Dir} = Rig) ->
    Names = [Name || Name <- [router, elixir, libcurl],
                     bench_rivals:is_available(nginx, Dir)],
    waiting(Rig, waiting_tls_kib, Names,
            fun(Name, Rig1) ->
                bench_rivals:secure(Rig1, fun(Rig2) ->
                    waiting_kib(Name, Rig2)
                end)
            end).

waiting(Rig, Figure, Names, Measure) ->
    Args = ["--json", "--delay-ms", ?NEVER_MS],
    fresh_rounds(["memory, ", atom_to_list(Figure)],
                 [{Name, fun() ->
                             with_provider(Rig, Args, fun(Rig1) ->
                                 #{Figure => Measure(Name, Rig1)}
                             end)
                         end}
                  || Name <- here(Names, Rig),
                     bench_rig:descriptors() >= ?DESCRIPTORS]).

waiting_kib(Name, Rig) ->
    Rival = start(Name, Rig),
    {One, Idle} = held(Rival, Rig, 1),
    Calls = waiting_calls(Name),
    {Many, Held} = held(Rival, Rig, Calls),
    lists:foreach(fun bench_rivals:release/1, [One, Many]),
    ok = stop(Rival),
    (Held - Idle) / Calls.

waiting_calls(gateway) -> ?WAITING_AT_GATEWAY;
waiting_calls(_) -> ?WAITING.

%% Resident memory when the provider has so many requests more; it has a
%% connection for each.
held(Rival, #{provider := Provider} = Rig, Calls) ->
    Wanted = connections(Provider) + Calls,
    Held = hold(Rival, Rig, Calls),
    await_connections(Provider, Wanted, ?ARRIVAL_MS div ?LOOK_MS),
    timer:sleep(?SETTLE_MS),
    {Held, rss_kib(Held)}.

%% Looking at thousands of descriptors takes time from those who open them.
await_connections(Provider, Wanted, Looks) ->
    timer:sleep(?LOOK_MS),
    case connections(Provider) of
        Count when Count >= Wanted -> ok;
        Count when Looks =:= 0 -> error({connections, Count, Wanted});
        _ -> await_connections(Provider, Wanted, Looks - 1)
    end.

connections(OsPid) ->
    {ok, Names} = file:list_dir(["/proc/", integer_to_list(OsPid), "/fd"]),
    length(Names).

%% ------------------------------------------------------------------- start

%% From the start of the program until it can be asked, and what it takes when
%% nobody did.
cold(Rig) ->
    with_provider(Rig, ["--json"], fun(Rig1) ->
        fresh_rounds("start",
                     [{Name, fun() -> cold_sample(Name, Rig1) end}
                      || Name <- here(bench_rivals:names() -- [libcurl],
                                      Rig1)])
    end).

cold_sample(Name, Rig) ->
    {Us, Rival} = timer:tc(fun() -> start(Name, Rig) end),
    timer:sleep(?SETTLE_MS),
    IdleKib = rss_kib(Rival),
    ok = stop(Rival),
    #{start_ms => Us / 1000, idle_mib => IdleKib / 1024}.

%% ------------------------------------------------------------------- large

%% The longest that the router's loop is busy when answers have 1 MiB, each in
%% one JSON document.
large(Rig) ->
    with_provider(Rig, ["--json", "--content-kib", "1024"], fun(Rig1) ->
        fresh_rounds("answers of 1 MiB",
                     [{router, fun() -> large_sample(Rig1) end}])
    end).

large_sample(Rig) ->
    Router = bench_rig:start_router(Rig, #{}),
    Rig1 = Rig#{router => Router},
    _ = window(Rig1, ask_call({llm_router, router:node(Router)}), 4, ?LARGE_MS),
    StallMs = stat(Rig1, longest_stall_ms),
    _ = router:stop(Router),
    #{stall_ms => StallMs}.
