/* Writes terms in the external term format into a struct buf (whose sticky
 * failure covers size). Headers (tuple, list, map) are followed by their
 * elements, written by the caller; a list is closed by term_put_nil.
 *
 * A map with duplicate keys makes the receiving node drop the connection
 * ("corrupted external term"): callers write each key once. */
#ifndef LLM_ROUTER_TERM_WRITER_H
#define LLM_ROUTER_TERM_WRITER_H

#include "llm_router/base/buf.h"

void term_put_version(struct buf *out);
void term_put_atom_slice(struct buf *out, struct slice name);
/* UTF-8, <= 255 characters. Inline: the length of a literal is known. */
static inline void term_put_atom(struct buf *out, const char *name)
{
    term_put_atom_slice(out, slice_of(name));
}
void term_put_boolean(struct buf *out, bool value);
void term_put_integer(struct buf *out, int64_t value);
void term_put_float(struct buf *out, double value); /* finite */
void term_put_binary(struct buf *out, struct slice bytes);
void term_put_text(struct buf *out, const char *text); /* as a binary */
void term_put_tuple(struct buf *out, size_t arity);
void term_put_list(struct buf *out, size_t length); /* 0 writes nothing */
void term_put_nil(struct buf *out);
void term_put_map(struct buf *out, size_t pairs);

/* A term that was checked (term_raw) or written elsewhere, without version. */
void term_put_raw(struct buf *out, struct slice raw);

/* NEW_PID_EXT and NEWER_REFERENCE_EXT of our own node. `words` <= 5. */
void term_put_pid(struct buf *out, struct slice node, uint32_t id,
                  uint32_t serial, uint32_t creation);
void term_put_reference(struct buf *out, struct slice node, uint32_t creation,
                        const uint32_t *words, size_t count);

#endif
