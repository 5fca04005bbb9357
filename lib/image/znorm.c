/* Two passes in double: one pass of squares loses digits where the mean is far from zero. */
#include "lib/image/znorm.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "lib/image/load.h"

/* Sum of (v - centre), or of its square, over the elements that are not zero; adds their number to
 * *count. */
static double pass(const struct tensor *t, size_t first, size_t n, double centre, bool squared,
                   double *count)
{
    double v[IMG_CHUNK], total = 0;
    for (size_t i = 0; i < n; i += IMG_CHUNK) {
        size_t m = n - i < IMG_CHUNK ? n - i : IMG_CHUNK;
        double sum = 0, many = 0;
        img_load(t, first + i, m, v);
        if (squared) {
#pragma omp simd reduction(+ : sum, many)
            for (size_t k = 0; k < m; k++) {
                double on = v[k] != 0, d = (v[k] - centre) * on;
                sum += d * d;
                many += on;
            }
        } else {
#pragma omp simd reduction(+ : sum, many)
            for (size_t k = 0; k < m; k++) {
                double on = v[k] != 0;
                sum += (v[k] - centre) * on;
                many += on;
            }
        }
        total += sum;
        *count += many;
    }
    return total;
}

/* Some element that is not zero, or 0: sums of differences from it are exactly 0 where all are
 * equal. */
static double any(const struct tensor *t, size_t first, size_t n)
{
    double v[IMG_CHUNK];
    for (size_t i = 0; i < n; i += IMG_CHUNK) {
        size_t m = n - i < IMG_CHUNK ? n - i : IMG_CHUNK;
        img_load(t, first + i, m, v);
        for (size_t k = 0; k < m; k++)
            if (v[k] != 0)
                return v[k];
    }
    return 0;
}

size_t img_moments(const struct tensor *t, size_t first, size_t n, double *mean, double *std)
{
    double shift = any(t, first, n), count = 0, again = 0;
    double sum = pass(t, first, n, shift, false, &count);
    *mean = *std = 0;
    if (count > 0) {
        *mean = shift + sum / count;
        *std = sqrt(pass(t, first, n, *mean, true, &again) / count);
    }
    return (size_t)count;
}

/* Returns whether every result is finite. No branches: the compiler makes vectors of this loop. */
static bool scale(const double *restrict v, size_t n, double mean, double by, float *restrict out)
{
    float check = 0;
#pragma omp simd reduction(+ : check)
    for (size_t i = 0; i < n; i++) {
        double on = v[i] != 0;
        out[i] = (float)((v[i] - mean) * by * on + 0.0); /* -0.0 becomes 0.0 */
        check += out[i] * 0;                             /* NaN where out[i] is not finite */
    }
    return check == 0;
}

size_t img_znorm(const struct tensor *t, size_t first, size_t n, double mean, double std,
                 float *out)
{
    double v[IMG_CHUNK], by = std > 1e-10 * fabs(mean) ? 1 / std : 0;
    for (size_t i = 0; i < n; i += IMG_CHUNK) {
        size_t m = n - i < IMG_CHUNK ? n - i : IMG_CHUNK;
        img_load(t, first + i, m, v);
        if (!scale(v, m, mean, by, out + i))
            for (size_t k = 0; k < m; k++)
                if (v[k] != 0 && !(fabs((v[k] - mean) * by) <= FLT_MAX))
                    return i + k;
    }
    return n;
}
