#include "http_internal.h"

#include <arpa/inet.h>

#include "llm_router/base/mem.h"

/* When nothing is known about a host, one transfer leads and the others wait
 * until it has connected. Otherwise a burst of 300 calls starts 300 resolver
 * threads in curl (it has no "somebody is already asking"), and as many TLS
 * connections to a server that would have taken them all on one.
 *
 * The names curl resolved never expire for the transfers that follow; once a
 * minute the next transfer leads again and asks anew if it needs a new
 * connection. */

enum { FRESH_MS = 60 * 1000 };

struct origin {
    struct http *http;
    struct transfer *leader; /* on its way, or NULL */
    struct list queue;
    uint64_t fresh_until_ms; /* 0: nothing known */
    bool secure;
    bool numeric; /* an address: nothing to resolve */
};

static size_t authority_start(const char *url)
{
    const char *mark = strstr(url, "://");

    return mark ? (size_t)(mark - url) + 3 : 0;
}

struct slice url_host_port(const char *url)
{
    const char *start = url + authority_start(url);
    size_t size = strcspn(start, "/?#");

    for (size_t i = size; i > 0; i--)
        if (start[i - 1] == '@')
            return slice_make(start + i, size - i);
    return slice_make(start, size);
}

static bool is_numeric(struct slice host_port)
{
    char host[INET_ADDRSTRLEN];
    struct in_addr address;
    size_t size = 0;

    if (host_port.size > 0 && host_port.data[0] == '[')
        return true;
    while (size < host_port.size && host_port.data[size] != ':')
        size++;
    if (size >= sizeof(host))
        return false;
    memcpy(host, host_port.data, size);
    host[size] = '\0';
    return inet_pton(AF_INET, host, &address) == 1;
}

struct origin *origin_of(struct http *http, const char *url)
{
    struct slice host_port = url_host_port(url);
    struct slice key =
        slice_make(url, (size_t)(host_port.data + host_port.size - url));
    struct origin *origin = map_find(&http->origins, key);

    if (origin)
        return origin;
    /* Base addresses come from the configuration; a full table only means
     * that the rest is not held back. */
    if (http->origins.count >= ORIGINS_MAX)
        return NULL;
    origin = mem_alloc(sizeof(*origin));
    origin->http = http;
    list_init(&origin->queue);
    origin->secure = slice_is_nocase(slice_make(url, 8), "https://");
    origin->numeric = is_numeric(host_port);
    map_put(&http->origins, key, origin);
    return origin;
}

bool origin_admit(struct transfer *transfer)
{
    struct origin *origin = transfer->origin;

    if (!origin || (origin->numeric && !origin->secure))
        return true;
    if (origin->leader) {
        list_append(&origin->queue, &transfer->link);
        return false;
    }
    if (loop_now_ms(origin->http->loop) >= origin->fresh_until_ms)
        origin->leader = transfer;
    return true;
}

bool origin_is_led_by(const struct transfer *transfer)
{
    return transfer->origin && transfer->origin->leader == transfer;
}

static void release_queue(struct origin *origin)
{
    origin->leader = NULL;
    LIST_EACH(link, &origin->queue)
    {
        list_remove(link);
        list_append(&origin->http->ready, link);
    }
    http_wake(origin->http);
}

void origin_reached(struct transfer *transfer)
{
    struct origin *origin = transfer->origin;

    origin->fresh_until_ms = loop_now_ms(origin->http->loop) + FRESH_MS;
    release_queue(origin);
}

void origin_left(struct transfer *transfer, const struct http_outcome *outcome)
{
    struct origin *origin = transfer->origin;
    struct list failed;

    if (!outcome || outcome->end != HTTP_NO_ANSWER) {
        release_queue(origin); /* the next one leads */
        return;
    }
    /* They waited for this very attempt, so its failure is theirs too. A
     * callback may cancel any of them: take the first until none is left. */
    origin->leader = NULL;
    list_init(&failed);
    LIST_EACH(link, &origin->queue)
    {
        list_remove(link);
        list_append(&failed, link);
    }
    while (!list_is_empty(&failed))
        transfer_end(LIST_ENTRY(failed.next, struct transfer, link), outcome);
}

static void free_origin(void *origin, void *context)
{
    (void)context;
    mem_free(origin);
}

void origins_release(struct http *http)
{
    map_each(&http->origins, free_origin, NULL);
    map_release(&http->origins);
}
