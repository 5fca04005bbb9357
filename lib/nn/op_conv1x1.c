/* op_conv1x1.c - 1x1 convolution of shortcuts and gates. */
#include "lib/nn/net.h"

static struct kr_conv1x1 describe(const struct nn *nn, const struct op *op)
{
    struct kr_dims d = nn_dims(nn, op->out);
    struct kr_conv1x1 k = {.n = d.n,
                           .h = d.h,
                           .w = d.w,
                           .cout = nn->g.value[op->out].c,
                           .weight = nn_weight(nn, op, 0),
                           .bias = nn_weight(nn, op, 1),
                           .threads = d.threads};
    k.nin = nn_operands(nn, op->in[0], k.in);
    return k;
}

static void forward(struct nn *nn, const struct op *op)
{
    struct kr_conv1x1 k = describe(nn, op);
    struct kr_out out = nn_target(nn, op);
    kr_conv1x1_forward(&k, &out, nn_workspace(nn));
}

static void weight(struct nn *nn, const struct op *op)
{
    struct kr_conv1x1 k = describe(nn, op);
    kr_conv1x1_backward_weight(&k, nn_dy(nn, op->out), nn_dweight(nn, op, 0), nn_dweight(nn, op, 1),
                               nn_workspace(nn));
}

static void data(struct nn *nn, const struct op *op)
{
    struct kr_conv1x1 k = describe(nn, op);
    struct kr_dx dx[2];
    nn_dx(nn, op, 0, k.in, dx);
    kr_conv1x1_backward_data(&k, nn_dy(nn, op->out), dx, nn_workspace(nn));
}

static bool planar(const struct nn *nn, const struct op *op)
{
    (void)nn, (void)op;
    return true;
}

static size_t workspace(const struct nn *nn, const struct op *op, enum pass pass)
{
    (void)pass;
    struct kr_conv1x1 k = describe(nn, op);
    return kr_conv1x1_workspace(&k);
}

static double flops(const struct graph *g, const struct op *op)
{
    return 2.0 * g->value[op->in[0]].c * g->value[op->out].c;
}

static const struct kind kind = {.name = "conv1x1",
                                 .narrow = true,
                                 .forward = forward,
                                 .weight = weight,
                                 .data = data,
                                 .planar = planar,
                                 .workspace = workspace,
                                 .flops = flops};

int nn_conv1x1(struct graph *g, int x, int cout, bool bias, const char *block, const char *part)
{
    struct op *op = nn_append(g, &kind, block, part);
    uint32_t dim[] = {(uint32_t)cout, (uint32_t)g->value[x].c, 1, 1};
    nn_param(g, op, "weight", true, 4, dim);
    if (bias)
        nn_param(g, op, "bias", true, 1, dim);
    nn_read(g, op, x);
    return nn_map(g, op, cout, g->value[x].level);
}
