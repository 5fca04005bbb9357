/* The attention gate as a whole: forward against double, every gradient against finite differences
 * of the whole gate (with its three normalisations) in double. */
#include "lib/kernels/pointwise.h"
#include "tests/lib/maps.h"

enum { MAPS = 3 };

/* Raw maps as doubles (pixels, c), parameters, and the gradient of the output. */
struct model {
    struct shape s;
    int c, ci;
    double *raw[MAPS];                /* a, b (ci), x (c) */
    double *gamma[3], *beta[3], *psi; /* gamma and beta of the score's normalisation are [2] */
    struct kr_in x;                   /* its scale, shift and relu count; the map is raw[2] */
    const float *dout;
};

static double gated(const struct model *m, double *out)
{
    const size_t n = pixels_of(m->s);
    double *v = calloc(n * (size_t)m->ci, sizeof *v), *score = calloc(n, sizeof *score);
    double mean = 0, var = 0, loss = 0;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < m->ci; k++) {
            double mu = 0, sd = 0;
            for (size_t p = 0; p < n; p++)
                mu += m->raw[i][p * (size_t)m->ci + (size_t)k] / (double)n;
            for (size_t p = 0; p < n; p++)
                sd += pow(m->raw[i][p * (size_t)m->ci + (size_t)k] - mu, 2) / (double)n;
            sd = sqrt(sd + 1e-5);
            for (size_t p = 0; p < n; p++)
                v[p * (size_t)m->ci + (size_t)k] +=
                    (m->raw[i][p * (size_t)m->ci + (size_t)k] - mu) / sd * m->gamma[i][k] +
                    m->beta[i][k];
        }
    for (size_t p = 0; p < n; p++) {
        for (int k = 0; k < m->ci; k++)
            score[p] += m->psi[k] * fmax(0, v[p * (size_t)m->ci + (size_t)k]);
        mean += score[p] / (double)n;
    }
    for (size_t p = 0; p < n; p++)
        var += pow(score[p] - mean, 2) / (double)n;
    for (size_t p = 0; p < n; p++) {
        double z = (score[p] - mean) / sqrt(var + 1e-5) * *m->gamma[2] + *m->beta[2];
        for (int k = 0; k < m->c; k++) {
            double x = m->raw[2][p * (size_t)m->c + (size_t)k];
            size_t i = p / ((size_t)m->s.h * (size_t)m->s.w) * m->x.stride + (size_t)k;
            if (m->x.scale)
                x = x * (double)m->x.scale[i] + (double)m->x.shift[i];
            if (m->x.relu && x < 0)
                x = 0;
            x /= 1 + exp(-z);
            if (out)
                out[p * (size_t)m->c + (size_t)k] = x;
            loss += x * get(m->dout, KR_F32, m->c, p, k);
        }
    }
    free(v);
    free(score);
    return loss;
}

static double difference(const struct model *m, double *at)
{
    const double keep = *at, h = 1e-6;
    *at = keep + h;
    double up = gated(m, NULL);
    *at = keep - h;
    double down = gated(m, NULL);
    *at = keep;
    return (up - down) / (2 * h);
}

static float *as_floats(const double *v, int n)
{
    float *f = floats((size_t)n);
    for (int i = 0; i < n; i++)
        f[i] = (float)v[i];
    return f;
}

/* Doubles that are floats. */
static double *random_parameters(struct rng *r, int n, double mean, double spread)
{
    double *v = doubles((size_t)n);
    for (int i = 0; i < n; i++)
        v[i] = (double)(float)(mean + spread * rng_normal(r));
    return v;
}

static void raw_doubles(double *to, const struct kr_in *in, struct shape s)
{
    for (size_t p = 0; p < pixels_of(s); p++)
        for (int k = 0; k < in->c; k++)
            to[p * (size_t)in->c + (size_t)k] = get(in->x, in->dtype, in->c, p, k);
}

static struct kr_bn norm(int c, const double *gamma, const double *beta)
{
    return (struct kr_bn){.c = c,
                          .gamma = as_floats(gamma, c),
                          .beta = as_floats(beta, c),
                          .scale = floats((size_t)kr_pad(c)),
                          .shift = floats((size_t)kr_pad(c)),
                          .mean = doubles((size_t)c),
                          .invstd = doubles((size_t)c),
                          .eps = 1e-5,
                          .momentum = 0.1};
}

struct outcome {
    void *out;
    float *dx, *da, *db, *dpsi, *dgamma[3], *dbeta[3];
    double *x_sums;
};

static struct outcome run(struct model *m, const struct kr_in raw[MAPS], int threads)
{
    struct kr_in in[MAPS] = {raw[0], raw[1], raw[2]};
    const struct kr_dims d = {m->s.n, m->s.h, m->s.w, threads};
    const size_t n = pixels_of(m->s), cip = (size_t)kr_pad(m->ci), cp = (size_t)kr_pad(m->c);
    void *ws = guarded(kr_pointwise_workspace(&d, m->c > 2 * m->ci ? m->c : 2 * m->ci), 64);
    double *sums = doubles(2 * cip), *sums_b = doubles(2 * cip), two[32];
    struct kr_bn bn[3] = {norm(m->ci, m->gamma[0], m->beta[0]),
                          norm(m->ci, m->gamma[1], m->beta[1]), norm(1, m->gamma[2], m->beta[2])};
    struct outcome o = {.out = empty_map(m->s, m->c, KR_F32)};
    for (int i = 0; i < 2; i++) {
        struct kr_out copy = {.y = empty_map(m->s, m->ci, KR_F32), .c = m->ci, .sums = sums};
        kr_add(&d, 1, &in[i], &copy, ws);
        kr_bn_train(&bn[i], n, sums);
        in[i].scale = bn[i].scale;
        in[i].shift = bn[i].shift;
    }
    struct kr_gate g = {.a = in[0],
                        .b = in[1],
                        .psi = as_floats(m->psi, m->ci),
                        .x = in[2],
                        .scale = bn[2].scale,
                        .shift = bn[2].shift};
    float *score = floats(n), *dscore = floats(n);
    kr_gate_score(&d, &g, score, two, ws);
    kr_bn_train(&bn[2], n, two);
    struct kr_out out = {.y = o.out, .c = m->c};
    kr_gate_apply(&d, &g, score, &out, NULL);

    float *k = floats(3 * 16), *ka = floats(3 * cip), *kb = floats(3 * cip);
    for (int i = 0; i < 3; i++) {
        o.dgamma[i] = floats((size_t)m->ci);
        o.dbeta[i] = floats((size_t)m->ci);
    }
    o.dx = empty_map(m->s, m->c, KR_F32);
    o.da = empty_map(m->s, m->ci, KR_F32);
    o.db = empty_map(m->s, m->ci, KR_F32);
    o.dpsi = floats((size_t)m->ci);
    o.x_sums = doubles(2 * cp);
    struct kr_dx dx = {.dx = o.dx, .c = m->c, .act = &in[2], .sums = o.x_sums};
    kr_gate_apply_backward(&d, &g, score, m->dout, &dx, dscore, two, ws);
    kr_bn_backward(&bn[2], n, two, o.dgamma[2], o.dbeta[2], k);
    const struct kr_dx dz[2] = {{.dx = o.da, .c = m->ci, .act = &in[0], .sums = sums},
                                {.dx = o.db, .c = m->ci, .act = &in[1], .sums = sums_b}};
    const struct kr_dy dy = {.dy = dscore, .x = score, .k = k};
    kr_gate_score_backward(&d, &g, &dy, dz, o.dpsi, ws);
    kr_bn_backward(&bn[0], n, sums, o.dgamma[0], o.dbeta[0], ka);
    kr_bn_backward(&bn[1], n, sums_b, o.dgamma[1], o.dbeta[1], kb);
    kr_bn_apply(&d, m->ci, o.da, in[0].x, in[0].dtype, ka, 0, o.da);
    kr_bn_apply(&d, m->ci, o.db, in[1].x, in[1].dtype, kb, 0, o.db);
    return o;
}

static void test_gate(struct rng *r, struct shape s, int c, int ci, int how)
{
    const size_t n = pixels_of(s);
    struct kr_in in[MAPS] = {random_in(r, s, ci, how & BF16), random_in(r, s, ci, 0),
                             random_in(r, s, c, how)};
    struct model m = {.s = s, .c = c, .ci = ci, .x = in[2]};
    const char *level = kr_level();
    for (int i = 0; i < MAPS; i++) {
        m.raw[i] = doubles(n * (size_t)in[i].c);
        raw_doubles(m.raw[i], &in[i], s);
    }
    for (int i = 0; i < 3; i++) {
        m.gamma[i] = random_parameters(r, i < 2 ? ci : 1, 1, 0.2);
        m.beta[i] = random_parameters(r, i < 2 ? ci : 1, 0.1, 0.2);
    }
    m.psi = random_parameters(r, ci, 0, 1);
    m.dout = random_map(r, s, c, KR_F32);
    double *want = doubles(n * (size_t)c);
    gated(&m, want);
    struct outcome o = run(&m, in, 1);
    struct kr_out out = {.y = o.out, .c = c};
    double error = out_error(&out, s, want);
    ok(error < 2e-5, "%s: gate %dx%dx%d, %d and %d channels (error %.1e)", level, s.n, s.h, s.w, c,
       ci, error);

    struct error ex = {0}, ea = {0}, ep = {0};
    for (int i = 0; i < 40; i++) {
        size_t p = rng_below(r, n);
        int k = (int)rng_below(r, (uint64_t)c), q = (int)rng_below(r, (uint64_t)ci);
        if (fabs(before(&in[2], s, p, k)) > 1e-4)
            compare(&ex, get(o.dx, KR_F32, c, p, k),
                    difference(&m, &m.raw[2][p * (size_t)c + (size_t)k]) /
                        (in[2].scale
                             ? (double)in[2].scale[p / ((size_t)s.h * (size_t)s.w) * in[2].stride +
                                                   (size_t)k]
                             : 1));
        compare(&ea, get(o.da, KR_F32, ci, p, q),
                difference(&m, &m.raw[0][p * (size_t)ci + (size_t)q]));
        compare(&ea, get(o.db, KR_F32, ci, p, q),
                difference(&m, &m.raw[1][p * (size_t)ci + (size_t)q]));
    }
    for (int k = 0; k < ci; k++) {
        compare(&ep, (double)o.dpsi[k], difference(&m, &m.psi[k]));
        for (int i = 0; i < 2; i++) {
            compare(&ep, (double)o.dgamma[i][k], difference(&m, &m.gamma[i][k]));
            compare(&ep, (double)o.dbeta[i][k], difference(&m, &m.beta[i][k]));
        }
    }
    compare(&ep, (double)o.dgamma[2][0], difference(&m, m.gamma[2]));
    compare(&ep, (double)o.dbeta[2][0], difference(&m, m.beta[2]));
    ok(relative(&ex) < 1e-4, "%s: gradient of x (error %.1e)", level, relative(&ex));
    ok(relative(&ea) < 1e-3, "%s: gradients of both gating maps (error %.1e)", level,
       relative(&ea));
    ok(relative(&ep) < 1e-3, "%s: gradients of the parameters (error %.1e)", level, relative(&ep));

    bool same = true;
    for (int threads = 2; threads <= 4; threads *= 2) {
        struct outcome t = run(&m, in, threads);
        same =
            same && !memcmp(t.out, o.out, elements(s, c) * 4) &&
            !memcmp(t.dx, o.dx, elements(s, c) * 4) && !memcmp(t.da, o.da, elements(s, ci) * 4) &&
            !memcmp(t.db, o.db, elements(s, ci) * 4) && !memcmp(t.dpsi, o.dpsi, (size_t)ci * 4) &&
            !memcmp(t.x_sums, o.x_sums, 2 * (size_t)kr_pad(c) * sizeof(double));
    }
    ok(same, "%s: the same bytes for 1, 2 and 4 threads", level);
    guards_free();
}

static void all(void)
{
    struct rng r = rng_seed(4);
    test_gate(&r, (struct shape){1, 8, 6}, 8, 4, 0);
    test_gate(&r, (struct shape){2, 9, 11}, 20, 10, AFFINE | RELU);
    test_gate(&r, (struct shape){2, 7, 13}, 64, 32, STRIDED | RELU | BF16);
    test_gate(&r, (struct shape){1, 5, 3}, 1, 1, 0);
}

int main(void)
{
    each_level(all);
    return done_testing();
}
