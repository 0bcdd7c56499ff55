/* Whatever a model writes: a dialogue ends within its turns, and each list
 * that it gives holds the invariants of docs/calling.md, checked here without
 * the code that makes them true.
 *
 * Input: operation, flags, count, then answers separated by 0xFF. */
#include <math.h>
#include <stdlib.h>

#include "llm_router/base/utf8.h"
#include "llm_router/core/dialogue.h"

enum {
    FLAG_ABOUT = 1,
    FLAG_NEXT_ID = 2,
    FLAG_EXISTING = 4,
    FLAG_LENGTH = 8,
    FLAG_SHRINK = 16,
    TURNS_MAX = 2 + DIALOGUE_CONTINUATIONS_MAX,
    PARTS_MAX = 64,
    DOCUMENT = 8000, /* bytes of the one that is read in parts */
    GIVEN = 30,
    EXISTING_MAX = 41, /* the last of `existing` */
};

static const struct prompts PROMPTS = {
    .generate_task_system = SLICE_LITERAL("system"),
    .generate_task_user = SLICE_LITERAL("{{request}}{{existing}}"),
    .parse_prd_system = SLICE_LITERAL("system"),
    .parse_prd_user = SLICE_LITERAL("{{document}}{{count}}{{existing}}"),
    .expand_task_system = SLICE_LITERAL("system"),
    .expand_task_user = SLICE_LITERAL("{{task}}{{context}}{{count}}"),
    .analyze_complexity_user = SLICE_LITERAL("{{tasks}}{{count}}"),
    .research_user = SLICE_LITERAL("{{topic}}{{context}}"),
    .merge = SLICE_LITERAL("{{tasks}}{{count}}{{existing}}"),
    .language = SLICE_LITERAL("{{language}}"),
    .repair = SLICE_LITERAL("{{fault}}"),
    .continuation = SLICE_LITERAL("{{done}}{{count}}{{next}}"),
    .object = SLICE_LITERAL("{{schema}}"),
    .task_schema = SLICE_LITERAL("{}"),
    .task_list_schema = SLICE_LITERAL("{}"),
    .subtask_list_schema = SLICE_LITERAL("{}"),
};

static const int64_t existing[] = {40, 3, EXISTING_MAX, 3};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void require_clean(struct slice text)
{
    require(utf8_is_valid(text));
    require(text.size == 0 || !memchr(text.data, '\0', text.size));
}

static uint32_t next_character(struct slice *text)
{
    const unsigned char *at = (const unsigned char *)text->data;
    size_t size = utf8_char_size(*text);
    uint32_t character = size == 1 ? at[0] : at[0] & (0x7Fu >> size);

    for (size_t i = 1; i < size; i++)
        character = character << 6 | (at[i] & 0x3F);
    *text = slice_make(text->data + size, text->size - size);
    return character;
}

/* Unicode's White_Space, and control characters. */
static bool is_blank(uint32_t c)
{
    return c <= 0x20 || (c >= 0x7F && c <= 0xA0) || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

static void require_title(struct slice title)
{
    uint32_t before = ' ';
    size_t length = 0;

    require_clean(title);
    for (; title.size > 0; length++) {
        uint32_t character = next_character(&title);

        require(!is_blank(character) || (character == ' ' && before != ' '));
        before = character;
    }
    require(before != ' ' && length >= 1 && length <= TASK_TITLE_MAX);
}

static void require_text(struct slice text)
{
    require(!text.data || text.size > 0);
    require_clean(text);
}

static bool is_existing(int64_t id, const struct request *request)
{
    for (size_t i = 0; i < request->options.existing_count; i++)
        if (existing[i] == id)
            return true;
    return false;
}

static void require_task(const struct task *task, int64_t first,
                         const struct request *request)
{
    require_title(task->title);
    require_text(task->description);
    require_text(task->details);
    require_text(task->test_strategy);
    require_text(task->source);
    require(task->priority == PRIORITY_HIGH ||
            task->priority == PRIORITY_MEDIUM ||
            task->priority == PRIORITY_LOW);
    require(isnan(task->estimated_hours) ||
            (task->estimated_hours >= 0 && isfinite(task->estimated_hours)));
    for (size_t i = 0; i < task->dependency_count; i++) {
        int64_t id = task->dependencies[i];

        require(id < task->id);
        require(i == 0 || id > task->dependencies[i - 1]);
        require(id >= first || is_existing(id, request));
    }
}

static void require_tasks(const struct task_list *tasks,
                          const struct request *request)
{
    const struct options *options = &request->options;
    int64_t first = options->next_id > 0          ? options->next_id
                    : options->existing_count > 0 ? EXISTING_MAX + 1
                                                  : 1;

    require(tasks->count > 0);
    require(request->operation != OP_GENERATE_TASK || tasks->count == 1);
    require(request->count == 0 || options->about ||
            tasks->count == (size_t)request->count);
    for (size_t i = 0; i < tasks->count; i++) {
        require(tasks->tasks[i].id == first + (int64_t)i);
        require_task(&tasks->tasks[i], first, request);
    }
}

/* The schema is {"required": ["a"], properties a: integer, no others}. */
static void require_object(const struct jv *object)
{
    const struct jv *a = jv_find(object, "a");

    require(object->complete && jv_count(object) == 1);
    require(a && jv_number(a, 0.5) == floor(jv_number(a, 0.5)));
}

static void require_analyses(const struct result *result,
                             const struct request *request)
{
    require(result->analysis_count == request->given_count);
    for (size_t i = 0; i < result->analysis_count; i++) {
        const struct analysis *analysis = &result->analyses[i];

        require(analysis->task == &request->given[i]);
        require(analysis->score >= 1 && analysis->score <= 10);
        require(analysis->subtasks >= 0 && analysis->subtasks <= 100);
        require_text(analysis->expansion_prompt);
        require_text(analysis->reasoning);
    }
}

static void require_research(const struct result *result)
{
    require(result->text.size > 0);
    require_clean(result->text);
    for (size_t i = 0; i < result->source_count; i++) {
        require(result->sources[i].size > 0);
        require_clean(result->sources[i]);
    }
}

static void require_result(const struct result *result,
                           const struct request *request)
{
    require(result->warnings.count <= WARNINGS_MAX);
    for (size_t i = 0; i < result->warnings.count; i++)
        require_clean(result->warnings.texts[i]);
    if (request->operation == OP_CALL)
        require_object(result->object);
    else if (request->operation == OP_ANALYZE_COMPLEXITY)
        require_analyses(result, request);
    else if (request->operation == OP_RESEARCH)
        require_research(result);
    else
        require_tasks(&result->tasks, request);
}

static void require_question(const struct chat *chat)
{
    require(chat->message_count >= 2);
    require(chat->messages[chat->message_count - 1].role == ROLE_USER);
    for (size_t i = 0; i < chat->message_count; i++)
        require_clean(chat->messages[i].content);
}

static void require_error(const struct error *err)
{
    require(err->code == ERR_INVALID_OUTPUT || err->code == ERR_TASK_COUNT);
    require(err->code != ERR_TASK_COUNT || err->wanted != err->got);
    require_clean(slice_of(err->message));
    require_clean(slice_of(err->path));
}

static struct slice next_answer(struct slice *rest)
{
    const char *end = memchr(rest->data, 0xFF, rest->size);
    size_t size = end ? (size_t)(end - rest->data) : rest->size;
    struct slice answer = slice_make(rest->data, size);

    size += end != NULL;
    *rest = slice_make(rest->data + size, rest->size - size);
    return answer;
}

/* The room is for documents of less than DOCUMENT bytes. */
static void talk(struct arena *arena, const struct request *request,
                 unsigned flags, struct slice answers)
{
    struct dialogue_room room = {2000, 500};
    struct error err;
    struct dialogue *dialogue =
        dialogue_begin(arena, request, &PROMPTS, &room, &err);
    enum dialogue_step step = DIALOGUE_ASK;

    require(dialogue != NULL);
    for (int turn = 0; step == DIALOGUE_ASK; turn++) {
        struct completion completion = {
            .finish = flags & FLAG_LENGTH ? FINISH_LENGTH : FINISH_STOP};

        require(turn < TURNS_MAX * PARTS_MAX);
        if (flags & FLAG_SHRINK && turn % 4 == 3)
            dialogue_shrink(dialogue);
        require_question(dialogue_chat(dialogue));
        completion.text = utf8_clean(arena, next_answer(&answers));
        step = dialogue_answer(dialogue, &completion, &err);
    }
    if (step == DIALOGUE_DONE)
        require_result(dialogue_result(dialogue), request);
    else
        require_error(&err);
}

static struct slice long_document(struct arena *arena)
{
    struct buf buf;

    buf_init(&buf, SIZE_MAX);
    for (int i = 1; buf.size < DOCUMENT; i++)
        buf_printf(&buf, "# Heading %d\nSome words of section %d.\n", i, i);
    return arena_keep(arena, &buf);
}

static struct given_task *given_tasks(struct arena *arena, size_t count)
{
    struct given_task *given = arena_array(arena, count, sizeof(*given));

    for (size_t i = 0; i < count; i++)
        given[i].title = arena_printf(arena, "T%zu", i % 5);
    return given;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum operation operations[] = {
        OP_GENERATE_TASK,      OP_PARSE_PRD, OP_EXPAND_TASK, OP_CALL,
        OP_ANALYZE_COMPLEXITY, OP_RESEARCH,  OP_PARSE_PRD,   OP_PARSE_PRD};
    static const char schema[] =
        "{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"],"
        "\"type\":\"object\",\"additionalProperties\":false}";
    struct message message = {.role = ROLE_USER,
                              .content = SLICE_LITERAL("question")};
    struct request request = {.text = SLICE_LITERAL("text"),
                              .messages = &message,
                              .message_count = 1};
    struct arena arena;
    struct jv *parsed;
    struct error err;

    if (size < 3)
        return 0;
    arena_init(&arena, 0);
    require(jv_parse(&arena, SLICE_LITERAL(schema), JV_STRICT,
                     &JV_DEFAULT_LIMITS, NULL, &parsed, &err));
    request.operation = operations[data[0] % 8];
    if (data[0] % 8 >= 6)
        request.text = long_document(&arena);
    request.given = given_tasks(&arena, data[2] % GIVEN + 1);
    request.given_count = data[2] % GIVEN + 1;
    request.options = (struct options){
        .temperature = NAN,
        .top_p = NAN,
        .schema = request.operation == OP_CALL ? parsed : NULL,
        .about = data[1] & FLAG_ABOUT,
        .full = true,
        .next_id = data[1] & FLAG_NEXT_ID ? EXISTING_MAX + 9 : 0,
        .existing = existing,
        .existing_count = data[1] & FLAG_EXISTING ? 4 : 0,
    };
    if (request.operation == OP_PARSE_PRD ||
        request.operation == OP_EXPAND_TASK)
        request.count = data[2] % 6;
    talk(&arena, &request, data[1], slice_make(data + 3, size - 3));
    arena_release(&arena);
    return 0;
}
