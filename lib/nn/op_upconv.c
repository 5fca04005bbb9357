/* op_upconv.c - 2x2 transposed convolution with stride 2 and bias: twice the height and width. */
#include "lib/nn/net.h"

static struct kr_upconv describe(const struct nn *nn, const struct op *op)
{
    struct kr_dims d = nn_dims(nn, op->in[0]);
    struct kr_in in[2];
    nn_operands(nn, op->in[0], in);
    return (struct kr_upconv){.n = d.n,
                              .h = d.h,
                              .w = d.w,
                              .cout = nn->g.value[op->out].c,
                              .weight = nn_weight(nn, op, 0),
                              .bias = nn_weight(nn, op, 1),
                              .in = in[0],
                              .threads = d.threads};
}

static void forward(struct nn *nn, const struct op *op)
{
    struct kr_upconv k = describe(nn, op);
    struct kr_out out = nn_target(nn, op);
    kr_upconv_forward(&k, &out, nn_workspace(nn));
}

static void weight(struct nn *nn, const struct op *op)
{
    struct kr_upconv k = describe(nn, op);
    kr_upconv_backward_weight(&k, nn_dy(nn, op->out), nn_dweight(nn, op, 0), nn_dweight(nn, op, 1),
                              nn_workspace(nn));
}

static void data(struct nn *nn, const struct op *op)
{
    struct kr_upconv k = describe(nn, op);
    struct kr_dx dx[2];
    nn_dx(nn, op, 0, &k.in, dx);
    kr_upconv_backward_data(&k, nn_dy(nn, op->out), dx, nn_workspace(nn));
}

static size_t workspace(const struct nn *nn, const struct op *op, enum pass pass)
{
    (void)pass;
    struct kr_upconv k = describe(nn, op);
    return kr_upconv_workspace(&k);
}

static double flops(const struct graph *g, const struct op *op)
{
    return 2.0 * g->value[op->in[0]].c * g->value[op->out].c;
}

static const struct kind kind = {.name = "upconv",
                                 .narrow = true,
                                 .forward = forward,
                                 .weight = weight,
                                 .data = data,
                                 .workspace = workspace,
                                 .flops = flops};

int nn_upconv(struct graph *g, int x, int cout, const char *block, const char *part)
{
    struct op *op = nn_append(g, &kind, block, part);
    uint32_t dim[] = {(uint32_t)g->value[x].c, (uint32_t)cout, 2, 2}, bias[] = {(uint32_t)cout};
    nn_param(g, op, "weight", true, 4, dim);
    nn_param(g, op, "bias", true, 1, bias);
    nn_read(g, op, x);
    return nn_map(g, op, cout, g->value[x].level - 1);
}
