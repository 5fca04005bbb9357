/* Lesion-wise scores after BraTS 2023: Saluja and others, BraTS-2023-Metrics, metrics.py. */
#include "lib/metric/runs.h"

#include <stdlib.h>
#include <string.h>

const struct met_lesion_rule met_lesion_rules[] = {
    {"gli", 3, 50}, {"ssa", 3, 50}, {"ped", 3, 50}, {"men", 1, 50}, {"met", 1, 2}, {NULL, 0, 0},
};

const struct met_lesion_rule *met_lesion_rule(const char *name)
{
    for (const struct met_lesion_rule *r = met_lesion_rules; r->name; r++)
        if (!strcmp(r->name, name))
            return r;
    return NULL;
}

struct box {
    size_t lo[3], hi[3], count;
};

/* Components: where each one's runs are, its box and its size. */
struct parts {
    struct met_runs runs;
    int32_t *order, *first; /* run numbers by label; where those of label l begin: first[l] */
    struct box *box;        /* by label, from 1 */
};

static void box_join(struct box *b, const struct box *other)
{
    for (int a = 0; a < 3; a++) {
        b->lo[a] = other->lo[a] < b->lo[a] ? other->lo[a] : b->lo[a];
        b->hi[a] = other->hi[a] > b->hi[a] ? other->hi[a] : b->hi[a];
    }
}

static void box_grow(struct box *b, size_t by, const size_t dim[3])
{
    for (int a = 0; a < 3; a++) {
        b->lo[a] -= by < b->lo[a] ? by : b->lo[a];
        b->hi[a] += by < dim[a] - b->hi[a] ? by : dim[a] - b->hi[a];
    }
}

static size_t box_volume(const struct box *b)
{
    return (b->hi[0] - b->lo[0]) * (b->hi[1] - b->lo[1]) * (b->hi[2] - b->lo[2]);
}

static int sort_parts(struct parts *p, size_t H)
{
    size_t n = (size_t)p->runs.components + 2;
    p->order = malloc(((size_t)p->runs.n + 1) * sizeof *p->order);
    p->first = calloc(n, sizeof *p->first);
    p->box = calloc(n, sizeof *p->box);
    if (!p->order || !p->first || !p->box)
        return MET_NOMEM;
    for (int32_t i = 0; i < p->runs.n; i++) {
        const struct met_run *r = &p->runs.run[i];
        struct box *b = &p->box[r->label], run = {{r->row / H, r->row % H, r->lo},
                                                  {r->row / H + 1, r->row % H + 1, r->hi},
                                                  0};
        if (!b->count)
            *b = run;
        box_join(b, &run);
        b->count += r->hi - r->lo;
        p->first[r->label + 1]++;
    }
    for (size_t l = 1; l < n; l++)
        p->first[l] += p->first[l - 1];
    for (int32_t i = p->runs.n; i-- > 0;)
        p->order[--p->first[p->runs.run[i].label + 1]] = i;
    /* first[l + 1] has come down to where label l begins */
    memmove(p->first, p->first + 1, (n - 1) * sizeof *p->first);
    p->first[n - 1] = p->runs.n;
    return 0;
}

static void free_parts(struct parts *p)
{
    met_runs_free(&p->runs);
    free(p->order);
    free(p->first);
    free(p->box);
}

/* Sets part l to 1 in a mask over a box that holds it. */
static void paint(const struct parts *p, int32_t l, size_t H, const struct box *b, uint8_t *mask)
{
    size_t h = b->hi[1] - b->lo[1], w = b->hi[2] - b->lo[2];
    for (int32_t i = p->first[l]; i < p->first[l + 1]; i++) {
        const struct met_run *r = &p->runs.run[p->order[i]];
        size_t z = r->row / H - b->lo[0], y = r->row % H - b->lo[1];
        memset(mask + (z * h + y) * w + r->lo - b->lo[2], 1, r->hi - r->lo);
    }
}

struct work {
    size_t dim[3];
    double spacing[3];
    struct parts lesions, comps;
    uint8_t *hit, *ever; /* by component: of the lesion at hand, of any */
    int32_t *list;       /* the components hit */
    int32_t listed;
};

/* The components that a mask over a box touches. */
static void find_touching(struct work *w, const struct box *b, const uint8_t *mask)
{
    const struct met_runs *c = &w->comps.runs;
    size_t width = b->hi[2] - b->lo[2];
    w->listed = 0;
    for (size_t z = b->lo[0]; z < b->hi[0]; z++)
        for (size_t y = b->lo[1]; y < b->hi[1]; y++, mask += width) {
            size_t row = z * w->dim[1] + y;
            for (int32_t i = c->first[row]; i < c->first[row + 1]; i++) {
                size_t lo = c->run[i].lo > b->lo[2] ? c->run[i].lo : b->lo[2],
                       hi = c->run[i].hi < b->hi[2] ? c->run[i].hi : b->hi[2];
                int32_t l = c->run[i].label;
                if (lo < hi && !w->hit[l] && memchr(mask + lo - b->lo[2], 1, hi - lo)) {
                    w->hit[l] = w->ever[l] = 1;
                    w->list[w->listed++] = l;
                }
            }
        }
    for (int32_t i = 0; i < w->listed; i++)
        w->hit[w->list[i]] = 0;
}

/* A pair of empty masks over a box. */
static int make_pair(const struct work *w, const struct box *b, struct met_pair *p)
{
    memset(p, 0, sizeof *p);
    for (int a = 0; a < 3; a++) {
        p->grid.dim[a] = b->hi[a] - b->lo[a];
        p->grid.spacing[a] = w->spacing[a];
    }
    p->truth = calloc(box_volume(b), 1);
    p->pred = calloc(box_volume(b), 1);
    if (p->truth && p->pred)
        return 0;
    met_pair_free(p);
    return MET_NOMEM;
}

/* Finds the components that touch lesion l dilated, and compares them with it. */
static int score_lesion(struct work *w, int32_t l, int dilate, double penalty, double *dice,
                        double *hd95)
{
    struct box box = w->lesions.box[l];
    struct met_pair p;
    double hd[MET_HDS];
    size_t both = 0;
    int r;

    *dice = 0;
    *hd95 = penalty;
    box_grow(&box, (size_t)dilate, w->dim);
    if ((r = make_pair(w, &box, &p)) < 0)
        return r;
    paint(&w->lesions, l, w->dim[1], &box, p.truth);
    met_dilate(p.truth, p.pred, p.grid.dim, dilate);
    find_touching(w, &box, p.truth);
    met_pair_free(&p);
    if (!w->listed)
        return 0;

    box = w->lesions.box[l];
    for (int32_t i = 0; i < w->listed; i++)
        box_join(&box, &w->comps.box[w->list[i]]);
    if ((r = make_pair(w, &box, &p)) < 0)
        return r;
    p.truth_count = w->lesions.box[l].count;
    paint(&w->lesions, l, w->dim[1], &box, p.truth);
    for (int32_t i = 0; i < w->listed; i++) {
        p.pred_count += w->comps.box[w->list[i]].count;
        paint(&w->comps, w->list[i], w->dim[1], &box, p.pred);
    }
    for (size_t i = 0, n = box_volume(&box); i < n; i++)
        both += p.truth[i] & p.pred[i];
    r = met_hd95(&p, 1u << MET_HD_SURFACE, hd);
    *dice = 2 * (double)both / (double)(p.truth_count + p.pred_count);
    *hd95 = hd[MET_HD_SURFACE];
    met_pair_free(&p);
    return r < 0 ? r : 1;
}

static int score(struct work *w, const struct met_lesion_rule *rule, double penalty,
                 struct met_lesions *out)
{
    double voxel = w->spacing[0] * w->spacing[1] * w->spacing[2], dice = 0, hd95 = 0, all;
    for (int32_t l = 1; l <= w->lesions.runs.components; l++) {
        double d, h;
        int matched = score_lesion(w, l, rule->dilate, penalty, &d, &h);
        if (matched < 0)
            return matched;
        if ((double)w->lesions.box[l].count * voxel <= rule->volume)
            continue;
        *(matched ? &out->found : &out->missed) += 1;
        dice += d;
        hd95 += h;
    }
    for (int32_t c = 1; c <= w->comps.runs.components; c++)
        out->invented += !w->ever[c];
    all = out->found + out->missed + out->invented;
    out->dice = all > 0 ? dice / all : 1;
    out->hd95 = all > 0 ? (hd95 + penalty * out->invented) / all : 0;
    return 0;
}

/* Runs of the truth, labelled by the component of the dilated truth that they lie in: a run lies
 * in one run of the dilated mask, as that holds it whole. */
static int find_lesions(const uint8_t *truth, const size_t dim[3], int dilate, struct met_runs *out)
{
    size_t n = dim[0] * dim[1] * dim[2];
    uint8_t *grown = malloc(n), *work = malloc(n);
    struct met_runs wide;
    int r = MET_NOMEM;
    if (grown && work) {
        memcpy(grown, truth, n);
        met_dilate(grown, work, dim, dilate);
        r = met_runs_make(&wide, grown, dim, 26);
    }
    free(grown);
    free(work);
    if (r < 0)
        return r;
    r = met_runs_make(out, truth, dim, 0);
    for (int32_t i = 0; r == 0 && i < out->n; i++) {
        int32_t j = wide.first[out->run[i].row];
        while (wide.run[j].hi < out->run[i].hi)
            j++;
        out->run[i].label = wide.run[j].label;
    }
    out->components = wide.components;
    met_runs_free(&wide);
    return r;
}

int met_lesions(const struct met_pair *pair, const struct met_lesion_rule *rule, double penalty,
                struct met_lesions *out)
{
    struct work w = {0};
    int r;
    *out = (struct met_lesions){.dice = 1};
    if (!pair->truth)
        return 0;
    for (int a = 0; a < 3; a++) {
        w.dim[a] = pair->grid.dim[a];
        w.spacing[a] = pair->grid.spacing[a];
    }
    r = find_lesions(pair->truth, w.dim, rule->dilate, &w.lesions.runs);
    if (r == 0)
        r = met_runs_make(&w.comps.runs, pair->pred, w.dim, 26);
    if (r == 0)
        r = sort_parts(&w.lesions, w.dim[1]);
    if (r == 0)
        r = sort_parts(&w.comps, w.dim[1]);
    if (r == 0) {
        size_t n = (size_t)w.comps.runs.components + 1;
        w.hit = calloc(n, 1);
        w.ever = calloc(n, 1);
        w.list = malloc(n * sizeof *w.list);
        r = w.hit && w.ever && w.list ? score(&w, rule, penalty, out) : MET_NOMEM;
    }
    free_parts(&w.lesions);
    free_parts(&w.comps);
    free(w.hit);
    free(w.ever);
    free(w.list);
    return r;
}
