#include "llm_router/base/utf8.h"
#include "provider/dialects_internal.h"

enum { MESSAGE_MAX = 160 /* bytes of the provider's words that are kept */ };

enum advice {
    RETRY = 1, /* the same candidate may do better soon */
    NEXT = 2,  /* another candidate may do better */
    BENCH = 4, /* the key is no good for now */
};

struct rule {
    int status;       /* 0: any */
    const char *name; /* of error.code or error.type; NULL: any */
    enum error_code code;
    unsigned advice;
};

/* First match wins. Names first: a 429 may mean "slow down" or "no credit",
 * and a 400 may be a prompt that is too long. */
static const struct rule rules[] = {
    {0, "insufficient_quota", ERR_QUOTA_EXCEEDED, NEXT | BENCH},
    {0, "credit_balance_exhausted", ERR_QUOTA_EXCEEDED, NEXT | BENCH},
    {0, "enforced_spend_limit_reached", ERR_QUOTA_EXCEEDED, NEXT | BENCH},
    {0, "billing_hard_limit_reached", ERR_QUOTA_EXCEEDED, NEXT | BENCH},
    {0, "billing_not_active", ERR_QUOTA_EXCEEDED, NEXT | BENCH},
    {0, "context_length_exceeded", ERR_TOO_LARGE, NEXT},
    {0, "exceed_context_size_error", ERR_TOO_LARGE, NEXT}, /* llama.cpp */
    {0, "content_filter", ERR_CONTENT_FILTERED, 0},        /* Azure */
    {0, "content_policy_violation", ERR_CONTENT_FILTERED, 0},
    {0, "rate_limit_exceeded", ERR_RATE_LIMITED, RETRY | NEXT},
    {0, "rate_limit_error", ERR_RATE_LIMITED, RETRY | NEXT},
    {400, NULL, ERR_PROVIDER_ERROR, 0},
    {401, NULL, ERR_UNAUTHORIZED, NEXT | BENCH},
    {402, NULL, ERR_QUOTA_EXCEEDED, NEXT | BENCH},
    {403, NULL, ERR_UNAUTHORIZED, NEXT | BENCH},
    {404, NULL, ERR_NO_ROUTE, NEXT},
    {408, NULL, ERR_TIMEOUT, RETRY | NEXT},
    {409, NULL, ERR_PROVIDER_ERROR, RETRY | NEXT},
    {413, NULL, ERR_TOO_LARGE, NEXT},
    {422, NULL, ERR_PROVIDER_ERROR, 0},
    {429, NULL, ERR_RATE_LIMITED, RETRY | NEXT},
};

static bool matches(const struct rule *rule, int status, struct slice code,
                    struct slice type)
{
    if (rule->status != 0 && rule->status != status)
        return false;
    return !rule->name || slice_is(code, rule->name) ||
           slice_is(type, rule->name);
}

static struct rule find_rule(int status, struct slice code, struct slice type)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (matches(&rules[i], status, code, type))
            return rules[i];
    if (status >= 300 && status < 500) /* redirects are not followed */
        return (struct rule){status, NULL, ERR_PROVIDER_ERROR, NEXT};
    /* 5xx, and an error object inside a 200 */
    return (struct rule){status, NULL, ERR_PROVIDER_ERROR, RETRY | NEXT};
}

static bool is_key_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '*' ||
           c == '.';
}

/* Bytes at the front of `text` that are the key, or look like one: providers
 * quote it, whole or with stars in the middle ("Incorrect API key: sk-ab**").
 */
static size_t key_size(struct slice text, struct slice api_key)
{
    size_t size = 0;

    if (api_key.size > 0 && text.size >= api_key.size &&
        !memcmp(text.data, api_key.data, api_key.size))
        return api_key.size;
    if (!slice_starts_with(text, "sk-"))
        return 0;
    while (size < text.size && is_key_character(text.data[size]))
        size++;
    return size;
}

static struct slice hide_keys(struct slice text, struct slice api_key,
                              char *out, size_t room)
{
    size_t size = 0;

    while (text.size > 0 && size + 4 < room) {
        size_t key = key_size(text, api_key);

        if (key > 0) {
            memcpy(out + size, "***", 3);
            size += 3;
        } else {
            key = 1;
            out[size++] =
                text.data[0] >= 0 && text.data[0] < ' ' ? ' ' : text.data[0];
        }
        text = slice_make(text.data + key, text.size - key);
    }
    return utf8_cut(slice_make(out, size), size);
}

void classify(int status, struct slice code, struct slice type,
              struct slice message, struct slice api_key,
              struct provider_failure *failure)
{
    struct rule rule = find_rule(status, code, type);
    char words[MESSAGE_MAX];
    struct slice shown = hide_keys(message, api_key, words, sizeof(words));

    *failure = (struct provider_failure){
        .retry = {.retryable = (rule.advice & RETRY) != 0,
                  .retry_after_ms = -1},
        .try_next = (rule.advice & NEXT) != 0,
        .bench_key = (rule.advice & BENCH) != 0,
    };
    if (shown.size > 0)
        error_set(&failure->error, rule.code, "the provider said %d: %.*s",
                  status, SLICE_ARG(shown));
    else
        error_set(&failure->error, rule.code, "the provider said %d", status);
    failure->error.http_status = status;
}

void read_retry_headers(const struct provider_headers *headers, int64_t now_s,
                        struct failure *retry)
{
    struct slice say = headers->find(headers->context, "x-should-retry");
    struct slice ms = headers->find(headers->context, "retry-after-ms");
    struct slice after = headers->find(headers->context, "retry-after");

    *retry = (struct failure){.retry_after_ms = -1};
    retry->should_retry_said =
        slice_is_nocase(say, "true") || slice_is_nocase(say, "false");
    retry->should_retry = slice_is_nocase(say, "true");
    if (slice_to_int64(slice_trim(ms), &retry->retry_after_ms) &&
        retry->retry_after_ms >= 0)
        return;
    retry->retry_after_ms = retry_after_parse(slice_trim(after), now_s);
}
