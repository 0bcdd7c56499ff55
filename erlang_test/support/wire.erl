%% A line through the cluster on which a test can hold, lose or cut whatever
%% passes, as a bad network does, or listen to it.
%%
%%     Wire = wire:start(#{near => [Router, Caller], far => [Far]}),
%%     bed:start_caller(Cookie, Far, #{env => wire:env(Wire)}),
%%     ok = wire:hold(Wire)
%%
%% Near is where the suite and its usual epmd are. The far side has an epmd of
%% its own, run by the wire; programs are there by their environment, env/1.
%% In the epmd of each side the wire registers the names of the nodes of the
%% other one, with ports of its own. So every connection between the sides, in
%% either direction, is dialled to the wire, which looks up the node's real
%% port and dials that. Nodes may start, end and start again under their names
%% as they like; two wires may exist at once. What an epmd forgets in a restart
%% is not registered again.
%%
%% A wire outlives the process that started it: a suite that does not stop it
%% leaves its epmd behind until run-ct's process namespace ends.
-module(wire).
-behaviour(gen_server).

-export([start/1, stop/1, env/1, hold/1, release/1, lose/1, cut/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(EPMD_PORT, "4369").
-define(EPMD_MS, 5000).
-define(LOOPBACK, {127, 0, 0, 1}).

%% Of the epmd protocol (ERTS user's guide, "distribution protocol").
-define(ALIVE2_REQ, 120).
-define(ALIVE2_X_RESP, 118).
-define(PORT_PLEASE2_REQ, 122).
-define(PORT2_RESP, 119).
-define(VISIBLE, 77).
-define(VERSION, 6).

-type wire() :: #{pid := pid(), env := [{string(), string()}]}.
-type tap() :: fun((Connection :: reference(), to_near | to_far, binary()) ->
                         term()).
-export_type([wire/0, tap/0]).

%% Opts: near, far: the names of the nodes on each side; tap: is given a copy
%% of all bytes just before they go on, in pieces as they come, each direction
%% of each connection in a process of its own.
-spec start(map()) -> wire().
start(Opts) ->
    {ok, Pid} = gen_server:start(?MODULE, Opts, []),
    gen_server:call(Pid, wire).

-spec stop(wire()) -> ok.
stop(#{pid := Pid}) ->
    gen_server:stop(Pid, shutdown, infinity).

%% What makes a program one of the far side.
-spec env(wire()) -> [{string(), string()}].
env(#{env := Env}) ->
    Env.

%% From now on nothing passes in either direction, no end of a connection
%% either. Sockets stay open, and new connections are accepted; then they are
%% silent too.
-spec hold(wire()) -> ok.
hold(Wire) ->
    set_mode(Wire, hold).

%% What was held goes on its way, in order.
-spec release(wire()) -> ok.
release(Wire) ->
    set_mode(Wire, flow).

%% What was held is lost: the connections of now stay silent for ever, only new
%% ones work.
-spec lose(wire()) -> ok.
lose(Wire) ->
    set_mode(Wire, lose).

set_mode(#{pid := Pid}, Mode) ->
    gen_server:call(Pid, {mode, Mode}).

%% Both sides of every connection get a reset, silent ones included. A wire
%% that is held stays held for new connections.
-spec cut(wire()) -> ok.
cut(#{pid := Pid}) ->
    gen_server:call(Pid, cut).

%% ----------------------------------------------------------------- server

init(Opts) ->
    process_flag(trap_exit, true),
    Near = list_to_integer(os:getenv("ERL_EPMD_PORT", ?EPMD_PORT)),
    {Epmd, Far} = start_epmd(),
    Tap = maps:get(tap, Opts, fun(_, _, _) -> ok end),
    Links = [{Node, Far, Near, {to_near, to_far}}
             || Node <- maps:get(near, Opts, [])]
        ++ [{Node, Near, Far, {to_far, to_near}}
            || Node <- maps:get(far, Opts, [])],
    {ok, #{epmd => Epmd, mode => flow, pumps => [],
           registered => [offer(Link, Tap) || Link <- Links],
           wire => #{pid => self(),
                     env => [{"ERL_EPMD_PORT", integer_to_list(Far)}]}}}.

handle_call(wire, _From, #{wire := Wire} = State) ->
    {reply, Wire, State};
handle_call({run, Fun}, _From, #{mode := Mode, pumps := Pumps} = State) ->
    Pid = spawn_link(Fun),
    Pid ! {mode, Mode},
    {reply, Pid, State#{pumps := [Pid | Pumps]}};
handle_call({mode, Mode}, _From, #{pumps := Pumps} = State) ->
    [Pump ! {mode, Mode} || Pump <- Pumps],
    {reply, ok, State#{mode := case Mode of lose -> flow; _ -> Mode end}};
handle_call(cut, _From, #{pumps := Pumps} = State) ->
    [exit(Pump, kill) || Pump <- Pumps],
    {reply, ok, State}.

handle_cast(_, State) ->
    {noreply, State}.

handle_info({'EXIT', Pid, _Reason}, #{pumps := Pumps} = State) ->
    {noreply, State#{pumps := lists:delete(Pid, Pumps)}};
handle_info(_FromEpmd, State) ->
    {noreply, State}.

%% All sockets end with their owners, this process or one that is linked to it.
terminate(_Reason, #{epmd := Epmd}) ->
    {os_pid, OsPid} = erlang:port_info(Epmd, os_pid),
    os:cmd("kill -s KILL " ++ integer_to_list(OsPid)).

%% ------------------------------------------------------------ connections

%% Registers a node of one side with the epmd of the other, Theirs, and accepts
%% connections to it. Keeps the registration as long as this process lives.
offer({Node, Theirs, Ours, Directions}, Tap) ->
    {ok, Listener} = gen_tcp:listen(0, [{backlog, 128} | socket_options()]),
    {ok, Port} = inet:port(Listener),
    Wire = self(),
    spawn_link(fun() ->
                       accept(Listener, Wire,
                              fun(Socket) ->
                                      dial(Socket, {Node, Ours}, Directions,
                                           {Wire, Tap})
                              end)
               end),
    {Listener, register_name(Node, Port, Theirs)}.

%% A socket is born to be reset, whenever its owner dies; a proper end is
%% asked for.
socket_options() ->
    [binary, {active, false}, {nodelay, true}, {linger, {true, 0}}].

accept(Listener, Wire, Connected) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    ok = inet:setopts(Socket, socket_options()),
    start_pump(Wire, Socket, Connected),
    accept(Listener, Wire, Connected).

%% Fun in a process that owns the socket and hears of the wire's mode.
start_pump(Wire, Socket, Fun) ->
    Pid = gen_server:call(Wire, {run, fun() ->
                                              receive {go, S} -> Fun(S) end
                                      end}, infinity),
    _ = gen_tcp:controlling_process(Socket, Pid),
    Pid ! {go, Socket}.

dial(Accepted, Target, {Forth, Back}, {Wire, Tap}) ->
    receive {mode, Mode} -> await_flow(Mode) end,
    Dialled = case gen_tcp:connect(?LOOPBACK, find_port(Target),
                                   socket_options()) of
                  {ok, Socket} -> Socket;
                  {error, econnrefused} -> exit(shutdown)
              end,
    Connection = make_ref(),
    First = self(),
    start_pump(Wire, Dialled,
               fun(Owned) ->
                       link(First),
                       pump(Owned, Accepted,
                            fun(Data) -> Tap(Connection, Back, Data) end)
               end),
    pump(Accepted, Dialled, fun(Data) -> Tap(Connection, Forth, Data) end).

pump(From, To, Tap) ->
    _ = inet:setopts(From, [{active, once}]),
    receive
        {mode, Mode} ->
            await_flow(Mode);
        {tcp, From, Data} ->
            Tap(Data),
            _ = gen_tcp:send(To, Data);
        {tcp_closed, From} ->
            _ = inet:setopts(To, [{linger, {false, 0}}]),
            gen_tcp:close(To),
            exit(shutdown);
        {tcp_error, From, _Reason} ->
            exit(shutdown)
    end,
    pump(From, To, Tap).

await_flow(flow) -> ok;
await_flow(hold) -> receive {mode, Mode} -> await_flow(Mode) end;
await_flow(lose) -> receive after infinity -> ok end.

%% ------------------------------------------------------------------- epmd

start_epmd() ->
    Port = free_port(),
    Epmd = open_port({spawn_executable, os:find_executable("epmd")},
                     [{args, ["-port", integer_to_list(Port)]}]),
    bed:eventually(fun() ->
                           case gen_tcp:connect(?LOOPBACK, Port, []) of
                               {ok, Socket} -> gen_tcp:close(Socket), true;
                               {error, econnrefused} -> false
                           end
                   end),
    {Epmd, Port}.

free_port() ->
    {ok, Listener} = gen_tcp:listen(0, []),
    {ok, Port} = inet:port(Listener),
    ok = gen_tcp:close(Listener),
    Port.

%% Lasts as long as the socket that it returns.
register_name(Node, Port, Epmd) ->
    Name = short(Node),
    {Socket, <<?ALIVE2_X_RESP, 0, _Creation:32>>} =
        ask(Epmd, [<<?ALIVE2_REQ, Port:16, ?VISIBLE, 0, ?VERSION:16,
                     ?VERSION:16, (byte_size(Name)):16>>, Name, <<0:16>>], 6),
    Socket.

%% A node that is not there refuses connections, as port 0 does.
find_port({Node, Epmd}) ->
    {Socket, Reply} = ask(Epmd, [?PORT_PLEASE2_REQ, short(Node)], 2),
    {ok, <<Port:16>>} = case Reply of
                            <<?PORT2_RESP, 0>> -> gen_tcp:recv(Socket, 2);
                            <<?PORT2_RESP, _>> -> {ok, <<0:16>>}
                        end,
    gen_tcp:close(Socket),
    Port.

ask(Epmd, Request, ReplySize) ->
    {ok, Socket} = gen_tcp:connect(?LOOPBACK, Epmd,
                                   [binary, {active, false}]),
    ok = gen_tcp:send(Socket, [<<(iolist_size(Request)):16>>, Request]),
    {ok, Reply} = gen_tcp:recv(Socket, ReplySize, ?EPMD_MS),
    {Socket, Reply}.

short(Node) ->
    [Name, _Host] = binary:split(atom_to_binary(Node), <<"@">>),
    Name.
