/* Pooling of planes and volumes against windows looked through in double. */
#include "lib/kernels/pointwise.h"
#include "tests/lib/maps.h"

struct variant {
    int n, d, h, w, c;
    int size[3];
    bool average;
    int how;
    bool accumulate;
};

static void test(struct rng *r, const struct variant *v)
{
    const int *size = v->size, c = v->c;
    const int od = v->d / size[0], oh = v->h / size[1], ow = v->w / size[2];
    const struct shape s = {v->n * v->d, v->h, v->w}, so = {v->n * od, oh, ow};
    struct kr_in in = random_in(r, s, c, v->how);
    for (size_t p = 0; p < pixels_of(s); p += 3) /* ties: the same raw value in all of a window */
        for (int k = 0; k < c; k++)
            set((void *)in.x, in.dtype, c, p, k, (float)(int)(p / 8 % 2));
    const int count = size[0] * size[1] * size[2];
    double *want = doubles(pixels_of(so) * (size_t)c + 1), error = 0, back = 0;
    double *dv = doubles(pixels_of(s) * (size_t)c);
    const float *dy = random_map(r, so, c, KR_F32), *old = random_map(r, s, c, KR_F32);
    const void *first = NULL, *first_dx = NULL;
    const double *first_sums[2] = {NULL, NULL};
    bool same = true;
    memset(dv, 0, pixels_of(s) * (size_t)c * sizeof *dv);
    for (size_t q = 0; q < pixels_of(so); q++)
        for (int k = 0; k < c; k++) {
            const int x = (int)(q % (size_t)ow), y = (int)(q / (size_t)ow) % oh;
            const int slice = (int)(q / (size_t)(ow * oh)),
                      z = slice / od * v->d + slice % od * size[0];
            const double g = get(dy, KR_F32, c, q, k);
            size_t best = 0;
            double top = -INFINITY, sum = 0;
            for (int i = 0; i < count; i++) {
                const int a = i / (size[1] * size[2]), b = i / size[2] % size[1], e = i % size[2];
                const size_t p =
                    (size_t)(((z + a) * v->h + y * size[1] + b) * v->w + x * size[2] + e);
                const double have = value(&in, s, p, k);
                sum += have;
                if (have > top) {
                    top = have;
                    best = p;
                }
                if (v->average)
                    dv[p * (size_t)c + (size_t)k] += g / count;
            }
            want[q * (size_t)c + (size_t)k] = v->average ? sum / count : top;
            if (!v->average)
                dv[best * (size_t)c + (size_t)k] += g;
        }
    for (int threads = 1; threads <= 4; threads++) {
        const struct kr_pool p = {v->n,       v->d,   v->h, v->w, {size[0], size[1], size[2]},
                                  v->average, threads};
        const struct kr_dims d = {s.n, s.h, s.w, threads};
        const bool each = v->how & STRIDED;
        struct kr_out out = {.y = empty_map(so, c, KR_F32),
                             .c = c,
                             .each = each,
                             .sums = doubles(sums_count(so, c, each))};
        struct kr_dx dx = {.dx = empty_map(s, c, KR_F32),
                           .c = c,
                           .accumulate = v->accumulate,
                           .act = &in,
                           .each = each,
                           .sums = doubles(sums_count(s, c, each))};
        memcpy(dx.dx, old, elements(s, c) * sizeof(float));
        kr_pool_forward(&p, &in, &out, guarded(kr_pointwise_workspace(&d, c), 64));
        kr_pool_backward(&p, &in, dy, &dx, guarded(kr_pointwise_workspace(&d, c), 64));
        error = out_error(&out, so, want);
        back = dx_error(&dx, s, old, dv);
        same = same && (!first || (!memcmp(first, out.y, elements(so, c) * 4) &&
                                   !memcmp(first_dx, dx.dx, elements(s, c) * 4) &&
                                   !memcmp(first_sums[0], out.sums, sums_count(so, c, each) * 8) &&
                                   !memcmp(first_sums[1], dx.sums, sums_count(s, c, each) * 8)));
        first = out.y;
        first_dx = dx.dx;
        first_sums[0] = out.sums;
        first_sums[1] = dx.sums;
    }
    ok(error < 1e-5 && back < 1e-5 && same,
       "%s: %s of %dx%dx%d, %dx%dx%dx%d, %d channels, how %d (errors %.1e, %.1e, threads %d)",
       kr_level(), v->average ? "average" : "largest", size[0], size[1], size[2], v->n, v->d, v->h,
       v->w, c, v->how, error, back, same);
    guards_free();
}

static void test_nan(void)
{
    const struct shape s = {2, 2, 4};
    struct rng r = rng_seed(2);
    struct kr_in in = random_in(&r, s, 16, 0);
    struct kr_out out = {.y = empty_map((struct shape){1, 1, 2}, 16, KR_F32), .c = 16};
    bool all = true;
    for (int volume = 0; volume < 2; volume++)
        for (int q = 0; q < 4 << volume; q++) {
            const struct kr_pool p = {1, 1 + volume, 2, 4, {1 + volume, 2, 2}, false, 1};
            memset((void *)in.x, 0, elements(s, 16) * 4);
            set((void *)in.x, KR_F32, 16, (size_t)(q / 4 * 8 + q / 2 % 2 * 4 + q % 2), 3, NAN);
            kr_pool_forward(&p, &in, &out, NULL);
            all = all && isnan(get(out.y, KR_F32, 16, 0, 3)) && get(out.y, KR_F32, 16, 1, 3) == 0;
        }
    ok(all, "%s: NaN wins a pool wherever it is", kr_level());
    guards_free();
}

static void all(void)
{
    static const struct variant variants[] = {
        {2, 1, 8, 10, 16, {1, 2, 2}, false, AFFINE | RELU, true},
        {3, 1, 7, 5, 20, {1, 2, 2}, false, BF16 | STRIDED, false},
        {1, 1, 33, 70, 40, {1, 2, 2}, false, LEAKY | STRIDED, true},
        {1, 1, 2, 2, 1, {1, 2, 2}, false, 0, true},
        {2, 1, 9, 12, 24, {1, 3, 4}, false, RELU, false},
        {2, 4, 6, 8, 12, {2, 2, 2}, false, STRIDED | LEAKY, true},
        {1, 7, 5, 9, 33, {3, 1, 4}, false, AFFINE | BF16, false},
        {2, 1, 8, 10, 16, {1, 2, 2}, true, AFFINE | RELU, true},
        {2, 4, 6, 8, 12, {2, 2, 2}, true, STRIDED | LEAKY, false},
        {1, 5, 7, 11, 70, {4, 3, 2}, true, BF16, true},
        {2, 1, 6, 6, 5, {1, 1, 3}, true, 0, false},
    };
    struct rng r = rng_seed(1);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++)
        test(&r, &variants[i]);
    test_nan();
}

int main(void)
{
    each_level(all);
    return done_testing();
}
