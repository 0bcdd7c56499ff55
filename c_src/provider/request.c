#include <math.h>

#include "provider/dialects_internal.h"

enum {
    REQUEST_BODY_MAX = 64 * 1024 * 1024,
    CLIENT_ID_MAX = 512, /* OpenAI refuses longer ones */
};

static bool has_control(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7F)
            return true;
    return false;
}

/* NUL-terminated; on the path of every call, where printf costs microseconds.
 */
static const char *join(struct arena *arena, struct slice a, struct slice b)
{
    char *text = arena_bytes(arena, a.size + b.size + 1);

    memcpy(text, a.data, a.size);
    memcpy(text + a.size, b.data, b.size);
    text[a.size + b.size] = '\0';
    return text;
}

static struct slice without_slashes(struct slice base_url)
{
    while (base_url.size > 0 && base_url.data[base_url.size - 1] == '/')
        base_url.size--;
    return base_url;
}

bool url_ends_with(struct slice base_url, const char *end)
{
    size_t size = strlen(end);

    base_url = without_slashes(base_url);
    return base_url.size >= size &&
           !memcmp(base_url.data + base_url.size - size, end, size);
}

bool request_set_url(struct arena *arena, struct provider_request *request,
                     struct slice base_url, const char *path, struct error *err)
{
    base_url = without_slashes(base_url);
    if (base_url.size == 0 || has_control(base_url) ||
        memchr(base_url.data, ' ', base_url.size))
        return error_set(err, ERR_INVALID_REQUEST,
                         "the provider's base URL is not valid");
    request->url = join(arena, base_url, slice_of(path));
    return true;
}

/* Letters, digits and these stand for themselves (RFC 3986). */
static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
           c == '~';
}

const char *url_escape(struct arena *arena, struct slice text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = arena_bytes(arena, text.size * 3 + 1);
    size_t size = 0;

    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];

        if (is_unreserved(text.data[i])) {
            out[size++] = text.data[i];
            continue;
        }
        out[size++] = '%';
        out[size++] = hex[c >> 4];
        out[size++] = hex[c & 15];
    }
    out[size] = '\0';
    return out;
}

bool request_add_header(struct arena *arena, struct provider_request *request,
                        const char *start, struct slice value,
                        struct error *err)
{
    if (value.size == 0)
        return true;
    if (has_control(value))
        return error_set(err, ERR_INVALID_REQUEST,
                         "the value after \"%s\" has a control character",
                         start);
    if (request->header_count == PROVIDER_HEADERS_MAX)
        return error_set(err, ERR_INVALID_REQUEST, "too many headers");
    request->headers[request->header_count++] =
        join(arena, slice_of(start), value);
    return true;
}

bool is_visible(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] <= ' ' || text.data[i] >= 0x7F)
            return false;
    return text.size > 0;
}

/* One that cannot be sent is not worth an error. */
static bool add_client_id(const struct dialect *dialect, struct slice id,
                          struct arena *arena, struct provider_request *request,
                          struct error *err)
{
    return !dialect->client_id || !is_visible(id) || id.size > CLIENT_ID_MAX ||
           request_add_header(arena, request, dialect->client_id, id, err);
}

bool request_add_json_headers(struct arena *arena,
                              struct provider_request *request,
                              struct error *err)
{
    return request_add_header(arena, request, "Content-Type: ",
                              SLICE_LITERAL("application/json"), err) &&
           request_add_header(
               arena, request,
               "Accept: ", SLICE_LITERAL("text/event-stream, application/json"),
               err);
}

enum structured_mode question_structured(const struct candidate *candidate,
                                         const struct chat *chat)
{
    enum structured_mode mode = candidate && candidate->entry
                                    ? candidate->entry->structured
                                    : STRUCTURED_SCHEMA;

    if (chat->schema.size == 0)
        return STRUCTURED_PROMPT;
    /* JSON mode, too, would keep the model from calling. */
    if (chat_has_tools(chat) && mode != STRUCTURED_SCHEMA)
        return STRUCTURED_PROMPT;
    return mode;
}

void question_tools(const struct question *question, struct tool_offer *offer)
{
    const struct chat *chat = question->chat;

    *offer = (struct tool_offer){
        .tools = chat->tools,
        .count = chat->tool_count,
        .choice = chat->tool_choice,
        .choice_name = chat->tool_name,
    };
    if (question_structured(question->candidate, chat) != STRUCTURED_TOOL)
        return;
    offer->forced =
        (struct tool){.name = chat->schema_name, .parameters = chat->schema};
    offer->tools = &offer->forced;
    offer->count = 1;
    offer->choice = TOOL_CHOICE_NAMED;
    offer->choice_name = chat->schema_name;
}

/* What has to go with tools is said of the API that the catalogue names. */
static bool is_other_api(const struct model *known, const struct chat *chat)
{
    return chat->api_version == API_VERSION_RESPONSES &&
           known->tools_api == API_CHAT;
}

enum effort question_effort(const struct question *question)
{
    const struct model *known = question->candidate->entry;
    const struct chat *chat = question->chat;
    enum effort effort = chat->effort;

    if (known && chat_has_tools(chat) && !is_other_api(known, chat) &&
        known->tools_effort != EFFORT_UNSET)
        return known->tools_effort;
    if (known && known->efforts != 0 && !(known->efforts & 1u << effort))
        return EFFORT_UNSET;
    return effort;
}

bool question_samples(const struct question *question)
{
    const struct model *known = question->candidate->entry;

    return !known || known->sampling;
}

static void put_key(struct buf *body, const char *key)
{
    buf_append_text(body, ",\"");
    buf_append_text(body, key);
    buf_append_text(body, "\":");
}

void put_number_member(struct buf *body, const char *key, double value)
{
    if (isnan(value))
        return;
    put_key(body, key);
    jv_put_number(body, value);
}

void put_count_member(struct buf *body, const char *key, int64_t value)
{
    if (value == 0)
        return;
    put_key(body, key);
    buf_printf(body, "%lld", (long long)value);
}

void put_texts_member(struct buf *body, const char *key,
                      const struct slice *texts, size_t count)
{
    if (count == 0)
        return;
    put_key(body, key);
    for (size_t i = 0; i < count; i++) {
        buf_append_byte(body, i > 0 ? ',' : '[');
        jv_put_string(body, texts[i]);
    }
    buf_append_byte(body, ']');
}

/* About what will be written, so that the buffer seldom moves. */
static size_t estimate_body(const struct chat *chat)
{
    size_t size = 512 + chat->schema.size;

    for (size_t i = 0; i < chat->message_count; i++)
        size += 64 + chat->messages[i].content.size / 8 * 9;
    for (size_t i = 0; i < chat->tool_count; i++)
        size += 128 + chat->tools[i].description.size +
                chat->tools[i].parameters.size;
    for (size_t i = 0; i < chat->input_count; i++)
        size += 8 + chat->inputs[i].size / 8 * 9;
    return size < REQUEST_BODY_MAX ? size : REQUEST_BODY_MAX;
}

bool dialect_build(const struct dialect *dialect,
                   const struct endpoint *endpoint,
                   const struct candidate *candidate, const struct chat *chat,
                   struct arena *arena, struct provider_request *request,
                   struct error *err)
{
    const struct question question = {endpoint, candidate, chat};

    *request = (struct provider_request){.header_count = 0};
    if (question_embeds(&question) && !dialect->read_embeddings)
        return error_set(err, ERR_INVALID_REQUEST, "%s has no embeddings",
                         dialect->name);
    return dialect->address(&question, arena, request, err) &&
           add_client_id(dialect, endpoint->request_id, arena, request, err);
}

bool dialect_put_body(const struct dialect *dialect,
                      const struct endpoint *endpoint,
                      const struct candidate *candidate,
                      const struct chat *chat, struct buf *body,
                      struct error *err)
{
    const struct question question = {endpoint, candidate, chat};

    buf_init(body, REQUEST_BODY_MAX);
    buf_reserve(body, estimate_body(chat));
    if (question_embeds(&question))
        dialect->put_embedding(&question, body);
    else
        dialect->put_chat(&question, body);
    return !body->failed ||
           error_set(err, ERR_TOO_LARGE, "the request is over %d bytes",
                     REQUEST_BODY_MAX);
}
