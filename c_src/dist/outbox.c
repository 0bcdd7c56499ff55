#include "llm_router/dist/outbox.h"

#include "llm_router/base/mem.h"

/* A frame that is written in fragments. */
struct large_frame {
    struct list link;
    struct buf bytes;
    struct slice left; /* what is still to be written of it */
    uint64_t sequence;
    uint64_t parts;
    struct buf behind; /* small frames that must not overtake it */
};

void outbox_init(struct outbox *outbox, enum frame_form form)
{
    *outbox = (struct outbox){.form = form};
    list_init(&outbox->large);
    list_init(&outbox->in_order);
    buf_init(&outbox->frames, SIZE_MAX);
}

static void large_free(struct large_frame *large)
{
    list_remove(&large->link);
    buf_release(&large->bytes);
    buf_release(&large->behind);
    mem_free(large);
}

void outbox_release(struct outbox *outbox)
{
    LIST_EACH(link, &outbox->large)
    large_free(LIST_ENTRY(link, struct large_frame, link));
    LIST_EACH(link, &outbox->in_order)
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

static void set_aside(struct outbox *outbox, struct list *list)
{
    struct large_frame *large = mem_alloc(sizeof(*large));

    move_frame(outbox, &large->bytes);
    buf_init(&large->behind, SIZE_MAX);
    large->left = frame_content(buf_slice(&large->bytes));
    large->parts = (large->left.size + FRAME_PART_SIZE - 1) / FRAME_PART_SIZE;
    large->sequence = ++outbox->sequence;
    outbox->large_bytes += large->left.size;
    list_append(list, &large->link);
}

static void hold_back(struct outbox *outbox)
{
    struct large_frame *last =
        LIST_ENTRY(outbox->in_order.previous, struct large_frame, link);
    struct slice frame = last_frame(outbox);

    buf_append_slice(&last->behind, frame);
    outbox->large_bytes += frame.size;
    outbox->frames.size -= frame.size;
}

bool outbox_end(struct outbox *outbox, enum outbox_order order)
{
    struct list *list =
        order == OUTBOX_IN_ORDER ? &outbox->in_order : &outbox->large;

    if (!frame_end(&outbox->frames, outbox->frame_start))
        return false;
    if (outbox->form == FRAME_PASS_THROUGH)
        return true;
    if (frame_content(last_frame(outbox)).size > FRAME_PART_SIZE)
        set_aside(outbox, list);
    else if (order == OUTBOX_IN_ORDER && !list_is_empty(list))
        hold_back(outbox);
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

static void finish(struct outbox *outbox, struct large_frame *large,
                   struct buf *out)
{
    buf_append_slice(out, buf_slice(&large->behind));
    outbox->large_bytes -= large->behind.size;
    large_free(large);
}

/* One part of the list's first frame; false: there is none. */
static bool serve(struct outbox *outbox, struct list *list, struct buf *out)
{
    struct large_frame *large;

    if (list_is_empty(list))
        return false;
    large = LIST_ENTRY(list->next, struct large_frame, link);
    put_part(outbox, large, out);
    if (large->parts == 0) {
        finish(outbox, large, out);
    } else if (list == &outbox->large) {
        list_remove(&large->link);
        list_append(list, &large->link);
    }
    return true;
}

void outbox_take(struct outbox *outbox, struct buf *out)
{
    struct buf empty = *out;
    bool more;

    *out = outbox->frames;
    outbox->frames = empty;
    out->max = SIZE_MAX;
    do {
        more = serve(outbox, &outbox->in_order, out);
        more |= serve(outbox, &outbox->large, out);
    } while (more && out->size < OUTBOX_BURST_BYTES);
}
