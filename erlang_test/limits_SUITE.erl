%% The router's own limits: who waits, who is refused, and what it may cost.
-module(limits_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"Say hello to me">>}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% slots
     calls_over_the_limit_wait_for_their_turn,
     a_full_queue_is_overloaded_at_once,
     a_flood_of_one_node_does_not_keep_another_waiting,
     a_node_can_have_a_limit_of_its_own,
     a_provider_can_have_a_limit_of_its_own,
     who_waits_too_long_times_out,
     who_dies_while_waiting_leaves_the_queue,
     thousands_can_wait,
     what_thousands_took_is_given_back,
     %% per minute
     requests_per_minute_go_to_the_next_candidate,
     requests_per_minute_are_said_when_there_is_no_other,
     tokens_per_minute_are_counted_as_they_were_used,
     room_that_comes_back_is_used,
     %% money
     a_budget_that_is_spent_is_said,
     the_budget_of_a_key_leaves_the_other_keys,
     what_is_spent_survives_a_kill].

init_per_suite(Config) ->
    two_providers:up(Config, #{callers => 2}).

end_per_suite(Config) ->
    two_providers:down(Config).

models() ->
    [#{provider => <<"one">>, id => <<"small">>, in => 1, out => 2},
     #{provider => <<"two">>, id => <<"large">>, in => 1, out => 2}].

with(Config, Settings, Test) ->
    Up = two_providers:router(Config, Settings, models()),
    connected(Up),
    try
        Test(Up)
    after
        {exited, 0} = bed:stop_router(Up)
    end.

%% Both callers are connected before anything is counted.
connected(Up) ->
    Node = router:node(bed:router(Up)),
    [true = bed:on(bed:caller(Up, I),
                   fun() -> net_kernel:connect_node(Node) end) || I <- [1, 2]].

only_one() ->
    #{routes => #{simple => [<<"one/small">>]}}.

set(Config, Name, Handler) ->
    scripted_provider:set_handler(two_providers:Name(Config), Handler).

slow(Ms) ->
    fun(_) -> [{sleep, Ms} | scripted_provider:answer(<<"slow">>)] end.

%% N calls at once from a caller; their answers, in the order in which they
%% came, go to this process as {Tag, Answer}.
start_calls(Up, Caller, N, Tag, Op) ->
    Node = router:node(bed:router(Up)),
    Self = self(),
    spawn_link(fun() ->
        Answers = bed:on(Caller, fun() -> calls(Node, N, Op) end),
        Self ! {Tag, Answers}
    end).

%% On the caller's node: [{Ms, Answer}].
calls(Node, N, Op) ->
    Self = self(),
    Start = erlang:monotonic_time(millisecond),
    Pids = [spawn(fun() ->
                A = try gen_server:call({llm_router, Node}, Op, 30000)
                    catch _:R -> {caught, R}
                    end,
                Self ! {self(), erlang:monotonic_time(millisecond) - Start, A}
            end) || _ <- lists:seq(1, N)],
    [receive {P, Ms, A} -> {Ms, A} end || P <- Pids].

answers(Tag) ->
    receive {Tag, Answers} -> Answers after 40000 -> error({no, Tag}) end.

waiting(Up) ->
    #{queue := #{waiting := N}} = bed:call(Up, stats),
    N.

most_at_once(Provider) ->
    maps:get(max_in_flight, scripted_provider:counters(Provider)).

%% ------------------------------------------------------------------ slots

calls_over_the_limit_wait_for_their_turn(Config) ->
    with(Config, (only_one())#{limits => #{in_flight => 2}}, fun(Up) ->
        set(Up, one, slow(20)),
        start_calls(Up, bed:caller(Up), 20, first, ?OP),
        ?assert(lists:all(fun({_, {ok, _}}) -> true; (_) -> false end,
                          answers(first))),
        ?assertEqual(2, most_at_once(two_providers:one(Up)))
    end).

a_full_queue_is_overloaded_at_once(Config) ->
    Limits = #{in_flight => 1, queued => 2},
    with(Config, (only_one())#{limits => Limits}, fun(Up) ->
        set(Up, one, slow(1000)),
        start_calls(Up, bed:caller(Up), 3, first, ?OP),
        bed:eventually(fun() -> waiting(Up) =:= 2 end),
        Start = bed:now_ms(),
        ?assertMatch({error, {overloaded, #{message := _}}},
                     bed:call(Up, ?OP)),
        ?assert(bed:now_ms() - Start < bed:limit_ms(50)),
        ?assert(lists:all(fun({_, {ok, _}}) -> true; (_) -> false end,
                          answers(first)))
    end).

%% One slot; the first node has eight waiting when the second comes with two:
%% one of them is served next but one, and the queue's room is shared.
a_flood_of_one_node_does_not_keep_another_waiting(Config) ->
    Limits = #{in_flight => 1, queued => 8},
    with(Config, (only_one())#{limits => Limits}, fun(Up) ->
        set(Up, one, slow(100)),
        start_calls(Up, bed:caller(Up, 1), 9, flood, ?OP),
        bed:eventually(fun() -> waiting(Up) =:= 8 end),
        start_calls(Up, bed:caller(Up, 2), 2, few, ?OP),
        [{_, {ok, _}}, {_, {ok, _}}] = Few = answers(few),
        ?assert(lists:max([Ms || {Ms, _} <- Few]) < 600),
        Flood = answers(flood),
        ?assertEqual(2, length([1 || {_, {error, {overloaded, _}}} <- Flood])),
        ?assertEqual(7, length([1 || {_, {ok, _}} <- Flood]))
    end).

a_node_can_have_a_limit_of_its_own(Config) ->
    Limits = #{in_flight_per_node => 1},
    with(Config, (only_one())#{limits => Limits}, fun(Up) ->
        set(Up, one, slow(50)),
        start_calls(Up, bed:caller(Up, 1), 4, first, ?OP),
        start_calls(Up, bed:caller(Up, 2), 4, second, ?OP),
        [?assert(lists:all(fun({_, {ok, _}}) -> true; (_) -> false end,
                           answers(Tag))) || Tag <- [first, second]],
        ?assertEqual(2, most_at_once(two_providers:one(Up)))
    end).

a_provider_can_have_a_limit_of_its_own(Config) ->
    with(Config, (only_one())#{one => #{in_flight => 3}}, fun(Up) ->
        set(Up, one, slow(20)),
        start_calls(Up, bed:caller(Up), 20, first, ?OP),
        ?assert(lists:all(fun({_, {ok, _}}) -> true; (_) -> false end,
                          answers(first))),
        ?assertEqual(3, most_at_once(two_providers:one(Up)))
    end).

who_waits_too_long_times_out(Config) ->
    with(Config, (only_one())#{limits => #{in_flight => 1}}, fun(Up) ->
        set(Up, one, slow(1500)),
        start_calls(Up, bed:caller(Up), 1, first, ?OP),
        scripted_provider:await_requests(two_providers:one(Up), 1),
        ?assertMatch({error, {timeout, _}},
                     bed:call(Up, {call_with_prompt, simple, <<"Hello">>,
                                   #{timeout => 200}})),
        ?assertEqual(0, waiting(Up)),
        answers(first)
    end).

who_dies_while_waiting_leaves_the_queue(Config) ->
    with(Config, (only_one())#{limits => #{in_flight => 1}}, fun(Up) ->
        set(Up, one, slow(1000)),
        start_calls(Up, bed:caller(Up), 1, first, ?OP),
        scripted_provider:await_requests(two_providers:one(Up), 1),
        Node = router:node(bed:router(Up)),
        bed:on(bed:caller(Up),
               fun() ->
                       P = spawn(fun() ->
                                     gen_server:call({llm_router, Node}, ?OP)
                                 end),
                       timer:sleep(100),
                       exit(P, kill)
               end),
        bed:eventually(fun() -> waiting(Up) =:= 0 end),
        answers(first),
        ?assertEqual(1, length(scripted_provider:requests(
                                 two_providers:one(Up))))
    end).

thousands_can_wait(Config) ->
    with(Config, (only_one())#{limits => #{in_flight => 50}}, fun(Up) ->
        set(Up, one, slow(10)),
        start_calls(Up, bed:caller(Up), 3000, first, ?OP),
        ?assert(lists:all(fun({_, {ok, _}}) -> true; (_) -> false end,
                          answers(first))),
        ?assert(most_at_once(two_providers:one(Up)) =< 50)
    end).

%% To the system: malloc would keep it.
what_thousands_took_is_given_back(Config) ->
    Op = {call_with_prompt, simple, binary:copy(<<"word ">>, 3000)},
    with(Config, (only_one())#{limits => #{in_flight => 50}}, fun(Up) ->
        Gate = spawn(fun() -> receive open -> ok end end),
        set(Up, one, behind(Gate)),
        Before = resident_kib(Up),
        start_calls(Up, bed:caller(Up), 3000, first, Op),
        bed:eventually(fun() -> waiting(Up) =:= 2950 end, 20000),
        Held = resident_kib(Up) - Before,
        ct:log("~b KiB before, ~b KiB more while they wait", [Before, Held]),
        ?assert(Held > 32 * 1024),
        Gate ! open,
        ?assert(lists:all(fun({_, {ok, _}}) -> true; (_) -> false end,
                          answers(first))),
        case bed:limit_ms(1) of
            1 ->
                bed:eventually(fun() ->
                                       resident_kib(Up) - Before < Held div 4
                               end, 15000);
            _ -> % a sanitizer's allocator keeps it
                ok
        end
    end).

resident_kib(Up) ->
    #{resident_bytes := Bytes} = bed:call(Up, stats),
    Bytes div 1024.

%% Answers come when the process is gone.
behind(Gate) ->
    fun(_) ->
        Monitor = monitor(process, Gate),
        receive {'DOWN', Monitor, process, _, _} -> ok end,
        scripted_provider:answer(<<"open">>)
    end.

%% ------------------------------------------------------------- per minute

requests_per_minute_go_to_the_next_candidate(Config) ->
    with(Config, #{one => #{requests_per_minute => 2}}, fun(Up) ->
        [{ok, _} = bed:call(Up, ?OP) || _ <- lists:seq(1, 5)],
        ?assertEqual({2, 3}, two_providers:counts(Up))
    end).

requests_per_minute_are_said_when_there_is_no_other(Config) ->
    with(Config, (only_one())#{one => #{requests_per_minute => 2}}, fun(Up) ->
        Op = {call_with_prompt, simple, <<"Hello there">>,
              #{timeout => 2000}},
        [{ok, _} = bed:call(Up, Op) || _ <- [1, 2]],
        Start = bed:now_ms(),
        ?assertMatch({error, {rate_limited, #{retry_after_ms := Ms}}}
                       when Ms > 20000 andalso Ms =< 30000, bed:call(Up, Op)),
        ?assert(bed:now_ms() - Start < bed:limit_ms(50)),
        ?assertEqual({2, 0}, two_providers:counts(Up))
    end).

%% The estimate of a short call is small; its real usage fills the minute.
tokens_per_minute_are_counted_as_they_were_used(Config) ->
    with(Config, #{one => #{tokens_per_minute => 10000}}, fun(Up) ->
        Usage = #{prompt_tokens => 9000, completion_tokens => 2000},
        set(Up, one, fun(_) ->
                             scripted_provider:answer(<<"one">>,
                                                      #{usage => Usage})
                     end),
        [{ok, _} = bed:call(Up, ?OP) || _ <- lists:seq(1, 3)],
        ?assertEqual({1, 2}, two_providers:counts(Up)),
        #{keys := Keys} = bed:call(Up, stats),
        [Room] = [R || #{provider := <<"one">>, tokens_room := R} <- Keys],
        ?assert(Room =< 0)
    end).

%% 120 a minute: after the first 120 one each half second.
room_that_comes_back_is_used(Config) ->
    with(Config, (only_one())#{one => #{requests_per_minute => 120}},
         fun(Up) ->
             start_calls(Up, bed:caller(Up), 122, first, ?OP),
             Answers = answers(first),
             ?assert(lists:all(fun({_, {ok, _}}) -> true; (_) -> false end,
                               Answers)),
             ?assert(lists:max([Ms || {Ms, _} <- Answers]) >= 900)
         end).

%% ------------------------------------------------------------------ money

%% Each answer costs 3 dollars.
dear() ->
    Usage = #{prompt_tokens => 1000000, completion_tokens => 1000000},
    fun(_) -> scripted_provider:answer(<<"dear">>, #{usage => Usage}) end.

a_budget_that_is_spent_is_said(Config) ->
    with(Config, #{budget => #{usd_per_day => 5}}, fun(Up) ->
        set(Up, one, dear()),
        [{ok, #{cost_usd := 3.0}} = bed:call(Up, ?OP) || _ <- [1, 2]],
        ?assertMatch({error, {budget_exceeded, #{message := _}}},
                     bed:call(Up, ?OP)),
        ?assertEqual({2, 0}, two_providers:counts(Up))
    end).

the_budget_of_a_key_leaves_the_other_keys(Config) ->
    One = #{keys => [#{name => <<"a">>, env => <<"ONE_A">>,
                       budget_usd_per_month => 2},
                     #{name => <<"b">>, env => <<"ONE_B">>}]},
    Settings = #{one => One, env => [{"ONE_A", "key-a"}, {"ONE_B", "key-b"}]},
    with(Config, Settings, fun(Up) ->
        set(Up, one, dear()),
        [{ok, _} = bed:call(Up, ?OP) || _ <- lists:seq(1, 6)],
        Seen = [maps:get(<<"authorization">>, H)
                || #{headers := H}
                       <- scripted_provider:requests(two_providers:one(Up))],
        ?assertEqual(1, length([K || <<"Bearer key-a">> = K <- Seen])),
        ?assertEqual(5, length([K || <<"Bearer key-b">> = K <- Seen]))
    end).

what_is_spent_survives_a_kill(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    File = filename:join([Dir, "state", "spending.json"]),
    Settings = #{budget => #{usd_per_month => 5},
                 state => #{file => unicode:characters_to_binary(File)}},
    Up = two_providers:router(Config, Settings, models()),
    set(Up, one, dear()),
    [{ok, _} = bed:call(Up, ?OP) || _ <- [1, 2]],
    bed:eventually(fun() -> filelib:is_regular(File) end),
    timer:sleep(1500),
    bed:kill_router(Up),
    with(Config, Settings, fun(Again) ->
        ?assertMatch({error, {budget_exceeded, _}}, bed:call(Again, ?OP)),
        ?assertEqual({0, 0}, two_providers:counts(Again))
    end).
