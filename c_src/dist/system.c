/* Functions that tools call on any node: erlang:node/0, process_info, ...
 *
 * What is not here is undef at the caller, as on a node without that module. */
#include "dist/node_internal.h"

#include "llm_router/term/writer.h"

static bool first_argument(struct term arguments, struct term *argument)
{
    struct term_list list;

    return term_list(arguments, &list) && term_list_next(&list, argument);
}

/* The number of the pid of ours that is the first argument. */
static bool own_pid(const struct node *node, struct term arguments,
                    uint64_t *number)
{
    struct term pid;
    struct pid parts;

    if (!first_argument(arguments, &pid) || !pid_read(pid, &parts) ||
        !slice_equal(parts.node, node->self.name))
        return false;
    *number = pid_number(&node->self, pid);
    return true;
}

static bool is_alive(const struct node *node, uint64_t number)
{
    return is_service(number) || number == NODE_NUMBER ||
           rpc_find_call(node, number);
}

static bool is_process_alive(struct node *node, struct term arguments,
                             struct buf *out)
{
    uint64_t number;

    if (!own_pid(node, arguments, &number))
        return false;
    term_put_boolean(out, is_alive(node, number));
    return true;
}

static bool own_node(struct node *node, struct term arguments, struct buf *out)
{
    (void)arguments;
    term_put_atom_slice(out, node->self.name);
    return true;
}

static bool resolve_it(struct node *node, struct term arguments,
                       struct buf *out)
{
    global_resolve(node, arguments, out);
    return true;
}

/* --- names --- */

static bool is_registered(const struct node *node, struct slice name)
{
    for (size_t i = 0; i < node->options.name_count; i++)
        if (slice_is(name, node->options.names[i]))
            return true;
    return false;
}

static bool whereis(struct node *node, struct term arguments, struct buf *out,
                    const char *nobody)
{
    struct term argument;
    struct slice name;

    if (!first_argument(arguments, &argument) || !term_atom(argument, &name))
        return false;
    if (is_registered(node, name))
        term_put_raw(out, buf_slice(&node->service_pid));
    else
        term_put_atom(out, nobody);
    return true;
}

static bool erlang_whereis(struct node *node, struct term arguments,
                           struct buf *out)
{
    return whereis(node, arguments, out, "undefined");
}

static bool elixir_whereis(struct node *node, struct term arguments,
                           struct buf *out)
{
    return whereis(node, arguments, out, "nil");
}

static bool registered(struct node *node, struct term arguments,
                       struct buf *out)
{
    (void)arguments;
    term_put_list(out, node->options.name_count);
    for (size_t i = 0; i < node->options.name_count; i++)
        term_put_atom(out, node->options.names[i]);
    term_put_nil(out);
    return true;
}

/* --- process_info --- */

static void put_loop(const struct node *node, struct buf *out)
{
    (void)node;
    term_put_tuple(out, 3);
    term_put_atom(out, "llm_router");
    term_put_atom(out, "loop");
    term_put_integer(out, 0);
}

static void put_name(const struct node *node, struct buf *out)
{
    term_put_atom(out, node->options.names[0]);
}

static void put_waiting(const struct node *node, struct buf *out)
{
    (void)node;
    term_put_atom(out, "waiting");
}

static void put_normal(const struct node *node, struct buf *out)
{
    (void)node;
    term_put_atom(out, "normal");
}

static void put_true(const struct node *node, struct buf *out)
{
    (void)node;
    term_put_boolean(out, true);
}

static void put_zero(const struct node *node, struct buf *out)
{
    (void)node;
    term_put_integer(out, 0);
}

static void put_none(const struct node *node, struct buf *out)
{
    (void)node;
    term_put_nil(out);
}

static void put_pid(const struct node *node, struct buf *out)
{
    term_put_raw(out, buf_slice(&node->service_pid));
}

/* Of the service: what there would be to say of a gen_server that waits. */
static const struct item {
    const char *name;
    void (*put)(const struct node *node, struct buf *out);
} items[] = {
    {"registered_name", put_name},
    {"current_function", put_loop},
    {"initial_call", put_loop},
    {"status", put_waiting},
    {"message_queue_len", put_zero},
    {"messages", put_none},
    {"links", put_none},
    {"dictionary", put_none},
    {"trap_exit", put_true},
    {"priority", put_normal},
    {"group_leader", put_pid},
    {"reductions", put_zero},
};

enum { ITEM_COUNT = sizeof(items) / sizeof(*items) };

static void put_item(const struct node *node, const struct item *item,
                     struct buf *out)
{
    term_put_tuple(out, 2);
    term_put_atom(out, item->name);
    item->put(node, out);
}

/* False: there is no such item, which is badarg. */
static bool put_named(const struct node *node, struct term name,
                      struct buf *out)
{
    struct slice atom;

    if (!term_atom(name, &atom))
        return false;
    for (size_t i = 0; i < ITEM_COUNT; i++)
        if (slice_is(atom, items[i].name)) {
            put_item(node, &items[i], out);
            return true;
        }
    return false;
}

static bool put_list(const struct node *node, struct term names,
                     struct buf *out)
{
    struct term_list list;
    struct term name;

    if (!term_list(names, &list) || !list.proper)
        return false;
    term_put_list(out, list.left);
    while (term_list_next(&list, &name))
        if (!put_named(node, name, out))
            return false;
    term_put_nil(out);
    return true;
}

/* All items, or those that the second argument names. */
static bool put_info(const struct node *node, struct term arguments,
                     struct buf *out)
{
    struct term_list list;
    struct term argument;

    if (!term_list(arguments, &list) || !term_list_next(&list, &argument))
        return false;
    if (term_list_next(&list, &argument))
        return put_named(node, argument, out) || put_list(node, argument, out);
    term_put_list(out, ITEM_COUNT);
    for (size_t i = 0; i < ITEM_COUNT; i++)
        put_item(node, &items[i], out);
    term_put_nil(out);
    return true;
}

static bool process_info(struct node *node, struct term arguments,
                         struct buf *out, const char *nobody)
{
    uint64_t number;

    if (!own_pid(node, arguments, &number))
        return false;
    if (is_service(number))
        return put_info(node, arguments, out);
    term_put_atom(out, nobody);
    return true;
}

static bool erlang_process_info(struct node *node, struct term arguments,
                                struct buf *out)
{
    return process_info(node, arguments, out, "undefined");
}

static bool elixir_process_info(struct node *node, struct term arguments,
                                struct buf *out)
{
    return process_info(node, arguments, out, "nil");
}

system_function *system_function_find(struct slice module, struct slice name,
                                      uint32_t arity)
{
    static const struct {
        const char *module, *name;
        uint32_t arity;
        system_function *function;
    } functions[] = {
        {"erlang", "is_process_alive", 1, is_process_alive},
        {"Elixir.Process", "alive?", 1, is_process_alive},
        {"erlang", "node", 0, own_node},
        {"erlang", "whereis", 1, erlang_whereis},
        {"Elixir.Process", "whereis", 1, elixir_whereis},
        {"erlang", "registered", 0, registered},
        {"erlang", "process_info", 1, erlang_process_info},
        {"erlang", "process_info", 2, erlang_process_info},
        {"Elixir.Process", "info", 1, elixir_process_info},
        {"Elixir.Process", "info", 2, elixir_process_info},
        {"global", "resolve_it", 4, resolve_it},
    };

    for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++)
        if (slice_is(module, functions[i].module) &&
            slice_is(name, functions[i].name) && arity == functions[i].arity)
            return functions[i].function;
    return NULL;
}
