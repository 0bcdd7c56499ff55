/* Azure OpenAI: OpenAI's chat completions under other addresses.
 *
 * A base URL that ends in /openai/v1 takes OpenAI's own paths; any other is
 * the resource, where the model is a deployment's name in the path and the
 * version of the API a parameter. Deployments filter content: a filtered
 * prompt is a 400 with the code content_filter. */
#include "provider/openai_internal.h"

static const char VERSION[] = "2024-10-21"; /* generally available */

/* The path behind the resource. */
static const char *find_path(const struct question *question,
                             struct arena *arena)
{
    const struct endpoint *endpoint = question->endpoint;
    const char *action =
        question_embeds(question) ? "/embeddings" : "/chat/completions";
    struct slice version = endpoint->api_version;

    if (url_ends_with(endpoint->base_url, "/openai/v1"))
        return action;
    if (version.size == 0)
        version = slice_of(VERSION);
    return arena_printf(arena, "/openai/deployments/%s%s?api-version=%s",
                        url_escape(arena, question->candidate->model), action,
                        url_escape(arena, version))
        .data;
}

static bool address(const struct question *question, struct arena *arena,
                    struct provider_request *request, struct error *err)
{
    const struct endpoint *endpoint = question->endpoint;

    return request_set_url(arena, request, endpoint->base_url,
                           find_path(question, arena), err) &&
           request_add_json_headers(arena, request, err) &&
           request_add_header(arena, request, "api-key: ", endpoint->api_key,
                              err);
}

static void put_chat(const struct question *question, struct buf *body)
{
    openai_put_chat(question, &OPENAI_WORDS, body);
}

const struct dialect dialect_azure = {
    .name = "azure",
    .stream = STREAM_EVENTS,
    .address = address,
    .put_chat = put_chat,
    .put_embedding = openai_put_embedding,
    .read_event = openai_read_event,
    .read_document = openai_read_document,
    .read_embeddings = openai_read_embeddings,
    .read_limits = read_openai_limits,
};
