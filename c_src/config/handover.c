#include "llm_router/config/handover.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/config_internal.h"

static const char INPUT[] = "standard input";

/* Members. */

static bool read_cookie(struct arena *arena, const struct place *place,
                        struct handover *handover, struct error *err)
{
    if (!json_is_string(place->value))
        return place_fault(place, err, "must be a text");
    handover->cookie =
        arena_copy(arena, slice_make(json_string_value(place->value),
                                     json_string_length(place->value)));
    return handover->cookie.size > 0 ||
           place_fault(place, err, "must not be empty");
}

static int append(const char *bytes, size_t size, void *out)
{
    buf_append(out, bytes, size);
    return 0;
}

static bool read_config(struct arena *arena, const struct place *place,
                        struct handover *handover, struct error *err)
{
    struct buf text;

    if (!place_is_object(place, err))
        return false;
    buf_init(&text, SIZE_MAX); /* no longer than the line */
    json_dump_callback(place->value, append, &text, JSON_COMPACT);
    handover->config = arena_keep(arena, &text);
    return true;
}

static bool read_stop(struct arena *arena, const struct place *place,
                      struct handover *handover, struct error *err)
{
    (void)arena;
    handover->stop = true;
    handover->drain_ms = json_is_integer(place->value)
                             ? json_integer_value(place->value)
                             : INT64_MAX;
    return json_is_true(place->value) ||
           (json_is_integer(place->value) && handover->drain_ms >= 0) ||
           place_fault(place, err, "must be true or a number of milliseconds");
}

static const struct member {
    const char *name;
    bool in_first, in_later;
    bool (*read)(struct arena *arena, const struct place *place,
                 struct handover *handover, struct error *err);
} members[] = {
    {"cookie", true, false, read_cookie},
    {"config", true, true, read_config},
    {"stop", false, true, read_stop},
};

enum { MEMBER_COUNT = sizeof(members) / sizeof(members[0]) };

static bool read_member(struct arena *arena, const struct place *place,
                        enum handover_line which, struct handover *handover,
                        struct error *err)
{
    const char *names[MEMBER_COUNT];
    size_t count = 0;

    for (size_t i = 0; i < MEMBER_COUNT; i++) {
        const struct member *member = &members[i];

        if (which == HANDOVER_FIRST ? !member->in_first : !member->in_later)
            continue;
        if (!strcmp(place->key, member->name))
            return member->read(arena, place, handover, err);
        names[count++] = member->name;
    }
    return unknown_key(place, names, count, err);
}

static bool read_members(struct arena *arena, const struct place *root,
                         enum handover_line which, struct handover *handover,
                         struct error *err)
{
    const char *name;
    json_t *value;

    if (!place_is_object(root, err))
        return false;
    json_object_foreach(root->value, name, value)
    {
        struct place place = place_member(root, name, value);

        if (!read_member(arena, &place, which, handover, err))
            return false;
    }
    return true;
}

bool handover_parse(struct arena *arena, struct slice line,
                    enum handover_line which, struct handover *handover,
                    struct error *err)
{
    struct document document;
    struct place root;
    bool ok;

    *handover = (struct handover){.stop = false};
    if (!document_parse(&document, INPUT, line, err))
        return false;
    root = place_root(&document);
    ok = read_members(arena, &root, which, handover, err);
    document_release(&document);
    return ok;
}

/* Reading. */

bool handover_read(struct line_reader *input, int fd)
{
    char piece[LINE_PIECE_MAX];
    ssize_t size = read(fd, piece, sizeof(piece));

    if (size > 0)
        line_reader_add(input, slice_make(piece, (size_t)size));
    return size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool is_pipe(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 &&
           (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode));
}

static int64_t clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* False: err says what there is instead of the line. */
static bool await_line(struct line_reader *input, int fd, int64_t wait_ms,
                       struct slice *line, struct error *err)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    int64_t until = clock_ms() + wait_ms;
    enum line_read read;

    while ((read = line_reader_next(input, line)) == LINE_NONE) {
        int64_t left = until - clock_ms();

        if (left <= 0)
            return error_at(err, ERR_INVALID_REQUEST, INPUT,
                            "no line came within %lld ms", (long long)wait_ms);
        if (poll(&ready, 1, (int)left) == 1 && !handover_read(input, fd))
            return error_at(err, ERR_INVALID_REQUEST, INPUT,
                            "ended before its first line did");
    }
    return read == LINE_WHOLE ||
           error_at(err, ERR_INVALID_REQUEST, INPUT,
                    "the line is longer than %zu bytes", input->max);
}

bool handover_receive(struct line_reader *input, int fd, int64_t wait_ms,
                      struct arena *arena, struct handover *handover,
                      struct error *err)
{
    struct slice line;

    if (!is_pipe(fd))
        return error_at(err, ERR_INVALID_REQUEST, INPUT,
                        "--supervised needs a pipe here");
    return await_line(input, fd, wait_ms, &line, err) &&
           handover_parse(arena, line, HANDOVER_FIRST, handover, err);
}
