/* What changes a channel's values and not its geometry: noise, curves, fields, blur, boxes. */
#include "lib/image/augment_impl.h"
#include "lib/image/vmath.h"

#include <math.h>

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
        v4_store_some(out + i, r * c, n - i);
        if (n - i > 4)
            v4_store_some(out + i + 4, r * s, n - i - 4);
    }
}

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

void img_noise(float *p, size_t n, struct rng key, float deviation, float *normal)
{
    img_normals(key, normal, n);
    for (size_t i = 0; i < n; i++)
        p[i] = p[i] != 0 ? p[i] + deviation * normal[i] : 0;
}

void img_brightness(float *p, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++)
        p[i] *= factor;
}

void img_shift(float *p, size_t n, float added)
{
    for (size_t i = 0; i < n; i++)
        p[i] = p[i] != 0 ? p[i] + added : 0;
}

void img_contrast(float *p, size_t n, float factor)
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

void img_gamma(float *p, size_t n, float exponent, bool inverse)
{
    struct stats s = channel_stats(p, n);
    float range = s.max - s.min;
    if (!(range > 0) || !(range < INFINITY))
        return;
    float sign = inverse ? -1 : 1, log2e = 1.44269504f; /* 2^(log2e log x) */
    struct curve c = {V4(inverse ? s.max : s.min), V4(sign / range), V4(sign * range),
                      V4(log2e * exponent)};
    for (size_t i = 0; i < n; i += 4)
        v4_store_some(p + i, bend(v4_load_some(p + i, n - i), &c), n - i);
    restore(p, n, &s);
}

/* Inner control points are drawn one after the other, each between the new place of the one before
 * it and the old one of that behind it, so that none passes another. */
void img_histogram(float *p, size_t n, struct rng *r, int points)
{
    struct stats s = channel_stats(p, n);
    float to[IMG_MAX_POINTS] = {0}, range = s.max - s.min, last = (float)(points - 1);
    for (int i = 1; i < points - 1; i++)
        to[i] = (float)rng_range(r, (double)to[i - 1], (i + 1) / (double)last);
    to[points - 1] = 1;
    if (!(range > 0) || !(range < INFINITY))
        return;
    for (size_t i = 0; i < n; i++) {
        float at = (p[i] - s.min) / range * last;
        at = at < 0 ? 0 : at > last ? last : at; /* background may lie outside */
        int below = at < last ? (int)at : points - 2;
        float share = to[below] + (at - (float)below) * (to[below + 1] - to[below]);
        p[i] = p[i] != 0 ? s.min + share * range : 0;
    }
}

/* The field is exp of a polynomial of degree 3 in x and y from -1 to 1, without a constant. It
 * multiplies what a voxel has above the least, which stands for no signal. */
void img_biasfield(float *p, int h, int w, struct rng *r, double most)
{
    struct stats s = channel_stats(p, (size_t)h * (size_t)w);
    float k[4][4] = {{0}}, log2e = 1.44269504f;
    for (int i = 0; i < 4; i++)
        for (int j = i ? 0 : 1; i + j < 4; j++)
            k[i][j] = log2e * (float)rng_range(r, -most, most);
    if (!(s.max - s.min > 0) || !(s.max - s.min < INFINITY))
        return;
    for (int y = 0; y < h; y++) {
        float t = (2 * (float)y + 1) / (float)h - 1, a[4], *row = p + (size_t)y * (size_t)w;
        v4 x = {0.5f, 1.5f, 2.5f, 3.5f}, step = V4(2 / (float)w);
        for (int j = 0; j < 4; j++)
            a[j] = k[0][j] + t * (k[1][j] + t * (k[2][j] + t * k[3][j]));
        for (size_t i = 0; i < (size_t)w; i += 4, x += 4) {
            v4 u = x * step - V4(1), v = v4_load_some(row + i, (size_t)w - i);
            v4 field = v4_exp2(V4(a[0]) + u * (V4(a[1]) + u * (V4(a[2]) + u * V4(a[3]))));
            v = v4_pick(v != V4(0), V4(s.min) + (v - V4(s.min)) * field, V4(0));
            v4_store_some(row + i, v, (size_t)w - i);
        }
    }
    restore(p, (size_t)h * (size_t)w, &s);
}

void img_blur(float *p, int h, int w, double sigma, float *scratch)
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
void img_lowres(float *p, int h, int w, double fy, double fx, float *coarse)
{
    int ch = downsampled(h, fy), cw = downsampled(w, fx);
    for (int y = 0; y < ch; y++)
        for (int x = 0; x < cw; x++)
            coarse[(size_t)y * (size_t)cw + (size_t)x] =
                p[(size_t)((y + 0.5) * h / ch) * (size_t)w + (size_t)((x + 0.5) * w / cw)];
    for (int y = 0; y < h; y++) {
        float sy = fmaxf(((float)y + 0.5f) * (float)ch / (float)h - 0.5f, 0);
        int y0 = (int)sy, y1 = y0 + 1 < ch ? y0 + 1 : y0;
        float ty = sy - (float)y0, step = (float)cw / (float)w;
        const float *a = coarse + (size_t)y0 * (size_t)cw, *b = coarse + (size_t)y1 * (size_t)cw;
        float *row = p + (size_t)y * (size_t)w;
        for (int x = 0; x < w; x++) {
            float sx = ((float)x + 0.5f) * step - 0.5f;
            sx = sx < 0 ? 0 : sx;
            int x0 = (int)sx, x1 = x0 + 1 < cw ? x0 + 1 : x0;
            float tx = sx - (float)x0, up = a[x0] + tx * (a[x1] - a[x0]),
                  down = b[x0] + tx * (b[x1] - b[x0]);
            row[x] = row[x] != 0 ? up + ty * (down - up) : 0;
        }
    }
}

static int side_of(int side, double share)
{
    int n = downsampled(side, share);
    return n < side ? n : side;
}

void img_cutout(float *p, int h, int w, struct rng *r, double lo, double hi)
{
    float mean = (float)channel_stats(p, (size_t)h * (size_t)w).mean;
    for (uint64_t boxes = 1 + rng_below(r, 4); boxes > 0; boxes--) {
        int bh = side_of(h, rng_range(r, lo, hi)), bw = side_of(w, rng_range(r, lo, hi));
        int y = (int)rng_below(r, (uint64_t)(h - bh + 1));
        int x = (int)rng_below(r, (uint64_t)(w - bw + 1));
        for (int i = y; i < y + bh; i++)
            for (float *q = p + (size_t)i * (size_t)w + x, *end = q + bw; q < end; q++)
                *q = *q != 0 ? mean : 0;
    }
}
