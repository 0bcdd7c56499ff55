/* What schema_check and schema_validate share. */
#ifndef LLM_ROUTER_CORE_SCHEMA_INTERNAL_H
#define LLM_ROUTER_CORE_SCHEMA_INTERNAL_H

#include "llm_router/base/map.h"
#include "llm_router/core/schema.h"

/* What a keyword's value must be. */
enum keyword_kind {
    KEYWORD_ANY, /* also the annotations */
    KEYWORD_TYPE,
    KEYWORD_SCHEMA,
    KEYWORD_SCHEMA_LIST,
    KEYWORD_SCHEMA_MAP,
    KEYWORD_VALUES, /* a non-empty array */
    KEYWORD_NAMES,  /* an array of strings */
    KEYWORD_REFERENCE,
    KEYWORD_NUMBER,
    KEYWORD_POSITIVE, /* a number over 0 */
    KEYWORD_COUNT,    /* an integer, 0 or more */
    KEYWORD_BOOLEAN,
};

struct keyword {
    const char *name;
    enum keyword_kind kind;
    bool strict; /* in the subset of schema_is_strict */
};

/* NULL: not one that this program knows. */
const struct keyword *schema_keyword(struct slice name);

/* The member of an object by a key that came from outside, or NULL. */
const struct jv *schema_member(const struct jv *object, struct slice key);

/* Puts `parent` (cut to what fits) or "[index]" before the path. Always
 * false. */
bool schema_in(struct error *err, struct slice parent);
bool schema_at(struct error *err, size_t index);

/* Does a value have the type of this name ("number" takes integers too)? */
bool schema_has_type(const struct jv *value, struct slice type);
bool schema_type_exists(struct slice type);

/* The keywords of a schema that say something about values; NULL: not there. */
struct schema_rules {
    const struct jv *reference;
    const struct jv *type, *allowed, *only;
    const struct jv *minimum, *maximum;
    const struct jv *exclusive_minimum, *exclusive_maximum;
    const struct jv *multiple_of;
    const struct jv *min_length, *max_length;
    const struct jv *items, *min_items, *max_items, *unique_items;
    const struct jv *properties, *required, *additional_properties;
    const struct jv *min_properties, *max_properties;
    const struct jv *any, *one, *all, *negated;
};

/* The schemas that were read last, each at a place that its address gives. */
enum { SCHEMA_RULES_KEPT = 64 };

struct schema_rules_kept {
    const struct jv *schema;
    struct schema_rules rules;
};

/* What one validation may do, and tables of what it looks up. */
struct schema_work {
    const struct jv *root;
    size_t fuel;
    bool exhausted; /* final: `not` must not turn it into success */
    struct map tables;
    struct schema_rules_kept kept[SCHEMA_RULES_KEPT];
};

/* Steps of a nanosecond or two. */
enum { SCHEMA_FUEL = 20000000 };

void schema_work_init(struct schema_work *work, const struct jv *root);
void schema_work_release(struct schema_work *work);

/* False: there is not so much left, and never will be. What the functions below
 * say means nothing once the work is exhausted. */
bool schema_spend(struct schema_work *work, size_t fuel);
struct schema_rules schema_rules(struct schema_work *work,
                                 const struct jv *schema);
bool schema_equal(struct schema_work *work, const struct jv *a,
                  const struct jv *b);
bool schema_contains(struct schema_work *work, const struct jv *list,
                     const struct jv *value);
bool schema_all_differ(struct schema_work *work, const struct jv *array);

/* The schema of that name among `properties` (may be NULL), or NULL. */
const struct jv *schema_property(struct schema_work *work,
                                 const struct jv *properties, struct slice key);

/* Has an object all names of a list? And the first that it has not, or NULL. */
bool schema_has_names(struct schema_work *work, const struct jv *names,
                      const struct jv *object);
const struct jv *schema_missing(struct schema_work *work,
                                const struct jv *names,
                                const struct jv *object);

/* Is it one of a list of names (may be NULL)? */
bool schema_names(struct schema_work *work, const struct jv *names,
                  struct slice name);

/* The subschema that "#", "#/$defs/name" and so on point to, or NULL: there is
 * none, or the work is exhausted. */
const struct jv *schema_resolve(struct schema_work *work,
                                struct slice reference);

/* `value` without the nulls that stand for optional properties: where the root,
 * a checked schema, takes no null. `value` itself when there are none. */
const struct jv *schema_drop_nulls(struct schema_work *work,
                                   struct arena *arena, const struct jv *value);

/* Does a value satisfy a schema that stands in the root? */
bool schema_takes(struct schema_work *work, const struct jv *schema,
                  const struct jv *value);

#endif
