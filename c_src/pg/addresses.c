#include <netdb.h>

#include "llm_router/base/mem.h"
#include "pg/pg_internal.h"

enum {
    HOSTS_MAX = 16,
    ADDRESSES_MAX = 64,
    ADDRESS_SIZE = 80, /* IPv6 with the name of an interface */
    LIST_MAX = 16 * 1024,
};

/* One element of `host`, with those of `hostaddr` and `port` beside it. */
struct host {
    struct pg_lookup *lookup;
    char *name, *address, *port;
    uv_getaddrinfo_t resolve;
    bool asked;            /* being resolved */
    int status;            /* of that */
    struct addrinfo *list; /* what it gave */
};

struct pg_lookup {
    size_t pending;
    bool freed;
    void (*found)(void *context);
    void *context;
    size_t count;
    struct host hosts[HOSTS_MAX];
};

/* The element number `index` of a list with commas; the last one ends it. */
static struct slice element(const char *list, size_t index)
{
    for (; index > 0 && *list != '\0'; index--) {
        list += strcspn(list, ",");
        list += *list == ',';
    }
    return slice_make(list, strcspn(list, ","));
}

static size_t element_count(const char *list)
{
    size_t count = 1;

    for (; *list != '\0'; list++)
        count += *list == ',';
    return count;
}

static void release(struct pg_lookup *lookup)
{
    for (size_t i = 0; i < lookup->count; i++) {
        mem_free(lookup->hosts[i].name);
        mem_free(lookup->hosts[i].address);
        mem_free(lookup->hosts[i].port);
        uv_freeaddrinfo(lookup->hosts[i].list);
    }
    mem_free(lookup);
}

void pg_lookup_free(struct pg_lookup *lookup)
{
    if (!lookup)
        return;
    lookup->freed = true; /* the last on_resolved releases it */
    for (size_t i = 0; i < lookup->count; i++)
        if (lookup->hosts[i].asked)
            uv_cancel((uv_req_t *)&lookup->hosts[i].resolve);
    if (lookup->pending == 0)
        release(lookup);
}

static void on_resolved(uv_getaddrinfo_t *resolve, int status,
                        struct addrinfo *list)
{
    struct host *host = resolve->data;
    struct pg_lookup *lookup = host->lookup;

    host->asked = false;
    host->status = status;
    host->list = list;
    if (--lookup->pending > 0)
        return;
    if (lookup->freed)
        release(lookup);
    else
        lookup->found(lookup->context);
}

static void host_resolve(struct loop *loop, struct host *host)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};

    host->resolve.data = host;
    host->status = uv_getaddrinfo(&loop->uv, &host->resolve, on_resolved,
                                  host->name, NULL, &hints);
    host->asked = host->status == 0;
    host->lookup->pending += host->asked;
}

static char *copy_element(const char *list, size_t index)
{
    struct slice text = element(list, index);

    return mem_copy_text(text.data, text.size);
}

/* libpq takes what begins so for the folder of a unix socket; without a name it
 * has a folder of its own. */
static bool is_path(const char *name)
{
    return name[0] == '\0' || name[0] == '/' || name[0] == '@';
}

static void lookup_start(struct pg_lookup *lookup, struct loop *loop,
                         const PQconninfoOption *options)
{
    const char *ports = conninfo_value(options, "port");

    for (size_t i = 0; i < lookup->count; i++) {
        struct host *host = &lookup->hosts[i];

        host->lookup = lookup;
        host->name = copy_element(conninfo_value(options, "host"), i);
        host->address = copy_element(conninfo_value(options, "hostaddr"), i);
        host->port = copy_element(ports, element_count(ports) > 1 ? i : 0);
        if (host->address[0] == '\0' && !is_path(host->name))
            host_resolve(loop, host);
    }
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

struct pg_lookup *pg_lookup_new(struct loop *loop, const char *conninfo,
                                void (*found)(void *context), void *context,
                                struct error *err)
{
    PQconninfoOption *options = conninfo_effective(conninfo);
    size_t count = larger(element_count(conninfo_value(options, "host")),
                          element_count(conninfo_value(options, "hostaddr")));
    size_t ports = element_count(conninfo_value(options, "port"));
    struct pg_lookup *lookup = NULL;

    if (count > HOSTS_MAX || (ports > 1 && ports != count)) {
        error_set(err, ERR_INVALID_REQUEST,
                  "%zu hosts and %zu ports: at most %d hosts, a port for "
                  "each or one for all",
                  count, ports, HOSTS_MAX);
    } else {
        lookup = mem_alloc(sizeof(*lookup));
        lookup->found = found;
        lookup->context = context;
        lookup->count = count;
        lookup_start(lookup, loop, options);
    }
    PQconninfoFree(options);
    return lookup;
}

bool pg_lookup_is_done(const struct pg_lookup *lookup)
{
    return lookup->pending == 0;
}

/* One of the addresses a connection may try: of a name, or of a host that needs
 * no looking up (info NULL). */
struct candidate {
    const struct host *host;
    const struct addrinfo *info;
};

static size_t candidates_of(const struct pg_lookup *lookup,
                            struct candidate list[ADDRESSES_MAX])
{
    size_t count = 0;

    for (size_t i = 0; i < lookup->count; i++) {
        const struct host *host = &lookup->hosts[i];
        const struct addrinfo *info = host->list;

        if (!info && host->status == 0 && count < ADDRESSES_MAX)
            list[count++] = (struct candidate){host, NULL};
        for (; info && count < ADDRESSES_MAX; info = info->ai_next)
            list[count++] = (struct candidate){host, info};
    }
    return count;
}

static void addresses_add(struct pg_addresses *addresses,
                          const struct candidate *candidate, const char *comma)
{
    char address[ADDRESS_SIZE] = "";

    if (candidate->info)
        getnameinfo(candidate->info->ai_addr, candidate->info->ai_addrlen,
                    address, sizeof(address), NULL, 0, NI_NUMERICHOST);
    buf_printf(&addresses->hosts, "%s%s", comma, candidate->host->name);
    buf_printf(&addresses->hostaddrs, "%s%s", comma,
               candidate->info ? address : candidate->host->address);
    buf_printf(&addresses->ports, "%s%s", comma, candidate->host->port);
}

static const struct host *first_unresolved(const struct pg_lookup *lookup)
{
    const struct host *host = lookup->hosts;

    while (host->status == 0)
        host++;
    return host;
}

bool pg_lookup_addresses(const struct pg_lookup *lookup, size_t first,
                         struct pg_addresses *addresses, struct error *err)
{
    struct candidate list[ADDRESSES_MAX];
    size_t count = candidates_of(lookup, list);
    const struct host *host;

    buf_init(&addresses->hosts, LIST_MAX);
    buf_init(&addresses->hostaddrs, LIST_MAX);
    buf_init(&addresses->ports, LIST_MAX);
    if (count == 0) {
        host = first_unresolved(lookup);
        return error_set(err, ERR_UNREACHABLE, "%s: %s", host->name,
                         uv_strerror(host->status));
    }
    for (size_t i = 0; i < count; i++)
        addresses_add(addresses, &list[(first + i) % count], i > 0 ? "," : "");
    buf_append_byte(&addresses->hosts, '\0');
    buf_append_byte(&addresses->hostaddrs, '\0');
    buf_append_byte(&addresses->ports, '\0');
    if (addresses->hosts.failed || addresses->hostaddrs.failed ||
        addresses->ports.failed)
        return error_set(err, ERR_INVALID_REQUEST, "the hosts are too long");
    return true;
}

void pg_addresses_release(struct pg_addresses *addresses)
{
    buf_release(&addresses->hosts);
    buf_release(&addresses->hostaddrs);
    buf_release(&addresses->ports);
}
