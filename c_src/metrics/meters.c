#include "llm_router/metrics/meters.h"

#include <math.h>
#include <stdio.h>

#include "llm_router/base/list.h"
#include "llm_router/base/map.h"
#include "llm_router/base/mem.h"
#include "llm_router/base/utf8.h"
#include "llm_router/metrics/exposition.h"

enum { KEY_PARTS_MAX = 4, KEY_MAX = 1024 };

/* What differs only by its labels: found by them, shown in order of birth. */
struct table {
    struct map map;
    struct list all; /* struct entry */
    size_t max;
};

struct entry {
    struct list link;
    struct slice parts[KEY_PARTS_MAX]; /* of the text behind the owner */
};

struct request_counter {
    struct entry entry; /* operation, outcome, provider, model */
    uint64_t count;
};

struct call_timer {
    struct entry entry; /* kind, error, provider, model */
    struct histogram duration;
};

struct model_meter {
    struct entry entry; /* kind, provider, model */
    uint64_t failed;
    struct histogram duration, first_token, input, output;
    double cost_usd;
    bool priced; /* of one call at least the cost is known */
};

struct meters {
    struct table requests, calls, models;
    struct histogram durations[OPERATION_COUNT];
    struct histogram overhead, waiting;
};

/* Tables. */

static void table_init(struct table *table, uint64_t seed, size_t max)
{
    map_init(&table->map, seed);
    list_init(&table->all);
    table->max = max;
}

static void table_release(struct table *table)
{
    LIST_EACH(link, &table->all)
    mem_free(LIST_ENTRY(link, struct entry, link));
    map_release(&table->map);
}

/* Parts hold no NUL: names and models are checked text. Cut between characters:
 * two keys must not become the same label. */
static struct slice key_of(const struct slice *parts, char key[KEY_MAX])
{
    size_t size = 0;

    for (size_t i = 0; i < KEY_PARTS_MAX; i++) {
        struct slice part = utf8_cut(parts[i], KEY_MAX / KEY_PARTS_MAX - 1);

        if (part.size > 0)
            memcpy(key + size, part.data, part.size);
        size += part.size;
        key[size++] = '\0';
    }
    return slice_make(key, size);
}

static void take_parts(struct entry *entry, struct slice key, char *text)
{
    memcpy(text, key.data, key.size);
    for (size_t i = 0; i < KEY_PARTS_MAX; i++) {
        entry->parts[i] = slice_of(text);
        text += entry->parts[i].size + 1;
    }
}

static void *find_or_make(struct table *table, const struct slice *parts,
                          size_t entry_size)
{
    char text[KEY_MAX];
    struct slice key = key_of(parts, text);
    struct entry *entry = map_find(&table->map, key);

    if (entry)
        return entry;
    entry = mem_alloc(entry_size + key.size);
    take_parts(entry, key, (char *)entry + entry_size);
    list_append(&table->all, &entry->link);
    map_put(&table->map, key, entry);
    return entry;
}

/* The model is the last part. Where there is none, the others are few. */
static void *entry_of(struct table *table, const struct slice *given,
                      size_t count, size_t entry_size)
{
    struct slice parts[KEY_PARTS_MAX] = {{NULL, 0}};
    char text[KEY_MAX];

    memcpy(parts, given, count * sizeof(*parts));
    if (table->map.count >= table->max && parts[count - 1].size > 0 &&
        !map_find(&table->map, key_of(parts, text)))
        parts[count - 1] = SLICE_LITERAL("other");
    return find_or_make(table, parts, entry_size);
}

struct meters *meters_new(uint64_t seed)
{
    struct meters *meters = mem_alloc(sizeof(*meters));

    table_init(&meters->requests, seed, METERS_MAX);
    table_init(&meters->calls, seed, METERS_TIMERS_MAX);
    table_init(&meters->models, seed, METERS_TIMERS_MAX);
    return meters;
}

void meters_free(struct meters *meters)
{
    if (!meters)
        return;
    table_release(&meters->requests);
    table_release(&meters->calls);
    table_release(&meters->models);
    mem_free(meters);
}

/* Counting. */

static struct slice operation_name(enum operation operation)
{
    return slice_of(operation < OPERATION_COUNT ? operation_atom(operation)
                                                : "unknown");
}

void meters_request(struct meters *meters, const struct request_meter *request)
{
    const struct slice parts[] = {operation_name(request->operation),
                                  slice_of(request->outcome), request->provider,
                                  request->model};
    struct request_counter *counter =
        entry_of(&meters->requests, parts, KEY_PARTS_MAX, sizeof(*counter));

    counter->count++;
    if (isnan(request->duration_s) || request->operation == OPERATION_COUNT)
        return;
    histogram_add(&meters->durations[request->operation], HISTOGRAM_SECONDS,
                  request->duration_s);
    histogram_add(&meters->overhead, HISTOGRAM_SECONDS, request->overhead_s);
    histogram_add(&meters->waiting, HISTOGRAM_SECONDS, request->waiting_s);
}

/* OpenTelemetry knows chat and embeddings; all else here is chat too. */
static struct slice kind_of(enum operation operation)
{
    return slice_of(operation == OP_EMBED ? "embeddings" : "chat");
}

static void add_known(struct histogram *histogram, double unit, double value)
{
    if (value >= 0)
        histogram_add(histogram, unit, value);
}

static void count_for_model(struct meters *meters,
                            const struct call_meter *call)
{
    const struct slice parts[] = {kind_of(call->operation), call->provider,
                                  call->model};
    struct model_meter *model =
        entry_of(&meters->models, parts, 3, sizeof(*model));

    if (call->error == ERR_NONE)
        histogram_add(&model->duration, HISTOGRAM_SECONDS, call->duration_s);
    else if (call->error != ERR_CANCELLED)
        model->failed++;
    add_known(&model->first_token, HISTOGRAM_SECONDS, call->first_token_s);
    add_known(&model->input, HISTOGRAM_TOKENS,
              (double)call->usage->input_tokens);
    add_known(&model->output, HISTOGRAM_TOKENS,
              (double)call->usage->output_tokens);
    if (!isnan(call->cost_usd)) {
        model->cost_usd += call->cost_usd;
        model->priced = true;
    }
}

void meters_call(struct meters *meters, const struct call_meter *call)
{
    const struct slice parts[] = {
        kind_of(call->operation),
        slice_of(call->error == ERR_NONE ? "" : error_atom(call->error)),
        call->provider, call->model};
    struct call_timer *timer =
        entry_of(&meters->calls, parts, KEY_PARTS_MAX, sizeof(*timer));

    histogram_add(&timer->duration, HISTOGRAM_SECONDS, call->duration_s);
    count_for_model(meters, call);
}

/* Showing. */

static const struct boundaries short_times = {HISTOGRAM_SECONDS, 0, 16, 1};
static const struct boundaries call_times = {HISTOGRAM_SECONDS, 10, 23, 1};
static const struct boundaries all_times = {HISTOGRAM_SECONDS, 4, 26, 2};
static const struct boundaries token_counts = {HISTOGRAM_TOKENS, 0, 26, 2};

static void put_requests(const struct meters *meters, struct buf *out)
{
    static const struct family family = {
        "llm_router_requests_total", "counter",
        "Requests of callers that have ended, by what became of them."};

    exposition_begin(out, &family);
    LIST_EACH(link, &meters->requests.all)
    {
        const struct request_counter *counter =
            LIST_ENTRY(link, struct request_counter, entry.link);
        const struct slice *parts = counter->entry.parts;
        const struct label labels[] = {{"operation", parts[0]},
                                       {"outcome", parts[1]},
                                       {"provider", parts[2]},
                                       {"model", parts[3]}};

        exposition_value(out, &family, labels, 4, (double)counter->count);
    }
}

static void put_durations(const struct meters *meters, struct buf *out)
{
    static const struct family duration = {
        "llm_router_request_duration_seconds", "histogram",
        "From the request to its answer, waiting and providers included."};
    static const struct family overhead = {
        "llm_router_overhead_seconds", "histogram",
        "The router's own share of a request: what is neither waiting nor a "
        "provider's nor a script's."};
    static const struct family waiting = {
        "llm_router_waiting_seconds", "histogram",
        "What a request waited for a slot, for room in limits, before "
        "retries."};

    exposition_begin(out, &duration);
    for (size_t i = 0; i < OPERATION_COUNT; i++) {
        const struct label label = {"operation",
                                    operation_name((enum operation)i)};

        if (meters->durations[i].count > 0)
            exposition_histogram(out, &duration, &label, 1, &all_times,
                                 &meters->durations[i]);
    }
    exposition_begin(out, &overhead);
    exposition_histogram(out, &overhead, NULL, 0, &short_times,
                         &meters->overhead);
    exposition_begin(out, &waiting);
    exposition_histogram(out, &waiting, NULL, 0, &all_times, &meters->waiting);
}

static void put_calls(const struct meters *meters, struct buf *out)
{
    static const struct family family = {
        "gen_ai_client_operation_duration_seconds", "histogram",
        "Calls of providers, the failed ones by error_type."};

    exposition_begin(out, &family);
    LIST_EACH(link, &meters->calls.all)
    {
        const struct call_timer *timer =
            LIST_ENTRY(link, struct call_timer, entry.link);
        const struct slice *parts = timer->entry.parts;
        const struct label labels[] = {{"gen_ai_operation_name", parts[0]},
                                       {"error_type", parts[1]},
                                       {"gen_ai_provider_name", parts[2]},
                                       {"gen_ai_request_model", parts[3]}};

        exposition_histogram(out, &family, labels, 4, &call_times,
                             &timer->duration);
    }
}

enum { MODEL_LABELS = 4 };

static void label_model(const struct model_meter *model,
                        struct label labels[MODEL_LABELS])
{
    const struct slice *parts = model->entry.parts;

    labels[0] = (struct label){"gen_ai_operation_name", parts[0]};
    labels[1] = (struct label){"gen_ai_provider_name", parts[1]};
    labels[2] = (struct label){"gen_ai_request_model", parts[2]};
    labels[3] = (struct label){"gen_ai_token_type", slice_of(NULL)};
}

typedef void put_model(struct buf *out, const struct family *family,
                       struct label labels[MODEL_LABELS],
                       const struct model_meter *model);

static void put_tokens(struct buf *out, const struct family *family,
                       struct label labels[MODEL_LABELS],
                       const struct model_meter *model)
{
    labels[3].value = slice_of("input");
    exposition_histogram(out, family, labels, MODEL_LABELS, &token_counts,
                         &model->input);
    labels[3].value = slice_of("output");
    exposition_histogram(out, family, labels, MODEL_LABELS, &token_counts,
                         &model->output);
}

static void put_first_token(struct buf *out, const struct family *family,
                            struct label labels[MODEL_LABELS],
                            const struct model_meter *model)
{
    exposition_histogram(out, family, labels, MODEL_LABELS, &call_times,
                         &model->first_token);
}

static void put_cost(struct buf *out, const struct family *family,
                     struct label labels[MODEL_LABELS],
                     const struct model_meter *model)
{
    if (model->priced)
        exposition_value(out, family, labels, MODEL_LABELS, model->cost_usd);
}

static const struct {
    struct family family;
    put_model *put;
} model_families[] = {
    {{"gen_ai_client_operation_time_to_first_chunk_seconds", "histogram",
      "From the question to the first of the answer's text."},
     put_first_token},
    {{"gen_ai_client_token_usage", "histogram",
      "Tokens of provider calls, as far as the providers say."},
     put_tokens},
    {{"llm_router_cost_usd_total", "counter",
      "What provider calls cost whose price and usage are known."},
     put_cost},
};

static void put_models(const struct meters *meters, struct buf *out)
{
    struct label labels[MODEL_LABELS];

    for (size_t i = 0; i < sizeof(model_families) / sizeof(model_families[0]);
         i++) {
        exposition_begin(out, &model_families[i].family);
        LIST_EACH(link, &meters->models.all)
        {
            const struct model_meter *model =
                LIST_ENTRY(link, struct model_meter, entry.link);

            label_model(model, labels);
            model_families[i].put(out, &model_families[i].family, labels,
                                  model);
        }
    }
}

void meters_put(const struct meters *meters, struct buf *out)
{
    put_requests(meters, out);
    put_durations(meters, out);
    put_calls(meters, out);
    put_models(meters, out);
}

void meters_each_model(const struct meters *meters,
                       void (*visit)(void *context,
                                     const struct model_meter_view *view),
                       void *context)
{
    LIST_EACH(link, &meters->models.all)
    {
        const struct model_meter *model =
            LIST_ENTRY(link, struct model_meter, entry.link);
        const struct model_meter_view view = {
            .provider = model->entry.parts[1],
            .model = model->entry.parts[2],
            .calls = model->duration.count + model->failed,
            .failed = model->failed,
            .duration = &model->duration,
            .input_tokens = model->input.sum,
            .output_tokens = model->output.sum,
            .cost_usd = model->priced ? model->cost_usd : (double)NAN,
        };

        visit(context, &view);
    }
}
