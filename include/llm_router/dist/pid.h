/* The numbers inside pids and references.
 *
 * Pids of this node come from one counter: number n is id n mod 2^28 and
 * serial n / 2^28, references likewise spread n over three words with 18 bits
 * in the first (what every release accepts), so a number comes back from a
 * term without a table. */
#ifndef LLM_ROUTER_DIST_PID_H
#define LLM_ROUTER_DIST_PID_H

#include "llm_router/base/buf.h"
#include "llm_router/term/reader.h"

struct pid {
    struct slice node;
    uint32_t id, serial, creation;
};

/* Who a node is: what its own pids and references carry. */
struct identity {
    struct slice name; /* "llm_router@host" */
    uint32_t creation; /* from epmd, never 0; kept for the process's life */
};

bool pid_read(struct term term, struct pid *pid);

/* The number of a pid or reference of this node; 0: it is another's (another
 * node's, or of an earlier life of this one), or no pid or reference. */
uint64_t pid_number(const struct identity *self, struct term term);
uint64_t reference_number(const struct identity *self, struct term term);

void pid_put(struct buf *out, const struct identity *self, uint64_t number);
void reference_put(struct buf *out, const struct identity *self,
                   uint64_t number);

#endif
