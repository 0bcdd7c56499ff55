%% The peer that the router's ping is measured against: a gen_server and a
%% function on another BEAM node that answer at once.
-module(bench_echo).
-behaviour(gen_server).

-export([start/0, ping/0]).
-export([init/1, handle_call/3, handle_cast/2]).

start() ->
    gen_server:start({local, ?MODULE}, ?MODULE, [], []).

ping() ->
    pong.

init([]) ->
    {ok, none}.

handle_call(ping, _From, State) ->
    {reply, pong, State}.

handle_cast(_, State) ->
    {noreply, State}.
