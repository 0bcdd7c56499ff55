/* A file of what was spent, however it was damaged: it is taken as a whole or
 * not at all, amounts stay finite and never fall, and what is written of them
 * is read back the same. */
#include <math.h>
#include <stdlib.h>

#include "llm_router/core/supply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 2026-11-22 12:00:00 UTC. */
static const struct supply_clock CLOCK = {1000, 1795348800};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static struct supply *open_supply(void)
{
    const struct budget_limits none = {NAN, NAN};
    const struct key_limits limits = {.budget = none};
    struct supply *supply = supply_new(1);

    supply_declare_begin(supply, &none);
    supply_declare_provider(supply, slice_of("p"), 0);
    supply_declare_key(supply, slice_of("p"), slice_of("a"), &limits);
    supply_declare_key(supply, slice_of("p"), slice_of("b"), &limits);
    supply_declare_end(supply);
    return supply;
}

/* The sum of all amounts of keys. */
static void add_view(void *context, const struct supply_key_view *view)
{
    require(view->day_usd >= 0 && view->month_usd >= 0);
    *(double *)context += view->day_usd + view->month_usd;
}

static double spent(const struct supply *supply)
{
    double sum = 0;

    supply_each_key(supply, &CLOCK, add_view, &sum);
    return sum;
}

static void require_same_again(const struct supply *supply)
{
    struct supply *copy = open_supply();
    struct buf first, second;
    struct error err;

    buf_init(&first, 4096);
    buf_init(&second, 4096);
    supply_put_spending(supply, &first);
    require(!first.failed);
    require(supply_read_spending(copy, buf_slice(&first), &CLOCK, &err));
    supply_put_spending(copy, &second);
    require(slice_equal(buf_slice(&first), buf_slice(&second)));
    buf_release(&first);
    buf_release(&second);
    supply_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct supply *supply = open_supply();
    struct error err;

    if (supply_read_spending(supply, slice_make(data, size), &CLOCK, &err)) {
        require(isfinite(spent(supply)));
        require_same_again(supply);
    } else {
        require(err.code == ERR_INVALID_REQUEST && err.message[0] != '\0');
        require(spent(supply) == 0);
    }
    supply_free(supply);
    return 0;
}
