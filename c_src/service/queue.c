/* Taking messages: connections, reading, leases. */
#include "service/queue_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "llm_router/base/abort.h"
#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/term/writer.h"

enum {
    QUIET_MS = 60000,
    CONNECT_TIMEOUT_MS = 5000,
    GATHER_MS = 5,             /* for slots to come free, so that a read is
                                  worth it */
    ARRIVE_BYTES = 256 * 1024, /* of messages decoded in one turn */
    MEASURE_MS = 10000,
    EXTEND_AGAIN_MS = 500,
    TROUBLED = 10,   /* failures one after another */
    MANY = 100000,   /* messages, which take long to be counted */
    PROBE_MS = 5000, /* while something is missing */
};

bool quiet_is_over(struct queue *queue, struct quiet *quiet)
{
    uint64_t now = loop_now_ms(&queue->service->loop);

    if (now < quiet->until_ms)
        return false;
    quiet->until_ms = now + QUIET_MS;
    return true;
}

static const struct config *config_of(const struct queue *queue)
{
    return queue->service->config;
}

static void look_for_more(struct queue *queue);

/* Messages. */

static const unsigned edges[] = {
    [QUEUED_READ] =
        1u << QUEUED_ASKING | 1u << QUEUED_ANSWERED | 1u << QUEUED_RETURNING,
    [QUEUED_ASKING] = 1u << QUEUED_ANSWERED | 1u << QUEUED_RETURNING,
    [QUEUED_ANSWERED] = 1u << QUEUED_STORING | 1u << QUEUED_RETURNING,
    [QUEUED_STORING] = 1u << QUEUED_ANSWERED,
    [QUEUED_RETURNING] = 0,
};

void queued_move(struct queued *queued, enum queued_state state)
{
    struct queue *queue = queued->queue;
    struct list *const lists[] = {
        [QUEUED_READ] = &queue->arrived,
        [QUEUED_ANSWERED] = &queue->answered,
        [QUEUED_STORING] = &queue->storing,
        [QUEUED_RETURNING] = &queue->returning,
    };

    if (!(edges[queued->state] & 1u << state)) {
        log_line(LOG_ERROR, "queue", "bad move from state %d to %d",
                 queued->state, state);
        abort_said();
    }
    queued->state = state;
    list_remove(&queued->stage);
    if (lists[state])
        list_append(lists[state], &queued->stage);
}

static struct queued *queued_new(struct queue *queue, int64_t msg_id,
                                 int64_t read_count)
{
    struct queued *queued = mem_alloc(sizeof(*queued));

    queued->queue = queue;
    queued->msg_id = msg_id;
    queued->read_count = read_count;
    arena_init(&queued->arena, 0);
    buf_init(&queued->item, SIZE_MAX);
    list_append(&queue->held, &queued->link);
    list_init(&queued->stage);
    list_append(&queue->arrived, &queued->stage);
    map_put(&queue->by_id, MAP_KEY(queued->msg_id), queued);
    queue->held_count++;
    return queued;
}

void queued_free(struct queued *queued)
{
    struct queue *queue = queued->queue;

    if (map_find(&queue->by_id, MAP_KEY(queued->msg_id)) == queued)
        map_remove(&queue->by_id, MAP_KEY(queued->msg_id));
    list_remove(&queued->link);
    list_remove(&queued->stage);
    queue->held_count--;
    buf_release(&queued->item);
    arena_release(&queued->arena);
    mem_free(queued);
    look_for_more(queue);
    service_check_idle(queue->service);
}

void queued_joined(struct queued *queued, struct taker *taker)
{
    queued->taker = taker;
}

void queued_left(struct queued *queued)
{
    queued->taker = NULL;
}

/* Somebody else has it, or it is gone: nobody pays for its answer. */
static void lose(struct queued *queued)
{
    struct queue *queue = queued->queue;

    if (queued->state != QUEUED_READ && queued->state != QUEUED_ASKING)
        return; /* storing finds out whose it is */
    queue->counters.lost++;
    log_event(LOG_WARN, "queue", "a message was taken by somebody else",
              LOG_FIELDS(log_integer("msg_id", queued->msg_id)));
    if (queued->taker)
        queued->taker->gone(queue->service, queued->taker);
    queued_free(queued);
}

/* What must outlive the request it was decoded with. */
static void keep_identity(struct queued *queued,
                          const struct queue_request *decoded)
{
    struct arena *arena = &queued->arena;

    queued->message = (struct queue_request){
        .request_id = arena_copy(arena, decoded->request_id),
        .agent_id = arena_copy(arena, decoded->agent_id),
        .workflow = arena_copy(arena, decoded->workflow),
        .instance_id = arena_copy(arena, decoded->instance_id),
        .job_id = arena_copy(arena, decoded->job_id),
        .notify = {arena_copy(arena, decoded->notify.name),
                   arena_copy(arena, decoded->notify.node)},
    };
}

static void refuse(struct queued *queued, const struct queue_request *decoded,
                   const struct error *err)
{
    const struct origin origin = {.queued = queued};
    const struct call call = {.kind = CALL_REJECTED,
                              .request = decoded->request};

    dispatch_refuse(queued->queue->service, &call, &origin, err);
}

/* From a message to a request; what cannot be one is answered at once. */
static void begin(struct queued *queued)
{
    struct service *service = queued->queue->service;
    struct arena_mark mark = dispatch_open(service);
    struct queue_request decoded = {.request.operation = OPERATION_COUNT};
    struct error err;
    bool ok =
        queued->json.size > 0
            ? queue_request_decode(queued->json, &service->spare, &decoded,
                                   &err)
            : error_set(&err, ERR_TOO_LARGE, "the message is over %lld bytes",
                        (long long)service->config->max_message_bytes);

    if (ok && queued->read_count > service->config->max_reads)
        ok = error_set(&err, ERR_UNREACHABLE,
                       "it was read %lld times and never answered",
                       (long long)queued->read_count);
    if (decoded.request_id.size == 0) /* it could not be parsed */
        decoded.request_id = queued->message.request_id;
    keep_identity(queued, &decoded);
    if (ok) {
        queued_move(queued, QUEUED_ASKING);
        dispatch_queued(service, queued, &decoded.request);
    } else {
        refuse(queued, &decoded, &err);
    }
    dispatch_close(service, mark);
}

/* A turn of the loop for so many bytes. */
static void begin_arrived(void *context)
{
    struct queue *queue = context;
    size_t bytes = 0;

    while (!list_is_empty(&queue->arrived)) {
        struct queued *queued =
            LIST_ENTRY(queue->arrived.next, struct queued, stage);

        if (bytes > ARRIVE_BYTES) {
            loop_timer_start(&queue->service->loop, &queue->arrive, 0,
                             begin_arrived, queue);
            return;
        }
        bytes += queued->json.size + 1;
        begin(queued);
    }
}

/* Reading. */

static void on_look(void *context)
{
    queue_look(context);
}

static void look_in(struct queue *queue, uint64_t delay_ms)
{
    loop_timer_start(&queue->service->loop, &queue->look, delay_ms, on_look,
                     queue);
}

static size_t room_of(const struct queue *queue)
{
    size_t most = (size_t)config_of(queue)->queue_in_flight;

    return most > queue->held_count ? most - queue->held_count : 0;
}

static bool may_read(const struct queue *queue)
{
    return queue->open && queue->usable && !queue->reading &&
           !queue->service->draining && pg_is_up(queue->reader);
}

/* No later than it would be anyway. */
static void look_within(struct queue *queue, uint64_t delay_ms)
{
    uint64_t due = loop_now_ms(&queue->service->loop) + delay_ms;

    if (!loop_timer_running(&queue->look) || queue->look.due_ms > due)
        look_in(queue, delay_ms);
}

/* Slots come free one by one, and a read costs the same for many. */
static void look_for_more(struct queue *queue)
{
    size_t room = room_of(queue);

    if (!queue->more || room == 0 || !may_read(queue))
        return;
    if (room >= (size_t)config_of(queue)->queue_batch || queue->held_count == 0)
        queue_look(queue);
    else
        look_within(queue, GATHER_MS);
}

/* One that went back is waited for no longer than it must be. */
static void look_when_due(struct queue *queue)
{
    uint64_t now = loop_now_ms(&queue->service->loop);

    if (queue->due_ms > now && may_read(queue))
        look_within(queue, queue->due_ms - now);
}

void queue_returned(struct queue *queue, int64_t seconds)
{
    uint64_t now = loop_now_ms(&queue->service->loop);
    uint64_t due = now + (uint64_t)seconds * 1000 + 1;

    if (queue->due_ms <= now || due < queue->due_ms)
        queue->due_ms = due;
    look_when_due(queue);
}

static void take_row(struct queue *queue, const struct pg_rows *rows,
                     size_t row)
{
    int64_t msg_id = pg_integer(rows, row, "msg_id", -1);
    int64_t read_count = pg_integer(rows, row, "read_ct", 1);
    struct slice answered = pg_text(rows, row, "answered");
    struct queued *queued = map_find(&queue->by_id, MAP_KEY(msg_id));

    /* Its lease was over: it is ours again. One that goes back is a new one
     * already before the writer hears that it went. */
    if (queued && queued->state != QUEUED_RETURNING) {
        queued->read_count = read_count;
        return;
    }
    queue->counters.read++;
    queue->lag_ms = pg_integer(rows, row, "waited_ms", -1);
    queued = queued_new(queue, msg_id, read_count);
    queued->json = arena_copy(&queued->arena, pg_text(rows, row, "message"));
    queued->message.request_id =
        arena_copy(&queued->arena, pg_text(rows, row, "request_id"));
    if (!queue_id_is_valid(queued->message.request_id))
        queued->message.request_id = slice_of(NULL);
    if (answered.size > 0)
        queued_settle_again(queued, answered, pg_text(rows, row, "answer"));
}

static void not_read(struct queue *queue, const struct pg_failure *failure)
{
    if (pg_is_lost(failure))
        return; /* the connection is new soon */
    if (quiet_is_over(queue, &queue->about_reading))
        log_event(LOG_ERROR, "queue", "the queue cannot be read",
                  LOG_FIELDS(log_text("queue", slice_of(queue->names.requests)),
                             log_text("reason", slice_of(failure->message))));
    look_in(queue, (uint64_t)config_of(queue)->poll_ms);
    queue_probe(queue);
}

static void on_read(void *context, const struct pg_rows *rows,
                    const struct pg_failure *failure)
{
    struct queue *queue = context;
    const struct config *config = config_of(queue);
    size_t count = rows ? pg_row_count(rows) : 0;

    queue->reading = false;
    if (failure) {
        not_read(queue, failure);
        service_check_idle(queue->service);
        return;
    }
    for (size_t i = 0; i < count; i++)
        take_row(queue, rows, i);
    begin_arrived(queue);
    if (count > 0)
        queue->pause_ms = (uint64_t)config->poll_ms;
    else if (queue->pause_ms * 2 <= (uint64_t)config->max_poll_ms)
        queue->pause_ms *= 2;
    if (count >= queue->asked)
        queue->more = true;
    look_in(queue, queue->pause_ms);
    look_when_due(queue);
    look_for_more(queue);
    service_check_idle(queue->service);
}

void queue_troubled(struct queue *queue)
{
    queue->troubled++;
    queue->troubled_until_ms = loop_now_ms(&queue->service->loop) +
                               (uint64_t)config_of(queue)->backoff_s * 1000;
}

/* While nothing goes well one message at a time is read, now and then: the
 * others keep their readings for better times. */
static bool is_troubled(const struct queue *queue)
{
    return queue->troubled >= TROUBLED;
}

void queue_look(struct queue *queue)
{
    const struct config *config = config_of(queue);
    size_t room = room_of(queue);
    size_t batch = is_troubled(queue) ? 1 : (size_t)config->queue_batch;
    uint64_t now = loop_now_ms(&queue->service->loop);
    const struct pgmq_reading reading = {
        .count = (uint32_t)(room < batch ? room : batch),
        .seconds = (uint32_t)config->visibility_timeout_s,
        .max_bytes = (size_t)config->max_message_bytes,
        .answers = queue->tables.answers,
    };

    if (!may_read(queue))
        return;
    if (is_troubled(queue) && now < queue->troubled_until_ms) {
        look_in(queue, queue->troubled_until_ms - now);
        return;
    }
    queue->more = room == 0; /* then a slot that comes free looks again */
    if (room == 0)
        return;
    loop_timer_stop(&queue->look);
    queue->reading = true;
    queue->asked = reading.count;
    pgmq_read(queue->reader, &queue->names, &reading, on_read, queue);
}

/* Leases. */

static void extend(void *context);

static void extend_later(struct queue *queue)
{
    uint64_t third =
        (uint64_t)config_of(queue)->visibility_timeout_s * 1000 / 3;

    loop_timer_start(&queue->service->loop, &queue->lease, third, extend,
                     queue);
}

static void on_extended(void *context, const struct pg_rows *rows,
                        const struct pg_failure *failure)
{
    struct queue *queue = context;

    queue->extending = false;
    if (failure) {
        if (!pg_is_lost(failure)) /* else when the connection is new */
            loop_timer_start(&queue->service->loop, &queue->lease,
                             EXTEND_AGAIN_MS, extend, queue);
        return;
    }
    for (size_t i = 0; i < pg_row_count(rows); i++) {
        int64_t msg_id = pg_integer(rows, i, "msg_id", -1);
        struct queued *queued = map_find(&queue->by_id, MAP_KEY(msg_id));

        /* Another number of readings: somebody read it meanwhile. */
        if (queued && pg_integer(rows, i, "read_ct", -1) == queued->read_count)
            queued->lease = 0;
    }
    LIST_EACH(link, &queue->held)
    {
        struct queued *queued = LIST_ENTRY(link, struct queued, link);

        if (queued->lease == queue->lease_round)
            lose(queued);
    }
}

/* Those that were read since the last round have time. */
static void extend(void *context)
{
    struct queue *queue = context;
    struct buf ids;

    extend_later(queue);
    if (queue->extending || !pg_is_up(queue->reader))
        return;
    buf_init(&ids, SIZE_MAX);
    queue->lease_round++;
    LIST_EACH(link, &queue->held)
    {
        struct queued *queued = LIST_ENTRY(link, struct queued, link);

        if (queued->state == QUEUED_STORING ||
            queued->state == QUEUED_RETURNING)
            continue; /* the writer has its row locked */
        queued->lease = queue->lease_round;
        buf_printf(&ids, "%c%lld", ids.size == 0 ? '[' : ',',
                   (long long)queued->msg_id);
    }
    if (ids.size > 0) {
        buf_append_byte(&ids, ']');
        queue->extending = true;
        pgmq_extend(queue->reader, &queue->names, buf_slice(&ids),
                    (uint32_t)config_of(queue)->visibility_timeout_s,
                    on_extended, queue);
    }
    buf_release(&ids);
}

/* What the database has. */

static void measure(void *context);

static void on_measured(void *context, const struct pg_rows *rows,
                        const struct pg_failure *failure)
{
    struct queue *queue = context;

    if (failure)
        return;
    queue->depth = pg_integer(rows, 0, "depth", -1);
    queue->oldest_s = pg_integer(rows, 0, "oldest_s", 0);
}

static void measure_later(struct queue *queue)
{
    loop_timer_start(&queue->service->loop, &queue->measure,
                     queue->depth > MANY ? 6 * MEASURE_MS : MEASURE_MS, measure,
                     queue);
}

static void measure(void *context)
{
    struct queue *queue = context;

    measure_later(queue);
    if (queue->usable && pg_is_up(queue->clients))
        pgmq_metrics(queue->clients, &queue->names, on_measured, queue);
}

static void log_missing(struct queue *queue, const struct pg_rows *rows)
{
    const struct {
        const char *column, *kind, *name;
    } wanted[] = {
        {"pgmq", "", "pgmq"},
        {"requests", "queue ", queue->names.requests},
        {"results", "queue ", queue->names.results},
        {"dead_letters", "queue ", queue->names.dead_letters},
    };
    struct slice faults = pg_text(rows, 0, "faults");
    struct buf text;

    buf_init(&text, SIZE_MAX);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        if (!pg_boolean(rows, 0, wanted[i].column))
            buf_printf(&text, "%s%s is missing, ", wanted[i].kind,
                       wanted[i].name);
    if (faults.size > 0)
        buf_printf(&text, "%.*s, ", SLICE_ARG(faults));
    if (text.size > 0 && quiet_is_over(queue, &queue->about_missing))
        log_event(LOG_WARN, "queue",
                  "not all is there: llm_router --migrate may help",
                  LOG_FIELDS(log_text("reason",
                                      slice_make(text.data, text.size - 2))));
    buf_release(&text);
}

static void on_probe_again(void *context)
{
    queue_probe(context);
}

static void probe_in(struct queue *queue, uint64_t delay_ms)
{
    loop_timer_start(&queue->service->loop, &queue->probe, delay_ms,
                     on_probe_again, queue);
}

/* Of what is to be written. */
static bool has_all(const struct queue *queue, const struct pg_rows *rows)
{
    const struct config *config = config_of(queue);
    const struct pgmq_tables *tables = &queue->tables;

    return pg_boolean(rows, 0, "results") &&
           pg_boolean(rows, 0, "dead_letters") &&
           tables->answers == config->store_answers &&
           tables->jobs == config->store_jobs &&
           tables->metrics == config->store_metrics;
}

static void on_probed(void *context, const struct pg_rows *rows,
                      const struct pg_failure *failure)
{
    struct queue *queue = context;
    const struct config *config = config_of(queue);

    if (failure) {
        if (!pg_is_lost(failure))
            probe_in(queue, PROBE_MS);
        return;
    }
    queue->usable =
        pg_boolean(rows, 0, "pgmq") && pg_boolean(rows, 0, "requests");
    queue->tables = (struct pgmq_tables){
        .answers = config->store_answers && pg_boolean(rows, 0, "answers"),
        .jobs = config->store_jobs && pg_boolean(rows, 0, "jobs"),
        .metrics = config->store_metrics && pg_boolean(rows, 0, "metrics"),
    };
    log_missing(queue, rows);
    queue->probed = true;
    if (!queue->usable) {
        probe_in(queue, PROBE_MS);
        return;
    }
    if (!has_all(queue, rows))
        probe_in(queue, QUIET_MS);
    queue_store(queue);
    measure(queue);
    if (!loop_timer_running(&queue->look))
        queue_look(queue);
}

void queue_probe(struct queue *queue)
{
    pgmq_probe(queue->reader, &queue->names, on_probed, queue);
}

void queue_open(struct queue *queue)
{
    queue->open = true;
    queue_look(queue);
}

void queue_changed(struct queue *queue)
{
    if (pg_is_up(queue->reader))
        queue_probe(queue);
}

/* The connections. */

static void on_reader_up(void *context)
{
    struct queue *queue = context;

    queue->reading = false;
    queue->pause_ms = (uint64_t)config_of(queue)->poll_ms;
    loop_timer_stop(&queue->look);
    extend(queue); /* before anything is read: those held here are ours */
    queue_probe(queue);
}

static void on_reader_down(void *context, const struct error *err)
{
    struct queue *queue = context;

    (void)err;
    queue->probed = queue->usable = false;
    queue->depth = queue->oldest_s = -1;
    loop_timer_stop(&queue->look);
    loop_timer_stop(&queue->probe);
}

static void on_notified(void *context, struct slice channel,
                        struct slice payload)
{
    struct queue *queue = context;

    if (slice_is(channel, queue->names.channel) && queue_id_is_valid(payload)) {
        queue_stored(queue, payload);
        return;
    }
    queue->pause_ms = (uint64_t)config_of(queue)->poll_ms;
    queue->more = true;
    queue_look(queue);
}

static void on_writer_up(void *context)
{
    queue_store(context);
}

static void on_clients_up(void *context)
{
    queue_clients_up(context);
    measure(context);
}

static void on_down(void *context, const struct error *err)
{
    (void)context;
    (void)err;
}

static struct pg_options options_of(struct queue *queue, const char *name)
{
    const struct config *config = config_of(queue);

    return (struct pg_options){
        .conninfo = config->database.data,
        .application_name = name,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .query_timeout_ms = (uint64_t)config->query_timeout_ms,
    };
}

static void connect_reader(struct queue *queue)
{
    static const struct pg_events events = {on_reader_up, on_reader_down,
                                            on_notified};
    struct pg_options options = options_of(queue, "llm_router reader");
    struct arena *arena = &queue->service->settings->config.arena;

    options.channels[options.channel_count++] =
        arena_printf(arena, "pgmq_%s", queue->names.requests).data;
    options.channels[options.channel_count++] =
        arena_printf(arena, "pgmq.q_%s.INSERT", queue->names.requests).data;
    if (queue->names.channel[0] != '\0')
        options.channels[options.channel_count++] = queue->names.channel;
    queue->reader = pg_new(&queue->service->loop, &options, &events, queue);
}

static void connect_others(struct queue *queue)
{
    static const struct pg_events writer = {on_writer_up, on_down, NULL};
    static const struct pg_events clients = {on_clients_up, on_down, NULL};
    struct pg_options options = options_of(queue, "llm_router writer");

    queue->writer = pg_new(&queue->service->loop, &options, &writer, queue);
    options.application_name = "llm_router clients";
    queue->clients = pg_new(&queue->service->loop, &options, &clients, queue);
}

static void init_lists(struct queue *queue)
{
    struct list *const lists[] = {
        &queue->held,    &queue->arrived,   &queue->answered,
        &queue->storing, &queue->returning, &queue->returning_now,
        &queue->asking,  &queue->awaited,
    };

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_init(lists[i]);
    map_init(&queue->by_id, queue->service->seed);
    map_init(&queue->awaited_by_id, queue->service->seed);
}

struct queue *queue_new(struct service *service)
{
    const struct config *config = service->config;
    struct queue *queue;

    if (config->database.size == 0)
        return NULL;
    queue = mem_alloc(sizeof(*queue));
    queue->service = service;
    /* Of the first settings, whose memory stays: see server_run. */
    queue->names = (struct pgmq_names){
        .requests = config->requests_queue.data,
        .results = config->results_queue.data,
        .dead_letters = config->dead_letter_queue.data,
        .channel = config->notify_channel.data,
    };
    queue->depth = queue->oldest_s = queue->lag_ms = -1;
    queue->pause_ms = (uint64_t)config->poll_ms;
    init_lists(queue);
    connect_reader(queue);
    connect_others(queue);
    extend_later(queue);
    measure_later(queue);
    return queue;
}

/* The end. */

static bool is_unbegun(const struct queued *queued)
{
    if (queued->state == QUEUED_READ)
        return true;
    return queued->state == QUEUED_ASKING && queued->taker &&
           (!queued->taker->job || (queued->taker->job->attempts == 0 &&
                                    queued->taker->job->state <= JOB_QUEUED));
}

void queue_drain(struct queue *queue)
{
    loop_timer_stop(&queue->look);
    LIST_EACH(link, &queue->held)
    {
        struct queued *queued = LIST_ENTRY(link, struct queued, link);

        if (!is_unbegun(queued))
            continue;
        if (queued->taker)
            queued->taker->gone(queue->service, queued->taker);
        queued_return(queued, 0);
    }
}

void queue_refuse(struct queue *queue)
{
    struct error err;

    error_set(&err, ERR_SHUTTING_DOWN, "this router is shutting down");
    queue_dismiss(queue, &err);
}

/* A statement that was sent is carried out, whether we wait for it or not. */
bool queue_is_idle(const struct queue *queue)
{
    return !queue || (queue->held_count == 0 && !queue->reading &&
                      list_is_empty(&queue->asking));
}

void queue_free(struct queue *queue)
{
    if (!queue)
        return;
    pg_free(queue->reader);
    pg_free(queue->writer);
    pg_free(queue->clients);
    loop_timer_stop(&queue->arrive);
    loop_timer_stop(&queue->look);
    loop_timer_stop(&queue->probe);
    loop_timer_stop(&queue->lease);
    loop_timer_stop(&queue->measure);
    queue->more = false;
    LIST_EACH(link, &queue->held)
    queued_free(LIST_ENTRY(link, struct queued, link));
    queue_store_release(queue);
    queue_client_release(queue);
    map_release(&queue->by_id);
    mem_free(queue);
}

/* Figures. */

const char *queue_state(const struct queue *queue)
{
    if (!queue)
        return "off";
    return queue->usable && pg_is_up(queue->writer) && pg_is_up(queue->clients)
               ? "up"
               : "down";
}

static void put_count(struct buf *out, const char *key, uint64_t value)
{
    term_put_atom(out, key);
    term_put_integer(out, (int64_t)value);
}

static void put_known(struct buf *out, const char *key, int64_t value)
{
    term_put_atom(out, key);
    if (value < 0)
        term_put_atom(out, "nil");
    else
        term_put_integer(out, value);
}

static size_t list_size(const struct list *list)
{
    size_t count = 0;

    for (const struct list *link = list->next; link != list; link = link->next)
        count++;
    return count;
}

void queue_figures(const struct queue *queue, struct queue_figures *figures)
{
    *figures = (struct queue_figures){
        .up = !strcmp(queue_state(queue), "up"),
        .depth = queue->depth,
        .oldest_s = queue->oldest_s,
        .lag_ms = queue->lag_ms,
        .in_flight = queue->held_count,
        .unstored = list_size(&queue->answered) + list_size(&queue->storing),
        .awaited = queue->waiter_count,
        .reconnects = pg_reconnects(queue->reader) +
                      pg_reconnects(queue->writer) +
                      pg_reconnects(queue->clients),
        .counters = queue->counters,
    };
}

void queue_put_stats(const struct queue *queue, struct buf *out)
{
    struct queue_figures figures;

    queue_figures(queue, &figures);
    term_put_map(out, 17);
    term_put_atom(out, "state");
    term_put_atom(out, queue_state(queue));
    put_known(out, "depth", figures.depth);
    put_known(out, "oldest_age_s", figures.oldest_s);
    put_known(out, "lag_ms", figures.lag_ms);
    put_count(out, "in_flight", figures.in_flight);
    put_count(out, "unstored", figures.unstored);
    put_count(out, "awaited", figures.awaited);
    put_count(out, "read", figures.counters.read);
    put_count(out, "done", figures.counters.done);
    put_count(out, "failed", figures.counters.failed);
    put_count(out, "dead", figures.counters.dead);
    put_count(out, "returned", figures.counters.returned);
    put_count(out, "lost", figures.counters.lost);
    put_count(out, "answered_again", figures.counters.stored_before);
    put_count(out, "enqueued", figures.counters.enqueued);
    put_count(out, "notices", figures.counters.notices);
    put_count(out, "reconnects", figures.reconnects);
}
