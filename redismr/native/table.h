/* An insertion-ordered hash table from keys to an int of 64 bits. All keys are texts, or all are
   ints of 64 bits.

   All keys lie in one buffer, each followed by NUL. If they are texts, none holds a NUL, and the
   buffer without its last byte is the column of keys that travels. All memory comes from PyMem, so that the interpreter
   counts it and tests can refuse it. */

#ifndef REDISMR_TABLE_H
#define REDISMR_TABLE_H

#include "hashes.h"

#define NO_ENTRY UINT32_MAX
#define MAX_ENTRIES (UINT32_MAX / 2)

typedef enum { NO_KEYS, TEXT_KEYS, INT_KEYS } KeyKind;

typedef struct {
    uint8_t *data;
    size_t size, capacity;
} Buffer;

typedef struct {
    uint32_t hash, key_size;
    size_t key_start;
    int64_t total;
} Entry;

typedef struct {
    uint32_t *slots; /* entry numbers, or NO_ENTRY; a power of two of them, two thirds used at most */
    size_t slot_mask;
    Entry *entries;
    size_t count, capacity;
    Buffer keys;
    KeyKind kind; /* of all keys; of any kind while there are none */
    HashKey hash_key;
} Table;

/* Make room for ``more`` bytes. Return 0, or -1 without memory; the buffer is unchanged then. */
static int buffer_reserve(Buffer *buffer, size_t more)
{
    if (more <= buffer->capacity - buffer->size)
        return 0;
    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity - buffer->size < more) {
        if (capacity > SIZE_MAX / 4)
            return -1;
        capacity += capacity / 2;
    }
    uint8_t *data = PyMem_Realloc(buffer->data, capacity);
    if (!data)
        return -1;
    buffer->data = data;
    buffer->capacity = capacity;
    return 0;
}

static void table_clear(Table *table)
{
    PyMem_Free(table->slots);
    PyMem_Free(table->entries);
    PyMem_Free(table->keys.data);
    HashKey hash_key = table->hash_key;
    memset(table, 0, sizeof *table);
    table->hash_key = hash_key;
}

static size_t free_slot(const uint32_t *slots, size_t mask, uint32_t hash)
{
    size_t slot = hash & mask;
    while (slots[slot] != NO_ENTRY)
        slot = (slot + 1) & mask;
    return slot;
}

/* Make room for one more entry. Return 0, or -1 without memory; the table is unchanged then. */
static int table_grow(Table *table)
{
    if (table->count >= MAX_ENTRIES)
        return -1;
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? table->capacity * 2 : 8;
        Entry *entries = PyMem_Realloc(table->entries, capacity * sizeof *entries);
        if (!entries)
            return -1;
        table->entries = entries;
        table->capacity = capacity;
    }
    if (!table->slots || (table->count + 1) * 3 > (table->slot_mask + 1) * 2) {
        size_t slot_count = table->slots ? (table->slot_mask + 1) * 2 : 16;
        uint32_t *slots = PyMem_Malloc(slot_count * sizeof *slots);
        if (!slots)
            return -1;
        memset(slots, 0xff, slot_count * sizeof *slots);
        for (size_t i = 0; i < table->count; i++)
            slots[free_slot(slots, slot_count - 1, table->entries[i].hash)] = (uint32_t)i;
        PyMem_Free(table->slots);
        table->slots = slots;
        table->slot_mask = slot_count - 1;
    }
    return 0;
}

/* Return the entry of a key, a new one with total 0 if there is none. NULL without memory. */
static inline Entry *table_entry(Table *table, const uint8_t *key, size_t size, uint32_t hash)
{
    size_t slot = 0;
    if (table->slots) {
        uint32_t number;
        slot = hash & table->slot_mask;
        while ((number = table->slots[slot]) != NO_ENTRY) {
            Entry *entry = &table->entries[number];
            if (entry->hash == hash && entry->key_size == size
                && !memcmp(table->keys.data + entry->key_start, key, size))
                return entry;
            slot = (slot + 1) & table->slot_mask;
        }
    }
    if (size >= UINT32_MAX || buffer_reserve(&table->keys, size + 1))
        return NULL;
    if (table->count == table->capacity || (table->count + 1) * 3 > (table->slot_mask + 1) * 2) {
        if (table_grow(table))
            return NULL;
        slot = free_slot(table->slots, table->slot_mask, hash);
    }
    Entry *entry = &table->entries[table->count];
    *entry = (Entry){hash, (uint32_t)size, table->keys.size, 0};
    memcpy(table->keys.data + table->keys.size, key, size);
    table->keys.data[table->keys.size + size] = 0;
    table->keys.size += size + 1;
    table->slots[slot] = (uint32_t)table->count++;
    return entry;
}

#endif
