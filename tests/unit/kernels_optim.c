/* The optimisers against the formulas of torch.optim in double; norms; the search for NaN. */
#include "lib/kernels/pointwise.h"
#include "tests/lib/maps.h"

enum { STEPS = 5 };

/* Five steps, each rounded to a float of less than 1/2. */
static bool close_enough(const struct error *e)
{
    return e->worst <= STEPS * 0x1p-26 + 1e-5 * sqrt(e->squares / e->n);
}

static void test_adam(size_t n, bool decoupled, double decay)
{
    struct rng r = rng_seed(21);
    const float *g[STEPS], *start = random_floats(&r, n, 0, 0.1);
    float *w = NULL, *first = NULL;
    double *want = doubles(n);
    bool same = true;
    for (int t = 0; t < STEPS; t++)
        g[t] = random_floats(&r, n, 0, t == 3 ? 1e-4 : 1e-2);
    for (int threads = 1; threads <= 4; threads *= 2) {
        float *m = floats(n), *v = floats(n);
        w = floats(n);
        memcpy(w, start, n * sizeof *w);
        memset(m, 0, n * sizeof *m);
        memset(v, 0, n * sizeof *v);
        for (int t = 0; t < STEPS; t++) {
            const struct kr_adam how = {.rate = 1e-3,
                                        .beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .eps = 1e-8,
                                        .decay = decay,
                                        .decoupled = decoupled,
                                        .step = (uint64_t)t + 1,
                                        .gain = 0.5,
                                        .threads = threads};
            kr_adam(&how, n, w, g[t], m, v);
        }
        first = first ? first : w;
        same = same && !memcmp(first, w, n * sizeof *w);
    }
    struct error e = {0};
    for (size_t i = 0; i < n; i++) {
        double x = (double)start[i], m = 0, v = 0;
        for (int t = 0; t < STEPS; t++) {
            double d = 0.5 * (double)g[t][i];
            if (decoupled)
                x *= 1 - 1e-3 * decay;
            else
                d += decay * x;
            m = 0.9 * m + 0.1 * d;
            v = 0.999 * v + 0.001 * d * d;
            x -= 1e-3 / (1 - pow(0.9, t + 1)) * m / (sqrt(v / (1 - pow(0.999, t + 1))) + 1e-8);
        }
        want[i] = x - (double)start[i];
        compare(&e, (double)w[i] - (double)start[i], want[i]);
    }
    ok(close_enough(&e) && same, "%s: %s of %zu, decay %g (error %.1e)", kr_level(),
       decoupled ? "AdamW" : "Adam", n, decay, relative(&e));
    guards_free();
}

static void test_sgd(size_t n, double momentum, bool nesterov)
{
    struct rng r = rng_seed(22);
    const float *g[STEPS], *start = random_floats(&r, n, 0, 0.1);
    float *w = floats(n), *m = momentum > 0 ? floats(n) : NULL;
    struct error e = {0};
    memcpy(w, start, n * sizeof *w);
    for (int t = 0; t < STEPS; t++) {
        g[t] = random_floats(&r, n, 0, 1e-2);
        const struct kr_sgd how = {.rate = 1e-2,
                                   .momentum = momentum,
                                   .decay = 3e-5,
                                   .nesterov = nesterov,
                                   .step = (uint64_t)t + 1,
                                   .gain = 1,
                                   .threads = 2};
        kr_sgd(&how, n, w, g[t], m);
    }
    for (size_t i = 0; i < n; i++) {
        double x = (double)start[i], b = 0;
        for (int t = 0; t < STEPS; t++) {
            double d = (double)g[t][i] + 3e-5 * x;
            b = t ? momentum * b + d : d;
            x -= 1e-2 * (momentum > 0 ? nesterov ? d + momentum * b : b : d);
        }
        compare(&e, (double)w[i] - (double)start[i], x - (double)start[i]);
    }
    ok(close_enough(&e), "%s: SGD of %zu, momentum %g%s (error %.1e)", kr_level(), n, momentum,
       nesterov ? ", Nesterov" : "", relative(&e));
    guards_free();
}

/* v must decay: with rounding to nearest, 0.999 v would round back to v for ever. */
static void test_bf16(void)
{
    enum { N = 50000, LONG = 700 };
    float *w = floats(N), *g = floats(N);
    uint16_t *m = guarded(N * 2, 2), *v = guarded(N * 2, 2), *again = guarded(N * 2, 2);
    memset(w, 0, N * sizeof *w);
    memset(m, 0, N * 2);
    for (size_t i = 0; i < N; i++) {
        v[i] = f32_to_bf16(1);
        g[i] = 0.1f;
    }
    struct kr_adam how = {.rate = 1e-3,
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8,
                          .gain = 1,
                          .moments = KR_BF16,
                          .seed = 5,
                          .threads = 2};
    double want = 1, sum = 0, sum_m = 0;
    for (int t = 0; t < LONG; t++) {
        how.step = (uint64_t)t + 1;
        kr_adam(&how, N, w, g, m, v);
        want = 0.999 * want + 0.001 * 0.01;
    }
    for (size_t i = 0; i < N; i++) {
        sum += (double)bf16_to_f32(v[i]) / N;
        sum_m += (double)bf16_to_f32(m[i]) / N;
    }
    ok(fabs(sum / want - 1) < 2e-3, "%s: bf16 second moment decays to %.4f (wanted %.4f)",
       kr_level(), sum, want);
    ok(fabs(sum_m / 0.1 - 1) < 2e-3, "%s: bf16 first moment %.5f", kr_level(), sum_m);
    /* in pieces: the same bytes, for the element's number is part of the key */
    memcpy(again, v, N * 2);
    uint16_t *m2 = guarded(N * 2, 2);
    memcpy(m2, m, N * 2);
    how.step++;
    kr_adam(&how, N, w, g, m, v);
    kr_adam(&how, 1001, w, g, m2, again);
    how.first = 1001;
    kr_adam(&how, N - 1001, w + 1001, g + 1001, m2 + 1001, again + 1001);
    ok(!memcmp(again, v, N * 2) && !memcmp(m2, m, N * 2), "%s: in pieces the same bytes",
       kr_level());
    guards_free();
}

static void test_search(void)
{
    struct rng r = rng_seed(23);
    static const size_t sizes[] = {1, 15, 16, 1000, 70001};
    bool found = true, none = true;
    struct error e = {0};
    bool same = true;
    for (int i = 0; i < 5; i++) {
        const size_t n = sizes[i];
        float *x = random_floats(&r, n, 0, 1e3);
        uint16_t *b = guarded(n * 2, 2);
        double sum = 0;
        for (size_t k = 0; k < n; k++) {
            sum += (double)x[k] * (double)x[k];
            b[k] = f32_to_bf16(x[k]);
        }
        compare(&e, kr_sum_squares(n, x, 1) / sum, 1);
        same = same && kr_sum_squares(n, x, 4) == kr_sum_squares(n, x, 1);
        none = none && kr_find_nonfinite(n, x, KR_F32, 2) == -1 &&
               kr_find_nonfinite(n, b, KR_BF16, 2) == -1;
        for (int k = 0; k < 6; k++) {
            size_t at = k ? rng_below(&r, n) : n - 1, late = at + (n - at) / 2;
            float keep = x[at], keep2 = x[late];
            x[late] = -INFINITY;
            x[at] = k % 2 ? NAN : INFINITY;
            found = found && kr_find_nonfinite(n, x, KR_F32, k + 1) == (int64_t)at;
            x[late] = keep2;
            x[at] = keep;
            b[at] = 0x7f80;
            found = found && kr_find_nonfinite(n, b, KR_BF16, 2) == (int64_t)at;
            b[at] = f32_to_bf16(keep);
        }
    }
    ok(relative(&e) < 1e-6 && same, "%s: sum of squares (error %.1e)", kr_level(), relative(&e));
    ok(found && none, "%s: the first value that is not finite", kr_level());
    ok(kr_sum_squares(0, NULL, 2) == 0 && kr_find_nonfinite(0, NULL, KR_F32, 2) == -1,
       "%s: nothing is finite", kr_level());
    guards_free();
}

static void all(void)
{
    test_adam(1, false, 0);
    test_adam(37, false, 1e-2);
    test_adam(50003, true, 1e-2);
    test_sgd(33, 0.99, true);
    test_sgd(20000, 0.9, false);
    test_sgd(20001, 0, false);
    test_bf16();
    test_search();
}

int main(void)
{
    each_level(all);
    return done_testing();
}
