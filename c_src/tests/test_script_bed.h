/* Runs a script from its text and keeps what came out. */
#ifndef LLM_ROUTER_TESTS_TEST_SCRIPT_BED_H
#define LLM_ROUTER_TESTS_TEST_SCRIPT_BED_H

#include <stdio.h>

#include "llm_router/script/script.h"
#include "tests/unit.h"

static struct script_bed {
    struct script_limits limits;
    struct arena arena;
    struct buf code, out;
    struct script_fault fault;
} bed;

static inline int bed_open(void **state)
{
    (void)state;
    bed.limits = SCRIPT_DEFAULT_LIMITS;
    bed.limits.time_ms = 60000; /* a slow machine is not under test */
    arena_init(&bed.arena, 0);
    buf_init(&bed.code, 8 << 20);
    buf_init(&bed.out, 64 << 20);
    bed.fault = (struct script_fault){.line = -1};
    return 0;
}

static inline int bed_close(void **state)
{
    (void)state;
    arena_release(&bed.arena);
    buf_release(&bed.code);
    buf_release(&bed.out);
    return 0;
}

static inline struct jv *bed_json(struct slice text)
{
    struct error err;
    struct jv *value;

    if (!jv_parse(&bed.arena, text, JV_STRICT, &JV_DEFAULT_LIMITS, NULL, &value,
                  &err))
        fail_msg("%s: %.*s", err.message, SLICE_ARG(text));
    return value;
}

static inline bool bed_run_text(struct slice text, const char *context)
{
    const struct script_source source = {SLICE_LITERAL("test.lua"), text};
    const struct jv *value = context ? bed_json(slice_of(context)) : NULL;

    buf_clear(&bed.code);
    buf_clear(&bed.out);
    return script_compile(&source, &bed.limits, &bed.code, &bed.fault) &&
           script_run(buf_slice(&bed.code), value, &bed.limits, &bed.out,
                      &bed.fault);
}

/* The script makes this, byte for byte. */
static inline void assert_makes(const char *text, const char *context,
                                const char *expected)
{
    if (!bed_run_text(slice_of(text), context))
        fail_msg("line %d: %s", bed.fault.line, bed.fault.message);
    buf_append_byte(&bed.out, '\0');
    assert_string_equal(bed.out.data, expected);
}

/* ... one user message with this text, and no options. */
static inline void assert_says(const char *text, const char *context,
                               const char *expected)
{
    struct jv *result;

    if (!bed_run_text(slice_of(text), context))
        fail_msg("line %d: %s", bed.fault.line, bed.fault.message);
    result = bed_json(buf_slice(&bed.out));
    assert_int_equal(jv_count(jv_find(result, "messages")), 1);
    result = (struct jv *)jv_at(jv_find(result, "messages"), 0);
    assert_slice(jv_string(jv_find(result, "role")), "user");
    assert_slice(jv_string(jv_find(result, "content")), expected);
}

static inline void assert_fault(int line, const char *message)
{
    assert_string_equal(bed.fault.message, message);
    assert_int_equal(bed.fault.line, line);
}

static inline void assert_fails(const char *text, int line, const char *message)
{
    if (bed_run_text(slice_of(text), NULL))
        fail_msg("it made %.*s", SLICE_ARG(buf_slice(&bed.out)));
    assert_fault(line, message);
}

#endif
