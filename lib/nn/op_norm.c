/* op_norm.c - batch normalisation: a view. The convolution in front leaves the sums, this makes of
 * them a scale and a shift. In use the running statistics' scale and shift are already applied by
 * the convolution as it writes (see nn_target). */
#include "lib/nn/net.h"

#include <assert.h>

enum { GAMMA, BETA, MEAN, VAR }; /* from op->gamma on */

struct kr_bn nn_bn(const struct nn *nn, const struct op *op)
{
    const struct norm *s = &nn->norm[op->id];
    const struct param *p = nn->g.param;
    return (struct kr_bn){.c = op->norm_c,
                          .gamma = nn_weight(nn, op, op->gamma + GAMMA),
                          .beta = nn_weight(nn, op, op->gamma + BETA),
                          .running_mean = p[op->param[op->gamma + MEAN]].t.data,
                          .running_var = p[op->param[op->gamma + VAR]].t.data,
                          .scale = s->scale,
                          .shift = s->shift,
                          .mean = s->mean,
                          .invstd = s->invstd,
                          .eps = 1e-5,
                          .momentum = 0.1};
}

size_t nn_count(const struct nn *nn, const struct op *op)
{
    struct kr_dims d = nn_dims(nn, op->out);
    return (size_t)d.n * (size_t)d.h * (size_t)d.w;
}

static void forward(struct nn *nn, const struct op *op)
{
    struct kr_bn bn = nn_bn(nn, op);
    bn.running_mean = bn.running_var =
        NULL; /* nn_norm_commit, once the loss is known to be finite */
    kr_bn_train(&bn, nn_count(nn, op), nn->norm[op->id].sums);
}

void nn_norm_commit(struct nn *nn, const struct op *op)
{
    struct kr_bn bn = nn_bn(nn, op);
    double n = (double)nn_count(nn, op), unbiased = n > 1 ? n / (n - 1) : 1;
    for (int i = 0; i < bn.c; i++) {
        double var = 1 / (bn.invstd[i] * bn.invstd[i]) - bn.eps;
        bn.running_mean[i] += (float)(bn.momentum * (bn.mean[i] - bn.running_mean[i]));
        bn.running_var[i] += (float)(bn.momentum * (var * unbiased - bn.running_var[i]));
    }
}

static void data(struct nn *nn, const struct op *op)
{
    struct kr_bn bn = nn_bn(nn, op);
    struct kr_dims d = nn_dims(nn, op->out);
    struct kr_in in[2];
    nn_operands(nn, op->out, in);
    float *dy = nn_dy(nn, op->out), *k = nn->norm[op->id].k;
    kr_bn_backward(&bn, nn_count(nn, op), nn->norm[op->id].sums, nn_dweight(nn, op, GAMMA),
                   nn_dweight(nn, op, BETA), k);
    if (!nn->now->behind[nn->g.value[nn->g.value[op->out].root].writer])
        kr_bn_apply(&d, bn.c, dy, in[0].x, in[0].dtype, k, 0, dy);
}

const struct kind nn_kind_norm = {.name = "norm", .view = true, .forward = forward, .data = data};

int nn_norm(struct graph *g, int x, const char *block, const char *part)
{
    struct op *op = nn_append(g, &nn_kind_norm, block, part);
    uint32_t dim[] = {(uint32_t)g->value[x].c};
    assert(g->value[x].root == x);
    op->gamma = 0;
    op->norm_c = g->value[x].c;
    nn_param(g, op, "weight", true, 1, dim);
    nn_param(g, op, "bias", true, 1, dim);
    nn_param(g, op, "running_mean", false, 1, dim);
    nn_param(g, op, "running_var", false, 1, dim);
    int v = nn_view(g, op, x);
    g->value[v].norm = op->id;
    return v;
}
