%% One question to a router in any of the ways in which a caller can put it, and
%% what came of it in one shape. Runs in the asking process, on a caller's node.
-module(ask).

-export([forms/0, text/4, op/1, op/2]).

-define(SERVER, 'Elixir.LLMRouter.Server').

%% Each but by_global_name asks the router that is named.
-type form() :: by_global_name | by_own_global_name | by_node_name
              | by_request | by_rpc | by_erpc | by_message.

%% An answer's text; an error that the router told; or why there was no answer:
%% noproc, nodedown, noconnection, timeout.
-type outcome() :: {ok, binary()} | {error, atom()} | {gone, term()}.
-export_type([form/0, outcome/0]).

-spec forms() -> [form()].
forms() ->
    [by_global_name, by_own_global_name, by_node_name, by_request, by_rpc,
     by_erpc, by_message].

-spec op(binary()) -> tuple().
op(Prompt) -> {call_with_prompt, simple, Prompt}.

-spec op(binary(), map()) -> tuple().
op(Prompt, Opts) -> {call_with_prompt, simple, Prompt, Opts}.

-spec text(form(), node(), tuple(), timeout()) -> outcome().
text(Form, Router, Op, TimeoutMs) ->
    try answer(Form, Router, Op, TimeoutMs) of
        {ok, #{text := Text}} -> {ok, Text};
        {error, {Code, #{message := _}}} -> {error, Code};
        {badrpc, Reason} -> {gone, Reason};
        {gone, _} = Gone -> Gone
    catch
        exit:{Reason, {gen_server, call, _}} -> {gone, reason(Reason)};
        error:{erpc, Reason} -> {gone, Reason}
    end.

reason({nodedown, _Node}) -> nodedown;
reason(Reason) -> Reason.

answer(by_global_name, _Router, Op, TimeoutMs) ->
    gen_server:call({global, llm_router}, Op, TimeoutMs);
answer(by_own_global_name, Router, Op, TimeoutMs) ->
    gen_server:call({global, {llm_router, Router}}, Op, TimeoutMs);
answer(by_node_name, Router, Op, TimeoutMs) ->
    gen_server:call({llm_router, Router}, Op, TimeoutMs);
answer(by_request, Router, Op, TimeoutMs) ->
    Id = gen_server:send_request({llm_router, Router}, Op),
    case gen_server:receive_response(Id, TimeoutMs) of
        {reply, Reply} -> Reply;
        {error, {Reason, _Server}} -> {gone, Reason};
        timeout -> {gone, timeout}
    end;
answer(by_rpc, Router, Op, TimeoutMs) ->
    [Function | Args] = tuple_to_list(Op),
    rpc:call(Router, ?SERVER, Function, Args, TimeoutMs);
answer(by_erpc, Router, Op, TimeoutMs) ->
    [Function | Args] = tuple_to_list(Op),
    erpc:call(Router, ?SERVER, Function, Args, TimeoutMs);
answer(by_message, Router, Op, TimeoutMs) ->
    Server = {llm_router, Router},
    Monitor = monitor(process, Server),
    Answer = receive
                 {'DOWN', Monitor, _, _, Reason} -> {gone, Reason}
             after 0 -> send_and_receive(Server, Op, Monitor, TimeoutMs)
             end,
    demonitor(Monitor, [flush]),
    Answer.

%% Monitoring waits for a connection. When none was made it says so, and a
%% message sent then would make a new one, and be answered there.
send_and_receive(Server, Op, Monitor, TimeoutMs) ->
    Ref = make_ref(),
    case erlang:send(Server, {llm_request, self(), Ref, Op}, [noconnect]) of
        ok ->
            receive
                {llm_response, Ref, Reply} -> Reply;
                {'DOWN', Monitor, _, _, Reason} -> {gone, Reason}
            after TimeoutMs -> {gone, timeout}
            end;
        noconnect ->
            {gone, noconnection}
    end.
