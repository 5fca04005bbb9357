/* pointwise - time and rate of every kernel that is not a 3x3 convolution, at the shapes of the
 * 64..1024 network (one 240x240 slice, and four) and of the 16..256 network (eight of 160x192).
 *
 *     pointwise [-j THREADS] [WORD]       only lines that hold WORD
 *
 * Tab-separated: level, name, milliseconds (best of several), GFLOP/s of products, GB/s of what
 * must be read and written at least. The first line is a copy of 256 MiB: the memory's own speed.
 * Beside each transposed convolution stand OpenBLAS's products of the same size, of whole operands
 * in memory, without bias, activation, sums and the order of the pixels: what it could at most
 * give. */
#include "lib/kernels/kernels.h"
#include "lib/kernels/pointwise.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int threads = 2;
static const char *word = "";

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) {
        fprintf(stderr, "pointwise: no memory\n");
        exit(1);
    }
    memset(p, 0, bytes);
    return p;
}

static float *map(struct kr_dims d, int c)
{
    size_t n = (size_t)d.n * (size_t)d.h * (size_t)d.w * (size_t)kr_pad(c);
    float *p = memory(n * sizeof *p);
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = (float)(int32_t)x * 0x1p-31f;
    }
    return p;
}

static float *row(int c, float v)
{
    float *p = memory((size_t)kr_pad(c) * sizeof *p);
    for (int i = 0; i < c; i++)
        p[i] = v;
    return p;
}

/* Runs CALL until half a second has passed, at least three times; prints the line. */
#define TIME(flops, bytes, call, ...)                                                              \
    do {                                                                                           \
        char name[120];                                                                            \
        snprintf(name, sizeof name, __VA_ARGS__);                                                  \
        if (!strstr(name, word))                                                                   \
            break;                                                                                 \
        double best = 1e9, start = now();                                                          \
        for (int run = 0; run < 3 || now() - start < 0.25; run++) {                                \
            double t = now();                                                                      \
            call;                                                                                  \
            t = now() - t;                                                                         \
            best = t < best ? t : best;                                                            \
        }                                                                                          \
        printf("%s\t%-28s\t%.3f\t%.0f\t%.1f\n", kr_level(), name, best * 1e3,                      \
               (double)(flops) / best * 1e-9, (double)(bytes) / best * 1e-9);                      \
        fflush(stdout);                                                                            \
    } while (0)

static double count(struct kr_dims d, int c)
{
    return (double)d.n * d.h * d.w * kr_pad(c);
}

static void (*sgemm)(int order, int transa, int transb, int m, int n, int k, float alpha,
                     const float *a, int lda, const float *b, int ldb, float beta, float *c,
                     int ldc);

/* Single-threaded, since each of our threads calls it for a part of its own. Left alone 0.3.21
 * takes kernels for AVX2 on processors that it does not know; it looks at the variable when it is
 * loaded. */
static void blas_open(void)
{
    char *(*config)(void);
    void (*set_threads)(int);
    setenv("OPENBLAS_CORETYPE", strcmp(kr_level(), "avx512") ? "Haswell" : "SkylakeX", 1);
    void *lib = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!lib || !(*(void **)&sgemm = dlsym(lib, "cblas_sgemm")) ||
        !(*(void **)&set_threads = dlsym(lib, "openblas_set_num_threads")) ||
        !(*(void **)&config = dlsym(lib, "openblas_get_config"))) {
        printf("# OpenBLAS is missing\n");
        sgemm = NULL;
        return;
    }
    set_threads(1);
    printf("# %s\n", config());
}

/* c (m,n) = a b, or with `across` a^T b, or with `back` a b^T, rows of c between the threads. */
static void blas_product(int m, int n, int k, const float *a, bool across, const float *b,
                         bool back, float *c)
{
    enum { ROWS = 101, PLAIN = 111, TURNED = 112 };
#pragma omp parallel for num_threads(threads)
    for (int t = 0; t < threads; t++) {
        int from = (int)((long)m * t / threads), rows = (int)((long)m * (t + 1) / threads) - from;
        sgemm(ROWS, across ? TURNED : PLAIN, back ? TURNED : PLAIN, rows, n, k, 1,
              across ? a + from : a + (size_t)from * (size_t)k, across ? m : k, b, back ? k : n, 0,
              c + (size_t)from * (size_t)n, n);
    }
}

static void blas(struct kr_dims d, int cin, int cout, const float *x, const float *w, float *y,
                 float *dx, float *dw)
{
    int p = d.n * d.h * d.w, o = 4 * cout;
    double flops = 2.0 * p * cin * o, bytes = 4.0 * ((double)p * (cin + o) + (double)cin * o);
    if (!sgemm)
        return;
    TIME(flops, bytes, blas_product(p, o, cin, x, false, w, false, y),
         "openblas-forward %d-%d@%dx%d", cin, cout, d.h, d.n);
    TIME(flops, bytes, blas_product(p, cin, o, y, false, w, true, dx), "openblas-data %d-%d@%dx%d",
         cin, cout, d.h, d.n);
    TIME(flops, bytes, blas_product(cin, o, p, x, true, y, false, dw),
         "openblas-weight %d-%d@%dx%d", cin, cout, d.h, d.n);
}

static void products(struct kr_dims d, int cin, int cout, bool up)
{
    struct kr_dims o = up ? (struct kr_dims){d.n, 2 * d.h, 2 * d.w, d.threads} : d;
    int phases = up ? 4 : 1;
    struct kr_in in = {
        .x = map(d, cin), .c = cin, .scale = row(cin, 1), .shift = row(cin, 0), .relu = true};
    float *w = map((struct kr_dims){1, 1, cin * phases, 1}, cout),
          *dw = map((struct kr_dims){1, 1, cin * phases, 1}, cout);
    float *b = row(cout, 0), *y = map(o, cout), *dx = map(d, cin);
    double *sums = memory(4 * (size_t)kr_pad(cin > cout ? cin : cout) * sizeof *sums);
    struct kr_out out = {.y = y, .c = cout, .sums = sums};
    struct kr_dx g[2] = {{.dx = dx, .c = cin, .act = &in, .sums = sums}};
    struct kr_conv1x1 a = {d.n, d.h, d.w, cout, w, b, 1, {in}, threads};
    struct kr_upconv u = {d.n, d.h, d.w, cout, w, b, in, threads, 0, {0}};
    void *ws = memory(up ? kr_upconv_workspace(&u) : kr_conv1x1_workspace(&a));
    double flops = 2.0 * d.n * d.h * d.w * cin * cout * phases;
    double bytes = 4 * (count(d, cin) + count(o, cout)), back = bytes + 4 * count(d, cin);
    const char *what = up ? "up" : "1x1";
    if (up) {
        TIME(flops, bytes, kr_upconv_forward(&u, &out, ws), "%s-forward %d-%d@%dx%d", what, cin,
             cout, d.h, d.n);
        TIME(flops, back, kr_upconv_backward_data(&u, y, g, ws), "%s-data %d-%d@%dx%d", what, cin,
             cout, d.h, d.n);
        TIME(flops, bytes, kr_upconv_backward_weight(&u, y, dw, b, ws), "%s-weight %d-%d@%dx%d",
             what, cin, cout, d.h, d.n);
        blas(d, cin, cout, in.x, w, y, dx, dw);
    } else {
        TIME(flops, bytes, kr_conv1x1_forward(&a, &out, ws), "%s-forward %d-%d@%dx%d", what, cin,
             cout, d.h, d.n);
        TIME(flops, back, kr_conv1x1_backward_data(&a, y, g, ws), "%s-data %d-%d@%dx%d", what, cin,
             cout, d.h, d.n);
        TIME(flops, bytes, kr_conv1x1_backward_weight(&a, y, dw, b, ws), "%s-weight %d-%d@%dx%d",
             what, cin, cout, d.h, d.n);
    }
    free((void *)in.x);
    free((void *)in.scale);
    free((void *)in.shift);
    free(w);
    free(dw);
    free(b);
    free(y);
    free(dx);
    free(sums);
    free(ws);
}

static void elementwise(struct kr_dims d, int c)
{
    struct kr_dims half = {d.n, d.h / 2, d.w / 2, d.threads};
    struct kr_in a = {.x = map(d, c), .c = c, .scale = row(c, 1), .shift = row(c, 0), .relu = true};
    struct kr_in b = {.x = map(d, c), .c = c, .scale = row(c, 1), .shift = row(c, 0)};
    float *y = map(d, c), *small = map(half, c), *k = memory(3 * (size_t)kr_pad(c) * sizeof *k);
    void *ws = memory(kr_pointwise_workspace(&d, c)), *narrow = memory((size_t)count(d, c) * 2);
    double *sums = memory(4 * (size_t)kr_pad(c) * sizeof *sums), m = 4 * count(d, c);
    struct kr_out out = {.y = y, .c = c}, out16 = {.y = narrow, .c = c, .dtype = KR_BF16};
    struct kr_out outs = {.y = small, .c = c};
    struct kr_dx dx = {.dx = y, .c = c, .act = &a, .sums = sums};
    struct kr_dx more = {.dx = y, .c = c, .accumulate = true, .act = &a, .sums = sums};
    TIME(0, 3 * m, kr_bn_apply(&d, c, y, a.x, KR_F32, k, 0, y), "bn-apply %d@%dx%d", c, d.h, d.n);
    TIME(0, 2 * m, kr_add(&d, 1, &a, &out, NULL), "copy %d@%dx%d", c, d.h, d.n);
    TIME(0, 1.5 * m, kr_add(&d, 1, &a, &out16, NULL), "narrow %d@%dx%d", c, d.h, d.n);
    struct kr_in pair[2] = {a, b};
    TIME(0, 3 * m, kr_add(&d, 2, pair, &out, NULL), "add %d@%dx%d", c, d.h, d.n);
    TIME(0, 3 * m, kr_add_backward(&d, b.x, 1, &dx, ws), "add-backward %d@%dx%d", c, d.h, d.n);
    const struct kr_pool pool = {d.n, 1, d.h, d.w, {1, 2, 2}, false, d.threads};
    TIME(0, 1.25 * m, kr_pool_forward(&pool, &a, &outs, NULL), "pool %d@%dx%d", c, d.h, d.n);
    TIME(0, 3.25 * m, kr_pool_backward(&pool, &a, small, &more, ws), "pool-backward %d@%dx%d", c,
         d.h, d.n);
    struct kr_gate g = {a, b, row(c, 1), a, row(1, 1), row(1, 0), 0, false};
    float *score = map(d, 1), *dscore = map(d, 1);
    TIME(0, 2 * m, kr_gate_score(&d, &g, score, sums, ws), "gate-score %d@%dx%d", c, d.h, d.n);
    TIME(0, 2 * m, kr_gate_apply(&d, &g, score, &out, NULL), "gate-apply %d@%dx%d", c, d.h, d.n);
    TIME(0, 3 * m, kr_gate_apply_backward(&d, &g, score, b.x, &dx, dscore, sums, ws),
         "gate-apply-backward %d@%dx%d", c, d.h, d.n);
    free((void *)a.x);
    free((void *)b.x);
    free(y);
    free(small);
    free(k);
    free(ws);
    free(narrow);
    free(sums);
    free(score);
    free(dscore);
}

static void losses(struct kr_dims d)
{
    size_t n = (size_t)d.n * (size_t)d.h * (size_t)d.w;
    float *logits = memory(4 * n * sizeof *logits), *x = map(d, 16), *grad = map(d, 16);
    float weight[4 * 16] = {0.1f}, bias[4] = {0}, dw[4 * 16], db[4];
    uint8_t *label = memory(n);
    struct kr_loss_sums sums;
    const struct kr_planes p = {d.n, 1, d.h, d.w, 4, d.threads};
    const struct kr_loss loss = {.logits = logits, .label = label, .eps = 1e-5, .wdice = 1};
    void *ws = memory(kr_head_workspace(&p, 16));
    const struct kr_in in = {.x = x, .c = 16};
    const struct kr_dx dx = {.dx = grad, .c = 16};
    for (size_t i = 0; i < n; i++)
        label[i] = i / 3 % 4;
    double m = 16 * (double)n, wide = 4 * count(d, 16);
    TIME(0, m + wide, kr_head_forward(&p, &in, weight, bias, logits, ws), "head %dx%d", d.h, d.n);
    TIME(0, m + (double)n, kr_loss_sums(&p, &loss, &sums, ws), "loss-sums %dx%d", d.h, d.n);
    TIME(0, m + 2 * wide, kr_head_backward(&p, &loss, &sums, &in, weight, &dx, dw, db, ws),
         "head-backward %dx%d", d.h, d.n);
    TIME(0, m, kr_predict(&p, logits, NULL, label, NULL), "predict %dx%d", d.h, d.n);
    free(logits);
    free(x);
    free(grad);
    free(label);
    free(ws);
}

static void optimisers(size_t n)
{
    struct kr_dims d = {1, 1, (int)(n / 16), 1};
    float *w = map(d, 16), *g = map(d, 16), *m = map(d, 16), *v = memory(n * sizeof *v);
    struct kr_adam adam = {.rate = 1e-3,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .eps = 1e-8,
                           .step = 7,
                           .gain = 1,
                           .threads = threads};
    struct kr_sgd sgd = {
        .rate = 1e-3, .momentum = 0.99, .nesterov = true, .step = 7, .gain = 1, .threads = threads};
    double b = 4 * (double)n;
    TIME(0, 7 * b, kr_adam(&adam, n, w, g, m, v), "adam %zu", n);
    TIME(0, 5 * b, kr_sgd(&sgd, n, w, g, m), "sgd %zu", n);
    adam.moments = KR_BF16;
    TIME(0, 5 * b, kr_adam(&adam, n, w, g, m, v), "adam-bf16 %zu", n);
    TIME(0, b, kr_sum_squares(n, g, threads), "sum-squares %zu", n);
    TIME(0, b, kr_find_nonfinite(n, g, KR_F32, threads), "find-nonfinite %zu", n);
    free(w);
    free(g);
    free(m);
    free(v);
}

int main(int argc, char **argv)
{
    int o;
    while ((o = getopt(argc, argv, "j:")) != -1)
        threads = o == 'j' ? atoi(optarg) : 0;
    const char *why = kr_init();
    if (why || threads < 1) {
        fprintf(stderr, "usage: pointwise [-j THREADS] [WORD]%s%s\n", why ? ": " : "",
                why ? why : "");
        return 2;
    }
    word = optind < argc ? argv[optind] : "";
    blas_open();
    const struct kr_dims full = {1, 240, 240, threads}, four = {4, 240, 240, threads};
    const struct kr_dims eight = {8, 160, 192, threads};
    {
        size_t n = (size_t)256 << 20;
        char *a = memory(n), *b = memory(n);
#define COPY                                                                                       \
    _Pragma("omp parallel for num_threads(threads)") for (int i = 0; i < 64; i++)                  \
        memcpy(a + n / 64 * (size_t)i, b + n / 64 * (size_t)i, n / 64)
        TIME(0, 2 * (double)n, COPY, "memcpy");
        free(a);
        free(b);
    }
    for (int n = 1; n <= 4; n += 3)
        for (int side = 15, cin = 1024; side <= 120; side *= 2, cin /= 2)
            products((struct kr_dims){n, side, side, threads}, cin, cin / 2, true);
    for (int side = 20, cin = 256; side <= 80; side *= 2, cin /= 2)
        products((struct kr_dims){8, side, side * 6 / 5, threads}, cin, cin / 2, true);
    products(full, 64, 4, false);
    products(full, 64, 32, false);
    products(eight, 16, 4, false);
    products(eight, 16, 8, false);
    products((struct kr_dims){1, 30, 30, threads}, 512, 256, false);
    elementwise(four, 64);
    elementwise(eight, 16);
    elementwise((struct kr_dims){4, 30, 30, threads}, 512);
    losses(four);
    losses(eight);
    optimisers((size_t)31 << 20);
    return 0;
}
