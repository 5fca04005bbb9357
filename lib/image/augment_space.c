/* Rotation, scaling, stretching and bending as one interpolation, of image and label; mirrors. */
#include "lib/image/augment_impl.h"
#include "lib/image/batch.h"
#include "lib/image/vmath.h"

#include <math.h>

#define GRID 32 /* pixels between the control points of elastic */

static size_t grid_points(int side)
{
    return (size_t)(side - 1) / GRID + 4;
}

/* Planes begin and end at multiples of four floats. */
static size_t fours(size_t n)
{
    return (n + 3) / 4 * 4;
}

size_t img_move_scratch(int h, int w)
{
    size_t plane = fours((size_t)h * (size_t)w), framed = ((size_t)h + 2) * ((size_t)w + 2);
    return 2 * plane + fours(framed) + 2 * (grid_points(h) + 1) * grid_points(w);
}

/* Where the pixels of row y come from: the centre's turn and scaling, then the displacement. */
struct warp {
    int h, w;
    double yy, yx, xy, xx; /* of the inverse: (y, x) -> (yy y + yx x, xy y + xx x) */
    size_t gh, gw;
    float *grid;           /* (gh,gw,2): y, x; NULL without elastic */
    float *line;           /* (gw,2) */
    float spline[GRID][4]; /* of each pixel between two control points */
};

static void spline(float t, float k[4])
{
    float u = 1 - t, t2 = t * t, t3 = t2 * t;
    k[0] = u * u * u / 6;
    k[1] = (3 * t3 - 6 * t2 + 4) / 6;
    k[2] = (-3 * t3 + 3 * t2 + 3 * t + 1) / 6;
    k[3] = t3 / 6;
}

static void displace(const struct warp *m, int y, float *sy, float *sx)
{
    const float *g = m->grid + (size_t)(y / GRID) * m->gw * 2, *k = m->spline[y % GRID];
    for (size_t i = 0; i < 2 * m->gw; i++)
        m->line[i] = k[0] * g[i] + k[1] * g[i + 2 * m->gw] + k[2] * g[i + 4 * m->gw] +
                     k[3] * g[i + 6 * m->gw];
    for (int x = 0; x < m->w; x++) {
        const float *l = m->line + 2 * (x / GRID);
        k = m->spline[x % GRID];
        sy[x] += k[0] * l[0] + k[1] * l[2] + k[2] * l[4] + k[3] * l[6];
        sx[x] += k[0] * l[1] + k[1] * l[3] + k[2] * l[5] + k[3] * l[7];
    }
}

static void warp_row(const struct warp *m, int y, float *sy, float *sx)
{
    double cy = (m->h - 1) / 2.0, cx = (m->w - 1) / 2.0, dy = y - cy;
    for (int x = 0; x < m->w; x++) {
        double dx = x - cx;
        sy[x] = (float)(m->yy * dy + m->yx * dx + cy);
        sx[x] = (float)(m->xy * dy + m->xx * dx + cx);
    }
    if (m->grid)
        displace(m, y, sy, sx);
}

/* Four places in a copy with a rim of one zero all round, to which all that lies outside is drawn:
 * the offset of the corner above and left, and how far on it is. */
struct corners {
    i4 at;
    v4 fy, fx;
};

static struct corners corners(int h, int w, v4 y, v4 x)
{
    /* From half a pixel beyond the last on, the nearest is the rim. */
    y = v4_min(v4_max(y + V4(1), V4(0)), V4((float)h + 0.5f));
    x = v4_min(v4_max(x + V4(1), V4(0)), V4((float)w + 0.5f));
    i4 y0 = __builtin_convertvector(y, i4), x0 = __builtin_convertvector(x, i4);
    return (struct corners){y0 * (w + 2) + x0, y - __builtin_convertvector(y0, v4),
                            x - __builtin_convertvector(x0, v4)};
}

static v4 bilinear(const struct corners *c, const float *copy, int stride)
{
    v4 a, b, d, e;
    for (int k = 0; k < 4; k++) {
        const float *q = copy + c->at[k];
        a[k] = q[0];
        b[k] = q[1];
        d[k] = q[stride];
        e[k] = q[stride + 1];
    }
    i4 right = c->fx >= V4(0.5f), below = c->fy >= V4(0.5f);
    v4 nearest = v4_pick(below, v4_pick(right, e, d), v4_pick(right, b, a));
    v4 up = a + c->fx * (b - a), down = d + c->fx * (e - d);
    return v4_pick(nearest != V4(0), up + c->fy * (down - up), V4(0));
}

static void frame(const void *plane, size_t size, int h, int w, void *copy)
{
    size_t row = (size_t)w * size, framed = row + 2 * size;
    char *to = copy;
    memset(to, 0, framed * ((size_t)h + 2));
    for (int y = 0; y < h; y++)
        memcpy(to + framed * ((size_t)y + 1) + size, (const char *)plane + row * (size_t)y, row);
}

static void resample(const struct img_slice *s, const float *sy, const float *sx, void *copy)
{
    size_t n = (size_t)s->h * (size_t)s->w;
    for (int k = 0; k < s->c; k++) {
        float *p = s->image + (size_t)k * n;
        frame(p, sizeof *p, s->h, s->w, copy);
        for (size_t i = 0; i < n; i += 4) {
            struct corners c = corners(s->h, s->w, v4_load(sy + i), v4_load(sx + i));
            v4_store_some(p + i, bilinear(&c, copy, s->w + 2), n - i);
        }
    }
    if (!s->label)
        return;
    frame(s->label, 1, s->h, s->w, copy);
    for (size_t i = 0; i < n; i += 4) {
        struct corners c = corners(s->h, s->w, v4_load(sy + i), v4_load(sx + i));
        for (size_t k = 0; k < 4 && i + k < n; k++)
            s->label[i + k] = ((
                const uint8_t *)copy)[c.at[k] + (c.fx[k] >= 0.5f) + (c.fy[k] >= 0.5f) * (s->w + 2)];
    }
}

void img_move(const struct img_motion *o, const struct img_slice *s)
{
    size_t n = (size_t)s->h * (size_t)s->w, gh = grid_points(s->h), gw = grid_points(s->w);
    float *sy = s->scratch, *sx = sy + fours(n), *copy = sx + fours(n);
    float *rest = copy + fours(((size_t)s->h + 2) * ((size_t)s->w + 2));
    double cosine = cos(o->angle), sine = sin(o->angle);
    struct rng bend = o->bend;
    struct warp m = {.h = s->h,
                     .w = s->w,
                     .yy = cosine / o->factor[0],
                     .yx = sine / o->factor[0],
                     .xy = -sine / o->factor[1],
                     .xx = cosine / o->factor[1],
                     .gh = gh,
                     .gw = gw};
    if (o->most > 0) {
        m.grid = rest;
        m.line = rest + 2 * gh * gw;
        for (size_t i = 0; i < 2 * gh * gw; i++)
            m.grid[i] = (float)rng_range(&bend, -o->most, o->most);
        for (int i = 0; i < GRID; i++)
            spline((float)i / GRID, m.spline[i]);
    }
    for (int y = 0; y < s->h; y++)
        warp_row(&m, y, sy + (size_t)y * (size_t)s->w, sx + (size_t)y * (size_t)s->w);
    for (size_t i = n; i < fours(n); i++)
        sy[i] = sx[i] = 0;
    resample(s, sy, sx, copy);
}

void img_mirror(const struct img_slice *s, bool x, bool y)
{
    img_batch_mirror(s->image, (size_t)s->c, s->h, s->w, s->h, s->w, x, y);
    if (s->label)
        img_batch_mirror_label(s->label, s->h, s->w, x, y);
}
