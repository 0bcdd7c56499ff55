/* Compiled scripts, kept until their file changes.
 *
 * A file is the same while device, inode, size and both times of change are.
 * It is looked up and opened each time, since what a path means may change;
 * read and compiled only when it is another than before. */
#ifndef LLM_ROUTER_SCRIPT_CACHE_H
#define LLM_ROUTER_SCRIPT_CACHE_H

#include "llm_router/script/file.h"
#include "llm_router/script/script.h"

enum {
    SCRIPT_CODE_MAX = 4 * 1024 * 1024, /* bytes, of one script */
    /* A cache that is full begins anew. */
    SCRIPT_CACHE_ENTRIES = 256,
    SCRIPT_CACHE_MAX = 16 * 1024 * 1024, /* bytes */
};

struct script_entry {
    struct stat status;
    struct buf code;
};

struct script_cache {
    struct script_entry entries[SCRIPT_CACHE_ENTRIES];
    size_t count;
    size_t bytes;
};

void script_cache_init(struct script_cache *cache);
void script_cache_release(struct script_cache *cache);

/* The compiled form is lent until the next call. `limits` are for compiling. */
bool script_cache_find(struct script_cache *cache,
                       const struct script_folders *folders, struct slice path,
                       const struct script_limits *limits, struct slice *code,
                       struct script_fault *fault);

#endif
