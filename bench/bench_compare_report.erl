%% What bench_compare measured: rows for the table beside the goals, a table in
%% Markdown with all of them (compare.md), and plots (compare-*.svg).
-module(bench_compare_report).

-export([sections/3]).

-import(bench_rig, [median/1]).
-import(bench_rivals, [title/1]).

-define(OTHERS, [{elixir, none}, {gateway, none}, {nginx, none},
                 {libcurl, none}]).

%% A peer with the goal for the ratio to it, or the goal for the value itself.
-type peer() :: {bench_rivals:name() | value, number() | none}.
-type subject() :: {bench_compare:figure(), Title :: string(), [peer()]}.

%% Writes the files into Dir. Absent are those that could not be measured.
-spec sections(file:filename(), bench_compare:figures(),
               [bench_rivals:name()]) -> [tuple()].
sections(Dir, Figures, Absent) ->
    ok = file:write_file(filename:join(Dir, "compare.md"),
                         markdown(Figures, bench_rivals:names() -- Absent)),
    lists:foreach(fun({Name, Title, Bars}) ->
                          write_plot(Dir, Name, Title, Bars)
                  end, plots(Figures)),
    [{["compare: ", Title], rows(Figure, Peers, maps:get(Figure, Figures))}
     || {Figure, Title, Peers} <- subjects(), is_map_key(Figure, Figures)]
        ++ [{["compare: ", title(Name)], "not measured: not there\n"}
            || Name <- Absent].

write_plot(Dir, Name, Title, Bars) ->
    File = filename:join(Dir, ["compare-", Name, ".svg"]),
    ok = file:write_file(File, bench_svg:bars(Title, Bars)).

-spec subjects() -> [subject()].
subjects() ->
    [{{cpu_us, 32}, "CPU of a call, 32 callers (us)",
      [{elixir, 1 / 3}, {gateway, 1 / 18}, {nginx, none}, {libcurl, 2.0}]},
     {{cpu_us, 256}, "CPU of a call, 256 callers (us)", ?OTHERS},
     {{calls_per_s, 1}, "calls a second, 1 caller", ?OTHERS},
     {{calls_per_s, 32}, "calls a second, 32 callers", ?OTHERS},
     {{calls_per_s, 256}, "calls a second, 256 callers", ?OTHERS},
     {{median_us, 1}, "a call, 1 caller, median (us)", ?OTHERS},
     {{added, median_us, 1}, "added to bare libcurl, 1 caller, median (us)",
      [{value, 250}, {elixir, none}, {gateway, none}, {nginx, none}]},
     {{added, p99_us, 1}, "added to bare libcurl, 1 caller, p99 (us)",
      [{elixir, none}, {gateway, none}, {nginx, none}]},
     {{median_us, 32}, "a call, 32 callers, median (us)", ?OTHERS},
     {{p99_us, 32}, "a call, 32 callers, p99 (us)",
      [{elixir, 0.5}, {gateway, none}, {nginx, none}, {libcurl, none}]},
     {{added, median_us, 32}, "added to bare libcurl, 32 callers, median (us)",
      [{elixir, none}, {gateway, none}, {nginx, none}]},
     {{added, p99_us, 32}, "added to bare libcurl, 32 callers, p99 (us)",
      [{elixir, none}, {gateway, none}, {nginx, none}]},
     {chunks_cpu_us, "CPU of a call, the answer in 500 chunks (us)",
      [{elixir, 1 / 3}]},
     {stream_cpu_us, "CPU of a stream of 500 chunks (us)", [{elixir, 1 / 3}]},
     {waiting_kib, "memory of a waiting call, plain HTTP (KiB)",
      [{value, 16} | ?OTHERS]},
     {waiting_tls_kib, "memory of a waiting call, TLS (KiB)",
      [{value, 24}, {elixir, none}, {libcurl, none}]},
     {start_ms, "cold start until it can be asked (ms)",
      [{value, 50}, {elixir, none}, {gateway, none}, {nginx, none}]},
     {idle_mib, "memory when idle (MiB)",
      [{value, 12}, {elixir, none}, {gateway, none}, {nginx, none}]},
     {stall_ms, "longest stall of the loop, answers of 1 MiB (ms)",
      [{value, 50}]}].

rows(Figure, Peers, #{router := Ours} = Values) ->
    [row(Figure, Peer, Goal, Ours, Values)
     || {Peer, Goal} <- Peers, Peer =:= value orelse is_map_key(Peer, Values)].

row(_, value, Goal, Ours, _) ->
    {title(router), median(Ours), none, none, Goal};
%% Of the little that nginx adds there is no ratio worth a look.
row({added, _, _}, Peer, none, Ours, Values) ->
    {title(Peer), median(Ours), median(maps:get(Peer, Values)), none, none};
row(_, Peer, Goal, Ours, Values) ->
    Theirs = maps:get(Peer, Values),
    {title(Peer), median(Ours), median(Theirs),
     median(lists:zipwith(fun erlang:'/'/2, Ours, Theirs)), Goal}.

%% ---------------------------------------------------------------- markdown

markdown(Figures, Names) ->
    [cells(["" | [title(Name) || Name <- Names]]),
     cells(lists:duplicate(length(Names) + 1, "---"))
     | [cells([Title | [cell(maps:get(Name, maps:get(Figure, Figures), none))
                        || Name <- Names]])
        || {Figure, Title, _} <- subjects(), is_map_key(Figure, Figures)]].

cells(Cells) ->
    [[["| ", Cell, " "] || Cell <- Cells], "|\n"].

cell(none) -> "";
cell(Values) -> bench_svg:number(median(Values)).

%% ------------------------------------------------------------------- plots

plots(Figures) ->
    [{"calls", "Calls per second of CPU (32 callers; more is better)",
      bars(fun(Us) -> 1.0e6 / Us end, {cpu_us, 32}, "", Figures)},
     {"latency", "A call by 32 callers, 99th percentile (ms; less is better)",
      bars(fun(Us) -> Us / 1000 end, {p99_us, 32}, "", Figures)},
     {"memory", "Memory of a waiting call (KiB; less is better)",
      bars(fun(Kib) -> Kib end, waiting_kib, "", Figures)
          ++ bars(fun(Kib) -> Kib end, waiting_tls_kib, ", TLS", Figures)}].

bars(Scale, Figure, Suffix, Figures) ->
    Values = maps:get(Figure, Figures, #{}),
    [{title(Name) ++ Suffix, Scale(median(maps:get(Name, Values))),
      case Name of router -> ours; _ -> other end}
     || Name <- bench_rivals:names(), is_map_key(Name, Values)].
