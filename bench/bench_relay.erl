%% What a relay on the caller's node adds to a ping.
-module(bench_relay).

-export([sections/1, start/0]).

-import(bench_rig, [with_provider/3, start_router/2, rounds/3, compare/4,
                    window/4, at/4, callers/1]).

-define(PING_MS, 1000).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(Rig) ->
    [{"ping through a relay against the same ping without it",
      with_provider(Rig, [], fun rows/1)}].

rows(#{caller := #{node := Node} = Caller} = Rig) ->
    Router = start_router(Rig, #{connect => [Node]}),
    ok = at(Caller, ?MODULE, start, []),
    Direct = {ping, {llm_router, router:node(Router)}},
    Through = {ping, llm_router_relay},
    Pairs = fun(Callers) ->
                rounds(["relay, ", callers(Callers)],
                       fun() -> window(Rig, Through, Callers, ?PING_MS) end,
                       fun() -> window(Rig, Direct, Callers, ?PING_MS) end)
            end,
    try
        [Alone, Some, Many] = [Pairs(Callers) || Callers <- [1, 16, 256]],
        [compare("1 caller, median (us)", median_us, Alone, 1.6),
         compare("1 caller, p99 (us)", p99_us, Alone, none),
         compare("16 callers (calls/s)", calls_per_s, Some, none),
         compare("256 callers (calls/s)", calls_per_s, Many, none)]
    after
        router:stop(Router)
    end.

%% On the caller's node: a relay that has found the router.
-spec start() -> ok.
start() ->
    Self = self(),
    spawn(fun() ->
              {ok, _} = llm_router_relay:start_link(#{relay => true}),
              bed:eventually(fun() ->
                  pong =:= gen_server:call(llm_router_relay, ping)
              end),
              Self ! started,
              receive never -> ok end
          end),
    receive started -> ok end.
