%% Everything at once, for long: callers on nodes of two OTP releases, a queue,
%% three providers of three dialects of whose answers one in twenty fails, and
%% routers of which one is killed every minute. At the end: was anything lost or
%% doubled, and is the router that was never killed as large as it was?
%%
%% Started by scripts/soak, which says what the variables are.
-module(soak).

-export([main/0]).

-define(PROVIDERS, [{one, openai}, {two, anthropic}, {three, gemini}]).
-define(FAULTS, 20).          %% one of so many answers is one
-define(CALLERS, 6).          %% on each node
-define(PAUSE_MS, 20).        %% between two calls of one
-define(QUEUED_MS, 100).      %% between two messages of the queue
-define(SAMPLE_MS, 5000).
-define(KILL_MS, 60000).
-define(BACK_MS, 3000).       %% until a killed router is started again
-define(EMPTY_MS, 180000).    %% for the queue to become so
-define(WARM, 0.2).           %% of the time
-define(GROWTH_KIB, 1024).
-define(GROWTH_FDS, 8).

main() ->
    try run(setting("MINUTES", 30) * 60000) of
        true -> halt(0);
        false -> halt(1)
    catch
        Class:Reason:Stack ->
            say("the soak itself failed: ~0tp", [{Class, Reason, Stack}]),
            halt(2)
    end.

setting(Name, Default) ->
    list_to_integer(os:getenv("LLM_ROUTER_SOAK_" ++ Name,
                              integer_to_list(Default))).

%% A line, also into the report.
say(Format, Args) ->
    Time = calendar:system_time_to_rfc3339(os:system_time(second)),
    Line = unicode:characters_to_binary(
             io_lib:format("~s " ++ Format ++ "~n", [Time | Args])),
    io:put_chars(Line),
    ok = file:write_file("build/soak/report.txt", Line, [append]).

run(Ms) ->
    Dir = filename:absname("build/soak/run"),
    _ = file:delete("build/soak/report.txt"),
    _ = os:cmd("rm -rf " ++ Dir),
    ok = filelib:ensure_dir(filename:join(Dir, "file")),
    Pg = postgres:start(Dir),
    Bed = bed:up([{priv_dir, Dir}], #{router => none, callers => 2}),
    Faults = counters:new(2, []),
    Providers = [{Name, start_provider(Dialect, Faults)}
                 || {Name, Dialect} <- ?PROVIDERS],
    World = #{bed => Bed, pg => Pg, dir => Dir, faults => Faults,
              config => configuration(Dir, Providers),
              steady => bed:node_name(steady),
              mortal => [bed:node_name(mortal) || _ <- [1, 2]]},
    Nodes = nodes_of_both(Bed),
    %% The first one gets the global name.
    Routers = [{Node, start_router(World, Node)}
               || Node <- maps:get(mortal, World)],
    Steady = start_router(World, maps:get(steady, World)),
    [await_names(World, Caller) || Caller <- Nodes],
    say("~b minutes; callers on ~0p",
        [Ms div 60000, [N || #{node := N} <- Nodes]]),
    Killer = spawn_link(fun() -> kill_for_ever(World, Routers, 0) end),
    Queue = spawn_link(fun() -> enqueue_for_ever(World, []) end),
    Callers = start_callers(World, Nodes),
    Samples = sample(Steady, World, Ms),
    Totals = stop_callers(Callers),
    Ids = stop(Queue),
    {Kills, Left} = stop(Killer),
    Result = finish(World, Ids),
    Idle = is_idle(World),
    Stats = bed_call(World, maps:get(steady, World), stats),
    Exits = [router:stop(R) || R <- [Steady | [R || {_, R} <- Left]]],
    report(#{totals => Totals, kills => Kills, queue => Result, idle => Idle,
             samples => Samples, exits => Exits, stats => Stats,
             answers => counters:get(Faults, 1),
             faults => counters:get(Faults, 2)}).

stop(Pid) ->
    Pid ! {stop, self()},
    receive {Pid, Answer} -> Answer end.

%% ------------------------------------------------------------------ nodes

%% [{Peer, Node}]: two of this release, and two of the other if it is there.
nodes_of_both(Bed) ->
    #{callers := Callers, cookie := Cookie} = proplists:get_value(bed, Bed),
    Callers ++ other_release(os:getenv("LLM_ROUTER_SOAK_CHROOT"), Cookie).

other_release(false, _) ->
    [];
other_release(Root, Cookie) ->
    [begin
         [Name, Host] = string:split(atom_to_list(bed:node_name(other)), "@"),
         {ok, Peer, Node} =
             peer:start(#{name => list_to_atom(Name), host => Host,
                          longnames => lists:member($., Host),
                          connection => standard_io, wait_boot => 30000,
                          exec => {os:find_executable("chroot"),
                                   [Root, "/usr/bin/erl"]},
                          env => [{"HOME", "/root"}],
                          args => ["-setcookie", Cookie, "-pa", "/soak",
                                   "-kernel", "logger_level", "emergency"]}),
         #{peer => Peer, node => Node}
     end || _ <- [1, 2]].

%% Every router is known by its names there.
await_names(#{steady := Steady, mortal := Mortal}, Caller) ->
    Names = [llm_router | [{llm_router, Node} || Node <- [Steady | Mortal]]],
    [true = bed:on(Caller, fun() -> net_kernel:connect_node(Node) end)
     || Node <- [Steady | Mortal]],
    bed:eventually(fun() ->
        bed:on(Caller, fun() -> Names -- global:registered_names() end) =:= []
    end, 30000).

start_callers(#{steady := Steady, mortal := Mortal}, Nodes) ->
    [begin
         %% The scripted model leaves Markdown's marks out.
         Plain = string:replace(atom_to_list(Node), "_", "-", all),
         Name = iolist_to_binary([Plain, $/, integer_to_list(I)]),
         Pid = bed:on(Caller, fun() ->
             soak_caller:start(#{steady => Steady, mortal => Mortal,
                                 name => Name, pause => ?PAUSE_MS})
         end),
         {Caller, Pid}
     end || #{node := Node} = Caller <- Nodes, I <- lists:seq(1, ?CALLERS)].

stop_callers(Callers) ->
    Self = self(),
    Pids = [spawn_link(fun() ->
                Self ! {self(), bed:on(Caller, fun() -> soak_caller:stop(Pid)
                                               end)}
            end) || {Caller, Pid} <- Callers],
    lists:foldl(fun add/2, #{counts => #{}, wrong => [], slowest => 0},
                [receive {P, Totals} -> Totals end || P <- Pids]).

add(#{counts := A, wrong := W, slowest := S},
    #{counts := B, wrong := V, slowest := T}) ->
    #{counts => maps:fold(fun(K, N, Sum) ->
                              maps:update_with(K, fun(M) -> M + N end, N, Sum)
                          end, A, B),
      wrong => W ++ V, slowest => max(S, T)}.

%% ---------------------------------------------------------------- routers

configuration(Dir, Providers) ->
    File = filename:join(Dir, "router.json"),
    Catalogue = filename:join(Dir, "models.json"),
    Models = [#{provider => Name, id => <<"model">>, in => 1, out => 2}
              || {Name, _} <- Providers]
        ++ [#{provider => one, id => <<"embedder">>, in => 1}],
    All = [<<(atom_to_binary(Name))/binary, "/model">> || {Name, _} <- Providers],
    ok = file:write_file(Catalogue, test_json:encode(#{models => Models})),
    ok = file:write_file(File, test_json:encode(
        #{providers => maps:from_list([provider(P) || P <- Providers]),
          routes => #{simple => #{strategy => weighted,
                                  candidates => All},
                      medium => All, complex => All},
          catalogue => #{file => list_to_binary(Catalogue)},
          timeouts => #{headers_ms => 2000, first_token_ms => 2000,
                        idle_ms => 2000},
          queue => #{visibility_timeout_s => 10, backoff_s => 1,
                     in_flight => 8}})),
    File.

provider({Name, {Dialect, Provider}}) ->
    {Name, #{dialect => Dialect,
             base_url => scripted_provider:url(Provider, Dialect)}}.

start_router(#{bed := Bed, pg := Pg, config := File}, Node) ->
    bed:run_router(Bed, Node, #{args => ["--config", File],
                                env => postgres:env(Pg)}).

%% Every minute the other one of the two, which is back soon after.
kill_for_ever(World, [{Node, Router} | Others] = Routers, Kills) ->
    receive
        {stop, From} -> From ! {self(), {Kills, Routers}}
    after ?KILL_MS ->
            router:kill(Router),
            timer:sleep(?BACK_MS),
            Next = start_router(World, Node),
            kill_for_ever(World, Others ++ [{Node, Next}], Kills + 1)
    end.

bed_call(#{bed := Bed}, Node, Request) ->
    bed:on(bed:caller(Bed),
           fun() -> gen_server:call({llm_router, Node}, Request) end).

%% -------------------------------------------------------------- providers

start_provider(Dialect, Faults) ->
    Handler = fun(Request) -> answer(Request, Faults) end,
    Provider = scripted_provider:start(#{handler => Handler}),
    spawn_link(fun() -> forget(Provider, Handler) end),
    {Dialect, Provider}.

%% It remembers what it was asked.
forget(Provider, Handler) ->
    timer:sleep(1000),
    scripted_provider:set_handler(Provider, Handler),
    forget(Provider, Handler).

answer(Request, Faults) ->
    counters:add(Faults, 1, 1),
    case rand:uniform(?FAULTS) of
        1 ->
            counters:add(Faults, 2, 1),
            fault(rand:uniform(16));
        _ ->
            [{sleep, rand:uniform(10)} | scripted_model:from_document(Request)]
    end.

fault(1) -> says(500, <<"{\"error\":{\"message\":\"no\"}}">>);
fault(2) -> says(502, <<"<html>Bad gateway</html>">>);
fault(3) -> says(503, <<"{\"error\":{\"message\":\"later\"}}">>);
fault(4) -> says(529, <<"{\"error\":{\"message\":\"overloaded\"}}">>);
fault(5) -> [{header, <<"retry-after-ms">>, <<"100">>}
                | says(429, <<"{\"error\":{\"message\":\"slowly\"}}">>)];
fault(6) -> [reset];
fault(7) -> [close];
fault(8) -> [hang];
fault(9) -> [{body, <<"<html>hello</html>">>}];
fault(10) -> [{header, <<"content-type">>, <<"application/json">>},
                 {body, <<"{\"choices\":[{\"mess">>}];
fault(11) -> [{status, 204}];
fault(12) -> [{raw, <<"SSH-2.0-OpenSSH\r\n">>}, close];
fault(13) -> [{body, crypto:strong_rand_bytes(2000)}];
fault(14) -> cut(hang);
fault(15) -> cut(reset);
fault(16) -> cut(close).

says(Status, Body) ->
    [{status, Status}, {header, <<"content-type">>, <<"application/json">>},
     {body, Body}].

%% Ends in the middle of the headers' promise.
cut(End) ->
    [{raw, <<"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
             "transfer-encoding: chunked\r\n\r\n5\r\ndata:\r\n">>}, End].

%% ------------------------------------------------------------------ queue

%% By SQL and by {enqueue, ...} in turn; the ids of all.
enqueue_for_ever(World, Ids) ->
    receive
        {stop, From} -> From ! {self(), Ids}
    after ?QUEUED_MS ->
            enqueue_for_ever(World, [enqueue(World, length(Ids)) | Ids])
    end.

enqueue(#{pg := Pg}, N) when N rem 2 =:= 0 ->
    #{request_id := Id} = Message = queue_bed:chat(<<"queued">>),
    _ = postgres:enqueue(Pg, Message),
    Id;
enqueue(#{steady := Steady} = World, _) ->
    {ok, Id} = bed_call(World, Steady,
                        {enqueue, {call_with_prompt, simple, <<"queued">>}}),
    Id.

%% Each message has one result, once the queue is empty.
finish(#{pg := Pg}, Ids) ->
    Empty = try bed:eventually(fun() -> postgres:depth(Pg) =:= 0 end, ?EMPTY_MS)
            of Ms -> {empty_after_ms, Ms}
            catch error:{not_within_ms, _} -> {left, postgres:depth(Pg)}
            end,
    Results = [{Id, Status} || #{<<"request_id">> := Id, <<"status">> := Status}
                                   <- postgres:results(Pg)],
    Counts = lists:foldl(fun({Id, _}, Sum) ->
                             maps:update_with(Id, fun(N) -> N + 1 end, 1, Sum)
                         end, #{}, Results),
    #{asked => length(Ids), state => Empty,
      failed => length([Id || {Id, <<"error">>} <- Results]),
      lost => [Id || Id <- Ids, not maps:is_key(Id, Counts)],
      doubled => [Id || {Id, N} <- maps:to_list(Counts), N > 1]}.

%% ---------------------------------------------------------------- samples

%% [{Ms, KiB, Descriptors}] of the router that is never killed, latest first; a
%% line a minute.
sample(Router, World, Ms) ->
    Start = bed:now_ms(),
    samples(Router, World, Start, Start + Ms, []).

samples(Router, World, Start, Until, Samples) ->
    Now = bed:now_ms(),
    case Now < Until of
        true ->
            timer:sleep(min(?SAMPLE_MS, Until - Now)),
            New = {bed:now_ms() - Start, router:rss_kib(Router),
                   router:fd_count(Router)},
            length(Samples) rem (60000 div ?SAMPLE_MS) =:= 0
                andalso progress(New, World),
            samples(Router, World, Start, Until, [New | Samples]);
        false ->
            Samples
    end.

progress({Ms, Kib, Fds}, #{steady := Steady, faults := Faults} = World) ->
    #{succeeded := Ok, errors := Errors, cancelled := Cancelled} =
        bed_call(World, Steady, stats),
    say("~5.1f min: ~b KiB, ~b descriptors; ~b requests well, ~b failed, "
        "~b cancelled; ~b of ~b answers were faults",
        [Ms / 60000, Kib, Fds, Ok, lists:sum(maps:values(Errors)), Cancelled,
         counters:get(Faults, 2), counters:get(Faults, 1)]).

%% Nothing is under way any more, and nothing is held for it.
is_idle(#{steady := Steady} = World) ->
    try bed:eventually(fun() ->
            #{in_flight := Jobs, queue := #{calling := Calling,
                                            waiting := Waiting},
              keys := Keys} = bed_call(World, Steady, stats),
            {Jobs, Calling, Waiting, [N || #{in_flight := N} <- Keys, N > 0]}
                =:= {0, 0, 0, []}
        end, 30000) of
        _ -> true
    catch
        error:{not_within_ms, _} -> false
    end.

%% ----------------------------------------------------------------- report

report(#{totals := #{counts := Counts, wrong := Wrong, slowest := Slowest},
         queue := Queue, samples := Samples, exits := Exits, idle := Idle,
         stats := Stats, kills := Kills, answers := Answers,
         faults := Faults}) ->
    table(Counts),
    Calls = lists:sum(maps:values(Counts)),
    Well = lists:sum([N || {{_, ok}, N} <- maps:to_list(Counts)]),
    say("~b calls, ~b well (~.2f %), the slowest ~b ms", [Calls, Well,
        100 * Well / max(1, Calls), Slowest]),
    say("~b provider answers, ~b of them faults (~.1f %); ~b routers killed",
        [Answers, Faults, 100 * Faults / max(1, Answers), Kills]),
    #{asked := Asked, failed := Failed, lost := Lost, doubled := Doubled,
      state := State} = Queue,
    say("queue: ~b messages, ~b failed, ~b lost, ~b doubled, ~0p",
        [Asked, Failed, length(Lost), length(Doubled), State]),
    {Flat, Growth} = growth(Samples),
    say("the router that was not killed: ~ts; longest stall ~b ms",
        [Growth, maps:get(longest_stall_ms, Stats)]),
    [say("wrong: ~0tP", [W, 60]) || W <- lists:sublist(Wrong, 20)],
    Verdicts = [{"every answer was right, none came twice", Wrong =:= []},
                {"the queue lost nothing", Lost =:= []},
                {"the queue doubled nothing", Doubled =:= []},
                {"nothing was left over", Idle},
                {"memory and descriptors stayed flat", Flat},
                {"all routers ended with 0",
                 lists:all(fun(E) -> E =:= {exited, 0} end, Exits)}],
    [say("~s: ~s", [yes(Holds), What]) || {What, Holds} <- Verdicts],
    lists:all(fun({_, Holds}) -> Holds end, Verdicts).

yes(true) -> "ok  ";
yes(false) -> "FAIL".

table(Counts) ->
    Kinds = lists:usort([K || {K, _} <- maps:keys(Counts)]),
    [say("~-20s ~ts", [Kind, [io_lib:format(" ~s ~b", [O, N])
                              || {{K, O}, N} <- lists:sort(maps:to_list(Counts)),
                                 K =:= Kind]]) || Kind <- Kinds].

%% Medians of the first and the last third after the warm-up.
growth(Samples) ->
    All = lists:reverse(Samples),
    Warm = lists:nthtail(trunc(?WARM * length(All)), All),
    Third = max(1, length(Warm) div 3),
    First = lists:sublist(Warm, Third),
    Last = lists:nthtail(length(Warm) - Third, Warm),
    [KibA, KibB] = [median([K || {_, K, _} <- Part]) || Part <- [First, Last]],
    [FdsA, FdsB] = [median([F || {_, _, F} <- Part]) || Part <- [First, Last]],
    {KibB - KibA =< ?GROWTH_KIB andalso FdsB - FdsA =< ?GROWTH_FDS,
     io_lib:format("~b KiB and ~b descriptors after the warm-up, ~b KiB and ~b "
                   "at the end", [KibA, FdsA, KibB, FdsB])}.

median(List) ->
    lists:nth((length(List) + 1) div 2, lists:sort(List)).
