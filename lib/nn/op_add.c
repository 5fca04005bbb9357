/* op_add.c - the sum of two values. */
#include "lib/nn/op.h"

static int shape(struct nn_build *b)
{
    return nn_same_size(b) || nn_same_channels(b) ? -1 : 0;
}

static void forward(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    const struct kr_in in[2] = {c->in[0][0], c->in[1][0]};
    kr_add(&d, 2, in, &c->out, c->workspace);
}

static void data(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    const struct kr_dx dx[2] = {c->dx[0][0], c->dx[1][0]};
    kr_add_backward(&d, c->dy.dy, 2, dx, c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    return kr_pointwise_workspace(&d, c->y.c);
}

const struct nn_kind nn_add = {.name = "add",
                               .least = 2,
                               .most = 2,
                               .reads = NN_VIEWS,
                               .finishes = true,
                               .in_place = true,
                               .shape = shape,
                               .forward = forward,
                               .data = data,
                               .workspace = workspace};
