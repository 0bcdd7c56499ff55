%% Small changes to recorded bytes, as a broken or hostile peer would make them.
%%
%% Which one is up to rand of the calling process: seeded alike, the same
%% recording is changed alike. Most changes are where a frame says what follows
%% and how much (dist_frames:structure/1), some are anywhere.
-module(mutator).

-export([frames/1, packet/1, is_framed/1]).

%% A sequence of frames, each with its length, becomes bytes that are almost
%% that, with a word on what was done.
-spec frames([binary(), ...]) -> {binary(), tuple()}.
frames(Frames) ->
    {Changed, How} = one_of([{60, fun bytes/1}, {8, fun lengths/1},
                             {10, fun cut/1}, {5, fun end_early/1},
                             {5, fun drop/1}, {6, fun repeat/1},
                             {6, fun swap/1}], Frames),
    {iolist_to_binary(Changed), How}.

%% A packet of the handshake, with its length.
-spec packet(binary()) -> binary().
packet(Packet) ->
    case rand:uniform(5) of
        1 -> binary:part(Packet, 0, below(byte_size(Packet)));
        _ -> element(1, bytes(Packet, fun(P) -> below(byte_size(P)) end))
    end.

%% Whether the lengths fit: what follows these bytes begins with a length.
-spec is_framed(binary()) -> boolean().
is_framed(<<Length:32, _:Length/binary, Rest/binary>>) -> is_framed(Rest);
is_framed(Rest) -> Rest =:= <<>>.

%% Weights add up to 100.
one_of(Choices, Argument) ->
    chosen(rand:uniform(100), Choices, Argument).

chosen(N, [{Weight, Fun} | _], Argument) when N =< Weight -> Fun(Argument);
chosen(N, [{Weight, _} | Rest], Argument) -> chosen(N - Weight, Rest, Argument).

bytes(Frames) ->
    changed(Frames, fun(Frame) -> bytes(Frame, fun offset/1) end).

%% One or two of them.
bytes(Frame, Offset) ->
    Offsets = [Offset(Frame) || _ <- lists:seq(1, rand:uniform(2))],
    {lists:foldl(fun byte/2, Frame, Offsets), {bytes, Offsets}}.

offset(Frame) ->
    case rand:uniform(4) of
        1 -> below(byte_size(Frame));
        2 -> below(min(64, byte_size(Frame)));
        _ -> any_of(dist_frames:structure(Frame))
    end.

byte(At, Frame) ->
    <<Before:At/binary, Old, After/binary>> = Frame,
    New = any_of([0, 255, Old + 1, Old - 1, rand:uniform(256) - 1,
                  Old bxor (1 bsl below(8))]),
    <<Before/binary, New, After/binary>>.

%% A frame that says another length than it has.
lengths(Frames) ->
    changed(Frames,
            fun(<<Old:32, Body/binary>>) ->
                    New = any_of([0, Old + 1, Old - 1, Old + below(64),
                                  Old bxor (1 bsl below(32)), 16#ffffffff]),
                    {<<New:32, Body/binary>>, {length, New}}
            end).

%% A frame that lost some bytes, and says so.
cut(Frames) ->
    changed(Frames,
            fun(<<Length:32, Body/binary>>) ->
                    At = below(Length),
                    Lost = rand:uniform(min(64, Length - At)),
                    <<Before:At/binary, _:Lost/binary, After/binary>> = Body,
                    {<<(Length - Lost):32, Before/binary, After/binary>>,
                     {cut, At, Lost}}
            end).

end_early(Frames) ->
    Bytes = iolist_to_binary(Frames),
    Size = below(byte_size(Bytes)),
    {binary:part(Bytes, 0, Size), {end_early, Size}}.

drop(Frames) ->
    {Before, [_ | After]} = at(Frames),
    {Before ++ After, {drop, length(Before)}}.

repeat(Frames) ->
    {Before, [Frame | After]} = at(Frames),
    {Before ++ [Frame, Frame | After], {repeat, length(Before)}}.

%% A frame comes later than it should.
swap(Frames) ->
    {Before, [Frame | After]} = at(Frames),
    Later = below(length(After) + 1),
    {Earlier, Rest} = lists:split(Later, After),
    {Before ++ Earlier ++ [Frame | Rest], {swap, length(Before), Later}}.

changed(Frames, Fun) ->
    {Before, [Frame | After]} = at(Frames),
    {Changed, How} = Fun(Frame),
    {Before ++ [Changed | After], {frame, length(Before), How}}.

at(Frames) ->
    lists:split(below(length(Frames)), Frames).

any_of(List) ->
    lists:nth(rand:uniform(length(List)), List).

below(N) ->
    rand:uniform(N) - 1.
