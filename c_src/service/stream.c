#include "service/service_internal.h"

enum { REFERENCE_ID_MAX = 4 + 3 * 4 }; /* bytes that are looked at */

struct stream {
    struct list link;       /* in service->paused; else alone */
    struct slice reference; /* raw */
    struct slice id;        /* of it, its key in service->by_reference */
    struct slice receiver;  /* raw pid */
    size_t sent;            /* bytes of the answer's text */
    uint64_t connection;    /* to the receiver's node, while paused */
};

/* The creation and numbers of a reference: nodes write its node's name in more
 * than one way. */
static struct slice reference_id(struct slice reference)
{
    size_t size =
        reference.size < REFERENCE_ID_MAX ? reference.size : REFERENCE_ID_MAX;

    return slice_make(reference.data + reference.size - size, size);
}

void stream_open(struct job *job)
{
    struct service *service = job->service;
    struct stream *stream = arena_alloc(&job->arena, sizeof(*stream));

    buf_clear(&service->head);
    node_put_reference(service->node, &service->head);
    list_init(&stream->link);
    stream->reference = arena_copy(&job->arena, buf_slice(&service->head));
    stream->id = reference_id(stream->reference);
    stream->receiver = job->request.options.to;
    job->stream = stream;
    map_put(&service->by_reference, stream->id, job);
}

struct slice stream_reference(const struct job *job)
{
    return job->stream->reference;
}

struct job *stream_find(struct service *service, struct slice reference)
{
    return map_find(&service->by_reference, reference_id(reference));
}

bool stream_began(const struct job *job)
{
    return job->stream && job->stream->sent > 0;
}

void stream_deliver(struct job *job)
{
    struct service *service = job->service;

    if (!node_send(service->node, job->stream->receiver,
                   buf_slice(&service->value), slice_of(NULL)))
        service->stats.undeliverable++;
}

/* No more than the limit, and this part, waits for the receiver's node. */
static void pause_if_slow(struct job *job)
{
    struct service *service = job->service;
    struct stream *stream = job->stream;
    uint64_t connection = node_connection_of(service->node, stream->receiver);

    if (!job->attempt || connection == 0 ||
        node_backlog(service->node, connection) <
            (size_t)service->config->max_stream_bytes)
        return;
    stream->connection = connection;
    list_remove(&stream->link);
    list_append(&service->paused, &stream->link);
    service->stats.pauses++;
    attempt_pause(job->attempt);
}

bool stream_send(struct job *job, struct slice text)
{
    struct service *service = job->service;
    struct stream *stream = job->stream;
    size_t sent = stream->sent;
    char id[REFERENCE_ID_MAX];
    struct slice key = slice_make(id, stream->id.size);

    if (text.size <= sent)
        return true;
    memcpy(id, stream->id.data, stream->id.size);
    stream->sent = text.size;
    buf_clear(&service->value);
    reply_put_delta(&service->value, stream->reference,
                    slice_make(text.data + sent, text.size - sent));
    pause_if_slow(job);
    stream_deliver(job);
    return map_find(&service->by_reference, key) == job;
}

void stream_drained(struct service *service, uint64_t connection)
{
    LIST_EACH(link, &service->paused)
    {
        struct stream *stream = LIST_ENTRY(link, struct stream, link);
        struct job *job = map_find(&service->by_reference, stream->id);

        if (stream->connection != connection)
            continue;
        list_remove(&stream->link);
        if (job->attempt)
            attempt_resume(job->attempt);
    }
}

void stream_close(struct job *job)
{
    if (!job->stream)
        return;
    list_remove(&job->stream->link);
    map_remove(&job->service->by_reference, job->stream->id);
    job->stream = NULL;
}
