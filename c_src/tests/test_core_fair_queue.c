#include "llm_router/core/fair_queue.h"

#include "unit.h"

enum { ENTRIES = 40 };

/* Entry i of an owner is entries[i]; tests name them by their index. */
struct bed {
    struct fair_queue queue;
    struct fair_entry entries[ENTRIES];
};

static void open_bed(struct bed *bed, size_t max)
{
    memset(bed, 0, sizeof(*bed));
    fair_queue_init(&bed->queue, max, 7);
}

static void close_bed(struct bed *bed)
{
    while (fair_queue_take(&bed->queue))
        continue;
    assert_int_equal(bed->queue.count, 0);
    assert_int_equal(bed->queue.owners.count, 0);
    fair_queue_release(&bed->queue);
}

/* The index of the entry that had to leave, -1: none had, -2: it is full. */
static int put(struct bed *bed, uint64_t owner, int entry)
{
    struct fair_entry *evicted;

    if (fair_queue_put(&bed->queue, owner, &bed->entries[entry], &evicted) ==
        FAIR_FULL) {
        assert_null(evicted);
        assert_null(bed->entries[entry].owner);
        return -2;
    }
    return evicted ? (int)(evicted - bed->entries) : -1;
}

/* -1: it is empty. */
static int take(struct bed *bed)
{
    struct fair_entry *entry = fair_queue_take(&bed->queue);

    if (!entry)
        return -1;
    assert_null(entry->owner);
    return (int)(entry - bed->entries);
}

static void an_owners_entries_come_out_in_order(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, 10);
    for (int i = 0; i < 3; i++)
        assert_int_equal(put(&bed, 1, i), -1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(take(&bed), i);
    assert_int_equal(take(&bed), -1);
    close_bed(&bed);
}

static void owners_take_turns_whatever_each_has_waiting(void **state)
{
    static const int order[] = {0, 10, 20, 1, 11, 2, 3};
    struct bed bed;

    (void)state;
    open_bed(&bed, 10);
    for (int i = 0; i < 4; i++)
        put(&bed, 1, i);
    put(&bed, 2, 10);
    put(&bed, 2, 11);
    put(&bed, 3, 20);
    for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++)
        assert_int_equal(take(&bed), order[i]);
    close_bed(&bed);
}

static void a_flood_does_not_keep_another_owner_waiting(void **state)
{
    struct bed bed;
    int next = 20;

    (void)state;
    open_bed(&bed, 8);
    for (int i = 0; i < 8; i++)
        assert_int_equal(put(&bed, 1, i), -1);
    assert_int_equal(put(&bed, 1, 8), -2);
    /* The newest ones of the flood leave, up to an even share. */
    for (int left = 7; left >= 4; left--)
        assert_int_equal(put(&bed, 2, next++), left);
    assert_int_equal(put(&bed, 2, next), -2);
    assert_int_equal(put(&bed, 1, 9), -2);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(take(&bed), i);
        assert_int_equal(take(&bed), 20 + i);
    }
    close_bed(&bed);
}

static void a_small_owner_waits_for_one_entry_of_a_flood_at_most(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, 8);
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 30; i++)
            if (!bed.entries[i].owner)
                put(&bed, 1, i);
        assert_int_equal(bed.queue.count, 8);
        assert_int_not_equal(put(&bed, 2, 39), -2);
        if (take(&bed) != 39)
            assert_int_equal(take(&bed), 39);
    }
    close_bed(&bed);
}

static void more_owners_than_places_share_what_there_is(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, 2);
    assert_int_equal(put(&bed, 1, 1), -1);
    assert_int_equal(put(&bed, 2, 2), -1);
    assert_int_equal(put(&bed, 3, 3), -2);
    assert_int_equal(take(&bed), 1);
    assert_int_equal(put(&bed, 3, 3), -1);
    close_bed(&bed);
    open_bed(&bed, 0);
    assert_int_equal(put(&bed, 1, 1), -2);
    close_bed(&bed);
}

static void room_is_made_by_who_has_most(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, 8);
    put(&bed, 1, 0);
    for (int i = 10; i < 15; i++)
        put(&bed, 2, i);
    put(&bed, 3, 20);
    put(&bed, 3, 21);
    assert_int_equal(put(&bed, 4, 30), 14);
    assert_int_equal(put(&bed, 1, 1), 13);
    assert_int_equal(put(&bed, 1, 2), -2);
    close_bed(&bed);
}

static void an_entry_can_be_removed_wherever_it_is(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, 10);
    for (int i = 0; i < 3; i++)
        put(&bed, 1, i);
    put(&bed, 2, 10);
    fair_queue_remove(&bed.queue, &bed.entries[1]);
    fair_queue_remove(&bed.queue, &bed.entries[1]);
    fair_queue_remove(&bed.queue, &bed.entries[10]);
    assert_int_equal(bed.queue.count, 2);
    assert_int_equal(take(&bed), 0);
    assert_int_equal(take(&bed), 2);
    assert_int_equal(take(&bed), -1);
    close_bed(&bed);
}

static void what_is_put_back_is_first_at_its_owners_next_turn(void **state)
{
    struct bed bed;

    (void)state;
    open_bed(&bed, 4);
    put(&bed, 1, 0);
    put(&bed, 1, 1);
    put(&bed, 2, 10);
    put(&bed, 3, 20);
    assert_int_equal(take(&bed), 0);
    fair_queue_put_back(&bed.queue, 1, &bed.entries[0]);
    assert_int_equal(take(&bed), 10);
    fair_queue_put_back(&bed.queue, 2, &bed.entries[10]);
    assert_int_equal(take(&bed), 20);
    assert_int_equal(take(&bed), 0);
    assert_int_equal(take(&bed), 10);
    assert_int_equal(take(&bed), 1);
    assert_int_equal(take(&bed), -1);
    close_bed(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_owners_entries_come_out_in_order),
        cmocka_unit_test(owners_take_turns_whatever_each_has_waiting),
        cmocka_unit_test(a_flood_does_not_keep_another_owner_waiting),
        cmocka_unit_test(a_small_owner_waits_for_one_entry_of_a_flood_at_most),
        cmocka_unit_test(more_owners_than_places_share_what_there_is),
        cmocka_unit_test(room_is_made_by_who_has_most),
        cmocka_unit_test(an_entry_can_be_removed_wherever_it_is),
        cmocka_unit_test(what_is_put_back_is_first_at_its_owners_next_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
