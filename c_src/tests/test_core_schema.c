#include "llm_router/core/schema.h"

#include <stdio.h>
#include <time.h>

#include "llm_router/base/utf8.h"
#include "unit.h"

static struct arena arena;

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

/* Written with ' for ". */
static struct jv *parse(const char *text)
{
    char *json = arena_text(&arena, slice_of(text));
    struct error err;
    struct jv *value;

    for (char *c = json; *c; c++)
        if (*c == '\'')
            *c = '"';
    if (!jv_parse(&arena, slice_of(json), JV_STRICT, &JV_DEFAULT_LIMITS, NULL,
                  &value, &err))
        fail_msg("%s: %s", json, err.message);
    return value;
}

static void assert_refused(const char *schema, const char *path)
{
    struct error err;

    if (schema_check(parse(schema), &err))
        fail_msg("taken: %s", schema);
    assert_int_equal(err.code, ERR_INVALID_REQUEST);
    assert_string_equal(err.path, path);
}

static const struct jv *checked(const char *text)
{
    struct jv *schema = parse(text);
    struct error err;

    if (!schema_check(schema, &err))
        fail_msg("%s: %s: %s", text, err.path, err.message);
    return schema;
}

static void assert_valid(const char *schema, const char *value)
{
    struct error err;

    if (!schema_validate(checked(schema), parse(value), &err))
        fail_msg("%s refuses %s: %s: %s", schema, value, err.path, err.message);
    assert_int_equal(err.code, ERR_NONE);
}

static struct error fault_of(const char *schema, const char *value)
{
    struct error err;

    if (schema_validate(checked(schema), parse(value), &err))
        fail_msg("%s takes %s", schema, value);
    assert_int_equal(err.code, ERR_INVALID_OUTPUT);
    return err;
}

static void assert_fault(const char *schema, const char *value,
                         const char *path)
{
    struct error err = fault_of(schema, value);

    if (strcmp(err.path, path) != 0)
        fail_msg("%s: %s: at %s (%s), not %s", schema, value, err.path,
                 err.message, path);
}

static void types_are_told_apart(void **state)
{
    (void)state;
    assert_valid("{'type':'null'}", "null");
    assert_valid("{'type':'integer'}", "1");
    assert_valid("{'type':'integer'}", "1.0");
    assert_valid("{'type':'number'}", "1");
    assert_valid("{'type':['string','null']}", "null");
    assert_fault("{'type':'integer'}", "1.5", "");
    assert_fault("{'type':'integer'}", "'1'", "");
    assert_fault("{'type':['string','null']}", "[]", "");
    assert_fault("{'type':'object'}", "[]", "");
    assert_fault("{'type':'boolean'}", "0", "");
    assert_fault("false", "0", "");
    assert_valid("true", "0");
    assert_valid("{}", "[{}]");
}

static void null_is_the_name_of_a_type(void **state)
{
    (void)state;
    assert_valid("{'type':null}", "null");
    assert_valid("{'items':{'type':['string',null]}}", "[null,'a']");
    assert_fault("{'type':null}", "0", "");
    assert_fault("{'type':['string',null]}", "0", "");
    assert_refused("{'type':[['null']]}", "type");
}

static void the_message_names_the_rule_and_not_the_value(void **state)
{
    struct error err = fault_of("{'type':'string'}", "[1]");

    (void)state;
    assert_string_equal(err.message, "must be of type string, not array");
    err = fault_of("{'enum':['a','b']}", "'secret'");
    assert_null(strstr(err.message, "secret"));
}

static void the_path_leads_to_the_first_fault(void **state)
{
    const char *schema =
        "{'type':'object','properties':{'items':{'type':'array','items':"
        "{'type':'object','properties':{'name':{'type':'string'}},"
        "'required':['name']}}}}";

    (void)state;
    assert_valid(schema, "{'items':[{'name':'a'},{'name':'b','more':1}]}");
    assert_fault(schema, "{'items':[{'name':'a'},{'name':2},{'name':3}]}",
                 "items[1].name");
    assert_fault(schema, "{'items':[{'name':'a'},{}]}", "items[1].name");
    assert_fault(schema, "{'items':{}}", "items");
}

static void additional_properties_are_refused_or_checked(void **state)
{
    (void)state;
    assert_fault("{'properties':{'a':{}},'additionalProperties':false}",
                 "{'a':1,'b':2}", "b");
    assert_valid("{'properties':{'a':{}},'additionalProperties':false}",
                 "{'a':1}");
    assert_fault("{'additionalProperties':{'type':'integer'}}",
                 "{'a':1,'b':'2'}", "b");
    assert_valid("{'properties':{'b':{}},"
                 "'additionalProperties':{'type':'integer'}}",
                 "{'a':1,'b':'2'}");
}

static void enums_and_constants_compare_whole_values(void **state)
{
    (void)state;
    assert_valid("{'enum':[1,{'a':[2]}]}", "{'a':[2.0]}");
    assert_fault("{'enum':[1,{'a':[2]}]}", "{'a':[3]}", "");
    assert_valid("{'const':null}", "null");
    assert_fault("{'const':'x'}", "'X'", "");
}

static void numbers_have_bounds(void **state)
{
    (void)state;
    assert_valid("{'minimum':1,'maximum':2}", "1");
    assert_valid("{'minimum':1,'maximum':2}", "2.0");
    assert_fault("{'minimum':1}", "0.99", "");
    assert_fault("{'maximum':2}", "3", "");
    assert_fault("{'exclusiveMinimum':1}", "1", "");
    assert_fault("{'exclusiveMaximum':2}", "2", "");
    assert_valid("{'exclusiveMinimum':1,'exclusiveMaximum':2}", "1.5");
    assert_valid("{'minimum':1}", "'text'");
}

static void multiples_are_taken_as_a_person_would(void **state)
{
    (void)state;
    assert_valid("{'multipleOf':0.1}", "0.3");
    assert_valid("{'multipleOf':0.01}", "1234.56");
    assert_valid("{'multipleOf':5}", "-10");
    assert_fault("{'multipleOf':0.1}", "0.35", "");
    assert_fault("{'multipleOf':2}", "1000000001", "");
}

static void sizes_count_characters_elements_and_properties(void **state)
{
    (void)state;
    assert_valid("{'minLength':2,'maxLength':2}", "'\xC3\xA4\xE2\x82\xAC'");
    assert_fault("{'minLength':3}", "'\xC3\xA4\xE2\x82\xAC'", "");
    assert_fault("{'maxLength':1}", "'ab'", "");
    assert_fault("{'minItems':1}", "[]", "");
    assert_fault("{'maxItems':1}", "[1,2]", "");
    assert_fault("{'minProperties':1}", "{}", "");
    assert_fault("{'maxProperties':1}", "{'a':1,'b':2}", "");
    assert_valid("{'minItems':1,'maxItems':2.0}", "[1,2]");
}

static void elements_can_be_required_to_differ(void **state)
{
    (void)state;
    assert_valid("{'uniqueItems':true}",
                 "[1,2,'1',true,null,[1],[2],{'a':1},{'b':1}]");
    assert_fault("{'uniqueItems':true}", "[1,2,1.0]", "");
    assert_fault("{'uniqueItems':true}", "[0,-0.0]", "");
    assert_fault("{'uniqueItems':true}", "[{'a':1,'b':[2]},{'b':[2],'a':1}]",
                 "");
    assert_valid("{'uniqueItems':true}", "[1]");
    assert_valid("{'uniqueItems':true}", "[]");
    assert_valid("{'uniqueItems':false}", "[1,1]");
    assert_fault("{'properties':{'x':{'uniqueItems':true}}}", "{'x':[[],[]]}",
                 "x");
}

static void schemas_combine(void **state)
{
    (void)state;
    assert_valid("{'anyOf':[{'type':'string'},{'minimum':5}]}", "7");
    assert_fault("{'anyOf':[{'type':'string'},{'type':'null'}]}", "7", "");
    assert_valid("{'oneOf':[{'multipleOf':2},{'multipleOf':3}]}", "4");
    assert_fault("{'oneOf':[{'multipleOf':2},{'multipleOf':3}]}", "6", "");
    assert_fault("{'oneOf':[{'multipleOf':2},{'multipleOf':3}]}", "5", "");
    assert_fault("{'allOf':[{'minimum':1},{'maximum':2}]}", "3", "");
    assert_valid("{'allOf':[{'minimum':1},{'maximum':2}]}", "2");
    assert_fault("{'not':{'type':'null'}}", "null", "");
    assert_valid("{'not':{'type':'null'}}", "1");
}

static void of_alternatives_the_deepest_fault_is_told(void **state)
{
    (void)state;
    assert_fault("{'anyOf':[{'type':'null'},{'type':'object','properties':"
                 "{'a':{'type':'array','items':{'type':'string'}}}}]}",
                 "{'a':['x',1]}", "a[1]");
    assert_fault("{'oneOf':[{'type':'object','properties':{'a':"
                 "{'type':'string'}}},{'type':'null'}]}",
                 "{'a':1}", "a");
}

static void references_reach_any_schema_of_the_document(void **state)
{
    const char *tree =
        "{'$ref':'#/$defs/node','$defs':{'node':{'type':'object','properties':"
        "{'next':{'anyOf':[{'$ref':'#/$defs/node'},{'type':'null'}]}},"
        "'required':['next'],'additionalProperties':false}}}";

    (void)state;
    assert_valid(tree, "{'next':{'next':{'next':null}}}");
    assert_fault(tree, "{'next':{'next':{'prev':null}}}", "next.next.next");
    assert_fault("{'properties':{'a':{'$ref':'#/properties/b'},"
                 "'b':{'type':'string'}}}",
                 "{'a':1}", "a");
    assert_fault("{'properties':{'a~/b':{'$ref':'#/definitions/x~0~1y'}},"
                 "'definitions':{'x~/y':{'type':'string'}}}",
                 "{'a~/b':1}", "a~/b");
    assert_valid("{'properties':{'a':{'$ref':'#'}},'type':'object'}",
                 "{'a':{'a':{}}}");
    assert_fault("{'properties':{'a':{'$ref':'#/anyOf/1'}},"
                 "'anyOf':[{},{'type':'null'}]}",
                 "{'a':1}", "a");
}

static void references_to_other_places_are_refused(void **state)
{
    (void)state;
    assert_refused("{'$ref':'http://x/y'}", "$ref");
    assert_refused("{'$ref':'#/$defs/none'}", "$ref");
    assert_refused("{'$ref':'#/properties'}", "$ref");
    assert_refused("{'$ref':'#/enum/0','enum':[{}]}", "$ref");
    assert_refused("{'$ref':'#/'}", "$ref");
    assert_refused("{'$ref':'#x'}", "$ref");
    assert_refused("{'$ref':''}", "$ref");
    assert_refused("{'$ref':1}", "$ref");
    assert_refused("{'items':{'$ref':'#/items/x'}}", "items.$ref");
    assert_refused("{'anyOf':[{'$ref':'#/anyOf/1'}]}", "anyOf[0].$ref");
    assert_refused("{'anyOf':[{'$ref':'#/anyOf/-1'}]}", "anyOf[0].$ref");
}

static void a_reference_that_never_ends_is_refused(void **state)
{
    (void)state;
    assert_refused("{'$ref':'#'}", "$ref");
    assert_refused("{'properties':{'a':{'$ref':'#/$defs/x'}},'$defs':{'x':"
                   "{'anyOf':[{'type':'null'},{'$ref':'#/$defs/y'}]},"
                   "'y':{'not':{'$ref':'#/$defs/x'}}}}",
                   "properties.a.$ref");
}

static void unknown_keywords_are_refused_by_name(void **state)
{
    (void)state;
    assert_refused("{'properties':{'age':{'minimun':3}}}",
                   "properties.age.minimun");
    assert_refused("{'anyOf':[{},{'pattern':'^a'}]}", "anyOf[1].pattern");
    assert_refused("{'if':{}}", "if");
    assert_refused("{'nullable':true}", "nullable");
}

static void keywords_of_the_wrong_form_are_refused(void **state)
{
    static const char *const schemas[][2] = {
        {"{'type':'str'}", "type"},
        {"{'type':[]}", "type"},
        {"{'type':['string',1]}", "type"},
        {"{'type':{}}", "type"},
        {"{'properties':[]}", "properties"},
        {"{'properties':{'a':1}}", "properties.a"},
        {"{'required':'a'}", "required"},
        {"{'required':[1]}", "required"},
        {"{'additionalProperties':1}", "additionalProperties"},
        {"{'items':[{}]}", "items"},
        {"{'enum':[]}", "enum"},
        {"{'enum':1}", "enum"},
        {"{'anyOf':[]}", "anyOf"},
        {"{'allOf':{}}", "allOf"},
        {"{'oneOf':[{},1]}", "oneOf[1]"},
        {"{'not':null}", "not"},
        {"{'minimum':'1'}", "minimum"},
        {"{'exclusiveMinimum':true}", "exclusiveMinimum"},
        {"{'multipleOf':0}", "multipleOf"},
        {"{'minLength':-1}", "minLength"},
        {"{'maxItems':1.5}", "maxItems"},
        {"{'uniqueItems':1}", "uniqueItems"},
        {"1", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(schemas) / sizeof(*schemas); i++)
        assert_refused(schemas[i][0], schemas[i][1]);
}

static void annotations_say_nothing_about_values(void **state)
{
    (void)state;
    assert_valid("{'title':1,'description':'d','default':{},'examples':1,"
                 "'format':'date','$schema':'s','$id':'i','$comment':'c'}",
                 "'no date'");
}

/* `count` times `open`, then `middle`, then `count` times `close`. */
static const char *nested(size_t count, const char *open, const char *middle,
                          const char *close)
{
    struct buf buf;
    char *text;

    buf_init(&buf, SIZE_MAX);
    for (size_t i = 0; i < count; i++)
        buf_append_text(&buf, open);
    buf_append_text(&buf, middle);
    for (size_t i = 0; i < count; i++)
        buf_append_text(&buf, close);
    text = arena_text(&arena, buf_slice(&buf));
    buf_release(&buf);
    return text;
}

static void deep_and_large_schemas_are_refused(void **state)
{
    const char *many = nested(1, "{'properties':{'a':{'anyOf':[{}",
                              nested(10000, ",{}", "", ""), "]}}}");
    struct error err;

    (void)state;
    assert_valid(nested(61, "{'not':", "{'not':{}}", "}"), "1");
    assert_false(schema_check(parse(nested(64, "{'not':", "{}", "}")), &err));
    assert_non_null(strstr(err.message, "deep"));
    assert_false(schema_check(parse(many), &err));
    assert_non_null(strstr(err.message, "large"));
}

/* Of the processor, so that other programs do not count. */
static double milliseconds(void)
{
    return (double)clock() * 1e3 / CLOCKS_PER_SEC;
}

/* Each level doubles the work: 2^60 steps without a bound. The `not` must not
 * turn the end of patience into success. */
static void work_is_bounded_for_recursive_references(void **state)
{
    const char *value = nested(60, "{'a':", "0", "}");
    const char *schema = "{'not':{'$ref':'#/$defs/x'},'$defs':{'x':"
                         "{'properties':{'a':{'anyOf':["
                         "{'allOf':[{'$ref':'#/$defs/x'},false]},"
                         "{'allOf':[{'$ref':'#/$defs/x'},false]},"
                         "{'$ref':'#/$defs/x'}]}}}}}";
    double start = milliseconds();
    struct error err = fault_of(schema, value);

    (void)state;
    assert_non_null(strstr(err.message, "too much work"));
    assert_true(milliseconds() - start < 3000);
}

static void many_properties_take_bounded_time(void **state)
{
    struct buf value;
    double start;
    struct error err;

    (void)state;
    buf_init(&value, SIZE_MAX);
    buf_append_text(&value, "{'k0':0");
    for (int i = 1; i < 100000; i++)
        buf_printf(&value, ",'k%d':0", i);
    buf_append_text(&value, "}");
    buf_append_byte(&value, '\0');
    start = milliseconds();
    err = fault_of("{'required':['a0','a1'],'properties':{'b0':{},'b1':{}}}",
                   value.data);
    assert_string_equal(err.path, "a0");
    assert_true(milliseconds() - start < 3000);
    buf_release(&value);
}

/* `open`, so many elements by a format that takes their number, and `close`. */
static const char *numbered(int count, const char *open, const char *element,
                            const char *close)
{
    struct buf buf;
    char *text;

    buf_init(&buf, SIZE_MAX);
    buf_append_text(&buf, open);
    for (int i = 0; i < count; i++) {
        const char *number = strchr(element, '#');

        if (i > 0)
            buf_append_byte(&buf, ',');
        buf_append(&buf, element, (size_t)(number - element));
        buf_printf(&buf, "%d%s", i, number + 1);
    }
    buf_append_text(&buf, close);
    text = arena_text(&arena, buf_slice(&buf));
    buf_release(&buf);
    return text;
}

/* One by one, each of these would take more than SCHEMA_FUEL. */
static void long_lists_are_not_searched_one_by_one(void **state)
{
    const char *object = numbered(9000, "{", "'k#':0", "}");
    const char *names = numbered(9000, "{'required':[", "'k#'", "]}");
    const char *rules = numbered(9000, "{'properties':{", "'k#':true", "}}");
    const char *words = numbered(1000, "{'items':{'enum':[", "'w#'", "]}}");
    const char *others = numbered(1000, "{'enum':[", "{'a':[#]}", "]}");

    (void)state;
    assert_valid(names, object);
    assert_string_equal(
        fault_of(names, numbered(8999, "{'other':0,", "'k#':0", "}")).path,
        "k8999");
    assert_valid(rules, object);
    assert_valid(words,
                 nested(1, "['w0'", nested(90000, ",'w999'", "", ""), "]"));
    assert_string_equal(
        fault_of(words, nested(1, "['w0'", nested(90000, ",'w998'", "", ""),
                               ",'w1000']"))
            .path,
        "[90001]");
    assert_valid(others, "{'a':[999]}");
    fault_of(others, "{'a':[1000]}");
    assert_valid("{'uniqueItems':true}", numbered(100000, "[", "{'a':#}", "]"));
}

static void assert_too_much(const char *schema, const char *value)
{
    struct error err = fault_of(schema, value);

    assert_non_null(strstr(err.message, "too much work"));
}

/* What is said of all elements or bytes of a value costs as much as there are,
 * each time. */
static void work_on_large_values_counts_by_their_size(void **state)
{
    const char *text = nested(1, "'", nested(1000000, "x", "", ""), "'");
    const char *array = numbered(50000, "[", "#", "]");

    (void)state;
    assert_too_much(nested(1, "{'anyOf':[{'maxLength':1}",
                           nested(2000, ",{'maxLength':1}", "", ""), "]}"),
                    text);
    assert_too_much(
        nested(1, "{'anyOf':[false",
               nested(100, ",{'uniqueItems':true,'maxProperties':1,'not':{}}",
                      "", ""),
               "]}"),
        array);
}

/* A reference with "~" is compared with each name. */
static void work_is_bounded_while_a_reference_is_followed(void **state)
{
    struct jv *schema = parse(nested(
        1,
        numbered(30000, "{'$defs':{'a/b':true,'c':{'$ref':'#/$defs/a~1b'},",
                 "'d#':true", "},'allOf':["),
        nested(800, "{'$ref':'#/$defs/c'},", "", ""),
        "{'$ref':'#/$defs/nobody'}]}"));
    struct error err;

    (void)state;
    assert_too_much(numbered(4000,
                             "{'items':{'$ref':'#/$defs/a~1b'},'$defs':{"
                             "'a/b':{'type':'integer'},",
                             "'d#':true", "}}"),
                    numbered(20000, "[", "#", "]"));
    assert_false(schema_check(schema, &err));
    assert_non_null(strstr(err.message, "too much work"));
}

static void types_are_named_once(void **state)
{
    struct error err;

    (void)state;
    assert_false(
        schema_check(parse(nested(1, "{'type':['null'",
                                  nested(100000, ",'null'", "", ""), "]}")),
                     &err));
    assert_string_equal(err.path, "type");
}

/* Two validations and what is between them share what one may do. */
static void a_value_and_what_is_left_without_nulls_are_one_work(void **state)
{
    const char *schema = "{'required':['a'],'properties':{'n':{'type':"
                         "'integer'},'a':{'uniqueItems':true}}}";
    const char *value = numbered(80000, "{'n':null,'a':[", "#", "]}");
    const struct jv *left = parse(value);
    struct error err;

    (void)state;
    assert_string_equal(fault_of(schema, value).path, "n");
    assert_true(schema_fit(&arena, checked(schema), &left, &err));
    assert_int_equal(jv_count(left), 1);
    value = numbered(200000, "{'a':[", "#", "],'n':null}");
    left = parse(value);
    assert_string_equal(fault_of(schema, value).path, "n");
    assert_false(schema_fit(&arena, checked(schema), &left, &err));
    assert_non_null(strstr(err.message, "too much work"));
}

static void strict_schemas_are_closed_and_portable(void **state)
{
    static const char *const strict[] = {
        "{'type':'object','properties':{'a':{'type':['number','null']},'b':"
        "{'type':'array','items':{'type':'string','enum':['x']}}},"
        "'required':['a','b'],'additionalProperties':false}",
        "{'type':'object','properties':{'a':{'$ref':'#/$defs/x'}},"
        "'required':['a'],'additionalProperties':false,'$defs':{'x':"
        "{'anyOf':[{'type':'null'},{'type':'string'}],'description':'d'}}}",
        "{'type':'object','properties':{'a':{'$ref':'#/definitions/x'}},"
        "'required':['a'],'additionalProperties':false,'title':'t',"
        "'definitions':{'x':{'type':'string','const':'y'}}}",
    };
    static const char *const loose[] = {
        "true",
        "{}",
        "{'anyOf':[{'type':'object','additionalProperties':false}]}",
        "{'type':'object'}",
        "{'type':'object','additionalProperties':true}",
        "{'type':'object','additionalProperties':{'type':'string'}}",
        "{'type':'object','properties':{'a':{'type':'null'}},"
        "'additionalProperties':false}",
        "{'type':'object','properties':{'a':{}},'required':['a'],"
        "'additionalProperties':false}",
        "{'type':'object','properties':{'a':{'type':'array'}},'required':['a'],"
        "'additionalProperties':false}",
        "{'type':'object','properties':{'a':{'type':['object','null']}},"
        "'required':['a'],'additionalProperties':false}",
        "{'type':'object','properties':{'a':{'type':'integer','minimum':1}},"
        "'required':['a'],'additionalProperties':false}",
        "{'type':'object','additionalProperties':false,'default':{}}",
        "{'type':'object','properties':{'a':{'$ref':'#','description':'d'}},"
        "'required':['a'],'additionalProperties':false}",
        "{'type':'object','properties':{'a':{'type':'array','items':"
        "{'type':'object'}}},'required':['a'],'additionalProperties':false}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(strict) / sizeof(*strict); i++)
        if (!schema_is_strict(checked(strict[i])))
            fail_msg("not strict: %s", strict[i]);
    for (size_t i = 0; i < sizeof(loose) / sizeof(*loose); i++)
        if (schema_is_strict(checked(loose[i])))
            fail_msg("strict: %s", loose[i]);
}

static void strict_schemas_have_at_most_ten_levels(void **state)
{
    (void)state;
    for (size_t levels = 10; levels <= 11; levels++) {
        const char *inner = nested(
            levels - 2, "{'type':'array','items':", "{'type':'null'}", "}");
        struct slice schema = arena_printf(
            &arena,
            "{'type':'object','properties':{'a':%s},'required':['a'],"
            "'additionalProperties':false}",
            inner);

        assert_int_equal(schema_is_strict(checked(schema.data)), levels == 10);
    }
}

static void keywords_that_providers_refuse_are_not_strict(void **state)
{
    static const char *const keywords[] = {
        "'oneOf':[{'type':'null'}]",
        "'allOf':[{'type':'null'}]",
        "'not':{'type':'null'}",
        "'minimum':1",
        "'maximum':1",
        "'exclusiveMinimum':1",
        "'exclusiveMaximum':1",
        "'multipleOf':1",
        "'minLength':1",
        "'maxLength':1",
        "'minItems':1",
        "'maxItems':1",
        "'minProperties':1",
        "'maxProperties':1",
        "'uniqueItems':true",
        "'default':1",
        "'examples':[]",
        "'format':'date'",
        "'$schema':'s'",
        "'$id':'i'",
        "'$comment':'c'",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(keywords) / sizeof(*keywords); i++) {
        struct slice schema = arena_printf(
            &arena,
            "{'type':'object','properties':{'a':{'type':'string',%s}},"
            "'required':['a'],'additionalProperties':false}",
            keywords[i]);

        if (schema_is_strict(checked(schema.data)))
            fail_msg("strict: %s", keywords[i]);
    }
}

static void a_long_key_in_a_path_is_cut_at_a_character(void **state)
{
    struct slice schema = arena_printf(&arena, "{'properties':{'a%s':1}}",
                                       nested(100, "\xE2\x82\xAC", "", ""));
    struct error err;

    (void)state;
    assert_false(schema_check(parse(schema.data), &err));
    assert_true(utf8_is_valid(slice_of(err.path)));
    assert_in_range(strlen(err.path), ERROR_PATH_MAX - 4, ERROR_PATH_MAX - 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(types_are_told_apart),
        TEST(null_is_the_name_of_a_type),
        TEST(the_message_names_the_rule_and_not_the_value),
        TEST(the_path_leads_to_the_first_fault),
        TEST(additional_properties_are_refused_or_checked),
        TEST(enums_and_constants_compare_whole_values),
        TEST(numbers_have_bounds),
        TEST(multiples_are_taken_as_a_person_would),
        TEST(sizes_count_characters_elements_and_properties),
        TEST(elements_can_be_required_to_differ),
        TEST(schemas_combine),
        TEST(of_alternatives_the_deepest_fault_is_told),
        TEST(references_reach_any_schema_of_the_document),
        TEST(references_to_other_places_are_refused),
        TEST(a_reference_that_never_ends_is_refused),
        TEST(unknown_keywords_are_refused_by_name),
        TEST(keywords_of_the_wrong_form_are_refused),
        TEST(annotations_say_nothing_about_values),
        TEST(deep_and_large_schemas_are_refused),
        TEST(work_is_bounded_for_recursive_references),
        TEST(many_properties_take_bounded_time),
        TEST(long_lists_are_not_searched_one_by_one),
        TEST(work_on_large_values_counts_by_their_size),
        TEST(work_is_bounded_while_a_reference_is_followed),
        TEST(types_are_named_once),
        TEST(a_value_and_what_is_left_without_nulls_are_one_work),
        TEST(strict_schemas_are_closed_and_portable),
        TEST(strict_schemas_have_at_most_ten_levels),
        TEST(keywords_that_providers_refuse_are_not_strict),
        TEST(a_long_key_in_a_path_is_cut_at_a_character),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
