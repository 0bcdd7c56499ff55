%% @doc The C program as a process: starts it as a port, turns what it says into
%% log events, and ends when it ends.
%%
%% The cookie and the configuration go to the program's standard input, never
%% to its command line or environment. When this process dies, however, or the
%% whole node, that input ends, and the program within two seconds.
-module(llm_router_program).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, configure/1, forget/0, os_pid/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([reason/0]).

%% Why it ended: what its exit status means, and its last line of level error.
-type reason() :: {shutdown, drained}
                | {exit_status, configuration | usage | cannot_start
                                | {signal, pos_integer()} | pos_integer(),
                   LastError :: binary()}
                | {start_timeout, Ms :: pos_integer(), LastError :: binary()}
                | {bad_config, Path :: binary(), What :: binary()}
                | {port, term()}.

-define(LOOK_MS, 250).
-define(LINE_BYTES, 4096).
%% Of the time for its end: for killing a program that does not end, and for
%% its last answers to leave when it drains no longer.
-define(KILL_MS, 1000).
-define(CLOSE_MS, 2500).
-define(CONFIG, {?MODULE, config}).
%% Of logfmt, and the pairs behind it: a key, a value with or without quotes.
-define(PAIR, "^([a-z_]+)=("
              "\"(?:[^\"\\\\]++|\\\\[nrt\"\\\\]"
              "|\\\\u(?!d[89a-f])[0-9a-f]{4})*+\""
              "|[^ \"=\\\\]+)(?: (.*))?$").

%% @doc Returns when the program is ready, or when this node is not part of a
%% cluster: then the program starts as soon as it is.
-spec start_link(llm_router_env:options()) ->
          {ok, pid()} | {error, reason() | {already_started, pid()}}.
start_link(Options) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Options, []).

%% @doc Hands another configuration over, a map as in the option `config'. The
%% program takes it over as a whole, or logs why not and keeps the old one; the
%% next start is made with it. `file': a path is read again by the operation
%% `reload'. `busy': the program does not read what it is told.
-spec configure(llm_router_json:value()) ->
          ok | {error, {bad_config, Path :: binary(), What :: binary()}
                       | file | busy}.
configure(Config) ->
    try llm_router_env:config(Config) of
        {file, _} -> {error, file};
        {map, Map} -> gen_server:call(?MODULE, {configure, Map});
        none -> gen_server:call(?MODULE, {configure, #{}})
    catch
        error:function_clause ->
            {error, {bad_config, <<"config">>, <<"must be a map">>}}
    end.

%% @doc The next start is made with the configuration of the options again.
-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?CONFIG),
    ok.

%% @doc The program's process id; `undefined' while it does not run.
-spec os_pid() -> non_neg_integer() | undefined.
os_pid() ->
    gen_server:call(?MODULE, os_pid).

%% @private
init(Options) ->
    process_flag(trap_exit, true),
    State = #{options => Options, port => undefined, os_pid => undefined,
              last_error => <<>>},
    case is_alive() of
        true ->
            launch(State);
        false ->
            ?LOG_WARNING("llm_router waits: this node is not alive. Start it "
                         "with --sname or --name, or call net_kernel:start/2",
                         meta(State, <<"program">>)),
            {ok, await_node(State)}
    end.

%% A node that has just become alive may be about to set its cookie: it is one
%% when it was the same at two looks. (What was seen may be in a crash report.)
await_node(State) ->
    _ = erlang:send_after(?LOOK_MS, self(), look),
    State#{seen => this_node()}.

this_node() ->
    {is_alive(), erlang:phash2({node(), erlang:get_cookie()})}.

%% @private
handle_call({configure, _}, _, #{options := #{config := {file, _}}} = State) ->
    {reply, {error, file}, State};
handle_call({configure, Config}, _, #{port := Port} = State) ->
    case line(#{config => Config}) of
        {ok, Line} ->
            persistent_term:put(?CONFIG, {map, Config}),
            case Port =:= undefined orelse send(Port, Line) of
                true -> {reply, ok, State};
                false -> {reply, {error, busy}, State}
            end;
        Error ->
            {reply, Error, State}
    end;
handle_call(os_pid, _, #{os_pid := OsPid} = State) ->
    {reply, OsPid, State};
handle_call(_, _, State) ->
    {reply, {error, unknown_call}, State}.

%% @private
handle_cast(_, State) ->
    {noreply, State}.

%% @private
handle_info({Port, {data, {_, Line}}}, #{port := Port} = State) ->
    {noreply, said(Line, State)};
handle_info({Port, {exit_status, Status}}, #{port := Port} = State) ->
    {stop, reason(Status, State), gone(State)};
handle_info({'EXIT', Port, Reason}, #{port := Port} = State) ->
    {stop, {port, Reason}, gone(State)};
handle_info(look, #{port := undefined, seen := Seen} = State) ->
    case is_alive() andalso this_node() =:= Seen andalso launch(State) of
        false -> {noreply, await_node(State)};
        {ok, Launched} -> {noreply, Launched};
        {stop, Reason} -> {stop, Reason, State}
    end;
handle_info(_, State) ->
    {noreply, State}.

%% @private
terminate(_, #{port := undefined}) ->
    ok;
terminate(_, #{port := Port, options := #{shutdown := Shutdown}} = State) ->
    Drain = max(0, Shutdown - ?KILL_MS - ?CLOSE_MS),
    {ok, Line} = line(#{stop => Drain}),
    _ = send(Port, Line),
    await_end(State, now_ms() + max(0, Shutdown - ?KILL_MS)).

%% ------------------------------------------------------------------- start

%% The router's name may depend on this node's, which may be new.
launch(#{options := Given} = State) ->
    Options = llm_router_env:located(Given),
    _ = Options =:= Given orelse llm_router_env:store(Options),
    case first_line(Options) of
        {ok, Line} -> launch(open(Options), Line, State#{options := Options});
        {error, Reason} -> {stop, Reason}
    end.

launch({error, Reason}, _, _) ->
    {stop, {port, Reason}};
launch(Port, Line, #{options := #{start_timeout := Ms}} = State) ->
    OsPid = case erlang:port_info(Port, os_pid) of
                {os_pid, Number} -> Number;
                undefined -> undefined
            end,
    _ = send(Port, Line),
    await_ready(State#{port := Port, os_pid := OsPid}, now_ms() + Ms).

open(#{program := Program} = Options) ->
    try
        open_port({spawn_executable, Program},
                  [{args, arguments(Options)},
                   {env, [{"RELEASE_COOKIE", false}
                          | llm_router_env:variables(Options)]},
                   {line, ?LINE_BYTES}, binary, exit_status, use_stdio,
                   stderr_to_stdout, hide])
    catch
        error:Reason -> {error, Reason}
    end.

arguments(#{node := Node, connect := Connect, args := Args} = Options) ->
    ["--supervised", name_option(Node), atom_to_binary(Node)]
        ++ lists:append([["--connect", atom_to_binary(Peer)]
                         || Peer <- Connect])
        ++ case config(Options) of
               {file, File} -> ["--config", File];
               _ -> []
           end
        ++ Args.

name_option(Node) ->
    [_, Host] = string:split(atom_to_binary(Node), "@"),
    case binary:match(Host, <<".">>) of
        nomatch -> "--sname";
        _ -> "--name"
    end.

%% What was configured since the start outlives a restart.
config(#{config := Config}) ->
    persistent_term:get(?CONFIG, Config).

first_line(Options) ->
    Cookie = atom_to_binary(erlang:get_cookie()),
    case config(Options) of
        {map, Config} -> line(#{cookie => Cookie, config => Config});
        _ -> line(#{cookie => Cookie})
    end.

line(#{} = Members) ->
    case llm_router_json:encode(Members) of
        {ok, Text} -> {ok, [Text, $\n]};
        {error, {Path, What}} -> {error, {bad_config, Path, What}}
    end.

await_ready(#{port := Port, options := #{start_timeout := Ms}} = State,
            Deadline) ->
    receive
        {Port, {data, {_, <<"ready ", _/binary>>}}} ->
            {ok, State};
        {Port, {data, {_, Line}}} ->
            await_ready(said(Line, State), Deadline);
        {Port, {exit_status, Status}} ->
            {stop, reason(Status, State)};
        {'EXIT', Port, Reason} ->
            {stop, {port, Reason}};
        {'EXIT', _Parent, Reason} ->
            kill(State),
            {stop, Reason}
    after max(0, Deadline - now_ms()) ->
            kill(State),
            {stop, {start_timeout, Ms, map_get(last_error, State)}}
    end.

%% --------------------------------------------------------------------- end

await_end(#{port := Port} = State, Deadline) ->
    receive
        {Port, {data, {_, Line}}} -> await_end(said(Line, State), Deadline);
        {Port, {exit_status, _}} -> ok;
        {'EXIT', Port, _} -> ok
    after max(0, Deadline - now_ms()) ->
            ?LOG_ERROR("the program does not end and is killed",
                       meta(State, <<"program">>)),
            kill(State)
    end.

%% Its input is still open: it was not waited for, and its number is its own.
kill(#{port := Port, os_pid := OsPid}) ->
    _ = is_integer(OsPid)
        andalso os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    receive
        {Port, {exit_status, _}} -> ok;
        {'EXIT', Port, _} -> ok
    after ?KILL_MS div 2 ->
            try port_close(Port) of
                true -> ok
            catch
                error:badarg -> ok % it has just ended
            end
    end.

gone(State) ->
    State#{port := undefined, os_pid := undefined}.

%% The program's exit codes; the shell's way to tell of signals.
reason(0, _) ->
    {shutdown, drained};
reason(Status, #{last_error := LastError}) ->
    {exit_status, meaning(Status), LastError}.

meaning(1) -> configuration;
meaning(2) -> usage;
meaning(3) -> cannot_start;
meaning(Status) when Status > 128 -> {signal, Status - 128};
meaning(Status) -> Status.

%% False: it does not read, or is gone. Never waits.
send(Port, Line) ->
    try
        port_command(Port, Line, [nosuspend])
    catch
        error:badarg -> false
    end.

now_ms() ->
    erlang:monotonic_time(millisecond).

%% --------------------------------------------------------------------- log

said(Line, State) ->
    {Level, Text, Meta} = parse(Line),
    Printable = printable(Text),
    logger:log(Level, Printable, maps:merge(meta(State, <<"program">>), Meta)),
    case Level of
        error -> State#{last_error := Printable};
        _ -> State
    end.

meta(#{os_pid := undefined}, Component) ->
    #{domain => [llm_router], component => Component};
meta(#{os_pid := OsPid}, Component) ->
    #{domain => [llm_router], component => Component, os_pid => OsPid}.

%% Its lines are logfmt; else they are the program's last words, or those of
%% what it is built with.
parse(<<"llm_router: ", Text/binary>>) ->
    {error, Text, #{}};
parse(Line) ->
    case pairs(Line, []) of
        [{<<"level">>, Level}, {<<"component">>, Component},
         {<<"msg">>, Message} | Fields] ->
            {level(Level), text(Message, Fields),
             #{component => Component,
               fields => maps:from_list([{Key, unquoted(Value)}
                                         || {Key, Value} <- Fields])}};
        _ ->
            {unparsed_level(Line), Line, #{}}
    end.

%% The time is left out: the logger has its own.
pairs(Line, Pairs) ->
    case re:run(Line, ?PAIR, [dotall, {capture, all_but_first, binary}]) of
        {match, [<<"time">>, _, Rest]} -> pairs(Rest, Pairs);
        {match, [Key, Value, Rest]} -> pairs(Rest, [{Key, Value} | Pairs]);
        {match, [Key, Value]} -> lists:reverse(Pairs, [{Key, Value}]);
        nomatch -> none
    end.

%% As a reader of the log wants it: the message, and the fields as they came.
text(Message, Fields) ->
    iolist_to_binary([unquoted(Message)
                      | [[$ , Key, $=, Value] || {Key, Value} <- Fields]]).

unquoted(<<$", Rest/binary>>) ->
    unescaped(binary_part(Rest, 0, byte_size(Rest) - 1), <<>>);
unquoted(Bare) ->
    Bare.

unescaped(Text, Before) ->
    case binary:split(Text, <<$\\>>) of
        [Plain] ->
            <<Before/binary, Plain/binary>>;
        [Plain, <<"u", Code:4/binary, Rest/binary>>] ->
            Point = binary_to_integer(Code, 16),
            unescaped(Rest, <<Before/binary, Plain/binary, Point/utf8>>);
        [Plain, <<Escape, Rest/binary>>] ->
            unescaped(Rest, <<Before/binary, Plain/binary, (escaped(Escape))>>)
    end.

escaped($n) -> $\n;
escaped($r) -> $\r;
escaped($t) -> $\t;
escaped(Itself) -> Itself.

level(<<"error">>) -> error;
level(<<"warn">>) -> warning;
level(<<"info">>) -> info;
level(<<"debug">>) -> debug;
level(_) -> notice.

%% Sanitizers, the C library's checks, the dynamic linker.
unparsed_level(Line) ->
    Signs = ["Sanitizer", "runtime error:", "*** ", "corrupt", "free():",
             "malloc", "Assertion", "error while loading"],
    case binary:match(Line, [list_to_binary(Sign) || Sign <- Signs]) of
        nomatch -> notice;
        _ -> error
    end.

%% A line may be cut within a character.
printable(Text) ->
    case unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        {_, Good, _} -> <<Good/binary, "..."/utf8>>
    end.
