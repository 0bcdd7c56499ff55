%% Plots as SVG that need nothing else: horizontal bars with their values, on a
%% ground of their own, for light and for dark screens.
-module(bench_svg).

-export([bars/2, number/1]).
-export_type([bar/0]).

-define(WIDTH, 720).
-define(TOP, 52).      % the title
-define(BAR, 22).
-define(STEP, 32).
-define(LABELS, 210).  % where bars begin
-define(VALUES, 90).   % kept free behind the longest one
-define(MARGIN, 16).

%% What is `ours` stands out.
-type bar() :: {Label :: string(), Value :: number(), ours | other}.

-spec bars(Title :: string(), [bar(), ...]) -> iodata().
bars(Title, Bars) ->
    Height = ?TOP + length(Bars) * ?STEP + ?MARGIN,
    Longest = lists:max([Value || {_, Value, _} <- Bars]),
    [io_lib:format("<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" "
                   "width=\"~b\" height=\"~b\" viewBox=\"0 0 ~b ~b\" "
                   "aria-label=\"~s\">~n",
                   [?WIDTH, Height, ?WIDTH, Height,
                    escape([Title, ": ", lists:join(", ", said(Bars))])]),
     style(),
     io_lib:format("<rect class=\"ground\" width=\"~b\" height=\"~b\" "
                   "rx=\"6\"/>~n<text class=\"title\" x=\"~b\" y=\"30\">~s"
                   "</text>~n",
                   [?WIDTH, Height, ?MARGIN, escape(Title)]),
     [bar(N, Bar, Longest)
      || {N, Bar} <- lists:zip(lists:seq(0, length(Bars) - 1), Bars)],
     "</svg>\n"].

style() ->
    "<style>\n"
    "text{font:14px system-ui,sans-serif;fill:#1f2328}\n"
    ".title{font-size:16px;font-weight:600}\n"
    ".label{text-anchor:end}\n"
    ".ground{fill:#ffffff}.ours{fill:#1a7f64}.other{fill:#9aa4ae}\n"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}"
    ".ground{fill:#161b22}.ours{fill:#3fb993}.other{fill:#6e7781}}\n"
    "</style>\n".

bar(N, {Label, Value, Class}, Longest) ->
    Y = ?TOP + N * ?STEP,
    Width = max(1, round((?WIDTH - ?LABELS - ?VALUES) * Value / Longest)),
    Base = Y + 16,
    io_lib:format("<text class=\"label\" x=\"~b\" y=\"~b\">~s</text>"
                  "<rect class=\"~s\" x=\"~b\" y=\"~b\" width=\"~b\" "
                  "height=\"~b\" rx=\"2\"/>"
                  "<text x=\"~b\" y=\"~b\">~s</text>~n",
                  [?LABELS - 10, Base, escape(Label), Class, ?LABELS, Y, Width,
                   ?BAR, ?LABELS + Width + 8, Base, number(Value)]).

said(Bars) ->
    [[Label, " ", number(Value)] || {Label, Value, _} <- Bars].

%% With three digits that count, and with commas.
-spec number(number()) -> iodata().
number(Value) when abs(Value) >= 100 -> thousands(round(Value));
number(Value) when abs(Value) >= 10 -> io_lib:format("~.1f", [float(Value)]);
number(Value) -> io_lib:format("~.2f", [float(Value)]).

thousands(N) when abs(N) >= 1000 ->
    [thousands(N div 1000), io_lib:format(",~3..0b", [abs(N rem 1000)])];
thousands(N) ->
    integer_to_list(N).

escape(Text) ->
    lists:foldl(fun({Char, Entity}, Acc) ->
                        string:replace(Acc, Char, Entity, all)
                end, Text,
                [{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"},
                 {"\"", "&quot;"}]).
