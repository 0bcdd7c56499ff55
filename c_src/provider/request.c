#include "provider/dialects_internal.h"

static bool has_control(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7F)
            return true;
    return false;
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
    request->url =
        arena_printf(arena, "%.*s%s", SLICE_ARG(base_url), path).data;
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
        arena_printf(arena, "%s%.*s", start, SLICE_ARG(value)).data;
    return true;
}
