/* The process that runs scripts, and what it and its parent say to each other.
 *
 * Requests and answers are frames: 4 bytes of length, big-endian, then JSON.
 *
 *     {"path":"greet.lua","folders":["/etc/llm_router/scripts"],
 *      "limits":{"memory_bytes":8388608,"instructions":10000000,
 *                "time_ms":1000},
 *      "context":{...}}
 *
 *     {"messages":[{"role":"user","content":"..."}],"options":{}}
 *     {"error":{"message":"...","line":3}}
 *
 * One answer for each request, in their order. The worker looks at the limits
 * by itself, but see script/script.h: the parent kills it when it does not
 * answer for some time longer than the script may take, and starts another. It
 * ends by itself when its standard input does, and with its parent. */
#ifndef LLM_ROUTER_SCRIPT_WORKER_H
#define LLM_ROUTER_SCRIPT_WORKER_H

#include "llm_router/script/file.h"
#include "llm_router/script/script.h"

enum {
    SCRIPT_FRAME_HEADER = 4,
    SCRIPT_FRAME_MAX = 32 * 1024 * 1024, /* bytes of JSON, either way */
};

/* The whole program when it was started as a worker: serves standard input and
 * output, gives up all it does not need first. Returns the exit status. */
int script_worker_main(void);

struct script_request {
    struct slice path; /* clean UTF-8, as all text here */
    struct script_folders folders;
    struct script_limits limits; /* memory up to 64 MiB: the process has 256 */
    struct slice context;        /* JSON text; empty: nil */
};

/* Appends a frame. ERR_TOO_LARGE: over SCRIPT_FRAME_MAX or over the buffer's
 * maximum. */
bool script_put_request(struct buf *out, const struct script_request *request,
                        struct error *err);

enum script_frame {
    SCRIPT_FRAME_WHOLE,
    SCRIPT_FRAME_PART,  /* more must come */
    SCRIPT_FRAME_WRONG, /* longer than SCRIPT_FRAME_MAX */
};

/* The frame at the front of `bytes`; its JSON is lent. It takes
 * SCRIPT_FRAME_HEADER + json->size bytes. */
enum script_frame script_next_frame(struct slice bytes, struct slice *json);

struct script_answer {
    const struct jv *messages; /* an array, not empty, of objects with the
                                  strings role and content; NULL: see fault */
    const struct jv *options;  /* an object; NULL: see fault */
    struct script_fault fault;
};

/* Reads the JSON of a frame; text is borrowed from `json`. False: it is no
 * answer at all (ERR_BAD_RESPONSE). */
bool script_read_answer(struct arena *arena, struct slice json,
                        struct script_answer *answer, struct error *err);

#endif
