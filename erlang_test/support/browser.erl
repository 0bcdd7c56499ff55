%% A headless Chromium under a test's control, by its DevTools protocol over a
%% pipe: its own profile, no network services of its own, no sandbox (tests run
%% as root in namespaces).
%%
%%     Browser = browser:start(Dir),
%%     Page = browser:open(Browser, "http://127.0.0.1:8080/",
%%                         #{width => 360, height => 800, dark => true}),
%%     <<"ok">> = browser:eval(Page, "document.title"),
%%     [] = browser:faults(Page),
%%     browser:stop(Browser).
%%
%% Chrome reads commands from descriptor 3 and writes to 4, which is what a port
%% with `nouse_stdio' offers; messages are JSON and end with a NUL.
-module(browser).
-behaviour(gen_server).

-export([start/1, stop/1, open/3, close/1]).
-export([eval/2, await/2, press/2, screenshot/2, faults/1, requests/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(ANSWER_MS, 30000).
-define(AWAIT_MS, 20000).

-type browser() :: pid().
-type page() :: #{browser := browser(), target := binary(),
                  session := binary()}.
-export_type([browser/0, page/0]).

%% Dir gets its profile and what it writes to stdout and stderr.
-spec start(file:filename()) -> browser().
start(Dir) ->
    {ok, Browser} = gen_server:start(?MODULE, Dir, []),
    Browser.

-spec stop(browser()) -> ok.
stop(Browser) ->
    gen_server:call(Browser, close, ?ANSWER_MS),
    gen_server:stop(Browser).

%% A page of its own, loaded. Opts: width and height in CSS pixels (default
%% 1280 x 800), dark (default false), scripts (default true), and `first', a
%% script that runs before those of the page.
-spec open(browser(), string(), map()) -> page().
open(Browser, Url, Opts) ->
    #{<<"targetId">> := Target} =
        ask(Browser, none, "Target.createTarget", #{url => <<"about:blank">>}),
    #{<<"sessionId">> := Session} =
        ask(Browser, none, "Target.attachToTarget",
            #{targetId => Target, flatten => true}),
    Page = #{browser => Browser, target => Target, session => Session},
    [ask(Page, Domain ++ ".enable", #{})
     || Domain <- ["Page", "Runtime", "Log", "Network"]],
    emulate(Page, Opts),
    ask(Page, "Page.navigate", #{url => list_to_binary(Url)}),
    await(Page, "document.readyState === 'complete'"),
    Page.

emulate(Page, Opts) ->
    ask(Page, "Emulation.setDeviceMetricsOverride",
        #{width => maps:get(width, Opts, 1280),
          height => maps:get(height, Opts, 800),
          deviceScaleFactor => 1, mobile => false}),
    ask(Page, "Emulation.setScrollbarsHidden", #{hidden => true}),
    Scheme = case maps:get(dark, Opts, false) of
                 true -> <<"dark">>;
                 false -> <<"light">>
             end,
    ask(Page, "Emulation.setEmulatedMedia",
        #{features => [#{name => <<"prefers-color-scheme">>,
                         value => Scheme}]}),
    ask(Page, "Emulation.setScriptExecutionDisabled",
        #{value => not maps:get(scripts, Opts, true)}),
    ask(Page, "Page.addScriptToEvaluateOnNewDocument",
        #{source => list_to_binary(maps:get(first, Opts, ""))}).

-spec close(page()) -> ok.
close(#{browser := Browser, target := Target}) ->
    _ = ask(Browser, none, "Target.closeTarget", #{targetId => Target}),
    ok.

%% The value of a JavaScript expression, as test_json has it; a promise is
%% waited for. error({javascript, Details}) when it throws.
-spec eval(page(), iodata()) -> term().
eval(Page, Expression) ->
    case ask(Page, "Runtime.evaluate",
             #{expression => unicode:characters_to_binary(Expression),
               returnByValue => true, awaitPromise => true}) of
        #{<<"exceptionDetails">> := Details} -> error({javascript, Details});
        #{<<"result">> := #{<<"value">> := Value}} -> Value;
        #{<<"result">> := _} -> undefined
    end.

%% Waits until the expression is true.
-spec await(page(), iodata()) -> ok.
await(Page, Expression) ->
    _ = bed:eventually(fun() -> eval(Page, Expression) end, ?AWAIT_MS),
    ok.

%% A key as the DOM names it: "ArrowLeft".
-spec press(page(), string()) -> ok.
press(Page, Key) ->
    [ask(Page, "Input.dispatchKeyEvent",
         #{type => Type, key => list_to_binary(Key)})
     || Type <- [<<"keyDown">>, <<"keyUp">>]],
    ok.

%% Of the whole page, however long it is.
-spec screenshot(page(), file:filename()) -> ok.
screenshot(Page, File) ->
    #{<<"cssContentSize">> := #{<<"width">> := Width,
                                <<"height">> := Height}} =
        ask(Page, "Page.getLayoutMetrics", #{}),
    #{<<"data">> := Data} =
        ask(Page, "Page.captureScreenshot",
            #{captureBeyondViewport => true,
              clip => #{x => 0, y => 0, width => Width, height => Height,
                        scale => 1}}),
    ok = file:write_file(File, base64:decode(Data)).

%% What went wrong in the page: exceptions, errors on the console, violations
%% of the Content-Security-Policy, dialogs. Oldest first.
-spec faults(page()) -> [map()].
faults(Page) ->
    [Event || #{<<"method">> := Method, <<"params">> := Params} = Event
                  <- events(Page),
              is_fault(Method, Params)].

is_fault(<<"Runtime.exceptionThrown">>, _) -> true;
is_fault(<<"Page.javascriptDialogOpening">>, _) -> true;
is_fault(<<"Runtime.consoleAPICalled">>, #{<<"type">> := Type}) ->
    lists:member(Type, [<<"error">>, <<"warning">>, <<"assert">>]);
is_fault(<<"Log.entryAdded">>, #{<<"entry">> := #{<<"level">> := Level}}) ->
    Level =:= <<"error">> orelse Level =:= <<"warning">>;
is_fault(_, _) -> false.

%% The addresses that the page asked for, oldest first.
-spec requests(page()) -> [binary()].
requests(Page) ->
    [Url || #{<<"method">> := <<"Network.requestWillBeSent">>,
              <<"params">> := #{<<"request">> := #{<<"url">> := Url}}}
                <- events(Page)].

events(#{browser := Browser, session := Session}) ->
    gen_server:call(Browser, {events, Session}, ?ANSWER_MS).

ask(#{browser := Browser, session := Session}, Method, Params) ->
    ask(Browser, Session, Method, Params).

ask(Browser, Session, Method, Params) ->
    {ok, Result} = gen_server:call(Browser, {ask, Session, Method, Params},
                                   ?ANSWER_MS),
    Result.

%% ------------------------------------------------------------- gen_server

init(Dir) ->
    Profile = filename:join(Dir, "browser"),
    ok = filelib:ensure_dir(filename:join(Profile, "x")),
    Command = "exec \"$@\" >" ++ Profile ++ "/output 2>&1",
    Port = open_port({spawn_executable, "/bin/sh"},
                     [nouse_stdio, binary, exit_status,
                      {env, [{"HOME", Profile}]},
                      {args, ["-c", Command, "sh" | arguments(Profile)]}]),
    {ok, #{port => Port, next => 1, asked => #{}, events => [], rest => <<>>,
           closing => none}}.

arguments(Profile) ->
    [os:getenv("CHROMIUM", "chromium"), "--headless=new", "--no-sandbox",
     "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
     "--disable-background-networking", "--disable-component-update",
     "--disable-extensions", "--disable-sync", "--remote-debugging-pipe",
     "--user-data-dir=" ++ Profile, "about:blank"].

handle_call({ask, Session, Method, Params}, From, State) ->
    {noreply, send(Session, Method, Params, From, State)};
handle_call({events, Session}, _From, #{events := Events} = State) ->
    {reply, [Event || #{<<"sessionId">> := Id} = Event
                          <- lists:reverse(Events), Id =:= Session],
     State};
handle_call(close, From, State) ->
    {noreply, (send(none, "Browser.close", #{}, none, State))#{
                closing := From}}.

send(Session, Method, Params, From,
     #{port := Port, next := Id, asked := Asked} = State) ->
    Message = #{id => Id, method => list_to_binary(Method), params => Params},
    Addressed = case Session of
                    none -> Message;
                    _ -> Message#{sessionId => Session}
                end,
    true = port_command(Port, [test_json:encode(Addressed), 0]),
    State#{next := Id + 1, asked := Asked#{Id => From}}.

handle_cast(_, State) ->
    {noreply, State}.

handle_info({Port, {data, Data}}, #{port := Port, rest := Rest} = State) ->
    [Last | Whole] = lists:reverse(binary:split(<<Rest/binary, Data/binary>>,
                                                <<0>>, [global])),
    {noreply, lists:foldr(fun take/2, State#{rest := Last}, Whole)};
handle_info({Port, {exit_status, _}}, #{port := Port, closing := From} = State)
  when From =/= none ->
    gen_server:reply(From, ok),
    {noreply, State};
handle_info({Port, {exit_status, Status}}, #{port := Port} = State) ->
    {stop, {browser_exited, Status}, State};
handle_info(_, State) ->
    {noreply, State}.

terminate(_Reason, _State) ->
    ok.

take(Message, #{asked := Asked, events := Events} = State) ->
    case test_json:decode(Message) of
        #{<<"id">> := Id} = Answer ->
            {From, Left} = maps:take(Id, Asked),
            answer(From, Answer),
            State#{asked := Left};
        Event ->
            State#{events := [Event | Events]}
    end.

answer(none, _) -> ok;
answer(From, #{<<"result">> := Result}) -> gen_server:reply(From, {ok, Result});
answer(From, #{<<"error">> := Error}) -> gen_server:reply(From, {error, Error}).
