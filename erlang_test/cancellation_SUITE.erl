%% Nobody pays for an answer that nobody waits for: when the taker of an answer
%% is gone, the provider sees its connection closed within 100 ms; and an
%% answer that comes too late is in nobody's mailbox.
-module(cancellation_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(SERVER, 'Elixir.LLMRouter.Server').
-define(OP, {call_with_prompt, simple, <<"Say hello to me">>}).
-define(ARGS, [simple, <<"Say hello to me">>]).
-define(ABORT_MS, 100).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [the_death_of_a_gen_server_caller_aborts,
     the_death_of_a_caller_aborts_before_the_first_byte,
     the_death_of_an_rpc_caller_aborts,
     the_death_of_an_erpc_caller_aborts,
     the_end_of_a_gen_server_timeout_aborts,
     the_end_of_an_rpc_timeout_aborts,
     the_end_of_an_erpc_timeout_aborts,
     an_erpc_request_that_is_abandoned_aborts,
     the_death_of_a_callers_node_aborts,
     the_death_of_a_callback_pid_aborts,
     the_death_of_an_llm_request_pid_aborts,
     a_lost_connection_aborts,
     the_backoff_before_a_retry_ends_with_the_caller,
     a_living_callback_pid_gets_its_answer_after_the_caller_died,
     one_callers_death_leaves_the_others_alone,
     a_late_reply_never_reaches_the_mailbox,
     replies_racing_with_timeouts_never_reach_the_mailbox,
     what_was_cancelled_is_not_kept].

init_per_suite(Config) ->
    bed:up(Config, #{callers => 2}).

end_per_suite(Config) ->
    bed:down(Config).

%% Every test starts with a provider that begins an answer and then hangs.
init_per_testcase(_Case, Config) ->
    scripted_provider:set_handler(bed:provider(Config), [begin_and_hang()]),
    Config.

end_per_testcase(_Case, Config) ->
    Provider = bed:provider(Config),
    bed:must(fun() -> bed:eventually(fun() -> is_idle(Provider) end) end).

is_idle(Provider) ->
    #{in_flight := N} = scripted_provider:counters(Provider),
    N =:= 0.

begin_and_hang() ->
    [Head, Role, First | _] = scripted_provider:stream(<<"Hello there">>, #{}),
    [Head, Role, First, hang].

%% Runs Caller on the first caller's node in a process of its own, waits until
%% the provider has its request, kills the process, and says how long after
%% that the provider saw the connection closed.
abort_after_death(Config, Caller) ->
    Provider = bed:provider(Config),
    Pid = bed:on(bed:caller(Config), fun() -> spawn(Caller) end),
    scripted_provider:await_requests(Provider, 1),
    timer:sleep(50),
    Before = bed:now_ms(),
    bed:on(bed:caller(Config), fun() -> exit(Pid, kill) end),
    [At] = scripted_provider:await_aborted(Provider, 1),
    is_soon(At - Before).

is_soon(Ms) ->
    ct:log("aborted after ~b ms", [Ms]),
    ?assert(Ms =< bed:limit_ms(?ABORT_MS)).

%% Runs a call that gives up after 300 ms by itself; nothing stays behind.
abort_after_timeout(Config, Call) ->
    Before = bed:now_ms(),
    Junk = bed:on(bed:caller(Config), fun() -> Call(300), bed:drain() end),
    [At] = scripted_provider:await_aborted(bed:provider(Config), 1),
    is_soon(At - Before - 300),
    ?assertEqual([], Junk).

%% ------------------------------------------------------------------ death

the_death_of_a_gen_server_caller_aborts(Config) ->
    abort_after_death(Config,
                      fun() -> gen_server:call({global, llm_router}, ?OP,
                                               infinity) end).

the_death_of_a_caller_aborts_before_the_first_byte(Config) ->
    scripted_provider:set_handler(bed:provider(Config), [[hang]]),
    abort_after_death(Config,
                      fun() -> gen_server:call({global, llm_router}, ?OP,
                                               infinity) end).

the_death_of_an_rpc_caller_aborts(Config) ->
    Router = bed:node(Config),
    abort_after_death(Config,
                      fun() -> rpc:call(Router, ?SERVER, call_with_prompt,
                                        ?ARGS) end).

the_death_of_an_erpc_caller_aborts(Config) ->
    Router = bed:node(Config),
    abort_after_death(Config,
                      fun() -> erpc:call(Router, ?SERVER, call_with_prompt,
                                         ?ARGS) end).

%% --------------------------------------------------------------- timeouts

the_end_of_a_gen_server_timeout_aborts(Config) ->
    abort_after_timeout(
      Config,
      fun(Ms) ->
              {timeout, _} = try gen_server:call({global, llm_router}, ?OP, Ms)
                             catch exit:Reason -> Reason end
      end).

the_end_of_an_rpc_timeout_aborts(Config) ->
    Router = bed:node(Config),
    abort_after_timeout(
      Config,
      fun(Ms) ->
              {badrpc, timeout} = rpc:call(Router, ?SERVER, call_with_prompt,
                                           ?ARGS, Ms)
      end).

the_end_of_an_erpc_timeout_aborts(Config) ->
    Router = bed:node(Config),
    abort_after_timeout(
      Config,
      fun(Ms) ->
              {erpc, timeout} = try erpc:call(Router, ?SERVER,
                                              call_with_prompt, ?ARGS, Ms)
                                catch error:Reason -> Reason end
      end).

an_erpc_request_that_is_abandoned_aborts(Config) ->
    Router = bed:node(Config),
    abort_after_timeout(
      Config,
      fun(Ms) ->
              Id = erpc:send_request(Router, ?SERVER, call_with_prompt, ?ARGS),
              {erpc, timeout} = try erpc:receive_response(Id, Ms)
                                catch error:Reason -> Reason end
      end).

%% ------------------------------------------------------------------ nodes

the_death_of_a_callers_node_aborts(Config) ->
    Provider = bed:provider(Config),
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Server = {llm_router, bed:node(Config)},
    Caller = bed:start_caller(Cookie, bed:node_name(doomed)),
    bed:on(Caller, fun() ->
                           spawn(fun() -> gen_server:call(Server, ?OP,
                                                          infinity) end)
                   end),
    scripted_provider:await_requests(Provider, 1),
    Before = bed:now_ms(),
    bed:kill_caller(Caller),
    [At] = scripted_provider:await_aborted(Provider, 1),
    is_soon(At - Before).

a_lost_connection_aborts(Config) ->
    Provider = bed:provider(Config),
    Router = bed:node(Config),
    bed:on(bed:caller(Config, 2),
           fun() -> spawn(fun() -> gen_server:call({llm_router, Router}, ?OP,
                                                   infinity) end) end),
    scripted_provider:await_requests(Provider, 1),
    Before = bed:now_ms(),
    bed:on(bed:caller(Config, 2), fun() -> erlang:disconnect_node(Router) end),
    [At] = scripted_provider:await_aborted(Provider, 1),
    is_soon(At - Before),
    pong = bed:on(bed:caller(Config, 2), fun() -> net_adm:ping(Router) end).

%% --------------------------------------------------------------- callbacks

the_death_of_a_callback_pid_aborts(Config) ->
    Router = bed:node(Config),
    abort_after_death(Config,
                      fun() ->
                              gen_server:cast({llm_router, Router},
                                              {generate_task, <<"x">>, self()}),
                              receive never -> ok end
                      end).

the_death_of_an_llm_request_pid_aborts(Config) ->
    Router = bed:node(Config),
    abort_after_death(Config,
                      fun() ->
                              {llm_router, Router}
                                  ! {llm_request, self(), make_ref(), ?OP},
                              receive never -> ok end
                      end).

a_living_callback_pid_gets_its_answer_after_the_caller_died(Config) ->
    Router = bed:node(Config),
    Provider = bed:provider(Config),
    scripted_provider:set_handler(
      Provider, fun(Request) ->
                        [{sleep, 500} | scripted_model:from_document(Request)]
                end),
    Result =
        bed:on(bed:caller(Config),
               fun() ->
                       Self = self(),
                       {Pid, Monitor} =
                           spawn_monitor(
                             fun() ->
                                     rpc:call(Router, ?SERVER, generate_task,
                                              [<<"Build it">>, Self])
                             end),
                       receive {'DOWN', Monitor, _, Pid, normal} -> ok end,
                       receive {llm_result, generate_task, R} -> R
                       after 5000 -> none
                       end
               end),
    ?assertMatch({ok, #{title := <<"Build it">>}}, Result),
    [] = scripted_provider:aborted(Provider).

%% ------------------------------------------------------------- the others

the_backoff_before_a_retry_ends_with_the_caller(Config) ->
    Provider = bed:provider(Config),
    Busy = scripted_provider:error(503, busy, <<"busy">>,
                                   [{<<"retry-after">>, <<"1">>}]),
    scripted_provider:set_handler(Provider, [Busy]),
    bed:on(bed:caller(Config),
           fun() ->
                   catch gen_server:call({global, llm_router}, ?OP, 300)
           end),
    timer:sleep(1500),
    ?assertEqual(1, length(scripted_provider:requests(Provider))).

one_callers_death_leaves_the_others_alone(Config) ->
    Provider = bed:provider(Config),
    scripted_provider:set_handler(
      Provider, fun(Request) ->
                        [{sleep, 700} | scripted_model:from_document(Request)]
                end),
    Call = fun() -> gen_server:call({global, llm_router}, ?OP, 10000) end,
    Texts = bed:on(bed:caller(Config),
                   fun() ->
                           Self = self(),
                           [spawn(fun() -> Self ! {answer, Call()} end)
                            || _ <- [1, 2, 3]],
                           Doomed = [spawn(Call) || _ <- [1, 2, 3]],
                           timer:sleep(300),
                           [exit(Pid, kill) || Pid <- Doomed],
                           [receive {answer, {ok, #{text := T}}} -> T end
                            || _ <- [1, 2, 3]]
                   end),
    [<<"You wrote: Say hello to me">>] = lists:usort(Texts),
    3 = length(scripted_provider:await_aborted(Provider, 3)).

%% The provider answers after the caller gave up; several kinds of call.
a_late_reply_never_reaches_the_mailbox(Config) ->
    Router = bed:node(Config),
    slow_answers(Config, 400),
    Server = {llm_router, Router},
    [] = bed:on(bed:caller(Config),
                fun() ->
                        catch gen_server:call({global, llm_router}, ?OP, 200),
                        catch gen_server:call(Server, ?OP, 200),
                        gen_server:multi_call([Router], llm_router, ?OP, 200),
                        rpc:call(Router, ?SERVER, call_with_prompt, ?ARGS, 200),
                        catch erpc:call(Router, ?SERVER, call_with_prompt,
                                        ?ARGS, 200),
                        rpc:block_call(Router, ?SERVER, call_with_prompt,
                                       ?ARGS, 200),
                        timer:sleep(1000),
                        bed:drain()
                end).

%% Timeouts spread around the moment at which the answer is there.
replies_racing_with_timeouts_never_reach_the_mailbox(Config) ->
    slow_answers(Config, 30),
    {Seen, Junk} =
        bed:on(bed:caller(Config),
               fun() ->
                       Seen = [try gen_server:call({global, llm_router}, ?OP,
                                                   20 + N rem 30) of
                                   {ok, _} -> answer
                               catch exit:{timeout, _} -> timeout
                               end || N <- lists:seq(1, 150)],
                       timer:sleep(300),
                       {Seen, bed:drain()}
               end),
    ct:log("~b of 150 answered", [length([S || S <- Seen, S =:= answer])]),
    ?assertEqual([], Junk).

slow_answers(Config, Ms) ->
    scripted_provider:set_handler(
      bed:provider(Config),
      fun(Request) ->
              [{sleep, Ms} | scripted_model:from_document(Request)]
      end).

%% Two hundred calls given up leave no connection and no memory behind.
what_was_cancelled_is_not_kept(Config) ->
    Router = bed:router(Config),
    Round = fun() ->
                    bed:on(bed:caller(Config),
                           fun() ->
                                   Calls = [spawn_monitor(
                                              fun() ->
                                                      catch gen_server:call(
                                                              {global,
                                                               llm_router},
                                                              ?OP, 500)
                                              end) || _ <- lists:seq(1, 200)],
                                   [receive {'DOWN', M, _, _, _} -> ok end
                                    || {_, M} <- Calls]
                           end)
            end,
    Round(),
    Fds = settled_fds(Router),
    Rss = router:rss_kib(Router),
    [Round() || _ <- [1, 2, 3]],
    ?assert(settled_fds(Router) =< Fds + 5),
    bed:has_grown_less(Config, 2048, Rss).

settled_fds(Router) ->
    timer:sleep(300),
    router:fd_count(Router).
