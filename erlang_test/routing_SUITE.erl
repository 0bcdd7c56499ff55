%% Which model answers, and which one when it does not.
-module(routing_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"Say hello to me">>}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% candidates
     the_first_candidate_answers,
     a_task_type_has_a_route_of_its_own,
     an_explicit_model_wins_and_has_no_fallback,
     an_alias_asks_for_the_model_it_stands_for,
     select_model_calls_nobody,
     the_decision_is_in_a_full_answer,
     no_model_for_a_capability_is_no_route,
     %% strategies
     cheapest_takes_the_cheapest,
     weighted_shares_by_weight,
     fastest_takes_the_one_that_was_fastest,
     %% failures
     another_candidate_answers_when_the_first_fails,
     a_bad_request_goes_nowhere_else,
     a_failing_provider_is_left_alone_and_probed,
     all_failing_is_said_at_once,
     a_question_that_a_dialect_cannot_put_goes_to_the_next,
     a_silent_first_leaves_time_for_the_second,
     a_long_question_goes_to_a_larger_model,
     a_retry_after_leaves_that_key_alone,
     a_key_that_is_refused_is_not_used_again,
     callers_that_give_up_find_a_mute_provider_out,
     an_answer_that_breaks_the_schema_goes_to_the_next,
     what_failed_attempts_cost_is_in_the_answer,
     %% compatibility
     the_modules_of_older_callers_answer].

init_per_suite(Config) ->
    two_providers:up(Config).

end_per_suite(Config) ->
    two_providers:down(Config).

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, Config) ->
    Config.

models() ->
    [#{provider => <<"one">>, id => <<"small">>, context => 1000, in => 1,
       out => 2, aliases => [<<"tiny">>]},
     #{provider => <<"two">>, id => <<"large">>, context => 100000, in => 0.5,
       out => 1}].

router(Config, Settings) ->
    two_providers:router(Config, Settings, models()).

with(Config, Settings, Test) ->
    Up = router(Config, Settings),
    try
        Test(Up)
    after
        {exited, 0} = bed:stop_router(Up)
    end.

fast() ->
    #{retry => #{max => 0}}.

set(Config, Name, Handler) ->
    scripted_provider:set_handler(two_providers:Name(Config), Handler).

text({ok, #{text := Text}}) -> Text;
text(Other) -> error({no_text, Other}).

%% ------------------------------------------------------------- candidates

the_first_candidate_answers(Config) ->
    with(Config, #{}, fun(Up) ->
        ?assertEqual(<<"one">>, text(bed:call(Up, ?OP))),
        ?assertEqual({1, 0}, two_providers:counts(Up))
    end).

a_task_type_has_a_route_of_its_own(Config) ->
    Routes = #{simple => [<<"one/small">>],
               'simple/parser' => [<<"two/large">>],
               '*/qa' => [<<"two/large">>],
               complex => [<<"one/small">>], medium => [<<"one/small">>]},
    with(Config, #{routes => Routes}, fun(Up) ->
        Ask = fun(Complexity, Type) ->
                      text(bed:call(Up, {call_with_prompt, Complexity,
                                         <<"Hello there">>,
                                         #{task_type => Type}}))
              end,
        ?assertEqual(<<"one">>, Ask(simple, chat)),
        ?assertEqual(<<"two">>, Ask(simple, parser)),
        ?assertEqual(<<"two">>, Ask(complex, qa)),
        ?assertEqual(<<"one">>, Ask(complex, coder))
    end).

an_explicit_model_wins_and_has_no_fallback(Config) ->
    with(Config, fast(), fun(Up) ->
        Op = {call_with_prompt, <<"two/large">>, <<"Hello there">>},
        ?assertEqual(<<"two">>, text(bed:call(Up, Op))),
        set(Up, two, two_providers:fails(500)),
        ?assertMatch({error, {provider_error, #{http_status := 500}}},
                     bed:call(Up, Op)),
        ?assertEqual(0, element(1, two_providers:counts(Up)))
    end).

an_alias_asks_for_the_model_it_stands_for(Config) ->
    with(Config, #{}, fun(Up) ->
        {ok, _} = bed:call(Up, {call_with_prompt, <<"tiny">>, <<"Hello">>}),
        [#{json := #{<<"model">> := Model}}] =
            scripted_provider:requests(two_providers:one(Up)),
        ?assertEqual(<<"small">>, Model)
    end).

select_model_calls_nobody(Config) ->
    with(Config, #{}, fun(Up) ->
        ?assertMatch({ok, #{model := <<"small">>, provider := <<"one">>}},
                     bed:call(Up, {select_model, simple, chat})),
        ?assertMatch({ok, #{model := <<"large">>}},
                     bed:call(Up, {select_model, complex, architect})),
        ?assertEqual({0, 0}, two_providers:counts(Up))
    end).

the_decision_is_in_a_full_answer(Config) ->
    with(Config, fast(), fun(Up) ->
        set(Up, one, two_providers:fails(500)),
        {ok, #{route := Route, tried := Tried}} =
            bed:call(Up, {call_with_prompt, simple, <<"Hello there">>,
                          #{return => full, task_type => chat}}),
        ?assertMatch(#{complexity := simple, strategy := ordered,
                       task_type := <<"chat">>}, Route),
        ?assertMatch([#{provider := <<"one">>, error := provider_error,
                        http_status := 500},
                      #{provider := <<"two">>, model := <<"large">>,
                        error := nil}], Tried)
    end).

no_model_for_a_capability_is_no_route(Config) ->
    with(Config, #{}, fun(Up) ->
        ?assertMatch({error, {no_route, _}},
                     bed:call(Up, {call_with_prompt, simple, <<"Hello">>,
                                   #{capabilities => [vision]}}))
    end).

%% ------------------------------------------------------------- strategies

route(Strategy, Candidates) ->
    #{routes => #{simple => #{strategy => Strategy,
                              candidates => Candidates}}}.

cheapest_takes_the_cheapest(Config) ->
    with(Config, route(cheapest, [<<"one/small">>, <<"two/large">>]),
         fun(Up) ->
             ?assertEqual(<<"two">>, text(bed:call(Up, ?OP)))
         end).

weighted_shares_by_weight(Config) ->
    with(Config, route(weighted, [#{model => <<"one/small">>, weight => 3},
                                  #{model => <<"two/large">>, weight => 1}]),
         fun(Up) ->
             [{ok, _} = bed:call(Up, ?OP) || _ <- lists:seq(1, 400)],
             {One, Two} = two_providers:counts(Up),
             ?assertEqual(400, One + Two),
             %% 300 +- 6 standard deviations
             ?assert(One > 248 andalso One < 352)
         end).

fastest_takes_the_one_that_was_fastest(Config) ->
    with(Config, route(fastest, [<<"one/small">>, <<"two/large">>]),
         fun(Up) ->
             set(Up, one, fun(_) -> [{sleep, 150}
                                     | scripted_provider:answer(<<"one">>)]
                          end),
             [{ok, _} = bed:call(Up, ?OP) || _ <- [1, 2]],
             ?assertEqual({1, 1}, two_providers:counts(Up)),
             [?assertEqual(<<"two">>, text(bed:call(Up, ?OP)))
              || _ <- lists:seq(1, 5)]
         end).

%% --------------------------------------------------------------- failures

another_candidate_answers_when_the_first_fails(Config) ->
    with(Config, fast(), fun(Up) ->
        [begin
             two_providers:reset(Up),
             set(Up, one, Handler),
             ?assertEqual(<<"two">>, text(bed:call(Up, ?OP)))
         end || Handler <- [two_providers:fails(500), two_providers:fails(404),
                            two_providers:fails(429),
                            fun(_) -> [reset] end]]
    end).

a_bad_request_goes_nowhere_else(Config) ->
    with(Config, #{}, fun(Up) ->
        set(Up, one, two_providers:fails(400)),
        ?assertMatch({error, {invalid_request, #{http_status := 400}}},
                     bed:call(Up, ?OP)),
        ?assertEqual({1, 0}, two_providers:counts(Up))
    end).

%% 50 calls, then one after the bench: the first gets a few and a probe.
a_failing_provider_is_left_alone_and_probed(Config) ->
    with(Config, fast(), fun(Up) ->
        set(Up, one, two_providers:fails(500)),
        [?assertEqual(<<"two">>, text(bed:call(Up, ?OP)))
         || _ <- lists:seq(1, 50)],
        {Failed, 50} = two_providers:counts(Up),
        ?assert(Failed =< 10),
        #{keys := Keys} = bed:call(Up, stats),
        ?assertMatch([#{state := benched}],
                     [K || #{provider := <<"one">>} = K <- Keys]),
        two_providers:reset(Up),
        bed:eventually(fun() -> text(bed:call(Up, ?OP)) =:= <<"one">> end,
                       10000),
        ?assertEqual(<<"one">>, text(bed:call(Up, ?OP)))
    end).

all_failing_is_said_at_once(Config) ->
    with(Config, fast(), fun(Up) ->
        set(Up, one, two_providers:fails(500)),
        set(Up, two, two_providers:fails(500)),
        [{error, {provider_error, _}} = bed:call(Up, ?OP)
         || _ <- lists:seq(1, 10)],
        Before = two_providers:counts(Up),
        Start = bed:now_ms(),
        ?assertMatch({error, {provider_error, #{retry_after_ms := Ms}}}
                       when Ms > 0,
                     bed:call(Up, ?OP)),
        ?assert(bed:now_ms() - Start < bed:limit_ms(50)),
        ?assertEqual(Before, two_providers:counts(Up))
    end).

%% Ollama cannot force a tool.
a_question_that_a_dialect_cannot_put_goes_to_the_next(Config) ->
    One = #{dialect => <<"ollama">>,
            base_url => scripted_provider:url(two_providers:one(Config),
                                              ollama)},
    with(Config, #{one => One}, fun(Up) ->
        Opts = #{tools => [#{name => <<"look">>, description => <<"Looks">>}],
                 tool_choice => {tool, <<"look">>}},
        ?assertEqual(<<"two">>,
                     text(bed:call(Up, {call_with_prompt, simple,
                                        <<"Hello there">>, Opts}))),
        ?assertEqual({0, 1}, two_providers:counts(Up)),
        ?assertMatch({error, {invalid_request,
                              #{path := <<"opts.tool_choice">>}}},
                     bed:call(Up, {call_with_prompt, <<"one/small">>,
                                   <<"Hello there">>, Opts}))
    end).

a_silent_first_leaves_time_for_the_second(Config) ->
    with(Config, fast(), fun(Up) ->
        [begin
             two_providers:reset(Up),
             set(Up, one, Handler),
             ?assertEqual(<<"two">>,
                          text(bed:call(Up, {call_with_prompt, simple,
                                             <<"Hello there">>,
                                             #{timeout => 2000}})))
         end || Handler <- [two_providers:hangs(), stalls()]]
    end).

stalls() ->
    fun(_) ->
            [Head, Role, First | _] =
                scripted_provider:stream(<<"Hello there, you">>, #{}),
            [Head, Role, First, hang]
    end.

a_long_question_goes_to_a_larger_model(Config) ->
    TooLong = fun(_) ->
                      [{status, 400},
                       {body, <<"{\"error\":{\"message\":\"too long\",\"code\":"
                                "\"context_length_exceeded\"}}">>}]
              end,
    with(Config, #{}, fun(Up) ->
        set(Up, one, TooLong),
        ?assertEqual(<<"two">>, text(bed:call(Up, ?OP))),
        ?assertEqual({1, 1}, two_providers:counts(Up))
    end),
    Smaller = #{routes => #{simple => [<<"two/large">>, <<"one/small">>]}},
    with(Config, Smaller, fun(Up) ->
        set(Up, two, TooLong),
        ?assertMatch({error, {too_large, _}}, bed:call(Up, ?OP)),
        ?assertEqual({0, 1}, two_providers:counts(Up))
    end).

two_keys() ->
    #{one => #{keys => [#{name => <<"a">>, env => <<"ONE_A">>},
                        #{name => <<"b">>, env => <<"ONE_B">>}]},
      env => [{"ONE_A", "key-a"}, {"ONE_B", "key-b"}]}.

by_key(Refused, Answer) ->
    fun(#{headers := Headers} = Request) ->
            case maps:get(<<"authorization">>, Headers) of
                Refused -> Answer(Request);
                _ -> scripted_provider:answer(<<"one">>)
            end
    end.

keys_seen(Up) ->
    [maps:get(<<"authorization">>, H)
     || #{headers := H} <- scripted_provider:requests(two_providers:one(Up))].

a_retry_after_leaves_that_key_alone(Config) ->
    Limited = two_providers:fails(429, [{<<"retry-after">>, <<"60">>}]),
    with(Config, two_keys(), fun(Up) ->
        set(Up, one, by_key(<<"Bearer key-a">>, Limited)),
        [?assertEqual(<<"one">>, text(bed:call(Up, ?OP)))
         || _ <- lists:seq(1, 10)],
        ?assert(length([K || <<"Bearer key-a">> = K <- keys_seen(Up)]) =< 1),
        ?assertEqual(0, element(2, two_providers:counts(Up)))
    end).

a_key_that_is_refused_is_not_used_again(Config) ->
    with(Config, two_keys(), fun(Up) ->
        set(Up, one, by_key(<<"Bearer key-b">>, two_providers:fails(401))),
        [?assertEqual(<<"one">>, text(bed:call(Up, ?OP)))
         || _ <- lists:seq(1, 10)],
        ?assert(length([K || <<"Bearer key-b">> = K <- keys_seen(Up)]) =< 1)
    end).

%% They leave before any deadline of the router: without a word from the
%% provider for 4 s that is its failure all the same.
callers_that_give_up_find_a_mute_provider_out(Config) ->
    with(Config, fast(), fun(Up) ->
        set(Up, one, two_providers:hangs()),
        Server = {llm_router, router:node(bed:router(Up))},
        GiveUp = fun() -> catch gen_server:call(Server, ?OP, 4300) end,
        bed:on(bed:caller(Up), fun() ->
            Pids = [spawn_monitor(GiveUp) || _ <- [1, 2, 3]],
            [receive {'DOWN', M, _, _, _} -> ok end || {_, M} <- Pids]
        end),
        ?assertEqual(<<"two">>, text(bed:call(Up, ?OP, 2000))),
        ?assertMatch(#{decisions := #{ordered := 4}},
                     bed:call(Up, stats))
    end).

an_answer_that_breaks_the_schema_goes_to_the_next(Config) ->
    Schema = #{type => object, properties => #{age => #{type => integer}},
               required => [age]},
    with(Config, #{}, fun(Up) ->
        set(Up, one, two_providers:says(<<"{\"age\":\"old\"}">>)),
        set(Up, two, two_providers:says(<<"{\"age\":7}">>)),
        ?assertMatch({ok, #{object := #{<<"age">> := 7}}},
                     bed:call(Up, {call_with_prompt, simple, <<"How old?">>,
                                   #{schema => Schema}})),
        %% the first one was told its fault
        ?assertEqual({2, 1}, two_providers:counts(Up)),
        set(Up, two, two_providers:says(<<"{\"age\":\"older\"}">>)),
        ?assertMatch({error, {invalid_output, #{path := <<"age">>}}},
                     bed:call(Up, {call_with_prompt, simple, <<"How old?">>,
                                   #{schema => Schema}}))
    end).

what_failed_attempts_cost_is_in_the_answer(Config) ->
    Usage = #{prompt_tokens => 1000000, completion_tokens => 1000000},
    Broken = fun(_) ->
                     scripted_provider:answer(<<"no json">>, #{usage => Usage})
             end,
    Good = fun(_) ->
                   scripted_provider:answer(<<"{\"a\":1}">>,
                                            #{usage => Usage})
           end,
    Op = {call_with_prompt, simple, <<"Give a">>,
          #{schema => #{type => object,
                        properties => #{a => #{type => integer}}}}},
    with(Config, #{}, fun(Up) ->
        set(Up, one, Broken),
        set(Up, two, Good),
        %% twice 1 + 2 dollars, then 0.5 + 1
        {ok, #{cost_usd := Cost, usage := #{input_tokens := Tokens}}} =
            bed:call(Up, Op),
        ?assertEqual(7.5, Cost),
        ?assertEqual(3000000, Tokens),
        set(Up, two, Broken),
        ?assertMatch({error, {invalid_output, #{cost_usd := 9.0}}},
                     bed:call(Up, Op))
    end).

%% ---------------------------------------------------------- compatibility

the_modules_of_older_callers_answer(Config) ->
    with(Config, #{}, fun(Up) ->
        Node = router:node(bed:router(Up)),
        Rpc = fun(M, F, A) ->
                      bed:on(bed:caller(Up),
                             fun() -> rpc:call(Node, M, F, A, 5000) end)
              end,
        Service = 'Elixir.LLM.Service',
        Messages = [#{role => user, content => <<"Hello there">>}],
        ?assertMatch({ok, #{text := <<"one">>}},
                     Rpc(Service, call, [simple, Messages])),
        ?assertMatch({ok, #{text := <<"one">>}},
                     Rpc(Service, call_with_prompt, [simple, <<"Hello">>, []])),
        ?assertMatch({ok, #{text := <<"one">>}},
                     Rpc(Service, call_with_system,
                         [simple, <<"Be brief">>, <<"Hello">>])),
        ?assertEqual(complex,
                     Rpc(Service, determine_complexity_for_task, [architect])),
        ?assert(lists:member(<<"one/small">>,
                             Rpc(Service, get_available_models, []))),
        ?assertMatch({ok, #{text := <<"two">>}},
                     Rpc('Elixir.Nexus.LLMRouter', route,
                         [#{complexity => complex, messages => Messages,
                            task_type => qa}])),
        ?assertMatch({ok, #{model := <<"small">>}},
                     Rpc('Elixir.Nexus.LLMRouter', select_model,
                         [simple, chat])),
        ?assertMatch({ok, #{text := <<"two">>}},
                     Rpc(gleam_router, route_completion,
                         [#{<<"model">> => <<"two/large">>,
                            <<"messages">> => Messages}])),
        ?assertMatch({badrpc, {'EXIT', {undef, _}}},
                     Rpc(Service, no_such_function, []))
    end).
