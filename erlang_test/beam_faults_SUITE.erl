%% Peers that no real node would be. Whatever one of them does, at most its own
%% connection is closed: every other node is served within a second, and
%% memory and descriptors come back.
-module(beam_faults_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"hi">>}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [a_raw_peer_is_served_like_any_other,
     %% handshakes
     garbage_instead_of_a_handshake_is_closed,
     a_handshake_cut_short_is_closed_after_its_deadline,
     a_wrong_cookie_is_refused,
     a_wrong_digest_is_refused,
     a_real_node_with_a_wrong_cookie_gets_pang,
     missing_mandatory_flags_are_refused,
     odd_node_names_are_refused,
     a_flood_of_handshakes_leaves_room_for_others,
     challenges_cannot_be_foreseen,
     a_second_connection_of_the_same_node_replaces_the_first,
     %% frames
     a_frame_over_the_limit_is_closed_before_it_is_read,
     a_frame_that_never_ends_is_closed_after_the_tick_time,
     a_silent_peer_is_closed_after_the_tick_time,
     frames_that_are_no_frames_are_closed,
     frames_in_single_bytes_are_understood,
     %% terms
     lying_counts_cost_nothing,
     deep_nesting_is_an_error_reply,
     every_kind_of_term_is_answered,
     odd_atoms_are_answered,
     no_atom_is_made_of_what_a_provider_wrote,
     %% signals
     unknown_control_messages_keep_the_connection,
     both_forms_of_a_signal_are_understood,
     traced_signals_are_understood,
     a_node_that_traces_is_served,
     unlink_is_acknowledged,
     signals_for_nobody_are_dropped,
     odd_spawn_requests_are_answered,
     forged_pids_and_references_do_no_harm,
     an_unknown_module_of_a_latin1_name_is_undefined,
     two_requests_under_one_tag_both_end_with_their_peer,
     %% load
     a_peer_that_never_reads_is_closed,
     a_peer_that_resets_while_it_is_answered_is_forgotten].

init_per_suite(Config) ->
    bed:up(Config,
           #{env => [{"LLM_ROUTER_NODE_TICK_TIME_MS", "4000"},
                     {"LLM_ROUTER_LIMITS_SEND_QUEUE_BYTES", "4194304"},
                     {"LLM_ROUTER_LIMITS_HANDSHAKES", "64"}]}).

end_per_suite(Config) ->
    bed:down(Config).

init_per_testcase(_Case, Config) ->
    answer_from_document(Config),
    [{before, bed:footprint(Config)} | Config].

end_per_testcase(_Case, Config) ->
    answer_from_document(Config),
    Before = proplists:get_value(before, Config),
    bed:must(fun() -> bed:is_as_before(Config, Before) end).

answer_from_document(Config) ->
    scripted_provider:set_handler(bed:provider(Config),
                                  fun scripted_model:from_document/1).

connect(Config) ->
    connect(Config, #{}).

connect(Config, Opts) ->
    raw_peer:connect(bed:node(Config), Opts#{cookie => cookie(Config)}).

cookie(Config) ->
    maps:get(cookie, proplists:get_value(bed, Config)).

%% Sends bytes on a connection of its own, which must be closed for it.
is_closed_for(Config, Bytes) ->
    Peer = connect(Config),
    _ = raw_peer:send_bytes(Peer, Bytes),
    ?assert(raw_peer:await_close(Peer, bed:limit_ms(2000))),
    raw_peer:close(Peer).

is_served(Peer) ->
    ?assertEqual({reply, pong}, raw_peer:call(Peer, llm_router, ping)).

frame(Body) ->
    [<<(iolist_size(Body)):32>>, Body].

a_raw_peer_is_served_like_any_other(Config) ->
    Peer = connect(Config),
    is_served(Peer),
    {reply, {ok, #{text := <<"You wrote: hi">>}}} =
        raw_peer:call(Peer, 'Elixir.LLMRouter.Server', ?OP),
    {down, noproc} = raw_peer:call(Peer, nobody, ping),
    raw_peer:close(Peer).

%% ------------------------------------------------------------- handshakes

garbage_instead_of_a_handshake_is_closed(Config) ->
    [begin
         Socket = raw_peer:dial(bed:node(Config)),
         _ = raw_peer:send_bytes(Socket, Bytes),
         ?assert(raw_peer:await_close(Socket, bed:limit_ms(9000))),
         gen_tcp:close(Socket)
     end || Bytes <- [<<"GET / HTTP/1.1\r\nHost: x\r\n\r\n">>,
                      <<0:16>>, <<5:16, "nnnnn">>, <<1:16, "N">>,
                      <<10:16, "Nxxxxxxxxx">>,
                      <<15:16, "N", 0:64, 0:32, 65535:16>>,
                      <<300:16, (binary:copy(<<"N">>, 300))/binary>>]].

%% At each step the peer stops; all of them at once, the deadline being 7 s.
a_handshake_cut_short_is_closed_after_its_deadline(Config) ->
    Router = bed:node(Config),
    Sockets = [raw_peer:dial(Router) || _ <- [1, 2, 3]],
    [_, Part, Named] = Sockets,
    raw_peer:send_bytes(Part, <<40:16, "N">>),
    Name = <<"cut@localhost">>,
    raw_peer:send_packet(Named, [<<"N", 16#d075f5fbc:64, 7:32,
                                   (byte_size(Name)):16>>, Name]),
    pong = bed:call(Config, ping),
    [?assert(raw_peer:await_close(S, bed:limit_ms(9000))) || S <- Sockets].

%% At most a line of log for some of them, and a count of the others.
a_wrong_cookie_is_refused(Config) ->
    Log = byte_size(router:stderr(bed:router(Config))),
    [begin
         Socket = raw_peer:dial(bed:node(Config)),
         ?assertMatch({refused, _},
                      raw_peer:handshake(Socket, #{cookie => Wrong})),
         gen_tcp:close(Socket)
     end || Wrong <- ["", "wrong", cookie(Config) ++ "x"]
                ++ lists:duplicate(50, "flood")],
    <<_:Log/binary, Since/binary>> = router:stderr(bed:router(Config)),
    Lines = length(string:split(Since, "wrong cookie", all)) - 1,
    ct:log("~b lines", [Lines]),
    ?assert(Lines =< 20).

a_wrong_digest_is_refused(Config) ->
    [begin
         Socket = raw_peer:dial(bed:node(Config)),
         ?assertMatch({refused, _},
                      raw_peer:handshake(Socket, #{cookie => cookie(Config),
                                                   challenge => Spoil})),
         gen_tcp:close(Socket)
     end || Spoil <- [fun(_) -> <<0:128>> end, fun(_) -> <<>> end,
                      fun(Digest) -> <<Digest/binary, 0>> end,
                      fun(<<Half:8/binary, _/binary>>) -> Half end]].

a_real_node_with_a_wrong_cookie_gets_pang(Config) ->
    Stranger = bed:start_caller("wrong", bed:node_name(stranger)),
    Router = bed:node(Config),
    pang = bed:on(Stranger, fun() -> net_adm:ping(Router) end),
    bed:stop_caller(Stranger).

missing_mandatory_flags_are_refused(Config) ->
    [begin
         Socket = raw_peer:dial(bed:node(Config)),
         ?assertMatch({refused, _},
                      raw_peer:handshake(Socket, #{cookie => cookie(Config),
                                                   flags => Flags})),
         gen_tcp:close(Socket)
     end || Flags <- [0, 16#4]].

odd_node_names_are_refused(Config) ->
    [begin
         Socket = raw_peer:dial(bed:node(Config)),
         ?assertMatch({refused, _},
                      raw_peer:handshake(Socket, #{cookie => cookie(Config),
                                                   name => Name})),
         gen_tcp:close(Socket)
     end || Name <- ['', nohost, '@', 'a@', '@b', 'a\nb@c',
                     bed:node(Config)]].

%% More half-open connections than there is room for; real nodes get in as soon
%% as the deadline has passed for those that are silent.
a_flood_of_handshakes_leaves_room_for_others(Config) ->
    Before = router:fd_count(bed:router(Config)),
    Sockets = [raw_peer:dial(bed:node(Config)) || _ <- lists:seq(1, 200)],
    pong = bed:call(Config, ping),
    ?assert(router:fd_count(bed:router(Config)) < Before + 150),
    bed:eventually(fun() ->
                           try connect(Config) of
                               Peer -> is_served(Peer), raw_peer:close(Peer),
                                       true
                           catch error:_ -> false
                           end
                   end, 9000),
    [gen_tcp:close(S) || S <- Sockets].

%% In a hundred of them every bit is found both set and clear, and no distance
%% from one to the next comes twice.
challenges_cannot_be_foreseen(Config) ->
    Challenges = [challenge(Config) || _ <- lists:seq(1, 100)],
    ?assertEqual(100, length(lists:usort(Challenges))),
    Distances = [(B - A) band 16#ffffffff
                 || {A, B} <- lists:zip(lists:droplast(Challenges),
                                        tl(Challenges))],
    ?assertEqual(99, length(lists:usort(Distances))),
    ?assertEqual(16#ffffffff, lists:foldl(fun erlang:'bor'/2, 0, Challenges)),
    ?assertEqual(0, lists:foldl(fun erlang:'band'/2, 16#ffffffff, Challenges)).

%% What the router sends to a peer that has named itself.
challenge(Config) ->
    Socket = raw_peer:dial(bed:node(Config)),
    Name = atom_to_binary(bed:node_name(raw)),
    raw_peer:send_packet(Socket, [<<"N", 16#d075f5fbc:64, 7:32,
                                    (byte_size(Name)):16>>, Name]),
    {ok, <<3:16, "sok", _Length:16, "N", _Flags:64, Challenge:32>>} =
        gen_tcp:recv(Socket, 20, 5000),
    gen_tcp:close(Socket),
    Challenge.

a_second_connection_of_the_same_node_replaces_the_first(Config) ->
    {ok, Host} = inet:gethostname(),
    Name = list_to_atom("twice@" ++ Host),
    First = connect(Config, #{name => Name}),
    is_served(First),
    Second = connect(Config, #{name => Name, creation => 77}),
    is_served(Second),
    ?assert(raw_peer:await_close(First, bed:limit_ms(2000))),
    raw_peer:close(Second).

%% ----------------------------------------------------------------- frames

a_frame_over_the_limit_is_closed_before_it_is_read(Config) ->
    Before = router:rss_kib(bed:router(Config)),
    [is_closed_for(Config, <<Length:32, 112, 131>>)
     || Length <- [16#ffffffff, 16#80000000, 16#7fffffff, (64 bsl 20) + 1]],
    bed:has_grown_less(Config, 1024, Before).

a_frame_that_never_ends_is_closed_after_the_tick_time(Config) ->
    Peers = [connect(Config) || _ <- [1, 2, 3]],
    [One, Two, Three] = Peers,
    raw_peer:send_bytes(One, <<60000000:32>>),
    raw_peer:send_bytes(Two, <<100:32, 112, 131, 104>>),
    raw_peer:send_bytes(Three, <<0, 0>>),
    pong = bed:call(Config, ping),
    [?assert(raw_peer:await_close(P, bed:limit_ms(8000))) || P <- Peers].

a_silent_peer_is_closed_after_the_tick_time(Config) ->
    Peer = connect(Config),
    is_served(Peer),
    Start = bed:now_ms(),
    ?assert(raw_peer:await_close(Peer, bed:limit_ms(8000))),
    ?assert(bed:now_ms() - Start > 2000).

frames_that_are_no_frames_are_closed(Config) ->
    Whole = term_to_binary({2, '', self()}),
    [is_closed_for(Config, frame(Body))
     || Body <- [<<113, Whole/binary>>, <<112>>, <<112, 131>>,
                 <<112, 130, 104>>,
                 <<112, 131, 97, 1>>, <<112, 131, 104, 0>>,
                 <<112, (term_to_binary({foo, bar}))/binary>>,
                 <<112, (binary:part(Whole, 0, byte_size(Whole) - 3))/binary>>,
                 <<112, (term_to_binary({2}))/binary>>,
                 <<112, (term_to_binary({6, x, y, z}))/binary>>,
                 <<112, (term_to_binary([2, '', x]))/binary>>,
                 <<131, 68, 0, Whole/binary>>,
                 binary:copy(<<255>>, 1000)]].

frames_in_single_bytes_are_understood(Config) ->
    Peer = connect(Config),
    From = raw_peer:pid(Peer),
    Ref = raw_peer:ref(Peer),
    Control = term_to_binary({6, From, '', llm_router}),
    Message = term_to_binary({'$gen_call', {From, [alias | Ref]}, ping}),
    Bytes = iolist_to_binary(frame([112, Control, Message])),
    [ok = raw_peer:send_bytes(Peer, <<Byte>>) || <<Byte>> <= Bytes],
    {{33, _, Ref}, {[alias | Ref], pong}} = raw_peer:recv(Peer),
    raw_peer:close(Peer).

%% ------------------------------------------------------------------ terms

%% Sends a call whose request is these bytes; the connection may be closed for
%% what is no term, but must not be for what is one.
call_bytes(Peer, Request) ->
    From = raw_peer:pid(Peer),
    Tag = [alias | raw_peer:ref(Peer)],
    <<131, Name/binary>> = term_to_binary('$gen_call'),
    <<131, Caller/binary>> = term_to_binary({From, Tag}),
    raw_peer:send(Peer, {6, From, '', llm_router},
                  {encoded, [<<131, 104, 3>>, Name, Caller, Request]}),
    case raw_peer:recv(Peer) of
        {_Control, {Tag, Reply}} -> Reply;
        closed -> closed
    end.

lying_counts_cost_nothing(Config) ->
    Cpu = router:cpu_ms(bed:router(Config)),
    Lies = [<<108, N:32>> || N <- [16#7fffffff, 16#ffffffff, 1000]]
        ++ [<<116, N:32>> || N <- [16#7fffffff, 16#ffffffff]]
        ++ [<<105, 16#ffffffff:32>>, <<104, 255>>, <<109, 16#ffffffff:32, "x">>,
            <<107, 65535:16, "x">>, <<111, 16#ffffffff:32, 0, 1>>,
            <<110, 255, 0, 1>>, <<77, 16#ffffffff:32, 7, 1>>,
            <<118, 65535:16, "x">>, <<119, 255, "x">>, <<100, 9:16, "x">>,
            <<90, 65535:16, 119, 1, "a", 0:32>>,
            <<112, 16#ffffffff:32, 3>>, <<80, 16#ffffffff:32, 1, 2, 3>>,
            <<108, 2:32, 108, 16#7fffffff:32>>, <<99, 1>>, <<70, 1>>],
    [begin
         Peer = connect(Config),
         Reply = call_bytes(Peer, Lie),
         ?assert(Reply =:= closed orelse element(1, Reply) =:= error),
         raw_peer:close(Peer)
     end || Lie <- Lies],
    Spent = router:cpu_ms(bed:router(Config)) - Cpu,
    ct:log("~b ms of CPU for ~b lies", [Spent, length(Lies)]),
    ?assert(Spent =< bed:limit_ms(10) * length(Lies)).

deep_nesting_is_an_error_reply(Config) ->
    Peer = connect(Config),
    [begin
         Deep = [binary:copy(Open, Depth), 106, binary:copy(Close, Depth)],
         ?assertMatch({error, {invalid_request, _}}, call_bytes(Peer, Deep))
     end || Depth <- [1000, 131337, 1000000],
            {Open, Close} <- [{<<108, 1:32>>, <<106>>}, {<<104, 1>>, <<>>},
                              {<<116, 1:32, 97, 1>>, <<>>},
                              {<<105, 1:32>>, <<>>}]],
    is_served(Peer),
    raw_peer:close(Peer).

every_kind_of_term_is_answered(Config) ->
    Peer = connect(Config),
    Atom = <<119, 1, "a">>,
    Kinds =
        [<<70, 1.5/float>>, <<99, "1.50000000000000000000e+00", 0:40>>,
         <<77, 2:32, 3, 255, 224>>,
         <<111, 200:32, 1, (binary:copy(<<255>>, 200))/binary>>,
         <<110, 0, 0>>, <<110, 3, 1, 1, 0, 0>>,
         <<103, Atom/binary, 1:32, 2:32, 1>>,
         <<88, Atom/binary, 1:32, 2:32, 3:32>>,
         <<102, Atom/binary, 1:32, 1>>, <<89, Atom/binary, 1:32, 2:32>>,
         <<120, Atom/binary, 1:64, 2:32>>,
         <<101, Atom/binary, 1:32, 1>>,
         <<114, 1:16, Atom/binary, 1, 7:32>>,
         <<90, 5:16, Atom/binary, 1:32, 1:32, 2:32, 3:32, 4:32, 5:32>>,
         <<113, Atom/binary, Atom/binary, 97, 2>>,
         fun_bytes(fun() -> Peer end),
         <<108, 1:32, 97, 1, 97, 2>>, <<107, 3:16, 1, 2, 3>>,
         <<116, 0:32>>, <<106>>, <<104, 0>>, <<105, 0:32>>,
         <<100, 1:16, 228>>, <<115, 1, 228>>, <<118, 2:16, 195, 164>>],
    [begin
         ct:log("~0p", [Kind]),
         ?assertMatch({error, {unknown_request, _}}, call_bytes(Peer, Kind))
     end || Kind <- Kinds],
    <<131, Packed/binary>> = term_to_binary(lists:duplicate(1000, ping),
                                            [{compressed, 9}]),
    [?assertMatch({error, _}, call_bytes(Peer, Odd))
     || Odd <- [Packed, <<70, 16#7ff8000000000000:64>>,
                <<70, 16#7ff0000000000000:64>>, <<99, 0:248>>]],
    is_served(Peer),
    raw_peer:close(Peer).

fun_bytes(Fun) ->
    <<131, Bytes/binary>> = term_to_binary(Fun),
    Bytes.

odd_atoms_are_answered(Config) ->
    Peer = connect(Config),
    Wide = binary:copy(<<240, 159, 152, 128>>, 255),
    [?assertMatch({error, {unknown_request, _}}, call_bytes(Peer, Bytes))
     || Bytes <- [<<118, (byte_size(Wide)):16, Wide/binary>>,
                  <<119, 0>>, <<118, 0:16>>, <<115, 0>>,
                  <<100, 255:16, (binary:copy(<<228>>, 255))/binary>>]],
    [?assertMatch({error, {invalid_request, _}}, call_bytes(Peer, Bytes))
     || Bytes <- [<<118, 1025:16, (binary:copy(<<"a">>, 1025))/binary>>,
                  <<119, 2, 255, 254>>, <<82, 0>>]],
    is_served(Peer),
    raw_peer:close(Peer).

%% Its keys, values, reasons and codes are binaries to the caller, whose table
%% of atoms is never emptied.
no_atom_is_made_of_what_a_provider_wrote(Config) ->
    Server = {llm_router, bed:node(Config)},
    Schema = #{type => object, properties => #{a => #{type => string}}},
    Cases = [{{call_with_prompt, simple, <<"hi">>, #{schema => Schema}},
              fun(_) -> scripted_provider:answer(strange()) end},
             {{generate_task, <<"Build it">>},
              fun(_) -> scripted_provider:answer(strange_task()) end},
             {{parse_prd, <<"Build it. Test it.">>, 2},
              fun(_) -> Tasks = [strange_task(), strange_task()],
                        scripted_provider:answer((strange())#{tasks => Tasks})
              end},
             {{expand_task, #{<<"title">> => <<"Build it">>,
                              <<"owner">> => <<"ann">>}, #{num => 1}},
              fun(_) -> Tasks = [strange_task()],
                        scripted_provider:answer(#{subtasks => Tasks}) end},
             {?OP, fun(_) -> scripted_provider:answer(
                               word(), #{finish_reason => word(),
                                         model => word(), usage => strange()})
                   end},
             {?OP, fun(_) -> scripted_provider:error(400, word(), word(),
                                                     [{word(), word()}]) end}],
    Ask = fun(Op, Times) ->
                  bed:on(bed:caller(Config),
                         fun() ->
                                 [gen_server:call(Server, Op)
                                  || _ <- lists:seq(1, Times)]
                         end)
          end,
    Count = fun() -> bed:on(bed:caller(Config),
                            fun() -> erlang:system_info(atom_count) end) end,
    [begin
         scripted_provider:set_handler(bed:provider(Config), Handler),
         [First] = Ask(Op, 1),
         ct:log("~0tP", [First, 40]),
         Before = Count(),
         Answers = Ask(Op, 20),
         ?assertEqual(Before, Count()),
         [?assertEqual(element(1, First), element(1, A)) || A <- Answers]
     end || {Op, Handler} <- Cases].

%% A word that nobody has seen before, and a map of them.
word() ->
    <<"w", (integer_to_binary(erlang:unique_integer([positive])))/binary>>.

strange() ->
    maps:from_list([{word(), word()} || _ <- lists:seq(1, 50)]).

strange_task() ->
    (strange())#{title => word(), description => word(), priority => word(),
                 status => word(), details => word(), test_strategy => word(),
                 dependencies => []}.

%% ---------------------------------------------------------------- signals

unknown_control_messages_keep_the_connection(Config) ->
    Peer = connect(Config),
    Pid = raw_peer:pid(Peer),
    [ok = raw_peer:send(Peer, Control)
     || Control <- [{99}, {99, Pid, Pid}, {5}, {11, Pid}, {200, x, y, z},
                    {7, Pid, Pid}, {4, Pid, Pid}, {38, a, b}]],
    [ok = raw_peer:send(Peer, Control, Payload)
     || {Control, Payload} <- [{{99, Pid}, payload}, {{37, 0, Pid, Pid}, x}]],
    is_served(Peer),
    raw_peer:close(Peer).

both_forms_of_a_signal_are_understood(Config) ->
    Peer = connect(Config),
    Pid = raw_peer:pid(Peer),
    Service = service_pid(Peer),
    Call = fun(Ref) -> {'$gen_call', {Pid, [alias | Ref]}, ping} end,
    [begin
         Ref = raw_peer:ref(Peer),
         ok = raw_peer:send(Peer, Control, Call(Ref)),
         {{33, _, Ref}, {[alias | Ref], pong}} = raw_peer:recv(Peer)
     end || Control <- [{2, '', Service}, {22, Pid, Service},
                        {6, Pid, '', llm_router}]],
    ok = raw_peer:send(Peer, {8, Pid, Service, because}),
    ok = raw_peer:send(Peer, {26, Pid, Service}, because),
    ok = raw_peer:send(Peer, {3, Pid, Service, because}),
    ok = raw_peer:send(Peer, {24, Pid, Service}, because),
    is_served(Peer),
    raw_peer:close(Peer).

%% The pid in the monitor's answer of a name that is there is not sent, so it
%% is taken from a reply.
service_pid(Peer) ->
    Pid = raw_peer:pid(Peer),
    Ref = raw_peer:ref(Peer),
    ok = raw_peer:send(Peer, {6, Pid, '', llm_router},
                       {'$gen_call', {Pid, [alias | Ref]}, ping}),
    {{33, Service, Ref}, _} = raw_peer:recv(Peer),
    Service.

traced_signals_are_understood(Config) ->
    Peer = connect(Config),
    Pid = raw_peer:pid(Peer),
    Service = service_pid(Peer),
    Token = {0, 17, 1, Pid, 0},
    [begin
         Ref = raw_peer:ref(Peer),
         ok = raw_peer:send(Peer, Control,
                            {'$gen_call', {Pid, [alias | Ref]}, ping}),
         {{33, _, Ref}, {_, pong}} = raw_peer:recv(Peer)
     end || Control <- [{12, '', Service, Token}, {23, Pid, Service, Token},
                        {16, Pid, '', llm_router, Token}]],
    Call = raw_peer:ref(Peer),
    ok = raw_peer:send(Peer, {30, Call, Pid, Pid, {erpc, execute_call, 4},
                              [monitor], Token},
                       [Call, llm_router, ping, []]),
    {{31, Call, Pid, _, Spawned}} = raw_peer:recv(Peer),
    {{28, Spawned, Pid, Call}, {Call, return, pong}} = raw_peer:recv(Peer),
    raw_peer:close(Peer).

a_node_that_traces_is_served(Config) ->
    Server = {llm_router, bed:node(Config)},
    {pong, {ok, _}} =
        bed:on(bed:caller(Config),
               fun() ->
                       seq_trace:set_token(label, 17),
                       seq_trace:set_token(send, true),
                       {gen_server:call(Server, ping),
                        erpc:call(bed:node(Config), llm_router,
                                  call_with_prompt, [simple, <<"hi">>])}
               end).

unlink_is_acknowledged(Config) ->
    Peer = connect(Config),
    Pid = raw_peer:pid(Peer),
    Service = service_pid(Peer),
    ok = raw_peer:send(Peer, {1, Pid, Service}),
    ok = raw_peer:send(Peer, {35, 42, Pid, Service}),
    {{36, 42, Service, Pid}} = raw_peer:recv(Peer),
    raw_peer:close(Peer).

signals_for_nobody_are_dropped(Config) ->
    Peer = connect(Config),
    Pid = raw_peer:pid(Peer),
    Ref = raw_peer:ref(Peer),
    [ok = raw_peer:send(Peer, Control, hello)
     || Control <- [{6, Pid, '', nobody}, {2, '', Pid}, {22, Pid, Pid},
                    {33, Pid, Ref}]],
    [ok = raw_peer:send(Peer, Control)
     || Control <- [{20, Pid, nobody, Ref}, {20, Pid, Pid, Ref},
                    {35, 1, Pid, Pid}, {36, 1, Pid, Pid},
                    {21, Pid, Pid, Ref, gone}, {31, Ref, Pid, 0, Pid}]],
    {reply, pong} = raw_peer:call(Peer, llm_router, ping),
    raw_peer:close(Peer).

%% Every spawn request is answered: one that is not freezes its caller.
odd_spawn_requests_are_answered(Config) ->
    Peer = connect(Config),
    Pid = raw_peer:pid(Peer),
    [begin
         Ref = raw_peer:ref(Peer),
         ok = raw_peer:send(Peer, {29, Ref, Pid, Pid, Mfa, Opts}, Args),
         {{31, Ref, Pid, _Flags, _Result}} = reply_to(Ref, Peer)
     end || Mfa <- [{erpc, execute_call, 4}, {erpc, execute_cast, 3},
                    {lists, seq, 2}, {no, such, 0}],
            Opts <- [[], [monitor], [link], [monitor, link], [{reply, yes}]],
            Args <- [[], x, [1, 2], [raw_peer:ref(Peer), llm_router, ping, x],
                     [1, 2, 3, 4]]],
    is_served(Peer),
    raw_peer:close(Peer).

%% The spawn reply with this reference; what the spawned ones send is skipped.
reply_to(Ref, Peer) ->
    case raw_peer:recv(Peer) of
        {{31, Ref, _, _, _}} = Reply -> Reply;
        closed -> error(closed);
        _ -> reply_to(Ref, Peer)
    end.

%% Pids and references that name other nodes, or this router.
forged_pids_and_references_do_no_harm(Config) ->
    Peer = connect(Config),
    #{node := Caller} = bed:caller(Config),
    Service = service_pid(Peer),
    Others = [raw_peer:pid(Peer#{name => Node})
              || Node <- [Caller, bed:node(Config), 'no@where', nonode,
                          'x@y@z']],
    Ref = raw_peer:ref(Peer),
    [ok = raw_peer:send(Peer, {6, Pid, '', llm_router}, Message)
     || Pid <- [Service | Others],
        Message <- [{'$gen_call', {Pid, [alias | Ref]}, ping},
                    {'$gen_call', {Pid, Ref}, ping},
                    {llm_request, Pid, Ref, ping},
                    {generate_task, <<"hi">>, Pid}]],
    [ok = raw_peer:send(Peer, {19, Pid, llm_router, Ref})
     || Pid <- [Service | Others]],
    bed:eventually(fun() ->
                           #{in_flight := N} = scripted_provider:counters(
                                                 bed:provider(Config)),
                           N =:= 0
                   end),
    is_served(Peer),
    raw_peer:close(Peer).

%% ------------------------------------------------------------------- load

an_unknown_module_of_a_latin1_name_is_undefined(Config) ->
    Peer = connect(Config),
    From = raw_peer:pid(Peer),
    Ref = raw_peer:ref(Peer),
    Module = <<100, 1:16, 16#e9>>,
    Raw = fun(Term) -> <<131, Bytes/binary>> = term_to_binary(Term), Bytes end,
    Arguments = [<<131, 108, 4:32>>, Raw(Ref), Module, Raw(f), Raw([]), 106],
    ok = raw_peer:send(Peer, {29, Ref, From, From, {erpc, execute_call, 4},
                              [monitor]}, {encoded, Arguments}),
    ?assertMatch({{31, Ref, From, 2, _}}, raw_peer:recv(Peer)),
    ?assertMatch({{28, _, From, Ref},
                  {Ref, error, undef, [{_, f, [], []}]}}, raw_peer:recv(Peer)),
    is_served(Peer),
    raw_peer:close(Peer).

two_requests_under_one_tag_both_end_with_their_peer(Config) ->
    Provider = bed:provider(Config),
    scripted_provider:set_handler(Provider, fun(_) -> [hang] end),
    Before = length(scripted_provider:requests(Provider)),
    Peer = connect(Config),
    From = raw_peer:pid(Peer),
    Ref = raw_peer:ref(Peer),
    Call = {'$gen_call', {From, [alias | Ref]}, ?OP},
    ok = raw_peer:send(Peer, {19, From, llm_router, Ref}),
    ok = raw_peer:send(Peer, {6, From, '', llm_router}, Call),
    ok = raw_peer:send(Peer, {6, From, '', llm_router}, Call),
    scripted_provider:await_requests(Provider, Before + 2),
    raw_peer:close(Peer),
    bed:eventually(fun() ->
                           #{in_flight := N} = bed:call(Config, stats),
                           N =:= 0
                   end),
    scripted_provider:set_handler(Provider,
                                  fun scripted_model:from_document/1).

%% Its queue is bounded; the other peers do not notice.
a_peer_that_never_reads_is_closed(Config) ->
    Peer = connect(Config),
    Pid = raw_peer:pid(Peer),
    Self = self(),
    Writer = spawn_link(
               fun() ->
                       receive go -> ok end,
                       Self ! {sent, flood(Peer, Pid, 200000)}
               end),
    ok = gen_tcp:controlling_process(raw_peer:socket(Peer), Writer),
    Writer ! go,
    ?assertEqual(closed, served_until_sent(Config)).

served_until_sent(Config) ->
    Start = bed:now_ms(),
    pong = bed:call(Config, ping),
    ?assert(bed:now_ms() - Start < bed:limit_ms(1000)),
    receive {sent, How} -> How after 0 -> served_until_sent(Config) end.

flood(_Peer, _Pid, 0) ->
    not_closed;
flood(Peer, Pid, N) ->
    case raw_peer:send(Peer, {6, Pid, '', llm_router},
                       {llm_request, Pid, N, models}) of
        ok -> flood(Peer, Pid, N - 1);
        {error, _} -> closed
    end.

a_peer_that_resets_while_it_is_answered_is_forgotten(Config) ->
    Provider = bed:provider(Config),
    scripted_provider:set_handler(
      Provider, fun(Request) ->
                        [{sleep, 100} | scripted_model:from_document(Request)]
                end),
    [begin
         Peer = connect(Config),
         Pid = raw_peer:pid(Peer),
         [ok = raw_peer:send(Peer, {6, Pid, '', llm_router},
                             {llm_request, Pid, I, Op})
          || I <- lists:seq(1, 20), Op <- [ping, models, ?OP]],
         timer:sleep(Ms),
         ok = inet:setopts(raw_peer:socket(Peer), [{linger, {true, 0}}]),
         raw_peer:close(Peer)
     end || Ms <- [0, 5, 50, 100, 110, 150]],
    pong = bed:call(Config, ping).
