/* What the dialects that descend from OpenAI's chat completions share. */
#ifndef LLM_ROUTER_PROVIDER_OPENAI_INTERNAL_H
#define LLM_ROUTER_PROVIDER_OPENAI_INTERNAL_H

#include "provider/dialects_internal.h"

/* Content type, bearer key, organization and project. */
bool openai_add_headers(const struct question *question, struct arena *arena,
                        struct provider_request *request, struct error *err);

/* What servers that speak chat completions do not agree on. */
struct openai_words {
    const char *max_tokens;
    const char *seed;
    bool stream_options; /* may they be sent? */
    bool store;          /* likewise */
};
extern const struct openai_words OPENAI_WORDS; /* OpenAI's own */

/* Is this OpenAI's own address? */
bool openai_is_own(struct slice base_url);

void openai_put_chat(const struct question *question,
                     const struct openai_words *words, struct buf *body);
void openai_put_embedding(const struct question *question, struct buf *body);

bool openai_read_event(struct reader *reader, struct slice name,
                       const struct jv *chunk);
bool openai_read_document(struct reader *reader, const struct jv *answer);
bool openai_read_embeddings(struct reader *reader, const struct jv *document);

/* "auto", "none", "required"; NULL for the others. */
const char *openai_tool_choice(enum tool_choice choice);

/* ,"temperature" and "top_p" where the model takes them. */
void openai_put_sampling(const struct question *question, struct buf *body);

/* The responses API, wherever it is. */

/* ERR_INVALID_REQUEST for what it cannot say. */
bool responses_check(const struct question *question, struct error *err);
void responses_put_chat(const struct question *question, struct buf *body);

struct responses_state {
    bool has_output;     /* something of it came as deltas */
    bool wants_approval; /* of the call of an MCP server's tool */
};
bool responses_read_event(struct reader *reader, struct slice name,
                          const struct jv *event);
bool responses_read_document(struct reader *reader, const struct jv *response);

#endif
