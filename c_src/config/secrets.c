#include <stdlib.h>
#include <sys/prctl.h>

#include "config/config_internal.h"
#include "llm_router/base/log.h"
#include "llm_router/config/files.h"

enum { SECRET_MAX = 4096 };

static struct config_secret *find_secret(struct config *config,
                                         const char *name)
{
    for (size_t i = 0; i < config->secret_count; i++)
        if (!strcmp(config->secrets[i].name, name))
            return &config->secrets[i];
    return NULL;
}

/* With all of them taken the variable stays visible; nothing else is lost. */
static void remember(struct config *config, const char *name,
                     struct slice value)
{
    struct config_secret *secret = find_secret(config, name);

    if (!secret && config->secret_count == CONFIG_SECRETS_MAX)
        return;
    if (!secret)
        secret = &config->secrets[config->secret_count++];
    *secret = (struct config_secret){arena_text(&config->arena, slice_of(name)),
                                     value};
}

void config_take_secrets(struct config *config, const struct config *previous)
{
    for (size_t i = 0; i < previous->secret_count; i++)
        remember(config, previous->secrets[i].name,
                 arena_copy(&config->arena, previous->secrets[i].value));
}

struct slice config_secret_variable(struct config *config, const char *name)
{
    struct slice value = slice_of(getenv(name));
    const struct config_secret *kept = find_secret(config, name);

    if (value.size == 0)
        return kept ? kept->value : value;
    value = arena_copy(&config->arena, value);
    remember(config, name, value);
    return value;
}

bool config_read_secret(struct config *config, const char *file,
                        struct slice *secret, struct error *err)
{
    if (!file_read(&config->arena, file, SECRET_MAX, FILE_OWNER_ONLY, secret,
                   err))
        return false;
    *secret = slice_trim(*secret);
    return true;
}

const char *config_credential(struct config *config, const char *name)
{
    static const char *const prefixes[] = {"", "llm_router_"};
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    const char *path;

    if (!directory || directory[0] == '\0')
        return NULL;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        path = arena_printf(&config->arena, "%s/%s%s", directory, prefixes[i],
                            name)
                   .data;
        if (file_exists(path))
            return path;
    }
    return NULL;
}

bool config_load_secret(struct config *config, const char *name,
                        struct slice *secret, struct error *err)
{
    const char *file =
        getenv(arena_printf(&config->arena, "%s_FILE", name).data);

    *secret = slice_trim(config_secret_variable(config, name));
    if (secret->size > 0)
        return true;
    if (!file || file[0] == '\0')
        file = config_credential(config, name);
    return !file || config_read_secret(config, file, secret, err);
}

/* The kernel shows the block that the program was started with: unsetenv and
 * setenv only change pointers into it. */
void config_hide_secrets(const struct config *config)
{
    for (size_t i = 0; i < config->secret_count; i++) {
        char *value = getenv(config->secrets[i].name);

        if (value)
            explicit_bzero(value, strlen(value));
    }
    if (prctl(PR_SET_DUMPABLE, config->core_dump ? 1L : 0L, 0L, 0L, 0L) != 0)
        log_line(LOG_WARN, "config", "core.dump cannot be set");
}
