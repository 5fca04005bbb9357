/* 1x1 and transposed 2x2 convolutions, all passes, against sums written out in double. */
#include "tests/lib/maps.h"

struct variant {
    struct shape s;
    int c0, c1, cout; /* c1: a second part, or 0 */
    int how;
    bool bias, sums, each, accumulate, act, gain, bf16_out, relu_out;
};

static struct shape twice(struct shape s)
{
    return (struct shape){s.n, 2 * s.h, 2 * s.w};
}

/* One problem; phases: 1 for the 1x1, 4 for the transposed convolution. */
struct problem {
    const struct variant *v;
    int phases, cin, threads;
    struct kr_in in[2];
    float *weight, *bias;
};

static struct problem make(struct rng *r, const struct variant *v, int phases)
{
    struct problem p = {.v = v, .phases = phases, .cin = v->c0 + v->c1};
    p.in[0] = random_in(r, v->s, v->c0, v->how);
    if (v->c1)
        p.in[1] = random_in(r, v->s, v->c1, v->how ^ RELU);
    p.weight = random_floats(r, (size_t)(p.cin * v->cout * phases), 0, 1 / sqrt(p.cin));
    p.bias = v->bias ? random_floats(r, (size_t)v->cout, 0, 1) : NULL;
    return p;
}

static double input(const struct problem *p, size_t pixel, int i)
{
    return i < p->v->c0 ? value(&p->in[0], p->v->s, pixel, i)
                        : value(&p->in[1], p->v->s, pixel, i - p->v->c0);
}

static size_t weight_at(const struct problem *p, int i, int o, int q)
{
    return p->phases == 1 ? (size_t)(o * p->cin + i) : (size_t)((i * p->v->cout + o) * 4 + q);
}

/* The output pixel of input pixel `pixel` and phase q. */
static size_t output_at(const struct problem *p, size_t pixel, int q)
{
    size_t w = (size_t)p->v->s.w, row = pixel / w, x = pixel % w;
    if (p->phases == 1)
        return pixel;
    return (2 * row + (size_t)(q / 2)) * 2 * w + 2 * x + (size_t)(q % 2);
}

static struct kr_conv1x1 conv(const struct problem *p)
{
    const struct variant *v = p->v;
    return (struct kr_conv1x1){v->s.n,    v->s.h,  v->s.w,        v->cout,
                               p->weight, p->bias, v->c1 ? 2 : 1, {p->in[0], p->in[1]},
                               p->threads};
}

static struct kr_upconv upconv(const struct problem *p)
{
    const struct variant *v = p->v;
    return (struct kr_upconv){v->s.n,  v->s.h,   v->s.w,     v->cout, p->weight,
                              p->bias, p->in[0], p->threads, 0,       {0}};
}

static void *workspace(const struct problem *p)
{
    const struct kr_conv1x1 a = conv(p);
    const struct kr_upconv b = upconv(p);
    return guarded(p->phases == 1 ? kr_conv1x1_workspace(&a) : kr_upconv_workspace(&b), 64);
}

static void describe(const struct problem *p, char *text, size_t size)
{
    const struct variant *v = p->v;
    snprintf(text, size, "%s: %s %dx%dx%d, %d+%d to %d, how %d", kr_level(),
             p->phases == 1 ? "1x1" : "up", v->s.n, v->s.h, v->s.w, v->c0, v->c1, v->cout, v->how);
}

static void test_forward(struct rng *r, const struct variant *v, int phases)
{
    struct problem p = make(r, v, phases);
    const struct shape so = phases == 1 ? v->s : twice(v->s);
    const size_t n = pixels_of(so) * (size_t)v->cout;
    const float *scale = random_rows(r, 1, v->cout, 1, 0.2);
    const float *shift = random_rows(r, 1, v->cout, 0, 0.2);
    double *want = doubles(n);
    struct kr_out out = {.c = v->cout, .dtype = v->bf16_out ? KR_BF16 : KR_F32};
    const size_t bytes = elements(so, v->cout) * kr_dtype_size(out.dtype);
    const void *first = NULL;
    const double *first_sums = NULL;
    bool same = true;
    double error = 0;
    for (size_t i = 0; i < pixels_of(v->s); i++)
        for (int q = 0; q < phases; q++)
            for (int o = 0; o < v->cout; o++) {
                double s = p.bias ? (double)p.bias[o] : 0;
                for (int c = 0; c < p.cin; c++)
                    s += input(&p, i, c) * (double)p.weight[weight_at(&p, c, o, q)];
                want[output_at(&p, i, q) * (size_t)v->cout + (size_t)o] = s;
            }
    for (p.threads = 1; p.threads <= 4; p.threads *= 2) {
        const struct kr_conv1x1 a = conv(&p);
        const struct kr_upconv b = upconv(&p);
        out.y = empty_map(so, v->cout, out.dtype);
        out.sums = v->sums ? doubles(sums_count(v->s, v->cout, v->each)) : NULL;
        out.each = v->each;
        out.relu = v->relu_out;
        out.slope = v->how & LEAKY ? 0.1f : 0;
        if (v->relu_out) {
            out.scale = scale;
            out.shift = shift;
        }
        if (phases == 1)
            kr_conv1x1_forward(&a, &out, workspace(&p));
        else
            kr_upconv_forward(&b, &out, workspace(&p));
        if (!first) {
            first = out.y;
            first_sums = out.sums;
            error = out_error(&out, so, want);
        }
        same = same && !memcmp(first, out.y, bytes) &&
               (!out.sums ||
                !memcmp(first_sums, out.sums, sums_count(v->s, v->cout, v->each) * sizeof(double)));
    }
    char text[160];
    describe(&p, text, sizeof text);
    ok(error < (v->bf16_out ? 3e-2 : 1e-5), "%s: forward (error %.1e)", text, error);
    ok(same, "%s: forward the same bytes for 1, 2 and 4 threads", text);
    guards_free();
}

static void test_backward(struct rng *r, const struct variant *v, int phases)
{
    struct problem p = make(r, v, phases);
    const struct shape so = phases == 1 ? v->s : twice(v->s);
    const int parts = v->c1 ? 2 : 1;
    const size_t weights = (size_t)(p.cin * v->cout * phases);
    const float *dy = random_map(r, so, v->cout, KR_F32);
    double *dv[2] = {NULL, NULL}, *dw = doubles(weights), *db = doubles((size_t)v->cout);
    const float *old[2] = {NULL, NULL}, *gain[2] = {NULL, NULL};
    memset(dw, 0, weights * sizeof *dw);
    memset(db, 0, (size_t)v->cout * sizeof *db);
    for (int k = 0; k < parts; k++) {
        int c = p.in[k].c;
        dv[k] = doubles(pixels_of(v->s) * (size_t)c);
        memset(dv[k], 0, pixels_of(v->s) * (size_t)c * sizeof *dv[k]);
        old[k] = random_map(r, v->s, c, KR_F32);
        gain[k] = random_rows(r, v->s.n, c, 1, 0.3);
    }
    for (size_t i = 0; i < pixels_of(v->s); i++)
        for (int q = 0; q < phases; q++)
            for (int o = 0; o < v->cout; o++) {
                double g = get(dy, KR_F32, v->cout, output_at(&p, i, q), o);
                db[o] += g;
                for (int c = 0; c < p.cin; c++) {
                    int k = c >= v->c0, part = k ? c - v->c0 : c;
                    dv[k][i * (size_t)p.in[k].c + (size_t)part] +=
                        g * (double)p.weight[weight_at(&p, c, o, q)];
                    dw[weight_at(&p, c, o, q)] += g * input(&p, i, c);
                }
            }
    struct kr_dx dx[2], first[2] = {{0}, {0}};
    float *w = NULL, *first_w = NULL, *b = NULL, *first_b = NULL;
    bool same = true;
    double error = 0;
    for (p.threads = 1; p.threads <= 4; p.threads *= 2) {
        const struct kr_conv1x1 a = conv(&p);
        const struct kr_upconv u = upconv(&p);
        for (int k = 0; k < parts; k++) {
            int c = p.in[k].c;
            dx[k] = (struct kr_dx){.dx = empty_map(v->s, c, KR_F32),
                                   .c = c,
                                   .accumulate = v->accumulate,
                                   .act = v->act ? &p.in[k] : NULL,
                                   .gain = v->gain ? gain[k] : NULL,
                                   .each = v->each,
                                   .sums = v->sums ? doubles(sums_count(v->s, c, v->each)) : NULL};
            if (v->accumulate)
                memcpy(dx[k].dx, old[k], elements(v->s, c) * sizeof(float));
        }
        w = floats(weights);
        b = floats((size_t)v->cout);
        if (phases == 1) {
            kr_conv1x1_backward_data(&a, dy, dx, workspace(&p));
            kr_conv1x1_backward_weight(&a, dy, w, b, workspace(&p));
        } else {
            kr_upconv_backward_data(&u, dy, dx, workspace(&p));
            kr_upconv_backward_weight(&u, dy, w, b, workspace(&p));
        }
        for (int k = 0; k < parts; k++) {
            size_t sums = sums_count(v->s, p.in[k].c, v->each);
            if (!first[k].dx) {
                first[k] = dx[k];
                error = fmax(error, dx_error(&dx[k], v->s, old[k], dv[k]));
            }
            same = same && !memcmp(first[k].dx, dx[k].dx, elements(v->s, dx[k].c) * 4) &&
                   (!v->sums || !memcmp(first[k].sums, dx[k].sums, sums * sizeof(double)));
        }
        first_w = first_w ? first_w : w;
        first_b = first_b ? first_b : b;
        same = same && !memcmp(first_w, w, weights * 4) && !memcmp(first_b, b, (size_t)v->cout * 4);
    }
    char text[160];
    const double ew = floats_error(w, dw, weights);
    const double eb = floats_error(b, db, (size_t)v->cout);
    describe(&p, text, sizeof text);
    ok(error < 1e-5, "%s: backward to data (error %.1e)", text, error);
    ok(ew < 2e-5, "%s: backward to weights (error %.1e)", text, ew);
    ok(eb < 2e-5, "%s: backward to the bias (error %.1e)", text, eb);
    ok(same, "%s: backward the same bytes for 1, 2 and 4 threads", text);
    guards_free();
}

/* An image read as planes gives what its map gives. */
static void test_planar(void)
{
    static const struct variant v = {.s = {3, 7, 19}, .c0 = 4, .cout = 20, .bias = true};
    struct rng r = rng_seed(4);
    struct problem p = make(&r, &v, 1);
    const float *dy = random_map(&r, v.s, v.cout, KR_F32);
    const size_t bytes = elements(v.s, v.cout) * 4, weights = (size_t)(v.c0 * v.cout);
    const struct kr_in map = p.in[0], image = planar_in(&map, v.s);
    void *y[2];
    float *dw[2], *db[2];
    for (int i = 0; i < 2; i++) {
        struct kr_out out = {.y = y[i] = empty_map(v.s, v.cout, KR_F32), .c = v.cout};
        p.threads = 1 + i;
        p.in[0] = i ? image : map;
        const struct kr_conv1x1 a = conv(&p);
        kr_conv1x1_forward(&a, &out, workspace(&p));
        dw[i] = floats(weights);
        db[i] = floats((size_t)v.cout);
        kr_conv1x1_backward_weight(&a, dy, dw[i], db[i], workspace(&p));
    }
    ok(!memcmp(y[0], y[1], bytes) && !memcmp(dw[0], dw[1], weights * 4) &&
           !memcmp(db[0], db[1], (size_t)v.cout * 4),
       "%s: an image as planes, the same bytes", kr_level());
    guards_free();
}

/* A part without dx is left out; dx == NULL for both would be nothing to do. */
static void test_skipped(void)
{
    static const struct variant v = {.s = {1, 5, 7}, .c0 = 20, .c1 = 40, .cout = 12, .how = AFFINE};
    struct rng r = rng_seed(3);
    struct problem p = make(&r, &v, 1);
    p.threads = 2;
    const float *dy = random_map(&r, v.s, v.cout, KR_F32);
    const struct kr_conv1x1 a = conv(&p);
    struct kr_dx both[2] = {{.dx = empty_map(v.s, 20, KR_F32), .c = 20},
                            {.dx = empty_map(v.s, 40, KR_F32), .c = 40}};
    struct kr_dx one[2] = {{.c = 20}, {.dx = empty_map(v.s, 40, KR_F32), .c = 40}};
    kr_conv1x1_backward_data(&a, dy, both, workspace(&p));
    kr_conv1x1_backward_data(&a, dy, one, workspace(&p));
    ok(!memcmp(both[1].dx, one[1].dx, elements(v.s, 40) * 4), "%s: a part may be skipped",
       kr_level());
    guards_free();
}

static void all(void)
{
    static const struct variant variants[] = {
        {.s = {1, 6, 5}, .c0 = 16, .cout = 16},
        {.s = {2, 7, 9}, .c0 = 8, .cout = 4, .how = AFFINE | RELU, .bias = true, .act = true},
        {.s = {3, 5, 3},
         .c0 = 40,
         .cout = 24,
         .how = STRIDED | RELU,
         .sums = true,
         .act = true,
         .gain = true},
        {.s = {1, 15, 15}, .c0 = 130, .cout = 70, .how = RELU, .sums = true, .bias = true},
        {.s = {1, 1, 1}, .c0 = 1, .cout = 1, .bias = true},
        {.s = {2, 20, 24},
         .c0 = 64,
         .cout = 64,
         .how = AFFINE | RELU | BF16,
         .sums = true,
         .act = true,
         .accumulate = true},
        {.s = {1, 12, 13},
         .c0 = 48,
         .cout = 100,
         .how = AFFINE,
         .bf16_out = true,
         .relu_out = true,
         .accumulate = true},
        {.s = {2, 33, 10},
         .c0 = 20,
         .cout = 16,
         .how = AFFINE | RELU,
         .sums = true,
         .relu_out = true,
         .act = true,
         .gain = true,
         .accumulate = true},
        {.s = {1, 3, 4}, .c0 = 600, .cout = 200, .sums = true},
        {.s = {7, 5, 6},
         .c0 = 40,
         .cout = 24,
         .how = STRIDED | LEAKY,
         .sums = true,
         .each = true,
         .relu_out = true,
         .act = true,
         .bias = true},
        {.s = {3, 11, 10},
         .c0 = 130,
         .cout = 70,
         .how = STRIDED | LEAKY,
         .sums = true,
         .each = true,
         .act = true,
         .accumulate = true},
        {.s = {3, 20, 19},
         .c0 = 16,
         .cout = 20,
         .how = AFFINE | LEAKY | BF16,
         .bf16_out = true,
         .relu_out = true,
         .sums = true,
         .each = true,
         .act = true},
    };
    static const struct variant pairs[] = {
        {.s = {2, 9, 7}, .c0 = 8, .c1 = 24, .cout = 12, .how = AFFINE | RELU, .sums = true},
        {.s = {2, 10, 11},
         .c0 = 64,
         .c1 = 20,
         .cout = 64,
         .how = STRIDED | RELU,
         .act = true,
         .gain = true,
         .sums = true,
         .accumulate = true},
        {.s = {4, 6, 7},
         .c0 = 24,
         .c1 = 40,
         .cout = 36,
         .how = STRIDED | LEAKY,
         .act = true,
         .sums = true,
         .each = true},
        {.s = {1, 16, 8}, .c0 = 3, .c1 = 16, .cout = 33, .how = BF16 | AFFINE, .act = true},
    };
    struct rng r = rng_seed(1);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++)
        for (int phases = 1; phases <= 4; phases += 3) {
            test_forward(&r, &variants[i], phases);
            test_backward(&r, &variants[i], phases);
        }
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        test_forward(&r, &pairs[i], 1);
        test_backward(&r, &pairs[i], 1);
    }
    test_skipped();
    test_planar();
}

int main(void)
{
    each_level(all);
    return done_testing();
}
