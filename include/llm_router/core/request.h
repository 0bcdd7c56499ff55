/* What a caller asks, after the call shapes are gone: plain values.
 *
 * A request and all its text live in the job's arena. */
#ifndef LLM_ROUTER_CORE_REQUEST_H
#define LLM_ROUTER_CORE_REQUEST_H

#include "llm_router/base/slice.h"
#include "llm_router/json/value.h"

/* Who may call an operation is configured by its class. */
enum operation_class {
    CLASS_OPEN, /* everybody: monitoring always works */
    CLASS_CALL,
    CLASS_ADMIN,
    CLASS_COUNT
};

/*    enum                 atom          class      calls a provider */
#define OPERATIONS(X)                                            \
    X(OP_GENERATE_TASK, "generate_task", CLASS_CALL, true)       \
    X(OP_PARSE_PRD, "parse_prd", CLASS_CALL, true)               \
    X(OP_EXPAND_TASK, "expand_task", CLASS_CALL, true)           \
    X(OP_CALL, "call", CLASS_CALL, true)                         \
    X(OP_CALL_WITH_PROMPT, "call_with_prompt", CLASS_CALL, true) \
    X(OP_CALL_WITH_SYSTEM, "call_with_system", CLASS_CALL, true) \
    X(OP_SELECT_MODEL, "select_model", CLASS_CALL, false)        \
    X(OP_PING, "ping", CLASS_OPEN, false)                        \
    X(OP_VERSION, "version", CLASS_OPEN, false)                  \
    X(OP_HEALTH, "health", CLASS_OPEN, false)                    \
    X(OP_STATS, "stats", CLASS_ADMIN, false)                     \
    X(OP_MODELS, "models", CLASS_CALL, false)                    \
    X(OP_DRAIN, "drain", CLASS_ADMIN, false)

enum operation {
#define X(op, atom, class, provider) op,
    OPERATIONS(X)
#undef X
        OPERATION_COUNT
};

const char *operation_atom(enum operation operation);
enum operation_class operation_class(enum operation operation);
bool operation_calls_provider(enum operation operation);

enum complexity {
    COMPLEXITY_UNSET,
    COMPLEXITY_SIMPLE,
    COMPLEXITY_MEDIUM,
    COMPLEXITY_COMPLEX,
};
const char *complexity_atom(enum complexity complexity); /* "simple", ... */
bool complexity_parse(struct slice text, enum complexity *complexity);

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT };
const char *role_name(enum role role); /* "system", "user", "assistant" */

struct message {
    enum role role;
    struct slice content; /* UTF-8 */
};

enum key_style { KEYS_DEFAULT, KEYS_ATOMS, KEYS_STRINGS };

enum {
    REQUEST_TASKS_MAX = 100,
    REQUEST_TIMEOUT_MAX_MS = 3600000,
    REQUEST_ID_MAX = 128, /* bytes, printable ASCII */
};

struct options {
    struct slice model;    /* empty: the router chooses */
    struct slice provider; /* empty: any */
    struct slice task_type;
    struct slice request_id;
    enum complexity complexity;
    int64_t timeout_ms;      /* 0: the configured default */
    int64_t max_tokens;      /* 0: the model's own */
    double temperature;      /* NAN: the model's own */
    const struct jv *schema; /* NULL: free text */
    enum key_style keys;
    bool full;       /* return => full */
    bool about;      /* count => about */
    int64_t next_id; /* id of the first task; 0 or 1: 1, or behind the last of
                        `existing` */
    const int64_t *existing; /* ids that dependencies may name */
    size_t existing_count;
};

struct request {
    enum operation operation;
    struct options options;
    struct slice text;    /* generate_task: prompt; parse_prd: content;
                             expand_task: the task as JSON, or its title */
    struct slice context; /* expand_task: opts context */
    int64_t count;        /* tasks or subtasks wanted; 0: the model decides */
    struct message *messages; /* the call operations */
    size_t message_count;
    struct slice caller_task; /* expand_task: the caller's own map as raw term
                                 bytes; empty when a title was given */
    bool caller_task_strings; /* its keys are binaries */
};

#endif
