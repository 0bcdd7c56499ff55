/* Asks a process of another node, as a node that nobody can find: hidden, with
 * no listener, not registered with epmd, in no cluster.
 *
 * For programs that ask a running router something and go. One question at a
 * time, a GenServer call; the connection is made for the first one, kept for
 * the next, and made again when it is lost. */
#ifndef LLM_ROUTER_DIST_CLIENT_H
#define LLM_ROUTER_DIST_CLIENT_H

#include "llm_router/base/error.h"
#include "llm_router/dist/tls.h"
#include "llm_router/loop/loop.h"
#include "llm_router/term/reader.h"

struct client;

struct client_options {
    const char *name;    /* our own, "NAME@HOST"; no other node may have it */
    const char *peer;    /* whom to ask, "NAME@HOST" */
    const char *process; /* of it, by its registered name */
    struct slice cookie;
    struct tls_context *tls; /* NULL: the distribution is not within TLS */
    size_t max_answer_bytes;
};

/* One of the two for each question, later. Either may ask again. */
struct client_events {
    /* `answer` passed term_check and is valid during the call. */
    void (*answered)(void *context, struct term answer);
    /* The message says what was wrong, about the peer: "not registered with
     * the epmd of its host". ERR_NO_ROUTE: there is no such node, or no such
     * process on it; ERR_UNREACHABLE: no connection, or it was lost;
     * ERR_UNAUTHORIZED: another cookie; ERR_TIMEOUT; ERR_TOO_LARGE, or
     * ERR_INVALID_REQUEST: an answer that cannot be taken. */
    void (*failed)(void *context, const struct error *err);
};

/* What the options point to must outlive the client. Both node names passed
 * handshake_name_ok. */
struct client *client_new(struct loop *loop,
                          const struct client_options *options,
                          const struct client_events *events, void *context);

/* At any time; no event comes after it. Handles that are still open close in
 * the next turns of the loop, which must run until then. NULL is allowed. */
void client_free(struct client *client);

/* `request` is a term without version byte, and copied. Not while a question
 * is open. */
void client_ask(struct client *client, struct slice request,
                uint64_t timeout_ms);

#endif
