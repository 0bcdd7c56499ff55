/* Any text as a script, with limits that end it soon: it makes a JSON object
 * with messages and options that the parent's reader takes, or a fault with a
 * clean message; the same again from the same compiled code.
 *
 * Texts with the name of a library function that can work long without meeting
 * an instruction are passed over: a process of its own is the answer to those
 * (script/worker.h). */
#include <stdlib.h>

#include "llm_router/base/utf8.h"
#include "llm_router/script/worker.h"

static const struct script_limits LIMITS = {256 * 1024, 20000, 1000};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool may_work_long(struct slice text)
{
    static const char *const names[] = {"rep",  "move",  "__len", "insert",
                                        "find", "match", "gsub",  "remove"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (slice_find(text, slice_of(names[i])) >= 0)
            return true;
    return false;
}

static void require_fault(const struct script_fault *fault)
{
    size_t size = strnlen(fault->message, sizeof(fault->message));

    require(size > 0 && size < sizeof(fault->message));
    require(utf8_is_valid(slice_of(fault->message)) && fault->line >= 0);
}

static void run(struct arena *arena, struct slice code,
                const struct jv *context)
{
    struct script_answer answer;
    struct script_fault fault;
    struct error err;
    struct buf out;

    buf_init(&out, 1 << 20);
    if (script_run(code, context, &LIMITS, &out, &fault))
        require(script_read_answer(arena, buf_slice(&out), &answer, &err) &&
                answer.messages);
    else
        require_fault(&fault);
    buf_release(&out);
}

static const struct jv *make_context(struct arena *arena)
{
    struct error err;
    struct jv *value;

    require(jv_parse(arena,
                     SLICE_LITERAL("{\"a\":[1,2.5,null,{}],\"b\":\"text\","
                                   "\"c\":{\"d\":true,\"e\":null}}"),
                     JV_STRICT, &JV_DEFAULT_LIMITS, NULL, &value, &err));
    return value;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct script_source source = {SLICE_LITERAL("fuzz.lua"),
                                         slice_make(data, size)};
    struct script_fault fault;
    struct arena arena;
    struct buf code;

    if (may_work_long(source.text))
        return 0;
    arena_init(&arena, 0);
    buf_init(&code, 1 << 20);
    if (script_compile(&source, &LIMITS, &code, &fault)) {
        run(&arena, buf_slice(&code), make_context(&arena));
        run(&arena, buf_slice(&code), NULL);
    } else {
        require_fault(&fault);
    }
    buf_release(&code);
    arena_release(&arena);
    return 0;
}
