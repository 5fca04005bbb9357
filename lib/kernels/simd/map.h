/* map.h - what kernels that go over maps pixel by pixel share: operands read, results and gradients
 * written, VL channels at a time, and sums whose order depends on the shapes alone.
 *
 * Pixels are cut into at most CHUNKS chunks, or where sums of each sample are wanted every sample
 * into at most CHUNKS, one task each; every task sums into a slot of its own, and the slots are
 * added in order. Inside a chunk, blocks of pixels small enough for the L1 cache are swept once for
 * each vector of channels, so that scale, shift and sums stay in registers. */
#ifndef MAP_H
#define MAP_H

#include "lib/kernels/pointwise.h"
#include "lib/kernels/simd/shuffle.h"
#include "lib/kernels/simd/vec.h"

#include <assert.h>
#include <stddef.h>

#define CHUNKS 32
#define CHUNK_LEAST 64 /* pixels */
#define SWEEP_MOST 64  /* pixels worked on together */
#define SUM_VECTORS 4  /* vectors of kr_pad(c) doubles that a slot may hold */

/* What `low` of an activation is: its slope if leaky, else the least that is left of a value. */
INLINE vf low_of(bool relu, float slope)
{
    return vset(relu ? slope : -__builtin_inff());
}

/* An operand (kr_in) at VL channels. Without scale, v = 1 * x + 0. */
struct view {
    const char *x;
    enum kr_dtype dtype;
    bool leaky;
    vf scale, shift, low;
};

INLINE struct view view_at(const struct kr_in *in, int n, int c)
{
    struct view v = {in->x,   in->dtype, in->relu && in->slope != 0,
                     vset(1), vset(0),   low_of(in->relu, in->slope)};
    if (in->scale) {
        v.scale = vload(in->scale + (size_t)n * in->stride + c);
        v.shift = vload(in->shift + (size_t)n * in->stride + c);
    }
    return v;
}

/* i: the element's number in the map. */
INLINE vf view_get(const struct view *v, size_t i)
{
    return vactivate(vfma(vload_as(v->x, v->dtype, i), v->scale, v->shift), v->leaky, v->low);
}

/* Where pixel p of all samples begins in planes of `plane` pixels, c of them for each sample. */
INLINE size_t planes_at(int c, size_t plane, size_t p)
{
    return p / plane * (size_t)c * plane + p % plane;
}

/* `count` pixels of an image in planes of `plane` pixels from pixel p on, of one sample: in->c
 * floats each, `ld` apart. */
static __attribute__((unused)) void planes_read(const struct kr_in *in, size_t plane, size_t p,
                                                size_t count, float *to, size_t ld)
{
    const size_t c = (size_t)in->c;
    const float *from = (const float *)in->x + planes_at(in->c, plane, p);
    size_t q = 0;
    for (; c == 4 && ld == 4 && q + VL <= count; q += VL) {
        const vf v[4] = {vload(from + q), vload(from + plane + q), vload(from + 2 * plane + q),
                         vload(from + 3 * plane + q)};
        vstore_fours(to + 4 * q, v);
    }
    for (; q < count; q++)
        for (size_t k = 0; k < c; k++)
            to[q * ld + k] = from[k * plane + q];
}

/* A result (kr_out) at VL channels. */
struct put {
    char *y;
    enum kr_dtype dtype;
    bool leaky;
    vf scale, shift, low, sum, squares;
};

INLINE struct put put_at(const struct kr_out *out, int c)
{
    struct put p = {.y = out->y, .dtype = out->dtype, .scale = vset(1)};
    p.leaky = out->relu && out->slope != 0;
    p.low = low_of(out->relu, out->slope);
    if (out->scale) {
        p.scale = vload(out->scale + c);
        p.shift = vload(out->shift + c);
    }
    return p;
}

INLINE void put_set(struct put *p, size_t i, vf v)
{
    p->sum += v;
    p->squares = vfma(v, v, p->squares);
    v = vactivate(vfma(v, p->scale, p->shift), p->leaky, p->low);
    if (p->dtype == KR_F32)
        vstore((float *)p->y + i, v);
    else
        vstore_bf16((uint16_t *)p->y + i, v);
}

/* A gradient (kr_dx) at VL channels. */
struct grad {
    float *dx;
    const char *x; /* the raw map before the activation, or NULL */
    enum kr_dtype dtype;
    bool accumulate, relu, leaky;
    vf scale, shift, slope, gain, sum, products;
};

INLINE struct grad grad_at(const struct kr_dx *d, int n, int c)
{
    struct grad g = {.dx = d->dx, .accumulate = d->accumulate, .scale = vset(1), .gain = vset(1)};
    if (d->act) {
        g.x = d->act->x;
        g.dtype = d->act->dtype;
        g.relu = d->act->relu && d->act->slope == 0;
        g.leaky = d->act->relu && !g.relu;
        g.slope = vset(d->act->slope);
        if (d->act->scale) {
            g.scale = vload(d->act->scale + (size_t)n * d->act->stride + c);
            g.shift = vload(d->act->shift + (size_t)n * d->act->stride + c);
        }
    }
    if (d->gain)
        g.gain = vload(d->gain + (size_t)n * (size_t)kr_pad(d->c) + c);
    return g;
}

INLINE void grad_set(struct grad *g, size_t i, vf v)
{
    if (g->accumulate)
        v += vload(g->dx + i);
    if (g->x) {
        vf x = vload_as(g->x, g->dtype, i);
        if (g->relu)
            v = vwhere(vfma(x, g->scale, g->shift) > 0, v);
        else if (g->leaky)
            v = vselect(vfma(x, g->scale, g->shift) > 0, v, g->slope * v);
        v *= g->gain;
        g->products = vfma(v, x, g->products);
    } else {
        v *= g->gain;
    }
    g->sum += v;
    if (g->dx)
        vstore(g->dx + i, v);
}

INLINE void sum_add(double *to, vf v)
{
    for (int i = 0; i < VL; i++)
        to[i] += (double)v[i];
}

/* A block's sums join the chunk's slot, 2 * cp doubles; none without slot. */
INLINE void put_sum(const struct put *p, double *slot, size_t cp, size_t j)
{
    if (slot) {
        sum_add(slot + j, p->sum);
        sum_add(slot + cp + j, p->squares);
    }
}

INLINE void grad_sum(const struct grad *g, double *slot, size_t cp, size_t j)
{
    if (slot) {
        sum_add(slot + j, g->sum);
        sum_add(slot + cp + j, g->products);
    }
}

INLINE float sum_lanes(vf v)
{
#if defined KR_LEVEL_avx512
    const __m256 h = _mm512_castps512_ps256(v) + _mm512_extractf32x8_ps(v, 1);
    const __m128 q = _mm256_castps256_ps128(h) + _mm256_extractf128_ps(h, 1);
    const __m128 t = q + _mm_movehl_ps(q, q);
    return t[0] + t[1];
#else
    float t[VL];
    vstore(t, v);
    for (int s = VL / 2; s; s /= 2)
        for (int i = 0; i < s; i++)
            t[i] += t[i + s];
    return t[0];
#endif
}

INLINE size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Units (pixels, rows) of `size` pixels each into chunks. */
INLINE int chunk_count(size_t units, size_t size)
{
    size_t n = units * size / CHUNK_LEAST;
    n = min_size(n, units);
    return n < 1 ? 1 : n > CHUNKS ? CHUNKS : (int)n;
}

/* Chunk i of n covers units chunk_start(i) up to chunk_start(i+1). */
INLINE size_t chunk_start(size_t units, int n, int i)
{
    return (units * (size_t)i) / (size_t)n;
}

/* The chunks of n samples of `units` units each: of all together, or, `per` of every sample. */
struct cut {
    size_t n, units;
    int per, chunks;
};

INLINE struct cut cut_of(int n, size_t units, size_t size, bool each)
{
    struct cut c = {.n = (size_t)n, .units = units};
    if (each)
        c.per = chunk_count(units, size);
    c.chunks = each ? n * c.per : chunk_count(c.n * units, size);
    return c;
}

/* Where chunk i begins, and the one before it ends. */
INLINE size_t cut_start(const struct cut *c, int i)
{
    return c->per ? (size_t)(i / c->per) * c->units + chunk_start(c->units, c->per, i % c->per)
                  : chunk_start(c->n * c->units, c->chunks, i);
}

/* Slots, at most, whether of each sample or not. */
INLINE size_t cut_most(int n, size_t units, size_t size)
{
    const size_t each = (size_t)n * (size_t)chunk_count(units, size);
    return each > CHUNKS ? each : CHUNKS;
}

/* Pixels worked on together where a pixel has cp channels. */
INLINE size_t block_pixels(int cp)
{
    int n = 4096 / cp;
    return (size_t)(n > SWEEP_MOST ? SWEEP_MOST : n < 4 ? 4 : n);
}

/* Walks the pixels of a chunk in blocks that do not cross a sample: for each, sets p0, p1 and n. */
#define FOR_BLOCKS(cut, chunk, sample, block)                                                      \
    for (size_t end = cut_start(cut, (chunk) + 1), p0 = cut_start(cut, chunk), n = p0 / (sample),  \
                p1 = min_size(min_size(p0 + (block), end), (n + 1) * (sample));                    \
         p0 < end; p0 = p1, n = p0 / (sample),                                                     \
                p1 = min_size(min_size(p0 + (block), end), (n + 1) * (sample)))

/* The slot of a chunk: `count` doubles, zeroed. NULL without workspace. */
INLINE double *slot_at(void *workspace, int chunk, size_t count)
{
    double *s = workspace;
    if (!s)
        return NULL;
    s += (size_t)chunk * count;
    memset(s, 0, count * sizeof *s);
    return s;
}

/* to[i] = slot 0's from[i] + slot 1's + ...; by one thread. */
INLINE void slots_sum(const void *workspace, int chunks, size_t count, size_t from, size_t n,
                      double *to)
{
    if (!to)
        return;
    memset(to, 0, n * sizeof *to);
    for (int k = 0; k < chunks; k++) {
        const double *s = (const double *)workspace + (size_t)k * count + from;
        for (size_t i = 0; i < n; i++)
            to[i] += s[i];
    }
}

/* The same, or with `each` of every sample's slots, in rows that begin `row` doubles apart. */
INLINE void cut_sum(const struct cut *cut, const void *workspace, size_t count, size_t from,
                    size_t n, double *to, bool each, size_t row)
{
    const double *slot = workspace;
    if (!each)
        slots_sum(slot, cut->chunks, count, from, n, to);
    for (size_t i = 0; each && to && i < cut->n; i++)
        slots_sum(slot + i * (size_t)cut->per * count, cut->per, count, from, n, to + i * row);
}

/* A pass over the pixels of maps of `cp` padded channels, each chunk of which leaves `count` sums
 * in its slot. */
struct sweep {
    struct cut cut;
    size_t sample, block, count; /* pixels of a sample, and worked on together */
    void *slots;                 /* NULL: nobody wants the sums */
};

INLINE struct sweep sweep_of(const struct kr_dims *d, size_t cp, size_t count, bool each,
                             bool wanted, void *workspace)
{
    const size_t sample = (size_t)d->h * (size_t)d->w;
    assert(!wanted || workspace);
    return (struct sweep){.cut = cut_of(d->n, sample, 1, each),
                          .sample = sample,
                          .block = block_pixels((int)cp),
                          .count = count,
                          .slots = wanted ? workspace : NULL};
}

/* Adds up n of each slot's sums, from the one numbered `from` on. */
INLINE void sweep_sum(const struct sweep *s, size_t from, size_t n, double *to, bool each)
{
    cut_sum(&s->cut, s->slots, s->count, from, n, to, each, n);
}

#endif
