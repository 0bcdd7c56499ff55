/* What every unit test includes: cmocka and what it needs before it. */
#ifndef LLM_ROUTER_TESTS_UNIT_H
#define LLM_ROUTER_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "llm_router/base/slice.h"

#define assert_slice(actual, expected)                                 \
    do {                                                               \
        struct slice checked = (actual);                               \
        assert_int_equal(checked.size, strlen(expected));              \
        assert_memory_equal(checked.data, expected, strlen(expected)); \
    } while (0)

#endif
