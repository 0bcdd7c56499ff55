/* Providers' dialects: build a request, read an answer, name its errors.
 *
 * One file and one row in provider/dialects.c each. Pure: bytes in, values
 * out; no socket, no clock. The service moves the bytes:
 *
 *     dialect_build, dialect_put_body -> [http] -> reader_new, reader_feed*,
 * reader_end
 *         -> completion | failure
 *
 * One reader takes streams (SSE, or lines of JSON), whole answers and error
 * bodies, chosen by status, content type and first byte, because servers mix
 * them (an error inside a 200, a whole answer although a stream was asked
 * for). */
#ifndef LLM_ROUTER_PROVIDER_PROVIDER_H
#define LLM_ROUTER_PROVIDER_PROVIDER_H

#include "llm_router/core/chat.h"
#include "llm_router/core/retry.h"
#include "llm_router/core/router.h"

/* Where and as whom to call; text borrowed from the configuration. */
struct endpoint {
    struct slice base_url;     /* "https://api.openai.com/v1", no trailing / */
    struct slice api_key;      /* empty: none is sent */
    struct slice organization; /* empty: not sent */
    struct slice project;      /* empty: not sent */
    struct slice api_version;  /* Anthropic's header, Azure's parameter; empty:
                                  the dialect's own */
    struct slice request_id;   /* ours, for the header of the dialect's that
                                  takes one; empty or not visible ASCII: it is
                                  not sent */
};

enum { PROVIDER_HEADERS_MAX = 8 };

/* But for the body. All in the arena; header lines as "Name: value",
 * NUL-terminated for curl. */
struct provider_request {
    const char *url;
    const char *headers[PROVIDER_HEADERS_MAX];
    size_t header_count;
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
    bool try_next;   /* another candidate may do better (not a bad request) */
    bool try_larger; /* only one with a larger context may */
    bool bench_key;  /* 401, 402, 403, no credit: the key is no good for now */
    bool blameless;  /* the request's fault, not the provider's health */
    struct usage usage; /* what it cost all the same, if it was said */
    struct slice model; /* as the provider named it; maybe empty */
};

struct dialect;

/* NULL if there is none of that name. */
const struct dialect *dialect_find(struct slice name);
const char *dialect_name(const struct dialect *dialect);

/* Which of OpenAI's APIs a provider of this name, at this address, is known to
 * have: bits of 1u << enum model_api, none for other vendors' dialects. Many
 * servers speak chat completions; the responses API are OpenAI's and Azure's.
 */
unsigned dialect_apis(const struct dialect *dialect, struct slice provider,
                      struct slice base_url);

/* The dialect for this question: OpenAI's two APIs are one provider. The caller
 * says which one to ask, else the catalogue, which knows what a model speaks
 * (with tools). */
const struct dialect *dialect_for(const struct dialect *configured,
                                  const struct candidate *candidate,
                                  const struct chat *chat);

/* ERR_INVALID_REQUEST on failure: what the dialect cannot say, by name
 * (embeddings of Anthropic). */
bool dialect_build(const struct dialect *dialect,
                   const struct endpoint *endpoint,
                   const struct candidate *candidate, const struct chat *chat,
                   struct arena *arena, struct provider_request *request,
                   struct error *err);

/* The body of what dialect_build took, the same each time, written without a
 * tree. `body` is made here and is the caller's, on failure too
 * (ERR_TOO_LARGE). */
bool dialect_put_body(const struct dialect *dialect,
                      const struct endpoint *endpoint,
                      const struct candidate *candidate,
                      const struct chat *chat, struct buf *body,
                      struct error *err);

enum provider_progress {
    PROGRESS_NONE, /* only comments, pings, empty deltas so far in this feed */
    PROGRESS_USEFUL, /* the answer grew */
    PROGRESS_END,    /* terminal event seen: the rest may be dropped */
    PROGRESS_FAILED, /* reader_end tells why; stop the transfer */
};

struct reader;

/* What is known when the headers are there. `api_key` is borrowed while the
 * reader lives and is cut out of error messages; `now_s` (Unix) is for
 * Retry-After dates. */
struct answer_head {
    int status;                             /* of the final response */
    const struct provider_headers *headers; /* used only in reader_new */
    struct slice api_key;
    int64_t now_s;
    const struct chat *chat; /* what was asked: how many embeddings, and
                                whether a forced tool stands for the schema;
                                used only in reader_new */
    const struct candidate *candidate; /* likewise */
};

/* A reader for one answer, in the arena. */
struct reader *reader_new(const struct dialect *dialect, struct arena *arena,
                          const struct answer_head *head);

enum provider_progress reader_feed(struct reader *reader, struct slice bytes);

/* The bytes that are left to the end: of a stream only what it said. */
size_t reader_size(const struct reader *reader);

/* The answer's text so far, for streams; it only grows, and moves. */
struct slice reader_text(const struct reader *reader);

/* Of the response headers. */
const struct rate_limits *reader_limits(const struct reader *reader);

/* Names the answer by the provider's own id in an error that reader_end knows
 * nothing of. */
void reader_name_answer(const struct reader *reader, struct error *err);

/* The transfer ended (`whole`: by the protocol's own end, not by a cut
 * connection). True: *completion is filled, its text in the arena. False:
 * *failure is. A stream without its terminal event is a failure. */
bool reader_end(struct reader *reader, bool whole,
                struct completion *completion,
                struct provider_failure *failure);

/* Gives back heap memory the reader holds (its growing buffers); its arena
 * memory goes with the arena. */
void reader_free(struct reader *reader);

/* Answers over this are cut and become ERR_TOO_LARGE. */
enum { PROVIDER_ANSWER_MAX = 32 * 1024 * 1024 };

#endif
