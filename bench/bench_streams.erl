%% How long a chunk of a stream takes from the provider's write to the BEAM
%% process that asked; the peer is a process on the same node that reads the
%% same stream from a bare socket. The provider writes the time into each
%% chunk: both ends are on one machine and read one clock.
-module(bench_streams).

-export([sections/1, routed/3, bare/3]).

-import(bench_rig, [with_router/3, router_node/1, rounds/3, compare/4, at/4,
                    request_file/1]).

-define(MESSAGES, [#{role => user, content => <<"Say something.">>}]).
-define(LINE_MS, 30000).
-define(GOAL_US, 1000).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(Rig) ->
    [{"streams, from the provider's write to the process: "
      "router against bare socket",
      rows(Rig, "1 stream", #{gap_ms => 5, chunks => 16, at_once => 1,
                              times => 30})
          ++ rows(Rig, "100 streams", #{gap_ms => 20, chunks => 64,
                                        at_once => 100, times => 1})}].

rows(Rig, Name, #{gap_ms := GapMs, chunks := Chunks} = Load) ->
    with_router(
      Rig, ["--gap-ms", integer_to_list(GapMs),
            "--chunks", integer_to_list(Chunks)],
      fun(R) ->
              Server = {llm_router, router_node(R)},
              _ = at(caller(R), ?MODULE, routed, [Server, 1, Chunks]),
              Rounds = rounds(["streams, ", Name],
                              fun() -> run(R, routed, Server, Load) end,
                              fun() -> run(R, bare, request(R), Load) end),
              [goal(compare([Name, ", first chunk, median (us)"], first_median,
                            Rounds, none), ?GOAL_US),
               compare([Name, ", first chunk, p99 (us)"], first_p99, Rounds,
                       none),
               compare([Name, ", all chunks, median (us)"], all_median, Rounds,
                       none),
               compare([Name, ", all chunks, p99 (us)"], all_p99, Rounds,
                       none)]
      end).

%% A goal for the value, though there is a peer.
goal({Name, Value, Peer, _, _}, Goal) ->
    {Name, Value, Peer, none, Goal}.

caller(#{caller := Caller}) ->
    Caller.

%% The port of the provider, and the request that the router sent it.
request(#{url := Url} = Rig) ->
    #{port := Port} = uri_string:parse(Url),
    {ok, Body} = file:read_file(request_file(maps:get(dir, Rig))),
    {Port, ["POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Type: application/json\r\nContent-Length: ",
            integer_to_list(byte_size(Body)), "\r\n\r\n", Body]}.

run(Rig, Kind, From, #{chunks := Chunks, at_once := AtOnce, times := Times}) ->
    Streams = lists:append([at(caller(Rig), ?MODULE, Kind,
                               [From, AtOnce, Chunks])
                            || _ <- lists:seq(1, Times)]),
    First = lists:sort([hd(Stream) || Stream <- Streams]),
    All = lists:sort(lists:append(Streams)),
    #{first_median => percentile(First, 50), first_p99 => percentile(First, 99),
      all_median => percentile(All, 50), all_p99 => percentile(All, 99)}.

percentile(Sorted, Percent) ->
    lists:nth(max(1, length(Sorted) * Percent div 100), Sorted) / 1000.

%% ------------------------------------------------- on the caller's node

%% So many streams at once: the age of each chunk (ns) when it was there, a list
%% per stream.
-spec routed(gen_server:server_ref(), pos_integer(), pos_integer()) ->
    [[integer()]].
routed(Server, AtOnce, Chunks) ->
    at_once(AtOnce, Chunks,
            fun() ->
                    {ok, Ref} = gen_server:call(Server,
                                                {stream, medium, ?MESSAGES}),
                    routed(Ref, [])
            end).

routed(Ref, Ages) ->
    receive
        {llm_stream, Ref, {delta, Delta}} ->
            routed(Ref, [ages(Delta, os:system_time(nanosecond)) | Ages]);
        {llm_stream, Ref, {done, _}} ->
            lists:append(lists:reverse(Ages))
    after ?LINE_MS ->
            error(stuck)
    end.

-spec bare({inet:port_number(), iodata()}, pos_integer(), pos_integer()) ->
    [[integer()]].
bare({Port, Request}, AtOnce, Chunks) ->
    at_once(AtOnce, Chunks,
            fun() ->
                    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port,
                                                   [binary, {nodelay, true}]),
                    ok = gen_tcp:send(Socket, Request),
                    Ages = read(Socket, []),
                    ok = gen_tcp:close(Socket),
                    Ages
            end).

read(Socket, Ages) ->
    receive
        {tcp, Socket, Data} ->
            Now = os:system_time(nanosecond),
            Stamps = case re:run(Data, "\"content\":\"([0-9]+ )",
                                 [global, {capture, [1], binary}]) of
                         {match, Found} -> lists:append(Found);
                         nomatch -> []
                     end,
            Ages1 = [ages(Stamp, Now) || Stamp <- Stamps] ++ Ages,
            case binary:match(Data, <<"[DONE]">>) of
                nomatch -> read(Socket, Ages1);
                _ -> lists:append(lists:reverse(Ages1))
            end
    after ?LINE_MS ->
            error(stuck)
    end.

ages(Text, Now) ->
    [Now - binary_to_integer(Stamp)
     || Stamp <- binary:split(Text, <<" ">>, [global, trim])].

%% Every stream has all its chunks, or the measurement ends here.
at_once(AtOnce, Chunks, Fun) ->
    Pids = [spawn_monitor(fun() -> exit({ages, Fun()}) end)
            || _ <- lists:seq(1, AtOnce)],
    [receive
         {'DOWN', Monitor, process, Pid, {ages, Ages}}
           when length(Ages) =:= Chunks ->
             Ages;
         {'DOWN', Monitor, process, Pid, Reason} ->
             error({not_all, Chunks, Reason})
     end || {Pid, Monitor} <- Pids].
