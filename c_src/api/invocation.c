#include "api/decode_internal.h"

/* Keeps the arguments that there is room for. A term that lives only in the
 * iterator's scratch is moved into our own. */
static void keep_argument(struct invocation *invocation, uint32_t index,
                          struct term argument, bool in_scratch)
{
    if (index >= ARGUMENTS_MAX)
        return;
    if (in_scratch) {
        char *scratch = invocation->scratch[index];
        size_t size = sizeof(invocation->scratch[index]);

        memcpy(scratch, argument.at, size);
        argument = term_from_raw(slice_make(scratch, size));
    }
    invocation->arguments[index] = argument;
}

void invocation_of_term(struct invocation *invocation, struct term term)
{
    struct term element;
    uint32_t arity;

    invocation->count = 0;
    invocation->name = slice_of(NULL);
    if (term_atom(term, &invocation->name) ||
        !term_tuple(term, &arity, &element) || arity == 0 ||
        !term_atom(element, &invocation->name))
        return;
    invocation->count = arity - 1;
    for (uint32_t i = 0; i < invocation->count && i < ARGUMENTS_MAX; i++) {
        element = term_next(element);
        keep_argument(invocation, i, element, false);
    }
}

bool invocation_of_list(struct invocation *invocation, struct slice name,
                        struct term list)
{
    struct term_list elements;
    struct term element;

    if (!term_list(list, &elements) || !elements.proper)
        return false;
    invocation->name = name;
    invocation->count = elements.left;
    for (uint32_t i = 0;
         i < ARGUMENTS_MAX && term_list_next(&elements, &element); i++)
        keep_argument(invocation, i, element, elements.is_string);
    return true;
}
