/* Does a text repeat a part of what was asked? Providers echo requests in
 * their error messages; those must not reach a log or an error tuple. */
#ifndef LLM_ROUTER_CORE_QUOTE_H
#define LLM_ROUTER_CORE_QUOTE_H

#include "llm_router/core/chat.h"

enum {
    QUOTE_MIN = 16,       /* bytes in a row that make a quotation */
    QUOTE_SECRET_MIN = 8, /* of an MCP server's authorization or headers */
    QUOTE_TEXT_MAX = 512,
    QUOTE_SCAN_MAX = 1024 * 1024, /* of each text, from its start */
};

/* Looks into the messages with their tool calls, the tools, the MCP servers and
 * the texts to embed. `text` has at most QUOTE_TEXT_MAX bytes that count.
 * Linear in the chat. */
bool quotes_chat(struct slice text, const struct chat *chat);

#endif
