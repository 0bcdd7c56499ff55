#include "llm_router/base/mem.h"
#include "llm_router/term/writer.h"
#include "service/service_internal.h"

enum {
    NAME_TELEMETRY = 'e',
    NAME_TASKS = 'a',
    NAME_TASK = 't',
    WATCH_BLOCK = 256, /* bytes of the first block of a watch's arena */
    /* What waits for a node that reads slowly; what is told is no answer, and
     * rather dropped than kept. */
    BACKLOG_MAX = 8 * 1024 * 1024,
    TELL_PER_TURN = 3000,
    BATCH_MAX = 64,
    NOTICES_MAX = 100000,
    TOPIC_NAME_MAX = 1 + 4 * 256, /* an atom may have 255 characters */
};

/* What is watched: a task, all tasks, or telemetry. */
struct topic {
    struct slice name; /* its key in service->topics */
    struct list watches;
    struct list link;    /* in service->told, while there are notices */
    struct list pending; /* struct notice, oldest first */
    struct list batch;   /* those that are being sent */
    struct list place;   /* among the watches: behind those that have them */
};

/* A process that watches it. */
struct watch {
    struct list link; /* in topic->watches */
    struct topic *topic;
    struct taker taker;
    struct arena arena; /* pid and keys */
    struct slice key;   /* in service->watches */
    bool own_node_only;
    bool is_gone;
    struct list gone; /* in service->gone: freed when all notices are sent */
};

/* A message to all who watch a topic. */
struct notice {
    struct list link;
    uint64_t connection; /* of whose request it tells */
    struct slice message;
};

static void put_name(struct buf *out, char kind, struct slice task_id)
{
    buf_append_byte(out, kind);
    buf_append_slice(out, task_id);
}

static struct topic *topic_find(const struct service *service,
                                struct slice name)
{
    return map_find(&service->topics, name);
}

static struct topic *topic_find_or_add(struct service *service,
                                       struct slice name)
{
    struct topic *topic = topic_find(service, name);

    if (topic)
        return topic;
    topic = mem_alloc(sizeof(*topic));
    topic->name = slice_make(mem_copy_text(name.data, name.size), name.size);
    list_init(&topic->watches);
    list_init(&topic->link);
    list_init(&topic->pending);
    list_init(&topic->batch);
    list_init(&topic->place);
    map_put(&service->topics, topic->name, topic);
    return topic;
}

static void topic_drop(struct service *service, struct topic *topic)
{
    if (!list_is_empty(&topic->watches) || !list_is_empty(&topic->link))
        return;
    map_remove(&service->topics, topic->name);
    mem_free((char *)topic->name.data);
    mem_free(topic);
}

/* --- who watches --- */

static void watch_free(struct service *service, struct watch *watch)
{
    list_remove(&watch->link);
    topic_drop(service, watch->topic);
    arena_release(&watch->arena);
    mem_free(watch);
}

static void watch_end(struct service *service, struct watch *watch)
{
    taker_unwatch(service, &watch->taker);
    map_remove(&service->watches, watch->key);
    if (!service->notifying) {
        watch_free(service, watch);
        return;
    }
    watch->is_gone = true;
    list_append(&service->gone, &watch->gone);
}

static void on_gone(struct service *service, struct taker *taker)
{
    watch_end(service, LIST_ENTRY(taker, struct watch, taker));
}

/* Name and process: `service->head` holds it. */
static struct slice watch_key(struct service *service, struct slice name,
                              struct slice pid)
{
    buf_clear(&service->head);
    buf_append_slice(&service->head, name);
    buf_append_slice(&service->head, pid);
    return buf_slice(&service->head);
}

static void watch_add(struct service *service, const struct request *request,
                      struct slice name, struct slice key)
{
    struct watch *watch = mem_alloc(sizeof(*watch));

    arena_init(&watch->arena, WATCH_BLOCK);
    watch->topic = topic_find_or_add(service, name);
    watch->own_node_only = request->options.own_node_only;
    watch->key = arena_copy(&watch->arena, key);
    watch->taker = (struct taker){
        .reply = {.form = REPLY_NONE,
                  .pid = arena_copy(&watch->arena, request->options.to)},
        .gone = on_gone,
    };
    list_append(&watch->topic->watches, &watch->link);
    map_put(&service->watches, watch->key, watch);
    taker_watch(service, &watch->taker, &watch->arena);
}

static struct slice topic_name(struct service *service,
                               const struct request *request)
{
    enum operation operation = request->operation;

    buf_clear(&service->value);
    if (operation == OP_WATCH_TASK || operation == OP_UNWATCH_TASK)
        put_name(&service->value, NAME_TASK, request->options.task_id);
    else if (request->topic == TOPIC_TASKS)
        put_name(&service->value, NAME_TASKS, slice_of(NULL));
    else
        put_name(&service->value, NAME_TELEMETRY, slice_of(NULL));
    return buf_slice(&service->value);
}

static bool check_room(const struct service *service, struct error *err)
{
    size_t most = (size_t)service->config->max_watchers;

    return service->watches.count < most ||
           error_set(err, ERR_OVERLOADED, "%zu processes watch already", most);
}

/* What the callers of other nodes do is not everybody's business. */
static bool check_access(struct service *service, const struct request *request,
                         const struct origin *origin, struct error *err)
{
    if (request->operation != OP_SUBSCRIBE || request->options.own_node_only)
        return true;
    return access_check(service, origin->connection, CLASS_ADMIN, err);
}

static bool begin(struct service *service, const struct request *request,
                  struct error *err)
{
    struct slice name = topic_name(service, request);
    struct slice key = watch_key(service, name, request->options.to);
    struct watch *watch = map_find(&service->watches, key);

    if (watch) {
        watch->own_node_only = request->options.own_node_only;
        return true;
    }
    if (!check_room(service, err))
        return false;
    watch_add(service, request, name, key);
    return true;
}

static void end(struct service *service, const struct request *request)
{
    struct slice name = topic_name(service, request);
    struct watch *watch = map_find(
        &service->watches, watch_key(service, name, request->options.to));

    if (watch)
        watch_end(service, watch);
}

bool watchers_change(struct service *service, const struct call *call,
                     const struct origin *origin, struct error *err)
{
    const struct request *request = &call->request;
    bool begins = request->operation == OP_WATCH_TASK ||
                  request->operation == OP_SUBSCRIBE;

    if (begins && (!check_access(service, request, origin, err) ||
                   !begin(service, request, err)))
        return false;
    if (!begins)
        end(service, request);
    buf_clear(&service->value);
    term_put_atom(&service->value, "ok");
    deliver(service, &call->reply, origin, request->operation);
    return true;
}

/* --- what they are told --- */

static bool has_watchers(const struct service *service, char kind,
                         struct slice task_id)
{
    char bytes[TOPIC_NAME_MAX] = {kind};

    if (task_id.size > sizeof(bytes) - 1)
        return false;
    if (task_id.size > 0)
        memcpy(bytes + 1, task_id.data, task_id.size);
    return topic_find(service, slice_make(bytes, 1 + task_id.size)) != NULL;
}

bool watchers_want_task(const struct service *service, struct slice task_id)
{
    return service->topics.count > 0 && task_id.size > 0 &&
           (has_watchers(service, NAME_TASK, task_id) ||
            has_watchers(service, NAME_TASKS, slice_of(NULL)));
}

bool watchers_want_telemetry(const struct service *service)
{
    return service->topics.count > 0 &&
           has_watchers(service, NAME_TELEMETRY, slice_of(NULL));
}

/* To none but those it is for, and to no node that reads too slowly. */
static void send_to(struct service *service, const struct watch *watch,
                    const struct notice *notice)
{
    uint64_t own = node_connection_of(service->node, watch->taker.reply.pid);

    if (watch->own_node_only && own != notice->connection)
        return;
    if ((own != 0 && node_backlog(service->node, own) > BACKLOG_MAX) ||
        !node_send(service->node, watch->taker.reply.pid, notice->message,
                   slice_of(NULL)))
        service->stats.notices_dropped++;
    else
        service->stats.notices++;
}

/* All of the batch to one after the other, who then wakes once. So many
 * messages, or a few more; what is left of the number. */
static size_t send_batch(struct service *service, struct topic *topic,
                         size_t most)
{
    while (most > 0 && topic->place.next != &topic->watches) {
        struct watch *watch = LIST_ENTRY(topic->place.next, struct watch, link);

        list_remove(&topic->place);
        list_append(watch->link.next, &topic->place);
        LIST_EACH(link, &topic->batch)
        {
            if (!watch->is_gone)
                send_to(service, watch, LIST_ENTRY(link, struct notice, link));
            most -= most > 0;
        }
    }
    return most;
}

static void drop_notices(struct service *service, struct list *notices)
{
    LIST_EACH(link, notices)
    {
        service->notice_count--;
        mem_free(LIST_ENTRY(link, struct notice, link));
    }
    list_init(notices);
}

static void begin_batch(struct topic *topic)
{
    if (!list_is_empty(&topic->batch))
        return;
    for (int i = 0; i < BATCH_MAX && !list_is_empty(&topic->pending); i++) {
        struct list *link = topic->pending.next;

        list_remove(link);
        list_append(&topic->batch, link);
    }
    list_append(topic->watches.next, &topic->place);
}

/* What came meanwhile is the next batch, behind those of others. */
static void end_batch(struct service *service, struct topic *topic)
{
    drop_notices(service, &topic->batch);
    list_remove(&topic->place);
    list_remove(&topic->link);
    if (!list_is_empty(&topic->pending))
        list_append(&service->told, &topic->link);
    topic_drop(service, topic);
}

static void free_gone(struct service *service)
{
    LIST_EACH(link, &service->gone)
    watch_free(service, LIST_ENTRY(link, struct watch, gone));
    list_init(&service->gone);
}

/* So many that the loop is not held up; the others in the next turn. Sending
 * may add further notices: jobs of a node end with it. */
static void send_notices(void *context)
{
    struct service *service = context;
    size_t most = TELL_PER_TURN;

    service->notifying = true;
    while (most > 0 && !list_is_empty(&service->told)) {
        struct topic *topic =
            LIST_ENTRY(service->told.next, struct topic, link);

        begin_batch(topic);
        most = send_batch(service, topic, most);
        if (most > 0)
            end_batch(service, topic);
    }
    service->notifying = false;
    free_gone(service);
    if (!list_is_empty(&service->told))
        loop_timer_start(&service->loop, &service->notify_more, 0, send_notices,
                         service);
}

static void add_notice(struct service *service, struct topic *topic,
                       uint64_t connection)
{
    struct slice message = buf_slice(&service->value);
    struct notice *notice = mem_alloc(sizeof(*notice) + message.size);

    service->notice_count++;
    memcpy(notice + 1, message.data, message.size);
    notice->connection = connection;
    notice->message = slice_make((char *)(notice + 1), message.size);
    list_append(&topic->pending, &notice->link);
    if (list_is_empty(&topic->link))
        list_append(&service->told, &topic->link);
    if (!loop_timer_running(&service->notify_more))
        loop_defer(&service->loop, &service->notify, send_notices, service);
}

static void tell(struct service *service, char kind, struct slice task_id,
                 uint64_t connection)
{
    struct topic *topic;

    buf_clear(&service->head);
    put_name(&service->head, kind, task_id);
    topic = topic_find(service, buf_slice(&service->head));
    if (!topic)
        return;
    if (service->notice_count >= NOTICES_MAX)
        service->stats.notices_dropped++;
    else
        add_notice(service, topic, connection);
}

void watchers_tell_task(struct service *service, struct slice task_id,
                        uint64_t connection)
{
    tell(service, NAME_TASK, task_id, connection);
    tell(service, NAME_TASKS, slice_of(NULL), connection);
}

void watchers_tell_telemetry(struct service *service, uint64_t connection)
{
    tell(service, NAME_TELEMETRY, slice_of(NULL), connection);
}

static void release_watch(void *value, void *context)
{
    struct service *service = context;
    struct watch *watch = value;

    map_remove(&service->watches, watch->key);
    watch_free(service, watch);
}

void watchers_release(struct service *service)
{
    loop_task_cancel(&service->notify);
    loop_timer_stop(&service->notify_more);
    LIST_EACH(link, &service->told)
    {
        struct topic *topic = LIST_ENTRY(link, struct topic, link);

        drop_notices(service, &topic->pending);
        end_batch(service, topic);
    }
    map_each(&service->watches, release_watch, service);
    map_release(&service->watches);
    map_release(&service->topics);
}
