%% @doc The supervisor of the program and of what stands beside it.
%%
%% Started by the application, unless its `mode' is `none'; or in a tree of your
%% own by {@link child_spec/1}.
-module(llm_router_sup).
-behaviour(supervisor).

-export([child_spec/1, start_link/0, start_link/1, start_empty/0]).
-export([init/1]).

%% @doc For a supervisor of your own; options go before the application's
%% environment.
-spec child_spec(llm_router_env:given()) -> supervisor:child_spec().
child_spec(Given) ->
    #{id => ?MODULE, type => supervisor, shutdown => infinity,
      start => {?MODULE, start_link, [llm_router_env:sealed(Given)]}}.

%% @doc With the options of the application's environment.
-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    start_link(#{}).

%% @doc When it returns the program is ready, or waits for this node to become
%% part of a cluster. `{error, {bad_option, Key, Wanted}}' for a wrong option;
%% the errors of {@link llm_router_program:start_link/1} inside the
%% supervisor's own.
-spec start_link(llm_router_env:given()) -> supervisor:startlink_ret().
start_link(Given) ->
    try llm_router_env:located(llm_router_env:options(Given)) of
        #{mode := none} = Options ->
            start_link(Options#{mode := supervised});
        Options ->
            supervisor:start_link({local, ?MODULE}, ?MODULE, Options)
    catch
        error:{bad_option, _, _} = Reason -> {error, Reason}
    end.

%% @doc Of mode `none': an application must have a process.
-spec start_empty() -> supervisor:startlink_ret().
start_empty() ->
    supervisor:start_link(?MODULE, none).

%% @private
init(none) ->
    {ok, {#{}, []}};
init(#{intensity := {Restarts, Seconds}} = Options) ->
    ok = llm_router_env:store(Options),
    ok = llm_router_program:forget(),
    {ok, {#{strategy => one_for_one, intensity => Restarts, period => Seconds},
          children(Options)}}.

%% The program is the first to be stopped: what it answers while it drains
%% still goes through the others.
children(#{shutdown := Shutdown} = Options) ->
    [#{id => Module, start => {Module, start_link, [Options]}}
     || {Key, Module} <- [{telemetry, llm_router_telemetry},
                          {relay, llm_router_relay},
                          {partisan, llm_router_partisan}],
        map_get(Key, Options) =/= false]
        ++ [#{id => llm_router_program, shutdown => Shutdown,
              start => {llm_router_program, start_link, [Options]}}
            || #{mode := supervised} <- [Options]].
