/* The last slices of a case wait in a ring until those behind them have come. */
#include "lib/image/beside.h"
#include "lib/image/batch.h"

#include <string.h>

static size_t plane(const struct img_beside *b)
{
    return (size_t)b->h * (size_t)b->w;
}

static float *slot(const struct img_beside *b, long z)
{
    return b->ring + (size_t)(z % b->room) * (size_t)b->c * plane(b);
}

void img_beside_begin(struct img_beside *b, int h, int w)
{
    b->h = h;
    b->w = w;
    b->in = 0;
}

void img_beside_put(struct img_beside *b, const struct tensor *image, const int *order)
{
    img_batch_image(image, order, b->h, b->w, slot(b, b->in++));
}

bool img_beside_ready(const struct img_beside *b, long z, bool over)
{
    return over ? z < b->in : z + b->k < b->in;
}

void img_beside_get(const struct img_beside *b, long z, float *to)
{
    const size_t n = plane(b);
    for (int i = 0; i < b->c; i++)
        for (long j = z - b->k; j <= z + b->k; j++, to += n) {
            const long at = j < 0 ? 0 : j >= b->in ? b->in - 1 : j;
            memcpy(to, slot(b, at) + (size_t)i * n, n * sizeof *to);
        }
}
