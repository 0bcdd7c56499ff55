%% For programs that call the router with gen_server:call/3 themselves; those
%% that use the module llm_router need it for guards only.
%%
%%     -include_lib("llm_router/include/llm_router.hrl").
%%
%%     case gen_server:call(?LLM_ROUTER, Op, 60000) of
%%         {error, {Code, _}} when ?LLM_ROUTER_MAY_RETRY(Code) -> later(Op);
%%         Result -> Result
%%     end
-ifndef(LLM_ROUTER_HRL).
-define(LLM_ROUTER_HRL, true).

%% The router that holds the global name, for any gen_server function.
-define(LLM_ROUTER, {global, llm_router}).

%% In a guard, of an error's code: may the same request succeed later? These
%% are the codes that docs/errors.md marks as worth retrying, and router_down.
-define(LLM_ROUTER_MAY_RETRY(Code),
        (Code =:= overloaded orelse Code =:= timeout
         orelse Code =:= unreachable orelse Code =:= rate_limited
         orelse Code =:= provider_error orelse Code =:= bad_response
         orelse Code =:= invalid_output orelse Code =:= task_count
         orelse Code =:= shutting_down orelse Code =:= router_down)).

-endif.
