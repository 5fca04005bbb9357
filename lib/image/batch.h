/* batch.h - slices of unequal size as one batch: planes of one size, padded behind the last row and
 * column. */
#ifndef BATCH_H
#define BATCH_H

#include "lib/base/tensor.h"

/* An image (C,H,W) of any type as C planes of h x w floats, padded with zeros; plane i is channel
 * order[i] of it, or i where order is NULL. */
void img_batch_image(const struct tensor *image, const int *order, int h, int w, float *to);

/* A label (H,W) of bytes as a plane of h x w, padded with `beyond`. */
void img_batch_label(const struct tensor *label, uint8_t beyond, int h, int w, uint8_t *to);

#endif
