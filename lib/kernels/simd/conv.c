/* Convolutions of any kernel, and transposed ones that gemm.h has no phases for: what they are to
 * the engine of gather.h. */
#include "lib/kernels/simd/conv_narrow.h"
#include "lib/kernels/simd/gather.h"
#include "lib/kernels/simd/upconv.h"

/* A low map and a high one, and the weights between them. */
struct pair {
    int n;
    struct axis_shape axis[3]; /* of the high one */
    struct source low, high;
    struct gather_weights weights;
};

static size_t weights_count(const struct pair *p)
{
    size_t n = (size_t)p->low.c * (size_t)p->high.c;
    for (int i = 0; i < 3; i++)
        n *= (size_t)p->axis[i].kernel;
    return n;
}

static struct source source_of(const struct kr_in in[], int parts)
{
    struct source s = {.parts = parts};
    for (int i = 0; i < parts; i++) {
        assert(in[i].c > 0);
        s.in[i] = in[i];
        s.c += in[i].c;
        s.cp += kr_pad(in[i].c);
    }
    return s;
}

/* A map that is only a gradient. */
static struct source gradient_of(int c, const struct kr_dy *dy)
{
    const struct kr_in in = {.x = dy->dy, .c = c};
    struct source s = source_of(&in, 1);
    s.behind = *dy;
    return s;
}

static struct pair conv_pair(const struct kr_conv *p, const struct kr_dy *dy)
{
    const int extent[] = {p->d, p->h, p->w};
    struct pair q = {.n = p->n,
                     .low = gradient_of(p->cout, dy),
                     .high = source_of(p->in, p->nin),
                     .weights = {.w = p->weight}};
    assert(p->n > 0 && p->cout > 0 && p->threads > 0 && (p->nin == 1 || p->nin == 2));
    for (int i = 0; i < 3; i++) {
        const int k = p->kernel[i], d = p->dilation[i];
        assert(k % 2 ? d >= 1 : k == p->stride[i] && d == 1);
        q.axis[i] = (struct axis_shape){
            .extent = extent[i],
            .kernel = k,
            .stride = p->stride[i],
            .dilation = d,
            .padding = k % 2 ? d * (k - 1) / 2 : 0,
        };
    }
    if (p->before || p->behind) {
        assert(p->n == 1 && !p->in[0].planar);
        assert(max_int(p->before, p->behind) <= q.axis[0].padding);
        q.axis[0].before = p->before;
        q.axis[0].behind = p->behind;
        for (int i = 0; i < p->nin; i++)
            q.high.in[i] = KR_NAME(kr_conv3x3_beside)(&p->in[i], p->before, p->h * p->w);
    }
    return q;
}

static struct pair upconv_pair(const struct kr_upconv *p, const struct kr_dy *dy)
{
    const int extent[] = {p->d ? p->d : 1, p->h, p->w};
    struct pair q = {.n = p->n,
                     .low = source_of(&p->in, 1),
                     .high = gradient_of(p->cout, dy),
                     .weights = {.w = p->weight}};
    for (int i = 0; i < 3; i++) {
        const int f = p->factor[i];
        q.axis[i] =
            (struct axis_shape){.extent = extent[i] * f, .kernel = f, .stride = f, .dilation = 1};
    }
    return q;
}

static struct gather_weights weights_of(const struct pair *p, bool low)
{
    struct gather_weights w = p->weights;
    w.high = p->high.c;
    w.low = low;
    w.end = w.w ? w.w + weights_count(p) : NULL;
    return w;
}

/* What becomes the map's values, high or low, of the other's. */
static struct gather gather_of(const struct pair *p, bool low)
{
    return low ? KR_NAME(kr_gather_backward)(p->n, p->axis)
               : KR_NAME(kr_gather_forward)(p->n, p->axis);
}

static size_t run_workspace(const struct pair *p, bool low, const struct sink *out, int threads)
{
    const struct gather g = gather_of(p, low);
    return KR_NAME(kr_gather_workspace)(&g, low ? &p->low : &p->high, out, threads);
}

static void run(const struct pair *p, bool low, const struct sink *out, int threads, void *ws)
{
    const struct gather g = gather_of(p, low);
    const struct gather_weights w = weights_of(p, low);
    if (out->parts)
        KR_NAME(kr_gather)(&g, low ? &p->low : &p->high, &w, out, threads, ws);
}

/* The gradient of the bias, whose sums precede other memory; then that of the weights. */
static size_t bias_bytes(int c)
{
    return 2 * (size_t)kr_pad(c) * sizeof(double);
}

static size_t outer_workspace(const struct pair *p, const struct kr_dims *d, int bias)
{
    const struct gather g = gather_of(p, false);
    const size_t size = KR_NAME(kr_gather_outer_workspace)(&g, &p->high, &p->low, d->threads),
                 other = bias_bytes(bias) + KR_NAME(kr_pointwise_workspace)(d, bias);
    return size > other ? size : other;
}

static void outer(const struct pair *p, const struct kr_dims *d, int c, const struct kr_dy *dy,
                  float *dw, float *dbias, void *ws)
{
    const struct gather g = gather_of(p, false);
    if (dbias) {
        const struct kr_dx sums = {.c = c, .sums = ws};
        assert(!dy->k);
        KR_NAME(kr_add_backward)(d, dy->dy, 1, &sums, (char *)ws + bias_bytes(c));
        for (int o = 0; o < c; o++)
            dbias[o] = (float)sums.sums[o];
    }
    KR_NAME(kr_gather_outer)(&g, &p->high, &p->low, dw, d->threads, ws);
}

/* --- convolution ------------------------------------------------------------------------------ */

static struct sink sink_y(int cout, const float *bias, const struct kr_out *out)
{
    return KR_NAME(kr_conv3x3_sink_y)(&(struct kr_conv3x3){.cout = cout, .bias = bias}, out);
}

static struct sink sink_dx(int nin, const struct kr_in in[], const struct kr_dx dx[])
{
    struct kr_conv3x3 p = {.nin = nin};
    for (int i = 0; i < nin; i++)
        p.in[i].c = in[i].c;
    return KR_NAME(kr_conv3x3_sink_dx)(&p, dx);
}

size_t KR_NAME(kr_conv_forward_workspace)(const struct kr_conv *p)
{
    const struct pair q = conv_pair(p, &(struct kr_dy){0});
    const struct sink out = sink_y(p->cout, NULL, NULL);
    const size_t any = run_workspace(&q, false, &out, p->threads),
                 narrow = KR_NAME(kr_narrow)(p) ? KR_NAME(kr_narrow_workspace)(p) : 0;
    return any > narrow ? any : narrow;
}

void KR_NAME(kr_conv_forward)(const struct kr_conv *p, const struct kr_out *y, void *ws)
{
    const struct pair q = conv_pair(p, &(struct kr_dy){0});
    const struct sink out = sink_y(p->cout, p->bias, y);
    if (KR_NAME(kr_narrow)(p))
        KR_NAME(kr_narrow_forward)(p, y, ws);
    else
        run(&q, false, &out, p->threads, ws);
}

size_t KR_NAME(kr_conv_backward_data_workspace)(const struct kr_conv *p)
{
    const struct pair q = conv_pair(p, &(struct kr_dy){0});
    const struct sink out = sink_dx(p->nin, p->in, NULL);
    return run_workspace(&q, true, &out, p->threads);
}

void KR_NAME(kr_conv_backward_data)(const struct kr_conv *p, const struct kr_dy *dy,
                                    const struct kr_dx dx[2], void *ws)
{
    const struct pair q = conv_pair(p, dy);
    const struct sink out = sink_dx(p->nin, p->in, dx);
    run(&q, true, &out, p->threads, ws);
}

/* The output's slices. */
static struct kr_dims conv_slices(const struct kr_conv *p)
{
    return (struct kr_dims){.n = p->n * p->d / p->stride[0],
                            .h = p->h / p->stride[1],
                            .w = p->w / p->stride[2],
                            .threads = p->threads};
}

size_t KR_NAME(kr_conv_backward_weight_workspace)(const struct kr_conv *p)
{
    const struct pair q = conv_pair(p, &(struct kr_dy){0});
    const struct kr_dims d = conv_slices(p);
    return outer_workspace(&q, &d, p->cout);
}

void KR_NAME(kr_conv_backward_weight)(const struct kr_conv *p, const struct kr_dy *dy, float *dw,
                                      float *dbias, void *ws)
{
    const struct pair q = conv_pair(p, dy);
    const struct kr_dims d = conv_slices(p);
    outer(&q, &d, p->cout, dy, dw, dbias, ws);
}

/* --- transposed convolution ------------------------------------------------------------------- */

static struct kr_dims upconv_slices(const struct kr_upconv *p, const struct pair *q)
{
    return (struct kr_dims){.n = p->n * q->axis[0].extent,
                            .h = q->axis[1].extent,
                            .w = q->axis[2].extent,
                            .threads = p->threads};
}

size_t KR_NAME(kr_upconv_any_workspace)(const struct kr_upconv *p)
{
    const struct pair q = upconv_pair(p, &(struct kr_dy){0});
    const struct sink y = sink_y(p->cout, NULL, NULL), dx = sink_dx(1, &p->in, NULL);
    const struct kr_dims d = upconv_slices(p, &q);
    const size_t size[] = {run_workspace(&q, true, &y, p->threads),
                           run_workspace(&q, false, &dx, p->threads),
                           outer_workspace(&q, &d, p->cout)};
    size_t most = size[0];
    for (int i = 1; i < 3; i++)
        most = size[i] > most ? size[i] : most;
    return most;
}

void KR_NAME(kr_upconv_any_forward)(const struct kr_upconv *p, const struct kr_out *y, void *ws)
{
    const struct pair q = upconv_pair(p, &(struct kr_dy){0});
    const struct sink out = sink_y(p->cout, p->bias, y);
    run(&q, true, &out, p->threads, ws);
}

void KR_NAME(kr_upconv_any_backward_data)(const struct kr_upconv *p, const float *dy,
                                          const struct kr_dx *dx, void *ws)
{
    const struct pair q = upconv_pair(p, &(struct kr_dy){.dy = dy});
    const struct sink out = sink_dx(1, &p->in, dx);
    run(&q, false, &out, p->threads, ws);
}

void KR_NAME(kr_upconv_any_backward_weight)(const struct kr_upconv *p, const float *dy, float *dw,
                                            float *dbias, void *ws)
{
    const struct kr_dy from = {.dy = dy};
    const struct pair q = upconv_pair(p, &from);
    const struct kr_dims d = upconv_slices(p, &q);
    outer(&q, &d, p->cout, &from, dw, dbias, ws);
}
