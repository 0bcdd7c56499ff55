%% Many short lives (injection_life), each with another fault, several at a
%% time: which faults there are, which of them are tried, what came of them.
%%
%%     Plan = injection:allocations(Lane, calls, Share) ++
%%         injection:system_calls(Lane, calls, Share),
%%     #{bad := []} = injection:sweep(Config, "calls", Plan)
%%
%% Share is `all`, {every, Step}: one of so many, from a random one on, or
%% {some, Lives}: about so many of them in the same way. A sweep prints a line
%% as it goes on, one for each bad life with the words that scripts/inject
%% repeats it by, and a summary.
-module(injection).

-export([allocations/4, system_calls/3, share/2, sweep/3, one/2, jobs/0]).

-define(PROGRESS_MS, 20000).
%% Of one call and error: later ones are more of the same.
-define(CALLS_MAX, 40).
-define(TOLD_MAX, 12). % of a sweep, by each lane

-type share() :: all | {every | some, pos_integer()}.
-type planned() :: {injection_life:life(), injection_life:fault()}.
-export_type([share/0, planned/0]).

%% What the kernel may say to each call. Not here: brk, whose failures glibc
%% does not see in strace's form; close, which would leave the descriptor open.
calls() ->
    Io = ["EINTR", "EAGAIN", "ECONNRESET", "ENOMEM", "EIO"],
    Out = ["EINTR", "EAGAIN", "EPIPE", "ECONNRESET", "ENOBUFS", "ENOSPC"],
    [{"socket", ["EMFILE", "ENFILE", "ENOBUFS"]},
     {"connect", ["ECONNREFUSED", "EADDRNOTAVAIL", "ENOMEM", "EINTR"]},
     {"accept4", ["EMFILE", "ENOMEM", "ECONNABORTED", "EINTR", "EAGAIN"]},
     {"bind", ["EADDRINUSE", "ENOMEM"]},
     {"listen", ["EADDRINUSE"]},
     {"getsockname", ["ENOBUFS"]},
     {"getpeername", ["ENOTCONN", "ENOBUFS"]},
     {"getsockopt", ["ENOBUFS"]},
     {"setsockopt", ["ENOMEM", "ENOBUFS"]},
     {"read", Io}, {"readv", Io}, {"recvfrom", Io}, {"recvmsg", Io},
     {"write", Out}, {"writev", Out}, {"sendto", Out}, {"sendmsg", Out},
     {"epoll_create1", ["EMFILE", "ENOMEM"]},
     {"epoll_ctl", ["ENOMEM", "ENOSPC"]},
     {"epoll_wait", ["EINTR"]}, {"epoll_pwait", ["EINTR"]},
     {"poll", ["EINTR", "ENOMEM"]},
     {"openat", ["EMFILE", "ENOMEM", "EACCES", "EINTR", "EIO"]},
     {"newfstatat", ["ENOMEM", "EACCES"]},
     {"lseek", ["EINVAL"]},
     {"rename", ["ENOSPC", "EACCES"]}, {"unlink", ["EACCES"]},
     {"fsync", ["EIO", "ENOSPC"]}, {"mkdir", ["EACCES"]},
     {"clone", ["EAGAIN", "ENOMEM"]}, {"clone3", ["EAGAIN", "ENOMEM"]},
     {"execve", ["ENOMEM", "EACCES"]},
     {"pipe2", ["EMFILE"]}, {"socketpair", ["EMFILE"]},
     {"eventfd2", ["EMFILE"]}, {"timerfd_create", ["EMFILE"]},
     {"getrandom", ["EINTR", "EAGAIN"]},
     {"mmap", ["ENOMEM"]}, {"mprotect", ["ENOMEM"]},
     {"ioctl", ["ENOMEM"]},
     {"wait4", ["EINTR"]}, {"kill", ["EPERM"]}].

names() ->
    [Name || {Name, _} <- calls()].

%% Is it an error that the kernel can give here? Line is strace's. What it never
%% gives is none of ours: libuv's own pipes and eventfds have both ends here.
is_possible(Name, Errno, Line) ->
    Kind = descriptor(Line),
    case {Kind, Name, Errno} of
        {pipe, _, _} -> false;
        {_, _, "EINTR"} -> Kind =/= file;
        {socket, _, "EIO"} -> false;
        {socket, _, "ENOSPC"} -> false;
        {_, "epoll_ctl", _} -> has(Line, <<"EPOLL_CTL_ADD">>);
        {file, "read", "EIO"} -> true;
        {file, "read", _} -> false;
        {file, "write", _} -> lists:member(Errno, ["ENOSPC"]);
        {event, _, _} -> Errno =:= "EAGAIN";
        _ -> true
    end.

descriptor(Line) ->
    case re:run(Line, "^[0-9]+ +[a-z0-9_]+\\([0-9]+<([^>]*)>",
                [{capture, [1], binary}]) of
        {match, [<<"socket:", _/binary>>]} -> socket;
        {match, [<<"TCP", _/binary>>]} -> socket;
        {match, [<<"UNIX", _/binary>>]} -> socket;
        {match, [<<"pipe:", _/binary>>]} -> pipe;
        {match, [<<"anon_inode:", _/binary>>]} -> event;
        {match, [<<"/", _/binary>>]} -> file;
        _ -> other
    end.

%% ---------------------------------------------------------------- planning

%% Each allocation of a life fails, and More after it.
-spec allocations(injection_life:lane(), injection_life:life(),
                  non_neg_integer(), share()) -> [planned()].
allocations(Lane, Life, More, Share) ->
    Counts = [begin
                  #{outcome := right, allocations := Count} =
                      injection_life:run(Lane, Life, none_of_them()),
                  Count
              end || _ <- [1, 2, 3]],
    share(Share, [{Life, {allocation, N, More}}
                  || N <- lists:seq(1, lists:max(Counts))]).

%% One that is never reached.
none_of_them() ->
    {allocation, 1 bsl 40, 0}.

%% Each system call of a life fails with each of its errors.
-spec system_calls(injection_life:lane(), injection_life:life(), share()) ->
          [planned()].
system_calls(Lane, Life, Share) ->
    #{outcome := right, trace := Trace} =
        injection_life:run(Lane, Life, {trace, names()}),
    Lines = binary:split(Trace, <<"\n">>, [global, trim_all]),
    Calls = numbered(Lines, injection_life:counts_from(Life)),
    share(Share, [{Life, {call, Name, Errno, N}}
                  || {Name, Errnos} <- calls(),
                     Numbered <- [maps:get(Name, Calls, [])],
                     {N, Line} <- lists:sublist(Numbered, ?CALLS_MAX),
                     not is_near_pipe(N, Numbered),
                     Errno <- Errnos,
                     is_possible(Name, Errno, Line)]).

%% In another life it may be a call on one of the pipes: libuv's own, which
%% never fail, or the one by which the program says that it is ready.
is_near_pipe(N, Numbered) ->
    lists:any(fun({Other, Line}) ->
                      abs(Other - N) =< 2 andalso descriptor(Line) =:= pipe
              end, Numbered).

%% Of each name: the calls that the program makes since it counts, with their
%% numbers. Those of its threads and children have numbers of their own.
numbered(Lines, From) ->
    Main = pid(hd(Lines)),
    Mine = [Line || Line <- Lines, pid(Line) =:= Main, name(Line) =/= none],
    {Before, Rest} = lists:splitwith(fun(L) -> not begins(From, L) end, Mine),
    Skipped = maps:map(fun(_, Of) -> length(Of) end, by_name(Before)),
    maps:map(fun(Name, Of) ->
                     First = maps:get(Name, Skipped, 0) + 1,
                     lists:zip(lists:seq(First, First + length(Of) - 1), Of)
             end, by_name(Rest)).

by_name(Lines) ->
    lists:foldr(fun(Line, Names) ->
                        maps:update_with(name(Line), fun(Of) -> [Line | Of] end,
                                         [Line], Names)
                end, #{}, Lines).

%% The first thing that main() does; the line that says "ready".
begins(start, Line) -> has(Line, <<"\"/dev/null\", O_RDWR">>);
begins(ready, Line) -> has(Line, <<"\"ready ">>).

has(Line, Part) ->
    binary:match(Line, Part) =/= nomatch.

pid(Line) ->
    hd(binary:split(Line, <<" ">>)).

name(Line) ->
    case re:run(Line, "^[0-9]+ +([a-z0-9_]+)\\(", [{capture, [1], list}]) of
        {match, [Name]} -> Name;
        nomatch -> none
    end.

-spec share(share(), [planned()]) -> [planned()].
share(all, Plan) ->
    Plan;
share({some, Lives}, Plan) ->
    share({every, max(1, length(Plan) div Lives)}, Plan);
share({every, Step}, Plan) ->
    Start = rand:uniform(Step),
    ct:log("every ~bth of ~b, from the ~bth on", [Step, length(Plan), Start]),
    every(Step, lists:nthtail(Start - 1, Plan)).

every(_, []) -> [];
every(Step, [First | _] = Plan) ->
    [First | every(Step, lists:nthtail(min(Step, length(Plan)), Plan))].

%% ------------------------------------------------------------------ sweeps

%% How many lives at a time: LLM_ROUTER_INJECT_JOBS, or two.
-spec jobs() -> pos_integer().
jobs() ->
    list_to_integer(os:getenv("LLM_ROUTER_INJECT_JOBS", "2")).

%% Lives all that is planned. Outcomes: how many ended how; bad: those that
%% should not have ended so.
-spec sweep([injection_life:lane()], string(), [planned()]) ->
          #{outcomes := map(), bad := [{planned(), injection_life:outcome()}]}.
sweep(Lanes, Title, Plan) ->
    Begun = bed:now_ms(),
    Next = atomics:new(1, []),
    Planned = list_to_tuple(Plan),
    Self = self(),
    Workers = [element(2, spawn_monitor(
                            fun() -> work(Self, Lane, Planned, Next, 0) end))
               || Lane <- Lanes],
    Done = collect(Workers, Title, length(Plan), [], Begun + ?PROGRESS_MS),
    Bad = [One || {_, Outcome} = One <- Done, is_bad(Outcome)],
    Outcomes = tally_outcomes(Done),
    say("~s: ~b lives in ~b s: ~ts", [Title, length(Done),
                                      (bed:now_ms() - Begun) div 1000,
                                      summary(Outcomes)]),
    #{outcomes => Outcomes, bad => lists:sort(Bad)}.

work(To, Lane, Planned, Next, Told) ->
    case atomics:add_get(Next, 1, 1) of
        N when N > tuple_size(Planned) ->
            ok;
        N ->
            {Life, Fault} = What = element(N, Planned),
            Report = injection_life:run(Lane, Life, Fault),
            Outcome = assessed(Fault, Report),
            Bad = is_bad(Outcome),
            _ = [tell_bad(What, Outcome, Report)
                 || Bad, Told < ?TOLD_MAX],
            To ! {lived, What, Outcome},
            work(To, Lane, Planned, Next, Told + length([Bad || Bad]))
    end.

is_bad(Outcome) ->
    not injection_life:is_good(Outcome) andalso Outcome =/= impossible.

collect([], _, _, Done, _) ->
    Done;
collect(Workers, Title, Total, Done, SayAt) ->
    Late = bed:now_ms() >= SayAt,
    _ = [say("~s: ~b of ~b", [Title, length(Done), Total]) || Late],
    At = case Late of true -> bed:now_ms() + ?PROGRESS_MS; false -> SayAt end,
    receive
        {lived, What, Outcome} ->
            collect(Workers, Title, Total, [{What, Outcome} | Done], At);
        {'DOWN', Monitor, process, _, normal} ->
            collect(Workers -- [Monitor], Title, Total, Done, At);
        {'DOWN', _, process, _, Why} ->
            error({lane, Why})
    end.

%% A call that failed before the program began, or as no kernel lets it fail.
assessed({call, Name, Errno, _}, #{trace := Trace, outcome := Outcome}) ->
    Lines = binary:split(Trace, <<"\n">>, [global, trim_all]),
    Hits = [Line || Line <- Lines, has(Line, <<"(INJECTED)">>)],
    Possible = lists:all(fun(Line) -> is_possible(Name, Errno, Line) end,
                         Hits),
    case injection_life:is_good(Outcome) orelse Possible of
        true -> Outcome;
        false -> impossible
    end;
assessed(_, #{outcome := Outcome}) ->
    Outcome.

tally_outcomes(Done) ->
    lists:foldl(fun({_, Outcome}, Counts) ->
                        Kind = case is_tuple(Outcome) of
                                   true -> element(1, Outcome);
                                   false -> Outcome
                               end,
                        maps:update_with(Kind, fun(N) -> N + 1 end, 1, Counts)
                end, #{}, Done).

summary(Outcomes) ->
    lists:join(", ", [io_lib:format("~b ~s", [N, Kind])
                      || {Kind, N} <- maps:to_list(Outcomes)]).

tell_bad(What, Outcome, #{log := Log, trace := Trace}) ->
    say("BAD scripts/inject ~s~n    ~0tP~n~s", [words(What), Outcome, 40,
                                           hits(Trace)]),
    ct:log("~s~n~0tp~n~ts~n~ts", [words(What), Outcome, last(Log),
                                  last(Trace)]).

%% The first of them.
hits(Trace) ->
    Hits = [["    ", Line, $\n]
            || Line <- binary:split(Trace, <<"\n">>, [global]),
               has(Line, <<"(INJECTED)">>)],
    lists:sublist(Hits, 3).

last(Text) ->
    binary:part(Text, byte_size(Text), -min(4000, byte_size(Text))).

%% As scripts/inject takes them.
words({Life, {allocation, N, More}}) ->
    io_lib:format("~s allocation ~b ~b", [Life, N, More]);
words({Life, {call, Name, Errno, N}}) ->
    io_lib:format("~s call ~s ~s ~b", [Life, Name, Errno, N]);
words({Life, {limit, Option, N}}) ->
    io_lib:format("~s limit ~s ~b", [Life, Option, N]);
words({Life, {small_io, Bytes}}) ->
    io_lib:format("~s small_io ~b", [Life, Bytes]).

%% One life, by its words; all that is known of it is printed.
-spec one(injection_life:lane(), [string()]) -> injection_life:outcome().
one(Lane, [Life | Fault]) ->
    What = {list_to_existing_atom(Life), fault(Fault)},
    #{outcome := Outcome, log := Log, trace := Trace, ms := Ms} =
        injection_life:run(Lane, element(1, What), element(2, What)),
    say("~ts~n~ts~n~0tp after ~b ms", [Trace, Log, Outcome, Ms]),
    Outcome.

fault(["allocation", N, More]) ->
    {allocation, list_to_integer(N), list_to_integer(More)};
fault(["call", Name, Errno, N]) ->
    {call, Name, Errno, list_to_integer(N)};
fault(["limit", Option, N]) ->
    {limit, Option, list_to_integer(N)};
fault(["small_io", Bytes]) ->
    {small_io, list_to_integer(Bytes)};
fault(["none"]) ->
    none.

say(Format, Args) ->
    _ = ct_report:print(Format, Args).
