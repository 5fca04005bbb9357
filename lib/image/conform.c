/* conform.c - a scan to the cube of 1 mm that a network sees, its answer back to the scan. */
#include "lib/image/conform.h"

#include <math.h>
#include <string.h>

int img_conform(struct img_conform *c, const size_t dim[3], const double mm[3])
{
    for (int i = 0; i < 3; i++) {
        const double side = (double)dim[i] * mm[i];
        if (side > IMG_CUBE_MOST)
            return -1;
        c->dim[i] = dim[i];
        c->mm[i] = mm[i];
        c->in[i] = side < 1 ? 1 : (size_t)lround(side);
        c->n[i] = c->in[i] + 2 * IMG_MARGIN < IMG_CUBE ? c->in[i] + 2 * IMG_MARGIN
                  : c->in[i] < IMG_CUBE                ? IMG_CUBE
                                                       : c->in[i];
        c->at[i] = (c->n[i] - c->in[i]) / 2;
    }
    return 0;
}

/* Between which two of `count` centres a place lies, and how far it is on the way. */
struct between {
    size_t a, b;
    double part;
};

static struct between between(double place, size_t count)
{
    const double last = (double)count - 1, p = place < 0 ? 0 : place > last ? last : place;
    const size_t a = (size_t)p;
    return (struct between){a, a + 1 < count ? a + 1 : a, p - (double)a};
}

/* Where the centre of the grid's voxel i, counted from the scan's beginning, lies in the scan; both
 * have one middle. And of the scan's voxel in the grid. */
static double in_scan(const struct img_conform *c, int axis, size_t i)
{
    const double mm = (double)i + 0.5 - (double)c->in[axis] / 2;
    return mm / c->mm[axis] + (double)c->dim[axis] / 2 - 0.5;
}

static double in_grid(const struct img_conform *c, int axis, size_t i)
{
    const double mm = ((double)i + 0.5 - (double)c->dim[axis] / 2) * c->mm[axis];
    return mm + (double)c->in[axis] / 2 - 0.5;
}

static double mix(double a, double b, double part)
{
    return a + (b - a) * part;
}

static void resample(const struct img_conform *c, const float *scan, float *to)
{
    const size_t h = c->dim[1], w = c->dim[2];
#pragma omp parallel for schedule(static)
    for (size_t z = 0; z < c->in[0]; z++) {
        const struct between bz = between(in_scan(c, 0, z), c->dim[0]);
        const float *low = scan + bz.a * h * w, *high = scan + bz.b * h * w;
        for (size_t y = 0; y < c->in[1]; y++) {
            const struct between by = between(in_scan(c, 1, y), h);
            const size_t a = by.a * w, b = by.b * w;
            float *row = to + ((z + c->at[0]) * c->n[1] + y + c->at[1]) * c->n[2] + c->at[2];
            for (size_t x = 0; x < c->in[2]; x++) {
                const struct between bx = between(in_scan(c, 2, x), w);
                const double l =
                    mix(mix((double)low[a + bx.a], (double)low[a + bx.b], bx.part),
                        mix((double)low[b + bx.a], (double)low[b + bx.b], bx.part), by.part);
                const double u =
                    mix(mix((double)high[a + bx.a], (double)high[a + bx.b], bx.part),
                        mix((double)high[b + bx.a], (double)high[b + bx.b], bx.part), by.part);
                row[x] = (float)mix(l, u, bz.part);
            }
        }
    }
}

/* The least value, to 2^-50 of the range, that `rank` of n values do not exceed. */
static double ranked(const float *v, size_t n, double least, double most, size_t rank)
{
    double low = least, high = most;
    if (rank < 1)
        return least;
    for (int i = 0; i < 50 && low < high; i++) {
        const double mid = low + (high - low) / 2;
        const float limit = (float)mid;
        size_t below = 0;
#pragma omp parallel for reduction(+ : below) schedule(static)
        for (size_t k = 0; k < n; k++)
            below += v[k] <= limit;
        if (below >= rank)
            high = mid;
        else
            low = mid;
    }
    return high;
}

double img_conform_scan(const struct img_conform *c, const float *scan, float *to)
{
    const size_t all = c->n[0] * c->n[1] * c->n[2], voxels = c->dim[0] * c->dim[1] * c->dim[2];
    const size_t cube = (size_t)IMG_CUBE * IMG_CUBE * IMG_CUBE, more = cube > all ? cube - all : 0;
    float least = scan[0], most = scan[0];
    for (size_t i = 1; i < voxels; i++) {
        least = scan[i] < least ? scan[i] : least;
        most = scan[i] > most ? scan[i] : most;
    }
    for (size_t i = 0; i < all; i++)
        to[i] = least;
    resample(c, scan, to);
    double q[2];
    for (int i = 0; i < 2; i++) {
        const size_t rank = (size_t)ceil((i ? 0.98 : 0.02) * (double)(all + more));
        q[i] = ranked(to, all, (double)least, (double)most, rank > more ? rank - more : 0);
    }
    const double range = q[1] - q[0];
    if (!(range > 0)) {
        memset(to, 0, all * sizeof *to);
        return 0;
    }
    for (size_t i = 0; i < all; i++) {
        const double v = ((double)to[i] - q[0]) / range;
        to[i] = (float)(v < 0 ? 0 : v > 1 ? 1 : v);
    }
    return range;
}

void img_conform_back(const struct img_conform *c, const float *grid, float *to)
{
    const size_t h = c->n[1], w = c->n[2];
#pragma omp parallel for schedule(static)
    for (size_t z = 0; z < c->dim[0]; z++) {
        const struct between bz = between(in_grid(c, 0, z), c->in[0]);
        for (size_t y = 0; y < c->dim[1]; y++) {
            const struct between by = between(in_grid(c, 1, y), c->in[1]);
            for (size_t x = 0; x < c->dim[2]; x++) {
                const struct between bx = between(in_grid(c, 2, x), c->in[2]);
                double v[2][2];
                for (int i = 0; i < 2; i++)
                    for (int j = 0; j < 2; j++) {
                        const float *row =
                            grid +
                            (((i ? bz.b : bz.a) + c->at[0]) * h + (j ? by.b : by.a) + c->at[1]) *
                                w +
                            c->at[2];
                        v[i][j] = mix((double)row[bx.a], (double)row[bx.b], bx.part);
                    }
                to[(z * c->dim[1] + y) * c->dim[2] + x] = (float)mix(
                    mix(v[0][0], v[0][1], by.part), mix(v[1][0], v[1][1], by.part), bz.part);
            }
        }
    }
}
