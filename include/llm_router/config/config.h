/* The configuration: command line, environment, file, defaults, in this order
 * of precedence. Read once at start; immutable afterwards.
 *
 * One table in config.c holds every key with its kind, range, default and
 * meaning. The key `timeouts.idle_ms` of the file is also the environment
 * variable LLM_ROUTER_TIMEOUTS_IDLE_MS. Providers switch on by the variables
 * that their own tools use. Secrets come from the environment, from the file
 * that NAME_FILE names, or from $CREDENTIALS_DIRECTORY/NAME; a base URL with
 * http:// is leave to use plain http to that host. */
#ifndef LLM_ROUTER_CONFIG_CONFIG_H
#define LLM_ROUTER_CONFIG_CONFIG_H

#include "llm_router/base/arena.h"
#include "llm_router/base/error.h"

enum { CONFIG_PROVIDERS_MAX = 16, CONFIG_LIST_MAX = 64, CONFIG_PEERS_MAX = 64 };

struct config_list {
    struct slice items[CONFIG_LIST_MAX];
    size_t count;
};

struct config_provider {
    struct slice name;
    struct slice dialect;
    struct slice base_url; /* no trailing slash */
    struct slice api_key;  /* empty: none is sent */
    struct slice organization;
    struct slice project;
    bool plain_http;
};

struct config {
    struct arena arena;

    const char *node_name; /* "llm_router@host" */
    struct slice cookie;
    const char *peers[CONFIG_PEERS_MAX];
    size_t peer_count;
    const char *file;        /* --config, or NULL */
    const char *cookie_file; /* --cookie-file, or NULL */
    bool tls_dist;           /* --tls-dist: then all three files are given */
    const char *tls_cert, *tls_key, *tls_ca;
    const char *priv_dir; /* prompts, schemas, models.json */

    struct config_provider providers[CONFIG_PROVIDERS_MAX];
    size_t provider_count;
    struct config_list simple, medium, complex; /* routes */
    struct config_list may_call, may_admin;     /* patterns of core/allow.h */

    int64_t connect_timeout_ms;
    int64_t headers_timeout_ms;
    int64_t first_token_timeout_ms;
    int64_t idle_timeout_ms;
    int64_t request_timeout_ms; /* when a request names none */
    int64_t drain_timeout_ms;
    int64_t startup_timeout_ms; /* how long epmd may be missing at start */
    int64_t tick_time_ms;
    int64_t port; /* of the distribution; 0: the system chooses */

    int64_t max_in_flight;
    int64_t max_frame_bytes;
    int64_t max_send_queue_bytes;
    int64_t max_handshakes;
    int64_t max_retries;
    int64_t max_retry_after_ms;
    int64_t max_connections_per_host; /* 0: no limit */

    struct slice ca_file; /* NUL-terminated; empty: the system's */
    struct slice log_level;
};

/* What the command line asks for. */
enum command {
    COMMAND_RUN,
    COMMAND_CHECK,
    COMMAND_PRINT,
    COMMAND_VERSION,
    COMMAND_HELP
};

/* Command line -> config (names, peers, files); ERR_INVALID_REQUEST with the
 * option as path: exit code 2. */
bool config_parse_arguments(struct config *config, int argc,
                            const char *const *argv, enum command *command,
                            struct error *err);

/* File, environment and defaults. ERR_INVALID_REQUEST: path is the file and
 * key, or the variable; exit code 1. */
bool config_load(struct config *config, struct error *err);

/* The cookie: --cookie-file, RELEASE_COOKIE, ~/.erlang.cookie (made when there
 * is none, as erl does). A file that others can read is refused, as erl does.
 */
bool config_load_cookie(struct config *config, struct error *err);

/* The effective configuration as JSON on stdout, secrets as "***". */
void config_print(const struct config *config);

/* The index-th key of the table with its default, as documentation writes
 * them; false behind the last. */
bool config_key(size_t index, const char **section, const char **name,
                const char **value);

void config_init(struct config *config);
void config_release(struct config *config);

extern const char CONFIG_USAGE[];

#endif
