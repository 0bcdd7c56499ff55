%% @doc The options of one of the application's parts: `telemetry', `relay' or
%% `partisan'.
-module(llm_router_settings).

-export([get/3]).

%% @doc What the option `Key' says over `Defaults': `true' nothing, a list or
%% map some of them; `none' if it is `false' or not there. Raises `{bad_option,
%% Key, Text}' for what `Defaults' does not have.
-spec get(atom(), map(), Defaults :: #{atom() => term()}) ->
          none | #{atom() => term()}.
get(Key, Options, Defaults) ->
    case maps:get(Key, Options, false) of
        false -> none;
        true -> Defaults;
        #{} = Given -> over(Defaults, Key, Given);
        Given -> over(Defaults, Key, maps:from_list(Given))
    end.

over(Defaults, Key, Given) ->
    case maps:keys(Given) -- maps:keys(Defaults) of
        [] ->
            maps:merge(Defaults, Given);
        [Unknown | _] ->
            Text = io_lib:format("there is no option ~0tp", [Unknown]),
            error({bad_option, Key, unicode:characters_to_binary(Text)})
    end.
