%% Calls from one node at a steady rate, whatever becomes of the routers: each
%% call is repeated until it is answered, and what comes besides its answer is
%% counted. Runs on a caller's node.
%%
%%     Pid = chaos_caller:start(#{routers => [A, B], rate => 50, seed => 1}),
%%     #{answered := N, lost := []} = chaos_caller:stop(Pid)
%%
%% Every call has a process of its own while it lasts. These processes are used
%% again and none ends before the last call did, so that an answer that comes
%% twice, or late, finds its mailbox, where stop/1 finds it.
-module(chaos_caller).

-export([start/1, stop/1]).

%% A call is lost that has no answer after this time: global.erl waits for nodes
%% that do not answer until they are believed to be down, sleeps up to 8 s
%% between two tries for its lock, and may meet the next fault then. An attempt
%% is given up after the other time; a message only when its monitor says so.
-define(LOST_MS, 60000).
-define(ATTEMPT_MS, 3000).
-define(PAUSE_MS, 100).
-define(SETTLE_MS, 2000).

%% Why an attempt may have no answer; anything else is `wrong`.
-define(GONE, [noproc, nodedown, noconnection, timeout]).
-define(ERRORS, [shutting_down, overloaded]).

%% What became of the calls: calls and answered count them, lost and wrong list
%% them, junk what else came, failures counts attempts by why they failed,
%% slowest is the longest time to an answer, in ms, and in which way it came.
-type totals() :: #{calls := non_neg_integer(), answered := non_neg_integer(),
                    lost := list(), wrong := list(), junk := list(),
                    failures := #{atom() => pos_integer()},
                    slowest := {non_neg_integer(), ask:form() | none}}.

%% Opts: routers, the nodes to ask; rate, calls a second; seed.
-spec start(map()) -> pid().
start(Opts) ->
    spawn(fun() -> init(Opts) end).

%% Begins no more calls, and waits for the end of those that have begun.
-spec stop(pid()) -> totals().
stop(Pid) ->
    Monitor = monitor(process, Pid),
    Pid ! {stop, self()},
    receive
        {Pid, Totals} -> demonitor(Monitor, [flush]), Totals;
        {'DOWN', Monitor, _, _, Reason} -> error(Reason)
    end.

init(#{routers := Routers, rate := Rate, seed := Seed}) ->
    _ = rand:seed(exsss, Seed),
    run(#{routers => Routers, rate => Rate, started => now_ms(), next => 0,
          idle => [], busy => 0,
          totals => #{calls => 0, answered => 0, lost => [], wrong => [],
                      junk => [], failures => #{}, slowest => {0, none}}}).

now_ms() ->
    erlang:monotonic_time(millisecond).

%% The calls' times are fixed at the start: what is late is made up for.
run(#{rate := Rate, started := Started, next := Next} = State) ->
    Due = Started + Next * 1000 div Rate,
    receive
        {stop, From} -> finish(From, State);
        {done, Worker, Outcome} -> run(done(Worker, Outcome, State))
    after max(0, Due - now_ms()) ->
            run(begin_call(State))
    end.

begin_call(#{idle := Idle, busy := Busy, next := Next} = State) ->
    {Worker, Rest} = case Idle of
                         [] -> {new_worker(), []};
                         [First | Others] -> {First, Others}
                     end,
    Worker ! {call, new_call(Next, State)},
    State#{idle := Rest, busy := Busy + 1, next := Next + 1}.

new_call(Number, #{routers := Routers}) ->
    Form = pick(ask:forms()),
    Id = iolist_to_binary(io_lib:format("call ~b of ~b",
                                        [Number, erlang:phash2(node())])),
    Op = case Form of
             by_message -> ask:op(Id, #{request_id => Id});
             _ -> ask:op(Id)
         end,
    #{id => Id, form => Form, op => Op, routers => Routers, at => now_ms(),
      failures => []}.

pick(List) ->
    lists:nth(rand:uniform(length(List)), List).

done(Worker, {What, Call}, #{idle := Idle, busy := Busy} = State) ->
    #{totals := #{calls := Calls} = Totals} = State,
    State#{idle := [Worker | Idle], busy := Busy - 1,
           totals := count(What, Call, Totals#{calls := Calls + 1})}.

count(What, #{at := At, form := Form, failures := Failures} = Call, Totals) ->
    #{answered := Answered, slowest := Slowest, failures := Seen} = Totals,
    Counted = Totals#{failures := lists:foldl(fun count_failure/2, Seen,
                                              Failures)},
    case What of
        answered ->
            Counted#{answered := Answered + 1,
                     slowest := max(Slowest, {now_ms() - At, Form})};
        _ ->
            maps:update_with(What,
                             fun(Calls) ->
                                     [maps:with([id, form, failures], Call)
                                      | Calls]
                             end, Counted)
    end.

count_failure(Why, Seen) ->
    maps:update_with(Why, fun(N) -> N + 1 end, 1, Seen).

finish(From, #{busy := 0, idle := Workers, totals := Totals}) ->
    timer:sleep(?SETTLE_MS),
    Junk = lists:append([junk_of(Worker) || Worker <- Workers]),
    From ! {self(), Totals#{junk := Junk}};
finish(From, State) ->
    receive
        {done, Worker, Outcome} -> finish(From, done(Worker, Outcome, State))
    end.

junk_of(Worker) ->
    Worker ! {report, self()},
    receive {Worker, Junk} -> Junk end.

%% ---------------------------------------------------------------- workers

new_worker() ->
    Parent = self(),
    Seed = rand:uniform(1 bsl 58),
    spawn_link(fun() -> rand:seed(exsss, Seed), worker(Parent) end).

worker(Parent) ->
    receive
        {call, Call} ->
            Parent ! {done, self(), attempt(Call)},
            worker(Parent);
        {report, Parent} ->
            Parent ! {self(), everything()}
    end.

everything() ->
    receive Message -> [Message | everything()] after 0 -> [] end.

attempt(#{id := Id, form := Form, op := Op, routers := Routers} = Call) ->
    Limit = case Form of
                by_message -> ?LOST_MS;
                _ -> ?ATTEMPT_MS
            end,
    case ask:text(Form, pick(Routers), Op, Limit) of
        {ok, <<"You wrote: ", Id/binary>>} ->
            {answered, Call};
        {ok, _Other} ->
            {wrong, failed(Call, wrong_answer)};
        {Kind, Why} ->
            Again = lists:member(Why, case Kind of
                                          gone -> ?GONE;
                                          error -> ?ERRORS
                                      end),
            again(Again, failed(Call, Why))
    end.

failed(#{failures := Failures} = Call, Why) ->
    Call#{failures := [Why | Failures]}.

again(false, Call) ->
    {wrong, Call};
again(true, #{at := At} = Call) ->
    case now_ms() - At < ?LOST_MS of
        true ->
            timer:sleep(rand:uniform(?PAUSE_MS)),
            attempt(Call);
        false ->
            {lost, Call}
    end.
