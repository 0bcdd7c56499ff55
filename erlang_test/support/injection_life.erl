%% One short life of the program with a fault in it: it is started, called in a
%% few ways, called once more when the fault is over, and stopped.
%%
%%     Config1 = injection_life:up(Config, [calls, tls]),
%%     Lane = injection_life:lane(Config1, 1),
%%     #{outcome := right} = injection_life:run(Lane, calls, none),
%%     #{outcome := aborted} =
%%         injection_life:run(Lane, calls, {allocation, 2000, 0})
%%
%% Lives of several lanes run side by side; the lives of one are one after
%% another, in the process that made it.
%%
%% A fault is one of
%%
%%     {allocation, N, More}    the N-th allocation fails, and More after it
%%                              (support/fail_alloc.c)
%%     {call, Name, Errno, N}   the N-th system call of that name fails, in
%%                              each of its threads and children (strace)
%%     {trace, Names}           none does, but these calls are recorded
%%     {small_io, Bytes}        no read or write moves more
%%                              (support/small_io.c)
%%     {limit, Option, N}       as prlimit sets it
%%     none
%%
%% Allocations count from the start of the program or, in lives that only
%% differ from others later, from when it is ready. How a life may end:
%%
%%     right     all answers are right, exit status 0
%%     error     some are errors, or a connection was lost; the last call is
%%               answered, exit status 0
%%     refused   it did not start, and says why: exit status 1, 2 or 3
%%     aborted   SIGABRT, and the last line of its log is ours and says why
%%
%% Anything else is a defect: {ended, Status, LastLine}, {hung, Where},
%% {wrong, Act, Answer}, {lost, Why} (the last call is not answered).
-module(injection_life).

-export([up/2, down/1, lane/2, close/1, run/3, names/0, counts_from/1]).
-export([is_good/1]).

-define(ABORTED, 134). % 128 + SIGABRT
-define(RECOVERY_MS, 15000).
-define(ANSWER_MS, 8000).
-define(RESULT_MS, 3000).
-define(RETRY_MS, 20).

-type life() :: calls | stream | tls | script | money | queue | cluster | web.
-type fault() :: none | {allocation, pos_integer(), non_neg_integer()}
               | {call, string(), string(), pos_integer()}
               | {trace, [string()]} | {small_io, pos_integer()}
               | {limit, string(), pos_integer()}.
-type outcome() :: right | error | refused | aborted
                 | {ended | wrong, term(), term()} | {hung | lost, term()}.
-type lane() :: map().
%% trace: what strace wrote; injected: how many calls it made fail.
-type report() :: #{outcome := outcome(), allocations := non_neg_integer(),
                    ms := non_neg_integer(), trace := binary(),
                    log := binary()}.
-export_type([life/0, fault/0, outcome/0, lane/0, report/0]).

%% Of each: where its faults begin, and what is done in it.
lives() ->
    [{calls, start, [ping, task, stats, reload, models]},
     {stream, ready, [stream, embed]},
     {tls, ready, [task, prompt]},
     {script, ready, [script]},
     {money, ready, [prompt, task]},
     {queue, ready, [queued]},
     {cluster, ready, [global]},
     {web, start, [metrics, status_page, health]}].

-spec names() -> [life()].
names() ->
    [Name || {Name, _, _} <- lives()].

-spec counts_from(life()) -> start | ready.
counts_from(Life) ->
    {Life, From, _} = lists:keyfind(Life, 1, lives()),
    From.

acts(Life) ->
    {Life, _, Acts} = lists:keyfind(Life, 1, lives()),
    Acts.

-spec is_good(outcome()) -> boolean().
is_good(Outcome) ->
    lists:member(Outcome, [right, error, refused, aborted]).

%% ---------------------------------------------------------------- the bed

%% What all lanes share. Throws {skip, Why} where nothing can be preloaded, as
%% with a sanitized build, or nothing traced.
-spec up(list(), [life()]) -> list().
up(Config, Lives) ->
    Dir = proplists:get_value(priv_dir, Config),
    _ = [throw({skip, "no " ++ Program ++ " here"})
         || Program <- ["cc", "strace", "prlimit"],
            os:find_executable(Program) =:= false],
    Libraries = maps:from_list([{Name, compiled(Dir, Name)}
                                || Name <- ["fail_alloc", "small_io"]]),
    ok = can_preload(Dir, maps:get("small_io", Libraries)),
    Up = bed:up(Config, #{router => none, callers => 0}),
    {Certificate, Key} = certificate(Dir),
    Closing = fun(Request) -> [{header, <<"connection">>, <<"close">>}
                               | scripted_model:from_document(Request)]
              end,
    Tls = scripted_provider:start(#{handler => Closing,
                                    tls => [{certfile, Certificate},
                                            {keyfile, Key}]}),
    Scripts = filename:join(Dir, "scripts"),
    ok = filelib:ensure_dir(filename:join(Scripts, "x")),
    ok = file:write_file(filename:join(Scripts, "greet.lua"),
                         "user('Greet ' .. context.name)\n"),
    [{injection, #{dir => Dir, libraries => Libraries,
                   certificate => Certificate, tls_provider => Tls,
                   scripts => Scripts, lives => Lives}}
     | Up].

-spec down(list()) -> ok.
down(Config) ->
    #{tls_provider := Tls} = proplists:get_value(injection, Config),
    ok = scripted_provider:stop(Tls),
    bed:down(Config).

compiled(Dir, Name) ->
    Library = filename:join(Dir, Name ++ ".so"),
    Source = filename:join([router:project(), "erlang_test", "support",
                            Name ++ ".c"]),
    "" = os:cmd("cc -Wall -Wextra -Werror -O1 -shared -fPIC -o " ++ Library
                ++ " " ++ Source),
    Library.

can_preload(Dir, Library) ->
    Wrapper = ["env", "LD_PRELOAD=" ++ Library, "SMALL_IO_BYTES=1"],
    case router:run(#{dir => Dir, wrapper => Wrapper, args => ["--version"]}) of
        {0, _, <<>>} -> ok;
        Other -> throw({skip, {"cannot preload", Library, Other}})
    end.

certificate(Dir) ->
    Certificate = filename:join(Dir, "provider.crt"),
    Key = filename:join(Dir, "provider.key"),
    _ = os:cmd("openssl req -x509 -newkey ec -pkeyopt "
               "ec_paramgen_curve:P-256 -nodes -subj /CN=provider -days 2 "
               "-addext subjectAltName=IP:127.0.0.1 -out " ++ Certificate
               ++ " -keyout " ++ Key),
    {Certificate, Key}.

%% A lane has what its routers cannot share with those of others: a database, a
%% node to be in a cluster with, a file of what was spent.
-spec lane(list(), pos_integer()) -> lane().
lane(Config, Number) ->
    #{dir := Above, lives := Lives} = Shared
        = proplists:get_value(injection, Config),
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Dir = filename:join(Above, "lane" ++ integer_to_list(Number)),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    Lane = Shared#{dir := Dir, cookie => Cookie,
                   url => scripted_provider:url(bed:provider(Config)),
                   control => filename:join(Dir, "control")},
    lists:foldl(fun(Life, L) -> furnish(Life, L) end, Lane, Lives).

furnish(queue, #{dir := Dir} = Lane) ->
    Lane#{pg => postgres:start(Dir)};
furnish(cluster, #{cookie := Cookie} = Lane) ->
    Lane#{caller => bed:start_caller(Cookie, bed:node_name(caller))};
furnish(_, Lane) ->
    Lane.

-spec close(lane()) -> ok.
close(Lane) ->
    _ = [postgres:stop(Pg) || #{pg := Pg} <- [Lane]],
    _ = [bed:stop_caller(Caller) || #{caller := Caller} <- [Lane]],
    ok.

%% --------------------------------------------------------------- one life

-spec run(lane(), life(), fault()) -> report().
run(Lane, Life, Fault) ->
    Begun = bed:now_ms(),
    Node = bed:node_name(router),
    Trace = filename:join(maps:get(dir, Lane), "trace"),
    ok = file:write_file(Trace, <<>>),
    _ = [postgres:clear(Pg) || queue <- [Life], #{pg := Pg} <- [Lane]],
    arm(Lane, Fault, counts_from(Life) =:= start),
    {Outcome, Allocations, Log} =
        case router:start(options(Lane, Life, Fault, Node, Trace)) of
            {ok, Router} ->
                lived(Lane#{node => Node, router => Router}, Life, Fault);
            {error, {exited, Status, Stderr}} ->
                {unready(Status, Stderr), disarm(Lane), Stderr}
        end,
    {ok, Traced} = file:read_file(Trace),
    #{outcome => Outcome, allocations => Allocations, log => Log,
      trace => Traced, ms => bed:now_ms() - Begun}.

options(#{dir := Dir, cookie := Cookie} = Lane, Life, Fault, Node, Trace) ->
    #{node => Node, cookie => Cookie, dir => Dir,
      stderr => filename:join(Dir, "stderr"),
      connect => [N || cluster <- [Life], #{caller := #{node := N}} <- [Lane]],
      args => lists:append([["--http", integer_to_list(web_port())]
                            || web <- [Life]]),
      wrapper => ["/bin/sh", "-c",
                  lists:flatten(["ulimit -c 0; exec ",
                                 before(Lane, Fault, Trace), "\"$@\""]),
                  "sh"],
      env => [{"FAIL_ALLOC_CONTROL", maps:get(control, Lane)},
              {"OPENAI_API_KEY", "sk-test-key"}, {"LLM_ROUTER_RETRY_MAX", "0"},
              {"LLM_ROUTER_TIMEOUTS_CONNECT_MS", "1000"},
              {"LLM_ROUTER_TIMEOUTS_REQUEST_MS", "4000"},
              {"LLM_ROUTER_TIMEOUTS_DRAIN_MS", "2000"},
              {"LLM_ROUTER_TIMEOUTS_STARTUP_MS", "1000"}
              | env(Life, Lane)]}.

env(tls, #{certificate := Certificate, tls_provider := Provider}) ->
    [{"OPENAI_BASE_URL", binary_to_list(scripted_provider:url(Provider))},
     {"LLM_ROUTER_TLS_CA_FILE", Certificate}];
env(Life, #{url := Url} = Lane) ->
    [{"OPENAI_BASE_URL", binary_to_list(Url)} | more_env(Life, Lane)].

more_env(script, #{scripts := Scripts}) ->
    [{"LLM_ROUTER_SCRIPTS_PATH", Scripts}];
more_env(money, #{dir := Dir}) ->
    [{"LLM_ROUTER_CACHE_MAX_BYTES", "1048576"},
     {"LLM_ROUTER_CACHE_AGE_MS", "1"},
     {"LLM_ROUTER_CACHE_DEFAULT", "true"},
     {"LLM_ROUTER_BUDGET_USD_PER_DAY", "1000000"},
     {"LLM_ROUTER_STATE_FILE", filename:join(Dir, "spent")}];
more_env(queue, #{pg := Pg}) ->
    [{"LLM_ROUTER_QUEUE_POLL_MS", "200"},
     {"LLM_ROUTER_QUEUE_QUERY_TIMEOUT_MS", "1000"} | postgres:env(Pg)];
more_env(_, _) ->
    [].

%% A port that nobody listens on.
web_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    _ = put(web_port, Port),
    Port.

%% The program stays the child of who started it: strace is beside it.
before(Lane, {allocation, _, _}, _Trace) ->
    preload("fail_alloc", Lane);
before(Lane, {small_io, Bytes}, _Trace) ->
    [preload("small_io", Lane), "SMALL_IO_BYTES=", integer_to_list(Bytes), " "];
before(_Lane, {limit, Option, N}, _Trace) ->
    ["prlimit --", Option, "=", integer_to_list(N), " "];
before(_Lane, {call, Name, Errno, N}, Trace) ->
    strace(Trace, [" -e trace=", Name, " -e inject=", Name, ":error=", Errno,
                   ":when=", integer_to_list(N)]);
before(_Lane, {trace, Names}, Trace) ->
    strace(Trace, [" -e trace=", lists:join(",", Names)]);
before(_Lane, none, _Trace) ->
    "".

preload(Name, #{libraries := Libraries}) ->
    ["env LD_PRELOAD=", maps:get(Name, Libraries), " "].

strace(Trace, Options) ->
    ["strace -D -f --seccomp-bpf -qq -y -e signal=none -o ", Trace, Options,
     " "].

%% A {trace, _} of allocations is the 0-th that fails.
arm(#{control := Control}, Fault, Armed) ->
    {N, More} = case Fault of
                    {allocation, At, After} -> {At, After};
                    _ -> {0, 0}
                end,
    Flag = case Armed of true -> 1; false -> 0 end,
    ok = file:write_file(Control, <<N:64/little, 0:64, Flag:64/little,
                                    More:64/little>>).

switch(#{control := Control}, Flag) ->
    {ok, File} = file:open(Control, [read, write, raw, binary]),
    ok = file:pwrite(File, 16, <<Flag:64/little>>),
    {ok, <<Count:64/little>>} = file:pread(File, 8, 8),
    ok = file:close(File),
    Count.

disarm(Lane) ->
    switch(Lane, 0).

lived(#{router := Router} = Lane, Life, Fault) ->
    _ = switch(Lane, 1),
    {Answers, Peer} = lists:mapfoldl(fun(Act, P) -> acted(Act, Lane, P) end,
                                     none, acts(Life)),
    Wrong = [A || {wrong, _, _} = A <- Answers],
    Again = case Wrong of
                [] -> recovered(Lane, Life, Fault, Peer);
                _ -> right
            end,
    Exit = stopped(Router),
    Allocations = disarm(Lane),
    {ok, Log} = file:read_file(maps:get(stderr, Router)),
    {outcome(Exit, Wrong, Answers, Again, Log), Allocations, Log}.

%% Allocations of the drain fail too: the fault is not over when it has not
%% happened yet.
recovered(Lane, Life, {allocation, N, More}, Peer) ->
    Count = switch(Lane, 0),
    Again = again(Lane, hd(acts(Life)), Peer),
    _ = [switch(Lane, 1) || Count < N + More],
    Again;
recovered(_Lane, _Life, {limit, _, _}, Peer) ->
    disconnect(Peer),
    right; % it has no end
recovered(Lane, Life, _Fault, Peer) ->
    again(Lane, hd(acts(Life)), Peer).

again(Lane, Act, Peer) ->
    again(Lane, Act, Peer, bed:now_ms() + bed:limit_ms(?RECOVERY_MS)).

again(Lane, Act, Peer, Deadline) ->
    case {acted(Act, Lane, Peer), bed:now_ms() > Deadline} of
        {{right, Peer1}, _} ->
            disconnect(Peer1),
            right;
        {{gone, Peer1}, _} ->
            disconnect(Peer1),
            gone;
        {{Answer, Peer1}, true} ->
            disconnect(Peer1),
            {lost, Answer};
        {{_, Peer1}, false} ->
            timer:sleep(?RETRY_MS),
            again(Lane, Act, Peer1, Deadline)
    end.

stopped(Router) ->
    case router:stop(Router) of
        {exited, Status} -> Status;
        hung -> hung
    end.

unready(Status, Log) when Status >= 1, Status =< 3, Log =/= <<>> ->
    refused;
unready(?ABORTED, Log) ->
    aborted(Log);
unready(137, _Log) ->
    {hung, start};
unready(Status, Log) ->
    {ended, Status, last_line(Log)}.

outcome(hung, _, _, _, _) -> {hung, stop};
outcome(?ABORTED, _, _, _, Log) -> aborted(Log);
outcome(Status, _, _, _, Log) when Status =/= 0 ->
    {ended, Status, last_line(Log)};
outcome(0, [Wrong | _], _, _, _) -> Wrong;
outcome(0, [], _, {lost, _} = Lost, _) -> Lost;
outcome(0, [], _, gone, Log) -> {ended, 0, last_line(Log)};
outcome(0, [], Answers, right, _) ->
    case lists:usort(Answers) of
        [right] -> right;
        _ -> error
    end.

%% A library that found its memory spoiled has written a line before ours. So
%% has glibc, up to 2.36 at least, that cannot read nsswitch.conf for want of
%% memory: it takes that for a defect of its own.
aborted(Log) ->
    Lines = binary:split(Log, <<"\n">>, [global, trim_all]),
    Ours = lists:all(fun(Line) ->
                             matches(Line, "^(time=.* )?level=")
                                 orelse matches(Line, "nss_database_reload_1")
                     end, Lines),
    Last = last_line(Log),
    case Ours andalso matches(Last, "level=error component=(mem|loop|abort) ")
    of
        true -> aborted;
        false -> {ended, ?ABORTED, Last}
    end.

matches(Text, Pattern) ->
    re:run(Text, Pattern, [{capture, none}]) =:= match.

last_line(Log) ->
    lists:last([<<>> | binary:split(Log, <<"\n">>, [global, trim_all])]).

%% ------------------------------------------------------------------- acts

%% {right | {error, _} | {wrong, Act, _} | gone, Peer}: what came of it, and
%% the connection that is still there, or `none`. `gone`: the program is.
acted(Act, #{router := Router} = Lane, Peer) ->
    try act(Act, Lane, Peer) of
        {{answer, {error, _} = Error}, Peer1} -> lost(Router, Error, Peer1);
        {{answer, Answer}, Peer1} -> {judged(Act, Answer), Peer1};
        {closed, Peer1} -> without(Peer1, Router, closed)
    catch
        error:Why -> without(Peer, Router, Why)
    end.

without(Peer, Router, Why) ->
    disconnect(Peer),
    timer:sleep(5), % it may be about to end
    lost(Router, {error, Why}, none).

lost(#{os_pid := OsPid}, Error, Peer) ->
    case is_running(OsPid) of
        true -> {Error, Peer};
        false -> disconnect(Peer), {gone, none}
    end.

is_running(OsPid) ->
    filelib:is_dir("/proc/" ++ integer_to_list(OsPid)).

disconnect(none) -> ok;
disconnect(Peer) -> raw_peer:close(Peer).

act(queued, #{pg := Pg, router := #{os_pid := OsPid}}, Peer) ->
    Id = postgres:uuid(),
    _ = postgres:enqueue(Pg, #{request_id => Id, complexity => simple,
                               messages => [#{role => user,
                                              content => <<"hi">>}]}),
    {{answer, result(Pg, Id, OsPid, bed:now_ms() + ?RESULT_MS)}, Peer};
act(global, #{caller := Caller, router := #{os_pid := OsPid}}, Peer) ->
    {{answer, named_call(Caller, OsPid, bed:now_ms() + ?ANSWER_MS)}, Peer};
act(Act, _Lane, Peer)
  when Act =:= metrics; Act =:= status_page; Act =:= health ->
    {{answer, fetched(path(Act))}, Peer};
act(Act, #{node := Node, cookie := Cookie}, none) ->
    act_on(Act, raw_peer:connect(Node, #{cookie => Cookie}));
act(Act, _Lane, Peer) ->
    act_on(Act, Peer).

act_on(stream, Peer) ->
    Messages = [#{role => user, content => <<"Say hello to all of us">>}],
    case raw_peer:call(Peer, llm_router, {stream, simple, Messages}) of
        {reply, {ok, Ref}} -> {streamed(Peer, Ref, []), Peer};
        Other -> {answered(Other), Peer}
    end;
act_on(Act, Peer) ->
    {answered(raw_peer:call(Peer, llm_router, request(Act))), Peer}.

answered({reply, Answer}) -> {answer, Answer};
answered({down, Why}) -> {answer, {error, {down, Why}}};
answered(closed) -> closed.

request(ping) -> ping;
request(stats) -> stats;
request(models) -> models;
request(reload) -> reload;
request(task) ->
    {generate_task, <<"Build a login page. It must be safe.">>};
request(prompt) -> {call_with_prompt, simple, <<"hi">>};
request(embed) -> {embed, [<<"One text">>, <<"Another text">>]};
request(script) -> {call_with_script, <<"greet.lua">>, #{name => <<"Ada">>}}.

streamed(Peer, Ref, Deltas) ->
    case raw_peer:recv(Peer) of
        {_, {llm_stream, Ref, {delta, Delta}}} ->
            streamed(Peer, Ref, [Deltas, Delta]);
        {_, {llm_stream, Ref, {done, #{text := Text}}}} ->
            {answer, {Text, iolist_to_binary(Deltas)}};
        {_, {llm_stream, Ref, {error, Why}}} ->
            {answer, {error, Why}};
        closed ->
            closed;
        _ ->
            streamed(Peer, Ref, Deltas)
    end.

%% Within less than the visibility timeout: it may be in it when a connection
%% is lost.
result(Pg, Id, OsPid, Deadline) ->
    case postgres:result(Pg, Id) of
        none ->
            case is_running(OsPid) andalso bed:now_ms() < Deadline of
                true -> timer:sleep(5), result(Pg, Id, OsPid, Deadline);
                false -> {error, no_result}
            end;
        Result ->
            Result
    end.

%% The name is given a moment after the router is ready.
named_call(Caller, OsPid, Deadline) ->
    case bed:on(Caller, fun called_by_name/0) of
        no_name ->
            case is_running(OsPid) andalso bed:now_ms() < Deadline of
                true ->
                    timer:sleep(5),
                    named_call(Caller, OsPid, Deadline);
                false ->
                    {error, no_name}
            end;
        Answer ->
            Answer
    end.

called_by_name() ->
    case global:whereis_name(llm_router) of
        undefined ->
            no_name;
        Pid ->
            try gen_server:call(Pid, request(task), ?ANSWER_MS)
            catch exit:{Why, _} -> {error, Why}
            end
    end.

path(metrics) -> "/metrics";
path(status_page) -> "/status.json";
path(health) -> "/health".

%% {ok, Body}. One that does not take the connection is an error.
fetched(Path) ->
    Opts = [binary, {active, false}],
    case gen_tcp:connect({127, 0, 0, 1}, get(web_port), Opts, ?ANSWER_MS) of
        {ok, Socket} ->
            ok = gen_tcp:send(Socket, ["GET ", Path, " HTTP/1.1\r\n"
                                       "Host: localhost\r\n"
                                       "Connection: close\r\n\r\n"]),
            Answer = received(Socket, <<>>),
            gen_tcp:close(Socket),
            Answer;
        {error, _} = Error ->
            Error
    end.

received(Socket, Bytes) ->
    case gen_tcp:recv(Socket, 0, ?ANSWER_MS) of
        {ok, More} -> received(Socket, <<Bytes/binary, More/binary>>);
        {error, closed} -> page(Bytes);
        {error, _} = Error -> Error
    end.

%% One that is cut short is an error: its reader can see that.
page(<<"HTTP/1.1 200 ", _/binary>> = Page) ->
    case binary:split(Page, <<"\r\n\r\n">>) of
        [Head, Body] -> whole(Head, Body);
        [_] -> {error, cut}
    end;
page(<<"HTTP/1.1 4", _/binary>> = Page) ->
    {refused, Page};
page(Page) ->
    {error, Page}.

whole(Head, Body) ->
    Length = re:run(Head, "(?i)content-length: ([0-9]+)",
                    [{capture, [1], list}]),
    case Length =:= {match, [integer_to_list(byte_size(Body))]} of
        true -> {ok, Body};
        false -> {error, cut}
    end.

judged(Act, Answer) ->
    case is_right(Act, Answer) of
        true -> right;
        false -> {wrong, Act, Answer}
    end.

is_right(ping, Answer) -> Answer =:= pong;
is_right(reload, Answer) -> Answer =:= ok;
is_right(stats, Answer) -> is_map_key(in_flight, Answer);
is_right(models, Answer) -> is_list(Answer) orelse is_map(Answer);
is_right(Act, {ok, #{title := Title, id := 1}})
  when Act =:= task; Act =:= global ->
    Title =:= <<"Build a login page">>;
is_right(prompt, {ok, #{text := Text}}) -> Text =:= <<"You wrote: hi">>;
is_right(script, {ok, #{text := Text}}) -> Text =:= <<"You wrote: Greet Ada">>;
is_right(embed, {ok, #{embeddings := [[_, _, _], [_, _, _]]}}) -> true;
is_right(stream, {Text, Text}) ->
    Text =:= <<"You wrote: Say hello to all of us">>;
is_right(queued, #{<<"status">> := Status}) ->
    lists:member(Status, [<<"success">>, <<"error">>]);
is_right(metrics, {ok, Text}) ->
    string:find(Text, <<"# TYPE ">>) =/= nomatch;
is_right(status_page, {ok, Text}) ->
    is_map(test_json:decode(Text));
is_right(health, {ok, _}) -> true;
is_right(_, _) -> false.
