/* From terms to a request: what the files of this layer share.
 *
 * Every decode function takes the path of its value, fails by value with the
 * fault at or below that path, and keeps nothing but copies in the arena. */
#ifndef LLM_ROUTER_API_DECODE_INTERNAL_H
#define LLM_ROUTER_API_DECODE_INTERNAL_H

#include "llm_router/api/call.h"

struct decoder {
    struct arena *arena;
    struct request *request; /* what is being filled */
    struct error *err;
};

typedef bool decode_function(struct decoder *decoder, const char *path,
                             struct term value);

/* --- arguments.c: the kinds of values --- */

/* "must be WANTED, got KIND". Always false. */
bool refuse_kind(struct decoder *decoder, const char *path, const char *wanted,
                 struct term value);

/* Any text of at most CALL_TEXT_MAX bytes. */
bool decode_text(struct decoder *decoder, const char *path, struct term value,
                 struct slice *text);

/* The same with something in it besides white space. */
bool decode_full_text(struct decoder *decoder, const char *path,
                      struct term value, struct slice *text);

/* An atom or text of 1..128 printable ASCII characters. */
bool decode_name(struct decoder *decoder, const char *path, struct term value,
                 struct slice *name);

struct range {
    int64_t least, most;
};
bool decode_integer(struct decoder *decoder, const char *path,
                    struct term value, struct range range, int64_t *integer);

/* An integer or a float; NAN never. */
struct interval {
    double least, most;
};
bool decode_number(struct decoder *decoder, const char *path, struct term value,
                   struct interval interval, double *number);

bool decode_boolean(struct decoder *decoder, const char *path,
                    struct term value, bool *boolean);

/* One text or a list of at most `max` of them. A list that begins with an
 * integer is a charlist. */
struct texts {
    const struct slice *items;
    size_t count;
};
bool decode_texts(struct decoder *decoder, const char *path, struct term value,
                  uint32_t max, struct texts *texts);

/* Opens a proper list of at most `max` elements. */
bool open_list(struct decoder *decoder, const char *path, struct term value,
               uint32_t max, struct term_list *list);

/* Puts "[index]" and then `path` before the path of the fault. Always false. */
bool error_in_element(struct decoder *decoder, const char *path, size_t index);

/* The value of a map's key, be that an atom or a binary. */
bool find_member(struct term map, const char *name, struct term *value,
                 bool *is_string);

/* Keeps `value` as JSON text. What came into the arena since `mark`, `value`
 * too, is given back. */
bool keep_json(struct decoder *decoder, struct arena_mark mark,
               const struct jv *value, struct slice *text);

/* One of two names, as an atom or text: *second says which. */
struct alternatives {
    const char *first, *second;
};
bool decode_either(struct decoder *decoder, const char *path, struct term value,
                   struct alternatives names, bool *second);

/* A map or keyword list with known keys, which are atoms or binaries. The path
 * of a fault is the key, or empty. */
struct field {
    const char *name;
    bool hidden;       /* not named to who writes an unknown one */
    bool seen;         /* out: it is there */
    bool given;        /* out: it is there and neither nil nor undefined */
    struct term value; /* out, if given */
};

/* Of a key that a keyword list has twice the first counts, as for
 * Keyword.get/2; a map cannot have it as an atom and a binary. */
bool decode_fields(struct decoder *decoder, struct term value,
                   struct field *fields, size_t count);

/* `name` for a message: itself, or "?" if it is not short printable ASCII.
 * Writes at most 64 bytes and a NUL to `text`. */
enum { SHOWN_NAME_MAX = 64 };
const char *shown_name(struct slice name, char text[SHOWN_NAME_MAX + 1]);

/* --- messages.c --- */

/* Messages of `call`; fills request->messages. */
decode_function decode_messages;

/* Puts one message behind those there are; room for two. */
void add_message(struct decoder *decoder, enum role role, struct slice content);

/* --- tools.c --- */

/* The tools of a request's options, and which of them must be called. */
decode_function decode_tools;
decode_function decode_tool_choice;

/* Is the tool there that tool_choice asks for? */
bool check_tool_choice(struct decoder *decoder, const char *path);

/* The tool calls of an assistant's message. */
bool decode_tool_calls(struct decoder *decoder, const char *path,
                       struct term value, struct message *message);

/* --- responses.c --- */

decode_function decode_api_version;
decode_function decode_store;
decode_function decode_previous_response_id;
decode_function decode_mcp_servers;

/* Only the responses API has some of them: it is then the one that is asked,
 * unless the caller wants the other one. */
bool check_api_version(struct decoder *decoder, const char *path);

/* --- events.c --- */

/* What is watched. */
decode_function decode_task_id;
decode_function decode_topic;
decode_function decode_scope;

/* --- script_call.c --- */

decode_function decode_script;
decode_function decode_script_context;

/* --- options.c --- */

/* Opts of the request's operation. Of route and route_completion they are all
 * there is, messages too. */
decode_function decode_options;

/* Those of a script: where the caller gave one, his holds. */
decode_function decode_further_options;

/* Two that are also arguments of operations. */
decode_function decode_task_type;
decode_function decode_task_count;

/* Of milliseconds the word for the most there may be, as an atom or text. */
bool is_infinity(struct term value);

/* The options that are given, but messages, as members of a JSON object:
 * "timeout":500,"seed":1. The paths of faults are those of decode_options. */
bool put_options(struct decoder *decoder, const char *path, struct term value,
                 struct buf *out);

/* --- queue_call.c --- */

/* The arguments of enqueue, await and result, and Opts of enqueue. */
decode_function decode_enqueued;
decode_function decode_queue_id;
decode_function decode_wait;
decode_function decode_enqueue_options;

/* --- invocation.c --- */

/* An operation's name and arguments, from an atom, a tuple or an rpc call. Not
 * to be copied: arguments may point into scratch. */
enum { ARGUMENTS_MAX = 4 };
struct invocation {
    struct slice name; /* data NULL: the term is no invocation */
    uint32_t count;    /* of all arguments; only ARGUMENTS_MAX are kept */
    struct term arguments[ARGUMENTS_MAX];
    char scratch[ARGUMENTS_MAX][2]; /* integers of a STRING_EXT */
};

/* Of an atom or a tuple that begins with one. */
void invocation_of_term(struct invocation *invocation, struct term term);

/* False: `list` is not a proper list. */
bool invocation_of_list(struct invocation *invocation, struct slice name,
                        struct term list);

/* --- operations.c --- */

/* Does the invocation carry a pid behind the operation's own arguments, and
 * perhaps a reference behind that, to take the result? Those are given here.
 * *reference is the empty slice when there is none. Lends. */
bool invocation_taker(const struct invocation *invocation,
                      enum operation operation, struct slice *pid,
                      struct slice *reference);

bool operation_find(struct slice name, enum operation *operation);

/* The name of an argument; NULL if the operation has not so many. */
const char *operation_parameter(enum operation operation, uint32_t index);

/* A request of which nothing is known yet. */
struct request request_blank(void);

/* May the operation be called with so many arguments in all, options and
 * taker included? */
bool operation_has_arity(enum operation operation, uint32_t count);

/* Fills decoder->request from the operation's arguments (options included, a
 * taker not). */
bool decode_request(struct decoder *decoder, enum operation operation,
                    const struct term *arguments, uint32_t count);

/* ERR_UNKNOWN_REQUEST for an invocation that is no operation, or a term that
 * is no invocation. Always false. */
bool refuse_unknown(const struct invocation *invocation, struct error *err);

#endif
