/* Paired differences against SciPy and statsmodels (tests/vectors/paired.tsv), and against their
 * definitions counted out: every sign of every rank, every sample that can be drawn. */
#include "lib/metric/paired.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VECTORS "tests/vectors/paired.tsv"
enum { MOST = 256 };

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-10 * fmax(1, fabs(b));
}

static int compared[3];

static void compare_wilcoxon(const char *kind, const double *v, size_t n)
{
    struct met_wilcoxon w;
    compared[0]++;
    if (met_wilcoxon(v + 3, n - 3, &w) || w.exact != !strcmp(kind, "exact") ||
        w.zeros != (size_t)v[0] || w.w != v[1] || !near(w.p, v[2]))
        ok(0, "wilcoxon of %zu: wanted %s w %g p %.12g, got w %g p %.12g", n - 3, kind, v[1], v[2],
           w.w, w.p);
}

/* The 2.5th percentile of 10,000 samples is known to 0.027 deviations; four times that. */
static void compare_bootstrap(const double *v, size_t n)
{
    double low, high, most = 0.11 * v[2];
    compared[1]++;
    if (met_bootstrap(v + 3, n - 3, rng_seed(1), &low, &high) || fabs(low - v[0]) > most ||
        fabs(high - v[1]) > most)
        ok(0, "bootstrap of %zu: wanted %g to %g within %g, got %g to %g", n - 3, v[0], v[1], most,
           low, high);
}

static void compare_holm(const double *v)
{
    size_t n = (size_t)v[0];
    double p[MOST];
    compared[2]++;
    memcpy(p, v + 1, n * sizeof *p);
    int e = met_holm(p, n);
    for (size_t i = 0; i < n; i++)
        if (e || !near(p[i], v[1 + n + i]))
            ok(0, "holm of %zu: wanted %.12g, got %.12g", n, v[1 + n + i], p[i]);
}

static void test_vectors(void)
{
    char text[8192], *save;
    FILE *in = fopen(VECTORS, "r");
    while (in && fgets(text, sizeof text, in)) {
        double v[MOST];
        size_t n = 0;
        char *kind = strtok_r(text, "\t\n", &save);
        const char *how = !strcmp(kind, "wilcoxon") ? strtok_r(NULL, "\t\n", &save) : NULL;
        for (char *w; n < MOST && (w = strtok_r(NULL, "\t\n", &save));)
            v[n++] = strtod(w, NULL);
        if (how)
            compare_wilcoxon(how, v, n);
        else if (!strcmp(kind, "bootstrap"))
            compare_bootstrap(v, n);
        else
            compare_holm(v);
    }
    if (in)
        fclose(in);
    ok(compared[0] == 31, "wilcoxon: SciPy's statistic and p, %d samples", compared[0]);
    ok(compared[1] == 5, "bootstrap: SciPy's percentiles, %d samples", compared[1]);
    ok(compared[2] == 5, "holm: statsmodels' p, %d families", compared[2]);
}

/* Of 2^n signs of the ranks, those whose smaller sum is as small. */
static void test_signs(void)
{
    static const double v[] = {0.3, -1.2, 0.7, 2.5, -0.1, 1.9, 0.9, 3.1, -0.4};
    enum { N = sizeof v / sizeof *v };
    int rank[N], negative = 0, as_small = 0;
    struct met_wilcoxon w;
    for (int i = 0; i < N; i++) {
        rank[i] = 1;
        for (int k = 0; k < N; k++)
            rank[i] += fabs(v[k]) < fabs(v[i]);
        negative += v[i] < 0 ? rank[i] : 0;
    }
    for (int signs = 0; signs < 1 << N; signs++) {
        int sum = 0;
        for (int i = 0; i < N; i++)
            sum += signs >> i & 1 ? rank[i] : 0;
        sum = sum < N * (N + 1) / 2 - sum ? sum : N * (N + 1) / 2 - sum;
        as_small += sum <= negative;
    }
    ok(met_wilcoxon(v, N, &w) == 0 && w.w == negative && near(w.p, as_small / 512.0),
       "wilcoxon: p is the share of all signs with as small a sum (%d of 512)", as_small);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of four values 256 samples can be drawn, each as likely. The bounds lie far from a step. */
static void test_samples(void)
{
    static const double v[] = {0, 1, 3, 8};
    double mean[256], low, high;
    for (int i = 0; i < 256; i++)
        mean[i] = (v[i & 3] + v[i >> 2 & 3] + v[i >> 4 & 3] + v[i >> 6]) / 4;
    qsort(mean, 256, sizeof *mean, by_value);
    double want_low = mean[(int)(0.025 * 256)], want_high = mean[(int)(0.975 * 256)];
    bool same = true;
    for (uint64_t seed = 0; seed < 20; seed++)
        same &= met_bootstrap(v, 4, rng_seed(seed), &low, &high) == 0 && low == want_low &&
                high == want_high;
    ok(same, "bootstrap: percentiles of all 256 samples (%g to %g, got %g to %g)", want_low,
       want_high, low, high);
    ok(met_bootstrap(v, 1, rng_seed(1), &low, &high) == 0 && isnan(low) && isnan(high),
       "bootstrap: one value has no interval");
    static const double same_values[] = {0.5, 0.5, 0.5};
    ok(met_bootstrap(same_values, 3, rng_seed(1), &low, &high) == 0 && low == 0.5 && high == 0.5,
       "bootstrap: equal values have one of no width");
}

static void test_edges(void)
{
    static const double zeros[] = {0, 0, 0};
    struct met_wilcoxon w;
    double none = 0;
    ok(met_wilcoxon(zeros, 3, &w) == 0 && w.p == 1 && w.zeros == 3, "wilcoxon: zeros alone");
    ok(met_wilcoxon(&none, 0, &w) == 0 && w.p == 1 && w.zeros == 0, "wilcoxon: nothing");
    ok(met_holm(&none, 0) == 0, "holm: no test");
}

int main(void)
{
    test_vectors();
    test_signs();
    test_samples();
    test_edges();
    return done_testing();
}
