/* Follows the cluster: connects to the nodes that visible peers see.
 *
 * Most nodes come by themselves, because `global` makes each of them monitor
 * the holder of our names. Those do not that never connect on their own
 * (dist_auto_connect), nor those that were cut off while a name was
 * registered: they would not know the name when they are back. One peer after
 * the other is asked for erlang:nodes(). */
#include "dist/node_internal.h"

#include "llm_router/term/writer.h"

enum {
    FIRST_MS = 1000, /* after the first peer came */
    ASK_MS = 5000,
    WANTED_MS = 60000, /* a node that nobody sees any more */
};

/* The visible peer that was not asked for longest. */
static struct peer *next_peer(struct node *node)
{
    LIST_EACH(link, &node->peer_list)
    {
        struct peer *peer = LIST_ENTRY(link, struct peer, link);

        if (peer->state != PEER_UP || !peer->visible)
            continue;
        list_remove(&peer->link);
        list_append(&node->peer_list, &peer->link);
        return peer;
    }
    return NULL;
}

static void on_due(void *context)
{
    struct node *node = context;
    struct peer *peer = next_peer(node);

    if (!peer)
        return;
    buf_clear(&node->scratch);
    term_put_nil(&node->scratch);
    node->cluster_reference =
        rpc_ask(peer, "erlang", "nodes", buf_slice(&node->scratch));
    loop_timer_start(node->loop, &node->cluster_timer, ASK_MS, on_due, node);
}

void cluster_peer_up(struct node *node)
{
    if (!loop_timer_running(&node->cluster_timer))
        loop_timer_start(node->loop, &node->cluster_timer, FIRST_MS, on_due,
                         node);
}

bool cluster_reply(struct node *node, uint64_t reference, struct term nodes)
{
    struct term_list list;
    struct term element;
    struct slice name;

    if (reference == 0 || reference != node->cluster_reference)
        return false;
    node->cluster_reference = 0;
    if (term_list(nodes, &list) && list.proper)
        while (term_list_next(&list, &element))
            if (term_atom(element, &name))
                node_want_peer(node, name, WANTED_MS);
    return true;
}
