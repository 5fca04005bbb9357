/* Boxes may reach beyond the slice on any side: what lies there is zero. */
#include "lib/image/crop.h"

#include <string.h>

#include "lib/image/load.h"

static size_t rows(const struct tensor *t)
{
    return t->dim[t->rank - 2];
}

static size_t columns(const struct tensor *t)
{
    return t->dim[t->rank - 1];
}

/* First and one past the last of n elements that is not zero; false if all are. */
static bool span(const struct tensor *t, size_t at, size_t n, size_t *first, size_t *end)
{
    double v[IMG_CHUNK];
    bool found = false;
    for (size_t i = 0; i < n; i += IMG_CHUNK) {
        size_t m = n - i < IMG_CHUNK ? n - i : IMG_CHUNK, k = 0;
        img_load(t, at + i, m, v);
        while (k < m && v[k] == 0)
            k++;
        if (k == m)
            continue;
        if (!found)
            *first = i + k;
        found = true;
        while (v[m - 1] == 0)
            m--;
        *end = i + m;
    }
    return found;
}

bool img_nonzero_box(const struct tensor *t, struct img_box *box)
{
    size_t h = rows(t), w = columns(t), lines = tensor_count(t) / w;
    size_t top = h, bottom = 0, left = w, right = 0, first, end;
    for (size_t i = 0; i < lines; i++)
        if (span(t, i * w, w, &first, &end)) {
            size_t y = i % h;
            top = y < top ? y : top;
            bottom = y >= bottom ? y + 1 : bottom;
            left = first < left ? first : left;
            right = end > right ? end : right;
        }
    if (!bottom) {
        *box = (struct img_box){0, 0, 0, 0};
        return false;
    }
    *box = (struct img_box){(long)top, (long)left, (long)(bottom - top), (long)(right - left)};
    return true;
}

/* Half of n, rounded down for negative n too. */
static long half(long n)
{
    return (n - (n < 0)) / 2;
}

struct img_box img_box_fixed(struct img_box b, long height, long width, long rows_, long columns_)
{
    if (b.height <= 0 || b.width <= 0)
        b = (struct img_box){rows_ / 2, columns_ / 2, 0, 0};
    return (struct img_box){b.y - half(height - b.height), b.x - half(width - b.width), height,
                            width};
}

static long round_up(long n, long m)
{
    return n > 0 ? (n + m - 1) / m * m : m;
}

struct img_box img_box_multiple(struct img_box b, long m, long rows_, long columns_)
{
    return img_box_fixed(b, round_up(b.height, m), round_up(b.width, m), rows_, columns_);
}

/* The part of the box that lies on a grid of h x w, as a box on that grid; empty if none does. */
static struct img_box on_grid(struct img_box b, long h, long w)
{
    long y0 = b.y > 0 ? b.y : 0, x0 = b.x > 0 ? b.x : 0;
    long y1 = b.y + b.height < h ? b.y + b.height : h, x1 = b.x + b.width < w ? b.x + b.width : w;
    return y1 > y0 && x1 > x0 ? (struct img_box){y0, x0, y1 - y0, x1 - x0}
                              : (struct img_box){0, 0, 0, 0};
}

void img_crop(const struct tensor *in, struct img_box b, struct tensor *out)
{
    size_t h = rows(in), w = columns(in), size = dtype_size(in->dtype);
    size_t planes = tensor_count(in) / (h * w), line = (size_t)b.width * size;
    struct img_box on = on_grid(b, (long)h, (long)w);
    size_t before = (size_t)(on.x - b.x) * size, part = (size_t)on.width * size;
    for (size_t p = 0; p < planes; p++)
        for (long y = 0; y < b.height; y++) {
            char *to = (char *)out->data + (p * (size_t)b.height + (size_t)y) * line;
            long from = b.y + y;
            if (!on.height || from < on.y || from >= on.y + on.height) {
                memset(to, 0, line);
                continue;
            }
            memset(to, 0, before);
            memcpy(to + before,
                   (const char *)in->data + ((p * h + (size_t)from) * w + (size_t)on.x) * size,
                   part);
            memset(to + before + part, 0, line - before - part);
        }
}

/* How many of n elements are not zero. */
static size_t nonzero(const struct tensor *t, size_t first, size_t n)
{
    double v[IMG_CHUNK], many = 0;
    for (size_t i = 0; i < n; i += IMG_CHUNK) {
        size_t m = n - i < IMG_CHUNK ? n - i : IMG_CHUNK;
        img_load(t, first + i, m, v);
#pragma omp simd reduction(+ : many)
        for (size_t k = 0; k < m; k++)
            many += v[k] != 0;
    }
    return (size_t)many;
}

size_t img_count_outside(const struct tensor *t, struct img_box b)
{
    size_t h = rows(t), w = columns(t), lines = tensor_count(t) / w, n = 0;
    struct img_box on = on_grid(b, (long)h, (long)w);
    for (size_t i = 0; i < lines; i++) {
        long y = (long)(i % h);
        bool beside = y < on.y || y >= on.y + on.height;
        size_t left = beside ? w : (size_t)on.x, right = beside ? w : left + (size_t)on.width;
        n += nonzero(t, i * w, left) + nonzero(t, i * w + right, w - right);
    }
    return n;
}
