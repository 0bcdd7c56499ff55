#include "llm_router/service/attempt.h"

#include "llm_router/base/mem.h"

/* A server that has sent its terminal event but leaves the response open gets
 * this long to end it, so that the connection can be used again. */
enum { LINGER_MS = 1000 };

/* Reading what so many bytes say, judging it and passing it on are a turn of
 * the loop each. */
enum { LARGE_ANSWER = 64 * 1024 };

/* The attempt itself, its URL and headers. */
enum { ARENA_BLOCK = 600 };

struct ended {
    bool ok; /* else there is a failure */
    struct completion completion;
    struct provider_failure failure;
};

struct attempt {
    const struct upstream *upstream;
    struct attempt_request request;
    const struct dialect *dialect;
    struct arena arena;    /* it lives in it */
    struct buf body;       /* while the request is being sent */
    struct error *unsaid;  /* why there is no body; or NULL */
    struct reader *reader; /* NULL until the headers came */
    uint64_t transfer;
    struct ended *ended;       /* NULL until the answer was read */
    struct loop_timer silence; /* then for the turns that a large one takes */
    uint64_t quiet_since_ms;
    uint64_t quiet_limit_ms;
    uint64_t started_ms, started_ns;
    uint64_t first_ms; /* 0: nothing useful came yet */
    size_t text_size;  /* that progress was told of */
    bool answer_ended;
    bool whole; /* it came to its end */
    bool paused;
    const struct attempt_events *events;
    void *context;
};

static void take_turn(struct attempt *attempt, void (*step)(void *context))
{
    if (attempt_is_large(attempt))
        loop_timer_start(attempt->upstream->loop, &attempt->silence, 0, step,
                         attempt);
    else
        step(attempt);
}

static void tell(void *context)
{
    struct attempt *attempt = context;
    struct ended *ended = attempt->ended;

    attempt->events->done(attempt->context, attempt,
                          ended->ok ? &ended->completion : NULL,
                          ended->ok ? NULL : &ended->failure);
}

static void read_answer(void *context)
{
    struct attempt *attempt = context;
    struct ended *ended = arena_alloc(&attempt->arena, sizeof(*ended));

    ended->ok = reader_end(attempt->reader, attempt->whole, &ended->completion,
                           &ended->failure);
    attempt->ended = ended;
    take_turn(attempt, tell);
}

static void finish(struct attempt *attempt, bool whole)
{
    attempt->whole = whole;
    take_turn(attempt, read_answer);
}

static void fail(struct attempt *attempt, const struct error *error,
                 bool retryable)
{
    struct provider_failure failure = {
        .error = *error,
        .retry = {.retryable = retryable, .retry_after_ms = -1},
        .try_next = true,
        .usage = USAGE_UNKNOWN,
    };

    if (attempt->reader)
        reader_name_answer(attempt->reader, &failure.error);
    attempt->events->done(attempt->context, attempt, NULL, &failure);
}

static struct endpoint endpoint_of(const struct attempt *attempt)
{
    const struct config_provider *provider = attempt->request.provider;

    return (struct endpoint){
        .base_url = provider->base_url,
        .api_key = attempt->request.key->secret,
        .organization = provider->organization,
        .project = provider->project,
        .api_version = provider->api_version,
        .request_id = attempt->request.request_id,
    };
}

/* Only as long as it is needed: what waits for an answer has it in the
 * messages it was made from. */
static struct slice make_body(void *context, uint64_t transfer)
{
    struct attempt *attempt = context;
    const struct endpoint endpoint = endpoint_of(attempt);
    struct error err;

    (void)transfer;
    buf_release(&attempt->body);
    if (dialect_put_body(attempt->dialect, &endpoint,
                         attempt->request.candidate, attempt->request.chat,
                         &attempt->body, &err))
        return buf_slice(&attempt->body);
    attempt->unsaid = arena_alloc(&attempt->arena, sizeof(err));
    *attempt->unsaid = err;
    return slice_make(NULL, 0);
}

static void on_sent(void *context, uint64_t transfer)
{
    struct attempt *attempt = context;

    (void)transfer;
    buf_release(&attempt->body);
}

/* Nobody is to blame: another dialect may have words for it. */
static void fail_unsaid(struct attempt *attempt)
{
    const struct provider_failure failure = {
        .error = *attempt->unsaid,
        .retry.retry_after_ms = -1,
        .try_next = true,
        .blameless = true,
        .usage = USAGE_UNKNOWN,
    };

    attempt->events->done(attempt->context, attempt, NULL, &failure);
}

static uint64_t within(int64_t limit_ms, uint64_t left_ms)
{
    return (uint64_t)limit_ms < left_ms ? (uint64_t)limit_ms : left_ms;
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
              attempt->first_ms != 0 ? "the provider went silent: nothing more"
                                     : "the provider sent no first token",
              (unsigned long long)attempt->quiet_limit_ms);
    fail(attempt, &error, true);
}

/* Moves the limit without touching the timer: it looks again when it is due.
 * Only a shorter limit needs a new start. */
static void expect_progress(struct attempt *attempt, int64_t limit_ms)
{
    uint64_t limit = within(limit_ms, attempt->request.share.silence_ms);
    bool shorter = !loop_timer_running(&attempt->silence) ||
                   limit < attempt->quiet_limit_ms;

    attempt->quiet_since_ms = loop_now_ms(attempt->upstream->loop);
    attempt->quiet_limit_ms = limit;
    if (shorter && !attempt->paused)
        loop_timer_start(attempt->upstream->loop, &attempt->silence, limit,
                         on_silence, attempt);
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
    const struct answer_head head = {
        .status = status,
        .headers = &headers,
        .api_key = attempt->request.key->secret,
        .now_s = loop_unix_ms() / 1000,
        .chat = attempt->request.chat,
        .candidate = attempt->request.candidate,
    };

    (void)transfer;
    attempt->reader = reader_new(attempt->dialect, &attempt->arena, &head);
    expect_progress(attempt, attempt->request.config->first_token_timeout_ms);
}

static void on_useful(struct attempt *attempt)
{
    size_t size = reader_text(attempt->reader).size;

    if (attempt->first_ms == 0)
        attempt->first_ms = loop_now_ms(attempt->upstream->loop);
    expect_progress(attempt, attempt->request.config->idle_timeout_ms);
    if (size == attempt->text_size || !attempt->events->progress)
        return;
    attempt->text_size = size;
    attempt->events->progress(attempt->context, attempt);
}

static bool on_body(void *context, uint64_t transfer, struct slice bytes)
{
    struct attempt *attempt = context;

    (void)transfer;
    switch (reader_feed(attempt->reader, bytes)) {
    case PROGRESS_NONE:
        return true;
    case PROGRESS_USEFUL:
        on_useful(attempt); /* may have freed it */
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
        if (attempt->unsaid)
            fail_unsaid(attempt);
        else
            finish(attempt,
                   outcome->end == HTTP_WHOLE || attempt->answer_ended);
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

static const struct http_events http_events = {
    .make_body = make_body,
    .on_sent = on_sent,
    .on_headers = on_headers,
    .on_body = on_body,
    .on_done = on_done,
};

static bool submit(struct attempt *attempt, struct error *err)
{
    const struct attempt_request *request = &attempt->request;
    const struct config *config = request->config;
    const struct config_provider *provider = request->provider;
    const struct endpoint endpoint = endpoint_of(attempt);
    struct provider_request *built =
        arena_alloc(&attempt->arena, sizeof(*built));

    if (!dialect_build(attempt->dialect, &endpoint, request->candidate,
                       request->chat, &attempt->arena, built, err))
        return false;
    attempt->transfer = http_submit(
        attempt->upstream->http,
        &(struct http_request){
            .url = built->url,
            .headers = built->headers,
            .header_count = built->header_count,
            .plain_http_allowed = provider->plain_http,
            .connect_timeout_ms =
                within(config->connect_timeout_ms, request->share.silence_ms),
            .headers_timeout_ms =
                within(config->headers_timeout_ms, request->share.silence_ms),
            .total_timeout_ms = request->share.total_ms,
            .max_body_bytes = PROVIDER_ANSWER_MAX,
            .pausable = attempt->events->progress != NULL,
        },
        &http_events, attempt);
    return true;
}

struct attempt *attempt_new(const struct upstream *upstream,
                            const struct attempt_request *request,
                            const struct attempt_events *events, void *context,
                            struct error *err)
{
    struct arena arena;
    struct attempt *attempt;

    arena_init(&arena, ARENA_BLOCK);
    attempt = arena_alloc(&arena, sizeof(*attempt));
    attempt->arena = arena;
    attempt->upstream = upstream;
    attempt->request = *request;
    attempt->dialect = dialect_for(dialect_find(request->provider->dialect),
                                   request->candidate, request->chat);
    attempt->started_ms = loop_now_ms(upstream->loop);
    attempt->started_ns = loop_now_ns();
    attempt->events = events;
    attempt->context = context;
    if (!submit(attempt, err)) {
        attempt_free(attempt);
        return NULL;
    }
    return attempt;
}

void attempt_free(struct attempt *attempt)
{
    struct arena arena;

    if (!attempt)
        return;
    if (attempt->transfer != 0)
        http_cancel(attempt->upstream->http, attempt->transfer);
    loop_timer_stop(&attempt->silence);
    buf_release(&attempt->body);
    if (attempt->reader)
        reader_free(attempt->reader);
    arena = attempt->arena;
    arena_release(&arena);
}

bool attempt_has_answer(const struct attempt *attempt)
{
    return attempt->reader != NULL;
}

const struct usage *attempt_usage(const struct attempt *attempt)
{
    const struct ended *ended = attempt->ended;

    return !ended      ? &USAGE_UNKNOWN
           : ended->ok ? &ended->completion.usage
                       : &ended->failure.usage;
}

bool attempt_is_large(const struct attempt *attempt)
{
    return attempt->reader && reader_size(attempt->reader) > LARGE_ANSWER;
}

struct slice attempt_text(const struct attempt *attempt)
{
    return attempt->reader ? reader_text(attempt->reader) : slice_of(NULL);
}

void attempt_pause(struct attempt *attempt)
{
    if (attempt->paused || attempt->transfer == 0)
        return;
    attempt->paused = true;
    loop_timer_stop(&attempt->silence);
    http_pause(attempt->upstream->http, attempt->transfer);
}

void attempt_resume(struct attempt *attempt)
{
    if (!attempt->paused)
        return;
    attempt->paused = false;
    if (attempt->transfer == 0)
        return;
    expect_progress(attempt, attempt->request.config->idle_timeout_ms);
    http_resume(attempt->upstream->http, attempt->transfer);
}

const struct rate_limits *attempt_limits(const struct attempt *attempt)
{
    return attempt->reader ? reader_limits(attempt->reader)
                           : &RATE_LIMITS_UNKNOWN;
}

int64_t attempt_latency_ms(const struct attempt *attempt)
{
    return attempt->first_ms == 0
               ? -1
               : (int64_t)(attempt->first_ms - attempt->started_ms);
}

uint64_t attempt_started_ms(const struct attempt *attempt)
{
    return attempt->started_ms;
}

uint64_t attempt_started_ns(const struct attempt *attempt)
{
    return attempt->started_ns;
}

const struct config_key *attempt_key(const struct attempt *attempt)
{
    return attempt->request.key;
}
