/* OpenAI chat completions: https://api.openai.com/v1/chat/completions and the
 * many servers that speak the same (vLLM, llama.cpp, Ollama's /v1, OpenRouter,
 * Groq, Mistral, DeepSeek, xAI, ...).
 *
 * Always asks for a stream. Of several choices the first is read. */
#include "provider/openai_internal.h"

#include <math.h>

/* The request. */

const struct openai_words OPENAI_WORDS = {
    .max_tokens = "max_completion_tokens",
    .seed = "seed",
    .stream_options = true,
    .store = true,
};

/* Of a host or, behind a proxy, in the path; "https://eu.api.openai.com/v1" is
 * OpenAI's as well. */
static bool names_host(struct slice url, struct slice host)
{
    ptrdiff_t at = slice_find(url, host);

    return at > 0 && (url.data[at - 1] == '/' || url.data[at - 1] == '.');
}

bool openai_is_own(struct slice base_url)
{
    return names_host(base_url, SLICE_LITERAL("api.openai.com/"));
}

/* OpenAI's reasoning models refuse max_tokens, and many compatible servers do
 * not know its successor. Mistral refuses what it does not know, and counts
 * usage unasked. Who keeps nothing often refuses to be told so. */
static const struct openai_words *find_words(struct slice base_url)
{
    static const struct openai_words common = {
        .max_tokens = "max_tokens", .seed = "seed", .stream_options = true};
    static const struct openai_words mistral = {.max_tokens = "max_tokens",
                                                .seed = "random_seed"};

    if (openai_is_own(base_url))
        return &OPENAI_WORDS;
    if (names_host(base_url, SLICE_LITERAL("api.mistral.ai/")))
        return &mistral;
    return &common;
}

static void put_tool_calls(struct buf *body, const struct message *message)
{
    buf_append_text(body, ",\"tool_calls\":[");
    for (size_t i = 0; i < message->tool_call_count; i++) {
        const struct tool_call *call = &message->tool_calls[i];

        buf_append_text(body, i > 0 ? ",{\"id\":" : "{\"id\":");
        jv_put_string(body, call->id);
        buf_append_text(body, ",\"type\":\"function\",\"function\":{\"name\":");
        jv_put_string(body, call->name);
        buf_append_text(body, ",\"arguments\":");
        jv_put_string(body, call->arguments);
        buf_append_text(body, "}}");
    }
    buf_append_byte(body, ']');
}

static void put_message(struct buf *body, const struct message *message)
{
    buf_append_text(body, "{\"role\":\"");
    buf_append_text(body, role_name(message->role));
    buf_append_text(body, "\",\"content\":");
    if (message->tool_call_count > 0 && message->content.size == 0)
        buf_append_text(body, "null");
    else
        jv_put_string(body, message->content);
    if (message->tool_call_count > 0)
        put_tool_calls(body, message);
    if (message->role == ROLE_TOOL) {
        buf_append_text(body, ",\"tool_call_id\":");
        jv_put_string(body, message->tool_call_id);
    }
    buf_append_byte(body, '}');
}

static void put_messages(struct buf *body, const struct chat *chat)
{
    buf_append_text(body, ",\"messages\":[");
    for (size_t i = 0; i < chat->message_count; i++) {
        if (i > 0)
            buf_append_byte(body, ',');
        put_message(body, &chat->messages[i]);
    }
    buf_append_byte(body, ']');
}

static void put_tool(struct buf *body, const struct tool *tool)
{
    buf_append_text(body, "{\"type\":\"function\",\"function\":{\"name\":");
    jv_put_string(body, tool->name);
    if (tool->description.size > 0) {
        buf_append_text(body, ",\"description\":");
        jv_put_string(body, tool->description);
    }
    if (tool->parameters.size > 0) {
        buf_append_text(body, ",\"parameters\":");
        buf_append_slice(body, tool->parameters);
    }
    buf_append_text(body, tool->strict ? ",\"strict\":true}}" : "}}");
}

const char *openai_tool_choice(enum tool_choice choice)
{
    switch (choice) {
    case TOOL_CHOICE_AUTO:
        return "auto";
    case TOOL_CHOICE_NONE:
        return "none";
    case TOOL_CHOICE_REQUIRED:
        return "required";
    case TOOL_CHOICE_UNSET:
    case TOOL_CHOICE_NAMED:
        return NULL;
    }
    return NULL;
}

static void put_named_choice(struct buf *body, struct slice name)
{
    buf_append_text(body, ",\"tool_choice\":{\"type\":\"function\","
                          "\"function\":{\"name\":");
    jv_put_string(body, name);
    buf_append_text(body, "}}");
}

static void put_tools(struct buf *body, const struct chat *chat)
{
    const char *choice = openai_tool_choice(chat->tool_choice);

    if (chat->tool_count == 0)
        return;
    buf_append_text(body, ",\"tools\":[");
    for (size_t i = 0; i < chat->tool_count; i++) {
        if (i > 0)
            buf_append_byte(body, ',');
        put_tool(body, &chat->tools[i]);
    }
    buf_append_byte(body, ']');
    if (chat->tool_choice == TOOL_CHOICE_NAMED)
        put_named_choice(body, chat->tool_name);
    else if (choice)
        buf_printf(body, ",\"tool_choice\":\"%s\"", choice);
}

static void put_schema(struct buf *body, const struct chat *chat)
{
    buf_append_text(body, ",\"response_format\":{\"type\":\"json_schema\","
                          "\"json_schema\":{\"name\":");
    jv_put_string(body, chat->schema_name);
    buf_append_text(body, ",\"schema\":");
    buf_append_slice(body, chat->schema);
    buf_append_text(body, chat->schema_strict ? ",\"strict\":true}}"
                                              : ",\"strict\":false}}");
}

static void put_forced_tool(struct buf *body, const struct chat *chat)
{
    buf_append_text(body, ",\"tools\":[");
    put_tool(body, &(struct tool){.name = chat->schema_name,
                                  .parameters = chat->schema,
                                  .strict = chat->schema_strict});
    buf_append_byte(body, ']');
    put_named_choice(body, chat->schema_name);
}

static void put_structured(const struct question *question, struct buf *body)
{
    switch (question_structured(question->candidate, question->chat)) {
    case STRUCTURED_SCHEMA:
        put_schema(body, question->chat);
        break;
    case STRUCTURED_TOOL:
        put_forced_tool(body, question->chat);
        break;
    case STRUCTURED_JSON:
        buf_append_text(body,
                        ",\"response_format\":{\"type\":\"json_object\"}");
        break;
    case STRUCTURED_PROMPT:
        break;
    }
}

/* While it thinks, a model of OpenAI's takes neither. */
void openai_put_sampling(const struct question *question, struct buf *body)
{
    enum effort effort = question_effort(question);

    if (!question_samples(question) ||
        (effort != EFFORT_UNSET && effort != EFFORT_NONE))
        return;
    put_number_member(body, "temperature", question->chat->temperature);
    put_number_member(body, "top_p", question->chat->top_p);
}

void openai_put_chat(const struct question *question,
                     const struct openai_words *words, struct buf *body)
{
    const struct chat *chat = question->chat;
    enum effort effort = question_effort(question);

    buf_append_text(body, "{\"model\":");
    jv_put_string(body, question->candidate->model);
    put_messages(body, chat);
    put_count_member(body, words->max_tokens, chat->max_tokens);
    openai_put_sampling(question, body);
    put_texts_member(body, "stop", chat->stops, chat->stop_count);
    if (chat->has_seed)
        buf_printf(body, ",\"%s\":%lld", words->seed, (long long)chat->seed);
    if (effort != EFFORT_UNSET)
        buf_printf(body, ",\"reasoning_effort\":\"%s\"", effort_name(effort));
    put_tools(body, chat);
    put_structured(question, body);
    if (words->store && chat->store != STORE_DEFAULT)
        buf_append_text(body, chat->store == STORE_YES ? ",\"store\":true"
                                                       : ",\"store\":false");
    buf_append_text(body, ",\"stream\":true");
    if (words->stream_options)
        buf_append_text(body, ",\"stream_options\":{\"include_usage\":true}");
    buf_append_byte(body, '}');
}

static void put_chat(const struct question *question, struct buf *body)
{
    openai_put_chat(question, find_words(question->endpoint->base_url), body);
}

void openai_put_embedding(const struct question *question, struct buf *body)
{
    buf_append_text(body, "{\"model\":");
    jv_put_string(body, question->candidate->model);
    put_texts_member(body, "input", question->chat->inputs,
                     question->chat->input_count);
    buf_append_text(body, ",\"encoding_format\":\"float\"}");
}

bool openai_add_headers(const struct question *question, struct arena *arena,
                        struct provider_request *request, struct error *err)
{
    const struct endpoint *endpoint = question->endpoint;

    return request_add_json_headers(arena, request, err) &&
           request_add_header(arena, request, "Authorization: Bearer ",
                              endpoint->api_key, err) &&
           request_add_header(arena, request,
                              "OpenAI-Organization: ", endpoint->organization,
                              err) &&
           request_add_header(arena, request,
                              "OpenAI-Project: ", endpoint->project, err);
}

static bool address(const struct question *question, struct arena *arena,
                    struct provider_request *request, struct error *err)
{
    return request_set_url(arena, request, question->endpoint->base_url,
                           question_embeds(question) ? "/embeddings"
                                                     : "/chat/completions",
                           err) &&
           openai_add_headers(question, arena, request, err);
}

/* The answer. */

/* Optional, and the last one seen counts. */
static void read_usage(struct reader *reader, const struct jv *counts)
{
    const struct jv *input = jv_find(counts, "prompt_tokens_details");
    const struct jv *output = jv_find(counts, "completion_tokens_details");
    int64_t thought = count_find(output, "reasoning_tokens");
    int64_t total = count_find(counts, "total_tokens");
    struct usage usage = USAGE_UNKNOWN;

    usage.input_tokens = count_find(counts, "prompt_tokens");
    usage.output_tokens = count_find(counts, "completion_tokens");
    usage.total_tokens = count_sum(usage.input_tokens, usage.output_tokens);
    /* xAI counts reasoning beside the completion, not in it. */
    if (thought > 0 && total >= 0 &&
        total == count_sum(usage.total_tokens, thought)) {
        usage.output_tokens += thought;
        usage.total_tokens = total;
    }
    if (usage.total_tokens < 0)
        usage.total_tokens = total;
    usage.cached_tokens =
        count_find_part(input, "cached_tokens", usage.input_tokens);
    if (usage.cached_tokens < 0) /* DeepSeek */
        usage.cached_tokens = count_find_part(counts, "prompt_cache_hit_tokens",
                                              usage.input_tokens);
    usage.cache_write_tokens =
        count_find_part(input, "cache_write_tokens", usage.input_tokens);
    usage.reasoning_tokens = thought <= usage.output_tokens ? thought : -1;
    *reader_usage(reader) = usage;
}

static bool read_finish(struct reader *reader, const struct jv *choice)
{
    static const struct finish_word words[] = {
        {"length", FINISH_LENGTH},
        {"model_length", FINISH_LENGTH}, /* Mistral: of the context */
        {"tool_calls", FINISH_TOOL_CALLS},
        {"function_call", FINISH_TOOL_CALLS},
        {"content_filter", FINISH_CONTENT_FILTER},
    };
    /* OpenRouter (with the error in the choice), Mistral; DeepSeek; vLLM. */
    static const char *const interruptions[] = {
        "error", "insufficient_system_resource", "abort"};
    struct slice reason = jv_string(jv_find(choice, "finish_reason"));

    if (reason.size == 0)
        return true;
    if (jv_count(jv_find(choice, "error")) > 0)
        return reader_fail_told(reader, choice);
    for (size_t i = 0; i < sizeof(interruptions) / sizeof(*interruptions); i++)
        if (slice_is(reason, interruptions[i]))
            return reader_fail_bad(reader,
                                   "the provider interrupted the answer");
    reader_finish(reader,
                  finish_find(words, sizeof(words) / sizeof(*words), reason));
    return true;
}

/* A string, null, or a list of parts of which those of text count. */
static void read_content(struct reader *reader, const struct jv *content)
{
    if (!content || content->type != JV_ARRAY) {
        reader_add_text(reader, jv_string(content));
        return;
    }
    for (size_t i = 0; i < jv_count(content); i++) {
        reader_add_text(reader, jv_string(jv_find(jv_at(content, i), "text")));
        reader_note_progress(reader);
    }
}

static void read_calls(struct reader *reader, const struct jv *calls)
{
    for (size_t i = 0; i < jv_count(calls); i++) {
        const struct jv *call = jv_at(calls, i);
        const struct jv *function = jv_find(call, "function");
        const struct jv *arguments = jv_find(function, "arguments");
        int64_t key = jv_integer(jv_find(call, "index"), (int64_t)i);

        reader_call(reader, key, jv_string(jv_find(call, "id")),
                    jv_string(jv_find(function, "name")));
        if (jv_is_string(arguments))
            reader_add_arguments(reader, key, jv_string(arguments));
        else
            reader_set_arguments(reader, key, arguments);
    }
}

/* What is no answer yet shows that one is coming. */
static bool is_thinking(const struct jv *message)
{
    return jv_string(jv_find(message, "reasoning_content")).size > 0 ||
           jv_string(jv_find(message, "reasoning")).size > 0;
}

static bool read_choice(struct reader *reader, const struct jv *choice)
{
    const struct jv *message = jv_find(choice, "delta");
    const struct jv *content;

    if (!message)
        message = jv_find(choice, "message");
    content = jv_find(message, "content");
    read_content(reader, content);
    reader_add_refusal(reader, jv_string(jv_find(message, "refusal")));
    read_calls(reader, jv_find(message, "tool_calls"));
    if (jv_string(content).size == 0 && is_thinking(message))
        reader_note_progress(reader);
    return read_finish(reader, choice);
}

/* A chunk of a stream or the whole answer. */
bool openai_read_event(struct reader *reader, struct slice name,
                       const struct jv *chunk)
{
    const struct jv *choices = jv_find(chunk, "choices");
    const struct jv *usage = jv_find(chunk, "usage");

    (void)name;
    if (!usage)
        usage = jv_find(jv_find(chunk, "x_groq"), "usage");
    if (usage && usage->type == JV_OBJECT)
        read_usage(reader, usage);
    reader_set_model(reader, jv_string(jv_find(chunk, "model")));
    for (size_t i = 0; i < jv_count(choices); i++) {
        const struct jv *choice = jv_at(choices, i);

        if (jv_integer(jv_find(choice, "index"), 0) == 0 &&
            !read_choice(reader, choice))
            return false;
    }
    return true;
}

bool openai_read_document(struct reader *reader, const struct jv *answer)
{
    if (jv_count(jv_find(answer, "choices")) == 0)
        return reader_fail_bad(reader, "the answer has no choices");
    return openai_read_event(reader, slice_of(""), answer);
}

bool openai_read_embeddings(struct reader *reader, const struct jv *document)
{
    const struct jv *data = jv_find(document, "data");

    reader_set_model(reader, jv_string(jv_find(document, "model")));
    read_usage(reader, jv_find(document, "usage"));
    for (size_t i = 0; i < jv_count(data); i++) {
        const struct jv *item = jv_at(data, i);

        if (!reader_add_embedding(
                reader, jv_integer(jv_find(item, "index"), (int64_t)i),
                jv_find(item, "embedding")))
            return false;
    }
    return true;
}

const struct dialect dialect_openai = {
    .name = "openai",
    .stream = STREAM_EVENTS,
    .client_id = "X-Client-Request-Id: ",
    .answer_ids = {"x-request-id"},
    .address = address,
    .put_chat = put_chat,
    .put_embedding = openai_put_embedding,
    .read_event = openai_read_event,
    .read_document = openai_read_document,
    .read_embeddings = openai_read_embeddings,
    .read_limits = read_openai_limits,
};
