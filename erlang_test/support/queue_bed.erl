%% A bed with a queue: PostgreSQL with pgmq, a scripted provider, and a router
%% for each test, with the configuration that the test names.
%%
%%     init_per_suite(Config) -> queue_bed:up(Config, #{}).
%%     end_per_suite(Config) -> queue_bed:down(Config).
%%
%%     a_test(Config) ->
%%         queue_bed:with(Config, #{"queue.in_flight" => 1}, fun(Up) ->
%%             Id = queue_bed:ask(Up, queue_bed:chat(<<"hi">>)),
%%             #{<<"status">> := <<"success">>} = queue_bed:await(Up, Id)
%%         end).
-module(queue_bed).

-export([up/2, down/1, pg/1, env/2]).
-export([with/3, with_env/3, with_other/3]).
-export([start/2, start_with/2, stop/1, clear/1, logged/2]).
-export([chat/1, chat/2, ask/2, await/2, answer/2, all/3, row/3]).
-export([handle/2, asked/1, says/1, fails/1, fails/2, gate/0, gated/1, open/1]).
-export([stats/1, stats/2, await_stats/3, await_stats/4]).

-define(GATE_MS, 20000).

%% Opts: of bed:up/2 (router is none) and postgres:start/2.
-spec up(list(), map()) -> list().
up(Config, Opts) ->
    Pg = postgres:start(proplists:get_value(priv_dir, Config),
                        maps:with([pgmq, migrate], Opts)),
    [{pg, Pg} | bed:up(Config, Opts#{router => none})].

-spec down(list()) -> ok.
down(Config) ->
    ok = postgres:stop(pg(Config)),
    bed:down(Config).

-spec pg(list()) -> postgres:pg().
pg(Config) ->
    proplists:get_value(pg, Config).

%% ----------------------------------------------------------------- router

%% Keys of the configuration, by the names that the documentation has, as the
%% environment of a router that knows the database. One question to a provider
%% is one try, unless a test says otherwise.
-spec env(list(), #{string() => term()}) -> [{string(), string()}].
env(Config, Keys) ->
    postgres:env(pg(Config))
        ++ [{variable(Key), text(Value)}
            || {Key, Value} <- maps:to_list(
                                 maps:merge(#{"retry.max" => 0}, Keys))].

variable(Key) ->
    lists:flatten(["LLM_ROUTER_",
                   string:uppercase(string:replace(Key, ".", "_", all))]).

text(Atom) when is_atom(Atom) -> atom_to_list(Atom);
text(Integer) -> integer_to_list(Integer).

%% Runs Test beside a fresh router, with empty queues and tables.
-spec with(list(), #{string() => term()}, fun((list()) -> term())) -> ok.
with(Config, Keys, Test) ->
    clear(Config),
    beside(start(Config, Keys), Test).

%% Beside one that has just this in its environment.
-spec with_env(list(), [{string(), string()}], fun((list()) -> term())) -> ok.
with_env(Config, Env, Test) ->
    beside(start_with(Config, #{env => Env}), Test).

beside(Up, Test) ->
    try
        Test(Up)
    after
        stop(Up)
    end,
    ok.

%% Runs Test with the name of one more router on the same queue.
-spec with_other(list(), #{string() => term()}, fun((node()) -> term())) -> ok.
with_other(Up, Keys, Test) ->
    Other = bed:run_router(Up, bed:node_name(router),
                           #{connect => [], env => env(Up, Keys)}),
    Node = router:node(Other),
    try
        await_stats(Up, Node, state, up),
        Test(Node)
    after
        {exited, 0} = router:stop(Other)
    end,
    ok.

%% A router that is connected to the database.
-spec start(list(), #{string() => term()}) -> list().
start(Config, Keys) ->
    Up = start_with(Config, #{env => env(Config, Keys)}),
    await_stats(Up, state, up),
    Up.

%% With Opts of bed:start_router/2, and a name of its own: one that a test
%% leaves behind is in nobody's way.
-spec start_with(list(), map()) -> list().
start_with(Config, Opts) ->
    bed:start_router(bed:renamed(Config), Opts#{connect => []}).

%% One that the test has stopped is none.
-spec stop(list()) -> ok.
stop(Up) ->
    Stopped = bed:stop_router(Up),
    ct:log("~ts", [router:stderr(bed:router(Up))]),
    true = lists:member(Stopped, [{exited, 0}, none]),
    ok.

%% Is the text in the router's log?
-spec logged(list(), iodata()) -> boolean().
logged(Up, Text) ->
    string:find(router:stderr(bed:router(Up)), Text) =/= nomatch.

-spec clear(list()) -> ok.
clear(Config) ->
    postgres:clear(pg(Config)),
    handle(Config, fun scripted_model:from_document/1).

%% --------------------------------------------------------------- messages

%% A message with a new id.
-spec chat(binary()) -> map().
chat(Text) ->
    chat(Text, #{}).

-spec chat(binary(), map()) -> map().
chat(Text, More) ->
    maps:merge(#{request_id => postgres:uuid(), complexity => simple,
                 messages => [#{role => user, content => Text}]}, More).

%% Puts a message on the queue and gives its id.
-spec ask(list(), map()) -> binary().
ask(Config, #{request_id := Id} = Message) ->
    _ = postgres:enqueue(pg(Config), Message),
    Id.

%% The first result of a request.
-spec await(list(), binary()) -> map().
await(Config, Id) ->
    postgres:await_result(pg(Config), Id).

%% Asks, and gives the result.
-spec answer(list(), map()) -> map().
answer(Config, Message) ->
    await(Config, ask(Config, Message)).

%% All of its results, the oldest first, when there are so many.
-spec all(list(), binary(), pos_integer()) -> [map()].
all(Config, Id, Count) ->
    Find = fun() ->
                   [R || #{<<"request_id">> := I} = R
                             <- postgres:results(pg(Config)), I =:= Id]
           end,
    bed:eventually(fun() -> length(Find()) >= Count end, ?GATE_MS),
    Find().

%% The one row of a table for a request.
-spec row(list(), atom(), binary()) -> map().
row(Config, Table, Id) ->
    Key = case Table of job_results -> id; _ -> request_id end,
    [Row] = postgres:maps(pg(Config),
                          io_lib:format("SELECT * FROM ~s WHERE ~s = '~s'",
                                        [Table, Key, Id])),
    Row.

%% --------------------------------------------------------------- provider

-spec handle(list(), scripted_provider:handler()) -> ok.
handle(Config, Handler) ->
    scripted_provider:set_handler(bed:provider(Config), Handler).

%% How many questions the provider got.
-spec asked(list()) -> non_neg_integer().
asked(Config) ->
    length(scripted_provider:requests(bed:provider(Config))).

%% Handlers: of one answer; of one error; of answers that wait until open/1
%% is told by the process that made the handler.
says(Text) ->
    fun(_) -> scripted_provider:answer(Text) end.

fails(Status) ->
    fails(Status, []).

fails(Status, Headers) ->
    fun(_) -> scripted_provider:error(Status, no, <<"no">>, Headers) end.

gate() ->
    Test = self(),
    fun(Request) ->
            Test ! {asked, self()},
            receive open -> scripted_model:from_document(Request)
            after ?GATE_MS -> [close]
            end
    end.

%% The next N questions that wait at a gate.
-spec gated(non_neg_integer()) -> [pid()].
gated(N) ->
    [receive {asked, Pid} -> Pid after ?GATE_MS -> error(not_asked) end
     || _ <- lists:seq(1, N)].

-spec open([pid()]) -> ok.
open(Pids) ->
    lists:foreach(fun(Pid) -> Pid ! open end, Pids).

%% ------------------------------------------------------------------ stats

-spec stats(list()) -> map().
stats(Config) ->
    stats(Config, bed:node(Config)).

%% What a router says of its queue.
-spec stats(list(), node()) -> map().
stats(Config, Node) ->
    #{pgmq := Stats} = bed:on(bed:caller(Config), fun() ->
        gen_server:call({llm_router, Node}, stats)
    end),
    Stats.

%% Waits until one of its figures is so.
-spec await_stats(list(), atom(), term()) -> ok.
await_stats(Config, Figure, Value) ->
    await_stats(Config, bed:node(Config), Figure, Value).

-spec await_stats(list(), node(), atom(), term()) -> ok.
await_stats(Config, Node, Figure, Value) ->
    bed:eventually(fun() ->
                           maps:get(Figure, stats(Config, Node)) =:= Value
                   end, ?GATE_MS),
    ok.
