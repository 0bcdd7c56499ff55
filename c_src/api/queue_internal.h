/* What the files of the queue's messages share. */
#ifndef LLM_ROUTER_API_QUEUE_INTERNAL_H
#define LLM_ROUTER_API_QUEUE_INTERNAL_H

#include "api/decode_internal.h"
#include "llm_router/api/queue_message.h"

/* --- queue_fields.c: what messages and calls of the queue have in common ---
 */

/* Those that ask a provider, but streams. */
bool operation_is_queued(enum operation operation);

/* A UUID, kept in lower case and with a NUL behind it. */
bool keep_queue_id(struct decoder *decoder, const char *path, struct slice text,
                   struct slice *id);

/* At most QUEUE_TEXT_MAX bytes. `text` is UTF-8; NUL is dropped. */
bool keep_label(struct decoder *decoder, const char *path, struct slice text,
                struct slice *label);

bool keep_receiver(struct decoder *decoder, const char *path,
                   struct queue_receiver lent, struct queue_receiver *receiver);

/* A member's key, with the comma before it if it is not the first. */
void put_key(struct buf *out, const char *name);

/* As PostgreSQL takes it: UTF-8 without NUL, whatever `text` is. */
void put_clean_text(struct buf *out, struct slice text);
void put_text(struct buf *out, const char *name, struct slice text);

/* "2026-01-31T09:30:00.123Z", with the quotes. */
void put_time(struct buf *out, int64_t unix_ms);

/* --- queue_put.c --- */

/* The operation, which is queued, and its arguments as members of a message:
 * "operation":"embed","texts":["a","b"]. Options are not in it, but for the
 * complexity or model that is an argument. */
void put_operation(struct buf *out, const struct request *request);

#endif
