/* A list of ints as the pickle that Python's own pickler writes, byte for byte (protocol 5). */

#ifndef REDISMR_INT_PICKLE_H
#define REDISMR_INT_PICKLE_H

#include <stdint.h>
#include <string.h>

/* Opcodes and sizes of pickle, as in Lib/pickle.py and PEP 3154 (frames). */
enum {
    OP_PROTO = 0x80, OP_FRAME = 0x95, OP_EMPTY_LIST = ']', OP_MEMOIZE = 0x94, OP_MARK = '(',
    OP_APPEND = 'a', OP_APPENDS = 'e', OP_STOP = '.', OP_INT1 = 'K', OP_INT2 = 'M', OP_INT4 = 'J',
    OP_LONG1 = 0x8a,
};
#define PICKLE_PROTOCOL 5
#define PICKLE_BATCH 1000
#define FRAME_HEADER 9
#define FRAME_TARGET (64 * 1024)
#define FRAME_MINIMUM 4
#define MAX_INT_BYTES 10
#define MEMO_FREE_FROM 5 /* core/codec.py pickles shorter columns with the memo */

typedef struct {
    uint8_t *at, *frame; /* frame: where the header of the open frame goes; NULL if none is open */
} PickleWriter;

static void put_le(uint8_t *p, uint64_t number, int bytes)
{
    for (int i = 0; i < bytes; i++, number >>= 8)
        p[i] = (uint8_t)number;
}

static void close_frame(PickleWriter *writer)
{
    if (!writer->frame)
        return;
    size_t size = (size_t)(writer->at - writer->frame) - FRAME_HEADER;
    if (size >= FRAME_MINIMUM) {
        *writer->frame = OP_FRAME;
        put_le(writer->frame + 1, size, 8);
    } else {
        memmove(writer->frame, writer->frame + FRAME_HEADER, size);
        writer->at -= FRAME_HEADER;
    }
    writer->frame = NULL;
}

static inline void open_frame(PickleWriter *writer)
{
    if (!writer->frame) {
        writer->frame = writer->at;
        writer->at += FRAME_HEADER;
    }
}

static inline void put_opcode(PickleWriter *writer, uint8_t opcode)
{
    open_frame(writer);
    *writer->at++ = opcode;
}

static inline void put_int(PickleWriter *writer, int64_t number)
{
    if (writer->frame && writer->at - writer->frame - FRAME_HEADER >= FRAME_TARGET)
        close_frame(writer);
    open_frame(writer);
    uint8_t *p = writer->at;
    if (number >= 0 && number < 1 << 8) {
        p[0] = OP_INT1;
        p[1] = (uint8_t)number;
        writer->at += 2;
    } else if (number >= 0 && number < 1 << 16) {
        p[0] = OP_INT2;
        put_le(p + 1, (uint64_t)number, 2);
        writer->at += 3;
    } else if (number >= INT32_MIN && number <= INT32_MAX) {
        p[0] = OP_INT4;
        put_le(p + 1, (uint64_t)number, 4);
        writer->at += 5;
    } else {
        int bytes = 8; /* as few as keep the sign: at least 5 here */
        while (bytes > 5) {
            int64_t without_top = number >> (8 * bytes - 9);
            if (without_top != 0 && without_top != -1)
                break;
            bytes--;
        }
        p[0] = OP_LONG1;
        p[1] = (uint8_t)bytes;
        put_le(p + 2, (uint64_t)number, bytes);
        writer->at += 2 + bytes;
    }
}

/* Return how many bytes ``write_ints`` writes at most. */
static size_t pickle_bound(size_t count)
{
    size_t bytes = count * MAX_INT_BYTES + 2 * (count / PICKLE_BATCH + 1) + 8;
    return bytes + FRAME_HEADER * (bytes / FRAME_TARGET + 2);
}

/* Write the list at ``p``, which has room for ``pickle_bound`` bytes; return its end. */
static uint8_t *write_ints(uint8_t *p, const int64_t *numbers, size_t count)
{
    *p++ = OP_PROTO;
    *p++ = PICKLE_PROTOCOL;
    PickleWriter writer = {p, NULL};
    put_opcode(&writer, OP_EMPTY_LIST);
    if (count < MEMO_FREE_FROM)
        put_opcode(&writer, OP_MEMOIZE);
    if (count == 1) {
        put_int(&writer, numbers[0]);
        put_opcode(&writer, OP_APPEND);
    } else {
        for (size_t i = 0; i < count;) {
            put_opcode(&writer, OP_MARK);
            size_t stop = count - i > PICKLE_BATCH ? i + PICKLE_BATCH : count;
            for (; i < stop; i++)
                put_int(&writer, numbers[i]);
            put_opcode(&writer, OP_APPENDS);
        }
    }
    put_opcode(&writer, OP_STOP);
    close_frame(&writer);
    return writer.at;
}

/* Read a pickled list of at most ``room`` ints from ``p`` to ``end``. Return their number, or 0 if it
   is anything else, is empty, or has ints of more than 64 bits: the caller asks Python then. */
static size_t read_ints(const uint8_t *p, const uint8_t *end, int64_t *numbers, size_t room)
{
    size_t read = 0, appended = 0; /* ints read; those of them that the list has */
    int in_batch = 0, has_list = 0;
    const uint8_t *frame_end = NULL; /* of the open frame, if any */
    if (end - p < 2 || p[0] != OP_PROTO || p[1] < 2 || p[1] > PICKLE_PROTOCOL)
        return 0;
    for (p += 2; p < end;) {
        if (frame_end && p >= frame_end) {
            if (p > frame_end) /* Python before 3.14 reads over the end of a frame */
                return 0;
            frame_end = NULL;
        }
        size_t left = (size_t)(end - p) - 1;
        uint8_t opcode = *p++;
        int bytes = opcode == OP_INT1 ? 1 : opcode == OP_INT2 ? 2 : opcode == OP_INT4 ? 4 : 0;
        if (opcode == OP_LONG1) {
            if (!left)
                return 0;
            bytes = *p++;
            left--;
            if (bytes < 1 || bytes > 8)
                return 0;
        }
        if (bytes) {
            if (!has_list || left < (size_t)bytes || read == room || (!in_batch && read > appended))
                return 0;
            uint64_t number = 0;
            for (int i = 0; i < bytes; i++)
                number |= (uint64_t)p[i] << (8 * i);
            if ((opcode == OP_INT4 || opcode == OP_LONG1) && bytes < 8 && p[bytes - 1] & 0x80)
                number |= ~(uint64_t)0 << (8 * bytes);
            numbers[read++] = (int64_t)number;
            p += bytes;
            continue;
        }
        switch (opcode) {
        case OP_FRAME: {
            uint64_t size = 0;
            if (left < 8 || frame_end)
                return 0;
            for (int i = 0; i < 8; i++)
                size |= (uint64_t)p[i] << (8 * i);
            p += 8;
            if (size > left - 8)
                return 0;
            frame_end = p + size;
            break;
        }
        case OP_EMPTY_LIST:
            if (has_list)
                return 0;
            has_list = 1;
            if (p < end && *p == OP_MEMOIZE)
                p++;
            break;
        case OP_MARK:
            if (!has_list || in_batch || read > appended)
                return 0;
            in_batch = 1;
            break;
        case OP_APPENDS:
            if (!in_batch)
                return 0;
            in_batch = 0;
            appended = read;
            break;
        case OP_APPEND:
            if (in_batch || read != appended + 1)
                return 0;
            appended = read;
            break;
        case OP_STOP:
            return has_list && !in_batch && read == appended && p == end
                           && (!frame_end || p == frame_end)
                       ? read
                       : 0;
        default:
            return 0;
        }
    }
    return 0;
}

#endif
