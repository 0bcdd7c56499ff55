#include <assert.h>
#include <stdio.h>

#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "pg/pg_internal.h"

enum {
    PAUSE_FIRST_MS = 100,
    PAUSE_MAX_MS = 2000,
    PREPARED_MAX = 32, /* statements of one connection */
    NAME_SIZE = 24,
    TELL_EVERY_MS = 60 * 1000,
    SETTINGS_MAX = 4096,
};

enum pg_state {
    PG_WAITING,    /* for the next attempt */
    PG_RESOLVING,  /* the names of the hosts */
    PG_CONNECTING, /* libpq, until the server accepts */
    PG_PREPARING,  /* the session: its settings, LISTEN */
    PG_UP,
    PG_FREED, /* by a callback that has yet to return */
};

/* The descriptor of a connection. libpq closes those it gives up itself, so a
 * handle never outlives a step of connecting; it frees itself. */
struct watch {
    uv_poll_t poll;
    struct pg *pg;
    int events;
};

/* A statement that the server has planned. */
struct prepared {
    const char *sql;
    char name[NAME_SIZE];
};

struct query {
    struct list link;
    const char *sql;
    size_t count;
    const char *values[PG_PARAMETERS_MAX]; /* behind this struct */
    bool fixed;
    bool sent;
    bool preparing;  /* what runs is its preparation */
    const char *why; /* it failed, unless the server said */
    pg_done *done;
    void *context;
};

struct pg {
    struct loop *loop;
    struct pg_options options;
    struct pg_events events;
    void *context;
    enum pg_state state;
    bool running; /* in a step; pg_free leaves the memory to its end */

    struct pg_lookup *lookup;
    size_t first_address;
    PGconn *conn;
    struct watch *watch;
    struct loop_timer timer; /* of the pause, the attempt or the query */
    bool broken;             /* libuv saw an error */

    struct list waiting, failed; /* queries */
    struct query *current;       /* sent */
    struct prepared prepared[PREPARED_MAX];
    size_t prepared_count;
    PGresult *result; /* of it, or of the preparation */
    size_t backlog;
    struct loop_task work;

    uint64_t pause_ms;
    uint64_t up_since_ms;
    uint64_t next_down_ms, next_log_ms; /* not before */
    bool loss_logged;
    uint64_t ups;
    char last_words[PG_MESSAGE_MAX]; /* why the server ended the session */
    char why[PG_MESSAGE_MAX];        /* it is down */
};

static void move(struct pg *pg, enum pg_state state)
{
    static const unsigned from[] = {
        [PG_WAITING] = 1u << PG_WAITING | 1u << PG_RESOLVING |
                       1u << PG_CONNECTING | 1u << PG_PREPARING | 1u << PG_UP,
        [PG_RESOLVING] = 1u << PG_WAITING,
        [PG_CONNECTING] = 1u << PG_RESOLVING,
        [PG_PREPARING] = 1u << PG_CONNECTING,
        [PG_UP] = 1u << PG_PREPARING,
        [PG_FREED] = 1u << PG_WAITING | 1u << PG_RESOLVING |
                     1u << PG_CONNECTING | 1u << PG_PREPARING | 1u << PG_UP,
    };

    assert(from[state] & 1u << pg->state);
    pg->state = state;
}

/* Every way in from the loop. */
static void run(struct pg *pg, void (*step)(struct pg *pg))
{
    pg->running = true;
    step(pg);
    pg->running = false;
    if (pg->state == PG_FREED)
        mem_free(pg);
}

/* --- the descriptor --- */

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void unwatch(struct pg *pg)
{
    if (pg->watch)
        uv_close((uv_handle_t *)&pg->watch->poll, on_closed);
    pg->watch = NULL;
}

static void connect_step(struct pg *pg);
static void session_step(struct pg *pg);

/* An error is not told apart here: libpq finds it on the descriptor, and may
 * find the server's last words before it. */
static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct pg *pg = ((struct watch *)poll->data)->pg;

    (void)events;
    pg->broken = status < 0;
    run(pg, pg->state == PG_CONNECTING ? connect_step : session_step);
}

static bool watch(struct pg *pg, int events)
{
    if (!pg->watch) {
        struct watch *fresh = mem_alloc(sizeof(*fresh));

        fresh->pg = pg;
        fresh->poll.data = fresh;
        if (uv_poll_init(&pg->loop->uv, &fresh->poll, PQsocket(pg->conn)) !=
            0) {
            mem_free(fresh);
            return false;
        }
        pg->watch = fresh;
    }
    if (pg->watch->events == events)
        return true;
    pg->watch->events = events;
    return uv_poll_start(&pg->watch->poll, events, on_ready) == 0;
}

/* --- queries --- */

static struct query *query_new(const struct pg_query *query, pg_done *done,
                               void *context)
{
    size_t size = sizeof(struct query);
    struct query *copy;
    char *at;

    for (size_t i = 0; i < query->count; i++)
        size += query->parameters[i].size + 1;
    copy = mem_alloc(size);
    at = (char *)(copy + 1);
    for (size_t i = 0; i < query->count; i++) {
        struct slice value = query->parameters[i];

        if (!value.data)
            continue;
        memcpy(at, value.data, value.size); /* the NUL is there */
        copy->values[i] = at;
        at += value.size + 1;
    }
    copy->sql = query->sql;
    copy->fixed = query->fixed;
    copy->count = query->count;
    copy->done = done;
    copy->context = context;
    return copy;
}

static void query_end(struct pg *pg, struct query *query,
                      const struct pg_rows *rows,
                      const struct pg_failure *failure)
{
    pg_done *done = query->done;
    void *context = query->context;

    mem_free(query);
    pg->backlog--;
    done(context, rows, failure);
}

/* Those that were lost with the connection, or came without one. */
static void tell_failed(struct pg *pg)
{
    while (!list_is_empty(&pg->failed)) {
        struct query *query = LIST_ENTRY(pg->failed.next, struct query, link);
        struct pg_failure failure = {.unknown = query->sent};

        snprintf(failure.sqlstate, sizeof(failure.sqlstate), "%s",
                 query->sent ? "" : "08000");
        snprintf(failure.message, sizeof(failure.message), "%s", query->why);
        list_remove(&query->link);
        query_end(pg, query, NULL, &failure);
    }
}

static void free_queries(struct list *list)
{
    LIST_EACH(link, list)
    {
        mem_free(LIST_ENTRY(link, struct query, link));
    }
    list_init(list);
}

/* --- down --- */

static void disconnect(struct pg *pg)
{
    loop_timer_stop(&pg->timer);
    pg_lookup_free(pg->lookup);
    pg->lookup = NULL;
    unwatch(pg);
    PQfinish(pg->conn);
    pg->conn = NULL;
    PQclear(pg->result);
    pg->result = NULL;
    pg->prepared_count = 0;
    pg->last_words[0] = '\0';
    pg->broken = false;
}

static void work_step(struct pg *pg);

static void on_work(void *context)
{
    run(context, work_step);
}

static void fail_queries(struct pg *pg)
{
    if (pg->current)
        list_append(&pg->failed, &pg->current->link);
    pg->current = NULL;
    LIST_EACH(link, &pg->waiting)
    {
        list_remove(link);
        list_append(&pg->failed, link);
    }
    if (!list_is_empty(&pg->failed))
        loop_defer(pg->loop, &pg->work, on_work, pg);
}

static struct slice session_name(const struct pg *pg)
{
    return slice_of(pg->options.application_name);
}

/* `what` is a literal. It is tried again. */
static void tell_down(struct pg *pg, const char *what)
{
    uint64_t now = loop_now_ms(pg->loop);
    struct error err;

    if (now >= pg->next_log_ms) {
        log_event(LOG_WARN, "pg", what,
                  LOG_FIELDS(log_text("session", session_name(pg)),
                             log_text("reason", slice_of(pg->why))));
        pg->next_log_ms = now + TELL_EVERY_MS;
        pg->loss_logged = true;
    }
    if (now < pg->next_down_ms)
        return;
    pg->next_down_ms = now + TELL_EVERY_MS;
    error_set(&err, ERR_UNREACHABLE, "%s", pg->why);
    pg->events.down(pg->context, &err);
}

static void due_step(struct pg *pg);

static void on_due(void *context)
{
    run(context, due_step);
}

static uint64_t with_jitter(uint64_t pause_ms)
{
    uint16_t chance = 0;

    uv_random(NULL, NULL, &chance, sizeof(chance), 0, NULL);
    return pause_ms / 2 + chance % (pause_ms / 2 + 1);
}

/* The end of a connection or of an attempt; the last thing a step does. Only
 * one that held for a while makes the next pause short again. */
static void lose(struct pg *pg, const char *why)
{
    bool was_up = pg->state == PG_UP;
    uint64_t now = loop_now_ms(pg->loop);

    pg_one_line(pg->why, sizeof(pg->why),
                pg->last_words[0] != '\0' ? pg->last_words : why);
    disconnect(pg);
    fail_queries(pg);
    move(pg, PG_WAITING);
    if (was_up && now - pg->up_since_ms > PAUSE_MAX_MS)
        pg->pause_ms = PAUSE_FIRST_MS;
    loop_timer_start(pg->loop, &pg->timer, with_jitter(pg->pause_ms), on_due,
                     pg);
    pg->pause_ms =
        pg->pause_ms < PAUSE_MAX_MS / 2 ? pg->pause_ms * 2 : PAUSE_MAX_MS;
    if (was_up)
        pg->next_down_ms = now;
    tell_down(pg, was_up ? "connection lost" : "cannot connect");
}

/* --- the session --- */

static void note_last_words(struct pg *pg, const PGresult *result)
{
    struct pg_failure failure;

    pg_failure_of(result, &failure);
    memcpy(pg->last_words, failure.message, sizeof(pg->last_words));
}

/* The first refusal counts, else the last result. */
static void keep(struct pg *pg, PGresult *result)
{
    if (pg_is_fatal(result))
        note_last_words(pg, result);
    if (pg->result && !pg_succeeded(pg->result)) {
        PQclear(result);
        return;
    }
    PQclear(pg->result);
    pg->result = result;
}

/* True when the answer is complete. */
static bool take_results(struct pg *pg)
{
    while (!PQisBusy(pg->conn)) {
        PGresult *result = PQgetResult(pg->conn);

        if (!result)
            return pg->result != NULL;
        keep(pg, result);
        if (!pg_is_answer(pg->result))
            return false; /* libpq gives COPY again and again */
    }
    return false;
}

static void on_prepared(struct pg *pg)
{
    struct pg_failure failure;

    if (!pg_succeeded(pg->result)) {
        pg_failure_of(pg->result, &failure);
        lose(pg, failure.message);
        return;
    }
    PQclear(pg->result);
    pg->result = NULL;
    loop_timer_stop(&pg->timer);
    move(pg, PG_UP);
    pg->up_since_ms = loop_now_ms(pg->loop);
    if (pg->ups++ == 0 || pg->loss_logged)
        log_event(LOG_INFO, "pg", "connected",
                  LOG_FIELDS(log_text("session", session_name(pg))));
    pg->loss_logged = false;
    pg->events.up(pg->context);
}

static bool execute(struct pg *pg, const struct prepared *prepared)
{
    struct query *query = pg->current;

    query->preparing = false;
    return PQsendQueryPrepared(pg->conn, prepared->name, (int)query->count,
                               query->values, NULL, NULL, 0);
}

static void on_statement_prepared(struct pg *pg)
{
    PQclear(pg->result);
    pg->result = NULL;
    if (!execute(pg, &pg->prepared[pg->prepared_count++]))
        pg->broken = true;
    loop_defer(pg->loop, &pg->work, on_work, pg); /* to write it */
}

/* What it was planned for has changed, or the server knows the plan no more:
 * a new session has none. */
static bool blames_plan(const struct pg_failure *failure)
{
    return strcmp(failure->sqlstate, "0A000") == 0 ||
           strcmp(failure->sqlstate, "26000") == 0;
}

static void on_answer(struct pg *pg)
{
    struct query *query = pg->current;
    PGresult *result = pg->result;
    struct pg_rows rows = {result};
    struct pg_failure failure = {.unknown = false};

    pg->current = NULL;
    pg->result = NULL;
    loop_timer_stop(&pg->timer);
    loop_defer(pg->loop, &pg->work, on_work, pg); /* the next one */
    if (pg_succeeded(result)) {
        query_end(pg, query, &rows, NULL);
    } else {
        pg_failure_of(result, &failure);
        query_end(pg, query, NULL, &failure);
    }
    PQclear(result);
    if (pg->state == PG_UP && blames_plan(&failure))
        lose(pg, failure.message);
}

static void tell_notifications(struct pg *pg)
{
    PGnotify *notice;

    while (pg->state == PG_UP && (notice = PQnotifies(pg->conn))) {
        if (pg->events.notified)
            pg->events.notified(pg->context, slice_of(notice->relname),
                                slice_of(notice->extra));
        PQfreemem(notice);
    }
}

/* libpq appends to what it said about an earlier query, which is not to be
 * repeated. */
static void note_fault(const struct pg *pg, size_t known, char *fault)
{
    const char *message = PQerrorMessage(pg->conn);
    size_t size = strlen(message);

    pg_one_line(fault, PG_MESSAGE_MAX,
                size > known ? message + known : "the socket failed");
}

/* Whenever something came, can be written, or is to be sent. What the server
 * said before it went away still counts. */
static void session_step(struct pg *pg)
{
    char fault[PG_MESSAGE_MAX];
    struct pg_failure failure;
    size_t known = strlen(PQerrorMessage(pg->conn));
    bool alive = PQconsumeInput(pg->conn) && !pg->broken;
    int unsent = alive ? PQflush(pg->conn) : -1;

    if (unsent < 0)
        note_fault(pg, known, fault);
    if (take_results(pg)) {
        if (pg->state == PG_PREPARING)
            on_prepared(pg);
        else if (pg->current->preparing && pg_succeeded(pg->result))
            on_statement_prepared(pg);
        else
            on_answer(pg);
    }
    tell_notifications(pg);
    if (!pg->conn)
        return; /* lost, or freed by a callback */
    if (unsent < 0) {
        lose(pg, fault);
    } else if (pg->result && !pg_is_answer(pg->result)) {
        pg_failure_of(pg->result, &failure);
        lose(pg, failure.message);
    } else if (!watch(pg, UV_READABLE | (unsent > 0 ? UV_WRITABLE : 0))) {
        lose(pg, "the socket cannot be watched");
    }
}

/* Planning costs more than most statements here. */
static bool begin_statement(struct pg *pg)
{
    struct query *query = pg->current;
    struct prepared *fresh;

    for (size_t i = 0; query->fixed && i < pg->prepared_count; i++)
        if (pg->prepared[i].sql == query->sql)
            return execute(pg, &pg->prepared[i]);
    if (!query->fixed || pg->prepared_count == PREPARED_MAX)
        return PQsendQueryParams(pg->conn, query->sql, (int)query->count, NULL,
                                 query->values, NULL, NULL, 0);
    fresh = &pg->prepared[pg->prepared_count];
    fresh->sql = query->sql;
    snprintf(fresh->name, sizeof(fresh->name), "s%zu", pg->prepared_count);
    query->preparing = true;
    return PQsendPrepare(pg->conn, fresh->name, query->sql, 0, NULL);
}

static void send_next(struct pg *pg)
{
    struct query *query = LIST_ENTRY(pg->waiting.next, struct query, link);

    list_remove(&query->link);
    query->sent = true;
    pg->current = query;
    loop_timer_start(pg->loop, &pg->timer, pg->options.query_timeout_ms, on_due,
                     pg);
    if (begin_statement(pg))
        session_step(pg);
    else
        lose(pg, PQerrorMessage(pg->conn));
}

static void work_step(struct pg *pg)
{
    tell_failed(pg);
    if (pg->state != PG_UP)
        return;
    if (pg->current)
        session_step(pg);
    else if (!list_is_empty(&pg->waiting))
        send_next(pg);
}

/* --- connecting --- */

/* The server ends a statement before its deadline here: a backend that waits
 * for a lock would not notice that its client has gone, and each new attempt
 * would add one. */
static void prepare(struct pg *pg)
{
    struct buf sql;
    bool sent;

    buf_init(&sql, SETTINGS_MAX);
    buf_printf(&sql, "SET TimeZone TO 'UTC'; SET statement_timeout TO %llu",
               (unsigned long long)pg->options.query_timeout_ms * 9 / 10);
    for (size_t i = 0; i < pg->options.channel_count; i++) {
        const char *channel = pg->options.channels[i];
        char *quoted = PQescapeIdentifier(pg->conn, channel, strlen(channel));

        buf_printf(&sql, "; LISTEN %s", quoted ? quoted : "\"\"");
        PQfreemem(quoted);
    }
    buf_append_byte(&sql, '\0');
    move(pg, PG_PREPARING);
    sent = !sql.failed && PQsetnonblocking(pg->conn, 1) == 0 &&
           PQsendQuery(pg->conn, sql.data);
    buf_release(&sql);
    if (sent)
        session_step(pg);
    else
        lose(pg, PQerrorMessage(pg->conn));
}

static void go_on(struct pg *pg, PostgresPollingStatusType wanted)
{
    if (wanted == PGRES_POLLING_OK)
        prepare(pg);
    else if (wanted == PGRES_POLLING_FAILED)
        lose(pg, PQerrorMessage(pg->conn));
    else if (!watch(pg, wanted == PGRES_POLLING_READING ? UV_READABLE
                                                        : UV_WRITABLE))
        lose(pg, "the socket cannot be watched");
}

static void connect_step(struct pg *pg)
{
    unwatch(pg);
    pg->broken = false; /* PQconnectPoll finds out itself */
    go_on(pg, PQconnectPoll(pg->conn));
}

static void on_notice(void *context, const PGresult *notice)
{
    struct pg *pg = context;
    struct pg_failure failure;

    if (pg_is_fatal(notice))
        note_last_words(pg, notice);
    pg_failure_of(notice, &failure);
    log_event(LOG_DEBUG, "pg", "notice",
              LOG_FIELDS(log_text("session", session_name(pg)),
                         log_text("text", slice_of(failure.message))));
}

static void connect_to(struct pg *pg)
{
    struct pg_addresses addresses;
    struct error err;
    bool found =
        pg_lookup_addresses(pg->lookup, pg->first_address, &addresses, &err);

    if (found)
        pg->conn = conninfo_start(&pg->options, &addresses);
    pg_addresses_release(&addresses);
    if (!pg->conn) {
        lose(pg, found ? "out of memory" : err.message);
        return;
    }
    pg_lookup_free(pg->lookup);
    pg->lookup = NULL;
    PQsetNoticeReceiver(pg->conn, on_notice, pg);
    move(pg, PG_CONNECTING);
    go_on(pg, PQstatus(pg->conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED
                                                   : PGRES_POLLING_WRITING);
}

static void on_found(void *context)
{
    run(context, connect_to);
}

static void attempt(struct pg *pg)
{
    bool has_password;
    struct error err;

    loop_timer_start(pg->loop, &pg->timer, pg->options.connect_timeout_ms,
                     on_due, pg);
    move(pg, PG_RESOLVING);
    if (pg_conninfo_check(pg->options.conninfo, &has_password, &err))
        pg->lookup =
            pg_lookup_new(pg->loop, pg->options.conninfo, on_found, pg, &err);
    if (!pg->lookup)
        lose(pg, err.message);
    else if (pg_lookup_is_done(pg->lookup))
        connect_to(pg);
}

/* libpq has no deadline for each of several addresses: whoever hangs at the
 * first one begins with the second. */
static void attempt_overdue(struct pg *pg)
{
    char why[80];

    snprintf(why, sizeof(why), "not connected in %llu ms",
             (unsigned long long)pg->options.connect_timeout_ms);
    pg->first_address++;
    lose(pg, why);
}

/* After a long turn of the loop timers come first; the answer may be there. */
static void query_overdue(struct pg *pg)
{
    char why[80];

    session_step(pg);
    if (!pg->current)
        return;
    snprintf(why, sizeof(why), "no answer to a query in %llu ms",
             (unsigned long long)pg->options.query_timeout_ms);
    lose(pg, why);
}

static void due_step(struct pg *pg)
{
    if (pg->state == PG_WAITING)
        attempt(pg);
    else if (pg->state == PG_UP)
        query_overdue(pg);
    else
        attempt_overdue(pg);
}

/* --- the face --- */

struct pg *pg_new(struct loop *loop, const struct pg_options *options,
                  const struct pg_events *events, void *context)
{
    struct pg *pg = mem_alloc(sizeof(*pg));

    pg->loop = loop;
    pg->options = *options;
    pg->events = *events;
    pg->context = context;
    pg->state = PG_WAITING;
    pg->pause_ms = PAUSE_FIRST_MS;
    list_init(&pg->waiting);
    list_init(&pg->failed);
    snprintf(pg->why, sizeof(pg->why), "not connected yet");
    loop_timer_start(loop, &pg->timer, 0, on_due, pg);
    return pg;
}

void pg_free(struct pg *pg)
{
    if (!pg)
        return;
    disconnect(pg);
    loop_task_cancel(&pg->work);
    mem_free(pg->current);
    pg->current = NULL;
    free_queries(&pg->waiting);
    free_queries(&pg->failed);
    move(pg, PG_FREED);
    if (!pg->running)
        mem_free(pg);
}

void pg_query(struct pg *pg, const struct pg_query *query, pg_done *done,
              void *context)
{
    struct query *copy = query_new(query, done, context);
    bool full = pg->backlog == PG_BACKLOG_MAX;

    copy->why = full ? "too many queries wait" : pg->why;
    list_append(full || pg->state != PG_UP ? &pg->failed : &pg->waiting,
                &copy->link);
    pg->backlog++;
    loop_defer(pg->loop, &pg->work, on_work, pg);
}

bool pg_is_up(const struct pg *pg)
{
    return pg->state == PG_UP;
}

size_t pg_backlog(const struct pg *pg)
{
    return pg->backlog;
}

uint64_t pg_reconnects(const struct pg *pg)
{
    return pg->ups > 0 ? pg->ups - 1 : 0;
}
