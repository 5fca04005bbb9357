/* measure - how large the tumour is: volumes, places, diameters, and what has changed
 *
 * reads   pred, or with -l label (u8, canonical); entropy (f32), if present; case, slice, slices,
 *         spacing, scheme; patient and crop, if present
 * writes  a table; no stream */
#include "formats/ledger.h"
#include "formats/lines.h"
#include "formats/plain.h"
#include "lib/base/number.h"
#include "lib/metric/measure.h"
#include "tools/tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "[-HJlv] [-b BASELINE] [-k LESIONS] [-n 6|18|26] < STREAM > TABLE";
static const char options[] = "-b --baseline= -J --json -k --lesions= -l --labels -n --neighbours=";

#define MOST_FIELDS 64
enum { CLASSES = 4 };

static struct {
    bool json, label;
    const char *baseline;
    int lesions, neighbours;
} opt = {.neighbours = 26};

static struct tool_case unit;
static struct names finished;
static size_t incomplete, cases, strangers;

/* Of the case, how uncertain the voxels of each label are: the key's sum and number. */
static struct {
    double sum[MET_CLASSES], n[MET_CLASSES];
} unsure;

/* --- the table before ------------------------------------------------------------------------- */

/* Of each patient, by his number: what the rows `part` and `sum` say; NAN where there is none. */
static struct {
    struct ledger people; /* by name, in capitals or not */
    struct names patients, cases;
    uint32_t *of; /* of a patient: his case */
    struct size {
        double ml[MET_PARTS], sum;
    } *size;
} before;

static double read_value(const struct lines *l, const char *column, const char *text)
{
    char *end;
    double v;
    if (!number_read(text, &end, &v) || *end || !(v >= 0 && v < 1e12))
        tool_die("%s: line %lu: column '%s': (wanted a number of 0 or more, got '%.40s')", l->name,
                 l->number, column, text);
    return v;
}

static int part_named(const char *name)
{
    for (int p = 0; p < MET_PARTS; p++)
        if (!strcmp(name, met_parts[p].name))
            return p;
    return -1;
}

/* As the table called him first; NULL if it does not know him. */
static const char *known_as(const char *patient)
{
    struct meeting m;
    return ledger_meets(&before.people, patient, NULL, &m) ? m.patient : NULL;
}

/* The patient's sizes; dies where two of his cases are in the table. */
static struct size *size_of(const struct lines *l, const char *patient, const char *name)
{
    if (ledger_add(&before.people, patient, NULL))
        tool_die("out of memory");
    uint32_t had = before.patients.count, i = tool_add_name(&before.patients, known_as(patient));
    uint32_t which = tool_add_name(&before.cases, name);
    if (i == had) {
        before.size = realloc(before.size, (i + 1ul) * sizeof *before.size);
        before.of = realloc(before.of, (i + 1ul) * sizeof *before.of);
        if (!before.size || !before.of)
            tool_die("out of memory");
        before.of[i] = which;
        for (int p = 0; p < MET_PARTS; p++)
            before.size[i].ml[p] = NAN;
        before.size[i].sum = NAN;
    }
    if (before.of[i] != which)
        tool_die("%s: line %lu: patient '%.60s' has two cases, %.60s and %.60s (wanted one to "
                 "compare with)",
                 l->name, l->number, patient, names_text(&before.cases, before.of[i]), name);
    return &before.size[i];
}

static void read_baseline(void)
{
    enum { ROW, CASE, PATIENT, PART, ML, PRODUCT, WANTED };
    static const char *const wanted[] = {"row", "case", "patient", "part", "ml", "product"};
    struct lines l = {.name = opt.baseline};
    char *field[MOST_FIELDS];
    int column[WANTED], n = 0, e;
    if (!(l.file = plain_open(opt.baseline, l.why, sizeof l.why)))
        tool_die("%s", l.why);
    tool_confine();
    if ((e = lines_next(&l)) == 1)
        n = lines_split(&l, "\t", 0, field, MOST_FIELDS);
    for (int c = 0; c < WANTED && e >= 0; c++) {
        column[c] = n > MOST_FIELDS ? -1 : lines_seek(field, n, wanted[c]);
        if (column[c] < 0)
            tool_die("%s: no column '%s' (wanted a table of measure)", l.name, wanted[c]);
    }
    while (e >= 0 && (e = lines_next(&l)) == 1) {
        if (lines_split(&l, "\t", 0, field, MOST_FIELDS) != n)
            tool_die("%s: line %lu: (wanted %d columns, as the first line has)", l.name, l.number,
                     n);
        const bool part = !strcmp(field[column[ROW]], "part");
        const int p = part_named(field[column[PART]]);
        if (!part && strcmp(field[column[ROW]], "sum"))
            continue;
        struct size *s = size_of(&l, field[column[PATIENT]], field[column[CASE]]);
        if (part && p >= 0)
            s->ml[p] = read_value(&l, "ml", field[column[ML]]);
        else if (!part)
            s->sum = read_value(&l, "product", field[column[PRODUCT]]);
    }
    if (e < 0)
        tool_die("%s", l.why);
    fclose(l.file);
}

/* --- rows ------------------------------------------------------------------------------------- */

/* What is not known is NAN or NULL: nan in the table. */
struct row {
    const char *row, *part, *measurable, *category;
    double lesion, ml, components, box[6], centre[3], slice, longest, across, product, was, change,
        entropy;
};

static struct row row_of(const char *kind, const char *part)
{
    struct row r = {.row = kind, .part = part};
    double *const all[] = {&r.lesion, &r.ml,      &r.components, &r.slice,  &r.longest,
                           &r.across, &r.product, &r.was,        &r.change, &r.entropy};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        *all[i] = NAN;
    for (int i = 0; i < 6; i++)
        r.box[i] = NAN;
    for (int i = 0; i < 3; i++)
        r.centre[i] = NAN;
    return r;
}

static const char *const columns[] = {"row",        "case",       "patient", "part",     "lesion",
                                      "ml",         "components", "z_first", "z_last",   "y_first",
                                      "y_last",     "x_first",    "x_last",  "z",        "y",
                                      "x",          "slice",      "longest", "across",   "product",
                                      "measurable", "baseline",   "change",  "category", "entropy"};
#define COLUMNS (sizeof columns / sizeof columns[0])

static void put_head(void)
{
    for (size_t i = 0; i < COLUMNS && !opt.json; i++)
        printf("%s%s", columns[i], i + 1 < COLUMNS ? "\t" : "\n");
}

static void put(const struct row *r)
{
    const struct {
        const char *text; /* NULL: a number */
        double number;
    } value[COLUMNS] = {
        {r->row, 0},          {unit.name, 0},       {unit.patient, 0},     {r->part, 0},
        {NULL, r->lesion},    {NULL, r->ml},        {NULL, r->components}, {NULL, r->box[0]},
        {NULL, r->box[1]},    {NULL, r->box[2]},    {NULL, r->box[3]},     {NULL, r->box[4]},
        {NULL, r->box[5]},    {NULL, r->centre[0]}, {NULL, r->centre[1]},  {NULL, r->centre[2]},
        {NULL, r->slice},     {NULL, r->longest},   {NULL, r->across},     {NULL, r->product},
        {r->measurable, NAN}, {NULL, r->was},       {NULL, r->change},     {r->category, NAN},
        {NULL, r->entropy}};
    for (size_t i = 0; i < COLUMNS; i++) {
        tool_put_cell(columns[i], !i, opt.json);
        if (value[i].text)
            tool_put_text(value[i].text, opt.json);
        else
            tool_put_number(value[i].number, opt.json);
    }
    tool_put_row_end(opt.json);
}

static double ml_of(uint64_t voxels)
{
    const double *mm = unit.grid.spacing;
    return (double)voxels * mm[0] * mm[1] * mm[2] / 1000;
}

static void set_place(struct row *r, const struct met_lesion_size *s)
{
    r->ml = ml_of(s->voxels);
    for (int i = 0; i < 3 && s->voxels; i++) {
        r->box[2 * i] = (double)s->lo[i];
        r->box[2 * i + 1] = (double)s->hi[i];
        r->centre[i] = s->centre[i];
    }
}

/* --- change ----------------------------------------------------------------------------------- */

/* Of what was nothing and is something there is no share. */
static double per_cent(double was, double is)
{
    return was > 0 ? (is - was) / was * 100 : is > 0 ? NAN : 0;
}

/* RANO's by imaging alone: of the sum of products -50 and +25 %, of volume -65 and +40 %. */
static const char *category(double was, double is, double response, double progression, bool gone)
{
    const double change = per_cent(was, is);
    return was == 0 && is == 0     ? gone ? "none" : "not measurable"
           : gone                  ? "complete response"
           : was == 0              ? "progression"
           : change >= progression ? "progression"
           : change <= response    ? "partial response"
                                   : "stable";
}

static void set_change(struct row *r, double was, double is)
{
    r->was = was;
    r->change = per_cent(was, is);
}

/* --- a case ----------------------------------------------------------------------------------- */

static const uint8_t *volume(void)
{
    return opt.label ? unit.label : unit.pred;
}

/* The largest product first; of equals the one that comes first. */
static int by_product(const void *a, const void *b)
{
    const struct met_lesion_size *p = *(const struct met_lesion_size *const *)a;
    const struct met_lesion_size *q = *(const struct met_lesion_size *const *)b;
    const double u = p->longest * p->across, v = q->longest * q->across;
    return u != v ? (u < v) - (u > v) : (p > q) - (p < q);
}

static void put_lesions(const struct met_lesion_size *list, size_t n, const struct size *was)
{
    const struct met_lesion_size **sorted = tool_alloc((n + 1) * sizeof *sorted);
    struct row sum = row_of("sum", "ET");
    for (size_t k = 0; k < n; k++)
        sorted[k] = &list[k];
    qsort(sorted, n, sizeof *sorted, by_product);
    sum.product = sum.components = 0;
    for (size_t k = 0; k < n; k++) {
        struct row r = row_of("lesion", "ET");
        const bool measurable = met_measurable(sorted[k], &unit.grid);
        set_place(&r, sorted[k]);
        r.lesion = (double)(k + 1);
        r.slice = (double)sorted[k]->slice;
        r.longest = sorted[k]->longest;
        r.across = sorted[k]->across;
        r.product = r.longest * r.across;
        r.measurable = measurable ? "yes" : "no";
        put(&r);
        if (measurable && (!opt.lesions || sum.components < opt.lesions)) {
            sum.components++;
            sum.product += r.product;
        }
    }
    if (was) {
        set_change(&sum, was->sum, sum.product);
        sum.category = isnan(was->sum) ? NULL : category(was->sum, sum.product, -50, 25, !n);
    }
    put(&sum);
    free(sorted);
}

static double mean_entropy(unsigned labels)
{
    double sum = 0, n = 0;
    for (int v = 0; v < MET_CLASSES; v++)
        if (labels >> v & 1)
            sum += unsure.sum[v], n += unsure.n[v];
    return n > 0 ? sum / n : NAN;
}

static void add_entropy(struct tns_record *rec, const struct tensor *labels)
{
    if (!tns_tensor(rec, "entropy"))
        return;
    const struct tensor *t = tool_need(rec, "entropy", DT_F32, 2);
    if (t->dim[0] != labels->dim[0] || t->dim[1] != labels->dim[1])
        tool_die_at(rec, "entropy: wrong shape (wanted %u by %u, got %u by %u)", labels->dim[0],
                    labels->dim[1], t->dim[0], t->dim[1]);
    const float *v = t->data;
    for (size_t i = 0, n = tensor_count(t); i < n; i++) {
        const uint8_t label = ((const uint8_t *)labels->data)[i];
        if (!(v[i] >= 0 && v[i] <= 1))
            tool_die_at(rec, "entropy: (wanted 0 to 1, got %g)", (double)v[i]);
        unsure.sum[label] += (double)v[i];
        unsure.n[label]++;
    }
}

static void put_part(int part, const struct size *was, struct met_lesion_size **list, size_t *n)
{
    struct row r = row_of("part", met_parts[part].name);
    if (met_measure(volume(), &unit.grid, met_parts[part].labels, opt.neighbours, part == MET_ET,
                    list, n))
        tool_die("out of memory (case %s)", unit.name);
    const struct met_lesion_size all = met_measure_all(*list, *n);
    set_place(&r, &all);
    r.entropy = mean_entropy(met_parts[part].labels);
    r.components = (double)*n;
    if (was) {
        set_change(&r, was->ml[part], r.ml);
        if (part == MET_ET && !isnan(was->ml[part]))
            r.category = category(was->ml[part], r.ml, -65, 40, !*n);
    }
    put(&r);
}

static int labels_of(void)
{
    const size_t n = unit.grid.dim[0] * unit.grid.dim[1] * unit.grid.dim[2];
    const uint8_t *v = volume();
    int most = CLASSES - 1;
    for (size_t i = 0; i < n; i++)
        most = v[i] > most ? v[i] : most;
    return most;
}

static void finish(void)
{
    if (!unit.name)
        return;
    const char *known = known_as(unit.patient);
    const uint32_t i = known ? names_find(&before.patients, known) : NAMES_NONE;
    const struct size *was = i == NAMES_NONE ? NULL : &before.size[i];
    const int most = labels_of();
    cases++;
    incomplete += unit.slices < unit.grid.dim[0];
    strangers += opt.baseline && !was;
    for (int part = 1; part < MET_PARTS; part++) {
        struct met_lesion_size *list;
        size_t n;
        if (part > most && part < MET_WT)
            continue;
        put_part(part, was, &list, &n);
        if (part == MET_ET)
            put_lesions(list, n, was);
        free(list);
    }
    memset(&unsure, 0, sizeof unsure);
    tool_case_end(&unit);
}

static void add(struct tns_record *rec)
{
    const struct tensor *t = tool_need(rec, opt.label ? "label" : "pred", DT_U8, 2);
    const char *name = tool_need_key(rec, "case");
    tool_canonical(rec);
    tool_values(rec, t, MET_CLASSES);
    const struct tool_place p = tool_place(rec, t);
    const struct met_grid g = {{p.slices, p.H, p.W}, {p.spacing[0], p.spacing[1], p.spacing[2]}};
    if (unit.name && strcmp(unit.name, name))
        finish();
    if (!unit.name)
        tool_case_begin(&unit, rec, &g, &finished, opt.label);
    tool_case_slice(&unit, rec, &g, p.slice);
    add_entropy(rec, t);
    tool_paste(&p, t->data, (opt.label ? unit.label : unit.pred) + p.slice * p.H * p.W);
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'b':
            opt.baseline = optarg;
            break;
        case 'J':
            opt.json = true;
            break;
        case 'k':
            opt.lesions = (int)tool_int('k', optarg, 1, 1000);
            break;
        case 'l':
            opt.label = true;
            break;
        case 'n':
            opt.neighbours = (int)tool_int('n', optarg, 6, 26);
            if (opt.neighbours != 6 && opt.neighbours != 18 && opt.neighbours != 26)
                tool_misuse("-n: (wanted 6, 18 or 26, got '%s')", optarg);
            break;
        }
    tool_no_operands();
    if (opt.baseline)
        read_baseline();
    tool_open_in();
    tool_uses(opt.label ? "label entropy" : "pred entropy");
    put_head();
    while (tool_read(&rec))
        if (!tns_is_mark(&rec))
            add(&rec);
    finish();
    tool_put_rows_end(opt.json);
    if (incomplete)
        tool_warn("%zu of %zu cases lack slices: what lies there is not measured", incomplete,
                  cases);
    if (strangers)
        tool_warn("%zu of %zu cases are of patients who are not in %s", strangers, cases,
                  opt.baseline);
    names_free(&finished);
    ledger_free(&before.people);
    names_free(&before.patients);
    names_free(&before.cases);
    tns_release(&rec);
    return tool_finish();
}
