/* op_convolution.c - convolution with zero padding that keeps the size (divided by the stride), as
 * torch.nn.Conv2d and Conv3d. 3x3 in the plane, 3x3x3 and 1x1, of stride 1, have kernels of their
 * own. */
#include "lib/nn/op.h"

#include <string.h>

enum { CHANNELS, KERNEL, STRIDE, DILATION, BIAS };

static const struct nn_rule rule[] = {{"channels", NN_INTEGER, 1, 65536, NAN},
                                      {"kernel", NN_AXES, 1, 7, NAN},
                                      {"stride", NN_AXES, 1, 4, 1},
                                      {"dilation", NN_AXES, 1, 16, 1},
                                      {"bias", NN_BOOL, 0, 1, 1},
                                      {0}};

static bool is(const struct nn_attr *a, int i, int z, int y, int x)
{
    return a[i].v[0] == z && a[i].v[1] == y && a[i].v[2] == x;
}

enum road { ROAD_3X3, ROAD_1X1, ROAD_GENERAL };

static enum road road(const struct nn_attr *a)
{
    if (!is(a, STRIDE, 1, 1, 1))
        return ROAD_GENERAL;
    if ((is(a, KERNEL, 1, 3, 3) || is(a, KERNEL, 3, 3, 3)) && is(a, DILATION, 1, 1, 1))
        return ROAD_3X3;
    return is(a, KERNEL, 1, 1, 1) ? ROAD_1X1 : ROAD_GENERAL;
}

static int shape(struct nn_build *b)
{
    const struct nn_attr *a = b->attr;
    uint32_t dim[5] = {(uint32_t)nn_int(a, CHANNELS), (uint32_t)b->in[0]->c};
    size_t fan = (size_t)b->in[0]->c;
    int rank = 2;
    for (int i = 0; i < 3; i++) {
        int k = (int)a[KERNEL].v[i], s = (int)a[STRIDE].v[i];
        if (k % 2 == 0 && (k != s || a[DILATION].v[i] != 1))
            return nn_refuse(
                b, "kernel: an even one must be as its stride, without dilation (got %d)", k);
        b->out.down[i] = b->in[0]->down[i] * s;
        fan *= (size_t)k;
        if (i || k > 1)
            dim[rank++] = (uint32_t)k;
    }
    b->out.c = nn_int(a, CHANNELS);
    nn_declare(b, "weight", true, NN_UNIFORM, fan, rank, dim);
    if (nn_int(a, BIAS))
        nn_declare(b, "bias", true, NN_UNIFORM, fan, 1, dim);
    return 0;
}

/* Padding is on both sides, and an output's slice lies over the first of a stride. */
static struct nn_reach reach(const struct nn_attr *a)
{
    const int k = (int)a[KERNEL].v[0], s = (int)a[STRIDE].v[0], d = (int)a[DILATION].v[0];
    const int padding = k % 2 ? d * (k - 1) / 2 : 0, behind = padding - (s - 1);
    return (struct nn_reach){padding, behind > 0 ? behind : 0, false};
}

static struct kr_conv3x3 as_3x3(const struct nn_call *c)
{
    return (struct kr_conv3x3){.n = c->y.n,
                               .d = c->y.d,
                               .h = c->y.h,
                               .w = c->y.w,
                               .depth = (int)c->attr[KERNEL].v[0],
                               .before = c->beside.before,
                               .behind = c->beside.behind,
                               .cout = c->y.c,
                               .weight = c->param[0],
                               .bias = c->param[1],
                               .nin = c->parts[0],
                               .in = {c->in[0][0], c->in[0][1]},
                               .algo = c->algo,
                               .threads = c->threads};
}

static struct kr_conv1x1 as_1x1(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    return (struct kr_conv1x1){.n = d.n,
                               .h = d.h,
                               .w = d.w,
                               .cout = c->y.c,
                               .weight = c->param[0],
                               .bias = c->param[1],
                               .nin = c->parts[0],
                               .in = {c->in[0][0], c->in[0][1]},
                               .threads = d.threads};
}

static struct kr_conv as_any(const struct nn_call *c)
{
    struct kr_conv k = {.n = c->x[0].n,
                        .d = c->x[0].d,
                        .h = c->x[0].h,
                        .w = c->x[0].w,
                        .cout = c->y.c,
                        .weight = c->param[0],
                        .bias = c->param[1],
                        .nin = c->parts[0],
                        .in = {c->in[0][0], c->in[0][1]},
                        .before = c->beside.before,
                        .behind = c->beside.behind,
                        .threads = c->threads};
    for (int i = 0; i < 3; i++) {
        k.kernel[i] = (int)c->attr[KERNEL].v[i];
        k.stride[i] = (int)c->attr[STRIDE].v[i];
        k.dilation[i] = (int)c->attr[DILATION].v[i];
    }
    return k;
}

static void forward(const struct nn_call *c)
{
    if (road(c->attr) == ROAD_GENERAL) {
        struct kr_conv k = as_any(c);
        kr_conv_forward(&k, &c->out, c->workspace);
    } else if (road(c->attr) == ROAD_3X3) {
        struct kr_conv3x3 k = as_3x3(c);
        kr_conv3x3_forward(&k, &c->out, c->workspace);
    } else {
        struct kr_conv1x1 k = as_1x1(c);
        kr_conv1x1_forward(&k, &c->out, c->workspace);
    }
}

/* The bias's gradient, where kernels are to make it. */
static float *dbias(const struct nn_call *c)
{
    if (c->grad[1] && c->centred)
        memset(c->grad[1], 0, (size_t)c->y.c * sizeof(float));
    return c->centred ? NULL : c->grad[1];
}

/* It is the sum of the output's. */
static void bias(const struct nn_call *c)
{
    float *to = dbias(c);
    if (!to)
        return;
    const size_t pixels = nn_pixels(&c->y), cp = (size_t)kr_pad(c->y.c);
#pragma omp parallel for schedule(static) num_threads(c->threads)
    for (int k = 0; k < c->y.c; k += 16) {
        double sum[16] = {0};
        for (size_t p = 0; p < pixels; p++)
            for (int l = 0; l < 16; l++)
                sum[l] += (double)c->dy.dy[p * cp + (size_t)(k + l)];
        for (int l = 0; l < 16 && k + l < c->y.c; l++)
            to[k + l] = (float)sum[l];
    }
}

static void weight(const struct nn_call *c)
{
    if (road(c->attr) == ROAD_GENERAL) {
        struct kr_conv k = as_any(c);
        kr_conv_backward_weight(&k, &c->dy, c->grad[0], c->centred ? NULL : c->grad[1],
                                c->workspace);
        if (c->centred)
            bias(c);
    } else if (road(c->attr) == ROAD_3X3) {
        struct kr_conv3x3 k = as_3x3(c);
        kr_conv3x3_backward_weight(&k, &c->dy, c->grad[0], c->workspace);
        bias(c);
    } else {
        struct kr_conv1x1 k = as_1x1(c);
        kr_conv1x1_backward_weight(&k, c->dy.dy, c->grad[0], dbias(c), c->workspace);
    }
}

static void data(const struct nn_call *c)
{
    if (road(c->attr) == ROAD_GENERAL) {
        struct kr_conv k = as_any(c);
        kr_conv_backward_data(&k, &c->dy, c->dx[0], c->workspace);
    } else if (road(c->attr) == ROAD_3X3) {
        struct kr_conv3x3 k = as_3x3(c);
        kr_conv3x3_backward_data(&k, c->dy.dy, c->dx[0], c->workspace);
    } else {
        struct kr_conv1x1 k = as_1x1(c);
        kr_conv1x1_backward_data(&k, c->dy.dy, c->dx[0], c->workspace);
    }
}

static void backward(const struct nn_call *c)
{
    struct kr_conv3x3 k = as_3x3(c);
    kr_conv3x3_backward(&k, &c->dy, c->dx[0], c->grad[0], c->workspace);
    bias(c);
}

static bool behind(const struct nn_call *c, bool data)
{
    if (road(c->attr) != ROAD_3X3 || (nn_int(c->attr, BIAS) && !c->centred))
        return false; /* the bias needs the gradient behind the normalisation as a map */
    struct kr_conv3x3 k = as_3x3(c);
    return kr_conv3x3_fuses(&k, data);
}

static bool planar(const struct nn_call *c)
{
    if (road(c->attr) == ROAD_GENERAL)
        return c->x[0].c <= 64;
    if (road(c->attr) == ROAD_1X1)
        return c->x[0].d == 1;
    struct kr_conv3x3 k = as_3x3(c);
    return kr_conv3x3_planar(&k);
}

static size_t workspace(const struct nn_call *c)
{
    if (road(c->attr) == ROAD_GENERAL) {
        struct kr_conv k = as_any(c);
        return c->pass == PASS_WEIGHT ? kr_conv_backward_weight_workspace(&k)
               : c->pass == PASS_DATA ? kr_conv_backward_data_workspace(&k)
                                      : kr_conv_forward_workspace(&k);
    }
    if (road(c->attr) == ROAD_1X1) {
        struct kr_conv1x1 k = as_1x1(c);
        return kr_conv1x1_workspace(&k);
    }
    struct kr_conv3x3 k = as_3x3(c);
    return c->pass == PASS_WEIGHT     ? kr_conv3x3_backward_weight_workspace(&k)
           : c->pass == PASS_DATA     ? kr_conv3x3_backward_data_workspace(&k)
           : c->pass == PASS_BACKWARD ? kr_conv3x3_backward_workspace(&k)
                                      : kr_conv3x3_forward_workspace(&k);
}

static double flops(const struct nn_call *c)
{
    const double *k = c->attr[KERNEL].v;
    return 2 * k[0] * k[1] * k[2] * c->x[0].c * c->y.c * (double)nn_pixels(&c->y);
}

const struct nn_kind nn_convolution = {.name = "convolution",
                                       .rule = rule,
                                       .least = 1,
                                       .most = 1,
                                       .reads = NN_PARTS,
                                       .finishes = true,
                                       .reach = reach,
                                       .shape = shape,
                                       .forward = forward,
                                       .weight = weight,
                                       .data = data,
                                       .backward = backward,
                                       .behind = behind,
                                       .planar = planar,
                                       .workspace = workspace,
                                       .flops = flops};
