/* enqueue, await and result: the queue for BEAM callers. */
#include "service/queue_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/random.h>

#include "llm_router/base/mem.h"
#include "llm_router/term/check.h"
#include "llm_router/term/reader.h"
#include "llm_router/term/writer.h"

enum {
    BACKLOG_MAX = 4000, /* statements of callers that wait: the connection
                           takes a few more */
    ASKING_MAX_BYTES = 256 * 1024 * 1024,
    LOOK_UP_MAX = 1000, /* ids of one statement */
    AWAITED_MAX = 100000,
    ANSWER_DEPTH = 1024,
    VERSION_TAG = 131,
};

/* A statement of a caller that is under way. */
struct asking {
    struct list link; /* in queue->asking */
    struct queue *queue;
    struct arena arena;
    struct reply_address reply;
    struct origin origin;
    enum operation operation;
    struct slice id;
    size_t bytes; /* of its message */
};

/* An id that somebody waits for. */
struct awaited {
    struct list link; /* in queue->awaited */
    struct slice id;  /* behind the struct, in lower case */
    struct list waiters;
    bool wanted; /* to be looked up */
};

struct waiter {
    struct list link; /* in awaited->waiters */
    struct awaited *awaited;
    struct queue *queue;
    struct arena arena;
    struct taker taker;
    struct loop_timer deadline;
};

static void answer_error(struct service *service,
                         const struct reply_address *reply,
                         const struct origin *origin, enum operation operation,
                         const struct error *err)
{
    service->stats.failed[err->code]++;
    buf_clear(&service->value);
    reply_put_error(&service->value, err, NULL);
    deliver(service, reply, origin, operation);
}

static bool is_there(const struct service *service, struct error *err)
{
    const struct queue *queue = service->queue;

    if (!queue)
        return error_set(err, ERR_UNKNOWN_REQUEST,
                         "this router has no queue (LLM_ROUTER_DATABASE_URL)");
    if (!pg_is_up(queue->clients))
        return error_set(err, ERR_UNREACHABLE,
                         "the database of the queue cannot be reached");
    if (pg_backlog(queue->clients) >= BACKLOG_MAX ||
        queue->asking_bytes > ASKING_MAX_BYTES)
        return error_set(err, ERR_OVERLOADED,
                         "too much waits for the database of the queue");
    return true;
}

static struct asking *asking_new(struct queue *queue, const struct call *call,
                                 const struct origin *origin, struct slice id)
{
    struct asking *asking = mem_alloc(sizeof(*asking));

    asking->queue = queue;
    arena_init(&asking->arena, 0);
    asking->reply = reply_address_copy(&asking->arena, &call->reply);
    asking->origin = *origin;
    asking->operation = call->request.operation;
    asking->id = arena_copy(&asking->arena, id);
    list_append(&queue->asking, &asking->link);
    return asking;
}

static void asking_free(struct asking *asking)
{
    struct service *service = asking->queue->service;

    asking->queue->asking_bytes -= asking->bytes;
    list_remove(&asking->link);
    arena_release(&asking->arena);
    mem_free(asking);
    service_check_idle(service);
}

static void fail(struct asking *asking, const struct pg_failure *failure)
{
    struct error err;

    error_set(&err, pg_is_lost(failure) ? ERR_UNREACHABLE : ERR_PROVIDER_ERROR,
              "the database of the queue: %s", failure->message);
    answer_error(asking->queue->service, &asking->reply, &asking->origin,
                 asking->operation, &err);
}

/* {enqueue, Op, Opts}. */

static void on_sent(void *context, const struct pg_rows *rows,
                    const struct pg_failure *failure)
{
    struct asking *asking = context;
    struct queue *queue = asking->queue;
    struct service *service = queue->service;

    (void)rows;
    if (failure) {
        fail(asking, failure);
    } else {
        queue->counters.enqueued++;
        buf_clear(&service->value);
        term_put_tuple(&service->value, 2);
        term_put_atom(&service->value, "ok");
        term_put_binary(&service->value, asking->id);
        deliver(service, &asking->reply, &asking->origin, OP_ENQUEUE);
    }
    asking_free(asking);
}

/* Of version 4. False: the system has no randomness to give. */
static bool make_id(char id[QUEUE_ID_SIZE + 1])
{
    unsigned char b[16];

    if (getrandom(b, sizeof(b), GRND_NONBLOCK) != sizeof(b))
        return false;
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    snprintf(id, QUEUE_ID_SIZE + 1,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
             "%02x%02x%02x%02x%02x%02x",
             b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10],
             b[11], b[12], b[13], b[14], b[15]);
    return true;
}

/* At most: the database writes a space behind each comma and colon. */
static size_t jsonb_size(struct slice json)
{
    size_t size = json.size;

    for (size_t i = 0; i < json.size; i++)
        size += json.data[i] == ',' || json.data[i] == ':';
    return size;
}

bool queue_enqueue(struct service *service, const struct call *call,
                   const struct origin *origin, struct error *err)
{
    const struct enqueued *enqueued = call->request.enqueued;
    struct queue *queue = service->queue;
    char made[QUEUE_ID_SIZE + 1];
    struct slice id = enqueued->request_id;
    struct asking *asking;
    struct buf message;

    if (!is_there(service, err))
        return false;
    if (id.size == 0) {
        if (!make_id(made))
            return error_set(err, ERR_OVERLOADED, "no randomness for an id");
        id = slice_of(made);
    }
    buf_init(&message, SIZE_MAX);
    queue_request_put(&message, enqueued, id, loop_unix_ms());
    if (jsonb_size(buf_slice(&message)) >
        (size_t)service->config->max_message_bytes) {
        error_set(err, ERR_TOO_LARGE,
                  "%zu bytes as a message, limit %lld (queue.message_bytes)",
                  jsonb_size(buf_slice(&message)),
                  (long long)service->config->max_message_bytes);
        buf_release(&message);
        return false;
    }
    asking = asking_new(queue, call, origin, id);
    asking->bytes = message.size;
    queue->asking_bytes += message.size;
    pgmq_send(queue->clients, &queue->names, buf_slice(&message),
              (uint32_t)enqueued->delay_s, on_sent, asking);
    buf_release(&message);
    return true;
}

/* Stored answers. */

static int digit_of(char c)
{
    return isdigit((unsigned char)c) ? c - '0'
           : c >= 'a' && c <= 'f'    ? c - 'a' + 10
                                     : -1;
}

static bool read_hex(struct slice text, struct buf *out)
{
    for (size_t i = 0; i + 1 < text.size; i += 2) {
        int high = digit_of(text.data[i]), low = digit_of(text.data[i + 1]);

        if (high < 0 || low < 0)
            return false;
        buf_append_byte(out, (char)(high * 16 + low));
    }
    return text.size % 2 == 0;
}

/* {ok, Value} or {error, Reason} behind a version byte. Others may have written
 * to the table: what is no sound term would cost the caller's node its
 * connection. */
static bool is_answer(struct slice bytes, size_t max_bytes)
{
    const struct term_limits limits = {max_bytes, ANSWER_DEPTH};
    struct term first;
    struct error err;

    if (bytes.size < 2 || (unsigned char)bytes.data[0] != VERSION_TAG)
        return false;
    bytes = slice_make(bytes.data + 1, bytes.size - 1);
    return term_check(bytes, &limits, &err) &&
           term_tuple_of(term_from_raw(bytes), 2, &first) &&
           (term_is_atom(first, "ok") || term_is_atom(first, "error"));
}

bool queue_read_answer(struct slice hex, struct buf *out)
{
    if (!read_hex(hex, out) || out->failed ||
        !is_answer(buf_slice(out), out->max))
        return false;
    buf_drop_front(out, 1);
    return true;
}

/* To service->value. */
static void put_stored(struct service *service, struct slice hex)
{
    struct buf *out = &service->value;
    struct error err;

    buf_clear(out);
    if (queue_read_answer(hex, out))
        return;
    buf_clear(out);
    error_set(&err, ERR_BAD_RESPONSE, "the stored answer cannot be read");
    reply_put_error(out, &err, NULL);
}

/* ["id", ...] */
static void put_id(struct buf *ids, struct slice id)
{
    buf_append_byte(ids, ids->size == 0 ? '[' : ',');
    jv_put_string(ids, id);
}

/* {result, RequestId}, and {await, RequestId, 0}. */

static void fail_in_time(struct error *err)
{
    error_set(err, ERR_TIMEOUT, "no result was stored in time");
}

static void on_result(void *context, const struct pg_rows *rows,
                      const struct pg_failure *failure)
{
    struct asking *asking = context;
    struct service *service = asking->queue->service;
    struct error err;

    if (failure) {
        fail(asking, failure);
    } else if (pg_row_count(rows) == 0 && asking->operation == OP_AWAIT) {
        fail_in_time(&err);
        answer_error(service, &asking->reply, &asking->origin, OP_AWAIT, &err);
    } else {
        if (pg_row_count(rows) > 0) {
            put_stored(service, pg_text(rows, 0, "answer"));
        } else {
            buf_clear(&service->value);
            term_put_atom(&service->value, "pending");
        }
        deliver(service, &asking->reply, &asking->origin, asking->operation);
    }
    asking_free(asking);
}

bool queue_result(struct service *service, const struct call *call,
                  const struct origin *origin, struct error *err)
{
    struct queue *queue = service->queue;
    struct buf ids;

    if (!is_there(service, err))
        return false;
    buf_init(&ids, SIZE_MAX);
    put_id(&ids, call->request.text);
    buf_append_byte(&ids, ']');
    pgmq_answers(queue->clients, buf_slice(&ids), on_result,
                 asking_new(queue, call, origin, call->request.text));
    buf_release(&ids);
    return true;
}

/* {await, RequestId, Timeout}. */

static void look_up(struct queue *queue);

static void awaited_free(struct queue *queue, struct awaited *awaited)
{
    map_remove(&queue->awaited_by_id, awaited->id);
    list_remove(&awaited->link);
    mem_free(awaited);
}

static void waiter_free(struct waiter *waiter)
{
    struct awaited *awaited = waiter->awaited;
    struct queue *queue = waiter->queue;

    loop_timer_stop(&waiter->deadline);
    taker_unwatch(queue->service, &waiter->taker);
    list_remove(&waiter->link);
    queue->waiter_count--;
    arena_release(&waiter->arena);
    mem_free(waiter);
    if (list_is_empty(&awaited->waiters))
        awaited_free(queue, awaited);
}

/* With what is in service->value. */
static void answer_waiter(struct waiter *waiter)
{
    struct service *service = waiter->queue->service;
    struct taker taker = waiter->taker;
    struct arena arena = waiter->arena;

    /* First out of the tables: sending may close a connection. */
    arena_init(&waiter->arena, 0);
    waiter_free(waiter);
    deliver(service, &taker.reply, &taker.origin, OP_AWAIT);
    arena_release(&arena);
}

static void on_gone(struct service *service, struct taker *taker)
{
    (void)service;
    waiter_free(LIST_ENTRY(taker, struct waiter, taker));
}

static void dismiss(struct waiter *waiter, const struct error *err)
{
    struct service *service = waiter->queue->service;

    service->stats.failed[err->code]++;
    buf_clear(&service->value);
    reply_put_error(&service->value, err, NULL);
    answer_waiter(waiter);
}

static void on_deadline(void *context)
{
    struct error err;

    fail_in_time(&err);
    dismiss(context, &err);
}

static void on_found(void *context, const struct pg_rows *rows,
                     const struct pg_failure *failure)
{
    struct queue *queue = context;

    queue->looking_up = false;
    for (size_t i = 0; !failure && i < pg_row_count(rows); i++) {
        struct slice id = pg_text(rows, i, "request_id");
        struct awaited *awaited;

        put_stored(queue->service, pg_text(rows, i, "answer"));
        /* An answer may close a connection, and so take others with it. */
        while ((awaited = map_find(&queue->awaited_by_id, id)) != NULL)
            answer_waiter(
                LIST_ENTRY(awaited->waiters.next, struct waiter, link));
    }
    if (!failure)
        look_up(queue);
}

/* Those whose result may be there, so many at a time. */
static void look_up(struct queue *queue)
{
    size_t count = 0;
    struct buf ids;

    if (queue->looking_up || !pg_is_up(queue->clients))
        return;
    buf_init(&ids, SIZE_MAX);
    LIST_EACH(link, &queue->awaited)
    {
        struct awaited *awaited = LIST_ENTRY(link, struct awaited, link);

        if (!awaited->wanted || count == LOOK_UP_MAX)
            continue;
        awaited->wanted = false;
        put_id(&ids, awaited->id);
        count++;
    }
    if (count > 0) {
        buf_append_byte(&ids, ']');
        queue->looking_up = true;
        pgmq_answers(queue->clients, buf_slice(&ids), on_found, queue);
    }
    buf_release(&ids);
}

static void want_all(struct queue *queue)
{
    LIST_EACH(link, &queue->awaited)
    LIST_ENTRY(link, struct awaited, link)->wanted = true;
    look_up(queue);
}

/* A notification may be lost with a connection. */
static void on_recheck(void *context)
{
    struct queue *queue = context;

    if (list_is_empty(&queue->awaited))
        return;
    want_all(queue);
    loop_timer_start(&queue->service->loop, &queue->recheck,
                     (uint64_t)queue->service->config->max_poll_ms, on_recheck,
                     queue);
}

void queue_clients_up(struct queue *queue)
{
    queue->looking_up = false;
    want_all(queue);
}

static void look_up_now(void *context)
{
    look_up(context);
}

void queue_stored(struct queue *queue, struct slice request_id)
{
    char id[QUEUE_ID_SIZE];
    struct awaited *awaited;

    if (queue->awaited_by_id.count == 0 || request_id.size != sizeof(id))
        return;
    for (size_t i = 0; i < sizeof(id); i++)
        id[i] = (char)tolower((unsigned char)request_id.data[i]);
    awaited = map_find(&queue->awaited_by_id, slice_make(id, sizeof(id)));
    if (!awaited)
        return;
    awaited->wanted = true;
    loop_defer(&queue->service->loop, &queue->look_up, look_up_now, queue);
}

static struct awaited *find_awaited(struct queue *queue, struct slice id)
{
    struct awaited *awaited = map_find(&queue->awaited_by_id, id);

    if (awaited)
        return awaited;
    awaited = mem_alloc(sizeof(*awaited) + id.size);
    memcpy(awaited + 1, id.data, id.size);
    awaited->id = slice_make(awaited + 1, id.size);
    list_init(&awaited->waiters);
    list_append(&queue->awaited, &awaited->link);
    map_put(&queue->awaited_by_id, awaited->id, awaited);
    return awaited;
}

bool queue_await(struct service *service, const struct call *call,
                 const struct origin *origin, struct error *err)
{
    struct queue *queue = service->queue;
    struct waiter *waiter;

    if (!queue)
        return is_there(service, err);
    if (call->request.wait_ms == 0)
        return queue_result(service, call, origin, err);
    if (queue->waiter_count >= AWAITED_MAX)
        return error_set(err, ERR_OVERLOADED, "%d callers wait for results",
                         AWAITED_MAX);
    waiter = mem_alloc(sizeof(*waiter));
    waiter->queue = queue;
    arena_init(&waiter->arena, 0);
    waiter->taker = (struct taker){
        .reply = reply_address_copy(&waiter->arena, &call->reply),
        .origin = *origin,
        .gone = on_gone,
    };
    waiter->awaited = find_awaited(queue, call->request.text);
    waiter->awaited->wanted = true;
    list_append(&waiter->awaited->waiters, &waiter->link);
    queue->waiter_count++;
    loop_timer_start(&service->loop, &waiter->deadline,
                     (uint64_t)call->request.wait_ms, on_deadline, waiter);
    taker_watch(service, &waiter->taker, &waiter->arena);
    if (!loop_timer_running(&queue->recheck))
        loop_timer_start(&service->loop, &queue->recheck,
                         (uint64_t)service->config->max_poll_ms, on_recheck,
                         queue);
    loop_defer(&service->loop, &queue->look_up, look_up_now, queue);
    return true;
}

/* The end. */

static void each_waiter(struct queue *queue,
                        void (*visit)(struct waiter *waiter,
                                      const struct error *err),
                        const struct error *err)
{
    while (!list_is_empty(&queue->awaited)) {
        struct awaited *awaited =
            LIST_ENTRY(queue->awaited.next, struct awaited, link);

        visit(LIST_ENTRY(awaited->waiters.next, struct waiter, link), err);
    }
}

void queue_dismiss(struct queue *queue, const struct error *err)
{
    each_waiter(queue, dismiss, err);
}

static void forget(struct waiter *waiter, const struct error *err)
{
    (void)err;
    waiter_free(waiter);
}

void queue_client_release(struct queue *queue)
{
    each_waiter(queue, forget, NULL);
    loop_timer_stop(&queue->recheck);
    loop_task_cancel(&queue->look_up);
    LIST_EACH(link, &queue->asking)
    asking_free(LIST_ENTRY(link, struct asking, link));
    map_release(&queue->awaited_by_id);
}
