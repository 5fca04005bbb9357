/* The 3x3 convolution's three passes against sums written out in double: at each level, with each
 * algorithm, over shapes, channel counts, operand and result fusions. Results must also be the same
 * bytes for 1, 2 and 4 threads, and every buffer lies between pages that may not be touched.
 * It is one thing: one oracle, to which all passes are held. With an argument only small cases run
 * (for an emulator). */
#include "tests/lib/maps.h"

/* --- maps as the oracle sees them ------------------------------------------------------------- */
static size_t at(struct shape s, int cp, int n, int y, int x, int c)
{
    return (((size_t)n * (size_t)s.h + (size_t)y) * (size_t)s.w + (size_t)x) * (size_t)cp +
           (size_t)c;
}

static size_t count(struct shape s, int cp)
{
    return (size_t)s.n * (size_t)s.h * (size_t)s.w * (size_t)cp;
}

static float element(const void *p, enum kr_dtype t, size_t i)
{
    return t == KR_F32 ? ((const float *)p)[i] : bf16_to_f32(((const uint16_t *)p)[i]);
}

/* The value that a kernel is to read. */
static double padded_value(const struct kr_in *in, struct shape s, int n, int y, int x, int c)
{
    if (y < 0 || y >= s.h || x < 0 || x >= s.w)
        return 0;
    double v = (double)element(in->x, in->dtype, at(s, kr_pad(in->c), n, y, x, c));
    if (in->scale)
        v = v * (double)in->scale[(size_t)n * in->stride + (size_t)c] +
            (double)in->shift[(size_t)n * in->stride + (size_t)c];
    return in->relu && v < 0 ? v * (double)in->slope : v;
}

/* --- the oracle ------------------------------------------------------------------------------- */
static int inputs(const struct kr_conv3x3 *p)
{
    return p->in[0].c + (p->nin > 1 ? p->in[1].c : 0);
}

/* All that the kernel is to read of one pixel. */
static void pixel(double *v, const struct kr_conv3x3 *p, int n, int y, int x)
{
    struct shape s = {p->n, p->h, p->w};
    for (int i = 0; i < inputs(p); i++)
        v[i] = i < p->in[0].c ? padded_value(&p->in[0], s, n, y, x, i)
                              : padded_value(&p->in[1], s, n, y, x, i - p->in[0].c);
}

/* sum += a * v, n values: what all three passes are made of. */
static void add(double *restrict sum, double a, const double *restrict v, int n)
{
#pragma omp simd
    for (int i = 0; i < n; i++)
        sum[i] += a * v[i];
}

/* Filters by tap: [9][cin][cout], or [9][cout][cin]. */
static double *by_tap(const struct kr_conv3x3 *p, bool input_first)
{
    int cin = inputs(p), cout = p->cout;
    double *w = malloc((size_t)cout * (size_t)cin * 9 * sizeof *w);
    for (int o = 0; o < cout; o++)
        for (int i = 0; i < cin; i++)
            for (int t = 0; t < 9; t++)
                w[input_first ? (t * cin + i) * cout + o : (t * cout + o) * cin + i] =
                    (double)p->weight[(o * cin + i) * 9 + t];
    return w;
}

static double *oracle_forward(const struct kr_conv3x3 *p)
{
    struct shape s = {p->n, p->h, p->w};
    int cin = inputs(p), cout = p->cout;
    double *y = calloc(count(s, cout), sizeof *y), *w = by_tap(p, true);
    double *v = calloc((size_t)cin, sizeof *v);
    for (int n = 0; n < p->n; n++)
        for (int h = -1; h <= p->h; h++)
            for (int x = -1; x <= p->w; x++) {
                pixel(v, p, n, h, x);
                for (int t = 0; t < 9; t++) {
                    int oh = h - t / 3 + 1, ow = x - t % 3 + 1;
                    if (oh < 0 || oh >= p->h || ow < 0 || ow >= p->w)
                        continue;
                    for (int i = 0; i < cin; i++)
                        add(&y[at(s, cout, n, oh, ow, 0)], v[i], &w[(t * cin + i) * cout], cout);
                }
            }
    if (p->bias)
        for (size_t i = 0; i < count(s, cout); i++)
            y[i] += (double)p->bias[i % (size_t)cout];
    free(v);
    free(w);
    return y;
}

static double *oracle_data(const struct kr_conv3x3 *p, const float *dy)
{
    struct shape s = {p->n, p->h, p->w};
    int cin = inputs(p), cout = p->cout;
    double *dv = calloc(count(s, cin), sizeof *dv), *w = by_tap(p, false);
    for (int n = 0; n < p->n; n++)
        for (int h = 0; h < p->h; h++)
            for (int x = 0; x < p->w; x++)
                for (int t = 0; t < 9; t++) {
                    int oh = h - t / 3 + 1, ow = x - t % 3 + 1;
                    if (oh < 0 || oh >= p->h || ow < 0 || ow >= p->w)
                        continue;
                    const float *d = &dy[at(s, kr_pad(cout), n, oh, ow, 0)];
                    for (int o = 0; o < cout; o++)
                        add(&dv[at(s, cin, n, h, x, 0)], (double)d[o], &w[(t * cout + o) * cin],
                            cin);
                }
    free(w);
    return dv;
}

static double *oracle_weight(const struct kr_conv3x3 *p, const float *dy)
{
    struct shape s = {p->n, p->h, p->w};
    int cin = inputs(p), cout = p->cout;
    double *dw = calloc((size_t)cout * (size_t)cin * 9, sizeof *dw);
    double *sum = calloc((size_t)cout * (size_t)cin * 9, sizeof *sum); /* [9][cout][cin] */
    double *v = calloc((size_t)cin, sizeof *v);
    for (int n = 0; n < p->n; n++)
        for (int h = 0; h < p->h; h++)
            for (int x = 0; x < p->w; x++) {
                pixel(v, p, n, h, x);
                for (int t = 0; t < 9; t++) {
                    int oh = h - t / 3 + 1, ow = x - t % 3 + 1;
                    if (oh < 0 || oh >= p->h || ow < 0 || ow >= p->w)
                        continue;
                    const float *d = &dy[at(s, kr_pad(cout), n, oh, ow, 0)];
                    for (int o = 0; o < cout; o++)
                        add(&sum[(t * cout + o) * cin], (double)d[o], v, cin);
                }
            }
    for (int t = 0; t < 9; t++)
        for (int i = 0; i < cout * cin; i++)
            dw[i * 9 + t] = sum[t * cout * cin + i];
    free(v);
    free(sum);
    return dw;
}

/* --- comparing -------------------------------------------------------------------------------- */
static double norm(const double *v, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += v[i] * v[i];
    return sqrt(s / (double)n);
}

/* Whether sums of a map of n values are those of `a` and of `a * b`, within the tolerance. */
static bool row_agrees(const double *sums, int c, const double *a, const double *b, size_t n,
                       double tol)
{
    int cp = kr_pad(c);
    for (int k = 0; k < cp; k++) {
        double s1 = 0, s2 = 0, m1 = 0, m2 = 0;
        for (size_t i = (size_t)k; k < c && i < n; i += (size_t)c) {
            s1 += a[i], m1 += fabs(a[i]);
            s2 += a[i] * b[i], m2 += fabs(a[i] * b[i]);
        }
        if (!(fabs(sums[k] - s1) <= tol * (m1 + 1e-30)) ||
            !(fabs(sums[cp + k] - s2) <= tol * (m2 + 1e-30)))
            return false;
    }
    return true;
}

/* The same for sums in `rows` rows. */
static bool sums_agree(const double *sums, int c, const double *a, const double *b, size_t n,
                       int rows, double tol)
{
    bool agree = true;
    size_t part = n / (size_t)rows;
    for (size_t i = 0; i < (size_t)rows; i++)
        agree = agree && row_agrees(sums + i * 2 * (size_t)kr_pad(c), c, a + i * part, b + i * part,
                                    part, tol);
    return agree;
}

/* What a test case varies. */
struct variant {
    struct shape s;
    int c0, c1, cout; /* c1 == 0: one operand */
    enum kr_algo algo;
    enum kr_dtype in, out;
    bool affine, relu, strided, out_affine, sums, bias, leaky, each;
};

/* Error bounds, relative to the root mean square of the exact result: rounding of a sum of 9 * cin
 * products in float, times what Winograd loses (two to four bits; see conv3x3_winograd.c). */
static double tolerance(const struct variant *v)
{
    return (v->algo == KR_DIRECT ? 1e-5 : 2e-4) * fmax(1, sqrt((v->c0 + v->c1) / 128.0));
}

static void describe(const struct variant *v, char *text, size_t size)
{
    snprintf(text, size, "%s %dx%dx%d %d+%d->%d %s%s%s%s%s%s%s%s%s%s", kr_level(), v->s.n, v->s.h,
             v->s.w, v->c0, v->c1, v->cout,
             v->algo == KR_DIRECT     ? "direct"
             : v->algo == KR_WINOGRAD ? "winograd"
                                      : "auto",
             v->in == KR_BF16 ? " bf16-in" : "", v->out == KR_BF16 ? " bf16-out" : "",
             v->affine ? " affine" : "", v->strided ? " strided" : "", v->relu ? " relu" : "",
             v->out_affine ? " out-affine" : "", v->sums ? " sums" : "", v->leaky ? " leaky" : "",
             v->each ? " each" : "");
}

static struct kr_conv3x3 problem(struct rng *r, const struct variant *v)
{
    int cin = v->c0 + v->c1;
    struct kr_conv3x3 p = {.n = v->s.n,
                           .h = v->s.h,
                           .w = v->s.w,
                           .cout = v->cout,
                           .algo = v->algo,
                           .threads = 1,
                           .nin = v->c1 ? 2 : 1};
    float *w = guarded((size_t)v->cout * (size_t)cin * 9 * 4, 4);
    for (int i = 0; i < v->cout * cin * 9; i++)
        w[i] = (float)(random_value(r) / sqrt(9.0 * cin));
    p.weight = w;
    if (v->bias) {
        float *b = guarded((size_t)v->cout * 4, 4);
        for (int i = 0; i < v->cout; i++)
            b[i] = (float)random_value(r);
        p.bias = b;
    }
    for (int i = 0; i < p.nin; i++) {
        int c = i ? v->c1 : v->c0;
        p.in[i] = (struct kr_in){
            .c = c, .dtype = v->in, .relu = v->relu, .x = random_map(r, v->s, c, v->in)};
        p.in[i].slope = v->leaky ? 0.2f : 0;
        if (v->affine) {
            int samples = v->strided ? v->s.n : 1;
            p.in[i].scale = random_rows(r, samples, c, 1, 0.3f);
            p.in[i].shift = random_rows(r, samples, c, 0.2f, 0.3f);
            p.in[i].stride = v->strided ? (size_t)kr_pad(c) : 0;
        }
    }
    return p;
}

/* `short` on the command line: an emulator runs this, which takes its time. Small cases, and not
 * `plain`, the same source everywhere. */
static bool emulated;

/* The next level and algorithm to try on a case; KR_AUTO, which is one of the others, where
 * cheap. */
static bool next_run(int *step, struct variant *v, struct kr_conv3x3 *p)
{
    static const char *const levels[] = {"plain", "avx2", "avx512", "neon"};
    if (guards_deep > 1) /* what the run before took */
        guards_close();
    while (*step < 12) {
        const char *level = levels[*step / 3];
        v->algo = (enum kr_algo)(*step % 3);
        ++*step;
        setenv("KR_ISA", level, 1);
        if (kr_init() || (v->algo == KR_AUTO && v->c0 > 64) ||
            (emulated && !strcmp(level, "plain")))
            continue;
        p->algo = v->algo;
        guards_open();
        return true;
    }
    return false;
}

static void test_forward(const struct variant *given)
{
    char text[160];
    struct variant changed = *given, *v = &changed;
    struct rng r = rng_seed(7);
    struct kr_conv3x3 p = problem(&r, v);
    int cp = kr_pad(v->cout);
    size_t size = count(v->s, cp), bytes = size * kr_dtype_size(v->out),
           real = count(v->s, v->cout);
    struct kr_out out = {.c = v->cout, .dtype = v->out, .relu = v->out_affine, .each = v->each};
    const size_t rows = sums_count(v->s, v->cout, v->each) * sizeof(double);
    out.slope = v->leaky ? 0.1f : 0;
    if (v->out_affine) {
        out.scale = random_rows(&r, 1, v->cout, 1, 0.3f);
        out.shift = random_rows(&r, 1, v->cout, 0, 0.3f);
    }
    double *want = oracle_forward(&p), scale = norm(want, real);
    for (int step = 0; next_run(&step, v, &p);) {
        double worst = 0;
        void *first = NULL;
        double *first_sums = NULL;
        bool same = true, padding = true, sums_ok = true;
        describe(v, text, sizeof text);
        for (int threads = 1; threads <= 4; threads *= 2) {
            p.threads = threads;
            out.y = guarded(bytes, 64);
            out.sums = v->sums ? guarded(rows, 64) : NULL;
            kr_conv3x3_forward(&p, &out, guarded(kr_conv3x3_forward_workspace(&p), 64));
            if (first) {
                same = same && !memcmp(first, out.y, bytes) &&
                       (!v->sums || !memcmp(first_sums, out.sums, rows));
                continue;
            }
            first = out.y;
            first_sums = out.sums;
            if (v->sums)
                sums_ok = sums_agree(out.sums, v->cout, want, want, real, v->each ? v->s.n : 1,
                                     tolerance(v));
            for (size_t i = 0; i < size; i++) {
                int c = (int)(i % (size_t)cp);
                float y = element(out.y, v->out, i);
                if (c >= v->cout) {
                    padding = padding && y == 0;
                    continue;
                }
                double e = want[i / (size_t)cp * (size_t)v->cout + (size_t)c];
                if (v->out_affine) {
                    e = e * (double)out.scale[c] + (double)out.shift[c];
                    e = e < 0 ? e * (double)out.slope : e;
                }
                double d = fabs((double)y - e) - (v->out == KR_BF16 ? fabs(e) / 256 : 0);
                worst = d > worst || d != d ? d : worst;
            }
        }
        ok(worst <= tolerance(v) * scale && padding && sums_ok && same,
           "forward %s (error %.1e, padding %d, sums %d, threads %d)", text, worst / scale, padding,
           sums_ok, same);
    }
    free(want);
    guards_free();
}

/* A gradient behind a normalisation, and what it becomes in front of it. */
static struct kr_dy gradient(struct rng *r, const struct variant *v, bool behind, float **dy)
{
    size_t cp = (size_t)kr_pad(v->cout), size = count(v->s, (int)cp);
    float *dz = random_map(r, v->s, v->cout, KR_F32);
    *dy = dz;
    if (!behind)
        return (struct kr_dy){.dy = dz};
    size_t rows = v->each ? (size_t)v->s.n : 1, stride = v->each ? 3 * cp : 0;
    float *x = random_map(r, v->s, v->cout, KR_F32);
    float *k = guarded(rows * 3 * cp * sizeof(float), 4);
    *dy = guarded(size * sizeof(float), 64);
    for (size_t i = 0; i < 3 * rows; i++)
        memcpy(k + i * cp, random_rows(r, 1, v->cout, i % 3 == 0, 0.3f), cp * sizeof(float));
    for (size_t i = 0; i < size; i++) {
        const float *row = k + i / (size / (size_t)v->s.n) * stride + i % cp;
        (*dy)[i] = (float)((double)row[0] * (double)dz[i] + (double)row[cp] * (double)x[i] +
                           (double)row[2 * cp]);
    }
    return (struct kr_dy){dz, x, k, stride};
}

/* `both`: with the gradient of the weights, where the kernels do so. */
static void test_data(const struct variant *given, bool accumulate, bool act, bool gain,
                      int skip_part, bool both)
{
    char text[160];
    struct variant changed = *given, *v = &changed;
    struct rng r = rng_seed(8);
    struct kr_conv3x3 p = problem(&r, v);
    p.bias = NULL;
    float *dy;
    struct kr_dy read = gradient(&r, v, both, &dy);
    int cin = v->c0 + v->c1;
    size_t filters = (size_t)v->cout * (size_t)cin * 9;
    double *dv = oracle_data(&p, dy), scale = norm(dv, count(v->s, cin));
    double *dw = both ? oracle_weight(&p, dy) : NULL;
    float *before[2], *gains[2];
    for (int i = 0; i < p.nin; i++) {
        before[i] = random_map(&r, v->s, p.in[i].c, KR_F32);
        gains[i] = random_rows(&r, v->s.n, p.in[i].c, 1, 0.3f);
    }
    for (int step = 0; next_run(&step, v, &p);) {
        double worst = 0, worst_weight = 0, *first_sums[2] = {NULL, NULL};
        float *first[2] = {NULL, NULL}, *first_weight = NULL;
        if (both && !kr_conv3x3_fuses(&p, true))
            continue;
        bool same = true, padding = true, sums_ok = true;
        describe(v, text, sizeof text);
        for (int threads = 1; threads <= 4; threads *= 2) {
            p.threads = threads;
            struct kr_dx dx[2];
            memset(dx, 0, sizeof dx);
            for (int i = 0; i < p.nin; i++) {
                int c = p.in[i].c, cp = kr_pad(c);
                if (i == skip_part)
                    continue;
                dx[i] =
                    (struct kr_dx){.dx = guarded(count(v->s, cp) * 4, 64),
                                   .c = c,
                                   .accumulate = accumulate,
                                   .act = act ? &p.in[i] : NULL,
                                   .gain = gain ? gains[i] : NULL,
                                   .each = v->each,
                                   .sums = v->sums ? doubles(sums_count(v->s, c, v->each)) : NULL};
                if (accumulate)
                    memcpy(dx[i].dx, before[i], count(v->s, cp) * 4);
            }
            float *weight = both ? guarded(filters * 4, 4) : NULL;
            if (both)
                kr_conv3x3_backward(&p, &read, dx, weight,
                                    guarded(kr_conv3x3_backward_workspace(&p), 64));
            else
                kr_conv3x3_backward_data(&p, dy, dx,
                                         guarded(kr_conv3x3_backward_data_workspace(&p), 64));
            if (both && first_weight)
                same = same && !memcmp(first_weight, weight, filters * 4);
            first_weight = weight;
            for (size_t i = 0; both && i < filters; i++) {
                double d = fabs((double)weight[i] - dw[i]);
                worst_weight = d > worst_weight || d != d ? d : worst_weight;
            }
            for (int i = 0, base = 0; i < p.nin; base += p.in[i].c, i++) {
                int c = p.in[i].c, cp = kr_pad(c);
                size_t size = count(v->s, cp), real = count(v->s, c);
                if (i == skip_part)
                    continue;
                if (first[i]) {
                    same = same && !memcmp(first[i], dx[i].dx, size * 4) &&
                           (!v->sums || !memcmp(first_sums[i], dx[i].sums,
                                                sums_count(v->s, c, v->each) * sizeof(double)));
                    continue;
                }
                first[i] = dx[i].dx;
                first_sums[i] = dx[i].sums;
                double *want = calloc(real, sizeof *want), *raw = calloc(real, sizeof *raw);
                for (int n = 0; n < v->s.n; n++)
                    for (int y = 0; y < v->s.h; y++)
                        for (int x = 0; x < v->s.w; x++)
                            for (int k = 0; k < cp; k++) {
                                float have = dx[i].dx[at(v->s, cp, n, y, x, k)];
                                if (k >= c) {
                                    padding = padding && have == 0;
                                    continue;
                                }
                                double e = dv[at(v->s, cin, n, y, x, base + k)];
                                struct kr_in linear = p.in[i];
                                linear.relu = false;
                                if (accumulate)
                                    e += (double)before[i][at(v->s, cp, n, y, x, k)];
                                if (act && p.in[i].relu &&
                                    padded_value(&linear, v->s, n, y, x, k) <= 0)
                                    e *= (double)p.in[i].slope;
                                if (gain)
                                    e *= (double)gains[i][n * cp + k];
                                want[at(v->s, c, n, y, x, k)] = e;
                                raw[at(v->s, c, n, y, x, k)] =
                                    act ? (double)element(p.in[i].x, p.in[i].dtype,
                                                          at(v->s, cp, n, y, x, k))
                                        : 0;
                                double d = fabs((double)have - e);
                                worst = d > worst || d != d ? d : worst;
                            }
                if (v->sums)
                    sums_ok = sums_ok && sums_agree(dx[i].sums, c, want, raw, real,
                                                    v->each ? v->s.n : 1, 4 * tolerance(v));
                free(want);
                free(raw);
            }
        }
        ok(worst <= 4 * tolerance(v) * scale && padding && sums_ok && same &&
               (!both || worst_weight <= 4 * tolerance(v) * norm(dw, filters)),
           "%s %s%s%s%s%s (error %.1e, padding %d, sums %d, threads %d)", both ? "both" : "data",
           text, accumulate ? " accumulate" : "", act ? " act" : "", gain ? " gain" : "",
           skip_part >= 0 ? " skip" : "", worst / scale, padding, sums_ok, same);
    }
    free(dv);
    free(dw);
    guards_free();
}

static void test_weight(const struct variant *given, bool behind)
{
    char text[160];
    struct variant changed = *given, *v = &changed;
    struct rng r = rng_seed(9);
    struct kr_conv3x3 p = problem(&r, v);
    p.bias = NULL;
    float *dy;
    struct kr_dy read = gradient(&r, v, behind, &dy);
    size_t size = (size_t)v->cout * (size_t)(v->c0 + v->c1) * 9;
    double *want = oracle_weight(&p, dy), scale = norm(want, size);
    for (int step = 0; next_run(&step, v, &p);) {
        double worst = 0;
        float *first = NULL;
        bool same = true;
        describe(v, text, sizeof text);
        for (int threads = 1; threads <= 4; threads *= 2) {
            p.threads = threads;
            float *dw = guarded(size * 4, 4);
            kr_conv3x3_backward_weight(&p, &read, dw,
                                       guarded(kr_conv3x3_backward_weight_workspace(&p), 64));
            if (first) {
                same = same && !memcmp(first, dw, size * 4);
                continue;
            }
            first = dw;
            for (size_t i = 0; i < size; i++) {
                double d = fabs((double)dw[i] - want[i]);
                worst = d > worst || d != d ? d : worst;
            }
        }
        ok(worst <= 4 * tolerance(v) * scale && same, "weight %s%s (error %.1e, threads %d)", text,
           behind ? " behind" : "", worst / scale, same);
    }
    free(want);
    guards_free();
}

/* An image read as planes gives what its map gives. */
static void test_planar(struct shape s, int c, int cout)
{
    struct variant v = {.s = s, .c0 = c, .cout = cout};
    struct rng r = rng_seed(10);
    struct kr_conv3x3 map = problem(&r, &v);
    const float *dy = random_map(&r, s, cout, KR_F32);
    size_t bytes = count(s, kr_pad(cout)) * 4, filters = (size_t)(cout * c) * 9 * 4;
    for (int step = 0; next_run(&step, &v, &map);) {
        void *y[2], *dw[2];
        struct kr_conv3x3 p = map;
        ok(kr_conv3x3_planar(&p) == (v.algo == KR_DIRECT || (v.algo == KR_AUTO && c < 16)),
           "%s %d channels, algorithm %d: whether it reads planes", kr_level(), c, v.algo);
        if (!kr_conv3x3_planar(&p))
            continue;
        for (int i = 0; i < 2; i++) {
            struct kr_out out = {.y = y[i] = guarded(bytes, 64), .c = cout};
            p.in[0] = i ? planar_in(&map.in[0], s) : map.in[0];
            p.threads = 1 + i;
            kr_conv3x3_forward(&p, &out, guarded(kr_conv3x3_forward_workspace(&p), 64));
            dw[i] = guarded(filters, 4);
            kr_conv3x3_backward_weight(&p, &(struct kr_dy){.dy = dy}, dw[i],
                                       guarded(kr_conv3x3_backward_weight_workspace(&p), 64));
        }
        ok(!memcmp(y[0], y[1], bytes) && !memcmp(dw[0], dw[1], filters),
           "%s %dx%dx%d, %d channels as planes: the same bytes", kr_level(), s.n, s.h, s.w, c);
    }
    guards_free();
}

int main(int argc, char **argv)
{
    static const struct variant cases[] = {
        {.s = {1, 8, 8}, .c0 = 16, .cout = 16},
        {.s = {1, 12, 12}, .c0 = 64, .cout = 64, .affine = true, .relu = true, .sums = true},
        {.s = {2, 7, 9},
         .c0 = 16,
         .cout = 32,
         .affine = true,
         .relu = true,
         .strided = true,
         .sums = true},
        {.s = {1, 1, 1}, .c0 = 16, .cout = 16, .bias = true},
        {.s = {3, 2, 5}, .c0 = 32, .cout = 48, .bias = true, .out_affine = true, .sums = true},
        {.s = {1, 16, 12}, .c0 = 4, .cout = 64, .sums = true},
        {.s = {2, 5, 50}, .c0 = 4, .cout = 16, .bias = true},
        {.s = {1, 9, 6}, .c0 = 8, .cout = 8, .affine = true, .relu = true, .sums = true},
        {.s = {1, 6, 6},
         .c0 = 3,
         .c1 = 5,
         .cout = 7,
         .affine = true,
         .relu = true,
         .sums = true,
         .bias = true},
        {.s = {2, 10, 11},
         .c0 = 32,
         .c1 = 16,
         .cout = 16,
         .affine = true,
         .relu = true,
         .strided = true},
        {.s = {1, 15, 15},
         .c0 = 64,
         .c1 = 64,
         .cout = 128,
         .affine = true,
         .relu = true,
         .sums = true},
        {.s = {2, 15, 13}, .c0 = 20, .c1 = 90, .cout = 70, .relu = true, .sums = true},
        {.s = {1, 14, 10}, .c0 = 80, .cout = 144, .affine = true, .relu = true},
        {.s = {1, 8, 12},
         .c0 = 64,
         .cout = 64,
         .in = KR_BF16,
         .affine = true,
         .relu = true,
         .sums = true},
        {.s = {1, 8, 12},
         .c0 = 16,
         .c1 = 16,
         .cout = 32,
         .in = KR_BF16,
         .out = KR_BF16,
         .bias = true},
        {.s = {2, 9, 9}, .c0 = 48, .cout = 80, .out = KR_BF16, .out_affine = true, .relu = true},
        /* Filters beyond what stays in cache transformed. */
        {.s = {2, 5, 6},
         .c0 = 300,
         .c1 = 64,
         .cout = 250,
         .affine = true,
         .relu = true,
         .sums = true},
        {.s = {1, 9, 6}, .c0 = 272, .cout = 336, .affine = true, .strided = true, .bias = true},
        /* More tiles than are staged at once. */
        {.s = {2, 4, 28}, .c0 = 4000, .c1 = 600, .cout = 16, .affine = true, .sums = true},
        {.s = {2, 33, 34}, .c0 = 16, .cout = 16, .affine = true, .relu = true, .sums = true},
        {.s = {2, 21, 50}, .c0 = 30, .c1 = 24, .cout = 30, .affine = true, .relu = true},
        {.s = {1, 26, 41}, .c0 = 16, .cout = 32, .in = KR_BF16, .affine = true, .sums = true},
        /* Many large tiles. */
        {.s = {2, 36, 37},
         .c0 = 64,
         .cout = 64,
         .affine = true,
         .relu = true,
         .strided = true,
         .sums = true},
        {.s = {1, 36, 42},
         .c0 = 40,
         .c1 = 24,
         .cout = 64,
         .in = KR_BF16,
         .out = KR_BF16,
         .bias = true},
        /* A leaky activation, sums of each sample: cells of tiles that fill blocks and do not, one
         * sample in a block and many, panels, few channels. */
        {.s = {3, 21, 26},
         .c0 = 32,
         .cout = 32,
         .affine = true,
         .relu = true,
         .leaky = true,
         .strided = true,
         .sums = true,
         .each = true},
        {.s = {2, 36, 37},
         .c0 = 64,
         .cout = 64,
         .affine = true,
         .relu = true,
         .leaky = true,
         .strided = true,
         .sums = true,
         .each = true},
        {.s = {5, 6, 5},
         .c0 = 48,
         .c1 = 32,
         .cout = 80,
         .affine = true,
         .relu = true,
         .leaky = true,
         .strided = true,
         .sums = true,
         .each = true,
         .out_affine = true},
        {.s = {3, 9, 7},
         .c0 = 300,
         .cout = 250,
         .relu = true,
         .leaky = true,
         .sums = true,
         .each = true},
        {.s = {3, 10, 9},
         .c0 = 16,
         .c1 = 16,
         .cout = 32,
         .in = KR_BF16,
         .out = KR_BF16,
         .affine = true,
         .relu = true,
         .leaky = true,
         .out_affine = true,
         .sums = true,
         .each = true},
        {.s = {2, 13, 9},
         .c0 = 4,
         .cout = 20,
         .affine = true,
         .relu = true,
         .leaky = true,
         .sums = true,
         .each = true,
         .out_affine = true},
        /* More of them than are transformed before the products of the weights' gradient. */
        {.s = {1, 100, 98}, .c0 = 70, .cout = 20, .affine = true, .relu = true},
    };
    emulated = argc > 1 && !strcmp(argv[1], "short");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct variant *v = &cases[i];
        if (emulated && (v->c0 + v->c1) * v->cout * v->s.n * v->s.h * v->s.w > 700000)
            continue;
        test_forward(v);
        test_data(v, i % 2, true, i % 3 == 1, v->c1 && i % 2 ? (int)(i / 2 % 2) : -1, false);
        test_data(v, false, i % 2, false, -1, false);
        test_data(v, i % 2, true, i % 3 == 1, v->c1 && i % 2 ? (int)(i / 2 % 2) : -1, true);
        test_data(v, false, i % 2, false, -1, true);
        test_weight(v, false);
        test_weight(v, true);
    }
    test_planar((struct shape){2, 5, 37}, 4, 16);
    test_planar((struct shape){1, 9, 16}, 4, 20);
    test_planar((struct shape){3, 4, 21}, 3, 7);
    test_planar((struct shape){1, 1, 1}, 1, 16);
    test_planar((struct shape){2, 6, 18}, 16, 16);
    return done_testing();
}
