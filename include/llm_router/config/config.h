/* The configuration: command line, environment, file, defaults, in this order
 * of precedence. Immutable once it is loaded; a reload makes another one.
 *
 * The table in config.c holds every scalar key with its kind, range and
 * default: `timeouts.idle_ms` of the file is also the environment variable
 * LLM_ROUTER_TIMEOUTS_IDLE_MS. Tables in providers.c and routes.c hold what may
 * stand in a provider, one of its keys, and a route. Providers switch on by the
 * variables that their own tools use. Secrets come from the environment, from
 * the file that NAME_FILE names, or from $CREDENTIALS_DIRECTORY/NAME (or
 * llm_router_NAME there), never from the configuration file; a base URL with
 * http:// is leave to use plain http to that host. */
#ifndef LLM_ROUTER_CONFIG_CONFIG_H
#define LLM_ROUTER_CONFIG_CONFIG_H

#include "llm_router/base/arena.h"
#include "llm_router/base/error.h"
#include "llm_router/config/handover.h"
#include "llm_router/core/router.h"

enum {
    CONFIG_PROVIDERS_MAX = 32,
    CONFIG_KEYS_MAX = 32, /* of one provider */
    CONFIG_ROUTES_MAX = 64,
    CONFIG_CANDIDATES_MAX = 32, /* of one route */
    CONFIG_SECRETS_MAX = 256,
    CONFIG_LIST_MAX = 64,
    CONFIG_PEERS_MAX = 64,
    CONFIG_SCRIPT_FOLDERS_MAX = 16,
};

struct config_list {
    struct slice items[CONFIG_LIST_MAX];
    size_t count;
};

struct config_key {
    struct slice name;      /* for logs and stats: "default" unless named */
    struct slice secret;    /* empty: none is sent */
    struct slice env, file; /* where it comes from; empty: not from there */
    struct key_limits limits;
};

/* A variable that holds a secret, as it was before it was hidden. */
struct config_secret {
    const char *name;
    struct slice value;
};

struct config_provider {
    struct slice name;
    struct slice dialect;
    struct slice base_url;         /* no trailing slash */
    const struct config_key *keys; /* at least one */
    size_t key_count;
    struct slice organization;
    struct slice project;
    struct slice api_version;
    int64_t in_flight; /* 0: no limit of its own */
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
    bool supervised;         /* --supervised */
    struct handover handed;  /* what came then: cookie and configuration */
    bool no_providers;       /* there need be none: --migrate */
    bool tls_dist;           /* --tls-dist: then all three files are given */
    const char *tls_cert, *tls_key, *tls_ca;
    const char *target;   /* --node: the router that `status` and `top` ask */
    bool as_json;         /* --json */
    int64_t interval_ms;  /* --interval */
    const char *priv_dir; /* prompts, schemas, models.json */

    struct config_provider providers[CONFIG_PROVIDERS_MAX];
    size_t provider_count;
    struct route routes[CONFIG_ROUTES_MAX];
    size_t route_count;
    struct route *embed_route; /* NULL: none */
    const struct provider_alias *aliases;
    size_t alias_count;
    struct config_list may_call, may_admin; /* patterns of core/allow.h */

    int64_t connect_timeout_ms;
    int64_t headers_timeout_ms;
    int64_t first_token_timeout_ms;
    int64_t idle_timeout_ms;
    int64_t request_timeout_ms; /* when a request names none */
    int64_t drain_timeout_ms;
    int64_t startup_timeout_ms; /* how long epmd may be missing at start */
    int64_t tick_time_ms;
    int64_t port; /* of the distribution; 0: the system chooses */

    int64_t max_in_flight;          /* calls that are being made */
    int64_t max_in_flight_per_node; /* of one caller node; 0: no limit */
    int64_t max_queued;             /* calls that wait for a slot */
    int64_t max_watchers;           /* a process for each thing it watches */
    int64_t max_stream_bytes;       /* waiting for a slow receiver's node */
    struct budget_limits budget;    /* of all keys together */
    /* What is spent outlives the program here; its folder may be missing.
     * Empty: it is not kept. NUL-terminated, as the next two. */
    struct slice state_file;
    struct slice catalogue_file; /* the user's models; empty: none */
    struct slice prompts_dir;    /* the user's prompts; empty: none */
    /* Folders of scripts with ':' between them; empty: PRIV/scripts. */
    struct slice script_path;
    int64_t script_time_ms, script_memory_bytes, script_instructions;
    int64_t max_cache_bytes; /* 0: no cache */
    int64_t cache_age_ms;
    bool cache_by_default; /* for calls without the option `cache` */
    int64_t max_frame_bytes;
    int64_t max_send_queue_bytes;
    int64_t max_handshakes;
    int64_t max_retries;
    int64_t max_retry_after_ms;
    int64_t max_connections_per_host; /* 0: no limit */

    /* The PostgreSQL queue. NUL-terminated, as the names below. */
    struct slice database;     /* how to connect; empty: no queue */
    struct slice database_key; /* the same from the file, without a secret */
    struct slice requests_queue, results_queue;
    struct slice dead_letter_queue; /* empty in the file: REQUESTS_dlq */
    struct slice notify_channel;    /* empty: nobody is notified */
    int64_t queue_in_flight;        /* messages at once; 0: none are taken */
    int64_t queue_batch;            /* messages of one read */
    int64_t max_message_bytes;
    int64_t visibility_timeout_s;
    int64_t max_reads;
    int64_t backoff_s, max_backoff_s; /* after a failure that may pass */
    int64_t poll_ms, max_poll_ms;
    int64_t query_timeout_ms;
    bool store_answers, store_jobs, store_metrics;

    struct slice ca_file;   /* NUL-terminated; empty: the system's */
    struct slice log_level; /* base/log.h's levels */
    struct slice log_format;
    const char *http_option;  /* --http, or NULL; stands for the next */
    struct slice http_listen; /* of config/listen.h; empty: no HTTP */
    bool core_dump;           /* may the system write one? */

    struct config_secret secrets[CONFIG_SECRETS_MAX];
    size_t secret_count;
};

/* What the command line asks for. */
enum command {
    COMMAND_RUN,
    COMMAND_CHECK,
    COMMAND_PRINT,
    COMMAND_MIGRATE,
    COMMAND_STATUS,
    COMMAND_TOP,
    COMMAND_VERSION,
    COMMAND_HELP
};

/* Command line -> config (names, peers, files); ERR_INVALID_REQUEST with the
 * option as path: exit code 2. */
bool config_parse_arguments(struct config *config, int argc,
                            const char *const *argv, enum command *command,
                            struct error *err);

/* Of what a supervisor handed over, cookie and configuration; before
 * config_load, in which the latter stands for the file. Copies. */
void config_hand_over(struct config *config, const struct handover *handed);

/* File, environment and defaults. `previous` is the configuration that a reload
 * replaces, which knows the secrets whose variables are hidden; NULL at start.
 * ERR_INVALID_REQUEST, exit code 1: the path is the key in the file, and the
 * message says all ("FILE: line 4, column 7: limits.in_flight: ...", or
 * "config: limits.in_flight: ..." of what was handed over); or the path is the
 * variable, or the file. */
bool config_load(struct config *config, const struct config *previous,
                 struct error *err);

/* To be called when all is loaded, the cookie too, and after a reload: wipes
 * the secrets' variables where the system shows them (/proc/PID/environ), and
 * unless `core.dump` says otherwise keeps the memory out of core files and from
 * other processes of the same user. */
void config_hide_secrets(const struct config *config);

/* The cookie: handed over, --cookie-file, RELEASE_COOKIE, the credential of
 * that name, ~/.erlang.cookie; empty: there is none. A file that others can
 * read is refused, as erl does. */
bool config_find_cookie(struct config *config, struct error *err);
/* The same; where there is none ~/.erlang.cookie is made, as erl does. */
bool config_load_cookie(struct config *config, struct error *err);

/* The first key whose value differs and that is read at start only (node name,
 * ports, TLS between nodes, ...); NULL: a reload can take over all. */
const char *config_needs_restart(const struct config *old,
                                 const struct config *new);

/* The effective configuration as JSON, secrets as "***". It is a configuration
 * file that says the same, as long as the secrets are where they were. */
void config_put(const struct config *config, struct buf *out);
void config_print(const struct config *config); /* on stdout */

/* What the documentation must name: the index-th key of all tables, false
 * behind the last. `value` is the default as the environment would give it, or
 * NULL in the sections "providers.NAME", "providers.NAME.keys", "routes" and
 * "models" (of the catalogue). */
struct config_key_view {
    const char *section, *name, *value;
};
bool config_key(size_t index, struct config_key_view *view);

/* The index-th variable that switches a provider on, or says more of it. */
bool config_provider_variable(size_t index, const char **provider,
                              const char **variable);

void config_init(struct config *config);
void config_release(struct config *config);

extern const char CONFIG_USAGE[];

#endif
