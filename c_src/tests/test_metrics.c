#include "tests/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "llm_router/base/utf8.h"
#include "llm_router/metrics/exposition.h"
#include "llm_router/metrics/history.h"
#include "llm_router/metrics/meters.h"

enum { TEXT_MAX = 8 * 1024 * 1024, MINUTE = 60000 };

static bool has(const struct buf *out, const char *text)
{
    return slice_find(buf_slice(out), slice_of(text)) >= 0;
}

#define assert_has(out, text) assert_true(has(out, text))

/* --- histograms --- */

static void a_value_is_in_the_first_bucket_that_holds_it(void **state)
{
    struct histogram histogram = {.count = 0};

    (void)state;
    histogram_add(&histogram, HISTOGRAM_TOKENS, 0);
    histogram_add(&histogram, HISTOGRAM_TOKENS, 1);
    histogram_add(&histogram, HISTOGRAM_TOKENS, 1.5);
    histogram_add(&histogram, HISTOGRAM_TOKENS, 2);
    histogram_add(&histogram, HISTOGRAM_TOKENS, 2.1);
    histogram_add(&histogram, HISTOGRAM_TOKENS, 67108864);
    histogram_add(&histogram, HISTOGRAM_TOKENS, 67108865);
    assert_int_equal(histogram.counts[0], 2);
    assert_int_equal(histogram.counts[1], 2);
    assert_int_equal(histogram.counts[2], 1);
    assert_int_equal(histogram.counts[26], 1);
    assert_int_equal(histogram.counts[HISTOGRAM_BOUNDS], 1);
    assert_int_equal(histogram.count, 7);
}

static void a_value_that_is_none_counts_as_nothing(void **state)
{
    struct histogram histogram = {.count = 0};

    (void)state;
    histogram_add(&histogram, HISTOGRAM_SECONDS, -1);
    histogram_add(&histogram, HISTOGRAM_SECONDS, (double)NAN);
    assert_int_equal(histogram.counts[0], 2);
    assert_true(histogram.sum == 0);
    histogram_add(&histogram, HISTOGRAM_SECONDS, (double)INFINITY);
    assert_int_equal(histogram.counts[HISTOGRAM_BOUNDS], 1);
}

static void the_advised_boundaries_are_among_its_own(void **state)
{
    (void)state;
    assert_true(histogram_bound(HISTOGRAM_SECONDS, 10) == 0.01);
    assert_true(histogram_bound(HISTOGRAM_SECONDS, 23) == 81.92);
    assert_true(histogram_bound(HISTOGRAM_TOKENS, 26) == 67108864);
}

static void a_quantile_lies_in_the_bucket_of_its_value(void **state)
{
    struct histogram histogram = {.count = 0};

    (void)state;
    assert_true(isnan(histogram_quantile(&histogram, HISTOGRAM_SECONDS, 0.5)));
    for (int i = 0; i < 99; i++)
        histogram_add(&histogram, HISTOGRAM_SECONDS, 0.015);
    histogram_add(&histogram, HISTOGRAM_SECONDS, 30);
    for (double part = 0.1; part < 0.99; part += 0.1) {
        double value = histogram_quantile(&histogram, HISTOGRAM_SECONDS, part);

        assert_true(value > 0.01 && value <= 0.02);
    }
    assert_true(histogram_quantile(&histogram, HISTOGRAM_SECONDS, 1) == 30);
    histogram = (struct histogram){.count = 0};
    histogram_add(&histogram, HISTOGRAM_SECONDS, 1e9);
    assert_true(histogram_quantile(&histogram, HISTOGRAM_SECONDS, 0.5) == 1e9);
}

/* --- exposition --- */

static void a_hostile_label_forges_no_sample(void **state)
{
    static const struct family family = {"f", "gauge", "help"};
    const struct label labels[] = {
        {"a", SLICE_LITERAL("x\"} 9\nforged{b=\"\\")},
        {"none", {NULL, 0}},
        {"bytes", SLICE_LITERAL("\xff\xfe\0z")},
    };
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    exposition_value(&out, &family, labels, 3, 1);
    assert_slice(buf_slice(&out),
                 "f{a=\"x\\\"} 9\\nforged{b=\\\"\\\\\",bytes=\"\xef\xbf\xbd"
                 "\xef\xbf\xbdz\"} 1\n");
    assert_true(utf8_is_valid(buf_slice(&out)));
    buf_release(&out);
}

static void numbers_are_written_as_prometheus_reads_them(void **state)
{
    static const struct family family = {"f", "gauge", "help"};
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    exposition_value(&out, &family, NULL, 0, 9007199254740992.0);
    exposition_value(&out, &family, NULL, 0, 0.1);
    exposition_value(&out, &family, NULL, 0, (double)NAN);
    exposition_value(&out, &family, NULL, 0, (double)-INFINITY);
    assert_slice(buf_slice(&out), "f 9007199254740992\nf 0.1\nf NaN\nf -Inf\n");
    buf_release(&out);
}

static void the_buckets_of_a_histogram_are_cumulative(void **state)
{
    static const struct family family = {"f", "histogram", "help"};
    static const struct boundaries boundaries = {HISTOGRAM_TOKENS, 0, 4, 2};
    const struct label label = {"a", SLICE_LITERAL("b")};
    struct histogram histogram = {.count = 0};
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    for (int i = 0; i <= 20; i++)
        histogram_add(&histogram, HISTOGRAM_TOKENS, i);
    exposition_begin(&out, &family);
    exposition_histogram(&out, &family, &label, 1, &boundaries, &histogram);
    assert_slice(buf_slice(&out), "# HELP f help\n# TYPE f histogram\n"
                                  "f_bucket{a=\"b\",le=\"1\"} 2\n"
                                  "f_bucket{a=\"b\",le=\"4\"} 5\n"
                                  "f_bucket{a=\"b\",le=\"16\"} 17\n"
                                  "f_bucket{a=\"b\",le=\"+Inf\"} 21\n"
                                  "f_sum{a=\"b\"} 210\n"
                                  "f_count{a=\"b\"} 21\n");
    buf_release(&out);
}

/* --- meters --- */

static struct request_meter request_of(const char *outcome, const char *model)
{
    return (struct request_meter){
        .operation = OP_CALL,
        .outcome = outcome,
        .provider = slice_of("p"),
        .model = slice_of(model),
        .duration_s = 0.5,
        .waiting_s = 0.1,
        .overhead_s = 0.001,
    };
}

static void call(struct meters *meters, enum error_code error, double cost)
{
    const struct usage usage = {.input_tokens = 100, .output_tokens = -1};
    const struct call_meter meter = {
        .operation = OP_CALL,
        .provider = slice_of("p"),
        .model = slice_of("m"),
        .error = error,
        .duration_s = 0.3,
        .first_token_s = (double)NAN,
        .usage = &usage,
        .cost_usd = cost,
    };

    meters_call(meters, &meter);
}

static void requests_are_counted_by_what_became_of_them(void **state)
{
    struct meters *meters = meters_new(1);
    struct request_meter ok = request_of("ok", "m");
    struct request_meter late = request_of("timeout", "m");
    struct request_meter strange = {.operation = OPERATION_COUNT,
                                    .outcome = "unknown_request",
                                    .duration_s = NAN};
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    meters_request(meters, &ok);
    meters_request(meters, &ok);
    meters_request(meters, &late);
    meters_request(meters, &strange);
    meters_put(meters, &out);
    assert_has(&out, "llm_router_requests_total{operation=\"call\","
                     "outcome=\"ok\",provider=\"p\",model=\"m\"} 2\n");
    assert_has(&out, "outcome=\"timeout\",provider=\"p\",model=\"m\"} 1\n");
    assert_has(&out, "{operation=\"unknown\",outcome=\"unknown_request\"} 1\n");
    assert_has(&out, "llm_router_request_duration_seconds_count"
                     "{operation=\"call\"} 3\n");
    assert_has(&out, "llm_router_overhead_seconds_count 3\n");
    buf_release(&out);
    meters_free(meters);
}

static void calls_are_timed_by_their_error(void **state)
{
    struct meters *meters = meters_new(1);
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    call(meters, ERR_NONE, (double)NAN);
    meters_put(meters, &out);
    assert_false(has(&out, "llm_router_cost_usd_total{"));
    buf_clear(&out);
    call(meters, ERR_NONE, 0.25);
    call(meters, ERR_RATE_LIMITED, 0.5);
    meters_put(meters, &out);
    assert_has(&out, "gen_ai_client_operation_duration_seconds_count{"
                     "gen_ai_operation_name=\"chat\",gen_ai_provider_name="
                     "\"p\",gen_ai_request_model=\"m\"} 2\n");
    assert_has(&out, "error_type=\"rate_limited\",gen_ai_provider_name=\"p\","
                     "gen_ai_request_model=\"m\"} 1\n");
    assert_has(&out, "llm_router_cost_usd_total{gen_ai_operation_name=\"chat\","
                     "gen_ai_provider_name=\"p\",gen_ai_request_model=\"m\"} "
                     "0.75\n");
    assert_has(&out, "gen_ai_token_type=\"input\"} 300\n");
    assert_has(&out, "gen_ai_token_type=\"output\"} 0\n");
    buf_release(&out);
    meters_free(meters);
}

static void take_view(void *context, const struct model_meter_view *view)
{
    *(struct model_meter_view *)context = *view;
}

static void a_model_has_all_of_its_calls(void **state)
{
    struct meters *meters = meters_new(1);
    struct model_meter_view view = {.calls = 0};

    (void)state;
    call(meters, ERR_NONE, 0.25);
    call(meters, ERR_TIMEOUT, 0);
    meters_each_model(meters, take_view, &view);
    assert_slice(view.provider, "p");
    assert_slice(view.model, "m");
    assert_int_equal(view.calls, 2);
    assert_int_equal(view.failed, 1);
    assert_true(view.input_tokens == 200 && view.output_tokens == 0);
    meters_free(meters);
}

static void
callers_that_name_ever_new_models_do_not_fill_the_memory(void **state)
{
    struct meters *meters = meters_new(1);
    char model[300];
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    for (int i = 0; i < METERS_MAX + 100; i++) {
        struct request_meter request;

        snprintf(model, sizeof(model), "m%d", i);
        request = request_of("ok", model);
        meters_request(meters, &request);
    }
    meters_request(meters, &(struct request_meter){.operation = OPERATION_COUNT,
                                                   .outcome = "unknown_request",
                                                   .duration_s = NAN});
    meters_put(meters, &out);
    assert_has(&out, "outcome=\"unknown_request\"} 1\n");
    assert_has(&out, "model=\"m999\"} 1\n");
    assert_false(has(&out, "model=\"m1000\""));
    assert_has(&out, "model=\"other\"} 100\n");
    buf_release(&out);
    meters_free(meters);
}

/* Under what a page may have (web.h), and within one turn of the loop. */
static void what_a_full_table_says_can_still_be_sent(void **state)
{
    struct meters *meters = meters_new(1);
    const struct usage usage = {.input_tokens = 1, .output_tokens = 1};
    char model[128];
    struct buf out;

    (void)state;
    buf_init(&out, 8 * 1024 * 1024);
    for (int i = 0; i < METERS_MAX + 100; i++) {
        struct request_meter request;
        struct call_meter call = {
            .operation = OP_CALL,
            .provider = SLICE_LITERAL("a-provider-with-a-long-name"),
            .duration_s = 1,
            .first_token_s = 1,
            .usage = &usage,
        };

        snprintf(model, sizeof(model), "%0100d", i);
        call.model = slice_of(model);
        meters_call(meters, &call);
        request = request_of("ok", model);
        meters_request(meters, &request);
    }
    meters_put(meters, &out);
    assert_false(out.failed);
    assert_has(&out, "gen_ai_request_model=\"other\"");
    buf_release(&out);
    meters_free(meters);
}

/* Labels are cleaned: what is cut within a character would become what another
 * one becomes that was cut there, and a scrape with two equal series is
 * refused as a whole. */
static void long_names_are_cut_between_characters(void **state)
{
    struct meters *meters = meters_new(1);
    static const char *const ends[] = {"\xC3\xA9", "\xE2\x82\xAC"};
    char model[300];
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    for (size_t i = 0; i < 2; i++) {
        struct request_meter request;

        snprintf(model, sizeof(model), "%0254d%s", 7, ends[i]);
        request = request_of("ok", model);
        meters_request(meters, &request);
    }
    meters_put(meters, &out);
    assert_has(&out, "07\"} 2\n");
    buf_release(&out);
    meters_free(meters);
}

static void names_of_any_length_are_counted(void **state)
{
    struct meters *meters = meters_new(1);
    struct request_meter request = request_of("ok", "");
    static char name[4000];
    struct buf out;

    (void)state;
    memset(name, 'x', sizeof(name));
    buf_init(&out, TEXT_MAX);
    request.provider = request.model = slice_make(name, sizeof(name));
    meters_request(meters, &request);
    meters_request(meters, &request);
    meters_put(meters, &out);
    assert_has(&out, "xxx\"} 2\n");
    buf_release(&out);
    meters_free(meters);
}

/* --- history --- */

static void put(const struct history *history, uint64_t now_ms, struct buf *out)
{
    buf_clear(out);
    history_put(history, now_ms, 1000000000000, out);
}

static void the_latest_minute_comes_last(void **state)
{
    struct history *history = history_new();
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    history_request(history, 100 * MINUTE, ERR_NONE, 0.001);
    history_request(history, 100 * MINUTE + 1, ERR_TIMEOUT, 0.001);
    history_request(history, 100 * MINUTE + 2, ERR_CANCELLED, 0.001);
    history_request(history, 101 * MINUTE, ERR_NONE, (double)NAN);
    put(history, 101 * MINUTE + 15000, &out);
    assert_has(&out, ",0,0,1,1],\"failed\":[");
    assert_has(&out, ",0,1,0]}");
    assert_has(&out, "\"until_ms\":1000000045000,");
    assert_has(&out, ",null]}"); /* nothing was measured in the last one */
    buf_release(&out);
    history_free(history);
}

static void what_is_older_than_an_hour_is_forgotten(void **state)
{
    struct history *history = history_new();
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    history_request(history, 0, ERR_NONE, 0.001);
    put(history, 59 * MINUTE, &out);
    assert_has(&out, "\"ok\":[1,0,");
    put(history, 60 * MINUTE, &out);
    assert_has(&out, "\"ok\":[0,0,");
    assert_false(has(&out, "1"
                           ",0,"));
    history_request(history, 60 * MINUTE, ERR_NONE, 0.001);
    put(history, 60 * MINUTE, &out);
    assert_has(&out, ",0,1],\"failed\"");
    buf_release(&out);
    history_free(history);
}

static void providers_have_columns_of_their_own(void **state)
{
    struct history *history = history_new();
    struct history_call ok = {slice_of("a\"b"), ERR_NONE, 0.015, 0.5};
    struct history_call failed = {slice_of("a\"b"), ERR_TIMEOUT, 9, NAN};
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    history_call(history, 5 * MINUTE, &ok);
    history_call(history, 5 * MINUTE, &failed);
    put(history, 5 * MINUTE, &out);
    assert_has(&out, "\"providers\":[{\"name\":\"a\\\"b\",\"calls\":[");
    assert_has(&out, ",0,2],\"failed\":[");
    assert_has(&out, ",0,1],\"p50_ms\":[");
    assert_has(&out, ",null,0.5]}]}");
    buf_release(&out);
    history_free(history);
}

static void no_more_than_so_many_providers_are_kept(void **state)
{
    struct history *history = history_new();
    struct buf out;
    char name[16];

    (void)state;
    buf_init(&out, TEXT_MAX);
    for (int i = 0; i < HISTORY_PROVIDERS_MAX + 5; i++) {
        struct history_call call = {.duration_s = 1};

        snprintf(name, sizeof(name), "p%d", i);
        call.provider = slice_of(name);
        history_call(history, 0, &call);
    }
    put(history, 0, &out);
    assert_has(&out, "\"p63\"");
    assert_false(has(&out, "\"p64\""));
    buf_release(&out);
    history_free(history);
}

static void keep_failure(struct history *history, const char *message,
                         int attempts)
{
    struct error err;
    struct request_failure failure = {
        .unix_ms = 7,
        .operation = OP_CALL,
        .error = &err,
        .provider = SLICE_LITERAL("p"),
        .node = SLICE_LITERAL("\xff<script>"),
        .attempts = attempts,
    };

    error_at(&err, ERR_BAD_RESPONSE, "opts.x", "%s", message);
    history_failure(history, &failure);
}

static void the_latest_failure_comes_first(void **state)
{
    struct history *history = history_new();
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    history_put_failures(history, &out);
    assert_slice(buf_slice(&out), "[]");
    keep_failure(history, "first \"quoted\"\n", 1);
    keep_failure(history, "second", 2);
    buf_clear(&out);
    history_put_failures(history, &out);
    assert_slice(
        buf_slice(&out),
        "[{\"at_ms\":7,\"count\":1,\"code\":\"bad_response\",\"attempts\":2,"
        "\"operation\":\"call\",\"message\":\"second\",\"path\":\"opts.x\","
        "\"provider\":\"p\",\"model\":null,\"request_id\":null,"
        "\"node\":\"\xef\xbf\xbd<script>\"},"
        "{\"at_ms\":7,\"count\":1,\"code\":\"bad_response\",\"attempts\":1,"
        "\"operation\":\"call\",\"message\":\"first \\\"quoted\\\"\\n\","
        "\"path\":\"opts.x\",\"provider\":\"p\",\"model\":null,"
        "\"request_id\":null,\"node\":\"\xef\xbf\xbd<script>\"}]");
    buf_release(&out);
    history_free(history);
}

static void the_same_failure_again_takes_no_other_place(void **state)
{
    struct history *history = history_new();
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    keep_failure(history, "rare", 1);
    for (int i = 0; i < 3 * HISTORY_FAILURES; i++)
        keep_failure(history, "often", i);
    keep_failure(history, "last", 1);
    history_put_failures(history, &out);
    assert_has(&out, "[{\"at_ms\":7,\"count\":1,\"code\":\"bad_response\","
                     "\"attempts\":1,\"operation\":\"call\","
                     "\"message\":\"last\"");
    assert_has(&out, "\"count\":150,\"code\":\"bad_response\","
                     "\"attempts\":149,");
    assert_has(&out, "\"message\":\"rare\"");
    buf_release(&out);
    history_free(history);
}

static void only_the_latest_failures_are_kept(void **state)
{
    struct history *history = history_new();
    char message[16];
    struct buf out;

    (void)state;
    buf_init(&out, TEXT_MAX);
    for (int i = 0; i < HISTORY_FAILURES + 3; i++) {
        snprintf(message, sizeof(message), "m%d.", i);
        keep_failure(history, message, i);
    }
    history_put_failures(history, &out);
    assert_has(
        &out,
        "[{\"at_ms\":7,\"count\":1,\"code\":\"bad_response\",\"attempts\":52");
    assert_has(&out, "\"m3.\"");
    assert_false(has(&out, "\"m2.\""));
    buf_release(&out);
    history_free(history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_in_the_first_bucket_that_holds_it),
        cmocka_unit_test(a_value_that_is_none_counts_as_nothing),
        cmocka_unit_test(the_advised_boundaries_are_among_its_own),
        cmocka_unit_test(a_quantile_lies_in_the_bucket_of_its_value),
        cmocka_unit_test(a_hostile_label_forges_no_sample),
        cmocka_unit_test(numbers_are_written_as_prometheus_reads_them),
        cmocka_unit_test(the_buckets_of_a_histogram_are_cumulative),
        cmocka_unit_test(requests_are_counted_by_what_became_of_them),
        cmocka_unit_test(calls_are_timed_by_their_error),
        cmocka_unit_test(a_model_has_all_of_its_calls),
        cmocka_unit_test(
            callers_that_name_ever_new_models_do_not_fill_the_memory),
        cmocka_unit_test(what_a_full_table_says_can_still_be_sent),
        cmocka_unit_test(long_names_are_cut_between_characters),
        cmocka_unit_test(names_of_any_length_are_counted),
        cmocka_unit_test(the_latest_minute_comes_last),
        cmocka_unit_test(what_is_older_than_an_hour_is_forgotten),
        cmocka_unit_test(providers_have_columns_of_their_own),
        cmocka_unit_test(no_more_than_so_many_providers_are_kept),
        cmocka_unit_test(the_latest_failure_comes_first),
        cmocka_unit_test(the_same_failure_again_takes_no_other_place),
        cmocka_unit_test(only_the_latest_failures_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
