/* What all dialects' answers have in common: a stream, lines, or one document
 * whatever was asked for; errors in any of them; limits; and when an answer is
 * whole. */
#include "llm_router/provider/sse.h"
#include "provider/dialects_internal.h"

#include <math.h>

enum {
    ERROR_BODY_MAX = 64 * 1024,
    MODEL_NAME_MAX = 128,
    CALLS_MAX = 128,
    CALL_ID_MAX = 512, /* Gemini's are short, Azure's were once 300 */
    CALL_NAME_MAX = 64,
    FIRST_TEXT = 1024, /* bytes: most answers fit */
    PATTERN_MAX = 4 * 1024,
    /* Tokens above this are a broken counter. */
    TOKENS_MAX = 1000000000,
};

struct call {
    struct call *older;
    int64_t key;
    struct slice id;
    struct slice name;
    struct buf arguments;
    bool is_text; /* the forced call: its arguments are the answer */
    bool has_arguments;
};

/* The chunks of a stream are mostly the same JSON around another piece of the
 * answer. An event that did nothing but add one text, which was lent from a
 * string of its own, is the pattern of those that follow: one that differs in
 * that string alone needs no tree, and the dialect is not asked again. */
struct pattern {
    struct buf bytes; /* the event's name, what is before the string's opening
                         quote, what is behind its closing one */
    size_t name, before; /* so much of it each; before 0: there is none */
    unsigned reports;    /* of the event in hand */
    struct slice text;   /* the first of them was this; else empty */
};

struct reader {
    const struct dialect *dialect;
    struct arena *arena;
    void *state;
    struct slice api_key;
    struct slice answer_id; /* the provider's own; empty: none */
    struct failure advice;
    struct rate_limits limits;
    int status;
    enum { UNDECIDED, STREAM, LINES, DOCUMENT } form;
    bool said_stream; /* by its content type */
    bool finished;    /* a finish reason was seen */
    bool ended;       /* the rest does not matter */
    bool forced_call; /* a call stands for the schema */
    enum finish_reason finish;
    enum provider_progress progress; /* of this feed */
    struct provider_failure *failure;
    size_t fed;   /* bytes */
    size_t taken; /* of them: text, refusal, arguments */
    struct sse_parser sse;
    struct pattern pattern;
    struct arena scratch;    /* of the event in hand */
    struct arena_mark start; /* of it: rewinding keeps the first block */
    struct buf document;     /* the whole body, or a line that is not whole */
    struct buf text;
    struct buf refusal;
    struct slice model;
    struct slice response_id;
    struct usage usage;
    struct call *calls; /* newest first */
    size_t call_count;
    struct embedding *embeddings; /* one for each text that was asked for */
    size_t embedding_count;
};

static bool is_good(const struct reader *reader)
{
    return reader->status >= 200 && reader->status <= 299;
}

/* "text/event-stream; charset=utf-8" */
static bool is_stream_type(struct slice type)
{
    ptrdiff_t end = slice_find(type, SLICE_LITERAL(";"));

    if (end >= 0)
        type.size = (size_t)end;
    return slice_is_nocase(slice_trim(type), "text/event-stream");
}

static void expect_answer(struct reader *reader, const struct answer_head *head)
{
    reader->forced_call =
        question_structured(head->candidate, head->chat) == STRUCTURED_TOOL;
    reader->embedding_count = head->chat->input_count;
    if (reader->embedding_count > 0)
        reader->embeddings = arena_array(reader->arena, reader->embedding_count,
                                         sizeof(*reader->embeddings));
}

static void read_answer_id(struct reader *reader,
                           const struct provider_headers *headers)
{
    const char *const *names = reader->dialect->answer_ids;

    for (size_t i = 0; i < ANSWER_IDS_MAX && names[i]; i++) {
        struct slice id = headers->find(headers->context, names[i]);

        if (is_visible(id) && id.size < ERROR_PROVIDER_ID_MAX) {
            reader->answer_id = arena_copy(reader->arena, id);
            return;
        }
    }
}

static void read_headers(struct reader *reader, const struct answer_head *head)
{
    const struct provider_headers *headers = head->headers;

    reader->said_stream =
        is_stream_type(headers->find(headers->context, "content-type"));
    read_answer_id(reader, headers);
    reader->advice = (struct failure){.retry_after_ms = -1};
    if (!is_good(reader))
        reader->advice = failure_advice(headers, head->now_s);
    reader->limits = RATE_LIMITS_UNKNOWN;
    if (reader->dialect->read_limits)
        reader->dialect->read_limits(&reader->limits, headers, head->now_s);
}

struct reader *reader_new(const struct dialect *dialect, struct arena *arena,
                          const struct answer_head *head)
{
    struct reader *reader = arena_alloc(arena, sizeof(*reader));

    reader->dialect = dialect;
    reader->arena = arena;
    reader->state = arena_alloc(arena, dialect->state_size);
    arena_init(&reader->scratch, 0);
    arena_bytes(&reader->scratch, 1);
    reader->start = arena_mark(&reader->scratch);
    reader->api_key = head->api_key;
    reader->status = head->status;
    read_headers(reader, head);
    expect_answer(reader, head);
    reader->form =
        is_good(reader) && reader->embedding_count == 0 ? UNDECIDED : DOCUMENT;
    reader->usage = USAGE_UNKNOWN;
    sse_init(&reader->sse, PROVIDER_ANSWER_MAX);
    buf_init(&reader->pattern.bytes, PATTERN_MAX);
    buf_init(&reader->document,
             is_good(reader) ? PROVIDER_ANSWER_MAX : ERROR_BODY_MAX);
    buf_init(&reader->text, PROVIDER_ANSWER_MAX);
    buf_init(&reader->refusal, ERROR_BODY_MAX);
    return reader;
}

void reader_free(struct reader *reader)
{
    sse_release(&reader->sse);
    buf_release(&reader->pattern.bytes);
    arena_release(&reader->scratch);
    buf_release(&reader->document);
    buf_release(&reader->text);
    buf_release(&reader->refusal);
    for (struct call *call = reader->calls; call; call = call->older)
        buf_release(&call->arguments);
}

size_t reader_size(const struct reader *reader)
{
    return reader->form == DOCUMENT ? reader->fed : reader->taken;
}

struct slice reader_text(const struct reader *reader)
{
    return buf_slice(&reader->text);
}

const struct rate_limits *reader_limits(const struct reader *reader)
{
    return &reader->limits;
}

void reader_name_answer(const struct reader *reader, struct error *err)
{
    redact(reader->answer_id, reader->api_key, err->provider_request_id,
           sizeof(err->provider_request_id));
}

/* Failures. The first one counts. */

static bool fail(struct reader *reader, const struct provider_failure *failure)
{
    reader->pattern.reports++;
    if (!reader->failure) {
        reader->failure = arena_alloc(reader->arena, sizeof(*failure));
        *reader->failure = *failure;
        reader_name_answer(reader, &reader->failure->error);
    }
    return false;
}

bool reader_fail_bad(struct reader *reader, const char *reason)
{
    struct provider_failure failure;

    failure_bad_response(&failure, reader->status, reason);
    return fail(reader, &failure);
}

static bool fail_large(struct reader *reader)
{
    struct provider_failure failure = {.retry.retry_after_ms = -1,
                                       .try_next = true};

    error_set(&failure.error, ERR_TOO_LARGE, "the answer is over %d bytes",
              PROVIDER_ANSWER_MAX);
    failure.error.http_status = reader->status;
    return fail(reader, &failure);
}

bool reader_fail_request(struct reader *reader, const char *path,
                         const char *reason)
{
    struct provider_failure failure = {.retry.retry_after_ms = -1,
                                       .blameless = true};

    error_at(&failure.error, ERR_INVALID_REQUEST, path, "%s", reason);
    failure.error.http_status = reader->status;
    return fail(reader, &failure);
}

bool reader_fail_told(struct reader *reader, const struct jv *document)
{
    struct fault fault = {
        .status = reader->status,
        .api_key = reader->api_key,
        .advice = reader->advice,
    };
    struct provider_failure failure;

    fault_read(&fault, document);
    failure_from_fault(&failure, &fault);
    return fail(reader, &failure);
}

/* What dialects report. */

void *reader_state(struct reader *reader)
{
    return reader->state;
}

void reader_set_model(struct reader *reader, struct slice model)
{
    if (reader->model.size == 0 && model.size <= MODEL_NAME_MAX)
        reader->model = arena_copy(reader->arena, model);
}

void reader_set_response_id(struct reader *reader, struct slice id)
{
    if (id.size <= REQUEST_RESPONSE_ID_MAX)
        reader->response_id = arena_copy(reader->arena, id);
}

struct usage *reader_usage(struct reader *reader)
{
    reader->pattern.reports++;
    return &reader->usage;
}

int64_t count_find(const struct jv *counts, const char *key)
{
    int64_t tokens = jv_integer(jv_find(counts, key), -1);

    return tokens >= 0 && tokens <= TOKENS_MAX ? tokens : -1;
}

int64_t count_find_part(const struct jv *counts, const char *key, int64_t whole)
{
    int64_t tokens = count_find(counts, key);

    return tokens <= whole ? tokens : -1;
}

int64_t count_sum(int64_t a, int64_t b)
{
    return a < 0 || b < 0 ? -1 : a + b;
}

static void useful(struct reader *reader)
{
    reader->pattern.reports++;
    reader->progress = PROGRESS_USEFUL;
}

void reader_note_progress(struct reader *reader)
{
    useful(reader);
}

static void add_text(struct reader *reader, struct buf *to, struct slice text)
{
    if (text.size == 0)
        return;
    if (to->capacity == 0)
        buf_reserve(to, FIRST_TEXT);
    buf_append_slice(to, text);
    reader->taken += text.size;
    useful(reader);
    if (to->failed)
        fail_large(reader);
}

void reader_add_text(struct reader *reader, struct slice text)
{
    if (reader->pattern.reports == 0)
        reader->pattern.text = text;
    add_text(reader, &reader->text, text);
}

void reader_add_refusal(struct reader *reader, struct slice text)
{
    add_text(reader, &reader->refusal, text);
}

static struct call *find_call(struct reader *reader, int64_t key)
{
    struct call *call = reader->calls;

    while (call && call->key != key)
        call = call->older;
    return call;
}

/* NULL (and failed) when there are too many. */
static struct call *add_call(struct reader *reader, int64_t key)
{
    struct call *call;

    if (reader->call_count == CALLS_MAX) {
        reader_fail_bad(reader, "the answer has too many tool calls");
        return NULL;
    }
    call = arena_alloc(reader->arena, sizeof(*call));
    call->key = key;
    call->is_text = reader->forced_call && reader->call_count == 0;
    buf_init(&call->arguments, PROVIDER_ANSWER_MAX);
    call->older = reader->calls;
    reader->calls = call;
    reader->call_count++;
    return call;
}

void reader_call(struct reader *reader, int64_t key, struct slice id,
                 struct slice name)
{
    struct call *call = find_call(reader, key);

    useful(reader);
    if (id.size > CALL_ID_MAX)
        id.size = 0;
    /* Some servers give every call the same index. */
    if (!call ||
        (id.size > 0 && call->id.size > 0 && !slice_equal(id, call->id)))
        call = add_call(reader, key);
    if (!call)
        return;
    if (call->id.size == 0)
        call->id = arena_copy(reader->arena, id);
    if (call->name.size == 0)
        call->name = arena_copy(reader->arena, name);
}

void reader_add_arguments(struct reader *reader, int64_t key,
                          struct slice piece)
{
    struct call *call = find_call(reader, key);

    if (!call || piece.size == 0)
        return;
    call->has_arguments = true;
    add_text(reader, call->is_text ? &reader->text : &call->arguments, piece);
}

void reader_set_arguments(struct reader *reader, int64_t key,
                          const struct jv *arguments)
{
    struct call *call = find_call(reader, key);
    struct buf written;

    if (!call || call->has_arguments || !arguments ||
        arguments->type == JV_NULL)
        return;
    if (jv_is_string(arguments)) {
        reader_add_arguments(reader, key, jv_string(arguments));
        return;
    }
    buf_init(&written, PROVIDER_ANSWER_MAX);
    jv_put(&written, arguments);
    reader_add_arguments(reader, key, buf_slice(&written));
    buf_release(&written);
}

bool reader_add_embedding(struct reader *reader, int64_t index,
                          const struct jv *values)
{
    struct embedding *embedding;

    if (index < 0 || (uint64_t)index >= reader->embedding_count)
        return reader_fail_bad(reader, "an embedding that was not asked for");
    if (!values || values->type != JV_ARRAY || jv_count(values) == 0)
        return reader_fail_bad(reader, "an embedding is no list of numbers");
    embedding = &reader->embeddings[index];
    embedding->count = jv_count(values);
    embedding->values =
        arena_array(reader->arena, embedding->count, sizeof(double));
    for (size_t i = 0; i < embedding->count; i++) {
        embedding->values[i] = jv_number(jv_at(values, i), (double)NAN);
        if (!isfinite(embedding->values[i]))
            return reader_fail_bad(reader,
                                   "an embedding is no list of numbers");
    }
    return true;
}

void reader_finish(struct reader *reader, enum finish_reason finish)
{
    reader->finished = true;
    reader->finish = finish;
    useful(reader);
}

void reader_stop(struct reader *reader)
{
    reader->pattern.reports++;
    reader->ended = true;
}

enum finish_reason finish_find(const struct finish_word *words, size_t count,
                               struct slice word)
{
    for (size_t i = 0; i < count; i++)
        if (slice_is(word, words[i].word))
            return words[i].finish;
    return FINISH_STOP;
}

/* Reading. */

/* In one pass: this looks at every event. */
static bool is_error(const struct jv *document)
{
    size_t count = document->type == JV_OBJECT ? jv_count(document) : 0;

    for (size_t i = 0; i < count; i++) {
        const struct jv_member *member = &document->as.object.members[i];

        if (slice_is(member->key, "error") && member->value.type != JV_NULL)
            return true;
        if ((slice_is(member->key, "object") ||
             slice_is(member->key, "type")) &&
            slice_is(jv_string(&member->value), "error"))
            return true;
    }
    return false;
}

static bool read_event(struct reader *reader, struct slice name,
                       const struct jv *event)
{
    if (slice_is(name, "error") || is_error(event))
        return reader_fail_told(reader, event);
    return reader->dialect->read_event(reader, name, event) && !reader->failure;
}

bool reader_read_list(struct reader *reader, const struct jv *list)
{
    for (size_t i = 0; i < jv_count(list); i++)
        if (!read_event(reader, slice_of(""), jv_at(list, i)))
            return false;
    return true;
}

/* Is `text` a whole string of `event`, between its quotes? What is lent has no
 * escapes, so the quotes beside it are the string's. */
static bool is_string_of(struct slice text, struct slice event)
{
    uintptr_t at = (uintptr_t)text.data, start = (uintptr_t)event.data;

    return text.size > 0 && at > start && at - start < event.size &&
           text.size < event.size - (at - start) && text.data[-1] == '"' &&
           text.data[text.size] == '"';
}

static void learn_pattern(struct reader *reader, struct slice name,
                          struct slice event)
{
    struct pattern *pattern = &reader->pattern;
    const char *from = event.data, *to = pattern->text.data;

    pattern->name = pattern->before = 0;
    if (pattern->reports != 1 || !is_string_of(pattern->text, event))
        return;
    buf_clear(&pattern->bytes);
    buf_append_slice(&pattern->bytes, name);
    buf_append(&pattern->bytes, from, (size_t)(to - 1 - from));
    to += pattern->text.size + 1;
    buf_append(&pattern->bytes, to, event.size - (size_t)(to - from));
    if (pattern->bytes.failed)
        return;
    pattern->name = name.size;
    pattern->before = (size_t)(pattern->text.data - 1 - from);
}

static struct slice slice_from(struct slice text, size_t start)
{
    return slice_make(text.data + start, text.size - start);
}

/* The string by which the event differs from the pattern; empty: it is another
 * event. */
static struct slice match_pattern(struct reader *reader, struct slice name,
                                  struct slice event)
{
    const struct pattern *pattern = &reader->pattern;
    size_t before = pattern->before;
    struct slice rest = buf_slice(&pattern->bytes);
    struct jv *string;
    struct error err;
    size_t used;

    if (before == 0 || event.size <= before || event.data[before] != '"' ||
        memcmp(event.data, rest.data + pattern->name, before) != 0 ||
        !slice_equal(name, slice_make(rest.data, pattern->name)))
        return slice_of("");
    event = slice_from(event, before);
    rest = slice_from(rest, pattern->name + before);
    if (!jv_parse(&reader->scratch, event, JV_STRICT, &JV_DEFAULT_LIMITS, &used,
                  &string, &err) ||
        !slice_equal(slice_from(event, used), rest))
        return slice_of("");
    return jv_string(string);
}

static void take_json(struct reader *reader, struct slice name,
                      struct slice text, const char *if_not_json)
{
    struct pattern *pattern = &reader->pattern;
    struct jv *event;
    struct error err;

    pattern->reports = 0;
    pattern->text = slice_of("");
    if (jv_parse(&reader->scratch, text, JV_STRICT, &JV_DEFAULT_LIMITS, NULL,
                 &event, &err))
        read_event(reader, name, event);
    else
        reader_fail_bad(reader, if_not_json);
    learn_pattern(reader, name, text);
}

/* False: this was the last one. */
static bool take_event(struct reader *reader, struct slice name,
                       struct slice text, const char *if_not_json)
{
    struct slice piece = match_pattern(reader, name, text);

    if (piece.size > 0)
        reader_add_text(reader, piece);
    else
        take_json(reader, name, text, if_not_json);
    arena_rewind(&reader->scratch, reader->start);
    return !reader->ended && !reader->failure;
}

static bool on_event(void *context, const struct sse_event *event)
{
    struct reader *reader = context;

    if (slice_is(slice_trim(event->data), "[DONE]")) {
        reader->ended = true;
        return false;
    }
    return take_event(reader, event->event, event->data,
                      "an event of the stream is not JSON");
}

static bool take_line(struct reader *reader, struct slice line)
{
    line = slice_trim(line);
    return line.size == 0 || take_event(reader, slice_of(""), line,
                                        "a line of the stream is not JSON");
}

static void feed_lines(struct reader *reader, struct slice bytes)
{
    struct buf *kept = &reader->document;
    const char *end;

    while ((end = memchr(bytes.data, '\n', bytes.size))) {
        size_t size = (size_t)(end - bytes.data);
        struct slice line = slice_make(bytes.data, size);
        bool more;

        if (kept->size > 0) {
            buf_append_slice(kept, line);
            line = buf_slice(kept);
        }
        more = take_line(reader, line);
        buf_clear(kept);
        if (!more)
            return;
        bytes = slice_make(end + 1, bytes.size - size - 1);
    }
    buf_append_slice(kept, bytes);
}

static bool is_blank(char c)
{
    /* The last three make a byte order mark. */
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\xEF' ||
           c == '\xBB' || c == '\xBF';
}

static size_t blank_size(struct slice bytes)
{
    size_t size = 0;

    while (size < bytes.size && is_blank(bytes.data[size]))
        size++;
    return size;
}

/* By what the body begins with: servers send streams as text/plain, and whole
 * answers as streams. What is neither is kept as a document that will not
 * parse. */
static void decide(struct reader *reader, char first)
{
    bool document = first == '{' || first == '[' || first == '<';
    bool field = first != '\0' && strchr(":deir", first);

    if (reader->dialect->stream == STREAM_LINES)
        reader->form = first == '<' ? DOCUMENT : LINES;
    else if (!document && (reader->said_stream || field))
        reader->form = STREAM;
    else
        reader->form = DOCUMENT;
}

static void feed_document(struct reader *reader, struct slice bytes)
{
    if (blank_size(bytes) < bytes.size)
        reader->progress = PROGRESS_USEFUL;
    if (!is_good(reader) &&
        bytes.size > reader->document.max - reader->document.size) {
        /* Enough of an error was seen. */
        bytes.size = reader->document.max - reader->document.size;
        reader->ended = true;
    }
    buf_append_slice(&reader->document, bytes);
}

static void feed(struct reader *reader, struct slice bytes)
{
    if (reader->form == UNDECIDED) {
        size_t blank = blank_size(bytes);

        bytes = slice_make(bytes.data + blank, bytes.size - blank);
        if (bytes.size == 0)
            return;
        decide(reader, bytes.data[0]);
    }
    if (reader->form == DOCUMENT)
        feed_document(reader, bytes);
    else if (reader->form == LINES)
        feed_lines(reader, bytes);
    else if (!sse_feed(&reader->sse, bytes, on_event, reader) && !reader->ended)
        fail_large(reader);
}

enum provider_progress reader_feed(struct reader *reader, struct slice bytes)
{
    reader->progress = PROGRESS_NONE;
    if (!reader->failure && !reader->ended && bytes.size > 0) {
        if (is_good(reader) && bytes.size > PROVIDER_ANSWER_MAX - reader->fed)
            fail_large(reader);
        else
            feed(reader, bytes);
        reader->fed += bytes.size;
    }
    if (reader->failure)
        return PROGRESS_FAILED;
    return reader->ended ? PROGRESS_END : reader->progress;
}

/* The end. */

/* An answer that came in one piece; its own end stands for a finish reason. */
static bool read_document(struct reader *reader, const struct jv *document)
{
    bool ok;

    if (!is_good(reader) || is_error(document))
        return reader_fail_told(reader, document);
    ok = reader->embedding_count > 0
             ? reader->dialect->read_embeddings(reader, document)
             : reader->dialect->read_document(reader, document);
    if (ok && document->type == JV_OBJECT)
        reader->finished = true;
    return ok && !reader->failure;
}

static bool refuse_document(struct reader *reader, bool whole,
                            const struct error *err)
{
    if (!is_good(reader))
        return reader_fail_told(reader, NULL);
    if (err->code == ERR_TOO_LARGE)
        return fail_large(reader);
    if (reader->document.size == 0)
        return reader_fail_bad(reader, "the answer is empty");
    if (slice_starts_with(buf_slice(&reader->document), "<"))
        return reader_fail_bad(reader, "HTML instead of JSON");
    return reader_fail_bad(reader, whole ? "the answer is not JSON"
                                         : "the answer was cut");
}

static bool end_document(struct reader *reader, bool whole)
{
    struct jv *document;
    struct error err;
    bool ok;

    if (jv_parse(&reader->scratch, buf_slice(&reader->document), JV_STRICT,
                 &JV_DEFAULT_LIMITS, NULL, &document, &err))
        ok = read_document(reader, document);
    else
        ok = refuse_document(reader, whole, &err);
    arena_release(&reader->scratch);
    return ok;
}

/* The last line may lack its end. */
static bool end_lines(struct reader *reader, bool whole)
{
    if (whole && !reader->ended)
        take_line(reader, buf_slice(&reader->document));
    arena_release(&reader->scratch);
    return !reader->failure;
}

static bool end_body(struct reader *reader, bool whole)
{
    if (reader->failure)
        return false;
    switch (reader->form) {
    case UNDECIDED:
        return reader_fail_bad(reader, "the answer is empty");
    case DOCUMENT:
        if (!end_document(reader, whole))
            return false;
        break;
    case LINES:
        if (!end_lines(reader, whole))
            return false;
        break;
    case STREAM:
        break;
    }
    if (!reader->finished)
        return reader_fail_bad(reader,
                               whole ? "the stream ended without a finish "
                                       "reason"
                                     : "the stream was cut");
    return true;
}

static bool is_call_name(struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c >= '0' && c <= '9') || c == '_' || c == '-'))
            return false;
    }
    return name.size > 0 && name.size <= CALL_NAME_MAX;
}

/* Written anew, so that it is JSON to the letter. No arguments are none. */
static bool check_arguments(struct reader *reader, struct call *call)
{
    struct buf *text = &call->arguments;
    struct jv *arguments;
    struct error err;
    bool ok;

    if (slice_trim(buf_slice(text)).size == 0) {
        buf_clear(text);
        buf_append_text(text, "{}");
        return true;
    }
    ok = jv_parse(&reader->scratch, buf_slice(text), JV_STRICT,
                  &JV_DEFAULT_LIMITS, NULL, &arguments, &err) &&
         arguments->type == JV_OBJECT;
    if (ok) {
        struct buf written;

        buf_init(&written, PROVIDER_ANSWER_MAX);
        jv_put(&written, arguments);
        buf_release(text);
        *text = written;
        ok = !written.failed;
    }
    arena_release(&reader->scratch);
    return ok;
}

/* A call that the token limit cut is left out; the finish reason tells. */
static bool end_calls(struct reader *reader, struct completion *completion)
{
    size_t at = reader->call_count;
    struct tool_call *calls;

    if (at == 0 || reader->forced_call)
        return true;
    calls = arena_array(reader->arena, at, sizeof(*calls));
    for (struct call *call = reader->calls; call; call = call->older) {
        if (is_call_name(call->name) && check_arguments(reader, call))
            calls[--at] = (struct tool_call){
                .id = call->id,
                .name = call->name,
                .arguments = arena_keep(reader->arena, &call->arguments),
            };
        else if (reader->finish != FINISH_LENGTH)
            return reader_fail_bad(reader, "a tool call has no valid name or "
                                           "its arguments are no JSON object");
    }
    completion->tool_calls = calls + at;
    completion->tool_call_count = reader->call_count - at;
    for (size_t i = at; i < reader->call_count; i++)
        if (calls[i].id.size == 0)
            calls[i].id = arena_printf(reader->arena, "call_%zu", i - at + 1);
    return true;
}

static bool end_embeddings(struct reader *reader, struct completion *completion)
{
    for (size_t i = 0; i < reader->embedding_count; i++)
        if (reader->embeddings[i].count == 0)
            return reader_fail_bad(reader, "the answer lacks an embedding");
    /* Nobody counts an output here, and nobody bills one. */
    if (reader->embedding_count > 0 && reader->usage.output_tokens < 0 &&
        reader->usage.input_tokens >= 0) {
        reader->usage.output_tokens = 0;
        reader->usage.total_tokens = reader->usage.input_tokens;
    }
    completion->embeddings = reader->embeddings;
    completion->embedding_count = reader->embedding_count;
    return true;
}

/* Vendors differ in what they call the end of an answer that is a call or a
 * refusal. */
static enum finish_reason end_reason(const struct reader *reader,
                                     const struct completion *completion)
{
    bool calls = completion->tool_call_count > 0;

    if (completion->refusal.size > 0)
        return FINISH_REFUSAL;
    if (reader->finish == FINISH_STOP && calls)
        return FINISH_TOOL_CALLS;
    if (reader->finish == FINISH_TOOL_CALLS && !calls)
        return FINISH_STOP;
    return reader->finish;
}

static bool end(struct reader *reader, bool whole,
                struct completion *completion)
{
    if (!end_body(reader, whole) || !end_calls(reader, completion) ||
        !end_embeddings(reader, completion))
        return false;
    if (reader->finish == FINISH_REFUSAL && reader->refusal.size == 0)
        reader_add_refusal(reader,
                           SLICE_LITERAL("The model declined to answer."));
    completion->text = arena_keep(reader->arena, &reader->text);
    completion->refusal = arena_keep(reader->arena, &reader->refusal);
    completion->finish = end_reason(reader, completion);
    if (completion->finish == FINISH_STOP && completion->text.size == 0 &&
        completion->embedding_count == 0)
        return reader_fail_bad(reader, "the answer has no text");
    return true;
}

bool reader_end(struct reader *reader, bool whole,
                struct completion *completion, struct provider_failure *failure)
{
    *completion = (struct completion){.finish = FINISH_STOP};
    if (!end(reader, whole, completion)) {
        *failure = *reader->failure;
        failure->usage = reader->usage;
        failure->model = reader->model;
        return false;
    }
    completion->usage = reader->usage;
    completion->model = reader->model;
    completion->response_id = reader->response_id;
    return true;
}
