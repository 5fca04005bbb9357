/* The head, softmax, prediction, loss: against double, whose gradient is held to finite
 * differences. */
#include "lib/kernels/pointwise.h"
#include "tests/lib/maps.h"

/* logits (pixels, c) as doubles. */
static void softmax(const double *logits, int c, double *p)
{
    double top = logits[0], sum = 0;
    for (int k = 1; k < c; k++)
        top = fmax(top, logits[k]);
    for (int k = 0; k < c; k++)
        sum += p[k] = exp(logits[k] - top);
    for (int k = 0; k < c; k++)
        p[k] /= sum;
}

struct parts {
    double inter[16], prob[16], ce;
    uint64_t truth[16], pred[16], hit[16], pixels, bad;
};

/* wdice * dice + wce * ce, as the networks' reference definition has it; ignored pixels left
 * out. */
static double loss(const double *logits, const uint8_t *label, size_t n, int c, double wdice,
                   double wce, struct parts *out)
{
    struct parts s = {.ce = 0};
    double dice = 0;
    for (size_t i = 0; i < n; i++) {
        double p[16];
        int best = 0;
        softmax(logits + i * (size_t)c, c, p);
        s.bad += label[i] >= c && label[i] != KR_IGNORE;
        if (label[i] >= c)
            continue;
        for (int k = 0; k < c; k++) {
            s.prob[k] += p[k];
            best =
                logits[i * (size_t)c + (size_t)k] > logits[i * (size_t)c + (size_t)best] ? k : best;
        }
        s.inter[label[i]] += p[label[i]];
        s.ce -= log(p[label[i]]);
        s.truth[label[i]]++;
        s.pred[best]++;
        s.hit[best] += best == label[i];
        s.pixels++;
    }
    for (int k = 0; k < c; k++)
        dice += (2 * s.inter[k] + 1e-5) / (s.prob[k] + (double)s.truth[k] + 1e-5) / c;
    if (out)
        *out = s;
    return wdice * (1 - dice) + (s.pixels ? wce * s.ce / (double)s.pixels : 0);
}

/* d loss / d logits, by the formula. */
static double *gradient(const double *logits, const uint8_t *label, size_t n, int c, double wdice,
                        double wce)
{
    double *d = doubles(n * (size_t)c);
    struct parts s;
    loss(logits, label, n, c, wdice, wce, &s);
    for (size_t i = 0; i < n; i++) {
        double p[16], g[16], mean = 0;
        softmax(logits + i * (size_t)c, c, p);
        for (int k = 0; k < c; k++) {
            double bottom = s.prob[k] + (double)s.truth[k] + 1e-5;
            g[k] = wdice / c * (2 * s.inter[k] + 1e-5) / bottom / bottom;
            g[k] -= label[i] == k ? wdice / c * 2 / bottom : 0;
            mean += p[k] * g[k];
        }
        for (int k = 0; k < c; k++)
            d[i * (size_t)c + (size_t)k] =
                label[i] >= c
                    ? 0
                    : p[k] * (g[k] - mean) + wce * (p[k] - (label[i] == k)) / (double)s.pixels;
    }
    return d;
}

/* Of c planes for each sample, class k of pixel i. */
static float *logit(float *planes, struct shape s, int c, size_t i, int k)
{
    const size_t plane = (size_t)s.h * (size_t)s.w;
    return planes + (i / plane * (size_t)c + (size_t)k) * plane + i % plane;
}

static void test_loss(struct shape s, int c, double spread, bool ignore, bool bad)
{
    struct rng r = rng_seed(11);
    const size_t n = pixels_of(s);
    float *logits = random_floats(&r, n * (size_t)c, 0, 1);
    uint8_t *label = guarded(n, 1);
    double *x = doubles(n * (size_t)c);
    struct parts want;
    const char *level = kr_level();
    for (size_t i = 0; i < n; i++) {
        label[i] = (uint8_t)rng_below(&r, (uint64_t)(c > 1 ? c - 1 : 1)); /* one class is absent */
        if (ignore && i % 5 == 0)
            label[i] = KR_IGNORE;
        if (bad && i == n / 2)
            label[i] = (uint8_t)c;
        for (int k = 0; k < c; k++) {
            float *v = logit(logits, s, c, i, k);
            *v = i % 7 == 3 ? 1 : *v * (float)spread; /* ties: the first class wins */
            x[i * (size_t)c + (size_t)k] = (double)*v;
        }
    }
    double both = loss(x, label, n, c, 1, 1, &want), dice = loss(x, label, n, c, 1, 0, NULL);
    struct kr_loss_sums sums = {0}, first = {0};
    struct error e = {0};
    bool counts = true, same = true;
    for (int threads = 1; threads <= 4; threads *= 2) {
        const struct kr_dims d = {s.n, s.h, s.w, threads};
        kr_loss_sums(&d, c, logits, label, &sums, guarded(kr_loss_workspace(), 64));
        first = threads == 1 ? sums : first;
        same = same && !memcmp(&first, &sums, sizeof sums);
    }
    for (int k = 0; k < c; k++) {
        compare(&e, sums.inter[k], want.inter[k]);
        compare(&e, sums.prob[k], want.prob[k]);
        counts = counts && sums.truth[k] == want.truth[k] && sums.pred[k] == want.pred[k] &&
                 sums.hit[k] == want.hit[k];
    }
    compare(&e, sums.ce, want.ce);
    double got = kr_loss_dice(&sums, c, 1e-5);
    ok(relative(&e) < 2e-6, "%s: %d classes, spread %g: sums (error %.1e)", level, c, spread,
       relative(&e));
    ok(counts && sums.pixels == want.pixels && sums.bad == want.bad, "%s: counts", level);
    ok(fabs(got - dice) <= 1e-6 && fabs(got + kr_loss_ce(&sums) - both) <= 2e-6 * fmax(1, both),
       "%s: losses %.9f and %.9f", level, got, kr_loss_ce(&sums));
    ok(same, "%s: the same bytes for 1, 2 and 4 threads", level);

    struct error eg = {0};
    const double *d = gradient(x, label, n, c, 1, 0.5);
    for (int i = 0; i < 100; i++) {
        size_t at = rng_below(&r, n) * (size_t)c + rng_below(&r, (uint64_t)c);
        double keep = x[at], up, down;
        x[at] = keep + 1e-5, up = loss(x, label, n, c, 1, 0.5, NULL);
        x[at] = keep - 1e-5, down = loss(x, label, n, c, 1, 0.5, NULL);
        x[at] = keep;
        compare(&eg, d[at], (up - down) / 2e-5);
    }
    ok(eg.worst <= 1e-8, "the formula of the gradient (error %.1e)", eg.worst);
    guards_free();
}

static void test_predict(struct shape s, int c)
{
    struct rng r = rng_seed(12);
    const size_t n = pixels_of(s);
    float *logits = random_floats(&r, n * (size_t)c, 0, 1), *prob = NULL;
    uint8_t *pred = NULL, *first = NULL;
    struct error e = {0};
    bool right = true, same = true;
    for (int threads = 1; threads <= 4; threads *= 2) {
        const struct kr_dims d = {s.n, s.h, s.w, threads};
        pred = guarded(n, 1);
        prob = floats(n * (size_t)c);
        kr_predict(&d, c, logits, pred, prob);
        kr_predict(&d, c, logits, NULL, prob);
        kr_predict(&d, c, logits, pred, NULL);
        first = first ? first : pred;
        same = same && !memcmp(first, pred, n);
    }
    for (size_t i = 0; i < n; i++) {
        double x[16], p[16];
        int best = 0;
        for (int k = 0; k < c; k++)
            x[k] = (double)*logit(logits, s, c, i, k);
        softmax(x, c, p);
        for (int k = 0; k < c; k++) {
            best = x[k] > x[best] ? k : best;
            compare(&e, (double)*logit(prob, s, c, i, k), p[k]);
        }
        right = right && pred[i] == best;
    }
    ok(right && same && relative(&e) < 1e-6, "%s: prediction of %d classes (error %.1e)",
       kr_level(), c, relative(&e));
    guards_free();
}

/* Forward, and the loss through the head, against sums in double. */
static void test_head(struct shape s, int c, int classes, enum kr_dtype t, bool accumulate)
{
    struct rng r = rng_seed(14);
    const size_t n = pixels_of(s), sample = (size_t)s.h * (size_t)s.w, cp = (size_t)kr_pad(c);
    const size_t filters = (size_t)(c * classes);
    const struct kr_in in = {.x = random_map(&r, s, c, t),
                             .c = c,
                             .dtype = t,
                             .scale = random_rows(&r, s.n, c, 1, 0.3f),
                             .shift = random_rows(&r, s.n, c, 0.2f, 0.3f),
                             .stride = cp,
                             .relu = true};
    const float *gain = random_rows(&r, s.n, c, 1, 0.3f), *before = random_map(&r, s, c, KR_F32);
    const float *weight = random_floats(&r, filters, 0, 1 / sqrt(c));
    const float *bias = random_floats(&r, (size_t)classes, 0, 1);
    float *logits = floats(n * (size_t)classes);
    double *z = doubles(n * (size_t)classes);
    uint8_t *label = guarded(n, 1);
    for (size_t i = 0; i < n; i++)
        label[i] = i % 5 ? (uint8_t)rng_below(&r, (uint64_t)classes) : KR_IGNORE;
    struct kr_loss_sums sums;
    const struct kr_loss loss = {classes, logits, label, &sums, 1e-5, 1, 0.5};
    const struct kr_dims one = {s.n, s.h, s.w, 1};
    struct error ey = {0};
    kr_head_forward(&one, &in, weight, bias, classes, logits,
                    guarded(kr_head_workspace(&one, c, classes), 64));
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < classes; k++) {
            double sum = (double)bias[k];
            for (int j = 0; j < c; j++)
                sum += (double)weight[k * c + j] * value(&in, s, i, j);
            compare(&ey, (double)*logit(logits, s, classes, i, k), sum);
            z[i * (size_t)classes + (size_t)k] = (double)*logit(logits, s, classes, i, k);
        }
    ok(relative(&ey) < 1e-5, "%s: logits of a head of %d to %d (error %.1e)", kr_level(), c,
       classes, relative(&ey));
    kr_loss_sums(&one, classes, logits, label, &sums, guarded(kr_loss_workspace(), 64));
    const double *dlogits = gradient(z, label, n, classes, 1, 0.5);

    double *dw = doubles(filters), *db = doubles((size_t)classes), *dx = doubles(n * (size_t)c);
    double *total = doubles(2 * cp);
    memset(dw, 0, filters * sizeof *dw), memset(db, 0, (size_t)classes * sizeof *db);
    memset(total, 0, 2 * cp * sizeof *total);
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < classes; k++)
            db[k] += dlogits[i * (size_t)classes + (size_t)k];
        for (int j = 0; j < c; j++) {
            size_t row = i / sample * cp + (size_t)j;
            double x = get(in.x, t, c, i, j);
            double v = x * (double)in.scale[row] + (double)in.shift[row];
            double g = accumulate ? get(before, KR_F32, c, i, j) : 0;
            for (int k = 0; k < classes; k++) {
                double d = dlogits[i * (size_t)classes + (size_t)k];
                dw[k * c + j] += fmax(v, 0) * d;
                g += (double)weight[k * c + j] * d;
            }
            g = v > 0 ? g * (double)gain[row] : 0;
            dx[i * (size_t)c + (size_t)j] = g;
            total[j] += g;
            total[cp + (size_t)j] += g * x;
        }
    }
    struct error ew = {0}, eb = {0}, ex = {0}, es = {0};
    float *first = NULL;
    bool same = true, zero = true;
    for (int threads = 1; threads <= 4; threads *= 2) {
        const struct kr_dims d = {s.n, s.h, s.w, threads};
        float *y = floats(n * (size_t)classes);
        kr_head_forward(&d, &in, weight, bias, classes, y,
                        guarded(kr_head_workspace(&d, c, classes), 64));
        same = same && !memcmp(y, logits, n * (size_t)classes * sizeof *y);
        float *w = floats(filters), *b = floats((size_t)classes);
        struct kr_dx to = {.dx = empty_map(s, c, KR_F32),
                           .c = c,
                           .accumulate = accumulate,
                           .act = &in,
                           .gain = gain,
                           .sums = doubles(2 * cp)};
        if (accumulate)
            memcpy(to.dx, before, elements(s, c) * sizeof(float));
        kr_head_backward(&d, &loss, &in, weight, &to, w, b,
                         guarded(kr_head_workspace(&d, c, classes), 64));
        same = same && (!first || !memcmp(first, to.dx, elements(s, c) * sizeof(float)));
        first = first ? first : to.dx;
        for (size_t i = 0; i < filters; i++)
            compare(&ew, (double)w[i], dw[i]);
        for (int k = 0; k < classes; k++)
            compare(&eb, (double)b[k], db[k]);
        for (size_t i = 0; i < elements(s, c); i++)
            if (i % cp >= (size_t)c || (!accumulate && label[i / cp] == KR_IGNORE))
                zero = zero && to.dx[i] == 0;
            else
                compare(&ex, (double)to.dx[i], dx[i / cp * (size_t)c + i % cp]);
        for (int j = 0; j < c; j++) {
            compare(&es, to.sums[j], total[j]);
            compare(&es, to.sums[cp + (size_t)j], total[cp + (size_t)j]);
        }
    }
    ok(same && zero && relative(&ew) < 1e-5 && relative(&eb) < 1e-5 && relative(&ex) < 1e-5 &&
           relative(&es) < 1e-5,
       "%s: through a head of %d to %d (errors %.1e %.1e %.1e %.1e, threads %d, zeros %d)",
       kr_level(), c, classes, relative(&ew), relative(&eb), relative(&ex), relative(&es), same,
       zero);
    guards_free();
}

static void test_extremes(void)
{
    const struct shape s = {1, 1, 4};
    const struct kr_dims d = {1, 1, 4, 1};
    struct rng r = rng_seed(13);
    float *logits = random_floats(&r, 16, 0, 1), dx[4 * KR_LANES], dw[4 * 16], db[4];
    uint8_t label[4] = {0, 1, 2, 3};
    struct kr_loss_sums sums;
    void *workspace = guarded(kr_loss_workspace(), 64);
    for (int k = 0; k < 4; k++) {
        *logit(logits, s, 4, 0, k) = k ? -1e30f : 1e30f;
        *logit(logits, s, 4, 1, k) = k ? -200 : 200;
    }
    kr_loss_sums(&d, 4, logits, label, &sums, workspace);
    ok(isfinite(sums.ce) && sums.ce > 300, "%s: huge logits give a finite loss: %g", kr_level(),
       sums.ce);
    *logit(logits, s, 4, 2, 1) = NAN;
    kr_loss_sums(&d, 4, logits, label, &sums, workspace);
    ok(isnan(sums.ce) && isnan(kr_loss_dice(&sums, 4, 1e-5)), "%s: NaN is not hidden", kr_level());
    memset(label, KR_IGNORE, 4);
    kr_loss_sums(&d, 4, logits, label, &sums, workspace);
    const struct kr_loss loss = {4, logits, label, &sums, 1e-5, 1, 1};
    const struct kr_in in = random_in(&r, s, 16, 0);
    const struct kr_dx to = {.dx = dx, .c = 16};
    kr_head_backward(&d, &loss, &in, random_floats(&r, 64, 0, 1), &to, dw, db,
                     guarded(kr_head_workspace(&d, 16, 4), 64));
    bool zero = true;
    for (int i = 0; i < 64; i++)
        zero = zero && dx[i] == 0 && dw[i] == 0 && db[i / 16] == 0;
    ok(sums.pixels == 0 && kr_loss_dice(&sums, 4, 1e-5) == 0 && kr_loss_ce(&sums) == 0 && zero,
       "%s: nothing but ignored pixels is no loss and no gradient", kr_level());
    guards_free();
}

static void all(void)
{
    test_loss((struct shape){2, 9, 11}, 4, 2, true, false);
    test_loss((struct shape){1, 16, 16}, 4, 10, false, true);
    test_loss((struct shape){1, 5, 7}, 2, 1, true, true);
    test_loss((struct shape){3, 20, 13}, 16, 1, false, false);
    test_predict((struct shape){2, 7, 33}, 4);
    test_predict((struct shape){1, 30, 31}, 3);
    test_predict((struct shape){1, 1, 1}, 1);
    test_head((struct shape){2, 9, 11}, 16, 4, KR_F32, false);
    test_head((struct shape){1, 40, 33}, 70, 3, KR_F32, true);
    test_head((struct shape){3, 5, 30}, 20, 5, KR_BF16, false);
    test_head((struct shape){1, 1, 3}, 1, 16, KR_F32, true);
    test_extremes();
}

int main(void)
{
    each_level(all);
    return done_testing();
}
