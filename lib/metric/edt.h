/* edt.h - the distance transform as the rest of lib/metric uses it; the public form is
 * met_edt(). */
#ifndef MET_EDT_H
#define MET_EDT_H

#include "lib/metric/metric.h"

/* As met_edt, the distance being to the nearest voxel whose value v has in[v] != 0. */
int met_edt_of(const uint8_t *values, const uint8_t in[256], const struct met_grid *,
               float *squared);

#endif
