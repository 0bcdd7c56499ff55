%% @doc Turns the router's telemetry messages into events of `telemetry'.
%%
%% `[llm_router, request, start | stop | exception]' with the measurements and
%% metadata that docs/beam.md lists: times in native units, a `monotonic_time'
%% of this node, and the request's id as `telemetry_span_context'. It subscribes
%% at the router that a client here would call, and at the next one when that
%% changes.
%%
%% Where there is no module `telemetry' it logs a line of what there was,
%% every `summary_ms' in which there was something.
%%
%% Options, a list or map in the application's `telemetry': `{scope, node}',
%% the requests of callers on this node, or `{scope, cluster}', all of them;
%% `{summary_ms, 60000}'. `false' starts nothing.
-module(llm_router_telemetry).
-behaviour(gen_server).

-export([start_link/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-include_lib("kernel/include/logger.hrl").

%% Handlers run here: where they are slower than the requests, events are
%% dropped from here on.
-define(MAX_QUEUE, 10000).

%% Durations are counted in classes that are 5 % wide.
-define(CLASSES_PER_E, 20).

-type summary() :: #{requests := non_neg_integer(),
                     failures := #{atom() => pos_integer()},
                     durations := #{integer() => pos_integer()},
                     input_tokens := number(), output_tokens := number(),
                     cost_usd := number()}.

%% @doc Starts it, registered as `llm_router_telemetry'. `Options' are the
%% application's.
-spec start_link(map()) -> gen_server:start_ret().
start_link(Options) ->
    case llm_router_settings:get(telemetry, Options) of
        none -> ignore;
        Settings -> gen_server:start_link({local, ?MODULE}, ?MODULE, Settings,
                                          [])
    end.

%% @private
init(#{scope := Scope, summary_ms := SummaryMs}) ->
    process_flag(message_queue_data, off_heap),
    {ok, Attachment} =
        llm_router_attachment:start_link({telemetry, #{scope => Scope}}),
    {ok, log_later(#{attachment => Attachment, summary_ms => SummaryMs,
                     dropped => 0, sink => sink()})}.

log_later(#{summary_ms := SummaryMs} = State) ->
    erlang:send_after(SummaryMs, self(), log),
    State.

%% Telemetry is no dependency.
sink() ->
    case code:ensure_loaded(telemetry) of
        {module, Telemetry} -> Telemetry;
        {error, _} -> nothing_yet()
    end.

%% @private
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_request}, State}.

%% @private
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
handle_info({llm_router_attachment, Pid,
             {message, {llm_router_telemetry, Event, Measured, Metadata}}},
            #{attachment := Pid, sink := Sink, dropped := Dropped} = State) ->
    {message_queue_len, Waiting} = process_info(self(), message_queue_len),
    case Waiting > ?MAX_QUEUE of
        true -> {noreply, State#{dropped := Dropped + 1}};
        false ->
            {noreply, State#{sink := take(Event, Measured, Metadata, Sink)}}
    end;
handle_info(log, State) ->
    {noreply, log_later(log_summary(log_dropped(State)))};
handle_info(_Message, State) ->
    {noreply, State}.

take(Event, Measured, Metadata, Telemetry) when is_atom(Telemetry) ->
    apply(Telemetry, execute, [Event, measurements(Measured),
                               metadata(Metadata)]),
    Telemetry;
take([llm_router, request, End], Measured, Metadata, Summary)
  when End =:= stop; End =:= exception ->
    count(End, Measured, Metadata, Summary);
take(_Event, _Measured, _Metadata, Summary) ->
    Summary.

measurements(Measured) ->
    Native = maps:map(fun native/2, Measured),
    Native#{monotonic_time => erlang:monotonic_time()}.

native(Name, Value) when Name =:= duration; Name =:= system_time;
                         Name =:= time_to_first_token ->
    erlang:convert_time_unit(Value, nanosecond, native);
native(_Name, Value) ->
    Value.

metadata(#{request_id := Id} = Metadata) ->
    Metadata#{telemetry_span_context => Id};
metadata(Metadata) ->
    Metadata.

log_dropped(#{dropped := 0} = State) ->
    State;
log_dropped(#{dropped := Dropped} = State) ->
    ?LOG_WARNING("~b telemetry events were dropped: handlers are too slow",
                 [Dropped], #{domain => [llm_router]}),
    State#{dropped := 0}.

%% ----------------------------------------------------------------- summary

log_summary(#{sink := #{requests := N} = Summary, summary_ms := Ms} = State)
  when N > 0 ->
    ?LOG_INFO("~ts", [line(Summary, Ms)], #{domain => [llm_router]}),
    State#{sink := nothing_yet()};
log_summary(State) ->
    State.

-spec nothing_yet() -> summary().
nothing_yet() ->
    #{requests => 0, failures => #{}, durations => #{}, input_tokens => 0,
      output_tokens => 0, cost_usd => 0}.

count(End, Measured, Metadata, #{requests := N, failures := Failures,
                                 durations := Durations} = Summary) ->
    Sums = [input_tokens, output_tokens, cost_usd],
    Summed = maps:merge_with(fun(_, Sum, Value) -> Sum + Value end,
                             Summary, maps:with(Sums, Measured)),
    Summed#{requests := N + 1,
            failures := failures(End, Metadata, Failures),
            durations := one_more(class(maps:get(duration, Measured)),
                                  Durations)}.

failures(exception, #{reason := Reason}, Failures) ->
    one_more(Reason, Failures);
failures(stop, _Metadata, Failures) ->
    Failures.

one_more(Key, Counts) ->
    maps:update_with(Key, fun(Count) -> Count + 1 end, 1, Counts).

class(Ns) ->
    round(math:log(max(1, Ns)) * ?CLASSES_PER_E).

class_ms(Class) ->
    math:exp(Class / ?CLASSES_PER_E) / 1000000.

line(#{requests := N, failures := Failures, durations := Durations,
       input_tokens := In, output_tokens := Out, cost_usd := Cost}, Ms) ->
    Classes = lists:sort(maps:to_list(Durations)),
    [io_lib:format("requests: ~b in ~b s, p50 ~.1f ms, p95 ~.1f ms",
                   [N, Ms div 1000, percentile(50, N, Classes),
                    percentile(95, N, Classes)]),
     io_lib:format(", ~b tokens in, ~b out, ~.6f USD", [In, Out, Cost * 1.0]),
     case lists:sum(maps:values(Failures)) of
         0 -> "";
         Failed -> [io_lib:format("; ~b failed: ", [Failed]),
                    lists:join(", ", [io_lib:format("~s ~b", [Reason, Count])
                                      || {Reason, Count} <-
                                             maps:to_list(Failures)])]
     end].

%% In ms, of N durations in sorted classes.
percentile(Percent, N, Classes) ->
    nth_ms((N * Percent + 99) div 100, Classes).

nth_ms(Nth, [{Class, Count} | _]) when Nth =< Count ->
    class_ms(Class);
nth_ms(Nth, [{_Class, Count} | Rest]) ->
    nth_ms(Nth - Count, Rest).
