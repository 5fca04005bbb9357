/* The three HD95 definitions against lists of all distances, and the surface areas against formulas
 * worked out by hand for each kind of corner set. */
#include "lib/base/rng.h"
#include "lib/metric/metric.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct rng rng;
static const double inf = INFINITY;

/* Length of the area vector (a,b,c), given in unit cubes, for voxels of this size. */
static double part(double a, double b, double c, const double s[3])
{
    a *= s[1] * s[2];
    b *= s[0] * s[2];
    c *= s[0] * s[1];
    return sqrt(a * a + b * b + c * c);
}

/* Corner sets by their shape, as bits 4z+2y+x, with the area their cuts enclose. */
static void test_areas(void)
{
    static const double spacings[][3] = {{1, 1, 1}, {2, 1, 1}, {0.7, 1.3, 3.1}};
    for (int i = 0; i < 3; i++) {
        const double *s = spacings[i];
        double area[256], corner = part(.125, .125, .125, s);
        met_surface_areas(s, area);
        struct {
            const char *what;
            unsigned code;
            double area;
        } kinds[] = {
            {"nothing", 0x00, 0},
            {"one corner", 0x01, corner},
            {"an edge along x", 0x03, 2 * part(.25, .25, 0, s)},
            {"an edge along y", 0x05, 2 * part(.25, 0, .25, s)},
            {"an edge along z", 0x11, 2 * part(0, .25, .25, s)},
            {"two corners across a face", 0x06, 2 * corner},
            {"two opposite corners", 0x18, 2 * corner},
            {"an L in a z plane", 0x07, part(.5, 0, 0, s) + part(.375, .375, .375, s)},
            {"an L in a y plane", 0x13, part(0, .5, 0, s) + part(.375, .375, .375, s)},
            {"an edge along x and a corner", 0x83, 2 * part(.25, .25, 0, s) + corner},
            {"three corners apart", 0x16, 3 * corner},
            {"a face across z", 0x0f, part(1, 0, 0, s)},
            {"a face across y", 0x33, part(0, 1, 0, s)},
            {"a face across x", 0x55, part(0, 0, 1, s)},
            {"a corner and its neighbours", 0x17, part(.75, .75, .75, s)},
            {"an L and a corner", 0x87, part(.5, 0, 0, s) + part(.375, .375, .375, s) + corner},
            {"two edges along x", 0xc3, 4 * part(.25, .25, 0, s)},
            {"four corners apart", 0x69, 4 * corner},
            /* corners x, 0, z, z+y: the middle runs along z; cuts as in surface.c, normals by
             * hand */
            {"a path turning twice, middle along z", 0x53,
             part(.25, 0, .25, s) + part(.5, .5, .5, s) + part(.25, .25, 0, s)},
        };
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            ok(fabs(area[kinds[k].code] - kinds[k].area) < 1e-12 &&
                   fabs(area[255 ^ kinds[k].code] - kinds[k].area) < 1e-12,
               "area: %s, and its complement, %g mm2 (voxels %g %g %g)", kinds[k].what,
               kinds[k].area, s[0], s[1], s[2]);
    }
}

/* Turned about, a corner set keeps its area, if the voxel is turned too. */
static void test_area_symmetry(void)
{
    static const int turns[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const double s[3] = {0.7, 1.3, 3.1};
    double area[256], turned[256], worst = 0;
    met_surface_areas(s, area);
    for (int t = 0; t < 6; t++) {
        double st[3];
        for (int a = 0; a < 3; a++)
            st[turns[t][a]] = s[a];
        met_surface_areas(st, turned);
        for (int flip = 0; flip < 8; flip++)
            for (int code = 0; code < 256; code++) {
                int image = 0;
                for (int c = 0; c < 8; c++) {
                    int to = 0;
                    for (int a = 0; a < 3; a++)
                        if ((c ^ flip) & 4 >> a)
                            to |= 4 >> turns[t][a];
                    image |= (code >> c & 1) << to;
                }
                worst = fmax(worst, fabs(area[code] - turned[image]));
            }
    }
    ok(worst < 1e-12, "area: the same in all 48 positions of the cube, 256 sets (%g)", worst);
}

struct element {
    double at[3], weight, distance;
};

static int by_distance(const void *a, const void *b)
{
    double x = ((const struct element *)a)->distance, y = ((const struct element *)b)->distance;
    return (x > y) - (x < y);
}

static int in_mask(const uint8_t *m, const size_t d[3], long z, long y, long x)
{
    return z >= 0 && y >= 0 && x >= 0 && z < (long)d[0] && y < (long)d[1] && x < (long)d[2] &&
           m[((size_t)z * d[1] + (size_t)y) * d[2] + (size_t)x];
}

/* Border elements of a mask: surface 1, the corners of voxels; 0, voxels. */
static size_t elements(const uint8_t *m, const struct met_grid *g, int surface, struct element *e)
{
    double area[256];
    size_t n = 0;
    met_surface_areas(g->spacing, area);
    for (long z = 0; z < (long)g->dim[0] + surface; z++)
        for (long y = 0; y < (long)g->dim[1] + surface; y++)
            for (long x = 0; x < (long)g->dim[2] + surface; x++) {
                double weight = 1;
                int border;
                if (surface) {
                    int code = 0;
                    for (int c = 0; c < 8; c++)
                        code |= in_mask(m, g->dim, z - 1 + (c >> 2), y - 1 + (c >> 1 & 1),
                                        x - 1 + (c & 1))
                                << c;
                    border = code != 0 && code != 255;
                    weight = area[code];
                } else {
                    border =
                        in_mask(m, g->dim, z, y, x) &&
                        in_mask(m, g->dim, z - 1, y, x) + in_mask(m, g->dim, z + 1, y, x) +
                                in_mask(m, g->dim, z, y - 1, x) + in_mask(m, g->dim, z, y + 1, x) +
                                in_mask(m, g->dim, z, y, x - 1) + in_mask(m, g->dim, z, y, x + 1) <
                            6;
                }
                if (border)
                    e[n++] = (struct element){{(double)z * g->spacing[0], (double)y * g->spacing[1],
                                               (double)x * g->spacing[2]},
                                              weight,
                                              0};
            }
    return n;
}

static void measure(struct element *from, size_t n, const struct element *to, size_t m)
{
    for (size_t i = 0; i < n; i++) {
        from[i].distance = inf;
        for (size_t j = 0; j < m; j++) {
            double d = 0;
            for (int a = 0; a < 3; a++)
                d += pow(from[i].at[a] - to[j].at[a], 2);
            from[i].distance = fmin(from[i].distance, sqrt(d));
        }
    }
    qsort(from, n, sizeof *from, by_distance);
}

static double weighted95(const struct element *e, size_t n)
{
    double all = 0, sum = 0;
    for (size_t i = 0; i < n; i++)
        all += e[i].weight;
    for (size_t i = 0; i < n; i++)
        if ((sum += e[i].weight) >= 0.95 * all * (1 - 1e-11))
            return e[i].distance;
    return e[n - 1].distance;
}

static double linear95(const struct element *e, size_t n)
{
    double at = 0.95 * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? e[i].distance * (1 - (at - (double)i)) + e[i + 1].distance * (at - (double)i)
                     : e[i].distance;
}

static void brute(const struct met_pair *p, double hd[MET_HDS])
{
    size_t room = 2 * (p->grid.dim[0] + 1) * (p->grid.dim[1] + 1) * (p->grid.dim[2] + 1);
    struct element *t = malloc(room * sizeof *t), *q = malloc(room * sizeof *q);
    for (int surface = 0; surface < 2; surface++) {
        size_t n = elements(p->truth, &p->grid, surface, t),
               m = elements(p->pred, &p->grid, surface, q);
        measure(t, n, q, m);
        measure(q, m, t, n);
        if (surface) {
            hd[MET_HD_SURFACE] = fmax(weighted95(t, n), weighted95(q, m));
            continue;
        }
        hd[MET_HD_BORDER] = fmax(linear95(t, n), linear95(q, m));
        memcpy(t + n, q, m * sizeof *t);
        qsort(t, n + m, sizeof *t, by_distance);
        hd[MET_HD_POOLED] = linear95(t, n + m);
    }
    free(t);
    free(q);
}

/* A lump of voxels that grew from a few seeds: smooth enough to have an inside. */
static void lumps(uint8_t *m, uint8_t *work, const size_t d[3])
{
    size_t n = d[0] * d[1] * d[2];
    memset(m, 0, n);
    for (uint64_t i = 0, seeds = 1 + rng_below(&rng, 4); i < seeds; i++)
        m[rng_below(&rng, n)] = 1;
    met_dilate(m, work, d, (int)rng_below(&rng, 4));
    for (size_t i = 0; i < n; i++)
        if (rng_uniform(&rng) < 0.04)
            m[i] ^= 1;
    m[rng_below(&rng, n)] = 1;
}

static void test_random(void)
{
    enum { ROOM = 12 * 13 * 14 };
    uint8_t t[ROOM], q[ROOM], work[ROOM];
    double worst[MET_HDS] = {0};
    unsigned all = 1u << MET_HD_SURFACE | 1u << MET_HD_POOLED | 1u << MET_HD_BORDER;
    int differ = 0, runs = 120;
    for (int i = 0; i < runs; i++) {
        struct met_grid g = {
            {1 + rng_below(&rng, 12), 1 + rng_below(&rng, 13), 1 + rng_below(&rng, 14)}, {1, 1, 1}};
        struct met_pair p;
        double want[MET_HDS], got[MET_HDS];
        for (int a = 0; i % 2 && a < 3; a++)
            g.spacing[a] = rng_range(&rng, 0.4, 5);
        lumps(t, work, g.dim);
        lumps(q, work, g.dim);
        if (met_pair_make(&p, t, q, &g, 1 << 1, 0) < 0 || met_hd95(&p, all, got) < 0)
            break;
        brute(&p, want);
        for (int d = MET_HD_SURFACE; d < MET_HDS; d++)
            worst[d] = fmax(worst[d], fabs(got[d] - want[d]));
        differ += fabs(want[MET_HD_SURFACE] - want[MET_HD_BORDER]) > 0.1 &&
                  fabs(want[MET_HD_POOLED] - want[MET_HD_BORDER]) > 0.1;
        met_pair_free(&p);
    }
    for (int d = MET_HD_SURFACE; d < MET_HDS; d++)
        ok(worst[d] < 1e-5,
           "hd95: %s as by trying all pairs, %d random volumes (largest error %g mm)",
           met_hd_names[d], runs, worst[d]);
    ok(differ > 20, "hd95: the definitions do differ (all three on %d of %d)", differ, runs);
}

static void test_by_hand(void)
{
    unsigned all = 1u << MET_HD_SURFACE | 1u << MET_HD_POOLED | 1u << MET_HD_BORDER;
    struct met_grid g = {{1, 1, 30}, {1, 1, 2}};
    uint8_t t[30] = {0}, q[30] = {0};
    struct met_pair p;
    double hd[MET_HDS];
    /* one voxel, 5 apart, 2 mm each: the near four corners are 8 mm off, the far four 10 */
    t[3] = q[8] = 1;
    int r = met_pair_make(&p, t, q, &g, 1 << 1, 0) | met_hd95(&p, all, hd);
    ok(r == 0 && hd[MET_HD_SURFACE] == 10 && hd[MET_HD_POOLED] == 10 && hd[MET_HD_BORDER] == 10,
       "hd95: two single voxels 10 mm apart (%g %g %g)", hd[1], hd[2], hd[3]);
    met_pair_free(&p);
    /* truth 3..12; prediction 3..12 and 22. In the direction of the prediction: ten distances 0,
     * one of 20 mm; rank 0.95 * 10 = 9.5: 10 mm. Pooled: twenty 0, one 20; rank 19: 0 mm. Surface:
     * 44 corners along the rod, 4 edges each an area (a, of its inner and end corners), 8 of
     * voxel 22. */
    for (int i = 3; i <= 12; i++)
        t[i] = q[i] = 1;
    q[8] = 1;
    q[22] = 1;
    r = met_pair_make(&p, t, q, &g, 1 << 1, 0) | met_hd95(&p, all, hd);
    ok(r == 0 && fabs(hd[MET_HD_BORDER] - 10) < 1e-9 && hd[MET_HD_POOLED] == 0,
       "hd95: an invented voxel, border 10 mm and pooled 0 mm (%g %g)", hd[MET_HD_BORDER],
       hd[MET_HD_POOLED]);
    /* Areas: inner corners of a rod along x cut an edge: sqrt(2)/2 * 2 mm = 1.4142 each, 36 of
     * them; each end corner sqrt(3 terms): |(.25,.25,.125)| = 0.375, 16 of them. All 56.9117; the
     * far four corners of voxel 22 (1.5) lie 20 mm off, the near four (1.5) 18 mm: 55.41 of 56.91
     * is 97.4 %, 53.91 is 94.7 %: so 95 % is reached among the near ones. */
    ok(fabs(hd[MET_HD_SURFACE] - 18) < 1e-6, "hd95: the same by area: 18 mm (%g)",
       hd[MET_HD_SURFACE]);
    met_pair_free(&p);
    memset(q, 0, sizeof q);
    r = met_pair_make(&p, t, q, &g, 1 << 1, 0) | met_hd95(&p, all, hd);
    ok(r == 0 && isnan(hd[MET_HD_SURFACE]) && isnan(hd[MET_HD_POOLED]) && isnan(hd[MET_HD_BORDER]),
       "hd95: NaN with an empty mask; the convention decides");
    met_pair_free(&p);
    memcpy(q, t, sizeof q);
    r = met_pair_make(&p, t, q, &g, 1 << 1, 0) | met_hd95(&p, 1u << MET_HD_POOLED, hd);
    ok(r == 0 && hd[MET_HD_POOLED] == 0 && isnan(hd[MET_HD_SURFACE]),
       "hd95: 0 where masks are equal; only what was asked for");
    met_pair_free(&p);
}

int main(void)
{
    rng = rng_seed(2);
    test_areas();
    test_area_symmetry();
    test_by_hand();
    test_random();
    return done_testing();
}
