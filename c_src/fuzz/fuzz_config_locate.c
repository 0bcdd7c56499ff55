/* Against jansson: every key and value of a text that it accepts is found, and
 * what stands there reads as that value. Any other text harms nobody. */
#include <jansson.h>
#include <stdlib.h>

#include "llm_router/config/locate.h"

enum { DEPTH_MAX = 64 };

static struct slice text;
static struct locate_step steps[DEPTH_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static json_t *read_at(size_t offset)
{
    return json_loadb(text.data + offset, text.size - offset,
                      JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, NULL);
}

static size_t offset_of(size_t depth, enum locate_target target)
{
    struct location location;

    require(locate(text, steps, depth, target, &location));
    require(location.offset < text.size);
    require(location.line > 0 && location.column > 0);
    require(location.column <= location.offset + 1);
    return location.offset;
}

static void require_found(const json_t *value, size_t depth)
{
    json_t *found = read_at(offset_of(depth, LOCATE_VALUE));
    const char *key;
    json_t *member;

    require(found && json_equal(found, value));
    json_decref(found);
    if (depth == DEPTH_MAX)
        return;
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        steps[depth] = (struct locate_step){key, 0};
        found = read_at(offset_of(depth + 1, LOCATE_KEY));
        require(json_is_string(found) &&
                !strcmp(json_string_value(found), key));
        json_decref(found);
        require_found(member, depth + 1);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        steps[depth] = (struct locate_step){NULL, i};
        require_found(json_array_get(value, i), depth + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct locate_step any[] = {{"a", 0}, {NULL, 1}, {"b", 0}};
    struct location location;
    json_t *root;

    text = slice_make(data, size);
    for (size_t count = 0; count <= 3; count++)
        if (locate(text, any, count, LOCATE_VALUE, &location))
            require(location.offset < size);
    root = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
    if (root && size <= 4096) /* it is quadratic */
        require_found(root, 0);
    json_decref(root);
    return 0;
}
