%% Everything at once: two providers that fail in every way at random, callers
%% of every kind that die and cancel at random, and a configuration that
%% changes under them. Each call ends once, and nothing is left over.
-module(mixed_faults_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(CALLERS, 40).
-define(TIMEOUT, 3000).
-define(TEXT, <<"Hello there, this is an answer of some length.">>).

suite() ->
    [{timetrap, {seconds, 120 + seconds()}}].

all() ->
    [every_call_ends_once_and_nothing_is_left_over].

init_per_suite(Config) ->
    two_providers:up(Config, #{callers => 2}).

end_per_suite(Config) ->
    two_providers:down(Config).

%% How long it goes on: LLM_ROUTER_MIX_SECONDS, 15 unless given.
seconds() ->
    list_to_integer(os:getenv("LLM_ROUTER_MIX_SECONDS", "15")).

settings() ->
    #{one => #{in_flight => 10,
               keys => [#{name => <<"a">>, env => <<"ONE_A">>},
                        #{name => <<"b">>, env => <<"ONE_B">>,
                          requests_per_minute => 3000}]},
      env => [{"ONE_A", "key-a"}, {"ONE_B", "key-b"},
              {"LLM_ROUTER_TIMEOUTS_HEADERS_MS", "500"},
              {"LLM_ROUTER_TIMEOUTS_FIRST_TOKEN_MS", "500"},
              {"LLM_ROUTER_TIMEOUTS_IDLE_MS", "500"}],
      budget => #{usd_per_day => 1000000},
      cache => #{max_bytes => 200000, default => false, age_ms => 2000}}.

every_call_ends_once_and_nothing_is_left_over(Config) ->
    Models = [#{provider => <<"one">>, id => <<"small">>, in => 1, out => 2},
              #{provider => <<"two">>, id => <<"large">>, in => 1, out => 2}],
    Up = two_providers:router(Config, settings(), Models),
    [scripted_provider:set_handler(P, fun(_) -> fault(rand:uniform(100)) end)
     || P <- [two_providers:one(Up), two_providers:two(Up)]],
    Until = bed:now_ms() + 1000 * seconds(),
    Server = {llm_router, router:node(bed:router(Up))},
    Self = self(),
    [spawn_link(fun() ->
         Self ! {counts, slices(bed:caller(Up, 1 + I rem 2), Server, Until,
                                #{})}
     end) || I <- lists:seq(1, ?CALLERS)],
    change_for_ever(Up, Until),
    Counts = [receive {counts, C} -> C after 60000 -> error(hung) end
              || _ <- lists:seq(1, ?CALLERS)],
    ct:pal("~0tp", [lists:foldl(fun add/2, #{}, Counts)]),
    [scripted_provider:set_handler(P, two_providers:says(?TEXT))
     || P <- [two_providers:one(Up), two_providers:two(Up)]],
    nothing_is_left(Up),
    {exited, 0} = bed:stop_router(Up).

%% A few seconds on the caller's node, again and again.
slices(Caller, Server, Until, Counts) ->
    Left = Until - bed:now_ms(),
    case Left > 0 of
        true ->
            Slice = bed:on(Caller, fun() ->
                Now = erlang:monotonic_time(millisecond),
                caller(Server, Now + min(Left, 10000), #{})
            end),
            slices(Caller, Server, Until, add(Slice, Counts));
        false ->
            Counts
    end.

add(Counts, Sum) ->
    maps:fold(fun(K, N, S) -> S#{K => N + maps:get(K, S, 0)} end, Sum, Counts).

%% Waits for what was given up to end, then looks at every table.
nothing_is_left(Up) ->
    bed:eventually(fun() ->
        #{in_flight := Jobs, keys := Keys,
          queue := #{calling := Calling, waiting := Waiting}} =
            bed:call(Up, stats),
        {Jobs, Calling, Waiting, [N || #{in_flight := N} <- Keys, N > 0]}
            =:= {0, 0, 0, []}
    end, 10000),
    %% benches end, and then all is well
    bed:eventually(fun() ->
        case bed:call(Up, {call_with_prompt, simple, <<"Hello">>}) of
            {ok, #{text := ?TEXT}} -> true;
            {error, _} -> false
        end
    end, 70000).

%% ---------------------------------------------------------------- provider

fault(N) when N =< 55 ->
    scripted_provider:answer(?TEXT, #{chunk_size => 1 + N, delay => N rem 4});
fault(N) when N =< 62 ->
    [{status, 500}, {body, <<"{\"error\":{\"message\":\"no\"}}">>}];
fault(N) when N =< 68 ->
    [{status, 429}, {header, <<"retry-after-ms">>, <<"150">>},
     {body, <<"{\"error\":{\"message\":\"slowly\"}}">>}];
fault(N) when N =< 72 ->
    [hang];
fault(N) when N =< 77 ->
    [Head, Role, First | _] = scripted_provider:stream(?TEXT, #{}),
    [Head, Role, First, lists:nth(1 + N rem 3, [hang, close, reset])];
fault(N) when N =< 81 ->
    [reset];
fault(N) when N =< 85 ->
    [{body, <<"<html>">>}];
fault(N) when N =< 88 ->
    [{status, 400}, {body, <<"{\"error\":{\"message\":\"bad\"}}">>}];
fault(N) when N =< 90 ->
    [{status, 401}, {body, <<"{\"error\":{\"message\":\"who?\"}}">>}];
fault(N) when N =< 93 ->
    [{sleep, 300} | scripted_provider:answer(?TEXT)];
fault(_) ->
    scripted_provider:answer(<<"{\"tasks\":[{\"title\":\"One\"}]}">>).

%% ----------------------------------------------------------- configuration

change_for_ever(Up, Until) ->
    File = proplists:get_value(config_file, Up),
    {ok, Text} = file:read_file(File),
    Json = test_json:decode(Text),
    Changes = [fun(J) -> J end,
               fun(J) -> J#{<<"limits">> => #{<<"in_flight">> => 8}} end,
               fun(J) -> J#{<<"limits">> => #{<<"in_flight">> => 30,
                                              <<"queued">> => 5}} end,
               fun(#{<<"providers">> := P} = J) ->
                       J#{<<"providers">> => maps:remove(<<"one">>, P)}
               end,
               fun(J) -> J#{<<"routes">> => <<"broken">>} end],
    change(Up, File, Json, Changes, Until),
    ok = file:write_file(File, Text),
    ok = bed:call(Up, reload).

change(Up, File, Json, Changes, Until) ->
    case bed:now_ms() < Until of
        true ->
            Change = lists:nth(rand:uniform(length(Changes)), Changes),
            ok = file:write_file(File, test_json:encode(Change(Json))),
            _ = bed:call(Up, reload),
            timer:sleep(150),
            change(Up, File, Json, Changes, Until);
        false ->
            ok
    end.

%% ------------------------------------------------------------------ callers

%% On a caller's node: how its calls ended.
caller(Server, Until, Counts) ->
    case erlang:monotonic_time(millisecond) < Until of
        true ->
            End = one(rand:uniform(10), Server),
            caller(Server, Until,
                   maps:update_with(End, fun(N) -> N + 1 end, 1, Counts));
        false ->
            no_junk(),
            Counts
    end.

no_junk() ->
    receive Junk -> error({junk, Junk}) after 100 -> ok end.

opts() ->
    #{timeout => ?TIMEOUT}.

messages() ->
    [#{role => user, content => <<"Say hello to me">>}].

one(N, Server) when N =< 4 ->
    call(Server, {call, simple, messages(), opts()});
one(5, Server) ->
    Id = integer_to_binary(rand:uniform(5)),
    call(Server, {call, simple, messages(), (opts())#{request_id => Id}});
one(6, Server) ->
    call(Server, {call, simple, messages(), (opts())#{cache => true}});
one(7, Server) ->
    call(Server, {parse_prd, <<"# A\n\nB">>, 1, opts()});
one(8, Server) ->
    %% one that dies
    {Pid, Ref} = spawn_monitor(
                   fun() ->
                           gen_server:call(Server, {call, simple, messages(),
                                                    opts()}, infinity)
                   end),
    timer:sleep(rand:uniform(60)),
    exit(Pid, kill),
    receive {'DOWN', Ref, process, Pid, _} -> died end;
one(9, Server) ->
    stream(Server, no);
one(10, Server) ->
    stream(Server, yes).

call(Server, Op) ->
    ended(gen_server:call(Server, Op, ?TIMEOUT + 5000)).

ended({ok, _}) -> ok;
ended({error, {Code, #{message := Message}}}) when is_binary(Message) -> Code.

stream(Server, Cancel) ->
    case gen_server:call(Server, {stream, simple, messages(), opts()}) of
        {ok, Ref} ->
            Cancel =:= yes andalso
                begin
                    timer:sleep(rand:uniform(40)),
                    gen_server:call(Server, {cancel, Ref})
                end,
            stream_end(Ref, []);
        Error ->
            ended(Error)
    end.

stream_end(Ref, Deltas) ->
    receive
        {llm_stream, Ref, {delta, Delta}} ->
            stream_end(Ref, [Delta | Deltas]);
        {llm_stream, Ref, {done, #{text := Text}}} ->
            Text = iolist_to_binary(lists:reverse(Deltas)),
            streamed;
        {llm_stream, Ref, {error, Reason}} ->
            ended({error, Reason})
    after ?TIMEOUT + 5000 ->
            error({stream_without_end, Deltas})
    end.
