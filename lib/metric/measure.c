/* Runs are rows of voxels: their ends are all that an outline can touch. */
#include "lib/metric/measure.h"

#include "lib/metric/runs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct point {
    double y, x; /* mm */
};

static int by_place(const void *a, const void *b)
{
    const struct point *p = a, *q = b;
    return p->y != q->y ? (p->y > q->y) - (p->y < q->y) : (p->x > q->x) - (p->x < q->x);
}

/* > 0 where a, b, c turn left. */
static double turn(struct point a, struct point b, struct point c)
{
    return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
}

/* Andrew's monotone chain: the hull of n points, written over them, room for one more; its size. */
static size_t hull_of(struct point *p, size_t n, struct point *hull)
{
    size_t k = 0;
    qsort(p, n, sizeof *p, by_place);
    for (size_t i = 0; i < n; i++) {
        while (k >= 2 && turn(hull[k - 2], hull[k - 1], p[i]) <= 0)
            k--;
        hull[k++] = p[i];
    }
    for (size_t i = n - 1, lower = k + 1; i-- > 0;) {
        while (k >= lower && turn(hull[k - 2], hull[k - 1], p[i]) <= 0)
            k--;
        hull[k++] = p[i];
    }
    return k - 1;
}

/* The longest line within a convex polygon along the direction (y, x) of unit length: one through a
 * corner, for between corners its length changes evenly. */
static double across_of(const struct point *hull, size_t n, double y, double x)
{
    double longest = 0;
    for (size_t v = 0; v < n; v++) {
        double low = 0, high = 0;
        for (size_t i = 0; i < n; i++) {
            const struct point a = hull[i], b = hull[(i + 1) % n];
            /* Sides of the line through v, and where the edge meets it. */
            double sa = (a.x - hull[v].x) * y - (a.y - hull[v].y) * x;
            double sb = (b.x - hull[v].x) * y - (b.y - hull[v].y) * x;
            double ta = (a.x - hull[v].x) * x + (a.y - hull[v].y) * y;
            double tb = (b.x - hull[v].x) * x + (b.y - hull[v].y) * y;
            if (sa * sb > 0 || sa == sb)
                continue;
            double t = ta + (tb - ta) * sa / (sa - sb);
            low = fmin(low, t);
            high = fmax(high, t);
        }
        longest = fmax(longest, high - low);
    }
    return longest;
}

static void diameters_of(const struct point *hull, size_t n, double *longest, double *across)
{
    const double same = 1e-9; /* ties but for rounding */
    *longest = *across = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = i + 1; j < n; j++) {
                double y = hull[j].y - hull[i].y, x = hull[j].x - hull[i].x, d = hypot(y, x);
                if (pass == 0)
                    *longest = fmax(*longest, d);
                else if (d >= *longest * (1 - same))
                    *across = fmax(*across, across_of(hull, n, -x / d, y / d));
            }
}

/* Of diameters that RANO measures, mm. */
static double least_of(const struct met_grid *g)
{
    return g->spacing[0] > 5 ? 2 * g->spacing[0] : 10;
}

/* A slice of one component, and room for the corners of its runs. */
struct section {
    uint8_t *mask;
    struct point *corner, *hull;
};

/* The corners of runs, those of each piece together: piece k's end at end[k]. */
static void corners_of(const struct met_runs *runs, const struct met_grid *g, struct point *corner,
                       size_t *end)
{
    memset(end, 0, ((size_t)runs->components + 2) * sizeof *end);
    for (int32_t i = 0; i < runs->n; i++)
        end[runs->run[i].label + 1] += 4;
    for (int32_t k = 1; k <= runs->components; k++)
        end[k + 1] += end[k];
    for (int32_t i = 0; i < runs->n; i++) {
        const struct met_run *r = &runs->run[i];
        for (int k = 0; k < 4; k++)
            corner[end[r->label]++] =
                (struct point){(double)(r->row + (uint32_t)(k / 2)) * g->spacing[1],
                               (double)(k % 2 ? r->hi : r->lo) * g->spacing[2]};
    }
}

/* Measures each piece of the component's slice z. */
static int measure_slice(struct met_lesion_size *s, const struct section *c,
                         const struct met_grid *g, size_t z)
{
    const size_t dim[3] = {1, s->hi[1] - s->lo[1] + 1, s->hi[2] - s->lo[2] + 1};
    struct met_runs runs;
    if (met_runs_make(&runs, c->mask, dim, 26))
        return MET_NOMEM;
    bool wide = false;
    size_t *end = malloc(((size_t)runs.components + 2) * sizeof *end);
    if (end)
        corners_of(&runs, g, c->corner, end);
    for (int32_t piece = 1; end && piece <= runs.components; piece++) {
        const size_t first = end[piece - 1];
        const size_t n = hull_of(c->corner + first, end[piece] - first, c->hull);
        double longest, across;
        diameters_of(c->hull, n, &longest, &across);
        wide |= across >= least_of(g);
        if (longest * across > s->longest * s->across) {
            s->longest = longest;
            s->across = across;
            s->slice = z;
        }
    }
    s->wide += wide;
    met_runs_free(&runs);
    const bool done = end;
    free(end);
    return done ? 0 : MET_NOMEM;
}

static int measure_diameters(struct met_lesion_size *s, int32_t label, const struct met_runs *runs,
                             const struct met_grid *g)
{
    const size_t h = s->hi[1] - s->lo[1] + 1, w = s->hi[2] - s->lo[2] + 1;
    const size_t corners = 4 * h * ((w + 1) / 2) + 1; /* a row has a run for every two voxels */
    struct section c = {malloc(h * w), malloc(corners * sizeof *c.corner),
                        malloc(2 * corners * sizeof *c.hull)};
    int r = c.mask && c.corner && c.hull ? 0 : MET_NOMEM;
    for (size_t z = s->lo[0]; z <= s->hi[0] && !r; z++) {
        memset(c.mask, 0, h * w);
        for (int32_t i = runs->first[z * g->dim[1] + s->lo[1]];
             i < runs->first[z * g->dim[1] + s->hi[1] + 1]; i++) {
            const struct met_run *run = &runs->run[i];
            if (run->label == label)
                memset(c.mask + (run->row - z * g->dim[1] - s->lo[1]) * w + run->lo - s->lo[2], 1,
                       run->hi - run->lo);
        }
        r = measure_slice(s, &c, g, z);
    }
    free(c.mask);
    free(c.corner);
    free(c.hull);
    return r;
}

static void grow(struct met_lesion_size *s, const size_t lo[3], const size_t hi[3])
{
    for (int i = 0; i < 3; i++) {
        s->lo[i] = !s->voxels || lo[i] < s->lo[i] ? lo[i] : s->lo[i];
        s->hi[i] = !s->voxels || hi[i] > s->hi[i] ? hi[i] : s->hi[i];
    }
}

/* Until all runs are in, `centre` is a sum. */
static void add_run(struct met_lesion_size *s, const struct met_run *r, size_t H)
{
    const size_t z = r->row / H, y = r->row % H, n = r->hi - r->lo;
    grow(s, (const size_t[3]){z, y, r->lo}, (const size_t[3]){z, y, r->hi - 1});
    s->voxels += n;
    s->centre[0] += (double)n * (double)z;
    s->centre[1] += (double)n * (double)y;
    s->centre[2] += (double)n * ((double)r->lo + (double)(n - 1) / 2);
}

int met_measure(const uint8_t *volume, const struct met_grid *g, unsigned labels, int neighbours,
                bool diameters, struct met_lesion_size **list, size_t *n)
{
    const size_t voxels = g->dim[0] * g->dim[1] * g->dim[2];
    struct met_runs runs;
    uint8_t *mask = malloc(voxels);
    *list = NULL;
    *n = 0;
    for (size_t i = 0; mask && i < voxels; i++)
        mask[i] = labels >> volume[i] & 1;
    int r = mask ? met_runs_make(&runs, mask, g->dim, neighbours) : MET_NOMEM;
    free(mask);
    if (r)
        return r;
    struct met_lesion_size *s = calloc((size_t)runs.components + 1, sizeof *s);
    for (int32_t i = 0; s && i < runs.n; i++)
        add_run(&s[runs.run[i].label - 1], &runs.run[i], g->dim[1]);
    for (int32_t k = 0; s && k < runs.components && !r; k++) {
        for (int i = 0; i < 3; i++)
            s[k].centre[i] /= (double)s[k].voxels;
        s[k].slice = s[k].lo[0];
        r = diameters ? measure_diameters(&s[k], k + 1, &runs, g) : 0;
    }
    if (!s || r) {
        free(s);
        met_runs_free(&runs);
        return MET_NOMEM;
    }
    *list = s;
    *n = (size_t)runs.components;
    met_runs_free(&runs);
    return 0;
}

struct met_lesion_size met_measure_all(const struct met_lesion_size *list, size_t n)
{
    struct met_lesion_size all = {0};
    for (size_t k = 0; k < n; k++) {
        grow(&all, list[k].lo, list[k].hi);
        all.voxels += list[k].voxels;
        for (int i = 0; i < 3; i++)
            all.centre[i] += (double)list[k].voxels * list[k].centre[i];
    }
    for (int i = 0; i < 3 && n; i++)
        all.centre[i] /= (double)all.voxels;
    return all;
}

bool met_measurable(const struct met_lesion_size *s, const struct met_grid *g)
{
    const double ellipse = acos(-1) / 4 * s->longest * s->across,
                 volume = (double)s->voxels * g->spacing[0] * g->spacing[1] * g->spacing[2];
    return s->wide >= 2 && volume >= 0.25 * ellipse * least_of(g);
}
