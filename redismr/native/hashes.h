/* Two hashes of key bytes: CRC-32 chooses the partition, a keyed hash the slot in a table. */

#ifndef REDISMR_HASHES_H
#define REDISMR_HASHES_H

#include <stdint.h>
#include <string.h>

/* CRC-32 as zlib computes it, eight bytes at a time. The table is filled once, when the module is
   loaded, and only read afterwards. */
static uint32_t crc_table[8][256];

static void fill_crc_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? 0xEDB88320u ^ (crc >> 1) : crc >> 1;
        crc_table[0][byte] = crc;
    }
    for (int row = 1; row < 8; row++)
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t crc = crc_table[row - 1][byte];
            crc_table[row][byte] = crc_table[0][crc & 255] ^ (crc >> 8);
        }
}

static uint32_t load_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ``start`` is the CRC-32 of what came before, 0 at first. */
static uint32_t crc32_of(uint32_t start, const uint8_t *p, size_t size)
{
    uint32_t crc = ~start;
    for (; size >= 8; p += 8, size -= 8) {
        uint32_t low = load_le32(p) ^ crc, high = load_le32(p + 4);
        crc = crc_table[7][low & 255] ^ crc_table[6][(low >> 8) & 255]
            ^ crc_table[5][(low >> 16) & 255] ^ crc_table[4][low >> 24]
            ^ crc_table[3][high & 255] ^ crc_table[2][(high >> 8) & 255]
            ^ crc_table[1][(high >> 16) & 255] ^ crc_table[0][high >> 24];
    }
    while (size--)
        crc = crc_table[0][(crc ^ *p++) & 255] ^ (crc >> 8);
    return ~crc;
}

/* The stable hash of an int, as engine/value_hashes.py defines it: a CRC-32 of Python's own hash,
   which is the int modulo a Mersenne prime where pointers have 64 bits. */
static uint32_t stable_int_hash(int64_t number)
{
    const uint64_t modulus = ((uint64_t)1 << 61) - 1;
    uint64_t size = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    int64_t hash = (int64_t)(size % modulus);
    if (number < 0)
        hash = -hash;
    if (hash == -1)
        hash = -2;
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)hash >> (8 * i));
    return crc32_of(2, bytes, sizeof bytes);
}

/* The folded multiplication of wyhash (Wang Yi, public domain), keyed by two secrets of this
   process: without them nobody can choose keys that share a slot. */
typedef struct {
    uint64_t first, second;
} HashKey;

static uint64_t fold_product(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t a_high = a >> 32, a_low = (uint32_t)a, b_high = b >> 32, b_low = (uint32_t)b;
    uint64_t low = a_low * b_low, middle = a_high * b_low + (low >> 32);
    uint64_t middle2 = a_low * b_high + (uint32_t)middle;
    uint64_t high = a_high * b_high + (middle >> 32) + (middle2 >> 32);
    return (middle2 << 32 | (uint32_t)low) ^ high;
#endif
}

static uint32_t keyed_hash(HashKey key, const uint8_t *p, size_t size)
{
    uint64_t state = key.first ^ size, a = 0, b = 0;
    for (; size > 16; p += 16, size -= 16) {
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        state = fold_product(a ^ key.second, b ^ state);
    }
    if (size >= 8) {
        memcpy(&a, p, 8);
        memcpy(&b, p + size - 8, 8);
    } else if (size >= 4) {
        uint32_t low, high;
        memcpy(&low, p, 4);
        memcpy(&high, p + size - 4, 4);
        a = low;
        b = high;
    } else if (size > 0) {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[size >> 1] << 8 | p[size - 1];
        b = 0;
    } else {
        a = b = 0;
    }
    uint64_t hash = fold_product(a ^ key.second, b ^ state);
    return (uint32_t)(hash ^ hash >> 32);
}

#endif
