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
    uint32_t grid[3]; /* along x, y, z */
    const void *voxels;
    const size_t *at[3]; /* voxel x,y,z is number at[0][x] + at[1][y] + at[2][z] of them */
    float least, most;   /* no kernel makes a value beyond these */
    bool air; /* where the nearest voxel is 0 - air, or what was stripped - the result is */
};

/* Row y of plane z, w points of the grid that `map` takes to the indices of a volume of float.
 * Returns how many of them lie within it. Linear in the values, but for `air` and the two bounds;
 * where a point lies on a voxel it has the voxel's value. */
size_t img_resample(const struct img_volume *, const struct affine *map, enum img_kernel,
                    uint32_t z, uint32_t y, uint32_t w, float *out);

/* The nearest voxel, of `size` bytes, as it is. */
void img_resample_nearest(const struct img_volume *, size_t size, const struct affine *map,
                          uint32_t z, uint32_t y, uint32_t w, void *out);

#endif
