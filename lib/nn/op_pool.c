/* op_pool.c - 2x2 max pooling with stride 2. */
#include "lib/nn/net.h"

static void forward(struct nn *nn, const struct op *op)
{
    struct kr_dims d = nn_dims(nn, op->in[0]);
    struct kr_in in[2];
    nn_operands(nn, op->in[0], in);
    struct kr_out out = nn_target(nn, op);
    kr_maxpool_forward(&d, in, &out, nn_workspace(nn));
}

static void data(struct nn *nn, const struct op *op)
{
    struct kr_dims d = nn_dims(nn, op->in[0]);
    struct kr_in in[2];
    struct kr_dx dx[2];
    nn_operands(nn, op->in[0], in);
    nn_dx(nn, op, 0, in, dx);
    kr_maxpool_backward(&d, in, nn_dy(nn, op->out), dx, nn_workspace(nn));
}

static size_t workspace(const struct nn *nn, const struct op *op, enum pass pass)
{
    (void)pass;
    struct kr_dims d = nn_dims(nn, op->in[0]);
    return kr_pointwise_workspace(&d, nn->g.value[op->out].c);
}

static const struct kind kind = {.name = "pool",
                                 .data_reads = true,
                                 .narrow = true,
                                 .forward = forward,
                                 .data = data,
                                 .workspace = workspace};

int nn_pool(struct graph *g, int x, const char *block)
{
    struct op *op = nn_append(g, &kind, block, "pool");
    nn_read(g, op, x);
    return nn_map(g, op, g->value[x].c, g->value[x].level + 1);
}
