/* Pooling: windows that do not overlap, of any size, and of 2x2 with its size known. */
#include "lib/kernels/pointwise.h"

#include "lib/kernels/simd/map.h"
#include "lib/kernels/table.h"

#include <assert.h>

#define SIDE_MOST 4

/* Windows of a pooling along z, y, x, `whole` ones and all; the input's extents. */
struct windows {
    size_t size[3], from[3], whole[3], all[3], cp;
};

static struct windows windows_of(const struct kr_pool *p, int c)
{
    struct windows w = {.from = {(size_t)p->d, (size_t)p->h, (size_t)p->w},
                        .cp = (size_t)kr_pad(c)};
    for (int i = 0; i < 3; i++) {
        assert(p->size[i] >= 1 && p->size[i] <= SIDE_MOST);
        w.size[i] = (size_t)p->size[i];
        w.whole[i] = w.from[i] / w.size[i];
        w.all[i] = (w.from[i] + w.size[i] - 1) / w.size[i];
    }
    return w;
}

/* What a window is reduced to, value by value: the largest, NaN where there is one, and the number
 * of the first such value; or the sum. */
struct reduced {
    vf v;
    vi winner;
};

INLINE void reduce(struct reduced *r, vf v, int number, const bool average)
{
    if (!number) {
        *r = (struct reduced){v, (vi){0}};
    } else if (average) {
        r->v += v;
    } else {
        const vi better = (v > r->v) | (v != v);
        r->v = vselect(better, v, r->v);
        r->winner = (better & ((vi){0} + number)) | (~better & r->winner);
    }
}

/* The window whose first value of slice a is element i + a * slice. */
INLINE struct reduced window_at(const struct view view[], const struct windows *w, const size_t sz,
                                const size_t sy, const size_t sx, const bool average, size_t i)
{
    const size_t row = w->from[2] * w->cp, slice = w->from[1] * row;
    struct reduced r;
    int number = 0;
    for (size_t a = 0; a < sz; a++)
        for (size_t b = 0; b < sy; b++)
            for (size_t c = 0; c < sx; c++)
                reduce(&r, view_get(&view[a], i + a * slice + b * row + c * w->cp), number++,
                       average);
    return r;
}

/* The windows' rows from r to `end`, of all slices. */
INLINE void forward(const struct windows *w, const size_t sz, const size_t sy, const size_t sx,
                    const bool average, const struct kr_in *in, const struct kr_out *out, size_t r,
                    size_t end, double *slot)
{
    const size_t cp = w->cp, block = block_pixels((int)cp), od = w->whole[0], oh = w->whole[1],
                 ow = w->whole[2];
    const vf part = vset(1 / (float)(sz * sy * sx));
    for (; r < end; r++) {
        const size_t s = r / oh, z = s / od * w->from[0] + s % od * sz;
        const size_t top = (z * w->from[1] + r % oh * sy) * w->from[2] * cp;
        for (size_t x0 = 0; x0 < ow; x0 += block)
            for (size_t j = 0; j < cp; j += VL) {
                struct view v[SIDE_MOST];
                for (size_t a = 0; a < sz; a++)
                    v[a] = view_at(in, (int)(z + a), (int)j);
                struct put y = put_at(out, (int)j);
                for (size_t x = x0; x < min_size(x0 + block, ow); x++) {
                    const struct reduced q =
                        window_at(v, w, sz, sy, sx, average, top + x * sx * cp + j);
                    put_set(&y, (r * ow + x) * cp + j, average ? q.v * part : q.v);
                }
                put_sum(&y, slot, cp, j);
            }
    }
}

/* Rows of windows of dx, cut ones counted, slice by slice. */
INLINE void backward(const struct windows *w, const size_t sz, const size_t sy, const size_t sx,
                     const bool average, const struct kr_in *in, const float *dy,
                     const struct kr_dx *dx, size_t r, size_t end, double *slot)
{
    const size_t cp = w->cp, block = block_pixels((int)cp), oh = w->whole[1], ow = w->whole[2];
    const size_t row = w->from[2] * cp, slice = w->from[1] * row;
    const vf part = vset(1 / (float)(sz * sy * sx));
    for (; r < end; r++) {
        const size_t s = r / w->all[1], y = r % w->all[1], z = s % w->from[0];
        const size_t oz = z / sz, a = z % sz, first = s - a; /* the window's first slice */
        const size_t top = s * slice + y * sy * row;
        const size_t full = oz < w->whole[0] && y < oh ? ow : 0; /* whole windows in this row */
        const float *g = dy + ((s / w->from[0] * w->whole[0] + oz) * oh + y) * ow * cp;
        for (size_t x0 = 0; x0 < w->all[2]; x0 += block)
            for (size_t j = 0; j < cp; j += VL) {
                struct view v[SIDE_MOST];
                struct grad t = grad_at(dx, (int)s, (int)j);
                size_t x = x0, x1 = min_size(x0 + block, w->all[2]);
                for (size_t k = 0; k < sz && full && !average; k++)
                    v[k] = view_at(in, (int)(first + k), (int)j);
                for (; x < min_size(x1, full); x++) {
                    const size_t i = top + x * sx * cp + j;
                    const vf dv = vload(g + x * cp + j);
                    struct reduced q = {.v = dv * part};
                    int number = (int)(a * sy * sx);
                    if (!average)
                        q = window_at(v, w, sz, sy, sx, false, i - a * slice);
                    for (size_t b = 0; b < sy; b++)
                        for (size_t c = 0; c < sx; c++, number++)
                            grad_set(&t, i + b * row + c * cp,
                                     average ? q.v : vwhere(q.winner == number, dv));
                }
                for (; x < x1; x++) /* what is left over at the ends */
                    for (size_t b = 0; b < sy && y * sy + b < w->from[1]; b++)
                        for (size_t c = 0; c < sx && x * sx + c < w->from[2]; c++)
                            grad_set(&t, top + b * row + (x * sx + c) * cp + j, vset(0));
                grad_sum(&t, slot, cp, j);
            }
    }
}

static bool is_2x2(const struct kr_pool *p)
{
    return p->size[0] == 1 && p->size[1] == 2 && p->size[2] == 2;
}

void KR_NAME(kr_pool_forward)(const struct kr_pool *p, const struct kr_in *in,
                              const struct kr_out *out, void *workspace)
{
    const struct windows w = windows_of(p, out->c);
    const size_t *k = w.size;
    const struct cut cut = cut_of(p->n * (int)w.whole[0], w.whole[1], w.whole[2], out->each);
    assert(!out->sums || workspace);
    if (!out->sums)
        workspace = NULL;
#pragma omp parallel for schedule(static) num_threads(p->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        const size_t r = cut_start(&cut, chunk), end = cut_start(&cut, chunk + 1);
        double *slot = slot_at(workspace, chunk, 2 * w.cp);
        if (p->average)
            forward(&w, k[0], k[1], k[2], true, in, out, r, end, slot);
        else if (is_2x2(p))
            forward(&w, 1, 2, 2, false, in, out, r, end, slot);
        else
            forward(&w, k[0], k[1], k[2], false, in, out, r, end, slot);
    }
    cut_sum(&cut, workspace, 2 * w.cp, 0, 2 * w.cp, out->sums, out->each, 2 * w.cp);
}

void KR_NAME(kr_pool_backward)(const struct kr_pool *p, const struct kr_in *in, const float *dy,
                               const struct kr_dx *dx, void *workspace)
{
    const struct windows w = windows_of(p, dx->c);
    const size_t *k = w.size;
    const struct cut cut = cut_of(p->n * p->d, w.all[1], w.whole[2] + 1, dx->each);
    assert(!dx->sums || workspace);
    if (!dx->sums)
        workspace = NULL;
#pragma omp parallel for schedule(static) num_threads(p->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        const size_t r = cut_start(&cut, chunk), end = cut_start(&cut, chunk + 1);
        double *slot = slot_at(workspace, chunk, 2 * w.cp);
        if (p->average)
            backward(&w, k[0], k[1], k[2], true, in, dy, dx, r, end, slot);
        else if (is_2x2(p))
            backward(&w, 1, 2, 2, false, in, dy, dx, r, end, slot);
        else
            backward(&w, k[0], k[1], k[2], false, in, dy, dx, r, end, slot);
    }
    cut_sum(&cut, workspace, 2 * w.cp, 0, 2 * w.cp, dx->sums, dx->each, 2 * w.cp);
}
