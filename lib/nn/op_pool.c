/* op_pool.c - the largest, or the average, of each block, as torch.nn.MaxPool3d and AvgPool3d with
 * stride = size. */
#include "lib/nn/op.h"

enum { SIZE };

static const struct nn_rule rule[] = {{"size", NN_AXES, 1, 4, 2}, {0}};

static int shape(struct nn_build *b)
{
    for (int i = 0; i < 3; i++)
        b->out.down[i] = b->in[0]->down[i] * (int)b->attr[SIZE].v[i];
    return 0;
}

static struct kr_pool describe(const struct nn_call *c, bool average)
{
    const double *s = c->attr[SIZE].v;
    return (struct kr_pool){.n = c->x[0].n,
                            .d = c->x[0].d,
                            .h = c->x[0].h,
                            .w = c->x[0].w,
                            .size = {(int)s[0], (int)s[1], (int)s[2]},
                            .average = average,
                            .threads = c->threads};
}

static void forward(const struct nn_call *c, bool average)
{
    struct kr_pool p = describe(c, average);
    kr_pool_forward(&p, &c->in[0][0], &c->out, c->workspace);
}

static void data(const struct nn_call *c, bool average)
{
    struct kr_pool p = describe(c, average);
    kr_pool_backward(&p, &c->in[0][0], c->dy.dy, &c->dx[0][0], c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->x[0], c->threads);
    return kr_pointwise_workspace(&d, c->y.c);
}

static void max_forward(const struct nn_call *c)
{
    forward(c, false);
}

static void max_data(const struct nn_call *c)
{
    data(c, false);
}

static void average_forward(const struct nn_call *c)
{
    forward(c, true);
}

static void average_data(const struct nn_call *c)
{
    data(c, true);
}

const struct nn_kind nn_max_pool = {.name = "max_pool",
                                    .rule = rule,
                                    .least = 1,
                                    .most = 1,
                                    .reads = NN_VIEWS,
                                    .finishes = true,
                                    .data_reads = true,
                                    .shape = shape,
                                    .forward = max_forward,
                                    .data = max_data,
                                    .workspace = workspace};

const struct nn_kind nn_average_pool = {.name = "average_pool",
                                        .rule = rule,
                                        .least = 1,
                                        .most = 1,
                                        .reads = NN_VIEWS,
                                        .finishes = true,
                                        .shape = shape,
                                        .forward = average_forward,
                                        .data = average_data,
                                        .workspace = workspace};
