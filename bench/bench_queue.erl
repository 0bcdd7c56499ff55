%% The queue: how many jobs a second go through it against pgbench running the
%% same statements alone, how soon a job reaches the provider, and what BEAM
%% callers notice of a database that stands still or is away.
-module(bench_queue).

-export([sections/1]).

-import(bench_rig, [with_provider/3, start_router/2, router_node/1, config/3,
                    stat/2, at/4, rounds/3, compare/4, alone/3, median/1,
                    window/4, task_call/1, say/2]).

-define(JOBS, 5000).
-define(GOAL_TIME, 1.67). % 60 % of the peer's jobs a second
-define(WAKE_UPS, 200).
-define(WAKE_UP_MS, 10).
-define(CALLERS, 32).
-define(AWAY_MS, 30000).
-define(GOAL_AWAY, 1.5).
-define(WAIT_MS, 120000).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(#{dir := Dir} = Rig) ->
    Pg = postgres:start(Dir, #{options => ""}),
    try
        throughput(Rig, Pg) ++ [wake_up(Rig, Pg), away(Rig, Pg)]
    after
        postgres:stop(Pg)
    end.

with_router(Rig, Pg, Queue, Fun) ->
    Args = config(Rig, "queue.json", #{queue => Queue}),
    Router = start_router(Rig, #{args => Args, env => postgres:env(Pg)}),
    Rig1 = Rig#{router => Router},
    try
        await(fun() -> pgmq(Rig1, state) =:= up end),
        Fun(Rig1)
    after
        router:stop(Router)
    end.

pgmq(Rig, Name) ->
    maps:get(Name, stat(Rig, pgmq)).

await(Fun) ->
    bed:eventually(Fun, ?WAIT_MS).

%% ------------------------------------------------------------- throughput

%% Batch, clients of pgbench, with the tables beside the queue or without, goal.
kinds() ->
    [{10, 1, without, ?GOAL_TIME},
     {10, 1, with, ?GOAL_TIME},
     {10, 2, with, none},
     {100, 1, without, none},
     {100, 1, with, none}].

throughput(Rig, Pg) ->
    _ = postgres:query(Pg, "SELECT pgmq.create('bench'), pgmq.create('sunk')"),
    with_provider(Rig, [], fun(Rig1) ->
        [{io_lib:format("queue: ~b jobs, batch ~b, ~s tables; peer: pgbench, "
                        "the same statements, ~b client~s",
                        [?JOBS, Batch, Tables, Clients,
                         [$s || Clients > 1]]),
          with_router(Rig1, Pg, settings(Batch, Tables), fun(Rig2) ->
              jobs(Rig2, Pg, Kind)
          end)} || {Batch, Clients, Tables, _} = Kind <- kinds()]
    end).

settings(Batch, Tables) ->
    Stored = Tables =:= with,
    #{batch => Batch, in_flight => max(64, 5 * Batch), store_answers => Stored,
      store_jobs => Stored, store_metrics => Stored}.

jobs(Rig, Pg, {Batch, Clients, _, Goal}) ->
    _ = through_router(Rig, Pg),
    Result = postgres:value(Pg, "SELECT message FROM pgmq.q_ai_results LIMIT 1"),
    Script = script(Rig, Batch, Result),
    Pairs = rounds("jobs of the queue", fun() -> through_router(Rig, Pg) end,
                   fun() -> through_pgbench(Pg, Script, Batch, Clients) end),
    [compare("time for a job (us)", us, Pairs, Goal),
     compare("jobs a second", per_s, Pairs, none),
     alone("CPU of the router (us/job)", cpu_us, Pairs)].

through_router(Rig, Pg) ->
    postgres:clear(Pg),
    Done = pgmq(Rig, done),
    Cpu = stat(Rig, cpu_us),
    _ = send(Pg, "ai_requests"),
    Start = now_us(),
    await(fun() -> pgmq(Rig, done) - Done =:= ?JOBS end),
    (sample(now_us() - Start))#{cpu_us => (stat(Rig, cpu_us) - Cpu) / ?JOBS}.

sample(Us) ->
    #{us => Us / ?JOBS, per_s => ?JOBS * 1.0e6 / Us}.

send(Pg, Queue) ->
    postgres:value(Pg, ["SELECT count(*) FROM pgmq.send_batch('", Queue,
                        "', ARRAY(SELECT jsonb_build_object('request_id',"
                        " gen_random_uuid(), 'messages', jsonb_build_array("
                        "jsonb_build_object('role', 'user', 'content',"
                        " repeat('Say something. ', 60))))"
                        " FROM generate_series(1, ",
                        integer_to_list(?JOBS), ")))"]).

%% What the router must do at least: read a batch, and in one transaction
%% archive it and send as many results.
script(#{dir := Dir}, Batch, Result) ->
    N = integer_to_list(Batch),
    File = filename:join(Dir, "queue.sql"),
    ok = file:write_file(
           File,
           ["SELECT format('ARRAY[%s]', string_agg(msg_id::text, ',')) AS ids"
            " FROM pgmq.read('bench', 60, ", N, ") \\gset\n"
            "BEGIN;\n"
            "SELECT pgmq.archive('bench', :ids::bigint[]);\n"
            "SELECT pgmq.send_batch('sunk', array_fill(",
            postgres:quote(Result), "::jsonb, ARRAY[", N, "]));\n"
            "COMMIT;\n"]),
    File.

through_pgbench(Pg, Script, Batch, Clients) ->
    postgres:clear(Pg),
    _ = send(Pg, "bench"),
    Count = integer_to_list(?JOBS div Batch div Clients),
    {0, Output} =
        bench_rig:finish(
          open_port({spawn_executable, pgbench()},
                    [{args, ["-n", "-c", integer_to_list(Clients), "-t", Count,
                             "-f", Script, postgres:conninfo(Pg)]},
                     {line, 4096}, stderr_to_stdout, exit_status])),
    [Tps] = [list_to_float(hd(string:lexemes(Rest, " ")))
             || "tps = " ++ Rest <- Output],
    ?JOBS = postgres:depth(Pg, "sunk"),
    sample(?JOBS * 1.0e6 / (Tps * Batch)).

pgbench() ->
    lists:last(lists:sort(filelib:wildcard("/usr/lib/postgresql/*/bin/pgbench"))).

now_us() ->
    erlang:monotonic_time(microsecond).

%% ---------------------------------------------------------------- wake-up

%% The provider is a process here, so that both ends read one clock.
wake_up(Rig, Pg) ->
    say("wake-ups", []),
    Self = self(),
    Provider = scripted_provider:start(
                 #{handler => fun(_) ->
                                      Self ! {asked, now_us()},
                                      scripted_provider:answer(<<"Yes.">>)
                              end}),
    Url = binary_to_list(scripted_provider:url(Provider)),
    Samples = with_router(Rig#{url => Url}, Pg, #{}, fun(_) ->
        postgres:clear(Pg),
        [one_wake_up(Pg) || _ <- lists:seq(1, ?WAKE_UPS + 10)]
    end),
    ok = scripted_provider:stop(Provider),
    {Asked, Sent} = lists:unzip(lists:nthtail(10, Samples)),
    {"queue: from the insert of a request to its arrival at the provider; peer: "
     "to the end of the insert itself",
     [{"median (ms)", median(Asked), median(Sent), none, ?WAKE_UP_MS},
      {"p99 (ms)", p99(Asked), p99(Sent), none, none}]}.

%% Nothing is under way when it comes.
one_wake_up(Pg) ->
    timer:sleep(20 + rand:uniform(30)),
    Start = now_us(),
    _ = postgres:enqueue(Pg, #{request_id => postgres:uuid(),
                               operation => call_with_prompt,
                               prompt => <<"Say something.">>}),
    Sent = now_us(),
    receive
        {asked, At} -> {(At - Start) / 1000, (Sent - Start) / 1000}
    after ?WAIT_MS -> error(not_asked)
    end.

p99(Values) ->
    lists:nth(max(1, length(Values) * 99 div 100), lists:sort(Values)).

%% ------------------------------------------------------------------- away

away(Rig, Pg) ->
    Rows = with_provider(Rig, [], fun(Rig1) ->
        with_router(Rig1, Pg, #{}, fun(Rig2) -> away_rows(Rig2, Pg) end)
    end),
    {io_lib:format("queue: generate_task, ~b callers, while the database stands "
                   "still or is away for ~b s; peer: before and after",
                   [?CALLERS, ?AWAY_MS div 1000]), Rows}.

%% Each beside those before and after it: neighbours come and go.
away_rows(Rig, Pg) ->
    _ = calls(Rig, "to warm up"),
    Before = calls(Rig, "the database is there"),
    Processes = postgres:processes(Pg),
    [postgres:signal(OsPid, "STOP") || OsPid <- Processes],
    Still = calls(Rig, "it stands still"),
    [postgres:signal(OsPid, "CONT") || OsPid <- Processes],
    Between = calls(Rig, "it goes on"),
    postgres:down(Pg, "immediate"),
    Away = calls(Rig, "it is away"),
    postgres:up(Pg),
    Back = await(fun() -> pgmq(Rig, state) =:= up end),
    After = calls(Rig, "it is back"),
    Pairs = [{"stands still", [{Still, Before}, {Still, Between}]},
             {"is away", [{Away, Between}, {Away, After}]}],
    [mean_of_both(["it ", What, ", p99 (us)"], p99_us, Beside, ?GOAL_AWAY)
     || {What, Beside} <- Pairs]
        ++ [mean_of_both(["it ", What, " (calls/s)"], calls_per_s, Beside, none)
            || {What, Beside} <- Pairs]
        ++ [{"used again after (ms)", Back, none, none, 5000}].

mean_of_both(Name, Key, [{Sample, A}, {Sample, B}], Goal) ->
    Value = maps:get(Key, Sample),
    Peer = (maps:get(Key, A) + maps:get(Key, B)) / 2,
    {Name, Value, Peer, Value / Peer, Goal}.

calls(Rig, What) ->
    say("calls while ~s", [What]),
    window(Rig, task_call(Rig), ?CALLERS, ?AWAY_MS).
