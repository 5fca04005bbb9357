/* runs.h - a mask as runs, stretches of one row, and its connected components.
 *
 * Runs are some tens of times fewer than voxels: cheap to join, and to keep where a map of labels
 * would take four bytes a voxel. */
#ifndef MET_RUNS_H
#define MET_RUNS_H

#include "lib/metric/metric.h"

struct met_run {
    uint32_t row, lo, hi; /* row z * H + y; voxels lo .. hi - 1 */
    int32_t label;        /* of its component, from 1 in the order of first voxels */
};

struct met_runs {
    struct met_run *run;
    int32_t *first; /* rows + 1: where each row's runs begin */
    int32_t n, components;
};

/* Neighbours share a face (6), or an edge too (18), or a corner too (26); 0: each run is by itself.
 * The product of dim is below 2^31. */
int met_runs_make(struct met_runs *, const uint8_t *mask, const size_t dim[3], int neighbours);
void met_runs_free(struct met_runs *);

#endif
