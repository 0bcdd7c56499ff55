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
#define OPERATIONS(X)                                                      \
    X(OP_GENERATE_TASK, "generate_task", CLASS_CALL, true)                 \
    X(OP_PARSE_PRD, "parse_prd", CLASS_CALL, true)                         \
    X(OP_EXPAND_TASK, "expand_task", CLASS_CALL, true)                     \
    X(OP_ANALYZE_COMPLEXITY, "analyze_complexity", CLASS_CALL, true)       \
    X(OP_RESEARCH, "research", CLASS_CALL, true)                           \
    X(OP_CALL, "call", CLASS_CALL, true)                                   \
    X(OP_CALL_WITH_PROMPT, "call_with_prompt", CLASS_CALL, true)           \
    X(OP_CALL_WITH_SYSTEM, "call_with_system", CLASS_CALL, true)           \
    X(OP_CALL_WITH_SCRIPT, "call_with_script", CLASS_CALL, true)           \
    X(OP_ROUTE, "route", CLASS_CALL, true)                                 \
    X(OP_ROUTE_COMPLETION, "route_completion", CLASS_CALL, true)           \
    X(OP_STREAM, "stream", CLASS_CALL, true)                               \
    X(OP_EMBED, "embed", CLASS_CALL, true)                                 \
    X(OP_CANCEL, "cancel", CLASS_CALL, false)                              \
    X(OP_WATCH_TASK, "watch_task", CLASS_CALL, false)                      \
    X(OP_UNWATCH_TASK, "unwatch_task", CLASS_CALL, false)                  \
    X(OP_SUBSCRIBE, "subscribe", CLASS_CALL, false)                        \
    X(OP_UNSUBSCRIBE, "unsubscribe", CLASS_CALL, false)                    \
    X(OP_ENQUEUE, "enqueue", CLASS_CALL, false)                            \
    X(OP_AWAIT, "await", CLASS_CALL, false)                                \
    X(OP_RESULT, "result", CLASS_CALL, false)                              \
    X(OP_SELECT_MODEL, "select_model", CLASS_CALL, false)                  \
    X(OP_AVAILABLE_MODELS, "get_available_models", CLASS_CALL, false)      \
    X(OP_COMPLEXITY_FOR_TASK, "determine_complexity_for_task", CLASS_CALL, \
      false)                                                               \
    X(OP_PING, "ping", CLASS_OPEN, false)                                  \
    X(OP_VERSION, "version", CLASS_OPEN, false)                            \
    X(OP_HEALTH, "health", CLASS_OPEN, false)                              \
    X(OP_STATS, "stats", CLASS_ADMIN, false)                               \
    X(OP_STATUS, "status", CLASS_ADMIN, false)                             \
    X(OP_MODELS, "models", CLASS_CALL, false)                              \
    X(OP_RELOAD, "reload", CLASS_ADMIN, false)                             \
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

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL };
const char *role_name(enum role role); /* "system", "user", ..., "tool" */

/* A call of a caller's function that a model asks for. */
struct tool_call {
    struct slice id;        /* the provider's, or one made up; never empty */
    struct slice name;      /* ^[A-Za-z0-9_-]{1,64}$ */
    struct slice arguments; /* a JSON object as text */
};

struct message {
    enum role role;
    struct slice content;               /* UTF-8 */
    const struct tool_call *tool_calls; /* of an assistant's message */
    size_t tool_call_count;
    struct slice tool_call_id; /* ROLE_TOOL: the call that content answers */
};

/* A function that the caller offers to the model. */
struct tool {
    struct slice name; /* ^[A-Za-z0-9_-]{1,64}$ */
    struct slice description;
    struct slice parameters; /* a JSON Schema as JSON text; empty: none */
    bool strict;             /* the parameters are in the strict subset */
};

enum tool_choice {
    TOOL_CHOICE_UNSET,
    TOOL_CHOICE_AUTO,
    TOOL_CHOICE_NONE,
    TOOL_CHOICE_REQUIRED, /* some tool */
    TOOL_CHOICE_NAMED,    /* the tool of that name */
};

/* How hard a model should think. Which ones it takes is the catalogue's. */
enum effort {
    EFFORT_UNSET,
    EFFORT_NONE,
    EFFORT_MINIMAL,
    EFFORT_LOW,
    EFFORT_MEDIUM,
    EFFORT_HIGH,
    EFFORT_XHIGH,
    EFFORT_MAX,
};
const char *effort_name(enum effort effort); /* "none", ... "max" */
bool effort_parse(struct slice text, enum effort *effort);

/* OpenAI has two APIs; what only one of them has is asked for by name. */
enum api_version {
    API_VERSION_ANY,
    API_VERSION_CHAT,      /* "chat_completions" */
    API_VERSION_RESPONSES, /* "responses" */
};
const char *api_version_name(enum api_version version);
bool api_version_parse(struct slice text, enum api_version *version);

/* Whether the provider shall keep the answer for later. */
enum store { STORE_DEFAULT, STORE_NO, STORE_YES };

/* What a model must be able to do: bits of options.capabilities and of the
 * catalogue's rows. */
#define CAPABILITIES(X)                     \
    X(CAPABILITY_TOOLS, 1, "tools")         \
    X(CAPABILITY_SCHEMA, 2, "schema")       \
    X(CAPABILITY_VISION, 4, "vision")       \
    X(CAPABILITY_REASONING, 8, "reasoning") \
    X(CAPABILITY_EMBEDDING, 16, "embedding")
enum capability {
#define X(capability, bit, name) capability = bit,
    CAPABILITIES(X)
#undef X
};
bool capability_parse(struct slice text, unsigned *bit);

enum key_style { KEYS_DEFAULT, KEYS_ATOMS, KEYS_STRINGS };

enum {
    REQUEST_TASKS_MAX = 100,
    REQUEST_TIMEOUT_MAX_MS = 3600000,
    REQUEST_ID_MAX = 128, /* bytes, printable ASCII */
    REQUEST_STOPS_MAX = 4,
    REQUEST_TOOLS_MAX = 128,
    REQUEST_TEXTS_MAX = 2048, /* of one embed */
    REQUEST_MCP_SERVERS_MAX = 16,
    REQUEST_RESPONSE_ID_MAX = 256, /* bytes, printable ASCII */
    REQUEST_TASK_ID_MAX = 256,     /* bytes of text */
};

struct options {
    struct slice model;    /* empty: the router chooses */
    struct slice provider; /* empty: any */
    struct slice task_type;
    struct slice request_id;
    enum complexity complexity;
    int64_t timeout_ms; /* 0: the configured default */
    int64_t max_tokens; /* 0: the model's own */
    double temperature; /* NAN: the model's own */
    double top_p;       /* NAN: the model's own */
    const struct slice *stops;
    size_t stop_count;
    bool has_seed;
    int64_t seed;
    enum effort effort;
    enum store store;
    enum api_version api_version;      /* RESPONSES with either of the next */
    struct slice previous_response_id; /* empty: none */
    /* A list of objects, each a tool of the type mcp as the responses API has
     * it; NULL: none. They hold secrets of the caller, of which nothing may get
     * into a log, an error or a result. */
    const struct jv *mcp_servers;
    const struct tool *tools;
    size_t tool_count;
    enum tool_choice tool_choice;
    struct slice tool_name; /* of TOOL_CHOICE_NAMED */
    unsigned capabilities;  /* that the model must have */
    struct slice language;  /* "de", "Deutsch"; empty: the text's own */
    struct slice metadata;  /* raw term, echoed; empty: none */
    struct slice task_id;   /* raw term: whose watchers are told; or empty */
    struct slice to;        /* raw pid: who gets the stream, or the messages of
                               what is watched; empty: caller */
    bool own_node_only;     /* scope => node, of subscribe */
    enum { CACHE_DEFAULT, CACHE_YES, CACHE_NO } cache;
    const struct jv *schema; /* NULL: free text */
    enum key_style keys;
    bool full;       /* return => full */
    bool about;      /* count => about */
    int64_t next_id; /* id of the first task; 0 or 1: 1, or behind the last of
                        `existing` */
    const int64_t *existing; /* ids that dependencies may name */
    size_t existing_count;
};

/* A task of the caller, for analyze_complexity. */
struct given_task {
    struct slice id;    /* raw term, given back as it came; empty: none */
    struct slice title; /* one line */
    struct slice json;  /* all of it, for the prompt */
};

/* What {subscribe, Topic} is about. */
enum notice_topic {
    TOPIC_TELEMETRY, /* beginning and end of every request */
    TOPIC_TASKS,     /* what the watchers of all tasks are told */
};

/* What {enqueue, Op, Opts} puts on the queue. */
struct enqueued {
    struct slice members;    /* JSON text of Op: "operation":"call","messages":
                                [...] without the braces around it */
    struct slice request_id; /* a UUID; empty: one is made */
    struct slice agent_id;   /* empty: none */
    struct slice notify_name, notify_node; /* empty: nobody */
    int64_t delay_s;
};

struct request {
    enum operation operation;
    struct options options;
    uint64_t
        given_options; /* which of them: bits of the table in api/options.c */
    struct slice text; /* generate_task: prompt; parse_prd: content;
                          expand_task: the task as JSON, or its title;
                          research: topic; cancel, await, result: the
                          request id; call_with_script: its path */
    struct slice context;      /* expand_task: opts context; research;
                                  call_with_script: the context as JSON */
    enum notice_topic topic;   /* subscribe, unsubscribe */
    const struct slice *texts; /* embed */
    size_t text_count;
    const struct given_task *given; /* analyze_complexity */
    size_t given_count;
    struct slice reference;          /* cancel: raw, of a stream; else empty */
    const struct enqueued *enqueued; /* enqueue; else NULL */
    int64_t wait_ms;                 /* await */
    int64_t count; /* tasks or subtasks wanted; 0: the model decides */
    struct message *messages; /* the call operations */
    size_t message_count;
    struct slice caller_task; /* expand_task: the caller's own map as raw term
                                 bytes; empty when a title was given */
    bool caller_task_strings; /* its keys are binaries */
};

#endif
