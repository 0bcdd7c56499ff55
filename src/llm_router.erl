%% @doc The router's client.
%%
%% Every function finds the router ({@link whereis/0}), asks it and returns
%% what it says: `{ok, Value}' or `{error, {Code, Details}}', as docs/calling.md
%% and docs/errors.md describe them. None of them exits: a router that is not
%% there, or goes while it is asked, is `{error, {router_down, Details}}', one
%% that does not answer in time `{error, {timeout, Details}}'.
%%
%% <b>Time.</b> A request takes at most what its option `timeout' says, in
%% milliseconds, else what the router is configured with (5 minutes). The router
%% keeps to that itself and its error says more, so that the limit here is 5 s
%% above the option, and none without it: when the connection is lost the call
%% ends. What asks no provider (`stats', `ping', ...) has 5 s.
%%
%% <b>Options</b> are a map or a property list, with atoms or binaries as keys.
%% The router checks them, and refuses what it does not know.
%%
%% No call leaves a message behind, and when the calling process ends the
%% provider's answer is no longer waited for, nor paid.
-module(llm_router).

-export([generate_task/1, generate_task/2, parse_prd/2, parse_prd/3,
         expand_task/1, expand_task/2,
         analyze_complexity/1, analyze_complexity/2,
         research/2, research/3]).
-export([call/2, call/3, call_with_prompt/2, call_with_prompt/3,
         call_with_system/3, call_with_system/4,
         call_with_script/2, call_with_script/3,
         embed/1, embed/2, select_model/2, select_model/3]).
-export([stream/2, stream/3, stream_fold/5,
         stream_open/3, stream_next/1, stream_close/1]).
-export([enqueue/1, enqueue/2, await/1, await/2, result/1, cancel/1,
         watch_task/1, unwatch_task/1]).
-export([stats/0, status/0, health/0, version/0, models/0, ping/0, whereis/0,
         request/1, request/2]).

-export_type([text/0, complexity/0, message/0, tool_call/0, options/0,
              operation/0, task/0, analysis/0, findings/0, response/0,
              embeddings/0, selection/0, usage/0, finish_reason/0, full/1,
              strings/0, result/1, reason/0, code/0, details/0,
              request_id/0, task_id/0, server/0, stream/0]).

%% How much longer than the router a caller waits, and for what is said at once.
-define(MARGIN_MS, 5000).

%% The most that the router takes as `timeout'.
-define(MAX_TIMEOUT_MS, 3600000).

-type text() :: unicode:chardata().
%% In UTF-8; integers in lists are code points.

-type complexity() :: simple | medium | complex | text().
%% Or the id of a model.

-type message() :: #{atom() | binary() => term()}
                 | [{atom() | binary(), term()}]
                 | {Role :: atom() | text(), Content :: text() | [map()]}.
%% `#{role => system | user | assistant | tool, content => Text}'.

-type tool_call() :: #{id := binary(), name := binary(),
                       arguments := strings()}.

-type options() ::
        #{model => text(),
          provider => atom() | text(),
          complexity => simple | medium | complex | text(),
          task_type => atom() | text(),
          timeout => pos_integer() | infinity,
          max_tokens => pos_integer(),
          temperature => number(),
          top_p => number(),
          seed => integer(),
          stop => text() | [text()],
          effort => atom() | text(),
          capabilities => [atom() | text()],
          language => atom() | text(),
          schema => map(),
          tools => [map() | [{atom() | binary(), term()}]],
          tool_choice => auto | none | required | any
                       | {tool, text()} | text(),
          api_version => responses | chat_completions | text(),
          store => boolean(),
          previous_response_id => text(),
          mcp_servers => [map() | [{atom() | binary(), term()}]],
          to => pid(),
          keys => atoms | strings,
          return => value | full,
          request_id => request_id(),
          task_id => task_id(),
          cache => boolean(),
          metadata => term(),
          count => exact | about,
          next_id => pos_integer(),
          existing => [pos_integer()],
          num => non_neg_integer(),
          context => text(),
          atom() | binary() => term()}
      | [{atom() | binary(), term()}].
%% Those of docs/calling.md; an operation takes some of them. `nil' and
%% `undefined' mean "not given".

-type operation() :: atom() | tuple().
%% As in docs/calling.md: `{generate_task, Prompt}', `stats', ...

-type task() ::
        #{id := term(),
          title := binary(),
          description := binary() | nil,
          details := binary() | nil,
          test_strategy := binary() | nil,
          priority := high | medium | low,
          status := pending,
          dependencies := [pos_integer()],
          subtasks := [map()],
          estimated_hours := number() | nil}.

-type analysis() ::
        #{task_id := term(),
          task_title := binary(),
          complexity_score := 1..10,
          recommended_subtasks := non_neg_integer(),
          expansion_prompt := binary(),
          reasoning := binary()}.

-type findings() :: #{findings := binary(), sources := [binary()]}.

-type usage() ::
        #{input_tokens := non_neg_integer() | nil,
          output_tokens := non_neg_integer() | nil,
          total_tokens := non_neg_integer() | nil,
          cached_tokens := non_neg_integer() | nil,
          reasoning_tokens := non_neg_integer() | nil}.

-type finish_reason() :: stop | length | tool_calls | content_filter | refusal.

-type response() ::
        #{text := binary(),
          content := binary(),
          object => term(),
          tool_calls := [tool_call()],
          model := binary(),
          provider := binary(),
          finish_reason := finish_reason(),
          response_id := binary() | nil,
          usage := usage(),
          tokens_used := non_neg_integer() | nil,
          cost_usd := float() | nil,
          cost_cents := float() | nil,
          duration_ms := non_neg_integer(),
          attempts := non_neg_integer(),
          request_id := binary() | nil,
          cached := boolean(),
          metadata => term(),
          script => binary()}.

-type embeddings() ::
        #{embeddings := [[float()]], model := binary(), usage := usage()}.

-type selection() :: #{model := binary(), provider := binary()}.

-type strings() :: #{binary() => term()}.
%% A value with the option `keys => strings'.

-type full(Value) ::
        #{result := Value,
          warnings := [binary()],
          model => binary() | nil,
          provider => binary() | nil,
          usage => usage(),
          cost_usd => float() | nil,
          duration_ms => non_neg_integer(),
          attempts => non_neg_integer(),
          request_id => binary() | nil,
          cached => boolean(),
          metadata => term(),
          route => map(),
          tried => [map()],
          candidates => [term()],
          sources => [map()],
          coverage => map()}.
%% A value with the option `return => full'.

-type result(Value) :: {ok, Value} | {error, reason()}.

-type answer(Value) :: result(Value | full(Value) | strings()).

-type code() ::
        invalid_request | unknown_request | forbidden | too_large | no_route
      | budget_exceeded | overloaded | timeout | unreachable | rate_limited
      | quota_exceeded | unauthorized | provider_error | refused
      | content_filtered | bad_response | invalid_output | task_count
      | script_error | cancelled | shutting_down | router_down.
%% `router_down' is said here, all others by the router.

-type details() ::
        #{message := binary(),
          path => binary(),
          provider => binary(),
          model => binary(),
          http_status => pos_integer(),
          provider_request_id => binary(),
          retry_after_ms => non_neg_integer(),
          attempts => non_neg_integer(),
          cost_usd => float(),
          wanted => non_neg_integer(),
          got => non_neg_integer(),
          line => pos_integer()}.

-type reason() :: {code(), details()}.

-type request_id() :: text().

-type task_id() :: integer() | atom() | binary().

-type server() :: pid() | {llm_router, node()}.

-opaque stream() :: {Ref :: reference(), Monitor :: reference()}.

%% ------------------------------------------------------------------ tasks

%% @equiv generate_task(Prompt, #{})
-spec generate_task(text()) -> answer(task()).
generate_task(Prompt) ->
    generate_task(Prompt, #{}).

%% @doc A task made of a request in plain words.
-spec generate_task(text(), options()) -> answer(task()).
generate_task(Prompt, Opts) ->
    request({generate_task, Prompt}, Opts).

%% @equiv parse_prd(Content, NumTasks, #{})
-spec parse_prd(text(), 0..100) -> answer([task()]).
parse_prd(Content, NumTasks) ->
    parse_prd(Content, NumTasks, #{}).

%% @doc The tasks that a requirements document asks for: NumTasks of them, or
%% as many as the model thinks right when it is 0.
-spec parse_prd(text(), 0..100, options()) -> answer([task()]).
parse_prd(Content, NumTasks, Opts) ->
    request({parse_prd, Content, NumTasks}, Opts).

%% @equiv expand_task(TaskOrTitle, #{})
-spec expand_task(map() | text()) -> answer(map()).
expand_task(TaskOrTitle) ->
    expand_task(TaskOrTitle, #{}).

%% @doc The task as it was given, with `subtasks' filled: 5 of them, or as many
%% as the option `num' says.
-spec expand_task(map() | text(), options()) -> answer(map()).
expand_task(TaskOrTitle, Opts) ->
    request({expand_task, TaskOrTitle}, Opts).

%% @equiv analyze_complexity(Tasks, #{})
-spec analyze_complexity([map() | text()]) -> answer([analysis()]).
analyze_complexity(Tasks) ->
    analyze_complexity(Tasks, #{}).

%% @doc How hard each of the tasks is, in their order.
-spec analyze_complexity([map() | text()], options()) -> answer([analysis()]).
analyze_complexity(Tasks, Opts) ->
    request({analyze_complexity, Tasks}, Opts).

%% @equiv research(Topic, Context, #{})
-spec research(text(), text() | nil) -> answer(findings()).
research(Topic, Context) ->
    research(Topic, Context, #{}).

%% @doc What is known of a topic. Context may be empty or `nil'.
-spec research(text(), text() | nil, options()) -> answer(findings()).
research(Topic, Context, Opts) ->
    request({research, Topic, Context}, Opts).

%% ----------------------------------------------------------------- models

%% @equiv call(Complexity, Messages, #{})
-spec call(complexity(), [message()]) -> answer(response()).
call(Complexity, Messages) ->
    call(Complexity, Messages, #{}).

%% @doc A model's answer to a conversation.
-spec call(complexity(), [message()], options()) -> answer(response()).
call(Complexity, Messages, Opts) ->
    request({call, Complexity, Messages}, Opts).

%% @equiv call_with_prompt(Complexity, Prompt, #{})
-spec call_with_prompt(complexity(), text()) -> answer(response()).
call_with_prompt(Complexity, Prompt) ->
    call_with_prompt(Complexity, Prompt, #{}).

%% @doc A model's answer to one message.
-spec call_with_prompt(complexity(), text(), options()) -> answer(response()).
call_with_prompt(Complexity, Prompt, Opts) ->
    request({call_with_prompt, Complexity, Prompt}, Opts).

%% @equiv call_with_system(Complexity, System, User, #{})
-spec call_with_system(complexity(), text(), text()) -> answer(response()).
call_with_system(Complexity, System, User) ->
    call_with_system(Complexity, System, User, #{}).

%% @doc A model's answer to one message under a system message.
-spec call_with_system(complexity(), text(), text(), options()) ->
          answer(response()).
call_with_system(Complexity, System, User, Opts) ->
    request({call_with_system, Complexity, System, User}, Opts).

%% @equiv call_with_script(Path, Context, #{})
-spec call_with_script(text(), term()) -> answer(response()).
call_with_script(Path, Context) ->
    call_with_script(Path, Context, #{}).

%% @doc A model's answer to the messages that a Lua script makes of Context.
-spec call_with_script(text(), term(), options()) -> answer(response()).
call_with_script(Path, Context, Opts) ->
    request({call_with_script, Path, Context}, Opts).

%% @equiv embed(Texts, #{})
-spec embed(text() | [text()]) -> answer(embeddings()).
embed(Texts) ->
    embed(Texts, #{}).

%% @doc A vector for each text, in their order.
-spec embed(text() | [text()], options()) -> answer(embeddings()).
embed(Texts, Opts) ->
    request({embed, Texts}, Opts).

%% @equiv select_model(Complexity, TaskType, #{})
-spec select_model(complexity(), atom() | text()) -> answer(selection()).
select_model(Complexity, TaskType) ->
    select_model(Complexity, TaskType, #{}).

%% @doc Which model would be asked. No provider is.
-spec select_model(complexity(), atom() | text(), options()) ->
          answer(selection()).
select_model(Complexity, TaskType, Opts) ->
    request({select_model, Complexity, TaskType}, Opts).

%% ---------------------------------------------------------------- streams

%% @equiv stream(Complexity, Messages, #{})
-spec stream(complexity(), [message()]) -> result(reference()).
stream(Complexity, Messages) ->
    stream(Complexity, Messages, #{}).

%% @doc Asks for an answer in parts, which the calling process, or the one that
%% the option `to' names, gets as messages: `{llm_stream, Ref, {delta, Binary}}'
%% any number of times, then `{llm_stream, Ref, {done, Response}}' or
%% `{llm_stream, Ref, {error, Reason}}'. Neither comes when the router dies, so
%% that a receiver monitors `{llm_router, node(Ref)}'; {@link stream_fold/5}
%% does. {@link cancel/1} ends it early.
-spec stream(complexity(), [message()], options()) -> result(reference()).
stream(Complexity, Messages, Opts) ->
    ask({stream, Complexity, Messages, Opts}, infinity).

%% @doc Calls Fun with each part of the answer as it comes, and what Fun
%% returned for the part before it, Acc for the first one. Returns the whole
%% response and what Fun returned last. When Fun raises, the request is
%% cancelled. In any case no message of the stream is left behind.
-spec stream_fold(fun((binary(), Acc) -> Acc), Acc, complexity(), [message()],
                  options()) ->
          {ok, response() | full(response()) | strings(), Acc}
              | {error, reason()}.
stream_fold(Fun, Acc, Complexity, Messages, Opts) ->
    case stream_open(Complexity, Messages, Opts) of
        {ok, Stream} ->
            try
                fold(Fun, Acc, Stream)
            after
                stream_close(Stream)
            end;
        {error, _} = Error ->
            Error
    end.

fold(Fun, Acc, Stream) ->
    case stream_next(Stream) of
        {delta, Text} -> fold(Fun, Fun(Text, Acc), Stream);
        {done, Response} -> {ok, Response, Acc};
        {error, _} = Error -> Error
    end.

%% @doc Opens a stream whose parts are taken with {@link stream_next/1}, by the
%% calling process only. Whoever opens it closes it.
-spec stream_open(complexity(), [message()], options()) -> result(stream()).
stream_open(Complexity, Messages, Opts) ->
    case {option(to, Opts), whereis()} of
        {undefined, {ok, Server}} ->
            open(Server, {stream, Complexity, Messages, Opts});
        {undefined, {error, router_down}} ->
            not_found();
        {_, _} ->
            {error, {invalid_request,
                     #{path => <<"opts.to">>,
                       message => <<"the calling process takes the parts">>}}}
    end.

%% The monitor comes first, so that no death goes unnoticed.
open(Server, Op) ->
    Monitor = monitor(process, Server),
    case ask(Server, Op, infinity) of
        {ok, Ref} ->
            {ok, {Ref, watched(Monitor, Server, Ref)}};
        {error, _} = Error ->
            demonitor(Monitor, [flush]),
            Error
    end.

%% A relay is asked, but the router's parts come from the router.
watched(Monitor, Server, Ref) ->
    case home(Server) =:= node(Ref) of
        true ->
            Monitor;
        false ->
            demonitor(Monitor, [flush]),
            monitor(process, {?MODULE, node(Ref)})
    end.

home({_Name, Node}) -> Node;
home(Pid) -> node(Pid).

%% @doc Waits for the next part, or the end, of a stream. Behind the end there
%% is nothing to wait for: it is not called again.
-spec stream_next(stream()) ->
          {delta, binary()}
              | {done, response() | full(response()) | strings()}
              | {error, reason()}.
stream_next({Ref, Monitor}) ->
    receive
        {llm_stream, Ref, {delta, _} = Delta} ->
            Delta;
        {llm_stream, Ref, End} ->
            demonitor(Monitor, [flush]),
            End;
        {'DOWN', Monitor, process, _, Why} ->
            went(Why)
    end.

%% @doc Cancels what is still to come of a stream, and removes what came. One
%% that ended may be closed too, and one that was closed.
-spec stream_close(stream()) -> ok.
stream_close({Ref, Monitor}) ->
    case demonitor(Monitor, [flush, info]) of
        true ->
            _ = cancel(Ref),
            drop(Ref, ?MARGIN_MS);
        false ->
            drop(Ref, 0)
    end.

%% There is just one last message; of a router that died there is none.
drop(Ref, LimitMs) ->
    receive
        {llm_stream, Ref, {delta, _}} -> drop(Ref, LimitMs);
        {llm_stream, Ref, _End} -> ok
    after LimitMs ->
            ok
    end.

%% ------------------------------------------------------------------ queue

%% @equiv enqueue(Op, #{})
-spec enqueue(operation()) -> result(binary()).
enqueue(Op) ->
    enqueue(Op, #{}).

%% @doc Puts an operation into the PostgreSQL queue (docs/queue.md). Returns its
%% request id when it is stored.
-spec enqueue(operation(), options()) -> result(binary()).
enqueue(Op, Opts) ->
    request({enqueue, Op}, Opts).

%% @equiv await(RequestId, infinity)
-spec await(request_id()) -> result(term()).
await(RequestId) ->
    await(RequestId, infinity).

%% @doc Waits for the result of an operation in the queue, for TimeoutMs at most
%% (`infinity' is an hour).
-spec await(request_id(), non_neg_integer() | infinity) -> result(term()).
await(RequestId, TimeoutMs) ->
    ask({await, RequestId, TimeoutMs}, time_limit(TimeoutMs)).

%% @doc The result of an operation in the queue, or `pending' when there is
%% none.
-spec result(request_id()) -> result(term()) | pending.
result(RequestId) ->
    case request({result, RequestId}) of
        {ok, pending} -> pending;
        Result -> Result
    end.

%% ---------------------------------------------------------------- control

%% @doc Takes a request back: a stream by its reference, any other by its
%% `request_id'. Who waits for it gets the error `cancelled'. `false' when no
%% router has it under way, or may be asked.
-spec cancel(reference() | request_id()) -> boolean().
cancel(Ref) when is_reference(Ref) ->
    {ok, true} =:= ask({?MODULE, node(Ref)}, {cancel, Ref}, ?MARGIN_MS);
cancel(RequestId) ->
    {ok, true} =:= ask({cancel, RequestId}, ?MARGIN_MS).

%% @doc From now on the calling process gets `{task_update, TaskId, Update}' and
%% `{task_completed, TaskId}' for the requests with the option `task_id', for
%% as long as the router lives: whoever watches for longer monitors it.
-spec watch_task(task_id()) -> ok | {error, reason()}.
watch_task(TaskId) ->
    done(ask({watch_task, TaskId}, ?MARGIN_MS)).

%% @doc Ends what {@link watch_task/1} began.
-spec unwatch_task(task_id()) -> ok | {error, reason()}.
unwatch_task(TaskId) ->
    done(ask({unwatch_task, TaskId}, ?MARGIN_MS)).

done({ok, ok}) -> ok;
done({error, _} = Error) -> Error.

%% @doc The router's figures.
-spec stats() -> result(map()).
stats() ->
    ask(stats, ?MARGIN_MS).

%% @doc What the router's status page shows: a JSON document, as
%% docs/operations.md says.
-spec status() -> result(binary()).
status() ->
    ask(status, ?MARGIN_MS).

%% @doc How the router and its providers are.
-spec health() -> result(map()).
health() ->
    ask(health, ?MARGIN_MS).

%% @doc The router's version.
-spec version() -> result(map()).
version() ->
    ask(version, ?MARGIN_MS).

%% @doc The models that it can ask.
-spec models() -> result(map()).
models() ->
    ask(models, ?MARGIN_MS).

%% @doc Is there a router that answers?
-spec ping() -> pong | pang.
ping() ->
    case ask(ping, ?MARGIN_MS) of
        {ok, pong} -> pong;
        {error, _} -> pang
    end.

%% @doc Asks any operation, its options in it. A bare answer (`pong', a map)
%% comes as `{ok, Answer}' too.
-spec request(operation()) -> result(term()).
request(Op) ->
    ask(Op, infinity).

%% @doc The same with options to be put behind the operation's arguments.
-spec request(operation(), options()) -> result(term()).
request(Op, Opts) when is_atom(Op) ->
    request({Op}, Opts);
request(Op, Opts) ->
    ask(erlang:append_element(Op, Opts), time_limit(option(timeout, Opts))).

%% ----------------------------------------------------------------- asking

ask(Op, LimitMs) ->
    case whereis() of
        {ok, Server} -> ask(Server, Op, LimitMs);
        {error, router_down} -> not_found()
    end.

ask(Server, Op, LimitMs) ->
    try gen_server:call(Server, Op, LimitMs) of
        Reply -> result_of(Reply)
    catch
        exit:{timeout, {gen_server, call, _}} ->
            failure(timeout, "the router did not answer in time");
        exit:{Why, {gen_server, call, _}} ->
            went(Why)
    end.

result_of({ok, _} = Ok) -> Ok;
result_of({error, router_down}) -> not_found();
result_of({error, _} = Error) -> Error;
result_of(Bare) -> {ok, Bare}.

time_limit(Ms) when is_integer(Ms), Ms >= 0, Ms =< ?MAX_TIMEOUT_MS ->
    Ms + ?MARGIN_MS;
time_limit(_DefaultOrWrong) ->
    infinity.

%% What the router would refuse is left to it.
option(Name, #{} = Opts) ->
    Given = maps:get(atom_to_binary(Name), Opts, undefined),
    given(maps:get(Name, Opts, Given));
option(Name, [{Key, Value} | Rest]) ->
    case Key =:= Name orelse Key =:= atom_to_binary(Name) of
        true -> given(Value);
        false -> option(Name, Rest)
    end;
option(Name, [_ | Rest]) ->
    option(Name, Rest);
option(_Name, _) ->
    undefined.

given(nil) -> undefined;
given(Value) -> Value.

went(Why) ->
    failure(router_down, ["the router went away: ",
                          io_lib:format("~0tp", [Why])]).

not_found() ->
    failure(router_down,
            case is_alive() of
                true -> "there is no router";
                false -> "there is no router: this node is not distributed"
            end).

failure(Code, Text) ->
    {error, {Code, #{message => unicode:characters_to_binary(Text)}}}.

%% ---------------------------------------------------------------- finding

%% @doc The router that is asked: that of the global name `llm_router'; when
%% there is none, that of the node that the application is configured with, if
%% it can be connected to; else the one that a Horde registry names, or a relay
%% that is registered there.
-spec whereis() -> {ok, server()} | {error, router_down}.
whereis() ->
    case global:whereis_name(?MODULE) of
        undefined -> configured(options());
        Pid -> {ok, Pid}
    end.

%% Those of the supervisor; without one, those of the environment.
options() ->
    case persistent_term:get({?MODULE, options}, undefined) of
        undefined -> llm_router_env:options();
        Options -> Options
    end.

configured(#{node := Node} = Options) ->
    case reachable(Node) of
        true -> {ok, {?MODULE, Node}};
        false -> registered(Options)
    end.

%% What is no name of a node is not dialled, for that would be logged.
reachable(Node) when is_atom(Node) ->
    lists:member($@, atom_to_list(Node))
        andalso net_kernel:connect_node(Node) =:= true;
reachable(_) ->
    false.

%% Horde is no dependency: it is asked where it is loaded.
registered(Options) ->
    Horde = 'Elixir.Horde.Registry',
    case {registry(Options), code:ensure_loaded(Horde)} of
        {{Registry, Key}, {module, Horde}} when Registry =/= none ->
            try apply(Horde, lookup, [Registry, Key]) of
                Entries -> entry(Entries)
            catch
                error:badarg -> {error, router_down} % it is not running
            end;
        {_, _} ->
            {error, router_down}
    end.

%% Where the relay is registered, unless another registry is named.
registry(#{relay := Given} = Options) ->
    Relay = case Given of
                #{} -> Given;
                [_ | _] -> maps:from_list(Given);
                _Switch -> #{}
            end,
    {maps:get(registry, Options, maps:get(registry, Relay, none)),
     maps:get(key, Relay, ?MODULE)}.

%% The router whose node the value names; else the relay that is registered,
%% but not this node's own: it looks here, too.
entry([]) ->
    {error, router_down};
entry([{Pid, #{node := Node}} | _]) ->
    entry([{Pid, Node}]);
entry([{Pid, Value} | _]) ->
    case {reachable(Value), whereis(llm_router_relay)} of
        {true, _} -> {ok, {?MODULE, Value}};
        {false, Pid} -> {error, router_down};
        {false, _} -> {ok, Pid}
    end.
