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
%% A program in a tree of somebody's own has its configuration from there.
config_change(Changed, New, Removed) ->
    Config = case lists:keyfind(config, 1, Changed ++ New) of
                 {config, Given} -> {ok, Given};
                 false -> lists:member(config, Removed)
             end,
    case {Config, is_ours(whereis(llm_router_program))} of
        {{ok, Value}, true} -> configure(Value);
        {true, true} -> configure(#{});
        _ -> ok
    end.

is_ours(Program) ->
    is_pid(Program)
        andalso application:get_env(llm_router, mode) =/= {ok, none}.

configure(Config) ->
    case llm_router_program:configure(Config) of
        ok ->
            ok;
        {error, Reason} ->
            logger:error("the new configuration is refused: ~tp", [Reason],
                         #{domain => [llm_router]})
    end.
