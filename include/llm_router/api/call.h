/* What BEAM callers write -> struct request: recognises every call shape of
 * docs/calling.md. Pure; strict about arguments, tolerant about forms.
 *
 * Errors of arguments are ERR_INVALID_REQUEST or ERR_TOO_LARGE with the path
 * of the fault: the argument's name ("prompt", "num_tasks", "complexity",
 * "task.title", "messages[2].content", "request.messages[2].content" of route)
 * or "opts.NAME" ("opts.tools[0].parameters.type"). */
#ifndef LLM_ROUTER_API_CALL_H
#define LLM_ROUTER_API_CALL_H

#include "llm_router/core/request.h"
#include "llm_router/term/reader.h"

enum {
    /* Bytes of one text (a prompt, a document, a context, a task as JSON) and
     * of all messages of one call together. */
    CALL_TEXT_MAX = 32 * 1024 * 1024,
    CALL_MESSAGES_MAX = 10000,
    CALL_EXISTING_MAX = 10000, /* ids in opts existing */
    CALL_GIVEN_MAX = 1000,     /* tasks of one analyze_complexity */
};

/* How the answer goes back. Raw term bytes, in the arena. */
enum reply_form {
    REPLY_NONE,     /* a cast without a taker, or nothing to say */
    REPLY_GEN,      /* {Tag, Result}: $gen_call; also $gen_call system calls */
    REPLY_RPC,      /* the rpc call's value; set by the service */
    REPLY_PRD,      /* {prd_response, Result} */
    REPLY_NAMED,    /* {llm_result, OpName, Result} */
    REPLY_RESPONSE, /* {llm_response, Ref, Result} */
};

struct reply_address {
    enum reply_form form;
    struct slice pid;       /* raw; empty for REPLY_NONE and REPLY_RPC */
    struct slice tag;       /* raw: the gen tag, or Ref of REPLY_RESPONSE */
    struct slice alias;     /* raw reference when the tag is [alias | Ref] or
                               [[alias | Ref] | _]: send there, not to pid */
    struct slice reference; /* raw: the reference inside the tag, by which the
                               caller's monitor is known; may be empty, e.g. for
                               the {Ref, Node} of gen_server:multi_call */
};

/* The address of a `$gen_call` whose From is {Pid, Tag}. Borrows both. */
struct reply_address reply_address_gen(struct slice pid, struct slice tag);

enum call_kind {
    CALL_REQUEST,  /* request is filled */
    CALL_REJECTED, /* error is filled; answer it if reply.form allows */
    CALL_SYSTEM,   /* {system, From, Request}: answer with `system` below */
    CALL_IGNORED,  /* a stray message: count and drop */
};

enum system_request {
    SYSTEM_GET_STATE,  /* -> {ok, Map}, which sys of later releases takes apart
                          and that of OTP 25 hands on; they do not say which
                          they are */
    SYSTEM_GET_STATUS, /* -> {status, Pid, {module, Module}, Items} */
    SYSTEM_OTHER,      /* -> {error, not_supported} */
};

struct call {
    enum call_kind kind;
    struct reply_address reply;
    /* REPLY_GEN when a `$gen_call` carried a form with a pid of its own
     * ({generate_task, Prompt, Pid}, {llm_request, Pid, Ref, Op}, ...): the
     * result or error goes to `reply`, and this caller is told the atom ok at
     * once, as an rpc of such a form is. Else REPLY_NONE. */
    struct reply_address acknowledge;
    struct request request;
    enum system_request system;
    struct error error;
};

/* A message sent to the service: `$gen_call`, `$gen_cast`, a named message
 * form, or anything else. Everything kept is copied into the arena.
 *
 * A cast or message without a pid to answer is CALL_IGNORED: nobody would get
 * what it costs. A positional complexity or model gives way to the option of
 * that name.
 *
 * Of a stream, and of what is watched, options.to is always filled: with the
 * process that is answered where the caller names none. */
void call_decode_message(struct term message, struct arena *arena,
                         struct call *call);

/* Module:Function(Arguments) of rpc and erpc. 'Elixir.LLMRouter.Server' and
 * llm_router have all operations; 'Elixir.LLM.Service',
 * 'Elixir.Nexus.LLMRouter' and gleam_router the functions that their users
 * call. False: there is no such module or function of that arity: undef. A form
 * that carries a pid is a request whose reply form is not REPLY_RPC: the rpc
 * call itself then returns the atom ok at once.
 *
 * An rpc does not say which process calls: a stream has to name its receiver.
 */
bool call_decode_rpc(struct slice module, struct slice function,
                     struct term arguments, struct arena *arena,
                     struct call *call);

#endif
