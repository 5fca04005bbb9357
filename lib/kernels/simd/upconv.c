/* Transposed convolutions: of 2x2 as products over pixels, of other factors by the engine of
 * gather.h. */
#include "lib/kernels/simd/upconv.h"

#include "lib/kernels/simd/gemm.h"

static bool is_2x2(const struct kr_upconv *p)
{
    return !p->factor[0] || (p->factor[0] == 1 && p->factor[1] == 2 && p->factor[2] == 2);
}

static int slices(const struct kr_upconv *p)
{
    return p->n * (p->d ? p->d : 1);
}

static struct matrix values(const struct kr_upconv *p)
{
    return (struct matrix){slices(p), p->h, p->w, 1, {p->in}, false};
}

static struct matrix gradient(const struct kr_upconv *p, const float *dy)
{
    return (struct matrix){slices(p), p->h, p->w, 1, {{.x = dy, .c = p->cout}}, true};
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
    if (!is_2x2(p))
        return KR_NAME(kr_upconv_any_workspace)(p);
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
    if (!is_2x2(p)) {
        KR_NAME(kr_upconv_any_forward)(p, out, workspace);
        return;
    }
    const struct product f = forward(p, out);
    KR_NAME(kr_product)(&f, workspace);
}

void KR_NAME(kr_upconv_backward_data)(const struct kr_upconv *p, const float *dy,
                                      const struct kr_dx *dx, void *workspace)
{
    if (!is_2x2(p)) {
        KR_NAME(kr_upconv_any_backward_data)(p, dy, dx, workspace);
        return;
    }
    struct kr_dx part[2] = {*dx};
    part[0].c = p->in.c;
    const struct product b = backward(p, dy, part);
    KR_NAME(kr_product)(&b, workspace);
}

void KR_NAME(kr_upconv_backward_weight)(const struct kr_upconv *p, const float *dy, float *dw,
                                        float *dbias, void *workspace)
{
    if (!is_2x2(p)) {
        KR_NAME(kr_upconv_any_backward_weight)(p, dy, dw, dbias, workspace);
        return;
    }
    const struct outer o = outer(p, dy, dw, dbias);
    KR_NAME(kr_outer)(&o, workspace);
}
