%% One running llm_router program under a test's control.
%%
%%     {ok, R} = router:start(#{node => 'r1@host', cookie => "c", dir => Dir,
%%                              env => [{"OPENAI_API_KEY", "k"}]}),
%%     {exited, 0} = router:stop(R)
%%
%% LLM_ROUTER_BIN names the program (default: priv/llm_router of the project,
%% found above the compiled tests), LLM_ROUTER_WRAPPER a command before it, for
%% instance "valgrind -q --error-exitcode=99". The environment of the test run
%% is cleared of everything that would configure a provider or a cookie.
%%
%% The program outlives the process that called start/1, so that a suite can
%% start it in init_per_suite; a router that is never stopped ends with the
%% test run, which run-ct puts in a process namespace where it can.
-module(router).
-behaviour(gen_server).

-export([start/1, run/1, stop/1, kill/1, signal/2, await_exit/2]).
-export([node/1, os_pid/1, rss_kib/1, vm_kib/1, fd_count/1, cpu_ms/1]).
-export([stderr/1, project/0, program/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(READY_MS, 20000).
-define(EXIT_MS, 20000).

-type router() :: #{pid := pid(), node := node(), os_pid := pos_integer(),
                    stderr := file:filename()}.
-export_type([router/0]).

%% Starts the program and waits for its line "ready NODE". Opts:
%%     node      'name@host', given as --sname or --name; required
%%     cookie    the RELEASE_COOKIE; none when left out
%%     dir       directory for the file that keeps stderr; required
%%     args      further arguments, [string()]
%%     connect   nodes for --connect
%%     env       [{Name, Value | false}], added to the cleared environment
%%     wrapper   a command before the program, [string()]
%%     stderr    a file for its stderr, instead of a new one in dir
-spec start(map()) -> {ok, router()} | {error, {exited, integer(), binary()}}.
start(#{node := Node} = Opts) ->
    {ok, Pid} = gen_server:start(?MODULE, command(Opts), []),
    case gen_server:call(Pid, await_ready, infinity) of
        {ready, Line} ->
            <<"ready ", Name/binary>> = Line,
            Node = binary_to_atom(Name),
            {ok, (gen_server:call(Pid, info))#{node => Node}};
        {exited, Status} ->
            #{stderr := File} = gen_server:call(Pid, info),
            gen_server:stop(Pid),
            {error, {exited, Status, read(File)}}
    end.

%% Runs the program to its end, for arguments with which it is not to stay:
%% {Status, Stdout, Stderr}. Opts as for start/1, all but dir optional.
-spec run(map()) -> {integer(), binary(), binary()}.
run(Opts) ->
    {ok, Pid} = gen_server:start(?MODULE, command(Opts), []),
    {exited, Status} = gen_server:call(Pid, {await_exit, ?EXIT_MS}, infinity),
    #{stderr := File} = gen_server:call(Pid, info),
    Stdout = gen_server:call(Pid, stdout),
    gen_server:stop(Pid),
    {Status, Stdout, read(File)}.

%% SIGTERM, then the exit status. One that does not end is killed: `hung`.
-spec stop(router()) -> {exited, integer()} | hung.
stop(Router) ->
    signal(Router, "TERM"),
    Result = await_exit(Router, ?EXIT_MS),
    gen_server:stop(maps:get(pid, Router)),
    Result.

%% SIGKILL; returns when the process is gone.
-spec kill(router()) -> ok.
kill(Router) ->
    signal(Router, "KILL"),
    {exited, _} = await_exit(Router, ?EXIT_MS),
    gen_server:stop(maps:get(pid, Router)).

-spec signal(router(), string()) -> ok.
signal(#{os_pid := OsPid}, Name) ->
    _ = os:cmd("kill -s " ++ Name ++ " " ++ integer_to_list(OsPid)),
    ok.

%% The exit status as a shell would say it (128 + signal).
-spec await_exit(router(), timeout()) -> {exited, integer()} | hung.
await_exit(#{pid := Pid}, TimeoutMs) ->
    gen_server:call(Pid, {await_exit, TimeoutMs}, infinity).

-spec node(router()) -> node().
node(#{node := Node}) -> Node.

-spec os_pid(router()) -> pos_integer().
os_pid(#{os_pid := OsPid}) -> OsPid.

-spec rss_kib(router()) -> pos_integer().
rss_kib(Router) ->
    status_kib(Router, "VmRSS").

%% The size of its address space.
-spec vm_kib(router()) -> pos_integer().
vm_kib(Router) ->
    status_kib(Router, "VmSize").

status_kib(Router, Name) ->
    {match, [Kib]} = re:run(proc(Router, "status"), Name ++ ":\\s+([0-9]+) kB",
                            [{capture, [1], binary}]),
    binary_to_integer(Kib).

-spec fd_count(router()) -> non_neg_integer().
fd_count(#{os_pid := OsPid}) ->
    {ok, Names} = file:list_dir(["/proc/", integer_to_list(OsPid), "/fd"]),
    length(Names).

%% Processor time used so far (proc(5): fields 14 and 15, in 1/100 s).
-spec cpu_ms(router()) -> non_neg_integer().
cpu_ms(Router) ->
    [_, Rest] = string:split(proc(Router, "stat"), ") ", trailing),
    Fields = string:lexemes(Rest, " "),
    10 * lists:sum([binary_to_integer(lists:nth(N - 2, Fields))
                    || N <- [14, 15]]).

%% All that it wrote to stderr so far.
-spec stderr(router()) -> binary().
stderr(#{stderr := File}) ->
    read(File).

%% The program under test.
-spec program() -> file:filename().
program() ->
    case os:getenv("LLM_ROUTER_BIN") of
        false -> filename:join([project(), "priv", "llm_router"]);
        Path -> Path
    end.

%% The project's directory: compiled tests are in build/ct/.
-spec project() -> file:filename().
project() ->
    filename:join([filename:dirname(code:which(?MODULE)), "..", ".."]).

proc(#{os_pid := OsPid}, Name) ->
    read(["/proc/", integer_to_list(OsPid), "/", Name]).

read(File) ->
    {ok, Bin} = file:read_file(File),
    Bin.

%% ---------------------------------------------------------------- command

command(#{dir := Dir} = Opts) ->
    Name = ["router-", integer_to_list(erlang:unique_integer([positive])),
            ".stderr"],
    Wrapper = maps:get(wrapper, Opts, [])
        ++ string:lexemes(os:getenv("LLM_ROUTER_WRAPPER", ""), " "),
    #{stderr => maps:get(stderr, Opts, filename:join(Dir, lists:flatten(Name))),
      argv => Wrapper ++ [program()] ++ name_args(Opts)
          ++ lists:append([["--connect", atom_to_list(N)]
                           || N <- maps:get(connect, Opts, [])])
          ++ maps:get(args, Opts, []),
      env => cleared() ++ [{"RELEASE_COOKIE",
                            maps:get(cookie, Opts, false)},
                           {"LLM_ROUTER_PRIV_DIR",
                            filename:join(project(), "priv")}]
          ++ maps:get(env, Opts, [])}.

name_args(#{node := Node}) ->
    [_, Host] = string:split(atom_to_list(Node), "@"),
    Kind = case lists:member($., Host) of
               true -> "--name";
               false -> "--sname"
           end,
    [Kind, atom_to_list(Node)];
name_args(_) ->
    [].

cleared() ->
    [{Name, false} || {Name, _} <- os:env(), configures(Name)].

configures(Name) ->
    lists:any(fun(Part) -> string:find(Name, Part) =/= nomatch end,
              ["OPENAI", "ANTHROPIC", "GEMINI", "GOOGLE", "OLLAMA", "_KEY",
               "_PROXY", "_proxy", "COOKIE", "LLM_ROUTER_"]).

%% ----------------------------------------------------------------- server

%% The shell only redirects: exec keeps the port's process id. Nothing to read
%% on stdin, as under a service manager.
init(#{argv := Argv, env := Env, stderr := File}) ->
    process_flag(trap_exit, true),
    Redirect = "exec \"$@\" 2>\"$0\" </dev/null",
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", Redirect, File | Argv]},
                      {env, Env}, {line, 4096}, binary, exit_status]),
    {os_pid, OsPid} = erlang:port_info(Port, os_pid),
    erlang:send_after(?READY_MS, self(), not_ready),
    {ok, #{port => Port, os_pid => OsPid, stderr => File, lines => [],
           status => running, waiting => []}}.

handle_call(info, _From, #{os_pid := OsPid, stderr := File} = State) ->
    {reply, #{pid => self(), os_pid => OsPid, stderr => File}, State};
handle_call(stdout, _From, #{lines := Lines} = State) ->
    {reply, iolist_to_binary([[L, $\n] || L <- lists:reverse(Lines)]), State};
handle_call(await_ready, From, State) ->
    {noreply, answer(State, [{ready, From}])};
handle_call({await_exit, TimeoutMs}, From, State) ->
    _ = TimeoutMs =:= infinity
        orelse erlang:send_after(TimeoutMs, self(), {hung, From}),
    {noreply, answer(State, [{exit, From}])}.

handle_cast(_, State) ->
    {noreply, State}.

handle_info({Port, {data, {_, Line}}}, #{port := Port, lines := Ls} = State) ->
    {noreply, answer(State#{lines := [Line | Ls]}, [])};
handle_info({Port, {exit_status, Status}}, #{port := Port} = State) ->
    {noreply, answer(State#{status := {exited, Status}}, [])};
handle_info(not_ready, #{waiting := Waiting} = State) ->
    _ = [kill_now(State) || {ready, _} <- Waiting],
    {noreply, State};
handle_info({hung, From}, #{waiting := Waiting} = State) ->
    case lists:member({exit, From}, Waiting) of
        true ->
            kill_now(State),
            gen_server:reply(From, hung),
            {noreply, State#{waiting := Waiting -- [{exit, From}]}};
        false ->
            {noreply, State}
    end;
handle_info({'EXIT', _Port, _Reason}, State) ->
    {noreply, State}.

terminate(_Reason, #{status := running} = State) ->
    kill_now(State);
terminate(_Reason, _State) ->
    ok.

kill_now(#{os_pid := OsPid}) ->
    os:cmd("kill -s KILL " ++ integer_to_list(OsPid)).

%% Replies to those of the waiting, new ones included, whose news is there.
answer(#{waiting := Waiting} = State, New) ->
    Still = [W || {What, From} = W <- New ++ Waiting,
                  case news(What, State) of
                      none -> true;
                      News -> gen_server:reply(From, News), false
                  end],
    State#{waiting := Still}.

news(_, #{status := {exited, _} = Exited}) ->
    Exited;
news(ready, #{lines := Lines}) ->
    case [L || <<"ready ", _/binary>> = L <- Lines] of
        [Line | _] -> {ready, Line};
        [] -> none
    end;
news(exit, _State) ->
    none.
