/* op_input.c - the batch's planar image becomes a map, where an operation cannot read it as it is.
 */
#include "lib/nn/op.h"

#include <string.h>

static const struct nn_rule rule[] = {{"channels", NN_INTEGER, 1, NN_MAX_CIN, NAN}, {0}};

static int shape(struct nn_build *b)
{
    b->out = (struct nn_extent){nn_int(b->attr, 0), {1, 1, 1}};
    return 0;
}

static void forward(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    const size_t plane = (size_t)c->y.h * (size_t)c->y.w, cp = (size_t)kr_pad(c->y.c);
    const float *image = c->io->batch->image;
    if (!image) { /* beyond the end of a stream */
        memset(c->out.y, 0, nn_pixels(&c->y) * cp * sizeof(float));
        return;
    }
    if (c->y.d == 1) {
        kr_from_planar(&d, c->y.c, image, c->out.y, c->out.dtype);
        return;
    }
    /* planes of a volume are (N,C,D,H,W): a slice's lie D planes apart */
    float *map = c->out.y;
    for (int n = 0; n < c->y.n; n++)
        for (int z = 0; z < c->y.d; z++)
            for (size_t p = 0; p < plane; p++)
                for (size_t k = 0; k < cp; k++)
                    map[(((size_t)n * (size_t)c->y.d + (size_t)z) * plane + p) * cp + k] =
                        k < (size_t)c->y.c
                            ? image[(((size_t)n * (size_t)c->y.c + k) * (size_t)c->y.d +
                                     (size_t)z) *
                                        plane +
                                    p]
                            : 0;
}

const struct nn_kind nn_input = {
    .name = "input", .effect = NN_INPUT, .rule = rule, .shape = shape, .forward = forward};
