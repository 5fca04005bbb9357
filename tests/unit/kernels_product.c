/* The kernels on OpenBLAS against their definitions in double, and the same bytes for any number of
 * threads and whatever samples lie beside one. */
#include "lib/kernels/product.h"
#include "tests/lib/maps.h"

/* Real channels of a map as doubles, pixel by pixel. */
static double *real(const float *map, size_t pixels, int c)
{
    double *d = doubles(pixels * (size_t)c);
    for (size_t p = 0; p < pixels; p++)
        for (int k = 0; k < c; k++)
            d[p * (size_t)c + (size_t)k] = get(map, KR_F32, c, p, k);
    return d;
}

/* The error of a map; what it held before is added to what is wanted. Padding must be zero. */
static double map_error(const float *have, const double *want, const float *before, size_t pixels,
                        int c)
{
    struct error e = {0};
    for (size_t p = 0; p < pixels; p++)
        for (int k = 0; k < kr_pad(c); k++) {
            double w = k < c ? want[p * (size_t)c + (size_t)k] : 0;
            if (k < c && before)
                w += get(before, KR_F32, c, p, k);
            if (k >= c && get(have, KR_F32, c, p, k) != 0)
                return INFINITY;
            compare(&e, get(have, KR_F32, c, p, k), w);
        }
    return relative(&e);
}

static float *copy(const float *of, size_t n)
{
    float *c = guarded(n * sizeof *c, 64);
    return memcpy(c, of, n * sizeof *c);
}

/* --- linear --------------------------------------------------------------------------------- */
struct linear {
    float *y, *dx, *added, *dw, *dbias;
};

static struct linear run_linear(struct kr_linear l, struct shape s, const float *x, const float *dy,
                                const float *before, int threads)
{
    struct linear r = {.y = empty_map(s, l.cout, KR_F32),
                       .dx = empty_map(s, l.cin, KR_F32),
                       .added = copy(before, elements(s, l.cin)),
                       .dw = floats((size_t)l.cin * (size_t)l.cout),
                       .dbias = floats((size_t)l.cout)};
    l.dims = (struct kr_dims){s.n, s.h, s.w, threads};
    void *ws = guarded(kr_linear_workspace(&l), 64);
    kr_linear_forward(&l, x, r.y);
    kr_linear_backward_data(&l, dy, r.dx, false);
    kr_linear_backward_data(&l, dy, r.added, true);
    kr_linear_backward_weight(&l, x, dy, r.dw, r.dbias, ws);
    return r;
}

static void test_linear(struct rng *r, struct shape s, int cin, int cout, bool bias)
{
    const size_t n = pixels_of(s), ci = (size_t)cin, co = (size_t)cout;
    const float *x = random_map(r, s, cin, KR_F32), *dy = random_map(r, s, cout, KR_F32);
    const float *before = random_map(r, s, cin, KR_F32);
    struct kr_linear l = {.cin = cin, .cout = cout, .weight = random_floats(r, ci * co, 0, 1)};
    l.bias = bias ? random_floats(r, co, 0, 1) : NULL;
    const double *xd = real(x, n, cin), *dyd = real(dy, n, cout);
    double *y = doubles(n * co), *dx = doubles(n * ci), *dw = doubles(ci * co), *db = doubles(co);
    memset(dx, 0, n * ci * sizeof *dx);
    memset(dw, 0, ci * co * sizeof *dw);
    memset(db, 0, co * sizeof *db);
    for (size_t p = 0; p < n; p++)
        for (size_t o = 0; o < co; o++) {
            double v = bias ? (double)l.bias[o] : 0, d = dyd[p * co + o];
            for (size_t i = 0; i < ci; i++) {
                v += (double)l.weight[o * ci + i] * xd[p * ci + i];
                dx[p * ci + i] += (double)l.weight[o * ci + i] * d;
                dw[o * ci + i] += d * xd[p * ci + i];
            }
            y[p * co + o] = v;
            db[o] += d;
        }
    struct linear one = run_linear(l, s, x, dy, before, 1);
    double e = fmax(map_error(one.y, y, NULL, n, cout), map_error(one.dx, dx, NULL, n, cin));
    e = fmax(e, map_error(one.added, dx, before, n, cin));
    ok(e < 1e-5, "%s: linear %dx%dx%d, %d to %d: values, gradient of the data (error %.1e)",
       kr_level(), s.n, s.h, s.w, cin, cout, e);
    e = fmax(floats_error(one.dw, dw, ci * co), floats_error(one.dbias, db, co));
    ok(e < 1e-5, "%s: gradients of weights and bias (error %.1e)", kr_level(), e);

    bool same = true;
    for (int threads = 2; threads <= 64; threads *= 4) {
        struct linear t = run_linear(l, s, x, dy, before, threads);
        same = same && !memcmp(t.y, one.y, elements(s, cout) * 4) &&
               !memcmp(t.dx, one.dx, elements(s, cin) * 4) && !memcmp(t.dw, one.dw, ci * co * 4) &&
               !memcmp(t.dbias, one.dbias, co * 4);
    }
    ok(same, "%s: the same bytes for 1, 2, 8 and 32 threads", kr_level());

    struct shape last = {1, s.h, s.w};
    const size_t skip = (size_t)(s.n - 1), in = elements(last, cin), out = elements(last, cout);
    struct linear alone =
        run_linear(l, last, x + skip * in, dy + skip * out, before + skip * in, 1);
    ok(!memcmp(alone.y, one.y + skip * out, out * 4) &&
           !memcmp(alone.dx, one.dx + skip * in, in * 4),
       "%s: a sample alone has the bytes that it has among others", kr_level());
    guards_free();
}

/* --- attention ------------------------------------------------------------------------------ */
enum { Q, K, V, OPERANDS };

struct attention {
    float *out, *dx[OPERANDS], *added[OPERANDS];
};

static struct shape positions(const struct kr_attention *a, int i)
{
    return (struct shape){a->n, i == Q ? a->from : a->to, 1};
}

static struct attention run_attention(struct kr_attention a, const float *dy,
                                      float *const before[OPERANDS], int threads)
{
    struct attention r = {.out = empty_map(positions(&a, Q), a.cv, KR_F32)};
    struct kr_attention_dx dx[OPERANDS], added[OPERANDS];
    a.threads = threads;
    void *ws = guarded(kr_attention_workspace(&a), 64);
    for (int i = 0; i < OPERANDS; i++) {
        int c = i == V ? a.cv : a.c;
        r.dx[i] = empty_map(positions(&a, i), c, KR_F32);
        r.added[i] = copy(before[i], elements(positions(&a, i), c));
        dx[i] = (struct kr_attention_dx){r.dx[i], false};
        added[i] = (struct kr_attention_dx){r.added[i], true};
    }
    kr_attention_forward(&a, r.out, ws);
    kr_attention_backward(&a, dy, dx, ws);
    kr_attention_backward(&a, dy, added, ws);
    return r;
}

/* out, and dx of dy, by the definition. */
static void attend(const struct kr_attention *a, double *const in[OPERANDS], const double *dy,
                   double *out, double *const dx[OPERANDS])
{
    const size_t c = (size_t)a->c, cv = (size_t)a->cv, from = (size_t)a->from, to = (size_t)a->to;
    const size_t hc = c / (size_t)a->heads, hv = cv / (size_t)a->heads;
    double *p = doubles(to), *dp = doubles(to), scale = 1 / sqrt((double)hc);
    memset(dx[Q], 0, (size_t)a->n * from * c * sizeof(double));
    memset(dx[K], 0, (size_t)a->n * to * c * sizeof(double));
    memset(dx[V], 0, (size_t)a->n * to * cv * sizeof(double));
    for (size_t row = 0; row < (size_t)(a->n * a->heads) * from; row++) {
        const size_t f = row % from, head = row / from % (size_t)a->heads;
        const size_t n = row / from / (size_t)a->heads;
        const size_t q = (n * from + f) * c + head * hc, o = (n * from + f) * cv + head * hv;
        const size_t k = n * to * c + head * hc, v = n * to * cv + head * hv;
        double most = -INFINITY, sum = 0, mean = 0;
        for (size_t t = 0; t < to; t++) {
            p[t] = 0;
            for (size_t i = 0; i < hc; i++)
                p[t] += scale * in[Q][q + i] * in[K][k + t * c + i];
            most = fmax(most, p[t]);
        }
        for (size_t t = 0; t < to; t++)
            sum += p[t] = exp(p[t] - most);
        for (size_t i = 0; i < hv; i++)
            out[o + i] = 0;
        for (size_t t = 0; t < to; t++) {
            p[t] /= sum;
            dp[t] = 0;
            for (size_t i = 0; i < hv; i++) {
                out[o + i] += p[t] * in[V][v + t * cv + i];
                dp[t] += dy[o + i] * in[V][v + t * cv + i];
                dx[V][v + t * cv + i] += p[t] * dy[o + i];
            }
            mean += p[t] * dp[t];
        }
        for (size_t t = 0; t < to; t++)
            for (size_t i = 0; i < hc; i++) {
                double ds = scale * p[t] * (dp[t] - mean);
                dx[Q][q + i] += ds * in[K][k + t * c + i];
                dx[K][k + t * c + i] += ds * in[Q][q + i];
            }
    }
}

static void test_attention(struct rng *r, int n, int heads, int c, int cv, int from, int to)
{
    struct kr_attention a = {.n = n, .heads = heads, .c = c, .cv = cv, .from = from, .to = to};
    float *x[OPERANDS], *before[OPERANDS];
    double *in[OPERANDS], *dx[OPERANDS], e = 0;
    const struct shape out = positions(&a, Q);
    for (int i = 0; i < OPERANDS; i++) {
        const struct shape s = positions(&a, i);
        int ch = i == V ? cv : c;
        x[i] = random_map(r, s, ch, KR_F32);
        before[i] = random_map(r, s, ch, KR_F32);
        in[i] = real(x[i], pixels_of(s), ch);
        dx[i] = doubles(pixels_of(s) * (size_t)ch);
    }
    a.q = x[Q], a.k = x[K], a.v = x[V];
    const float *dy = random_map(r, out, cv, KR_F32);
    double *y = doubles(pixels_of(out) * (size_t)cv);
    attend(&a, in, real(dy, pixels_of(out), cv), y, dx);
    struct attention one = run_attention(a, dy, before, 1);
    double f = map_error(one.out, y, NULL, pixels_of(out), cv);
    ok(f < 1e-5, "%s: attention, %d of %d heads, %d (%d) channels, %d to %d positions (error %.1e)",
       kr_level(), n, heads, c, cv, from, to, f);
    for (int i = 0; i < OPERANDS; i++) {
        size_t p = pixels_of(positions(&a, i));
        int ch = i == V ? cv : c;
        e = fmax(e, map_error(one.dx[i], dx[i], NULL, p, ch));
        e = fmax(e, map_error(one.added[i], dx[i], before[i], p, ch));
    }
    ok(e < 3e-5, "%s: its gradients (error %.1e)", kr_level(), e);

    bool same = true;
    for (int threads = 2; threads <= 64; threads *= 4) {
        struct attention t = run_attention(a, dy, before, threads);
        same = same && !memcmp(t.out, one.out, elements(out, cv) * 4);
        for (int i = 0; i < OPERANDS; i++)
            same = same &&
                   !memcmp(t.dx[i], one.dx[i], elements(positions(&a, i), i == V ? cv : c) * 4);
    }
    ok(same, "%s: the same bytes for 1, 2, 8 and 32 threads", kr_level());
    guards_free();
}

/* --- OpenBLAS itself ------------------------------------------------------------------------ */
static void test_library(void)
{
    static const char *const cores[][2] = {
        {"plain", "Prescott"}, {"avx2", "Haswell"}, {"avx512", "SkylakeX"}, {"neon", "armv8"}};
    const char *core = "";
    for (size_t i = 0; i < sizeof cores / sizeof cores[0]; i++)
        if (!strcmp(cores[i][0], kr_level()))
            core = cores[i][1];
    ok(!strcasecmp(core, kr_products_core()),
       "%s: OpenBLAS takes its kernels of that level, whatever the processor (%s)", kr_level(),
       kr_products_core());
}

static void all(void)
{
    struct rng r = rng_seed(6);
    if (kr_products()) {
        ok(true, "%s: # SKIP %s", kr_level(), kr_products());
        return;
    }
    test_library();
    test_linear(&r, (struct shape){2, 3, 5}, 5, 3, true);
    test_linear(&r, (struct shape){3, 17, 19}, 33, 100, true);
    test_linear(&r, (struct shape){1, 9, 40}, 64, 16, false);
    test_linear(&r, (struct shape){2, 1, 1}, 1, 1, true);
    test_attention(&r, 2, 1, 4, 4, 6, 6);
    test_attention(&r, 2, 3, 24, 9, 150, 150);
    test_attention(&r, 1, 2, 32, 32, 65, 31);
    test_attention(&r, 1, 5, 5, 10, 1, 1);
}

int main(void)
{
    each_level(all);
    kr_products_free();
    ok(kr_products() != NULL, "given back, there are no products (%s)", kr_products());
    return done_testing();
}
