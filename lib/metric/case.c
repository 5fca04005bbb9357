/* A row for each label and region, then their averages. Masks are made once for a part, and all
 * that wants them is measured then. */
#include "lib/metric/metric.h"

#include <math.h>

const char *const met_row_names[MET_ROWS] = {"0",  "1",  "2",  "3",  "4",  "5",       "6",
                                             "7",  "8",  "9",  "10", "11", "12",      "13",
                                             "14", "15", "WT", "TC", "ET", "mean123", "mean0123"};

struct what {
    const uint8_t *label, *pred;
    const struct met_grid *grid;
    const struct met_soft *soft;
    const struct met_convention *conventions;
    int n;
    const struct met_lesion_rule *lesions;
};

static void clear(struct met_row *r)
{
    double *v = (double *)r; /* a row is nothing but doubles */
    for (size_t i = 0; i < sizeof *r / sizeof *v; i++)
        v[i] = NAN;
}

/* Distances and lesions of a part other than the background. */
static int measure(const struct what *w, unsigned labels, const struct met_lesion_rule *rule,
                   double hd[MET_HDS], struct met_row *row)
{
    struct met_pair pair;
    unsigned wanted = 0;
    int r;
    for (int i = 0; i < w->n; i++)
        wanted |= 1u << w->conventions[i].hd;
    wanted &= ~(1u << MET_HD_NONE);
    if (!wanted && !rule)
        return 0;
    r = met_pair_make(&pair, w->label, w->pred, w->grid, labels, rule ? (size_t)rule->dilate : 0);
    if (r == 0)
        r = met_hd95(&pair, wanted, hd);
    if (r == 0 && rule) {
        struct met_lesions l;
        r = met_lesions(&pair, rule, MET_PENALTY, &l);
        row->lesion_dice = l.dice;
        row->lesion_hd95 = l.hd95;
        row->found = l.found;
        row->missed = l.missed;
        row->invented = l.invented;
    }
    met_pair_free(&pair);
    return r;
}

static int score(const struct what *w, enum met_part part, const struct met_counts *c,
                 struct met_row *row)
{
    const double *mm = w->grid->spacing;
    double voxel = mm[0] * mm[1] * mm[2], hd[MET_HDS] = {NAN, NAN, NAN, NAN};
    unsigned labels = met_parts[part].labels;
    bool lesions = met_parts[part].lesions;
    int r = 0;
    if (part != MET_BACKGROUND && (lesions || c->tp + c->fp + c->fn))
        r = measure(w, labels, lesions ? w->lesions : NULL, hd, row);
    for (int i = 0; i < w->n; i++) {
        struct met_convention conv = w->conventions[i];
        if (part == MET_BACKGROUND)
            conv.hd = MET_HD_NONE;
        row->score[i] = met_score(&conv, c, hd);
    }
    row->truth_mm3 = (double)(c->tp + c->fn) * voxel;
    row->pred_mm3 = (double)(c->tp + c->fp) * voxel;
    if (w->soft)
        row->soft_dice = met_soft_dice(w->soft, labels);
    return r;
}

static double average(const struct met_row *row, const double *first, int from)
{
    struct met_mean m = {0};
    size_t at = (size_t)(first - (const double *)row), step = sizeof *row / sizeof *first;
    for (int part = from; part <= MET_LABEL3; part++)
        met_mean_add(&m, ((const double *)row)[(size_t)part * step + at]);
    return met_mean_value(&m);
}

static void averages(const struct what *w, struct met_row *row, int from, struct met_row *out)
{
    for (int i = 0; i < w->n; i++) {
        const struct met_score *s = &row->score[i];
        out->score[i].dice = average(row, &s->dice, from);
        out->score[i].hd95 = from == MET_BACKGROUND ? NAN : average(row, &s->hd95, from);
        out->score[i].sensitivity = average(row, &s->sensitivity, from);
        out->score[i].specificity = average(row, &s->specificity, from);
    }
    out->soft_dice = average(row, &row->soft_dice, from);
}

int met_case(const uint8_t *label, const uint8_t *pred, const struct met_grid *grid,
             const struct met_soft *soft, const struct met_convention *conventions, int n,
             const struct met_lesion_rule *lesions, struct met_row row[MET_ROWS])
{
    struct what w = {label, pred, grid, soft, conventions, n, lesions};
    uint64_t table[MET_CLASSES][MET_CLASSES] = {{0}};
    for (int i = 0; i < MET_ROWS; i++)
        clear(&row[i]);
    met_count(label, pred, grid->dim[0] * grid->dim[1] * grid->dim[2], MET_CLASSES, table);
    for (int part = 0; part < MET_PARTS; part++) {
        struct met_counts c = met_counts(table, met_parts[part].labels);
        int r = part == MET_LABEL3 ? 0 : score(&w, (enum met_part)part, &c, &row[part]);
        if (r < 0)
            return r;
    }
    /* the same voxels under another name */
    row[MET_LABEL3] = row[MET_ET];
    row[MET_LABEL3].lesion_dice = row[MET_LABEL3].lesion_hd95 = NAN;
    row[MET_LABEL3].found = row[MET_LABEL3].missed = row[MET_LABEL3].invented = NAN;
    averages(&w, row, MET_LABEL1, &row[MET_MEAN_LABELS]);
    averages(&w, row, MET_BACKGROUND, &row[MET_MEAN_ALL]);
    if (soft)
        row[MET_MEAN_ALL].dice_loss = met_dice_loss(soft, 0);
    return 0;
}
