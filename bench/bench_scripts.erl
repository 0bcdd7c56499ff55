%% What a prompt script of 20 lines costs: a call with it against a call with
%% the text that it makes.
-module(bench_scripts).

-export([sections/1]).

-import(bench_rig, [with_router/4, router_node/1, rounds/3, compare/4, config/3,
                    median/1, window/4]).

-define(CALL_MS, 2000).
-define(GOAL_US, 200).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(#{dir := Dir} = Rig) ->
    Folder = filename:join(Dir, "scripts"),
    File = filename:join(Folder, "review.lua"),
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, script()),
    Args = config(Rig, "scripts.json",
                  #{scripts =>
                        #{path => unicode:characters_to_binary(Folder)}}),
    [{"call_with_script, a script of 20 lines, against call_with_prompt",
      with_router(Rig, [], #{args => Args}, fun rows/1)}].

rows(Rig) ->
    Server = {llm_router, router_node(Rig)},
    Alone = measure(Rig, Server, 1),
    Some = measure(Rig, Server, 32),
    Added = median([With - Without || {#{median_us := With},
                                       #{median_us := Without}} <- Alone]),
    [compare("1 caller, median (us)", median_us, Alone, none),
     {"1 caller, added by the script (us)", Added, none, none, ?GOAL_US},
     compare("32 callers (calls/s)", calls_per_s, Some, none)].

measure(Rig, Server, Callers) ->
    Scripted = {call_with_script, <<"review.lua">>, context()},
    Plain = {call_with_prompt, medium, text()},
    rounds(io_lib:format("scripts, ~b callers", [Callers]),
           fun() ->
                   window(Rig, {call, Server, Scripted}, Callers, ?CALL_MS)
           end,
           fun() -> window(Rig, {call, Server, Plain}, Callers, ?CALL_MS) end).

context() ->
    #{language => <<"C">>, author => <<"Ada">>,
      files => [#{path => <<"a.c">>, added => 10, removed => 2},
                #{path => <<"b.c">>, added => 1, removed => 0},
                #{path => <<"c.h">>, added => 3, removed => 3}]}.

text() ->
    <<"Review this change by Ada.\na.c: 10 added, 2 removed\n"
      "b.c: 1 added, 0 removed\nc.h: 3 added, 3 removed\n14 lines in all.">>.

script() ->
    "local lines, added = {}, 0\n"
    "\n"
    "local function add(text)\n"
    "  lines[#lines + 1] = text\n"
    "end\n"
    "\n"
    "add('Review this change by ' .. context.author .. '.')\n"
    "for _, file in ipairs(context.files) do\n"
    "  add(string.format('%s: %d added, %d removed', file.path,\n"
    "                    file.added, file.removed))\n"
    "  added = added + file.added\n"
    "end\n"
    "add(added .. ' lines in all.')\n"
    "\n"
    "if context.language == 'C' then\n"
    "  system('You know C and its traps.')\n"
    "end\n"
    "user(table.concat(lines, '\\n'))\n"
    "options.complexity = added > 500 and 'complex' or 'medium'\n"
    "options.temperature = 0\n".
