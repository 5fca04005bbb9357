/* paired.h - whether paired differences are more than chance: an interval, a test, a correction. */
#ifndef MET_PAIRED_H
#define MET_PAIRED_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/rng.h"

/* The 95 % interval of the mean of n values, by the percentile bootstrap (Efron, Annals of
 * Statistics 7, 1979): the 2.5th and 97.5th percentile, between ranks as numpy has them, of the
 * means of MET_RESAMPLES samples of n that are drawn with replacement. NaN for fewer than 2.
 * Returns 0 or MET_NOMEM. */
#define MET_RESAMPLES 10000
int met_bootstrap(const double *v, size_t n, struct rng key, double *low, double *high);

/* Wilcoxon's signed-rank test, two-sided (Biometrics Bulletin 1, 1945). Differences of 0 are left
 * out, as he did; equal ones share the mean of their ranks. Exact for at most 25 others without
 * equals among them, else by the normal approximation, its variance lessened by the equals and its
 * distance from the mean by one half (Hollander, Wolfe, Nonparametric Statistical Methods). With
 * nothing left p is 1. Returns 0 or MET_NOMEM. */
struct met_wilcoxon {
    size_t zeros;
    double w; /* the smaller of the two sums of ranks */
    double p;
    bool exact;
};
int met_wilcoxon(const double *difference, size_t n, struct met_wilcoxon *out);

/* Holm's correction of n p-values (Scandinavian Journal of Statistics 6, 1979), in place: the k-th
 * smallest times n - k + 1, at least the one before it, at most 1. Returns 0 or MET_NOMEM. */
int met_holm(double *p, size_t n);

#endif
