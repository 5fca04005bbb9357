/* dice - how well the predictions agree with the labels, by case, label and region
 *
 * reads   label, pred (u8, canonical), prob where present; case, slice, slices, spacing, scheme;
 *         crop, patient, fingerprint, regions, trained, trained_as where present; image with -b
 * writes  text: TSV, or JSON with -j
 *
 * It is one thing: reading, scoring and writing share the case in hand and the table's columns. */
#include "formats/ledger.h"
#include "lib/base/targets.h"
#include "lib/metric/metric.h"
#include "tools/tool.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "[-aJLv] [-b LABEL] [-c CONVENTION] [-d surface|pooled|border|none] "
                            "[-l RULE|none] [-p case|slice] < STREAM > TABLE";
static const char options[] =
    "-a --all -b --constant= -c --convention= -d --distance= -J --json -j - -l --lesions= "
    "-L --leaky -p --per=";

enum { MAX_COLUMNS = 4 * MET_MAX_CONVENTIONS + 16 };

static struct {
    bool all, json, trained_too, by_slice;
    const struct met_convention *convention;
    int hd; /* a definition for all conventions, or -1 */
    const struct met_lesion_rule *lesions;
    int constant; /* the label that is scored instead of pred, or -1 */
} opt = {.hd = -1, .constant = -1};

/* --- the table -------------------------------------------------------------------------------- */

static struct met_convention used[MET_MAX_CONVENTIONS];
static int conventions;
static struct {
    const char *convention, *hd95_by, *lesions;
} says; /* each line, of what it follows */

static struct {
    char name[48];
    size_t offset; /* of a double in struct met_row */
} column[MAX_COLUMNS];
static int columns;

static void add_column(const char *name, size_t offset)
{
    snprintf(column[columns].name, sizeof column->name, "%s", name);
    column[columns++].offset = offset;
}

/* A score under each convention, side by side. */
static void add_scores(const char *name, size_t offset)
{
    char full[48];
    for (int i = 0; i < conventions; i++) {
        const char *by = offset == offsetof(struct met_score, hd95) ? met_hd_names[used[i].hd] : "";
        snprintf(full, sizeof full, opt.all ? "%s.%s%s%s" : "%s", name, used[i].name,
                 *by ? "." : "", by);
        add_column(full,
                   offsetof(struct met_row, score) + (size_t)i * sizeof(struct met_score) + offset);
    }
}

static double value(const struct met_row *row, int i)
{
    double v;
    memcpy(&v, (const char *)row + column[i].offset, sizeof v);
    return v;
}

static void choose_columns(void)
{
    for (const struct met_convention *c = met_conventions; c->name; c++)
        if (opt.all || c == opt.convention) {
            used[conventions] = *c;
            if (opt.by_slice)
                used[conventions].hd = MET_HD_NONE;
            else if (opt.hd >= 0)
                used[conventions].hd = (enum met_hd)opt.hd;
            conventions++;
        }
    says.convention = opt.all ? "all" : used[0].name;
    says.hd95_by = opt.all && opt.hd < 0 && !opt.by_slice ? "each" : met_hd_names[used[0].hd];
    says.lesions = opt.lesions ? opt.lesions->name : "none";
    add_scores("dice", offsetof(struct met_score, dice));
    add_scores("hd95", offsetof(struct met_score, hd95));
    add_scores("sensitivity", offsetof(struct met_score, sensitivity));
    add_scores("specificity", offsetof(struct met_score, specificity));
    add_column("label_mm3", offsetof(struct met_row, truth_mm3));
    add_column("pred_mm3", offsetof(struct met_row, pred_mm3));
    add_column("soft_dice", offsetof(struct met_row, soft_dice));
    add_column("dice_loss", offsetof(struct met_row, dice_loss));
    add_column("lesion_dice", offsetof(struct met_row, lesion_dice));
    add_column("lesion_hd95", offsetof(struct met_row, lesion_hd95));
    add_column("found", offsetof(struct met_row, found));
    add_column("missed", offsetof(struct met_row, missed));
    add_column("invented", offsetof(struct met_row, invented));
}

/* --- one case, or slice ----------------------------------------------------------------------- */

static struct tool_case unit;

/* What else is known of it. */
static struct {
    size_t index; /* of the slice, with -p slice */
    int trained;  /* -1 unknown */
    int soft;     /* -1 not known yet */
    struct met_soft sums;
} about;

/* Labels that have a row: the four that any data set has, and up to the last that came. */
enum { CLASSES = 4 };
static int labels = CLASSES;

/* Rows of a table of so many labels, and which of met_case's row i is. */
static int rows(int n)
{
    return MET_ROWS - MET_CLASSES + n;
}

static int row_at(int i, int n)
{
    return i < n ? i : i - n + MET_CLASSES;
}

/* What is said of it. All are held to the end: only then is it known who was trained on. */
static struct result {
    char *name, *patient;
    size_t index, slices, absent;
    int trained;
    int labels;
    double *value; /* rows(labels) times columns */
} *result;
static size_t results, room;

static struct met_mean means[MET_ROWS][MAX_COLUMNS];
static size_t counted, trained, incomplete;
static struct names finished; /* cases, by name */
static struct ledger scans;   /* of cases, under their names */
static struct ledger people;  /* whoever shares a name or voxels is one */

static void finish(void)
{
    struct met_row row[MET_ROWS];
    if (!unit.name)
        return;
    if (met_case(unit.label, unit.pred, &unit.grid, about.soft > 0 ? &about.sums : NULL, used,
                 conventions, opt.lesions, row))
        tool_die("out of memory (case %s)", unit.name);
    size_t absent = unit.grid.dim[0] - unit.slices;
    incomplete += absent > 0;
    if (results == room) {
        room = room ? 2 * room : 64;
        if (!(result = realloc(result, room * sizeof *result)))
            tool_die("out of memory (case %s)", unit.name);
    }
    double *v = tool_alloc((size_t)(rows(labels) * columns) * sizeof *v);
    result[results++] = (struct result){unit.name, unit.patient,  about.index, unit.slices,
                                        absent,    about.trained, labels,      v};
    for (int r = 0; r < rows(labels); r++)
        for (int i = 0; i < columns; i++)
            *v++ = value(&row[row_at(r, labels)], i);
    unit.name = unit.patient = NULL; /* the result has them */
    tool_case_end(&unit);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* Says by which other name the case was trained on, or counts already. */
static void say_who(struct tns_record *rec, const char *name)
{
    const char *prints = tool_fingerprint(rec), *as = tns_get(&rec->meta, "trained_as");
    struct meeting m;
    if (as)
        tool_warn("patient %.100s is %.100s of the model's training", unit.patient, as);
    for (int at = 1; ledger_next(&scans, name, prints, &at, &m);)
        if (strcmp(m.patient, name)) {
            tool_warn("case %.100s is case %.100s: the same voxels, counted twice", name,
                      m.patient);
            break;
        }
    if (ledger_add(&scans, name, prints))
        tool_die("out of memory (or more than %d cases)", LEDGER_MAX);
}

/* Whoever has his name or his voxels is one with him. */
static void meet(struct tns_record *rec)
{
    const char *prints = tool_fingerprint(rec);
    struct meeting m;
    if (ledger_add(&people, unit.patient, prints))
        tool_die("out of memory (or more than %d scans)", LEDGER_MAX);
    for (int at = 0; ledger_next(&people, unit.patient, prints, &at, &m);)
        ledger_join(&people, unit.patient, m.patient);
}

/* Of one who was trained on, no case counts: infer knows him from the scan on that gave him away,
 * and what came before it says no. */
static void settle(void)
{
    struct names known = {0}, said = {0};
    size_t *first = tool_alloc((results + 1) * sizeof *first);
    for (size_t i = 0; i < results; i++) {
        uint32_t n = known.count, who;
        if (result[i].trained <= 0)
            continue;
        who = tool_add_name(&known, ledger_one(&people, result[i].patient));
        if (who == n)
            first[n] = i;
    }
    for (size_t i = 0; i < results; i++) {
        struct result *r = &result[i];
        uint32_t who = names_find(&known, ledger_one(&people, r->patient)), n = said.count;
        if (r->trained > 0 || who == NAMES_NONE)
            continue;
        r->trained = 1;
        if (tool_add_name(&said, r->patient) == n)
            tool_warn("patient %.100s of case %.100s was trained on: he is %.100s of case %.100s",
                      r->patient, r->name, result[first[who]].patient, result[first[who]].name);
    }
    names_free(&known);
    names_free(&said);
    free(first);
}

static void start(struct tns_record *rec, const struct met_grid *g)
{
    tool_case_begin(&unit, rec, g, opt.by_slice ? NULL : &finished, true);
    about.trained = about.soft = -1;
    meet(rec);
    if (!opt.by_slice)
        say_who(rec, unit.name);
}

/* What the channels of prob are: labels, or the regions that the record names. */
static struct met_soft soft_of(struct tns_record *rec, const struct tensor *label)
{
    const struct tensor *t = tool_need(rec, "prob", DT_COUNT, 3);
    const char *regions = tns_get(&rec->meta, "regions");
    struct targets targets;
    struct met_soft s;
    char why[256];
    uint32_t classes = regions || t->dim[0] > MET_CLASSES ? MET_CLASSES
                       : t->dim[0] < CLASSES              ? CLASSES
                                                          : t->dim[0];
    if (targets_make(&targets, (int)classes, regions ? regions : "", why, sizeof why))
        tool_die_at(rec, "key 'regions': %s", why);
    if (t->dim[0] != (uint32_t)targets.outputs || t->dim[1] != label->dim[0] ||
        t->dim[2] != label->dim[1])
        tool_die_at(rec, "prob: wrong shape (wanted %dx%ux%u, got %ux%ux%u)", targets.outputs,
                    label->dim[0], label->dim[1], t->dim[0], t->dim[1], t->dim[2]);
    if (!regions && targets.outputs > labels)
        labels = targets.outputs;
    met_soft_begin(&s, targets.outputs, targets.labels);
    return s;
}

static void add_prob(struct tns_record *rec, const struct tensor *label)
{
    struct tensor *t = tns_tensor(rec, "prob");
    if (about.soft >= 0 && about.soft != (t != NULL))
        tool_die_at(rec, "prob is in some slices of the case and not in others");
    if (!t) {
        about.soft = 0;
        return;
    }
    struct met_soft s = soft_of(rec, label);
    if (about.soft < 0)
        about.sums = s;
    about.soft = 1;
    if (s.channels != about.sums.channels || memcmp(s.labels, about.sums.labels, sizeof s.labels))
        tool_die_at(rec, "prob is of other regions than in other slices of the case");
    size_t n = tensor_count(label), all = t->dim[0] * n;
    float *prob = tool_alloc(all * sizeof *prob);
    tensor_to_f32(t, 0, all, prob);
    for (size_t i = 0; i < all; i++)
        if (!(prob[i] >= 0 && prob[i] <= 1.001f)) /* bf16 rounds sums a little above 1 */
            tool_die_at(rec, "prob: no probability (wanted 0 to 1, got %g)", (double)prob[i]);
    met_soft_count(&about.sums, label->data, prob, n, n);
    free(prob);
}

/* What -b puts in the place of pred: one label wherever a modality is not zero. */
static void predict_constant(struct tns_record *rec)
{
    const struct tensor *image = opt.constant ? tool_need(rec, "image", DT_COUNT, 3) : NULL;
    const struct tensor *label = tool_need(rec, "label", DT_U8, 2);
    size_t n = tensor_count(label);
    if (image && (image->dim[1] != label->dim[0] || image->dim[2] != label->dim[1]))
        tool_die_at(rec, "image: not the label's shape (wanted %ux%u, got %ux%u)", label->dim[0],
                    label->dim[1], image->dim[1], image->dim[2]);
    tns_remove(rec, "pred");
    tns_remove(rec, "prob");
    uint32_t dim[2] = {label->dim[0], label->dim[1]};
    uint8_t *to = tool_add(rec, "pred", DT_U8, 2, dim)->data;
    memset(to, 0, n);
    image = image ? tns_tensor(rec, "image") : NULL; /* tool_add may have moved it */
    for (size_t i = 0; image && i < tensor_count(image); i++)
        if (tensor_get(image, i) != 0)
            to[i % n] = (uint8_t)opt.constant;
}

static void add(struct tns_record *rec)
{
    if (opt.constant >= 0)
        predict_constant(rec);
    struct tensor *label = tool_need(rec, "label", DT_U8, 2),
                  *pred = tool_need(rec, "pred", DT_U8, 2);
    const char *name = tool_need_key(rec, "case"),
               *known = opt.constant < 0 ? tns_get(&rec->meta, "trained") : NULL;
    uint64_t table[MET_CLASSES][MET_CLASSES] = {{0}};
    size_t bad;

    tool_canonical(rec);
    if (label->dim[0] != pred->dim[0] || label->dim[1] != pred->dim[1])
        tool_die_at(rec, "pred: not the label's shape (wanted %ux%u, got %ux%u)", label->dim[0],
                    label->dim[1], pred->dim[0], pred->dim[1]);
    if ((bad = met_count(label->data, pred->data, tensor_count(label), MET_CLASSES, table))) {
        const uint8_t *l = label->data, *p = pred->data;
        bool first = l[bad - 1] >= MET_CLASSES;
        tool_die_at(rec,
                    "%s: value outside the scheme (wanted 0 to %d, got %u at row %zu, column %zu)",
                    first ? "label" : "pred", MET_CLASSES - 1, first ? l[bad - 1] : p[bad - 1],
                    (bad - 1) / label->dim[1], (bad - 1) % label->dim[1]);
    }
    for (int k = labels; k < MET_CLASSES; k++)
        for (int i = 0; i < MET_CLASSES; i++)
            if (table[k][i] || table[i][k])
                labels = k + 1;
    if (known && strcmp(known, "yes") && strcmp(known, "no"))
        tool_die_at(rec, "key 'trained': (wanted yes or no, got '%.40s')", known);
    if (opt.constant < 0 && tns_get(&rec->meta, "trained_as") && (!known || strcmp(known, "yes")))
        tool_die_at(rec, "trained_as=%.100s, but not trained=yes (got trained=%s)",
                    tns_get(&rec->meta, "trained_as"), known ? known : "nothing");
    struct tool_place p = tool_place(rec, label);
    size_t slice = opt.by_slice ? 0 : p.slice;
    struct met_grid g = {{opt.by_slice ? 1 : p.slices, p.H, p.W}, {0}};
    memcpy(g.spacing, p.spacing, sizeof g.spacing);

    if (unit.name && (opt.by_slice || strcmp(unit.name, name)))
        finish();
    if (!unit.name)
        start(rec, &g);
    tool_case_slice(&unit, rec, &g, slice);
    about.index = p.slice;
    if (known && about.trained >= 0 && about.trained != !strcmp(known, "yes"))
        tool_die_at(rec, "trained=%s, and another slice of the case says otherwise", known);
    if (known)
        about.trained = !strcmp(known, "yes");
    tool_paste(&p, label->data, unit.label + slice * p.H * p.W);
    tool_paste(&p, pred->data, unit.pred + slice * p.H * p.W);
    add_prob(rec, label);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void put_begin(void)
{
    if (opt.json) {
        printf("{\"convention\": \"%s\", \"hd95_by\": \"%s\", \"lesion_rule\": \"%s\", "
               "\"pooled_by\": \"%s\",\n \"cases\": [",
               says.convention, says.hd95_by, says.lesions, opt.by_slice ? "slice" : "case");
        return;
    }
    printf("row\tcase\tpatient\tslice\ttrained\tslices\tabsent\tpart\tconvention\thd95_by\tlesion_"
           "rule");
    for (int i = 0; i < columns; i++)
        printf("\t%s", column[i].name);
    putchar('\n');
}

/* One row's values, after what names the row. */
static void put_values(int row, const double *v)
{
    if (opt.json)
        printf("%s\n   \"%s\": {", row ? "," : "", met_row_names[row_at(row, labels)]);
    else
        printf("\t%s\t%s\t%s\t%s", met_row_names[row_at(row, labels)], says.convention,
               says.hd95_by, says.lesions);
    for (int i = 0; i < columns; i++) {
        if (opt.json)
            printf("%s\"%s\": ", i ? ", " : "", column[i].name);
        else
            putchar('\t');
        tool_put_number(v[i], opt.json);
    }
    putchar(opt.json ? '}' : '\n');
}

static const char *yes_no(int known, const char *yes, const char *no, const char *unknown)
{
    return known > 0 ? yes : known == 0 ? no : unknown;
}

/* A row of a case; of a label that came later, that of two empty masks. */
static const double *row_of(const struct result *c, int i)
{
    static double *nothing; /* of all labels */
    if (i < c->labels)
        return c->value + i * columns;
    if (i >= labels)
        return c->value + (i - labels + c->labels) * columns;
    if (!nothing) {
        struct met_row row[MET_ROWS];
        const struct met_grid grid = {{1, 1, 1}, {1, 1, 1}};
        const uint8_t voxel = 0;
        nothing = tool_alloc((size_t)(MET_CLASSES * columns) * sizeof *nothing);
        if (met_case(&voxel, &voxel, &grid, NULL, used, conventions, opt.lesions, row))
            tool_die("out of memory");
        for (int k = 0; k < MET_CLASSES * columns; k++)
            nothing[k] = value(&row[k / columns], k % columns);
    }
    return nothing + i * columns;
}

static void put_case(const struct result *c)
{
    if (opt.json) {
        printf("%s\n  {\"case\": ", c > result ? "," : "");
        tool_put_text(c->name, opt.json);
        printf(", \"patient\": ");
        tool_put_text(c->patient, opt.json);
        if (opt.by_slice)
            printf(", \"slice\": %zu", c->index);
        printf(", \"trained\": %s, \"slices\": %zu, \"absent\": %zu, \"parts\": {",
               yes_no(c->trained, "true", "false", "null"), c->slices, c->absent);
    }
    for (int r = 0; r < rows(labels); r++) {
        if (!opt.json) {
            printf("%s\t", opt.by_slice ? "slice" : "case");
            tool_put_text(c->name, opt.json);
            putchar('\t');
            tool_put_text(c->patient, opt.json);
            printf(opt.by_slice ? "\t%zu" : "\t-", c->index);
            printf("\t%s\t%zu\t%zu", yes_no(c->trained, "yes", "no", "-"), c->slices, c->absent);
        }
        put_values(r, row_of(c, r));
    }
    if (opt.json)
        printf("}}");
}

static void put_cases(void)
{
    for (const struct result *c = result; c < result + results; c++) {
        put_case(c);
        trained += c->trained > 0;
        if (c->trained <= 0 || opt.trained_too) {
            counted++;
            for (int r = 0; r < rows(labels); r++)
                for (int i = 0; i < columns; i++)
                    met_mean_add(&means[r][i], row_of(c, r)[i]);
        }
        free(c->name);
        free(c->patient);
        free(c->value);
    }
    free(result);
}

static void put_means(void)
{
    static const char *const kind[] = {"mean", "sd", "n"};
    if (opt.json)
        printf("],\n \"counted\": %zu, \"trained\": %zu", counted, trained);
    for (int k = 0; k < 3; k++) {
        if (opt.json)
            printf(",\n \"%s\": {", kind[k]);
        for (int r = 0; r < rows(labels); r++) {
            double v[MAX_COLUMNS];
            for (int i = 0; i < columns; i++) {
                const struct met_mean *m = &means[r][i];
                v[i] = k == 0 ? met_mean_value(m) : k == 1 ? met_mean_deviation(m) : (double)m->n;
            }
            if (!opt.json)
                printf("%s\t-\t-\t-\t-\t-\t-", kind[k]);
            put_values(r, v);
        }
        if (opt.json)
            putchar('}');
    }
    if (opt.json)
        printf("}\n");
}

/* --- arguments -------------------------------------------------------------------------------- */

static void set_convention(const char *name)
{
    if (!(opt.convention = met_convention(name)))
        tool_misuse("-c: (wanted brats2023, brats2020, nnunet, monai or study, got '%s')", name);
}

static void set_hd(const char *name)
{
    for (opt.hd = 0; opt.hd < MET_HDS; opt.hd++)
        if (!strcmp(name, met_hd_names[opt.hd]))
            return;
    tool_misuse("-d: (wanted surface, pooled, border or none, got '%s')", name);
}

static void set_lesions(const char *name)
{
    opt.lesions = met_lesion_rule(name);
    if (!opt.lesions && strcmp(name, "none"))
        tool_misuse("-l: (wanted gli, ssa, ped, men, met or none, got '%s')", name);
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    int c;

    opt.lesions = met_lesion_rule("gli");
    opt.convention = met_convention("brats2023");
    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'a':
            opt.all = true;
            break;
        case 'b':
            opt.constant = (int)tool_int('b', optarg, 0, MET_CLASSES - 1);
            break;
        case 'c':
            set_convention(optarg);
            break;
        case 'd':
            set_hd(optarg);
            break;
        case 'J':
        case 'j':
            opt.json = true;
            break;
        case 'l':
            set_lesions(optarg);
            break;
        case 'L':
            opt.trained_too = true;
            break;
        case 'p':
            if (strcmp(optarg, "case") && strcmp(optarg, "slice"))
                tool_misuse("-p: (wanted case or slice, got '%s')", optarg);
            opt.by_slice = *optarg == 's';
            break;
        }
    tool_no_operands();
    if (opt.by_slice)
        opt.lesions = NULL;
    choose_columns();

    tool_open_in();
    tool_uses(opt.constant > 0 ? "image label pred prob" : "label pred prob");
    while (tool_read(&rec))
        if (!tns_is_mark(&rec))
            add(&rec);
    finish();
    settle();
    put_begin();
    put_cases();
    put_means();
    ledger_free(&scans);
    ledger_free(&people);
    names_free(&finished);

    if (trained && !opt.trained_too)
        tool_warn("left out of the means: %zu of %zu %s, of patients that the model was trained on "
                  "(-L counts them)",
                  trained, counted + trained, opt.by_slice ? "slices" : "cases");
    if (incomplete && opt.constant < 0)
        tool_warn("%zu of %zu cases lack slices: what was predicted there is not seen", incomplete,
                  counted + (opt.trained_too ? 0 : trained));
    tns_release(&rec);
    return tool_finish();
}
