%% Keys, the cookie and prompts are where they belong and nowhere else.
%%
%% Every secret of a test is a canary: random text that is nowhere by chance. A
%% few of its bytes in a row, plain or in base64, are a leak. Routers log at
%% level debug, and what they wrote is searched after each test.
-module(secrets_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(IN_A_ROW, 10).        % bytes of a key that are a leak
-define(PROMPT_IN_A_ROW, 16). % of a prompt: a word of it may be any word
-define(ABORTED, 134).        % 128 + SIGABRT

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [%% where keys go
     every_provider_gets_its_own_key_and_no_other,
     each_key_of_a_provider_is_sent_whole,
     a_redirect_takes_no_key_elsewhere,
     a_fallback_gets_only_its_own_key,
     %% where they do not
     an_echoed_key_is_in_no_error,
     failed_connections_show_no_key,
     what_can_be_asked_shows_no_secret,
     a_reload_shows_no_secret,
     a_reload_hides_what_it_needs_first,
     a_reload_that_fails_shows_no_secret,
     a_bad_start_shows_no_secret,
     the_printed_configuration_has_no_secret,
     the_system_shows_no_secret,
     what_is_kept_on_disk_has_no_secret,
     a_crash_leaves_no_secret,
     %% prompts
     a_prompt_is_in_no_log_no_error_and_no_figures].

%% ------------------------------------------------------------------- bed

%% Three ways to give a key: by its variable, NAME_FILE, a credential; and the
%% two of a configuration file. `google` is a second variable of gemini, which
%% needs none.
keys() ->
    [openai, anthropic, gemini, google, own_a, own_b, azure, dead, tls,
     organization, project].

%% These say who pays, but open nothing: they may stand in a configuration file.
identifiers() ->
    [organization, project].

providers() ->
    [openai, anthropic, gemini, own, azure, nokey].

init_per_suite(Config) ->
    Config1 = bed:up(Config, #{router => none}),
    {Tls, _} = https:certificate(dir(Config1), {iPAddress, <<127, 0, 0, 1>>},
                                 https:valid()),
    Started = [{Name, scripted_provider:start()} || Name <- providers()]
        ++ [{tls, scripted_provider:start(#{tls => Tls})}],
    #{cookie := Cookie} = proplists:get_value(bed, Config1),
    Canaries = [{Name, canary()} || Name <- keys()]
        ++ [{cookie, list_to_binary(Cookie)}],
    [{providers, Started}, {canaries, Canaries} | Config1].

end_per_suite(Config) ->
    [scripted_provider:stop(P) || {_, P} <- proplists:get_value(providers,
                                                                Config)],
    bed:down(Config).

init_per_testcase(_Case, Config) ->
    [set(Config, Name, fun scripted_model:from_document/1)
     || {Name, _} <- proplists:get_value(providers, Config)],
    bed:renamed(Config).

end_per_testcase(_Case, Config) ->
    bed:must(fun() -> none = bed:stop_router(Config) end).

dir(Config) ->
    proplists:get_value(priv_dir, Config).

new_path(Config, Suffix) ->
    Name = integer_to_list(erlang:unique_integer([positive])),
    filename:absname(filename:join(dir(Config), Name ++ Suffix)).

new_file(Config, Suffix, Content) ->
    File = new_path(Config, Suffix),
    ok = file:write_file(File, Content),
    ok = file:change_mode(File, 8#600),
    File.

bin(Text) -> unicode:characters_to_binary(Text).

provider(Config, Name) ->
    proplists:get_value(Name, proplists:get_value(providers, Config)).

set(Config, Name, Handler) ->
    scripted_provider:set_handler(provider(Config, Name), Handler).

requests(Config, Name) ->
    scripted_provider:requests(provider(Config, Name)).

%% Starts a router that knows all providers, runs Test(Config), stops it, and
%% looks at all that it wrote. More is added to its configuration.
with_router(Config, Test) ->
    with_router(Config, #{}, Test).

with_router(Config, More, Test) ->
    with_options(Config, options(Config, More), Test).

with_options(Config, Options, Test) ->
    Config1 = [{config_file, config_file(Options)}
               | bed:start_router(Config, Options)],
    Stdout = try Test(Config1)
             after
                 #{pid := Pid} = bed:router(Config1),
                 Written = gen_server:call(Pid, stdout),
                 {exited, 0} = bed:stop_router(Config1),
                 Written
             end,
    Log = router:stderr(bed:router(Config1)),
    ?assert(byte_size(Log) > 100),
    clean(Config, log, Log),
    clean(Config, stdout, Stdout).

options(Config, More) ->
    File = new_file(Config, ".json", test_json:encode(settings(Config, More))),
    #{connect => [], args => ["--config", File], env => environment(Config)}.

config_file(#{args := ["--config", File]}) -> File.

environment(Config) ->
    Credentials = new_path(Config, ".credentials"),
    ok = file:make_dir(Credentials),
    Credential = filename:join(Credentials, "GEMINI_API_KEY"),
    ok = file:write_file(Credential, key(Config, gemini)),
    ok = file:change_mode(Credential, 8#600),
    KeyFile = new_file(Config, ".key", [key(Config, anthropic), "\r\n"]),
    [{"OPENAI_API_KEY", text(Config, openai)},
     {"OPENAI_ORG_ID", text(Config, organization)},
     {"OPENAI_PROJECT_ID", text(Config, project)},
     {"OPENAI_BASE_URL", base_url(Config, openai)},
     {"ANTHROPIC_API_KEY_FILE", KeyFile},
     {"ANTHROPIC_BASE_URL", base_url(Config, anthropic)},
     {"CREDENTIALS_DIRECTORY", Credentials},
     {"GOOGLE_API_KEY", text(Config, google)},
     {"GEMINI_BASE_URL", base_url(Config, gemini)},
     {"AZURE_OPENAI_API_KEY", text(Config, azure)},
     {"AZURE_OPENAI_ENDPOINT", base_url(Config, azure)},
     {"OWN_SECRET", text(Config, own_a)},
     {"DEAD_SECRET", text(Config, dead)},
     {"TLS_SECRET", text(Config, tls)},
     {"LLM_ROUTER_LOG_LEVEL", "debug"}].

settings(Config, More) ->
    Second = new_file(Config, ".key", key(Config, own_b)),
    Dead = io_lib:format("http://127.0.0.1:~b/v1", [https:free_port()]),
    Prices = new_file(Config, ".models.json",
                      test_json:encode(#{models => [#{provider => own,
                                                      id => priced,
                                                      in => 1, out => 1}]})),
    Own = #{base_url => bin(base_url(Config, own)),
            keys => [#{name => a, env => <<"OWN_SECRET">>},
                     #{name => b, file => bin(Second)}]},
    maps:merge(#{providers =>
                     #{own => Own,
                       dead => #{base_url => bin(Dead),
                                 api_key_env => <<"DEAD_SECRET">>},
                       tls => #{base_url => bin(base_url(Config, tls)),
                                api_key_env => <<"TLS_SECRET">>},
                       nokey => #{base_url => bin(base_url(Config, nokey))}},
                 routes => #{simple => [<<"openai/one">>, <<"nokey/two">>]},
                 catalogue => #{file => bin(Prices)},
                 retry => #{max => 0}}, More).

base_url(Config, Name) ->
    Dialect = case Name of
                  anthropic -> anthropic;
                  gemini -> gemini;
                  azure -> azure;
                  _ -> openai
              end,
    binary_to_list(scripted_provider:url(provider(Config, Name), Dialect)).

op(Name) ->
    op(Name, <<"Say hello to me">>).

op(Name, Prompt) ->
    {call_with_prompt, <<(atom_to_binary(Name))/binary, "/priced">>, Prompt}.

%% ---------------------------------------------------------------- canaries

canary() ->
    << <<(letter(Byte rem 62))>>
       || <<Byte>> <= crypto:strong_rand_bytes(40) >>.

letter(N) when N < 10 -> $0 + N;
letter(N) when N < 36 -> $A + N - 10;
letter(N) -> $a + N - 36.

key(Config, Name) ->
    proplists:get_value(Name, proplists:get_value(canaries, Config)).

text(Config, Name) ->
    binary_to_list(key(Config, Name)).

%% All that would give a secret away.
traces(Secret, InARow) ->
    lists:append([pieces(Form, InARow)
                  || Form <- [Secret | in_base64(Secret)]]).

%% Without what depends on the bytes around it, in each of three positions.
in_base64(Secret) ->
    [base64:encode(binary:part(Secret, Skip, (byte_size(Secret) - Skip)
                               div 3 * 3)) || Skip <- [0, 1, 2]].

pieces(Text, InARow) when byte_size(Text) =< InARow ->
    [Text];
pieces(Text, InARow) ->
    [binary:part(Text, At, InARow)
     || At <- lists:seq(0, byte_size(Text) - InARow)].

shows(Bytes, Secret, InARow) ->
    binary:match(Bytes, traces(Secret, InARow)) =/= nomatch.

%% The names of the canaries that are in a text or a term.
found(Config, Text) when is_binary(Text) ->
    [Name || {Name, Secret} <- proplists:get_value(canaries, Config),
             shows(Text, Secret, ?IN_A_ROW)];
found(Config, Term) ->
    found(Config, term_to_binary(Term)).

clean(Config, What, Text) ->
    ?assertEqual({What, []}, {What, found(Config, Text)}).

%% ----------------------------------------------------------- where keys go

every_provider_gets_its_own_key_and_no_other(Config) ->
    with_router(Config, fun(Config1) ->
        [begin
             set(Config, Name, fun scripted_model:from_document/1),
             {ok, _} = bed:call(Config1, op(Name)),
             [#{headers := Headers} = Request] = requests(Config, Name),
             ?assertEqual(Value, maps:get(Header, Headers, none)),
             ?assertEqual({Name, lists:sort(Sent)},
                          {Name, lists:sort(found(Config, Request))})
         end || {Name, Header, Value, Sent} <- expected(Config)]
    end).

expected(Config) ->
    [{openai, <<"authorization">>, bearer(Config, openai),
      [openai, organization, project]},
     {openai, <<"openai-organization">>, key(Config, organization),
      [openai, organization, project]},
     {anthropic, <<"x-api-key">>, key(Config, anthropic), [anthropic]},
     {gemini, <<"x-goog-api-key">>, key(Config, gemini), [gemini]},
     {azure, <<"api-key">>, key(Config, azure), [azure]},
     {own, <<"authorization">>, bearer(Config, own_a), [own_a]},
     {nokey, <<"authorization">>, none, []}].

bearer(Config, Name) ->
    <<"Bearer ", (key(Config, Name))/binary>>.

%% A key that is refused gives way to the next; then the first is not sent.
each_key_of_a_provider_is_sent_whole(Config) ->
    with_router(Config, #{retry => #{max => 1}}, fun(Config1) ->
        set(Config, own, only_the_second(Config)),
        {ok, _} = bed:call(Config1, op(own)),
        [_, #{headers := #{<<"authorization">> := Second}} = Request] =
            requests(Config, own),
        ?assertEqual(bearer(Config, own_b), Second),
        ?assertEqual([own_b], found(Config, Request))
    end).

only_the_second(Config) ->
    First = bearer(Config, own_a),
    fun(#{headers := #{<<"authorization">> := Sent}}) when Sent =:= First ->
            scripted_provider:error(401, bad_key, <<"no">>, []);
       (Request) ->
            scripted_model:from_document(Request)
    end.

%% Neither to another provider nor to another path of its own.
a_redirect_takes_no_key_elsewhere(Config) ->
    with_router(Config, fun(Config1) ->
        [begin
             set(Config, openai, [[{status, Status},
                                   {header, <<"location">>, To},
                                   {header, <<"refresh">>,
                                    ["0; url=", To]}]]),
             {error, Reason} = bed:call(Config1, op(openai)),
             clean(Config, {redirect, To}, Reason),
             ?assertEqual([<<"/v1/chat/completions">>],
                          [Path || #{path := Path} <- requests(Config,
                                                               openai)]),
             ?assertEqual([], requests(Config, nokey))
         end || Status <- [301, 302, 303, 307, 308],
                To <- [<<(bin(base_url(Config, nokey)))/binary,
                         "/chat/completions">>,
                       <<(bin(base_url(Config, openai)))/binary, "/elsewhere">>,
                       <<"http://", (key(Config, openai))/binary, "@127.0.0.1">>
                      ]]
    end).

a_fallback_gets_only_its_own_key(Config) ->
    Routes = #{simple => [<<"openai/one">>, <<"nokey/two">>, <<"own/three">>]},
    with_router(Config, #{routes => Routes}, fun(Config1) ->
        [set(Config, Name, fun(_) -> [{status, 500}] end)
         || Name <- [openai, nokey]],
        {ok, #{provider := <<"own">>}} =
            bed:call(Config1, {call_with_prompt, simple, <<"Hello there">>}),
        [?assertEqual({Name, Sent}, {Name, found(Config, Request)})
         || {Name, Sent} <- [{nokey, []}, {own, [own_a]}],
            Request <- requests(Config, Name)],
        ?assertMatch([_], requests(Config, nokey))
    end).

%% --------------------------------------------------------------- their echo

%% What has been seen of providers and of the proxies before them: the key as
%% it is, a part of it, the whole request, in base64; in every place from which
%% an error could be told.
an_echoed_key_is_in_no_error(Config) ->
    with_router(Config, fun(Config1) ->
        [echoed(Config1, Name, Key, Handler)
         || {Name, Key} <- [{openai, openai}, {anthropic, anthropic},
                            {gemini, gemini}, {azure, azure}, {own, own_a}],
            Handler <- echoes()],
        shows_nothing(Config1)
    end).

%% A refused key is the last: the router asks with it no more for a while.
echoed(Config, Name, KeyName, Handler) ->
    Key = key(Config, KeyName),
    set(Config, Name, fun(Request) -> Handler(Request, Key) end),
    Answer = bed:call(Config, op(Name)),
    ?assertMatch({[_ | _], {error, _}}, {requests(Config, Name), Answer}),
    clean(Config, Name, Answer).

echoes() ->
    [fun(Request, Key) -> failed(400, Words(Request, Key)) end
     || Words <- words()]
        ++ [fun(_, Key) ->
                    [{header, <<"www-authenticate">>, Key},
                     {header, <<"x-request-id">>, Key},
                     {header, <<"x-should-retry">>, Key} | failed(500, <<>>)]
            end,
            fun(_, Key) -> [{status, 500}, {body, Key}] end,
            fun(_, Key) -> [{body, <<"<html>", Key/binary>>}] end,
            fun(_, Key) -> [{body, <<"{\"error\":", Key/binary>>}] end,
            fun(_, Key) -> [{raw, <<"HTTP/1.1 500 ", Key/binary, "\r\n\r\n">>}]
            end,
            fun(_, Key) -> [{raw, Key}, close] end,
            fun(_, Key) -> [{sse, document(Key)}] end,
            fun(_, Key) -> [{event, Key, document(Key)}] end,
            fun(_, Key) -> [{chunk, ["data: ", Key, "\n\n"]}] end,
            fun(_, Key) -> failed(401, Key) end].

words() ->
    [fun(_, Key) -> <<"We do not know ", Key/binary, ".">> end,
     fun(_, Key) -> <<"x", Key/binary, Key/binary, "=", Key/binary>> end,
     fun(_, Key) -> <<(binary:copy(<<"x ">>, 100))/binary, Key/binary>> end,
     fun(_, Key) -> ["key ", binary:part(Key, 0, 20), "... is unknown"] end,
     fun(_, Key) -> ["ends in ", binary:part(Key, 40, -14)] end,
     fun(_, Key) -> ["has '", binary:part(Key, 10, 16), "' in it"] end,
     fun(_, Key) -> ["Basic ", base64:encode(Key)] end,
     fun(_, Key) -> base64:encode(<<"Bearer ", Key/binary>>) end,
     fun(_, Key) -> base64:encode(<<"user:", Key/binary, ":x">>) end,
     fun(#{headers := Headers}, _) -> io_lib:format("~p", [Headers]) end,
     fun(Request, _) -> io_lib:format("~0p", [Request]) end].

failed(Status, Words) ->
    [{status, Status}, {header, <<"content-type">>, <<"application/json">>},
     {body, test_json:encode(document(iolist_to_binary(Words)))}].

%% The shapes of all dialects at once.
document(Words) ->
    #{type => error, message => Words, detail => Words, request_id => Words,
      error => #{message => Words, type => Words, param => Words, code => Words,
                 status => Words, metadata => #{raw => Words},
                 details => [#{reason => Words, retryDelay => Words}]}}.

failed_connections_show_no_key(Config) ->
    with_router(Config, fun(Config1) ->
        [begin
             set(Config, Name, Handler),
             {error, Reason} = bed:call(Config1, op(Name)),
             clean(Config, Name, Reason)
         end || {Name, Handler} <- [{openai, [[reset]]}, {anthropic, [[close]]},
                                    {gemini, [[{raw, <<"nonsense">>}, close]]},
                                    {azure, [[{chunk, <<"data: ">>}, reset]]}]],
        [begin
             {error, {unreachable, Details}} = bed:call(Config1, op(Name)),
             clean(Config, Name, Details)
         end || Name <- [dead, tls]],
        ?assertEqual([], requests(Config, tls)),
        bed:eventually(fun() ->
            #{handshake_failed := N} =
                scripted_provider:counters(provider(Config, tls)),
            N > 0
        end),
        shows_nothing(Config1)
    end).

%% ------------------------------------------------------------------- asking

what_can_be_asked_shows_no_secret(Config) ->
    with_router(Config, fun(Config1) ->
        {ok, _} = bed:call(Config1, op(openai)),
        {ok, _} = bed:call(Config1, op(own)),
        shows_nothing(Config1)
    end).

shows_nothing(Config) ->
    [clean(Config, Op, bed:call(Config, Op))
     || Op <- [ping, version, health, stats, models, get_available_models,
               {select_model, simple, qa, #{return => full}},
               {nonsense, 1}, reload]],
    Router = bed:node(Config),
    Server = {llm_router, Router},
    [clean(Config, Name, bed:on(bed:caller(Config), Fun))
     || {Name, Fun} <-
            [{get_state, fun() -> catch sys:get_state(Server) end},
             {get_status, fun() -> catch sys:get_status(Server) end},
             {statistics, fun() -> catch sys:statistics(Server, get) end},
             {environment, fun() -> rpc:call(Router, os, getenv, []) end},
             {cookie, fun() -> rpc:call(Router, erlang, get_cookie, []) end},
             {process, fun() -> rpc:call(Router, erlang, processes, []) end}]].

%% ------------------------------------------------------------------- reload

%% The keys of variables stay, that of a file is read anew.
a_reload_shows_no_secret(Config) ->
    New = canary(),
    Both = with_canary(Config, new, New),
    with_router(Both, #{retry => #{max => 1}}, fun(Config1) ->
        ok = file:write_file(second_key_file(Config1), New),
        ?assertEqual(ok, bed:call(Config1, reload)),
        set(Config, own, only_the_second(Config)),
        {ok, _} = bed:call(Config1, op(own)),
        {ok, _} = bed:call(Config1, op(openai)),
        ?assertEqual([bearer(Config, own_a), <<"Bearer ", New/binary>>,
                      bearer(Config, openai)],
                     [Sent || Name <- [own, openai],
                              #{headers := #{<<"authorization">> := Sent}} <-
                                  requests(Config, Name)]),
        shows_nothing(Config1)
    end).

with_canary(Config, Name, Secret) ->
    Canaries = proplists:get_value(canaries, Config),
    lists:keystore(canaries, 1, Config,
                   {canaries, [{Name, Secret} | Canaries]}).

second_key_file(Config) ->
    #{<<"providers">> := #{<<"own">> := #{<<"keys">> := Keys}}} =
        test_json:decode(must_read(proplists:get_value(config_file, Config))),
    [File] = [F || #{<<"file">> := F} <- Keys],
    File.

must_read(File) ->
    {ok, Bytes} = file:read_file(File),
    Bytes.

%% A variable that nothing named when the router was started.
a_reload_hides_what_it_needs_first(Config) ->
    Late = canary(),
    Both = with_canary(Config, late, Late),
    #{env := Env} = Options = options(Config, #{}),
    with_options(
      Both, Options#{env := [{"LATE_SECRET", binary_to_list(Late)} | Env]},
      fun(Config1) ->
          File = proplists:get_value(config_file, Config1),
          #{<<"providers">> := Providers} = Json =
              test_json:decode(must_read(File)),
          New = #{base_url => bin(base_url(Config, nokey)),
                  api_key_env => <<"LATE_SECRET">>},
          ok = file:write_file(
                 File, test_json:encode(
                         Json#{<<"providers">> => Providers#{late => New}})),
          ok = bed:call(Config1, reload),
          {ok, _} = bed:call(Config1, op(late)),
          [Request] = requests(Config, nokey),
          ?assertEqual([late], found(Both, Request)),
          system_is_clean(Config1)
      end).

a_reload_that_fails_shows_no_secret(Config) ->
    Secret = canary(),
    Short = binary:part(Secret, 0, 14),
    Both = with_canary(Config, misplaced, Secret),
    with_router(Both, fun(Config1) ->
        File = proplists:get_value(config_file, Config1),
        [begin
             ok = file:write_file(File, Bad),
             {error, {invalid_request, Details}} = bed:call(Config1, reload),
             clean(Both, Bad, Details),
             clean(with_canary(Config, short, Short), Bad, Details)
         end || Bad <- misplaced(Config, Secret) ++ misplaced(Config, Short)],
        {ok, _} = bed:call(Config1, op(openai)),
        router:signal(bed:router(Config1), "HUP"),
        bed:eventually(fun() ->
            #{reloads_failed := N} = bed:call(Config1, stats),
            N > 2 * length(misplaced(Config, Secret))
        end),
        clean(with_canary(Config, short, Short), log,
              router:stderr(bed:router(Config1)))
    end).

%% Secrets where they do not belong, and files that are broken near them.
misplaced(Config, Secret) ->
    Twisted = new_file(Config, ".key", [Secret, "\r\nX-More: ", Secret]),
    [test_json:encode(#{providers => #{own => Own}})
     || Own <- [#{base_url => <<"http://127.0.0.1:1">>, api_key => Secret},
                #{base_url => <<"http://127.0.0.1:1">>,
                  keys => [#{name => a, api_key => Secret}]},
                #{base_url => <<"http://127.0.0.1:1">>, key => Secret},
                #{base_url => <<"http://127.0.0.1:1">>, in_flight => Secret},
                #{base_url => <<"http://127.0.0.1:1">>, keys => Secret},
                #{base_url => <<"http://127.0.0.1:1">>, keys => [Secret]},
                #{base_url => <<"http://u:", Secret/binary, "@localhost">>},
                #{base_url => <<"http://localhost/?key=", Secret/binary>>},
                #{base_url => Secret},
                #{dialect => Secret},
                #{base_url => <<"http://127.0.0.1:1">>,
                  api_key_env => <<"Bearer ", Secret/binary>>},
                #{base_url => <<"http://127.0.0.1:1">>,
                  organization => <<Secret/binary, "\r\n">>},
                #{base_url => <<"http://127.0.0.1:1">>,
                  api_key_file => bin(Twisted)}]]
        ++ [<<"{\"providers\": {\"own\": {\"api_key\" \"", Secret/binary,
              "\"}}}">>,
            <<"{\"providers\": {\"own\": {\"api_key\": \"", Secret/binary,
              "\n\"}}}">>,
            <<"{\"providers\": {\"own\": {\"api_key\": ", Secret/binary,
              "}}}">>,
            <<"{\"providers\": \"", Secret/binary, "\" \"", Secret/binary,
              "\"}">>,
            Secret].

%% ------------------------------------------------------------------- start

a_bad_start_shows_no_secret(Config) ->
    Secret = canary(),
    Both = with_canary(Config, misplaced, Secret),
    #{env := Env} = Options = options(Config, #{}),
    Bad = [Options#{env => Env ++ [{Name, binary_to_list(Secret) ++ End}]}
           || {Name, End} <- [{"OPENAI_API_KEY", "\r\nX-More: yes"},
                              {"OPENAI_API_KEY", " "  ++ "x"},
                              {"OPENAI_ORG_ID", "\n" ++ "x"},
                              {"OWN_SECRET", "\tx"},
                              {"RELEASE_COOKIE", "\n"},
                              {"OPENAI_BASE_URL", ""}]]
        ++ [Options#{args => ["--config", new_file(Config, ".json", Text)]}
            || Text <- misplaced(Config, Secret)],
    [begin
         {1, Stdout, Stderr} =
             router:run(Start#{dir => dir(Config), node => bed:node(Config),
                               args => maps:get(args, Start) ++ Check}),
         ?assert(byte_size(Stderr) > 20),
         clean(Both, stdout, Stdout),
         clean(Both, stderr, Stderr)
     end || Start <- Bad, Check <- [["--check-config"], []]].

the_printed_configuration_has_no_secret(Config) ->
    Options = (options(Config, #{}))#{dir => dir(Config),
                                      cookie => "chocolate"},
    {0, Printed, Stderr} = router:run(with_args(Options, ["--print-config"])),
    ?assertEqual(identifiers(), lists:sort(found(Config, Printed))),
    ?assertEqual(nomatch, binary:match(Printed, <<"chocolate">>)),
    ?assertNotEqual(nomatch, binary:match(Printed, <<"***">>)),
    clean(Config, stderr, Stderr),
    {0, Checked, Stderr1} = router:run(with_args(Options, ["--check-config"])),
    clean(Config, stdout, Checked),
    clean(Config, stderr, Stderr1).

with_args(#{args := Args} = Options, More) ->
    Options#{args => Args ++ More}.

%% ------------------------------------------------------------------ system

the_system_shows_no_secret(Config) ->
    [with_router(Config, #{core => #{dump => Dump}}, fun(Config1) ->
         {ok, _} = bed:call(Config1, op(openai)),
         ok = bed:call(Config1, reload),
         {ok, _} = bed:call(Config1, op(own)),
         system_is_clean(Config1)
     end) || Dump <- [false, true]].

%% Others of the same user may be kept from reading its environment; where it
%% can be read, the variables are there, their values are not.
system_is_clean(Config) ->
    Pid = integer_to_list(router:os_pid(bed:router(Config))),
    Proc = "/proc/" ++ Pid,
    Cmdline = must_read(Proc ++ "/cmdline"),
    ?assertNotEqual(nomatch, binary:match(Cmdline, <<"--config">>)),
    clean(Config, cmdline, Cmdline),
    Ps = bin(os:cmd("ps eww -p " ++ Pid ++ " -o args")),
    ?assertNotEqual(nomatch, binary:match(Ps, <<"--config">>)),
    ?assertEqual([], found(Config, Ps) -- identifiers()),
    [environ_is_clean(Config, File)
     || File <- [Proc ++ "/environ" | filelib:wildcard(Proc
                                                       ++ "/task/*/environ")]],
    ?assertEqual([], children(Proc)).

environ_is_clean(Config, File) ->
    case file:read_file(File) of
        {ok, Environ} ->
            ?assertNotEqual(nomatch, binary:match(Environ, <<"OWN_SECRET=">>)),
            ?assertNotEqual(nomatch, binary:match(Environ, <<"=debug">>)),
            ?assertEqual([], found(Config, Environ) -- identifiers());
        {error, eacces} ->
            ok
    end.

%% Whoever it started would have inherited its environment.
children(Proc) ->
    lists:append([string:lexemes(binary_to_list(must_read(File)), " ")
                  || File <- filelib:wildcard(Proc ++ "/task/*/children")]).

what_is_kept_on_disk_has_no_secret(Config) ->
    State = new_path(Config, ".state"),
    with_router(Config, #{state => #{file => bin(State)},
                          budget => #{usd_per_day => 5}},
                fun(Config1) -> {ok, _} = bed:call(Config1, op(own)) end),
    Kept = must_read(State),
    ?assertNotEqual(nomatch, binary:match(Kept, <<"own">>)),
    clean(Config, state, Kept).

%% First with leave for a core file, to see that this system writes one and
%% that it would show the key.
a_crash_leaves_no_secret(Config) ->
    case cores(Config, true) of
        [Core | _] ->
            ?assertNotEqual([], found(Config, Core)),
            ?assertEqual([], cores(bed:renamed(Config), false));
        [] ->
            {skip, "no core files are written here"}
    end.

%% What a router that is aborted leaves in its directory.
cores(Config, Dump) ->
    Dir = new_path(Config, ".cores"),
    ok = file:make_dir(Dir),
    Script = "program=$(realpath \"$1\") && shift && cd \"$0\" && "
        "ulimit -c unlimited && exec \"$program\" \"$@\"",
    #{env := Env} = Options = options(Config, #{core => #{dump => Dump}}),
    Priv = filename:absname(filename:join(router:project(), "priv")),
    Config1 = bed:start_router(
                Config,
                Options#{wrapper => ["/bin/sh", "-c", Script, Dir],
                         env => Env ++ [{"LLM_ROUTER_PRIV_DIR", Priv}]}),
    {ok, _} = bed:call(Config1, op(openai)),
    #{pid := Pid} = Router = bed:router(Config1),
    router:signal(Router, "ABRT"),
    {exited, ?ABORTED} = router:await_exit(Router, 10000),
    gen_server:stop(Pid),
    [must_read(File) || File <- filelib:wildcard(filename:join(Dir, "*"))].

%% ----------------------------------------------------------------- prompts

a_prompt_is_in_no_log_no_error_and_no_figures(Config) ->
    Prompt = <<"the ", (canary())/binary, " of Tuesday">>,
    with_router(Config, fun(Config1) ->
        Answers = [{Op, begin
                            set(Config, openai, Handler),
                            bed:call(Config1, Op)
                        end}
                   || Handler <- tellers(Prompt), Op <- prompts(Prompt)],
        [keeps_quiet(Prompt, Op, Reason)
         || {Op, {error, Reason}} <- Answers],
        ?assert(length([E || {_, {error, E}} <- Answers]) > 20),
        [keeps_quiet(Prompt, Op, bed:call(Config1, Op))
         || Op <- [stats, health, models]],
        keeps_quiet(Prompt, log, router:stderr(bed:router(Config1)))
    end).

keeps_quiet(Prompt, What, Text) when is_binary(Text) ->
    ?assertEqual({What, false},
                 {What, shows(Text, Prompt, ?PROMPT_IN_A_ROW)});
keeps_quiet(Prompt, What, Term) ->
    keeps_quiet(Prompt, What, term_to_binary(Term)).

%% Providers that repeat what they were asked, where it does not belong.
tellers(Prompt) ->
    [fun(#{body := Body}) -> failed(400, Body) end,
     fun(#{body := Body}) -> failed(422, ["input: ", Body]) end,
     fun(_) -> failed(400, ["bad: '", Prompt, "'"]) end,
     fun(_) -> failed(500, ["near ", binary:part(Prompt, 5, 20)]) end,
     fun(_) -> [{sse, document(Prompt)}] end,
     fun(#{body := Body}) -> [{status, 500}, {body, Body}] end,
     fun(#{body := Body}) -> [{body, Body}] end,
     fun(_) -> scripted_provider:answer(<<"{\"", Prompt/binary, "\": 1}">>) end,
     fun(_) -> scripted_provider:answer(Prompt) end,
     fun(_) -> [reset] end].

prompts(Prompt) ->
    Model = <<"openai/one">>,
    By = #{model => Model},
    User = #{role => user, content => Prompt},
    Schema = #{type => object, required => [a],
               properties => #{a => #{type => integer,
                                      description => Prompt}}},
    Tool = #{name => tell, description => Prompt,
             parameters => #{type => object}},
    [{call_with_prompt, Model, Prompt},
     {call_with_system, Model, Prompt, <<"Hello there">>},
     {call, Model, [User, #{role => assistant, content => <<"x">>}, User]},
     {call, Model, [User], #{schema => Schema}},
     {call, Model, [#{role => user, content => <<"Hello">>}],
      #{tools => [Tool]}},
     {call, Model, [#{role => Prompt, content => Prompt}]},
     {call, Model, Prompt},
     {call, Prompt, [User]},
     {generate_task, Prompt, By},
     {generate_task, Prompt, By#{colour => Prompt}},
     {generate_task, Prompt, By#{timeout => Prompt}},
     {generate_task, Prompt, By#{schema => #{type => Prompt}}},
     {generate_task, Prompt, By#{task_type => Prompt}},
     {parse_prd, Prompt, 2, By},
     {parse_prd, Prompt, Prompt, By},
     {expand_task, #{title => Prompt, description => Prompt}, By},
     {expand_task, #{description => Prompt}, By},
     {analyze_complexity, [#{id => 1, title => Prompt}], By},
     {analyze_complexity, Prompt, By},
     {research, Prompt, Prompt, By},
     {embed, [Prompt], By},
     {Prompt, Prompt},
     Prompt].
