/* op_linear.c - torch.nn.Linear at each position: a product of matrices, by OpenBLAS. (A 1x1
 * convolution computes the same by kernels of ours, which read views and parts as they are.) */
#include "lib/nn/op.h"

#include "lib/kernels/product.h"

#include <string.h>

enum { CHANNELS, BIAS };

static const struct nn_rule rule[] = {
    {"channels", NN_INTEGER, 1, 65536, NAN}, {"bias", NN_BOOL, 0, 1, 1}, {0}};

static int shape(struct nn_build *b)
{
    const int cin = b->in[0]->c, cout = nn_int(b->attr, CHANNELS);
    const uint32_t dim[] = {(uint32_t)cout, (uint32_t)cin};
    b->out.c = cout;
    nn_declare(b, "weight", true, NN_UNIFORM, (size_t)cin, 2, dim);
    if (nn_int(b->attr, BIAS))
        nn_declare(b, "bias", true, NN_UNIFORM, (size_t)cin, 1, dim);
    return 0;
}

static struct kr_linear describe(const struct nn_call *c)
{
    return (struct kr_linear){nn_slices(&c->y, c->threads), c->x[0].c, c->y.c, c->param[0],
                              c->param[1]};
}

static void forward(const struct nn_call *c)
{
    const struct kr_linear l = describe(c);
    kr_linear_forward(&l, c->in[0][0].x, c->out.y);
}

static void weight(const struct nn_call *c)
{
    const struct kr_linear l = describe(c);
    if (c->grad[1] && c->centred)
        memset(c->grad[1], 0, (size_t)c->y.c * sizeof(float));
    kr_linear_backward_weight(&l, c->in[0][0].x, c->dy.dy, c->grad[0],
                              c->centred ? NULL : c->grad[1], c->workspace);
}

static void data(const struct nn_call *c)
{
    const struct kr_linear l = describe(c);
    kr_linear_backward_data(&l, c->dy.dy, c->dx[0][0].dx, c->dx[0][0].accumulate);
}

static size_t workspace(const struct nn_call *c)
{
    const struct kr_linear l = describe(c);
    return c->pass == PASS_WEIGHT ? kr_linear_workspace(&l) : 0;
}

static double flops(const struct nn_call *c)
{
    return 2.0 * c->x[0].c * c->y.c * (double)nn_pixels(&c->y);
}

const struct nn_kind nn_linear = {.name = "linear",
                                  .rule = rule,
                                  .least = 1,
                                  .most = 1,
                                  .reads = NN_PLAIN,
                                  .products = true,
                                  .shape = shape,
                                  .forward = forward,
                                  .weight = weight,
                                  .data = data,
                                  .workspace = workspace,
                                  .flops = flops};
