%% A new configuration while the program runs: taken over whole, or not at all.
-module(reload_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"Say hello to me">>}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_new_route_is_taken_over,
     a_signal_reloads_too,
     a_signal_while_a_configuration_is_read_is_not_lost,
     a_new_price_is_charged,
     a_broken_file_changes_nothing,
     a_missing_file_changes_nothing,
     calls_in_flight_end_as_they_began,
     calls_in_flight_may_try_again_what_is_gone,
     a_provider_can_come_and_go,
     keys_of_the_environment_stay,
     who_may_call_is_decided_anew,
     a_limit_that_is_lifted_lets_the_waiting_go,
     what_needs_a_restart_is_said,
     many_reloads_leak_nothing].

init_per_suite(Config) ->
    two_providers:up(Config).

end_per_suite(Config) ->
    two_providers:down(Config).

init_per_testcase(_Case, Config) ->
    two_providers:router(Config, #{}, models(1)).

end_per_testcase(_Case, Config) ->
    bed:must(fun() -> {exited, 0} = bed:stop_router(Config) end).

models(Price) ->
    [#{provider => <<"one">>, id => <<"small">>, in => Price, out => Price}].

%% The configuration file, changed.
change(Config, Fun) ->
    File = proplists:get_value(config_file, Config),
    {ok, Text} = file:read_file(File),
    ok = file:write_file(File, test_json:encode(Fun(test_json:decode(Text)))).

put_in([Key], Value, Map) ->
    Map#{Key => Value};
put_in([Key | Keys], Value, Map) ->
    Map#{Key => put_in(Keys, Value, maps:get(Key, Map, #{}))}.

to_two(Config) ->
    change(Config, fun(Json) ->
        put_in([<<"routes">>, <<"simple">>], [<<"two/large">>], Json)
    end).

text(Config) ->
    {ok, #{text := Text}} = bed:call(Config, ?OP),
    Text.

reloads(Config) ->
    #{reloads := N, reloads_failed := M} = bed:call(Config, stats),
    {N, M}.

a_new_route_is_taken_over(Config) ->
    ?assertEqual(<<"one">>, text(Config)),
    to_two(Config),
    ?assertEqual(<<"one">>, text(Config)),
    ?assertEqual(ok, bed:call(Config, reload)),
    ?assertEqual(<<"two">>, text(Config)),
    ?assertEqual({1, 0}, reloads(Config)),
    ?assertEqual(ok, bed:call(Config, {reload})).

a_signal_reloads_too(Config) ->
    to_two(Config),
    router:signal(bed:router(Config), "HUP"),
    bed:eventually(fun() -> reloads(Config) =:= {1, 0} end),
    ?assertEqual(<<"two">>, text(Config)).

%% A large catalogue takes some time to be read, after the configuration.
a_signal_while_a_configuration_is_read_is_not_lost(Config) ->
    Catalogue = filename:join(proplists:get_value(priv_dir, Config), "large"),
    ok = file:write_file(Catalogue, test_json:encode(
        #{models => [#{provider => one, id => integer_to_binary(I)}
                     || I <- lists:seq(1, 9000)]})),
    change(Config, fun(Json) ->
        put_in([<<"catalogue">>, <<"file">>], list_to_binary(Catalogue), Json)
    end),
    ok = bed:call(Config, reload),
    [begin
         router:signal(bed:router(Config), "HUP"),
         timer:sleep(5),
         change(Config, fun(Json) ->
             put_in([<<"limits">>, <<"in_flight">>], InFlight, Json)
         end),
         router:signal(bed:router(Config), "HUP"),
         bed:eventually(fun() -> slots(Config) =:= InFlight end)
     end || InFlight <- lists:seq(101, 105)].

slots(Config) ->
    #{<<"slots">> := Slots} = test_json:decode(bed:call(Config, status)),
    Slots.

a_new_price_is_charged(Config) ->
    Usage = #{prompt_tokens => 1000000, completion_tokens => 1000000},
    scripted_provider:set_handler(
      two_providers:one(Config),
      fun(_) -> scripted_provider:answer(<<"one">>, #{usage => Usage}) end),
    ?assertMatch({ok, #{cost_usd := 2.0}}, bed:call(Config, ?OP)),
    change(Config, fun(#{<<"catalogue">> := #{<<"file">> := File}} = Json) ->
        ok = file:write_file(File, test_json:encode(#{models => models(5)})),
        Json
    end),
    ok = bed:call(Config, reload),
    ?assertMatch({ok, #{cost_usd := 10.0}}, bed:call(Config, ?OP)).

a_broken_file_changes_nothing(Config) ->
    File = proplists:get_value(config_file, Config),
    {ok, Good} = file:read_file(File),
    [begin
         ok = file:write_file(File, Bad),
         {error, {invalid_request, #{message := Message}}} =
             bed:call(Config, reload),
         ?assertNotEqual(nomatch, binary:match(Message, Says)),
         ?assertEqual(<<"one">>, text(Config))
     end || {Bad, Says} <-
                [{<<"{\"limits\": ">>, <<"line 1">>},
                 {<<"{\n  \"limits\": {\n    \"in_flihgt\": 3}}">>,
                  <<"line 3">>},
                 {<<"{\"limits\": {\"in_flight\": 0}}">>, <<"in_flight">>}]],
    ok = file:write_file(File, Good),
    ?assertEqual({0, 3}, reloads(Config)).

%% The log says which file.
a_missing_file_changes_nothing(Config) ->
    File = proplists:get_value(config_file, Config),
    ok = file:delete(File),
    ?assertMatch({error, {invalid_request, _}}, bed:call(Config, reload)),
    ?assertEqual(<<"one">>, text(Config)),
    %% A long path is cut.
    Said = ["msg=\"the old configuration stays\" reason=\"",
            string:slice(File, 0, 100)],
    bed:eventually(fun() ->
        string:find(router:stderr(bed:router(Config)), Said) =/= nomatch
    end).

calls_in_flight_end_as_they_began(Config) ->
    scripted_provider:set_handler(
      two_providers:one(Config),
      fun(_) -> [{sleep, 500} | scripted_provider:answer(<<"slow">>)] end),
    Self = self(),
    spawn_link(fun() -> Self ! {answer, text(Config)} end),
    scripted_provider:await_requests(two_providers:one(Config), 1),
    change(Config, fun(Json) ->
        #{<<"providers">> := Providers} = Json,
        Json#{<<"providers">> => maps:remove(<<"one">>, Providers),
              <<"routes">> => #{<<"simple">> => [<<"two/large">>]}}
    end),
    ok = bed:call(Config, reload),
    ?assertEqual(<<"two">>, text(Config)),
    receive {answer, Text} -> ?assertEqual(<<"slow">>, Text)
    after 5000 -> error(no_answer)
    end.

%% The provider is taken away before it fails: it is asked once more.
calls_in_flight_may_try_again_what_is_gone(Config) ->
    Fails = two_providers:fails(500),
    scripted_provider:set_handler(
      two_providers:one(Config),
      [fun(Request) -> [{sleep, 500} | Fails(Request)] end,
       two_providers:says(<<"again">>)]),
    Self = self(),
    Op = {call_with_prompt, <<"one/small">>, <<"Hello there">>},
    spawn_link(fun() -> Self ! {answer, bed:call(Config, Op)} end),
    scripted_provider:await_requests(two_providers:one(Config), 1),
    change(Config, fun(#{<<"providers">> := Providers} = Json) ->
        Json#{<<"providers">> => maps:remove(<<"one">>, Providers)}
    end),
    ok = bed:call(Config, reload),
    receive {answer, Answer} ->
            ?assertMatch({ok, #{text := <<"again">>, attempts := 2}}, Answer)
    after 5000 -> error(no_answer)
    end.

a_provider_can_come_and_go(Config) ->
    Op = {call_with_prompt, <<"three/x">>, <<"Hello there">>,
          #{provider => <<"three">>}},
    ?assertMatch({error, {no_route, _}}, bed:call(Config, Op)),
    Url = scripted_provider:url(two_providers:two(Config)),
    change(Config, fun(Json) ->
        put_in([<<"providers">>, <<"three">>], #{base_url => Url}, Json)
    end),
    ok = bed:call(Config, reload),
    ?assertMatch({ok, #{provider := <<"three">>}}, bed:call(Config, Op)),
    change(Config, fun(#{<<"providers">> := Providers} = Json) ->
        Json#{<<"providers">> => maps:remove(<<"three">>, Providers)}
    end),
    ok = bed:call(Config, reload),
    ?assertMatch({error, {no_route, _}}, bed:call(Config, Op)).

%% The variables are wiped after the start; a reload knows the keys all the
%% same.
keys_of_the_environment_stay(Config) ->
    ok = bed:call(Config, reload),
    Provider = bed:provider(Config),
    scripted_provider:set_handler(Provider, two_providers:says(<<"openai">>)),
    {ok, _} = bed:call(Config, {call_with_prompt, <<"openai/gpt-4o">>,
                                <<"Hello there">>}),
    [#{headers := #{<<"authorization">> := Key}}] =
        scripted_provider:requests(Provider),
    ?assertEqual(<<"Bearer sk-test-key">>, Key).

who_may_call_is_decided_anew(Config) ->
    ?assertEqual(<<"one">>, text(Config)),
    change(Config, fun(Json) ->
        put_in([<<"allow">>, <<"call">>], [<<"nobody@nowhere">>], Json)
    end),
    ok = bed:call(Config, reload),
    ?assertMatch({error, {forbidden, _}}, bed:call(Config, ?OP)),
    change(Config, fun(Json) -> maps:remove(<<"allow">>, Json) end),
    ok = bed:call(Config, reload),
    ?assertEqual(<<"one">>, text(Config)).

a_limit_that_is_lifted_lets_the_waiting_go(Config) ->
    change(Config, fun(Json) ->
        put_in([<<"limits">>, <<"in_flight">>], 1, Json)
    end),
    ok = bed:call(Config, reload),
    scripted_provider:set_handler(two_providers:one(Config),
                                  two_providers:hangs()),
    Self = self(),
    Op = {call_with_prompt, simple, <<"Say hello to me">>, #{timeout => 2000}},
    [spawn(fun() -> Self ! (catch bed:call(Config, Op)) end) || _ <- [1, 2]],
    scripted_provider:await_requests(two_providers:one(Config), 1),
    bed:eventually(fun() ->
                           #{queue := #{waiting := N}} =
                               bed:call(Config, stats),
                           N =:= 1
                   end),
    change(Config, fun(Json) ->
        put_in([<<"limits">>, <<"in_flight">>], 2, Json)
    end),
    ok = bed:call(Config, reload),
    scripted_provider:await_requests(two_providers:one(Config), 2).

%% With each reload, as long as it is so.
what_needs_a_restart_is_said(Config) ->
    File = proplists:get_value(config_file, Config),
    {ok, First} = file:read_file(File),
    change(Config, fun(Json) ->
        put_in([<<"node">>, <<"tick_time_ms">>], 5000, Json)
    end),
    ok = bed:call(Config, reload),
    bed:eventually(fun() -> restarts_said(Config) =:= 1 end),
    ok = bed:call(Config, reload),
    bed:eventually(fun() -> restarts_said(Config) =:= 2 end),
    ok = file:write_file(File, First),
    ok = bed:call(Config, reload),
    ?assertEqual(2, restarts_said(Config)).

restarts_said(Config) ->
    length(binary:matches(router:stderr(bed:router(Config)),
                          <<"msg=\"a key is read at start only\" "
                            "key=node.tick_time_ms\n">>)).

many_reloads_leak_nothing(Config) ->
    Reload = fun(N) -> [ok = bed:call(Config, reload) || _ <- lists:seq(1, N)]
             end,
    Reload(20),
    Before = router:rss_kib(bed:router(Config)),
    Descriptors = router:fd_count(bed:router(Config)),
    Reload(200),
    ok = bed:has_grown_less(Config, 2048, Before),
    ?assertEqual(Descriptors, router:fd_count(bed:router(Config))).
