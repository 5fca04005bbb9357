/* Products, curves, softmax, layer normalisation, joined maps, resizing: values against their
 * definitions in double, gradients against differences of those, through every way to read, write
 * and sum, and the same bytes for any number of threads. */
#include "lib/kernels/pointwise.h"
#include "tests/lib/maps.h"

enum kind { JOIN, MULTIPLY, SIGMOID, GELU, SOFTMAX, LAYER_NORM, NEAREST, LINEAR };
static const char *const names[] = {"join",    "multiply",   "sigmoid", "GELU",
                                    "softmax", "layer norm", "nearest", "linear"};

/* Operands as doubles, pixel by pixel; the shape `s` has n * d slices. */
struct model {
    enum kind kind;
    int ins, c[2], cout, n, d, factor[3];
    struct shape s, to;
    double *v[2], *gamma, *beta, eps;
};

static size_t count_in(const struct model *m, int i)
{
    return pixels_of(m->s) * (size_t)m->c[i];
}

static size_t count_out(const struct model *m)
{
    return pixels_of(m->to) * (size_t)m->cout;
}

/* --- definitions ---------------------------------------------------------------------------- */

/* The value at place o of an axis: w[0] of position at[0], w[1] of the next. */
static void place(const struct model *m, int axis, int size, int o, int at[2], double w[2])
{
    const int f = m->factor[axis];
    double x = fmax(0, (o + 0.5) / f - 0.5);
    if (m->kind == NEAREST)
        x = o / f;
    at[0] = (int)floor(x);
    at[1] = at[0] + 1 < size ? at[0] + 1 : at[0];
    w[1] = x - at[0];
    w[0] = 1 - w[1];
}

static void resize(const struct model *m, double *out)
{
    const int c = m->cout, h = m->s.h, w = m->s.w;
    for (int i = 0; i < (int)pixels_of(m->to); i++) {
        const int x = i % m->to.w, y = i / m->to.w % m->to.h, slice = i / m->to.w / m->to.h;
        const int slices = m->d * m->factor[0];
        int at[3][2];
        double wt[3][2];
        place(m, 0, m->d, slice % slices, at[0], wt[0]);
        place(m, 1, h, y, at[1], wt[1]);
        place(m, 2, w, x, at[2], wt[2]);
        for (int k = 0; k < c; k++) {
            double sum = 0;
            for (int t = 0; t < 8; t++) {
                const int a = t & 1, b = t >> 1 & 1, e = t >> 2;
                const int from = (slice / slices * m->d + at[0][e]) * h + at[1][b];
                sum += wt[0][e] * wt[1][b] * wt[2][a] * m->v[0][(from * w + at[2][a]) * c + k];
            }
            out[i * c + k] = sum;
        }
    }
}

static void along_channels(const struct model *m, double *out)
{
    const int c = m->cout;
    for (const double *v = m->v[0]; v < m->v[0] + count_in(m, 0); v += c, out += c) {
        double sum = 0, squares = 0;
        for (int k = 0; k < c; k++)
            sum += m->kind == SOFTMAX ? exp(v[k]) : v[k] / c;
        for (int k = 0; k < c; k++)
            squares += (v[k] - sum) * (v[k] - sum) / c;
        for (int k = 0; k < c; k++)
            out[k] = m->kind == SOFTMAX
                         ? exp(v[k]) / sum
                         : (v[k] - sum) / sqrt(squares + m->eps) * m->gamma[k] + m->beta[k];
    }
}

static void define(const struct model *m, double *out)
{
    if (m->kind == NEAREST || m->kind == LINEAR) {
        resize(m, out);
        return;
    }
    if (m->kind == SOFTMAX || m->kind == LAYER_NORM) {
        along_channels(m, out);
        return;
    }
    for (size_t p = 0; p < pixels_of(m->s); p++)
        for (int k = 0; k < m->cout; k++, out++) {
            const double *a = m->v[0] + p * (size_t)m->c[0];
            const double *b = m->ins > 1 ? m->v[1] + p * (size_t)m->c[1] : NULL;
            if (m->kind == JOIN)
                *out = k < m->c[0] ? a[k] : b[k - m->c[0]];
            else if (m->kind == MULTIPLY)
                *out = a[k] * b[m->c[1] == 1 ? 0 : k];
            else if (m->kind == SIGMOID)
                *out = 1 / (1 + exp(-a[k]));
            else
                *out = a[k] * (1 + erf(a[k] / sqrt(2))) / 2;
        }
}

/* sum of dy * out */
static double total(const struct model *m, const double *dy, double *out)
{
    double sum = 0;
    define(m, out);
    for (size_t i = 0; i < count_out(m); i++)
        sum += dy[i] * out[i];
    return sum;
}

static void differences(const struct model *m, const double *dy, double *of, size_t n, double *d)
{
    double *out = doubles(count_out(m));
    for (size_t i = 0; i < n; i++) {
        const double was = of[i], h = 1e-5;
        of[i] = was + h;
        d[i] = total(m, dy, out);
        of[i] = was - h;
        d[i] = (d[i] - total(m, dy, out)) / (2 * h);
        of[i] = was;
    }
}

/* --- the kernels ---------------------------------------------------------------------------- */
struct run {
    const struct model *m;
    struct kr_in *in;
    struct kr_layer_norm norm;
    struct kr_dims d;
    struct kr_resize resize;
    void *ws;
};

static struct run run_of(const struct model *m, struct kr_in in[2], int threads)
{
    struct run r = {.m = m, .in = in, .d = {m->s.n, m->s.h, m->s.w, threads}};
    const int *f = m->factor;
    const int c = m->c[0] + m->c[1];
    r.resize = (struct kr_resize){
        m->n, m->d, m->s.h, m->s.w, {f[0], f[1], f[2]}, m->kind == LINEAR, threads};
    r.ws = guarded(m->kind == NEAREST || m->kind == LINEAR ? kr_resize_workspace(&r.resize, c)
                                                           : kr_pointwise_workspace(&r.d, c),
                   64);
    if (m->kind == LAYER_NORM) {
        float *g = floats((size_t)c), *b = floats((size_t)c);
        for (int k = 0; k < c; k++)
            g[k] = (float)m->gamma[k], b[k] = (float)m->beta[k];
        r.norm = (struct kr_layer_norm){in[0], g, b, m->eps};
    }
    return r;
}

static void forward(const struct run *r, const struct kr_out *out)
{
    switch (r->m->kind) {
    case JOIN:
        kr_join(&r->d, r->in, out, r->ws);
        break;
    case MULTIPLY:
        kr_multiply(&r->d, r->in, out, r->ws);
        break;
    case SIGMOID:
    case GELU:
        kr_curve_forward(&r->d, r->m->kind == GELU ? KR_GELU : KR_SIGMOID, r->in, out, r->ws);
        break;
    case SOFTMAX:
        kr_softmax_forward(&r->d, r->in, out, r->ws);
        break;
    case LAYER_NORM:
        kr_layer_norm_forward(&r->d, &r->norm, out, r->ws);
        break;
    case NEAREST:
    case LINEAR:
        kr_resize_forward(&r->resize, r->in, out, r->ws);
        break;
    }
}

static void backward(const struct run *r, const float *dy, const struct kr_dx dx[2], float *dgamma,
                     float *dbeta)
{
    switch (r->m->kind) {
    case JOIN:
        kr_join_backward(&r->d, dy, dx, r->ws);
        break;
    case MULTIPLY:
        kr_multiply_backward(&r->d, r->in, dy, dx, r->ws);
        break;
    case SIGMOID:
    case GELU:
        kr_curve_backward(&r->d, r->m->kind == GELU ? KR_GELU : KR_SIGMOID, r->in, dy, dx, r->ws);
        break;
    case SOFTMAX:
        kr_softmax_backward(&r->d, r->in, dy, dx, r->ws);
        break;
    case LAYER_NORM:
        kr_layer_norm_backward(&r->d, &r->norm, dy, dx, NULL, NULL, r->ws);
        kr_layer_norm_backward(&r->d, &r->norm, dy, NULL, dgamma, dbeta, r->ws);
        break;
    case NEAREST:
    case LINEAR:
        kr_resize_backward(&r->resize, dy, dx, r->ws);
        break;
    }
}

/* --- tests ---------------------------------------------------------------------------------- */
static void test_forward(struct rng *r, const struct model *m, struct kr_in in[2], bool each,
                         enum kr_dtype type)
{
    struct kr_out out = {.c = m->cout, .dtype = type, .each = each};
    const size_t rows = sums_count(m->to, m->cout, each);
    const size_t bytes = elements(m->to, m->cout) * kr_dtype_size(type);
    double *want = doubles(count_out(m)), error = 0;
    const void *first = NULL, *sums = NULL;
    bool same = true;
    define(m, want);
    if (each) {
        out.scale = random_rows(r, 1, m->cout, 1, 0.2);
        out.shift = random_rows(r, 1, m->cout, 0, 0.2);
        out.relu = true;
        out.slope = 0.1f;
    }
    for (int threads = 1; threads <= 4; threads *= 2) {
        const struct run run = run_of(m, in, threads);
        out.y = empty_map(m->to, m->cout, type);
        out.sums = doubles(rows);
        forward(&run, &out);
        error = out_error(&out, m->to, want);
        same = same && (!first || (!memcmp(first, out.y, bytes) &&
                                   !memcmp(sums, out.sums, rows * sizeof(double))));
        first = out.y;
        sums = out.sums;
    }
    ok(error < (type == KR_F32 ? 1e-5 : 4e-2) && same,
       "%s: %s of %dx%dx%dx%d, %d and %d channels, for 1, 2 and 4 threads (error %.1e)", kr_level(),
       names[m->kind], m->n, m->d, m->s.h, m->s.w, m->c[0], m->c[1], error);
}

static void test_backward(struct rng *r, struct model *m, struct kr_in in[2], bool each)
{
    const float *dy = random_map(r, m->to, m->cout, KR_F32), *old[2];
    const float *gain[2];
    double *dyd = doubles(count_out(m)), *v[2], *dg = NULL, *db = NULL, error = 0;
    float *dgamma = floats((size_t)m->cout), *dbeta = floats((size_t)m->cout), *first[2] = {0};
    bool same = true;
    for (size_t p = 0; p < pixels_of(m->to); p++)
        for (int k = 0; k < m->cout; k++)
            dyd[p * (size_t)m->cout + (size_t)k] = get(dy, KR_F32, m->cout, p, k);
    for (int i = 0; i < m->ins; i++) {
        v[i] = doubles(count_in(m, i));
        differences(m, dyd, m->v[i], count_in(m, i), v[i]);
        old[i] = random_map(r, m->s, m->c[i], KR_F32);
        gain[i] = random_rows(r, m->s.n, m->c[i], 1, 0.5);
    }
    if (m->kind == LAYER_NORM) {
        dg = doubles((size_t)m->cout), db = doubles((size_t)m->cout);
        differences(m, dyd, m->gamma, (size_t)m->cout, dg);
        differences(m, dyd, m->beta, (size_t)m->cout, db);
    }
    for (int threads = 1; threads <= 4; threads *= 2) {
        const struct run run = run_of(m, in, threads);
        struct kr_dx dx[2] = {{0}};
        for (int i = 0; i < m->ins; i++) {
            const size_t bytes = elements(m->s, m->c[i]) * sizeof(float);
            dx[i] = (struct kr_dx){.dx = empty_map(m->s, m->c[i], KR_F32), .c = m->c[i]};
            if (each || i) {
                dx[i].accumulate = true;
                dx[i].act = &in[i];
                dx[i].gain = gain[i];
                dx[i].each = each;
                dx[i].sums = doubles(sums_count(m->s, m->c[i], each));
            }
            memcpy(dx[i].dx, old[i], bytes);
        }
        backward(&run, dy, dx, dgamma, dbeta);
        for (int i = 0; i < m->ins; i++) {
            const size_t bytes = elements(m->s, m->c[i]) * sizeof(float);
            error = fmax(error, dx_error(&dx[i], m->s, old[i], v[i]));
            same = same && (!first[i] || !memcmp(first[i], dx[i].dx, bytes));
            first[i] = dx[i].dx;
        }
        struct error e = {0};
        for (int k = 0; dg && k < m->cout; k++) {
            compare(&e, (double)dgamma[k], dg[k]);
            compare(&e, (double)dbeta[k], db[k]);
        }
        error = fmax(error, relative(&e));
    }
    ok(error < 2e-5 && same, "%s: its gradients (error %.1e)", kr_level(), error);
}

/* c1 0: one operand. */
static void test(struct rng *r, enum kind kind, struct shape s, int d, int c0, int c1, int how0,
                 int how1, int fz, int fy, int fx)
{
    struct kr_in in[2] = {random_in(r, s, c0, how0)};
    struct model m = {.kind = kind, .ins = c1 ? 2 : 1, .c = {c0, c1}, .n = s.n / d, .d = d};
    m.factor[0] = fz, m.factor[1] = fy, m.factor[2] = fx;
    m.s = s;
    m.to = (struct shape){s.n * fz, s.h * fy, s.w * fx};
    m.cout = kind == JOIN ? c0 + c1 : c0;
    m.eps = 1e-3;
    if (c1)
        in[1] = random_in(r, s, c1, how1);
    for (int i = 0; i < m.ins; i++) {
        m.v[i] = doubles(count_in(&m, i));
        for (size_t p = 0; p < pixels_of(s); p++)
            for (int k = 0; k < m.c[i]; k++)
                m.v[i][p * (size_t)m.c[i] + (size_t)k] = value(&in[i], s, p, k);
    }
    if (kind == LAYER_NORM) {
        m.gamma = doubles((size_t)c0), m.beta = doubles((size_t)c0);
        for (int k = 0; k < c0; k++) {
            m.gamma[k] = (double)(float)(1 + 0.3 * rng_normal(r));
            m.beta[k] = (double)(float)(0.3 * rng_normal(r));
        }
    }
    test_forward(r, &m, in, false, KR_F32);
    test_forward(r, &m, in, true, how0 & BF16 ? KR_BF16 : KR_F32);
    test_backward(r, &m, in, false);
    test_backward(r, &m, in, true);
    guards_free();
}

/* Far from zero, where sums of products cancel and exponentials overflow. */
static void test_far(void)
{
    struct shape s = {1, 1, 7};
    const float x[] = {-1e30f, -90, -9, 0, 9, 90, 1e30f};
    const struct kr_dims d = {1, 1, 7, 1};
    float *map = empty_map(s, 1, KR_F32), *y = empty_map(s, 1, KR_F32);
    const struct kr_in in = {.x = map, .c = 1};
    const struct kr_out out = {.y = y, .c = 1};
    bool right = true;
    for (int p = 0; p < 7; p++)
        for (int k = 0; k < 16; k++)
            map[p * 16 + k] = k ? 0 : x[p];
    for (int gelu = 0; gelu < 2; gelu++) {
        kr_curve_forward(&d, gelu ? KR_GELU : KR_SIGMOID, &in, &out, NULL);
        for (int p = 0; p < 7; p++) {
            double v = (double)x[p];
            double want = gelu ? v * erfc(-v / sqrt(2)) / 2 : 1 / (1 + exp(-v));
            right = right && fabs((double)y[p * 16] - want) <= 1e-6 * fabs(want) + 1e-12;
        }
    }
    ok(right, "%s: sigmoid and GELU from -1e30 to 1e30", kr_level());
    kr_softmax_forward(&d, &in, &out, NULL);
    for (int p = 0; p < 7; p++)
        right = right && y[p * 16] == 1;
    ok(right, "%s: softmax of one channel is 1, however large", kr_level());
    map[0] = NAN;
    kr_softmax_forward(&d, &in, &out, NULL);
    right = isnan(y[0]) && y[16] == 1;
    for (int gelu = 0; gelu < 2; gelu++) {
        kr_curve_forward(&d, gelu ? KR_GELU : KR_SIGMOID, &in, &out, NULL);
        right = right && isnan(y[0]) && !isnan(y[16]);
    }
    ok(right, "%s: NaN stays NaN, in its pixel", kr_level());
    guards_free();
}

static void all(void)
{
    struct rng r = rng_seed(8);
    const struct shape small = {2, 3, 5}, wide = {1, 9, 11};
    test(&r, JOIN, small, 1, 5, 3, 0, AFFINE, 1, 1, 1);
    test(&r, JOIN, small, 1, 16, 20, STRIDED | LEAKY, AFFINE | RELU, 1, 1, 1);
    test(&r, JOIN, small, 1, 14, 17, RELU, BF16 | STRIDED, 1, 1, 1);
    test(&r, JOIN, wide, 1, 1, 1, 0, 0, 1, 1, 1);
    test(&r, MULTIPLY, small, 1, 5, 5, 0, AFFINE, 1, 1, 1);
    test(&r, MULTIPLY, small, 1, 20, 1, STRIDED | LEAKY, AFFINE | RELU, 1, 1, 1);
    test(&r, MULTIPLY, wide, 1, 3, 1, RELU | BF16, 0, 1, 1, 1);
    test(&r, MULTIPLY, small, 1, 1, 1, 0, 0, 1, 1, 1);
    for (int kind = SIGMOID; kind <= LAYER_NORM; kind++) {
        test(&r, (enum kind)kind, small, 1, 5, 0, 0, 0, 1, 1, 1);
        test(&r, (enum kind)kind, small, 1, 20, 0, STRIDED | LEAKY, 0, 1, 1, 1);
        test(&r, (enum kind)kind, wide, 1, 3, 0, AFFINE | RELU | BF16, 0, 1, 1, 1);
    }
    for (int kind = NEAREST; kind <= LINEAR; kind++) {
        test(&r, (enum kind)kind, small, 1, 5, 0, 0, 0, 1, 2, 2);
        test(&r, (enum kind)kind, (struct shape){2, 1, 4}, 1, 17, 0, STRIDED | LEAKY, 0, 1, 3, 4);
        test(&r, (enum kind)kind, (struct shape){4, 2, 3}, 2, 3, 0, STRIDED, 0, 2, 1, 3);
        test(&r, (enum kind)kind, (struct shape){3, 3, 1}, 3, 3, 0, RELU | BF16, 0, 3, 2, 2);
    }
    test_far();
}

int main(void)
{
    each_level(all);
    return done_testing();
}
