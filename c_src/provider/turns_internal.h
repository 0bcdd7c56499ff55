/* Conversations for vendors that want the turns of user and model to
 * alternate, the system's text beside them, and the answer of a tool with the
 * tool's name. */
#ifndef LLM_ROUTER_PROVIDER_TURNS_INTERNAL_H
#define LLM_ROUTER_PROVIDER_TURNS_INTERNAL_H

#include "llm_router/base/buf.h"
#include "llm_router/base/error.h"
#include "llm_router/core/chat.h"

/* A vendor's words for a turn: {"role":"user","parts":[...]}. */
struct turn_words {
    const char *user, *assistant;
    const char *parts; /* the key of the list */
    /* A turn, as JSON, that goes before an assistant's first one where the
     * user must begin; NULL: anybody may. */
    const char *opening;
    /* The parts of a message that says something: one at least, with commas
     * between them. */
    void (*put_parts)(struct buf *body, const struct chat *chat,
                      const struct message *message);
};

/* A list of turns. Adjacent messages of a role are one turn; answers of tools
 * are the user's; messages that say nothing are left out, as the vendors
 * refuse them. System messages are left out as well, unless there is nothing
 * else: then they are the user's, for no vendor answers to a system text
 * alone. */
void put_turns(struct buf *body, const struct chat *chat,
               const struct turn_words *words);

/* The list of the parts of the system messages, where turns_have_system. */
void put_system_parts(struct buf *body, const struct chat *chat,
                      const struct turn_words *words);
bool turns_have_system(const struct chat *chat);

/* The name of the tool whose call a ROLE_TOOL message answers. */
struct slice answered_tool(const struct chat *chat,
                           const struct message *answer);

/* ERR_INVALID_REQUEST if some ROLE_TOOL message answers no call before it. */
bool turns_check_answers(const struct chat *chat, struct error *err);

#endif
