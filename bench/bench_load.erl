%% The load, made on the caller's node.
-module(bench_load).

-export([window/3, wave/2, rate/3]).
-export([start_large/2, stop_large/1, await_other/2]).
-export_type([call/0]).

-define(ANSWER_MS, 60000).
-define(HEAP_WORDS, 100000). % no garbage collection while few callers measure

%% One call and the answer that counts as success.
-type call() :: {ping, gen_server:server_ref()}
              | {ping, node(), module()}
              | {generate_task, gen_server:server_ref(), binary()}
              | {ask, gen_server:server_ref(), map()}
              | {call, gen_server:server_ref(), Operation :: tuple()}.

%% Callers processes call again and again for Ms milliseconds. A wrong answer
%% ends the measurement.
-spec window(call(), pos_integer(), pos_integer()) -> #{atom() => number()}.
window(Call, Callers, Ms) ->
    Fun = to_fun(Call),
    Start = now_ns(),
    End = Start + Ms * 1000000,
    Heap = max(1000, ?HEAP_WORDS div Callers),
    Pids = [spawn_opt(fun() -> exit({took, repeat(Fun, now_ns(), End, [])}) end,
                      [monitor, {min_heap_size, Heap}])
            || _ <- lists:seq(1, Callers)],
    Took = lists:append([await(Pid) || Pid <- Pids]),
    Seconds = (now_ns() - Start) / 1.0e9,
    Sorted = list_to_tuple(lists:sort(Took)),
    Count = tuple_size(Sorted),
    #{calls => Count,
      calls_per_s => Count / Seconds,
      median_us => element((Count + 1) div 2, Sorted) / 1000,
      p99_us => element(max(1, Count * 99 div 100), Sorted) / 1000,
      longest_ms => element(Count, Sorted) / 1.0e6}.

repeat(_Fun, Now, End, Took) when Now >= End ->
    Took;
repeat(Fun, Now, End, Took) ->
    Fun(),
    Later = now_ns(),
    repeat(Fun, Later, End, [Later - Now | Took]).

await({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {took, Took}} -> Took;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.

%% Callers processes call once, all at the same time: how many had the right
%% answer, and after how many milliseconds the last answer came.
-spec wave(call(), pos_integer()) ->
    #{answered := non_neg_integer(), last_ms := float()}.
wave(Call, Callers) ->
    Fun = to_fun(Call),
    Start = now_ns(),
    Pids = [spawn_monitor(fun() -> Fun(), exit({took, [now_ns() - Start]}) end)
            || _ <- lists:seq(1, Callers)],
    Took = lists:append([took_or_none(Pid) || Pid <- Pids]),
    #{answered => length(Took), last_ms => lists:max([0 | Took]) / 1.0e6}.

took_or_none({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {took, Took}} -> Took;
        {'DOWN', Monitor, process, Pid, _} -> []
    end.

%% So many calls a second for Ms milliseconds, none of which waits for another:
%% when each began (ms), after how many microseconds it was answered, and the
%% answer.
-spec rate(call(), pos_integer(), pos_integer()) ->
    [{At :: integer(), Us :: float(), Answer :: term()}].
rate(Call, PerSecond, Ms) ->
    Fun = to_fun(Call),
    Start = now_ns(),
    Pids = [begin
                await_until(Start + N * 1000000000 div PerSecond),
                spawn_monitor(fun() -> exit({took, timed(Fun, Start)}) end)
            end || N <- lists:seq(0, PerSecond * Ms div 1000 - 1)],
    [await(Pid) || Pid <- Pids].

await_until(Due) ->
    timer:sleep(max(0, (Due - now_ns()) div 1000000)).

timed(Fun, Start) ->
    Begun = now_ns(),
    Answer = Fun(),
    {(Begun - Start) div 1000000, (now_ns() - Begun) / 1000, Answer}.

%% A process that asks with a prompt of so many bytes, again and again.
-spec start_large(gen_server:server_ref(), pos_integer()) -> pid().
start_large(Server, Bytes) ->
    spawn(fun() -> ask_large(Server, binary:copy(<<"x">>, Bytes), 0) end).

%% Waits for its last answer; how many it had.
-spec stop_large(pid()) -> non_neg_integer().
stop_large(Pid) ->
    Pid ! {stop, self()},
    receive {Pid, Answers} -> Answers end.

ask_large(Server, Prompt, Answers) ->
    receive
        {stop, From} -> From ! {self(), Answers}
    after 0 ->
            {ok, #{text := _}} =
                gen_server:call(Server, {call_with_prompt, simple, Prompt},
                                ?ANSWER_MS),
            ask_large(Server, Prompt, Answers + 1)
    end.

%% When (system time in us) another router than Node's answers to the global
%% name.
-spec await_other(node(), timeout()) -> integer() | never.
await_other(Node, Ms) ->
    Known = atom_to_binary(Node),
    Deadline = now_ns() + Ms * 1000000,
    await_other_until(Known, Deadline).

await_other_until(Known, Deadline) ->
    Answered = try gen_server:call({global, llm_router}, version, 1000) of
                   #{node := Answering} -> Answering =/= Known
               catch exit:_ -> false
               end,
    case Answered of
        true ->
            os:system_time(microsecond);
        false ->
            timer:sleep(1),
            Late = now_ns() > Deadline,
            if Late -> never; true -> await_other_until(Known, Deadline) end
    end.

to_fun({ping, Server}) ->
    fun() -> pong = gen_server:call(Server, ping, ?ANSWER_MS) end;
to_fun({ping, Node, Module}) ->
    fun() -> pong = rpc:call(Node, Module, ping, []) end;
to_fun({ask, Server, Opts}) ->
    Request = {call_with_prompt, simple, <<"Say something.">>, Opts},
    fun() -> gen_server:call(Server, Request, ?ANSWER_MS) end;
to_fun({call, Server, Operation}) ->
    fun() -> {ok, #{text := _}} = gen_server:call(Server, Operation, ?ANSWER_MS)
    end;
to_fun({generate_task, Server, Prompt}) ->
    Request = {generate_task, Prompt},
    fun() -> {ok, #{title := _}} = gen_server:call(Server, Request, ?ANSWER_MS)
    end.

now_ns() ->
    erlang:monotonic_time(nanosecond).
