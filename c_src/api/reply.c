#include "api/reply_internal.h"

#include <math.h>

static void put_ok(struct buf *out)
{
    term_put_tuple(out, 2);
    term_put_atom(out, "ok");
}

static void put_warnings(struct buf *out, const struct warnings *warnings)
{
    term_put_list(out, warnings->count);
    for (size_t i = 0; i < warnings->count; i++)
        term_put_binary(out, warnings->texts[i]);
    term_put_nil(out);
}

/* The value, with all that is known around it where the caller wants that. */
static void put_answer(struct buf *out, const struct request *request,
                       const struct result *result,
                       const struct account *account)
{
    enum key_style style = request->options.keys;

    if (!request->options.full) {
        put_value(out, request, result, account);
        return;
    }
    term_put_map(out,
                 2 + account_pairs(request) + trace_pairs(result, account));
    put_name(out, style, "result");
    put_value(out, request, result, account);
    put_name(out, style, "warnings");
    put_warnings(out, &result->warnings);
    put_account(out, request, account);
    put_trace(out, request, result, account);
}

void reply_put_result(struct buf *out, const struct request *request,
                      const struct result *result,
                      const struct account *account)
{
    put_ok(out);
    put_answer(out, request, result, account);
}

/* One pair of an error's details, left out when it is not known. */
struct detail {
    const char *name;
    enum { DETAIL_UNKNOWN, DETAIL_TEXT, DETAIL_INTEGER, DETAIL_FLOAT } kind;
    struct slice text;
    int64_t integer;
    double number;
};

static struct detail text_detail(const char *name, struct slice text)
{
    return (struct detail){
        .name = name,
        .kind = text.size > 0 ? DETAIL_TEXT : DETAIL_UNKNOWN,
        .text = text,
    };
}

static struct detail integer_detail(const char *name, int64_t value, bool known)
{
    return (struct detail){
        .name = name,
        .kind = known ? DETAIL_INTEGER : DETAIL_UNKNOWN,
        .integer = value,
    };
}

static void put_detail(struct buf *out, const struct detail *detail)
{
    if (detail->kind != DETAIL_UNKNOWN)
        term_put_atom(out, detail->name);
    switch (detail->kind) {
    case DETAIL_UNKNOWN:
        break;
    case DETAIL_TEXT:
        term_put_binary(out, detail->text);
        break;
    case DETAIL_INTEGER:
        term_put_integer(out, detail->integer);
        break;
    case DETAIL_FLOAT:
        term_put_float(out, detail->number);
        break;
    }
}

void reply_put_error(struct buf *out, const struct error *err,
                     const struct account *account)
{
    static const struct account nobody = {.cost_usd = NAN};
    const struct account *by = account ? account : &nobody;
    bool counted = err->code == ERR_TASK_COUNT;
    const struct detail details[] = {
        text_detail("path", slice_of(err->path)),
        text_detail("provider", by->provider),
        text_detail("model", by->model),
        integer_detail("http_status", err->http_status, err->http_status > 0),
        text_detail("provider_request_id", slice_of(err->provider_request_id)),
        integer_detail("retry_after_ms", err->retry_after_ms,
                       err->retry_after_ms >= 0),
        integer_detail("attempts", by->attempts, by->attempts > 0),
        integer_detail("wanted", err->wanted, counted),
        integer_detail("got", err->got, counted),
        integer_detail("line", err->line, err->line > 0),
        {.name = "cost_usd",
         .kind = isfinite(by->cost_usd) ? DETAIL_FLOAT : DETAIL_UNKNOWN,
         .number = by->cost_usd},
    };
    size_t count = sizeof(details) / sizeof(*details);
    size_t known = 0;

    for (size_t i = 0; i < count; i++)
        known += details[i].kind != DETAIL_UNKNOWN;
    term_put_tuple(out, 2);
    term_put_atom(out, "error");
    term_put_tuple(out, 2);
    term_put_atom(out, error_atom(err->code));
    term_put_map(out, known + 1);
    term_put_atom(out, "message");
    term_put_text(out, err->message);
    for (size_t i = 0; i < count; i++)
        put_detail(out, &details[i]);
}

/* What begins each message of a stream. */
static void put_stream_head(struct buf *out, struct slice reference)
{
    term_put_tuple(out, 3);
    term_put_atom(out, "llm_stream");
    term_put_raw(out, reference);
}

void reply_put_delta(struct buf *out, struct slice reference, struct slice text)
{
    put_stream_head(out, reference);
    term_put_tuple(out, 2);
    term_put_atom(out, "delta");
    term_put_binary(out, text);
}

void reply_put_stream_done(struct buf *out, struct slice reference,
                           const struct request *request,
                           const struct result *result,
                           const struct account *account)
{
    put_stream_head(out, reference);
    term_put_tuple(out, 2);
    term_put_atom(out, "done");
    put_answer(out, request, result, account);
}

void reply_put_stream_error(struct buf *out, struct slice reference,
                            const struct error *err,
                            const struct account *account)
{
    put_stream_head(out, reference);
    reply_put_error(out, err, account);
}

void reply_put_stream(struct buf *out, struct slice reference)
{
    put_ok(out);
    term_put_raw(out, reference);
}

void reply_put_pong(struct buf *out)
{
    term_put_atom(out, "pong");
}

void reply_put_boolean(struct buf *out, bool value)
{
    term_put_boolean(out, value);
}

static void put_choice(struct buf *out, enum key_style style,
                       const struct candidate *candidate)
{
    put_name(out, style, "model");
    term_put_binary(out, candidate->model);
    put_name(out, style, "provider");
    term_put_binary(out, candidate->provider);
}

void reply_put_selection(struct buf *out, const struct request *request,
                         const struct plan *plan)
{
    enum key_style style = request->options.keys;

    put_ok(out);
    term_put_map(out, request->options.full ? 4 : 2);
    put_choice(out, style, &plan->candidates[0]);
    if (!request->options.full)
        return;
    put_name(out, style, "candidates");
    term_put_list(out, plan->count);
    for (size_t i = 0; i < plan->count; i++) {
        term_put_map(out, 2);
        put_choice(out, style, &plan->candidates[i]);
    }
    term_put_nil(out);
    put_decision(out, style, &plan->decision);
}

void reply_put_head(struct buf *out, const struct reply_address *reply,
                    enum operation operation)
{
    switch (reply->form) {
    case REPLY_GEN:
        term_put_tuple(out, 2);
        term_put_raw(out, reply->tag);
        break;
    case REPLY_PRD:
        term_put_tuple(out, 2);
        term_put_atom(out, "prd_response");
        break;
    case REPLY_NAMED:
        term_put_tuple(out, 3);
        term_put_atom(out, "llm_result");
        term_put_atom(out, operation_atom(operation));
        break;
    case REPLY_RESPONSE:
        term_put_tuple(out, 3);
        term_put_atom(out, "llm_response");
        term_put_raw(out, reply->tag);
        break;
    case REPLY_NONE:
    case REPLY_RPC:
        break;
    }
}
