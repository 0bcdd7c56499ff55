/* Results -> BEAM terms. Pure; every term is written without a version byte
 * unless said otherwise. Result keys come from a fixed set of atoms; what a
 * model wrote becomes binaries only.
 *
 * With opts keys => strings the keys of result maps are binaries, and so are
 * the values that are atoms by default (priority, status, finish_reason): who
 * asks for string keys wants maps as they come out of JSON. nil stays nil.
 * Error details always have atom keys. */
#ifndef LLM_ROUTER_API_REPLY_H
#define LLM_ROUTER_API_REPLY_H

#include "llm_router/api/call.h"
#include "llm_router/core/dialogue.h"
#include "llm_router/core/router.h"

/* How the answer came about: for Response, return => full, and error details.
 * Empty, 0, -1 or NAN: unknown, left out (or nil where the shape fixes it). */
struct account {
    struct slice model;
    struct slice provider;
    struct slice request_id;
    struct usage usage;
    double cost_usd;
    int64_t duration_ms;
    int attempts;
    bool cached;                     /* out of the cache: nothing was paid */
    const struct decision *decision; /* NULL: none */
    const struct attempt_record *records; /* oldest first */
    size_t record_count;
};

/* One attempt, for `return => full`. */
struct attempt_record {
    struct slice provider, model;
    struct slice key;      /* the key's name, not the key */
    enum error_code error; /* ERR_NONE: answered */
    int http_status;       /* 0: no answer */
    int64_t duration_ms;
};

/* {ok, Value} of an operation that called a provider. With opts return => full
 * the value is in a map with its warnings, the account, the decision, all
 * records, and of parse_prd where each task comes from.
 *
 * expand_task gives the caller's own map back: every pair as it came but
 * `subtasks`, whose key and values are in the style of the map's own keys when
 * opts keys does not say; a title alone gives #{title, subtasks}. Subtasks
 * have the shape of tasks. */
void reply_put_result(struct buf *out, const struct request *request,
                      const struct result *result,
                      const struct account *account);

/* {error, {Code, #{message, ...}}}; account may be NULL. */
void reply_put_error(struct buf *out, const struct error *err,
                     const struct account *account);

/* Messages to the receiver of a stream: {llm_stream, Ref, {delta, Bin}},
 * {llm_stream, Ref, {done, Response}}, {llm_stream, Ref, {error, Reason}}.
 * `reference` is raw; `text` is whole characters. Response is the full map of
 * return => full where that is asked for. */
void reply_put_delta(struct buf *out, struct slice reference,
                     struct slice text);
void reply_put_stream_done(struct buf *out, struct slice reference,
                           const struct request *request,
                           const struct result *result,
                           const struct account *account);
void reply_put_stream_error(struct buf *out, struct slice reference,
                            const struct error *err,
                            const struct account *account);

/* {ok, Ref}: what the caller of `stream` gets at once. */
void reply_put_stream(struct buf *out, struct slice reference);

/* The bare pong, a bare boolean, and {ok, #{model, provider}} of select_model:
 * the first candidate of the plan, which has one at least; with opts
 * return => full also the other candidates and the decision. */
void reply_put_pong(struct buf *out);
void reply_put_boolean(struct buf *out, bool value);
void reply_put_selection(struct buf *out, const struct request *request,
                         const struct plan *plan);

/* What comes before the result, as written above, in the message to send. Not
 * for REPLY_NONE/REPLY_RPC. */
void reply_put_head(struct buf *out, const struct reply_address *reply,
                    enum operation operation);

#endif
