/* resample.c - weights of each kernel along each axis, then sums over its voxels. */
#include "lib/image/resample.h"

#include <math.h>
#include <string.h>

enum { TAPS = 6 }; /* of the widest kernel */

const char *const img_kernel_names[] = {"linear", "cubic", "lanczos"};

int img_kernel_by_name(const char *name, enum img_kernel *kernel)
{
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, img_kernel_names[i])) {
            *kernel = (enum img_kernel)i;
            return 0;
        }
    return -1;
}

/* Where a point lies, and the voxel that is nearest to it; false outside. */
static bool find(const struct affine *map, const uint32_t grid[3], uint32_t x, uint32_t y,
                 uint32_t z, double at[3], uint32_t near[3])
{
    affine_map(map, (const double[]){x, y, z}, at);
    for (int c = 0; c < 3; c++) {
        if (!(at[c] >= -0.5 && at[c] < grid[c] - 0.5))
            return false;
        near[c] = (uint32_t)(at[c] + 0.5);
    }
    return true;
}

/* Weights of a kernel's taps for a point that lies f behind the middle one. */
static void weigh(enum img_kernel kernel, double f, float w[TAPS])
{
    double v[TAPS], sum = 0;

    switch (kernel) {
    case IMG_LINEAR:
        w[0] = (float)(1 - f);
        w[1] = (float)f;
        break;
    case IMG_CUBIC:
        w[0] = (float)(f * (-0.5 + f * (1 - 0.5 * f)));
        w[1] = (float)(1 + f * f * (-2.5 + 1.5 * f));
        w[2] = (float)(f * (0.5 + f * (2 - 1.5 * f)));
        w[3] = (float)(f * f * (-0.5 + 0.5 * f));
        break;
    case IMG_LANCZOS:
        for (int k = 0; k < TAPS; k++)
            w[k] = k == 2;
        if (f == 0)
            break;
        /* sin(pi t) sin(pi t / 3) / t^2 at t = f - k, k = -2..3, from one sine and one cosine */
        const double third = acos(-1) / 3, s = sin(third * f), c = cos(third * f),
                     whole = s * (3 - 4 * s * s), half = 0.5, root = sqrt(0.75);
        const double cosine[TAPS] = {-half, half, 1, half, -half, -1},
                     sine[TAPS] = {root, root, 0, -root, -root, 0};
        for (int k = 0; k < TAPS; k++) {
            double t = f + 2 - k;
            v[k] = (k & 1 ? -whole : whole) * (s * cosine[k] + c * sine[k]) / (t * t);
            sum += v[k];
        }
        for (int k = 0; k < TAPS; k++)
            w[k] = (float)(v[k] / sum);
        break;
    }
}

static float sample(const struct img_volume *v, const double at[3], enum img_kernel kernel)
{
    static const int taps[] = {2, 4, 6};
    const int n = taps[kernel];
    const float *voxels = v->voxels;
    float w[3][TAPS], sum = 0;
    size_t offset[3][TAPS];

    for (int c = 0; c < 3; c++) {
        double floored = floor(at[c]);
        long first = (long)floored - (n / 2 - 1), last = (long)v->grid[c] - 1;
        weigh(kernel, at[c] - floored, w[c]);
        for (int k = 0; k < n; k++) {
            long i = first + k;
            offset[c][k] = v->at[c][i < 0 ? 0 : i > last ? last : i];
        }
    }
    for (int k = 0; k < n; k++)
        for (int j = 0; j < n; j++) {
            const float *row = voxels + offset[2][k] + offset[1][j];
            float line = 0;
            for (int i = 0; i < n; i++)
                line += w[0][i] * row[offset[0][i]];
            sum += w[2][k] * w[1][j] * line;
        }
    return sum < v->least ? v->least : sum > v->most ? v->most : sum;
}

static size_t number_of(const struct img_volume *v, const uint32_t at[3])
{
    return v->at[0][at[0]] + v->at[1][at[1]] + v->at[2][at[2]];
}

size_t img_resample(const struct img_volume *v, const struct affine *map, enum img_kernel kernel,
                    uint32_t z, uint32_t y, uint32_t w, float *out)
{
    size_t inside = 0;

    for (uint32_t x = 0; x < w; x++, out++) {
        double at[3];
        uint32_t near[3];
        *out = 0;
        if (!find(map, v->grid, x, y, z, at, near))
            continue;
        inside++;
        if (!v->air || ((const float *)v->voxels)[number_of(v, near)] != 0)
            *out = sample(v, at, kernel);
    }
    return inside;
}

void img_resample_nearest(const struct img_volume *v, size_t size, const struct affine *map,
                          uint32_t z, uint32_t y, uint32_t w, void *out)
{
    char *to = out;

    for (uint32_t x = 0; x < w; x++, to += size) {
        double at[3];
        uint32_t near[3];
        if (find(map, v->grid, x, y, z, at, near))
            memcpy(to, (const char *)v->voxels + number_of(v, near) * size, size);
        else
            memset(to, 0, size);
    }
}
