%% The queue as producers see it: requests put on it with SQL, results read from
%% it and from the tables. The BEAM's side is in queue_beam_SUITE, waking up,
%% limits, start and end in queue_life_SUITE, faults in queue_faults_SUITE.
-module(queue_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% requests and results
     a_chat_is_answered,
     every_operation_gives_what_a_synchronous_call_gives,
     a_chat_has_its_text_as_response,
     a_cost_always_has_a_decimal_point,
     a_schema_or_tools_give_the_whole_response,
     options_go_before_the_keys_beside_them,
     auto_is_as_if_it_were_not_there,
     unknown_keys_and_nulls_are_ignored,
     the_api_can_be_chosen,
     %% tables
     the_tables_tell_what_became_of_it,
     the_stored_answer_is_the_term_of_a_synchronous_call,
     tables_can_be_left_out,
     without_tables_requests_are_answered_all_the_same,
     a_table_that_refuses_an_answer_does_not_lose_it,
     %% what fails
     what_can_never_work_fails_at_once_and_blocks_nothing,
     a_dead_letter_holds_the_message,
     too_much_is_a_dead_letter,
     what_the_provider_refuses_is_asked_once,
     what_may_work_later_is_asked_later,
     the_provider_may_name_the_time,
     the_slot_is_free_until_then,
     after_so_many_readings_it_is_a_dead_letter,
     time_that_is_over_is_not_tried_again,
     %% ids
     an_id_that_was_answered_is_answered_again,
     an_id_under_way_is_one_provider_call,
     another_question_under_an_id_under_way_is_refused,
     a_failed_id_is_tried_again,
     a_success_is_never_replaced].

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

chat(Text, More) ->
    queue_bed:chat(Text, More).

answer(Up, Message) ->
    queue_bed:answer(Up, Message).

%% A message of an operation.
op(Operation, Arguments) ->
    Arguments#{request_id => postgres:uuid(), operation => Operation}.

query(Up, Sql) ->
    postgres:query(pg(Up), Sql).

%% What the provider was asked, the first question first.
asked(Up) ->
    [Json || #{json := Json}
                 <- scripted_provider:requests(bed:provider(Up))].

%% --------------------------------------------------- requests and results

a_chat_is_answered(Config) ->
    with(Config, fun(Up) ->
        Id = queue_bed:ask(Up, chat(<<"Name a prime">>,
                                    #{agent_id => <<"a-7">>,
                                      task_type => <<"qa">>,
                                      timestamp => <<"yesterday">>})),
        #{<<"usage">> := Usage, <<"cost">> := Cost, <<"cost_cents">> := Cents,
          <<"latency_ms">> := Latency, <<"timestamp">> := Time} = Result
            = queue_bed:await(Up, Id),
        ?assertMatch(#{<<"request_id">> := Id, <<"agent_id">> := <<"a-7">>,
                       <<"operation">> := <<"call">>,
                       <<"status">> := <<"success">>,
                       <<"response">> := <<"You wrote: Name a prime">>,
                       <<"result">> := null, <<"error">> := null,
                       <<"response_id">> := null,
                       <<"provider">> := <<"openai">>,
                       <<"model">> := <<"gpt-", _/binary>>,
                       <<"attempts">> := 1, <<"complexity">> := <<"simple">>,
                       <<"task_type">> := <<"qa">>}, Result),
        ?assertEqual(19, map_size(Result)),
        #{<<"prompt_tokens">> := In, <<"completion_tokens">> := Out,
          <<"total_tokens">> := Total} = Usage,
        ?assertEqual({Total, Total}, {In + Out, maps:get(<<"tokens_used">>,
                                                         Result)}),
        ?assert(Cost > 0),
        ?assert(abs(Cents - 100 * Cost) < 1.0e-9),
        ?assert(is_integer(Latency) andalso Latency >= 0),
        ?assertMatch({match, _},
                     re:run(Time, "^20..-..-..T..:..:..\\....Z$")),
        bed:eventually(fun() -> postgres:depth(pg(Up)) =:= 0 end),
        ?assertEqual({1, []}, {postgres:archived(pg(Up)),
                               postgres:dead(pg(Up))})
    end).

every_operation_gives_what_a_synchronous_call_gives(Config) ->
    Prd = <<"# Login\nUsers must sign in.\n# Posts\nUsers may write.\n">>,
    Task = #{<<"id">> => 7, <<"title">> => <<"Sign in">>, <<"mine">> => [1.5]},
    Asked = [{op(generate_task, #{prompt => <<"A login">>}),
              {generate_task, <<"A login">>}},
             {op(parse_prd, #{content => Prd, num_tasks => 3}),
              {parse_prd, Prd, 3}},
             {op(parse_prd, #{content => Prd}), {parse_prd, Prd, 0}},
             {op(expand_task, #{task => Task, num => 3}),
              {expand_task, Task, #{num => 3}}},
             {op(expand_task, #{task => <<"Sign in">>}),
              {expand_task, <<"Sign in">>}},
             {op(analyze_complexity, #{tasks => [Task, <<"Posts">>]}),
              {analyze_complexity, [Task, <<"Posts">>]}},
             {op(research, #{topic => <<"Bees">>, context => <<"Honey">>}),
              {research, <<"Bees">>, <<"Honey">>}},
             {op(embed, #{texts => [<<"one">>, <<"two">>]}),
              {embed, [<<"one">>, <<"two">>]}}],
    with(Config, fun(Up) ->
        queue_bed:handle(Up, fun task_model:answer/1),
        [begin
             {ok, Value} = bed:call(Up, with_string_keys(Op)),
             Name = atom_to_binary(element(1, Op)),
             Result = answer(Up, Message),
             ?assertMatch(#{<<"status">> := <<"success">>,
                            <<"operation">> := Name}, Result),
             ?assertEqual(as_json(Value), maps:get(<<"result">>, Result))
         end || {Message, Op} <- Asked]
    end).

with_string_keys(Op) ->
    case lists:reverse(tuple_to_list(Op)) of
        [#{} = Opts | Rest] when map_size(Opts) =:= 1 ->
            list_to_tuple(lists:reverse(Rest, [Opts#{keys => strings}]));
        Arguments ->
            list_to_tuple(lists:reverse([#{keys => strings} | Arguments]))
    end.

as_json(Term) ->
    test_json:decode(test_json:encode(without_nil(Term))).

without_nil(nil) -> null;
without_nil(Map) when is_map(Map) -> maps:map(fun(_, V) -> without_nil(V) end,
                                              Map);
without_nil(List) when is_list(List) -> [without_nil(V) || V <- List];
without_nil(Term) -> Term.

a_chat_has_its_text_as_response(Config) ->
    with(Config, fun(Up) ->
        [?assertMatch(#{<<"status">> := <<"success">>, <<"result">> := null,
                        <<"response">> := <<"You wrote: Hello">>,
                        <<"complexity">> := <<"medium">>},
                      answer(Up, Message))
         || Message <- [maps:remove(complexity, chat(<<"Hello">>)),
                        op(call, #{messages => [#{role => system,
                                                  content => <<"Be brief">>},
                                                #{role => user,
                                                  content => <<"Hello">>}]}),
                        op(call_with_prompt, #{prompt => <<"Hello">>}),
                        op(call_with_system, #{system => <<"Be brief">>,
                                               user => <<"Hello">>}),
                        op(route, #{request =>
                                        #{messages => [#{role => user,
                                                         content =>
                                                             <<"Hello">>}]}})
                       ]],
        queue_bed:handle(Up, fun task_model:answer/1),
        ?assertMatch(#{<<"response">> := <<"What is known of Bees">>,
                       <<"result">> :=
                           #{<<"findings">> := <<"What is known of Bees">>,
                             <<"sources">> := [_, _]}},
                     answer(Up, op(research, #{topic => <<"Bees">>})))
    end).

%% As it is written, for readers who tell 0 from 0.0. What is not known, what
%% was not asked, what costs next to nothing, and just a dollar.
a_cost_always_has_a_decimal_point(Config) ->
    Dollar = #{usage => #{prompt_tokens => 5000000, completion_tokens => 0,
                          total_tokens => 5000000}},
    with(Config, #{"cache.max_bytes" => 1000000}, fun(Up) ->
        queue_bed:handle(Up, [queue_bed:says(<<"Hello">>),
                              queue_bed:says(<<"Hello">>),
                              fun(_) ->
                                  scripted_provider:answer(<<"Hello">>, Dollar)
                              end]),
        Priced = #{model => <<"openai/gpt-5.4-nano">>},
        Cached = Priced#{options => #{cache => true}},
        [?assertMatch({_, [{match, _}, {match, _}]},
                      {Expected, [re:run(Cost, ["^", Pattern, "$"])
                                  || {Cost, Pattern}
                                         <- lists:zip(costs(Up, More),
                                                      Expected)]})
         || {More, Expected} <-
                [{#{model => <<"openai/unpriced">>}, ["0\\.0", "0\\.0"]},
                 {#{timeout => <<"x">>}, ["0\\.0", "0\\.0"]},
                 {Cached, ["0\\.0000[0-9]*[1-9]", "0\\.00[0-9]*[1-9]"]},
                 {Cached, ["0\\.0", "0\\.0"]},
                 {Priced, ["1\\.0", "100\\.0"]}]]
    end).

costs(Up, More) ->
    #{request_id := Id} = Message = chat(<<"Hi">>, More),
    _ = answer(Up, Message),
    hd(query(Up, ["SELECT message->'cost', message->'cost_cents'"
                  " FROM pgmq.q_ai_results WHERE message->>'request_id' = '",
                  Id, "'"])).

a_schema_or_tools_give_the_whole_response(Config) ->
    Schema = #{type => object, required => [city],
               properties => #{city => #{type => string}}},
    Tool = #{name => get_weather, description => <<"Of a city">>,
             parameters => Schema},
    Call = #{id => <<"c1">>, name => <<"get_weather">>,
             arguments => #{city => <<"Oslo">>}},
    with(Config, fun(Up) ->
        queue_bed:handle(Up, queue_bed:says(<<"{\"city\": \"Oslo\"}">>)),
        ?assertMatch(#{<<"status">> := <<"success">>,
                       <<"response">> := <<"{\"city\": \"Oslo\"}">>,
                       <<"result">> := #{<<"object">> :=
                                             #{<<"city">> := <<"Oslo">>},
                                         <<"finish_reason">> := <<"stop">>}},
                     answer(Up, chat(<<"Where?">>, #{schema => Schema}))),
        queue_bed:handle(Up, fun(_) ->
            scripted_provider:answer(<<>>, #{tool_calls => [Call]})
        end),
        ?assertMatch(#{<<"status">> := <<"success">>,
                       <<"result">> :=
                           #{<<"finish_reason">> := <<"tool_calls">>,
                             <<"tool_calls">> :=
                                 [#{<<"id">> := <<"c1">>,
                                    <<"name">> := <<"get_weather">>,
                                    <<"arguments">> :=
                                        #{<<"city">> := <<"Oslo">>}}]}},
                     answer(Up, chat(<<"Weather?">>, #{tools => [Tool]})))
    end).

options_go_before_the_keys_beside_them(Config) ->
    with(Config, fun(Up) ->
        Mine = #{model => <<"openai/mine">>, max_tokens => 5,
                 temperature => 0.25},
        _ = answer(Up, chat(<<"Hi">>, Mine)),
        _ = answer(Up, chat(<<"Hi">>, Mine#{options =>
                                                #{model => <<"openai/other">>,
                                                  top_p => 0.5}})),
        ?assertMatch([#{<<"model">> := <<"mine">>, <<"temperature">> := 0.25},
                      #{<<"model">> := <<"other">>, <<"temperature">> := 0.25,
                        <<"top_p">> := 0.5}], asked(Up))
    end).

auto_is_as_if_it_were_not_there(Config) ->
    with(Config, fun(Up) ->
        Auto = #{model => <<"auto">>, provider => <<"auto">>},
        #{<<"model">> := Model} = answer(Up, chat(<<"Hi">>)),
        ?assertMatch(#{<<"model">> := Model, <<"status">> := <<"success">>},
                     answer(Up, chat(<<"Hi">>, Auto)))
    end).

unknown_keys_and_nulls_are_ignored(Config) ->
    with(Config, fun(Up) ->
        Nothing = #{agent_id => null, model => null, options => null,
                    tools => null, reply_to => null, operation => null,
                    max_tokens => null, priority => <<"high">>, x => #{}},
        ?assertMatch(#{<<"status">> := <<"success">>, <<"agent_id">> := null},
                     answer(Up, chat(<<"Hi">>, Nothing)))
    end).

the_api_can_be_chosen(Config) ->
    Server = #{server_label => <<"docs">>, require_approval => <<"never">>,
               server_url => <<"https://example.com/mcp">>},
    with(Config, fun(Up) ->
        Model = #{model => <<"openai/some-model">>},
        Asked = fun(More) -> answer(Up, chat(<<"Hi">>, maps:merge(Model, More)))
                end,
        ?assertMatch(#{<<"status">> := <<"success">>,
                       <<"response_id">> := null},
                     Asked(#{api_version => <<"chat_completions">>})),
        #{<<"status">> := <<"success">>, <<"response_id">> := Id} =
            Asked(#{api_version => <<"responses">>}),
        _ = Asked(#{previous_response_id => Id, store => true,
                    mcp_servers => [Server]}),
        ?assertEqual([<<"/v1/chat/completions">>, <<"/v1/responses">>,
                      <<"/v1/responses">>],
                     [Path || #{path := Path} <- scripted_provider:requests(
                                                   bed:provider(Up))]),
        ?assertMatch(#{<<"previous_response_id">> := Id, <<"store">> := true,
                       <<"tools">> := [#{<<"type">> := <<"mcp">>,
                                         <<"server_label">> := <<"docs">>}]}
                       when is_binary(Id), lists:last(asked(Up)))
    end).

%% ----------------------------------------------------------------- tables

the_tables_tell_what_became_of_it(Config) ->
    with(Config, fun(Up) ->
        Job = #{agent_id => <<"a-7">>, workflow => <<"import">>,
                instance_id => <<"i-1">>, job_id => 17,
                task_type => <<"qa">>},
        #{request_id := Id} = Message = chat(<<"Hi">>, Job),
        #{<<"tokens_used">> := Tokens, <<"model">> := Model,
          <<"cost_cents">> := Cents, <<"latency_ms">> := Latency} = Result
            = answer(Up, Message),
        ?assertMatch(#{<<"status">> := <<"success">>, <<"result">> := Result,
                       <<"response">> := <<"You wrote: Hi">>,
                       <<"agent_id">> := <<"a-7">>, <<"model">> := Model,
                       <<"provider">> := <<"openai">>, <<"error">> := null,
                       <<"tokens_used">> := Tokens, <<"cost_cents">> := Cents,
                       <<"processed_at">> := <<"20", _/binary>>},
                     queue_bed:row(Up, ai_results, Id)),
        Input = as_json(Message),
        ?assertMatch(#{<<"status">> := <<"success">>, <<"output">> := Result,
                       <<"workflow">> := <<"import">>, <<"input">> := Input,
                       <<"instance_id">> := <<"i-1">>, <<"error">> := null,
                       <<"job_id">> := <<"17">>, <<"tokens_used">> := Tokens,
                       <<"duration_ms">> := Latency,
                       <<"completed_at">> := <<"20", _/binary>>},
                     queue_bed:row(Up, job_results, Id)),
        ?assertMatch(#{<<"agent_id">> := <<"a-7">>, <<"model">> := Model,
                       <<"complexity">> := <<"simple">>,
                       <<"task_type">> := <<"qa">>, <<"tokens">> := Tokens,
                       <<"latency_ms">> := Latency},
                     queue_bed:row(Up, llm_metrics, Id))
    end),
    with(Config, fun(Up) ->
        queue_bed:handle(Up, [queue_bed:fails(400), [hang]]),
        Failed = queue_bed:ask(Up, chat(<<"Hi">>)),
        ?assertMatch(#{<<"status">> := <<"failed">>},
                     queue_bed:await(Up, Failed)),
        Late = queue_bed:ask(Up, chat(<<"Hi">>, #{timeout => 300})),
        ?assertMatch(#{<<"status">> := <<"timeout">>},
                     queue_bed:await(Up, Late)),
        [?assertMatch(#{<<"status">> := Status, <<"error">> := <<_, _/binary>>},
                      queue_bed:row(Up, Table, Id))
         || {Id, Status} <- [{Failed, <<"failed">>}, {Late, <<"timeout">>}],
            Table <- [ai_results, job_results]]
    end).

the_stored_answer_is_the_term_of_a_synchronous_call(Config) ->
    with(Config, fun(Up) ->
        Prompt = <<"A login">>,
        {ok, Task} = bed:call(Up, {generate_task, Prompt}),
        #{request_id := Id} = Message = op(generate_task, #{prompt => Prompt}),
        _ = answer(Up, Message),
        ?assertEqual({ok, Task}, stored_answer(Up, Id)),
        #{request_id := Wrong} = Bad = op(generate_task, #{prompt => 5}),
        _ = answer(Up, Bad),
        ?assertMatch({error, {invalid_request, #{path := <<"prompt">>}}},
                     stored_answer(Up, Wrong))
    end).

stored_answer(Up, Id) ->
    #{<<"answer">> := <<"\\x", Hex/binary>>}
        = queue_bed:row(Up, ai_results, Id),
    binary_to_term(<< <<(binary_to_integer(Byte, 16))>>
                      || <<Byte:2/binary>> <= Hex >>).

tables_can_be_left_out(Config) ->
    Tables = [{"queue.store_answers", ai_results},
              {"queue.store_jobs", job_results},
              {"queue.store_metrics", llm_metrics}],
    [with(Config, #{Key => false}, fun(Up) ->
         _ = answer(Up, chat(<<"Hi">>)),
         [?assertEqual({T, case T of Table -> 0; _ -> 1 end},
                       {T, rows(Up, T)}) || {_, T} <- Tables]
     end) || {Key, Table} <- Tables].

rows(Up, Table) ->
    postgres:value(pg(Up), ["SELECT count(*) FROM ", atom_to_list(Table)]).

without_tables_requests_are_answered_all_the_same(Config) ->
    Rename = fun(From, To) ->
                     query(Config, ["ALTER TABLE ", From, " RENAME TO ", To])
             end,
    Tables = ["ai_results", "job_results", "llm_metrics"],
    queue_bed:clear(Config),
    [Rename(Table, ["old_", Table]) || Table <- Tables],
    Up = queue_bed:start(Config, #{}),
    try
        ?assertMatch(#{<<"status">> := <<"success">>},
                     answer(Up, chat(<<"Hi">>))),
        [?assert(queue_bed:logged(Up, What))
         || What <- ["ai_results", "job_results", "llm_metrics", "--migrate"]]
    after
        [Rename(["old_", Table], Table) || Table <- Tables],
        queue_bed:stop(Up)
    end.

%% The one that it refuses is in no table; those stored with it are.
a_table_that_refuses_an_answer_does_not_lose_it(Config) ->
    query(Config, "ALTER TABLE job_results ADD CONSTRAINT odd "
                  "CHECK (instance_id IS DISTINCT FROM 'odd')"),
    try
        with(Config, fun(Up) ->
            Odd = queue_bed:ask(Up, (chat(<<"Hi">>))#{instance_id => odd}),
            Others = [queue_bed:ask(Up, chat(<<"Hi">>)) || _ <- [1, 2, 3]],
            [?assertMatch(#{<<"status">> := <<"success">>},
                          queue_bed:await(Up, Id)) || Id <- [Odd | Others]],
            ?assertEqual([[<<"3">>]],
                         query(Config, "SELECT count(*) FROM ai_results")),
            ?assertEqual(4, queue_bed:asked(Up))
        end)
    after
        query(Config, "ALTER TABLE job_results DROP CONSTRAINT odd")
    end.

%% -------------------------------------------------------------- what fails

%% One by one, each in the way of the next.
what_can_never_work_fails_at_once_and_blocks_nothing(Config) ->
    Text = [#{role => user, content => <<"Hi">>}],
    User = fun(Content) -> [#{role => user, content => Content}] end,
    Never = [{<<"\"text\"">>, none}, {<<"[1]">>, none}, {<<"null">>, none},
             {<<"17">>, none}, {<<"{}">>, <<"request_id">>},
             {#{request_id => <<"17">>, messages => Text}, <<"request_id">>},
             {#{request_id => 17, messages => Text}, <<"request_id">>}
             | [{maps:merge(#{request_id => postgres:uuid()}, More), Path}
                || {More, Path} <-
                       [{#{}, <<"messages">>},
                        {#{messages => []}, <<"messages">>},
                        {#{messages => User(5)}, <<"messages[0].content">>},
                        {#{messages => Text, operation => <<"dance">>},
                         <<"operation">>},
                        {#{messages => Text, operation => <<"stream">>},
                         <<"operation">>},
                        {#{messages => Text, operation => 5}, <<"operation">>},
                        {#{messages => Text, options => 5}, <<"options">>},
                        {#{messages => Text, options => #{timeout => soon}},
                         <<"options.timeout">>},
                        {#{messages => Text, options => #{dance => 1}},
                         <<"options.dance">>},
                        {#{messages => Text, timeout => soon}, <<"timeout">>},
                        {#{messages => Text, complexity => huge},
                         <<"complexity">>},
                        {#{messages => Text, agent_id => 5}, <<"agent_id">>},
                        {#{messages => Text, reply_to => <<"me">>},
                         <<"reply_to">>},
                        {#{operation => parse_prd}, <<"content">>},
                        {#{operation => parse_prd, content => <<"A">>,
                           num_tasks => 101}, <<"num_tasks">>}]]],
    with(Config, #{"queue.in_flight" => 1, "queue.batch" => 1}, fun(Up) ->
        [postgres:enqueue(pg(Up), Message) || {Message, _} <- Never],
        ?assertMatch(#{<<"status">> := <<"success">>},
                     answer(Up, chat(<<"Hi">>))),
        Failures = lists:droplast(postgres:results(pg(Up))),
        ?assertEqual(length(Never), length(Failures)),
        [begin
             ?assertMatch(#{<<"status">> := <<"failed">>,
                            <<"response">> := null, <<"result">> := null,
                            <<"error">> := #{<<"code">> :=
                                                 <<"invalid_request">>,
                                             <<"message">> := _}}, Failure),
             ?assertEqual({Message, Path},
                          {Message, maps:get(<<"path">>,
                                             maps:get(<<"error">>, Failure),
                                             none)}),
             ?assertEqual(id_of(Message), maps:get(<<"request_id">>, Failure))
         end || {{Message, Path}, Failure} <- lists:zip(Never, Failures)],
        ?assertEqual(length(Never), length(postgres:dead(pg(Up)))),
        ?assertEqual(1, queue_bed:asked(Up))
    end).

%% What is no UUID is no id.
id_of(#{request_id := <<_:36/binary>> = Id}) -> Id;
id_of(_) -> null.

a_dead_letter_holds_the_message(Config) ->
    with(Config, fun(Up) ->
        Message = chat(<<"Hi">>, #{operation => <<"dance">>, x => [1, 2.5]}),
        MsgId = postgres:enqueue(pg(Up), Message),
        #{<<"error">> := #{<<"message">> := Why}} =
            queue_bed:await(Up, maps:get(request_id, Message)),
        Original = as_json(Message),
        ?assertMatch([#{<<"message">> := Original, <<"read_ct">> := 1,
                        <<"msg_id">> := MsgId,
                        <<"dead_at">> := <<"20", _/binary>>,
                        <<"error">> := #{<<"code">> := <<"invalid_request">>,
                                         <<"path">> := <<"operation">>,
                                         <<"message">> := Why}}],
                     postgres:dead(pg(Up))),
        ?assertEqual({1, 0}, {postgres:archived(pg(Up)),
                              postgres:depth(pg(Up))})
    end).

too_much_is_a_dead_letter(Config) ->
    with(Config, #{"queue.message_bytes" => 4096}, fun(Up) ->
        Large = queue_bed:ask(Up, chat(binary:copy(<<"x">>, 5000))),
        Deep = queue_bed:ask(Up, chat(<<"Hi">>, #{schema => nested(300)})),
        ?assertMatch(#{<<"status">> := <<"failed">>,
                       <<"error">> := #{<<"code">> := <<"too_large">>}},
                     queue_bed:await(Up, Large)),
        ?assertMatch(#{<<"status">> := <<"failed">>},
                     queue_bed:await(Up, Deep)),
        ?assertMatch([#{<<"message">> := null}, #{<<"message">> := #{}}],
                     postgres:dead(pg(Up))),
        ?assertEqual(0, queue_bed:asked(Up))
    end).

nested(0) -> #{};
nested(N) -> [nested(N - 1)].

what_the_provider_refuses_is_asked_once(Config) ->
    Filtered = scripted_provider:answer(<<"No">>,
                                        #{finish_reason => content_filter}),
    [with(Config, fun(Up) ->
         queue_bed:handle(Up, Handler),
         ?assertMatch(#{<<"status">> := <<"failed">>, <<"attempts">> := 1,
                        <<"error">> := #{<<"code">> := Code}},
                      answer(Up, chat(<<"Hi">>))),
         ?assertMatch([#{<<"read_ct">> := 1}], postgres:dead(pg(Up))),
         ?assertEqual(1, queue_bed:asked(Up))
     end) || {Handler, Code} <- [{queue_bed:fails(400), <<"invalid_request">>},
                                 {fun(_) -> Filtered end,
                                  <<"content_filtered">>}]].

what_may_work_later_is_asked_later(Config) ->
    Good = fun scripted_model:from_document/1,
    Wait = [{<<"retry-after">>, <<"1">>}],
    [with(Config, #{"queue.backoff_s" => 0}, fun(Up) ->
         queue_bed:handle(Up, Bad ++ [Good]),
         ?assertMatch(#{<<"status">> := <<"success">>},
                      answer(Up, chat(<<"Hi">>))),
         ?assertEqual(length(Bad) + 1, queue_bed:asked(Up)),
         ?assertEqual([], postgres:dead(pg(Up))),
         [[ReadCount]] = query(Up, "SELECT read_ct FROM pgmq.a_ai_requests"),
         ?assert(binary_to_integer(ReadCount) > length(Bad))
     end) || Bad <- [[queue_bed:fails(503), queue_bed:fails(500)],
                     [[close]],
                     [queue_bed:fails(429, Wait)]]].

%% Whatever it says, it is heard of again.
the_provider_may_name_the_time(Config) ->
    [with(Config, fun(Up) ->
         Wait = [{<<"retry-after">>, Said}],
         queue_bed:handle(Up, queue_bed:fails(503, Wait)),
         _ = queue_bed:ask(Up, chat(<<"Hi">>)),
         bed:eventually(fun() ->
             case query(Up, "SELECT extract(epoch FROM vt - now())::integer"
                        " FROM pgmq.q_ai_requests WHERE read_ct = 1") of
                 [[Seconds]] -> Least =< binary_to_integer(Seconds)
                                    andalso binary_to_integer(Seconds) =< Most;
                 [] -> false
             end
         end),
         ?assertEqual([], postgres:results(pg(Up)))
     end) || {Said, Least, Most} <- [{<<"100">>, 95, 101},
                                     {<<"99999999999">>, 60, 86400}]].

%% The provider fails the first, whose time to come back is far away.
the_slot_is_free_until_then(Config) ->
    with(Config, #{"queue.in_flight" => 1, "queue.backoff_s" => 60},
         fun(Up) ->
             queue_bed:handle(Up, [queue_bed:fails(503),
                                   fun scripted_model:from_document/1]),
             First = queue_bed:ask(Up, chat(<<"First">>)),
             ?assertMatch(#{<<"response">> := <<"You wrote: Second">>},
                          answer(Up, chat(<<"Second">>))),
             ?assertEqual(none, postgres:result(pg(Up), First)),
             ?assertEqual(1, postgres:depth(pg(Up)))
         end).

after_so_many_readings_it_is_a_dead_letter(Config) ->
    Keys = #{"queue.backoff_s" => 0, "queue.max_reads" => 3},
    with(Config, Keys, fun(Up) ->
        queue_bed:handle(Up, queue_bed:fails(503)),
        ?assertMatch(#{<<"status">> := <<"failed">>,
                       <<"error">> := #{<<"code">> := <<"provider_error">>,
                                        <<"http_status">> := 503}},
                     answer(Up, chat(<<"Hi">>))),
        ?assertMatch([#{<<"read_ct">> := 3,
                        <<"error">> := #{<<"code">> := <<"provider_error">>}}],
                     postgres:dead(pg(Up))),
        ?assertEqual(3, queue_bed:asked(Up))
    end).

time_that_is_over_is_not_tried_again(Config) ->
    with(Config, fun(Up) ->
        queue_bed:handle(Up, fun(_) -> [hang] end),
        ?assertMatch(#{<<"status">> := <<"timeout">>,
                       <<"error">> := #{<<"code">> := <<"timeout">>}},
                     answer(Up, chat(<<"Hi">>, #{timeout => 300}))),
        ?assertEqual({1, []}, {queue_bed:asked(Up), postgres:dead(pg(Up))})
    end).

%% -------------------------------------------------------------------- ids

an_id_that_was_answered_is_answered_again(Config) ->
    with(Config, fun(Up) ->
        #{request_id := Id} = Message = chat(<<"Hi">>),
        First = answer(Up, Message),
        _ = queue_bed:ask(Up, Message),
        ?assertEqual([First, First], queue_bed:all(Up, Id, 2)),
        _ = queue_bed:ask(Up, Message#{request_id := string:uppercase(Id)}),
        [_, _, #{<<"response">> := <<"You wrote: Hi">>}] =
            postgres:await_results(pg(Up), 3),
        bed:eventually(fun() -> postgres:depth(pg(Up)) =:= 0 end),
        ?assertEqual({1, 1}, {queue_bed:asked(Up), rows(Up, ai_results)})
    end).

an_id_under_way_is_one_provider_call(Config) ->
    with(Config, fun(Up) ->
        queue_bed:handle(Up, queue_bed:gate()),
        #{request_id := Id} = Message = chat(<<"Hi">>),
        [queue_bed:ask(Up, Message) || _ <- [1, 2, 3]],
        [Question] = queue_bed:gated(1),
        queue_bed:await_stats(Up, in_flight, 3),
        queue_bed:open([Question]),
        [?assertMatch(#{<<"response">> := <<"You wrote: Hi">>}, Result)
         || Result <- queue_bed:all(Up, Id, 3)],
        ?assertEqual({1, 1}, {queue_bed:asked(Up), rows(Up, ai_results)})
    end).

another_question_under_an_id_under_way_is_refused(Config) ->
    with(Config, fun(Up) ->
        queue_bed:handle(Up, queue_bed:gate()),
        #{request_id := Id} = Message = chat(<<"Hi">>),
        _ = queue_bed:ask(Up, Message),
        Question = queue_bed:gated(1),
        _ = queue_bed:ask(Up, chat(<<"Other">>, #{request_id => Id})),
        [?assertMatch(#{<<"status">> := <<"failed">>,
                        <<"error">> := #{<<"code">> := <<"invalid_request">>}},
                      Refused) || Refused <- queue_bed:all(Up, Id, 1)],
        queue_bed:open(Question),
        ?assertMatch([_, #{<<"status">> := <<"success">>}],
                     queue_bed:all(Up, Id, 2)),
        ?assertMatch(#{<<"status">> := <<"success">>},
                     queue_bed:row(Up, ai_results, Id)),
        ?assertEqual(1, queue_bed:asked(Up))
    end).

a_failed_id_is_tried_again(Config) ->
    with(Config, fun(Up) ->
        queue_bed:handle(Up, [queue_bed:fails(400),
                              fun scripted_model:from_document/1]),
        #{request_id := Id} = Message = chat(<<"Hi">>),
        ?assertMatch(#{<<"status">> := <<"failed">>}, answer(Up, Message)),
        _ = queue_bed:ask(Up, Message),
        ?assertMatch([_, #{<<"status">> := <<"success">>}],
                     queue_bed:all(Up, Id, 2)),
        [?assertMatch(#{<<"status">> := <<"success">>, <<"error">> := null},
                      queue_bed:row(Up, Table, Id))
         || Table <- [ai_results, job_results]],
        ?assertMatch({ok, #{text := <<"You wrote: Hi">>}},
                     stored_answer(Up, Id))
    end).

%% A failure that comes late, from another router.
a_success_is_never_replaced(Config) ->
    One = #{"queue.in_flight" => 1},
    with(Config, One, fun(Up) ->
        queue_bed:with_other(Up, One, fun(_) ->
            Gate = queue_bed:gate(),
            queue_bed:handle(Up, [Gate,
                                  fun(Request) ->
                                          _ = Gate(Request),
                                          (queue_bed:fails(400))(Request)
                                  end]),
            #{request_id := Id} = Message = chat(<<"Hi">>),
            _ = queue_bed:ask(Up, Message),
            First = queue_bed:gated(1),
            _ = queue_bed:ask(Up, Message),
            Second = queue_bed:gated(1),
            queue_bed:open(First),
            [Success] = queue_bed:all(Up, Id, 1),
            queue_bed:open(Second),
            ?assertMatch([Success, #{<<"status">> := <<"failed">>}],
                         queue_bed:all(Up, Id, 2)),
            ?assertMatch(#{<<"status">> := <<"success">>,
                           <<"result">> := Success},
                         queue_bed:row(Up, ai_results, Id)),
            ?assertMatch(#{<<"status">> := <<"success">>,
                           <<"output">> := Success},
                         queue_bed:row(Up, job_results, Id))
        end)
    end).
