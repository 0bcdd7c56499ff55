#include <ei.h>

#include "llm_router/base/utf8.h"
#include "llm_router/term/reader.h"
#include "term/shape_internal.h"

/* Joins chardata: once without `out` to learn the size, once to write. */
struct joiner {
    char *out; /* NULL: only count */
    size_t size, max_bytes;
    uint32_t depth;
    uint32_t left[TERM_DEPTH_LIMIT]; /* elements to come, with the tail */
    struct error *err;
};

static bool add(struct joiner *joiner, const char *bytes, size_t size)
{
    if (size > joiner->max_bytes - joiner->size)
        return error_set(joiner->err, ERR_TOO_LARGE,
                         "a text over the limit of %zu bytes",
                         joiner->max_bytes);
    if (joiner->out && size > 0)
        memcpy(joiner->out + joiner->size, bytes, size);
    joiner->size += size;
    return true;
}

static bool add_code_point(struct joiner *joiner, int64_t code_point)
{
    char bytes[4];
    size_t size = 0;

    if (code_point >= 0 && code_point <= 0x10FFFF)
        size = utf8_encode((uint32_t)code_point, bytes);
    if (size == 0)
        return error_set(joiner->err, ERR_INVALID_REQUEST,
                         "must be text, but holds the integer %lld, which is "
                         "no character",
                         (long long)code_point);
    return add(joiner, bytes, size);
}

static bool add_string(struct joiner *joiner, struct term term)
{
    struct term_list list;
    struct term element;
    int64_t code_point;

    term_list(term, &list);
    while (term_list_next(&list, &element))
        if (!term_integer(element, &code_point) ||
            !add_code_point(joiner, code_point))
            return false;
    return true;
}

static bool refuse(struct joiner *joiner, struct term term, bool is_tail)
{
    const char *kind = term_kind_name(term);

    if (is_tail)
        return error_set(joiner->err, ERR_INVALID_REQUEST,
                         "must be text, but holds an improper list");
    if (joiner->depth > 0)
        return error_set(joiner->err, ERR_INVALID_REQUEST,
                         "must be text, but holds a term of type %s", kind);
    return error_set(joiner->err, ERR_INVALID_REQUEST,
                     "must be text (binary, charlist or iodata), not a term of "
                     "type %s",
                     kind);
}

/* One term of the text; of a list only the head, its elements follow. A tail
 * may be a binary: [$a | <<"b">>] is iodata. */
static bool add_term(struct joiner *joiner, struct term term, bool is_tail)
{
    struct slice bytes;
    int64_t code_point;

    if (*term.at == ERL_NIL_EXT)
        return true;
    if (term_binary(term, &bytes))
        return add(joiner, bytes.data, bytes.size);
    if (*term.at == ERL_STRING_EXT && !is_tail)
        return add_string(joiner, term);
    if (*term.at == ERL_LIST_EXT && !is_tail &&
        joiner->depth < TERM_DEPTH_LIMIT) {
        joiner->left[joiner->depth++] = term_load32(term.at + 1) + 1;
        return true;
    }
    if (joiner->depth > 0 && !is_tail && term_integer(term, &code_point))
        return add_code_point(joiner, code_point);
    return refuse(joiner, term, is_tail);
}

static bool join(struct joiner *joiner, struct term term)
{
    joiner->size = 0;
    joiner->depth = 0;
    do {
        uint32_t depth = joiner->depth;
        bool is_tail = depth > 0 && joiner->left[depth - 1] == 1;
        struct term_shape shape;

        if (!add_term(joiner, term, is_tail) ||
            term_shape(term.at, term.end, &shape) != NULL)
            return false;
        term.at += shape.size;
        if (joiner->depth > depth)
            continue;
        while (joiner->depth > 0 && --joiner->left[joiner->depth - 1] == 0)
            joiner->depth--;
    } while (joiner->depth > 0);
    return true;
}

static size_t valid_bytes(struct slice text)
{
    size_t at = 0, size;

    while ((size = utf8_char_size(slice_make(text.data + at, text.size - at))) >
           0)
        at += size;
    return at;
}

bool term_text(struct term term, size_t max_bytes, struct arena *arena,
               struct slice *text, struct error *err)
{
    struct joiner joiner = {.max_bytes = max_bytes, .err = err};
    struct slice joined;

    if (!join(&joiner, term))
        return false;
    if (!term_binary(term, &joined)) {
        size_t size = joiner.size;

        joiner.out = arena_bytes(arena, size);
        join(&joiner, term);
        joined = slice_make(joiner.out, size);
    }
    if (!utf8_is_valid(joined))
        return error_set(err, ERR_INVALID_REQUEST,
                         "must be UTF-8, which ends at byte %zu",
                         valid_bytes(joined));
    *text = joined;
    return true;
}
