%% Frames between nodes, in the two forms that a connection can have:
%%
%%     pass_through   length:32, 112, 131 Control, 131 Payload
%%     fragments      length:32, 131, 68, 0, Control, Payload
%%
%% The second is what nodes speak when both announced FRAGMENTS. Then a large
%% message is cut: 131, 69, Sequence:64, Left:64, 0, Control and the first part
%% of the payload; 131, 70, Sequence:64, Left:64 and the next part; Left counts
%% down to 1 (erl_dist_protocol(3), "Distribution Header").
-module(dist_frames).

-export([split/1, pack/2, pack/3, new/0, unpack/2]).
-export([structure/1, payload_at/1]).

-type form() :: pass_through | fragments.
-type pending() :: #{integer() => [binary()]}.
-export_type([form/0, pending/0]).

%% Whole frames, each with its length.
-spec split(binary()) -> [binary()].
split(<<Length:32, _/binary>> = Bytes) ->
    <<Frame:(Length + 4)/binary, Rest/binary>> = Bytes,
    [Frame | split(Rest)];
split(<<>>) ->
    [].

-spec pack(form(), tuple()) -> binary().
pack(Form, Control) ->
    packed(Form, [Control]).

-spec pack(form(), tuple(), term()) -> binary().
pack(Form, Control, Payload) ->
    packed(Form, [Control, Payload]).

packed(pass_through, Terms) ->
    whole([112 | [term_to_binary(T) || T <- Terms]]);
packed(fragments, Terms) ->
    whole([131, 68, 0 | [bare(T) || T <- Terms]]).

bare(Term) ->
    <<131, Bytes/binary>> = term_to_binary(Term),
    Bytes.

whole(Body) ->
    iolist_to_binary([<<(iolist_size(Body)):32>>, Body]).

%% What a receiver keeps of messages that are not complete.
-spec new() -> pending().
new() ->
    #{}.

%% A frame's body, without its length; the message is there once its last
%% fragment is.
-spec unpack(binary(), pending()) ->
          {{tuple()} | {tuple(), term()} | more, pending()}.
unpack(<<112, Body/binary>>, Pending) ->
    {Control, Used} = binary_to_term(Body, [used]),
    case Body of
        <<_:Used/binary>> -> {{Control}, Pending};
        <<_:Used/binary, Payload/binary>> ->
            {{Control, binary_to_term(Payload)}, Pending}
    end;
unpack(<<131, 68, 0, Body/binary>>, Pending) ->
    {bare_terms(Body), Pending};
unpack(<<131, 69, Sequence:64, Left:64, 0, Part/binary>>, Pending) ->
    joined(Sequence, Left, Pending#{Sequence => [Part]});
unpack(<<131, 70, Sequence:64, Left:64, Part/binary>>, Pending) ->
    Parts = maps:get(Sequence, Pending),
    joined(Sequence, Left, Pending#{Sequence := [Part | Parts]}).

joined(Sequence, 1, Pending) ->
    {Parts, Rest} = maps:take(Sequence, Pending),
    {bare_terms(iolist_to_binary(lists:reverse(Parts))), Rest};
joined(_Sequence, _Left, Pending) ->
    {more, Pending}.

bare_terms(Body) ->
    {Control, Used} = binary_to_term(<<131, Body/binary>>, [used]),
    Size = Used - 1,
    case Body of
        <<_:Size/binary>> -> {Control};
        <<_:Size/binary, Payload/binary>> ->
            {Control, binary_to_term(<<131, Payload/binary>>)}
    end.

%% Where the payload of a sound frame begins, behind its version byte; none for
%% a frame without one, and for a fragment.
-spec payload_at(binary()) -> pos_integer() | none.
payload_at(<<_:32, 112, Body/binary>> = Frame) ->
    behind(Frame, 5 + used(Body), 1);
payload_at(<<_:32, 131, 68, 0, Body/binary>> = Frame) ->
    behind(Frame, 7 + used(<<131, Body/binary>>) - 1, 0);
payload_at(_) ->
    none.

used(Bytes) ->
    {_Control, Used} = binary_to_term(Bytes, [used]),
    Used.

behind(Frame, At, _Version) when At =:= byte_size(Frame) -> none;
behind(_Frame, At, Version) -> At + Version.

%% Where a frame says what follows and how much: the offsets of its length and
%% header, and of every tag, size and count in its terms, as far as they go.
-spec structure(binary()) -> [non_neg_integer()].
structure(<<_:32, 112, 131, _/binary>> = Frame) ->
    lists:seq(0, 5) ++ terms(Frame, 6);
structure(<<_:32, 131, 68, _, _/binary>> = Frame) ->
    lists:seq(0, 6) ++ terms(Frame, 7);
structure(<<_:32, 131, 69, _:128, _, _/binary>> = Frame) ->
    lists:seq(0, 22) ++ terms(Frame, 23);
structure(<<_:32, 131, 70, _:128, _/binary>>) ->
    lists:seq(0, 21).

terms(Frame, At) ->
    case Frame of
        <<_:At/binary, Tag, Rest/binary>> ->
            {Head, Skip} = term(Tag, Rest),
            lists:seq(At, At + Head) ++ terms(Frame, At + 1 + Head + Skip);
        _ ->
            []
    end.

%% How many bytes behind the tag tell sizes, and how many then hold data before
%% the next tag. What a term contains is the next to come. A node name is taken
%% as data of the pid, port or reference around it, but for its tag.
term(97, _) -> {1, 0};
term(98, _) -> {4, 0};
term(70, _) -> {0, 8};
term(104, _) -> {1, 0};
term(105, _) -> {4, 0};
term(107, <<Size:16, _/binary>>) -> {2, Size};
term(108, _) -> {4, 0};
term(109, <<Size:32, _/binary>>) -> {4, Size};
term(77, <<Size:32, _/binary>>) -> {5, Size};
term(110, <<Size, _/binary>>) -> {2, Size};
term(111, <<Size:32, _/binary>>) -> {5, Size};
term(116, _) -> {4, 0};
term(100, <<Size:16, _/binary>>) -> {2, Size};
term(118, <<Size:16, _/binary>>) -> {2, Size};
term(119, <<Size, _/binary>>) -> {1, Size};
term(88, Rest) -> {1, node_size(Rest) - 1 + 12};
term(89, Rest) -> {1, node_size(Rest) - 1 + 8};
term(120, Rest) -> {1, node_size(Rest) - 1 + 12};
term(90, <<Words:16, Rest/binary>>) ->
    {3, node_size(Rest) - 1 + 4 + 4 * Words};
term(112, <<_:32, _/binary>>) -> {4, 25};
term(_, _) -> {0, 0}.

node_size(<<119, Size, _/binary>>) -> 2 + Size;
node_size(<<Tag, Size:16, _/binary>>) when Tag =:= 100; Tag =:= 118 -> 3 + Size;
node_size(_) -> 1.
