%% A model for the operations that scripted_model does not know, made of the
%% text that it is sent like that one. By the name of the schema:
%%     analysis_list   an analysis of each line "3: {...}" between <tasks> and
%%                     </tasks>; its numbers come of the title's length
%%     research        findings that quote the topic, two sources
%% answer/1 leaves all else to scripted_model. plan/1 also takes
%%     task_list       a task of each heading of the part of a document between
%%                     <document> and </document>, that names the heading as
%%                     its source and needs the task before it, be it of an
%%                     earlier part; or "exactly N tasks", when that is asked;
%%                     or of tasks that are to be merged
%% so that a test can tell which task came from where.
-module(task_model).

-export([answer/1, plan/1]).
-export([schema_name/1, text/1, document/1, given/1, analysis/2]).

-type request() :: scripted_provider:request().

-spec answer(request()) -> [scripted_provider:action()].
answer(Request) ->
    case schema_name(Request) of
        <<"analysis_list">> ->
            Analyses = [analysis(N, Title) || {N, Title} <- given(Request)],
            scripted_provider:answer(#{analyses => Analyses});
        <<"research">> ->
            Topic = string:trim(inside(<<"topic">>, Request)),
            scripted_provider:answer(
              #{findings => <<"What is known of ", Topic/binary>>,
                sources => [<<"https://example.com/a">>, <<"A book">>]});
        _ ->
            scripted_model:from_document(Request)
    end.

-spec plan(request()) -> [scripted_provider:action()].
plan(Request) ->
    case schema_name(Request) of
        <<"task_list">> ->
            scripted_provider:answer(#{tasks => tasks(Request)});
        _ ->
            answer(Request)
    end.

%% --------------------------------------------------------- what is asked

-spec schema_name(request()) -> binary() | none.
schema_name(Request) ->
    maps:get(schema_name, dialects:asked(Request)).

%% All messages, the system's first.
-spec text(request()) -> binary().
text(Request) ->
    iolist_to_binary(
      lists:join("\n", maps:get(texts, dialects:asked(Request)))).

%% The document, or the part of it.
-spec document(request()) -> binary().
document(Request) ->
    inside(<<"document">>, Request).

%% The tasks to be judged: {Number, Title}.
-spec given(request()) -> [{pos_integer(), binary()}].
given(Request) ->
    [begin
         #{<<"title">> := Title} = test_json:decode(Json),
         {binary_to_integer(N), Title}
     end || [N, Json] <- every("^([0-9]+): (.*)$",
                               inside(<<"tasks">>, Request))].

%% An analysis as a good model writes it.
-spec analysis(pos_integer(), binary()) -> map().
analysis(Number, Title) ->
    #{number => Number, title => Title,
      complexity_score => byte_size(Title) rem 10 + 1,
      recommended_subtasks => byte_size(Title) rem 7,
      expansion_prompt => <<"Mind the parts of ", Title/binary>>,
      reasoning => <<"It is called ", Title/binary>>}.

%% What the last message has between <Tag> and </Tag>.
inside(Tag, Request) ->
    Last = lists:last(maps:get(texts, dialects:asked(Request))),
    Pattern = <<"<", Tag/binary, ">\n(.*)\n</", Tag/binary, ">">>,
    case re:run(Last, Pattern, [dotall, {capture, [1], binary}]) of
        {match, [Inside]} -> Inside;
        nomatch -> <<>>
    end.

every(Pattern, Text) ->
    case re:run(Text, Pattern,
                [global, multiline, {capture, all_but_first, binary}]) of
        {match, Found} -> Found;
        nomatch -> []
    end.

%% --------------------------------------------------------------- planning

tasks(Request) ->
    Text = text(Request),
    Headings = headings(Request),
    First = last_number("^Number the tasks from ([0-9]+)", Text, 1),
    Count = last_number("exactly ([0-9]+) tasks", Text, length(Headings)),
    Before = [binary_to_integer(N) || [N] <- every("^([0-9]+)\\. ", Text)],
    Needs = [[N] || N <- lists:seq(First, First + Count - 2)],
    [task(First + Place, source(Place, Headings), Need)
     || {Place, Need} <- lists:zip(lists:seq(0, Count - 1),
                                   [lists:nthtail(max(0, length(Before) - 1),
                                                  Before) | Needs])].

%% What tasks are made of: headings of a document, or titles to be merged.
headings(Request) ->
    [Heading
     || [Heading] <- every("^#+ (.+)$", document(Request))
            ++ every("\"title\":\"([^\"]+)\"", inside(<<"tasks">>, Request))].

%% Again from the first one, when there are too few.
source(Place, Headings) ->
    lists:nth(Place rem length(Headings) + 1, Headings).

task(Id, Source, Needs) ->
    #{id => Id, title => <<"Do ", Source/binary>>,
      description => <<"What it is">>, details => <<"How it is done">>,
      test_strategy => <<"How it is checked">>, priority => medium,
      dependencies => Needs, estimated_hours => 2, source => Source}.

last_number(Pattern, Text, Default) ->
    case every(Pattern, Text) of
        [] -> Default;
        Found -> binary_to_integer(hd(lists:last(Found)))
    end.
