%% Who asks to be told of tasks and requests, and what is told.
-module(watchers_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(MESSAGES, [#{role => user, content => <<"Say hello to me">>}]).
-define(TELL_MS, 100).
-define(CROWD, 10000).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [a_task_is_followed_from_acceptance_to_its_end,
     each_attempt_is_told,
     a_stream_tells_its_first_token,
     a_failure_names_its_code,
     a_refusal_is_a_failure,
     an_answer_from_memory_completes_the_task,
     a_cancelled_request_fails_its_task,
     ids_of_other_types_are_other_tasks,
     an_atom_of_any_length_is_an_id,
     to_watch_twice_is_to_watch_once,
     who_unwatches_is_told_nothing,
     another_process_can_watch,
     an_rpc_names_the_watcher,
     the_message_form_watches_for_its_pid,
     a_dead_watcher_is_forgotten,
     watchers_of_a_lost_node_are_forgotten,
     a_subscriber_hears_of_all_tasks,
     telemetry_tells_beginning_and_end,
     telemetry_tells_of_streams_and_failures,
     telemetry_has_a_pair_for_every_request,
     the_scope_node_leaves_other_nodes_out,
     the_scope_cluster_is_for_administrators,
     nothing_of_the_text_is_told,
     there_is_a_limit_of_watchers,
     ten_thousand_watchers_are_told_in_a_moment,
     a_subscriber_that_takes_nothing_harms_nobody].

init_per_suite(Config) ->
    two_providers:up(Config, #{callers => 2}).

end_per_suite(Config) ->
    two_providers:down(Config).

init_per_testcase(Case, Config) ->
    Up = two_providers:router(Config, configuration(Case), []),
    says(Up, <<"Hello there, how are you today?">>),
    Up.

configuration(there_is_a_limit_of_watchers) ->
    #{limits => #{watchers => 2}};
configuration(an_answer_from_memory_completes_the_task) ->
    #{cache => #{max_bytes => 100000}};
configuration(telemetry_has_a_pair_for_every_request) ->
    #{cache => #{max_bytes => 100000}, retry => #{max => 0}};
configuration(the_scope_cluster_is_for_administrators) ->
    #{allow => #{admin => [<<"nobody@*">>]}};
configuration(_) ->
    #{retry => #{max => 1}}.

end_per_testcase(_Case, Config) ->
    bed:must(fun() -> {exited, 0} = bed:stop_router(Config) end).

%% ---------------------------------------------------------------- helpers

says(Config, Text) ->
    handle(Config, fun(_) -> scripted_provider:answer(Text, #{chunk_size => 5})
                   end).

fails(Config, Status) ->
    handle(Config, fun(_) -> scripted_provider:error(Status, auth, <<"no">>,
                                                     []) end).

handle(Config, Handler) ->
    [scripted_provider:set_handler(two_providers:Name(Config), Handler)
     || Name <- [one, two]].

server(Config) ->
    {llm_router, router:node(bed:router(Config))}.

%% Fun(Server) on a caller's node; what is left in the mailbox is an error.
on(Config, Fun) ->
    on(Config, 1, Fun).

on(Config, Caller, Fun) ->
    Server = server(Config),
    bed:on(bed:caller(Config, Caller),
           fun() ->
                   Result = Fun(Server),
                   receive Junk -> error({junk, Junk}) after 50 -> ok end,
                   Result
           end).

start_caller(Config, Name) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    bed:start_caller(Cookie, bed:node_name(Name)).

prompt(Opts) ->
    {call_with_prompt, simple, <<"Say hello to me">>, Opts}.

%% The updates of a task up to its end, and whether it was completed.
updates(Id) ->
    receive
        {task_update, Id, #{status := done} = Update} ->
            receive {task_completed, Id} -> [Update, completed]
            after 5000 -> [Update]
            end;
        {task_update, Id, #{status := failed} = Update} -> [Update];
        {task_update, Id, Update} -> [Update | updates(Id)]
    after 10000 -> [nothing]
    end.

statuses(Updates) ->
    [case Update of #{status := Status} -> Status; Other -> Other end
     || Update <- Updates].

watched(Config) ->
    #{watchers := #{watching := Count}} =
        on(Config, fun(Server) -> gen_server:call(Server, stats) end),
    Count.

next() ->
    receive Message -> Message after 10000 -> nothing end.

%% ------------------------------------------------------------------ tasks

a_task_is_followed_from_acceptance_to_its_end(Config) ->
    {Updates, Response} =
        on(Config,
           fun(Server) ->
                   ok = gen_server:call(Server, {watch_task, 42}),
                   {ok, R} = gen_server:call(
                               Server, prompt(#{task_id => 42,
                                                request_id => <<"r1">>})),
                   {updates(42), R}
           end),
    ?assertEqual([accepted, calling_provider, validating, done, completed],
                 statuses(Updates)),
    [Accepted, Calling, _, Done, completed] = Updates,
    ?assertEqual(#{status => accepted, operation => call_with_prompt,
                   request_id => <<"r1">>}, Accepted),
    ?assertMatch(#{provider := <<_/binary>>, model := <<_/binary>>,
                   attempt := 1}, Calling),
    ?assertMatch(#{duration_ms := Ms} when Ms >= 0, Done),
    ?assertEqual(maps:get(model, Response), maps:get(model, Done)).

each_attempt_is_told(Config) ->
    Fail = fun(_) -> scripted_provider:error(500, server, <<"no">>, []) end,
    Good = fun(_) -> scripted_provider:answer(<<"Hello">>) end,
    scripted_provider:set_handler(two_providers:one(Config), [Fail, Good]),
    Updates = on(Config, fun(Server) ->
        ok = gen_server:call(Server, {watch_task, a}),
        {ok, _} = gen_server:call(Server, prompt(#{task_id => a}), 20000),
        updates(a)
    end),
    ?assertEqual([1, 2], [N || #{status := calling_provider,
                                 attempt := N} <- Updates]).

a_stream_tells_its_first_token(Config) ->
    Updates = on(Config, fun(Server) ->
        ok = gen_server:call(Server, {watch_task, <<"s">>}),
        {ok, Ref} = gen_server:call(Server, {stream, simple, ?MESSAGES,
                                             #{task_id => <<"s">>}}),
        Told = updates(<<"s">>),
        ok = skip(Ref),
        Told
    end),
    ?assertEqual([accepted, calling_provider, first_token, validating, done,
                  completed], statuses(Updates)).

skip(Ref) ->
    receive
        {llm_stream, Ref, {delta, _}} -> skip(Ref);
        {llm_stream, Ref, {done, _}} -> ok
    after 5000 -> error(no_end)
    end.

a_failure_names_its_code(Config) ->
    fails(Config, 401),
    Updates = on(Config, fun(Server) ->
        ok = gen_server:call(Server, {watch_task, 1}),
        {error, {unauthorized, _}} =
            gen_server:call(Server, prompt(#{task_id => 1})),
        updates(1)
    end),
    ?assertMatch(#{status := failed, error := unauthorized},
                 lists:last(Updates)),
    ?assertNot(lists:member(completed, Updates)).

a_refusal_is_a_failure(Config) ->
    ?assertMatch(
       [#{status := failed, error := no_route, duration_ms := 0,
          request_id := <<_/binary>>}],
       on(Config, fun(Server) ->
           ok = gen_server:call(Server, {watch_task, 1}),
           {error, {no_route, _}} =
               gen_server:call(Server, prompt(#{task_id => 1,
                                                provider => nowhere})),
           updates(1)
       end)).

an_answer_from_memory_completes_the_task(Config) ->
    Statuses = on(Config, fun(Server) ->
        {ok, _} = gen_server:call(Server, prompt(#{cache => true})),
        ok = gen_server:call(Server, {watch_task, 1}),
        {ok, _} = gen_server:call(Server, prompt(#{cache => true,
                                                   task_id => 1})),
        statuses(updates(1))
    end),
    ?assertEqual([accepted, done, completed], Statuses).

a_cancelled_request_fails_its_task(Config) ->
    handle(Config, fun(_) -> [hang] end),
    Updates = on(Config, fun(Server) ->
        ok = gen_server:call(Server, {watch_task, 1}),
        Pid = spawn(fun() -> gen_server:call(Server, prompt(#{task_id => 1}))
                    end),
        {task_update, 1, #{status := accepted}} = next(),
        {task_update, 1, #{status := calling_provider}} = next(),
        exit(Pid, kill),
        updates(1)
    end),
    ?assertMatch([#{status := failed, error := cancelled}], Updates).

ids_of_other_types_are_other_tasks(Config) ->
    ?assertEqual(
       [<<"1">>],
       on(Config, fun(Server) ->
           [ok = gen_server:call(Server, {watch_task, Id})
            || Id <- [1, '1', <<"1">>]],
           {ok, _} = gen_server:call(Server, prompt(#{task_id => <<"1">>})),
           lists:usort([element(2, M) || M <- all_messages()])
       end)).

all_messages() ->
    receive Message -> [Message | all_messages()] after 300 -> [] end.

an_atom_of_any_length_is_an_id(Config) ->
    Id = list_to_atom(lists:duplicate(255, 16#1F600)),
    on(Config, fun(Server) ->
        ok = gen_server:call(Server, {watch_task, Id}),
        {ok, _} = gen_server:call(Server, prompt(#{task_id => Id})),
        completed = lists:last(updates(Id))
    end).

to_watch_twice_is_to_watch_once(Config) ->
    Completed = on(Config, fun(Server) ->
        ok = gen_server:call(Server, {watch_task, 1}),
        ok = gen_server:call(Server, {watch_task, 1}),
        {ok, _} = gen_server:call(Server, prompt(#{task_id => 1})),
        [M || {task_completed, _} = M <- all_messages()]
    end),
    ?assertEqual([{task_completed, 1}], Completed).

who_unwatches_is_told_nothing(Config) ->
    on(Config, fun(Server) ->
        ok = gen_server:call(Server, {watch_task, 1}),
        ok = gen_server:call(Server, {unwatch_task, 1}),
        ok = gen_server:call(Server, {unwatch_task, 2}),
        ok = gen_server:call(Server, {subscribe, tasks}),
        ok = gen_server:call(Server, {unsubscribe, tasks}),
        {ok, _} = gen_server:call(Server, prompt(#{task_id => 1}))
    end),
    ?assertEqual(0, watched(Config)).

another_process_can_watch(Config) ->
    on(Config, fun(Server) ->
        Self = self(),
        Watcher = spawn(fun() -> Self ! {told, updates(1)} end),
        ok = gen_server:call(Server, {watch_task, 1, #{to => Watcher}}),
        {ok, _} = gen_server:call(Server, prompt(#{task_id => 1})),
        receive {told, Updates} -> completed = lists:last(Updates) end
    end).

an_rpc_names_the_watcher(Config) ->
    on(Config, fun({_, Node} = Server) ->
        {error, {invalid_request, #{path := <<"opts.to">>}}} =
            rpc:call(Node, llm_router, watch_task, [1]),
        ok = rpc:call(Node, llm_router, watch_task, [1, #{to => self()}]),
        {ok, _} = gen_server:call(Server, prompt(#{task_id => 1})),
        completed = lists:last(updates(1))
    end).

the_message_form_watches_for_its_pid(Config) ->
    on(Config, fun(Server) ->
        Server ! {llm_request, self(), ref, {watch_task, 1}},
        {llm_response, ref, ok} = next(),
        {ok, _} = gen_server:call(Server, prompt(#{task_id => 1})),
        completed = lists:last(updates(1))
    end).

a_dead_watcher_is_forgotten(Config) ->
    on(Config, fun(Server) ->
        {Pid, Ref} = spawn_monitor(fun() ->
            ok = gen_server:call(Server, {watch_task, 1}),
            ok = gen_server:call(Server, {watch_task, 2}),
            ok = gen_server:call(Server, {subscribe, telemetry})
        end),
        receive {'DOWN', Ref, process, Pid, normal} -> ok end
    end),
    bed:eventually(fun() -> watched(Config) =:= 0 end).

watchers_of_a_lost_node_are_forgotten(Config) ->
    Server = server(Config),
    Peer = start_caller(Config, lost),
    bed:on(Peer, fun() ->
        Self = self(),
        spawn(fun() ->
            [ok = gen_server:call(Server, {watch_task, Id})
             || Id <- lists:seq(1, 100)],
            Self ! watching,
            receive never -> ok end
        end),
        receive watching -> ok end
    end),
    ?assertEqual(100, watched(Config)),
    ok = bed:kill_caller(Peer),
    bed:eventually(fun() -> watched(Config) =:= 0 end).

a_subscriber_hears_of_all_tasks(Config) ->
    Ids = on(Config, fun(Server) ->
        ok = gen_server:call(Server, {subscribe, tasks}),
        [{ok, _} = gen_server:call(Server, prompt(#{task_id => Id}))
         || Id <- [1, <<"two">>, three]],
        {ok, _} = gen_server:call(Server, prompt(#{})),
        [Id || {task_completed, Id} <- all_messages()]
    end),
    ?assertEqual([1, <<"two">>, three], Ids).

%% -------------------------------------------------------------- telemetry

telemetry_tells_beginning_and_end(Config) ->
    [Start, Stop] = on(Config, fun(Server) ->
        ok = gen_server:call(Server, {subscribe, telemetry}),
        {ok, _} = gen_server:call(Server, prompt(#{request_id => <<"r9">>})),
        [next(), next()]
    end),
    #{node := Node} = bed:caller(Config),
    {llm_router_telemetry, [llm_router, request, start],
     #{system_time := Time}, Begun} = Start,
    ?assert(abs(Time - os:system_time(nanosecond)) < 60_000_000_000),
    ?assertMatch(#{operation := call_with_prompt, request_id := <<"r9">>,
                   caller_node := Node, mode := call,
                   'gen_ai.operation.name' := <<"chat">>,
                   'gen_ai.request.model' := <<_/binary>>,
                   'gen_ai.provider.name' := <<_/binary>>}, Begun),
    {llm_router_telemetry, [llm_router, request, stop], Measured, Ended} =
        Stop,
    #{duration := Ns, attempts := 1, input_tokens := In,
      output_tokens := Out, total_tokens := Total} = Measured,
    ?assert(Ns > 0),
    ?assertEqual(In + Out, Total),
    ?assertMatch(#{'gen_ai.response.finish_reasons' := [<<"stop">>],
                   'gen_ai.usage.input_tokens' := _}, Ended),
    ?assertEqual(Begun, maps:with(maps:keys(Begun), Ended)).

telemetry_tells_of_streams_and_failures(Config) ->
    on(Config, fun(Server) ->
        ok = gen_server:call(Server, {subscribe, telemetry}),
        {ok, Ref} = gen_server:call(Server, {stream, simple, ?MESSAGES, #{}}),
        ok = skip(Ref),
        {_, [_, _, start], _, #{mode := stream}} = next(),
        {_, [_, _, stop], #{time_to_first_token := First, duration := All}, _}
            = next(),
        true = First > 0 andalso First =< All
    end),
    fails(Config, 403),
    on(Config, fun(Server) ->
        ok = gen_server:call(Server, {subscribe, telemetry}),
        {error, _} = gen_server:call(Server, prompt(#{})),
        {_, [_, _, start], _, _} = next(),
        {_, [_, _, exception], #{duration := _},
         #{kind := error, reason := unauthorized, stacktrace := [],
           'error.type' := <<"unauthorized">>,
           'http.response.status_code' := 403}} = next()
    end).

%% Refused at once, from the cache, by request_id, joined, cancelled.
telemetry_has_a_pair_for_every_request(Config) ->
    on(Config, fun(Server) ->
        ok = gen_server:call(Server, {subscribe, telemetry}),
        Ask = fun(Opts) -> gen_server:call(Server, prompt(Opts)) end,
        {error, {no_route, _}} = Ask(#{provider => nowhere}),
        {error, {invalid_request, _}} = Ask(#{timeout => 0}),
        {ok, _} = Ask(#{cache => true}),
        {ok, _} = Ask(#{cache => true}),
        {ok, _} = Ask(#{request_id => <<"same">>}),
        {ok, _} = Ask(#{request_id => <<"same">>}),
        [exception, exception, stop, stop, stop, stop] = pairs(6)
    end),
    handle(Config, fun(_) -> [{sleep, 300} |
                              scripted_provider:answer(<<"Hi">>)] end),
    on(Config, fun(Server) ->
        ok = gen_server:call(Server, {subscribe, telemetry}),
        Same = prompt(#{request_id => <<"joined">>}),
        Pids = [spawn_monitor(fun() -> gen_server:call(Server, Same) end)
                || _ <- [1, 2, 3]],
        {Lost, _} = hd(Pids),
        receive {_, [_, _, start], _, _} = First -> self() ! First end,
        timer:sleep(100),
        exit(Lost, kill),
        Ends = pairs(3),
        [receive {'DOWN', Ref, _, _, _} -> ok end || {_, Ref} <- Pids],
        3 = length(Ends)
    end).

%% So many starts, each before an end of its id; the kinds of ends.
pairs(Count) ->
    lists:sort(lists:reverse(pairs(Count, []))).

pairs(0, Open) ->
    [] = Open,
    [];
pairs(Count, Open) ->
    receive
        {llm_router_telemetry, [_, _, start], _, #{request_id := Id}} ->
            pairs(Count, [Id | Open]);
        {llm_router_telemetry, [_, _, End], #{duration := _},
         #{request_id := Id}} ->
            true = lists:member(Id, Open),
            [End | pairs(Count - 1, lists:delete(Id, Open))]
    after 10000 -> error({missing, Count, Open})
    end.

the_scope_node_leaves_other_nodes_out(Config) ->
    #{node := Own} = bed:caller(Config, 1),
    #{node := Other} = bed:caller(Config, 2),
    Nodes = on(Config, fun(Server) ->
        ok = gen_server:call(Server, {subscribe, telemetry, [{scope, node}]}),
        [{ok, _} = rpc:call(Node, gen_server, call, [Server, prompt(#{})])
         || Node <- [Other, Own]],
        #{watchers := #{dropped := 0}} = gen_server:call(Server, stats),
        [maps:get(caller_node, Metadata)
         || {llm_router_telemetry, _, _, Metadata} <- all_messages()]
    end),
    ?assertEqual([Own, Own], Nodes).

the_scope_cluster_is_for_administrators(Config) ->
    on(Config, fun(Server) ->
        {error, {forbidden, _}} =
            gen_server:call(Server, {subscribe, telemetry}),
        {error, {forbidden, _}} = gen_server:call(Server, {subscribe, tasks}),
        ok = gen_server:call(Server, {subscribe, telemetry,
                                      #{scope => node}}),
        ok = gen_server:call(Server, {watch_task, 1})
    end).

nothing_of_the_text_is_told(Config) ->
    Secret = <<"pSECRETp">>,
    says(Config, <<"aSECRETa">>),
    Told = on(Config, fun(Server) ->
        ok = gen_server:call(Server, {subscribe, telemetry}),
        ok = gen_server:call(Server, {subscribe, tasks}),
        {ok, _} = gen_server:call(
                    Server, {call_with_prompt, simple, Secret,
                             #{task_id => 1, metadata => Secret}}),
        all_messages()
    end),
    ?assertEqual(7, length(Told)),
    ?assertEqual(nomatch, binary:match(term_to_binary(Told), <<"SECRET">>)).

%% ------------------------------------------------------------------ bounds

there_is_a_limit_of_watchers(Config) ->
    on(Config, fun(Server) ->
        ok = gen_server:call(Server, {watch_task, 1}),
        ok = gen_server:call(Server, {watch_task, 2}),
        ok = gen_server:call(Server, {watch_task, 2}),
        {error, {overloaded, #{message := _}}} =
            gen_server:call(Server, {watch_task, 3}),
        ok = gen_server:call(Server, {unwatch_task, 1}),
        ok = gen_server:call(Server, {watch_task, 3})
    end).

ten_thousand_watchers_are_told_in_a_moment(Config) ->
    handle(Config, fun(_) -> [{sleep, 500} |
                              scripted_provider:answer(<<"Hi">>)] end),
    Ms = on(Config, fun(Server) ->
        Self = self(),
        Watcher = fun() ->
            receive
                {task_completed, crowd} ->
                    Self ! {told, erlang:monotonic_time(microsecond)}
            end,
            receive stop -> ok end
        end,
        Crowd = [spawn(Watcher) || _ <- lists:seq(1, ?CROWD)],
        [ok = gen_server:call(Server, {watch_task, crowd, #{to => Pid}})
         || Pid <- Crowd],
        #{watchers := #{watching := ?CROWD}} = gen_server:call(Server, stats),
        {ok, _} = gen_server:call(Server, prompt(#{task_id => crowd})),
        Begun = erlang:monotonic_time(microsecond),
        Ends = [receive {told, At} -> At after 10000 -> error(not_told) end
                || _ <- lists:seq(1, ?CROWD)],
        [Pid ! stop || Pid <- Crowd],
        (lists:max(Ends) - Begun) / 1000
    end),
    ct:pal("~b watchers were told ~.1f ms after the answer", [?CROWD, Ms]),
    ?assert(Ms < bed:limit_ms(?TELL_MS)),
    bed:eventually(fun() -> watched(Config) =:= 0 end).

%% Its node does not read: what waits is bounded, other nodes hear all.
a_subscriber_that_takes_nothing_harms_nobody(Config) ->
    Server = server(Config),
    Peer = start_caller(Config, deaf),
    bed:on(Peer, fun() ->
        Self = self(),
        spawn(fun() ->
            ok = gen_server:call(Server, {subscribe, tasks}),
            Self ! subscribed,
            receive never -> ok end
        end),
        receive subscribed -> ok end,
        os:getpid()
    end),
    Pid = bed:on(Peer, fun() -> os:getpid() end),
    Before = router:rss_kib(bed:router(Config)),
    os:cmd("kill -STOP " ++ Pid),
    Big = binary:copy(<<"x">>, 250),
    on(Config, fun(_) ->
        Ids = [<<Big/binary, (integer_to_binary(N))/binary>>
               || N <- lists:seq(1, 100)],
        [{error, {no_route, _}} =
             gen_server:call(Server, prompt(#{provider => nowhere,
                                              task_id => Id}))
         || _ <- lists:seq(1, 600), Id <- Ids],
        #{watchers := #{dropped := Dropped}} = gen_server:call(Server, stats),
        true = Dropped > 0
    end),
    bed:has_grown_less(Config, 32768, Before),
    os:cmd("kill -CONT " ++ Pid),
    bed:stop_caller(Peer).
