/* What a validation does many times over: finding a value among those of an
 * enum, a key among properties or required names, elements that are the same.
 * The first look into a long list makes a hash table of it. */
#include "schema_internal.h"

#include "llm_router/base/mem.h"

enum {
    FEW = 8,         /* up to here looking at each is cheaper */
    VALUE_COST = 10, /* to hash or to compare a value */
    ROOM_COST = 40,  /* of an element in a table that is made for once */
    BYTES_A_STEP = 16,
};

/* A key with the value behind it, or a value alone: `key` is NULL. */
struct entry {
    uint64_t hash;
    const struct slice *key;
    const struct jv *value; /* NULL: the slot is free */
};

/* At most half full, each entry once. */
struct table {
    struct entry *slots;
    size_t mask;
    size_t count;
};

void schema_work_init(struct schema_work *work, const struct jv *root)
{
    *work = (struct schema_work){.root = root, .fuel = SCHEMA_FUEL};
    map_init(&work->tables, 0);
}

static void free_table(void *value, void *context)
{
    struct table *table = value;

    (void)context;
    mem_free(table->slots);
    mem_free(table);
}

void schema_work_release(struct schema_work *work)
{
    map_each(&work->tables, free_table, NULL);
    map_release(&work->tables);
}

bool schema_spend(struct schema_work *work, size_t fuel)
{
    if (work->exhausted || fuel > work->fuel) {
        work->exhausted = true;
        return false;
    }
    work->fuel -= fuel;
    return true;
}

/* Equal values have equal hashes: the members of an object are summed, as
 * they have no order, and numbers hashed as doubles, as 1 equals 1.0. */
static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 32;
}

static uint64_t hash_text(struct slice text)
{
    uint64_t hash = text.size, word = 0;

    for (; text.size >= sizeof(word); text.size -= sizeof(word)) {
        memcpy(&word, text.data, sizeof(word));
        text.data += sizeof(word);
        hash = mix(hash, word);
    }
    word = 0;
    if (text.size > 0)
        memcpy(&word, text.data, text.size);
    return mix(hash, word);
}

static uint64_t hash_number(double number)
{
    uint64_t word;

    number += 0.0; /* -0.0 becomes 0.0 */
    memcpy(&word, &number, sizeof(word));
    return mix(JV_REAL, word);
}

static size_t cost_of(const struct jv *value)
{
    return VALUE_COST + jv_string(value).size / BYTES_A_STEP;
}

static uint64_t hash_value(struct schema_work *work, const struct jv *value)
{
    uint64_t sum = mix(value->type, 0);

    if (!schema_spend(work, cost_of(value)))
        return 0;
    switch (value->type) {
    case JV_NULL:
        break;
    case JV_BOOLEAN:
        sum += value->as.boolean;
        break;
    case JV_INTEGER:
    case JV_REAL:
        return hash_number(jv_number(value, 0));
    case JV_STRING:
        return hash_text(value->as.string);
    case JV_ARRAY:
        for (size_t i = 0; i < value->as.array.count; i++)
            sum = mix(sum, hash_value(work, &value->as.array.items[i]));
        break;
    case JV_OBJECT:
        for (size_t i = 0; i < value->as.object.count; i++) {
            const struct jv_member *member = &value->as.object.members[i];

            sum +=
                mix(hash_text(member->key), hash_value(work, &member->value));
        }
        break;
    }
    return sum;
}

/* What comparing a value may take: members are sorted for it. */
static bool spend_on(struct schema_work *work, const struct jv *value)
{
    size_t count = jv_count(value);

    if (!schema_spend(work, cost_of(value)))
        return false;
    if (value->type == JV_ARRAY)
        for (size_t i = 0; i < count; i++)
            if (!spend_on(work, &value->as.array.items[i]))
                return false;
    if (value->type == JV_OBJECT)
        for (size_t i = 0; i < count; i++)
            if (!schema_spend(work, 8 * VALUE_COST) ||
                !spend_on(work, &value->as.object.members[i].value))
                return false;
    return true;
}

bool schema_equal(struct schema_work *work, const struct jv *a,
                  const struct jv *b)
{
    return jv_count(a) == jv_count(b) && spend_on(work, a) && jv_equal(a, b);
}

static bool same(struct schema_work *work, const struct entry *a,
                 const struct entry *b)
{
    if (a->hash != b->hash)
        return false;
    return a->key ? slice_equal(*a->key, *b->key)
                  : schema_equal(work, a->value, b->value);
}

/* Where the entry is, or the free slot where it would be. */
static struct entry *find(struct schema_work *work, const struct table *table,
                          const struct entry *entry)
{
    size_t at = entry->hash & table->mask;

    while (table->slots[at].value && schema_spend(work, 1) &&
           !same(work, &table->slots[at], entry))
        at = (at + 1) & table->mask;
    return &table->slots[at];
}

static void table_init(struct table *table, size_t most)
{
    size_t slots = 2 * FEW;

    while (slots < 2 * most)
        slots *= 2;
    *table = (struct table){.mask = slots - 1};
    table->slots = mem_alloc(slots * sizeof(*table->slots));
}

/* False: it was there. */
static bool add(struct schema_work *work, struct table *table,
                const struct entry *entry)
{
    struct entry *slot = find(work, table, entry);

    if (slot->value)
        return false;
    *slot = *entry;
    table->count++;
    return true;
}

static struct entry entry_at(struct schema_work *work, const struct jv *list,
                             size_t index)
{
    const struct jv_member *member;
    const struct jv *value;

    if (list->type == JV_OBJECT) {
        member = &list->as.object.members[index];
        return (struct entry){hash_text(member->key), &member->key,
                              &member->value};
    }
    value = &list->as.array.items[index];
    return (struct entry){hash_value(work, value), NULL, value};
}

static const struct table *table_of(struct schema_work *work,
                                    const struct jv *list)
{
    const struct slice key = slice_make((const char *)&list, sizeof(list));
    struct table *table = map_find(&work->tables, key);

    if (table)
        return table;
    table = mem_alloc(sizeof(*table));
    table_init(table, jv_count(list));
    map_put(&work->tables, key, table);
    for (size_t i = 0; i < jv_count(list); i++) {
        const struct entry entry = entry_at(work, list, i);

        add(work, table, &entry);
    }
    return table;
}

bool schema_contains(struct schema_work *work, const struct jv *list,
                     const struct jv *value)
{
    struct entry entry = {.value = value};

    for (size_t i = 0; i < jv_count(list) && jv_count(list) <= FEW; i++)
        if (schema_equal(work, jv_at(list, i), value))
            return true;
    if (jv_count(list) <= FEW)
        return false;
    entry.hash = hash_value(work, value);
    return find(work, table_of(work, list), &entry)->value != NULL;
}

const struct jv *schema_property(struct schema_work *work,
                                 const struct jv *properties, struct slice key)
{
    struct entry entry = {.key = &key};

    if (!schema_spend(work, key.size / BYTES_A_STEP))
        return NULL;
    if (jv_count(properties) <= FEW)
        return schema_member(properties, key);
    entry.hash = hash_text(key);
    return find(work, table_of(work, properties), &entry)->value;
}

bool schema_names(struct schema_work *work, const struct jv *names,
                  struct slice name)
{
    const struct jv value = {.type = JV_STRING, .as.string = name};

    return schema_contains(work, names, &value);
}

/* Its names against those of the object, where both are many. */
bool schema_has_names(struct schema_work *work, const struct jv *names,
                      const struct jv *object)
{
    const struct table *table;
    size_t found = 0;

    if (jv_count(names) <= FEW || jv_count(object) <= FEW)
        return !schema_missing(work, names, object);
    table = table_of(work, names);
    for (size_t i = 0; i < jv_count(object); i++) {
        found += schema_names(work, names, object->as.object.members[i].key);
    }
    return found == table->count;
}

const struct jv *schema_missing(struct schema_work *work,
                                const struct jv *names, const struct jv *object)
{
    bool few = jv_count(names) <= FEW;

    for (size_t i = 0; i < jv_count(names); i++) {
        const struct jv *name = jv_at(names, i);
        struct slice key = jv_string(name);

        if (!schema_spend(work, few ? jv_count(object) : VALUE_COST) ||
            !(few ? schema_member(object, key)
                  : schema_property(work, object, key)))
            return name;
    }
    return NULL;
}

bool schema_all_differ(struct schema_work *work, const struct jv *array)
{
    size_t count = jv_count(array);
    struct table table;
    bool differ = true;

    if (count < 2)
        return true;
    if (!schema_spend(work, count * ROOM_COST))
        return false;
    table_init(&table, count);
    for (size_t i = 0; differ && i < count; i++) {
        const struct entry entry = entry_at(work, array, i);

        differ = add(work, &table, &entry);
    }
    mem_free(table.slots);
    return differ;
}
