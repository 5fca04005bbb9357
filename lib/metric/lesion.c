/* Lesion-wise scores after BraTS 2023: Saluja and others, BraTS-2023-Metrics, metrics.py. */
#include "lib/metric/metric.h"

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

/* Box and size of each component 1..n of a map, into box[0..n-1]. */
static void measure_boxes(const int32_t *map, const size_t dim[3], struct box *box, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        box[i] = (struct box){{dim[0], dim[1], dim[2]}, {0}, 0};
    for (size_t z = 0; z < dim[0]; z++)
        for (size_t y = 0; y < dim[1]; y++)
            for (size_t x = 0; x < dim[2]; x++) {
                int32_t c = *map++;
                size_t at[3] = {z, y, x};
                if (!c)
                    continue;
                struct box *b = &box[c - 1];
                b->count++;
                for (int a = 0; a < 3; a++) {
                    b->lo[a] = at[a] < b->lo[a] ? at[a] : b->lo[a];
                    b->hi[a] = at[a] + 1 > b->hi[a] ? at[a] + 1 : b->hi[a];
                }
            }
}

static void box_grow(struct box *b, size_t by, const size_t dim[3])
{
    for (int a = 0; a < 3; a++) {
        b->lo[a] -= by < b->lo[a] ? by : b->lo[a];
        b->hi[a] += by < dim[a] - b->hi[a] ? by : dim[a] - b->hi[a];
    }
}

static void box_join(struct box *b, const struct box *other)
{
    for (int a = 0; a < 3; a++) {
        b->lo[a] = other->lo[a] < b->lo[a] ? other->lo[a] : b->lo[a];
        b->hi[a] = other->hi[a] > b->hi[a] ? other->hi[a] : b->hi[a];
    }
}

/* 1 in out, which has the size of the box, where keep[map] is set; returns how many. */
static size_t extract(const int32_t *map, const size_t dim[3], const struct box *b,
                      const uint8_t *keep, uint8_t *out)
{
    size_t count = 0;
    for (size_t z = b->lo[0]; z < b->hi[0]; z++)
        for (size_t y = b->lo[1]; y < b->hi[1]; y++) {
            const int32_t *row = map + (z * dim[1] + y) * dim[2];
            for (size_t x = b->lo[2]; x < b->hi[2]; x++)
                count += *out++ = keep[row[x]];
        }
    return count;
}

/* The components of `map` that a mask over the box touches: marked in hit, and listed. */
static int32_t touched(const int32_t *map, const size_t dim[3], const struct box *b,
                       const uint8_t *mask, uint8_t *hit, int32_t *list)
{
    int32_t n = 0;
    for (size_t z = b->lo[0]; z < b->hi[0]; z++)
        for (size_t y = b->lo[1]; y < b->hi[1]; y++) {
            const int32_t *row = map + (z * dim[1] + y) * dim[2];
            for (size_t x = b->lo[2]; x < b->hi[2]; x++)
                if (*mask++ && row[x] && !hit[row[x]]) {
                    hit[row[x]] = 1;
                    list[n++] = row[x];
                }
        }
    return n;
}

struct work {
    size_t dim[3];
    double spacing[3];
    int32_t *lesions, *comps; /* maps */
    int32_t nl, nc;
    struct box *lesion_box, *comp_box;
    uint8_t *is_lesion, *hit, *ever; /* nl + 1, nc + 1, nc + 1 */
    int32_t *list;                   /* nc + 1 */
    uint8_t *a, *b;                  /* masks as large as the whole */
};

static void set_box_grid(struct met_pair *p, const struct work *w, const struct box *b)
{
    for (int a = 0; a < 3; a++) {
        p->grid.dim[a] = b->hi[a] - b->lo[a];
        p->grid.spacing[a] = w->spacing[a];
    }
}

/* Lesion number l against the components that touch it dilated; hits become known in w->ever. */
static int score_lesion(struct work *w, int32_t l, int dilate, double penalty, double *dice,
                        double *hd95)
{
    struct met_pair p = {.truth = w->a, .pred = w->b};
    struct box box = w->lesion_box[l - 1];
    double hd[MET_HDS];
    size_t both = 0;
    int32_t matched;
    int r;

    w->is_lesion[l] = 1;
    box_grow(&box, (size_t)dilate, w->dim);
    set_box_grid(&p, w, &box);
    extract(w->lesions, w->dim, &box, w->is_lesion, w->a);
    met_dilate(w->a, w->b, p.grid.dim, dilate);
    matched = touched(w->comps, w->dim, &box, w->a, w->hit, w->list);
    box = w->lesion_box[l - 1];
    for (int32_t i = 0; i < matched; i++) {
        w->ever[w->list[i]] = 1;
        box_join(&box, &w->comp_box[w->list[i] - 1]);
    }
    *dice = 0;
    *hd95 = penalty;
    if (matched) {
        set_box_grid(&p, w, &box);
        p.truth_count = extract(w->lesions, w->dim, &box, w->is_lesion, w->a);
        p.pred_count = extract(w->comps, w->dim, &box, w->hit, w->b);
        for (size_t i = 0, n = p.grid.dim[0] * p.grid.dim[1] * p.grid.dim[2]; i < n; i++)
            both += w->a[i] & w->b[i];
        if ((r = met_hd95(&p, 1u << MET_HD_SURFACE, hd)) < 0)
            return r;
        *dice = 2 * (double)both / (double)(p.truth_count + p.pred_count);
        *hd95 = hd[MET_HD_SURFACE];
    }
    w->is_lesion[l] = 0;
    for (int32_t i = 0; i < matched; i++)
        w->hit[w->list[i]] = 0;
    return matched > 0;
}

static int score(struct work *w, const struct met_lesion_rule *rule, double penalty,
                 struct met_lesions *out)
{
    double voxel = w->spacing[0] * w->spacing[1] * w->spacing[2], dice = 0, hd95 = 0, all;
    for (int32_t l = 1; l <= w->nl; l++) {
        double d, h;
        int matched = score_lesion(w, l, rule->dilate, penalty, &d, &h);
        if (matched < 0)
            return matched;
        if ((double)w->lesion_box[l - 1].count * voxel <= rule->volume)
            continue;
        *(matched ? &out->found : &out->missed) += 1;
        dice += d;
        hd95 += h;
    }
    for (int32_t c = 1; c <= w->nc; c++)
        out->invented += !w->ever[c];
    all = out->found + out->missed + out->invented;
    out->dice = all > 0 ? dice / all : 1;
    out->hd95 = all > 0 ? (hd95 + penalty * out->invented) / all : 0;
    return 0;
}

int met_lesions(const struct met_pair *pair, const struct met_lesion_rule *rule, double penalty,
                struct met_lesions *out)
{
    struct work w = {0};
    size_t n = 1;
    int r = MET_NOMEM;
    *out = (struct met_lesions){.dice = 1};
    if (!pair->truth)
        return 0;
    for (int a = 0; a < 3; a++) {
        w.dim[a] = pair->grid.dim[a];
        w.spacing[a] = pair->grid.spacing[a];
        n *= w.dim[a];
    }
    w.lesions = malloc(n * sizeof *w.lesions);
    w.comps = malloc(n * sizeof *w.comps);
    w.a = malloc(n);
    w.b = malloc(n);
    if (!w.lesions || !w.comps || !w.a || !w.b)
        goto out;
    memcpy(w.a, pair->truth, n);
    met_dilate(w.a, w.b, w.dim, rule->dilate);
    if ((w.nl = met_components(w.a, w.dim, 26, w.lesions)) < 0 ||
        (w.nc = met_components(pair->pred, w.dim, 26, w.comps)) < 0)
        goto out;
    for (size_t i = 0; i < n; i++)
        if (!pair->truth[i])
            w.lesions[i] = 0;
    w.lesion_box = malloc(((size_t)w.nl + 1) * sizeof *w.lesion_box);
    w.comp_box = malloc(((size_t)w.nc + 1) * sizeof *w.comp_box);
    w.is_lesion = calloc((size_t)w.nl + 1, 1);
    w.hit = calloc((size_t)w.nc + 1, 1);
    w.ever = calloc((size_t)w.nc + 1, 1);
    w.list = malloc(((size_t)w.nc + 1) * sizeof *w.list);
    if (!w.lesion_box || !w.comp_box || !w.is_lesion || !w.hit || !w.ever || !w.list)
        goto out;
    measure_boxes(w.lesions, w.dim, w.lesion_box, w.nl);
    measure_boxes(w.comps, w.dim, w.comp_box, w.nc);
    r = score(&w, rule, penalty, out);
out:
    free(w.lesions);
    free(w.comps);
    free(w.lesion_box);
    free(w.comp_box);
    free(w.is_lesion);
    free(w.hit);
    free(w.ever);
    free(w.list);
    free(w.a);
    free(w.b);
    return r;
}
