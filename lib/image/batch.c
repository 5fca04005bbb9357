/* What every network asks of slices before it sees them; train, its validation and infer do it
 * here. */
#include "lib/image/batch.h"

#include <string.h>

void img_batch_slice(const struct tensor *image, const int *order, int h, int w, size_t apart,
                     float *to)
{
    size_t rows = image->dim[1], columns = image->dim[2], plane = (size_t)h * (size_t)w;
    for (size_t c = 0; c < image->dim[0]; c++, to += apart) {
        memset(to, 0, plane * sizeof *to);
        for (size_t y = 0, from = order ? (size_t)order[c] : c; y < rows; y++)
            tensor_to_f32(image, (from * rows + y) * columns, columns, to + y * (size_t)w);
    }
}

void img_batch_image(const struct tensor *image, const int *order, int h, int w, float *to)
{
    img_batch_slice(image, order, h, w, (size_t)h * (size_t)w, to);
}

void img_batch_label(const struct tensor *label, uint8_t beyond, int h, int w, uint8_t *to)
{
    size_t rows = label->dim[0], columns = label->dim[1];
    memset(to, beyond, (size_t)h * (size_t)w);
    for (size_t y = 0; y < rows; y++)
        memcpy(to + y * (size_t)w, (const uint8_t *)label->data + y * columns, columns);
}

static inline void swap(char *a, char *b, size_t size)
{
    char t[sizeof(float)];
    memcpy(t, a, size);
    memcpy(a, b, size);
    memcpy(b, t, size);
}

/* A plane of elements whose size is a constant where this is called. */
static inline void mirror(void *plane, size_t size, int w, int rows, int columns, bool x, bool y)
{
    const size_t row = (size_t)w * size, used = (size_t)columns * size;
    for (int r = 0; x && r < rows; r++)
        for (char *a = (char *)plane + (size_t)r * row, *b = a + used - size; a < b;
             a += size, b -= size)
            swap(a, b, size);
    for (int r = 0; y && r < rows / 2; r++) {
        char *a = (char *)plane + (size_t)r * row,
             *b = (char *)plane + (size_t)(rows - 1 - r) * row;
        for (size_t at = 0; at < used; at += size)
            swap(a + at, b + at, size);
    }
}

void img_batch_mirror(float *planes, size_t n, int h, int w, int rows, int columns, bool x, bool y)
{
    for (size_t i = 0; i < n; i++, planes += (size_t)h * (size_t)w)
        mirror(planes, sizeof *planes, w, rows, columns, x, y);
}

void img_batch_mirror_label(uint8_t *label, int h, int w, bool x, bool y)
{
    mirror(label, sizeof *label, w, h, w, x, y);
}

void img_batch_add(const float *planes, size_t n, int h, int w, int rows, int columns, float *sum)
{
    for (size_t i = 0; i < n; i++, planes += (size_t)h * (size_t)w)
        for (int r = 0; r < rows; r++, sum += columns)
            for (int c = 0; c < columns; c++)
                sum[c] += planes[(size_t)r * (size_t)w + (size_t)c];
}

uint64_t img_batch_of(uint64_t at, uint64_t length, uint64_t most)
{
    uint64_t batches = (length + most - 1) / most;
    return ((at + 1) * batches - 1) / length;
}

uint64_t img_batch_begin(uint64_t k, uint64_t length, uint64_t most)
{
    return k * length / ((length + most - 1) / most);
}

uint64_t img_batch_part(uint64_t k, uint64_t n, uint64_t parts)
{
    return (k * n + parts - 1) / parts;
}

uint64_t img_batch_part_of(uint64_t at, uint64_t length, uint64_t most, uint64_t parts)
{
    const uint64_t k = img_batch_of(at, length, most), begin = img_batch_begin(k, length, most);
    return (at - begin) * parts / (img_batch_begin(k + 1, length, most) - begin);
}
