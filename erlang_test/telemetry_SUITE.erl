%% Events of `telemetry' for the requests that a router has, and the line in
%% the log where there is no `telemetry'.
-module(telemetry_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(SERVER, llm_router_telemetry).
-define(ASK(Opts), {call_with_prompt, simple, <<"a prompt of Rumpel">>, Opts}).
-define(TEXT, <<"an answer of Stilzchen">>).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_request_is_a_start_and_a_stop,
     a_failure_is_a_start_and_an_exception,
     a_stream_has_the_time_of_its_first_part,
     neither_prompt_nor_answer_is_in_an_event,
     by_default_only_callers_of_this_node_count,
     all_callers_can_count,
     the_next_router_is_subscribed_to,
     a_router_that_lost_the_name_still_tells_of_its_requests,
     events_that_handlers_cannot_follow_are_dropped,
     without_telemetry_a_line_is_logged,
     failures_are_counted_in_the_line,
     half_of_the_requests_were_faster,
     an_event_of_a_newer_router_is_passed_on,
     a_refused_subscription_is_logged_once,
     false_starts_nothing,
     an_unknown_option_is_an_error].

init_per_suite(Config) ->
    bed:up(Config, #{callers => 2, router => none}).

end_per_suite(Config) ->
    bed:down(Config).

init_per_testcase(Case, Config) ->
    set(Config, fun(_) -> scripted_provider:answer(?TEXT) end),
    Caller = bed:caller(Config),
    bed:on(Caller, fun() -> load(is_with_telemetry(Case)) end),
    bed:start_router(bed:renamed(Config), #{}).

end_per_testcase(_Case, Config) ->
    bed:must(fun() ->
                 bed:on(bed:caller(Config), fun() ->
                     stop(whereis(?SERVER)),
                     logger:remove_handler(?MODULE)
                 end),
                 bed:stop_router(Config)
             end).

is_with_telemetry(Case) ->
    not lists:member(Case, [without_telemetry_a_line_is_logged,
                            failures_are_counted_in_the_line,
                            half_of_the_requests_were_faster]).

load(true) ->
    ok = telemetry_standin:start(),
    ok = standin:load(telemetry, telemetry_standin);
load(false) ->
    code:purge(telemetry),
    code:delete(telemetry).

set(Config, Handler) ->
    scripted_provider:set_handler(bed:provider(Config), Handler).

stop(undefined) ->
    ok;
stop(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

%% The server on the first caller's node, with an owner that stays; it has
%% found the router.
start(Config, Opts) ->
    Caller = bed:caller(Config),
    bed:on(Caller, fun() -> start_here(Opts) end),
    bed:eventually(fun() -> attached(Caller) end).

start_here(Opts) ->
    Self = self(),
    spawn(fun() ->
              Self ! {started,
                      llm_router_telemetry:start_link(#{telemetry => Opts})},
              receive never -> ok end
          end),
    receive {started, {ok, Pid}} -> Pid end.

attached(Caller) ->
    bed:on(Caller, fun() ->
               #{attachment := Attachment} = sys:get_state(?SERVER),
               maps:get(server, sys:get_state(Attachment)) =/= none
           end).

ask(Config, N, Op) ->
    Server = {llm_router, router:node(bed:router(Config))},
    bed:on(bed:caller(Config, N), fun() -> gen_server:call(Server, Op) end).

%% Waits for so many events on the first caller's node.
events(Config, Count) ->
    bed:on(bed:caller(Config), fun() ->
        bed:eventually(fun() ->
                           length(telemetry_standin:events()) >= Count
                       end),
        timer:sleep(50),
        telemetry_standin:events()
    end).

native(Ms) ->
    erlang:convert_time_unit(Ms, millisecond, native).

%% ----------------------------------------------------------------- events

a_request_is_a_start_and_a_stop(Config) ->
    start(Config, true),
    #{node := Node} = bed:caller(Config),
    set(Config, fun(_) -> [{sleep, 200} | scripted_provider:answer(?TEXT)]
                end),
    Before = erlang:system_time(),
    {ok, #{request_id := Id}} = ask(Config, 1, ?ASK(#{})),
    [{[llm_router, request, start], Begin, About},
     {[llm_router, request, stop], End, AboutAll}] = events(Config, 2),
    #{system_time := At, monotonic_time := First} = Begin,
    ?assert(At >= Before - native(1000)),
    ?assert(At =< erlang:system_time() + native(1000)),
    #{duration := Took, monotonic_time := Last, input_tokens := In} = End,
    ?assert(Took >= native(200)),
    ?assert(Took =< native(bed:limit_ms(10000))),
    ?assert(is_integer(In)),
    ?assert(Last - First >= native(150)),
    ?assertMatch(#{request_id := Id, telemetry_span_context := Id,
                   operation := call_with_prompt, caller_node := Node,
                   mode := call, 'gen_ai.operation.name' := <<"chat">>},
                 About),
    ?assertMatch(#{telemetry_span_context := Id,
                   'gen_ai.usage.input_tokens' := In,
                   'gen_ai.response.finish_reasons' := [<<"stop">>]},
                 AboutAll).

a_failure_is_a_start_and_an_exception(Config) ->
    start(Config, true),
    set(Config, two_providers:fails(401)),
    {error, {unauthorized, _}} = ask(Config, 1, ?ASK(#{})),
    [{[llm_router, request, start], _, #{telemetry_span_context := Id}},
     {[llm_router, request, exception], #{duration := Took}, About}] =
        events(Config, 2),
    ?assert(Took > 0),
    ?assertMatch(#{telemetry_span_context := Id, kind := error,
                   reason := unauthorized, stacktrace := [],
                   'http.response.status_code' := 401}, About).

a_stream_has_the_time_of_its_first_part(Config) ->
    start(Config, true),
    set(Config, fun(_) -> [{sleep, 200}
                           | scripted_provider:answer(?TEXT, #{})]
                end),
    bed:on(bed:caller(Config), fun() ->
        {ok, Ref} = gen_server:call({global, llm_router},
                                    {stream, simple, [{user, <<"hi">>}]}),
        receive {llm_stream, Ref, {done, _}} -> ok end
    end),
    [_, {[_, _, stop], #{time_to_first_token := First, duration := Took}, _}] =
        events(Config, 2),
    ?assert(First >= native(200)),
    ?assert(First =< Took).

neither_prompt_nor_answer_is_in_an_event(Config) ->
    start(Config, true),
    {ok, #{text := ?TEXT}} =
        ask(Config, 1, ?ASK(#{metadata => #{mine => <<"Rumpel">>}})),
    Bytes = term_to_binary(events(Config, 2)),
    ?assertEqual(nomatch, binary:match(Bytes, [<<"Rumpel">>,
                                               <<"Stilzchen">>])).

by_default_only_callers_of_this_node_count(Config) ->
    start(Config, true),
    {ok, _} = ask(Config, 2, ?ASK(#{request_id => <<"theirs">>})),
    {ok, _} = ask(Config, 1, ?ASK(#{request_id => <<"ours">>})),
    ?assertEqual([<<"ours">>, <<"ours">>],
                 [Id || {_, _, #{request_id := Id}} <- events(Config, 2)]).

all_callers_can_count(Config) ->
    start(Config, [{scope, cluster}]),
    {ok, _} = ask(Config, 2, ?ASK(#{request_id => <<"theirs">>})),
    ?assertMatch([{_, _, #{request_id := <<"theirs">>}}, _],
                 events(Config, 2)).

the_next_router_is_subscribed_to(Config) ->
    start(Config, true),
    bed:kill_router(Config),
    Up = bed:start_router(bed:renamed(Config), #{}),
    bed:eventually(fun() -> attached(bed:caller(Config)) end),
    {ok, _} = ask(Up, 1, ?ASK(#{})),
    ?assertMatch([{[_, _, start], _, _}, {[_, _, stop], _, _}],
                 events(Config, 2)),
    {exited, 0} = bed:stop_router(Up).

a_router_that_lost_the_name_still_tells_of_its_requests(Config) ->
    start(Config, true),
    Caller = bed:caller(Config),
    Node = bed:node_name(router),
    Next = bed:run_router(Config, Node, #{}),
    set(Config, [fun(_) -> [{sleep, 4000}
                            | scripted_provider:answer(?TEXT)]
                 end,
                 fun(_) -> scripted_provider:answer(?TEXT) end]),
    Self = self(),
    spawn_link(fun() -> Self ! {old, ask(Config, 1, ?ASK(#{}))} end),
    scripted_provider:await_requests(bed:provider(Config), 1),
    ok = ask(Config, 1, drain),
    bed:eventually(fun() -> is_attached_to(Caller, Node) end),
    bed:on(Caller, fun() ->
        #{attachment := Attachment} = sys:get_state(?SERVER),
        {monitors, [_]} = process_info(Attachment, monitors),
        {ok, _} = gen_server:call({llm_router, Node}, ?ASK(#{}))
    end),
    receive {old, {ok, #{request_id := Id}}} -> ok end,
    [_, {[_, _, start], _, _}, {[_, _, stop], _, _},
     {[_, _, stop], _, #{request_id := Last}}] = events(Config, 4),
    ?assertEqual(Id, Last),
    {exited, 0} = router:stop(Next).

is_attached_to(Caller, Node) ->
    bed:on(Caller, fun() ->
               #{attachment := Attachment} = sys:get_state(?SERVER),
               case sys:get_state(Attachment) of
                   #{server := Pid} when is_pid(Pid) -> node(Pid) =:= Node;
                   #{server := Server} -> Server =:= {llm_router, Node}
               end
           end).

%% ---------------------------------------------------------------- overload

events_that_handlers_cannot_follow_are_dropped(Config) ->
    start(Config, true),
    bed:on(bed:caller(Config), fun() ->
        #{attachment := Attachment} = sys:get_state(?SERVER),
        Server = whereis(?SERVER),
        erlang:suspend_process(Server),
        [tell(Server, Attachment, stop, #{duration => 1}, #{})
         || _ <- lists:seq(1, 15000)],
        erlang:resume_process(Server),
        #{dropped := Dropped} = sys:get_state(Server),
        Kept = length(telemetry_standin:events()),
        ?assertEqual(15000, Dropped + Kept),
        ?assert(Dropped >= 4990),
        ?assert(Kept >= 10000),
        watch_log(),
        Server ! log,
        receive
            {log, #{level := warning, msg := {_, [Dropped]}}} -> ok
        end,
        #{dropped := 0} = sys:get_state(Server)
    end).

%% What an attachment would say of an event.
tell(Server, Attachment, Phase, Measurements, Metadata) ->
    Server ! {llm_router_attachment, Attachment,
              {message, {llm_router_telemetry, [llm_router, request, Phase],
                         Measurements, Metadata}}}.

%% ----------------------------------------------------------------- the log

%% Lets the calling process have this node's log as messages.
watch_log() ->
    ok = logger:set_primary_config(level, info),
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => info,
                                                config => self()}).

log(#{meta := #{domain := [llm_router | _]}} = Event, #{config := Pid}) ->
    Pid ! {log, Event};
log(_Event, _Config) ->
    ok.

next_line() ->
    receive
        {log, #{level := info, msg := {Format, Args}}} ->
            unicode:characters_to_binary(io_lib:format(Format, Args))
    after 10000 ->
            error(no_line)
    end.

without_telemetry_a_line_is_logged(Config) ->
    start(Config, [{summary_ms, 1000}]),
    Server = {llm_router, router:node(bed:router(Config))},
    bed:on(bed:caller(Config), fun() ->
        watch_log(),
        [{ok, _} = gen_server:call(Server, ?ASK(#{})) || _ <- [1, 2, 3]],
        Line = next_line(),
        ct:log("~ts", [Line]),
        {match, _} = re:run(Line, "^requests: [1-3] in 1 s, p50 [0-9.]+ ms, "
                            "p95 [0-9.]+ ms, [1-9][0-9]* tokens in, "
                            "[1-9][0-9]* out, [0-9.]+ USD$"),
        receive {log, _} -> ok after 1100 -> ok end,
        receive {log, Again} -> error({nothing_happened, Again})
        after 1100 -> ok
        end
    end).

failures_are_counted_in_the_line(Config) ->
    start(Config, true),
    Answers = fun(_) -> scripted_provider:answer(?TEXT) end,
    set(Config, [Answers, Answers, two_providers:fails(401)]),
    [ask(Config, 1, ?ASK(#{})) || _ <- [1, 2, 3]],
    bed:on(bed:caller(Config), fun() ->
        bed:eventually(fun() ->
            maps:get(requests, maps:get(sink, sys:get_state(?SERVER))) =:= 3
        end),
        watch_log(),
        whereis(?SERVER) ! log,
        {match, _} = re:run(next_line(), "; 1 failed: unauthorized 1$")
    end).

half_of_the_requests_were_faster(Config) ->
    start(Config, true),
    bed:on(bed:caller(Config), fun() ->
        #{attachment := Attachment} = sys:get_state(?SERVER),
        [tell(?SERVER, Attachment, stop, #{duration => Ms * 1000000}, #{})
         || Ms <- lists:seq(1, 100)],
        watch_log(),
        ?SERVER ! log,
        {match, [P50, P95]} = re:run(next_line(),
                                     "^requests: 100 .*p50 ([0-9.]+) ms, "
                                     "p95 ([0-9.]+) ms",
                                     [{capture, all_but_first, list}]),
        ?assert(abs(list_to_float(P50) - 50) < 2.5),
        ?assert(abs(list_to_float(P95) - 95) < 5)
    end).

%% --------------------------------------------------------- this and that

an_event_of_a_newer_router_is_passed_on(Config) ->
    start(Config, true),
    bed:on(bed:caller(Config), fun() ->
        #{attachment := Attachment} = sys:get_state(?SERVER),
        ?SERVER ! {llm_router_attachment, Attachment,
                   {message, {llm_router_telemetry, [llm_router, other],
                              #{count => 1}, #{}}}},
        ?SERVER ! stray,
        _ = sys:get_state(?SERVER)
    end),
    ?assertMatch([{[llm_router, other], #{count := 1}, #{}}],
                 events(Config, 1)).

a_refused_subscription_is_logged_once(Config) ->
    bed:on(bed:caller(Config), fun() ->
        watch_log(),
        {ok, Attachment} =
            llm_router_attachment:start_link({telemetry, #{scope => galaxy}}),
        receive {log, #{level := warning}} -> ok end,
        receive {log, Again} -> error(Again) after 2500 -> ok end,
        #{server := none} = sys:get_state(Attachment),
        unlink(Attachment),
        exit(Attachment, kill)
    end).

false_starts_nothing(Config) ->
    bed:on(bed:caller(Config), fun() ->
        ignore = llm_router_telemetry:start_link(#{telemetry => false})
    end).

an_unknown_option_is_an_error(_Config) ->
    [?assertError({bad_option, telemetry, Text},
                  llm_router_telemetry:start_link(#{telemetry => Options}))
     || {Options, Text} <-
            [{[{scoop, node}], <<"there is no option scoop">>},
             {#{scope => galaxy}, <<"this cannot be its {scope,galaxy}">>}]].
