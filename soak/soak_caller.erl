%% One caller of the soak: a process that asks one thing after another, in every
%% form and of every kind, and checks each answer. Runs on a caller's node.
-module(soak_caller).

-export([start/1, stop/1]).

-define(ANSWER_MS, 30000).
-define(SETTLE_MS, 3000).

%% What may become of a call when a provider fails, and when its router is
%% killed. Anything else is `wrong`.
-define(ERRORS, [timeout, unreachable, rate_limited, provider_error,
                 bad_response, invalid_output, task_count, overloaded,
                 shutting_down]).
-define(GONE, [noproc, nodedown, noconnection]).

%% counts: of {Kind, Outcome}; wrong: the latest of what should not have
%% happened, with what was asked (in counts they are `noted`); slowest: in ms.
-type totals() :: #{counts := #{{atom(), atom()} => pos_integer()},
                    wrong := list(), slowest := non_neg_integer()}.
-export_type([totals/0]).

%% Opts: steady, a router that is never killed; mortal, routers that are; name,
%% of this caller, unique; pause, milliseconds between two calls.
-spec start(map()) -> pid().
start(Opts) ->
    spawn(fun() -> init(Opts) end).

-spec stop(pid()) -> totals().
stop(Pid) ->
    Monitor = monitor(process, Pid),
    Pid ! {stop, self()},
    receive
        {Pid, Totals} -> demonitor(Monitor, [flush]), Totals;
        {'DOWN', Monitor, _, _, Reason} -> error({caller_died, Reason})
    end.

init(Opts) ->
    _ = rand:seed(exsss),
    loop(0, Opts, #{counts => #{}, wrong => [], slowest => 0}).

loop(N, #{pause := Pause} = Opts, Totals) ->
    receive
        {stop, From} ->
            timer:sleep(?SETTLE_MS),
            From ! {self(), junk(Totals)}
    after Pause ->
            loop(N + 1, Opts, junk(one(N, Opts, Totals)))
    end.

%% Nothing is left in the mailbox by a call; what comes later is found then.
junk(Totals) ->
    receive
        {stop, _} = Stop -> self() ! Stop, Totals;
        Junk -> junk(wrong({junk, Junk}, Totals))
    after 0 -> Totals
    end.

one(N, #{name := Name} = Opts, Totals) ->
    Prompt = iolist_to_binary(["Caller ", Name, " asks ", integer_to_list(N)]),
    {Kind, Ask} = pick(kinds()),
    {Router, Mortal} = router(Opts),
    Start = erlang:monotonic_time(millisecond),
    Outcome = try Ask(Router, Prompt)
              catch Class:Reason -> {caught, Class, Reason}
              end,
    Ms = erlang:monotonic_time(millisecond) - Start,
    count(Kind, judge(Outcome, Mortal), {Kind, Router, Prompt, Outcome}, Ms,
          Totals).

router(#{steady := Steady, mortal := Mortal}) ->
    case rand:uniform(3) of
        1 -> {pick(Mortal), true};
        _ -> {Steady, false}
    end.

judge(ok, _) -> ok;
judge({ok, other}, _) -> wrong;
judge({error, Code}, _) -> allowed(Code, ?ERRORS);
judge({gone, Reason}, true) -> allowed(Reason, [timeout | ?GONE]);
%% The global name is a mortal's.
judge({named, {gone, Reason}}, _) -> allowed(Reason, [timeout | ?GONE]);
judge({named, Other}, _) -> judge(Other, false);
judge(_, _) -> wrong.

allowed(Reason, Known) ->
    case lists:member(Reason, Known) of
        true -> Reason;
        false -> wrong
    end.

count(Kind, wrong, Detail, Ms, Totals) ->
    count(Kind, noted, Detail, Ms, wrong(Detail, Totals));
count(Kind, Outcome, _Detail, Ms, Totals) ->
    #{counts := Counts, slowest := Slowest} = Totals,
    Totals#{counts := maps:update_with({Kind, Outcome},
                                       fun(C) -> C + 1 end, 1, Counts),
            slowest := max(Ms, Slowest)}.

wrong(What, #{wrong := Wrong} = Totals) ->
    Totals#{wrong := lists:sublist([What | Wrong], 20)}.

pick(List) ->
    lists:nth(rand:uniform(length(List)), List).

%% ------------------------------------------------------------------ kinds

kinds() ->
    [{Form, fun(R, P) -> text(Form, R, P) end} || Form <- ask:forms()]
        ++ [{task, fun task/2}, {tasks, fun tasks/2}, {subtasks, fun subtasks/2},
            {embedding, fun embedding/2}, {stream, fun stream/2},
            {stream, fun stream/2}, {shared, fun shared/2},
            {cancelled, fun cancelled/2}, {given_up, fun given_up/2},
            {ping, fun ping/2}, {health, fun health/2}].

text(Form, Router, Prompt) ->
    Expected = <<"You wrote: ", Prompt/binary>>,
    Outcome = case ask:text(Form, Router, ask:op(Prompt), ?ANSWER_MS) of
                  {ok, Expected} -> ok;
                  {ok, _} -> {ok, other};
                  Other -> Other
              end,
    case Form of
        by_global_name -> {named, Outcome};
        _ -> Outcome
    end.

%% {ok, Value} becomes ok when Check says so.
call(Router, Op, Check) ->
    try gen_server:call({llm_router, Router}, Op, ?ANSWER_MS) of
        {error, {Code, #{message := _}}} -> {error, Code};
        Answer ->
            case Check(Answer) of
                true -> ok;
                false -> {ok, other}
            end
    catch
        exit:{{nodedown, _}, _} -> {gone, nodedown};
        exit:{Reason, {gen_server, call, _}} -> {gone, Reason}
    end.

task(Router, Prompt) ->
    call(Router, {generate_task, Prompt},
         fun({ok, #{title := Title}}) -> Title =:= Prompt; (_) -> false end).

tasks(Router, Prompt) ->
    Document = <<"# ", Prompt/binary, "\n\n- one\n- two\n- three\n">>,
    call(Router, {parse_prd, Document, 3},
         fun({ok, Tasks}) -> [1, 2, 3] =:= [I || #{id := I} <- Tasks];
            (_) -> false
         end).

subtasks(Router, Prompt) ->
    call(Router, {expand_task, #{id => 7, title => Prompt}, #{num => 2}},
         fun({ok, #{id := 7, title := T, subtasks := [_, _]}}) -> T =:= Prompt;
            (_) -> false
         end).

embedding(Router, Prompt) ->
    call(Router, {embed, [Prompt, <<"other">>], #{model => <<"one/embedder">>}},
         fun({ok, #{embeddings := [[_ | _], [_ | _]]}}) -> true;
            (_) -> false
         end).

ping(Router, _Prompt) ->
    call(Router, ping, fun(Answer) -> Answer =:= pong end).

health(Router, _Prompt) ->
    call(Router, health, fun(Answer) -> is_map(Answer) end).

%% Two processes with one request_id: both get the answer.
shared(Router, Prompt) ->
    Op = ask:op(Prompt, #{request_id => Prompt}),
    Self = self(),
    Expected = <<"You wrote: ", Prompt/binary>>,
    Check = fun({ok, #{text := Text}}) -> Text =:= Expected; (_) -> false end,
    {Pid, Monitor} =
        spawn_monitor(fun() -> Self ! {self(), call(Router, Op, Check)} end),
    Mine = call(Router, Op, Check),
    Other = receive {Pid, Outcome} -> Outcome end,
    receive {'DOWN', Monitor, _, _, _} -> ok end,
    case {Mine, Other} of
        {ok, _} -> Other;
        _ -> Mine
    end.

%% A stream's parts are its whole, and it has one end.
stream(Router, Prompt) ->
    Messages = [#{role => user, content => Prompt}],
    Server = {llm_router, Router},
    Monitor = monitor(process, Server),
    Outcome = try gen_server:call(Server, {stream, simple, Messages, #{}},
                                  ?ANSWER_MS) of
                  {ok, Ref} -> parts(Ref, Monitor, Prompt, <<>>);
                  {error, {Code, _}} -> {error, Code}
              catch
                  exit:{{nodedown, _}, _} -> {gone, nodedown};
                  exit:{Reason, {gen_server, call, _}} -> {gone, Reason}
              end,
    demonitor(Monitor, [flush]),
    Outcome.

parts(Ref, Monitor, Prompt, So) ->
    receive
        {llm_stream, Ref, {delta, Part}} ->
            parts(Ref, Monitor, Prompt, <<So/binary, Part/binary>>);
        {llm_stream, Ref, {done, #{text := Text}}} ->
            case {Text, <<"You wrote: ", Prompt/binary>>} of
                {So, So} -> ok;
                _ -> {ok, other}
            end;
        {llm_stream, Ref, {error, {Code, _}}} ->
            {error, Code};
        {'DOWN', Monitor, _, _, Reason} ->
            {gone, Reason}
    after ?ANSWER_MS ->
            {gone, timeout}
    end.

%% A caller that dies.
cancelled(Router, Prompt) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        ask:text(by_node_name, Router, ask:op(Prompt), ?ANSWER_MS)
    end),
    timer:sleep(rand:uniform(30)),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

%% A call whose caller waits no longer; its late answer must not come.
given_up(Router, Prompt) ->
    case ask:text(by_node_name, Router, ask:op(Prompt), rand:uniform(10)) of
        {gone, timeout} -> ok;
        {ok, _} -> ok;
        Other -> Other
    end.
