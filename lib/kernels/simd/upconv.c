#include "lib/kernels/simd/gemm.h"

static struct matrix values(const struct kr_upconv *p)
{
    return (struct matrix){p->n, p->h, p->w, 1, {p->in}, false};
}

static struct matrix gradient(const struct kr_upconv *p, const float *dy)
{
    return (struct matrix){p->n, p->h, p->w, 1, {{.x = dy, .c = p->cout}}, true};
}

static struct weights weights(const struct kr_upconv *p)
{
    return (struct weights){p->weight, 4 * (size_t)p->cout, 4};
}

static struct product forward(const struct kr_upconv *p, const struct kr_out *out)
{
    struct result r = {.out = out, .bias = p->bias, .phases = true};
    return (struct product){values(p), weights(p), r, true, p->threads};
}

static struct product backward(const struct kr_upconv *p, const float *dy, const struct kr_dx dx[2])
{
    return (struct product){gradient(p, dy), weights(p), {.dx = dx}, false, p->threads};
}

static struct outer outer(const struct kr_upconv *p, const float *dy, float *dw, float *dbias)
{
    return (struct outer){values(p), gradient(p, dy), weights(p), dw, dbias, p->threads};
}

size_t KR_NAME(kr_upconv_workspace)(const struct kr_upconv *p)
{
    struct kr_out out = {.c = p->cout};
    struct kr_dx dx[2] = {{.c = p->in.c}};
    const struct product f = forward(p, &out), b = backward(p, NULL, dx);
    const struct outer o = outer(p, NULL, NULL, NULL);
    size_t size = KR_NAME(kr_product_workspace)(&f), other = KR_NAME(kr_product_workspace)(&b);
    size = size > other ? size : other;
    other = KR_NAME(kr_outer_workspace)(&o);
    return size > other ? size : other;
}

void KR_NAME(kr_upconv_forward)(const struct kr_upconv *p, const struct kr_out *out,
                                void *workspace)
{
    const struct product f = forward(p, out);
    KR_NAME(kr_product)(&f, workspace);
}

void KR_NAME(kr_upconv_backward_data)(const struct kr_upconv *p, const float *dy,
                                      const struct kr_dx *dx, void *workspace)
{
    struct kr_dx part[2] = {*dx};
    part[0].c = p->in.c;
    const struct product b = backward(p, dy, part);
    KR_NAME(kr_product)(&b, workspace);
}

void KR_NAME(kr_upconv_backward_weight)(const struct kr_upconv *p, const float *dy, float *dw,
                                        float *dbias, void *workspace)
{
    const struct outer o = outer(p, dy, dw, dbias);
    KR_NAME(kr_outer)(&o, workspace);
}
