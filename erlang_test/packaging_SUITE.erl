%% What a package is made of: installation, the Debian package, the service's
%% unit, what a service manager is told, the manual page, completion.
-module(packaging_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"hi">>}).
-define(EXPOSURE, "20").      % of systemd-analyze, in tenths
-define(TOLD_MS, 10000).
-define(COMMAND_MS, 60000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [%% what people read and type
     every_option_is_in_the_manual_and_in_the_completions,
     the_manual_is_well_formed,
     bash_completes_options_commands_and_files,
     %% the service
     the_service_is_hardened,
     every_system_call_passes_the_filter_of_the_service,
     the_manager_is_told_of_start_reload_and_end,
     the_watchdog_hears_of_a_loop_that_runs_and_of_no_other,
     a_supervised_router_does_not_speak_for_its_supervisor,
     keys_and_cookie_come_from_a_folder_of_credentials,
     %% installing
     what_is_installed_runs_and_is_removed_again,
     the_package_has_the_version_and_no_faults,
     the_package_installs_and_its_program_answers].

init_per_suite(Config) ->
    bed:up(Config, #{router => none}).

end_per_suite(Config) ->
    bed:down(Config).

init_per_testcase(_Case, Config) ->
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1),
    bed:renamed(Config).

dir(Config) ->
    filename:absname(proplists:get_value(priv_dir, Config)).

packaging(Name) ->
    filename:join([router:project(), "packaging", Name]).

program() ->
    os:getenv("LLM_ROUTER_BIN", filename:join([router:project(), "priv",
                                               "llm_router"])).

read(File) ->
    {ok, Text} = file:read_file(File),
    Text.

%% {Status, Output} of a command in the project's folder.
sh(Command, Args) ->
    sh(Command, Args, []).

sh(Command, Args, Env) ->
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", Command, "sh" | Args]},
                      {cd, router:project()}, {env, Env}, binary, exit_status,
                      stderr_to_stdout]),
    {_, Output} = Result = collect(Port, []),
    ct:log("~ts ~p~n~ts", [Command, Args, Output]),
    Result.

collect(Port, Acc) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Acc | Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Acc)}
    after bed:limit_ms(?COMMAND_MS) ->
            error({still_running, iolist_to_binary(Acc)})
    end.

lines(Text) ->
    binary:split(Text, <<"\n">>, [global, trim_all]).

%% All that a group of the expression matches in a text, once each.
all_matches(Text, Expression) ->
    case re:run(Text, Expression, [global, multiline,
                                   {capture, all_but_first, binary}]) of
        {match, Found} -> lists:usort(lists:append(Found));
        nomatch -> []
    end.

%% --------------------------------------------- what people read and type

every_option_is_in_the_manual_and_in_the_completions(_Config) ->
    {0, Help} = sh("\"$1\" --help", [program()]),
    Options = all_matches(Help, "(?<![a-z-])--([a-z]+(?:-[a-z]+)*)"),
    ?assert(length(Options) > 15),
    ?assertEqual(Options, all_matches(read(packaging("llm_router.8")),
                                      "Fl -([a-z-]+)")),
    ?assertEqual(Options, all_matches(read(packaging("llm_router.bash")),
                                      "--([a-z]+(?:-[a-z]+)*)")),
    ?assertEqual(Options, all_matches(read(packaging("_llm_router")),
                                      "--([a-z]+(?:-[a-z]+)*)")).

the_manual_is_well_formed(_Config) ->
    ?assertEqual({0, <<>>}, sh("mandoc -T lint -W warning \"$1\"",
                               [packaging("llm_router.8")])).

bash_completes_options_commands_and_files(Config) ->
    ?assertEqual([<<"status">>, <<"top">>],
                 [Word || <<C, _/binary>> = Word <- completed([""]), C =/= $-]),
    ?assertEqual([<<"--check-config">>, <<"--config">>, <<"--connect">>,
                  <<"--cookie-file">>], completed(["--c"])),
    ?assertEqual([<<"status">>], completed(["st"])),
    ?assertEqual([<<"--node">>], completed(["status", "--no"])),
    ?assertEqual([], completed(["--sname", ""])),
    Folder = filename:join(dir(Config), "a folder"),
    ok = filelib:ensure_dir(filename:join(Folder, "x")),
    ?assertEqual([list_to_binary(Folder)],
                 completed(["--config", filename:join(dir(Config), "a f")])),
    #{node := Node} = bed:caller(Config),
    ?assert(lists:member(atom_to_binary(Node), completed(["--connect", ""]))).

%% What bash offers for the last of the words behind the command, sorted.
completed(Words) ->
    Script = ". packaging/llm_router.bash && complete -p llm_router >&2 &&"
        " COMP_WORDS=(llm_router \"$@\") COMP_CWORD=$# && _llm_router 2>&2 &&"
        " printf '%s\\n' \"${COMPREPLY[@]}\"",
    {0, Output} = sh("exec bash -c \"$0\" \"$@\" 2>/dev/null",
                     [Script | Words]),
    lists:sort(lines(Output)).
