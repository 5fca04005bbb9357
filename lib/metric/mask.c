#include "lib/metric/metric.h"

#include <stdlib.h>
#include <string.h>

/* Whether a row holds a voxel of the set, and if so, widens [*lo, *hi) to it. */
static int row_span(const uint8_t *a, const uint8_t *b, size_t n, const uint8_t in[256], size_t *lo,
                    size_t *hi)
{
    size_t first = 0, last = n;
    for (uint64_t u, v; !in[0] && first + 8 <= n; first += 8) { /* most rows hold nothing */
        memcpy(&u, a + first, 8);
        memcpy(&v, b + first, 8);
        if (u | v)
            break;
    }
    while (first < n && !in[a[first]] && !in[b[first]])
        first++;
    if (first == n)
        return 0;
    while (!in[a[last - 1]] && !in[b[last - 1]])
        last--;
    if (first < *lo)
        *lo = first;
    if (last > *hi)
        *hi = last;
    return 1;
}

static size_t cut(const uint8_t *v, const struct met_grid *g, const size_t lo[3],
                  const struct met_grid *box, const uint8_t in[256], uint8_t *out)
{
    size_t count = 0;
    for (size_t z = 0; z < box->dim[0]; z++)
        for (size_t y = 0; y < box->dim[1]; y++) {
            const uint8_t *row = v + ((z + lo[0]) * g->dim[1] + y + lo[1]) * g->dim[2] + lo[2];
            for (size_t x = 0; x < box->dim[2]; x++)
                count += *out++ = in[row[x]];
        }
    return count;
}

int met_pair_make(struct met_pair *pair, const uint8_t *label, const uint8_t *pred,
                  const struct met_grid *g, unsigned labels, size_t margin)
{
    size_t lo[3] = {g->dim[0], g->dim[1], g->dim[2]}, hi[3] = {0}, row = 0;
    uint8_t in[256] = {0};
    memset(pair, 0, sizeof *pair);
    for (unsigned l = 0; l < MET_CLASSES; l++)
        in[l] = labels >> l & 1;
    for (size_t z = 0; z < g->dim[0]; z++)
        for (size_t y = 0; y < g->dim[1]; y++, row += g->dim[2])
            if (row_span(label + row, pred + row, g->dim[2], in, &lo[2], &hi[2])) {
                lo[0] = z < lo[0] ? z : lo[0];
                lo[1] = y < lo[1] ? y : lo[1];
                hi[0] = z + 1;
                hi[1] = y + 1 > hi[1] ? y + 1 : hi[1];
            }
    if (!hi[0])
        return 0;
    for (int a = 0; a < 3; a++) {
        lo[a] -= margin < lo[a] ? margin : lo[a];
        hi[a] += margin < g->dim[a] - hi[a] ? margin : g->dim[a] - hi[a];
        pair->grid.dim[a] = hi[a] - lo[a];
        pair->grid.spacing[a] = g->spacing[a];
    }
    size_t n = pair->grid.dim[0] * pair->grid.dim[1] * pair->grid.dim[2];
    pair->truth = malloc(n);
    pair->pred = malloc(n);
    if (!pair->truth || !pair->pred) {
        met_pair_free(pair);
        return MET_NOMEM;
    }
    pair->truth_count = cut(label, g, lo, &pair->grid, in, pair->truth);
    pair->pred_count = cut(pred, g, lo, &pair->grid, in, pair->pred);
    return 0;
}

void met_pair_free(struct met_pair *pair)
{
    free(pair->truth);
    free(pair->pred);
    memset(pair, 0, sizeof *pair);
}

/* out |= in, shifted by -1, 0 and 1 along the row */
static void widen(const uint8_t *in, uint8_t *out, size_t n)
{
    for (size_t x = 0; x < n; x++)
        out[x] |= in[x];
    for (size_t x = 1; x < n; x++)
        out[x] |= in[x - 1];
    for (size_t x = 0; x + 1 < n; x++)
        out[x] |= in[x + 1];
}

void met_dilate(uint8_t *mask, uint8_t *work, const size_t dim[3], int times)
{
    size_t D = dim[0], H = dim[1], W = dim[2];
    for (; times > 0; times--) {
        memcpy(work, mask, D * H * W);
        for (size_t z = 0; z < D; z++)
            for (size_t y = 0; y < H; y++) {
                uint8_t *out = mask + (z * H + y) * W;
                for (int dz = -1; dz <= 1; dz++)
                    for (int dy = -1; dy <= 1; dy++) {
                        if ((dz < 0 && !z) || (dy < 0 && !y) || (dz > 0 && z + 1 == D) ||
                            (dy > 0 && y + 1 == H))
                            continue;
                        const uint8_t *in = work + ((z + (size_t)dz) * H + y + (size_t)dy) * W;
                        if (dz && dy) /* an edge away already: no step along the row */
                            for (size_t x = 0; x < W; x++)
                                out[x] |= in[x];
                        else
                            widen(in, out, W);
                    }
            }
    }
}

/* Components are found among runs, stretches of one row: runs are some tens of times fewer than
 * voxels, and only they enter the forest of equivalent labels. */
struct run {
    uint32_t row, lo, hi; /* hi is past the end */
    int32_t parent;
};

static int32_t root(struct run *r, int32_t i)
{
    while (r[i].parent != i)
        i = r[i].parent = r[r[i].parent].parent;
    return i;
}

/* The smaller index becomes the root, so that a root is its component's first run. */
static void join(struct run *r, int32_t a, int32_t b)
{
    a = root(r, a);
    b = root(r, b);
    if (a < b)
        r[b].parent = a;
    else
        r[a].parent = b;
}

/* Joins the runs of two rows that overlap, or lie `reach` voxels apart along the row. */
static void join_rows(struct run *r, int32_t a, int32_t a_end, int32_t b, int32_t b_end,
                      uint32_t reach)
{
    while (a < a_end && b < b_end) {
        if (r[a].lo < r[b].hi + reach && r[b].lo < r[a].hi + reach)
            join(r, a, b);
        if (r[a].hi < r[b].hi)
            a++;
        else
            b++;
    }
}

static size_t find_runs(const uint8_t *mask, size_t rows, size_t W, struct run *r, int32_t *first)
{
    size_t n = 0;
    for (size_t row = 0; row < rows; row++, mask += W) {
        if (first)
            first[row] = (int32_t)n;
        for (size_t x = 0; x < W; x++) {
            const uint8_t *end;
            if (!mask[x]) {
                continue;
            }
            end = memchr(mask + x, 0, W - x);
            size_t hi = end ? (size_t)(end - mask) : W;
            if (r)
                r[n] = (struct run){(uint32_t)row, (uint32_t)x, (uint32_t)hi, (int32_t)n};
            n++;
            x = hi;
        }
    }
    if (first)
        first[rows] = (int32_t)n;
    return n;
}

int32_t met_components(const uint8_t *mask, const size_t dim[3], int neighbours, int32_t *out)
{
    size_t H = dim[1], W = dim[2], rows = dim[0] * H, n = find_runs(mask, rows, W, NULL, NULL);
    struct run *r = malloc((n + 1) * sizeof *r);
    int32_t *first = malloc((rows + 1) * sizeof *first), *label = malloc((n + 1) * sizeof *label);
    int32_t count = MET_NOMEM;
    if (!r || !first || !label)
        goto out;
    find_runs(mask, rows, W, r, first);
    for (size_t row = 0; row < rows; row++) {
        size_t z = row / H, y = row % H;
        int32_t a = first[row], end = first[row + 1];
        uint32_t face = neighbours > 6, edge = neighbours > 18;
        if (a == end)
            continue;
        if (y)
            join_rows(r, a, end, first[row - 1], first[row], face);
        if (z)
            join_rows(r, a, end, first[row - H], first[row - H + 1], face);
        if (z && y && neighbours > 6)
            join_rows(r, a, end, first[row - H - 1], first[row - H], edge);
        if (z && y + 1 < H && neighbours > 6)
            join_rows(r, a, end, first[row - H + 1], first[row - H + 2], edge);
    }
    count = 0;
    memset(out, 0, rows * W * sizeof *out);
    for (int32_t i = 0; i < (int32_t)n; i++) {
        int32_t top = root(r, i);
        label[i] = top == i ? ++count : label[top];
        for (uint32_t x = r[i].lo; x < r[i].hi; x++)
            out[r[i].row * W + x] = label[i];
    }
out:
    free(r);
    free(first);
    free(label);
    return count;
}
