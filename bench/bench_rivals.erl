%% What the router is compared with, and the router itself as one of them: all
%% are started, asked, looked at from outside and ended in the same way.
%%
%%     router   the program, asked from a BEAM node
%%     elixir   elixir_router/elixir_router.ex on a BEAM node of its own, asked
%%              as the router is
%%     gateway  the npm package of gateway/package.json, asked by curl_loop
%%     nginx    a plain proxy, asked by curl_loop
%%     libcurl  nothing between: curl_loop asks the provider
%%
%% What fetch-peers could not bring is not there: is_available/2.
-module(bench_rivals).

-export([prepared/1, names/0, title/1, is_available/2]).
-export([start/2, stop/1, with/3, secure/2, server/1]).
-export([sample/3, hold/3, release/1, cpu_us/1, rss_kib/1]).
-export_type([name/0, rival/0]).

-import(bench_rig, [start_router/2, config/3, window/4, ask_call/1,
                    curl_loop/3, program/3, finish/1, at/4]).

-define(WINDOW_MS, 1500).
-define(READY_MS, 20000).
-define(TICK_US, 10000). % of /proc/PID/stat
%% Its schedulers sleep when they have nothing to do. By default they spin before
%% that: a call costs the same, a slow stream costs more.
-define(ELIXIR_FLAGS, ["+sbwt", "none", "+sbwtdcpu", "none",
                       "+sbwtdio", "none"]).

-type name() :: router | elixir | gateway | nginx | libcurl.
-type rival() :: #{name := name(), atom() => term()}.

%% The rig with what takes time to find or make.
-spec prepared(bench_rig:rig()) -> bench_rig:rig().
prepared(#{dir := Dir} = Rig) ->
    Elixir = os:cmd("elixir -e 'IO.write(:code.lib_dir(:elixir))'"),
    Rig#{elixir => filename:join(Elixir, "ebin"),
         tls => bench_tls:certificate(Dir, "localhost")}.

-spec names() -> [name()].
names() ->
    [router, elixir, gateway, nginx, libcurl].

-spec title(name()) -> string().
title(router) -> "llm_router";
title(elixir) -> "Elixir router";
title(gateway) -> "npm gateway";
title(nginx) -> "nginx";
title(libcurl) -> "bare libcurl".

%% The gateway binds every interface: it must have a network of its own.
-spec is_available(name(), file:filename()) -> boolean().
is_available(elixir, Dir) ->
    filelib:is_file(filename:join(jiffy(Dir), "jiffy.beam"));
is_available(nginx, Dir) ->
    filelib:is_file(nginx(Dir));
is_available(gateway, Dir) ->
    {ok, Interfaces} = inet:getifaddrs(),
    [Name || {Name, _} <- Interfaces] =:= ["lo"]
        andalso os:find_executable("node") =/= false
        andalso filelib:is_file(gateway(Dir));
is_available(_, _) ->
    true.

jiffy(Dir) ->
    Libraries = filename:join(Dir, "peers/root/usr/lib/erlang/lib"),
    filename:join([Libraries | filelib:wildcard("jiffy-*/ebin", Libraries)]).

nginx(Dir) ->
    filename:join(Dir, "peers/root/usr/sbin/nginx").

gateway(Dir) ->
    filename:join(Dir, "peers/gateway/node_modules/@portkey-ai/gateway/build"
                       "/start-server.js").

%% ---------------------------------------------------------- start and stop

%% Between the callers and the provider of the rig; it is ready then. With
%% `ca_file` in the rig the provider is one over TLS.
-spec start(name(), bench_rig:rig()) -> rival().
start(router, Rig) ->
    Router = start_router(Rig, #{args => trust(Rig)}),
    #{name => router, router => Router, os_pid => router:os_pid(Router),
      server => {llm_router, router:node(Router)}};
start(libcurl, #{dir := Dir, url := Url} = Rig) ->
    #{name => libcurl, dir => Dir, url => Url,
      args => lists:append([["--ca", File] || #{ca_file := File} <- [Rig]])};
start(Name, Rig) ->
    {Program, Args, Rival} = command(Name, Rig),
    Port = open_port({spawn_executable, os:find_executable(Program)},
                     [{args, Args}, {env, [{"NODE_ENV", "production"}]},
                      {line, 4096}, exit_status]),
    await_ready(Rival, Port),
    Rival#{name => Name, program => Port, os_pid => os_pid(Port)}.

trust(#{ca_file := File} = Rig) ->
    config(Rig, "compare.json", #{tls => #{ca_file => list_to_binary(File)}});
trust(_) ->
    [].

command(elixir, #{dir := Dir, cookie := Cookie, url := Url,
                  elixir := Elixir} = Rig) ->
    Node = bed:node_name(elixir),
    Options = [Url | [File || #{ca_file := File} <- [Rig]]],
    {"erl", ["-noinput", name_flag(Node), atom_to_list(Node),
             "-setcookie", Cookie]
     ++ ?ELIXIR_FLAGS
     ++ ["-pa", filename:join(Dir, "elixir"), jiffy(Dir), Elixir,
         "-run", "Elixir.ElixirRouter", "main" | Options],
     #{ready => "ready", server => {'Elixir.ElixirRouter', Node}}};
command(gateway, #{dir := Dir, url := Url}) ->
    Port = free_port(),
    {"node", [gateway(Dir), "--headless", "--port=" ++ integer_to_list(Port)],
     #{ready => Port, dir => Dir, url => url("http://127.0.0.1:", Port),
       args => ["--header", "x-portkey-provider: openai",
                "--header", "x-portkey-custom-host: " ++ Url]}};
command(nginx, #{dir := Dir} = Rig) ->
    Home = filename:join(Dir, "nginx"),
    [Plain, Tls] = [free_port(), free_port()],
    ok = filelib:ensure_dir(filename:join(Home, "nginx.conf")),
    ok = file:write_file(filename:join(Home, "nginx.conf"),
                         nginx_configuration(Rig, Plain, Tls)),
    {nginx(Dir), ["-p", Home, "-c", "nginx.conf", "-e", "error.log"],
     #{ready => Plain, dir => Dir, url => url("http://127.0.0.1:", Plain),
       tls_url => url("https://localhost:", Tls), args => []}}.

name_flag(Node) ->
    case lists:member($., atom_to_list(Node)) of
        true -> "-name";
        false -> "-sname"
    end.

nginx_configuration(#{url := Url, tls := Tls}, PlainPort, TlsPort) ->
    #{port := Provider} = uri_string:parse(Url),
    #{certfile := Certificate, keyfile := Key} = Tls,
    {ok, Template} = file:read_file(filename:join(router:project(),
                                                  "bench/nginx.conf")),
    lists:foldl(fun({Name, Value}, Text) ->
                        string:replace(Text, Name, Value, all)
                end, Template,
                [{"@PROVIDER@", integer_to_list(Provider)},
                 {"@PLAIN@", integer_to_list(PlainPort)},
                 {"@TLS@", integer_to_list(TlsPort)},
                 {"@CERTIFICATE@", Certificate}, {"@KEY@", Key}]).

url(Host, Port) ->
    Host ++ integer_to_list(Port) ++ "/v1".

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% A line that it prints, or a port that it listens on.
await_ready(#{ready := Line}, Program) when is_list(Line) ->
    receive
        {Program, {data, {eol, Line}}} -> ok;
        {Program, {exit_status, Status}} -> error({ended, Status})
    after ?READY_MS -> error(not_ready)
    end;
await_ready(#{ready := Port}, _) ->
    await_port(Port, erlang:monotonic_time(millisecond) + ?READY_MS).

await_port(Port, Deadline) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, []) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket);
        {error, econnrefused} ->
            erlang:monotonic_time(millisecond) < Deadline
                orelse error(not_ready),
            timer:sleep(1),
            await_port(Port, Deadline)
    end.

%% At once, whatever it does.
-spec stop(rival()) -> ok.
stop(#{router := Router}) ->
    router:kill(Router);
stop(#{program := Program} = Rival) ->
    kill(os_pids(Rival)),
    _ = finish(Program),
    ok;
stop(#{name := libcurl}) ->
    ok.

kill(OsPids) ->
    Text = lists:join(" ", [integer_to_list(OsPid) || OsPid <- OsPids]),
    _ = os:cmd(["kill -s KILL ", Text]),
    ok.

-spec with([name()], bench_rig:rig(), fun(([rival()]) -> Result)) -> Result.
with(Names, Rig, Fun) ->
    Rivals = [start(Name, Rig) || Name <- Names],
    try
        Fun(Rivals)
    after
        lists:foreach(fun stop/1, Rivals)
    end.

%% The rig with an nginx before its provider, that speaks TLS and HTTP/2.
-spec secure(bench_rig:rig(), fun((bench_rig:rig()) -> Result)) -> Result.
secure(#{tls := #{cacertfile := File}} = Rig, Fun) ->
    with([nginx], Rig, fun([#{tls_url := Url}]) ->
        Fun(Rig#{url := Url, ca_file => File})
    end).

%% For those that are asked from BEAM nodes.
-spec server(rival()) -> gen_server:server_ref().
server(#{server := Server}) ->
    Server.

%% --------------------------------------------------------------------- load

%% So many callers for a while; cpu_us is that of the rival for a call, or of
%% curl_loop where there is none.
-spec sample(rival(), bench_rig:rig(), pos_integer()) -> bench_rig:sample().
sample(#{name := libcurl} = Rival, _, Callers) ->
    ask_by_curl(Rival, Callers);
sample(Rival, Rig, Callers) ->
    Before = cpu_us(Rival),
    #{calls := Calls} = Sample = ask(Rival, Rig, Callers),
    Sample#{cpu_us => (cpu_us(Rival) - Before) / Calls}.

ask(#{server := Server}, Rig, Callers) ->
    window(Rig, ask_call(Server), Callers, ?WINDOW_MS);
ask(Rival, _, Callers) ->
    ask_by_curl(Rival, Callers).

ask_by_curl(#{name := Name, dir := Dir} = Rival, Callers) ->
    Calls = calls(Name, Callers),
    Sample = curl_loop(Dir, curl_args(Rival), {Callers, Calls}),
    Sample#{calls => Calls}.

%% About as many as it answers in the time of a window.
calls(gateway, _) -> 1500;
calls(_, 1) -> 5000;
calls(_, _) -> 40000.

curl_args(#{dir := Dir, url := Url, args := Args}) ->
    Body = filename:join(Dir, "compare.request.json"),
    {call, _, {_, _, Prompt}} = ask_call(none),
    Messages = [#{role => user, content => Prompt}],
    ok = file:write_file(Body, test_json:encode(
                                 #{model => <<"gpt-5.4-mini">>,
                                   messages => Messages, stream => false})),
    ["--url", Url ++ "/chat/completions", "--body", Body | Args].

%% Has that many calls wait for an answer that does not come. What is returned
%% is the rival as it is then: libcurl is another process each time.
-spec hold(rival(), bench_rig:rig(), pos_integer()) -> rival().
hold(#{server := Server} = Rival, #{caller := Caller}, Calls) ->
    Rival#{held => spawn(fun() ->
                             at(Caller, bench_load, wave,
                                [ask_call(Server), Calls])
                         end)};
hold(#{name := Name, dir := Dir} = Rival, _, Calls) ->
    Number = integer_to_list(Calls),
    Loop = program(Dir, "curl_loop",
                   curl_args(Rival) ++ ["--in-flight", Number,
                                        "--calls", Number]),
    Held = Rival#{held => Loop},
    case Name of
        libcurl -> Held#{os_pid => os_pid(Loop)};
        _ -> Held
    end.

%% Nobody waits for the calls of hold/3 any more. Those on the caller's node
%% end when their rival is stopped.
-spec release(rival()) -> ok.
release(#{held := Loop}) when is_port(Loop) ->
    kill([os_pid(Loop)]),
    _ = finish(Loop),
    ok;
release(#{held := Pid}) ->
    exit(Pid, kill),
    ok.

os_pid(Program) ->
    {os_pid, OsPid} = erlang:port_info(Program, os_pid),
    OsPid.

%% ---------------------------------------------------------- what it takes

%% Its process, and the workers of nginx.
os_pids(#{name := nginx, os_pid := OsPid}) ->
    Children = os:cmd("pgrep -P " ++ integer_to_list(OsPid)),
    [OsPid | [list_to_integer(Child)
              || Child <- string:lexemes(Children, "\n")]];
os_pids(#{os_pid := OsPid}) ->
    [OsPid].

%% Processor time used so far (proc(5): fields 14 and 15).
-spec cpu_us(rival()) -> non_neg_integer().
cpu_us(Rival) ->
    ?TICK_US * lists:sum([ticks(OsPid) || OsPid <- os_pids(Rival)]).

ticks(OsPid) ->
    [_, Rest] = string:split(proc(OsPid, "stat"), ") ", trailing),
    [User, System] = lists:sublist(string:lexemes(Rest, " "), 12, 2),
    binary_to_integer(User) + binary_to_integer(System).

%% Resident memory.
-spec rss_kib(rival()) -> non_neg_integer().
rss_kib(Rival) ->
    lists:sum([begin
                   {match, [Kib]} = re:run(proc(OsPid, "status"),
                                           "VmRSS:\\s+([0-9]+) kB",
                                           [{capture, [1], binary}]),
                   binary_to_integer(Kib)
               end || OsPid <- os_pids(Rival)]).

proc(OsPid, Name) ->
    {ok, Text} = file:read_file(["/proc/", integer_to_list(OsPid), "/", Name]),
    Text.
