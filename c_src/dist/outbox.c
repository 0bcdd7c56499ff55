#include "llm_router/dist/outbox.h"

#include "llm_router/base/mem.h"

/* A frame that is written in fragments. Of those of one receiver only the first
 * is in outbox->large. */
struct large_frame {
    struct list link; /* in outbox->large, or in `followers` of the first */
    struct list followers;
    uint64_t receiver;
    struct buf bytes;
    struct slice left; /* what is still to be written of it */
    uint64_t sequence;
    uint64_t parts;
    struct buf behind; /* small frames of the receiver that come after it */
};

void outbox_init(struct outbox *outbox, enum frame_form form)
{
    *outbox = (struct outbox){.form = form};
    list_init(&outbox->large);
    buf_init(&outbox->frames, SIZE_MAX);
}

static void large_free(struct large_frame *large)
{
    LIST_EACH(link, &large->followers)
    large_free(LIST_ENTRY(link, struct large_frame, link));
    list_remove(&large->link);
    buf_release(&large->bytes);
    buf_release(&large->behind);
    mem_free(large);
}

void outbox_release(struct outbox *outbox)
{
    LIST_EACH(link, &outbox->large)
    large_free(LIST_ENTRY(link, struct large_frame, link));
    buf_release(&outbox->frames);
}

size_t outbox_size(const struct outbox *outbox)
{
    return outbox->frames.size + outbox->large_bytes;
}

struct buf *outbox_begin(struct outbox *outbox, size_t max_bytes)
{
    outbox->frames.max =
        max_bytes > outbox->large_bytes ? max_bytes - outbox->large_bytes : 0;
    outbox->frame_start = frame_begin(&outbox->frames, outbox->form);
    return &outbox->frames;
}

static struct slice last_frame(const struct outbox *outbox)
{
    return slice_make(outbox->frames.data + outbox->frame_start,
                      outbox->frames.size - outbox->frame_start);
}

/* The last frame out of `frames`: without a copy when it is the only one. */
static void move_frame(struct outbox *outbox, struct buf *bytes)
{
    struct buf *frames = &outbox->frames;

    if (outbox->frame_start == 0) {
        *bytes = *frames;
        buf_init(frames, frames->max);
        return;
    }
    buf_init(bytes, SIZE_MAX);
    buf_append_slice(bytes, last_frame(outbox));
    frames->size = outbox->frame_start;
}

/* The first frame of that receiver, or NULL. */
static struct large_frame *find_first(const struct outbox *outbox,
                                      uint64_t receiver)
{
    if (receiver == OUTBOX_ANY_ORDER)
        return NULL;
    LIST_EACH(link, &outbox->large)
    {
        struct large_frame *large = LIST_ENTRY(link, struct large_frame, link);

        if (large->receiver == receiver)
            return large;
    }
    return NULL;
}

static void set_aside(struct outbox *outbox, uint64_t receiver,
                      struct large_frame *first)
{
    struct large_frame *large = mem_alloc(sizeof(*large));

    move_frame(outbox, &large->bytes);
    buf_init(&large->behind, SIZE_MAX);
    list_init(&large->followers);
    large->receiver = receiver;
    large->left = frame_content(buf_slice(&large->bytes));
    large->parts = (large->left.size + FRAME_PART_SIZE - 1) / FRAME_PART_SIZE;
    large->sequence = ++outbox->sequence;
    outbox->large_bytes += large->left.size;
    list_append(first ? &first->followers : &outbox->large, &large->link);
}

static void hold_back(struct outbox *outbox, struct large_frame *first)
{
    struct slice frame = last_frame(outbox);
    struct large_frame *last = first;

    if (!list_is_empty(&first->followers))
        last = LIST_ENTRY(first->followers.previous, struct large_frame, link);
    buf_append_slice(&last->behind, frame);
    outbox->large_bytes += frame.size;
    outbox->frames.size -= frame.size;
}

bool outbox_end(struct outbox *outbox, uint64_t receiver)
{
    struct large_frame *first;

    if (!frame_end(&outbox->frames, outbox->frame_start))
        return false;
    if (outbox->form == FRAME_PASS_THROUGH)
        return true;
    first = find_first(outbox, receiver);
    if (frame_content(last_frame(outbox)).size > FRAME_PART_SIZE)
        set_aside(outbox, receiver, first);
    else if (first)
        hold_back(outbox, first);
    return true;
}

void outbox_put_tick(struct outbox *outbox)
{
    outbox->frames.max = SIZE_MAX;
    frame_put_tick(&outbox->frames);
}

static void put_part(struct outbox *outbox, struct large_frame *large,
                     struct buf *out)
{
    struct slice content = frame_content(buf_slice(&large->bytes));
    enum frame_part place =
        large->left.data == content.data ? FRAME_PART_FIRST : FRAME_PART_LATER;
    size_t size =
        large->left.size < FRAME_PART_SIZE ? large->left.size : FRAME_PART_SIZE;

    frame_put_part(out, place, large->sequence, large->parts,
                   slice_make(large->left.data, size));
    large->parts--;
    large->left.data += size;
    large->left.size -= size;
    outbox->large_bytes -= size;
}

/* Its place is the next one's of the receiver, which is served last now. */
static void finish(struct outbox *outbox, struct large_frame *large,
                   struct buf *out)
{
    buf_append_slice(out, buf_slice(&large->behind));
    outbox->large_bytes -= large->behind.size;
    if (!list_is_empty(&large->followers)) {
        struct large_frame *next =
            LIST_ENTRY(large->followers.next, struct large_frame, link);

        list_remove(&next->link);
        list_append(&outbox->large, &next->link);
        list_move(&next->followers, &large->followers);
    }
    large_free(large);
}

/* One part of the frame whose turn it is; false: there is none. */
static bool serve(struct outbox *outbox, struct buf *out)
{
    struct large_frame *large;

    if (list_is_empty(&outbox->large))
        return false;
    large = LIST_ENTRY(outbox->large.next, struct large_frame, link);
    put_part(outbox, large, out);
    list_remove(&large->link);
    list_append(&outbox->large, &large->link);
    if (large->parts == 0)
        finish(outbox, large, out);
    return true;
}

void outbox_take(struct outbox *outbox, struct buf *out)
{
    struct buf empty = *out;

    *out = outbox->frames;
    outbox->frames = empty;
    out->max = SIZE_MAX;
    while (serve(outbox, out) && out->size < OUTBOX_BURST_BYTES)
        ;
}
