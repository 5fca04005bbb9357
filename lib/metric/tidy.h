/* tidy.h - what is known of tumours before a prediction is looked at, as rules that change it.
 *
 * Labels are canonical; whole tumour is 1, 2 and 3, its core 1 and 3. Rules are applied in the
 * order of the enumeration, each to what the one before it left; to apply them twice is to apply
 * them once. Volumes are in mm3 by the grid's spacing; what has exactly the volume of a rule stays.
 * A rule of 0 is not applied.
 *
 * Memory: a byte for each voxel, and 16 for each run of a component (runs.h). */
#ifndef MET_TIDY_H
#define MET_TIDY_H

#include "lib/metric/metric.h"

enum met_rule {
    MET_WHOLE,     /* components of whole tumour that are smaller become background */
    MET_LARGEST,   /* not 0: of whole tumour the largest component stays; of equals the first */
    MET_CORE,      /* components of the core that are smaller become oedema */
    MET_ENHANCING, /* components of enhancing tumour that are smaller become core, label 1 */
    MET_LITTLE,    /* all enhancing tumour becomes core if it is less in all */
    MET_HOLES,     /* not 0: what the core encloses becomes core, what whole tumour does oedema */
    MET_RULES
};

struct met_tidy {
    int neighbours; /* of a component's voxels: 6, 18 or 26; a hole's have 6, for 6 they have 26 */
    double rule[MET_RULES];
};

/* Holes reach no border of the volume (in a volume of one slice, none of the slice); a cavity,
 * label 4, stays as it is wherever it lies. changed[r] grows by the voxels that rule r changed. */
int met_tidy(uint8_t *pred, const struct met_grid *, const struct met_tidy *,
             uint64_t changed[MET_RULES]);

#endif
