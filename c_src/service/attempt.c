#include "llm_router/service/attempt.h"

#include "llm_router/base/mem.h"

/* A server that has sent its terminal event but leaves the response open gets
 * this long to end it, so that the connection can be used again. */
enum { LINGER_MS = 1000 };

enum { ARENA_BLOCK = 512 };

struct attempt {
    const struct upstream *upstream;
    const struct config_provider *provider;
    const struct dialect *dialect;
    struct arena arena;
    struct reader *reader; /* NULL until the headers came */
    uint64_t transfer;
    struct loop_timer silence;
    uint64_t quiet_since_ms;
    uint64_t quiet_limit_ms;
    bool answer_began;
    bool answer_ended;
    attempt_done *done;
    void *context;
};

static const struct config_provider *find_provider(const struct config *config,
                                                   struct slice name)
{
    for (size_t i = 0; i < config->provider_count; i++)
        if (slice_equal(config->providers[i].name, name))
            return &config->providers[i];
    return NULL;
}

static void finish(struct attempt *attempt, bool whole)
{
    struct completion completion = {.usage = USAGE_UNKNOWN};
    struct provider_failure failure;
    bool ok =
        attempt->dialect->end(attempt->reader, whole, &completion, &failure);

    attempt->done(attempt->context, attempt, ok ? &completion : NULL,
                  ok ? NULL : &failure);
}

static void fail(struct attempt *attempt, const struct error *error,
                 bool retryable)
{
    struct provider_failure failure = {
        .error = *error,
        .retry = {.retryable = retryable, .retry_after_ms = -1},
        .try_next = true,
    };

    attempt->done(attempt->context, attempt, NULL, &failure);
}

static void on_silence(void *context)
{
    struct attempt *attempt = context;
    uint64_t now = loop_now_ms(attempt->upstream->loop);
    uint64_t due = attempt->quiet_since_ms + attempt->quiet_limit_ms;
    struct error error;

    if (now < due) {
        loop_timer_start(attempt->upstream->loop, &attempt->silence, due - now,
                         on_silence, attempt);
        return;
    }
    http_cancel(attempt->upstream->http, attempt->transfer);
    attempt->transfer = 0;
    if (attempt->answer_ended) {
        finish(attempt, true);
        return;
    }
    error_set(&error, ERR_TIMEOUT, "%s within %llu ms",
              attempt->answer_began ? "the provider went silent: nothing more"
                                    : "the provider sent no first token",
              (unsigned long long)attempt->quiet_limit_ms);
    fail(attempt, &error, true);
}

/* Moves the limit without touching the timer: it looks again when it is due.
 * Only a shorter limit needs a new start. */
static void expect_progress(struct attempt *attempt, int64_t limit_ms)
{
    bool shorter = !loop_timer_running(&attempt->silence) ||
                   (uint64_t)limit_ms < attempt->quiet_limit_ms;

    attempt->quiet_since_ms = loop_now_ms(attempt->upstream->loop);
    attempt->quiet_limit_ms = (uint64_t)limit_ms;
    if (shorter)
        loop_timer_start(attempt->upstream->loop, &attempt->silence,
                         (uint64_t)limit_ms, on_silence, attempt);
}

static struct slice find_header(void *context, const char *name)
{
    struct attempt *attempt = context;

    return http_header(attempt->upstream->http, attempt->transfer, name);
}

static void on_headers(void *context, uint64_t transfer, int status)
{
    struct attempt *attempt = context;
    struct provider_headers headers = {find_header, attempt};

    (void)transfer;
    attempt->reader = attempt->dialect->reader_new(
        &attempt->arena, status, &headers, attempt->provider->api_key,
        loop_unix_ms() / 1000);
    expect_progress(attempt, attempt->upstream->config->first_token_timeout_ms);
}

static bool on_body(void *context, uint64_t transfer, struct slice bytes)
{
    struct attempt *attempt = context;

    (void)transfer;
    switch (attempt->dialect->feed(attempt->reader, bytes)) {
    case PROGRESS_NONE:
        return true;
    case PROGRESS_USEFUL:
        attempt->answer_began = true;
        expect_progress(attempt, attempt->upstream->config->idle_timeout_ms);
        return true;
    case PROGRESS_END:
        attempt->answer_ended = true;
        expect_progress(attempt, LINGER_MS);
        return true;
    case PROGRESS_FAILED:
        return false;
    }
    return false;
}

static void on_done(void *context, uint64_t transfer,
                    const struct http_outcome *outcome)
{
    struct attempt *attempt = context;

    (void)transfer;
    attempt->transfer = 0;
    loop_timer_stop(&attempt->silence);
    switch (outcome->end) {
    case HTTP_WHOLE:
    case HTTP_CUT:
    case HTTP_STOPPED:
        finish(attempt, outcome->end == HTTP_WHOLE || attempt->answer_ended);
        return;
    case HTTP_NO_ANSWER:
        /* Our own want of sockets is said at once. */
        fail(attempt, &outcome->error, outcome->error.code != ERR_OVERLOADED);
        return;
    case HTTP_TIMEOUT:
        fail(attempt, &outcome->error, true);
        return;
    case HTTP_TOO_LARGE:
        fail(attempt, &outcome->error, false);
        return;
    }
}

static const struct http_events events = {on_headers, on_body, on_done};

static uint64_t within(int64_t limit_ms, uint64_t left_ms)
{
    return (uint64_t)limit_ms < left_ms ? (uint64_t)limit_ms : left_ms;
}

static bool submit(struct attempt *attempt, const struct candidate *candidate,
                   const struct chat *chat, uint64_t left_ms, struct error *err)
{
    const struct config *config = attempt->upstream->config;
    const struct config_provider *provider = attempt->provider;
    const struct endpoint endpoint = {
        .base_url = provider->base_url,
        .api_key = provider->api_key,
        .organization = provider->organization,
        .project = provider->project,
    };
    struct provider_request *built =
        arena_alloc(&attempt->arena, sizeof(*built));

    if (!attempt->dialect->build(&endpoint, candidate, chat, &attempt->arena,
                                 built, err))
        return false;
    attempt->transfer = http_submit(
        attempt->upstream->http,
        &(struct http_request){
            .url = built->url,
            .headers = built->headers,
            .header_count = built->header_count,
            .body = built->body,
            .plain_http_allowed = provider->plain_http,
            .connect_timeout_ms = within(config->connect_timeout_ms, left_ms),
            .headers_timeout_ms = within(config->headers_timeout_ms, left_ms),
            .total_timeout_ms = left_ms,
            .max_body_bytes = PROVIDER_ANSWER_MAX,
        },
        &events, attempt);
    return true;
}

struct attempt *attempt_new(const struct upstream *upstream,
                            const struct candidate *candidate,
                            const struct chat *chat, uint64_t left_ms,
                            attempt_done *done, void *context,
                            struct error *err)
{
    const struct config_provider *provider =
        find_provider(upstream->config, candidate->provider);
    struct attempt *attempt;

    if (!provider) {
        error_set(err, ERR_NO_ROUTE, "provider %.*s is not configured",
                  SLICE_ARG(candidate->provider));
        return NULL;
    }
    attempt = mem_alloc(sizeof(*attempt));
    attempt->upstream = upstream;
    attempt->provider = provider;
    attempt->dialect = dialect_find(provider->dialect);
    attempt->done = done;
    attempt->context = context;
    arena_init(&attempt->arena, ARENA_BLOCK);
    if (!submit(attempt, candidate, chat, left_ms, err)) {
        attempt_free(attempt);
        return NULL;
    }
    return attempt;
}

void attempt_free(struct attempt *attempt)
{
    if (!attempt)
        return;
    if (attempt->transfer != 0)
        http_cancel(attempt->upstream->http, attempt->transfer);
    loop_timer_stop(&attempt->silence);
    if (attempt->reader)
        attempt->dialect->reader_free(attempt->reader);
    arena_release(&attempt->arena);
    mem_free(attempt);
}
