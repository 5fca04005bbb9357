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
    return (struct nn_reach){.before = padding,
                             .behind = behind > 0 ? behind : 0,
                             .groups = is(a, KERNEL, 3, 3, 3) && road(a) == ROAD_3X3};
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
                               .group = c->learn ? 0 : c->beside.group,
                               .phase = c->learn ? 0 : c->beside.phase % c->beside.group,
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

/* With products of bfloat16 they are one kernel. */
static struct kr_bf16 as_bf16(const struct nn_call *c)
{
    return (struct kr_bf16){.conv = as_any(c), .packed = c->packed};
}

static bool data_bf16(const struct nn_call *c)
{
    const struct kr_bf16 k = as_bf16(c);
    return c->bf16 && kr_bf16_data(&k);
}

/* --- in place ---------------------------------------------------------------------------------
 * A volume as a whole may be so large that there is room for one map of it. Slices that are a
 * dilation apart along z know nothing of those between them; so a window of some of these, as they
 * were, moves through the volume, and results go where the slices came from. */

/* Slices that a volume needs for it, and of a window's move: whole groups. */
enum { DEEP = 64, MOVES = 2 * NN_GROUP };

static int half(const struct nn_call *c)
{
    return ((int)c->attr[KERNEL].v[0] - 1) / 2;
}

static bool overwrites(const struct nn_call *c)
{
    return !c->learn && c->y.n == 1 && c->y.d >= DEEP && is(c->attr, STRIDE, 1, 1, 1) &&
           half(c) > 0 && (int)c->attr[KERNEL].v[0] % 2 && c->parts[0] == 1 &&
           kr_pad(c->x[0].c) == kr_pad(c->y.c) && c->in[0][0].dtype == KR_F32 &&
           c->out.dtype == KR_F32;
}

/* While planning there are no pointers; later shapes go the way that was planned. */
static bool in_place(const struct nn_call *c)
{
    return c->out.y ? c->out.y == c->in[0][0].x : overwrites(c);
}

/* Of the slices at every dilation-th place, `count` from number q on, into the window. */
static void fetch(const struct nn_call *c, int first, int q, int count, float *window)
{
    const int step = (int)c->attr[DILATION].v[0];
    const size_t cp = (size_t)kr_pad(c->x[0].c), slice = (size_t)(c->y.h * c->y.w) * cp;
    for (int i = 0; i < count; i++) {
        const size_t z = (size_t)(first + (q + i) * step);
        struct kr_in in = c->in[0][0];
        in.x = (const float *)in.x + z * slice;
        if (in.scale)
            in.scale += z * in.stride, in.shift += z * in.stride;
        const struct kr_out to = {.y = window + (size_t)i * slice, .c = in.c};
        const struct kr_dims d = {.n = 1, .h = c->y.h, .w = c->y.w, .threads = c->threads};
        kr_add(&d, 1, &in, &to, NULL);
    }
}

/* The call for n slices of the window from x on, `before` and `behind` beside them, whose results
 * begin with the volume's slice z. */
static struct nn_call part(const struct nn_call *c, const float *x, int n, int z, int before,
                           int behind, void *workspace)
{
    struct nn_call one = *c;
    one.x[0].d = one.y.d = n;
    one.in[0][0] = (struct kr_in){.x = x, .c = c->x[0].c};
    one.out.y = (float *)c->out.y + (size_t)(z * c->y.h) * (size_t)(c->y.w * kr_pad(c->y.c));
    if (c->out.sums && c->out.each)
        one.out.sums += (size_t)z * 2 * (size_t)kr_pad(c->y.c);
    one.beside.before = before;
    one.beside.behind = behind;
    one.beside.phase = (z + c->beside.phase) % NN_GROUP;
    one.workspace = workspace;
    return one;
}

static size_t window_bytes(const struct nn_call *c)
{
    return (size_t)(MOVES + 2 * half(c)) * (size_t)(c->y.h * c->y.w) * (size_t)kr_pad(c->x[0].c) *
           sizeof(float);
}

static void forward_road(const struct nn_call *c, int dilation)
{
    if (c->bf16) {
        struct kr_bf16 k = as_bf16(c);
        k.conv.dilation[0] = dilation;
        kr_bf16_forward(&k, &c->out, c->workspace);
    } else if (road(c->attr) == ROAD_GENERAL) {
        struct kr_conv k = as_any(c);
        k.dilation[0] = dilation;
        kr_conv_forward(&k, &c->out, c->workspace);
    } else if (road(c->attr) == ROAD_3X3) {
        struct kr_conv3x3 k = as_3x3(c);
        kr_conv3x3_forward(&k, &c->out, c->workspace);
    } else {
        struct kr_conv1x1 k = as_1x1(c);
        kr_conv1x1_forward(&k, &c->out, c->workspace);
    }
}

static size_t forward_workspace(const struct nn_call *c)
{
    if (c->bf16) {
        const struct kr_bf16 k = as_bf16(c);
        return kr_bf16_forward_workspace(&k);
    }
    if (road(c->attr) == ROAD_GENERAL) {
        const struct kr_conv k = as_any(c);
        return kr_conv_forward_workspace(&k);
    }
    const struct kr_conv3x3 k = as_3x3(c);
    return kr_conv3x3_forward_workspace(&k);
}

static int at_most(int a, int b)
{
    return a < b ? a : b;
}

static void forward_in_place(const struct nn_call *c)
{
    const int step = (int)c->attr[DILATION].v[0], h = half(c);
    const size_t slice = (size_t)(c->y.h * c->y.w) * (size_t)kr_pad(c->x[0].c);
    float *window = c->workspace;
    void *rest = (char *)c->workspace + window_bytes(c);
    for (int first = 0; first < step && first < c->y.d; first++) {
        const int all = (c->y.d - first + step - 1) / step;
        int have = at_most(h, all); /* slices up to which it is fetched */
        fetch(c, first, 0, have, window + (size_t)h * slice);
        for (int q = 0, n; q < all; q += n) {
            n = at_most(MOVES - (q + c->beside.phase) % NN_GROUP, all - q);
            const int want = at_most(q + n + h, all);
            fetch(c, first, have, want - have, window + (size_t)(have - q + h) * slice);
            have = want;
            for (int i = 0, m = step == 1 ? n : 1; i < n; i += m) {
                const struct nn_call one =
                    part(c, window + (size_t)(h + i) * slice, m, first + (q + i) * step,
                         at_most(h, q + i), at_most(h, all - q - i - m), rest);
                forward_road(&one, 1);
            }
            memmove(window, window + (size_t)n * slice, 2 * (size_t)h * slice * sizeof *window);
        }
    }
}

static void forward(const struct nn_call *c)
{
    if (in_place(c))
        forward_in_place(c);
    else
        forward_road(c, (int)c->attr[DILATION].v[0]);
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
    if (c->bf16 && road(c->attr) == ROAD_3X3) {
        const struct kr_bf16 k = as_bf16(c);
        kr_bf16_backward_weight(&k, &c->dy, c->grad[0], NULL, c->workspace);
        bias(c);
    } else if (road(c->attr) == ROAD_GENERAL) {
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
    if (data_bf16(c)) {
        const struct kr_bf16 k = as_bf16(c);
        kr_bf16_backward_data(&k, &c->dy, c->dx[0], c->workspace);
    } else if (road(c->attr) == ROAD_GENERAL) {
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
    if (road(c->attr) == ROAD_GENERAL || c->bf16)
        return c->x[0].c <= 64;
    if (road(c->attr) == ROAD_1X1)
        return c->x[0].d == 1;
    struct kr_conv3x3 k = as_3x3(c);
    return kr_conv3x3_planar(&k);
}

static size_t workspace(const struct nn_call *c)
{
    if (c->pass == PASS_FORWARD && in_place(c)) {
        size_t most = 0;
        for (int n = (int)c->attr[DILATION].v[0] == 1 ? MOVES : 1; n; n--) {
            const struct nn_call one = part(c, NULL, n, 0, half(c), half(c), NULL);
            const size_t bytes = forward_workspace(&one);
            most = bytes > most ? bytes : most;
        }
        return window_bytes(c) + most;
    }
    if (c->bf16 && (c->pass == PASS_FORWARD || c->pass == PASS_RECOMPUTE))
        return forward_workspace(c);
    if (c->pass == PASS_WEIGHT && c->bf16 && road(c->attr) == ROAD_3X3) {
        const struct kr_bf16 k = as_bf16(c);
        return kr_bf16_backward_weight_workspace(&k);
    }
    if (c->pass == PASS_DATA && data_bf16(c)) {
        const struct kr_bf16 k = as_bf16(c);
        return kr_bf16_backward_data_workspace(&k);
    }
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
                                       .overwrites = overwrites,
                                       .reach = reach,
                                       .shape = shape,
                                       .forward = forward,
                                       .weight = weight,
                                       .data = data,
                                       .backward = backward,
                                       .behind = behind,
                                       .planar = planar,
                                       .workspace = workspace,
                                       .bf16 = as_bf16,
                                       .flops = flops};
