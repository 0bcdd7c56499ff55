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
    [ROLE_TOOL] = "tool",
};

static const char *const efforts[] = {
    [EFFORT_UNSET] = "unset",     [EFFORT_NONE] = "none",
    [EFFORT_MINIMAL] = "minimal", [EFFORT_LOW] = "low",
    [EFFORT_MEDIUM] = "medium",   [EFFORT_HIGH] = "high",
    [EFFORT_XHIGH] = "xhigh",     [EFFORT_MAX] = "max",
};

static const char *const api_versions[] = {
    [API_VERSION_ANY] = "any",
    [API_VERSION_CHAT] = "chat_completions",
    [API_VERSION_RESPONSES] = "responses",
};

static const struct {
    const char *name;
    unsigned bit;
} capabilities[] = {
#define X(capability, bit, name) {name, bit},
    CAPABILITIES(X)
#undef X
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

const char *effort_name(enum effort effort)
{
    return efforts[effort];
}

bool effort_parse(struct slice text, enum effort *effort)
{
    for (int i = EFFORT_NONE; i <= EFFORT_MAX; i++) {
        if (!slice_is(text, efforts[i]))
            continue;
        *effort = (enum effort)i;
        return true;
    }
    return false;
}

const char *api_version_name(enum api_version version)
{
    return api_versions[version];
}

bool api_version_parse(struct slice text, enum api_version *version)
{
    for (int i = API_VERSION_CHAT; i <= API_VERSION_RESPONSES; i++) {
        if (!slice_is(text, api_versions[i]))
            continue;
        *version = (enum api_version)i;
        return true;
    }
    return false;
}

bool capability_parse(struct slice text, unsigned *bit)
{
    for (size_t i = 0; i < sizeof(capabilities) / sizeof(*capabilities); i++) {
        if (!slice_is(text, capabilities[i].name))
            continue;
        *bit = capabilities[i].bit;
        return true;
    }
    return false;
}
