/* onnx.c - the wire format, written. */
#include "formats/onnx.h"

#include <stdlib.h>
#include <string.h>

enum { VARINT = 0, LENGTH = 2, FIXED32 = 5 };
enum { VARINT_MOST = 10 };

/* Room for n more bytes; NULL where there is none. */
static unsigned char *more(struct onnx_out *o, size_t n)
{
    if (n > SIZE_MAX / 4 - o->size)
        o->failed = true;
    if (!o->failed && o->size + n > o->room) {
        const size_t room = 2 * (o->size + n) > 4096 ? 2 * (o->size + n) : 4096;
        unsigned char *data = realloc(o->data, room);
        if (data)
            o->data = data, o->room = room;
        else
            o->failed = true;
    }
    return o->failed ? NULL : o->data + o->size;
}

static size_t varint(unsigned char to[VARINT_MOST], uint64_t v)
{
    size_t n = 0;
    for (; v > 0x7f; v >>= 7)
        to[n++] = (unsigned char)(v | 0x80);
    to[n++] = (unsigned char)v;
    return n;
}

static void put(struct onnx_out *o, const void *bytes, size_t n)
{
    unsigned char *to = more(o, n);
    if (to && n)
        memcpy(to, bytes, n);
    o->size += to ? n : 0;
}

static void put_varint(struct onnx_out *o, uint64_t v)
{
    unsigned char b[VARINT_MOST];
    put(o, b, varint(b, v));
}

static void tag(struct onnx_out *o, int field, int kind)
{
    put_varint(o, (uint64_t)field << 3 | (unsigned)kind);
}

void onnx_int(struct onnx_out *o, int field, int64_t v)
{
    tag(o, field, VARINT);
    put_varint(o, (uint64_t)v);
}

void onnx_float(struct onnx_out *o, int field, float v)
{
    tag(o, field, FIXED32);
    put(o, &v, sizeof v);
}

void onnx_bytes(struct onnx_out *o, int field, const void *bytes, size_t n)
{
    tag(o, field, LENGTH);
    put_varint(o, n);
    put(o, bytes, n);
}

void onnx_text(struct onnx_out *o, int field, const char *text)
{
    onnx_bytes(o, field, text, strlen(text));
}

void onnx_pair(struct onnx_out *o, int field, const char *key, const char *value)
{
    const size_t at = onnx_begin(o, field);
    onnx_text(o, ONNX_PAIR_KEY, key);
    onnx_text(o, ONNX_PAIR_VALUE, value);
    onnx_end(o, at);
}

size_t onnx_begin(struct onnx_out *o, int field)
{
    tag(o, field, LENGTH);
    return o->size;
}

/* Its length goes before it, now that it is known. */
void onnx_end(struct onnx_out *o, size_t begun)
{
    unsigned char b[VARINT_MOST];
    const size_t n = o->size - begun, k = varint(b, n);
    if (!more(o, k))
        return;
    memmove(o->data + begun + k, o->data + begun, n);
    memcpy(o->data + begun, b, k);
    o->size += k;
}

void onnx_append(struct onnx_out *o, const struct onnx_out *from)
{
    o->failed |= from->failed;
    put(o, from->data, from->size);
}
