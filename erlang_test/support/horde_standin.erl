%% In the place of Horde.Registry: a registry of unique keys that the nodes of
%% a cluster share, each with a process of the registry's name. What the tests
%% need of it is as Horde has it:
%%     - a process registers itself and is linked to the registry's process,
%%       whose exit signals it gets; its entries go when it ends;
%%     - lookups read a table, which is `error:badarg' while the registry does
%%       not run, and leave out a process whose node is not this one and not in
%%       nodes(), or that its node says is dead;
%%     - of two processes that got the same key at the same time one loses it
%%       and is sent the exit signal {name_conflict, {Key, Value}, Registry,
%%       Winner}.
-module(horde_standin).
-behaviour(gen_server).

-export([register/3, unregister/2, lookup/2, update_value/3]).
-export([start/1, stop/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-spec start(atom()) -> {ok, pid()}.
start(Registry) ->
    gen_server:start({local, Registry}, ?MODULE, Registry, []).

%% As if it crashed.
-spec stop(atom()) -> ok.
stop(Registry) ->
    Pid = whereis(Registry),
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

-spec register(atom(), term(), term()) ->
          {ok, pid()} | {error, {already_registered, pid()}}.
register(Registry, Key, Value) ->
    case lookup(Registry, Key) of
        [] -> gen_server:call(Registry, {register, Key, self(), Value});
        [{Pid, _}] -> {error, {already_registered, Pid}}
    end.

-spec unregister(atom(), term()) -> ok.
unregister(Registry, Key) ->
    gen_server:call(Registry, {unregister, Key, self()}).

-spec update_value(atom(), term(), fun((term()) -> term())) ->
          {term(), term()} | error.
update_value(Registry, Key, Fun) ->
    Self = self(),
    case ets:lookup(Registry, Key) of
        [{Key, Self, Old}] ->
            New = Fun(Old),
            ok = gen_server:call(Registry, {update, Key, Self, New}),
            {New, Old};
        _ ->
            error
    end.

-spec lookup(atom(), term()) -> [{pid(), term()}].
lookup(Registry, Key) ->
    case ets:lookup(Registry, Key) of
        [{Key, Pid, Value}] -> [{Pid, Value} || is_alive(Pid)];
        [] -> []
    end.

is_alive(Pid) when node(Pid) =:= node() ->
    is_process_alive(Pid);
is_alive(Pid) ->
    lists:member(node(Pid), nodes())
        andalso true =:= rpc:call(node(Pid), erlang, is_process_alive, [Pid]).

init(Registry) ->
    process_flag(trap_exit, true),
    Registry = ets:new(Registry, [named_table, protected]),
    ok = net_kernel:monitor_nodes(true),
    gen_server:abcast(nodes(), Registry, {hello, node()}),
    {ok, Registry}.

handle_call({register, Key, Pid, Value}, _From, Registry) ->
    link(Pid),
    put_entry(Registry, {Key, Pid, Value}),
    {reply, {ok, self()}, Registry};
handle_call({update, Key, Pid, Value}, _From, Registry) ->
    put_entry(Registry, {Key, Pid, Value}),
    {reply, ok, Registry};
handle_call({unregister, Key, Pid}, _From, Registry) ->
    remove(Registry, Key, Pid),
    {reply, ok, Registry}.

put_entry(Registry, Entry) ->
    ets:insert(Registry, Entry),
    gen_server:abcast(nodes(), Registry, {put, Entry}).

remove(Registry, Key, Pid) ->
    ets:match_delete(Registry, {Key, Pid, '_'}),
    gen_server:abcast(nodes(), Registry, {remove, Key, Pid}).

handle_cast({hello, Node}, Registry) ->
    tell_own(Registry, Node),
    {noreply, Registry};
handle_cast({put, {Key, Pid, _} = Entry}, Registry) ->
    case ets:lookup(Registry, Key) of
        [{Key, Own, Value}] when Own =/= Pid, node(Own) =:= node() ->
            conflict(Registry, Entry, Own, Value);
        _ ->
            ets:insert(Registry, Entry)
    end,
    {noreply, Registry};
handle_cast({remove, Key, Pid}, Registry) ->
    ets:match_delete(Registry, {Key, Pid, '_'}),
    {noreply, Registry}.

%% The process of the smaller node wins, on both sides.
conflict(Registry, {Key, Pid, _} = Entry, Own, Value)
  when node(Pid) < node() ->
    ets:insert(Registry, Entry),
    exit(Own, {name_conflict, {Key, Value}, Registry, Pid});
conflict(_Registry, _Entry, _Own, _Value) ->
    ok.

handle_info({nodeup, Node}, Registry) ->
    tell_own(Registry, Node),
    {noreply, Registry};
handle_info({nodedown, _}, Registry) ->
    {noreply, Registry};
handle_info({'EXIT', Pid, _}, Registry) ->
    [remove(Registry, Key, Pid) || {Key, Owner, _} <- ets:tab2list(Registry),
                                   Owner =:= Pid],
    {noreply, Registry}.

tell_own(Registry, Node) ->
    [gen_server:cast({Registry, Node}, {put, Entry})
     || {_, Pid, _} = Entry <- ets:tab2list(Registry), node(Pid) =:= node()].
