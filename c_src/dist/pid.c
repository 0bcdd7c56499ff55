#include "llm_router/dist/pid.h"

#include "llm_router/term/writer.h"

enum {
    PID_EXT = 103,            /* id:32 serial:32 creation:8 */
    NEW_PID_EXT = 88,         /* id:32 serial:32 creation:32 */
    NEW_REFERENCE_EXT = 114,  /* words:16 node creation:8 words */
    NEWER_REFERENCE_EXT = 90, /* words:16 node creation:32 words */
    REFERENCE_WORDS = 3,
};

static uint32_t read_u32(const char *at)
{
    const unsigned char *bytes = (const unsigned char *)at;

    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 |
           (uint32_t)bytes[2] << 8 | bytes[3];
}

/* What follows the node's name inside a pid or reference. */
static struct slice after_node(struct term term, struct slice *node)
{
    struct slice raw = term_raw(term);
    const char *rest;

    if (!term_node(term, node))
        return slice_of(NULL);
    rest = node->data + node->size;
    return slice_make(rest, (size_t)(raw.data + raw.size - rest));
}

bool pid_read(struct term term, struct pid *pid)
{
    struct slice rest;

    if (term_kind(term) != TERM_PID)
        return false;
    rest = after_node(term, &pid->node);
    pid->id = read_u32(rest.data);
    pid->serial = read_u32(rest.data + 4);
    pid->creation = (unsigned char)*term.at == NEW_PID_EXT
                        ? read_u32(rest.data + 8)
                        : (unsigned char)rest.data[8];
    return true;
}

uint64_t pid_number(const struct identity *self, struct term term)
{
    struct pid pid;

    if (!pid_read(term, &pid) || pid.creation != self->creation ||
        pid.id > 0x0FFFFFFF || !slice_equal(pid.node, self->name))
        return 0;
    return (uint64_t)pid.serial << 28 | pid.id;
}

void pid_put(struct buf *out, const struct identity *self, uint64_t number)
{
    term_put_pid(out, self->name, (uint32_t)(number & 0x0FFFFFFF),
                 (uint32_t)(number >> 28), self->creation);
}

uint64_t reference_number(const struct identity *self, struct term term)
{
    struct slice node, rest;

    if (term_kind(term) != TERM_REFERENCE ||
        (unsigned char)*term.at != NEWER_REFERENCE_EXT)
        return 0;
    rest = after_node(term, &node);
    if (rest.size != 4 + 4 * REFERENCE_WORDS ||
        read_u32(rest.data) != self->creation || !slice_equal(node, self->name))
        return 0;
    return (uint64_t)read_u32(rest.data + 4) |
           (uint64_t)read_u32(rest.data + 8) << 18 |
           (uint64_t)read_u32(rest.data + 12) << 50;
}

void reference_put(struct buf *out, const struct identity *self,
                   uint64_t number)
{
    uint32_t words[REFERENCE_WORDS] = {
        (uint32_t)(number & 0x3FFFF),
        (uint32_t)(number >> 18),
        (uint32_t)(number >> 50),
    };

    term_put_reference(out, self->name, self->creation, words, REFERENCE_WORDS);
}
