/* bf16_mk.h - the product under every convolution in bfloat16: tiles of up to 16 rows by units of
 * 16 columns,
 *
 *   c[row][column] = sum over steps, over 32 terms of each, of a[row][step, term] * b[...]
 *
 * A row of `a` begins anywhere, and each step's terms lie side by side at a place that is the same
 * for all rows: so the taps of a convolution are read where they lie. Weights are pairs of terms,
 * as tiles of AMX want them and vdpbf16ps does: b[step][unit][pair][column][2]. The order of a sum
 * is that of steps, and in them of pairs. */
#ifndef BF16_MK_H
#define BF16_MK_H

#include "lib/kernels/simd/vec.h"

#define MK16_STEP 32                             /* terms */
#define MK16_UNIT 16                             /* columns */
#define MK16_PANEL (32 * 16)                     /* weights of a step and unit */
#define MK16_TILES(units) ((units) == 2 ? 2 : 4) /* that are worked on together */

#if defined KR_LEVEL_amx
#define MK16_ROWS 16 /* of a tile, at most */
#elif defined KR_LEVEL_avx512
#define MK16_ROWS 8
#elif defined KR_LEVEL_avx2 || defined __ARM_NEON
#define MK16_ROWS 4
#else
#define MK16_ROWS 2
#endif

struct mk16 {
    int steps, rows, units; /* rows of a tile, the same in all; units 1 or 2 */
    const uint32_t *at;     /* of each step: bytes from where a row begins */
    size_t stride;          /* bytes from a row to the next */
    const char *a[4]; /* where tiles begin; tiles beyond those that there are are any others */
    const uint16_t *b;
    float *c; /* of tile i and row t, units * 16 floats at c + (i * 16 + t) * units * 16 */
};

#if defined KR_LEVEL_amx

/* What was stored there, and elsewhere, is in memory: GCC's intrinsics that load tiles and their
 * shapes do not tell it that they read. */
INLINE void mk16_stored(const void *p)
{
    __asm__ volatile("" : : "r"(p) : "memory");
}

/* Tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 weights, for products of so many rows. */
INLINE void mk16_begin(int rows)
{
    struct {
        uint8_t palette, start, zero[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } c = {.palette = 1};
    for (int i = 0; i < 8; i++)
        c.bytes[i] = 64, c.rows[i] = (uint8_t)rows;
    c.rows[6] = c.rows[7] = 16;
    mk16_stored(&c);
    _tile_loadconfig(&c);
}

INLINE void mk16_end(void)
{
    _tile_release();
}

INLINE void mk16_two(const struct mk16 *m)
{
    const char *b = (const char *)m->b, *a0 = m->a[0], *a1 = m->a[1];
    const size_t stride = m->stride;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < m->steps; k++, b += 2048) {
        const size_t at = m->at[k];
        _tile_loadd(6, b, 64);
        _tile_loadd(4, a0 + at, stride);
        _tile_loadd(7, b + 1024, 64);
        _tile_loadd(5, a1 + at, stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, m->c, 128);
    _tile_stored(1, m->c + 16, 128);
    _tile_stored(2, m->c + 512, 128);
    _tile_stored(3, m->c + 528, 128);
}

INLINE void mk16_one(const struct mk16 *m)
{
    const char *b = (const char *)m->b;
    const size_t stride = m->stride;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < m->steps; k++, b += 1024) {
        const size_t at = m->at[k];
        _tile_loadd(7, b, 64);
        _tile_loadd(4, m->a[0] + at, stride);
        _tile_dpbf16ps(0, 4, 7);
        _tile_loadd(5, m->a[1] + at, stride);
        _tile_dpbf16ps(1, 5, 7);
        _tile_loadd(4, m->a[2] + at, stride);
        _tile_dpbf16ps(2, 4, 7);
        _tile_loadd(5, m->a[3] + at, stride);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, m->c, 64);
    _tile_stored(1, m->c + 256, 64);
    _tile_stored(2, m->c + 512, 64);
    _tile_stored(3, m->c + 768, 64);
}

INLINE void mk16_run(const struct mk16 *m)
{
    mk16_stored(m->b);
    if (m->units == 2)
        mk16_two(m);
    else
        mk16_one(m);
}

#else

INLINE void mk16_begin(int rows)
{
    (void)rows;
}

INLINE void mk16_end(void)
{
}

INLINE uint32_t mk16_pair(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* sum += a[0] * b[0] + a[1] * b[1] in each lane: a pair of b in each, `a` the same pair in all. */
INLINE vf mk16_dot(vf sum, uint32_t a, const uint16_t *b)
{
#if defined KR_LEVEL_avx512bf16
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(b),
                            (__m512bh)_mm512_set1_epi32((int)a));
#else
    typedef vu vu_mem __attribute__((aligned(4), may_alias));
    const vu pairs = *(const vu_mem *)b;
    const vu low = (vu){0} + (a << 16), high = (vu){0} + (a & 0xffff0000);
    sum = vfma((vf)low, (vf)(pairs << 16), sum);
    return vfma((vf)high, (vf)(pairs & 0xffff0000), sum);
#endif
}

INLINE void mk16_tile(const struct mk16 *m, int tile, const int units)
{
    enum { V = MK16_UNIT / VL };
    vf sum[MK16_ROWS][2 * V];
    const char *p[MK16_ROWS];
    const uint16_t *b = m->b;
    for (int t = 0; t < MK16_ROWS; t++)
        for (int j = 0; j < units * V; j++)
            sum[t][j] = (vf){0};
    for (int k = 0; k < m->steps; k++, b += units * MK16_PANEL) {
        UNROLL(8)
        for (int t = 0; t < MK16_ROWS; t++)
            p[t] = m->a[tile] + m->at[k] + (size_t)t * m->stride;
        for (size_t i = 0; i < MK16_STEP / 2; i++) {
            UNROLL(8)
            for (int t = 0; t < MK16_ROWS; t++) {
                const uint32_t a = mk16_pair(p[t] + 4 * i);
                UNROLL(8)
                for (int j = 0; j < units * V; j++)
                    sum[t][j] = mk16_dot(sum[t][j], a,
                                         b + (size_t)(j / V) * MK16_PANEL + 32 * i +
                                             (size_t)(j % V) * 2 * VL);
            }
        }
    }
    float *c = m->c + (size_t)(tile * 16 * units * MK16_UNIT);
    for (int t = 0; t < MK16_ROWS; t++)
        for (int j = 0; j < units * V; j++)
            vstore(c + t * units * MK16_UNIT + j * VL, sum[t][j]);
}

INLINE void mk16_run(const struct mk16 *m)
{
    for (int i = 0; i < MK16_TILES(m->units); i++)
        if (m->units == 2)
            mk16_tile(m, i, 2);
        else
            mk16_tile(m, i, 1);
}

#endif
#endif
