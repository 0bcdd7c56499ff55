#include "service/service_internal.h"

/* Keys in service->takers begin with what kind of signal they wait for. */
enum { KEY_REFERENCE = 'r', KEY_MONITOR = 'm', KEY_RPC = 'c', KEY_MAX = 1200 };

struct waiting_key {
    char bytes[KEY_MAX];
    size_t size;
};

static struct slice make_key(struct waiting_key *key, char kind, uint64_t id,
                             struct slice reference)
{
    if (reference.size > sizeof(key->bytes) - sizeof(id) - 1)
        reference.size = sizeof(key->bytes) - sizeof(id) - 1;
    key->bytes[0] = kind;
    memcpy(key->bytes + 1, &id, sizeof(id));
    if (reference.size > 0)
        memcpy(key->bytes + 1 + sizeof(id), reference.data, reference.size);
    return slice_make(key->bytes, 1 + sizeof(id) + reference.size);
}

/* A caller that monitors us says itself when it stops waiting; any other
 * process is watched, and one that used a reference twice. */
static struct slice watch(struct service *service, struct taker *taker,
                          struct waiting_key *key)
{
    const struct reply_address *reply = &taker->reply;
    uint64_t connection = taker->origin.connection;

    if (taker->origin.rpc_call != 0)
        return make_key(key, KEY_RPC, taker->origin.rpc_call, slice_of(NULL));
    if (reply->reference.size > 0 &&
        node_is_monitored(service->node, connection, reply->reference)) {
        struct slice own =
            make_key(key, KEY_REFERENCE, connection, reply->reference);

        if (!map_find(&service->takers, own))
            return own;
    }
    taker->monitor = node_monitor(service->node, reply->pid);
    return make_key(key, KEY_MONITOR, taker->monitor, slice_of(NULL));
}

void taker_watch(struct service *service, struct taker *taker,
                 struct arena *arena)
{
    struct waiting_key key;

    if (taker->origin.queued) {
        queued_joined(taker->origin.queued, taker);
        return;
    }
    taker->key = arena_copy(arena, watch(service, taker, &key));
    map_put(&service->takers, taker->key, taker);
}

struct taker *taker_join(struct service *service, struct job *job,
                         const struct reply_address *reply,
                         const struct origin *origin)
{
    struct taker *taker = arena_alloc(&job->arena, sizeof(*taker));

    *taker = (struct taker){
        .job = job, .reply = *reply, .origin = *origin, .gone = taker_leave};
    taker->origin.begun = NULL;
    list_append(&job->takers, &taker->link);
    taker_watch(service, taker, &job->arena);
    return taker;
}

void taker_unwatch(struct service *service, struct taker *taker)
{
    if (taker->origin.queued) {
        queued_left(taker->origin.queued);
        return;
    }
    map_remove(&service->takers, taker->key);
    if (taker->monitor != 0)
        node_demonitor(service->node, taker->monitor);
}

void taker_leave(struct service *service, struct taker *taker)
{
    struct job *job = taker->job;
    struct error err;

    error_set(&err, ERR_CANCELLED, "nobody waits any more");
    record_left(job, taker, &err);
    taker_unwatch(service, taker);
    list_remove(&taker->link);
    if (list_is_empty(&job->takers))
        job_cancel(job);
}

static void gone(struct service *service, char kind, uint64_t id,
                 struct slice reference)
{
    struct waiting_key key;
    struct taker *taker =
        map_find(&service->takers, make_key(&key, kind, id, reference));

    if (taker)
        taker->gone(service, taker);
}

void taker_demonitored(struct service *service, uint64_t connection,
                       struct slice reference)
{
    gone(service, KEY_REFERENCE, connection, reference);
}

void taker_process_down(struct service *service, uint64_t monitor)
{
    gone(service, KEY_MONITOR, monitor, slice_of(NULL));
}

void taker_rpc_abandoned(struct service *service, uint64_t call)
{
    gone(service, KEY_RPC, call, slice_of(NULL));
}

struct reply_address reply_address_copy(struct arena *arena,
                                        const struct reply_address *reply)
{
    return (struct reply_address){
        .form = reply->form,
        .pid = arena_copy(arena, reply->pid),
        .tag = arena_copy(arena, reply->tag),
        .alias = arena_copy(arena, reply->alias),
        .reference = arena_copy(arena, reply->reference),
    };
}

static bool send_answer(struct service *service,
                        const struct reply_address *reply,
                        const struct origin *origin, enum operation operation,
                        struct slice value)
{
    struct slice head;

    if (origin->rpc_call != 0)
        return node_rpc_return(service->node, origin->rpc_call, value);
    buf_clear(&service->head);
    reply_put_head(&service->head, reply, operation);
    head = buf_slice(&service->head);
    return reply->alias.size > 0
               ? node_send_alias(service->node, reply->alias, head, value)
               : node_send(service->node, reply->pid, head, value);
}

void deliver(struct service *service, const struct reply_address *reply,
             const struct origin *origin, enum operation operation)
{
    struct slice value = buf_slice(&service->value);
    struct buf refusal;
    struct error err;

    if ((origin->rpc_call == 0 && reply->form == REPLY_NONE) ||
        send_answer(service, reply, origin, operation, value))
        return;
    /* The node is gone, or there is no room for so much. */
    error_set(&err, ERR_OVERLOADED,
              "no room for an answer of %zu bytes in the queue to its node",
              value.size);
    buf_init(&refusal, SIZE_MAX);
    reply_put_error(&refusal, &err, NULL);
    if (value.size < refusal.size ||
        !send_answer(service, reply, origin, operation, buf_slice(&refusal)))
        service->stats.undeliverable++;
    buf_release(&refusal);
}

void deliver_outcome(struct service *service, const struct reply_address *reply,
                     const struct origin *origin, const struct outcome *outcome)
{
    if (origin->queued)
        queued_answered(origin->queued, outcome);
    else
        deliver(service, reply, origin, outcome->request->operation);
}
