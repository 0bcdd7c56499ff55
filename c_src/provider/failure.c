#include "provider/dialects_internal.h"

enum advice {
    RETRY = 1, /* the same candidate may do better soon */
    NEXT = 2,  /* another candidate may do better */
    BENCH = 4, /* the key is no good for now */
};

struct kind {
    enum error_code error;
    unsigned advice;
};

/* Words that say more than the status, in error.code or error.type. */
static const struct {
    const char *word;
    struct kind kind;
} words[] = {
    {"insufficient_quota", {ERR_QUOTA_EXCEEDED, NEXT | BENCH}},
    {"credit_balance_exhausted", {ERR_QUOTA_EXCEEDED, NEXT | BENCH}},
    {"enforced_spend_limit_reached", {ERR_QUOTA_EXCEEDED, NEXT | BENCH}},
    {"billing_hard_limit_reached", {ERR_QUOTA_EXCEEDED, NEXT | BENCH}},
    {"billing_not_active", {ERR_QUOTA_EXCEEDED, NEXT | BENCH}},
    {"billing_error", {ERR_QUOTA_EXCEEDED, NEXT | BENCH}},
    {"invalid_api_key", {ERR_UNAUTHORIZED, NEXT | BENCH}},
    {"account_deactivated", {ERR_UNAUTHORIZED, NEXT | BENCH}},
    {"context_length_exceeded", {ERR_TOO_LARGE, NEXT}},
    {"exceed_context_size_error", {ERR_TOO_LARGE, NEXT}},
    {"content_filter", {ERR_CONTENT_FILTERED, 0}},
    {"content_policy_violation", {ERR_CONTENT_FILTERED, 0}},
    {"model_not_found", {ERR_NO_ROUTE, NEXT}},
};

/* Ranges, because vendors make up their own; the first that fits counts. */
static const struct {
    int first, last;
    struct kind kind;
} statuses[] = {
    {300, 399, {ERR_PROVIDER_ERROR, NEXT}},
    {400, 400, {ERR_PROVIDER_ERROR, 0}},
    {401, 401, {ERR_UNAUTHORIZED, NEXT | BENCH}},
    {402, 402, {ERR_QUOTA_EXCEEDED, NEXT | BENCH}},
    {403, 403, {ERR_UNAUTHORIZED, NEXT | BENCH}},
    {404, 404, {ERR_NO_ROUTE, NEXT}},
    {408, 408, {ERR_TIMEOUT, RETRY | NEXT}},
    {409, 409, {ERR_PROVIDER_ERROR, RETRY | NEXT}},
    {413, 413, {ERR_TOO_LARGE, NEXT}},
    {422, 422, {ERR_PROVIDER_ERROR, 0}},
    {429, 429, {ERR_RATE_LIMITED, RETRY | NEXT}},
    {400, 499, {ERR_PROVIDER_ERROR, NEXT}},
    {500, 599, {ERR_PROVIDER_ERROR, RETRY | NEXT}},
};

/* For an error inside an answer with a good status: the status that the same
 * error has when it comes alone. */
static const struct {
    const char *word;
    int status;
} statuses_of_words[] = {
    {"invalid_request_error", 400}, {"BadRequestError", 400},
    {"authentication_error", 401},  {"permission_error", 403},
    {"not_found_error", 404},       {"NotFoundError", 404},
    {"rate_limit_exceeded", 429},   {"rate_limit_error", 429},
};

enum { STATUS_UNKNOWN_ERROR = 500 };

static bool names(const struct fault *fault, const char *word)
{
    return slice_is(fault->code, word) || slice_is(fault->type, word);
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

static struct kind classify(const struct fault *fault)
{
    int status = effective_status(fault);

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (names(fault, words[i].word))
            return words[i].kind;
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        if (status >= statuses[i].first && status <= statuses[i].last)
            return statuses[i].kind;
    return (struct kind){ERR_BAD_RESPONSE, RETRY | NEXT};
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
    struct kind kind = classify(fault);

    *failure = (struct provider_failure){
        .retry = fault->advice,
        .try_next = (kind.advice & NEXT) != 0,
        .bench_key = (kind.advice & BENCH) != 0,
    };
    failure->retry.retryable = (kind.advice & RETRY) != 0;
    /* No credit stays no credit, whatever the header says. */
    if (kind.error == ERR_QUOTA_EXCEEDED)
        failure->retry.should_retry_said = false;
    set_message(&failure->error, kind.error, fault);
    failure->error.http_status = fault->status;
    failure->error.retry_after_ms = fault->advice.retry_after_ms;
}

void failure_bad_response(struct provider_failure *failure, int status,
                          const char *reason)
{
    *failure = (struct provider_failure){
        .retry = {.retryable = true, .retry_after_ms = -1},
        .try_next = true,
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

static struct slice first_detail(const struct jv *detail)
{
    if (jv_is_string(detail))
        return jv_string(detail);
    /* FastAPI: a list of faults, each with the input that caused it, which is
     * why the rest is not quoted. */
    return jv_string(jv_find(jv_at(detail, 0), "msg"));
}

void fault_read(struct fault *fault, const struct jv *document)
{
    const struct jv *error = jv_find(document, "error");
    const struct jv *object =
        error && error->type == JV_OBJECT ? error : document;
    const struct jv *code = jv_find(object, "code");

    fault->message =
        jv_string(jv_is_string(error) ? error : jv_find(object, "message"));
    if (fault->message.size == 0)
        fault->message = first_detail(jv_find(document, "detail"));
    fault->code = jv_string(code);
    fault->type = jv_string(jv_find(object, "type"));
    fault->number = jv_integer(code, 0);
}
