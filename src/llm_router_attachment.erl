%% @doc Keeps a process informed of the router that is to be called.
%%
%% An attachment looks for the router (`llm_router:whereis/0'), monitors it,
%% subscribes to a topic of it if it was told to, and tells its owner:
%% <ul>
%% <li>`{llm_router_attachment, Pid, {attached, ServerRef}}': this is the
%%     router from now on;</li>
%% <li>`{llm_router_attachment, Pid, detached}': it is gone, there is
%%     none;</li>
%% <li>`{llm_router_attachment, Pid, {message, Message}}': what came of the
%%     subscription.</li>
%% </ul>
%% It is a process of its own because looking may take seconds: a node that
%% does not answer is dialled. It looks again every second, since the global
%% name can pass to another router while the old one lives, from 100 ms after a
%% router was lost, and when a node comes up. A subscription to a router whose
%% name has passed on is left as it is: the requests that router still has are
%% told there.
%%
%% It is linked to its owner and ends with it.
-module(llm_router_attachment).
-behaviour(gen_server).

-export([start_link/0, start_link/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

-define(SHORTEST_PAUSE_MS, 100).
-define(LONGEST_PAUSE_MS, 1000).
-define(SUBSCRIBE_MS, 5000).

-type subscription() :: none | {Topic :: atom(), Opts :: map()}.
-type event() :: {attached, gen_server:server_ref()}
               | detached
               | {message, term()}.
-export_type([subscription/0, event/0]).

%% @doc Starts one for the calling process.
-spec start_link() -> {ok, pid()}.
start_link() ->
    start_link(none).

%% @doc The same with a subscription. While the router refuses it there is no
%% `attached', and it is asked again every second; the reason is logged once.
-spec start_link(subscription()) -> {ok, pid()}.
start_link(Subscription) ->
    {ok, _} = gen_server:start_link(?MODULE, {self(), Subscription}, []).

%% @private
init({Owner, Subscription}) ->
    process_flag(trap_exit, true),
    ok = net_kernel:monitor_nodes(true, [{node_type, all}]),
    {ok, look_after(0, #{owner => Owner, subscription => Subscription,
                         server => none, monitor => none, refused => none,
                         pause => ?SHORTEST_PAUSE_MS})}.

%% @private
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_request}, State}.

%% @private
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
handle_info(look, State) ->
    {noreply, later(look(State))};
handle_info({'DOWN', Monitor, process, _, _}, #{monitor := Monitor} = State) ->
    tell(State, detached),
    {noreply, look_after(?SHORTEST_PAUSE_MS,
                         State#{server := none, monitor := none,
                                pause := ?SHORTEST_PAUSE_MS})};
handle_info({nodeup, _, _}, State) ->
    {noreply, look_after(0, State#{pause := ?SHORTEST_PAUSE_MS})};
handle_info({nodedown, _, _}, State) ->
    {noreply, State};
handle_info(Message, State) ->
    tell(State, {message, Message}),
    {noreply, State}.

%% A router without the global name and with no other one in sight stays the
%% one that is called: it may be about to end, and says so itself.
look(#{server := Known} = State) ->
    case router() of
        none -> State;
        Known -> State;
        Server -> attach(Server, State)
    end.

%% A process of a visible node is another node's relay: two that sent their
%% calls to each other would never find a router.
router() ->
    case llm_router:whereis() of
        {ok, Pid} when is_pid(Pid) ->
            case lists:member(node(Pid), [node() | nodes()]) of
                true -> none;
                false -> Pid
            end;
        {ok, Server} ->
            Server;
        {error, _} ->
            none
    end.

attach(Server, #{monitor := Old} = State) ->
    Monitor = monitor(process, Server),
    case subscribe(Server, State) of
        ok ->
            _ = Old =:= none orelse demonitor(Old, [flush]),
            tell(State, {attached, Server}),
            State#{server := Server, monitor := Monitor, refused := none};
        {error, Reason} ->
            demonitor(Monitor, [flush]),
            refused(Reason, State)
    end.

subscribe(_Server, #{subscription := none}) ->
    ok;
subscribe(Server, #{subscription := {Topic, Opts}}) ->
    Request = {subscribe, Topic, Opts#{to => self()}},
    try
        gen_server:call(Server, Request, ?SUBSCRIBE_MS)
    catch
        exit:_ -> {error, router_down}
    end.

refused(Reason, #{refused := Reason} = State) ->
    State;
refused(router_down, State) ->
    State;
refused(Reason, #{subscription := {Topic, _}} = State) ->
    ?LOG_WARNING("the router refuses the subscription to ~s: ~0tp",
                 [Topic, Reason], #{domain => [llm_router]}),
    State#{refused := Reason}.

later(#{server := none, pause := Pause} = State) ->
    look_after(Pause, State#{pause := min(2 * Pause, ?LONGEST_PAUSE_MS)});
later(State) ->
    look_after(?LONGEST_PAUSE_MS, State).

%% At most one look is due at a time.
look_after(Ms, State) ->
    _ = case State of
            #{timer := Timer} -> erlang:cancel_timer(Timer);
            #{} -> none
        end,
    State#{timer => erlang:send_after(Ms, self(), look)}.

-spec tell(map(), event()) -> ok.
tell(#{owner := Owner}, Event) ->
    Owner ! {?MODULE, self(), Event},
    ok.
