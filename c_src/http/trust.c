#include "http_internal.h"

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"

/* Reading and decoding the system's bundle takes 20-45 ms of CPU. curl would
 * do that on the loop for each multi handle (for each connection when
 * CURLOPT_CAPATH is set), so the store is made here, once, when the first
 * https request comes, and handed to each TLS context. */

/* A fault may pass, such as no descriptor for the file. */
enum { AGAIN_MS = 1000 };

struct trust_job {
    uv_work_t work;
    struct http *http; /* NULL: freed in the meantime */
    char *path;        /* NULL: OpenSSL's own default */
    X509_STORE *store;
    bool ok;
};

static void read_certificates(uv_work_t *work)
{
    struct trust_job *job = work->data;

    job->store = X509_STORE_new();
    if (!job->store)
        return;
    job->ok = job->path ? X509_STORE_load_file(job->store, job->path) == 1
                        : X509_STORE_set_default_paths(job->store) == 1;
    /* As curl: a certificate in the file is trusted whether or not it is a
     * root. */
    X509_STORE_set_flags(job->store,
                         X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
    /* OpenSSL keeps an error list for each thread that called it. */
    OPENSSL_thread_stop();
}

static void store_ready(struct trust_job *job)
{
    struct http *http = job->http;
    struct trust *trust = &http->trust;

    trust->job = NULL;
    trust->state = job->ok ? TRUST_READY : TRUST_FAILED;
    if (job->ok) {
        trust->store = job->store;
        job->store = NULL;
    } else {
        trust->again_ms = loop_now_ms(http->loop) + AGAIN_MS;
        log_event(
            LOG_ERROR, "http", "no CA certificates could be read",
            LOG_FIELDS(log_text(
                "file", slice_of(job->path ? job->path : "the system's"))));
    }
    LIST_EACH(link, &http->untrusted)
    {
        list_remove(link);
        list_append(&http->ready, link);
    }
    http_wake(http);
}

static void after_reading(uv_work_t *work, int status)
{
    struct trust_job *job = work->data;

    if (status != 0)
        job->ok = false;
    if (job->http)
        store_ready(job);
    X509_STORE_free(job->store);
    mem_free(job->path);
    mem_free(job);
}

static void start_reading(struct http *http)
{
    const char *path = http->options.ca_file;
    struct trust_job *job = mem_alloc(sizeof(*job));

    if (!path)
        path = curl_version_info(CURLVERSION_NOW)->cainfo;
    job->work.data = job;
    job->http = http;
    job->path = path ? mem_copy_text(path, strlen(path)) : NULL;
    http->trust.state = TRUST_READING;
    http->trust.job = job;
    if (uv_queue_work(&http->loop->uv, &job->work, read_certificates,
                      after_reading) != 0)
        after_reading(&job->work, UV_EINVAL);
}

bool trust_admit(struct transfer *transfer)
{
    struct http *http = transfer->http;
    const struct trust *trust = &http->trust;

    if (trust->state == TRUST_UNREAD ||
        (trust->state == TRUST_FAILED &&
         loop_now_ms(http->loop) >= trust->again_ms))
        start_reading(http);
    if (http->trust.state != TRUST_READING)
        return true;
    list_append(&http->untrusted, &transfer->link);
    return false;
}

void trust_release(struct trust *trust)
{
    if (trust->job)
        trust->job->http = NULL;
    X509_STORE_free(trust->store);
}
