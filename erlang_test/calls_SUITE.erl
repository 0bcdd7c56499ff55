%% Every way in which a BEAM process can call the router, for every operation,
%% and what a node of the cluster may expect of any other node. It runs on
%% each OTP release at hand: distribution flags change from year to year.
-module(calls_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(SERVER, 'Elixir.LLMRouter.Server').
-define(PROMPT, <<"Add OAuth2 login. It must work with Google."/utf8>>).
-define(MESSAGES, [#{role => user, content => <<"Say hello to me">>}]).
-define(TIMEOUT, 10000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_gen_server_call_to_the_global_name_is_answered,
     a_gen_server_call_to_the_pid_is_answered,
     a_gen_server_call_to_name_and_node_is_answered,
     a_gen_server_call_to_the_elixir_name_is_answered,
     a_send_request_is_answered,
     a_multi_call_is_answered,
     an_rpc_call_is_answered,
     an_rpc_call_to_the_erlang_module_is_answered,
     an_rpc_async_call_is_answered_at_yield,
     an_rpc_multicall_is_answered,
     an_rpc_block_call_is_answered,
     an_erpc_call_is_answered,
     an_erpc_send_request_is_answered,
     an_erpc_multicall_is_answered,
     an_llm_request_message_is_answered,
     an_llm_request_cast_is_answered,
     a_cast_with_a_pid_is_answered_to_the_pid,
     a_cast_with_a_pid_and_a_reference_is_answered_to_the_pid,
     a_message_with_a_pid_is_answered_to_the_pid,
     a_message_with_a_pid_and_a_reference_is_answered_to_the_pid,
     an_rpc_call_with_a_pid_and_a_reference_is_answered_to_the_pid,
     an_erpc_call_with_a_pid_and_a_reference_is_answered_to_the_pid,
     a_prd_request_is_answered_with_a_prd_response,
     an_rpc_call_with_a_pid_returns_ok_and_answers_the_pid,
     an_erpc_call_with_a_pid_returns_ok_and_answers_the_pid,
     an_rpc_cast_with_a_pid_is_answered_to_the_pid,
     an_erpc_cast_with_a_pid_is_answered_to_the_pid,
     a_plain_cast_is_not_answered,
     an_elixir_script_calls_in_every_way,
     two_nodes_call_at_once_and_get_their_own_answers,
     a_large_request_and_answer_pass_through,
     charlists_iolists_and_string_keys_are_text,
     an_unknown_request_is_an_error,
     an_unknown_rpc_function_is_undefined,
     an_unknown_erpc_function_is_undefined,
     spawning_on_the_router_ends_with_undef,
     a_ping_is_a_pong,
     the_router_is_a_hidden_node,
     a_monitor_of_an_unknown_name_is_down_with_noproc,
     a_monitor_of_a_stale_pid_is_down_with_noproc,
     a_call_to_an_unknown_name_exits_with_noproc,
     a_link_to_the_service_can_be_made_and_removed,
     a_link_to_a_stale_pid_is_broken_with_noproc,
     is_process_alive_tells_the_truth,
     sys_messages_do_no_harm,
     stray_messages_do_no_harm,
     a_stop_does_not_stop_it,
     death_of_the_router_breaks_monitors_and_links].

init_per_suite(Config) ->
    bed:up(Config, #{callers => 2, handler => fun task_model:answer/1}).

end_per_suite(Config) ->
    bed:down(Config).

%% ------------------------------------------------------------- operations

%% Every operation with arguments, and what its answer must look like.
operations() ->
    Task = #{title => <<"Build the login page">>, owner => <<"ann">>},
    [{ping, fun(R) -> ?assertEqual(pong, R) end},
     {version, fun is_a_map/1},
     {health, fun is_a_map/1},
     {stats, fun is_a_map/1},
     {models, fun is_a_collection/1},
     {reload, fun(R) -> ?assertEqual(ok, R) end},
     {get_available_models, fun([M | _]) -> ?assert(is_binary(M)) end},
     {{determine_complexity_for_task, qa},
      fun(R) -> ?assertEqual(complex, R) end},
     {{cancel, <<"nothing of that id">>}, fun(R) -> ?assertNot(R) end},
     {{select_model, simple, chat}, fun is_a_selection/1},
     {{select_model, simple, chat, #{return => full}},
      fun({ok, #{candidates := [_ | _]}} = R) -> is_a_selection(R) end},
     {{generate_task, ?PROMPT}, fun is_the_task/1},
     {{generate_task, ?PROMPT, #{timeout => 8000}}, fun is_the_task/1},
     {{parse_prd, document(), 3}, fun(R) -> are_tasks(3, R) end},
     {{parse_prd, document(), 2, [{temperature, 0.5}]},
      fun(R) -> are_tasks(2, R) end},
     {{expand_task, Task, #{num => 3}}, fun is_expanded/1},
     {{expand_task, <<"Build the login page">>},
      fun({ok, #{subtasks := S}}) -> ?assertEqual(5, length(S)) end},
     {{analyze_complexity, [Task, <<"Fix a typo">>]}, fun are_analyses/1},
     {{analyze_complexity, [Task, <<"Fix a typo">>], [{language, en}]},
      fun are_analyses/1},
     {{research, <<"Which queue?">>, <<"For jobs">>}, fun are_findings/1},
     {{research, <<"Which queue?">>, nil, #{timeout => 8000}},
      fun are_findings/1},
     {{embed, [<<"one">>, "two"]}, fun are_embeddings/1},
     {{embed, [<<"one">>, "two"], #{timeout => 8000}}, fun are_embeddings/1},
     {{call, simple, ?MESSAGES}, fun is_a_response/1},
     {{call, complex, ?MESSAGES, #{max_tokens => 100}}, fun is_a_response/1},
     {{call_with_prompt, medium, <<"Say hello to me">>}, fun is_a_response/1},
     {{call_with_system, medium, <<"Be kind">>, <<"Say hello to me">>},
      fun is_a_response/1},
     {{route, #{messages => ?MESSAGES, complexity => complex,
                task_type => qa}}, fun is_a_response/1},
     {{route_completion, #{<<"model">> => <<"openai/gpt-5.4-mini">>,
                           <<"messages">> => ?MESSAGES}},
      fun is_a_response/1},
     {{stream, simple, ?MESSAGES}, fun is_a_response/1}].

document() ->
    <<"# A shop\n## Cart\nGoods must be kept.\n## Payment\nCards can be used.\n"
      "- Refunds take a day\n- Receipts are sent by mail\n"
      "## Delivery\nParcels should leave at noon.\n">>.

is_a_map({ok, Map}) -> is_a_map(Map);
is_a_map(Map) -> ?assert(is_map(Map)).

is_a_collection({ok, Value}) -> is_a_collection(Value);
is_a_collection(Value) -> ?assert(is_map(Value) orelse is_list(Value)).

is_a_selection({ok, #{model := Model, provider := Provider}}) ->
    ?assert(is_binary(Model)),
    ?assert(is_binary(Provider) orelse is_atom(Provider)).

is_the_task({ok, Task}) ->
    ?assertMatch(#{id := 1, title := <<"Add OAuth2 login">>, priority := high,
                   status := pending, dependencies := [], subtasks := []},
                 Task),
    is_whole(Task).

is_whole(Task) ->
    ?assertEqual(lists:sort([id, title, description, details, test_strategy,
                             priority, status, dependencies, subtasks,
                             estimated_hours]),
                 lists:sort(maps:keys(Task))),
    [?assert(is_binary(maps:get(K, Task)))
     || K <- [title, description, details, test_strategy]].

are_tasks(N, {ok, Tasks}) ->
    ?assertEqual(lists:seq(1, N), [Id || #{id := Id} <- Tasks]),
    lists:foreach(fun is_whole/1, Tasks),
    ?assertMatch(#{title := <<"Cart">>}, hd(Tasks)).

is_expanded({ok, Task}) ->
    ?assertMatch(#{title := <<"Build the login page">>, owner := <<"ann">>},
                 Task),
    Subtasks = maps:get(subtasks, Task),
    ?assertEqual([1, 2, 3], [Id || #{id := Id} <- Subtasks]).

are_analyses({ok, Analyses}) ->
    ?assertMatch([#{task_id := nil, task_title := <<"Build the login page">>,
                    complexity_score := 1, recommended_subtasks := 6,
                    expansion_prompt := <<"Mind ", _/binary>>,
                    reasoning := <<"It is ", _/binary>>},
                  #{task_title := <<"Fix a typo">>}], Analyses).

are_findings({ok, Research}) ->
    ?assertEqual(#{findings => <<"What is known of Which queue?">>,
                   sources => [<<"https://example.com/a">>, <<"A book">>]},
                 Research).

are_embeddings({ok, Embeddings}) ->
    ?assertMatch(#{embeddings := [[A, _, _], [A, _, _]], model := Model,
                   usage := #{input_tokens := _}}
                   when is_float(A) andalso is_binary(Model), Embeddings).

is_a_response({ok, Response}) ->
    ?assertMatch(#{text := <<"You wrote: Say hello to me">>,
                   content := <<"You wrote: Say hello to me">>,
                   finish_reason := stop, attempts := 1,
                   usage := #{input_tokens := In, output_tokens := Out,
                              total_tokens := Total}}
                   when In + Out =:= Total, Response),
    [?assert(is_map_key(K, Response))
     || K <- [model, provider, tokens_used, cost_usd, cost_cents, duration_ms,
              request_id, tool_calls]].

%% Calls each operation by Way(RouterNode, Op) on the first caller's node.
each_operation(Config, Way) ->
    Router = bed:node(Config),
    [begin
         ct:log("~0tp", [Op]),
         Check(bed:on(bed:caller(Config),
                      fun() -> whole_answer(Way(Router, to_me(Op))) end))
     end || {Op, Check} <- operations()].

%% Not every way tells the router who calls, so that a stream names who takes
%% it; its answer is what its last message says.
to_me({stream, Complexity, Messages}) ->
    {stream, Complexity, Messages, #{to => self()}};
to_me(Op) ->
    Op.

whole_answer({ok, Ref}) when is_reference(Ref) -> streamed(Ref, <<>>);
whole_answer(Answer) -> Answer.

streamed(Ref, Text) ->
    receive
        {llm_stream, Ref, {delta, More}} ->
            streamed(Ref, <<Text/binary, More/binary>>);
        {llm_stream, Ref, {done, #{text := Text} = Response}} ->
            {ok, Response}
    after ?TIMEOUT ->
            error({no_end, Text, bed:drain()})
    end.

%% The function and arguments that rpc callers write for an operation.
function(Op) when is_atom(Op) -> {Op, []};
function(Op) ->
    [Name | Args] = tuple_to_list(Op),
    {Name, Args}.

%% ------------------------------------------------------------ gen_server

a_gen_server_call_to_the_global_name_is_answered(Config) ->
    each_operation(Config,
                   fun(_, Op) ->
                           gen_server:call({global, llm_router}, Op, ?TIMEOUT)
                   end).

a_gen_server_call_to_the_pid_is_answered(Config) ->
    each_operation(Config,
                   fun(_, Op) ->
                           Pid = global:whereis_name(llm_router),
                           gen_server:call(Pid, Op, ?TIMEOUT)
                   end).

a_gen_server_call_to_name_and_node_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           gen_server:call({llm_router, Router}, Op, ?TIMEOUT)
                   end).

a_gen_server_call_to_the_elixir_name_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           gen_server:call({?SERVER, Router}, Op, ?TIMEOUT)
                   end).

a_send_request_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           Id = gen_server:send_request({llm_router, Router},
                                                        Op),
                           {reply, Reply} = gen_server:receive_response(
                                              Id, ?TIMEOUT),
                           Reply
                   end).

a_multi_call_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           {[{Router, Reply}], []} =
                               gen_server:multi_call([Router], llm_router, Op,
                                                     ?TIMEOUT),
                           Reply
                   end).

%% ------------------------------------------------------------ rpc and erpc

an_rpc_call_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           {F, A} = function(Op),
                           rpc:call(Router, ?SERVER, F, A, ?TIMEOUT)
                   end).

an_rpc_call_to_the_erlang_module_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           {F, A} = function(Op),
                           rpc:call(Router, llm_router, F, A)
                   end).

an_rpc_async_call_is_answered_at_yield(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           {F, A} = function(Op),
                           rpc:yield(rpc:async_call(Router, ?SERVER, F, A))
                   end).

an_rpc_multicall_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           {F, A} = function(Op),
                           {[Reply], []} = rpc:multicall([Router], ?SERVER, F,
                                                         A, ?TIMEOUT),
                           Reply
                   end).

an_rpc_block_call_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           {F, A} = function(Op),
                           rpc:block_call(Router, ?SERVER, F, A, ?TIMEOUT)
                   end).

an_erpc_call_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           {F, A} = function(Op),
                           erpc:call(Router, ?SERVER, F, A, ?TIMEOUT)
                   end).

an_erpc_send_request_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           {F, A} = function(Op),
                           Id = erpc:send_request(Router, ?SERVER, F, A),
                           erpc:receive_response(Id, ?TIMEOUT)
                   end).

an_erpc_multicall_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           {F, A} = function(Op),
                           [{ok, Reply}] = erpc:multicall([Router], ?SERVER, F,
                                                          A, ?TIMEOUT),
                           Reply
                   end).

%% --------------------------------------------------------------- messages

an_llm_request_message_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           Ref = make_ref(),
                           {llm_router, Router}
                               ! {llm_request, self(), Ref, Op},
                           llm_response(Ref)
                   end).

an_llm_request_cast_is_answered(Config) ->
    each_operation(Config,
                   fun(Router, Op) ->
                           Ref = {my, <<"reference">>, make_ref()},
                           gen_server:cast({llm_router, Router},
                                           {llm_request, self(), Ref, Op}),
                           llm_response(Ref)
                   end).

llm_response(Ref) ->
    receive {llm_response, Ref, Result} -> Result
    after ?TIMEOUT -> error({no_answer, bed:drain()})
    end.

%% The operations with a message form of their own, and their checks.
with_pid() ->
    [{{generate_task, ?PROMPT}, fun is_the_task/1},
     {{parse_prd, document(), 3}, fun(R) -> are_tasks(3, R) end},
     {{expand_task, #{title => <<"Build the login page">>, owner => <<"ann">>}},
      fun({ok, #{owner := <<"ann">>, subtasks := S}}) ->
              ?assertEqual(5, length(S))
      end},
     {{research, <<"Which queue?">>, <<"For jobs">>}, fun are_findings/1}].

%% Sends each of them by Send(Router, Op with the pid) from the caller's node.
each_with_pid(Config, Send) ->
    Router = bed:node(Config),
    [Check(bed:on(bed:caller(Config),
                  fun() ->
                          Send(Router, erlang:append_element(Op, self())),
                          llm_result(element(1, Op))
                  end)) || {Op, Check} <- with_pid()].

llm_result(Name) ->
    receive {llm_result, Name, Result} -> Result
    after ?TIMEOUT -> error({no_answer, bed:drain()})
    end.

a_cast_with_a_pid_is_answered_to_the_pid(Config) ->
    each_with_pid(Config,
                  fun(Router, Op) ->
                          gen_server:cast({llm_router, Router}, Op)
                  end).

a_message_with_a_pid_is_answered_to_the_pid(Config) ->
    each_with_pid(Config, fun(Router, Op) -> {llm_router, Router} ! Op end).

%% The same with a reference behind the pid.
each_with_reference(Config, Send) ->
    Router = bed:node(Config),
    [Check(bed:on(bed:caller(Config),
                  fun() ->
                          Ref = make_ref(),
                          WithPid = erlang:append_element(Op, self()),
                          Send(Router, erlang:append_element(WithPid, Ref)),
                          llm_response(Ref)
                  end)) || {Op, Check} <- with_pid()].

a_cast_with_a_pid_and_a_reference_is_answered_to_the_pid(Config) ->
    each_with_reference(Config,
                        fun(Router, Op) ->
                                gen_server:cast({llm_router, Router}, Op)
                        end).

a_message_with_a_pid_and_a_reference_is_answered_to_the_pid(Config) ->
    each_with_reference(Config,
                        fun(Router, Op) -> {llm_router, Router} ! Op end).

an_rpc_call_with_a_pid_and_a_reference_is_answered_to_the_pid(Config) ->
    each_with_reference(Config,
                        fun(Router, Op) ->
                                {F, A} = function(Op),
                                ok = rpc:call(Router, ?SERVER, F, A)
                        end).

an_erpc_call_with_a_pid_and_a_reference_is_answered_to_the_pid(Config) ->
    each_with_reference(Config,
                        fun(Router, Op) ->
                                {F, A} = function(Op),
                                ok = erpc:call(Router, ?SERVER, F, A)
                        end).

a_prd_request_is_answered_with_a_prd_response(Config) ->
    Router = bed:node(Config),
    Result = bed:on(bed:caller(Config),
                    fun() ->
                            {llm_router, Router}
                                ! {prd_request, self(), {any, "thing"},
                                   document(), 3},
                            receive {prd_response, R} -> R
                            after ?TIMEOUT -> error({no_answer, bed:drain()})
                            end
                    end),
    are_tasks(3, Result).

an_rpc_call_with_a_pid_returns_ok_and_answers_the_pid(Config) ->
    each_with_pid(Config,
                  fun(Router, Op) ->
                          {F, A} = function(Op),
                          ok = rpc:call(Router, ?SERVER, F, A)
                  end).

an_erpc_call_with_a_pid_returns_ok_and_answers_the_pid(Config) ->
    each_with_pid(Config,
                  fun(Router, Op) ->
                          {F, A} = function(Op),
                          ok = erpc:call(Router, ?SERVER, F, A)
                  end).

an_rpc_cast_with_a_pid_is_answered_to_the_pid(Config) ->
    each_with_pid(Config,
                  fun(Router, Op) ->
                          {F, A} = function(Op),
                          true = rpc:cast(Router, ?SERVER, F, A)
                  end).

an_erpc_cast_with_a_pid_is_answered_to_the_pid(Config) ->
    each_with_pid(Config,
                  fun(Router, Op) ->
                          {F, A} = function(Op),
                          ok = erpc:cast(Router, ?SERVER, F, A)
                  end).

a_plain_cast_is_not_answered(Config) ->
    Router = bed:node(Config),
    [] = bed:on(bed:caller(Config),
                fun() ->
                        gen_server:cast({llm_router, Router}, ping),
                        pong = gen_server:call({llm_router, Router}, ping),
                        bed:drain()
                end).

%% ----------------------------------------------------------------- Elixir

an_elixir_script_calls_in_every_way(Config) ->
    Script = filename:join(router:project(), "erlang_test/calls.exs"),
    {Status, Output} = bed:elixir(Config, Script,
                                  [atom_to_list(bed:node(Config))]),
    ct:log("~ts", [Output]),
    ?assertEqual({0, match},
                 {Status, re:run(Output, "all calls answered",
                                 [{capture, none}])}).

%% ------------------------------------------------------------ many callers

two_nodes_call_at_once_and_get_their_own_answers(Config) ->
    Calls = fun() ->
                    Workers = [spawn_monitor(fun() -> own_answer(N) end)
                               || N <- lists:seq(1, 25)],
                    [receive {'DOWN', M, _, _, Reason} -> Reason end
                     || {_, M} <- Workers]
            end,
    Self = self(),
    Halves = [spawn_link(fun() ->
                                 Self ! {self(), bed:on(Caller, Calls)}
                         end)
              || Caller <- [bed:caller(Config, 1), bed:caller(Config, 2)]],
    [receive {Pid, Reasons} -> [normal] = lists:usort(Reasons) end
     || Pid <- Halves].

own_answer(N) ->
    Mine = iolist_to_binary(io_lib:format("I am ~b of ~b",
                                          [N, erlang:phash2(node())])),
    {ok, #{text := Text}} =
        gen_server:call({global, llm_router}, {call_with_prompt, simple, Mine},
                        ?TIMEOUT),
    <<"You wrote: ", Mine/binary>> = Text.

a_large_request_and_answer_pass_through(Config) ->
    Provider = bed:provider(Config),
    Answer = binary:copy(<<"größe "/utf8>>, 150000),
    Prompt = binary:copy(<<"0123456789">>, 200000),
    scripted_provider:set_handler(
      Provider, fun(_) -> scripted_provider:answer(
                            Answer, #{chunk_size => 5000}) end),
    {ok, #{text := Text}} = bed:call(Config,
                                     {call_with_prompt, simple, Prompt}),
    scripted_provider:set_handler(Provider, fun task_model:answer/1),
    ?assert(Text =:= Answer).

charlists_iolists_and_string_keys_are_text(Config) ->
    Prompts = ["Say hello to me",
               ["Say ", <<"hello">>, $\s, ["to", " me"]],
               <<"Say hello to me">>],
    [is_a_response(bed:call(Config, {call_with_prompt, simple, P}))
     || P <- Prompts],
    {ok, #{text := Umlaut}} =
        bed:call(Config, {call_with_prompt, simple, [16#48, 16#fc, 16#4e2d]}),
    ?assertEqual(<<"You wrote: Hü中"/utf8>>, Umlaut),
    [is_a_response(bed:call(Config, {call, simple, [M]}))
     || M <- [#{<<"role">> => <<"user">>,
                <<"content">> => <<"Say hello to me">>},
              #{role => "user", content => "Say hello to me"},
              [{role, user}, {content, "Say hello to me"}]]],
    is_the_task(bed:call(Config, {generate_task, ?PROMPT,
                                  #{<<"timeout">> => 5000}})).

%% ----------------------------------------------------------- what is wrong

an_unknown_request_is_an_error(Config) ->
    [?assertMatch({error, {unknown_request, #{message := M}}}
                    when is_binary(M), bed:call(Config, Op))
     || Op <- [{frobnicate, 1}, frobnicate, {}, 42, "text", #{}, [], 1.5,
               {<<"generate_task">>, <<"x">>}]],
    pong = bed:call(Config, ping).

an_unknown_rpc_function_is_undefined(Config) ->
    Router = bed:node(Config),
    [?assertMatch({badrpc, {'EXIT', {undef, [{M, F, A, []} | _]}}},
                  bed:on(bed:caller(Config),
                         fun() -> Way(Router, M, F, A) end))
     || {M, F, A} <- undefined(),
        Way <- [fun rpc:call/4, fun rpc:block_call/4,
                fun(N, Mod, Fun, Args) ->
                        rpc:yield(rpc:async_call(N, Mod, Fun, Args))
                end]].

an_unknown_erpc_function_is_undefined(Config) ->
    Router = bed:node(Config),
    [?assertMatch({error, {exception, undef, [{M, F, A, []} | _]}},
                  bed:on(bed:caller(Config),
                         fun() ->
                                 try erpc:call(Router, M, F, A, ?TIMEOUT)
                                 catch Class:Reason -> {Class, Reason}
                                 end
                         end))
     || {M, F, A} <- undefined()].

undefined() ->
    [{?SERVER, frobnicate, [1, <<"two">>]},
     {?SERVER, ping, [1, 2, 3, 4, 5]},
     {llm_router, nosuch, []},
     {no_such_module, generate_task, [<<"x">>]},
     {lists, reverse, ["abc"]}].

spawning_on_the_router_ends_with_undef(Config) ->
    Router = bed:node(Config),
    Down = bed:on(bed:caller(Config),
                  fun() ->
                          {Pid, Ref} = spawn_monitor(Router, lists, seq,
                                                     [1, 2]),
                          receive {'DOWN', Ref, process, Pid, Reason} -> Reason
                          after ?TIMEOUT -> none
                          end
                  end),
    ?assertMatch({undef, _}, Down),
    pong = bed:call(Config, ping).

%% ------------------------------------------------------ a node like others

a_ping_is_a_pong(Config) ->
    Router = bed:node(Config),
    [pong, pong] = [bed:on(bed:caller(Config, N),
                           fun() -> net_adm:ping(Router) end) || N <- [1, 2]].

the_router_is_a_hidden_node(Config) ->
    Router = bed:node(Config),
    {Visible, Hidden, Connected} =
        bed:on(bed:caller(Config),
               fun() -> {nodes(), nodes(hidden), nodes(connected)} end),
    ?assertNot(lists:member(Router, Visible)),
    ?assert(lists:member(Router, Hidden)),
    ?assert(lists:member(Router, Connected)).

a_monitor_of_an_unknown_name_is_down_with_noproc(Config) ->
    Router = bed:node(Config),
    noproc = down_reason(Config, {nobody, Router}).

a_monitor_of_a_stale_pid_is_down_with_noproc(Config) ->
    noproc = down_reason(Config, stale_pid(Config)).

down_reason(Config, Target) ->
    bed:on(bed:caller(Config),
           fun() ->
                   Ref = monitor(process, Target),
                   receive {'DOWN', Ref, process, _, Reason} -> Reason
                   after 5000 -> none
                   end
           end).

%% A pid of the router's node as it runs now, of a process that is not there.
stale_pid(Config) ->
    bed:on(bed:caller(Config),
           fun() ->
                   Pid = global:whereis_name(llm_router),
                   Bytes = term_to_binary(Pid),
                   Before = byte_size(Bytes) - 12,
                   <<Head:Before/binary, Id:32, Rest:8/binary>> = Bytes,
                   binary_to_term(<<Head/binary, (Id + 12345):32, Rest/binary>>)
           end).

a_call_to_an_unknown_name_exits_with_noproc(Config) ->
    Router = bed:node(Config),
    {exit, {noproc, _}} =
        bed:on(bed:caller(Config),
               fun() -> try gen_server:call({nobody, Router}, ping)
                        catch Class:Reason -> {Class, Reason} end
               end).

a_link_to_the_service_can_be_made_and_removed(Config) ->
    {[], pong} = bed:on(bed:caller(Config),
                        fun() ->
                                process_flag(trap_exit, true),
                                Pid = global:whereis_name(llm_router),
                                true = link(Pid),
                                pong = gen_server:call(Pid, ping),
                                true = unlink(Pid),
                                true = link(Pid),
                                true = unlink(Pid),
                                {bed:drain(), gen_server:call(Pid, ping)}
                        end).

a_link_to_a_stale_pid_is_broken_with_noproc(Config) ->
    Pid = stale_pid(Config),
    noproc = bed:on(bed:caller(Config),
                    fun() ->
                            process_flag(trap_exit, true),
                            link(Pid),
                            receive {'EXIT', Pid, Reason} -> Reason
                            after 5000 -> none
                            end
                    end).

is_process_alive_tells_the_truth(Config) ->
    Router = bed:node(Config),
    Stale = stale_pid(Config),
    Alive = fun(Call) ->
                    bed:on(bed:caller(Config),
                           fun() ->
                                   Pid = global:whereis_name(llm_router),
                                   [Call(Router, erlang, is_process_alive, [P])
                                    || P <- [Pid, Stale]]
                           end)
            end,
    ?assertEqual([true, false], Alive(fun erpc:call/4)),
    ?assertEqual([true, false], Alive(fun rpc:call/4)).

sys_messages_do_no_harm(Config) ->
    bed:on(bed:caller(Config),
           fun() ->
                   Pid = global:whereis_name(llm_router),
                   #{requests := #{}} = bed:state(sys:get_state(Pid, 5000)),
                   {status, Pid, {module, llm_router}, [_ | _]} =
                       sys:get_status(Pid, 5000),
                   [outcome(fun() -> Sys(Pid) end)
                    || Sys <- [fun sys:suspend/1, fun sys:resume/1,
                               fun sys:no_debug/1]]
           end),
    pong = bed:call(Config, ping).

outcome(Fun) ->
    try Fun() catch Class:Reason -> {Class, Reason} end.

stray_messages_do_no_harm(Config) ->
    Router = bed:node(Config),
    [] = bed:on(bed:caller(Config),
                fun() ->
                        [{llm_router, Router} ! Message
                         || Message <- [hello, {a, b}, [], self(), make_ref(),
                                        {'$gen_call', nobody, ping},
                                        {'$gen_call', {self(), make_ref()}},
                                        {'$gen_cast', {cast, nothing}},
                                        {system, nobody, get_state},
                                        {llm_request, not_a_pid, x, ping},
                                        {prd_request, 1, 2, 3, 4}]],
                        pong = gen_server:call({llm_router, Router}, ping),
                        bed:drain()
                end).

a_stop_does_not_stop_it(Config) ->
    bed:on(bed:caller(Config),
           fun() ->
                   Pid = global:whereis_name(llm_router),
                   outcome(fun() -> gen_server:stop(Pid, normal, 2000) end),
                   exit(Pid, shutdown),
                   pong = gen_server:call(Pid, ping)
           end),
    Ping = fun() -> gen_server:call({global, llm_router}, ping) end,
    bed:eventually(fun() ->
                           pong =:= bed:on(bed:caller(Config),
                                           fun() -> outcome(Ping) end)
                   end).

death_of_the_router_breaks_monitors_and_links(Config) ->
    Bed = bed:up(Config, #{}),
    Router = bed:node(Bed),
    Self = self(),
    Watch = fun() ->
                    process_flag(trap_exit, true),
                    Pid = global:whereis_name(llm_router),
                    link(Pid),
                    Ref = monitor(process, Pid),
                    monitor_node(Router, true),
                    pong = gen_server:call(Pid, ping),
                    lists:sort(
                      [receive {'EXIT', Pid, Reason} -> {exit, Reason};
                               {'DOWN', Ref, _, _, Reason} -> {down, Reason};
                               {nodedown, Router} -> nodedown
                       after 5000 -> none
                       end || _ <- [1, 2, 3]])
            end,
    spawn_link(fun() -> Self ! {seen, bed:on(bed:caller(Bed), Watch)} end),
    timer:sleep(500),
    bed:kill_router(Bed),
    Seen = receive {seen, S} -> S end,
    bed:down(Bed),
    ?assertEqual(lists:sort([nodedown, {down, noconnection},
                             {exit, noconnection}]), Seen).
