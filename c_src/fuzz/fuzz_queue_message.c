/* A stranger's message on the queue: what is decoded must be what the rest of
 * the program relies on, and whatever it is, there is a result that PostgreSQL
 * takes. */
#include <stdint.h>
#include <stdlib.h>

#include "llm_router/api/json_term.h"
#include "llm_router/api/queue_message.h"
#include "llm_router/base/utf8.h"
#include "llm_router/core/fingerprint.h"
#include "llm_router/term/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) \
    do {                   \
        if (!(condition))  \
            abort();       \
    } while (0)

enum { OUT_MAX = 256 * 1024 * 1024 };

/* A value may stand deeper in a result than JSON is read from strangers. */
static const struct jv_limits OUT_LIMITS = {OUT_MAX, 1024, 10000000};

static void require_clean(struct slice text)
{
    REQUIRE(utf8_is_valid(text));
    REQUIRE(text.size == 0 || !memchr(text.data, '\0', text.size));
}

static void require_label(struct slice label)
{
    require_clean(label);
    REQUIRE(label.size <= QUEUE_TEXT_MAX);
}

static void require_receiver(const struct queue_receiver *receiver)
{
    struct slice node = receiver->node;

    require_clean(receiver->name);
    REQUIRE((receiver->name.size == 0) == (node.size == 0));
    REQUIRE(receiver->name.size <= 255 && node.size <= 255);
    REQUIRE(node.size == 0 || memchr(node.data, '@', node.size));
}

/* What is known of every message, be it good or not. */
static void require_sender(const struct queue_request *queued)
{
    struct slice id = queued->request.options.request_id;

    REQUIRE(queued->request_id.size == id.size);
    REQUIRE(id.size == 0 || queue_id_is_valid(id));
    for (size_t i = 0; i < id.size; i++)
        REQUIRE(id.data[i] == (queued->request_id.data[i] | 0x20) ||
                id.data[i] == queued->request_id.data[i]);
    require_label(queued->agent_id);
    require_label(queued->workflow);
    require_label(queued->instance_id);
    require_label(queued->job_id);
    require_receiver(&queued->notify);
}

static void require_request(const struct request *request)
{
    struct buf bytes;

    REQUIRE(operation_calls_provider(request->operation));
    REQUIRE(request->operation != OP_STREAM);
    REQUIRE(request->options.request_id.size > 0);
    REQUIRE(request->options.to.size == 0);
    REQUIRE(request->text.size > 0 || request->message_count > 0 ||
            request->given_count > 0 || request->text_count > 0);
    require_clean(request->text);
    require_clean(request->context);
    for (size_t i = 0; i < request->message_count; i++)
        require_clean(request->messages[i].content);
    buf_init(&bytes, OUT_MAX);
    request_fingerprint(request, &bytes);
    REQUIRE(!bytes.failed);
    buf_release(&bytes);
}

/* \u0000 as an escape. */
static bool escapes_nul(struct slice json)
{
    static const char NUL[] = "\\u0000";

    for (size_t i = 0; i + 1 < json.size; i += json.data[i] == '\\' ? 2 : 1)
        if (json.size - i >= 6 && memcmp(json.data + i, NUL, 6) == 0)
            return true;
    return false;
}

/* JSON that PostgreSQL takes. */
static const struct jv *require_json(struct arena *arena, const struct buf *out)
{
    struct error err;
    struct jv *value;

    REQUIRE(!out->failed);
    require_clean(buf_slice(out));
    REQUIRE(!escapes_nul(buf_slice(out)));
    REQUIRE(jv_parse(arena, buf_slice(out), JV_STRICT, &OUT_LIMITS, NULL,
                     &value, &err));
    REQUIRE(value->type == JV_OBJECT);
    return value;
}

static void try_result(const struct queue_result *result)
{
    const struct jv *json;
    struct arena arena;
    struct buf out;

    arena_init(&arena, 0);
    buf_init(&out, OUT_MAX);
    queue_result_put(&out, result);
    json = require_json(&arena, &out);
    REQUIRE(slice_is(jv_string(jv_find(json, "status")),
                     result->err ? "failed" : "success"));
    REQUIRE(slice_equal(jv_string(jv_find(json, "request_id")),
                        result->queued->request_id));
    REQUIRE(jv_find(json, "cost")->type == JV_REAL);
    REQUIRE(jv_find(json, "cost_cents")->type == JV_REAL);
    REQUIRE((jv_find(json, "error")->type == JV_OBJECT) ==
            (result->err != NULL));
    buf_release(&out);
    arena_release(&arena);
}

/* The stranger's JSON as what the model answered. */
static void try_success(const struct queue_request *queued,
                        const struct jv *answer)
{
    const struct account account = {.usage = USAGE_UNKNOWN, .cost_usd = 1e-9};
    struct queue_result result = {.queued = queued, .account = &account};
    struct buf value;

    buf_init(&value, OUT_MAX);
    term_put_tuple(&value, 2);
    term_put_atom(&value, "ok");
    json_put_term(&value, answer);
    result.value = buf_slice(&value);
    try_result(&result);
    buf_release(&value);
}

static void try_failure(const struct queue_request *queued,
                        const struct error *err)
{
    const struct queue_result result = {.queued = queued, .err = err};
    const struct queue_dead_letter letter = {
        .json = SLICE_LITERAL("{}"), .err = err, .unix_ms = INT64_MAX};
    struct arena arena;
    struct buf out;

    REQUIRE(err->code == ERR_INVALID_REQUEST || err->code == ERR_TOO_LARGE);
    REQUIRE(err->message[0] != '\0');
    arena_init(&arena, 0);
    buf_init(&out, OUT_MAX);
    try_result(&result);
    queue_dead_letter_put(&out, &letter);
    require_json(&arena, &out);
    buf_release(&out);
    arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice json = slice_make(data, size);
    struct queue_request queued;
    struct arena arena;
    struct error err, ignored;
    struct jv *answer;

    arena_init(&arena, 0);
    if (queue_request_decode(json, &arena, &queued, &err)) {
        require_request(&queued.request);
        REQUIRE(jv_parse(&arena, json, JV_STRICT, &JV_DEFAULT_LIMITS, NULL,
                         &answer, &ignored));
        try_success(&queued, answer);
    } else {
        try_failure(&queued, &err);
    }
    require_sender(&queued);
    arena_release(&arena);
    return 0;
}
