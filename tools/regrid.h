/* regrid.h - what the parts of regrid share: where the result lies, and what was carried there,
 * which waits on disk until all of it is known. */
#ifndef REGRID_H
#define REGRID_H

#include "formats/nifti.h"
#include "lib/image/resample.h"

/* Where the voxels of the result lie. */
struct target {
    uint32_t grid[3];
    double spacing[3];
    struct affine place; /* index to mm */
    int space;
};

/* A file on the target's grid. */
struct carried {
    enum dtype type;
    uint64_t at;     /* where it waits */
    uint64_t print;  /* of the scan as it came */
    uint64_t inside; /* voxels of the target that lie within the scan */
    double mean, std;
    uint32_t box[4]; /* of what is not 0: y, x; one past the last y, x */
    uint8_t header[NII_HEADER];
};

/* The files in which scans and results wait; before the process is confined. */
void carry_open(void);
/* Forgets what was carried. */
void carry_anew(void);

/* `map` takes mm of the target to mm of the scan. Of a mask 1 is where at least half of the place
 * is within, and what it leaves out becomes 0 in a scan; NULL: nothing. */
void carry_mask(const char *path, const struct target *, const struct affine *map,
                struct carried *);
void carry_scan(const char *path, const struct target *, const struct affine *map, enum img_kernel,
                const struct carried *mask, struct carried *);
void carry_label(const char *path, const struct target *, const struct affine *map,
                 struct carried *);

/* Slice z of it, as it waits. */
void carried_slice(const struct carried *, const struct target *, uint32_t z, void *out);

#endif
