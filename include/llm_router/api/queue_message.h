/* Messages of the PostgreSQL queue: JSON <-> requests and results, as
 * docs/queue.md has them. Pure.
 *
 * A request is decoded by the same rules as a call from the BEAM: its values
 * become terms (json_put_term) and go through the decoders of operations and
 * options. */
#ifndef LLM_ROUTER_API_QUEUE_MESSAGE_H
#define LLM_ROUTER_API_QUEUE_MESSAGE_H

#include "llm_router/api/reply.h"

enum {
    QUEUE_ID_SIZE = 36,    /* "6f1c1f0e-6c0e-4b0e-9a0e-0f3a5c1d2b3a" */
    QUEUE_TEXT_MAX = 1024, /* agent_id, workflow, instance_id, job_id */
    QUEUE_DELAY_MAX_S = 86400 * 30,
};

/* 8-4-4-4-12 hexadecimal digits. */
bool queue_id_is_valid(struct slice text);

/* A registered process of a node; both empty: nobody. */
struct queue_receiver {
    struct slice name, node; /* name: 1..255 bytes of UTF-8; node: NAME@HOST */
};

/* A message of the requests queue. All text in the arena. */
struct queue_request {
    struct slice request_id; /* as written; empty: missing or no UUID */
    struct slice agent_id;   /* these four: empty if not there */
    struct slice workflow, instance_id, job_id;
    struct queue_receiver notify;
    struct request request; /* options.request_id is set, in lower case */
};

/* False: ERR_INVALID_REQUEST or ERR_TOO_LARGE with the path in the message
 * ("messages[0].content", "options.timeout"). What could be read before the
 * fault, ids first, is in `queued` all the same: so that the failure finds who
 * asked. The operation is then OPERATION_COUNT if it is not known.
 *
 * `json` may be freed at once. An option that the operation does not take is a
 * fault beside "options" too; other keys that are not known there are
 * ignored. */
bool queue_request_decode(struct slice json, struct arena *arena,
                          struct queue_request *queued, struct error *err);

/* What became of a request. */
struct queue_result {
    const struct queue_request *queued;
    const struct error *err; /* NULL: success */
    struct slice value;      /* raw {ok, Value}, as a BEAM caller gets it */
    const struct account *account; /* NULL: nothing is known */
    int64_t unix_ms;               /* now */
};
/* The message for the results queue. Never holds NUL or lone surrogates. What
 * JSON cannot say (a pid in metadata: of a BEAM caller whose answer is shared
 * under one request_id) is null. */
void queue_result_put(struct buf *out, const struct queue_result *result);

/* A dead letter; `json` is the message as it came, or empty if it was too
 * large to be read. */
struct queue_dead_letter {
    struct slice json;
    const struct error *err;
    int64_t msg_id;
    int64_t read_count;
    int64_t unix_ms;
};
void queue_dead_letter_put(struct buf *out,
                           const struct queue_dead_letter *letter);

/* The message of {enqueue, Op, Opts}: what call_decode_* made of it
 * (request.enqueued), under an id. It is one that queue_request_decode takes;
 * call_decode_* has tried. At most 32 MiB. */
void queue_request_put(struct buf *out, const struct enqueued *enqueued,
                       struct slice request_id, int64_t unix_ms);

#endif
