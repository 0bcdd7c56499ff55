%% @doc A bridge between the router and the nodes of a Partisan cluster.
%%
%% On each of them the bridge has the same registered name, and
%% `partisan:forward_message(Node, Name, Message, #{channel => Channel})' is how
%% they reach each other. What it does:
%% <ul>
%% <li>what the router tells of tasks, `{task_update, Id, Update}' and
%%     `{task_completed, Id}', goes to all `partisan:nodes()', and to the
%%     processes here that called {@link watch/1};</li>
%% <li>the same messages from another node go to these processes alone: what
%%     came in through Partisan is not sent out again;</li>
%% <li>`{llm_request, {Name, Node}, Ref, Op}' from another node is asked at the
%%     router, and `{llm_response, Ref, Result}' sent to that name. It is how a
%%     node without Erlang distribution calls the router. Operations whose
%%     messages go to a pid (streams, watchers, subscriptions) cannot be asked
%%     so.</li>
%% </ul>
%% Partisan takes any pid for one of the node that sends it, so that one of the
%% router's would name a process that has nothing to do with it. In all that
%% is sent, pids of nodes that are not visible from here are replaced by the
%% bridge's `{Name, Node}'.
%%
%% Options, a list or map in the application's `partisan': `{channel,
%% task_ops}', `{name, llm_router_partisan}'. Without Partisan nothing is
%% started.
-module(llm_router_partisan).
-behaviour(gen_server).

-export([start_link/1]).
-export([broadcast_task_update/2, forward_to_node/2, watch/1, unwatch/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

-define(PARTISAN, partisan).

%% Requests of other nodes under way, above which one is answered `overloaded'.
-define(MAX_REQUESTS, 1000).

-define(TELLS_CALLER, [stream, watch_task, unwatch_task, subscribe,
                       unsubscribe]).

-type task_id() :: integer() | atom() | binary().

%% @doc Starts the bridge under its name. `Options' are the application's;
%% without `partisan' there is none to start.
-spec start_link(map()) -> gen_server:start_ret().
start_link(Options) ->
    case {settings(Options), code:ensure_loaded(?PARTISAN)} of
        {none, _} ->
            ignore;
        {#{name := Name} = Settings, {module, _}} ->
            gen_server:start_link({local, Name}, ?MODULE, Settings, []);
        {_, {error, _}} ->
            ?LOG_INFO("there is no Partisan here: its bridge is not started",
                      [], #{domain => [llm_router]}),
            ignore
    end.

settings(Options) ->
    llm_router_settings:get(partisan, Options).

%% @doc Sends `{task_update, Id, Update}' to all Partisan nodes, as if the
%% router had said it. The processes that watch Id on this node are told too.
-spec broadcast_task_update(task_id(), Update :: term()) -> ok.
broadcast_task_update(Id, Update) ->
    gen_server:call(name(), {broadcast, {task_update, Id, Update}}).

%% @doc Sends a message to the bridge of a Partisan node. The result is
%% Partisan's.
-spec forward_to_node(node(), term()) -> ok | {error, term()}.
forward_to_node(Node, Message) ->
    gen_server:call(name(), {forward, Node, Message}).

%% @doc Lets the calling process be sent `{task_update, Id, Update}' and
%% `{task_completed, Id}', whether they come from the router or from another
%% Partisan node. Twice is the same as once.
-spec watch(task_id()) -> ok.
watch(Id) ->
    gen_server:call(name(), {watch, Id}).

%% @doc Takes that back.
-spec unwatch(task_id()) -> ok.
unwatch(Id) ->
    gen_server:call(name(), {unwatch, Id}).

%% The name of the bridge that the application has started.
name() ->
    case settings(persistent_term:get({llm_router, options}, #{})) of
        #{name := Name} -> Name;
        none -> ?MODULE
    end.

%% @private
init(Settings) ->
    {ok, Attachment} = llm_router_attachment:start_link({tasks, #{}}),
    {ok, Settings#{attachment => Attachment, server => none, requests => #{},
                   watchers => #{}, monitors => #{}}}.

%% @private
handle_call({broadcast, Message}, _From, State) ->
    broadcast(Message, State),
    {reply, ok, State};
handle_call({forward, Node, Message}, _From, #{name := Name} = State) ->
    {reply, forward(Node, Name, Message, State), State};
handle_call({watch, Id}, {Pid, _}, State) ->
    {reply, ok, watched(Id, Pid, State)};
handle_call({unwatch, Id}, {Pid, _}, State) ->
    {reply, ok, unwatched(Id, Pid, State)};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_request}, State}.

%% @private
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
handle_info({llm_router_attachment, Pid, {attached, Server}},
            #{attachment := Pid} = State) ->
    {noreply, State#{server := Server}};
handle_info({llm_router_attachment, Pid, detached},
            #{attachment := Pid} = State) ->
    {noreply, State#{server := none}};
handle_info({llm_router_attachment, Pid, {message, Message}},
            #{attachment := Pid} = State) ->
    _ = id(Message) =:= none orelse broadcast(Message, State),
    {noreply, State};
handle_info({llm_request, {Name, Node}, Ref, Op}, State)
  when is_atom(Name), is_atom(Node) ->
    {noreply, request(Op, {Name, Node, Ref}, State)};
handle_info({'DOWN', Monitor, process, Pid, _}, State) ->
    {noreply, down(Monitor, Pid, State)};
handle_info(Message, State) ->
    tell_watchers(Message, State),
    {noreply, State}.

%% ---------------------------------------------------------------- messages

id({task_update, Id, _Update}) -> {id, Id};
id({task_completed, Id}) -> {id, Id};
id(_) -> none.

broadcast(Message, #{name := Name} = State) ->
    tell_watchers(Message, State),
    Others = partisan(nodes, [], []) -- [partisan(node, [], none)],
    lists:foreach(fun(Node) -> forward(Node, Name, Message, State) end,
                  Others).

tell_watchers(Message, #{watchers := Watchers}) ->
    case id(Message) of
        {id, Id} ->
            Pids = maps:keys(maps:get(Id, Watchers, #{})),
            lists:foreach(fun(Pid) -> Pid ! Message end, Pids);
        none ->
            ok
    end.

forward(Node, To, Message, #{name := Name, channel := Channel}) ->
    Cleaned = without_hidden(Message, {Name, partisan(node, [], none)}),
    partisan(forward_message, [Node, To, Cleaned, #{channel => Channel}],
             {error, not_running}).

%% Partisan may be loaded and not run: what was to be sent is lost then, and
%% the bridge stays.
partisan(Function, Args, Otherwise) ->
    try
        apply(?PARTISAN, Function, Args)
    catch
        error:badarg -> Otherwise;
        exit:_ -> Otherwise
    end.

%% The term with Name for pids of nodes that are not visible.
without_hidden(Term, Name) ->
    replace(Term, [node() | nodes()], Name).

replace(Pid, Visible, Name) when is_pid(Pid) ->
    case lists:member(node(Pid), Visible) of
        true -> Pid;
        false -> Name
    end;
replace([Head | Tail], Visible, Name) ->
    [replace(Head, Visible, Name) | replace(Tail, Visible, Name)];
replace(Tuple, Visible, Name) when is_tuple(Tuple) ->
    list_to_tuple(replace(tuple_to_list(Tuple), Visible, Name));
replace(Map, Visible, Name) when is_map(Map) ->
    maps:from_list(replace(maps:to_list(Map), Visible, Name));
replace(Term, _Visible, _Name) ->
    Term.

%% ---------------------------------------------------------------- requests

request(_Op, To, #{requests := Requests} = State)
  when map_size(Requests) >= ?MAX_REQUESTS ->
    Text = <<"the bridge has too many requests under way">>,
    respond({error, {overloaded, #{message => Text}}}, To, State),
    State;
request(Op, To, #{requests := Requests, server := Server} = State) ->
    Settings = maps:with([name, channel], State),
    {Pid, _} = spawn_monitor(fun() ->
                                 respond(ask(Server, Op), To, Settings)
                             end),
    State#{requests := Requests#{Pid => []}}.

respond(Result, {Name, Node, Ref}, Settings) ->
    forward(Node, Name, {llm_response, Ref, Result}, Settings).

ask(none, _Op) ->
    {error, router_down};
ask(Server, Op) ->
    case lists:member(operation(Op), ?TELLS_CALLER) of
        true ->
            Text = <<"its messages would go to a pid, which no other node "
                     "of Partisan can be named by">>,
            {error, {invalid_request, #{message => Text}}};
        false ->
            try
                gen_server:call(Server, Op, infinity)
            catch
                exit:_ -> {error, router_down}
            end
    end.

operation(Op) when is_tuple(Op), tuple_size(Op) > 0 -> element(1, Op);
operation(Op) -> Op.

%% ---------------------------------------------------------------- watchers

%% watchers: #{Id => #{Pid => []}}, monitors: #{Pid => {Monitor, [Id]}}.
watched(Id, Pid, #{watchers := Watchers, monitors := Monitors} = State) ->
    {Monitor, Ids} = case Monitors of
                         #{Pid := Known} -> Known;
                         #{} -> {monitor(process, Pid), []}
                     end,
    Pids = maps:get(Id, Watchers, #{}),
    State#{watchers := Watchers#{Id => Pids#{Pid => []}},
           monitors := Monitors#{Pid => {Monitor, lists:usort([Id | Ids])}}}.

unwatched(Id, Pid, #{monitors := Monitors} = State) ->
    case Monitors of
        #{Pid := {Monitor, [Id]}} ->
            demonitor(Monitor, [flush]),
            forget(Id, Pid, State#{monitors := maps:remove(Pid, Monitors)});
        #{Pid := {Monitor, Ids}} ->
            Left = {Monitor, lists:delete(Id, Ids)},
            forget(Id, Pid, State#{monitors := Monitors#{Pid := Left}});
        #{} ->
            State
    end.

forget(Id, Pid, #{watchers := Watchers} = State) ->
    case maps:remove(Pid, maps:get(Id, Watchers, #{})) of
        None when map_size(None) =:= 0 ->
            State#{watchers := maps:remove(Id, Watchers)};
        Pids ->
            State#{watchers := Watchers#{Id := Pids}}
    end.

down(Monitor, Pid, #{monitors := Monitors, requests := Requests} = State) ->
    case maps:take(Pid, Monitors) of
        {{Monitor, Ids}, Left} ->
            lists:foldl(fun(Id, S) -> forget(Id, Pid, S) end,
                        State#{monitors := Left}, Ids);
        error ->
            State#{requests := maps:remove(Pid, Requests)}
    end.
