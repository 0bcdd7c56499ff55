#include "api/reply_internal.h"

#include <math.h>

void put_optional(struct buf *out, struct slice text, bool known)
{
    if (known)
        term_put_binary(out, text);
    else
        term_put_atom(out, "nil");
}

void put_tokens(struct buf *out, int64_t tokens)
{
    if (tokens >= 0)
        term_put_integer(out, tokens);
    else
        term_put_atom(out, "nil");
}

void put_money(struct buf *out, double amount)
{
    if (isfinite(amount))
        term_put_float(out, amount);
    else
        term_put_atom(out, "nil");
}

void put_text_field(struct buf *out, enum key_style style, const char *name,
                    struct slice text)
{
    put_name(out, style, name);
    put_optional(out, text, text.data != NULL);
}

void put_usage(struct buf *out, enum key_style style, const struct usage *usage)
{
    term_put_map(out, 5);
    put_name(out, style, "input_tokens");
    put_tokens(out, usage->input_tokens);
    put_name(out, style, "output_tokens");
    put_tokens(out, usage->output_tokens);
    put_name(out, style, "total_tokens");
    put_tokens(out, usage->total_tokens);
    put_name(out, style, "cached_tokens");
    put_tokens(out, usage->cached_tokens);
    put_name(out, style, "reasoning_tokens");
    put_tokens(out, usage->reasoning_tokens);
}

size_t account_pairs(const struct request *request)
{
    return request->options.metadata.size > 0 ? 9 : 8;
}

void put_account(struct buf *out, const struct request *request,
                 const struct account *account)
{
    enum key_style style = request->options.keys;

    put_name(out, style, "model");
    put_optional(out, account->model, account->model.size > 0);
    put_name(out, style, "provider");
    put_optional(out, account->provider, account->provider.size > 0);
    put_name(out, style, "request_id");
    put_optional(out, account->request_id, account->request_id.size > 0);
    put_name(out, style, "usage");
    put_usage(out, style, &account->usage);
    put_name(out, style, "cost_usd");
    put_money(out, account->cost_usd);
    put_name(out, style, "duration_ms");
    term_put_integer(out, account->duration_ms);
    put_name(out, style, "attempts");
    term_put_integer(out, account->attempts);
    put_name(out, style, "cached");
    term_put_boolean(out, account->cached);
    if (request->options.metadata.size > 0) {
        put_name(out, style, "metadata");
        term_put_raw(out, request->options.metadata);
    }
}

static void put_optional_name(struct buf *out, enum key_style style,
                              const char *name, bool known)
{
    if (known)
        put_name(out, style, name);
    else
        term_put_atom(out, "nil");
}

void put_decision(struct buf *out, enum key_style style,
                  const struct decision *decision)
{
    put_name(out, style, "route");
    term_put_map(out, 5);
    put_name(out, style, "complexity");
    put_optional_name(out, style, complexity_atom(decision->complexity),
                      decision->complexity != COMPLEXITY_UNSET);
    put_name(out, style, "task_type");
    put_optional(out, decision->task_type, decision->task_type.size > 0);
    put_name(out, style, "strategy");
    put_name(out, style, strategy_name(decision->strategy));
    put_name(out, style, "reason");
    put_optional_name(out, style, decision->reason, decision->reason != NULL);
    put_name(out, style, "skipped");
    term_put_integer(out, decision->skipped);
}

static void put_record(struct buf *out, enum key_style style,
                       const struct attempt_record *record)
{
    term_put_map(out, 6);
    put_name(out, style, "provider");
    put_optional(out, record->provider, record->provider.size > 0);
    put_name(out, style, "model");
    put_optional(out, record->model, record->model.size > 0);
    put_name(out, style, "key");
    put_optional(out, record->key, record->key.size > 0);
    put_name(out, style, "error");
    put_optional_name(out, style, error_atom(record->error),
                      record->error != ERR_NONE);
    put_name(out, style, "http_status");
    put_tokens(out, record->http_status > 0 ? record->http_status : -1);
    put_name(out, style, "duration_ms");
    term_put_integer(out, record->duration_ms);
}

static void put_records(struct buf *out, enum key_style style,
                        const struct account *account)
{
    put_name(out, style, "tried");
    term_put_list(out, account->record_count);
    for (size_t i = 0; i < account->record_count; i++)
        put_record(out, style, &account->records[i]);
    term_put_nil(out);
}

/* The place of a task's source; nil where none was found. */
static void put_source(struct buf *out, enum key_style style, int64_t task_id,
                       const struct heading *heading)
{
    term_put_map(out, 3);
    put_name(out, style, "task_id");
    term_put_integer(out, task_id);
    put_name(out, style, "heading");
    put_optional(out, heading ? heading->text : slice_of(NULL),
                 heading != NULL);
    put_name(out, style, "line");
    put_tokens(out, heading ? heading->line : -1);
}

static void put_sources(struct buf *out, enum key_style style,
                        const struct result *result)
{
    const struct coverage *coverage = &result->coverage;

    put_name(out, style, "sources");
    term_put_list(out, result->tasks.count);
    for (size_t i = 0; i < result->tasks.count; i++) {
        size_t source = coverage->sources[i];

        put_source(out, style, result->tasks.tasks[i].id,
                   source < coverage->count ? &coverage->headings[source]
                                            : NULL);
    }
    term_put_nil(out);
}

static void put_headings(struct buf *out, enum key_style style,
                         const struct coverage *coverage)
{
    put_name(out, style, "headings");
    term_put_list(out, coverage->count);
    for (size_t i = 0; i < coverage->count; i++) {
        const struct heading *heading = &coverage->headings[i];

        term_put_map(out, 3);
        put_name(out, style, "heading");
        term_put_binary(out, heading->text);
        put_name(out, style, "line");
        term_put_integer(out, heading->line);
        put_name(out, style, "covered");
        term_put_boolean(out, heading->covered);
    }
    term_put_nil(out);
}

static void put_uncovered(struct buf *out, enum key_style style,
                          const struct coverage *coverage)
{
    size_t count = 0;

    for (size_t i = 0; i < coverage->count; i++)
        count += !coverage->headings[i].covered;
    put_name(out, style, "uncovered");
    term_put_list(out, count);
    for (size_t i = 0; i < coverage->count; i++)
        if (!coverage->headings[i].covered)
            term_put_binary(out, coverage->headings[i].text);
    term_put_nil(out);
}

size_t trace_pairs(const struct result *result, const struct account *account)
{
    size_t pairs = account->decision ? 2 : 1;

    return result->coverage.count > 0 ? pairs + 2 : pairs;
}

void put_trace(struct buf *out, const struct request *request,
               const struct result *result, const struct account *account)
{
    enum key_style style = request->options.keys;

    put_records(out, style, account);
    if (account->decision)
        put_decision(out, style, account->decision);
    if (result->coverage.count == 0)
        return;
    put_sources(out, style, result);
    put_name(out, style, "coverage");
    term_put_map(out, 2);
    put_headings(out, style, &result->coverage);
    put_uncovered(out, style, &result->coverage);
}
