/* The hooks of a handle: two that share a batch and agree at every sum learn what one learns of the
 * whole; progress counts every step; a cancelled call says so and changes nothing; what serves
 * training alone takes no step of use. */
#include "lib/base/rng.h"
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
        o.hooks = (struct nn_hooks){&half[i], add_sums, add_gradient, NULL, NULL};
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
    test_progress();
    test_heads();
    return done_testing();
}
