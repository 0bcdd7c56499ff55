#include "task_internal.h"

/* Depth-first, without recursion: a model decides how deep it goes. */
struct search {
    const struct graph *graph;
    size_t *path; /* the nodes from the root to here */
    size_t depth;
    size_t *next; /* for each node: its edge to follow next */

    size_t *entered; /* for each node: its number in order of discovery, or 0 */
    size_t *lowest;  /* the lowest such number it leads back to */
    size_t *pending; /* nodes whose component is not known yet */
    size_t pending_count;
    size_t entered_count;
    size_t *component; /* for each node: a number from 1 */
    size_t components;
};

static void enter(struct search *s, size_t node)
{
    s->path[s->depth++] = node;
    s->next[node] = s->graph->first[node];
}

/* The edge to follow from `node`, or the end of its edges. Those that lead out
 * of the graph are passed over. */
static size_t next_edge(struct search *s, size_t node)
{
    size_t end = s->graph->first[node + 1];

    while (s->next[node] < end &&
           s->graph->to[s->next[node]] >= s->graph->count)
        s->next[node]++;
    return s->next[node] < end ? s->next[node]++ : end;
}

static void discover(struct search *s, size_t node)
{
    enter(s, node);
    s->entered[node] = s->lowest[node] = ++s->entered_count;
    s->pending[s->pending_count++] = node;
}

static void lower(struct search *s, size_t node, size_t number)
{
    if (s->lowest[node] > number)
        s->lowest[node] = number;
}

/* Back from `node`: if nothing before it is reached from it, the nodes found
 * since then are a component. */
static void leave(struct search *s, size_t node)
{
    size_t member;

    s->depth--;
    if (s->depth > 0)
        lower(s, s->path[s->depth - 1], s->lowest[node]);
    if (s->lowest[node] < s->entered[node])
        return;
    s->components++;
    do {
        member = s->pending[--s->pending_count];
        s->component[member] = s->components;
    } while (member != node);
}

/* Tarjan's strongly connected components: nodes of one are on cycles. */
static void find_components(struct search *s, size_t root)
{
    discover(s, root);
    while (s->depth > 0) {
        size_t node = s->path[s->depth - 1];
        size_t edge = next_edge(s, node);
        size_t target;

        if (edge == s->graph->first[node + 1]) {
            leave(s, node);
            continue;
        }
        target = s->graph->to[edge];
        if (s->entered[target] == 0)
            discover(s, target);
        else if (s->component[target] == 0)
            lower(s, node, s->entered[target]);
    }
}

enum mark { MARK_NEW, MARK_ON_PATH, MARK_DONE };

/* Inside the root's component: each edge back to the path closes a cycle of
 * edges that stay. */
static void drop_back_edges(struct search *s, size_t root, enum mark *marks,
                            bool *dropped)
{
    enter(s, root);
    marks[root] = MARK_ON_PATH;
    while (s->depth > 0) {
        size_t node = s->path[s->depth - 1];
        size_t edge = next_edge(s, node);
        size_t target;

        if (edge == s->graph->first[node + 1]) {
            marks[node] = MARK_DONE;
            s->depth--;
            continue;
        }
        target = s->graph->to[edge];
        if (s->component[target] != s->component[node])
            continue;
        if (marks[target] == MARK_ON_PATH) {
            dropped[edge] = true;
        } else if (marks[target] == MARK_NEW) {
            marks[target] = MARK_ON_PATH;
            enter(s, target);
        }
    }
}

void graph_break_cycles(struct arena *arena, struct graph *graph)
{
    size_t count = graph->count;
    enum mark *marks = arena_array(arena, count, sizeof(*marks));
    struct search s = {
        .graph = graph,
        .path = arena_array(arena, count, sizeof(size_t)),
        .next = arena_array(arena, count, sizeof(size_t)),
        .entered = arena_array(arena, count, sizeof(size_t)),
        .lowest = arena_array(arena, count, sizeof(size_t)),
        .pending = arena_array(arena, count, sizeof(size_t)),
        .component = arena_array(arena, count, sizeof(size_t)),
    };

    for (size_t i = 0; i < count; i++)
        if (s.entered[i] == 0)
            find_components(&s, i);
    /* From the last node, so that the edges that are dropped lead to it from
     * earlier ones. */
    for (size_t i = count; i-- > 0;)
        if (marks[i] == MARK_NEW)
            drop_back_edges(&s, i, marks, graph->dropped);
}

/* The smallest node first. */
struct heap {
    size_t *nodes;
    size_t count;
};

static void swap(size_t *a, size_t *b)
{
    size_t kept = *a;

    *a = *b;
    *b = kept;
}

static void heap_push(struct heap *heap, size_t node)
{
    size_t at = heap->count++;

    heap->nodes[at] = node;
    for (; at > 0 && heap->nodes[(at - 1) / 2] > heap->nodes[at];
         at = (at - 1) / 2)
        swap(&heap->nodes[(at - 1) / 2], &heap->nodes[at]);
}

static size_t heap_pop(struct heap *heap)
{
    size_t top = heap->nodes[0];
    size_t at = 0;

    heap->nodes[0] = heap->nodes[--heap->count];
    for (;;) {
        size_t least = at;

        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < heap->count && heap->nodes[child] < heap->nodes[least])
                least = child;
        if (least == at)
            return top;
        swap(&heap->nodes[least], &heap->nodes[at]);
        at = least;
    }
}

static bool is_live(const struct graph *graph, size_t edge)
{
    return !graph->dropped[edge] && graph->to[edge] < graph->count;
}

/* The same edges the other way round; `needs` counts them for each node. */
static struct graph reversed(struct arena *arena, const struct graph *graph,
                             size_t *needs)
{
    size_t count = graph->count;
    struct graph out = {
        .count = count,
        .first = arena_array(arena, count + 2, sizeof(size_t)),
        .to = arena_array(arena, graph->first[count], sizeof(size_t)),
    };

    /* first[i + 2] counts, then first[i + 1] is where node i's edges go on. */
    for (size_t edge = 0; edge < graph->first[count]; edge++)
        if (is_live(graph, edge))
            out.first[graph->to[edge] + 2]++;
    for (size_t i = 2; i <= count + 1; i++)
        out.first[i] += out.first[i - 1];
    for (size_t i = 0; i < count; i++)
        for (size_t edge = graph->first[i]; edge < graph->first[i + 1]; edge++)
            if (is_live(graph, edge)) {
                out.to[out.first[graph->to[edge] + 1]++] = i;
                needs[i]++;
            }
    return out;
}

void graph_sort(struct arena *arena, const struct graph *graph, size_t *order)
{
    size_t count = graph->count;
    size_t *needs = arena_array(arena, count, sizeof(*needs));
    struct graph out = reversed(arena, graph, needs);
    struct heap heap = {.nodes = arena_array(arena, count, sizeof(size_t))};

    for (size_t i = 0; i < count; i++)
        if (needs[i] == 0)
            heap_push(&heap, i);
    for (size_t done = 0; heap.count > 0; done++) {
        size_t node = heap_pop(&heap);

        order[done] = node;
        for (size_t edge = out.first[node]; edge < out.first[node + 1]; edge++)
            if (--needs[out.to[edge]] == 0)
                heap_push(&heap, out.to[edge]);
    }
}
