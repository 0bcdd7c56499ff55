/* research: findings and their sources. Findings that come as plain text are
 * as good as those in JSON; their sources are then the addresses in them. */
#include "dialogue_internal.h"

#include "llm_router/core/answer.h"

enum { SOURCES_MAX = 100 };

static struct slice slice_from(struct slice text, size_t start)
{
    return slice_make(text.data + start, text.size - start);
}

static bool begin_research(struct dialogue *d, struct error *err)
{
    struct slice topic = d->request->text;
    struct slice context = slice_trim(d->request->context);

    if (slice_trim(topic).size == 0)
        return error_at(err, ERR_INVALID_REQUEST, "topic", "must not be empty");
    if (context.size > 0) {
        context = prompt_quote(d->arena, context, "context");
        context = prompt_quote(d->arena, context, "topic");
        context = prompt_fill(
            d->arena, SLICE_LITERAL("\n<context>\n{{context}}\n</context>"),
            &(struct prompt_variable){"context", context}, 1);
    }
    talk_expect(d, "research", d->prompts->research_schema);
    talk_ask(d, d->prompts->research_system,
             prompt_fill(d->arena, d->prompts->research_user,
                         (const struct prompt_variable[]){
                             {"topic", prompt_quote(d->arena, topic, "topic")},
                             {"context", context}},
                         2));
    return true;
}

static void add_source(struct dialogue *d, struct slice *sources,
                       struct slice source)
{
    source = slice_trim(source);
    if (source.size == 0)
        return;
    for (size_t i = 0; i < d->result.source_count; i++)
        if (slice_equal(sources[i], source))
            return;
    if (d->result.source_count < SOURCES_MAX)
        sources[d->result.source_count++] = source;
    else
        warnings_add(&d->result.warnings, d->arena,
                     "sources: only the first %d are taken", SOURCES_MAX);
}

static struct slice *start_sources(struct dialogue *d)
{
    struct slice *sources =
        arena_array(d->arena, SOURCES_MAX, sizeof(*sources));

    d->result.sources = sources;
    d->result.source_count = 0;
    return sources;
}

/* Texts, or objects with an address or a title. */
static void read_sources(struct dialogue *d, const struct jv *list)
{
    static const char *const names[] = {"url", "link", "title", "name"};
    struct slice *sources = start_sources(d);

    if (jv_is_string(list))
        add_source(d, sources, list->as.string);
    for (size_t i = 0; list && list->type == JV_ARRAY && i < jv_count(list);
         i++) {
        const struct jv *item = jv_at(list, i);
        struct slice text = jv_string(item);

        for (size_t j = 0; text.size == 0 && j < sizeof(names) / sizeof(*names);
             j++)
            text = jv_string(jv_find(item, names[j]));
        if (text.size == 0)
            warnings_add(&d->result.warnings, d->arena,
                         "sources[%zu]: left out, it is no text", i);
        add_source(d, sources, text);
    }
}

/* Bytes of the address at the front, 0 when there is none: without what ends
 * its sentence, and up to a bracket that was open before it. */
static size_t address_size(struct slice text)
{
    size_t scheme = slice_starts_with(text, "https://")  ? 8
                    : slice_starts_with(text, "http://") ? 7
                                                         : 0;
    size_t size = scheme, open = 0;

    while (size < text.size && (unsigned char)text.data[size] > ' ' &&
           !strchr("<>\"'`]}|\\", text.data[size])) {
        open += text.data[size] == '(';
        if (text.data[size] == ')' && open-- == 0)
            break;
        size++;
    }
    while (size > scheme && strchr(".,;:!?*_", text.data[size - 1]))
        size--;
    return scheme > 0 && size > scheme ? size : 0;
}

static void find_addresses(struct dialogue *d, struct slice text)
{
    struct slice *sources = start_sources(d);
    ptrdiff_t at;

    while ((at = slice_find(text, SLICE_LITERAL("http"))) >= 0) {
        size_t size;

        text = slice_from(text, (size_t)at);
        size = address_size(text);
        if (size > 0)
            add_source(d, sources, slice_make(text.data, size));
        text = slice_from(text, size > 0 ? size : 1);
    }
}

/* A text, or a list of them. */
static struct slice read_findings(struct dialogue *d, const struct jv *value)
{
    struct buf buf;

    if (!value || value->type != JV_ARRAY)
        return slice_trim(jv_string(value));
    buf_init(&buf, SIZE_MAX);
    for (size_t i = 0; i < jv_count(value); i++) {
        buf_append_text(&buf, i > 0 ? "\n" : "");
        buf_append_slice(&buf, jv_string(jv_at(value, i)));
    }
    warnings_add(&d->result.warnings, d->arena, "findings: %s",
                 "list of lines joined");
    return slice_trim(arena_keep(d->arena, &buf));
}

static enum dialogue_step take_text(struct dialogue *d, struct slice text)
{
    warnings_add(&d->result.warnings, d->arena,
                 "the answer is plain text, its addresses are the sources");
    d->result.text = text;
    find_addresses(d, text);
    return DIALOGUE_DONE;
}

static enum dialogue_step answer_research(struct dialogue *d,
                                          const struct completion *completion,
                                          struct slice answer,
                                          struct error *err)
{
    struct slice text = answer_text(answer);
    bool cut;
    const struct jv *json = answer_find_json(d->arena, answer, &cut);
    const struct jv *findings = jv_find(json, "findings");

    (void)completion;
    d->result.text = read_findings(d, findings);
    if (d->result.text.size > 0) {
        if (cut)
            warnings_add(&d->result.warnings, d->arena,
                         "the answer was cut, what is there is given");
        read_sources(d, jv_find(json, "sources"));
        return DIALOGUE_DONE;
    }
    if (text.size > 0 && *text.data != '{' && *text.data != '[')
        return take_text(d, text);
    error_at(err, ERR_INVALID_OUTPUT, "findings",
             "must be a text that is not empty");
    return talk_repair_fault(d, answer, err);
}

const struct talk research_talk = {
    .begin = begin_research,
    .answer = answer_research,
};
