%% JSON for the tests: OTP gained a codec of its own only in release 27.
%%
%% Objects are maps with binary keys, arrays are lists, text is UTF-8
%% binaries, and null, true, false are the atoms. The encoder also takes atom
%% keys and atom values, so that tests read well. A lone surrogate is decoded
%% as U+FFFD; anything else that is not JSON raises error({json, Rest}).
-module(test_json).

-export([encode/1, decode/1]).

-define(IS_SPACE(C), (C =:= $\s orelse C =:= $\t orelse C =:= $\n orelse
                      C =:= $\r)).

-spec encode(term()) -> binary().
encode(Term) ->
    iolist_to_binary(value(Term)).

value(null) -> <<"null">>;
value(true) -> <<"true">>;
value(false) -> <<"false">>;
value(Atom) when is_atom(Atom) -> text(atom_to_binary(Atom));
value(Bin) when is_binary(Bin) -> text(Bin);
value(Int) when is_integer(Int) -> integer_to_binary(Int);
value(Float) when is_float(Float) -> float_to_binary(Float, [short]);
value(List) when is_list(List) ->
    [$[, lists:join($,, [value(V) || V <- List]), $]];
value(Map) when is_map(Map) ->
    [${, lists:join($,, [[key(K), $:, value(V)]
                         || {K, V} <- maps:to_list(Map)]), $}].

key(Key) when is_atom(Key) -> text(atom_to_binary(Key));
key(Key) when is_binary(Key) -> text(Key).

text(Bin) ->
    [$", << <<(escape(C))/binary>> || <<C/utf8>> <= Bin >>, $"].

escape($") -> <<"\\\"">>;
escape($\\) -> <<"\\\\">>;
escape($\n) -> <<"\\n">>;
escape($\r) -> <<"\\r">>;
escape($\t) -> <<"\\t">>;
escape(C) when C < 32 -> iolist_to_binary(io_lib:format("\\u~4.16.0b", [C]));
escape(C) -> <<C/utf8>>.

-spec decode(binary()) -> term().
decode(Bin) ->
    {Value, Rest} = parse(space(Bin)),
    case space(Rest) of
        <<>> -> Value;
        Junk -> error({json, Junk})
    end.

parse(<<"null", Rest/binary>>) -> {null, Rest};
parse(<<"true", Rest/binary>>) -> {true, Rest};
parse(<<"false", Rest/binary>>) -> {false, Rest};
parse(<<$", Rest/binary>>) -> string(Rest, []);
parse(<<$[, Rest/binary>>) -> array(space(Rest), []);
parse(<<${, Rest/binary>>) -> object(space(Rest), #{});
parse(Bin) -> number(Bin).

array(<<$], Rest/binary>>, []) ->
    {[], Rest};
array(Bin, Acc) ->
    {Value, Rest} = parse(Bin),
    case space(Rest) of
        <<$,, More/binary>> -> array(space(More), [Value | Acc]);
        <<$], More/binary>> -> {lists:reverse(Acc, [Value]), More};
        Junk -> error({json, Junk})
    end.

object(<<$}, Rest/binary>>, Map) when map_size(Map) =:= 0 ->
    {Map, Rest};
object(<<$", Bin/binary>>, Map) ->
    {Key, Rest} = string(Bin, []),
    <<$:, AfterColon/binary>> = space(Rest),
    {Value, Rest1} = parse(space(AfterColon)),
    Map1 = Map#{Key => Value},
    case space(Rest1) of
        <<$,, More/binary>> -> object(space(More), Map1);
        <<$}, More/binary>> -> {Map1, More};
        Junk -> error({json, Junk})
    end;
object(Junk, _Map) ->
    error({json, Junk}).

string(<<$", Rest/binary>>, Acc) ->
    {unicode:characters_to_binary(lists:reverse(Acc)), Rest};
string(<<"\\u", Hex:4/binary, Rest/binary>>, Acc) ->
    unit(binary_to_integer(Hex, 16), Rest, Acc);
string(<<$\\, C, Rest/binary>>, Acc) ->
    string(Rest, [unescape(C) | Acc]);
string(<<C/utf8, Rest/binary>>, Acc) when C >= 32 ->
    string(Rest, [C | Acc]);
string(Junk, _Acc) ->
    error({json, Junk}).

%% One UTF-16 code unit of a \u escape, joined with its partner if it has one.
unit(High, <<"\\u", Hex:4/binary, Rest/binary>> = Bin, Acc)
  when High >= 16#D800, High < 16#DC00 ->
    case binary_to_integer(Hex, 16) of
        Low when Low >= 16#DC00, Low < 16#E000 ->
            C = 16#10000 + ((High band 16#3FF) bsl 10) + (Low band 16#3FF),
            string(Rest, [C | Acc]);
        _ ->
            string(Bin, [16#FFFD | Acc])
    end;
unit(Lone, Rest, Acc) when Lone >= 16#D800, Lone < 16#E000 ->
    string(Rest, [16#FFFD | Acc]);
unit(C, Rest, Acc) ->
    string(Rest, [C | Acc]).

unescape($b) -> $\b;
unescape($f) -> $\f;
unescape($n) -> $\n;
unescape($r) -> $\r;
unescape($t) -> $\t;
unescape(C) when C =:= $"; C =:= $\\; C =:= $/ -> C.

number(Bin) ->
    case re:run(Bin, "^(-?(?:0|[1-9][0-9]*))(\\.[0-9]+)?([eE][-+]?[0-9]+)?",
                [{capture, all, binary}]) of
        {match, [All, _Int]} ->
            {binary_to_integer(All), after_prefix(All, Bin)};
        {match, [All, Int, <<>>, Exponent]} ->
            {binary_to_float(<<Int/binary, ".0", Exponent/binary>>),
             after_prefix(All, Bin)};
        {match, [All | _]} ->
            {binary_to_float(All), after_prefix(All, Bin)};
        nomatch ->
            error({json, Bin})
    end.

after_prefix(Prefix, Bin) ->
    binary:part(Bin, byte_size(Prefix), byte_size(Bin) - byte_size(Prefix)).

space(<<C, Rest/binary>>) when ?IS_SPACE(C) -> space(Rest);
space(Bin) -> Bin.
