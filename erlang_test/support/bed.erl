%% The test bed of a suite: epmd, a scripted provider, caller nodes, a router.
%%
%%     init_per_suite(Config) -> bed:up(Config, #{callers => 2}).
%%     end_per_suite(Config) -> bed:down(Config).
%%
%% Caller nodes are real nodes, controlled over their standard input, so that
%% the node that runs the tests is in no cluster and no cookie is shared
%% between suites. Every bed has its own cookie and its own node names.
-module(bed).

-export([up/2, down/1, provider/1, router/1, node/1, caller/1, caller/2]).
-export([start_router/2, run_router/3, stop_router/1, kill_router/1]).
-export([start_caller/2, start_caller/3, stop_caller/1, kill_caller/1]).
-export([node_name/1, on/2, on/3, call/2, call/3, drain/0]).
-export([renamed/1, must/1, elixir/3]).
-export([eventually/1, eventually/2, limit_ms/1, now_ms/0, has_grown_less/3]).
-export([footprint/1, is_as_before/2, state/1]).
-export([start_epmd/0, stop_epmd/1, restart_epmd/2]).

-define(EVENTUALLY_MS, 5000).
-define(ON_MS, 60000).
-define(GROWTH_KIB, 8192).
-define(OP, {call_with_prompt, simple, <<"hi">>}).

-type caller() :: #{peer := pid(), node := node()}.
-export_type([caller/0]).

%% Opts: callers (how many, default 1); caller (Opts of start_caller/3, for all
%% of them); handler (of the provider); env, args, wrapper, stderr and connect
%% (of the router, see router:start/1; connect is all callers unless given);
%% router => none to start none.
-spec up(list(), map()) -> list().
up(Config, Opts) ->
    Epmd = start_epmd(),
    Cookie = "bed" ++ integer_to_list(erlang:phash2({now_ms(), os:getpid()})),
    Provider = scripted_provider:start(maps:with([handler], Opts)),
    Bed = #{epmd => Epmd, cookie => Cookie, provider => Provider,
            dir => proplists:get_value(priv_dir, Config), opts => Opts,
            router_node => node_name(router)},
    Callers = [start_caller(Cookie, node_name(caller),
                            maps:get(caller, Opts, #{}))
               || _ <- lists:seq(1, maps:get(callers, Opts, 1))],
    lists:foreach(fun(Caller) -> meet(Caller, hd(Callers)) end, Callers),
    Config1 = [{bed, Bed#{callers => Callers}} | Config],
    case Opts of
        #{router := none} -> Config1;
        _ -> start_router(Config1, #{})
    end.

meet(Caller, #{node := Node}) ->
    true = on(Caller, fun() -> net_kernel:connect_node(Node) end).

-spec down(list()) -> ok.
down(Config) ->
    #{callers := Callers, provider := Provider, epmd := Epmd} = bed(Config),
    Stopped = stop_router(Config),
    lists:foreach(fun stop_caller/1, Callers),
    ok = scripted_provider:stop(Provider),
    ok = stop_epmd(Epmd),
    case Stopped of
        none -> ok;
        {exited, 0} -> ok
    end.

bed(Config) ->
    proplists:get_value(bed, Config).

provider(Config) -> maps:get(provider, bed(Config)).
router(Config) -> maps:get(router, bed(Config)).
node(Config) -> maps:get(router_node, bed(Config)).
caller(Config) -> caller(Config, 1).
caller(Config, N) -> lists:nth(N, maps:get(callers, bed(Config))).

%% ----------------------------------------------------------------- router

%% The bed with another node name for the routers to come.
-spec renamed(list()) -> list().
renamed(Config) ->
    Bed = (bed(Config))#{router_node := node_name(router)},
    lists:keystore(bed, 1, Config, {bed, Bed}).

%% Starts the router of a bed, with Opts over those of the bed, and puts it
%% into the configuration. It is ready, and its global name known to every
%% caller that it connects to.
-spec start_router(list(), map()) -> list().
start_router(Config, Opts) ->
    #{callers := Callers, opts := BedOpts, router_node := Router} = Bed
        = bed(Config),
    Connect = connect(Bed, maps:merge(BedOpts, Opts)),
    Running = run_router(Config, Router, Opts),
    lists:foreach(
      fun(#{node := Node} = Caller) ->
              _ = lists:member(Node, Connect)
                  andalso eventually(fun() -> is_named(Caller) end)
      end, Callers),
    lists:keystore(bed, 1, Config, {bed, Bed#{router => Running}}).

%% A router in the bed's cluster besides its own one: it is ready, and the
%% test's to stop. Opts as for start_router/2.
-spec run_router(list(), node(), map()) -> router:router().
run_router(Config, Node, Opts) ->
    #{provider := Provider, opts := BedOpts} = Bed = bed(Config),
    All = maps:merge(BedOpts, Opts),
    Env = [{"OPENAI_API_KEY", "sk-test-key"},
           {"OPENAI_BASE_URL", binary_to_list(scripted_provider:url(Provider))}
           | maps:get(env, All, [])],
    Given = maps:merge(maps:with([cookie, dir], Bed),
                       maps:with([args, wrapper, stderr], All)),
    {ok, Router} = router:start(Given#{node => Node, env => Env,
                                       connect => connect(Bed, All)}),
    Router.

connect(#{callers := Callers}, Opts) ->
    maps:get(connect, Opts, [Node || #{node := Node} <- Callers]).

is_named(Caller) ->
    on(Caller, fun() -> is_pid(global:whereis_name(llm_router)) end).

-spec stop_router(list()) -> {exited, integer()} | hung | none.
stop_router(Config) ->
    case bed(Config) of
        #{router := #{pid := Pid} = Router} ->
            case is_process_alive(Pid) of
                true -> router:stop(Router);
                false -> none
            end;
        _ ->
            none
    end.

-spec kill_router(list()) -> ok.
kill_router(Config) ->
    router:kill(router(Config)).

%% ---------------------------------------------------------------- callers

-spec node_name(atom()) -> node().
node_name(Kind) ->
    {ok, Host} = inet:gethostname(),
    list_to_atom(lists:flatten(
                   io_lib:format("~s_~s_~b@~s",
                                 [Kind, os:getpid(),
                                  erlang:unique_integer([positive]), Host]))).

-spec start_caller(string(), node()) -> caller().
start_caller(Cookie, Node) ->
    start_caller(Cookie, Node, #{}).

%% Opts: args and env, added to those of the node.
-spec start_caller(string(), node(), map()) -> caller().
start_caller(Cookie, Node, Opts) ->
    [Name, Host] = string:split(atom_to_list(Node), "@"),
    {ok, Peer, Node} =
        peer:start(#{name => list_to_atom(Name), connection => standard_io,
                     host => Host, longnames => lists:member($., Host),
                     wait_boot => 15000,
                     env => maps:get(env, Opts, []),
                     args => ["-setcookie", Cookie,
                              "-pa", filename:dirname(code:which(?MODULE)),
                              "-kernel", "logger_level", "emergency"
                              | maps:get(args, Opts, [])]}),
    #{peer => Peer, node => Node}.

-spec stop_caller(caller()) -> ok.
stop_caller(#{peer := Peer}) ->
    _ = is_process_alive(Peer) andalso peer:stop(Peer),
    ok.

%% SIGKILL: its connections are closed by the operating system.
-spec kill_caller(caller()) -> ok.
kill_caller(#{peer := Peer} = Caller) ->
    OsPid = on(Caller, fun os:getpid/0),
    Monitor = monitor(process, Peer),
    _ = os:cmd("kill -s KILL " ++ OsPid),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

%% Runs a function on a caller's node, in a fresh process; what it raises is
%% raised here.
-spec on(caller(), fun(() -> Result)) -> Result.
on(Caller, Fun) ->
    on(Caller, Fun, ?ON_MS).

-spec on(caller(), fun(() -> Result), timeout()) -> Result.
on(#{peer := Peer}, Fun, LimitMs) ->
    peer:call(Peer, erlang, apply, [Fun, []], LimitMs).

%% A GenServer call from the first caller.
-spec call(list(), term()) -> term().
call(Config, Request) ->
    call(Config, Request, 20000).

-spec call(list(), term(), timeout()) -> term().
call(Config, Request, TimeoutMs) ->
    Server = {llm_router, bed:node(Config)},
    on(caller(Config),
       fun() -> gen_server:call(Server, Request, TimeoutMs) end).

%% Everything in the caller's mailbox, and what comes in the next 50 ms. A
%% receive, because process_info(messages) of OTP 25 hides what came from
%% another node and was not looked at yet.
-spec drain() -> [term()].
drain() ->
    receive Message -> [Message | drain()] after 50 -> [] end.

%% Runs an Elixir script on a node of the bed's cluster: {Status, Output}.
-spec elixir(list(), file:filename(), [string()]) -> {integer(), binary()}.
elixir(Config, Script, Args) ->
    #{cookie := Cookie} = bed(Config),
    Port = open_port({spawn_executable, os:find_executable("elixir")},
                     [{args, ["--sname", atom_to_list(node_name(elixir)),
                              "--cookie", Cookie, Script | Args]},
                      {env, [{"LANG", "C.UTF-8"}]},
                      binary, exit_status, stderr_to_stdout]),
    output(Port, []).

output(Port, Acc) ->
    receive
        {Port, {data, Data}} -> output(Port, [Acc | Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Acc)}
    end.

%% For end_per_testcase, whose own failure would be a mere warning: what Fun
%% raises fails the test.
-spec must(fun(() -> term())) -> ok | {fail, term()}.
must(Fun) ->
    try Fun() of
        _ -> ok
    catch
        _:Reason:Stack -> {fail, {Reason, Stack}}
    end.

%% ----------------------------------------------------------------- timing

%% Waits until Fun gives true, for at most TimeoutMs; says after how many
%% milliseconds it did.
-spec eventually(fun(() -> boolean())) -> non_neg_integer().
eventually(Fun) ->
    eventually(Fun, ?EVENTUALLY_MS).

-spec eventually(fun(() -> boolean()), pos_integer()) -> non_neg_integer().
eventually(Fun, TimeoutMs) ->
    Start = now_ms(),
    eventually(Fun, Start, Start + limit_ms(TimeoutMs)).

eventually(Fun, Start, Deadline) ->
    case {Fun(), now_ms()} of
        {true, Now} -> Now - Start;
        {_, Now} when Now > Deadline -> error({not_within_ms, Now - Start});
        _ -> timer:sleep(10), eventually(Fun, Start, Deadline)
    end.


%% --------------------------------------------------------- after a fault

%% What the router uses, to be compared after a fault. The first calls open
%% what stays open (some descriptors for each connection to a provider, and
%% more memory), so they come before.
-spec footprint(list()) -> #{fds := integer(), rss := pos_integer()}.
footprint(Config) ->
    [{ok, _} = call(Config, ?OP) || _ <- lists:seq(1, 20)],
    #{fds => fds_in_use(Config), rss => router:rss_kib(router(Config))}.

%% After a fault: a ping and a call are answered within a second each, and
%% descriptors and memory are back.
-spec is_as_before(list(), map()) -> ok.
is_as_before(Config, #{fds := Fds, rss := Rss}) ->
    Router = bed:node(Config),
    pong = within_a_second(Config, fun() -> net_adm:ping(Router) end),
    {ok, #{text := <<"You wrote: hi">>}} =
        within_a_second(Config, fun() ->
                                        gen_server:call({llm_router, Router},
                                                        ?OP)
                                end),
    eventually(fun() -> fds_in_use(Config) =< Fds end, 10000),
    has_grown_less(Config, ?GROWTH_KIB, Rss).

within_a_second(Config, Fun) ->
    {Us, Result} = on(caller(Config), fun() -> timer:tc(Fun) end),
    case Us < limit_ms(1000) * 1000 of
        true -> Result;
        false -> error({slow, Us, Result})
    end.

%% Descriptors without the connections that are kept to the provider.
fds_in_use(Config) ->
    #{open := Kept} = scripted_provider:counters(provider(Config)),
    router:fd_count(router(Config)) - Kept.
%% A limit as this run has to keep it: LLM_ROUTER_TEST_SLOWNESS (a whole
%% number, default 1) says how much slower a sanitized build may be.
-spec limit_ms(pos_integer()) -> pos_integer().
limit_ms(Ms) ->
    Ms * slowness().

slowness() ->
    list_to_integer(os:getenv("LLM_ROUTER_TEST_SLOWNESS", "1")).

%% The router's resident memory is less than Kib over what it was before; not
%% looked at in a build that is slow because it keeps what was freed.
-spec has_grown_less(list(), pos_integer(), pos_integer()) -> ok.
has_grown_less(Config, Kib, BeforeKib) ->
    Growth = router:rss_kib(router(Config)) - BeforeKib,
    ct:log("grew by ~b KiB", [Growth]),
    true = slowness() > 1 orelse Growth < Kib,
    ok.

%% What sys:get_state/1 gives of a router: that of OTP 25 hands on what others
%% take apart.
-spec state(map() | {ok, map()}) -> map().
state({ok, State}) -> State;
state(State) -> State.

now_ms() ->
    erlang:monotonic_time(millisecond).

%% ------------------------------------------------------------------- epmd

%% An epmd of our own in the foreground, on the usual port or ERL_EPMD_PORT,
%% or `running` if there is one already.
-spec start_epmd() -> pid() | running.
start_epmd() ->
    case erl_epmd:names() of
        {ok, _} ->
            running;
        {error, _} ->
            Pid = spawn(fun() -> epmd(none) end),
            ask(Pid, start),
            Pid
    end.

-spec stop_epmd(pid() | running) -> ok.
stop_epmd(running) ->
    ok;
stop_epmd(Pid) ->
    ask(Pid, stop),
    exit(Pid, kill),
    ok.

%% Runs Fun while epmd is down. Only for a bed with an epmd of its own.
-spec restart_epmd(list(), fun(() -> term())) -> ok.
restart_epmd(Config, Fun) ->
    #{epmd := Pid} = bed(Config),
    ask(Pid, stop),
    Fun(),
    ask(Pid, start),
    ok.

ask(Pid, Message) ->
    Pid ! {Message, self()},
    receive {Pid, done} -> ok end,
    eventually(fun() ->
                       (element(1, erl_epmd:names()) =:= ok)
                           =:= (Message =:= start)
               end).

%% Owns the epmd whose process id this is.
epmd(OsPid) ->
    receive
        {start, From} ->
            Epmd = os:find_executable("epmd"),
            Port = open_port({spawn_executable, Epmd}, []),
            {os_pid, New} = erlang:port_info(Port, os_pid),
            From ! {self(), done},
            epmd(New);
        {stop, From} ->
            _ = os:cmd("kill -s KILL " ++ integer_to_list(OsPid)),
            From ! {self(), done},
            epmd(none);
        _FromPort ->
            epmd(OsPid)
    end.
