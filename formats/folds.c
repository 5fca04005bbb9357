/* Names are numbers here, in the order in which they came; the file alone has them as text. */
#include "formats/folds.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool folds_name_ok(const char *s)
{
    if (!*s || *s == '#')
        return false;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == 0x7f)
            return false;
    return true;
}

int folds_add(struct folds *f, uint32_t case_, uint32_t slice, uint32_t patient, uint32_t fold)
{
    if (f->count == f->room) {
        uint32_t room = f->room ? f->room * 2 : 256;
        struct fold_entry *p =
            room <= FOLDS_MAX_ENTRIES ? realloc(f->entry, room * sizeof *p) : NULL;
        if (!p)
            return -1;
        f->entry = p;
        f->room = room;
    }
    f->entry[f->count++] = (struct fold_entry){case_, slice, patient, fold};
    return 0;
}

static int by_case(const void *a, const void *b)
{
    const struct fold_entry *x = a, *y = b;
    if (x->case_ != y->case_)
        return x->case_ < y->case_ ? -1 : 1;
    return (x->slice > y->slice) - (x->slice < y->slice);
}

static void sort_for_find(struct folds *f)
{
    if (f->count)
        qsort(f->entry, f->count, sizeof *f->entry, by_case);
}

static int as_written(const void *a, const void *b, void *names)
{
    const struct fold_entry *x = a, *y = b;
    if (x->fold != y->fold)
        return x->fold < y->fold ? -1 : 1;
    if (x->case_ != y->case_)
        return strcmp(names_text(names, x->case_), names_text(names, y->case_));
    return (x->slice > y->slice) - (x->slice < y->slice);
}

void folds_sort_for_write(struct folds *f)
{
    if (f->count)
        qsort_r(f->entry, f->count, sizeof *f->entry, as_written, &f->cases);
}

/* A whole number of plain digits up to max. */
static bool number(const char *s, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    if (!*s || (*s == '0' && s[1]))
        return false;
    for (; *s; s++) {
        unsigned digit = (unsigned)*s - '0';
        if (digit > 9 || digit > max || v > (max - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

static int read_first(struct folds *f, struct lines *l)
{
    static const char *const keys[] = {"k=", "seed=", "by="};
    char *field[6];
    uint64_t k;
    int e = lines_next(l);
    if (e < 0)
        return e;
    bool good = e && lines_split(l, " ", 0, field, 6) == 6 && !strcmp(field[0], "#") &&
                !strcmp(field[1], "folds") && !strcmp(field[2], "1");
    for (int i = 0; good && i < 3; i++) {
        good = !strncmp(field[3 + i], keys[i], strlen(keys[i]));
        field[3 + i] += strlen(keys[i]);
    }
    if (!good || !number(field[3], FOLDS_MAX, &k) || k < 2 ||
        !number(field[4], UINT64_MAX, &f->seed) ||
        (strcmp(field[5], "patient") && strcmp(field[5], "slice")))
        return lines_fail(l, "not a manifest (wanted '# folds 1 k=K seed=SEED by=patient|slice')");
    f->k = (int)k;
    f->by_slice = *field[5] == 's';
    return 0;
}

static int read_entry(struct folds *f, struct lines *l)
{
    char *field[3];
    uint64_t fold, slice = 0;
    if (lines_split(l, "\t", 0, field, 3) != 3)
        return lines_fail(l, "wanted fold, case and patient, with a tab between");
    if (!number(field[0], (uint64_t)f->k - 1, &fold))
        return lines_fail(l, "fold: (wanted 0 to %d, got '%.20s')", f->k - 1, field[0]);
    if (f->by_slice) {
        char *colon = strrchr(field[1], ':');
        if (!colon || !number(colon + 1, FOLDS_MAX_SLICE, &slice))
            return lines_fail(l, "wanted case:slice, got '%.60s'", field[1]);
        *colon = 0;
    }
    if (!folds_name_ok(field[1]) || !folds_name_ok(field[2]))
        return lines_fail(l, "a name is empty or holds a blank");
    uint32_t c = names_add(&f->cases, field[1]), p = names_add(&f->patients, field[2]);
    if (c == NAMES_NONE || p == NAMES_NONE || folds_add(f, c, (uint32_t)slice, p, (uint32_t)fold))
        return lines_fail(l, "out of memory, or more than %u entries", FOLDS_MAX_ENTRIES);
    return 0;
}

/* No entry twice, no case with two patients, and by patient no patient in two folds. */
static int check(struct folds *f, struct lines *l)
{
    uint32_t *fold = malloc((f->patients.count + 1ul) * sizeof *fold);
    int e = 0;
    if (!fold)
        return lines_fail(l, "out of memory");
    memset(fold, 0xff, f->patients.count * sizeof *fold);
    for (uint32_t i = 0; i < f->count && !e; i++) {
        const struct fold_entry *x = &f->entry[i], *before = i ? x - 1 : NULL;
        const char *c = names_text(&f->cases, x->case_), *p = names_text(&f->patients, x->patient);
        if (before && !by_case(before, x))
            e = snprintf(l->why, sizeof l->why, "%.100s: '%.60s' stands twice", l->name, c);
        else if (before && before->case_ == x->case_ && before->patient != x->patient)
            e = snprintf(l->why, sizeof l->why, "%.100s: '%.60s' has two patients", l->name, c);
        else if (!f->by_slice && fold[x->patient] != UINT32_MAX && fold[x->patient] != x->fold)
            e = snprintf(l->why, sizeof l->why, "%.100s: patient '%.60s' is in folds %u and %u",
                         l->name, p, fold[x->patient], x->fold);
        fold[x->patient] = x->fold;
    }
    free(fold);
    return e ? -1 : 0;
}

int folds_read(struct folds *f, struct lines *l)
{
    int e = read_first(f, l);
    while (!e && (e = lines_next(l)) == 1)
        e = *l->text == '#' ? 0 : read_entry(f, l);
    if (e)
        return e;
    if (!f->count)
        return lines_fail(l, "the manifest is empty");
    sort_for_find(f);
    return check(f, l);
}

const struct fold_entry *folds_find(const struct folds *f, const char *name, uint32_t slice)
{
    struct fold_entry key = {names_find(&f->cases, name), slice, 0, 0};
    return key.case_ == NAMES_NONE || !f->count
               ? NULL
               : bsearch(&key, f->entry, f->count, sizeof key, by_case);
}

void folds_write(const struct folds *f, FILE *out)
{
    fprintf(out, "# folds 1 k=%d seed=%" PRIu64 " by=%s\n", f->k, f->seed,
            f->by_slice ? "slice" : "patient");
    for (uint32_t i = 0; i < f->count; i++) {
        const struct fold_entry *x = &f->entry[i];
        fprintf(out, "%" PRIu32 "\t%s", x->fold, names_text(&f->cases, x->case_));
        if (f->by_slice)
            fprintf(out, ":%" PRIu32, x->slice);
        fprintf(out, "\t%s\n", names_text(&f->patients, x->patient));
    }
}

void folds_free(struct folds *f)
{
    names_free(&f->cases);
    names_free(&f->patients);
    free(f->entry);
    memset(f, 0, sizeof *f);
}
