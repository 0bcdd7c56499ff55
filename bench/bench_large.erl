%% What large messages cost small calls: pings while another process asks with
%% prompts of 32 MiB, one after the other, and gets answers of 16 MiB.
-module(bench_large).

-export([sections/1]).

-import(bench_rig, [with_router/3, router_node/1, rounds/3, compare/4,
                    median/1, window/4, stat/2, at/4]).

-define(PING_MS, 3000).
-define(PROMPT_BYTES, (32 * 1024 * 1024)).
-define(ANSWER_KIB, (16 * 1024)).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(Rig) ->
    Provider = ["--content-kib", integer_to_list(?ANSWER_KIB)],
    [{"ping beside prompts of 32 MiB and answers of 16 MiB, against without",
      with_router(Rig, Provider,
                  fun(R) -> rows(R, "from another node", other) end)
      ++ with_router(Rig, Provider,
                     fun(R) -> rows(R, "over the same connection", caller) end)
     }].

rows(Rig, Name, Asker) ->
    Sample = fun() ->
                     window(Rig, {ping, {llm_router, router_node(Rig)}}, 1,
                            ?PING_MS)
             end,
    Rounds = rounds(["ping beside large calls ", Name],
                    fun() -> beside_large(Rig, Asker, Sample) end, Sample),
    Longest = [Ms || {#{longest_ms := Ms}, _} <- Rounds],
    [compare([Name, ", median (us)"], median_us, Rounds, none),
     compare([Name, ", p99 (us)"], p99_us, Rounds, none),
     compare([Name, ", longest (ms)"], longest_ms, Rounds, none),
     {[Name, ", longest of all rounds (ms)"], lists:max(Longest), none, none,
      50},
     {[Name, ", large calls in a round"],
      median([Large || {#{large := Large}, _} <- Rounds]), none, none, none},
     {[Name, ", longest stall (ms)"], stat(Rig, longest_stall_ms), none, none,
      50}].

beside_large(Rig, Asker, Fun) ->
    Node = maps:get(Asker, Rig),
    Pid = at(Node, bench_load, start_large,
             [{llm_router, router_node(Rig)}, ?PROMPT_BYTES]),
    Sample = Fun(),
    Sample#{large => at(Node, bench_load, stop_large, [Pid])}.
