#include "provider/dialects_internal.h"

enum advice {
    RETRY = 1,      /* the same candidate may do better soon */
    NEXT = 2,       /* another candidate may do better */
    LARGER = 4,     /* only one with a larger context may */
    BENCH = 8,      /* the key is no good for now */
    BLAMELESS = 16, /* the provider is well; the request is not */
    SLOW = 32,      /* it has too much to do: come back later than usual */
};

/* What may be wrong, and what that means. */
enum kind {
    BAD_REQUEST,
    BAD_KEY,
    NO_CREDIT,
    NO_MODEL,
    TOO_LONG, /* for the model's context */
    TOO_MUCH, /* for the provider or the key, whatever the model */
    FILTERED,
    BAD_OUTPUT, /* the model's, said by the provider */
    TIMED_OUT,
    LIMITED,
    TOO_FAST,
    BUSY,
    BROKEN,
    DECLINED, /* the provider is not for us */
    NONSENSE, /* no status of HTTP */
};

static const struct {
    enum error_code error;
    unsigned advice;
} kinds[] = {
    [BAD_REQUEST] = {ERR_INVALID_REQUEST, BLAMELESS},
    [BAD_KEY] = {ERR_UNAUTHORIZED, NEXT | BENCH},
    [NO_CREDIT] = {ERR_QUOTA_EXCEEDED, NEXT | BENCH},
    [NO_MODEL] = {ERR_NO_ROUTE, NEXT | BLAMELESS},
    [TOO_LONG] = {ERR_TOO_LARGE, LARGER | BLAMELESS},
    [TOO_MUCH] = {ERR_TOO_LARGE, NEXT | BLAMELESS},
    [FILTERED] = {ERR_CONTENT_FILTERED, BLAMELESS},
    [BAD_OUTPUT] = {ERR_BAD_RESPONSE, RETRY | NEXT | BLAMELESS},
    [TIMED_OUT] = {ERR_TIMEOUT, RETRY | NEXT},
    [LIMITED] = {ERR_RATE_LIMITED, RETRY | NEXT},
    [TOO_FAST] = {ERR_RATE_LIMITED, RETRY | NEXT | SLOW},
    [BUSY] = {ERR_PROVIDER_ERROR, RETRY | NEXT | SLOW},
    [BROKEN] = {ERR_PROVIDER_ERROR, RETRY | NEXT},
    [DECLINED] = {ERR_PROVIDER_ERROR, NEXT},
    [NONSENSE] = {ERR_BAD_RESPONSE, RETRY | NEXT},
};

/* Words that say more than the status, as code, type or reason. */
static const struct {
    const char *word;
    enum kind kind;
} words[] = {
    {"insufficient_quota", NO_CREDIT},
    {"credit_balance_exhausted", NO_CREDIT},
    {"enforced_spend_limit_reached", NO_CREDIT},
    {"billing_hard_limit_reached", NO_CREDIT},
    {"billing_not_active", NO_CREDIT},
    {"billing_error", NO_CREDIT},
    {"invalid_api_key", BAD_KEY},
    {"API_KEY_INVALID", BAD_KEY}, /* Gemini, with a 400 */
    {"account_deactivated", BAD_KEY},
    {"context_length_exceeded", TOO_LONG},
    {"exceed_context_size_error", TOO_LONG}, /* llama.cpp */
    {"content_filter", FILTERED},
    {"content_policy_violation", FILTERED},
    {"model_not_found", NO_MODEL},
    {"slow_down", TOO_FAST},
    {"server_is_overloaded", BUSY},
    {"overloaded_error", BUSY},
    {"service_unavailable_error", BUSY},
    {"unavailable_error", BUSY}, /* llama.cpp while it loads */
    {"UNAVAILABLE", BUSY},
    /* Groq: what the model wrote is no call, or no JSON. */
    {"tool_use_failed", BAD_OUTPUT},
    {"json_validate_failed", BAD_OUTPUT},
    /* Gemini: not in this country, or without a bill. */
    {"FAILED_PRECONDITION", DECLINED},
};

/* Where only the sentence tells, and the code is that of any bad request. */
static const struct {
    const char *phrase; /* in lower case */
    enum kind kind;
} phrases[] = {
    {"prompt is too long", TOO_LONG}, /* Anthropic */
    {"exceed context limit", TOO_LONG},
    {"prompt too long", TOO_LONG}, /* Ollama */
    {"input is too long", TOO_LONG},
    {"context length", TOO_LONG}, /* vLLM, Mistral, DeepSeek, OpenRouter */
    {"context window", TOO_LONG},
    {"context size", TOO_LONG},
    {"maximum prompt length", TOO_LONG},    /* xAI */
    {"maximum number of tokens", TOO_LONG}, /* Gemini */
    /* OpenAI, Groq: more at once than the key may have in a minute. */
    {"request too large", TOO_MUCH},
    {"credit balance", NO_CREDIT},             /* Anthropic */
    {"api usage limits", NO_CREDIT},           /* Anthropic, with a 400 */
    {"used all available credits", NO_CREDIT}, /* xAI, with a 403 */
    {"insufficient balance", NO_CREDIT},       /* DeepSeek */
    {"incorrect api key", BAD_KEY},            /* xAI, with a 400 */
    {"api key not valid", BAD_KEY},
};

/* Ranges, because vendors make up their own; the first that fits counts. */
static const struct {
    int first, last;
    enum kind kind;
} statuses[] = {
    {300, 399, DECLINED},    {400, 400, BAD_REQUEST}, {401, 401, BAD_KEY},
    {402, 402, NO_CREDIT},   {403, 403, BAD_KEY},     {404, 404, NO_MODEL},
    {408, 408, TIMED_OUT},   {409, 409, BROKEN},      {413, 413, TOO_MUCH},
    {422, 422, BAD_REQUEST}, {429, 429, LIMITED},     {400, 499, DECLINED},
    {503, 503, BUSY},        {529, 529, BUSY},        {500, 599, BROKEN},
};

/* For an error inside an answer with a good status: the status that the same
 * error has when it comes alone. */
static const struct {
    const char *word;
    int status;
} statuses_of_words[] = {
    {"invalid_request_error", 400},
    {"BadRequestError", 400},
    {"invalid_prompt", 400},
    {"INVALID_ARGUMENT", 400},
    {"authentication_error", 401},
    {"UNAUTHENTICATED", 401},
    {"permission_error", 403},
    {"PERMISSION_DENIED", 403},
    {"not_found_error", 404},
    {"NotFoundError", 404},
    {"NOT_FOUND", 404},
    {"timeout", 408},
    {"conflict_error", 409},
    {"request_too_large", 413},
    {"rate_limit_exceeded", 429},
    {"rate_limit_error", 429},
    {"RESOURCE_EXHAUSTED", 429},
    {"timeout_error", 504},
};

enum { STATUS_UNKNOWN_ERROR = 500, SENTENCE_MAX = 4096 };

static bool names(const struct fault *fault, const char *word)
{
    return slice_is(fault->code, word) || slice_is(fault->type, word);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Near its beginning: a message may be as long as an answer. */
static bool says(struct slice text, const char *phrase)
{
    size_t size = strlen(phrase);

    if (text.size > SENTENCE_MAX)
        text.size = SENTENCE_MAX;
    for (size_t at = 0; text.size >= size && at <= text.size - size; at++) {
        size_t same = 0;

        while (same < size && lower(text.data[at + same]) == phrase[same])
            same++;
        if (same == size)
            return true;
    }
    return false;
}

static int effective_status(const struct fault *fault)
{
    if (fault->status >= 300)
        return fault->status;
    if (fault->number >= 400 && fault->number <= 599)
        return (int)fault->number;
    for (size_t i = 0;
         i < sizeof(statuses_of_words) / sizeof(statuses_of_words[0]); i++)
        if (names(fault, statuses_of_words[i].word))
            return statuses_of_words[i].status;
    return STATUS_UNKNOWN_ERROR;
}

static enum kind classify(const struct fault *fault)
{
    int status = effective_status(fault);

    if (fault->daily)
        return NO_CREDIT;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (names(fault, words[i].word))
            return words[i].kind;
    for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
        if (says(fault->message, phrases[i].phrase) ||
            says(fault->upstream, phrases[i].phrase))
            return phrases[i].kind;
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        if (status >= statuses[i].first && status <= statuses[i].last)
            return statuses[i].kind;
    return NONSENSE;
}

static void set_message(struct error *err, enum error_code code,
                        const struct fault *fault)
{
    char said[ERROR_MESSAGE_MAX];

    redact(fault->message, fault->api_key, said, sizeof(said));
    if (said[0] != '\0')
        error_set(err, code, "the provider said %d: %s", fault->status, said);
    else if (fault->status >= 300 && fault->status <= 399)
        error_set(err, code, "the provider said %d: redirects are not followed",
                  fault->status);
    else
        error_set(err, code, "the provider said %d", fault->status);
}

void failure_from_fault(struct provider_failure *failure,
                        const struct fault *fault)
{
    enum kind kind = classify(fault);
    unsigned advice = kinds[kind].advice;

    *failure = (struct provider_failure){
        .retry = fault->advice,
        .try_next = (advice & NEXT) != 0,
        .try_larger = (advice & LARGER) != 0,
        .bench_key = (advice & BENCH) != 0,
        .blameless = (advice & BLAMELESS) != 0,
        .usage = USAGE_UNKNOWN,
    };
    failure->retry.retryable = (advice & RETRY) != 0;
    failure->retry.overloaded = (advice & SLOW) != 0;
    /* No key and no credit stay so, whatever the header says. */
    if (failure->bench_key)
        failure->retry.should_retry_said = false;
    set_message(&failure->error, kinds[kind].error, fault);
    failure->error.http_status = fault->status;
    failure->error.retry_after_ms = fault->advice.retry_after_ms;
}

void failure_bad_response(struct provider_failure *failure, int status,
                          const char *reason)
{
    *failure = (struct provider_failure){
        .retry = {.retryable = true, .retry_after_ms = -1},
        .try_next = true,
        .usage = USAGE_UNKNOWN,
    };
    error_set(&failure->error, ERR_BAD_RESPONSE, "%s", reason);
    failure->error.http_status = status;
}

struct failure failure_advice(const struct provider_headers *headers,
                              int64_t now_s)
{
    struct slice should = headers->find(headers->context, "x-should-retry");
    bool yes = slice_is_nocase(should, "true");
    struct failure advice = {
        .should_retry_said = yes || slice_is_nocase(should, "false"),
        .should_retry = yes,
    };
    struct slice ms = headers->find(headers->context, "retry-after-ms");
    struct slice after = headers->find(headers->context, "retry-after");

    if (slice_to_int64(ms, &advice.retry_after_ms) &&
        advice.retry_after_ms >= 0)
        return advice;
    advice.retry_after_ms =
        after.size > 0 ? retry_after_parse(after, now_s) : -1;
    return advice;
}

/* A sentence; FastAPI (vLLM) and Mistral: a list of faults, each with the
 * input that caused it, which is why the rest is not quoted. */
static struct slice read_words(const struct jv *value)
{
    const struct jv *detail = jv_find(value, "detail");

    if (detail)
        value = detail;
    return jv_is_string(value) ? jv_string(value)
                               : jv_string(jv_find(jv_at(value, 0), "msg"));
}

/* Of the minute, or of the day: then the status is the same. */
static bool is_daily(const struct jv *violations)
{
    for (size_t i = 0; i < jv_count(violations); i++) {
        struct slice id = jv_string(jv_find(jv_at(violations, i), "quotaId"));

        if (slice_find(id, SLICE_LITERAL("PerDay")) >= 0)
            return true;
    }
    return false;
}

/* Gemini: a list of google.rpc's ErrorInfo, QuotaFailure, RetryInfo.
 * Anthropic: an object. */
static void read_details(struct fault *fault, const struct jv *details)
{
    struct slice code = jv_string(jv_find(details, "error_code"));

    if (code.size > 0)
        fault->code = code;
    for (size_t i = 0; i < jv_count(details); i++) {
        const struct jv *detail = jv_at(details, i);
        struct slice delay = jv_string(jv_find(detail, "retryDelay"));

        if (fault->code.size == 0)
            fault->code = jv_string(jv_find(detail, "reason"));
        if (fault->advice.retry_after_ms < 0)
            fault->advice.retry_after_ms = duration_ms(delay);
        fault->daily |= is_daily(jv_find(detail, "violations"));
    }
}

/* OpenRouter: what the provider behind it said, or what its own moderation
 * found. */
static void read_metadata(struct fault *fault, const struct jv *metadata)
{
    fault->upstream = jv_string(jv_find(metadata, "raw"));
    if (jv_find(metadata, "flagged_input") && fault->code.size == 0)
        fault->code = SLICE_LITERAL("content_filter");
}

/* A status, as a number or as text. */
static int64_t read_number(const struct jv *error)
{
    const struct jv *code = jv_find(error, "code");
    int64_t number = 0;

    if (slice_to_int64(jv_string(code), &number))
        return number;
    return jv_integer(code, jv_integer(jv_find(error, "status_code"), 0));
}

void fault_read(struct fault *fault, const struct jv *document)
{
    const struct jv *error, *object;

    if (document && document->type == JV_ARRAY)
        document = jv_at(document, 0);
    error = jv_find(document, "error");
    object = error && error->type == JV_OBJECT ? error : document;
    fault->message = jv_is_string(error)
                         ? jv_string(error)
                         : read_words(jv_find(object, "message"));
    if (fault->message.size == 0)
        fault->message = read_words(document);
    fault->code = jv_string(jv_find(object, "code"));
    fault->type = jv_string(jv_find(object, "type"));
    if (fault->type.size == 0)
        fault->type = jv_string(jv_find(object, "status"));
    fault->number = read_number(object);
    read_details(fault, jv_find(object, "details"));
    read_metadata(fault, jv_find(object, "metadata"));
}
