/* Encodings of payloads (tns.md, 6.4): to fewer bytes and back. */
#include "formats/tns.h"
#include "formats/tns_impl.h"

#include <stdlib.h>
#include <zstd.h>

/* Halves that are converted at once. */
enum { PIECE = 1024 };

static bool make_room(unsigned char **p, size_t *room, size_t n)
{
    if (n <= *room)
        return true;
    free(*p);
    *p = malloc(n);
    *room = *p ? n : 0;
    return *p != NULL;
}

/* Of n elements the first bytes, the second ones, and so on. */
static void split(const unsigned char *from, unsigned char *to, size_t n, size_t width)
{
    for (size_t k = 0; k < width; k++)
        for (size_t i = 0; i < n; i++)
            to[k * n + i] = from[i * width + k];
}

static void join(const unsigned char *from, unsigned char *to, size_t n, size_t width)
{
    if (width == 2) { /* the usual ones, in a way that compilers make vectors of */
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            to[2 * i] = from[i];
            to[2 * i + 1] = from[n + i];
        }
    } else if (width == 4) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            to[4 * i] = from[i];
            to[4 * i + 1] = from[n + i];
            to[4 * i + 2] = from[2 * n + i];
            to[4 * i + 3] = from[3 * n + i];
        }
    } else {
        for (size_t k = 0; k < width; k++)
            for (size_t i = 0; i < n; i++)
                to[i * width + k] = from[k * n + i];
    }
}

/* --- back ------------------------------------------------------------------------------------ */

static void widen(const unsigned char *from, float *to, size_t n, bool planes)
{
    uint16_t half[PIECE];
    const struct tensor t = {.dtype = DT_F16, .rank = 1, .dim = {PIECE}, .data = half};
    for (size_t i = 0, m; i < n; i += m) {
        m = n - i < PIECE ? n - i : PIECE;
        if (planes)
            for (size_t k = 0; k < m; k++)
                half[k] = (uint16_t)(from[i + k] | from[n + i + k] << 8);
        else
            memcpy(half, from + 2 * i, 2 * m);
        tensor_to_f32(&t, 0, m, to + i);
    }
}

int tns_unpack(struct tns_unpacker *u, const struct tensor *t, int how, size_t stored, void *to)
{
    const size_t n = tensor_count(t), width = how & TNS_HALF ? 2 : dtype_size(t->dtype);
    unsigned char *out = to;
    if (ZSTD_getFrameContentSize(u->stored, stored) != n * width ||
        ZSTD_findFrameCompressedSize(u->stored, stored) != stored)
        return TNS_ECORRUPT;
    if (!u->zstd && !(u->zstd = ZSTD_createDCtx()))
        return TNS_ENOMEM;
    if (how != TNS_ZSTD) {
        if (!make_room(&u->parts, &u->parts_room, n * width))
            return TNS_ENOMEM;
        out = u->parts;
    }
    if (ZSTD_decompressDCtx(u->zstd, out, n * width, u->stored, stored) != n * width)
        return TNS_ECORRUPT;
    if (how & TNS_HALF)
        widen(out, to, n, how & TNS_PLANES);
    else if (how & TNS_PLANES)
        join(out, to, n, width);
    return 0;
}

void tns_unpacker_free(struct tns_unpacker *u)
{
    ZSTD_freeDCtx(u->zstd);
    free(u->stored);
    free(u->parts);
}

/* --- there ------------------------------------------------------------------------------------ */

struct tns_packer {
    int level;
    ZSTD_CCtx *zstd;
    unsigned char *half, *parts, *frame[2];
    size_t half_room, parts_room, frame_room[2];
};

struct tns_packer *tns_packer_new(int level)
{
    struct tns_packer *p = calloc(1, sizeof *p);
    if (!p || !(p->zstd = ZSTD_createCCtx())) {
        free(p);
        return NULL;
    }
    p->level = level;
    return p;
}

void tns_packer_free(struct tns_packer *p)
{
    if (!p)
        return;
    ZSTD_freeCCtx(p->zstd);
    free(p->half);
    free(p->parts);
    free(p->frame[0]);
    free(p->frame[1]);
    free(p);
}

/* The values as halves, if all of them are, to the bit. */
static bool narrow(const struct tensor *t, uint16_t *half, size_t n)
{
    const float *v = t->data;
    for (size_t i = 0; i < n; i++) {
        half[i] = f32_to_f16(v[i]);
        const float back = f16_to_f32(half[i]);
        if (memcmp(&back, v + i, sizeof back))
            return false;
    }
    return true;
}

/* A frame of n bytes; its length, or 0. */
static size_t squeeze(struct tns_packer *p, int which, const void *from, size_t n)
{
    const size_t room = ZSTD_compressBound(n);
    if (!make_room(&p->frame[which], &p->frame_room[which], room))
        return 0;
    const size_t got = ZSTD_compressCCtx(p->zstd, p->frame[which], room, from, n, p->level);
    return ZSTD_isError(got) ? 0 : got;
}

int tns_pack(struct tns_packer *p, const struct tensor *t, const void **stored, size_t *bytes)
{
    const size_t n = tensor_count(t), full = tensor_bytes(t);
    size_t width = dtype_size(t->dtype);
    const void *from = t->data;
    int how = TNS_ZSTD;
    if (t->dtype == DT_F32) {
        if (!make_room(&p->half, &p->half_room, 2 * n))
            return TNS_ENOMEM;
        if (narrow(t, (uint16_t *)(void *)p->half, n))
            from = p->half, width = 2, how |= TNS_HALF;
    }
    const size_t plain = squeeze(p, 0, from, n * width);
    if (!plain)
        return TNS_ENOMEM;
    *stored = p->frame[0];
    *bytes = plain;
    if (width > 1) {
        if (!make_room(&p->parts, &p->parts_room, n * width))
            return TNS_ENOMEM;
        split(from, p->parts, n, width);
        const size_t parted = squeeze(p, 1, p->parts, n * width);
        if (!parted)
            return TNS_ENOMEM;
        if (parted < plain) {
            *stored = p->frame[1];
            *bytes = parted;
            how |= TNS_PLANES;
        }
    }
    return tns_padded(*bytes) < tns_padded(full) ? how : 0;
}
