%% What becomes of a model's answer: every returned list holds the promised
%% invariants, a paid answer is repaired before it is rejected, and nothing is
%% invented to fill a gap.
-module(task_rules_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(DOCUMENT, <<"# A shop\n\nGoods are kept in a cart and paid for.\n">>).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% numbers
     ids_with_gaps_are_renumbered,
     ids_used_twice_are_renumbered,
     ids_from_zero_are_renumbered,
     ids_as_text_are_renumbered,
     ids_start_at_next_id,
     %% wrapping
     a_code_fence_is_taken_off,
     prose_around_the_json_is_taken_off,
     a_bare_array_is_accepted,
     another_member_name_is_accepted,
     %% dependencies
     a_forward_dependency_is_kept_by_sorting,
     a_list_out_of_order_keeps_its_dependencies,
     a_cycle_loses_one_edge_and_a_warning_names_it,
     a_dangling_dependency_is_dropped_with_a_warning,
     a_dependency_on_itself_or_twice_is_dropped,
     a_dependency_on_an_existing_task_is_kept,
     %% fields
     status_is_always_pending,
     priorities_are_understood,
     titles_are_one_line_and_short,
     absent_text_is_nil,
     hours_are_a_number_or_nil,
     text_is_valid_and_without_nul,
     %% counts
     too_few_tasks_get_one_repair_turn,
     too_many_tasks_get_one_repair_turn,
     a_count_that_stays_wrong_is_an_error,
     an_empty_list_is_an_error,
     about_is_enough_when_the_caller_says_so,
     zero_lets_the_model_decide,
     %% repair
     an_answer_without_json_gets_one_repair_turn,
     an_answer_that_stays_wrong_is_invalid_output,
     a_task_without_a_title_is_named_by_its_path,
     a_repaired_answer_is_checked_again,
     %% length
     a_truncated_answer_is_continued,
     a_truncated_answer_keeps_its_complete_tasks,
     a_model_that_never_finishes_is_an_error,
     %% options
     a_full_return_has_warnings_and_cost,
     string_keys_are_given_when_asked_for,
     the_request_asks_for_a_strict_schema,
     a_callers_schema_is_enforced,
     a_callers_schema_is_repaired_once,
     one_request_id_is_one_provider_call,
     no_atoms_come_from_a_model,
     %% other operations
     a_generated_task_may_come_in_a_list,
     an_expanded_task_keeps_all_of_its_own_keys,
     an_expanded_task_mirrors_string_keys,
     an_expanded_task_has_as_many_subtasks_as_asked_for,
     the_context_reaches_the_model].

init_per_suite(Config) ->
    bed:up(Config, #{}).

end_per_suite(Config) ->
    bed:down(Config).

%% ---------------------------------------------------------------- scripts

%% Calls Op while the model answers Texts in turn: {Answer, requests seen}.
ask(Config, Op, Texts) ->
    Provider = bed:provider(Config),
    scripted_provider:set_handler(Provider, [text_answer(T) || T <- Texts]),
    Answer = bed:call(Config, Op),
    Requests = scripted_provider:requests(Provider),
    ct:log("~b requests: ~0tP", [length(Requests), Answer, 200]),
    {Answer, Requests}.

text_answer({cut, Text}) ->
    scripted_provider:answer(Text, #{finish_reason => length});
text_answer(TextOrJson) ->
    scripted_provider:answer(TextOrJson).

%% The tasks that parse_prd gives for one answer, which must be enough.
tasks(Config, Answer) ->
    {{ok, Tasks}, [_]} = ask(Config, {parse_prd, ?DOCUMENT, 0}, [Answer]),
    hold_invariants(Tasks, 1, []),
    Tasks.

%% The same with warnings, as one text.
tasks_and_warnings(Config, Answer) ->
    {{ok, #{result := Tasks, warnings := Warnings}}, [_]} =
        ask(Config, {parse_prd, ?DOCUMENT, 0, #{return => full}}, [Answer]),
    hold_invariants(Tasks, 1, []),
    {Tasks, iolist_to_binary(lists:join("\n", Warnings))}.

hold_invariants(Tasks, FirstId, Existing) ->
    Ids = lists:seq(FirstId, FirstId + length(Tasks) - 1),
    ?assertEqual(Ids, [Id || #{id := Id} <- Tasks]),
    [holds_invariants(Task, Ids, Existing) || Task <- Tasks].

holds_invariants(#{id := Id, title := Title, dependencies := Needs} = Task, Ids,
                 Existing) ->
    ?assert(string:length(Title) >= 1),
    ?assert(string:length(Title) =< 200),
    ?assertEqual(nomatch, re:run(Title, "[\\n\\r]|^\\s|\\s$")),
    ?assertEqual(lists:usort(Needs), lists:sort(Needs)),
    [?assert(lists:member(N, Existing)
             orelse (lists:member(N, Ids) andalso N < Id)) || N <- Needs],
    ?assertMatch(#{status := pending, subtasks := []}, Task),
    ?assert(lists:member(maps:get(priority, Task), [high, medium, low])).

list(Tasks) ->
    #{tasks => Tasks}.

%% A task as a good model writes it.
task(Id, Title) ->
    task(Id, Title, []).

task(Id, Title, Needs) ->
    #{id => Id, title => Title, description => <<"What it is">>,
      details => <<"How it is done">>, test_strategy => <<"How it is checked">>,
      priority => medium, dependencies => Needs, estimated_hours => 2}.

three() ->
    [task(1, <<"One">>), task(2, <<"Two">>, [1]), task(3, <<"Three">>, [2])].

titles(Tasks) ->
    [Title || #{title := Title} <- Tasks].

needs(Tasks) ->
    [{Title, Needs} || #{title := Title, dependencies := Needs} <- Tasks].

mentions(Text, Part) ->
    ?assertNotEqual(nomatch, string:find(Text, Part)).

%% ---------------------------------------------------------------- numbers

ids_with_gaps_are_renumbered(Config) ->
    Tasks = tasks(Config, list([task(1, <<"One">>), task(2, <<"Two">>, [1]),
                                task(4, <<"Four">>, [2, 1])])),
    ?assertEqual([{<<"One">>, []}, {<<"Two">>, [1]}, {<<"Four">>, [1, 2]}],
                 [{T, lists:sort(N)} || {T, N} <- needs(Tasks)]).

ids_used_twice_are_renumbered(Config) ->
    Tasks = tasks(Config, list([task(1, <<"One">>), task(2, <<"Two">>, [1]),
                                task(2, <<"Also two">>, [1])])),
    ?assertEqual([<<"One">>, <<"Two">>, <<"Also two">>], titles(Tasks)).

ids_from_zero_are_renumbered(Config) ->
    Tasks = tasks(Config, list([task(0, <<"Zero">>), task(1, <<"One">>, [0]),
                                task(2, <<"Two">>, [1])])),
    ?assertEqual([{<<"Zero">>, []}, {<<"One">>, [1]}, {<<"Two">>, [2]}],
                 needs(Tasks)).

ids_as_text_are_renumbered(Config) ->
    Tasks = tasks(Config, list([task(<<"1">>, <<"One">>),
                                task(<<"T-2">>, <<"Two">>, [<<"1">>]),
                                task(<<"3">>, <<"Three">>, [<<"T-2">>, 1])])),
    ?assertEqual([{<<"One">>, []}, {<<"Two">>, [1]}, {<<"Three">>, [1, 2]}],
                 [{T, lists:sort(N)} || {T, N} <- needs(Tasks)]).

ids_start_at_next_id(Config) ->
    {{ok, Tasks}, [_]} = ask(Config, {parse_prd, ?DOCUMENT, 3,
                                      #{next_id => 8}}, [list(three())]),
    hold_invariants(Tasks, 8, []),
    ?assertEqual([{<<"One">>, []}, {<<"Two">>, [8]}, {<<"Three">>, [9]}],
                 needs(Tasks)).

%% --------------------------------------------------------------- wrapping

a_code_fence_is_taken_off(Config) ->
    Json = test_json:encode(list(three())),
    [?assertEqual([<<"One">>, <<"Two">>, <<"Three">>],
                  titles(tasks(Config, iolist_to_binary(Text))))
     || Text <- [["```json\n", Json, "\n```"], ["```\n", Json, "\n```\n"],
                 ["Here you are:\n\n```json\n", Json, "\n```\nEnjoy!"]]].

prose_around_the_json_is_taken_off(Config) ->
    Json = test_json:encode(list(three())),
    Tasks = tasks(Config, <<"Sure! Here are {three} tasks: ", Json/binary,
                            " Let me know [if] you need more.">>),
    ?assertEqual(3, length(Tasks)).

a_bare_array_is_accepted(Config) ->
    ?assertEqual(3, length(tasks(Config, test_json:encode(three())))).

another_member_name_is_accepted(Config) ->
    [?assertEqual(3, length(tasks(Config, Json)))
     || Json <- [#{data => three()}, #{items => three()},
                 #{data => list(three())}]].

%% ----------------------------------------------------------- dependencies

a_forward_dependency_is_kept_by_sorting(Config) ->
    Tasks = tasks(Config, list([task(1, <<"Roof">>, [2]),
                                task(2, <<"Walls">>)])),
    ?assertEqual([{<<"Walls">>, []}, {<<"Roof">>, [1]}], needs(Tasks)).

a_list_out_of_order_keeps_its_dependencies(Config) ->
    Tasks = tasks(Config, list([task(3, <<"Roof">>, [2]), task(1, <<"Floor">>),
                                task(2, <<"Walls">>, [1])])),
    ?assertEqual([{<<"Floor">>, []}, {<<"Walls">>, [1]}, {<<"Roof">>, [2]}],
                 needs(Tasks)).

a_cycle_loses_one_edge_and_a_warning_names_it(Config) ->
    {Tasks, Warnings} =
        tasks_and_warnings(Config, list([task(1, <<"Hen">>, [2]),
                                         task(2, <<"Egg">>, [1])])),
    ?assertEqual(1, length(lists:append([N || {_, N} <- needs(Tasks)]))),
    mentions(Warnings, "cycle").

a_dangling_dependency_is_dropped_with_a_warning(Config) ->
    {Tasks, Warnings} =
        tasks_and_warnings(Config, list([task(1, <<"One">>),
                                         task(2, <<"Two">>, [1, 9])])),
    ?assertEqual([{<<"One">>, []}, {<<"Two">>, [1]}], needs(Tasks)),
    mentions(Warnings, "9").

a_dependency_on_itself_or_twice_is_dropped(Config) ->
    Tasks = tasks(Config, list([task(1, <<"One">>),
                                task(2, <<"Two">>, [2, 1, 1])])),
    ?assertEqual([{<<"One">>, []}, {<<"Two">>, [1]}], needs(Tasks)).

a_dependency_on_an_existing_task_is_kept(Config) ->
    {{ok, Tasks}, [_]} =
        ask(Config, {parse_prd, ?DOCUMENT, 2, #{next_id => 8,
                                                existing => [3, 7]}},
            [list([task(8, <<"One">>, [7]), task(9, <<"Two">>, [8, 3, 4])])]),
    hold_invariants(Tasks, 8, [3, 7]),
    ?assertEqual([{<<"One">>, [7]}, {<<"Two">>, [3, 8]}],
                 [{T, lists:sort(N)} || {T, N} <- needs(Tasks)]).

%% ----------------------------------------------------------------- fields

%% The one task that comes of one with these fields instead of the good ones.
field(Config, Fields) ->
    [Task] = tasks(Config, list([maps:merge(task(1, <<"One">>), Fields)])),
    Task.

status_is_always_pending(Config) ->
    ?assertMatch(#{status := pending}, field(Config, #{status => done})).

priorities_are_understood(Config) ->
    [?assertMatch(#{priority := Want}, field(Config, #{priority => Said}))
     || {Said, Want} <- [{<<"High">>, high}, {<<"critical">>, high},
                         {<<"urgent">>, high}, {<<"LOW">>, low},
                         {<<"minor">>, low}, {<<"normal">>, medium},
                         {<<"whatever">>, medium}, {null, medium},
                         {7, medium}]].

titles_are_one_line_and_short(Config) ->
    ?assertMatch(#{title := <<"Two lines">>},
                 field(Config, #{title => <<"  Two\nlines \r\n">>})),
    #{title := Long} =
        field(Config, #{title => binary:copy(<<"größe "/utf8>>, 100)}),
    ?assert(string:length(Long) =< 200),
    ?assertMatch(<<"größe größe"/utf8, _/binary>>, Long).

absent_text_is_nil(Config) ->
    Full = task(1, <<"One">>),
    [Bare] = tasks(Config, list([maps:with([id, title], Full)])),
    ?assertMatch(#{description := nil, details := nil, test_strategy := nil,
                   dependencies := [], estimated_hours := nil}, Bare),
    ?assertMatch(#{details := nil, test_strategy := nil},
                 field(Config, #{details => null, test_strategy => null})).

hours_are_a_number_or_nil(Config) ->
    [begin
         #{estimated_hours := Hours} =
             field(Config, #{estimated_hours => Said}),
         ?assert(Hours =:= nil orelse (is_number(Hours) andalso Hours >= 0))
     end || Said <- [3, 2.5, 0, null, -4, <<"3">>, <<"a day">>, [], 1.0e300]],
    #{estimated_hours := Half} = field(Config, #{estimated_hours => 2.5}),
    ?assert(Half == 2.5).

text_is_valid_and_without_nul(Config) ->
    Json = <<"{\"tasks\":[{\"id\":1,\"title\":\"A\\u0000 b\\ud800\","
             "\"description\":\"c\\u0000d\",\"details\":\"\\udc00\"}]}">>,
    [Task] = tasks(Config, Json),
    [begin
         Text = maps:get(Key, Task),
         ?assertEqual(nomatch, binary:match(Text, <<0>>)),
         ?assert(is_list(unicode:characters_to_list(Text)))
     end || Key <- [title, description, details]].

%% ----------------------------------------------------------------- counts

too_few_tasks_get_one_repair_turn(Config) ->
    repaired(Config, list(lists:sublist(three(), 2)), list(three())).

too_many_tasks_get_one_repair_turn(Config) ->
    repaired(Config, list(three() ++ [task(4, <<"Four">>)]), list(three())).

%% The second question holds the first answer and quotes what is wrong.
repaired(Config, Bad, Good) ->
    {{ok, Tasks}, [First, Second]} =
        ask(Config, {parse_prd, ?DOCUMENT, 3}, [Bad, Good]),
    ?assertEqual(3, length(Tasks)),
    hold_invariants(Tasks, 1, []),
    Before = length(messages(First)),
    {Kept, [Answer, Fault]} = lists:split(Before, messages(Second)),
    ?assertEqual(messages(First), Kept),
    ?assertMatch(#{<<"role">> := <<"assistant">>}, Answer),
    ?assertEqual(test_json:encode(Bad), maps:get(<<"content">>, Answer)),
    #{<<"role">> := <<"user">>, <<"content">> := Said} = Fault,
    mentions(Said, "3"),
    mentions(Said, integer_to_list(length(maps:get(tasks, Bad)))).

messages(#{json := #{<<"messages">> := Messages}}) ->
    Messages.

a_count_that_stays_wrong_is_an_error(Config) ->
    Two = list(lists:sublist(three(), 2)),
    {Answer, Requests} = ask(Config, {parse_prd, ?DOCUMENT, 3}, [Two, Two]),
    ?assertMatch({error, {task_count, #{wanted := 3, got := 2,
                                        message := _}}}, Answer),
    ?assertEqual(2, length(Requests)).

an_empty_list_is_an_error(Config) ->
    {Answer, Requests} = ask(Config, {parse_prd, ?DOCUMENT, 10}, [list([])]),
    ?assertMatch({error, {task_count, #{wanted := 10, got := 0}}}, Answer),
    ?assertEqual(2, length(Requests)).

about_is_enough_when_the_caller_says_so(Config) ->
    Two = list(lists:sublist(three(), 2)),
    {{ok, #{result := Tasks, warnings := [_ | _]}}, _} =
        ask(Config, {parse_prd, ?DOCUMENT, 3, #{count => about,
                                                return => full}}, [Two]),
    ?assertEqual(2, length(Tasks)).

zero_lets_the_model_decide(Config) ->
    ?assertEqual(3, length(tasks(Config, list(three())))).

%% ----------------------------------------------------------------- repair

an_answer_without_json_gets_one_repair_turn(Config) ->
    {{ok, Tasks}, [_, Second]} =
        ask(Config, {parse_prd, ?DOCUMENT, 3},
            [<<"I would start with the cart.">>, list(three())]),
    ?assertEqual(3, length(Tasks)),
    ?assertMatch([#{<<"role">> := <<"assistant">>},
                  #{<<"role">> := <<"user">>}],
                 lists:nthtail(length(messages(Second)) - 2, messages(Second))).

an_answer_that_stays_wrong_is_invalid_output(Config) ->
    {Answer, Requests} = ask(Config, {parse_prd, ?DOCUMENT, 3},
                             [<<"I would start with the cart.">>]),
    ?assertMatch({error, {invalid_output, #{message := _}}}, Answer),
    ?assertEqual(2, length(Requests)).

a_task_without_a_title_is_named_by_its_path(Config) ->
    Bad = list([task(1, <<"One">>), maps:remove(title, task(2, <<>>)),
                task(3, <<"   ">>)]),
    {Answer, [_, Second]} = ask(Config, {parse_prd, ?DOCUMENT, 3}, [Bad]),
    ?assertMatch({error, {invalid_output, #{path := <<"tasks[1].title">>}}},
                 Answer),
    #{<<"content">> := Said} = lists:last(messages(Second)),
    mentions(Said, "tasks[1].title").

a_repaired_answer_is_checked_again(Config) ->
    {{ok, Tasks}, _} =
        ask(Config, {parse_prd, ?DOCUMENT, 3},
            [<<"no">>, list([task(7, <<"One">>), task(9, <<"Two">>, [7, 99]),
                             task(9, <<"Three">>)])]),
    hold_invariants(Tasks, 1, []).

%% ----------------------------------------------------------------- length

%% The text of a list that ends in the middle of its last task.
cut_text(Tasks) ->
    Text = test_json:encode(list(Tasks)),
    {cut, binary:part(Text, 0, byte_size(Text) - 40)}.

a_truncated_answer_is_continued(Config) ->
    Four = three() ++ [task(4, <<"Four">>, [3])],
    {{ok, Tasks}, [_, _]} =
        ask(Config, {parse_prd, ?DOCUMENT, 4},
            [cut_text(three()), list(lists:nthtail(2, Four))]),
    hold_invariants(Tasks, 1, []),
    ?assertEqual([{<<"One">>, []}, {<<"Two">>, [1]}, {<<"Three">>, [2]},
                  {<<"Four">>, [3]}], needs(Tasks)).

%% The continuation is asked for what is missing, not for all of it.
a_truncated_answer_keeps_its_complete_tasks(Config) ->
    {{ok, _}, [_, Second]} =
        ask(Config, {parse_prd, ?DOCUMENT, 3},
            [cut_text(three()), list([task(3, <<"Three">>, [2])])]),
    Asked = iolist_to_binary([Text || #{<<"content">> := Text}
                                          <- messages(Second)]),
    mentions(Asked, "Two").

a_model_that_never_finishes_is_an_error(Config) ->
    {{error, {Code, _}}, Requests} =
        ask(Config, {parse_prd, ?DOCUMENT, 20},
            [{cut, <<"{\"tasks\":[{\"id\":1,\"ti">>}]),
    ?assert(lists:member(Code, [invalid_output, task_count])),
    ?assert(length(Requests) =< 6).

%% ---------------------------------------------------------------- options

a_full_return_has_warnings_and_cost(Config) ->
    {{ok, Full}, [_]} =
        ask(Config, {parse_prd, ?DOCUMENT, 2, #{return => full,
                                                model => <<"gpt-4o">>}},
            [list([task(1, <<"One">>), task(5, <<"Two">>, [1])])]),
    ?assertMatch(#{result := [_, _], warnings := [W | _], attempts := 1,
                   provider := _, usage := #{input_tokens := In},
                   duration_ms := Ms, request_id := _}
                   when is_binary(W) andalso is_integer(In)
                        andalso is_integer(Ms), Full),
    ?assertMatch(#{model := <<"gpt-4o", _/binary>>}, Full),
    ?assert(is_map_key(cost_usd, Full)).

string_keys_are_given_when_asked_for(Config) ->
    {{ok, [Task | _]}, _} =
        ask(Config, {parse_prd, ?DOCUMENT, 3, #{keys => strings}},
            [list(three())]),
    ?assertMatch(#{<<"id">> := 1, <<"title">> := <<"One">>,
                   <<"dependencies">> := [], <<"subtasks">> := []}, Task),
    ?assert(lists:all(fun is_binary/1, maps:keys(Task))).

the_request_asks_for_a_strict_schema(Config) ->
    {_, [#{json := Json, headers := Headers}]} =
        ask(Config, {parse_prd, ?DOCUMENT, 3, #{temperature => 0.5,
                                                max_tokens => 900}},
            [list(three())]),
    ?assertMatch(#{<<"stream">> := true,
                   <<"response_format">> :=
                       #{<<"type">> := <<"json_schema">>,
                         <<"json_schema">> :=
                             #{<<"name">> := <<"task_list">>,
                               <<"strict">> := true,
                               <<"schema">> :=
                                   #{<<"type">> := <<"object">>,
                                     <<"additionalProperties">> := false,
                                     <<"required">> := [<<"tasks">>]}}}},
                 Json),
    ?assertMatch(#{<<"max_tokens">> := 900}, Json),
    ?assertMatch(#{<<"authorization">> := <<"Bearer sk-test-key">>,
                   <<"content-type">> := <<"application/json">>}, Headers).

schema() ->
    #{type => object, required => [<<"name">>, <<"age">>],
      additionalProperties => false,
      properties => #{name => #{type => string}, age => #{type => integer}}}.

a_callers_schema_is_enforced(Config) ->
    {{ok, Response}, [_]} =
        ask(Config, {call_with_prompt, simple, <<"Who?">>,
                     #{schema => schema()}},
            [#{name => <<"Ann">>, age => 41}]),
    ?assertMatch(#{object := #{<<"name">> := <<"Ann">>, <<"age">> := 41}},
                 Response).

a_callers_schema_is_repaired_once(Config) ->
    Op = {call_with_prompt, simple, <<"Who?">>, #{schema => schema()}},
    Bad = #{name => <<"Ann">>, age => <<"old">>},
    {{ok, #{object := #{<<"age">> := 41}}}, [_, Second]} =
        ask(Config, Op, [Bad, #{name => <<"Ann">>, age => 41}]),
    #{<<"content">> := Said} = lists:last(messages(Second)),
    mentions(Said, "age"),
    {Answer, Requests} = ask(Config, Op, [Bad]),
    ?assertMatch({error, {invalid_output, #{path := <<"age">>}}}, Answer),
    ?assertEqual(2, length(Requests)).

one_request_id_is_one_provider_call(Config) ->
    Provider = bed:provider(Config),
    Server = {llm_router, bed:node(Config)},
    scripted_provider:set_handler(
      Provider, fun(_) -> [{sleep, 300}
                           | scripted_provider:answer(<<"Hello">>)] end),
    Op = {call_with_prompt, simple, <<"hi">>, #{request_id => <<"r-1">>}},
    Answers = bed:on(bed:caller(Config),
                     fun() ->
                             Ids = [gen_server:send_request(Server, Op)
                                    || _ <- lists:seq(1, 5)],
                             [begin
                                  {reply, R} = gen_server:receive_response(
                                                 Id, 5000),
                                  R
                              end || Id <- Ids]
                     end),
    Again = bed:call(Config, Op),
    [{ok, #{text := <<"Hello">>}}] = lists:usort([Again | Answers]),
    ?assertEqual(1, length(scripted_provider:requests(Provider))).

%% Fresh names in keys and values of twenty answers, counted in the caller.
no_atoms_come_from_a_model(Config) ->
    Odd = fun() -> iolist_to_binary(
                     io_lib:format("zz~b", [erlang:unique_integer([positive])]))
          end,
    Answer = fun() -> list([(task(1, <<"One">>))#{Odd() => Odd(),
                                                  priority => Odd()}]) end,
    Count = fun() -> bed:on(bed:caller(Config),
                            fun() -> erlang:system_info(atom_count) end) end,
    tasks(Config, Answer()),
    Before = Count(),
    [tasks(Config, Answer()) || _ <- lists:seq(1, 20)],
    ?assert(Count() - Before < 10).

%% ------------------------------------------------------- other operations

a_generated_task_may_come_in_a_list(Config) ->
    [begin
         {{ok, Task}, [_]} = ask(Config, {generate_task, <<"Build it">>},
                                 [Answer]),
         ?assertMatch(#{id := 1, title := <<"One">>}, Task)
     end || Answer <- [maps:without([id], task(1, <<"One">>)),
                       list([task(1, <<"One">>)]),
                       test_json:encode([task(1, <<"One">>)])]].

subtasks() ->
    #{subtasks => [maps:remove(priority, T) || T <- three()]}.

an_expanded_task_keeps_all_of_its_own_keys(Config) ->
    Mine = #{id => 7, title => <<"Build it">>, owner => ann,
             <<"note">> => <<"mine">>, 42 => {any, [term]}, dependencies => [3],
             priority => high, status => in_progress, subtasks => []},
    {{ok, Task}, [_]} = ask(Config, {expand_task, Mine, #{num => 3}},
                            [subtasks()]),
    ?assertEqual(maps:remove(subtasks, Mine), maps:remove(subtasks, Task)),
    Subtasks = maps:get(subtasks, Task),
    ?assertEqual([{<<"One">>, []}, {<<"Two">>, [1]}, {<<"Three">>, [2]}],
                 needs(Subtasks)),
    ?assertEqual([1, 2, 3], [Id || #{id := Id} <- Subtasks]),
    [?assertMatch(#{status := pending}, S) || S <- Subtasks].

an_expanded_task_mirrors_string_keys(Config) ->
    {{ok, Task}, _} = ask(Config, {expand_task, #{<<"title">> => <<"Build it">>,
                                                  <<"owner">> => <<"ann">>},
                                   #{num => 3}}, [subtasks()]),
    ?assertMatch(#{<<"title">> := <<"Build it">>, <<"owner">> := <<"ann">>,
                   <<"subtasks">> := [#{<<"id">> := 1,
                                        <<"title">> := <<"One">>} | _]}, Task),
    ?assertEqual(3, map_size(Task)).

an_expanded_task_has_as_many_subtasks_as_asked_for(Config) ->
    {Answer, [_, _]} = ask(Config, {expand_task, <<"Build it">>, #{num => 4}},
                           [subtasks()]),
    ?assertMatch({error, {task_count, #{wanted := 4, got := 3}}}, Answer),
    {{ok, #{subtasks := Free}}, [_]} =
        ask(Config, {expand_task, <<"Build it">>, #{num => 0}}, [subtasks()]),
    ?assertEqual(3, length(Free)).

the_context_reaches_the_model(Config) ->
    {{ok, _}, [Request]} =
        ask(Config, {expand_task, <<"Build it">>,
                     #{num => 3, context => <<"We only have Tuesdays">>}},
            [subtasks()]),
    mentions(iolist_to_binary([Text || #{<<"content">> := Text}
                                           <- messages(Request)]),
             "We only have Tuesdays").
