%% The client modules llm_router (Erlang) and LLMRouter (Elixir), against a real
%% router. What the operations themselves do is in other suites; here it is that
%% they can be called, that nothing exits or is left in a mailbox, and what
%% becomes of streams.
-module(client_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("llm_router/include/llm_router.hrl").

-compile([export_all, nowarn_export_all]).

-define(ELIXIR, 'Elixir.LLMRouter').
-define(ERROR, 'Elixir.LLMRouter.Error').
-define(TEXT, <<"Hello there, how are you today?">>).
-define(MESSAGES, [#{role => user, content => <<"Say hello to me">>}]).
-define(WAIT_MS, 20000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [every_function_returns_its_value,
     every_function_takes_its_options_in_all_forms,
     every_function_says_that_there_is_no_router,
     a_node_without_distribution_says_so,
     what_the_router_does_not_know_is_its_error,
     wrong_options_are_the_routers_error,
     the_routers_own_timeout_comes_first,
     a_router_that_hangs_is_a_timeout,
     a_router_that_is_killed_ends_a_call,
     the_death_of_the_caller_aborts,
     a_request_is_cancelled_by_its_id,
     what_is_not_there_is_not_cancelled,
     a_watched_task_tells_its_progress,
     a_script_is_called,
     the_header_names_the_errors_worth_retrying,
     %% finding the router
     the_global_name_comes_first,
     without_the_name_the_configured_node_is_asked,
     without_a_node_the_registry_names_the_router,
     a_registry_may_name_a_relay,
     %% streams
     a_stream_comes_as_messages,
     a_stream_is_cancelled_by_its_reference,
     a_fold_gets_all_parts,
     a_fold_that_raises_cancels,
     a_fold_says_what_failed,
     a_fold_ends_when_the_router_is_killed,
     a_fold_through_a_relay_ends_when_the_router_is_killed,
     a_fold_takes_no_other_receiver,
     a_stream_that_was_opened_is_taken_part_by_part,
     a_stream_can_be_closed_at_any_time,
     %% the queue
     what_was_enqueued_is_awaited,
     without_a_queue_there_is_none,
     %% Elixir
     the_elixir_module_does_the_same,
     its_bang_functions_return_or_raise,
     its_streams_ask_nothing_before_the_first_part,
     its_streams_give_all_parts_each_time,
     its_streams_are_cancelled_when_nobody_takes_more,
     its_streams_raise_what_failed,
     its_streams_raise_when_the_router_is_killed,
     its_documentation_is_true,
     the_documented_erlang_examples_run].

%% The first caller has Elixir.
init_per_suite(Config) ->
    Compiled = filename:join(proplists:get_value(priv_dir, Config), "elixir"),
    ok = filelib:ensure_path(Compiled),
    Files = filelib:wildcard(filename:join(lib(), "**/*.ex")),
    ct:log("~ts", [os:cmd(lists:flatten(["elixirc -o ", Compiled,
                                         [[" ", F] || F <- Files]]))]),
    Elixir = os:cmd("elixir -e 'IO.write(:code.lib_dir(:elixir))'"),
    Args = ["-pa", filename:join(Elixir, "ebin"), "-pa", Compiled],
    [{compiled, Compiled} | queue_bed:up(Config, #{caller => #{args => Args}})].

lib() ->
    filename:join(router:project(), "lib").

end_per_suite(Config) ->
    queue_bed:down(Config).

init_per_testcase(without_a_queue_there_is_none, Config) ->
    start(Config, []);
init_per_testcase(a_script_is_called, Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    start(Config, [{"LLM_ROUTER_SCRIPTS_PATH", Dir}]);
init_per_testcase(_Case, Config) ->
    start(Config, queue_bed:env(Config, #{})).

start(Config, Env) ->
    provide(Config, fun task_model:answer/1),
    bed:start_router(bed:renamed(Config), #{env => Env}).

end_per_testcase(_Case, Config) ->
    bed:must(fun() -> queue_bed:stop(Config) end).

%% ---------------------------------------------------------------- helpers

provide(Config, Handler) ->
    scripted_provider:set_handler(bed:provider(Config), Handler).

asked(Config) ->
    length(scripted_provider:requests(bed:provider(Config))).

aborted(Config) ->
    scripted_provider:await_aborted(bed:provider(Config), 1).

says(Opts) ->
    fun(_) -> scripted_provider:answer(?TEXT, Opts) end.

begins_and_hangs() ->
    fun(_) ->
            [Head, Role, First | _] = scripted_provider:stream(?TEXT, #{}),
            [Head, Role, First, hang]
    end.

%% Runs Fun on the first caller's node; it leaves no message and no monitor.
on(Config, Fun) ->
    on(Config, bed:caller(Config), Fun).

on(_Config, Caller, Fun) ->
    nothing_left(bed:on(Caller, fun() -> with_what_is_left(Fun()) end)).

with_what_is_left(Result) ->
    {Result, bed:drain(), process_info(self(), monitors)}.

nothing_left({Result, Messages, {monitors, Monitors}}) ->
    ?assertEqual({[], []}, {Messages, Monitors}),
    Result.

%% The same for each of Funs, at once, in processes that stay until released/2.
held(Config, Funs) ->
    bed:on(bed:caller(Config), fun() ->
        Self = self(),
        Pids = [spawn(fun() -> hold(Fun, Self) end) || Fun <- Funs],
        [receive {Pid, done} -> Pid end || Pid <- Pids]
    end).

hold(Fun, Starter) ->
    Result = Fun(),
    Starter ! {self(), done},
    receive {tell, To} -> To ! {self(), with_what_is_left(Result)} end.

released(Config, Pids) ->
    [nothing_left(bed:on(bed:caller(Config), fun() ->
         Pid ! {tell, self()},
         receive {Pid, Left} -> Left end
     end)) || Pid <- Pids].

%% What gives a request up: the provider sees it while the process lives that
%% asked.
gives_up(Config, Fun) ->
    Held = held(Config, [Fun]),
    aborted(Config),
    ?assertEqual(1, asked(Config)),
    [Result] = released(Config, Held),
    Result.

%% The same while the test goes on; ended/1 waits for it.
begin_on(Config, Fun) ->
    begin_on(Config, bed:caller(Config), Fun).

begin_on(Config, Caller, Fun) ->
    Test = self(),
    Ref = make_ref(),
    spawn_link(fun() -> Test ! {Ref, on(Config, Caller, Fun)} end),
    Ref.

ended(Ref) ->
    receive {Ref, Result} -> Result after ?WAIT_MS -> error(not_ended) end.

prompt() ->
    {call_with_prompt, [simple, <<"Say hello to me">>]}.

is_down({error, {router_down, #{message := Message}}}) ->
    ?assert(is_binary(Message)).

%% -------------------------------------------------------------- functions

%% The functions that take options: arguments, and what the value looks like.
with_options() ->
    Task = #{title => <<"Build the login page">>, owner => <<"ann">>},
    Text = fun(#{text := T}) -> ?assertEqual(<<"You wrote: Say hello to me">>,
                                             T) end,
    [{generate_task, [<<"Add OAuth2 login.">>],
      fun(#{id := 1, title := <<"Add OAuth2 login">>}) -> ok end},
     {parse_prd, ["# Cart\nGoods must be kept.\n", 2],
      fun([#{id := 1}, #{id := 2}]) -> ok end},
     {expand_task, [Task],
      fun(#{owner := <<"ann">>, subtasks := [_ | _]}) -> ok end},
     {analyze_complexity, [[Task, <<"Fix it">>]],
      fun([#{complexity_score := _}, #{task_title := <<"Fix it">>}]) -> ok end},
     {research, [<<"Which queue?">>, nil],
      fun(#{findings := <<"What is known of Which queue?">>}) -> ok end},
     {call, [simple, ?MESSAGES], Text},
     {call_with_prompt, [medium, <<"Say hello to me">>], Text},
     {call_with_system, [medium, <<"Be kind">>, <<"Say hello to me">>], Text},
     {embed, [[<<"one">>, "two"]],
      fun(#{embeddings := [[_ | _], [_ | _]]}) -> ok end},
     {select_model, [simple, chat],
      fun(#{model := M, provider := <<"openai">>}) when is_binary(M) -> ok end},
     {request, [{call, simple, ?MESSAGES}], Text}].

without_options() ->
    [{stats, [], fun(#{in_flight := 0}) -> ok end},
     {health, [], fun(#{}) -> ok end},
     {version, [], fun(#{}) -> ok end},
     {models, [], fun(#{}) -> ok end},
     {request, [ping], fun(pong) -> ok end},
     {request, [{cancel, <<"nothing">>}], fun(false) -> ok end}].

each_returns_its_value(Config, Module, Functions) ->
    [begin
         ct:log("~s~0tp", [F, Args]),
         {ok, Value} = on(Config, fun() -> apply(Module, F, Args) end),
         Check(Value)
     end || {F, Args, Check} <- Functions].

every_function_returns_its_value(Config) ->
    each_returns_its_value(Config, llm_router,
                           with_options() ++ without_options()),
    Router = bed:node(Config),
    ?assertEqual(pong, on(Config, fun llm_router:ping/0)),
    {ok, Pid} = on(Config, fun llm_router:whereis/0),
    ?assertEqual(Router, node(Pid)).

every_function_takes_its_options_in_all_forms(Config) ->
    each_returns_its_value(
      Config, llm_router,
      [{F, Args ++ [Opts], Check}
       || {F, Args, Check} <- with_options(),
          Opts <- [#{timeout => 9000}, [{timeout, 9000}],
                   #{<<"timeout">> => 9000}, [{<<"timeout">>, 9000}],
                   [{timeout, nil}], [{timeout, infinity}], []]]).

every_function_says_that_there_is_no_router(Config) ->
    {exited, 0} = bed:stop_router(Config),
    each_is_down(Config, bed:caller(Config)).

each_is_down(Config, Caller) ->
    Call = fun(F, Args) ->
                   on(Config, Caller, fun() -> apply(llm_router, F, Args) end)
           end,
    [is_down(Call(F, Args))
     || {F, Args, _} <- with_options() ++ without_options()
            ++ [{F, Args ++ [#{timeout => 1000}], none}
                || {F, Args, _} <- with_options()]],
    Fold = fun(_Text, N) -> N + 1 end,
    [is_down(Call(F, Args))
     || {F, Args} <- [{stream, [simple, ?MESSAGES]},
                      {stream_open, [simple, ?MESSAGES, []]},
                      {stream_fold, [Fold, 0, simple, ?MESSAGES, #{}]},
                      {call_with_script, [<<"a.lua">>, #{}]},
                      {enqueue, [{generate_task, <<"x">>}]},
                      {await, [<<"x">>]}, {await, [<<"x">>, 1]},
                      {result, [<<"x">>]},
                      {watch_task, [1]}, {unwatch_task, [1]}]],
    ?assertEqual(pang, Call(ping, [])),
    ?assertEqual(false, Call(cancel, [<<"x">>])),
    ?assertEqual(false, Call(cancel, [make_ref()])),
    ?assertEqual({error, router_down}, Call(whereis, [])).

a_node_without_distribution_says_so(Config) ->
    {ok, Peer, _} = peer:start(#{connection => standard_io,
                                 args => ["-pa", filename:dirname(
                                                   code:which(bed))]}),
    try
        Caller = #{peer => Peer},
        each_is_down(Config, Caller),
        {error, {router_down, #{message := Message}}} =
            on(Config, Caller, fun llm_router:stats/0),
        ?assertNotEqual(nomatch, string:find(Message, "not distributed"))
    after
        peer:stop(Peer)
    end.

%% ----------------------------------------------------------------- errors

what_the_router_does_not_know_is_its_error(Config) ->
    [?assertMatch({error, {unknown_request, #{message := _}}},
                  on(Config, fun() -> apply(llm_router, request, Args) end))
     || Args <- [[frobnicate], [{frobnicate, 1}], [frobnicate, []],
                 [{frobnicate, 1}, #{timeout => 1000}]]].

%% Not the client's: it neither checks options nor falls over them.
wrong_options_are_the_routers_error(Config) ->
    Refused = fun(Opts) ->
                      {error, {invalid_request, Details}} =
                          on(Config, fun() ->
                              llm_router:call(simple, ?MESSAGES, Opts)
                          end),
                      Details
              end,
    ?assertMatch(#{path := <<"opts.tiemout">>}, Refused([{tiemout, 1}])),
    ?assertMatch(#{path := <<"opts.tiemout">>},
                 Refused(#{<<"tiemout">> => 1})),
    [?assertMatch(#{path := <<"opts.timeout">>}, Refused(#{timeout => Wrong}))
     || Wrong <- [0, -1, 3600001, 1 bsl 70, soon, <<"1">>]],
    [Refused(Wrong) || Wrong <- [7, [timeout], [{timeout, 1} | 2], {a, b}]],
    ?assertEqual(0, asked(Config)).

the_routers_own_timeout_comes_first(Config) ->
    provide(Config, [[hang]]),
    {error, {timeout, Details}} =
        on(Config, fun() ->
                           llm_router:call(simple, ?MESSAGES, [{timeout, 300}])
                   end),
    ?assertMatch(#{attempts := 1}, Details),
    aborted(Config).

%% Its late answers reach nobody.
a_router_that_hangs_is_a_timeout(Config) ->
    Router = bed:router(Config),
    {F, Args} = prompt(),
    pong = on(Config, fun llm_router:ping/0),
    router:signal(Router, "STOP"),
    Held = held(Config, [fun() -> apply(llm_router, Name, A) end
                         || {Name, A} <- [{ping, []}, {cancel, [<<"x">>]},
                                          {stats, []}, {watch_task, [1]},
                                          {F, Args ++ [#{timeout => 100}]},
                                          {await, [<<"x">>, 100]}]]),
    router:signal(Router, "CONT"),
    bed:eventually(fun() -> pong =:= on(Config, fun llm_router:ping/0) end),
    [Ping, Cancelled | Errors] = released(Config, Held),
    ?assertEqual({pang, false}, {Ping, Cancelled}),
    [?assertEqual({error, {timeout, #{message => <<"the router did not answer "
                                                   "in time">>}}}, Error)
     || Error <- Errors].

a_router_that_is_killed_ends_a_call(Config) ->
    provide(Config, [[hang]]),
    {F, Args} = prompt(),
    Calls = [begin_on(Config, fun() -> apply(llm_router, F, A) end)
             || A <- [Args, Args ++ [#{timeout => 60000}]]],
    scripted_provider:await_requests(bed:provider(Config), 2),
    bed:kill_router(Config),
    [is_down(ended(C)) || C <- Calls].

the_death_of_the_caller_aborts(Config) ->
    provide(Config, [[hang]]),
    {F, Args} = prompt(),
    Pid = bed:on(bed:caller(Config),
                 fun() -> spawn(fun() -> apply(llm_router, F, Args) end) end),
    scripted_provider:await_requests(bed:provider(Config), 1),
    bed:on(bed:caller(Config), fun() -> exit(Pid, kill) end),
    aborted(Config).

a_request_is_cancelled_by_its_id(Config) ->
    provide(Config, [[hang]]),
    {F, Args} = prompt(),
    Call = begin_on(Config, fun() ->
        apply(llm_router, F, Args ++ [[{request_id, <<"c-1">>}]])
    end),
    scripted_provider:await_requests(bed:provider(Config), 1),
    ?assertEqual(true, on(Config, fun() -> llm_router:cancel(<<"c-1">>) end)),
    ?assertMatch({error, {cancelled, #{attempts := 1}}}, ended(Call)),
    aborted(Config).

what_is_not_there_is_not_cancelled(Config) ->
    [?assertEqual(false, on(Config, fun() -> llm_router:cancel(What) end))
     || What <- [<<"nothing">>, make_ref(), 7]],
    ?assertEqual(false, on(Config, fun() ->
                                           llm_router:cancel(make_ref())
                                   end)).

a_watched_task_tells_its_progress(Config) ->
    {F, Args} = prompt(),
    Updates =
        on(Config, fun() ->
            ok = llm_router:watch_task(<<"t-1">>),
            {ok, _} = apply(llm_router, F, Args ++ [[{task_id, <<"t-1">>}]]),
            Seen = until_completed(<<"t-1">>),
            ok = llm_router:unwatch_task(<<"t-1">>),
            ok = llm_router:unwatch_task(<<"never">>),
            {ok, _} = apply(llm_router, F, Args ++ [#{task_id => <<"t-1">>}]),
            Seen
        end),
    ?assertMatch([#{status := accepted} | _], Updates),
    ?assertMatch(#{status := done, operation := call_with_prompt},
                 lists:last(Updates)).

until_completed(Id) ->
    receive
        {task_update, Id, Update} -> [Update | until_completed(Id)];
        {task_completed, Id} -> []
    after ?WAIT_MS ->
            error({not_completed, bed:drain()})
    end.

a_script_is_called(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    ok = file:write_file(filename:join(Dir, "greet.lua"),
                         "user('Say hello to ' .. context.name)\n"),
    Call = fun(Args) ->
                   on(Config, fun() ->
                       apply(llm_router, call_with_script, Args)
                   end)
           end,
    Script = <<"greet.lua">>,
    Context = #{name => <<"me">>},
    [?assertMatch({ok, #{text := <<"You wrote: Say hello to me">>,
                         script := Script}}, Call([Script, Context | Opts]))
     || Opts <- [[], [[{timeout, 9000}]], [#{max_tokens => 100}]]],
    ?assertMatch({error, {script_error, #{line := 1}}}, Call([Script, #{}])),
    ?assertMatch({error, {script_error, #{message := _}}},
                 Call([<<"no_such_script.lua">>, Context])).

%% As docs/errors.md has them in its table.
the_header_names_the_errors_worth_retrying(_Config) ->
    {ok, Text} = file:read_file(filename:join([router:project(), "docs",
                                               "errors.md"])),
    {match, Rows} = re:run(Text, "^\\| `([a-z_]+)` \\|.*\\| (yes|no) \\|$",
                           [global, multiline,
                            {capture, all_but_first, binary}]),
    ?assert(length(Rows) >= 20),
    [?assertEqual({Code, Retry},
                  {Code, case may_retry(binary_to_atom(Code)) of
                             true -> <<"yes">>;
                             false -> <<"no">>
                         end})
     || [Code, Retry] <- Rows],
    ?assert(may_retry(router_down)),
    ?assertEqual({global, llm_router}, ?LLM_ROUTER).

may_retry(Code) when ?LLM_ROUTER_MAY_RETRY(Code) -> true;
may_retry(_Code) -> false.

%% ---------------------------------------------------------------- finding

%% Runs Fun on a node that does not learn the global name, for it is hidden,
%% with Options as the application's.
on_hidden(Config, Options, Fun) ->
    hidden(Config, fun(Caller) ->
        on(Config, Caller, fun() ->
            configure(Options),
            Fun()
        end)
    end).

%% As the supervisor does it.
configure(Options) ->
    llm_router_env:store(llm_router_env:options(Options)).

hidden(Config, Test) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Caller = bed:start_caller(Cookie, bed:node_name(hidden),
                              #{args => ["-hidden"]}),
    try
        Test(Caller)
    after
        bed:stop_caller(Caller)
    end.

the_global_name_comes_first(Config) ->
    {ok, Pid} = on(Config, fun() ->
        configure(#{node => nobody@nowhere}),
        llm_router:whereis()
    end),
    ?assertEqual(bed:node(Config), node(Pid)).

without_the_name_the_configured_node_is_asked(Config) ->
    Router = bed:node(Config),
    {F, Args} = prompt(),
    ?assertMatch({{ok, {llm_router, Router}}, pong, {ok, #{text := _}}},
                 on_hidden(Config, #{node => Router}, fun() ->
                     {llm_router:whereis(), llm_router:ping(),
                      apply(llm_router, F, Args)}
                 end)),
    hidden(Config, fun(Caller) -> % by the environment, nothing is started
        pong = on(Config, Caller, fun() ->
            application:set_env(llm_router, node, Router),
            llm_router:ping()
        end)
    end),
    [?assertEqual({error, router_down},
                  on_hidden(Config, #{node => Nobody},
                            fun llm_router:whereis/0))
     || Nobody <- [bed:node_name(nobody), undefined]].

without_a_node_the_registry_names_the_router(Config) ->
    Router = bed:node(Config),
    Nobody = bed:node_name(nobody),
    [?assertEqual({ok, {llm_router, Router}},
                  on_hidden(Config, Options#{node => Nobody}, fun() ->
                      horde([{{my_registry, Key}, [{self(), Value}]}]),
                      llm_router:whereis()
                  end))
     || {Key, Options} <- [{llm_router, #{registry => my_registry}},
                           {llm_router, #{registry => my_registry,
                                          relay => true}},
                           {my_key, #{relay => [{registry, my_registry},
                                                {key, my_key}]}},
                           {my_key, #{relay => #{registry => my_registry,
                                                 key => my_key}}}],
        Value <- [Router, #{node => Router}]],
    [?assertEqual({error, router_down},
                  on_hidden(Config, #{registry => my_registry}, fun() ->
                      horde(Entries),
                      llm_router:whereis()
                  end))
     || Entries <- [[], [{{my_registry, llm_router}, []}]]],
    ?assertEqual({error, router_down}, % no Horde is there
                 on_hidden(Config, #{registry => my_registry},
                           fun llm_router:whereis/0)).

%% A stand-in for Horde's module on this node. Without an entry there is no
%% such registry.
horde(Entries) ->
    persistent_term:put(horde, maps:from_list(Entries)),
    Module = 'Elixir.Horde.Registry',
    {ok, Module, Code} =
        compile:forms([parse(Form)
                       || Form <- ["-module('Elixir.Horde.Registry').",
                                   "-export([lookup/2]).",
                                   "lookup(Registry, Key) ->"
                                   " case persistent_term:get(horde) of"
                                   " #{{Registry, Key} := Found} -> Found;"
                                   " _ -> error(badarg) end."]]),
    {module, Module} = code:load_binary(Module, "horde", Code).

parse(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Form} = erl_parse:parse_form(Tokens),
    Form.

a_registry_may_name_a_relay(Config) ->
    Router = bed:node(Config),
    {F, Args} = prompt(),
    [on_hidden(Config, #{registry => my_registry}, fun() ->
         Relay = relay({llm_router, Router}),
         horde([{{my_registry, llm_router}, [{Relay, Value}]}]),
         {ok, Relay} = llm_router:whereis(),
         pong = llm_router:ping(),
         {ok, #{text := _}} = apply(llm_router, F, Args),
         exit(Relay, kill),
         {error, {router_down, _}} = apply(llm_router, F, Args)
     end) || Value <- [undefined, nil, #{}, <<"value">>,
                       bed:node_name(nobody)]],
    on_hidden(Config, #{registry => my_registry}, fun() ->
        Down = spawn(fun() -> answer_all({error, router_down}) end),
        horde([{{my_registry, llm_router}, [{Down, nil}]}]),
        {error, {router_down, #{message := _}}} = apply(llm_router, F, Args),
        register(llm_router_relay, Down), % one that looks itself
        {error, router_down} = llm_router:whereis()
    end).

%% The least that a relay does: one call after the other.
relay(Server) ->
    spawn(fun() -> relay_all(Server) end).

relay_all(Server) ->
    receive
        {'$gen_call', {Pid, _} = From, {stream, Complexity, Messages, Opts}} ->
            Op = {stream, Complexity, Messages, Opts#{to => Pid}},
            gen_server:reply(From, gen_server:call(Server, Op)),
            relay_all(Server);
        {'$gen_call', From, Op} ->
            gen_server:reply(From, gen_server:call(Server, Op)),
            relay_all(Server)
    end.

answer_all(Answer) ->
    receive
        {'$gen_call', From, _} ->
            gen_server:reply(From, Answer),
            answer_all(Answer)
    end.

%% ---------------------------------------------------------------- streams

a_stream_comes_as_messages(Config) ->
    provide(Config, says(#{chunk_size => 5})),
    Taken = on(Config, fun() ->
        {ok, Ref} = llm_router:stream(simple, ?MESSAGES),
        Mine = collect(Ref, []),
        Test = self(),
        Other = spawn(fun() ->
            receive {ref, R} -> Test ! {taken, collect(R, [])} end
        end),
        {ok, Ref2} = llm_router:stream(simple, ?MESSAGES, [{to, Other}]),
        Other ! {ref, Ref2},
        receive {taken, Theirs} -> {Mine, Theirs} end
    end),
    ?assertMatch({{[_, _ | _], ?TEXT}, {[_, _ | _], ?TEXT}}, Taken).

collect(Ref, Parts) ->
    receive
        {llm_stream, Ref, {delta, Part}} -> collect(Ref, [Part | Parts]);
        {llm_stream, Ref, {done, #{text := Text}}} -> {Parts, Text}
    after ?WAIT_MS ->
            error({no_end, Parts})
    end.

a_stream_is_cancelled_by_its_reference(Config) ->
    provide(Config, begins_and_hangs()),
    gives_up(Config, fun() ->
        {ok, Ref} = llm_router:stream(simple, ?MESSAGES, #{}),
        receive {llm_stream, Ref, {delta, _}} -> ok end,
        true = llm_router:cancel(Ref),
        receive {llm_stream, Ref, {error, {cancelled, _}}} -> ok end,
        false = llm_router:cancel(Ref)
    end).

fold(Fun, Acc) ->
    llm_router:stream_fold(Fun, Acc, simple, ?MESSAGES, #{}).

a_fold_gets_all_parts(Config) ->
    provide(Config, says(#{chunk_size => 5})),
    {ok, Response, Parts} =
        on(Config, fun() -> fold(fun(Part, Ps) -> [Part | Ps] end, []) end),
    ?assertMatch(#{text := ?TEXT, finish_reason := stop}, Response),
    ?assert(length(Parts) > 1),
    ?assertEqual(?TEXT, iolist_to_binary(lists:reverse(Parts))).

a_fold_that_raises_cancels(Config) ->
    [begin
         provide(Config, begins_and_hangs()),
         ?assertEqual({Class, enough},
                      gives_up(Config, fun() ->
                          try fold(fun(_, _) ->
                                           erlang:raise(Class, enough, [])
                                   end, none)
                          catch C:R -> {C, R}
                          end
                      end))
     end || Class <- [throw, error, exit]].

a_fold_says_what_failed(Config) ->
    Never = fun(_, _) -> error(never) end,
    provide(Config, fun(_) ->
        scripted_provider:error(400, no, <<"no">>, [])
    end),
    ?assertMatch({error, {invalid_request, #{http_status := 400}}},
                 on(Config, fun() -> fold(Never, none) end)),
    provide(Config, fun(_) ->
        [Head, Role, First | _] = scripted_provider:stream(?TEXT, #{}),
        [Head, Role, First, {sleep, 50}, close]
    end),
    ?assertMatch({error, {bad_response, _}},
                 on(Config, fun() -> fold(fun(_, N) -> N end, 0) end)),
    ?assertMatch({error, {invalid_request, _}},
                 on(Config, fun() ->
                     llm_router:stream_fold(Never, none, simple, [], [])
                 end)).

a_fold_ends_when_the_router_is_killed(Config) ->
    provide(Config, begins_and_hangs()),
    Fold = begin_on(Config, fun() -> fold(fun(_, N) -> N + 1 end, 0) end),
    scripted_provider:await_requests(bed:provider(Config), 1),
    timer:sleep(200), % most often it waits for the second part then
    bed:kill_router(Config),
    is_down(ended(Fold)).

a_fold_through_a_relay_ends_when_the_router_is_killed(Config) ->
    provide(Config, begins_and_hangs()),
    Router = bed:node(Config),
    hidden(Config, fun(Caller) ->
        Fold = begin_on(Config, Caller, fun() ->
            configure(#{registry => my_registry}),
            Relay = relay({llm_router, Router}),
            horde([{{my_registry, llm_router}, [{Relay, nil}]}]),
            Result = fold(fun(_, N) -> N + 1 end, 0),
            {Result, is_process_alive(Relay)}
        end),
        scripted_provider:await_requests(bed:provider(Config), 1),
        timer:sleep(200),
        bed:kill_router(Config),
        {Result, true} = ended(Fold),
        is_down(Result)
    end).

a_fold_takes_no_other_receiver(Config) ->
    [?assertMatch({error, {invalid_request, #{path := <<"opts.to">>}}},
                  on(Config, fun() ->
                      llm_router:stream_fold(fun(_, N) -> N end, 0, simple,
                                             ?MESSAGES, Opts)
                  end))
     || Opts <- [#{to => self()}, [{<<"to">>, self()}]]],
    ?assertEqual(0, asked(Config)).

a_stream_that_was_opened_is_taken_part_by_part(Config) ->
    provide(Config, says(#{chunk_size => 5})),
    on(Config, fun() ->
        {ok, Stream} = llm_router:stream_open(simple, ?MESSAGES, []),
        {delta, First} = llm_router:stream_next(Stream),
        {Parts, #{text := ?TEXT}} = rest(Stream, [First]),
        ?TEXT = iolist_to_binary(lists:reverse(Parts))
    end).

rest(Stream, Parts) ->
    case llm_router:stream_next(Stream) of
        {delta, Part} -> rest(Stream, [Part | Parts]);
        {done, Response} -> {Parts, Response}
    end.

a_stream_can_be_closed_at_any_time(Config) ->
    Open = fun() ->
                   {ok, Stream} = llm_router:stream_open(simple, ?MESSAGES, []),
                   Stream
           end,
    %% after its end, and before its parts were taken
    provide(Config, says(#{chunk_size => 1})),
    on(Config, fun() ->
        Stream = Open(),
        {_, _} = rest(Stream, []),
        ok = llm_router:stream_close(Stream),
        [ok = llm_router:stream_close(Open()) || _ <- lists:seq(1, 100)]
    end),
    %% twice, while it is under way
    provide(Config, begins_and_hangs()),
    gives_up(Config, fun() ->
        Stream = Open(),
        {delta, _} = llm_router:stream_next(Stream),
        ok = llm_router:stream_close(Stream),
        ok = llm_router:stream_close(Stream)
    end).

%% ------------------------------------------------------------------ queue

what_was_enqueued_is_awaited(Config) ->
    queue_bed:await_stats(Config, state, up),
    Op = {call_with_prompt, simple, <<"Hi">>},
    {First, Second} =
        on(Config, fun() ->
            {ok, Id} = llm_router:enqueue(Op),
            {ok, #{text := <<"You wrote: Hi">>} = Response} =
                llm_router:await(Id),
            {ok, Response} = llm_router:await(Id, ?WAIT_MS),
            {ok, Response} = llm_router:result(Id),
            {ok, Later} = llm_router:enqueue(Op, [{delay, 3600}]),
            {Id, Later}
        end),
    ?assert(is_binary(First)),
    ?assertEqual(pending, on(Config, fun() -> llm_router:result(Second) end)),
    ?assertMatch({error, {timeout, _}},
                 on(Config, fun() -> llm_router:await(Second, 50) end)),
    ?assertMatch({error, {unknown_request, #{path := <<"operation">>}}},
                 on(Config, fun() -> llm_router:enqueue({frobnicate}) end)).

without_a_queue_there_is_none(Config) ->
    Id = postgres:uuid(),
    [?assertMatch({error, {unknown_request, #{message := _}}},
                  on(Config, fun() -> apply(llm_router, F, Args) end))
     || {F, Args} <- [{enqueue, [{generate_task, <<"Hi">>}]},
                      {await, [Id, 50]}, {result, [Id]}]].

%% ----------------------------------------------------------------- Elixir

the_elixir_module_does_the_same(Config) ->
    Functions = with_options(),
    each_returns_its_value(Config, ?ELIXIR, Functions ++ without_options()),
    each_returns_its_value(Config, ?ELIXIR,
                           [{F, Args ++ [[{timeout, 9000}]], Check}
                            || {F, Args, Check} <- Functions]),
    ?assertEqual(pong, on(Config, fun ?ELIXIR:ping/0)),
    ?assertEqual(false, on(Config, fun() -> ?ELIXIR:cancel(<<"x">>) end)).

%% What an Elixir function raises: {Code, Message, what a log shows}.
raised(Fun) ->
    try
        {returned, Fun()}
    catch
        error:#{'__struct__' := ?ERROR, code := Code, message := Message,
                details := #{message := Message}} = Error ->
            {Code, Message, ?ERROR:message(Error)}
    end.

bang(F) ->
    list_to_atom(atom_to_list(F) ++ "!").

its_bang_functions_return_or_raise(Config) ->
    Functions = with_options() ++ without_options(),
    [Check(on(Config, fun() -> apply(?ELIXIR, bang(F), Args) end))
     || {F, Args, Check} <- Functions],
    {exited, 0} = bed:stop_router(Config),
    [begin
         {router_down, Message, Shown} =
             on(Config, fun() ->
                 raised(fun() -> apply(?ELIXIR, bang(F), Args) end)
             end),
         ?assertEqual(<<"router_down: ", Message/binary>>, Shown)
     end || {F, Args} <- [{F, Args} || {F, Args, _} <- Functions]
                ++ [{call_with_script, [<<"a.lua">>, nil]},
                    {enqueue, [{generate_task, <<"x">>}]},
                    {await, [<<"x">>]}, {await, [<<"x">>, 100]}]].

elixir_stream() ->
    ?ELIXIR:stream(simple, ?MESSAGES).

its_streams_ask_nothing_before_the_first_part(Config) ->
    provide(Config, says(#{chunk_size => 5})),
    Stream = on(Config, fun() ->
        'Elixir.Stream':map(elixir_stream(), fun string:uppercase/1)
    end),
    timer:sleep(200),
    ?assertEqual(0, asked(Config)),
    ?assertEqual(string:uppercase(?TEXT),
                 on(Config, fun() -> 'Elixir.Enum':join(Stream) end)),
    ?assertEqual(1, asked(Config)).

its_streams_give_all_parts_each_time(Config) ->
    provide(Config, says(#{chunk_size => 5})),
    Parts = on(Config, fun() ->
        Stream = ?ELIXIR:stream(simple, ?MESSAGES, [{max_tokens, 100}]),
        Once = 'Elixir.Enum':to_list(Stream),
        Once = 'Elixir.Enum':to_list(Stream)
    end),
    ?assert(length(Parts) > 1),
    ?assertEqual(?TEXT, iolist_to_binary(Parts)),
    ?assertEqual(2, asked(Config)).

its_streams_are_cancelled_when_nobody_takes_more(Config) ->
    [begin
         provide(Config, begins_and_hangs()),
         gives_up(Config, fun() -> Take(elixir_stream()) end)
     end
     || Take <- [fun(Stream) -> [_] = 'Elixir.Enum':take(Stream, 1) end,
                 fun(Stream) ->
                         try 'Elixir.Enum':each(Stream, fun(_) ->
                                                                throw(enough)
                                                        end)
                         catch throw:enough -> ok
                         end
                 end,
                 fun(Stream) -> % held between its parts, then given up
                         [{_, 1}] = 'Elixir.Enum':take(
                                      'Elixir.Stream':zip(Stream, [1, 2]), 1)
                 end]].

its_streams_raise_what_failed(Config) ->
    provide(Config, fun(_) ->
        [Head, Role, First | _] = scripted_provider:stream(?TEXT, #{}),
        [Head, Role, First, {sleep, 50}, close]
    end),
    Raised = fun(Open) ->
                     on(Config, fun() ->
                         Stream = Open(),
                         raised(fun() -> 'Elixir.Enum':to_list(Stream) end)
                     end)
             end,
    ?assertMatch({bad_response, _, _}, Raised(fun elixir_stream/0)),
    ?assertEqual(1, asked(Config)),
    ?assertMatch({invalid_request, _, _},
                 Raised(fun() -> ?ELIXIR:stream(simple, []) end)).

its_streams_raise_when_the_router_is_killed(Config) ->
    provide(Config, begins_and_hangs()),
    Taken = begin_on(Config, fun() ->
        raised(fun() -> 'Elixir.Enum':to_list(elixir_stream()) end)
    end),
    scripted_provider:await_requests(bed:provider(Config), 1),
    timer:sleep(200),
    bed:kill_router(Config),
    ?assertMatch({router_down, _, _}, ended(Taken)).

%% Doctests, the examples of docs/beam.md, and that all is documented:
%% client.exs.
its_documentation_is_true(Config) ->
    Script = filename:join([router:project(), "erlang_test", "client.exs"]),
    {Status, Output} = bed:elixir(Config, "-pa",
                                  [proplists:get_value(compiled, Config),
                                   Script, atom_to_list(bed:node(Config))]),
    ct:log("~ts", [Output]),
    ?assertEqual({0, true}, {Status, tests(Output) > 15}).

%% How many doctests there were, none of which failed.
tests(Output) ->
    {match, [N]} = re:run(Output, "([0-9]+) doctests, [0-9]+ tests, 0 failures",
                          [{capture, [1], binary}]),
    binary_to_integer(N).

the_documented_erlang_examples_run(Config) ->
    {ok, Doc} = file:read_file(filename:join([router:project(), "docs",
                                              "beam.md"])),
    [_, Client] = string:split(Doc, "\n## Client\n"),
    [Section | _] = string:split(Client, "\n## "),
    {match, Blocks} = re:run(Section, "^```erlang\\n(.*?)^```",
                             [global, multiline, dotall,
                              {capture, [1], list}]),
    ?assert(length(Blocks) >= 2),
    [on(Config, fun() ->
         {ok, Tokens, _} = erl_scan:string(Block),
         {ok, Exprs} = erl_parse:parse_exprs(Tokens),
         {value, _, _} = erl_eval:exprs(Exprs, #{'Document' => <<"# Cart\n">>})
     end) || [Block] <- Blocks].
