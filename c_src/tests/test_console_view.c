/* What `status` and `top` show of a status document. */
#include "unit.h"

#include "console/console_internal.h"

struct bed {
    struct arena arena;
    struct buf out;
    struct view_options options;
};

static int set_up(void **state)
{
    static struct bed bed;

    arena_init(&bed.arena, 0);
    buf_init(&bed.out, SIZE_MAX);
    bed.options = (struct view_options){.width = 80, .flags = VIEW_UTF8};
    *state = &bed;
    return 0;
}

static int tear_down(void **state)
{
    struct bed *bed = *state;

    arena_release(&bed->arena);
    buf_release(&bed->out);
    return 0;
}

static const struct jv *parse(struct bed *bed, const char *json)
{
    const struct jv *status;
    struct error err;

    assert_true(view_parse(&bed->arena, slice_of(json), &status, &err));
    return status;
}

/* What is shown, with a NUL at the end. */
static const char *show(struct bed *bed, const char *json)
{
    buf_clear(&bed->out);
    view_put(parse(bed, json), &bed->options, &bed->out);
    buf_append_byte(&bed->out, '\0');
    return bed->out.data;
}

static void assert_shows(struct bed *bed, const char *json, const char *what)
{
    const char *shown = show(bed, json);

    if (!strstr(shown, what))
        fail_msg("there is no \"%s\" in:\n%s", what, shown);
}

static void assert_hides(struct bed *bed, const char *json, const char *what)
{
    const char *shown = show(bed, json);

    if (strstr(shown, what))
        fail_msg("there is \"%s\" in:\n%s", what, shown);
}

static size_t count_lines(const char *shown)
{
    size_t lines = 0;

    for (; *shown; shown++)
        lines += *shown == '\n';
    return lines;
}

/* By the pen's own measure; each line ends with a newline. */
static size_t widest(const char *shown)
{
    const struct pen pen = {.flags = VIEW_UTF8};
    size_t most = 0;

    while (*shown) {
        size_t size = strcspn(shown, "\n");
        size_t columns = pen_measure(&pen, slice_make(shown, size), 1000);

        most = columns > most ? columns : most;
        assert_int_equal(shown[size], '\n');
        shown += size + 1;
    }
    return most;
}

#define STATUS(more)                                                      \
    "{\"version\":\"1.2.3\",\"node\":\"llm_router@h\",\"state\":\"ok\","  \
    "\"ready\":true,\"holds_global_name\":true,\"now_ms\":1000000,"       \
    "\"uptime_ms\":90061000,\"peers\":2,\"in_flight\":3,\"waiting\":0,"   \
    "\"slots\":64,\"requests\":1234567,\"succeeded\":12345,\"failed\":7," \
    "\"tokens\":{\"input\":10,\"output\":20},\"cost_usd\":1.5" more "}"

#define KEY(name, state) \
    "{\"name\":\"" name "\",\"state\":\"" state "\",\"returns_ms\":12000}"

#define PROVIDERS                                                             \
    ",\"providers\":[{\"name\":\"openai\",\"keys\":[" KEY("a", "ok") "," KEY( \
        "b", "benched") "]},{\"name\":\"ollama\",\"keys\":[" KEY("default",   \
                                                                 "ok") "]}]"

#define HISTORY                                                            \
    ",\"history\":{\"step_s\":60,\"requests\":{\"ok\":[0,1,2,7],"          \
    "\"failed\":[0,0,0,1]},\"overhead_ms\":{\"p50\":[null,null,1,2],"      \
    "\"p99\":[null,null,3.5,4.25]},\"providers\":[{\"name\":\"ollama\","   \
    "\"calls\":[10,10,0,0],\"failed\":[1,0,0,0],\"p50_ms\":[100,null,250," \
    "null],\"p99_ms\":[1,2,3,null],\"cost_usd\":[0.25,0.25,0,0]}]}"

#define ERROR(text)                                                       \
    "{\"at_ms\":940000,\"operation\":\"stream\",\"code\":\"timeout\","    \
    "\"message\":\"" text "\",\"provider\":\"openai\",\"model\":\"gpt\"," \
    "\"node\":\"app@h\"}"

static void the_first_line_says_who_and_how_it_is(void **state)
{
    assert_shows(*state, STATUS(""),
                 "llm_router@h  1.2.3  ok  up 1d 01h  holds the global name  "
                 "nodes 2\n");
}

static void figures_are_readable(void **state)
{
    assert_shows(*state, STATUS(""), "requests 1.2M  ok 12,345  failed 7");
    assert_shows(*state, STATUS(""), "in flight 3 of 64");
    assert_shows(*state, STATUS(""), "cost $1.50");
}

static void a_router_that_drains_is_not_ready(void **state)
{
    static const char draining[] = "{\"node\":\"n@h\",\"state\":\"draining\","
                                   "\"ready\":true}";
    static const char starting[] = "{\"node\":\"n@h\",\"state\":\"ok\"}";

    assert_true(view_is_ready(parse(*state, STATUS(""))));
    assert_false(view_is_ready(parse(*state, draining)));
    assert_false(view_is_ready(parse(*state, starting)));
    assert_shows(*state, draining, "draining");
    assert_shows(*state, starting, "not ready");
}

static void what_is_no_status_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"node\":1,\"state\":\"ok\"}",
        "{\"node\":\"a\",\"state\":\"ok\"} and more"};
    struct bed *bed = *state;
    const struct jv *status;
    struct error err;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_false(
            view_parse(&bed->arena, slice_of(texts[i]), &status, &err));
        assert_int_equal(err.code, ERR_BAD_RESPONSE);
    }
}

static void the_queue_is_shown_where_there_is_one(void **state)
{
    assert_hides(*state, STATUS(",\"queue\":null"), "queue");
    assert_shows(*state,
                 STATUS(",\"queue\":{\"state\":\"down\",\"depth\":null,"
                        "\"oldest_age_s\":90,\"in_flight\":1,\"dead\":2}"),
                 "\nqueue  down  oldest 1m 30s  in flight 1  dead letters 2\n");
}

static void the_history_is_bars_with_their_sum(void **state)
{
    assert_shows(*state, STATUS(HISTORY), "LAST 4m 00s\nrequests ▁▂▃█ 10\n");
    assert_shows(*state, STATUS(HISTORY), "\nown p99    ▇█ 4.25 ms\n");
}

static void a_narrow_screen_puts_several_steps_in_a_bar(void **state)
{
    struct bed *bed = *state;
    struct buf json;

    buf_init(&json, SIZE_MAX);
    buf_append_text(&json, "{\"node\":\"n\",\"state\":\"ok\",\"history\":{"
                           "\"requests\":{\"ok\":[5");
    for (int i = 1; i < 60; i++)
        buf_append_text(&json, ",5");
    buf_append(&json, "]}}}", sizeof("]}}}"));
    bed->options.width = 50;
    bed->options.flags = 0;
    assert_shows(bed, json.data,
                 "\nrequests ############################## 300\n");
    buf_release(&json);
}

static void without_utf8_all_is_ascii(void **state)
{
    struct bed *bed = *state;
    const char *shown;

    bed->options.flags = 0;
    shown = show(bed, STATUS(HISTORY ",\"errors\":[" ERROR("s\\u00fc\\u4f60") //
                             "]"));
    for (const char *at = shown; *at; at++)
        assert_true(*at == '\n' || (*at >= ' ' && *at <= '~'));
    assert_non_null(strstr(shown, "requests _.:# 10"));
    assert_non_null(strstr(shown, "s??"));
}

static void a_provider_has_health_latency_and_cost(void **state)
{
    assert_shows(*state, STATUS(PROVIDERS HISTORY),
                 "\nollama       ok            20   5.0%     250    3.00"
                 "  $0.5000  ██▁▁\n");
}

static void keys_have_lines_where_they_say_something(void **state)
{
    struct bed *bed = *state;

    assert_shows(bed, STATUS(PROVIDERS), "\nopenai       1/2 ok ");
    assert_shows(bed, STATUS(PROVIDERS), "\n  a          ok       in flight 0");
    assert_shows(bed, STATUS(PROVIDERS),
                 "\n  b          benched  for 12s  in flight 0");
    assert_hides(bed, STATUS(PROVIDERS), "default");
}

static void an_error_says_when_what_and_whose(void **state)
{
    assert_shows(*state, STATUS(",\"errors\":[" ERROR("no token") "]"),
                 "\n1m 00s  timeout        openai/gpt        stream app@h: no "
                 "token\n");
}

static void a_model_has_its_figures(void **state)
{
    assert_shows(*state,
                 STATUS(",\"models\":[{\"provider\":\"p\",\"model\":\"m\","
                        "\"requests\":1000,\"failed\":1,\"p50_ms\":0.5,"
                        "\"p99_ms\":null,\"input_tokens\":5,"
                        "\"output_tokens\":6,\"cost_usd\":0.01}]"),
                 "\np/m                     1,000       1    0.50       -"
                 "         5       6  $0.0100\n");
}

static void a_cost_that_is_not_known_is_not_nothing(void **state)
{
    assert_shows(*state,
                 STATUS(",\"models\":[{\"provider\":\"p\",\"model\":\"m\","
                        "\"requests\":1000,\"failed\":1,\"p50_ms\":0.5,"
                        "\"p99_ms\":null,\"input_tokens\":5,"
                        "\"output_tokens\":6,\"cost_usd\":null}]"),
                 "         5       6        -\n");
}

static void control_characters_are_escaped(void **state)
{
    struct bed *bed = *state;
    static const char json[] =
        STATUS(",\"errors\":[" ERROR("\\u001b]0;x\\u0007\\n\\u009b2J") "]");

    bed->options.width = 120;
    assert_shows(bed, json, "\\x1b]0;x\\x07\\x0a\\u{9b}2J");
    assert_hides(bed, json, "\x1b");
}

static void invisible_and_reversing_characters_are_escaped(void **state)
{
    struct bed *bed = *state;

    bed->options.width = 120;
    assert_shows(bed,
                 STATUS(",\"errors\":[" ERROR(
                     "\\u202egnp\\u200b e\\u0301 \\ufeff\\u0600") "]"),
                 "\\u{202e}gnp\\u{200b} e\\u{301} \\u{feff}\\u{600}");
}

static void wide_characters_count_twice(void **state)
{
    struct bed *bed = *state;

    bed->options.width = 59;
    assert_shows(
        bed,
        STATUS(",\"errors\":[" ERROR("你好世界你好世界你好世界你好世界") "]"),
        "stream app@h: 你…\n");
}

static void a_long_text_is_cut_with_a_sign(void **state)
{
    struct bed *bed = *state;

    bed->options.width = 60;
    assert_shows(bed, STATUS(",\"errors\":[" ERROR("0123456789") "]"),
                 "app@h: 0123…\n");
    bed->options.flags = 0;
    assert_shows(bed, STATUS(",\"errors\":[" ERROR("0123456789") "]"),
                 "app@h: 0123~\n");
}

static void no_line_is_wider_than_the_screen(void **state)
{
    struct bed *bed = *state;

    for (size_t width = VIEW_WIDTH_MIN; width <= 200; width++) {
        bed->options.width = width;
        assert_true(widest(show(bed, STATUS(PROVIDERS HISTORY ",\"errors\":[" //
                                            ERROR("你好\\u001b世界") "]"))) <=
                    width);
    }
}

static void no_more_lines_than_the_screen_has(void **state)
{
    static const char json[] =
        STATUS(PROVIDERS HISTORY ",\"models\":[1,2,3,4,5,6,7,8,9],\"errors\":["
                                 "1,2,3,4,5,6,7,8,9,10,11,12]");
    struct bed *bed = *state;

    for (size_t height = 1; height <= 40; height++) {
        bed->options.height = height;
        assert_true(count_lines(show(bed, json)) <= height);
    }
    bed->options.height = 24;
    assert_int_equal(count_lines(show(bed, json)), 24);
    assert_shows(bed, json, "PROVIDER");
    assert_shows(bed, json, "MODEL ");
    assert_shows(bed, json, "AGO");
    assert_shows(bed, json, "LAST");
}

static void a_notice_is_the_first_line(void **state)
{
    struct bed *bed = *state;
    const char *shown;

    bed->options.notice = SLICE_LITERAL("no answer\x1b[2J");
    shown = show(bed, STATUS(""));
    assert_memory_equal(shown, "no answer\\x1b[2J\nllm_router@h", 27);
}

static void colours_begin_and_end_within_a_line(void **state)
{
    struct bed *bed = *state;

    assert_hides(bed, STATUS(PROVIDERS), "\x1b");
    bed->options.flags |= VIEW_COLOUR;
    assert_shows(bed, STATUS(PROVIDERS), "\x1b[32mok\x1b[0m");
    assert_shows(bed, STATUS(PROVIDERS), "\x1b[1;31mbenched");
    bed->options.height = 1;
    assert_int_equal(count_lines(show(bed, STATUS(PROVIDERS))), 1);
    assert_string_equal(bed->out.data + bed->out.size - 6, "\x1b[0m\n");
}

static void whatever_is_of_the_wrong_type_is_nothing(void **state)
{
    static const char *const documents[] = {
        "{\"node\":\"n\",\"state\":\"s\",\"providers\":5,\"models\":{\"a\":1},"
        "\"errors\":\"x\",\"history\":[],\"queue\":\"up\",\"tokens\":7}",
        "{\"node\":\"n\",\"state\":\"s\",\"providers\":[1,null,[],{}],"
        "\"models\":[null],\"errors\":[[]],\"history\":{\"requests\":{\"ok\":"
        "[\"a\",{},-5]},\"providers\":[7]},\"queue\":[1]}",
        "{\"node\":\"n\",\"state\":\"s\",\"requests\":1e308,\"cost_usd\":-1e30,"
        "\"uptime_ms\":1e300,\"resident_bytes\":1e300,\"now_ms\":-1}",
    };

    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
        assert_true(widest(show(*state, documents[i])) <= 80);
    assert_shows(*state, documents[2], "requests 1.0e+15  ok 0");
}

static void figures_keep_within_their_columns(void **state)
{
    static const double values[] = {0,     0.00001, 0.5,   0.9999, 9.999,
                                    99.99, 999.9,   99999, 999999, 9999999,
                                    1e9,   9.99e11, 1e12,  1e15,   -3};

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_true(strlen(figure_count(values[i]).text) <= 7);
        assert_true(strlen(figure_ms(values[i]).text) <= 7);
        assert_true(strlen(figure_usd(values[i]).text) <= 8);
        assert_true(strlen(figure_percent(values[i]).text) <= 6);
    }
    assert_string_equal(figure_duration(59999).text, "59s");
    assert_string_equal(figure_duration(3600000).text, "1h 00m");
    assert_string_equal(figure_bytes(1024 * 1024 * 33.5).text, "33.5 MiB");
    assert_string_equal(figure_count(999999.6).text, "1.0M");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_first_line_says_who_and_how_it_is),
        TEST(figures_are_readable),
        TEST(a_router_that_drains_is_not_ready),
        TEST(what_is_no_status_is_refused),
        TEST(the_queue_is_shown_where_there_is_one),
        TEST(the_history_is_bars_with_their_sum),
        TEST(a_narrow_screen_puts_several_steps_in_a_bar),
        TEST(without_utf8_all_is_ascii),
        TEST(a_provider_has_health_latency_and_cost),
        TEST(keys_have_lines_where_they_say_something),
        TEST(an_error_says_when_what_and_whose),
        TEST(a_model_has_its_figures),
        TEST(a_cost_that_is_not_known_is_not_nothing),
        TEST(control_characters_are_escaped),
        TEST(invisible_and_reversing_characters_are_escaped),
        TEST(wide_characters_count_twice),
        TEST(a_long_text_is_cut_with_a_sign),
        TEST(no_line_is_wider_than_the_screen),
        TEST(no_more_lines_than_the_screen_has),
        TEST(a_notice_is_the_first_line),
        TEST(colours_begin_and_end_within_a_line),
        TEST(whatever_is_of_the_wrong_type_is_nothing),
        TEST(figures_keep_within_their_columns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
