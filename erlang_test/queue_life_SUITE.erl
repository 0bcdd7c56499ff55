%% Routers beside a queue: when they look, how much they take, how they share
%% it, how they start and end.
-module(queue_life_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(POLL_NEVER, #{"queue.poll_ms" => 3600000,
                      "queue.max_poll_ms" => 3600000}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% waking up
     a_message_is_seen_at_once,
     a_notification_is_enough,
     a_poll_is_enough,
     who_waits_is_notified,
     %% limits
     no_more_is_taken_than_in_flight,
     zero_in_flight_takes_none,
     while_nothing_goes_well_little_is_read,
     a_reload_changes_what_is_taken,
     queues_can_have_other_names,
     a_queue_is_not_its_own_results,
     nobody_need_be_notified,
     several_routers_share_a_queue,
     %% the end and the beginning
     draining_gives_back_what_is_not_begun,
     draining_gives_back_what_is_being_read,
     routers_that_come_and_go_ask_nothing_twice,
     it_starts_without_a_database,
     a_wrong_database_is_said,
     a_password_is_told_to_nobody,
     migrating_again_changes_nothing,
     migrating_says_what_is_missing].

init_per_suite(Config) ->
    queue_bed:up(Config, #{callers => 1}).

end_per_suite(Config) ->
    queue_bed:down(Config).

with(Config, Test) ->
    with(Config, #{}, Test).

with(Config, Keys, Test) ->
    queue_bed:with(Config, Keys, Test).

pg(Config) ->
    queue_bed:pg(Config).

chat(Text) ->
    queue_bed:chat(Text).

answer(Up, Message) ->
    queue_bed:answer(Up, Message).

query(Up, Sql) ->
    postgres:query(pg(Up), Sql).

%% -------------------------------------------------------------- waking up

a_message_is_seen_at_once(Config) ->
    with(Config, ?POLL_NEVER, fun(Up) ->
        [?assertMatch(#{<<"status">> := <<"success">>},
                      answer(Up, chat(<<"Hi">>))) || _ <- [1, 2, 3]]
    end).

a_notification_is_enough(Config) ->
    without_trigger(Config, ?POLL_NEVER, fun(Up) ->
        timer:sleep(300), %% for the look of the beginning
        [begin
             Id = queue_bed:ask(Up, chat(<<"Hi">>)),
             timer:sleep(300),
             ?assertEqual(none, postgres:result(pg(Up), Id)),
             [] = query(Up, ["NOTIFY \"", Channel, "\""]),
             ?assertMatch(#{<<"status">> := <<"success">>},
                          queue_bed:await(Up, Id))
         end || Channel <- ["pgmq_ai_requests", "pgmq.q_ai_requests.INSERT"]]
    end).

a_poll_is_enough(Config) ->
    Often = #{"queue.poll_ms" => 50, "queue.max_poll_ms" => 200},
    without_trigger(Config, Often, fun(Up) ->
        [?assertMatch(#{<<"status">> := <<"success">>},
                      answer(Up, chat(<<"Hi">>))) || _ <- [1, 2, 3]]
    end).

without_trigger(Config, Keys, Test) ->
    [] = query(Config, "DROP TRIGGER llm_router_wake ON pgmq.q_ai_requests"),
    try
        with(Config, Keys, Test)
    after
        query(Config, "SELECT llm_router_watch('ai_requests')")
    end.

who_waits_is_notified(Config) ->
    Named = #{"queue.notify_channel" => 'some channel'},
    [with(Config, Keys, fun(Up) ->
         Listener = postgres:listen(pg(Up), Channel),
         Ids = [queue_bed:ask(Up, chat(<<"Hi">>)) || _ <- [1, 2]],
         ?assertEqual(lists:sort(Ids), lists:sort(heard(Listener, 2))),
         postgres:close(Listener)
     end) || {Keys, Channel} <- [{#{}, "llm_router_results"},
                                 {Named, "some channel"}]].

heard(Listener, Count) ->
    case postgres:heard(Listener) of
        Heard when length(Heard) >= Count -> Heard;
        Heard -> timer:sleep(20), Heard ++ heard(Listener, Count
                                                 - length(Heard))
    end.

%% ----------------------------------------------------------------- limits

no_more_is_taken_than_in_flight(Config) ->
    with(Config, ?POLL_NEVER#{"queue.in_flight" => 3}, fun(Up) ->
        queue_bed:handle(Up, queue_bed:gate()),
        [queue_bed:ask(Up, chat(<<"Hi">>)) || _ <- lists:seq(1, 10)],
        Three = queue_bed:gated(3),
        queue_bed:await_stats(Up, in_flight, 3),
        ?assertMatch(#{read := 3}, queue_bed:stats(Up)),
        queue_bed:open(Three),
        [queue_bed:open(queue_bed:gated(1)) || _ <- lists:seq(4, 10)],
        _ = postgres:await_results(pg(Up), 10),
        ?assertMatch(#{max_in_flight := 3},
                     scripted_provider:counters(bed:provider(Up)))
    end).

%% The readings of a message are counted: an outage must not use them all up.
while_nothing_goes_well_little_is_read(Config) ->
    with(Config, #{"queue.in_flight" => 5, "queue.backoff_s" => 1,
                   "queue.max_reads" => 100, "retry.max" => 0}, fun(Up) ->
        queue_bed:handle(Up, queue_bed:fails(503)),
        Ids = [queue_bed:ask(Up, chat(<<"Hi">>)) || _ <- lists:seq(1, 60)],
        timer:sleep(2500),
        [[Readings]] = query(Up, "SELECT sum(read_ct) "
                                 "FROM pgmq.q_ai_requests"),
        ?assert(binary_to_integer(Readings) >= 10),
        ?assert(binary_to_integer(Readings) =< 30),
        queue_bed:handle(Up, queue_bed:says(<<"Hello">>)),
        [?assertMatch(#{<<"status">> := <<"success">>},
                      queue_bed:await(Up, Id)) || Id <- Ids]
    end).

zero_in_flight_takes_none(Config) ->
    with(Config, #{"queue.in_flight" => 0, "queue.poll_ms" => 50}, fun(Up) ->
        Id = queue_bed:ask(Up, chat(<<"Hi">>)),
        timer:sleep(500),
        ?assertEqual(none, postgres:result(pg(Up), Id)),
        ?assertMatch(#{read := 0, in_flight := 0}, queue_bed:stats(Up)),
        ?assertEqual(1, visible(Up))
    end).

%% Messages that anybody may read.
visible(Up) ->
    postgres:value(pg(Up), "SELECT count(*) FROM pgmq.q_ai_requests "
                   "WHERE vt <= clock_timestamp()").

a_reload_changes_what_is_taken(Config) ->
    queue_bed:clear(Config),
    Write = fun(InFlight) ->
                    Json = #{queue => #{in_flight => InFlight}},
                    write(Config, "queue.json", test_json:encode(Json))
            end,
    File = Write(1),
    Up = queue_bed:start_with(Config, #{args => ["--config", File],
                                        env => queue_bed:env(Config, #{})}),
    try
        queue_bed:handle(Up, queue_bed:gate()),
        [queue_bed:ask(Up, chat(<<"Hi">>)) || _ <- lists:seq(1, 4)],
        One = queue_bed:gated(1),
        queue_bed:await_stats(Up, in_flight, 1),
        Write(4),
        ok = bed:call(Up, reload),
        queue_bed:open(One ++ queue_bed:gated(3)),
        ?assertEqual(4, length(postgres:await_results(pg(Up), 4)))
    after
        queue_bed:stop(Up)
    end.

queues_can_have_other_names(Config) ->
    Keys = #{"queue.requests" => in_1, "queue.results" => out_1,
             "queue.dead_letters" => dead_1},
    Names = [{"queue.requests", in_2}, {"queue.results", out_1}],
    [begin
         {0, _, _} = postgres:migrate(pg(Config),
                                      queue_bed:env(Config, All)),
         with(Config, maps:merge(?POLL_NEVER, All), fun(Up) ->
                  [postgres:enqueue(pg(Up), Requests, Message)
              || Message <- [chat(<<"Hi">>), #{}]],
             bed:eventually(fun() -> postgres:depth(pg(Up), "out_1") =:= 2 end),
             ?assertEqual({0, 1}, {postgres:depth(pg(Up)),
                                   postgres:depth(pg(Up), Dead)})
         end)
     end || {All, Requests, Dead} <- [{Keys, "in_1", "dead_1"},
                                      {maps:from_list(Names), "in_2",
                                       "in_2_dlq"}]].

a_queue_is_not_its_own_results(Config) ->
    [begin
         {Status, _, Said} = run(Config, [{Variable, "ai_requests"}],
                                 ["--check-config"]),
         ?assertEqual({Variable, 1}, {Variable, Status}),
         ?assertMatch({match, _}, re:run(Said, "queue\\."))
     end || Variable <- ["LLM_ROUTER_QUEUE_RESULTS",
                         "LLM_ROUTER_QUEUE_DEAD_LETTERS"]].

nobody_need_be_notified(Config) ->
    queue_bed:clear(Config),
    File = write(Config, "silent.json",
                 test_json:encode(#{queue => #{notify_channel => <<>>}})),
    Up = queue_bed:start_with(Config, #{args => ["--config", File],
                                        env => queue_bed:env(Config, #{})}),
    try
        ?assertMatch(#{<<"status">> := <<"success">>},
                     answer(Up, chat(<<"Hi">>)))
    after
        queue_bed:stop(Up)
    end.

several_routers_share_a_queue(Config) ->
    Keys = #{"queue.in_flight" => 5},
    with(Config, Keys, fun(Up) ->
        queue_bed:with_other(Up, Keys, fun(Other) ->
            queue_bed:handle(Up, fun(Request) ->
                [{sleep, 5} | scripted_model:from_document(Request)]
            end),
            ask_at_once(Up, 200),
            Results = postgres:await_results(pg(Up), 200),
            bed:eventually(fun() -> postgres:depth(pg(Up)) =:= 0 end),
            ?assertEqual(200, length(lists:usort(ids(Results)))),
            ?assertEqual({200, 200}, {postgres:depth(pg(Up), "ai_results"),
                                      queue_bed:asked(Up)}),
            Taken = [maps:get(done, queue_bed:stats(Up, Node))
                     || Node <- [bed:node(Up), Other]],
            ct:log("taken: ~p", [Taken]),
            ?assertEqual(200, lists:sum(Taken)),
            ?assert(lists:min(Taken) > 0)
        end)
    end).

ask_at_once(Up, Count) ->
    Json = [["'", test_json:encode(chat(<<"Hi">>)), "'"]
            || _ <- lists:seq(1, Count)],
    query(Up, ["SELECT pgmq.send_batch('ai_requests', ARRAY[",
               lists:join(",", Json), "]::jsonb[])"]).

ids(Results) ->
    [Id || #{<<"request_id">> := Id} <- Results].

%% ---------------------------------------------- the end and the beginning

%% One is asked, four wait for its slot; another router takes those at once.
draining_gives_back_what_is_not_begun(Config) ->
    with(Config, #{"limits.in_flight" => 1}, fun(Up) ->
        queue_bed:handle(Up, queue_bed:gate()),
        Ids = [queue_bed:ask(Up, chat(<<"Hi">>)) || _ <- lists:seq(1, 5)],
        Begun = queue_bed:gated(1),
        queue_bed:await_stats(Up, in_flight, 5),
        ?assertEqual(0, visible(Up)),
        router:signal(bed:router(Up), "TERM"),
        bed:eventually(fun() -> visible(Up) =:= 4 end),
        queue_bed:with_other(Up, #{}, fun(_) ->
            Again = queue_bed:gated(4),
            queue_bed:open(Begun),
            ?assertEqual({exited, 0},
                         router:await_exit(bed:router(Up), 20000)),
            ?assertEqual(1, length(postgres:results(pg(Up)))),
            queue_bed:open(Again),
            Results = postgres:await_results(pg(Up), 5),
            ?assertEqual(lists:sort(Ids), lists:sort(ids(Results)))
        end)
    end).

%% The reader waits for a lock when the end begins. No node is connected, which
%% would have to give up the name first.
draining_gives_back_what_is_being_read(Config) ->
    queue_bed:clear(Config),
    Locked = postgres:connect(pg(Config)),
    [] = postgres:query(Locked, "BEGIN"),
    [] = postgres:query(Locked, "LOCK TABLE pgmq.q_ai_requests"),
    _ = postgres:enqueue(Locked, chat(<<"Hi">>)),
    Up = queue_bed:start_with(Config, #{env => queue_bed:env(Config, #{})}),
    bed:eventually(fun() -> 1 =:= postgres:value(
        pg(Up), "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'llm_router reader'"
        " AND query ~ 'pgmq.read' AND wait_event_type = 'Lock'")
    end),
    router:signal(bed:router(Up), "TERM"),
    timer:sleep(500), %% one that does not wait is gone by now
    [] = postgres:query(Locked, "COMMIT"),
    ?assertEqual({exited, 0}, router:await_exit(bed:router(Up), 20000)),
    ?assertEqual({1, 0}, {visible(Up), queue_bed:asked(Up)}),
    postgres:close(Locked).

%% SIGTERM for each of them, in the middle of its work.
routers_that_come_and_go_ask_nothing_twice(Config) ->
    Keys = #{"queue.in_flight" => 5},
    with(Config, Keys, fun(Up) ->
        queue_bed:handle(Up, fun(Request) ->
            [{sleep, 20} | scripted_model:from_document(Request)]
        end),
        ask_at_once(Up, 500),
        [queue_bed:with_other(Up, Keys, fun(_) -> timer:sleep(100) end)
         || _ <- lists:seq(1, 4)],
        Results = postgres:await_results(pg(Up), 500),
        bed:eventually(fun() -> postgres:depth(pg(Up)) =:= 0 end),
        ?assertEqual(500, length(lists:usort(ids(Results)))),
        ?assertEqual({500, 500}, {postgres:depth(pg(Up), "ai_results"),
                                  queue_bed:asked(Up)})
    end).

it_starts_without_a_database(Config) ->
    queue_bed:clear(Config),
    Nowhere = [{"LLM_ROUTER_DATABASE_URL", "host=/nowhere dbname=x"}],
    [queue_bed:with_env(Config, Env, fun(Up) ->
         ?assertMatch({ok, _}, bed:call(Up, {call_with_prompt, simple,
                                             <<"Hi">>})),
         ?assertMatch(#{queue := State}, bed:call(Up, health)),
         case bed:call(Up, stats) of
             #{pgmq := nil} -> ?assertEqual(off, State);
             #{pgmq := Stats} -> ?assertMatch(#{state := State, depth := nil},
                                              Stats)
         end
     end) || {Env, State} <- [{[], off}, {Nowhere, down}]].

a_wrong_database_is_said(Config) ->
    [begin
         {Status, _, Said} = run(Config, [{"LLM_ROUTER_DATABASE_URL", Url}],
                                 ["--check-config"]),
         ?assertEqual({Url, 1}, {Url, Status}),
         ?assertMatch({match, _}, re:run(Said, "LLM_ROUTER_DATABASE_URL")),
         ?assertEqual(nomatch, re:run(Said, "s3cret"))
     end || Url <- ["nonsense", "host=/tmp pasword=s3cret",
                    "postgresql://me:s3cret@h:port/x"]].

run(Config, Env, Args) ->
    router:run(#{dir => proplists:get_value(priv_dir, Config), cookie => "c",
                 args => Args,
                 env => [{"OPENAI_API_KEY", "sk-test-key"} | Env]}).

a_password_is_told_to_nobody(Config) ->
    [begin
         File = write(Config, "secret.json",
                      test_json:encode(#{queue => #{database => Database}})),
         {Status, _, Said} = run(Config, [], ["--config", File,
                                              "--check-config"]),
         ?assertEqual({Database, 1}, {Database, Status}),
         ?assertMatch({match, _}, re:run(Said, "queue.database")),
         ?assertEqual(nomatch, re:run(Said, "s3cret"))
     end || Database <- [<<"host=/tmp password=s3cret">>,
                         <<"postgresql://me:s3cret@localhost/x">>]],
    Url = ["postgresql://postgres:s3cret@/llm_router?host=",
           maps:get(dir, pg(Config))],
    Env = [{"LLM_ROUTER_DATABASE_URL_FILE", write(Config, "url", Url)},
           {"LLM_ROUTER_LOG_LEVEL", "debug"}],
    {0, Printed, _} = run(Config, Env, ["--print-config"]),
    ?assertEqual(nomatch, re:run(Printed, "s3cret")),
    queue_bed:clear(Config),
    queue_bed:with_env(Config, Env, fun(Up) ->
        _ = answer(Up, chat(<<"Hi">>)),
        Stats = io_lib:format("~p", [bed:call(Up, stats)]),
        ?assertEqual(nomatch, re:run(Stats, "s3cret")),
        {exited, 0} = bed:stop_router(Up),
        ?assert(queue_bed:logged(
                  Up, "msg=connected session=\"llm_router reader\"")),
        ?assertNot(queue_bed:logged(Up, "s3cret"))
    end).

write(Config, Name, Text) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, Text),
    ok = file:change_mode(File, 8#600),
    File.

migrating_again_changes_nothing(Config) ->
    with(Config, fun(Up) ->
        #{request_id := Id} = Message = chat(<<"Hi">>),
        Result = answer(Up, Message),
        Self = self(),
        Pids = [spawn_link(fun() ->
                               Self ! {self(), postgres:migrate(pg(Up), [])}
                           end) || _ <- [1, 2, 3]],
        [receive {Pid, Migrated} -> ?assertMatch({0, _, <<>>}, Migrated) end
         || Pid <- Pids],
        ?assertMatch(#{<<"result">> := Result},
                     queue_bed:row(Up, ai_results, Id)),
        ?assertMatch(#{<<"status">> := <<"success">>},
                     answer(Up, chat(<<"Hi">>)))
    end).

migrating_says_what_is_missing(Config) ->
    {1, _, NoUrl} = run(Config, [], ["--migrate"]),
    ?assertMatch({match, _}, re:run(NoUrl, "LLM_ROUTER_DATABASE_URL")),
    {3, _, NoServer} = run(Config, [{"LLM_ROUTER_DATABASE_URL",
                                     "host=/nowhere dbname=x"}],
                           ["--migrate"]),
    ?assertMatch({match, _}, re:run(NoServer, "/nowhere")),
    [] = query(Config, "CREATE DATABASE bare"),
    Bare = postgres:conninfo(pg(Config)) ++ " dbname=bare",
    {Status, _, NoPgmq} = run(Config, [{"LLM_ROUTER_DATABASE_URL", Bare}],
                              ["--migrate"]),
    [] = query(Config, "DROP DATABASE bare"),
    ?assertEqual(1, Status),
    ?assertMatch({match, _}, re:run(NoPgmq, "pgmq")).
