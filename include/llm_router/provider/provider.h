/* A provider's dialect: build a request, read an answer, name its errors.
 *
 * One file and one row in provider/dialects.c each. Pure: bytes in, values
 * out; no socket, no clock. The service moves the bytes:
 *
 *     build -> [http] -> reader_new, feed*, end -> completion | failure
 *
 * The same reader takes a stream (SSE), a whole JSON answer and an error body,
 * chosen by status and content type, because servers mix them (an error inside
 * a 200, a whole answer although a stream was asked for). */
#ifndef LLM_ROUTER_PROVIDER_PROVIDER_H
#define LLM_ROUTER_PROVIDER_PROVIDER_H

#include "llm_router/core/chat.h"
#include "llm_router/core/retry.h"
#include "llm_router/core/router.h"

/* Where and as whom to call; text borrowed from the configuration. */
struct endpoint {
    struct slice base_url;     /* "https://api.openai.com/v1", no trailing / */
    struct slice api_key;      /* empty: no Authorization header */
    struct slice organization; /* empty: not sent */
    struct slice project;      /* empty: not sent */
};

enum { PROVIDER_HEADERS_MAX = 8 };

/* All in the arena; header lines as "Name: value", NUL-terminated for curl. */
struct provider_request {
    const char *url;
    const char *headers[PROVIDER_HEADERS_MAX];
    size_t header_count;
    struct slice body;
};

/* The response headers a dialect may want. `find` gives the last value of a
 * header (name in lower case) or an empty slice. */
struct provider_headers {
    struct slice (*find)(void *context, const char *name);
    void *context;
};

/* How an attempt failed: the caller's error and what to do about it. */
struct provider_failure {
    struct error error;
    struct failure retry;
    bool try_next;  /* another candidate may do better (not a bad request) */
    bool bench_key; /* 401, 402, 403, no credit: the key is no good for now */
};

enum provider_progress {
    PROGRESS_NONE, /* only comments, pings, empty deltas so far in this feed */
    PROGRESS_USEFUL, /* the answer grew */
    PROGRESS_END,    /* terminal event seen: the rest may be dropped */
    PROGRESS_FAILED, /* reader_end tells why; stop the transfer */
};

struct reader;

struct dialect {
    const char *name; /* "openai" */

    /* ERR_INVALID_REQUEST or ERR_TOO_LARGE on failure. The body is written
     * without a tree. */
    bool (*build)(const struct endpoint *endpoint,
                  const struct candidate *candidate, const struct chat *chat,
                  struct arena *arena, struct provider_request *request,
                  struct error *err);

    /* A reader for one answer, in the arena. `status` and `headers` are of
     * the final response; `now_s` (Unix) is for Retry-After dates; `api_key`
     * (borrowed while the reader lives) is cut out of error messages. */
    struct reader *(*reader_new)(struct arena *arena, int status,
                                 const struct provider_headers *headers,
                                 struct slice api_key, int64_t now_s);

    enum provider_progress (*feed)(struct reader *reader, struct slice bytes);

    /* The transfer ended (`whole`: by the protocol's own end, not by a cut
     * connection). True: *completion is filled, its text in the arena. False:
     * *failure is. A stream without its terminal event is a failure. */
    bool (*end)(struct reader *reader, bool whole,
                struct completion *completion,
                struct provider_failure *failure);

    /* Gives back heap memory the reader holds (its growing buffers); its arena
     * memory goes with the arena. */
    void (*reader_free)(struct reader *reader);
};

/* NULL if there is none of that name. */
const struct dialect *dialect_find(struct slice name);

/* Answers over this are cut and become ERR_TOO_LARGE. */
enum { PROVIDER_ANSWER_MAX = 32 * 1024 * 1024 };

#endif
