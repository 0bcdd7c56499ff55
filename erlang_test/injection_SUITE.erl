%% A life of the program in which something fails: any one allocation, any
%% allocation and many after it, any system call, at any place from the start
%% to the end. It goes on, or it ends as documented; it never crashes, never
%% hangs, never answers wrongly.
%%
%% Here a sample of the faults; scripts/inject has them all, and repeats one.
-module(injection_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(SAMPLE, 40). % lives of a test
-define(MANY, 50).   % allocations in a row

suite() ->
    [{timetrap, {minutes, 90}}].

all() ->
    case os:getenv("LLM_ROUTER_INJECT") of
        "one " ++ _ -> [the_fault_that_was_named];
        _ -> [any_allocation_may_fail,
              any_allocation_and_many_after_it_may_fail,
              any_system_call_may_fail,
              reads_and_writes_may_be_small,
              any_limit_of_descriptors_may_be_set,
              any_limit_of_memory_may_be_set] -- left_out()
    end.

%% Those that LLM_ROUTER_INJECT_WITHOUT names.
left_out() ->
    [list_to_atom(Name)
     || Name <- string:lexemes(os:getenv("LLM_ROUTER_INJECT_WITHOUT", ""),
                               ", ")].

share() ->
    case os:getenv("LLM_ROUTER_INJECT") of
        "all" -> all;
        _ -> {some, ?SAMPLE}
    end.

%% Of what fails for a while, the next one fails soon.
fifth(all) -> {every, 5};
fifth(Some) -> Some.

%% Those of LLM_ROUTER_INJECT_LIVES, or all.
lives() ->
    case os:getenv("LLM_ROUTER_INJECT_LIVES") of
        false -> injection_life:names();
        Names ->
            [Life || Life <- injection_life:names(),
                     lists:member(atom_to_list(Life),
                                  string:lexemes(Names, ", "))]
    end.

init_per_suite(Config) ->
    try injection_life:up(Config, lives()) of
        Up ->
            [{lanes, [injection_life:lane(Up, N)
                      || N <- lists:seq(1, injection:jobs())]} | Up]
    catch
        throw:{skip, _} = Skip -> Skip
    end.

end_per_suite(Config) ->
    lists:foreach(fun injection_life:close/1, lanes(Config)),
    injection_life:down(Config).

lanes(Config) ->
    proplists:get_value(lanes, Config).

any_allocation_may_fail(Config) ->
    each_life(Config, "one allocation", fun(Lane, Life) ->
        injection:allocations(Lane, Life, 0, share())
    end).

any_allocation_and_many_after_it_may_fail(Config) ->
    each_life(Config, "many allocations", fun(Lane, Life) ->
        injection:allocations(Lane, Life, ?MANY, fifth(share()))
    end).

any_system_call_may_fail(Config) ->
    each_life(Config, "a system call", fun(Lane, Life) ->
        injection:system_calls(Lane, Life, share())
    end).

each_life(Config, What, Plan) ->
    [Lane | _] = lanes(Config),
    Bad = [swept(Config, atom_to_list(Life) ++ ", " ++ What, Plan(Lane, Life))
           || Life <- lives()],
    ?assertEqual([], lists:append(Bad)).

swept(Config, What, Plan) ->
    #{bad := Bad} = injection:sweep(lanes(Config), What, Plan),
    Bad.

%% Not in libmicrohttpd, which rightly takes a small read for the last one: it
%% is told of what comes (EPOLLET), not of what is there.
reads_and_writes_may_be_small(Config) ->
    Plan = [{Life, {small_io, Bytes}} || Life <- lives() -- [web],
                                         Bytes <- [1, 7, 100]],
    ?assertEqual([], swept(Config, "small reads and writes", Plan)).

any_limit_of_descriptors_may_be_set(Config) ->
    Plan = [{Life, {limit, "nofile", N}} || Life <- lives(),
                                            N <- lists:seq(6, 45)],
    ?assertEqual([], swept(Config, "few descriptors",
                           injection:share(share(), Plan))).

%% Below 25 MB the libraries do not fit in.
any_limit_of_memory_may_be_set(Config) ->
    Plan = [{Life, {limit, "as", Kib * 1024}}
            || Life <- lives(), Kib <- lists:seq(26000, 48000, 200)],
    ?assertEqual([], swept(Config, "little memory",
                           injection:share(share(), Plan))).

the_fault_that_was_named(Config) ->
    "one " ++ Words = os:getenv("LLM_ROUTER_INJECT"),
    [Lane | _] = lanes(Config),
    Outcome = injection:one(Lane, string:lexemes(Words, " ")),
    ?assert(injection_life:is_good(Outcome)).
