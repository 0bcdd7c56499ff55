/* Reads lines of the log back, strictly: logfmt by a parser of its own, JSON by
 * jansson. */
#ifndef LLM_ROUTER_TESTS_LOG_LINES_H
#define LLM_ROUTER_TESTS_LOG_LINES_H

#include <jansson.h>
#include <stdio.h>

#include "base/log_internal.h"
#include "llm_router/base/utf8.h"

enum { PAIRS_MAX = 32 };

struct pair {
    char key[64];
    char text[LOG_LINE_MAX]; /* as it was before it was escaped */
    size_t size;
};

struct pairs {
    struct pair of[PAIRS_MAX];
    size_t count;
};

/* The four digits behind "\u"; no surrogates, we write none. */
static inline bool read_code(const char *at, const char *end, struct pair *pair)
{
    unsigned code = 0;

    if (end - at < 4)
        return false;
    for (size_t i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = at[i] != '\0' ? strchr(digits, at[i]) : NULL;

        if (!digit)
            return false;
        code = code << 4 | (unsigned)(digit - digits);
    }
    pair->size += utf8_encode(code, pair->text + pair->size);
    return true;
}

/* Behind the first quote; NULL: malformed. */
static inline const char *read_quoted(const char *at, const char *end,
                                      struct pair *pair)
{
    static const char names[] = "\"\\nrt", meant[] = "\"\\\n\r\t";

    while (at < end && *at != '"') {
        const char *name;

        if ((unsigned char)*at < 0x20 || *at == 0x7F)
            return NULL;
        if (*at != '\\') {
            pair->text[pair->size++] = *at++;
            continue;
        }
        if (++at == end)
            return NULL;
        name = *at != '\0' ? strchr(names, *at) : NULL;
        if (name) {
            pair->text[pair->size++] = meant[name - names];
            at++;
            continue;
        }
        if (*at != 'u' || !read_code(at + 1, end, pair))
            return NULL;
        at += 5;
    }
    return at < end ? at + 1 : NULL;
}

static inline const char *read_bare(const char *at, const char *end,
                                    struct pair *pair)
{
    const char *start = at;

    while (at<end && * at> ' ' && *at < 0x7F && *at != '"' && *at != '=' &&
           *at != '\\')
        pair->text[pair->size++] = *at++;
    return at > start ? at : NULL;
}

static inline const char *read_pair(const char *at, const char *end,
                                    struct pair *pair)
{
    size_t size = 0;

    while (at < end && ((*at >= 'a' && *at <= 'z') || *at == '_') &&
           size < sizeof(pair->key) - 1)
        pair->key[size++] = *at++;
    pair->key[size] = '\0';
    pair->size = 0;
    if (size == 0 || at == end || *at++ != '=' || at == end)
        return NULL;
    return *at == '"' ? read_quoted(at + 1, end, pair)
                      : read_bare(at, end, pair);
}

/* A whole line with its newline. */
static inline bool read_logfmt(struct slice line, struct pairs *pairs)
{
    const char *at = line.data, *end = line.data + line.size - 1;

    pairs->count = 0;
    if (line.size == 0 || *end != '\n' || !utf8_is_valid(line))
        return false;
    while (pairs->count < PAIRS_MAX) {
        at = read_pair(at, end, &pairs->of[pairs->count]);
        if (!at)
            return false;
        pairs->count++;
        if (at == end)
            return true;
        if (*at++ != ' ')
            return false;
    }
    return false;
}

static inline bool read_member(const char *key, const json_t *value,
                               struct pair *pair)
{
    int size = 0;

    snprintf(pair->key, sizeof(pair->key), "%s", key);
    if (json_is_string(value)) {
        size = (int)json_string_length(value);
        memcpy(pair->text, json_string_value(value), (size_t)size);
    } else if (json_is_integer(value)) {
        size = snprintf(pair->text, 32, "%lld",
                        (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        size = snprintf(pair->text, 32, "%.6g", json_real_value(value));
    } else if (json_is_null(value)) {
        size = snprintf(pair->text, 32, "null");
    }
    pair->size = (size_t)size;
    return size > 0 || json_is_string(value);
}

static inline bool read_json(struct slice line, struct pairs *pairs)
{
    bool ok = line.size > 0 &&
              memchr(line.data, '\n', line.size) == line.data + line.size - 1;
    json_t *root = json_loadb(line.data, line.size,
                              JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    const char *key;
    json_t *value;

    pairs->count = 0;
    ok = ok && json_is_object(root);
    json_object_foreach(root, key, value)
    {
        if (ok && pairs->count < PAIRS_MAX)
            ok = read_member(key, value, &pairs->of[pairs->count++]);
    }
    json_decref(root);
    return ok;
}

static inline bool read_line(enum log_format format, struct slice line,
                             struct pairs *pairs)
{
    return format == LOG_JSON ? read_json(line, pairs)
                              : read_logfmt(line, pairs);
}

/* NULL: there is none. */
static inline const struct pair *pair_of(const struct pairs *pairs,
                                         const char *key)
{
    for (size_t i = 0; i < pairs->count; i++)
        if (!strcmp(pairs->of[i].key, key))
            return &pairs->of[i];
    return NULL;
}

static inline struct slice value_of(const struct pairs *pairs, const char *key)
{
    const struct pair *pair = pair_of(pairs, key);

    return pair ? slice_make(pair->text, pair->size) : slice_of("(none)");
}

#endif
