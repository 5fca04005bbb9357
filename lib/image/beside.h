/* beside.h - a slice and those beside it as one image: what a planar network sees that has
 * neighbours.
 *
 * The slices of a case are put in one after the other; the last of them are kept, as many as there
 * is room for. Channels are side by side with those of their neighbours, from the lowest slice to
 * the highest: channel i of neighbour j, -k .. k, is plane i * (2 k + 1) + k + j. Beyond the case's
 * ends the slice at the end is repeated. */
#ifndef BESIDE_H
#define BESIDE_H

#include <stdbool.h>

#include "lib/base/tensor.h"

struct img_beside {
    int k, c, room; /* neighbours on each side; channels of a slice; slices kept, 2 k + 1 or more */
    int h, w;       /* sides of a slice, padded */
    float *ring;    /* room * c * h * w, the caller's */
    long in;        /* slices of the case so far */
};

static inline int img_beside_planes(int k)
{
    return 2 * k + 1;
}

/* Another case, of slices whose padded sides are these. */
void img_beside_begin(struct img_beside *, int h, int w);
/* The next of its slices; `order` as of img_batch_image. */
void img_beside_put(struct img_beside *, const struct tensor *image, const int *order);
/* Whether slice z has its neighbours; `over`: no more are put in. */
bool img_beside_ready(const struct img_beside *, long z, bool over);
/* It and its neighbours, which are kept still: c * (2 k + 1) planes. */
void img_beside_get(const struct img_beside *, long z, float *to);

#endif
