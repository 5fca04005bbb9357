/* op_batch_norm.c - batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167), as
 * torch.nn.BatchNorm2d. */
#include "lib/nn/op.h"

enum { EPS, MOMENTUM };
enum { GAMMA, BETA, MEAN, VAR };

static const struct nn_rule rule[] = {
    {"eps", NN_REAL, 1e-12, 1, 1e-5}, {"momentum", NN_REAL, 0, 1, 0.1}, {0}};

static int shape(struct nn_build *b)
{
    uint32_t c = (uint32_t)b->in[0]->c;
    nn_declare(b, "weight", true, NN_ONES, 0, 1, &c);
    nn_declare(b, "bias", true, NN_ZEROS, 0, 1, &c);
    nn_declare(b, "running_mean", false, NN_ZEROS, 0, 1, &c);
    nn_declare(b, "running_var", false, NN_ONES, 0, 1, &c);
    return 0;
}

static struct kr_bn describe(const struct nn_call *c)
{
    return (struct kr_bn){.c = c->y.c,
                          .gamma = c->param[GAMMA],
                          .beta = c->param[BETA],
                          .running_mean = c->statistic[MEAN],
                          .running_var = c->statistic[VAR],
                          .scale = c->norm->scale,
                          .shift = c->norm->shift,
                          .mean = c->norm->mean,
                          .invstd = c->norm->invstd,
                          .eps = c->attr[EPS].v[0],
                          .momentum = c->attr[MOMENTUM].v[0]};
}

static void forward(const struct nn_call *c)
{
    struct kr_bn bn = describe(c);
    bn.running_mean = bn.running_var = NULL; /* commit, once the loss is known to be finite */
    kr_bn_train(&bn, c->norm->count, c->norm->sums);
}

static void commit(const struct nn_call *c)
{
    struct kr_bn bn = describe(c);
    double n = (double)c->norm->count, unbiased = n > 1 ? n / (n - 1) : 1;
    for (int i = 0; i < bn.c; i++) {
        double var = 1 / (bn.invstd[i] * bn.invstd[i]) - bn.eps;
        bn.running_mean[i] += (float)(bn.momentum * (bn.mean[i] - bn.running_mean[i]));
        bn.running_var[i] += (float)(bn.momentum * (var * unbiased - bn.running_var[i]));
    }
}

static void prepare(const struct nn_call *c)
{
    struct kr_bn bn = describe(c);
    kr_bn_eval(&bn);
}

static void data(const struct nn_call *c)
{
    struct kr_bn bn = describe(c);
    kr_bn_backward(&bn, c->norm->count, c->norm->sums, c->grad[GAMMA], c->grad[BETA], c->norm->k);
}

const struct nn_kind nn_batch_norm = {.name = "batch_norm",
                                      .effect = NN_NORM,
                                      .rule = rule,
                                      .least = 1,
                                      .most = 1,
                                      .shape = shape,
                                      .forward = forward,
                                      .data = data,
                                      .prepare = prepare,
                                      .commit = commit};
