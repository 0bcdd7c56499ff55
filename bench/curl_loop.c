/* The peer that the router's provider calls are measured against: libcurl's
 * multi interface on a bare epoll loop, and nothing else.
 *
 * Keeps N requests in flight until M were answered; the answers are counted,
 * not read. It does what makes such a loop cheap: interest in sockets changes
 * once per turn and stays when a connection waits in curl's pool, one timer is
 * the time-out of epoll_wait, easy handles and connections are used again. */
#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "llm_router/base/buf.h"
#include "llm_router/base/mem.h"

enum {
    BODY_MAX_BYTES = 64 * 1024 * 1024,
    CALLS_MAX = 10 * 1000 * 1000,
    IN_FLIGHT_MAX = 100 * 1000,
    EVENTS_PER_TURN = 256,
    RECEIVE_BUFFER_BYTES = 4096,
    STREAMS_PER_CONNECTION = 100, /* of HTTP/2: curl's own limit */
};

struct options {
    const char *url;
    const char *body;
    const char *ca;             /* authorities to trust for https, or NULL */
    struct curl_slist *headers; /* besides the usual ones */
    int64_t in_flight;
    int64_t calls;
};

/* What epoll was told about a descriptor and what curl wants of it. */
struct watch {
    bool registered;
    bool changed;
    uint32_t wanted; /* 0: in curl's pool */
    uint32_t watched;
};

struct call {
    CURL *easy;
    struct bench *bench;
    uint64_t started_ns;
};

struct bench {
    struct options options;
    struct buf body;
    CURLM *multi;
    int epoll;
    struct watch *watches; /* by descriptor */
    int watch_count;
    int *changed;
    int changed_count;
    uint64_t due_ns; /* 0: no timer */
    int64_t started, ended;
    uint64_t bytes;
    uint64_t *latencies_ns;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "curl_loop: %s: %s\n", what, why);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cpu_us(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) *
               1000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* What curl asks for. */

static int on_timer(CURLM *multi, long timeout_ms, void *context)
{
    struct bench *bench = context;

    (void)multi;
    bench->due_ns =
        timeout_ms < 0 ? 0 : now_ns() + (uint64_t)timeout_ms * 1000000u;
    return 0;
}

static int on_socket(CURL *easy, curl_socket_t descriptor, int what,
                     void *context, void *unused)
{
    struct bench *bench = context;
    struct watch *watch = &bench->watches[descriptor];

    (void)easy;
    (void)unused;
    watch->wanted = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) |
                    (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);
    if (what == CURL_POLL_REMOVE)
        watch->wanted = 0;
    if (!watch->changed) {
        watch->changed = true;
        bench->changed[bench->changed_count++] = descriptor;
    }
    return 0;
}

static curl_socket_t on_open(void *context, curlsocktype purpose,
                             struct curl_sockaddr *address)
{
    struct bench *bench = context;
    int descriptor = socket(address->family, address->socktype | SOCK_CLOEXEC,
                            address->protocol);

    (void)purpose;
    if (descriptor >= bench->watch_count)
        fail("socket", "more descriptors than ulimit -n said");
    return descriptor;
}

/* Closing takes the descriptor out of epoll; its number may come again. */
static int on_close(void *context, curl_socket_t descriptor)
{
    struct bench *bench = context;

    bench->watches[descriptor].registered = false;
    bench->watches[descriptor].watched = 0;
    bench->watches[descriptor].wanted = 0;
    return close(descriptor);
}

static size_t on_body(char *data, size_t unit, size_t count, void *context)
{
    struct call *call = context;

    (void)data;
    call->bench->bytes += unit * count;
    return unit * count;
}

/* Calls. */

static void start_call(struct call *call)
{
    struct bench *bench = call->bench;

    bench->started++;
    call->started_ns = now_ns();
    curl_easy_setopt(call->easy, CURLOPT_URL, bench->options.url);
    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, bench->body.data);
    if (curl_multi_add_handle(bench->multi, call->easy) != CURLM_OK)
        fail("call", "curl_multi_add_handle failed");
}

static void end_call(struct bench *bench, CURL *easy, CURLcode result)
{
    struct call *call = NULL;
    long status = 0;

    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &call);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    if (result != CURLE_OK)
        fail("call", curl_easy_strerror(result));
    if (status != 200)
        fail("call", "the status is not 200");
    bench->latencies_ns[bench->ended++] = now_ns() - call->started_ns;
    curl_multi_remove_handle(bench->multi, easy);
    if (bench->started < bench->options.calls)
        start_call(call);
}

static void act(struct bench *bench, curl_socket_t descriptor, int events)
{
    CURLMsg *message;
    int count;

    curl_multi_socket_action(bench->multi, descriptor, events, &count);
    while ((message = curl_multi_info_read(bench->multi, &count)))
        if (message->msg == CURLMSG_DONE)
            end_call(bench, message->easy_handle, message->data.result);
}

static void prepare_call(struct bench *bench, struct call *call)
{
    CURL *easy = curl_easy_init();

    if (!easy)
        fail("call", "curl_easy_init failed");
    call->easy = easy;
    call->bench = bench;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     (curl_off_t)bench->body.size);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, bench->options.headers);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)RECEIVE_BUFFER_BYTES);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, bench);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, bench);
    if (bench->options.ca) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, bench->options.ca);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
    }
}

/* The loop. */

static void apply_changes(struct bench *bench)
{
    for (int i = 0; i < bench->changed_count; i++) {
        int descriptor = bench->changed[i];
        struct watch *watch = &bench->watches[descriptor];
        struct epoll_event event = {.events = watch->wanted,
                                    .data = {.fd = descriptor}};

        watch->changed = false;
        if (watch->wanted == 0 || watch->wanted == watch->watched)
            continue;
        if (epoll_ctl(bench->epoll,
                      watch->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
                      descriptor, &event) != 0)
            fail("epoll_ctl", strerror(errno));
        watch->registered = true;
        watch->watched = watch->wanted;
    }
    bench->changed_count = 0;
}

static void on_event(struct bench *bench, const struct epoll_event *event)
{
    int descriptor = event->data.fd;
    struct watch *watch = &bench->watches[descriptor];
    int bits = (event->events & EPOLLIN ? CURL_CSELECT_IN : 0) |
               (event->events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (event->events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

    if (watch->wanted != 0) {
        act(bench, descriptor, bits);
        return;
    }
    /* The server closed a pooled connection; curl sees that on its own. */
    epoll_ctl(bench->epoll, EPOLL_CTL_DEL, descriptor, NULL);
    watch->registered = false;
    watch->watched = 0;
}

/* What curl wants done at once is done before the next wait. */
static int run_timer(struct bench *bench)
{
    uint64_t now = now_ns();

    while (bench->due_ns != 0 && bench->due_ns <= now) {
        bench->due_ns = 0;
        act(bench, CURL_SOCKET_TIMEOUT, 0);
    }
    if (bench->due_ns == 0)
        return -1;
    return (int)((bench->due_ns - now + 999999u) / 1000000u);
}

static void run(struct bench *bench)
{
    struct epoll_event events[EVENTS_PER_TURN];

    for (;;) {
        int timeout_ms = run_timer(bench);
        int count;

        if (bench->ended == bench->options.calls)
            return;
        apply_changes(bench);
        count = epoll_wait(bench->epoll, events, EVENTS_PER_TURN, timeout_ms);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait", strerror(errno));
        for (int i = 0; i < count; i++)
            on_event(bench, &events[i]);
    }
}

static void add_header(struct options *options, const char *header)
{
    options->headers = curl_slist_append(options->headers, header);
    if (!options->headers)
        fail("header", "no memory");
}

static void prepare(struct bench *bench)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    bench->watch_count =
        (int)(limit.rlim_cur < 1000000 ? limit.rlim_cur : 1000000);
    bench->watches =
        mem_alloc((size_t)bench->watch_count * sizeof(*bench->watches));
    bench->changed =
        mem_alloc((size_t)bench->watch_count * sizeof(*bench->changed));
    bench->latencies_ns =
        mem_alloc((size_t)bench->options.calls * sizeof(uint64_t));
    add_header(&bench->options, "Content-Type: application/json");
    add_header(&bench->options, "Accept: text/event-stream");
    add_header(&bench->options, "Authorization: Bearer sk-bench");
    add_header(&bench->options, "Expect:");
    bench->epoll = epoll_create1(EPOLL_CLOEXEC);
    bench->multi = curl_multi_init();
    curl_multi_setopt(bench->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(bench->multi, CURLMOPT_TIMERDATA, bench);
    curl_multi_setopt(bench->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(bench->multi, CURLMOPT_SOCKETDATA, bench);
    curl_multi_setopt(bench->multi, CURLMOPT_MAXCONNECTS,
                      (long)bench->options.in_flight);
    if (bench->options.ca)
        curl_multi_setopt(
            bench->multi, CURLMOPT_MAX_HOST_CONNECTIONS,
            (long)(bench->options.in_flight / STREAMS_PER_CONNECTION + 1));
}

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

static void report(const struct bench *bench, uint64_t took_ns,
                   uint64_t took_cpu_us)
{
    double calls = (double)bench->ended;
    size_t last = (size_t)bench->ended - 1;

    qsort(bench->latencies_ns, last + 1, sizeof(uint64_t), compare);
    printf("calls_per_s %.1f\n", calls * 1e9 / (double)took_ns);
    printf("cpu_us %.2f\n", (double)took_cpu_us / calls);
    printf("median_us %.1f\n", (double)bench->latencies_ns[last / 2] / 1e3);
    printf("p99_us %.1f\n", (double)bench->latencies_ns[last * 99 / 100] / 1e3);
    printf("bytes_per_call %.1f\n", (double)bench->bytes / calls);
}

/* Resident memory that each call in flight took, from the process's peak. */
static void report_memory(const struct bench *bench, long idle_kib)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    printf("resident_kib_per_call %.2f\n",
           (double)(usage.ru_maxrss - idle_kib) /
               (double)bench->options.in_flight);
}

static void measure(struct bench *bench)
{
    struct call *calls;
    struct rusage idle;
    uint64_t start_ns, start_cpu_us;

    getrusage(RUSAGE_SELF, &idle);
    calls = mem_alloc((size_t)bench->options.in_flight * sizeof(*calls));
    for (int64_t i = 0; i < bench->options.in_flight; i++)
        prepare_call(bench, &calls[i]);
    start_ns = now_ns();
    start_cpu_us = cpu_us();
    for (int64_t i = 0; i < bench->options.in_flight; i++)
        start_call(&calls[i]);
    run(bench);
    report(bench, now_ns() - start_ns, cpu_us() - start_cpu_us);
    report_memory(bench, idle.ru_maxrss);
    for (int64_t i = 0; i < bench->options.in_flight; i++)
        curl_easy_cleanup(calls[i].easy);
    mem_free(calls);
    curl_multi_cleanup(bench->multi);
}

static void read_body(struct bench *bench)
{
    FILE *file = fopen(bench->options.body, "re");
    size_t size;

    if (!file)
        fail(bench->options.body, strerror(errno));
    buf_init(&bench->body, BODY_MAX_BYTES);
    do {
        if (!buf_reserve(&bench->body, 65536))
            fail(bench->options.body, "too large");
        size = fread(bench->body.data + bench->body.size, 1, 65536, file);
        bench->body.size += size;
    } while (size > 0);
    fclose(file);
}

static bool read_number(const char *text, int64_t most, int64_t *value)
{
    return slice_to_int64(slice_of(text), value) && *value > 0 &&
           *value <= most;
}

static bool read_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"url", required_argument, NULL, 'u'},
        {"body", required_argument, NULL, 'b'},
        {"ca", required_argument, NULL, 'c'},
        {"header", required_argument, NULL, 'h'},
        {"in-flight", required_argument, NULL, 'n'},
        {"calls", required_argument, NULL, 'm'},
        {NULL, 0, NULL, 0},
    };
    int option;
    bool ok = true;

    while (ok && (option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'u')
            options->url = optarg;
        else if (option == 'b')
            options->body = optarg;
        else if (option == 'c')
            options->ca = optarg;
        else if (option == 'h')
            add_header(options, optarg);
        else if (option == 'n')
            ok = read_number(optarg, IN_FLIGHT_MAX, &options->in_flight);
        else if (option == 'm')
            ok = read_number(optarg, CALLS_MAX, &options->calls);
        else
            ok = false;
    }
    return ok && optind == argc && options->url && options->body &&
           options->in_flight <= options->calls;
}

int main(int argc, char **argv)
{
    struct bench bench = {.options = {.in_flight = 1, .calls = 1}};

    if (!read_options(argc, argv, &bench.options)) {
        fputs("usage: curl_loop --url URL --body FILE [--in-flight N]\n"
              "                 [--calls M >= N] [--ca FILE]\n"
              "                 [--header TEXT]...\n",
              stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    read_body(&bench);
    prepare(&bench);
    measure(&bench);
    return 0;
}
