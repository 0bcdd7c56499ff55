/* What schema_check and schema_validate share. */
#ifndef LLM_ROUTER_CORE_SCHEMA_INTERNAL_H
#define LLM_ROUTER_CORE_SCHEMA_INTERNAL_H

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

/* The subschema that "#", "#/$defs/name" and so on point to, or NULL. */
const struct jv *schema_resolve(const struct jv *root, struct slice reference);

/* Puts `parent` (cut to what fits) or "[index]" before the path. Always
 * false. */
bool schema_in(struct error *err, struct slice parent);
bool schema_at(struct error *err, size_t index);

/* Does a value have the type of this name ("number" takes integers too)? */
bool schema_has_type(const struct jv *value, struct slice type);
bool schema_type_exists(struct slice type);

/* Steps of one validation: some 50 ms. */
enum { SCHEMA_FUEL = 20000000 };

/* Does a value satisfy a schema that stands in `root`? `*fuel` is what may be
 * spent on it, and what is left. */
bool schema_takes(const struct jv *root, const struct jv *schema,
                  const struct jv *value, size_t *fuel);

#endif
