/* arena, buf, map: memory with one owner. */
#include "tests/unit.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "llm_router/base/arena.h"
#include "llm_router/base/buf.h"
#include "llm_router/base/map.h"
#include "llm_router/base/mem.h"

static void arena_memory_is_aligned_and_zeroed(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena, 64);
    for (size_t i = 1; i < 200; i++) {
        unsigned char *memory;

        arena_bytes(&arena, 1);
        memory = arena_alloc(&arena, i);
        assert_int_equal((uintptr_t)memory % alignof(max_align_t), 0);
        for (size_t k = 0; k < i; k++)
            assert_int_equal(memory[k], 0);
        memset(memory, 0xAA, i);
    }
    arena_release(&arena);
    assert_int_equal(arena.reserved, 0);
}

static void rewinding_gives_back_all_that_came_after_the_mark(void **state)
{
    struct arena arena;
    struct arena_mark mark;
    size_t reserved;
    struct slice kept;

    (void)state;
    arena_init(&arena, 128);
    kept = arena_printf(&arena, "%d and %s", 42, "more");
    mark = arena_mark(&arena);
    reserved = arena.reserved;
    for (int i = 0; i < 100; i++)
        arena_alloc(&arena, 1000);
    arena_rewind(&arena, mark);
    assert_int_equal(arena.reserved, reserved);
    assert_slice(kept, "42 and more");
    assert_string_equal(arena_text(&arena, kept), "42 and more");
    arena_release(&arena);
}

/* The second text fits into what the first left, ends with the block, or does
 * not fit. */
static void
formatted_text_is_whole_whether_its_block_had_room_or_not(void **state)
{
    (void)state;
    for (int size = 0; size < 64; size++) {
        struct arena arena;
        struct slice first, second, third;

        arena_init(&arena, 32);
        first = arena_printf(&arena, "%010d", size);
        second = arena_printf(&arena, "%0*d", size, 7);
        third = arena_printf(&arena, "%s", "behind");
        assert_int_equal(second.size, size > 0 ? size : 1);
        assert_int_equal(second.data[second.size - 1], '7');
        assert_int_equal(strlen(second.data), second.size);
        assert_int_equal(strspn(second.data, "0"), second.size - 1);
        assert_int_equal(strtol(first.data, NULL, 10), size);
        assert_string_equal(third.data, "behind");
        arena_release(&arena);
    }
}

static void a_buffer_fails_for_good_at_its_maximum(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, 300);
    for (int i = 0; i < 30; i++)
        buf_append(&buf, "0123456789", 10);
    assert_false(buf.failed);
    assert_int_equal(buf.size, 300);
    buf_append_byte(&buf, 'x');
    assert_true(buf.failed);
    assert_int_equal(buf.size, 300);
    assert_false(buf_reserve(&buf, 0));
    buf_clear(&buf);
    buf_printf(&buf, "%d", 12345);
    assert_slice(buf_slice(&buf), "12345");
    buf_drop_front(&buf, 2);
    assert_slice(buf_slice(&buf), "345");
    buf_shrink(&buf, 0);
    assert_int_equal(buf.capacity, 0);
    buf_release(&buf);
}

static void a_huge_reservation_does_not_wrap(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, SIZE_MAX);
    buf_append_text(&buf, "abc");
    assert_false(buf_reserve(&buf, SIZE_MAX - 2));
    buf_release(&buf);
}

static void count_visit(void *value, void *context)
{
    (void)value;
    ++*(int *)context;
}

static void a_map_finds_what_was_put_and_forgets_what_was_removed(void **state)
{
    enum { COUNT = 5000 };
    static int values[COUNT];
    struct map map;
    int visits = 0;

    (void)state;
    map_init(&map, 12345);
    assert_null(map_find(&map, slice_of("x")));
    assert_null(map_remove(&map, slice_of("x")));
    for (int i = 0; i < COUNT; i++)
        assert_null(map_put(&map, MAP_KEY(i), &values[i]));
    for (int i = 0; i < COUNT; i += 2)
        assert_ptr_equal(map_remove(&map, MAP_KEY(i)), &values[i]);
    for (int i = 0; i < COUNT; i++)
        assert_ptr_equal(map_find(&map, MAP_KEY(i)), i % 2 ? &values[i] : NULL);
    map_each(&map, count_visit, &visits);
    assert_int_equal(visits, COUNT / 2);
    assert_ptr_equal(map_put(&map, MAP_KEY(values[0]), &values[0]), NULL);
    assert_ptr_equal(map_put(&map, MAP_KEY(values[0]), &values[1]), &values[0]);
    map_release(&map);
}

static void an_arena_grows_by_half_of_what_it_has(void **state)
{
    struct arena arena;
    size_t used = 0, before = 0;

    (void)state;
    arena_init(&arena, 4096);
    while (used < 1000 * 1000) {
        arena_bytes(&arena, 16);
        used += 16;
        if (before > 0 && arena.reserved > before) {
            size_t half = before < 128 * 1024 ? before / 2 : 64 * 1024;

            assert_in_range(arena.reserved - before, half, half + 64);
        }
        before = arena.reserved;
    }
    arena_release(&arena);
}

static void a_large_buffer_is_kept_where_it_is(void **state)
{
    struct arena arena;
    struct buf buf;
    const char *data;

    (void)state;
    arena_init(&arena, 0);
    buf_init(&buf, 2 * ARENA_KEEPS);
    buf_reserve(&buf, ARENA_KEEPS);
    memset(buf.data, 'x', ARENA_KEEPS);
    buf.size = ARENA_KEEPS;
    data = buf.data;
    assert_ptr_equal(arena_keep(&arena, &buf).data, data);
    assert_null(buf.data);
    assert_in_range(arena.reserved, ARENA_KEEPS, 2 * ARENA_KEEPS);
    arena_release(&arena);
    assert_int_equal(arena.reserved, 0);
}

static size_t resident_kib(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    size_t total, resident = 0;

    if (file && fscanf(file, "%zu %zu", &total, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE) / 1024;
}

static void what_lies_below_a_block_in_use_can_be_given_back(void **state)
{
    enum { BLOCKS = 4000, BLOCK = 8 * 1024 };
    static void *blocks[BLOCKS];
    size_t before, kept;
    void *above;

    (void)state;
#if defined(__SANITIZE_ADDRESS__) || !defined(__GLIBC__)
    skip(); /* another allocator */
#endif
    mem_trim();
    before = resident_kib();
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = mem_alloc_raw(BLOCK);
        memset(blocks[i], 'x', BLOCK);
    }
    above = mem_alloc(BLOCK);
    for (size_t i = 0; i < BLOCKS; i++)
        mem_free(blocks[i]);
    kept = resident_kib();
    assert_true(kept > before + 24 * 1024);
    mem_trim();
    assert_true(resident_kib() < before + 4 * 1024);
    mem_free(above);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_memory_is_aligned_and_zeroed),
        cmocka_unit_test(rewinding_gives_back_all_that_came_after_the_mark),
        cmocka_unit_test(an_arena_grows_by_half_of_what_it_has),
        cmocka_unit_test(a_large_buffer_is_kept_where_it_is),
        cmocka_unit_test(
            formatted_text_is_whole_whether_its_block_had_room_or_not),
        cmocka_unit_test(a_buffer_fails_for_good_at_its_maximum),
        cmocka_unit_test(a_huge_reservation_does_not_wrap),
        cmocka_unit_test(a_map_finds_what_was_put_and_forgets_what_was_removed),
        cmocka_unit_test(what_lies_below_a_block_in_use_can_be_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
