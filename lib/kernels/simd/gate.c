/* The attention gate, as pointwise.h has it: each function is one pass over the maps. */
#include "lib/kernels/pointwise.h"

#include "lib/kernels/simd/map.h"
#include "lib/kernels/simd/vmath.h"
#include "lib/kernels/table.h"

#include <assert.h>

/* Pixels whose scores are worked on together. */
#define RUN 64

INLINE float psi_at(const struct kr_gate *g, size_t c)
{
    return c < (size_t)g->a.c ? g->psi[c] : 0;
}

INLINE vf psi_vector(const struct kr_gate *g, size_t c)
{
    float t[VL];
    for (size_t l = 0; l < VL; l++)
        t[l] = psi_at(g, c + l);
    return vload(t);
}

/* alpha of up to RUN pixels. */
INLINE void alphas(const struct kr_gate *g, const float *score, size_t n, size_t count,
                   float *alpha)
{
    const vf scale = vset(g->scale ? g->scale[n * g->stride] : 1);
    const vf shift = vset(g->shift ? g->shift[n * g->stride] : 0);
    float t[RUN] = {0};
    memcpy(t, score, count * sizeof *t);
    for (size_t i = 0; i < RUN; i += VL)
        vstore(alpha + i, 1 / (1 + vexp(-vfma(vload(t + i), scale, shift))));
}

/* Two numbers of each slot as the sums of a map of one channel. */
INLINE void spread(const struct cut *cut, const void *workspace, size_t count, size_t from,
                   double *sums, bool each)
{
    const size_t row = 2 * KR_LANES;
    if (!sums)
        return;
    memset(sums, 0, (each ? cut->n : 1) * row * sizeof *sums);
    cut_sum(cut, workspace, count, from, 1, sums, each, row);
    cut_sum(cut, workspace, count, from + 1, 1, sums + KR_LANES, each, row);
}

#define FOR_RUNS(cut, chunk, sample)                                                               \
    for (size_t end = cut_start(cut, (chunk) + 1), p0 = cut_start(cut, chunk), n = p0 / (sample),  \
                count = min_size(min_size(RUN, end - p0), (sample) * (n + 1) - p0);                \
         p0 < end; p0 += count, n = p0 / (sample),                                                 \
                count = min_size(min_size(RUN, end - p0), (sample) * (n + 1) - p0))

void KR_NAME(kr_gate_score)(const struct kr_dims *d, const struct kr_gate *g, float *score,
                            double *sums, void *workspace)
{
    const size_t sample = (size_t)d->h * (size_t)d->w;
    const size_t cp = (size_t)kr_pad(g->a.c);
    const struct cut cut = cut_of(d->n, sample, 1, g->each);
    assert(!sums || workspace);
    if (!sums)
        workspace = NULL;
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, 2);
        FOR_RUNS(&cut, chunk, sample)
        {
            vf s[RUN];
            for (size_t p = 0; p < count; p++)
                s[p] = vset(0);
            for (size_t j = 0; j < cp; j += VL) {
                const struct view a = view_at(&g->a, (int)n, (int)j);
                const struct view b = view_at(&g->b, (int)n, (int)j);
                const vf psi = psi_vector(g, j);
                for (size_t p = 0, i = p0 * cp + j; p < count; p++, i += cp)
                    s[p] = vfma(psi, vmaximum(view_get(&a, i) + view_get(&b, i), vset(0)), s[p]);
            }
            for (size_t p = 0; p < count; p++) {
                float v = sum_lanes(s[p]);
                score[p0 + p] = v;
                if (slot) {
                    slot[0] += (double)v;
                    slot[1] += (double)v * (double)v;
                }
            }
        }
    }
    spread(&cut, workspace, 2, 0, sums, g->each);
}

void KR_NAME(kr_gate_apply)(const struct kr_dims *d, const struct kr_gate *g, const float *score,
                            const struct kr_out *out, void *workspace)
{
    const size_t sample = (size_t)d->h * (size_t)d->w;
    const size_t cp = (size_t)kr_pad(out->c);
    const struct cut cut = cut_of(d->n, sample, 1, out->each);
    assert(!out->sums || workspace);
    if (!out->sums)
        workspace = NULL;
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, 2 * cp);
        FOR_RUNS(&cut, chunk, sample)
        {
            float alpha[RUN];
            alphas(g, score + p0, n, count, alpha);
            for (size_t j = 0; j < cp; j += VL) {
                const struct view x = view_at(&g->x, (int)n, (int)j);
                struct put y = put_at(out, (int)j);
                for (size_t p = 0, i = p0 * cp + j; p < count; p++, i += cp)
                    put_set(&y, i, view_get(&x, i) * alpha[p]);
                put_sum(&y, slot, cp, j);
            }
        }
    }
    cut_sum(&cut, workspace, 2 * cp, 0, 2 * cp, out->sums, out->each, 2 * cp);
}

void KR_NAME(kr_gate_apply_backward)(const struct kr_dims *d, const struct kr_gate *g,
                                     const float *score, const float *dout, const struct kr_dx *dx,
                                     float *dscore, double *sums, void *workspace)
{
    const size_t sample = (size_t)d->h * (size_t)d->w;
    const size_t cp = (size_t)kr_pad(dx->c), count_doubles = 2 * cp + 2;
    const struct cut cut = cut_of(d->n, sample, 1, dx->each || g->each);
    assert(workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, count_doubles);
        FOR_RUNS(&cut, chunk, sample)
        {
            float alpha[RUN];
            vf s[RUN];
            alphas(g, score + p0, n, count, alpha);
            for (size_t p = 0; p < count; p++)
                s[p] = vset(0);
            for (size_t j = 0; j < cp; j += VL) {
                const struct view x = view_at(&g->x, (int)n, (int)j);
                struct grad t = grad_at(dx, (int)n, (int)j);
                for (size_t p = 0, i = p0 * cp + j; p < count; p++, i += cp) {
                    vf dy = vload(dout + i);
                    s[p] = vfma(dy, view_get(&x, i), s[p]);
                    grad_set(&t, i, dy * alpha[p]);
                }
                grad_sum(&t, slot, cp, j);
            }
            for (size_t p = 0; p < count; p++) {
                float v = sum_lanes(s[p]) * alpha[p] * (1 - alpha[p]);
                dscore[p0 + p] = v;
                slot[2 * cp] += (double)v;
                slot[2 * cp + 1] += (double)v * (double)score[p0 + p];
            }
        }
    }
    cut_sum(&cut, workspace, count_doubles, 0, 2 * cp, dx->sums, dx->each, 2 * cp);
    spread(&cut, workspace, count_doubles, 2 * cp, sums, g->each);
}

/* The derivative by the raw score of `count` pixels of sample n, from p0 on. */
INLINE void score_gradient(const struct kr_dy *dy, size_t n, size_t p0, size_t count, float *ds)
{
    const float *k = dy->k ? dy->k + n * dy->stride : NULL;
    memcpy(ds, dy->dy + p0, count * sizeof *ds);
    for (size_t p = 0; k && p < count; p++)
        ds[p] = k[0] * ds[p] + (k[KR_LANES] * dy->x[p0 + p] + k[2 * KR_LANES]);
}

void KR_NAME(kr_gate_score_backward)(const struct kr_dims *d, const struct kr_gate *g,
                                     const struct kr_dy *dy, const struct kr_dx dx[2], float *dpsi,
                                     void *workspace)
{
    const size_t sample = (size_t)d->h * (size_t)d->w;
    const size_t cp = (size_t)kr_pad(g->a.c);
    const struct cut cut = cut_of(d->n, sample, 1, dx[0].each || dx[1].each);
    assert(workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, 5 * cp);
        FOR_RUNS(&cut, chunk, sample)
        {
            float ds[RUN];
            score_gradient(dy, n, p0, count, ds);
            for (size_t j = 0; j < cp; j += VL) {
                const struct view a = view_at(&g->a, (int)n, (int)j);
                const struct view b = view_at(&g->b, (int)n, (int)j);
                struct grad da = grad_at(&dx[0], (int)n, (int)j);
                struct grad db = grad_at(&dx[1], (int)n, (int)j);
                const vf psi = psi_vector(g, j);
                vf sp = vset(0);
                for (size_t p = 0, i = p0 * cp + j; p < count; p++, i += cp) {
                    const vf v = view_get(&a, i) + view_get(&b, i);
                    const vf dv = vwhere(v > 0, vset(ds[p]));
                    sp = vfma(dv, v, sp);
                    grad_set(&da, i, dv * psi);
                    grad_set(&db, i, dv * psi);
                }
                grad_sum(&da, slot, cp, j);
                grad_sum(&db, slot + 2 * cp, cp, j);
                sum_add(slot + 4 * cp + j, sp);
            }
        }
    }
    for (size_t i = 0; i < 2; i++)
        cut_sum(&cut, workspace, 5 * cp, i * 2 * cp, 2 * cp, dx[i].sums, dx[i].each, 2 * cp);
    for (size_t c = 0; c < (size_t)g->a.c; c++) {
        double s = 0;
        for (int chunk = 0; chunk < cut.chunks; chunk++)
            s += ((double *)workspace)[(size_t)chunk * 5 * cp + 4 * cp + c];
        dpsi[c] = (float)s;
    }
}
