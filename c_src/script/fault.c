#include "llm_router/script/fault.h"

#include <stdarg.h>
#include <stdio.h>

#include "llm_router/base/utf8.h"

/* More than a message holds, so that cutting here in the middle of a character
 * is not seen there. */
enum { LOOKED_AT = 2 * ERROR_MESSAGE_MAX };

bool script_fail(struct script_fault *fault, const char *format, ...)
{
    char message[LOOKED_AT];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    return script_fail_at(fault, 0, slice_of(message));
}

bool script_fail_at(struct script_fault *fault, int line, struct slice message)
{
    struct arena arena;

    arena_init(&arena, 0);
    if (message.size > LOOKED_AT)
        message.size = LOOKED_AT;
    message = utf8_cut(utf8_clean(&arena, message), ERROR_MESSAGE_MAX - 1);
    if (message.size > 0)
        memcpy(fault->message, message.data, message.size);
    fault->message[message.size] = '\0';
    fault->line = line;
    arena_release(&arena);
    return false;
}
