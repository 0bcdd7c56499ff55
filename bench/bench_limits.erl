%% What routing, limits, budgets and cost add to a call: a router that has them
%% all against another build (LLM_ROUTER_BENCH_BASE), or against itself, without
%% a configuration file.
-module(bench_limits).

-export([sections/1]).

-import(bench_rig, [with_provider/3, start_router/2, config/3, base/0, rounds/3,
                    router_window/4, compare/4, task_call/1, callers/1,
                    stat/2]).

-define(MS, 2000).
-define(GOAL, 1.15).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(Rig) ->
    {Title, BaseOpts} = case base() of
                            none -> {"itself, plain", #{}};
                            Opts -> {"LLM_ROUTER_BENCH_BASE", Opts}
                        end,
    with_provider(
      Rig, [],
      fun(R) ->
              Limited = start(R, #{args => config(R, "limits.json",
                                                  settings(R))}),
              Plain = start(R, #{}),
              Base = start(R, BaseOpts),
              try
                  [{["generate_task with routing, limits, budgets and cost; "
                     "peer: ", Title],
                    rows("all on", Limited, Base, ?GOAL)
                        ++ rows("no file", Plain, Base, none)}]
              after
                  [router:stop(Router)
                   || #{router := Router} <- [Limited, Plain, Base]]
              end
      end).

start(Rig, Opts) ->
    Started = Rig#{router => start_router(Rig, Opts)},
    0 = stat(Started, in_flight),
    Started.

rows(Name, Ours, Theirs, Goal) ->
    [begin
         Title = [Name, ", ", callers(Callers)],
         Rounds = rounds(["generate_task, ", Title],
                         fun() -> window(Ours, Callers) end,
                         fun() -> window(Theirs, Callers) end),
         compare([Title, ", CPU (us/call)"], cpu_us, Rounds,
                 if Callers > 1 -> Goal; true -> none end)
     end || Callers <- [1, 32, 256]].

window(Rig, Callers) ->
    router_window(Rig, task_call(Rig), Callers, ?MS).

%% Every kind of limit, none of which is reached; two candidates with prices.
settings(#{dir := Dir, url := Url}) ->
    Catalogue = filename:join(Dir, "limits.models.json"),
    ok = file:write_file(
           Catalogue,
           test_json:encode(
             #{models => [#{provider => second, id => <<"other">>,
                            in => 1.5, out => 6.0, context => 200000}]})),
    Candidates = [<<"openai/gpt-5.4-mini">>, <<"second/other">>],
    #{providers => #{openai => provider(Url),
                     second => (provider(Url))#{dialect => openai}},
      routes => #{medium => #{strategy => ordered, candidates => Candidates},
                  <<"*/generate_task">> => Candidates},
      limits => #{in_flight => 20000, in_flight_per_node => 20000},
      budget => #{usd_per_day => 1000000000, usd_per_month => 1000000000},
      state => #{file => list_to_binary(filename:join(Dir, "limits.spent"))},
      catalogue => #{file => list_to_binary(Catalogue)}}.

provider(Url) ->
    #{base_url => list_to_binary(Url),
      in_flight => 20000,
      api_key_env => <<"OPENAI_API_KEY">>,
      requests_per_minute => 1000000000,
      tokens_per_minute => 1000000000000,
      budget_usd_per_day => 1000000000,
      budget_usd_per_month => 1000000000}.
