/* components.h - the runs of lib/metric as a map: the connected components of a mask, numbered from
 * 1 in the order of their first voxel; 0 outside. Returns their number. */
#ifndef COMPONENTS_H
#define COMPONENTS_H

#include <string.h>

#include "lib/metric/runs.h"

static int32_t components(const uint8_t *mask, const size_t dim[3], int neighbours, int32_t *out)
{
    struct met_runs s;
    if (met_runs_make(&s, mask, dim, neighbours) < 0)
        return MET_NOMEM;
    int32_t count = s.components;
    memset(out, 0, dim[0] * dim[1] * dim[2] * sizeof *out);
    for (int32_t i = 0; i < s.n; i++)
        for (uint32_t x = s.run[i].lo; x < s.run[i].hi; x++)
            out[s.run[i].row * dim[2] + x] = s.run[i].label;
    met_runs_free(&s);
    return count;
}

#endif
