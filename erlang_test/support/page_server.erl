%% An HTTP server for one page and its status.json, in place of a router.
%%
%%     Server = page_server:start(Html, Policy, fun() -> {200, Json} end),
%%     Url = page_server:url(Server),
%%     page_server:set(Server, fun() -> {500, <<>>} end),
%%     page_server:leave(Server),   % nobody listens at its port any more
%%     page_server:return(Server),
%%     page_server:stop(Server).
%%
%% Every connection is closed after its answer.
-module(page_server).
-behaviour(gen_server).

-export([start/3, stop/1, url/1, set/2, leave/1, return/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-type server() :: pid().
-type answer() :: fun(() -> {100..599, iodata()}).
-export_type([server/0, answer/0]).

-spec start(binary(), binary(), answer()) -> server().
start(Html, Policy, Answer) ->
    {ok, Server} = gen_server:start(?MODULE, {Html, Policy, Answer}, []),
    Server.

-spec stop(server()) -> ok.
stop(Server) -> gen_server:stop(Server).

-spec url(server()) -> string().
url(Server) -> gen_server:call(Server, url).

%% What status.json is from now on.
-spec set(server(), answer()) -> ok.
set(Server, Answer) -> gen_server:call(Server, {set, Answer}).

-spec leave(server()) -> ok.
leave(Server) -> gen_server:call(Server, leave).

-spec return(server()) -> ok.
return(Server) -> gen_server:call(Server, return).

init({Html, Policy, Answer}) ->
    State = #{html => Html, policy => Policy, answer => Answer, port => 0},
    {ok, listen(State)}.

handle_call(url, _From, #{port := Port} = State) ->
    {reply, "http://127.0.0.1:" ++ integer_to_list(Port) ++ "/", State};
handle_call({set, Answer}, _From, State) ->
    {reply, ok, State#{answer := Answer}};
handle_call(leave, _From, #{listener := Listener} = State) ->
    {reply, gen_tcp:close(Listener), State};
handle_call(return, _From, State) ->
    {reply, ok, listen(State)};
handle_call({ask, <<"/">>}, _From, #{html := Html, policy := Policy} = State) ->
    {reply, {200, "text/html; charset=utf-8", Policy, Html}, State};
handle_call({ask, <<"/status.json">>}, _From, #{answer := Answer} = State) ->
    {Status, Body} = Answer(),
    {reply, {Status, "application/json", "default-src 'none'", Body}, State};
handle_call({ask, _}, _From, State) ->
    {reply, {404, "text/plain", "default-src 'none'", "no such page\n"}, State}.

handle_cast(_, State) ->
    {noreply, State}.

handle_info(_, State) ->
    {noreply, State}.

listen(#{port := Port} = State) ->
    {ok, Listener} = gen_tcp:listen(Port, [binary, {ip, {127, 0, 0, 1}},
                                           {active, false}, {reuseaddr, true},
                                           {packet, http_bin}]),
    {ok, Bound} = inet:port(Listener),
    Server = self(),
    spawn_link(fun() -> accept(Server, Listener) end),
    State#{listener => Listener, port := Bound}.

accept(Server, Listener) ->
    case gen_tcp:accept(Listener) of
        {ok, Socket} ->
            Pid = spawn(fun() -> receive go -> serve(Server, Socket) end end),
            ok = gen_tcp:controlling_process(Socket, Pid),
            Pid ! go,
            accept(Server, Listener);
        {error, closed} ->
            ok
    end.

serve(Server, Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, {http_request, 'GET', {abs_path, Path}, _}} ->
            skip_headers(Socket),
            send(Socket, gen_server:call(Server, {ask, Path}));
        _ -> % a connection that was opened in advance
            ok
    end,
    gen_tcp:close(Socket).

skip_headers(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, {http_header, _, _, _, _}} -> skip_headers(Socket);
        _ -> ok
    end.

send(Socket, {Status, Type, Policy, Body}) ->
    _ = gen_tcp:send(Socket, ["HTTP/1.1 ", integer_to_list(Status), " -\r\n"
                              "Content-Type: ", Type, "\r\n"
                              "Content-Security-Policy: ", Policy, "\r\n"
                              "Content-Length: ",
                              integer_to_list(iolist_size(Body)), "\r\n"
                              "Connection: close\r\n\r\n", Body]).
