%% Loads a module of ours under the name of one that is not at hand: Horde,
%% Partisan and telemetry cannot be had everywhere the tests run, and must not
%% be found by suites that are not about them.
%%
%%     bed:on(Caller, fun() -> standin:load(telemetry, telemetry_standin) end)
-module(standin).

-export([load/2]).

%% Makes `Name' a module whose functions are those that Module exports.
-spec load(module(), module()) -> ok.
load(Name, Module) ->
    Functions = Module:module_info(exports) -- [{module_info, 0},
                                                {module_info, 1}],
    {ok, Name, Beam} =
        compile:forms([{attribute, 1, module, Name},
                       {attribute, 1, export, Functions}
                       | [function(F, A, Module) || {F, A} <- Functions]]),
    {module, Name} = code:load_binary(Name, atom_to_list(Name), Beam),
    ok.

function(Name, Arity, Module) ->
    Vars = [{var, 1, list_to_atom("V" ++ integer_to_list(N))}
            || N <- lists:seq(1, Arity)],
    Call = {call, 1, {remote, 1, {atom, 1, Module}, {atom, 1, Name}}, Vars},
    {function, 1, Name, Arity, [{clause, 1, Vars, [], [Call]}]}.
