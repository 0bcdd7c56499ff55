%% A router is replaced under load, and nobody who calls {global, llm_router}
%% notices: each call is answered, by one provider call, whichever router ends.
-module(upgrade_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"hi">>}).
-define(BACK_MS, 10000).
%% What a handover takes at most, with its grace; the rest is for a busy machine.
-define(HANDED_OVER_MS, 6000).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [%% nothing is lost
     no_call_is_lost_when_the_holder_is_terminated,
     no_call_is_lost_when_the_holder_is_told_to_drain,
     no_call_is_lost_while_routers_replace_each_other,
     no_call_is_lost_when_two_of_three_end_at_once,
     no_call_is_lost_in_either_of_two_clusters,
     no_call_is_lost_by_hangups,
     what_the_documentation_shows_for_erlang_works,
     what_the_documentation_shows_for_elixir_works,
     %% who gets the name
     a_standby_that_hangs_does_not_get_the_name,
     a_standby_that_drains_does_not_get_the_name,
     a_standby_that_is_no_router_does_not_get_the_name,
     who_has_the_name_knows_it_and_who_gave_it_does_not_take_it_back,
     %% what the old one still does
     a_router_that_gave_the_name_away_refuses_calls_after_a_while,
     without_a_standby_calls_are_refused_at_once,
     a_second_termination_ends_a_handover_at_once,
     a_drain_limit_ends_a_handover,
     a_reload_under_way_and_a_drain_both_happen].

%% Each test has a bed of its own: it ends the routers of it.
init_per_testcase(_Case, Config) ->
    bed:up(Config, #{router => none, callers => 3, handler => fun paced/1}).

end_per_testcase(_Case, Config) ->
    bed:down(Config).

callers(Config) ->
    maps:get(callers, proplists:get_value(bed, Config)).

%% Answers that quote the prompt and come in pieces, over about 50 ms.
paced(Request) ->
    Text = <<"You wrote: ", (prompt_of(Request))/binary>>,
    lists:append([[{sleep, 5}, Piece]
                  || Piece <- scripted_provider:stream(Text, #{})]).

prompt_of(Request) ->
    #{texts := Texts} = dialects:asked(Request),
    lists:last(Texts).

%% ---------------------------------------------------------------- routers

start(Config) ->
    start(Config, bed:node_name(router)).

start(Config, Node) ->
    start(Config, Node, #{}).

start(Config, Node, Opts) ->
    bed:run_router(Config, Node, Opts).

%% The first has the name, and all others stand by.
start_all(Config, N) ->
    [#{node := Holder} = First | _] = [start(Config)],
    bed:eventually(fun() -> is_held(callers(Config), Holder) end, ?BACK_MS),
    [First | [stands_by(Config, start(Config)) || _ <- lists:seq(2, N)]].

%% It can be handed the name as soon as it has its own.
stands_by(Config, #{node := Node} = Router) ->
    bed:eventually(fun() ->
                           lists:all(fun(Caller) ->
                                             holder(Caller, {llm_router, Node})
                                                 =:= Node
                                     end, callers(Config))
                   end, ?BACK_MS),
    Router.

holder(Caller, Name) ->
    bed:on(Caller, fun() ->
                           case global:whereis_name(Name) of
                               undefined -> undefined;
                               Pid -> node(Pid)
                           end
                   end).

is_held(Callers, Node) ->
    lists:all(fun(Caller) -> holder(Caller, llm_router) =:= Node end, Callers).

await_held(Config, Node) ->
    bed:eventually(fun() -> is_held(callers(Config), Node) end,
                   ?HANDED_OVER_MS).

call(Config, #{node := Node}, Op) ->
    bed:on(bed:caller(Config),
           fun() -> gen_server:call({llm_router, Node}, Op, 20000) end).

has_ended(#{pid := Pid} = Router) ->
    Ended = router:await_exit(Router, bed:limit_ms(10000)),
    gen_server:stop(Pid),
    ?assertEqual({exited, 0}, Ended).

stop(Routers) ->
    [{exited, 0} = router:stop(Router) || Router <- Routers],
    ok.

terminate(Router) ->
    router:signal(Router, "TERM").

%% ------------------------------------------------------------------- load

%% On every node: four that ask for texts, two for streams, and one that pings,
%% by the global name and without a pause, until unload/2.
load(Config) ->
    load(Config, callers(Config)).

load(Config, Callers) ->
    Load = [{Caller, bed:on(Caller, fun loaders/0)} || Caller <- Callers],
    Provider = bed:provider(Config),
    scripted_provider:await_requests(Provider, 50),
    Load.

loaders() ->
    [spawn(fun() -> loader(Ask, [], []) end)
     || {Ask, N} <- [{fun ask_text/1, 4}, {fun ask_stream/1, 2},
                     {fun ask_ping/1, 1}],
        _ <- lists:seq(1, N)].

loader(Ask, Good, Bad) ->
    receive
        {report, From} -> From ! {self(), Good, Bad, bed:drain()}
    after 0 ->
            case Ask(prompt()) of
                pong -> loader(Ask, Good, Bad);
                {answered, Prompt} -> loader(Ask, [Prompt | Good], Bad);
                Other -> loader(Ask, Good, [Other | Bad])
            end
    end.

prompt() ->
    iolist_to_binary(io_lib:format("number ~b of ~b",
                                   [erlang:unique_integer([positive]),
                                    erlang:phash2(node())])).

ask_text(Prompt) ->
    judged(Prompt, ask:text(by_global_name, none, ask:op(Prompt), 20000)).

judged(Prompt, {ok, <<"You wrote: ", Prompt/binary>>}) -> {answered, Prompt};
judged(_Prompt, Other) -> Other.

ask_ping(_Prompt) ->
    try gen_server:call({global, llm_router}, ping, 20000)
    catch exit:Reason -> {ping, Reason}
    end.

ask_stream(Prompt) ->
    Messages = [#{role => user, content => Prompt}],
    try gen_server:call({global, llm_router}, {stream, simple, Messages, #{}},
                        20000) of
        {ok, Ref} -> judged(Prompt, collect(Ref, <<>>));
        Other -> Other
    catch exit:Reason -> {stream, Reason}
    end.

collect(Ref, Text) ->
    receive
        {llm_stream, Ref, {delta, Delta}} ->
            collect(Ref, <<Text/binary, Delta/binary>>);
        {llm_stream, Ref, {done, #{text := Text}}} ->
            {ok, Text};
        {llm_stream, Ref, Other} ->
            Other
    after 20000 ->
            stream_hangs
    end.

%% Every question had its answer, nothing else came to who asked, and the
%% provider was asked each of them once.
unload(Config, Load) ->
    Reports = lists:append([bed:on(Caller, fun() -> reports(Loaders) end)
                            || {Caller, Loaders} <- Load]),
    Good = lists:append([G || {G, _, _} <- Reports]),
    Asked = [prompt_of(Request)
             || Request <- scripted_provider:requests(bed:provider(Config))],
    ct:log("~b answered", [length(Good)]),
    ?assertEqual([], lists:append([Bad || {_, Bad, _} <- Reports])),
    ?assertEqual([], lists:append([Junk || {_, _, Junk} <- Reports])),
    ?assertEqual([], Asked -- lists:usort(Asked)),
    ?assertEqual(lists:sort(Good), lists:sort(Asked)).

reports(Loaders) ->
    [Loader ! {report, self()} || Loader <- Loaders],
    [receive {Loader, Good, Bad, Junk} -> {Good, Bad, Junk} end
     || Loader <- Loaders].

%% -------------------------------------------------------- nothing is lost

no_call_is_lost_when_the_holder_is_terminated(Config) ->
    replace_under_load(Config, fun terminate/1).

no_call_is_lost_when_the_holder_is_told_to_drain(Config) ->
    replace_under_load(Config, fun(Router) -> ok = call(Config, Router, drain)
                               end).

replace_under_load(Config, End) ->
    [Old] = start_all(Config, 1),
    Load = load(Config),
    #{node := Node} = New = stands_by(Config, start(Config)),
    End(Old),
    await_held(Config, Node),
    has_ended(Old),
    timer:sleep(300),
    unload(Config, Load),
    stop([New]).

%% Each ends as soon as it has the name, before it could have noticed that; the
%% new one has the node name of the one before.
no_call_is_lost_while_routers_replace_each_other(Config) ->
    [First, Second] = start_all(Config, 2),
    Load = load(Config),
    Last = lists:foldl(
             fun(_Round, [#{node := Old} = Holder, #{node := New} = Standby]) ->
                     terminate(Holder),
                     await_held(Config, New),
                     has_ended(Holder),
                     [Standby, stands_by(Config, start(Config, Old))]
             end, [First, Second], [1, 2]),
    unload(Config, Load),
    stop(Last).

%% In either order. The one that stands by may be given the name as it ends.
no_call_is_lost_when_two_of_three_end_at_once(Config) ->
    Routers = start_all(Config, 3),
    Load = load(Config),
    Left = end_two(Config, Routers, [1, 2]),
    Last = end_two(Config, refilled(Config, Left), [2, 1]),
    unload(Config, Load),
    stop(Last).

refilled(Config, Routers) ->
    Routers ++ [stands_by(Config, start(Config)) || _ <- [1, 2]].

%% All but those that end are left.
end_two(Config, Routers, Which) ->
    Ending = [lists:nth(N, Routers) || N <- Which],
    [#{node := Node}] = Left = Routers -- Ending,
    lists:foreach(fun terminate/1, Ending),
    await_held(Config, Node),
    lists:foreach(fun has_ended/1, Ending),
    Left.

%% The routers are connected to both, which know nothing of each other.
no_call_is_lost_in_either_of_two_clusters(Config) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    #{node := Node} = Apart = bed:start_caller(Cookie, bed:node_name(apart)),
    ok = bed:on(Apart, fun() ->
                               application:set_env(kernel, dist_auto_connect,
                                                   never)
                       end),
    #{node := Near} = bed:caller(Config),
    Connect = #{connect => [Near, Node]},
    #{node := A} = Old = start(Config, bed:node_name(router), Connect),
    bed:eventually(fun() -> is_held([Apart | callers(Config)], A) end),
    #{node := B} = New = start(Config, bed:node_name(router), Connect),
    bed:eventually(fun() -> holder(Apart, {llm_router, B}) =:= B end),
    stands_by(Config, New),
    Load = load(Config, [Apart | callers(Config)]),
    terminate(Old),
    bed:eventually(fun() -> is_held([Apart | callers(Config)], B) end,
                   ?HANDED_OVER_MS),
    has_ended(Old),
    unload(Config, Load),
    [] = bed:on(Apart, fun() -> nodes() end),
    stop([New]),
    bed:stop_caller(Apart).

no_call_is_lost_by_hangups(Config) ->
    [Router] = start_all(Config, 1),
    Load = load(Config),
    [begin
         router:signal(Router, "HUP"),
         bed:eventually(fun() ->
                                #{reloads := Done} = call(Config, Router, stats),
                                Done =:= N
                        end)
     end || N <- lists:seq(1, 10)],
    unload(Config, Load),
    stop([Router]).

%% The blocks of the section "Upgrade" of docs/clustering.md.
what_the_documentation_shows_for_erlang_works(Config) ->
    Block = binary_to_list(block("erlang")),
    replace_as_shown(
      Config,
      fun(Old, New) ->
              {ok, Tokens, _} = erl_scan:string(Block),
              {ok, Expressions} = erl_parse:parse_exprs(Tokens),
              {value, ok, _} =
                  bed:on(bed:caller(Config),
                         fun() ->
                                 erl_eval:exprs(Expressions,
                                                [{'Old', Old}, {'New', New}])
                         end)
      end).

what_the_documentation_shows_for_elixir_works(Config) ->
    _ = os:find_executable("elixir") =:= false
        andalso throw({skip, "there is no Elixir"}),
    File = filename:join(proplists:get_value(priv_dir, Config), "upgrade.exs"),
    #{node := Node} = bed:caller(Config),
    replace_as_shown(
      Config,
      fun(Old, New) ->
              ok = file:write_file(
                     File, [io_lib:format("true = Node.connect(:\"~s\")~n"
                                          "old = :\"~s\"~n"
                                          "new = :\"~s\"~n",
                                          [Node, Old, New]), block("elixir")]),
              ?assertEqual({0, <<>>}, bed:elixir(Config, File, []))
      end).

block(Language) ->
    File = filename:join([router:project(), "docs", "clustering.md"]),
    {ok, Text} = file:read_file(File),
    {match, [Block]} =
        re:run(Text, "\n## Upgrade\n.*?```" ++ Language ++ "\n(.*?)```",
               [dotall, {capture, [1], binary}]),
    Block.

replace_as_shown(Config, Show) ->
    [#{node := Old} = Router] = start_all(Config, 1),
    Load = load(Config),
    #{node := New} = Next = start(Config),
    Show(Old, New),
    await_held(Config, New),
    has_ended(Router),
    unload(Config, Load),
    stop([Next]).

%% ------------------------------------------------------- who gets the name

a_standby_that_hangs_does_not_get_the_name(Config) ->
    [Holder | Others] = start_all(Config, 4),
    hung_ones_are_passed_over(Config, Holder, Others).

%% Whichever is looked at first.
hung_ones_are_passed_over(Config, Holder, [Hung1, Hung2, #{node := Node} = Well]) ->
    [router:signal(Hung, "STOP") || Hung <- [Hung1, Hung2]],
    Load = load(Config),
    terminate(Holder),
    await_held(Config, Node),
    has_ended(Holder),
    unload(Config, Load),
    [router:signal(Hung, "CONT") || Hung <- [Hung1, Hung2]],
    stop([Well, Hung1, Hung2]).

%% It still answers, and has its own name for a moment.
a_standby_that_drains_does_not_get_the_name(Config) ->
    [Holder, Draining1, Draining2, #{node := Node} = Well] =
        start_all(Config, 4),
    scripted_provider:set_handler(bed:provider(Config), [[hang]]),
    [hang(Config, Draining) || Draining <- [Draining1, Draining2]],
    scripted_provider:await_requests(bed:provider(Config), 2),
    [ok = call(Config, Draining, drain) || Draining <- [Draining1, Draining2]],
    scripted_provider:set_handler(bed:provider(Config), fun paced/1),
    Load = load(Config),
    terminate(Holder),
    await_held(Config, Node),
    has_ended(Holder),
    unload(Config, Load),
    [terminate(Draining) || Draining <- [Draining1, Draining2]],
    [router:kill(Draining) || Draining <- [Draining1, Draining2]],
    stop([Well]).

hang(Config, Router) ->
    spawn_link(fun() -> catch call(Config, Router, ?OP) end).

%% A process that calls itself one.
a_standby_that_is_no_router_does_not_get_the_name(Config) ->
    [Holder] = start_all(Config, 1),
    bed:on(bed:caller(Config),
           fun() ->
                   Self = self(),
                   Pid = spawn(fun() -> false_router() end),
                   yes = global:register_name({llm_router, 'other@host'}, Pid),
                   Self
           end),
    terminate(Holder),
    has_ended(Holder),
    ?assertEqual(undefined, holder(bed:caller(Config), llm_router)).

false_router() ->
    receive
        {'$gen_call', From, health} ->
            gen_server:reply(From, #{status => ok}),
            false_router()
    end.

who_has_the_name_knows_it_and_who_gave_it_does_not_take_it_back(Config) ->
    [Old, #{node := Node} = New] = start_all(Config, 2),
    scripted_provider:set_handler(bed:provider(Config), [[hang]]),
    hang(Config, Old),
    scripted_provider:await_requests(bed:provider(Config), 1),
    terminate(Old),
    await_held(Config, Node),
    bed:eventually(fun() ->
                           #{global_name := Held} = call(Config, New, health),
                           Held
                   end),
    bed:eventually(fun() ->
                           #{global_name := Held} = call(Config, Old, health),
                           not Held
                   end),
    [begin
         timer:sleep(50),
         ?assert(is_held(callers(Config), Node))
     end || _ <- lists:seq(1, 40)],
    terminate(Old),
    router:kill(Old),
    stop([New]).

%% ------------------------------------------------- what the old one still does

%% Whoever kept its pid or uses its node name is answered for a moment, and told
%% after it; what was in flight is answered in any case.
a_router_that_gave_the_name_away_refuses_calls_after_a_while(Config) ->
    [Old, New] = start_all(Config, 2),
    Pid = bed:on(bed:caller(Config),
                 fun() -> global:whereis_name(llm_router) end),
    scripted_provider:set_handler(
      bed:provider(Config),
      [fun(Request) -> [{sleep, 4000} | paced(Request)] end, fun paced/1]),
    Self = self(),
    spawn_link(fun() -> Self ! {answer, call(Config, Old, ?OP)} end),
    scripted_provider:await_requests(bed:provider(Config), 1),
    terminate(Old),
    await_held(Config, maps:get(node, New)),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}}, call(Config, Old, ?OP)),
    ?assertMatch(#{status := draining}, call(Config, Old, health)),
    bed:eventually(fun() -> refuses(Config, Old) end),
    ?assertMatch({error, {shutting_down, _}},
                 bed:on(bed:caller(Config),
                        fun() -> gen_server:call(Pid, ?OP) end)),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}},
                 receive {answer, Answer} -> Answer end),
    has_ended(Old),
    stop([New]).

%% Nobody is asked for an answer to find that out.
refuses(Config, Router) ->
    Op = {call_with_prompt, simple, <<"hi">>, #{provider => nosuch}},
    case call(Config, Router, Op) of
        {error, {shutting_down, _}} -> true;
        {error, {no_route, _}} -> false
    end.

%% The name is given up at once, too.
without_a_standby_calls_are_refused_at_once(Config) ->
    [Router] = start_all(Config, 1),
    scripted_provider:set_handler(bed:provider(Config), [[hang]]),
    hang(Config, Router),
    scripted_provider:await_requests(bed:provider(Config), 1),
    Start = bed:now_ms(),
    terminate(Router),
    bed:eventually(fun() -> refuses(Config, Router) end),
    bed:eventually(fun() -> is_held(callers(Config), undefined) end),
    ?assert(bed:now_ms() - Start < bed:limit_ms(1000)),
    terminate(Router),
    router:kill(Router).

a_second_termination_ends_a_handover_at_once(Config) ->
    [Old, New] = start_all(Config, 2),
    terminate(Old),
    await_held(Config, maps:get(node, New)),
    Start = bed:now_ms(),
    terminate(Old),
    has_ended(Old),
    ?assert(bed:now_ms() - Start < bed:limit_ms(1000)),
    stop([New]).

%% Shorter than the moment in which calls are still taken.
a_drain_limit_ends_a_handover(Config) ->
    Opts = #{env => [{"LLM_ROUTER_TIMEOUTS_DRAIN_MS", "300"}]},
    Old = start(Config, bed:node_name(router), Opts),
    await_held(Config, maps:get(node, Old)),
    New = stands_by(Config, start(Config)),
    scripted_provider:set_handler(bed:provider(Config), [[hang]]),
    Self = self(),
    spawn_link(fun() -> Self ! {answer, call(Config, Old, ?OP)} end),
    scripted_provider:await_requests(bed:provider(Config), 1),
    terminate(Old),
    ?assertMatch({error, {shutting_down, _}},
                 receive {answer, Answer} -> Answer end),
    ?assert(refuses(Config, Old)),
    ?assert(is_held(callers(Config), maps:get(node, New))),
    has_ended(Old),
    stop([New]).

%% A reload reads in a thread: the drain comes in the middle of it.
a_reload_under_way_and_a_drain_both_happen(Config) ->
    [First] = start_all(Config, 1),
    Load = load(Config),
    Last = lists:foldl(fun(_Round, Old) -> reload_and_drain(Config, Old) end,
                       First, [1, 2]),
    unload(Config, Load),
    stop([Last]).

reload_and_drain(Config, #{node := Old} = Router) ->
    #{node := New} = Next = stands_by(Config, start(Config)),
    ?assertEqual([{reply, ok}, {reply, ok}],
                 bed:on(bed:caller(Config),
                        fun() ->
                                Ids = [gen_server:send_request(
                                         {llm_router, Old}, Op)
                                       || Op <- [reload, drain]],
                                [gen_server:receive_response(Id, 5000)
                                 || Id <- Ids]
                        end)),
    await_held(Config, New),
    has_ended(Router),
    Next.
