#include "llm_router/api/call.h"

#include <math.h>

#include "api/decode_internal.h"
#include "test_api_terms.h"
#include "tests/external.h"

static struct arena arena;
static struct call call;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

/* The message is gone before the call is looked at: what the call keeps, it
 * keeps as a copy. */
static void forget(struct slice bytes)
{
    explicit_bzero((char *)bytes.data, bytes.size);
    mem_free((char *)bytes.data);
}

static void decode_bytes(struct slice bytes)
{
    call_decode_message(external_term(bytes), &arena, &call);
    forget(bytes);
}

static void decode_hex(const char *hex)
{
    decode_bytes(hex_bytes(hex));
}

static void decode(const char *message)
{
    decode_bytes(term_bytes(message));
}

/* `op` as GenServer.call sends it. */
static void decode_op(const char *op)
{
    char message[4096];

    snprintf(message, sizeof(message),
             "{'$gen_call', {PID, [alias | REF]}, %s}", op);
    decode(message);
}

static bool decode_rpc(const char *module, const char *function,
                       const char *arguments)
{
    struct slice bytes = term_bytes(arguments);
    bool known = call_decode_rpc(slice_of(module), slice_of(function),
                                 external_term(bytes), &arena, &call);

    forget(bytes);
    return known;
}

/* `raw` is the term of `source`, without a version byte. */
static void assert_raw(struct slice raw, const char *source)
{
    struct slice expected = term_bytes(source);

    assert_int_equal(raw.size, expected.size - 1);
    assert_memory_equal(raw.data, expected.data + 1, raw.size);
    mem_free((char *)expected.data);
}

static void assert_request(enum operation operation)
{
    if (call.kind == CALL_REJECTED)
        fail_msg("%s: %s", call.error.path, call.error.message);
    assert_int_equal(call.kind, CALL_REQUEST);
    assert_int_equal(call.request.operation, operation);
}

static void assert_rejected(enum error_code code, const char *path)
{
    assert_int_equal(call.kind, CALL_REJECTED);
    assert_string_equal(call.error.path, path);
    assert_int_equal(call.error.code, code);
    assert_true(strlen(call.error.message) > 0);
    assert_true(utf8_is_valid(slice_of(call.error.message)));
}

/* --- forms, as OTP 25.2.3 sent them to a process of the node router@vm --- */

static void a_gen_server_call_is_answered_to_its_alias(void **state)
{
    (void)state;
    decode_hex("8368036400092467656e5f63616c6c68025864000963616c6c657240766d00"
               "00005a000000006b02e4f26c00000001640005616c6961735a000364000963"
               "616c6c657240766d6b02e4f20003c497ca3900015531e7a664000470696e6"
               "7");
    assert_request(OP_PING);
    assert_int_equal(call.reply.form, REPLY_GEN);
    assert_raw(call.reply.pid, "PID");
    assert_raw(call.reply.alias, "REF");
    assert_raw(call.reply.reference, "REF");
    assert_int_equal(call.reply.tag.size, 44);
    assert_int_equal(call.acknowledge.form, REPLY_NONE);
}

static void a_send_request_carries_its_options(void **state)
{
    (void)state;
    decode_hex(
        "8368036400092467656e5f63616c6c68025864000963616c6c657240766d0000005b"
        "000000006b02e4f26c00000001640005616c6961735a000364000963616c6c657240"
        "766d6b02e4f20003c498ca3900015531e7a6680364000d67656e65726174655f7461"
        "736b6d000000104164642061206c6f67696e20706167657400000001640007"
        "74696d656f75746200001f40");
    assert_request(OP_GENERATE_TASK);
    assert_slice(call.request.text, "Add a login page");
    assert_int_equal(call.request.options.timeout_ms, 8000);
    assert_true(call.reply.alias.size > 0);
}

static void a_multi_call_has_a_tag_without_a_monitor(void **state)
{
    (void)state;
    decode_hex("8368036400092467656e5f63616c6c68025864000963616c6c657240766d00"
               "00005e000000006b02e4f268025a000364000963616c6c657240766d6b02e4"
               "f20003c49aca3800015531e7a6640009726f7574657240766d640007766572"
               "73696f6e");
    assert_request(OP_VERSION);
    assert_int_equal(call.reply.form, REPLY_GEN);
    assert_int_equal(call.reply.alias.size, 0);
    assert_int_equal(call.reply.reference.size, 0);
    assert_int_equal(call.reply.tag.data[0], 'h');
}

static void a_cast_with_a_pid_is_answered_by_name(void **state)
{
    (void)state;
    decode_hex("8368026400092467656e5f63617374680364000d67656e65726174655f7461"
               "736b6d000000104164642061206c6f67696e20706167655864000963616c6c"
               "657240766d0000005f000000006b02e4f2");
    assert_request(OP_GENERATE_TASK);
    assert_int_equal(call.reply.form, REPLY_NAMED);
    assert_int_equal(call.reply.pid.data[0], 'X');
    assert_slice(call.request.text, "Add a login page");
}

static void a_cast_without_a_pid_is_ignored(void **state)
{
    (void)state;
    decode_hex("8368026400092467656e5f6361737464000470696e67");
    assert_int_equal(call.kind, CALL_IGNORED);
    decode("{'$gen_cast', {generate_task, <<\"Add a login\">>}}");
    assert_int_equal(call.kind, CALL_IGNORED);
    decode("{'$gen_cast', {parse_prd, <<\"# A shop\">>, 3, [{timeout, 9}]}}");
    assert_int_equal(call.kind, CALL_IGNORED);
    decode("{'$gen_cast', drain}");
    assert_int_equal(call.kind, CALL_IGNORED);
}

static void a_prd_request_is_answered_as_one(void **state)
{
    (void)state;
    decode_hex("83680564000b7072645f726571756573745864000963616c6c657240766d00"
               "000061000000006b02e4f26802640003616e796d000000057468696e676b00"
               "0d2320412073686f700a436172746103");
    assert_request(OP_PARSE_PRD);
    assert_int_equal(call.reply.form, REPLY_PRD);
    assert_slice(call.request.text, "# A shop\nCart");
    assert_int_equal(call.request.count, 3);
}

static void an_llm_request_is_answered_with_its_reference(void **state)
{
    (void)state;
    decode_hex(
        "83680464000b6c6c6d5f726571756573745864000963616c6c657240766d00000062"
        "000000006b02e4f25a000364000963616c6c657240766d6b02e4f20003c49fca3800"
        "015531e7a6680464000970617273655f7072646d000000082320412073686f706100"
        "6c00000001680264000b74656d7065726174757265463fe00000000000006a");
    assert_request(OP_PARSE_PRD);
    assert_int_equal(call.reply.form, REPLY_RESPONSE);
    assert_int_equal(call.reply.tag.data[0], 'Z');
    assert_int_equal(call.reply.alias.size, 0);
    assert_true(call.request.options.temperature == 0.5);
}

static void a_named_message_with_a_reference_is_answered_with_it(void **state)
{
    (void)state;
    decode_hex(
        "83680464000b657870616e645f7461736b740000000461014640040000000000006400"
        "056f776e65725864000963616c6c657240766d00000063000000006b02e4f264000474"
        "6167736c000000036b0001616d00000001626400036e696c6a6400057469746c656d00"
        "0000054c6f67696e5864000963616c6c657240766d00000063000000006b02e4f25a00"
        "0364000963616c6c657240766d6b02e4f20003c4a0ca3800015531e7a6");
    assert_request(OP_EXPAND_TASK);
    assert_int_equal(call.reply.form, REPLY_RESPONSE);
    assert_int_equal(call.reply.tag.data[0], 'Z');
    assert_slice(call.request.text,
                 "{\"tags\":[[97],\"b\",null],\"title\":\"Login\"}");
    assert_int_equal(call.request.caller_task.data[0], 't');
    assert_false(call.request.caller_task_strings);
}

static void sys_requests_are_told_apart(void **state)
{
    (void)state;
    decode_hex("83680364000673797374656d68025864000963616c6c657240766d00000064"
               "000000006b02e4f26c00000001640005616c6961735a000364000963616c6c"
               "657240766d6b02e4f20003c4a3ca3900015531e7a66400096765745f737461"
               "7465");
    assert_int_equal(call.kind, CALL_SYSTEM);
    assert_int_equal(call.system, SYSTEM_GET_STATE);
    assert_int_equal(call.reply.form, REPLY_GEN);
    assert_true(call.reply.alias.size > 0);
    decode("{system, {PID, [alias | REF]}, get_status}");
    assert_int_equal(call.system, SYSTEM_GET_STATUS);
    /* gen_server:stop */
    decode_hex("83680364000673797374656d68025864000963616c6c657240766d00000066"
               "000000006b02e4f26c00000001640005616c6961735a000364000963616c6c"
               "657240766d6b02e4f20003c4a6ca3900015531e7a668026400097465726d69"
               "6e6174656400066e6f726d616c");
    assert_int_equal(call.kind, CALL_SYSTEM);
    assert_int_equal(call.system, SYSTEM_OTHER);
}

static void a_charlist_of_wide_characters_is_text(void **state)
{
    (void)state;
    decode_hex("8368036400092467656e5f63616c6c68025864000963616c6c657240766d00"
               "000069000000006b02e4f26c00000001640005616c6961735a000364000963"
               "616c6c657240766d6b02e4f20003c4acca3900015531e7a668036400106361"
               "6c6c5f776974685f70726f6d707464000673696d706c656c00000002620000"
               "4e2d61786a");
    assert_request(OP_CALL_WITH_PROMPT);
    assert_slice(call.request.messages[0].content, "中x");
}

static void strays_are_ignored(void **state)
{
    static const char *const strays[] = {
        "{PID, ping}", /* the old caller form */
        "{PID, {PID, [alias | REF]}, {call, a, ping}}", /* gen_event:call */
        "ping",
        "{ping}",
        "{generate_task, <<\"x\">>}",
        "{generate_task, <<\"x\">>, not_a_pid}",
        "{generate_task, <<\"x\">>, not_a_pid, REF}",
        "{generate_task, <<\"x\">>, PID, REF, more}",
        "{llm_request, not_a_pid, REF, ping}",
        "{llm_request, PID, REF}",
        "{prd_request, PID, from, <<\"x\">>}",
        "{'$gen_call', PID, ping}",
        "{'$gen_call', {not_a_pid, REF}, ping}",
        "{'$gen_call', {PID, REF}}",
        "{'$gen_call', {PID, REF}, ping, more}",
        "{system, {PID}, get_state}",
        "{'DOWN', REF, process, PID, normal}",
        "{nodedown, a@b}",
        "{}",
        "#{a => b}",
        "<<\"text\">>",
        "[]",
        "\"text\"",
        "17",
        "PID",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(strays) / sizeof(*strays); i++) {
        decode(strays[i]);
        if (call.kind != CALL_IGNORED)
            fail_msg("taken: %s", strays[i]);
    }
}

static void tags_say_where_the_answer_goes(void **state)
{
    static const struct {
        const char *tag;
        bool has_alias, has_reference;
    } cases[] = {
        {"REF", false, true},
        {"[alias | REF]", true, true},
        {"[[alias | REF] | label]", true, true},
        {"[[alias | REF]]", true, true},
        {"{REF, node}", false, false},
        {"[alias | 17]", false, false},
        {"[alias, REF]", false, false},
        {"[alias | [REF]]", false, false},
        {"[[] | REF]", false, false},
        {"[]", false, false},
        {"\"tag\"", false, false},
        {"tag", false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct slice pid = term_bytes("PID"), tag = term_bytes(cases[i].tag);
        struct reply_address reply =
            reply_address_gen(slice_make(pid.data + 1, pid.size - 1),
                              slice_make(tag.data + 1, tag.size - 1));

        assert_int_equal(reply.form, REPLY_GEN);
        assert_raw(reply.tag, cases[i].tag);
        if (cases[i].has_alias)
            assert_raw(reply.alias, "REF");
        else
            assert_int_equal(reply.alias.size, 0);
        if (cases[i].has_reference)
            assert_raw(reply.reference, "REF");
        else
            assert_int_equal(reply.reference.size, 0);
        mem_free((char *)pid.data);
        mem_free((char *)tag.data);
    }
}

static void a_call_of_a_form_with_a_pid_is_acknowledged(void **state)
{
    static const struct {
        const char *op;
        enum reply_form form;
        enum operation operation;
    } cases[] = {
        {"{generate_task, <<\"x\">>, PID}", REPLY_NAMED, OP_GENERATE_TASK},
        {"{generate_task, <<\"x\">>, PID, REF}", REPLY_RESPONSE,
         OP_GENERATE_TASK},
        {"{parse_prd, <<\"x\">>, 3, PID}", REPLY_NAMED, OP_PARSE_PRD},
        {"{parse_prd, <<\"x\">>, 3, PID, any}", REPLY_RESPONSE, OP_PARSE_PRD},
        {"{research, <<\"x\">>, <<>>, PID}", REPLY_NAMED, OP_RESEARCH},
        {"{research, <<\"x\">>, nil, PID, REF}", REPLY_RESPONSE, OP_RESEARCH},
        {"{expand_task, <<\"x\">>, PID}", REPLY_NAMED, OP_EXPAND_TASK},
        {"{expand_task, #{title => <<\"x\">>}, PID, {a, 1}}", REPLY_RESPONSE,
         OP_EXPAND_TASK},
        {"{prd_request, PID, from, <<\"x\">>, 3}", REPLY_PRD, OP_PARSE_PRD},
        {"{llm_request, PID, REF, ping}", REPLY_RESPONSE, OP_PING},
        {"{llm_request, PID, 1, {call_with_prompt, simple, \"x\", #{}}}",
         REPLY_RESPONSE, OP_CALL_WITH_PROMPT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        decode_op(cases[i].op);
        assert_request(cases[i].operation);
        assert_int_equal(call.reply.form, cases[i].form);
        assert_raw(call.reply.pid, "PID");
        assert_int_equal(call.acknowledge.form, REPLY_GEN);
        assert_raw(call.acknowledge.tag, "[alias | REF]");
        assert_raw(call.acknowledge.alias, "REF");
    }
}

static void an_error_of_a_form_with_a_pid_goes_to_the_pid(void **state)
{
    (void)state;
    decode("{generate_task, 17, PID, REF}");
    assert_rejected(ERR_INVALID_REQUEST, "prompt");
    assert_int_equal(call.reply.form, REPLY_RESPONSE);
    decode("{'$gen_cast', {prd_request, PID, from, <<\"x\">>, 101}}");
    assert_rejected(ERR_INVALID_REQUEST, "num_tasks");
    assert_int_equal(call.reply.form, REPLY_PRD);
    decode("{llm_request, PID, REF, {frobnicate}}");
    assert_rejected(ERR_UNKNOWN_REQUEST, "");
    assert_int_equal(call.reply.form, REPLY_RESPONSE);
    /* No taker inside a taker. */
    decode("{llm_request, PID, REF, {generate_task, <<\"x\">>, PID}}");
    assert_rejected(ERR_INVALID_REQUEST, "opts");
}

/* --- operations --- */

static void bare_operations_are_atoms(void **state)
{
    static const enum operation bare[] = {
        OP_PING,   OP_VERSION, OP_HEALTH, OP_STATS,
        OP_MODELS, OP_RELOAD,  OP_DRAIN,  OP_AVAILABLE_MODELS};
    char tuple[64];

    (void)state;
    for (size_t i = 0; i < sizeof(bare) / sizeof(*bare); i++) {
        decode_op(operation_atom(bare[i]));
        assert_request(bare[i]);
        snprintf(tuple, sizeof(tuple), "{%s}", operation_atom(bare[i]));
        decode_op(tuple);
        assert_request(bare[i]);
        assert_true(decode_rpc("llm_router", operation_atom(bare[i]), "[]"));
        assert_request(bare[i]);
        assert_false(decode_rpc("llm_router", operation_atom(bare[i]), "[1]"));
    }
    decode_op("{ping, 1}");
    assert_rejected(ERR_INVALID_REQUEST, "");
}

static void what_is_not_said_has_its_default(void **state)
{
    const struct options *options = &call.request.options;

    (void)state;
    decode_op("{parse_prd, <<\"# A shop\">>, 0}");
    assert_request(OP_PARSE_PRD);
    assert_slice(call.request.text, "# A shop");
    assert_int_equal(call.request.count, 0);
    assert_int_equal(options->model.size, 0);
    assert_int_equal(options->complexity, COMPLEXITY_UNSET);
    assert_int_equal(options->timeout_ms, 0);
    assert_int_equal(options->max_tokens, 0);
    assert_true(isnan(options->temperature));
    assert_true(isnan(options->top_p));
    assert_false(options->has_seed);
    assert_int_equal(options->effort, EFFORT_UNSET);
    assert_int_equal(options->tool_choice, TOOL_CHOICE_UNSET);
    assert_int_equal(options->cache, CACHE_DEFAULT);
    assert_int_equal(options->metadata.size, 0);
    assert_null(options->schema);
    assert_int_equal(options->keys, KEYS_DEFAULT);
    assert_false(options->full);
    assert_false(options->about);
    assert_int_equal(options->next_id, 1);
    assert_int_equal(options->existing_count, 0);
}

static void text_may_be_a_binary_a_charlist_or_iodata(void **state)
{
    static const char *const texts[] = {
        "<<\"größe ab\">>",
        "\"größe ab\"",
        "[<<\"größe\">>, 32, [\"a\" | <<\"b\">>]]",
    };
    char op[200];

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        snprintf(op, sizeof(op), "{generate_task, %s}", texts[i]);
        decode_op(op);
        assert_request(OP_GENERATE_TASK);
        assert_slice(call.request.text, "größe ab");
    }
}

static void expand_task_takes_a_map_or_a_title(void **state)
{
    (void)state;
    decode_op("{expand_task, #{title => \"Login\", id => 7}}");
    assert_request(OP_EXPAND_TASK);
    assert_slice(call.request.text, "{\"title\":\"Login\",\"id\":7}");
    assert_raw(call.request.caller_task, "#{title => \"Login\", id => 7}");
    assert_false(call.request.caller_task_strings);
    assert_int_equal(call.request.count, 5);

    decode_op("{expand_task, #{<<\"title\">> => <<\"Login\">>, id => PID},"
              " [{num, 0}, {context, <<\"A shop\">>}]}");
    assert_request(OP_EXPAND_TASK);
    assert_slice(call.request.text, "{\"title\":\"Login\"}");
    assert_true(call.request.caller_task_strings);
    assert_int_equal(call.request.count, 0);
    assert_slice(call.request.context, "A shop");

    decode_op("{expand_task, <<\" Login\\\n\">>}");
    assert_request(OP_EXPAND_TASK);
    assert_slice(call.request.text, "Login");
    assert_int_equal(call.request.caller_task.size, 0);
    assert_int_equal(call.request.count, 5);
}

static void complexity_is_a_word_or_a_model(void **state)
{
    static const struct {
        const char *complexity;
        enum complexity expected;
        const char *model;
    } cases[] = {
        {"simple", COMPLEXITY_SIMPLE, ""},
        {"<<\"medium\">>", COMPLEXITY_MEDIUM, ""},
        {"\"complex\"", COMPLEXITY_COMPLEX, ""},
        {"<<\"openai/gpt-5-mini\">>", COMPLEXITY_UNSET, "openai/gpt-5-mini"},
    };
    char op[200];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        snprintf(op, sizeof(op), "{select_model, %s, chat}",
                 cases[i].complexity);
        decode_op(op);
        assert_request(OP_SELECT_MODEL);
        assert_int_equal(call.request.options.complexity, cases[i].expected);
        assert_slice(call.request.options.model, cases[i].model);
        assert_slice(call.request.options.task_type, "chat");
    }
    decode_op("{call_with_prompt, simple, \"x\", [{complexity, complex},"
              " {model, 'gpt-5'}]}");
    assert_request(OP_CALL_WITH_PROMPT);
    assert_int_equal(call.request.options.complexity, COMPLEXITY_COMPLEX);
    assert_slice(call.request.options.model, "gpt-5");
}

static void messages_come_as_maps_keyword_lists_and_tuples(void **state)
{
    const struct message *messages;

    (void)state;
    decode_op("{call, simple, ["
              "#{role => system, content => <<\"one\">>},"
              "#{<<\"role\">> => <<\"user\">>, <<\"content\">> => \"two\"},"
              "[{role, \"assistant\"}, {content, [<<\"th\">>, \"ree\"]}],"
              "{user, <<\"four\">>},"
              "{developer, [#{type => text, text => <<\"fi\">>},"
              " [{<<\"type\">>, <<\"text\">>}, {text, \"ve\"}]]}]}");
    assert_request(OP_CALL);
    messages = call.request.messages;
    assert_int_equal(call.request.message_count, 5);
    assert_int_equal(messages[0].role, ROLE_SYSTEM);
    assert_slice(messages[0].content, "one");
    assert_int_equal(messages[1].role, ROLE_USER);
    assert_slice(messages[1].content, "two");
    assert_int_equal(messages[2].role, ROLE_ASSISTANT);
    assert_slice(messages[2].content, "three");
    assert_int_equal(messages[3].role, ROLE_USER);
    assert_slice(messages[3].content, "four");
    assert_int_equal(messages[4].role, ROLE_SYSTEM);
    assert_slice(messages[4].content, "five");
}

static void prompts_become_messages(void **state)
{
    (void)state;
    decode_op("{call_with_system, complex, <<\"Be kind\">>, \"Hello\"}");
    assert_request(OP_CALL_WITH_SYSTEM);
    assert_int_equal(call.request.message_count, 2);
    assert_int_equal(call.request.messages[0].role, ROLE_SYSTEM);
    assert_slice(call.request.messages[0].content, "Be kind");
    assert_int_equal(call.request.messages[1].role, ROLE_USER);
    assert_slice(call.request.messages[1].content, "Hello");
    decode_op("{call_with_prompt, complex, <<\"Hello\">>}");
    assert_request(OP_CALL_WITH_PROMPT);
    assert_int_equal(call.request.message_count, 1);
    assert_int_equal(call.request.messages[0].role, ROLE_USER);
}

static void tasks_to_analyze_are_maps_or_titles(void **state)
{
    const struct given_task *given;

    (void)state;
    decode_op("{analyze_complexity, [#{id => {a, 1}, title => \"Log\\\nin\","
              " note => <<\"n\">>}, <<\" Cart \">>, \"Pay\","
              " #{<<\"title\">> => <<\"Ship\">>, <<\"id\">> => <<\"T-3\">>}],"
              " [{effort, low}]}");
    assert_request(OP_ANALYZE_COMPLEXITY);
    assert_int_equal(call.request.options.effort, EFFORT_LOW);
    assert_int_equal(call.request.given_count, 4);
    given = call.request.given;
    assert_raw(given[0].id, "{a, 1}");
    assert_slice(given[0].title, "Log in");
    assert_slice(given[0].json, "{\"title\":\"Log\\nin\",\"note\":\"n\"}");
    assert_int_equal(given[1].id.size, 0);
    assert_slice(given[1].title, "Cart");
    assert_slice(given[1].json, "{\"title\":\"Cart\"}");
    assert_slice(given[2].title, "Pay");
    assert_raw(given[3].id, "<<\"T-3\">>");
    assert_slice(given[3].title, "Ship");
}

static void research_has_a_topic_and_perhaps_a_context(void **state)
{
    (void)state;
    decode_op("{research, \"Queues\", [<<\"In \">>, \"C\"]}");
    assert_request(OP_RESEARCH);
    assert_slice(call.request.text, "Queues");
    assert_slice(call.request.context, "In C");
    decode_op("{research, <<\"Queues\">>, nil, #{timeout => 5}}");
    assert_request(OP_RESEARCH);
    assert_int_equal(call.request.context.size, 0);
    assert_int_equal(call.request.options.timeout_ms, 5);
}

static void a_routed_request_is_one_map(void **state)
{
    static const enum operation operations[] = {OP_ROUTE, OP_ROUTE_COMPLETION};
    const struct options *options = &call.request.options;
    char op[1000];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        snprintf(op, sizeof(op),
                 "{%s, #{<<\"model\">> => <<\"gpt-5\">>, complexity => complex,"
                 " task_type => qa, <<\"messages\">> => [{user, \"x\"},"
                 " #{<<\"role\">> => <<\"user\">>, <<\"content\">> => \"y\"}],"
                 " <<\"max_tokens\">> => 7, tools => [#{name => f}],"
                 " tool_choice => any}}",
                 operation_atom(operations[i]));
        decode_op(op);
        assert_request(operations[i]);
        assert_slice(options->model, "gpt-5");
        assert_int_equal(options->complexity, COMPLEXITY_COMPLEX);
        assert_slice(options->task_type, "qa");
        assert_int_equal(options->max_tokens, 7);
        assert_int_equal(options->tool_choice, TOOL_CHOICE_REQUIRED);
        assert_int_equal(call.request.message_count, 2);
        assert_slice(call.request.messages[1].content, "y");
    }
    decode_op("{route, [{messages, [{user, \"x\"}]}]}");
    assert_request(OP_ROUTE);
}

static void texts_to_embed_are_one_or_many(void **state)
{
    (void)state;
    decode_op("{embed, \"abc\"}");
    assert_request(OP_EMBED);
    assert_int_equal(call.request.text_count, 1);
    assert_slice(call.request.texts[0], "abc");
    decode_op("{embed, <<\"größe\">>, #{model => \"m\", metadata => 1}}");
    assert_request(OP_EMBED);
    assert_slice(call.request.texts[0], "größe");
    decode_op("{embed, \"中x\"}");
    assert_request(OP_EMBED);
    assert_int_equal(call.request.text_count, 1);
    assert_slice(call.request.texts[0], "中x");
    decode_op("{embed, [<<\"a\">>, \"bc\", [<<\"d\">>, \"e\"]]}");
    assert_request(OP_EMBED);
    assert_int_equal(call.request.text_count, 3);
    assert_slice(call.request.texts[1], "bc");
    assert_slice(call.request.texts[2], "de");
}

static void what_is_cancelled_is_a_reference_or_a_request_id(void **state)
{
    (void)state;
    decode_op("{cancel, REF}");
    assert_request(OP_CANCEL);
    assert_raw(call.request.reference, "REF");
    assert_int_equal(call.request.text.size, 0);
    decode_op("{cancel, <<\"job 7\">>}");
    assert_request(OP_CANCEL);
    assert_slice(call.request.text, "job 7");
    assert_int_equal(call.request.reference.size, 0);
}

static void the_complexity_of_a_task_type_is_asked_by_name(void **state)
{
    (void)state;
    decode_op("{determine_complexity_for_task, code_generation}");
    assert_request(OP_COMPLEXITY_FOR_TASK);
    assert_slice(call.request.options.task_type, "code_generation");
}

static void a_stream_goes_to_who_is_answered_or_named(void **state)
{
    const struct slice *to = &call.request.options.to;

    (void)state;
    decode_op("{stream, simple, [{user, \"x\"}]}");
    assert_request(OP_STREAM);
    assert_raw(*to, "PID");
    decode_op("{stream, simple, [{user, \"x\"}], [{to, PID}, {top_p, 1}]}");
    assert_request(OP_STREAM);
    assert_raw(*to, "PID");
    decode("{llm_request, PID, any, {stream, simple, [{user, \"x\"}]}}");
    assert_request(OP_STREAM);
    assert_int_equal(call.reply.form, REPLY_RESPONSE);
    assert_raw(*to, "PID");
    assert_true(decode_rpc("llm_router", "stream",
                           "[simple, [{user, \"x\"}], #{to => PID}]"));
    assert_request(OP_STREAM);
    assert_raw(*to, "PID");
    assert_int_equal(call.reply.form, REPLY_RPC);
}

static void what_is_watched_goes_to_who_is_answered_or_named(void **state)
{
    const struct options *options = &call.request.options;

    (void)state;
    decode_op("{watch_task, <<\"seven\">>}");
    assert_request(OP_WATCH_TASK);
    assert_raw(options->task_id, "<<\"seven\">>");
    assert_raw(options->to, "PID");
    decode_op("{unwatch_task, 7, #{to => PID}}");
    assert_request(OP_UNWATCH_TASK);
    assert_raw(options->task_id, "7");
    decode_op("{subscribe, telemetry, [{scope, node}]}");
    assert_request(OP_SUBSCRIBE);
    assert_int_equal(call.request.topic, TOPIC_TELEMETRY);
    assert_true(options->own_node_only);
    decode_op("{unsubscribe, tasks}");
    assert_request(OP_UNSUBSCRIBE);
    assert_int_equal(call.request.topic, TOPIC_TASKS);
    assert_raw(options->to, "PID");
    assert_true(decode_rpc("llm_router", "watch_task", "[7]"));
    assert_rejected(ERR_INVALID_REQUEST, "opts.to");
}

static void a_script_has_a_name_and_a_context(void **state)
{
    (void)state;
    decode_op("{call_with_script, \"a/b.lua\", #{list => [1, x, nil]},"
              " #{task_id => job}}");
    assert_request(OP_CALL_WITH_SCRIPT);
    assert_slice(call.request.text, "a/b.lua");
    assert_slice(call.request.context, "{\"list\":[1,\"x\",null]}");
    assert_raw(call.request.options.task_id, "job");
}

static void a_stream_needs_a_receiver_where_the_caller_is_unknown(void **state)
{
    (void)state;
    assert_true(
        decode_rpc("llm_router", "stream", "[simple, [{user, \"x\"}]]"));
    assert_rejected(ERR_INVALID_REQUEST, "opts.to");
    /* gen_server:multi_call asks by a process of its own. */
    decode("{'$gen_call', {PID, {REF, node}}, {stream, simple, [{user,"
           " \"x\"}]}}");
    assert_rejected(ERR_INVALID_REQUEST, "opts.to");
    decode("{'$gen_call', {PID, {REF, node}}, {stream, simple, [{user,"
           " \"x\"}], #{to => PID}}}");
    assert_request(OP_STREAM);
}

/* --- options --- */

static void options_are_read_from_maps_and_keyword_lists(void **state)
{
    static const char *const forms[] = {
        "#{model => <<\"gpt-5\">>, provider => openai, complexity => simple,"
        " task_type => coder, timeout => 1000, max_tokens => 50,"
        " temperature => 1, request_id => <<\"id 1\">>, keys => strings,"
        " return => full, count => about, next_id => 7, existing => [1, 300]}",
        "[{<<\"model\">>, \"gpt-5\"}, {<<\"provider\">>, <<\"openai\">>},"
        " {complexity, <<\"simple\">>}, {task_type, <<\"coder\">>},"
        " {timeout, 1000}, {max_tokens, 50}, {temperature, 1.0},"
        " {request_id, \"id 1\"}, {keys, <<\"strings\">>},"
        " {return, <<\"full\">>}, {count, \"about\"}, {next_id, 7},"
        " {existing, [1, 300]}]",
    };
    const struct options *options = &call.request.options;
    char op[1000];

    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        snprintf(op, sizeof(op), "{parse_prd, <<\"x\">>, 3, %s}", forms[i]);
        decode_op(op);
        assert_request(OP_PARSE_PRD);
        assert_slice(options->model, "gpt-5");
        assert_slice(options->provider, "openai");
        assert_int_equal(options->complexity, COMPLEXITY_SIMPLE);
        assert_slice(options->task_type, "coder");
        assert_int_equal(options->timeout_ms, 1000);
        assert_int_equal(options->max_tokens, 50);
        assert_true(options->temperature == 1);
        assert_slice(options->request_id, "id 1");
        assert_int_equal(options->keys, KEYS_STRINGS);
        assert_true(options->full);
        assert_true(options->about);
        assert_int_equal(options->next_id, 7);
        assert_int_equal(options->existing_count, 2);
        assert_int_equal(options->existing[0], 1);
        assert_int_equal(options->existing[1], 300);
    }
}

static void options_of_chats_are_read(void **state)
{
    static const char *const forms[] = {
        "#{top_p => 0.5, stop => [\"END\", <<10>>], seed => -7, effort => "
        "xhigh,"
        " capabilities => [tools, <<\"vision\">>], language => de,"
        " cache => true, metadata => {PID, [1 | 2]}}",
        "[{<<\"top_p\">>, 0.5}, {stop, [<<\"END\">>, \"\\\n\"]}, {seed, -7},"
        " {effort, \"xhigh\"}, {capabilities, [vision, tools, tools]},"
        " {language, <<\" de \">>}, {cache, true},"
        " {metadata, {PID, [1 | 2]}}]",
    };
    const struct options *options = &call.request.options;
    char op[1000];

    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        snprintf(op, sizeof(op), "{call_with_prompt, simple, \"x\", %s}",
                 forms[i]);
        decode_op(op);
        assert_request(OP_CALL_WITH_PROMPT);
        assert_true(options->top_p == 0.5);
        assert_int_equal(options->stop_count, 2);
        assert_slice(options->stops[0], "END");
        assert_slice(options->stops[1], "\n");
        assert_true(options->has_seed);
        assert_int_equal(options->seed, -7);
        assert_int_equal(options->effort, EFFORT_XHIGH);
        assert_int_equal(options->capabilities,
                         CAPABILITY_TOOLS | CAPABILITY_VISION);
        assert_slice(options->language, "de");
        assert_int_equal(options->cache, CACHE_YES);
        assert_raw(options->metadata, "{PID, [1 | 2]}");
    }
}

static void one_stop_may_be_a_text_by_itself(void **state)
{
    const struct options *options = &call.request.options;

    (void)state;
    decode_op("{call_with_prompt, simple, \"x\", #{stop => \"END\"}}");
    assert_request(OP_CALL_WITH_PROMPT);
    assert_int_equal(options->stop_count, 1);
    assert_slice(options->stops[0], "END");
    decode_op(
        "{call_with_prompt, simple, \"x\", #{stop => [], cache => false}}");
    assert_request(OP_CALL_WITH_PROMPT);
    assert_int_equal(options->stop_count, 0);
    assert_int_equal(options->cache, CACHE_NO);
    decode_op("{call_with_prompt, simple, \"x\", #{stop => [\"a\", \"b\", "
              "\"c\", \"d\","
              " \"e\"]}}");
    assert_rejected(ERR_TOO_LARGE, "opts.stop");
}

static void a_language_may_be_named_in_any_script(void **state)
{
    (void)state;
    decode_op("{generate_task, \"x\", #{language => \"日本語\"}}");
    assert_request(OP_GENERATE_TASK);
    assert_slice(call.request.options.language, "日本語");
}

/* --- tools --- */

#define STRICT_PARAMETERS                                           \
    "#{type => object, properties => #{city => #{type => string}}," \
    " required => [<<\"city\">>], additionalProperties => false}"

static void tools_come_flat_and_as_openai_nests_them(void **state)
{
    static const char *const forms[] = {
        "#{name => get_weather, description => \"Of a city\","
        " parameters => " STRICT_PARAMETERS "}",
        "#{<<\"type\">> => <<\"function\">>, <<\"function\">> =>"
        " #{<<\"name\">> => <<\"get_weather\">>, <<\"description\">> =>"
        " <<\"Of a city\">>, <<\"parameters\">> => " STRICT_PARAMETERS "}}",
        "[{name, \"get_weather\"}, {description, [<<\"Of a\">>, \" city\"]},"
        " {parameters, " STRICT_PARAMETERS "}, {strict, true}]",
    };
    char op[1000];

    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        const struct tool *tools;

        snprintf(op, sizeof(op),
                 "{call, simple, [{user, \"x\"}], [{tools, [%s, #{name =>"
                 " now}]}]}",
                 forms[i]);
        decode_op(op);
        assert_request(OP_CALL);
        assert_int_equal(call.request.options.tool_count, 2);
        tools = call.request.options.tools;
        assert_slice(tools[0].name, "get_weather");
        assert_slice(tools[0].description, "Of a city");
        assert_slice(tools[0].parameters,
                     "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":"
                     "\"string\"}},\"required\":[\"city\"],"
                     "\"additionalProperties\":false}");
        assert_true(tools[0].strict);
        assert_slice(tools[1].name, "now");
        assert_int_equal(tools[1].parameters.size, 0);
        assert_false(tools[1].strict);
    }
}

static void a_tool_is_strict_only_if_it_can_be_and_may_be(void **state)
{
    (void)state;
    decode_op("{call, simple, [{user, \"x\"}], #{tools => ["
              "#{name => a, strict => false, parameters => " STRICT_PARAMETERS
              "}, #{name => b, parameters => #{type => object, properties =>"
              " #{n => #{type => integer}}}}, #{name => c, parameters =>"
              " #{}}]}}");
    assert_request(OP_CALL);
    for (size_t i = 0; i < 3; i++)
        assert_false(call.request.options.tools[i].strict);
    assert_int_equal(call.request.options.tools[2].parameters.size, 0);
}

static void a_tool_is_chosen_by_word_or_name(void **state)
{
    static const struct {
        const char *choice;
        enum tool_choice expected;
        const char *name;
    } cases[] = {
        {"auto", TOOL_CHOICE_AUTO, ""},
        {"<<\"none\">>", TOOL_CHOICE_NONE, ""},
        {"required", TOOL_CHOICE_REQUIRED, ""},
        {"\"any\"", TOOL_CHOICE_REQUIRED, ""},
        {"{tool, f}", TOOL_CHOICE_NAMED, "f"},
        {"{tool, \"any\"}", TOOL_CHOICE_NAMED, "any"},
        {"<<\"f\">>", TOOL_CHOICE_NAMED, "f"},
        {"nil", TOOL_CHOICE_UNSET, ""},
    };
    char op[200];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        snprintf(op, sizeof(op),
                 "{call_with_prompt, simple, \"x\", #{tool_choice => %s,"
                 " tools => [#{name => f}, #{name => any}]}}",
                 cases[i].choice);
        decode_op(op);
        assert_request(OP_CALL_WITH_PROMPT);
        assert_int_equal(call.request.options.tool_choice, cases[i].expected);
        assert_slice(call.request.options.tool_name, cases[i].name);
    }
}

static void a_tool_call_and_its_answer_are_messages(void **state)
{
    const struct message *messages;

    (void)state;
    decode_op("{call, simple, [{user, \"x\"},"
              "#{role => assistant, content => nil, tool_calls => ["
              "#{id => <<\"i1\">>, name => <<\"f\">>, arguments =>"
              " #{<<\"a\">> => [1, nil]}},"
              "#{<<\"id\">> => <<\"i2\">>, <<\"type\">> => <<\"function\">>,"
              " <<\"function\">> => #{<<\"name\">> => <<\"g\">>,"
              " <<\"arguments\">> => <<\" {\\\"b\\\" : \\\"\\\n\\\"}\">>}}]},"
              "#{role => tool, tool_call_id => <<\"i2\">>, content => <<>>},"
              "#{role => tool, tool_call_id => i1, content => \"42\"},"
              "#{role => assistant, content => \"Look\", tool_calls =>"
              " [[{id, i3}, {name, f}, {arguments, #{}}]]}]}");
    assert_request(OP_CALL);
    messages = call.request.messages;
    assert_int_equal(call.request.message_count, 5);
    assert_int_equal(messages[1].content.size, 0);
    assert_int_equal(messages[1].tool_call_count, 2);
    assert_slice(messages[1].tool_calls[0].id, "i1");
    assert_slice(messages[1].tool_calls[0].name, "f");
    assert_slice(messages[1].tool_calls[0].arguments, "{\"a\":[1,null]}");
    assert_slice(messages[1].tool_calls[1].id, "i2");
    assert_slice(messages[1].tool_calls[1].name, "g");
    assert_slice(messages[1].tool_calls[1].arguments, "{\"b\":\"\\n\"}");
    assert_int_equal(messages[2].role, ROLE_TOOL);
    assert_slice(messages[2].tool_call_id, "i2");
    assert_int_equal(messages[2].content.size, 0);
    assert_slice(messages[3].tool_call_id, "i1");
    assert_slice(messages[3].content, "42");
    assert_slice(messages[4].content, "Look");
    assert_int_equal(messages[4].tool_call_count, 1);
    decode_op("{call, simple, [#{role => assistant, content => <<>>,"
              " tool_calls => [#{id => i, name => f, arguments => #{}}]}]}");
    assert_request(OP_CALL);
    assert_int_equal(call.request.messages[0].content.size, 0);
}

static void options_of_the_responses_api_are_read(void **state)
{
    static const char *const forms[] = {
        "#{api_version => responses, store => true, previous_response_id =>"
        " <<\"resp_1\">>, mcp_servers => [#{server_label => dice,"
        " <<\"server_url\">> => <<\"https://d.example\">>, headers =>"
        " #{<<\"X-Key\">> => <<\"k\">>}}]}",
        "[{<<\"api_version\">>, <<\"responses\">>}, {store, true},"
        " {previous_response_id, \"resp_1\"}, {mcp_servers,"
        " [[{server_label, <<\"dice\">>}, {server_url,"
        " <<\"https://d.example\">>}, {headers, [{'X-Key', k}]}]]}]",
    };
    const struct options *options = &call.request.options;
    char op[1000];

    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        const struct jv *server;

        snprintf(op, sizeof(op), "{call_with_prompt, simple, \"x\", %s}",
                 forms[i]);
        decode_op(op);
        assert_request(OP_CALL_WITH_PROMPT);
        assert_int_equal(options->api_version, API_VERSION_RESPONSES);
        assert_int_equal(options->store, STORE_YES);
        assert_slice(options->previous_response_id, "resp_1");
        assert_int_equal(jv_count(options->mcp_servers), 1);
        server = jv_at(options->mcp_servers, 0);
        assert_slice(jv_string(jv_find(server, "server_label")), "dice");
        assert_slice(jv_string(jv_find(server, "server_url")),
                     "https://d.example");
        assert_slice(jv_string(jv_find(jv_find(server, "headers"), "X-Key")),
                     "k");
    }
}

static void what_only_one_api_has_says_which_is_asked(void **state)
{
    const struct options *options = &call.request.options;

    (void)state;
    decode_op("{call_with_prompt, simple, \"x\", #{store => false,"
              " mcp_servers => []}}");
    assert_request(OP_CALL_WITH_PROMPT);
    assert_int_equal(options->api_version, API_VERSION_ANY);
    assert_int_equal(options->store, STORE_NO);
    assert_null(options->mcp_servers);
    decode_op("{call_with_prompt, simple, \"x\", #{previous_response_id =>"
              " resp}}");
    assert_rejected(ERR_INVALID_REQUEST, "opts.previous_response_id");
    decode_op("{call_with_prompt, simple, \"x\", #{previous_response_id =>"
              " <<\"r\">>}}");
    assert_request(OP_CALL_WITH_PROMPT);
    assert_int_equal(options->api_version, API_VERSION_RESPONSES);
    decode_op("{call_with_prompt, simple, \"x\", #{tool_choice => required,"
              " mcp_servers => [#{server_label => l, type => mcp,"
              " connector_id => connector_gmail}]}}");
    assert_request(OP_CALL_WITH_PROMPT);
    assert_int_equal(options->api_version, API_VERSION_RESPONSES);
    decode_op("{parse_prd, \"x\", 3, #{api_version => chat_completions,"
              " store => true}}");
    assert_request(OP_PARSE_PRD);
    assert_int_equal(options->api_version, API_VERSION_CHAT);
    decode_op("{select_model, simple, chat, #{api_version => responses}}");
    assert_request(OP_SELECT_MODEL);
}

/* mcp_servers => [First, More, More, ... Last] */
static void decode_servers(const char *first, const char *more, int count,
                           const char *last)
{
    struct buf message;

    buf_init(&message, 1 << 20);
    buf_printf(&message,
               "{'$gen_call', {PID, [alias | REF]}, {call_with_prompt, simple,"
               " \"x\", #{mcp_servers => [%s",
               first);
    while (count-- > 0)
        buf_printf(&message, ", %s", more);
    buf_printf(&message, "%s]}}}", last);
    buf_append_byte(&message, '\0');
    decode(message.data);
    buf_release(&message);
}

static void a_tools_answer_may_belong_to_an_answer_that_was_kept(void **state)
{
    (void)state;
    decode_op("{call, simple, [#{role => tool, tool_call_id => c, content =>"
              " \"x\"}], #{previous_response_id => <<\"resp_1\">>}}");
    assert_request(OP_CALL);
    assert_slice(call.request.messages[0].tool_call_id, "c");
}

static void mcp_servers_are_limited(void **state)
{
    const char *server = "#{server_label => l, tunnel_id => t}";
    char text[1000];

    (void)state;
    decode_servers(server, server, 15, "");
    assert_request(OP_CALL_WITH_PROMPT);
    decode_servers(server, server, 16, "");
    assert_rejected(ERR_TOO_LARGE, "opts.mcp_servers");
    snprintf(text, sizeof(text), "<<\"%0900d\">>", 7);
    server = "#{server_label => l, tunnel_id => t, allowed_tools => [x";
    decode_servers(server, text, 70, "]}");
    assert_request(OP_CALL_WITH_PROMPT);
    decode_servers(server, text, 73, "]}");
    assert_rejected(ERR_TOO_LARGE, "opts.mcp_servers");
}

static void a_schema_is_kept_as_json(void **state)
{
    const struct jv *schema;

    (void)state;
    decode_op("{call_with_prompt, simple, \"x\", #{schema => #{type => object,"
              " <<\"properties\">> => #{age => #{type => <<\"integer\">>}}}}}");
    assert_request(OP_CALL_WITH_PROMPT);
    schema = call.request.options.schema;
    assert_slice(jv_string(jv_find(schema, "type")), "object");
    schema = jv_find(jv_find(schema, "properties"), "age");
    assert_slice(jv_string(jv_find(schema, "type")), "integer");
}

static void nil_is_an_option_that_is_not_given(void **state)
{
    (void)state;
    decode_op("{generate_task, \"x\", [{timeout, nil}, {model, undefined},"
              " {tools, nil}, {schema, nil}, {keys, nil}]}");
    assert_request(OP_GENERATE_TASK);
    assert_int_equal(call.request.options.timeout_ms, 0);
    assert_int_equal(call.request.options.model.size, 0);
}

static void the_first_of_two_keywords_counts(void **state)
{
    (void)state;
    decode_op("{generate_task, \"x\", [{timeout, 5}, {timeout, wrong},"
              " {<<\"timeout\">>, 6}, {max_tokens, nil}, {max_tokens, 7}]}");
    assert_request(OP_GENERATE_TASK);
    assert_int_equal(call.request.options.timeout_ms, 5);
    assert_int_equal(call.request.options.max_tokens, 0);
    decode_op("{generate_task, \"x\", #{timeout => 5, <<\"timeout\">> => 6}}");
    assert_rejected(ERR_INVALID_REQUEST, "opts.timeout");
}

static void an_infinite_timeout_is_the_longest_there_is(void **state)
{
    (void)state;
    decode_op("{generate_task, \"x\", [{timeout, infinity}]}");
    assert_request(OP_GENERATE_TASK);
    assert_int_equal(call.request.options.timeout_ms, REQUEST_TIMEOUT_MAX_MS);
}

/* --- what is wrong --- */

static const struct wrong_call {
    const char *op;
    const char *path;
} wrong_calls[] = {
    /* missing and too many */
    {"generate_task", "prompt"},
    {"{generate_task}", "prompt"},
    {"{parse_prd, \"x\"}", "num_tasks"},
    {"{call_with_system, simple, \"x\"}", "user"},
    {"{call, simple}", "messages"},
    {"{select_model, simple}", "task_type"},
    {"{generate_task, \"x\", [], more}", ""},
    {"{call, simple, [{user, \"x\"}], [], 1, 2, 3, 4}", ""},
    {"{ping, []}", ""},
    {"{llm_request, not_a_pid, REF, ping}", "pid"},
    {"{prd_request, not_a_pid, from, \"x\", 3}", "pid"},
    /* text */
    {"{generate_task, 17}", "prompt"},
    {"{generate_task, an_atom}", "prompt"},
    {"{generate_task, nil}", "prompt"},
    {"{generate_task, #{}}", "prompt"},
    {"{generate_task, {1, 2}}", "prompt"},
    {"{generate_task, PID}", "prompt"},
    {"{generate_task, BITS}", "prompt"},
    {"{generate_task, <<255, 254>>}", "prompt"},
    {"{generate_task, [\"a\" | b]}", "prompt"},
    {"{generate_task, [1114112]}", "prompt"},
    {"{generate_task, [55296]}", "prompt"},
    {"{generate_task, <<>>}", "prompt"},
    {"{generate_task, []}", "prompt"},
    {"{generate_task, \" \\\n \"}", "prompt"},
    {"{call_with_prompt, simple, <<>>}", "prompt"},
    {"{call_with_system, simple, 1, \"x\"}", "system"},
    {"{call_with_system, simple, \"x\", 1.5}", "user"},
    {"{parse_prd, 5, 5}", "content"},
    /* numbers of tasks */
    {"{parse_prd, \"x\", -1}", "num_tasks"},
    {"{parse_prd, \"x\", 101}", "num_tasks"},
    {"{parse_prd, \"x\", 5.0}", "num_tasks"},
    {"{parse_prd, \"x\", BIG}", "num_tasks"},
    {"{parse_prd, \"x\", <<\"5\">>}", "num_tasks"},
    {"{expand_task, \"x\", [{num, 101}]}", "opts.num"},
    {"{expand_task, \"x\", [{num, many}]}", "opts.num"},
    /* tasks */
    {"{expand_task, #{}}", "task.title"},
    {"{expand_task, #{title => nil}}", "task.title"},
    {"{expand_task, #{title => <<\" \">>}}", "task.title"},
    {"{expand_task, #{<<\"title\">> => 17}}", "task.title"},
    {"{expand_task, #{title => \"x\", a => [#{<<\"b\">> => 1, b => 2}]}}",
     "task.a[0].b"},
    {"{expand_task, [{title, \"x\"}]}", "task"},
    {"{expand_task, 17}", "task"},
    {"{expand_task, <<>>}", "task"},
    {"{expand_task, \"x\", #{context => 1}}", "opts.context"},
    /* complexity */
    {"{call_with_prompt, hard, \"x\"}", "complexity"},
    {"{call_with_prompt, nil, \"x\"}", "complexity"},
    {"{call_with_prompt, 17, \"x\"}", "complexity"},
    {"{call_with_prompt, <<\"no model!\">>, \"x\"}", "complexity"},
    {"{call_with_prompt, <<>>, \"x\"}", "complexity"},
    {"{select_model, simple, 17}", "task_type"},
    /* messages */
    {"{call, simple, []}", "messages"},
    {"{call, simple, <<\"x\">>}", "messages"},
    {"{call, simple, #{role => user, content => \"x\"}}", "messages"},
    {"{call, simple, [{user, \"x\"} | y]}", "messages"},
    {"{call, simple, \"x\"}", "messages[0]"},
    {"{call, simple, [{user, \"x\"}, 17]}", "messages[1]"},
    {"{call, simple, [{user, \"x\"}, {user, \"y\"}, {user}]}", "messages[2]"},
    {"{call, simple, [{user, \"x\"}, {user, 17}]}", "messages[1].content"},
    {"{call, simple, [{user, <<>>}]}", "messages[0].content"},
    {"{call, simple, [{robot, \"x\"}]}", "messages[0].role"},
    {"{call, simple, [{tool, \"x\"}]}", "messages[0].tool_call_id"},
    {"{call, simple, [{1, \"x\"}]}", "messages[0].role"},
    {"{call, simple, [#{role => user}]}", "messages[0].content"},
    {"{call, simple, [#{content => \"x\"}]}", "messages[0].role"},
    {"{call, simple, [#{role => user, content => nil}]}",
     "messages[0].content"},
    {"{call, simple, [#{role => user, content => \"x\", name => a}]}",
     "messages[0].name"},
    {"{call, simple, [[{role, user}, content]]}", "messages[0]"},
    {"{call, simple, [{user, [#{type => image, text => \"x\"}]}]}",
     "messages[0].content[0].type"},
    {"{call, simple, [{user, [#{type => text, text => \"x\"}, #{}]}]}",
     "messages[0].content[1].type"},
    {"{call, simple, [{user, [#{type => text, text => \"x\"} | y]}]}",
     "messages[0].content"},
    {"{call, simple, [{user, [#{type => text, text => \"\"}]}]}",
     "messages[0].content"},
    {"{call, simple, [{user, [#{type => text, text => 1}]}]}",
     "messages[0].content[0].text"},
    /* options */
    {"{generate_task, \"x\", 17}", "opts"},
    {"{generate_task, \"x\", <<\"opts\">>}", "opts"},
    {"{generate_task, \"x\", nil}", "opts"},
    {"{generate_task, \"x\", \"opts\"}", "opts"},
    {"{generate_task, \"x\", [full]}", "opts"},
    {"{generate_task, \"x\", [{timeout, 5} | x]}", "opts"},
    {"{generate_task, \"x\", [{timeout, 5, 6}]}", "opts"},
    {"{generate_task, \"x\", #{1 => 2}}", "opts"},
    {"{generate_task, \"x\", [{\"timeout\", 5}]}", "opts"},
    {"{generate_task, \"x\", #{timout => 5}}", "opts.timout"},
    {"{generate_task, \"x\", #{timout => nil}}", "opts.timout"},
    {"{generate_task, \"x\", #{<<255>> => 5}}", "opts.?"},
    {"{generate_task, \"x\", #{timeout => 0}}", "opts.timeout"},
    {"{generate_task, \"x\", #{timeout => 3600001}}", "opts.timeout"},
    {"{generate_task, \"x\", #{timeout => 1.5}}", "opts.timeout"},
    {"{generate_task, \"x\", #{timeout => forever}}", "opts.timeout"},
    {"{generate_task, \"x\", #{temperature => -0.1}}", "opts.temperature"},
    {"{generate_task, \"x\", #{temperature => 3}}", "opts.temperature"},
    {"{generate_task, \"x\", #{temperature => hot}}", "opts.temperature"},
    {"{generate_task, \"x\", #{temperature => BIG}}", "opts.temperature"},
    {"{generate_task, \"x\", #{max_tokens => 0}}", "opts.max_tokens"},
    {"{generate_task, \"x\", #{model => 17}}", "opts.model"},
    {"{generate_task, \"x\", #{model => <<\"a model\">>}}", "opts.model"},
    {"{generate_task, \"x\", #{model => <<\"../x?y\">>}}", "opts.model"},
    {"{generate_task, \"x\", #{provider => <<>>}}", "opts.provider"},
    {"{generate_task, \"x\", #{complexity => hard}}", "opts.complexity"},
    {"{generate_task, \"x\", #{task_type => [a]}}", "opts.task_type"},
    {"{generate_task, \"x\", #{task_type => LATIN1}}", "opts.task_type"},
    {"{generate_task, \"x\", #{request_id => <<97, 10>>}}", "opts.request_id"},
    {"{generate_task, \"x\", #{request_id => <<\"\">>}}", "opts.request_id"},
    {"{generate_task, \"x\", #{keys => binaries}}", "opts.keys"},
    {"{generate_task, \"x\", #{return => all}}", "opts.return"},
    {"{generate_task, \"x\", #{next_id => 0}}", "opts.next_id"},
    {"{parse_prd, \"x\", 1, #{next_id => BIG}}", "opts.next_id"},
    {"{parse_prd, \"x\", 1, #{existing => 1}}", "opts.existing"},
    {"{parse_prd, \"x\", 1, #{existing => [1, x]}}", "opts.existing"},
    {"{parse_prd, \"x\", 1, #{existing => [1 | 2]}}", "opts.existing"},
    {"{parse_prd, \"x\", 1, #{count => some}}", "opts.count"},
    {"{call_with_prompt, simple, \"x\", #{schema => []}}", "opts.schema"},
    {"{call_with_prompt, simple, \"x\", #{schema => #{}}}", "opts.schema"},
    {"{call_with_prompt, simple, \"x\", #{schema => #{type => array}}}",
     "opts.schema"},
    {"{call_with_prompt, simple, \"x\", #{schema => #{type => object,"
     " properties => #{a => PID}}}}",
     "opts.schema.properties.a"},
    {"{call_with_prompt, simple, \"x\", #{schema => #{type => object,"
     " frobnicate => 1}}}",
     "opts.schema.frobnicate"},
    /* options of other operations and of later versions */
    {"{generate_task, \"x\", #{num => 5}}", "opts.num"},
    {"{generate_task, \"x\", #{schema => #{type => object}}}", "opts.schema"},
    {"{call_with_prompt, simple, \"x\", #{count => about}}", "opts.count"},
    {"{select_model, simple, chat, #{metadata => 1}}", "opts.metadata"},
    {"{select_model, simple, chat, #{task_id => 5}}", "opts.task_id"},
    {"{generate_task, \"x\", #{task_id => 1.5}}", "opts.task_id"},
    {"{generate_task, \"x\", #{task_id => \"abc\"}}", "opts.task_id"},
    {"{generate_task, \"x\", #{task_id => <<>>}}", "opts.task_id"},
    {"{watch_task, #{}}", "task_id"},
    {"{watch_task, 7, #{to => me}}", "opts.to"},
    {"{watch_task, 7, #{scope => node}}", "opts.scope"},
    {"{subscribe, weather}", "topic"},
    {"{subscribe, tasks, #{scope => galaxy}}", "opts.scope"},
    {"{unsubscribe, tasks, #{scope => node}}", "opts.scope"},
    {"{call_with_script, \"\", 1}", "script"},
    {"{call_with_script, \"x.lua\", PID}", "context"},
    {"{call_with_script, \"x.lua\", #{a => {1}}}", "context.a"},
    {"{call_with_script, \"x.lua\", 1, #{to => PID}}", "opts.to"},
    {"{generate_task, \"x\", #{stop => []}}", "opts.stop"},
    {"{generate_task, \"x\", #{tools => []}}", "opts.tools"},
    {"{generate_task, \"x\", #{tool_choice => auto}}", "opts.tool_choice"},
    {"{generate_task, \"x\", #{messages => []}}", "opts.messages"},
    {"{call, simple, [{user, \"x\"}], #{to => PID}}", "opts.to"},
    {"{embed, \"x\", #{temperature => 1}}", "opts.temperature"},
    {"{embed, \"x\", #{language => de}}", "opts.language"},
    {"{embed, \"x\", #{store => true}}", "opts.store"},
    {"{generate_task, \"x\", #{mcp_servers => []}}", "opts.mcp_servers"},
    {"{research, \"x\", \"\", #{previous_response_id => <<\"r\">>}}",
     "opts.previous_response_id"},
    /* options of chats */
    {"{generate_task, \"x\", #{top_p => 1.1}}", "opts.top_p"},
    {"{generate_task, \"x\", #{top_p => <<\"1\">>}}", "opts.top_p"},
    {"{call_with_prompt, simple, \"x\", #{stop => 5}}", "opts.stop"},
    {"{call_with_prompt, simple, \"x\", #{stop => <<>>}}", "opts.stop[0]"},
    {"{call_with_prompt, simple, \"x\", #{stop => [<<\"a\">>, b]}}",
     "opts.stop[1]"},
    {"{call_with_prompt, simple, \"x\", #{stop => [<<\"a\">> | b]}}",
     "opts.stop"},
    {"{generate_task, \"x\", #{seed => 1.0}}", "opts.seed"},
    {"{generate_task, \"x\", #{seed => BIG}}", "opts.seed"},
    {"{generate_task, \"x\", #{effort => huge}}", "opts.effort"},
    {"{generate_task, \"x\", #{effort => unset}}", "opts.effort"},
    {"{generate_task, \"x\", #{effort => 3}}", "opts.effort"},
    {"{generate_task, \"x\", #{capabilities => tools}}", "opts.capabilities"},
    {"{generate_task, \"x\", #{capabilities => [tools, magic]}}",
     "opts.capabilities[1]"},
    {"{generate_task, \"x\", #{capabilities => [[]]}}", "opts.capabilities[0]"},
    {"{generate_task, \"x\", #{language => <<>>}}", "opts.language"},
    {"{generate_task, \"x\", #{language => <<97, 10, 98>>}}", "opts.language"},
    {"{generate_task, \"x\", #{language => LATIN1}}", "opts.language"},
    {"{generate_task, \"x\", #{language => 49}}", "opts.language"},
    {"{generate_task, \"x\", #{cache => 1}}", "opts.cache"},
    {"{stream, simple, [{user, \"x\"}], #{to => self}}", "opts.to"},
    /* analyze_complexity */
    {"analyze_complexity", "tasks"},
    {"{analyze_complexity, []}", "tasks"},
    {"{analyze_complexity, #{title => \"x\"}}", "tasks"},
    {"{analyze_complexity, <<\"x\">>}", "tasks"},
    {"{analyze_complexity, \"x\"}", "tasks[0]"},
    {"{analyze_complexity, [<<\"x\">> | y]}", "tasks"},
    {"{analyze_complexity, [<<\"x\">>, <<\" \">>]}", "tasks[1]"},
    {"{analyze_complexity, [<<\"x\">>, #{id => 1}]}", "tasks[1].title"},
    {"{analyze_complexity, [[1, 10, 1]]}", "tasks[0]"},
    {"{analyze_complexity, [#{title => <<1>>}]}", "tasks[0].title"},
    {"{analyze_complexity, [#{title => 1}]}", "tasks[0].title"},
    {"{analyze_complexity, [#{title => <<\"x\">>, a => 1, <<\"a\">> => 2}]}",
     "tasks[0].a"},
    {"{analyze_complexity, [<<\"x\">>], #{num => 1}}", "opts.num"},
    /* research */
    {"{research, \"x\"}", "context"},
    {"{research, <<>>, \"x\"}", "topic"},
    {"{research, \"x\", 17}", "context"},
    {"{research, \"x\", nil, #{schema => #{type => object}}}", "opts.schema"},
    /* route */
    {"route", "request"},
    {"{route, []}", "request.messages"},
    {"{route, <<\"x\">>}", "request"},
    {"{route, #{messages => nil}}", "request.messages"},
    {"{route, #{messages => [{user, \"x\"}], prompt => \"x\"}}",
     "request.prompt"},
    {"{route, #{messages => [{user, \"x\"}, {user, 1}]}}",
     "request.messages[1].content"},
    {"{route_completion, #{messages => [{user, \"x\"}], model => 17}}",
     "request.model"},
    {"{route_completion, #{messages => [{user, \"x\"}]}, []}", ""},
    /* embed */
    {"embed", "texts"},
    {"{embed, []}", "texts"},
    {"{embed, 17}", "texts"},
    {"{embed, <<\" \">>}", "texts[0]"},
    {"{embed, [<<\"a\">>, 98]}", "texts[1]"},
    {"{embed, [<<\"a\">> | b]}", "texts"},
    /* cancel, determine_complexity_for_task */
    {"cancel", "reference"},
    {"{cancel, 17}", "reference"},
    {"{cancel, <<>>}", "reference"},
    {"{cancel, REF, []}", ""},
    {"determine_complexity_for_task", "task_type"},
    {"{determine_complexity_for_task, 17}", "task_type"},
    {"{get_available_models, 1}", ""},
    {"{reload, 1}", ""},
};

/* Each in {call, simple, [{user, "x"}], #{%s}}. */
static const struct wrong_call wrong_tools[] = {
    {"tools => 17", "opts.tools"},
    {"tools => #{name => f}", "opts.tools"},
    {"tools => [#{name => f} | x]", "opts.tools"},
    {"tools => [f]", "opts.tools[0]"},
    {"tools => [#{}]", "opts.tools[0].name"},
    {"tools => [#{name => <<>>}]", "opts.tools[0].name"},
    {"tools => [#{name => <<\"get it\">>}]", "opts.tools[0].name"},
    {"tools => [#{name => <<\"a234567890123456789012345678901234567890123456789"
     "0123456789012345\">>}]",
     "opts.tools[0].name"},
    {"tools => [#{name => f}, #{name => <<\"f\">>}]", "opts.tools[1].name"},
    {"tools => [#{name => f, description => 1}]", "opts.tools[0].description"},
    {"tools => [#{name => f, input_schema => #{}}]",
     "opts.tools[0].input_schema"},
    {"tools => [#{name => f, parameters => []}]", "opts.tools[0].parameters"},
    {"tools => [#{name => f, parameters => #{type => array}}]",
     "opts.tools[0].parameters"},
    {"tools => [#{name => f, parameters => #{type => object, properties =>"
     " #{a => PID}}}]",
     "opts.tools[0].parameters.properties.a"},
    {"tools => [#{name => f, parameters => #{type => object, magic => 1}}]",
     "opts.tools[0].parameters.magic"},
    {"tools => [#{name => f, strict => yes}]", "opts.tools[0].strict"},
    {"tools => [#{name => f, strict => true, parameters => #{type => object,"
     " properties => #{a => #{type => string}}}}]",
     "opts.tools[0].strict"},
    {"tools => [#{type => function, function => #{}}]",
     "opts.tools[0].function.name"},
    {"tools => [#{type => function, function => nil}]",
     "opts.tools[0].function"},
    {"tools => [#{type => retrieval, function => #{name => f}}]",
     "opts.tools[0].type"},
    {"tools => [#{name => f, function => #{name => f}}]", "opts.tools[0].name"},
    {"tool_choice => required", "opts.tool_choice"},
    {"tools => [], tool_choice => any", "opts.tool_choice"},
    {"tools => [#{name => f}], tool_choice => g", "opts.tool_choice"},
    {"tools => [#{name => f}], tool_choice => <<\"g\">>", "opts.tool_choice"},
    {"tools => [#{name => f}], tool_choice => {tool, g}", "opts.tool_choice"},
    {"tools => [#{name => f}], tool_choice => {tool, 1}", "opts.tool_choice"},
    {"tools => [#{name => f}], tool_choice => #{}", "opts.tool_choice"},
};

/* Each in {call_with_prompt, simple, "x", #{%s}}. */
static const struct wrong_call wrong_responses[] = {
    {"api_version => chat", "opts.api_version"},
    {"api_version => 1", "opts.api_version"},
    {"store => 1", "opts.store"},
    {"previous_response_id => <<>>", "opts.previous_response_id"},
    {"previous_response_id => <<\"resp 1\">>", "opts.previous_response_id"},
    {"previous_response_id => [114, 10]", "opts.previous_response_id"},
    {"previous_response_id => 1", "opts.previous_response_id"},
    {"api_version => chat_completions, previous_response_id => <<\"r\">>",
     "opts.api_version"},
    {"api_version => chat_completions,"
     " mcp_servers => [#{server_label => l, tunnel_id => t}]",
     "opts.api_version"},
    {"mcp_servers => #{server_label => l}", "opts.mcp_servers"},
    {"mcp_servers => [{server_label, l}, {tunnel_id, t}]", "opts.mcp_servers"},
    {"mcp_servers => \"abc\"", "opts.mcp_servers[0]"},
    {"mcp_servers => [#{server_label => l, tunnel_id => t}, 17]",
     "opts.mcp_servers[1]"},
    {"mcp_servers => [#{tunnel_id => t}]", "opts.mcp_servers[0].server_label"},
    {"mcp_servers => [#{server_label => nil, tunnel_id => t}]",
     "opts.mcp_servers[0].server_label"},
    {"mcp_servers => [#{server_label => \"l\", tunnel_id => t}]",
     "opts.mcp_servers[0].server_label"},
    {"mcp_servers => [#{server_label => l}]", "opts.mcp_servers[0].server_url"},
    {"mcp_servers => [#{server_label => l, server_url => <<\"ftp://x\">>}]",
     "opts.mcp_servers[0].server_url"},
    {"mcp_servers => [#{server_label => l, server_url => <<\"https://\">>}]",
     "opts.mcp_servers[0].server_url"},
    {"mcp_servers => [#{server_label => l, server_url => 1}]",
     "opts.mcp_servers[0].server_url"},
    {"mcp_servers => [#{server_label => l, connector_id => <<>>}]",
     "opts.mcp_servers[0].connector_id"},
    {"mcp_servers => [#{server_label => l, tunnel_id => t, type => web}]",
     "opts.mcp_servers[0].type"},
    {"mcp_servers => [#{server_label => l, headers => #{a => PID}}]",
     "opts.mcp_servers[0].headers.a"},
};

/* Each in {call, simple, [{user, "x"}, #{role => assistant, content => "a",
 * tool_calls => [#{id => i, name => f, arguments => #{}}]}, %s]}. */
static const struct wrong_call wrong_turns[] = {
    {"#{role => tool, content => \"x\"}", "messages[2].tool_call_id"},
    {"#{role => tool, content => \"x\", tool_call_id => j}",
     "messages[2].tool_call_id"},
    {"#{role => tool, content => \"x\", tool_call_id => 1}",
     "messages[2].tool_call_id"},
    {"#{role => tool, tool_call_id => i}", "messages[2].content"},
    {"#{role => user, content => \"x\", tool_call_id => i}",
     "messages[2].tool_call_id"},
    {"#{role => user, content => \"x\", tool_calls => []}",
     "messages[2].tool_calls"},
    {"#{role => assistant}", "messages[2].content"},
    {"#{role => assistant, content => nil, tool_calls => []}",
     "messages[2].content"},
    {"#{role => assistant, tool_calls => 17}", "messages[2].tool_calls"},
    {"#{role => assistant, tool_calls => [17]}", "messages[2].tool_calls[0]"},
    {"#{role => assistant, tool_calls => [#{name => f, arguments => #{}}]}",
     "messages[2].tool_calls[0].id"},
    {"#{role => assistant, tool_calls => [#{id => i, arguments => #{}}]}",
     "messages[2].tool_calls[0].name"},
    {"#{role => assistant, tool_calls => [#{id => i, name => f}]}",
     "messages[2].tool_calls[0].arguments"},
    {"#{role => assistant, tool_calls => [#{id => i, name => f,"
     " arguments => <<\"[1]\">>}]}",
     "messages[2].tool_calls[0].arguments"},
    {"#{role => assistant, tool_calls => [#{id => i, name => f,"
     " arguments => <<\"{\">>}]}",
     "messages[2].tool_calls[0].arguments"},
    {"#{role => assistant, tool_calls => [#{id => i, name => f,"
     " arguments => #{a => [REF]}}]}",
     "messages[2].tool_calls[0].arguments.a[0]"},
    {"#{role => assistant, tool_calls => [#{id => i, function =>"
     " #{name => <<\"f f\">>, arguments => #{}}}]}",
     "messages[2].tool_calls[0].function.name"},
    {"#{role => assistant, tool_calls => [#{id => i, type => custom, function"
     " => #{name => f, arguments => #{}}}]}",
     "messages[2].tool_calls[0].type"},
};

/* `op` fails as `wrong` says. */
static void assert_wrong(const char *op, const struct wrong_call *wrong)
{
    decode_op(op);
    if (call.kind != CALL_REJECTED || call.error.code != ERR_INVALID_REQUEST ||
        strcmp(call.error.path, wrong->path) != 0)
        fail_msg("%s: kind %d, code %s, path %s, message %s", op, call.kind,
                 error_atom(call.error.code), call.error.path,
                 call.error.message);
    assert_rejected(ERR_INVALID_REQUEST, wrong->path);
    assert_int_equal(call.reply.form, REPLY_GEN);
    arena_release(&arena);
    arena_init(&arena, 0);
}

static void a_wrong_argument_is_an_error_with_its_path(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wrong_calls) / sizeof(*wrong_calls); i++)
        assert_wrong(wrong_calls[i].op, &wrong_calls[i]);
}

static void a_wrong_tool_is_an_error_with_its_path(void **state)
{
    char op[1000];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong_tools) / sizeof(*wrong_tools); i++) {
        snprintf(op, sizeof(op), "{call, simple, [{user, \"x\"}], #{%s}}",
                 wrong_tools[i].op);
        assert_wrong(op, &wrong_tools[i]);
    }
}

static void a_wrong_option_of_the_responses_api_is_an_error(void **state)
{
    char op[1000];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong_responses) / sizeof(*wrong_responses);
         i++) {
        snprintf(op, sizeof(op), "{call_with_prompt, simple, \"x\", #{%s}}",
                 wrong_responses[i].op);
        assert_wrong(op, &wrong_responses[i]);
    }
}

static void a_wrong_turn_with_tools_is_an_error_with_its_path(void **state)
{
    char op[1000];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong_turns) / sizeof(*wrong_turns); i++) {
        snprintf(op, sizeof(op),
                 "{call, simple, [{user, \"x\"}, #{role => assistant, content"
                 " => \"a\", tool_calls => [#{id => i, name => f, arguments =>"
                 " #{}}]}, %s]}",
                 wrong_turns[i].op);
        assert_wrong(op, &wrong_turns[i]);
    }
}

static void an_unknown_option_is_answered_with_the_known_ones(void **state)
{
    (void)state;
    decode_op("{expand_task, \"x\", #{timout => 5}}");
    assert_string_equal(
        call.error.message,
        "not known here; known: model, provider, complexity, task_type, "
        "timeout, max_tokens, temperature, top_p, seed, effort, "
        "capabilities, request_id, keys, return, language, cache, metadata, "
        "num, context, count, next_id, existing, ...");
}

static void an_unknown_request_is_named(void **state)
{
    static const struct {
        const char *op, *message;
    } cases[] = {
        {"frobnicate", "no operation is named frobnicate"},
        {"{frobnicate, 1}", "no operation is named frobnicate"},
        {"{'$gen_call', {PID, REF}, ping}", "no operation is named $gen_call"},
        {"LATIN1", "no operation is named ?"},
        {"''", "no operation is named ?"},
        {"{}", "an operation is an atom or a tuple that begins with one"},
        {"{<<\"ping\">>}",
         "an operation is an atom or a tuple that begins with one"},
        {"<<\"ping\">>",
         "an operation is an atom or a tuple that begins with one"},
        {"[]", "an operation is an atom or a tuple that begins with one"},
        {"42", "an operation is an atom or a tuple that begins with one"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        decode_op(cases[i].op);
        assert_rejected(ERR_UNKNOWN_REQUEST, "");
        assert_string_equal(call.error.message, cases[i].message);
        assert_int_equal(call.reply.form, REPLY_GEN);
    }
}

/* {'$gen_call', {PID, REF}, {Name, ...}}: its `arity` - 1 last elements are to
 * be written. */
static void begin_operation(struct buf *out, const char *name, size_t arity)
{
    buf_init(out, TERM_TEST_MAX);
    append_hex(out, "83680377092467656e5f63616c6c6802" PID_HEX REF_HEX);
    term_put_tuple(out, arity);
    term_put_atom(out, name);
}

static void put_text_of(struct buf *out, size_t size)
{
    char *text = mem_alloc(size);

    memset(text, 'x', size);
    term_put_binary(out, slice_make(text, size));
    mem_free(text);
}

/* {generate_task, Prompt} with `size` bytes. */
static void decode_prompt_of(size_t size)
{
    struct buf out;

    begin_operation(&out, "generate_task", 2);
    put_text_of(&out, size);
    decode_bytes(take_checked(&out));
}

static void text_is_limited(void **state)
{
    (void)state;
    decode_prompt_of(CALL_TEXT_MAX);
    assert_request(OP_GENERATE_TASK);
    assert_int_equal(call.request.text.size, CALL_TEXT_MAX);
    decode_prompt_of(CALL_TEXT_MAX + 1);
    assert_rejected(ERR_TOO_LARGE, "prompt");
}

/* {call, simple, Messages} of `count` {user, Text} with `size` bytes each. */
static void decode_messages_of(size_t count, size_t size)
{
    struct buf out;

    begin_operation(&out, "call", 3);
    term_put_atom(&out, "simple");
    term_put_list(&out, count);
    for (size_t i = 0; i < count; i++) {
        term_put_tuple(&out, 2);
        term_put_atom(&out, "user");
        put_text_of(&out, size);
    }
    term_put_nil(&out);
    decode_bytes(take_checked(&out));
}

/* {Name, [Text, Text]} with `size` bytes each. */
static void decode_two_texts(const char *name, size_t size)
{
    struct buf out;

    begin_operation(&out, name, 2);
    term_put_list(&out, 2);
    put_text_of(&out, size);
    put_text_of(&out, size);
    term_put_nil(&out);
    decode_bytes(take_checked(&out));
}

static void texts_are_limited_together(void **state)
{
    (void)state;
    decode_two_texts("embed", CALL_TEXT_MAX / 2);
    assert_request(OP_EMBED);
    decode_two_texts("embed", CALL_TEXT_MAX / 2 + 1);
    assert_rejected(ERR_TOO_LARGE, "texts");
    /* As JSON a title has 12 bytes more. */
    decode_two_texts("analyze_complexity", CALL_TEXT_MAX / 2 - 12);
    assert_request(OP_ANALYZE_COMPLEXITY);
    decode_two_texts("analyze_complexity", CALL_TEXT_MAX / 2 - 11);
    assert_rejected(ERR_TOO_LARGE, "tasks");
}

static void messages_are_limited_in_number_and_together(void **state)
{
    (void)state;
    decode_messages_of(CALL_MESSAGES_MAX, 1);
    assert_request(OP_CALL);
    decode_messages_of(CALL_MESSAGES_MAX + 1, 1);
    assert_rejected(ERR_TOO_LARGE, "messages");
    decode_messages_of(2, CALL_TEXT_MAX / 2 + 1);
    assert_rejected(ERR_TOO_LARGE, "messages");
}

/* {'$gen_call', {PID, REF}, Op} where Op is `head` with `count` elements of
 * `element` in a list, and `tail` behind it. */
static void decode_many(const char *head, const char *element, size_t count,
                        const char *tail)
{
    struct buf message;

    buf_init(&message, TERM_TEST_MAX);
    buf_printf(&message, "{'$gen_call', {PID, REF}, %s[%s", head, element);
    for (size_t i = 1; i < count; i++)
        buf_printf(&message, ", %s", element);
    buf_printf(&message, "]%s}", tail);
    buf_append_byte(&message, '\0');
    decode(message.data);
    buf_release(&message);
}

static void lists_are_limited_in_number(void **state)
{
    static const struct {
        const char *head, *element, *tail, *path;
        size_t max;
    } cases[] = {
        {"{analyze_complexity, ", "<<\"x\">>", "}", "tasks", CALL_GIVEN_MAX},
        {"{embed, ", "<<\"x\">>", "}", "texts", REQUEST_TEXTS_MAX},
        {"{generate_task, \"x\", #{capabilities => ", "tools", "}}",
         "opts.capabilities", 32},
        {"{call_with_prompt, simple, \"x\", #{stop => ", "\"x\"", "}}",
         "opts.stop", REQUEST_STOPS_MAX},
        {"{parse_prd, \"x\", 0, #{existing => ", "7", "}}", "opts.existing",
         CALL_EXISTING_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        decode_many(cases[i].head, cases[i].element, cases[i].max,
                    cases[i].tail);
        assert_int_equal(call.kind, CALL_REQUEST);
        decode_many(cases[i].head, cases[i].element, cases[i].max + 1,
                    cases[i].tail);
        assert_rejected(ERR_TOO_LARGE, cases[i].path);
    }
    decode_many("{call, simple, [{user, \"x\"}], #{tools => ", "#{}",
                REQUEST_TOOLS_MAX + 1, "}}");
    assert_rejected(ERR_TOO_LARGE, "opts.tools");
    decode_many("{call, simple, [#{role => assistant, tool_calls => ", "#{}",
                REQUEST_TOOLS_MAX + 1, "}]}");
    assert_rejected(ERR_TOO_LARGE, "messages[0].tool_calls");
    decode_many("{generate_task, \"x\", #{metadata => ", "12345", 20000, "}}");
    assert_rejected(ERR_TOO_LARGE, "opts.metadata");
}

/* --- rpc --- */

static void an_rpc_call_is_the_same_operation(void **state)
{
    static const char *const modules[] = {"Elixir.LLMRouter.Server",
                                          "llm_router"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_true(decode_rpc(modules[i], "ping", "[]"));
        assert_request(OP_PING);
        assert_int_equal(call.reply.form, REPLY_RPC);
        assert_true(decode_rpc(modules[i], "parse_prd",
                               "[<<\"x\">>, 3, #{timeout => 5}]"));
        assert_request(OP_PARSE_PRD);
        assert_int_equal(call.request.count, 3);
        assert_int_equal(call.request.options.timeout_ms, 5);
        assert_true(decode_rpc(modules[i], "generate_task", "[17]"));
        assert_rejected(ERR_INVALID_REQUEST, "prompt");
        assert_int_equal(call.reply.form, REPLY_RPC);
    }
}

static void an_rpc_call_with_a_pid_answers_the_pid(void **state)
{
    (void)state;
    assert_true(decode_rpc("llm_router", "expand_task", "[\"x\", PID]"));
    assert_request(OP_EXPAND_TASK);
    assert_int_equal(call.reply.form, REPLY_NAMED);
    assert_raw(call.reply.pid, "PID");
    assert_true(decode_rpc("llm_router", "generate_task", "[\"x\", PID, REF]"));
    assert_request(OP_GENERATE_TASK);
    assert_int_equal(call.reply.form, REPLY_RESPONSE);
    assert_raw(call.reply.tag, "REF");
    assert_true(decode_rpc("llm_router", "generate_task", "[\"x\", 1, REF]"));
    assert_rejected(ERR_INVALID_REQUEST, "");
    assert_int_equal(call.reply.form, REPLY_RPC);
}

static void an_rpc_call_of_another_function_is_undefined(void **state)
{
    static const struct {
        const char *module, *function, *arguments;
    } cases[] = {
        {"llm_router", "frobnicate", "[1]"},
        {"llm_router", "ping", "[1]"},
        {"llm_router", "ping", "[1, 2, 3, 4, 5]"},
        {"llm_router", "generate_task", "[]"},
        {"llm_router", "generate_task", "[\"x\", PID, REF, 4]"},
        {"llm_router", "call", "[simple]"},
        {"llm_router", "call", "[simple, [], [], []]"},
        {"llm_router", "research", "[\"x\"]"},
        {"llm_router", "route", "[#{}, #{}]"},
        {"llm_router", "call_with_script", "[\"x\"]"},
        {"llm_router", "watch_task", "[]"},
        {"Elixir.LLM.Service", "ping", "[]"},
        {"Elixir.LLM.Service", "generate_task", "[\"x\"]"},
        {"Elixir.LLM.Service", "call", "[simple]"},
        {"Elixir.LLM.Service", "call", "[simple, [], [], []]"},
        {"Elixir.LLM.Service", "get_available_models", "[1]"},
        {"Elixir.Nexus.LLMRouter", "route", "[]"},
        {"Elixir.Nexus.LLMRouter", "select_model", "[simple, chat, []]"},
        {"Elixir.Nexus.LLMRouter", "call", "[simple, []]"},
        {"gleam_router", "route_completion", "[#{}, #{}]"},
        {"gleam_router", "route", "[#{}]"},
        {"llm_router", "llm_request", "[PID, REF, ping]"},
        {"llm_router", "ping", "[1 | 2]"},
        {"llm_router", "ping", "nil"},
        {"Elixir.LLMRouter", "ping", "[]"},
        {"lists", "reverse", "[\"abc\"]"},
        {"", "", "[]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        if (decode_rpc(cases[i].module, cases[i].function, cases[i].arguments))
            fail_msg("%s:%s%s", cases[i].module, cases[i].function,
                     cases[i].arguments);
}

static void older_modules_have_the_functions_of_their_callers(void **state)
{
    static const struct {
        const char *module, *function, *arguments;
        enum operation operation;
    } cases[] = {
        {"Elixir.LLM.Service", "call", "[simple, [{user, \"x\"}]]", OP_CALL},
        {"Elixir.LLM.Service", "call",
         "[simple, [{user, \"x\"}], [{timeout, 5}]]", OP_CALL},
        {"Elixir.LLM.Service", "call_with_prompt", "[simple, \"x\"]",
         OP_CALL_WITH_PROMPT},
        {"Elixir.LLM.Service", "call_with_system", "[simple, \"x\", \"y\", []]",
         OP_CALL_WITH_SYSTEM},
        {"Elixir.LLM.Service", "get_available_models", "[]",
         OP_AVAILABLE_MODELS},
        {"Elixir.LLM.Service", "determine_complexity_for_task", "[qa]",
         OP_COMPLEXITY_FOR_TASK},
        {"Elixir.Nexus.LLMRouter", "route",
         "[#{messages => [{user, \"x\"}], task_type => qa}]", OP_ROUTE},
        {"Elixir.Nexus.LLMRouter", "select_model", "[complex, qa]",
         OP_SELECT_MODEL},
        {"gleam_router", "route_completion",
         "[#{<<\"model\">> => <<\"m\">>, <<\"messages\">> => [{user, \"x\"}]}]",
         OP_ROUTE_COMPLETION},
        {"llm_router", "route", "[#{messages => [{user, \"x\"}]}]", OP_ROUTE},
        {"llm_router", "embed", "[\"x\", []]", OP_EMBED},
        {"llm_router", "cancel", "[REF]", OP_CANCEL},
        {"llm_router", "research", "[\"x\", nil, []]", OP_RESEARCH},
        {"Elixir.LLM.Service", "call_with_script", "[<<\"x.lua\">>, #{}]",
         OP_CALL_WITH_SCRIPT},
        {"llm_router", "analyze_complexity", "[[<<\"x\">>]]",
         OP_ANALYZE_COMPLEXITY},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_true(
            decode_rpc(cases[i].module, cases[i].function, cases[i].arguments));
        assert_request(cases[i].operation);
        assert_int_equal(call.reply.form, REPLY_RPC);
    }
}

static void packed_rpc_arguments_are_integers(void **state)
{
    struct slice bytes = term_bytes("[5, 6, 7]");
    struct invocation invocation;
    int64_t value;

    (void)state;
    assert_true(
        invocation_of_list(&invocation, slice_of("f"), external_term(bytes)));
    forget(bytes);
    assert_int_equal(invocation.count, 3);
    for (int i = 0; i < 3; i++) {
        assert_true(term_integer(invocation.arguments[i], &value));
        assert_int_equal(value, 5 + i);
    }
    assert_true(decode_rpc("llm_router", "parse_prd", "[5, 5]"));
    assert_rejected(ERR_INVALID_REQUEST, "content");
}

/* --- the queue --- */

#define QUEUE_ID "6f1c1f0e-6c0e-4b0e-9a0e-0f3a5c1d2b3a"

static void assert_members(const char *members)
{
    assert_request(OP_ENQUEUE);
    assert_non_null(call.request.enqueued);
    assert_slice(call.request.enqueued->members, members);
}

static void an_enqueued_operation_is_kept_as_json(void **state)
{
    (void)state;
    decode_op("{enqueue, {parse_prd, \"A \\\"shop\\\"\", 5}}");
    assert_members("\"operation\":\"parse_prd\","
                   "\"content\":\"A \\\"shop\\\"\",\"num_tasks\":5");
    assert_int_equal(call.request.enqueued->request_id.size, 0);
    assert_int_equal(call.request.enqueued->agent_id.size, 0);
    assert_int_equal(call.request.enqueued->notify_name.size, 0);
    assert_int_equal(call.request.enqueued->delay_s, 0);
    decode_op("{enqueue, {call, simple, [{user, [<<\"H\">>, 105]}], "
              "[{timeout, infinity}, {seed, nil}, {stop, <<\"x\">>}]}, []}");
    assert_members("\"operation\":\"call\",\"complexity\":\"simple\","
                   "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],"
                   "\"options\":{\"timeout\":\"infinity\",\"stop\":\"x\"}");
    decode_op("{enqueue, {route, #{messages => [{user, <<\"Hi\">>}], "
              "model => <<\"m\">>}}}");
    assert_members("\"operation\":\"route\",\"request\":{\"messages\":"
                   "[{\"role\":\"user\",\"content\":\"Hi\"}]},"
                   "\"options\":{\"model\":\"m\"}");
}

static void an_enqueued_operation_may_be_called_in_every_way(void **state)
{
    (void)state;
    decode("{llm_request, PID, REF, {enqueue, {embed, <<\"a\">>}}}");
    assert_members("\"operation\":\"embed\",\"texts\":[\"a\"]");
    assert_int_equal(call.reply.form, REPLY_RESPONSE);
    assert_true(decode_rpc("llm_router", "enqueue", "[{embed, <<\"a\">>}]"));
    assert_members("\"operation\":\"embed\",\"texts\":[\"a\"]");
    assert_true(decode_rpc("llm_router", "enqueue",
                           "[{embed, <<\"a\">>}, #{delay => 1}]"));
    assert_int_equal(call.request.enqueued->delay_s, 1);
    assert_false(decode_rpc("llm_router", "enqueue", "[]"));
    assert_false(decode_rpc("llm_router", "enqueue", "[a, [], []]"));
    assert_true(decode_rpc("llm_router", "await", "[\"" QUEUE_ID "\", 5]"));
    assert_request(OP_AWAIT);
    assert_false(decode_rpc("llm_router", "await", "[\"" QUEUE_ID "\"]"));
    assert_true(decode_rpc("llm_router", "result", "[\"" QUEUE_ID "\"]"));
    assert_request(OP_RESULT);
}

static void enqueue_says_when_under_which_id_and_who_is_told(void **state)
{
    static const char *const receivers[] = {
        "{results, app@host}",
        "[<<\"results\">>, <<\"app@host\">>]",
        "#{<<\"name\">> => \"results\", <<\"node\">> => app@host}",
        "[{name, results}, {node, app@host}]",
    };
    char op[512];

    (void)state;
    for (size_t i = 0; i < sizeof(receivers) / sizeof(*receivers); i++) {
        snprintf(op, sizeof(op),
                 "{enqueue, {generate_task, <<\"p\">>}, #{request_id => "
                 "<<\"6F1C1F0E-6C0E-4B0E-9A0E-0F3A5C1D2B3A\">>, "
                 "delay => 2592000, agent_id => <<\"planner\">>, "
                 "notify => %s}}",
                 receivers[i]);
        decode_op(op);
        assert_members("\"operation\":\"generate_task\",\"prompt\":\"p\"");
        assert_slice(call.request.enqueued->request_id, QUEUE_ID);
        assert_int_equal(call.request.enqueued->delay_s, 2592000);
        assert_slice(call.request.enqueued->agent_id, "planner");
        assert_slice(call.request.enqueued->notify_name, "results");
        assert_slice(call.request.enqueued->notify_node, "app@host");
    }
}

static void the_options_of_enqueue_are_checked(void **state)
{
    static const char *const cases[][2] = {
        {"#{request_id => <<\"x\">>}", "opts.request_id"},
        {"#{request_id => 5}", "opts.request_id"},
        {"#{delay => -1}", "opts.delay"},
        {"#{delay => 2592001}", "opts.delay"},
        {"#{delay => 1.5}", "opts.delay"},
        {"#{agent_id => PID}", "opts.agent_id"},
        {"#{notify => PID}", "opts.notify"},
        {"#{notify => {results, host}}", "opts.notify.node"},
        {"#{notify => {<<>>, app@host}}", "opts.notify.name"},
        {"#{notify => {PID, app@host}}", "opts.notify.name"},
        {"#{notify => {LATIN1, app@host}}", "opts.notify.name"},
        {"#{notify => [a, b, c]}", "opts.notify"},
        {"#{notify => [a, app@host | c]}", "opts.notify"},
        {"#{notify => \"ab\"}", "opts.notify"},
        {"#{notify => #{name => results}}", "opts.notify.node"},
        {"#{notify => #{pid => results}}", "opts.notify.pid"},
        {"#{timeout => 5}", "opts.timeout"},
        {"17", "opts"},
    };
    char op[512];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        snprintf(op, sizeof(op), "{enqueue, {generate_task, <<\"p\">>}, %s}",
                 cases[i][0]);
        decode_op(op);
        assert_rejected(ERR_INVALID_REQUEST, cases[i][1]);
    }
}

static void an_operation_is_checked_before_it_is_enqueued(void **state)
{
    static const char *const cases[][2] = {
        {"ping", "operation"},
        {"{cancel, <<\"x\">>}", "operation"},
        {"{stream, medium, [{user, <<\"Hi\">>}]}", "operation"},
        {"{enqueue, {generate_task, <<\"p\">>}}", "operation"},
        {"{select_model, simple, qa}", "operation"},
        {"{parse_prd, <<\"c\">>, 101}", "operation.num_tasks"},
        {"{parse_prd, <<\"c\">>}", "operation.num_tasks"},
        {"{parse_prd, <<0>>, 5}", "operation.content"},
        {"{generate_task, <<\"p\">>, PID}", "operation.opts"},
        {"{generate_task, <<\"p\">>, #{timeout => 0}}",
         "operation.opts.timeout"},
        {"{generate_task, <<\"p\">>, #{to => PID}}", "operation.opts.to"},
        {"{generate_task, <<\"p\">>, #{request_id => <<\"x\">>}}",
         "operation.opts.request_id"},
        {"{generate_task, <<\"p\">>, #{metadata => #{a => PID}}}",
         "operation.opts.metadata.a"},
        {"{generate_task, <<\"p\">>, #{metadata => {a, b}}}",
         "operation.opts.metadata"},
        {"{call, medium, [{user, <<\"\">>}]}", "operation.messages[0].content"},
        {"{call, medium, [{user, <<0>>}]}", "operation.messages[0].content"},
        {"{route, #{messages => [{user, <<\"Hi\">>}], seed => x}}",
         "operation.request.seed"},
        {"{route, #{messages => [{user, <<\"Hi\">>}], metadata => PID}}",
         "operation.request.metadata"},
        {"{route, #{messages => [{user, <<\"Hi\">>}], request_id => x}}",
         "operation.request.request_id"},
        {"{expand_task, #{name => <<\"T\">>}}", "operation.task.title"},
    };
    char op[512];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        snprintf(op, sizeof(op), "{enqueue, %s}", cases[i][0]);
        decode_op(op);
        assert_rejected(ERR_INVALID_REQUEST, cases[i][1]);
    }
    decode_op("{enqueue, {no_such_operation, 1}}");
    assert_rejected(ERR_UNKNOWN_REQUEST, "operation");
    decode_op("{enqueue, 17}");
    assert_rejected(ERR_UNKNOWN_REQUEST, "operation");
}

static void await_takes_an_id_and_a_time(void **state)
{
    (void)state;
    decode_op("{await, <<\"6F1C1F0E-6C0E-4B0E-9A0E-0F3A5C1D2B3A\">>, 0}");
    assert_request(OP_AWAIT);
    assert_slice(call.request.text, QUEUE_ID);
    assert_int_equal(call.request.wait_ms, 0);
    decode_op("{await, \"" QUEUE_ID "\", 3600000}");
    assert_request(OP_AWAIT);
    assert_int_equal(call.request.wait_ms, 3600000);
    decode_op("{await, \"" QUEUE_ID "\", infinity}");
    assert_request(OP_AWAIT);
    assert_int_equal(call.request.wait_ms, REQUEST_TIMEOUT_MAX_MS);
    decode_op("{await, \"" QUEUE_ID "\", 3600001}");
    assert_rejected(ERR_INVALID_REQUEST, "timeout");
    decode_op("{await, \"" QUEUE_ID "\", -1}");
    assert_rejected(ERR_INVALID_REQUEST, "timeout");
    decode_op("{await, \"" QUEUE_ID "\"}");
    assert_rejected(ERR_INVALID_REQUEST, "timeout");
    decode_op("{await, <<\"x\">>, 5}");
    assert_rejected(ERR_INVALID_REQUEST, "request_id");
}

static void result_takes_an_id(void **state)
{
    (void)state;
    decode_op("{result, <<\"" QUEUE_ID "\">>}");
    assert_request(OP_RESULT);
    assert_slice(call.request.text, QUEUE_ID);
    decode_op("{result, REF}");
    assert_rejected(ERR_INVALID_REQUEST, "request_id");
    decode_op("{result, <<\"" QUEUE_ID "\">>, []}");
    assert_rejected(ERR_INVALID_REQUEST, "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_gen_server_call_is_answered_to_its_alias),
        TEST(a_send_request_carries_its_options),
        TEST(a_multi_call_has_a_tag_without_a_monitor),
        TEST(a_cast_with_a_pid_is_answered_by_name),
        TEST(a_cast_without_a_pid_is_ignored),
        TEST(a_prd_request_is_answered_as_one),
        TEST(an_llm_request_is_answered_with_its_reference),
        TEST(a_named_message_with_a_reference_is_answered_with_it),
        TEST(sys_requests_are_told_apart),
        TEST(a_charlist_of_wide_characters_is_text),
        TEST(strays_are_ignored),
        TEST(tags_say_where_the_answer_goes),
        TEST(a_call_of_a_form_with_a_pid_is_acknowledged),
        TEST(an_error_of_a_form_with_a_pid_goes_to_the_pid),
        TEST(bare_operations_are_atoms),
        TEST(what_is_not_said_has_its_default),
        TEST(text_may_be_a_binary_a_charlist_or_iodata),
        TEST(expand_task_takes_a_map_or_a_title),
        TEST(complexity_is_a_word_or_a_model),
        TEST(messages_come_as_maps_keyword_lists_and_tuples),
        TEST(prompts_become_messages),
        TEST(tasks_to_analyze_are_maps_or_titles),
        TEST(research_has_a_topic_and_perhaps_a_context),
        TEST(a_routed_request_is_one_map),
        TEST(texts_to_embed_are_one_or_many),
        TEST(what_is_cancelled_is_a_reference_or_a_request_id),
        TEST(the_complexity_of_a_task_type_is_asked_by_name),
        TEST(a_stream_goes_to_who_is_answered_or_named),
        TEST(what_is_watched_goes_to_who_is_answered_or_named),
        TEST(a_script_has_a_name_and_a_context),
        TEST(a_stream_needs_a_receiver_where_the_caller_is_unknown),
        TEST(options_are_read_from_maps_and_keyword_lists),
        TEST(options_of_chats_are_read),
        TEST(one_stop_may_be_a_text_by_itself),
        TEST(a_language_may_be_named_in_any_script),
        TEST(tools_come_flat_and_as_openai_nests_them),
        TEST(a_tool_is_strict_only_if_it_can_be_and_may_be),
        TEST(a_tool_is_chosen_by_word_or_name),
        TEST(a_tool_call_and_its_answer_are_messages),
        TEST(options_of_the_responses_api_are_read),
        TEST(what_only_one_api_has_says_which_is_asked),
        TEST(a_tools_answer_may_belong_to_an_answer_that_was_kept),
        TEST(mcp_servers_are_limited),
        TEST(a_schema_is_kept_as_json),
        TEST(nil_is_an_option_that_is_not_given),
        TEST(the_first_of_two_keywords_counts),
        TEST(an_infinite_timeout_is_the_longest_there_is),
        TEST(a_wrong_argument_is_an_error_with_its_path),
        TEST(a_wrong_tool_is_an_error_with_its_path),
        TEST(a_wrong_option_of_the_responses_api_is_an_error),
        TEST(a_wrong_turn_with_tools_is_an_error_with_its_path),
        TEST(an_unknown_option_is_answered_with_the_known_ones),
        TEST(an_unknown_request_is_named),
        TEST(text_is_limited),
        TEST(messages_are_limited_in_number_and_together),
        TEST(texts_are_limited_together),
        TEST(lists_are_limited_in_number),
        TEST(an_rpc_call_is_the_same_operation),
        TEST(an_rpc_call_with_a_pid_answers_the_pid),
        TEST(an_rpc_call_of_another_function_is_undefined),
        TEST(older_modules_have_the_functions_of_their_callers),
        TEST(packed_rpc_arguments_are_integers),
        TEST(an_enqueued_operation_is_kept_as_json),
        TEST(an_enqueued_operation_may_be_called_in_every_way),
        TEST(enqueue_says_when_under_which_id_and_who_is_told),
        TEST(the_options_of_enqueue_are_checked),
        TEST(an_operation_is_checked_before_it_is_enqueued),
        TEST(await_takes_an_id_and_a_time),
        TEST(result_takes_an_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
