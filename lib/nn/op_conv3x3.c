/* op_conv3x3.c - 3x3 convolution, zero padding, no bias: a normalisation follows. */
#include "lib/nn/net.h"

static struct kr_conv3x3 describe(const struct nn *nn, const struct op *op)
{
    struct kr_dims d = nn_dims(nn, op->out);
    struct kr_conv3x3 k = {.n = d.n,
                           .h = d.h,
                           .w = d.w,
                           .cout = nn->g.value[op->out].c,
                           .weight = nn_weight(nn, op, 0),
                           .algo = nn->opt.algo,
                           .threads = d.threads};
    k.nin = nn_operands(nn, op->in[0], k.in);
    return k;
}

static void forward(struct nn *nn, const struct op *op)
{
    struct kr_conv3x3 k = describe(nn, op);
    struct kr_out out = nn_target(nn, op);
    kr_conv3x3_forward(&k, &out, nn_workspace(nn));
}

static struct kr_dy gradient(const struct nn *nn, const struct op *op)
{
    struct kr_dy dy = {.dy = nn_dy(nn, op->out)};
    if (nn->now->behind[op->id]) {
        dy.x = (const float *)nn->map_at[op->out];
        dy.k = nn->norm[nn->g.value[nn->g.value[op->out].last].norm].k;
    }
    return dy;
}

static void weight(struct nn *nn, const struct op *op)
{
    struct kr_conv3x3 k = describe(nn, op);
    struct kr_dy dy = gradient(nn, op);
    kr_conv3x3_backward_weight(&k, &dy, nn_dweight(nn, op, 0), nn_workspace(nn));
}

static void data(struct nn *nn, const struct op *op)
{
    struct kr_conv3x3 k = describe(nn, op);
    struct kr_dx dx[2];
    nn_dx(nn, op, 0, k.in, dx);
    kr_conv3x3_backward_data(&k, nn_dy(nn, op->out), dx, nn_workspace(nn));
}

static void backward(struct nn *nn, const struct op *op)
{
    struct kr_conv3x3 k = describe(nn, op);
    struct kr_dy dy = gradient(nn, op);
    struct kr_dx dx[2];
    nn_dx(nn, op, 0, k.in, dx);
    kr_conv3x3_backward(&k, &dy, dx, nn_dweight(nn, op, 0), nn_workspace(nn));
}

static bool behind(const struct nn *nn, const struct op *op, bool data)
{
    struct kr_conv3x3 k = describe(nn, op);
    return kr_conv3x3_fuses(&k, data);
}

static bool planar(const struct nn *nn, const struct op *op)
{
    struct kr_conv3x3 k = describe(nn, op);
    return kr_conv3x3_planar(&k);
}

static size_t workspace(const struct nn *nn, const struct op *op, enum pass pass)
{
    struct kr_conv3x3 k = describe(nn, op);
    return pass == PASS_WEIGHT     ? kr_conv3x3_backward_weight_workspace(&k)
           : pass == PASS_DATA     ? kr_conv3x3_backward_data_workspace(&k)
           : pass == PASS_BACKWARD ? kr_conv3x3_backward_workspace(&k)
                                   : kr_conv3x3_forward_workspace(&k);
}

static double flops(const struct graph *g, const struct op *op)
{
    return 18.0 * g->value[op->in[0]].c * g->value[op->out].c;
}

static const struct kind kind = {.name = "conv3x3",
                                 .narrow = true,
                                 .forward = forward,
                                 .weight = weight,
                                 .data = data,
                                 .backward = backward,
                                 .behind = behind,
                                 .planar = planar,
                                 .workspace = workspace,
                                 .flops = flops};

int nn_conv3x3(struct graph *g, int x, int cout, const char *block, const char *part)
{
    struct op *op = nn_append(g, &kind, block, part);
    uint32_t dim[] = {(uint32_t)cout, (uint32_t)g->value[x].c, 3, 3};
    nn_param(g, op, "weight", true, 4, dim);
    nn_read(g, op, x);
    return nn_map(g, op, cout, g->value[x].level);
}
