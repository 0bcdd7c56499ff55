/* The reader is total on checked bytes, and what it says, written again, is
 * the same term. */
#include "llm_router/term/reader.h"

#include <ei.h>
#include <stdlib.h>

#include "llm_router/base/utf8.h"
#include "llm_router/term/writer.h"
#include "tests/external.h"

enum { TEXT_MAX = 4096, WRITTEN_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void copy_term(struct term term, struct buf *out);

static void copy_elements(struct term element, uint32_t count, struct buf *out)
{
    for (; count > 0; count--) {
        copy_term(element, out);
        element = term_next(element);
    }
}

static void copy_list(struct term term, struct buf *out)
{
    struct term_list list;
    struct term element = term;
    uint32_t count;

    require(term_list(term, &list));
    count = list.left;
    term_put_list(out, count);
    while (term_list_next(&list, &element)) {
        require(list.left == --count);
        copy_term(element, out);
    }
    if (list.proper)
        term_put_nil(out);
    else
        copy_term(term_next(element), out);
}

static void copy_number(struct term term, struct buf *out)
{
    int64_t integer;
    double real;

    if (term_kind(term) == TERM_BIG) {
        term_float(term, &real);
        require(!term_integer(term, &integer));
        term_put_raw(out, term_raw(term));
        return;
    }
    require(term_float(term, &real));
    if (term_integer(term, &integer))
        term_put_integer(out, integer);
    else
        term_put_float(out, real);
}

/* The two old tags hold Latin-1, which the writer has no need of. */
static void copy_atom(struct term term, struct buf *out)
{
    bool utf8 =
        *term.at == ERL_SMALL_ATOM_UTF8_EXT || *term.at == ERL_ATOM_UTF8_EXT;
    struct slice name;
    bool boolean;

    require(term_atom(term, &name));
    require(term_is_atom(term, "true") == slice_is(name, "true"));
    if (term_boolean(term, &boolean))
        term_put_boolean(out, boolean);
    else if (utf8)
        term_put_atom_slice(out, name);
    else
        term_put_raw(out, term_raw(term));
}

static void copy_map(struct term term, struct buf *out)
{
    struct term first, value;
    uint32_t pairs;

    require(term_map(term, &pairs, &first));
    if (term_map_find(term, "a", &value))
        require(pairs > 0 && value.at > first.at);
    term_put_map(out, pairs);
    copy_elements(first, 2 * pairs, out);
}

static void copy_tuple(struct term term, struct buf *out)
{
    struct term first;
    uint32_t arity;

    require(term_tuple(term, &arity, &first));
    require(term_tuple_of(term, arity, NULL));
    require(!term_tuple_of(term, arity + 1, NULL));
    term_put_tuple(out, arity);
    copy_elements(first, arity, out);
}

static void try_text(struct term term)
{
    struct error err = {.code = ERR_NONE};
    struct slice text = slice_of("");
    struct arena arena;

    arena_init(&arena, 0);
    if (term_text(term, TEXT_MAX, &arena, &text, &err))
        require(text.size <= TEXT_MAX && utf8_is_valid(text));
    else
        require(err.code == ERR_INVALID_REQUEST || err.code == ERR_TOO_LARGE);
    arena_release(&arena);
}

static void copy_term(struct term term, struct buf *out)
{
    struct slice bytes;

    require(term_kind_name(term) != NULL);
    require(term_node(term, &bytes) ==
            (term_kind(term) == TERM_PID || term_kind(term) == TERM_PORT ||
             term_kind(term) == TERM_REFERENCE));
    switch (term_kind(term)) {
    case TERM_INTEGER:
    case TERM_BIG:
    case TERM_FLOAT:
        copy_number(term, out);
        return;
    case TERM_ATOM:
        copy_atom(term, out);
        return;
    case TERM_BINARY:
        require(term_binary(term, &bytes));
        term_put_binary(out, bytes);
        return;
    case TERM_TUPLE:
        copy_tuple(term, out);
        return;
    case TERM_NIL:
    case TERM_LIST:
    case TERM_STRING:
        try_text(term);
        copy_list(term, out);
        return;
    case TERM_MAP:
        copy_map(term, out);
        return;
    case TERM_BITSTRING:
    case TERM_PID:
    case TERM_PORT:
    case TERM_REFERENCE:
    case TERM_FUN:
        term_put_raw(out, term_raw(term));
        return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Deeper would cost n * d without finding more. */
    static const struct term_limits LIMITS = {WRITTEN_MAX, 32};
    /* A string of small integers is written as a list of them. */
    static const struct term_limits WRITTEN = {WRITTEN_MAX, 33};
    struct slice bytes = slice_make(data, size);
    struct error err;
    struct buf once, twice;

    if (!external_check(bytes, &LIMITS, &err))
        return 0;
    require(term_next(external_term(bytes)).at == bytes.data + bytes.size);
    try_text(external_term(bytes));
    buf_init(&once, WRITTEN_MAX);
    buf_init(&twice, WRITTEN_MAX);
    term_put_version(&once);
    copy_term(external_term(bytes), &once);
    if (!once.failed) {
        require(external_check(buf_slice(&once), &WRITTEN, &err));
        term_put_version(&twice);
        copy_term(external_term(buf_slice(&once)), &twice);
        require(slice_equal(buf_slice(&once), buf_slice(&twice)));
    }
    buf_release(&once);
    buf_release(&twice);
    return 0;
}
