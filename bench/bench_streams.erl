%% How long a chunk of a stream takes from the provider's write to the BEAM
%% process that asked; the peer is a process on the same node that reads the
%% same stream from a bare socket. The provider writes the time into each
%% chunk: both ends are on one machine and read one clock.
-module(bench_streams).

-export([sections/1, routed/2, bare/2]).

%% So many streams of so many chunks, gap_ms apart; a stream begins apart_ms
%% after the one before it; all of that so many times.
-type load() :: #{streams := pos_integer(), chunks := pos_integer(),
                  gap_ms := pos_integer(), apart_ms := non_neg_integer(),
                  times := pos_integer()}.
-export_type([load/0]).

-import(bench_rig, [with_router/3, router_node/1, rounds/3, compare/4, at/4,
                    request_file/1]).

-define(MESSAGES, [#{role => user, content => <<"Say something.">>}]).
-define(LINE_MS, 30000).
-define(GOAL_US, 1000).

-spec sections(bench_rig:rig()) -> [tuple()].
sections(Rig) ->
    [{"streams, from the provider's write to the process: "
      "router against bare socket",
      rows(Rig, "1 stream",
           #{streams => 1, chunks => 16, gap_ms => 5, apart_ms => 0,
             times => 30}, ?GOAL_US)
          ++ rows(Rig, "100 streams",
                  #{streams => 100, chunks => 64, gap_ms => 20, apart_ms => 10,
                    times => 1}, ?GOAL_US)
          ++ rows(Rig, "100 at once",
                  #{streams => 100, chunks => 64, gap_ms => 20, apart_ms => 0,
                    times => 1}, none)}].

rows(Rig, Name, #{gap_ms := GapMs, chunks := Chunks} = Load, Goal) ->
    with_router(
      Rig, ["--gap-ms", integer_to_list(GapMs),
            "--chunks", integer_to_list(Chunks)],
      fun(R) ->
              Server = {llm_router, router_node(R)},
              _ = at(caller(R), ?MODULE, routed,
                     [Server, Load#{streams := 1}]),
              Rounds = rounds(["streams, ", Name],
                              fun() -> run(R, routed, Server, Load) end,
                              fun() -> run(R, bare, request(R), Load) end),
              [goal(compare([Name, ", first chunk, median (us)"], first_median,
                            Rounds, none), Goal),
               compare([Name, ", first chunk, p99 (us)"], first_p99, Rounds,
                       none),
               compare([Name, ", all chunks, median (us)"], all_median, Rounds,
                       none),
               compare([Name, ", all chunks, p99 (us)"], all_p99, Rounds,
                       none)]
      end).

%% A goal for the value, though there is a peer.
goal(Row, none) ->
    Row;
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

run(Rig, Kind, From, #{times := Times} = Load) ->
    Streams = lists:append([at(caller(Rig), ?MODULE, Kind, [From, Load])
                            || _ <- lists:seq(1, Times)]),
    First = lists:sort([hd(Stream) || Stream <- Streams]),
    All = lists:sort(lists:append(Streams)),
    #{first_median => percentile(First, 50), first_p99 => percentile(First, 99),
      all_median => percentile(All, 50), all_p99 => percentile(All, 99)}.

percentile(Sorted, Percent) ->
    lists:nth(max(1, length(Sorted) * Percent div 100), Sorted) / 1000.

%% ------------------------------------------------- on the caller's node

%% The age of each chunk (ns) when it was there, a list per stream.
-spec routed(gen_server:server_ref(), load()) -> [[integer()]].
routed(Server, Load) ->
    streams(Load,
            fun() ->
                    {ok, Ref} = gen_server:call(Server,
                                                {stream, medium, ?MESSAGES}),
                    collect(Ref, [])
            end).

collect(Ref, Ages) ->
    receive
        {llm_stream, Ref, {delta, Delta}} ->
            collect(Ref, [ages(Delta, os:system_time(nanosecond)) | Ages]);
        {llm_stream, Ref, {done, _}} ->
            lists:append(lists:reverse(Ages))
    after ?LINE_MS ->
            error(stuck)
    end.

-spec bare({inet:port_number(), iodata()}, load()) -> [[integer()]].
bare({Port, Request}, Load) ->
    streams(Load,
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
streams(#{streams := Count, chunks := Chunks, apart_ms := ApartMs}, Fun) ->
    Pids = [spawn_monitor(fun() ->
                                  timer:sleep(N * ApartMs),
                                  exit({ages, Fun()})
                          end)
            || N <- lists:seq(0, Count - 1)],
    [receive
         {'DOWN', Monitor, process, Pid, {ages, Ages}}
           when length(Ages) =:= Chunks ->
             Ages;
         {'DOWN', Monitor, process, Pid, Reason} ->
             error({not_all, Chunks, Reason})
     end || {Pid, Monitor} <- Pids].
