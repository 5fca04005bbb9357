/* winograd.h - the transforms of F(4x4,3x3) (Lavin & Gray, arXiv:1509.09308), points 0, +-1, +-2,
 * inf, and the way between weights as files hold them and vectors of VL channels. */
#ifndef WINOGRAD_H
#define WINOGRAD_H

#include "lib/kernels/simd/conv3x3.h"

#define POINTS 36 /* products of a tile */

/* B^T d: six values to six. */
INLINE void bt(const vf d[6], vf o[6])
{
    vf a = d[4] - 4 * d[2], b = d[3] - 4 * d[1];
    vf e = d[4] - d[2], f = 2 * (d[3] - d[1]);
    o[0] = 4 * d[0] + (d[4] - 5 * d[2]);
    o[1] = a + b;
    o[2] = a - b;
    o[3] = e + f;
    o[4] = e - f;
    o[5] = 4 * d[1] + (d[5] - 5 * d[3]);
}

/* A^T m: six to four. */
INLINE void at4(const vf m[6], vf o[4])
{
    vf a = m[1] + m[2], b = m[1] - m[2], e = m[3] + m[4], f = m[3] - m[4];
    o[0] = m[0] + (a + e);
    o[1] = 2 * f + b;
    o[2] = 4 * e + a;
    o[3] = (8 * f + b) + m[5];
}

/* A y: four to six, the transpose of at4. */
INLINE void at4_t(const vf y[4], vf o[6])
{
    vf a = y[0] + y[2], b = y[1] + y[3], e = 4 * y[2] + y[0], f = 8 * y[3] + 2 * y[1];
    o[0] = y[0];
    o[1] = a + b;
    o[2] = a - b;
    o[3] = e + f;
    o[4] = e - f;
    o[5] = y[3];
}

/* G g: three to six. */
INLINE void g3(vf g0, vf g1, vf g2, vf o[6])
{
    vf a = (g0 + g2) * (-1.f / 6), b = g1 * (1.f / 6);
    vf c = g0 * (1.f / 24) + g2 * (1.f / 6), d = g1 * (1.f / 12);
    o[0] = g0 * 0.25f;
    o[1] = a - b;
    o[2] = a + b;
    o[3] = c + d;
    o[4] = c - d;
    o[5] = g2;
}

/* G^T u: six to three. */
INLINE void g3_t(const vf u[6], vf o[3])
{
    vf a = u[1] + u[2], b = u[2] - u[1], c = u[3] + u[4], d = u[3] - u[4];
    o[0] = u[0] * 0.25f - a * (1.f / 6) + c * (1.f / 24);
    o[1] = b * (1.f / 6) + d * (1.f / 12);
    o[2] = (c - a) * (1.f / 6) + u[5];
}

/* --- weights
 * --------------------------------------------------------------------------------------- */

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

/* The nine taps of VL filters that lie `stride` apart; of `real` filters, if fewer, the rest zero.
 */
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
 * u[p * ps], p < 36. */
INLINE void filter_transform(const struct filters *f, int i, int o, int real, float *u, size_t ps)
{
    vf g[9], e[6][3];
    taps_load(f->w + (size_t)o * f->so + (size_t)i * f->si, f->so, real, g);
    if (f->flip)
        for (int t = 0; t < 4; t++) {
            vf x = g[t];
            g[t] = g[8 - t];
            g[8 - t] = x;
        }
    for (int s = 0; s < 3; s++) {
        vf col[6];
        g3(g[s], g[3 + s], g[6 + s], col);
        for (int a = 0; a < 6; a++)
            e[a][s] = col[a];
    }
    for (int a = 0; a < 6; a++) {
        vf row[6];
        g3(e[a][0], e[a][1], e[a][2], row);
        vstore6(u, ps, row);
        u += 6 * ps;
        KEEP(u);
    }
}

/* --- tiles
 * ----------------------------------------------------------------------------------------- */

/* Where tile t of a map lies: sample, first output row and column. */
struct tile {
    int n, y, x;
};

struct tiling {
    int h, w, down, across, count; /* count: of all samples */
};

INLINE struct tiling tiling(const struct source *s)
{
    struct tiling t = {.h = s->h, .w = s->w, .down = (s->h + 3) / 4, .across = (s->w + 3) / 4};
    t.count = s->n * t.down * t.across;
    return t;
}

INLINE struct tile tile_at(const struct tiling *g, int t)
{
    int r = t / g->across;
    return (struct tile){r / g->down, r % g->down * 4, t % g->across * 4};
}

INLINE void tile_next(const struct tiling *g, struct tile *t)
{
    t->x += 4;
    if (t->x >= g->w) {
        t->x = 0;
        t->y += 4;
        if (t->y >= g->h) {
            t->y = 0;
            t->n++;
        }
    }
}

INLINE vf load_value(const struct kr_in *in, const bool half, const bool affine, size_t i, vf scale,
                     vf shift, vf low)
{
    vf v = half ? vload_bf16((const uint16_t *)in->x + i) : vload((const float *)in->x + i);
    return affine ? vmaximum(v * scale + shift, low) : v;
}

/* B^T d B of the 6x6 values around a tile, VL channels from c on, to v[p * ps]. */
INLINE void input_vector(const struct kr_in *in, const bool half, const bool affine,
                         const bool whole, const struct tiling *g, const struct tile *t, int c,
                         float *v, size_t ps)
{
    vf e[6][6], scale = {0}, shift = {0}, low = vset(in->relu ? 0 : -__builtin_inff());
    size_t cp = (size_t)kr_pad(in->c), row = (size_t)g->w * cp;
    if (affine) {
        scale = in->scale ? vload(in->scale + (size_t)t->n * in->stride + c) : vset(1);
        shift = in->scale ? vload(in->shift + (size_t)t->n * in->stride + c) : vset(0);
    }
    /* Index of the corner; wraps below zero at the first tile, whose corner is not read. */
    size_t i = (((size_t)t->n * (size_t)g->h + (size_t)t->y) * (size_t)g->w + (size_t)t->x) * cp -
               row - cp + (size_t)c;
    KEEP(i);
#pragma GCC unroll 6
    for (int q = 0; q < 6; q++) {
        vf d[6], o[6];
        size_t j = i + 3 * row;
        KEEP(j);
#pragma GCC unroll 6
        for (int a = 0; a < 6; a++) {
            int y = t->y + a - 1, x = t->x + q - 1;
            if (whole || (y >= 0 && y < g->h && x >= 0 && x < g->w))
                d[a] = load_value(in, half, affine, (a < 3 ? i : j) + (size_t)(a % 3) * row, scale,
                                  shift, low);
            else
                d[a] = (vf){0};
        }
        i += cp;
        KEEP(i);
        bt(d, o);
#pragma GCC unroll 6
        for (int a = 0; a < 6; a++)
            e[a][q] = o[a];
    }
#pragma GCC unroll 6
    for (int a = 0; a < 6; a++) {
        vf o[6];
        bt(e[a], o);
        vstore6(v, ps, o);
        v += 6 * ps;
        KEEP(v);
    }
}

INLINE void input_part(const struct kr_in *in, const bool half, const bool affine,
                       const struct tiling *g, int t0, int count, int c0, int c1, float *v,
                       size_t vs, size_t ps)
{
    struct tile t = tile_at(g, t0);
    for (int i = 0; i < count; i++, tile_next(g, &t), v += vs) {
        bool whole = t.y > 0 && t.x > 0 && t.y + 5 <= g->h && t.x + 5 <= g->w;
        if (whole)
            for (int c = c0; c < c1; c += VL)
                input_vector(in, half, affine, true, g, &t, c, v + (c - c0), ps);
        else
            for (int c = c0; c < c1; c += VL)
                input_vector(in, half, affine, false, g, &t, c, v + (c - c0), ps);
    }
}

/* Channels c0..c1 (padded, of the whole concatenation) of tiles t0.. to v[p*ps + tile*vs +
 * channel]. */
static inline __attribute__((unused)) void input_transform(const struct source *s,
                                                           const struct tiling *g, int t0,
                                                           int count, int c0, int c1, float *v,
                                                           size_t vs, size_t ps)
{
    for (int i = 0, first = 0; i < s->parts; i++) {
        const struct kr_in *in = &s->in[i];
        int cp = kr_pad(in->c), a = max_int(c0, first), b = min_int(c1, first + cp);
        bool affine = in->scale || in->relu;
        if (a < b) {
            float *d = v + (a - c0);
            if (in->dtype == KR_BF16)
                input_part(in, true, true, g, t0, count, a - first, b - first, d, vs, ps);
            else if (affine)
                input_part(in, false, true, g, t0, count, a - first, b - first, d, vs, ps);
            else
                input_part(in, false, false, g, t0, count, a - first, b - first, d, vs, ps);
        }
        first += cp;
    }
}

/* --- prefetching ------------------------------------------------------------------------------------
 * While the products of a block of tiles run, memory is idle: what the transforms will touch next
 * is fetched then, a 36th with each product. */

/* Piece p of the four rows from row `down` below each tile's first, of tiles t0.., of a map whose
 * pixels have `bytes` bytes: `size` bytes from `at` on of each pixel. */
INLINE void fetch_map(const struct tiling *g, int t0, int count, int down, const void *map,
                      size_t bytes, size_t at, size_t size, int p, const bool write)
{
    count = min_int(count, g->count - t0);
    struct tile t = tile_at(g, t0);
    while (count > 0) {
        int run = min_int(count, (g->w - t.x + 3) / 4), y = t.y + down + p / 9;
        int pixels = min_int(4 * run, g->w - t.x), from = pixels * (p % 9) / 9,
            to = pixels * (p % 9 + 1) / 9;
        if (y < g->h) {
            const char *pixel =
                (const char *)map + at +
                (((size_t)t.n * (size_t)g->h + (size_t)y) * (size_t)g->w + (size_t)(t.x + from)) *
                    bytes;
            for (int x = from; x < to; x++, pixel += bytes)
                for (size_t i = 0; i < size; i += 64) {
                    if (write)
                        __builtin_prefetch(pixel + i, 1, 2);
                    else
                        __builtin_prefetch(pixel + i, 0, 2);
                }
        }
        count -= run;
        t.x = 0;
        t.y += 4;
        if (t.y >= g->h)
            t.y = 0, t.n++;
    }
}

/* Channels c0..c1 of the concatenation. */
INLINE void fetch_source(const struct source *s, const struct tiling *g, int t0, int count, int c0,
                         int c1, int p)
{
    for (int i = 0, first = 0; i < s->parts; i++) {
        size_t one = kr_dtype_size(s->in[i].dtype);
        int cp = kr_pad(s->in[i].c), a = max_int(c0 - first, 0), b = min_int(c1 - first, cp);
        if (a < b)
            fetch_map(g, t0, count, 1, s->in[i].x, (size_t)cp * one, (size_t)a * one,
                      (size_t)(b - a) * one, p, false);
        first += cp;
    }
}

/* Channels o..o+width of a part. */
INLINE void fetch_sink(const struct sink_part *part, const struct tiling *g, int t0, int count,
                       int o, int width, int p)
{
    size_t one = part->kind == SINK_BF16 ? 2 : 4;
    if (part->kind == SINK_DX && part->act) {
        size_t x = kr_dtype_size(part->act->dtype);
        fetch_map(g, t0, count, 0, part->act->x, (size_t)part->cp * x, (size_t)o * x,
                  (size_t)width * x, p, false);
    }
    fetch_map(g, t0, count, 0, part->y, (size_t)part->cp * one, (size_t)o * one,
              (size_t)width * one, p, true);
}

#endif
