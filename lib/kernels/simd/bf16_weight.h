/* bf16_weight.h - what gradients of weights by AMX share: maps rounded to bfloat16 and laid out for
 * sums over pixels, and products of tiles.
 *
 * Tiles are 16 rows of 32 halves (pixels), by 16 rows of 16 pairs of pixels: the first operand lies
 * turned, pixels of a channel side by side; the second in pairs of pixels, 16 channels of each. */
#ifndef BF16_WEIGHT_H
#define BF16_WEIGHT_H

#include "lib/kernels/simd/bf16_mk.h"
#include "lib/kernels/simd/conv3x3.h"

#ifdef KR_LEVEL_amx

#define RUN 32 /* pixels turned together */

/* Lane i: a's i rounded to bfloat16 in the low half, b's in the high one. */
INLINE vf pair_of(vf a, vf b)
{
    const __m512i by = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                        8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i t = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    return (vf)_mm512_permutexvar_epi16(by, t);
}

/* A value, and RUN pixels ahead what will be read then: a block of channels of so many pixels lies
 * in between, and its products. */
INLINE vf read_ahead(const struct reader *r, const enum reading how, size_t i, size_t cp)
{
    const bool half = how == READ_BF16 || how == READ_BF16_LEAKY;
    const size_t then = (i + RUN * cp) * (half ? sizeof(uint16_t) : sizeof(float));
    __builtin_prefetch((const char *)r->from + then);
    if (how == READ_BEHIND)
        __builtin_prefetch((const char *)r->behind + then);
    return read_value(r, how, i);
}

/* `count` pixels of 16 channels, `cp` values apart from number i on, as pairs: lane c has channel c
 * of pixel 2p in its low half and of 2p + 1 in its high one. */
INLINE void read_pairs(const struct reader *r, const enum reading how, size_t i, size_t cp,
                       int count, vf pair[16])
{
    UNROLL(16)
    for (int p = 0; p < 16; p++) {
        vf a = {0}, b = {0};
        if (2 * p < count)
            a = read_ahead(r, how, i + (size_t)(2 * p) * cp, cp);
        if (2 * p + 1 < count)
            b = read_ahead(r, how, i + (size_t)(2 * p + 1) * cp, cp);
        pair[p] = pair_of(a, b);
    }
}

/* `count` pixels, 32 at most, of 16 channels, turned: channel c's from to[c * ld] on. */
INLINE void turn_pixels(const struct reader *r, const enum reading how, size_t i, size_t cp,
                        int count, uint16_t *to, size_t ld)
{
    vf pair[16];
    if (count == RUN)
        read_pairs(r, how, i, cp, RUN, pair);
    else
        read_pairs(r, how, i, cp, count, pair);
    vtranspose(pair);
    UNROLL(16)
    for (int c = 0; c < 16; c++)
        memcpy(to + (size_t)c * ld, &pair[c], sizeof *pair);
}

#define EACH_READING(f, how, ...)                                                                  \
    switch (how) {                                                                                 \
    case READ_PLAIN:                                                                               \
        f(r, READ_PLAIN, __VA_ARGS__);                                                             \
        break;                                                                                     \
    case READ_AFFINE:                                                                              \
        f(r, READ_AFFINE, __VA_ARGS__);                                                            \
        break;                                                                                     \
    case READ_LEAKY:                                                                               \
        f(r, READ_LEAKY, __VA_ARGS__);                                                             \
        break;                                                                                     \
    case READ_BF16:                                                                                \
        f(r, READ_BF16, __VA_ARGS__);                                                              \
        break;                                                                                     \
    case READ_BF16_LEAKY:                                                                          \
        f(r, READ_BF16_LEAKY, __VA_ARGS__);                                                        \
        break;                                                                                     \
    case READ_BEHIND:                                                                              \
        f(r, READ_BEHIND, __VA_ARGS__);                                                            \
        break;                                                                                     \
    }

static __attribute__((unused)) void turn(const struct reader *r, enum reading how, size_t i,
                                         size_t cp, int count, uint16_t *to, size_t ld){
    EACH_READING(turn_pixels, how, i, cp, count, to, ld)}

/* Sums of 16 rows by 16 columns are 256 floats. */
#define TILE_BEGIN(t, at)                                                                          \
    do {                                                                                           \
        if (first)                                                                                 \
            _tile_zero(t);                                                                         \
        else                                                                                       \
            _tile_loadd(t, at, 64);                                                                \
    } while (0)

/* 32 rows, `ld` halves apart, by 32 columns of which the second half begins `group` halves behind;
 * sums of the second half of the columns 256 floats behind, those of the rows `second`. */
INLINE void tiles_square(const uint16_t *a, size_t ld, const uint16_t *b, size_t group, int steps,
                         float *u, size_t second, bool first)
{
    TILE_BEGIN(0, u);
    TILE_BEGIN(1, u + 256);
    TILE_BEGIN(2, u + second);
    TILE_BEGIN(3, u + second + 256);
    const uint16_t *a1 = a + 16 * ld, *b1 = b + group;
    for (int k = 0; k < steps; k++, a += 32, a1 += 32, b += 512, b1 += 512) {
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a, ld * sizeof *a);
        _tile_loadd(7, b1, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, a1, ld * sizeof *a);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, u, 64);
    _tile_stored(1, u + 256, 64);
    _tile_stored(2, u + second, 64);
    _tile_stored(3, u + second + 256, 64);
}

#endif

/* In bf16_upweight.c, where the level has tiles: of a transposed convolution of at most eight
 * phases. */
size_t KR_NAME(kr_bf16_upweight_workspace)(const struct kr_upconv *);
void KR_NAME(kr_bf16_upweight)(const struct kr_upconv *, const float *dy, float *dw, float *dbias,
                               void *workspace);

#endif
