#include "tests/external.h"
#include "tests/test_dist_samples.h"
#include "tests/unit.h"

#include "llm_router/term/writer.h"

static const struct term_limits LIMITS = {.max_bytes = 1 << 20,
                                          .max_depth = 512};
static const char PEER[] = "driver@localhost";
static const char SELF[] = "llm_router@localhost";

static struct control control;
static struct error err;
static struct buf out, pid, name, reference;

static int setup(void **state)
{
    const uint32_t words[3] = {1, 2, 3};

    (void)state;
    buf_init(&out, 4096);
    buf_init(&pid, 4096);
    buf_init(&name, 4096);
    buf_init(&reference, 4096);
    term_put_pid(&pid, slice_of(PEER), 9, 0, 5);
    term_put_atom(&name, "llm_router");
    term_put_reference(&reference, slice_of(PEER), 5, words, 3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_release(&out);
    buf_release(&pid);
    buf_release(&name);
    buf_release(&reference);
    return 0;
}

static bool decode(void)
{
    return control_decode(buf_slice(&out), FRAME_PASS_THROUGH, &LIMITS,
                          &control, &err);
}

/* A control message written by hand: elements follow, then perhaps a payload.
 */
static void begin(size_t arity, int operation)
{
    buf_clear(&out);
    term_put_tuple(&out, arity);
    term_put_integer(&out, operation);
}

static void put(const struct buf *term)
{
    term_put_raw(&out, buf_slice(term));
}

static void put_payload(const char *atom)
{
    term_put_version(&out);
    term_put_atom(&out, atom);
}

static bool is_of(struct term term, const char *node)
{
    struct slice found;

    return term.at && term_node(term, &found) && slice_is(found, node);
}

static const struct dist_sample *sample(int operation)
{
    for (size_t i = 0; i < DIST_SAMPLES; i++) {
        if (dist_samples[i].operation == operation)
            return &dist_samples[i];
    }
    fail_msg("no sample of operation %d", operation);
    return NULL;
}

/* Decodes a recorded frame; the slices stay valid until the next one. */
static void decode_sample(int operation)
{
    struct slice bytes = dist_bytes(sample(operation)->hex);

    buf_clear(&out);
    buf_append_slice(&out, external_raw(bytes));
    mem_free((char *)bytes.data);
    assert_true(decode());
    assert_int_equal(control.kind, sample(operation)->kind);
}

static void every_recorded_frame_is_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < DIST_SAMPLES; i++) {
        const struct dist_sample *recorded = &dist_samples[i];
        struct slice bytes = dist_bytes(recorded->hex);

        assert_true(control_decode(external_raw(bytes), FRAME_PASS_THROUGH,
                                   &LIMITS, &control, &err));
        assert_int_equal(control.kind, recorded->kind);
        assert_true(control.payload.size == 0 ||
                    term_check(control.payload, &LIMITS, &err));
        mem_free((char *)bytes.data);
    }
}

/* The control message cut, the payload missing, the payload cut: never taken
 * for whole. */
static void no_cut_frame_is_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < DIST_SAMPLES; i++) {
        struct slice bytes = dist_bytes(dist_samples[i].hex);
        struct slice whole = external_raw(bytes);

        for (size_t size = 0; size < whole.size; size++) {
            struct slice cut = whole;
            char *copy;

            copy = mem_alloc(size + 1);
            memcpy(copy, whole.data, size);
            cut = slice_make(copy, size);
            assert_false(control_decode(cut, FRAME_PASS_THROUGH, &LIMITS,
                                        &control, &err) &&
                         (control.payload.size == 0 ||
                          term_check(control.payload, &LIMITS, &err)));
            mem_free(copy);
        }
        mem_free((char *)bytes.data);
    }
}

static void sends_say_from_whom_and_to_whom(void **state)
{
    (void)state;
    decode_sample(22);
    assert_true(is_of(control.from, PEER));
    assert_true(is_of(control.to, SELF));
    decode_sample(2); /* names no sender */
    assert_null(control.from.at);
    assert_true(is_of(control.to, SELF));
    decode_sample(6);
    assert_true(is_of(control.from, PEER));
    assert_true(term_is_atom(control.to, "net_kernel"));
}

static void a_trace_token_changes_nothing(void **state)
{
    struct term element;

    (void)state;
    decode_sample(23);
    assert_true(is_of(control.from, PEER));
    assert_true(is_of(control.to, SELF));
    decode_sample(16);
    assert_true(term_is_atom(control.to, "llm_router"));
    assert_true(term_tuple_of(term_from_raw(control.payload), 3, &element));
    assert_true(term_is_atom(element, "$gen_call"));
    decode_sample(30);
    assert_int_equal(term_kind(control.reference), TERM_REFERENCE);
    assert_int_equal(term_kind(control.options), TERM_LIST);
}

static void a_spawn_request_names_its_function(void **state)
{
    struct term element;
    int64_t arity;

    (void)state;
    decode_sample(29);
    assert_true(is_of(control.from, PEER));
    assert_true(is_of(control.reference, PEER));
    assert_true(term_tuple_of(control.function, 3, &element));
    assert_true(term_is_atom(element, "erpc"));
    assert_true(term_is_atom(term_next(element), "execute_call"));
    assert_true(term_integer(term_next(term_next(element)), &arity));
    assert_int_equal(arity, 4);
}

static void the_reason_of_an_exit_is_found_in_both_forms(void **state)
{
    const int old_and_new[] = {8, 26};
    struct term reason;

    (void)state;
    for (int i = 0; i < 2; i++) {
        decode_sample(old_and_new[i]);
        assert_true(control_reason(&control, &LIMITS, &reason));
        assert_true(term_is_atom(reason, "foo"));
    }
    decode_sample(24);
    assert_true(control_reason(&control, &LIMITS, &reason));
    assert_true(term_is_atom(reason, "bye"));
    decode_sample(28);
    assert_true(control_reason(&control, &LIMITS, &reason));
    assert_true(term_is_atom(reason, "normal"));
}

static void a_malformed_reason_is_no_reason(void **state)
{
    struct term reason;

    (void)state;
    begin(3, 26);
    put(&pid);
    put(&pid);
    buf_append(&out, "\x83\x6c\x7f\xff\xff\xff", 6);
    assert_true(decode());
    assert_false(control_reason(&control, &LIMITS, &reason));
}

static void an_unlink_id_may_have_64_bits(void **state)
{
    (void)state;
    begin(4, 35);
    buf_append(&out, "\x6e\x08\x00\xff\xff\xff\xff\xff\xff\xff\xff", 11);
    put(&pid);
    put(&pid);
    assert_true(decode());
    assert_int_equal(control.kind, CONTROL_UNLINK);
    assert_int_equal(term_raw(control.id).size, 11);
}

static void unknown_and_idle_operations_are_ignored(void **state)
{
    const int operations[] = {0, 5, 9, 40, 99, 255, 1000};

    (void)state;
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        begin(2, operations[i]);
        term_put_atom(&out, "whatever");
        put_payload("and a payload");
        assert_true(decode());
        assert_int_equal(control.kind, CONTROL_IGNORED);
    }
    begin(3, 7); /* GROUP_LEADER */
    put(&pid);
    put(&pid);
    assert_true(decode());
    assert_int_equal(control.kind, CONTROL_IGNORED);
}

static void what_is_no_control_message_is_refused(void **state)
{
    const char *const hexes[] = {
        "",     "68",   "6800",           "61",     "6a",
        "7701", "0000", "68017703666f6f", "680146", "6c0000000161016a",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(hexes) / sizeof(hexes[0]); i++) {
        struct slice bytes = dist_bytes(hexes[i]);

        assert_false(
            control_decode(bytes, FRAME_PASS_THROUGH, &LIMITS, &control, &err));
        mem_free((char *)bytes.data);
    }
}

static void a_known_operation_with_wrong_fields_is_refused(void **state)
{
    (void)state;
    begin(3, 1); /* LINK of an atom */
    put(&name);
    put(&pid);
    assert_false(decode());
    begin(4, 19); /* MONITOR_P without a reference */
    put(&pid);
    put(&name);
    put(&pid);
    assert_false(decode());
    begin(3, 33); /* ALIAS_SEND to a pid */
    put(&pid);
    put(&pid);
    put_payload("x");
    assert_false(decode());
    begin(4, 35); /* UNLINK_ID with an atom */
    put(&name);
    put(&pid);
    put(&pid);
    assert_false(decode());
    begin(2, 1); /* too short */
    put(&pid);
    assert_false(decode());
    begin(4, 1); /* too long */
    put(&pid);
    put(&pid);
    put(&pid);
    assert_false(decode());
}

static void a_payload_must_be_there_just_when_the_form_has_one(void **state)
{
    (void)state;
    begin(3, 22);
    put(&pid);
    put(&pid);
    assert_false(decode());
    put_payload("x");
    assert_true(decode());
    begin(3, 1);
    put(&pid);
    put(&pid);
    assert_true(decode());
    put_payload("x");
    assert_false(decode());
    begin(3, 22);
    put(&pid);
    put(&pid);
    buf_append(&out, "\x82\x6a", 2); /* of another version */
    assert_false(decode());
}

static void a_headed_payload_has_no_version(void **state)
{
    (void)state;
    begin(3, 22);
    put(&pid);
    put(&pid);
    control_put_payload(&out, CONTROL_FLAG_FRAGMENTS);
    term_put_atom(&out, "x");
    assert_true(
        control_decode(buf_slice(&out), FRAME_HEADED, &LIMITS, &control, &err));
    assert_true(term_check(control.payload, &LIMITS, &err));
    assert_true(term_is_atom(term_from_raw(control.payload), "x"));
    assert_false(decode()); /* in a frame that passes through */
}

static void alternate_sends_of_otp_28_say_what_they_are_by_flags(void **state)
{
    const struct {
        int flags;
        const struct buf *to;
        enum control_kind kind;
    } rows[] = {
        {1, &pid, CONTROL_SEND},
        {4 | 1, &reference, CONTROL_SEND_ALIAS},
        {8 | 1, &name, CONTROL_SEND_NAME},
        {16, &pid, CONTROL_EXIT2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t token = 0; token <= 1; token++) {
            begin(4 + token, 37);
            term_put_integer(&out, rows[i].flags | (token ? 2 : 0));
            put(&pid);
            put(rows[i].to);
            if (token)
                term_put_nil(&out);
            put_payload("x");
            assert_true(decode());
            assert_int_equal(control.kind, rows[i].kind);
            assert_true(is_of(control.from, PEER));
            assert_true(
                slice_equal(term_raw(control.to), buf_slice(rows[i].to)));
        }
    }
    begin(4, 37); /* an alias, but a name */
    term_put_integer(&out, 4);
    put(&pid);
    put(&name);
    put_payload("x");
    assert_false(decode());
}

static void what_is_written_can_be_read(void **state)
{
    struct slice a = buf_slice(&pid), r = buf_slice(&reference);

    (void)state;
    buf_clear(&out);
    control_put_send(&out, a);
    put_payload("x");
    assert_true(decode());
    assert_int_equal(control.kind, CONTROL_SEND);
    buf_clear(&out);
    control_put_send_name(&out, a, slice_of("rex"));
    put_payload("x");
    assert_true(decode());
    assert_true(term_is_atom(control.to, "rex"));
    buf_clear(&out);
    control_put_monitor(&out, a, buf_slice(&name), r);
    assert_true(decode());
    assert_int_equal(control.kind, CONTROL_MONITOR);
    buf_clear(&out);
    control_put_demonitor(&out, a, a, r);
    assert_true(decode());
    assert_int_equal(control.kind, CONTROL_DEMONITOR);
    buf_clear(&out);
    control_put_spawn_reply(&out, r, a, SPAWN_MONITORED, a);
    assert_true(decode());
    assert_int_equal((unsigned char)out.data[3], 31);
    buf_clear(&out);
    control_put_unlink_ack(&out, slice_make("\x61\x07", 2), a, a);
    assert_true(decode());
    assert_int_equal((unsigned char)out.data[3], 36);
}

/* The operation, and that the reason is where the peer looks for it. */
static void assert_exit(int operation, enum control_kind kind)
{
    struct term reason;

    term_put_atom(&out, "noproc");
    assert_true(decode());
    assert_int_equal((unsigned char)out.data[3], operation);
    assert_int_equal(control.kind, kind);
    assert_true(control_reason(&control, &LIMITS, &reason));
    assert_true(term_is_atom(reason, "noproc"));
}

static void exits_are_written_as_the_peer_can_read_them(void **state)
{
    struct slice a = buf_slice(&pid), r = buf_slice(&reference);

    (void)state;
    buf_clear(&out);
    control_put_monitor_exit(&out, CONTROL_FLAG_EXIT_PAYLOAD, a, a, r);
    assert_exit(28, CONTROL_MONITOR_EXIT);
    buf_clear(&out);
    control_put_monitor_exit(&out, 0, a, a, r);
    assert_exit(21, CONTROL_MONITOR_EXIT);
    buf_clear(&out);
    control_put_exit(&out, CONTROL_FLAG_EXIT_PAYLOAD, a, a);
    assert_exit(24, CONTROL_EXIT);
    buf_clear(&out);
    control_put_exit(&out, 0, a, a);
    assert_exit(3, CONTROL_EXIT);
}

static void alias_sends_are_written_as_the_peer_can_read_them(void **state)
{
    const struct {
        uint64_t flags;
        int operation;
    } rows[] = {{0, 33}, {CONTROL_FLAG_ALTACT, 37}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        buf_clear(&out);
        control_put_send_alias(&out, rows[i].flags, buf_slice(&pid),
                               buf_slice(&reference));
        put_payload("x");
        assert_true(decode());
        assert_int_equal((unsigned char)out.data[3], rows[i].operation);
        assert_int_equal(control.kind, CONTROL_SEND_ALIAS);
        assert_true(slice_equal(term_raw(control.to), buf_slice(&reference)));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_recorded_frame_is_understood),
        TEST(no_cut_frame_is_understood),
        TEST(sends_say_from_whom_and_to_whom),
        TEST(a_trace_token_changes_nothing),
        TEST(a_spawn_request_names_its_function),
        TEST(the_reason_of_an_exit_is_found_in_both_forms),
        TEST(a_malformed_reason_is_no_reason),
        TEST(an_unlink_id_may_have_64_bits),
        TEST(unknown_and_idle_operations_are_ignored),
        TEST(what_is_no_control_message_is_refused),
        TEST(a_known_operation_with_wrong_fields_is_refused),
        TEST(a_payload_must_be_there_just_when_the_form_has_one),
        TEST(a_headed_payload_has_no_version),
        TEST(alternate_sends_of_otp_28_say_what_they_are_by_flags),
        TEST(what_is_written_can_be_read),
        TEST(exits_are_written_as_the_peer_can_read_them),
        TEST(alias_sends_are_written_as_the_peer_can_read_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
