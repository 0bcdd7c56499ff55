%% Prometheus' text format, read strictly: whatever is not by the book is an
%% error.
%%
%%     Metrics = prometheus:parse(Text),
%%     3.0 = prometheus:value(Metrics, "requests_total", #{outcome => "ok"})
-module(prometheus).

-export([parse/1, families/1, value/2, value/3, sum/3, samples/2]).

-type labels() :: #{string() => string()}.
-type family() :: #{type := string(), help := string(),
                    samples := [{string(), labels(), number() | atom()}]}.
-type metrics() :: #{string() => family()}.
-export_type([metrics/0]).

-spec parse(binary()) -> metrics().
parse(Text) ->
    $\n = binary:last(Text),
    true = is_list(unicode:characters_to_list(Text)),
    Lines = string:split(binary_to_list(Text), "\n", all),
    Metrics = families(lists:droplast(Lines), #{}),
    maps:foreach(fun check/2, Metrics),
    Metrics.

%% Names of all families, of histograms without _bucket and the like.
-spec families(metrics()) -> [string()].
families(Metrics) ->
    maps:keys(Metrics).

%% The only sample of that name with those labels (and maybe others).
value(Metrics, Name) ->
    value(Metrics, Name, #{}).

-spec value(metrics(), string(), map()) -> number().
value(Metrics, Name, Labels) ->
    [Value] = [V || {L, V} <- samples(Metrics, Name), is_with(L, Labels)],
    Value.

%% The sum of all samples with those labels.
-spec sum(metrics(), string(), map()) -> number().
sum(Metrics, Name, Labels) ->
    lists:sum([V || {L, V} <- samples(Metrics, Name), is_with(L, Labels)]).

-spec samples(metrics(), string()) -> [{labels(), number() | atom()}].
samples(Metrics, Name) ->
    #{samples := Samples} = maps:get(family_of(Name, Metrics), Metrics),
    [{L, V} || {N, L, V} <- Samples, N =:= Name].

is_with(Has, Wanted) ->
    maps:fold(fun(K, V, All) -> All andalso
                                maps:get(atom_to_list(K), Has, "") =:= V
              end, true, Wanted).

%% A histogram's samples have suffixes.
family_of(Name, Metrics) ->
    Names = [Name | [lists:sublist(Name, length(Name) - length(S))
                     || S <- ["_bucket", "_sum", "_count"],
                        lists:suffix(S, Name)]],
    hd([N || N <- Names, maps:is_key(N, Metrics)]).

families([], Metrics) ->
    Metrics;
families(["# HELP " ++ Help, "# TYPE " ++ Type | Lines], Metrics) ->
    [Name, Text] = string:split(Help, " "),
    [Name, Kind] = string:split(Type, " "),
    true = lists:member(Kind, ["counter", "gauge", "histogram"]),
    false = maps:is_key(Name, Metrics),
    {Own, Others} = lists:splitwith(fun(L) -> not lists:prefix("#", L) end,
                                    Lines),
    Family = #{type => Kind, help => Text, samples => [sample(L) || L <- Own]},
    families(Others, Metrics#{Name => Family}).

sample(Line) ->
    {Name, Rest} = lists:splitwith(fun is_name_char/1, Line),
    true = Name =/= "",
    {Labels, Value} = case Rest of
                          "{" ++ More -> labels(More, []);
                          " " ++ Number -> {[], Number}
                      end,
    true = length(Labels) =:= map_size(maps:from_list(Labels)),
    {Name, maps:from_list(Labels), number(Value)}.

is_name_char(C) ->
    (C >= $a andalso C =< $z) orelse (C >= $A andalso C =< $Z)
        orelse (C >= $0 andalso C =< $9) orelse C =:= $_ orelse C =:= $:.

labels(Text, Labels) ->
    {Name, "=\"" ++ Rest} = lists:splitwith(fun is_name_char/1, Text),
    {Value, After} = label_value(Rest, ""),
    case After of
        "," ++ More -> labels(More, [{Name, Value} | Labels]);
        "} " ++ Number -> {[{Name, Value} | Labels], Number}
    end.

label_value("\"" ++ Rest, Value) -> {lists:reverse(Value), Rest};
label_value("\\\\" ++ Rest, Value) -> label_value(Rest, [$\\ | Value]);
label_value("\\\"" ++ Rest, Value) -> label_value(Rest, [$" | Value]);
label_value("\\n" ++ Rest, Value) -> label_value(Rest, [$\n | Value]);
label_value([C | Rest], Value) when C =/= $\\ -> label_value(Rest, [C | Value]).

number("NaN") -> nan;
number("+Inf") -> infinity;
number("-Inf") -> minus_infinity;
number(Text) ->
    try list_to_integer(Text)
    catch error:badarg -> real(string:split(Text, "e"))
    end.

real([Mantissa]) ->
    list_to_float(Mantissa);
real([Mantissa, Exponent]) ->
    Whole = case lists:member($., Mantissa) of
                true -> Mantissa;
                false -> Mantissa ++ ".0"
            end,
    list_to_float(Whole ++ "e" ++ Exponent).

%% No sample twice; counters are not negative and are called so; buckets add
%% up.
check(Name, #{type := Type, samples := Samples}) ->
    Keys = [{N, L} || {N, L, _} <- Samples],
    true = length(Keys) =:= length(lists:usort(Keys)),
    check(Type, Name, Samples).

check("counter", Name, Samples) ->
    true = lists:suffix("_total", Name),
    true = lists:all(fun({N, _, V}) -> N =:= Name andalso V >= 0 end, Samples);
check("gauge", Name, Samples) ->
    false = lists:suffix("_total", Name),
    true = lists:all(fun({N, _, _}) -> N =:= Name end, Samples);
check("histogram", Name, Samples) ->
    Of = lists:usort([maps:remove("le", L) || {_, L, _} <- Samples]),
    lists:foreach(fun(L) -> check_histogram(Name, L, Samples) end, Of).

check_histogram(Name, Labels, Samples) ->
    Buckets = [{bound(maps:get("le", L)), V}
               || {N, L, V} <- Samples, N =:= Name ++ "_bucket",
                  maps:remove("le", L) =:= Labels],
    [Count] = [V || {N, L, V} <- Samples, N =:= Name ++ "_count",
                    L =:= Labels],
    [_] = [V || {N, L, V} <- Samples, N =:= Name ++ "_sum", L =:= Labels],
    Buckets = lists:keysort(1, Buckets),
    {Bounds, Values} = lists:unzip(Buckets),
    Values = lists:sort(Values),
    infinity = lists:last(Bounds),
    Count = lists:last(Values).

%% In Erlang's order an atom is larger than any number.
bound(Text) ->
    number(Text).
