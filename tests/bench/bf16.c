/* The convolutions of a U-Net with products in bfloat16, layer by layer: time (the least of several
 * runs), rate, and the largest error of some results against double, relative to their root mean
 * square.
 *
 *   bf16 [-j threads] [-n batch] [-b base] [-s HxW] [-p fdw] [-m] [-r runs] [-f] [-c]
 *        [HxW:cin:cout | HxW:cin+cin:cout ...]
 *
 * Passes: f forward, d gradient of the data, w of the weights (not compared with double). -m: maps
 * are bfloat16, and forward's weights are packed before, as in use. -f: the same layers in float
 * beside. -c: processor time, for one thread on a machine that is shared. KR_ISA picks the
 * level. */
#include "lib/base/tensor.h"
#include "lib/kernels/bf16.h"
#include "tests/bench/layer.h"

#include <math.h>
#include <unistd.h>

static struct {
    int threads, batch, runs;
    const char *passes;
    bool maps, beside;
} opt = {2, 1, 10, "fdw", false, false};

static struct {
    double seconds[3], floats[3], flop[3];
} sum;

static void *map16(struct rng *r, size_t pixels, int c)
{
    float *from = map(r, pixels, c);
    const size_t n = pixels * (size_t)kr_pad(c);
    uint16_t *to = memory(n * 2);
    for (size_t i = 0; i < n; i++)
        to[i] = f32_to_bf16(from[i]);
    free(from);
    return to;
}

static double element(const struct kr_in *in, size_t i)
{
    return in->dtype == KR_BF16 ? (double)bf16_to_f32(((const uint16_t *)in->x)[i])
                                : (double)((const float *)in->x)[i];
}

/* What forward reads. */
static double value(const struct kr_conv *p, int n, int y, int x, int i)
{
    const struct kr_in *in = p->in;
    if (y < 0 || y >= p->h || x < 0 || x >= p->w)
        return 0;
    if (i >= in->c)
        i -= in->c, in++;
    const int pixel = y * p->w + x, plane = p->h * p->w;
    const double v =
        element(in, in->planar ? (size_t)(n * in->c + i) * (size_t)plane + (size_t)pixel
                               : (size_t)(n * plane + pixel) * (size_t)kr_pad(in->c) + (size_t)i);
    return in->relu && v < 0 ? 0 : v;
}

static double timed(void (*f)(void *), void *ctx)
{
    double best = 1e9;
    for (int i = 0; i < opt.runs; i++) {
        double t = now();
        f(ctx);
        t = now() - t;
        best = t < best ? t : best;
    }
    return best;
}

struct call {
    struct kr_bf16 p;
    struct kr_conv3x3 f;
    struct kr_upconv u;
    struct kr_out out, fout;
    struct kr_dx dx[2];
    struct kr_dy dy;
    float *dw;
    void *ws;
};

static void forward(void *ctx)
{
    struct call *c = ctx;
    kr_bf16_forward(&c->p, &c->out, c->ws);
}

static void data(void *ctx)
{
    struct call *c = ctx;
    kr_bf16_backward_data(&c->p, &c->dy, c->dx, c->ws);
}

static void weight_gradient(void *ctx)
{
    struct call *c = ctx;
    kr_bf16_backward_weight(&c->p, &c->dy, c->dw, NULL, c->ws);
}

static void forward_floats(void *ctx)
{
    struct call *c = ctx;
    if (c->p.transposed)
        kr_upconv_forward(&c->u, &c->fout, c->ws);
    else
        kr_conv3x3_forward(&c->f, &c->fout, c->ws);
}

static void data_floats(void *ctx)
{
    struct call *c = ctx;
    if (c->p.transposed)
        kr_upconv_backward_data(&c->u, c->dy.dy, c->dx, c->ws);
    else
        kr_conv3x3_backward_data(&c->f, c->dy.dy, c->dx, c->ws);
}

static void weight_floats(void *ctx)
{
    struct call *c = ctx;
    if (c->p.transposed)
        kr_upconv_backward_weight(&c->u, c->dy.dy, c->dw, NULL, c->ws);
    else
        kr_conv3x3_backward_weight(&c->f, &c->dy, c->dw, c->ws);
}

static void *work(size_t a, size_t b)
{
    return memory(a > b ? a : b);
}

/* h and w are the input's. */
static void layer(int h, int w, int c0, int c1, int cout, bool up)
{
    struct rng r = rng_seed(1);
    struct call c;
    memset(&c, 0, sizeof c);
    struct kr_conv *p = &c.p.conv;
    const int n = opt.batch, cin = c0 + c1, taps = up ? 4 : 9;
    const size_t pixels = (size_t)n * (size_t)h * (size_t)w, out = up ? 4 * pixels : pixels;
    *p = (struct kr_conv){.n = n, .d = 1, .h = h, .w = w, .cout = cout, .threads = opt.threads};
    c.p.transposed = up;
    for (int i = 0; i < 3; i++) {
        p->kernel[i] = i ? up ? 2 : 3 : 1;
        p->stride[i] = up ? p->kernel[i] : 1;
        p->dilation[i] = 1;
    }
    float *plane = memory(pixels * (size_t)cin * 4);
    p->nin = c1 ? 2 : 1;
    for (int i = 0; i < p->nin; i++) {
        const int k = i ? c1 : c0;
        const bool planar = cin < 16;
        if (planar)
            for (size_t q = 0; q < pixels * (size_t)cin; q++)
                plane[q] = (float)rng_range(&r, -1, 1);
        p->in[i] = (struct kr_in){.x = planar     ? (void *)plane
                                       : opt.maps ? map16(&r, pixels, k)
                                                  : (void *)map(&r, pixels, k),
                                  .dtype = opt.maps && !planar ? KR_BF16 : KR_F32,
                                  .planar = planar,
                                  .relu = !opt.maps && !planar,
                                  .c = k};
    }
    const size_t filters = (size_t)cout * (size_t)cin * (size_t)taps;
    float *weight = memory(filters * 4), *dy = map(&r, out, cout);
    for (size_t i = 0; i < filters; i++)
        weight[i] = (float)(rng_range(&r, -1, 1) / sqrt(3.0 * cin));
    p->weight = weight;
    const size_t cp = (size_t)kr_pad(cout);
    float *y = memory(out * cp * 4), *row = memory(cp * 4);
    for (int i = 0; i < cout; i++)
        row[i] = 1;
    c.out = (struct kr_out){.y = y, .c = cout, .dtype = opt.maps ? KR_BF16 : KR_F32};
    c.fout = (struct kr_out){.y = y, .c = cout};
    if (opt.maps)
        c.out.scale = row, c.out.shift = memory(cp * 4), c.out.relu = true;
    else
        c.out.sums = memory(2 * cp * 8);
    c.dy = (struct kr_dy){.dy = dy};
    c.dw = memory(filters * 4);
    for (int i = 0; i < p->nin; i++)
        c.dx[i] = (struct kr_dx){.dx = map(&r, pixels, p->in[i].c),
                                 .c = p->in[i].c,
                                 .act = p->in[i].relu ? &p->in[i] : NULL,
                                 .sums = memory(2 * (size_t)kr_pad(p->in[i].c) * 8)};
    c.f = (struct kr_conv3x3){.n = n,
                              .h = h,
                              .w = w,
                              .cout = cout,
                              .weight = weight,
                              .nin = p->nin,
                              .in = {p->in[0], p->in[1]},
                              .threads = opt.threads};
    c.u = (struct kr_upconv){.n = n,
                             .h = h,
                             .w = w,
                             .cout = cout,
                             .weight = weight,
                             .in = p->in[0],
                             .threads = opt.threads};
    const double flop = 2.0 * taps * (double)pixels * cin * cout;
    printf("%s%dx%d:%d", up ? "up " : "", h, w, c0);
    printf(c1 ? "+%d:%d\t" : "%.0d:%d\t", c1, cout);
    void *packed = NULL;
    void (*const run[])(void *) = {forward, data, weight_gradient};
    void (*const floats_run[])(void *) = {forward_floats, data_floats, weight_floats};
    for (int k = 0; k < 3; k++) {
        if (!strchr(opt.passes, "fdw"[k]) || (k == 1 && cin < 16))
            continue;
        if (!k && opt.maps) {
            packed = memory(kr_bf16_packed(&c.p));
            kr_bf16_pack(&c.p, packed);
        }
        c.p.packed = k ? NULL : packed;
        const size_t floats = up       ? kr_upconv_workspace(&c.u)
                              : k == 2 ? kr_conv3x3_backward_weight_workspace(&c.f)
                              : k      ? kr_conv3x3_backward_data_workspace(&c.f)
                                       : kr_conv3x3_forward_workspace(&c.f);
        const size_t bytes = k == 2 ? kr_bf16_backward_weight_workspace(&c.p)
                             : k    ? kr_bf16_backward_data_workspace(&c.p)
                                    : kr_bf16_forward_workspace(&c.p);
        c.ws = work(bytes, floats);
        const double best = timed(run[k], &c);
        double worst = 0, square = 0;
        for (int i = 0; i < 200; i++) {
            const int yy = (int)rng_below(&r, (uint64_t)h), xx = (int)rng_below(&r, (uint64_t)w),
                      b = (int)rng_below(&r, (uint64_t)n), o = (int)rng_below(&r, (uint64_t)cout),
                      q = (int)rng_below(&r, (uint64_t)cin);
            const size_t pixel = (size_t)((b * h + yy) * w + xx);
            double want = 0, have = 0;
            if (up || k == 2) {
                break;
            } else if (!k) {
                for (int t = 0; t < 9 * cin; t++)
                    want += value(p, b, yy + t / 3 % 3 - 1, xx + t % 3 - 1, t / 9) *
                            (double)weight[o * cin * 9 + t];
                want = opt.maps && want < 0 ? 0 : want;
                const size_t at = pixel * cp + (size_t)o;
                have = opt.maps ? (double)bf16_to_f32(((uint16_t *)y)[at]) : (double)y[at];
            } else {
                const int part = q >= c0, local = part ? q - c0 : q;
                have = (double)c.dx[part].dx[pixel * (size_t)kr_pad(p->in[part].c) + (size_t)local];
                const bool on = !p->in[part].relu || value(p, b, yy, xx, q) > 0;
                for (int t = 0; t < 9 * cout && on; t++) {
                    const int gy = yy - t / 3 % 3 + 1, gx = xx - t % 3 + 1;
                    if (gy >= 0 && gy < h && gx >= 0 && gx < w)
                        want += (double)dy[(size_t)((b * h + gy) * w + gx) * cp + (size_t)(t / 9)] *
                                (double)weight[(t / 9 * cin + q) * 9 + t % 9];
                }
            }
            worst = fmax(worst, fabs(have - want));
            square += want * want;
        }
        printf(" | %c %8.3f ms %6.0f GF/s %5.1f MiB", "fdw"[k], best * 1e3, flop / best / 1e9,
               (double)bytes / 1048576);
        if (!up && k < 2)
            printf(" %.0e", worst / sqrt(square / 200));
        sum.seconds[k] += best;
        sum.flop[k] += flop;
        if (opt.beside && !opt.maps) {
            const double t = timed(floats_run[k], &c);
            printf(" (float %.3f ms)", t * 1e3);
            sum.floats[k] += t;
        }
        fflush(stdout);
        free(c.ws);
    }
    putchar('\n');
    for (int i = 0; i < p->nin; i++) {
        if (!p->in[i].planar)
            free((void *)(uintptr_t)p->in[i].x);
        free(c.dx[i].dx);
        free(c.dx[i].sums);
    }
    free(c.dw), free(c.out.sums), free((void *)(uintptr_t)c.out.shift);
    free(plane), free(packed), free(weight), free(dy), free(y), free(row);
}

int main(int argc, char **argv)
{
    int base = 64, h = 240, w = 240;
    for (int c; (c = getopt(argc, argv, "j:n:b:s:p:r:mfc")) != -1;)
        switch (c) {
        case 'j':
            opt.threads = atoi(optarg);
            break;
        case 'n':
            opt.batch = atoi(optarg);
            break;
        case 'b':
            base = atoi(optarg);
            break;
        case 's':
            if (sscanf(optarg, "%dx%d", &h, &w) != 2)
                return 2;
            break;
        case 'p':
            opt.passes = optarg;
            break;
        case 'r':
            opt.runs = atoi(optarg);
            break;
        case 'm':
            opt.maps = true;
            break;
        case 'c':
            bench_clock = CLOCK_PROCESS_CPUTIME_ID;
            break;
        case 'f':
            opt.beside = true;
            break;
        default:
            fprintf(stderr, "usage: bf16 [-j threads] [-n batch] [-b base] [-s HxW] [-p fdw] [-m] "
                            "[-r runs] [-f] [-c] [HxW:cin[+cin]:cout ...]\n");
            return 2;
        }
    const char *why = kr_init();
    if (why) {
        fprintf(stderr, "bf16: %s\n", why);
        return 1;
    }
    printf("products of %s, %d threads, batch %d\n", kr_level_bf16(), opt.threads, opt.batch);
    for (int i = optind; i < argc; i++) {
        int c0, c1 = 0, o;
        if (sscanf(argv[i], "%dx%d:%d+%d:%d", &h, &w, &c0, &c1, &o) != 5 &&
            (c1 = 0, sscanf(argv[i], "%dx%d:%d:%d", &h, &w, &c0, &o) != 4))
            return 2;
        layer(h, w, c0, c1, o, false);
    }
    for (int l = 0; l < 5 && optind == argc; l++) {
        layer(h >> l, w >> l, l ? base << (l - 1) : 4, 0, base << l, false);
        layer(h >> l, w >> l, base << l, 0, base << l, false);
    }
    for (int l = 3; l >= 0 && optind == argc; l--) {
        layer(h >> (l + 1), w >> (l + 1), base << (l + 1), 0, base << l, true);
        layer(h >> l, w >> l, base << l, base << l, base << l, false);
        layer(h >> l, w >> l, base << l, 0, base << l, false);
    }
    for (int k = 0; k < 3; k++)
        if (sum.seconds[k] > 0)
            printf("%s: %.2f ms a sample, %.0f GF/s%s%.2f ms\n",
                   k == 2   ? "gradient of the weights"
                   : k == 1 ? "gradient of the data"
                            : "forward",
                   sum.seconds[k] * 1e3 / opt.batch, sum.flop[k] / sum.seconds[k] / 1e9,
                   ", in float ", sum.floats[k] * 1e3 / opt.batch);
    return 0;
}
