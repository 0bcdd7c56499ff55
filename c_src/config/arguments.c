#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "llm_router/config/config.h"
#include "llm_router/config/listen.h"

const char CONFIG_USAGE[] =
    "usage: llm_router [OPTION]...\n"
    "       llm_router status|top [OPTION]...\n"
    "\n"
    "A hidden Erlang node that answers language model requests of a cluster.\n"
    "\n"
    "  --sname NAME        short node name (default llm_router)\n"
    "  --name NAME         long node name, NAME@HOST.DOMAIN\n"
    "  --connect NODE      keep connected to this node (repeatable)\n"
    "  --cookie-file FILE  the cluster's cookie; else RELEASE_COOKIE, else\n"
    "                      ~/.erlang.cookie\n"
    "  --tls-dist          speak TLS with nodes, as erl -proto_dist inet_tls\n"
    "  --tls-cert FILE     this node's certificate and its chain (PEM)\n"
    "  --tls-key FILE      its key, without a passphrase (PEM)\n"
    "  --tls-ca FILE       the authorities of all nodes' certificates (PEM)\n"
    "  --config FILE       configuration file (JSON)\n"
    "  --http [HOST:]PORT  metrics, health and the status page by HTTP; HOST "
    "is\n"
    "                      127.0.0.1 unless given\n"
    "  --supervised        cookie and configuration come on standard input; "
    "end\n"
    "                      with it\n"
    "  --check-config      check the configuration and exit\n"
    "  --print-config      print the effective configuration and exit\n"
    "  --migrate           make what the queue's database lacks and exit\n"
    "  --version           print the version and exit\n"
    "  --help              print this and exit\n"
    "\n"
    "llm_router status prints the figures of a running router, llm_router top "
    "shows\n"
    "them again and again until q is pressed. Both take the options of names, "
    "cookie\n"
    "and TLS above, and\n"
    "\n"
    "  --node NODE         which router, NAME or NAME@HOST (default "
    "llm_router)\n"
    "  --json              status: print JSON\n"
    "  --interval SECONDS  top: ask every so many seconds (default 2)\n"
    "\n"
    "status exits with 0 when the router takes calls, 4 when it does not "
    "(drains,\n"
    "starts), 3 when it cannot be asked.\n"
    "\n"
    "Providers switch on by their own variables: OPENAI_API_KEY (or\n"
    "OPENAI_API_KEY_FILE), OPENAI_BASE_URL, ANTHROPIC_API_KEY, "
    "GEMINI_API_KEY,\n"
    "OLLAMA_HOST, ... See docs/configuration.md.\n"
    "\n"
    "Exit codes: 0 clean stop, 1 configuration, 2 usage, 3 cannot start.\n";

enum { NODE_NAME_MAX = 255, INTERVAL_S = 2, INTERVAL_MAX_S = 3600 };

struct names {
    const char *otherwise; /* without the host; if neither is given */
    const char *short_name;
    const char *long_name;
};

static bool is_name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

/* NAME or NAME@HOST, as erl takes it. */
static bool check_node_name(const char *option, const char *name,
                            struct error *err)
{
    const char *at = strchr(name, '@');
    size_t alive = at ? (size_t)(at - name) : strlen(name);

    if (alive == 0 || strlen(name) > NODE_NAME_MAX || (at && at[1] == '\0'))
        return error_at(err, ERR_INVALID_REQUEST, option,
                        "\"%s\" is not a node name", name);
    for (const char *c = name; *c; c++)
        if (c != at && !is_name_character(*c) && *c != ':')
            return error_at(err, ERR_INVALID_REQUEST, option,
                            "bad character in node name \"%s\"", name);
    return true;
}

static bool complete_name(struct config *config, const struct names *names,
                          struct error *err)
{
    const char *option = names->long_name ? "--name" : "--sname";
    const char *name = names->long_name    ? names->long_name
                       : names->short_name ? names->short_name
                                           : names->otherwise;
    char host[256] = "";
    const char *given = strchr(name, '@');

    if (given)
        snprintf(host, sizeof(host), "%s", given + 1);
    else if (gethostname(host, sizeof(host) - 1) != 0)
        return error_at(err, ERR_INVALID_REQUEST, option,
                        "this host has no name");
    if (!names->long_name && given && strchr(host, '.'))
        return error_at(err, ERR_INVALID_REQUEST, option,
                        "a short name cannot have the host \"%s\"", host);
    if (!names->long_name)
        host[strcspn(host, ".")] = '\0';
    if (names->long_name && !strpbrk(host, ".:"))
        return error_at(err, ERR_INVALID_REQUEST, option,
                        "\"%s\" is not a full host name: give NAME@HOST.DOMAIN",
                        host);
    config->node_name =
        arena_printf(&config->arena, "%.*s@%s",
                     (int)(given ? given - name : (ptrdiff_t)strlen(name)),
                     name, host)
            .data;
    return true;
}

/* `status` and `top`, the consoles: a first word, and options of their own. */

enum { OF_ROUTER = 1, OF_STATUS = 2, OF_TOP = 4, OF_ALL = 7 };

/* What is not here is of the router. */
static const struct {
    const char *option;
    unsigned of;
} shared_options[] = {
    {"--node", OF_STATUS | OF_TOP},
    {"--json", OF_STATUS},
    {"--interval", OF_TOP},
    {"--sname", OF_ALL},
    {"--name", OF_ALL},
    {"--cookie-file", OF_ALL},
    {"--tls-dist", OF_ALL},
    {"--tls-cert", OF_ALL},
    {"--tls-key", OF_ALL},
    {"--tls-ca", OF_ALL},
    {"--version", OF_ALL},
    {"--help", OF_ALL},
    {"-h", OF_ALL},
};

static bool is_of(const char *option, unsigned whose)
{
    for (size_t i = 0; i < sizeof(shared_options) / sizeof(shared_options[0]);
         i++)
        if (!strcmp(option, shared_options[i].option))
            return (shared_options[i].of & whose) != 0;
    return whose == OF_ROUTER;
}

static unsigned parse_word(int argc, const char *const *argv,
                           enum command *command)
{
    *command = COMMAND_RUN;
    if (argc > 1 && !strcmp(argv[1], "status"))
        *command = COMMAND_STATUS;
    if (argc > 1 && !strcmp(argv[1], "top"))
        *command = COMMAND_TOP;
    return *command == COMMAND_STATUS ? OF_STATUS
           : *command == COMMAND_TOP  ? OF_TOP
                                      : OF_ROUTER;
}

static bool parse_interval(struct config *config, const char *value,
                           struct error *err)
{
    int64_t seconds;

    if (!slice_to_int64(slice_of(value), &seconds) || seconds < 1 ||
        seconds > INTERVAL_MAX_S)
        return error_at(err, ERR_INVALID_REQUEST, "--interval",
                        "must be 1 to %d seconds", INTERVAL_MAX_S);
    config->interval_ms = seconds * 1000;
    return true;
}

/* A full name for a console that asks the node `target`, whose domain it takes
 * where this host has none. Nobody looks that host up. */
static const char *console_long_name(struct config *config, const char *target)
{
    const char *domain = strchr(strchr(target, '@'), '.');
    char host[256] = "";

    gethostname(host, sizeof(host) - 1);
    if (strchr(host, '.'))
        domain = "";
    return arena_printf(&config->arena, "llm_router_console_%d@%s%s",
                        (int)getpid(), host, domain ? domain : ".invalid")
        .data;
}

/* The names of both: its own, and of whom it asks. */
static bool complete_console(struct config *config, struct names *names,
                             struct error *err)
{
    const char *target = config->target ? config->target : "llm_router";
    const char *at = strchr(target, '@');

    names->otherwise =
        arena_printf(&config->arena, "llm_router_console_%d", (int)getpid())
            .data;
    if (at && strpbrk(at, ".:") && !names->short_name && !names->long_name)
        names->long_name = console_long_name(config, target);
    if (!complete_name(config, names, err))
        return false;
    if (!at)
        target = arena_printf(&config->arena, "%s%s", target,
                              strchr(config->node_name, '@'))
                     .data;
    config->target = target;
    return true;
}

static bool add_peer(struct config *config, const char *peer, struct error *err)
{
    if (!strchr(peer, '@'))
        return error_at(err, ERR_INVALID_REQUEST, "--connect",
                        "\"%s\" is not NAME@HOST", peer);
    if (!check_node_name("--connect", peer, err))
        return false;
    if (config->peer_count == CONFIG_PEERS_MAX)
        return error_at(err, ERR_INVALID_REQUEST, "--connect",
                        "more than %d nodes", CONFIG_PEERS_MAX);
    config->peers[config->peer_count++] = peer;
    return true;
}

/* Options whose value is a file's name. */
static const struct file_option {
    const char *option;
    size_t offset;
    bool of_tls; /* wanted with --tls-dist, and only then */
} file_options[] = {
    {"--config", offsetof(struct config, file), false},
    {"--cookie-file", offsetof(struct config, cookie_file), false},
    {"--tls-cert", offsetof(struct config, tls_cert), true},
    {"--tls-key", offsetof(struct config, tls_key), true},
    {"--tls-ca", offsetof(struct config, tls_ca), true},
};

enum { FILE_OPTION_COUNT = sizeof(file_options) / sizeof(file_options[0]) };

static const char **file_of(struct config *config,
                            const struct file_option *option)
{
    return (const char **)((char *)config + option->offset);
}

static const struct file_option *find_file_option(const char *option)
{
    for (size_t i = 0; i < FILE_OPTION_COUNT; i++)
        if (!strcmp(option, file_options[i].option))
            return &file_options[i];
    return NULL;
}

static bool check_tls(struct config *config, struct error *err)
{
    for (size_t i = 0; i < FILE_OPTION_COUNT; i++) {
        const struct file_option *option = &file_options[i];
        bool given = *file_of(config, option) != NULL;

        if (option->of_tls && given != config->tls_dist)
            return error_at(err, ERR_INVALID_REQUEST, option->option,
                            given ? "is of no use without --tls-dist"
                                  : "is missing: --tls-dist needs it");
    }
    return true;
}

static const struct {
    const char *option;
    enum command command;
} commands[] = {
    {"--check-config", COMMAND_CHECK}, {"--migrate", COMMAND_MIGRATE},
    {"--print-config", COMMAND_PRINT}, {"--version", COMMAND_VERSION},
    {"--help", COMMAND_HELP},          {"-h", COMMAND_HELP},
};

static bool parse_command(const char *option, enum command *command)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (!strcmp(option, commands[i].option)) {
            *command = commands[i].command;
            return true;
        }
    }
    return false;
}

static bool parse_switch(struct config *config, const char *option)
{
    if (!strcmp(option, "--tls-dist"))
        config->tls_dist = true;
    else if (!strcmp(option, "--supervised"))
        config->supervised = true;
    else if (!strcmp(option, "--json"))
        config->as_json = true;
    else
        return false;
    return true;
}

static bool set_http(struct config *config, const char *value,
                     struct error *err)
{
    struct listen_address address;
    const char *fault = listen_parse(slice_of(value), &address);

    config->http_option = value;
    return !fault || error_at(err, ERR_INVALID_REQUEST, "--http", "\"%s\" %s",
                              value, fault);
}

static bool parse_value(struct config *config, struct names *names,
                        const char *option, const char *value,
                        struct error *err)
{
    const struct file_option *file = find_file_option(option);

    if (file) {
        *file_of(config, file) = value;
        return true;
    }
    if (!strcmp(option, "--connect"))
        return add_peer(config, value, err);
    if (!strcmp(option, "--http"))
        return set_http(config, value, err);
    if (!strcmp(option, "--interval"))
        return parse_interval(config, value, err);
    if (!strcmp(option, "--node")) {
        config->target = value;
        return check_node_name(option, value, err);
    }
    if (!strcmp(option, "--sname"))
        names->short_name = value;
    else
        names->long_name = value;
    if (names->short_name && names->long_name)
        return error_at(err, ERR_INVALID_REQUEST, option,
                        "--name and --sname exclude each other");
    return check_node_name(option, value, err);
}

static bool takes_value(const char *option)
{
    static const char *const options[] = {"--connect", "--http", "--sname",
                                          "--name",    "--node", "--interval"};

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (!strcmp(option, options[i]))
            return true;
    return find_file_option(option) != NULL;
}

bool config_parse_arguments(struct config *config, int argc,
                            const char *const *argv, enum command *command,
                            struct error *err)
{
    struct names names = {.otherwise = "llm_router"};
    unsigned whose = parse_word(argc, argv, command);

    config->interval_ms = INTERVAL_S * 1000;
    for (int i = whose == OF_ROUTER ? 1 : 2; i < argc; i++) {
        if (!is_of(argv[i], whose))
            return error_at(err, ERR_INVALID_REQUEST, argv[i],
                            "is no option of llm_router%s%s",
                            whose == OF_ROUTER ? "" : " ",
                            whose == OF_ROUTER ? "" : argv[1]);
        if (parse_command(argv[i], command))
            continue;
        if (parse_switch(config, argv[i]))
            continue;
        if (!takes_value(argv[i]))
            return error_at(err, ERR_INVALID_REQUEST, argv[i],
                            "there is no such option");
        if (i + 1 == argc)
            return error_at(err, ERR_INVALID_REQUEST, argv[i], "needs a value");
        if (!parse_value(config, &names, argv[i], argv[i + 1], err))
            return false;
        i++;
    }
    config->no_providers = *command == COMMAND_MIGRATE;
    return check_tls(config, err) &&
           (whose == OF_ROUTER ? complete_name(config, &names, err)
                               : complete_console(config, &names, err));
}
