#include "provider/dialects_internal.h"

static const struct dialect *const dialects[] = {
    &dialect_openai,
};

const struct dialect *dialect_find(struct slice name)
{
    for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++)
        if (slice_is(name, dialects[i]->name))
            return dialects[i];
    return NULL;
}
