%% What the providers say on the wire: answers in each of their dialects, as
%% actions of scripted_provider. Their errors are in dialect_errors.
%%
%%     openai             chat completions; also OpenRouter, vLLM, llama.cpp...
%%     azure              the same at Azure's path
%%     openai_responses   OpenAI's Responses
%%     anthropic          Messages
%%     gemini             generateContent
%%     ollama             /api/chat: a JSON document a line
%%
%% The dialect of a request is known by its path. Opts of answers:
%%     finish_reason   stop, length, tool_calls, content_filter, refusal: in the
%%                     dialect's own words; a binary as it is; none: the answer
%%                     ends without one, which is without its terminal event.
%%                     Default: stop, or tool_calls when there are some
%%     tool_calls      [#{id, name, arguments => map()}]
%%     thinking        text of the model that is no answer
%%     usage           a JSON term of the dialect; none: left out; default an
%%                     estimate of four bytes a token
%%     model           default: the one asked for
%%     chunk_size      characters per streamed delta, default 24
%%     delay           milliseconds before each delta, default 0
%%     whole           true: one document although a stream was asked for
%%     prompt_blocked  Gemini's reason for not answering at all
%% With finish_reason refusal the text is the refusal's, where a dialect keeps
%% them apart.
-module(dialects).

-export([all/0, of_request/1, model/1, asked/1]).
-export([answer/3, pieces/3, embeddings/3]).

-type dialect() :: openai | azure | openai_responses | anthropic | gemini
                 | ollama.
-type actions() :: [scripted_provider:action()].
-export_type([dialect/0]).

-define(CREATED, 1700000000).

-spec all() -> [dialect()].
all() ->
    [openai, azure, openai_responses, anthropic, gemini, ollama].

%% ---------------------------------------------------------------- requests

-spec of_request(scripted_provider:request()) -> dialect().
of_request(#{path := Path}) ->
    Known = [{"/openai/deployments/", azure}, {"/responses$", openai_responses},
             {"/messages$", anthropic}, {"/v1beta/models/", gemini},
             {"/api/(chat|embed)$", ollama}, {"", openai}],
    [Dialect | _] = [D || {Pattern, D} <- Known,
                          re:run(Path, Pattern) =/= nomatch],
    Dialect.

is_streaming(#{path := Path, json := Json} = Request) ->
    case of_request(Request) of
        gemini -> binary:match(Path, <<":streamGenerateContent">>) =/= nomatch;
        ollama -> maps:get(<<"stream">>, Json, true);
        _ -> is_map(Json) andalso maps:get(<<"stream">>, Json, false)
    end.

%% The model that is asked, as the body or the path names it.
-spec model(scripted_provider:request()) -> binary().
model(#{path := Path, json := Json}) ->
    case {re:run(Path, "/(?:models|deployments)/([^/:?]+)[:/]",
                 [{capture, [1], binary}]), Json} of
        {{match, [Model]}, _} -> Model;
        {nomatch, #{<<"model">> := Model}} -> Model;
        _ -> <<"scripted">>
    end.

%% What is asked, in one shape: the texts of the conversation, the system's
%% first; the JSON schema and its name, where there are; texts to be embedded.
-spec asked(scripted_provider:request()) ->
          #{texts := [binary()], schema := map() | none,
            schema_name := binary() | none, inputs := [binary()] | none}.
asked(#{json := Json} = Request) when is_map(Json) ->
    Nothing = #{texts => [], schema => none, schema_name => none,
                inputs => none},
    maps:merge(Nothing, asked(of_request(Request), Json));
asked(_Request) ->
    #{texts => [], schema => none, schema_name => none, inputs => none}.

asked(openai_responses, #{<<"input">> := Input} = Json) ->
    Format = maps:get(<<"format">>, maps:get(<<"text">>, Json, #{}), #{}),
    #{texts => optional(<<"instructions">>, Json) ++ texts(Input),
      schema => maps:get(<<"schema">>, Format, none),
      schema_name => maps:get(<<"name">>, Format, none)};
asked(anthropic, #{<<"messages">> := Messages} = Json) ->
    Output = maps:get(<<"output_config">>, Json, #{}),
    #{texts => optional(<<"system">>, Json) ++ texts(Messages),
      schema => maps:get(<<"schema">>, maps:get(<<"format">>, Output, #{}),
                         none)};
asked(gemini, #{<<"contents">> := Contents} = Json) ->
    Generation = maps:get(<<"generationConfig">>, Json, #{}),
    #{texts => [text(S) || #{<<"systemInstruction">> := S} <- [Json]]
          ++ texts(Contents),
      schema => maps:get(<<"responseJsonSchema">>, Generation,
                         maps:get(<<"responseSchema">>, Generation, none))};
asked(gemini, #{<<"requests">> := Requests}) ->
    #{inputs => [text(Content) || #{<<"content">> := Content} <- Requests]};
asked(ollama, #{<<"messages">> := Messages} = Json) ->
    #{texts => texts(Messages),
      schema => case Json of #{<<"format">> := #{} = S} -> S; _ -> none end};
asked(_OpenAi, #{<<"messages">> := Messages} = Json) ->
    Format = maps:get(<<"json_schema">>,
                      maps:get(<<"response_format">>, Json, #{}), #{}),
    #{texts => texts(Messages),
      schema => maps:get(<<"schema">>, Format, none),
      schema_name => maps:get(<<"name">>, Format, none)};
asked(_, #{<<"input">> := Inputs}) ->
    #{inputs => if is_list(Inputs) -> Inputs; true -> [Inputs] end};
asked(_, _) ->
    #{}.

optional(Key, Json) ->
    [text(Content) || #{Key := Content} <- [Json]].

texts(Text) when is_binary(Text) -> [Text];
texts(Messages) -> [text(M) || M <- Messages].

text(Text) when is_binary(Text) -> Text;
text(Blocks) when is_list(Blocks) -> << <<(text(B))/binary>> || B <- Blocks >>;
text(#{<<"text">> := Text}) -> Text;
text(#{<<"content">> := Content}) -> text(Content);
text(#{<<"parts">> := Parts}) -> text(Parts);
text(_) -> <<>>.

%% ----------------------------------------------------------------- answers

%% As the request wants it: a stream, or one document.
-spec answer(scripted_provider:request(), binary(), map()) -> actions().
answer(#{body := Body} = Request, Text, Opts) ->
    Dialect = of_request(Request),
    Opts1 = maps:merge(#{model => model(Request),
                         prompt_bytes => byte_size(Body)}, Opts),
    Whole = maps:get(whole, Opts, not is_streaming(Request)),
    case Whole of
        true ->
            [{header, <<"content-type">>, <<"application/json">>},
             {body, test_json:encode(whole(Dialect, Text, Opts1))}];
        false ->
            #{head := Head, start := Start, text := Deltas, finish := Finish}
                = pieces(Dialect, Text, Opts1),
            Head ++ Start ++ lists:append(Deltas) ++ Finish
    end.

%% A streamed answer in pieces, to be cut or mixed by a test: its headers, what
%% comes before the first text, the actions of each delta, and the end.
-spec pieces(dialect(), binary(), map()) ->
          #{head := actions(), start := actions(), text := [actions()],
            finish := actions()}.
pieces(Dialect, Text, Opts) ->
    {Start, Delta, Finish} = events(Dialect, Text, Opts),
    #{head => [{header, <<"content-type">>, content_type(Dialect)}],
      start => Start,
      text => [[{sleep, Ms} || #{delay := Ms} <- [Opts]] ++ [Delta(Part)]
               || Part <- parts(Text, maps:get(chunk_size, Opts, 24))],
      finish => Finish}.

content_type(ollama) -> <<"application/x-ndjson">>;
content_type(_) -> <<"text/event-stream">>.

%% Text cut after every Size characters, never inside one.
parts(<<>>, _Size) ->
    [];
parts(Text, Size) ->
    Bytes = bytes_of(Text, Size, 0),
    <<Part:Bytes/binary, Rest/binary>> = Text,
    [Part | parts(Rest, Size)].

bytes_of(_Text, 0, Bytes) ->
    Bytes;
bytes_of(Text, Size, Bytes) ->
    case Text of
        <<_:Bytes/binary, C/utf8, _/binary>> ->
            bytes_of(Text, Size - 1, Bytes + byte_size(<<C/utf8>>));
        _ ->
            Bytes
    end.

%% Events of a stream: before the text, one of the text, after it.
events(azure, Text, Opts) ->
    {Start, Delta, Finish} = events(openai, Text, Opts),
    Safe = #{hate => #{filtered => false, severity => safe}},
    Filters = [#{prompt_index => 0, content_filter_results => Safe}],
    {[{sse, #{choices => [], created => 0, id => <<>>, model => <<>>,
              object => <<>>, prompt_filter_results => Filters}} | Start],
     Delta, Finish};
events(openai, Text, Opts) ->
    Refused = finish_reason(Opts) =:= refusal,
    {[openai_chunk(Opts, #{role => assistant, content => <<>>})]
     ++ [openai_chunk(Opts, #{reasoning_content => T}) || T <- thinking(Opts)],
     fun(Part) when Refused -> openai_chunk(Opts, #{refusal => Part});
        (Part) -> openai_chunk(Opts, #{content => Part})
     end,
     [openai_chunk(Opts, #{tool_calls => [C]})
      || C <- openai_call_events(Opts)]
     ++ [{sse, (openai_common(Opts))
          #{choices => [#{index => 0, delta => #{}, finish_reason => R}]}}
         || R <- reason(openai, Opts)]
     ++ [{sse, (openai_common(Opts))#{choices => [], usage => U}}
         || U <- usage(openai, Text, Opts)]
     ++ [done_marker]};
events(openai_responses, Text, Opts) ->
    Begun = #{id => <<"resp_scripted">>, object => response, output => [],
              status => in_progress, model => model_of(Opts)},
    Refused = finish_reason(Opts) =:= refusal,
    Type = case Refused of
               true -> <<"response.refusal.delta">>;
               false -> <<"response.output_text.delta">>
           end,
    Item = #{type => message, id => <<"msg_scripted">>, role => assistant,
             status => in_progress, content => []},
    {[responses_event(<<"response.created">>, #{response => Begun}),
      responses_event(<<"response.in_progress">>, #{response => Begun})]
     ++ [responses_event(<<"response.reasoning_summary_text.delta">>,
                         #{item_id => <<"rs_scripted">>, output_index => 0,
                           summary_index => 0, delta => T})
         || T <- thinking(Opts)]
     ++ [responses_event(<<"response.output_item.added">>,
                         #{output_index => 0, item => Item}) || Text =/= <<>>],
     fun(Part) ->
             responses_event(Type, #{item_id => <<"msg_scripted">>,
                                     output_index => 0, content_index => 0,
                                     delta => Part})
     end,
     lists:append([responses_call_events(N, C)
                   || {N, C} <- numbered(1, calls(Opts))])
     ++ responses_end(Text, Opts)};
events(anthropic, Text, Opts) ->
    Usage = usage(anthropic, Text, Opts),
    Message = (anthropic_common(Opts))#{content => [], stop_reason => null},
    Begun = lists:foldl(fun(U, M) -> M#{usage => input_only(U)} end, Message,
                        Usage),
    Thoughts = thinking(Opts),
    First = length(Thoughts),
    Blocks = [B || Text =/= <<>>, B <- [First]],
    {[anthropic_event(message_start, #{message => Begun}),
      anthropic_event(ping, #{})]
     ++ lists:append([anthropic_block(0, #{type => thinking, thinking => <<>>},
                                      #{type => thinking_delta, thinking => T})
                      || T <- Thoughts])
     ++ [anthropic_event(content_block_start,
                         #{index => B,
                           content_block => #{type => text, text => <<>>}})
         || B <- Blocks],
     fun(Part) ->
             anthropic_event(content_block_delta,
                             #{index => First,
                               delta => #{type => text_delta, text => Part}})
     end,
     [anthropic_event(content_block_stop, #{index => B}) || B <- Blocks]
     ++ lists:append([anthropic_call_events(N, C)
                      || {N, C} <- numbered(First + length(Blocks),
                                            calls(Opts))])
     ++ anthropic_end(Usage, Opts)};
events(gemini, Text, Opts) ->
    {[gemini_chunk(Opts, [#{text => T, thought => true}])
      || T <- thinking(Opts)],
     fun(Part) -> gemini_chunk(Opts, [#{text => Part}]) end,
     [gemini_chunk(Opts, [gemini_call(C)]) || C <- calls(Opts)]
     ++ [{sse, gemini_end(Text, [#{text => <<>>}], Opts)}
         || finish_reason(Opts) =/= none]};
events(ollama, Text, Opts) ->
    {[ollama_line(Opts, #{content => <<>>, thinking => T})
      || T <- thinking(Opts)],
     fun(Part) -> ollama_line(Opts, #{content => Part}) end,
     [ollama_line(Opts, #{content => <<>>, tool_calls => ollama_calls(Opts)})
      || calls(Opts) =/= []]
     ++ [{line, ollama_end(Text, #{role => assistant, content => <<>>}, Opts)}
         || finish_reason(Opts) =/= none]}.

%% The same as one document.
whole(Dialect, Text, Opts) when Dialect =:= openai; Dialect =:= azure ->
    Said = case finish_reason(Opts) of
               refusal -> #{content => null, refusal => Text};
               _ -> #{content => text_or_null(Text), refusal => null}
           end,
    Calls = [openai_call(C) || C <- calls(Opts)],
    Message = maps:merge(Said#{role => assistant},
                         maps:from_list([{tool_calls, Calls}
                                         || Calls =/= []])),
    add_usage(openai, usage, Text, Opts,
              (openai_common(Opts))
              #{object := <<"chat.completion">>,
                choices => [#{index => 0, message => Message,
                              finish_reason => or_null(reason(openai,
                                                              Opts))}]});
whole(openai_responses, Text, Opts) ->
    responses_whole(Text, Opts);
whole(anthropic, Text, Opts) ->
    Blocks = [#{type => thinking, thinking => T, signature => <<"c2ln">>}
              || T <- thinking(Opts)]
        ++ [#{type => text, text => Text} || Text =/= <<>>]
        ++ [(anthropic_call(C))#{input => A}
            || #{arguments := A} = C <- calls(Opts)],
    add_usage(anthropic, usage, Text, Opts,
              maps:merge((anthropic_common(Opts))#{content => Blocks},
                         anthropic_stop(Opts)));
whole(gemini, Text, Opts) ->
    Parts = [#{text => T, thought => true} || T <- thinking(Opts)]
        ++ [#{text => Text} || Text =/= <<>>]
        ++ [gemini_call(C) || C <- calls(Opts)],
    gemini_end(Text, Parts, Opts);
whole(ollama, Text, Opts) ->
    Calls = maps:from_list([{tool_calls, ollama_calls(Opts)}
                            || calls(Opts) =/= []]),
    ollama_end(Text, Calls#{role => assistant, content => Text}, Opts).

text_or_null(<<>>) -> null;
text_or_null(Text) -> Text.

or_null([]) -> null;
or_null([Reason]) -> Reason.

calls(Opts) -> maps:get(tool_calls, Opts, []).
thinking(Opts) -> [T || #{thinking := T} <- [Opts]].
model_of(Opts) -> maps:get(model, Opts, <<"scripted">>).

numbered(First, List) ->
    lists:zip(lists:seq(First, First + length(List) - 1), List).

finish_reason(Opts) ->
    Default = case calls(Opts) of [] -> stop; _ -> tool_calls end,
    maps:get(finish_reason, Opts, Default).

%% The reason in the dialect's words, in a list; none is no element.
reason(Dialect, Opts) ->
    case finish_reason(Opts) of
        none -> [];
        Raw when is_binary(Raw) -> [Raw];
        Reason -> [word(Dialect, Reason)]
    end.

word(openai, refusal) -> stop;
word(openai, Reason) -> Reason;
word(anthropic, stop) -> end_turn;
word(anthropic, length) -> max_tokens;
word(anthropic, tool_calls) -> tool_use;
word(anthropic, _Declined) -> refusal;
word(gemini, length) -> 'MAX_TOKENS';
word(gemini, content_filter) -> 'SAFETY';
word(gemini, refusal) -> 'PROHIBITED_CONTENT';
word(gemini, _Stop) -> 'STOP';
word(ollama, length) -> length;
word(ollama, _Stop) -> stop.

add_usage(Dialect, Key, Text, Opts, Json) ->
    lists:foldl(fun(U, Acc) -> Acc#{Key => U} end, Json,
                usage(Dialect, Text, Opts)).

usage(Dialect, Text, Opts) ->
    Input = maps:get(prompt_bytes, Opts, 400) div 4,
    Output = byte_size(Text) div 4 + 1,
    [U || U <- [maps:get(usage, Opts, counts(Dialect, Input, Output))],
          U =/= none].

counts(openai, Input, Output) ->
    #{prompt_tokens => Input, completion_tokens => Output,
      total_tokens => Input + Output};
counts(gemini, Input, Output) ->
    #{promptTokenCount => Input, candidatesTokenCount => Output,
      totalTokenCount => Input + Output};
counts(ollama, Input, Output) ->
    #{prompt_eval_count => Input, eval_count => Output};
counts(openai_responses, Input, Output) ->
    #{input_tokens => Input, output_tokens => Output,
      total_tokens => Input + Output};
counts(anthropic, Input, Output) ->
    #{input_tokens => Input, output_tokens => Output}.

%% ------------------------------------------------------------------ OpenAI

openai_common(Opts) ->
    #{id => <<"chatcmpl-scripted">>, object => <<"chat.completion.chunk">>,
      created => ?CREATED, model => model_of(Opts)}.

openai_chunk(Opts, Delta) ->
    {sse, (openai_common(Opts))
     #{choices => [#{index => 0, delta => Delta, finish_reason => null}]}}.

openai_call(#{id := Id, name := Name, arguments := Arguments}) ->
    #{id => Id, type => function,
      function => #{name => Name, arguments => test_json:encode(Arguments)}}.

%% The name first, then the arguments in two pieces.
openai_call_events(Opts) ->
    lists:append([[(openai_call(C#{arguments := #{}}))
                   #{index => N, function => #{name => Name,
                                               arguments => <<>>}}
                   | [#{index => N, function => #{arguments => Piece}}
                      || Piece <- halves(Arguments)]]
                  || {N, #{name := Name, arguments := Arguments} = C}
                         <- numbered(0, calls(Opts))]).

halves(Json) ->
    Text = test_json:encode(Json),
    Half = byte_size(Text) div 2,
    [binary:part(Text, 0, Half),
     binary:part(Text, Half, byte_size(Text) - Half)].

responses_event(Type, Json) ->
    {event, Type, Json#{type => Type}}.

responses_call_events(N, #{arguments := Arguments} = Call) ->
    Item = responses_call(Call),
    #{id := Id} = Item,
    Place = #{item_id => Id, output_index => N},
    [responses_event(<<"response.output_item.added">>,
                     #{output_index => N,
                       item => Item#{arguments := <<>>,
                                     status := in_progress}})]
        ++ [responses_event(<<"response.function_call_arguments.delta">>,
                            Place#{delta => Piece})
            || Piece <- halves(Arguments)]
        ++ [responses_event(<<"response.function_call_arguments.done">>,
                            Place#{arguments => test_json:encode(Arguments)}),
            responses_event(<<"response.output_item.done">>,
                            #{output_index => N, item => Item})].

responses_call(#{id := Id, name := Name, arguments := Arguments}) ->
    #{type => function_call, id => <<"fc_", Id/binary>>, call_id => Id,
      name => Name, arguments => test_json:encode(Arguments),
      status => completed}.

%% All is said again when it is complete.
responses_end(Text, Opts) ->
    case finish_reason(Opts) of
        none ->
            [];
        Reason ->
            #{status := Status} = Whole = responses_whole(Text, Opts),
            [responses_event(<<"response.output_text.done">>,
                             #{item_id => <<"msg_scripted">>, output_index => 0,
                               content_index => 0, text => Text})
             || Text =/= <<>>, Reason =/= refusal]
                ++ [responses_event(
                      <<"response.", (atom_to_binary(Status))/binary>>,
                      #{response => Whole})]
    end.

responses_whole(Text, Opts) ->
    Content = case finish_reason(Opts) of
                  refusal -> #{type => refusal, refusal => Text};
                  _ -> #{type => output_text, text => Text, annotations => []}
              end,
    Output = [#{type => reasoning, id => <<"rs_scripted">>,
                summary => [#{type => summary_text, text => T}]}
              || T <- thinking(Opts)]
        ++ [#{type => message, id => <<"msg_scripted">>, role => assistant,
              status => completed, content => [Content]} || Text =/= <<>>]
        ++ [responses_call(C) || C <- calls(Opts)],
    {Status, Details} = responses_status(finish_reason(Opts)),
    add_usage(openai_responses, usage, Text, Opts,
              #{id => <<"resp_scripted">>, object => response,
                created_at => ?CREATED, model => model_of(Opts),
                status => Status, incomplete_details => Details,
                error => null, output => Output}).

responses_status(length) ->
    {incomplete, #{reason => max_output_tokens}};
responses_status(content_filter) ->
    {incomplete, #{reason => content_filter}};
responses_status(Raw) when is_binary(Raw) ->
    {incomplete, #{reason => Raw}};
responses_status(_) ->
    {completed, null}.

%% --------------------------------------------------------------- Anthropic

anthropic_common(Opts) ->
    #{id => <<"msg_scripted">>, type => message, role => assistant,
      model => model_of(Opts), stop_sequence => null}.

anthropic_event(Type, Json) ->
    {event, atom_to_binary(Type), Json#{type => Type}}.

anthropic_block(N, Block, Delta) ->
    [anthropic_event(content_block_start,
                     #{index => N, content_block => Block}),
     anthropic_event(content_block_delta, #{index => N, delta => Delta}),
     anthropic_event(content_block_stop, #{index => N})].

anthropic_call(#{id := Id, name := Name}) ->
    #{type => tool_use, id => Id, name => Name, input => #{}}.

anthropic_call_events(N, #{arguments := Arguments} = Call) ->
    [Start, _, Stop] = anthropic_block(N, anthropic_call(Call), #{}),
    Deltas = [anthropic_event(content_block_delta,
                              #{index => N,
                                delta => #{type => input_json_delta,
                                           partial_json => Piece}})
              || Piece <- [<<>> | halves(Arguments)]],
    [Start | Deltas] ++ [Stop].

%% What is known at the start: no output yet.
input_only(#{output_tokens := _} = Usage) -> Usage#{output_tokens := 1};
input_only(Usage) -> Usage.

anthropic_end(Usage, Opts) ->
    case finish_reason(Opts) of
        none ->
            [];
        _ ->
            Delta = (anthropic_stop(Opts))#{stop_sequence => null},
            Json = lists:foldl(fun(U, Acc) -> Acc#{usage => U} end,
                               #{delta => Delta}, Usage),
            [anthropic_event(message_delta, Json),
             anthropic_event(message_stop, #{})]
    end.

anthropic_stop(Opts) ->
    case reason(anthropic, Opts) of
        [] -> #{stop_reason => null};
        [refusal] -> #{stop_reason => refusal,
                       stop_details => #{type => refusal, category => null,
                                         explanation => <<"I declined">>}};
        [Reason] -> #{stop_reason => Reason}
    end.

%% ------------------------------------------------------------------ Gemini

gemini_common(Opts) ->
    #{modelVersion => model_of(Opts), responseId => <<"scripted">>}.

gemini_chunk(Opts, Parts) ->
    {sse, (gemini_common(Opts))
     #{candidates => [#{index => 0, content => #{role => model,
                                                 parts => Parts}}]}}.

gemini_call(#{name := Name, arguments := Arguments}) ->
    #{functionCall => #{name => Name, args => Arguments}}.

gemini_end(Text, _Parts, #{prompt_blocked := Reason} = Opts) ->
    add_usage(gemini, usageMetadata, Text, Opts,
              (gemini_common(Opts))
              #{promptFeedback => #{blockReason => Reason}});
gemini_end(Text, Parts, Opts) ->
    Candidate = #{index => 0, content => #{role => model, parts => Parts}},
    add_usage(gemini, usageMetadata, Text, Opts,
              (gemini_common(Opts))
              #{candidates => [lists:foldl(
                                 fun(R, C) -> C#{finishReason => R} end,
                                 Candidate, reason(gemini, Opts))]}).

%% ------------------------------------------------------------------ Ollama

ollama_common(Opts) ->
    #{model => model_of(Opts), created_at => <<"2026-01-01T00:00:00.0Z">>}.

ollama_line(Opts, Message) ->
    {line, (ollama_common(Opts))#{message => Message#{role => assistant},
                                  done => false}}.

ollama_calls(Opts) ->
    [#{function => #{name => Name, arguments => Arguments}}
     || #{name := Name, arguments := Arguments} <- calls(Opts)].

ollama_end(Text, Message, Opts) ->
    Base = (ollama_common(Opts))#{message => Message, done => true,
                                  total_duration => 5000000},
    Ended = lists:foldl(fun(R, J) -> J#{done_reason => R} end, Base,
                        reason(ollama, Opts)),
    lists:foldl(fun(U, J) when is_map(U) -> maps:merge(J, U);
                   (_, J) -> J
                end, Ended, usage(ollama, Text, Opts)).

%% -------------------------------------------------------------- embeddings

%% One vector for each text that was sent.
-spec embeddings(scripted_provider:request(), [[number()]], map()) ->
          actions().
embeddings(Request, Vectors, Opts) ->
    Opts1 = maps:merge(#{model => model(Request)}, Opts),
    [{header, <<"content-type">>, <<"application/json">>},
     {body, test_json:encode(vectors(of_request(Request), Vectors, Opts1))}].

vectors(gemini, Vectors, _Opts) ->
    #{embeddings => [#{values => V} || V <- Vectors]};
vectors(ollama, Vectors, Opts) ->
    #{model => model_of(Opts), embeddings => Vectors,
      total_duration => 5000000, prompt_eval_count => length(Vectors)};
vectors(_OpenAi, Vectors, Opts) ->
    Count = length(Vectors),
    #{object => list, model => model_of(Opts),
      data => [#{object => embedding, index => N, embedding => V}
               || {N, V} <- numbered(0, Vectors)],
      usage => maps:get(usage, Opts, #{prompt_tokens => Count,
                                       total_tokens => Count})}.
