#include "lib/image/beside.h"
#include "lib/image/batch.h"

#include <string.h>

static size_t plane(const struct img_beside *b)
{
    return (size_t)b->h * (size_t)b->w;
}

static float *slot(const struct img_beside *b, long z)
{
    return b->ring + (size_t)(z % img_beside_planes(b->k)) * (size_t)b->c * plane(b);
}

size_t img_beside_floats(int k, int c, int h, int w)
{
    return (size_t)img_beside_planes(k) * (size_t)c * (size_t)h * (size_t)w;
}

void img_beside_begin(struct img_beside *b, int h, int w)
{
    b->h = h;
    b->w = w;
    b->in = b->out = 0;
}

void img_beside_put(struct img_beside *b, const struct tensor *image, const int *order)
{
    img_batch_image(image, order, b->h, b->w, slot(b, b->in++));
}

bool img_beside_ready(const struct img_beside *b, bool over)
{
    return over ? b->out < b->in : b->out + b->k < b->in;
}

void img_beside_take(struct img_beside *b, float *to)
{
    const size_t n = plane(b);
    for (int i = 0; i < b->c; i++)
        for (long j = b->out - b->k; j <= b->out + b->k; j++, to += n) {
            const long z = j < 0 ? 0 : j >= b->in ? b->in - 1 : j;
            memcpy(to, slot(b, z) + (size_t)i * n, n * sizeof *to);
        }
    b->out++;
}
