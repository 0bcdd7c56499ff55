%% The documentation holds: what it shows works, what it links to is there, what
%% the program has is in it, and each alarm has its page.
%%
%% Every block of code with a language has a row in examples/0 that says how it
%% is known to be right; a new block without one fails the suite.
-module(docs_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(ALARMS, "docs/alarms").
-define(RULES, "packaging/prometheus/llm_router.rules.yml").

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [every_link_leads_somewhere,
     no_host_of_a_package_registry_and_no_path_of_this_machine_is_named,
     every_page_is_linked_to_by_the_readme,
     %% examples
     every_example_has_one_row,
     every_row_names_a_test_that_is_there,
     examples_that_are_not_run_can_be_parsed,
     json_examples_are_json,
     configurations_are_valid,
     requests_of_the_queue_are_answered,
     the_rights_for_the_queue_suffice,
     erlang_examples_run,
     elixir_examples_run,
     shell_examples_run,
     values_have_the_keys_that_are_shown,
     %% what there is, is documented
     every_option_is_documented,
     every_operation_is_documented,
     every_error_is_documented,
     every_figure_of_stats_is_documented,
     every_member_of_the_status_document_is_documented,
     every_message_of_the_log_is_documented,
     %% alarms
     every_alarm_has_its_page,
     every_page_of_an_alarm_has_its_parts,
     every_metric_in_an_alarm_is_there].

init_per_suite(Config) ->
    case filelib:is_regular(path("README.md")) of
        true -> up(Config);
        false -> {skip, "this is no whole tree"}
    end.

up(Config) ->
    {ok, _} = application:ensure_all_started(inets),
    Scripts = filename:join(proplists:get_value(priv_dir, Config), "scripts"),
    ok = file:make_dir(Scripts),
    [Greet] = [Body || #{language := "lua", body := Body}
                           <- blocks("docs/scripts.md")],
    ok = file:write_file(filename:join(Scripts, "greet.lua"), Greet),
    Port = free_port(),
    Bed = queue_bed:up(Config, #{args => ["--http", integer_to_list(Port)]}),
    Env = queue_bed:env(Bed, #{}) ++ [{"LLM_ROUTER_SCRIPTS_PATH", Scripts}],
    Up = bed:start_router(Bed, #{env => Env}),
    queue_bed:await_stats(Up, state, up),
    [{port, Port} | Up].

end_per_suite(Config) ->
    queue_bed:down(Config).

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% ------------------------------------------------------------------ files

path(File) ->
    filename:join(router:project(), File).

read(File) ->
    {ok, Text} = file:read_file(path(File)),
    Text.

%% All that is documentation, by its name in the project.
documents() ->
    ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md",
     "bench/README.md"
     | ["docs/" ++ F || F <- filelib:wildcard("**/*.md", path("docs")),
                        not lists:prefix("examples/", F)]].

blocks(File) ->
    markdown:blocks(read(File)).

%% [{File, Block}] of all blocks that have a language.
blocks() ->
    [{File, Block} || File <- documents(),
                      #{language := L} = Block <- blocks(File), L =/= ""].

of_language(Language) ->
    [{File, Block} || {File, #{language := L} = Block} <- blocks(),
                      L =:= Language].

%% All that a pattern captures in a text.
captured(Text, Pattern) ->
    case re:run(Text, Pattern, [global, multiline,
                                {capture, all_but_first, list}]) of
        {match, Found} -> lists:usort([F || [F] <- Found]);
        nomatch -> []
    end.

is_quoted(Name, Text) ->
    binary:match(Text, iolist_to_binary([$`, Name, $`])) =/= nomatch.

%% --------------------------------------------------------------- examples

%% {File, Language, how the block begins, how it is known to be right}:
%%     run            here: run_erlang/2, the_elixir_script/1
%%     {run, Code}    the same, with some lines behind it
%%     {runs_in, Suite, Case}
%%     {keys, Of}     it shows the keys of a value: shown/2
%%     config         a configuration file
%%     queue          a message of the queue
%%     json           nothing but JSON
%%     {parsed, Why}  it can be read, and is not run, because
%%     {form, Why}    it cannot even be read
%% Of sh there are no rows: all of it is run, see shell_examples_run/1.
examples() ->
    [{"README.md", "elixir", "router =",
      {runs_in, readme_SUITE, the_elixir_examples_run}},
     {"README.md", "erlang", "Router =",
      {runs_in, readme_SUITE, the_erlang_examples_run}},
     {"docs/calling.md", "erlang", "Tools =",
      {runs_in, structured_SUITE, the_example_of_tools_in_the_docs_runs}},
     {"docs/calling.md", "erlang", "{ok, #{response_id := Id}}", run},
     {"docs/calling.md", "erlang", "ok = gen_server:call(Router, {watch_task",
      run},
     {"docs/calling.md", "erlang", "{llm_router_telemetry,",
      {form, "two messages; telemetry_SUITE gets them"}},
     {"docs/calling.md", "erlang", "#{id => 1,", {keys, task}},
     {"docs/calling.md", "erlang", "#{task_id =>", {keys, analysis}},
     {"docs/calling.md", "erlang", "#{text =>", {keys, response}},
     {"docs/calling.md", "erlang", "#{route =>", {keys, full}},
     {"docs/beam.md", "elixir", "# mix.exs",
      {parsed, "dependency_SUITE builds docs/examples/mix_project"}},
     {"docs/beam.md", "erlang", "%% rebar.config",
      {parsed, "dependency_SUITE builds docs/examples/rebar3_project"}},
     {"docs/beam.md", "elixir", "config :llm_router,\n  config:",
      {parsed, "dependency_SUITE has such a one in a project"}},
     {"docs/beam.md", "erlang", "{llm_router,",
      {parsed, "dependency_SUITE has such a one in a project"}},
     {"docs/beam.md", "erlang", "{ok, #{title := Title}}",
      {runs_in, client_SUITE, the_documented_erlang_examples_run}},
     {"docs/beam.md", "elixir", "{:ok, %{title: title}}",
      {runs_in, client_SUITE, its_documentation_is_true}},
     {"docs/beam.md", "elixir", ":medium",
      {runs_in, client_SUITE, its_documentation_is_true}},
     {"docs/beam.md", "erlang", "{ok, #{usage := Usage}",
      {runs_in, client_SUITE, the_documented_erlang_examples_run}},
     {"docs/beam.md", "elixir", ":telemetry.attach(",
      {parsed, "telemetry_SUITE attaches handlers; the package is not here"}},
     {"docs/beam.md", "elixir", "config :llm_router, relay:",
      {parsed, "relay_SUITE calls so; Horde is not here"}},
     {"docs/beam.md", "erlang", "Ref = make_ref(),",
      {parsed, "partisan_SUITE sends it; Partisan is not here"}},
     {"docs/clustering.md", "elixir", "# Elixir: which routers", run},
     {"docs/clustering.md", "erlang", "%% The same in Erlang.\nRouters", run},
     {"docs/clustering.md", "elixir", "nodes =", run},
     {"docs/clustering.md", "elixir", "defmodule Ask",
      {run, "{:ok, _} = Ask.text(\"Say hello\")"}},
     {"docs/clustering.md", "erlang", "%% The same in Erlang, as a fun", run},
     {"docs/clustering.md", "erlang", "[{server,",
      {runs_in, docs_SUITE, shell_examples_run}},
     {"docs/clustering.md", "erlang", "erlang:set_cookie(", run},
     {"docs/clustering.md", "elixir", "# Elixir, on a node",
      {runs_in, upgrade_SUITE, what_the_documentation_shows_for_elixir_works}},
     {"docs/clustering.md", "erlang", "%% The same in Erlang.\nKnown",
      {runs_in, upgrade_SUITE, what_the_documentation_shows_for_erlang_works}},
     {"docs/queue.md", "elixir", "{:ok, id}",
      {runs_in, queue_beam_SUITE, the_documented_example_runs}},
     {"docs/queue.md", "sql", "GRANT ",
      {runs_in, docs_SUITE, the_rights_for_the_queue_suffice}},
     {"docs/scripts.md", "lua", "-- greet.lua",
      {runs_in, docs_SUITE, elixir_examples_run}},
     {"docs/scripts.md", "elixir", "GenServer.call(", run},
     {"docs/configuration.md", "json", "{\"cookie\":", json},
     {"docs/configuration.md", "json", "{\n  \"providers\":", config},
     {"docs/configuration.md", "json", "{\"providers\":", config},
     {"docs/configuration.md", "json", "{\"routes\":", config},
     {"docs/configuration.md", "json", "{\n  \"allow\":", config},
     {"docs/providers.md", "json", "{\n  \"providers\":", config},
     {"docs/providers.md", "json", "{\n  \"models\":", catalogue},
     {"docs/queue.md", "json", "{\"request_id\": \"6f", queue},
     {"docs/queue.md", "json", "{\"request_id\": \"0a", queue},
     {"docs/queue.md", "json", "{\"request_id\": \"...\"", {keys, result}},
     {"docs/operations.md", "json", "{\"time\":", json}].

every_example_has_one_row(_Config) ->
    Blocks = [B || {_, #{language := L}} = B <- blocks(), L =/= "sh"],
    [?assertMatch({_, _, [_]}, {File, Line, rows(Block)})
     || {File, #{line := Line}} = Block <- Blocks],
    [?assertMatch({_, [_]}, {Row, [B || B <- Blocks, is_of(Row, B)]})
     || Row <- examples()].

rows(Block) ->
    [How || {_, _, _, How} = Row <- examples(), is_of(Row, Block)].

is_of({File, Language, Begin, _}, {File, #{language := Language, body := B}}) ->
    lists:prefix(Begin, binary_to_list(B));
is_of(_, _) ->
    false.

%% [{File, Block, How}] of the rows for which Is(How).
examples(Is) ->
    [{File, Block, How} || {File, _} = B <- blocks(), How <- rows(B), Is(How),
                           {_, Block} <- [B]].

every_row_names_a_test_that_is_there(_Config) ->
    [begin
         Source = read(lists:concat(["erlang_test/", Suite, ".erl"])),
         Head = lists:concat(["\n", Case, "("]),
         ?assertNotEqual({Case, nomatch},
                         {Case, binary:match(Source, list_to_binary(Head))})
     end || {_, _, _, {runs_in, Suite, Case}} <- examples()].

examples_that_are_not_run_can_be_parsed(Config) ->
    Parsed = examples(fun({parsed, _}) -> true; (_) -> false end),
    [parse_erlang(Body)
     || {_, #{language := "erlang", body := Body}, _} <- Parsed],
    Elixir = [Body || {_, #{language := "elixir", body := Body}, _} <- Parsed],
    ?assert(length(Elixir) >= 3),
    Script = [["Code.string_to_quoted!(~S'''\n", Body, "''')\n"]
              || Body <- Elixir],
    ok = elixir(Config, "parsed.exs", Script).

parse_erlang(Body) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Body)),
    {ok, _} = erl_parse:parse_exprs(Tokens).

elixir(Config, Name, Script) ->
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, Script),
    {Status, Output} = bed:elixir(Config, File, []),
    ct:log("~ts", [Output]),
    ?assertEqual(0, Status),
    ok.

%% ------------------------------------------------------------------- JSON

json_examples_are_json(_Config) ->
    Blocks = of_language("json"),
    ?assert(length(Blocks) >= 8),
    [?assertMatch(#{}, test_json:decode(string:trim(Body)))
     || {_, #{body := Body}} <- Blocks].

configurations_are_valid(Config) ->
    Files = examples(fun(How) -> How =:= config end),
    ?assert(length(Files) >= 5),
    Keys = key_files(Config),
    [check(Config, re:replace(Body, "/etc/llm_router", Keys, [global]))
     || {_, #{body := Body}, _} <- Files],
    [{_, #{body := Models}, _}] = examples(fun(How) -> How =:= catalogue end),
    File = filename:join(Keys, "models.json"),
    ok = file:write_file(File, Models),
    Catalogue = #{file => list_to_binary(File)},
    check(Config, test_json:encode(#{catalogue => Catalogue})).

%% A folder with the key files that the examples name.
key_files(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "etc"),
    ok = file:make_dir(Dir),
    [begin
         File = filename:join(Dir, Name),
         ok = file:write_file(File, "k"),
         ok = file:change_mode(File, 8#600)
     end || Name <- ["openai.key", "b.key"]],
    Dir.

check(Config, Text) ->
    Dir = proplists:get_value(priv_dir, Config),
    File = filename:join(Dir, "checked.json"),
    ok = file:write_file(File, Text),
    ?assertMatch({0, _, _},
                 router:run(#{node => bed:node_name(checked), cookie => "c",
                              dir => Dir,
                              args => ["--config", File, "--check-config"],
                              env => [{Key, "k"}
                                      || Key <- ["OPENAI_API_KEY", "TEAM_KEY",
                                                 "ANTHROPIC_API_KEY"]]})).

requests_of_the_queue_are_answered(Config) ->
    Messages = examples(fun(How) -> How =:= queue end),
    ?assertMatch([_, _], Messages),
    [?assertMatch(#{<<"status">> := <<"success">>, <<"error">> := null},
                  queue_bed:answer(Config, message(Body)))
     || {_, #{body := Body}, _} <- Messages].

message(Body) ->
    #{<<"request_id">> := Id} = Message = test_json:decode(string:trim(Body)),
    (maps:remove(<<"request_id">>, Message))#{request_id => Id}.

%% A role that has just these does what a router does.
the_rights_for_the_queue_suffice(Config) ->
    Pg = queue_bed:pg(Config),
    [Grants] = [Body || #{language := "sql", body := Body}
                            <- blocks("docs/queue.md")],
    [] = postgres:query(Pg, "CREATE ROLE router LOGIN"),
    [] = postgres:query(Pg, Grants),
    [{"LLM_ROUTER_DATABASE_URL", Owner} | _] = postgres:env(Pg),
    Env = [{"LLM_ROUTER_DATABASE_URL",
            re:replace(Owner, "user=\\S+", "user=router",
                       [{return, list}])}],
    Other = bed:run_router(Config, bed:node_name(router),
                           #{connect => [], args => [], env => Env}),
    Node = router:node(Other),
    queue_bed:await_stats(Config, Node, state, up),
    ok = router:signal(bed:router(Config), "STOP"),
    Answer = queue_bed:answer(Config, queue_bed:chat(<<"hi">>)),
    ok = router:signal(bed:router(Config), "CONT"),
    ?assertMatch(#{<<"status">> := <<"success">>}, Answer),
    ?assertNot(has_logged(Other, "not all is there")),
    {exited, 0} = router:stop(Other).

has_logged(#{stderr := File}, Text) ->
    {ok, Log} = file:read_file(File),
    binary:match(Log, list_to_binary(Text)) =/= nomatch.

%% ----------------------------------------------------------- Erlang, Elixir

is_run(run) -> true;
is_run({run, _}) -> true;
is_run(_) -> false.

erlang_examples_run(Config) ->
    Bindings = [{'Router', {llm_router, bed:node(Config)}},
                {'Prompt', <<"Add a login">>}],
    Blocks = [Body || {_, #{language := "erlang", body := Body}, run}
                          <- examples(fun is_run/1)],
    ?assert(length(Blocks) >= 5),
    [bed:on(bed:caller(Config), fun() -> run_erlang(Body, Bindings) end)
     || Body <- Blocks].

run_erlang(Body, Bindings) ->
    {ok, Expressions} = parse_erlang(Body),
    {value, _, _} = erl_eval:exprs(Expressions, Bindings),
    ok.

elixir_examples_run(Config) ->
    Blocks = [[Body, behind(How)]
              || {_, #{language := "elixir", body := Body}, How}
                     <- examples(fun is_run/1)],
    ?assert(length(Blocks) >= 4),
    Router = atom_to_list(bed:node(Config)),
    Preamble = ["true = Node.connect(:\"", Router, "\")\n"
                "true = Enum.any?(1..200, fn _ ->\n"
                "  Process.sleep(50)\n"
                "  is_pid(:global.whereis_name(:llm_router))\n"
                "end)\n"],
    Functions = [["(fn ->\n", Block, "end).()\n"] || Block <- Blocks],
    ok = elixir(Config, "run.exs", [Preamble, Functions]).

behind(run) -> [];
behind({run, Code}) -> [Code, "\n"].

%% ------------------------------------------------------------------ shell

%% All of a document's in one shell, in a folder of its own, with programs that
%% stand in where the real ones would go on for ever or change the system: see
%% stand_ins/1. What fails in the background is noted in the file `failed`.
shell_examples_run(Config) ->
    Files = lists:usort([File || {File, _} <- of_language("sh")]),
    ?assert(length(Files) >= 3),
    [run_shell(Config, File) || File <- Files].

run_shell(Config, File) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config),
                        filename:basename(File, ".md")),
    Bin = filename:join(Dir, "bin"),
    ok = filelib:ensure_path(filename:join(Dir, "priv")),
    ok = filelib:ensure_path(Bin),
    [stand_in(filename:join(Bin, Name), Text)
     || {Name, Text} <- stand_ins(Config)],
    ok = file:make_symlink("../bin/llm_router",
                           filename:join([Dir, "priv", "llm_router"])),
    [ok = file:write_file(filename:join(Dir, "ssl_dist.conf"), Body)
     || #{language := "erlang", body := <<"[{server,", _/binary>> = Body}
            <- blocks(File)],
    Script = [Body || #{language := "sh", body := Body} <- blocks(File)],
    ok = filelib:ensure_path(filename:join(Dir, "etc/llm_router/credentials")),
    ok = file:write_file(filename:join(Dir, "script"), local(Dir, Script)),
    {Status, Output} = sh(Dir, Bin, Config),
    ct:log("~ts", [Output]),
    ?assertEqual({File, 0}, {File, Status}),
    ?assertEqual({File, {error, enoent}},
                 {File, file:read_file(filename:join(Dir, "failed"))}).

%% Certificates for this host, since nodes here will show them; nothing below
%% the real /etc.
local(Dir, Script) ->
    {ok, Host} = inet:gethostname(),
    Named = re:replace(Script, "^host=web1$", "host=" ++ Host, [multiline]),
    re:replace(Named, " /etc/", [" ", Dir, "/etc/"], [global]).

stand_in(File, Text) ->
    ok = file:write_file(File, ["#!/bin/sh\n", Text]),
    ok = file:change_mode(File, 8#755).

stand_ins(Config) ->
    Note = " || { echo \"$0 $*\" >>\"$FAILED\"; exit 1; }\n",
    Running = atom_to_list(bed:node(Config)),
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    [%% A router that checks its options only; questions go to the bed's.
     {"llm_router",
      ["case $1 in\n"
       "status | top) shift 3; set -- status --node ", Running, " \"$@\"\n"
       "    export RELEASE_COOKIE=", Cookie, " ;;\n"
       "--migrate) shift; set -- --check-config ;;\n"
       "*) set -- \"$@\" --check-config ;;\n"
       "esac\n",
       router:program(), " \"$@\"", Note]},
     %% Targets that are there.
     {"make",
      ["for target in \"$@\"; do\n"
       "    case $target in *=*) continue ;; esac\n"
       "    grep -q \"^$target:\" ", path("Makefile"), Note, "done\n"]},
     {"erl", [os:find_executable("erl"), " \"$@\" -noshell -s init stop",
              Note]},
     {"iex", ["PATH=", os:getenv("PATH"), " elixir \"$@\" -e :ok", Note]}
     | [{Name, ":\n"} || Name <- ["apt", "apt-get", "systemctl"]]].

sh(Dir, Bin, Config) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", "exec sh -eu script </dev/null"]},
                      {cd, Dir},
                      {env, [{"PATH", Bin ++ ":" ++ os:getenv("PATH")},
                             {"HOME", Dir}, {"RELEASE_COOKIE", Cookie},
                             {"OPENAI_API_KEY", "k"},
                             {"FAILED", filename:join(Dir, "failed")}]},
                      binary, exit_status, stderr_to_stdout]),
    output(Port, []).

output(Port, Acc) ->
    receive
        {Port, {data, Data}} -> output(Port, [Acc | Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Acc)}
    end.

%% -------------------------------------------------------- values and keys

%% Each key of a real value is in the block, by its name.
values_have_the_keys_that_are_shown(Config) ->
    Blocks = examples(fun({keys, _}) -> true; (_) -> false end),
    ?assertEqual(5, length(Blocks)),
    [?assertEqual({Of, []}, {Of, keys(real(Of, Config)) -- words(Body)})
     || {_, #{body := Body}, {keys, Of}} <- Blocks].

words(Body) ->
    captured(Body, "\\b([a-z_]+)\\b").

%% Those of the maps in it, too.
keys(Map) when is_map(Map) ->
    lists:usort(lists:append([[name(K) | keys(V)]
                              || {K, V} <- maps:to_list(Map)]));
keys([_ | _] = List) ->
    lists:usort(lists:append([keys(V) || V <- List]));
keys(_) ->
    [].

name(Atom) when is_atom(Atom) -> atom_to_list(Atom);
name(Binary) -> binary_to_list(Binary).

real(task, Config) ->
    {ok, Task} = bed:call(Config, {generate_task, <<"Add a login">>}),
    Task;
real(analysis, Config) ->
    task_model(Config, {analyze_complexity, [<<"Add a login">>]}, fun(Value) ->
        [Analysis] = Value,
        Analysis
    end);
real(response, Config) ->
    {ok, Response} = bed:call(Config, {call_with_prompt, simple, <<"hi">>}),
    Response;
real(full, Config) ->
    {ok, #{route := _, tried := _} = Full} =
        bed:call(Config, {parse_prd, <<"# A\n\n- b\n- c\n">>, 2,
                          #{return => full}}),
    maps:with([route, tried, sources, coverage], Full);
real(result, Config) ->
    queue_bed:answer(Config, queue_bed:chat(<<"hi">>)).

%% What a model says that does as it is told.
task_model(Config, Operation, Take) ->
    ok = queue_bed:handle(Config, fun task_model:answer/1),
    {ok, Value} = bed:call(Config, Operation),
    ok = queue_bed:handle(Config, fun scripted_model:from_document/1),
    Take(Value).

%% ------------------------------------------------------------------ links

every_link_leads_somewhere(_Config) ->
    Links = [{File, Link} || File <- documents(),
                             Link <- markdown:links(read(File)),
                             string:find(Link, "://") =:= nomatch],
    ?assert(length(Links) > 150),
    ?assertEqual([], [L || L <- Links, not leads_somewhere(L)]).

leads_somewhere({File, "#" ++ Anchor}) ->
    has_anchor(File, Anchor);
leads_somewhere({File, Link}) ->
    [Path | Anchor] = string:split(Link, "#"),
    Target = filename:join(filename:dirname(File), Path),
    filelib:is_file(path(Target))
        andalso (Anchor =:= [] orelse has_anchor(Target, hd(Anchor))).

has_anchor(File, Anchor) ->
    lists:member(Anchor, markdown:anchors(read(File))).

%% By parts of their names, for they are not to be named here either.
no_host_of_a_package_registry_and_no_path_of_this_machine_is_named(_Config) ->
    Registry = "(npmjs|pypi|pythonhosted|rubygems|crates|hex|golang|"
        "debian|ubuntu)\\.(org|com|io|pm|net|dev)\\b",
    Here = ["/root/", "/home/", router:project()],
    [begin
         Text = read(File),
         ?assertEqual({File, nomatch}, {File, re:run(Text, Registry)}),
         [?assertEqual({File, Path, nomatch},
                       {File, Path, binary:match(Text, list_to_binary(Path))})
          || Path <- Here]
     end || File <- documents()].

every_page_is_linked_to_by_the_readme(_Config) ->
    Links = [hd(string:split(Link, "#"))
             || Link <- markdown:links(read("README.md"))],
    Pages = ["docs/" ++ F || F <- filelib:wildcard("*.md", path("docs"))],
    ?assertEqual([], [P || P <- ["docs/alarms/README.md" | Pages],
                           not lists:member(P, Links)]).

%% ------------------------------------------------- what there is, is there

every_option_is_documented(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    {0, Help, _} = router:run(#{node => bed:node_name(help), cookie => "c",
                                dir => Dir, args => ["--help"]}),
    Options = captured(Help, "^  (--[a-z-]+)"),
    ?assert(length(Options) >= 15),
    Documented = [read("docs/configuration.md"), read("docs/operations.md")],
    ?assertEqual([], [O || O <- Options,
                           binary:match(iolist_to_binary(Documented),
                                        list_to_binary(O)) =:= nomatch]).

every_operation_is_documented(_Config) ->
    Names = captured(read("include/llm_router/core/request.h"),
                     "X\\(OP_[A-Z_]+, \"([a-z_]+)\""),
    ?assert(length(Names) >= 30),
    Calling = read("docs/calling.md"),
    ?assertEqual([], [N || N <- Names, not is_quoted(N, Calling),
                           binary:match(Calling, iolist_to_binary(["`{", N]))
                               =:= nomatch]).

every_error_is_documented(_Config) ->
    Codes = captured(read("include/llm_router/base/error.h"),
                     "X\\(ERR_[A-Z_]+, \"([a-z_]+)\""),
    ?assert(length(Codes) >= 20),
    ?assertEqual(Codes, captured(read("docs/errors.md"),
                                 "^\\| `([a-z_]+)` \\|.*\\| (?:yes|no) \\|$")).

every_figure_of_stats_is_documented(Config) ->
    [_, Section] = binary:split(read("docs/operations.md"), <<"\n## stats\n">>),
    [Table, _] = binary:split(Section, <<"\n## ">>),
    ?assertEqual([], [K || K <- keys(maps:map(fun flat/2,
                                              bed:call(Config, stats))),
                           not is_quoted(K, Table)]).

%% Names of operations, nodes, providers and models are no names of ours.
flat(Key, Value) when Key =:= pgmq; Key =:= queue -> Value;
flat(_Key, _Value) -> [].

every_member_of_the_status_document_is_documented(Config) ->
    [_, Section] = binary:split(read("docs/operations.md"),
                                <<"\n### The status document\n">>),
    [Table | _] = binary:split(Section, <<"\n## ">>),
    Members = keys(status_document(Config)),
    ?assertEqual([], [M || M <- Members, not is_quoted(M, Table)]).

status_document(Config) ->
    {ok, _} = bed:call(Config, {call_with_prompt, simple, <<"hi">>}),
    {error, _} = bed:call(Config, {call_with_prompt, simple, <<"hi">>,
                                   #{timeout => -1}}),
    test_json:decode(bed:call(Config, status)).

every_message_of_the_log_is_documented(_Config) ->
    Sources = filelib:wildcard("c_src/{dist,http,pg,loop,service,config,web,"
                               "base}/*.c", path("")),
    Messages = lists:usort(lists:append(
                 [captured(read(F), "log_event\\(\\s*[^,;]*LOG_(?:ERROR|WARN|"
                           "INFO)[^,;]*,\\s*\"[a-z]+\",\\s*\"([^\"]+)\",")
                  || F <- Sources])),
    ?assert(length(Messages) > 40),
    Manual = read("docs/operations.md"),
    ?assertEqual([], [M || M <- Messages, not is_quoted(M, Manual)]).

%% ----------------------------------------------------------------- alarms

alarms() ->
    captured(read(?RULES), "^ +- alert: (\\w+)$").

every_alarm_has_its_page(_Config) ->
    Alarms = alarms(),
    ?assert(length(Alarms) >= 20),
    Pages = [filename:basename(F, ".md")
             || F <- filelib:wildcard("Llm*.md", path(?ALARMS))],
    ?assertEqual(Alarms, lists:sort(Pages)),
    ?assertEqual(Alarms, captured(read(?RULES),
                                  "^ +runbook: docs/alarms/(\\w+)\\.md$")),
    ?assertEqual(Alarms, captured(read(?ALARMS ++ "/README.md"),
                                  "^\\| \\[(\\w+)\\]")).

every_page_of_an_alarm_has_its_parts(_Config) ->
    [begin
         Text = read(filename:join(?ALARMS, Alarm ++ ".md")),
         ?assertMatch([_, "what-it-means", "what-callers-see", "how-to-look",
                       "what-to-do", "when-it-is-no-worry"],
                      markdown:anchors(Text)),
         %% It fits a screen.
         Lines = length(binary:matches(Text, <<"\n">>)),
         ?assert({Alarm, Lines} =< {Alarm, 50})
     end || Alarm <- alarms()].

every_metric_in_an_alarm_is_there(Config) ->
    {ok, _} = bed:call(Config, {call_with_prompt, simple, <<"hi">>}),
    %% Some are known once the database was asked.
    try bed:eventually(fun() -> missing(Config) =:= [] end)
    catch error:{not_within_ms, _} -> ?assertEqual([], missing(Config))
    end.

missing(Config) ->
    Metrics = metrics(Config),
    Names = captured(read(?RULES),
                     "\\b((?:llm_router|gen_ai_client|process)_\\w+)"),
    ?assert(length(Names) >= 20),
    Suffixes = "(_bucket|_sum|_count)?$",
    %% Those of certificates are looked at in tls_SUITE.
    [N || N <- Names,
          string:prefix(N, "llm_router_tls_") =:= nomatch,
          not maps:is_key(N, Metrics),
          not maps:is_key(re:replace(N, Suffixes, "", [{return, list}]),
                          Metrics)].

metrics(Config) ->
    Url = lists:concat(["http://127.0.0.1:", proplists:get_value(port, Config),
                        "/metrics"]),
    {ok, {{_, 200, _}, _, Text}} =
        httpc:request(get, {Url, []}, [], [{body_format, binary}]),
    prometheus:parse(Text).
