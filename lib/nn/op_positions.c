/* op_positions.c - adds learned positions: a table of channels over a grid, which is brought to the
 * map's size as PyTorch's interpolate does (linear, align_corners=False). So one table serves maps
 * of any size (Dosovitskiy et al., arXiv:2010.11929, 3.2). It begins with zeros, as TransUNet's
 * does. */
#include "lib/nn/op.h"

#include <string.h>

enum { GRID_MOST = 64 };

static const struct nn_rule rule[] = {{"size", NN_AXES, 1, GRID_MOST, NAN}, {0}};

static int shape(struct nn_build *b)
{
    const double *size = b->attr[0].v;
    uint32_t dim[4] = {(uint32_t)b->in[0]->c};
    int rank = 1;
    for (int i = 0; i < 3; i++)
        if (i || size[0] > 1)
            dim[rank++] = (uint32_t)size[i];
    nn_declare(b, "weight", true, NN_ZEROS, 0, rank, dim);
    return 0;
}

/* A grid that has slices lies over those of the volume. */
static struct nn_reach reach(const struct nn_attr *a)
{
    return (struct nn_reach){.whole = a[0].v[0] > 1};
}

/* The two places of the grid, along one axis, that make place o of n. */
struct taps {
    size_t at[2];
    float w[2];
};

static struct taps taps_of(const struct nn_call *c, int axis, int n, int o)
{
    const int grid = (int)c->attr[0].v[axis];
    const float place = ((float)o + 0.5f) * (float)grid / (float)n - 0.5f;
    const float from = place > 0 ? place : 0;
    struct taps t = {.at = {(size_t)from}};
    t.at[1] = t.at[0] + 1 < (size_t)grid ? t.at[0] + 1 : t.at[0];
    t.w[1] = from - (float)t.at[0];
    t.w[0] = 1 - t.w[1];
    return t;
}

/* The corners of the grid that make a pixel. */
struct corners {
    size_t at[8];
    float w[8];
};

static struct corners corners_of(const struct nn_call *c, int z, int y, int x)
{
    const struct nn_shape *s = &c->y;
    const size_t h = (size_t)c->attr[0].v[1], w = (size_t)c->attr[0].v[2];
    const struct taps tz = taps_of(c, 0, s->d, z), ty = taps_of(c, 1, s->h, y);
    const struct taps tx = taps_of(c, 2, s->w, x);
    struct corners k;
    for (int i = 0; i < 8; i++) {
        k.at[i] = (tz.at[i / 4] * h + ty.at[i / 2 % 2]) * w + tx.at[i % 2];
        k.w[i] = tz.w[i / 4] * ty.w[i / 2 % 2] * tx.w[i % 2];
    }
    return k;
}

static size_t grid_of(const struct nn_call *c)
{
    const double *size = c->attr[0].v;
    return (size_t)(size[0] * size[1] * size[2]);
}

static void forward(const struct nn_call *c)
{
    const struct nn_shape *s = &c->y;
    const size_t cp = (size_t)kr_pad(s->c), grid = grid_of(c);
    const float *in = c->in[0][0].x, *table = c->param[0];
    float *out = c->out.y;
#pragma omp parallel for schedule(static) num_threads(c->threads)
    for (int row = 0; row < s->n * s->d * s->h; row++)
        for (int x = 0; x < s->w; x++) {
            const struct corners k = corners_of(c, row / s->h % s->d, row % s->h, x);
            const size_t p = ((size_t)row * (size_t)s->w + (size_t)x) * cp;
            for (int i = 0; i < s->c; i++) {
                float v = 0;
                for (int j = 0; j < 8; j++)
                    v += k.w[j] * table[(size_t)i * grid + k.at[j]];
                out[p + (size_t)i] = in[p + (size_t)i] + v;
            }
            for (size_t i = (size_t)s->c; i < cp; i++)
                out[p + i] = 0;
        }
}

static void weight(const struct nn_call *c)
{
    const struct nn_shape *s = &c->y;
    const size_t cp = (size_t)kr_pad(s->c), grid = grid_of(c);
    const float *dy = c->dy.dy;
#pragma omp parallel for schedule(static) num_threads(c->threads)
    for (int i = 0; i < s->c; i++) {
        float *to = c->grad[0] + (size_t)i * grid;
        memset(to, 0, grid * sizeof *to);
        for (int row = 0; row < s->n * s->d * s->h; row++)
            for (int x = 0; x < s->w; x++) {
                const struct corners k = corners_of(c, row / s->h % s->d, row % s->h, x);
                const size_t p = ((size_t)row * (size_t)s->w + (size_t)x) * cp;
                for (int j = 0; j < 8; j++)
                    to[k.at[j]] += k.w[j] * dy[p + (size_t)i];
            }
    }
}

static void data(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    kr_add_backward(&d, c->dy.dy, 1, &c->dx[0][0], c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    return c->pass == PASS_DATA ? kr_pointwise_workspace(&d, c->y.c) : 0;
}

const struct nn_kind nn_positions = {.name = "positions",
                                     .rule = rule,
                                     .least = 1,
                                     .most = 1,
                                     .reads = NN_PLAIN,
                                     .reach = reach,
                                     .shape = shape,
                                     .forward = forward,
                                     .weight = weight,
                                     .data = data,
                                     .workspace = workspace};
