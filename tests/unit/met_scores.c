/* Overlap, soft Dice, what each convention makes of empty masks, lesion-wise scores, means. */
#include "lib/base/rng.h"
#include "lib/metric/metric.h"
#include "tests/lib/components.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct rng rng;

static int equal(double a, double b)
{
    return (isnan(a) && isnan(b)) || fabs(a - b) < 1e-9;
}

static void test_counts(void)
{
    enum { N = 500 };
    uint8_t t[N], p[N];
    uint64_t table[MET_CLASSES][MET_CLASSES] = {{0}};
    /* whether a label is in the part, spelt out as BraTS does */
    static const char *const in[MET_PARTS] = {"10000",
                                              "01000",
                                              "00100",
                                              "00010",
                                              "00001",
                                              "00000",
                                              "00000",
                                              "00000",
                                              "00000",
                                              "00000",
                                              "00000",
                                              "00000",
                                              "00000",
                                              "00000",
                                              "00000",
                                              "00000",
                                              [MET_WT] = "01110",
                                              [MET_TC] = "01010",
                                              [MET_ET] = "00010"};
    for (int i = 0; i < N; i++) {
        t[i] = (uint8_t)rng_below(&rng, 5);
        p[i] = (uint8_t)rng_below(&rng, 5);
    }
    ok(met_count(t, p, 200, 5, table) == 0 && met_count(t + 200, p + 200, N - 200, 5, table) == 0,
       "count: a case may come in pieces");
    for (int part = 0; part < MET_PARTS; part++) {
        uint64_t n[2][2] = {{0}};
        struct met_counts c = met_counts(table, met_parts[part].labels);
        for (int i = 0; i < N; i++)
            n[in[part][t[i]] == '1'][in[part][p[i]] == '1']++;
        ok(c.tp == n[1][1] && c.fp == n[0][1] && c.fn == n[1][0] && c.tn == n[0][0],
           "count: part %s as counted voxel by voxel", met_parts[part].name);
    }
    uint8_t a[4] = {0, 1, 2, 3}, b[4] = {0, 1, 4, 0};
    ok(met_count(a, b, 4, 4, table) == 3 && met_count(b, a, 4, 4, table) == 3,
       "count: a label outside the classes is told by its place, on either side");
}

static void test_soft(void)
{
    uint8_t o[6] = {0, 0, 1, 1, 2, 3};
    float p[4 * 8] = {0};
    struct met_soft s;
    met_soft_begin(&s, 4, NULL);
    /* class 1: .25 .5 | 1 .5 | .125 0; the rest of each pixel is background */
    static const float one[6] = {.25f, .5f, 1, .5f, .125f, 0};
    for (int i = 0; i < 6; i++) {
        p[8 + i] = one[i];
        p[i] = 1 - one[i];
    }
    met_soft_count(&s, o, p, 8, 4);
    met_soft_count(&s, o + 4, p + 4, 8, 2);
    double e = 1e-5, d0 = (2 * 1.25 + e) / (3.625 + 2 + e), d1 = (2 * 1.5 + e) / (2.375 + 2 + e),
           d2 = e / (1 + e), d3 = e / (1 + e);
    ok(equal(met_soft_dice(&s, 1), d0) && equal(met_soft_dice(&s, 2), d1) &&
           equal(met_soft_dice(&s, 4), d2) && equal(met_soft_dice(&s, 8), d3),
       "soft: Dice of each class by hand (%g %g)", met_soft_dice(&s, 1), met_soft_dice(&s, 2));
    /* WT: p 2.375 in all, 1.625 of it on true voxels, of which there are 4 */
    ok(equal(met_soft_dice(&s, 0xe), (2 * 1.625 + e) / (2.375 + 4 + e)),
       "soft: a region adds the probabilities of its labels");
    ok(equal(met_dice_loss(&s, 0), 1 - (d0 + d1 + d2 + d3) / 4),
       "soft: the study's loss is 1 - the mean over four classes, background too");
    ok(isnan(met_soft_dice(&s, 1 << 4)), "soft: no number for a label without a channel");
    struct met_soft none;
    met_soft_begin(&none, 4, NULL);
    ok(met_soft_dice(&none, 2) == 1, "soft: 1 where there is nothing, eps / eps");

    /* Channels WT, TC, ET: p of a region is its channel's, whatever the others say. */
    static const unsigned regions[3] = {0xe, 0xa, 0x8};
    static const float q[3 * 6] = {0, .5f, 1, 1, .5f, 1, 0, 0, .5f, .5f, 0, 1, 0, 0, 0, 0, 0, .5f};
    struct met_soft r;
    met_soft_begin(&r, 3, regions);
    met_soft_count(&r, o, q, 6, 6);
    double wt = (2 * 3.5 + e) / (4 + 4 + e), tc = (2 * 2 + e) / (2 + 3 + e),
           et = (2 * .5 + e) / (.5 + 1 + e);
    ok(equal(met_soft_dice(&r, 0xe), wt) && equal(met_soft_dice(&r, 0xa), tc) &&
           equal(met_soft_dice(&r, 0x8), et),
       "soft: Dice of regions by hand");
    ok(isnan(met_soft_dice(&r, 1 << 1)) && equal(met_dice_loss(&r, 0), 1 - (wt + tc + et) / 3),
       "soft: no number for a label that only regions hold; their loss is 1 - their mean");
}

/* What each convention says, worked out from its source; a row for each case of emptiness. */
static void test_conventions(void)
{
    static const double X = NAN, e = 1e-5;
    enum { BOTH, NO_TRUTH, NO_PRED, NEITHER, CASES };
    static const char *const what[CASES] = {"both empty", "no truth", "no prediction",
                                            "neither empty"};
    static const struct met_counts counts[CASES] = {
        {0, 0, 0, 1000}, {0, 10, 0, 990}, {0, 0, 10, 990}, {30, 10, 50, 910}};
    const double hd[MET_HDS] = {NAN, 4, 5, 6};
    const struct {
        const char *name;
        enum met_hd by;
        double dice[CASES], hd95[CASES], sens[CASES], spec[CASES];
    } want[] = {
        {"brats2023",
         MET_HD_SURFACE,
         {1, 0, 0, .5},
         {0, 374, 374, 4},
         {1, 0, 0, .375},
         {1, .99, 1, 910 / 920.}},
        {"brats2020",
         MET_HD_POOLED,
         {1, 0, 0, .5},
         {0, 373.1287, 373.1287, 5},
         {1, 0, 0, .375},
         {1, .99, 1, 910 / 920.}},
        {"nnunet",
         MET_HD_NONE,
         {X, 0, 0, .5},
         {X, X, X, X},
         {X, X, 0, .375},
         {1, .99, 1, 910 / 920.}},
        {"monai",
         MET_HD_BORDER,
         {X, X, 0, .5},
         {X, X, X, 6},
         {X, X, 0, .375},
         {1, .99, 1, 910 / 920.}},
        {"study",
         MET_HD_NONE,
         {1, e / (10 + e), e / (10 + e), (60 + e) / (120 + e)},
         {X, X, X, X},
         {X, X, 0, .375},
         {1, .99, 1, 910 / 920.}},
    };
    size_t n = sizeof want / sizeof *want;
    ok(!met_conventions[n].name, "conventions: %zu of them, each below", n);
    for (size_t i = 0; i < n; i++) {
        const struct met_convention *c = met_convention(want[i].name);
        ok(c && c->hd == want[i].by, "%s: HD95 is %s", want[i].name, met_hd_names[want[i].by]);
        for (int k = 0; c && k < CASES; k++) {
            struct met_score s = met_score(c, &counts[k], hd);
            ok(equal(s.dice, want[i].dice[k]), "%s: %s: Dice %g (%g)", c->name, what[k],
               want[i].dice[k], s.dice);
            ok(equal(s.hd95, want[i].hd95[k]), "%s: %s: HD95 %g (%g)", c->name, what[k],
               want[i].hd95[k], s.hd95);
            ok(equal(s.sensitivity, want[i].sens[k]), "%s: %s: sensitivity %g (%g)", c->name,
               what[k], want[i].sens[k], s.sensitivity);
            ok(equal(s.specificity, want[i].spec[k]), "%s: %s: specificity %g (%g)", c->name,
               what[k], want[i].spec[k], s.specificity);
        }
    }
    ok(!met_convention("brats"), "conventions: an unknown name is none");
    /* 240 x 240 x 155 mm is where brats2020's number comes from */
    ok(fabs(sqrt(240. * 240 + 240. * 240 + 155. * 155) - 373.1287) < 5e-5,
       "brats2020: 373.1287 mm is the diagonal of the challenge's volume");
}

static void fill(uint8_t *v, const size_t d[3], size_t z, size_t y, size_t x, size_t n,
                 uint8_t value)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            memset(v + ((z + i) * d[1] + y + j) * d[2] + x, value, n);
}

static struct met_lesions lesions(const uint8_t *t, const uint8_t *p, const struct met_grid *g,
                                  const char *rule)
{
    const struct met_lesion_rule *r = met_lesion_rule(rule);
    struct met_lesions out = {.dice = NAN};
    struct met_pair pair;
    if (met_pair_make(&pair, t, p, g, 1 << 1, (size_t)r->dilate) == 0 &&
        met_lesions(&pair, r, MET_PENALTY, &out) < 0)
        out.dice = NAN;
    met_pair_free(&pair);
    return out;
}

static void test_lesions(void)
{
    static uint8_t t[30 * 30 * 40], p[30 * 30 * 40];
    struct met_grid g = {{30, 30, 40}, {1, 1, 1}};
    const size_t *d = g.dim;
    struct met_lesions s = lesions(t, p, &g, "gli");
    ok(s.dice == 1 && s.hd95 == 0 && !s.found && !s.missed && !s.invented,
       "lesions: nothing there, nothing found: Dice 1, HD95 0");

    fill(t, d, 2, 2, 2, 4, 1); /* 64 voxels, found exactly */
    fill(p, d, 2, 2, 2, 4, 1);
    fill(t, d, 20, 20, 30, 5, 1); /* 125 voxels, missed */
    s = lesions(t, p, &g, "gli");
    ok(equal(s.dice, .5) && equal(s.hd95, 187) && s.found == 1 && s.missed == 1 && !s.invented,
       "lesions: one exact, one missed: Dice 1/2, HD95 374/2 (%g %g)", s.dice, s.hd95);
    p[(10 * 30 + 25) * 40 + 10] = 1; /* a single voxel invented counts in full */
    s = lesions(t, p, &g, "gli");
    ok(equal(s.dice, 1 / 3.) && equal(s.hd95, 2 * 374 / 3.) && s.invented == 1,
       "lesions: an invented voxel more: Dice 1/3, HD95 2*374/3");
    fill(t, d, 10, 25, 13, 3, 1); /* 27 voxels, too small to count, 3 beside that voxel */
    s = lesions(t, p, &g, "gli");
    ok(equal(s.dice, .5) && s.found == 1 && s.missed == 1 && !s.invented,
       "lesions: a voxel that touches a lesion of 27 mm3 is not invented, nor does that lesion "
       "count");
    s = lesions(t, p, &g, "met");
    /* k = 1, T = 2: now that lesion is one, 3 voxels away from the voxel, hence missed */
    ok(equal(s.dice, 1 / 4.) && s.found == 1 && s.missed == 2 && s.invented == 1,
       "lesions: by the rule for metastases it counts, and is missed");

    memset(t, 0, sizeof t);
    memset(p, 0, sizeof p);
    fill(t, d, 2, 2, 2, 5, 1); /* two cubes, 4 voxels of gap: 3 + 3 dilations join them */
    fill(t, d, 2, 2, 11, 5, 1);
    fill(p, d, 2, 2, 2, 5, 1);
    s = lesions(t, p, &g, "gli");
    ok(s.found == 1 && !s.missed && equal(s.dice, 250 / 375.),
       "lesions: two cubes near each other are one lesion, half found: Dice 2*125/(250+125)");
    s = lesions(t, p, &g, "men");
    ok(s.found == 1 && s.missed == 1 && equal(s.dice, .5),
       "lesions: with one dilation they stay two");
    g.spacing[0] = g.spacing[1] = g.spacing[2] = .5;
    s = lesions(t, p, &g, "men");
    ok(s.dice == 1 && !s.found && !s.missed,
       "lesions: the threshold is in mm3: 125 voxels of 1/8 mm3 are too small");
    ok(!met_lesion_rule("glioma"), "lesions: an unknown rule is none");
}

/* The same steps over whole volumes, with no boxes: what the speed of lesion.c must not change. */
static struct met_lesions plainly(const uint8_t *t, const uint8_t *p, const struct met_grid *g,
                                  const struct met_lesion_rule *rule)
{
    size_t n = g->dim[0] * g->dim[1] * g->dim[2];
    uint8_t *a = malloc(n), *b = malloc(n), *near = malloc(n), *work = malloc(n);
    int32_t *gl = malloc(4 * n), *pl = malloc(4 * n);
    char ever[1000] = {0};
    struct met_lesions s = {0};
    double dice = 0, hd = 0;
    memcpy(a, t, n);
    met_dilate(a, work, g->dim, rule->dilate);
    int32_t nl = components(a, g->dim, 26, gl), nc = components(p, g->dim, 26, pl);
    for (int32_t l = 1; l <= nl; l++) {
        char hit[1000] = {0};
        struct met_pair pair = {.grid = *g, .truth = a, .pred = b};
        size_t both = 0;
        double h[MET_HDS];
        for (size_t i = 0; i < n; i++)
            near[i] = a[i] = t[i] && gl[i] == l;
        met_dilate(near, work, g->dim, rule->dilate);
        for (size_t i = 0; i < n; i++)
            if (near[i] && pl[i])
                hit[pl[i]] = ever[pl[i]] = 1;
        for (size_t i = 0; i < n; i++) {
            b[i] = (uint8_t)hit[pl[i]];
            pair.truth_count += a[i];
            pair.pred_count += b[i];
            both += a[i] && b[i];
        }
        if (met_hd95(&pair, 1u << MET_HD_SURFACE, h) < 0 ||
            (double)pair.truth_count * g->spacing[0] * g->spacing[1] * g->spacing[2] <=
                rule->volume)
            continue;
        *(pair.pred_count ? &s.found : &s.missed) += 1;
        dice += 2. * (double)both / (double)(pair.truth_count + pair.pred_count);
        hd += pair.pred_count ? h[MET_HD_SURFACE] : MET_PENALTY;
    }
    for (int32_t c = 1; c <= nc; c++)
        s.invented += !ever[c];
    double all = s.found + s.missed + s.invented;
    s.dice = all > 0 ? dice / all : 1;
    s.hd95 = all > 0 ? (hd + MET_PENALTY * s.invented) / all : 0;
    free(a);
    free(b);
    free(near);
    free(work);
    free(gl);
    free(pl);
    return s;
}

static void test_random_lesions(void)
{
    enum { ROOM = 14 * 20 * 26 };
    static uint8_t t[ROOM], p[ROOM], work[ROOM];
    static const char *const rules[] = {"gli", "men", "met"};
    double worst = 0;
    int same = 1, found = 0, missed = 0, invented = 0;
    for (int i = 0; i < 200; i++) {
        struct met_grid g = {
            {6 + rng_below(&rng, 9), 8 + rng_below(&rng, 13), 10 + rng_below(&rng, 17)}, {1, 1, 1}};
        size_t n = g.dim[0] * g.dim[1] * g.dim[2];
        const struct met_lesion_rule *r = met_lesion_rule(rules[i % 3]);
        for (int a = 0; i % 2 && a < 3; a++)
            g.spacing[a] = rng_range(&rng, 0.6, 3);
        for (uint8_t **v = (uint8_t *[]){t, p, NULL}; *v; v++) {
            memset(*v, 0, n);
            for (uint64_t k = 0, seeds = rng_below(&rng, 5); k < seeds; k++)
                (*v)[rng_below(&rng, n)] = 1;
            met_dilate(*v, work, g.dim, (int)rng_below(&rng, 4));
        }
        for (size_t k = 0; i % 4 && k < n; k++)
            p[k] = rng_uniform(&rng) < 0.01 ? 1 : rng_uniform(&rng) < .9 ? t[k] : p[k];
        struct met_lesions a = lesions(t, p, &g, r->name), b = plainly(t, p, &g, r);
        same &= a.found == b.found && a.missed == b.missed && a.invented == b.invented;
        worst = fmax(worst, fmax(fabs(a.dice - b.dice), fabs(a.hd95 - b.hd95)));
        found += a.found;
        missed += a.missed;
        invented += a.invented;
    }
    ok(same && worst < 1e-9 && found > 10 && missed > 10 && invented > 10,
       "lesions: as step by step over whole volumes (%g; %d found, %d missed, %d invented)", worst,
       found, missed, invented);
}

static void test_means(void)
{
    struct met_mean m = {0};
    ok(isnan(met_mean_value(&m)) && isnan(met_mean_deviation(&m)), "mean: NaN of nothing");
    met_mean_add(&m, 2);
    ok(met_mean_value(&m) == 2 && isnan(met_mean_deviation(&m)), "mean: no deviation of one");
    met_mean_add(&m, NAN);
    met_mean_add(&m, 4);
    met_mean_add(&m, 9);
    /* mean 5; squares 9 + 1 + 16 = 26; 26 / 2 */
    ok(m.n == 3 && equal(met_mean_value(&m), 5) && equal(met_mean_deviation(&m), sqrt(13)),
       "mean: NaN is left out; deviation over n - 1");
}

int main(void)
{
    rng = rng_seed(3);
    test_counts();
    test_soft();
    test_conventions();
    test_lesions();
    test_random_lesions();
    test_means();
    return done_testing();
}
