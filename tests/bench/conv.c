/* Convolutions of any kernel, layer by layer: time (the least of several runs) and rate beside the
 * processor's measured multiply-add peak. Without layers those between the resolutions of nnU-Net's
 * plane network for 192x160. Results are compared by tests/unit/kernels_conv.c.
 *
 *   conv [-c] [-j threads] [-n batch] [-p fdw] [-r runs] [DxHxW:cin:cout:kernel:stride ...]
 *
 * Kernel and stride are one number, 1 on z where D is 1. Passes: f forward, d gradient of the data,
 * w of the weights. -c: processor time, for one thread on a
 * machine that is shared. KR_ISA picks the level. */
#include "tests/bench/layer.h"

#include <unistd.h>

static struct {
    int threads, batch, runs;
    const char *passes;
} opt = {2, 8, 5, "fdw"};

static void layer(int d, int h, int w, int cin, int cout, int kernel, int stride, double top)
{
    struct rng r = rng_seed(1);
    const int kz = d > 1 ? kernel : 1, sz = d > 1 ? stride : 1, taps = kz * kernel * kernel;
    const size_t from = (size_t)(opt.batch * d * h) * (size_t)w,
                 to = from / (size_t)(sz * stride * stride), n = (size_t)(cin * cout * taps);
    float *weight = memory(n * 4), *dw = memory(n * 4), *dy = map(&r, to, cout);
    float *scale = memory((size_t)kr_pad(cin) * 4), *shift = memory((size_t)kr_pad(cin) * 4);
    double *sums = memory(2 * (size_t)kr_pad(cout) * 8),
           *dsums = memory(2 * (size_t)kr_pad(cin) * 8);
    for (int i = 0; i < cin; i++)
        scale[i] = 1.1f, shift[i] = 0.05f;
    for (size_t i = 0; i < n; i++)
        weight[i] = (float)rng_range(&r, -1, 1);
    const struct kr_conv k = {
        .n = opt.batch,
        .d = d,
        .h = h,
        .w = w,
        .cout = cout,
        .kernel = {kz, kernel, kernel},
        .stride = {sz, stride, stride},
        .dilation = {1, 1, 1},
        .weight = weight,
        .nin = 1,
        .in = {{.x = map(&r, from, cin), .c = cin, .scale = scale, .shift = shift, .relu = true}},
        .threads = opt.threads};
    const struct kr_out out = {.y = map(&r, to, cout), .c = cout, .sums = sums};
    const struct kr_dx dx[2] = {
        {.dx = map(&r, from, cin), .c = cin, .act = &k.in[0], .sums = dsums}};
    const double flop = 2.0 * (double)to * cin * cout * taps;
    printf("%dx%dx%d:%d:%d:%d:%d", d, h, w, cin, cout, kernel, stride);
    for (const char *pass = opt.passes; *pass; pass++) {
        const size_t bytes = *pass == 'f'   ? kr_conv_forward_workspace(&k)
                             : *pass == 'd' ? kr_conv_backward_data_workspace(&k)
                                            : kr_conv_backward_weight_workspace(&k);
        void *ws = memory(bytes);
        double best = 1e9;
        for (int i = 0; i < opt.runs; i++) {
            double t = now();
            if (*pass == 'f')
                kr_conv_forward(&k, &out, ws);
            else if (*pass == 'd')
                kr_conv_backward_data(&k, &(struct kr_dy){.dy = dy}, dx, ws);
            else
                kr_conv_backward_weight(&k, &(struct kr_dy){.dy = dy}, dw, NULL, ws);
            t = now() - t;
            best = t < best ? t : best;
        }
        printf(" | %c %8.3f ms %5.0f GF/s (%.2f) %5.1f MiB", *pass, best * 1e3, flop / best / 1e9,
               flop / best / 1e9 / top, (double)bytes / 1048576);
        fflush(stdout);
        free(ws);
    }
    putchar('\n');
    free((void *)(uintptr_t)k.in[0].x);
    free(weight), free(dw), free(dy), free(scale), free(shift), free(sums), free(dsums);
    free(out.y), free(dx[0].dx);
}

int main(int argc, char **argv)
{
    static const char *const planned[] = {"1x192x160:32:64:3:2", "1x96x80:64:128:3:2",
                                          "1x48x40:128:256:3:2", "1x24x20:256:512:3:2",
                                          "1x12x10:512:512:3:2"};
    const char *why = kr_init();
    for (int c; (c = getopt(argc, argv, "cj:n:p:r:")) != -1;) {
        if (c == 'c')
            bench_clock = CLOCK_PROCESS_CPUTIME_ID;
        else if (c == 'j')
            opt.threads = atoi(optarg);
        else if (c == 'n')
            opt.batch = atoi(optarg);
        else if (c == 'p')
            opt.passes = optarg;
        else if (c == 'r')
            opt.runs = atoi(optarg);
        else
            return 2;
    }
    if (why || opt.threads < 1 || opt.batch < 1 || opt.runs < 1 ||
        strspn(opt.passes, "fdw") != strlen(opt.passes)) {
        fprintf(stderr, "conv: %s\n", why ? why : "bad arguments");
        return 2;
    }
    const int count = optind < argc ? argc - optind : (int)(sizeof planned / sizeof planned[0]);
    const double top = peak(opt.threads);
    printf("level %s, %d threads, batch %d; multiply-add peak %.0f GF/s\n", kr_level(), opt.threads,
           opt.batch, top);
    for (int i = 0; i < count; i++) {
        int d, h, w, cin, cout, kernel, stride;
        if (sscanf(optind < argc ? argv[optind + i] : planned[i], "%dx%dx%d:%d:%d:%d:%d", &d, &h,
                   &w, &cin, &cout, &kernel, &stride) != 7)
            return 2;
        layer(d, h, w, cin, cout, kernel, stride, top);
    }
    return 0;
}
