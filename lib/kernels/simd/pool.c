#include "lib/kernels/pointwise.h"

#include "lib/kernels/simd/map.h"
#include "lib/kernels/table.h"

#include <assert.h>

/* Walks rows first..end of the output in blocks of at most `block` columns. */
#define FOR_ROWS(cut, chunk)                                                                       \
    for (size_t r = cut_start(cut, chunk), end = cut_start(cut, (chunk) + 1); r < end; r++)

/* The larger; NaN where either is. */
INLINE vf larger(vf a, vf b)
{
    const vi first = (a > b) | (a != a);
    return (vf)(((vi)a & first) | ((vi)b & ~first));
}

void KR_NAME(kr_maxpool_forward)(const struct kr_dims *d, const struct kr_in *in,
                                 const struct kr_out *out, void *workspace)
{
    const size_t h = (size_t)d->h / 2, w = (size_t)d->w / 2;
    const size_t cp = (size_t)kr_pad(out->c), stride = (size_t)d->w * cp;
    const size_t block = block_pixels((int)cp);
    const struct cut cut = cut_of(d->n, h, w, out->each);
    assert(!out->sums || workspace);
    if (!out->sums)
        workspace = NULL;
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, 2 * cp);
        FOR_ROWS(&cut, chunk)
        {
            const size_t n = r / h, top = (n * (size_t)d->h + r % h * 2) * stride;
            for (size_t x0 = 0; x0 < w; x0 += block)
                for (size_t j = 0; j < cp; j += VL) {
                    const struct view v = view_at(in, (int)n, (int)j);
                    struct put y = put_at(out, (int)j);
                    for (size_t x = x0; x < min_size(x0 + block, w); x++) {
                        size_t i = top + 2 * x * cp + j;
                        vf a = larger(view_get(&v, i), view_get(&v, i + cp));
                        vf b = larger(view_get(&v, i + stride), view_get(&v, i + stride + cp));
                        put_set(&y, (r * w + x) * cp + j, larger(a, b));
                    }
                    if (slot) {
                        sum_add(slot + j, y.sum);
                        sum_add(slot + cp + j, y.squares);
                    }
                }
        }
    }
    cut_sum(&cut, workspace, 2 * cp, 0, 2 * cp, out->sums, out->each, 2 * cp);
}

void KR_NAME(kr_maxpool_backward)(const struct kr_dims *d, const struct kr_in *in, const float *dy,
                                  const struct kr_dx *dx, void *workspace)
{
    const size_t h = (size_t)d->h, w = (size_t)d->w, oh = h / 2, ow = w / 2;
    const size_t up = (h + 1) / 2; /* rows of windows, cut ones counted */
    const size_t cp = (size_t)kr_pad(dx->c), stride = w * cp, block = block_pixels((int)cp);
    const struct cut cut = cut_of(d->n, up, ow + 1, dx->each);
    assert(!dx->sums || workspace);
    if (!dx->sums)
        workspace = NULL;
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, 2 * cp);
        FOR_ROWS(&cut, chunk)
        {
            const size_t n = r / up, y = r % up, top = (n * h + 2 * y) * stride;
            const size_t full = 2 * y + 1 < h ? ow : 0; /* whole windows in this row */
            const float *g = dy + (n * oh + y) * ow * cp;
            for (size_t x0 = 0; x0 < ow + (w & 1); x0 += block)
                for (size_t j = 0; j < cp; j += VL) {
                    const struct view v = view_at(in, (int)n, (int)j);
                    struct grad t = grad_at(dx, (int)n, (int)j);
                    size_t x = x0, x1 = min_size(x0 + block, ow + (w & 1));
                    for (; x < min_size(x1, full); x++) {
                        size_t i = top + 2 * x * cp + j;
                        const vf a = view_get(&v, i), b = view_get(&v, i + cp);
                        const vf e = view_get(&v, i + stride), f = view_get(&v, i + stride + cp);
                        const vi ab = a >= b, ef = e >= f;
                        const vi above = vmaximum(a, b) >= vmaximum(e, f);
                        const vf dv = vload(g + x * cp + j);
                        grad_set(&t, i, vwhere(above & ab, dv));
                        grad_set(&t, i + cp, vwhere(above & ~ab, dv));
                        grad_set(&t, i + stride, vwhere(~above & ef, dv));
                        grad_set(&t, i + stride + cp, vwhere(~above & ~ef, dv));
                    }
                    for (; x < x1; x++) /* an odd last row or column */
                        for (size_t q = 0; q < 4; q++)
                            if (2 * y + q / 2 < h && 2 * x + q % 2 < w)
                                grad_set(&t, top + q / 2 * stride + (2 * x + q % 2) * cp + j,
                                         vset(0));
                    if (slot) {
                        sum_add(slot + j, t.sum);
                        sum_add(slot + cp + j, t.products);
                    }
                }
        }
    }
    cut_sum(&cut, workspace, 2 * cp, 0, 2 * cp, dx->sums, dx->each, 2 * cp);
}
