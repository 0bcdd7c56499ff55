/* Whatever term_check lets pass, ei skips: just the same bytes. */
#include "llm_router/term/check.h"

#include <ei.h>
#include <stdlib.h>

#include "llm_router/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* ei gets a block that ends where the term does. */
static void require_ei_agrees(struct slice term)
{
    char *copy = mem_realloc(NULL, term.size);
    int index = 0;

    memcpy(copy, term.data, term.size);
    require(ei_skip_term(copy, &index) == 0);
    require((size_t)index == term.size);
    mem_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct term_limits LIMITS = {1 << 20, 1024};
    struct slice bytes = slice_make(data, size);
    struct error err = {.code = ERR_NONE};
    size_t used = 0;

    if (!term_check_first(bytes, &LIMITS, &used, &err)) {
        require(err.code == ERR_INVALID_REQUEST || err.code == ERR_TOO_LARGE);
        require(!term_check(bytes, &LIMITS, &err));
        return 0;
    }
    require(used >= 1 && used <= size);
    require(term_check(bytes, &LIMITS, &err) == (used == size));
    require(term_check(slice_make(data, used), &LIMITS, &err));
    require(!term_check(slice_make(data, used - 1), &LIMITS, &err));
    require_ei_agrees(slice_make(data, used));
    return 0;
}
