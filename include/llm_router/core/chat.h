/* One question to a model and one answer from it, in no vendor's dialect. */
#ifndef LLM_ROUTER_CORE_CHAT_H
#define LLM_ROUTER_CORE_CHAT_H

#include "llm_router/core/request.h"
#include "llm_router/core/usage.h"

struct chat {
    struct message *messages;
    size_t message_count;
    struct slice schema;      /* a JSON Schema as JSON text, or empty */
    struct slice schema_name; /* ^[A-Za-z0-9_-]{1,64}$ */
    bool schema_strict; /* the schema is in the strict subset: every property
                           required, additionalProperties false */
    int64_t max_tokens; /* 0: not sent */
    double temperature; /* NAN: not sent */
    double top_p;       /* NAN: not sent */
    const struct slice *stops;
    size_t stop_count;
    bool has_seed;
    int64_t seed;
    enum effort effort;
    const struct tool *tools;
    size_t tool_count;
    enum tool_choice tool_choice;
    struct slice tool_name;
    enum api_version api_version;
    enum store store;
    struct slice previous_response_id; /* empty: none */
    const struct jv *mcp_servers;      /* as in options; NULL: none */
    /* Texts to embed instead of a conversation; then all above is empty. */
    const struct slice *inputs;
    size_t input_count;
};

/* Functions of the caller's, or those of MCP servers. */
static inline bool chat_has_tools(const struct chat *chat)
{
    return chat->tool_count > 0 || chat->mcp_servers;
}

enum finish_reason {
    FINISH_STOP,
    FINISH_LENGTH,
    FINISH_TOOL_CALLS,
    FINISH_CONTENT_FILTER,
    FINISH_REFUSAL,
};
const char *finish_reason_atom(enum finish_reason reason);

struct embedding {
    double *values;
    size_t count;
};

struct completion {
    struct slice text;        /* clean UTF-8 without NUL; maybe empty */
    struct slice refusal;     /* non-empty: the model declined, in its words */
    struct slice model;       /* as the provider names it; maybe empty */
    struct slice response_id; /* by which the responses API knows this answer;
                                 empty: another API, or it said none */
    const struct tool_call *tool_calls; /* arguments: checked JSON objects */
    size_t tool_call_count;
    const struct embedding *embeddings; /* one for each input, in order */
    size_t embedding_count;
    enum finish_reason finish;
    struct usage usage;
};

#endif
