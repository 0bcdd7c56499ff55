%% A distribution peer made by hand, for a router that must survive peers that
%% no real node would be: it speaks the version 6 handshake as initiator over
%% a plain socket and then sends any bytes it is told to.
%%
%%     Peer = raw_peer:connect(Router, #{cookie => "c"}),
%%     ok = raw_peer:send(Peer, {22, raw_peer:pid(Peer), ServicePid}, Message),
%%     {{33, _, _}, Reply} = raw_peer:recv(Peer)
%%
%% The peer lives in the calling process. Ticks are answered by recv/1 only:
%% a peer that never receives is silent. One whose flags have FRAGMENTS speaks
%% as such nodes do (dist_frames); of several messages that come in fragments
%% at once it can read only the first.
-module(raw_peer).

-export([dial/1, connect/2, handshake/2, close/1]).
-export([send/2, send/3, fragments/4, send_bytes/2, send_packet/2]).
-export([recv/1, await_close/2]).
-export([call/3, pid/1, ref/1, socket/1]).

-define(TIMEOUT_MS, 5000).
-define(PASS_THROUGH, 112).
-define(VERSION, 131).

%% What a node of OTP 25 or later must announce, and what makes the router
%% treat it as a full peer (kernel's dist.hrl): everything but the atom cache,
%% fragments and being published (visible).
-define(FLAGS, 16#d075f5fbc).
-define(FRAGMENTS, (1 bsl 23)).
-define(CREATION, 16#5eed).

-type peer() :: #{socket := gen_tcp:socket(), name := node(),
                  creation := integer(), form := dist_frames:form()}.
-export_type([peer/0]).

%% A connection to the router's distribution port, before any handshake.
-spec dial(node()) -> gen_tcp:socket().
dial(Router) ->
    [Name, Host] = string:split(atom_to_list(Router), "@"),
    {port, Port, _Version} = erl_epmd:port_please(Name, Host, ?TIMEOUT_MS),
    {ok, Socket} = gen_tcp:connect(Host, Port, [binary, {active, false},
                                                {nodelay, true}]),
    Socket.

%% Dials and shakes hands. Opts as for handshake/2; raises {refused, Status}
%% when the router says anything but ok.
-spec connect(node(), map()) -> peer().
connect(Router, Opts) ->
    Socket = dial(Router),
    case handshake(Socket, Opts) of
        {ok, Peer} -> Peer;
        {refused, Status} -> error({refused, Status})
    end.

%% Opts: cookie (required); name, default a unique one on this host;
%% flags; creation; challenge => fun(Digest) -> Digest to spoil the answer.
-spec handshake(gen_tcp:socket(), map()) ->
          {ok, peer()} | {refused, binary() | closed | bad_digest}.
handshake(Socket, #{cookie := Cookie} = Opts) ->
    Name = maps:get(name, Opts, unique_name()),
    Creation = maps:get(creation, Opts, ?CREATION),
    NameBin = atom_to_binary(Name),
    Flags = maps:get(flags, Opts, ?FLAGS),
    send_packet(Socket, [$N, <<Flags:64, Creation:32,
                               (byte_size(NameBin)):16>>, NameBin]),
    case status(Socket) of
        Ok when Ok =:= <<"ok">>; Ok =:= <<"ok_simultaneous">> ->
            Spoil = maps:get(challenge, Opts, fun(Digest) -> Digest end),
            case answer_challenge(Socket, Cookie, Spoil) of
                ok -> {ok, #{socket => Socket, name => Name,
                             creation => Creation, form => form(Flags)}};
                Refused -> {refused, Refused}
            end;
        Status -> {refused, Status}
    end.

form(Flags) when Flags band ?FRAGMENTS =/= 0 -> fragments;
form(_) -> pass_through.

%% "alive" asks whether the old connection, that the router still has, is dead.
status(Socket) ->
    case recv_packet(Socket) of
        <<"salive">> ->
            ok = send_packet(Socket, <<"strue">>),
            <<"ok">>;
        <<"s", Status/binary>> -> Status;
        closed -> closed
    end.

answer_challenge(Socket, Cookie, Spoil) ->
    case recv_packet(Socket) of
        <<"N", _Flags:64, Challenge:32, _Creation:32, Length:16, _/binary>>
          when Length > 0 ->
            Mine = rand:uniform(1 bsl 32) - 1,
            send_packet(Socket, [$r, <<Mine:32>>,
                                 Spoil(digest(Cookie, Challenge))]),
            Expected = digest(Cookie, Mine),
            case recv_packet(Socket) of
                <<"a", Expected/binary>> -> ok;
                <<"a", _/binary>> -> bad_digest;
                closed -> closed
            end;
        closed ->
            closed
    end.

digest(Cookie, Challenge) ->
    erlang:md5([Cookie, integer_to_list(Challenge)]).

unique_name() ->
    bed:node_name(raw).

-spec close(peer()) -> ok.
close(Peer) ->
    gen_tcp:close(socket(Peer)).

%% --------------------------------------------------------------- identity

-spec socket(peer()) -> gen_tcp:socket().
socket(#{socket := Socket}) -> Socket.

%% The one process of this peer, and a new reference of it.
-spec pid(peer()) -> pid().
pid(#{name := Name, creation := Creation}) ->
    binary_to_term(<<?VERSION, 88, (atom_ext(Name))/binary,
                     1:32, 0:32, Creation:32>>).

-spec ref(peer()) -> reference().
ref(#{name := Name, creation := Creation}) ->
    Unique = erlang:unique_integer([positive]),
    binary_to_term(<<?VERSION, 90, 3:16, (atom_ext(Name))/binary, Creation:32,
                     (Unique band 16#3ffff):32, (Unique bsr 18):32, 1:32>>).

atom_ext(Atom) ->
    Text = atom_to_binary(Atom),
    <<119, (byte_size(Text)), Text/binary>>.

%% ----------------------------------------------------------------- frames

%% A control message, with or without a payload: terms, or binaries holding
%% terms already encoded (with their version byte), well or badly.
-spec send(peer(), tuple() | binary()) -> ok | {error, term()}.
send(Peer, Control) ->
    send_bytes(Peer, frame(Peer, [encode(Control)])).

-spec send(peer(), tuple() | binary(), term()) -> ok | {error, term()}.
send(Peer, Control, Message) ->
    send_bytes(Peer, frame(Peer, [encode(Control), encode(Message)])).

encode({encoded, Bytes}) -> Bytes;
encode(Term) -> term_to_binary(Term).

frame(#{form := pass_through}, Terms) ->
    [<<(iolist_size(Terms) + 1):32, ?PASS_THROUGH>> | Terms];
frame(#{form := fragments}, Terms) ->
    Bare = [bare(Term) || Term <- Terms],
    [<<(iolist_size(Bare) + 3):32, ?VERSION, 68, 0>> | Bare].

bare(Encoded) ->
    <<?VERSION, Bare/binary>> = iolist_to_binary(Encoded),
    Bare.

%% The frames of a message that is cut into parts of Size bytes, for a peer
%% that has the flag; a peer's messages have a Sequence number each.
-spec fragments(non_neg_integer(), pos_integer(), tuple(), term()) ->
          [binary()].
fragments(Sequence, Size, Control, Message) ->
    [First | Later] = parts(Size, bare(encode(Message))),
    Count = 1 + length(Later),
    Head = [<<?VERSION, 69, Sequence:64, Count:64, 0>>, bare(encode(Control))],
    [whole([Head, First])
     | [whole([<<?VERSION, 70, Sequence:64, Left:64>>, Part])
        || {Left, Part} <- lists:zip(lists:seq(Count - 1, 1, -1), Later)]].

parts(Size, Bytes) when byte_size(Bytes) > Size ->
    <<Part:Size/binary, Rest/binary>> = Bytes,
    [Part | parts(Size, Rest)];
parts(_Size, Bytes) ->
    [Bytes].

whole(Body) ->
    iolist_to_binary([<<(iolist_size(Body)):32>>, Body]).

-spec send_bytes(peer() | gen_tcp:socket(), iodata()) -> ok | {error, term()}.
send_bytes(#{socket := Socket}, Bytes) -> gen_tcp:send(Socket, Bytes);
send_bytes(Socket, Bytes) -> gen_tcp:send(Socket, Bytes).

%% A packet of the handshake.
-spec send_packet(gen_tcp:socket(), iodata()) -> ok | {error, term()}.
send_packet(Socket, Body) ->
    gen_tcp:send(Socket, [<<(iolist_size(Body)):16>>, Body]).

recv_packet(Socket) ->
    case gen_tcp:recv(Socket, 2, ?TIMEOUT_MS) of
        {ok, <<Length:16>>} ->
            {ok, Body} = gen_tcp:recv(Socket, Length, ?TIMEOUT_MS),
            Body;
        {error, timeout} -> error(timeout);
        {error, _} -> closed
    end.

%% The next frame, ticks answered and left out: {Control}, {Control, Message},
%% or closed; raises `timeout`.
-spec recv(peer()) -> {tuple()} | {tuple(), term()} | closed.
recv(#{socket := Socket}) ->
    recv(Socket, dist_frames:new()).

recv(Socket, Pending) ->
    case gen_tcp:recv(Socket, 4, ?TIMEOUT_MS) of
        {ok, <<0:32>>} ->
            _ = gen_tcp:send(Socket, <<0:32>>),
            recv(Socket, Pending);
        {ok, <<Length:32>>} ->
            {ok, Body} = gen_tcp:recv(Socket, Length, ?TIMEOUT_MS),
            case dist_frames:unpack(Body, Pending) of
                {more, More} -> recv(Socket, More);
                {Message, _} -> Message
            end;
        {error, timeout} -> error(timeout);
        {error, _} -> closed
    end.

%% True when the router closes the connection within TimeoutMs; what it sends
%% before is dropped.
-spec await_close(peer() | gen_tcp:socket(), timeout()) -> boolean().
await_close(#{socket := Socket}, TimeoutMs) ->
    await_close(Socket, TimeoutMs);
await_close(Socket, TimeoutMs) ->
    Deadline = erlang:monotonic_time(millisecond) + TimeoutMs,
    drain(Socket, Deadline).

drain(Socket, Deadline) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    case gen_tcp:recv(Socket, 0, Left) of
        {ok, _} -> drain(Socket, Deadline);
        {error, timeout} -> false;
        {error, _} -> true
    end.

%% A gen_server call as a real node makes it, to a registered name or a pid of
%% the router: monitor, message, and the reply to the alias.
-spec call(peer(), atom() | pid(), term()) ->
          {reply, term()} | {down, term()} | closed.
call(Peer, To, Request) ->
    From = pid(Peer),
    Ref = ref(Peer),
    Call = {'$gen_call', {From, [alias | Ref]}, Request},
    ok = send(Peer, {19, From, To, Ref}),
    case To of
        _ when is_atom(To) -> ok = send(Peer, {6, From, '', To}, Call);
        _ -> ok = send(Peer, {22, From, To}, Call)
    end,
    Result = await_reply(Peer, Ref),
    _ = send(Peer, {20, From, To, Ref}),
    Result.

await_reply(Peer, Ref) ->
    case recv(Peer) of
        {{33, _, Ref}, {[alias | Ref], Reply}} -> {reply, Reply};
        {{28, _, _, Ref}, Reason} -> {down, Reason};
        {{21, _, _, Ref, Reason}} -> {down, Reason};
        closed -> closed;
        _Other -> await_reply(Peer, Ref)
    end.
