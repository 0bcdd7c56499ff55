/* Command line, boot order, exit code. */
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "llm_router/base/log.h"
#include "llm_router/config/assets.h"
#include "llm_router/config/config.h"
#include "llm_router/service/server.h"

/* Blocks from this size on go back to the system when they are freed. It is
 * malloc's own, but by itself it would rise to 32 MiB with the first large
 * message that is freed, and twice as much be kept. */
enum { MMAP_BYTES = 128 * 1024 };

static int complain(const struct error *err, enum exit_code code)
{
    fprintf(stderr, "llm_router: %s%s%s\n", err->path,
            err->path[0] != '\0' ? ": " : "", err->message);
    return (int)code;
}

static bool load(struct config *config, struct assets *assets,
                 struct error *err)
{
    enum log_level level;

    if (!config_load(config, err))
        return false;
    if (!log_level_parse(config->log_level, &level))
        return error_at(err, ERR_INVALID_REQUEST, "log.level",
                        "must be error, warn, info or debug");
    log_set_level(level);
    return server_check(config, err) &&
           assets_load(&config->arena, config->priv_dir, assets, err);
}

static int run(struct config *config, enum command command)
{
    struct assets assets;
    struct error err;

    if (!load(config, &assets, &err))
        return complain(&err, EXIT_CONFIGURATION);
    if (command == COMMAND_PRINT) {
        config_print(config);
        return EXIT_CLEAN;
    }
    if (!config_load_cookie(config, &err))
        return complain(&err, EXIT_CONFIGURATION);
    if (command == COMMAND_CHECK) {
        puts("the configuration is valid");
        return EXIT_CLEAN;
    }
    return (int)server_run(config, &assets);
}

/* A standard descriptor that is closed would be given to the first socket,
 * which then gets the log or the line that says "ready". */
static bool open_standard_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    return fd >= 0 && close(fd) == 0;
}

int main(int argc, char **argv)
{
    struct config config;
    enum command command;
    struct error err;
    int status;

    if (!open_standard_descriptors())
        return EXIT_CANNOT_START;
    mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
    config_init(&config);
    if (!config_parse_arguments(&config, argc, (const char *const *)argv,
                                &command, &err)) {
        status = complain(&err, EXIT_USAGE);
        fputs("Try --help.\n", stderr);
    } else if (command == COMMAND_HELP) {
        fputs(CONFIG_USAGE, stdout);
        status = EXIT_CLEAN;
    } else if (command == COMMAND_VERSION) {
        puts("llm_router " LLM_ROUTER_VERSION);
        status = EXIT_CLEAN;
    } else {
        status = run(&config, command);
    }
    config_release(&config);
    return status;
}
