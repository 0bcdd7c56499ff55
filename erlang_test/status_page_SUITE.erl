%% The status page in a browser: with a stand-in for the router that says what
%% a test wants, and with a router.
-module(status_page_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(browser, [eval/2, await/2]).

-define(PHONE, #{width => 360, height => 800}).
-define(SIZE_MAX, 40 * 1024).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [a_router_that_has_just_started_is_calm,
     the_figures_of_a_busy_router_are_shown,
     what_needs_attention_comes_first,
     a_healthy_router_has_nothing_to_say,
     a_draining_router_is_said_so,
     requests_a_second_are_a_difference,
     a_restart_is_no_negative_rate,
     plots_have_what_happened_in_the_hour,
     plots_are_read_with_the_arrow_keys,
     tables_have_headings,
     a_long_message_stays_unfolded,
     hostile_texts_stay_texts,
     what_is_not_known_is_a_dash,
     a_router_that_goes_away_is_said_so_and_found_again,
     an_answer_that_is_no_status_is_said_so,
     a_hidden_page_asks_seldom,
     nothing_scrolls_sideways,
     light_and_dark_can_both_be_read,
     without_scripts_it_says_where_else_to_look,
     it_is_one_small_file_that_asks_nobody_else,
     a_router_serves_it,
     a_crowd_at_its_port_holds_no_caller_up].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(crypto),
    {ok, _} = application:ensure_all_started(inets),
    case os:find_executable(os:getenv("CHROMIUM", "chromium")) of
        false ->
            {skip, "no chromium here"};
        _ ->
            Dir = proplists:get_value(priv_dir, Config),
            [{browser, browser:start(Dir)} | two_providers:up(Config)]
    end.

end_per_suite(Config) ->
    ok = browser:stop(proplists:get_value(browser, Config)),
    two_providers:down(Config).

init_per_testcase(_Case, Config) ->
    Html = html(),
    Server = page_server:start(Html, policy(Html), shows(#{})),
    [{server, Server} | Config].

end_per_testcase(_Case, Config) ->
    page_server:stop(proplists:get_value(server, Config)).

%% ---------------------------------------------------------------- the bed

html() ->
    {ok, Html} = file:read_file(filename:join([router:project(), "priv",
                                               "status.html"])),
    Html.

%% What web/page.h says it is.
policy(Html) ->
    iolist_to_binary(["default-src 'none'; script-src ", hash(Html, "script"),
                      "; style-src ", hash(Html, "style"),
                      "; img-src data:; connect-src 'self'; base-uri 'none'; "
                      "form-action 'none'; frame-ancestors 'none'"]).

hash(Html, Element) ->
    {match, [Content]} = re:run(Html, ["<", Element, ">(.*)</", Element, ">"],
                                [dotall, {capture, [1], binary}]),
    ["'sha256-", base64:encode(crypto:hash(sha256, Content)), "'"].

shows(Status) ->
    Json = test_json:encode(Status),
    fun() -> {200, Json} end.

set(Config, Answer) when is_function(Answer) ->
    page_server:set(proplists:get_value(server, Config), Answer);
set(Config, Status) ->
    set(Config, shows(Status)).

open(Config, Opts) ->
    browser:open(proplists:get_value(browser, Config),
                 page_server:url(proplists:get_value(server, Config)), Opts).

%% A page that shows Status; nothing goes wrong in it until the test is over.
with(Config, Status, Test) ->
    with(Config, Status, #{}, Test).

with(Config, Status, Opts, Test) ->
    set(Config, Status),
    Page = open(Config, Opts),
    await(Page, "!document.getElementById('main').hidden"),
    Result = Test(Page),
    ?assertEqual([], browser:faults(Page)),
    browser:close(Page),
    Result.

text(Page, Id) ->
    eval(Page, ["document.getElementById('", Id, "').innerText"]).

%% What a tile says: {Value, Note}.
tile(Page, Label) ->
    [Value, Note] =
        eval(Page, ["Array.from(document.querySelectorAll('#tiles div'))"
                    ".filter(tile => tile.children[0].textContent === '",
                    Label, "').flatMap(tile => "
                    "[tile.children[1].textContent,"
                    " tile.children[2].textContent])"]),
    {Value, Note}.

%% The cells of a table, a list for each row.
rows(Page, Section) ->
    eval(Page, ["Array.from(document.querySelectorAll('#", Section,
                " tbody tr')).map(row => "
                "Array.from(row.cells).map(cell => cell.textContent))"]).

notes(Page) ->
    eval(Page, "Array.from(document.querySelectorAll('#notes li'))"
               ".map(note => note.className + ': ' + note.textContent)").

count(Page, Selector) ->
    eval(Page, ["document.querySelectorAll('", Selector, "').length"]).

%% ---------------------------------------------------------------- figures

a_router_that_has_just_started_is_calm(Config) ->
    with(Config, status_fixture:empty(), fun(Page) ->
        ?assertEqual(<<"ok">>, text(Page, "state")),
        ?assertEqual(<<"llm_router@quiet">>, text(Page, "node")),
        ?assertEqual(<<"version 1.2.3, up 4.2 s">>, text(Page, "facts")),
        ?assertEqual(<<"ok · llm_router@quiet"/utf8>>,
                     eval(Page, "document.title")),
        ?assertEqual([<<"dim: No BEAM node is connected">>], notes(Page)),
        ?assertEqual({<<"0 /s">>, <<"0 since start">>},
                     tile(Page, "Requests")),
        ?assertEqual({<<"–"/utf8>>, <<"0 since start">>},
                     tile(Page, "Failed, 5 min")),
        ?assertEqual({<<"off">>, <<"no database">>}, tile(Page, "Queue")),
        ?assertEqual([], rows(Page, "providers")),
        ?assertMatch({match, _}, re:run(text(Page, "providers"),
                                        "No provider is configured")),
        ?assertEqual(4, eval(Page, "Array.from(document.querySelectorAll("
                                   "'.chart')).filter(plot => "
                                   "plot.textContent === "
                                   "'nothing in the last hour').length"))
    end).

the_figures_of_a_busy_router_are_shown(Config) ->
    with(Config, status_fixture:busy(), fun(Page) ->
        ?assertEqual(<<"version 1.2.3, up 3 d 5 h">>, text(Page, "facts")),
        [?assertEqual(Expected, {Label, tile(Page, Label)})
         || {Label, _} = Expected <-
                [{"In flight", {<<"42">>, <<"of 1,000 slots">>}},
                 {"Waiting", {<<"3">>, <<"for a slot or a provider">>}},
                 {"Longest stall", {<<"12 ms">>, <<"since start">>}},
                 {"Tokens", {<<"911.1M">>, <<"812.3M in, 98.8M out">>}},
                 {"Retries", {<<"9,120">>, <<"171 cancelled">>}},
                 {"Peers", {<<"7">>, <<"holds the global name">>}},
                 {"Queue", {<<"128">>, <<"oldest 42 s">>}}]],
        ?assertMatch({<<"$4,313">>, _}, tile(Page, "Cost")),
        ?assertMatch({<<"41.3 MiB">>, _}, tile(Page, "Memory")),
        Providers = rows(Page, "providers"),
        ?assertEqual([<<"openai">>, <<"benched, 23 s">>, <<"62 %">>, <<"0">>,
                      <<"second">>, <<"412.3K">>, <<"3,011">>, <<"14">>,
                      <<"$131.20">>, <<"$2,210">>], lists:nth(2, Providers)),
        ?assertEqual(5, length(Providers)),
        ?assertMatch([<<"gpt-4.1">>, <<"openai">>, <<"402.3K">>, <<"2,100">>,
                      <<"912 ms">>, <<"3 s">> | _], hd(rows(Page, "models"))),
        ?assertMatch([_, <<"rate_limited">>, <<"openai">>,
                      <<"all candidates are rate limited", _/binary>>,
                      <<"gpt-4.1">>, <<"generate_task">>, <<"3">>,
                      <<"planner@app-1">>, <<"r-", _/binary>>],
                     hd(rows(Page, "errors"))),
        ?assertEqual(6, length(rows(Page, "errors")))
    end).

what_needs_attention_comes_first(Config) ->
    Busy = #{providers := [OpenAi | Others]} = status_fixture:busy(),
    #{keys := Keys} = OpenAi,
    Benched = OpenAi#{keys := [Key#{state := benched, returns_ms := 90000}
                               || Key <- Keys]},
    Down = #{state => down, depth => null, oldest_age_s => null,
             in_flight => 0, dead => 2},
    Status = Busy#{providers := [Benched | Others], slots := 42, queue := Down,
                   log_lines_dropped := 7, ready := false},
    with(Config, Status, fun(Page) ->
        ?assertEqual([<<"bad: Not ready: calls are not served">>,
                      <<"bad: openai is benched, returns in 90 s">>,
                      <<"bad: The queue's database is down">>,
                      <<"warn: All 42 slots are taken, 3 requests wait">>,
                      <<"warn: 2 dead letters in the queue">>,
                      <<"warn: 7 log lines were dropped: nobody reads them "
                        "fast enough">>], notes(Page)),
        ?assertEqual(<<"not ready">>, text(Page, "state")),
        ?assert(eval(Page, "document.getElementById('notes')"
                           ".getBoundingClientRect().bottom < "
                           "document.getElementById('tiles')"
                           ".getBoundingClientRect().top"))
    end).

a_healthy_router_has_nothing_to_say(Config) ->
    with(Config, (status_fixture:empty())#{peers := 1}, fun(Page) ->
        ?assertEqual([], notes(Page))
    end).

a_draining_router_is_said_so(Config) ->
    Status = (status_fixture:busy())#{state := draining, ready := false},
    with(Config, Status, fun(Page) ->
        ?assertEqual(<<"draining">>, text(Page, "state")),
        ?assert(lists:member(<<"warn: Draining: new calls are refused, 42 in "
                               "flight">>, notes(Page)))
    end).

requests_a_second_are_a_difference(Config) ->
    Status = status_fixture:empty(),
    with(Config, Status, fun(Page) ->
        #{now_ms := Now, uptime_ms := Uptime} = Status,
        set(Config, Status#{requests := 5000, cpu_ms := 1031,
                            now_ms := Now + 4000, uptime_ms := Uptime + 4000}),
        await(Page, "document.getElementById('tiles').textContent"
                    ".includes('1,250 /s')"),
        ?assertEqual({<<"11 MiB">>, <<"CPU 25 %, 14 fds">>},
                     tile(Page, "Memory"))
    end).

a_restart_is_no_negative_rate(Config) ->
    Busy = status_fixture:busy(),
    Empty = status_fixture:empty(),
    with(Config, Busy, fun(Page) ->
        #{now_ms := Now} = Busy,
        set(Config, Empty#{now_ms := Now + 4000, requests := 3}),
        await(Page, "document.getElementById('facts').textContent"
                    ".includes('up 4.2 s')"),
        ?assertEqual({<<"0 /s">>, <<"3 since start">>}, tile(Page, "Requests"))
    end).

%% ------------------------------------------------------------------ plots

plots_have_what_happened_in_the_hour(Config) ->
    with(Config, status_fixture:busy(), fun(Page) ->
        #{history := #{requests := #{failed := Failed}}} =
            status_fixture:busy(),
        ?assertEqual(60, count(Page, "figure:nth-child(1) rect.plain")),
        ?assertEqual(length([N || N <- Failed, N > 0]),
                     count(Page, "figure:nth-child(1) rect.failed")),
        ?assertEqual(8, count(Page, "figure:nth-child(2) path")),
        ?assertEqual(2, count(Page, "figure:nth-child(3) path")),
        ?assertEqual(180, count(Page, "figure:nth-child(4) rect")),
        ?assertEqual(1, count(Page, "figure:nth-child(1) rect.plain.now")),
        [?assertEqual(0, eval(Page, ["Array.from(document.querySelectorAll('",
                                     Elements, "')).filter(e => "
                                     "/NaN|Infinity|undefined/"
                                     ".test(e.outerHTML)).length"]))
         || Elements <- ["svg *", "figure"]],
        ?assert(eval(Page, "Array.from(document.querySelectorAll('svg rect'))"
                           ".every(bar => bar.getBBox().y >= 0 &&"
                           " bar.getBBox().x >= 0)")),
        [?assert(eval(Page, ["Array.from(document.querySelectorAll('svg'))"
                             ".map(svg => Array.from(svg.querySelectorAll("
                             "'text[text-anchor=end]'))).every(", Holds, ")"]))
         || Holds <- ["labels => labels.every(l => l.getBBox().x >= 0)",
                      "labels => new Set(labels.map(l => l.textContent)).size"
                      " === labels.length"]]
    end).

plots_are_read_with_the_arrow_keys(Config) ->
    with(Config, status_fixture:busy(), fun(Page) ->
        #{history := #{requests := #{ok := Ok, failed := Failed}}} =
            status_fixture:busy(),
        Plot = "document.querySelector('.chart')",
        eval(Page, Plot ++ ".focus()"),
        ?assertEqual(<<"Requests a minute, a plot of the last hour">>,
                     eval(Page, Plot ++ ".ariaLabel")),
        browser:press(Page, "Home"),
        browser:press(Page, "ArrowRight"),
        [_, Said] = binary:split(eval(Page, Plot ++ ".ariaValueText"),
                                 <<": ">>),
        ?assertEqual(iolist_to_binary(io_lib:format("failed ~b, ok ~b",
                                                    [lists:nth(2, Failed),
                                                     lists:nth(2, Ok)])),
                     Said),
        ?assertEqual(1, count(Page, ".chart .rule")),
        eval(Page, "document.activeElement.blur()"),
        ?assertEqual(0, count(Page, ".chart .rule"))
    end).

%% ------------------------------------------------------------------ tables

tables_have_headings(Config) ->
    with(Config, status_fixture:busy(), ?PHONE, fun(Page) ->
        ?assert(eval(Page, "Array.from(document.querySelectorAll('table'))"
                           ".every(table => Array.from(table.rows).every("
                           "row => row.cells.length === "
                           "table.tHead.rows[0].cells.length))")),
        ?assertEqual(0, count(Page, "th:not([scope=col])")),
        ?assertEqual(0, count(Page, "td:not([role=cell])")),
        ?assertEqual(0, count(Page, "tr:not([role=row])"))
    end).

a_long_message_stays_unfolded(Config) ->
    Status = status_fixture:busy(),
    with(Config, Status, fun(Page) ->
        ?assertEqual(1, count(Page, "#errors details")),
        eval(Page, "document.querySelector('details').open = true"),
        #{errors := [First | _] = Errors} = Status,
        set(Config, Status#{errors := [First#{code := <<"cancelled">>}
                                       | Errors]}),
        await(Page, "document.getElementById('errors').textContent"
                    ".includes('cancelled')"),
        ?assertEqual(7, length(rows(Page, "errors"))),
        ?assertEqual(1, count(Page, "#errors details[open]"))
    end).

%% ------------------------------------------------------ what can go wrong

hostile_texts_stay_texts(Config) ->
    [with(Config, status_fixture:hostile(), Opts, fun(Page) ->
         ?assertEqual(1, count(Page, "script")),
         ?assertEqual(0, count(Page, "img, svg svg, h1 *, h1 ~ h1, [onload]")),
         ?assertEqual(1, count(Page, "main")),
         Text = eval(Page, "document.body.textContent"),
         [?assertNotEqual(nomatch, binary:match(Text, Part))
          || Part <- [<<"<script>alert(1)</script>">>,
                      <<"<img src=x onerror=alert(2)>">>,
                      <<"AAAAAAAA…"/utf8>>, <<"__proto__">>]],
         [?assertEqual(nomatch, binary:match(Text, Part))
          || Part <- [<<"\x{202e}"/utf8>>, <<"\x{2066}"/utf8>>, <<0>>,
                      <<"\e">>]],
         ?assertEqual(0, overflow(Page))
     end) || Opts <- [#{}, ?PHONE]].

what_is_not_known_is_a_dash(Config) ->
    Unknown = status_fixture:unknown(status_fixture:busy()),
    [with(Config, Status, fun(Page) ->
         Text = eval(Page, "document.body.innerText"),
         [?assertEqual(nomatch, binary:match(Text, Part))
          || Part <- [<<"NaN">>, <<"undefined">>, <<"null">>, <<"Infinity">>,
                      <<"[object">>]],
         ?assertMatch({<<"–"/utf8>>, _}, tile(Page, "In flight"))
     end) || Status <- [Unknown, #{}, #{history => #{}, providers => [#{}]},
                        #{models => 1, errors => <<"x">>, queue => true,
                          history => 7}]].

a_router_that_goes_away_is_said_so_and_found_again(Config) ->
    Server = proplists:get_value(server, Config),
    set(Config, status_fixture:busy()),
    Page = open(Config, #{}),
    await(Page, "!document.getElementById('main').hidden"),
    ?assertEqual(<<>>, text(Page, "alert")),
    page_server:leave(Server),
    await(Page, "!document.getElementById('alert').hidden"),
    ?assertMatch(<<"Not reachable since ", _/binary>>, text(Page, "alert")),
    ?assertEqual(<<"not reachable">>, text(Page, "state")),
    ?assertMatch(<<"not reachable · "/utf8, _/binary>>,
                 eval(Page, "document.title")),
    ?assert(eval(Page, "getComputedStyle(document.getElementById('main'))"
                       ".opacity < 1")),
    ?assertMatch({<<"42">>, _}, tile(Page, "In flight")),
    page_server:return(Server),
    await(Page, "document.getElementById('alert').hidden"),
    ?assertEqual(<<"ok">>, text(Page, "state")),
    browser:close(Page).

an_answer_that_is_no_status_is_said_so(Config) ->
    set(Config, fun() -> {500, <<"{}">>} end),
    Page = open(Config, #{}),
    await(Page, "document.getElementById('alert').textContent"
                ".includes('it answers HTTP 500')"),
    ?assert(eval(Page, "document.getElementById('main').hidden")),
    set(Config, fun() -> {200, <<"<html>">>} end),
    eval(Page, "turn()"),
    ?assertMatch({match, _}, re:run(text(Page, "alert"), "JSON")),
    set(Config, status_fixture:empty()),
    eval(Page, "turn()"),
    ?assert(eval(Page, "document.getElementById('alert').hidden")),
    browser:close(Page).

a_hidden_page_asks_seldom(Config) ->
    Hide = "Object.defineProperty(document, 'hidden', {get: () => true})",
    [with(Config, status_fixture:empty(), Opts, fun(Page) ->
         timer:sleep(5000),
         Asked = [Url || Url <- browser:requests(Page),
                         binary:match(Url, <<"status.json">>) =/= nomatch],
         case maps:is_key(first, Opts) of
             true -> ?assertEqual(1, length(Asked));
             false -> ?assert(length(Asked) > 1)
         end
     end) || Opts <- [#{}, #{first => Hide}]].

%% -------------------------------------------------------------- its looks

%% By how many pixels the page is wider than the window.
overflow(Page) ->
    eval(Page, "document.documentElement.scrollWidth - "
               "document.documentElement.clientWidth").

nothing_scrolls_sideways(Config) ->
    [with(Config, Status, #{width => Width, height => 800}, fun(Page) ->
         ?assertEqual({Width, 0}, {Width, overflow(Page)})
     end) || Status <- [status_fixture:empty(), status_fixture:busy(),
                        status_fixture:hostile(),
                        status_fixture:filled(binary:copy(<<"A">>, 10000))],
             Width <- [320, 360, 768, 1440]].

%% WCAG's contrast of text against what is behind it: 4.5 at least.
light_and_dark_can_both_be_read(Config) ->
    [with(Config, status_fixture:busy(), #{dark => Dark}, fun(Page) ->
         ?assertEqual([], eval(Page, contrast())),
         ?assertEqual(Dark, eval(Page, "matchMedia("
                                       "'(prefers-color-scheme: dark)')"
                                       ".matches"))
     end) || Dark <- [false, true]].

contrast() ->
    "(() => {
      const channels = text => text.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c =>
        c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
      const behind = element => {
        for (let e = element; e; e = e.parentElement) {
          const back = channels(getComputedStyle(e).backgroundColor);
          if (back.length < 4 || back[3] > 0) return light(back);
        }
      };
      return Array.from(document.querySelectorAll('body *'))
        .filter(e => e.checkVisibility() && e.tagName !== 'NOSCRIPT' &&
          Array.from(e.childNodes).some(node => node.nodeType === 3 &&
            node.data.trim()))
        .map(e => {
          const style = getComputedStyle(e);
          const text = light(channels(e.namespaceURI.endsWith('svg')
            ? style.fill : style.color));
          const back = behind(e);
          const ratio = (Math.max(text, back) + .05) /
            (Math.min(text, back) + .05);
          return [e.tagName + '.' + (e.className.baseVal ?? e.className),
            ratio];
        }).filter(([, ratio]) => ratio < 4.5);
    })()".

without_scripts_it_says_where_else_to_look(Config) ->
    Page = open(Config, #{scripts => false}),
    ?assertMatch({match, _}, re:run(eval(Page, "document.body.innerText"),
                                    "needs JavaScript")),
    ?assertEqual([<<"status.json">>, <<"metrics">>],
                 eval(Page, "Array.from(document.querySelectorAll("
                            "'noscript a')).map(a => a.textContent)")),
    ?assert(eval(Page, "document.getElementById('main').hidden")),
    ?assertEqual([], browser:faults(Page)),
    browser:close(Page).

it_is_one_small_file_that_asks_nobody_else(Config) ->
    ?assert(byte_size(html()) < ?SIZE_MAX),
    with(Config, status_fixture:busy(), fun(Page) ->
        Url = list_to_binary(page_server:url(proplists:get_value(server,
                                                                 Config))),
        Data = <<"data:">>,
        [?assertMatch({0, _}, binary:match(Asked, [Url, Data]))
         || Asked <- browser:requests(Page)]
    end).

%% --------------------------------------------------------------- a router

models() ->
    [#{provider => <<"one">>, id => <<"small">>, in => 10, out => 20},
     #{provider => <<"two">>, id => <<"large">>, in => 1, out => 2}].

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% A router that serves HTTP: {Config, Port}.
start_router(Config) ->
    Port = free_port(),
    Listen = "127.0.0.1:" ++ integer_to_list(Port),
    {two_providers:router(Config,
                          #{http => #{listen => list_to_binary(Listen)}},
                          models()),
     Port}.

get(Port, Path) ->
    Url = "http://127.0.0.1:" ++ integer_to_list(Port) ++ Path,
    {ok, {{_, Status, _}, Headers, Body}} =
        httpc:request(get, {Url, [{"connection", "close"}]}, [],
                      [{body_format, binary}]),
    {Status, Headers, Body}.

a_router_serves_it(Config) ->
    {Up, Port} = start_router(Config),
    {200, Headers, Body} = get(Port, "/"),
    ?assertEqual(html(), Body),
    ?assertEqual(binary_to_list(policy(Body)),
                 proplists:get_value("content-security-policy", Headers)),
    ?assertEqual("text/html; charset=utf-8",
                 proplists:get_value("content-type", Headers)),
    Page = browser:open(proplists:get_value(browser, Config),
                        "http://localhost:" ++ integer_to_list(Port) ++ "/",
                        ?PHONE),
    await(Page, "!document.getElementById('main').hidden"),
    {ok, _} = bed:call(Up, {call_with_prompt, simple, <<"hi">>}),
    {error, _} = bed:call(Up, {call_with_prompt, <<"nobody">>, <<"hi">>}),
    await(Page, "document.querySelectorAll('#errors tbody tr').length === 1 &&"
                " document.querySelectorAll('#models tbody tr').length > 0"),
    ?assertMatch({_, <<"2 since start">>}, tile(Page, "Requests")),
    ?assertMatch([_, <<"no_route">> | _], hd(rows(Page, "errors"))),
    ?assertMatch([[<<"one">>, <<"ok">> | _], [<<"two">>, <<"ok">> | _] | _],
                 rows(Page, "providers")),
    ?assertEqual(0, overflow(Page)),
    ?assertEqual([], browser:faults(Page)),
    {exited, 0} = bed:stop_router(Up),
    await(Page, "!document.getElementById('alert').hidden"),
    browser:close(Page).

%% Hundreds that say nothing, half of a request, or never read their answer.
a_crowd_at_its_port_holds_no_caller_up(Config) ->
    {Up, Port} = start_router(Config),
    Call = {call_with_prompt, simple, <<"hi">>},
    [{ok, _} = bed:call(Up, Call) || _ <- lists:seq(1, 20)],
    Fds = router:fd_count(bed:router(Up)),
    Crowd = [crowd(Port, N) || N <- lists:seq(1, 300)],
    [{ok, _} = bed:call(Up, Call) || _ <- lists:seq(1, 100)],
    ?assertMatch({200, _, <<"ready\n">>}, get(Port, "/ready")),
    {200, _, Json} = get(Port, "/status.json"),
    #{<<"longest_stall_ms">> := Stall} = test_json:decode(Json),
    ?assert(Stall < bed:limit_ms(500)),
    lists:foreach(fun gen_tcp:close/1, Crowd),
    bed:eventually(fun() -> router:fd_count(bed:router(Up)) =< Fds end),
    {exited, 0} = bed:stop_router(Up).

crowd(Port, N) ->
    {ok, Socket} = gen_tcp:connect("127.0.0.1", Port,
                                   [binary, {active, false}, {recbuf, 1024}]),
    Text = element(1 + N rem 3, {<<>>, <<"GET / HTTP/1.1\r\nHo">>,
                                 binary:copy(<<"GET / HTTP/1.1\r\n"
                                               "Host: localhost\r\n\r\n">>,
                                             50)}),
    _ = gen_tcp:send(Socket, Text), % may have been closed
    Socket.
