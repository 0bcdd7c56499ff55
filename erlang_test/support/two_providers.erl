%% Two providers "one" and "two", each a scripted one, and a router whose
%% configuration names them. For suites about the choice between them.
-module(two_providers).

-export([up/1, up/2, down/1, router/3, one/1, two/1]).
-export([fails/1, fails/2, says/1, hangs/0, counts/1, reset/1]).

up(Config) ->
    up(Config, #{}).

up(Config, Opts) ->
    [{one, scripted_provider:start()}, {two, scripted_provider:start()}
     | bed:up(Config, Opts#{router => none})].

down(Config) ->
    scripted_provider:stop(one(Config)),
    scripted_provider:stop(two(Config)),
    bed:down(proplists:delete(one, proplists:delete(two, Config))).

one(Config) -> proplists:get_value(one, Config).
two(Config) -> proplists:get_value(two, Config).

%% A fresh router. Settings is the configuration file as a map, to which the
%% providers are added: what they have more is under the keys one and two.
router(Config, Settings, Models) ->
    Dir = proplists:get_value(priv_dir, Config),
    Name = integer_to_list(erlang:unique_integer([positive])),
    Catalogue = filename:join(Dir, Name ++ ".models.json"),
    File = filename:join(Dir, Name ++ ".json"),
    Providers = #{one => provider(one(Config), maps:get(one, Settings, #{})),
                  two => provider(two(Config), maps:get(two, Settings, #{}))},
    All = maps:merge(#{routes => #{simple => [<<"one/small">>, <<"two/large">>],
                                   medium => [<<"one/small">>, <<"two/large">>],
                                   complex => [<<"two/large">>]},
                       state => #{file => bin(filename:join(Dir, Name
                                                            ++ ".spent"))}},
                     maps:without([one, two, env], Settings)),
    ok = file:write_file(Catalogue, test_json:encode(#{models => Models})),
    ok = file:write_file(
           File,
           test_json:encode(All#{providers => Providers,
                                 catalogue => #{file => bin(Catalogue)}})),
    reset(Config),
    [{config_file, File} |
     bed:start_router(Config, #{connect => [], args => ["--config", File],
                                env => maps:get(env, Settings, [])})].

provider(Provider, More) ->
    maps:merge(#{dialect => <<"openai">>,
                 base_url => scripted_provider:url(Provider)}, More).

reset(Config) ->
    [scripted_provider:set_handler(P, says(Text))
     || {P, Text} <- [{one(Config), <<"one">>}, {two(Config), <<"two">>}]],
    ok.

%% Handlers.
says(Text) ->
    fun(_) -> scripted_provider:answer(Text) end.

fails(Status) ->
    fails(Status, []).

fails(Status, Headers) ->
    fun(_) ->
            [{status, Status}, {header, <<"content-type">>,
                                <<"application/json">>}]
                ++ [{header, N, V} || {N, V} <- Headers]
                ++ [{body, <<"{\"error\":{\"message\":\"no\"}}">>}]
    end.

hangs() ->
    fun(_) -> [hang] end.

%% Requests seen by one and by two.
counts(Config) ->
    {length(scripted_provider:requests(one(Config))),
     length(scripted_provider:requests(two(Config)))}.

bin(Text) -> unicode:characters_to_binary(Text).
