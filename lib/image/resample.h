/* resample.h - a volume at the points of another grid.
 *
 * A voxel is a box around its centre, so a volume reaches half a voxel beyond the outermost
 * centres; there its edge goes on, and what lies farther out is 0. */
#ifndef RESAMPLE_H
#define RESAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/affine.h"

enum img_kernel {
    IMG_LINEAR, /* 2 voxels along each axis */
    IMG_CUBIC,  /* 4: Keys' convolution, a = -1/2, which keeps parabolas */
    IMG_LANCZOS /* 6: a sinc under a sinc, weights of sum 1 */
};

/* "linear", "cubic", "lanczos": 0, or -1. */
int img_kernel_by_name(const char *, enum img_kernel *);
extern const char *const img_kernel_names[];

struct img_volume {
    uint32_t grid[3]; /* along x, y, z; x is the fastest */
    const float *voxels;
    float least, most; /* no kernel makes a value beyond these */
    bool air; /* where the nearest voxel is 0 - air, or what was stripped - the result is */
};

/* Plane z, h rows of w, of the grid that `map` takes to the volume's indices. Returns how many of
 * its points lie within the volume. Linear in the values, but for `air` and the two bounds; where a
 * point lies on a voxel it has the voxel's value. */
size_t img_resample(const struct img_volume *, const struct affine *map, enum img_kernel,
                    uint32_t z, uint32_t h, uint32_t w, float *out);

/* The nearest voxel, of `size` bytes, as it is. */
size_t img_resample_nearest(const void *voxels, size_t size, const uint32_t grid[3],
                            const struct affine *map, uint32_t z, uint32_t h, uint32_t w,
                            void *out);

#endif
