/* The bytes of an established connection: frames and control messages; the
 * first byte chooses the form. What is decoded lies inside the frame and can be
 * read; a payload that passes its check can be walked. */
#include <stdint.h>
#include <stdlib.h>

#include "llm_router/dist/control.h"
#include "llm_router/dist/frame.h"
#include "llm_router/dist/pid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct identity SELF = {SLICE_LITERAL("llm_router@localhost"),
                                     0x6b02eab5};
static const struct term_limits LIMITS = {.max_bytes = 1 << 20,
                                          .max_depth = 512};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void read_field(struct slice body, struct term term)
{
    struct slice raw, node;
    struct pid pid;

    if (!term.at)
        return;
    raw = term_raw(term);
    require(raw.size > 0 && raw.data >= body.data &&
            raw.data + raw.size <= body.data + body.size);
    if (term_node(term, &node))
        require(node.size < raw.size);
    if (term_kind(term) == TERM_PID)
        require(pid_read(term, &pid) && pid.node.size == node.size);
    pid_number(&SELF, term);
    reference_number(&SELF, term);
}

static void decode(struct slice body, enum frame_form form)
{
    struct control control;
    struct term reason;
    struct error err;

    if (!control_decode(body, form, &LIMITS, &control, &err)) {
        require(err.code != ERR_NONE);
        return;
    }
    read_field(body, control.from);
    read_field(body, control.to);
    read_field(body, control.reference);
    read_field(body, control.id);
    read_field(body, control.function);
    read_field(body, control.options);
    if ((control.kind == CONTROL_EXIT || control.kind == CONTROL_EXIT2 ||
         control.kind == CONTROL_MONITOR_EXIT) &&
        control_reason(&control, &LIMITS, &reason))
        read_field(body, reason);
    if (control.payload.size > 0 && term_check(control.payload, &LIMITS, &err))
        read_field(body, term_from_raw(control.payload));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum frame_form form;
    struct slice rest;

    if (size == 0)
        return 0;
    form = data[0] & 1 ? FRAME_HEADED : FRAME_PASS_THROUGH;
    rest = slice_make(data + 1, size - 1);
    for (;;) {
        struct frame frame;
        struct error err;
        enum frame_kind kind =
            frame_next(rest, form, LIMITS.max_bytes, &frame, &err);

        if (kind == FRAME_PARTIAL || kind == FRAME_MALFORMED)
            return 0;
        require(frame.size > 0 && frame.size <= rest.size);
        require(form == FRAME_HEADED || kind == FRAME_SIGNAL ||
                kind == FRAME_TICK);
        if (kind == FRAME_SIGNAL || kind == FRAME_FIRST)
            decode(frame.body, form);
        rest.data += frame.size;
        rest.size -= frame.size;
    }
}
