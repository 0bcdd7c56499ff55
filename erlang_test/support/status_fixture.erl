%% Documents as a router's /status.json has them, as maps for test_json: of a
%% router that has just started, of a busy one, and of one whose every text was
%% written by an enemy.
-module(status_fixture).

-export([empty/0, busy/0, hostile/0, filled/1, unknown/1]).

-define(STEPS, 60).
-define(NOW_MS, 1763867640000).

-spec empty() -> map().
empty() ->
    #{version => <<"1.2.3">>, node => <<"llm_router@quiet">>, state => ok,
      ready => true, holds_global_name => true, now_ms => ?NOW_MS,
      uptime_ms => 4200, peers => 0, in_flight => 0, waiting => 0,
      slots => 1000, requests => 0, succeeded => 0, failed => 0,
      cancelled => 0, tokens => #{input => 0, output => 0}, cost_usd => 0,
      retries => 0, longest_stall_ms => 0, resident_bytes => 11534336,
      cpu_ms => 31, open_descriptors => 14, log_lines_dropped => 0,
      queue => null, providers => [],
      history => #{step_s => 60, until_ms => ?NOW_MS + 20000, steps => ?STEPS,
                   requests => #{ok => steps(fun(_) -> 0 end),
                                 failed => steps(fun(_) -> 0 end)},
                   overhead_ms => #{p50 => steps(fun(_) -> null end),
                                    p99 => steps(fun(_) -> null end)},
                   providers => []},
      models => [], errors => []}.

steps(Fun) ->
    [Fun(Step) || Step <- lists:seq(1, ?STEPS)].

%% A wave around Base, the same in every run.
wave(Base, Step) ->
    Base * (1 + 0.2 * math:sin(Step / 9) + 0.07 * math:sin(Step * Step)).

-spec busy() -> map().
busy() ->
    (empty())#{node := <<"llm_router@bridge-2.example.com">>,
               uptime_ms := 277200000, peers := 7, in_flight := 42,
               waiting := 3, requests := 1284391, succeeded := 1279100,
               failed := 5120, cancelled := 171, cost_usd := 4312.5371,
               tokens := #{input => 812345678, output => 98765432},
               retries := 9120, longest_stall_ms := 12,
               resident_bytes := 43315200, cpu_ms := 8123000,
               open_descriptors := 131,
               queue := #{state => up, depth => 128, oldest_age_s => 42,
                          in_flight => 16, dead => 2},
               providers := providers(), history := history(),
               models := models(), errors := errors()}.

providers() ->
    [#{name => <<"openai">>,
       keys => [key(#{}),
                key(#{name => <<"second">>, state => benched,
                      returns_ms => 23400, failure_rate => 0.62,
                      in_flight => 0, failed => 3011, benches => 14})]},
     #{name => <<"anthropic">>,
       keys => [key(#{in_flight => 14, day_usd => 88.1,
                      month_usd => 1890.2})]},
     #{name => <<"gemini">>,
       keys => [key(#{state => probing, failure_rate => 0.11, in_flight => 1,
                      day_usd => 4.2, month_usd => 61.9})]},
     #{name => <<"ollama">>,
       keys => [key(#{failure_rate => null, in_flight => 0, granted => 220,
                      failed => 0, benches => 0, day_usd => null,
                      month_usd => null})]}].

key(Facts) ->
    maps:merge(#{name => <<"default">>, state => ok, returns_ms => 0,
                 failure_rate => 0.004, in_flight => 8, granted => 412345,
                 failed => 1203, benches => 1, day_usd => 131.2,
                 month_usd => 2210.44}, Facts).

history() ->
    Ok = steps(fun(60) -> 130; (Step) -> round(wave(400, Step)) end),
    Failed = steps(fun(Step) when Step > 40, Step < 47 -> 30 + 7 * (Step rem 5);
                      (Step) -> max(0, Step rem 7 - 5)
                   end),
    #{step_s => 60, until_ms => ?NOW_MS + 20000, steps => ?STEPS,
      requests => #{ok => Ok, failed => Failed},
      overhead_ms => #{p50 => steps(fun(Step) -> wave(0.009, Step) end),
                       p99 => steps(fun(Step) -> wave(0.024, Step * 3) end)},
      providers => [past(<<"openai">>, 0.5, 900, 0.042),
                    past(<<"anthropic">>, 0.35, 1500, 0.061),
                    past(<<"gemini">>, 0.1, 600, 0.008),
                    past(<<"ollama">>, 0.05, 3200, null)]}.

past(Name, Share, Ms, Usd) ->
    Calls = steps(fun(Step) -> round(Share * wave(400, Step)) end),
    #{name => Name, calls => Calls, failed => steps(fun(_) -> 0 end),
      p50_ms => steps(fun(Step) -> latency(Name, Ms, Step, 1) end),
      p99_ms => steps(fun(Step) -> latency(Name, 2.7 * Ms, Step, 5) end),
      cost_usd => [priced(Usd, Count) || Count <- Calls]}.

priced(null, _) -> null;
priced(Usd, Count) -> Usd * Count.

latency(<<"ollama">>, _, Step, _) when Step rem 7 > 3 -> null;
latency(<<"openai">>, Ms, Step, Pace) when Step > 40, Step < 47 ->
    2.4 * wave(Ms, Pace * Step);
latency(_, Ms, Step, Pace) -> wave(Ms, Pace * Step).

models() ->
    [#{provider => Provider, model => Model, requests => Requests,
       failed => Failed, p50_ms => P50, p99_ms => P99, input_tokens => In,
       output_tokens => Out, cost_usd => Usd}
     || {Provider, Model, Requests, Failed, P50, P99, In, Out, Usd} <-
            [{<<"ollama">>, <<"llama3.3:70b">>, 220, 0, 3211.0, 9120.4,
              512345, 91234, null},
             {<<"openai">>, <<"gpt-4.1">>, 402331, 2100, 912.3, 3011.2,
              301234567, 40123456, 1810.2},
             {<<"openai">>, <<"gpt-4.1-mini">>, 260120, 811, 410.2, 1422.8,
              120345678, 18123456, 201.9},
             {<<"anthropic">>, <<"claude-sonnet-4-5">>, 401200, 1507, 1502.1,
              4310.9, 330123456, 34123456, 2201.4}]].

errors() ->
    [#{at_ms => ?NOW_MS - N * 97000, operation => Operation, code => Code,
       message => Message, provider => Provider, model => Model, node => Node,
       request_id => iolist_to_binary(io_lib:format("r-~8.16.0b",
                                                    [N * 7919 * 7919])),
       attempts => Attempts}
     || {N, {Operation, Code, Message, Provider, Model, Node, Attempts}} <-
            lists:zip(lists:seq(1, 6), error_rows())].

error_rows() ->
    [{<<"generate_task">>, <<"rate_limited">>,
      <<"all candidates are rate limited; the first returns in 23 s">>,
      <<"openai">>, <<"gpt-4.1">>, <<"planner@app-1">>, 3},
     {<<"research">>, <<"timeout">>, <<"no answer within 60000 ms">>,
      <<"ollama">>, <<"llama3.3:70b">>, <<"app@app-2">>, 2},
     {<<"call">>, <<"invalid_request">>,
      <<"opts.timeout must be a positive number of milliseconds">>, null, null,
      <<"iex@laptop">>, 0},
     {<<"stream">>, <<"provider_error">>,
      <<"HTTP 529: {\"type\":\"error\",\"error\":"
        "{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}">>,
      <<"anthropic">>, <<"claude-sonnet-4-5">>, <<"chat@app-3">>, 3},
     {<<"analyze_complexity">>, <<"bad_response">>,
      iolist_to_binary(["the answer ended within an event",
                        lists:duplicate(12, "; of it came a part"), "."]),
      <<"openai">>, <<"gpt-4.1-mini">>, <<"planner@app-1">>, 1},
     {<<"embed">>, <<"budget_exceeded">>,
      <<"openai: the day's budget of 150.00 USD is spent">>, <<"openai">>,
      <<"text-embedding-3-large">>, null, 0}].

%% Every text of the busy router is another of these.
-spec hostile() -> map().
hostile() ->
    spoilt(hostile_texts()).

%% Every text of the busy router is this one.
-spec filled(binary()) -> map().
filled(Text) ->
    spoilt([Text]).

spoilt(Texts) ->
    {Spoilt, _} = spoil(busy(), Texts),
    Spoilt.

hostile_texts() ->
    [<<"<script>alert(1)</script>">>,
     <<"<img src=x onerror=alert(2)>">>,
     binary:copy(<<"A">>, 10000),
     <<"\"><svg onload=alert(3)>">>,
     <<"</script></table></main><h1>">>,
     <<"javascript:alert(4)">>,
     <<"__proto__">>,
     <<"\x{202e}gnp.exe\x{202c} \x{2066}\0\a\e[31m \n\t \x{1f600}"/utf8>>,
     <<"constructor">>,
     <<>>].

spoil(Map, Texts) when is_map(Map) ->
    {Pairs, Rest} = lists:mapfoldl(
                      fun({Key, Value}, Left) ->
                          {New, Left1} = spoil(Value, Left),
                          {{Key, New}, Left1}
                      end, Texts, maps:to_list(Map)),
    {maps:from_list(Pairs), Rest};
spoil(List, Texts) when is_list(List) ->
    lists:mapfoldl(fun spoil/2, Texts, List);
spoil(Value, [First | Others]) when is_binary(Value) ->
    {First, Others ++ [First]};
spoil(Value, Texts) ->
    {Value, Texts}.

%% The same with every value replaced by null.
-spec unknown(term()) -> term().
unknown(Map) when is_map(Map) -> maps:map(fun(_, Value) -> unknown(Value) end,
                                          Map);
unknown(List) when is_list(List) -> [unknown(Value) || Value <- List];
unknown(_) -> null.
