/* The entries of the 3x3 convolution, and which algorithm serves which shape. */
#include "lib/kernels/simd/conv3x3.h"

#define FEW 4 /* slices from which the gradient of the weights is made by groups of them */

/* Of all samples. */
static int slices(const struct kr_conv3x3 *p)
{
    return p->n * max_int(1, p->d);
}

/* Slices whose results are made together, where the caller does not say: what saves most. */
static int group_of(int d)
{
    return d > 2 ? 4 : 2;
}

struct source KR_NAME(kr_conv3x3_source)(const struct kr_conv3x3 *p)
{
    assert(p->n > 0 && p->h > 0 && p->w > 0 && p->cout > 0 && p->threads > 0);
    assert(p->nin == 1 || p->nin == 2);
    struct source s = {.n = slices(p), .h = p->h, .w = p->w, .parts = p->nin};
    for (int i = 0; i < p->nin; i++) {
        assert(p->in[i].c > 0);
        s.in[i] = p->in[i];
        s.c += p->in[i].c;
        s.cp += kr_pad(p->in[i].c);
    }
    if (p->depth == 3) {
        assert((!p->before && !p->behind) || (p->n == 1 && p->before <= 1 && p->behind <= 1));
        s.d = max_int(1, p->d);
        s.before = p->before;
        s.after = p->behind;
        s.group = p->group ? p->group : group_of(s.d);
        s.phase = p->phase;
        for (int i = 0; i < p->nin; i++)
            s.in[i] = KR_NAME(kr_conv3x3_beside)(&p->in[i], p->before, p->h * p->w);
    }
    return s;
}

struct kr_in KR_NAME(kr_conv3x3_beside)(const struct kr_in *in, int slices, int pixels)
{
    struct kr_in from = *in;
    const size_t n = (size_t)slices;
    if (!in->x) /* a workspace is asked for */
        return from;
    from.x =
        (const char *)in->x - n * (size_t)pixels * (size_t)kr_pad(in->c) * kr_dtype_size(in->dtype);
    if (in->scale) {
        from.scale -= n * in->stride;
        from.shift -= n * in->stride;
    }
    return from;
}

struct source KR_NAME(kr_conv3x3_gradient)(const struct kr_conv3x3 *p, const struct kr_dy *dy)
{
    return (struct source){.n = slices(p),
                           .h = p->h,
                           .w = p->w,
                           .parts = 1,
                           .c = p->cout,
                           .cp = kr_pad(p->cout),
                           .d = p->depth == 3 ? max_int(1, p->d) : 0,
                           .group = group_of(p->d),
                           .in = {{.x = dy->dy, .c = p->cout, .dtype = KR_F32}},
                           .behind = *dy};
}

struct sink KR_NAME(kr_conv3x3_sink_y)(const struct kr_conv3x3 *p, const struct kr_out *out)
{
    struct sink s = {.parts = 1, .cp = kr_pad(p->cout)};
    s.part[0] = (struct sink_part){.kind = SINK_F32, .c = p->cout, .cp = s.cp, .bias = p->bias};
    if (out) {
        assert(out->c == p->cout);
        s.part[0].kind = out->relu && out->slope != 0 ? SINK_LEAKY
                         : out->dtype == KR_F32       ? SINK_F32
                                                      : SINK_BF16;
        s.part[0].dtype = out->dtype;
        s.part[0].slope = out->slope;
        s.part[0].each = out->each;
        s.part[0].y = out->y;
        s.part[0].scale = out->scale;
        s.part[0].shift = out->shift;
        s.part[0].relu = out->relu;
        s.part[0].sums = out->sums;
    }
    return s;
}

struct sink KR_NAME(kr_conv3x3_sink_dx)(const struct kr_conv3x3 *p, const struct kr_dx dx[2])
{
    struct sink s = {0};
    int real = 0;
    for (int i = 0; i < p->nin; i++) {
        struct sink_part t = {.kind = SINK_DX, .c = p->in[i].c, .cp = kr_pad(p->in[i].c)};
        t.real = real;
        t.first = s.cp;
        real += t.c;
        if (dx && !dx[i].dx)
            continue;
        if (dx) {
            assert(dx[i].c == p->in[i].c);
            t.y = dx[i].dx;
            t.accumulate = dx[i].accumulate;
            t.act = dx[i].act;
            t.gain = dx[i].gain;
            t.sums = dx[i].sums;
            t.each = dx[i].each;
        }
        s.cp += t.cp;
        s.part[s.parts++] = t;
    }
    return s;
}

void KR_NAME(kr_conv3x3_sums)(const struct sink *s, const double *slots, int count, int samples)
{
    const int per = count / samples;
    for (int i = 0; i < s->parts; i++) {
        const struct sink_part *p = &s->part[i];
        if (!p->sums)
            continue;
        double *to = p->sums;
        for (int t = 0; t < count; t++) {
            const double *d = slots + (size_t)t * 2 * (size_t)s->cp + p->first;
            if (t && p->each && t % per == 0)
                to += 2 * p->cp;
            if (p->each ? t % per == 0 : t == 0)
                memset(to, 0, 2 * (size_t)p->cp * sizeof(double));
            for (int c = 0; c < p->cp; c++) {
                to[c] += d[c];
                to[p->cp + c] += d[s->cp + c];
            }
        }
    }
}

/* Below 16 input channels most of a transformed vector would be padding. */
static bool use_winograd(enum kr_algo algo, const struct source *s)
{
    return algo == KR_WINOGRAD || (algo == KR_AUTO && s->c >= 16);
}

static size_t workspace(enum kr_algo algo, const struct source *s, const struct sink *out,
                        int threads)
{
    return !use_winograd(algo, s) ? KR_NAME(kr_conv3x3_direct_workspace)(s, out, threads)
           : s->d                 ? KR_NAME(kr_conv3x3_volume_workspace)(s, out, threads)
                                  : KR_NAME(kr_conv3x3_winograd_workspace)(s, out, threads);
}

static void run(enum kr_algo algo, const struct source *s, const struct filters *f,
                const struct sink *out, int threads, void *ws)
{
    if (!use_winograd(algo, s))
        KR_NAME(kr_conv3x3_direct)(s, f, out, threads, ws);
    else if (s->d)
        KR_NAME(kr_conv3x3_volume)(s, f, out, threads, ws);
    else
        KR_NAME(kr_conv3x3_winograd)(s, f, out, threads, ws);
}

/* Whether it is for the engine of any kernel: one of three slices, directly. */
static bool any(const struct kr_conv3x3 *p, int channels)
{
    assert(p->depth == 3 || (p->depth <= 1 && !p->before && !p->behind));
    return p->depth == 3 && !use_winograd(p->algo, &(struct source){.c = channels});
}

/* Of a filter. */
static size_t taps(const struct kr_conv3x3 *p)
{
    return p->depth == 3 ? 27 : 9;
}

static int channels(const struct kr_conv3x3 *p)
{
    return p->in[0].c + (p->nin > 1 ? p->in[1].c : 0);
}

static struct kr_conv volume(const struct kr_conv3x3 *p)
{
    return (struct kr_conv){.n = p->n,
                            .d = max_int(1, p->d),
                            .h = p->h,
                            .w = p->w,
                            .before = p->before,
                            .behind = p->behind,
                            .cout = p->cout,
                            .kernel = {3, 3, 3},
                            .stride = {1, 1, 1},
                            .dilation = {1, 1, 1},
                            .weight = p->weight,
                            .bias = p->bias,
                            .nin = p->nin,
                            .in = {p->in[0], p->in[1]},
                            .threads = p->threads};
}

bool KR_NAME(kr_conv3x3_planar)(const struct kr_conv3x3 *p)
{
    if (p->before || p->behind || (p->d > 1 && p->depth != 3))
        return false;
    struct source in = KR_NAME(kr_conv3x3_source)(p);
    return in.parts == 1 && !use_winograd(p->algo, &in);
}

size_t KR_NAME(kr_conv3x3_forward_workspace)(const struct kr_conv3x3 *p)
{
    if (any(p, channels(p))) {
        const struct kr_conv k = volume(p);
        return KR_NAME(kr_conv_forward_workspace)(&k);
    }
    struct source in = KR_NAME(kr_conv3x3_source)(p);
    struct sink out = KR_NAME(kr_conv3x3_sink_y)(p, NULL);
    return workspace(p->algo, &in, &out, p->threads);
}

void KR_NAME(kr_conv3x3_forward)(const struct kr_conv3x3 *p, const struct kr_out *y, void *ws)
{
    if (any(p, channels(p))) {
        const struct kr_conv k = volume(p);
        KR_NAME(kr_conv_forward)(&k, y, ws);
        return;
    }
    struct source in = KR_NAME(kr_conv3x3_source)(p);
    struct sink out = KR_NAME(kr_conv3x3_sink_y)(p, y);
    struct filters f = {.w = p->weight, .so = taps(p) * (size_t)in.c, .si = taps(p)};
    run(p->algo, &in, &f, &out, p->threads, ws);
}

/* The filters as the gradient of the data sees them. */
static struct filters rotated(const struct kr_conv3x3 *p)
{
    return (struct filters){
        .w = p->weight, .so = taps(p), .si = taps(p) * (size_t)channels(p), .flip = true};
}

size_t KR_NAME(kr_conv3x3_backward_data_workspace)(const struct kr_conv3x3 *p)
{
    if (any(p, p->cout)) {
        const struct kr_conv k = volume(p);
        return KR_NAME(kr_conv_backward_data_workspace)(&k);
    }
    struct source in = KR_NAME(kr_conv3x3_gradient)(p, &(struct kr_dy){0});
    struct sink out = KR_NAME(kr_conv3x3_sink_dx)(p, NULL);
    return workspace(p->algo, &in, &out, p->threads);
}

void KR_NAME(kr_conv3x3_backward_data)(const struct kr_conv3x3 *p, const float *dy,
                                       const struct kr_dx dx[2], void *ws)
{
    if (any(p, p->cout)) {
        const struct kr_conv k = volume(p);
        KR_NAME(kr_conv_backward_data)(&k, &(struct kr_dy){.dy = dy}, dx, ws);
        return;
    }
    struct source in = KR_NAME(kr_conv3x3_gradient)(p, &(struct kr_dy){.dy = dy});
    struct sink out = KR_NAME(kr_conv3x3_sink_dx)(p, dx);
    struct filters f = rotated(p);
    if (out.parts)
        run(p->algo, &in, &f, &out, p->threads, ws);
}

/* The operand as the gradient of the weights reads it: few slices one by one. */
static struct source source_once(const struct kr_conv3x3 *p)
{
    struct source s = KR_NAME(kr_conv3x3_source)(p);
    s.group = s.d < FEW ? 1 : group_of(s.d);
    return s;
}

size_t KR_NAME(kr_conv3x3_backward_weight_workspace)(const struct kr_conv3x3 *p)
{
    if (any(p, channels(p))) {
        const struct kr_conv k = volume(p);
        return KR_NAME(kr_conv_backward_weight_workspace)(&k);
    }
    struct source in = source_once(p);
    return use_winograd(p->algo, &in)
               ? KR_NAME(kr_conv3x3_winograd_weight_workspace)(&in, p->cout, NULL, p->threads)
               : KR_NAME(kr_conv3x3_direct_weight_workspace)(&in, p->cout, p->threads);
}

void KR_NAME(kr_conv3x3_backward_weight)(const struct kr_conv3x3 *p, const struct kr_dy *dy,
                                         float *dw, void *ws)
{
    if (any(p, channels(p))) {
        const struct kr_conv k = volume(p);
        KR_NAME(kr_conv_backward_weight)(&k, dy, dw, NULL, ws);
        return;
    }
    struct source in = source_once(p), out = KR_NAME(kr_conv3x3_gradient)(p, dy);
    if (use_winograd(p->algo, &in))
        KR_NAME(kr_conv3x3_winograd_weight)(&in, &out, dw, NULL, NULL, p->threads, ws);
    else
        KR_NAME(kr_conv3x3_direct_weight)(&in, &out, dw, p->threads, ws);
}

/* Both gradients: where the sums of the weights and what the transforms of one run of tiles need
 * fit the second cache, and the maps, as a rule, do not fit the third. That of the weights alone:
 * where the output's channels are one block. */
bool KR_NAME(kr_conv3x3_fuses)(const struct kr_conv3x3 *p, bool data)
{
    if (!data)
        return kr_pad(p->cout) <= BLOCK;
    if (p->depth == 3)
        return false;
    struct source in = KR_NAME(kr_conv3x3_source)(p);
    return use_winograd(p->algo, &in) && use_winograd(p->algo, &(struct source){.c = p->cout}) &&
           in.cp <= BLOCK && kr_pad(p->cout) <= BLOCK / 2;
}

size_t KR_NAME(kr_conv3x3_backward_workspace)(const struct kr_conv3x3 *p)
{
    struct source in = KR_NAME(kr_conv3x3_source)(p);
    struct sink dx = KR_NAME(kr_conv3x3_sink_dx)(p, NULL);
    return KR_NAME(kr_conv3x3_winograd_weight_workspace)(&in, p->cout, &dx, p->threads);
}

void KR_NAME(kr_conv3x3_backward)(const struct kr_conv3x3 *p, const struct kr_dy *dy,
                                  const struct kr_dx dx[2], float *dw, void *ws)
{
    struct source in = KR_NAME(kr_conv3x3_source)(p), out = KR_NAME(kr_conv3x3_gradient)(p, dy);
    struct sink to = KR_NAME(kr_conv3x3_sink_dx)(p, dx);
    struct filters f = rotated(p);
    KR_NAME(kr_conv3x3_winograd_weight)(&in, &out, dw, &f, &to, p->threads, ws);
}
