#include "llm_router/core/request.h"

static const struct {
    const char *atom;
    enum operation_class class;
    bool calls_provider;
} operations[OPERATION_COUNT] = {
#define X(op, atom, class, provider) [op] = {atom, class, provider},
    OPERATIONS(X)
#undef X
};

static const char *const complexities[] = {
    [COMPLEXITY_UNSET] = "unset",
    [COMPLEXITY_SIMPLE] = "simple",
    [COMPLEXITY_MEDIUM] = "medium",
    [COMPLEXITY_COMPLEX] = "complex",
};

static const char *const roles[] = {
    [ROLE_SYSTEM] = "system",
    [ROLE_USER] = "user",
    [ROLE_ASSISTANT] = "assistant",
};

const char *operation_atom(enum operation operation)
{
    return operations[operation].atom;
}

enum operation_class operation_class(enum operation operation)
{
    return operations[operation].class;
}

bool operation_calls_provider(enum operation operation)
{
    return operations[operation].calls_provider;
}

const char *complexity_atom(enum complexity complexity)
{
    return complexities[complexity];
}

bool complexity_parse(struct slice text, enum complexity *complexity)
{
    for (int i = COMPLEXITY_SIMPLE; i <= COMPLEXITY_COMPLEX; i++) {
        if (!slice_is(text, complexities[i]))
            continue;
        *complexity = (enum complexity)i;
        return true;
    }
    return false;
}

const char *role_name(enum role role)
{
    return roles[role];
}
