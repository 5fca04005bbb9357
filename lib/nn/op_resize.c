/* op_resize.c - up by an integer factor in each axis, nearest or linear, as PyTorch's interpolate
 * (align_corners=False). */
#include "lib/nn/op.h"

static const struct nn_rule rule[] = {{"factor", NN_AXES, 1, KR_FACTOR_MOST, 2}, {0}};

static int shape(struct nn_build *b)
{
    for (int i = 0; i < 3; i++) {
        const int f = (int)b->attr[0].v[i], down = b->in[0]->down[i];
        if (down % f)
            return nn_refuse(b, "finer than the image (factor %d of an axis that is at 1/%d)", f,
                             down);
        b->out.down[i] = down / f;
    }
    return 0;
}

/* Linear along z, a slice is between two whose weights are rounded where they lie in the volume. */
static struct nn_reach linear_reach(const struct nn_attr *a)
{
    return (struct nn_reach){.whole = a[0].v[0] > 1};
}

static struct kr_resize describe(const struct nn_call *c, bool linear)
{
    const struct nn_shape *x = &c->x[0];
    const double *f = c->attr[0].v;
    return (struct kr_resize){
        .n = x->n,
        .d = x->d,
        .h = x->h,
        .w = x->w,
        .factor = {(int)f[0], (int)f[1], (int)f[2]},
        .linear = linear,
        .threads = c->threads,
    };
}

static void forward(const struct nn_call *c, bool linear)
{
    const struct kr_resize r = describe(c, linear);
    kr_resize_forward(&r, &c->in[0][0], &c->out, c->workspace);
}

static void data(const struct nn_call *c, bool linear)
{
    const struct kr_resize r = describe(c, linear);
    kr_resize_backward(&r, c->dy.dy, &c->dx[0][0], c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    const struct kr_resize r = describe(c, true);
    return kr_resize_workspace(&r, c->y.c);
}

#define RESIZE(kind, linear, of)                                                                   \
    static void kind##_forward(const struct nn_call *c)                                            \
    {                                                                                              \
        forward(c, linear);                                                                        \
    }                                                                                              \
    static void kind##_data(const struct nn_call *c)                                               \
    {                                                                                              \
        data(c, linear);                                                                           \
    }                                                                                              \
    const struct nn_kind nn_##kind = {.name = #kind,                                               \
                                      .rule = rule,                                                \
                                      .least = 1,                                                  \
                                      .most = 1,                                                   \
                                      .reads = NN_VIEWS,                                           \
                                      .finishes = true,                                            \
                                      .reach = of,                                                 \
                                      .shape = shape,                                              \
                                      .forward = kind##_forward,                                   \
                                      .data = kind##_data,                                         \
                                      .workspace = workspace};

RESIZE(nearest, false, NULL)
RESIZE(linear_resize, true, linear_reach)
