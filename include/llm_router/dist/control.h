/* Control messages: what a frame is about.
 *
 * Pure. Decodes every operation of OTP 25 to 29 in its old and new form, with
 * or without a trace token (a node writes the old form while a connection is
 * still pending), into few kinds; writes those that this node sends. Numbers
 * are those of erts/emulator/beam/dist.h. */
#ifndef LLM_ROUTER_DIST_CONTROL_H
#define LLM_ROUTER_DIST_CONTROL_H

#include "llm_router/dist/frame.h"
#include "llm_router/term/check.h"
#include "llm_router/term/reader.h"

enum control_kind {
    CONTROL_IGNORED,   /* unknown, or nothing that a node of ours must act on */
    CONTROL_SEND,      /* to: pid; from where the form has it */
    CONTROL_SEND_NAME, /* from, to: atom */
    CONTROL_SEND_ALIAS,   /* from, to: reference */
    CONTROL_LINK,         /* from, to */
    CONTROL_UNLINK,       /* id, from, to: wants an acknowledgement */
    CONTROL_EXIT,         /* from, to, reason: a link broke */
    CONTROL_EXIT2,        /* from, to, reason: exit/2 */
    CONTROL_MONITOR,      /* from, to: pid or atom, reference */
    CONTROL_DEMONITOR,    /* the same */
    CONTROL_MONITOR_EXIT, /* from: pid or atom, to, reference, reason */
    CONTROL_SPAWN, /* reference, from, function {M,F,N}, options; the payload
                      is the argument list */
};

/* Fields that the kind does not have are empty (at == NULL). */
struct control {
    enum control_kind kind;
    struct term from, to, reference, id, function, options;
    struct term reason;   /* the old form of an exit has it inside */
    struct slice payload; /* a term without version byte; not checked */
};

/* `body` and `form` are the frame's. False: not a control message at all, or
 * one of a known operation with wrong fields; the connection is worth nothing
 * then. The slices are the body's. */
bool control_decode(struct slice body, enum frame_form form,
                    const struct term_limits *limits, struct control *control,
                    struct error *err);

/* The reason of an exit signal, from inside or from the payload, which is
 * checked for it. False: malformed, or too deep. */
bool control_reason(const struct control *control,
                    const struct term_limits *limits, struct term *reason);

/* Flags of the handshake: what both nodes can read decides some forms. */
#define CONTROL_FLAG_EXIT_PAYLOAD ((uint64_t)1 << 22)
#define CONTROL_FLAG_FRAGMENTS ((uint64_t)1 << 23)
#define CONTROL_FLAG_ALTACT ((uint64_t)1 << 37)

/* The form of the frames between nodes with these flags. */
enum frame_form control_form(uint64_t flags);

/* Between control and payload: the payload's version byte, if it has one. */
void control_put_payload(struct buf *out, uint64_t flags);

/* Pids and references are raw terms. Behind a send come control_put_payload
 * and the message. */
void control_put_send(struct buf *out, struct slice to);
void control_put_send_name(struct buf *out, struct slice from,
                           struct slice name);
void control_put_send_alias(struct buf *out, uint64_t flags, struct slice from,
                            struct slice alias);

/* Behind an exit the caller writes the reason at once. */
void control_put_exit(struct buf *out, uint64_t flags, struct slice from,
                      struct slice to);
void control_put_monitor_exit(struct buf *out, uint64_t flags,
                              struct slice from, struct slice to,
                              struct slice reference);

void control_put_monitor(struct buf *out, struct slice from, struct slice to,
                         struct slice reference);
void control_put_demonitor(struct buf *out, struct slice from, struct slice to,
                           struct slice reference);
void control_put_unlink_ack(struct buf *out, struct slice id, struct slice from,
                            struct slice to);

enum { SPAWN_LINKED = 1, SPAWN_MONITORED = 2 };

/* `result`: the new pid, or an atom that says why there is none. */
void control_put_spawn_reply(struct buf *out, struct slice request,
                             struct slice to, int flags, struct slice result);

#endif
