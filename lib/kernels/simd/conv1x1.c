/* The 1x1 convolution: which product of gemm.h each of its passes is. */
#include "lib/kernels/simd/gemm.h"

static int inputs(const struct kr_conv1x1 *p)
{
    return p->in[0].c + (p->nin > 1 ? p->in[1].c : 0);
}

static struct matrix values(const struct kr_conv1x1 *p)
{
    struct matrix m = {p->n, p->h, p->w, p->nin, {p->in[0]}, false};
    if (p->nin > 1)
        m.in[1] = p->in[1];
    return m;
}

static struct matrix gradient(const struct kr_conv1x1 *p, const float *dy)
{
    return (struct matrix){p->n, p->h, p->w, 1, {{.x = dy, .c = p->cout}}, false};
}

static struct weights weights(const struct kr_conv1x1 *p)
{
    return (struct weights){p->weight, 1, (size_t)inputs(p)};
}

static struct product forward(const struct kr_conv1x1 *p, const struct kr_out *out)
{
    return (struct product){values(p), weights(p), {.out = out, .bias = p->bias}, true, p->threads};
}

static struct product backward(const struct kr_conv1x1 *p, const float *dy,
                               const struct kr_dx dx[2])
{
    return (struct product){gradient(p, dy), weights(p), {.dx = dx}, false, p->threads};
}

static struct outer outer(const struct kr_conv1x1 *p, const float *dy, float *dw, float *dbias)
{
    return (struct outer){values(p), gradient(p, dy), weights(p), dw, dbias, p->threads};
}

size_t KR_NAME(kr_conv1x1_workspace)(const struct kr_conv1x1 *p)
{
    struct kr_out out = {.c = p->cout};
    struct kr_dx dx[2] = {{.c = p->in[0].c}, {.c = p->nin > 1 ? p->in[1].c : 0}};
    const struct product f = forward(p, &out), b = backward(p, NULL, dx);
    const struct outer o = outer(p, NULL, NULL, NULL);
    size_t size = KR_NAME(kr_product_workspace)(&f), other = KR_NAME(kr_product_workspace)(&b);
    size = size > other ? size : other;
    other = KR_NAME(kr_outer_workspace)(&o);
    return size > other ? size : other;
}

void KR_NAME(kr_conv1x1_forward)(const struct kr_conv1x1 *p, const struct kr_out *out,
                                 void *workspace)
{
    const struct product f = forward(p, out);
    KR_NAME(kr_product)(&f, workspace);
}

void KR_NAME(kr_conv1x1_backward_data)(const struct kr_conv1x1 *p, const float *dy,
                                       const struct kr_dx dx[2], void *workspace)
{
    struct kr_dx part[2] = {dx[0]};
    if (p->nin > 1)
        part[1] = dx[1];
    part[0].c = p->in[0].c;
    part[1].c = p->nin > 1 ? p->in[1].c : 0;
    const struct product b = backward(p, dy, part);
    KR_NAME(kr_product)(&b, workspace);
}

void KR_NAME(kr_conv1x1_backward_weight)(const struct kr_conv1x1 *p, const float *dy, float *dw,
                                         float *dbias, void *workspace)
{
    const struct outer o = outer(p, dy, dw, dbias);
    KR_NAME(kr_outer)(&o, workspace);
}
