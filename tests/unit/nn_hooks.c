/* The hooks of a handle: two that share a batch and agree at every sum learn what one learns of the
 * whole; progress counts every step; a cancelled call says so and changes nothing; what serves
 * training alone takes no step of use. */
#include "lib/base/rng.h"
#include "lib/kernels/pointwise.h"
#include "lib/nn/nn.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { N = 4, H = 32, W = 32, CIN = 3, CLASSES = 4, PIXELS = H * W, STEPS = 3 };

static float image[N * CIN * PIXELS];
static uint8_t label[N * PIXELS];

static struct nn *open_net(const char *arch, struct nn_options o)
{
    char why[256];
    struct nn_spec spec = nn_network(arch, 4, CIN, CLASSES);
    struct nn *nn = nn_new(&spec, &o, why, sizeof why);
    if (!nn || nn_init(nn, 3)) {
        printf("Bail out! %s\n", nn ? nn_why(nn) : why);
        exit(1);
    }
    return nn;
}

/* --- two that agree --------------------------------------------------------------------------- */

/* Sums of two threads: the first leaves its own, the second adds and gives both the total. */
static struct {
    pthread_barrier_t meet;
    double *sums[2];
    float *gradient[2];
} shared;

struct half {
    int number;
    struct nn *nn;
    double loss;
    uint64_t pixels;
};

static int add_sums(void *ctx, double *sums, size_t n)
{
    const struct half *h = ctx;
    shared.sums[h->number] = sums;
    pthread_barrier_wait(&shared.meet);
    if (h->number == 0)
        for (size_t i = 0; i < n; i++)
            shared.sums[0][i] = shared.sums[1][i] = shared.sums[0][i] + shared.sums[1][i];
    pthread_barrier_wait(&shared.meet);
    return 0;
}

static int add_gradient(void *ctx, float *gradient, size_t n)
{
    const struct half *h = ctx;
    shared.gradient[h->number] = gradient;
    pthread_barrier_wait(&shared.meet);
    if (h->number == 0)
        for (size_t i = 0; i < n; i++)
            shared.gradient[0][i] = shared.gradient[1][i] =
                shared.gradient[0][i] + shared.gradient[1][i];
    pthread_barrier_wait(&shared.meet);
    return 0;
}

static void *learn(void *arg)
{
    struct half *h = arg;
    size_t first = (size_t)h->number * N / 2;
    struct nn_batch b = {.n = N / 2,
                         .h = H,
                         .w = W,
                         .image = image + first * CIN * PIXELS,
                         .label = label + first * PIXELS};
    struct nn_result r = {0};
    for (int i = 0; i < STEPS; i++)
        if (nn_train(h->nn, &b, 0.01, &r))
            printf("# %s\n", nn_why(h->nn));
    h->loss = r.loss;
    h->pixels = r.pixels;
    return NULL;
}

/* How far the parameters of two are apart, as a share of their norm. */
static double apart(const struct nn *a, const struct nn *b)
{
    size_t n;
    const struct tensor *pa = nn_params(a, &n), *pb = nn_params(b, &n);
    double off = 0, norm = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < tensor_count(&pa[i]); j++) {
            off += pow(tensor_get(&pa[i], j) - tensor_get(&pb[i], j), 2);
            norm += pow(tensor_get(&pa[i], j), 2);
        }
    return sqrt(off / norm);
}

static void test_agreement(const char *arch, double clip)
{
    struct half half[2] = {{.number = 0}, {.number = 1}};
    pthread_t thread[2];
    struct nn_training t = {.optim = NN_SGD, .momentum = 0.9, .loss = NN_DICE_CE, .clip = clip};
    struct nn_options o = {.train = true, .n = N, .h = H, .w = W, .threads = 1, .training = t};
    struct nn *whole = open_net(arch, o), *alone;
    struct nn_batch b = {.n = N, .h = H, .w = W, .image = image, .label = label};
    struct nn_result r;
    for (int i = 0; i < STEPS; i++)
        nn_train(whole, &b, 0.01, &r);
    o.n = N / 2;
    alone = open_net(arch, o);
    b.n = N / 2;
    for (int i = 0; i < STEPS; i++)
        nn_train(alone, &b, 0.01, NULL);
    pthread_barrier_init(&shared.meet, NULL, 2);
    for (int i = 0; i < 2; i++) {
        o.hooks = (struct nn_hooks){.ctx = &half[i], .sums = add_sums, .gradient = add_gradient};
        half[i].nn = open_net(arch, o);
        pthread_create(&thread[i], NULL, learn, &half[i]);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    double off = apart(whole, half[0].nn), other = apart(whole, alone);
    ok(off < 1e-5 && other > 100 * off,
       "%s%s: two halves learn what the whole does (%.1e; one alone %.1e)", arch,
       clip > 0 ? ", clipped" : "", off, other);
    ok(apart(half[0].nn, half[1].nn) == 0, "%s: and both the same", arch);
    ok(half[0].pixels == r.pixels && fabs(half[0].loss - r.loss) < 1e-5 * r.loss,
       "%s: the loss is of all pixels (%.6f, %.6f)", arch, half[0].loss, r.loss);
    nn_free(whole), nn_free(alone), nn_free(half[0].nn), nn_free(half[1].nn);
}

/* --- groups ----------------------------------------------------------------------------------- */

/* The batch in groups of so many samples. */
enum { GROUPS = 4, PARTS = 2 };
static const int part[PARTS][GROUPS] = {{1, 1, 1, 1}, {2, 0, 1, 1}};

struct member {
    int number, all; /* of the processes */
    struct nn *nn;
    struct nn_result result;
    bool accumulate, narrow;
    float *started; /* the gradient that is on its way */
    int arrivals;
};

static struct {
    pthread_barrier_t meet;
    double *sums[GROUPS];
    float *gradient[GROUPS];
} table;

/* Neighbours first, as nn.h says of groups. */
static int meet_sums(void *ctx, double *sums, size_t n)
{
    const struct member *m = ctx;
    table.sums[m->number] = sums;
    pthread_barrier_wait(&table.meet);
    for (int step = 1; m->number == 0 && step < m->all; step *= 2)
        for (int k = 0; k + step < m->all; k += 2 * step)
            for (size_t i = 0; i < n; i++)
                table.sums[k][i] += table.sums[k + step][i];
    for (int k = 1; m->number == 0 && k < m->all; k++)
        memcpy(table.sums[k], table.sums[0], n * sizeof *sums);
    pthread_barrier_wait(&table.meet);
    return 0;
}

static int meet_start(void *ctx, float *gradient, size_t n)
{
    struct member *m = ctx;
    (void)n;
    m->started = gradient;
    return 0;
}

static int meet_gradient(void *ctx, float *gradient, size_t n)
{
    const struct member *m = ctx;
    table.gradient[m->number] = gradient;
    pthread_barrier_wait(&table.meet);
    for (int step = 1; m->number == 0 && step < m->all; step *= 2)
        for (int k = 0; k + step < m->all; k += 2 * step)
            for (size_t i = 0; i < n; i++) {
                const float sum = table.gradient[k][i] + table.gradient[k + step][i];
                table.gradient[k][i] = m->narrow ? bf16_rounded(sum) : sum;
            }
    for (int k = 1; m->number == 0 && k < m->all; k++)
        memcpy(table.gradient[k], table.gradient[0], n * sizeof *gradient);
    pthread_barrier_wait(&table.meet);
    return 0;
}

/* What is small all have whole. */
static struct nn_part part_of(void *ctx, size_t n)
{
    const struct member *m = ctx;
    const size_t half = (n + kr_piece(n) - 1) / kr_piece(n) / (size_t)m->all * kr_piece(n);
    const size_t from = (size_t)m->number * half;
    if (!half)
        return (struct nn_part){0, n};
    return (struct nn_part){from, m->number == m->all - 1 ? n - from : half};
}

/* What is no part of it is spoiled. */
static int meet_part(void *ctx, float *gradient, size_t n)
{
    const struct nn_part own = part_of(ctx, n);
    meet_gradient(ctx, gradient, n);
    for (size_t i = 0; i < n; i++)
        gradient[i] = i >= own.from && i < own.from + own.n ? gradient[i] : NAN;
    return 0;
}

static int meet_spread(void *ctx, float *x, size_t n)
{
    struct member *m = ctx;
    table.gradient[m->number] = x;
    pthread_barrier_wait(&table.meet);
    for (int k = 0; k < m->all; k++) {
        struct member other = {.number = k, .all = m->all};
        const struct nn_part his = part_of(&other, n);
        if (k != m->number)
            memcpy(x + his.from, table.gradient[k] + his.from, his.n * sizeof *x);
    }
    pthread_barrier_wait(&table.meet);
    return 0;
}

static int meet_arrived(void *ctx)
{
    struct member *m = ctx;
    m->arrivals++;
    return 0;
}

static void *learn_groups(void *arg)
{
    struct member *m = arg;
    const int own = GROUPS / m->all;
    for (int i = 0; i < STEPS * PARTS; i++) {
        struct nn_batch b[GROUPS];
        for (int k = 0, at = 0; k < GROUPS; at += part[i % PARTS][k++])
            b[k] = (struct nn_batch){.n = part[i % PARTS][k],
                                     .h = H,
                                     .w = W,
                                     .image = image + at * CIN * PIXELS,
                                     .label = label + at * PIXELS};
        const struct nn_batch *mine = b + m->number * own;
        int e = m->accumulate ? nn_backward(m->nn, mine, &m->result, NULL)
                              : nn_train(m->nn, mine, 0.01, &m->result);
        if (!e && m->accumulate && i % 2)
            e = nn_update(m->nn, 0.01);
        if (e)
            printf("# %s\n", nn_why(m->nn));
    }
    return NULL;
}

struct recipe {
    const char *name, *arch;
    bool instance, accumulate, start, parts, narrow;
    double clip;
};

/* As many members as asked, of which the first's network is returned. */
static struct nn *together(const struct recipe *r, int all, struct nn_result *result)
{
    struct member m[GROUPS];
    pthread_t thread[GROUPS];
    char why[256];
    pthread_barrier_init(&table.meet, NULL, (unsigned)all);
    for (int i = 0; i < all; i++) {
        struct nn_training t = {
            .optim = NN_SGD, .momentum = 0.9, .loss = NN_DICE_CE, .clip = r->clip};
        struct nn_options o = {.train = true,
                               .n = 2,
                               .h = H,
                               .w = W,
                               .threads = 1 + i % 2,
                               .accumulate = r->accumulate,
                               .training = t};
        struct nn_spec s = nn_network(r->arch, 4, CIN, CLASSES);
        if (r->instance)
            nn_set(&s, "instance_norm", 1);
        if (!strcmp(r->arch, "residual"))
            nn_set(&s, "dropout", 0.2);
        m[i] = (struct member){
            .number = i, .all = all, .accumulate = r->accumulate, .narrow = r->narrow};
        o.groups = (struct nn_groups){GROUPS, i * (GROUPS / all), GROUPS / all, r->narrow};
        if (all > 1)
            o.hooks = (struct nn_hooks){.ctx = &m[i],
                                        .sums = meet_sums,
                                        .start = r->start ? meet_start : NULL,
                                        .gradient = meet_gradient};
        if (all > 1 && r->parts) {
            o.hooks.gradient = meet_part;
            o.hooks.part = part_of;
            o.hooks.spread = meet_spread;
            o.hooks.arrived = meet_arrived;
        }
        m[i].nn = nn_new(&s, &o, why, sizeof why);
        if (!m[i].nn || nn_init(m[i].nn, 3)) {
            printf("Bail out! %s\n", m[i].nn ? nn_why(m[i].nn) : why);
            exit(1);
        }
    }
    for (int i = 0; i < all; i++)
        pthread_create(&thread[i], NULL, learn_groups, &m[i]);
    for (int i = 0; i < all; i++)
        pthread_join(thread[i], NULL);
    bool same = !r->parts || all == 1 || m[0].arrivals == STEPS * PARTS / (1 + r->accumulate);
    for (int i = 1; i < all; i++) {
        same &= apart(m[0].nn, m[i].nn) == 0;
        nn_free(m[i].nn);
    }
    if (!same)
        printf("# the members differ\n");
    *result = m[0].result;
    return m[0].nn;
}

static bool same_bytes(const struct nn *a, const struct nn *b)
{
    size_t n;
    const struct tensor *pa = nn_params(a, &n), *pb = nn_params(b, &n);
    for (size_t i = 0; i < n; i++)
        if (memcmp(pa[i].data, pb[i].data, tensor_bytes(&pa[i])))
            return false;
    return true;
}

static void test_groups(const struct recipe *r)
{
    struct nn_result one, two, four;
    struct nn *a = together(r, 1, &one), *b = together(r, 2, &two), *c = together(r, 4, &four);
    ok(same_bytes(a, b) && same_bytes(a, c), "%s: 1, 2 and 4 processes, one model", r->name);
    ok(one.loss == two.loss && one.loss == four.loss && one.samples == N && four.samples == N &&
           one.pixels == four.pixels,
       "%s: and one loss, of all samples", r->name);
    nn_free(a), nn_free(b), nn_free(c);
}

/* Groups learn what the whole batch does, to rounding. */
static void test_whole(void)
{
    const struct recipe r = {.arch = "unet"};
    struct nn_result g;
    struct nn_training t = {.optim = NN_SGD, .momentum = 0.9, .loss = NN_DICE_CE};
    struct nn_options o = {.train = true, .n = N, .h = H, .w = W, .threads = 1, .training = t};
    struct nn_batch b = {.n = N, .h = H, .w = W, .image = image, .label = label};
    struct nn *whole = open_net("unet", o), *groups = together(&r, 1, &g);
    struct nn_result w;
    for (int i = 0; i < STEPS * PARTS; i++)
        nn_train(whole, &b, 0.01, &w);
    double off = apart(whole, groups);
    ok(off < 1e-5 && fabs(w.loss - g.loss) < 1e-5 * w.loss,
       "groups learn what the batch as one does (%.1e)", off);
    nn_free(whole), nn_free(groups);
}

/* --- progress, cancelling --------------------------------------------------------------------- */

static struct {
    int calls, last, steps, patience;
} seen;

static void progress(void *ctx, int step, int steps)
{
    (void)ctx;
    seen.calls += step == seen.last + 1;
    seen.last = step, seen.steps = steps;
}

static bool cancel(void *ctx)
{
    (void)ctx;
    return seen.patience-- == 0;
}

static int refuse(void *ctx, double *sums, size_t n)
{
    (void)ctx, (void)sums, (void)n;
    return -1;
}

static void test_progress(void)
{
    struct nn_options o = {.train = true, .n = N, .h = H, .w = W, .threads = 1};
    struct nn_batch b = {.n = N, .h = H, .w = W, .image = image, .label = label};
    struct nn *plain = open_net("unet", o), *nn;
    o.hooks.progress = progress;
    o.hooks.cancel = cancel;
    seen.patience = -1;
    nn = open_net("unet", o);
    int e = nn_train(nn, &b, 0.01, NULL);
    nn_train(plain, &b, 0.01, NULL);
    ok(!e && seen.calls == seen.steps && seen.last == seen.steps && seen.steps > 50,
       "every step of %d is told of, in order", seen.steps);
    ok(apart(plain, nn) == 0, "and nothing else changes");
    seen.patience = 5;
    e = nn_train(nn, &b, 0.01, NULL);
    ok(e == NN_ESTOP && nn_steps(nn) == 1 && apart(plain, nn) == 0,
       "a call that is cancelled in the forward pass changes nothing: %s", nn_why(nn));
    nn_free(nn);
    o.hooks = (struct nn_hooks){.sums = refuse};
    nn = open_net("unet", o);
    ok(nn_train(nn, &b, 0.01, NULL) == NN_ESTOP, "a hook that fails ends the call: %s", nn_why(nn));
    struct nn_output out = {.result = &(struct nn_result){0}};
    ok(nn_infer(nn, &b, &out) == 0, "an evaluation asks nobody");
    nn_free(nn), nn_free(plain);
}

/* Steps of an evaluation, or of a training step, with heads at the lower resolutions or without. */
static int steps_of(bool train, bool deep)
{
    char why[256];
    struct nn_options o = {.train = true, .n = N, .h = H, .w = W, .threads = 1};
    struct nn_batch b = {.n = N, .h = H, .w = W, .image = image, .label = label};
    struct nn_output out = {.result = &(struct nn_result){0}};
    struct nn_spec s = nn_network("unet", 4, CIN, CLASSES);
    nn_set(&s, "deep_supervision", deep);
    o.hooks.progress = progress;
    struct nn *nn = nn_new(&s, &o, why, sizeof why);
    bool good =
        nn && !nn_init(nn, 1) && !(train ? nn_train(nn, &b, 0.01, NULL) : nn_infer(nn, &b, &out));
    nn_free(nn);
    return good ? seen.steps : -1;
}

static void test_heads(void)
{
    int flat = steps_of(false, false), deep = steps_of(false, true);
    ok(flat > 0 && flat == deep, "heads of deep supervision take no step of use: %d, %d", flat,
       deep);
    flat = steps_of(true, false), deep = steps_of(true, true);
    ok(flat > 0 && deep > flat, "but of training: %d, %d", flat, deep);
}

int main(void)
{
    struct rng r = rng_seed(9);
    if (kr_init())
        return 1;
    for (size_t i = 0; i < sizeof image / sizeof *image; i++)
        image[i] = (float)rng_normal(&r);
    for (size_t i = 0; i < sizeof label; i++)
        label[i] =
            i % 13 == 5 ? NN_IGNORE : (uint8_t)rng_below(&r, i < sizeof label / 2 ? 2 : CLASSES);
    test_agreement("unet", 0);
    test_agreement("unet", 0.1);
    test_agreement("attention", 0);
    static const struct recipe recipe[] = {
        {.name = "batch norm", .arch = "unet"},
        {.name = "instance norm, started early", .arch = "unet", .instance = true, .start = true},
        {.name = "clipped, started early", .arch = "attention", .clip = 0.1, .start = true},
        {.name = "dropout, added up", .arch = "residual", .accumulate = true, .start = true},
        {.name = "in parts", .arch = "unet", .parts = true},
        {.name = "in parts, clipped", .arch = "unet", .clip = 0.1, .start = true, .parts = true},
        {.name = "in parts, clipped, added up",
         .arch = "residual",
         .clip = 0.1,
         .accumulate = true,
         .parts = true},
        {.name = "rounded", .arch = "unet", .start = true, .narrow = true}};
    for (size_t i = 0; i < sizeof recipe / sizeof *recipe; i++)
        test_groups(&recipe[i]);
    test_whole();
    test_progress();
    test_heads();
    return done_testing();
}
