%% All that a project needs: the router is started, supervised and stopped by
%% the application llm_router.
-module(planner).

-export([plan/1]).

%% A task's title from a sentence.
-spec plan(binary()) -> {ok, binary()} | {error, llm_router:reason()}.
plan(Sentence) ->
    case llm_router:generate_task(Sentence, #{timeout => 60000}) of
        {ok, #{title := Title}} -> {ok, Title};
        {error, _} = Error -> Error
    end.
