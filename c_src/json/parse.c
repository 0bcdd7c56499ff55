#include "llm_router/json/value.h"

#include <math.h>
#include <stdlib.h>

#include "json/json_internal.h"

const struct jv_limits JV_DEFAULT_LIMITS = {
    .max_bytes = 32 * 1024 * 1024,
    .max_depth = 128,
    .max_values = 2 * 1000 * 1000,
};

enum {
    END = -1,            /* what peek gives behind the last byte */
    FEW_MEMBERS = 32,    /* up to here comparing all pairs of keys is cheaper */
    NUMBER_SIZE = 64,    /* longer numbers are copied to the arena */
    PENDING_SIZE = 1024, /* enough for one chunk of a stream */
};

struct parser {
    struct arena *arena;
    const char *start, *at, *end;
    unsigned flags;
    uint32_t max_depth;
    uint32_t values_left;
    struct buf pending; /* elements of the containers that are still open */
    struct error *err;
};

/* What comes behind an opening bracket or an element. */
enum step {
    STEP_ELEMENT,
    STEP_CLOSED,
    STEP_CUT, /* the end of the input, and JV_PARTIAL allows it */
    STEP_BAD,
};

static bool parse_value(struct parser *p, uint32_t depth, struct jv *value);

static bool fail(struct parser *p, const char *what)
{
    return error_set(p->err, ERR_BAD_RESPONSE, "JSON: %s at byte %td", what,
                     p->at - p->start);
}

/* At the end of the input inside a value. */
static bool cut_is_fine(struct parser *p)
{
    return (p->flags & JV_PARTIAL) || fail(p, "the text ends too early");
}

/* Skips white space; the byte there, or END. */
static inline int peek(struct parser *p)
{
    if (p->at < p->end && (unsigned char)*p->at > ' ')
        return (unsigned char)*p->at;
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' ||
                              *p->at == '\r' || *p->at == '\t'))
        p->at++;
    return p->at < p->end ? (unsigned char)*p->at : END;
}

static enum step step_cut(struct parser *p)
{
    return cut_is_fine(p) ? STEP_CUT : STEP_BAD;
}

/* Over the opening bracket. */
static enum step step_in(struct parser *p, char close)
{
    int next;

    p->at++;
    next = peek(p);
    if (next == END)
        return step_cut(p);
    if (next != close)
        return STEP_ELEMENT;
    p->at++;
    return STEP_CLOSED;
}

/* From one element to the next. */
static enum step step_on(struct parser *p, char close)
{
    int next = peek(p);

    if (next == ',') {
        p->at++;
        next = peek(p);
        if (next != END && !(next == close && p->flags & JV_TRAILING_COMMA))
            return STEP_ELEMENT;
    }
    if (next == END)
        return step_cut(p);
    if (next != close) {
        fail(p, "a comma or the closing bracket is missing");
        return STEP_BAD;
    }
    p->at++;
    return STEP_CLOSED;
}

/* `p->at` is at the opening quote. *closed: the closing quote was there. */
static bool parse_string(struct parser *p, struct slice *text, bool *closed)
{
    const char *from = p->at + 1;
    const char *at =
        from + json_ascii_run(slice_make(from, (size_t)(p->end - from)));

    if (at < p->end && *at == '"') {
        *closed = true;
        p->at = at + 1;
        *text = slice_make(from, (size_t)(at - from));
        return true;
    }
    while (at < p->end) {
        at += json_plain_run(slice_make(at, (size_t)(p->end - at)));
        if (at == p->end || *at == '"')
            break;
        at += *at == '\\' && at + 1 < p->end ? 2 : 1;
    }
    *closed = at < p->end;
    p->at = *closed ? at + 1 : p->end;
    *text =
        json_text(p->arena, slice_make(from, (size_t)(at - from)), !*closed);
    return *closed || cut_is_fine(p);
}

static bool parse_word(struct parser *p, const char *word, bool *whole)
{
    size_t size = strlen(word);
    size_t left = (size_t)(p->end - p->at);

    if (memcmp(p->at, word, left < size ? left : size) != 0)
        return fail(p, "an unknown word");
    *whole = left >= size;
    p->at += *whole ? size : left;
    return *whole || cut_is_fine(p);
}

static bool parse_boolean(struct parser *p, bool boolean, struct jv *value)
{
    if (!parse_word(p, boolean ? "true" : "false", &value->complete))
        return false;
    if (value->complete) {
        value->type = JV_BOOLEAN;
        value->as.boolean = boolean;
    }
    return true;
}

/* Over one or more digits. */
static bool skip_digits(const char **at, const char *end)
{
    const char *from = *at;

    while (*at < end && **at >= '0' && **at <= '9')
        (*at)++;
    return *at > from;
}

/* Moves *at over a number as RFC 8259, section 6, has it. False where *at
 * leaves that grammar, which may be the end. */
static bool skip_number(const char **at, const char *end, bool *whole)
{
    *whole = true;
    if (**at == '-')
        (*at)++;
    if (*at < end && **at == '0')
        (*at)++;
    else if (!skip_digits(at, end))
        return false;
    if (*at < end && **at == '.') {
        *whole = false;
        (*at)++;
        if (!skip_digits(at, end))
            return false;
    }
    if (*at < end && (**at == 'e' || **at == 'E')) {
        *whole = false;
        (*at)++;
        if (*at < end && (**at == '+' || **at == '-'))
            (*at)++;
        return skip_digits(at, end);
    }
    return true;
}

/* strtod is exact and, as nothing calls setlocale, reads the C locale. It
 * needs a NUL behind the number. */
static double read_real(struct parser *p, struct slice text)
{
    char number[NUMBER_SIZE];
    struct arena_mark mark;
    double real;

    if (text.size < sizeof(number)) {
        memcpy(number, text.data, text.size);
        number[text.size] = '\0';
        return strtod(number, NULL);
    }
    mark = arena_mark(p->arena);
    real = strtod(arena_text(p->arena, text), NULL);
    arena_rewind(p->arena, mark);
    return real;
}

static bool parse_number(struct parser *p, uint32_t depth, struct jv *value)
{
    const char *from = p->at;
    bool whole;
    bool valid = skip_number(&p->at, p->end, &whole);
    struct slice text = slice_make(from, (size_t)(p->at - from));

    /* Inside a container more digits might have followed the cut. */
    if (p->at == p->end && (!valid || depth > 0)) {
        value->complete = false;
        return cut_is_fine(p);
    }
    if (!valid)
        return fail(p, "a malformed number");
    if (whole && slice_to_int64(text, &value->as.integer)) {
        value->type = JV_INTEGER;
        return true;
    }
    value->type = JV_REAL;
    value->as.real = read_real(p, text);
    if (!isfinite(value->as.real)) {
        p->at = from;
        return fail(p, "a number out of range");
    }
    return true;
}

/* Moves what was pushed since `base` from the pending elements to the arena. Of
 * a document of many values that is mostly one list, all that is pending. */
static void *take_pending(struct parser *p, size_t base, size_t element_size,
                          size_t *count)
{
    size_t size = p->pending.size - base;
    void *elements;

    *count = size / element_size;
    if (size == 0)
        return NULL;
    if (base == 0 && size >= ARENA_KEEPS) {
        elements = p->pending.data;
        arena_keep(p->arena, &p->pending);
        return elements;
    }
    elements = arena_array(p->arena, *count, element_size);
    memcpy(elements, p->pending.data + base, size);
    p->pending.size = base;
    return elements;
}

/* Of a constant size, so that it is a few moves and no call. */
static inline void push(struct parser *p, const void *element, size_t size)
{
    if (size > p->pending.capacity - p->pending.size &&
        !buf_reserve(&p->pending, PENDING_SIZE))
        return;
    memcpy(p->pending.data + p->pending.size, element, size);
    p->pending.size += size;
}

static bool parse_array(struct parser *p, uint32_t depth, struct jv *value)
{
    size_t base = p->pending.size;
    enum step step = step_in(p, ']');

    while (step == STEP_ELEMENT) {
        struct jv item;

        if (!parse_value(p, depth + 1, &item))
            return false;
        push(p, &item, sizeof(item));
        step = item.complete ? step_on(p, ']') : STEP_CUT;
    }
    value->type = JV_ARRAY;
    value->complete = step == STEP_CLOSED;
    value->as.array.items =
        take_pending(p, base, sizeof(struct jv), &value->as.array.count);
    return step != STEP_BAD;
}

/* Marks a member that a later one of the same key replaced. */
static const char REPLACED[1];

static void replace_member(struct jv_member *first, struct jv_member *last)
{
    first->value = last->value;
    last->key = slice_make(REPLACED, 0);
}

static void join_few(struct jv_member *members, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (slice_equal(members[j].key, members[i].key) &&
                members[j].key.data != REPLACED) {
                replace_member(&members[j], &members[i]);
                break;
            }
        }
    }
}

/* n log n, whatever keys a stranger chose. */
static void join_many(struct arena *arena, struct jv_member *members,
                      size_t count)
{
    struct arena_mark mark = arena_mark(arena);
    const struct jv_member **sorted =
        arena_array(arena, count, sizeof(*sorted));
    size_t first = 0;

    for (size_t i = 0; i < count; i++)
        sorted[i] = &members[i];
    json_sort_members(sorted, count);
    for (size_t i = 1; i < count; i++) {
        if (slice_equal(sorted[first]->key, sorted[i]->key))
            replace_member(&members[sorted[first] - members],
                           &members[sorted[i] - members]);
        else
            first = i;
    }
    arena_rewind(arena, mark);
}

/* Of duplicate keys the last value goes to the first one's place. */
static size_t join_duplicates(struct arena *arena, struct jv_member *members,
                              size_t count)
{
    size_t kept = 0;

    if (count <= FEW_MEMBERS)
        join_few(members, count);
    else
        join_many(arena, members, count);
    for (size_t i = 0; i < count; i++)
        if (members[i].key.data != REPLACED)
            members[kept++] = members[i];
    return kept;
}

/* A key, its colon and its value. */
static enum step parse_member(struct parser *p, uint32_t depth)
{
    struct jv_member member;
    bool closed;
    int next;

    if (*p->at != '"') {
        fail(p, "a key is missing");
        return STEP_BAD;
    }
    if (!parse_string(p, &member.key, &closed))
        return STEP_BAD;
    next = closed ? peek(p) : END;
    if (next == ':') {
        p->at++;
        next = peek(p);
    } else if (next != END) {
        fail(p, "a colon is missing");
        return STEP_BAD;
    }
    if (next == END)
        return step_cut(p);
    if (!parse_value(p, depth + 1, &member.value))
        return STEP_BAD;
    push(p, &member, sizeof(member));
    return member.value.complete ? step_on(p, '}') : STEP_CUT;
}

static bool parse_object(struct parser *p, uint32_t depth, struct jv *value)
{
    size_t base = p->pending.size;
    enum step step = step_in(p, '}');
    struct jv_member *members;
    size_t count;

    while (step == STEP_ELEMENT)
        step = parse_member(p, depth);
    if (step == STEP_BAD)
        return false;
    members = take_pending(p, base, sizeof(*members), &count);
    value->type = JV_OBJECT;
    value->complete = step == STEP_CLOSED;
    value->as.object.members = members;
    value->as.object.count = join_duplicates(p->arena, members, count);
    return true;
}

/* `depth` counts the containers around the value. */
static bool parse_value(struct parser *p, uint32_t depth, struct jv *value)
{
    int next = peek(p);

    if (p->values_left == 0)
        return error_set(p->err, ERR_TOO_LARGE, "JSON: too many values");
    p->values_left--;
    *value = (struct jv){.type = JV_NULL, .complete = true};
    switch (next) {
    case '{':
    case '[':
        if (depth >= p->max_depth)
            return fail(p, "nested too deeply");
        return next == '{' ? parse_object(p, depth, value)
                           : parse_array(p, depth, value);
    case '"':
        value->type = JV_STRING;
        return parse_string(p, &value->as.string, &value->complete);
    case 't':
    case 'f':
        return parse_boolean(p, next == 't', value);
    case 'n':
        return parse_word(p, "null", &value->complete);
    default:
        if (next != '-' && (next < '0' || next > '9'))
            return fail(p, "no value");
        return parse_number(p, depth, value);
    }
}

static bool parse_document(struct parser *p, size_t *used, struct jv *root)
{
    static const char BYTE_ORDER_MARK[] = "\xEF\xBB\xBF";

    if (slice_starts_with(slice_make(p->at, (size_t)(p->end - p->at)),
                          BYTE_ORDER_MARK))
        p->at += sizeof(BYTE_ORDER_MARK) - 1;
    if (!parse_value(p, 0, root))
        return false;
    if (used)
        *used = (size_t)(p->at - p->start);
    else if (peek(p) != END)
        return fail(p, "more text behind the value");
    return true;
}

bool jv_parse(struct arena *arena, struct slice text, unsigned flags,
              const struct jv_limits *limits, size_t *used, struct jv **value,
              struct error *err)
{
    const char *start = text.data ? text.data : "";
    struct parser p = {
        .arena = arena,
        .start = start,
        .at = start,
        .end = start + text.size,
        .flags = flags,
        .max_depth = limits->max_depth < JV_DEPTH_LIMIT ? limits->max_depth
                                                        : JV_DEPTH_LIMIT,
        .values_left = limits->max_values,
        .err = err,
    };
    bool parsed;

    if (text.size > limits->max_bytes)
        return error_set(err, ERR_TOO_LARGE, "JSON: %zu bytes, limit %zu",
                         text.size, limits->max_bytes);
    buf_init(&p.pending,
             PENDING_SIZE + sizeof(struct jv_member) * limits->max_values);
    *value = arena_alloc(arena, sizeof(**value));
    parsed = parse_document(&p, used, *value);
    buf_release(&p.pending);
    return parsed;
}
