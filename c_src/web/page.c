#include "llm_router/web/page.h"

#include "llm_router/base/digest.h"

static void append_base64(struct buf *out, const unsigned char *bytes,
                          size_t size)
{
    static const char DIGITS[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)bytes[i] << 16 |
                         (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? bytes[i + 2] : 0);

        buf_append_byte(out, DIGITS[group >> 18]);
        buf_append_byte(out, DIGITS[group >> 12 & 63]);
        buf_append_byte(out, left > 1 ? DIGITS[group >> 6 & 63] : '=');
        buf_append_byte(out, left > 2 ? DIGITS[group & 63] : '=');
    }
}

/* What is between `open` and `close`; `rest` moves behind it. */
static bool next_element(struct slice *rest, const char *open,
                         const char *close, struct slice *content)
{
    ptrdiff_t at = slice_find(*rest, slice_of(open));
    ptrdiff_t length;

    if (at < 0)
        return false;
    *rest = slice_make(rest->data + at + strlen(open),
                       rest->size - (size_t)at - strlen(open));
    length = slice_find(*rest, slice_of(close));
    if (length < 0)
        return false;
    *content = slice_make(rest->data, (size_t)length);
    *rest = slice_make(rest->data + length, rest->size - (size_t)length);
    return true;
}

static void append_source(struct buf *policy, const char *directive,
                          struct slice page, const char *open,
                          const char *close)
{
    struct slice content;

    buf_append_text(policy, directive);
    while (next_element(&page, open, close, &content)) {
        unsigned char digest[DIGEST_SIZE];

        digest_sha256(content, digest);
        buf_append_text(policy, " 'sha256-");
        append_base64(policy, digest, sizeof(digest));
        buf_append_byte(policy, '\'');
    }
    buf_append_text(policy, "; ");
}

void page_policy(struct slice page, struct buf *policy)
{
    buf_append_text(policy, "default-src 'none'; ");
    append_source(policy, "script-src", page, "<script>", "</script>");
    append_source(policy, "style-src", page, "<style>", "</style>");
    buf_append_text(policy,
                    "img-src data:; connect-src 'self'; base-uri 'none'; "
                    "form-action 'none'; frame-ancestors 'none'");
}
