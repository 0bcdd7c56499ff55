#include "llm_router/dist/control.h"

#include "llm_router/term/writer.h"

/* Fields, one letter for each element behind the operation:
 *   f from: pid      F from: pid or atom     t to: pid      T to: pid or atom
 *   n to: atom       a to: reference         r reference    i id: integer
 *   m function       o options               e reason       . not looked at */
struct operation {
    int64_t number;
    enum control_kind kind;
    const char *fields;
    bool has_payload;
};

enum { TERM_VERSION = 131 };

enum {
    OP_SEND = 2,
    OP_EXIT = 3,
    OP_REG_SEND = 6,
    OP_MONITOR_P = 19,
    OP_DEMONITOR_P = 20,
    OP_MONITOR_P_EXIT = 21,
    OP_PAYLOAD_EXIT = 24,
    OP_PAYLOAD_MONITOR_P_EXIT = 28,
    OP_SPAWN_REPLY = 31,
    OP_ALIAS_SEND = 33,
    OP_UNLINK_ID_ACK = 36,
    OP_ALTACT_SIG_SEND = 37,
};

/* Flags of OP_ALTACT_SIG_SEND (OTP 28). */
enum {
    ALTACT_ALIAS = 4,
    ALTACT_NAME = 8,
    ALTACT_EXIT = 16,
};

static const struct operation operations[] = {
    {1, CONTROL_LINK, "ft", false},
    {OP_SEND, CONTROL_SEND, ".t", true},
    {OP_EXIT, CONTROL_EXIT, "fte", false},
    {4, CONTROL_IGNORED, "ft", false}, /* UNLINK of OTP 22: no reply */
    {OP_REG_SEND, CONTROL_SEND_NAME, "f.n", true},
    {7, CONTROL_IGNORED, "ft", false}, /* GROUP_LEADER */
    {8, CONTROL_EXIT2, "fte", false},
    {12, CONTROL_SEND, ".t.", true},
    {13, CONTROL_EXIT, "ft.e", false},
    {16, CONTROL_SEND_NAME, "f.n.", true},
    {18, CONTROL_EXIT2, "ft.e", false},
    {OP_MONITOR_P, CONTROL_MONITOR, "fTr", false},
    {OP_DEMONITOR_P, CONTROL_DEMONITOR, "fTr", false},
    {OP_MONITOR_P_EXIT, CONTROL_MONITOR_EXIT, "Ftre", false},
    {22, CONTROL_SEND, "ft", true},
    {23, CONTROL_SEND, "ft.", true},
    {OP_PAYLOAD_EXIT, CONTROL_EXIT, "ft", true},
    {25, CONTROL_EXIT, "ft.", true},
    {26, CONTROL_EXIT2, "ft", true},
    {27, CONTROL_EXIT2, "ft.", true},
    {OP_PAYLOAD_MONITOR_P_EXIT, CONTROL_MONITOR_EXIT, "Ftr", true},
    {29, CONTROL_SPAWN, "rf.mo", true},
    {30, CONTROL_SPAWN, "rf.mo.", true},
    {OP_SPAWN_REPLY, CONTROL_IGNORED, "rt..", false},
    {32, CONTROL_IGNORED, "rt...", false},
    {OP_ALIAS_SEND, CONTROL_SEND_ALIAS, "fa", true},
    {34, CONTROL_SEND_ALIAS, "fa.", true},
    {35, CONTROL_UNLINK, "ift", false},
    {OP_UNLINK_ID_ACK, CONTROL_IGNORED, "ift", false},
};

static const struct operation *find_operation(int64_t number)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        if (operations[i].number == number)
            return &operations[i];
    }
    return NULL;
}

/* What OP_ALTACT_SIG_SEND stands for: the first row whose flag it has. A trace
 * token may follow. */
static const struct operation altact_forms[] = {
    {ALTACT_EXIT, CONTROL_EXIT2, ".ft", true},
    {ALTACT_ALIAS, CONTROL_SEND_ALIAS, ".fa", true},
    {ALTACT_NAME, CONTROL_SEND_NAME, ".fn", true},
    {0, CONTROL_SEND, ".ft", true},
};

static const struct operation *find_altact_form(struct term flags_term)
{
    const struct operation *form = altact_forms;
    int64_t flags;

    if (!term_integer(flags_term, &flags))
        return NULL;
    while (form->number != 0 && !(flags & form->number))
        form++;
    return form;
}

static bool is_integer(struct term term)
{
    enum term_kind kind = term_kind(term);

    return kind == TERM_INTEGER || kind == TERM_BIG;
}

static bool is_function(struct term term)
{
    struct term element;

    if (!term_tuple_of(term, 3, &element) || term_kind(element) != TERM_ATOM)
        return false;
    element = term_next(element);
    return term_kind(element) == TERM_ATOM &&
           term_kind(term_next(element)) == TERM_INTEGER;
}

static bool set_field(struct control *control, char field, struct term term)
{
    enum term_kind kind = term_kind(term);

    switch (field) {
    case 'f':
        control->from = term;
        return kind == TERM_PID;
    case 'F':
        control->from = term;
        return kind == TERM_PID || kind == TERM_ATOM;
    case 't':
        control->to = term;
        return kind == TERM_PID;
    case 'T':
        control->to = term;
        return kind == TERM_PID || kind == TERM_ATOM;
    case 'n':
        control->to = term;
        return kind == TERM_ATOM;
    case 'a':
        control->to = term;
        return kind == TERM_REFERENCE;
    case 'r':
        control->reference = term;
        return kind == TERM_REFERENCE;
    case 'i':
        control->id = term;
        return is_integer(term);
    case 'm':
        control->function = term;
        return is_function(term);
    case 'o':
        control->options = term;
        return kind == TERM_LIST || kind == TERM_NIL;
    case 'e':
        control->reason = term;
        return true;
    default:
        return true;
    }
}

/* `element` is the first behind the operation. */
static bool set_fields(struct control *control, const char *fields,
                       struct term element, struct error *err)
{
    for (const char *field = fields; *field; field++) {
        if (!set_field(control, *field, element))
            return error_set(err, ERR_INVALID_REQUEST,
                             "control message with a %s as element %d",
                             term_kind_name(element),
                             (int)(field - fields) + 2);
        element = term_next(element);
    }
    return true;
}

/* What follows the control message, without a version byte. */
static bool set_payload(struct control *control, struct slice rest,
                        enum frame_form form, struct error *err)
{
    if (form == FRAME_PASS_THROUGH) {
        if (rest.size < 2 || (unsigned char)rest.data[0] != TERM_VERSION)
            return error_set(err, ERR_INVALID_REQUEST,
                             "payload without a term of our version");
        rest = slice_make(rest.data + 1, rest.size - 1);
    }
    control->payload = rest;
    return true;
}

bool control_decode(struct slice body, enum frame_form form,
                    const struct term_limits *limits, struct control *control,
                    struct error *err)
{
    const struct operation *operation;
    struct term element;
    uint32_t arity, token = 0;
    int64_t number;
    size_t used;

    *control = (struct control){.kind = CONTROL_IGNORED};
    if (!term_check_first(body, limits, &used, err))
        return false;
    if (!term_tuple(term_from_raw(body), &arity, &element) || arity == 0 ||
        !term_integer(element, &number))
        return error_set(err, ERR_INVALID_REQUEST, "no control message");
    if (number == OP_ALTACT_SIG_SEND && arity > 1) {
        operation = find_altact_form(term_next(element));
        token = arity == 5;
    } else {
        operation = find_operation(number);
    }
    if (!operation)
        return true;
    if (arity - 1 - token != strlen(operation->fields))
        return error_set(err, ERR_INVALID_REQUEST,
                         "control message %d of arity %u", (int)number, arity);
    if (!set_fields(control, operation->fields, term_next(element), err))
        return false;
    if (operation->has_payload != (body.size > used))
        return error_set(err, ERR_INVALID_REQUEST,
                         "control message %d %s a payload", (int)number,
                         operation->has_payload ? "without" : "with");
    control->kind = operation->kind;
    return !operation->has_payload ||
           set_payload(control, slice_make(body.data + used, body.size - used),
                       form, err);
}

bool control_reason(const struct control *control,
                    const struct term_limits *limits, struct term *reason)
{
    struct error err;

    if (control->reason.at) {
        *reason = control->reason;
        return true;
    }
    if (!term_check(control->payload, limits, &err))
        return false;
    *reason = term_from_raw(control->payload);
    return true;
}

enum frame_form control_form(uint64_t flags)
{
    return flags & CONTROL_FLAG_FRAGMENTS ? FRAME_HEADED : FRAME_PASS_THROUGH;
}

void control_put_payload(struct buf *out, uint64_t flags)
{
    if (control_form(flags) == FRAME_PASS_THROUGH)
        term_put_version(out);
}

static void put_operation(struct buf *out, size_t arity, int operation)
{
    term_put_tuple(out, arity);
    term_put_integer(out, operation);
}

void control_put_send(struct buf *out, struct slice to)
{
    put_operation(out, 3, OP_SEND);
    term_put_atom(out, "");
    term_put_raw(out, to);
}

void control_put_send_name(struct buf *out, struct slice from,
                           struct slice name)
{
    put_operation(out, 4, OP_REG_SEND);
    term_put_raw(out, from);
    term_put_atom(out, "");
    term_put_atom_slice(out, name);
}

void control_put_send_alias(struct buf *out, uint64_t flags, struct slice from,
                            struct slice alias)
{
    if (flags & CONTROL_FLAG_ALTACT) {
        put_operation(out, 4, OP_ALTACT_SIG_SEND);
        term_put_integer(out, ALTACT_ALIAS);
    } else {
        put_operation(out, 3, OP_ALIAS_SEND);
    }
    term_put_raw(out, from);
    term_put_raw(out, alias);
}

static void put_monitor(struct buf *out, int operation, struct slice from,
                        struct slice to, struct slice reference)
{
    put_operation(out, 4, operation);
    term_put_raw(out, from);
    term_put_raw(out, to);
    term_put_raw(out, reference);
}

void control_put_monitor(struct buf *out, struct slice from, struct slice to,
                         struct slice reference)
{
    put_monitor(out, OP_MONITOR_P, from, to, reference);
}

void control_put_demonitor(struct buf *out, struct slice from, struct slice to,
                           struct slice reference)
{
    put_monitor(out, OP_DEMONITOR_P, from, to, reference);
}

void control_put_unlink_ack(struct buf *out, struct slice id, struct slice from,
                            struct slice to)
{
    put_operation(out, 4, OP_UNLINK_ID_ACK);
    term_put_raw(out, id);
    term_put_raw(out, from);
    term_put_raw(out, to);
}

void control_put_exit(struct buf *out, uint64_t flags, struct slice from,
                      struct slice to)
{
    bool payload = flags & CONTROL_FLAG_EXIT_PAYLOAD;

    put_operation(out, payload ? 3 : 4, payload ? OP_PAYLOAD_EXIT : OP_EXIT);
    term_put_raw(out, from);
    term_put_raw(out, to);
    if (payload)
        control_put_payload(out, flags);
}

void control_put_monitor_exit(struct buf *out, uint64_t flags,
                              struct slice from, struct slice to,
                              struct slice reference)
{
    bool payload = flags & CONTROL_FLAG_EXIT_PAYLOAD;

    put_operation(out, payload ? 4 : 5,
                  payload ? OP_PAYLOAD_MONITOR_P_EXIT : OP_MONITOR_P_EXIT);
    term_put_raw(out, from);
    term_put_raw(out, to);
    term_put_raw(out, reference);
    if (payload)
        control_put_payload(out, flags);
}

void control_put_spawn_reply(struct buf *out, struct slice request,
                             struct slice to, int flags, struct slice result)
{
    put_operation(out, 5, OP_SPAWN_REPLY);
    term_put_raw(out, request);
    term_put_raw(out, to);
    term_put_integer(out, flags);
    term_put_raw(out, result);
}
