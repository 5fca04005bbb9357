/* One file for all operations: each is a page, and they share the draws and the treatment of the
 * background. */
#include "lib/image/augment.h"
#include "lib/image/vmath.h"

#include <math.h>

const struct img_op_info img_ops[IMG_OPS] = {
    [IMG_ROTATE] = {"rotate", {-180, 180, 0.2}, -360, 360},
    [IMG_SCALE] = {"scale", {0.7, 1.4, 0.2}, 0.1, 10},
    [IMG_ELASTIC] = {"elastic", {0, 8, 0.2}, 0, 100},
    [IMG_FLIP] = {"flip", {1, 1, 0.5}, 0, 1},
    [IMG_NOISE] = {"noise", {0, 0.1, 0.1}, 0, 1000},
    [IMG_BLUR] = {"blur", {0.5, 1, 0.2}, 0.1, 20},
    [IMG_BRIGHTNESS] = {"brightness", {0.75, 1.25, 0.15}, 0.01, 100},
    [IMG_CONTRAST] = {"contrast", {0.75, 1.25, 0.15}, 0.01, 100},
    [IMG_LOWRES] = {"lowres", {0.5, 1, 0.25}, 0.05, 1},
    [IMG_GAMMAINV] = {"gammainv", {0.7, 1.5, 0.1}, 0.1, 10},
    [IMG_GAMMA] = {"gamma", {0.7, 1.5, 0.3}, 0.1, 10},
};

#define GRID 32 /* pixels between the control points of elastic */

int img_op_find(const char *name, size_t len)
{
    for (int i = 0; i < IMG_OPS; i++)
        if (strlen(img_ops[i].name) == len && !memcmp(img_ops[i].name, name, len))
            return i;
    return -1;
}

static size_t grid_points(int side)
{
    return (size_t)(side - 1) / GRID + 4;
}

size_t img_augment_scratch(int h, int w)
{
    size_t plane = (size_t)h * (size_t)w, side = (size_t)(h > w ? h : w);
    return 3 * plane + 2 * grid_points(h) * grid_points(w) + 4 * grid_points(w) + 4 * side + 256;
}

/* --- draws ------------------------------------------------------------------------------------ */

static double draw(struct rng *r, const struct img_range *op)
{
    return rng_range(r, op->lo, op->hi);
}

/* Below 1 as often as above. */
static double draw_factor(struct rng *r, const struct img_range *op)
{
    bool below = rng_uniform(r) < 0.5;
    if (op->lo >= 1 || op->hi <= 1)
        return draw(r, op);
    return below ? rng_range(r, op->lo, 1) : rng_range(r, 1, op->hi);
}

void img_normals(struct rng key, float *out, size_t n)
{
    uint64_t k = rng_u64(&key);
    u4 count = {0, 1, 2, 3}, k0 = {0}, k1 = {0};
    k0 += (uint32_t)k;
    k1 += (uint32_t)(k >> 32);
    for (size_t i = 0; i < n; i += 8, count += 4) {
        u4 x = u4_hash(count * 0x9e3779b9u + k0), y = u4_hash(count * 0x85ebca6bu + k1);
        /* Box and Muller: u in (0, 1], so that the logarithm is finite. */
        v4 u = (__builtin_convertvector((i4)(x >> 8), v4) + V4(1)) * V4(0x1p-24f), s, c;
        v4 r = v4_sqrt(V4(-2) * v4_min(v4_log(u), V4(0)));
        v4_sincos(y, &s, &c);
        if (n - i >= 8) {
            v4_store(out + i, r * c);
            v4_store(out + i + 4, r * s);
            continue;
        }
        float eight[8];
        v4_store(eight, r * c);
        v4_store(eight + 4, r * s);
        memcpy(out + i, eight, (n - i) * sizeof *out);
    }
}

/* --- space ------------------------------------------------------------------------------------ */

/* Where the pixels of row y come from: the centre's rotation and scaling, then the displacement. */
struct warp {
    int h, w;
    double a, b; /* of the inverse: (x, y) -> (a x - b y, a y + b x) */
    size_t gh, gw;
    float *grid; /* (gh,gw,2): y, x; NULL without elastic */
    float *line; /* (gw,2) */
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
    float k[4];
    const float *g = m->grid + (size_t)(y / GRID) * m->gw * 2;
    spline((float)(y % GRID) / GRID, k);
    for (size_t i = 0; i < 2 * m->gw; i++)
        m->line[i] = k[0] * g[i] + k[1] * g[i + 2 * m->gw] + k[2] * g[i + 4 * m->gw] +
                     k[3] * g[i + 6 * m->gw];
    for (int x = 0; x < m->w; x++) {
        const float *l = m->line + 2 * (x / GRID);
        spline((float)(x % GRID) / GRID, k);
        sy[x] += k[0] * l[0] + k[1] * l[2] + k[2] * l[4] + k[3] * l[6];
        sx[x] += k[0] * l[1] + k[1] * l[3] + k[2] * l[5] + k[3] * l[7];
    }
}

static void warp_row(const struct warp *m, int y, float *sy, float *sx)
{
    double cy = (m->h - 1) / 2.0, cx = (m->w - 1) / 2.0, dy = y - cy;
    for (int x = 0; x < m->w; x++) {
        double dx = x - cx;
        sx[x] = (float)(m->a * dx - m->b * dy + cx);
        sy[x] = (float)(m->a * dy + m->b * dx + cy);
    }
    if (m->grid)
        displace(m, y, sy, sx);
}

static bool nearest(int h, int w, float y, float x, size_t *at)
{
    /* The comparisons come first: far outside, a conversion to int would be undefined. */
    if (!(y > -0.5f && y < (float)h - 0.5f && x > -0.5f && x < (float)w - 0.5f))
        return false;
    *at = (size_t)(int)(y + 0.5f) * (size_t)w + (size_t)(int)(x + 0.5f);
    return *at < (size_t)h * (size_t)w;
}

static float bilinear(const float *p, int h, int w, float y, float x)
{
    int y0 = (int)(y + 1) - 1, x0 = (int)(x + 1) - 1; /* y, x > -1: this is the floor */
    float fy = y - (float)y0, fx = x - (float)x0, v[2][2] = {{0}};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            if (y0 + i >= 0 && y0 + i < h && x0 + j >= 0 && x0 + j < w)
                v[i][j] = p[(size_t)(y0 + i) * (size_t)w + (size_t)(x0 + j)];
    return (1 - fy) * ((1 - fx) * v[0][0] + fx * v[0][1]) +
           fy * ((1 - fx) * v[1][0] + fx * v[1][1]);
}

static void resample(int c, int h, int w, const float *sy, const float *sx, float *image,
                     uint8_t *label, float *copy)
{
    size_t plane = (size_t)h * (size_t)w, at;
    for (int k = 0; k < c; k++, image += plane) {
        memcpy(copy, image, plane * sizeof *copy);
        for (size_t i = 0; i < plane; i++)
            image[i] = nearest(h, w, sy[i], sx[i], &at) && copy[at] != 0
                           ? bilinear(copy, h, w, sy[i], sx[i])
                           : 0;
    }
    if (label) {
        uint8_t *old = (uint8_t *)copy;
        memcpy(old, label, plane);
        for (size_t i = 0; i < plane; i++)
            label[i] = nearest(h, w, sy[i], sx[i], &at) ? old[at] : 0;
    }
}

static void flip_rows(void *p, size_t size, int h, int w, bool x, bool y)
{
    unsigned char *base = p;
    size_t row = (size_t)w * size;
    for (int i = 0; y && i < h / 2; i++)
        for (size_t j = 0; j < row; j++) {
            unsigned char *a = base + (size_t)i * row + j,
                          *b = base + (size_t)(h - 1 - i) * row + j;
            unsigned char t = *a;
            *a = *b;
            *b = t;
        }
    for (int i = 0; x && i < h; i++)
        for (size_t j = 0; j < (size_t)w / 2; j++)
            for (size_t k = 0; k < size; k++) {
                unsigned char *a = base + (size_t)i * row + j * size + k;
                unsigned char *b = base + (size_t)i * row + ((size_t)w - 1 - j) * size + k, t = *a;
                *a = *b;
                *b = t;
            }
}

/* --- intensity: each of these changes one channel, n pixels, zeros excepted ------------------- */

struct stats {
    double mean, deviation;
    float min, max;
    size_t n;
};

/* Sums in eight strands of double, so that the order is fixed and the adder not waited for. */
static struct stats channel_stats(const float *p, size_t n)
{
    double sum[8] = {0}, square[8] = {0};
    size_t count[8] = {0};
    struct stats s = {0, 0, INFINITY, -INFINITY, 0};
    for (size_t i = 0; i < n; i++) {
        double v = p[i];
        sum[i % 8] += v;
        square[i % 8] += v * v;
        count[i % 8] += p[i] != 0;
        s.min = p[i] != 0 && p[i] < s.min ? p[i] : s.min;
        s.max = p[i] != 0 && p[i] > s.max ? p[i] : s.max;
    }
    for (int i = 1; i < 8; i++) {
        sum[0] += sum[i];
        square[0] += square[i];
        s.n += count[i];
    }
    s.n += count[0];
    if (s.n) {
        s.mean = sum[0] / (double)s.n;
        s.deviation = sqrt(fmax(square[0] / (double)s.n - s.mean * s.mean, 0));
    }
    return s;
}

static void noise(float *p, size_t n, struct rng key, float deviation, float *normal)
{
    img_normals(key, normal, n);
    for (size_t i = 0; i < n; i++)
        p[i] = p[i] != 0 ? p[i] + deviation * normal[i] : 0;
}

static void contrast(float *p, size_t n, float factor)
{
    struct stats s = channel_stats(p, n);
    float mean = (float)s.mean;
    for (size_t i = 0; i < n; i++) {
        float v = mean + (p[i] - mean) * factor;
        v = v < s.min ? s.min : v > s.max ? s.max : v;
        p[i] = p[i] != 0 ? v : 0;
    }
}

/* Gives the channel back its mean and deviation: a x + b. */
static void restore(float *p, size_t n, const struct stats *old)
{
    struct stats s = channel_stats(p, n);
    float a = s.deviation > 0 ? (float)(old->deviation / s.deviation) : 1;
    float b = (float)(old->mean - a * s.mean);
    for (size_t i = 0; i < n; i++)
        p[i] = p[i] != 0 ? a * p[i] + b : 0;
}

struct curve {
    v4 from, step, back, exponent;
};

static v4 bend(v4 v, const struct curve *c)
{
    v4 x = v4_max((v - c->from) * c->step, V4(1e-20f));
    v4 y = v4_exp2(v4_max(v4_log(x) * c->exponent, V4(-100))) * c->back + c->from;
    return v4_pick(v != V4(0), y, V4(0));
}

static void gamma_curve(float *p, size_t n, float exponent, bool inverse)
{
    struct stats s = channel_stats(p, n);
    float range = s.max - s.min, tail[4] = {0};
    if (!(range > 0) || !(range < INFINITY))
        return;
    float sign = inverse ? -1 : 1, log2e = 1.44269504f; /* 2^(log2e log x) */
    struct curve c = {V4(inverse ? s.max : s.min), V4(sign / range), V4(sign * range),
                      V4(log2e * exponent)};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        v4_store(p + i, bend(v4_load(p + i), &c));
    if (i < n) {
        memcpy(tail, p + i, (n - i) * sizeof *p);
        v4_store(tail, bend(v4_load(tail), &c));
        memcpy(p + i, tail, (n - i) * sizeof *p);
    }
    restore(p, n, &s);
}

static void blur(float *p, int h, int w, double sigma, float *scratch)
{
    int radius = (int)ceil(3 * sigma), side = w + 2 * radius;
    float *k = scratch, *line = k + 2 * radius + 1, *across = line + side;
    double sum = 0;
    for (int i = -radius; i <= radius; i++)
        sum += exp(-i * i / (2 * sigma * sigma));
    for (int i = -radius; i <= radius; i++)
        k[radius + i] = (float)(exp(-i * i / (2 * sigma * sigma)) / sum);
    for (int y = 0; y < h; y++) { /* along the rows, edges continued */
        const float *row = p + (size_t)y * (size_t)w;
        float *out = across + (size_t)y * (size_t)w;
        for (int x = 0; x < side; x++) {
            int from = x - radius;
            line[x] = row[from < 0 ? 0 : from >= w ? w - 1 : from];
        }
        int x = 0;
        for (; x + 4 <= w; x += 4) {
            v4 acc = V4(0);
            for (int i = 0; i <= 2 * radius; i++)
                acc += V4(k[i]) * v4_load(line + x + i);
            v4_store(out + x, acc);
        }
        for (; x < w; x++) {
            float acc = 0;
            for (int i = 0; i <= 2 * radius; i++)
                acc += k[i] * line[x + i];
            out[x] = acc;
        }
    }
    for (int y = 0; y < h; y++) {
        float *row = p + (size_t)y * (size_t)w;
        memset(line, 0, (size_t)w * sizeof *line);
        for (int i = -radius; i <= radius; i++) {
            int from = y + i < 0 ? 0 : y + i >= h ? h - 1 : y + i, x = 0;
            const float *in = across + (size_t)from * (size_t)w;
            for (; x + 4 <= w; x += 4)
                v4_store(line + x, v4_load(line + x) + V4(k[radius + i]) * v4_load(in + x));
            for (; x < w; x++)
                line[x] += k[radius + i] * in[x];
        }
        for (int x = 0; x < w; x++)
            row[x] = row[x] != 0 ? line[x] : 0;
    }
}

static int downsampled(int side, double factor)
{
    int n = (int)(side * factor + 0.5);
    return n < 1 ? 1 : n;
}

/* Pixel centres of the coarse grid at (i + 0.5) side / n of the fine one. */
static void lowres(float *p, int h, int w, double factor, float *coarse)
{
    int ch = downsampled(h, factor), cw = downsampled(w, factor);
    for (int y = 0; y < ch; y++)
        for (int x = 0; x < cw; x++)
            coarse[(size_t)y * (size_t)cw + (size_t)x] =
                p[(size_t)((y + 0.5) * h / ch) * (size_t)w + (size_t)((x + 0.5) * w / cw)];
    for (int y = 0; y < h; y++) {
        float sy = fmaxf(((float)y + 0.5f) * (float)ch / (float)h - 0.5f, 0);
        int y0 = (int)sy, y1 = y0 + 1 < ch ? y0 + 1 : y0;
        float fy = sy - (float)y0, step = (float)cw / (float)w;
        const float *a = coarse + (size_t)y0 * (size_t)cw, *b = coarse + (size_t)y1 * (size_t)cw;
        float *row = p + (size_t)y * (size_t)w;
        for (int x = 0; x < w; x++) {
            float sx = ((float)x + 0.5f) * step - 0.5f;
            sx = sx < 0 ? 0 : sx;
            int x0 = (int)sx, x1 = x0 + 1 < cw ? x0 + 1 : x0;
            float fx = sx - (float)x0, up = a[x0] + fx * (a[x1] - a[x0]),
                  down = b[x0] + fx * (b[x1] - b[x0]);
            row[x] = row[x] != 0 ? up + fy * (down - up) : 0;
        }
    }
}

/* --- all of it -------------------------------------------------------------------------------- */

struct slice {
    float *image, *scratch;
    uint8_t *label;
    int c, h, w;
};

static unsigned move(const struct img_range op[IMG_OPS], const struct rng r0[IMG_OPS],
                     unsigned wanted, const struct slice *s)
{
    struct rng r[IMG_OPS];
    size_t plane = (size_t)s->h * (size_t)s->w;
    float *sy = s->scratch, *sx = sy + plane, *copy = sx + plane, *rest = copy + plane;
    double angle = 0, factor = 1;
    memcpy(r, r0, sizeof r);
    wanted &= 1u << IMG_ROTATE | 1u << IMG_SCALE | 1u << IMG_ELASTIC;
    if (!wanted)
        return 0;
    if (wanted & 1u << IMG_ROTATE)
        angle = draw(&r[IMG_ROTATE], &op[IMG_ROTATE]) * (3.14159265358979323846 / 180);
    if (wanted & 1u << IMG_SCALE)
        factor = draw_factor(&r[IMG_SCALE], &op[IMG_SCALE]);
    struct warp m = {
        s->h, s->w, cos(angle) / factor, sin(angle) / factor, grid_points(s->h), grid_points(s->w),
        NULL, NULL};
    if (wanted & 1u << IMG_ELASTIC) {
        double most = draw(&r[IMG_ELASTIC], &op[IMG_ELASTIC]);
        m.grid = rest;
        m.line = rest + 2 * m.gh * m.gw;
        for (size_t i = 0; i < 2 * m.gh * m.gw; i++)
            m.grid[i] = (float)rng_range(&r[IMG_ELASTIC], -most, most);
    }
    for (int y = 0; y < s->h; y++)
        warp_row(&m, y, sy + (size_t)y * (size_t)s->w, sx + (size_t)y * (size_t)s->w);
    resample(s->c, s->h, s->w, sy, sx, s->image, s->label, copy);
    return wanted;
}

static unsigned flip(const struct img_range *op, struct rng *r, const struct slice *s)
{
    bool x = rng_uniform(r) < op->p && op->lo > 0, y = rng_uniform(r) < op->p && op->hi > 0;
    if (!x && !y)
        return 0;
    flip_rows(s->image, sizeof(float), s->h * s->c, s->w, x, false);
    for (int k = 0; k < s->c; k++)
        flip_rows(s->image + (size_t)k * (size_t)s->h * (size_t)s->w, sizeof(float), s->h, s->w,
                  false, y);
    if (s->label)
        flip_rows(s->label, 1, s->h, s->w, x, y);
    return 1u << IMG_FLIP;
}

static void change_channel(enum img_op o, const struct img_range *op, struct rng *r,
                           const struct slice *s, int k)
{
    size_t n = (size_t)s->h * (size_t)s->w;
    float *p = s->image + (size_t)k * n;
    bool chosen = true;
    double v;
    if (o == IMG_BLUR || o == IMG_LOWRES)
        chosen = rng_uniform(r) < 0.5;
    v = o == IMG_NOISE || o == IMG_BLUR || o == IMG_LOWRES ? draw(r, op) : draw_factor(r, op);
    if (!chosen)
        return;
    switch (o) {
    case IMG_NOISE:
        rng_mix(r, (uint64_t)k);
        noise(p, n, *r, (float)v, s->scratch);
        break;
    case IMG_BLUR:
        blur(p, s->h, s->w, v, s->scratch);
        break;
    case IMG_BRIGHTNESS:
        for (size_t i = 0; i < n; i++)
            p[i] *= (float)v;
        break;
    case IMG_CONTRAST:
        contrast(p, n, (float)v);
        break;
    case IMG_LOWRES:
        lowres(p, s->h, s->w, v, s->scratch);
        break;
    case IMG_GAMMAINV:
    case IMG_GAMMA:
        gamma_curve(p, n, (float)v, o == IMG_GAMMAINV);
        break;
    default:
        break;
    }
}

unsigned img_augment(const struct img_range op[IMG_OPS], struct rng key, float *image, int c, int h,
                     int w, uint8_t *label, float *scratch)
{
    struct slice s = {image, scratch, label, c, h, w};
    struct rng r[IMG_OPS];
    unsigned wanted = 0, done;
    for (int o = 0; o < IMG_OPS; o++) {
        r[o] = key;
        rng_mix_text(&r[o], img_ops[o].name);
        if (o != IMG_FLIP && op[o].p > 0 && rng_uniform(&r[o]) < op[o].p)
            wanted |= 1u << o;
    }
    done = move(op, r, wanted, &s);
    if (op[IMG_FLIP].p > 0)
        done |= flip(&op[IMG_FLIP], &r[IMG_FLIP], &s);
    for (int o = IMG_NOISE; o < IMG_OPS; o++)
        if (wanted & 1u << o) {
            for (int k = 0; k < c; k++)
                change_channel((enum img_op)o, &op[o], &r[o], &s, k);
            done |= 1u << o;
        }
    return done;
}
