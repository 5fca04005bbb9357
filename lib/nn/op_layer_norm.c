/* op_layer_norm.c - torch.nn.LayerNorm over the channels of each position. Its statistics are a
 * position's, so it is no view but makes a map. */
#include "lib/nn/op.h"

static const struct nn_rule rule[] = {{"eps", NN_REAL, 1e-12, 1, 1e-5}, {0}};

static int shape(struct nn_build *b)
{
    const uint32_t dim[] = {(uint32_t)b->in[0]->c};
    nn_declare(b, "weight", true, NN_ONES, 0, 1, dim);
    nn_declare(b, "bias", true, NN_ZEROS, 0, 1, dim);
    return 0;
}

static struct kr_layer_norm describe(const struct nn_call *c)
{
    return (struct kr_layer_norm){c->in[0][0], c->param[0], c->param[1], c->attr[0].v[0]};
}

static void forward(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    const struct kr_layer_norm l = describe(c);
    kr_layer_norm_forward(&d, &l, &c->out, c->workspace);
}

static void weight(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    const struct kr_layer_norm l = describe(c);
    kr_layer_norm_backward(&d, &l, c->dy.dy, NULL, c->grad[0], c->grad[1], c->workspace);
}

static void data(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    const struct kr_layer_norm l = describe(c);
    kr_layer_norm_backward(&d, &l, c->dy.dy, &c->dx[0][0], NULL, NULL, c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    return kr_pointwise_workspace(&d, c->y.c);
}

const struct nn_kind nn_layer_norm = {.name = "layer_norm",
                                      .rule = rule,
                                      .least = 1,
                                      .most = 1,
                                      .reads = NN_VIEWS,
                                      .finishes = true,
                                      .data_reads = true,
                                      .shape = shape,
                                      .forward = forward,
                                      .weight = weight,
                                      .data = data,
                                      .workspace = workspace};
