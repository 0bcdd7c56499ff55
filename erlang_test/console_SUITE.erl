%% `llm_router status` and `llm_router top`: what they show of a router, how
%% they end, and what becomes of the terminal.
%%
%% The router is mostly a stand-in, a real node with a process `llm_router`
%% that answers what a test wants; terminals are made by script(1).
-module(console_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(ENTER, <<"\e[?1049h">>).
-define(LEAVE, <<"\e[?1049l">>).
-define(HOME, <<"\e[H">>).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, status}, {group, no_status}, {group, top}, {group, router}].

groups() ->
    [{status, [],
      [a_router_is_summed_up,
       json_is_printed_as_it_came,
       json_has_nothing_that_a_terminal_obeys,
       a_router_that_drains_exits_with_4,
       a_router_that_is_not_ready_exits_with_4,
       eight_megabytes_are_read,
       hostile_text_is_escaped,
       a_plain_locale_gets_ascii,
       a_name_without_host_is_on_this_host,
       its_own_name_may_be_chosen,
       nobody_finds_it,
       it_leaves_no_connection_behind,
       a_node_with_a_long_name_is_asked,
       a_node_within_tls_is_asked]},
     {no_status, [],
      [a_node_that_is_not_there_is_named,
       a_host_that_is_not_there_is_named,
       another_cookie_is_named,
       no_cookie_is_made,
       a_full_disk_is_noticed,
       a_node_that_is_no_router_is_named,
       a_router_that_ends_meanwhile_is_named,
       a_router_that_never_answers_is_given_up_within_5_s,
       what_is_no_status_is_named,
       a_refusal_is_told,
       an_answer_beyond_all_measure_is_refused,
       a_node_that_speaks_tls_is_named,
       a_node_that_speaks_no_tls_is_named,
       wrong_options_are_a_usage_error]},
     {top, [],
      [top_draws_on_the_whole_screen_and_q_gives_it_back,
       top_ends_with_control_c,
       top_ends_with_a_signal,
       a_crash_gives_the_terminal_back,
       a_terminal_that_goes_takes_top_with_it,
       top_follows_the_size_of_the_terminal,
       top_says_that_the_router_is_gone_and_goes_on,
       top_without_a_router_takes_no_screen,
       top_without_a_terminal_prints_one_below_the_other]},
     {router, [],
      [a_router_shows_its_figures,
       a_router_that_drains_says_so,
       a_console_that_may_not_look_inside_is_refused,
       a_router_and_a_console_agree_on_tls]}].

init_per_suite(Config) ->
    bed:up(Config, #{callers => 1, router => none}).

end_per_suite(Config) ->
    bed:down(Config).

init_per_group(_Group, Config) ->
    Config.

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    stand_in(Config, document(#{})),
    Config.

%% -------------------------------------------------------------- stand-in

%% From now on the caller's node is a router that answers that: a binary, any
%% term, or what a function makes of the caller's node.
stand_in(Config, Answer) ->
    stand_in_at(bed:caller(Config), Answer).

stand_in_at(Node, Answer) ->
    bed:on(Node, fun() ->
                         Self = self(),
                         spawn(fun() -> register_as_router(Self, Answer) end),
                         receive registered -> ok end
                 end).

register_as_router(Starter, Answer) ->
    case whereis(llm_router) of
        undefined ->
            ok;
        Old ->
            Monitor = monitor(process, Old),
            exit(Old, kill),
            receive {'DOWN', Monitor, _, _, _} -> ok end
    end,
    register(llm_router, self()),
    Starter ! registered,
    answer_for_ever(Answer).

answer_for_ever(Answer) ->
    receive
        {'$gen_call', {Pid, _} = From, status} ->
            answer(From, Answer, node(Pid)),
            answer_for_ever(Answer)
    end.

answer(_From, never, _Node) -> ok;
answer(_From, stop, _Node) -> exit(enough);
answer(From, Fun, Node) when is_function(Fun) ->
    gen_server:reply(From, Fun(Node));
answer(From, Answer, _Node) -> gen_server:reply(From, Answer).

document(More) ->
    iolist_to_binary(test_json:encode(maps:merge(defaults(), More))).

defaults() ->
    #{version => <<"1.2.3">>, node => <<"llm_router@ops1">>,
      state => <<"ok">>, ready => true, holds_global_name => true,
      now_ms => 1000000, uptime_ms => 90061000, peers => 2, in_flight => 3,
      waiting => 0, slots => 64, requests => 12345, succeeded => 12300,
      failed => 45, cancelled => 0,
      providers => [#{name => <<"openai">>,
                      keys => [#{name => <<"default">>,
                                 state => <<"ok">>}]}],
      history => #{step_s => 60, requests => #{ok => [0, 1, 2, 7],
                                               failed => [0, 0, 0, 1]}},
      models => [], errors => []}.

target(Config) ->
    atom_to_list(maps:get(node, bed:caller(Config))).

%% --------------------------------------------------------------- commands

%% {Status, Stdout, Stderr}; the bed's cookie unless Opts has another one.
console(Config, Args) ->
    console(Config, Args, #{}).

console(Config, Args, Opts) ->
    #{cookie := Cookie, dir := Dir} = proplists:get_value(bed, Config),
    router:run(maps:merge(#{cookie => Cookie, dir => Dir, args => Args,
                            env => [{"LANG", "C.UTF-8"}]}, Opts)).

status(Config) ->
    console(Config, ["status", "--node", target(Config)]).

assert_finds(Text, What) ->
    ?assertMatch({_, {_, _}}, {Text, binary:match(Text, What)}).

assert_lacks(Text, What) ->
    ?assertEqual({Text, nomatch}, {Text, binary:match(Text, What)}).

%% It says so in one line that names the node, and exits with 3.
assert_no_status(Result, Node, What) ->
    {3, <<>>, Line} = Result,
    assert_finds(Line, iolist_to_binary(["llm_router: ", Node, ": "])),
    assert_finds(Line, What),
    ?assertEqual([byte_size(Line) - 1], [At || {At, 1} <-
                                              binary:matches(Line, <<"\n">>)]).

%% ----------------------------------------------------------------- status

a_router_is_summed_up(Config) ->
    {0, Shown, <<>>} = status(Config),
    assert_finds(Shown, <<"llm_router@ops1  1.2.3  ok  up 1d 01h">>),
    assert_finds(Shown, <<"requests 12,345  ok 12,300  failed 45">>),
    assert_finds(Shown, <<"requests ▁▂▃█ 10\n"/utf8>>),
    assert_finds(Shown, <<"\nopenai       ok">>),
    assert_lacks(Shown, <<"\e">>).

json_is_printed_as_it_came(Config) ->
    Document = document(#{version => <<"üñ"/utf8>>}),
    stand_in(Config, Document),
    ?assertEqual({0, <<Document/binary, "\n">>, <<>>},
                 console(Config, ["status", "--node", target(Config),
                                  "--json"])).

json_has_nothing_that_a_terminal_obeys(Config) ->
    Document = <<"{\"node\":\"a\e[2J\",\"state\":\"ok\",\"ready\":true,"
                 "\"version\":\"", 16#9B/utf8, "\"}">>,
    stand_in(Config, Document),
    {0, Shown, <<>>} = console(Config, ["status", "--node", target(Config),
                                        "--json"]),
    ?assertEqual(<<"{\"node\":\"a\\u001b[2J\",\"state\":\"ok\",\"ready\":true,"
                   "\"version\":\"\\u009b\"}\n">>, Shown).

a_router_that_drains_exits_with_4(Config) ->
    stand_in(Config, document(#{state => <<"draining">>})),
    {4, Shown, <<>>} = status(Config),
    assert_finds(Shown, <<"  draining  ">>).

a_router_that_is_not_ready_exits_with_4(Config) ->
    stand_in(Config, document(#{ready => false})),
    {4, Shown, <<>>} = status(Config),
    assert_finds(Shown, <<"  not ready  ">>).

eight_megabytes_are_read(Config) ->
    Small = document(#{errors => [error_of(<<"long">>)]}),
    Long = binary:copy(<<"long">>, 2 * 1024 * 1024),
    stand_in(Config, binary:replace(Small, <<"long">>, Long)),
    {0, Shown, <<>>} = status(Config),
    ?assert(byte_size(Shown) < 100000).

error_of(Message) ->
    #{at_ms => 940000, operation => <<"stream">>, code => <<"timeout">>,
      message => Message, provider => <<"openai">>, model => <<"gpt">>,
      node => <<"app@h">>}.

hostile_text_is_escaped(Config) ->
    Hostile = <<"\e]0;owned\007\r\n", 16#202E/utf8, "gnp">>,
    stand_in(Config, document(#{node => Hostile,
                                errors => [error_of(Hostile)]})),
    {0, Shown, <<>>} = status(Config),
    assert_finds(Shown, <<"\\x1b]0;owned\\x07\\x0d\\x0a\\u{202e}gnp">>),
    assert_lacks(Shown, <<"\e">>),
    assert_lacks(Shown, <<"\r">>).

a_plain_locale_gets_ascii(Config) ->
    {0, Shown, <<>>} = console(Config, ["status", "--node", target(Config)],
                               #{env => [{"LANG", "C"}, {"LC_ALL", false},
                                         {"LC_CTYPE", false}]}),
    ?assertEqual([], [C || <<C>> <= Shown, C > $~]).

a_name_without_host_is_on_this_host(Config) ->
    [Name, _Host] = string:split(target(Config), "@"),
    ?assertMatch({0, _, <<>>}, console(Config, ["status", "--node", Name])).

%% The stand-in tells by which name it was asked.
its_own_name_may_be_chosen(Config) ->
    stand_in(Config, fun tell_node/1),
    {0, Shown, <<>>} = console(Config, ["status", "--node", target(Config),
                                        "--sname", "on_call"]),
    assert_finds(Shown, <<"asked by on_call@">>),
    {0, Other, <<>>} = status(Config),
    assert_finds(Other, <<"asked by llm_router_console_">>).

tell_node(Node) ->
    document(#{version => <<"asked by ", (atom_to_binary(Node))/binary>>}).

%% It is connected as a hidden node, and not registered with epmd.
nobody_finds_it(Config) ->
    stand_in(Config, fun(Node) ->
                             {ok, Names} = erl_epmd:names(),
                             Who = {lists:member(Node, nodes(hidden)),
                                    lists:member(Node, nodes()),
                                    [N || {"llm_router_console" ++ _ = N, _}
                                              <- Names]},
                             Text = io_lib:format("~p", [Who]),
                             document(#{version => iolist_to_binary(Text)})
                     end),
    {0, Shown, <<>>} = status(Config),
    assert_finds(Shown, <<"{true,false,[]}">>).

it_leaves_no_connection_behind(Config) ->
    {0, _, <<>>} = status(Config),
    bed:eventually(fun() ->
                           [] =:= bed:on(bed:caller(Config),
                                         fun() -> nodes(hidden) end)
                   end).

a_node_with_a_long_name_is_asked(Config) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    [Name, _] = string:split(atom_to_list(bed:node_name(long)), "@"),
    Node = list_to_atom(Name ++ "@127.0.0.1"),
    Long = bed:start_caller(Cookie, Node),
    stand_in_at(Long, document(#{})),
    ?assertMatch({0, _, <<>>},
                 console(Config, ["status", "--node", atom_to_list(Node)])),
    ?assertMatch({0, _, <<>>},
                 console(Config, ["status", "--node", Name,
                                  "--name", "asker@127.0.0.1"])),
    bed:stop_caller(Long).

%% Both sides show the same certificate, which is its own authority.
a_node_within_tls_is_asked(Config) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Files = certificate(Config),
    Node = bed:node_name(tls),
    Opts = #{args => tls_node_args(Config, Files)},
    Tls = bed:start_caller(Cookie, Node, Opts),
    stand_in_at(Tls, document(#{})),
    ?assertMatch({0, _, <<>>},
                 console(Config, ["status", "--node", atom_to_list(Node)
                                  | tls_args(Files)])),
    bed:stop_caller(Tls).

certificate(Config) ->
    {ok, Host} = inet:gethostname(),
    Key = [{key, {namedCurve, secp256r1}}, {digest, sha256}],
    Name = {'Extension', {2, 5, 29, 17}, false, [{dNSName, Host}]},
    Root = public_key:pkix_test_root_cert("console", Key),
    Made = public_key:pkix_test_data(
             #{root => Root, intermediates => [],
               peer => [{extensions, [Name]} | Key]}),
    {KeyType, KeyDer} = proplists:get_value(key, Made),
    #{certfile => pem(Config, "console.crt",
                      {'Certificate', proplists:get_value(cert, Made)}),
      keyfile => pem(Config, "console.key", {KeyType, KeyDer}),
      cacertfile => pem(Config, "console-ca.crt",
                        {'Certificate', maps:get(cert, Root)})}.

pem(Config, Name, {Type, Der}) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    Pem = public_key:pem_encode([{Type, Der, not_encrypted}]),
    ok = file:write_file(File, Pem),
    ok = file:change_mode(File, 8#600),
    File.

tls_args(#{certfile := Cert, keyfile := Key, cacertfile := Ca}) ->
    ["--tls-dist", "--tls-cert", Cert, "--tls-key", Key, "--tls-ca", Ca].

tls_node_args(Config, Files) ->
    Both = [{verify, verify_peer} | maps:to_list(Files)],
    File = filename:join(proplists:get_value(priv_dir, Config), "tls.config"),
    ok = file:write_file(File, io_lib:format(
                                 "~p.~n", [[{server, [{fail_if_no_peer_cert,
                                                       true} | Both]},
                                            {client, Both}]])),
    ["-proto_dist", "inet_tls", "-ssl_dist_optfile", File].

%% -------------------------------------------------------------- no status

a_node_that_is_not_there_is_named(Config) ->
    {ok, Host} = inet:gethostname(),
    Node = "nobody@" ++ Host,
    assert_no_status(console(Config, ["status", "--node", Node]), Node,
                     <<"not registered with the epmd of its host">>).

a_host_that_is_not_there_is_named(Config) ->
    Node = "llm_router@nowhere",
    assert_no_status(console(Config, ["status", "--node", Node]), Node,
                     <<"its host is unknown">>).

another_cookie_is_named(Config) ->
    assert_no_status(console(Config, ["status", "--node", target(Config)],
                             #{cookie => "another"}),
                     target(Config), <<"it refuses our cookie">>).

%% Looking at a router changes nothing here, and neither does a check.
no_cookie_is_made(Config) ->
    Home = filename:join(proplists:get_value(priv_dir, Config), "home"),
    ok = file:make_dir(Home),
    Run = fun(Args, Env) ->
                  console(Config, Args, #{cookie => false,
                                          env => [{"HOME", Home},
                                                  {"XDG_CONFIG_HOME", false}
                                                  | Env]})
          end,
    {1, <<>>, <<"llm_router: there is no cookie: ", _/binary>>} =
        Run(["status", "--node", target(Config)], []),
    {0, <<"the configuration is valid\n">>, <<>>} =
        Run(["--check-config"], [{"OPENAI_API_KEY", "sk-test"}]),
    {ok, []} = file:list_dir(Home).

a_full_disk_is_noticed(Config) ->
    [{3, <<>>, <<"llm_router: the output could not be written\n">>} =
         console(Config, Args, #{wrapper => ["sh", "-c",
                                             "exec \"$@\" >/dev/full", "sh"]})
     || Args <- [["status", "--json", "--node", target(Config)], ["--help"],
                 ["--version"]]].

a_node_that_is_no_router_is_named(Config) ->
    stand_down(Config),
    assert_no_status(status(Config), target(Config),
                     <<"no process llm_router runs there">>).

stand_down(Config) ->
    bed:on(bed:caller(Config),
           fun() ->
                   Monitor = monitor(process, llm_router),
                   exit(whereis(llm_router), kill),
                   receive {'DOWN', Monitor, _, _, _} -> ok end
           end).

a_router_that_ends_meanwhile_is_named(Config) ->
    stand_in(Config, stop),
    assert_no_status(status(Config), target(Config),
                     <<"the process llm_router ended">>).

a_router_that_never_answers_is_given_up_within_5_s(Config) ->
    stand_in(Config, never),
    Before = erlang:monotonic_time(millisecond),
    assert_no_status(status(Config), target(Config),
                     <<"connected, but it does not answer">>),
    Took = erlang:monotonic_time(millisecond) - Before,
    ?assert(Took >= 4900),
    ?assert(Took < bed:limit_ms(7000)).

what_is_no_status_is_named(Config) ->
    [begin
         stand_in(Config, Answer),
         assert_no_status(status(Config), target(Config), What)
     end || {Answer, What} <-
                [{<<"<html>">>, <<"byte 0">>},
                 {<<"{}">>, <<"not the status of a router">>},
                 {<<"{\"node\":">>, <<"byte">>},
                 {[], <<"answers with a ">>},
                 {#{}, <<"answers with a map, no status">>},
                 {{error, nope}, <<"answers with a tuple, no status">>},
                 {self(), <<"answers with a pid, no status">>}]].

a_refusal_is_told(Config) ->
    stand_in(Config, {error, {forbidden, #{message => <<"not\e[2Jyou">>}}}),
    assert_no_status(status(Config), target(Config),
                     <<"forbidden: not\\x1b[2Jyou">>).

an_answer_beyond_all_measure_is_refused(Config) ->
    stand_in(Config, binary:copy(<<" ">>, 17 * 1024 * 1024)),
    assert_no_status(status(Config), target(Config),
                     <<"over 16777216 bytes">>).

a_node_that_speaks_tls_is_named(Config) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Files = certificate(Config),
    Node = bed:node_name(tls),
    Tls = bed:start_caller(Cookie, Node,
                           #{args => tls_node_args(Config, Files)}),
    assert_no_status(console(Config, ["status", "--node", atom_to_list(Node)]),
                     atom_to_list(Node), <<"TLS">>),
    bed:stop_caller(Tls).

a_node_that_speaks_no_tls_is_named(Config) ->
    Args = tls_args(certificate(Config)),
    assert_no_status(console(Config, ["status", "--node", target(Config)
                                      | Args]),
                     target(Config), <<"it does not answer in TLS">>).

wrong_options_are_a_usage_error(Config) ->
    [?assertMatch({2, <<>>, <<"llm_router: ", _/binary>>},
                  console(Config, Args))
     || Args <- [["status", "--interval", "2"],
                 ["top", "--json"],
                 ["top", "--interval", "0"],
                 ["top", "--interval", "2s"],
                 ["status", "--connect", "a@b"],
                 ["status", "--check-config"],
                 ["status", "--supervised"],
                 ["status", "--node", "a b@c"],
                 ["status", "status"],
                 ["--node", "a@b"],
                 ["--json"]]].

%% -------------------------------------------------------------------- top

%% Runs top in a terminal of 24 rows and 80 columns, within a shell that says
%% what it finds before and after.
in_terminal(Config, Args, Fun) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Command = lists:flatten(
                lists:join(" ", [router:program(), "top", "--node",
                                 target(Config) | Args])),
    Shell = "stty rows 24 cols 80; tty; echo before=$(stty -g); "
        "sh -c 'echo pid=$$; exec " ++ Command ++ "'; "
        "status=$?; echo; echo status=$status; echo after=$(stty -g)",
    Port = open_port({spawn_executable, os:find_executable("script")},
                     [{args, ["-qec", Shell, "/dev/null"]},
                      {env, [{"RELEASE_COOKIE", Cookie}, {"TERM", "xterm"},
                             {"LANG", "C.UTF-8"}, {"NO_COLOR", false},
                             {"SHELL", "/bin/sh"}]},
                      binary, exit_status, stderr_to_stdout]),
    try Fun(Port)
    after catch port_close(Port)
    end.

%% All that comes until there is What.
until(Port, What) ->
    until(Port, What, <<>>).

until(Port, What, Seen) ->
    case binary:match(Seen, What) of
        nomatch -> until(Port, What, <<Seen/binary, (more(Port))/binary>>);
        _ -> Seen
    end.

more(Port) ->
    receive
        {Port, {data, Data}} -> Data;
        {Port, {exit_status, Status}} -> error({ended, Status})
    after bed:limit_ms(10000) -> error(nothing_came)
    end.

rest(Port, Seen) ->
    receive
        {Port, {data, Data}} -> rest(Port, <<Seen/binary, Data/binary>>);
        {Port, {exit_status, _}} -> Seen
    after bed:limit_ms(10000) -> error({no_end, Seen})
    end.

value(Name, Text) ->
    {match, [Value]} = re:run(Text, Name ++ "=([^\r\n]*)",
                              [{capture, [1], binary}]),
    Value.

%% The screen was taken once and given back at the end, and the terminal is
%% set as it was.
assert_given_back(All) ->
    ?assertEqual(1, length(binary:matches(All, ?ENTER))),
    {Left, _} = binary:match(All, ?LEAVE),
    {LastHome, _} = lists:last(binary:matches(All, ?HOME)),
    ?assert(Left > LastHome),
    ?assertEqual(value("before", All), value("after", All)).

top_draws_on_the_whole_screen_and_q_gives_it_back(Config) ->
    in_terminal(
      Config, [],
      fun(Port) ->
              Seen = until(Port, <<"openai">>),
              assert_finds(Seen, <<"\e[1mllm_router@ops1\e[0m">>),
              port_command(Port, "xyz"),
              port_command(Port, "q"),
              All = rest(Port, Seen),
              ?assertEqual(<<"0">>, value("status", All)),
              assert_given_back(All)
      end).

top_ends_with_control_c(Config) ->
    in_terminal(
      Config, [],
      fun(Port) ->
              Seen = until(Port, <<"openai">>),
              port_command(Port, [3]),
              All = rest(Port, Seen),
              ?assertEqual(<<"0">>, value("status", All)),
              assert_given_back(All)
      end).

top_ends_with_a_signal(Config) ->
    [in_terminal(
       Config, [],
       fun(Port) ->
               Seen = until(Port, <<"openai">>),
               kill(Signal, Seen),
               All = rest(Port, Seen),
               ?assertEqual(<<"0">>, value("status", All)),
               assert_given_back(All)
       end) || Signal <- ["TERM", "INT", "HUP"]].

kill(Signal, Seen) ->
    "" = os:cmd("kill -s " ++ Signal ++ " "
                ++ binary_to_list(value("pid", Seen))).

a_crash_gives_the_terminal_back(Config) ->
    [in_terminal(
       Config, [],
       fun(Port) ->
               Seen = until(Port, <<"openai">>),
               kill(Signal, Seen),
               All = rest(Port, Seen),
               ?assertNotEqual(<<"0">>, value("status", All)),
               assert_given_back(All)
       end) || Signal <- ["SEGV", "ABRT"]].

a_terminal_that_goes_takes_top_with_it(Config) ->
    in_terminal(
      Config, [],
      fun(Port) ->
              Seen = until(Port, <<"openai">>),
              {os_pid, Script} = erlang:port_info(Port, os_pid),
              "" = os:cmd("kill -s KILL " ++ integer_to_list(Script)),
              Proc = "/proc/" ++ binary_to_list(value("pid", Seen)),
              bed:eventually(fun() -> not filelib:is_dir(Proc) end)
      end).

%% At once, not with the next question.
top_follows_the_size_of_the_terminal(Config) ->
    stand_in(Config, document(#{errors => [error_of(binary:copy(<<"x">>, 400))
                                           || _ <- lists:seq(1, 50)]})),
    in_terminal(
      Config, ["--interval", "3600"],
      fun(Port) ->
              Seen = until(Port, <<"…"/utf8>>),
              ?assertEqual(24, rows(Seen)),
              {match, [Tty]} = re:run(Seen, "/dev/[^\r\n]*",
                                      [{capture, first, list}]),
              "" = os:cmd("stty -F " ++ Tty ++ " rows 40 cols 60"),
              Larger = until(Port, <<"\e[J">>),
              ?assertEqual(40, rows(Larger)),
              port_command(Port, "q"),
              assert_given_back(rest(Port, <<Seen/binary, Larger/binary>>))
      end).

%% Of the first screen in there.
rows(Seen) ->
    [_, Screen] = binary:split(Seen, ?HOME),
    [Lines | _] = binary:split(Screen, <<"\e[0m\e[J">>),
    length(binary:matches(Lines, <<"\r\n">>)) + 1.

top_says_that_the_router_is_gone_and_goes_on(Config) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Node = bed:node_name(router),
    First = bed:start_caller(Cookie, Node),
    stand_in_at(First, document(#{version => <<"first">>})),
    in_terminal(
      Config, ["--interval", "1", "--node", atom_to_list(Node)],
      fun(Port) ->
              Seen = until(Port, <<"first">>),
              bed:kill_caller(First),
              Gone = until(Port, <<"not registered">>),
              assert_finds(Gone, <<"no answer for ">>),
              assert_finds(Gone, <<"trying again">>),
              Second = bed:start_caller(Cookie, Node),
              stand_in_at(Second, document(#{version => <<"second">>})),
              Back = until(Port, <<"second">>),
              [_, Last] = binary:split(Back, <<"second">>),
              assert_lacks(Last, <<"no answer for ">>),
              port_command(Port, "q"),
              assert_given_back(rest(Port, <<Seen/binary, Gone/binary,
                                             Back/binary>>)),
              bed:stop_caller(Second)
      end).

top_without_a_router_takes_no_screen(Config) ->
    stand_down(Config),
    in_terminal(
      Config, [],
      fun(Port) ->
              All = rest(Port, <<>>),
              ?assertEqual(<<"3">>, value("status", All)),
              assert_finds(All, <<"no process llm_router runs there">>),
              assert_lacks(All, ?ENTER)
      end).

%% With nobody reading any more it ends.
top_without_a_terminal_prints_one_below_the_other(Config) ->
    Command = lists:flatten(
                lists:join(" ", [router:program(), "top", "--interval 1 --node",
                                 target(Config), "| grep -m 2 llm_router@"])),
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", Command]},
                      {env, [{"RELEASE_COOKIE", Cookie}]},
                      binary, exit_status, stderr_to_stdout]),
    All = rest(Port, <<>>),
    ?assertEqual(2, length(binary:matches(All, <<"llm_router@ops1  1.2.3">>))),
    assert_lacks(All, <<"\e">>).

%% ------------------------------------------------------------ real router

a_router_shows_its_figures(Config) ->
    with_router(
      Config, #{},
      fun(Config1, Router) ->
              {ok, _} = bed:call(Config1, {call_with_prompt, simple, <<"hi">>}),
              {0, Shown, <<>>} = console(Config1, ["status", "--node", Router]),
              assert_finds(Shown, list_to_binary(Router ++ "  ")),
              assert_finds(Shown, <<"  ok  up ">>),
              assert_finds(Shown, <<"requests 1  ok 1  failed 0">>),
              assert_finds(Shown, <<"\nopenai       ok">>)
      end).

a_router_that_drains_says_so(Config) ->
    with_router(
      Config, #{env => [{"LLM_ROUTER_TIMEOUTS_DRAIN_MS", "2000"}]},
      fun(Config1, Router) ->
              Provider = bed:provider(Config1),
              scripted_provider:set_handler(Provider, fun(_) -> [hang] end),
              Caller = spawn(fun() ->
                                     catch bed:call(Config1,
                                                    {call_with_prompt, simple,
                                                     <<"hi">>})
                             end),
              [_] = scripted_provider:await_requests(Provider, 1),
              router:signal(bed:router(Config1), "TERM"),
              bed:eventually(
                fun() ->
                        {Status, Shown, <<>>} =
                            console(Config1, ["status", "--node", Router]),
                        Status =:= 4 andalso
                            binary:match(Shown, <<"  draining  ">>) =/= nomatch
                end),
              exit(Caller, kill)
      end).

a_console_that_may_not_look_inside_is_refused(Config) ->
    with_router(
      Config, #{env => [{"LLM_ROUTER_ALLOW_ADMIN", "on_call@*"}]},
      fun(Config1, Router) ->
              assert_no_status(console(Config1, ["status", "--node", Router]),
                               Router, <<"forbidden: ">>),
              ?assertMatch({0, _, <<>>},
                           console(Config1, ["status", "--node", Router,
                                             "--sname", "on_call"]))
      end).

with_router(Config, Opts, Fun) ->
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1),
    Config1 = bed:start_router(bed:renamed(Config), Opts),
    try Fun(Config1, atom_to_list(bed:node(Config1)))
    after {exited, 0} = bed:stop_router(Config1)
    end.

a_router_and_a_console_agree_on_tls(Config) ->
    Tls = tls_args(certificate(Config)),
    status_of(Config, Tls, fun(Router) ->
        {0, _, <<>>} = console(Config, ["status", "--node", Router | Tls]),
        assert_no_status(console(Config, ["status", "--node", Router]),
                         Router, <<"is TLS (--tls-dist) on one side">>)
    end),
    status_of(Config, [], fun(Router) ->
        assert_no_status(console(Config, ["status", "--node", Router | Tls]),
                         Router, <<"is TLS (--tls-dist) on one side">>)
    end).

%% Of a router that is in no cluster.
status_of(Config, Args, Fun) ->
    Node = bed:node_name(router),
    Router = bed:run_router(Config, Node, #{args => Args, connect => []}),
    Fun(atom_to_list(Node)),
    {exited, 0} = router:stop(Router).
