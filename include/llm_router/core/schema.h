/* JSON Schema for a caller's `schema` option.
 *
 * Supported keywords: type (one or several), properties, required,
 * additionalProperties, items, enum, const, anyOf, oneOf, allOf, not, $ref
 * (into the same document), $defs/definitions, minimum/maximum (and
 * exclusive), multipleOf, minLength/maxLength, minItems/maxItems, uniqueItems,
 * minProperties/maxProperties; title, description, default, examples, format,
 * $schema, $id, $comment, deprecated,
 * readOnly, writeOnly, propertyOrdering are annotations. Any other keyword is
 * refused by name in schema_check, so that no rule is silently ignored. */
#ifndef LLM_ROUTER_CORE_SCHEMA_H
#define LLM_ROUTER_CORE_SCHEMA_H

#include "llm_router/base/error.h"
#include "llm_router/json/value.h"

/* Is this a schema we can enforce? ERR_INVALID_REQUEST with the path
 * ("properties.age.minimum"). At most 64 schemas deep and 10,000 keywords; a
 * $ref that leads back to itself without entering a value is refused.
 * A type that is null becomes "null": that is what the atom of a caller who
 * writes [string, null] has turned into. */
bool schema_check(struct jv *schema, struct error *err);

/* Does `value` satisfy a checked schema? ERR_INVALID_OUTPUT with the path of
 * the first fault ("items[3].name"; of alternatives the deepest one) and a
 * message that names the rule. Work is bounded, for recursive $ref too: a value
 * that would take more is a fault as well. */
bool schema_validate(const struct jv *schema, const struct jv *value,
                     struct error *err);

/* The same, but if it does not, nulls that stand for optional properties, where
 * the schema takes no null, may be left out: `*value` is then another one. All
 * of it is no more work than schema_validate may be. */
bool schema_fit(struct arena *arena, const struct jv *schema,
                const struct jv **value, struct error *err);

/* Is a checked schema in the strict subset that OpenAI accepts: an object at
 * the top, every property required, additionalProperties false, no limits on
 * numbers and sizes, at most 10 levels? */
bool schema_is_strict(const struct jv *schema);

/* A strict schema for the providers of values that a checked schema takes:
 * optional properties may be null, no others are allowed, limits are left out
 * (schema_validate still has them). False when there is none, such as for
 * objects with free keys; `*strict` is then as it was. */
bool schema_strictify(struct arena *arena, const struct jv *schema,
                      struct slice *strict);

#endif
