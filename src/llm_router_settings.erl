%% @doc The options of one of the application's parts: `telemetry', `relay' or
%% `partisan'.
%%
%% docs/beam.md says what each means.
-module(llm_router_settings).

-export([get/2]).

%% @doc What the option `Key' says over the defaults: `true' nothing, a list or
%% map some of them; `none' if it is `false' or not there. Raises `{bad_option,
%% Key, Text}' for what there is not, and for a wrong value.
-spec get(telemetry | relay | partisan, #{atom() => term()}) ->
          none | #{atom() => term()}.
get(Key, Options) ->
    case maps:get(Key, Options, false) of
        false -> none;
        true -> defaults(Key);
        #{} = Given -> over(Key, Given);
        Given -> over(Key, maps:from_list(Given))
    end.

defaults(telemetry) ->
    #{scope => node, summary_ms => 60000};
defaults(relay) ->
    #{registry => none, key => llm_router, value => node,
      max_requests => 50000};
defaults(partisan) ->
    #{channel => task_ops, name => llm_router_partisan}.

over(Key, Given) ->
    Defaults = defaults(Key),
    maps:foreach(fun(Name, Value) ->
                     case is_map_key(Name, Defaults) of
                         false -> wrong(Key, "there is no option", Name);
                         true -> check(Key, Name, Value)
                     end
                 end, Given),
    maps:merge(Defaults, Given).

check(Key, Name, Value) ->
    case is_right(Name, Value) of
        true -> ok;
        false -> wrong(Key, "this cannot be its", {Name, Value})
    end.

-spec wrong(atom(), string(), term()) -> no_return().
wrong(Key, Text, What) ->
    Said = io_lib:format("~s ~0tp", [Text, What]),
    error({bad_option, Key, unicode:characters_to_binary(Said)}).

is_right(scope, Scope) -> Scope =:= node orelse Scope =:= cluster;
is_right(summary_ms, Ms) -> is_integer(Ms) andalso Ms > 0;
is_right(registry, Registry) -> is_atom(Registry);
is_right(key, _) -> true;
is_right(value, Value) -> Value =:= node orelse Value =:= map;
is_right(max_requests, Max) -> is_integer(Max) andalso Max > 0;
is_right(channel, Channel) -> is_atom(Channel);
is_right(name, Name) -> is_atom(Name).
