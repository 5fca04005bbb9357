/* What a handle promises: same bytes for any number of threads, for a plan that makes maps again
 * and for a run that is resumed; ceilings that are kept; weights in 16 bits; clear errors. */
#include "lib/base/rng.h"
#include "lib/nn/nn.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 2, H = 48, W = 48, CIN = 4, CLASSES = 4 };
static float image[N * CIN * H * W];
static uint8_t truth[N * H * W];
static const struct nn_batch batch = {.n = N, .h = H, .w = W, .image = image, .label = truth};
static char why[256];

static struct nn_spec spec_of(const char *arch, int base)
{
    struct nn_spec s = nn_network(arch, base, CIN, CLASSES);
    if (!strcmp(arch, "residual"))
        nn_set(&s, "dropout", 0.2);
    return s;
}

static const struct nn_options options = {.train = true, .n = N, .h = H, .w = W, .threads = 2};

static struct nn *net(const char *arch, int base, const struct nn_options *o)
{
    struct nn_spec s = spec_of(arch, base);
    struct nn *nn = nn_new(&s, o, why, sizeof why);
    if (!nn || nn_init(nn, 7)) {
        printf("Bail out! %s\n", nn ? nn_why(nn) : why);
        exit(1);
    }
    return nn;
}

/* Sets out on `steps` steps and returns the loss of the last. */
static double steps(struct nn *nn, int count)
{
    struct nn_result r = {.loss = NAN};
    for (int i = 0; i < count; i++)
        if (nn_train(nn, &batch, 1e-3, &r)) {
            printf("# %s\n", nn_why(nn));
            return NAN;
        }
    return r.loss;
}

static bool same_tensors(const struct tensor *a, size_t na, const struct tensor *b, size_t nb)
{
    bool same = na == nb;
    for (size_t i = 0; same && i < na; i++)
        same = !strcmp(a[i].name, b[i].name) && a[i].dtype == b[i].dtype &&
               !memcmp(a[i].data, b[i].data, tensor_bytes(&a[i]));
    return same;
}

static bool same(const struct nn *a, const struct nn *b)
{
    size_t na, nb;
    const struct tensor *pa = nn_params(a, &na), *pb = nn_params(b, &nb);
    if (!same_tensors(pa, na, pb, nb))
        return false;
    pa = nn_moments(a, &na), pb = nn_moments(b, &nb);
    return same_tensors(pa, na, pb, nb);
}

struct found {
    int again, narrow;
    bool moments;
};

static void find(void *ctx, const char *text)
{
    struct found *f = ctx;
    sscanf(text, "%d maps recomputed, %d kept", &f->again, &f->narrow);
    f->moments |= strstr(text, "moments bf16") != NULL;
}

static struct found plan_of(const struct nn *nn)
{
    struct found f = {0};
    nn_print(nn, find, &f);
    return f;
}

static void test_same_bytes(const char *arch)
{
    const char *name = arch;
    struct nn_options o = options;
    o.threads = 1;
    struct nn *one = net(arch, 6, &o);
    double loss = steps(one, 4);
    for (int t = 2; t <= 4; t += 2) {
        o = options;
        o.threads = t;
        struct nn *many = net(arch, 6, &o);
        steps(many, 4);
        ok(isfinite(loss) && same(one, many), "%s: %d threads train to the same bytes as one", name,
           t);
        static uint8_t pred[2][N * H * W];
        static float prob[2][N * CLASSES * H * W];
        struct nn *pair[2] = {one, many};
        int e = 0;
        for (int k = 0; k < 2; k++) {
            struct nn_output out = {.pred = pred[k], .prob = prob[k]};
            e |= nn_infer(pair[k], &batch, &out);
        }
        ok(!e && !memcmp(pred[0], pred[1], sizeof *pred) && !memcmp(prob[0], prob[1], sizeof *prob),
           "%s: and predict the same", name);
        nn_free(many);
    }

    o = options;
    o.gradients = true;
    struct nn *whole = net(arch, 6, &o);
    steps(whole, 4);
    ok(same(one, whole), "%s: a gradient kept whole gives the same bytes", name);
    nn_free(whole);

    /* Two steps, a copy, validation on the way, two more. */
    struct nn *first = net(arch, 6, &options), *second = net(arch, 6, &options);
    struct nn_result r;
    struct nn_output out = {.result = &r};
    size_t n;
    steps(first, 2);
    int e = nn_infer(first, &batch, &out);
    const struct tensor *p = nn_params(first, &n);
    e |= nn_load(second, p, n);
    p = nn_moments(first, &n);
    for (size_t i = 0; i < n; i++)
        e |= nn_load_moment(second, i, p, n);
    nn_set_steps(second, nn_steps(first));
    steps(second, 2);
    ok(!e && nn_steps(second) == 4 && same(one, second), "%s: a resumed run gives the same bytes",
       name);
    nn_free(first), nn_free(second), nn_free(one);
}

static void test_ceilings(const char *arch)
{
    const char *name = arch;
    struct nn_options o = options;
    o.training.loss = NN_DICE_CE;
    struct nn *free_ = net(arch, 12, &o);
    double loss = steps(free_, 3);
    size_t peak = nn_memory(free_).peak;
    int exact = 0, again = 0, narrow = 0, kept = 0, tried = 0, bad = 0, moments = 0;
    unsigned long long least = 0;
    struct nn_spec s = spec_of(arch, 12);
    for (o.ceiling = peak - 1; !least; o.ceiling -= peak / (tried < 3 ? 400 : 25)) {
        struct nn *nn = nn_new(&s, &o, why, sizeof why);
        if (!nn) {
            sscanf(why, "does not fit in %*u MiB (at least %llu MiB", &least);
            break;
        }
        tried++;
        kept += nn_memory(nn).peak <= o.ceiling;
        struct found f = plan_of(nn);
        nn_init(nn, 7);
        double l = steps(nn, 3);
        bad += !(fabs(l - loss) < 0.03 * loss);
        if (!f.narrow && !f.moments)
            again++, exact += same(nn, free_);
        narrow += f.narrow > 0;
        moments += f.moments;
        nn_free(nn);
    }
    ok(tried > 3 && kept == tried, "%s: %d ceilings below %.1f MiB are kept", name, tried,
       (double)peak / (1 << 20));
    ok(again > 0 && exact == again, "%s: %d plans that recompute maps give the same bytes", name,
       again);
    ok(narrow + moments > 0 && !bad, "%s: %d plans with bf16 maps, %d with bf16 moments come near",
       name, narrow, moments);
    o.ceiling = (size_t)least << 20;
    struct nn *nn = nn_new(&s, &o, why, sizeof why);
    ok(least > 0 && nn, "%s: what is said to be the least does (%llu MiB)", name, least);
    nn_free(nn);
    o.ceiling -= 1 << 20;
    nn = nn_new(&s, &o, why, sizeof why);
    ok(!nn, "%s: and less does not", name);
    nn_free(nn);
    nn_free(free_);
}

/* A slab of slices under a ceiling that has maps recomputed. */
static void test_slab_ceiling(void)
{
    struct nn_options o = {.train = true, .n = 1, .d = 4, .h = 32, .w = 32, .threads = 2};
    const struct nn_batch slab = {.n = 1, .d = 4, .h = 32, .w = 32, .image = image, .label = truth};
    struct nn *free_ = net("unet3d", 4, &o), *nn = NULL;
    struct found f = {0};
    bool kept = true;
    for (o.ceiling = nn_memory(free_).peak - 1; !f.again && kept; o.ceiling -= 64 << 10) {
        nn_free(nn);
        nn = net("unet3d", 4, &o);
        f = plan_of(nn);
        kept = nn_memory(nn).peak <= o.ceiling;
    }
    int e = 0;
    for (int i = 0; i < 2; i++)
        e |= nn_train(free_, &slab, 1e-3, NULL) | nn_train(nn, &slab, 1e-3, NULL);
    ok(!e && kept && f.again && !f.narrow && !f.moments && same(nn, free_),
       "unet3d: %d maps recomputed under a ceiling, the same bytes", f.again);
    nn_free(nn), nn_free(free_);
}

/* A plan is found wherever a lower ceiling has one. */
static void test_every_ceiling(void)
{
    struct nn_options o = {.train = true, .n = 2, .h = 224, .w = 160};
    struct nn_spec s = nn_network("residual", 16, 4, 4);
    struct nn *nn = nn_new(&s, &o, why, sizeof why);
    size_t peak = nn_memory(nn).peak, ceilings = 0, kept = 0;
    unsigned long long least = 0;
    nn_free(nn);
    o.ceiling = 1 << 20;
    nn_free(nn_new(&s, &o, why, sizeof why));
    sscanf(why, "does not fit in 1 MiB (at least %llu MiB", &least);
    for (o.ceiling = least << 20; least && o.ceiling < peak; o.ceiling += 1 << 20, ceilings++) {
        nn = nn_new(&s, &o, why, sizeof why);
        kept += nn && nn_memory(nn).peak <= o.ceiling;
        nn_free(nn);
    }
    ok(ceilings > 20 && kept == ceilings,
       "every ceiling from %llu to %zu MiB has a plan (%zu of %zu)", least, peak >> 20, kept,
       ceilings);
}

/* What is kept, made again or narrowed depends on the ceiling and the shapes: under each ceiling
 * any number of threads learns the same, and the least that would do is the same. */
static void test_ceiling_threads(const char *arch)
{
    const char *name = arch;
    struct nn_options o = options;
    struct nn_spec s = spec_of(arch, 12);
    struct nn *nn = net(arch, 12, &o);
    size_t peak = nn_memory(nn).peak;
    nn_free(nn);
    bool equal = true, kept = true, choices = false;
    for (int i = 1; i <= 3; i++) {
        o.ceiling = peak - (size_t)i * peak / 20;
        o.threads = 1;
        struct nn *one = net(arch, 12, &o);
        steps(one, 2);
        struct found f = plan_of(one);
        choices |= f.again || f.narrow || f.moments;
        for (o.threads = 2; o.threads <= 5; o.threads++) {
            struct nn *many = net(arch, 12, &o);
            kept &= nn_memory(many).peak <= o.ceiling;
            steps(many, 2);
            equal &= same(one, many);
            nn_free(many);
        }
        nn_free(one);
    }
    ok(choices && equal, "%s: under a ceiling 1 to 5 threads train to the same bytes", name);
    ok(kept, "%s: and keep to it", name);
    char first[sizeof why];
    o.ceiling = 1 << 20;
    for (o.threads = 1, equal = true; o.threads <= 5; o.threads++) {
        equal &= !nn_new(&s, &o, why, sizeof why);
        if (o.threads == 1)
            memcpy(first, why, sizeof first);
        equal &= !strcmp(first, why);
    }
    ok(equal, "%s: the least that would do is the same for any number of threads: %s", name, why);
}

static void test_learning(const char *arch, enum nn_optim optim, double rate, const char *label)
{
    struct nn_options o = options;
    o.training = (struct nn_training){.loss = NN_DICE_CE, .optim = optim, .momentum = 0.9};
    struct nn *nn = net(arch, 6, &o);
    struct nn_result r = {0};
    double first = NAN;
    for (int i = 0; i < 40; i++) {
        if (nn_train(nn, &batch, rate, &r))
            break;
        first = i ? first : r.loss;
    }
    ok(r.loss < 0.5 * first, "%s with %s: learns one batch by heart (loss %.2f to %.2f)", arch,
       label, first, r.loss);
    uint64_t hits = 0, pixels = 0;
    for (int c = 0; c < CLASSES; c++)
        hits += r.hit[c], pixels += r.truth[c];
    ok(pixels == r.pixels && r.pixels < N * H * W, "%s with %s: ignored pixels are not counted",
       arch, label);
    ok((double)hits > 0.8 * (double)pixels, "%s with %s: %.0f %% of the pixels are right", arch,
       label, 100.0 * (double)hits / (double)pixels);
    nn_free(nn);
}

/* Any shape within the plan, and the ignored pixels of a padded batch. */
static void test_shapes(void)
{
    struct nn_options o = options;
    o.eval_n = 1, o.eval_h = 64, o.eval_w = 64;
    struct nn *nn = net("unet", 5, &o), *own;
    static float probs[2][CLASSES * 64 * 64];
    static const int shape[][3] = {
        {1, 64, 64}, {1, 16, 16}, {2, 32, 64}, {1, 16, 256}, {4, 32, 32}};
    steps(nn, 3);
    size_t n;
    const struct tensor *p = nn_params(nn, &n);
    bool equal = true;
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        struct nn_spec s = spec_of("unet", 5);
        struct nn_options q = {.n = shape[i][0], .h = shape[i][1], .w = shape[i][2], .threads = 1};
        struct nn_batch b = {.n = q.n, .h = q.h, .w = q.w, .image = image};
        struct nn_output out[2] = {{.prob = probs[0]}, {.prob = probs[1]}};
        own = nn_new(&s, &q, why, sizeof why);
        equal &= own && !nn_load(own, p, n) && !nn_infer(own, &b, &out[0]) &&
                 !nn_infer(nn, &b, &out[1]) &&
                 !memcmp(probs[0], probs[1], sizeof(float) * CLASSES * (size_t)(q.n * q.h * q.w));
        nn_free(own);
    }
    ok(equal, "a plan serves smaller batches and other shapes with the same bytes");
    struct nn_batch b = batch;
    b.n = 1;
    struct nn_result r;
    ok(!nn_train(nn, &b, 1e-3, &r), "a last batch may be smaller");
    b = (struct nn_batch){.n = 1, .h = 80, .w = 64, .image = image};
    struct nn_output out = {.prob = probs[0]};
    ok(nn_infer(nn, &b, &out) == NN_EARG && strstr(nn_why(nn), "80x64"),
       "a batch beyond the plan is an error: %s", nn_why(nn));
    b = (struct nn_batch){.n = 1, .h = 40, .w = 64, .image = image};
    ok(nn_infer(nn, &b, &out) == NN_EARG && strstr(nn_why(nn), "16"),
       "so is a height that 16 does not divide: %s", nn_why(nn));
    nn_free(nn);
}

static void test_narrow_weights(enum dtype dtype)
{
    struct nn *nn = net("attention", 6, &options);
    steps(nn, 2);
    size_t n;
    const struct tensor *p = nn_params(nn, &n);
    struct tensor *rounded = calloc(n, sizeof *rounded), *narrow = calloc(n, sizeof *narrow);
    for (size_t i = 0; i < n; i++) {
        size_t count = tensor_count(&p[i]);
        rounded[i] = narrow[i] = p[i];
        narrow[i].dtype = dtype;
        narrow[i].data = malloc(count * 2);
        rounded[i].data = malloc(count * 4);
        tensor_from_f32(&narrow[i], 0, count, p[i].data);
        tensor_to_f32(&narrow[i], 0, count, rounded[i].data);
    }
    static float prob[2][N * CLASSES * H * W];
    bool good = true;
    size_t weights[2];
    for (int k = 0; k < 2; k++) {
        struct nn_spec s = spec_of("attention", 6);
        struct nn_options o = {.n = N, .h = H, .w = W, .threads = 2, .weights = k ? dtype : DT_F32};
        struct nn *use = nn_new(&s, &o, why, sizeof why);
        struct nn_output out = {.prob = prob[k]};
        good &= use && !nn_load(use, k ? narrow : rounded, n) && !nn_infer(use, &batch, &out);
        weights[k] = use ? nn_memory(use).parameters : 0;
        nn_free(use);
    }
    ok(good && !memcmp(prob[0], prob[1], sizeof *prob) && weights[1] == weights[0] / 2,
       "%s weights take half the memory and give what their values give", dtype_name(dtype));
    for (size_t i = 0; i < n; i++)
        free(rounded[i].data), free(narrow[i].data);
    free(rounded), free(narrow);
    nn_free(nn);
}

/* Two networks by turns, in memory of their own and in that of the larger one. */
static void test_shared_maps(void)
{
    static float prob[2][2][N * CLASSES * H * W];
    static const char *const arch[] = {"unet", "attention"};
    struct nn *from[2], *use[2];
    size_t n, peak[2];
    bool good = true;
    for (int i = 0; i < 2; i++)
        steps(from[i] = net(arch[i], i ? 4 : 6, &options), 2);
    for (int shared = 0; shared < 2; shared++) {
        for (int i = 0; i < 2; i++) {
            struct nn_spec s = spec_of(arch[i], i ? 4 : 6);
            struct nn_options o = {.n = N, .h = H, .w = W, .threads = 2};
            use[i] = nn_new(&s, &o, why, sizeof why);
            peak[i] = nn_memory(use[i]).peak;
        }
        good &= !shared || !nn_share(use[1], use[0]);
        for (int i = 0; i < 2; i++) {
            const struct tensor *p = nn_params(from[i], &n);
            good &= !nn_load(use[i], p, n);
        }
        for (int turn = 0; turn < 4; turn++) {
            struct nn_output out = {.prob = prob[shared][turn % 2]};
            good &= !nn_infer(use[turn % 2], &batch, &out);
        }
        if (shared)
            ok(nn_share(use[0], use[1]) == NN_EARG && nn_share(use[1], from[0]) == NN_EARG,
               "memory that is too small, or of a training, cannot be shared: %s", nn_why(use[1]));
        nn_free(use[1]), nn_free(use[0]);
    }
    ok(good && !memcmp(prob[0], prob[1], sizeof *prob) && peak[0] > peak[1],
       "two networks by turns in the same memory give what they give alone");
    nn_free(from[0]), nn_free(from[1]);
}

/* Logits that are the caller's own, over the image: the same, of less memory, also where the head
 * reads the image. */
static void test_bare(void)
{
    static const char straight[] = "description: a head alone\n"
                                   "parameters: {inputs: 4, classes: 4}\n"
                                   "network:\n"
                                   "  - {op: input, channels: inputs}\n"
                                   "  - {op: head, name: head, channels: classes}\n"
                                   "  - {op: loss}\n";
    const struct nn_spec specs[] = {
        spec_of("unet", 8), {.name = "straight", .text = straight, .length = strlen(straight)}};
    struct nn_options o = {.n = N, .h = H, .w = W, .threads = 2};
    for (int i = 0; i < 2; i++) {
        struct nn *from = nn_new(&specs[i], &options, why, sizeof why);
        size_t n;
        const struct tensor *p = from && !nn_init(from, 3) ? nn_params(from, &n) : NULL;
        static float usual[N * CLASSES * H * W], bare[N * CLASSES * H * W];
        struct nn_batch over = batch;
        size_t maps[2];
        for (int k = 0; k < 2; k++) {
            o.bare = k;
            over.image = k ? bare : image;
            memcpy(bare, image, sizeof image);
            struct nn *nn = nn_new(&specs[i], &o, why, sizeof why);
            const struct nn_output none = {.pred = (uint8_t[N * H * W]){0}},
                                   out = {.logits = k ? bare : usual};
            ok(nn && p && !nn_load(nn, p, n) && !nn_infer(nn, &over, &out), "%s: %s", specs[i].name,
               k ? "logits of the caller's" : "logits");
            if (k)
                ok(nn_infer(nn, &batch, &none) == NN_EARG, "%s: which are wanted", specs[i].name);
            maps[k] = nn_memory(nn).maps;
            nn_free(nn);
        }
        nn_free(from);
        ok(!memcmp(usual, bare, sizeof usual), "%s: the same values", specs[i].name);
        ok(maps[1] <= maps[0], "%s: in no more maps (%zu, %zu)", specs[i].name, maps[0], maps[1]);
    }
}

static void test_clip(void)
{
    struct nn_options o = options;
    o.gradients = true;
    o.training = (struct nn_training){.optim = NN_SGD, .clip = 0.01};
    struct nn *nn = net("unet", 4, &o), *from = net("unet", 4, &o);
    size_t n;
    double norm = 0, moved = 0;
    int e = nn_backward(nn, &batch, NULL, NULL);
    const struct tensor *g = nn_gradients(nn, &n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < tensor_count(&g[i]); j++)
            norm += pow(tensor_get(&g[i], j), 2);
    e |= nn_update(nn, 1);
    const struct tensor *p = nn_params(nn, &n), *q = nn_params(from, &n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < tensor_count(&p[i]) && !strstr(p[i].name, "running"); j++)
            moved += pow(tensor_get(&p[i], j) - tensor_get(&q[i], j), 2);
    ok(!e && sqrt(norm) > 0.02 && fabs(sqrt(moved) - 0.01) < 1e-4,
       "clipping: a gradient of %.3f moves the parameters by %.5f", sqrt(norm), sqrt(moved));
    nn_free(nn), nn_free(from);
}

static float *param(const struct nn *nn, const char *name)
{
    size_t n;
    const struct tensor *p = nn_params(nn, &n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(p[i].name, name))
            return p[i].data;
    return NULL;
}

/* Masks are drawn anew at each step, and are the step's: the same network, batch and step, the same
 * loss. */
static void test_masks(void)
{
    struct nn_options o = options;
    o.gradients = true;
    struct nn *nn = net("residual", 4, &o);
    struct nn_result r[4];
    int e = 0, same = 0;
    for (int i = 0; i < 4; i++) {
        nn_set_steps(nn, (uint64_t)(i % 3));
        e |= nn_backward(nn, &batch, &r[i], NULL);
    }
    for (int i = 0; i < 3; i++)
        same += r[i].loss == r[(i + 1) % 3].loss;
    ok(!e && !same && r[3].loss == r[0].loss, "dropout: each step has its mask (%g, %g, %g)",
       r[0].loss, r[1].loss, r[2].loss);
    nn_free(nn);
}

/* Where a class is neither there nor seen, eps is most of its Dice. */
static void test_eps(void)
{
    struct nn *nn = net("unet", 4, &options);
    static uint8_t none[N * H * W];
    struct nn_batch b = batch;
    struct nn_result r;
    double want = 0;
    b.label = none;
    param(nn, "head.bias")[3] -= 18;
    int e = nn_infer(nn, &b, &(struct nn_output){.result = &r});
    for (int c = 0; c < CLASSES; c++)
        want += 1 - (2 * r.inter[c] + 1e-5) / (r.prob[c] + (double)r.truth[c] + 1e-5);
    ok(!e && r.truth[3] == 0 && r.prob[3] > 1e-6 && r.prob[3] < 0.1 &&
           fabs(r.dice - want / CLASSES) < 1e-6,
       "the loss has the eps of its definition: %.6f, by hand %.6f", r.dice, want / CLASSES);
    nn_free(nn);
}

static void test_no_class(void)
{
    static uint8_t pred[N * H * W];
    struct nn *nn = net("unet", 4, &options);
    int bad = 0;
    param(nn, "head.bias")[2] = NAN;
    int e = nn_infer(nn, &batch, &(struct nn_output){.pred = pred});
    for (int i = 0; i < N * H * W; i++)
        bad += pred[i] != NN_IGNORE;
    ok(e == NN_ENAN && !bad, "logits that are no numbers are no class, and an error: %s",
       nn_why(nn));
    nn_free(nn);
}

static void test_rates(void)
{
    struct nn_rate r = {.schedule = NN_COSINE, .top = 2, .warmup = 4, .steps = 104};
    ok(nn_rate_at(&r, 0) == 0.5 && nn_rate_at(&r, 3) == 2, "the rate warms up");
    ok(fabs(nn_rate_at(&r, 54) - 1) < 1e-12 && nn_rate_at(&r, 4) == 2 &&
           nn_rate_at(&r, 104) < 1e-12,
       "cosine: full, half, nothing");
    r.schedule = NN_POLYNOMIAL;
    ok(fabs(nn_rate_at(&r, 54) - 2 * pow(0.5, 0.9)) < 1e-12 && nn_rate_at(&r, 200) == 0,
       "polynomial: 0.5^0.9 half way, nothing beyond the end");
    r.schedule = NN_CONSTANT;
    ok(nn_rate_at(&r, 1000) == 2, "constant");
}

static bool refused(struct nn_spec s, struct nn_options o, const char *word)
{
    struct nn *nn = nn_new(&s, &o, why, sizeof why);
    bool good = !nn && strstr(why, word);
    if (!good)
        printf("# wanted '%s', got '%s'\n", word, nn ? "a network" : why);
    nn_free(nn);
    return good;
}

static void test_errors(void)
{
    struct nn_spec s = spec_of("unet", 4), bad_spec = s;
    struct nn_options o = options, bad = o;
    bad.h = 40;
    ok(refused(s, bad, "divisible by 16"), "height 40: %s", why);
    bad = o, bad.n = 0;
    ok(refused(s, bad, "batch"), "no samples: %s", why);
    bad = o, bad.h = bad.w = 8192, bad.n = 1024;
    ok(refused(s, bad, "pixels"), "absurd batch: %s", why);
    bad = o, bad.threads = -1;
    ok(refused(s, bad, "threads"), "threads: %s", why);
    nn_set(&bad_spec, "base", 0);
    ok(refused(bad_spec, o, "channels"), "base 0: %s", why);
    bad_spec = s, nn_set(&bad_spec, "classes", 17);
    ok(refused(bad_spec, o, "channels"), "17 classes: %s", why);
    bad_spec = s, nn_set(&bad_spec, "inputs", 65);
    ok(refused(bad_spec, o, "channels"), "65 channels in: %s", why);
    bad_spec = s, nn_set(&bad_spec, "dropout", 0.5);
    ok(refused(bad_spec, o, "dropout"), "dropout in a plain U-Net: %s", why);
    bad_spec = spec_of("residual", 4), nn_set(&bad_spec, "dropout", NAN);
    ok(refused(bad_spec, o, "dropout"), "dropout NaN: %s", why);

    struct nn *nn = net("unet", 4, &o), *other;
    struct nn_result r;
    size_t n;
    const struct tensor *p = nn_params(nn, &n);
    other = nn_new(&s, &o, why, sizeof why);
    ok(nn_train(other, &batch, 1e-3, &r) == NN_EARG, "training before nn_load: %s", nn_why(other));
    ok(nn_load(other, p, n - 1) == NN_EARG && strstr(nn_why(other), p[n - 1].name),
       "a missing parameter: %s", nn_why(other));
    struct tensor *list = malloc(n * sizeof *list);
    memcpy(list, p, n * sizeof *list);
    list[0].dim[0]++;
    ok(nn_load(other, list, n) == NN_EARG && strstr(nn_why(other), "wrong shape"),
       "a wrong shape: %s", nn_why(other));
    free(list);
    nn_free(other);

    uint8_t label = truth[5];
    truth[5] = CLASSES;
    ok(nn_train(nn, &batch, 1e-3, &r) == NN_ELABEL, "a label outside the classes: %s", nn_why(nn));
    truth[5] = label;

    bad = o, bad.trap = true;
    struct nn *trap = net("unet", 4, &bad);
    float pixel = image[100];
    image[100] = NAN;
    ok(nn_train(trap, &batch, 1e-3, &r) == NN_ENAN && strstr(nn_why(trap), "input"),
       "the trap names the input: %s", nn_why(trap));
    other = net("unet", 4, &o);
    ok(nn_train(nn, &batch, 1e-3, &r) == NN_ENAN && same(nn, other) && nn_steps(nn) == 0,
       "without it a loss that is not finite changes nothing: %s", nn_why(nn));
    image[100] = pixel;
    p = nn_params(trap, &n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(p[i].name, "enc3.conv2.weight"))
            ((float *)p[i].data)[17] = INFINITY;
    ok(nn_train(trap, &batch, 1e-3, &r) == NN_ENAN && strstr(nn_why(trap), "enc3.conv2"),
       "the trap names the operation: %s", nn_why(trap));
    nn_free(trap), nn_free(nn), nn_free(other);
}

int main(void)
{
    const char *bad = kr_init();
    if (bad) {
        printf("Bail out! %s\n", bad);
        return 1;
    }
    struct rng r = rng_seed(1);
    for (int i = 0; i < N * H * W; i++) { /* discs in noise, a border that does not count */
        int y = i / W % H, x = i % W, d = (y - 25) * (y - 25) + (x - 24 - i / W / H) * (x - 24);
        truth[i] = y < 2 ? NN_IGNORE : d < 40 ? 3 : d < 120 ? 1 : d < 300 ? 2 : 0;
        for (int c = 0; c < CIN; c++)
            image[(i / (H * W) * CIN + c) * H * W + i % (H * W)] =
                (float)(0.3 * rng_normal(&r) + (truth[i] == c) - 0.4);
    }
    for (int a = 0; a < 3; a++) {
        test_same_bytes(nn_names[a]);
        test_ceilings(nn_names[a]);
        test_ceiling_threads(nn_names[a]);
        test_learning(nn_names[a], NN_ADAM, 3e-3, "Adam");
    }
    test_slab_ceiling();
    test_every_ceiling();
    test_learning("unet", NN_SGD, 2e-2, "SGD");
    test_learning("unet", NN_ADAMW, 3e-3, "AdamW");
    test_shapes();
    test_narrow_weights(DT_F16);
    test_narrow_weights(DT_BF16);
    test_shared_maps();
    test_bare();
    test_clip();
    test_masks();
    test_eps();
    test_no_class();
    test_rates();
    test_errors();
    return done_testing();
}
