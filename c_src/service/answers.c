#include "llm_router/base/mem.h"
#include "llm_router/core/fingerprint.h"
#include "service/service_internal.h"

/* How long and how much "just answered" is. */
enum {
    ANSWER_AGE_MS = 60000,
    ANSWERS_MAX = 4096,
    ANSWERS_MAX_BYTES = 32 * 1024 * 1024,
    ASKED_KEEP = 64 * 1024, /* of the memory that digests are made in */
};

struct answer {
    struct list link; /* in service->answered */
    struct slice request_id;
    struct slice value;
    unsigned char digest[DIGEST_SIZE]; /* of the question */
    uint64_t at_ms;
};

static void forget(struct service *service, struct answer *answer)
{
    list_remove(&answer->link);
    map_remove(&service->answers, answer->request_id);
    service->answered_bytes -= answer->value.size;
    mem_free(answer);
}

static struct answer *oldest(struct service *service)
{
    if (list_is_empty(&service->answered))
        return NULL;
    return LIST_ENTRY(service->answered.next, struct answer, link);
}

static void make_room(struct service *service)
{
    uint64_t now = loop_now_ms(&service->loop);
    struct answer *answer;

    while ((answer = oldest(service)) != NULL &&
           (now - answer->at_ms > ANSWER_AGE_MS ||
            service->answers.count > ANSWERS_MAX ||
            service->answered_bytes > ANSWERS_MAX_BYTES))
        forget(service, answer);
}

void asked_digest(struct service *service, const struct request *request,
                  struct asked *asked)
{
    buf_clear(&service->asked);
    request_fingerprint(request, &service->asked);
    digest_sha256(buf_slice(&service->asked), asked->digest);
    buf_shrink(&service->asked, ASKED_KEEP);
    asked->known = true;
}

void answers_keep(struct service *service, const struct job *job,
                  struct slice value)
{
    struct slice request_id = job->request_id;
    struct answer *answer = map_find(&service->answers, request_id);
    char *bytes;

    if (answer)
        forget(service, answer);
    answer = mem_alloc(sizeof(*answer) + request_id.size + value.size);
    bytes = (char *)(answer + 1);
    memcpy(bytes, request_id.data, request_id.size);
    memcpy(bytes + request_id.size, value.data, value.size);
    memcpy(answer->digest, job->asked.digest, DIGEST_SIZE);
    answer->request_id = slice_make(bytes, request_id.size);
    answer->value = slice_make(bytes + request_id.size, value.size);
    answer->at_ms = loop_now_ms(&service->loop);
    list_append(&service->answered, &answer->link);
    map_put(&service->answers, answer->request_id, answer);
    service->answered_bytes += value.size;
    make_room(service);
}

bool answers_find(struct service *service, struct slice request_id,
                  struct slice *value, const unsigned char **digest)
{
    const struct answer *answer;

    make_room(service);
    answer = map_find(&service->answers, request_id);
    if (!answer)
        return false;
    *value = answer->value;
    *digest = answer->digest;
    return true;
}

void answers_release(struct service *service)
{
    struct answer *answer;

    while ((answer = oldest(service)) != NULL)
        forget(service, answer);
    map_release(&service->answers);
}
