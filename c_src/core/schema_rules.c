#include "schema_internal.h"

#define RULE(name, member)                                         \
    {                                                              \
        SLICE_LITERAL(name), offsetof(struct schema_rules, member) \
    }

static const struct {
    struct slice name;
    size_t offset;
} table[] = {
    RULE("$ref", reference),
    RULE("type", type),
    RULE("enum", allowed),
    RULE("const", only),
    RULE("minimum", minimum),
    RULE("maximum", maximum),
    RULE("exclusiveMinimum", exclusive_minimum),
    RULE("exclusiveMaximum", exclusive_maximum),
    RULE("multipleOf", multiple_of),
    RULE("minLength", min_length),
    RULE("maxLength", max_length),
    RULE("items", items),
    RULE("minItems", min_items),
    RULE("maxItems", max_items),
    RULE("uniqueItems", unique_items),
    RULE("properties", properties),
    RULE("required", required),
    RULE("additionalProperties", additional_properties),
    RULE("minProperties", min_properties),
    RULE("maxProperties", max_properties),
    RULE("anyOf", any),
    RULE("oneOf", one),
    RULE("allOf", all),
    RULE("not", negated),
};

static void read_rule(struct schema_rules *rules,
                      const struct jv_member *member)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
        if (slice_equal(member->key, table[i].name))
            *(const struct jv **)(void *)((char *)rules + table[i].offset) =
                &member->value;
}

/* One schema stands for all elements of an array: it is read once, not once an
 * element. */
struct schema_rules schema_rules(struct schema_work *work,
                                 const struct jv *schema)
{
    size_t place = (uintptr_t)schema / sizeof(*schema) % SCHEMA_RULES_KEPT;
    struct schema_rules_kept *kept = &work->kept[place];

    if (kept->schema != schema) {
        *kept = (struct schema_rules_kept){.schema = schema};
        for (size_t i = 0; i < schema->as.object.count; i++)
            read_rule(&kept->rules, &schema->as.object.members[i]);
    }
    return kept->rules;
}
