/* Aborting: how the program ends when it cannot go on, for its supervisor to
 * start it again. The last line of the log says why. */
#ifndef LLM_ROUTER_BASE_ABORT_H
#define LLM_ROUTER_BASE_ABORT_H

/* From here on there is a line also when a library aborts: libuv does so
 * without a word when the kernel watches no more descriptors for it, or has no
 * thread for it. */
void abort_watch(void);

/* abort(), after a line that says why. */
_Noreturn void abort_said(void);

#endif
