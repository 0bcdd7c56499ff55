/* The options that OpenAI's responses API gave rise to: which API is asked,
 * what is kept there, and the MCP servers whose tools a model may call. */
#include "api/decode_internal.h"

#include "llm_router/api/json_term.h"

enum { MCP_SERVERS_MAX_BYTES = 64 * 1024 /* as JSON, all together */ };

bool decode_api_version(struct decoder *decoder, const char *path,
                        struct term value)
{
    struct slice name;

    return decode_name(decoder, path, value, &name) &&
           (api_version_parse(name, &decoder->request->options.api_version) ||
            error_at(decoder->err, ERR_INVALID_REQUEST, path,
                     "must be responses or chat_completions"));
}

bool decode_store(struct decoder *decoder, const char *path, struct term value)
{
    bool store;

    if (!decode_boolean(decoder, path, value, &store))
        return false;
    decoder->request->options.store = store ? STORE_YES : STORE_NO;
    return true;
}

bool decode_previous_response_id(struct decoder *decoder, const char *path,
                                 struct term value)
{
    struct slice *id = &decoder->request->options.previous_response_id;
    bool good;

    if (!decode_text(decoder, path, value, id))
        return false;
    good = id->size > 0 && id->size <= REQUEST_RESPONSE_ID_MAX;
    for (size_t i = 0; i < id->size && good; i++)
        good = id->data[i] > ' ' && id->data[i] <= '~';
    return good ||
           error_at(decoder->err, ERR_INVALID_REQUEST, path,
                    "must be 1 to %d printable ASCII characters, no spaces",
                    REQUEST_RESPONSE_ID_MAX);
}

/* Is there text behind one of the two schemes? */
static bool is_web_address(struct slice url)
{
    return (slice_starts_with(url, "https://") &&
            url.size > strlen("https://")) ||
           (slice_starts_with(url, "http://") && url.size > strlen("http://"));
}

static bool is_text_or_absent(const struct jv *value)
{
    return !value || value->type == JV_NULL || jv_string(value).size > 0;
}

/* What is said here of a member never quotes it: it may be a secret. */
static bool check_server(const struct jv *server, struct error *err)
{
    static const char *const texts[] = {"server_label", "type", "server_url",
                                        "connector_id", "tunnel_id"};
    struct slice type = jv_string(jv_find(server, "type"));
    struct slice url = jv_string(jv_find(server, "server_url"));

    if (server->type != JV_OBJECT)
        return error_set(err, ERR_INVALID_REQUEST, "must be a map, got %s",
                         jv_type_name(server));
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (!is_text_or_absent(jv_find(server, texts[i])))
            return error_at(err, ERR_INVALID_REQUEST, texts[i],
                            "must be a string with something in it");
    if (jv_string(jv_find(server, "server_label")).size == 0)
        return error_at(err, ERR_INVALID_REQUEST, "server_label", "is missing");
    if (type.size > 0 && !slice_is(type, "mcp"))
        return error_at(err, ERR_INVALID_REQUEST, "type", "must be mcp");
    if (url.size > 0 && !is_web_address(url))
        return error_at(err, ERR_INVALID_REQUEST, "server_url",
                        "must begin with https:// or http://");
    return url.size > 0 ||
           jv_string(jv_find(server, "connector_id")).size > 0 ||
           jv_string(jv_find(server, "tunnel_id")).size > 0 ||
           error_at(err, ERR_INVALID_REQUEST, "server_url",
                    "is missing, and so are connector_id and tunnel_id");
}

static bool is_small(const struct jv *servers)
{
    struct buf json;
    bool fits;

    buf_init(&json, MCP_SERVERS_MAX_BYTES);
    jv_put(&json, servers);
    fits = !json.failed;
    buf_release(&json);
    return fits;
}

bool decode_mcp_servers(struct decoder *decoder, const char *path,
                        struct term value)
{
    struct term_list list;
    struct term kept;
    struct jv *servers;

    if (!open_list(decoder, path, value, REQUEST_MCP_SERVERS_MAX, &list))
        return false;
    if (list.left == 0)
        return true;
    kept = term_from_raw(arena_copy(decoder->arena, term_raw(value)));
    if (!json_from_term(kept, JSON_TERM_STRICT, decoder->arena, &servers,
                        decoder->err))
        return error_in(decoder->err, path);
    if (servers->type != JV_ARRAY)
        return refuse_kind(decoder, path, "a list of maps", value);
    for (size_t i = 0; i < jv_count(servers); i++)
        if (!check_server(jv_at(servers, i), decoder->err))
            return error_in_element(decoder, path, i);
    if (!is_small(servers))
        return error_at(decoder->err, ERR_TOO_LARGE, path,
                        "over %d bytes as JSON", MCP_SERVERS_MAX_BYTES);
    decoder->request->options.mcp_servers = servers;
    return true;
}

bool check_api_version(struct decoder *decoder, const char *path)
{
    struct options *options = &decoder->request->options;
    bool goes_on = options->previous_response_id.size > 0;

    if (!goes_on && !options->mcp_servers)
        return true;
    if (options->api_version == API_VERSION_CHAT)
        return error_at(decoder->err, ERR_INVALID_REQUEST, path,
                        "%s needs the responses API",
                        goes_on ? "previous_response_id" : "mcp_servers");
    options->api_version = API_VERSION_RESPONSES;
    return true;
}
