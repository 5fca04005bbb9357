/* channels.c - softmax and layer normalisation: along the channels of each position. A block of
 * pixels is swept as often as its statistics need, then once to write. */
#include "lib/kernels/pointwise.h"

#include "lib/kernels/simd/map.h"
#include "lib/kernels/simd/vmath.h"
#include "lib/kernels/table.h"

#include <assert.h>
#include <math.h>

/* Some pixels of one sample. */
struct some {
    const struct kr_in *in;
    int n;
    size_t first, count, cp;
};

/* Channels j.. of them. */
struct lanes {
    struct view view;
    vi real;
};

INLINE struct lanes lanes_at(const struct some *s, size_t j)
{
    return (struct lanes){view_at(s->in, s->n, (int)j), lanes_before(s->in->c - (int)j)};
}

#define FOR_PIXELS(s, j, p, i)                                                                     \
    for (size_t p = 0, i = (s)->first * (s)->cp + (j); p < (s)->count; p++, i += (s)->cp)

INLINE float most_lane(vf v)
{
    float most = v[0];
    for (int l = 1; l < VL; l++)
        most = v[l] > most || v[l] != v[l] ? v[l] : most;
    return most;
}

/* --- softmax ---------------------------------------------------------------------------------- */

/* The largest of each pixel, and 1 over the sum of e^(v - it); with dy, the mean of dy too, weighed
 * by the softmax. */
INLINE void softmax_state(const struct some *s, const float *dy, float *most, float *scale,
                          float *mean)
{
    vf t[SWEEP_MOST], m[SWEEP_MOST];
    for (size_t p = 0; p < s->count; p++)
        t[p] = vset(-__builtin_inff());
    for (size_t j = 0; j < s->cp; j += VL) {
        const struct lanes v = lanes_at(s, j);
        FOR_PIXELS(s, j, p, i)
        t[p] = vmaximum(vselect(v.real, view_get(&v.view, i), vset(-__builtin_inff())), t[p]);
    }
    for (size_t p = 0; p < s->count; p++) {
        most[p] = most_lane(t[p]);
        t[p] = m[p] = vset(0);
    }
    for (size_t j = 0; j < s->cp; j += VL) {
        const struct lanes v = lanes_at(s, j);
        FOR_PIXELS(s, j, p, i)
        {
            const vf e = vwhere(v.real, vexp(view_get(&v.view, i) - most[p]));
            t[p] += e;
            if (dy)
                m[p] = vfma(e, vload(dy + i), m[p]);
        }
    }
    for (size_t p = 0; p < s->count; p++) {
        scale[p] = 1 / sum_lanes(t[p]);
        if (dy)
            mean[p] = sum_lanes(m[p]) * scale[p];
    }
}

void KR_NAME(kr_softmax_forward)(const struct kr_dims *d, const struct kr_in *in,
                                 const struct kr_out *out, void *workspace)
{
    const size_t cp = (size_t)kr_pad(out->c);
    const struct sweep w = sweep_of(d, cp, 2 * cp, out->each, out->sums, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        {
            const struct some s = {in, (int)n, p0, p1 - p0, cp};
            float most[SWEEP_MOST], scale[SWEEP_MOST];
            softmax_state(&s, NULL, most, scale, NULL);
            for (size_t j = 0; j < cp; j += VL) {
                const struct lanes v = lanes_at(&s, j);
                struct put y = put_at(out, (int)j);
                FOR_PIXELS(&s, j, p, i)
                put_set(&y, i, vwhere(v.real, vexp(view_get(&v.view, i) - most[p]) * scale[p]));
                put_sum(&y, slot, cp, j);
            }
        }
    }
    sweep_sum(&w, 0, 2 * cp, out->sums, out->each);
}

void KR_NAME(kr_softmax_backward)(const struct kr_dims *d, const struct kr_in *in, const float *dy,
                                  const struct kr_dx *dx, void *workspace)
{
    const size_t cp = (size_t)kr_pad(dx->c);
    const struct sweep w = sweep_of(d, cp, 2 * cp, dx->each, dx->sums, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        {
            const struct some s = {in, (int)n, p0, p1 - p0, cp};
            float most[SWEEP_MOST], scale[SWEEP_MOST], mean[SWEEP_MOST];
            softmax_state(&s, dy, most, scale, mean);
            for (size_t j = 0; j < cp; j += VL) {
                const struct lanes v = lanes_at(&s, j);
                struct grad g = grad_at(dx, (int)n, (int)j);
                FOR_PIXELS(&s, j, p, i)
                {
                    const vf y = vwhere(v.real, vexp(view_get(&v.view, i) - most[p]) * scale[p]);
                    grad_set(&g, i, y * (vload(dy + i) - mean[p]));
                }
                grad_sum(&g, slot, cp, j);
            }
        }
    }
    sweep_sum(&w, 0, 2 * cp, dx->sums, dx->each);
}

/* --- layer normalisation ---------------------------------------------------------------------- */

INLINE void layer_state(const struct some *s, double eps, float *mean, float *invstd)
{
    const float c = (float)s->in->c;
    vf t[SWEEP_MOST];
    for (size_t p = 0; p < s->count; p++)
        t[p] = vset(0);
    for (size_t j = 0; j < s->cp; j += VL) {
        const struct lanes v = lanes_at(s, j);
        FOR_PIXELS(s, j, p, i)
        t[p] += vwhere(v.real, view_get(&v.view, i));
    }
    for (size_t p = 0; p < s->count; p++) {
        mean[p] = sum_lanes(t[p]) / c;
        t[p] = vset(0);
    }
    for (size_t j = 0; j < s->cp; j += VL) {
        const struct lanes v = lanes_at(s, j);
        FOR_PIXELS(s, j, p, i)
        {
            const vf far = vwhere(v.real, view_get(&v.view, i) - mean[p]);
            t[p] = vfma(far, far, t[p]);
        }
    }
    for (size_t p = 0; p < s->count; p++)
        invstd[p] = 1 / sqrtf(sum_lanes(t[p]) / c + (float)eps);
}

/* Channels j.. of a vector of c floats, zeros behind. */
INLINE vf channels_load(const float *v, int c, size_t j)
{
    return vload_first(v + min_size(j, (size_t)c), j < (size_t)c ? min_size(VL, (size_t)c - j) : 0);
}

void KR_NAME(kr_layer_norm_forward)(const struct kr_dims *d, const struct kr_layer_norm *l,
                                    const struct kr_out *out, void *workspace)
{
    const size_t cp = (size_t)kr_pad(out->c);
    const struct sweep w = sweep_of(d, cp, 2 * cp, out->each, out->sums, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        {
            const struct some s = {&l->in, (int)n, p0, p1 - p0, cp};
            float mean[SWEEP_MOST], invstd[SWEEP_MOST];
            layer_state(&s, l->eps, mean, invstd);
            for (size_t j = 0; j < cp; j += VL) {
                const struct lanes v = lanes_at(&s, j);
                const vf gamma = channels_load(l->gamma, out->c, j);
                const vf beta = channels_load(l->beta, out->c, j);
                struct put y = put_at(out, (int)j);
                FOR_PIXELS(&s, j, p, i)
                {
                    const vf far = vwhere(v.real, view_get(&v.view, i) - mean[p]) * invstd[p];
                    put_set(&y, i, vfma(far, gamma, beta));
                }
                put_sum(&y, slot, cp, j);
            }
        }
    }
    sweep_sum(&w, 0, 2 * cp, out->sums, out->each);
}

/* Means over the channels of g = dy * gamma, and of g times the normalised value. */
INLINE void layer_means(const struct some *s, const struct kr_layer_norm *l, const float *dy,
                        const float *mean, const float *invstd, float *of_g, float *of_product)
{
    const float c = (float)s->in->c;
    vf t[SWEEP_MOST], u[SWEEP_MOST];
    for (size_t p = 0; p < s->count; p++)
        t[p] = u[p] = vset(0);
    for (size_t j = 0; j < s->cp; j += VL) {
        const struct lanes v = lanes_at(s, j);
        const vf gamma = channels_load(l->gamma, s->in->c, j);
        FOR_PIXELS(s, j, p, i)
        {
            const vf g = vwhere(v.real, vload(dy + i) * gamma);
            t[p] += g;
            u[p] = vfma(g, (view_get(&v.view, i) - mean[p]) * invstd[p], u[p]);
        }
    }
    for (size_t p = 0; p < s->count; p++) {
        of_g[p] = sum_lanes(t[p]) / c;
        of_product[p] = sum_lanes(u[p]) / c;
    }
}

void KR_NAME(kr_layer_norm_backward)(const struct kr_dims *d, const struct kr_layer_norm *l,
                                     const float *dy, const struct kr_dx *dx, float *dgamma,
                                     float *dbeta, void *workspace)
{
    const size_t cp = (size_t)kr_pad(l->in.c);
    const struct sweep w = sweep_of(d, cp, 4 * cp, dx && dx->each, true, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        {
            const struct some s = {&l->in, (int)n, p0, p1 - p0, cp};
            float mean[SWEEP_MOST], invstd[SWEEP_MOST], of_g[SWEEP_MOST], of_product[SWEEP_MOST];
            layer_state(&s, l->eps, mean, invstd);
            if (dx)
                layer_means(&s, l, dy, mean, invstd, of_g, of_product);
            for (size_t j = 0; j < cp; j += VL) {
                const struct lanes v = lanes_at(&s, j);
                const vf gamma = channels_load(l->gamma, l->in.c, j);
                struct grad t = dx ? grad_at(dx, (int)n, (int)j) : (struct grad){0};
                vf sum = vset(0), products = vset(0);
                FOR_PIXELS(&s, j, p, i)
                {
                    const vf g = vwhere(v.real, vload(dy + i));
                    const vf x = vwhere(v.real, view_get(&v.view, i) - mean[p]) * invstd[p];
                    sum += g;
                    products = vfma(g, x, products);
                    if (dx)
                        grad_set(&t, i,
                                 vwhere(v.real,
                                        (g * gamma - vfma(x, vset(of_product[p]), vset(of_g[p]))) *
                                            invstd[p]));
                }
                sum_add(slot + 2 * cp + j, products);
                sum_add(slot + 3 * cp + j, sum);
                if (dx)
                    grad_sum(&t, slot, cp, j);
            }
        }
    }
    if (dx)
        sweep_sum(&w, 0, 2 * cp, dx->sums, dx->each);
    for (int c = 0; dgamma && c < l->in.c; c++) {
        double sums[2] = {0};
        for (int chunk = 0; chunk < w.cut.chunks; chunk++)
            for (size_t i = 0; i < 2; i++)
                sums[i] += ((double *)workspace)[((size_t)chunk * 4 + 2 + i) * cp + (size_t)c];
        dgamma[c] = (float)sums[0];
        dbeta[c] = (float)sums[1];
    }
}
