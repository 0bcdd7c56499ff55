/* Our id of a request in the provider's headers, and its id of the answer in
 * our errors: for every dialect. */
#include "test_provider_bed.h"

static const struct row {
    const char *dialect;
    const char *sent;        /* the header's line; NULL: there is none */
    const char *answered[3]; /* headers; the first that is there counts */
} rows[] = {
    {"openai", "X-Client-Request-Id: req-1", {"x-request-id"}},
    {"openai_responses", "X-Client-Request-Id: req-1", {"x-request-id"}},
    {"azure",
     "x-ms-client-request-id: req-1",
     {"apim-request-id", "x-ms-request-id", "x-request-id"}},
    {"azure_responses",
     "x-ms-client-request-id: req-1",
     {"apim-request-id", "x-ms-request-id", "x-request-id"}},
    {"anthropic", NULL, {"request-id"}},
    {"gemini", NULL, {NULL}},
    {"ollama", NULL, {NULL}},
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static int set_up(void **state)
{
    (void)state;
    bed_begin("openai");
    return 0;
}

static void use(const struct row *row)
{
    bed_end(NULL);
    bed_begin(row->dialect);
}

/* Is it in any header? */
static bool is_sent(const char *id)
{
    for (size_t i = 0; i < bed.request.header_count; i++)
        if (strstr(bed.request.headers[i], id))
            return true;
    return false;
}

static void it_is_sent_where_there_is_a_header_for_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        use(&rows[i]);
        bed.endpoint.request_id = slice_of("req-1");
        assert_true(bed_build());
        assert_true(rows[i].sent ? bed_has_header(rows[i].sent)
                                 : !is_sent("req-1"));
    }
}

/* It is the caller's: it may be anything. The request is sent all the same. */
static void it_is_not_sent_when_it_is_not_visible_ascii(void **state)
{
    static const char *const ids[] = {
        "zzz\r\nX-Evil: 1", "zzz zzz", "zzz\t", "zzz\x7F", "zzz\xC3\xA9", ""};

    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        use(&rows[i]);
        for (size_t k = 0; k < sizeof(ids) / sizeof(ids[0]); k++) {
            bed.endpoint.request_id = slice_of(ids[k]);
            assert_true(bed_build());
            assert_false(is_sent("zzz"));
            assert_false(is_sent("equest-Id"));
        }
        bed.endpoint.request_id = slice_make("zzz\0zzz", 7);
        assert_true(bed_build());
        assert_false(is_sent("zzz"));
    }
}

static void it_is_not_sent_when_it_is_too_long(void **state)
{
    char id[513];

    (void)state;
    memset(id, 'z', sizeof(id));
    bed.endpoint.request_id = slice_make(id, 512);
    assert_true(bed_build());
    assert_true(is_sent("zzz"));
    bed.endpoint.request_id = slice_make(id, 513);
    assert_true(bed_build());
    assert_false(is_sent("zzz"));
}

static const char *id_of_failure(void)
{
    assert_false(bed_read(500, slice_of("{\"error\":\"broken\"}")));
    return bed.failure.error.provider_request_id;
}

static void the_providers_is_in_the_error(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t k = 0; k < 3 && rows[i].answered[k]; k++) {
            use(&rows[i]);
            bed_header(rows[i].answered[k], "req_011CSHoEeqs5C35K2UUqR7Fy");
            assert_string_equal(id_of_failure(),
                                "req_011CSHoEeqs5C35K2UUqR7Fy");
        }
        use(&rows[i]);
        bed_header("x-unknown-request-id", "req_011CSHoEeqs5C35K2UUqR7Fy");
        assert_string_equal(id_of_failure(), "");
    }
}

static void the_first_header_counts(void **state)
{
    (void)state;
    use(&rows[2]);
    bed_header("x-request-id", "third");
    bed_header("apim-request-id", "first");
    assert_string_equal(id_of_failure(), "first");
}

/* Whatever fails: a good answer that breaks off, a bad one, an error in it. */
static void every_kind_of_failure_has_it(void **state)
{
    static const char *const bodies[] = {
        "", "no JSON",
        "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n",
        "data: {\"error\":{\"message\":\"later\"}}\n\n"};

    (void)state;
    bed_header("x-request-id", "req_1");
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        assert_false(bed_read_text(bodies[i]));
        assert_string_equal(bed.failure.error.provider_request_id, "req_1");
    }
}

/* The transfer ended by a timer of ours. */
static void an_answer_can_be_named_in_another_error(void **state)
{
    struct reader *reader;
    struct error err;

    (void)state;
    bed_header("x-request-id", "req_1");
    reader = bed_reader(200);
    error_set(&err, ERR_TIMEOUT, "silent");
    reader_name_answer(reader, &err);
    assert_string_equal(err.provider_request_id, "req_1");
    assert_string_equal(err.message, "silent");
    reader_free(reader);
}

static void one_that_is_not_an_id_is_none(void **state)
{
    static char longest[ERROR_PROVIDER_ID_MAX + 1];
    static const char *const ids[] = {"a b", "a\x1B[2J", "\xC3\xA9", "",
                                      longest};

    (void)state;
    memset(longest, 'x', ERROR_PROVIDER_ID_MAX);
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        use(&rows[0]);
        bed_header("x-request-id", ids[i]);
        assert_string_equal(id_of_failure(), "");
    }
    longest[ERROR_PROVIDER_ID_MAX - 1] = '\0';
    use(&rows[0]);
    bed_header("x-request-id", longest);
    assert_string_equal(id_of_failure(), longest);
}

static void the_key_is_cut_out_of_it(void **state)
{
    (void)state;
    bed_header("x-request-id", "a-top/secret+key-b");
    assert_null(strstr(id_of_failure(), "secret"));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, bed_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_is_sent_where_there_is_a_header_for_it),
        TEST(it_is_not_sent_when_it_is_not_visible_ascii),
        TEST(it_is_not_sent_when_it_is_too_long),
        TEST(the_providers_is_in_the_error),
        TEST(the_first_header_counts),
        TEST(every_kind_of_failure_has_it),
        TEST(an_answer_can_be_named_in_another_error),
        TEST(one_that_is_not_an_id_is_none),
        TEST(the_key_is_cut_out_of_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
