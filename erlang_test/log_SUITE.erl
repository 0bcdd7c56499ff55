%% What the router says: lines that a parser takes, whatever is in them, and
%% ids by which a request is found again, here and at the provider.
-module(log_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"hi">>}).
-define(HOSTILE, <<"x\" level=error component=job\n<3>level=error \\",
                   27, "[2K", 16#E2, 16#80, 16#AE, 255, "\",\"level\":\"">>).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [every_line_is_logfmt_whatever_is_in_it,
     every_line_is_json_whatever_is_in_it,
     a_component_has_a_level_of_its_own,
     an_unknown_component_is_named,
     a_reload_changes_level_and_format,
     what_comes_again_and_again_is_counted,
     nothing_is_lost_at_the_end,
     the_callers_id_reaches_the_provider,
     an_id_that_was_made_here_reaches_the_provider,
     the_providers_id_is_in_the_error].

init_per_suite(Config) ->
    bed:up(Config, #{router => none}).

end_per_suite(Config) ->
    bed:down(Config).

init_per_testcase(_Case, Config) ->
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1),
    Config.

end_per_testcase(_Case, Config) ->
    Config.

with_router(Config, Env, Fun) ->
    Config1 = bed:start_router(bed:renamed(Config), #{env => Env}),
    Answer = try
                 Fun(Config1)
             after
                 bed:must(fun() -> {exited, 0} = bed:stop_router(Config1) end)
             end,
    {Answer, lines(Config1)}.

lines(Config) ->
    Log = router:stderr(bed:router(Config)),
    ct:log("~ts", [printable(Log)]),
    binary:split(Log, <<"\n">>, [global, trim]).

printable(Log) ->
    << <<(if C >= $\s, C < 127; C =:= $\n -> C; true -> $? end)>>
       || <<C>> <= Log >>.

%% A fun, or the actions for every request.
handler(Config, Handler) when is_function(Handler) ->
    scripted_provider:set_handler(bed:provider(Config), Handler);
handler(Config, Actions) ->
    scripted_provider:set_handler(bed:provider(Config), [Actions]).

%% ----------------------------------------------------------------- parsers

%% Pairs of one line of logfmt; the values as they were.
logfmt(Line) ->
    logfmt(Line, #{}).

logfmt(Line, Pairs) ->
    {match, [Key, Value, Rest]} =
        re:run(Line, "^([a-z_]+)=(\"(?:[^\"\\\\\\x00-\\x1f]|\\\\.)*\""
                     "|[!-~]+)( .+|)$",
               [{capture, all_but_first, binary}, dotall]),
    ?assertNot(is_map_key(Key, Pairs)),
    Pairs1 = Pairs#{Key => unquoted(Value)},
    case Rest of
        <<>> -> Pairs1;
        <<" ", More/binary>> -> logfmt(More, Pairs1)
    end.

unquoted(<<$", _/binary>> = Quoted) ->
    test_json:decode(Quoted);
unquoted(Bare) ->
    ?assertEqual(nomatch, re:run(Bare, "[\"=\\\\]")),
    Bare.

is_whole(#{<<"level">> := Level, <<"component">> := _, <<"msg">> := _,
           <<"time">> := Time}) ->
    ?assert(lists:member(Level, [<<"error">>, <<"warn">>, <<"info">>,
                                 <<"debug">>])),
    ?assertMatch({match, _},
                 re:run(Time, "^2\\d{3}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d"
                              "\\.\\d{3}Z$")).

messages(Parsed, Message) ->
    [Line || #{<<"msg">> := M} = Line <- Parsed, M =:= Message].

%% ------------------------------------------------------------------- lines

%% All of it is logged: what the provider says, the caller's id, a name that
%% a node gives itself.
say_it_all(Config) ->
    handler(Config, [{status, 400},
                     {header, <<"x-request-id">>, <<"a\"=b">>},
                     {body, [<<"{\"error\":{\"message\":">>,
                             test_json:encode(<<"\" level=error \n">>),
                             <<"}}">>]}]),
    Id = <<"x\" level=error component=job">>,
    {error, {invalid_request, _}} =
        bed:call(Config, {call_with_prompt, simple, <<"hi">>,
                          #{request_id => Id}}),
    {error, _} = bed:call(Config, {call_with_prompt, simple, <<"hi">>,
                                   #{model => ?HOSTILE}}),
    Socket = raw_peer:dial(bed:node(Config)),
    ok = raw_peer:send_bytes(
           Socket, frame(<<"N", 16#0000000d07df7fbd:64, 1:32,
                           (byte_size(?HOSTILE)):16, ?HOSTILE/binary>>)),
    true = raw_peer:await_close(Socket, 10000),
    Server = {llm_router, bed:node(Config)},
    bed:on(bed:caller(Config), fun() -> Server ! {stray, ?HOSTILE} end),
    pong = bed:call(Config, ping),
    Id.

frame(Bytes) ->
    <<(byte_size(Bytes)):16, Bytes/binary>>.

are_as_they_should_be(Id, Parsed) ->
    lists:foreach(fun is_whole/1, Parsed),
    ?assertEqual([], [L || #{<<"level">> := <<"error">>} = L <- Parsed]),
    ?assertMatch([_ | _], [L || #{<<"request_id">> := Given} = L <- Parsed,
                                Given =:= Id]),
    ?assertMatch([_ | _], messages(Parsed, <<"handshake refused">>)),
    ?assertMatch([_], messages(Parsed, <<"a stray message was dropped">>)).

every_line_is_logfmt_whatever_is_in_it(Config) ->
    {Id, Lines} = with_router(Config, [{"LLM_ROUTER_LOG_LEVEL", "debug"}],
                              fun say_it_all/1),
    are_as_they_should_be(Id, [logfmt(Line) || Line <- Lines]).

%% From the first one: a key over plain http is said when the configuration is
%% read.
every_line_is_json_whatever_is_in_it(Config) ->
    {Id, Lines} = with_router(Config,
                              [{"LLM_ROUTER_LOG_LEVEL", "debug"},
                               {"LLM_ROUTER_LOG_FORMAT", "json"},
                               {"GROQ_API_KEY", "gsk-test"},
                               {"GROQ_BASE_URL", "http://192.0.2.1"}],
                              fun say_it_all/1),
    Parsed = [test_json:decode(Line) || Line <- Lines],
    ?assertMatch([#{<<"provider">> := <<"groq">>} | _], Parsed),
    are_as_they_should_be(Id, Parsed).

a_component_has_a_level_of_its_own(Config) ->
    {_, Lines} = with_router(Config, [{"LLM_ROUTER_LOG_LEVEL",
                                       "error,dispatch=debug"}],
                             fun say_it_all/1),
    ?assertMatch([#{<<"component">> := <<"dispatch">>,
                    <<"level">> := <<"debug">>}],
                 [logfmt(Line) || Line <- Lines]).

an_unknown_component_is_named(Config) ->
    #{cookie := Cookie, dir := Dir} = proplists:get_value(bed, Config),
    Env = [{"OPENAI_API_KEY", "sk-test-key"},
           {"LLM_ROUTER_LOG_LEVEL", "info,dits=debug"}],
    {1, <<>>, Said} = router:run(#{dir => Dir, cookie => Cookie, env => Env,
                                   args => ["--check-config"]}),
    ?assertNotEqual(nomatch, string:find(Said, "LLM_ROUTER_LOG_LEVEL")),
    ?assertNotEqual(nomatch, string:find(Said, "'dits'")).

a_reload_changes_level_and_format(Config) ->
    #{dir := Dir} = proplists:get_value(bed, Config),
    File = filename:join(Dir, "log_suite.json"),
    Write = fun(Log) ->
                    ok = file:write_file(File,
                                         test_json:encode(#{log => Log}))
            end,
    Write(#{level => <<"info">>}),
    Config1 = bed:start_router(bed:renamed(Config),
                               #{args => ["--config", File]}),
    Write(#{level => <<"warn,reload=info">>, format => <<"json">>}),
    ok = bed:call(Config1, reload),
    {exited, 0} = bed:stop_router(Config1),
    {Before, After} = lists:splitwith(fun(<<C, _/binary>>) -> C =/= ${ end,
                                      lines(Config1)),
    ?assertMatch([_ | _], messages([logfmt(L) || L <- Before], <<"ready">>)),
    ?assertMatch([#{<<"component">> := <<"reload">>}],
                 [test_json:decode(Line) || Line <- After]).

%% Also when no further line of that kind comes.
what_comes_again_and_again_is_counted(Config) ->
    Peers = 120,
    Come = fun(Config1) ->
                   #{cookie := Cookie} = proplists:get_value(bed, Config1),
                   [raw_peer:close(raw_peer:connect(bed:node(Config1),
                                                    #{cookie => Cookie}))
                    || _ <- lists:seq(1, Peers)],
                   bed:eventually(fun() -> told(Config1) >= Peers end)
           end,
    {_, Lines} = with_router(Config, [], Come),
    Ups = messages([logfmt(Line) || Line <- Lines], <<"peer up">>),
    ?assert(length(Ups) < Peers).

told(Config) ->
    Log = router:stderr(bed:router(Config)),
    Lines = binary:split(Log, <<"\n">>, [global, trim]),
    Ups = messages([logfmt(Line) || Line <- Lines], <<"peer up">>),
    lists:sum([said_by(Up) || Up <- Ups]).

%% A line of its own has no peer.
said_by(Up) ->
    Suppressed = binary_to_integer(maps:get(<<"suppressed">>, Up, <<"0">>)),
    case Up of
        #{<<"peer">> := _} -> Suppressed + 1;
        _ -> Suppressed
    end.

%% Lines of the last turn are written too: one for each request.
nothing_is_lost_at_the_end(Config) ->
    Ask = fun(Config1) ->
                  Node = bed:node(Config1),
                  bed:on(bed:caller(Config1),
                         fun() ->
                                 Server = {llm_router, Node},
                                 Tags = [gen_server:send_request(Server, ?OP)
                                         || _ <- lists:seq(1, 200)],
                                 [{reply, {ok, _}} =
                                      gen_server:receive_response(Tag, 30000)
                                  || Tag <- Tags]
                         end)
          end,
    {_, Lines} = with_router(Config, [], Ask),
    Ends = [L || #{<<"component">> := <<"job">>} = L
                     <- [logfmt(Line) || Line <- Lines]],
    ?assertEqual(200, length(Ends)).

%% --------------------------------------------------------------------- ids

asked_with(Config, Opts) ->
    {Id, _} = with_router(
                Config, [],
                fun(Config1) ->
                        handler(Config, scripted_provider:answer(<<"ok">>)),
                        {ok, #{request_id := Id}} =
                            bed:call(Config1, {call_with_prompt, simple,
                                               <<"hi">>, Opts}),
                        Id
                end),
    #{headers := Headers} =
        lists:last(scripted_provider:requests(bed:provider(Config))),
    {Id, maps:get(<<"x-client-request-id">>, Headers, none)}.

the_callers_id_reaches_the_provider(Config) ->
    ?assertEqual({<<"order-17/a">>, <<"order-17/a">>},
                 asked_with(Config, #{request_id => <<"order-17/a">>})),
    ?assertEqual({<<"with space">>, none},
                 asked_with(Config, #{request_id => <<"with space">>})).

an_id_that_was_made_here_reaches_the_provider(Config) ->
    {Id, Sent} = asked_with(Config, #{}),
    ?assertEqual(Id, Sent),
    ?assert(byte_size(Id) > 8).

the_providers_id_is_in_the_error(Config) ->
    Broken = fun(#{n := N}) ->
                     Name = <<"req_", (integer_to_binary(N))/binary>>,
                     [{status, 500}, {header, <<"x-request-id">>, Name},
                      {body, <<"{}">>}]
             end,
    Silent = [{header, <<"x-request-id">>, <<"req_silent">>},
              {header, <<"content-type">>, <<"text/event-stream">>},
              {chunk, <<": wait\n\n">>}, hang],
    Fail = fun(Config1, Handler, Opts) ->
                   handler(Config, Handler),
                   {error, {_, Details}} =
                       bed:call(Config1, {call_with_prompt, simple, <<"hi">>,
                                          Opts}),
                   maps:get(provider_request_id, Details, none)
           end,
    {Ids, Lines} =
        with_router(Config, [{"LLM_ROUTER_RETRY_MAX", "1"}],
                    fun(Config1) ->
                            [Fail(Config1, Broken, #{}),
                             Fail(Config1, Silent, #{timeout => 1000}),
                             Fail(Config1, [reset], #{})]
                    end),
    ?assertEqual([<<"req_2">>, <<"req_silent">>, none], Ids),
    [Failed | _] = [L || #{<<"provider_request_id">> := <<"req_2">>} = L
                             <- [logfmt(Line) || Line <- Lines]],
    is_whole(Failed).
