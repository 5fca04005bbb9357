/* Runs are joined by a forest in the runs themselves; labels have the order of first voxels. */
#include "lib/metric/runs.h"

#include <stdlib.h>
#include <string.h>

/* While runs are being joined, `label` is the index of another run of the component, or its own. */
static int32_t root(struct met_run *r, int32_t i)
{
    while (r[i].label != i)
        i = r[i].label = r[r[i].label].label;
    return i;
}

/* The smaller index becomes the root, so that a root is its component's first run. */
static void join(struct met_run *r, int32_t a, int32_t b)
{
    a = root(r, a);
    b = root(r, b);
    if (a < b)
        r[b].label = a;
    else
        r[a].label = b;
}

/* Joins the runs of two rows that overlap, or that lie at most `reach` - 1 voxels apart. */
static void join_rows(struct met_runs *s, size_t row, size_t other, uint32_t reach)
{
    struct met_run *r = s->run;
    int32_t a = s->first[row], b = s->first[other];
    while (a < s->first[row + 1] && b < s->first[other + 1]) {
        if (r[a].lo < r[b].hi + reach && r[b].lo < r[a].hi + reach)
            join(r, a, b);
        if (r[a].hi < r[b].hi)
            a++;
        else
            b++;
    }
}

static int32_t find_runs(const uint8_t *mask, size_t rows, size_t W, struct met_run *r,
                         int32_t *first)
{
    int32_t n = 0;
    for (size_t row = 0; row < rows; row++, mask += W) {
        if (first)
            first[row] = n;
        for (size_t x = 0; x < W; x++) {
            if (!mask[x])
                continue;
            const uint8_t *end = memchr(mask + x, 0, W - x);
            size_t hi = end ? (size_t)(end - mask) : W;
            if (r)
                r[n] = (struct met_run){(uint32_t)row, (uint32_t)x, (uint32_t)hi, n};
            n++;
            x = hi;
        }
    }
    if (first)
        first[rows] = n;
    return n;
}

int met_runs_make(struct met_runs *s, const uint8_t *mask, const size_t dim[3], int neighbours)
{
    size_t H = dim[1], W = dim[2], rows = dim[0] * H;
    uint32_t face = neighbours > 6, edge = neighbours > 18;
    s->n = find_runs(mask, rows, W, NULL, NULL);
    s->components = 0;
    s->run = malloc(((size_t)s->n + 1) * sizeof *s->run);
    s->first = malloc((rows + 1) * sizeof *s->first);
    if (!s->run || !s->first) {
        met_runs_free(s);
        return MET_NOMEM;
    }
    find_runs(mask, rows, W, s->run, s->first);
    for (size_t row = 0; row < rows && neighbours; row++) {
        size_t z = row / H, y = row % H;
        if (s->first[row] == s->first[row + 1])
            continue;
        if (y)
            join_rows(s, row, row - 1, face);
        if (z)
            join_rows(s, row, row - H, face);
        if (z && y && neighbours > 6)
            join_rows(s, row, row - H - 1, edge);
        if (z && y + 1 < H && neighbours > 6)
            join_rows(s, row, row - H + 1, edge);
    }
    /* Roots come before what points at them, so one pass turns indices into labels. */
    for (int32_t i = 0; i < s->n; i++) {
        struct met_run *r = &s->run[i];
        r->label = r->label == i ? ++s->components : s->run[r->label].label;
    }
    return 0;
}

void met_runs_free(struct met_runs *s)
{
    free(s->run);
    free(s->first);
    memset(s, 0, sizeof *s);
}
