/* op_softmax.c - over the channels of each position. */
#include "lib/nn/op.h"

static void forward(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    kr_softmax_forward(&d, &c->in[0][0], &c->out, c->workspace);
}

static void data(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    kr_softmax_backward(&d, &c->in[0][0], c->dy.dy, &c->dx[0][0], c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    return kr_pointwise_workspace(&d, c->y.c);
}

const struct nn_kind nn_softmax = {.name = "softmax",
                                   .least = 1,
                                   .most = 1,
                                   .reads = NN_VIEWS,
                                   .finishes = true,
                                   .data_reads = true,
                                   .forward = forward,
                                   .data = data,
                                   .workspace = workspace};
