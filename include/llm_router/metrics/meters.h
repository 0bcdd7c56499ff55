/* What is counted of requests and of provider calls, with labels.
 *
 * A request is what a caller asks, a call is one question put to a provider:
 * a request makes none, one or several. Metric names follow OpenTelemetry's
 * GenAI conventions where those have one.
 *
 * Models are named by callers, too: from METERS_MAX combinations of labels on,
 * METERS_TIMERS_MAX where each has histograms, new ones are counted under the
 * model "other". Providers are to be those of the configuration. */
#ifndef LLM_ROUTER_METRICS_METERS_H
#define LLM_ROUTER_METRICS_METERS_H

#include "llm_router/base/error.h"
#include "llm_router/core/request.h"
#include "llm_router/core/usage.h"
#include "llm_router/metrics/histogram.h"

enum {
    METERS_MAX = 1000,
    METERS_TIMERS_MAX = 150, /* 2 MB of text, 10 ms to write it */
};

struct meters;

/* `seed` of the maps. */
struct meters *meters_new(uint64_t seed);
void meters_free(struct meters *meters);

/* A request has ended. */
struct request_meter {
    enum operation operation; /* OPERATION_COUNT: none that is known */
    const char *outcome;      /* "ok", "cached", "shared" or an error's atom */
    struct slice provider, model; /* empty: none was chosen */
    double duration_s;            /* all of it; NAN: not measured, nor is: */
    double waiting_s;             /* for a slot, for limits, before a retry */
    double overhead_s; /* the router's own share: neither that nor providers
                          nor a script */
};
void meters_request(struct meters *meters, const struct request_meter *request);

/* A provider call has ended. */
struct call_meter {
    enum operation operation;
    struct slice provider, model;
    enum error_code error; /* ERR_NONE: answered */
    double duration_s;
    double first_token_s; /* NAN: none came, or the call failed */
    const struct usage *usage;
    double cost_usd; /* NAN: unknown */
};
void meters_call(struct meters *meters, const struct call_meter *call);

/* All of it in Prometheus' text format. */
void meters_put(const struct meters *meters, struct buf *out);

/* For the status page: by model, in the order of their first call. */
struct model_meter_view {
    struct slice provider, model;
    uint64_t calls, failed;           /* without those that were cancelled */
    const struct histogram *duration; /* of those that were answered */
    double input_tokens, output_tokens;
    double cost_usd; /* NAN: of no call it is known */
};
void meters_each_model(const struct meters *meters,
                       void (*visit)(void *context,
                                     const struct model_meter_view *view),
                       void *context);

#endif
