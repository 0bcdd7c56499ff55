#include "llm_router/config/assets.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "llm_router/config/files.h"

enum { ASSET_MAX = 1024 * 1024 };

static bool read_asset(struct arena *arena, const char *priv_dir,
                       const char *name, struct slice *text, struct error *err)
{
    const char *path = arena_printf(arena, "%s/%s", priv_dir, name).data;

    return file_read(arena, path, ASSET_MAX, FILE_ANY, text, err);
}

static bool load_prompts(struct arena *arena, const char *priv_dir,
                         struct prompts *prompts, struct error *err)
{
    const struct {
        struct slice *text;
        const char *file;
    } files[] = {
#define X(field, file) {&prompts->field, file},
        PROMPT_FILES(X)
#undef X
    };

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (!read_asset(arena, priv_dir, files[i].file, files[i].text, err))
            return false;
        *files[i].text = slice_trim(*files[i].text);
    }
    return prompts_check(prompts, err);
}

static double price(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);

    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static int64_t amount(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);

    return json_is_integer(value) ? json_integer_value(value) : -1;
}

static bool flag(const json_t *row, const char *key)
{
    return !json_is_false(json_object_get(row, key));
}

static struct slice text(struct arena *arena, const json_t *row,
                         const char *key)
{
    const json_t *value = json_object_get(row, key);

    if (!json_is_string(value))
        return slice_of(NULL);
    return arena_copy(
        arena, slice_make(json_string_value(value), json_string_length(value)));
}

static bool read_model(struct arena *arena, const json_t *row,
                       struct model *model, struct error *err)
{
    *model = (struct model){
        .provider = text(arena, row, "provider"),
        .id = text(arena, row, "id"),
        .prices = {.input = price(row, "in"),
                   .output = price(row, "out"),
                   .cache_read = price(row, "cache_read"),
                   .cache_write = price(row, "cache_write"),
                   .long_over = amount(row, "long_over"),
                   .long_input = price(row, "long_in"),
                   .long_output = price(row, "long_out")},
        .context_tokens = amount(row, "context"),
        .max_output_tokens = amount(row, "max_out"),
        .json_schema = flag(row, "json_schema"),
        .sampling = flag(row, "sampling"),
    };
    if (model->provider.size == 0 || !model_id_is_valid(model->id))
        return error_set(err, ERR_INVALID_REQUEST,
                         "needs a provider and a valid id");
    return true;
}

static bool read_models(struct arena *arena, const json_t *rows,
                        struct catalogue *catalogue, struct error *err)
{
    size_t count = json_array_size(rows);
    struct model *models = arena_array(arena, count, sizeof(*models));

    for (size_t i = 0; i < count; i++) {
        char path[32];

        if (read_model(arena, json_array_get(rows, i), &models[i], err))
            continue;
        snprintf(path, sizeof(path), "models[%zu]", i);
        return error_in(err, path);
    }
    *catalogue = (struct catalogue){.models = models, .count = count};
    return true;
}

static bool load_catalogue(struct arena *arena, const char *priv_dir,
                           struct catalogue *catalogue, struct error *err)
{
    struct slice json;
    json_error_t where;
    json_t *root;
    bool ok;

    if (!read_asset(arena, priv_dir, "models.json", &json, err))
        return false;
    root = json_loadb(json.data, json.size, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return error_at(err, ERR_INVALID_REQUEST, "models.json",
                        "line %d, column %d: %s", where.line, where.column,
                        where.text);
    ok = read_models(arena, json_object_get(root, "models"), catalogue, err);
    json_decref(root);
    return ok || error_in(err, "models.json");
}

bool assets_load(struct arena *arena, const char *priv_dir,
                 struct assets *assets, struct error *err)
{
    return load_prompts(arena, priv_dir, &assets->prompts, err) &&
           load_catalogue(arena, priv_dir, &assets->catalogue, err);
}
