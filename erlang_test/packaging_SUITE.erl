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
        " COMP_WORDS=(llm_router \"$@\") COMP_CWORD=$# && _llm_router &&"
        " printf '%s\\n' \"${COMPREPLY[@]}\"",
    {0, Output} = sh("exec bash -c \"$@\" 2>/dev/null",
                     [Script, "bash" | Words]),
    lists:sort(lines(Output)).

%% ------------------------------------------------------------- the service

the_service_is_hardened(Config) ->
    Image = image(Config, "/usr"),
    [?assertMatch({0, _},
                  sh("systemd-analyze security --offline=true --no-pager"
                     " --threshold=" ?EXPOSURE " \"$1\"", [Unit]))
     || Unit <- units(Image)].

units(Image) ->
    [_, _] = filelib:wildcard(Image ++ "/usr/lib/systemd/system/*.service").

every_system_call_passes_the_filter_of_the_service(Config) ->
    File = filename:join(dir(Config), "strace"),
    Config1 = bed:start_router(
                Config, #{wrapper => ["strace", "-D", "-f", "-q", "-o", File]}),
    {ok, _} = bed:call(Config1, ?OP),
    {ok, _} = bed:call(Config1, {call_with_script, <<"summarize.lua">>,
                                 #{text => <<"x">>}}),
    ok = bed:call(Config1, reload),
    #{os_pid := OsPid} = bed:router(Config1),
    {exited, 0} = bed:stop_router(Config1),
    bed:eventually(fun() -> is_traced_to_its_end(File, OsPid) end),
    Used = all_matches(read(File), "^[0-9]+ +([a-z0-9_]+)\\("),
    ?assert(length(Used) > 40),
    ?assertEqual([], Used -- filter()).

is_traced_to_its_end(File, OsPid) ->
    End = ["^", integer_to_list(OsPid), " +\\+\\+\\+ exited with 0"],
    re:run(read(File), End, [multiline]) =/= nomatch.

%% What the unit's lines allow, each after the one before.
filter() ->
    {match, Lines} = re:run(read(packaging("llm_router.service")),
                            "^SystemCallFilter=(~?)(.*)$",
                            [global, multiline,
                             {capture, all_but_first, binary}]),
    lists:foldl(fun([Sign, Names], Allowed) ->
                        Calls = lists:append(
                                  [system_calls(Name)
                                   || Name <- binary:split(Names, <<" ">>,
                                                           [global])]),
                        case Sign of
                            <<>> -> Allowed ++ Calls;
                            <<"~">> -> Allowed -- lists:append(
                                                    [Calls, Calls])
                        end
                end, [], Lines).

%% Of a group of systemd's, with those of the groups in it.
system_calls(<<"@", _/binary>> = Group) ->
    {0, Output} = sh("systemd-analyze --no-pager syscall-filter \"$1\"",
                     [Group]),
    [_Group | Members] = lines(Output),
    lists:usort(lists:append([system_calls(string:trim(Member))
                              || Member <- Members]));
system_calls(<<"#", _/binary>>) ->
    [];
system_calls(Name) ->
    [Name].

%% A socket that stands in for systemd's, and the variable that names it. Of the
%% abstract name space: it is gone with the test.
manager() ->
    {ok, Socket} = socket:open(local, dgram),
    Name = "llm_router_test_" ++ os:getpid()
        ++ integer_to_list(erlang:unique_integer([positive])),
    ok = socket:bind(Socket, #{family => local,
                               path => list_to_binary([0, Name])}),
    {Socket, {"NOTIFY_SOCKET", "@" ++ Name}}.

told(Socket) ->
    {ok, {_, Message}} = socket:recvfrom(Socket, 0, bed:limit_ms(?TOLD_MS)),
    Message.

%% All that is there.
told_now(Socket) ->
    case socket:recvfrom(Socket, 0, 0) of
        {ok, {_, Message}} -> [Message | told_now(Socket)];
        {error, timeout} -> []
    end.

the_manager_is_told_of_start_reload_and_end(Config) ->
    {Socket, Variable} = manager(),
    File = filename:join(dir(Config), "notified.json"),
    ok = file:write_file(File, "{}"),
    Config1 = bed:start_router(Config, #{env => [Variable],
                                         args => ["--config", File]}),
    Ready = iolist_to_binary(["READY=1\nSTATUS=ready as ",
                              atom_to_list(bed:node(Config))]),
    ?assertEqual(Ready, told(Socket)),
    Reload = "^RELOADING=1\nMONOTONIC_USEC=[0-9]+\nSTATUS=",
    router:signal(bed:router(Config1), "HUP"),
    ?assertMatch({match, _}, re:run(told(Socket), Reload)),
    ?assertEqual(<<"READY=1\nSTATUS=the configuration was taken over">>,
                 told(Socket)),
    ok = file:write_file(File, "{\"limits\": {\"in_flight\": 0}}"),
    {error, _} = bed:call(Config1, reload),
    ?assertMatch({match, _}, re:run(told(Socket), Reload)),
    ?assertMatch({match, _},
                 re:run(told(Socket),
                        "^READY=1\nSTATUS=the old configuration stays: .*"
                        "limits.in_flight: 0")),
    {exited, 0} = bed:stop_router(Config1),
    {match, [Us]} = re:run(told(Socket), "^STOPPING=1\nEXTEND_TIMEOUT_USEC="
                           "([0-9]+)\nSTATUS=draining, 0 in flight$",
                           [{capture, all_but_first, binary}]),
    ?assert(binary_to_integer(Us) > 30000000),
    ?assertEqual([], told_now(Socket)),
    ok = socket:close(Socket).

the_watchdog_hears_of_a_loop_that_runs_and_of_no_other(Config) ->
    {Socket, Variable} = manager(),
    Config1 = bed:start_router(
                Config, #{env => [Variable, {"WATCHDOG_USEC", "200000"}],
                          wrapper => ["sh", "-c",
                                      "WATCHDOG_PID=$$ exec \"$@\"", "sh"]}),
    Alive = <<"WATCHDOG=1">>,
    ?assertMatch([_], [M || M <- [told(Socket) || _ <- lists:seq(1, 5)],
                            M =/= Alive]),
    router:signal(bed:router(Config1), "STOP"),
    bed:eventually(fun() -> is_stopped(bed:router(Config1)) end),
    _ = told_now(Socket),
    timer:sleep(500),
    ?assertEqual([], told_now(Socket)),
    router:signal(bed:router(Config1), "CONT"),
    ?assertEqual(Alive, told(Socket)),
    {exited, 0} = bed:stop_router(Config1),
    ok = socket:close(Socket).

is_stopped(#{os_pid := OsPid}) ->
    Stat = read(["/proc/", integer_to_list(OsPid), "/stat"]),
    binary:match(Stat, <<") T ">>) =/= nomatch.

%% The supervisor may be a service itself: to say READY=1 is its business.
a_supervised_router_does_not_speak_for_its_supervisor(Config) ->
    {Socket, Variable} = manager(),
    {0, Output} =
        sh("{ echo '{\"cookie\": \"c\"}'; sleep 1; } |"
           " \"$1\" --supervised --sname \"$2\"",
           [program(), atom_to_list(bed:node(Config))],
           [Variable, {"OPENAI_API_KEY", "sk-test-key"}]),
    ?assertMatch({match, _}, re:run(Output, "^ready ", [multiline])),
    ?assertEqual([], told_now(Socket)),
    ok = socket:close(Socket).

%% As LoadCredential=llm_router:FOLDER of the unit gives them, on a file system
%% with access control lists.
keys_and_cookie_come_from_a_folder_of_credentials(Config) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Folder = filename:join(dir(Config), "credentials"),
    [begin
         File = filename:join(Folder, "llm_router_" ++ Name),
         ok = filelib:ensure_dir(File),
         ok = file:write_file(File, [Text, $\n]),
         ok = file:change_mode(File, 8#440)
     end || {Name, Text} <- [{"RELEASE_COOKIE", Cookie},
                             {"OPENAI_API_KEY", "sk-from-folder"}]],
    Config1 = bed:start_router(Config,
                               #{env => [{"OPENAI_API_KEY", false},
                                         {"RELEASE_COOKIE", false},
                                         {"HOME", dir(Config)},
                                         {"CREDENTIALS_DIRECTORY", Folder}]}),
    {ok, _} = bed:call(Config1, ?OP),
    [#{headers := #{<<"authorization">> := Header}}] =
        scripted_provider:requests(bed:provider(Config)),
    ?assertEqual(<<"Bearer sk-from-folder">>, Header),
    {exited, 0} = bed:stop_router(Config1).

%% -------------------------------------------------------------- installing

%% An installation with this prefix, in a new folder. Nothing is built.
image(Config, Prefix) ->
    Image = filename:join(dir(Config), "image"
                          ++ integer_to_list(erlang:unique_integer([positive]))
                         ),
    {0, _} = make("install", Image, Prefix),
    Image.

make(Target, Image, Prefix) ->
    sh("make -s --old-file=all \"$1\" DESTDIR=\"$2\" PREFIX=\"$3\""
       " PROGRAM=\"$4\"", [Target, Image, Prefix, program()]).

%% As a wrapper of a router's command line: runs an installed program instead,
%% which has nothing but what was installed with it.
instead(Script, Args) ->
    #{wrapper => ["sh", "-euc", Script | Args],
      env => [{"LLM_ROUTER_PRIV_DIR", false}]}.

what_is_installed_runs_and_is_removed_again(Config) ->
    Image = image(Config, "/opt/router"),
    Opts = instead("shift; exec \"$0\" \"$@\"",
                   [Image ++ "/opt/router/bin/llm_router"]),
    Config1 = bed:start_router(Config, Opts),
    {ok, #{title := _}} = bed:call(Config1, {generate_task, <<"Add it">>}),
    {exited, 0} = bed:stop_router(Config1),
    Configured = ["/etc/llm_router/config.json", "/etc/llm_router/credentials",
                  "/etc/llm_router/environment"],
    Unit = read(Image ++ "/opt/router/lib/systemd/system/llm_router@.service"),
    [?assertMatch({Text, {_, _}}, {Text, binary:match(Unit, Text)})
     || Text <- [<<"ExecStart=/opt/router/bin/llm_router --sname %i ">>,
                 <<"\nStateDirectory=llm_router@%i\n">>,
                 <<"\nEnvironmentFile=-/etc/llm_router/environment.%i\n">>]],
    Documents = Image ++ "/opt/router/share/doc/llm_router",
    ?assert(filelib:is_regular(Documents ++ "/examples/llm_router.rules.yml")),
    ?assertEqual([], dead_links(Documents)),
    ok = file:write_file(Image ++ hd(Configured), "{\"retry\": {}}"),
    {0, _} = make("install", Image, "/opt/router"),
    ?assertEqual(<<"{\"retry\": {}}">>, read(Image ++ hd(Configured))),
    {0, _} = make("uninstall", Image, "/opt/router"),
    {0, Left} = sh("find \"$1\" ! -type d -o -empty", [Image]),
    ?assertEqual([], [File || File <- lines(Left), not is_folder(File)]
                     -- [list_to_binary(Image ++ File) || File <- Configured]).

%% {Document, Link} of those within the installation.
dead_links(Folder) ->
    [{File, Link}
     || File <- filelib:wildcard(Folder ++ "/**/*.md"),
        Link <- markdown:links(read(File)),
        string:find(Link, "://") =:= nomatch,
        Path <- [hd(string:split(Link, "#"))], Path =/= "",
        not filelib:is_file(filename:join(filename:dirname(File), Path))].

is_folder(File) ->
    filename:basename(File) =/= <<"credentials">> andalso filelib:is_dir(File).

%% Made once, for two tests.
deb(Config) ->
    Folder = filename:join(filename:dirname(dir(Config)), "deb"),
    case filelib:wildcard(Folder ++ "/*.deb") of
        [Deb] ->
            Deb;
        [] ->
            {0, _} = sh("packaging/make-deb \"$2\" \"$1\"",
                        [Folder, version()],
                        [{"LLM_ROUTER_BIN", program()},
                         {"DEB_BUILD_OPTIONS", "noautodbgsym"}]),
            [Deb] = filelib:wildcard(Folder ++ "/*.deb"),
            Deb
    end.

version() ->
    {ok, [{application, llm_router, Properties}]} =
        file:consult(filename:join(router:project(),
                                   "src/llm_router.app.src")),
    proplists:get_value(vsn, Properties).

the_package_has_the_version_and_no_faults(Config) ->
    Deb = deb(Config),
    {0, Version} = sh("dpkg-deb -f \"$1\" Version", [Deb]),
    ?assertEqual(version(), binary_to_list(string:trim(Version))),
    ?assertMatch({0, _}, sh("lintian --allow-root --fail-on error,warning"
                            " \"$1\"", [Deb])).

%% In a copy of this system, of which nothing stays. / itself cannot be the
%% lower layer in a namespace of users: it has mounts of others in it.
the_package_installs_and_its_program_answers(Config) ->
    {Status, _} = sh("unshare --mount true", []),
    Status =:= 0 orelse throw({skip, "there can be no mounts of our own here"}),
    Dir = filename:join(dir(Config), "system"),
    ok = file:make_dir(Dir),
    Config1 = bed:start_router(
                Config, (installed(Config, Dir))#{stderr => Dir ++ ".stderr"}),
    {ok, #{title := _}} = bed:call(Config1, {generate_task, <<"Add it">>}),
    {ok, _} = bed:call(Config1, {call_with_script, <<"summarize.lua">>,
                                 #{text => <<"x">>}}),
    {exited, 0} = bed:stop_router(Config1),
    ct:log("~ts", [read(Dir ++ ".stderr")]).

installed(Config, Dir) ->
    instead("dir=$1; shift 2; exec unshare --mount sh -euc '\n"
            "  deb=$0 dir=$1; shift\n"
            "  mount -t tmpfs tmpfs \"$dir\"; cd \"$dir\"\n"
            "  mkdir -p upper work usr proc dev tmp run var/lib var/log\n"
            "  mount -t overlay -o userxattr,lowerdir=/usr,upperdir=upper"
            "    -o workdir=work overlay usr\n"
            "  mount --rbind /proc proc; mount --rbind /dev dev\n"
            "  cp -P /bin /sbin /lib* .\n"
            "  cp -R /etc . 2>/dev/null || true\n"
            "  cp -R /var/lib/dpkg var/lib/\n"
            "  cp \"$deb\" llm-router.deb\n"
            "  chroot . dpkg --no-triggers -i llm-router.deb >&2\n"
            "  chroot . systemd-analyze verify llm_router.service"
            "    llm_router@a.service >&2\n"
            "  exec chroot . /usr/bin/llm_router \"$@\"'"
            " \"$0\" \"$dir\" \"$@\"",
            [deb(Config), Dir]).
