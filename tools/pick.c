/* pick - the records of one side of a split
 *
 * reads   case, patient; slice where the manifest is by slice
 * changes patient, where the manifest knows better
 * drops   the records of the other side */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/folds.h"
#include "formats/plain.h"
#include "lib/image/patient.h"
#include "tools/tool.h"

static const char usage[] = "[-Hv] -m FOLDS -f FOLD train|val < STREAM > STREAM";
static const char options[] = "-f --fold= -m --folds=";

static struct {
    const char *manifest;
    long fold;
    bool val;
} opt = {.fold = -1};

static struct folds folds;
static uint32_t *fold_of; /* by patient, in a manifest by patient */
static uint64_t renamed;

static void read_manifest(void)
{
    static struct lines l;
    l.name = opt.manifest;
    if (!(l.file = plain_open(opt.manifest, l.why, sizeof l.why)))
        tool_die("%s", l.why);
    tool_confine();
    if (folds_read(&folds, &l))
        tool_die("%s", l.why);
    fclose(l.file);
    if (opt.fold >= folds.k)
        tool_die("%s: no fold %ld (wanted 0 to %d)", opt.manifest, opt.fold, folds.k - 1);
    fold_of = tool_alloc(folds.patients.count * sizeof *fold_of);
    for (uint32_t i = 0; i < folds.count; i++)
        fold_of[folds.entry[i].patient] = folds.entry[i].fold;
}

/* The record's fold. A case that is not listed may still be a later scan of a listed patient. */
static uint32_t find_fold(struct tns_record *rec)
{
    const char *name = tool_need_key(rec, "case"), *patient = tns_get(&rec->meta, "patient");
    char own[TNS_MAX_VALUE + 1];
    uint32_t slice = folds.by_slice ? (uint32_t)tool_need_int(rec, "slice", 0, FOLDS_MAX_SLICE) : 0;
    const struct fold_entry *x = folds_find(&folds, name, slice);
    if (x) {
        const char *told = names_text(&folds.patients, x->patient);
        if (!patient || strcmp(patient, told)) {
            tool_set(rec, "patient", "%s", told);
            renamed += patient != NULL;
        }
        return x->fold;
    }
    if (folds.by_slice)
        tool_die_at(rec, "the slice is not in %s", opt.manifest);
    if (!patient) {
        img_patient(name, own);
        patient = own;
    }
    uint32_t p = names_find(&folds.patients, patient);
    if (p == NAMES_NONE)
        tool_die_at(rec, "neither the case nor patient '%.60s' is in %s", patient, opt.manifest);
    return fold_of[p];
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    uint64_t kept = 0;
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'f':
            opt.fold = tool_int('f', optarg, 0, FOLDS_MAX - 1);
            break;
        case 'm':
            opt.manifest = optarg;
            break;
        }
    if (!opt.manifest || opt.fold < 0 || argc - optind != 1)
        tool_usage();
    if (strcmp(argv[optind], "train") && strcmp(argv[optind], "val"))
        tool_misuse("side: (wanted train or val, got '%s')", argv[optind]);
    opt.val = *argv[optind] == 'v';

    tool_promise();
    read_manifest();
    tool_open("-f %ld %s k=%d seed=%" PRIu64 " by=%s", opt.fold, opt.val ? "val" : "train", folds.k,
              folds.seed, folds.by_slice ? "slice" : "patient");
    tool_uses("");
    while (tool_read(&rec))
        if ((find_fold(&rec) == (uint32_t)opt.fold) == opt.val) {
            tool_write(&rec);
            kept++;
        }
    if (!kept)
        tool_warn("no record is on this side");
    if (renamed)
        tool_warn("%" PRIu64 " records had another patient than %s says; now they have that one",
                  renamed, opt.manifest);
    tns_release(&rec);
    folds_free(&folds);
    free(fold_of);
    return tool_finish();
}
