/* What the statements and the migrations share. */
#ifndef LLM_ROUTER_PG_PGMQ_INTERNAL_H
#define LLM_ROUTER_PG_PGMQ_INTERNAL_H

/* The statement of pgmq_probe: $1 requests, $2 results, $3 dead letters. */
extern const char PGMQ_PROBE[];

#endif
