%% @doc The options of the application: its environment, what is given instead,
%% and defaults.
%%
%% docs/beam.md says what each means.
-module(llm_router_env).

-export([options/0, options/1, sealed/1, located/1, store/1]).
-export([variables/1, config/1]).
-export_type([options/0, given/0]).

-type given() :: #{atom() => term()} | [{atom(), term()}].
-type options() ::
        #{mode := supervised | external | none,
          node := node() | undefined,
          config := none | {file, file:filename_all()}
                  | {map, llm_router_json:value()},
          env := fun(() -> map() | [{term(), term()}]),
          args := [string() | binary()],
          program := file:filename_all() | undefined,
          connect := [node()] | undefined,
          start_timeout := pos_integer(),
          shutdown := pos_integer(),
          intensity := {non_neg_integer(), pos_integer()},
          telemetry := boolean() | given(),
          relay := boolean() | given(),
          partisan := boolean() | given(),
          registry => module()}.

-define(OPTIONS, {llm_router, options}).

%% @doc The options that the application's environment gives.
-spec options() -> options().
options() ->
    options(#{}).

%% @doc The same with others over them. Raises `{bad_option, Key, Wanted}'.
-spec options(given()) -> options().
options(Given) ->
    Merged = maps:merge(environment(), to_map(Given)),
    case maps:keys(Merged) -- [registry | maps:keys(defaults())] of
        [] -> checked(maps:merge(defaults(), Merged));
        [Key | _] -> error({bad_option, Key, <<"there is no such option">>})
    end.

environment() ->
    maps:from_list([{Key, Value}
                    || {Key, Value} <- application:get_all_env(llm_router),
                       Key =/= included_applications]).

to_map(Given) when is_map(Given) -> Given;
to_map(Given) when is_list(Given) -> maps:from_list(Given).

defaults() ->
    #{mode => supervised, node => undefined, config => none, env => [],
      args => [], program => undefined, connect => undefined,
      start_timeout => 10000, shutdown => 35000, intensity => {5, 60},
      telemetry => true, relay => false, partisan => false}.

checked(Options) ->
    maps:map(fun check/2, Options).

check(Key, Value) ->
    try
        value(Key, Value)
    catch
        error:Fault when Fault =:= function_clause; Fault =:= badarg ->
            error({bad_option, Key, wanted(Key)})
    end.

value(mode, Mode)
  when Mode =:= supervised; Mode =:= external; Mode =:= none -> Mode;
value(Key, Nothing)
  when (Nothing =:= nil orelse Nothing =:= undefined),
       (Key =:= node orelse Key =:= program orelse Key =:= connect) ->
    undefined;
value(node, Node) when is_atom(Node) -> node_name(Node);
value(config, Config) -> config(Config);
value(env, Env) -> sealed_env(Env);
value(args, Args) when is_list(Args) -> [text(Arg) || Arg <- Args];
value(program, Path) -> text(Path);
value(connect, Nodes) when is_list(Nodes) -> [node_name(N) || N <- Nodes];
value(start_timeout, Ms) when is_integer(Ms), Ms > 0 -> Ms;
value(shutdown, Ms) when is_integer(Ms), Ms > 0 -> Ms;
value(intensity, {Restarts, Seconds} = Intensity)
  when is_integer(Restarts), Restarts >= 0, is_integer(Seconds), Seconds > 0 ->
    Intensity;
value(Key, Switch)
  when (Key =:= telemetry orelse Key =:= relay orelse Key =:= partisan),
       (is_boolean(Switch) orelse is_list(Switch) orelse is_map(Switch)) ->
    _ = llm_router_settings:get(Key, #{Key => Switch}),
    Switch;
value(registry, Module) when is_atom(Module) -> Module.

wanted(mode) -> <<"must be supervised, external or none">>;
wanted(node) -> <<"must be a node name, NAME@HOST">>;
wanted(config) -> <<"must be a map, or the path of a file">>;
wanted(env) -> <<"must be a map or list of names and values">>;
wanted(args) -> <<"must be a list of texts">>;
wanted(program) -> <<"must be the path of a file">>;
wanted(connect) -> <<"must be a list of node names">>;
wanted(start_timeout) -> <<"must be a number of milliseconds">>;
wanted(shutdown) -> <<"must be a number of milliseconds">>;
wanted(intensity) -> <<"must be {Restarts, Seconds}">>;
wanted(registry) -> <<"must be a module">>;
wanted(_) -> <<"must be true, false or a list of options">>.

node_name(Node) when is_atom(Node) ->
    case string:split(atom_to_binary(Node), "@") of
        [<<_, _/binary>>, <<_, _/binary>>] -> Node;
        _ -> error(function_clause)
    end.

text(Text) when is_binary(Text) ->
    Text;
text([C | _] = Text) when is_integer(C) ->
    Text.

%% @doc What the option `config' means.
-spec config(term()) -> none | {file, file:filename_all()}
                        | {map, llm_router_json:value()}.
config(Nothing)
  when Nothing =:= none; Nothing =:= nil; Nothing =:= undefined;
       Nothing =:= [] -> none;
config({file, _} = Given) -> Given;
config({map, _} = Given) -> Given;
config(Map) when is_map(Map) -> {map, Map};
config([{_, _} | _] = Pairs) -> {map, Pairs};
config(Path) -> {file, text(Path)}.

%% @doc The same options, with variables that no report of a supervisor
%% shows: there may be keys among them.
-spec sealed(given()) -> #{atom() => term()}.
sealed(Given) ->
    case to_map(Given) of
        #{env := Env} = Map -> Map#{env := sealed_env(Env)};
        Map -> Map
    end.

sealed_env(Env) when is_function(Env, 0) -> Env;
sealed_env(Env) when is_map(Env); is_list(Env) -> fun() -> Env end.

%% @doc The variables for the program, as open_port/2 takes them. Raises
%% `{bad_option, env, Wanted}' and nothing else: there may be keys in what is
%% wrong.
-spec variables(options()) -> [{string(), string() | false}].
variables(#{env := Env}) ->
    try
        [{to_string(Name), variable(Value)}
         || {Name, Value} <- maps:to_list(to_map(Env()))]
    catch
        _:_ -> error({bad_option, env, wanted(env)})
    end.

variable(Unset) when Unset =:= false; Unset =:= nil -> false;
variable(Value) -> to_string(Value).

to_string(Atom) when is_atom(Atom) -> atom_to_list(Atom);
to_string(Number) when is_integer(Number) -> integer_to_list(Number);
to_string(Text) ->
    case unicode:characters_to_list(Text) of
        Characters when is_list(Characters) -> Characters
    end.

%% @doc The same with the names that depend on this node's own, once it has
%% one, and with the program's path.
-spec located(options()) -> options().
located(#{mode := supervised} = Options) ->
    maps:map(fun(node, undefined) -> router_node();
                (connect, undefined) -> connect();
                (program, undefined) -> program();
                (_, Value) -> Value
             end, Options);
located(Options) ->
    Options.

%% Two nodes on one host have a router each.
router_node() ->
    case is_alive() of
        true -> list_to_atom("llm_router_" ++ atom_to_list(node()));
        false -> undefined
    end.

connect() ->
    case is_alive() of
        true -> [node()];
        false -> undefined
    end.

program() ->
    case code:priv_dir(llm_router) of
        {error, bad_name} -> error({bad_option, program, wanted(program)});
        Dir -> filename:join(Dir, "llm_router")
    end.

%% @doc Puts what clients look at where they find it: the persistent term
%% `{llm_router, options}'.
-spec store(options()) -> ok.
store(Options) ->
    persistent_term:put(?OPTIONS, maps:remove(env, Options)).
