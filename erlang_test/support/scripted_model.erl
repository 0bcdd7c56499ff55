%% What the scripted provider answers when no test says otherwise: real
%% answers made from the text that it is sent, the same for the same text.
%%
%% It looks at the name of the JSON schema that the request asks for, in any
%% dialect:
%%     task_list      tasks from the headings, list items and sentences of the
%%                    text between <document> and </document>
%%     subtask_list   subtasks of the task between <task> and </task>
%%     task           one task from the text between <request> and </request>
%%     none           a sentence that quotes the last user message
%% and obeys "exactly N tasks" or "exactly N subtasks" in the messages.
-module(scripted_model).

-export([from_document/1]).

-define(TITLE_MAX, 80).
-define(TASKS_WHEN_FREE, 12).
-define(SUBTASKS_WHEN_FREE, 4).

-spec from_document(scripted_provider:request()) ->
          [scripted_provider:action()].
from_document(#{path := <<"/v1/models">>}) ->
    [{body, test_json:encode(
              #{object => list,
                data => [#{id => scripted, object => model}]})}];
from_document(#{path := Path} = Request) ->
    case dialects:asked(Request) of
        #{inputs := Inputs} when is_list(Inputs) ->
            [{embeddings, [vector(Text) || Text <- Inputs], #{}}];
        #{texts := [_ | _] = Texts} = Asked ->
            scripted_provider:answer(reply(schema_name(Asked), Texts));
        _ ->
            scripted_provider:error(404, not_found,
                                    <<"no such path: ", Path/binary>>, [])
    end.

%% Of the dialects that send a schema without its name, it is known by what it
%% asks for.
schema_name(#{schema_name := Name}) when is_binary(Name) ->
    Name;
schema_name(#{schema := #{<<"properties">> := Wanted}}) ->
    case Wanted of
        #{<<"tasks">> := _} -> <<"task_list">>;
        #{<<"subtasks">> := _} -> <<"subtask_list">>;
        #{<<"title">> := _, <<"test_strategy">> := _} -> <<"task">>;
        _ -> none
    end;
schema_name(_) ->
    none.

%% An embedding that tells texts apart.
vector(Text) ->
    [byte_size(Text) / 64, erlang:phash2(Text, 1024) / 1024, -0.5].

reply(<<"task_list">>, Texts) ->
    {Document, Around} = marked(<<"document">>, Texts),
    Sources = sources(Document),
    Chosen = case wanted("tasks", Around) of
                 0 -> choose(min(?TASKS_WHEN_FREE, length(Sources)), Sources);
                 N -> choose(N, Sources)
             end,
    #{tasks => number(fun task/3, Chosen)};
reply(<<"subtask_list">>, Texts) ->
    {Marked, Around} = marked(<<"task">>, Texts),
    Sources = sources(task_text(Marked)),
    Wanted = case wanted("subtasks", Around) of
                 0 -> ?SUBTASKS_WHEN_FREE;
                 N -> N
             end,
    #{subtasks => number(fun subtask/3, choose(Wanted, Sources))};
reply(<<"task">>, Texts) ->
    {Request, _} = marked(<<"request">>, Texts),
    [#{text := First} | _] = sources(Request),
    Source = #{title => title(First), section => <<>>,
               text => string:trim(Request)},
    maps:remove(id, task(1, none, Source));
reply(_, Texts) ->
    <<"You wrote: ", (title(lists:last(Texts)))/binary>>.

%% The last message with the tag: what is inside, and all that is around it.
marked(Tag, Texts) ->
    Pattern = <<"<", Tag/binary, ">(.*)</", Tag/binary, ">">>,
    Found = [{Inside, binary:replace(Text, Inside, <<>>)}
             || Text <- lists:reverse(Texts),
                {match, [Inside]} <-
                    [re:run(Text, Pattern, [dotall, {capture, [1], binary}])]],
    Others = [T || T <- Texts, nomatch =:= re:run(T, Pattern, [dotall])],
    case Found of
        [{Inside, Around} | _] -> {Inside, [Around | Others]};
        [] -> {lists:last(Texts), Texts}
    end.

wanted(Noun, Texts) ->
    case re:run(iolist_to_binary(lists:join("\n", Texts)),
                "exactly ([0-9]+) " ++ Noun, [{capture, [1], binary}]) of
        {match, [N]} -> binary_to_integer(N);
        nomatch -> 0
    end.

%% The task arrives as JSON; its own text is the source.
task_text(Marked) ->
    try test_json:decode(Marked) of
        #{} = Task ->
            iolist_to_binary(
              lists:join("\n", [T || K <- [<<"title">>, <<"description">>,
                                           <<"details">>, <<"test_strategy">>],
                                     T <- [maps:get(K, Task, null)],
                                     is_binary(T)]));
        _ -> Marked
    catch
        error:_ -> Marked
    end.

%% ------------------------------------------------------------- documents

%% What tasks are made of, in document order: #{rank, title, section, text}.
%% Rank 1 is a heading with its section's text, 2 a list item, when their text
%% demands something; 3 is everything else, down to single sentences.
sources(Document) ->
    Lines = [string:trim(L) || L <- binary:split(Document, <<"\n">>, [global])],
    Sections = sections([L || L <- Lines, L =/= <<>>], {3, <<>>}, [], []),
    case lists:append([section_sources(S) || S <- Sections]) of
        [] -> [#{rank => 1, title => <<"Untitled">>, section => <<>>,
                 text => <<"Untitled">>}];
        Sources -> Sources
    end.

sections([], Heading, Body, Done) ->
    lists:reverse(Done, [{Heading, lists:reverse(Body)}]);
sections([Line | Lines], Heading, Body, Done) ->
    case re:run(Line, "^(#+)\\s*(.+)$", [unicode, {capture, [1, 2], binary}]) of
        {match, [Marks, Next]} ->
            Rank = case Marks of <<"#">> -> 3; _ -> 1 end,
            sections(Lines, {Rank, Next}, [],
                     [{Heading, lists:reverse(Body)} | Done]);
        nomatch ->
            sections(Lines, Heading, [Line | Body], Done)
    end.

section_sources({_Heading, []}) ->
    [];
section_sources({{Above, Heading}, Body}) ->
    Items = items(Body),
    Text = iolist_to_binary(lists:join(" ", [T || {_, T} <- Items])),
    Own = [source(Above, Heading, Heading, Text) || Heading =/= <<>>],
    Own ++ [source(Rank, Piece, Heading, Piece)
            || {Rank, Item} <- Items, Piece <- pieces(Rank, Item)].

source(Rank, Title, Heading, Text) ->
    #{rank => rank(Rank, Text), title => title(Title), section => Heading,
      text => Text}.

rank(Best, Text) ->
    case says("must|shall|should|can|may|could|never", Text) of
        true -> Best;
        false -> 3
    end.

%% Is one of the words in the text?
says(Words, Text) ->
    re:run(Text, "\\b(" ++ Words ++ ")\\b", [caseless]) =/= nomatch.

%% Lines joined to list items (rank 2) and paragraphs (rank 3).
items(Lines) ->
    lists:reverse(lists:foldl(fun item/2, [], Lines)).

item(Line, Items) ->
    case re:run(Line, "^(?:[-*+]|[0-9]+[.)])\\s+(?:\\[.\\]\\s+)?(.+)$",
                [unicode, {capture, [1], binary}]) of
        {match, [Item]} -> [{2, Item} | Items];
        nomatch -> continue(Line, Items)
    end.

continue(Line, [{Rank, Text} | Items]) ->
    [{Rank, <<Text/binary, " ", Line/binary>>} | Items];
continue(Line, []) ->
    [{3, Line}].

pieces(2, Item) -> [Item];
pieces(3, Paragraph) ->
    [S || S <- re:split(Paragraph, "(?<=[.!?])\\s+", [unicode]), S =/= <<>>].

%% N sources in document order, those of the best rank first; when there are
%% too few, they are gone through again as further parts.
choose(N, Sources) when N =< length(Sources) ->
    Indexed = lists:zip(lists:seq(1, length(Sources)), Sources),
    ByRank = lists:sort([{Rank, I} || {I, #{rank := Rank}} <- Indexed]),
    Taken = [I || {_, I} <- lists:sublist(ByRank, N)],
    [S || {I, S} <- Indexed, lists:member(I, Taken)];
choose(N, Sources) ->
    Count = length(Sources),
    [part(I div Count, lists:nth(I rem Count + 1, Sources))
     || I <- lists:seq(0, N - 1)].

part(0, Source) ->
    Source;
part(Again, #{title := Title} = Source) ->
    Part = integer_to_binary(Again + 1),
    Source#{title := <<Title/binary, " (part ", Part/binary, ")">>}.

%% ----------------------------------------------------------------- tasks

%% Each source becomes Make(Id, Parent, Source), where Parent is the id made
%% from the heading above it, or from the last heading before a heading.
number(Make, Sources) ->
    {Made, _} = lists:mapfoldl(
                  fun(#{rank := Rank} = Source, {Id, Heading}) ->
                          Next = case Rank of 1 -> Id; _ -> Heading end,
                          {Make(Id, Heading, Source), {Id + 1, Next}}
                  end, {1, none}, Sources),
    Made.

task(Id, Parent, #{text := Text} = Source) ->
    (subtask(Id, Parent, Source))#{priority => priority(Text)}.

subtask(Id, Parent, #{title := Title, section := Section, text := Text}) ->
    #{id => Id,
      title => Title,
      description => first_sentence(Text),
      details => Text,
      test_strategy => <<"Check against \"", (about(Section, Title))/binary,
                         "\": ", (last_sentence(Text))/binary>>,
      dependencies => [Parent || Parent =/= none],
      estimated_hours => max(1, length(words(Text)) div 6)}.

about(<<>>, Title) -> Title;
about(Section, _Title) -> Section.

priority(Text) ->
    case {says("must|shall|required|never", Text),
          says("may|could|later|optional", Text)} of
        {true, _} -> high;
        {false, true} -> low;
        {false, false} -> medium
    end.

first_sentence(Text) -> hd(pieces(3, Text)).
last_sentence(Text) -> lists:last(pieces(3, Text)).

words(Text) ->
    string:lexemes(Text, " \t\r\n").

%% The first words of a text, without its number, Markdown marks and the
%% closing stop.
title(Text) ->
    Plain = re:replace(Text, "^[0-9.]+\\s|[*_`#]|[.:;,]+$", "",
                       [global, {return, binary}]),
    Words = shorten(words(Plain), ?TITLE_MAX),
    case iolist_to_binary(lists:join(" ", Words)) of
        <<>> -> <<"Untitled">>;
        Title -> Title
    end.

shorten([Word | Words], Room) ->
    case string:length(Word) of
        Length when Length < Room -> [Word | shorten(Words, Room - Length - 1)];
        _ -> []
    end;
shorten([], _Room) ->
    [].
