%% In the place of telemetry: keeps the events that it is given.
-module(telemetry_standin).

-export([execute/3]).
-export([start/0, clear/0, events/0]).

-type event() :: {[atom()], map(), map()}.

%% The table's owner stays, so that this may be called by a passing process.
-spec start() -> ok.
start() ->
    Self = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
                         ?MODULE = ets:new(?MODULE, [named_table, public,
                                                     ordered_set]),
                         Self ! {self(), started},
                         receive never -> ok end
                     end),
    receive
        {Pid, started} -> demonitor(Monitor, [flush]), ok;
        {'DOWN', Monitor, process, Pid, _} -> clear()
    end.

-spec clear() -> ok.
clear() ->
    true = ets:delete_all_objects(?MODULE),
    ok.

-spec execute([atom()], map(), map()) -> ok.
execute(Event, Measurements, Metadata) ->
    Key = erlang:unique_integer([monotonic]),
    true = ets:insert(?MODULE, {Key, {Event, Measurements, Metadata}}),
    ok.

%% In the order in which they came.
-spec events() -> [event()].
events() ->
    [Event || {_, Event} <- ets:tab2list(?MODULE)].
