/* The 3x3 convolutions of a U-Net, layer by layer: time (the least of several runs), rate counted
 * as a direct convolution beside the processor's measured multiply-add peak, and the largest error
 * of some results against double, relative to their root mean square.
 *
 *   conv3x3 [-P] [-c] [-z] [-j threads] [-n batch] [-b base] [-s HxW] [-p fdwb]
 *           [-a auto|direct|winograd] [-r runs] [HxW:cin:cout | HxW:cin+cin:cout ...]
 *
 * Passes: f forward, d gradient of the data, w gradient of the weights, b both at once with the
 * normalisation behind (where kernels do so; not compared with double). KR_ISA picks the level. -P:
 * the peak alone. -z: kernels of three slices, over one volume of `batch` slices. -c: processor
 * time, for one thread on a machine that is shared. */
#include "lib/base/rng.h"
#include "lib/kernels/kernels.h"
#include "tests/bench/layer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- one layer -------------------------------------------------------------------------------- */
static struct {
    int threads, batch, runs;
    enum kr_algo algo;
    const char *passes;
    int depth; /* of the kernel */
} opt = {2, 1, 10, KR_AUTO, "fdwb", 1};

struct totals {
    double seconds[4], flop;
    size_t workspace;
};

static double value(const struct kr_conv3x3 *p, int n, int y, int x, int i)
{
    if (n < 0 || n >= opt.batch || y < 0 || y >= p->h || x < 0 || x >= p->w)
        return 0;
    const struct kr_in *in = p->in;
    if (i >= in->c)
        i -= in->c, in++;
    size_t at = (((size_t)n * (size_t)p->h + (size_t)y) * (size_t)p->w + (size_t)x) *
                    (size_t)kr_pad(in->c) +
                (size_t)i;
    double v = (double)((const float *)in->x)[at] * (double)in->scale[i] + (double)in->shift[i];
    return v > 0 ? v : 0;
}

static void layer(int h, int w, int c0, int c1, int cout, struct totals *sum)
{
    struct rng r = rng_seed(1);
    int n = opt.batch, cin = c0 + c1, taps = 9 * opt.depth, beside = opt.depth / 2;
    size_t pixels = (size_t)n * (size_t)h * (size_t)w;
    size_t filters = (size_t)cout * (size_t)cin * (size_t)taps;
    struct kr_conv3x3 p = {.n = beside ? 1 : n,
                           .d = beside ? n : 1,
                           .depth = opt.depth,
                           .h = h,
                           .w = w,
                           .cout = cout,
                           .nin = c1 ? 2 : 1,
                           .algo = opt.algo,
                           .threads = opt.threads};
    for (int i = 0; i < p.nin; i++) {
        int c = i ? c1 : c0;
        float *scale = memory((size_t)kr_pad(c) * 4), *shift = memory((size_t)kr_pad(c) * 4);
        for (int k = 0; k < c; k++)
            scale[k] = 1.1f, shift[k] = 0.05f;
        p.in[i] = (struct kr_in){
            .x = map(&r, pixels, c), .c = c, .scale = scale, .shift = shift, .relu = true};
    }
    float *weight = memory(filters * 4), *dy = map(&r, pixels, cout);
    for (size_t i = 0; i < filters; i++)
        weight[i] = (float)(rng_range(&r, -1, 1) / sqrt(3.0 * cin));
    p.weight = weight;
    size_t cp = (size_t)kr_pad(cout);
    float *y = memory(pixels * cp * 4), *dw = memory(filters * 4);
    double *sums = memory(2 * cp * 8), *dsums = memory(4 * (size_t)kr_pad(cin > 16 ? cin : 16) * 8);
    struct kr_out out = {.y = y, .c = cout, .sums = sums};
    struct kr_dx dx[2];
    memset(dx, 0, sizeof dx);
    for (int i = 0; i < p.nin; i++)
        dx[i] = (struct kr_dx){.dx = map(&r, pixels, p.in[i].c),
                               .c = p.in[i].c,
                               .act = &p.in[i],
                               .sums = dsums + (i ? 2 * kr_pad(c0) : 0)};
    float *behind = memory(3 * cp * 4);
    for (int i = 0; i < cout; i++)
        behind[i] = 1;
    double flop = 2.0 * taps * (double)pixels * cin * cout;
    char shape[64];
    snprintf(shape, sizeof shape, c1 ? "%dx%d:%d+%d:%d" : "%dx%d:%d%.0d:%d", h, w, c0, c1, cout);
    printf("%-20s", shape);
    for (int k = 0; k < 4; k++) {
        if (!strchr(opt.passes, "fdwb"[k]) || (k == 1 && cin < 8) ||
            (k == 3 && !kr_conv3x3_fuses(&p, true)))
            continue;
        size_t bytes = k == 0   ? kr_conv3x3_forward_workspace(&p)
                       : k == 1 ? kr_conv3x3_backward_data_workspace(&p)
                       : k == 2 ? kr_conv3x3_backward_weight_workspace(&p)
                                : kr_conv3x3_backward_workspace(&p);
        void *ws = memory(bytes);
        double best = 1e9;
        for (int i = 0; i < opt.runs; i++) {
            double t = now();
            if (k == 0)
                kr_conv3x3_forward(&p, &out, ws);
            else if (k == 1)
                kr_conv3x3_backward_data(&p, dy, dx, ws);
            else if (k == 3)
                kr_conv3x3_backward(&p, &(struct kr_dy){.dy = dy, .x = y, .k = behind}, dx, dw, ws);
            else
                kr_conv3x3_backward_weight(&p, &(struct kr_dy){.dy = dy}, dw, ws);
            t = now() - t;
            best = t < best ? t : best;
        }
        free(ws);
        double worst = 0, square = 0;
        int samples = k == 3 ? 0 : k == 2 ? 30 : 200;
        for (int i = 0; i < samples; i++) {
            int b = (int)rng_below(&r, (uint64_t)n), yy = (int)rng_below(&r, (uint64_t)h),
                xx = (int)rng_below(&r, (uint64_t)w), o = (int)rng_below(&r, (uint64_t)cout),
                c = (int)rng_below(&r, (uint64_t)cin), t = (int)rng_below(&r, (uint64_t)taps);
            size_t pixel = ((size_t)b * (size_t)h + (size_t)yy) * (size_t)w + (size_t)xx;
            double want = 0, have;
            if (k == 0) {
                have = (double)y[pixel * cp + (size_t)o];
                for (int q = 0; q < taps * cin; q++)
                    want += value(&p, b + q / 9 % opt.depth - beside, yy + q / 3 % 3 - 1,
                                  xx + q % 3 - 1, q / taps) *
                            (double)weight[(size_t)o * (size_t)(cin * taps) + (size_t)q];
            } else if (k == 1) {
                int part = c >= c0, local = part ? c - c0 : c;
                have = (double)dx[part].dx[pixel * (size_t)kr_pad(p.in[part].c) + (size_t)local];
                for (int j = 0; j < taps * cout && value(&p, b, yy, xx, c) > 0; j++) {
                    int gb = b - j / 9 % opt.depth + beside, gy = yy - j / 3 % 3 + 1,
                        gx = xx - j % 3 + 1;
                    if (gb >= 0 && gb < n && gy >= 0 && gy < h && gx >= 0 && gx < w)
                        want += (double)dy[(((size_t)gb * (size_t)h + (size_t)gy) * (size_t)w +
                                            (size_t)gx) *
                                               cp +
                                           (size_t)(j / taps)] *
                                (double)weight[(size_t)((j / taps * cin + c) * taps + j % taps)];
                }
            } else {
                have = (double)dw[(size_t)((o * cin + c) * taps + t)];
                for (size_t q = 0; q < pixels; q++) {
                    int qn = (int)(q / ((size_t)h * (size_t)w)), qy = (int)(q / (size_t)w) % h,
                        qx = (int)(q % (size_t)w);
                    want += value(&p, qn + t / 9 - beside, qy + t / 3 % 3 - 1, qx + t % 3 - 1, c) *
                            (double)dy[q * cp + (size_t)o];
                }
            }
            worst = fmax(worst, fabs(have - want));
            square += want * want;
        }
        printf(" | %c %8.3f ms %6.0f GF/s %5.1f MiB", "fdwb"[k], best * 1e3,
               (k == 3 ? 2 : 1) * flop / best / 1e9, (double)bytes / 1048576);
        if (samples)
            printf(" %.0e", worst / sqrt(square / samples));
        fflush(stdout);
        sum->seconds[k] += best;
    }
    putchar('\n');
    sum->flop += flop;
    for (int i = 0; i < p.nin; i++) {
        free((void *)(uintptr_t)p.in[i].x);
        free((void *)(uintptr_t)p.in[i].scale);
        free((void *)(uintptr_t)p.in[i].shift);
        free(dx[i].dx);
    }
    free(weight), free(dy), free(y), free(dw), free(sums), free(dsums), free(behind);
}

static int usage(void)
{
    fprintf(stderr,
            "usage: conv3x3 [-P] [-c] [-z] [-j threads] [-n batch] [-b base] [-s HxW] [-p fdwb] "
            "[-a auto|direct|winograd] [-r runs] [HxW:cin[+cin]:cout ...]\n");
    return 2;
}

int main(int argc, char **argv)
{
    int base = 64, h = 240, w = 240;
    bool only_peak = false;
    for (int c; (c = getopt(argc, argv, "j:n:b:s:p:a:r:Pcz")) != -1;)
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
                return usage();
            break;
        case 'p':
            opt.passes = optarg;
            break;
        case 'a':
            opt.algo = *optarg == 'd' ? KR_DIRECT : *optarg == 'w' ? KR_WINOGRAD : KR_AUTO;
            break;
        case 'r':
            opt.runs = atoi(optarg);
            break;
        case 'c':
            bench_clock = CLOCK_PROCESS_CPUTIME_ID;
            break;
        case 'z':
            opt.depth = 3;
            break;
        case 'P':
            only_peak = true;
            break;
        default:
            return usage();
        }
    if (opt.threads < 1 || opt.batch < 1 || opt.runs < 1 || base < 1 || h < 16 || w < 16)
        return usage();
    const char *why = kr_init();
    if (why) {
        fprintf(stderr, "conv3x3: %s\n", why);
        return 1;
    }
    double top = peak(opt.threads);
    printf("level %s, %d threads, batch %d; multiply-add peak %.0f GF/s\n", kr_level(), opt.threads,
           opt.batch, top);
    if (only_peak)
        return 0;
    struct totals sum = {{0}, 0, 0};
    if (optind < argc) {
        for (; optind < argc; optind++) {
            int c0, c1 = 0, o;
            if (sscanf(argv[optind], "%dx%d:%d+%d:%d", &h, &w, &c0, &c1, &o) != 5 &&
                (c1 = 0, sscanf(argv[optind], "%dx%d:%d:%d", &h, &w, &c0, &o) != 4))
                return usage();
            layer(h, w, c0, c1, o, &sum);
        }
    } else {
        for (int l = 0; l < 5; l++) {
            layer(h >> l, w >> l, l ? base << (l - 1) : 4, 0, base << l, &sum);
            layer(h >> l, w >> l, base << l, 0, base << l, &sum);
        }
        for (int l = 3; l >= 0; l--) {
            layer(h >> l, w >> l, base << l, base << l, base << l, &sum);
            layer(h >> l, w >> l, base << l, 0, base << l, &sum);
        }
    }
    for (int k = 0; k < 3; k++)
        if (sum.seconds[k] > 0)
            printf("%s: %.2f ms a sample, %.0f GF/s (%.2f of the peak)\n",
                   k == 0   ? "forward"
                   : k == 1 ? "gradient of the data"
                            : "gradient of the weights",
                   sum.seconds[k] * 1e3 / opt.batch, sum.flop / sum.seconds[k] / 1e9,
                   sum.flop / sum.seconds[k] / 1e9 / top);
    return 0;
}
