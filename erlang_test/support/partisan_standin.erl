%% In the place of Partisan: nodes that reach each other over sockets of their
%% own, with or without Erlang distribution. As Partisan does it, every pid in
%% a message is written down as one of the node that sends it, and becomes a
%% pid again on that node only.
-module(partisan_standin).

-compile({no_auto_import, [node/0, nodes/0]}).

-export([forward_message/4, nodes/0, node/0]).
-export([start/1, stop/0, join/2, sent/0]).

%% Makes this node `Name'; the port that others join it by.
-spec start(node()) -> inet:port_number().
start(Name) ->
    Self = self(),
    spawn(fun() -> own(Name, Self) end),
    receive {?MODULE, Port} -> Port end.

-spec stop() -> ok.
stop() ->
    [{owner, Pid}] = ets:lookup(?MODULE, owner),
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

%% Lets this node send to that one.
-spec join(node(), inet:port_number()) -> ok.
join(Name, Port) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {packet, 4}]),
    [{owner, Pid}] = ets:lookup(?MODULE, owner),
    ok = gen_tcp:controlling_process(Socket, Pid),
    true = ets:insert(?MODULE, {{to, Name}, Socket}),
    ok.

%% All that this node has sent: {Node, Name, Message, Opts}.
-spec sent() -> [{node(), atom(), term(), map()}].
sent() ->
    [Sent || {{sent, _}, Sent} <- ets:tab2list(?MODULE)].

-spec node() -> node().
node() ->
    ets:lookup_element(?MODULE, node, 2).

-spec nodes() -> [node()].
nodes() ->
    [Name || {{to, Name}, _} <- ets:tab2list(?MODULE)].

-spec forward_message(node(), atom(), term(), map()) ->
          ok | {error, disconnected}.
forward_message(Node, Name, Message, Opts) ->
    case ets:lookup(?MODULE, {to, Node}) of
        [{_, Socket}] ->
            Key = {sent, erlang:unique_integer([monotonic])},
            true = ets:insert(?MODULE, {Key, {Node, Name, Message, Opts}}),
            gen_tcp:send(Socket,
                         term_to_binary({Name, encode(Message, node())}));
        [] ->
            {error, disconnected}
    end.

own(Name, Starter) ->
    ?MODULE = ets:new(?MODULE, [named_table, public, ordered_set]),
    true = ets:insert(?MODULE, [{node, Name}, {owner, self()}]),
    {ok, Listener} = gen_tcp:listen(0, [binary, {packet, 4}, {active, false},
                                        {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    Starter ! {?MODULE, Port},
    accept(Name, Listener).

accept(Name, Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn_link(fun() ->
                         receive go -> ok end,
                         deliver(Name, Socket)
                     end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Name, Listener).

deliver(Node, Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Bytes} ->
            {Name, Message} = binary_to_term(Bytes),
            _ = whereis(Name) =:= undefined
                orelse (Name ! decode(Message, Node)),
            deliver(Node, Socket);
        {error, closed} ->
            ok
    end.

%% "<9012.7.0>", the seventh process of another node, is written "<0.7.0>".
encode(Pid, Node) when is_pid(Pid) ->
    [_, Id, Serial] = string:lexemes(pid_to_list(Pid), "<.>"),
    Text = "<0." ++ Id ++ "." ++ Serial ++ ">",
    {partisan_remote_ref, Node, {encoded_pid, Text}};
encode(Term, Node) ->
    inside(Term, fun(Part) -> encode(Part, Node) end).

decode({partisan_remote_ref, Node, {encoded_pid, Text}}, Node) ->
    list_to_pid(Text);
decode(Term, Node) ->
    inside(Term, fun(Part) -> decode(Part, Node) end).

inside([Head | Tail], Fun) -> [Fun(Head) | Fun(Tail)];
inside(Tuple, Fun) when is_tuple(Tuple) ->
    list_to_tuple([Fun(Part) || Part <- tuple_to_list(Tuple)]);
inside(Map, Fun) when is_map(Map) ->
    maps:from_list([{Fun(Key), Fun(Value)}
                    || {Key, Value} <- maps:to_list(Map)]);
inside(Term, _Fun) -> Term.
