/* Finds the file of a script below the folders that may hold scripts.
 *
 * A caller names it, so nothing outside these folders may be reached: not by
 * "..", not by a link. Messages name the path as the caller wrote it and never
 * a folder. */
#ifndef LLM_ROUTER_SCRIPT_FILE_H
#define LLM_ROUTER_SCRIPT_FILE_H

#include <sys/stat.h>

#include "llm_router/base/buf.h"
#include "llm_router/script/fault.h"

enum {
    SCRIPT_FILE_MAX = 256 * 1024, /* bytes */
    SCRIPT_PATH_MAX = 1024,       /* bytes, of a path and of a folder */
};

struct script_folders {
    const struct slice *paths; /* absolute */
    size_t count;
};

struct script_file {
    int fd;
    struct stat status;
};

/* A relative path is looked for in each folder in order: the first in which it
 * exists decides. An absolute one must begin with a folder. It ends in ".lua"
 * and has no component ".."; links must stay below the folder, and be
 * relative. A folder that is missing is passed over. */
bool script_file_open(const struct script_folders *folders, struct slice path,
                      struct script_file *file, struct script_fault *fault);
void script_file_close(struct script_file *file);

/* Appends its text. `path` is for messages. */
bool script_file_read(const struct script_file *file, struct slice path,
                      struct buf *text, struct script_fault *fault);

#endif
