%% call_with_script: a script makes the messages, in a process of its own.
-module(scripts_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/file.hrl").

-compile([export_all, nowarn_export_all]).

%% No limit of Lua's ends it.
-define(WILD, "return (('a'):rep(3000)):find(('a-'):rep(30) .. 'b')").
-define(GREET, "system('Be brief.')\n"
               "user('Greet ' .. context.name)\n"
               "options.temperature = 0.25\n").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_script_makes_the_messages,
     a_script_is_called_in_every_form,
     the_example_scripts_work,
     the_callers_options_win,
     a_script_chooses_the_model,
     what_a_script_says_is_for_its_caller_alone,
     a_changed_script_is_read_again,
     a_fault_names_its_line,
     a_result_that_is_no_call_is_the_scripts_fault,
     a_context_that_json_cannot_say_is_refused,
     a_script_outside_the_folders_is_not_there,
     limits_end_a_script,
     a_pattern_that_never_ends_is_killed,
     others_are_served_while_scripts_run_wild,
     the_death_of_the_worker_is_one_callers_error,
     the_worker_has_neither_keys_nor_sockets,
     the_worker_goes_with_the_router,
     a_caller_that_dies_asks_nobody,
     the_deadline_holds_for_the_script_too,
     a_script_is_cancelled_by_request_id,
     a_drain_answers_those_whose_script_runs,
     the_time_of_the_script_counts,
     telemetry_and_watchers_hear_of_it,
     many_scripts_at_once].

init_per_suite(Config) ->
    two_providers:up(Config, #{}).

end_per_suite(Config) ->
    two_providers:down(Config).

init_per_testcase(Case, Config) ->
    Folder = filename:join(proplists:get_value(priv_dir, Config),
                           atom_to_list(Case)),
    ok = filelib:ensure_dir(filename:join(Folder, "x")),
    Scripts = case Case of
        the_example_scripts_work -> #{};
        _ -> #{path => unicode:characters_to_binary(Folder)}
    end,
    Timeouts = case Case of
        a_drain_answers_those_whose_script_runs -> #{drain_ms => 500};
        _ -> #{}
    end,
    Up = two_providers:router(Config, #{scripts => Scripts,
                                        timeouts => Timeouts}, []),
    write(Folder, "greet.lua", ?GREET),
    [{folder, Folder} | Up].

end_per_testcase(Case, _)
  when Case =:= the_worker_goes_with_the_router;
       Case =:= a_drain_answers_those_whose_script_runs ->
    ok;
end_per_testcase(_Case, Config) ->
    bed:must(fun() -> {exited, 0} = bed:stop_router(Config) end).

%% ---------------------------------------------------------------- helpers

write(Folder, Name, Text) ->
    ok = file:write_file(filename:join(Folder, Name), Text).

script(Config, Name, Text) ->
    write(proplists:get_value(folder, Config), Name, Text).

server(Config) ->
    {llm_router, router:node(bed:router(Config))}.

call(Config, Name, Context) ->
    call(Config, Name, Context, #{}).

call(Config, Name, Context, Opts) ->
    bed:call(Config, {call_with_script, Name, Context, Opts}).

%% What the script made of it, as the provider got it.
asked(Config) ->
    #{json := Json} =
        lists:last(scripted_provider:requests(two_providers:one(Config))),
    Json.

%% Of a script that is called once.
fails(Config, Text) ->
    script(Config, "bad.lua", Text),
    {error, {script_error, Details}} = call(Config, <<"bad.lua">>, #{}),
    Details.

message(Config, Text) ->
    maps:get(message, fails(Config, Text)).

has(Text, Part) ->
    string:find(Text, Part) =/= nomatch.

workers(Config) ->
    Router = router:os_pid(bed:router(Config)),
    [list_to_integer(Pid)
     || Pid <- string:lexemes(
                 os:cmd(io_lib:format("pgrep -P ~b -f script-worker",
                                      [Router])), "\n")].

%% ------------------------------------------------------------------- calls

a_script_makes_the_messages(Config) ->
    ?assertMatch({ok, #{text := <<"one">>, script := <<"greet.lua">>}},
                 call(Config, <<"greet.lua">>, #{name => <<"Ada">>})),
    #{<<"messages">> := [System, User], <<"temperature">> := 0.25} =
        asked(Config),
    ?assertMatch(#{<<"role">> := <<"system">>,
                   <<"content">> := <<"Be brief.">>}, System),
    ?assertMatch(#{<<"role">> := <<"user">>,
                   <<"content">> := <<"Greet Ada">>}, User).

a_script_is_called_in_every_form(Config) ->
    {_, Node} = server(Config),
    Arguments = ["greet.lua", [{name, "Ada"}]],
    Op = list_to_tuple([call_with_script | Arguments]),
    bed:on(bed:caller(Config), fun() ->
        {ok, #{script := <<"greet.lua">>}} =
            rpc:call(Node, 'Elixir.LLM.Service', call_with_script,
                     ["greet.lua", #{name => <<"Ada">>}]),
        {ok, #{}} = erpc:call(Node, llm_router, call_with_script,
                              [<<"greet.lua">>, #{name => x}, []]),
        {error, {script_error, _}} =
            rpc:call(Node, llm_router, call_with_script, Arguments),
        {llm_router, Node} ! {llm_request, self(), ref, Op},
        receive {llm_response, ref, {error, {script_error, _}}} -> ok end
    end).

the_example_scripts_work(Config) ->
    Folder = filename:join(router:project(), "priv/scripts"),
    {ok, Names} = file:list_dir(Folder),
    ?assert(length(Names) >= 3),
    [?assertMatch({Name, {error, {script_error, #{message := _}}}},
                  {Name, call(Config, list_to_binary(Name), 5)})
     || Name <- Names].

the_callers_options_win(Config) ->
    {ok, _} = call(Config, <<"greet.lua">>, #{name => a},
                   #{temperature => 1, max_tokens => 7}),
    #{<<"temperature">> := Temperature} = Json = asked(Config),
    ?assert(Temperature == 1),
    ?assert(lists:member(7, maps:values(Json))).

a_script_chooses_the_model(Config) ->
    script(Config, "choose.lua",
           "return {messages = {user('hi')}, options = {model = 'two/large'}}"),
    ?assertMatch({ok, #{text := <<"two">>}},
                 call(Config, <<"choose.lua">>, #{})),
    ?assertMatch({ok, #{text := <<"one">>}},
                 call(Config, <<"choose.lua">>, #{},
                      #{model => <<"one/small">>})).

a_changed_script_is_read_again(Config) ->
    Text = fun() ->
        {ok, _} = call(Config, <<"say.lua">>, #{}),
        #{<<"messages">> := [#{<<"content">> := Content}]} = asked(Config),
        Content
    end,
    script(Config, "say.lua", "user('first')"),
    ?assertEqual(<<"first">>, Text()),
    ?assertEqual(<<"first">>, Text()),
    script(Config, "say.lua", "user('other')"),
    ?assertEqual(<<"other">>, Text()),
    ok = file:delete(filename:join(proplists:get_value(folder, Config),
                                   "say.lua")),
    ?assertMatch({error, {script_error, _}},
                 call(Config, <<"say.lua">>, #{})).

%% ------------------------------------------------------------------ faults

a_fault_names_its_line(Config) ->
    ?assertMatch(#{line := 3, message := <<"no name">>},
                 fails(Config, "local x = 1\n\nerror('no name')\n")),
    ?assertMatch(#{line := 2}, fails(Config, "user('a')\nlocal = 5\n")),
    ?assertMatch(#{line := 1}, fails(Config, "return nothing.at.all\n")),
    ?assertNot(maps:is_key(line, fails(Config, "return"))),
    ?assertEqual({0, 0}, two_providers:counts(Config)).

a_result_that_is_no_call_is_the_scripts_fault(Config) ->
    ?assert(has(message(Config, "options.temperature = 9 user('x')"),
                "options.temperature")),
    ?assert(has(message(Config, "options.frobnicate = 1 user('x')"),
                "frobnicate")),
    ?assert(has(message(Config, "options.request_id = 'x' user('x')"),
                "request_id")),
    ?assert(has(message(Config, "user('')"), "messages")),
    ?assertMatch({error, {invalid_request, #{path := <<"opts.temperature">>}}},
                 call(Config, <<"greet.lua">>, #{}, #{temperature => 9})).

a_context_that_json_cannot_say_is_refused(Config) ->
    ?assertMatch({error, {invalid_request, #{path := <<"context.who">>}}},
                 call(Config, <<"greet.lua">>, #{who => {a, b}})).

a_script_outside_the_folders_is_not_there(Config) ->
    Folder = proplists:get_value(folder, Config),
    Outside = filename:join(filename:dirname(Folder), "outside.lua"),
    ok = file:write_file(Outside, ?GREET),
    ok = file:make_symlink(Outside, filename:join(Folder, "link.lua")),
    [?assertMatch({Name, {error, {script_error, #{message := _}}}},
                  {Name, call(Config, Name, #{name => a})})
     || Name <- ["../outside.lua", Outside, "link.lua", "/etc/passwd",
                 "greet", "nothere.lua", "./../outside.lua"]],
    ?assertMatch({ok, _}, call(Config, filename:join(Folder, "greet.lua"),
                               #{name => a})),
    {error, {script_error, #{message := Message}}} =
        call(Config, "nothere.lua", #{}),
    ?assertNot(has(Message, Folder)).

%% It may be what the caller wrote: not in the log, not in the status document.
what_a_script_says_is_for_its_caller_alone(Config) ->
    script(Config, "tells.lua", "error('so ' .. context.text)"),
    {error, {script_error, #{message := Message, line := 1}}} =
        call(Config, <<"tells.lua">>, #{text => <<"private">>}),
    ?assert(has(Message, "private")),
    Status = bed:call(Config, status),
    ?assert(has(Status, "script_error")),
    ?assertNot(has(Status, "private")),
    Log = fun() -> router:stderr(bed:router(Config)) end,
    bed:eventually(fun() -> has(Log(), "outcome=script_error") end),
    ?assertNot(has(Log(), "private")).

limits_end_a_script(Config) ->
    [?assertMatch({Text, #{message := <<_/binary>>}},
                  {Text, fails(Config, Text)})
     || Text <- ["while true do end",
                 "local t = {} while true do t[#t + 1] = ('x'):rep(1000) end",
                 "pcall(function() while true do end end) while true do end",
                 "local function f() return f() + 1 end f()",
                 "user(('x'):rep(100000000))",
                 "io.open('/etc/passwd')", "os.execute('true')",
                 "require('os')", "load('return 1')()", "dofile('x')"]],
    ?assertMatch({ok, _}, call(Config, <<"greet.lua">>, #{name => a})).

a_pattern_that_never_ends_is_killed(Config) ->
    Text = "local s = ('a'):rep(3000)\n"
           "return s:find(('a-'):rep(30) .. 'b')\n",
    ?assert(has(message(Config, Text), "1000 ms")),
    ?assertMatch({ok, _}, call(Config, <<"greet.lua">>, #{name => a})).

others_are_served_while_scripts_run_wild(Config) ->
    script(Config, "wild.lua", ?WILD),
    Server = server(Config),
    Slowest = bed:on(bed:caller(Config), fun() ->
        Wild = [gen_server:send_request(
                  Server, {call_with_script, "wild.lua", 1})
                || _ <- [1, 2, 3, 4]],
        Times = [begin
                     {Us, pong} = timer:tc(gen_server, call, [Server, ping]),
                     timer:sleep(5),
                     Us
                 end || _ <- lists:seq(1, 200)],
        [{reply, {error, {script_error, _}}} =
             gen_server:wait_response(Request, 20000) || Request <- Wild],
        lists:max(Times)
    end),
    ?assert(Slowest < bed:limit_ms(500) * 1000).

%% ------------------------------------------------------------- the process

the_death_of_the_worker_is_one_callers_error(Config) ->
    {ok, _} = call(Config, <<"greet.lua">>, #{name => a}),
    [Worker] = workers(Config),
    [] = os:cmd("kill -KILL " ++ integer_to_list(Worker)),
    {ok, _} = call(Config, <<"greet.lua">>, #{name => a}),
    script(Config, "wild.lua", ?WILD),
    Server = server(Config),
    bed:on(bed:caller(Config), fun() ->
        Request = gen_server:send_request(
                    Server, {call_with_script, "wild.lua", 1}),
        [begin
             timer:sleep(200),
             [os:cmd("kill -KILL " ++ integer_to_list(Pid))
              || Pid <- workers(Config)]
         end || _ <- [first, second]],
        {reply, {error, {script_error, #{message := Message}}}} =
            gen_server:wait_response(Request, 5000),
        true = has(Message, "signal 9")
    end),
    {ok, _} = call(Config, <<"greet.lua">>, #{name => a}).

the_worker_has_neither_keys_nor_sockets(Config) ->
    {ok, _} = call(Config, <<"greet.lua">>, #{name => a}),
    [Worker] = workers(Config),
    Proc = "/proc/" ++ integer_to_list(Worker),
    ?assertEqual({ok, <<>>}, file:read_file(Proc ++ "/environ")),
    Links = string:lexemes(os:cmd("ls -l " ++ Proc ++ "/fd"), "\n"),
    Open = [lists:last(string:lexemes(L, " ")) || L <- Links, has(L, "->")],
    ct:pal("open in the worker: ~p", [Open]),
    ?assert(length(Open) =< 5),
    ?assert(length([L || "socket:" ++ _ = L <- Open]) =< 2).

the_worker_goes_with_the_router(Config) ->
    {ok, _} = call(Config, <<"greet.lua">>, #{name => a}),
    [Worker] = workers(Config),
    ok = bed:kill_router(Config),
    bed:eventually(fun() ->
        not filelib:is_dir("/proc/" ++ integer_to_list(Worker))
    end).

a_caller_that_dies_asks_nobody(Config) ->
    script(Config, "slow.lua",
           "local x = 0 for i = 1, 300000 do x = x + 1 end user('hi')"),
    Server = server(Config),
    bed:on(bed:caller(Config), fun() ->
        Pids = [spawn(fun() ->
                    gen_server:call(Server, {call_with_script, "slow.lua", 1})
                end) || _ <- lists:seq(1, 200)],
        bed:eventually(fun() ->
            #{in_flight := N} = gen_server:call(Server, stats), N > 50
        end),
        [exit(Pid, kill) || Pid <- Pids]
    end),
    bed:eventually(fun() ->
        #{in_flight := N} = bed:call(Config, stats), N =:= 0
    end),
    {Asked, 0} = two_providers:counts(Config),
    ?assert(Asked < 200).

the_deadline_holds_for_the_script_too(Config) ->
    script(Config, "wild.lua", ?WILD),
    ?assertMatch({error, {timeout, #{message := _}}},
                 call(Config, <<"wild.lua">>, #{}, #{timeout => 100})).

a_script_is_cancelled_by_request_id(Config) ->
    script(Config, "wild.lua", ?WILD),
    Server = server(Config),
    bed:on(bed:caller(Config), fun() ->
        Requests = [gen_server:send_request(
                      Server, {call_with_script, "wild.lua", 1,
                               #{request_id => Id}})
                    || Id <- [<<"a">>, <<"b">>, <<"waits">>]],
        timer:sleep(100),
        [true = gen_server:call(Server, {cancel, Id})
         || Id <- [<<"waits">>, <<"a">>]],
        false = gen_server:call(Server, {cancel, <<"waits">>}),
        false = gen_server:call(Server, {cancel, make_ref()}),
        [{reply, {error, {Code, _}}} = gen_server:wait_response(R, 5000)
         || {R, Code} <- lists:zip(Requests,
                                   [cancelled, script_error, cancelled])]
    end).

a_drain_answers_those_whose_script_runs(Config) ->
    script(Config, "wild.lua", ?WILD),
    Server = server(Config),
    bed:on(bed:caller(Config), fun() ->
        Requests = [gen_server:send_request(
                      Server, {call_with_script, "wild.lua", 1})
                    || _ <- lists:seq(1, 6)],
        timer:sleep(100),
        ok = gen_server:call(Server, drain),
        Answers = [gen_server:wait_response(R, 10000) || R <- Requests],
        [shutting_down] = lists:usort([Code || {reply, {error, {Code, _}}}
                                                   <- Answers]),
        6 = length(Answers)
    end),
    {exited, 0} = router:await_exit(bed:router(Config), bed:limit_ms(5000)).

%% In events and in answers.
the_time_of_the_script_counts(Config) ->
    script(Config, "wild.lua", ?WILD),
    script(Config, "slow.lua",
           "local x = 0 for i = 1, 3000000 do x = x + 1 end user('hi')"),
    Server = server(Config),
    bed:on(bed:caller(Config), fun() ->
        ok = gen_server:call(Server, {subscribe, telemetry}),
        ok = gen_server:call(Server, {watch_task, 1}),
        Ask = fun(Script) ->
            gen_server:call(Server, {call_with_script, Script, 1,
                                     #{task_id => 1}})
        end,
        {error, {script_error, _}} = Ask("wild.lua"),
        {Limit, Id} = ended(exception),
        true = Limit >= 1490, %% the loop's clock is one of milliseconds
        {error, Id} = updated(),
        {Us, {ok, #{duration_ms := Ms, request_id := Same}}} =
            timer:tc(fun() -> Ask("slow.lua") end),
        {AtLeast, Same} = ended(stop),
        {ok, Same} = updated(),
        true = Ms >= AtLeast andalso Ms =< Us div 1000 + 1
    end).

%% The end's duration, at most 1500 ms, and the id that both events have.
ended(Phase) ->
    receive {llm_router_telemetry, [_, _, start], _, #{request_id := Id}} ->
        receive {llm_router_telemetry, [_, _, Phase], #{duration := Ns},
                 #{request_id := Id}} ->
            {min(1500, Ns div 1000000), Id}
        end
    end.

updated() ->
    receive {task_update, 1, #{status := accepted, request_id := Id}} ->
        receive
            {task_update, 1, #{status := failed, duration_ms := Ms,
                               request_id := Id}} when Ms >= 1490 ->
                {error, Id};
            {task_completed, 1} ->
                {ok, Id}
        end
    end.

telemetry_and_watchers_hear_of_it(Config) ->
    script(Config, "bad.lua", "error('no')"),
    Server = server(Config),
    bed:on(bed:caller(Config), fun() ->
        ok = gen_server:call(Server, {subscribe, telemetry}),
        ok = gen_server:call(Server, {watch_task, 1}),
        Op = {call_with_script, "bad.lua", 1, #{task_id => 1}},
        {error, {script_error, _}} = gen_server:call(Server, Op),
        receive {task_update, 1, #{status := failed,
                                   error := script_error}} -> ok end,
        receive {llm_router_telemetry, [_, _, start], _, _} -> ok end,
        receive {llm_router_telemetry, [_, _, exception], _,
                 #{operation := call_with_script,
                   reason := script_error}} -> ok end,
        Good = {call_with_script, "greet.lua", #{name => a}, #{task_id => 1}},
        {ok, _} = gen_server:call(Server, Good),
        receive {task_completed, 1} -> ok end
    end).

many_scripts_at_once(Config) ->
    Server = server(Config),
    Texts = bed:on(bed:caller(Config), fun() ->
        Requests = [gen_server:send_request(
                      Server, {call_with_script, "greet.lua", #{name => N}})
                    || N <- lists:seq(1, 500)],
        [gen_server:wait_response(R, 20000) || R <- Requests]
    end),
    ?assertEqual(500, length([ok || {reply, {ok, #{text := <<"one">>}}}
                                        <- Texts])),
    Asked = [maps:get(<<"content">>, lists:last(maps:get(<<"messages">>, J)))
             || #{json := J} <- scripted_provider:requests(
                                  two_providers:one(Config))],
    ?assertEqual(500, length(lists:usort(Asked))).
