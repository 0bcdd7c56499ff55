%% What real nodes of OTP 25 and 27 sent (frames/, recorded by
%% scripts/record-frames), sent again: as it was, and with some bytes changed.
%% Nothing of it may do more than close its own connection: another node's
%% calls go on all the time, and nothing is left behind.
%%
%%     LLM_ROUTER_MUTATIONS       how many, default 50000
%%     LLM_ROUTER_MUTATION_SEED   default: a new one for each run
%%
%% The seed is in the log and in the reason of a failure; mutation N of a seed
%% is always the same.
-module(mutation_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

%% Names in the recordings; each worker takes the place of the node under a
%% name of its own, which differs in the digit.
-define(ROUTER, 'llm_router@localhost').
-define(WORKERS, 3).
-define(PORTION, 5000).

-define(OP, {call_with_prompt, simple, <<"hi">>}).
-define(ANSWER_MS, 5000).
-define(FRAGMENTS, 16#800000).
-define(DEMONITOR, 20).

suite() ->
    [{timetrap, bed:limit_ms(120000 + 5 * mutations())}].

all() ->
    [recorded_frames_are_answered,
     recorded_handshakes_are_accepted,
     mutated_frames_and_handshakes_harm_nobody].

%% The router has the name that the recorded frames are for.
init_per_suite(Config) ->
    Up = bed:up(Config, #{router => none, handler => fun answer/1}),
    Bed = (proplists:get_value(bed, Up))#{router_node := ?ROUTER},
    Config1 = bed:start_router(lists:keystore(bed, 1, Up, {bed, Bed}), #{}),
    [{ok, _} = bed:call(Config1, ?OP) || _ <- lists:seq(1, 20)],
    Config1.

end_per_suite(Config) ->
    bed:down(Config).

%% A recorded caller that gave up is one whose answer never came.
answer(#{body := Body} = Request) ->
    case binary:match(Body, <<"slowly">>) of
        nomatch -> scripted_model:from_document(Request);
        _ -> [hang]
    end.

mutations() ->
    list_to_integer(os:getenv("LLM_ROUTER_MUTATIONS", "50000")).

seed() ->
    case os:getenv("LLM_ROUTER_MUTATION_SEED") of
        false -> erlang:phash2({os:getpid(), os:system_time()});
        Seed -> list_to_integer(Seed)
    end.

cookie(Config) ->
    maps:get(cookie, proplists:get_value(bed, Config)).

%% ------------------------------------------------------------- recordings

%% #{kind, name, frames} of all situations, of a node that is called recorder0
%% with another digit; the kind is {Release, Form}. The router's creation, which
%% epmd chose, takes the place of the recorded one.
recordings(Config, Digit) ->
    Creation = creation(Config),
    [#{kind => {Release, list_to_atom(Form)},
       name => list_to_atom(filename:basename(File, ".frames")),
       frames => [located(Frame, Creation, Digit)
                  || Frame <- dist_frames:split(read(File))]}
     || File <- files("*/*/*.frames"),
        [Form, Release | _] <- [tl(lists:reverse(filename:split(File)))]].

files(Pattern) ->
    [_ | _] = filelib:wildcard(
                filename:join([router:project(), "erlang_test", "frames",
                               Pattern])).

read(File) ->
    {ok, Bytes} = file:read_file(File),
    Bytes.

located(Frame, Creation, Digit) ->
    Pid = <<88, 119, 20, "llm_router@localhost">>,
    [Head | Parts] = binary:split(digit(Frame, Digit), Pid, [global]),
    iolist_to_binary([Head | [[Pid, Number, <<Creation:32>>, Rest]
                              || <<Number:8/binary, _:32, Rest/binary>>
                                     <- Parts]]).

digit(Bytes, Digit) ->
    binary:replace(Bytes, <<"recorder0@">>, <<"recorder", Digit, "@">>,
                   [global]).

%% The service's pid is number 1 of the router.
creation(Config) ->
    Pid = service(Config),
    <<131, 88, _Tag, Rest/binary>> = term_to_binary(Pid),
    Size = byte_size(Rest) - 12,
    <<_:Size/binary, 1:32, 0:32, Creation:32>> = Rest,
    Creation.

service(Config) ->
    bed:on(bed:caller(Config), fun() -> global:whereis_name(llm_router) end).

%% The packets in a role, by release.
handshakes(Role, Digit) ->
    maps:from_list([{filename:basename(filename:dirname(File)),
                     split_packets(digit(read(File), Digit))}
                    || File <- files("*/" ++ Role ++ ".handshake")]).

split_packets(<<Length:16, _/binary>> = Bytes) ->
    <<Packet:(Length + 2)/binary, Rest/binary>> = Bytes,
    [Packet | split_packets(Rest)];
split_packets(<<>>) ->
    [].

%% ------------------------------------------------------------ connections

%% As the recorded node, with FRAGMENTS when the recording has that form.
connect(#{port := Port, cookie := Cookie} = Node, {Release, Form}) ->
    #{flags := Flags} = Identity = identity(Node, Release),
    {ok, Peer} = raw_peer:handshake(
                   dial(Port), Identity#{cookie => Cookie,
                                         flags => flags(Flags, Form)}),
    Peer.

identity(#{initiator := Initiator}, Release) ->
    #{Release := [<<_:16, "N", Flags:64, Creation:32, _:16, Name/binary>> | _]}
        = Initiator,
    #{name => binary_to_atom(Name), creation => Creation, flags => Flags}.

dial(Port) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port,
                                   [binary, {active, false}, {nodelay, true}]),
    Socket.

flags(Flags, fragments) -> Flags bor ?FRAGMENTS;
flags(Flags, pass_through) -> Flags band bnot ?FRAGMENTS.

%% A call after what was sent before: pong, closed, or silent. Nothing is
%% decoded, so that odd atoms stay out of this node's table.
ping(Peer) ->
    <<131, Tag/binary>> = term_to_binary(send_ping(Peer)),
    await_pong(raw_peer:socket(Peer), Tag).

send_ping(Peer) ->
    From = raw_peer:pid(Peer),
    Ref = raw_peer:ref(Peer),
    _ = raw_peer:send(Peer, {6, From, '', llm_router},
                      {'$gen_call', {From, [alias | Ref]}, ping}),
    Ref.

await_pong(Socket, Tag) ->
    case body(Socket) of
        Body when is_binary(Body) ->
            case binary:match(Body, Tag) of
                nomatch -> await_pong(Socket, Tag);
                _ -> pong
            end;
        Other -> Other
    end.

%% The next frame without its length; ticks are left out, and not answered.
body(Socket) ->
    case gen_tcp:recv(Socket, 4, bed:limit_ms(?ANSWER_MS)) of
        {ok, <<0:32>>} -> body(Socket);
        {ok, <<Length:32>>} ->
            case gen_tcp:recv(Socket, Length, bed:limit_ms(?ANSWER_MS)) of
                {ok, Body} -> Body;
                {error, timeout} -> silent;
                {error, _} -> closed
            end;
        {error, timeout} -> silent;
        {error, _} -> closed
    end.

%% ------------------------------------------------ recordings as they were

recorded_frames_are_answered(Config) ->
    Node = node_of(Config, $0),
    Wrong = [{Kind, Name, Wanted, Got}
             || #{kind := Kind, name := Name} = Recording
                    <- recordings(Config, $0),
                Wanted <- [lists:sort(answers(Name))],
                Got <- [lists:sort(replayed(Node, Recording, length(Wanted)))],
                Got =/= Wanted],
    ?assertEqual([], Wrong).

%% What a worker needs to take the place of a recorded node.
node_of(Config, Digit) ->
    {port, Port, _} =
        bed:on(bed:caller(Config),
               fun() -> erl_epmd:port_please("llm_router", "localhost") end),
    #{port => Port, cookie => cookie(Config), service => service(Config),
      initiator => handshakes("initiator_asked", Digit),
      acceptor => handshakes("acceptor", Digit)}.

%% Sends the frames one by one, and a demonitor once its call was answered, as
%% the node did. What came back until a last call was answered, as short/1 has
%% it; Count answers are waited for.
replayed(Node, #{kind := Kind, frames := Frames, name := Name}, Count) ->
    Peer = connect(Node, Kind),
    State = #{peer => Peer, in => dist_frames:new(), out => dist_frames:new(),
              got => [], asked => [], answered => [],
              waits => Name =/= late_timeouts},
    Sent = lists:foldl(fun replay/2, State, Frames),
    Whole = receive_until(fun(#{got := Got}) -> length(Got) >= Count end, Sent),
    Last = send_ping(Peer),
    #{got := [{reply, pong} | Got]} = receive_until(is_answered(Last), Whole),
    raw_peer:close(Peer),
    Got.

replay(<<_:32, Body/binary>> = Frame, #{peer := Peer, out := Out} = State) ->
    {Message, Out1} = dist_frames:unpack(Body, Out),
    Ready = ready(Message, State#{out := Out1}),
    ok = raw_peer:send_bytes(Peer, Frame),
    Ready.

ready({{?DEMONITOR, _, _, Ref}}, #{waits := true, asked := Asked} = State) ->
    case lists:member(Ref, Asked) of
        true -> receive_until(is_answered(Ref), State);
        false -> State
    end;
ready({_, {'$gen_call', {_, Tag}, _}}, #{asked := Asked} = State) ->
    State#{asked := [reference(Tag) | Asked]};
ready({_, {system, {_, Tag}, _}}, #{asked := Asked} = State) ->
    State#{asked := [reference(Tag) | Asked]};
ready({Spawn, _}, #{asked := Asked} = State) when element(1, Spawn) =:= 29 ->
    State#{asked := [element(2, Spawn) | Asked]};
ready(_, State) ->
    State.

reference([alias | Ref]) -> Ref;
reference({Ref, _Node}) -> Ref;
reference(Ref) -> Ref.

is_answered(Ref) ->
    fun(#{answered := Answered}) -> lists:member(Ref, Answered) end.

receive_until(Done, #{peer := Peer, in := In} = State) ->
    case Done(State) of
        true -> State;
        false ->
            case body(raw_peer:socket(Peer)) of
                Body when is_binary(Body) ->
                    {Message, In1} = dist_frames:unpack(Body, In),
                    Noted = noted(short(Message), State#{in := In1}),
                    receive_until(Done, Noted);
                Other ->
                    error({Other, State})
            end
    end.

noted(none, State) ->
    State;
noted({Ref, Short}, #{got := Got, answered := Answered} = State) ->
    State#{got := [Short | Got], answered := [reference(Ref) | Answered]}.

%% {Tag or reference, what was said}; none of what is no answer.
short({{31, _, _, _, _}}) -> {spawned, spawned};
short({{36, _, _, _}}) -> {unlinked, unlinked};
short({{24, _, _}, Reason}) -> {exit, {exit, reason(Reason)}};
short({{28, _, _, Ref}, Reason}) -> {Ref, {down, reason(Reason)}};
short({{33, _, _}, {Tag, Value}}) -> {Tag, {reply, value(Value)}};
short({{2, _, _}, {prd_response, Value}}) ->
    {sent, {prd_response, value(Value)}};
short({{2, _, _}, {llm_result, Name, Value}}) ->
    {sent, {Name, value(Value)}};
short({{2, _, _}, {llm_response, _, Value}}) ->
    {sent, {response, value(Value)}};
short({{2, _, _}, {Tag, Value}}) -> {Tag, {reply, value(Value)}};
short(_) -> none.

reason({_, return, Value}) -> {return, value(Value)};
reason({_, error, Reason, [_]}) -> Reason;
reason({Reason, [_]}) -> Reason;
reason(Reason) -> Reason.

value({ok, #{text := <<"You wrote: ", Text/binary>>}}) -> Text;
value({ok, _}) -> ok;
value({status, _, {module, llm_router}, _}) -> status;
value({error, {Code, #{message := _}}}) -> Code;
value(Value) -> Value.

%% What the router answers in each situation (frame_recorder), in any order.
answers(call_while_connecting) -> [{reply, pong}];
answers(ping) -> [{reply, yes}];
answers(call_by_name) -> [{reply, <<"hi">>}];
answers(call_by_pid) -> [{reply, <<"hi">>}];
answers(call_by_global_name) -> [{reply, <<"hi">>}];
answers(calls_with_options) ->
    [{reply, T} || T <- [<<"charlist">>, <<"charlist">>, <<"iolist">>,
                         ok, ok, ok]];
answers(calls_with_odd_terms) ->
    [{reply, <<"list">>}, {reply, <<300/utf8, 400/utf8>>}]
        ++ lists:duplicate(34, {reply, invalid_request})
        ++ lists:duplicate(18, {reply, unknown_request});
answers(call_to_nobody) -> [{down, noproc}];
answers(send_request) -> [{reply, <<"hi">>}, {reply, ok}, {reply, pong}];
answers(multi_call) -> [{reply, <<"hi">>}];
answers(late_timeouts) -> [spawned, spawned, spawned];
answers(traced_calls) ->
    [{reply, <<"hi">>}, {reply, pong}, spawned, {down, {return, <<"hi">>}}];
answers(system_messages) ->
    [{reply, ok}, {reply, status}]
        ++ lists:duplicate(3, {reply, {error, not_supported}});
answers(casts) -> [{generate_task, ok}, {response, ok}];
answers(messages) ->
    [{prd_response, ok}, {generate_task, ok}, {expand_task, ok},
     {response, ok}, {response, <<"hi">>}];
answers(rpc_block_call) -> [{reply, <<"hi">>}];
answers(rpc_to_nowhere) -> [spawned, {down, undef}];
answers(Cast) when Cast =:= rpc_cast; Cast =:= erpc_cast ->
    [spawned, {generate_task, ok}];
answers(monitors) -> [{down, noproc}, {down, noproc}];
answers(links) -> [unlinked, {exit, noproc}];
answers(exits) -> [];
answers(spawns) ->
    [spawned, spawned, spawned, spawned, {exit, undef}, {down, undef},
     {exit, undef}];
answers(Large) when Large =:= medium_call; Large =:= large_call ->
    [{reply, large_text()}];
answers(medium_rpc) -> [spawned, {down, {return, large_text()}}];
answers(_RemoteCall) -> [spawned, {down, {return, <<"hi">>}}].

%% The scripted model quotes the beginning.
large_text() ->
    <<"The parser must accept line 1. The parser must accept line 2. "
      "The parser must">>.

recorded_handshakes_are_accepted(Config) ->
    Worker = worker(Config, $0),
    [are_accepted(Worker, Release) || Release <- releases()].

releases() ->
    ["otp25", "otp27"].

are_accepted(Worker, Release) ->
    {up, First} = initiator(Worker, Release, fun unchanged/2),
    {up, Second} = initiator(Worker, Release, fun unchanged/2),
    ?assert(raw_peer:await_close(First, bed:limit_ms(?ANSWER_MS))),
    gen_tcp:close(Second),
    {up, Third} = acceptor(Worker, Release, fun unchanged/2),
    gen_tcp:close(Third).

unchanged(_Number, Packet) ->
    Packet.

%% ------------------------------------------------------------- handshakes

%% Both roles as the recorded node. Change(Number, Packet) says what becomes of
%% each packet; with {broken, Packet}, whose length does not fit, it ends. {up,
%% Socket} once authenticated; closed; refused; or silent.

initiator(#{port := Port, cookie := Cookie, initiator := Packets}, Release,
          Change) ->
    #{Release := [Name, True, <<Head:7/binary, _/binary>>]} = Packets,
    Socket = dial(Port),
    say(Socket, Change(1, Name)),
    Said = case packet(Socket) of
               <<"salive">> -> say(Socket, Change(2, True)), packet(Socket);
               <<"sok", _/binary>> -> packet(Socket);
               Other -> Other
           end,
    case Said of
        <<"N", _:64, Challenge:32, _/binary>> ->
            Digest = digest(Cookie, Challenge),
            say(Socket, Change(3, <<Head/binary, Digest/binary>>)),
            ended(Socket, packet(Socket));
        _ ->
            ended(Socket, Said)
    end.

%% The router dials a node that it is to send an answer to, or that it lost; a
%% ping shows whether the connection is up.
acceptor(#{acceptor := Packets, cookie := Cookie} = Worker, Release, Change) ->
    #{Release := [Status, Name, <<Head:3/binary, _/binary>>]} = Packets,
    Identity = identity(Worker, Release),
    Socket = dialled(Worker, raw_peer:pid(Identity), 20),
    say(Socket, Change(1, Status)),
    say(Socket, Change(2, Name)),
    Said = case packet(Socket) of
               <<"strue">> -> packet(Socket);
               Other -> Other
           end,
    case Said of
        <<"r", Challenge:32, _/binary>> ->
            Digest = digest(Cookie, Challenge),
            say(Socket, Change(3, <<Head/binary, Digest/binary>>)),
            ended(Socket, ping(Identity#{socket => Socket, form => fragments}));
        _ ->
            ended(Socket, Said)
    end.

ended(Socket, Said) when Said =:= closed; Said =:= silent ->
    gen_tcp:close(Socket),
    Said;
ended(Socket, <<"s", _/binary>>) ->
    gen_tcp:close(Socket),
    refused;
ended(Socket, _) ->
    {up, Socket}.

say(Socket, {broken, Packet}) ->
    _ = gen_tcp:send(Socket, Packet),
    gen_tcp:close(Socket),
    throw(broken);
say(Socket, Packet) ->
    _ = gen_tcp:send(Socket, Packet),
    ok.

packet(Socket) ->
    case gen_tcp:recv(Socket, 2, bed:limit_ms(?ANSWER_MS)) of
        {ok, <<Length:16>>} ->
            {ok, Packet} = gen_tcp:recv(Socket, Length),
            Packet;
        {error, timeout} -> silent;
        {error, _} -> closed
    end.

digest(Cookie, Challenge) ->
    erlang:md5([Cookie, integer_to_list(Challenge)]).

%% A ping whose answer is for a process that the router must dial, up to the
%% router's name. Again, if it still had the last connection, or took up an
%% earlier call of ours.
dialled(#{asker := Asker, service := Service, listener := Listener} = Worker,
        Pid, Times) when Times > 0 ->
    ok = raw_peer:send(Asker, {22, raw_peer:pid(Asker), Service},
                       {llm_request, Pid, raw_peer:ref(Asker), ping}),
    case named(gen_tcp:accept(Listener, bed:limit_ms(500))) of
        {ok, Socket} -> Socket;
        closed -> dialled(Worker, Pid, Times - 1)
    end.

named({ok, Socket}) ->
    case packet(Socket) of
        <<"N", _/binary>> -> {ok, Socket};
        closed -> gen_tcp:close(Socket), closed
    end;
named({error, timeout}) ->
    closed.

%% --------------------------------------------------------------- mutations

mutated_frames_and_handshakes_harm_nobody(Config) ->
    Seed = seed(),
    Total = mutations(),
    ct:pal("seed ~b, ~b mutations", [Seed, Total]),
    Service = service(Config),
    Fds = fd_count(Config),
    start_watching(Config),
    Warm = Total div 5,
    _ = run(Config, Seed, 1, Warm),
    Rss = router:rss_kib(bed:router(Config)),
    Counts = run(Config, Seed, Warm + 1, Total),
    {Calls, WorstUs} = stop_watching(Config),
    ct:pal("~0p; ~b calls of another node, the slowest ~b ms",
           [Counts, Calls, WorstUs div 1000]),
    ?assertEqual(Service, service(Config)),
    bed:eventually(fun() -> is_clean(Config) end, 10000),
    bed:eventually(fun() -> fd_count(Config) =< Fds end, 10000),
    bed:has_grown_less(Config, 4096, Rss),
    ?assertEqual({exited, 0}, bed:stop_router(Config)),
    %% All that was closed was closed for what it sent.
    Log = router:stderr(bed:router(Config)),
    ?assertEqual([], [T || T <- [<<"level=error">>, <<"the queue is full">>],
                           binary:match(Log, T) =/= nomatch]).

is_clean(Config) ->
    #{in_flight := Calls, node := #{peers := Peers, handshakes := Handshakes}}
        = bed:call(Config, stats),
    #{in_flight := Asked} = scripted_provider:counters(bed:provider(Config)),
    Left = {Calls, Peers, Handshakes, Asked},
    ct:log("in flight, peers, handshakes, asked: ~0p", [Left]),
    Left =:= {0, 1, 0, 0}.

%% Descriptors without the connections that are kept to the provider.
fd_count(Config) ->
    #{open := Kept} = scripted_provider:counters(bed:provider(Config)),
    router:fd_count(bed:router(Config)) - Kept.

%% A real node's calls, one after the other, each within its limit.
start_watching(Config) ->
    Limit = bed:limit_ms(5000),
    bed:on(bed:caller(Config),
           fun() ->
                   register(watcher, spawn(?MODULE, watch, [Limit, 0, 0]))
           end).

watch(Limit, Count, Worst) ->
    try timer:tc(?MODULE, watched_calls, [Limit]) of
        {Us, _} ->
            receive
                {stop, From} -> From ! {Count + 1, max(Us, Worst)}
            after 5 ->
                    watch(Limit, Count + 1, max(Us, Worst))
            end
    catch
        Class:Reason -> receive {stop, From} -> From ! {Class, Reason} end
    end.

watched_calls(Limit) ->
    Server = {llm_router, ?ROUTER},
    pong = gen_server:call(Server, ping, Limit),
    {ok, #{text := <<"You wrote: hi">>}} = gen_server:call(Server, ?OP, Limit).

stop_watching(Config) ->
    bed:on(bed:caller(Config),
           fun() -> watcher ! {stop, self()}, receive Result -> Result end end).

%% Mutations From to To, in portions because the provider records what it is
%% asked: how often each outcome was seen. The first one that is wrong ends it.
run(_Config, _Seed, From, To) when From > To ->
    #{};
run(Config, Seed, From, To) ->
    Next = min(From + ?PORTION, To + 1),
    ok = scripted_provider:set_handler(bed:provider(Config), fun answer/1),
    Counts = share_out(Config, Seed, From, Next - 1),
    added(run(Config, Seed, Next, To), Counts).

share_out(Config, Seed, From, To) ->
    Self = self(),
    Workers = [spawn_link(
                 fun() ->
                         Numbers = lists:seq(From + W, To, ?WORKERS),
                         Worker = worker(Config, $1 + W),
                         Self ! {self(), work(Worker, Seed, Numbers)}
                 end) || W <- lists:seq(0, ?WORKERS - 1)],
    lists:foldl(fun(Pid, Counts) ->
                        receive {Pid, More} -> added(More, Counts) end
                end, #{}, Workers).

added(More, Counts) ->
    maps:fold(fun(Key, N, Acc) ->
                      maps:update_with(Key, fun(M) -> M + N end, N, Acc)
              end, Counts, More).

%% A node that the router can dial, and another one that makes it do so.
worker(Config, Digit) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}]),
    Node = node_of(Config, Digit),
    Node#{asker => raw_peer:connect(?ROUTER, #{cookie => cookie(Config)}),
          listener => Listener, epmd => register_name(Listener, Digit),
          peer => none, recordings => by_kind(recordings(Config, Digit))}.

by_kind(Recordings) ->
    maps:from_list([{Kind, weighted([R || #{kind := K} = R <- Recordings,
                                          K =:= Kind])}
                    || #{kind := Kind} <- Recordings]).

%% Known to epmd for as long as the socket is open; again, if epmd did not
%% notice yet that the last one is closed.
register_name(Listener, Digit) ->
    {ok, Port} = inet:port(Listener),
    {ok, Epmd} = gen_tcp:connect({127, 0, 0, 1}, epmd_port(),
                                 [binary, {active, false}]),
    Body = <<120, Port:16, 77, 0, 6:16, 5:16, 9:16, "recorder", Digit, 0:16>>,
    ok = gen_tcp:send(Epmd, [<<(byte_size(Body)):16>>, Body]),
    case gen_tcp:recv(Epmd, 6) of
        {ok, <<118, 0, _Creation:32>>} -> Epmd;
        {ok, <<118, 1, _:32>>} ->
            gen_tcp:close(Epmd),
            timer:sleep(10),
            register_name(Listener, Digit)
    end.

epmd_port() ->
    list_to_integer(os:getenv("ERL_EPMD_PORT", "4369")).

work(Worker, Seed, Numbers) ->
    {Done, Counts} = lists:foldl(
                       fun(N, {W, Counts}) ->
                               {Outcome, W1} = mutation(W, Seed, N),
                               {W1, added(#{Outcome => 1}, Counts)}
                       end, {Worker, #{}}, Numbers),
    _ = without_peer(Done),
    Counts.

mutation(Worker, Seed, N) ->
    _ = rand:seed(exsss, {Seed, N, 0}),
    try outcome_of(rand:uniform(100), N, Worker)
    catch
        Class:Reason:Stack ->
            exit(#{seed => Seed, mutation => N, sent => get(sent),
                   reason => {Class, Reason}, stack => Stack})
    end.

outcome_of(1, _N, Worker) ->
    Alone = without_peer(Worker),
    {handshake(fun acceptor/3, Alone), Alone};
outcome_of(Percent, _N, Worker) when Percent =< 5 ->
    {handshake(fun initiator/3, Worker), without_peer(Worker)};
outcome_of(_, N, Worker) ->
    Kind = kind(N),
    #{frames := Frames} = Recording = chosen(Kind, Worker),
    Sent = maybe_patient(Frames),
    {Bytes, How} = mutator:frames(Sent),
    put(sent, {maps:remove(frames, Recording), How,
               binary:part(Bytes, 0, min(4096, byte_size(Bytes)))}),
    #{peer := {Kind, Peer}} = Connected = connected(Kind, Worker),
    _ = raw_peer:send_bytes(Peer, Bytes),
    case mutator:is_framed(Bytes) andalso ping(Peer) of
        pong -> {pong, Connected};
        false -> {broken, without_peer(Connected)};
        closed ->
            false = is_in_payload(How, Sent),
            {closed, without_peer(Connected)}
    end.

%% Whatever the payload of a sound frame is, the connection stays.
is_in_payload({frame, N, {bytes, Offsets}}, Frames) ->
    At = dist_frames:payload_at(lists:nth(N + 1, Frames)),
    At =/= none andalso lists:min(Offsets) >= At;
is_in_payload(_, _) ->
    false.

%% It changes seldom, because that takes a new connection.
kind(N) ->
    Kinds = [{R, F} || R <- releases(), F <- [pass_through, fragments]],
    lists:nth(1 + N div 100 rem length(Kinds), Kinds).

chosen(Kind, #{recordings := Recordings}) ->
    #{Kind := {Sum, Weighted}} = Recordings,
    chosen_at(rand:uniform(Sum), Weighted).

chosen_at(N, [{Weight, Recording} | _]) when N =< Weight -> Recording;
chosen_at(N, [{Weight, _} | Rest]) -> chosen_at(N - Weight, Rest).

%% A large one takes the time of many small ones.
weighted(Recordings) ->
    Weighted = [{max(8, 300000 div max(6000, iolist_size(Frames))), Recording}
                || #{frames := Frames} = Recording <- Recordings],
    {lists:sum([Weight || {Weight, _} <- Weighted]), Weighted}.

%% Half of the callers do not take their monitors away, so that their calls run
%% to the end.
maybe_patient(Frames) ->
    case rand:uniform(2) of
        1 -> Frames;
        2 -> [F || F <- Frames, not is_demonitor(F)]
    end.

is_demonitor(<<_:32, 112, 131, 104, 4, 97, ?DEMONITOR, _/binary>>) -> true;
is_demonitor(<<_:32, 131, 68, 0, 104, 4, 97, ?DEMONITOR, _/binary>>) -> true;
is_demonitor(_) -> false.

connected(Kind, #{peer := {Kind, _}} = Worker) ->
    Worker;
connected(Kind, Worker) ->
    (without_peer(Worker))#{peer := {Kind, connect(Worker, Kind)}}.

without_peer(#{peer := none} = Worker) ->
    Worker;
without_peer(#{peer := {_, Peer}} = Worker) ->
    raw_peer:close(Peer),
    Worker#{peer := none}.

handshake(Role, Worker) ->
    Release = lists:nth(rand:uniform(2), releases()),
    Which = rand:uniform(3),
    put(sent, {Role, Release, Which}),
    try Role(Worker, Release, fun(N, P) when N =:= Which -> changed(P);
                                 (_, P) -> P
                              end) of
        {up, Socket} -> gen_tcp:close(Socket), up;
        silent -> error(silent);
        Other -> Other
    catch
        throw:broken -> broken
    end.

changed(Packet) ->
    Changed = mutator:packet(Packet),
    put(sent, {handshake, Packet, Changed}),
    case Changed of
        <<Length:16, _:Length/binary>> -> named_apart(Packet, Changed);
        _ -> {broken, Changed}
    end.

%% With another worker's name it would take that one's connection away.
named_apart(Packet, Changed) ->
    case {name_in(Packet), name_in(Changed)} of
        {{match, Name}, {match, Other}} when Name =/= Other -> Packet;
        _ -> Changed
    end.

name_in(Packet) ->
    re:run(Packet, "recorder[0-9]@localhost", [{capture, first, binary}]).
