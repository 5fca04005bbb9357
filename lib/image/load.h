/* load.h - elements of a tensor of any dtype as doubles, in bulk. */
#ifndef LOAD_H
#define LOAD_H

#include "lib/base/tensor.h"

/* How many elements to load at once: 8 KiB stay in the first cache. */
#define IMG_CHUNK 1024

/* n elements from element `first` on. Exact for every dtype. */
void img_load(const struct tensor *, size_t first, size_t n, double *out);

#endif
