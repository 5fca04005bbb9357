/* batch.h - slices of unequal size as one batch: planes of one size, padded behind the last row and
 * column. */
#ifndef BATCH_H
#define BATCH_H

#include <stdbool.h>

#include "lib/base/tensor.h"

/* An image (C,H,W) of any type as C planes of h x w floats, padded with zeros; plane i is channel
 * order[i] of it, or i where order is NULL. */
void img_batch_image(const struct tensor *image, const int *order, int h, int w, float *to);

/* The same of one slice of a volume, whose planes of a channel lie behind each other, so that the
 * slice's own are `apart` floats apart. */
void img_batch_slice(const struct tensor *image, const int *order, int h, int w, size_t apart,
                     float *to);

/* A label (H,W) of bytes as a plane of h x w, padded with `beyond`. */
void img_batch_label(const struct tensor *label, uint8_t beyond, int h, int w, uint8_t *to);

/* Mirrors n planes of h x w in place, within their first rows and columns: x along the rows, y
 * along the columns. */
void img_batch_mirror(float *planes, size_t n, int h, int w, int rows, int columns, bool x, bool y);
/* The same of a label (h,w). */
void img_batch_mirror_label(uint8_t *label, int h, int w, bool x, bool y);

/* The first rows and columns of n planes of h x w, added to n planes that have no others. */
void img_batch_add(const float *planes, size_t n, int h, int w, int rows, int columns, float *sum);

/* Into which batch, from 0, record `at` of `length` falls. There are as few batches of at most
 * `most` as will do, of sizes that differ by one at most. */
uint64_t img_batch_of(uint64_t at, uint64_t length, uint64_t most);

/* Its first item: batch k's are those from here to that of k + 1. */
uint64_t img_batch_begin(uint64_t k, uint64_t length, uint64_t most);

/* Of n items in a row, shared out in `parts` of sizes that differ by one at most, where part k
 * begins; part `parts` begins behind the last. Parts of parts are parts: those from k * m of parts
 * * m are part k of `parts`. */
uint64_t img_batch_part(uint64_t k, uint64_t n, uint64_t parts);

/* The part of its batch that item `at` of an epoch is in, the items of the batch being shared out
 * so. */
uint64_t img_batch_part_of(uint64_t at, uint64_t length, uint64_t most, uint64_t parts);

#endif
