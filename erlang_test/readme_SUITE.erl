%% What README.md shows works as shown: its ```elixir blocks are one script and
%% its ```erlang blocks one shell session, both on a node beside a router.
%%
%% In the blocks, llm_router@myhost (or any other host) is the router's node.
%% A block after the line <!-- not run: REASON --> is left out.
-module(readme_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [the_elixir_examples_run, the_erlang_examples_run].

init_per_suite(Config) ->
    case file:read_file(filename:join(router:project(), "README.md")) of
        {ok, Readme} -> bed:up([{readme, Readme} | Config], #{});
        {error, enoent} -> {skip, "there is no README.md"}
    end.

end_per_suite(Config) ->
    bed:down(Config).

the_elixir_examples_run(Config) ->
    Router = atom_to_list(bed:node(Config)),
    Blocks = blocks(<<"elixir">>, Config),
    ?assertNotEqual([], Blocks),
    Script = filename:join(proplists:get_value(priv_dir, Config), "readme.exs"),
    Preamble = ["true = Node.connect(:\"", Router, "\")\n"
                "Enum.find(1..100, fn _ ->\n"
                "  Process.sleep(50)\n"
                "  is_pid(:global.whereis_name(:llm_router))\n"
                "end)\n"],
    ok = file:write_file(Script, [Preamble | [[B, "\n"] || B <- Blocks]]),
    {Status, Output} = bed:elixir(Config, Script, []),
    ct:log("~ts", [Output]),
    ?assertEqual(0, Status).

the_erlang_examples_run(Config) ->
    Blocks = blocks(<<"erlang">>, Config),
    ?assertNotEqual([], Blocks),
    bed:on(bed:caller(Config),
           fun() ->
                   lists:foldl(fun run_erlang/2, [], Blocks),
                   ok
           end).

%% Evaluates a block as the shell would; prompts such as "1> " are dropped.
run_erlang(Block, Bindings) ->
    Text = re:replace(Block, "^(\\([^)]*\\))?[0-9]+> ", "",
                      [global, multiline, {return, binary}]),
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
    lists:foldl(fun evaluate/2, Bindings, statements(Tokens, [])).

statements([], []) -> [];
statements([], Rest) -> [lists:reverse(Rest, [{dot, 1}])];
statements([{dot, _} = Dot | Tokens], Acc) ->
    [lists:reverse([Dot | Acc]) | statements(Tokens, [])];
statements([Token | Tokens], Acc) -> statements(Tokens, [Token | Acc]).

evaluate(Tokens, Bindings) ->
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    {value, _, New} = erl_eval:exprs(Expressions, Bindings),
    New.

%% The blocks of one language, in order, with the router's real name.
blocks(Language, Config) ->
    Router = atom_to_binary(bed:node(Config)),
    {match, Found} =
        re:run(proplists:get_value(readme, Config),
               <<"(<!-- not run:[^\\n]*\\n+)?^```", Language/binary,
                 "\\n(.*?)^```">>,
               [global, multiline, dotall, {capture, all_but_first, binary}]),
    [re:replace(Block, "llm_router@[A-Za-z0-9.-]+", Router,
                [global, {return, binary}])
     || [<<>>, Block] <- Found].
