#include "provider/dialects_internal.h"

bool request_add_header(struct arena *arena, struct provider_request *request,
                        const char *name, struct slice value, struct error *err)
{
    if (value.size == 0)
        return true;
    for (size_t i = 0; i < value.size; i++)
        if (value.data[i] == '\r' || value.data[i] == '\n' ||
            value.data[i] == '\0')
            return error_set(err, ERR_INVALID_REQUEST,
                             "the value of header %s has a line break or NUL",
                             name);
    if (request->header_count == PROVIDER_HEADERS_MAX)
        return error_set(err, ERR_INVALID_REQUEST, "too many headers");
    request->headers[request->header_count++] =
        arena_printf(arena, "%s: %.*s", name, SLICE_ARG(value)).data;
    return true;
}
