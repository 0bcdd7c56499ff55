#include "provider/dialects_internal.h"

static const struct dialect *const dialects[] = {
    &dialect_openai,    &dialect_openai_responses, &dialect_azure,
    &dialect_anthropic, &dialect_gemini,           &dialect_ollama,
};

const struct dialect *dialect_find(struct slice name)
{
    for (size_t i = 0; i < sizeof(dialects) / sizeof(dialects[0]); i++)
        if (slice_is(name, dialects[i]->name))
            return dialects[i];
    return NULL;
}

const char *dialect_name(const struct dialect *dialect)
{
    return dialect->name;
}

const struct dialect *dialect_for(const struct dialect *configured,
                                  const struct candidate *candidate,
                                  const struct chat *chat)
{
    const struct model *known = candidate->entry;

    if (configured == &dialect_openai_responses && chat->input_count > 0)
        return &dialect_openai;
    if (configured != &dialect_openai || !known || chat->input_count > 0)
        return configured;
    return (chat->tool_count > 0 ? known->tools_api : known->api) ==
                   API_RESPONSES
               ? &dialect_openai_responses
               : &dialect_openai;
}
