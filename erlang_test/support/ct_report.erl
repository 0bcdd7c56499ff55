%% What run-ct prints: one line per test on file descriptor 3, while Common
%% Test's own chatter goes to stdout and its details to the HTML logs.
%%
%%     erl -noshell -pa build/ct -run ct_report main LOGDIR SUITE... 3>&1 >file
%%
%% The closing line is "N passed, N failed". A test skipped by its suite says
%% why on a line of its own and counts as neither; one skipped because its
%% suite did not start counts as failed. The exit status is 0 if none failed.
-module(ct_report).

-export([main/1, print/2]).
-export([id/1, init/2, pre_init_per_testcase/4, post_end_per_testcase/5,
         on_tc_fail/4, on_tc_skip/4]).

-spec main([string()]) -> no_return().
main([LogDir | Suites]) ->
    register(?MODULE, spawn_link(fun printer/0)),
    Results = [run(LogDir, list_to_atom(S)) || S <- Suites],
    Passed = lists:sum([Ok || {Ok, _Failed} <- Results]),
    Failed = lists:sum([F || {_Ok, F} <- Results]),
    print("~b passed, ~b failed", [Passed, Failed]),
    ?MODULE ! {flush, self()},
    receive flushed -> halt(min(Failed, 1)) end.

run(LogDir, Suite) ->
    case ct:run_test([{dir, filename:dirname(code:which(?MODULE))},
                      {suite, Suite}, {logdir, LogDir}, {auto_compile, false},
                      {abort_if_missing_suites, true},
                      {ct_hooks, [?MODULE]}]) of
        {Ok, Failed, {_UserSkipped, AutoSkipped}} ->
            {Ok, Failed + AutoSkipped};
        Error ->
            print("FAIL ~s: ~0tp", [Suite, Error]),
            {0, 1}
    end.

printer() ->
    print_all(open_port({fd, 3, 3}, [out, binary])).

print_all(Port) ->
    receive
        {line, Line} ->
            port_command(Port, [unicode:characters_to_binary(Line), $\n]),
            print_all(Port);
        {flush, From} ->
            From ! flushed,
            print_all(Port)
    end.

%% A line among the results.
-spec print(string(), list()) -> term().
print(Format, Args) ->
    ?MODULE ! {line, io_lib:format(Format, Args)}.

%% ------------------------------------------------------- Common Test hook

id(_Opts) -> ?MODULE.

init(_Id, _Opts) -> {ok, 0}.

pre_init_per_testcase(_Suite, _Case, Config, _Start) ->
    {Config, erlang:monotonic_time(millisecond)}.

post_end_per_testcase(Suite, Case, _Config, Return, Start) ->
    Ms = erlang:monotonic_time(millisecond) - Start,
    case Return of
        ok -> print("ok   ~s: ~s (~b ms)", [Suite, sentence(Case), Ms]);
        _ -> ok
    end,
    {Return, Start}.

on_tc_fail(Suite, Case, Reason, State) ->
    print("FAIL ~s: ~s~n     ~ts~ts",
          [Suite, sentence(Case), place(Suite, Reason),
           short(without_stack(Reason))]),
    State.

on_tc_skip(Suite, Case, {tc_user_skip, Reason}, State) ->
    print("skip ~s: ~s: ~ts", [Suite, sentence(Case), short(Reason)]),
    State;
on_tc_skip(Suite, Case, {tc_auto_skip, _Reason}, State) ->
    print("FAIL ~s: ~s (not run)", [Suite, sentence(Case)]),
    State.

sentence({Case, _Group}) -> sentence(Case);
sentence(Case) -> string:replace(atom_to_list(Case), "_", " ", all).

%% Where in the suite it happened, innermost first.
place(Suite, {_Reason, Stack}) when is_list(Stack) ->
    case [integer_to_list(proplists:get_value(line, Info, 0))
          || {Module, _, _, Info} <- Stack, Module =:= Suite] of
        [] -> "";
        Lines -> ["line ", lists:join(" < ", Lines), ": "]
    end;
place(_Suite, _Reason) ->
    "".

without_stack({Reason, [{_, _, _, _} | _]}) -> asserted(Reason);
without_stack(Reason) -> Reason.

%% What an assertion wanted and got, without how it was written.
asserted({_Macro, [{module, _} | Info]}) ->
    [KV || {Key, _} = KV <- Info, Key =/= line, Key =/= expression];
asserted(Reason) ->
    Reason.

short(Reason) ->
    string:slice(io_lib:format("~0tP", [Reason, 80]), 0, 900).
