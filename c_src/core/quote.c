#include "llm_router/core/quote.h"

/* Rabin-Karp over every window of the text at once: a small filter of their
 * hashes decides where the chat is compared byte by byte. */
enum { FILTER_BITS = 4096 };
static const uint64_t BASE = 0x100000001B3u;

struct windows {
    struct slice text;
    size_t size;      /* of each */
    uint64_t leaving; /* BASE to the power of the size */
    uint64_t filter[FILTER_BITS / 64];
};

static uint64_t roll(const struct windows *windows, uint64_t hash,
                     struct slice text, size_t at)
{
    hash = hash * BASE + (unsigned char)text.data[at];
    if (at >= windows->size)
        hash -= windows->leaving * (unsigned char)text.data[at - windows->size];
    return hash;
}

static size_t bit_of(uint64_t hash)
{
    return (hash * 0x9E3779B97F4A7C15u) >> 52; /* 12 bits */
}

static void windows_init(struct windows *windows, struct slice text,
                         size_t size)
{
    uint64_t hash = 0;

    *windows = (struct windows){.text = text, .size = size, .leaving = 1};
    for (size_t i = 0; i < size; i++)
        windows->leaving *= BASE;
    for (size_t at = 0; at < text.size; at++) {
        size_t bit;

        hash = roll(windows, hash, text, at);
        if (at + 1 < windows->size)
            continue;
        bit = bit_of(hash);
        windows->filter[bit / 64] |= UINT64_C(1) << bit % 64;
    }
}

static bool has_window_of(const struct windows *windows, struct slice content)
{
    uint64_t hash = 0;

    for (size_t at = 0; at < content.size; at++) {
        size_t bit;
        struct slice window;

        hash = roll(windows, hash, content, at);
        if (at + 1 < windows->size)
            continue;
        bit = bit_of(hash);
        if (!(windows->filter[bit / 64] & UINT64_C(1) << bit % 64))
            continue;
        window =
            slice_make(content.data + at + 1 - windows->size, windows->size);
        if (slice_find(windows->text, window) >= 0)
            return true;
    }
    return false;
}

static bool quotes(const struct windows *windows, struct slice content)
{
    if (content.size > QUOTE_SCAN_MAX)
        content.size = QUOTE_SCAN_MAX;
    return has_window_of(windows, content);
}

static bool quotes_message(const struct windows *windows,
                           const struct message *message)
{
    for (size_t i = 0; i < message->tool_call_count; i++)
        if (quotes(windows, message->tool_calls[i].arguments))
            return true;
    return quotes(windows, message->content);
}

static bool quotes_tool(const struct windows *windows, const struct tool *tool)
{
    return quotes(windows, tool->description) ||
           quotes(windows, tool->parameters);
}

/* Any string in it. */
static bool quotes_value(const struct windows *windows, const struct jv *value)
{
    size_t count = jv_count(value);

    if (jv_is_string(value))
        return quotes(windows, value->as.string);
    for (size_t i = 0; i < count; i++)
        if (quotes_value(windows, value->type == JV_OBJECT
                                      ? &value->as.object.members[i].value
                                      : jv_at(value, i)))
            return true;
    return false;
}

/* Of what is secret a shorter piece is too much. */
static bool quotes_secret(struct slice text, const struct jv *mcp_servers)
{
    struct windows windows;

    if (!mcp_servers || text.size < QUOTE_SECRET_MIN)
        return false;
    windows_init(&windows, text, QUOTE_SECRET_MIN);
    for (size_t i = 0; i < jv_count(mcp_servers); i++) {
        const struct jv *server = jv_at(mcp_servers, i);

        if (quotes_value(&windows, jv_find(server, "authorization")) ||
            quotes_value(&windows, jv_find(server, "headers")))
            return true;
    }
    return false;
}

bool quotes_chat(struct slice text, const struct chat *chat)
{
    struct windows windows;

    if (text.size > QUOTE_TEXT_MAX)
        text.size = QUOTE_TEXT_MAX;
    if (quotes_secret(text, chat->mcp_servers))
        return true;
    if (text.size < QUOTE_MIN)
        return false;
    windows_init(&windows, text, QUOTE_MIN);
    if (quotes_value(&windows, chat->mcp_servers))
        return true;
    for (size_t i = 0; i < chat->message_count; i++)
        if (quotes_message(&windows, &chat->messages[i]))
            return true;
    for (size_t i = 0; i < chat->tool_count; i++)
        if (quotes_tool(&windows, &chat->tools[i]))
            return true;
    for (size_t i = 0; i < chat->input_count; i++)
        if (quotes(&windows, chat->inputs[i]))
            return true;
    return false;
}
