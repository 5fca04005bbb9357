/* One axis at a time, as metric.h says; along rows, where the mask is two-valued, steps are
 * counted instead. */
#include "lib/metric/metric.h"

#include <math.h>
#include <stdlib.h>

enum { TILE = 16 }; /* columns taken together: one cache line of float */

struct line {
    double *f; /* TILE columns of n values, in squared voxels of this axis */
    double *z; /* n + 1: where the i-th parabola of the envelope begins to be the lowest */
    size_t *v; /* n: its vertex */
};

/* Along a row the mask is two-valued, and the distance is the number of steps to the nearer
 * side. */
static void along_row(const uint8_t *row, const uint8_t in[256], size_t n, double spacing,
                      float *out)
{
    float square = (float)(spacing * spacing);
    size_t x, last = n;
    for (x = 0; x < n; x++) {
        if (in[row[x]])
            last = x;
        out[x] = last == n ? INFINITY : (float)(x - last);
    }
    if (last == n)
        return;
    for (x = n; x-- > 0;) {
        if (in[row[x]])
            last = x;
        float step = x < last ? (float)(last - x) : INFINITY;
        out[x] = step < out[x] ? step : out[x];
        out[x] *= out[x] * square;
    }
}

/* out[i] = min over j of f[j] + (i - j)^2 */
static void envelope(const double *f, size_t n, struct line *l, double *out)
{
    size_t k = 0, q = 0, *v = l->v;
    double *z = l->z;
    while (q < n && isinf(f[q]))
        q++;
    if (q == n) {
        for (size_t i = 0; i < n; i++)
            out[i] = INFINITY;
        return;
    }
    v[0] = q;
    z[0] = -INFINITY;
    z[1] = INFINITY;
    for (q++; q < n; q++) {
        double s;
        if (isinf(f[q]))
            continue;
        for (;;) {
            double p = (double)v[k], d = (double)q - p;
            s = (f[q] - f[v[k]]) / (2 * d) + (p + (double)q) / 2;
            if (s > z[k])
                break;
            k--; /* z[0] is -infinity: it never falls below 0 */
        }
        v[++k] = q;
        z[k] = s;
        z[k + 1] = INFINITY;
    }
    k = 0;
    for (size_t i = 0; i < n; i++) {
        while (z[k + 1] < (double)i)
            k++;
        double d = (double)i - (double)v[k];
        out[i] = d * d + f[v[k]];
    }
}

/* One axis of n steps, `step` elements apart, for `count` columns that lie side by side. */
static void along_axis(float *sq, size_t n, size_t step, size_t count, double spacing,
                       struct line *l)
{
    double square = spacing * spacing, *out = l->f + TILE * n;
    for (size_t c = 0; c < count; c += TILE) {
        size_t m = count - c < TILE ? count - c : TILE;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < m; j++)
                l->f[j * n + i] = sq[i * step + c + j] / square;
        for (size_t j = 0; j < m; j++) {
            envelope(l->f + j * n, n, l, out);
            for (size_t i = 0; i < n; i++)
                l->f[j * n + i] = out[i];
        }
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < m; j++)
                sq[i * step + c + j] = (float)(l->f[j * n + i] * square);
    }
}

int met_edt(const uint8_t *values, const uint8_t in[256], const struct met_grid *g, float *sq)
{
    size_t D = g->dim[0], H = g->dim[1], W = g->dim[2], n = D > H ? D : H;
    struct line l = {malloc((TILE + 1) * n * sizeof *l.f), malloc((n + 1) * sizeof *l.z),
                     malloc(n * sizeof *l.v)};
    int r = MET_NOMEM;
    if (l.f && l.z && l.v) {
        for (size_t row = 0; row < D * H; row++)
            along_row(values + row * W, in, W, g->spacing[2], sq + row * W);
        for (size_t z = 0; z < D; z++)
            along_axis(sq + z * H * W, H, W, W, g->spacing[1], &l);
        along_axis(sq, D, H * W, H * W, g->spacing[0], &l);
        r = 0;
    }
    free(l.f);
    free(l.z);
    free(l.v);
    return r;
}
