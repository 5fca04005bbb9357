/* Masks are cut to where there is something: what follows takes time by the size of the tumour,
 * not the head. */
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
