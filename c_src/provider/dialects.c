#include "provider/openai_internal.h"

static const struct dialect *const dialects[] = {
    &dialect_openai,          &dialect_openai_responses, &dialect_azure,
    &dialect_azure_responses, &dialect_anthropic,        &dialect_gemini,
    &dialect_ollama,
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

/* OpenAI's APIs, and Azure's. */
static const struct pair {
    const struct dialect *chat, *responses;
} pairs[] = {
    {&dialect_openai, &dialect_openai_responses},
    {&dialect_azure, &dialect_azure_responses},
};

static const struct pair *find_pair(const struct dialect *dialect)
{
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (dialect == pairs[i].chat || dialect == pairs[i].responses)
            return &pairs[i];
    return NULL;
}

unsigned dialect_apis(const struct dialect *dialect, struct slice provider,
                      struct slice base_url)
{
    if (!find_pair(dialect))
        return 0;
    if (dialect == &dialect_openai && !slice_is(provider, "openai") &&
        !openai_is_own(base_url))
        return 1u << API_CHAT;
    return 1u << API_CHAT | 1u << API_RESPONSES;
}

const struct dialect *dialect_for(const struct dialect *configured,
                                  const struct candidate *candidate,
                                  const struct chat *chat)
{
    const struct pair *pair = find_pair(configured);
    const struct model *known = candidate->entry;

    if (!pair)
        return configured;
    if (chat->input_count > 0 || chat->api_version == API_VERSION_CHAT)
        return pair->chat;
    if (chat->api_version == API_VERSION_RESPONSES)
        return pair->responses;
    if (!known || configured == pair->responses)
        return configured;
    return (chat->tool_count > 0 ? known->tools_api : known->api) ==
                   API_RESPONSES
               ? pair->responses
               : pair->chat;
}
