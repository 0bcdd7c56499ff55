/* What the files that write replies share. */
#ifndef LLM_ROUTER_API_REPLY_INTERNAL_H
#define LLM_ROUTER_API_REPLY_INTERNAL_H

#include "llm_router/api/reply.h"
#include "llm_router/term/writer.h"

/* A name of the fixed set: a key, or a value such as `pending`. */
static inline void put_name(struct buf *out, enum key_style style,
                            const char *name)
{
    if (style == KEYS_STRINGS)
        term_put_text(out, name);
    else
        term_put_atom(out, name);
}

/* What is not known is nil. */
void put_optional(struct buf *out, struct slice text, bool known);
void put_tokens(struct buf *out, int64_t tokens);
void put_money(struct buf *out, double amount);

/* Key and text; nil where data is NULL. */
void put_text_field(struct buf *out, enum key_style style, const char *name,
                    struct slice text);

/* --- reply_account.c: how an answer came about --- */

void put_usage(struct buf *out, enum key_style style,
               const struct usage *usage);

/* The pairs that a response and return => full have in common. */
size_t account_pairs(const struct request *request);
void put_account(struct buf *out, const struct request *request,
                 const struct account *account);

/* The further pairs of return => full. */
size_t trace_pairs(const struct result *result, const struct account *account);
void put_trace(struct buf *out, const struct request *request,
               const struct result *result, const struct account *account);

/* route => #{...} */
void put_decision(struct buf *out, enum key_style style,
                  const struct decision *decision);

/* --- reply_value.c: the values of the operations --- */

void put_value(struct buf *out, const struct request *request,
               const struct result *result, const struct account *account);

#endif
