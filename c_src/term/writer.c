#include "llm_router/term/writer.h"

#include <ei.h>
#include <math.h>

#include "llm_router/base/utf8.h"

enum {
    HEAD_MAX = 16, /* more than ei writes for a number or a header */
    BINARY_HEAD = 5,
    SMALL_ATOM_HEAD = 2,
    ATOM_MAX = 3 + MAXATOMLEN_UTF8,
};

/* Appends what ei encoded, or fails as ei did. */
static void put(struct buf *out, int result, const char *encoded, int size)
{
    if (result == 0)
        buf_append(out, encoded, (size_t)size);
    else
        out->failed = true;
}

void term_put_version(struct buf *out)
{
    char head[HEAD_MAX];
    int size = 0, result = ei_encode_version(head, &size);

    put(out, result, head, size);
}

/* ei converts letter by letter, which is most of the cost of a reply. */
static void put_small_atom(struct buf *out, struct slice name)
{
    char *atom;

    if (!buf_reserve(out, SMALL_ATOM_HEAD + name.size))
        return;
    atom = out->data + out->size;
    atom[0] = ERL_SMALL_ATOM_UTF8_EXT;
    atom[1] = (char)name.size;
    if (name.size > 0)
        memcpy(atom + SMALL_ATOM_HEAD, name.data, name.size);
    out->size += SMALL_ATOM_HEAD + name.size;
}

void term_put_atom_slice(struct buf *out, struct slice name)
{
    char atom[ATOM_MAX];
    int size = 0, result = -1;

    /* ei lets overlong forms and surrogates pass. */
    if (name.size < MAXATOMLEN_UTF8 && utf8_is_valid(name)) {
        if (name.size <= UINT8_MAX) {
            put_small_atom(out, name);
            return;
        }
        result = ei_encode_atom_len_as(atom, &size, name.data, (int)name.size,
                                       ERLANG_UTF8, ERLANG_UTF8);
    }
    put(out, result, atom, size);
}

void term_put_boolean(struct buf *out, bool value)
{
    term_put_atom(out, value ? "true" : "false");
}

void term_put_integer(struct buf *out, int64_t value)
{
    char head[HEAD_MAX];
    int size = 0, result = ei_encode_longlong(head, &size, value);

    put(out, result, head, size);
}

void term_put_float(struct buf *out, double value)
{
    char head[HEAD_MAX];
    int size = 0, result = -1;

    if (isfinite(value))
        result = ei_encode_double(head, &size, value);
    put(out, result, head, size);
}

void term_put_binary(struct buf *out, struct slice bytes)
{
    int size = 0;

    if (bytes.size > INT32_MAX - BINARY_HEAD) {
        out->failed = true;
        return;
    }
    if (!buf_reserve(out, BINARY_HEAD + bytes.size))
        return;
    ei_encode_binary(out->data + out->size, &size, bytes.data,
                     (long)bytes.size);
    out->size += (size_t)size;
}

void term_put_text(struct buf *out, const char *text)
{
    term_put_binary(out, slice_of(text));
}

static void put_count(struct buf *out, size_t count,
                      int (*encode)(char *, int *, int))
{
    char head[HEAD_MAX];
    int size = 0, result = -1;

    if (count <= INT32_MAX)
        result = encode(head, &size, (int)count);
    put(out, result, head, size);
}

void term_put_tuple(struct buf *out, size_t arity)
{
    put_count(out, arity, ei_encode_tuple_header);
}

void term_put_list(struct buf *out, size_t length)
{
    if (length > 0)
        put_count(out, length, ei_encode_list_header);
}

void term_put_nil(struct buf *out)
{
    buf_append_byte(out, ERL_NIL_EXT);
}

void term_put_map(struct buf *out, size_t pairs)
{
    put_count(out, pairs, ei_encode_map_header);
}

void term_put_raw(struct buf *out, struct slice raw)
{
    buf_append_slice(out, raw);
}

static void put_word(struct buf *out, uint32_t word)
{
    const char bytes[] = {(char)(word >> 24), (char)(word >> 16),
                          (char)(word >> 8), (char)word};

    buf_append(out, bytes, sizeof(bytes));
}

/* By hand, because ei's erlang_pid and erlang_ref are 1 KiB to fill first. */
void term_put_pid(struct buf *out, struct slice node, uint32_t id,
                  uint32_t serial, uint32_t creation)
{
    buf_append_byte(out, ERL_NEW_PID_EXT);
    term_put_atom_slice(out, node);
    put_word(out, id);
    put_word(out, serial);
    put_word(out, creation);
}

void term_put_reference(struct buf *out, struct slice node, uint32_t creation,
                        const uint32_t *words, size_t count)
{
    const char head[] = {ERL_NEWER_REFERENCE_EXT, 0, (char)count};

    buf_append(out, head, sizeof(head));
    term_put_atom_slice(out, node);
    put_word(out, creation);
    for (size_t i = 0; i < count; i++)
        put_word(out, words[i]);
}
