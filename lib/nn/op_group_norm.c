/* op_group_norm.c - group normalisation (Wu & He 2018, arXiv:1803.08494), as torch.nn.GroupNorm,
 * and instance normalisation (Ulyanov et al. 2016, arXiv:1607.08022), which is that of groups of
 * one channel, as torch.nn.InstanceNorm2d. */
#include "lib/nn/op.h"

enum { EPS, AFFINE, GROUPS };
enum { GAMMA, BETA };

static const struct nn_rule group_rule[] = {{"eps", NN_REAL, 1e-12, 1, 1e-5},
                                            {"affine", NN_BOOL, 0, 1, 1},
                                            {"groups", NN_INTEGER, 1, 65536, NAN},
                                            {0}};
static const struct nn_rule instance_rule[] = {
    {"eps", NN_REAL, 1e-12, 1, 1e-5}, {"affine", NN_BOOL, 0, 1, 1}, {0}};

static int instance_shape(struct nn_build *b)
{
    uint32_t c = (uint32_t)b->in[0]->c;
    if (!nn_int(b->attr, AFFINE))
        return 0;
    nn_declare(b, "weight", true, NN_ONES, 0, 1, &c);
    nn_declare(b, "bias", true, NN_ZEROS, 0, 1, &c);
    return 0;
}

static int group_shape(struct nn_build *b)
{
    int c = b->in[0]->c, groups = nn_int(b->attr, GROUPS);
    if (c % groups)
        return nn_refuse(b, "groups must divide the channels (%d, got %d)", c, groups);
    return instance_shape(b);
}

static struct nn_reach reach(const struct nn_attr *a)
{
    (void)a;
    return (struct nn_reach){.whole = true};
}

static struct kr_gn describe(const struct nn_call *c, int groups)
{
    return (struct kr_gn){.n = c->y.n,
                          .d = c->y.d,
                          .c = c->y.c,
                          .groups = groups,
                          .gamma = c->param[GAMMA],
                          .beta = c->param[BETA],
                          .scale = c->norm->scale,
                          .shift = c->norm->shift,
                          .mean = c->norm->mean,
                          .invstd = c->norm->invstd,
                          .eps = c->attr[EPS].v[0]};
}

static void forward(const struct nn_call *c, int groups)
{
    struct kr_gn gn = describe(c, groups);
    kr_gn_train(&gn, (size_t)c->y.h * (size_t)c->y.w, c->norm->sums);
}

static void data(const struct nn_call *c, int groups)
{
    struct kr_gn gn = describe(c, groups);
    kr_gn_backward(&gn, (size_t)c->y.h * (size_t)c->y.w, c->norm->sums, c->grad[GAMMA],
                   c->grad[BETA], c->norm->k);
}

static void group_forward(const struct nn_call *c)
{
    forward(c, nn_int(c->attr, GROUPS));
}

static void group_data(const struct nn_call *c)
{
    data(c, nn_int(c->attr, GROUPS));
}

static void instance_forward(const struct nn_call *c)
{
    forward(c, c->y.c);
}

static void instance_data(const struct nn_call *c)
{
    data(c, c->y.c);
}

const struct nn_kind nn_group_norm = {.name = "group_norm",
                                      .effect = NN_NORM,
                                      .rule = group_rule,
                                      .least = 1,
                                      .most = 1,
                                      .each = true,
                                      .mixes = true,
                                      .reach = reach,
                                      .shape = group_shape,
                                      .forward = group_forward,
                                      .data = group_data};

const struct nn_kind nn_instance_norm = {.name = "instance_norm",
                                         .effect = NN_NORM,
                                         .rule = instance_rule,
                                         .least = 1,
                                         .most = 1,
                                         .each = true,
                                         .reach = reach,
                                         .shape = instance_shape,
                                         .forward = instance_forward,
                                         .data = instance_data};
