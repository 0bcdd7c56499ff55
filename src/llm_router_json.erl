%% @doc JSON out of Erlang and Elixir terms: what the program is told.
%%
%% Only an encoder: nothing that the program says is JSON.
-module(llm_router_json).

-export([encode/1]).
-export_type([value/0]).

-type value() :: null | nil | undefined | boolean() | number() | atom()
               | unicode:unicode_binary() | [value()] | object().
-type object() :: #{key() => value()} | [{key(), value()}, ...].
-type key() :: atom() | unicode:unicode_binary().

%% @doc The text, on one line.
%%
%% Maps and non-empty keyword lists are objects, other lists are arrays, so
%% that a charlist is an array of numbers: write binaries. `null', `nil' and
%% `undefined' are null, other atoms are texts. The error names the way to what
%% cannot be encoded, as in `<<"routes.simple[1]">>'.
-spec encode(value()) ->
          {ok, binary()} | {error, {Path :: binary(), What :: binary()}}.
encode(Term) ->
    try value(Term, []) of
        Text -> {ok, iolist_to_binary(Text)}
    catch
        throw:{What, Path} -> {error, {path(lists:reverse(Path)), What}}
    end.

value(Null, _) when Null =:= null; Null =:= nil; Null =:= undefined ->
    <<"null">>;
value(Boolean, _) when is_boolean(Boolean) ->
    atom_to_binary(Boolean);
value(Atom, Path) when is_atom(Atom) ->
    text(atom_to_binary(Atom), Path);
value(Text, Path) when is_binary(Text) ->
    text(Text, Path);
value(Integer, _) when is_integer(Integer) ->
    integer_to_binary(Integer);
value(Float, _) when is_float(Float) ->
    float_to_binary(Float, [short]);
value(Map, Path) when is_map(Map) ->
    object(maps:to_list(Map), Path);
value([{_, _} | _] = Pairs, Path) ->
    object(Pairs, Path);
value([_ | _] = List, Path) ->
    [$[, elements(List, 0, Path), $]];
value([], _) ->
    <<"[]">>;
value(_, Path) ->
    throw({<<"must be a map, list, text, number, atom or boolean">>, Path}).

object(Pairs, Path) ->
    [${, lists:join($,, [member(Pair, Path) || Pair <- Pairs]), $}].

member({Key, Value}, Path) when is_atom(Key); is_binary(Key) ->
    Name = if is_atom(Key) -> atom_to_binary(Key); true -> Key end,
    [text(Name, Path), $:, value(Value, [Name | Path])];
member(_, Path) ->
    throw({<<"must have atoms or binaries as keys">>, Path}).

elements([Value | Rest], N, Path) ->
    Text = value(Value, [N | Path]),
    case Rest of
        [] -> Text;
        _ -> [Text, $, | elements(Rest, N + 1, Path)]
    end;
elements(_, _, Path) ->
    throw({<<"must be a proper list">>, Path}).

text(Text, Path) ->
    case unicode:characters_to_list(Text) of
        Characters when is_list(Characters) ->
            [$", [escape(C) || C <- Characters], $"];
        _ ->
            throw({<<"must be UTF-8">>, Path})
    end.

escape($") -> <<"\\\"">>;
escape($\\) -> <<"\\\\">>;
escape(C) when C < 16#20 -> io_lib:format("\\u~4.16.0b", [C]);
escape(C) -> <<C/utf8>>.

path(Steps) ->
    iolist_to_binary(lists:join($., [Name || Name <- steps(Steps)])).

%% Names, each with the indexes behind it.
steps([Name | Rest]) when is_binary(Name) ->
    {Indexes, Deeper} = lists:splitwith(fun is_integer/1, Rest),
    [[Name | indexes(Indexes)] | steps(Deeper)];
steps([_ | _] = Steps) ->
    {Indexes, Deeper} = lists:splitwith(fun is_integer/1, Steps),
    [indexes(Indexes) | steps(Deeper)];
steps([]) ->
    [].

indexes(Indexes) ->
    [[$[, integer_to_binary(N), $]] || N <- Indexes].
