%% A private PostgreSQL server with pgmq and the router's tables, under a
%% test's control.
%%
%%     Pg = postgres:start(Dir),
%%     Config = bed:up(Config0, #{env => postgres:env(Pg)}),
%%     Id = postgres:enqueue(Pg, #{request_id => postgres:uuid(), ...}),
%%     #{<<"status">> := <<"success">>} = postgres:await_result(Pg, RequestId),
%%     ok = postgres:stop(Pg)
%%
%% Queries go through one psql that stays, so that one costs about a
%% millisecond; they wait for a server that is away, for at most 30 seconds. A
%% query is sent once: it fails if the server goes away while it runs. All
%% queries of a Pg are one after another; connect/1 makes a Pg that is not held
%% up by them (its own stop is close/1).
%%
%% The server outlives the process that started it, so that a suite can start
%% it in init_per_suite; one that is never stopped ends with the test run, which
%% run-ct puts in a process namespace where it can.
-module(postgres).
-behaviour(gen_server).

-export([start/1, start/2, stop/1, down/2, up/1, restart/2, kill/1]).
-export([conninfo/1, env/1, connect/1, close/1, migrate/2]).
-export([query/2, maps/2, value/2, quote/1]).
-export([enqueue/2, enqueue/3, messages/2, results/1, dead/1]).
-export([depth/1, depth/2, archived/1, clear/1]).
-export([result/2, await_result/2, await_results/2, uuid/0]).
-export([listen/2, heard/1]).
-export([pid/1, processes/1, backends/2, signal/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(AWAY_MS, 30000).
-define(QUERY_MS, 60000).
-define(RESULT_MS, 20000).
-define(FIELD, 16#1F).
-define(ROW, 16#1E).
-define(NULL, 16#1D).
-define(END, "end of answer").

-type pg() :: #{session := pid(), dir := file:filename(),
                logs := file:filename(), options := string()}.
-type row() :: [binary() | null].
-export_type([pg/0]).

%% ----------------------------------------------------------------- server

%% Dir is where the router leaves its log while it makes its tables; the server
%% has a folder of its own, with the short path that a socket needs.
-spec start(file:filename()) -> pg().
start(Dir) ->
    start(Dir, #{}).

%% Opts: options (of the server, default "-c fsync=off": nothing here pulls the
%% plug); pgmq => none for a database without it, standin for the stand-in
%% (scripts/pgmq); migrate => false for one without the router's tables and
%% queues.
-spec start(file:filename(), map()) -> pg().
start(Logs, Opts) ->
    Dir = string:trim(os:cmd("mktemp -d /tmp/llm_router_pg.XXXXXX")),
    Pg = connect(#{dir => Dir, logs => Logs,
                   options => maps:get(options, Opts, "-c fsync=off")}),
    ok = up(Pg),
    _ = case Opts of
            #{pgmq := none} -> none;
            #{pgmq := standin} ->
                script("pgmq", Dir, [], [{"LLM_ROUTER_PGMQ", "standin"}]);
            _ -> script("pgmq", Dir, [], [])
        end,
    _ = maps:get(migrate, Opts, true)
        andalso case migrate(Pg, []) of
                    {0, _, _} -> ok;
                    {_, _, Stderr} -> error({migrate, Stderr})
                end,
    Pg.

%% The server's end, and of all it kept.
-spec stop(pg()) -> ok.
stop(#{dir := Dir} = Pg) ->
    close(Pg),
    lists:foreach(fun(OsPid) -> signal(OsPid, "CONT") end, processes(Pg)),
    down(Pg, "immediate"),
    file:del_dir_r(Dir).

%% Stops the server: Mode is "fast" or "immediate" (as after a crash).
-spec down(pg(), string()) -> ok.
down(#{dir := Dir}, Mode) ->
    _ = script("stop", Dir, [Mode], []),
    ok.

%% Starts it again with all its data.
-spec up(pg()) -> ok.
up(#{dir := Dir, options := Options}) ->
    _ = script("start", Dir, [], [{"POSTGRES_OPTIONS", Options}]),
    ok.

-spec restart(pg(), string()) -> ok.
restart(Pg, Mode) ->
    down(Pg, Mode),
    up(Pg).

%% SIGKILL for the postmaster and all its processes.
-spec kill(pg()) -> ok.
kill(Pg) ->
    lists:foreach(fun(OsPid) -> signal(OsPid, "KILL") end, processes(Pg)).

-spec conninfo(pg()) -> string().
conninfo(#{dir := Dir}) ->
    "host=" ++ Dir ++ " port=5432 user=postgres dbname=llm_router".

%% What a router needs in its environment.
-spec env(pg()) -> [{string(), string()}].
env(Pg) ->
    [{"LLM_ROUTER_DATABASE_URL", conninfo(Pg)}].

%% llm_router --migrate with more environment: {Status, Stdout, Stderr}.
-spec migrate(pg(), [{string(), string()}]) ->
          {integer(), binary(), binary()}.
migrate(#{logs := Logs} = Pg, Env) ->
    router:run(#{dir => Logs, args => ["--migrate"], env => env(Pg) ++ Env}).

%% The same server by a psql of its own.
-spec connect(map()) -> pg().
connect(#{dir := Dir} = Pg) ->
    {ok, Session} = gen_server:start(?MODULE, Dir, []),
    Pg#{session => Session}.

-spec close(pg()) -> ok.
close(#{session := Session}) ->
    exit(Session, kill),
    ok.

script(Action, Dir, Args, Env) ->
    Port = open_port({spawn_executable, script()},
                     [{args, [Action, Dir | Args]}, {env, Env},
                      binary, exit_status]),
    script_output(Port, [Action, Dir | Args], []).

script_output(Port, Args, Acc) ->
    receive
        {Port, {data, Data}} -> script_output(Port, Args, [Acc | Data]);
        {Port, {exit_status, 0}} -> iolist_to_binary(Acc);
        {Port, {exit_status, Status}} -> error({postgres, Status, Args})
    end.

script() ->
    filename:join([router:project(), "scripts", "postgres"]).

%% ---------------------------------------------------------------- queries

%% The rows of one statement (several, if only one has rows). Fields are as
%% PostgreSQL writes them. An error of the server raises error({psql, Text}).
-spec query(pg(), iodata()) -> [row()].
query(#{session := Session}, Sql) ->
    case gen_server:call(Session, {query, Sql}, ?AWAY_MS + ?QUERY_MS) of
        {ok, Output} -> rows(Output);
        {error, Text} -> error({psql, Text})
    end.

%% The rows of a SELECT as maps: jsonb is decoded, numbers are numbers, all
%% else is text.
-spec maps(pg(), iodata()) -> [#{binary() => term()}].
maps(Pg, Select) ->
    [test_json:decode(Json)
     || [Json] <- query(Pg, ["SELECT to_jsonb(t) FROM (", Select, ") t"])].

%% The one field of the one row, as an integer if it is one.
-spec value(pg(), iodata()) -> integer() | binary() | null.
value(Pg, Select) ->
    [[Field]] = query(Pg, Select),
    case Field =/= null andalso string:to_integer(Field) of
        {Integer, <<>>} -> Integer;
        _ -> Field
    end.

%% A text constant.
-spec quote(iodata()) -> iodata().
quote(Text) ->
    [$', binary:replace(iolist_to_binary(Text), <<"'">>, <<"''">>, [global]),
     $'].

%% psql ends the last row with a newline.
rows(<<>>) ->
    [];
rows(Output) ->
    Rows = binary:part(Output, 0, byte_size(Output) - 1),
    [[field(Field) || Field <- binary:split(Row, <<?FIELD>>, [global])]
     || Row <- binary:split(Rows, <<?ROW>>, [global])].

field(<<?NULL>>) -> null;
field(Text) -> Text.

%% ----------------------------------------------------------------- queues

%% Puts a message on ai_requests: a map, or anything as JSON. Gives its msg_id.
-spec enqueue(pg(), map() | iodata()) -> pos_integer().
enqueue(Pg, Message) ->
    enqueue(Pg, "ai_requests", Message).

-spec enqueue(pg(), iodata(), map() | iodata()) -> pos_integer().
enqueue(Pg, Queue, Message) when is_map(Message) ->
    enqueue(Pg, Queue, test_json:encode(Message));
enqueue(Pg, Queue, Json) ->
    value(Pg, ["SELECT pgmq.send(", quote(Queue), "::text, ", quote(Json),
               "::jsonb)"]).

%% The messages of a queue, the oldest first.
-spec messages(pg(), iodata()) -> [term()].
messages(Pg, Queue) ->
    [test_json:decode(Json)
     || [Json] <- query(Pg, ["SELECT message FROM pgmq.q_", Queue,
                             " ORDER BY msg_id"])].

%% Those of ai_results.
-spec results(pg()) -> [map()].
results(Pg) ->
    messages(Pg, "ai_results").

%% The dead letters.
-spec dead(pg()) -> [map()].
dead(Pg) ->
    messages(Pg, "ai_requests_dlq").

%% How many requests are in the queue, those under way included.
-spec depth(pg()) -> non_neg_integer().
depth(Pg) ->
    depth(Pg, "ai_requests").

-spec depth(pg(), iodata()) -> non_neg_integer().
depth(Pg, Queue) ->
    value(Pg, ["SELECT count(*) FROM pgmq.q_", Queue]).

%% How many requests were archived.
-spec archived(pg()) -> non_neg_integer().
archived(Pg) ->
    value(Pg, "SELECT count(*) FROM pgmq.a_ai_requests").

%% Empties all queues and the router's tables, between tests that look at
%% everything. Nothing may be under way.
-spec clear(pg()) -> ok.
clear(Pg) ->
    Tables = query(Pg, "SELECT format('%I.%I', schemaname, tablename)"
                   " FROM pg_tables"
                   " WHERE schemaname = 'pgmq' AND tablename ~ '^[qa]_'"
                   " OR schemaname = 'public' AND tablename IN"
                   " ('ai_results', 'job_results', 'llm_metrics')"),
    [] = query(Pg, ["TRUNCATE ", lists:join(", ", lists:append(Tables))]),
    ok.

%% The first message on ai_results with this id, or `none`.
-spec result(pg(), binary()) -> map() | none.
result(Pg, RequestId) ->
    case query(Pg, ["SELECT message FROM pgmq.q_ai_results"
                    " WHERE message->>'request_id' = ", quote(RequestId),
                    " ORDER BY msg_id LIMIT 1"]) of
        [[Json]] -> test_json:decode(Json);
        [] -> none
    end.

%% The same when it is there.
-spec await_result(pg(), binary()) -> map().
await_result(Pg, RequestId) ->
    bed:eventually(fun() -> result(Pg, RequestId) =/= none end, ?RESULT_MS),
    result(Pg, RequestId).

%% All of ai_results when there are at least so many.
-spec await_results(pg(), pos_integer()) -> [map()].
await_results(Pg, Count) ->
    bed:eventually(fun() -> depth(Pg, "ai_results") >= Count end, ?RESULT_MS),
    results(Pg).

%% A new request_id (version 4).
-spec uuid() -> binary().
uuid() ->
    <<A:8/binary, B:4/binary, _, C:3/binary, _, D:3/binary, E:12/binary,
      _/binary>> =
        << <<(hd(integer_to_list(N, 16)))>> || <<N:4>> <= rand:bytes(17) >>,
    string:lowercase(iolist_to_binary([A, "-", B, "-4", C, "-8", D, "-", E])).

%% ----------------------------------------------------------------- NOTIFY

%% Listens on a channel; heard/1 with what this gives, and close/1 in the end.
-spec listen(pg(), iodata()) -> pg().
listen(Pg, Channel) ->
    Listener = connect(Pg),
    [] = query(Listener, ["LISTEN \"", Channel, "\""]),
    Listener.

%% The payloads that came since it was last asked.
-spec heard(pg()) -> [binary()].
heard(#{session := Session}) ->
    {ok, Payloads} = gen_server:call(Session, heard, ?AWAY_MS + ?QUERY_MS),
    Payloads.

%% -------------------------------------------------------------- processes

%% Of the postmaster; `none` when it was stopped.
-spec pid(pg()) -> pos_integer() | none.
pid(#{dir := Dir}) ->
    case file:read_file([Dir, "/data/postmaster.pid"]) of
        {ok, File} -> binary_to_integer(hd(binary:split(File, <<"\n">>)));
        {error, enoent} -> none
    end.

%% The postmaster and its children, to stop or kill the server as a whole.
-spec processes(pg()) -> [pos_integer()].
processes(Pg) ->
    case pid(Pg) of
        none ->
            [];
        Pid ->
            Children = os:cmd("ps -o pid= --ppid " ++ integer_to_list(Pid)),
            [Pid | [list_to_integer(P) || P <- string:lexemes(Children, " \n")]]
    end.

%% The server's processes for connections with this application_name.
-spec backends(pg(), iodata()) -> [pos_integer()].
backends(Pg, ApplicationName) ->
    [binary_to_integer(OsPid)
     || [OsPid] <- query(Pg, ["SELECT pid FROM pg_stat_activity"
                              " WHERE application_name = ",
                              quote(ApplicationName), " ORDER BY pid"])].

-spec signal(pos_integer(), string()) -> ok.
signal(OsPid, Name) ->
    _ = os:cmd("kill -s " ++ Name ++ " " ++ integer_to_list(OsPid)),
    ok.

%% ---------------------------------------------------------------- session

%% The process that owns a psql. An error ends psql (ON_ERROR_STOP), and so
%% does a server that went away, which is looked for before each query.
init(Dir) ->
    {ok, #{dir => Dir, port => none, heard => []}}.

handle_call({query, Sql}, _From, State) ->
    Trimmed = string:trim(Sql, trailing, "; \n"),
    case reach(State, bed:now_ms() + ?AWAY_MS) of
        {ok, _, Reached} -> reply(ask(Reached, [Trimmed, "\n;\n"]));
        Unreachable -> reply(Unreachable)
    end;
handle_call(heard, _From, State) ->
    case reach(State, bed:now_ms() + ?AWAY_MS) of
        {ok, _, #{heard := Heard} = Reached} ->
            reply({ok, lists:reverse(Heard), Reached#{heard := []}});
        Unreachable ->
            reply(Unreachable)
    end.

reply({Ok, Answer, State}) -> {reply, {Ok, Answer}, State}.

handle_cast(_, State) ->
    {noreply, State}.

handle_info({Port, {exit_status, _}}, #{port := Port} = State) ->
    {noreply, State#{port := none}};
handle_info(_, State) ->
    {noreply, State}.

%% Gives a psql whose server answers.
reach(#{port := none, dir := Dir} = State, Deadline) ->
    reach(State#{port := psql(Dir)}, Deadline);
reach(State, Deadline) ->
    case ask(State, "SET client_min_messages TO error;\n") of
        {error, _, Ended} = Error ->
            case bed:now_ms() < Deadline of
                true -> timer:sleep(20), reach(Ended, Deadline);
                false -> Error
            end;
        Answered ->
            Answered
    end.

psql(Dir) ->
    open_port({spawn_executable, script()},
              [{args, ["psql", Dir, "-qAt", "-F", [?FIELD], "-R", [?ROW],
                       "-P", "null=" ++ [?NULL]]},
               {env, [{"PGCLIENTENCODING", "UTF8"}, {"PGAPPNAME", "test"}]},
               binary, stderr_to_stdout, exit_status]).

%% What psql says until it is through with this SQL. One that has ended cannot
%% be written to, but has left a message.
ask(#{port := Port} = State, Sql) ->
    try
        port_command(Port, [Sql, "\\echo ", ?END, "\n"])
    catch
        error:badarg -> ended
    end,
    answer(State, <<>>).

answer(#{port := Port} = State, Acc) ->
    receive
        {Port, {data, Data}} ->
            Output = <<Acc/binary, Data/binary>>,
            case string:split(Output, ?END "\n", trailing) of
                [Answer, <<>>] -> without_news(State, Answer);
                _ -> answer(State, Output)
            end;
        {Port, {exit_status, _}} ->
            {error, Acc, State#{port := none}}
    end.

%% After an answer psql says what it was notified of, a line each.
without_news(#{heard := Heard} = State, Answer) ->
    Line = "^Asynchronous notification \"[^\"]*\""
        "(?: with payload \"(.*)\")? received from server .*\n",
    News = case re:run(Answer, Line, [multiline, global,
                                      {capture, [1], binary}]) of
               {match, Payloads} -> lists:append(Payloads);
               nomatch -> []
           end,
    Rows = re:replace(Answer, Line, "", [multiline, global, {return, binary}]),
    {ok, Rows, State#{heard := lists:reverse(News) ++ Heard}}.
