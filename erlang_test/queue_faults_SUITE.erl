%% The queue under faults: PostgreSQL that is away, restarts, stands still or
%% refuses, routers that are killed, messages that are poison or are taken away.
%% Each request gets one result, the provider is asked once unless a router
%% died, and BEAM calls notice nothing.
%%
%%     LLM_ROUTER_QUEUE_KILLS   how many in the last test, default 30
%%     LLM_ROUTER_QUEUE_JOBS    requests in it, default 500
%%     LLM_ROUTER_QUEUE_SEED    of all that is left to chance there
-module(queue_faults_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"hi">>}).
-define(VT_MS, 3000). % the shortest that can be configured
-define(ANSWERED_MS, 20000).
-define(IN_FLIGHT, 8). % of each router in the last test

suite() ->
    [{timetrap, {seconds, 180}}].

all() ->
    [%% PostgreSQL is away
     calls_work_without_postgresql_and_the_queue_once_it_is_there,
     a_fast_restart_costs_no_answer,
     an_immediate_restart_costs_no_answer,
     a_kill_of_the_server_costs_no_answer,
     each_connection_may_be_ended_while_idle_and_under_way,
     a_statement_that_is_cut_off_is_made_again,
     a_backend_that_stands_still_is_left,
     a_lock_that_is_held_for_long_gathers_no_backends,
     a_postmaster_that_stands_still_holds_nobody_up,
     a_server_that_stands_still_holds_nobody_up,
     nothing_spins_while_the_server_is_away_or_stands_still,
     sigterm_while_the_server_is_away_loses_nothing,
     %% the router dies, or is too slow
     a_router_that_dies_before_it_stored_is_replaced,
     what_a_dead_router_asked_to_store_is_stored_once,
     a_router_that_stood_still_stores_nothing_again,
     a_call_longer_than_the_visibility_timeout_is_made_once,
     a_message_that_was_taken_away_is_asked_no_more,
     a_message_that_kills_routers_is_a_dead_letter,
     %% messages and answers
     poison_never_blocks_what_is_behind_it,
     any_text_of_a_model_is_stored,
     a_database_that_cannot_hold_the_text_says_so,
     a_result_that_is_refused_holds_no_other_up,
     %% storing
     answers_wait_for_a_results_queue_that_is_missing,
     an_answer_that_waits_is_stored_whoever_has_its_message,
     answers_wait_for_a_permission,
     tables_that_are_missing_or_read_only_are_done_without,
     a_requests_queue_that_is_made_anew_is_read_again,
     serializable_transactions_are_tried_again,
     no_more_is_taken_than_can_be_stored,
     %% several, and other clocks
     two_routers_answer_each_request_once,
     a_clock_that_is_wrong_changes_nothing,
     every_request_has_one_result_whatever_is_killed].

init_per_suite(Config) ->
    Pg = postgres:start(proplists:get_value(priv_dir, Config)),
    [{pg, Pg} | bed:up(Config, #{router => none})].

end_per_suite(Config) ->
    bed:down(Config),
    postgres:stop(pg(Config)).

%% As at the start, whatever the test before left.
init_per_testcase(_Case, Config) ->
    Pg = pg(Config),
    all_processes(Pg, "CONT"),
    postgres:up(Pg),
    postgres:clear(Pg),
    scripted_provider:set_handler(bed:provider(Config), answers_after(0)),
    Config.

pg(Config) ->
    proplists:get_value(pg, Config).

%% Runs Test with a router of these settings of the queue. It stops as it
%% should unless the test killed it.
with_router(Config, Queue, Test) ->
    with_router(Config, Queue, #{}, Test).

with_router(Config, Queue, Opts, Test) ->
    Up = bed:start_router(bed:renamed(Config), opts(Config, Queue, Opts)),
    try
        Test(Up),
        ?assert(lists:member(bed:stop_router(Up), [{exited, 0}, none]))
    after
        bed:stop_router(Up)
    end.

opts(Config, Queue, Opts) ->
    Settings = #{queue => maps:merge(#{visibility_timeout_s => ?VT_MS div 1000,
                                       poll_ms => 100, max_poll_ms => 400,
                                       backoff_s => 0}, Queue),
                 timeouts => #{drain_ms => 3000}},
    Name = ["queue-", integer_to_list(erlang:unique_integer([positive]))],
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, test_json:encode(Settings)),
    Opts#{args => ["--config", File], env => maps:get(env, Opts, env(Config))}.

env(Config) ->
    postgres:env(pg(Config)).

%% --------------------------------------------------------------- requests

%% Requests of the queue are told from BEAM calls by their text.
answers_after(Ms) ->
    fun(#{body := Body}) ->
            case is_queued(Body) of
                true -> [{sleep, Ms} | scripted_provider:answer(<<"Yes.">>)];
                false -> scripted_provider:answer(<<"hello">>)
            end
    end.

set(Config, Handler) ->
    scripted_provider:set_handler(bed:provider(Config), Handler).

is_queued(Body) ->
    binary:match(Body, <<"out of the queue">>) =/= nomatch.

%% How often the provider was asked for what came out of the queue.
asked(Config) ->
    length([asked || #{body := Body}
                         <- scripted_provider:requests(bed:provider(Config)),
                     is_queued(Body)]).

await_asked(Config, Count) ->
    bed:eventually(fun() -> asked(Config) >= Count end, ?ANSWERED_MS),
    ?assertEqual(Count, asked(Config)).

chat(Id) ->
    #{request_id => Id,
      messages => [#{role => user,
                     content => <<"out of the queue: ", Id/binary>>}]}.

%% Puts so many requests on the queue in one statement; gives their ids.
ask(Config, Count) ->
    Ids = [postgres:uuid() || _ <- lists:seq(1, Count)],
    Messages = [postgres:quote(test_json:encode(chat(Id))) || Id <- Ids],
    Sent = postgres:query(pg(Config),
                          ["SELECT pgmq.send_batch('ai_requests', ARRAY[",
                           lists:join(", ", Messages), "]::jsonb[])"]),
    ?assertEqual(Count, length(Sent)),
    Ids.

%% The same, when the provider was asked for all of them.
under_way(Config, Count) ->
    Before = asked(Config),
    Ids = ask(Config, Count),
    await_asked(Config, Before + Count),
    Ids.

%% Each has one result and one row, both of a success, and none is left.
are_answered_once(Config, Ids) ->
    Pg = pg(Config),
    await_empty(Config),
    Good = lists:sort([[Id, <<"success">>] || Id <- Ids]),
    ?assertEqual(Good, lists:sort([[Id, Status]
                                   || #{<<"request_id">> := Id,
                                        <<"status">> := Status}
                                          <- postgres:results(Pg)])),
    ?assertEqual(Good, lists:sort(postgres:query(
                                    Pg, "SELECT request_id, status"
                                    " FROM ai_results"))).

await_empty(Config) ->
    bed:eventually(fun() -> postgres:depth(pg(Config)) =:= 0 end,
                   ?ANSWERED_MS).

are_answered_by_one_call_each(Config, Ids) ->
    are_answered_once(Config, Ids),
    ?assertEqual(length(Ids), asked(Config)).

stats(Up) ->
    bed:call(Up, stats).

queue_stat(Up, Name) ->
    #{pgmq := #{Name := Value}} = stats(Up),
    Value.

%% The contract: within 5 s of the server's return.
await_up(Up) ->
    bed:eventually(fun() -> queue_stat(Up, state) =:= up end, 5000).

log_lines(Up, Text) ->
    length(binary:matches(router:stderr(bed:router(Up)), Text)).

%% BEAM calls, one after the other for as long as Fun runs, are all answered
%% within a second.
while_calls_are_answered(Up, Fun) ->
    Server = {llm_router, bed:node(Up)},
    Pid = bed:on(bed:caller(Up),
                 fun() -> spawn(fun() -> keep_calling(Server, 0, 0) end) end),
    Fun(),
    {Calls, SlowestUs} = bed:on(bed:caller(Up),
                                fun() -> stop_calling(Pid) end),
    ct:log("~b calls, the slowest took ~b us", [Calls, SlowestUs]),
    ?assert(Calls > 0),
    ?assert(SlowestUs < bed:limit_ms(1000) * 1000).

keep_calling(Server, Calls, SlowestUs) ->
    receive
        {stop, From} -> From ! {self(), {Calls, SlowestUs}}
    after 5 ->
            {Us, {ok, _}} = timer:tc(gen_server, call, [Server, ?OP]),
            keep_calling(Server, Calls + 1, max(Us, SlowestUs))
    end.

stop_calling(Pid) ->
    Monitor = monitor(process, Pid),
    Pid ! {stop, self()},
    receive
        {Pid, Result} -> Result;
        {'DOWN', Monitor, _, _, Reason} -> error(Reason)
    end.

%% ----------------------------------------------------------------- server

names() ->
    ["llm_router reader", "llm_router writer", "llm_router clients"].

%% The one backend of a connection; one that was just made anew may not be there
%% yet.
backend(Config, Name) ->
    Pg = pg(Config),
    bed:eventually(fun() -> length(postgres:backends(Pg, Name)) =:= 1 end),
    hd(postgres:backends(Pg, Name)).

terminate(Config, Name) ->
    OsPid = integer_to_list(backend(Config, Name)),
    [[<<"t">>]] = postgres:query(pg(Config),
                                 ["SELECT pg_terminate_backend(", OsPid, ")"]).

all_processes(Pg, Signal) ->
    [postgres:signal(OsPid, Signal) || OsPid <- postgres:processes(Pg)].

%% Runs Fun while nobody can store a result; the writer waits for it.
while_results_are_locked(Config, Fun) ->
    Holder = postgres:connect(pg(Config)),
    [] = postgres:query(Holder, "BEGIN"),
    [] = postgres:query(Holder, "LOCK TABLE pgmq.q_ai_results"),
    try
        Fun(),
        [] = postgres:query(Holder, "COMMIT")
    after
        postgres:close(Holder)
    end.

await_writers_that_wait(Config, Count) ->
    bed:eventually(fun() -> Count =:= postgres:value(
                                        pg(Config),
                                        "SELECT count(*) FROM pg_stat_activity"
                                        " WHERE application_name ="
                                        " 'llm_router writer'"
                                        " AND wait_event_type = 'Lock'")
                   end).

await_unstored(Up, Count) ->
    bed:eventually(fun() -> queue_stat(Up, unstored) =:= Count end).

%% ------------------------------------------------------- the server is away

calls_work_without_postgresql_and_the_queue_once_it_is_there(Config) ->
    Pg = pg(Config),
    postgres:down(Pg, "fast"),
    with_router(Config, #{}, fun(Up) ->
        while_calls_are_answered(Up, fun() -> timer:sleep(1000) end),
        ?assertEqual(down, queue_stat(Up, state)),
        ?assertEqual(length(names()), log_lines(Up, <<"cannot connect">>)),
        postgres:up(Pg),
        await_up(Up),
        are_answered_by_one_call_each(Config, ask(Config, 1))
    end).

a_fast_restart_costs_no_answer(Config) ->
    restart_under_way(Config, fun(Pg) -> postgres:down(Pg, "fast") end).

an_immediate_restart_costs_no_answer(Config) ->
    restart_under_way(Config, fun(Pg) -> postgres:down(Pg, "immediate") end).

a_kill_of_the_server_costs_no_answer(Config) ->
    restart_under_way(Config, fun postgres:kill/1).

%% The answers come while the server is away, and others are stored when it
%% goes.
restart_under_way(Config, Down) ->
    Pg = pg(Config),
    with_router(Config, #{}, fun(Up) ->
        set(Config, answers_after(700)),
        Ids = under_way(Config, 20),
        while_calls_are_answered(Up, fun() ->
            Down(Pg),
            timer:sleep(1200),
            await_unstored(Up, 20),
            postgres:up(Pg),
            await_up(Up)
        end),
        are_answered_by_one_call_each(Config, Ids)
    end).

each_connection_may_be_ended_while_idle_and_under_way(Config) ->
    with_router(Config, #{}, fun(Up) ->
        set(Config, answers_after(300)),
        while_calls_are_answered(Up, fun() ->
            Ids = [ended(Config, Up, Name) || Name <- names()],
            are_answered_by_one_call_each(Config, lists:append(Ids))
        end),
        ?assertEqual(2 * length(names()), queue_stat(Up, reconnects))
    end).

ended(Config, Up, Name) ->
    terminate(Config, Name),
    await_up(Up),
    Ids = under_way(Config, 5),
    terminate(Config, Name),
    Ids.

a_statement_that_is_cut_off_is_made_again(Config) ->
    with_router(Config, #{}, fun(Up) ->
        Ids = ask_locked(Config, 10, fun() ->
            terminate(Config, "llm_router writer"),
            await_up(Up),
            await_writers_that_wait(Config, 1)
        end),
        are_answered_by_one_call_each(Config, Ids),
        ?assertEqual(0, queue_stat(Up, lost))
    end).

%% Runs Fun when the answers of so many requests wait to be stored.
ask_locked(Config, Count, Fun) ->
    Self = self(),
    while_results_are_locked(Config, fun() ->
        Ids = under_way(Config, Count),
        await_writers_that_wait(Config, 1),
        Fun(),
        Self ! {ids, Ids}
    end),
    receive {ids, Ids} -> Ids end.

%% What it was sent it carries out when it goes on: nothing twice for that.
a_backend_that_stands_still_is_left(Config) ->
    with_router(Config, #{query_timeout_ms => 400}, fun(Up) ->
        while_calls_are_answered(Up, fun() ->
            Ids = [stood_still(Config, Up, Name) || Name <- names()],
            are_answered_by_one_call_each(Config, lists:append(Ids))
        end)
    end).

%% One that stands still while it stores holds the locks of its transaction,
%% which nobody can get by.
stood_still(Config, Up, Name) ->
    OsPid = backend(Config, Name),
    postgres:signal(OsPid, "STOP"),
    Ids = ask(Config, 5),
    is_reached(Up, Name),
    await_empty(Config),
    postgres:signal(OsPid, "CONT"),
    More = ask(Config, 5),
    await_empty(Config),
    Ids ++ More.

%% The clients' connection is only used when somebody asks.
is_reached(Up, "llm_router clients") ->
    Id = postgres:uuid(),
    {error, {unreachable, _}} = bed:call(Up, {result, Id}),
    bed:eventually(fun() -> bed:call(Up, {result, Id}) =:= pending end);
is_reached(_Up, _Name) ->
    0.

%% One that its router gave up does not wait for its lock for ever.
a_lock_that_is_held_for_long_gathers_no_backends(Config) ->
    with_router(Config, #{query_timeout_ms => 400}, fun(Up) ->
        Ids = ask_locked(Config, 5, fun() ->
            while_calls_are_answered(Up, fun() -> timer:sleep(4000) end),
            Backends = [postgres:backends(pg(Config), Name)
                        || Name <- names()],
            ct:log("~0tp", [Backends]),
            ?assert(length(lists:append(Backends)) =< 2 * length(names()))
        end),
        are_answered_by_one_call_each(Config, Ids)
    end).

%% It accepts connections and forks, no more: those that are there go on.
a_postmaster_that_stands_still_holds_nobody_up(Config) ->
    Postmaster = postgres:pid(pg(Config)),
    with_router(Config, #{}, fun(Up) ->
        set(Config, answers_after(300)),
        Ids = under_way(Config, 5),
        postgres:signal(Postmaster, "STOP"),
        [terminate(Config, Name) || Name <- names()],
        while_calls_are_answered(Up, fun() -> timer:sleep(1500) end),
        ?assertEqual(down, queue_stat(Up, state)),
        postgres:signal(Postmaster, "CONT"),
        await_up(Up),
        are_answered_by_one_call_each(Config, Ids)
    end).

a_server_that_stands_still_holds_nobody_up(Config) ->
    Pg = pg(Config),
    with_router(Config, #{query_timeout_ms => 400}, fun(Up) ->
        set(Config, answers_after(300)),
        Ids = under_way(Config, 5),
        all_processes(Pg, "STOP"),
        while_calls_are_answered(Up, fun() -> timer:sleep(2500) end),
        ?assertEqual(down, queue_stat(Up, state)),
        all_processes(Pg, "CONT"),
        await_up(Up),
        are_answered_by_one_call_each(Config, Ids ++ ask(Config, 5))
    end).

%% In 2 s, with answers that wait to be stored.
nothing_spins_while_the_server_is_away_or_stands_still(Config) ->
    Pg = pg(Config),
    with_router(Config, #{query_timeout_ms => 400}, fun(Up) ->
        set(Config, answers_after(500)),
        First = under_way(Config, 5),
        postgres:down(Pg, "immediate"),
        is_quiet(Up),
        postgres:up(Pg),
        are_answered_by_one_call_each(Config, First),
        Then = under_way(Config, 5),
        all_processes(Pg, "STOP"),
        is_quiet(Up),
        all_processes(Pg, "CONT"),
        are_answered_by_one_call_each(Config, First ++ Then)
    end).

is_quiet(Up) ->
    timer:sleep(1000),
    #{cpu_us := Cpu, loop_turns := Turns} = stats(Up),
    timer:sleep(2000),
    #{cpu_us := CpuThen, loop_turns := TurnsThen} = stats(Up),
    ct:log("~b us and ~b turns", [CpuThen - Cpu, TurnsThen - Turns]),
    ?assert(CpuThen - Cpu < bed:limit_ms(100) * 1000),
    ?assert(TurnsThen - Turns < 1000).

sigterm_while_the_server_is_away_loses_nothing(Config) ->
    Pg = pg(Config),
    with_router(Config, #{}, fun(Up) ->
        set(Config, answers_after(300)),
        Ids = under_way(Config, 5),
        postgres:down(Pg, "immediate"),
        await_unstored(Up, 5),
        {Us, Stopped} = timer:tc(fun() -> bed:stop_router(Up) end),
        ?assertEqual({exited, 0}, Stopped),
        ?assert(Us < bed:limit_ms(5000) * 1000),
        postgres:up(Pg),
        with_router(Config, #{}, fun(_) ->
            are_answered_once(Config, Ids),
            ?assertEqual(10, asked(Config))
        end)
    end).

%% ------------------------------------------------------------ routers that die

a_router_that_dies_before_it_stored_is_replaced(Config) ->
    with_router(Config, #{}, fun(Up) ->
        Ids = ask_locked(Config, 3, fun() ->
            bed:kill_router(Up),
            terminate(Config, "llm_router writer")
        end),
        ?assertEqual(3, postgres:depth(pg(Config))),
        with_router(Config, #{}, fun(_) -> are_answered_once(Config, Ids) end),
        ?assertEqual(6, asked(Config)),
        ?assertEqual([[<<"2">>], [<<"2">>], [<<"2">>]],
                     postgres:query(pg(Config), "SELECT read_ct"
                                    " FROM pgmq.a_ai_requests"))
    end).

%% Its statement waits for the lock, and nobody can read the message meanwhile.
what_a_dead_router_asked_to_store_is_stored_once(Config) ->
    with_router(Config, #{}, fun(Up) ->
        Ids = ask_locked(Config, 1, fun() -> bed:kill_router(Up) end),
        with_router(Config, #{}, fun(_) ->
            are_answered_by_one_call_each(Config, Ids)
        end)
    end).

%% Until somebody else has read and answered its messages. One read takes all.
a_router_that_stood_still_stores_nothing_again(Config) ->
    with_router(Config, #{}, fun(A) ->
        with_router(Config, #{}, fun(B) ->
            set(Config, answers_after(500)),
            Ids = under_way(Config, 3),
            [Slow] = [Up || Up <- [A, B], queue_stat(Up, in_flight) =:= 3],
            router:signal(bed:router(Slow), "STOP"),
            await_empty(Config),
            router:signal(bed:router(Slow), "CONT"),
            bed:eventually(fun() -> queue_stat(Slow, in_flight) =:= 0 end),
            ?assertEqual(3, queue_stat(Slow, lost)),
            are_answered_once(Config, Ids),
            ?assertEqual(6, asked(Config))
        end)
    end).

a_call_longer_than_the_visibility_timeout_is_made_once(Config) ->
    with_router(Config, #{}, fun(_) ->
        with_router(Config, #{}, fun(_) ->
            set(Config, answers_after(2 * ?VT_MS + 500)),
            are_answered_by_one_call_each(Config, ask(Config, 4))
        end)
    end),
    ?assertEqual([[<<"1">>]], postgres:query(pg(Config), "SELECT DISTINCT"
                                             " read_ct FROM"
                                             " pgmq.a_ai_requests")).

a_message_that_was_taken_away_is_asked_no_more(Config) ->
    Pg = pg(Config),
    with_router(Config, #{}, fun(Up) ->
        set(Config, fun(_) -> [hang] end),
        [begin
             Before = asked(Config),
             MsgId = postgres:enqueue(Pg, chat(postgres:uuid())),
             await_asked(Config, Before + 1),
             take_away(Pg, How, integer_to_list(MsgId)),
             scripted_provider:await_aborted(bed:provider(Config), Lost),
             bed:eventually(fun() -> queue_stat(Up, lost) =:= Lost end),
             ?assertEqual(0, queue_stat(Up, in_flight))
         end || {Lost, How} <- lists:zip([1, 2, 3], [archive, delete, read])],
        ?assertEqual([], postgres:results(Pg)),
        ?assertEqual(0, postgres:value(Pg, "SELECT count(*) FROM ai_results")),
        %% The last one is still there for whoever took it.
        ?assertEqual(1, postgres:depth(Pg))
    end).

take_away(Pg, read, MsgId) ->
    [[MsgIdRead]] =
        postgres:query(Pg, ["BEGIN; UPDATE pgmq.q_ai_requests SET vt = now();"
                            "SELECT msg_id FROM"
                            " pgmq.read('ai_requests', 60, 1); COMMIT"]),
    ?assertEqual(MsgId, binary_to_list(MsgIdRead));
take_away(Pg, How, MsgId) ->
    [[<<"t">>]] = postgres:query(Pg, ["SELECT pgmq.", atom_to_list(How),
                                      "('ai_requests', ", MsgId, "::bigint)"]).

%% The third reading is one more than it may have.
a_message_that_kills_routers_is_a_dead_letter(Config) ->
    Pg = pg(Config),
    set(Config, fun(_) -> [hang] end),
    [Id] = ask(Config, 1),
    [with_router(Config, #{}, fun(Up) ->
         await_asked(Config, N),
         bed:kill_router(Up),
         %% As if its time were over.
         postgres:query(Pg, "UPDATE pgmq.q_ai_requests SET vt = now()")
     end) || N <- [1, 2]],
    with_router(Config, #{max_reads => 2}, fun(_) ->
        ?assertMatch(#{<<"status">> := <<"failed">>,
                       <<"error">> := #{<<"code">> := <<"unreachable">>}},
                     postgres:await_result(Pg, Id)),
        ?assertMatch([#{<<"read_ct">> := 3,
                        <<"message">> := #{<<"request_id">> := Id}}],
                     postgres:dead(Pg)),
        ?assertEqual(0, postgres:depth(Pg)),
        ?assertEqual(2, asked(Config))
    end).

%% -------------------------------------------------------- messages and answers

poison_never_blocks_what_is_behind_it(Config) ->
    Pg = pg(Config),
    with_router(Config, #{in_flight => 4}, fun(Up) ->
        Poison = poison(),
        Sent = length([sent || Sql <- Poison, is_taken(Pg, Sql)]),
        ct:log("~b of ~b are taken by jsonb", [Sent, length(Poison)]),
        [Id] = ask(Config, 1),
        while_calls_are_answered(Up, fun() ->
            await_empty(Config)
        end),
        Results = postgres:results(Pg),
        ?assertEqual(Sent + 1, length(Results)),
        ?assertEqual([Id], [I || #{<<"request_id">> := I,
                                   <<"status">> := <<"success">>} <- Results]),
        ?assertEqual(Sent, length(postgres:dead(Pg))),
        ?assertEqual(1, asked(Config))
    end).

is_taken(Pg, Sql) ->
    try
        postgres:query(Pg, ["SELECT pgmq.send('ai_requests', ", Sql, ")"]),
        true
    catch
        error:{psql, Text} ->
            ct:log("refused: ~s", [string:slice(Text, 0, 200)]),
            false
    end.

%% Values of SQL, some of which only some versions of PostgreSQL take.
poison() ->
    Json = [<<"\"text\"">>, <<"[]">>, <<"[{\"request_id\": 1}]">>,
            <<"null">>, <<"true">>, <<"12">>, <<"1e400">>, <<"{}">>,
            <<"{\"\": \"\"}">>, <<"{\"request_id\": null}">>,
            <<"{\"request_id\": \"\"}">>, <<"{\"request_id\": 7}">>,
            <<"{\"request_id\": \"no uuid\", \"messages\": []}">>],
    Members = [<<"\"messages\": null">>, <<"\"messages\": []">>,
               <<"\"messages\": {}">>, <<"\"messages\": [[]]">>,
               <<"\"messages\": [{\"role\": \"king\", \"content\": \"a\"}]">>,
               <<"\"messages\": [{\"role\": \"user\", \"content\": 1e400}]">>,
               <<"\"messages\": [{\"role\": \"user\"}]">>,
               <<"\"operation\": \"stream\", \"prompt\": \"a\"">>,
               <<"\"operation\": \"ping\"">>,
               <<"\"operation\": \"enqueue\"">>,
               <<"\"operation\": {\"a\": []}">>,
               <<"\"operation\": \"parse_prd\"">>,
               <<"\"operation\": \"parse_prd\", \"content\": \"a\","
                 " \"num_tasks\": 1e400">>,
               <<"\"operation\": \"call_with_prompt\", \"prompt\": \"a\","
                 " \"options\": {\"timeout\": -1}">>,
               <<"\"operation\": \"call_with_prompt\", \"prompt\": \"a\","
                 " \"max_tokens\": 1e131000">>,
               <<"\"operation\": \"call_with_prompt\", \"prompt\": \"a\","
                 " \"temperature\": \"hot\"">>,
               <<"\"operation\": \"call_with_prompt\", \"prompt\": \"a\","
                 " \"reply_to\": {\"name\": \"\", \"node\": \"x\"}">>,
               <<"\"operation\": \"call_with_prompt\", \"prompt\": \"a\","
                 " \"reply_to\": {\"name\": \"\", \"name\": [],"
                 " \"node\": \"\xef\xbf\xbf\"}">>,
               <<"\"operation\": \"call_with_prompt\", \"prompt\":"
                 " [\"\xef\xbf\xbe\"]">>],
    [[postgres:quote(J), "::jsonb"] || J <- Json]
        ++ [[postgres:quote(["{\"request_id\": \"", postgres:uuid(), "\", ", M,
                             "}"]), "::jsonb"] || M <- Members]
        ++ [with_member(Key, Value)
            || {Key, Value} <-
                   [{"messages", ["(", deep(Depth), ")"]}
                    || Depth <- ["600", "5000", "10000", "100000"]]
                   ++ [{"prompt", "to_jsonb(repeat('x', 10485760))"},
                       {"messages", "to_jsonb(array_fill(''::text,"
                        " ARRAY[300000]))"},
                       {"options", "(SELECT jsonb_object_agg('key' || i, i)"
                        " FROM generate_series(1, 50000) AS i)"},
                       {"messages", "to_jsonb(repeat('x', 1000000))"}]].

deep(Depth) ->
    ["(repeat('[', ", Depth, ") || repeat(']', ", Depth, "))::jsonb"].

with_member(Key, Value) ->
    ["jsonb_build_object('request_id', gen_random_uuid(), '", Key, "', ",
     Value, ")"].

any_text_of_a_model_is_stored(Config) ->
    Pg = pg(Config),
    with_router(Config, #{}, fun(_) ->
        [begin
             set(Config, fun(_) -> said(Escaped) end),
             [Id] = ask(Config, 1),
             #{<<"status">> := Status, <<"response">> := Text} =
                 postgres:await_result(Pg, Id),
             ?assertEqual({<<"success">>, Expected}, {Status, Text})
         end || {Escaped, Expected} <- texts()],
        [begin
             set(Config, fun(_) -> called(Escaped) end),
             Id = postgres:uuid(),
             postgres:enqueue(Pg, (chat(Id))#{tools => tools()}),
             ?assertMatch(#{<<"status">> := <<"success">>},
                          postgres:await_result(Pg, Id))
         end || {Escaped, _} <- texts(), byte_size(Escaped) < 1000],
        ?assertEqual(0, postgres:depth(Pg))
    end).

%% As they are in the provider's JSON, and as they must be stored.
texts() ->
    Long = binary:copy(<<"0123456789abcde\\n">>, 65536),
    [{<<"a\\u0000b">>, <<"ab">>},
     {<<"a\\ud800b">>, <<"a\x{fffd}b"/utf8>>},
     {<<"a\\udc00\\ud800">>, <<"a\x{fffd}\x{fffd}"/utf8>>},
     {<<"\\ud83d\\ude00">>, <<"\x{1f600}"/utf8>>},
     {<<"\\ufffe\\uffff">>, <<16#ef, 16#bf, 16#be, 16#ef, 16#bf, 16#bf>>},
     {<<"\\u0001\\u001f\\\"\\\\">>, <<1, 31, "\"\\">>},
     {Long, binary:replace(Long, <<"\\n">>, <<"\n">>, [global])}].

said(Escaped) ->
    streamed([<<"{\"content\":\"">>, Escaped, <<"\"}">>], <<"stop">>).

called(Escaped) ->
    streamed([<<"{\"tool_calls\":[{\"index\":0,\"id\":\"t1\",\"type\":"
                "\"function\",\"function\":{\"name\":\"note\",\"arguments\":"
                "\"{\\\"text\\\":\\\"">>,
              escaped(Escaped),
              <<"\\\"}\"}}]}">>], <<"tool_calls">>).

escaped(Text) ->
    << <<(case lists:member(C, "\\\"") of
              true -> <<$\\, C>>;
              false -> <<C>>
          end)/binary>> || <<C>> <= Text >>.

streamed(Delta, Finish) ->
    [{header, <<"content-type">>, <<"text/event-stream">>},
     {body, [<<"data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\","
               "\"model\":\"scripted\",\"choices\":[{\"index\":0,\"delta\":">>,
             Delta, <<",\"finish_reason\":\"">>, Finish,
             <<"\"}]}\n\ndata: [DONE]\n\n">>]}].

tools() ->
    [#{name => note, description => <<"Keeps a note.">>,
       parameters => #{type => object,
                       properties => #{text => #{type => string}}}}].

%% In LATIN1 there are no Japanese letters. A database without an encoding takes
%% any bytes.
a_database_that_cannot_hold_the_text_says_so(Config) ->
    set(Config, fun(#{body := Body}) ->
                        Text = case binary:match(Body, <<"Japanese">>) of
                                   nomatch -> <<"Grüße"/utf8>>;
                                   _ -> <<"日本語"/utf8>>
                               end,
                        scripted_provider:answer(Text)
                end),
    German = {<<"German">>, <<"success">>, <<"Grüße"/utf8>>},
    Japanese = <<"Japanese">>,
    in_encoding(Config, "LATIN1", [German, {Japanese, <<"failed">>, null}]),
    in_encoding(Config, "SQL_ASCII",
                [German, {Japanese, <<"success">>, <<"日本語"/utf8>>}]).

in_encoding(Config, Encoding, Expected) ->
    Pg = pg(Config),
    Name = string:lowercase(Encoding),
    [] = postgres:query(Pg, ["CREATE DATABASE ", Name, " TEMPLATE template0"
                             " LOCALE 'C' ENCODING '", Encoding, "'"]),
    Other = postgres:connect(Pg),
    [] = postgres:query(Other, ["\\connect ", Name]),
    _ = postgres:query(Other, ["\\i ", pgmq_file()]),
    Conninfo = postgres:conninfo(Pg) ++ " dbname=" ++ Name,
    Env = [{"LLM_ROUTER_DATABASE_URL", Conninfo}],
    ?assertMatch({0, _, _}, postgres:migrate(Pg, Env)),
    with_router(Config, #{}, #{env => Env}, fun(_) ->
        [begin
             Id = postgres:uuid(),
             postgres:enqueue(Other, #{request_id => Id,
                                       operation => call_with_prompt,
                                       prompt => Language}),
             Result = postgres:await_result(Other, Id),
             ?assertMatch(#{<<"status">> := Status, <<"response">> := Text},
                          Result),
             ct:log("~tp", [Result])
         end || {Language, Status, Text} <- Expected],
        ?assertEqual(0, postgres:depth(Other))
    end),
    postgres:close(Other).

pgmq_file() ->
    string:trim(os:cmd(filename:join([router:project(), "scripts", "pgmq"]))).

%% By a rule that somebody made: the others of the same statement are stored. A
%% result that a table refuses is sent all the same, one that the results queue
%% refuses becomes a failure.
a_result_that_is_refused_holds_no_other_up(Config) ->
    Pg = pg(Config),
    set(Config, fun(#{body := Body}) ->
                        Text = case is_queued(Body) of
                                   true -> <<"allowed">>;
                                   false -> <<"forbidden">>
                               end,
                        [{sleep, 200} | scripted_provider:answer(Text)]
                end),
    #{<<"status">> := <<"success">>, <<"response">> := <<"forbidden">>} =
        refused_by(Config, "ai_results", "response"),
    ?assertEqual(10, postgres:value(Pg, "SELECT count(*) FROM ai_results")),
    #{<<"status">> := <<"failed">>,
      <<"error">> := #{<<"code">> := <<"invalid_output">>}} =
        refused_by(Config, "pgmq.q_ai_results", "message->>'response'"),
    ?assertEqual(22, length(scripted_provider:requests(bed:provider(Config)))).

refused_by(Config, Table, Text) ->
    Pg = pg(Config),
    Id = postgres:uuid(),
    [] = postgres:query(Pg, ["ALTER TABLE ", Table, " ADD CONSTRAINT rule"
                             " CHECK ((", Text, ") <> 'forbidden') NOT VALID"]),
    try
        with_router(Config, #{}, fun(_) ->
            Before = ask(Config, 5),
            postgres:enqueue(Pg, #{request_id => Id,
                                   operation => call_with_prompt,
                                   prompt => <<"say it">>}),
            Behind = ask(Config, 5),
            await_empty(Config),
            [?assertMatch(#{<<"status">> := <<"success">>},
                          postgres:result(Pg, I)) || I <- Before ++ Behind]
        end)
    after
        postgres:query(Pg, ["ALTER TABLE ", Table, " DROP CONSTRAINT rule"])
    end,
    postgres:result(Pg, Id).

%% ---------------------------------------------------------------- storing

answers_wait_for_a_results_queue_that_is_missing(Config) ->
    with_router(Config, #{}, fun(Up) ->
        Ids = without_results_queue(Config, fun() ->
            waits_to_be_stored(Config, Up)
        end),
        are_answered_by_one_call_each(Config, Ids)
    end).

without_results_queue(Config, Fun) ->
    Pg = pg(Config),
    [] = postgres:query(Pg, "ALTER TABLE pgmq.q_ai_results RENAME TO away"),
    Ids = ask(Config, 5),
    try
        Fun()
    after
        postgres:query(Pg, "ALTER TABLE pgmq.away RENAME TO q_ai_results")
    end,
    Ids.

%% It is paid for, and whoever read the message is not done yet.
an_answer_that_waits_is_stored_whoever_has_its_message(Config) ->
    with_router(Config, #{}, fun(Up) ->
        Ids = without_results_queue(Config, fun() ->
            await_unstored(Up, 5),
            [[_]] = postgres:query(pg(Config),
                                   "BEGIN;"
                                   "UPDATE pgmq.q_ai_requests SET vt = now();"
                                   "SELECT count(*) FROM"
                                   " pgmq.read('ai_requests', 60, 5); COMMIT"),
            timer:sleep(?VT_MS div 2)
        end),
        are_answered_by_one_call_each(Config, Ids),
        ?assertEqual(0, queue_stat(Up, lost))
    end).

%% Said once, although it is tried each second; in the queue meanwhile.
waits_to_be_stored(Config, Up) ->
    await_asked(Config, 5),
    await_unstored(Up, 5),
    timer:sleep(2500),
    ?assertEqual(5, queue_stat(Up, in_flight)),
    ?assertEqual(5, postgres:depth(pg(Config))),
    ?assertEqual(0, postgres:value(pg(Config), "SELECT count(*)"
                                   " FROM pgmq.q_ai_requests"
                                   " WHERE vt < now()")),
    ?assertEqual(1, log_lines(Up, <<"results cannot be stored">>)).

answers_wait_for_a_permission(Config) ->
    Pg = pg(Config),
    [postgres:query(Pg, Sql)
     || Sql <- ["CREATE ROLE consumer",
                "GRANT USAGE ON SCHEMA pgmq, public TO consumer",
                "GRANT SELECT, INSERT, UPDATE, DELETE"
                " ON ALL TABLES IN SCHEMA pgmq, public TO consumer",
                "GRANT USAGE ON ALL SEQUENCES IN SCHEMA pgmq TO consumer",
                "REVOKE INSERT ON pgmq.q_ai_results FROM consumer"]],
    Conninfo = postgres:conninfo(Pg) ++ " options=-crole=consumer",
    Env = [{"LLM_ROUTER_DATABASE_URL", Conninfo}],
    with_router(Config, #{}, #{env => Env}, fun(Up) ->
        Ids = ask(Config, 5),
        waits_to_be_stored(Config, Up),
        postgres:query(Pg, "GRANT INSERT ON pgmq.q_ai_results TO consumer"),
        are_answered_by_one_call_each(Config, Ids)
    end).

tables_that_are_missing_or_read_only_are_done_without(Config) ->
    Pg = pg(Config),
    with_router(Config, #{}, fun(Up) ->
        without_tables(Config, Up, "ALTER TABLE ai_results RENAME TO away",
                       "ALTER TABLE away RENAME TO ai_results"),
        without_tables(Config, Up,
                       "ALTER TABLE job_results RENAME TO away;"
                       "ALTER TABLE llm_metrics RENAME COLUMN tokens TO t",
                       "ALTER TABLE away RENAME TO job_results;"
                       "ALTER TABLE llm_metrics RENAME COLUMN t TO tokens")
    end),
    postgres:query(Pg, "CREATE ROLE reader_only;"
                   "GRANT ALL ON SCHEMA pgmq TO reader_only;"
                   "GRANT ALL ON ALL TABLES IN SCHEMA pgmq TO reader_only;"
                   "GRANT ALL ON ALL SEQUENCES IN SCHEMA pgmq TO reader_only;"
                   "GRANT SELECT ON ai_results, job_results, llm_metrics"
                   " TO reader_only"),
    Conninfo = postgres:conninfo(Pg) ++ " options=-crole=reader_only",
    Env = [{"LLM_ROUTER_DATABASE_URL", Conninfo}],
    with_router(Config, #{}, #{env => Env}, fun(Up) ->
        [Id] = ask(Config, 1),
        #{<<"status">> := <<"success">>} = postgres:await_result(Pg, Id),
        ?assertEqual(1, log_lines(Up, <<"llm_router --migrate may help">>)),
        ?assertEqual(0, postgres:value(Pg, ["SELECT count(*) FROM ai_results"
                                            " WHERE request_id = ",
                                            postgres:quote(Id)]))
    end).

%% They go while the router uses them.
without_tables(Config, Up, Away, Back) ->
    Pg = pg(Config),
    postgres:query(Pg, Away),
    try
        Before = asked(Config),
        Ids = ask(Config, 3),
        [?assertMatch(#{<<"status">> := <<"success">>},
                      postgres:await_result(Pg, Id)) || Id <- Ids],
        ?assertEqual(Before + 3, asked(Config)),
        ?assertEqual(up, queue_stat(Up, state))
    after
        postgres:query(Pg, Back)
    end.

a_requests_queue_that_is_made_anew_is_read_again(Config) ->
    Pg = pg(Config),
    with_router(Config, #{}, fun(Up) ->
        _ = postgres:query(Pg, "SELECT pgmq.drop_queue('ai_requests')"),
        bed:eventually(fun() -> queue_stat(Up, state) =:= down end),
        Said = fun() -> log_lines(Up, <<"the queue cannot be read">>) end,
        bed:eventually(fun() -> Said() > 0 end),
        timer:sleep(500),
        ?assertEqual(1, Said()),
        _ = postgres:query(Pg, "SELECT pgmq.create('ai_requests')"),
        are_answered_by_one_call_each(Config, ask(Config, 3))
    end),
    ?assertMatch({0, _, _}, postgres:migrate(Pg, [])).

%% A database may have this as its default: then statements of two routers
%% refuse each other now and then.
serializable_transactions_are_tried_again(Config) ->
    Conninfo = postgres:conninfo(pg(Config))
        ++ " options=-cdefault_transaction_isolation=serializable",
    Opts = #{env => [{"LLM_ROUTER_DATABASE_URL", Conninfo}]},
    with_router(Config, #{in_flight => 8}, Opts, fun(_) ->
        with_router(Config, #{in_flight => 8}, Opts, fun(_) ->
            are_answered_by_one_call_each(Config, ask(Config, 200))
        end)
    end).

no_more_is_taken_than_can_be_stored(Config) ->
    with_router(Config, #{in_flight => 4}, fun(Up) ->
        All = while_nothing_is_stored(Config, Up),
        are_answered_by_one_call_each(Config, All)
    end).

while_nothing_is_stored(Config, Up) ->
    Self = self(),
    while_results_are_locked(Config, fun() ->
        Ids = ask(Config, 20),
        await_asked(Config, 4),
        await_unstored(Up, 4),
        timer:sleep(500),
        ?assertEqual(4, asked(Config)),
        Self ! {ids, Ids}
    end),
    receive {ids, Ids} -> Ids end.

%% ---------------------------------------------------------------- several

two_routers_answer_each_request_once(Config) ->
    with_router(Config, #{in_flight => 16}, fun(A) ->
        with_router(Config, #{in_flight => 16}, fun(B) ->
            set(Config, answers_after(20)),
            are_answered_by_one_call_each(Config, ask(Config, 300)),
            ?assertEqual(300, queue_stat(A, done) + queue_stat(B, done)),
            [?assert(queue_stat(Up, done) > 0) || Up <- [A, B]]
        end)
    end).

%% Nothing is compared with the clock of the database, neither by a router that
%% is an hour ahead nor by one that is behind.
a_clock_that_is_wrong_changes_nothing(Config) ->
    [with_router(Config, #{}, fake_clock(Config, Offset), fun(Up) ->
         postgres:clear(pg(Config)),
         set(Config, answers_after(?VT_MS + 500)),
         Ids = ask(Config, 3),
         are_answered_by_one_call_each(Config, Ids),
         ?assert(queue_stat(Up, lag_ms) < 60000),
         was_moved(Config, hd(Ids), Offset)
     end) || Offset <- ["+3600", "-3600"]].

fake_clock(Config, Offset) ->
    Library = case filelib:wildcard("/usr/lib/*/faketime/libfaketime.so.1") of
                  [Found | _] -> Found;
                  [] -> throw({skip, "no libfaketime here"})
              end,
    Script = "ulimit -c 0; export LD_PRELOAD=" ++ Library ++ "; exec \"$@\"",
    Opts = #{wrapper => ["/bin/sh", "-c", Script, "sh"],
             env => [{"FAKETIME", Offset ++ "s"}, {"DONT_FAKE_MONOTONIC", "1"}
                     | env(Config)]},
    case router:run(Opts#{dir => proplists:get_value(priv_dir, Config),
                          args => ["--version"]}) of
        {0, _, <<>>} -> Opts;
        Other -> throw({skip, {"cannot preload", Library, Other}})
    end.

%% The time in the result is the router's own.
was_moved(Config, Id, Offset) ->
    Ahead = postgres:value(
              pg(Config),
              ["SELECT round(extract(epoch FROM (message->>'timestamp')"
               "::timestamptz - now()))::integer FROM pgmq.q_ai_results"
               " WHERE message->>'request_id' = ", postgres:quote(Id)]),
    ?assert(abs(Ahead - list_to_integer(Offset)) < 60).

%% ------------------------------------------------------------------ chance

setting(Name, Default) ->
    list_to_integer(os:getenv("LLM_ROUTER_QUEUE_" ++ Name,
                              integer_to_list(Default))).

%% Two routers answer requests that become visible one after the other, while a
%% router, a backend of one, or the postmaster is killed at moments left to
%% chance. The provider is asked again only for what was read again, and that is
%% what was under way in a router that was killed.
every_request_has_one_result_whatever_is_killed(Config) ->
    Pg = pg(Config),
    {Kills, Jobs} = {setting("KILLS", 30), setting("JOBS", 500)},
    Seed = setting("SEED", erlang:phash2(make_ref())),
    ct_report:print("     ~b requests, ~b kills, seed ~b", [Jobs, Kills, Seed]),
    _ = rand:seed(exsss, Seed),
    set(Config, fun(_) ->
                        [{sleep, 19 + rand:uniform(81)}
                         | scripted_provider:answer(<<"Yes.">>)]
                end),
    Opts = opts(Config, #{in_flight => ?IN_FLIGHT, max_reads => 100}, #{}),
    Start = fun(Node) -> bed:run_router(Config, Node, Opts) end,
    Routers = [Start(bed:node_name(router)) || _ <- [1, 2]],
    Ids = ask(Config, Jobs),
    spread(Pg, Kills),
    {Last, Events} = kill(Pg, Kills, Start, Routers, #{}),
    Waited = bed:eventually(
               fun() -> again(fun() -> postgres:depth(Pg) end) =:= 0 end, 60000),
    Again = again(fun() -> postgres:value(Pg, "SELECT sum(read_ct - 1)"
                                          " FROM pgmq.a_ai_requests") end),
    ct_report:print("     ~b calls, ~b readings more than requests, the last"
                    " result ~b ms after the last kill; killed: ~0tp",
                    [asked(Config), Again, Waited, Events]),
    again(fun() -> are_answered_once(Config, Ids) end),
    ?assert(asked(Config) =< Jobs + Again),
    ?assert(asked(Config) =< Jobs + ?IN_FLIGHT * maps:get(router, Events, 0)),
    [?assertEqual({exited, 0}, router:stop(Router)) || Router <- Last].

%% They become visible as long as it is killed.
spread(Pg, Kills) ->
    postgres:query(Pg, ["UPDATE pgmq.q_ai_requests SET vt = now() + random()"
                        " * interval '", integer_to_list(Kills * 6 div 10),
                        " seconds'"]).

%% What is only read is read again if the server went away under it: the end of
%% one backend is noticed a moment later, and ends all.
again(Read) ->
    try
        Read()
    catch
        error:{psql, _} -> again(Read)
    end.

kill(_Pg, 0, _Start, Routers, Events) ->
    {Routers, Events};
kill(Pg, Kills, Start, [Router, Other], Events) ->
    timer:sleep(rand:uniform(1000)),
    What = lists:nth(rand:uniform(3), [router, backend, postmaster]),
    Next = kill(What, Pg, Start, Router),
    kill(Pg, Kills - 1, Start,
         lists:nth(rand:uniform(2), [[Next, Other], [Other, Next]]),
         maps:update_with(What, fun(N) -> N + 1 end, 1, Events)).

kill(router, _Pg, Start, Router) ->
    router:kill(Router),
    Start(router:node(Router));
kill(backend, Pg, _Start, Router) ->
    Backends = again(fun() -> lists:append([postgres:backends(Pg, Name)
                                            || Name <- names()]) end),
    [postgres:signal(lists:nth(rand:uniform(length(Backends)), Backends),
                     "KILL") || Backends =/= []],
    Router;
kill(postmaster, Pg, _Start, Router) ->
    postgres:signal(postgres:pid(Pg), "KILL"),
    postgres:up(Pg),
    Router.
