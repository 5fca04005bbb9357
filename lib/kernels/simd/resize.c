/* resize.c - nearest and linear, up by integer factors, axis by axis of an output (forward) or an
 * input (backward) that is gathered. */
#include "lib/kernels/pointwise.h"

#include "lib/kernels/simd/map.h"
#include "lib/kernels/table.h"

#include <assert.h>

/* The one or two positions of an axis that make one of the output. */
struct taps {
    size_t at[2];
    float w[2];
    int count;
};

INLINE struct taps taps_of(const struct kr_resize *r, int axis, size_t size, size_t o)
{
    const size_t f = (size_t)r->factor[axis];
    struct taps t = {.at = {o / f}, .w = {1}, .count = 1};
    if (!r->linear || f == 1)
        return t;
    const float place = ((float)o + 0.5f) / (float)f - 0.5f, from = place < 0 ? 0 : place;
    t.at[0] = (size_t)from;
    t.at[1] = min_size(t.at[0] + 1, size - 1);
    t.w[1] = from - (float)t.at[0];
    t.w[0] = 1 - t.w[1];
    t.count = 2;
    return t;
}

/* The positions of the output that take from one of an axis, and how much of it. */
struct reach {
    size_t first, count;
    float w[3 * KR_FACTOR_MOST];
};

INLINE struct reach reach_of(const struct kr_resize *r, int axis, size_t size, size_t i)
{
    const size_t f = (size_t)r->factor[axis];
    const size_t begin = r->linear && i ? (i - 1) * f : i * f;
    const size_t end = min_size((r->linear ? i + 2 : i + 1) * f, size * f);
    struct reach t = {.first = begin};
    for (size_t o = begin; o < end; o++) {
        const struct taps k = taps_of(r, axis, size, o);
        float w = 0;
        for (int a = 0; a < k.count; a++)
            w += k.at[a] == i ? k.w[a] : 0;
        if (w == 0 && t.count == 0)
            t.first = o + 1;
        else
            t.w[t.count++] = w;
    }
    while (t.count && t.w[t.count - 1] == 0)
        t.count--;
    return t;
}

size_t KR_NAME(kr_resize_workspace)(const struct kr_resize *r, int c)
{
    const size_t h = (size_t)r->h, w = (size_t)r->w;
    const size_t in = cut_most(r->n * r->d, h, w);
    const size_t out =
        cut_most(r->n * r->d * r->factor[0], h * (size_t)r->factor[1], w * (size_t)r->factor[2]);
    return (in > out ? in : out) * 2 * (size_t)kr_pad(c) * sizeof(double);
}

void KR_NAME(kr_resize_forward)(const struct kr_resize *r, const struct kr_in *in,
                                const struct kr_out *out, void *workspace)
{
    const size_t d = (size_t)r->d, h = (size_t)r->h, w = (size_t)r->w;
    const size_t slices = d * (size_t)r->factor[0], rows = h * (size_t)r->factor[1];
    const size_t columns = w * (size_t)r->factor[2];
    const size_t cp = (size_t)kr_pad(out->c), block = block_pixels((int)cp);
    const struct cut cut = cut_of(r->n * (int)slices, rows, columns, out->each);
    assert(!out->sums || workspace);
    if (!out->sums)
        workspace = NULL;
#pragma omp parallel for schedule(static) num_threads(r->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, 2 * cp);
        for (size_t row = cut_start(&cut, chunk); row < cut_start(&cut, chunk + 1); row++) {
            const size_t n = row / rows / slices * d;
            const struct taps z = taps_of(r, 0, d, row / rows % slices);
            const struct taps y = taps_of(r, 1, h, row % rows);
            for (size_t x0 = 0; x0 < columns; x0 += block) {
                const size_t count = min_size(block, columns - x0);
                struct taps x[SWEEP_MOST];
                for (size_t p = 0; p < count; p++)
                    x[p] = taps_of(r, 2, w, x0 + p);
                for (size_t j = 0; j < cp; j += VL) {
                    struct put to = put_at(out, (int)j);
                    struct view v[2];
                    for (int a = 0; a < z.count; a++)
                        v[a] = view_at(in, (int)(n + z.at[a]), (int)j);
                    for (size_t p = 0; p < count; p++) {
                        vf sum = vset(0);
                        for (int a = 0; a < z.count; a++)
                            for (int b = 0; b < y.count; b++)
                                for (int c = 0; c < x[p].count; c++) {
                                    const size_t q = ((n + z.at[a]) * h + y.at[b]) * w + x[p].at[c];
                                    sum = vfma(vset(z.w[a] * y.w[b] * x[p].w[c]),
                                               view_get(&v[a], q * cp + j), sum);
                                }
                        put_set(&to, (row * columns + x0 + p) * cp + j, sum);
                    }
                    put_sum(&to, slot, cp, j);
                }
            }
        }
    }
    cut_sum(&cut, workspace, 2 * cp, 0, 2 * cp, out->sums, out->each, 2 * cp);
}

void KR_NAME(kr_resize_backward)(const struct kr_resize *r, const float *dy, const struct kr_dx *dx,
                                 void *workspace)
{
    const size_t d = (size_t)r->d, h = (size_t)r->h, w = (size_t)r->w;
    const size_t slices = d * (size_t)r->factor[0], rows = h * (size_t)r->factor[1];
    const size_t columns = w * (size_t)r->factor[2];
    const size_t cp = (size_t)kr_pad(dx->c), block = block_pixels((int)cp);
    const struct cut cut = cut_of(r->n * r->d, h, w, dx->each);
    /* All columns but the first and the last are as the second is. */
    const struct reach left = reach_of(r, 2, w, 0), right = reach_of(r, 2, w, w - 1);
    const struct reach inner = reach_of(r, 2, w, min_size(1, w - 1));
    assert(!dx->sums || workspace);
    if (!dx->sums)
        workspace = NULL;
#pragma omp parallel for schedule(static) num_threads(r->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, 2 * cp);
        for (size_t row = cut_start(&cut, chunk); row < cut_start(&cut, chunk + 1); row++) {
            const size_t n = row / h;
            const struct reach z = reach_of(r, 0, d, n % d), y = reach_of(r, 1, h, row % h);
            for (size_t x0 = 0; x0 < w; x0 += block)
                for (size_t j = 0; j < cp; j += VL) {
                    struct grad g = grad_at(dx, (int)n, (int)j);
                    for (size_t p = x0; p < min_size(x0 + block, w); p++) {
                        const struct reach *x = p == 0 ? &left : p == w - 1 ? &right : &inner;
                        const size_t first =
                            x == &inner ? inner.first + (p - 1) * (size_t)r->factor[2] : x->first;
                        vf sum = vset(0);
                        for (size_t a = 0; a < z.count; a++)
                            for (size_t b = 0; b < y.count; b++) {
                                const size_t slice = n / d * slices + z.first + a;
                                const float *from =
                                    dy + ((slice * rows + y.first + b) * columns + first) * cp + j;
                                vf line = vset(0);
                                for (size_t c = 0; c < x->count; c++)
                                    line = vfma(vset(x->w[c]), vload(from + c * cp), line);
                                sum = vfma(vset(z.w[a] * y.w[b]), line, sum);
                            }
                        grad_set(&g, (row * w + p) * cp + j, sum);
                    }
                    grad_sum(&g, slot, cp, j);
                }
        }
    }
    cut_sum(&cut, workspace, 2 * cp, 0, 2 * cp, dx->sums, dx->each, 2 * cp);
}
