%% The project as a dependency of others: the examples of docs/examples are
%% built in a clean checkout, without a network, and run.
%%
%% The checkout is a folder of its own in build/, with the files that are, or
%% could be, committed. The program's objects are made once, by the first case
%% that runs, and shared by the others (BUILD). Commands have an environment of
%% their own, so that nothing of the developer's configuration is found.
-module(dependency_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(STARTED_MS, 60000).
-define(ENDED_MS, 30000).
-define(SENTENCE, <<"Add a dark mode">>).

suite() ->
    [{timetrap, {minutes, 10}}].

all() ->
    [the_files_of_the_package_are_enough_and_mix_clean_removes_what_was_made,
     mix_builds_the_program_and_writes_nothing_among_the_sources,
     mix_makes_nothing_the_second_time,
     mix_makes_only_what_has_changed,
     mix_follows_the_application_file,
     the_mix_example_plans_from_a_release,
     rebar3_builds_a_checkout_and_makes_nothing_the_second_time,
     the_rebar3_example_plans,
     rebar3_builds_a_git_dependency,
     rebar3_clean_removes_what_was_made,
     a_missing_library_is_one_line_that_names_the_package].

init_per_suite(Config) ->
    {0, Made} = shell(router:project(),
                      "mkdir -p build && mktemp -d \"$(pwd -P)/build/"
                      "dependency.XXXXXX\"", []),
    Dir = binary_to_list(string:trim(Made)),
    Tree = filename:join(Dir, "tree"),
    ok = file:make_dir(Tree),
    {0, _} = shell(router:project(), checkout(), [{"TREE", Tree}]),
    bed:up([{dir, Dir}, {tree, Tree} | Config], #{router => none}).

end_per_suite(Config) ->
    {0, _} = shell("/", "rm -rf \"$DIR\"", [{"DIR", dir(Config)}]),
    bed:down(Config).

%% The files that git knows or would add; of a tarball, all that nobody built.
checkout() ->
    "{ git ls-files -z --cached --others --exclude-standard 2>/dev/null ||"
    "  find . '(' -name .git -o -name _build -o -path ./build ')' -prune -o"
    "    ! -type d ! -path ./priv/llm_router -print0 ; } |"
    " tar -c --null -T - | tar -x -C \"$TREE\"".

%% -------------------------------------------------------------------- Mix

%% First, so that the objects are made of these files. They are as old as those
%% of the checkout, for which the same objects are used.
the_files_of_the_package_are_enough_and_mix_clean_removes_what_was_made(
  Config) ->
    Package = filename:join(dir(Config), "package"),
    ok = file:make_dir(Package),
    {0, _} = run(Config, tree(Config),
                 "elixir -e '" ++ list_package() ++ "' |"
                 " xargs -d '\\n' cp -RPp --parents -t " ++ Package, []),
    {0, _} = run(Config, Package, "mix compile", []),
    Program = filename:join(Package,
                            "_build/prod/lib/llm_router/priv/llm_router"),
    ?assert(filelib:is_regular(Program)),
    {0, _} = run(Config, Package, "mix clean", []),
    ?assertNot(filelib:is_regular(Program)).

list_package() ->
    "Mix.start(); Code.require_file(\"mix.exs\");"
    "for pattern <- LLMRouter.MixProject.project()[:package][:files],"
    "    file <- Path.wildcard(pattern, match_dot: true), do: IO.puts(file)".

mix_builds_the_program_and_writes_nothing_among_the_sources(Config) ->
    Before = files(tree(Config)),
    Output = mix(Config, "compile"),
    ?assertMatch({_, _}, binary:match(Output, <<"LD make/priv/llm_router">>)),
    ?assertEqual(Before, files(tree(Config))),
    Priv = filename:join(mix_app(Config), "priv"),
    {0, Version} = shell("/", filename:join(Priv, "llm_router") ++ " --version",
                         []),
    {ok, [{application, llm_router, App}]} =
        file:consult(filename:join(mix_app(Config), "ebin/llm_router.app")),
    ?assertEqual("llm_router " ++ proplists:get_value(vsn, App),
                 string:trim(binary_to_list(Version))),
    {ok, Data} = file:list_dir(filename:join(tree(Config), "priv")),
    {ok, Copied} = file:list_dir(Priv),
    ?assertEqual(lists:sort(["llm_router" | Data]), lists:sort(Copied)).

mix_makes_nothing_the_second_time(Config) ->
    _ = mix(Config, "compile"),
    Before = files(mix_app(Config)),
    ?assertEqual(<<>>, mix(Config, "compile")),
    ?assertEqual(Before, files(mix_app(Config))).

mix_makes_only_what_has_changed(Config) ->
    _ = mix(Config, "compile"),
    ok = touch(filename:join(tree(Config), "c_src/main.c")),
    ?assertEqual([<<"CC ", (path(objects(Config), "main.o"))/binary>>,
                  <<"LD make/priv/llm_router">>],
                 lines(mix(Config, "compile"))).

%% mix.exs reads it, and Mix looks at the time of mix.exs only.
mix_follows_the_application_file(Config) ->
    _ = mix(Config, "compile"),
    ok = touch(filename:join(tree(Config), "src/llm_router.app.src")),
    ?assertMatch({_, _}, binary:match(mix(Config, "compile"),
                                      <<"Generated llm_router app">>)).

the_mix_example_plans_from_a_release(Config) ->
    _ = mix(Config, "release --overwrite"),
    Node = bed:node_name(planner),
    Env = [{"RELEASE_NODE", atom_to_list(Node)},
           {"RELEASE_COOKIE", cookie(Config)},
           {"RELEASE_DISTRIBUTION", tl(name_option(Node))}],
    Release = filename:join([mix_example(Config), "_build", "prod", "rel"]),
    Command = filename:join(Release, "planner/bin/planner start"),
    plans(Config, Release, Node, 'Elixir.Planner', {Command, Env}).

%% ----------------------------------------------------------------- rebar3

rebar3_builds_a_checkout_and_makes_nothing_the_second_time(Config) ->
    First = rebar3(Config, "compile"),
    ?assertMatch({_, _}, binary:match(First, <<"LD priv/llm_router">>)),
    Second = rebar3(Config, "compile"),
    ?assertEqual(nomatch, binary:match(Second, [<<"CC ">>, <<"LD ">>])).

the_rebar3_example_plans(Config) ->
    _ = rebar3(Config, "release"),
    Node = bed:node_name(planner),
    Release = filename:join(rebar3_example(Config),
                            "_build/default/rel/planner"),
    Command = lists:join(
                " ", ["erl -noinput -boot", filename:join(
                                              Release,
                                              "releases/0.1.0/start"),
                      "-config", filename:join(Release,
                                               "releases/0.1.0/sys"),
                      name_option(Node), atom_to_list(Node),
                      "-setcookie", cookie(Config)]),
    plans(Config, Release, Node, planner,
          {lists:flatten(Command), [{"ERL_LIBS", filename:join(Release, "lib")}]
          }).

%% The objects are newer than the clone's sources, so that only the link is
%% left to do.
rebar3_builds_a_git_dependency(Config) ->
    _ = rebar3(Config, "compile"),
    {0, _} = run(Config, tree(Config),
                 "git init -q && git add . && git commit -q -m all", []),
    Project = filename:join(dir(Config), "from_git"),
    Objects = filename:join(dir(Config), "git_objects"),
    {0, _} = shell("/", "cp -R \"$FROM\" \"$TO\" && rm -rf \"$TO\"/_*",
                   [{"FROM", rebar3_example(Config)}, {"TO", Project}]),
    Deps = {deps, [{llm_router,
                    {git, "file://" ++ tree(Config), {branch, "main"}}}]},
    ok = file:write_file(filename:join(Project, "rebar.config"),
                         io_lib:format("~tp.~n", [Deps])),
    {0, _} = run(Config, Project, "rebar3 get-deps", []),
    {0, _} = shell("/", "cp -R \"$FROM\" \"$TO\"",
                   [{"FROM", objects(Config)}, {"TO", Objects}]),
    {0, Output} = run(Config, Project, "rebar3 compile", [{"BUILD", Objects}]),
    ?assertEqual(nomatch, binary:match(Output, <<"CC ">>)),
    ?assert(filelib:is_regular(
              filename:join(Project,
                            "_build/default/lib/llm_router/priv/llm_router"))).

rebar3_clean_removes_what_was_made(Config) ->
    _ = rebar3(Config, "compile"),
    Program = filename:join(tree(Config), "priv/llm_router"),
    ?assert(filelib:is_regular(Program)),
    {0, _} = run(Config, tree(Config), "rebar3 clean", []),
    ?assertNot(filelib:is_regular(Program)).

%% ----------------------------------------------------------------- errors

a_missing_library_is_one_line_that_names_the_package(Config) ->
    PkgConfig = filename:join(dir(Config), "pkg-config"),
    ok = file:write_file(PkgConfig, "#!/bin/sh\n"
                         "case $* in *libpq*) exit 1 ;; esac\n"
                         "exec pkg-config \"$@\"\n"),
    ok = file:change_mode(PkgConfig, 8#755),
    Env = [{"PKG_CONFIG", PkgConfig},
           {"BUILD", filename:join(dir(Config), "other_objects")}],
    [begin
         {Status, Output} = run(Config, Dir, Command, Env),
         ?assertNotEqual(0, Status),
         ?assertEqual([<<"llm_router: to build it, install these Debian "
                         "packages: libpq-dev (docs/beam.md says more)">>],
                      [Line || Line <- lines(Output),
                               binary:match(Line, <<"llm_router:">>)
                                   =:= {0, 11}]),
         ?assertEqual(nomatch, binary:match(Output, <<"CC ">>))
     end || {Dir, Command} <- [{mix_example(Config), "mix compile"},
                               {rebar3_example(Config), "rebar3 compile"}]].

%% ------------------------------------------------------------ the examples

%% A node that runs an example has a router, which gives it a task from the
%% scripted provider with the model of the example's configuration; when it
%% stops, no process of it is left.
plans(Config, Folder, Node, Module, {Command, Env}) ->
    Provider = bed:provider(Config),
    Known = length(scripted_provider:requests(Provider)),
    Port = start(Config, Command,
                 [{"OPENAI_API_KEY", "sk-test-key"},
                  {"OPENAI_BASE_URL",
                   binary_to_list(scripted_provider:url(Provider))} | Env]),
    bed:eventually(fun() -> is_started(Config, Node) end, ?STARTED_MS),
    ?assertEqual({ok, ?SENTENCE}, remote(Config, Node, Module, plan,
                                         [?SENTENCE])),
    ?assertMatch([#{json := #{<<"model">> := <<"gpt-5.6-luna">>}}],
                 lists:nthtail(Known, scripted_provider:requests(Provider))),
    ?assertMatch([_], programs(Folder)),
    ok = remote(Config, Node, init, stop, []),
    {0, Output} = collect(Port, []),
    ct:log("~ts", [Output]),
    ?assertEqual([], programs(Folder)).

is_started(Config, Node) ->
    Ping = fun() -> net_adm:ping(Node) end,
    bed:on(bed:caller(Config), Ping) =:= pong
        andalso lists:keymember(planner, 1,
                                remote(Config, Node, application,
                                       which_applications, [])).

remote(Config, Node, Module, Function, Args) ->
    bed:on(bed:caller(Config),
           fun() -> erpc:call(Node, Module, Function, Args) end).

%% The processes that run a program below a folder.
programs(Folder) ->
    [Exe || Link <- filelib:wildcard("/proc/[0-9]*/exe"),
            {ok, Exe} <- [file:read_link(Link)],
            lists:prefix(Folder, Exe),
            filename:basename(Exe) =:= "llm_router"].

name_option(Node) ->
    [_, Host] = string:split(atom_to_list(Node), "@"),
    case lists:member($., Host) of
        true -> "-name";
        false -> "-sname"
    end.

%% --------------------------------------------------------------- commands

mix(Config, Task) ->
    {0, Output} = run(Config, mix_example(Config), "mix " ++ Task, []),
    Output.

rebar3(Config, Task) ->
    Dir = rebar3_example(Config),
    Checkout = filename:join(Dir, "_checkouts/llm_router"),
    ok = filelib:ensure_dir(Checkout),
    _ = file:make_symlink("../../../..", Checkout),
    {0, Output} = run(Config, Dir, "rebar3 " ++ Task, []),
    Output.

%% Runs a command as somebody with nothing but a home and a compiler.
run(Config, Dir, Command, Env) ->
    Result = {_, Output} = collect(open(Config, Dir, Command, Env), []),
    ct:log("~ts~n~ts", [Command, Output]),
    Result.

start(Config, Command, Env) ->
    open(Config, dir(Config), "exec " ++ Command, Env).

open(Config, Dir, Command, Env) ->
    Home = filename:join(dir(Config), "home"),
    ok = filelib:ensure_dir(filename:join(Home, "file")),
    All = [{"PATH", os:getenv("PATH")}, {"HOME", Home}, {"LANG", "C.UTF-8"},
           {"MIX_ENV", "prod"}, {"BUILD", objects(Config)},
           {"GIT_CONFIG_COUNT", "1"},
           {"GIT_CONFIG_KEY_0", "init.defaultBranch"},
           {"GIT_CONFIG_VALUE_0", "main"}]
        ++ [{Name, "test@localhost"}
            || Name <- ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL",
                        "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"]]
        ++ [{Name, Value} || Name <- ["ERL_EPMD_PORT"],
                             Value <- [os:getenv(Name)], Value =/= false],
    Set = lists:foldl(fun({Name, _} = Pair, Acc) ->
                              lists:keystore(Name, 1, Acc, Pair)
                      end, All, Env),
    Args = ["-i" | [Name ++ "=" ++ Value || {Name, Value} <- Set]]
        ++ ["sh", "-c", Command],
    open_port({spawn_executable, os:find_executable("env")},
              [{args, Args}, {cd, Dir}, binary, exit_status,
               stderr_to_stdout]).

%% Runs a command of the test's own.
shell(Dir, Command, Env) ->
    collect(open_port({spawn_executable, "/bin/sh"},
                      [{args, ["-c", Command]}, {cd, Dir}, {env, Env}, binary,
                       exit_status, stderr_to_stdout]), []).

collect(Port, Acc) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Acc | Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Acc)}
    after bed:limit_ms(10 * ?ENDED_MS) ->
            error({still_running, iolist_to_binary(Acc)})
    end.

%% ------------------------------------------------------------------- files

dir(Config) -> proplists:get_value(dir, Config).
tree(Config) -> proplists:get_value(tree, Config).
objects(Config) -> filename:join(dir(Config), "objects").
cookie(Config) -> maps:get(cookie, proplists:get_value(bed, Config)).

mix_example(Config) ->
    filename:join(tree(Config), "docs/examples/mix_project").

rebar3_example(Config) ->
    filename:join(tree(Config), "docs/examples/rebar3_project").

mix_app(Config) ->
    filename:join(mix_example(Config), "_build/prod/lib/llm_router").

path(Dir, Name) ->
    list_to_binary(filename:join(Dir, Name)).

lines(Output) ->
    [Line || Line <- binary:split(Output, <<"\n">>, [global]), Line =/= <<>>].

%% Everything below a folder that is not of Mix's or rebar3's making, with
%% times.
files(Dir) ->
    {0, Output} = shell(Dir, "find -L . -name _build -prune -o -type f"
                        " -printf '%p %T@ %s\\n' | sort", []),
    lines(Output).

%% Makes a file newer than all others, also for those who look at whole
%% seconds.
touch(File) ->
    timer:sleep(1000),
    file:change_time(File, calendar:local_time()).
