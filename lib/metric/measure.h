/* measure.h - how large a tumour is: volumes, where it lies, and the two diameters of RANO.
 *
 * A lesion is a connected component of a part (runs.h). Its diameters are those of one axial slice,
 * of one piece of it, which is what hangs together within the slice, by its outline: the convex
 * hull of its voxels, corners included, so that a rim counts with what it encloses. The longest
 * diameter is the largest distance between two points of the outline; the one across it is the
 * longest line within the outline at a right angle to it (of several longest diameters, the one
 * with the longest across). Of all slices and pieces, those whose product is largest: Macdonald et
 * al., J Clin Oncol 8:1277, 1990; Wen et al., RANO, J Clin Oncol 28:1963, 2010, and RANO 2.0, 41:
 * 5187, 2023.
 *
 * Memory: a byte for each voxel, 16 for each run, and what the outline of one piece takes. */
#ifndef MET_MEASURE_H
#define MET_MEASURE_H

#include "lib/metric/metric.h"

struct met_lesion_size {
    uint64_t voxels;
    size_t lo[3], hi[3];    /* box: first and last voxel along z, y, x */
    double centre[3];       /* mean of its voxels' places, in voxels */
    size_t slice;           /* of the diameters */
    size_t wide;            /* slices in which both are as RANO wants them */
    double longest, across; /* mm; 0 unless asked for */
};

/* The components of a set of labels, in the order of their first voxels; *n of them in a list that
 * the caller frees. neighbours: 6, 18 or 26. 0, or MET_NOMEM. */
int met_measure(const uint8_t *volume, const struct met_grid *, unsigned labels, int neighbours,
                bool diameters, struct met_lesion_size **list, size_t *n);

/* All of them as one: boxes, volumes and centres; no diameters. */
struct met_lesion_size met_measure_all(const struct met_lesion_size *, size_t n);

/* Whether RANO would measure it: both diameters at least 10 mm, or twice the slices' distance where
 * that is above 5 mm, on two slices or more; and with margins, no web or film: as much as a quarter
 * of the ellipse that has its diameters, through two slices of 5 mm, or of that distance. */
bool met_measurable(const struct met_lesion_size *, const struct met_grid *);

#endif
