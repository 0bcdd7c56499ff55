%% The distribution over TLS, with nodes of `-proto_dist inet_tls` that verify
%% as the router does, and with peers that do not fit; and certificates that
%% are renewed.
-module(tls_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(OP, {call_with_prompt, simple, <<"Say hello to me">>}).
-define(TIMEOUT, 20000).
-define(MIB, (1024 * 1024)).

%% A peer that speaks otherwise is named within a second; one whose certificate
%% does not fit after the work of a handshake, but before its time is over.
-define(NAMED_MS, 1000).
-define(REFUSED_MS, 5000).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [{group, tls_1_2}, {group, tls_1_3}, {group, not_fitting},
     {group, renewed}].

groups() ->
    Fitting = [a_node_that_is_dialled_calls_in_every_way,
               a_node_that_dials_calls_by_node_name,
               large_messages_pass_both_ways,
               many_callers_are_answered,
               a_node_that_comes_back_is_connected_again,
               half_open_connections_delay_no_node,
               a_stop_closes_the_connections],
    [{tls_1_2, [], Fitting},
     {tls_1_3, [], Fitting},
     {not_fitting, [],
      [a_node_of_another_authority_is_refused,
       a_router_of_another_authority_is_refused,
       a_node_without_a_certificate_is_refused,
       a_router_with_the_name_of_another_host_is_refused,
       a_node_with_the_name_of_another_host_is_refused,
       a_plain_node_that_calls_a_tls_router_is_named,
       a_tls_node_that_calls_a_plain_router_is_named,
       a_plain_node_that_a_tls_router_dials_is_named,
       a_tls_node_that_a_plain_router_dials_is_named,
       files_that_cannot_be_used_are_named_at_start]},
     {renewed, [],
      [a_reload_takes_new_certificates,
       a_file_that_cannot_be_used_fails_the_reload,
       a_configuration_that_is_wrong_leaves_the_certificates,
       certificates_out_of_date_are_said,
       metrics_say_when_certificates_run_out]}].

init_per_suite(Config) ->
    Authority = authority("nodes"),
    Other = authority("others"),
    {ok, Host} = inet:gethostname(),
    Certificates =
        #{router => certificate(Config, router, Authority, Authority, Host),
          node => certificate(Config, node, Authority, Authority, Host),
          %% It trusts who does not trust it.
          stranger => certificate(Config, stranger, Other, Authority, Host),
          elsewhere => certificate(Config, elsewhere, Authority, Authority,
                                   "elsewhere.example"),
          new_router => certificate(Config, new_router, Other, Other, Host),
          new_node => certificate(Config, new_node, Other, Other, Host),
          expired => certificate(Config, expired, Authority, Authority, Host,
                                 days(-3, -1)),
          ending => certificate(Config, ending, Authority, Authority, Host,
                                days(-3, 10))},
    [{certificates, Certificates} | Config].

end_per_suite(_Config) ->
    ok.

init_per_group(tls_1_2, Config) ->
    bed(Config, 'tlsv1.2');
init_per_group(tls_1_3, Config) ->
    bed(Config, 'tlsv1.3');
init_per_group(not_fitting, Config) ->
    bed:up(Config, #{callers => 0, router => none});
init_per_group(renewed, Config) ->
    %% A long path would be cut in an error.
    Dir = string:trim(os:cmd("mktemp -d /tmp/llm_router_tls.XXXXXX")),
    bed:up([{live_dir, Dir} | with_live_files(Config, Dir)],
           #{callers => 0, router => none}).

bed(Config, Version) ->
    Caller = #{args => node_args(Config, node, [{versions, [Version]}])},
    bed:up([{caller_opts, Caller} | Config],
           #{callers => 2, caller => Caller, router => none,
             args => router_args(Config, router)}).

end_per_group(_Group, Config) ->
    _ = [ok = file:del_dir_r(Dir) || {live_dir, Dir} <- Config],
    bed:down(Config).

%% Runs Fun with a router of a fresh name, which must end cleanly.
with_router(Config, Opts, Fun) ->
    Config1 = bed:start_router(bed:renamed(Config), Opts),
    try Fun(Config1)
    after {exited, 0} = bed:stop_router(Config1)
    end.

with_node(Config, Name, Opts, Fun) ->
    #{cookie := Cookie} = proplists:get_value(bed, Config),
    Caller = bed:start_caller(Cookie, Name, Opts),
    try Fun(Caller)
    after bed:stop_caller(Caller)
    end.

%% ----------------------------------------------------------- certificates

%% The record of public_key.hrl, which Debian packages apart from the library.
-define(SUBJECT_ALT_NAME, {2, 5, 29, 17}).
-define(KEY, [{key, {namedCurve, secp256r1}}, {digest, sha256}]).

authority(Name) ->
    public_key:pkix_test_root_cert(Name, [days(-3, 100) | ?KEY]).

days(From, To) ->
    {Today, _} = calendar:universal_time(),
    Day = fun(N) ->
                  calendar:gregorian_days_to_date(
                    calendar:date_to_gregorian_days(Today) + N)
          end,
    {validity, {Day(From), Day(To)}}.

certificate(Config, Name, Issuer, Trusted, Host) ->
    certificate(Config, Name, Issuer, Trusted, Host, days(-3, 200)).

%% The files of one who shows a certificate for Host, of Issuer, and trusts
%% what Trusted issued.
certificate(Config, Name, Issuer, Trusted, Host, Validity) ->
    AltName = {'Extension', ?SUBJECT_ALT_NAME, false, [{dNSName, Host}]},
    Made = public_key:pkix_test_data(
             #{root => Issuer, intermediates => [],
               peer => [{extensions, [AltName]}, Validity | ?KEY]}),
    File = fun(Suffix) ->
                   filename:join(proplists:get_value(priv_dir, Config),
                                 atom_to_list(Name) ++ Suffix)
           end,
    Files = #{certfile => File(".crt"), keyfile => File(".key"),
              cacertfile => File("-ca.crt")},
    {KeyType, Key} = proplists:get_value(key, Made),
    #{cert := Root} = Trusted,
    pem(maps:get(certfile, Files),
        {'Certificate', proplists:get_value(cert, Made)}),
    pem(maps:get(keyfile, Files), {KeyType, Key}),
    pem(maps:get(cacertfile, Files), {'Certificate', Root}),
    Files.

pem(File, {Type, Der}) ->
    Pem = public_key:pem_encode([{Type, Der, not_encrypted}]),
    ok = file:write_file(File, Pem),
    ok = file:change_mode(File, 8#600).

files(Config, Name) ->
    maps:get(Name, proplists:get_value(certificates, Config)).

router_args(Config, Name) ->
    #{certfile := Cert, keyfile := Key, cacertfile := Ca} = files(Config, Name),
    args(Cert, Key, Ca).

%% What makes a node speak TLS; Opts for both of its roles.
node_args(Config, Name, Opts) ->
    Both = [{verify, verify_peer} | maps:to_list(files(Config, Name))] ++ Opts,
    optfile(Config, [{server, [{fail_if_no_peer_cert, true} | Both]},
                     {client, Both}]).

optfile(Config, Term) ->
    Name = lists:concat([erlang:unique_integer([positive]), ".conf"]),
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    ok = file:write_file(File, io_lib:format("~p.~n", [Term])),
    ["-proto_dist", "inet_tls", "-ssl_dist_optfile", File].

%% ---------------------------------------------------------------- fitting

a_node_that_is_dialled_calls_in_every_way(Config) ->
    with_router(Config, #{},
                fun(Config1) ->
                        [calls_in_every_way(Config1, bed:caller(Config1, N))
                         || N <- [1, 2]]
                end).

calls_in_every_way(Config, Caller) ->
    Node = bed:node(Config),
    bed:on(Caller,
           fun() ->
                   {ok, #{text := Text}} =
                       gen_server:call({global, llm_router}, ?OP, ?TIMEOUT),
                   [{ok, #{text := Text}} = Answer
                    || Answer <-
                           [gen_server:call({llm_router, Node}, ?OP, ?TIMEOUT),
                            rpc:call(Node, llm_router, call_with_prompt,
                                     [simple, <<"Say hello to me">>]),
                            erpc:call(Node, llm_router, call_with_prompt,
                                      [simple, <<"Say hello to me">>])]],
                   pong = net_adm:ping(Node),
                   true = lists:member(Node, nodes(hidden)),
                   Ref = monitor(process, {no_such_name, Node}),
                   receive {'DOWN', Ref, _, _, noproc} -> ok end
           end).

a_node_that_dials_calls_by_node_name(Config) ->
    with_router(
      Config, #{connect => []},
      fun(Config1) ->
              Node = bed:node(Config1),
              pong = bed:call(Config1, ping),
              pong = bed:on(bed:caller(Config1, 2),
                            fun() -> rpc:call(Node, llm_router, ping, []) end),
              is_connected(Config1, bed:caller(Config1))
      end).

large_messages_pass_both_ways(Config) ->
    with_router(Config, #{},
                fun(Config1) ->
                        is_answered(Config1, 200000, ?MIB),
                        is_echoed(Config1, 20 * ?MIB)
                end).

is_answered(Config, PromptBytes, AnswerBytes) ->
    Provider = bed:provider(Config),
    Answer = binary:copy(<<"größe "/utf8>>, AnswerBytes div 8),
    scripted_provider:set_handler(
      Provider, fun(_) -> scripted_provider:answer(
                            Answer, #{chunk_size => 100000}) end),
    Prompt = binary:copy(<<"0123456789">>, PromptBytes div 10),
    {ok, #{text := Text}} =
        bed:call(Config, {call_with_prompt, simple, Prompt}),
    ?assert(Text =:= Answer),
    scripted_provider:set_handler(Provider, fun scripted_model:from_document/1).

%% Who calls an unknown function gets its arguments back.
is_echoed(Config, Bytes) ->
    Node = bed:node(Config),
    true = bed:on(bed:caller(Config),
                  fun() ->
                          Sent = rand:bytes(Bytes),
                          {badrpc, {'EXIT', {undef, [{_, _, [Echo], _}]}}} =
                              rpc:call(Node, llm_router, no_such, [Sent]),
                          Echo =:= Sent
                  end).

many_callers_are_answered(Config) ->
    with_router(Config, #{},
                fun(Config1) ->
                        [asks_500_times(Config1, bed:caller(Config1, N))
                         || N <- [1, 2]]
                end).

asks_500_times(Config, Caller) ->
    Server = {llm_router, bed:node(Config)},
    bed:on(Caller,
           fun() ->
                   Calls = [gen_server:send_request(Server, ?OP)
                            || _ <- lists:seq(1, 500)],
                   [{reply, {ok, #{text := _}}} =
                        gen_server:wait_response(Call, ?TIMEOUT)
                    || Call <- Calls]
           end).

%% The global name comes some time after the connection.
is_connected(Config, Caller) ->
    Node = bed:node(Config),
    bed:eventually(
      fun() ->
              bed:on(Caller, fun() ->
                                     lists:member(Node, nodes(hidden)) andalso
                                         is_pid(global:whereis_name(llm_router))
                             end)
      end, 20000),
    pong = bed:on(Caller,
                  fun() -> gen_server:call({global, llm_router}, ping) end).

%% The node does not dial: the router does.
a_node_that_comes_back_is_connected_again(Config) ->
    Name = bed:node_name(caller),
    Opts = proplists:get_value(caller_opts, Config),
    with_router(
      Config, #{connect => [Name]},
      fun(Config1) ->
              with_node(Config1, Name, Opts,
                        fun(First) ->
                                is_connected(Config1, First),
                                bed:kill_caller(First)
                        end),
              with_node(Config1, Name, Opts,
                        fun(Second) -> is_connected(Config1, Second) end)
      end).

%% 200 that say nothing, and 50 that stop within TLS. The node has not been
%% connected before; the two connections that may stay are those of the callers.
half_open_connections_delay_no_node(Config) ->
    with_router(
      Config, #{connect => []},
      fun(Config1) ->
              Node = bed:node(Config1),
              Before = router:fd_count(bed:router(Config1)),
              Hello = hello(),
              Sockets = [raw_peer:dial(Node) || _ <- lists:seq(1, 200)]
                  ++ [stop_within_tls(Node, Hello) || _ <- lists:seq(1, 50)],
              Ping = fun() -> timer:tc(net_adm, ping, [Node]) end,
              {Us, pong} = bed:on(bed:caller(Config1), Ping),
              ct:log("connected in ~b us", [Us]),
              ?assert(Us < 1000 * bed:limit_ms(1000)),
              lists:foreach(fun gen_tcp:close/1, Sockets),
              bed:eventually(fun() ->
                                     router:fd_count(bed:router(Config1))
                                         =< Before + 2
                             end)
      end).

%% The router answers the greeting, and nobody goes on.
stop_within_tls(Node, Hello) ->
    Socket = raw_peer:dial(Node),
    ok = gen_tcp:send(Socket, Hello),
    {ok, <<16#16, _/binary>>} = gen_tcp:recv(Socket, 0, bed:limit_ms(5000)),
    Socket.

%% A greeting of OTP's own making.
stop_within_tls(Node) ->
    Socket = raw_peer:dial(Node),
    ok = gen_tcp:send(Socket, hello()),
    {ok, <<16#16, _/binary>>} = gen_tcp:recv(Socket, 0, bed:limit_ms(5000)),
    Socket.

hello() ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false},
                                        {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    {ok, _} = application:ensure_all_started(ssl),
    Client = spawn(fun() ->
                           ssl:connect({127, 0, 0, 1}, Port,
                                       [{verify, verify_none}])
                   end),
    {ok, Socket} = gen_tcp:accept(Listener),
    {ok, <<Head:5/binary>>} = gen_tcp:recv(Socket, 5),
    <<16#16, 3, _, Length:16>> = Head,
    {ok, Body} = gen_tcp:recv(Socket, Length),
    exit(Client, kill),
    gen_tcp:close(Socket),
    gen_tcp:close(Listener),
    [Head, Body].

a_stop_closes_the_connections(Config) ->
    Caller = bed:caller(Config),
    Node = with_router(Config, #{}, fun(Config1) ->
                                            pong = bed:call(Config1, ping),
                                            bed:node(Config1)
                                    end),
    bed:eventually(
      fun() ->
              bed:on(Caller,
                     fun() ->
                             not lists:member(Node, nodes(connected)) andalso
                                 global:whereis_name(llm_router) =:= undefined
                     end)
      end).

%% ------------------------------------------------------------ not fitting

a_node_of_another_authority_is_refused(Config) ->
    With = node_args(Config, stranger, []),
    Why = <<"the peer's certificate: unable to get local issuer certificate">>,
    is_refused_calling(Config, With, router_args(Config, router), Why),
    is_refused_dialled(Config, With, router_args(Config, router), Why).

a_router_of_another_authority_is_refused(Config) ->
    With = node_args(Config, node, []),
    Why = <<"the peer ended TLS: alert unknown ca">>,
    is_refused_calling(Config, With, router_args(Config, stranger), Why),
    is_refused_dialled(Config, With, router_args(Config, stranger), Why).

%% Who shows none can dial only: TLS servers of OTP must have one.
a_node_without_a_certificate_is_refused(Config) ->
    Files = files(Config, node),
    Client = [{verify, verify_peer}
              | maps:to_list(maps:with([cacertfile], Files))],
    With = optfile(Config, [{server, maps:to_list(Files)}, {client, Client}]),
    is_refused_calling(Config, With, router_args(Config, router),
                       <<"the peer sent no certificate">>).

a_router_with_the_name_of_another_host_is_refused(Config) ->
    With = node_args(Config, node, []),
    is_refused_calling(Config, With, router_args(Config, elsewhere),
                       <<"the peer ended TLS: alert ">>).

a_node_with_the_name_of_another_host_is_refused(Config) ->
    With = node_args(Config, elsewhere, []),
    {ok, Host} = inet:gethostname(),
    is_refused_dialled(Config, With, router_args(Config, router),
                       iolist_to_binary(["the peer's certificate is not for ",
                                         Host])).

a_plain_node_that_calls_a_tls_router_is_named(Config) ->
    is_refused_calling(Config, [], router_args(Config, router),
                       <<"speaks no TLS">>, ?NAMED_MS).

a_tls_node_that_calls_a_plain_router_is_named(Config) ->
    is_refused_calling(Config, node_args(Config, node, []), [],
                       <<"speaks TLS, this node does not">>, ?NAMED_MS).

a_plain_node_that_a_tls_router_dials_is_named(Config) ->
    is_refused_dialled(Config, [], router_args(Config, router),
                       <<"does not answer in TLS">>, ?NAMED_MS).

a_tls_node_that_a_plain_router_dials_is_named(Config) ->
    is_refused_dialled(Config, node_args(Config, node, []), [],
                       <<"speaks TLS, this node does not">>, ?NAMED_MS).

is_refused_calling(Config, NodeArgs, RouterArgs, Why) ->
    is_refused_calling(Config, NodeArgs, RouterArgs, Why, ?REFUSED_MS).

%% The node dials: it is told `pang`, and the router logs why in time. That is
%% measured when the node dials again, because at first it loads its TLS.
is_refused_calling(Config, NodeArgs, RouterArgs, Why, WithinMs) ->
    Calls = fun(Caller, Config1) ->
                    Node = bed:node(Config1),
                    Self = self(),
                    Ping = fun() -> net_adm:ping(Node) end,
                    pang = bed:on(Caller, Ping),
                    Lines = lines(Config1, Why),
                    spawn(fun() -> Self ! {said, bed:on(Caller, Ping)} end),
                    is_logged(Config1, Why, Lines + 1, WithinMs),
                    ?assertEqual(pang, receive {said, Answer} -> Answer end)
            end,
    with_node(Config, bed:node_name(caller), #{args => NodeArgs},
              fun(Caller) ->
                      with_router(Config, #{connect => [], args => RouterArgs},
                                  fun(Config1) -> Calls(Caller, Config1) end)
              end).

is_refused_dialled(Config, NodeArgs, RouterArgs, Why) ->
    is_refused_dialled(Config, NodeArgs, RouterArgs, Why, ?REFUSED_MS).

%% The router dials, as soon as it is ready. Before that the node has refused
%% some other peer, for which it has loaded its TLS.
is_refused_dialled(Config, NodeArgs, RouterArgs, Why, WithinMs) ->
    Dials = fun(Caller, Config1) ->
                    is_logged(Config1, Why, 1, WithinMs),
                    [] = bed:on(Caller, fun() -> nodes(connected) end)
            end,
    Name = bed:node_name(caller),
    with_node(Config, Name, #{args => NodeArgs},
              fun(Caller) ->
                      Socket = raw_peer:dial(Name),
                      ok = raw_peer:send_bytes(Socket, <<0:512>>),
                      true = raw_peer:await_close(Socket, 20000),
                      with_router(Config,
                                  #{connect => [Name], args => RouterArgs},
                                  fun(Config1) -> Dials(Caller, Config1) end)
              end).

is_logged(Config, Why, Lines, WithinMs) ->
    try bed:eventually(fun() -> lines(Config, Why) >= Lines end, WithinMs) of
        Ms -> ct:log("logged after ~b ms", [Ms])
    catch
        error:_ ->
            ct:fail({not_logged, Why, router:stderr(bed:router(Config))})
    end.

lines(Config, Why) ->
    length(binary:matches(router:stderr(bed:router(Config)), Why)).

%% Before it is a node of the cluster, also when it only checks.
files_that_cannot_be_used_are_named_at_start(Config) ->
    #{certfile := Cert} = files(Config, router),
    #{keyfile := Key} = files(Config, node),
    [begin
         {1, <<>>, Stderr} = run(Config, Args ++ More),
         ?assertNotEqual(nomatch, binary:match(Stderr, Why))
     end || {Args, Why} <-
                [{args(Cert, Key, Cert),
                  <<"is not the key of the certificate in">>},
                 {args(Key, Key, Cert), <<"holds no certificate">>},
                 {args(Cert, Cert, Cert), <<"holds no private key">>},
                 {args("/no/such", Key, Cert), <<"/no/such: cannot be read">>}],
            More <- [[], ["--check-config"]]],
    {0, _, <<>>} = run(Config, router_args(Config, router)
                       ++ ["--check-config"]),
    {2, <<>>, Usage} = run(Config, ["--tls-dist", "--tls-cert", Cert]),
    ?assertNotEqual(nomatch, binary:match(Usage, <<"--tls-key">>)).

args(Cert, Key, Ca) ->
    ["--tls-dist", "--tls-cert", Cert, "--tls-key", Key, "--tls-ca", Ca].

run(Config, Args) ->
    router:run(#{dir => proplists:get_value(priv_dir, Config), args => Args,
                 cookie => "none", env => [{"OPENAI_API_KEY", "sk-test-key"}]}).

%% ---------------------------------------------------------------- renewed

%% Those of a router in this group: `live`.
with_live_files(Config, Dir) ->
    Live = maps:from_list([{Kind, filename:join(Dir, atom_to_list(Kind))}
                           || Kind <- [certfile, keyfile, cacertfile]]),
    Certificates = proplists:get_value(certificates, Config),
    lists:keystore(certificates, 1, Config,
                   {certificates, Certificates#{live => Live}}).

%% They hold what those of Name do.
renew(Config, Name) ->
    Files = files(Config, Name),
    maps:foreach(fun(Kind, File) ->
                         {ok, _} = file:copy(maps:get(Kind, Files), File),
                         ok = file:change_mode(File, 8#600)
                 end, files(Config, live)).

%% Runs Fun with a router whose files are those of Name, and a node that is
%% connected to it.
with_live(Config, Name, Opts, Fun) ->
    renew(Config, Name),
    Args = router_args(Config, live) ++ maps:get(args, Opts, []),
    with_router(
      Config, maps:merge(#{connect => []}, Opts#{args => Args}),
      fun(Up) ->
              with_node(Up, bed:node_name(caller),
                        #{args => node_args(Up, node, [])},
                        fun(Caller) ->
                                connects(Up, Caller),
                                Fun(Up, Caller)
                        end)
      end).

connects(Config, Caller) ->
    Node = bed:node(Config),
    ?assertEqual(pong, bed:on(Caller, fun() -> net_adm:ping(Node) end)).

connects_anew(Config, Caller) ->
    Node = bed:node(Config),
    true = bed:on(Caller, fun() -> erlang:disconnect_node(Node) end),
    connects(Config, Caller).

ask(Config, Caller, Request) ->
    Server = {llm_router, bed:node(Config)},
    bed:on(Caller, fun() -> gen_server:call(Server, Request, ?TIMEOUT) end).

%% Of another authority, so that nobody who trusts one trusts the other. The
%% last node is dialled.
a_reload_takes_new_certificates(Config) ->
    Dialled = bed:node_name(caller),
    With = #{args => node_args(Config, new_node, [])},
    with_live(
      Config, router, #{connect => [Dialled]},
      fun(Up, Old) ->
              renew(Up, new_router),
              ?assertEqual(ok, ask(Up, Old, reload)),
              with_node(Up, bed:node_name(caller), With,
                        fun(New) -> connects(Up, New) end),
              with_node(Up, Dialled, With,
                        fun(New) -> is_dialled(Up, New) end),
              pong = ask(Up, Old, ping),
              ?assertEqual(1, lines(Up, peer_up(Old))),
              is_cut_off(Up, Old)
      end).

peer_up(#{node := Node}) ->
    iolist_to_binary(["msg=\"peer up\" peer=", atom_to_list(Node)]).

is_dialled(Config, Caller) ->
    Node = bed:node(Config),
    bed:eventually(fun() ->
                           bed:on(Caller, fun() ->
                                                  lists:member(Node,
                                                               nodes(hidden))
                                          end)
                   end, 20000),
    pong = ask(Config, Caller, ping).

is_cut_off(Config, Caller) ->
    Node = bed:node(Config),
    pang = bed:on(Caller, fun() ->
                                  erlang:disconnect_node(Node),
                                  net_adm:ping(Node)
                          end),
    ok.

%% Each is mended before the next one.
a_file_that_cannot_be_used_fails_the_reload(Config) ->
    with_live(
      Config, router, #{},
      fun(Up, Caller) ->
              [begin
                   renew(Up, new_router),
                   is_refused_at_reload(Up, Caller, Kind, Spoil, Why),
                   connects_anew(Up, Caller)
               end || {Kind, Spoil, Why} <- spoils(Up)],
              renew(Up, router),
              ?assertEqual(ok, ask(Up, Caller, {reload})),
              connects_anew(Up, Caller),
              Failed = length(spoils(Up)),
              ?assertMatch(#{reloads := 1, reloads_failed := Failed},
                           ask(Up, Caller, stats))
      end).

spoils(Config) ->
    #{keyfile := Key, certfile := Cert} = files(Config, router),
    Copy = fun(From) -> fun(To) -> {ok, _} = file:copy(From, To) end end,
    Becomes = fun(Command) ->
                      fun(To) ->
                              ok = file:delete(To),
                              [] = os:cmd(Command ++ " " ++ To)
                      end
              end,
    [{keyfile, Copy(Key), <<"is not the key of the certificate in ">>},
     {keyfile, Copy(Cert), <<"holds no private key">>},
     {keyfile, fun(To) -> ok = file:change_mode(To, 8#640) end,
      <<"must be accessible by its owner only">>},
     {certfile, Copy(Key), <<"holds no certificate">>},
     {certfile, Becomes("mkfifo"), <<"is not a file">>},
     {cacertfile, Becomes("mkdir"), <<"is not a file">>},
     {cacertfile, Becomes("true"), <<"cannot be read">>}].

is_refused_at_reload(Config, Caller, Kind, Spoil, Why) ->
    File = maps:get(Kind, files(Config, live)),
    Spoil(File),
    {error, {invalid_request, #{path := Path, message := Message}}} =
        ask(Config, Caller, reload),
    ?assertEqual(File, binary_to_list(Path)),
    ?assertMatch({_, {_, _}}, {Message, binary:match(Message, Why)}),
    is_logged(Config, the_old_one_stays(File), 1, ?NAMED_MS),
    _ = file:del_dir_r(File),
    ok.

the_old_one_stays(File) ->
    iolist_to_binary(["msg=\"the old configuration stays\" reason=\"",
                      File, ": "]).

a_configuration_that_is_wrong_leaves_the_certificates(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "wrong.json"),
    ok = file:write_file(File, "{}"),
    with_live(
      Config, router, #{args => ["--config", File]},
      fun(Up, Caller) ->
              ok = file:write_file(File, "{\"limits\": {\"in_flight\": 0}}"),
              renew(Up, new_router),
              {error, {invalid_request, _}} = ask(Up, Caller, reload),
              connects_anew(Up, Caller)
      end).

%% It starts with a certificate that has expired, which nobody takes.
certificates_out_of_date_are_said(Config) ->
    renew(Config, expired),
    #{certfile := File} = files(Config, live),
    Says = fun(What) ->
                   iolist_to_binary(["msg=\"a certificate ", What, "\" file=",
                                     File, " certificate=1 date="])
           end,
    with_router(
      Config, #{connect => [], args => router_args(Config, live)},
      fun(Up) ->
              is_logged(Up, Says("has expired"), 1, ?NAMED_MS),
              0 = lines(Up, Says("expires soon")),
              renew(Up, ending),
              router:signal(bed:router(Up), "HUP"),
              is_logged(Up, Says("expires soon"), 1, ?REFUSED_MS),
              renew(Up, router),
              router:signal(bed:router(Up), "HUP"),
              is_logged(Up, <<"the configuration is taken over">>, 2,
                        ?REFUSED_MS),
              1 = lines(Up, Says("has expired")),
              1 = lines(Up, Says("expires soon"))
      end).

metrics_say_when_certificates_run_out(Config) ->
    {ok, _} = application:ensure_all_started(inets),
    Port = integer_to_list(free_port()),
    renew(Config, router),
    with_router(
      Config, #{connect => [],
                args => ["--http", Port | router_args(Config, live)]},
      fun(Up) ->
              are_documented(families(Port)),
              agree_with_the_files(Up, Port, cacertfile),
              renew(Up, ending),
              router:signal(bed:router(Up), "HUP"),
              is_logged(Up, <<"the configuration is taken over">>, 1,
                        ?REFUSED_MS),
              agree_with_the_files(Up, Port, certfile)
      end),
    with_router(Config, #{connect => [], args => ["--http", Port]},
                fun(_) -> ?assertEqual([], families(Port)) end).

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% httpc of OTP 27 looks for authorities even so, unless it is told not to.
metrics(Port) ->
    {ok, {{_, 200, _}, _, Text}} =
        httpc:request(get, {"http://127.0.0.1:" ++ Port ++ "/metrics", []},
                      [{ssl, [{verify, verify_none}]}],
                      [{body_format, binary}]),
    prometheus:parse(Text).

families(Port) ->
    [Name || "llm_router_tls_" ++ _ = Name
                 <- prometheus:families(metrics(Port))].

%% And what an alarm asks for is among them.
are_documented(Names) ->
    Manual = read("docs/operations.md"),
    ?assertEqual([], [Name || Name <- Names,
                              binary:match(Manual, iolist_to_binary(
                                                     [$`, Name, $`]))
                                  =:= nomatch]),
    {match, [_ | _] = Asked} =
        re:run(read("packaging/prometheus/llm_router.rules.yml"),
               "llm_router_tls_\\w+", [global, {capture, first, list}]),
    ?assertEqual([], lists:append(Asked) -- Names).

read(File) ->
    {ok, Text} = file:read_file(filename:join(router:project(), File)),
    Text.

agree_with_the_files(Config, Port, Earliest) ->
    Files = files(Config, live),
    Metrics = metrics(Port),
    [?assertEqual(not_after(maps:get(Kind, Files)),
                  prometheus:value(Metrics, "llm_router_tls_" ++ What
                                   ++ "_not_after_timestamp_seconds"))
     || {What, Kind} <- [{"certificate", certfile}, {"earliest", Earliest}]].

%% As public_key reads it, in seconds.
not_after(File) ->
    {ok, Pem} = file:read_file(File),
    [{'Certificate', Der, _} | _] = public_key:pem_decode(Pem),
    {'OTPCertificate', Tbs, _, _} = public_key:pkix_decode_cert(Der, otp),
    {'Validity', _, NotAfter} = element(6, Tbs),
    Digits = case NotAfter of
                 {utcTime, Short} -> "20" ++ Short;
                 {generalTime, Long} -> Long
             end,
    {ok, Fields, "Z"} = io_lib:fread("~4d~2d~2d~2d~2d~2d", Digits),
    [Year, Month, Day, Hour, Minute, Second] = Fields,
    calendar:datetime_to_gregorian_seconds({{Year, Month, Day},
                                            {Hour, Minute, Second}})
        - calendar:datetime_to_gregorian_seconds({{1970, 1, 1}, {0, 0, 0}}).
