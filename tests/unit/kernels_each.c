/* Sums of each sample, with kernels that take many samples together: a sample's results and its row
 * of sums are the same bytes alone as among others, and for any number of threads. */
#include "lib/kernels/pointwise.h"
#include "tests/lib/maps.h"

enum { CIN = 24, COUT = 40 };

/* The maps of one problem: `count` samples from `first` on are taken. */
struct problem {
    struct shape s;
    struct kr_in in;
    const float *dy, *x, *k, *weight, *bias;
    const uint8_t *label;
    struct kr_loss_sums loss;
    float *logits;
    int first, count, threads;
};

/* What a kernel leaves: a map of c channels, and its sums. */
struct result {
    float *map;
    double *sums;
};

static struct kr_in samples(const struct kr_in *all, struct shape s, int first)
{
    struct kr_in in = *all;
    const size_t one = (size_t)s.h * (size_t)s.w * (size_t)kr_pad(in.c);
    in.x = (const char *)in.x + (size_t)first * one * kr_dtype_size(in.dtype);
    in.scale += (size_t)first * in.stride;
    in.shift += (size_t)first * in.stride;
    return in;
}

static const float *from(const struct problem *p, const float *map, int c, int scale)
{
    return map + (size_t)p->first * (size_t)(scale * p->s.h * scale * p->s.w * kr_pad(c));
}

static struct kr_dims dims(const struct problem *p)
{
    return (struct kr_dims){p->count, p->s.h, p->s.w, p->threads};
}

static struct kr_conv3x3 conv3x3(const struct problem *p, enum kr_algo algo)
{
    return (struct kr_conv3x3){.n = p->count,
                               .h = p->s.h,
                               .w = p->s.w,
                               .cout = COUT,
                               .weight = p->weight,
                               .bias = p->bias,
                               .nin = 1,
                               .in = {samples(&p->in, p->s, p->first)},
                               .algo = algo,
                               .threads = p->threads};
}

static struct kr_conv1x1 conv1x1(const struct problem *p)
{
    return (struct kr_conv1x1){.n = p->count,
                               .h = p->s.h,
                               .w = p->s.w,
                               .cout = COUT,
                               .weight = p->weight,
                               .bias = p->bias,
                               .nin = 1,
                               .in = {samples(&p->in, p->s, p->first)},
                               .threads = p->threads};
}

static struct kr_upconv upconv(const struct problem *p)
{
    return (struct kr_upconv){.n = p->count,
                              .h = p->s.h,
                              .w = p->s.w,
                              .cout = COUT,
                              .weight = p->weight,
                              .bias = p->bias,
                              .in = samples(&p->in, p->s, p->first),
                              .threads = p->threads};
}

/* Which kernel runs; what it makes has this many channels, over maps this much larger. */
static const struct kernel {
    const char *name;
    int c;
    double scale;
} kernels[] = {
    {"direct 3x3, forward", COUT, 1},
    {"Winograd 3x3, forward", COUT, 1},
    {"direct 3x3, to the data", CIN, 1},
    {"Winograd 3x3, to the data", CIN, 1},
    {"Winograd 3x3, both gradients", CIN, 1},
    {"1x1, forward", COUT, 1},
    {"1x1, to the data", CIN, 1},
    {"transposed, forward", COUT, 2},
    {"transposed, to the data", CIN, 1},
    {"sum", CIN, 1},
    {"sum, backward", CIN, 1},
    {"pooling", CIN, 0.5},
    {"pooling, backward", CIN, 1},
    {"head, backward", CIN, 1},
    {"gate's score", 1, 1},
    {"gate", CIN, 1},
    {"gate, to the data", CIN, 1},
    {"gate's score, to the data", CIN, 1},
};

static struct result run(const struct problem *p, int which)
{
    const struct kernel *k = &kernels[which];
    const struct shape so = {p->count, (int)(p->s.h * k->scale), (int)(p->s.w * k->scale)};
    struct result r = {empty_map(so, k->c, KR_F32), doubles(sums_count(so, k->c, true))};
    const struct kr_in in = samples(&p->in, p->s, p->first);
    const struct kr_out out = {.y = r.map, .c = k->c, .sums = r.sums, .each = true};
    const struct kr_dx dx[2] = {{.dx = r.map, .c = CIN, .act = &in, .sums = r.sums, .each = true}};
    const float *dy = from(p, p->dy, COUT, 1), *dx_in = from(p, p->x, CIN, 1);
    const struct kr_dims d = dims(p);
    const struct kr_pool pool = {d.n, 1, d.h, d.w, {1, 2, 2}, false, d.threads};
    const size_t pooled = (size_t)(p->s.h / 2) * (size_t)(p->s.w / 2) * (size_t)kr_pad(CIN);
    void *ws = guarded(kr_pointwise_workspace(&d, 2 * CIN), 64);
    const struct kr_gate gate = {.a = in,
                                 .b = in,
                                 .psi = p->weight,
                                 .x = in,
                                 .scale = in.scale,
                                 .shift = in.shift,
                                 .stride = in.stride,
                                 .each = true};
    const struct kr_dx both[2] = {
        dx[0], {.dx = empty_map(so, CIN, KR_F32), .c = CIN, .act = &in, .each = true}};
    const size_t plane = (size_t)p->s.h * (size_t)p->s.w;
    const struct kr_conv3x3 a = conv3x3(p, which % 2 ? KR_WINOGRAD : KR_DIRECT);
    const struct kr_conv3x3 small = {.n = a.n,
                                     .h = a.h,
                                     .w = a.w,
                                     .cout = 32,
                                     .weight = a.weight,
                                     .nin = 1,
                                     .in = {in},
                                     .threads = a.threads};
    const struct kr_conv1x1 b = conv1x1(p);
    const struct kr_upconv u = upconv(p);
    const struct kr_planes planes = {p->count, 1, p->s.h, p->s.w, 4, p->threads};
    const struct kr_loss loss = {.logits = p->logits + (size_t)p->first * 4 * plane,
                                 .label = p->label + (size_t)p->first * plane,
                                 .wdice = 1,
                                 .wce = 1,
                                 .eps = 1e-5};
    const float *scores = p->logits + (size_t)p->first * plane;
    float *score = floats(plane * (size_t)p->count);
    double *two = doubles(sums_count(so, 1, true));
    const struct kr_dy dscore = {scores, scores, p->k + (size_t)p->first * 3 * 32, 3 * 32};
    const struct kr_dy behind = {from(p, p->dy, 32, 1), from(p, p->dy, 32, 1),
                                 p->k + (size_t)p->first * 3 * 32, 3 * 32};
    switch (which) {
    case 0:
    case 1:
        kr_conv3x3_forward(&a, &out, guarded(kr_conv3x3_forward_workspace(&a), 64));
        break;
    case 2:
    case 3:
        kr_conv3x3_backward_data(&a, dy, dx, guarded(kr_conv3x3_backward_data_workspace(&a), 64));
        break;
    case 4:
        kr_conv3x3_backward(&small, &behind, dx, floats(9 * CIN * 32),
                            guarded(kr_conv3x3_backward_workspace(&small), 64));
        break;
    case 5:
        kr_conv1x1_forward(&b, &out, guarded(kr_conv1x1_workspace(&b), 64));
        break;
    case 6:
        kr_conv1x1_backward_data(&b, dy, dx, guarded(kr_conv1x1_workspace(&b), 64));
        break;
    case 7:
        kr_upconv_forward(&u, &out, guarded(kr_upconv_workspace(&u), 64));
        break;
    case 8:
        kr_upconv_backward_data(&u, from(p, p->dy, COUT, 2), dx,
                                guarded(kr_upconv_workspace(&u), 64));
        break;
    case 9:
        kr_add(&d, 1, &in, &out, ws);
        break;
    case 10:
        kr_add_backward(&d, dx_in, 1, dx, ws);
        break;
    case 11:
        kr_pool_forward(&pool, &in, &out, ws);
        break;
    case 12:
        kr_pool_backward(&pool, &in, p->x + (size_t)p->first * pooled, dx, ws);
        break;
    case 13:
        kr_head_backward(&planes, &loss, &p->loss, &in, p->weight, dx, floats(4 * CIN), floats(4),
                         guarded(kr_head_workspace(&planes, CIN), 64));
        break;
    case 14:
        kr_gate_score(&d, &gate, score, r.sums, ws);
        for (size_t i = 0; i < plane * (size_t)p->count; i++)
            for (size_t l = 0; l < KR_LANES; l++)
                r.map[i * KR_LANES + l] = score[i];
        break;
    case 15:
        kr_gate_apply(&d, &gate, scores, &out, ws);
        break;
    case 16:
        kr_gate_apply_backward(&d, &gate, scores, dx_in, dx, score, two, ws);
        break;
    case 17:
        kr_gate_score_backward(&d, &gate, &dscore, both, floats(CIN), ws);
        break;
    }
    return r;
}

static struct problem problem(struct shape s)
{
    struct rng r = rng_seed(3);
    const size_t n = pixels_of(s);
    struct problem p = {.s = s, .count = s.n, .threads = 2};
    uint8_t *label = guarded(n, 1);
    p.in = random_in(&r, s, CIN, STRIDED | LEAKY);
    p.dy = random_map(&r, (struct shape){s.n, 2 * s.h, 2 * s.w}, COUT, KR_F32);
    p.x = random_map(&r, s, CIN, KR_F32);
    p.k = random_rows(&r, s.n, 96, 0, 1);
    p.weight = random_floats(&r, CIN * COUT * 9, 0, 0.1);
    p.bias = random_floats(&r, COUT, 0, 1);
    p.logits = random_floats(&r, 4 * n, 0, 1);
    for (size_t i = 0; i < n; i++)
        label[i] = (uint8_t)rng_below(&r, 4);
    p.label = label;
    const struct kr_planes planes = {s.n, 1, s.h, s.w, 4, 1};
    const struct kr_loss loss = {
        .logits = p.logits, .label = label, .wdice = 1, .wce = 1, .eps = 1e-5};
    kr_loss_sums(&planes, &loss, &p.loss, guarded(kr_loss_workspace(), 64));
    return p;
}

static void test_kernel(struct shape s, int which)
{
    const struct kernel *k = &kernels[which];
    const size_t row = 2 * (size_t)kr_pad(k->c);
    const size_t map = (size_t)(s.h * k->scale) * (size_t)(s.w * k->scale) * (size_t)kr_pad(k->c);
    struct problem p = problem(s);
    const struct result whole = run(&p, which);
    bool same = true;
    for (p.threads = 1; p.threads <= 4; p.threads++) {
        const struct result one = run(&p, which);
        same = same && !memcmp(one.map, whole.map, map * (size_t)s.n * sizeof(float)) &&
               !memcmp(one.sums, whole.sums, row * (size_t)s.n * sizeof(double));
    }
    ok(same, "%s: %s, %dx%dx%d: the same bytes for 1 to 4 threads", kr_level(), k->name, s.n, s.h,
       s.w);
    p.count = 1;
    for (p.first = 0; p.first < s.n; p.first++) {
        const struct result one = run(&p, which);
        const size_t i = (size_t)p.first;
        same = same && !memcmp(one.map, whole.map + i * map, map * sizeof(float)) &&
               !memcmp(one.sums, whole.sums + i * row, row * sizeof(double));
    }
    ok(same, "%s: %s, %dx%dx%d: a sample alone and among others", kr_level(), k->name, s.n, s.h,
       s.w);
    guards_free();
}

static void all(void)
{
    for (int which = 0; which < (int)(sizeof kernels / sizeof kernels[0]); which++) {
        test_kernel((struct shape){5, 6, 4}, which);
        test_kernel((struct shape){3, 14, 15}, which);
        test_kernel((struct shape){2, 26, 38}, which);
    }
}

int main(void)
{
    each_level(all);
    return done_testing();
}
