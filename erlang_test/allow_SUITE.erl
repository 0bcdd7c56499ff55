%% Who may call: the lists allow.call and allow.admin, judged by the name of
%% the node that sends, in every way to call; and `drain`, which only those in
%% allow.admin may ask for.
%%
%% Caller 1, the friend, is in allow.call, caller 2, the stranger, in none of
%% the lists, and caller 3, the admin, in allow.admin.
-module(allow_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(SERVER, 'Elixir.LLMRouter.Server').
-define(OP, {call_with_prompt, simple, <<"hi">>}).
-define(TIMEOUT, 10000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% calls
     every_way_to_call_is_judged,
     every_operation_is_judged_by_its_class,
     every_form_with_a_pid_is_judged,
     a_form_that_nobody_waits_for_is_dropped,
     system_messages_are_for_admins,
     a_wrong_request_is_not_explained_to_a_stranger,
     a_malformed_message_is_not_explained_to_a_stranger,
     the_sender_counts_and_not_the_pid_in_the_message,
     a_pid_of_another_node_lends_nobody_its_rights,
     a_request_id_shares_nothing_with_a_stranger,
     a_node_that_comes_back_is_judged_again,
     a_stranger_is_a_node_like_others,
     a_flood_of_refused_calls_is_no_flood_of_lines,
     %% configuration
     everybody_may_do_everything_by_default,
     the_lists_may_come_from_a_file,
     the_environment_wins_over_the_file,
     a_bad_pattern_exits_with_1,
     %% drain
     a_drain_answers_what_is_in_flight_and_refuses_the_rest,
     a_drain_waits_no_longer_than_its_limit,
     every_way_to_ask_for_a_drain_is_answered,
     a_drain_that_nobody_waits_for_is_not_carried_out,
     a_termination_after_a_drain_loses_no_answer,
     a_second_termination_after_a_drain_ends_at_once].

init_per_suite(Config) ->
    bed:up(Config, #{callers => 3, router => none}).

end_per_suite(Config) ->
    bed:down(Config).

%% A router of its own for each test.
init_per_testcase(_Case, Config) ->
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1),
    bed:start_router(bed:renamed(Config), #{env => lists(Config)}).

%% It was not harmed, or has ended as it should.
end_per_testcase(_Case, Config) ->
    bed:must(
      fun() ->
              case is_process_alive(maps:get(pid, bed:router(Config))) of
                  true ->
                      pong = on(admin, Config,
                                fun() -> gen_server:call(server(Config), ping)
                                end),
                      {exited, 0} = bed:stop_router(Config);
                  false ->
                      ok
              end
      end).

lists(Config) ->
    [{"LLM_ROUTER_ALLOW_CALL", "friend*@*, " ++ pattern(friend, Config)},
     {"LLM_ROUTER_ALLOW_ADMIN", pattern(admin, Config)}].

%% caller_1_23@host as *_1_23@*: other callers end in other numbers.
pattern(Who, Config) ->
    [Name, _Host] = string:split(atom_to_list(name(Who, Config)), "@"),
    [$* | string:find(Name, "_")] ++ "@*".

caller(friend, Config) -> bed:caller(Config, 1);
caller(stranger, Config) -> bed:caller(Config, 2);
caller(admin, Config) -> bed:caller(Config, 3).

name(Who, Config) ->
    maps:get(node, caller(Who, Config)).

on(Who, Config, Fun) ->
    bed:on(caller(Who, Config), Fun).

server(Config) ->
    {llm_router, bed:node(Config)}.

call(Who, Config, Op) ->
    Server = server(Config),
    on(Who, Config, fun() -> gen_server:call(Server, Op, ?TIMEOUT) end).

forbidden(Node, List) ->
    Message = iolist_to_binary(io_lib:format("node ~s may not call (~s)",
                                             [Node, List])),
    {error, {forbidden, #{message => Message}}}.

asked(Config) ->
    length(scripted_provider:requests(bed:provider(Config))).

refused(Config) ->
    #{errors := Errors} = call(admin, Config, stats),
    maps:get(forbidden, Errors, 0).

%% -------------------------------------------------------------- ways to call

%% How an operation is called and its answer got, from a caller's node.
ways() ->
    [{global_name,
      fun(_, Op) -> gen_server:call({global, llm_router}, Op, ?TIMEOUT) end},
     {pid,
      fun(_, Op) ->
              gen_server:call(global:whereis_name(llm_router), Op, ?TIMEOUT)
      end},
     {name_and_node,
      fun(Router, Op) -> gen_server:call({llm_router, Router}, Op, ?TIMEOUT)
      end},
     {elixir_name,
      fun(Router, Op) -> gen_server:call({?SERVER, Router}, Op, ?TIMEOUT) end},
     {send_request,
      fun(Router, Op) ->
              Id = gen_server:send_request({llm_router, Router}, Op),
              {reply, Reply} = gen_server:receive_response(Id, ?TIMEOUT),
              Reply
      end},
     {multi_call,
      fun(Router, Op) ->
              {[{Router, Reply}], []} =
                  gen_server:multi_call([Router], llm_router, Op, ?TIMEOUT),
              Reply
      end},
     {message,
      fun(Router, Op) ->
              Ref = make_ref(),
              {llm_router, Router} ! {llm_request, self(), Ref, Op},
              llm_response(Ref)
      end},
     {message_to_the_global_name,
      fun(_, Op) ->
              Ref = make_ref(),
              global:send(llm_router, {llm_request, self(), Ref, Op}),
              llm_response(Ref)
      end},
     {cast,
      fun(Router, Op) ->
              Ref = make_ref(),
              gen_server:cast({llm_router, Router},
                              {llm_request, self(), Ref, Op}),
              llm_response(Ref)
      end},
     {rpc, rpc_way(fun(N, M, F, A) -> rpc:call(N, M, F, A, ?TIMEOUT) end)},
     {rpc_async,
      rpc_way(fun(N, M, F, A) -> rpc:yield(rpc:async_call(N, M, F, A)) end)},
     {rpc_multicall,
      rpc_way(fun(N, M, F, A) ->
                      {[Reply], []} = rpc:multicall([N], M, F, A, ?TIMEOUT),
                      Reply
              end)},
     {rpc_block,
      rpc_way(fun(N, M, F, A) -> rpc:block_call(N, M, F, A, ?TIMEOUT) end)},
     {erpc, rpc_way(fun(N, M, F, A) -> erpc:call(N, M, F, A, ?TIMEOUT) end)},
     {erpc_send_request,
      rpc_way(fun(N, M, F, A) ->
                      erpc:receive_response(erpc:send_request(N, M, F, A),
                                            ?TIMEOUT)
              end)},
     {erpc_multicall,
      rpc_way(fun(N, M, F, A) ->
                      [{ok, Reply}] = erpc:multicall([N], M, F, A, ?TIMEOUT),
                      Reply
              end)}].

rpc_way(Call) ->
    fun(Router, Op) ->
            {F, A} = function(Op),
            Call(Router, llm_router, F, A)
    end.

function(Op) when is_atom(Op) -> {Op, []};
function(Op) ->
    [Name | Arguments] = tuple_to_list(Op),
    {Name, Arguments}.

llm_response(Ref) ->
    receive {llm_response, Ref, Result} -> Result
    after ?TIMEOUT -> error({no_answer, bed:drain()})
    end.

%% The answers to an operation in every way to call.
in_every_way(Who, Config, Op) ->
    Router = bed:node(Config),
    [{Way, on(Who, Config, fun() -> Call(Router, Op) end)}
     || {Way, Call} <- ways()].

every_way_to_call_is_judged(Config) ->
    Refusal = forbidden(name(stranger, Config), "allow.call"),
    [?assertEqual({Way, Refusal}, {Way, Answer})
     || {Way, Answer} <- in_every_way(stranger, Config, ?OP)],
    ?assertEqual(0, asked(Config)),
    ?assertEqual(length(ways()), refused(Config)),
    [?assertMatch({_, {ok, #{text := <<"You wrote: hi">>}}}, Answer)
     || Answer <- in_every_way(friend, Config, ?OP)],
    ?assertEqual(length(ways()), asked(Config)),
    ?assertEqual(length(ways()), refused(Config)),
    [?assertEqual({Way, pong}, {Way, Answer})
     || Who <- [friend, stranger, admin],
        {Way, Answer} <- in_every_way(Who, Config, ping)].

operations() ->
    [{open, ping}, {open, version}, {open, health},
     {call, models}, {call, {select_model, simple, chat}},
     {call, {generate_task, <<"Add a login page">>}},
     {call, {parse_prd, <<"# A shop\n- Cart\n- Payment">>, 2}},
     {call, {expand_task, <<"Build the login page">>}},
     {call, {call, simple, [#{role => user, content => <<"hi">>}]}},
     {call, ?OP},
     {call, {call_with_system, simple, <<"Be kind">>, <<"hi">>}},
     {admin, stats}].

every_operation_is_judged_by_its_class(Config) ->
    [is_judged(Who, Class, Op, Config)
     || Who <- [friend, stranger, admin], {Class, Op} <- operations()],
    [is_judged(Who, admin, Op, Config)
     || Who <- [friend, stranger], Op <- [drain, {drain}]],
    ?assertMatch(#{status := ok}, call(stranger, Config, health)).

is_judged(Who, Class, Op, Config) ->
    Answer = call(Who, Config, Op),
    ct:log("~s ~0tp: ~0tp", [Who, Op, Answer]),
    case {Class, Who} of
        {open, _} -> is_answer(Answer);
        {call, friend} -> is_answer(Answer);
        {admin, admin} -> is_answer(Answer);
        _ ->
            List = "allow." ++ atom_to_list(Class),
            ?assertEqual(forbidden(name(Who, Config), List), Answer)
    end.

is_answer(pong) -> ok;
is_answer({ok, _}) -> ok;
is_answer(Answer) -> ?assert(is_map(Answer)).

%% -------------------------------------------------------- forms with a pid

%% How a form that names its taker is sent, and what the sender sees of it.
senders() ->
    [{message, fun(Router, Form) -> {llm_router, Router} ! Form, ok end},
     {cast,
      fun(Router, Form) -> gen_server:cast({llm_router, Router}, Form) end},
     {call,
      fun(Router, Form) -> gen_server:call({llm_router, Router}, Form) end}].

%% Of them, those with a function of their own.
rpc_senders() ->
    [{rpc, rpc_way(fun rpc:call/4)},
     {erpc, rpc_way(fun erpc:call/4)},
     {rpc_cast, rpc_way(fun(N, M, F, A) -> true = rpc:cast(N, M, F, A), ok
                        end)},
     {erpc_cast, rpc_way(fun erpc:cast/4)}].

%% The form for a taker, and how the answer comes to him.
forms() ->
    Task = {generate_task, <<"Add a login page">>},
    [{fun(Pid) -> erlang:append_element(Task, Pid) end,
      fun() -> receive {llm_result, generate_task, R} -> R
               after ?TIMEOUT -> none end end},
     {fun(Pid) -> erlang:append_element(erlang:append_element(Task, Pid), ref)
      end,
      fun() -> receive {llm_response, ref, R} -> R
               after ?TIMEOUT -> none end end}].

message_forms() ->
    [{fun(Pid) -> {prd_request, Pid, me, <<"# A shop\n- Cart">>, 1} end,
      fun() -> receive {prd_response, R} -> R after ?TIMEOUT -> none end end},
     {fun(Pid) -> {llm_request, Pid, ref, ?OP} end,
      fun() -> receive {llm_response, ref, R} -> R
               after ?TIMEOUT -> none end end}].

every_form_with_a_pid_is_judged(Config) ->
    Router = bed:node(Config),
    Sent = [{Sender, Form} || Sender <- senders() ++ rpc_senders(),
                              Form <- forms()]
        ++ [{Sender, Form} || Sender <- senders(), Form <- message_forms()],
    Answers = fun(Who) ->
                      [{Way, on(Who, Config,
                                fun() ->
                                        ok = Send(Router, Form(self())),
                                        Take()
                                end)}
                       || {{Way, Send}, {Form, Take}} <- Sent]
              end,
    Refusal = forbidden(name(stranger, Config), "allow.call"),
    [?assertEqual({Way, Refusal}, {Way, Answer})
     || {Way, Answer} <- Answers(stranger)],
    ?assertEqual(0, asked(Config)),
    ?assertEqual(length(Sent), refused(Config)),
    [?assertMatch({_, {ok, _}}, Answer) || Answer <- Answers(friend)],
    ?assertEqual(length(Sent), asked(Config)).

a_form_that_nobody_waits_for_is_dropped(Config) ->
    Server = {_, Router} = server(Config),
    [] = on(stranger, Config,
            fun() ->
                    [gen_server:cast(Server, Op) || Op <- [?OP, drain, stats]],
                    [Server ! Message || Message <- [?OP, drain, hello]],
                    rpc:cast(Router, llm_router, stats, []),
                    erpc:cast(Router, llm_router, drain, []),
                    pong = gen_server:call(Server, ping),
                    bed:drain()
            end),
    ?assertMatch(#{status := ok}, call(stranger, Config, health)),
    ?assertMatch(#{ignored := 8}, call(admin, Config, stats)).

system_messages_are_for_admins(Config) ->
    Ask = fun(Who, Sys) ->
                  Server = server(Config),
                  on(Who, Config, fun() -> try Sys(Server)
                                           catch error:Reason -> {error, Reason}
                                           end
                                  end)
          end,
    [?assertEqual(forbidden(name(Who, Config), "allow.admin"), Ask(Who, Sys))
     || Who <- [friend, stranger],
        Sys <- [fun sys:get_state/1, fun sys:get_status/1]],
    State = Ask(admin, fun sys:get_state/1),
    ?assertMatch(#{requests := #{}}, bed:state(State)),
    ?assertMatch({status, _, {module, llm_router}, _},
                 Ask(admin, fun sys:get_status/1)).

%% ------------------------------------------------------- requests with faults

a_wrong_request_is_not_explained_to_a_stranger(Config) ->
    Refusal = forbidden(name(stranger, Config), "allow.call"),
    Wrong = [{{generate_task, 42}, invalid_request},
             {{generate_task, <<"x">>, #{colour => red}}, invalid_request},
             {{call, simple}, invalid_request},
             {{ping, 1}, invalid_request},
             {frobnicate, unknown_request},
             {<<"what">>, unknown_request},
             {deep(2000), unknown_request_or_invalid},
             {deep(200000), unknown_request_or_invalid}],
    [begin
         ?assertEqual(Refusal, call(stranger, Config, Op)),
         ?assertMatch({error, {Got, _}}
                        when Got =:= Code; Got =:= invalid_request,
                      call(friend, Config, Op))
     end || {Op, Code} <- Wrong].

deep(Depth) ->
    lists:foldl(fun(_, Term) -> {Term} end, x, lists:seq(1, Depth)).

a_malformed_message_is_not_explained_to_a_stranger(Config) ->
    [begin
         Node = list_to_atom(Name ++ [$@ | host(Config)]),
         Peer = raw_connect(Config, Node),
         Answers = [malformed(Peer, Bytes)
                    || Bytes <- [<<109, 9:32, "short">>, <<255>>, <<>>]],
         {reply, pong} = raw_peer:call(Peer, llm_router, ping),
         raw_peer:close(Peer),
         [?assertMatch({Node, {error, {Code, _}}}, {Node, Answer})
          || Answer <- Answers]
     end || {Name, Code} <- [{"friendly", invalid_request},
                             {"unfriendly", forbidden}]].

host(Config) ->
    [_, Host] = string:split(atom_to_list(bed:node(Config)), "@"),
    Host.

raw_connect(Config, Name) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    raw_peer:connect(bed:node(Config), #{cookie => Cookie, name => Name}).

%% The answer to a call whose request is these bytes.
malformed(Peer, Request) ->
    From = raw_peer:pid(Peer),
    Tag = [alias | raw_peer:ref(Peer)],
    <<131, Name/binary>> = term_to_binary('$gen_call'),
    <<131, Caller/binary>> = term_to_binary({From, Tag}),
    ok = raw_peer:send(Peer, {6, From, '', llm_router},
                       {encoded, [<<131, 104, 3>>, Name, Caller, Request]}),
    {_Control, {Tag, Reply}} = raw_peer:recv(Peer),
    Reply.

%% ------------------------------------------------------------ who is who

%% A process that waits for an {llm_response, _, Result} and hands it out.
taker(Who, Config) ->
    on(Who, Config,
       fun() ->
               spawn(fun() ->
                             receive
                                 {llm_response, _, Result} ->
                                     receive
                                         {tell, From} -> From ! {told, Result}
                                     end
                             end
                     end)
       end).

taken(Who, Config, Taker) ->
    on(Who, Config, fun() ->
                            Taker ! {tell, self()},
                            receive {told, Result} -> Result
                            after ?TIMEOUT -> none
                            end
                    end).

the_sender_counts_and_not_the_pid_in_the_message(Config) ->
    Server = server(Config),
    Send = fun(From, To) ->
                   Taker = taker(To, Config),
                   on(From, Config,
                      fun() -> Server ! {llm_request, Taker, ref, ?OP} end),
                   taken(To, Config, Taker)
           end,
    ?assertEqual(forbidden(name(stranger, Config), "allow.call"),
                 Send(stranger, friend)),
    ?assertEqual(0, asked(Config)),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}}, Send(friend, stranger)),
    ?assertEqual(1, asked(Config)).

%% Not even where a node lies about the process that sends.
a_pid_of_another_node_lends_nobody_its_rights(Config) ->
    Peer = raw_connect(Config, list_to_atom("stranger@" ++ host(Config))),
    Friend = taker(friend, Config),
    Call = {'$gen_call', {Friend, make_ref()}, ?OP},
    ok = raw_peer:send(Peer, {22, Friend, service(Config)}, Call),
    ok = raw_peer:send(Peer, {6, Friend, '', llm_router}, Call),
    ok = raw_peer:send(Peer, {2, '', service(Config)},
                       {llm_request, Friend, ref, ?OP}),
    ?assertEqual(forbidden('stranger@HOST', "allow.call"),
                 with_host(taken(friend, Config, Friend), Config)),
    {reply, pong} = raw_peer:call(Peer, llm_router, ping),
    raw_peer:close(Peer),
    ?assertEqual(3, refused(Config)),
    ?assertEqual(0, asked(Config)).

with_host({error, {Code, #{message := Message} = Details}}, Config) ->
    Short = string:replace(Message, host(Config), "HOST"),
    {error, {Code, Details#{message := iolist_to_binary(Short)}}}.

service(Config) ->
    on(friend, Config, fun() -> global:whereis_name(llm_router) end).

%% Neither the answer of another's call nor a share in one under way.
a_request_id_shares_nothing_with_a_stranger(Config) ->
    Op = {call_with_prompt, simple, <<"hi">>, #{request_id => <<"one">>}},
    scripted_provider:set_handler(
      bed:provider(Config),
      fun(Request) ->
              [{sleep, 1000} | scripted_model:from_document(Request)]
      end),
    Self = self(),
    spawn_link(fun() -> Self ! {answer, call(friend, Config, Op)} end),
    scripted_provider:await_requests(bed:provider(Config), 1),
    Refusal = forbidden(name(stranger, Config), "allow.call"),
    ?assertEqual(Refusal, call(stranger, Config, Op)),
    receive {answer, Answer} -> ?assertMatch({ok, _}, Answer) end,
    ?assertEqual(Refusal, call(stranger, Config, Op)),
    ?assertEqual(1, asked(Config)).

a_node_that_comes_back_is_judged_again(Config) ->
    Router = bed:node(Config),
    [begin
         true = on(Who, Config, fun() -> erlang:disconnect_node(Router) end),
         bed:eventually(fun() -> pong =:= (catch call(Who, Config, ping)) end)
     end || _ <- [1, 2, 3], Who <- [friend, stranger]],
    ?assertEqual(forbidden(name(stranger, Config), "allow.call"),
                 call(stranger, Config, ?OP)),
    ?assertMatch({ok, _}, call(friend, Config, ?OP)).

%% What the system itself asks is not a matter of the lists.
a_stranger_is_a_node_like_others(Config) ->
    Router = bed:node(Config),
    {pong, true, {badrpc, {'EXIT', {undef, _}}}, noproc} =
        on(stranger, Config,
           fun() ->
                   Pid = global:whereis_name(llm_router),
                   Ref = monitor(process, {nobody, Router}),
                   {net_adm:ping(Router),
                    rpc:call(Router, erlang, is_process_alive, [Pid]),
                    rpc:call(Router, lists, reverse, ["abc"]),
                    receive {'DOWN', Ref, _, _, Reason} -> Reason
                    after ?TIMEOUT -> none
                    end}
           end),
    ?assertEqual(0, refused(Config)).

%% The first of each list at once, and then none for a minute.
a_flood_of_refused_calls_is_no_flood_of_lines(Config) ->
    Server = server(Config),
    Floods = [{stranger, ?OP, "allow.call"}, {stranger, stats, "allow.admin"},
              {friend, stats, "allow.admin"}],
    [on(Who, Config,
        fun() ->
                [Server ! {llm_request, self(), N, Op}
                 || N <- lists:seq(1, 2000)],
                [{error, {forbidden, _}} = llm_response(N)
                 || N <- lists:seq(1, 2000)]
        end) || {Who, Op, _} <- Floods],
    ?assertEqual(6000, refused(Config)),
    Log = router:stderr(bed:router(Config)),
    Lines = [Line || Line <- string:lexemes(Log, "\n"),
                     string:find(Line, "may not call") =/= nomatch],
    ct:log("~ts", [lists:join("\n", Lines)]),
    ?assertEqual(3, length(Lines)),
    [?assertMatch([_], [Line || Line <- Lines, lists:all(
                                                 fun(Part) ->
                                                         string:find(Line, Part)
                                                             =/= nomatch
                                                 end,
                                                 ["level=warn", List,
                                                  atom_to_list(
                                                    name(Who, Config))])])
     || {Who, _, List} <- Floods].

%% ---------------------------------------------------------- configuration

everybody_may_do_everything_by_default(Config) ->
    Config1 = bed:start_router(bed:renamed(Config), #{env => []}),
    ?assertMatch({ok, _}, call(stranger, Config1, ?OP)),
    ?assertMatch(#{}, call(stranger, Config1, stats)),
    {exited, 0} = bed:stop_router(Config1).

the_lists_may_come_from_a_file(Config) ->
    File = file(Config, #{call => [<<"nobody@nowhere">>,
                                   pattern_binary(friend, Config)],
                          admin => [pattern_binary(admin, Config)]}),
    Config1 = bed:start_router(bed:renamed(Config),
                               #{env => [], args => ["--config", File]}),
    ?assertEqual(forbidden(name(stranger, Config), "allow.call"),
                 call(stranger, Config1, ?OP)),
    ?assertEqual(forbidden(name(friend, Config), "allow.admin"),
                 call(friend, Config1, stats)),
    ?assertMatch({ok, _}, call(friend, Config1, ?OP)),
    ?assertMatch(#{}, call(admin, Config1, stats)),
    {exited, 0} = bed:stop_router(Config1).

the_environment_wins_over_the_file(Config) ->
    File = file(Config, #{call => [pattern_binary(friend, Config)]}),
    Env = [{"LLM_ROUTER_ALLOW_CALL", pattern(stranger, Config)}],
    Config1 = bed:start_router(bed:renamed(Config),
                               #{env => Env, args => ["--config", File]}),
    ?assertMatch({ok, _}, call(stranger, Config1, ?OP)),
    ?assertEqual(forbidden(name(friend, Config), "allow.call"),
                 call(friend, Config1, ?OP)),
    {exited, 0} = bed:stop_router(Config1).

pattern_binary(Who, Config) ->
    list_to_binary(pattern(Who, Config)).

%% A configuration file with these lists.
file(Config, Allow) ->
    Name = integer_to_list(erlang:unique_integer([positive])) ++ ".json",
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, test_json:encode(#{allow => Allow})),
    File.

a_bad_pattern_exits_with_1(Config) ->
    [begin
         {Status, <<>>, Stderr} = Run = run(Config, Args, Env),
         ct:log("~0tp", [Run]),
         ?assertEqual(1, Status),
         ?assertEqual(1, length(string:lexemes(Stderr, "\n"))),
         ?assertNotEqual({Named, nomatch}, {Named, string:find(Stderr, Named)})
     end || {Args, Env, Named} <-
                [{[], [{"LLM_ROUTER_ALLOW_CALL", "web 1@*"}],
                  "LLM_ROUTER_ALLOW_CALL"},
                 {[], [{"LLM_ROUTER_ALLOW_ADMIN", "*,"}],
                  "LLM_ROUTER_ALLOW_ADMIN"}]
                ++ [{["--config", file(Config, #{Key => Patterns})], [],
                     "allow." ++ atom_to_list(Key)}
                    || Key <- [call, admin],
                       Patterns <- [[<<>>], [], <<"*">>, [<<"*">>, 3],
                                    [<<"web1@*">>, <<"web[12]@*">>],
                                    [<<"a\nb@*">>],
                                    lists:duplicate(65, <<"*">>)]]],
    {0, Printed, _} = run(Config, [], [{"LLM_ROUTER_ALLOW_CALL", "a@*, b@c"}],
                          "--print-config"),
    ?assertMatch(#{<<"allow">> := #{<<"call">> := [<<"a@*">>, <<"b@c">>],
                                    <<"admin">> := [<<"*">>]}},
                 test_json:decode(Printed)).

run(Config, Args, Env) ->
    run(Config, Args, Env, "--check-config").

run(Config, Args, Env, Command) ->
    router:run(#{dir => proplists:get_value(priv_dir, Config), cookie => "c",
                 args => [Command | Args],
                 env => [{"OPENAI_API_KEY", "sk-test-key"} | Env]}).

%% ------------------------------------------------------------------ drain

%% A call in the background, whose answer takes so long or never comes.
call_later(Config, Actions) ->
    scripted_provider:set_handler(
      bed:provider(Config),
      fun(Request) -> Actions ++ scripted_model:from_document(Request) end),
    Self = self(),
    spawn_link(fun() ->
                       Self ! {answer, catch call(friend, Config, ?OP)}
               end),
    scripted_provider:await_requests(bed:provider(Config), 1).

answer() ->
    receive {answer, Answer} -> Answer after ?TIMEOUT -> none end.

%% The program ends by itself with 0.
has_ended(Config) ->
    #{pid := Pid} = Router = bed:router(Config),
    Ended = router:await_exit(Router, bed:limit_ms(5000)),
    gen_server:stop(Pid),
    ?assertEqual({exited, 0}, Ended).

is_named(Config) ->
    on(friend, Config, fun() -> global:whereis_name(llm_router) end)
        =/= undefined.

a_drain_answers_what_is_in_flight_and_refuses_the_rest(Config) ->
    call_later(Config, [{sleep, 2000}]),
    ?assertEqual(forbidden(name(friend, Config), "allow.admin"),
                 call(friend, Config, drain)),
    ?assertMatch(#{status := ok}, call(friend, Config, health)),
    ok = call(admin, Config, drain),
    bed:eventually(fun() -> not is_named(Config) end),
    ?assertMatch({error, {shutting_down, #{message := _}}},
                 call(friend, Config, ?OP)),
    ok = call(admin, Config, drain),
    ok = call(admin, Config, {drain}),
    pong = call(stranger, Config, ping),
    ?assertMatch(#{status := draining, in_flight := 1},
                 call(stranger, Config, health)),
    ?assertEqual(forbidden(name(stranger, Config), "allow.call"),
                 call(stranger, Config, ?OP)),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}}, answer()),
    has_ended(Config),
    ?assertEqual(1, asked(Config)).

a_drain_waits_no_longer_than_its_limit(Config) ->
    {exited, 0} = bed:stop_router(Config),
    Env = [{"LLM_ROUTER_TIMEOUTS_DRAIN_MS", "500"} | lists(Config)],
    Config1 = bed:start_router(bed:renamed(Config), #{env => Env}),
    call_later(Config1, [hang]),
    ok = call(admin, Config1, drain),
    ?assertMatch({error, {shutting_down, _}}, answer()),
    has_ended(Config1),
    [_] = scripted_provider:await_aborted(bed:provider(Config), 1).

%% The answer comes before the connection is closed.
every_way_to_ask_for_a_drain_is_answered(Config) ->
    {exited, 0} = bed:stop_router(Config),
    [begin
         Config1 = bed:start_router(bed:renamed(Config),
                                    #{env => lists(Config)}),
         Router = bed:node(Config1),
         Answer = on(admin, Config1, fun() -> Call(Router, drain) end),
         ?assertEqual({Way, ok}, {Way, Answer}),
         has_ended(Config1)
     end || {Way, Call} <- ways()
                ++ [{tuple, fun(Router, drain) ->
                                    gen_server:call({llm_router, Router},
                                                    {drain})
                            end},
                    {elixir_module,
                     fun(Router, drain) -> rpc:call(Router, ?SERVER, drain, [])
                     end}]].

a_drain_that_nobody_waits_for_is_not_carried_out(Config) ->
    Server = {_, Router} = server(Config),
    on(admin, Config, fun() ->
                              gen_server:cast(Server, drain),
                              Server ! drain,
                              true = rpc:cast(Router, llm_router, drain, []),
                              ok = erpc:cast(Router, llm_router, drain, [])
                      end),
    {error, {invalid_request, _}} = call(friend, Config, {drain, now}),
    ?assertMatch(#{status := ok}, call(admin, Config, health)),
    ?assertMatch({ok, _}, call(friend, Config, ?OP)).

a_termination_after_a_drain_loses_no_answer(Config) ->
    call_later(Config, [{sleep, 1500}]),
    ok = call(admin, Config, drain),
    router:signal(bed:router(Config), "TERM"),
    timer:sleep(300),
    ok = call(admin, Config, drain),
    ?assertMatch({ok, #{text := <<"You wrote: hi">>}}, answer()),
    has_ended(Config).

a_second_termination_after_a_drain_ends_at_once(Config) ->
    call_later(Config, [hang]),
    ok = call(admin, Config, drain),
    router:signal(bed:router(Config), "TERM"),
    timer:sleep(300),
    ok = call(admin, Config, drain),
    Start = bed:now_ms(),
    router:signal(bed:router(Config), "TERM"),
    has_ended(Config),
    ?assert(bed:now_ms() - Start < bed:limit_ms(1500)),
    ?assertNotMatch({ok, _}, answer()).
