/* What a script made, {"messages": ..., "options": ...}: applied to a call, it
 * must be one that the rest of the program relies on. */
#include <stdlib.h>

#include "llm_router/api/script_call.h"
#include "llm_router/base/utf8.h"
#include "tests/external.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition) \
    do {                   \
        if (!(condition))  \
            abort();       \
    } while (0)

static void require_messages(const struct request *request)
{
    REQUIRE(request->operation == OP_CALL_WITH_SCRIPT);
    REQUIRE(request->message_count > 0);
    for (size_t i = 0; i < request->message_count; i++)
        REQUIRE(utf8_is_valid(request->messages[i].content));
    REQUIRE(request->options.request_id.size == 0);
    REQUIRE(request->options.to.size == 0);
}

static void require_error(const struct error *err)
{
    REQUIRE(err->code == ERR_SCRIPT_ERROR);
    REQUIRE(err->message[0] != '\0' && err->path[0] == '\0');
    REQUIRE(utf8_is_valid(slice_of(err->message)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct request request = {.operation = OP_CALL_WITH_SCRIPT,
                              .text = SLICE_LITERAL("x.lua")};
    const struct jv *messages;
    struct arena arena;
    struct jv *made;
    struct error err;

    arena_init(&arena, 0);
    if (jv_parse(&arena, slice_make((const char *)data, size), JV_STRICT,
                 &JV_DEFAULT_LIMITS, NULL, &made, &err)) {
        messages = jv_find(made, "messages");
        if (messages && script_call_apply(messages, jv_find(made, "options"),
                                          &arena, &request, &err))
            require_messages(&request);
        else if (messages)
            require_error(&err);
    }
    arena_release(&arena);
    return 0;
}
