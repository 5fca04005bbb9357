/* op_max_pool.c - the largest of each block, as torch.nn.MaxPool2d with stride = size. */
#include "lib/nn/op.h"

enum { SIZE };

static const struct nn_rule rule[] = {{"size", NN_AXES, 1, 4, 2}, {0}};

static int shape(struct nn_build *b)
{
    const double *s = b->attr[SIZE].v;
    if (s[0] != 1 || s[1] != 2 || s[2] != 2)
        return nn_refuse(b, "size: wanted 2 in the plane");
    for (int i = 0; i < 3; i++)
        b->out.down[i] = b->in[0]->down[i] * (int)s[i];
    return 0;
}

static void forward(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->x[0], c->threads);
    kr_maxpool_forward(&d, &c->in[0][0], &c->out, c->workspace);
}

static void data(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->x[0], c->threads);
    kr_maxpool_backward(&d, &c->in[0][0], c->dy.dy, &c->dx[0][0], c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->x[0], c->threads);
    return kr_pointwise_workspace(&d, c->y.c);
}

const struct nn_kind nn_max_pool = {.name = "max_pool",
                                    .rule = rule,
                                    .least = 1,
                                    .most = 1,
                                    .reads = NN_VIEWS,
                                    .finishes = true,
                                    .data_reads = true,
                                    .shape = shape,
                                    .forward = forward,
                                    .data = data,
                                    .workspace = workspace};
