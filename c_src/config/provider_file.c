#include "config/config_internal.h"
#include "llm_router/base/log.h"

struct key_draft {
    struct slice name, env, file;
    struct key_limits limits;
};

#define LIMITS(type, limits)                                     \
    FIELD_RANGE("requests_per_minute", KIND_INTEGER, type,       \
                limits.requests_per_minute, 1, 1000000000),      \
        FIELD_RANGE("tokens_per_minute", KIND_INTEGER, type,     \
                    limits.tokens_per_minute, 1, 1000000000000), \
        FIELD("budget_usd_per_day", KIND_POSITIVE, type,         \
              limits.budget.day_usd),                            \
        FIELD("budget_usd_per_month", KIND_POSITIVE, type,       \
              limits.budget.month_usd)

/* "***" is what --print-config writes. */
static bool refuse_secret(struct arena *arena, void *base,
                          const struct place *place, struct error *err)
{
    (void)arena;
    (void)base;
    return (json_is_string(place->value) &&
            !strcmp(json_string_value(place->value), "***")) ||
           place_fault(place, err,
                       "a key does not belong into this file: name its "
                       "variable or its own file");
}

static const struct field key_fields[] = {
    FIELD_CHECKED("name", struct key_draft, name, provider_name_fault),
    FIELD_CHECKED("env", struct key_draft, env, provider_name_fault),
    FIELD("file", KIND_TEXT, struct key_draft, file),
    LIMITS(struct key_draft, limits),
    FIELD_OWN("api_key", refuse_secret),
};

enum { KEY_FIELDS = sizeof(key_fields) / sizeof(key_fields[0]) };

struct draft {
    struct config *config;
    struct config_provider provider;
    struct key_draft key; /* of the short forms */
    struct config_key *keys;
    size_t key_count;
};

/* Appends a key with its secret; one whose secret is empty is not
 * configured. */
static bool add_key(struct config *config, const struct key_draft *from,
                    struct draft *draft, const struct place *place,
                    struct error *err)
{
    struct config_key *key = &draft->keys[draft->key_count];
    bool ok;

    *key = (struct config_key){.name = from->name,
                               .env = from->env,
                               .file = from->file,
                               .limits = from->limits};
    ok = from->file.size > 0
             ? config_read_secret(config, from->file.data, &key->secret, err)
             : config_load_secret(config, from->env.data, &key->secret, err);
    if (!ok)
        return place_fault(place, err, "%s: %s", err->path, err->message);
    if (header_fault(key->secret))
        return place_fault(place, err,
                           "the key has a space or a control character");
    if (key->secret.size > 0)
        draft->key_count++;
    else
        log_event(LOG_WARN, "config", "a key is empty",
                  LOG_FIELDS(log_text("provider", draft->provider.name),
                             log_text("key", from->name)));
    return true;
}

static bool has_name(const struct draft *draft, struct slice name)
{
    for (size_t i = 0; i < draft->key_count; i++)
        if (slice_equal(draft->keys[i].name, name))
            return true;
    return false;
}

static bool read_key(struct draft *draft, const struct place *place,
                     struct error *err)
{
    struct key_draft key = {.limits = NO_LIMITS};
    struct arena *arena = &draft->config->arena;

    if (!fields_read(key_fields, KEY_FIELDS, arena, &key, place, err))
        return false;
    if ((key.env.size > 0) == (key.file.size > 0))
        return place_fault(place, err, "needs either \"env\" or \"file\"");
    if (key.name.size == 0 && json_array_size(place->parent->value) > 1)
        return place_fault(place, err, "needs a name, since there are several");
    if (key.name.size == 0)
        key.name = SLICE_LITERAL("default");
    if (has_name(draft, key.name))
        return place_fault(place, err, "there are two keys of that name");
    return add_key(draft->config, &key, draft, place, err);
}

static bool read_keys(struct arena *arena, void *base,
                      const struct place *place, struct error *err)
{
    struct draft *draft = base;
    size_t count = json_array_size(place->value);

    if (!place_is_array(place, err))
        return false;
    if (count == 0 || count > CONFIG_KEYS_MAX)
        return place_fault(place, err, "must have 1 to %d keys",
                           CONFIG_KEYS_MAX);
    draft->keys = arena_array(arena, count, sizeof(*draft->keys));
    for (size_t i = 0; i < count; i++) {
        struct place item = place_element(place, i);

        if (!read_key(draft, &item, err))
            return false;
    }
    return true;
}

static const struct field provider_fields[] = {
    FIELD_CHECKED("dialect", struct draft, provider.dialect, dialect_fault),
    FIELD_CHECKED("base_url", struct draft, provider.base_url, url_fault),
    FIELD_CHECKED("organization", struct draft, provider.organization,
                  header_fault),
    FIELD_CHECKED("project", struct draft, provider.project, header_fault),
    FIELD_CHECKED("api_version", struct draft, provider.api_version,
                  header_fault),
    FIELD_RANGE("in_flight", KIND_INTEGER, struct draft, provider.in_flight, 0,
                1000000),
    FIELD_OWN("keys", read_keys),
    FIELD_CHECKED("api_key_env", struct draft, key.env, provider_name_fault),
    FIELD("api_key_file", KIND_TEXT, struct draft, key.file),
    LIMITS(struct draft, key.limits),
    FIELD_OWN("api_key", refuse_secret),
};

enum {
    PROVIDER_FIELDS = sizeof(provider_fields) / sizeof(provider_fields[0]),
    OWN_FIELDS = 6, /* those that are the provider's, not a key's */
};

/* The short forms, which are of one key, beside a list of keys. */
static bool check_short_forms(const struct place *place, struct error *err)
{
    for (size_t i = OWN_FIELDS + 1; i < PROVIDER_FIELDS; i++) {
        const char *name = provider_fields[i].name;
        json_t *value = json_object_get(place->value, name);
        struct place member = place_member(place, name, value);

        if (value)
            return place_key_fault(&member, err,
                                   "belongs into the entries of \"keys\"");
    }
    return true;
}

static bool add_short_key(struct draft *draft, const struct place *place,
                          struct error *err)
{
    draft->key.name = SLICE_LITERAL("default");
    if (draft->key.env.size > 0 && draft->key.file.size > 0)
        return place_fault(place, err,
                           "api_key_env and api_key_file exclude each other");
    draft->keys = arena_alloc(&draft->config->arena, sizeof(*draft->keys));
    if ((draft->key.env.size > 0 || draft->key.file.size > 0) &&
        !add_key(draft->config, &draft->key, draft, place, err))
        return false;
    /* Without a secret its limits are those of the provider's own variable. */
    draft->keys[0].name = draft->key.name;
    draft->keys[0].limits = draft->key.limits;
    draft->key_count = 1;
    return true;
}

static bool load_provider(struct config *config, const struct place *place,
                          struct error *err)
{
    struct slice name = config_real_provider(config, slice_of(place->key));
    struct draft draft = {.config = config, .key.limits = NO_LIMITS};
    struct config_provider *provider;

    if (provider_name_fault(name))
        return place_key_fault(place, err, provider_name_fault(name));
    provider = provider_find_or_add(config, name);
    if (!provider)
        return place_fault(place, err, "more than %d providers",
                           CONFIG_PROVIDERS_MAX);
    draft.provider = *provider;
    if (!fields_read(provider_fields, PROVIDER_FIELDS, &config->arena, &draft,
                     place, err))
        return false;
    if (json_object_get(place->value, "keys")
            ? !check_short_forms(place, err)
            : !add_short_key(&draft, place, err))
        return false;
    if (draft.provider.base_url.size == 0 && !provider_is_known(name))
        return place_fault(place, err, "needs a base_url");
    *provider = draft.provider;
    provider->keys = draft.keys;
    provider->key_count = draft.key_count;
    return true;
}

bool config_providers_from_json(struct config *config,
                                const struct place *place, struct error *err)
{
    const char *name;
    json_t *value;

    if (!place_is_object(place, err))
        return false;
    json_object_foreach(place->value, name, value)
    {
        struct place provider = place_member(place, name, value);

        if (!load_provider(config, &provider, err))
            return false;
    }
    return true;
}

const char *config_provider_key_name(size_t index)
{
    return index < PROVIDER_FIELDS ? provider_fields[index].name : NULL;
}

const char *config_key_key_name(size_t index)
{
    return index < KEY_FIELDS ? key_fields[index].name : NULL;
}

/* Printing. */

static void put_field(json_t *object, const struct field *field,
                      const void *base)
{
    json_t *value = field_json(field, base);

    if (!value)
        return;
    if ((json_is_string(value) && json_string_length(value) == 0) ||
        (json_is_integer(value) && json_integer_value(value) == 0))
        json_decref(value); /* not given */
    else
        json_object_set_new(object, field->name, value);
}

static json_t *key_json(const struct config_key *key)
{
    const struct key_draft draft = {key->name, key->env, key->file,
                                    key->limits};
    json_t *object = json_object();

    for (size_t i = 0; i < KEY_FIELDS; i++)
        put_field(object, &key_fields[i], &draft);
    json_object_set_new(object, "api_key", json_string("***"));
    return object;
}

static json_t *provider_json(const struct config_provider *provider)
{
    struct draft draft = {.provider = *provider, .key.limits = NO_LIMITS};
    json_t *object = json_object(), *keys = json_array();
    size_t count = OWN_FIELDS;

    if (provider_has_secret(provider)) {
        for (size_t i = 0; i < provider->key_count; i++)
            json_array_append_new(keys, key_json(&provider->keys[i]));
        json_object_set(object, "keys", keys);
    } else {
        draft.key.limits = provider->keys[0].limits;
        count = PROVIDER_FIELDS;
    }
    for (size_t i = 0; i < count; i++)
        put_field(object, &provider_fields[i], &draft);
    json_decref(keys);
    return object;
}

json_t *config_providers_json(const struct config *config)
{
    json_t *all = json_object();

    for (size_t i = 0; i < config->provider_count; i++) {
        const struct config_provider *provider = &config->providers[i];

        json_object_setn_new(all, provider->name.data, provider->name.size,
                             provider_json(provider));
    }
    return all;
}
