#include "llm_router/core/request.h"

#include "llm_router/core/chat.h"
#include "llm_router/core/task.h"
#include "unit.h"

static void every_operation_has_its_atom_and_knows_its_cost(void **state)
{
    (void)state;
    assert_string_equal(operation_atom(OP_PARSE_PRD), "parse_prd");
    assert_string_equal(operation_atom(OP_MODELS), "models");
    assert_true(operation_calls_provider(OP_CALL_WITH_SYSTEM));
    assert_false(operation_calls_provider(OP_SELECT_MODEL));
    assert_false(operation_calls_provider(OP_PING));
}

static void what_costs_is_never_open_to_everybody(void **state)
{
    (void)state;
    for (int i = 0; i < OPERATION_COUNT; i++)
        if (operation_calls_provider((enum operation)i))
            assert_int_equal(operation_class((enum operation)i), CLASS_CALL);
    assert_int_equal(operation_class(OP_HEALTH), CLASS_OPEN);
    assert_int_equal(operation_class(OP_MODELS), CLASS_CALL);
    assert_int_equal(operation_class(OP_STATS), CLASS_ADMIN);
    assert_int_equal(operation_class(OP_DRAIN), CLASS_ADMIN);
    assert_int_equal(operation_class(OP_RELOAD), CLASS_ADMIN);
}

static void a_complexity_is_read_by_its_exact_name(void **state)
{
    enum complexity complexity = COMPLEXITY_UNSET;

    (void)state;
    assert_true(complexity_parse(slice_of("complex"), &complexity));
    assert_int_equal(complexity, COMPLEXITY_COMPLEX);
    assert_string_equal(complexity_atom(complexity), "complex");
    assert_false(complexity_parse(slice_of("Complex"), &complexity));
    assert_false(complexity_parse(slice_of("unset"), &complexity));
    assert_false(complexity_parse(slice_of(""), &complexity));
    assert_int_equal(complexity, COMPLEXITY_COMPLEX);
}

static void roles_priorities_and_finish_reasons_have_names(void **state)
{
    (void)state;
    assert_string_equal(role_name(ROLE_ASSISTANT), "assistant");
    assert_string_equal(role_name(ROLE_TOOL), "tool");
    assert_string_equal(priority_atom(PRIORITY_LOW), "low");
    assert_string_equal(finish_reason_atom(FINISH_TOOL_CALLS), "tool_calls");
}

static void an_effort_is_read_by_its_exact_name(void **state)
{
    enum effort effort = EFFORT_UNSET;

    (void)state;
    for (int i = EFFORT_NONE; i <= EFFORT_MAX; i++) {
        assert_true(
            effort_parse(slice_of(effort_name((enum effort)i)), &effort));
        assert_int_equal(effort, i);
    }
    assert_string_equal(effort_name(EFFORT_XHIGH), "xhigh");
    assert_false(effort_parse(slice_of("unset"), &effort));
    assert_false(effort_parse(slice_of("High"), &effort));
    assert_int_equal(effort, EFFORT_MAX);
}

static void capabilities_are_bits_by_name(void **state)
{
    unsigned bit = 0;

    (void)state;
    assert_true(capability_parse(slice_of("vision"), &bit));
    assert_int_equal(bit, CAPABILITY_VISION);
    assert_true(capability_parse(slice_of("embedding"), &bit));
    assert_int_equal(bit, CAPABILITY_EMBEDDING);
    assert_false(capability_parse(slice_of("magic"), &bit));
    assert_int_equal(bit, CAPABILITY_EMBEDDING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_has_its_atom_and_knows_its_cost),
        cmocka_unit_test(what_costs_is_never_open_to_everybody),
        cmocka_unit_test(a_complexity_is_read_by_its_exact_name),
        cmocka_unit_test(roles_priorities_and_finish_reasons_have_names),
        cmocka_unit_test(an_effort_is_read_by_its_exact_name),
        cmocka_unit_test(capabilities_are_bits_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
