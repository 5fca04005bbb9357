/* Each rule finds components, and paints those that it is about through a table of labels. */
#include "lib/metric/tidy.h"
#include "lib/metric/runs.h"

#include <stdlib.h>

/* What a voxel of each label becomes. */
typedef uint8_t table[MET_CANONICAL];

static const table to_background = {0, 0, 0, 0, 4}, to_oedema = {0, 2, 2, 2, 4},
                   to_core = {0, 1, 2, 1, 4}, fill_core = {1, 1, 1, 3, 4},
                   fill_whole = {2, 1, 2, 3, 4};

struct part {
    struct met_runs runs;
    uint64_t *voxels; /* of each component, from 1 */
    uint8_t *chosen;
};

static void free_part(struct part *p)
{
    met_runs_free(&p->runs);
    free(p->voxels);
    free(p->chosen);
}

/* Components of a set of labels, or of all that is not in it. */
static int find(struct part *p, const uint8_t *pred, const size_t dim[3], unsigned labels,
                int neighbours)
{
    size_t n = dim[0] * dim[1] * dim[2];
    uint8_t *mask = malloc(n);
    int r = MET_NOMEM;
    *p = (struct part){0};
    for (size_t i = 0; mask && i < n; i++)
        mask[i] = labels >> pred[i] & 1;
    if (mask)
        r = met_runs_make(&p->runs, mask, dim, neighbours);
    free(mask);
    if (r)
        return r;
    p->voxels = calloc((size_t)p->runs.components + 1, sizeof *p->voxels);
    p->chosen = calloc((size_t)p->runs.components + 1, 1);
    if (!p->voxels || !p->chosen) {
        free_part(p);
        return MET_NOMEM;
    }
    for (int32_t i = 0; i < p->runs.n; i++)
        p->voxels[p->runs.run[i].label] += p->runs.run[i].hi - p->runs.run[i].lo;
    return 0;
}

static uint64_t paint(const struct part *p, uint8_t *pred, size_t width, const table to)
{
    uint64_t changed = 0;
    for (int32_t i = 0; i < p->runs.n; i++) {
        const struct met_run *run = &p->runs.run[i];
        uint8_t *row = pred + run->row * width;
        for (size_t x = run->lo; p->chosen[run->label] && x < run->hi; x++) {
            changed += to[row[x]] != row[x];
            row[x] = to[row[x]];
        }
    }
    return changed;
}

static void choose_all_but_largest(struct part *p)
{
    int32_t largest = 0; /* no component: nothing is of that number */
    for (int32_t c = 1; c <= p->runs.components; c++) {
        p->chosen[c] = 1;
        if (p->voxels[c] > p->voxels[largest])
            largest = c;
    }
    p->chosen[largest] = 0;
}

static void choose_smaller(struct part *p, double voxel, double mm3)
{
    for (int32_t c = 1; c <= p->runs.components; c++)
        p->chosen[c] = (double)p->voxels[c] * voxel < mm3;
}

static void choose_less(struct part *p, double voxel, double mm3)
{
    uint64_t all = 0;
    for (int32_t c = 1; c <= p->runs.components; c++)
        all += p->voxels[c];
    for (int32_t c = 1; c <= p->runs.components; c++)
        p->chosen[c] = (double)all * voxel < mm3;
}

static void choose_enclosed(struct part *p, const size_t dim[3])
{
    for (int32_t c = 1; c <= p->runs.components; c++)
        p->chosen[c] = 1;
    for (int32_t i = 0; i < p->runs.n; i++) {
        const struct met_run *r = &p->runs.run[i];
        size_t z = r->row / dim[1], y = r->row % dim[1];
        if (r->lo == 0 || r->hi == dim[2] || y == 0 || y + 1 == dim[1] ||
            (dim[0] > 1 && (z == 0 || z + 1 == dim[0])))
            p->chosen[r->label] = 0;
    }
}

static int fill(uint8_t *pred, const size_t dim[3], unsigned labels, int neighbours, const table to,
                uint64_t *changed)
{
    struct part p;
    int r = find(&p, pred, dim, ~labels, neighbours == 6 ? 26 : 6);
    if (r)
        return r;
    choose_enclosed(&p, dim);
    *changed += paint(&p, pred, dim[2], to);
    free_part(&p);
    return 0;
}

static int apply(uint8_t *pred, const struct met_grid *g, const struct met_tidy *t,
                 enum met_rule rule, uint64_t *changed)
{
    static const struct {
        enum met_part part;
        const uint8_t *to;
    } about[MET_HOLES] = {[MET_WHOLE] = {MET_WT, to_background},
                          [MET_LARGEST] = {MET_WT, to_background},
                          [MET_CORE] = {MET_TC, to_oedema},
                          [MET_ENHANCING] = {MET_ET, to_core},
                          [MET_LITTLE] = {MET_ET, to_core}};
    const double voxel = g->spacing[0] * g->spacing[1] * g->spacing[2], mm3 = t->rule[rule];
    struct part p;
    int r;
    if (rule == MET_HOLES) {
        r = fill(pred, g->dim, met_parts[MET_TC].labels, t->neighbours, fill_core, changed);
        return r ? r
                 : fill(pred, g->dim, met_parts[MET_WT].labels, t->neighbours, fill_whole, changed);
    }
    if ((r = find(&p, pred, g->dim, met_parts[about[rule].part].labels, t->neighbours)))
        return r;
    if (rule == MET_LARGEST)
        choose_all_but_largest(&p);
    else if (rule == MET_LITTLE)
        choose_less(&p, voxel, mm3);
    else
        choose_smaller(&p, voxel, mm3);
    *changed += paint(&p, pred, g->dim[2], about[rule].to);
    free_part(&p);
    return 0;
}

int met_tidy(uint8_t *pred, const struct met_grid *g, const struct met_tidy *t,
             uint64_t changed[MET_RULES])
{
    for (int rule = 0; rule < MET_RULES; rule++) {
        int r = t->rule[rule] > 0 ? apply(pred, g, t, (enum met_rule)rule, &changed[rule]) : 0;
        if (r)
            return r;
    }
    return 0;
}
