/* conform.h - a scan of any grid as a network of the head wants it, and its answer back.
 *
 * Such networks are trained on cubes of 1 mm with the head in the middle, what is beyond the scan
 * being background. Volumes are row-major (z, y, x) and mm along the same axes. */
#ifndef IMG_CONFORM_H
#define IMG_CONFORM_H

#include <stddef.h>
#include <stdint.h>

/* Voxels of a cube's side, which all scans are counted as, and at most of one's side at 1 mm. */
#define IMG_CUBE 256
#define IMG_CUBE_MOST 512
#define IMG_MARGIN 28 /* of background on each side */

struct img_conform {
    size_t dim[3]; /* the scan's */
    double mm[3];
    size_t n[3];  /* the grid's, of 1 mm */
    size_t at[3]; /* where the scan begins in it, */
    size_t in[3]; /* and how far it reaches */
};

/* The grid of a scan with a margin of background, so far as that lies in the cube. 0, or -1 where a
 * side is longer than IMG_CUBE_MOST. */
int img_conform(struct img_conform *, const size_t dim[3], const double mm[3]);

/* Linear between voxels' centres, as the outermost ones beyond them; then 0 to 1 from the 2 % to
 * the 98 % quantile of a cube (or the grid, where that is larger) filled up with the least value.
 * Returns 98 % less 2 %, 0 where nothing can be told apart: then `to` is 0. */
double img_conform_scan(const struct img_conform *, const float *scan, float *to);

/* Values on the grid at the scan's voxels, linear between centres. */
void img_conform_back(const struct img_conform *, const float *grid, float *to);

#endif
