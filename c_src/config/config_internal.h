/* Shared by the files of the config layer. */
#ifndef LLM_ROUTER_CONFIG_INTERNAL_H
#define LLM_ROUTER_CONFIG_INTERNAL_H

#include <jansson.h>
#include <stddef.h>

#include "llm_router/config/config.h"
#include "llm_router/config/locate.h"

/* document.c: a JSON file, and values in it that know where they stand. */

struct document {
    const char *file;
    struct slice text; /* no data: of no file, so that lines say nothing */
    json_t *root;
};

/* A value of a document; a chain on the stack up to the root's. */
struct place {
    const struct document *document;
    const struct place *parent; /* NULL: the root */
    const char *key;            /* NULL: an element of an array */
    size_t index;
    json_t *value;
};

/* Text and file name are in the arena, the tree is freed with
 * document_release. */
bool document_read(struct document *document, struct arena *arena,
                   const char *file, size_t max_bytes, struct error *err);
/* What was handed over; faults name `name`, and no line. */
bool document_parse(struct document *document, const char *name,
                    struct slice text, struct error *err);
void document_release(struct document *document);

struct place place_root(const struct document *document);
struct place place_member(const struct place *parent, const char *key,
                          json_t *value);
struct place place_element(const struct place *parent, size_t index);

/* ERR_INVALID_REQUEST with the way to the value as path ("routes.simple[1]")
 * and "FILE: line 4, column 7: PATH: WHAT" as message. Always false. */
bool place_fault(const struct place *place, struct error *err,
                 const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same with the position of the key. */
bool place_key_fault(const struct place *place, struct error *err,
                     const char *what);

bool place_is_object(const struct place *place, struct error *err);
bool place_is_array(const struct place *place, struct error *err);

/* "there is no such key", maybe with the name that was meant. */
bool unknown_key(const struct place *place, const char *const *names,
                 size_t count, struct error *err);

/* field.c: members of structs by name. */

enum kind {
    KIND_INTEGER,  /* int64_t between least and most */
    KIND_AMOUNT,   /* the same; null is unknown: -1 */
    KIND_POSITIVE, /* double over 0; NAN: not given */
    KIND_PRICE,    /* double from 0; null is unknown: NAN */
    KIND_BOOLEAN,
    KIND_TEXT,     /* struct slice, with a NUL behind it */
    KIND_PATTERNS, /* struct config_list of core/allow.h's patterns */
    KIND_OWN,      /* what `read` makes of it */
};

struct field {
    const char *name;
    enum kind kind;
    size_t offset; /* in the struct that `base` points to */
    int64_t least, most;
    /* Of texts: what is wrong with one, or NULL. Without it control characters
     * are. */
    const char *(*fault)(struct slice text);
    bool (*read)(struct arena *arena, void *base, const struct place *place,
                 struct error *err);
};

#define FIELD(name_, kind_, type, member)                                  \
    {                                                                      \
        .name = (name_), .kind = (kind_), .offset = offsetof(type, member) \
    }
#define FIELD_RANGE(name_, kind_, type, member, least_, most_)              \
    {                                                                       \
        .name = (name_), .kind = (kind_), .offset = offsetof(type, member), \
        .least = (least_), .most = (most_)                                  \
    }
#define FIELD_CHECKED(name_, type, member, fault_)                            \
    {                                                                         \
        .name = (name_), .kind = KIND_TEXT, .offset = offsetof(type, member), \
        .fault = (fault_)                                                     \
    }
#define FIELD_OWN(name_, read_)                            \
    {                                                      \
        .name = (name_), .kind = KIND_OWN, .read = (read_) \
    }

/* Reads every member of an object by a table. An unknown one is a fault that
 * names the nearest known one. */
bool fields_read(const struct field *fields, size_t count, struct arena *arena,
                 void *base, const struct place *place, struct error *err);

bool field_read(const struct field *field, struct arena *arena, void *base,
                const struct place *place, struct error *err);

/* As an environment variable gives it; `variable` is the path of an error.
 * Not for KIND_OWN. */
bool field_from_text(const struct field *field, struct arena *arena, void *base,
                     const char *variable, struct slice text,
                     struct error *err);

bool field_equal(const struct field *field, const void *a, const void *b);

/* NULL: there is nothing to say (unknown, not given, KIND_OWN). */
json_t *field_json(const struct field *field, const void *base);

const char *text_fault(struct slice text);

json_t *slice_json(struct slice text);

/* providers.c */

extern const struct key_limits NO_LIMITS;

bool provider_is_known(struct slice name); /* has variables of its own */
bool provider_has_secret(const struct config_provider *provider);

/* NULL: there are too many. */
struct config_provider *provider_find_or_add(struct config *config,
                                             struct slice name);

/* "google" -> "gemini" */
struct slice config_real_provider(const struct config *config,
                                  struct slice name);

/* What is wrong with a text, or NULL. */
const char *provider_name_fault(struct slice text);
const char *header_fault(struct slice text);
const char *url_fault(struct slice url);
const char *dialect_fault(struct slice text);

/* Switches providers on by their variables, then checks all of them and drops
 * those without key and address. */
bool config_providers_from_environment(struct config *config,
                                       struct error *err);

/* provider_file.c: the "providers" object of the file. */

bool config_providers_from_json(struct config *config,
                                const struct place *place, struct error *err);
json_t *config_providers_json(const struct config *config);
const char *config_provider_key_name(size_t index); /* NULL behind the last */
const char *config_key_key_name(size_t index);

/* routes.c */

bool config_routes_default(struct config *config, struct error *err);
bool config_routes_from_json(struct config *config, const struct place *place,
                             struct error *err);
bool config_routes_from_environment(struct config *config, struct error *err);
json_t *config_routes_json(const struct config *config);
const char *config_route_key_name(size_t index);

/* secrets.c */

void config_take_secrets(struct config *config, const struct config *previous);

/* The variable, or what it was before it was hidden; in the arena; empty:
 * not set. What it gives is remembered for the next configuration. */
struct slice config_secret_variable(struct config *config, const char *name);

/* The file of the service manager's credential NAME: $CREDENTIALS_DIRECTORY/
 * NAME, or llm_router_NAME, as LoadCredential=llm_router:FOLDER calls a file
 * NAME of that folder. In the arena; NULL: there is none. */
const char *config_credential(struct config *config, const char *name);

/* The variable, the file that NAME_FILE names, or the service manager's
 * credential NAME. Empty: not configured. */
bool config_load_secret(struct config *config, const char *name,
                        struct slice *secret, struct error *err);

bool config_read_secret(struct config *config, const char *file,
                        struct slice *secret, struct error *err);

/* catalogue_file.c */

bool catalogue_load(struct arena *arena, const struct config *config,
                    struct catalogue *catalogue, struct error *err);
const char *catalogue_key_name(size_t index);

/* cookie.c */

const char *config_home_directory(void);

#endif
