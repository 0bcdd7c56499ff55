#include "provider/dialects_internal.h"

static bool has_control(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7F)
            return true;
    return false;
}

/* NUL-terminated; on the path of every call, where printf costs microseconds.
 */
static const char *join(struct arena *arena, struct slice a, struct slice b)
{
    char *text = arena_bytes(arena, a.size + b.size + 1);

    memcpy(text, a.data, a.size);
    memcpy(text + a.size, b.data, b.size);
    text[a.size + b.size] = '\0';
    return text;
}

bool request_set_url(struct arena *arena, struct provider_request *request,
                     struct slice base_url, const char *path, struct error *err)
{
    while (base_url.size > 0 && base_url.data[base_url.size - 1] == '/')
        base_url.size--;
    if (base_url.size == 0 || has_control(base_url) ||
        memchr(base_url.data, ' ', base_url.size))
        return error_set(err, ERR_INVALID_REQUEST,
                         "the provider's base URL is not valid");
    request->url = join(arena, base_url, slice_of(path));
    return true;
}

bool request_add_header(struct arena *arena, struct provider_request *request,
                        const char *start, struct slice value,
                        struct error *err)
{
    if (value.size == 0)
        return true;
    if (has_control(value))
        return error_set(err, ERR_INVALID_REQUEST,
                         "the value after \"%s\" has a control character",
                         start);
    if (request->header_count == PROVIDER_HEADERS_MAX)
        return error_set(err, ERR_INVALID_REQUEST, "too many headers");
    request->headers[request->header_count++] =
        join(arena, slice_of(start), value);
    return true;
}
