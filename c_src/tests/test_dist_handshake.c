#include "tests/test_dist_samples.h"
#include "tests/unit.h"

#include "llm_router/dist/handshake.h"

static const struct identity SELF = {SLICE_LITERAL("llm_router@localhost"),
                                     0x6b02eb26};
static const struct identity PEER = {SLICE_LITERAL("rec@localhost"),
                                     0x6b02eb28};
static const struct handshake_self SELF_SIDE = {&SELF, SLICE_LITERAL("ck"), 2};
static const struct handshake_self PEER_SIDE = {&PEER, SLICE_LITERAL("ck"), 2};
static const struct handshake_self OTHER_SIDE = {&SELF, SLICE_LITERAL("other"),
                                                 2};

/* What a node of OTP 25.2.3 and ours (flags 0x2d07df5fbc) said, recorded. */
static const char OTP_NAME[] =
    "001c4e0000000d07df7fbd6b02eb28000d726563406c6f63616c686f7374";
static const char OUR_STATUS_AND_CHALLENGE[] =
    "0003736f6b"
    "00274e0000002d07df5fbc322495d36b02eb26"
    "00146c6c6d5f726f75746572406c6f63616c686f7374";
static const char OTP_REPLY[] =
    "001572cbebc5588a48269c4b8df1545b1caee0744f0524";
static const char OUR_ACK[] = "001161b226f84c205552d394394a7c50c69860";
static const char OUR_NAME[] = "00234e0000002d07df5fbc6b02eb26"
                               "00146c6c6d5f726f75746572406c6f63616c686f7374";
static const char OTP_STATUS_AND_CHALLENGE[] =
    "0003736f6b"
    "00204e0000000d07df7fbd1eeb84fe6b02eb28000d726563406c6f63616c686f7374";
static const char OUR_REPLY[] =
    "001572ef1cbc2bdcf21221872cd965bc429c83ecfc65ce";
static const char OTP_ACK[] = "00116171fcdaa4f0c5d0c974d1415aff273fa7";

static struct handshake handshake;
static struct buf out;
static struct error err;

static int setup(void **state)
{
    (void)state;
    buf_init(&out, 65536);
    handshake_accept(&handshake, &SELF_SIDE, 0x322495d3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_release(&out);
    return 0;
}

static enum handshake_step feed(const void *bytes, size_t size)
{
    size_t used;

    return handshake_next(&handshake, slice_make(bytes, size), &used, &out,
                          &err);
}

/* One packet, or several: until more is wanted than is there. */
static enum handshake_step feed_hex(const char *hex)
{
    struct slice bytes = dist_bytes(hex);
    enum handshake_step step;
    size_t done = 0, used;

    do {
        step = handshake_next(&handshake,
                              slice_make(bytes.data + done, bytes.size - done),
                              &used, &out, &err);
        done += used;
    } while (step == HANDSHAKE_MORE && used > 0 && done < bytes.size);
    mem_free((char *)bytes.data);
    return step;
}

static void assert_written(const char *hex)
{
    struct slice bytes = dist_bytes(hex);

    assert_int_equal(out.size, bytes.size);
    assert_memory_equal(out.data, bytes.data, bytes.size);
    mem_free((char *)bytes.data);
    buf_clear(&out);
}

/* `length | body`, body NUL-terminated text. */
static enum handshake_step feed_text(const char *body)
{
    char packet[64];
    size_t size = strlen(body);

    packet[0] = 0;
    packet[1] = (char)size;
    memcpy(packet + 2, body, size);
    return feed(packet, size + 2);
}

static enum handshake_step feed_name(char tag, uint64_t flags, const char *name)
{
    char packet[600] = {0};
    size_t size = strlen(name), body = 1 + 8 + 4 + 2 + size;

    packet[0] = (char)(body >> 8);
    packet[1] = (char)body;
    packet[2] = tag;
    for (int i = 0; i < 8; i++)
        packet[3 + i] = (char)(flags >> (56 - 8 * i));
    packet[15] = (char)(size >> 8);
    packet[16] = (char)size;
    memcpy(packet + 17, name, size);
    return feed(packet, body + 2);
}

static void a_real_node_is_let_in(void **state)
{
    (void)state;
    assert_int_equal(feed_hex(OTP_NAME), HANDSHAKE_ASKED);
    assert_slice(handshake_peer(&handshake), "rec@localhost");
    assert_int_equal(handshake.peer_flags, 0xd07df7fbd);
    handshake_answer(&handshake, HANDSHAKE_OK, &out);
    assert_written(OUR_STATUS_AND_CHALLENGE);
    assert_int_equal(feed_hex(OTP_REPLY), HANDSHAKE_DONE);
    assert_written(OUR_ACK);
}

static void a_real_node_lets_us_in(void **state)
{
    (void)state;
    handshake_dial(&handshake, &SELF_SIDE, 0xef1cbc2b, PEER.name, &out);
    assert_written(OUR_NAME);
    assert_int_equal(feed_hex(OTP_STATUS_AND_CHALLENGE), HANDSHAKE_MORE);
    assert_written(OUR_REPLY);
    assert_int_equal(feed_hex(OTP_ACK), HANDSHAKE_DONE);
}

/* Moves what `from` wrote to `to`, a byte at a time. */
static enum handshake_step pass(struct buf *from, struct handshake *to,
                                struct buf *to_out, struct buf *unread)
{
    enum handshake_step step = HANDSHAKE_MORE;

    for (size_t i = 0; i < from->size; i++) {
        size_t used;

        buf_append_byte(unread, from->data[i]);
        step = handshake_next(to, buf_slice(unread), &used, to_out, &err);
        buf_drop_front(unread, used);
        if (step == HANDSHAKE_ASKED)
            handshake_answer(to, HANDSHAKE_ALIVE, to_out);
        else if (step != HANDSHAKE_MORE)
            break;
    }
    buf_clear(from);
    return step;
}

static void both_roles_understand_each_other_byte_by_byte(void **state)
{
    struct handshake dialling;
    struct buf a, b, unread_a, unread_b;

    (void)state;
    buf_init(&a, 4096);
    buf_init(&b, 4096);
    buf_init(&unread_a, 4096);
    buf_init(&unread_b, 4096);
    handshake_dial(&dialling, &PEER_SIDE, 7, SELF.name, &a);
    pass(&a, &handshake, &b, &unread_b);                 /* name */
    assert_int_equal(pass(&b, &dialling, &a, &unread_a), /* alive */
                     HANDSHAKE_MORE);
    assert_int_equal(pass(&a, &handshake, &b, &unread_b), /* true */
                     HANDSHAKE_MORE);
    assert_int_equal(pass(&b, &dialling, &a, &unread_a), /* challenge */
                     HANDSHAKE_MORE);
    assert_int_equal(pass(&a, &handshake, &b, &unread_b), /* reply */
                     HANDSHAKE_DONE);
    assert_int_equal(pass(&b, &dialling, &a, &unread_a), /* ack */
                     HANDSHAKE_DONE);
    buf_release(&a);
    buf_release(&b);
    buf_release(&unread_a);
    buf_release(&unread_b);
}

static void a_wrong_cookie_is_found_by_both(void **state)
{
    char ack[40];

    (void)state;
    handshake_accept(&handshake, &OTHER_SIDE, 0x322495d3);
    feed_hex(OTP_NAME);
    handshake_answer(&handshake, HANDSHAKE_OK, &out);
    assert_int_equal(feed_hex(OTP_REPLY), HANDSHAKE_FAILED);
    assert_non_null(strstr(err.message, "cookie"));

    handshake_dial(&handshake, &SELF_SIDE, 0xef1cbc2b, PEER.name, &out);
    feed_hex(OTP_STATUS_AND_CHALLENGE);
    memcpy(ack, OTP_ACK, sizeof(OTP_ACK));
    ack[sizeof(OTP_ACK) - 2] ^= 1;
    assert_int_equal(feed_hex(ack), HANDSHAKE_FAILED);
    assert_non_null(strstr(err.message, "cookie"));
}

static void a_short_digest_is_a_wrong_one(void **state)
{
    (void)state;
    feed_hex(OTP_NAME);
    handshake_answer(&handshake, HANDSHAKE_OK, &out);
    assert_int_equal(feed_hex("000572cbebc558"), HANDSHAKE_FAILED);
}

static void every_status_is_written(void **state)
{
    const struct {
        enum handshake_status status;
        const char *packet;
    } rows[] = {
        {HANDSHAKE_OK, "sok"},
        {HANDSHAKE_OK_SIMULTANEOUS, "sok_simultaneous"},
        {HANDSHAKE_NOK, "snok"},
        {HANDSHAKE_ALIVE, "salive"},
        {HANDSHAKE_NOT_ALLOWED, "snot_allowed"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool goes_on = rows[i].status == HANDSHAKE_OK ||
                       rows[i].status == HANDSHAKE_OK_SIMULTANEOUS;
        size_t size = strlen(rows[i].packet);

        handshake_accept(&handshake, &SELF_SIDE, 1);
        feed_hex(OTP_NAME);
        buf_clear(&out);
        handshake_answer(&handshake, rows[i].status, &out);
        assert_int_equal(out.data[1], size);
        assert_memory_equal(out.data + 2, rows[i].packet, size);
        assert_int_equal(out.size > 2 + size, goes_on);
    }
}

static void every_status_is_understood(void **state)
{
    const struct {
        const char *packet;
        enum handshake_step step;
    } rows[] = {
        {"sok", HANDSHAKE_MORE},
        {"sok_simultaneous", HANDSHAKE_MORE},
        {"salive", HANDSHAKE_MORE},
        {"snok", HANDSHAKE_YIELDED},
        {"snot_allowed", HANDSHAKE_FAILED},
        {"snamed:", HANDSHAKE_FAILED},
        {"s", HANDSHAKE_FAILED},
        {"x", HANDSHAKE_FAILED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        handshake_dial(&handshake, &SELF_SIDE, 1, PEER.name, &out);
        buf_clear(&out);
        assert_int_equal(feed_text(rows[i].packet), rows[i].step);
    }
}

static void who_is_told_alive_insists(void **state)
{
    (void)state;
    handshake_dial(&handshake, &SELF_SIDE, 1, PEER.name, &out);
    buf_clear(&out);
    feed_text("salive");
    assert_slice(slice_make(out.data + 2, out.size - 2), "strue");
}

static void who_does_not_insist_is_let_go(void **state)
{
    (void)state;
    feed_hex(OTP_NAME);
    handshake_answer(&handshake, HANDSHAKE_ALIVE, &out);
    assert_int_equal(feed_text("sfalse"), HANDSHAKE_FAILED);
}

static void assert_not_allowed(const char *why)
{
    assert_non_null(strstr(err.message, why));
    assert_slice(slice_make(out.data + 2, out.size - 2), "snot_allowed");
    buf_clear(&out);
}

static void the_handshake_of_old_releases_is_refused_by_name(void **state)
{
    (void)state;
    assert_int_equal(feed_name('n', 0, "old@localhost"), HANDSHAKE_FAILED);
    assert_not_allowed("OTP 22");
}

static void each_mandatory_flag_is_demanded(void **state)
{
    (void)state;
    for (int bit = 0; bit < 64; bit++) {
        uint64_t flag = UINT64_C(1) << bit;
        bool mandatory = HANDSHAKE_FLAGS_REQUIRED & flag;

        handshake_accept(&handshake, &SELF_SIDE, 1);
        assert_int_equal(
            feed_name('N', HANDSHAKE_FLAGS_REQUIRED & ~flag, "a@b"),
            mandatory ? HANDSHAKE_FAILED : HANDSHAKE_ASKED);
        if (mandatory)
            assert_not_allowed("flags");
    }
}

static void the_digest_of_otp_25_stands_for_its_mandatory_flags(void **state)
{
    const uint64_t digest = 0x4000000, unlink_id = 0x2000000;
    const uint64_t v4_nc = UINT64_C(1) << 34;

    (void)state;
    assert_int_equal(feed_name('N', digest | unlink_id | v4_nc, "a@b"),
                     HANDSHAKE_ASKED);
    handshake_accept(&handshake, &SELF_SIDE, 1);
    assert_int_equal(feed_name('N', digest, "a@b"), HANDSHAKE_FAILED);
}

static void nobody_is_given_a_name(void **state)
{
    (void)state;
    assert_int_equal(
        feed_name('N', HANDSHAKE_FLAGS | UINT64_C(1) << 33, "localhost"),
        HANDSHAKE_FAILED);
    assert_not_allowed("named");
}

static void only_node_names_are_names(void **state)
{
    char long_name[300];
    const char *const bad[] = {"",       "a",       "@",      "a@",
                               "@b",     "a@b@c",   "a @b",   "a\n@b",
                               "\xc3@b", "a@b\x7f", long_name};

    (void)state;
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    long_name[100] = '@';
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        handshake_accept(&handshake, &SELF_SIDE, 1);
        assert_int_equal(feed_name('N', HANDSHAKE_FLAGS, bad[i]),
                         HANDSHAKE_FAILED);
        assert_not_allowed("not a node name");
        assert_false(handshake_name_ok(slice_of(bad[i])));
    }
    long_name[HANDSHAKE_NAME_MAX] = '\0';
    assert_true(handshake_name_ok(slice_of(long_name)));
    handshake_accept(&handshake, &SELF_SIDE, 1);
    assert_int_equal(feed_name('N', HANDSHAKE_FLAGS, long_name),
                     HANDSHAKE_ASKED);
}

static void another_node_than_was_dialled_is_refused(void **state)
{
    (void)state;
    handshake_dial(&handshake, &SELF_SIDE, 1, slice_of("res@localhost"), &out);
    assert_int_equal(feed_hex(OTP_STATUS_AND_CHALLENGE), HANDSHAKE_FAILED);
    assert_non_null(strstr(err.message, "another name"));
}

static void a_dialled_node_without_mandatory_flags_is_refused(void **state)
{
    char challenge[sizeof(OTP_STATUS_AND_CHALLENGE)];

    (void)state;
    memcpy(challenge, OTP_STATUS_AND_CHALLENGE, sizeof(challenge));
    challenge[23] = '8'; /* 0x8_07df7fbd: without V4_NC */
    handshake_dial(&handshake, &SELF_SIDE, 1, PEER.name, &out);
    assert_int_equal(feed_hex(challenge), HANDSHAKE_FAILED);
    assert_non_null(strstr(err.message, "flags"));
}

static void garbage_is_refused_at_once(void **state)
{
    const struct {
        const char *bytes;
        size_t size;
    } rows[] = {
        {"GET / HTTP/1.1\r\n", 2}, {"\0\0", 2},     {"\xff\xff", 2},
        {"\x04\x01", 2},           {"\0\1x", 3},    {"\0\1N", 3},
        {"\0\3N\0\0", 5},          {"\x16\x03", 2}, /* TLS */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        handshake_accept(&handshake, &SELF_SIDE, 1);
        assert_int_equal(feed(rows[i].bytes, rows[i].size), HANDSHAKE_FAILED);
        assert_int_equal(out.size, 0);
    }
}

static void a_lying_name_length_is_refused(void **state)
{
    (void)state;
    /* says 0x00ff bytes of name, has 13 */
    assert_int_equal(
        feed_hex(
            "001c4e0000000d07df7fbd6b02eb2800ff726563406c6f63616c686f7374"),
        HANDSHAKE_FAILED);
}

static void every_cut_packet_waits_for_more(void **state)
{
    struct slice bytes = dist_bytes(OTP_NAME);
    size_t used;

    (void)state;
    for (size_t size = 0; size < bytes.size; size++) {
        assert_int_equal(handshake_next(&handshake,
                                        slice_make(bytes.data, size), &used,
                                        &out, &err),
                         HANDSHAKE_MORE);
        assert_int_equal(used, 0);
    }
    mem_free((char *)bytes.data);
}

static void nothing_is_taken_once_it_is_over(void **state)
{
    (void)state;
    a_real_node_is_let_in(state);
    assert_int_equal(feed_hex(OTP_NAME), HANDSHAKE_FAILED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_real_node_is_let_in),
        TEST(a_real_node_lets_us_in),
        TEST(both_roles_understand_each_other_byte_by_byte),
        TEST(a_wrong_cookie_is_found_by_both),
        TEST(a_short_digest_is_a_wrong_one),
        TEST(every_status_is_written),
        TEST(every_status_is_understood),
        TEST(who_is_told_alive_insists),
        TEST(who_does_not_insist_is_let_go),
        TEST(the_handshake_of_old_releases_is_refused_by_name),
        TEST(each_mandatory_flag_is_demanded),
        TEST(the_digest_of_otp_25_stands_for_its_mandatory_flags),
        TEST(nobody_is_given_a_name),
        TEST(only_node_names_are_names),
        TEST(another_node_than_was_dialled_is_refused),
        TEST(a_dialled_node_without_mandatory_flags_is_refused),
        TEST(garbage_is_refused_at_once),
        TEST(a_lying_name_length_is_refused),
        TEST(every_cut_packet_waits_for_more),
        TEST(nothing_is_taken_once_it_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
