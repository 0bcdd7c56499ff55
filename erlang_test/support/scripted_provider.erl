%% A model provider that does what a test tells it: a real HTTP/1.1 server on
%% loopback, with keep-alive, one process per connection, TLS when asked. It
%% speaks every dialect, each at its own path (see dialects).
%%
%%     P = scripted_provider:start(#{handler => Handler}),
%%     Url = scripted_provider:url(P),             % ".../v1", for a base URL
%%     Root = scripted_provider:url(P, anthropic), % without it
%%     [Request] = scripted_provider:await_requests(P, 1),
%%     ok = scripted_provider:stop(P)
%%
%% A handler is a fun(Request) -> [Action], or a list of such funs and action
%% lists used one per request, the last one for all that follow. It runs in
%% the connection's process; when it fails, the client gets a 500 with the
%% reason. The default handler is scripted_model:from_document/1.
%%
%% Request: #{n, method, path, headers, body, json, connection, at}: n counts
%% from 1 since start or the last set_handler/2, header names are lower case,
%% json is `undefined` when the body is none, `at` is monotonic milliseconds.
%%
%% Actions, in the order in which they happen on the wire:
%%     {status, Code}, {header, Name, Value}   before the first body action
%%     {answer, Text, Opts}     an answer in the request's dialect, see answer/2
%%     {embeddings, Vectors, Opts}   the same for texts to embed
%%     {error, Kind, Opts}      an error in it, see dialect_errors; Opts may
%%                              name another status
%%     {body, IoData}           a whole body, with Content-Length
%%     {chunk, IoData}          one HTTP chunk of a body of unknown length
%%     {sse, JsonTerm}          one server-sent event, as a chunk
%%     {event, Name, JsonTerm}  the same with a name
%%     {line, JsonTerm}         one line of JSON, as a chunk
%%     done_marker              "data: [DONE]", as a chunk
%%     {bytewise, [Event]}      these, in chunks of one byte
%%     {repeat, N | infinity, [Action]}
%%     {raw, IoData}            bytes as they are; no HTTP from here on
%%     {sleep, Ms} | hang       say nothing for a time, or for ever
%%     {notify, Pid, Message}
%%     close | reset            close the connection here: FIN or RST
%% A list that ends without close or reset completes the answer.
%%
%% aborted/1 tells when (monotonic milliseconds) clients closed a connection
%% before the answer was complete.
-module(scripted_provider).
-behaviour(gen_server).

-export([start/0, start/1, stop/1, url/1, url/2, set_handler/2]).
-export([requests/1, aborted/1, counters/1]).
-export([await_requests/2, await_aborted/2]).
-export([answer/1, answer/2, stream/2, bytes/1, error/4, main/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(JSON_MAX, 4194304).
-define(AWAIT_MS, 5000).

-type provider() :: #{pid := pid(), port := inet:port_number(),
                      url := binary()}.
-type request() :: map().
-type action() :: tuple() | atom().
-type handler() :: fun((request()) -> [action()])
                 | [fun((request()) -> [action()]) | [action()]].
-export_type([provider/0, request/0, action/0, handler/0]).

%% ---------------------------------------------------------------- control

start() ->
    start(#{}).

%% Opts: handler; port (default: any free one); tls => ssl options of a
%% listener, for an https provider.
-spec start(map()) -> provider().
start(Opts) ->
    {ok, Pid} = gen_server:start(?MODULE, Opts, []),
    gen_server:call(Pid, provider).

-spec stop(provider()) -> ok.
stop(#{pid := Pid}) ->
    gen_server:stop(Pid, shutdown, ?AWAIT_MS).

-spec url(provider()) -> binary().
url(#{url := Url}) ->
    Url.

%% The base URL that a provider of the dialect is configured with.
-spec url(provider(), dialects:dialect()) -> binary().
url(#{url := Url}, Dialect)
  when Dialect =:= openai; Dialect =:= openai_responses ->
    Url;
url(#{url := Url}, _Dialect) ->
    binary:part(Url, 0, byte_size(Url) - byte_size(<<"/v1">>)).

%% Replaces the handler and forgets what was recorded.
-spec set_handler(provider(), handler()) -> ok.
set_handler(#{pid := Pid}, Handler) ->
    gen_server:call(Pid, {set_handler, Handler}).

%% Every request since start or the last set_handler/2, oldest first.
-spec requests(provider()) -> [request()].
requests(Provider) ->
    maps:get(requests, recorded(Provider)).

-spec aborted(provider()) -> [integer()].
aborted(Provider) ->
    maps:get(aborted, recorded(Provider)).

%% #{opened, open, in_flight, max_in_flight, handshake_failed}: connections
%% opened in all and open now, requests being answered now and at most, TLS
%% handshakes that failed.
-spec counters(provider()) -> map().
counters(Provider) ->
    maps:with([opened, open, in_flight, max_in_flight, handshake_failed],
              recorded(Provider)).

recorded(#{pid := Pid}) ->
    gen_server:call(Pid, recorded).

%% Waits until N requests were seen (N connections aborted), returns them all;
%% raises {timeout, Recorded} otherwise.
await_requests(Provider, N) ->
    await(Provider, requests, N, now_ms() + ?AWAIT_MS).

await_aborted(Provider, N) ->
    await(Provider, aborted, N, now_ms() + ?AWAIT_MS).

await(Provider, What, N, Deadline) ->
    Recorded = #{What := Seen} = recorded(Provider),
    Late = now_ms() > Deadline,
    if
        length(Seen) >= N -> Seen;
        Late -> error({timeout, Recorded});
        true -> timer:sleep(2), await(Provider, What, N, Deadline)
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).

%% Runs in the foreground until killed, for scripts:
%%     erl -noshell -pa DIR -run scripted_provider main PORT
-spec main([string()]) -> no_return().
main([Port]) ->
    Provider = start(#{port => list_to_integer(Port)}),
    io:format("listening ~s~n", [url(Provider)]),
    timer:sleep(infinity).

%% ---------------------------------------------------------------- answers

%% An answer that says Text (a JSON term is encoded), in the dialect of the
%% request: streamed when the request says so, whole otherwise. Opts: see
%% dialects.
-spec answer(binary() | map()) -> [action()].
answer(Text) ->
    answer(Text, #{}).

-spec answer(binary() | map(), map()) -> [action()].
answer(Text, Opts) when is_binary(Text) ->
    [{answer, Text, Opts}];
answer(Json, Opts) ->
    [{answer, test_json:encode(Json), Opts}].

%% What answer/2 does for a streamed chat completion of OpenAI, to be cut or
%% mixed by a test.
-spec stream(binary(), map()) -> [action()].
stream(Text, Opts) ->
    #{head := Head, start := Start, text := Deltas, finish := Finish}
        = dialects:pieces(openai, Text, Opts),
    Head ++ Start ++ lists:append(Deltas) ++ Finish.

%% Events as the bytes of a stream.
-spec bytes([action()]) -> binary().
bytes(Events) ->
    iolist_to_binary([text_of(E) || E <- Events]).

-spec error(100..599, atom() | binary(), binary(), [{binary(), binary()}]) ->
          [action()].
error(Status, Code, Message, Headers) ->
    [{status, Status}]
        ++ [{header, Name, Value} || {Name, Value} <- Headers]
        ++ [{header, <<"content-type">>, <<"application/json">>},
            {body, test_json:encode(
                     #{error => #{message => Message, type => Code,
                                  code => Code, param => null}})}].

%% ----------------------------------------------------------------- server

init(Opts) ->
    process_flag(trap_exit, true),
    Tls = maps:get(tls, Opts, none),
    Listener = listen(maps:get(port, Opts, 0), Tls),
    {ok, Port} = port(Listener),
    Server = self(),
    spawn_link(fun() -> accept(Listener, Server) end),
    Scheme = case Tls of none -> "http"; _ -> "https" end,
    Url = io_lib:format("~s://127.0.0.1:~b/v1", [Scheme, Port]),
    Default = fun scripted_model:from_document/1,
    {ok, #{listener => Listener,
           provider => #{pid => Server, port => Port,
                         url => iolist_to_binary(Url)},
           handler => maps:get(handler, Opts, Default),
           recorded => new_record()}}.

%% `script` tells a request of an earlier handler from those recorded now.
new_record() ->
    #{script => make_ref(), requests => [], aborted => [], opened => 0,
      open => 0, in_flight => 0, max_in_flight => 0, handshake_failed => 0}.

handle_call(provider, _From, #{provider := Provider} = State) ->
    {reply, Provider, State};
handle_call({set_handler, Handler}, _From, #{recorded := Old} = State) ->
    New = maps:merge(new_record(), maps:with([open, in_flight], Old)),
    {reply, ok, State#{handler := Handler, recorded := New}};
handle_call(recorded, _From, #{recorded := Recorded} = State) ->
    #{requests := Requests, aborted := Aborted} = Recorded,
    {reply, Recorded#{requests := lists:reverse(Requests),
                      aborted := lists:reverse(Aborted)}, State};
handle_call({begin_request, Request}, _From, State) ->
    #{handler := Handler, recorded := Recorded} = State,
    #{requests := Seen, in_flight := Now, max_in_flight := Max} = Recorded,
    N = length(Seen) + 1,
    Numbered = Request#{n => N, script => maps:get(script, Recorded)},
    New = Recorded#{requests := [Numbered | Seen], in_flight := Now + 1,
                    max_in_flight := max(Max, Now + 1)},
    {reply, {Numbered, nth_handler(N, Handler)}, State#{recorded := New}};
handle_call({end_request, Script, How}, _From, State) ->
    #{recorded := Recorded} = State,
    New = ended(Script, How, count(in_flight, -1, Recorded)),
    {reply, ok, State#{recorded := New}}.

handle_cast(connected, #{recorded := Recorded} = State) ->
    Now = count(open, 1, count(opened, 1, Recorded)),
    {noreply, State#{recorded := Now}};
handle_cast(handshake_failed, #{recorded := Recorded} = State) ->
    {noreply, State#{recorded := count(handshake_failed, 1, Recorded)}}.

%% A connection's process ends with it.
handle_info({'EXIT', _Pid, _Reason}, #{recorded := Recorded} = State) ->
    {noreply, State#{recorded := count(open, -1, Recorded)}}.

terminate(_Reason, #{listener := Listener}) ->
    close(Listener).

count(Counter, By, Recorded) ->
    maps:update_with(Counter, fun(N) -> N + By end, Recorded).

ended(Script, {aborted, At}, #{script := Script, aborted := Seen} = Recorded) ->
    Recorded#{aborted := [At | Seen]};
ended(_Script, _How, Recorded) ->
    Recorded.

nth_handler(N, Handlers) when is_list(Handlers) ->
    lists:nth(min(N, length(Handlers)), Handlers);
nth_handler(_N, Handler) ->
    Handler.

%% ------------------------------------------------------------ connections

-record(conn, {server, socket, buffer = <<>>}).

accept(Listener, Server) ->
    case accept(Listener) of
        {ok, Accepted} ->
            gen_server:cast(Server, connected),
            Pid = spawn(fun() ->
                                link(Server),
                                receive go -> connected(Accepted, Server) end
                        end),
            ok = controlling_process(Accepted, Pid),
            Pid ! go,
            accept(Listener, Server);
        {error, closed} ->
            ok
    end.

connected(Accepted, Server) ->
    case handshake(Accepted) of
        {ok, Socket} ->
            ok = setopts(Socket, [{active, true}]),
            serve(#conn{server = Server, socket = Socket});
        {error, _} ->
            gen_server:cast(Server, handshake_failed)
    end.

serve(Conn) ->
    case read_request(Conn) of
        {Request, Conn1} ->
            {Numbered, Handler} = call(Conn, {begin_request, Request}),
            How = try answer_with(Handler, Numbered, Conn1)
                  catch throw:{stop, Stop} -> Stop
                  end,
            ok = call(Conn, {end_request, maps:get(script, Numbered), How}),
            case How of
                complete -> serve(Conn1);
                _ -> close(Conn#conn.socket)
            end;
        closed ->
            close(Conn#conn.socket)
    end.

call(#conn{server = Server}, Message) ->
    gen_server:call(Server, Message, infinity).

read_request(Conn) ->
    case head(Conn, http_bin, []) of
        {[{http_request, Method, {abs_path, Path}, _} | Fields], Conn1} ->
            Headers = maps:from_list([header(F) || F <- Fields]),
            Length = maps:get(<<"content-length">>, Headers, <<"0">>),
            read_body(#{method => text(Method), path => Path,
                        headers => Headers, at => now_ms(),
                        connection => self()},
                      binary_to_integer(Length), Conn1);
        closed ->
            closed
    end.

head(#conn{buffer = Buffer} = Conn, Type, Acc) ->
    case erlang:decode_packet(Type, Buffer, []) of
        {ok, http_eoh, Rest} ->
            {lists:reverse(Acc), Conn#conn{buffer = Rest}};
        {ok, Packet, Rest} ->
            head(Conn#conn{buffer = Rest}, httph_bin, [Packet | Acc]);
        {more, _} ->
            case more(Conn) of
                closed -> closed;
                Conn1 -> head(Conn1, Type, Acc)
            end
    end.

header({http_header, _, Name, _, Value}) ->
    {string:lowercase(text(Name)), Value}.

text(Atom) when is_atom(Atom) -> atom_to_binary(Atom);
text(Bin) -> Bin.

read_body(Request, Length, #conn{buffer = Buffer} = Conn) ->
    case gather([Buffer], byte_size(Buffer), Length, Conn#conn{buffer = <<>>}) of
        closed ->
            closed;
        {Bytes, Conn1} ->
            <<Body:Length/binary, Rest/binary>> = Bytes,
            {Request#{body => Body, json => json(Body)},
             Conn1#conn{buffer = Rest}}
    end.

%% In pieces: appending to one binary would copy a large body many times.
gather(Pieces, Size, Length, Conn) when Size >= Length ->
    {iolist_to_binary(Pieces), Conn};
gather(Pieces, Size, Length, Conn) ->
    case more(Conn) of
        closed ->
            closed;
        #conn{buffer = New} = Conn1 ->
            gather([Pieces, New], Size + byte_size(New), Length,
                   Conn1#conn{buffer = <<>>})
    end.

%% A large one would take the decoder of the tests a minute: only how it is to
%% be answered.
json(Body) when byte_size(Body) > ?JSON_MAX ->
    #{<<"stream">> => binary:match(Body, <<"\"stream\":true">>) =/= nomatch};
json(Body) ->
    try test_json:decode(Body) catch error:_ -> undefined end.

more(#conn{buffer = Buffer} = Conn) ->
    receive
        {tcp, _, Data} -> Conn#conn{buffer = <<Buffer/binary, Data/binary>>};
        {ssl, _, Data} -> Conn#conn{buffer = <<Buffer/binary, Data/binary>>};
        {Closed, _} when Closed =:= tcp_closed; Closed =:= ssl_closed -> closed;
        {Error, _, _} when Error =:= tcp_error; Error =:= ssl_error -> closed
    end.

%% -------------------------------------------------------- writing answers

%% body: what of the answer was sent: head (nothing yet), sized (a complete
%% body), chunked (some of one), raw (something that is not HTTP).
-record(out, {conn, request, status = 200, headers = [], body = head}).

answer_with(Handler, Request, Conn) ->
    Actions = try actions(Handler, Request)
              catch Class:Reason:Stack ->
                      error(500, handler_failed,
                            printed({Class, Reason, Stack}), [])
              end,
    finish(run(Actions, #out{conn = Conn, request = Request})).

printed(Term) ->
    unicode:characters_to_binary(io_lib:format("~0tp", [Term])).

actions(Handler, Request) when is_function(Handler) -> Handler(Request);
actions(Actions, _Request) -> Actions.

run(Actions, Out) ->
    lists:foldl(fun act/2, Out, Actions).

finish(#out{body = head} = Out) ->
    finish(act({body, <<>>}, Out));
finish(#out{body = sized}) ->
    complete;
finish(#out{body = chunked} = Out) ->
    send("0\r\n\r\n", Out),
    complete;
finish(#out{body = raw}) ->
    closed.

act({status, Code}, Out) ->
    Out#out{status = Code};
act({header, Name, Value}, #out{headers = Headers} = Out) ->
    Out#out{headers = [[Name, ": ", Value, "\r\n"] | Headers]};
act({answer, Text, Opts}, #out{request = Request} = Out) ->
    run(dialects:answer(Request, Text, Opts), Out);
act({embeddings, Vectors, Opts}, #out{request = Request} = Out) ->
    run(dialects:embeddings(Request, Vectors, Opts), Out);
act({error, Kind, Opts}, #out{request = Request} = Out) ->
    Dialect = dialects:of_request(Request),
    Status = maps:get(status, Opts, dialect_errors:status(Dialect, Kind)),
    run(dialect_errors:answer(Dialect, Status, Kind, Opts), Out);
act({body, Body}, #out{body = head} = Out) ->
    Length = integer_to_binary(iolist_size(Body)),
    send([head(act({header, "content-length", Length}, Out)), Body],
         Out#out{body = sized});
act({chunk, Data}, #out{body = head} = Out) ->
    Chunked = act({header, "transfer-encoding", "chunked"}, Out),
    act({chunk, Data}, send(head(Chunked), Out#out{body = chunked}));
act({chunk, Data}, #out{body = chunked} = Out) ->
    Size = integer_to_list(iolist_size(Data), 16),
    send([Size, "\r\n", Data, "\r\n"], Out);
act({bytewise, Actions}, Out) ->
    run([{chunk, <<Byte>>} || <<Byte>> <= bytes(Actions)], Out);
act({repeat, 0, _Actions}, Out) ->
    Out;
act({repeat, infinity, Actions}, Out) ->
    act({repeat, infinity, Actions}, run(Actions, Out));
act({repeat, N, Actions}, Out) ->
    act({repeat, N - 1, Actions}, run(Actions, Out));
act({raw, Data}, Out) ->
    send(Data, Out#out{body = raw});
act({sleep, Ms}, Out) ->
    watch(Ms, Out);
act(hang, Out) ->
    watch(infinity, Out);
act({notify, Pid, Message}, Out) ->
    Pid ! Message,
    Out;
act(close, _Out) ->
    throw({stop, closed});
act(reset, #out{conn = #conn{socket = Socket}}) ->
    ok = setopts(Socket, [{linger, {true, 0}}]),
    throw({stop, closed});
act(Event, Out) ->
    act({chunk, text_of(Event)}, Out).

text_of({sse, Json}) -> ["data: ", test_json:encode(Json), "\n\n"];
text_of({event, Name, Json}) -> ["event: ", Name, $\n, text_of({sse, Json})];
text_of({line, Json}) -> [test_json:encode(Json), $\n];
text_of(done_marker) -> "data: [DONE]\n\n";
text_of({chunk, Data}) -> Data.

head(#out{status = Status, headers = Headers}) ->
    ["HTTP/1.1 ", integer_to_list(Status), " Scripted\r\n",
     lists:reverse(Headers), "\r\n"].

send(Data, #out{conn = #conn{socket = {Transport, Socket}}} = Out) ->
    case Transport:send(Socket, Data) of
        ok -> Out;
        {error, _} -> throw({stop, {aborted, now_ms()}})
    end.

%% Silence, during which a client may go away.
watch(Ms, Out) ->
    receive
        {Closed, _} when Closed =:= tcp_closed; Closed =:= ssl_closed ->
            throw({stop, {aborted, now_ms()}});
        {Error, _, _} when Error =:= tcp_error; Error =:= ssl_error ->
            throw({stop, {aborted, now_ms()}})
    after Ms ->
            Out
    end.

%% -------------------------------------------------- gen_tcp and ssl alike

listen(Port, none) ->
    {ok, Socket} = gen_tcp:listen(Port, [{backlog, 1024} | socket_options()]),
    {gen_tcp, Socket};
listen(Port, Tls) ->
    {ok, _} = application:ensure_all_started(ssl),
    {ok, Socket} = ssl:listen(Port, socket_options() ++ Tls),
    {ssl, Socket}.

socket_options() ->
    [binary, {ip, {127, 0, 0, 1}}, {active, false}, {reuseaddr, true},
     {nodelay, true}].

port({gen_tcp, Socket}) -> inet:port(Socket);
port({ssl, Socket}) ->
    {ok, {_, Port}} = ssl:sockname(Socket),
    {ok, Port}.

accept({gen_tcp, Listener}) ->
    tagged(gen_tcp, gen_tcp:accept(Listener));
accept({ssl, Listener}) ->
    tagged(ssl, ssl:transport_accept(Listener)).

tagged(Transport, {ok, Socket}) -> {ok, {Transport, Socket}};
tagged(_Transport, {error, _} = Error) -> Error.

handshake({gen_tcp, _} = Accepted) ->
    {ok, Accepted};
handshake({ssl, Socket}) ->
    tagged(ssl, ssl:handshake(Socket, 5000)).

controlling_process({Transport, Socket}, Pid) ->
    Transport:controlling_process(Socket, Pid).

setopts({gen_tcp, Socket}, Opts) -> inet:setopts(Socket, Opts);
setopts({ssl, Socket}, Opts) -> ssl:setopts(Socket, Opts).

close({Transport, Socket}) ->
    Transport:close(Socket).
