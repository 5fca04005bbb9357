/* What takes O(channels), in double and compiled once: statistics of normalisations to scale and
 * shift and back to gradients, a dropout's factors, losses from their sums. */
#include "lib/kernels/pointwise.h"

#include "lib/base/rng.h"

#include <math.h>
#include <string.h>

static void clear_padding(int c, float *v)
{
    for (int i = c; i < kr_pad(c); i++)
        v[i] = 0;
}

void kr_bn_train(const struct kr_bn *b, size_t count, const double *sums)
{
    const double *squares = sums + kr_pad(b->c), m = (double)count;
    for (int i = 0; i < b->c; i++) {
        double mean = sums[i] / m, var = squares[i] / m - mean * mean;
        if (var < 0) /* rounding only: a NaN stays one */
            var = 0;
        double invstd = 1 / sqrt(var + b->eps);
        b->mean[i] = mean;
        b->invstd[i] = invstd;
        b->scale[i] = (float)(b->gamma[i] * invstd);
        b->shift[i] = (float)(b->beta[i] - mean * b->gamma[i] * invstd);
        if (b->running_mean) {
            double unbiased = count > 1 ? var * m / (m - 1) : var;
            b->running_mean[i] += (float)(b->momentum * (mean - b->running_mean[i]));
            b->running_var[i] += (float)(b->momentum * (unbiased - b->running_var[i]));
        }
    }
    clear_padding(b->c, b->scale);
    clear_padding(b->c, b->shift);
}

void kr_bn_eval(const struct kr_bn *b)
{
    for (int i = 0; i < b->c; i++) {
        double scale = b->gamma[i] / sqrt(b->running_var[i] + b->eps);
        b->scale[i] = (float)scale;
        b->shift[i] = (float)(b->beta[i] - b->running_mean[i] * scale);
    }
    clear_padding(b->c, b->scale);
    clear_padding(b->c, b->shift);
}

void kr_bn_backward(const struct kr_bn *b, size_t count, const double *sums, float *dgamma,
                    float *dbeta, float *k)
{
    const int cp = kr_pad(b->c);
    const double *products = sums + cp, m = (double)count;
    float *k0 = k, *k1 = k + cp, *k2 = k + 2 * cp;
    for (int i = 0; i < b->c; i++) {
        double mean = b->mean[i], invstd = b->invstd[i];
        double dz = sums[i], dzxhat = invstd * (products[i] - mean * dz);
        double a = b->gamma[i] * invstd, slope = -a * invstd * dzxhat / m;
        k0[i] = (float)a;
        k1[i] = (float)slope;
        k2[i] = (float)(-a * dz / m - slope * mean);
        dgamma[i] = (float)dzxhat;
        dbeta[i] = (float)dz;
    }
    clear_padding(b->c, k0);
    clear_padding(b->c, k1);
    clear_padding(b->c, k2);
}

/* The sums of channel i of sample n, its slices added in order. */
static void sample_sums(const struct kr_gn *g, int n, int i, const double *sums, double two[2])
{
    const size_t cp = (size_t)kr_pad(g->c);
    two[0] = two[1] = 0;
    for (int z = 0; z < g->d; z++) {
        const double *row = sums + (size_t)(n * g->d + z) * 2 * cp;
        two[0] += row[i];
        two[1] += row[cp + (size_t)i];
    }
}

static double gn_gamma(const struct kr_gn *g, int i)
{
    return g->gamma ? (double)g->gamma[i] : 1;
}

void kr_gn_train(const struct kr_gn *g, size_t count, const double *sums)
{
    const size_t cp = (size_t)kr_pad(g->c);
    const int size = g->c / g->groups;
    const double m = (double)count * g->d * size;
    for (int n = 0; n < g->n; n++) {
        const size_t row = (size_t)(n * g->d) * cp;
        float *scale = g->scale + row, *shift = g->shift + row;
        for (int first = 0; first < g->c; first += size) {
            double sum = 0, squares = 0;
            for (int i = first; i < first + size; i++) {
                double two[2];
                sample_sums(g, n, i, sums, two);
                sum += two[0];
                squares += two[1];
            }
            double mean = sum / m, var = squares / m - mean * mean;
            if (var < 0) /* rounding only: a NaN stays one */
                var = 0;
            const double invstd = 1 / sqrt(var + g->eps);
            for (int i = first; i < first + size; i++) {
                g->mean[row + (size_t)i] = mean;
                g->invstd[row + (size_t)i] = invstd;
                scale[i] = (float)(gn_gamma(g, i) * invstd);
                shift[i] = (float)((g->beta ? g->beta[i] : 0) - mean * gn_gamma(g, i) * invstd);
            }
        }
        clear_padding(g->c, scale);
        clear_padding(g->c, shift);
        for (size_t z = 1; z < (size_t)g->d; z++) {
            memcpy(scale + z * cp, scale, cp * sizeof *scale);
            memcpy(shift + z * cp, shift, cp * sizeof *shift);
            memcpy(g->mean + row + z * cp, g->mean + row, (size_t)g->c * sizeof *g->mean);
            memcpy(g->invstd + row + z * cp, g->invstd + row, (size_t)g->c * sizeof *g->invstd);
        }
    }
}

void kr_gn_backward(const struct kr_gn *g, size_t count, const double *sums, float *dgamma,
                    float *dbeta, float *k)
{
    const size_t cp = (size_t)kr_pad(g->c);
    const int size = g->c / g->groups;
    const double m = (double)count * g->d * size;
    for (int i = 0; i < g->c; i++) {
        double dg = 0, db = 0;
        for (int n = 0; n < g->n; n++) {
            const size_t at = (size_t)(n * g->d) * cp + (size_t)i;
            double two[2];
            sample_sums(g, n, i, sums, two);
            dg += g->invstd[at] * (two[1] - g->mean[at] * two[0]);
            db += two[0];
        }
        if (g->gamma) {
            dgamma[i] = (float)dg;
            dbeta[i] = (float)db;
        }
    }
    for (int n = 0; n < g->n; n++, k += (size_t)g->d * 3 * cp) {
        const double *mean = g->mean + (size_t)(n * g->d) * cp;
        const double *invstd = g->invstd + (size_t)(n * g->d) * cp;
        for (int first = 0; first < g->c; first += size) {
            double dz = 0, dzxhat = 0; /* times gamma, over the group */
            for (int i = first; i < first + size; i++) {
                double two[2];
                sample_sums(g, n, i, sums, two);
                dz += gn_gamma(g, i) * two[0];
                dzxhat += gn_gamma(g, i) * invstd[i] * (two[1] - mean[i] * two[0]);
            }
            for (int i = first; i < first + size; i++) {
                const double slope = -invstd[i] * invstd[i] * dzxhat / m;
                k[i] = (float)(gn_gamma(g, i) * invstd[i]);
                k[cp + (size_t)i] = (float)slope;
                k[2 * cp + (size_t)i] = (float)(-invstd[i] * dz / m - slope * mean[i]);
            }
        }
        for (size_t i = 0; i < 3; i++)
            clear_padding(g->c, k + i * cp);
        for (size_t z = 1; z < (size_t)g->d; z++)
            memcpy(k + z * 3 * cp, k, 3 * cp * sizeof *k);
    }
}

void kr_dropout_gain(int n, int c, double p, uint64_t seed, uint64_t step, uint64_t layer,
                     uint64_t first, float *gain)
{
    const float keep = (float)(1 / (1 - p));
    for (int i = 0; i < n; i++, gain += kr_pad(c)) {
        struct rng r = rng_seed(seed);
        rng_mix_text(&r, "dropout");
        rng_mix(&r, step);
        rng_mix(&r, layer);
        rng_mix(&r, first + (uint64_t)i);
        for (int j = 0; j < c; j++)
            gain[j] = rng_uniform(&r) < p ? 0 : keep;
        clear_padding(c, gain);
    }
}

void kr_dropout_fold(int n, int c, const float *gain, const float *v, float *out)
{
    const int cp = kr_pad(c);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < cp; j++)
            out[(size_t)i * (size_t)cp + j] = gain[(size_t)i * (size_t)cp + j] * v[j];
}

void kr_loss_add(struct kr_loss_sums *to, const struct kr_loss_sums *from)
{
    for (int k = 0; k < KR_CLASSES_MAX; k++) {
        to->inter[k] += from->inter[k];
        to->prob[k] += from->prob[k];
        to->squares[k] += from->squares[k];
        to->truth[k] += from->truth[k];
        to->pred[k] += from->pred[k];
        to->hit[k] += from->hit[k];
    }
    to->ce += from->ce;
    to->dice += from->dice;
    to->samples += from->samples;
    to->pixels += from->pixels;
    to->bad += from->bad;
}

double kr_loss_dice(const struct kr_loss *l, int c, const struct kr_loss_sums *s)
{
    const double *prob = l->squared ? s->squares : s->prob;
    const int first = l->foreground;
    double mean = 0;
    if (l->each && s->samples)
        return s->dice / (double)s->samples;
    for (int k = first; k < c; k++)
        mean += (2 * s->inter[k] + l->eps) / (prob[k] + (double)s->truth[k] + l->eps) / (c - first);
    return 1 - mean;
}

double kr_loss_share(const struct kr_loss *l, int c, const struct kr_loss_sums *s)
{
    double sum = 0;
    if (l->regions || !l->weight)
        return (double)s->pixels * (l->regions ? c : 1);
    for (int k = 0; k < c; k++)
        sum += l->weight[k] * (double)s->truth[k];
    return sum;
}

double kr_loss_ce(const struct kr_loss *l, int c, const struct kr_loss_sums *s)
{
    const double share = kr_loss_share(l, c, s);
    return share > 0 ? s->ce / share : 0;
}
