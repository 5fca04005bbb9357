/* The backward pass of a normalisation where no kernel fuses it, sums and copies of maps: one pass
 * over memory each. */
#include "lib/kernels/pointwise.h"

#include "lib/kernels/simd/map.h"
#include "lib/kernels/table.h"

#include <assert.h>

static size_t pixels(const struct kr_dims *d)
{
    return (size_t)d->n * (size_t)d->h * (size_t)d->w;
}

size_t KR_NAME(kr_pointwise_workspace)(const struct kr_dims *d, int c)
{
    const size_t slots = cut_most(d->n, (size_t)d->h * (size_t)d->w, 1);
    return slots * SUM_VECTORS * (size_t)kr_pad(c) * sizeof(double);
}

void KR_NAME(kr_bn_apply)(const struct kr_dims *d, int c, const float *dz, const void *x,
                          enum kr_dtype dtype, const float *k, size_t stride, float *dx)
{
    const size_t total = pixels(d), sample = stride ? (size_t)d->h * (size_t)d->w : total;
    const size_t cp = (size_t)kr_pad(c), block = block_pixels((int)cp);
    const struct cut cut = cut_of(1, total, 1, false);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++)
        FOR_BLOCKS(&cut, chunk, sample, block)
    for (size_t j = 0; j < cp; j += VL) {
        const float *row = k + n * stride + j;
        const vf k0 = vload(row), k1 = vload(row + cp), k2 = vload(row + 2 * cp);
        for (size_t i = p0 * cp + j; i < p1 * cp; i += cp)
            vstore(dx + i, vfma(k0, vload(dz + i), vfma(k1, vload_as(x, dtype, i), k2)));
    }
}

void KR_NAME(kr_add)(const struct kr_dims *d, int nin, const struct kr_in in[],
                     const struct kr_out *out, void *workspace)
{
    const size_t cp = (size_t)kr_pad(out->c);
    const struct sweep w = sweep_of(d, cp, 2 * cp, out->each, out->sums, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        for (size_t j = 0; j < cp; j += VL) {
            const struct view a = view_at(&in[0], (int)n, (int)j);
            const struct view b = view_at(&in[nin - 1], (int)n, (int)j);
            struct put y = put_at(out, (int)j);
            if (nin == 1)
                for (size_t i = p0 * cp + j; i < p1 * cp; i += cp)
                    put_set(&y, i, view_get(&a, i));
            else
                for (size_t i = p0 * cp + j; i < p1 * cp; i += cp)
                    put_set(&y, i, view_get(&a, i) + view_get(&b, i));
            put_sum(&y, slot, cp, j);
        }
    }
    sweep_sum(&w, 0, 2 * cp, out->sums, out->each);
}

void KR_NAME(kr_add_backward)(const struct kr_dims *d, const float *dy, int ndx,
                              const struct kr_dx dx[], void *workspace)
{
    const size_t cp = (size_t)kr_pad(dx[0].c);
    const struct sweep w = sweep_of(d, cp, 4 * cp, dx[0].each || dx[ndx - 1].each,
                                    dx[0].sums || dx[ndx - 1].sums, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < w.cut.chunks; chunk++) {
        double *slot = slot_at(w.slots, chunk, w.count);
        FOR_BLOCKS(&w.cut, chunk, w.sample, w.block)
        for (size_t j = 0; j < cp; j += VL) {
            struct grad a = grad_at(&dx[0], (int)n, (int)j);
            struct grad b = grad_at(&dx[ndx - 1], (int)n, (int)j);
            for (size_t i = p0 * cp + j; i < p1 * cp; i += cp) {
                vf v = vload(dy + i);
                grad_set(&a, i, v);
                if (ndx == 2)
                    grad_set(&b, i, v);
            }
            if (slot) {
                grad_sum(&a, slot, cp, j);
                grad_sum(&b, slot + 2 * cp, cp, j);
            }
        }
    }
    for (int i = 0; i < ndx; i++)
        sweep_sum(&w, (size_t)i * 2 * cp, 2 * cp, dx[i].sums, dx[i].each);
}

void KR_NAME(kr_from_planar)(const struct kr_dims *d, int c, const float *planar, void *map,
                             enum kr_dtype dtype)
{
    const size_t rows = (size_t)d->n * (size_t)d->h, w = (size_t)d->w, cp = (size_t)kr_pad(c);
    const size_t plane = (size_t)d->h * w;
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (size_t r = 0; r < rows; r++) {
        const float *from = planar + planes_at(c, plane, r * w);
        for (size_t x = 0; x < w; x++)
            for (size_t j = 0; j < cp; j += VL) {
                float t[VL] = {0};
                for (size_t l = 0; l < VL && j + l < (size_t)c; l++)
                    t[l] = from[(j + l) * plane + x];
                size_t i = (r * w + x) * cp + j;
                if (dtype == KR_F32)
                    vstore((float *)map + i, vload(t));
                else
                    vstore_bf16((uint16_t *)map + i, vload(t));
            }
    }
}
