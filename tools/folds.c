/* folds - deal patients into folds
 *
 * reads   case; patient, fingerprint, if present; slice with -b slice
 * writes  a manifest; no stream */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/folds.h"
#include "formats/ledger.h"
#include "formats/plain.h"
#include "lib/image/deal.h"
#include "lib/image/patient.h"
#include "tools/tool.h"

static const char usage[] = "[-J] -k K -s SEED [-b patient|slice] < STREAM > FOLDS\n"
                            "       folds [-J] -k K -s SEED -l LIST > FOLDS";
static const char options[] = "-b --by= -J --json -k --folds= -l --list= -s --seed=";

static struct {
    int k;
    long seed;
    bool by_slice, json;
    const char *list;
} opt = {.seed = -1};

/* A case: its patient, and how many slices it has. */
struct study {
    uint32_t patient, slices, prints; /* in their sets */
};

static struct folds out;
static struct study *study;
static uint32_t room, records;
static struct ledger people;
static struct names scans; /* the fingerprints of each case; "" if it has none */

static void out_of_memory(void)
{
    tool_die("out of memory (or more than %u cases and slices)", FOLDS_MAX_ENTRIES);
}

/* The case of that name, new or not; its patient from `patient`, or if that is NULL from the
 * name. */
static struct study *find_study(const char *name, const char *patient, const char *place)
{
    char own[TNS_MAX_VALUE + 1];
    uint32_t known = out.cases.count, i;
    if (strlen(name) > TNS_MAX_VALUE || !folds_name_ok(name))
        tool_die("%s: case '%.60s' cannot stand in a manifest", place, name);
    if ((i = names_add(&out.cases, name)) == NAMES_NONE)
        out_of_memory();
    if (i >= room) {
        room = room ? room * 2 : 256;
        if (!(study = realloc(study, room * sizeof *study)))
            out_of_memory();
    }
    struct study *s = &study[i];
    if (i == known)
        *s = (struct study){.patient = NAMES_NONE};
    if (!patient && i < known)
        return s;
    if (!patient) {
        img_patient(name, own);
        patient = own;
    }
    if (!folds_name_ok(patient))
        tool_die("%s: patient '%.60s' cannot stand in a manifest", place, patient);
    uint32_t p = names_add(&out.patients, patient);
    if (p == NAMES_NONE)
        out_of_memory();
    if (i < known && s->patient != p)
        tool_die("%s: case '%.60s' has two patients, '%.60s' and '%.60s'", place, name,
                 names_text(&out.patients, s->patient), patient);
    s->patient = p;
    return s;
}

/* A scan of a patient: whoever has his name or his voxels is dealt with him. */
static void meet(uint32_t patient, const char *prints)
{
    const char *name = names_text(&out.patients, patient);
    struct meeting m;
    if (ledger_add(&people, name, prints))
        out_of_memory();
    for (int at = 0; ledger_next(&people, name, prints, &at, &m);)
        if (ledger_join(&people, name, m.patient))
            tool_warn("patient %.60s is patient %.60s: the same %s; dealt as one", name, m.patient,
                      m.voxels ? "voxels" : "name");
}

static FILE *open_list(const char *path)
{
    char why[512];
    FILE *f = !strcmp(path, "-") ? stdin : plain_open(path, why, sizeof why);
    if (!f)
        tool_die("%s", why);
    return f;
}

/* A file of lines "case patient"; the patient may be missing. */
static void read_list(FILE *f, const char *path)
{
    static struct lines l;
    char *field[2], place[128];
    int e;
    l = (struct lines){.name = path, .file = f};
    while ((e = lines_next(&l)) == 1) {
        int n = lines_split(&l, " \t", 1, field, 2);
        if (n == 0 || *field[0] == '#')
            continue;
        if (n > 2) {
            lines_fail(&l, "wanted case and patient");
            tool_die("%s", l.why);
        }
        snprintf(place, sizeof place, "%.80s: line %lu", path, l.number);
        struct study *s = find_study(field[0], n == 2 ? field[1] : NULL, place);
        meet(s->patient, NULL);
        s->slices++;
    }
    if (e < 0)
        tool_die("%s", l.why);
    if (f != stdin)
        fclose(f);
}

/* The fingerprints of a record; death if the case had others, and so shows two scans. */
static const char *one_scan(struct study *s, struct tns_record *rec, const char *place)
{
    const char *text = tool_fingerprint(rec);
    uint32_t i = names_add(&scans, text ? text : "");
    if (i == NAMES_NONE)
        out_of_memory();
    if (s->slices > 1 && s->prints != i)
        tool_die("%s: case '%.60s' is two scans: fingerprint %.80s, then %.80s", place,
                 names_text(&out.cases, (uint32_t)(s - study)), names_text(&scans, s->prints),
                 text ? text : "none");
    s->prints = i;
    return text;
}

static void read_stream(void)
{
    struct tns_record rec = {0};
    tool_open_in();
    while (tool_hop(&rec)) {
        char place[64];
        if (tns_is_mark(&rec))
            continue;
        snprintf(place, sizeof place, "stdin: record %" PRIu32, records++);
        struct study *s =
            find_study(tool_need_key(&rec, "case"), tns_get(&rec.meta, "patient"), place);
        s->slices++;
        meet(s->patient, one_scan(s, &rec, place));
        if (opt.by_slice &&
            folds_add(&out, (uint32_t)(s - study),
                      (uint32_t)tool_need_int(&rec, "slice", 0, FOLDS_MAX_SLICE), 0, 0))
            out_of_memory();
    }
    tns_release(&rec);
}

static int by_name(const void *a, const void *b, void *names)
{
    return strcmp(names_text(names, *(const uint32_t *)a), names_text(names, *(const uint32_t *)b));
}

static void deal(const uint64_t *weight, uint32_t n, uint32_t *fold)
{
    uint32_t *order = tool_alloc(n * sizeof *order);
    uint64_t *load = tool_alloc(2 * (size_t)opt.k * sizeof *load);
    img_deal(weight, n, (uint32_t)opt.k, (uint64_t)opt.seed, fold, order, load);
    free(order);
    free(load);
}

static void deal_patients(void)
{
    uint32_t n = 0, all = out.patients.count, *who = tool_alloc(all * sizeof *who),
             *fold = tool_alloc(all * sizeof *fold), *of = tool_alloc(all * sizeof *of);
    uint64_t *weight = tool_alloc(all * sizeof *weight), *mine = tool_alloc(all * sizeof *mine);
    memset(weight, 0, all * sizeof *weight);
    for (uint32_t i = 0; i < out.cases.count; i++)
        weight[study[i].patient] += study[i].slices;
    for (uint32_t p = 0; p < all; p++)
        if (weight[p])
            who[n++] = p;
    if (n < (uint32_t)opt.k)
        tool_die("too few patients for %d folds (%u)", opt.k, n);
    qsort_r(who, n, sizeof *who, by_name, &out.patients);
    for (uint32_t i = 0; i < n; i++)
        mine[i] = weight[who[i]];
    deal(mine, n, fold);
    for (uint32_t i = 0; i < n; i++)
        of[who[i]] = fold[i];
    for (uint32_t i = 0; i < out.cases.count; i++)
        if (study[i].slices && folds_add(&out, i, 0, study[i].patient, of[study[i].patient]))
            out_of_memory();
    free(who), free(fold), free(of), free(weight), free(mine);
}

static void deal_slices(void)
{
    uint32_t *fold = tool_alloc(out.count * sizeof *fold);
    uint64_t *weight = tool_alloc(out.count * sizeof *weight);
    folds_sort_for_write(&out); /* all are in fold 0 still: by name and slice */
    for (uint32_t i = 0; i < out.count; i++) {
        struct fold_entry *x = &out.entry[i];
        if (i && x[-1].case_ == x->case_ && x[-1].slice == x->slice)
            tool_die("stdin: case '%.60s' slice %" PRIu32 " stands twice",
                     names_text(&out.cases, x->case_), x->slice);
        x->patient = study[x->case_].patient;
        weight[i] = 1;
    }
    if (out.count < (uint32_t)opt.k)
        tool_die("too few slices for %d folds (%" PRIu32 ")", opt.k, out.count);
    deal(weight, out.count, fold);
    for (uint32_t i = 0; i < out.count; i++)
        out.entry[i].fold = fold[i];
    free(fold), free(weight);
    tool_warn("slices of one patient come into several folds: a score from them is no score");
}

/* The entries of a manifest, for programs: pick(1) reads the manifest itself. */
static void put_json(const struct folds *f)
{
    for (const struct fold_entry *x = f->entry; x < f->entry + f->count; x++) {
        tool_put_cell("fold", true, true);
        tool_put_number(x->fold, true);
        tool_put_cell("case", false, true);
        tool_put_text(names_text(&f->cases, x->case_), true);
        if (f->by_slice) {
            tool_put_cell("slice", false, true);
            tool_put_number(x->slice, true);
        }
        tool_put_cell("patient", false, true);
        tool_put_text(names_text(&f->patients, x->patient), true);
        tool_put_row_end(true);
    }
    tool_put_rows_end(true);
}

int main(int argc, char **argv)
{
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'b':
            if (strcmp(optarg, "patient") && strcmp(optarg, "slice"))
                tool_misuse("-b: (wanted patient or slice, got '%s')", optarg);
            opt.by_slice = *optarg == 's';
            break;
        case 'J':
            opt.json = true;
            break;
        case 'k':
            opt.k = (int)tool_int('k', optarg, 2, FOLDS_MAX);
            break;
        case 'l':
            opt.list = optarg;
            break;
        case 's':
            opt.seed = tool_int('s', optarg, 0, INT64_MAX);
            break;
        }
    tool_no_operands();
    if (!opt.k || opt.seed < 0)
        tool_usage();
    if (opt.list && opt.by_slice)
        tool_misuse("-b slice: a list has no slices (wanted a stream)");

    FILE *list = opt.list ? open_list(opt.list) : NULL;
    tool_confine();
    if (list)
        read_list(list, opt.list);
    else
        read_stream();
    for (uint32_t i = 0; i < out.cases.count; i++)
        study[i].patient = names_find(
            &out.patients, ledger_one(&people, names_text(&out.patients, study[i].patient)));
    out.k = opt.k;
    out.seed = (uint64_t)opt.seed;
    out.by_slice = opt.by_slice;
    (opt.by_slice ? deal_slices : deal_patients)();
    folds_sort_for_write(&out);
    if (opt.json)
        put_json(&out);
    else
        folds_write(&out, stdout);
    folds_free(&out);
    ledger_free(&people);
    names_free(&scans);
    free(study);
    return tool_finish();
}
