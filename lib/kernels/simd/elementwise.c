/* elementwise.c - products, curves, and two maps made one: a pass over memory each. */
#include "lib/kernels/pointwise.h"

#include "lib/kernels/simd/map.h"
#include "lib/kernels/simd/vmath.h"
#include "lib/kernels/table.h"

#include <assert.h>

/* --- two maps made one ------------------------------------------------------------------------ */

/* Channels j.. of the map of two: those of the first (its padding is zero) and, `shift` lanes on,
 * those of the second. */
struct join {
    struct view first, before, second; /* before: the second's vector in front of this one */
    bool has_first, has_before, has_second;
    size_t cp[2], j, k; /* k: the second's channel in lane `shift` */
    size_t shift;
};

INLINE struct join join_at(const struct kr_in in[2], int n, size_t j)
{
    const size_t c0 = (size_t)in[0].c;
    struct join t = {.cp = {(size_t)kr_pad(in[0].c), (size_t)kr_pad(in[1].c)}, .j = j};
    t.shift = c0 % VL;
    t.has_first = j < t.cp[0];
    if (t.has_first)
        t.first = view_at(&in[0], n, (int)j);
    if (j + VL <= c0)
        return t;
    t.k = j + t.shift - c0;
    t.has_second = t.k < t.cp[1];
    t.has_before = t.shift && t.k;
    if (t.has_second)
        t.second = view_at(&in[1], n, (int)t.k);
    if (t.has_before)
        t.before = view_at(&in[1], n, (int)(t.k - VL));
    return t;
}

INLINE vf join_get(const struct join *t, size_t pixel)
{
    const size_t i = pixel * t->cp[1] + t->k;
    vf v = t->has_first ? view_get(&t->first, pixel * t->cp[0] + t->j) : vset(0);
    if (!t->has_second && !t->has_before)
        return v;
    float two[2 * VL] = {0};
    if (t->has_before)
        vstore(two, view_get(&t->before, i - VL));
    if (t->has_second)
        vstore(two + VL, view_get(&t->second, i));
    return v + vload(two + VL - t->shift);
}

void KR_NAME(kr_join)(const struct kr_dims *d, const struct kr_in in[2], const struct kr_out *out,
                      void *workspace)
{
    const size_t cp = (size_t)kr_pad(out->c);
    const struct sweep w = sweep_of(d, cp, 2 * cp, out->each, out->sums, workspace);
    assert(out->c == in[0].c + in[1].c);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        for (size_t j = 0; j < cp; j += VL) {
            const struct join t = join_at(in, (int)n, j);
            struct put y = put_at(out, (int)j);
            for (size_t p = p0; p < p1; p++)
                put_set(&y, p * cp + j, join_get(&t, p));
            put_sum(&y, slot, cp, j);
        }
    }
    sweep_sum(&w, 0, 2 * cp, out->sums, out->each);
}

void KR_NAME(kr_join_backward)(const struct kr_dims *d, const float *dy, const struct kr_dx dx[2],
                               void *workspace)
{
    const size_t cp = (size_t)kr_pad(dx[0].c + dx[1].c);
    const size_t part[2] = {(size_t)kr_pad(dx[0].c), (size_t)kr_pad(dx[1].c)};
    const struct sweep w = sweep_of(d, cp, 2 * (part[0] + part[1]), dx[0].each || dx[1].each,
                                    dx[0].sums || dx[1].sums, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        for (size_t i = 0; i < 2; i++)
            for (size_t j = 0; j < part[i]; j += VL) {
                const size_t c = (size_t)dx[i].c, real = j < c ? min_size(VL, c - j) : 0;
                struct grad g = grad_at(&dx[i], (int)n, (int)j);
                for (size_t p = p0; p < p1; p++) {
                    const float *from = dy + p * cp + (i ? (size_t)dx[0].c : 0) + j;
                    grad_set(&g, p * part[i] + j, vload_first(from, real));
                }
                grad_sum(&g, slot ? slot + i * 2 * part[0] : NULL, part[i], j);
            }
    }
    for (size_t i = 0; i < 2; i++)
        sweep_sum(&w, i * 2 * part[0], 2 * part[i], dx[i].sums, dx[i].each);
}

/* --- products --------------------------------------------------------------------------------- */

/* The one channel of up to 64 pixels. */
INLINE void ones_get(const struct kr_in *in, size_t n, size_t p0, size_t p1, float *one)
{
    const struct view v = view_at(in, (int)n, 0);
    for (size_t p = p0; p < p1; p++)
        one[p - p0] = view_get(&v, p * KR_LANES)[0];
}

void KR_NAME(kr_multiply)(const struct kr_dims *d, const struct kr_in in[2],
                          const struct kr_out *out, void *workspace)
{
    const size_t cp = (size_t)kr_pad(out->c);
    const struct sweep w = sweep_of(d, cp, 2 * cp, out->each, out->sums, workspace);
    const bool single = in[1].c != in[0].c;
    assert(in[1].c == 1 || !single);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        {
            float one[SWEEP_MOST];
            if (single)
                ones_get(&in[1], n, p0, p1, one);
            for (size_t j = 0; j < cp; j += VL) {
                const struct view a = view_at(&in[0], (int)n, (int)j);
                const struct view b = view_at(&in[1], (int)n, single ? 0 : (int)j);
                struct put y = put_at(out, (int)j);
                for (size_t p = p0, i = p0 * cp + j; p < p1; p++, i += cp)
                    put_set(&y, i,
                            view_get(&a, i) * (single ? vset(one[p - p0]) : view_get(&b, i)));
                put_sum(&y, slot, cp, j);
            }
        }
    }
    sweep_sum(&w, 0, 2 * cp, out->sums, out->each);
}

void KR_NAME(kr_multiply_backward)(const struct kr_dims *d, const struct kr_in in[2],
                                   const float *dy, const struct kr_dx dx[2], void *workspace)
{
    const size_t cp = (size_t)kr_pad(in[0].c), cp1 = (size_t)kr_pad(in[1].c);
    const struct sweep w = sweep_of(d, cp, 2 * (cp + cp1), dx[0].each || dx[1].each,
                                    dx[0].sums || dx[1].sums, workspace);
    const bool single = in[1].c != in[0].c;
    assert(in[1].c == 1 || !single);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count), *slot1 = slot ? slot + 2 * cp : NULL;
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        {
            float one[SWEEP_MOST];
            vf sum[SWEEP_MOST];
            if (single)
                ones_get(&in[1], n, p0, p1, one);
            for (size_t p = p0; p < p1; p++)
                sum[p - p0] = vset(0);
            for (size_t j = 0; j < cp; j += VL) {
                const struct view a = view_at(&in[0], (int)n, (int)j);
                const struct view b = view_at(&in[1], (int)n, single ? 0 : (int)j);
                struct grad da = grad_at(&dx[0], (int)n, (int)j);
                struct grad db = grad_at(&dx[1], (int)n, single ? 0 : (int)j);
                for (size_t p = p0, i = p0 * cp + j; p < p1; p++, i += cp) {
                    const vf g = vload(dy + i), va = view_get(&a, i);
                    const vf vb = single ? vset(one[p - p0]) : view_get(&b, i);
                    grad_set(&da, i, g * vb);
                    if (single)
                        sum[p - p0] = vfma(g, va, sum[p - p0]);
                    else
                        grad_set(&db, i, g * va);
                }
                grad_sum(&da, slot, cp, j);
                if (!single)
                    grad_sum(&db, slot1, cp, j);
            }
            for (size_t j = 0; single && j < cp1; j += VL) {
                struct grad db = grad_at(&dx[1], (int)n, (int)j);
                for (size_t p = p0; p < p1; p++) {
                    const float s = j ? 0 : sum_lanes(sum[p - p0]);
                    grad_set(&db, p * cp1 + j, vload_first(&s, 1));
                }
                grad_sum(&db, slot1, cp1, j);
            }
        }
    }
    sweep_sum(&w, 0, 2 * cp, dx[0].sums, dx[0].each);
    sweep_sum(&w, 2 * cp, 2 * cp1, dx[1].sums, dx[1].each);
}

/* --- curves ----------------------------------------------------------------------------------- */

INLINE vf sigmoid(vf v)
{
    return 1 / (1 + vexp(-v));
}

INLINE vf curve_get(enum kr_curve curve, vf v)
{
    return curve == KR_SIGMOID ? sigmoid(v) : v * vnormal(v);
}

INLINE vf curve_slope(enum kr_curve curve, vf v)
{
    if (curve == KR_SIGMOID) {
        const vf s = sigmoid(v);
        return s * (1 - s);
    }
    const float density = 0.398942280401433f; /* 1 / sqrt(2 pi) */
    return vfma(v * density, vexp(v * v * -0.5f), vnormal(v));
}

void KR_NAME(kr_curve_forward)(const struct kr_dims *d, enum kr_curve curve, const struct kr_in *in,
                               const struct kr_out *out, void *workspace)
{
    const size_t cp = (size_t)kr_pad(out->c);
    const struct sweep w = sweep_of(d, cp, 2 * cp, out->each, out->sums, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        for (size_t j = 0; j < cp; j += VL) {
            const struct view v = view_at(in, (int)n, (int)j);
            const vi real = lanes_before(out->c - (int)j);
            struct put y = put_at(out, (int)j);
            for (size_t i = p0 * cp + j; i < p1 * cp; i += cp)
                put_set(&y, i, vwhere(real, curve_get(curve, view_get(&v, i))));
            put_sum(&y, slot, cp, j);
        }
    }
    sweep_sum(&w, 0, 2 * cp, out->sums, out->each);
}

void KR_NAME(kr_curve_backward)(const struct kr_dims *d, enum kr_curve curve,
                                const struct kr_in *in, const float *dy, const struct kr_dx *dx,
                                void *workspace)
{
    const size_t cp = (size_t)kr_pad(dx->c);
    const struct sweep w = sweep_of(d, cp, 2 * cp, dx->each, dx->sums, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        for (size_t j = 0; j < cp; j += VL) {
            const struct view v = view_at(in, (int)n, (int)j);
            struct grad g = grad_at(dx, (int)n, (int)j);
            for (size_t i = p0 * cp + j; i < p1 * cp; i += cp)
                grad_set(&g, i, vload(dy + i) * curve_slope(curve, view_get(&v, i)));
            grad_sum(&g, slot, cp, j);
        }
    }
    sweep_sum(&w, 0, 2 * cp, dx->sums, dx->each);
}
