%% @doc A process of this node that passes calls on to the router.
%%
%% `gen_server:call(llm_router_relay, Op)' gives what the same call to the
%% router gives. A relay is for programs that look their services up in a Horde
%% registry: the router's own process cannot be found there, because its node
%% is hidden and Horde leaves out what is on no visible node. A relay can, and
%% it names the router's node.
%%
%% No call waits for another. When a caller dies, or the relay, the provider's
%% call is aborted as if the router had been called. (That a caller has stopped
%% waiting is not seen: give the option `timeout'.) While there is no router,
%% and when it is lost, calls are answered `{error, router_down}' at once.
%%
%% Operations whose messages go to the calling process unless `to' names
%% another one (streams, watchers, subscriptions) are given the caller's pid.
%% Casts, and messages that name a pid for their answer, are passed on as they
%% are; without a router they are dropped.
%%
%% Options, a list or map in the application's `relay':
%% <ul>
%% <li>`{registry, Name}': the Horde registry in which it is to be found;</li>
%% <li>`{key, llm_router}';</li>
%% <li>`{value, node | map}': the router's node, or `#{node => Node}';</li>
%% <li>`{max_requests, 50000}': so many calls can be under way; one more is
%%     answered `overloaded'.</li>
%% </ul>
-module(llm_router_relay).
-behaviour(gen_server).

-export([start_link/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(REGISTER_MS, 3000).
-define(HIBERNATE_MS, 10000). % large answers leave a large heap
-define(HORDE, 'Elixir.Horde.Registry').

%% Messages to the router, besides calls and casts: {Name, Size}.
-define(MESSAGES, [{prd_request, 5}, {llm_request, 4},
                   {generate_task, 3}, {generate_task, 4},
                   {parse_prd, 4}, {parse_prd, 5},
                   {expand_task, 3}, {expand_task, 4},
                   {research, 4}, {research, 5}]).

%% Operations of a topic or id whose messages go to the calling process.
-define(TELLS_CALLER(Name),
        (Name =:= watch_task orelse Name =:= unwatch_task
         orelse Name =:= subscribe orelse Name =:= unsubscribe)).

%% @doc Starts the relay, registered as `llm_router_relay'. `Options' are the
%% application's; without `relay' there is none to start.
-spec start_link(map()) -> gen_server:start_ret().
start_link(Options) ->
    case llm_router_settings:get(relay, Options) of
        none -> ignore;
        Settings -> gen_server:start_link({local, ?MODULE}, ?MODULE, Settings,
                                          [{hibernate_after, ?HIBERNATE_MS}])
    end.

%% @private
%% Horde links its registry with us and sends an exit signal to a process that
%% lost the key to another: neither is our end.
init(Settings) ->
    process_flag(trap_exit, true),
    {ok, Attachment} = llm_router_attachment:start_link(),
    {ok, Settings#{attachment => Attachment, server => none, requests => #{}}}.

%% @private
handle_call(_Op, _From, #{server := none} = State) ->
    {reply, router_down(), State};
handle_call(_Op, _From, #{requests := Requests, max_requests := Max} = State)
  when map_size(Requests) >= 2 * Max ->
    {reply, overloaded(Max), State};
handle_call(Op, From, #{server := Server, requests := Requests} = State) ->
    {noreply, State#{requests := ask(Server, Op, From, Requests)}}.

%% @private
handle_cast(_Op, #{server := none} = State) ->
    {noreply, State};
handle_cast(Op, #{server := Server} = State) ->
    gen_server:cast(Server, Op),
    {noreply, State}.

%% @private
handle_info({llm_router_attachment, Pid, {attached, Server}},
            #{attachment := Pid} = State) ->
    {noreply, look_up(State#{server := Server})};
handle_info({llm_router_attachment, Pid, detached},
            #{attachment := Pid} = State) ->
    {noreply, State#{server := none}};
handle_info({'EXIT', Pid, Reason}, #{attachment := Pid} = State) ->
    {stop, Reason, State};
handle_info({'DOWN', Monitor, process, _, _},
            #{requests := Requests} = State) ->
    {noreply, State#{requests := down(Monitor, Requests)}};
handle_info({Request, Reply}, #{requests := Requests} = State)
  when is_map_key(Request, Requests) ->
    {noreply, State#{requests := answer(Request, Reply, Requests)}};
handle_info(look_up, State) ->
    {noreply, look_up(State)};
handle_info({holder, Holder}, State) ->
    claim(Holder, State),
    {noreply, State};
handle_info(Message, #{server := Server} = State)
  when is_tuple(Message), tuple_size(Message) > 2, Server =/= none ->
    Form = {element(1, Message), tuple_size(Message)},
    _ = lists:member(Form, ?MESSAGES) andalso send(Server, Message),
    {noreply, State};
handle_info(_Message, State) ->
    {noreply, State}.

send(Server, Message) ->
    Server ! Message.

router_down() ->
    {error, router_down}.

overloaded(Max) ->
    Text = ["the relay has ", integer_to_binary(Max), " calls under way"],
    {error, {overloaded, #{message => iolist_to_binary(Text)}}}.

%% ---------------------------------------------------------------- requests

%% A request is a `$gen_call' of our own making, in the form that
%% docs/protocol.md gives: to demonitor the reference in it takes it back, and
%% unlike those of a collection of gen_server's it can be forgotten then.
%%
%% Each is kept by two monitors: that of the router, with who waits for it, and
%% that of the caller, with the other one.
ask(Server, Op, {Caller, _} = From, Requests) ->
    Monitor = monitor(process, Caller),
    Request = monitor(process, Server),
    Server ! {'$gen_call', {self(), Request}, for_caller(Op, Caller)},
    Requests#{Request => {From, Monitor}, Monitor => Request}.

answer(Request, Reply, Requests) ->
    {{From, Monitor}, Rest} = maps:take(Request, Requests),
    gen_server:reply(From, Reply),
    demonitor(Request, [flush]),
    demonitor(Monitor, [flush]),
    maps:remove(Monitor, Rest).

down(Monitor, Requests) ->
    case Requests of
        #{Monitor := {_From, _}} ->
            answer(Monitor, router_down(), Requests);
        #{Monitor := Request} ->
            demonitor(Request, [flush]),
            maps:without([Monitor, Request], Requests);
        #{} ->
            Requests
    end.

for_caller({stream, Complexity, Messages}, Caller) ->
    {stream, Complexity, Messages, #{to => Caller}};
for_caller({stream, Complexity, Messages, Opts}, Caller) ->
    {stream, Complexity, Messages, to(Opts, Caller)};
for_caller({Name, What}, Caller) when ?TELLS_CALLER(Name) ->
    {Name, What, #{to => Caller}};
for_caller({Name, What, Opts}, Caller) when ?TELLS_CALLER(Name) ->
    {Name, What, to(Opts, Caller)};
for_caller(Op, _Caller) ->
    Op.

to(#{to := _} = Opts, _Caller) -> Opts;
to(#{<<"to">> := _} = Opts, _Caller) -> Opts;
to(#{} = Opts, Caller) -> Opts#{to => Caller};
to(Opts, Caller) ->
    case has_to(Opts) of
        true -> Opts;
        false -> [{to, Caller} | Opts]
    end.

%% What is no list is the router's to refuse.
has_to([{to, _} | _]) -> true;
has_to([{<<"to">>, _} | _]) -> true;
has_to([_ | Rest]) -> has_to(Rest);
has_to([]) -> false;
has_to(_) -> true.

%% ---------------------------------------------------------------- registry

%% Horde's lookup asks the node that has the key whether the process is alive,
%% and waits for the answer: not here.
look_up(#{registry := none} = State) ->
    State;
look_up(#{registry := Registry, key := Key} = State) ->
    Self = self(),
    spawn_link(fun() ->
                   Self ! {holder, horde(lookup, [Registry, Key])}
               end),
    look_up_later(State).

look_up_later(State) ->
    _ = case State of
            #{timer := Timer} -> erlang:cancel_timer(Timer);
            #{} -> none
        end,
    State#{timer => erlang:send_after(?REGISTER_MS, self(), look_up)}.

%% Registers a key that nobody has, and keeps the value of one that is ours.
%% Only the process itself can do that. What does not succeed is done at the
%% next look.
claim([], #{registry := Registry, key := Key, server := Server} = State)
  when Server =/= none ->
    _ = horde(register, [Registry, Key, value(State)]),
    ok;
claim([{Pid, Old}], #{registry := Registry, key := Key, server := Server}
      = State) when Pid =:= self(), Server =/= none ->
    Value = value(State),
    _ = Old =:= Value
        orelse horde(update_value, [Registry, Key, fun(_) -> Value end]),
    ok;
claim(_, _State) ->
    ok.

value(#{value := node, server := Server}) -> node_of(Server);
value(#{value := map, server := Server}) -> #{node => node_of(Server)}.

node_of({_, Node}) -> Node;
node_of(Pid) -> node(Pid).

%% Horde is no dependency: its module may be missing, and its registry not be
%% running (no table, no process).
horde(Function, Args) ->
    case code:ensure_loaded(?HORDE) of
        {module, Horde} ->
            try
                apply(Horde, Function, Args)
            catch
                error:badarg -> not_running;
                exit:_ -> not_running
            end;
        {error, _} ->
            not_running
    end.
