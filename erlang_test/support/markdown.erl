%% What of a Markdown document can be wrong: its links, its headings, the
%% blocks of code in it.
%%
%%     [#{language := "erlang", body := Code, line := 12}] =
%%         markdown:blocks(Text),
%%     ["getting-started"] = markdown:anchors(Text),
%%     ["docs/calling.md#values"] = markdown:links(Text)
%%
%% Text is a binary of UTF-8, and so are the bodies of blocks.
-module(markdown).

-export([blocks/1, anchors/1, links/1]).

-type block() :: #{language := string(), line := pos_integer(),
                   body := binary()}.
-export_type([block/0]).

%% Those between ``` and ```, in order; the language may be "".
-spec blocks(binary()) -> [block()].
blocks(Text) ->
    {_, Blocks} = parts(Text),
    Blocks.

%% Of all headings, as the sites that show such documents make them.
-spec anchors(binary()) -> [string()].
anchors(Text) ->
    {Prose, _} = parts(Text),
    Slugs = [slug(Heading) || [Heading] <- all(Prose, "^#{1,6} +(.*)$")],
    lists:reverse(lists:foldl(fun numbered/2, [], Slugs)).

%% The targets of all links and images.
-spec links(binary()) -> [string()].
links(Text) ->
    {Prose, _} = parts(Text),
    NoCode = re:replace(Prose, "`[^`]*`", "", [global, {return, binary}]),
    [unicode:characters_to_list(Link)
     || [Link] <- all(NoCode, "\\]\\(([^)\\s]+)\\)")].

all(Text, Pattern) ->
    case re:run(Text, Pattern, [global, multiline, unicode,
                                {capture, all_but_first, binary}]) of
        {match, Found} -> Found;
        nomatch -> []
    end.

%% A heading that is there twice has a number behind it the second time.
numbered(Slug, Seen) ->
    case length([S || S <- Seen, base(S, Slug)]) of
        0 -> [Slug | Seen];
        N -> [Slug ++ "-" ++ integer_to_list(N) | Seen]
    end.

base(Seen, Slug) ->
    Seen =:= Slug orelse
        re:run(Seen, ["^", Slug, "-[0-9]+$"], [{capture, none}]) =:= match.

slug(Heading) ->
    Plain = re:replace(Heading, "\\[([^]]*)\\]\\([^)]*\\)", "\\1",
                       [global, unicode, {return, list}]),
    [case C of $\s -> $-; _ -> C end
     || C <- string:lowercase(Plain), is_kept(C)].

is_kept(C) ->
    C >= $a andalso C =< $z orelse C >= $0 andalso C =< $9
        orelse C =:= $- orelse C =:= $_ orelse C =:= $\s orelse C > 127.

%% The text outside of blocks, and the blocks.
parts(Text) ->
    Lines = binary:split(Text, <<"\n">>, [global]),
    {Prose, Blocks} = prose(lists:zip(lists:seq(1, length(Lines)), Lines),
                            [], []),
    {iolist_to_binary(lists:join("\n", lists:reverse(Prose))),
     lists:reverse(Blocks)}.

prose([], Prose, Blocks) ->
    {Prose, Blocks};
prose([{N, <<"```", Language/binary>>} | Lines], Prose, Blocks) ->
    {Body, [{_, <<"```">>} | Rest]} =
        lists:splitwith(fun({_, Line}) -> Line =/= <<"```">> end, Lines),
    Block = #{language => binary_to_list(Language), line => N,
              body => iolist_to_binary([[L, "\n"] || {_, L} <- Body])},
    prose(Rest, Prose, [Block | Blocks]);
prose([{_, Line} | Lines], Prose, Blocks) ->
    prose(Lines, [Line | Prose], Blocks).
