/* Small samples: a patient a value. What is sorted is sorted by value alone. */
#include "lib/metric/paired.h"
#include "lib/metric/metric.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_EXACT = 25, MOST_SUM = MOST_EXACT * (MOST_EXACT + 1) / 2 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const double *sorted, size_t n, double share)
{
    double at = share * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

int met_bootstrap(const double *v, size_t n, struct rng key, double *low, double *high)
{
    double *mean;
    *low = *high = NAN;
    if (n < 2)
        return 0;
    if (!(mean = malloc(MET_RESAMPLES * sizeof *mean)))
        return MET_NOMEM;
    for (size_t k = 0; k < MET_RESAMPLES; k++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += v[rng_below(&key, n)];
        mean[k] = sum / (double)n;
    }
    qsort(mean, MET_RESAMPLES, sizeof *mean, by_value);
    *low = percentile(mean, MET_RESAMPLES, 0.025);
    *high = percentile(mean, MET_RESAMPLES, 0.975);
    free(mean);
    return 0;
}

/* Of the 2^n ways to give 1 .. n signs, the share in which the positive ones sum to w at most. */
static double exact_share(size_t n, double w)
{
    double ways[MOST_SUM + 1] = {1}, sum = 0;
    size_t most = 0;
    for (size_t rank = 1; rank <= n; rank++) {
        most += rank;
        for (size_t s = most; s >= rank; s--)
            ways[s] += ways[s - rank];
    }
    for (size_t s = 0; s <= most && (double)s <= w; s++)
        sum += ways[s];
    return ldexp(sum, -(int)n);
}

struct signed_rank {
    double size;
    bool positive;
};

static int by_size(const void *a, const void *b)
{
    return by_value(&((const struct signed_rank *)a)->size, &((const struct signed_rank *)b)->size);
}

int met_wilcoxon(const double *difference, size_t n, struct met_wilcoxon *out)
{
    struct signed_rank *r = malloc((n + 1) * sizeof *r);
    double up = 0, ties = 0;
    size_t m = 0;
    if (!r)
        return MET_NOMEM;
    for (size_t i = 0; i < n; i++)
        if (difference[i] != 0)
            r[m++] = (struct signed_rank){fabs(difference[i]), difference[i] > 0};
    qsort(r, m, sizeof *r, by_size);
    for (size_t i = 0, j; i < m; i = j) {
        for (j = i; j < m && r[j].size == r[i].size; j++)
            ;
        double t = (double)(j - i), rank = (double)(i + j + 1) / 2;
        ties += t * (t * t - 1);
        for (size_t k = i; k < j; k++)
            up += r[k].positive ? rank : 0;
    }
    free(r);
    double k = (double)m, all = k * (k + 1) / 2, w = fmin(up, all - up);
    *out = (struct met_wilcoxon){n - m, w, 1, m <= MOST_EXACT && ties == 0};
    if (out->exact)
        out->p = fmin(1, 2 * exact_share(m, w));
    else
        out->p = fmin(
            1, erfc((all / 2 - w - 0.5) / sqrt(2 * (k * (k + 1) * (2 * k + 1) / 24 - ties / 48))));
    return 0;
}

int met_holm(double *p, size_t n)
{
    const double **order = malloc((n + 1) * sizeof *order);
    double *out = malloc((n + 1) * sizeof *out), least = 0;
    if (!order || !out) {
        free(order);
        free(out);
        return MET_NOMEM;
    }
    for (size_t i = 0; i < n; i++) { /* insertion: a family is small */
        size_t at = i;
        for (; at > 0 && *order[at - 1] > p[i]; at--)
            order[at] = order[at - 1];
        order[at] = &p[i];
    }
    for (size_t k = 0; k < n; k++) {
        least = fmax(least, fmin(1, *order[k] * (double)(n - k)));
        out[order[k] - p] = least;
    }
    for (size_t i = 0; i < n; i++)
        p[i] = out[i];
    free(order);
    free(out);
    return 0;
}
