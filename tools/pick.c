/* pick - the records of one side of a split, or those whose keys are as wanted
 *
 * reads   with a manifest case, patient, and slice where it is by slice; the keys of -k
 * changes patient, where the manifest knows better
 * drops   the other records */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/folds.h"
#include "formats/plain.h"
#include "lib/base/number.h"
#include "lib/image/patient.h"
#include "tools/tool.h"

static const char usage[] =
    "[-Hv] [-k CONDITION]... [-n COUNT] [-m FOLDS -f FOLD train|val] < STREAM > STREAM";
static const char options[] = "-f --fold= -k --key= -m --folds= -n --count=";

#define MAX_CONDITIONS 16

static struct {
    const char *manifest;
    long fold, count; /* -1: all */
    bool val;
    struct condition {
        char *key;
        const char *relation, *value;
        double number;
    } condition[MAX_CONDITIONS];
    int conditions;
} opt = {.fold = -1, .count = -1};

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

/* KEY=VALUE, KEY!=VALUE, as text; KEY<NUMBER and its like. */
static void add_condition(char *text)
{
    static const char *const relations[] = {"!=", "<=", ">=", "=", "<", ">"};
    const size_t n = strcspn(text, "!=<>");
    if (opt.conditions == MAX_CONDITIONS)
        tool_misuse("-k: wanted at most %d of them", MAX_CONDITIONS);
    struct condition *c = &opt.condition[opt.conditions++];
    for (size_t i = 0; n && !c->relation && i < sizeof relations / sizeof *relations; i++)
        if (!strncmp(text + n, relations[i], strlen(relations[i])))
            c->relation = relations[i];
    if (!c->relation || (*c->relation == '=' && text[n + 1] && strchr("=<>", text[n + 1])))
        tool_misuse("-k: (wanted KEY=VALUE, or != < <= > >=, got '%s')", text);
    c->key = text;
    c->value = text + n + strlen(c->relation);
    text[n] = 0;
    char *end;
    if (*c->relation != '!' && *c->relation != '=' &&
        (!number_read(c->value, &end, &c->number) || *end))
        tool_misuse("-k: %s%s: (wanted a number, got '%s')", c->key, c->relation, c->value);
}

static bool is_met(struct tns_record *rec, const struct condition *c)
{
    const char *value = tool_need_key(rec, c->key), equal = c->relation[1];
    double v;
    char *end;
    if (*c->relation == '=' || *c->relation == '!')
        return !strcmp(value, c->value) == (*c->relation == '=');
    if (!number_read(value, &end, &v) || *end)
        tool_die_at(rec, "key '%s': (wanted a number, got '%.60s')", c->key, value);
    return (equal && v == c->number) || (*c->relation == '<' ? v < c->number : v > c->number);
}

static bool is_wanted(struct tns_record *rec)
{
    bool wanted = !opt.manifest || (find_fold(rec) == (uint32_t)opt.fold) == opt.val;
    for (int i = 0; i < opt.conditions; i++)
        wanted &= is_met(rec, &opt.condition[i]);
    return wanted;
}

/* For the history: which side, and what was asked of keys. */
static const char *describe(void)
{
    static char text[1024];
    size_t n = 0;
    if (opt.manifest)
        n = (size_t)snprintf(text, sizeof text, "-f %ld %s k=%d seed=%" PRIu64 " by=%s", opt.fold,
                             opt.val ? "val" : "train", folds.k, folds.seed,
                             folds.by_slice ? "slice" : "patient");
    for (int i = 0; i < opt.conditions && n < sizeof text; i++) {
        const struct condition *c = &opt.condition[i];
        n += (size_t)snprintf(text + n, sizeof text - n, "%s-k %s%s%s", n ? " " : "", c->key,
                              c->relation, c->value);
    }
    if (opt.count >= 0 && n < sizeof text)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s-n %ld", n ? " " : "", opt.count);
    if (n >= sizeof text)
        tool_misuse("-k: all of them are too long");
    return text;
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    long kept = 0;
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'f':
            opt.fold = tool_int('f', optarg, 0, FOLDS_MAX - 1);
            break;
        case 'k':
            add_condition(optarg);
            break;
        case 'm':
            opt.manifest = optarg;
            break;
        case 'n':
            opt.count = tool_int('n', optarg, 1, LONG_MAX);
            break;
        }
    const int side = !!opt.manifest;
    if (side != (opt.fold >= 0) || argc - optind != side ||
        (!side && !opt.conditions && opt.count < 0))
        tool_usage();
    if (side && strcmp(argv[optind], "train") && strcmp(argv[optind], "val"))
        tool_misuse("side: (wanted train or val, got '%s')", argv[optind]);
    opt.val = side && *argv[optind] == 'v';

    tool_promise();
    if (side)
        read_manifest();
    tool_open("%s", describe());
    tool_uses("");
    /* The rest is read too: who writes it is not to fail, and a stream that is cut not to pass. */
    while (tool_read(&rec))
        if (is_wanted(&rec) && kept != opt.count) {
            tool_write(&rec);
            kept++;
        }
    if (!kept)
        tool_warn(opt.conditions ? "no record is as wanted" : "no record is on this side");
    if (renamed)
        tool_warn("%" PRIu64 " records had another patient than %s says; now they have that one",
                  renamed, opt.manifest);
    tns_release(&rec);
    folds_free(&folds);
    free(fold_of);
    return tool_finish();
}
