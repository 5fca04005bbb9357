/* znorm.h - z-scores: (v - mean) / standard deviation for every voxel that is not zero. */
#ifndef ZNORM_H
#define ZNORM_H

#include "lib/base/tensor.h"

/* Mean and population standard deviation of the non-zero elements among n from element `first` on,
 * in double, two passes; 0 and 0 where there are none, the latter exactly 0 where all are equal.
 * Returns how many there are. */
size_t img_moments(const struct tensor *, size_t first, size_t n, double *mean, double *std);

/* out[i] = (v[first + i] - mean) / std rounded once to float, computed in double; 0 where v is 0,
 * and everywhere if std is 0 (or below 1e-10 of the mean, which is rounding, not contrast). `out`
 * may be the tensor's own elements from `first` on. Returns n, or the index of the first result
 * that is not finite; from its chunk of IMG_CHUNK elements on, `out` is then undefined. */
size_t img_znorm(const struct tensor *, size_t first, size_t n, double mean, double std,
                 float *out);

#endif
