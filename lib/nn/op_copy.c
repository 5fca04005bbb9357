/* op_copy.c - makes a view a map, or of two maps side by side one. The graph puts it where an
 * operation could not read what it is to read. */
#include "lib/nn/op.h"

static void forward(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    if (c->parts[0] == 2)
        kr_join(&d, c->in[0], &c->out, c->workspace);
    else
        kr_add(&d, 1, c->in[0], &c->out, c->workspace);
}

static void data(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    if (c->parts[0] == 2)
        kr_join_backward(&d, c->dy.dy, c->dx[0], c->workspace);
    else
        kr_add_backward(&d, c->dy.dy, 1, c->dx[0], c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    return kr_pointwise_workspace(&d, c->y.c);
}

const struct nn_kind nn_copy = {.name = "copy",
                                .least = 1,
                                .most = 1,
                                .reads = NN_PARTS,
                                .finishes = true,
                                .forward = forward,
                                .data = data,
                                .workspace = workspace};
