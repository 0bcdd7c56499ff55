#include "llm_router/script/cache.h"

static bool is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The inode's time too, since the other can be set by hand. */
static bool is_unchanged(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && is_same_time(a->st_mtim, b->st_mtim) &&
           is_same_time(a->st_ctim, b->st_ctim);
}

static struct script_entry *find_entry(struct script_cache *cache,
                                       const struct stat *status)
{
    for (size_t i = 0; i < cache->count; i++)
        if (is_same_file(&cache->entries[i].status, status))
            return &cache->entries[i];
    return NULL;
}

static void forget(struct script_cache *cache, struct script_entry *entry)
{
    cache->bytes -= entry->code.capacity;
    buf_release(&entry->code);
    *entry = cache->entries[--cache->count];
}

/* Takes the code over. */
static struct script_entry *keep(struct script_cache *cache,
                                 const struct stat *status,
                                 const struct buf *code)
{
    struct script_entry *entry;

    if (cache->count == SCRIPT_CACHE_ENTRIES ||
        code->capacity > SCRIPT_CACHE_MAX - cache->bytes)
        script_cache_release(cache);
    entry = &cache->entries[cache->count++];
    *entry = (struct script_entry){.status = *status, .code = *code};
    cache->bytes += code->capacity;
    return entry;
}

/* What follows the last slash. */
static struct slice base_name(struct slice path)
{
    const char *slash = memrchr(path.data, '/', path.size);

    if (!slash)
        return path;
    return slice_make(slash + 1, path.size - (size_t)(slash + 1 - path.data));
}

static bool read_and_compile(const struct script_file *file, struct slice path,
                             const struct script_limits *limits,
                             struct buf *code, struct script_fault *fault)
{
    struct script_source source = {.name = base_name(path)};
    struct buf text;
    bool ok;

    buf_init(&text, SCRIPT_FILE_MAX + 1);
    ok = script_file_read(file, path, &text, fault);
    if (ok) {
        source.text = buf_slice(&text);
        ok = script_compile(&source, limits, code, fault);
    }
    buf_release(&text);
    return ok;
}

static struct script_entry *load(struct script_cache *cache,
                                 const struct script_file *file,
                                 struct slice path,
                                 const struct script_limits *limits,
                                 struct script_fault *fault)
{
    struct buf code;

    buf_init(&code, SCRIPT_CODE_MAX);
    if (read_and_compile(file, path, limits, &code, fault))
        return keep(cache, &file->status, &code);
    buf_release(&code);
    return NULL;
}

void script_cache_init(struct script_cache *cache)
{
    cache->count = 0;
    cache->bytes = 0;
}

void script_cache_release(struct script_cache *cache)
{
    while (cache->count > 0)
        forget(cache, &cache->entries[cache->count - 1]);
}

bool script_cache_find(struct script_cache *cache,
                       const struct script_folders *folders, struct slice path,
                       const struct script_limits *limits, struct slice *code,
                       struct script_fault *fault)
{
    struct script_entry *entry;
    struct script_file file;

    if (!script_file_open(folders, path, &file, fault))
        return false;
    entry = find_entry(cache, &file.status);
    if (entry && !is_unchanged(&entry->status, &file.status)) {
        forget(cache, entry);
        entry = NULL;
    }
    if (!entry)
        entry = load(cache, &file, path, limits, fault);
    script_file_close(&file);
    if (!entry)
        return false;
    *code = buf_slice(&entry->code);
    return true;
}
