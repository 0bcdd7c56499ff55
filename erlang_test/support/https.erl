%% What providers over TLS need: certificates, and a proxy that speaks HTTP/2.
%%
%% It includes no header of public_key, so that it compiles where only the
%% smallest part of OTP is installed.
-module(https).

-export([certificate/3, valid/0]).
-export([proxy/0, free_port/0, start_proxy/4, stop_proxy/2]).

%% Listener options with a certificate for Name ({iPAddress, Bytes} or
%% {dNSName, Text}) from a new authority, and the file with the authority's own
%% certificate, in Dir.
-spec certificate(file:filename(), {atom(), term()}, term()) ->
          {[tuple()], file:filename()}.
certificate(Dir, Name, Validity) ->
    %% The record 'Extension' with id-ce-subjectAltName; not critical.
    AltName = {'Extension', {2, 5, 29, 17}, false, [Name]},
    Key = [{key, {namedCurve, secp256r1}}, {digest, sha256}],
    #{server_config := Tls, client_config := Client} =
        public_key:pkix_test_data(
          #{server_chain => #{root => [{validity, valid()} | Key],
                              intermediates => [],
                              peer => [{extensions, [AltName]},
                                       {validity, Validity} | Key]},
            client_chain => #{root => Key, intermediates => [],
                              peer => Key}}),
    File = pem_file(Dir, [{'Certificate', Der}
                          || Der <- proplists:get_value(cacerts, Client)]),
    {lists:keydelete(verify, 1, Tls), File}.

%% From yesterday to tomorrow.
valid() ->
    {Today, _} = calendar:universal_time(),
    Days = calendar:date_to_gregorian_days(Today),
    {calendar:gregorian_days_to_date(Days - 1),
     calendar:gregorian_days_to_date(Days + 1)}.

%% A new PEM file of {Type, Der} entries.
pem_file(Dir, Entries) ->
    Name = integer_to_list(erlang:unique_integer([positive])) ++ ".pem",
    File = filename:join(Dir, Name),
    ok = file:write_file(File, public_key:pem_encode(
                                 [{Type, Der, not_encrypted}
                                  || {Type, Der} <- Entries])),
    File.

%% nghttpx, where it is installed.
-spec proxy() -> file:filename() | false.
proxy() ->
    os:find_executable("nghttpx").

-spec free_port() -> inet:port_number().
free_port() ->
    {ok, Listener} = gen_tcp:listen(0, []),
    {ok, Port} = inet:port(Listener),
    gen_tcp:close(Listener),
    Port.

%% HTTP/2 over TLS at Port, HTTP/1.1 to Provider.
-spec start_proxy(file:filename(), scripted_provider:provider(), [tuple()],
                  inet:port_number()) -> port().
start_proxy(Dir, #{port := Backend}, Tls, Port) ->
    {KeyType, Key} = proplists:get_value(key, Tls),
    KeyFile = pem_file(Dir, [{KeyType, Key}]),
    CertFile = pem_file(Dir, [{'Certificate', proplists:get_value(cert, Tls)}]),
    Args = ["--conf=/dev/null", "--errorlog-file=" ++ Dir ++ "nghttpx.log",
            "--no-ocsp", io_lib:format("--frontend=127.0.0.1,~b", [Port]),
            io_lib:format("--backend=127.0.0.1,~b", [Backend]),
            KeyFile, CertFile],
    Proxy = open_port({spawn_executable, proxy()},
                      [{args, [lists:flatten(A) || A <- Args]}, exit_status]),
    bed:eventually(fun() -> listens(Port) end),
    Proxy.

listens(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, []) of
        {ok, Socket} -> gen_tcp:close(Socket), true;
        {error, _} -> false
    end.

%% "QUIT": it says goodbye (GOAWAY) first.
-spec stop_proxy(port(), string()) -> ok.
stop_proxy(Proxy, Signal) ->
    {os_pid, OsPid} = erlang:port_info(Proxy, os_pid),
    os:cmd("kill -s " ++ Signal ++ " " ++ integer_to_list(OsPid)),
    receive {Proxy, {exit_status, _}} -> ok end.
