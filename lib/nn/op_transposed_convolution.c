/* op_transposed_convolution.c - kernel and stride of the same size: every pixel becomes a block, as
 * torch.nn.ConvTranspose2d and 3d. */
#include "lib/nn/op.h"

enum { CHANNELS, KERNEL, STRIDE, BIAS };

static const struct nn_rule rule[] = {{"channels", NN_INTEGER, 1, 65536, NAN},
                                      {"kernel", NN_AXES, 1, 4, NAN},
                                      {"stride", NN_AXES, 1, 4, NAN},
                                      {"bias", NN_BOOL, 0, 1, 1},
                                      {0}};

static int shape(struct nn_build *b)
{
    const struct nn_attr *a = b->attr;
    uint32_t cin = (uint32_t)b->in[0]->c, cout = (uint32_t)nn_int(a, CHANNELS);
    uint32_t dim[5] = {cin, cout};
    size_t fan = cout; /* torch counts dimensions after the first */
    int rank = 2;
    for (int i = 0; i < 3; i++) {
        int s = (int)a[STRIDE].v[i];
        if (a[KERNEL].v[i] != s)
            return nn_refuse(b, "kernel and stride must be the same");
        if (b->in[0]->down[i] % s)
            return nn_refuse(b, "its map would be finer than the image");
        b->out.down[i] = b->in[0]->down[i] / s;
        fan *= (size_t)s;
        if (i || s > 1)
            dim[rank++] = (uint32_t)s;
    }
    b->out.c = (int)cout;
    nn_declare(b, "weight", true, NN_UNIFORM, fan, rank, dim);
    if (nn_int(a, BIAS))
        nn_declare(b, "bias", true, NN_UNIFORM, fan, 1, &cout);
    return 0;
}

static struct kr_upconv describe(const struct nn_call *c)
{
    const double *s = c->attr[STRIDE].v;
    return (struct kr_upconv){.n = c->x[0].n,
                              .d = c->x[0].d,
                              .h = c->x[0].h,
                              .w = c->x[0].w,
                              .factor = {(int)s[0], (int)s[1], (int)s[2]},
                              .cout = c->y.c,
                              .weight = c->param[0],
                              .bias = c->param[1],
                              .in = c->in[0][0],
                              .threads = c->threads};
}

static struct kr_bf16 as_bf16(const struct nn_call *c)
{
    const struct kr_upconv k = describe(c);
    struct kr_bf16 b = {.conv = {.n = k.n,
                                 .d = k.d,
                                 .h = k.h,
                                 .w = k.w,
                                 .cout = k.cout,
                                 .weight = k.weight,
                                 .bias = k.bias,
                                 .nin = 1,
                                 .in = {k.in},
                                 .threads = k.threads},
                        .transposed = true,
                        .packed = c->packed};
    for (int i = 0; i < 3; i++) {
        b.conv.kernel[i] = b.conv.stride[i] = k.factor[i];
        b.conv.dilation[i] = 1;
    }
    return b;
}

static void forward(const struct nn_call *c)
{
    if (c->bf16) {
        const struct kr_bf16 b = as_bf16(c);
        kr_bf16_forward(&b, &c->out, c->workspace);
        return;
    }
    struct kr_upconv k = describe(c);
    kr_upconv_forward(&k, &c->out, c->workspace);
}

static void weight(const struct nn_call *c)
{
    struct kr_upconv k = describe(c);
    if (c->bf16) {
        const struct kr_bf16 b = as_bf16(c);
        kr_bf16_backward_weight(&b, &c->dy, c->grad[0], c->grad[1], c->workspace);
        return;
    }
    kr_upconv_backward_weight(&k, c->dy.dy, c->grad[0], c->grad[1], c->workspace);
}

static void data(const struct nn_call *c)
{
    if (c->bf16) {
        const struct kr_bf16 b = as_bf16(c);
        kr_bf16_backward_data(&b, &c->dy, &c->dx[0][0], c->workspace);
        return;
    }
    struct kr_upconv k = describe(c);
    kr_upconv_backward_data(&k, c->dy.dy, c->dx[0], c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    if (c->bf16) {
        const struct kr_bf16 b = as_bf16(c);
        return c->pass == PASS_WEIGHT ? kr_bf16_backward_weight_workspace(&b)
               : c->pass == PASS_DATA ? kr_bf16_backward_data_workspace(&b)
                                      : kr_bf16_forward_workspace(&b);
    }
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
                                                  .bf16 = as_bf16,
                                                  .flops = flops};
