#include "http_internal.h"

#include "llm_router/base/mem.h"

/* curl must keep nothing for a paused transfer: it would put what it
 * decompresses into a buffer of its own, of up to 64 MiB, that nobody counts.
 * So curl is not told while it works. What its read still brings is held here,
 * counted as if it were handed out, and curl is paused at the end of the turn,
 * in both directions: paused for reading alone, libcurl 7.88 reads once more.
 */

/* Of what is held, handed out at once: then the caller may pause again. */
enum { PIECE_BYTES = 16 * 1024 };

static void settle_later(struct transfer *transfer)
{
    list_remove(&transfer->link);
    list_append(&transfer->http->unsettled, &transfer->link);
    http_wake(transfer->http);
}

void http_pause(struct http *http, uint64_t id)
{
    struct transfer *transfer = map_find(&http->transfers, MAP_KEY(id));

    if (transfer && transfer->request.pausable)
        transfer->paused = true;
}

void http_resume(struct http *http, uint64_t id)
{
    struct transfer *transfer = map_find(&http->transfers, MAP_KEY(id));

    if (!transfer || !transfer->paused)
        return;
    transfer->paused = false;
    if (transfer->holding || transfer->ended)
        settle_later(transfer);
}

bool pause_hold(struct transfer *transfer, struct slice bytes)
{
    if (!transfer->paused && !transfer->holding)
        return false;
    transfer->holding = true;
    buf_append_slice(&transfer->held, bytes);
    settle_later(transfer);
    return true;
}

bool pause_hold_end(struct transfer *transfer, CURLcode result)
{
    if (!transfer->holding &&
        (!transfer->paused || transfer->phase != PHASE_BODY))
        return false;
    transfer->ended = true;
    transfer->result = result;
    return true;
}

/* Until nothing is held, or the callback wants no more. */
static void hand_out(struct transfer *transfer)
{
    struct http *http = transfer->http;
    struct buf *held = &transfer->held;

    http->in_callback = true;
    while (transfer->handed_out < held->size && !transfer->paused &&
           !transfer->cancelled && transfer->verdict != HTTP_STOPPED) {
        struct slice piece = {held->data + transfer->handed_out,
                              held->size - transfer->handed_out};

        if (piece.size > PIECE_BYTES)
            piece.size = PIECE_BYTES;
        transfer->handed_out += piece.size;
        transfer_take(transfer, piece);
    }
    http->in_callback = false;
    if (transfer->handed_out == held->size) {
        buf_shrink(held, 0);
        transfer->handed_out = 0;
    }
}

static void tell_curl(struct transfer *transfer, bool halted)
{
    if (transfer->ended || transfer->halted == halted)
        return;
    transfer->halted = halted;
    curl_easy_pause(transfer->easy, halted ? CURLPAUSE_ALL : CURLPAUSE_CONT);
}

static void settle(struct transfer *transfer)
{
    if (!transfer->holding && !transfer->ended)
        return; /* resumed inside hand_out, and settled since */
    if (!transfer->paused)
        hand_out(transfer);
    if (transfer->cancelled)
        return; /* buried at the end of the turn */
    if (transfer->paused) {
        tell_curl(transfer, true);
        return;
    }
    transfer->holding = false;
    if (transfer->ended || transfer->verdict == HTTP_STOPPED)
        transfer_conclude(transfer, transfer->result);
    else
        tell_curl(transfer, false);
}

void pauses_settle(struct http *http)
{
    struct list now;

    list_init(&now);
    list_move(&now, &http->unsettled);
    while (!list_is_empty(&now)) {
        struct transfer *transfer = LIST_ENTRY(now.next, struct transfer, link);

        list_remove(&transfer->link);
        settle(transfer);
    }
}
