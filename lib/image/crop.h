/* crop.h - rectangles of a slice, and tensors cut to them or put back. */
#ifndef CROP_H
#define CROP_H

#include <stdbool.h>

#include "lib/base/tensor.h"

/* Rows y .. y+height-1, columns x .. x+width-1; y and x may be negative, where zeros are added. */
struct img_box {
    long y, x, height, width;
};

/* The smallest box over the last two dimensions that holds every pixel that is not zero in any
 * channel; false (and an empty box at 0, 0) if there is none. */
bool img_nonzero_box(const struct tensor *, struct img_box *);

/* The box grown around its centre so that each side is a multiple of m, at least m; or to height x
 * width, which may be smaller. An odd row or column more goes to the far side. An empty box counts
 * as the middle of a slice of rows x columns. */
struct img_box img_box_multiple(struct img_box, long m, long rows, long columns);
struct img_box img_box_fixed(struct img_box, long height, long width, long rows, long columns);

/* Copies the box of `in` to `out`, whose last two dimensions are the box's and whose other
 * dimensions and dtype are those of `in`; what the box has outside `in` becomes zero. */
void img_crop(const struct tensor *in, struct img_box, struct tensor *out);

/* How many elements that are not zero lie outside the box. */
size_t img_count_outside(const struct tensor *, struct img_box);

#endif
