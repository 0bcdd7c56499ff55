#include "llm_router/config/locate.h"

#include <stdio.h>

#include "unit.h"

enum { STEPS_MAX = 4 };

#define KEY(name) \
    {             \
        name, 0   \
    }
#define AT(index)   \
    {               \
        NULL, index \
    }

static const char TEXT[] =
    "{\n"
    "  \"limits\": {\"in_flight\": 7,\n"
    "             \"queued\" : \"a\\\"}b\"},\n"
    "\t\"r\\u00e9\\ud83d\\ude00\\n\": [ [], {\"x\":1} , -2e3 ],\n"
    "  \"\xC3\xA9\xE2\x82\xAC\": {\"last\": null}, \"\": 0\n"
    "}\n";

static void keys_and_values_are_found_with_line_and_column(void **state)
{
    static const struct {
        struct locate_step steps[STEPS_MAX];
        size_t count;
        enum locate_target target;
        size_t line, column;
    } rows[] = {
        {{KEY("limits")}, 1, LOCATE_KEY, 2, 3},
        {{KEY("limits")}, 1, LOCATE_VALUE, 2, 13},
        {{KEY("limits"), KEY("in_flight")}, 2, LOCATE_KEY, 2, 14},
        {{KEY("limits"), KEY("in_flight")}, 2, LOCATE_VALUE, 2, 27},
        {{KEY("limits"), KEY("queued")}, 2, LOCATE_KEY, 3, 14},
        {{KEY("limits"), KEY("queued")}, 2, LOCATE_VALUE, 3, 25},
        {{KEY("r\xC3\xA9\xF0\x9F\x98\x80\n")}, 1, LOCATE_KEY, 4, 2},
        {{KEY("r\xC3\xA9\xF0\x9F\x98\x80\n"), AT(0)}, 2, LOCATE_VALUE, 4, 29},
        {{KEY("r\xC3\xA9\xF0\x9F\x98\x80\n"), AT(1), KEY("x")},
         3,
         LOCATE_KEY,
         4,
         34},
        {{KEY("r\xC3\xA9\xF0\x9F\x98\x80\n"), AT(2)}, 2, LOCATE_VALUE, 4, 43},
        {{KEY("\xC3\xA9\xE2\x82\xAC"), KEY("last")}, 2, LOCATE_VALUE, 5, 18},
        {{KEY("")}, 1, LOCATE_VALUE, 5, 29},
        {{KEY("")}, 0, LOCATE_VALUE, 1, 1},
    };
    struct location found;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        if (!locate(slice_of(TEXT), rows[i].steps, rows[i].count,
                    rows[i].target, &found))
            fail_msg("row %zu is not found", i);
        if (found.line != rows[i].line || found.column != rows[i].column)
            fail_msg("row %zu is at %zu, %zu", i, found.line, found.column);
    }
}

static void a_key_is_not_taken_for_a_longer_or_shorter_one(void **state)
{
    struct location found;

    (void)state;
    assert_true(locate(SLICE_LITERAL("{\"a\":1,\"abc\":2,\"ab\":3}"),
                       (const struct locate_step[]){KEY("ab")}, 1, LOCATE_VALUE,
                       &found));
    assert_int_equal(found.column, 21);
}

static void what_is_not_there_is_not_found(void **state)
{
    static const struct locate_step rows[][2] = {
        {KEY("limit"), KEY("")}, {KEY("limits"), KEY("x")},
        {KEY("limits"), AT(0)},  {KEY("r\xC3\xA9\xF0\x9F\x98\x80\n"), AT(3)},
        {AT(0), KEY("")},
    };
    struct location found;

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_false(locate(slice_of(TEXT), rows[i], 2, LOCATE_VALUE, &found));
    assert_false(locate(slice_of(""), NULL, 0, LOCATE_VALUE, &found));
    assert_false(locate(slice_of("[]"), (const struct locate_step[]){AT(0)}, 1,
                        LOCATE_VALUE, &found));
}

/* Every beginning is cut JSON: any answer, but no byte behind its end. The
 * copy on the heap has nothing there. */
static void a_cut_text_is_not_read_behind_its_end(void **state)
{
    const struct locate_step steps[] = {KEY("r\xC3\xA9\xF0\x9F\x98\x80\n"),
                                        AT(1), KEY("x")};
    struct location found;

    (void)state;
    for (size_t size = 0; size < sizeof(TEXT); size++) {
        char *copy = test_malloc(size + 1);

        memcpy(copy + 1, TEXT, size);
        if (locate(slice_make(copy + 1, size), steps, 3, LOCATE_VALUE, &found))
            assert_true(found.offset < size);
        test_free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_and_values_are_found_with_line_and_column),
        cmocka_unit_test(a_key_is_not_taken_for_a_longer_or_shorter_one),
        cmocka_unit_test(what_is_not_there_is_not_found),
        cmocka_unit_test(a_cut_text_is_not_read_behind_its_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
