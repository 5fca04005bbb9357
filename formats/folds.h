/* folds.h - the manifest: which case (or slice) belongs to which fold, as text.
 *
 *     manifest = first *(comment / entry)
 *     first    = "# folds 1 k=" K " seed=" SEED " by=" ("patient" / "slice") LF
 *     comment  = "#" TEXT LF
 *     entry    = FOLD TAB CASE TAB PATIENT LF             by=patient
 *              / FOLD TAB CASE ":" SLICE TAB PATIENT LF   by=slice
 *
 * FOLD is 0 .. K-1. CASE and PATIENT hold no blank, tab or control character, and do not begin
 * with "#". A case (or slice) stands once. By patient, all cases of a patient are in one fold.
 * Entries are sorted by fold, case (bytes) and slice (number). folds(1) tells the same. */
#ifndef FOLDS_H
#define FOLDS_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/lines.h"
#include "lib/base/names.h"

#define FOLDS_MAX 1000
#define FOLDS_MAX_SLICE 1000000
#define FOLDS_MAX_ENTRIES 16777216u

struct fold_entry {
    uint32_t case_, slice; /* number in cases; slice is 0 in a manifest by patient */
    uint32_t patient, fold;
};

struct folds {
    int k;
    uint64_t seed;
    bool by_slice;
    struct names cases, patients;
    struct fold_entry *entry;
    uint32_t count, room;
};

/* May it stand for a case or patient in a manifest? */
bool folds_name_ok(const char *);

/* Appends an entry; 0, or -1 if memory is short or there are too many. */
int folds_add(struct folds *, uint32_t case_, uint32_t slice, uint32_t patient, uint32_t fold);

/* Sorts the entries for folds_write. */
void folds_sort_for_write(struct folds *);

/* Reads and checks a manifest into an empty struct, and sorts it for folds_find; 0, or -1 and
 * l->why. The caller frees it in both cases. */
int folds_read(struct folds *, struct lines *l) __attribute__((warn_unused_result));

/* NULL if it does not stand there. `slice` has to be 0 in a manifest by patient. */
const struct fold_entry *folds_find(const struct folds *, const char *case_, uint32_t slice);

void folds_write(const struct folds *, FILE *);
void folds_free(struct folds *);

#endif
