#include "llm_router/core/dialogue.h"

#include <inttypes.h>

#include "llm_router/base/utf8.h"
#include "llm_router/core/answer.h"
#include "llm_router/core/schema.h"

enum {
    TASKS_MAX = 1000,         /* in one result, wanted or not */
    ECHO_MAX = 64 * 1024,     /* bytes of an answer that is sent back */
    SCHEMA_MAX = 1024 * 1024, /* bytes of a caller's schema */
};

/* A task operation: what it is called in prompts, answers and paths. */
struct task_operation {
    enum operation operation;
    const char *tag;  /* encloses the caller's text, and is its {{name}} */
    const char *noun; /* "exactly 5 tasks" */
    struct tasks_shape shape;
    const char *schema_name;
    size_t system, user, schema; /* offsets in struct prompts */
};

static const struct task_operation task_operations[] = {
    {OP_GENERATE_TASK,
     "request",
     "tasks",
     {"task", true, TASKS_MAX},
     "task",
     offsetof(struct prompts, generate_task_system),
     offsetof(struct prompts, generate_task_user),
     offsetof(struct prompts, task_schema)},
    {OP_PARSE_PRD,
     "document",
     "tasks",
     {"tasks", false, TASKS_MAX},
     "task_list",
     offsetof(struct prompts, parse_prd_system),
     offsetof(struct prompts, parse_prd_user),
     offsetof(struct prompts, task_list_schema)},
    {OP_EXPAND_TASK,
     "task",
     "subtasks",
     {"subtasks", false, TASKS_MAX},
     "subtask_list",
     offsetof(struct prompts, expand_task_system),
     offsetof(struct prompts, expand_task_user),
     offsetof(struct prompts, subtask_list_schema)},
};

struct dialogue {
    struct arena *arena;
    const struct request *request;
    const struct prompts *prompts;
    const struct task_operation *tasks; /* NULL: a call */
    struct chat chat;
    size_t question_count; /* messages of the first question */
    struct task_numbering numbering;
    struct raw_task_list kept;  /* parts of an answer that was cut */
    struct raw_task_list spare; /* of the wrong length, for count => about */
    unsigned continuations;
    bool repaired; /* the one repair turn is used up */
    struct result result;
};

static const struct task_operation *find_tasks(enum operation operation)
{
    for (size_t i = 0; i < sizeof(task_operations) / sizeof(*task_operations);
         i++)
        if (task_operations[i].operation == operation)
            return &task_operations[i];
    return NULL;
}

static struct slice prompt_at(const struct dialogue *d, size_t offset)
{
    return *(const struct slice *)(const void *)((const char *)d->prompts +
                                                 offset);
}

static struct slice quote_context(const struct dialogue *d)
{
    struct slice context = slice_trim(d->request->context);

    if (context.size == 0)
        return slice_of(NULL);
    context = prompt_quote(d->arena, context, "context");
    context = prompt_quote(d->arena, context, d->tasks->tag);
    return prompt_fill(d->arena,
                       SLICE_LITERAL("\n<context>\n{{context}}\n</context>"),
                       &(struct prompt_variable){"context", context}, 1);
}

static struct slice count_phrase(const struct dialogue *d)
{
    if (d->request->count == 0)
        return arena_printf(d->arena, "an appropriate number of %s",
                            d->tasks->noun);
    return arena_printf(d->arena, "exactly %" PRId64 " %s", d->request->count,
                        d->tasks->noun);
}

/* What the caller has already, for lists that are added to. */
static struct slice existing_phrase(const struct dialogue *d)
{
    const struct task_numbering *numbering = &d->numbering;
    struct buf buf;
    struct slice phrase;

    buf_init(&buf, SIZE_MAX);
    if (numbering->next_id > 1 && !d->tasks->shape.single)
        buf_printf(&buf, "\nNumber the %s from %" PRId64 ".", d->tasks->noun,
                   numbering->next_id);
    for (size_t i = 0; i < numbering->existing_count; i++)
        buf_printf(&buf, "%s%" PRId64,
                   i == 0 ? "\nDependencies may name these existing "
                            "ids: "
                          : ", ",
                   numbering->existing[i]);
    phrase = arena_copy(d->arena, buf_slice(&buf));
    buf_release(&buf);
    return phrase;
}

static void start_tasks(struct dialogue *d)
{
    const struct request *request = d->request;
    const struct task_operation *tasks = d->tasks;
    struct message *messages = arena_array(d->arena, 2, sizeof(*messages));
    const struct prompt_variable variables[] = {
        {tasks->tag, prompt_quote(d->arena, request->text, tasks->tag)},
        {"count", count_phrase(d)},
        {"context", quote_context(d)},
        {"existing", existing_phrase(d)},
    };

    messages[0] = (struct message){ROLE_SYSTEM, prompt_at(d, tasks->system)};
    messages[1] = (struct message){
        ROLE_USER, prompt_fill(d->arena, prompt_at(d, tasks->user), variables,
                               sizeof(variables) / sizeof(*variables))};
    d->chat.messages = messages;
    d->chat.message_count = 2;
    d->chat.schema = prompt_at(d, tasks->schema);
    d->chat.schema_name = slice_of(tasks->schema_name);
    d->chat.schema_strict = true; /* by prompts_check */
}

static bool start_numbering(struct dialogue *d, struct error *err)
{
    const struct options *options = &d->request->options;
    int64_t last = 0;

    for (size_t i = 0; i < options->existing_count; i++)
        if (options->existing[i] > last)
            last = options->existing[i];
    if (last > INT64_MAX - TASKS_MAX - 1 ||
        options->next_id > INT64_MAX - TASKS_MAX)
        return error_at(err, ERR_INVALID_REQUEST, "opts.next_id",
                        "leaves no room for the ids behind it");
    d->numbering = (struct task_numbering){
        .next_id = options->next_id > 1 ? options->next_id : last + 1,
        .existing = options->existing,
        .existing_count = options->existing_count,
    };
    return d->numbering.next_id > last ||
           error_at(err, ERR_INVALID_REQUEST, "opts.next_id",
                    "must be over every id in opts.existing, over %" PRId64,
                    last);
}

/* The instruction goes into the caller's own system message, as many models
 * take only one. */
static void instruct_schema(struct dialogue *d)
{
    const struct request *request = d->request;
    struct slice instruction =
        prompt_fill(d->arena, d->prompts->object,
                    &(struct prompt_variable){"schema", d->chat.schema}, 1);
    size_t has_system = request->messages[0].role == ROLE_SYSTEM;
    size_t count = request->message_count + 1 - has_system;
    struct message *messages = arena_array(d->arena, count, sizeof(*messages));

    if (has_system)
        instruction = prompt_fill(
            d->arena, SLICE_LITERAL("{{system}}\n\n{{instruction}}"),
            (const struct prompt_variable[]){
                {"system", request->messages[0].content},
                {"instruction", instruction}},
            2);
    messages[0] = (struct message){ROLE_SYSTEM, instruction};
    for (size_t i = 1; i < count; i++)
        messages[i] = request->messages[i - 1 + has_system];
    d->chat.messages = messages;
    d->chat.message_count = count;
}

static bool start_call(struct dialogue *d, struct error *err)
{
    const struct request *request = d->request;
    struct buf buf;

    if (request->message_count == 0)
        return error_at(err, ERR_INVALID_REQUEST, "messages",
                        "must not be empty");
    d->chat.messages = request->messages;
    d->chat.message_count = request->message_count;
    if (!request->options.schema)
        return true;
    buf_init(&buf, SCHEMA_MAX);
    jv_put(&buf, request->options.schema);
    d->chat.schema = arena_copy(d->arena, buf_slice(&buf));
    d->chat.schema_name = SLICE_LITERAL("answer");
    d->chat.schema_strict = schema_is_strict(request->options.schema);
    if (buf.failed)
        error_at(err, ERR_TOO_LARGE, "opts.schema", "over %d bytes as JSON",
                 SCHEMA_MAX);
    else
        instruct_schema(d);
    buf_release(&buf);
    return err->code == ERR_NONE;
}

struct dialogue *dialogue_begin(struct arena *arena,
                                const struct request *request,
                                const struct prompts *prompts,
                                struct error *err)
{
    struct dialogue *d = arena_alloc(arena, sizeof(*d));

    error_clear(err);
    *d = (struct dialogue){
        .arena = arena,
        .request = request,
        .prompts = prompts,
        .tasks = find_tasks(request->operation),
        .chat = {.max_tokens = request->options.max_tokens,
                 .temperature = request->options.temperature},
    };
    if (d->tasks ? !start_numbering(d, err) : !start_call(d, err))
        return NULL;
    if (d->tasks)
        start_tasks(d);
    d->question_count = d->chat.message_count;
    return d;
}

const struct chat *dialogue_chat(const struct dialogue *dialogue)
{
    return &dialogue->chat;
}

const struct result *dialogue_result(const struct dialogue *dialogue)
{
    return &dialogue->result;
}

/* The next question: the first `keep` messages, the answer and a word on it. */
static enum dialogue_step follow_up(struct dialogue *d, size_t keep,
                                    struct slice answer, struct slice question)
{
    struct message *messages =
        arena_array(d->arena, keep + 2, sizeof(*messages));
    size_t count = keep;

    memcpy(messages, d->chat.messages, keep * sizeof(*messages));
    /* Providers refuse empty messages. */
    if (slice_trim(answer).size > 0)
        messages[count++] =
            (struct message){ROLE_ASSISTANT, utf8_cut(answer, ECHO_MAX)};
    messages[count++] = (struct message){ROLE_USER, question};
    d->chat.messages = messages;
    d->chat.message_count = count;
    return DIALOGUE_ASK;
}

static enum dialogue_step finish_tasks(struct dialogue *d,
                                       const struct raw_task_list *list)
{
    tasks_settle(d->arena, list, &d->numbering, &d->result.tasks,
                 &d->result.warnings);
    return DIALOGUE_DONE;
}

/* No more turns. A list that was paid for and is as good as what was asked
 * for is given all the same. */
static enum dialogue_step give_up(struct dialogue *d, const struct error *err)
{
    const struct raw_task_list *list =
        d->spare.count > 0 ? &d->spare : &d->kept;

    if ((d->request->count > 0 && !d->request->options.about) ||
        list->count == 0)
        return DIALOGUE_FAIL;
    warnings_add(&d->result.warnings, d->arena, "given all the same: %s%s%s",
                 err->path, err->path[0] != '\0' ? ": " : "", err->message);
    return finish_tasks(d, list);
}

/* The one repair turn. `fault` is what the model is told. */
static enum dialogue_step repair(struct dialogue *d, struct slice answer,
                                 struct slice fault, const struct error *err)
{
    if (d->repaired)
        return give_up(d, err);
    d->repaired = true;
    warnings_add(&d->result.warnings, d->arena, "asked again: %.*s",
                 SLICE_ARG(fault));
    return follow_up(d, d->chat.message_count, answer,
                     prompt_fill(d->arena, d->prompts->repair,
                                 &(struct prompt_variable){"fault", fault}, 1));
}

static enum dialogue_step repair_fault(struct dialogue *d, struct slice answer,
                                       const struct error *err)
{
    return repair(d, answer,
                  arena_printf(d->arena, "%s%s%s", err->path,
                               err->path[0] != '\0' ? ": " : "", err->message),
                  err);
}

/* `got` of the tasks that the last question asked for are there. */
static enum dialogue_step repair_count(struct dialogue *d, struct slice answer,
                                       size_t got, struct error *err)
{
    int64_t wanted = d->request->count - (int64_t)d->kept.count;
    const char *noun = d->tasks->noun;
    struct slice fault = arena_printf(
        d->arena, "you returned %zu %s, exactly %" PRId64 " are required", got,
        noun, wanted);

    error_set(err, ERR_TASK_COUNT,
              "the model returned %zu %s, exactly %" PRId64 " are required",
              got + d->kept.count, noun, d->request->count);
    err->wanted = (int)d->request->count;
    err->got = (int)(got + d->kept.count);
    return repair(d, answer, fault, err);
}

/* "3. Set up the database", a line for each task that is there. */
static struct slice list_titles(const struct dialogue *d)
{
    struct buf buf;
    struct slice titles;

    buf_init(&buf, SIZE_MAX);
    for (size_t i = 0; i < d->kept.count; i++) {
        struct slice id =
            raw_task_id(d->arena, &d->kept, i, d->numbering.next_id);

        buf_printf(&buf, "%s%.*s. %.*s", i > 0 ? "\n" : "", SLICE_ARG(id),
                   SLICE_ARG(d->kept.tasks[i].task.title));
    }
    titles = arena_copy(d->arena, buf_slice(&buf));
    buf_release(&buf);
    return titles;
}

static enum dialogue_step continue_list(struct dialogue *d, struct slice answer)
{
    int64_t next = d->numbering.next_id + (int64_t)d->kept.count;
    int64_t missing = d->request->count - (int64_t)d->kept.count;
    const char *noun = d->tasks->noun;
    const struct prompt_variable variables[] = {
        {"done", list_titles(d)},
        {"count",
         d->request->count > 0
             ? arena_printf(d->arena, "exactly %" PRId64 " %s", missing, noun)
             : arena_printf(d->arena, "the %s still missing, or an empty list",
                            noun)},
        {"next", arena_printf(d->arena, "%" PRId64, next)},
    };

    d->continuations++;
    warnings_add(&d->result.warnings, d->arena,
                 "the answer was cut after %zu %s, the rest was asked for",
                 d->kept.count, noun);
    return follow_up(d, d->question_count, answer,
                     prompt_fill(d->arena, d->prompts->continuation, variables,
                                 sizeof(variables) / sizeof(*variables)));
}

static enum dialogue_step answer_task(struct dialogue *d,
                                      struct raw_task_list *list,
                                      struct slice answer, struct error *err)
{
    if (list->count == 0) {
        error_at(err, ERR_INVALID_OUTPUT, d->tasks->shape.member,
                 "the list is empty");
        return repair_fault(d, answer, err);
    }
    if (list->count > 1)
        warnings_add(&list->warnings, d->arena,
                     "the first of %zu tasks is taken", list->count);
    list->count = 1;
    return finish_tasks(d, list);
}

static enum dialogue_step answer_list(struct dialogue *d,
                                      const struct raw_task_list *part,
                                      struct slice answer, struct error *err)
{
    size_t wanted = (size_t)d->request->count;
    struct raw_task_list list = d->kept;
    bool open;

    tasks_join(d->arena, &list, part);
    open = list.cut && (wanted == 0 || list.count < wanted);
    if (open && d->continuations < DIALOGUE_CONTINUATIONS_MAX) {
        d->kept = list;
        return continue_list(d, answer);
    }
    if (wanted > 0 && list.count != wanted) {
        d->spare = list;
        return repair_count(d, answer, list.count - d->kept.count, err);
    }
    if (list.count == 0) {
        error_at(err, ERR_INVALID_OUTPUT, d->tasks->shape.member,
                 "at least one is required");
        return repair_fault(d, answer, err);
    }
    if (open)
        warnings_add(&list.warnings, d->arena,
                     "the answer was still cut after %d continuations",
                     DIALOGUE_CONTINUATIONS_MAX);
    return finish_tasks(d, &list);
}

static enum dialogue_step answer_tasks(struct dialogue *d, struct slice answer,
                                       struct error *err)
{
    struct tasks_shape shape = d->tasks->shape;
    struct raw_task_list part;

    shape.single = shape.single || d->request->count == 1;
    shape.max -= d->kept.count;
    if (!tasks_read(d->arena, answer, &shape, &part, err))
        return repair_fault(d, answer, err);
    return d->tasks->shape.single ? answer_task(d, &part, answer, err)
                                  : answer_list(d, &part, answer, err);
}

static enum dialogue_step answer_object(struct dialogue *d, struct slice answer,
                                        struct error *err)
{
    bool cut;
    const struct jv *object = answer_find_json(d->arena, answer, &cut);

    if (!object)
        error_set(err, ERR_INVALID_OUTPUT, "the answer holds no JSON");
    else if (cut)
        error_set(err, ERR_INVALID_OUTPUT, "the JSON of the answer is cut");
    else if (schema_validate(d->request->options.schema, object, err)) {
        d->result.object = object;
        return DIALOGUE_DONE;
    }
    return repair_fault(d, answer, err);
}

static bool declined(const struct completion *completion, struct error *err)
{
    if (completion->refusal.size > 0 || completion->finish == FINISH_REFUSAL)
        error_set(err, ERR_REFUSED, "the model declined to answer");
    else if (completion->finish == FINISH_CONTENT_FILTER)
        error_set(err, ERR_CONTENT_FILTERED,
                  "the provider's content filter stopped the answer");
    return err->code != ERR_NONE;
}

enum dialogue_step dialogue_answer(struct dialogue *dialogue,
                                   const struct completion *completion,
                                   struct error *err)
{
    struct slice answer;

    error_clear(err);
    if (declined(completion, err))
        return dialogue->tasks ? give_up(dialogue, err) : DIALOGUE_FAIL;
    answer = arena_copy(dialogue->arena, completion->text);
    dialogue->result.finish = completion->finish;
    if (dialogue->tasks)
        return answer_tasks(dialogue, answer, err);
    dialogue->result.text = answer;
    return dialogue->request->options.schema
               ? answer_object(dialogue, answer, err)
               : DIALOGUE_DONE;
}
