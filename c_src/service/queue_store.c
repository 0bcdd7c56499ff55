/* What becomes of messages: stored results, and messages that go back. */
#include "service/queue_internal.h"

#include "llm_router/base/log.h"
#include "llm_router/core/allow.h"
#include "llm_router/term/writer.h"

enum {
    STORE_COUNT = 100, /* results of one statement */
    STORE_BYTES = 8 * 1024 * 1024,
    LARGE_ITEM = 256 * 1024,
    AGAIN_MS = 1000, /* doubled up to */
    AGAIN_MAX_MS = 8000,
    COLLISION_MS = 50, /* after a deadlock */
    VERSION_TAG = 131,
};

/* Items. */

static void put_hex(struct buf *out, struct slice bytes)
{
    static const char digits[] = "0123456789abcdef";

    char *at;

    if (!buf_reserve(out, 2 * bytes.size))
        return;
    at = out->data + out->size;
    for (size_t i = 0; i < bytes.size; i++) {
        unsigned char byte = (unsigned char)bytes.data[i];

        *at++ = digits[byte >> 4];
        *at++ = digits[byte & 15];
    }
    out->size += 2 * bytes.size;
}

static void put_member(struct buf *out, const char *name, struct slice text)
{
    buf_printf(out, ",\"%s\":", name);
    if (text.size > 0)
        jv_put_string(out, text);
    else
        buf_append_text(out, "null");
}

static void put_raw_member(struct buf *out, const char *name, struct slice json)
{
    buf_printf(out, ",\"%s\":", name);
    if (json.size > 0)
        buf_append_slice(out, json);
    else
        buf_append_text(out, "null");
}

static void put_answer(struct buf *out, struct slice value)
{
    static const char version = (char)VERSION_TAG;

    buf_append_text(out, ",\"answer\":\"");
    put_hex(out, slice_make(&version, 1));
    put_hex(out, value);
    buf_append_byte(out, '"');
}

static void put_dead_letter(struct queued *queued, const struct error *err)
{
    const struct queue_dead_letter letter = {
        .json = queued->json,
        .err = err,
        .msg_id = queued->msg_id,
        .read_count = queued->read_count,
        .unix_ms = loop_unix_ms(),
    };

    buf_append_text(&queued->item, ",\"dead\":");
    queue_dead_letter_put(&queued->item, &letter);
}

/* {llm_result, RequestId, Result}: to be sent when it is stored. */
static void keep_notice(struct queued *queued, struct slice value)
{
    struct buf out;

    if (queued->message.notify.name.size == 0)
        return;
    buf_init(&out, SIZE_MAX);
    term_put_tuple(&out, 3);
    term_put_atom(&out, "llm_result");
    term_put_binary(&out, queued->message.request_id);
    term_put_raw(&out, value);
    queued->notice = arena_keep(&queued->arena, &out);
}

/* Time that ran out, and who cancelled, are no fault of the message. */
static bool is_dead(const struct error *err)
{
    return err && err->code != ERR_TIMEOUT && err->code != ERR_CANCELLED;
}

void queued_settle(struct queued *queued, const struct outcome *outcome,
                   struct slice value)
{
    struct buf *out = &queued->item;
    const struct request *request = outcome->request;
    const struct queue_result result = {
        .queued = &queued->message,
        .err = outcome->err,
        .value = value,
        .account = outcome->account,
        .unix_ms = loop_unix_ms(),
    };

    queued->message.request = *request;
    buf_clear(out);
    buf_printf(out, "{\"msg_id\":%lld,\"result\":", (long long)queued->msg_id);
    queue_result_put(out, &result);
    put_member(out, "request_id", queued->message.request_id);
    put_answer(out, value);
    put_raw_member(out, "input", queued->json);
    put_member(out, "workflow", queued->message.workflow);
    put_member(out, "instance_id", queued->message.instance_id);
    put_member(out, "job_id", queued->message.job_id);
    queued->dead = is_dead(outcome->err);
    if (queued->dead)
        put_dead_letter(queued, outcome->err);
    buf_append_byte(out, '}');
    queued->failed = outcome->err != NULL;
    keep_notice(queued, value);
    /* The text of the request goes with the job. */
    queued->message.request = (struct request){
        .operation = request->operation,
        .options = {.complexity = request->options.complexity},
    };
}

/* Who asked again waits as whoever asked first did. */
static void notice_again(struct queued *queued, struct slice hex)
{
    struct queue_request decoded;
    struct error ignored;
    struct buf value;

    queue_request_decode(queued->json, &queued->arena, &decoded, &ignored);
    queued->message.notify = decoded.notify;
    buf_init(&value, SIZE_MAX);
    if (queue_read_answer(hex, &value))
        keep_notice(queued, buf_slice(&value));
    buf_release(&value);
}

void queued_settle_again(struct queued *queued, struct slice result,
                         struct slice hex)
{
    struct buf *out = &queued->item;

    if (hex.size > 0)
        notice_again(queued, hex);

    buf_printf(out, "{\"msg_id\":%lld,\"again\":true,\"result\":",
               (long long)queued->msg_id);
    buf_append_slice(out, result);
    put_member(out, "request_id", queued->message.request_id);
    buf_append_byte(out, '}');
    queued->queue->counters.stored_before++;
    queued_move(queued, QUEUED_ANSWERED);
    queue_store(queued->queue);
}

/* What became of a request. */

/* Money or a key that somebody has to see to. */
static bool is_of_router(enum error_code code)
{
    return code == ERR_BUDGET_EXCEEDED || code == ERR_QUOTA_EXCEEDED ||
           code == ERR_UNAUTHORIZED;
}

/* May it go well later, without anybody doing anything about it? Time that ran
 * out before anybody was asked ran out in a line of this router. */
static bool may_pass(const struct outcome *outcome)
{
    enum error_code code = outcome->err->code;

    if (code == ERR_TIMEOUT)
        return outcome->account && outcome->account->attempts == 0;
    if (is_of_router(code))
        return true;
    return code == ERR_RATE_LIMITED || code == ERR_OVERLOADED ||
           code == ERR_UNREACHABLE || code == ERR_PROVIDER_ERROR ||
           code == ERR_BAD_RESPONSE;
}

/* Messages that failed together do not come back together. */
static int64_t backoff_s(const struct queued *queued, const struct error *err)
{
    const struct config *config = queued->queue->service->config;
    int64_t delay = config->backoff_s;

    if (is_of_router(err->code))
        return config->max_backoff_s;
    for (int64_t i = 1; i < queued->read_count && delay < config->max_backoff_s;
         i++)
        delay *= 2;
    delay -= (int64_t)(0.25 * (double)delay *
                       service_chance(queued->queue->service));
    if (err->retry_after_ms >= 0 && delay <= err->retry_after_ms / 1000)
        delay = err->retry_after_ms / 1000 + 1;
    return delay < config->max_backoff_s ? delay : config->max_backoff_s;
}

static void on_again(void *context)
{
    queue_store(context);
}

void queued_answered(struct queued *queued, const struct outcome *outcome)
{
    struct service *service = queued->queue->service;
    const struct error *err = outcome->err;

    if (err && err->code == ERR_SHUTTING_DOWN) {
        queued_return(queued, 0);
        return;
    }
    if (err && may_pass(outcome) &&
        queued->read_count < service->config->max_reads) {
        log_event(LOG_INFO, "queue", "a message goes back",
                  LOG_FIELDS(log_integer("msg_id", queued->msg_id),
                             log_integer("read", queued->read_count),
                             log_text("error", slice_of(error_atom(err->code))),
                             log_text("reason", slice_of(record_words(err)))));
        queue_troubled(queued->queue);
        queued_return(queued, backoff_s(queued, err));
        return;
    }
    if (!err)
        queued->queue->troubled = 0;
    queued_settle(queued, outcome, buf_slice(&service->value));
    if (queued->dead)
        log_event(LOG_WARN, "queue", "a message is a dead letter",
                  LOG_FIELDS(log_integer("msg_id", queued->msg_id),
                             log_text("error", slice_of(error_atom(err->code))),
                             log_text("path", slice_of(err->path)),
                             log_text("reason", slice_of(record_words(err)))));
    queued_move(queued, QUEUED_ANSWERED);
    /* To write a large item was enough for one turn of the loop. */
    if (queued->item.size > LARGE_ITEM)
        loop_timer_start(&service->loop, &queued->queue->store_again, 0,
                         on_again, queued->queue);
    else
        queue_store(queued->queue);
}

/* Back to the queue. */

void queued_return(struct queued *queued, int64_t seconds)
{
    struct queue *queue = queued->queue;

    queue->counters.returned++;
    queued->return_s = seconds;
    queued_move(queued, QUEUED_RETURNING);
    queue_store(queue);
}

/* One that could not be given back comes back when its lease is over. */
static void on_returned(void *context, const struct pg_rows *rows,
                        const struct pg_failure *failure)
{
    struct queue *queue = context;

    (void)rows;
    if (failure && quiet_is_over(queue, &queue->about_storing))
        log_event(LOG_WARN, "queue", "messages cannot be given back",
                  LOG_FIELDS(log_text("reason", slice_of(failure->message))));
    LIST_EACH(link, &queue->returning_now)
    {
        struct queued *queued = LIST_ENTRY(link, struct queued, stage);

        if (!failure)
            queue_returned(queue, queued->return_s);
        queued_free(queued);
    }
    queue_store(queue);
}

static void let_go(struct queue *queue)
{
    LIST_EACH(link, &queue->returning)
    queued_free(LIST_ENTRY(link, struct queued, stage));
}

static void give_back(struct queue *queue)
{
    struct buf ids;

    if (list_is_empty(&queue->returning) ||
        !list_is_empty(&queue->returning_now))
        return;
    buf_init(&ids, SIZE_MAX);
    LIST_EACH(link, &queue->returning)
    {
        const struct queued *queued = LIST_ENTRY(link, struct queued, stage);

        buf_printf(&ids, "%c{\"msg_id\":%lld,\"seconds\":%lld}",
                   ids.size == 0 ? '[' : ',', (long long)queued->msg_id,
                   (long long)queued->return_s);
    }
    buf_append_byte(&ids, ']');
    list_move(&queue->returning_now, &queue->returning);
    pgmq_return(queue->writer, &queue->names, buf_slice(&ids), on_returned,
                queue);
    buf_release(&ids);
}

/* Storing. */

static void notify(struct queue *queue, const struct queued *queued)
{
    const struct queue_receiver *to = &queued->message.notify;
    const struct config *config = queue->service->config;

    if (queued->notice.size == 0)
        return;
    if (!allow_matches(config->may_call.items, config->may_call.count,
                       to->node)) {
        if (quiet_is_over(queue, &queue->about_notices))
            log_event(LOG_WARN, "queue", "no notice: allow.call forbids it",
                      LOG_FIELDS(log_text("peer", to->node)));
        return;
    }
    if (node_send_name(queue->service->node, to->node, to->name,
                       queued->notice))
        queue->counters.notices++;
    else
        queue->service->stats.undeliverable++;
}

static void finish(struct queue *queue, struct queued *queued, bool is_ours)
{
    struct queue_counters *counters = &queue->counters;

    if (is_ours || queued->uncertain) {
        counters->done += !queued->failed;
        counters->failed += queued->failed;
        counters->dead += queued->dead;
        notify(queue, queued);
        queue_stored(queue, queued->message.request_id);
    } else {
        counters->lost++;
    }
    queued_free(queued);
}

static bool starts_with_any(const char *sqlstate, const char *const *classes)
{
    for (; *classes; classes++)
        if (strncmp(sqlstate, *classes, strlen(*classes)) == 0)
            return true;
    return false;
}

/* Something in what is to be stored that the database will never take. */
static bool blames_data(const struct pg_failure *failure)
{
    static const char *const classes[] = {"21", "22", "23", "54", NULL};

    return starts_with_any(failure->sqlstate, classes);
}

static bool blames_chance(const struct pg_failure *failure)
{
    static const char *const classes[] = {"40", "55P03", NULL};

    return starts_with_any(failure->sqlstate, classes);
}

/* The producer gets at least to know that. */
static void replace(struct queued *queued)
{
    const struct request request = queued->message.request;
    struct error err;
    const struct outcome outcome = {&request, &err, NULL};
    struct buf value;

    error_set(&err, ERR_INVALID_OUTPUT,
              "the answer cannot be stored in the database");
    buf_init(&value, SIZE_MAX);
    reply_put_error(&value, &err, NULL);
    queued_settle(queued, &outcome, buf_slice(&value));
    buf_release(&value);
}

/* Which one of a statement is it, and is it the answer or a table, perhaps of
 * another program, that cannot take it? */
static void refused(struct queued *queued, const struct pg_failure *failure,
                    bool was_alone)
{
    if (was_alone)
        log_event(LOG_ERROR, "queue", "a result is refused",
                  LOG_FIELDS(log_integer("msg_id", queued->msg_id),
                             log_text("reason", slice_of(failure->message))));
    if (!was_alone) {
        queued->refused = REFUSED_AMONG_OTHERS;
    } else if (queued->refused < REFUSED_ALONE) {
        queued->refused = REFUSED_ALONE;
    } else if (queued->refused == REFUSED_ALONE) {
        queued->refused = REFUSED_BARE;
        replace(queued);
    } else {
        queued_return(queued, queued->queue->service->config->max_backoff_s);
    }
}

/* Whoever is to blame is tried alone, and then less and less often. */
static void hold_up(struct queued *queued, bool was_alone)
{
    uint64_t pause = AGAIN_MS;

    if (!was_alone && queued->refused == REFUSED_NEVER)
        queued->refused = REFUSED_AMONG_OTHERS;
    if (!was_alone)
        return;
    for (unsigned i = 0; i < queued->tries && pause < AGAIN_MAX_MS; i++)
        pause *= 2;
    queued->tries++;
    queued->again_ms = loop_now_ms(&queued->queue->service->loop) + pause;
}

static void not_stored_one(struct queued *queued,
                           const struct pg_failure *failure, bool was_alone)
{
    queued->uncertain = queued->uncertain || failure->unknown;
    queued_move(queued, QUEUED_ANSWERED);
    if (pg_is_lost(failure))
        return; /* the connection is new soon */
    if (blames_data(failure))
        refused(queued, failure, was_alone);
    else if (blames_chance(failure))
        queued->again_ms =
            loop_now_ms(&queued->queue->service->loop) + COLLISION_MS;
    else
        hold_up(queued, was_alone);
}

static void not_stored(struct queue *queue, const struct pg_failure *failure)
{
    bool is_one = queue->storing.next->next == &queue->storing;

    if (!pg_is_lost(failure) && !blames_data(failure) &&
        !blames_chance(failure) && quiet_is_over(queue, &queue->about_storing))
        log_event(LOG_ERROR, "queue", "results cannot be stored",
                  LOG_FIELDS(log_text("reason", slice_of(failure->message))));
    if (failure->sqlstate[0] == '4' && !blames_chance(failure))
        queue_probe(queue);
    LIST_EACH(link, &queue->storing)
    not_stored_one(LIST_ENTRY(link, struct queued, stage), failure, is_one);
    queue_store(queue);
}

static void on_stored(void *context, const struct pg_rows *rows,
                      const struct pg_failure *failure)
{
    struct queue *queue = context;

    queue->storing_now = false;
    if (failure) {
        not_stored(queue, failure);
        return;
    }
    for (size_t i = 0; i < pg_row_count(rows); i++) {
        int64_t msg_id = pg_integer(rows, i, "msg_id", -1);
        struct queued *queued = map_find(&queue->by_id, MAP_KEY(msg_id));

        if (queued && queued->state == QUEUED_STORING)
            finish(queue, queued, true);
    }
    LIST_EACH(link, &queue->storing)
    finish(queue, LIST_ENTRY(link, struct queued, stage), false);
    queue_store(queue);
}

/* The next ones for one statement, as a JSON array; one that was refused is
 * alone. *again_ms: when the next of the others may be tried. */
static size_t gather(struct queue *queue, struct buf *items, uint64_t *again_ms)
{
    uint64_t now = loop_now_ms(&queue->service->loop);
    size_t count = 0;

    LIST_EACH(link, &queue->answered)
    {
        struct queued *queued = LIST_ENTRY(link, struct queued, stage);

        if (queued->again_ms > now && queued->again_ms < *again_ms)
            *again_ms = queued->again_ms;
        if (queued->again_ms > now || (count > 0 && queued->refused))
            continue;
        buf_append_byte(items, count == 0 ? '[' : ',');
        buf_append_slice(items, buf_slice(&queued->item));
        queued_move(queued, QUEUED_STORING);
        if (++count == STORE_COUNT || queued->refused ||
            items->size > STORE_BYTES)
            break;
    }
    buf_append_byte(items, ']');
    return count;
}

static void store_next(struct queue *queue)
{
    static const struct pgmq_tables none = {.answers = false};
    uint64_t again_ms = UINT64_MAX;
    const struct queued *first;
    struct buf items;

    buf_init(&items, SIZE_MAX);
    if (gather(queue, &items, &again_ms) > 0) {
        queue->storing_now = true;
        first = LIST_ENTRY(queue->storing.next, struct queued, stage);
        pgmq_finish(queue->writer, &queue->names,
                    first->refused == REFUSED_ALONE ? &none : &queue->tables,
                    buf_slice(&items), on_stored, queue);
    } else if (again_ms != UINT64_MAX) {
        loop_timer_start(&queue->service->loop, &queue->store_again,
                         again_ms - loop_now_ms(&queue->service->loop),
                         on_again, queue);
    }
    buf_release(&items);
}

static void store_now(void *context)
{
    struct queue *queue = context;

    if (!pg_is_up(queue->writer))
        let_go(queue);
    if (!queue->probed || !pg_is_up(queue->writer))
        return;
    give_back(queue);
    if (!queue->storing_now)
        store_next(queue);
}

/* At the end of the turn: what was answered in it is stored together. */
void queue_store(struct queue *queue)
{
    loop_defer(&queue->service->loop, &queue->store, store_now, queue);
}

void queue_store_release(struct queue *queue)
{
    loop_task_cancel(&queue->store);
    loop_timer_stop(&queue->store_again);
}
