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
    static const enum operation bare[] = {OP_PING,  OP_VERSION, OP_HEALTH,
                                          OP_STATS, OP_MODELS,  OP_DRAIN};
    char tuple[32];

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
    {"{call, simple, [{tool, \"x\"}]}", "messages[0].role"},
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
    {"{select_model, simple, chat, #{return => full}}", "opts.return"},
    {"{generate_task, \"x\", #{top_p => 0.5}}", "opts.top_p"},
    {"{generate_task, \"x\", #{stop => []}}", "opts.stop"},
    {"{generate_task, \"x\", #{seed => 5}}", "opts.seed"},
    {"{generate_task, \"x\", #{tools => []}}", "opts.tools"},
    {"{generate_task, \"x\", #{tool_choice => auto}}", "opts.tool_choice"},
    {"{generate_task, \"x\", #{capabilities => []}}", "opts.capabilities"},
    {"{generate_task, \"x\", #{task_id => 5}}", "opts.task_id"},
    {"{generate_task, \"x\", #{language => de}}", "opts.language"},
    {"{generate_task, \"x\", #{cache => true}}", "opts.cache"},
    {"{generate_task, \"x\", #{metadata => #{}}}", "opts.metadata"},
    {"{generate_task, \"x\", #{to => PID}}", "opts.to"},
};

static void a_wrong_argument_is_an_error_with_its_path(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(wrong_calls) / sizeof(*wrong_calls); i++) {
        decode_op(wrong_calls[i].op);
        if (call.kind != CALL_REJECTED ||
            call.error.code != ERR_INVALID_REQUEST ||
            strcmp(call.error.path, wrong_calls[i].path) != 0)
            fail_msg("%s: kind %d, code %s, path %s, message %s",
                     wrong_calls[i].op, call.kind, error_atom(call.error.code),
                     call.error.path, call.error.message);
        assert_rejected(ERR_INVALID_REQUEST, wrong_calls[i].path);
        assert_int_equal(call.reply.form, REPLY_GEN);
        arena_release(&arena);
        arena_init(&arena, 0);
    }
}

static void an_unknown_option_is_answered_with_the_known_ones(void **state)
{
    (void)state;
    decode_op("{expand_task, \"x\", #{timout => 5}}");
    assert_string_equal(
        call.error.message,
        "not known here; known: model, provider, complexity, task_type, "
        "timeout, max_tokens, temperature, request_id, keys, return, num, "
        "context, count, next_id, existing");
    decode_op("{generate_task, \"x\", #{seed => 5}}");
    assert_string_equal(call.error.message, "not supported by this version");
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
        {"{research, \"x\", \"y\"}", "research: not in this version"},
        {"{stream, simple, [], []}", "stream: not in this version"},
        {"{cancel, REF}", "cancel: not in this version"},
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

/* {'$gen_call', {PID, REF}, {generate_task, Prompt}} with `size` bytes. */
static void decode_prompt_of(size_t size)
{
    char *prompt = mem_alloc(size);
    struct buf out;

    memset(prompt, 'x', size);
    buf_init(&out, TERM_TEST_MAX);
    append_hex(&out, "83680377092467656e5f63616c6c6802" PID_HEX REF_HEX);
    term_put_tuple(&out, 2);
    term_put_atom(&out, "generate_task");
    term_put_binary(&out, slice_make(prompt, size));
    mem_free(prompt);
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

/* {'$gen_call', {PID, REF}, {call, simple, Messages}} of `count` {user, Text}
 * with `size` bytes each. */
static void decode_messages_of(size_t count, size_t size)
{
    char *text = mem_alloc(size);
    struct buf out;

    memset(text, 'x', size);
    buf_init(&out, TERM_TEST_MAX);
    append_hex(&out, "83680377092467656e5f63616c6c6802" PID_HEX REF_HEX);
    term_put_tuple(&out, 3);
    term_put_atom(&out, "call");
    term_put_atom(&out, "simple");
    term_put_list(&out, count);
    for (size_t i = 0; i < count; i++) {
        term_put_tuple(&out, 2);
        term_put_atom(&out, "user");
        term_put_binary(&out, slice_make(text, size));
    }
    term_put_nil(&out);
    mem_free(text);
    decode_bytes(take_checked(&out));
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
        {"llm_router", "research", "[\"x\", \"y\"]"},
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
        TEST(options_are_read_from_maps_and_keyword_lists),
        TEST(a_schema_is_kept_as_json),
        TEST(nil_is_an_option_that_is_not_given),
        TEST(the_first_of_two_keywords_counts),
        TEST(an_infinite_timeout_is_the_longest_there_is),
        TEST(a_wrong_argument_is_an_error_with_its_path),
        TEST(an_unknown_option_is_answered_with_the_known_ones),
        TEST(an_unknown_request_is_named),
        TEST(text_is_limited),
        TEST(messages_are_limited_in_number_and_together),
        TEST(an_rpc_call_is_the_same_operation),
        TEST(an_rpc_call_with_a_pid_answers_the_pid),
        TEST(an_rpc_call_of_another_function_is_undefined),
        TEST(packed_rpc_arguments_are_integers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
