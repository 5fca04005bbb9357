/* beside.h - a slice and those beside it as one image: what a planar network sees that has
 * neighbours.
 *
 * The slices of a case are put in one after the other and come out one after the other, each when
 * the `k` behind it are known or the case is over. Channels are side by side with those of their
 * neighbours, from the lowest slice to the highest: channel i of neighbour j, -k .. k, is plane
 * i * (2 k + 1) + k + j. Beyond the case's ends the slice at the end is repeated. */
#ifndef BESIDE_H
#define BESIDE_H

#include <stdbool.h>

#include "lib/base/tensor.h"

struct img_beside {
    int k, c, h, w; /* neighbours on each side; channels and sides of a slice, padded */
    float *ring;    /* of img_beside_floats, the caller's */
    long in, out;   /* slices of the case so far */
};

static inline int img_beside_planes(int k)
{
    return 2 * k + 1;
}

size_t img_beside_floats(int k, int c, int h, int w);

/* Another case, of slices whose padded sides are these. */
void img_beside_begin(struct img_beside *, int h, int w);
/* The next of its slices; `order` as of img_batch_image. No slice may be ready then. */
void img_beside_put(struct img_beside *, const struct tensor *image, const int *order);
/* Whether one is ready; `over`: no more are put in. */
bool img_beside_ready(const struct img_beside *, bool over);
/* It and its neighbours: c * (2 k + 1) planes. */
void img_beside_take(struct img_beside *, float *to);

#endif
