%% The queue as callers on the BEAM see it: enqueue, await, result, cancel, and
%% notices. What producers with SQL see is in queue_SUITE.
-module(queue_beam_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(SERVER_MODULE, 'Elixir.LLMRouter.Server').
-define(WAIT_MS, 20000).
-define(PRD, <<"# Login\nUsers must sign in.\n# Posts\nUsers may write.\n">>).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [every_way_of_calling_can_enqueue_and_await,
     what_is_awaited_is_what_a_synchronous_call_gives,
     an_operation_keeps_its_options,
     a_script_is_run_from_the_queue,
     watchers_hear_of_the_queue,
     text_may_be_written_in_all_its_ways,
     what_is_enqueued_is_an_ordinary_message,
     an_id_of_the_callers_own_is_asked_once,
     a_delay_hides_the_message,
     wrong_operations_are_refused_at_once,
     wrong_options_and_ids_are_refused,
     what_is_too_large_is_refused_at_once,
     many_callers_enqueue_and_await_at_once,
     without_a_queue_there_is_none,
     without_a_database_it_cannot_be_reached,
     who_may_not_call_may_not_enqueue,
     %% await and result
     a_result_is_pending_until_it_is_stored,
     an_await_may_come_before_and_after,
     another_router_answers_an_await,
     an_await_ends_after_its_time,
     two_callers_may_wait_for_one_id,
     who_dies_waiting_is_forgotten,
     a_failure_is_awaited_too,
     an_answer_that_somebody_else_wrote_is_checked,
     draining_ends_an_await,
     draining_waits_for_what_is_being_enqueued,
     a_draining_router_takes_nothing_new,
     a_request_under_way_can_be_cancelled,
     what_was_enqueued_outlives_the_router,
     %% notices
     a_registered_process_gets_a_notice,
     a_notice_connects_to_its_node,
     a_notice_to_nobody_harms_nobody,
     who_may_not_call_gets_no_notice,
     %% figures
     stats_tell_what_happens,
     the_documented_example_runs].

init_per_suite(Config) ->
    queue_bed:up(Config, #{callers => 2}).

end_per_suite(Config) ->
    queue_bed:down(Config).

with(Config, Test) ->
    with(Config, #{}, Test).

with(Config, Keys, Test) ->
    queue_bed:with(Config, Keys, Test).

pg(Config) ->
    queue_bed:pg(Config).

op(Text) ->
    {call_with_prompt, simple, Text}.

enqueue(Up, Op) ->
    enqueue(Up, Op, #{}).

enqueue(Up, Op, Opts) ->
    {ok, Id} = bed:call(Up, {enqueue, Op, Opts}),
    Id.

await(Up, Id) ->
    bed:call(Up, {await, Id, ?WAIT_MS}).

%% Runs Fun in a process of the first caller's node, which sends what came of
%% it; ended/1 waits for that.
begin_on(Up, Fun) ->
    Test = self(),
    Ref = make_ref(),
    spawn_link(fun() -> Test ! {Ref, bed:on(bed:caller(Up), Fun)} end),
    Ref.

ended(Ref) ->
    receive {Ref, Result} -> Result after ?WAIT_MS -> error(not_ended) end.

awaiting(Up, Id) ->
    Server = {llm_router, bed:node(Up)},
    begin_on(Up, fun() ->
        gen_server:call(Server, {await, Id, ?WAIT_MS}, infinity)
    end).

%% ---------------------------------------------------------------- enqueue

every_way_of_calling_can_enqueue_and_await(Config) ->
    with(Config, fun(Up) ->
        Server = {llm_router, bed:node(Up)},
        bed:on(bed:caller(Up), fun() ->
            bed:eventually(fun() ->
                                   is_pid(global:whereis_name(llm_router))
                           end),
            [begin
                 {ok, Id} = by(Form, Server, {enqueue, op(<<"Hi">>)}),
                 {ok, #{text := <<"You wrote: Hi">>} = Response} =
                     by(Form, Server, {await, Id, ?WAIT_MS}),
                 {ok, Response} = by(Form, Server, {result, Id}),
                 {ok, _} = by(Form, Server, {enqueue, op(<<"Hi">>),
                                             #{agent_id => <<"a">>}})
             end || Form <- [call, global, request, rpc, rpc_short, erpc,
                             message, cast]],
            ok
        end)
    end).

by(call, Server, Op) -> gen_server:call(Server, Op, infinity);
by(global, _, Op) -> gen_server:call({global, llm_router}, Op, infinity);
by(request, Server, Op) ->
    {reply, Reply} = gen_server:receive_response(
                       gen_server:send_request(Server, Op), infinity),
    Reply;
by(rpc, {_, Node}, Op) ->
    [Function | Arguments] = tuple_to_list(Op),
    rpc:call(Node, ?SERVER_MODULE, Function, Arguments);
by(rpc_short, {_, Node}, Op) ->
    [Function | Arguments] = tuple_to_list(Op),
    rpc:call(Node, llm_router, Function, Arguments);
by(erpc, {_, Node}, Op) ->
    [Function | Arguments] = tuple_to_list(Op),
    erpc:call(Node, ?SERVER_MODULE, Function, Arguments);
by(message, Server, Op) ->
    response(fun(Message) -> Server ! Message end, Op);
by(cast, Server, Op) ->
    response(fun(Message) -> gen_server:cast(Server, Message) end, Op).

response(Send, Op) ->
    Ref = make_ref(),
    Send({llm_request, self(), Ref, Op}),
    receive {llm_response, Ref, Reply} -> Reply end.

what_is_awaited_is_what_a_synchronous_call_gives(Config) ->
    Task = #{<<"id">> => 7, <<"title">> => <<"Sign in">>, <<"own">> => [1.5]},
    Text = [#{role => user, content => <<"Hi">>}],
    Ops = [{generate_task, <<"A login">>}, {parse_prd, ?PRD, 3},
           {parse_prd, ?PRD, 0, #{return => full}},
           {expand_task, Task, #{num => 3}}, {expand_task, <<"Sign in">>},
           {analyze_complexity, [Task, <<"Posts">>]},
           {research, <<"Bees">>, <<"Honey">>}, {research, <<"Bees">>, nil},
           {embed, [<<"one">>, <<"two">>]}, {call, simple, Text},
           {call, <<"openai/mine">>, Text, #{metadata => #{a => [1, <<"b">>]}}},
           op(<<"Hi">>), {call_with_system, complex, <<"Be brief">>, <<"Hi">>},
           {route, #{messages => Text, complexity => complex}},
           {route_completion, #{<<"model">> => <<"openai/mine">>,
                                <<"messages">> => Text}}],
    with(Config, fun(Up) ->
        queue_bed:handle(Up, fun task_model:answer/1),
        [begin
             {ok, Value} = bed:call(Up, Op),
             ?assertEqual({Op, steady(Value)},
                          {Op, case await(Up, enqueue(Up, Op)) of
                                   {ok, Awaited} -> steady(Awaited);
                                   Error -> Error
                               end})
         end || Op <- Ops]
    end).

%% Without what differs from one asking to the next.
steady(#{} = Value) ->
    Steady = maps:without([duration_ms, request_id, metadata, tried], Value),
    case Steady of
        #{result := Result} -> Steady#{result := steady(Result)};
        _ -> Steady
    end;
steady(Value) ->
    Value.

an_operation_keeps_its_options(Config) ->
    Schema = #{type => object, required => [city],
               properties => #{city => #{type => string}}},
    with(Config, fun(Up) ->
        queue_bed:handle(Up, queue_bed:says(<<"{\"city\": \"Oslo\"}">>)),
        Opts = #{keys => strings, schema => Schema, temperature => 0.25,
                 metadata => #{<<"a">> => [1, null]}, model => <<"openai/m">>},
        Id = enqueue(Up, {call_with_prompt, simple, <<"Where?">>, Opts}),
        ?assertMatch({ok, #{<<"object">> := #{<<"city">> := <<"Oslo">>},
                            <<"model">> := <<"m">>, <<"request_id">> := Id,
                            <<"metadata">> := #{<<"a">> := [1, _]}}},
                     await(Up, Id)),
        ?assertMatch([#{json := #{<<"temperature">> := 0.25,
                                  <<"response_format">> := #{}}}],
                     scripted_provider:requests(bed:provider(Up)))
    end).

a_script_is_run_from_the_queue(Config) ->
    Folder = proplists:get_value(priv_dir, Config),
    Script = filename:join(Folder, "echo.lua"),
    ok = file:write_file(Script, "user(context.say)\n"),
    with(Config, #{"scripts.path" => list_to_atom(Folder)}, fun(Up) ->
        Op = {call_with_script, "echo.lua", #{say => <<"Hi">>}},
        ?assertMatch({ok, #{text := <<"You wrote: Hi">>,
                            script := <<"echo.lua">>}},
                     await(Up, enqueue(Up, Op))),
        scripted_provider:set_handler(bed:provider(Up), fun(Request) ->
            #{json := #{<<"temperature">> := 0.5}} = Request,
            scripted_provider:answer(<<"warm">>)
        end),
        Warm = {call_with_script, "echo.lua", #{say => <<"Hi">>},
                #{temperature => 0.5, metadata => <<"mine">>}},
        ?assertMatch({ok, #{text := <<"warm">>, metadata := <<"mine">>}},
                     await(Up, enqueue(Up, Warm))),
        Bad = {call_with_script, "nothere.lua", #{}},
        ?assertMatch({error, {script_error, #{message := _}}},
                     await(Up, enqueue(Up, Bad)))
    end).

watchers_hear_of_the_queue(Config) ->
    with(Config, fun(Up) ->
        Server = {llm_router, bed:node(Up)},
        bed:on(bed:caller(Up), fun() ->
            ok = gen_server:call(Server, {watch_task, <<"job">>}),
            ok = gen_server:call(Server, {subscribe, telemetry}),
            {call_with_prompt, simple, Text} = op(<<"Hi">>),
            Op = {call_with_prompt, simple, Text, #{task_id => <<"job">>}},
            {ok, _} = gen_server:call(Server, {enqueue, Op}),
            receive {task_completed, <<"job">>} -> ok end,
            receive {llm_router_telemetry, [_, _, stop], _,
                     #{mode := queue, caller_node := nil}} -> ok end
        end)
    end).

text_may_be_written_in_all_its_ways(Config) ->
    with(Config, fun(Up) ->
        [?assertMatch({ok, #{text := <<"You wrote: Grüße"/utf8>>}},
                      await(Up, enqueue(Up, op(Text))))
         || Text <- [<<"Grüße"/utf8>>, "Grüße", ["Gr", <<"üße"/utf8>>]]],
        Task = #{id => 3, title => "Sign in", status => pending},
        ?assertMatch({ok, #{<<"id">> := 3, <<"title">> := <<"Sign in">>,
                            <<"status">> := <<"pending">>,
                            <<"subtasks">> := [#{}, #{}]}},
                     await(Up, enqueue(Up, {expand_task, Task, #{num => 2}})))
    end).

what_is_enqueued_is_an_ordinary_message(Config) ->
    with(Config, #{"queue.in_flight" => 0}, fun(Up) ->
        Id = enqueue(Up, {parse_prd, ?PRD, 3, #{language => de}},
                     [{agent_id, "a-7"}, {notify, {sink, 'app@host'}}]),
        ?assertMatch({match, _}, re:run(Id, "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-"
                                        "[0-9a-f]{12}$")),
        ?assertMatch([#{<<"request_id">> := Id, <<"agent_id">> := <<"a-7">>,
                        <<"operation">> := <<"parse_prd">>,
                        <<"content">> := ?PRD, <<"num_tasks">> := 3,
                        <<"options">> := #{<<"language">> := <<"de">>},
                        <<"reply_to">> := #{<<"name">> := <<"sink">>,
                                            <<"node">> := <<"app@host">>},
                        <<"timestamp">> := <<"20", _/binary>>}],
                     postgres:messages(pg(Up), "ai_requests")),
        ?assertMatch(#{enqueued := 1, read := 0}, queue_bed:stats(Up))
    end).

an_id_of_the_callers_own_is_asked_once(Config) ->
    with(Config, fun(Up) ->
        Id = postgres:uuid(),
        Opts = #{request_id => string:uppercase(Id)},
        [?assertEqual(Id, enqueue(Up, op(<<"Hi">>), Opts)) || _ <- [1, 2]],
        ?assertMatch({ok, #{request_id := Id}}, await(Up, Id)),
        _ = queue_bed:all(Up, Id, 2),
        ?assertEqual(1, queue_bed:asked(Up))
    end).

a_delay_hides_the_message(Config) ->
    with(Config, fun(Up) ->
        Id = enqueue(Up, op(<<"Later">>), #{delay => 3600}),
        {ok, _} = await(Up, enqueue(Up, op(<<"Now">>))),
        ?assertEqual(pending, bed:call(Up, {result, Id})),
        ?assertMatch([[Hidden]] when Hidden =:= <<"t">>,
                     postgres:query(pg(Up), "SELECT vt > now() + '59 min'"
                                    " FROM pgmq.q_ai_requests"))
    end).

wrong_operations_are_refused_at_once(Config) ->
    with(Config, fun(Up) ->
        [?assertMatch({Op, {error, {Code, #{message := _, path := Path}}}},
                      {Op, bed:call(Up, {enqueue, Op})})
         || {Op, Code, Path} <-
                [{{parse_prd, ?PRD, 101}, invalid_request,
                  <<"operation.num_tasks">>},
                 {{call, simple, [#{role => user, content => self()}]},
                  invalid_request, <<"operation.messages[0].content">>},
                 {{call, simple, []}, invalid_request,
                  <<"operation.messages">>},
                 {{call_with_prompt, simple, <<"Hi">>, #{dance => 1}},
                  invalid_request, <<"operation.opts.dance">>},
                 {{call_with_prompt, simple, <<"Hi">>,
                   #{request_id => <<"1">>}},
                  invalid_request, <<"operation.opts.request_id">>},
                 {{call_with_prompt, simple, <<"Hi">>,
                   #{metadata => self()}},
                  invalid_request, <<"operation.opts.metadata">>},
                 {{generate_task, <<255>>}, invalid_request,
                  <<"operation.prompt">>},
                 {ping, invalid_request, <<"operation">>},
                 {{stream, simple, [#{role => user, content => <<"Hi">>}]},
                  invalid_request, <<"operation">>},
                 {{enqueue, op(<<"Hi">>)}, invalid_request, <<"operation">>},
                 {{dance, 1}, unknown_request, <<"operation">>},
                 {17, unknown_request, <<"operation">>}]],
        ?assertEqual(0, postgres:depth(pg(Up)) + postgres:archived(pg(Up)))
    end).

wrong_options_and_ids_are_refused(Config) ->
    with(Config, fun(Up) ->
        [?assertMatch({Call, {error, {invalid_request, #{path := Path}}}},
                      {Call, bed:call(Up, Call)})
         || {Call, Path} <-
                [{{enqueue, op(<<"Hi">>), #{Key => Value}},
                  <<"opts.", (atom_to_binary(Key))/binary>>}
                 || {Key, Value} <- [{request_id, <<"17">>}, {request_id, 17},
                                     {delay, -1}, {delay, 86400 * 30 + 1},
                                     {delay, soon}, {notify, me},
                                     {agent_id, 5},
                                     {dance, 1}]]
                ++ [{{await, <<"17">>, 5}, <<"request_id">>},
                    {{enqueue, op(<<"Hi">>), #{notify => {me, nonode}}},
                     <<"opts.notify.node">>},
                    {{await, 17, 5}, <<"request_id">>},
                    {{await, postgres:uuid(), -1}, <<"timeout">>},
                    {{await, postgres:uuid(), soon}, <<"timeout">>},
                    {{result, <<"17">>}, <<"request_id">>}]],
        ?assertEqual(0, postgres:depth(pg(Up)) + postgres:archived(pg(Up)))
    end).

what_is_too_large_is_refused_at_once(Config) ->
    with(Config, #{"queue.message_bytes" => 4096}, fun(Up) ->
        ?assertMatch({error, {too_large, _}},
                     bed:call(Up, {enqueue, op(binary:copy(<<"x">>, 5000))})),
        ?assertMatch({ok, _}, await(Up, enqueue(Up, op(<<"Hi">>))))
    end).

many_callers_enqueue_and_await_at_once(Config) ->
    with(Config, fun(Up) ->
        Server = {llm_router, bed:node(Up)},
        Answers = bed:on(bed:caller(Up), fun() ->
            Self = self(),
            Ask = fun(Text) ->
                      {ok, Id} = gen_server:call(Server, {enqueue, op(Text)},
                                                 infinity),
                      Self ! {self(), gen_server:call(
                                        Server, {await, Id, ?WAIT_MS},
                                        infinity)}
                  end,
            Texts = [integer_to_binary(N) || N <- lists:seq(1, 300)],
            Pids = [{spawn(fun() -> Ask(Text) end), Text} || Text <- Texts],
            [receive {Pid, Answer} -> {Text, Answer} end
             || {Pid, Text} <- Pids]
        end),
        [?assertMatch({Text, {ok, #{text := <<"You wrote: ", Text/binary>>}}},
                      {Text, Answer}) || {Text, Answer} <- Answers]
    end).

without_a_queue_there_is_none(Config) ->
    queue_bed:with_env(Config, [], fun(Up) ->
        [?assertMatch({error, {unknown_request, #{message := _}}},
                      bed:call(Up, Call))
         || Call <- [{enqueue, op(<<"Hi">>)}, {await, postgres:uuid(), 100},
                     {result, postgres:uuid()}]]
    end).

without_a_database_it_cannot_be_reached(Config) ->
    Nowhere = [{"LLM_ROUTER_DATABASE_URL", "host=/nowhere dbname=x"}],
    queue_bed:with_env(Config, Nowhere, fun(Up) ->
        [?assertMatch({error, {unreachable, #{message := _}}},
                      bed:call(Up, Call))
         || Call <- [{enqueue, op(<<"Hi">>)}, {result, postgres:uuid()}]],
        ?assertMatch({error, {timeout, _}},
                     bed:call(Up, {await, postgres:uuid(), 100}))
    end).

who_may_not_call_may_not_enqueue(Config) ->
    with(Config, #{"allow.call" => 'friend@*'}, fun(Up) ->
        [?assertMatch({error, {forbidden, _}}, bed:call(Up, Call))
         || Call <- [{enqueue, op(<<"Hi">>)}, {await, postgres:uuid(), 100},
                     {result, postgres:uuid()}]]
    end).

%% ------------------------------------------------------- await and result

a_result_is_pending_until_it_is_stored(Config) ->
    with(Config, fun(Up) ->
        queue_bed:handle(Up, queue_bed:gate()),
        Id = enqueue(Up, op(<<"Hi">>)),
        Question = queue_bed:gated(1),
        ?assertEqual(pending, bed:call(Up, {result, Id})),
        queue_bed:open(Question),
        {ok, _} = Answer = await(Up, Id),
        ?assertEqual(Answer, bed:call(Up, {result, Id})),
        ?assertEqual(Answer, bed:call(Up, {result, string:uppercase(Id)})),
        ?assertEqual(pending, bed:call(Up, {result, postgres:uuid()}))
    end).

an_await_may_come_before_and_after(Config) ->
    Never = #{"queue.poll_ms" => 3600000, "queue.max_poll_ms" => 3600000},
    with(Config, Never, fun(Up) ->
        Id = postgres:uuid(),
        Early = awaiting(Up, Id),
        queue_bed:await_stats(Up, awaited, 1),
        Id = enqueue(Up, op(<<"Hi">>), #{request_id => Id}),
        {ok, #{text := <<"You wrote: Hi">>}} = Answer = ended(Early),
        ?assertEqual(Answer, await(Up, Id)),
        ?assertMatch(#{awaited := 0}, queue_bed:stats(Up))
    end).

%% One that takes nothing itself, asked before and after.
another_router_answers_an_await(Config) ->
    Never = #{"queue.max_poll_ms" => 3600000},
    with(Config, Never, fun(Up) ->
        queue_bed:with_other(Up, Never#{"queue.in_flight" => 0}, fun(Other) ->
            Call = fun(Op) ->
                           fun() -> gen_server:call({llm_router, Other}, Op,
                                                    infinity)
                           end
                   end,
            queue_bed:handle(Up, queue_bed:gate()),
            {ok, Id} = bed:on(bed:caller(Up), Call({enqueue, op(<<"Hi">>)})),
            Question = queue_bed:gated(1),
            Early = begin_on(Up, Call({await, Id, ?WAIT_MS})),
            queue_bed:await_stats(Up, Other, awaited, 1),
            queue_bed:open(Question),
            {ok, #{text := <<"You wrote: Hi">>}} = Answer = ended(Early),
            [?assertEqual(Answer, bed:on(bed:caller(Up), Call(Op)))
             || Op <- [{await, Id, ?WAIT_MS}, {result, Id}]]
        end)
    end).

an_await_ends_after_its_time(Config) ->
    with(Config, fun(Up) ->
        queue_bed:handle(Up, queue_bed:gate()),
        Id = enqueue(Up, op(<<"Hi">>)),
        Question = queue_bed:gated(1),
        ?assertMatch({error, {timeout, #{message := _}}},
                     bed:call(Up, {await, Id, 100})),
        queue_bed:open(Question),
        ?assertMatch({ok, _}, await(Up, Id)),
        ?assertMatch({ok, _}, bed:call(Up, {await, Id, infinity}))
    end).

two_callers_may_wait_for_one_id(Config) ->
    with(Config, fun(Up) ->
        Id = postgres:uuid(),
        Waiting = [awaiting(Up, Id) || _ <- lists:seq(1, 5)],
        queue_bed:await_stats(Up, awaited, 5),
        Id = enqueue(Up, op(<<"Hi">>), #{request_id => Id}),
        [{ok, _} = Answer | More] = [ended(Ref) || Ref <- Waiting],
        ?assertEqual(lists:duplicate(4, Answer), More)
    end).

who_dies_waiting_is_forgotten(Config) ->
    with(Config, fun(Up) ->
        Node = bed:node(Up),
        Id = postgres:uuid(),
        Ways = [fun() -> gen_server:call({llm_router, Node},
                                         {await, Id, infinity}, infinity) end,
                fun() -> erpc:call(Node, llm_router, await, [Id, 60000]) end,
                fun() ->
                        {llm_router, Node} ! {llm_request, self(), make_ref(),
                                              {await, Id, 60000}},
                        timer:sleep(infinity)
                end],
        [begin
             Pid = bed:on(bed:caller(Up), fun() -> spawn(Way) end),
             queue_bed:await_stats(Up, awaited, 1),
             true = bed:on(bed:caller(Up), fun() -> exit(Pid, kill) end),
             queue_bed:await_stats(Up, awaited, 0)
         end || Way <- Ways]
    end).

a_failure_is_awaited_too(Config) ->
    with(Config, fun(Up) ->
        queue_bed:handle(Up, queue_bed:fails(400)),
        Id = enqueue(Up, op(<<"Hi">>)),
        {error, {invalid_request, #{message := _}}} = Error = await(Up, Id),
        ?assertEqual(Error, bed:call(Up, {result, Id}))
    end).

%% The table may be written by other programs: what they leave must not cost
%% the caller's node its connection.
an_answer_that_somebody_else_wrote_is_checked(Config) ->
    with(Config, fun(Up) ->
        [begin
             Id = postgres:uuid(),
             Hex = binary:encode_hex(Answer),
             [] = postgres:query(
                    pg(Up), ["INSERT INTO ai_results (request_id, answer) "
                             "VALUES ('", Id, "', '\\x", Hex, "')"]),
             ?assertMatch({Answer, {error, {bad_response, _}}},
                          {Answer, bed:call(Up, {result, Id})}),
             ?assertMatch({error, {bad_response, _}}, await(Up, Id))
         end || Answer <- [<<>>, <<131>>, <<"text">>, term_to_binary(17),
                           term_to_binary({ok, 1, 2}),
                           binary:part(term_to_binary({ok, <<"cut">>}), 0, 9),
                           <<131, 104, 255>>]],
        Good = postgres:uuid(),
        Hex = binary:encode_hex(term_to_binary({ok, [1.5, <<"x">>]})),
        [] = postgres:query(
               pg(Up), ["INSERT INTO ai_results (request_id, answer) "
                        "VALUES ('", Good, "', '\\x", Hex, "')"]),
        ?assertEqual({ok, [1.5, <<"x">>]}, bed:call(Up, {result, Good}))
    end).

draining_ends_an_await(Config) ->
    with(Config, fun(Up) ->
        Waiting = awaiting(Up, postgres:uuid()),
        queue_bed:await_stats(Up, awaited, 1),
        ok = bed:call(Up, drain),
        ?assertMatch({error, {shutting_down, _}}, ended(Waiting)),
        ?assertEqual({exited, 0}, router:await_exit(bed:router(Up), ?WAIT_MS))
    end).

%% What is under way is answered and stored.
a_draining_router_takes_nothing_new(Config) ->
    with(Config, fun(Up) ->
        queue_bed:handle(Up, queue_bed:gate()),
        Id = enqueue(Up, op(<<"Hi">>)),
        Question = queue_bed:gated(1),
        ok = bed:call(Up, drain),
        bed:eventually(fun() -> is_nobodys_name(Up) end),
        [?assertMatch({error, {shutting_down, _}}, bed:call(Up, Call))
         || Call <- [{enqueue, op(<<"Hi">>)}, {await, Id, 100}, {result, Id}]],
        Later = queue_bed:ask(Up, queue_bed:chat(<<"Later">>)),
        queue_bed:open(Question),
        ?assertEqual({exited, 0}, router:await_exit(bed:router(Up), ?WAIT_MS)),
        ?assertMatch(#{<<"status">> := <<"success">>}, queue_bed:await(Up, Id)),
        ?assertEqual({none, 1}, {postgres:result(pg(Up), Later),
                                 postgres:depth(pg(Up))})
    end).

%% Calls are taken until it is found that no other router could have the name.
is_nobodys_name(Config) ->
    bed:on(bed:caller(Config), fun() -> global:whereis_name(llm_router) end)
        =:= undefined.

draining_waits_for_what_is_being_enqueued(Config) ->
    with(Config, #{"queue.in_flight" => 0}, fun(Up) ->
        Locked = postgres:connect(pg(Up)),
        [] = postgres:query(Locked, "BEGIN"),
        [] = postgres:query(Locked, "LOCK TABLE pgmq.q_ai_requests"),
        Server = {llm_router, bed:node(Up)},
        Asking = begin_on(Up, fun() ->
            gen_server:call(Server, {enqueue, op(<<"Hi">>)}, infinity)
        end),
        bed:eventually(fun() -> 1 =:= postgres:value(
            pg(Up), "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'llm_router clients'"
            " AND wait_event_type = 'Lock'")
        end),
        ok = bed:call(Up, drain),
        timer:sleep(500), %% one that does not wait is gone by now
        [] = postgres:query(Locked, "COMMIT"),
        ?assertMatch({ok, _}, ended(Asking)),
        ?assertEqual({exited, 0}, router:await_exit(bed:router(Up), ?WAIT_MS)),
        ?assertEqual(1, postgres:depth(pg(Up))),
        postgres:close(Locked)
    end).

a_request_under_way_can_be_cancelled(Config) ->
    with(Config, fun(Up) ->
        queue_bed:handle(Up, fun(_) -> [hang] end),
        Id = enqueue(Up, op(<<"Hi">>)),
        _ = scripted_provider:await_requests(bed:provider(Up), 1),
        ?assertEqual(true, bed:call(Up, {cancel, Id})),
        ?assertMatch({error, {cancelled, _}}, await(Up, Id)),
        ?assertMatch(#{<<"status">> := <<"failed">>,
                       <<"error">> := #{<<"code">> := <<"cancelled">>}},
                     queue_bed:await(Up, Id)),
        _ = scripted_provider:await_aborted(bed:provider(Up), 1),
        ?assertEqual({[], 0}, {postgres:dead(pg(Up)), postgres:depth(pg(Up))}),
        ?assertEqual(false, bed:call(Up, {cancel, Id}))
    end).

%% kill -9 as soon as they are taken.
what_was_enqueued_outlives_the_router(Config) ->
    queue_bed:clear(Config),
    Keys = #{"visibility.timeout" => 3, "queue.max_poll_ms" => 200,
             "queue.poll_ms" => 100},
    First = queue_bed:start(Config, Keys),
    queue_bed:handle(First, fun(_) -> [hang] end),
    Ids = [enqueue(First, op(<<"Hi">>)) || _ <- lists:seq(1, 20)],
    ok = bed:kill_router(First),
    queue_bed:handle(Config, fun scripted_model:from_document/1),
    Up = queue_bed:start(Config, Keys),
    try
        [?assertMatch({ok, #{text := <<"You wrote: Hi">>, request_id := Id}},
                      await(Up, Id)) || Id <- Ids],
        ?assertEqual(20, length(postgres:results(pg(Up))))
    after
        queue_bed:stop(Up)
    end.

%% ---------------------------------------------------------------- notices

%% A process with a name that keeps what it gets.
sink(Caller, Name) ->
    true = bed:on(Caller, fun() ->
        register(Name, spawn(fun() -> keep([]) end))
    end).

keep(Kept) ->
    receive
        {kept, From} -> From ! {self(), Kept}, keep(Kept);
        Message -> keep(Kept ++ [Message])
    end.

%% What it got, when that is so much; it ends.
sunk(Caller, Name, Count) ->
    bed:on(Caller, fun() ->
        Pid = whereis(Name),
        bed:eventually(fun() -> length(kept(Pid)) >= Count end),
        Kept = kept(Pid),
        unregister(Name),
        exit(Pid, kill),
        Kept
    end).

kept(Pid) ->
    Pid ! {kept, self()},
    receive {Pid, Kept} -> Kept end.

a_registered_process_gets_a_notice(Config) ->
    with(Config, fun(Up) ->
        Node = maps:get(node, bed:caller(Up)),
        sink(bed:caller(Up), results),
        Good = enqueue(Up, op(<<"Hi">>), #{notify => {results, Node}}),
        {ok, _} = Answer = await(Up, Good),
        Bad = queue_bed:ask(Up, queue_bed:chat(
                                  <<"Hi">>,
                                  #{complexity => huge,
                                    reply_to => #{name => results,
                                                  node => Node}})),
        ?assertMatch([{llm_result, Good, Answer},
                      {llm_result, Bad, {error, {invalid_request,
                                                 #{path :=
                                                       <<"complexity">>}}}}],
                     sunk(bed:caller(Up), results, 2))
    end).

%% Nobody has asked the router anything.
a_notice_connects_to_its_node(Config) ->
    queue_bed:clear(Config),
    Caller = #{node := Node} = bed:caller(Config),
    sink(Caller, results),
    Up = queue_bed:start_with(Config, #{env => queue_bed:env(Config, #{})}),
    try
        ?assertNot(lists:member(bed:node(Up),
                                bed:on(Caller, fun() -> nodes(hidden) end))),
        Id = queue_bed:ask(Up, queue_bed:chat(<<"Hi">>,
                                              #{reply_to => [results, Node]})),
        ?assertMatch([{llm_result, Id, {ok, #{text := <<"You wrote: Hi">>}}}],
                     sunk(Caller, results, 1))
    after
        queue_bed:stop(Up)
    end.

a_notice_to_nobody_harms_nobody(Config) ->
    with(Config, fun(Up) ->
        Node = maps:get(node, bed:caller(Up)),
        [?assertMatch({ok, _},
                      await(Up, enqueue(Up, op(<<"Hi">>),
                                        #{notify => {nobody, To}})))
         || To <- [Node, bed:node(Up), 'nobody@nowhere', 'nobody@127.0.0.1']],
        ?assertEqual([], postgres:dead(pg(Up)))
    end).

who_may_not_call_gets_no_notice(Config) ->
    with(Config, #{"allow.call" => 'friend@*', "allow.admin" => '*'}, fun(Up) ->
        Node = maps:get(node, bed:caller(Up)),
        sink(bed:caller(Up), results),
        Id = queue_bed:ask(Up, queue_bed:chat(<<"Hi">>,
                                              #{reply_to => [results, Node]})),
        ?assertMatch(#{<<"status">> := <<"success">>}, queue_bed:await(Up, Id)),
        queue_bed:await_stats(Up, in_flight, 0),
        ?assertMatch(#{notices := 0, done := 1}, queue_bed:stats(Up)),
        ?assertEqual([], sunk(bed:caller(Up), results, 0))
    end).

%% ---------------------------------------------------------------- figures

stats_tell_what_happens(Config) ->
    queue_bed:clear(Config),
    [queue_bed:ask(Config, queue_bed:chat(<<"Hi">>)) || _ <- [1, 2]],
    Up = queue_bed:start(Config, #{"queue.in_flight" => 0}),
    try
        queue_bed:await_stats(Up, depth, 2),
        ?assertMatch(#{state := up, oldest_age_s := Age, in_flight := 0,
                       read := 0, done := 0, lag_ms := nil}
                         when is_integer(Age), queue_bed:stats(Up)),
        ?assertMatch(#{queue := up}, bed:call(Up, health))
    after
        queue_bed:stop(Up)
    end,
    with(Config, #{"queue.backoff_s" => 0}, fun(On) ->
        Node = maps:get(node, bed:caller(On)),
        queue_bed:handle(On, [queue_bed:fails(503),
                              fun scripted_model:from_document/1]),
        Id = enqueue(On, op(<<"Hi">>), #{notify => {nobody, Node}}),
        {ok, _} = await(On, Id),
        _ = queue_bed:await(On, enqueue(On, op(<<"Hi">>),
                                        #{request_id => Id})),
        _ = queue_bed:all(On, Id, 2),
        Wrong = queue_bed:ask(On, queue_bed:chat(<<"Hi">>, #{timeout => soon})),
        _ = queue_bed:await(On, Wrong),
        queue_bed:await_stats(On, in_flight, 0),
        ?assertMatch(#{read := 4, done := 2, failed := 1, dead := 1,
                       returned := 1, answered_again := 1, enqueued := 2,
                       notices := 1, lost := 0, awaited := 0, unstored := 0,
                       reconnects := 0, lag_ms := Lag}
                         when is_integer(Lag), queue_bed:stats(On))
    end).

%% The first block of docs/queue.md in Elixir.
the_documented_example_runs(Config) ->
    with(Config, fun(Up) ->
        {ok, Doc} = file:read_file(filename:join([router:project(), "docs",
                                                  "queue.md"])),
        {match, [Block]} = re:run(Doc, "^```elixir\\n(.*?)^```",
                                  [multiline, dotall,
                                   {capture, [1], binary}]),
        Script = filename:join(proplists:get_value(priv_dir, Config),
                               "queue.exs"),
        ok = file:write_file(
               Script, ["router = {:llm_router, :\"",
                        atom_to_list(bed:node(Up)), "\"}\n"
                        "text = \"# Login\\nUsers must sign in.\"\n", Block,
                        "\n5 = length(tasks)\n"]),
        {Status, Output} = bed:elixir(Up, Script, []),
        ct:log("~ts", [Output]),
        ?assertEqual(0, Status)
    end).
