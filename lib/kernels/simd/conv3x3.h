/* conv3x3.h - what the 3x3 convolutions share: where values come from (struct source: operands, and
 * what is fused into their reading), where they go (struct sink: a map or gradients, likewise).
 *
 * The backward pass for data is a convolution of dy with the filters rotated and transposed, so one
 * code does both; struct filters says how to read the weights, struct sink what to do with a
 * result. */
#ifndef CONV3X3_H
#define CONV3X3_H

#include "lib/kernels/simd/map.h"
#include "lib/kernels/simd/mk.h"
#include "lib/kernels/table.h"

#include <assert.h>
#include <omp.h>

#define BLOCK 64 /* output channels worked on together, at most */

/* Weights as a convolution sees them: tap t of input channel i, output channel o is
 * w[o*so + i*si + (flip ? 8-t : t)]; of a kernel of three slices, in each 9 floats behind the one
 * before. */
struct filters {
    const float *w;
    size_t so, si;
    bool flip;
};

/* Operands: up to two maps side by side. Their real channels count from 0 to c; in the padded space
 * each part is padded on its own, cp in all. Where `behind.k` is given there is one part, a
 * gradient that is read as kr_dy says. n counts slices; with `d` they are volumes of d slices, and
 * so many more lie before and after them, and results are made by groups, the first of which begins
 * `phase` slices before the first. */
struct source {
    int n, h, w, parts, c, cp;
    int d, before, after;
    int group, phase;
    struct kr_in in[2];
    struct kr_dy behind;
};

/* How a value is made of what lies in memory: as it is, or a * x + b and then at least c, or if
 * leaky at least c times itself (of float or bf16), or a gradient by kr_dy, a * dy + (b * x + c).
 */
enum reading { READ_PLAIN, READ_AFFINE, READ_LEAKY, READ_BF16, READ_BF16_LEAKY, READ_BEHIND };

struct reader {
    const void *from, *behind;
    vf a, b, c;
};

INLINE struct reader reader_at(const struct source *s, const struct kr_in *in,
                               const enum reading how, int n, int c)
{
    struct reader r = {.from = in->x, .a = vset(1), .c = low_of(in->relu, in->slope)};
    if (how == READ_BEHIND) {
        size_t cp = (size_t)s->cp;
        r.behind = s->behind.x;
        const float *k = s->behind.k + (size_t)n * s->behind.stride + c;
        r.a = vload(k);
        r.b = vload(k + cp);
        r.c = vload(k + 2 * cp);
    } else if (in->scale) {
        r.a = vload(in->scale + (size_t)n * in->stride + c);
        r.b = vload(in->shift + (size_t)n * in->stride + c);
    }
    return r;
}

INLINE vf read_value(const struct reader *r, const enum reading how, size_t i)
{
    vf v = how == READ_BF16 || how == READ_BF16_LEAKY ? vload_bf16((const uint16_t *)r->from + i)
                                                      : vload((const float *)r->from + i);
    if (how == READ_PLAIN)
        return v;
    if (how == READ_BEHIND)
        return vfma(r->a, v, vfma(r->b, vload((const float *)r->behind + i), r->c));
    return vactivate(vfma(v, r->a, r->b), how == READ_LEAKY || how == READ_BF16_LEAKY, r->c);
}

INLINE enum reading reading(const struct source *s, const struct kr_in *in)
{
    const bool leaky = in->relu && in->slope != 0;
    return s->behind.k             ? READ_BEHIND
           : in->dtype == KR_BF16  ? leaky ? READ_BF16_LEAKY : READ_BF16
           : leaky                 ? READ_LEAKY
           : in->scale || in->relu ? READ_AFFINE
                                   : READ_PLAIN;
}

/* SINK_LEAKY: a map of either type, through a leaky activation. */
enum sink_kind { SINK_F32, SINK_BF16, SINK_LEAKY, SINK_DX };

/* A map to be written. `real` is the first real output channel, `first` the first padded one, both
 * counted over the parts that are written. */
struct sink_part {
    enum sink_kind kind;
    void *y;
    int c, cp, real, first;
    enum kr_dtype dtype;
    const float *bias;
    bool relu, accumulate;
    float slope;
    const float *scale, *shift, *gain;
    const struct kr_in *act;
    double *sums;
    bool each;
};

struct sink {
    int parts, cp; /* cp: padded channels of all parts */
    struct sink_part part[2];
};

/* Whether sums of each sample are wanted. */
INLINE bool sink_each(const struct sink *s)
{
    bool each = false;
    for (int i = 0; i < s->parts; i++)
        each = each || (s->part[i].sums && s->part[i].each);
    return each;
}

/* The block of up to BLOCK output channels number b. */
struct block {
    const struct sink_part *part;
    int o, width, real; /* first channel in the part, padded width, real channels */
};

INLINE int sink_blocks(const struct sink *s)
{
    int n = 0;
    for (int i = 0; i < s->parts; i++)
        n += (s->part[i].cp + BLOCK - 1) / BLOCK;
    return n;
}

INLINE int min_int(int a, int b)
{
    return a < b ? a : b;
}

INLINE int max_int(int a, int b)
{
    return a > b ? a : b;
}

INLINE struct block sink_block(const struct sink *s, int b)
{
    const struct sink_part *p = s->part;
    while (b >= (p->cp + BLOCK - 1) / BLOCK)
        b -= (p++->cp + BLOCK - 1) / BLOCK;
    int o = b * BLOCK;
    return (struct block){p, o, min_int(BLOCK, p->cp - o), max_int(0, min_int(BLOCK, p->c - o))};
}

/* What a part does to VL channels from channel o on, for sample n. */
struct lane {
    bool relu, leaky; /* of a gradient */
    vf bias, scale, shift, low, act_scale, act_shift, slope, gain;
};

INLINE struct lane sink_lane(const struct sink_part *p, const enum sink_kind kind, int o, int n)
{
    struct lane l = {0};
    if (kind == SINK_DX) {
        if (p->act && p->act->scale) {
            l.act_scale = vload(p->act->scale + (size_t)n * p->act->stride + o);
            l.act_shift = vload(p->act->shift + (size_t)n * p->act->stride + o);
        } else {
            l.act_scale = vset(1);
        }
        if (p->act) {
            l.relu = p->act->relu && p->act->slope == 0;
            l.leaky = p->act->relu && !l.relu;
            l.slope = vset(p->act->slope);
        }
        l.gain = p->gain ? vload(p->gain + (size_t)n * p->cp + o) : vset(1);
        return l;
    }
    if (p->bias) {
        float b[VL] = {0};
        for (int i = 0; i < VL && o + i < p->c; i++)
            b[i] = p->bias[o + i];
        l.bias = vload(b);
    }
    l.scale = p->scale ? vload(p->scale + o) : vset(1);
    l.shift = p->scale ? vload(p->shift + o) : vset(0);
    l.low = low_of(p->relu, p->slope);
    return l;
}

/* Writes VL channels of one pixel, at element i of the map, and adds to the sums. */
INLINE void sink_put(const struct sink_part *p, const enum sink_kind kind, const struct lane *l,
                     size_t i, vf v, vf sum[2])
{
    if (kind == SINK_DX) {
        float *dx = (float *)p->y + i;
        if (p->accumulate)
            v += vload(dx);
        vf x = {0};
        if (p->act) {
            x = vload_as(p->act->x, p->act->dtype, i);
            if (l->relu)
                v = vwhere(vfma(x, l->act_scale, l->act_shift) > 0, v);
            else if (l->leaky)
                v = vselect(vfma(x, l->act_scale, l->act_shift) > 0, v, l->slope * v);
        }
        v *= l->gain;
        vstore(dx, v);
        sum[0] += v;
        sum[1] = vfma(v, x, sum[1]);
        return;
    }
    v += l->bias;
    sum[0] += v;
    sum[1] = vfma(v, v, sum[1]);
    v = vactivate(vfma(v, l->scale, l->shift), kind == SINK_LEAKY, l->low);
    if (kind == SINK_F32 || (kind == SINK_LEAKY && p->dtype == KR_F32))
        vstore((float *)p->y + i, v);
    else
        vstore_bf16((uint16_t *)p->y + i, v);
}

/* slot: 2 * sink->cp doubles of one task; adds what VL channels of a part gathered. */
INLINE void sink_sum(const struct sink *s, const struct sink_part *p, double *slot, int o,
                     const vf sum[2])
{
    if (!p->sums)
        return;
    double *d = slot + p->first + o;
    for (int i = 0; i < VL; i++) {
        d[i] += (double)sum[0][i];
        d[s->cp + i] += (double)sum[1][i];
    }
}

/* Where part i of n begins, of `total` in nearly equal parts. */
INLINE int share(int total, int i, int n)
{
    return (int)chunk_start((size_t)total, n, i);
}

/* Runs of memory inside a workspace, each on a 64-byte boundary. */
INLINE size_t take(size_t *used, size_t count, size_t size)
{
    size_t at = *used;
    *used += (count * size + 63) / 64 * 64;
    return at;
}

/* In conv3x3.c */
struct source KR_NAME(kr_conv3x3_source)(const struct kr_conv3x3 *);
/* An operand from `slices` slices of `pixels` pixels before it on. */
struct kr_in KR_BASE_NAME(kr_conv3x3_beside)(const struct kr_in *, int slices, int pixels);
struct source KR_NAME(kr_conv3x3_gradient)(const struct kr_conv3x3 *, const struct kr_dy *);
struct sink KR_BASE_NAME(kr_conv3x3_sink_y)(const struct kr_conv3x3 *, const struct kr_out *);
struct sink KR_BASE_NAME(kr_conv3x3_sink_dx)(const struct kr_conv3x3 *, const struct kr_dx dx[2]);
/* Adds `count` slots in order, or where sums of each sample are wanted those of each, a
 * `samples`-th of them; to be called by one thread. */
void KR_BASE_NAME(kr_conv3x3_sums)(const struct sink *, const double *slots, int count,
                                   int samples);

/* In conv3x3_winograd.c */
size_t KR_NAME(kr_conv3x3_winograd_workspace)(const struct source *, const struct sink *,
                                              int threads);
void KR_NAME(kr_conv3x3_winograd)(const struct source *, const struct filters *,
                                  const struct sink *, int threads, void *workspace);

/* In conv3x3_volume.c: of a source with `d`. */
size_t KR_NAME(kr_conv3x3_volume_workspace)(const struct source *, const struct sink *,
                                            int threads);
void KR_NAME(kr_conv3x3_volume)(const struct source *, const struct filters *, const struct sink *,
                                int threads, void *workspace);

/* In conv3x3_weight.c. The second takes `dx` on the way where it is not NULL; then no map has more
 * than BLOCK channels, and neither has the concatenation. */
size_t KR_NAME(kr_conv3x3_winograd_weight_workspace)(const struct source *, int cout,
                                                     const struct sink *dx, int threads);
void KR_NAME(kr_conv3x3_winograd_weight)(const struct source *, const struct source *dy, float *dw,
                                         const struct filters *, const struct sink *dx, int threads,
                                         void *workspace);

/* In conv3x3_direct.c */
size_t KR_NAME(kr_conv3x3_direct_workspace)(const struct source *, const struct sink *,
                                            int threads);
void KR_NAME(kr_conv3x3_direct)(const struct source *, const struct filters *, const struct sink *,
                                int threads, void *workspace);
size_t KR_NAME(kr_conv3x3_direct_weight_workspace)(const struct source *, int cout, int threads);
void KR_NAME(kr_conv3x3_direct_weight)(const struct source *, const struct source *dy, float *dw,
                                       int threads, void *workspace);

#endif
