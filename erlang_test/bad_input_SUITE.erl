%% Wrong arguments, in every call form: the named error with the path of what
%% is wrong, no question to the provider, and the next call works.
-module(bad_input_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(SERVER, 'Elixir.LLMRouter.Server').
-define(BAD_UTF8, <<"gr", 16#fc, "n">>).
-define(MESSAGES, [#{role => user, content => <<"hi">>}]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [wrong_arguments_are_named,
     wrong_options_are_named,
     wrong_messages_are_named,
     wrong_tasks_are_named,
     wrong_schemas_are_named,
     unknown_options_are_refused_by_name,
     options_that_do_not_apply_are_refused_by_name,
     options_may_be_a_keyword_list_or_a_map,
     wrong_arguments_by_rpc_are_named,
     wrong_arguments_by_message_are_named,
     wrong_arguments_by_cast_are_named,
     a_form_without_a_pid_does_no_harm,
     too_many_arguments_are_an_error,
     too_much_text_is_too_large,
     too_deep_terms_are_an_error,
     every_kind_of_term_is_an_error_as_text,
     every_kind_of_term_is_an_error_as_options,
     an_unknown_model_or_provider_has_no_route].

init_per_suite(Config) ->
    bed:up(Config, #{}).

end_per_suite(Config) ->
    bed:down(Config).

init_per_testcase(_Case, Config) ->
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1),
    Config.

%% None of what is wrong reaches the provider, and the next call works.
end_per_testcase(_Case, Config) ->
    bed:must(
      fun() ->
              ?assertEqual([], scripted_provider:requests(
                                 bed:provider(Config))),
              ?assertMatch({ok, #{text := <<"You wrote: hi">>}},
                           bed:call(Config,
                                    {call_with_prompt, simple, <<"hi">>}))
      end).

%% Every row by a GenServer call: invalid_request with the path.
each_is_invalid(Config, Rows) ->
    Server = {llm_router, bed:node(Config)},
    Answers = bed:on(bed:caller(Config),
                     fun() -> [{Op, Path, gen_server:call(Server, Op, 10000)}
                               || {Op, Path} <- Rows]
                     end),
    [is_invalid(Op, Path, Answer) || {Op, Path, Answer} <- Answers].

is_invalid(Op, Path, Answer) ->
    case Answer of
        {error, {invalid_request, #{message := Message, path := Path}}}
          when is_binary(Message), Message =/= <<>> -> ok;
        _ -> error({Op, {expected, Path}, {got, Answer}})
    end.

%% -------------------------------------------------------------- arguments

wrong_arguments_are_named(Config) ->
    each_is_invalid(Config, wrong_arguments()).

wrong_arguments() ->
    prompts(generate_task, <<"prompt">>)
        ++ [{{parse_prd, <<"text">>}, <<"num_tasks">>},
            {parse_prd, <<"content">>},
            {{parse_prd, nil, 3}, <<"content">>},
            {{parse_prd, ?BAD_UTF8, 3}, <<"content">>},
            {{parse_prd, <<"\n \t">>, 3}, <<"content">>}]
        ++ [{{parse_prd, <<"text">>, N}, <<"num_tasks">>}
            || N <- [-1, 101, 1 bsl 70, -(1 bsl 70), 3.0, <<"3">>, nil, many]]
        ++ [{expand_task, <<"task">>},
            {{expand_task, <<>>}, <<"task">>},
            {{expand_task, 42}, <<"task">>},
            {call, <<"complexity">>},
            {{call, simple}, <<"messages">>}]
        ++ [{{call, C, ?MESSAGES}, <<"complexity">>}
            || C <- [hard, 42, <<>>, <<"a model">>, <<"../../etc/passwd\0">>,
                     <<"m\r\nX-Header: 1">>, binary:copy(<<"m">>, 200),
                     #{}, [], self(), ?BAD_UTF8]]
        ++ [{{call_with_prompt, simple}, <<"prompt">>},
            {{call_with_prompt, simple, nil}, <<"prompt">>},
            {{call_with_prompt, simple, ?BAD_UTF8}, <<"prompt">>},
            {{call_with_prompt, 1.5, <<"hi">>}, <<"complexity">>},
            {{call_with_system, simple, <<"be kind">>}, <<"user">>},
            {{call_with_system, simple, 42, <<"hi">>}, <<"system">>},
            {{call_with_system, simple, <<"be kind">>, #{}}, <<"user">>},
            {{select_model, simple}, <<"task_type">>},
            {{select_model, hard, coder}, <<"complexity">>},
            {{select_model, simple, 42}, <<"task_type">>}].

%% What is no text, as the first argument of an operation.
prompts(Operation, Path) ->
    [{Operation, Path}
     | [{{Operation, Text}, Path}
        || Text <- [nil, <<>>, <<"  \n">>, "", [], 42, 1.5, #{}, {a, b},
                    make_ref(), self(), ?BAD_UTF8, <<1:3>>, [<<"a">> | b],
                    [65 | 66], ["a", ["b" | c]], [16#D800], [1 bsl 40],
                    [-1], [a, b], [[?BAD_UTF8]], fun() -> ok end]]].

too_many_arguments_are_an_error(Config) ->
    Server = {llm_router, bed:node(Config)},
    Ops = [{ping, 1}, {version, #{}}, {generate_task, <<"x">>, #{}, 3},
           {parse_prd, <<"x">>, 1, #{}, 4, 5, 6, 7, 8, 9},
           {call, simple, ?MESSAGES, #{}, 4},
           list_to_tuple([generate_task | lists:seq(1, 10000)])],
    Answers = bed:on(bed:caller(Config),
                     fun() -> [gen_server:call(Server, Op) || Op <- Ops] end),
    [?assertMatch({error, {invalid_request, #{message := _}}}, A)
     || A <- Answers].

%% ---------------------------------------------------------------- options

with_options(Options) ->
    {generate_task, <<"hi">>, Options}.

wrong_options_are_named(Config) ->
    each_is_invalid(
      Config,
      [{with_options(#{Key => Value}),
        <<"opts.", (atom_to_binary(Key))/binary>>}
       || {Key, Values} <- wrong_values(), Value <- Values]
      ++ [{{expand_task, <<"x">>, #{num => N}}, <<"opts.num">>}
          || N <- [-1, 101, <<"3">>, 1.5]]
      ++ [{{expand_task, <<"x">>, #{context => C}}, <<"opts.context">>}
          || C <- [42, ?BAD_UTF8, #{}]]
      ++ [{{parse_prd, <<"x">>, 1, #{existing => E}}, Path}
          || {E, Path} <- [{7, <<"opts.existing">>},
                           {[1 | 2], <<"opts.existing">>},
                           {[a], <<"opts.existing">>}]]).

wrong_values() ->
    [{model, [42, <<>>, <<"a model">>, <<"m\n">>, ?BAD_UTF8, #{}]},
     {provider, [42, <<>>, [], #{}]},
     {complexity, [hard, 42, <<>>, <<"hard">>]},
     {task_type, [42, <<>>, #{}]},
     {timeout, [0, -1, 1.5, <<"5">>, soon, 1 bsl 70, 3600001]},
     {max_tokens, [0, -1, 1.5, many, 1 bsl 70]},
     {temperature, [-0.1, 2.1, warm, <<"0.5">>, 1 bsl 70]},
     {keys, [binaries, 42, <<>>]},
     {return, [all, 42]},
     {request_id, [42, <<>>, <<"a\nb">>, <<0>>, binary:copy(<<"x">>, 200),
                   ?BAD_UTF8]}].

unknown_options_are_refused_by_name(Config) ->
    each_is_invalid(
      Config,
      [{with_options(#{temprature => 0.5}), <<"opts.temprature">>},
       {with_options([{temprature, 0.5}]), <<"opts.temprature">>},
       {with_options(#{<<"temprature">> => 0.5}), <<"opts.temprature">>},
       {with_options(#{num => 3}), <<"opts.num">>},
       {with_options(#{schema => #{type => object}}), <<"opts.schema">>},
       {{call_with_prompt, simple, <<"hi">>, #{next_id => 3}},
        <<"opts.next_id">>}]).

options_that_do_not_apply_are_refused_by_name(Config) ->
    each_is_invalid(
      Config,
      [{with_options(#{Key => Value}),
        <<"opts.", (atom_to_binary(Key))/binary>>}
       || {Key, Value} <- [{task_id, [1]}, {stop, [<<"x">>]}, {tools, []},
                           {tool_choice, auto}]]).

options_may_be_a_keyword_list_or_a_map(Config) ->
    each_is_invalid(Config,
                    [{with_options(Opts), <<"opts">>}
                     || Opts <- [42, <<"x">>, timeout, [timeout], [{timeout}],
                                 [{timeout, 5, 6}], [{timeout, 500} | x],
                                 {timeout, 500}, #{42 => 1}, [{[], 1}]]]),
    [?assertMatch({ok, #{title := <<"hi">>}},
                  bed:call(Config, with_options(Opts)))
     || Opts <- [#{}, [], [{timeout, 5000}], #{<<"timeout">> => 5000},
                 #{timeout => nil}, [{<<"timeout">>, 5000}]]],
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1).

%% -------------------------------------------------------------- messages

wrong_messages_are_named(Config) ->
    Good = hd(?MESSAGES),
    each_is_invalid(
      Config,
      [{{call, simple, Messages}, Path}
       || {Messages, Path} <-
              [{[], <<"messages">>},
               {<<"hi">>, <<"messages">>},
               {#{role => user, content => <<"hi">>}, <<"messages">>},
               {[Good | Good], <<"messages">>},
               {[42], <<"messages[0]">>},
               {[Good, nil], <<"messages[1]">>},
               {[Good, #{role => user}], <<"messages[1].content">>},
               {[#{content => <<"hi">>}], <<"messages[0].role">>},
               {[Good#{role => boss}], <<"messages[0].role">>},
               {[Good#{role => 42}], <<"messages[0].role">>},
               {[Good, Good#{content => 42}], <<"messages[1].content">>},
               {[Good#{content => <<>>}], <<"messages[0].content">>},
               {[Good#{content => ?BAD_UTF8}], <<"messages[0].content">>},
               {[Good#{colour => red}], <<"messages[0].colour">>},
               {[Good#{content => [#{type => image_url, url => <<"x">>}]}],
                <<"messages[0].content[0].url">>}]]).

wrong_tasks_are_named(Config) ->
    each_is_invalid(
      Config,
      [{{expand_task, Task}, Path}
       || {Task, Path} <- [{#{}, <<"task.title">>},
                           {#{description => <<"x">>}, <<"task.title">>},
                           {#{title => nil}, <<"task.title">>},
                           {#{title => <<>>}, <<"task.title">>},
                           {#{title => 42}, <<"task.title">>},
                           {#{<<"title">> => ?BAD_UTF8}, <<"task.title">>}]]).

wrong_schemas_are_named(Config) ->
    Op = fun(Schema) -> {call_with_prompt, simple, <<"hi">>,
                         #{schema => Schema}} end,
    Object = fun(Property) -> #{type => object, properties => #{a => Property}}
             end,
    each_is_invalid(Config,
                    [{Op(42), <<"opts.schema">>},
                     {Op(<<"{}">>), <<"opts.schema">>},
                     {Op(#{type => string}), <<"opts.schema">>}]),
    Server = {llm_router, bed:node(Config)},
    [begin
         Answer = bed:on(bed:caller(Config),
                         fun() -> gen_server:call(Server, Op(Schema)) end),
         {error, {invalid_request, #{path := Path}}} = Answer,
         ?assertMatch(<<"opts.schema", _/binary>>, Path)
     end || Schema <- [Object(#{type => 42}), Object(#{type => thing}),
                       Object(#{pattern => <<"^a">>}),
                       Object(#{type => self()}), Object(#{minimum => <<"1">>}),
                       #{type => object, required => name},
                       #{type => object, '$ref' => <<"http://x/y">>}]].

%% ------------------------------------------------------------- other forms

%% A sample of the rows, as each kind of caller writes them.
sample() ->
    [{{generate_task, 42}, <<"prompt">>},
     {{generate_task, <<"hi">>, #{timeout => soon}}, <<"opts.timeout">>},
     {{parse_prd, <<"hi">>, 101}, <<"num_tasks">>},
     {{expand_task, #{}}, <<"task.title">>},
     {{call, simple, [42]}, <<"messages[0]">>},
     {{select_model, hard, chat}, <<"complexity">>}].

wrong_arguments_by_rpc_are_named(Config) ->
    Router = bed:node(Config),
    [begin
         [F | A] = tuple_to_list(Op),
         [is_invalid(Op, Path,
                     bed:on(bed:caller(Config),
                            fun() -> Call(Router, ?SERVER, F, A) end))
          || Call <- [fun rpc:call/4, fun rpc:block_call/4, fun erpc:call/4]]
     end || {Op, Path} <- sample()].

wrong_arguments_by_message_are_named(Config) ->
    Router = bed:node(Config),
    [is_invalid(Op, Path,
                bed:on(bed:caller(Config),
                       fun() ->
                               Ref = make_ref(),
                               {llm_router, Router}
                                   ! {llm_request, self(), Ref, Op},
                               receive {llm_response, Ref, R} -> R
                               after 5000 -> none
                               end
                       end)) || {Op, Path} <- sample()],
    is_invalid(prd_request, <<"num_tasks">>,
               bed:on(bed:caller(Config),
                      fun() ->
                              {llm_router, Router}
                                  ! {prd_request, self(), x, <<"text">>, many},
                              receive {prd_response, R} -> R
                              after 5000 -> none
                              end
                      end)).

wrong_arguments_by_cast_are_named(Config) ->
    Server = {llm_router, bed:node(Config)},
    [is_invalid(Op, Path,
                bed:on(bed:caller(Config),
                       fun() ->
                               gen_server:cast(Server, erlang:append_element(
                                                         Op, self())),
                               receive {llm_result, _, R} -> R
                               after 5000 -> none
                               end
                       end))
     || {Op, Path} <- [{{generate_task, 42}, <<"prompt">>},
                       {{parse_prd, <<"hi">>, 101}, <<"num_tasks">>},
                       {{expand_task, #{}}, <<"task.title">>}]].

%% Nobody can be told; the router stays as it is.
a_form_without_a_pid_does_no_harm(Config) ->
    Server = {llm_router, bed:node(Config)},
    [] = bed:on(bed:caller(Config),
                fun() ->
                        Messages = [{prd_request, nobody, x, <<"text">>, 3},
                                    {prd_request, self()},
                                    {llm_request, <<"pid">>, x, ping},
                                    {generate_task, <<"x">>, not_a_pid},
                                    {generate_task}, {parse_prd, 1, 2, 3, 4}],
                        [Server ! M || M <- Messages],
                        [gen_server:cast(Server, M) || M <- Messages],
                        pong = gen_server:call(Server, ping),
                        bed:drain()
                end).

%% ------------------------------------------------------------------ limits

too_much_text_is_too_large(Config) ->
    Server = {llm_router, bed:node(Config)},
    {error, {too_large, #{message := _}}} =
        bed:on(bed:caller(Config),
               fun() ->
                       Text = binary:copy(<<"x">>, 33 * 1024 * 1024),
                       gen_server:call(Server, {generate_task, Text}, 20000)
               end),
    {error, {too_large, _}} =
        bed:on(bed:caller(Config),
               fun() ->
                       Message = hd(?MESSAGES),
                       gen_server:call(Server,
                                       {call, simple,
                                        lists:duplicate(20000, Message)},
                                       20000)
               end).

too_deep_terms_are_an_error(Config) ->
    Server = {llm_router, bed:node(Config)},
    Nested = fun(Wrap, Depth) ->
                     lists:foldl(fun(_, Acc) -> Wrap(Acc) end, <<"x">>,
                                 lists:seq(1, Depth))
             end,
    [begin
         Answer = bed:on(bed:caller(Config),
                         fun() ->
                                 Deep = Nested(Wrap, Depth),
                                 gen_server:call(Server, Make(Deep), 10000)
                         end),
         ?assertMatch({error, {Code, _}}
                        when Code =:= invalid_request;
                             Code =:= unknown_request, Answer)
     end || Depth <- [2000, 200000],
            Wrap <- [fun(T) -> [T] end, fun(T) -> {T} end,
                     fun(T) -> #{a => T} end],
            Make <- [fun(T) -> T end,
                     fun(T) -> {generate_task, T} end,
                     fun(T) -> {generate_task, <<"x">>, #{model => T}} end]].

kinds() ->
    [42, -1, 1 bsl 100, -(1 bsl 3000), 1.5, atom, '', 'größe', self(),
     make_ref(), fun() -> ok end, fun lists:map/2, hd(erlang:ports()),
     <<1:7>>, {}, {1, 2}, [], #{}, #{a => 1}, [1 | 2], [a],
     list_to_atom(lists:duplicate(255, 16#4e2d))].

every_kind_of_term_is_an_error_as_text(Config) ->
    Server = {llm_router, bed:node(Config)},
    Answers = bed:on(bed:caller(Config),
                     fun() ->
                             [gen_server:call(Server,
                                              {call_with_prompt, simple, Kind})
                              || Kind <- kinds()]
                     end),
    [is_invalid(call_with_prompt, <<"prompt">>, A) || A <- Answers].

every_kind_of_term_is_an_error_as_options(Config) ->
    Server = {llm_router, bed:node(Config)},
    Answers = bed:on(bed:caller(Config),
                     fun() ->
                             [gen_server:call(Server,
                                              with_options(#{model => Kind}))
                              || Kind <- kinds(), not is_atom(Kind)]
                     end),
    [is_invalid(generate_task, <<"opts.model">>, A) || A <- Answers].

an_unknown_model_or_provider_has_no_route(Config) ->
    ?assertMatch({error, {no_route, #{message := _}}},
                 bed:call(Config, with_options(#{provider => <<"nobody">>}))),
    ?assertMatch({error, {no_route, _}},
                 bed:call(Config, {select_model, simple, chat,
                                   #{provider => <<"nobody">>}})).
