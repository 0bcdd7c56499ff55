%% Answers that go to a process while they come.
-module(streams_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(TEXT, <<"Hello there, how are you today?">>).
-define(MESSAGES, [#{role => user, content => <<"Say hello to me">>}]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [the_parts_make_the_answer,
     a_whole_answer_is_one_part,
     another_process_can_take_it,
     a_message_asks_for_a_stream,
     an_rpc_names_the_receiver,
     a_wrong_stream_is_refused_at_once,
     an_error_is_the_last_message,
     a_failure_before_the_first_part_goes_to_the_next_candidate,
     a_failure_after_it_does_not,
     a_cancelled_stream_ends_at_once,
     a_stream_is_cancelled_by_its_request_id,
     a_call_is_cancelled_by_its_request_id,
     what_is_not_there_cannot_be_cancelled,
     the_death_of_the_receiver_aborts,
     many_streams_do_not_mix,
     a_slow_receiver_does_not_fill_our_memory].

init_per_suite(Config) ->
    two_providers:up(Config, #{callers => 2}).

end_per_suite(Config) ->
    two_providers:down(Config).

init_per_testcase(_Case, Config) ->
    Up = two_providers:router(Config, #{retry => #{max => 0}}, []),
    set(Up, one, says(#{})),
    Up.

end_per_testcase(_Case, Config) ->
    bed:must(fun() -> {exited, 0} = bed:stop_router(Config) end).

set(Config, Name, Handler) ->
    scripted_provider:set_handler(two_providers:Name(Config), Handler).

says(Opts) ->
    fun(_) ->
            scripted_provider:answer(?TEXT,
                                     maps:merge(#{chunk_size => 5}, Opts))
    end.

begins_and_hangs() ->
    fun(_) ->
            [Head, Role, First | _] = scripted_provider:stream(?TEXT, #{}),
            [Head, Role, First, hang]
    end.

%% Runs on the first caller: opens a stream and collects its messages.
stream(Config, Opts) ->
    Server = server(Config),
    bed:on(bed:caller(Config),
           fun() ->
                   {ok, Ref} = gen_server:call(Server,
                                               {stream, simple, ?MESSAGES,
                                                Opts}),
                   {Deltas, End} = collect(Ref, []),
                   receive Junk -> error({junk, Junk}) after 50 -> ok end,
                   {Deltas, End}
           end).

server(Config) ->
    {llm_router, router:node(bed:router(Config))}.

collect(Ref, Deltas) ->
    receive
        {llm_stream, Ref, {delta, Delta}} -> collect(Ref, [Delta | Deltas]);
        {llm_stream, Ref, End} -> {lists:reverse(Deltas), End}
    after 10000 ->
            error({no_end, Deltas})
    end.

%% ------------------------------------------------------------------ parts

the_parts_make_the_answer(Config) ->
    set(Config, one, says(#{delay => 20})),
    {Deltas, {done, Response}} = stream(Config, #{}),
    ?assert(length(Deltas) > 3),
    ?assertEqual(?TEXT, iolist_to_binary(Deltas)),
    ?assertMatch(#{text := ?TEXT, finish_reason := stop, attempts := 1,
                   usage := #{input_tokens := N}} when N > 0, Response).

a_whole_answer_is_one_part(Config) ->
    set(Config, one, says(#{whole => true})),
    ?assertMatch({[?TEXT], {done, #{text := ?TEXT}}}, stream(Config, #{})).

another_process_can_take_it(Config) ->
    Server = server(Config),
    ?assertEqual(
       ?TEXT,
       bed:on(bed:caller(Config, 2),
              fun() ->
                      Self = self(),
                      Receiver = spawn(fun() ->
                          receive {ref, Ref} -> Self ! collect(Ref, []) end
                      end),
                      {ok, Ref} = gen_server:call(
                                    Server, {stream, simple, ?MESSAGES,
                                             [{to, Receiver}]}),
                      Receiver ! {ref, Ref},
                      receive {Deltas, {done, _}} -> iolist_to_binary(Deltas)
                      after 5000 -> none
                      end
              end)).

a_message_asks_for_a_stream(Config) ->
    Server = server(Config),
    ?assertEqual(
       ?TEXT,
       bed:on(bed:caller(Config),
              fun() ->
                      Mine = make_ref(),
                      Server ! {llm_request, self(), Mine,
                                {stream, simple, ?MESSAGES, #{}}},
                      receive {llm_response, Mine, {ok, Ref}} -> ok end,
                      {Deltas, {done, _}} = collect(Ref, []),
                      iolist_to_binary(Deltas)
              end)).

an_rpc_names_the_receiver(Config) ->
    {llm_router, Node} = server(Config),
    bed:on(bed:caller(Config),
           fun() ->
                   Args = [simple, ?MESSAGES],
                   {error, {invalid_request, #{path := <<"opts.to">>}}} =
                       rpc:call(Node, llm_router, stream, Args ++ [#{}]),
                   {ok, Ref} = rpc:call(Node, llm_router, stream,
                                        Args ++ [#{to => self()}]),
                   {_, {done, #{text := ?TEXT}}} = collect(Ref, [])
           end).

%% ----------------------------------------------------------------- errors

a_wrong_stream_is_refused_at_once(Config) ->
    Call = fun(Op) -> bed:call(Config, Op) end,
    ?assertMatch({error, {invalid_request, #{path := <<"opts.to">>}}},
                 Call({stream, simple, ?MESSAGES, #{to => someone}})),
    ?assertMatch({error, {no_route, _}},
                 Call({stream, <<"nobody/model">>, ?MESSAGES,
                       #{provider => <<"nobody">>}})),
    ?assertEqual({0, 0}, two_providers:counts(Config)).

an_error_is_the_last_message(Config) ->
    set(Config, one, two_providers:fails(500)),
    set(Config, two, two_providers:fails(500)),
    ?assertMatch({[], {error, {provider_error, #{http_status := 500}}}},
                 stream(Config, #{})).

a_failure_before_the_first_part_goes_to_the_next_candidate(Config) ->
    set(Config, one, two_providers:fails(500)),
    ?assertMatch({[<<"two">>], {done, #{text := <<"two">>, attempts := 2}}},
                 stream(Config, #{})).

a_failure_after_it_does_not(Config) ->
    Cut = fun(_) ->
                  [Head, Role, First | _] =
                      scripted_provider:stream(?TEXT, #{}),
                  [Head, Role, First, {sleep, 50}, close]
          end,
    set(Config, one, Cut),
    {[_ | _], {error, {bad_response, #{attempts := 1}}}} = stream(Config, #{}),
    ?assertEqual({1, 0}, two_providers:counts(Config)).

%% ----------------------------------------------------------- cancellation

a_cancelled_stream_ends_at_once(Config) ->
    set(Config, one, begins_and_hangs()),
    Server = server(Config),
    bed:on(bed:caller(Config),
           fun() ->
                   {ok, Ref} = gen_server:call(Server, {stream, simple,
                                                        ?MESSAGES, #{}}),
                   receive {llm_stream, Ref, {delta, _}} -> ok end,
                   true = gen_server:call(Server, {cancel, Ref}),
                   receive {llm_stream, Ref, {error, {cancelled, _}}} -> ok end,
                   false = gen_server:call(Server, {cancel, Ref})
           end),
    scripted_provider:await_aborted(two_providers:one(Config), 1).

a_stream_is_cancelled_by_its_request_id(Config) ->
    set(Config, one, begins_and_hangs()),
    Server = server(Config),
    bed:on(bed:caller(Config),
           fun() ->
                   {ok, Ref} = gen_server:call(
                                 Server, {stream, simple, ?MESSAGES,
                                          #{request_id => <<"s-1">>}}),
                   receive {llm_stream, Ref, {delta, _}} -> ok end,
                   true = gen_server:call(Server, {cancel, <<"s-1">>}),
                   receive {llm_stream, Ref, {error, {cancelled, _}}} -> ok end
           end).

a_call_is_cancelled_by_its_request_id(Config) ->
    set(Config, one, begins_and_hangs()),
    Server = server(Config),
    AskedMs = bed:limit_ms(200),
    ?assertMatch(
       {error, {cancelled, #{attempts := 1}}},
       bed:on(bed:caller(Config),
              fun() ->
                      spawn(fun() ->
                          timer:sleep(AskedMs),
                          true = gen_server:call(Server, {cancel, <<"c-1">>})
                      end),
                      gen_server:call(Server,
                                      {call, simple, ?MESSAGES,
                                       #{request_id => <<"c-1">>}}, 10000)
              end)),
    scripted_provider:await_aborted(two_providers:one(Config), 1).

what_is_not_there_cannot_be_cancelled(Config) ->
    Server = server(Config),
    {false, false} =
        bed:on(bed:caller(Config),
               fun() ->
                       {gen_server:call(Server, {cancel, make_ref()}),
                        gen_server:call(Server, {cancel, <<"nothing">>})}
               end),
    ?assertMatch({error, {invalid_request, _}},
                 bed:call(Config, {cancel, 7})).

the_death_of_the_receiver_aborts(Config) ->
    set(Config, one, begins_and_hangs()),
    Server = server(Config),
    bed:on(bed:caller(Config),
           fun() ->
                   Receiver = spawn(fun() ->
                       receive {llm_stream, _, {delta, _}} -> exit(done) end
                   end),
                   {ok, _} = gen_server:call(Server,
                                             {stream, simple, ?MESSAGES,
                                              #{to => Receiver}})
           end),
    scripted_provider:await_aborted(two_providers:one(Config), 1),
    bed:eventually(fun() ->
                           #{in_flight := N} = bed:call(Config, stats),
                           N =:= 0
                   end).

%% ------------------------------------------------------------------- load

many_streams_do_not_mix(Config) ->
    set(Config, one,
        fun(#{json := #{<<"messages">> := Messages}}) ->
                #{<<"content">> := Content} = lists:last(Messages),
                scripted_provider:answer(binary:copy(Content, 20),
                                         #{chunk_size => 3, delay => 2})
        end),
    Server = server(Config),
    bed:on(bed:caller(Config),
           fun() ->
                   Ids = [integer_to_binary(I) || I <- lists:seq(1000, 1099)],
                   Refs = [begin
                               {ok, Ref} =
                                   gen_server:call(
                                     Server, {stream, simple,
                                              [#{role => user, content => Id}],
                                              #{}}),
                               {Id, Ref}
                           end || Id <- Ids],
                   [begin
                        {Deltas, {done, _}} = collect(Ref, []),
                        Text = iolist_to_binary(Deltas),
                        Text = binary:copy(Id, 20)
                    end || {Id, Ref} <- Refs],
                   ok
           end).

%% The receiver's node stands still while 25 MiB come: they stay with the
%% provider, and come when the node goes on.
a_slow_receiver_does_not_fill_our_memory(Config) ->
    Part = binary:copy(<<"x">>, 64 * 1024),
    Count = 400, % 25 MiB
    set(Config, one,
        fun(_) ->
                Chunk = {sse, #{choices => [#{index => 0,
                                              delta => #{content => Part}}]}},
                End = {sse, #{choices => [#{index => 0, delta => #{},
                                            finish_reason => stop}]}},
                [{header, <<"content-type">>, <<"text/event-stream">>}
                 | lists:duplicate(Count, Chunk)] ++ [End, done_marker]
        end),
    Slow = bed:caller(Config, 2),
    Server = server(Config),
    pong = bed:on(Slow, fun() -> gen_server:call(Server, ping) end),
    OsPid = bed:on(Slow, fun() -> os:getpid() end),
    Self = self(),
    spawn_link(fun() ->
        Size = bed:on(Slow, fun() ->
            {ok, Ref} = gen_server:call(Server, {stream, simple, ?MESSAGES,
                                                 #{timeout => 60000}}),
            {Deltas, {done, _}} = collect(Ref, []),
            iolist_size(Deltas)
        end),
        Self ! {size, Size}
    end),
    scripted_provider:await_requests(two_providers:one(Config), 1),
    signal(OsPid, "STOP"),
    try
        bed:eventually(fun() ->
                               #{stream_pauses := N} =
                                   bed:call(Config, stats),
                               N > 0
                       end, 20000),
        Before = router:rss_kib(bed:router(Config)),
        timer:sleep(2000),
        ok = bed:has_grown_less(Config, 8 * 1024, Before),
        %% others are served meanwhile
        pong = bed:call(Config, ping)
    after
        signal(OsPid, "CONT")
    end,
    receive
        {size, Size} -> ?assertEqual(Count * byte_size(Part), Size)
    after 30000 ->
            error(no_end)
    end.

signal(OsPid, Name) ->
    _ = os:cmd("kill -s " ++ Name ++ " " ++ OsPid),
    ok.
