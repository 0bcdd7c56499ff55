#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/core/allow.h"
#include "service/service_internal.h"

enum { LOG_PAUSE_MS = 60000 }; /* between lines about one node and class */

/* The key of the list that a class is configured by. */
static const char *const keys[CLASS_COUNT] = {
    [CLASS_OPEN] = "",
    [CLASS_CALL] = "allow.call",
    [CLASS_ADMIN] = "allow.admin",
};

struct caller {
    uint64_t connection;
    struct slice node; /* behind the struct */
    size_t calling;    /* calls of it that hold a slot */
    struct right {
        bool given;
        uint64_t refused; /* calls since the last line in the log */
        uint64_t quiet_until_ms;
    } rights[CLASS_COUNT];
};

static bool is_listed(const struct config_list *list, struct slice node)
{
    return allow_matches(list->items, list->count, node);
}

static void decide(void *value, void *context)
{
    const struct service *service = context;
    const struct config *config = service->config;
    struct caller *caller = value;

    caller->rights[CLASS_CALL].given =
        is_listed(&config->may_call, caller->node);
    caller->rights[CLASS_ADMIN].given =
        is_listed(&config->may_admin, caller->node);
}

void access_peer_up(struct service *service, uint64_t connection,
                    struct slice peer)
{
    struct caller *caller = mem_alloc(sizeof(*caller) + peer.size);

    caller->connection = connection;
    memcpy(caller + 1, peer.data, peer.size);
    caller->node = slice_make(caller + 1, peer.size);
    caller->rights[CLASS_OPEN].given = true;
    decide(caller, service);
    map_put(&service->callers, MAP_KEY(caller->connection), caller);
}

void access_changed(struct service *service)
{
    map_each(&service->callers, decide, service);
}

void access_peer_down(struct service *service, uint64_t connection)
{
    mem_free(map_remove(&service->callers, MAP_KEY(connection)));
}

/* A flood of refused calls must not become a flood of lines. */
static void log_refused(const struct service *service,
                        const struct caller *caller, struct right *right,
                        const char *key)
{
    uint64_t now = loop_now_ms(&service->loop);

    right->refused++;
    if (now < right->quiet_until_ms)
        return;
    log_event(LOG_WARN, "access", "a node may not call",
              LOG_FIELDS(log_text("peer", caller->node),
                         log_text("list", slice_of(key)),
                         log_count("refused", right->refused)));
    right->refused = 0;
    right->quiet_until_ms = now + LOG_PAUSE_MS;
}

bool access_check(struct service *service, uint64_t connection,
                  enum operation_class class, struct error *err)
{
    struct caller *caller = map_find(&service->callers, MAP_KEY(connection));
    struct right *right;

    if (!caller)
        return error_set(err, ERR_FORBIDDEN, "the calling node is gone");
    right = &caller->rights[class];
    if (right->given)
        return true;
    log_refused(service, caller, right, keys[class]);
    return error_set(err, ERR_FORBIDDEN, "node %.*s may not call (%s)",
                     SLICE_ARG(caller->node), keys[class]);
}

struct slice access_node(const struct service *service, uint64_t connection)
{
    const struct caller *caller =
        map_find(&service->callers, MAP_KEY(connection));

    return caller ? caller->node : slice_of(NULL);
}

bool access_take_slot(struct service *service, uint64_t connection)
{
    struct caller *caller = map_find(&service->callers, MAP_KEY(connection));
    size_t most = (size_t)service->config->max_in_flight_per_node;

    if (!caller)
        return true;
    if (most > 0 && caller->calling >= most)
        return false;
    caller->calling++;
    return true;
}

void access_give_slot(struct service *service, uint64_t connection)
{
    struct caller *caller = map_find(&service->callers, MAP_KEY(connection));

    if (caller && caller->calling > 0)
        caller->calling--;
}

static void free_caller(void *value, void *context)
{
    (void)context;
    mem_free(value);
}

void access_release(struct service *service)
{
    map_each(&service->callers, free_caller, NULL);
    map_release(&service->callers);
}
