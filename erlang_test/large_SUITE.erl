%% Large messages and many of everything: documents of 32 MiB and answers of
%% 16 MiB in every way to call, with small calls beside them; more at once than
%% there is room for; callers and nodes that die in the middle; a thousand calls
%% of one process; 200 peers.
-module(large_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(MIB, (1024 * 1024)).
-define(DOCUMENT_BYTES, (32 * ?MIB)). % the most that a call may hold
-define(ANSWER_BYTES, (16 * ?MIB)).
-define(QUEUE_BYTES, (100 * ?MIB)). %% three answers, not four
-define(FRAME_BYTES, ?MIB). % of the group `limits`
-define(TIMEOUT, 50000).
-define(GROWTH_KIB, 8192).

%% A small call beside large ones: they take turns of 64 KiB, but share two
%% processors with the nodes that make them.
-define(BESIDE_MS, 2000).

-define(FULL_PEER, 16#d075f5fbc).
-define(FRAGMENTS, (1 bsl 23)).

suite() ->
    [{timetrap, {seconds, 180}}].

all() ->
    [{group, large}, {group, limits}, {group, many}].

groups() ->
    [{large, [],
      [a_document_of_32_mib_arrives_whole_by_gen_server_call,
       a_document_of_32_mib_arrives_whole_by_rpc,
       a_document_of_32_mib_arrives_whole_by_erpc,
       a_document_of_32_mib_arrives_whole_by_message,
       a_document_in_pieces_arrives_whole,
       a_document_over_the_limit_is_too_large_in_every_way,
       an_answer_of_16_mib_comes_whole_by_gen_server_call,
       an_answer_of_16_mib_comes_whole_by_rpc,
       an_answer_of_16_mib_comes_whole_by_erpc,
       an_answer_of_16_mib_comes_whole_by_message,
       large_answers_come_at_once_to_several_nodes,
       large_answers_at_once_to_one_node_do_not_close_it,
       small_calls_pass_large_ones_both_ways,
       messages_to_one_process_keep_their_order,
       callers_killed_while_they_send_leave_nothing_behind,
       callers_killed_while_they_are_answered_leave_nothing_behind,
       a_node_killed_while_it_sends_is_forgotten,
       a_node_killed_while_it_is_answered_is_forgotten]},
     {limits, [],
      [a_message_over_the_limit_is_refused_and_the_connection_stays,
       messages_at_once_over_the_room_are_overloaded,
       nodes_that_send_at_once_are_answered_or_overloaded]},
     {many, [],
      [two_hundred_peers_are_served,
       one_of_two_hundred_peers_never_reads,
       a_thousand_calls_of_one_process_are_answered,
       half_of_a_thousand_calls_are_given_up]}].

init_per_group(large, Config) ->
    Text = text(?ANSWER_BYTES),
    Answer = {md5(Text), encoded(scripted_provider:stream(
                                   Text, #{chunk_size => ?MIB}))},
    %% In a fun, or Common Test would print it with each test.
    %% The model is in no catalogue: no document is too long for it.
    [{answer, fun() -> Answer end}
     | bed:up(Config, #{callers => 3,
                        env => [{"LLM_ROUTER_LIMITS_SEND_QUEUE_BYTES",
                                 integer_to_list(?QUEUE_BYTES)},
                                {"LLM_ROUTER_ROUTES_COMPLEX",
                                 "openai/endless"}]})];
init_per_group(limits, Config) ->
    Limit = integer_to_list(?FRAME_BYTES),
    bed:up(Config, #{callers => 3,
                     env => [{"LLM_ROUTER_LIMITS_FRAME_BYTES", Limit}]});
init_per_group(many, Config) ->
    bed:up(Config, #{callers => 3,
                     env => [{"LLM_ROUTER_LIMITS_SEND_QUEUE_BYTES",
                              "4194304"}]}).

end_per_group(_Group, Config) ->
    bed:down(Config).

%% Connections to the provider that as many calls opened are kept, and what
%% they hold.
init_per_testcase(Case, Config) ->
    Case =:= a_thousand_calls_of_one_process_are_answered
        andalso ({[], []} = wrong_of_a_thousand(Config)),
    answer_from_document(Config),
    Before = bed:footprint(Config),
    answer_from_document(Config),
    [{before, Before}, {closed, closed_peers(Config)} | Config].

%% A normal call is answered, no connection was closed but those that the test
%% is about, and descriptors and memory are back.
end_per_testcase(Case, Config) ->
    answer_from_document(Config),
    Closed = proplists:get_value(closed, Config) + closes(Case),
    bed:must(fun() ->
                     bed:eventually(fun() -> in_flight(Config) =:= 0 end),
                     ?assertEqual(Closed, closed_peers(Config)),
                     Before = #{rss := Rss} = proplists:get_value(before,
                                                                  Config),
                     memory_is_back(Config, Rss),
                     bed:is_as_before(Config, Before)
             end).

%% What somebody sends who was killed still comes to its end.
memory_is_back(Config, Before) ->
    Router = bed:router(Config),
    Growth = fun() -> router:rss_kib(Router) - Before end,
    AtFirst = Growth(),
    try bed:eventually(fun() -> Growth() < ?GROWTH_KIB end) of
        Ms -> ct:log("~b KiB more at first, ~b KiB after ~b ms",
                     [AtFirst, Growth(), Ms])
    catch
        error:_ -> error({memory_not_back_kib, Growth()})
    end.

answer_from_document(Config) ->
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1).

closes(a_node_killed_while_it_sends_is_forgotten) -> 1;
closes(a_node_killed_while_it_is_answered_is_forgotten) -> 1;
closes(messages_at_once_over_the_room_are_overloaded) -> 7;
closes(two_hundred_peers_are_served) -> 200;
closes(one_of_two_hundred_peers_never_reads) -> 200;
closes(_) -> 0.

stats(Config) ->
    bed:call(Config, stats).

closed_peers(Config) ->
    #{node := #{closed_peers := Closed}} = stats(Config),
    Closed.

in_flight(Config) ->
    #{in_flight := InFlight} = stats(Config),
    InFlight.

%% ------------------------------------------------------------------- texts

md5(Text) ->
    erlang:md5(Text).

%% Every line differs, so that a part in a wrong place is seen.
text(Bytes) ->
    Parcels = binary:copy(<<" parcels of any größe,"/utf8>>, 40),
    Line = fun(N) -> [integer_to_binary(1000000 + N), Parcels, $\n] end,
    Size = iolist_size(Line(1)),
    Count = Bytes div Size,
    iolist_to_binary([[Line(N) || N <- lists:seq(1, Count)],
                      binary:copy(<<"x">>, Bytes - Count * Size)]).

%% The document that a request of parse_prd holds. Of what JSON escapes the
%% texts here have line ends only.
document(#{body := Body}) ->
    [_, Rest] = binary:split(Body, <<"<document>\\n">>),
    [Document, _] = binary:split(Rest, <<"\\n</document>">>),
    binary:replace(Document, <<"\\n">>, <<"\n">>, [global]).

%% Events made once: a large one takes the tests' encoder a second.
encoded(Actions) ->
    [case Action of
         {sse, Json} -> {chunk, ["data: ", test_json:encode(Json), "\n\n"]};
         _ -> Action
     end || Action <- Actions].

%% One call, from a process of a caller's node.
ask(gen_server_call, Router, Op) ->
    gen_server:call({llm_router, Router}, Op, ?TIMEOUT);
ask(rpc, Router, Op) ->
    [Function | Args] = tuple_to_list(Op),
    rpc:call(Router, llm_router, Function, Args, ?TIMEOUT);
ask(erpc, Router, Op) ->
    [Function | Args] = tuple_to_list(Op),
    erpc:call(Router, llm_router, Function, Args, ?TIMEOUT);
ask(message, Router, Op) ->
    Ref = make_ref(),
    {llm_router, Router} ! {llm_request, self(), Ref, Op},
    receive {llm_response, Ref, Result} -> Result after ?TIMEOUT -> timeout end.

%% --------------------------------------------------------- large documents

a_document_of_32_mib_arrives_whole_by_gen_server_call(Config) ->
    arrives_whole(Config, gen_server_call, fun(Text) -> Text end).

a_document_of_32_mib_arrives_whole_by_rpc(Config) ->
    arrives_whole(Config, rpc, fun(Text) -> Text end).

a_document_of_32_mib_arrives_whole_by_erpc(Config) ->
    arrives_whole(Config, erpc, fun(Text) -> Text end).

a_document_of_32_mib_arrives_whole_by_message(Config) ->
    arrives_whole(Config, message, fun(Text) -> Text end).

a_document_in_pieces_arrives_whole(Config) ->
    [arrives_whole(Config, Way, fun(Text) -> pieces(100000, Text) end)
     || Way <- [gen_server_call, rpc]].

pieces(Size, Text) when byte_size(Text) > Size ->
    <<Piece:Size/binary, Rest/binary>> = Text,
    [Piece | pieces(Size, Rest)];
pieces(_Size, Text) ->
    [Text].

arrives_whole(Config, Way, Form) ->
    Router = bed:node(Config),
    take_documents(Config),
    {Md5, Result} =
        bed:on(bed:caller(Config),
               fun() ->
                       Text = text(?DOCUMENT_BYTES),
                       {md5(Text),
                        ask(Way, Router, {parse_prd, Form(Text), 1})}
               end),
    {ok, [#{title := <<"Weigh parcels">>}]} = Result,
    ?assertEqual({?DOCUMENT_BYTES, Md5},
                 receive {document, Seen} -> Seen after 0 -> none end).

%% The provider tells the test what it was sent.
take_documents(Config) ->
    Self = self(),
    scripted_provider:set_handler(
      bed:provider(Config),
      fun(Request) ->
              Document = document(Request),
              Self ! {document, {byte_size(Document), md5(Document)}},
              scripted_provider:answer(#{tasks => [weigh_parcels()]})
      end).

weigh_parcels() ->
    #{id => 1, title => <<"Weigh parcels">>, description => <<"All of them">>,
      details => <<"On a scale">>, test_strategy => <<"Weigh one">>,
      priority => high, dependencies => [], estimated_hours => 1}.

%% The messages arrive: it is the text that is over its limit.
a_document_over_the_limit_is_too_large_in_every_way(Config) ->
    Router = bed:node(Config),
    Results =
        bed:on(bed:caller(Config),
               fun() ->
                       Text = text(?DOCUMENT_BYTES + 1),
                       [{Way, ask(Way, Router, {parse_prd, Text, 1})}
                        || Way <- [gen_server_call, rpc, erpc, message]]
               end),
    [?assertMatch({_, {error, {too_large, #{path := <<"content">>}}}}, Result)
     || Result <- Results],
    [] = scripted_provider:requests(bed:provider(Config)).

%% ----------------------------------------------------------- large answers

an_answer_of_16_mib_comes_whole_by_gen_server_call(Config) ->
    comes_whole(Config, gen_server_call).

an_answer_of_16_mib_comes_whole_by_rpc(Config) ->
    comes_whole(Config, rpc).

an_answer_of_16_mib_comes_whole_by_erpc(Config) ->
    comes_whole(Config, erpc).

an_answer_of_16_mib_comes_whole_by_message(Config) ->
    comes_whole(Config, message).

comes_whole(Config, Way) ->
    Router = bed:node(Config),
    ?assertEqual(large_answer(Config),
                 bed:on(bed:caller(Config),
                        fun() -> ask_for_large(Way, Router) end)).

%% Makes the provider give the large answer to whom asks for it; says what is
%% then to come.
large_answer(Config) ->
    {Md5, Actions} = (proplists:get_value(answer, Config))(),
    scripted_provider:set_handler(
      bed:provider(Config),
      fun(#{body := Body} = Request) ->
              case binary:match(Body, <<"a large answer">>) of
                  nomatch -> scripted_model:from_document(Request);
                  _ -> Actions
              end
      end),
    {ok, {?ANSWER_BYTES, Md5}, same}.

ask_for_large(Way, Router) ->
    large_seen(ask(Way, Router, large_op())).

large_op() ->
    {call_with_prompt, simple, <<"a large answer">>}.

%% An answer has its text twice.
large_seen({ok, #{text := Text, content := Content}}) ->
    Copies = case Content =:= Text of true -> same; false -> different end,
    {ok, {byte_size(Text), md5(Text)}, Copies};
large_seen(Other) ->
    Other.

large_answers_come_at_once_to_several_nodes(Config) ->
    Expected = large_answer(Config),
    Router = bed:node(Config),
    Ways = [gen_server_call, rpc, message],
    Askers = [{bed:caller(Config, N), Way}
              || {N, Way} <- lists:zip([1, 2, 3], Ways)],
    Results = at_once([fun() ->
                               bed:on(Caller, fun() ->
                                                      ask_for_large(Way, Router)
                                              end)
                       end || {Caller, Way} <- Askers]),
    [?assertEqual(Expected, Result) || Result <- Results].

%% Together over limits.send_queue_bytes: those without room are overloaded,
%% and the node, which reads as fast as it can, stays connected.
large_answers_at_once_to_one_node_do_not_close_it(Config) ->
    Expected = large_answer(Config),
    Router = bed:node(Config),
    Results =
        bed:on(bed:caller(Config),
               fun() ->
                       at_once([fun() -> ask_for_large(Way, Router) end
                                || Way <- [gen_server_call, rpc, erpc,
                                           message]])
               end),
    {Refused, Answered} =
        lists:partition(fun({error, {overloaded, _}}) -> true;
                           (_) -> false
                        end, Results),
    ct:log("~b of ~b overloaded", [length(Refused), length(Results)]),
    ?assertEqual([Expected], lists:usort(Answered)).

%% What funs give that run at the same time.
at_once(Funs) ->
    Running = [spawn_monitor(fun() -> exit({gave, Fun()}) end) || Fun <- Funs],
    [receive {'DOWN', Monitor, _, Pid, {gave, Result}} -> Result;
             {'DOWN', Monitor, _, Pid, Reason} -> {failed, Reason}
     end || {Pid, Monitor} <- Running].

%% -------------------------------------------------------- small beside large

%% One caller sends documents and another takes answers, over the connection of
%% those that ping; a second node pings, too.
small_calls_pass_large_ones_both_ways(Config) ->
    Expected = large_answer(Config),
    Router = bed:node(Config),
    Large = fun() -> large_both_ways(Router) end,
    Results = at_once([fun() -> bed:on(bed:caller(Config), Large) end,
                       fun() ->
                               bed:on(bed:caller(Config, 2),
                                      fun() -> pings_for(5000, Router) end)
                       end]),
    [{Answers, Documents, Beside}, Apart] = Results,
    ct:log("~b documents, ~b answers~nlongest of ~b pings beside them: ~b ms, "
           "of ~b from another node: ~b ms; longest stall ~b ms",
           [Documents, length(Answers), length(Beside), lists:max(Beside),
            length(Apart), lists:max(Apart),
            maps:get(longest_stall_ms, stats(Config))]),
    [Expected] = lists:usort(Answers),
    ?assert(Documents > 0),
    ?assert(lists:max(Beside ++ Apart) < bed:limit_ms(?BESIDE_MS)).

large_both_ways(Router) ->
    Text = text(?DOCUMENT_BYTES),
    Until = bed:now_ms() + 5000,
    [Answers, Documents, Pings] =
        at_once([fun() ->
                         repeat(Until, fun() ->
                                               ask_for_large(gen_server_call,
                                                             Router)
                                       end)
                 end,
                 fun() ->
                         repeat(Until,
                                fun() ->
                                        {badrpc, {'EXIT', {undef, _}}} =
                                            rpc:call(Router, llm_router,
                                                     no_such, [Text])
                                end)
                 end,
                 fun() -> pings_for(5000, Router) end]),
    {Answers, length(Documents), Pings}.

%% How many milliseconds each of them took; one that is not answered fails.
pings_for(Ms, Router) ->
    repeat(bed:now_ms() + Ms,
           fun() ->
                   {Us, pong} = timer:tc(fun() ->
                                                 ask(gen_server_call, Router,
                                                     ping)
                                         end),
                   Us div 1000
           end).

repeat(Until, Fun) ->
    Result = Fun(),
    case bed:now_ms() > Until of
        true -> [Result];
        false -> [Result | repeat(Until, Fun)]
    end.

%% `stats` counts the answers that were sent before it: what comes before the
%% large answer must not count it, what comes behind it must. An answer to an
%% alias may overtake.
messages_to_one_process_keep_their_order(Config) ->
    Expected = large_answer(Config),
    Router = bed:node(Config),
    #{succeeded := Succeeded} = stats(Config),
    {Before, Large, Behind, Aliases} =
        bed:on(bed:caller(Config), fun() -> around_a_large_one(Router) end),
    ct:log("~b messages came before the large one, ~b behind it; "
           "~b of ~b answers to an alias overtook it",
           [length(Before), length(Behind),
            length([A || A <- Aliases, A > Succeeded]), length(Aliases)]),
    ?assertEqual(Expected, Large),
    ?assertEqual([Succeeded], lists:usort(Before)),
    ?assertEqual([Succeeded + 1], lists:usort(Behind)).

around_a_large_one(Router) ->
    Server = {llm_router, Router},
    Self = self(),
    Server ! {llm_request, Self, large, large_op()},
    Sampler = spawn_link(fun() -> ask_for_stats(Server, Self) end),
    Caller = spawn_link(fun() -> call_for_stats(Server, []) end),
    {Before, Large} = samples_before([]),
    Caller ! {stop, Self},
    Aliases = receive {Caller, Seen} -> Seen end,
    Behind = [receive {llm_response, stats, #{succeeded := N}} -> N end
              || _ <- lists:seq(1, 100)],
    unlink(Sampler),
    exit(Sampler, kill),
    {Before, Large, Behind, Aliases}.

ask_for_stats(Server, To) ->
    Server ! {llm_request, To, stats, stats},
    timer:sleep(1),
    ask_for_stats(Server, To).

call_for_stats(Server, Seen) ->
    receive
        {stop, From} -> From ! {self(), Seen}
    after 0 ->
            #{succeeded := N} = gen_server:call(Server, stats, ?TIMEOUT),
            call_for_stats(Server, [N | Seen])
    end.

samples_before(Seen) ->
    receive
        {llm_response, stats, #{succeeded := N}} ->
            samples_before([N | Seen]);
        {llm_response, large, Large} ->
            {Seen, large_seen(Large)}
    after ?TIMEOUT ->
            error({no_answer, Seen})
    end.

%% -------------------------------------------------------- death in the middle

callers_killed_while_they_send_leave_nothing_behind(Config) ->
    Router = bed:node(Config),
    Parts = [killed_while_it_sends(Config, Router, Ms)
             || Ms <- [0, 1, 2, 4, 8, 15, 30, 60, 100, 150]],
    ct:log("MiB that came of 32 MiB: ~w", [[P div ?MIB || P <- Parts]]).

%% How many bytes of its message came.
killed_while_it_sends(Config, Router, Ms) ->
    Before = bytes_in(Config),
    bed:on(bed:caller(Config),
           fun() ->
                   Self = self(),
                   Pid = spawn(fun() ->
                                       Text = text(?DOCUMENT_BYTES),
                                       Self ! made,
                                       ask(gen_server_call, Router,
                                           {parse_prd, Text, 1})
                               end),
                   receive made -> timer:sleep(Ms) end,
                   Monitor = monitor(process, Pid),
                   exit(Pid, kill),
                   receive {'DOWN', Monitor, _, _, _} -> ok end
           end),
    bytes_in(Config) - Before.

bytes_in(Config) ->
    #{node := #{bytes_in := Bytes}} = stats(Config),
    Bytes.

%% Killed when the provider has written the answer, or a little later.
callers_killed_while_they_are_answered_leave_nothing_behind(Config) ->
    Provider = bed:provider(Config),
    {_, Actions} = (proplists:get_value(answer, Config))(),
    Written = Actions ++ [{notify, self(), written}],
    Router = bed:node(Config),
    [begin
         scripted_provider:set_handler(Provider, [Written]),
         Pid = bed:on(bed:caller(Config),
                      fun() ->
                              spawn(fun() ->
                                            ask(Way, Router, large_op())
                                    end)
                      end),
         receive written -> timer:sleep(Ms) end,
         bed:on(bed:caller(Config), fun() -> exit(Pid, kill) end),
         pong = bed:call(Config, ping),
         bed:eventually(fun() -> is_quiet(Config) end)
     end || Ms <- [0, 5, 10, 20, 40], Way <- [gen_server_call, rpc, message]].

%% Nothing but these questions is answered.
is_quiet(Config) ->
    #{node := #{bytes_out := Before}} = stats(Config),
    timer:sleep(20),
    #{node := #{bytes_out := After}} = stats(Config),
    After - Before < 65536.

a_node_killed_while_it_sends_is_forgotten(Config) ->
    Router = bed:node(Config),
    dies_busy(Config, bytes_in,
              fun() ->
                      rpc:call(Router, llm_router, no_such,
                               [text(?DOCUMENT_BYTES)])
              end).

a_node_killed_while_it_is_answered_is_forgotten(Config) ->
    Router = bed:node(Config),
    large_answer(Config),
    dies_busy(Config, bytes_out,
              fun() -> ask(gen_server_call, Router, large_op()) end).

%% A node that does this again and again, in two processes, is killed when
%% Counter shows that it is at it.
dies_busy(Config, Counter, Fun) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Doomed = bed:start_caller(Cookie, bed:node_name(doomed)),
    #{node := #{Counter := Before}} = stats(Config),
    bed:on(Doomed, fun() ->
                           [spawn(fun() -> repeat(infinity, Fun) end)
                            || _ <- [1, 2]]
                   end),
    bed:eventually(fun() ->
                           #{node := #{Counter := Now}} = stats(Config),
                           Now > Before + ?DOCUMENT_BYTES
                   end, 20000),
    bed:kill_caller(Doomed),
    pong = bed:call(Config, ping).

%% ------------------------------------------------------------------ limits

%% In fragments, as nodes send what is large. Who sends a message cannot be
%% told: only the control message of it was looked at.
a_message_over_the_limit_is_refused_and_the_connection_stays(Config) ->
    Router = bed:node(Config),
    {Call, Rpc, Erpc, Junk} =
        bed:on(bed:caller(Config),
               fun() ->
                       Text = text(?FRAME_BYTES + 1),
                       Op = {call_with_prompt, simple, Text},
                       {llm_router, Router} ! {llm_request, self(), ref, Op},
                       gen_server:cast({llm_router, Router}, Op),
                       {ask(gen_server_call, Router, Op),
                        ask(rpc, Router, Op),
                        catch ask(erpc, Router, Op),
                        bed:drain()}
               end),
    ct:log("rpc: ~tp~nerpc: ~tp", [Rpc, Erpc]),
    ?assertMatch({error, {too_large, #{message := _}}}, Call),
    ?assertMatch({badrpc, _}, Rpc),
    ?assertMatch({'EXIT', {{erpc, system_limit}, _}}, Erpc),
    ?assertEqual([], Junk),
    [] = scripted_provider:requests(bed:provider(Config)).

%% Six peers begin one each, and there is room for four; these are answered when
%% they are whole, and then there is room again.
messages_at_once_over_the_room_are_overloaded(Config) ->
    take_numbers(Config),
    Calls = [begun_call(Config, N) || N <- lists:seq(1, 6)],
    {Fitting, Others} = lists:split(4, Calls),
    [?assertMatch(#{refused := {error, {overloaded, _}}}, Call)
     || Call <- Others],
    [ended_call(Call) || Call <- Calls],
    [is_answered(Call) || Call <- Fitting],
    Again = begun_call(Config, 7),
    ended_call(Again),
    is_answered(Again),
    [raw_peer:close(Peer) || #{peer := Peer} <- [Again | Calls]].

%% The provider says which of the large prompts it was sent.
take_numbers(Config) ->
    scripted_provider:set_handler(
      bed:provider(Config),
      fun(#{body := Body}) ->
              {match, [Number]} = re:run(Body, "number [0-9]+",
                                         [{capture, first, binary}]),
              scripted_provider:answer(Number)
      end).

numbered_op(N) ->
    Prompt = [numbered("number", N), $\n, text(?FRAME_BYTES - 1000)],
    {call_with_prompt, simple, Prompt}.

%% A call in fragments but for the last of them. The router has them, and has
%% said so if it does not take them, when it answers the ping behind them.
begun_call(Config, N) ->
    Peer = connect(Config, #{flags => ?FULL_PEER bor ?FRAGMENTS}),
    From = raw_peer:pid(Peer),
    Ref = raw_peer:ref(Peer),
    ok = raw_peer:send(Peer, {19, From, llm_router, Ref}),
    Frames = raw_peer:fragments(N, 65536, {6, From, '', llm_router},
                                {'$gen_call', {From, [alias | Ref]},
                                 numbered_op(N)}),
    ok = raw_peer:send_bytes(Peer, lists:droplast(Frames)),
    Ping = raw_peer:ref(Peer),
    ok = raw_peer:send(Peer, {6, From, '', llm_router},
                       {'$gen_call', {From, [alias | Ping]}, ping}),
    Call = #{peer => Peer, n => N, ref => Ref, last => lists:last(Frames)},
    case raw_peer:recv(Peer) of
        {{33, _, Ping}, {_, pong}} ->
            Call;
        {{33, _, Ref}, {_, Refused}} ->
            {{33, _, Ping}, {_, pong}} = raw_peer:recv(Peer),
            Call#{refused => Refused}
    end.

ended_call(#{peer := Peer, last := Last}) ->
    ok = raw_peer:send_bytes(Peer, Last).

answer_to(#{peer := Peer, ref := Ref}) ->
    {{33, _, Ref}, {[alias | Ref], Answer}} = raw_peer:recv(Peer),
    Answer.

is_answered(#{n := N} = Call) ->
    Text = numbered("number", N),
    ?assertMatch({ok, #{text := Text}}, answer_to(Call)).

nodes_that_send_at_once_are_answered_or_overloaded(Config) ->
    Router = bed:node(Config),
    take_numbers(Config),
    Answers =
        lists:append(
          at_once([fun() ->
                           bed:on(bed:caller(Config, N),
                                  fun() -> send_at_once(Router, N * 100) end)
                   end || N <- [1, 2, 3]])),
    {Refused, Answered} =
        lists:partition(fun(Answer) -> Answer =:= overloaded end, Answers),
    ct:log("~b answered, ~b overloaded", [length(Answered), length(Refused)]),
    ?assertEqual([right], lists:usort(Answered)).

send_at_once(Router, First) ->
    at_once([fun() -> outcome(N, ask(gen_server_call, Router, numbered_op(N)))
             end || N <- lists:seq(First, First + 15)]).

outcome(N, {ok, #{text := Text}}) ->
    case numbered("number", N) of
        Text -> right;
        _ -> {wrong, Text}
    end;
outcome(_N, {error, {overloaded, _}}) ->
    overloaded;
outcome(_N, Other) ->
    Other.

%% -------------------------------------------------------------------- many

a_thousand_calls_of_one_process_are_answered(Config) ->
    ?assertEqual({[], []}, wrong_of_a_thousand(Config)).

%% They wait for the provider at the same time.
wrong_of_a_thousand(Config) ->
    Router = bed:node(Config),
    Provider = bed:provider(Config),
    scripted_provider:set_handler(
      Provider,
      fun(Request) ->
              [{sleep, 500} | scripted_model:from_document(Request)]
      end),
    Wrong = bed:on(bed:caller(Config), fun() -> ask_a_thousand(Router) end),
    #{max_in_flight := Most} = scripted_provider:counters(Provider),
    ct:log("~b at once", [Most]),
    Wrong.

ask_a_thousand(Router) ->
    wrong([{N, send_request(Router, numbered("keep", N))}
           || N <- lists:seq(1, 1000)]).

numbered(Kind, N) ->
    iolist_to_binary([Kind, " ", integer_to_list(N)]).

send_request(Router, Prompt) ->
    gen_server:send_request({llm_router, Router},
                            {call_with_prompt, simple, Prompt}).

%% Of numbered calls those that got anything but their answer, and what else is
%% in the mailbox then.
wrong(Calls) ->
    Wrong = [{N, Other}
             || {N, Call} <- Calls,
                Other <- [gen_server:receive_response(Call, ?TIMEOUT)],
                not is_answer(numbered("keep", N), Other)],
    {Wrong, bed:drain()}.

is_answer(Prompt, {reply, {ok, #{text := <<"You wrote: ", Text/binary>>}}}) ->
    Text =:= Prompt;
is_answer(_Prompt, _Other) ->
    false.

%% Their provider calls are aborted, the others are answered, and nothing else
%% is in the mailbox.
half_of_a_thousand_calls_are_given_up(Config) ->
    Router = bed:node(Config),
    Provider = bed:provider(Config),
    Self = self(),
    scripted_provider:set_handler(
      Provider,
      fun(#{body := Body} = Request) ->
              Self ! asked,
              case binary:match(Body, <<"drop ">>) of
                  nomatch -> await_leave(Request);
                  _ -> [hang]
              end
      end),
    Asker = spawn_monitor(
              fun() ->
                      exit(bed:on(bed:caller(Config),
                                  fun() -> give_up_half(Router) end))
              end),
    [receive asked -> ok after ?TIMEOUT -> error(not_asked) end
     || _ <- lists:seq(1, 1000)],
    bed:on(bed:caller(Config), fun() -> give_up_half ! go, ok end),
    bed:eventually(fun() ->
                           length(scripted_provider:aborted(Provider)) =:= 500
                   end, 20000),
    {Pid, Monitor} = Asker,
    ?assertEqual({[], []},
                 receive {'DOWN', Monitor, _, Pid, Wrong} -> Wrong end),
    ?assertEqual(500, length(scripted_provider:aborted(Provider))).

%% Slow enough that the others are given up before.
await_leave(Request) ->
    [{sleep, 3000} | scripted_model:from_document(Request)].

give_up_half(Router) ->
    Kept = [{N, send_request(Router, numbered("keep", N))}
            || N <- lists:seq(1, 500)],
    Dropped = [send_request(Router, numbered("drop", N))
               || N <- lists:seq(1, 500)],
    register(give_up_half, self()),
    receive go -> ok end,
    unregister(give_up_half),
    [timeout = gen_server:receive_response(Call, 0) || Call <- Dropped],
    wrong(Kept).

%% ------------------------------------------------------------------- peers

connect(Config, Opts) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    raw_peer:connect(bed:node(Config), Opts#{cookie => Cookie}).

%% Half of them speak in fragments.
two_hundred_peers(Config) ->
    Rss = router:rss_kib(bed:router(Config)),
    Peers = [connect(Config, #{flags => ?FULL_PEER bor Flag})
             || _ <- lists:seq(1, 100), Flag <- [0, ?FRAGMENTS]],
    are_served(Peers),
    #{node := #{peers := 203}} = stats(Config),
    Each = (router:rss_kib(bed:router(Config)) - Rss) / length(Peers),
    ct:log("~.1f KiB of memory for each peer", [Each]),
    Peers.

are_served(Peers) ->
    [?assertEqual({reply, pong}, raw_peer:call(Peer, llm_router, ping))
     || Peer <- Peers].

are_closed(Config, Peers) ->
    lists:foreach(fun raw_peer:close/1, Peers),
    bed:eventually(fun() ->
                           #{node := #{peers := N}} = stats(Config),
                           N =:= 3
                   end).

two_hundred_peers_are_served(Config) ->
    Peers = two_hundred_peers(Config),
    are_served(Peers),
    [{reply, {ok, #{text := <<"You wrote: hi">>}}} =
         raw_peer:call(Peer, llm_router, {call_with_prompt, simple, <<"hi">>})
     || Peer <- Peers],
    all_nodes_are_served(Config),
    are_closed(Config, Peers).

all_nodes_are_served(Config) ->
    Router = bed:node(Config),
    [pong = bed:on(bed:caller(Config, N),
                   fun() -> ask(gen_server_call, Router, ping) end)
     || N <- [1, 2, 3]].

%% Its queue is bounded; the other peers do not notice.
one_of_two_hundred_peers_never_reads(Config) ->
    [Deaf | Others] = two_hundred_peers(Config),
    From = raw_peer:pid(Deaf),
    Self = self(),
    Writer = spawn_link(
               fun() ->
                       receive go -> ok end,
                       Self ! {sent, flood(Deaf, From, 200000)}
               end),
    ok = gen_tcp:controlling_process(raw_peer:socket(Deaf), Writer),
    Writer ! go,
    ?assertEqual(closed, served_until_sent(Config, Others)),
    are_served(Others),
    are_closed(Config, Others).

served_until_sent(Config, Peers) ->
    {Us, _} = timer:tc(fun() -> are_served(Peers) end),
    all_nodes_are_served(Config),
    ct:log("~b peers pinged in ~b ms", [length(Peers), Us div 1000]),
    receive {sent, How} -> How after 0 -> served_until_sent(Config, Peers) end.

flood(_Peer, _From, 0) ->
    not_closed;
flood(Peer, From, N) ->
    case raw_peer:send(Peer, {6, From, '', llm_router},
                       {llm_request, From, N, models}) of
        ok -> flood(Peer, From, N - 1);
        {error, _} -> closed
    end.
