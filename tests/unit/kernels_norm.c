/* Batch normalisation, sums and copies, dropout: against double, the gradients against
 * finite differences of the forward pass in double. */
#include "lib/kernels/pointwise.h"
#include "tests/lib/maps.h"

static void *workspace(const struct kr_dims *d, int c)
{
    return guarded(kr_pointwise_workspace(d, c), 64);
}

static struct kr_dims dims(struct shape s, int threads)
{
    return (struct kr_dims){s.n, s.h, s.w, threads};
}

/* --- batch normalisation -------------------------------------------------------------------- */

/* sum of r * relu(bn(x)) with the batch's statistics, x as doubles (pixels, c). */
static double normalised(size_t n, int c, const double *x, const double *gamma, const double *beta,
                         const float *r)
{
    double loss = 0;
    for (int k = 0; k < c; k++) {
        double mean = 0, var = 0;
        for (size_t p = 0; p < n; p++)
            mean += x[p * (size_t)c + (size_t)k] / (double)n;
        for (size_t p = 0; p < n; p++)
            var += pow(x[p * (size_t)c + (size_t)k] - mean, 2) / (double)n;
        for (size_t p = 0; p < n; p++) {
            double v = (x[p * (size_t)c + (size_t)k] - mean) / sqrt(var + 1e-5);
            v = v * gamma[k] + beta[k];
            loss += fmax(v, 0) * get(r, KR_F32, c, p, k);
        }
    }
    return loss;
}

static void test_norm(struct shape s, int c, enum kr_dtype t, int threads)
{
    struct rng r = rng_seed(5);
    const size_t n = pixels_of(s), cp = (size_t)kr_pad(c);
    const struct kr_dims d = dims(s, threads);
    const float *gamma = random_floats(&r, (size_t)c, 1, 0.2);
    const float *beta = random_floats(&r, (size_t)c, 0, 0.3);
    double weight[64], bias[64]; /* the same, for the oracle */
    float *running_mean = random_floats(&r, (size_t)c, 0, 1);
    float *running_var = floats((size_t)c), old_mean[64], old_var[64];
    double *x = doubles(n * (size_t)c), *mean = doubles((size_t)c), *invstd = doubles((size_t)c);
    for (int k = 0; k < c; k++) {
        weight[k] = (double)gamma[k];
        bias[k] = (double)beta[k];
        running_var[k] = 1 + (float)k / 10;
    }
    memcpy(old_mean, running_mean, (size_t)c * sizeof(float));
    memcpy(old_var, running_var, (size_t)c * sizeof(float));
    struct kr_in in = {.x = random_map(&r, s, c, t), .c = c, .dtype = t};
    for (size_t p = 0; p < n; p++)
        for (int k = 0; k < c; k++) /* means that matter */
            set((void *)in.x, t, c, p, k, (float)(get(in.x, t, c, p, k) * (1 + k % 3) + k % 5));
    for (size_t p = 0; p < n; p++)
        for (int k = 0; k < c; k++)
            x[p * (size_t)c + (size_t)k] = get(in.x, t, c, p, k);
    struct kr_bn bn = {.c = c,
                       .gamma = gamma,
                       .beta = beta,
                       .running_mean = running_mean,
                       .running_var = running_var,
                       .scale = floats(cp),
                       .shift = floats(cp),
                       .mean = mean,
                       .invstd = invstd,
                       .eps = 1e-5,
                       .momentum = 0.1};
    double *sums = doubles(2 * cp);
    struct kr_out copy = {.y = empty_map(s, c, KR_F32), .c = c, .sums = sums};
    kr_add(&d, 1, &in, &copy, workspace(&d, c));
    kr_bn_train(&bn, n, sums);
    struct error e = {0}, er = {0};
    for (int k = 0; k < (int)cp; k++) {
        double m = 0, var = 0;
        for (size_t p = 0; k < c && p < n; p++)
            m += x[p * (size_t)c + (size_t)k] / (double)n;
        for (size_t p = 0; k < c && p < n; p++)
            var += pow(x[p * (size_t)c + (size_t)k] - m, 2) / (double)n;
        double scale = k < c ? (double)gamma[k] / sqrt(var + 1e-5) : 0;
        compare(&e, (double)bn.scale[k], scale);
        compare(&e, (double)bn.shift[k], k < c ? (double)beta[k] - m * scale : 0);
        if (k < c) {
            compare(&er, (double)running_mean[k], 0.9 * (double)old_mean[k] + 0.1 * m);
            compare(&er, (double)running_var[k],
                    0.9 * (double)old_var[k] + 0.1 * var * (double)n / (double)(n - 1));
        }
    }
    const char *level = kr_level();
    ok(relative(&e) < 1e-5, "%s: %d channels: scale and shift (error %.1e)", level, c,
       relative(&e));
    ok(relative(&er) < 1e-5, "%s: %d channels: running statistics (error %.1e)", level, c,
       relative(&er));

    /* backward: dz through the mask, then k, then dx */
    float *gradient = random_map(&r, s, c, KR_F32), *dz = empty_map(s, c, KR_F32);
    float *k = floats(3 * cp), *dgamma = floats((size_t)c), *dbeta = floats((size_t)c);
    struct kr_in act = in;
    act.scale = bn.scale;
    act.shift = bn.shift;
    act.relu = true;
    struct kr_dx dx = {.dx = dz, .c = c, .act = &act, .sums = sums};
    kr_add_backward(&d, gradient, 1, &dx, workspace(&d, c));
    kr_bn_backward(&bn, n, sums, dgamma, dbeta, k);
    kr_bn_apply(&d, c, dz, in.x, t, k, 0, dz);
    struct error ex = {0}, eg = {0};
    const double h = 1e-6;
    for (int i = 0; i < 60; i++) {
        size_t p = rng_below(&r, n);
        int j = (int)rng_below(&r, (uint64_t)c);
        double *at = &x[p * (size_t)c + (size_t)j], keep = *at;
        if (fabs(before(&act, s, p, j)) < 1e-3)
            continue;
        *at = keep + h;
        double up = normalised(n, c, x, weight, bias, gradient);
        *at = keep - h;
        double down = normalised(n, c, x, weight, bias, gradient);
        *at = keep;
        compare(&ex, get(dz, KR_F32, c, p, j), (up - down) / (2 * h));
    }
    for (int j = 0; j < 2 * c; j++) {
        double *at = j < c ? &weight[j] : &bias[j - c], keep = *at;
        *at = keep + h;
        double up = normalised(n, c, x, weight, bias, gradient);
        *at = keep - h;
        double down = normalised(n, c, x, weight, bias, gradient);
        *at = keep;
        compare(&eg, (double)(j < c ? dgamma[j] : dbeta[j - c]), (up - down) / (2 * h));
    }
    ok(relative(&ex) < 1e-4, "%s: %d channels: gradient of the input (error %.1e)", level, c,
       relative(&ex));
    ok(relative(&eg) < 1e-4, "%s: %d channels: gradients of weight and bias (error %.1e)", level, c,
       relative(&eg));
    guards_free();
}

static void test_norm_edges(void)
{
    float one = 1, zero = 0, scale[16], shift[16];
    double mean, invstd, sums[32] = {0};
    struct kr_bn bn = {.c = 1,
                       .gamma = &one,
                       .beta = &zero,
                       .scale = scale,
                       .shift = shift,
                       .mean = &mean,
                       .invstd = &invstd,
                       .eps = 1e-5,
                       .momentum = 0.1};
    sums[0] = 1e6 * 1000.1;
    sums[16] = 1e6 * 1000.1 * 1000.1 * (1 - 1e-14);
    kr_bn_train(&bn, 1000000, sums);
    ok(isfinite(scale[0]) && isfinite(shift[0]) && invstd <= 1 / sqrt(1e-5) * 1.0000001,
       "a constant channel has variance 0, never less");
    ok(scale[1] == 0 && scale[15] == 0 && shift[15] == 0, "padding of scale and shift is zero");
    sums[0] = NAN;
    kr_bn_train(&bn, 1000000, sums);
    ok(isnan(scale[0]), "NaN stays NaN");
    float m = 2, v = 4 - 1e-5f;
    bn.running_mean = &m;
    bn.running_var = &v;
    kr_bn_eval(&bn);
    ok(fabs((double)scale[0] - 0.5) < 1e-6 && fabs((double)shift[0] + 1) < 1e-6,
       "running statistics of mean 2, variance 4 give x / 2 - 1");
}

/* --- group normalisation -------------------------------------------------------------------- */

/* sum of r * leaky(gn(x)) over n samples of `pixels` pixels (all slices), x as doubles. */
static double grouped(int n, size_t pixels, int c, int groups, const double *x, const double *gamma,
                      const double *beta, const float *r)
{
    const int size = c / groups;
    double loss = 0;
    for (int i = 0; i < n * groups; i++) {
        const size_t p0 = (size_t)(i / groups) * pixels;
        const int first = i % groups * size;
        double mean = 0, var = 0, m = (double)pixels * size;
        for (size_t p = p0; p < p0 + pixels; p++)
            for (int k = first; k < first + size; k++)
                mean += x[p * (size_t)c + (size_t)k] / m;
        for (size_t p = p0; p < p0 + pixels; p++)
            for (int k = first; k < first + size; k++)
                var += pow(x[p * (size_t)c + (size_t)k] - mean, 2) / m;
        for (size_t p = p0; p < p0 + pixels; p++)
            for (int k = first; k < first + size; k++) {
                double v = (x[p * (size_t)c + (size_t)k] - mean) / sqrt(var + 1e-5);
                v = v * gamma[k] + beta[k];
                loss += fmax(v, 0.2 * v) * get(r, KR_F32, c, p, k);
            }
    }
    return loss;
}

/* Samples of `slices` slices: s.n = samples * slices. */
static void test_group(struct shape s, int slices, int c, int groups)
{
    struct rng r = rng_seed(6);
    const size_t n = pixels_of(s), cp = (size_t)kr_pad(c), plane = (size_t)s.h * (size_t)s.w;
    const struct kr_dims d = dims(s, 2);
    const int samples = s.n / slices;
    const float *gamma = random_floats(&r, (size_t)c, 1, 0.2);
    const float *beta = random_floats(&r, (size_t)c, 0, 0.3);
    struct kr_in act = random_in(&r, s, c, LEAKY);
    double *x = doubles(n * (size_t)c), *sums = doubles(sums_count(s, c, true)), weight[64],
           bias[64];
    for (size_t p = 0; p < n; p++)
        for (int k = 0; k < c; k++) { /* means that matter */
            set((void *)act.x, KR_F32, c, p, k, (float)(get(act.x, KR_F32, c, p, k) + k % 3));
            x[p * (size_t)c + (size_t)k] = get(act.x, KR_F32, c, p, k);
        }
    for (int k = 0; k < c; k++) {
        weight[k] = (double)gamma[k];
        bias[k] = (double)beta[k];
    }
    struct kr_gn gn = {.n = samples,
                       .d = slices,
                       .c = c,
                       .groups = groups,
                       .gamma = gamma,
                       .beta = beta,
                       .scale = floats((size_t)s.n * cp),
                       .shift = floats((size_t)s.n * cp),
                       .mean = doubles((size_t)s.n * cp),
                       .invstd = doubles((size_t)s.n * cp),
                       .eps = 1e-5};
    struct kr_in raw = {.x = act.x, .c = c};
    struct kr_out copy = {.y = empty_map(s, c, KR_F32), .c = c, .sums = sums, .each = true};
    kr_add(&d, 1, &raw, &copy, workspace(&d, c));
    kr_gn_train(&gn, plane, sums);
    act.scale = gn.scale;
    act.shift = gn.shift;
    act.stride = cp;
    float *gradient = random_map(&r, s, c, KR_F32), *dz = empty_map(s, c, KR_F32);
    double value_of = 0;
    double want = grouped(samples, (size_t)slices * plane, c, groups, x, weight, bias, gradient);
    for (size_t p = 0; p < n; p++)
        for (int k = 0; k < c; k++)
            value_of += value(&act, s, p, k) * get(gradient, KR_F32, c, p, k);
    float *k = floats((size_t)s.n * 3 * cp), *dgamma = floats((size_t)c),
          *dbeta = floats((size_t)c);
    struct kr_dx dx = {.dx = dz, .c = c, .act = &act, .sums = sums, .each = true};
    kr_add_backward(&d, gradient, 1, &dx, workspace(&d, c));
    kr_gn_backward(&gn, plane, sums, dgamma, dbeta, k);
    kr_bn_apply(&d, c, dz, act.x, KR_F32, k, 3 * cp, dz);
    struct error ex = {0}, eg = {0};
    const double h = 1e-6;
    for (int i = 0; i < 60 + 2 * c; i++) {
        size_t p = rng_below(&r, n);
        int j = i < 60 ? (int)rng_below(&r, (uint64_t)c) : (i - 60) % c;
        if (i < 60 && fabs(before(&act, s, p, j)) < 1e-3)
            continue;
        double *at = i < 60 ? &x[p * (size_t)c + (size_t)j] : i - 60 < c ? &weight[j] : &bias[j];
        double keep = *at, up, down;
        *at = keep + h;
        up = grouped(samples, (size_t)slices * plane, c, groups, x, weight, bias, gradient);
        *at = keep - h;
        down = grouped(samples, (size_t)slices * plane, c, groups, x, weight, bias, gradient);
        *at = keep;
        if (i < 60)
            compare(&ex, get(dz, KR_F32, c, p, j), (up - down) / (2 * h));
        else
            compare(&eg, (double)(i - 60 < c ? dgamma[j] : dbeta[j]), (up - down) / (2 * h));
    }
    bool padding = true;
    for (size_t i = 0; i < (size_t)s.n * cp; i++)
        padding = padding && (i % cp < (size_t)c || (gn.scale[i] == 0 && gn.shift[i] == 0));
    const char *level = kr_level();
    ok(fabs(value_of - want) < 1e-4 * sqrt((double)n * c) && padding,
       "%s: %d groups of %d channels, %d slices: scale and shift", level, groups, c, slices);
    ok(relative(&ex) < 1e-4, "%s: gradient of the input (error %.1e)", level, relative(&ex));
    ok(relative(&eg) < 1e-4, "%s: gradients of weight and bias (error %.1e)", level, relative(&eg));
    guards_free();
}

/* --- sums and copies ------------------------------------------------------------------------ */

static void test_add(struct rng *r, struct shape s, int c, int how0, int how1, int nin, bool affine,
                     enum kr_dtype type)
{
    struct kr_in in[2] = {random_in(r, s, c, how0), random_in(r, s, c, how1)};
    const bool each = how0 & STRIDED;
    struct kr_out out = {.c = c, .dtype = type, .relu = affine, .each = each};
    const size_t rows = sums_count(s, c, each);
    double *want = doubles(pixels_of(s) * (size_t)c), error = 0;
    const void *first = NULL, *sums = NULL;
    bool same = true;
    if (affine) {
        out.slope = how0 & LEAKY ? 0.1f : 0;
        out.scale = random_rows(r, 1, c, 1, 0.2);
        out.shift = random_rows(r, 1, c, 0, 0.2);
    }
    for (size_t p = 0; p < pixels_of(s); p++)
        for (int k = 0; k < c; k++)
            want[p * (size_t)c + (size_t)k] =
                value(&in[0], s, p, k) + (nin > 1 ? value(&in[1], s, p, k) : 0);
    for (int threads = 1; threads <= 4; threads *= 2) {
        const struct kr_dims d = dims(s, threads);
        out.y = empty_map(s, c, type);
        out.sums = doubles(rows);
        kr_add(&d, nin, in, &out, workspace(&d, c));
        error = out_error(&out, s, want);
        same = same && (!first || (!memcmp(first, out.y, elements(s, c) * kr_dtype_size(type)) &&
                                   !memcmp(sums, out.sums, rows * sizeof(double))));
        first = out.y;
        sums = out.sums;
    }
    ok(error < (type == KR_F32 ? 1e-5 : 4e-2) && same,
       "%s: %d operands, %d channels, how %d %d (error %.1e)", kr_level(), nin, c, how0, how1,
       error);
    guards_free();
}

static void test_add_backward(struct rng *r, struct shape s, int c, int ndx)
{
    const size_t cp = (size_t)kr_pad(c), bytes = elements(s, c) * sizeof(float);
    struct kr_in act[2] = {random_in(r, s, c, AFFINE | RELU),
                           random_in(r, s, c, STRIDED | BF16 | LEAKY)};
    const float *dy = random_map(r, s, c, KR_F32), *old = random_map(r, s, c, KR_F32);
    const float *gain = random_rows(r, s.n, c, 1, 0.5);
    double *v = doubles(pixels_of(s) * (size_t)c), error = 0;
    const void *first = NULL;
    bool same = true;
    for (size_t p = 0; p < pixels_of(s); p++)
        for (int k = 0; k < c; k++)
            v[p * (size_t)c + (size_t)k] = get(dy, KR_F32, c, p, k);
    for (int threads = 1; threads <= 4; threads *= 2) {
        const struct kr_dims d = dims(s, threads);
        struct kr_dx dx[2] = {{.dx = empty_map(s, c, KR_F32),
                               .c = c,
                               .act = &act[0],
                               .gain = gain,
                               .each = ndx == 2,
                               .sums = doubles(sums_count(s, c, ndx == 2))},
                              {.dx = empty_map(s, c, KR_F32),
                               .c = c,
                               .accumulate = true,
                               .act = &act[1],
                               .each = true,
                               .sums = doubles(sums_count(s, c, true))}};
        memcpy(dx[1].dx, old, bytes);
        kr_add_backward(&d, dy, ndx, dx, workspace(&d, c));
        for (int i = 0; i < ndx; i++)
            error = fmax(error, dx_error(&dx[i], s, old, v));
        same = same && (!first || !memcmp(first, dx[0].dx, bytes));
        first = dx[0].dx;
        if (threads == 1) { /* sums alone; in place */
            struct kr_dx only = dx[0], place = dx[0];
            only.dx = NULL;
            only.sums = doubles(sums_count(s, c, ndx == 2));
            place.dx = empty_map(s, c, KR_F32);
            place.sums = NULL;
            memcpy(place.dx, dy, bytes);
            kr_add_backward(&d, dy, 1, &only, workspace(&d, c));
            kr_add_backward(&d, place.dx, 1, &place, NULL);
            ok(!memcmp(only.sums, dx[0].sums, 2 * cp * sizeof(double)), "%s: sums without a map",
               kr_level());
            ok(!memcmp(place.dx, dx[0].dx, bytes), "%s: a gradient masked in place", kr_level());
        }
    }
    ok(error < 1e-5 && same, "%s: gradient to %d maps, %d channels (error %.1e)", kr_level(), ndx,
       c, error);
    guards_free();
}

static void test_planar(struct rng *r, struct shape s, int c)
{
    const struct kr_dims d = dims(s, 2);
    const size_t plane = (size_t)s.h * (size_t)s.w;
    const float *x = random_floats(r, pixels_of(s) * (size_t)c, 0, 1);
    struct kr_in in = {.x = empty_map(s, c, KR_F32), .c = c};
    bool right = true;
    kr_from_planar(&d, c, x, (void *)in.x, KR_F32);
    for (size_t p = 0; p < pixels_of(s); p++)
        for (int k = 0; k < kr_pad(c); k++) {
            size_t n = p / plane;
            double want = k < c ? (double)x[(n * (size_t)c + (size_t)k) * plane + p % plane] : 0;
            right = right && get(in.x, KR_F32, c, p, k) == want;
        }
    ok(right, "%s: %d planes become a map", kr_level(), c);
    guards_free();
}

static void test_dropout(void)
{
    enum { N = 40, C = 200 };
    const int cp = kr_pad(C);
    float *a = floats((size_t)(N * cp)), *b = floats((size_t)(N * cp)), *out = floats(2 * 208);
    kr_dropout_gain(N, C, 0.25, 1, 2, 3, 0, a);
    kr_dropout_gain(N - 7, C, 0.25, 1, 2, 3, 7, b);
    int zeros = 0;
    bool values = true, padding = true;
    for (int i = 0; i < N * cp; i++) {
        if (i % cp >= C) {
            padding = padding && a[i] == 0;
            continue;
        }
        zeros += a[i] == 0;
        values = values && (a[i] == 0 || a[i] == (float)(1 / 0.75));
    }
    /* 8000 draws: deviation 39 */
    ok(values && padding && abs(zeros - N * C / 4) < 5 * 39, "a quarter is dropped: %d of %d",
       zeros, N * C);
    ok(!memcmp(a + 7 * cp, b, (size_t)((N - 7) * cp) * sizeof *a),
       "a sample's factors depend on its number alone");
    kr_dropout_gain(N, C, 0.25, 1, 3, 3, 0, b);
    ok(memcmp(a, b, (size_t)(N * cp) * sizeof *a), "another step, other channels");
    float v[208];
    for (int i = 0; i < 208; i++)
        v[i] = (float)i;
    kr_dropout_fold(2, C, a, v, out);
    ok(out[5] == a[5] * 5 && out[cp + 9] == a[cp + 9] * 9, "folded into a scale");
    guards_free();
}

static void all(void)
{
    struct rng r = rng_seed(1);
    static const struct shape shapes[] = {{1, 6, 8}, {2, 13, 9}, {3, 1, 1}, {2, 30, 34}};
    static const int channels[] = {8, 16, 40, 3};
    test_norm((struct shape){2, 9, 7}, 8, KR_F32, 2);
    test_norm((struct shape){3, 12, 11}, 20, KR_F32, 1);
    test_norm((struct shape){2, 9, 8}, 17, KR_BF16, 3);
    for (int i = 0; i < 4; i++) {
        test_add(&r, shapes[i], channels[i], AFFINE, AFFINE | RELU, 2, true, KR_F32);
        test_add(&r, shapes[i], channels[i], STRIDED | RELU, BF16, 2, false, KR_BF16);
        test_add(&r, shapes[i], channels[i], RELU | BF16, 0, 1, false, KR_F32);
        test_add(&r, shapes[i], channels[i], STRIDED | LEAKY, LEAKY | BF16, 2, true, KR_F32);
        test_add_backward(&r, shapes[i], channels[i], 1);
        test_add_backward(&r, shapes[i], channels[i], 2);
        test_planar(&r, shapes[i], channels[i]);
    }
}

int main(void)
{
    if (kr_init())
        return 1;
    test_norm_edges();
    test_group((struct shape){3, 5, 4}, 1, 17, 17); /* instances */
    test_group((struct shape){2, 6, 5}, 1, 24, 4);
    test_group((struct shape){6, 4, 3}, 3, 8, 2);
    test_group((struct shape){4, 5, 3}, 2, 6, 6);

    test_dropout();
    each_level(all);
    return done_testing();
}
