/* op_curve.c - sigmoid and GELU: activations that no kernel applies as it reads. */
#include "lib/nn/op.h"

static void forward(const struct nn_call *c, enum kr_curve curve)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    kr_curve_forward(&d, curve, &c->in[0][0], &c->out, c->workspace);
}

static void data(const struct nn_call *c, enum kr_curve curve)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    kr_curve_backward(&d, curve, &c->in[0][0], c->dy.dy, &c->dx[0][0], c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    return kr_pointwise_workspace(&d, c->y.c);
}

#define CURVE(kind, CURVE)                                                                         \
    static void kind##_forward(const struct nn_call *c)                                            \
    {                                                                                              \
        forward(c, CURVE);                                                                         \
    }                                                                                              \
    static void kind##_data(const struct nn_call *c)                                               \
    {                                                                                              \
        data(c, CURVE);                                                                            \
    }                                                                                              \
    const struct nn_kind nn_##kind = {.name = #kind,                                               \
                                      .least = 1,                                                  \
                                      .most = 1,                                                   \
                                      .reads = NN_VIEWS,                                           \
                                      .finishes = true,                                            \
                                      .in_place = true,                                            \
                                      .data_reads = true,                                          \
                                      .forward = kind##_forward,                                   \
                                      .data = kind##_data,                                         \
                                      .workspace = workspace};

CURVE(sigmoid, KR_SIGMOID)
CURVE(gelu, KR_GELU)
