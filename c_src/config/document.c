#include <stdarg.h>
#include <stdio.h>

#include "config/config_internal.h"
#include "llm_router/base/utf8.h"
#include "llm_router/config/files.h"

enum {
    DEPTH_MAX = 8,       /* of what our files hold */
    SHOWN_FILE_MAX = 72, /* bytes of a file's name in a message: its end */
    SHOWN_PATH_MAX = 64,
};

/* jansson quotes the word that it stumbled over: a secret may be there that
 * does not belong there. */
static int unquoted_size(const char *text)
{
    const char *quotation = strstr(text, " near '");

    return (int)(quotation ? (size_t)(quotation - text) : strlen(text));
}

static bool parse(struct document *document, struct slice text,
                  struct error *err)
{
    json_error_t where;

    document->root =
        json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, &where);
    return document->root ||
           error_at(err, ERR_INVALID_REQUEST, document->file,
                    "line %d, column %d: %.*s", where.line, where.column,
                    unquoted_size(where.text), where.text);
}

bool document_read(struct document *document, struct arena *arena,
                   const char *file, size_t max_bytes, struct error *err)
{
    *document = (struct document){.file = file};
    return file_read(arena, file, max_bytes, FILE_ANY, &document->text, err) &&
           parse(document, document->text, err);
}

bool document_parse(struct document *document, const char *name,
                    struct slice text, struct error *err)
{
    *document = (struct document){.file = name};
    return parse(document, text, err);
}

void document_release(struct document *document)
{
    json_decref(document->root);
}

struct place place_root(const struct document *document)
{
    return (struct place){.document = document, .value = document->root};
}

struct place place_member(const struct place *parent, const char *key,
                          json_t *value)
{
    return (struct place){parent->document, parent, key, 0, value};
}

struct place place_element(const struct place *parent, size_t index)
{
    return (struct place){parent->document, parent, NULL, index,
                          json_array_get(parent->value, index)};
}

static void put_path(const struct place *place, struct buf *out)
{
    if (!place->parent)
        return;
    put_path(place->parent, out);
    if (!place->key) {
        buf_printf(out, "[%zu]", place->index);
        return;
    }
    if (out->size > 0)
        buf_append_byte(out, '.');
    buf_append_text(out, place->key);
}

/* What a stranger wrote must not become a second line, nor half a
 * character. */
static void make_printable(char *text)
{
    struct slice whole = slice_of(text);

    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F)
            *c = '?';
    text[utf8_cut(whole, whole.size).size] = '\0';
}

static bool find(const struct place *place, enum locate_target target,
                 struct location *location)
{
    struct locate_step steps[DEPTH_MAX];
    size_t depth = 0;

    for (const struct place *at = place; at->parent; at = at->parent) {
        if (depth == DEPTH_MAX)
            return false;
        steps[DEPTH_MAX - ++depth] = (struct locate_step){at->key, at->index};
    }
    return locate(place->document->text, steps + DEPTH_MAX - depth, depth,
                  target, location);
}

/* "FILE: line 4, column 7", or the name alone of what is no file. */
static void describe(const struct place *place, enum locate_target target,
                     char *out, size_t room)
{
    struct location location = {0, 1, 1};
    const char *file = place->document->file;
    size_t size = strlen(file);

    if (!place->document->text.data) {
        snprintf(out, room, "%s", file);
        return;
    }
    find(place, target, &location);
    snprintf(out, room, "%s%s: line %zu, column %zu",
             size > SHOWN_FILE_MAX ? "..." : "",
             size > SHOWN_FILE_MAX ? file + size - SHOWN_FILE_MAX : file,
             location.line, location.column);
}

static bool fault_at(const struct place *place, enum locate_target target,
                     const char *what, struct error *err)
{
    char where[SHOWN_FILE_MAX + 64];
    struct buf path;

    buf_init(&path, 64 * 1024);
    put_path(place, &path);
    buf_append_byte(&path, '\0');
    describe(place, target, where, sizeof(where));
    if (path.failed || path.size == 1)
        error_at(err, ERR_INVALID_REQUEST, place->document->file, "%s", what);
    else
        error_at(err, ERR_INVALID_REQUEST, path.data, "%s: %.*s: %s", where,
                 SHOWN_PATH_MAX, path.data, what);
    buf_release(&path);
    make_printable(err->path);
    make_printable(err->message);
    return false;
}

bool place_fault(const struct place *place, struct error *err,
                 const char *format, ...)
{
    char what[ERROR_MESSAGE_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    return fault_at(place, LOCATE_VALUE, what, err);
}

bool place_key_fault(const struct place *place, struct error *err,
                     const char *what)
{
    return fault_at(place, LOCATE_KEY, what, err);
}

bool place_is_object(const struct place *place, struct error *err)
{
    return json_is_object(place->value) ||
           place_fault(place, err, "must be an object");
}

bool place_is_array(const struct place *place, struct error *err)
{
    return json_is_array(place->value) ||
           place_fault(place, err, "must be a list");
}

/* Levenshtein's distance, cut off at 2: more is another word. */
enum { NAME_MAX_SIZE = 40, NEAR = 2 };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_SIZE + 1];
    size_t size = strlen(b);

    if (size > NAME_MAX_SIZE || strlen(a) > NAME_MAX_SIZE)
        return NEAR + 1;
    for (size_t k = 0; k <= size; k++)
        row[k] = k;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t k = 0; k < size; k++) {
            size_t changed = diagonal + (a[i] != b[k]);

            diagonal = row[k + 1];
            row[k + 1] = smaller(changed, smaller(row[k], row[k + 1]) + 1);
        }
    }
    return row[size];
}

bool unknown_key(const struct place *place, const char *const *names,
                 size_t count, struct error *err)
{
    const char *nearest = NULL;
    size_t least = smaller(NEAR, strlen(place->key) / 2) + 1;
    char what[ERROR_MESSAGE_MAX] = "there is no such key";

    for (size_t i = 0; i < count; i++) {
        size_t d = distance(place->key, names[i]);

        if (d >= least)
            continue;
        least = d;
        nearest = names[i];
    }
    if (nearest)
        snprintf(what, sizeof(what),
                 "there is no such key; did you mean \"%s\"?", nearest);
    return fault_at(place, LOCATE_KEY, what, err);
}
