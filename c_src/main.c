/* Command line, boot order, exit code. */
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "llm_router/base/abort.h"
#include "llm_router/base/log.h"
#include "llm_router/base/mem.h"
#include "llm_router/console/console.h"
#include "llm_router/pg/pgmq.h"
#include "llm_router/script/worker.h"
#include "llm_router/service/server.h"

/* Blocks from this size on go back to the system when they are freed. It is
 * malloc's own, but by itself it would rise to 32 MiB with the first large
 * message that is freed, and twice as much be kept. */
enum { MMAP_BYTES = 128 * 1024 };

/* With fewer it might start, but serve nobody. */
enum { LEAST_DESCRIPTORS = 32 };

static int complain(const struct error *err, enum exit_code code)
{
    char text[ERROR_TEXT_MAX];

    error_describe(err, text);
    fprintf(stderr, "llm_router: %s\n", text);
    return (int)code;
}

static bool descriptors_suffice(struct error *err)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
        limit.rlim_cur >= LEAST_DESCRIPTORS)
        return true;
    return error_at(err, ERR_OVERLOADED, "cannot start",
                    "only %llu descriptors may be open (RLIMIT_NOFILE), %d is "
                    "the least",
                    (unsigned long long)limit.rlim_cur, LEAST_DESCRIPTORS);
}

static void tell(const char *line)
{
    puts(line);
}

static int migrate(const struct config *config)
{
    const struct pgmq_names names = {
        .requests = config->requests_queue.data,
        .results = config->results_queue.data,
        .dead_letters = config->dead_letter_queue.data,
        .channel = config->notify_channel.data,
    };
    struct error err;

    if (config->database.size == 0) {
        error_at(&err, ERR_INVALID_REQUEST, "LLM_ROUTER_DATABASE_URL",
                 "says which database; it is not set");
        return complain(&err, EXIT_CONFIGURATION);
    }
    if (!pgmq_migrate(config->database.data, config->priv_dir, &names, tell,
                      &err))
        return complain(&err, err.code == ERR_UNREACHABLE ? EXIT_CANNOT_START
                                                          : EXIT_CONFIGURATION);
    return EXIT_CLEAN;
}

static int run(struct settings *settings, enum command command, int argc,
               const char *const *argv, struct line_reader *input)
{
    struct error err;

    if (command == COMMAND_PRINT) {
        config_print(&settings->config);
        return EXIT_CLEAN;
    }
    if (command == COMMAND_MIGRATE)
        return migrate(&settings->config);
    if (command == COMMAND_CHECK) {
        if (!config_find_cookie(&settings->config, &err))
            return complain(&err, EXIT_CONFIGURATION);
        puts("the configuration is valid");
        return EXIT_CLEAN;
    }
    if (!config_load_cookie(&settings->config, &err))
        return complain(&err, EXIT_CONFIGURATION);
    if (!descriptors_suffice(&err))
        return complain(&err, EXIT_CANNOT_START);
    config_hide_secrets(&settings->config);
    return (int)server_run(settings, argc, argv,
                           settings->config.supervised ? input : NULL);
}

/* `config` is the command line. */
static int load_and_run(struct config *config, enum command command, int argc,
                        const char *const *argv)
{
    struct handover handed = {.stop = false};
    struct settings *settings = NULL;
    struct line_reader input;
    struct error err;
    int status;

    line_reader_init(&input, HANDOVER_MAX);
    if (!config->supervised ||
        handover_receive(&input, STDIN_FILENO, HANDOVER_WAIT_MS, &config->arena,
                         &handed, &err))
        settings = settings_load(argc, argv, &handed, NULL, &err);
    status = settings ? run(settings, command, argc, argv, &input)
                      : complain(&err, EXIT_CONFIGURATION);
    settings_drop(settings);
    line_reader_release(&input);
    return status;
}

static int run_console(struct config *config, enum command command)
{
    struct error err;

    if (!config_find_cookie(config, &err))
        return complain(&err, EXIT_CONFIGURATION);
    if (config->cookie.size == 0) {
        error_set(&err, ERR_INVALID_REQUEST,
                  "there is no cookie: --cookie-file, RELEASE_COOKIE, or"
                  " ~/.erlang.cookie");
        return complain(&err, EXIT_CONFIGURATION);
    }
    return (int)(command == COMMAND_STATUS ? console_status(config)
                                           : console_top(config));
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

/* What was printed may be for a file on a disk that is full. */
static int finish_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_CLEAN;
    fputs("llm_router: the output could not be written\n", stderr);
    return EXIT_CANNOT_START;
}

int main(int argc, char **argv)
{
    struct config config;
    enum command command;
    struct error err;
    int status;

    if (!open_standard_descriptors()) {
        fputs("llm_router: /dev/null cannot be opened\n", stderr);
        return EXIT_CANNOT_START;
    }
    abort_watch();
    mem_serve_openssl();
    if (argc == 2 && !strcmp(argv[1], "--script-worker"))
        return script_worker_main();
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
    } else if (command == COMMAND_STATUS || command == COMMAND_TOP) {
        status = run_console(&config, command);
    } else {
        status =
            load_and_run(&config, command, argc, (const char *const *)argv);
    }
    if (status == EXIT_CLEAN && command != COMMAND_RUN)
        status = finish_output();
    config_release(&config);
    return status;
}
