/* Small files read whole at start: secrets, cookies, prompts. */
#ifndef LLM_ROUTER_CONFIG_FILES_H
#define LLM_ROUTER_CONFIG_FILES_H

#include "llm_router/base/arena.h"
#include "llm_router/base/error.h"

enum file_privacy {
    FILE_ANY,
    /* Refused when group or others may read or write it. In systemd's
     * $CREDENTIALS_DIRECTORY only others count: an access control list lets
     * the service in there, and shows as the rights of the group. */
    FILE_OWNER_ONLY,
};

/* NUL behind the text. ERR_INVALID_REQUEST with `path` as path: missing,
 * unreadable, not a file, over max_bytes, too open. */
bool file_read(struct arena *arena, const char *path, size_t max_bytes,
               enum file_privacy privacy, struct slice *text,
               struct error *err);

bool file_exists(const char *path);

#endif
