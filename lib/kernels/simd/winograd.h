/* winograd.h - the transforms of F(4x4,3x3) and F(6x6,3x3) (Lavin & Gray, arXiv:1509.09308), points
 * 0, +-1, +-2, inf and for the larger +-1/2 too, and the way between weights as files hold them and
 * vectors of VL channels. M is the side of a tile of results, M + 2 that of its operands. */
#ifndef WINOGRAD_H
#define WINOGRAD_H

#include "lib/kernels/simd/mk.h"
#include "lib/kernels/simd/tiles.h"

/* c + a * b and c - a * b, a constant. */
INLINE vf plus(vf c, float a, vf b)
{
    return vfma(vset(a), b, c);
}

INLINE vf minus(vf c, float a, vf b)
{
    return vfnma(vset(a), b, c);
}

/* B^T d: M + 2 values to as many. */
INLINE void bt(const int M, const vf d[], vf o[])
{
    if (M == 4) {
        vf a = minus(d[4], 4, d[2]), b = minus(d[3], 4, d[1]);
        vf e = d[4] - d[2], f = d[3] - d[1];
        o[0] = plus(minus(d[4], 5, d[2]), 4, d[0]);
        o[1] = a + b;
        o[2] = a - b;
        o[3] = plus(e, 2, f);
        o[4] = minus(e, 2, f);
        o[5] = plus(minus(d[5], 5, d[3]), 4, d[1]);
    } else {
        vf a = minus(d[2] + d[6], 4.25f, d[4]), b = minus(d[1] + d[5], 4.25f, d[3]);
        vf c = plus(minus(d[6], 1.25f, d[4]), 0.25f, d[2]), g = -2.5f * d[3];
        vf e = plus(plus(g, 0.5f, d[1]), 2, d[5]), h = plus(plus(g, 2, d[1]), 0.5f, d[5]);
        vf f = plus(minus(d[6], 5, d[4]), 4, d[2]);
        o[0] = plus(d[0] - d[6], 5.25f, d[4] - d[2]);
        o[1] = a + b;
        o[2] = a - b;
        o[3] = c + e;
        o[4] = c - e;
        o[5] = f + h;
        o[6] = f - h;
        o[7] = plus(d[7] - d[1], 5.25f, d[3] - d[5]);
    }
}

/* A^T m: M + 2 to M. */
INLINE void at(const int M, const vf m[], vf o[])
{
    vf a = m[1] + m[2], b = m[1] - m[2], e = m[3] + m[4], f = m[3] - m[4];
    if (M == 4) {
        o[0] = m[0] + (a + e);
        o[1] = plus(b, 2, f);
        o[2] = plus(a, 4, e);
        o[3] = plus(b, 8, f) + m[5];
    } else {
        vf h = m[5] + m[6], k = m[5] - m[6];
        o[0] = (m[0] + a) + (e + h);
        o[1] = plus(plus(b, 0.5f, k), 2, f);
        o[2] = plus(plus(a, 0.25f, h), 4, e);
        o[3] = plus(plus(b, 0.125f, k), 8, f);
        o[4] = plus(plus(a, 0.0625f, h), 16, e);
        o[5] = plus(plus(b, 0.03125f, k), 32, f) + m[7];
    }
}

/* A y: M to M + 2, the transpose of at. */
INLINE void at_t(const int M, const vf y[], vf o[])
{
    if (M == 4) {
        vf a = y[0] + y[2], b = y[1] + y[3], e = plus(y[0], 4, y[2]), f = plus(2 * y[1], 8, y[3]);
        o[0] = y[0];
        o[1] = a + b;
        o[2] = a - b;
        o[3] = e + f;
        o[4] = e - f;
        o[5] = y[3];
    } else {
        vf a = y[0] + (y[2] + y[4]), b = y[1] + (y[3] + y[5]);
        vf e = plus(y[0], 4, plus(y[2], 4, y[4])), f = plus(2 * y[1], 8, plus(y[3], 4, y[5]));
        vf h = plus(y[0], 0.25f, plus(y[2], 0.25f, y[4]));
        vf k = plus(0.5f * y[1], 0.125f, plus(y[3], 0.25f, y[5]));
        o[0] = y[0];
        o[1] = a + b;
        o[2] = a - b;
        o[3] = e + f;
        o[4] = e - f;
        o[5] = h + k;
        o[6] = h - k;
        o[7] = y[5];
    }
}

/* G g: three to M + 2. */
INLINE void g3(const int M, vf g0, vf g1, vf g2, vf o[])
{
    if (M == 4) {
        vf a = (g0 + g2) * (-1.f / 6), c = plus(g2 * (1.f / 6), 1.f / 24, g0);
        o[0] = g0 * 0.25f;
        o[1] = minus(a, 1.f / 6, g1);
        o[2] = plus(a, 1.f / 6, g1);
        o[3] = plus(c, 1.f / 12, g1);
        o[4] = minus(c, 1.f / 12, g1);
        o[5] = g2;
    } else {
        vf a = (g0 + g2) * (-2.f / 9), c = plus(g2 * (2.f / 45), 1.f / 90, g0);
        vf e = plus(g2 * (8.f / 45), 32.f / 45, g0);
        o[0] = g0;
        o[1] = minus(a, 2.f / 9, g1);
        o[2] = plus(a, 2.f / 9, g1);
        o[3] = plus(c, 1.f / 45, g1);
        o[4] = minus(c, 1.f / 45, g1);
        o[5] = plus(e, 16.f / 45, g1);
        o[6] = minus(e, 16.f / 45, g1);
        o[7] = g2;
    }
}

/* G^T u: M + 2 to three. */
INLINE void g3_t(const int M, const vf u[], vf o[3])
{
    vf a = u[1] + u[2], b = u[2] - u[1], c = u[3] + u[4], d = u[3] - u[4];
    if (M == 4) {
        o[0] = plus(minus(u[0] * 0.25f, 1.f / 6, a), 1.f / 24, c);
        o[1] = plus(d * (1.f / 12), 1.f / 6, b);
        o[2] = plus(u[5], 1.f / 6, c - a);
    } else {
        vf e = u[5] + u[6], f = u[5] - u[6];
        o[0] = plus(plus(minus(u[0], 2.f / 9, a), 1.f / 90, c), 32.f / 45, e);
        o[1] = plus(plus(d * (1.f / 45), 2.f / 9, b), 16.f / 45, f);
        o[2] = plus(plus(minus(u[7], 2.f / 9, a), 2.f / 45, c), 8.f / 45, e);
    }
}

/* --- weights ---------------------------------------------------------------------------------- */

/* Four floats from each of p, p + stride, ... into the 128-bit lanes of a vector. */
INLINE vf lanes_load(const float *p, size_t stride)
{
#if defined KR_LEVEL_avx512
    vf v = _mm512_castps128_ps512(_mm_loadu_ps(p));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(p + stride), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 2 * stride), 2);
    return _mm512_insertf32x4(v, _mm_loadu_ps(p + 3 * stride), 3);
#elif defined KR_LEVEL_avx2
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + stride),
                                1);
#else
    (void)stride;
    return vload(p);
#endif
}

INLINE void lanes_store(float *p, size_t stride, vf v)
{
#if defined KR_LEVEL_avx512
    _mm_storeu_ps(p, _mm512_castps512_ps128(v));
    _mm_storeu_ps(p + stride, _mm512_extractf32x4_ps(v, 1));
    _mm_storeu_ps(p + 2 * stride, _mm512_extractf32x4_ps(v, 2));
    _mm_storeu_ps(p + 3 * stride, _mm512_extractf32x4_ps(v, 3));
#elif defined KR_LEVEL_avx2
    _mm_storeu_ps(p, _mm256_castps256_ps128(v));
    _mm_storeu_ps(p + stride, _mm256_extractf128_ps(v, 1));
#else
    (void)stride;
    vstore(p, v);
#endif
}

#if VL == 16
#define SHUFFLE4(a, b, i, j, k, l)                                                                 \
    __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4, i + 8, j + 8, k + 8,     \
                            l + 8, i + 12, j + 12, k + 12, l + 12)
#elif VL == 8
#define SHUFFLE4(a, b, i, j, k, l)                                                                 \
    __builtin_shufflevector(a, b, i, j, k, l, i + 4, j + 4, k + 4, l + 4)
#else
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#endif

/* Transposes the 4x4 matrices that lie in the 128-bit lanes of four vectors. */
INLINE void transpose4(vf v[4])
{
    vf a = SHUFFLE4(v[0], v[1], 0, VL, 1, VL + 1), b = SHUFFLE4(v[0], v[1], 2, VL + 2, 3, VL + 3);
    vf c = SHUFFLE4(v[2], v[3], 0, VL, 1, VL + 1), d = SHUFFLE4(v[2], v[3], 2, VL + 2, 3, VL + 3);
    v[0] = SHUFFLE4(a, c, 0, 1, VL, VL + 1);
    v[1] = SHUFFLE4(a, c, 2, 3, VL + 2, VL + 3);
    v[2] = SHUFFLE4(b, d, 0, 1, VL, VL + 1);
    v[3] = SHUFFLE4(b, d, 2, 3, VL + 2, VL + 3);
}

/* The nine taps of VL filters that lie `stride` apart; of `real` filters, if fewer, the rest
 * zero. */
INLINE void taps_load(const float *w, size_t stride, int real, vf g[9])
{
    if (real >= VL) {
        for (int k = 0; k < 3; k++) {
            vf v[4];
            /* Lane l of v[i] is filter 4l + i. The last four taps start at 5, so nothing past a
             * filter's end is read. */
            for (int i = 0; i < 4; i++)
                v[i] = lanes_load(w + (size_t)i * stride + (k < 2 ? 4 * k : 5), 4 * stride);
            transpose4(v);
            if (k < 2)
                memcpy(g + 4 * k, v, sizeof v);
            else
                g[8] = v[3];
        }
        return;
    }
    float tmp[9][VL] = {{0}};
    for (int l = 0; l < real; l++)
        for (int t = 0; t < 9; t++)
            tmp[t][l] = w[(size_t)l * stride + (size_t)t];
    for (int t = 0; t < 9; t++)
        g[t] = vload(tmp[t]);
}

INLINE void taps_store(float *w, size_t stride, int real, const vf g[9])
{
    if (real >= VL) {
        /* The last store's first three taps are overwritten by the second's. */
        for (int k = 2; k >= 0; k--) {
            vf v[4];
            memcpy(v, g + (k < 2 ? 4 * k : 5), sizeof v);
            transpose4(v);
            for (int i = 0; i < 4; i++)
                lanes_store(w + (size_t)i * stride + (k < 2 ? 4 * k : 5), 4 * stride, v[i]);
        }
        return;
    }
    float tmp[9][VL];
    for (int t = 0; t < 9; t++)
        vstore(tmp[t], g[t]);
    for (int l = 0; l < real; l++)
        for (int t = 0; t < 9; t++)
            w[(size_t)l * stride + (size_t)t] = tmp[t][l];
}

/* G g G^T of the filters of input channel i (real) to VL output channels from o on, to
 * u[p * ps], p < POINTS(M). */
INLINE void filter_transform(const int M, const struct filters *f, int i, int o, int real, float *u,
                             size_t ps)
{
    vf g[9], e[SIDE_MOST][3];
    taps_load(f->w + (size_t)o * f->so + (size_t)i * f->si, f->so, real, g);
    if (f->flip)
        for (int t = 0; t < 4; t++) {
            vf x = g[t];
            g[t] = g[8 - t];
            g[8 - t] = x;
        }
    for (int s = 0; s < 3; s++) {
        vf col[SIDE_MOST];
        g3(M, g[s], g[3 + s], g[6 + s], col);
        for (int a = 0; a < SIDE(M); a++)
            e[a][s] = col[a];
    }
    for (int a = 0; a < SIDE(M); a++) {
        vf row[SIDE_MOST];
        g3(M, e[a][0], e[a][1], e[a][2], row);
        vstore_row(SIDE(M), u, ps, row);
        u += SIDE(M) * ps;
        KEEP(u);
    }
}

/* --- values ----------------------------------------------------------------------------------- */

/* B^T d B of side x side values from index i on, `col` and `row` floats apart, to v[p * ps]. */
INLINE void input_core(const int M, const struct reader *r, const enum reading how, size_t i,
                       size_t col, size_t row, float *v, size_t ps)
{
    vf e[SIDE_MOST][SIDE_MOST];
    KEEP(i);
    UNROLL(8)
    for (int q = 0; q < SIDE(M); q++) {
        vf d[SIDE_MOST], o[SIDE_MOST];
        size_t j = i, k = i + 3 * row, l = i + 6 * row;
        KEEP(k);
        KEEP(l);
        UNROLL(8)
        for (int a = 0; a < SIDE(M); a++)
            d[a] = read_value(r, how, (a < 3 ? j : a < 6 ? k : l) + (size_t)(a % 3) * row);
        i += col;
        KEEP(i);
        bt(M, d, o);
        UNROLL(8)
        for (int a = 0; a < SIDE(M); a++)
            e[a][q] = o[a];
    }
    UNROLL(8)
    for (int a = 0; a < SIDE(M); a++) {
        vf o[SIDE_MOST];
        bt(M, e[a], o);
        vstore_row(SIDE(M), v, ps, o);
        v += SIDE(M) * ps;
        KEEP(v);
    }
}

/* The values of side x side pixels from (y, x) on, VL channels from c on, pixels of VL floats; zero
 * beyond the map: so that transforms at its border are those inside. */
static __attribute__((unused)) void read_patch(const struct reader *r, enum reading how,
                                               const struct tiling *g, int n, int y, int x,
                                               int side, size_t cp, int c, float *patch)
{
    int y0 = max_int(0, -y), y1 = min_int(side, g->h - y);
    int x0 = max_int(0, -x), x1 = min_int(side, g->w - x);
    memset(patch, 0, (size_t)(side * side * VL) * sizeof(float));
    for (int a = y0; a < y1; a++) {
        size_t i =
            (((size_t)n * (size_t)g->h + (size_t)(y + a)) * (size_t)g->w + (size_t)(x + x0)) * cp +
            (size_t)c;
        for (int q = x0; q < x1; q++, i += cp)
            vstore(patch + (a * side + q) * VL, read_value(r, how, i));
    }
}

/* --- in conv3x3_volume.c ---------------------------------------------------------------------- */

/* The transforms of channels c0..c1 of a pillar's layers and of the slices beside them, slice by
 * slice, zeros for those that are not there: tile i of slot s, which is slice z - 1 + s, to
 * v[point*ps + (s*count + i)*vs + channel]. */
void KR_NAME(kr_volume_input)(const struct source *, const struct tiling *, const struct layers *,
                              int c0, int c1, float *v, size_t vs, size_t ps);

/* --- in conv3x3_winograd.c: for conv3x3_weight.c and conv3x3_volume.c, tile by tile ----------- */

/* Channels c0..c1 (padded, of the whole concatenation) of tiles t0.. to v[p*ps + tile*vs +
 * channel]. */
void KR_NAME(kr_winograd_input)(const struct source *, const struct tiling *, int t0, int count,
                                int c0, int c1, float *v, size_t vs, size_t ps);

/* Filters of input channels k0..k1 (padded) to the columns of a block, to u[p*ps + panel + k*nr +
 * j], a panel of columns from o on starting at o * (k1 - k0). */
void KR_NAME(kr_winograd_weights)(int m, const struct source *, const struct filters *,
                                  const struct block *, int k0, int k1, float *u, size_t ps);

/* mk.h's, of rows that are contiguous along the sum. */
void KR_NAME(kr_winograd_product)(const struct mk *);

/* That of each point, of `count` tiles and k channels, weights as above. */
void KR_NAME(kr_winograd_products)(const struct tiling *, const struct block *, int count, int k,
                                   const float *v, size_t vs, size_t vp, const float *u, size_t up,
                                   float *m, size_t mp, enum mk_into into, struct ahead *);

/* Adds to slot, 2 * sink->cp doubles; or to those of the cells from `cell` on, whole ones, if that
 * is not -1. */
void KR_NAME(kr_winograd_output)(const struct sink *, const struct block *, const struct tiling *,
                                 int t0, int count, int cell, const float *m, size_t ms, size_t mp,
                                 double *slot);

#endif
