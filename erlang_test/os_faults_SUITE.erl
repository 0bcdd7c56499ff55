%% What the operating system may do to a process: move the clock, stop reading
%% its log, fill the disk, run out of descriptors, memory and processor time.
%% Calls are answered or refused, never lost; and once the fault is over, all
%% is as before.
-module(os_faults_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"hi">>}).
-define(ABORTED, 134). % 128 + SIGABRT
-define(OUTCOME_MS, 10000).
-define(ALL_UP_TO, 300).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [%% clock
     a_jump_of_the_clock_moves_no_deadline,
     %% log
     a_log_that_is_read_again_goes_on,
     a_closed_log_stops_nothing,
     a_log_whose_reader_is_gone_stops_nothing,
     a_log_on_a_full_disk_stops_nothing,
     a_disk_with_room_again_gets_the_log,
     stdout_may_be_closed_or_full,
     %% connections
     peers_that_reset_while_they_are_written_to_are_forgotten,
     providers_that_reset_while_they_are_written_to_are_unreachable,
     a_storm_of_signals_is_survived,
     %% descriptors
     without_descriptors_calls_in_flight_are_answered_and_new_ones_refused,
     %% processor
     a_flood_of_calls_is_refused_at_once_and_nothing_is_queued,
     %% memory
     a_call_that_memory_does_not_suffice_for_ends_cleanly,
     any_allocation_of_a_call_may_fail,
     any_allocation_of_a_call_with_many_tasks_may_fail,
     any_allocation_of_a_stream_may_fail,
     any_allocation_of_embeddings_may_fail,
     any_allocation_of_a_call_with_cache_and_budget_may_fail,
     any_allocation_of_a_reload_may_fail,
     any_allocation_of_a_call_on_a_new_tls_connection_may_fail,
     any_allocation_of_a_new_peer_may_fail].

init_per_suite(Config) ->
    bed:up(Config, #{router => none}).

end_per_suite(Config) ->
    bed:down(Config).

init_per_testcase(_Case, Config) ->
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1),
    bed:renamed(Config).

dir(Config) ->
    proplists:get_value(priv_dir, Config).

new_file(Config, Suffix) ->
    Name = integer_to_list(erlang:unique_integer([positive])),
    filename:join(dir(Config), Name ++ Suffix).

%% Runs Test(Config) with a router started with Opts; afterwards all is as
%% before, and it stops as it should.
with_router(Config, Opts, Test) ->
    Config1 = bed:start_router(Config, Opts),
    Before = bed:footprint(Config1),
    Test(Config1),
    scripted_provider:set_handler(bed:provider(Config1),
                                  fun scripted_model:from_document/1),
    bed:is_as_before(Config1, Before),
    {exited, 0} = bed:stop_router(Config1).

%% Runs Fun beside the test; await/1 gives its result and how long it took.
beside(Fun) ->
    Self = self(),
    Tag = make_ref(),
    spawn_link(fun() ->
                       Start = bed:now_ms(),
                       Result = Fun(),
                       Self ! {Tag, Result, bed:now_ms() - Start}
               end),
    Tag.

await(Tag) ->
    receive {Tag, Result, Ms} -> {Result, Ms}
    after 60000 -> error(no_answer)
    end.

within(Least, Most, Ms) ->
    ?assert(Ms >= Least),
    ?assert(Ms =< bed:limit_ms(Most)).

prompt(Text) ->
    {call_with_prompt, simple, Text}.

prompt(Text, Opts) ->
    {call_with_prompt, simple, Text, Opts}.

%% A provider's handler that chooses by the prompt of the request.
by_prompt(Rows) ->
    fun(#{body := Body} = Request) ->
            Found = [Handler || {Prompt, Handler} <- Rows,
                                binary:match(Body, Prompt) =/= nomatch],
            case Found of
                [Handler | _] when is_function(Handler) -> Handler(Request);
                [Actions | _] -> Actions;
                [] -> scripted_model:from_document(Request)
            end
    end.

answered_after(Ms) ->
    fun(Request) -> [{sleep, Ms} | scripted_model:from_document(Request)] end.

%% What Refusal is once, and an answer after that.
once(Refusal) ->
    Seen = counters:new(1, []),
    fun(Request) ->
            ok = counters:add(Seen, 1, 1),
            case counters:get(Seen, 1) of
                1 -> Refusal;
                _ -> scripted_model:from_document(Request)
            end
    end.

%% A wrapper: the script has to end with exec "$@".
shell(Script) ->
    ["/bin/sh", "-c", Script, "sh"].

%% Options with which a library is preloaded into the program, and into nothing
%% else; the test is skipped where that cannot be, as with a sanitized build.
preloading(Config, Library, Env) ->
    Opts = #{wrapper => shell("ulimit -c 0; export LD_PRELOAD=" ++ Library
                              ++ "; exec \"$@\""),
             env => Env},
    case router:run(Opts#{dir => dir(Config), args => ["--version"]}) of
        {0, _, <<>>} -> Opts;
        Other -> throw({skip, {"cannot preload", Library, Other}})
    end.

%% ------------------------------------------------------------------ clock

%% libfaketime moves the wall clock; the monotonic clock goes on. The last call
%% shows that the router's clock was moved indeed: a date that is ahead is long
%% past to it.
a_jump_of_the_clock_moves_no_deadline(Config) ->
    Clock = new_file(Config, ".clock"),
    set_clock(Clock, 0),
    Opts = preloading(Config, fake_clock(),
                      [{"FAKETIME_TIMESTAMP_FILE", Clock},
                       {"FAKETIME_NO_CACHE", "1"}, {"DONT_FAKE_MONOTONIC", "1"},
                       {"LLM_ROUTER_NODE_TICK_TIME_MS", "4000"}]),
    with_router(Config, Opts, fun(Config1) -> clock_jumps(Config1, Clock) end).

fake_clock() ->
    case filelib:wildcard("/usr/lib/*/faketime/libfaketime.so.1") of
        [Library | _] -> Library;
        [] -> throw({skip, "no libfaketime here"})
    end.

%% In one step, because the router reads it at any time.
set_clock(File, Seconds) ->
    New = File ++ ".new",
    ok = file:write_file(New, io_lib:format("~s~b\n", [[$+ || Seconds >= 0],
                                                      Seconds])),
    ok = file:rename(New, File).

clock_jumps(Config, Clock) ->
    Caller = bed:caller(Config),
    Kept = prompt(<<"kept">>, #{request_id => <<"kept-1">>}),
    Paused = [{status, 429}, {header, <<"retry-after">>, <<"2">>},
              {body, <<"{}">>}],
    scripted_provider:set_handler(
      bed:provider(Config), by_prompt([{<<"hangs">>, [hang]},
                                       {<<"slow">>, answered_after(1500)},
                                       {<<"paused">>, once(Paused)}])),
    {ok, _} = First = bed:call(Config, Kept),
    Named = bed:on(Caller, fun() -> global:whereis_name(llm_router) end),
    Log = byte_size(log(Config)),
    [Slow, Hangs, Pauses] =
        [beside(fun() -> bed:call(Config, Call) end)
         || Call <- [prompt(<<"slow">>),
                     prompt(<<"hangs">>, #{timeout => 2500}),
                     prompt(<<"paused">>)]],
    [begin
         timer:sleep(400),
         set_clock(Clock, Seconds),
         pong = bed:call(Config, ping)
     end || Seconds <- [3600, -3600]],
    {{ok, _}, SlowMs} = await(Slow),
    within(1500, 6000, SlowMs),
    {{ok, _}, PausedMs} = await(Pauses),
    within(2000, 6000, PausedMs),
    {{error, {timeout, _}}, HangsMs} = await(Hangs),
    within(2500, 6000, HangsMs),
    set_clock(Clock, 3600),
    ?assertEqual(First, bed:call(Config, Kept)),
    ?assertEqual(Named, bed:on(Caller, fun() ->
                                               global:whereis_name(llm_router)
                                       end)),
    <<_:Log/binary, Since/binary>> = log(Config),
    ?assertEqual(nomatch, string:find(Since, " down")),
    logs_a_new_peer(Config),
    was_moved(Config).

was_moved(Config) ->
    Then = calendar:system_time_to_local_time(erlang:system_time(second) + 15,
                                              second),
    Busy = [{status, 503},
            {header, <<"retry-after">>, httpd_util:rfc1123_date(Then)},
            {body, <<"{}">>}],
    scripted_provider:set_handler(bed:provider(Config),
                                  by_prompt([{<<"dated">>, once(Busy)}])),
    {{ok, _}, Ms} = await(beside(fun() ->
                                         bed:call(Config, prompt(<<"dated">>))
                                 end)),
    within(0, 9000, Ms).

%% -------------------------------------------------------------------- log

log(Config) ->
    router:stderr(bed:router(Config)).

dropped(Config) ->
    #{log_lines_dropped := Dropped} = bed:call(Config, stats),
    Dropped.

raw_peer(Config) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    raw_peer:connect(bed:node(Config), #{cookie => Cookie}).

%% A peer that comes and goes makes two lines of log.
make_log(Config) ->
    #{name := Name} = Peer = raw_peer(Config),
    raw_peer:close(Peer),
    atom_to_binary(Name).

logs_a_new_peer(Config) ->
    Name = make_log(Config),
    bed:eventually(fun() -> string:find(log(Config), Name) =/= nomatch end).

%% More log than a pipe or a small disk holds.
fill_log(Config) ->
    Server = {llm_router, bed:node(Config)},
    bed:eventually(
      fun() ->
              bed:on(bed:caller(Config),
                     fun() -> [Server ! {stray, N} || N <- lists:seq(1, 1000)]
                     end),
              dropped(Config) > 0
      end, 20000).

verbose() ->
    {"LLM_ROUTER_LOG_LEVEL", "debug"}.

%% Its reader, as a journal may be, is there but does not read for a time.
a_log_that_is_read_again_goes_on(Config) ->
    Fifo = new_file(Config, ".fifo"),
    Log = new_file(Config, ".log"),
    "" = os:cmd("mkfifo " ++ Fifo),
    Script = "exec 3<>\"$0\"; read -r _; exec cat <&3 >\"$1\"",
    Reader = open_port({spawn_executable, "/bin/sh"},
                       [{args, ["-c", Script, Fifo, Log]}]),
    {os_pid, ReaderPid} = erlang:port_info(Reader, os_pid),
    with_router(
      Config, #{stderr => Fifo, env => [verbose()]},
      fun(Config1) ->
              fill_log(Config1),
              {ok, _} = bed:call(Config1, ?OP),
              port_command(Reader, "\n"),
              bed:eventually(fun() -> is_read(Config1, Log) end)
      end),
    "" = os:cmd("kill " ++ integer_to_list(ReaderPid)).

is_read(Config, Log) ->
    Before = dropped(Config),
    Name = make_log(Config),
    pong = bed:call(Config, ping),
    timer:sleep(20),
    {ok, Text} = file:read_file(Log),
    string:find(Text, Name) =/= nomatch andalso dropped(Config) =:= Before.

a_closed_log_stops_nothing(Config) ->
    with_router(Config, #{wrapper => shell("exec \"$@\" 2>&-"),
                          env => [verbose()]}, fun serves_many_peers/1).

%% What is written to it is EPIPE from the start.
a_log_whose_reader_is_gone_stops_nothing(Config) ->
    Fifo = new_file(Config, ".fifo"),
    "" = os:cmd("mkfifo " ++ Fifo),
    Script = "exec 3<>" ++ Fifo ++ "; exec 4>" ++ Fifo ++ " 3>&-; "
        "exec \"$@\" 2>&4 4>&-",
    with_router(Config, #{wrapper => shell(Script), env => [verbose()]},
                fun(Config1) ->
                        serves_many_peers(Config1),
                        ?assert(dropped(Config1) > 100)
                end).

%% Peers and connections to the provider come and go, with much to log; none
%% of it may reach a descriptor that took the number of the one that is closed.
serves_many_peers(Config) ->
    Server = {llm_router, bed:node(Config)},
    [begin
         Peer = raw_peer(Config),
         {reply, pong} = raw_peer:call(Peer, llm_router, ping),
         {reply, {ok, #{text := <<"You wrote: hi">>}}} =
             raw_peer:call(Peer, llm_router, ?OP),
         raw_peer:close(Peer),
         bed:on(bed:caller(Config),
                fun() -> [Server ! {stray, N} || N <- lists:seq(1, 20)] end),
         router:signal(bed:router(Config), "HUP")
     end || _ <- lists:seq(1, 20)].

a_log_on_a_full_disk_stops_nothing(Config) ->
    with_router(Config, #{stderr => "/dev/full", env => [verbose()]},
                fun(Config1) ->
                        serves_many_peers(Config1),
                        ?assert(dropped(Config1) > 100)
                end).

%% A disk of 64 KiB, full of something else.
a_disk_with_room_again_gets_the_log(Config) ->
    Disk = new_file(Config, ".disk"),
    ok = file:make_dir(Disk),
    case os:cmd("mount -t tmpfs -o size=64k none " ++ Disk) of
        "" -> ok;
        Why -> throw({skip, {"cannot mount here", Why}})
    end,
    Other = filename:join(Disk, "other"),
    _ = file:write_file(Other, binary:copy(<<"x">>, 48 * 1024)),
    with_router(Config, #{stderr => filename:join(Disk, "log"),
                          env => [verbose()]},
                fun(Config1) ->
                        fill_log(Config1),
                        serves_many_peers(Config1),
                        ok = file:delete(Other),
                        logs_a_new_peer(Config1)
                end),
    "" = os:cmd("umount " ++ Disk).

%% The wrapper says that it is ready in its place.
stdout_may_be_closed_or_full(Config) ->
    Ready = "echo ready " ++ atom_to_list(bed:node(Config)),
    [with_router(Config, #{wrapper => shell(Ready ++ "; exec \"$@\" "
                                            ++ Redirections)},
                 fun serves_many_peers/1)
     || Redirections <- [">/dev/full", ">&-", ">&- 2>&-",
                         "<&- >&- 2>&-"]].

%% ------------------------------------------------------------ connections

%% Each has much to read when it resets the connection.
peers_that_reset_while_they_are_written_to_are_forgotten(Config) ->
    with_router(
      Config, #{},
      fun(Config1) ->
              [begin
                   Peer = raw_peer(Config1),
                   Pid = raw_peer:pid(Peer),
                   [ok = raw_peer:send(Peer, {6, Pid, '', llm_router},
                                       {llm_request, Pid, I, Op})
                    || I <- lists:seq(1, 30), Op <- [models, ?OP]],
                   reset(raw_peer:socket(Peer))
               end || _ <- lists:seq(1, 300)],
              pong = bed:call(Config1, ping)
      end).

reset(Socket) ->
    _ = inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).

%% The prompt is more than a socket's buffers hold, so that the router writes
%% when the reset comes.
providers_that_reset_while_they_are_written_to_are_unreachable(Config) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false},
                                        {ip, {127, 0, 0, 1}},
                                        {recbuf, 4096}, {backlog, 1024}]),
    {ok, Port} = inet:port(Listener),
    Resetter = spawn_link(fun() -> reset_each(Listener) end),
    Url = lists:flatten(io_lib:format("http://127.0.0.1:~b/v1", [Port])),
    Config1 = bed:start_router(Config, #{env => [{"OPENAI_BASE_URL", Url},
                                                 {"LLM_ROUTER_RETRY_MAX",
                                                  "0"}]}),
    Fds = router:fd_count(bed:router(Config1)),
    Long = prompt(binary:copy(<<"word ">>, 200000)),
    Answers = calls_at_once(Config1, 200, Long),
    ?assertEqual([unreachable], lists:usort([Code || {error, {Code, _}}
                                                         <- Answers])),
    ?assertEqual(200, length(Answers)),
    pong = bed:call(Config1, ping),
    bed:eventually(fun() -> router:fd_count(bed:router(Config1)) =< Fds + 3
                   end),
    unlink(Resetter),
    exit(Resetter, kill),
    {exited, 0} = bed:stop_router(Config1).

reset_each(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    {ok, _} = gen_tcp:recv(Socket, 1000),
    reset(Socket),
    reset_each(Listener).

%% The answers to N calls made at once by one process.
calls_at_once(Config, N, Op) ->
    Server = {llm_router, bed:node(Config)},
    bed:on(bed:caller(Config),
           fun() ->
                   Ids = [gen_server:send_request(Server, Op)
                          || _ <- lists:seq(1, N)],
                   [begin
                        {reply, Answer} =
                            gen_server:receive_response(Id, 30000),
                        Answer
                    end || Id <- Ids]
           end).

a_storm_of_signals_is_survived(Config) ->
    with_router(
      Config, #{},
      fun(Config1) ->
              OsPid = integer_to_list(router:os_pid(bed:router(Config1))),
              Storm = [["kill -s ", Signal, " ", OsPid, "; "]
                       || _ <- lists:seq(1, 300), Signal <- ["PIPE", "HUP"]],
              Signals = beside(fun() -> os:cmd(lists:flatten(Storm)) end),
              [{ok, #{text := <<"You wrote: hi">>}} = bed:call(Config1, ?OP)
               || _ <- lists:seq(1, 300)],
              {"", _} = await(Signals)
      end).

%% ------------------------------------------------------------ descriptors

%% Forty descriptors, all of them taken by strangers while three calls wait for
%% their answers.
without_descriptors_calls_in_flight_are_answered_and_new_ones_refused(Config) ->
    with_router(Config, #{wrapper => shell("ulimit -n 40; exec \"$@\"")},
                fun few_descriptors/1).

few_descriptors(Config) ->
    Router = bed:router(Config),
    Provider = bed:provider(Config),
    scripted_provider:set_handler(
      Provider, by_prompt([{<<"slow">>, answered_after(4000)}])),
    Slow = [beside(fun() -> bed:call(Config, prompt(<<"slow">>)) end)
            || _ <- [1, 2, 3]],
    scripted_provider:await_requests(Provider, 3),
    Strangers = [raw_peer:dial(bed:node(Config)) || _ <- lists:seq(1, 60)],
    bed:eventually(fun() -> router:fd_count(Router) >= 40 end),
    Cpu = router:cpu_ms(Router),
    timer:sleep(1000),
    Spent = router:cpu_ms(Router) - Cpu,
    ct:log("~b ms of processor time in a second", [Spent]),
    ?assert(Spent < bed:limit_ms(200)),
    {Refused, Ms} = await(beside(fun() -> bed:call(Config, ?OP) end)),
    ct:log("a new call: ~b ms, ~0tp", [Ms, Refused]),
    ?assertMatch({error, {overloaded, _}}, Refused),
    [{{ok, #{text := <<"You wrote: slow">>}}, _} = await(S) || S <- Slow],
    [gen_tcp:close(Socket) || Socket <- Strangers],
    bed:eventually(fun() ->
                           try raw_peer(Config) of
                               Peer -> raw_peer:close(Peer), true
                           catch error:_ -> false
                           end
                   end, 10000).

%% -------------------------------------------------------------- processor

a_flood_of_calls_is_refused_at_once_and_nothing_is_queued(Config) ->
    with_router(
      Config, #{env => [{"LLM_ROUTER_LIMITS_IN_FLIGHT", "4"},
                        {"LLM_ROUTER_LIMITS_QUEUED", "0"}]},
      fun(Config1) ->
              Provider = bed:provider(Config1),
              scripted_provider:set_handler(
                Provider, by_prompt([{<<"slow">>, answered_after(4000)}])),
              Slow = [beside(fun() -> bed:call(Config1, prompt(<<"slow">>)) end)
                      || _ <- [1, 2, 3, 4]],
              scripted_provider:await_requests(Provider, 4),
              Start = bed:now_ms(),
              Answers = calls_at_once(Config1, 2000, ?OP),
              Ms = bed:now_ms() - Start,
              ct:log("2000 calls refused in ~b ms", [Ms]),
              ?assertEqual([overloaded],
                           lists:usort([Code || {error, {Code, _}}
                                                    <- Answers])),
              ?assertEqual(2000, length([E || {error, _} = E <- Answers])),
              within(0, 3500, Ms),
              [{{ok, #{text := <<"You wrote: slow">>}}, _} = await(S)
               || S <- Slow],
              ?assertEqual(4, length(scripted_provider:requests(Provider))),
              ?assertMatch(#{in_flight := 0}, bed:call(Config1, stats))
      end).

%% ----------------------------------------------------------------- memory

%% The address space may grow by 4 MiB more, and the prompt has 20.
a_call_that_memory_does_not_suffice_for_ends_cleanly(Config) ->
    Config1 = bed:start_router(
                Config, #{wrapper => shell("ulimit -c 0; exec \"$@\"")}),
    _ = bed:footprint(Config1),
    case router:vm_kib(bed:router(Config1)) of
        Kib when Kib < 1 bsl 30 ->
            memory_ends(Config1, (Kib + 4096) * 1024);
        _ ->
            {exited, 0} = bed:stop_router(Config1),
            {skip, "a sanitizer has taken the address space"}
    end.

memory_ends(Config, Bytes) ->
    #{os_pid := OsPid} = bed:router(Config),
    "" = os:cmd(io_lib:format("prlimit --pid ~b --as=~b", [OsPid, Bytes])),
    {ok, _} = bed:call(Config, ?OP),
    Answer = caught(Config, fun() -> prompt(binary:copy(<<"word ">>, 4 bsl 20))
                            end),
    ct:log("~0tP", [Answer, 20]),
    case Answer of
        {error, {_, #{message := _}}} ->
            {ok, _} = bed:call(Config, ?OP),
            {exited, 0} = bed:stop_router(Config);
        {exit, _} ->
            aborted = aborted(Config)
    end.

%% The answer, or {exit, Why}. Op() is made on the caller's node, and left out
%% of the reason: the way there and back is slow.
caught(Config, Op) ->
    Server = {llm_router, bed:node(Config)},
    Ms = bed:limit_ms(?OUTCOME_MS),
    bed:on(bed:caller(Config),
           fun() ->
                   try gen_server:call(Server, Op(), Ms)
                   catch exit:{Why, _Call} -> {exit, Why}
                   end
           end).

%% One allocation fails, be it ours, libuv's, libcurl's or OpenSSL's: once for
%% each that the call makes. The answer is right or an error, or the router
%% ends with a line that says why; never a wrong answer, none at all, or
%% another end.
any_allocation_of_a_call_may_fail(Config) ->
    any_allocation(Config, [], fun one_task/1).

one_task(Config) ->
    Prompt = <<"Build a login page. It must be safe.">>,
    caught(Config, fun() -> {generate_task, Prompt} end).

any_allocation_of_a_call_with_many_tasks_may_fail(Config) ->
    Prd = <<"# Shop\n## Search\nIt must find things. It may be slow.\n"
            "- It should sort.\n## Basket\nIt must keep things.\n">>,
    any_allocation(Config, [], fun(C) ->
                                       caught(C, fun() -> {parse_prd, Prd, 4}
                                                 end)
                               end).

%% A stream ends with one message, or with its router.
any_allocation_of_a_stream_may_fail(Config) ->
    any_allocation(Config, [], fun one_stream/1).

one_stream(Config) ->
    Server = {llm_router, bed:node(Config)},
    Ms = bed:limit_ms(?OUTCOME_MS),
    Messages = [#{role => user, content => <<"Say hello to all of us">>}],
    bed:on(bed:caller(Config),
           fun() ->
                   Monitor = monitor(process, Server),
                   try gen_server:call(Server, {stream, simple, Messages}, Ms)
                   of
                       {ok, Ref} -> stream_end(Ref, Monitor, Ms, []);
                       {error, _} = Error -> Error
                   catch exit:{Why, _Call} -> {exit, Why}
                   end
           end).

stream_end(Ref, Monitor, Ms, Deltas) ->
    receive
        {llm_stream, Ref, {delta, Delta}} ->
            stream_end(Ref, Monitor, Ms, [Deltas, Delta]);
        {llm_stream, Ref, {done, #{text := Text}}} ->
            {ok, {Text, iolist_to_binary(Deltas)}};
        {llm_stream, Ref, {error, Reason}} ->
            {error, Reason};
        {'DOWN', Monitor, _, _, Why} ->
            {exit, Why}
    after Ms ->
            {exit, timeout}
    end.

any_allocation_of_embeddings_may_fail(Config) ->
    Texts = [<<"One text">>, <<"Another text">>],
    any_allocation(Config, [],
                   fun(C) -> caught(C, fun() -> {embed, Texts} end) end).

%% The answer is kept, though not for long, and what it cost is counted.
any_allocation_of_a_call_with_cache_and_budget_may_fail(Config) ->
    Env = [{"LLM_ROUTER_CACHE_MAX_BYTES", "1048576"},
           {"LLM_ROUTER_CACHE_AGE_MS", "1"},
           {"LLM_ROUTER_CACHE_DEFAULT", "true"},
           {"LLM_ROUTER_BUDGET_USD_PER_DAY", "1000000"},
           {"LLM_ROUTER_STATE_FILE", new_file(Config, ".spent")}],
    any_allocation(Config, Env, fun one_task/1).

any_allocation_of_a_reload_may_fail(Config) ->
    any_allocation(Config, [],
                   fun(C) ->
                           case caught(C, fun() -> reload end) of
                               ok -> {ok, reloaded};
                               Other -> Other
                           end
                   end).

any_allocation_of_a_call_on_a_new_tls_connection_may_fail(Config) ->
    {CertFile, KeyFile} = certificate(Config),
    Closing = fun(Request) -> [{header, <<"connection">>, <<"close">>}
                               | scripted_model:from_document(Request)]
              end,
    Provider = scripted_provider:start(#{handler => Closing,
                                         tls => [{certfile, CertFile},
                                                 {keyfile, KeyFile}]}),
    Url = binary_to_list(scripted_provider:url(Provider)),
    any_allocation(Config, [{"OPENAI_BASE_URL", Url},
                            {"LLM_ROUTER_TLS_CA_FILE", CertFile},
                            {"LLM_ROUTER_TIMEOUTS_CONNECT_MS", "1000"}],
                   fun one_task/1),
    scripted_provider:stop(Provider).

certificate(Config) ->
    CertFile = new_file(Config, ".crt"),
    KeyFile = new_file(Config, ".key"),
    _ = os:cmd("openssl req -x509 -newkey ec -pkeyopt "
               "ec_paramgen_curve:P-256 -nodes -subj /CN=provider -days 2 "
               "-addext subjectAltName=IP:127.0.0.1 -out " ++ CertFile
               ++ " -keyout " ++ KeyFile),
    {CertFile, KeyFile}.

any_allocation_of_a_new_peer_may_fail(Config) ->
    any_allocation(Config, [], fun greeted/1).

greeted(Config) ->
    try raw_peer(Config) of
        Peer ->
            Answer = raw_peer:call(Peer, llm_router, ping),
            raw_peer:close(Peer),
            case Answer of
                {reply, pong} -> {ok, pong};
                closed -> {error, closed}
            end
    catch
        error:{refused, Why} -> {error, Why};
        error:{badmatch, Why} -> {error, Why}
    end.

%% Try(Config) makes the call: {ok, _}, {error, _} or {exit, _}. See
%% support/fail_alloc.c for how one allocation is made to fail.
any_allocation(Config, Env, Try) ->
    Control = new_file(Config, ".control"),
    ok = file:write_file(Control, <<0:192>>),
    Preloading = preloading(Config, fail_alloc(Config),
                            [{"FAIL_ALLOC_CONTROL", Control},
                             {"LLM_ROUTER_RETRY_MAX", "0"} | Env]),
    Opts = Preloading#{connect => []},
    {Right, Config1} = warm_router(Config, Opts, Try),
    Counts = [begin
                  {Right, Count} = failing(Control, 0, Config1, Try),
                  Count
              end || _ <- lists:seq(1, 10)],
    ct:log("~w allocations", [Counts]),
    {Outcomes, Config2} =
        lists:mapfoldl(
          fun(N, C) ->
                  {Answer, Count} = failing(Control, N, C, Try),
                  Outcome = outcome(Answer, Right, C, Try),
                  ct:log("~b of ~b: ~0tP", [N, Count, {Outcome, Answer}, 20]),
                  {{N, Outcome}, living_router(C, Opts, Try)}
          end, Config1, chosen(lists:max(Counts))),
    {exited, 0} = bed:stop_router(Config2),
    ct:log("~0tp", [maps:map(fun(_, Ns) -> length(Ns) end,
                             maps:groups_from_list(fun({_, O}) -> O end,
                                                   Outcomes))]),
    ?assertEqual([], [Bad || {_, O} = Bad <- Outcomes,
                             not lists:member(O, [right, error, aborted])]).

%% All of the first and some of the others; injection_SUITE has more.
chosen(Count) ->
    [N || N <- lists:seq(1, Count), N =< ?ALL_UP_TO orelse N rem 29 =:= 0].

%% A router that has made the call a few times, and the answer.
warm_router(Config, Opts, Try) ->
    Config1 = bed:start_router(Config, Opts),
    [{ok, _} = Right | _] = [Try(Config1) || _ <- [1, 2, 3]],
    {Right, Config1}.

living_router(Config, Opts, Try) ->
    case is_process_alive(maps:get(pid, bed:router(Config))) of
        true -> Config;
        false -> element(2, warm_router(Config, Opts, Try))
    end.

%% The call's answer while the N-th allocation fails (0: none), and how many
%% there were.
failing(Control, N, Config, Try) ->
    {ok, File} = file:open(Control, [read, write, raw, binary]),
    ok = file:pwrite(File, 0, <<N:64/little, 0:64>>),
    ok = file:pwrite(File, 16, <<1:64/little>>),
    Answer = Try(Config),
    ok = file:pwrite(File, 16, <<0:64>>),
    {ok, <<Count:64/little>>} = file:pread(File, 8, 8),
    ok = file:close(File),
    {Answer, Count}.

outcome(Right, Right, Config, Try) ->
    survived(right, Right, Config, Try);
outcome({error, _}, Right, Config, Try) ->
    survived(error, Right, Config, Try);
outcome({exit, timeout}, _Right, Config, _Try) ->
    bed:kill_router(Config),
    no_answer;
outcome({exit, _}, _Right, Config, _Try) ->
    aborted(Config);
outcome(_Wrong, _Right, Config, _Try) ->
    bed:kill_router(Config),
    wrong.

%% The next call is answered, unless the router ended after this one.
survived(How, Right, Config, Try) ->
    case Try(Config) of
        Right -> How;
        _ -> aborted(Config)
    end.

aborted(Config) ->
    #{pid := Pid} = Router = bed:router(Config),
    Exit = router:await_exit(Router, ?OUTCOME_MS),
    Last = lists:last([<<>> | string:lexemes(log(Config), "\n")]),
    gen_server:stop(Pid),
    case {Exit, string:find(Last, "memory")} of
        {{exited, ?ABORTED}, Found} when Found =/= nomatch -> aborted;
        _ -> {Exit, Last}
    end.

%% The library, compiled for this system.
fail_alloc(Config) ->
    Library = filename:join(dir(Config), "fail_alloc.so"),
    Source = filename:join([router:project(), "erlang_test", "support",
                            "fail_alloc.c"]),
    "" = os:cmd("cc -Wall -Wextra -Werror -O1 -shared -fPIC -o " ++ Library
                ++ " " ++ Source),
    Library.
