/* op_head.c - the end of every network: a 1x1 convolution with a bias makes the logits, planes. Its
 * backward pass begins with the loss, whose gradient is never stored. */
#include "lib/nn/net.h"

#include <assert.h>

static void forward(struct nn *nn, const struct op *op)
{
    struct kr_planes d = nn_planes(nn, op->out);
    struct kr_in in[2];
    nn_operands(nn, op->in[0], in);
    kr_head_forward(&d, in, nn_weight(nn, op, 0), nn_weight(nn, op, 1),
                    (float *)nn->map_at[op->out], nn_workspace(nn));
}

static void backward(struct nn *nn, const struct op *op)
{
    struct kr_planes d = nn_planes(nn, op->out);
    struct kr_loss loss = nn_loss(nn, op->out);
    struct kr_in in[2];
    struct kr_dx dx[2];
    nn_operands(nn, op->in[0], in);
    nn_dx(nn, op, 0, in, dx);
    kr_head_backward(&d, &loss, &nn->sums, in, nn_weight(nn, op, 0), dx, nn_dweight(nn, op, 0),
                     nn_dweight(nn, op, 1), nn_workspace(nn));
}

static size_t workspace(const struct nn *nn, const struct op *op, enum pass pass)
{
    const struct kr_planes d = nn_planes(nn, op->out);
    (void)pass;
    return kr_head_workspace(&d, nn->g.value[op->in[0]].c);
}

static double flops(const struct graph *g, const struct op *op)
{
    return 2.0 * g->value[op->in[0]].c * g->value[op->out].c;
}

static const struct kind kind = {.name = "head",
                                 .forward = forward,
                                 .backward = backward,
                                 .workspace = workspace,
                                 .flops = flops};

int nn_head(struct graph *g, int x, int classes)
{
    struct op *op = nn_append(g, &kind, "head", "");
    uint32_t dim[] = {(uint32_t)classes, (uint32_t)g->value[x].c, 1, 1};
    assert(g->value[x].part[1] < 0);
    nn_param(g, op, "weight", true, 4, dim);
    nn_param(g, op, "bias", true, 1, dim);
    nn_read(g, op, x);
    int logits = nn_map(g, op, classes, g->value[x].level);
    g->value[logits].planes = true;
    return logits;
}
