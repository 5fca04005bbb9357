/* op_transposed_convolution.c - kernel and stride of the same size: every pixel becomes a block, as
 * torch.nn.ConvTranspose2d. */
#include "lib/nn/op.h"

enum { CHANNELS, KERNEL, STRIDE };

static const struct nn_rule rule[] = {{"channels", NN_INTEGER, 1, 65536, NAN},
                                      {"kernel", NN_AXES, 1, 4, NAN},
                                      {"stride", NN_AXES, 1, 4, NAN},
                                      {0}};

static int shape(struct nn_build *b)
{
    const struct nn_attr *a = b->attr;
    uint32_t cin = (uint32_t)b->in[0]->c, cout = (uint32_t)nn_int(a, CHANNELS);
    uint32_t dim[] = {cin, cout, 2, 2};
    for (int i = 0; i < 3; i++) {
        int s = (int)a[STRIDE].v[i];
        if (a[KERNEL].v[i] != s)
            return nn_refuse(b, "kernel and stride must be the same");
        if (s != (i ? 2 : 1))
            return nn_refuse(b, "stride: wanted 2 in the plane");
        if (b->in[0]->down[i] % s)
            return nn_refuse(b, "its map would be finer than the image");
        b->out.down[i] = b->in[0]->down[i] / s;
    }
    b->out.c = (int)cout;
    size_t fan = 4 * (size_t)cout; /* torch counts dimensions after the first */
    nn_declare(b, "weight", true, NN_UNIFORM, fan, 4, dim);
    nn_declare(b, "bias", true, NN_UNIFORM, fan, 1, &cout);
    return 0;
}

static struct kr_upconv describe(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->x[0], c->threads);
    return (struct kr_upconv){.n = d.n,
                              .h = d.h,
                              .w = d.w,
                              .cout = c->y.c,
                              .weight = c->param[0],
                              .bias = c->param[1],
                              .in = c->in[0][0],
                              .threads = d.threads};
}

static void forward(const struct nn_call *c)
{
    struct kr_upconv k = describe(c);
    kr_upconv_forward(&k, &c->out, c->workspace);
}

static void weight(const struct nn_call *c)
{
    struct kr_upconv k = describe(c);
    kr_upconv_backward_weight(&k, c->dy.dy, c->grad[0], c->grad[1], c->workspace);
}

static void data(const struct nn_call *c)
{
    struct kr_upconv k = describe(c);
    kr_upconv_backward_data(&k, c->dy.dy, c->dx[0], c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    struct kr_upconv k = describe(c);
    return kr_upconv_workspace(&k);
}

static double flops(const struct nn_call *c)
{
    return 2.0 * c->x[0].c * c->y.c * (double)nn_pixels(&c->y);
}

const struct nn_kind nn_transposed_convolution = {.name = "transposed_convolution",
                                                  .rule = rule,
                                                  .least = 1,
                                                  .most = 1,
                                                  .reads = NN_VIEWS,
                                                  .finishes = true,
                                                  .shape = shape,
                                                  .forward = forward,
                                                  .weight = weight,
                                                  .data = data,
                                                  .workspace = workspace,
                                                  .flops = flops};
