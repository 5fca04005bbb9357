/* op_add.c - the sum of two values. */
#include "lib/nn/net.h"

#include <assert.h>

static void forward(struct nn *nn, const struct op *op)
{
    struct kr_dims d = nn_dims(nn, op->out);
    struct kr_in in[2], x[2];
    for (int i = 0; i < 2; i++) {
        nn_operands(nn, op->in[i], x);
        in[i] = x[0];
    }
    struct kr_out out = nn_target(nn, op);
    kr_add(&d, 2, in, &out, nn_workspace(nn));
}

static void data(struct nn *nn, const struct op *op)
{
    struct kr_dims d = nn_dims(nn, op->out);
    struct kr_in in[2][2];
    struct kr_dx dx[2], one[2];
    for (int i = 0; i < 2; i++) {
        nn_operands(nn, op->in[i], in[i]);
        nn_dx(nn, op, i, in[i], one);
        dx[i] = one[0];
    }
    kr_add_backward(&d, nn_dy(nn, op->out), 2, dx, nn_workspace(nn));
}

static size_t workspace(const struct nn *nn, const struct op *op, enum pass pass)
{
    (void)pass;
    struct kr_dims d = nn_dims(nn, op->out);
    return kr_pointwise_workspace(&d, nn->g.value[op->out].c);
}

static const struct kind kind = {.name = "add",
                                 .narrow = true,
                                 .in_place = true,
                                 .forward = forward,
                                 .data = data,
                                 .workspace = workspace};

int nn_add(struct graph *g, int a, int b, const char *block)
{
    struct op *op = nn_append(g, &kind, block, "add");
    assert(g->value[a].c == g->value[b].c && g->value[a].level == g->value[b].level);
    assert(g->value[a].root >= 0 && g->value[b].root >= 0 && g->value[a].root != g->value[b].root);
    nn_read(g, op, a);
    nn_read(g, op, b);
    return nn_map(g, op, g->value[a].c, g->value[a].level);
}
