%% Tools that look at processes and nodes get polite answers.
-module(tools_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [the_state_is_the_statistics,
     the_status_has_the_usual_form,
     what_sys_cannot_do_here_is_refused,
     process_info_says_what_a_waiting_server_says,
     process_info_of_nobody_is_undefined,
     names_are_found,
     functions_that_are_not_here_are_undefined,
     observer_gets_an_answer].

init_per_suite(Config) ->
    bed:up(Config, #{}).

end_per_suite(Config) ->
    bed:down(Config).

%% Fun(Server, Pid, Node) on a caller's node.
on(Config, Fun) ->
    Node = router:node(bed:router(Config)),
    bed:on(bed:caller(Config), fun() ->
        Server = {llm_router, Node},
        #{status := ok} = gen_server:call(Server, health),
        Fun(Server, rpc:call(Node, erlang, whereis, [llm_router]), Node)
    end).

the_state_is_the_statistics(Config) ->
    on(Config, fun(Server, Pid, _) ->
        #{requests := #{}, in_flight := 0} =
            bed:state(sys:get_state(Server)),
        #{requests := #{}, loop_turns := _} = bed:state(sys:get_state(Pid))
    end).

the_status_has_the_usual_form(Config) ->
    on(Config, fun(Server, Pid, _) ->
        {status, Pid, {module, llm_router},
         [[], running, Pid, [], Misc]} = sys:get_status(Server),
        [{header, _}, {data, [{<<"Status">>, running}]},
         {data, [{<<"State">>, #{requests := _}}]}] = Misc
    end).

what_sys_cannot_do_here_is_refused(Config) ->
    on(Config, fun(Server, _, _) ->
        {error, not_supported} = sys:suspend(Server),
        {error, not_supported} = sys:trace(Server, true),
        {error, not_supported} = sys:statistics(Server, get),
        {error, not_supported} = sys:log(Server, get),
        {'EXIT', _} = (catch sys:replace_state(Server, fun(S) -> S end)),
        pong = gen_server:call(Server, ping)
    end).

process_info_says_what_a_waiting_server_says(Config) ->
    on(Config, fun(_, Pid, Node) ->
        Info = rpc:call(Node, erlang, process_info, [Pid]),
        llm_router = proplists:get_value(registered_name, Info),
        waiting = proplists:get_value(status, Info),
        0 = proplists:get_value(message_queue_len, Info),
        Info = rpc:call(Node, 'Elixir.Process', info, [Pid]),
        {message_queue_len, 0} =
            erpc:call(Node, erlang, process_info, [Pid, message_queue_len]),
        [{status, waiting}, {links, []}] =
            erpc:call(Node, erlang, process_info, [Pid, [status, links]]),
        {badrpc, {'EXIT', {badarg, _}}} =
            rpc:call(Node, erlang, process_info, [Pid, colour]),
        {badrpc, {'EXIT', {badarg, _}}} =
            rpc:call(Node, erlang, process_info, [Pid, [status, colour]]),
        {badrpc, {'EXIT', {badarg, _}}} =
            rpc:call(Node, erlang, process_info, [self()])
    end).

process_info_of_nobody_is_undefined(Config) ->
    on(Config, fun(_, Pid, Node) ->
        Other = another(Pid),
        undefined = rpc:call(Node, erlang, process_info, [Other]),
        nil = rpc:call(Node, 'Elixir.Process', info, [Other]),
        false = rpc:call(Node, erlang, is_process_alive, [Other])
    end).

%% A pid of the same node that nobody has.
another(Pid) ->
    <<131, 88, Rest/binary>> = term_to_binary(Pid, [{minor_version, 2}]),
    Size = byte_size(Rest) - 12,
    <<Node:Size/binary, _Id:32, Tail:8/binary>> = Rest,
    binary_to_term(<<131, 88, Node/binary, 77777:32, Tail/binary>>).

names_are_found(Config) ->
    on(Config, fun(_, Pid, Node) ->
        Pid = rpc:call(Node, 'Elixir.Process', whereis,
                       ['Elixir.LLMRouter.Server']),
        undefined = rpc:call(Node, erlang, whereis, [nobody]),
        nil = rpc:call(Node, 'Elixir.Process', whereis, [nobody]),
        {badrpc, {'EXIT', {badarg, _}}} =
            rpc:call(Node, erlang, whereis, ["llm_router"]),
        Names = rpc:call(Node, erlang, registered, []),
        true = lists:member(llm_router, Names)
    end).

functions_that_are_not_here_are_undefined(Config) ->
    on(Config, fun(_, Pid, Node) ->
        {badrpc, {'EXIT', {undef, [{erlang, garbage_collect, [Pid], []}]}}} =
            rpc:call(Node, erlang, garbage_collect, [Pid])
    end).

%% What observer, runtime_tools and Phoenix's dashboard ask first.
observer_gets_an_answer(Config) ->
    on(Config, fun(_, _, Node) ->
        [{badrpc, {'EXIT', {undef, _}}} = rpc:call(Node, M, F, A)
         || {M, F, A} <- [{observer_backend, sys_info, []},
                          {observer_backend, get_table_list, [ets, []]},
                          {runtime_info, start, []},
                          {code, which, [observer_backend]},
                          {appmon_info, start_link, [node(), self(), []]}]],
        pong = net_adm:ping(Node)
    end).
