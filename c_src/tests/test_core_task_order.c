#include "core/task_internal.h"

#include <stdlib.h>

#include "unit.h"

/* Small enough to try every order, many enough to meet every kind of knot. */
enum { NODES_MAX = 6, ROUNDS = 3000 };

static struct arena arena;

/* An adjacency matrix: [a][b] says that a needs b. */
struct matrix {
    size_t count;
    bool needs[NODES_MAX][NODES_MAX];
};

static struct graph graph_of(const struct matrix *matrix)
{
    size_t count = matrix->count;
    struct graph graph = {
        .count = count,
        .first = arena_array(&arena, count + 1, sizeof(size_t)),
        .to = arena_array(&arena, count * (count + 1), sizeof(size_t)),
        .dropped = arena_array(&arena, count * (count + 1), sizeof(bool)),
    };
    size_t edges = 0;

    for (size_t a = 0; a < count; a++) {
        for (size_t b = 0; b < count; b++)
            if (matrix->needs[a][b])
                graph.to[edges++] = b;
        graph.to[edges++] = count + a; /* one that leads outside */
        graph.first[a + 1] = edges;
    }
    return graph;
}

static struct matrix matrix_of(const struct graph *graph)
{
    struct matrix matrix = {.count = graph->count};

    for (size_t a = 0; a < graph->count; a++)
        for (size_t e = graph->first[a]; e < graph->first[a + 1]; e++)
            if (!graph->dropped[e] && graph->to[e] < graph->count)
                matrix.needs[a][graph->to[e]] = true;
    return matrix;
}

/* Warshall: is there a way from a node to itself? */
static bool has_cycle(struct matrix matrix)
{
    for (size_t via = 0; via < matrix.count; via++)
        for (size_t a = 0; a < matrix.count; a++)
            for (size_t b = 0; b < matrix.count; b++)
                matrix.needs[a][b] |=
                    matrix.needs[a][via] && matrix.needs[via][b];
    for (size_t a = 0; a < matrix.count; a++)
        if (matrix.needs[a][a])
            return true;
    return false;
}

static struct matrix random_matrix(unsigned density)
{
    struct matrix matrix = {.count = 1 + (size_t)rand() % NODES_MAX};

    for (size_t a = 0; a < matrix.count; a++)
        for (size_t b = 0; b < matrix.count; b++)
            matrix.needs[a][b] = a != b && (unsigned)rand() % 10 < density;
    return matrix;
}

static void no_cycle_stays_and_no_edge_goes_in_vain(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct matrix before = random_matrix(1 + round % 9);
        struct graph graph = graph_of(&before);
        struct matrix after;

        graph_break_cycles(&arena, &graph);
        after = matrix_of(&graph);
        assert_false(has_cycle(after));
        for (size_t a = 0; a < before.count; a++)
            for (size_t b = 0; b < before.count; b++) {
                struct matrix with = after;

                with.needs[a][b] = before.needs[a][b];
                assert_true(before.needs[a][b] || !after.needs[a][b]);
                assert_true(before.needs[a][b] == after.needs[a][b] ||
                            has_cycle(with));
            }
        arena_release(&arena);
    }
}

/* Of two nodes that need each other the later one keeps its edge. */
static void a_pair_loses_the_edge_to_the_later_one(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct matrix before = random_matrix(3), after;
        struct graph graph;
        size_t low = (size_t)rand() % before.count;
        size_t high = (size_t)rand() % before.count;

        /* Only edges to earlier nodes, but for one. */
        for (size_t a = 0; a < before.count; a++)
            for (size_t b = a; b < before.count; b++)
                before.needs[a][b] = false;
        if (low >= high)
            continue;
        before.needs[high][low] = before.needs[low][high] = true;
        for (size_t via = low + 1; via < high; via++)
            before.needs[high][via] = false;
        graph = graph_of(&before);
        graph_break_cycles(&arena, &graph);
        after = matrix_of(&graph);
        assert_true(after.needs[high][low]);
        assert_false(after.needs[low][high]);
        arena_release(&arena);
    }
}

/* The next node by definition: the first whose needs are all placed. */
static void each_node_comes_as_early_as_it_can(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct matrix matrix = random_matrix(1 + round % 9);
        struct graph graph = graph_of(&matrix);
        size_t order[NODES_MAX];
        bool placed[NODES_MAX] = {false};

        graph_break_cycles(&arena, &graph);
        matrix = matrix_of(&graph);
        graph_sort(&arena, &graph, order);
        for (size_t i = 0; i < matrix.count; i++) {
            size_t next = 0;

            for (;; next++) {
                bool ready = !placed[next];

                for (size_t b = 0; b < matrix.count; b++)
                    ready = ready && (!matrix.needs[next][b] || placed[b]);
                if (ready)
                    break;
            }
            placed[next] = true;
            assert_int_equal(order[i], next);
        }
        arena_release(&arena);
    }
}

static void a_long_chain_needs_no_stack(void **state)
{
    enum { LONG = 200000 };
    struct graph graph = {
        .count = LONG,
        .first = arena_array(&arena, LONG + 1, sizeof(size_t)),
        .to = arena_array(&arena, LONG, sizeof(size_t)),
        .dropped = arena_array(&arena, LONG, sizeof(bool)),
    };
    size_t *order = arena_array(&arena, LONG, sizeof(size_t));
    size_t dropped = 0;

    (void)state;
    for (size_t i = 0; i < LONG; i++) {
        graph.first[i + 1] = i + 1;
        graph.to[i] = (i + 1) % LONG;
    }
    graph_break_cycles(&arena, &graph);
    for (size_t i = 0; i < LONG; i++)
        dropped += graph.dropped[i];
    assert_int_equal(dropped, 1);
    graph_sort(&arena, &graph, order);
    for (size_t i = 1; i < LONG; i++)
        assert_int_equal(graph.to[order[i]], order[i - 1]);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_cycle_stays_and_no_edge_goes_in_vain),
        cmocka_unit_test(a_pair_loses_the_edge_to_the_later_one),
        cmocka_unit_test(each_node_comes_as_early_as_it_can),
        cmocka_unit_test(a_long_chain_needs_no_stack),
    };

    arena_init(&arena, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
