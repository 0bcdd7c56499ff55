/* The dialects, each in a file of its own, and what they share.
 *
 * A dialect writes its vendor's requests and understands its vendor's events
 * and documents. All else is the reader's (reader.c): which form a body has,
 * splitting it into values, errors wherever they come, limits, one failure,
 * and what makes an answer whole. */
#ifndef LLM_ROUTER_PROVIDER_DIALECTS_INTERNAL_H
#define LLM_ROUTER_PROVIDER_DIALECTS_INTERNAL_H

#include "llm_router/json/value.h"
#include "llm_router/provider/provider.h"

/* What a request is made from. Texts to embed come to put_embedding, anything
 * else to put_chat; the address is for both. */
struct question {
    const struct endpoint *endpoint;
    const struct candidate *candidate;
    const struct chat *chat;
};

enum stream_form {
    STREAM_EVENTS, /* server-sent events, a JSON value in each */
    STREAM_LINES,  /* a JSON value on each line, even for a single one */
};

enum { ANSWER_IDS_MAX = 3 };

struct dialect {
    const char *name; /* "openai" */
    enum stream_form stream;
    size_t state_size; /* of reader_state; 0: none */

    /* "X-Client-Request-Id: "; NULL: it takes no id of ours. */
    const char *client_id;
    /* The headers, in lower case, that have its own id of an answer; the first
     * that is there counts. */
    const char *answer_ids[ANSWER_IDS_MAX];

    /* URL and headers. ERR_INVALID_REQUEST also for what the dialect cannot
     * say, by name ("stop"). */
    bool (*address)(const struct question *question, struct arena *arena,
                    struct provider_request *request, struct error *err);
    void (*put_chat)(const struct question *question, struct buf *body);
    void (*put_embedding)(const struct question *question, struct buf *body);

    /* An event of a stream; `name` is empty in most. False only behind
     * reader_fail_...: `return reader_fail_bad(...)`. Values are gone after
     * the call. Errors ({"error": not null}, "type" or "object" "error", or an
     * event of that name) never get here, nor does an event that differs in
     * nothing but a text from one of which that text was all that came
     * (reader_add_text): to have changed the state twice must be the same. */
    bool (*read_event)(struct reader *reader, struct slice name,
                       const struct jv *event);
    /* A whole answer with a good status; it needs no finish reason. Not called
     * for STREAM_LINES. */
    bool (*read_document)(struct reader *reader, const struct jv *document);
    /* Embeddings; NULL: the dialect has none. */
    bool (*read_embeddings)(struct reader *reader, const struct jv *document);

    /* Of the headers of any answer; `limits` come as unknown. May be NULL. */
    void (*read_limits)(struct rate_limits *limits,
                        const struct provider_headers *headers, int64_t now_s);
};

extern const struct dialect dialect_openai;
extern const struct dialect dialect_openai_responses;
extern const struct dialect dialect_azure;
extern const struct dialect dialect_azure_responses;
extern const struct dialect dialect_anthropic;
extern const struct dialect dialect_gemini;
extern const struct dialect dialect_ollama;

/* Requests. */

/* How the schema is to be enforced; STRUCTURED_PROMPT without one, and where
 * the mode's forced call would be in the way of the caller's own tools.
 * STRUCTURED_TOOL: offer the one tool chat->schema_name, its parameters the
 * schema, and force it; the reader makes its arguments the answer's text. */
enum structured_mode question_structured(const struct candidate *candidate,
                                         const struct chat *chat);

/* The tools to offer: the caller's, or the one that stands for the schema,
 * which is forced. */
struct tool_offer {
    struct tool forced;
    const struct tool *tools; /* may point to `forced`: not to be copied */
    size_t count;
    enum tool_choice choice;
    struct slice choice_name; /* of TOOL_CHOICE_NAMED */
};
void question_tools(const struct question *question, struct tool_offer *offer);

/* What to send: EFFORT_UNSET when nobody asks or the model does not take it. */
enum effort question_effort(const struct question *question);

/* Does the model take temperature and top_p? */
bool question_samples(const struct question *question);

static inline bool question_embeds(const struct question *question)
{
    return question->chat->input_count > 0;
}

/* Sets the address to base_url and `path`. ERR_INVALID_REQUEST when the base
 * has spaces or control characters. */
bool request_set_url(struct arena *arena, struct provider_request *request,
                     struct slice base_url, const char *path,
                     struct error *err);

/* Does the address of a base end so, but for slashes? */
bool url_ends_with(struct slice base_url, const char *end);

/* `text` as one segment of a path or one value of a query, NUL-terminated. */
const char *url_escape(struct arena *arena, struct slice text);

/* Appends `start` ("NAME: ", or "NAME: SCHEME ") and value if value is not
 * empty. ERR_INVALID_REQUEST when value has a control character: CR and LF
 * would make a header of its own, NUL would cut it. */
bool request_add_header(struct arena *arena, struct provider_request *request,
                        const char *start, struct slice value,
                        struct error *err);

/* Is it more than nothing, and letters, digits and signs only? */
bool is_visible(struct slice text);

/* Content-Type and Accept. */
bool request_add_json_headers(struct arena *arena,
                              struct provider_request *request,
                              struct error *err);

/* `,"key":value` when there is one (NAN, 0 and empty: none). */
void put_number_member(struct buf *body, const char *key, double value);
void put_count_member(struct buf *body, const char *key, int64_t value);
void put_texts_member(struct buf *body, const char *key,
                      const struct slice *texts, size_t count);

/* Answers. Failures are set once; what comes later changes nothing. */

void *reader_state(struct reader *reader); /* zeroed at the start */

/* The first one counts. */
void reader_set_model(struct reader *reader, struct slice model);

/* By which the answer can be asked for, or gone on from. */
void reader_set_response_id(struct reader *reader, struct slice id);

/* To be changed in place; normalised as core/usage.h says. */
struct usage *reader_usage(struct reader *reader);

/* A count of `counts`, or -1 for none and for nonsense; as part of `whole`
 * nothing above it is believed. */
int64_t count_find(const struct jv *counts, const char *key);
int64_t count_find_part(const struct jv *counts, const char *key,
                        int64_t whole);
/* -1 if one is unknown. */
int64_t count_sum(int64_t a, int64_t b);

/* Empty text is no progress. */
void reader_add_text(struct reader *reader, struct slice text);
void reader_add_refusal(struct reader *reader, struct slice text);

/* Something came that is no text but shows that the model works. */
void reader_note_progress(struct reader *reader);

/* A call of a tool, known by `key` (its index in the answer) until the next
 * one with the same key and another id begins. Again for a known call: fills
 * in what was empty. An empty id gets one made up. */
void reader_call(struct reader *reader, int64_t key, struct slice id,
                 struct slice name);
/* The next piece of its JSON text. */
void reader_add_arguments(struct reader *reader, int64_t key,
                          struct slice piece);
/* All of them, as a JSON object or a string that holds one; nothing when some
 * came before. */
void reader_set_arguments(struct reader *reader, int64_t key,
                          const struct jv *arguments);

/* Answers of texts to embed: false (and failed) when the index was not asked
 * for or the values are not finite numbers. */
bool reader_add_embedding(struct reader *reader, int64_t index,
                          const struct jv *values);

/* Each element as an event: what some servers send instead of a stream. */
bool reader_read_list(struct reader *reader, const struct jv *list);

/* The model came to an end; usage may follow. */
void reader_finish(struct reader *reader, enum finish_reason finish);
/* Nothing follows. */
void reader_stop(struct reader *reader);

struct finish_word {
    const char *word;
    enum finish_reason finish;
};
/* Words that are not in the table mean that the model stopped by itself. */
enum finish_reason finish_find(const struct finish_word *words, size_t count,
                               struct slice word);

/* The provider's format was not kept; another attempt may do better. */
bool reader_fail_bad(struct reader *reader, const char *reason);
/* What was asked for at `path` cannot be answered: no attempt does better. */
bool reader_fail_request(struct reader *reader, const char *path,
                         const char *reason);
/* The provider says so itself: {"error":...} or what fault_read reads. */
bool reader_fail_told(struct reader *reader, const struct jv *document);

/* Errors. */

/* What is known of an answer that is an error or holds one. */
struct fault {
    int status;            /* of HTTP; 2xx for an error inside an answer */
    struct slice code;     /* "rate_limit_exceeded", or empty */
    struct slice type;     /* "invalid_request_error", or empty */
    int64_t number;        /* a numeric code, which means a status; or 0 */
    struct slice message;  /* the provider's own words, or empty */
    struct slice upstream; /* those of the provider behind it; not quoted */
    bool daily;            /* a quota of the day, not of the minute */
    struct slice api_key;  /* to be cut out of them */
    struct failure advice; /* of the headers, or the body */
};

/* retry-after-ms, retry-after and x-should-retry; the rest is left clear. */
struct failure failure_advice(const struct provider_headers *headers,
                              int64_t now_s);

/* Reads the shapes in use: {"error":{message,type,code,status,details}},
 * {"error":"..."}, {"message","type","code"}, {"detail":...}, and a list of
 * one of them. `document` may be NULL. */
void fault_read(struct fault *fault, const struct jv *document);

/* Classifies by words, code, type, number and status. */
void failure_from_fault(struct provider_failure *failure,
                        const struct fault *fault);

/* The provider's format was not kept; another attempt may do better. */
void failure_bad_response(struct provider_failure *failure, int status,
                          const char *reason);

/* `text` without control characters, cut at a character to `size` bytes with
 * the NUL. Replaced are `secret`, any 8 bytes of it in a row, the same in
 * base64, and what looks like a key. */
void redact(struct slice text, struct slice secret, char *out, size_t size);

/* x-ratelimit-{remaining,reset}-{requests,tokens}, which many servers send. */
void read_openai_limits(struct rate_limits *limits,
                        const struct provider_headers *headers, int64_t now_s);

/* "1s", "6m0s", "20ms", "1h2m3.5s", or plain seconds; -1: none of these. */
int64_t duration_ms(struct slice text);

#endif
