#include "tests/unit.h"

#include "llm_router/core/quote.h"

static bool quotes(const char *text, const char *content)
{
    struct message messages[] = {
        {.role = ROLE_SYSTEM,
         .content = SLICE_LITERAL("You are a senior engineer.")},
        {.role = ROLE_USER, .content = slice_of(content)},
    };
    const struct chat chat = {.messages = messages, .message_count = 2};

    return quotes_chat(slice_of(text), &chat);
}

static void a_part_of_the_prompt_is_found_wherever_it_is(void **state)
{
    (void)state;
    assert_true(quotes("bad: \"the merger is on Tuesday\"",
                       "Tell them that the merger is on Tuesday, please"));
    assert_true(quotes("merger is on Tue", "merger is on Tue"));
    assert_true(quotes("x You are a senior engineer x", ""));
}

static void other_words_are_no_quotation(void **state)
{
    (void)state;
    assert_false(quotes("Incorrect API key provided", "the merger is on"));
    assert_false(quotes("merger is on Tu", "merger is on Tuesday"));
    assert_false(quotes("", ""));
}

static void every_window_is_looked_at(void **state)
{
    char content[300], text[40];

    (void)state;
    for (size_t i = 0; i < sizeof(content) - 1; i++)
        content[i] = (char)('a' + i * i % 23);
    content[sizeof(content) - 1] = '\0';
    for (size_t at = 0; at + QUOTE_MIN < sizeof(content); at++) {
        memset(text, '-', sizeof(text));
        memcpy(text + at % 20, content + at, QUOTE_MIN);
        text[sizeof(text) - 1] = '\0';
        assert_true(quotes(text, content));
        text[at % 20 + 7] = '!';
        assert_false(quotes(text, content));
    }
}

static void tools_their_calls_and_texts_to_embed_are_looked_into(void **state)
{
    static const char words[] = "the merger is on Tuesday";
    struct slice text = slice_of("bad: \"the merger is on Tuesday\"");
    const struct slice inputs[] = {SLICE_LITERAL("x"), slice_of(words)};
    const struct tool_call calls[] = {{.arguments = slice_of(words)}};
    const struct tool described[] = {{.description = slice_of(words)}};
    const struct tool typed[] = {{.parameters = slice_of(words)}};
    struct message message = {.tool_calls = calls, .tool_call_count = 1};

    (void)state;
    assert_true(
        quotes_chat(text, &(struct chat){.inputs = inputs, .input_count = 2}));
    assert_false(
        quotes_chat(text, &(struct chat){.inputs = inputs, .input_count = 1}));
    assert_true(quotes_chat(
        text, &(struct chat){.messages = &message, .message_count = 1}));
    assert_true(
        quotes_chat(text, &(struct chat){.tools = described, .tool_count = 1}));
    assert_true(
        quotes_chat(text, &(struct chat){.tools = typed, .tool_count = 1}));
}

static void secrets_of_mcp_servers_are_told_by_a_short_piece(void **state)
{
    struct arena arena;
    struct error err;
    struct jv *servers;
    struct chat chat = {.message_count = 0};

    (void)state;
    arena_init(&arena, 0);
    assert_true(jv_parse(
        &arena,
        slice_of("[{\"server_label\":\"docs-of-ours\","
                 "\"server_url\":\"https://mcp.example/v1?key=aa81\"},"
                 "{\"server_label\":\"mail\",\"authorization\":\"tok-1x9q\","
                 "\"headers\":{\"X-Key\":\"Bearer hunter2hunter2\"},"
                 "\"allowed_tools\":[\"send_mail_to_everybody\"]}]"),
        JV_STRICT, &JV_DEFAULT_LIMITS, NULL, &servers, &err));
    chat.mcp_servers = servers;
    assert_true(quotes_chat(slice_of("tok-1x9q"), &chat));
    assert_true(quotes_chat(slice_of("401 from the server: r2hunter."), &chat));
    assert_true(
        quotes_chat(slice_of("cannot reach mcp.example/v1?key=aa81"), &chat));
    assert_true(quotes_chat(slice_of("no send_mail_to_everyb"), &chat));
    assert_false(quotes_chat(slice_of("tok-1x9"), &chat));
    assert_false(quotes_chat(slice_of("the token is tok-1x9, no?"), &chat));
    assert_false(quotes_chat(slice_of("docs-of-ours said 401, see "
                                      "https://platform.example"),
                             &chat));
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_of_the_prompt_is_found_wherever_it_is),
        cmocka_unit_test(other_words_are_no_quotation),
        cmocka_unit_test(every_window_is_looked_at),
        cmocka_unit_test(tools_their_calls_and_texts_to_embed_are_looked_into),
        cmocka_unit_test(secrets_of_mcp_servers_are_told_by_a_short_piece),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
