/* Azure OpenAI: OpenAI's APIs under other addresses.
 *
 * A base URL that ends in /openai/v1 takes OpenAI's own paths; any other is
 * the resource, where the model is a deployment's name in the path and the
 * version of the API a parameter. The responses API is only below /openai/v1,
 * which every resource has. Deployments filter content: a filtered prompt is a
 * 400 with the code content_filter. */
#include "provider/openai_internal.h"

static const char VERSION[] = "2024-10-21"; /* generally available */

/* Keeping answers came after VERSION; by itself nothing is kept. */
static const struct openai_words DATED_WORDS = {
    .max_tokens = "max_completion_tokens",
    .seed = "seed",
    .stream_options = true,
};

static bool has_own_paths(const struct question *question)
{
    return url_ends_with(question->endpoint->base_url, "/openai/v1");
}

/* The path behind the resource. */
static const char *find_path(const struct question *question,
                             struct arena *arena)
{
    const struct endpoint *endpoint = question->endpoint;
    const char *action =
        question_embeds(question) ? "/embeddings" : "/chat/completions";
    struct slice version = endpoint->api_version;

    if (has_own_paths(question))
        return action;
    if (version.size == 0)
        version = slice_of(VERSION);
    return arena_printf(arena, "/openai/deployments/%s%s?api-version=%s",
                        url_escape(arena, question->candidate->model), action,
                        url_escape(arena, version))
        .data;
}

static bool add_headers(const struct question *question, struct arena *arena,
                        struct provider_request *request, struct error *err)
{
    return request_add_json_headers(arena, request, err) &&
           request_add_header(arena, request,
                              "api-key: ", question->endpoint->api_key, err);
}

static bool address(const struct question *question, struct arena *arena,
                    struct provider_request *request, struct error *err)
{
    return request_set_url(arena, request, question->endpoint->base_url,
                           find_path(question, arena), err) &&
           add_headers(question, arena, request, err);
}

static void put_chat(const struct question *question, struct buf *body)
{
    openai_put_chat(
        question, has_own_paths(question) ? &OPENAI_WORDS : &DATED_WORDS, body);
}

static bool address_responses(const struct question *question,
                              struct arena *arena,
                              struct provider_request *request,
                              struct error *err)
{
    const char *path =
        has_own_paths(question) ? "/responses" : "/openai/v1/responses";

    return responses_check(question, err) &&
           request_set_url(arena, request, question->endpoint->base_url, path,
                           err) &&
           add_headers(question, arena, request, err);
}

const struct dialect dialect_azure = {
    .name = "azure",
    .stream = STREAM_EVENTS,
    .client_id = "x-ms-client-request-id: ",
    .answer_ids = {"apim-request-id", "x-ms-request-id", "x-request-id"},
    .address = address,
    .put_chat = put_chat,
    .put_embedding = openai_put_embedding,
    .read_event = openai_read_event,
    .read_document = openai_read_document,
    .read_embeddings = openai_read_embeddings,
    .read_limits = read_openai_limits,
};

const struct dialect dialect_azure_responses = {
    .name = "azure_responses",
    .stream = STREAM_EVENTS,
    .state_size = sizeof(struct responses_state),
    .client_id = "x-ms-client-request-id: ",
    .answer_ids = {"apim-request-id", "x-ms-request-id", "x-request-id"},
    .address = address_responses,
    .put_chat = responses_put_chat,
    .read_event = responses_read_event,
    .read_document = responses_read_document,
    .read_limits = read_openai_limits,
};
