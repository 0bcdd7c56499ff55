%% One provider call for one question: request ids and the cache.
-module(sharing_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP(Opts), {call_with_prompt, simple, <<"Say hello to me">>, Opts}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% request ids
     an_id_in_flight_is_one_provider_call,
     an_id_just_answered_is_one_provider_call,
     an_id_of_another_question_is_refused,
     an_id_of_another_operation_is_refused,
     who_asks_in_another_style_shares_all_the_same,
     one_of_two_takers_may_leave,
     a_failure_is_not_kept,
     an_id_of_a_stream_is_taken,
     %% cache
     without_a_cache_each_question_is_asked,
     the_same_question_is_answered_from_the_cache,
     another_question_is_not,
     a_caller_can_leave_the_cache_out,
     a_cached_answer_costs_nothing,
     an_old_answer_is_forgotten,
     the_cache_is_bounded,
     task_lists_are_cached_too].

init_per_suite(Config) ->
    two_providers:up(Config, #{callers => 2}).

end_per_suite(Config) ->
    two_providers:down(Config).

models() ->
    [#{provider => <<"one">>, id => <<"small">>, in => 1, out => 2}].

with(Config, Settings, Test) ->
    Up = two_providers:router(Config, Settings, models()),
    try
        Test(Up)
    after
        {exited, 0} = bed:stop_router(Up)
    end.

set(Config, Name, Handler) ->
    scripted_provider:set_handler(two_providers:Name(Config), Handler).

slow() ->
    fun(_) -> [{sleep, 300} | scripted_provider:answer(<<"slow">>)] end.

asked(Up) ->
    element(1, two_providers:counts(Up)).

%% Answers of N calls made at once.
at_once(Up, Ops) ->
    Server = {llm_router, router:node(bed:router(Up))},
    bed:on(bed:caller(Up),
           fun() ->
                   Self = self(),
                   Pids = [spawn(fun() ->
                               Self ! {self(), gen_server:call(Server, Op)}
                           end) || Op <- Ops],
                   [receive {P, A} -> A end || P <- Pids]
           end).

cache() ->
    #{cache => #{max_bytes => 1000000, default => true}}.

%% ------------------------------------------------------------ request ids

an_id_in_flight_is_one_provider_call(Config) ->
    with(Config, #{}, fun(Up) ->
        set(Up, one, slow()),
        Op = ?OP(#{request_id => <<"same">>}),
        [{ok, First} | More] = at_once(Up, lists:duplicate(5, Op)),
        [?assertEqual({ok, First}, A) || A <- More],
        ?assertEqual(1, asked(Up))
    end).

an_id_just_answered_is_one_provider_call(Config) ->
    with(Config, #{}, fun(Up) ->
        Op = ?OP(#{request_id => <<"again">>}),
        {ok, First} = bed:call(Up, Op),
        ?assertEqual({ok, First}, bed:call(Up, Op)),
        ?assertMatch(#{request_id := <<"again">>}, First),
        ?assertEqual(1, asked(Up))
    end).

an_id_of_another_question_is_refused(Config) ->
    with(Config, #{}, fun(Up) ->
        {ok, _} = bed:call(Up, ?OP(#{request_id => <<"id">>})),
        Other = {call_with_prompt, simple, <<"Something else">>,
                 #{request_id => <<"id">>}},
        ?assertMatch({error, {invalid_request,
                              #{path := <<"opts.request_id">>}}},
                     bed:call(Up, Other)),
        set(Up, one, slow()),
        Now = ?OP(#{request_id => <<"now">>}),
        [{ok, _}, {error, {invalid_request, _}}] =
            at_once(Up, [Now, setelement(4, Other,
                                         #{request_id => <<"now">>})]),
        ?assertEqual(1, asked(Up))
    end).

an_id_of_another_operation_is_refused(Config) ->
    with(Config, #{}, fun(Up) ->
        Text = <<"Build a blog with comments">>,
        {ok, _} = bed:call(Up, {call_with_prompt, simple, Text,
                                #{request_id => <<"op">>}}),
        ?assertMatch({error, {invalid_request, _}},
                     bed:call(Up, {generate_task, Text,
                                   #{request_id => <<"op">>}}))
    end).

%% What concerns only the caller is no other question.
who_asks_in_another_style_shares_all_the_same(Config) ->
    with(Config, #{}, fun(Up) ->
        Id = #{request_id => <<"style">>},
        {ok, _} = bed:call(Up, ?OP(Id)),
        {ok, _} = bed:call(Up, ?OP(Id#{timeout => 5000, metadata => #{a => 1}})),
        ?assertEqual(1, asked(Up))
    end).

one_of_two_takers_may_leave(Config) ->
    with(Config, #{}, fun(Up) ->
        set(Up, one, slow()),
        Server = {llm_router, router:node(bed:router(Up))},
        Op = ?OP(#{request_id => <<"two">>}),
        ?assertMatch({ok, #{text := <<"slow">>}},
                     bed:on(bed:caller(Up), fun() ->
                         P = spawn(fun() -> gen_server:call(Server, Op) end),
                         timer:sleep(100),
                         spawn(fun() -> timer:sleep(50), exit(P, kill) end),
                         gen_server:call(Server, Op)
                     end)),
        ?assertEqual(1, asked(Up))
    end).

a_failure_is_not_kept(Config) ->
    with(Config, #{retry => #{max => 0},
                   routes => #{simple => [<<"one/small">>]}}, fun(Up) ->
        Op = ?OP(#{request_id => <<"fail">>}),
        set(Up, one, two_providers:fails(500)),
        {error, _} = bed:call(Up, Op),
        two_providers:reset(Up),
        ?assertMatch({ok, _}, bed:call(Up, Op))
    end).

an_id_of_a_stream_is_taken(Config) ->
    with(Config, #{}, fun(Up) ->
        set(Up, one, slow()),
        Messages = [#{role => user, content => <<"Say hello to me">>}],
        Op = {stream, simple, Messages, #{request_id => <<"s">>}},
        Server = {llm_router, router:node(bed:router(Up))},
        bed:on(bed:caller(Up), fun() ->
            {ok, _} = gen_server:call(Server, Op),
            {error, {invalid_request, #{path := <<"opts.request_id">>}}} =
                gen_server:call(Server, Op),
            ok
        end)
    end).

%% ------------------------------------------------------------------ cache

without_a_cache_each_question_is_asked(Config) ->
    with(Config, #{}, fun(Up) ->
        [{ok, _} = bed:call(Up, ?OP(#{cache => true})) || _ <- [1, 2]],
        ?assertEqual(2, asked(Up))
    end).

the_same_question_is_answered_from_the_cache(Config) ->
    with(Config, cache(), fun(Up) ->
        {ok, #{text := Text}} = bed:call(Up, ?OP(#{})),
        ?assertMatch({ok, #{text := Text, request_id := <<"mine">>}},
                     bed:call(Up, ?OP(#{request_id => <<"mine">>}))),
        {ok, #{<<"text">> := Text}} = bed:call(Up, ?OP(#{keys => strings})),
        ?assertEqual(1, asked(Up)),
        ?assertMatch(#{cache := #{hits := 2, misses := 1, entries := 1}},
                     bed:call(Up, stats))
    end).

another_question_is_not(Config) ->
    with(Config, cache(), fun(Up) ->
        Ops = [?OP(#{}), ?OP(#{temperature => 0.5}), ?OP(#{max_tokens => 9}),
               {call_with_prompt, medium, <<"Say hello to me">>},
               {call_with_prompt, simple, <<"Say hello to me!">>},
               {call_with_system, simple, <<"Be brief">>,
                <<"Say hello to me">>}],
        [{ok, _} = bed:call(Up, Op) || Op <- Ops],
        ?assertEqual(length(Ops), asked(Up))
    end).

a_caller_can_leave_the_cache_out(Config) ->
    with(Config, cache(), fun(Up) ->
        [{ok, _} = bed:call(Up, ?OP(#{cache => false})) || _ <- [1, 2]],
        ?assertEqual(2, asked(Up))
    end),
    Asked = #{cache => #{max_bytes => 1000000}},
    with(Config, Asked, fun(Up) ->
        [{ok, _} = bed:call(Up, ?OP(#{})) || _ <- [1, 2]],
        [{ok, _} = bed:call(Up, ?OP(#{cache => true})) || _ <- [1, 2]],
        ?assertEqual(3, asked(Up))
    end).

a_cached_answer_costs_nothing(Config) ->
    with(Config, cache(), fun(Up) ->
        {ok, #{cost_usd := Cost}} = bed:call(Up, ?OP(#{})),
        ?assert(Cost > 0),
        ?assertMatch({ok, #{cost_usd := +0.0, attempts := 0}},
                     bed:call(Up, ?OP(#{}))),
        ?assertMatch({ok, #{cached := true}},
                     bed:call(Up, ?OP(#{return => full})))
    end).

an_old_answer_is_forgotten(Config) ->
    Short = #{cache => #{max_bytes => 1000000, default => true,
                         age_ms => 1000}},
    with(Config, Short, fun(Up) ->
        [{ok, _} = bed:call(Up, ?OP(#{})) || _ <- [1, 2]],
        ?assertEqual(1, asked(Up)),
        timer:sleep(1200),
        {ok, _} = bed:call(Up, ?OP(#{})),
        ?assertEqual(2, asked(Up))
    end).

the_cache_is_bounded(Config) ->
    Small = #{cache => #{max_bytes => 65536, default => true}},
    with(Config, Small, fun(Up) ->
        [{ok, _} = bed:call(Up, {call_with_prompt, simple,
                                 integer_to_binary(I)})
         || I <- lists:seq(1000, 1200)],
        #{cache := #{bytes := Bytes, entries := Entries}} =
            bed:call(Up, stats),
        ?assert(Bytes =< 65536),
        ?assert(Entries > 0 andalso Entries < 201),
        %% the newest is there, the oldest is not
        Before = asked(Up),
        {ok, _} = bed:call(Up, {call_with_prompt, simple, <<"1200">>}),
        ?assertEqual(Before, asked(Up)),
        {ok, _} = bed:call(Up, {call_with_prompt, simple, <<"1000">>}),
        ?assertEqual(Before + 1, asked(Up))
    end).

task_lists_are_cached_too(Config) ->
    with(Config, cache(), fun(Up) ->
        set(Up, two, fun scripted_model:from_document/1),
        Op = {parse_prd, <<"# Blog\n\nPosts and comments.">>, 3},
        {ok, Tasks} = bed:call(Up, Op),
        ?assertEqual(3, length(Tasks)),
        ?assertEqual({ok, Tasks}, bed:call(Up, Op)),
        ?assertEqual(1, element(2, two_providers:counts(Up)))
    end).
