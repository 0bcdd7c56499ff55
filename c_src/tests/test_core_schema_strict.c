#include "core/schema_internal.h"

#include "unit.h"

static struct arena arena;
static struct error err;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

/* JSON written with ' for ". */
static struct slice json(const char *text)
{
    char *copy = arena_text(&arena, slice_of(text));

    for (char *c = copy; *c; c++)
        if (*c == '\'')
            *c = '"';
    return slice_of(copy);
}

static struct jv *parse(const char *text)
{
    struct jv *value;

    if (!jv_parse(&arena, json(text), JV_STRICT, &JV_DEFAULT_LIMITS, NULL,
                  &value, &err))
        fail_msg("%s: %s", text, err.message);
    return value;
}

static const struct jv *checked(const char *text)
{
    struct jv *schema = parse(text);

    if (!schema_check(schema, &err))
        fail_msg("%s: %s", err.path, err.message);
    return schema;
}

static void assert_strict(const char *schema, const char *expected)
{
    struct slice strict;

    if (!schema_strictify(&arena, checked(schema), &strict))
        fail_msg("no strict form of %s", schema);
    assert_slice(strict, json(expected).data);
}

static void assert_none(const char *schema)
{
    struct slice strict = SLICE_LITERAL("as it was");

    if (schema_strictify(&arena, checked(schema), &strict))
        fail_msg("%s became %.*s", schema, SLICE_ARG(strict));
    assert_slice(strict, "as it was");
}

static const struct jv *without_nulls(const struct jv *schema,
                                      const struct jv *value)
{
    struct schema_work work;

    schema_work_init(&work, schema);
    value = schema_drop_nulls(&work, &arena, value);
    schema_work_release(&work);
    return value;
}

static void assert_dropped(const char *schema, const char *value,
                           const char *expected)
{
    const struct jv *clean = without_nulls(checked(schema), parse(value));
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    jv_put(&buf, clean);
    assert_slice(arena_keep(&arena, &buf), json(expected).data);
}

static void a_strict_schema_stays_as_it_is(void **state)
{
    static const char schema[] =
        "{'type':'object','properties':{'a':{'type':'string'}},"
        "'required':['a'],'additionalProperties':false}";

    (void)state;
    assert_strict(schema, schema);
}

static void optional_properties_may_be_null(void **state)
{
    (void)state;
    assert_strict("{'type':'object','properties':{'a':{'type':'string'},"
                  "'b':{'type':'integer'},'c':{'type':['string','null']}},"
                  "'required':['a']}",
                  "{'type':'object','properties':{'a':{'type':'string'},"
                  "'b':{'anyOf':[{'type':'integer'},{'type':'null'}]},"
                  "'c':{'type':['string','null']}},'required':['a','b','c'],"
                  "'additionalProperties':false}");
}

static void limits_and_remarks_are_left_out(void **state)
{
    (void)state;
    assert_strict(
        "{'$schema':'x','title':'T','description':'D','type':'object',"
        "'properties':{'a':{'type':'array','maxItems':3,'items':"
        "{'type':'number','minimum':0,'default':1}}},'required':['a']}",
        "{'title':'T','description':'D','type':'object','properties':"
        "{'a':{'type':'array','items':{'type':'number'}}},"
        "'required':['a'],'additionalProperties':false}");
}

static void types_are_told_by_the_values(void **state)
{
    (void)state;
    assert_strict("{'type':'object','properties':{'a':{'enum':['x','y']},"
                  "'b':{'const':1},'c':{'properties':{'d':{'type':'null'}}}},"
                  "'required':['a','b','c']}",
                  "{'type':'object','properties':{'a':{'type':'string','enum':"
                  "['x','y']},'b':{'type':'integer','const':1},"
                  "'c':{'type':'object','properties':{'d':{'type':'null'}},"
                  "'required':['d'],'additionalProperties':false}},"
                  "'required':['a','b','c'],'additionalProperties':false}");
}

static void alternatives_and_definitions_are_kept(void **state)
{
    (void)state;
    assert_strict(
        "{'type':'object','properties':{'n':{'oneOf':[{'$ref':'#/$defs/n',"
        "'description':'x'},{'type':'null'}]}},'required':['n'],'$defs':"
        "{'n':{'type':'object','properties':{'n':{'$ref':'#/$defs/n'}}}}}",
        "{'type':'object','properties':{'n':{'anyOf':[{'$ref':'#/$defs/n'},"
        "{'type':'null'}]}},'required':['n'],'additionalProperties':false,"
        "'$defs':{'n':{'type':'object','properties':{'n':{'anyOf':["
        "{'$ref':'#/$defs/n'},{'type':'null'}]}},'required':['n'],"
        "'additionalProperties':false}}}");
}

static void what_has_no_strict_form_is_left_alone(void **state)
{
    (void)state;
    assert_none("true");
    assert_none("{}");
    assert_none("{'type':'string'}");
    assert_none("{'type':'object'}");
    assert_none("{'type':'object','properties':{'a':{}}}");
    assert_none("{'type':'object','properties':{'a':true}}");
    assert_none("{'type':'object','properties':{'a':{'type':'array'}}}");
    assert_none("{'type':'object','properties':{'a':{'enum':['x',1]}}}");
    assert_none("{'type':'object','properties':{'a':{'type':'string'}},"
                "'additionalProperties':true}");
    assert_none("{'type':'object','properties':{'a':{'type':'string'}},"
                "'additionalProperties':{'type':'string'}}");
    assert_none("{'type':'object','properties':{'a':{'type':'string'}},"
                "'not':{'required':['b']}}");
    assert_none("{'type':'object','properties':{'a':{'type':'string'}},"
                "'allOf':[{'required':['a']}]}");
    assert_none("{'type':'object','properties':{'a':{'type':'string'}},"
                "'anyOf':[{'required':['a']}]}");
    assert_none("{'type':'object','properties':{'a':{'type':'string'},"
                "'b':{'$ref':'#/properties/a'}}}");
    assert_none("{'type':'object','properties':{'a':{'$ref':'#/$defs/s',"
                "'maxLength':3}},'$defs':{'s':{'type':'string'}}}");
}

static const char PERSON[] =
    "{'type':'object','properties':{'name':{'type':'string'},"
    "'age':{'type':'integer'},'note':{'type':['string','null']}},"
    "'required':['name']}";

static void nulls_of_optional_properties_are_dropped(void **state)
{
    (void)state;
    assert_dropped(PERSON, "{'name':'A','age':null,'note':null}",
                   "{'name':'A','note':null}");
    assert_dropped(PERSON, "{'name':null,'x':null}", "{'name':null,'x':null}");
}

static void nulls_are_dropped_at_every_depth(void **state)
{
    (void)state;
    assert_dropped(
        "{'type':'object','properties':{'l':{'type':'array','items':"
        "{'$ref':'#/$defs/p'}}},'additionalProperties':{'$ref':'#/$defs/p'},"
        "'$defs':{'p':{'type':'object','properties':{'a':{'type':'string'},"
        "'b':{'$ref':'#/$defs/p'}}}}}",
        "{'l':[{'a':null,'b':{'a':null}},{}],'other':{'b':null}}",
        "{'l':[{'b':{}},{}],'other':{}}");
}

static void of_alternatives_the_one_that_fits_decides(void **state)
{
    static const char schema[] =
        "{'anyOf':[{'type':'object','properties':{'a':{'type':'string'},"
        "'x':{'type':'integer'}},'required':['x']},"
        "{'type':'object','properties':{'a':{'type':['string','null']}},"
        "'required':['a']}]}";

    (void)state;
    assert_dropped(schema, "{'a':null,'x':1}", "{'x':1}");
    assert_dropped(schema, "{'a':null}", "{'a':null}");
    assert_dropped(schema, "{'b':null}", "{'b':null}");
    assert_dropped("{'oneOf':[{'type':'string'}],'allOf':[{'properties':"
                   "{'a':{'type':'string'}}}]}",
                   "{'a':null}", "{}");
}

static void a_value_without_such_nulls_is_the_same(void **state)
{
    const struct jv *value = parse("{'name':'A','note':null,'x':[{'y':1}]}");

    (void)state;
    assert_ptr_equal(without_nulls(checked(PERSON), value), value);
}

static void work_is_bounded(void **state)
{
    const struct jv *schema =
        checked("{'anyOf':[{'properties':{'a':{'$ref':'#'}},'required':['x']},"
                "{'properties':{'a':{'$ref':'#'}},'required':['y']},"
                "{'properties':{'a':{'$ref':'#'}},'required':['z']}]}");
    struct buf buf;

    (void)state;
    buf_init(&buf, SIZE_MAX);
    for (int i = 0; i < 60; i++)
        buf_append_text(&buf, "{'a':");
    buf_append_text(&buf, "null");
    for (int i = 0; i < 60; i++)
        buf_append_text(&buf, "}");
    without_nulls(schema, parse(arena_text(&arena, arena_keep(&arena, &buf))));
}

/* Each alternative looks for the name. */
static void work_on_long_names_counts_by_their_size(void **state)
{
    enum { LONG = 1000000 };
    char *name = arena_alloc(&arena, LONG);
    struct jv_member member = {.key = slice_make(name, LONG)};
    struct jv value = {.type = JV_OBJECT,
                       .as.object = {.members = &member, .count = 1}};
    struct schema_work work;
    struct buf buf;

    (void)state;
    memset(name, 'n', LONG);
    buf_init(&buf, SIZE_MAX);
    buf_append_text(&buf, "{'anyOf':[false");
    for (int i = 0; i < 500; i++)
        buf_append_text(&buf, ",{'required':['z'],'properties':{'a':{},'b':{},"
                              "'c':{},'d':{},'e':{},'f':{},'g':{},'h':{},"
                              "'i':{}}}");
    buf_append_text(&buf, "]}");
    schema_work_init(&work,
                     checked(arena_text(&arena, arena_keep(&arena, &buf))));
    schema_drop_nulls(&work, &arena, &value);
    assert_true(work.exhausted);
    schema_work_release(&work);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_strict_schema_stays_as_it_is),
        TEST(optional_properties_may_be_null),
        TEST(limits_and_remarks_are_left_out),
        TEST(types_are_told_by_the_values),
        TEST(alternatives_and_definitions_are_kept),
        TEST(what_has_no_strict_form_is_left_alone),
        TEST(nulls_of_optional_properties_are_dropped),
        TEST(nulls_are_dropped_at_every_depth),
        TEST(of_alternatives_the_one_that_fits_decides),
        TEST(a_value_without_such_nulls_is_the_same),
        TEST(work_is_bounded),
        TEST(work_on_long_names_counts_by_their_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
