%% Records what a real node sends to a hidden node, for mutation_SUITE.
%%
%%     erl -sname recorder0@localhost -setcookie recorded -noshell \
%%         -pa EBIN -run frame_recorder main DIR
%%
%% The real node is the one that runs this. The hidden node, of the router's
%% name, is a socket of this very program that answers as the router would, so
%% that the node goes on. There is a connection for each situation: every
%% recording stands alone. Written are
%%     DIR/otpNN/FORM/SITUATION.frames  all frames from the node but for ticks,
%%                                      in both forms of dist_frames
%%     DIR/otpNN/ROLE.handshake         the node's packets, with their lengths
-module(frame_recorder).

-export([main/1]).

-define(ROUTER, 'llm_router@localhost').
-define(QUIET_MS, 150).

%% What the router announces, without and with FRAGMENTS.
-define(FLAGS, 16#2d075f5fbc).
-define(FRAGMENTS, 16#800000).

-spec main([string()]) -> no_return().
main([Dir]) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {packet, 2},
                                        {nodelay, true}]),
    {Epmd, Creation} = register_router(Listener),
    Bed = #{listener => Listener, creation => Creation,
            flags => ?FLAGS, service => pid(Creation, 1),
            out => filename:join(Dir, "otp" ++
                                     erlang:system_info(otp_release))},
    write(Bed, "initiator.handshake", dialled_by_node(Bed, "sok")),
    write(Bed, "initiator_asked.handshake", dialled_by_node(Bed, "salive")),
    write(Bed, "acceptor.handshake", dialled_by_us(Bed)),
    [record(Bed#{flags := Flags, form => Form}, Situation)
     || {Form, Flags} <- [{pass_through, ?FLAGS},
                          {fragments, ?FLAGS bor ?FRAGMENTS}],
        Situation <- situations() ++ large(Form)],
    ok = gen_tcp:close(Epmd),
    halt().

%% As a hidden node, for as long as the socket is open (ALIVE2_REQ, epmd(1)).
register_router(Listener) ->
    {ok, Port} = inet:port(Listener),
    {ok, Epmd} = gen_tcp:connect("localhost", 4369, [binary, {active, false},
                                                     {packet, raw}]),
    Body = <<120, Port:16, 72, 0, 6:16, 5:16, 10:16, "llm_router", 0:16>>,
    ok = gen_tcp:send(Epmd, [<<(byte_size(Body)):16>>, Body]),
    {ok, <<118, 0, Creation:32>>} = gen_tcp:recv(Epmd, 6),
    {Epmd, Creation}.

%% The router's processes: 1 is the service, 2 asks `global`.
pid(Creation, Number) ->
    binary_to_term(<<131, 88, 119, 20, "llm_router@localhost", Number:32, 0:32,
                     Creation:32>>).

write(#{out := Out}, Path, Bytes) ->
    File = filename:join(Out, Path),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, Bytes),
    io:format("~s: ~b bytes~n", [File, iolist_size(Bytes)]).

%% ------------------------------------------------------------- handshakes

%% The packets of the node when it dials and is told Status.
dialled_by_node(Bed, Status) ->
    Connection = expect_node(Bed, Status),
    meet(),
    Packets = ask(Connection, packets),
    leave(),
    Packets.

expect_node(#{listener := Listener} = Bed, Status) ->
    spawn_link(fun() ->
                       {ok, Socket} = gen_tcp:accept(Listener),
                       Packets = accept(Socket, Bed, Status),
                       ok = inet:setopts(Socket, [{packet, 4}, {active, true}]),
                       serve(Bed#{socket => Socket, packets => Packets,
                                  frames => [], number => 3,
                                  pending => dist_frames:new()})
               end).

accept(Socket, #{creation := Creation, flags := Flags}, Status) ->
    Name = recv(Socket),
    ok = gen_tcp:send(Socket, Status),
    Insisting = [recv(Socket) || Status =:= "salive"],
    ok = gen_tcp:send(Socket, [$N, <<Flags:64, 1:32, Creation:32, 20:16>>,
                               atom_to_binary(?ROUTER)]),
    <<"r", Challenge:32, _/binary>> = Answer = recv(Socket),
    ok = gen_tcp:send(Socket, [$a, digest(Challenge)]),
    packets([Name | Insisting] ++ [Answer]).

%% The packets of the node when it is dialled.
dialled_by_us(#{creation := Creation, flags := Flags}) ->
    {port, Port, _} = erl_epmd:port_please("recorder0", "localhost"),
    {ok, Socket} = gen_tcp:connect("localhost", Port, [binary, {packet, 2},
                                                       {active, false}]),
    ok = gen_tcp:send(Socket, [$N, <<Flags:64, Creation:32, 20:16>>,
                               atom_to_binary(?ROUTER)]),
    Status = recv(Socket),
    <<"N", _:64, Challenge:32, _/binary>> = Name = recv(Socket),
    ok = gen_tcp:send(Socket, [$r, <<1:32>>, digest(Challenge)]),
    Answer = recv(Socket),
    until(fun is_met/0),
    leave(),
    packets([Status, Name, Answer]).

recv(Socket) ->
    {ok, Packet} = gen_tcp:recv(Socket, 0),
    Packet.

packets(Packets) ->
    [[<<(byte_size(P)):16>>, P] || P <- Packets].

digest(Challenge) ->
    erlang:md5([atom_to_list(erlang:get_cookie()),
                integer_to_list(Challenge)]).

meet() ->
    true = net_kernel:connect_node(?ROUTER).

leave() ->
    true = erlang:disconnect_node(?ROUTER),
    until(fun() -> not is_met() end).

is_met() ->
    lists:member(?ROUTER, nodes(connected)).

until(Fun) ->
    Fun() orelse begin timer:sleep(5), until(Fun) end.

%% -------------------------------------------------------------- recording

record(#{form := Form} = Bed, {Name, Fun}) ->
    Connection = expect_node(Bed, "sok"),
    _ = Name =:= call_while_connecting orelse meet(),
    {Caller, Monitor} =
        spawn_monitor(fun() -> Fun(Bed#{connection => Connection}) end),
    receive {'DOWN', Monitor, process, Caller, Reason} -> normal = Reason end,
    write(Bed, [atom_to_list(Form), $/, atom_to_list(Name), ".frames"],
          quiet(Connection, ask(Connection, frames))),
    leave().

quiet(Connection, Frames) ->
    timer:sleep(?QUIET_MS),
    case ask(Connection, frames) of
        Frames -> Frames;
        More -> quiet(Connection, More)
    end.

ask(Connection, What) ->
    Connection ! {What, self()},
    receive {Connection, Answer} -> Answer end.

say(Connection, Message) ->
    Connection ! {say, Message}.

serve(#{socket := Socket, frames := Frames, packets := Packets} = State) ->
    receive
        {tcp, Socket, <<>>} ->
            send(<<>>, State),
            serve(State);
        {tcp, Socket, Body} ->
            Frame = [<<(byte_size(Body)):32>>, Body],
            serve(answered(Body, State#{frames := [Frame | Frames]}));
        {tcp_closed, Socket} ->
            ok;
        {say, Message} ->
            send_all([Message], State),
            serve(State);
        {frames, From} ->
            From ! {self(), lists:reverse(Frames)},
            serve(State);
        {packets, From} ->
            From ! {self(), Packets},
            serve(State)
    end.

answered(Body, #{pending := Pending, number := Number} = State) ->
    {Message, Rest} = dist_frames:unpack(Body, Pending),
    send_all(answers(Message, State), State),
    State#{pending := Rest, number := Number + 1}.

send_all(Messages, #{form := Form} = State) ->
    [begin
         <<_:32, Body/binary>> = apply(dist_frames, pack,
                                       [Form | tuple_to_list(Message)]),
         send(Body, State)
     end || Message <- Messages].

send(Body, #{socket := Socket}) ->
    ok = gen_tcp:send(Socket, Body).

%% ---------------------------------------------------------------- answers

%% What the router would say, as {Control} or {Control, Payload}.
answers({{19, From, To, Ref}}, State) ->
    [{{28, To, From, Ref}, noproc} || not is_known(To, State)];
answers({{1, From, To}}, State) ->
    [{{24, To, From}, noproc} || not is_known(To, State)];
answers({{35, Id, From, To}}, _) ->
    [{{36, Id, To, From}}];
answers({Spawn, Arguments}, State)
  when element(1, Spawn) =:= 29; element(1, Spawn) =:= 30 ->
    spawned(Spawn, Arguments, State);
answers({_, {'$gen_call', From, Request}}, State) ->
    [reply(From, value(Request), State) || not is_slow(Request)];
answers({_, {system, From, get_state}}, State) ->
    [reply(From, {ok, #{}}, State)];
answers({_, {system, From, _}}, State) ->
    [reply(From, {error, not_supported}, State)];
answers(_, _) ->
    [].

is_known(Pid, #{service := Service}) when is_pid(Pid) ->
    Pid =:= Service;
is_known(Name, _) ->
    lists:member(Name, [llm_router, 'Elixir.LLMRouter.Server', rex,
                        net_kernel]).

reply({_, [alias | Ref] = Tag}, Value, #{service := Service}) ->
    {{33, Service, Ref}, {Tag, Value}};
reply({Pid, Tag}, Value, _) ->
    {{2, '', Pid}, {Tag, Value}}.

is_slow({call_with_prompt, simple, <<"slowly">>}) -> true;
is_slow(_) -> false.

value({is_auth, _}) -> yes;
value(ping) -> pong;
value(_) -> {ok, #{text => <<"recorded">>}}.

%% SPAWN_REPLY and the end of the new process.
spawned(Spawn, Arguments, #{creation := Creation, number := Number}) ->
    [_, Ref, From, _GroupLeader, Function, Options | _] = tuple_to_list(Spawn),
    Pid = pid(Creation, Number),
    Reason = reason(Function, Arguments),
    Monitored = lists:member(monitor, Options),
    Linked = lists:member(link, Options),
    [{{31, Ref, From, 2 * bit(Monitored) + bit(Linked), Pid}}]
        ++ [{{28, Pid, From, Ref}, Reason} || Monitored, Reason =/= slow]
        ++ [{{24, Pid, From}, Reason} || Linked].

bit(true) -> 1;
bit(false) -> 0.

reason({erpc, execute_call, 4}, [Res, nowhere, F, A]) ->
    {Res, error, undef, [{nowhere, F, A, []}]};
reason({erpc, execute_call, 4}, [Res, _, F, A]) ->
    Request = list_to_tuple([F | A]),
    case is_slow(Request) of
        true -> slow;
        false -> {Res, return, value(Request)}
    end;
reason(_, _) ->
    {undef, []}.

%% ------------------------------------------------------------- situations

-define(NAME, {llm_router, ?ROUTER}).
-define(MODULE_NAME, {'Elixir.LLMRouter.Server', ?ROUTER}).
-define(SERVER, 'Elixir.LLMRouter.Server').
-define(OP, {call_with_prompt, simple, <<"hi">>}).
-define(ARGS, [simple, <<"hi">>]).
-define(SLOW, {call_with_prompt, simple, <<"slowly">>}).
-define(SLOW_ARGS, [simple, <<"slowly">>]).

situations() ->
    calls() ++ messages() ++ remote_calls() ++ signals().

calls() ->
    [{call_while_connecting, fun(_) -> gen_server:call(?NAME, ping) end},
     {ping, fun(_) -> pong = net_adm:ping(?ROUTER) end},
     {call_by_name, fun(_) -> gen_server:call(?MODULE_NAME, ?OP) end},
     {call_by_pid, fun(#{service := Pid}) -> gen_server:call(Pid, ?OP) end},
     {call_by_global_name, fun by_global_name/1},
     {calls_with_options, fun(_) -> all(options()) end},
     {calls_with_odd_terms, fun(_) -> all(odd_requests()) end},
     {call_to_nobody,
      fun(_) -> {'EXIT', _} = (catch gen_server:call({nobody, ?ROUTER}, x))
      end},
     {send_request,
      fun(_) ->
              Requests = [gen_server:send_request(?NAME, R)
                          || R <- [?OP, {select_model, simple, general}, ping]],
              [{reply, _} = gen_server:wait_response(R, 5000)
               || R <- Requests]
      end},
     {multi_call,
      fun(_) -> {[_], []} = gen_server:multi_call([?ROUTER], llm_router, ?OP)
      end},
     {late_timeouts, fun late_timeouts/1},
     {traced_calls, fun traced_calls/1},
     {system_messages, fun system_messages/1}].

all(Requests) ->
    [{ok, _} = gen_server:call(?NAME, R) || R <- Requests].

%% The hidden node registers its name as the router does, by a call of `rex`.
by_global_name(#{service := Service} = Bed) ->
    global(Bed, register_name, [llm_router, Service,
                                {global, random_notify_name}]),
    until(fun() -> global:whereis_name(llm_router) =:= Service end),
    gen_server:call({global, llm_router}, ?OP),
    global(Bed, whereis_name, [llm_router]),
    global(Bed, unregister_name, [llm_router]),
    until(fun() -> global:whereis_name(llm_router) =:= undefined end).

global(#{connection := Connection, creation := Creation}, F, A) ->
    Own = pid(Creation, 2),
    Ref = binary_to_term(<<131, 90, 3:16, 119, 20, "llm_router@localhost",
                           Creation:32, 7:32, 0:32, 0:32>>),
    say(Connection, {{6, Own, '', rex},
                     {'$gen_call', {Own, Ref}, {call, global, F, A, user}}}).

options() ->
    Messages = [#{role => system, content => <<"Be brief.">>},
                #{<<"role">> => user, <<"content">> => "charlist"}],
    [{call, simple, Messages,
      #{temperature => 0.5, max_tokens => 100, timeout => 5000}},
     {call, medium, Messages, [{request_id, <<"recorded">>}]},
     {call_with_system, complex, <<"Be brief.">>, [<<"io">>, "list"], #{}},
     {generate_task, <<"A parser must be written.">>, #{return => full}},
     {parse_prd, <<"# Parser\n- It must parse.\n- It must not crash.\n">>, 2},
     {expand_task, #{id => 1, title => <<"Parse">>, status => pending,
                     description => <<"It must parse.">>,
                     <<"extra">> => {1, a}}, [{num, 2}]}].

odd_requests() ->
    Captured = {lists:seq(1, 3), <<"captured">>},
    Terms = [fun lists:map/2, fun() -> Captured end, 1 bsl 70, -(1 bsl 2100),
             1.5, -0.0, <<5:3>>, make_ref(), self(), hd(erlang:ports()),
             [a | b], "list", [300, 400], #{#{} => {}}, 'атом', {}, [],
             lists:foldl(fun(_, Acc) -> [Acc] end, [], lists:seq(1, 40))],
    [{call_with_prompt, simple, T} || T <- Terms]
        ++ [{call_with_prompt, simple, <<"hi">>, #{T => T}} || T <- Terms]
        ++ [{T, T, T} || T <- Terms].

late_timeouts(_) ->
    {'EXIT', _} = (catch gen_server:call(?NAME, ?SLOW, 50)),
    {badrpc, timeout} = rpc:call(?ROUTER, ?SERVER, call_with_prompt,
                                 ?SLOW_ARGS, 50),
    {'EXIT', _} = (catch erpc:call(?ROUTER, ?SERVER, call_with_prompt,
                                   ?SLOW_ARGS, 50)),
    Request = erpc:send_request(?ROUTER, ?SERVER, call_with_prompt, ?SLOW_ARGS),
    {'EXIT', _} = (catch erpc:receive_response(Request, 50)).

traced_calls(#{service := Pid}) ->
    seq_trace:set_token(label, {traced, <<"label">>}),
    seq_trace:set_token(send, true),
    gen_server:call(?NAME, ?OP),
    gen_server:call(Pid, ping),
    erpc:call(?ROUTER, ?SERVER, call_with_prompt, ?ARGS),
    exit(Pid, normal),
    seq_trace:set_token([]).

system_messages(#{service := Pid}) ->
    sys:get_state(?NAME),
    catch sys:get_status(Pid),
    catch sys:suspend(Pid),
    catch sys:replace_state(?NAME, fun(State) -> State end),
    catch gen_server:stop(?NAME).

messages() ->
    [{casts,
      fun(_) ->
              gen_server:cast(?NAME, ping),
              gen_server:cast(?NAME, {generate_task, <<"Write it.">>, self()}),
              gen_server:cast(?NAME, {parse_prd, <<"- It must parse.\n">>, 1,
                                      self(), make_ref()})
      end},
     {messages,
      fun(#{service := Pid}) ->
              ?NAME ! {prd_request, self(), opaque, <<"- It must parse.">>, 1},
              Pid ! {generate_task, <<"Write it.">>, self()},
              Pid ! {generate_task, <<"Write it.">>, self(), make_ref()},
              Pid ! {llm_request, self(), make_ref(), ?OP},
              ?NAME ! {expand_task, <<"Write it.">>, self()},
              Pid ! stray,
              {nobody, ?ROUTER} ! stray
      end}].

remote_calls() ->
    [{rpc_call, fun(_) -> rpc_call(?ARGS) end},
     {rpc_async_call,
      fun(_) ->
              Key = rpc:async_call(?ROUTER, ?SERVER, call_with_prompt, ?ARGS),
              {ok, _} = rpc:yield(Key)
      end},
     {rpc_multicall,
      fun(_) ->
              {[{ok, _}], []} = rpc:multicall([?ROUTER], ?SERVER,
                                              call_with_prompt, ?ARGS)
      end},
     {rpc_block_call,
      fun(_) ->
              {ok, _} = rpc:block_call(?ROUTER, ?SERVER, call_with_prompt,
                                       ?ARGS)
      end},
     {rpc_cast,
      fun(_) ->
              true = rpc:cast(?ROUTER, ?SERVER, generate_task,
                              [<<"Write it.">>, self()])
      end},
     {rpc_to_nowhere,
      fun(_) -> {badrpc, _} = rpc:call(?ROUTER, nowhere, f, [1, "a", #{}]) end},
     {erpc_call,
      fun(_) ->
              {ok, _} = erpc:call(?ROUTER, ?SERVER, call_with_prompt, ?ARGS)
      end},
     {erpc_send_request,
      fun(_) ->
              Request = erpc:send_request(?ROUTER, ?SERVER, call_with_prompt,
                                          ?ARGS),
              {ok, _} = erpc:receive_response(Request)
      end},
     {erpc_multicall,
      fun(_) ->
              [{ok, {ok, _}}] = erpc:multicall([?ROUTER], ?SERVER,
                                               call_with_prompt, ?ARGS)
      end},
     {erpc_cast,
      fun(_) ->
              ok = erpc:cast(?ROUTER, ?SERVER, generate_task,
                             [<<"Write it.">>, self()])
      end}].

rpc_call(Args) ->
    {ok, _} = rpc:call(?ROUTER, ?SERVER, call_with_prompt, Args).

signals() ->
    [{monitors,
      fun(#{service := Pid, creation := Creation}) ->
              Known = [monitor(process, P) || P <- [Pid, ?NAME, ?MODULE_NAME]],
              [monitor(process, P)
               || P <- [{nobody, ?ROUTER}, pid(Creation, 999)]],
              [receive {'DOWN', _, _, _, noproc} -> ok end || _ <- [1, 2]],
              [true = demonitor(M) || M <- Known]
      end},
     {links,
      fun(#{service := Pid, creation := Creation}) ->
              process_flag(trap_exit, true),
              true = link(Pid),
              true = unlink(Pid),
              true = link(Pid),
              Gone = pid(Creation, 999),
              true = link(Gone),
              receive {'EXIT', Gone, noproc} -> ok end
      end},
     {exits,
      fun(#{service := Pid}) ->
              [exit(Pid, R) || R <- [normal, kill, {shutdown, "text"}]],
              group_leader(self(), Pid)
      end},
     {spawns,
      fun(_) ->
              process_flag(trap_exit, true),
              spawn(?ROUTER, module, function, [1, two, "three"]),
              Linked = spawn_link(?ROUTER, module, function, []),
              receive {'EXIT', Linked, _} -> ok end,
              {_, Monitor} = spawn_monitor(?ROUTER, module, function,
                                           [<<"x">>]),
              receive {'DOWN', Monitor, _, _, _} -> ok end,
              spawn_request(?ROUTER, module, function, [],
                            [{reply_tag, tag}, link, {priority, high}])
      end}].

%% In two fragments; and in five, which is no more than long without them.
large(pass_through) ->
    [{medium_call,
      fun(_) -> all([{call_with_prompt, simple, text(70)}]) end},
     {medium_rpc, fun(_) -> rpc_call([simple, text(70)]) end}];
large(fragments) ->
    large(pass_through) ++
        [{large_call,
          fun(_) -> all([{call_with_prompt, simple, text(300)}]) end}].

text(Kib) ->
    Lines = [["The parser must accept line ", integer_to_list(N), ".\n"]
             || N <- lists:seq(1, Kib * 40)],
    binary:part(iolist_to_binary(Lines), 0, Kib * 1024).
