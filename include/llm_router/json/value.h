/* JSON values in an arena, and the reader that makes them.
 *
 * This is the reader of the per-call path: what a provider or a model wrote.
 * It differs from a general library in what a paid answer needs: text is
 * repaired instead of refused, and a cut document can give what was complete.
 * Configuration files use jansson.
 *
 * Repair of text: bytes that are not UTF-8 and lone surrogates become U+FFFD,
 * NUL is dropped, raw control characters are kept (models write line breaks
 * inside strings), an escape that JSON does not know ("\d") is kept as it is
 * written. Everything else is RFC 8259 to the letter.
 *
 * Names begin with `jv` because jansson owns `json_`. Values are immutable
 * after parsing, live in the arena, and their text borrows from the input
 * where no escape had to be decoded: keep the input as long as the values. */
#ifndef LLM_ROUTER_JSON_VALUE_H
#define LLM_ROUTER_JSON_VALUE_H

#include "llm_router/base/arena.h"
#include "llm_router/base/buf.h"
#include "llm_router/base/error.h"

enum jv_type {
    JV_NULL,
    JV_BOOLEAN,
    JV_INTEGER, /* no fraction, no exponent, fits int64_t */
    JV_REAL,    /* any other finite number */
    JV_STRING,
    JV_ARRAY,
    JV_OBJECT,
};

struct jv_member;

struct jv {
    enum jv_type type;
    bool complete; /* false: the text ended inside it (JV_PARTIAL) */
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct slice string; /* clean UTF-8 without NUL */
        struct {
            struct jv *items;
            size_t count;
        } array;
        struct {
            struct jv_member *members; /* distinct keys, in text order */
            size_t count;
        } object;
    } as;
};

struct jv_member {
    struct slice key;
    struct jv value;
};

enum {
    JV_STRICT = 0,
    /* Ends of input inside a value keep what was read: an unfinished element
     * is there with complete == false, an unfinished string has its prefix, an
     * unfinished word or number is null (the prefix of a number is another
     * number); a key without a value is dropped. */
    JV_PARTIAL = 1,
    JV_TRAILING_COMMA = 2, /* [1,] and {"a":1,}, which models write */
};

struct jv_limits {
    size_t max_bytes;
    uint32_t max_depth;  /* arrays and objects around a value; <= 1024 */
    uint32_t max_values; /* of all kinds, in the whole document */
};

extern const struct jv_limits JV_DEFAULT_LIMITS; /* 32 MiB, 128, 2 million */

/* The value at the front of `text` after white space (and a byte order mark).
 * `*used` (may be NULL) gets the bytes taken; with used == NULL only white
 * space may follow. ERR_BAD_RESPONSE with the byte offset in the message,
 * ERR_TOO_LARGE over max_bytes or max_values. The arena may then hold remains.
 * Of duplicate keys the last value wins, at the first one's place. Numbers
 * that overflow a double are an error; integers over int64_t become reals. */
bool jv_parse(struct arena *arena, struct slice text, unsigned flags,
              const struct jv_limits *limits, size_t *used, struct jv **value,
              struct error *err);

/* NULL if `object` is NULL, not an object or has no such key. Inline: the
 * length of a literal is known. */
const struct jv *jv_find_key(const struct jv *object, struct slice key);
static inline const struct jv *jv_find(const struct jv *object, const char *key)
{
    return jv_find_key(object, slice_of(key));
}

/* What is there, or the default: for reading strangers' documents. All accept
 * NULL. jv_integer takes reals without a fraction too. */
struct slice jv_string(const struct jv *value); /* else empty */
bool jv_is_string(const struct jv *value);
int64_t jv_integer(const struct jv *value, int64_t otherwise);
double jv_number(const struct jv *value, double otherwise);
bool jv_boolean(const struct jv *value, bool otherwise);
size_t jv_count(const struct jv *value); /* array or object */
const struct jv *jv_at(const struct jv *array, size_t index);
bool jv_equal(const struct jv *a, const struct jv *b); /* 1 equals 1.0 */
const char *jv_type_name(const struct jv *value);      /* "string", ... */

/* Writing: straight text, no tree. `text` of jv_put_string is UTF-8. */
void jv_put(struct buf *out, const struct jv *value);
void jv_put_string(struct buf *out, struct slice text); /* with quotes */

/* 15 to 17 digits, as few as read back as the same double; whole numbers up to
 * 2^53 without an exponent. `value` is finite, else `out` fails. */
void jv_put_number(struct buf *out, double value);

#endif
