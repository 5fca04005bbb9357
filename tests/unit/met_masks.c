/* Masks of lib/metric against definitions written out in full: distance to the nearest voxel by
 * trying all, components by flood fill, dilation by asking each neighbour. */
#include "lib/base/rng.h"
#include "lib/metric/metric.h"
#include "tests/lib/components.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct rng rng;

static size_t size(const size_t d[3])
{
    return d[0] * d[1] * d[2];
}

static void random_mask(uint8_t *m, size_t n, double share)
{
    for (size_t i = 0; i < n; i++)
        m[i] = rng_uniform(&rng) < share;
}

/* The steps from voxel j to voxel i along each axis. */
static void steps(const size_t d[3], size_t i, size_t j, int out[3])
{
    out[0] = (int)(i / (d[1] * d[2])) - (int)(j / (d[1] * d[2]));
    out[1] = (int)(i / d[2] % d[1]) - (int)(j / d[2] % d[1]);
    out[2] = (int)(i % d[2]) - (int)(j % d[2]);
}

static double edt_error(const uint8_t *m, const struct met_grid *g)
{
    size_t n = size(g->dim);
    float *sq = malloc(n * sizeof *sq);
    static const uint8_t in[256] = {0, 1}; /* of masks of 0 and 1 */
    double worst = met_edt(m, in, g, sq) < 0 ? INFINITY : 0;
    for (size_t i = 0; i < n; i++) {
        double best = INFINITY;
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            int s[3];
            if (!m[j])
                continue;
            steps(g->dim, i, j, s);
            for (int a = 0; a < 3; a++)
                sum += s[a] * s[a] * g->spacing[a] * g->spacing[a];
            best = fmin(best, sum);
        }
        double e = isinf(best) ? !isinf(sq[i]) : fabs(sq[i] - best) / fmax(best, 1);
        worst = fmax(worst, e);
    }
    free(sq);
    return worst;
}

static void test_edt(void)
{
    uint8_t m[12 * 12 * 24];
    double unit = 0, uneven = 0;
    for (int i = 0; i < 40; i++) {
        struct met_grid g = {
            {1 + rng_below(&rng, 12), 1 + rng_below(&rng, 12), 1 + rng_below(&rng, 24)}, {1, 1, 1}};
        random_mask(m, size(g.dim), i % 4 ? 0.02 : 0.4);
        unit = fmax(unit, edt_error(m, &g));
        for (int a = 0; a < 3; a++)
            g.spacing[a] = rng_range(&rng, 0.3, 6);
        uneven = fmax(uneven, edt_error(m, &g));
    }
    ok(unit == 0, "edt: exact on unit voxels, 40 random masks (largest error %g)", unit);
    /* float holds 24 bits; three roundings on the way */
    ok(uneven < 4e-7, "edt: float's precision on uneven voxels (largest relative error %g)",
       uneven);
    struct met_grid g = {{3, 4, 5}, {1, 1, 1}};
    memset(m, 0, 60);
    ok(edt_error(m, &g) == 0, "edt: infinite everywhere in an empty mask");
}

static int near(const int s[3], int neighbours)
{
    int sum = abs(s[0]) + abs(s[1]) + abs(s[2]);
    return sum && abs(s[0]) <= 1 && abs(s[1]) <= 1 && abs(s[2]) <= 1 &&
           sum <= (neighbours == 6    ? 1
                   : neighbours == 18 ? 2
                                      : 3);
}

static void flood(const uint8_t *m, const size_t d[3], int neighbours, size_t at, int32_t label,
                  int32_t *out)
{
    out[at] = label;
    for (size_t to = 0; to < size(d); to++) {
        int s[3];
        steps(d, at, to, s);
        if (m[to] && !out[to] && near(s, neighbours))
            flood(m, d, neighbours, to, label, out);
    }
}

static void test_components(void)
{
    static const int kinds[] = {6, 18, 26};
    uint8_t m[10 * 10 * 12];
    int32_t want[10 * 10 * 12], got[10 * 10 * 12];
    for (int k = 0; k < 3; k++) {
        int same = 1, most = 0;
        for (int i = 0; i < 60; i++) {
            size_t d[3] = {1 + rng_below(&rng, 10), 1 + rng_below(&rng, 10),
                           1 + rng_below(&rng, 12)};
            int32_t n = 0;
            random_mask(m, size(d), i % 3 ? 0.12 : 0.45);
            memset(want, 0, sizeof want);
            for (size_t j = 0; j < size(d); j++)
                if (m[j] && !want[j])
                    flood(m, d, kinds[k], j, ++n, want);
            same &= components(m, d, kinds[k], got) == n;
            same &= !memcmp(want, got, size(d) * sizeof *got);
            most = n > most ? n : most;
        }
        ok(same && most > 10, "components: %d neighbours as by flood fill, 60 masks, up to %d",
           kinds[k], most);
    }
    size_t d[3] = {2, 2, 2};
    uint8_t corner[8] = {1, 0, 0, 0, 0, 0, 0, 1}, edge[8] = {1, 0, 0, 1, 0, 0, 0, 0};
    ok(components(corner, d, 18, got) == 2 && components(corner, d, 26, got) == 1,
       "components: a shared corner joins 26-neighbours only");
    ok(components(edge, d, 6, got) == 2 && components(edge, d, 18, got) == 1,
       "components: a shared edge joins 18-neighbours");
}

static void test_dilate(void)
{
    uint8_t m[8 * 9 * 11], was[8 * 9 * 11], work[8 * 9 * 11];
    int same = 1;
    for (int i = 0; i < 40; i++) {
        size_t d[3] = {1 + rng_below(&rng, 8), 1 + rng_below(&rng, 9), 1 + rng_below(&rng, 11)};
        random_mask(m, size(d), 0.05);
        memcpy(was, m, size(d));
        met_dilate(m, work, d, 1);
        for (size_t at = 0; at < size(d); at++) {
            int want = was[at], s[3];
            for (size_t from = 0; from < size(d); from++) {
                steps(d, at, from, s);
                want |= was[from] && near(s, 18);
            }
            same &= m[at] == want;
        }
    }
    ok(same, "dilate: the 18-neighbours of each voxel, 40 random masks");
    size_t d[3] = {9, 9, 9}, n = 0;
    uint8_t big[729] = {0}, scratch[729];
    big[4 * 81 + 4 * 9 + 4] = 1;
    met_dilate(big, scratch, d, 3);
    for (int i = 0; i < 729; i++)
        n += big[i];
    /* |x|, |y|, |z| <= 3 and their sum <= 6. At each of 8 corners of that cube the sum is above 6
     * at (3,3,3), (3,3,2), (3,3,1), (3,2,2) in all orders: 1 + 3 + 3 + 3 = 10. */
    ok(n == 343 - 8 * 10, "dilate: a voxel three times is a polyhedron of 263 voxels (%zu)", n);
}

static void test_pair(void)
{
    uint8_t label[6 * 7 * 8] = {0}, pred[6 * 7 * 8] = {0};
    struct met_grid g = {{6, 7, 8}, {3, 1, 2}};
    struct met_pair p;
    label[(2 * 7 + 3) * 8 + 4] = 3;
    pred[(4 * 7 + 6) * 8 + 4] = 1;
    pred[(4 * 7 + 6) * 8 + 5] = 2;
    int r = met_pair_make(&p, label, pred, &g, met_parts[MET_TC].labels, 0);
    ok(r == 0 && p.grid.dim[0] == 3 && p.grid.dim[1] == 4 && p.grid.dim[2] == 1 &&
           p.grid.spacing[2] == 2 && p.truth_count == 1 && p.pred_count == 1,
       "pair: the smallest box of both masks, of the part's labels alone");
    ok(p.truth[0] == 1 && p.pred[11] == 1, "pair: a mask is 1 whatever the label was");
    met_pair_free(&p);
    r = met_pair_make(&p, label, pred, &g, met_parts[MET_WT].labels, 2);
    ok(r == 0 && p.grid.dim[0] == 6 && p.grid.dim[1] == 6 && p.grid.dim[2] == 6 &&
           p.pred_count == 2,
       "pair: a margin ends where the volume does");
    met_pair_free(&p);
    memset(label, 0, sizeof label);
    r = met_pair_make(&p, label, pred, &g, met_parts[MET_ET].labels, 3);
    ok(r == 0 && !p.truth && !p.pred && !p.grid.dim[0], "pair: nothing where both are empty");
    met_pair_free(&p);
}

int main(void)
{
    rng = rng_seed(1);
    test_edt();
    test_components();
    test_dilate();
    test_pair();
    return done_testing();
}
