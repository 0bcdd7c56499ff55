#include "llm_router/config/assets.h"

#include <dirent.h>
#include <errno.h>
#include <sys/random.h>

#include "config/config_internal.h"
#include "llm_router/base/log.h"
#include "llm_router/config/files.h"

enum { ASSET_MAX = 1024 * 1024 };

static const char *const files[] = {
#define X(field, file) file,
    PROMPT_FILES(X)
#undef X
};

enum { FILE_COUNT = sizeof(files) / sizeof(files[0]) };

/* "prompts/object.txt" -> "object.txt": the user's are in one folder. */
static const char *own_name(const char *file)
{
    return strrchr(file, '/') + 1;
}

/* A text of the user's that nothing reads has a misspelt name. */
static bool check_directory(const char *directory, struct error *err)
{
    DIR *list = opendir(directory);

    if (!list)
        return error_at(err, ERR_INVALID_REQUEST, directory,
                        "cannot be read: %s", strerror(errno));
    for (const struct dirent *entry; (entry = readdir(list));) {
        size_t i = 0;

        while (i < FILE_COUNT && strcmp(own_name(files[i]), entry->d_name))
            i++;
        if (i == FILE_COUNT && entry->d_name[0] != '.')
            log_event(LOG_WARN, "config", "not the name of a prompt",
                      LOG_FIELDS(log_text("directory", slice_of(directory)),
                                 log_text("file", slice_of(entry->d_name))));
    }
    closedir(list);
    return true;
}

static bool read_asset(struct arena *arena, const struct config *config,
                       const char *file, struct slice *text, struct error *err)
{
    const char *path;

    if (config->prompts_dir.size > 0) {
        path = arena_printf(arena, "%s/%s", config->prompts_dir.data,
                            own_name(file))
                   .data;
        if (file_exists(path))
            return file_read(arena, path, ASSET_MAX, FILE_ANY, text, err);
    }
    path = arena_printf(arena, "%s/%s", config->priv_dir, file).data;
    return file_read(arena, path, ASSET_MAX, FILE_ANY, text, err);
}

static bool load_prompts(struct arena *arena, const struct config *config,
                         struct prompts *prompts, struct error *err)
{
    struct slice *const texts[] = {
#define X(field, file) &prompts->field,
        PROMPT_FILES(X)
#undef X
    };

    if (config->prompts_dir.size > 0 &&
        !check_directory(config->prompts_dir.data, err))
        return false;
    for (size_t i = 0; i < FILE_COUNT; i++) {
        if (!read_asset(arena, config, files[i], texts[i], err))
            return false;
        *texts[i] = slice_trim(*texts[i]);
    }
    return prompts_check(prompts, err);
}

/* Also without `http.listen`: a reload may take it out of the file, while what
 * was opened at the start goes on. */
static bool load_page(struct arena *arena, const struct config *config,
                      struct slice *page, struct error *err)
{
    const char *path =
        arena_printf(arena, "%s/status.html", config->priv_dir).data;

    *page = slice_of(NULL);
    return (config->http_listen.size == 0 && !file_exists(path)) ||
           file_read(arena, path, ASSET_MAX, FILE_ANY, page, err);
}

bool assets_load(struct arena *arena, const struct config *config,
                 struct assets *assets, struct error *err)
{
    uint64_t seed = 0;

    if (!load_prompts(arena, config, &assets->prompts, err) ||
        !catalogue_load(arena, config, &assets->catalogue, err) ||
        !load_page(arena, config, &assets->status_page, err))
        return false;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        return error_set(err, ERR_INVALID_REQUEST, "no random bytes: %s",
                         strerror(errno));
    catalogue_index(&assets->catalogue, seed);
    return true;
}

void assets_release(struct assets *assets)
{
    catalogue_release(&assets->catalogue);
}
