/* A volume as a stream of slices is the volume at once, byte for byte: networks that pool along z
 * at 0, 1 and 2 resolutions, with dilation, strides and gates, volumes shallower than the lag,
 * chunks that divide nothing. And what is of a volume as a whole comes when it is over. */
#include "lib/base/rng.h"
#include "lib/nn/nn.h"
#include "tests/lib/like.h"
#include "tests/lib/tap.h"

#include <stdlib.h>
#include <string.h>

enum { CIN = 2, CLASSES = 3, H = 16, W = 32, PLANE = H * W, MOST = 44, MOST_CHUNK = 5 };

static float image[CIN][MOST * PLANE]; /* planes of a whole volume; of which slices are taken */
static uint8_t label[MOST * PLANE];

/* Slices from `first` on, each with its channels; beyond the volume zeros. */
static void slices(int first, int n, int depth, float *to)
{
    for (int z = first; z < first + n; z++)
        for (int c = 0; c < CIN; c++, to += PLANE)
            if (z < depth)
                memcpy(to, image[c] + z * PLANE, PLANE * sizeof *to);
            else
                memset(to, 0, PLANE * sizeof *to);
}

static float volume[CIN * (MOST + 16) * PLANE], whole[CLASSES * (MOST + 16) * PLANE],
    parts[CLASSES * (MOST + 16) * PLANE], one[CLASSES * 64 * PLANE];

/* What the volume gives at once, padded to `all` slices; of each slice its classes side by side, as
 * a stream gives them. */
static bool at_once(const struct nn_spec *s, const struct nn *like, int depth, int all)
{
    struct nn_options o = {.n = 1, .d = all, .h = H, .w = W};
    struct nn *nn = net_like(s, &o, like);
    for (int c = 0; c < CIN; c++)
        for (int z = 0; z < all; z++)
            if (z < depth)
                memcpy(volume + (c * all + z) * PLANE, image[c] + z * PLANE, PLANE * sizeof(float));
            else
                memset(volume + (c * all + z) * PLANE, 0, PLANE * sizeof(float));
    struct nn_batch b = {.n = 1, .d = all, .h = H, .w = W, .image = volume};
    struct nn_output out = {.logits = parts};
    bool ran = !nn_infer(nn, &b, &out);
    for (int z = 0; z < depth; z++)
        for (int k = 0; k < CLASSES; k++)
            memcpy(whole + (z * CLASSES + k) * PLANE, parts + (k * all + z) * PLANE,
                   PLANE * sizeof(float));
    nn_free(nn);
    return ran;
}

/* The same of a network whose samples are slices. */
static bool one_by_one(const struct nn_spec *s, const struct nn *like, int depth)
{
    struct nn_options o = {.n = 1, .h = H, .w = W};
    struct nn *nn = net_like(s, &o, like);
    bool ran = true;
    for (int z = 0; z < depth; z++) {
        struct nn_batch b = {.n = 1, .h = H, .w = W, .image = volume};
        struct nn_output out = {.logits = whole + z * CLASSES * PLANE};
        slices(z, 1, depth, volume);
        ran &= !nn_infer(nn, &b, &out);
    }
    nn_free(nn);
    return ran;
}

/* Takes the volume through the stream; whether all came out that was due, when it was. */
static bool streamed(struct nn *nn, int depth, uint64_t seed)
{
    const struct nn_stream s = nn_stream(nn);
    struct rng r = rng_seed(seed);
    int in = 0, out = 0, nothing = 0, k, n, due;
    bool good = !nn_stream_begin(nn);
    memset(parts, 0, sizeof parts);
    do {
        k = seed ? 1 + (int)(rng_u64(&r) % (unsigned)s.in) : s.in;
        k = k < depth - in || in == depth ? k : depth - in;
        slices(in, k, depth, volume);
        struct nn_result result;
        struct nn_batch b = {.n = k,
                             .h = H,
                             .w = W,
                             .image = in < depth ? volume : NULL,
                             .label = label + out * PLANE};
        struct nn_output o = {.logits = one, .result = &result};
        due = nn_stream_due(nn, k, !b.image);
        n = nn_stream_push(nn, &b, &o);
        if (n != due || n < 0 || n > s.out || out + n > depth) {
            printf("# %d came of %d due, %d before: %s\n", n, due, out, n < 0 ? nn_why(nn) : "");
            return false;
        }
        memcpy(parts + out * CLASSES * PLANE, one, (size_t)(n * CLASSES * PLANE) * sizeof *one);
        good &= !n || result.pixels == (uint64_t)(n * PLANE);
        in += b.image ? k : 0;
        out += n;
        good &= !b.image || out >= in - s.lag; /* no slice comes later than it said */
    } while (out < depth && (in < depth || ++nothing <= s.lag));
    return good && out == depth;
}

static void test(const char *name, const struct nn_spec *spec, const int depths[], int chunks)
{
    char why[256] = "";
    struct nn_about about;
    int bad = nn_about(spec, &about, why, sizeof why), lag = -1;
    if (bad) {
        ok(false, "%s: %s", name, why);
        return;
    }
    struct nn_options o = {.train = true, .n = 1, .d = about.multiple[0], .h = H, .w = W};
    struct nn *first = net_like(spec, &o, NULL);
    bool same = true;
    struct nn *of[MOST_CHUNK] = {NULL};
    for (int i = 0; i < chunks; i++) {
        struct nn_options stream = {
            .n = 1, .h = H, .w = W, .stream = i + 1, .deep = MOST, .threads = 1 + i % 2};
        of[i] = net_like(spec, &stream, first);
    }
    for (int i = 0; depths[i]; i++) {
        const int all = nn_padded(depths[i], about.multiple[0]);
        same &= about.volume ? at_once(spec, first, depths[i], all)
                             : one_by_one(spec, first, depths[i]);
        for (int chunk = 1; chunk <= chunks; chunk++) {
            struct nn *nn = of[chunk - 1];
            lag = nn_stream(nn).lag;
            /* in full chunks, or in what comes */
            bool good = streamed(nn, depths[i], chunk == 4 ? 0 : (uint64_t)chunk);
            good = good &&
                   !memcmp(parts, whole, (size_t)(depths[i] * CLASSES * PLANE) * sizeof *parts);
            if (!good)
                printf("# %d slices, %d at once\n", depths[i], chunk);
            same &= good;
        }
    }
    for (int i = 0; i < chunks; i++)
        nn_free(of[i]);
    nn_free(first);
    ok(same, "%s: a stream with a lag of %d gives what the volume does", name, lag);
}

/* Of base 4: a U-Net of three resolutions, pooled along z where `pool` says. */
#define UNET(z, pool1, pool2)                                                                      \
    "network:\n"                                                                                   \
    "  - {op: input, channels: 2}\n"                                                               \
    "  - {op: convolution, name: a, channels: 4, kernel: [" z ", 3, 3], bias: false}\n"            \
    "  - {op: batch_norm, name: an}\n"                                                             \
    "  - {op: relu, name: skip1}\n"                                                                \
    "  - {op: max_pool, size: [" pool1 ", 2, 2]}\n"                                                \
    "  - {op: convolution, name: b, channels: 8, kernel: [3, 3, 3], bias: false}\n"                \
    "  - {op: batch_norm, name: bn}\n"                                                             \
    "  - {op: relu, name: skip2}\n"                                                                \
    "  - {op: max_pool, size: [" pool2 ", 2, 2]}\n"                                                \
    "  - {op: convolution, name: c, channels: 16, kernel: [3, 3, 3]}\n"                            \
    "  - {op: leaky_relu, slope: 0.1}\n"                                                           \
    "  - {op: transposed_convolution, name: u, channels: 8, kernel: [" pool2                       \
    ", 2, 2], stride: [" pool2 ", 2, 2]}\n"                                                        \
    "  - {op: concat, in: [skip2, u]}\n"                                                           \
    "  - {op: convolution, name: d, channels: 8, kernel: [3, 3, 3], bias: false}\n"                \
    "  - {op: batch_norm, name: dn}\n"                                                             \
    "  - {op: relu}\n"                                                                             \
    "  - {op: transposed_convolution, name: v, channels: 4, kernel: [" pool1                       \
    ", 2, 2], stride: [" pool1 ", 2, 2]}\n"                                                        \
    "  - {op: concat, in: [skip1, v]}\n"                                                           \
    "  - {op: convolution, name: e, channels: 4, kernel: [3, 3, 3]}\n"                             \
    "  - {op: relu}\n"                                                                             \
    "  - {op: head, name: h, channels: 3}\n"                                                       \
    "  - {op: loss}\n"

/* What else reaches along z, and what reads maps of different lags. */
static const char odds[] =
    "network:\n"
    "  - {op: input, channels: 2}\n"
    "  - {op: convolution, name: a, channels: 4, kernel: [5, 3, 3], dilation: [2, 1, 1]}\n"
    "  - {op: convolution, name: b, channels: 6, kernel: [3, 1, 1], stride: [2, 1, 1]}\n"
    "  - {op: relu}\n"
    "  - {op: convolution, name: c, channels: 4, kernel: [2, 2, 2], stride: [2, 2, 2]}\n"
    "  - {op: convolution, name: d, channels: 4, kernel: [7, 1, 1]}\n"
    "  - {op: nearest, name: up, factor: [4, 2, 2]}\n"
    "  - {op: add, name: sum, in: [a, up]}\n"
    "  - {op: attention_score, name: s, in: [a, up]}\n"
    "  - {op: batch_norm, name: sn}\n"
    "  - {op: gate, name: g, in: [sn, sum]}\n"
    "  - {op: average_pool, size: [2, 2, 2]}\n"
    "  - {op: transposed_convolution, name: u, channels: 4, kernel: 2, stride: 2}\n"
    "  - {op: convolution, name: k, channels: 4, kernel: [3, 3, 3]}\n"
    "  - {op: nearest, factor: [2, 1, 1]}\n"
    "  - {op: head, name: h, channels: 3}\n"
    "  - {op: loss}\n";

/* Whose samples are slices. */
static const char planar[] = "network:\n"
                             "  - {op: input, channels: 2}\n"
                             "  - {op: convolution, name: a, channels: 4, kernel: 3}\n"
                             "  - {op: instance_norm, name: n}\n"
                             "  - {op: relu}\n"
                             "  - {op: head, name: h, channels: 3}\n"
                             "  - {op: loss}\n";

static struct nn_spec text(const char *t)
{
    return (struct nn_spec){.text = t, .length = strlen(t), .name = "test"};
}

#define UP "  - {op: nearest, factor: [2, 1, 1]}\n"

/* Between steps of training, as validation does it: as a handle for use alone would. */
static void amid_training(struct nn_spec spec)
{
    enum { DEPTH = 9 };
    struct nn_options o = {
        .train = true, .n = 2, .d = 4, .h = H, .w = W, .stream = 3, .deep = DEPTH};
    struct nn *nn = net_like(&spec, &o, NULL);
    bool good = true;
    for (int i = 0; i < 2; i++) {
        for (int n = 0; n < o.n; n++)
            slices(i, o.d, DEPTH, volume + n * CIN * o.d * PLANE);
        struct nn_batch b = {.n = o.n, .d = o.d, .h = H, .w = W, .image = volume, .label = label};
        good &= !nn_train(nn, &b, 1e-2, NULL);
        good &= at_once(&spec, nn, DEPTH, DEPTH + 1) && streamed(nn, DEPTH, 0);
        good &= !memcmp(parts, whole, DEPTH * CLASSES * PLANE * sizeof *parts);
    }
    nn_free(nn);
    ok(good, "amid training the stream has the parameters as they are");
}

static void too_deep(struct nn_spec spec)
{
    struct nn_options o = {.train = true, .n = 1, .d = 2, .h = H, .w = W, .stream = 3, .deep = 5};
    struct nn *nn = net_like(&spec, &o, NULL);
    struct nn_batch b = {.n = 3, .h = H, .w = W, .image = volume};
    struct nn_output out = {.logits = one};
    ok(!nn_stream_begin(nn) && nn_stream_push(nn, &b, &out) == 0 &&
           nn_stream_push(nn, &b, &out) == NN_EARG &&
           !strcmp(nn_why(nn), "a volume of more than the planned 5 slices"),
       "deeper than planned: %s", nn_why(nn));
    nn_free(nn);
}

static void refused(const char *what, const char *wanted)
{
    char t[1024], why[256] = "";
    snprintf(t, sizeof t,
             "network:\n"
             "  - {op: input, channels: 2}\n"
             "  - {op: convolution, name: a, channels: 4, kernel: [3, 3, 3], stride: [2, 1, 1]}\n"
             "  - %s"
             "  - {op: head, name: h, channels: 3}\n"
             "  - {op: loss}\n",
             what);
    struct nn_spec s = text(t);
    struct nn_options o = {.n = 1, .h = H, .w = W, .stream = 2};
    struct nn *nn = nn_new(&s, &o, why, sizeof why);
    ok(!nn && strstr(why, wanted), "refused: %s", why);
    nn_free(nn);
}

int main(void)
{
    struct rng r = rng_seed(3);
    kr_init();
    for (int c = 0; c < CIN; c++)
        for (int i = 0; i < MOST * PLANE; i++)
            image[c][i] = (float)rng_normal(&r);
    const int depths[] = {1, 2, 7, 13, 0};
    struct nn_spec s = text(UNET("3", "1", "1"));
    test("no pooling along z", &s, depths, 5);
    s = text(UNET("1", "1", "2"));
    test("pooling once", &s, depths, 5);
    s = text(UNET("3", "2", "2"));
    test("pooling twice", &s, depths, 5);
    s = text(odds);
    test("strides, dilation, gates", &s, (const int[]){1, 5, 30, 0}, 5);
    s = text(planar);
    test("a planar network", &s, (const int[]){1, 7, 0}, 3);
    const char *const known[] = {"unet3d", "attention3d", "residual3d", "transunet3d"};
    for (int i = 0; i < 4 && getenv("LONG"); i++)
        for (int pools = 0; pools <= 4; pools += 2) {
            char name[64];
            snprintf(name, sizeof name, "%s, %d times pooled along z", known[i], pools);
            s = nn_network(known[i], 24, CIN, CLASSES);
            nn_set(&s, "pool_z", pools);
            test(name, &s, (const int[]){21, 0}, 5);
        }
    amid_training(text(UNET("3", "1", "2")));
    char volumes[2048];
    snprintf(volumes, sizeof volumes, "%s", UNET("3", "1", "2"));
    for (char *p; (p = strstr(volumes, "batch_norm, name: "));
         memcpy(p, "group_norm, groups: 2, name: ", 29))
        memmove(p + 29, p + 18, strlen(p + 18) + 1);
    s = text(volumes);
    test("of a volume as a whole", &s, (const int[]){1, 2, 7, 44, 0}, 3);
    amid_training(s);
    too_deep(s);
    refused("{op: group_norm, name: g, groups: 2}\n" UP, "'g' (group_norm)");
    refused("{op: instance_norm, name: i}\n" UP, "'i' (instance_norm)");
    refused("{op: attention, name: t, in: [a, a, a]}\n" UP, "'t' (attention)");
    refused("{op: positions, name: p, size: [4, 4, 4]}\n" UP, "'p' (positions)");
    refused("{op: linear_resize, name: l, factor: [2, 1, 1]}\n", "'l' (linear_resize)");
    return done_testing();
}
