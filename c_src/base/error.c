#include "llm_router/base/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "llm_router/base/utf8.h"

void error_clear(struct error *err)
{
    *err = (struct error){.code = ERR_NONE, .retry_after_ms = -1};
}

static void cut_at_character(char *text)
{
    struct slice whole = slice_of(text);

    text[utf8_cut(whole, whole.size).size] = '\0';
}

__attribute__((format(printf, 3, 0))) static void set(struct error *err,
                                                      enum error_code code,
                                                      const char *format,
                                                      va_list arguments)
{
    error_clear(err);
    err->code = code;
    vsnprintf(err->message, sizeof(err->message), format, arguments);
    cut_at_character(err->message);
}

bool error_set(struct error *err, enum error_code code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    set(err, code, format, arguments);
    va_end(arguments);
    return false;
}

bool error_at(struct error *err, enum error_code code, const char *path,
              const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    set(err, code, format, arguments);
    va_end(arguments);
    snprintf(err->path, sizeof(err->path), "%s", path);
    cut_at_character(err->path);
    return false;
}

bool error_in(struct error *err, const char *parent)
{
    char child[ERROR_PATH_MAX];
    const char *joint;

    memcpy(child, err->path, sizeof(child));
    joint = child[0] == '\0' || child[0] == '[' ? "" : ".";
    if (snprintf(err->path, sizeof(err->path), "%s%s%s", parent, joint,
                 child) >= (int)sizeof(err->path))
        cut_at_character(err->path);
    return false;
}

void error_describe(const struct error *err, char text[ERROR_TEXT_MAX])
{
    bool says_all = strstr(err->message, err->path) != NULL;

    snprintf(text, ERROR_TEXT_MAX, "%s%s%s", says_all ? "" : err->path,
             says_all ? "" : ": ", err->message);
}

static const struct {
    const char *atom;
    bool retryable;
} codes[] = {[ERR_NONE] = {"none", false},
#define X(code, atom, retryable) [code] = {atom, retryable},
             ERROR_CODES(X)
#undef X
};

const char *error_atom(enum error_code code)
{
    return codes[code].atom;
}

bool error_retryable(enum error_code code)
{
    return codes[code].retryable;
}
