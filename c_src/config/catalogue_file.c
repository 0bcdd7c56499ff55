#include "config/config_internal.h"
#include "llm_router/core/router.h"

enum { FILE_MAX = 4 * 1024 * 1024, MODELS_MAX = 10000, ALIASES_MAX = 16 };

#define AMOUNT_MAX 1000000000000

static const char *id_fault(struct slice text)
{
    return model_id_is_valid(text) ? NULL : "is not a model's id";
}

static const char *provider_fault(struct slice text)
{
    if (text.size > 0 && model_id_is_valid(text) &&
        !memchr(text.data, '/', text.size))
        return NULL;
    return "is not a provider's name";
}

/* Members that are words or lists of words. */

static bool read_structured(struct arena *arena, void *base,
                            const struct place *place, struct error *err)
{
    static const char *const modes[] = {[STRUCTURED_SCHEMA] = "schema",
                                        [STRUCTURED_TOOL] = "tool",
                                        [STRUCTURED_JSON] = "json",
                                        [STRUCTURED_PROMPT] = "prompt"};
    struct model *model = base;

    (void)arena;
    for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
        if (!json_is_string(place->value) ||
            strcmp(json_string_value(place->value), modes[i]) != 0)
            continue;
        model->structured = (enum structured_mode)i;
        return true;
    }
    return place_fault(place, err,
                       "must be \"schema\", \"tool\", \"json\" or \"prompt\"");
}

static bool read_api(const struct place *place, enum model_api *api,
                     struct error *err)
{
    const char *text = json_string_value(place->value);

    if (!text || (strcmp(text, "chat") != 0 && strcmp(text, "responses") != 0))
        return place_fault(place, err, "must be \"chat\" or \"responses\"");
    *api = !strcmp(text, "chat") ? API_CHAT : API_RESPONSES;
    return true;
}

static bool read_main_api(struct arena *arena, void *base,
                          const struct place *place, struct error *err)
{
    (void)arena;
    return read_api(place, &((struct model *)base)->api, err);
}

static bool read_tools_api(struct arena *arena, void *base,
                           const struct place *place, struct error *err)
{
    (void)arena;
    return read_api(place, &((struct model *)base)->tools_api, err);
}

static bool read_effort(const struct place *place, enum effort *effort,
                        struct error *err)
{
    return (json_is_string(place->value) &&
            effort_parse(slice_of(json_string_value(place->value)), effort)) ||
           place_fault(place, err,
                       "must be \"none\", \"minimal\", \"low\", \"medium\", "
                       "\"high\", \"xhigh\" or \"max\"");
}

static bool read_tools_effort(struct arena *arena, void *base,
                              const struct place *place, struct error *err)
{
    (void)arena;
    return read_effort(place, &((struct model *)base)->tools_effort, err);
}

static bool read_efforts(struct arena *arena, void *base,
                         const struct place *place, struct error *err)
{
    struct model *model = base;

    (void)arena;
    if (!place_is_array(place, err))
        return false;
    model->efforts = 1u << EFFORT_UNSET; /* known: an empty list is "none" */
    for (size_t i = 0; i < json_array_size(place->value); i++) {
        struct place item = place_element(place, i);
        enum effort effort = EFFORT_UNSET;

        if (!read_effort(&item, &effort, err))
            return false;
        model->efforts |= 1u << effort;
    }
    return true;
}

static bool read_capabilities(struct arena *arena, void *base,
                              const struct place *place, struct error *err)
{
    struct model *model = base;

    (void)arena;
    if (!place_is_array(place, err))
        return false;
    model->capabilities = 0;
    for (size_t i = 0; i < json_array_size(place->value); i++) {
        struct place item = place_element(place, i);
        unsigned bit = 0;

        if (!json_is_string(item.value) ||
            !capability_parse(slice_of(json_string_value(item.value)), &bit))
            return place_fault(&item, err,
                               "must be \"tools\", \"schema\", \"vision\", "
                               "\"reasoning\" or \"embedding\"");
        model->capabilities |= bit;
    }
    return true;
}

static bool read_aliases(struct arena *arena, void *base,
                         const struct place *place, struct error *err)
{
    struct model *model = base;
    size_t count = json_array_size(place->value);
    struct slice *aliases;

    if (!place_is_array(place, err))
        return false;
    if (count > ALIASES_MAX)
        return place_fault(place, err, "more than %d entries", ALIASES_MAX);
    aliases = arena_array(arena, count + 1, sizeof(*aliases));
    for (size_t i = 0; i < count; i++) {
        struct place item = place_element(place, i);

        if (!json_is_string(item.value))
            return place_fault(&item, err, "must be a string");
        aliases[i] = arena_copy(arena, slice_of(json_string_value(item.value)));
        if (id_fault(aliases[i]))
            return place_fault(&item, err, "%s", id_fault(aliases[i]));
    }
    model->aliases = aliases;
    model->alias_count = count;
    return true;
}

#define PRICE(name, member) FIELD(name, KIND_PRICE, struct model, prices.member)
#define AMOUNT(name, member) \
    FIELD_RANGE(name, KIND_AMOUNT, struct model, member, 0, AMOUNT_MAX)

/* What a row may hold; docs/providers.md explains each (a test compares). */
static const struct field model_fields[] = {
    FIELD_CHECKED("provider", struct model, provider, provider_fault),
    FIELD_CHECKED("id", struct model, id, id_fault),
    FIELD_OWN("aliases", read_aliases),
    AMOUNT("context", context_tokens),
    AMOUNT("max_out", max_output_tokens),
    PRICE("in", input),
    PRICE("out", output),
    PRICE("cache_read", cache_read),
    PRICE("cache_write", cache_write),
    PRICE("cache_write_1h", cache_write_1h),
    AMOUNT("long_over", prices.long_over),
    PRICE("long_in", long_input),
    PRICE("long_out", long_output),
    FIELD_OWN("structured", read_structured),
    FIELD_OWN("api", read_main_api),
    FIELD_OWN("tools_api", read_tools_api),
    FIELD_OWN("tools_effort", read_tools_effort),
    FIELD_OWN("efforts", read_efforts),
    FIELD_OWN("capabilities", read_capabilities),
    FIELD("sampling", KIND_BOOLEAN, struct model, sampling),
};

enum { MODEL_FIELDS = sizeof(model_fields) / sizeof(model_fields[0]) };

const char *catalogue_key_name(size_t index)
{
    return index < MODEL_FIELDS ? model_fields[index].name : NULL;
}

static struct model unknown_model(void)
{
    return (struct model){
        .prices = PRICES_UNKNOWN,
        .context_tokens = -1,
        .max_output_tokens = -1,
        .structured = STRUCTURED_SCHEMA,
        .api = API_CHAT,
        .tools_api = API_CHAT,
        .capabilities = CAPABILITY_TOOLS | CAPABILITY_SCHEMA,
        .sampling = true,
    };
}

struct loading {
    struct arena *arena;
    const struct config *config;
    struct model *models;
    size_t count;
    size_t replaceable; /* rows of an earlier file: what a row may stand for */
};

static struct slice text_of(const struct place *row, const char *name)
{
    return slice_of(json_string_value(json_object_get(row->value, name)));
}

static struct model *find_row(const struct loading *loading, size_t from,
                              size_t to, const struct model *wanted)
{
    for (size_t i = from; i < to; i++)
        if (slice_equal(loading->models[i].id, wanted->id) &&
            slice_equal(loading->models[i].provider, wanted->provider))
            return &loading->models[i];
    return NULL;
}

/* A row of the user's keeps what it does not name from the row it replaces. */
static bool read_row(struct loading *loading, const struct place *row,
                     struct error *err)
{
    struct model wanted = {.provider = config_real_provider(
                               loading->config, text_of(row, "provider")),
                           .id = text_of(row, "id")};
    struct model *old = find_row(loading, 0, loading->replaceable, &wanted);
    struct model model = old ? *old : unknown_model();

    if (!fields_read(model_fields, MODEL_FIELDS, loading->arena, &model, row,
                     err))
        return false;
    if (wanted.provider.size == 0 || wanted.id.size == 0)
        return place_fault(row, err, "needs a provider and an id");
    model.provider = config_real_provider(loading->config, model.provider);
    if (find_row(loading, loading->replaceable, loading->count, &model))
        return place_fault(row, err, "there are two rows of %.*s/%.*s",
                           SLICE_ARG(model.provider), SLICE_ARG(model.id));
    if (old)
        *old = model;
    else
        loading->models[loading->count++] = model;
    return true;
}

static bool read_rows(struct loading *loading, const struct place *rows,
                      struct error *err)
{
    size_t count = json_array_size(rows->value);
    struct model *models;

    if (!place_is_array(rows, err))
        return false;
    if (count > MODELS_MAX)
        return place_fault(rows, err, "more than %d models", MODELS_MAX);
    models = arena_array(loading->arena, loading->count + count + 1,
                         sizeof(*models));
    memcpy(models, loading->models, loading->count * sizeof(*models));
    loading->models = models;
    loading->replaceable = loading->count;
    for (size_t i = 0; i < count; i++) {
        struct place row = place_element(rows, i);

        if (!read_row(loading, &row, err))
            return false;
    }
    return true;
}

static bool read_note(struct arena *arena, void *base,
                      const struct place *place, struct error *err)
{
    (void)arena;
    (void)base;
    return json_is_string(place->value) ||
           place_fault(place, err, "must be a string");
}

static bool read_models(struct arena *arena, void *base,
                        const struct place *place, struct error *err)
{
    (void)arena;
    return read_rows(base, place, err);
}

static const struct field root_fields[] = {
    FIELD_OWN("notes", read_note),
    FIELD_OWN("models", read_models),
};

static bool load(struct loading *loading, const char *file, struct error *err)
{
    struct document document;
    struct place root;
    bool ok;

    if (!document_read(&document, loading->arena, file, FILE_MAX, err))
        return false;
    root = place_root(&document);
    ok = fields_read(root_fields, sizeof(root_fields) / sizeof(*root_fields),
                     loading->arena, loading, &root, err);
    document_release(&document);
    return ok;
}

bool catalogue_load(struct arena *arena, const struct config *config,
                    struct catalogue *catalogue, struct error *err)
{
    const char *file =
        arena_printf(arena, "%s/models.json", config->priv_dir).data;
    struct loading loading = {.arena = arena, .config = config};

    loading.models = arena_array(arena, 1, sizeof(*loading.models));
    if (!load(&loading, file, err))
        return false;
    if (config->catalogue_file.size > 0 &&
        !load(&loading, config->catalogue_file.data, err))
        return false;
    *catalogue =
        (struct catalogue){.models = loading.models, .count = loading.count};
    return true;
}
