%% Answers that keep to a caller's JSON Schema: what is asked of the provider,
%% which rules are enforced whatever it answers, and what is repaired before a
%% paid answer is given up.
-module(structured_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(PROMPT, <<"Who is it?">>).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% rules
     every_rule_is_enforced_and_named_by_its_path,
     the_first_fault_is_told,
     the_fault_of_the_alternative_that_was_meant_is_told,
     a_schema_may_refer_to_itself,
     values_come_as_the_model_wrote_them,
     %% repair
     json_is_found_in_what_is_around_it,
     a_fault_is_quoted_to_the_model_once,
     an_answer_without_json_is_asked_for_again,
     an_answer_that_was_cut_is_asked_for_again,
     then_the_next_candidate_is_asked_anew,
     at_last_the_path_of_the_fault_is_told,
     a_streamed_answer_is_checked_at_its_end,
     a_call_of_a_tool_is_no_object,
     the_example_of_tools_in_the_docs_runs,
     %% what is sent
     a_schema_is_sent_in_its_strict_form,
     a_schema_without_a_strict_form_is_sent_as_it_is,
     the_prompt_shows_the_schema_as_it_was_written,
     nulls_for_optional_properties_are_left_out,
     %% limits
     what_is_no_schema_is_refused_by_path,
     unknown_keywords_are_refused_by_name,
     a_schema_without_end_is_refused,
     a_schema_too_deep_is_refused,
     a_schema_too_large_is_refused,
     an_answer_that_takes_too_much_work_is_refused,
     only_calls_take_a_schema].

init_per_suite(Config) ->
    two_providers:router(two_providers:up(Config), #{retry => #{max => 0}}, []).

end_per_suite(Config) ->
    {exited, 0} = bed:stop_router(Config),
    two_providers:down(Config).

init_per_testcase(_Case, Config) ->
    two_providers:reset(Config),
    Config.

end_per_testcase(_Case, Config) ->
    Config.

%% ---------------------------------------------------------------- scripts

%% Asks model one/small, which says Answers in turn: {Answer, Requests}.
ask(Config, Schema, Answers) ->
    ask(Config, Schema, Answers, #{model => <<"one/small">>}).

ask(Config, Schema, Answers, Opts) ->
    Provider = two_providers:one(Config),
    scripted_provider:set_handler(Provider,
                                  [scripted_provider:answer(A)
                                   || A <- Answers]),
    Answer = bed:call(Config, {call_with_prompt, simple, ?PROMPT,
                               Opts#{schema => Schema}}),
    {Answer, scripted_provider:requests(Provider)}.

messages(#{json := #{<<"messages">> := Messages}}) ->
    [{Role, Text} || #{<<"role">> := Role, <<"content">> := Text} <- Messages].

%% A schema of one property that is there.
v_of(Rule) ->
    #{type => object, properties => #{v => Rule}, required => [v]}.

person() ->
    #{type => object, required => [name, age], additionalProperties => false,
      properties => #{name => #{type => string}, age => #{type => integer}}}.

mentions(Text, Part) ->
    ?assertNotEqual({Text, nomatch}, {Text, string:find(Text, Part)}).

%% ------------------------------------------------------------------ rules

%% Schema of v, a value that keeps to it, one that does not, where it does not.
rules() ->
    [{#{type => Type}, Good, Bad, <<"v">>}
     || {Type, Good, Bad} <- [{null, null, 0}, {<<"null">>, null, 0},
                              {boolean, true, 0}, {integer, 3, 3.5},
                              {number, 3.5, <<"3.5">>},
                              {string, <<"3">>, 3}, {array, [], #{}},
                              {object, #{}, []}]]
        ++ [{#{type => [string, null]}, null, 3, <<"v">>},
            {#{type => integer}, 3.0, true, <<"v">>},
            {#{properties => #{a => #{type => integer}}}, #{a => 1},
             #{b => 2, a => <<"1">>}, <<"v.a">>},
            {#{required => [a, b]}, #{a => 1, b => null}, #{a => 1}, <<"v.b">>},
            {#{properties => #{a => true}, additionalProperties => false},
             #{a => 1}, #{a => 1, b => 2}, <<"v.b">>},
            {#{additionalProperties => #{type => integer}}, #{a => 1},
             #{a => <<"1">>}, <<"v.a">>},
            {#{items => #{type => integer}}, [1, 2], [1, 2, <<"3">>],
             <<"v[2]">>},
            {#{items => #{items => #{required => [a]}}}, [[#{a => 1}]],
             [[#{a => 1}, #{}]], <<"v[0][1].a">>},
            {#{enum => [red, 1, null]}, null, blue, <<"v">>},
            {#{enum => [red]}, red, 'Red', <<"v">>},
            {#{const => #{a => [1]}}, #{a => [1.0]}, #{a => [2]}, <<"v">>},
            {#{anyOf => [#{type => integer}, #{type => null}]}, null, <<"3">>,
             <<"v">>},
            {#{oneOf => [#{minimum => 2}, #{maximum => 4}]}, 5, 3, <<"v">>},
            {#{allOf => [#{minimum => 2}, #{maximum => 4}]}, 3, 5, <<"v">>},
            {#{'not' => #{type => string}}, 3, <<"3">>, <<"v">>},
            {#{minimum => 2}, 2, 1.9, <<"v">>},
            {#{maximum => 2}, 2, 2.1, <<"v">>},
            {#{exclusiveMinimum => 2}, 2.1, 2, <<"v">>},
            {#{exclusiveMaximum => 2}, 1.9, 2, <<"v">>},
            {#{multipleOf => 0.1}, 0.3, 0.35, <<"v">>},
            {#{minLength => 3}, <<"äöü"/utf8>>, <<"äö"/utf8>>, <<"v">>},
            {#{maxLength => 3}, <<"äöü"/utf8>>, <<"abcd">>, <<"v">>},
            {#{minItems => 1}, [0], [], <<"v">>},
            {#{maxItems => 1}, [0], [0, 1], <<"v">>},
            {#{uniqueItems => true}, [1, <<"1">>, true], [#{a => 1, b => 2}, 1,
                                                          #{b => 2, a => 1.0}],
             <<"v">>},
            {#{minProperties => 1}, #{a => 1}, #{}, <<"v">>},
            {#{maxProperties => 1}, #{a => 1}, #{a => 1, b => 2}, <<"v">>},
            {false, none, 1, <<"v">>}].

every_rule_is_enforced_and_named_by_its_path(Config) ->
    [keeps_to(Config, Rule, Good) || {Rule, Good, _, _} <- rules(),
                                     Good =/= none],
    [breaks(Config, v_of(Rule), #{v => Bad}, Path)
     || {Rule, _, Bad, Path} <- rules()].

keeps_to(Config, Rule, Good) ->
    {Answer, Requests} = ask(Config, v_of(Rule), [#{v => Good}]),
    case Answer of
        {ok, #{object := #{<<"v">> := _}}} when length(Requests) =:= 1 -> ok;
        _ -> error({Rule, Good, Answer})
    end.

%% The fault is told to the model, then to the caller.
breaks(Config, Schema, Bad, Path) ->
    case ask(Config, Schema, [Bad]) of
        {{error, {invalid_output, #{path := Path, message := M}}}, [_, Again]}
          when byte_size(M) > 0 ->
            {<<"user">>, Said} = lists:last(messages(Again)),
            mentions(Said, <<Path/binary, ": ", M/binary>>);
        Other ->
            error({Schema, Bad, {expected, Path}, {got, Other}})
    end.

the_first_fault_is_told(Config) ->
    breaks(Config, v_of(#{items => #{type => integer}}),
           #{v => [1, <<"a">>, <<"b">>]}, <<"v[1]">>).

the_fault_of_the_alternative_that_was_meant_is_told(Config) ->
    Circle = #{type => object, required => [kind, r],
               properties => #{kind => #{const => circle},
                               r => #{type => number}}},
    Box = #{type => object, required => [kind, size],
            properties => #{kind => #{const => box},
                            size => #{type => object, required => [w],
                                      properties => #{w => #{type =>
                                                                 number}}}}},
    [breaks(Config, v_of(#{Keyword => [Circle, Box]}),
            #{v => #{kind => box, size => #{w => <<"3">>}}}, <<"v.size.w">>)
     || Keyword <- [anyOf, oneOf]].

a_schema_may_refer_to_itself(Config) ->
    Tree = #{type => object, required => [name],
             properties => #{name => #{type => string},
                             parts => #{type => array,
                                        items => #{'$ref' =>
                                                       <<"#/$defs/tree">>}}}},
    Schema = (v_of(#{'$ref' => <<"#/$defs/tree">>}))#{'$defs' =>
                                                        #{tree => Tree}},
    Leaf = #{name => leaf},
    Good = #{v => #{name => root, parts => [Leaf, #{name => branch,
                                                    parts => [Leaf]}]}},
    {{ok, #{object := #{<<"v">> := #{<<"name">> := <<"root">>}}}}, [_]} =
        ask(Config, Schema, [Good]),
    breaks(Config, Schema, #{v => #{name => root,
                                    parts => [#{name => branch,
                                                parts => [#{name => 3}]}]}},
           <<"v.parts[0].parts[0].name">>).

values_come_as_the_model_wrote_them(Config) ->
    {{ok, #{object := Object, text := Text}}, [_]} =
        ask(Config, #{type => object},
            [<<"{\"a\":[1,-2.5,1e3,9007199254740993,true,false,null,\"\","
               "{\"b\":{}}],\"\\u00e4\\n\":\"\\ud83d\\ude00\"}">>]),
    ?assertEqual(#{<<"a">> => [1, -2.5, 1000.0, 9007199254740993, true, false,
                               nil, <<>>, #{<<"b">> => #{}}],
                   <<"ä\n"/utf8>> => <<"😀"/utf8>>}, Object),
    ?assertEqual($}, binary:last(Text)).

%% ----------------------------------------------------------------- repair

json_is_found_in_what_is_around_it(Config) ->
    Json = test_json:encode(#{name => <<"Ann">>, age => 41}),
    [begin
         {Answer, [_]} = ask(Config, person(), [iolist_to_binary(Text)]),
         ?assertMatch({_, {ok, #{object := #{<<"name">> := <<"Ann">>,
                                             <<"age">> := 41}}}},
                      {Text, Answer})
     end || Text <- [["```json\n", Json, "\n```"],
                     ["Sure, here is {the person}:\n", Json, "\nWhat else?"],
                     ["<think>{\"name\":\"Bob the Builder\",\"age\":1}",
                      "</think>", Json],
                     ["\n\n  ", Json, "  "],
                     [16#EF, 16#BB, 16#BF, Json],
                     "{\"name\": \"Ann\", \"age\": 41,}",
                     "{\"name\":\"Ann\",\n \"age\":41}\n{}"]].

a_fault_is_quoted_to_the_model_once(Config) ->
    Bad = #{name => <<"Ann">>, age => <<"old">>},
    {{ok, #{object := #{<<"age">> := 41}, attempts := 2}}, [First, Second]} =
        ask(Config, person(), [Bad, #{name => <<"Ann">>, age => 41}]),
    Fault = <<"Your answer cannot be used: age: must be of type integer, not "
              "string.\n\nSend the whole answer again with this corrected and "
              "all else kept, in the same form, JSON only.">>,
    [{<<"assistant">>, Said}, {<<"user">>, Told}] =
        messages(Second) -- messages(First),
    ?assertEqual(test_json:encode(Bad), Said),
    ?assertEqual(Fault, string:trim(Told)),
    ?assertEqual(messages(First), lists:sublist(messages(Second),
                                                length(messages(First)))).

an_answer_without_json_is_asked_for_again(Config) ->
    [begin
         {{ok, #{object := #{<<"age">> := 41}}}, [_, Second]} =
             ask(Config, person(), [Bad, #{name => <<"Ann">>, age => 41}]),
         {<<"user">>, Told} = lists:last(messages(Second)),
         mentions(Told, "no JSON")
     end || Bad <- [<<"It is Ann, who is 41.">>, <<"{name: Ann}">>]].

an_answer_that_was_cut_is_asked_for_again(Config) ->
    {{ok, #{object := #{<<"age">> := 41}}}, [_, Second]} =
        ask(Config, person(), [<<"{\"age\":41,\"name\":\"An">>,
                               #{name => <<"Ann">>, age => 41}]),
    {<<"user">>, Told} = lists:last(messages(Second)),
    mentions(Told, "cut").

%% The route's second model does not see what the first one wrote.
then_the_next_candidate_is_asked_anew(Config) ->
    Two = two_providers:two(Config),
    scripted_provider:set_handler(
      Two, [scripted_provider:answer(#{name => <<"Ann">>, age => 41})]),
    {{ok, #{result := #{object := #{<<"age">> := 41}}, provider := <<"two">>,
            tried := Tried}}, [First, _]} =
        ask(Config, person(), [#{name => <<"Ann">>}], #{return => full}),
    ?assertEqual([<<"one">>, <<"one">>, <<"two">>],
                 [P || #{provider := P} <- Tried]),
    [Other] = scripted_provider:requests(Two),
    ?assertEqual(messages(First), messages(Other)).

at_last_the_path_of_the_fault_is_told(Config) ->
    Two = two_providers:two(Config),
    scripted_provider:set_handler(
      Two, [scripted_provider:answer(#{name => 1, age => 2})]),
    {Answer, [_, _]} = ask(Config, person(), [#{name => <<"Ann">>}], #{}),
    ?assertMatch({error, {invalid_output, #{path := <<"name">>, attempts := 4,
                                            provider := <<"two">>}}}, Answer),
    ?assertEqual(2, length(scripted_provider:requests(Two))).

a_streamed_answer_is_checked_at_its_end(Config) ->
    Server = {llm_router, bed:node(Config)},
    [begin
         scripted_provider:set_handler(two_providers:one(Config),
                                       [scripted_provider:answer(Answer)]),
         {Last, Text} =
             bed:on(bed:caller(Config),
                    fun() ->
                            {ok, Ref} = gen_server:call(
                                          Server,
                                          {stream, simple,
                                           [{user, ?PROMPT}],
                                           #{schema => person()}}),
                            stream(Ref, <<>>)
                    end),
         ?assertEqual(test_json:encode(Answer), Text),
         case {Expected, Last} of
             {good, {done, #{object := #{<<"age">> := 41}}}} -> ok;
             {bad, {error, {invalid_output, #{message := _}}}} -> ok
         end,
         ?assertEqual({1, 0}, two_providers:counts(Config))
     end || {Expected, Answer} <- [{good, #{name => <<"Ann">>, age => 41}},
                                   {bad, #{name => <<"Ann">>}}]].

stream(Ref, Text) ->
    receive
        {llm_stream, Ref, {delta, More}} ->
            stream(Ref, <<Text/binary, More/binary>>);
        {llm_stream, Ref, Last} ->
            {Last, Text}
    after 10000 ->
            error({no_end, bed:drain()})
    end.

a_call_of_a_tool_is_no_object(Config) ->
    Call = #{id => <<"c1">>, name => <<"look">>, arguments => #{a => 1}},
    scripted_provider:set_handler(
      two_providers:one(Config),
      [scripted_provider:answer(<<>>, #{tool_calls => [Call]})]),
    Answer = bed:call(Config, {call_with_prompt, simple, ?PROMPT,
                               #{schema => person(),
                                 tools => [#{name => look}]}}),
    ?assertMatch({ok, #{object := nil, finish_reason := tool_calls,
                        tool_calls := [#{name := <<"look">>}]}}, Answer).

%% docs/calling.md, of which a tree that was made for tests may have no copy.
the_example_of_tools_in_the_docs_runs(Config) ->
    File = filename:join([router:project(), "docs", "calling.md"]),
    case file:read_file(File) of
        {ok, Text} -> run_example(Config, Text);
        {error, enoent} -> {skip, "there is no docs/calling.md"}
    end.

run_example(Config, Text) ->
    One = two_providers:one(Config),
    Call = #{id => <<"c1">>, name => <<"get_weather">>,
             arguments => #{city => <<"Oslo">>}},
    scripted_provider:set_handler(
      One, [scripted_provider:answer(<<>>, #{tool_calls => [Call]}),
            scripted_provider:answer(<<"It rains.">>)]),
    {match, [Code]} = re:run(Text, "^### Tools$.*?^```erlang\n(.*?)^```",
                             [multiline, dotall, {capture, [1], list}]),
    {ok, Tokens, _} = erl_scan:string(Code),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    Bindings = [{'Router', {llm_router, bed:node(Config)}},
                {'Messages', [#{role => user, content => ?PROMPT}]}],
    CallTool = fun(call_tool, [<<"get_weather">>,
                               #{<<"city">> := <<"Oslo">>}]) ->
                       <<"rain">>
               end,
    {value, Answer, _} = bed:on(bed:caller(Config),
                                fun() ->
                                        erl_eval:exprs(Expressions, Bindings,
                                                       {value, CallTool})
                                end),
    ?assertMatch({ok, #{text := <<"It rains.">>}}, Answer),
    [First, Second] = [maps:get(<<"messages">>, Json)
                       || #{json := Json} <- scripted_provider:requests(One)],
    ?assertMatch([#{<<"role">> := <<"assistant">>,
                    <<"tool_calls">> := [#{<<"id">> := <<"c1">>}]},
                  #{<<"role">> := <<"tool">>, <<"tool_call_id">> := <<"c1">>,
                    <<"content">> := <<"rain">>}],
                 lists:nthtail(length(First), Second)).

%% ----------------------------------------------------------- what is sent

%% The schema that the provider gets: {Strict, Schema}.
sent(Config, Schema, Answer) ->
    {{ok, _}, [#{json := #{<<"response_format">> := Format}}]} =
        ask(Config, Schema, [Answer]),
    #{<<"type">> := <<"json_schema">>,
      <<"json_schema">> := #{<<"schema">> := Sent} = Json} = Format,
    {maps:get(<<"strict">>, Json, false), Sent}.

%% A schema as JSON has it.
plain(Schema) ->
    test_json:decode(test_json:encode(Schema)).

a_schema_is_sent_in_its_strict_form(Config) ->
    {true, Kept} = sent(Config, person(), #{name => <<"Ann">>, age => 41}),
    ?assertEqual(plain(person()), Kept),
    Loose = #{type => object,
              required => [name],
              properties =>
                  #{name => #{type => string, minLength => 1,
                              description => <<"Hers">>},
                    age => #{type => integer, minimum => 0},
                    note => #{type => [string, null]},
                    tags => #{type => array, uniqueItems => true,
                              items => #{enum => [a, b]}},
                    home => #{type => object,
                              properties => #{zip => #{type => string}}}}},
    OrNull = fun(Schema) -> #{anyOf => [Schema, #{type => <<"null">>}]} end,
    Strict = #{type => object, additionalProperties => false,
               required => [name, age, note, tags, home],
               properties =>
                   #{name => #{type => string, description => <<"Hers">>},
                     age => OrNull(#{type => integer}),
                     note => #{type => [string, <<"null">>]},
                     tags => OrNull(#{type => array,
                                      items => #{type => string,
                                                 enum => [a, b]}}),
                     home => OrNull(#{type => object, required => [zip],
                                      additionalProperties => false,
                                      properties =>
                                          #{zip => OrNull(#{type =>
                                                                string})}})}},
    {true, Sent} = sent(Config, Loose, #{name => <<"Ann">>}),
    ?assertEqual(unordered(plain(Strict)), unordered(Sent)).

%% "required" has no order.
unordered(#{<<"required">> := Names} = Schema) ->
    maps:map(fun(_, V) -> unordered(V) end,
             Schema#{<<"required">> := lists:sort(Names)});
unordered(#{} = Schema) ->
    maps:map(fun(_, V) -> unordered(V) end, Schema);
unordered(List) when is_list(List) ->
    [unordered(E) || E <- List];
unordered(Value) ->
    Value.

a_schema_without_a_strict_form_is_sent_as_it_is(Config) ->
    [?assertEqual({false, plain(Schema)}, sent(Config, Schema, #{a => #{}}))
     || Schema <- [#{type => object},
                   #{type => object, additionalProperties => true,
                     properties => #{a => #{type => object}}},
                   #{type => object, properties => #{a => #{}}},
                   #{type => object,
                     properties => #{a => #{'not' => #{type => string}}}}]].

%% With what the strict form leaves out, and in the caller's own system message.
the_prompt_shows_the_schema_as_it_was_written(Config) ->
    Schema = v_of(#{type => integer, maximum => 7}),
    {{ok, _}, [Request]} = ask(Config, Schema, [#{v => 7}]),
    [{<<"system">>, System}, {<<"user">>, ?PROMPT}] = messages(Request),
    mentions(System, test_json:encode(7)),
    mentions(System, "\"maximum\":7"),
    {ok, _} = bed:call(Config, {call_with_system, simple, <<"Be kind">>,
                                ?PROMPT, #{model => <<"one/small">>,
                                           schema => Schema}}),
    [_, Second] = scripted_provider:requests(two_providers:one(Config)),
    [{<<"system">>, Both}, {<<"user">>, ?PROMPT}] = messages(Second),
    mentions(Both, "Be kind"),
    mentions(Both, "\"maximum\":7").

nulls_for_optional_properties_are_left_out(Config) ->
    Schema = #{type => object, required => [must],
               properties =>
                   #{must => #{type => [string, null]},
                     may => #{type => string},
                     free => #{type => [string, null]},
                     list => #{type => array,
                               items => #{type => object,
                                          properties =>
                                              #{x => #{type => integer}}}}}},
    Written = #{must => null, may => null, free => null,
                list => [#{x => null}, #{x => 1}]},
    {{ok, #{object := Object}}, [_]} = ask(Config, Schema, [Written]),
    ?assertEqual(#{<<"must">> => nil, <<"free">> => nil,
                   <<"list">> => [#{}, #{<<"x">> => 1}]}, Object),
    %% one that is required does not become optional
    breaks(Config, v_of(#{type => string}), #{v => null}, <<"v">>).

%% ----------------------------------------------------------------- limits

%% Refused at once, and nobody is asked.
refused(Config, Schema) ->
    {{error, {Code, #{message := _} = Details}}, []} =
        ask(Config, Schema, [#{}]),
    {Code, maps:get(path, Details)}.

what_is_no_schema_is_refused_by_path(Config) ->
    [?assertEqual({Schema, {invalid_request, Path}},
                  {Schema, refused(Config, Schema)})
     || {Schema, Path} <-
            [{[], <<"opts.schema">>}, {<<"{}">>, <<"opts.schema">>},
             {#{}, <<"opts.schema">>}, {#{type => array}, <<"opts.schema">>},
             {#{type => object, properties => []},
              <<"opts.schema.properties">>}]
            ++ [{v_of(Rule), <<"opts.schema.properties.v", Path/binary>>}
                || {Rule, Path} <-
                       [{3, <<>>}, {#{type => text}, <<".type">>},
                        {#{type => []}, <<".type">>},
                        {#{required => a}, <<".required">>},
                        {#{enum => []}, <<".enum">>},
                        {#{anyOf => [#{}, 3]}, <<".anyOf[1]">>},
                        {#{items => [#{}]}, <<".items">>},
                        {#{minimum => <<"3">>}, <<".minimum">>},
                        {#{maxLength => -1}, <<".maxLength">>},
                        {#{multipleOf => 0}, <<".multipleOf">>},
                        {#{uniqueItems => 1}, <<".uniqueItems">>},
                        {#{'$ref' => <<"https://example.com/s">>}, <<".$ref">>},
                        {#{'$ref' => <<"#/$defs/none">>}, <<".$ref">>}]]].

unknown_keywords_are_refused_by_name(Config) ->
    [?assertEqual({invalid_request,
                   <<"opts.schema.properties.v.", Name/binary>>},
                  refused(Config, v_of(#{Name => Value})))
     || {Name, Value} <- [{<<"pattern">>, <<"^a$">>},
                          {<<"patternProperties">>, #{}},
                          {<<"if">>, #{}}, {<<"prefixItems">>, []},
                          {<<"dependentRequired">>, #{}},
                          {<<"minimun">>, 3}]].

a_schema_without_end_is_refused(Config) ->
    ?assertEqual({invalid_request, <<"opts.schema.$ref">>},
                 refused(Config, #{type => object, '$ref' => <<"#">>})),
    Ref = fun(Name) -> #{'$ref' => <<"#/$defs/", Name/binary>>} end,
    {invalid_request, <<"opts.schema.", _/binary>>} =
        refused(Config, #{type => object,
                          '$defs' => #{a => #{anyOf => [Ref(<<"b">>)]},
                                       b => Ref(<<"a">>)}}).

nested(0) -> #{type => object};
nested(N) -> #{type => object, properties => #{v => nested(N - 1)}}.

a_schema_too_deep_is_refused(Config) ->
    {{ok, _}, [_]} = ask(Config, nested(63), [#{}]),
    [{invalid_request, <<"opts.schema", _/binary>>} =
         refused(Config, nested(N)) || N <- [64, 65, 200]].

a_schema_too_large_is_refused(Config) ->
    Many = fun(N) ->
                   #{type => object,
                     properties => maps:from_list(
                                     [{integer_to_binary(I), #{type => string}}
                                      || I <- lists:seq(1, N)])}
           end,
    {{ok, _}, [_]} = ask(Config, Many(1000), [#{}]),
    {invalid_request, <<"opts.schema", _/binary>>} =
        refused(Config, Many(10000)),
    Long = #{type => object, description => binary:copy(<<"x">>, 1100000)},
    ?assertEqual({too_large, <<"opts.schema">>}, refused(Config, Long)).

%% 2^40 ways to read 40 levels of alternatives.
an_answer_that_takes_too_much_work_is_refused(Config) ->
    Both = #{'$ref' => <<"#/$defs/both">>},
    Schema = (v_of(Both))#{'$defs' =>
                             #{both => #{oneOf => [#{items => Both},
                                                   #{items => Both,
                                                     minItems => 2}]}}},
    Deep = lists:foldl(fun(_, Inner) -> [Inner] end, 1, lists:seq(1, 40)),
    {Us, {Answer, _}} =
        timer:tc(fun() -> ask(Config, Schema, [#{v => Deep}]) end),
    ?assertMatch({error, {invalid_output, #{path := <<"v", _/binary>>}}},
                 Answer),
    ?assert(Us < bed:limit_ms(2000) * 1000).

only_calls_take_a_schema(Config) ->
    [?assertMatch({error, {invalid_request, #{path := <<"opts.schema">>}}},
                  bed:call(Config, Op))
     || Op <- [{generate_task, <<"Build it">>, #{schema => person()}},
               {parse_prd, <<"Build it">>, 1, #{schema => person()}},
               {research, <<"It">>, nil, #{schema => person()}},
               {analyze_complexity, [<<"It">>], #{schema => person()}},
               {embed, <<"It">>, #{schema => person()}}]].
