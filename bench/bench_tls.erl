%% The ping over TLS, and over plain connections for comparison.
-module(bench_tls).

-export([sections/1, certificate/2]).

-import(bench_rig, [with_rig/2, with_rig/3, with_router/4, router_node/1,
                    rounds/3, compare/4, window/4]).

-define(PING_MS, 1000).
-define(SUBJECT_ALT_NAME, {2, 5, 29, 17}).
-define(KEY, [{key, {namedCurve, secp256r1}}, {digest, sha256}]).

-spec sections(file:filename()) -> [tuple()].
sections(Dir) ->
    {ok, Host} = inet:gethostname(),
    Files = certificate(Dir, Host),
    Tls = with_rig(Dir, #{args => node_args(Dir, Files)},
                   fun(Rig) ->
                           rows(Rig, "TLS", #{args => router_args(Files)}, 1.5)
                   end),
    Plain = with_rig(Dir, fun(Rig) -> rows(Rig, "plain", #{}, 1.0) end),
    [{"ping by gen_server:call over TLS: router against BEAM node",
      Tls ++ Plain}].

rows(#{echo := Echo} = Rig, Name, RouterOpts, Goal) ->
    with_router(
      Rig, [], RouterOpts,
      fun(R) ->
              Ours = {ping, {llm_router, router_node(R)}},
              Theirs = {ping, {bench_echo, Echo}},
              Rounds = rounds(["ping, ", Name],
                              fun() -> window(R, Ours, 1, ?PING_MS) end,
                              fun() -> window(R, Theirs, 1, ?PING_MS) end),
              Many = rounds(["ping, ", Name, ", 16 callers"],
                            fun() -> window(R, Ours, 16, ?PING_MS) end,
                            fun() -> window(R, Theirs, 16, ?PING_MS) end),
              [compare([Name, ", median (us)"], median_us, Rounds, Goal),
               compare([Name, ", p99 (us)"], p99_us, Rounds, none),
               compare([Name, ", 16 callers (calls/s)"], calls_per_s, Many,
                       none)]
      end).

%% One for all of that host, by an authority made for it.
-spec certificate(file:filename(), string()) ->
    #{certfile | keyfile | cacertfile => file:filename()}.
certificate(Dir, Host) ->
    AltName = {'Extension', ?SUBJECT_ALT_NAME, false, [{dNSName, Host}]},
    Root = #{cert := Authority} = public_key:pkix_test_root_cert("bench", ?KEY),
    Made = public_key:pkix_test_data(
             #{root => Root, intermediates => [],
               peer => [{extensions, [AltName]} | ?KEY]}),
    {KeyType, Key} = proplists:get_value(key, Made),
    #{certfile => pem(Dir, "node.crt",
                      {'Certificate', proplists:get_value(cert, Made)}),
      keyfile => pem(Dir, "node.key", {KeyType, Key}),
      cacertfile => pem(Dir, "ca.crt", {'Certificate', Authority})}.

pem(Dir, Name, {Type, Der}) ->
    File = filename:join(Dir, Name),
    Pem = public_key:pem_encode([{Type, Der, not_encrypted}]),
    ok = file:write_file(File, Pem),
    ok = file:change_mode(File, 8#600),
    File.

router_args(#{certfile := Cert, keyfile := Key, cacertfile := Ca}) ->
    ["--tls-dist", "--tls-cert", Cert, "--tls-key", Key, "--tls-ca", Ca].

node_args(Dir, Files) ->
    Both = [{verify, verify_peer} | maps:to_list(Files)],
    Opts = [{server, [{fail_if_no_peer_cert, true} | Both]}, {client, Both}],
    File = filename:join(Dir, "ssl_dist.conf"),
    ok = file:write_file(File, io_lib:format("~p.~n", [Opts])),
    ["-proto_dist", "inet_tls", "-ssl_dist_optfile", File].
