#include "llm_router/core/coverage.h"

enum {
    SCANNED_MAX = 1024 * 1024, /* bytes of a document read word by word */
    WORD_MIN = 4,              /* bytes; shorter ones say little */
    WORD_TASKS_MAX = 32, /* a word of more tasks does not tell them apart */
    SHARED_MIN = 2,      /* words that a task and its section have in common, */
    SHARED_PART = 3,     /* and one of so many of its words */
};

/* A word of some tasks that look for their section. */
struct word {
    uint64_t hash;   /* 0: an empty slot */
    size_t sections; /* in how many it is */
    size_t seen;     /* the last one it was seen in, from 1 */
    size_t first;    /* of its uses; 0: none */
    size_t uses;
    size_t last; /* task that uses it, from 1 */
};

struct use {
    size_t task;
    size_t next; /* index; 0: the last */
};

/* How one task fits the section being read, and the best one so far. */
struct fit {
    struct slice name; /* only sections of this name; empty: all */
    bool wanted;       /* its words decide */
    size_t words;      /* different ones */
    double score, best;
    size_t shared;
    size_t section; /* the best */
};

struct trace {
    struct arena *arena;
    const struct outline *outline;
    const struct task_list *tasks;
    struct slice *names; /* of the sections, in plain form */
    struct fit *fits;
    struct word *words; /* a hash table */
    size_t slots;       /* a power of two */
    struct use *uses;   /* from 1 */
    size_t use_count;
};

static struct slice slice_from(struct slice text, size_t start)
{
    return slice_make(text.data + start, text.size - start);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Letters and digits, all else than ASCII counted as letters. */
static bool is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) ||
           (unsigned char)c >= 0x80;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* Takes the next word from the front of `text`; empty at its end. */
static struct slice next_word(struct slice *text)
{
    size_t from = 0, end;
    struct slice word;

    if (text->size == 0)
        return *text;
    while (from < text->size && !is_word_byte(text->data[from]))
        from++;
    for (end = from; end < text->size && is_word_byte(text->data[end]); end++)
        ;
    word = slice_make(text->data + from, end - from);
    *text = slice_from(*text, end);
    return word;
}

/* Words in small letters with one space between them, without the numbers in
 * front: "## 2.1 User_Login:" becomes "user login". */
static struct slice plain_name(struct arena *arena, struct slice text)
{
    char *out = arena_bytes(arena, text.size);
    size_t size = 0;
    struct slice word;

    while ((word = next_word(&text)).size > 0) {
        size_t digits = 0;

        while (digits < word.size && is_digit(word.data[digits]))
            digits++;
        if (size == 0 && digits == word.size)
            continue;
        if (size > 0)
            out[size++] = ' ';
        for (size_t i = 0; i < word.size; i++)
            out[size++] = lower(word.data[i]);
    }
    return slice_make(out, size);
}

/* "Goals > Speed" is what models call a section below another. */
static struct slice last_of_path(struct slice text)
{
    for (size_t end = text.size; end > 0; end--)
        if (text.data[end - 1] == '>')
            return slice_from(text, end);
    return text;
}

static size_t find_exactly(const struct outline *outline, struct slice source,
                           size_t *count)
{
    size_t found = SOURCE_NONE;

    *count = 0;
    for (size_t i = outline->count; i-- > 0;)
        if (source.size > 0 &&
            slice_equal(outline->sections[i].heading, source)) {
            found = i;
            ++*count;
        }
    return found;
}

static size_t find_name(const struct trace *t, struct slice name, size_t *count)
{
    size_t found = SOURCE_NONE;

    *count = 0;
    for (size_t i = t->outline->count; i-- > 0;)
        if (name.size > 0 && slice_equal(t->names[i], name)) {
            found = i;
            ++*count;
        }
    return found;
}

/* By the name that the model gave. Of several sections of that name the first
 * one, unless the task's words decide. */
static size_t find_source(struct trace *t, size_t index)
{
    struct slice source = slice_trim(t->tasks->tasks[index].source), name;
    struct fit *fit = &t->fits[index];
    size_t count;
    size_t found = find_exactly(t->outline, source, &count);

    if (count == 1)
        return found;
    name = plain_name(t->arena, source);
    found = find_name(t, name, &count);
    if (count == 0) {
        name = plain_name(t->arena, last_of_path(source));
        found = find_name(t, name, &count);
    }
    fit->wanted = count != 1;
    if (count > 0)
        fit->name = name;
    return found;
}

/* FNV-1a, never 0. */
static uint64_t hash_word(struct slice word)
{
    uint64_t hash = 0xCBF29CE484222325u;

    for (size_t i = 0; i < word.size; i++)
        hash = (hash ^ (unsigned char)lower(word.data[i])) * 0x100000001B3u;
    return hash | 1;
}

/* The slot of a word, empty when it is not there. */
static struct word *find_word(const struct trace *t, uint64_t hash)
{
    size_t slot = (hash >> 20) & (t->slots - 1);

    while (t->words[slot].hash != 0 && t->words[slot].hash != hash)
        slot = (slot + 1) & (t->slots - 1);
    return &t->words[slot];
}

static void add_word(struct trace *t, size_t task, struct slice text)
{
    struct word *word = find_word(t, hash_word(text));

    if (word->last == task + 1)
        return;
    word->hash = hash_word(text);
    word->last = task + 1;
    t->fits[task].words++;
    if (++word->uses > WORD_TASKS_MAX)
        return;
    t->uses[++t->use_count] = (struct use){task, word->first};
    word->first = t->use_count;
}

static size_t count_words(struct slice text)
{
    struct slice word;
    size_t count = 0;

    while ((word = next_word(&text)).size > 0)
        count += word.size >= WORD_MIN;
    return count;
}

static void add_words(struct trace *t, size_t task, struct slice text)
{
    struct slice word;

    while ((word = next_word(&text)).size > 0)
        if (word.size >= WORD_MIN)
            add_word(t, task, word);
}

/* The words of all tasks that look for their section; false: none does. */
static bool index_words(struct trace *t)
{
    size_t count = 0;

    for (size_t i = 0; i < t->tasks->count; i++)
        if (t->fits[i].wanted)
            count += count_words(t->tasks->tasks[i].title) +
                     count_words(t->tasks->tasks[i].description);
    for (t->slots = 16; t->slots < count * 2; t->slots *= 2)
        ;
    t->words = arena_array(t->arena, t->slots, sizeof(*t->words));
    t->uses = arena_array(t->arena, count + 1, sizeof(*t->uses));
    for (size_t i = 0; i < t->tasks->count; i++)
        if (t->fits[i].wanted) {
            add_words(t, i, t->tasks->tasks[i].title);
            add_words(t, i, t->tasks->tasks[i].description);
        }
    return count > 0;
}

/* The words of a section, each once. */
static void each_word(struct trace *t, size_t section,
                      void (*visit)(struct trace *t, struct word *word))
{
    struct slice text = outline_section(t->outline, section), found;

    while ((found = next_word(&text)).size > 0) {
        struct word *word;

        if (found.size < WORD_MIN)
            continue;
        word = find_word(t, hash_word(found));
        if (word->hash == 0 || word->seen == section + 1)
            continue;
        word->seen = section + 1;
        visit(t, word);
    }
}

static void count_section(struct trace *t, struct word *word)
{
    (void)t;
    word->sections++;
}

/* The fewer sections have a word, the more it says. */
static void score_word(struct trace *t, struct word *word)
{
    for (size_t use = word->first; use > 0; use = t->uses[use].next) {
        struct fit *fit = &t->fits[t->uses[use].task];

        fit->score += 1.0 / (double)word->sections;
        fit->shared++;
    }
}

static void end_section(struct trace *t, size_t section)
{
    for (size_t i = 0; i < t->tasks->count; i++) {
        struct fit *fit = &t->fits[i];
        bool fits = fit->name.size > 0
                        ? slice_equal(fit->name, t->names[section])
                        : fit->shared >= SHARED_MIN &&
                              fit->shared * SHARED_PART >= fit->words;

        if (fits && fit->score > fit->best) {
            fit->best = fit->score;
            fit->section = section;
        }
        fit->score = 0;
        fit->shared = 0;
    }
}

static void compare_words(struct trace *t)
{
    if (t->outline->document.size > SCANNED_MAX || !index_words(t))
        return;
    for (size_t i = 0; i < t->outline->count; i++)
        each_word(t, i, count_section);
    for (size_t i = 0; i < t->slots; i++)
        t->words[i].seen = 0;
    for (size_t i = 0; i < t->outline->count; i++) {
        each_word(t, i, score_word);
        end_section(t, i);
    }
}

static void warn_of_name(struct trace *t, size_t index, size_t found,
                         struct warnings *warnings)
{
    const struct task *task = &t->tasks->tasks[index];

    if (t->fits[index].name.size > 0 || slice_trim(task->source).size == 0)
        return;
    if (found == SOURCE_NONE)
        warnings_add(warnings, t->arena,
                     "task %lld: source \"%.*s\" left out, it is no heading "
                     "of the document",
                     (long long)task->id,
                     SLICE_ARG(warning_quote(task->source)));
    else
        warnings_add(
            warnings, t->arena,
            "task %lld: source \"%.*s\" read as \"%.*s\" by the task's words",
            (long long)task->id, SLICE_ARG(warning_quote(task->source)),
            SLICE_ARG(warning_quote(t->outline->sections[found].heading)));
}

/* A heading is covered by what is below it. */
static void cover(const struct outline *outline, struct heading *headings,
                  size_t index)
{
    unsigned level = outline->sections[index].level;

    headings[index].covered = true;
    for (size_t i = index; i-- > 0 && level > 1;) {
        unsigned above = outline->sections[i].level;

        if (above == 0 || above >= level)
            continue;
        headings[i].covered = true;
        level = above;
    }
}

static void find_sources(struct trace *t, size_t *sources,
                         struct warnings *warnings)
{
    for (size_t i = 0; i < t->outline->count; i++)
        t->names[i] = plain_name(t->arena, t->outline->sections[i].heading);
    for (size_t i = 0; i < t->tasks->count; i++) {
        t->fits[i].section = SOURCE_NONE;
        sources[i] = find_source(t, i);
    }
    compare_words(t);
    for (size_t i = 0; i < t->tasks->count; i++) {
        if (!t->fits[i].wanted)
            continue;
        if (t->fits[i].section != SOURCE_NONE)
            sources[i] = t->fits[i].section;
        warn_of_name(t, i, sources[i], warnings);
    }
}

void coverage_trace(struct arena *arena, const struct outline *outline,
                    const struct task_list *tasks, struct coverage *coverage,
                    struct warnings *warnings)
{
    struct heading *headings =
        arena_array(arena, outline->count, sizeof(*headings));
    size_t *sources = arena_array(arena, tasks->count, sizeof(*sources));
    struct trace trace = {
        .arena = arena,
        .outline = outline,
        .tasks = tasks,
        .names = arena_array(arena, outline->count, sizeof(*trace.names)),
        .fits = arena_array(arena, tasks->count, sizeof(*trace.fits)),
    };

    *coverage = (struct coverage){.count = 0};
    if (outline->count == 0)
        return;
    for (size_t i = 0; i < outline->count; i++)
        headings[i] = (struct heading){.text = outline->sections[i].heading,
                                       .line = outline->sections[i].line};
    find_sources(&trace, sources, warnings);
    for (size_t i = 0; i < tasks->count; i++)
        if (sources[i] != SOURCE_NONE)
            cover(outline, headings, sources[i]);
    *coverage = (struct coverage){headings, outline->count, sources};
}
