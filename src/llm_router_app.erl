%% @doc The application: a supervised router, or the way to one that runs
%% elsewhere.
-module(llm_router_app).
-behaviour(application).

-export([start/2, stop/1, config_change/3]).

%% @private
start(_Type, _Args) ->
    try llm_router_env:options() of
        #{mode := none} -> llm_router_sup:start_empty();
        _ -> llm_router_sup:start_link()
    catch
        error:{bad_option, _, _} = Reason -> {error, Reason}
    end.

%% @private
stop(_State) ->
    ok.

%% @private A new configuration is taken over; all else is read at start only.
config_change(Changed, New, Removed) ->
    Config = case lists:keyfind(config, 1, Changed ++ New) of
                 {config, Given} -> {ok, Given};
                 false -> lists:member(config, Removed)
             end,
    case {Config, whereis(llm_router_program)} of
        {{ok, Value}, Pid} when is_pid(Pid) -> configure(Value);
        {true, Pid} when is_pid(Pid) -> configure(#{});
        _ -> ok
    end.

configure(Config) ->
    case llm_router_program:configure(Config) of
        ok ->
            ok;
        {error, Reason} ->
            logger:error("the new configuration is refused: ~tp", [Reason],
                         #{domain => [llm_router]})
    end.
