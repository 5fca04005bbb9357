/* A slice's logits are the same bytes alone and among others, whatever the plan was made for: the
 * order of every sum in use depends on channels, height and width. Networks whose convolutions go
 * either way (fused or in panels, small tiles or large) as their batch grows. */
#include "lib/base/rng.h"
#include "lib/nn/nn.h"
#include "tests/lib/like.h"
#include "tests/lib/tap.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 8, CIN = 4, CLASSES = 4 };

static float *image, *alone, *among;

/* The logits of `count` slices from number `first` on. */
static bool logits(struct nn *nn, int first, int count, int h, int w, float *to)
{
    size_t plane = (size_t)h * (size_t)w;
    struct nn_batch b = {.n = count, .h = h, .w = w, .image = image + (size_t)first * CIN * plane};
    struct nn_output out = {.logits = to + (size_t)first * CLASSES * plane};
    return !nn_infer(nn, &b, &out);
}

static void test(const char *arch, int base, int h, int w)
{
    size_t slice = (size_t)CIN * (size_t)h * (size_t)w, bytes = MOST * slice * sizeof(float);
    struct rng r = rng_seed(3);
    image = malloc(bytes), alone = malloc(bytes), among = malloc(bytes);
    for (size_t i = 0; i < MOST * slice; i++)
        image[i] = (float)rng_normal(&r);
    struct nn_spec spec = nn_network(arch, base, CIN, CLASSES);
    struct nn_options o = {.train = true, .n = 1, .h = 16, .w = 16, .threads = 1};
    struct nn *first = net_like(&spec, &o, NULL);
    o = (struct nn_options){.n = 1, .h = h, .w = w, .threads = 1};
    struct nn *nn = net_like(&spec, &o, first);
    bool ran = true, same = true;
    for (int i = 0; i < MOST; i++)
        ran &= logits(nn, i, 1, h, w, alone);
    nn_free(nn);
    o.n = MOST;
    o.threads = 3;
    nn = net_like(&spec, &o, first);
    for (int group = 1; group <= MOST; group++) {
        memset(among, 0, bytes);
        for (int i = 0; i < MOST; i += group)
            ran &= logits(nn, i, group < MOST - i ? group : MOST - i, h, w, among);
        same &= !memcmp(alone, among, bytes);
        if (memcmp(alone, among, bytes))
            printf("# in groups of %d\n", group);
    }
    nn_free(nn);
    nn_free(first);
    ok(ran && same, "%s of base %d, %dx%d: the same logits alone and among up to %d", arch, base, h,
       w, MOST);
    free(image), free(alone), free(among);
}

int main(void)
{
    bool full = getenv("LONG");
    kr_init();
    for (int arch = 0; arch < 3; arch++) {
        test(nn_names[arch], 12, 80, 96);
        test(nn_names[arch], 16, 64, 96);
        if (full) {
            test(nn_names[arch], 64, 48, 48);
            test(nn_names[arch], 32, 160, 192);
            test(nn_names[arch], 64, 96, 112);
        }
    }
    return done_testing();
}
