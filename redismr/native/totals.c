/* Adds up ints, or groups values, by keys that are texts or ints, and turns the totals into the
   blocks that travel. README.md says what the rules of this room are. Callers are
   engine/native_map_loops.py, engine/native_merge.py and core/codec.py. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stddef.h>
#include <time.h>

#include "hashes.h"
#include "int_pickle.h"
#include "table.h"

/* The head of a frame, as core/codec.py packs it: flags, bytes of keys, bytes of runs. */
#define BLOCK_HEADER 9
#define KEYS_JOINED_FLAG 1
#define INTERFACE 1 /* as in __init__.py, which does not use another */
#define MAX_KEY_BYTES ((Py_ssize_t)1 << 30)

typedef struct {
    PyTypeObject *int_block, *totals, *groups, *record_fold;
    PyObject *generator_type;
} ModuleState;

static ModuleState *state_of(PyObject *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

static void free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* ------------------------------------------------------------------ keys and numbers */

/* Return 1 and set ``*number`` if ``value`` is exactly an int of 64 bits. */
static int int64_of(PyObject *value, int64_t *number)
{
    if (!PyLong_CheckExact(value))
        return 0;
    int overflow;
    *number = PyLong_AsLongLongAndOverflow(value, &overflow);
    return !overflow;
}

/* A key as the table takes it. ``bytes`` points into the key object, or to ``number``. */
typedef struct {
    KeyKind kind;
    const uint8_t *bytes;
    size_t size;
    int64_t number;
} Key;

/* Return 1 and fill ``*key`` if the object is exactly an int of 64 bits, or exactly a str without
   lone surrogates and separators. */
static int read_key(PyObject *object, Key *key)
{
    /* Python's hash of an int, which chooses the partition, depends on the size of pointers. */
    if (sizeof(Py_hash_t) == 8 && int64_of(object, &key->number)) {
        key->kind = INT_KEYS;
        key->bytes = (const uint8_t *)&key->number;
        key->size = sizeof key->number;
        return 1;
    }
    if (!PyUnicode_CheckExact(object))
        return 0;
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(object, &size);
    if (!text) {
        PyErr_Clear();
        return 0;
    }
    key->kind = TEXT_KEYS;
    key->bytes = (const uint8_t *)text;
    key->size = (size_t)size;
    return size <= MAX_KEY_BYTES && !memchr(text, 0, key->size);
}

/* Return 1 if keys of this kind can be in the table, which takes the kind of its first key. */
static int takes_kind(Table *table, KeyKind kind)
{
    if (!table->count)
        table->kind = kind;
    return table->kind == kind;
}

/* Return the sum in ``*total``; 1, and ``*total`` as it was, if it has more than 64 bits. */
static int add_overflows(int64_t *total, int64_t number)
{
    int64_t before = *total;
    if (number > 0 ? before > INT64_MAX - number : before < INT64_MIN - number)
        return 1;
    *total = before + number;
    return 0;
}

/* Return the start of the next key of a column, and move ``*at`` behind it and its separator. */
static const uint8_t *next_key(KeyKind kind, const uint8_t **at, const uint8_t *end, size_t *size)
{
    if (kind == INT_KEYS) {
        *size = sizeof(int64_t);
        *at += sizeof(int64_t);
        return *at - sizeof(int64_t);
    }
    const uint8_t *start = *at, *separator = memchr(start, 0, (size_t)(end - start));
    *size = (size_t)((separator ? separator : end) - start);
    *at = separator ? separator + 1 : end;
    return start;
}

static PyObject *key_object(KeyKind kind, const uint8_t *bytes, size_t size)
{
    if (kind == TEXT_KEYS)
        return PyUnicode_DecodeUTF8((const char *)bytes, (Py_ssize_t)size, NULL);
    int64_t number;
    memcpy(&number, bytes, sizeof number);
    return PyLong_FromLongLong(number);
}

static size_t char_count(const uint8_t *p, size_t size)
{
    size_t chars = 0;
    for (size_t i = 0; i < size; i++)
        chars += (p[i] & 0xC0) != 0x80;
    return chars;
}

static int is_ascii(const uint8_t *p, size_t size)
{
    uint64_t bits = 0, word;
    for (; size >= 8; p += 8, size -= 8) {
        memcpy(&word, p, 8);
        bits |= word;
    }
    while (size--)
        bits |= *p++;
    return !(bits & 0x8080808080808080u);
}

/* ------------------------------------------------------------------ IntBlock */

typedef struct {
    PyObject_HEAD
    PyObject *owner;     /* keeps the memory of keys, or of both columns, alive; may be NULL */
    KeyKind kind;
    const uint8_t *keys; /* texts joined by NUL, valid UTF-8; or ints of 64 bits, aligned */
    size_t keys_size;
    int64_t *numbers;
    size_t count;        /* at least 1 */
    Py_ssize_t slice_end; /* where the latest slice ended, and the key after it: slices are */
    const uint8_t *after_slice; /* taken in order, and none of them searches from the start */
    uint8_t *own_keys;   /* freed with the block; NULL if the owner has the keys */
    int64_t *own_numbers;
} IntBlock;

static IntBlock *new_block(ModuleState *state)
{
    allocfunc allocate = PyType_GetSlot(state->int_block, Py_tp_alloc);
    return (IntBlock *)allocate(state->int_block, 0);
}

static void block_dealloc(IntBlock *self)
{
    Py_XDECREF(self->owner);
    PyMem_Free(self->own_keys);
    PyMem_Free(self->own_numbers);
    free_object((PyObject *)self);
}

/* Set the block's keys to texts of the frame. Return their number, 0 if they are no texts. */
static size_t decode_texts(IntBlock *block, const uint8_t *keys, size_t size)
{
    if (!is_ascii(keys, size)) {
        PyObject *text = PyUnicode_DecodeUTF8((const char *)keys, (Py_ssize_t)size, NULL);
        if (!text) {
            PyErr_Clear();
            return 0;
        }
        Py_DECREF(text);
    }
    size_t count = 1;
    const uint8_t *end = keys + size;
    for (const uint8_t *p = keys; (p = memchr(p, 0, (size_t)(end - p))); p++)
        count++;
    block->kind = TEXT_KEYS;
    block->keys = keys;
    block->keys_size = size;
    return count;
}

/* Set the block's keys to pickled ints. Return their number, 0 if they are no ints; -1 of size_t
   without memory. */
static size_t decode_ints(IntBlock *block, const uint8_t *keys, size_t size)
{
    size_t room = size / 2; /* each int takes two bytes at least */
    if (sizeof(Py_hash_t) != 8 || size < 2 || keys[0] != OP_PROTO)
        return 0;
    block->own_keys = PyMem_Malloc((room + 1) * sizeof(int64_t));
    if (!block->own_keys)
        return (size_t)-1;
    size_t count = read_ints(keys, keys + size, (int64_t *)block->own_keys, room);
    block->kind = INT_KEYS;
    block->keys = block->own_keys;
    block->keys_size = count * sizeof(int64_t);
    return count;
}

/* decode(frame) */
static PyObject *block_decode(PyObject *module, PyObject *frame)
{
    if (!PyBytes_CheckExact(frame))
        Py_RETURN_NONE;
    const uint8_t *data = (const uint8_t *)PyBytes_AsString(frame);
    size_t size = (size_t)PyBytes_Size(frame);
    if (size < BLOCK_HEADER || data[0] > KEYS_JOINED_FLAG || load_le32(data + 5))
        Py_RETURN_NONE;
    size_t keys_size = load_le32(data + 1);
    if (keys_size > size - BLOCK_HEADER)
        Py_RETURN_NONE;
    const uint8_t *keys = data + BLOCK_HEADER, *values = keys + keys_size;
    IntBlock *block = new_block(PyModule_GetState(module));
    if (!block)
        return NULL;
    block->owner = Py_NewRef(frame);
    size_t count = data[0] == KEYS_JOINED_FLAG ? decode_texts(block, keys, keys_size)
                                               : decode_ints(block, keys, keys_size);
    int fits = count && count <= size / 2; /* each value takes two bytes at least */
    if (fits)
        block->own_numbers = block->numbers = PyMem_Malloc(count * sizeof(int64_t));
    if (count == (size_t)-1 || (fits && !block->numbers)) {
        Py_DECREF(block);
        return PyErr_NoMemory();
    }
    if (!fits || read_ints(values, data + size, block->numbers, count) != count) {
        Py_DECREF(block);
        Py_RETURN_NONE;
    }
    block->count = count;
    return (PyObject *)block;
}

static PyObject *block_encode(IntBlock *self, PyObject *unused)
{
    (void)unused;
    if (self->keys_size > UINT32_MAX / 2)
        return PyErr_Format(PyExc_OverflowError, "a block of more than 2 GB");
    if (self->count > (SIZE_MAX - self->keys_size) / (4 * MAX_INT_BYTES))
        return PyErr_NoMemory();
    int is_text = self->kind == TEXT_KEYS;
    size_t numbers_size = pickle_bound(self->count);
    size_t bound = BLOCK_HEADER + (is_text ? self->keys_size : numbers_size) + numbers_size;
    uint8_t *start = PyMem_Malloc(bound);
    if (!start)
        return PyErr_NoMemory();
    uint8_t *p = start + BLOCK_HEADER;
    if (is_text) {
        memcpy(p, self->keys, self->keys_size);
        p += self->keys_size;
    } else {
        p = write_ints(p, (const int64_t *)(const void *)self->keys, self->count);
    }
    *start = is_text ? KEYS_JOINED_FLAG : 0;
    put_le(start + 1, (uint64_t)(p - start) - BLOCK_HEADER, 4);
    put_le(start + 5, 0, 4);
    const uint8_t *end = write_ints(p, self->numbers, self->count);
    PyObject *frame = PyBytes_FromStringAndSize((const char *)start, end - start);
    PyMem_Free(start);
    return frame;
}

static PyObject *block_keys(IntBlock *self)
{
    PyObject *keys = PyList_New((Py_ssize_t)self->count);
    const uint8_t *at = self->keys, *end = at + self->keys_size;
    for (size_t i = 0; keys && i < self->count; i++) {
        size_t size;
        const uint8_t *start = next_key(self->kind, &at, end, &size);
        PyObject *key = key_object(self->kind, start, size);
        if (!key)
            Py_CLEAR(keys);
        else
            PyList_SetItem(keys, (Py_ssize_t)i, key);
    }
    return keys;
}

static PyObject *block_values(IntBlock *self)
{
    PyObject *values = PyList_New((Py_ssize_t)self->count);
    for (size_t i = 0; values && i < self->count; i++) {
        PyObject *value = PyLong_FromLongLong(self->numbers[i]);
        if (!value)
            Py_CLEAR(values);
        else
            PyList_SetItem(values, (Py_ssize_t)i, value);
    }
    return values;
}

static Py_ssize_t block_length(PyObject *self)
{
    (void)self;
    return 2;
}

static PyObject *block_item(IntBlock *self, Py_ssize_t index)
{
    if (index == 0)
        return block_keys(self);
    if (index == 1)
        return block_values(self);
    PyErr_SetString(PyExc_IndexError, "a block has two columns");
    return NULL;
}

static PyObject *block_slice(IntBlock *self, PyObject *args)
{
    Py_ssize_t start, stop;
    if (!PyArg_ParseTuple(args, "nn:slice", &start, &stop))
        return NULL;
    if (start < 0 || stop <= start || (size_t)stop > self->count) {
        PyErr_SetString(PyExc_IndexError, "a slice must be a part of the block, and not be empty");
        return NULL;
    }
    IntBlock *block = new_block(state_of((PyObject *)self));
    if (!block)
        return NULL;
    const uint8_t *at = self->keys, *end = at + self->keys_size, *first, *last;
    size_t size;
    Py_ssize_t i = 0;
    if (self->slice_end && start >= self->slice_end) {
        i = self->slice_end;
        at = self->after_slice;
    }
    for (; i < start; i++)
        next_key(self->kind, &at, end, &size);
    for (first = last = at; i < stop; i++)
        last = next_key(self->kind, &at, end, &size) + size;
    self->slice_end = stop;
    self->after_slice = at;
    Py_INCREF((PyObject *)self);
    block->owner = (PyObject *)self;
    block->kind = self->kind;
    block->keys = first;
    block->keys_size = (size_t)(last - first);
    block->numbers = self->numbers + start;
    block->count = (size_t)(stop - start);
    return (PyObject *)block;
}

static PyObject *block_sample_chars(IntBlock *self, PyObject *step_object)
{
    Py_ssize_t step = PyLong_AsSsize_t(step_object);
    if (step < 1)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "the step must be 1 or more");
    if (self->kind != TEXT_KEYS)
        return PyErr_Format(PyExc_TypeError, "only texts have characters");
    const uint8_t *at = self->keys, *end = at + self->keys_size;
    size_t chars = 0, size;
    for (size_t i = 0; i < self->count; i++) {
        const uint8_t *key = next_key(self->kind, &at, end, &size);
        if (i % (size_t)step == 0)
            chars += char_count(key, size);
    }
    return PyLong_FromSize_t(chars);
}

static PyObject *block_update(IntBlock *self, PyObject *pairs)
{
    if (!PyDict_Check(pairs))
        return PyErr_Format(PyExc_TypeError, "update needs a dict");
    const uint8_t *at = self->keys, *end = at + self->keys_size;
    for (size_t i = 0; i < self->count; i++) {
        size_t size;
        const uint8_t *start = next_key(self->kind, &at, end, &size);
        PyObject *key = key_object(self->kind, start, size);
        PyObject *value = key ? PyLong_FromLongLong(self->numbers[i]) : NULL;
        int failed = !value || PyDict_SetItem(pairs, key, value);
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (failed)
            return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *block_get_records(IntBlock *self, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(self->count);
}

static PyObject *block_get_has_text_keys(IntBlock *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(self->kind == TEXT_KEYS);
}

static PyMethodDef block_methods[] = {
    {"encode", (PyCFunction)block_encode, METH_NOARGS, "Return the block as a frame."},
    {"slice", (PyCFunction)block_slice, METH_VARARGS, "Return the records from start to stop."},
    {"sample_chars", (PyCFunction)block_sample_chars, METH_O,
     "Return the number of characters in every step-th key, without separators."},
    {"update", (PyCFunction)block_update, METH_O, "Set each key of the dict to its number."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef block_getset[] = {
    {"records", (getter)block_get_records, NULL, "The number of records.", NULL},
    {"has_text_keys", (getter)block_get_has_text_keys, NULL, "Whether keys are texts.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot block_slots[] = {
    {Py_tp_doc, "Texts or ints as keys, and ints, in two columns. A sequence of both, as lists."},
    {Py_tp_dealloc, block_dealloc},
    {Py_tp_methods, block_methods},
    {Py_tp_getset, block_getset},
    {Py_sq_length, block_length},
    {Py_sq_item, block_item},
    {0, NULL},
};

static PyType_Spec block_spec = {
    "redismr.native._totals.IntBlock", sizeof(IntBlock), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, block_slots,
};

/* ------------------------------------------------------------------ Totals */

typedef struct {
    PyObject_HEAD
    Table table;
} Totals;

/* Return 0, or -1 if the two secrets of a hash are no ints. */
static int parse_secrets(PyObject *args, PyObject *kwargs, HashKey *hash_key)
{
    unsigned long long first, second;
    static char *names[] = {"", "", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KK", names, &first, &second))
        return -1;
    /* Odd constants, so that a secret of 0 hashes as well as any other. */
    *hash_key = (HashKey){first ^ 0x9E3779B97F4A7C15u, second ^ 0xE7037ED1A0B428DBu};
    return 0;
}

static PyObject *totals_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    HashKey hash_key;
    if (parse_secrets(args, kwargs, &hash_key))
        return NULL;
    allocfunc allocate = PyType_GetSlot(type, Py_tp_alloc);
    Totals *self = (Totals *)allocate(type, 0);
    if (self)
        self->table.hash_key = hash_key;
    return (PyObject *)self;
}

static void totals_dealloc(Totals *self)
{
    table_clear(&self->table);
    free_object((PyObject *)self);
}

static Py_ssize_t totals_length(Totals *self)
{
    return (Py_ssize_t)self->table.count;
}

/* Add to the total of a key. Return 0, 1 if the sum has more than 64 bits, -1 without memory. */
static inline int table_add(Table *table, const uint8_t *key, size_t size, uint32_t hash,
                            int64_t number)
{
    Entry *entry = table_entry(table, key, size, hash);
    if (!entry) {
        PyErr_NoMemory();
        return -1;
    }
    return add_overflows(&entry->total, number);
}

/* Keys whose hashes are computed together: their slots are on the way from memory meanwhile. */
#define PREFETCHED 16

static PyObject *totals_add(Totals *self, PyObject *object)
{
    if (Py_TYPE(object) != state_of((PyObject *)self)->int_block)
        return PyErr_Format(PyExc_TypeError, "add needs an IntBlock");
    IntBlock *block = (IntBlock *)object;
    Table *table = &self->table;
    const uint8_t *at = block->keys, *end = at + block->keys_size;
    if (!takes_kind(table, block->kind))
        return PyLong_FromLong(0);
    for (size_t i = 0; i < block->count;) {
        const uint8_t *keys[PREFETCHED];
        size_t sizes[PREFETCHED];
        uint32_t hashes[PREFETCHED];
        size_t taken = block->count - i < PREFETCHED ? block->count - i : PREFETCHED;
        for (size_t k = 0; k < taken; k++) {
            keys[k] = next_key(block->kind, &at, end, &sizes[k]);
            hashes[k] = keyed_hash(table->hash_key, keys[k], sizes[k]);
#ifdef __GNUC__
            if (table->slots)
                __builtin_prefetch(&table->slots[hashes[k] & table->slot_mask]);
#endif
        }
        for (size_t k = 0; k < taken; k++, i++) {
            int failed = table_add(table, keys[k], sizes[k], hashes[k], block->numbers[i]);
            if (failed < 0)
                return NULL;
            if (failed)
                return PyLong_FromSize_t(i);
        }
    }
    return PyLong_FromSize_t(block->count);
}

static uint32_t partition_of(const Table *table, const Entry *entry, uint64_t partitions)
{
    const uint8_t *key = table->keys.data + entry->key_start;
    int64_t number;
    if (partitions == 1)
        return 0;
    if (table->kind == TEXT_KEYS)
        return (uint32_t)(crc32_of(0, key, entry->key_size) % partitions);
    memcpy(&number, key, sizeof number);
    return (uint32_t)(stable_int_hash(number) % partitions);
}

/* The columns of one partition while ``deal`` fills them. */
typedef struct {
    uint8_t *keys, *key_end;
    int64_t *numbers;
    size_t keys_size, count, filled;
} Part;

static void free_parts(Part *parts, Py_ssize_t partitions)
{
    for (Py_ssize_t i = 0; parts && i < partitions; i++) {
        PyMem_Free(parts[i].keys);
        PyMem_Free(parts[i].numbers);
    }
    PyMem_Free(parts);
}

/* Divide the entries among the parts: measure, allocate, copy. Return 0, or -1 without memory. */
static int fill_parts(const Table *table, Part *parts, uint32_t *numbers, Py_ssize_t partitions)
{
    size_t is_text = table->kind == TEXT_KEYS; /* texts keep the NUL behind them */
    for (size_t i = 0; i < table->count; i++) {
        const Entry *entry = &table->entries[i];
        numbers[i] = partition_of(table, entry, (uint64_t)partitions);
        parts[numbers[i]].keys_size += entry->key_size + is_text;
        parts[numbers[i]].count++;
    }
    for (Py_ssize_t p = 0; p < partitions; p++) {
        if (!parts[p].count)
            continue;
        parts[p].keys = parts[p].key_end = PyMem_Malloc(parts[p].keys_size);
        parts[p].numbers = PyMem_Malloc(parts[p].count * sizeof(int64_t));
        if (!parts[p].keys || !parts[p].numbers)
            return -1;
    }
    for (size_t i = 0; i < table->count; i++) {
        const Entry *entry = &table->entries[i];
        Part *part = &parts[numbers[i]];
        memcpy(part->key_end, table->keys.data + entry->key_start, entry->key_size + is_text);
        part->key_end += entry->key_size + is_text;
        part->numbers[part->filled++] = entry->total;
    }
    return 0;
}

static PyObject *totals_deal(Totals *self, PyObject *partitions_object)
{
    Table *table = &self->table;
    Py_ssize_t partitions = PyLong_AsSsize_t(partitions_object);
    if (partitions < 1 || (uint64_t)partitions > UINT32_MAX)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "no such partitions");
    PyObject *result = PyList_New(0);
    uint32_t *numbers = PyMem_Malloc((table->count ? table->count : 1) * sizeof *numbers);
    Part *parts = PyMem_Calloc((size_t)partitions, sizeof *parts);
    if (!result || !numbers || !parts || fill_parts(table, parts, numbers, partitions)) {
        PyErr_NoMemory();
        Py_CLEAR(result);
    }
    for (Py_ssize_t p = 0; result && p < partitions; p++) {
        if (!parts[p].count)
            continue;
        IntBlock *block = new_block(state_of((PyObject *)self));
        if (block) {
            block->keys = block->own_keys = parts[p].keys;
            block->numbers = block->own_numbers = parts[p].numbers;
            block->kind = table->kind;
            block->keys_size = parts[p].keys_size - (table->kind == TEXT_KEYS);
            block->count = parts[p].count;
            parts[p].keys = NULL;
            parts[p].numbers = NULL;
        }
        PyObject *item = block ? Py_BuildValue("nN", p, block) : NULL;
        if (!item || PyList_Append(result, item))
            Py_CLEAR(result);
        Py_XDECREF(item);
    }
    PyMem_Free(numbers);
    free_parts(parts, partitions);
    if (result)
        table_clear(table);
    return result;
}

static PyObject *totals_take_block(Totals *self, PyObject *unused)
{
    (void)unused;
    Table *table = &self->table;
    if (!table->count)
        Py_RETURN_NONE;
    int64_t *numbers = PyMem_Malloc(table->count * sizeof *numbers);
    IntBlock *block = numbers ? new_block(state_of((PyObject *)self)) : NULL;
    if (!block) {
        PyMem_Free(numbers);
        return PyErr_NoMemory();
    }
    for (size_t i = 0; i < table->count; i++)
        numbers[i] = table->entries[i].total;
    block->numbers = block->own_numbers = numbers;
    block->kind = table->kind;
    block->count = table->count;
    block->keys = block->own_keys = table->keys.data;
    block->keys_size = table->keys.size - 1;
    if (table->kind == INT_KEYS) { /* close the gaps that texts need for their NULs */
        for (size_t i = 0; i < table->count; i++)
            memmove(block->own_keys + i * sizeof(int64_t),
                    block->own_keys + table->entries[i].key_start, sizeof(int64_t));
        block->keys_size = table->count * sizeof(int64_t);
    }
    table->keys = (Buffer){NULL, 0, 0};
    table_clear(table);
    return (PyObject *)block;
}

static PyMethodDef totals_methods[] = {
    {"add", (PyCFunction)totals_add, METH_O,
     "Add the numbers of an IntBlock; return how many: fewer if a sum has more than 64 bits, or\n"
     "none if keys are of the other kind."},
    {"deal", (PyCFunction)totals_deal, METH_O,
     "Return (partition, IntBlock) for each partition that gets a key, and empty the totals."},
    {"take_block", (PyCFunction)totals_take_block, METH_NOARGS,
     "Return all totals as one IntBlock, None without any, and empty the totals."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot totals_slots[] = {
    {Py_tp_doc, "Totals(secret, secret): ints by key, in the order in which keys came."},
    {Py_tp_new, totals_new},
    {Py_tp_dealloc, totals_dealloc},
    {Py_tp_methods, totals_methods},
    {Py_sq_length, totals_length},
    {0, NULL},
};

static PyType_Spec totals_spec = {
    "redismr.native._totals.Totals", sizeof(Totals), 0, Py_TPFLAGS_DEFAULT, totals_slots,
};

/* ------------------------------------------------------------------ Groups */

typedef struct {
    PyObject_HEAD
    Table table;       /* the total of a key is the number of its values */
    PyObject **values; /* in the order in which they came */
    uint32_t *numbers; /* the entry of each value */
    size_t count, capacity;
} Groups;

static int groups_traverse(Groups *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    for (size_t i = 0; i < self->count; i++)
        Py_VISIT(self->values[i]);
    return 0;
}

/* Make the groups empty; their memory and references are the caller's, who copied them. */
static void forget_groups(Groups *self)
{
    HashKey hash_key = self->table.hash_key;
    self->table = (Table){.hash_key = hash_key};
    self->values = NULL;
    self->numbers = NULL;
    self->count = self->capacity = 0;
}

/* Free a copy of the groups; destructors of values may run any code. */
static void release_groups(Groups *taken)
{
    table_clear(&taken->table);
    PyMem_Free(taken->numbers);
    for (size_t i = 0; i < taken->count; i++)
        Py_DECREF(taken->values[i]);
    PyMem_Free(taken->values);
}

static int groups_clear(Groups *self)
{
    Groups taken = *self;
    forget_groups(self);
    release_groups(&taken);
    return 0;
}

static void groups_dealloc(Groups *self)
{
    PyObject_GC_UnTrack(self);
    groups_clear(self);
    free_object((PyObject *)self);
}

static Py_ssize_t groups_length(Groups *self)
{
    return (Py_ssize_t)self->table.count;
}

static int groups_reserve(Groups *self)
{
    if (self->count < self->capacity)
        return 0;
    size_t capacity = self->capacity ? self->capacity + self->capacity / 2 : 16;
    PyObject **values = PyMem_Realloc(self->values, capacity * sizeof *values);
    if (values)
        self->values = values;
    uint32_t *numbers = PyMem_Realloc(self->numbers, capacity * sizeof *numbers);
    if (numbers)
        self->numbers = numbers;
    if (!values || !numbers)
        return -1;
    self->capacity = capacity;
    return 0;
}

/* Add a value, which takes over the caller's reference. Return 0, or -1 without memory. */
static int groups_add(Groups *self, const uint8_t *key, size_t size, PyObject *value)
{
    uint32_t hash = keyed_hash(self->table.hash_key, key, size);
    Entry *entry = groups_reserve(self) ? NULL : table_entry(&self->table, key, size, hash);
    if (!entry) {
        Py_DECREF(value);
        PyErr_NoMemory();
        return -1;
    }
    entry->total++;
    self->values[self->count] = value;
    self->numbers[self->count++] = (uint32_t)(entry - self->table.entries);
    return 0;
}

/* Return the values in the order of their keys, those of a key as they came; NULL without memory. */
static PyObject **sorted_values(const Groups *self)
{
    size_t keys = self->table.count;
    PyObject **sorted = PyMem_Malloc((self->count + 1) * sizeof *sorted);
    size_t *next = PyMem_Malloc((keys + 1) * sizeof *next);
    if (!sorted || !next) {
        PyMem_Free(sorted);
        PyMem_Free(next);
        PyErr_NoMemory();
        return NULL;
    }
    size_t start = 0;
    for (size_t i = 0; i < keys; start += (size_t)self->table.entries[i++].total)
        next[i] = start;
    for (size_t i = 0; i < self->count; i++)
        sorted[next[self->numbers[i]]++] = self->values[i];
    PyMem_Free(next);
    return sorted;
}

static PyObject *entry_key(const Table *table, size_t number)
{
    const Entry *entry = &table->entries[number];
    return key_object(table->kind, table->keys.data + entry->key_start, entry->key_size);
}

static PyObject *list_of(PyObject **values, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        Py_INCREF(values[i]);
        PyList_SetItem(list, i, values[i]);
    }
    return list;
}

/* Return the keys, and the list of each key's values; NULL for an error. */
static PyObject *list_groups(const Groups *groups, Py_ssize_t unused)
{
    (void)unused;
    size_t keys_count = groups->table.count, start = 0;
    PyObject *keys = PyList_New((Py_ssize_t)keys_count);
    PyObject *lists = keys ? PyList_New((Py_ssize_t)keys_count) : NULL;
    PyObject **sorted = lists ? sorted_values(groups) : NULL;
    int failed = !sorted;
    for (size_t i = 0; !failed && i < keys_count; i++) {
        size_t count = (size_t)groups->table.entries[i].total;
        PyObject *key = entry_key(&groups->table, i);
        PyObject *list = key ? list_of(sorted + start, (Py_ssize_t)count) : NULL;
        failed = !list;
        PyList_SetItem(keys, (Py_ssize_t)i, key);
        PyList_SetItem(lists, (Py_ssize_t)i, list);
        start += count;
    }
    PyMem_Free(sorted);
    PyObject *result = failed ? NULL : PyTuple_Pack(2, keys, lists);
    Py_XDECREF(keys);
    Py_XDECREF(lists);
    return result;
}

/* Append the key of an entry, once for each of its values, and these, to the columns of a
   partition. Return 0, or -1 for an error. */
static int append_group(PyObject *columns, PyObject *key, PyObject **values, size_t count)
{
    PyObject *keys = PyTuple_GetItem(columns, 0), *list = PyTuple_GetItem(columns, 1);
    for (size_t i = 0; i < count; i++)
        if (PyList_Append(keys, key) || PyList_Append(list, values[i]))
            return -1;
    return 0;
}

/* Return a tuple of two empty lists; NULL for an error. */
static PyObject *new_columns(void)
{
    PyObject *keys = PyList_New(0), *values = keys ? PyList_New(0) : NULL;
    PyObject *columns = values ? PyTuple_Pack(2, keys, values) : NULL;
    Py_XDECREF(keys);
    Py_XDECREF(values);
    return columns;
}

/* Return (partition, columns) of the columns that were made; NULL for an error. */
static PyObject *list_columns(PyObject **columns, Py_ssize_t partitions)
{
    PyObject *result = PyList_New(0);
    for (Py_ssize_t p = 0; result && p < partitions; p++) {
        if (!columns[p])
            continue;
        PyObject *item = Py_BuildValue("nO", p, columns[p]);
        if (!item || PyList_Append(result, item))
            Py_CLEAR(result);
        Py_XDECREF(item);
    }
    return result;
}

static PyObject *deal_groups(const Groups *groups, Py_ssize_t partitions)
{
    const Table *table = &groups->table;
    PyObject **columns = PyMem_Calloc((size_t)partitions, sizeof *columns), *result = NULL;
    PyObject **sorted = columns ? sorted_values(groups) : NULL;
    int failed = !sorted;
    size_t start = 0;
    for (size_t i = 0; !failed && i < table->count; i++) {
        size_t count = (size_t)table->entries[i].total;
        uint32_t p = partition_of(table, &table->entries[i], (uint64_t)partitions);
        if (!columns[p])
            columns[p] = new_columns();
        PyObject *key = columns[p] ? entry_key(table, i) : NULL;
        failed = !key || append_group(columns[p], key, sorted + start, count);
        Py_XDECREF(key);
        start += count;
    }
    if (!columns)
        PyErr_NoMemory();
    else if (!failed)
        result = list_columns(columns, partitions);
    for (Py_ssize_t p = 0; columns && p < partitions; p++)
        Py_XDECREF(columns[p]);
    PyMem_Free(columns);
    PyMem_Free(sorted);
    return result;
}

/* Return what ``read`` makes of the groups, which are empty then; for an error they stay as they
   were. New lists may start the garbage collector, and that may run code that comes back here: it
   finds no groups. */
static PyObject *read_and_empty(Groups *self, PyObject *(*read)(const Groups *, Py_ssize_t),
                                Py_ssize_t partitions)
{
    Groups taken = *self;
    forget_groups(self);
    PyObject *result = read(&taken, partitions);
    if (result || self->count) {
        release_groups(&taken);
        return result;
    }
    groups_clear(self);
    self->table = taken.table;
    self->values = taken.values;
    self->numbers = taken.numbers;
    self->count = taken.count;
    self->capacity = taken.capacity;
    return NULL;
}

static PyObject *groups_take(Groups *self, PyObject *unused)
{
    (void)unused;
    return read_and_empty(self, list_groups, 0);
}

static PyObject *groups_deal(Groups *self, PyObject *partitions_object)
{
    Py_ssize_t partitions = PyLong_AsSsize_t(partitions_object);
    if (partitions < 1 || partitions > (Py_ssize_t)UINT32_MAX)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "no such partitions");
    return read_and_empty(self, deal_groups, partitions);
}

static PyObject *groups_get_values(Groups *self, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(self->count);
}

static PyGetSetDef groups_getset[] = {
    {"values", (getter)groups_get_values, NULL, "The number of values.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef groups_methods[] = {
    {"take", (PyCFunction)groups_take, METH_NOARGS,
     "Return the keys, and the list of each key's values, and empty the groups."},
    {"deal", (PyCFunction)groups_deal, METH_O,
     "Return (partition, (keys, values)) for each partition that gets a key, and empty the groups.\n"
     "A key is repeated for each of its values."},
    {NULL, NULL, 0, NULL},
};

static PyObject *groups_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    HashKey hash_key;
    if (parse_secrets(args, kwargs, &hash_key))
        return NULL;
    allocfunc allocate = PyType_GetSlot(type, Py_tp_alloc);
    Groups *self = (Groups *)allocate(type, 0);
    if (self)
        self->table.hash_key = hash_key;
    return (PyObject *)self;
}

static PyType_Slot groups_slots[] = {
    {Py_tp_doc, "Groups(secret, secret): values by key, in the order in which they came."},
    {Py_tp_new, groups_new},
    {Py_tp_dealloc, groups_dealloc},
    {Py_tp_traverse, groups_traverse},
    {Py_tp_clear, groups_clear},
    {Py_tp_methods, groups_methods},
    {Py_tp_getset, groups_getset},
    {Py_sq_length, groups_length},
    {0, NULL},
};

static PyType_Spec groups_spec = {
    "redismr.native._totals.Groups", sizeof(Groups), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, groups_slots,
};

/* ------------------------------------------------------------------ RecordFold */

enum { ENDED, FULL, HANDED_BACK, BEGUN };
enum { ADD_VALUES, COUNT_PAIRS, GROUP_VALUES, GROUP_FLOATS };

typedef struct {
    PyObject_HEAD
    PyObject *target;                              /* Totals, or Groups for GROUP_VALUES */
    PyObject *records, *mapfn, *cursor, *as_pairs; /* records: an iterator */
    PyObject *immutable_types, *snapshot_value;    /* NULL for Totals */
    PyObject *key, *value, *out;                   /* the record, and what mapfn returned for it */
    PyObject *pairs; /* the iterator over the rest of out, or a dict of the rest, or NULL */
    PyObject *pair;                                /* the pair, or record, that was handed back */
    PyObject *latest;                              /* the value that was grouped last, or NULL */
    size_t max_keys; /* of Groups; 1 more than there can be, unless they are of floats */
    Py_ssize_t ordinal;
    unsigned int steps; /* pairs and records taken, to give way from time to time */
    clock_t turn_began; /* processor time */
    char takes_value_only, task, in_mapfn, retries_pair, is_running;
} RecordFold;

static int fold_traverse(RecordFold *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->target);
    Py_VISIT(self->immutable_types);
    Py_VISIT(self->snapshot_value);
    Py_VISIT(self->latest);
    Py_VISIT(self->records);
    Py_VISIT(self->mapfn);
    Py_VISIT(self->cursor);
    Py_VISIT(self->as_pairs);
    Py_VISIT(self->key);
    Py_VISIT(self->value);
    Py_VISIT(self->out);
    Py_VISIT(self->pairs);
    Py_VISIT(self->pair);
    return 0;
}

static int fold_clear(RecordFold *self)
{
    Py_CLEAR(self->target);
    Py_CLEAR(self->immutable_types);
    Py_CLEAR(self->snapshot_value);
    Py_CLEAR(self->latest);
    Py_CLEAR(self->records);
    Py_CLEAR(self->mapfn);
    Py_CLEAR(self->cursor);
    Py_CLEAR(self->as_pairs);
    Py_CLEAR(self->key);
    Py_CLEAR(self->value);
    Py_CLEAR(self->out);
    Py_CLEAR(self->pairs);
    Py_CLEAR(self->pair);
    return 0;
}

static void fold_dealloc(RecordFold *self)
{
    PyObject_GC_UnTrack(self);
    fold_clear(self);
    free_object((PyObject *)self);
}

static PyObject *fold_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"target", "records", "mapfn", "cursor", "as_pairs", "takes_value_only",
                            "counts_pairs", "immutable_types", "snapshot_value", NULL};
    PyObject *target, *records, *mapfn, *cursor, *as_pairs, *immutable = NULL, *snapshot = NULL;
    int takes_value_only = 0, counts_pairs = 0;
    ModuleState *state = PyType_GetModuleState(type);
    if (!state
        || !PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOO|$ppOO:RecordFold", names, &target,
                                        &records, &mapfn, &cursor, &as_pairs, &takes_value_only,
                                        &counts_pairs, &immutable, &snapshot))
        return NULL;
    int is_groups = Py_TYPE(target) == state->groups;
    if (!is_groups && Py_TYPE(target) != state->totals)
        return PyErr_Format(PyExc_TypeError, "the target must be Totals or Groups");
    if (is_groups && (!immutable || !snapshot))
        return PyErr_Format(PyExc_TypeError, "Groups need immutable_types and snapshot_value");
    PyObject *iterator = PyObject_GetIter(records);
    if (!iterator)
        return NULL;
    allocfunc allocate = PyType_GetSlot(type, Py_tp_alloc);
    RecordFold *self = (RecordFold *)allocate(type, 0);
    if (!self) {
        Py_DECREF(iterator);
        return NULL;
    }
    self->records = iterator;
    self->target = Py_NewRef(target);
    self->mapfn = Py_NewRef(mapfn);
    self->cursor = Py_NewRef(cursor);
    self->as_pairs = Py_NewRef(as_pairs);
    self->immutable_types = Py_XNewRef(immutable);
    self->snapshot_value = Py_XNewRef(snapshot);
    self->ordinal = -1;
    self->max_keys = SIZE_MAX;
    self->takes_value_only = (char)takes_value_only;
    self->task = is_groups ? GROUP_VALUES : counts_pairs ? COUNT_PAIRS : ADD_VALUES;
    return (PyObject *)self;
}

#define STEPS_PER_LOOK 8192 /* some 0.2 ms; a power of two, as ``steps`` may overflow */

/* Replace a reference that the fold holds; the old object may run code when it goes. */
static void set_reference(PyObject **place, PyObject *object)
{
    PyObject *old = *place;
    *place = object;
    Py_XDECREF(old);
}

static int is_grouping(const RecordFold *self)
{
    return self->task == GROUP_VALUES || self->task == GROUP_FLOATS;
}

static Table *table_of(RecordFold *self)
{
    return is_grouping(self) ? &((Groups *)self->target)->table : &((Totals *)self->target)->table;
}

/* Return a new reference to the value as it is now: to itself if its type cannot change. */
static PyObject *fixed_value(RecordFold *self, PyObject *value)
{
    if (!PyLong_CheckExact(value) && !PyUnicode_CheckExact(value) && !PyFloat_CheckExact(value)) {
        int is_immutable = PySet_Contains(self->immutable_types, (PyObject *)Py_TYPE(value));
        if (is_immutable < 0)
            return NULL;
        if (!is_immutable)
            return PyObject_CallFunctionObjArgs(self->snapshot_value, value, NULL);
    }
    return Py_NewRef(value);
}

/* Add one pair. Return 0, HANDED_BACK if the table does not take it, -1 for an error. */
static int fold_pair(RecordFold *self, PyObject *object, PyObject *value)
{
    int64_t number = 1;
    Table *table = table_of(self);
    Key key;
    if (!read_key(object, &key) || (self->task == ADD_VALUES && !int64_of(value, &number))
        || (self->task == GROUP_FLOATS && !PyFloat_CheckExact(value))
        || !takes_kind(table, key.kind))
        return HANDED_BACK;
    if (is_grouping(self)) {
        PyObject *fixed = fixed_value(self, value);
        if (!fixed)
            return -1;
        takes_kind(table, key.kind); /* user code may have emptied the groups meanwhile */
        set_reference(&self->latest, Py_NewRef(fixed));
        return groups_add((Groups *)self->target, key.bytes, key.size, fixed);
    }
    uint32_t hash = keyed_hash(table->hash_key, key.bytes, key.size);
    int failed = table_add(table, key.bytes, key.size, hash, number);
    return failed > 0 ? HANDED_BACK : failed;
}

/* Return true if the target holds as much as ``run`` allows, now that a pair was added. */
static inline int is_full(RecordFold *self, size_t keys_before, size_t limit)
{
    size_t keys = table_of(self)->count;
    if (!is_grouping(self))
        return keys > keys_before && keys >= limit;
    return ((Groups *)self->target)->count >= limit || keys >= self->max_keys;
}

/* Let signals, and from time to time other threads, have a turn. Return 0, or -1 for an exception.
   A turn must be longer than Python's switch interval of 5 ms: a thread that waits for the GIL asks
   for it only after this time, and gets none that is let go and taken again in between. */
static int give_way(RecordFold *self)
{
    if (++self->steps % STEPS_PER_LOOK)
        return 0;
    if (PyErr_CheckSignals())
        return -1;
    clock_t now = clock();
    if (now - self->turn_began > CLOCKS_PER_SEC / 50) {
        PyEval_RestoreThread(PyEval_SaveThread());
        self->turn_began = clock();
    }
    return 0;
}

/* Return the next pair; the one that was handed back, if ``group_floats`` was called for it. */
static PyObject *next_pair(RecordFold *self)
{
    if (!self->retries_pair)
        return PyIter_Next(self->pairs);
    PyObject *pair = self->pair;
    self->retries_pair = 0;
    self->pair = NULL;
    return pair;
}

/* Add the rest of the record's pairs. Return 0 if there are no more, else as ``run``, or -1. */
static int fold_pairs(RecordFold *self, size_t limit)
{
    const Table *table = table_of(self);
    PyObject *pair;
    while ((pair = next_pair(self))) {
        size_t keys_before = table->count;
        int result = HANDED_BACK;
        if (PyTuple_CheckExact(pair) && PyTuple_Size(pair) == 2)
            result = fold_pair(self, PyTuple_GetItem(pair, 0), PyTuple_GetItem(pair, 1));
        if (result) { /* for an error, too: it may be about the pair */
            set_reference(&self->pair, pair);
            return result;
        }
        Py_DECREF(pair);
        if (is_full(self, keys_before, limit))
            return FULL;
        if (give_way(self))
            return -1;
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* Add a whole dict. Return 0 if all of it was added, HANDED_BACK if none of it, or -1. If a sum has
   more than 64 bits, ``pairs`` becomes a dict of the rest: Python adds it without a look at limits
   in between, as it would have added all of it. */
static int fold_dict(RecordFold *self, PyObject *dict)
{
    PyObject *key, *value, *rest = NULL;
    Py_ssize_t position = 0;
    int64_t number;
    Key checked;
    KeyKind kind = NO_KEYS;
    while (PyDict_Next(dict, &position, &key, &value)) {
        if (!read_key(key, &checked) || !int64_of(value, &number)
            || (kind != NO_KEYS && kind != checked.kind) || !takes_kind(table_of(self), checked.kind))
            return HANDED_BACK;
        kind = checked.kind;
    }
    for (position = 0; PyDict_Next(dict, &position, &key, &value);) {
        int result = rest ? HANDED_BACK : fold_pair(self, key, value);
        if (result == HANDED_BACK && !rest) {
            rest = PyDict_New();
            set_reference(&self->pairs, rest);
        }
        if (result < 0 || (result == HANDED_BACK && (!rest || PyDict_SetItem(rest, key, value))))
            return -1;
    }
    return rest ? HANDED_BACK : 0;
}

/* Write the number of the next record into the cursor. Return 0, or -1 for an error. */
static int move_cursor(RecordFold *self)
{
    PyObject *zero = PyLong_FromLong(0), *ordinal = PyLong_FromSsize_t(self->ordinal + 1);
    /* Not PySequence_SetItem, which a memoryview, the cursor of a worker, does not know. */
    int failed = !zero || !ordinal || PyObject_SetItem(self->cursor, zero, ordinal);
    Py_XDECREF(zero);
    Py_XDECREF(ordinal);
    if (failed)
        return -1;
    self->ordinal++;
    return 0;
}

/* Call mapfn for the next record. Return BEGUN with its output in ``out``, or -1 for an error;
   ENDED if there is none; HANDED_BACK with it in ``pair`` if it is no pair. */
static int call_mapfn(RecordFold *self)
{
    PyObject *record = PyIter_Next(self->records), *key, *value;
    if (!record)
        return PyErr_Occurred() ? -1 : ENDED;
    if (PyTuple_CheckExact(record) && PyTuple_Size(record) == 2) {
        key = PyTuple_GetItem(record, 0);
        value = PyTuple_GetItem(record, 1);
    } else if (PyList_CheckExact(record) && PyList_Size(record) == 2) {
        key = PyList_GetItem(record, 0);
        value = PyList_GetItem(record, 1);
    } else {
        set_reference(&self->pair, record);
        return HANDED_BACK;
    }
    Py_INCREF(key);
    Py_INCREF(value);
    Py_DECREF(record);
    set_reference(&self->key, key);
    set_reference(&self->value, value);
    if (move_cursor(self)) /* in a child that user code forked: the child is no executor */
        return -1;
    self->in_mapfn = 1;
    PyObject *out = self->takes_value_only
                        ? PyObject_CallFunctionObjArgs(self->mapfn, value, NULL)
                        : PyObject_CallFunctionObjArgs(self->mapfn, key, value, NULL);
    set_reference(&self->out, out);
    return out ? BEGUN : -1;
}

/* Begin with the output of a record. Return 0 if its pairs, if any, are in ``pairs``, else as
   ``run``, or -1. */
static int open_output(RecordFold *self, size_t limit)
{
    PyObject *out = self->out;
    if (out == Py_None)
        return 0;
    if ((PyObject *)Py_TYPE(out) == state_of((PyObject *)self)->generator_type
        || PyList_CheckExact(out) || PyTuple_CheckExact(out)) {
        set_reference(&self->pairs, PyObject_GetIter(out));
        return self->pairs ? 0 : -1;
    }
    /* A dict of ints; None, which hands the output back; or another iterable. */
    PyObject *pairs = PyObject_CallFunctionObjArgs(self->as_pairs, out, NULL);
    int result = !pairs ? -1 : pairs == Py_None ? HANDED_BACK : 0;
    if (result == 0 && PyDict_CheckExact(pairs)) {
        result = self->task == ADD_VALUES ? fold_dict(self, pairs) : HANDED_BACK;
        if (result == 0 && table_of(self)->count >= limit)
            result = FULL;
    } else if (result == 0) {
        set_reference(&self->pairs, PyObject_GetIter(pairs));
        result = self->pairs ? 0 : -1;
    }
    Py_XDECREF(pairs);
    return result;
}

/* Go on until the end, or until something is to be done. Return as ``run``, or -1. */
static int fold_records(RecordFold *self, size_t limit)
{
    for (;;) {
        int result = 0;
        /* 1. The pairs of the record, or what is left of them. */
        if (self->pairs) {
            result = fold_pairs(self, limit);
            if (result)
                return result;
            Py_CLEAR(self->pairs);
        }
        if (give_way(self))
            return -1;
        self->in_mapfn = 0;
        /* 2. The next record, or the end. */
        result = call_mapfn(self);
        if (result != BEGUN)
            return result;
        result = open_output(self, limit);
        if (result)
            return result;
    }
}

static PyObject *fold_run(RecordFold *self, PyObject *limit_object)
{
    size_t limit = PyLong_AsSize_t(limit_object);
    if (limit == (size_t)-1 && PyErr_Occurred())
        return NULL;
    if (self->is_running || (self->pair && !self->retries_pair))
        return PyErr_Format(PyExc_RuntimeError, "a fold that runs, or has ended, cannot run");
    self->is_running = 1;
    int result = fold_records(self, limit);
    self->is_running = 0;
    return result < 0 ? NULL : PyLong_FromLong(result);
}

static PyObject *fold_group_floats(RecordFold *self, PyObject *args)
{
    PyObject *groups;
    Py_ssize_t max_keys;
    if (!PyArg_ParseTuple(args, "On:group_floats", &groups, &max_keys))
        return NULL;
    if (self->is_running || self->task != ADD_VALUES || !self->pair || !self->in_mapfn
        || Py_TYPE(groups) != state_of((PyObject *)self)->groups || max_keys < 1)
        return PyErr_Format(PyExc_RuntimeError, "only after a pair that Totals do not take");
    set_reference(&self->target, Py_NewRef(groups));
    self->task = GROUP_FLOATS;
    self->max_keys = (size_t)max_keys;
    self->retries_pair = 1;
    Py_RETURN_NONE;
}

static PyMethodDef fold_methods[] = {
    {"run", (PyCFunction)fold_run, METH_O,
     "Add pairs until the records end, the totals hold so many keys or the groups so many values,\n"
     "or a pair is odd."},
    {"group_floats", (PyCFunction)fold_group_floats, METH_VARARGS,
     "Go on with Groups, from the odd pair on, as long as values are floats. They are full with so\n"
     "many keys, too."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef fold_members[] = {
    {"ordinal", T_PYSSIZET, offsetof(RecordFold, ordinal), READONLY, "The record, from 0."},
    {"key", T_OBJECT, offsetof(RecordFold, key), READONLY, "Its key."},
    {"value", T_OBJECT, offsetof(RecordFold, value), READONLY, "Its value."},
    {"records", T_OBJECT, offsetof(RecordFold, records), READONLY, "The records after it."},
    {"out", T_OBJECT, offsetof(RecordFold, out), READONLY, "What mapfn returned for it."},
    {"pairs", T_OBJECT, offsetof(RecordFold, pairs), READONLY,
     "The pairs of it that are left, or a dict of them; None if none was taken."},
    {"pair", T_OBJECT, offsetof(RecordFold, pair), READONLY,
     "The odd pair, or the record that is none if in_mapfn is false; or None."},
    {"latest", T_OBJECT, offsetof(RecordFold, latest), READONLY, "The value grouped last."},
    {"in_mapfn", T_BOOL, offsetof(RecordFold, in_mapfn), READONLY,
     "Whether mapfn, or an iterator that it returned, is at work."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot fold_slots[] = {
    {Py_tp_doc, "Calls mapfn for each record, and adds up what it emits."},
    {Py_tp_new, fold_new},
    {Py_tp_dealloc, fold_dealloc},
    {Py_tp_traverse, fold_traverse},
    {Py_tp_clear, fold_clear},
    {Py_tp_methods, fold_methods},
    {Py_tp_members, fold_members},
    {0, NULL},
};

static PyType_Spec fold_spec = {
    "redismr.native._totals.RecordFold", sizeof(RecordFold), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, fold_slots,
};

/* ------------------------------------------------------------------ the module */

static PyMethodDef module_methods[] = {
    {"decode", block_decode, METH_O,
     "Return the IntBlock of a frame; None if the frame has other keys or values."},
    {NULL, NULL, 0, NULL},
};

/* Add a type to the module. Return it, or NULL for an error. */
static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (type && PyModule_AddType(module, type))
        Py_CLEAR(type);
    if (!type && !PyErr_Occurred()) /* Python 3.11 sets none if it has no memory for the name */
        PyErr_NoMemory();
    return type;
}

static int module_exec(PyObject *module)
{
    ModuleState *state = PyModule_GetState(module);
    fill_crc_table();
    PyObject *types = PyImport_ImportModule("types");
    state->generator_type = types ? PyObject_GetAttrString(types, "GeneratorType") : NULL;
    Py_XDECREF(types);
    /* One after the other: nothing may be called while an error is set. */
    return state->generator_type && (state->int_block = add_type(module, &block_spec))
                   && (state->totals = add_type(module, &totals_spec))
                   && (state->groups = add_type(module, &groups_spec))
                   && (state->record_fold = add_type(module, &fold_spec))
                   && !PyModule_AddIntConstant(module, "INTERFACE", INTERFACE)
                   && !PyModule_AddIntConstant(module, "ENDED", ENDED)
                   && !PyModule_AddIntConstant(module, "FULL", FULL)
                   && !PyModule_AddIntConstant(module, "HANDED_BACK", HANDED_BACK)
               ? 0
               : -1;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    ModuleState *state = PyModule_GetState(module);
    Py_VISIT(state->int_block);
    Py_VISIT(state->totals);
    Py_VISIT(state->groups);
    Py_VISIT(state->record_fold);
    Py_VISIT(state->generator_type);
    return 0;
}

static int module_clear(PyObject *module)
{
    ModuleState *state = PyModule_GetState(module);
    Py_CLEAR(state->int_block);
    Py_CLEAR(state->totals);
    Py_CLEAR(state->groups);
    Py_CLEAR(state->record_fold);
    Py_CLEAR(state->generator_type);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT, "redismr.native._totals", NULL, sizeof(ModuleState), module_methods,
    module_slots, module_traverse, module_clear, NULL,
};

PyMODINIT_FUNC PyInit__totals(void)
{
    return PyModuleDef_Init(&module_def);
}
