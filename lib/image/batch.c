/* What every network asks of slices before it sees them; train, its validation and infer do it
 * here. */
#include "lib/image/batch.h"

#include <string.h>

void img_batch_image(const struct tensor *image, const int *order, int h, int w, float *to)
{
    size_t rows = image->dim[1], columns = image->dim[2], plane = (size_t)h * (size_t)w;
    memset(to, 0, image->dim[0] * plane * sizeof *to);
    for (size_t c = 0; c < image->dim[0]; c++, to += plane)
        for (size_t y = 0, from = order ? (size_t)order[c] : c; y < rows; y++)
            tensor_to_f32(image, (from * rows + y) * columns, columns, to + y * (size_t)w);
}

void img_batch_label(const struct tensor *label, uint8_t beyond, int h, int w, uint8_t *to)
{
    size_t rows = label->dim[0], columns = label->dim[1];
    memset(to, beyond, (size_t)h * (size_t)w);
    for (size_t y = 0; y < rows; y++)
        memcpy(to + y * (size_t)w, (const uint8_t *)label->data + y * columns, columns);
}
