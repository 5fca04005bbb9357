/* What a network takes of another: by name and shape, channel by channel where the image's differ,
 * output by output where a head's do, and planar kernels for volumes. */
#include "lib/nn/nn.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static char why[256], said[2048];

static struct nn *net(const struct nn_spec *s, uint64_t seed)
{
    const struct nn_options o = {.train = true, .n = 1, .h = 16, .w = 16, .threads = 1};
    struct nn *nn = nn_new(s, &o, why, sizeof why);
    if (!nn || nn_init(nn, seed)) {
        printf("Bail out! %s\n", nn ? nn_why(nn) : why);
        exit(1);
    }
    return nn;
}

static struct nn *unet(int base, int inputs, int classes, uint64_t seed)
{
    const struct nn_spec s = nn_network("unet", base, inputs, classes);
    return net(&s, seed);
}

static const struct tensor *param(const struct nn *nn, const char *name)
{
    size_t n;
    const struct tensor *t = nn_params(nn, &n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(t[i].name, name))
            return &t[i];
    printf("Bail out! no %s\n", name);
    exit(1);
}

static float at(const struct nn *nn, const char *name, size_t i)
{
    return ((const float *)param(nn, name)->data)[i];
}

static void left(void *ctx, const char *name, bool part, const char *text)
{
    size_t n = strlen(said);
    (void)ctx;
    snprintf(said + n, sizeof said - n, "%s%s: %s\n", part ? "part " : "", name, text);
}

static double taken(struct nn *to, const struct nn *from, int inputs, const int *input, int outputs,
                    const int *output)
{
    struct nn_giver g = {
        .inputs = inputs, .outputs = outputs, .input = input, .output = output, .left = left};
    double share = -1;
    g.list = nn_params(from, &g.count);
    *said = 0;
    if (nn_take(to, &g, &share))
        printf("# %s\n", nn_why(to));
    return share;
}

static const int same[4] = {0, 1, 2, 3};

static void whole(void)
{
    struct nn *a = unet(2, 4, 4, 1), *b = unet(2, 4, 4, 2);
    size_t n, m;
    bool equal = true;
    ok(at(a, "head.weight", 0) != at(b, "head.weight", 0), "two seeds are two networks");
    ok(taken(b, a, 4, same, 4, same) == 1 && !*said, "all of the same network is taken");
    const struct tensor *x = nn_params(a, &n), *y = nn_params(b, &m);
    for (size_t i = 0; i < n; i++)
        equal = equal && !memcmp(x[i].data, y[i].data, tensor_bytes(&x[i]));
    ok(n == m && equal, "and it is that network");
    nn_free(b);
    b = unet(3, 4, 4, 2);
    double share = taken(b, a, 4, same, 4, same);
    ok(share < 0.01, "of a network of another width next to nothing fits (%g)", share);
    ok(strstr(said, "enc1.conv1.weight: it has another shape (wanted 3x4x3x3, got 2x4x3x3)\n") !=
           NULL,
       "and it says why");
    nn_free(b);
    struct nn_spec s = nn_network("attention", 2, 4, 4);
    b = net(&s, 2);
    share = taken(b, a, 4, same, 4, same);
    ok(share > 0.9 && share < 1 && strstr(said, ": it has none\n"),
       "with gates more, all but the gates (%g)", share);
    nn_free(a);
    nn_free(b);
}

static void channels(void)
{
    /* Theirs a, b, c; ours c, new, a, b, new. */
    static const int input[5] = {2, -1, 0, 1, -1}, none[5] = {-1, -1, -1, -1, -1};
    struct nn *a = unet(2, 3, 4, 1), *b = unet(2, 5, 4, 2), *fresh = unet(2, 5, 4, 2);
    taken(b, a, 3, input, 4, same);
    bool good = true;
    for (size_t o = 0; o < 2; o++)
        for (size_t i = 0; i < 5; i++)
            for (size_t k = 0; k < 9; k++)
                good = good && at(b, "enc1.conv1.weight", (o * 5 + i) * 9 + k) ==
                                   (input[i] < 0 ? 0
                                                 : at(a, "enc1.conv1.weight",
                                                      (o * 3 + (size_t)input[i]) * 9 + k));
    ok(good, "the image's channels are matched one by one, and a new one's weights are 0");
    ok(!strcmp(said, "part enc1.conv1.weight: it knows 3 of 5 channels of the image\n"),
       "it says how many it knew");
    nn_free(b);
    b = unet(2, 5, 4, 2);
    taken(b, a, 3, none, 4, same);
    ok(!memcmp(param(b, "enc1.conv1.weight")->data, param(fresh, "enc1.conv1.weight")->data,
               tensor_bytes(param(b, "enc1.conv1.weight"))) &&
           !strcmp(said, "enc1.conv1.weight: it knows none of the channels of the image\n"),
       "where none is known the operation stays as it was");
    nn_free(a);
    nn_free(b);
    /* As many, in another order: by their places they would fit, too. */
    static const int turned[4] = {1, 0, 3, 2};
    a = unet(2, 4, 4, 1), b = unet(2, 4, 4, 2);
    ok(taken(b, a, 4, turned, 4, same) == 1 &&
           at(b, "enc1.conv1.weight", 0) == at(a, "enc1.conv1.weight", 9),
       "another order of channels is heeded");
    nn_free(a);
    nn_free(b);
    nn_free(fresh);
}

static void outputs(void)
{
    static const int output[5] = {1, 3, -1, 0, -1};
    struct nn *a = unet(2, 4, 4, 1), *b = unet(2, 4, 5, 2), *fresh = unet(2, 4, 5, 2);
    taken(b, a, 4, same, 4, output);
    bool good = true;
    for (size_t k = 0; k < 5; k++) {
        const struct nn *of = output[k] < 0 ? fresh : a;
        const size_t r = output[k] < 0 ? k : (size_t)output[k];
        good = good && at(b, "head.bias", k) == at(of, "head.bias", r);
        for (size_t c = 0; c < 2; c++)
            good = good && at(b, "head.weight", 2 * k + c) == at(of, "head.weight", 2 * r + c);
    }
    ok(good, "outputs are matched one by one, and a new one stays as initialised");
    ok(!strcmp(said, "part head.weight: it knows 3 of 5 outputs\npart head.bias: it knows 3 of 5 "
                     "outputs\n"),
       "it says how many it knew");
    nn_free(a);
    nn_free(b);
    nn_free(fresh);
}

#define VOLUMES(K3, K2)                                                                            \
    "parameters: {inputs: 2, classes: 4}\n"                                                        \
    "network:\n"                                                                                   \
    "  - {op: input, channels: inputs}\n"                                                          \
    "  - {op: instance_norm, name: first}\n"                                                       \
    "  - {op: convolution, name: one, channels: 3, kernel: " K3 "}\n"                              \
    "  - {op: relu}\n"                                                                             \
    "  - {op: convolution, name: down, channels: 5, kernel: " K2 ", stride: " K2 "}\n"             \
    "  - {op: transposed_convolution, name: up, channels: 3, kernel: " K2 ", stride: " K2 "}\n"    \
    "  - {op: head, name: head, channels: classes}\n"                                              \
    "  - {op: loss}\n"

static void run(struct nn *nn, int d, const float *image, float *logits)
{
    const struct nn_batch b = {.n = 1, .d = d, .h = 8, .w = 8, .image = image};
    const struct nn_output out = {.logits = logits};
    if (nn_infer(nn, &b, &out))
        printf("# %s\n", nn_why(nn));
}

/* A volume whose slices are all one. */
static void volumes(void)
{
    enum { D = 6, P = 64 };
    static const char plane[] = VOLUMES("3", "2"), volume[] = VOLUMES("[3, 3, 3]", "[2, 2, 2]");
    static const int turned[2] = {1, 0};
    const struct nn_spec s2 = {.text = plane, .length = sizeof plane - 1, .name = "plane"};
    const struct nn_spec s3 = {.text = volume, .length = sizeof volume - 1, .name = "volume"};
    const struct nn_options o = {.train = true, .n = 1, .d = D, .h = 8, .w = 8, .threads = 1};
    float slice[2 * P], deep[2 * D * P], want[4 * P], got[4 * D * P];
    struct nn *a = net(&s2, 1), *b = nn_new(&s3, &o, why, sizeof why);
    if (!b || nn_init(b, 2)) {
        printf("Bail out! %s\n", b ? nn_why(b) : why);
        exit(1);
    }
    ((float *)param(a, "first.weight")->data)[1] = 1.7f; /* else all 1 */
    ok(taken(b, a, 2, turned, 4, same) == 1, "kernels of the plane fill those of volumes: %s",
       said);
    for (int i = 0; i < 2 * P; i++)
        slice[i] = (float)sin(0.7 * i * i);
    for (int c = 0; c < 2; c++)
        for (int z = 0; z < D; z++)
            memcpy(deep + (c * D + z) * P, slice + turned[c] * P, P * sizeof *deep);
    run(a, 1, slice, want);
    run(b, D, deep, got);
    double worst = 0;
    for (int c = 0; c < 4; c++)
        for (int z = 0; z < D; z++)
            for (int i = 0; i < P; i++)
                worst =
                    fmax(worst, fabs((double)got[(c * D + z) * P + i] - (double)want[c * P + i]));
    ok(worst < 1e-4, "a volume of equal slices has the values of the slice (%g)", worst);
    ok(at(b, "one.weight", 0) == 0 && at(b, "one.weight", 9) == at(a, "one.weight", 9) &&
           at(b, "one.weight", 18) == 0,
       "theirs is the middle slice, between zeros");
    nn_free(a);
    nn_free(b);
}

int main(void)
{
    kr_init();
    whole();
    channels();
    outputs();
    volumes();
    return done_testing();
}
