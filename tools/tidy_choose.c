/* Which rules are worth it: one after another in the order in which they are applied, each tried at
 * every volume upon those that were kept before it.
 *
 * A rule is kept where its best volume raises the mean Dice of patients (WT, TC and ET by the rules
 * of BraTS 2023) by MARGIN at least, the interval of that holds no loss, and the mean over patients
 * who each had no say in the volume, as all others chose it, is raised, too. So what a single
 * patient asks for is not kept, nor what helps some and harms others. */
#include "tools/tidy.h"
#include "lib/metric/paired.h"
#include "tools/tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN 0.001
#define ROUNDING 1e-12

static const double volumes[] = {10, 20, 50, 100, 200, 500, 1000, 2000, 5000};
enum { VOLUMES = sizeof volumes / sizeof *volumes, REGIONS = 3 };

/* --- cases, as runs of voxels with one label and one prediction ------------------------------- */

struct stretch {
    uint32_t n;
    uint8_t label, pred;
};

static struct held {
    uint32_t patient;
    struct met_grid grid; /* of the box of tumour, true or predicted, and a voxel around it */
    struct stretch *stretch;
    size_t n;
} *held;
static size_t cases, largest;
static struct names patients;
static uint8_t *label, *pred; /* of a case at work */

static bool any_tumour(const uint8_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (v[i])
            return true;
    return false;
}

/* The box [lo, hi) of what is not zero in either; false if all is. */
static bool find_box(const struct met_grid *g, const uint8_t *a, const uint8_t *b, size_t lo[3],
                     size_t hi[3])
{
    size_t width = g->dim[2];
    memcpy(lo, g->dim, sizeof g->dim);
    memset(hi, 0, sizeof g->dim);
    for (size_t z = 0; z < g->dim[0]; z++)
        for (size_t y = 0; y < g->dim[1]; y++) {
            size_t row = (z * g->dim[1] + y) * width;
            if (!any_tumour(a + row, width) && !any_tumour(b + row, width))
                continue;
            for (size_t x = 0; x < width; x++) {
                const size_t at[3] = {z, y, x};
                for (int k = 0; k < 3 && (a[row + x] || b[row + x]); k++) {
                    lo[k] = at[k] < lo[k] ? at[k] : lo[k];
                    hi[k] = at[k] + 1 > hi[k] ? at[k] + 1 : hi[k];
                }
            }
        }
    for (int k = 0; k < 3 && hi[0]; k++) {
        lo[k] -= lo[k] > 0;
        hi[k] += hi[k] < g->dim[k];
    }
    return hi[0] > 0;
}

static void put(struct held *h, size_t *room, uint8_t l, uint8_t p)
{
    struct stretch *last = h->n ? &h->stretch[h->n - 1] : NULL;
    if (last && last->label == l && last->pred == p) {
        last->n++;
        return;
    }
    if (h->n == *room) {
        *room = *room ? 2 * *room : 1024;
        if (!(h->stretch = realloc(h->stretch, *room * sizeof *h->stretch)))
            tool_die("out of memory");
    }
    h->stretch[h->n++] = (struct stretch){1, l, p};
}

void tidy_hold(const char *patient, const struct met_grid *g, const uint8_t *l, const uint8_t *p)
{
    size_t lo[3], hi[3], room = 0;
    if ((cases & (cases - 1)) == 0 &&
        !(held = realloc(held, (cases ? 2 * cases : 1) * sizeof *held)))
        tool_die("out of memory");
    struct held *h = &held[cases++];
    *h = (struct held){.patient = tool_add_name(&patients, patient), .grid = *g};
    memset(h->grid.dim, 0, sizeof h->grid.dim);
    if (!find_box(g, l, p, lo, hi))
        return;
    for (int k = 0; k < 3; k++)
        h->grid.dim[k] = hi[k] - lo[k];
    for (size_t z = lo[0]; z < hi[0]; z++)
        for (size_t y = lo[1]; y < hi[1]; y++)
            for (size_t x = lo[2]; x < hi[2]; x++) {
                size_t i = (z * g->dim[1] + y) * g->dim[2] + x;
                put(h, &room, l[i], p[i]);
            }
    size_t n = h->grid.dim[0] * h->grid.dim[1] * h->grid.dim[2];
    largest = n > largest ? n : largest;
}

static void unpack(const struct held *h)
{
    size_t at = 0;
    for (const struct stretch *s = h->stretch; s < h->stretch + h->n; at += s->n, s++) {
        memset(label + at, s->label, s->n);
        memset(pred + at, s->pred, s->n);
    }
}

/* --- scores ----------------------------------------------------------------------------------- */

struct scores {
    double *dice; /* of each patient, each region: the mean of his cases */
    double region[REGIONS], mean;
    size_t changed; /* patients */
};

static struct scores new_scores(void)
{
    return (struct scores){.dice = tool_alloc(patients.count * REGIONS * sizeof(double))};
}

static double of_patient(const struct scores *s, size_t patient)
{
    const double *d = s->dice + patient * REGIONS;
    return (d[0] + d[1] + d[2]) / REGIONS;
}

static bool score_case(const struct held *h, const struct met_tidy *t, double dice[REGIONS])
{
    const struct met_convention *brats = met_convention("brats2023");
    const double no_distance[MET_HDS] = {NAN, NAN, NAN, NAN};
    uint64_t table[MET_CLASSES][MET_CLASSES] = {{0}}, changed[MET_RULES] = {0}, all = 0;
    size_t n = h->grid.dim[0] * h->grid.dim[1] * h->grid.dim[2];
    if (n) {
        unpack(h);
        if (met_tidy(pred, &h->grid, t, changed))
            tool_die("out of memory");
        met_count(label, pred, n, MET_CANONICAL, table);
    }
    for (int r = 0; r < REGIONS; r++) {
        struct met_counts c = met_counts(table, met_parts[MET_WT + r].labels);
        dice[r] = met_score(brats, &c, no_distance).dice;
    }
    for (int r = 0; r < MET_RULES; r++)
        all += changed[r];
    return all > 0;
}

static void score(const struct met_tidy *t, struct scores *s)
{
    size_t n = patients.count, *times = tool_alloc(n * sizeof *times);
    bool *changed = tool_alloc(n * sizeof *changed);
    memset(times, 0, n * sizeof *times);
    memset(changed, 0, n * sizeof *changed);
    memset(s->dice, 0, n * REGIONS * sizeof *s->dice);
    memset(s->region, 0, sizeof s->region);
    s->changed = 0;
    for (const struct held *h = held; h < held + cases; h++) {
        double dice[REGIONS];
        changed[h->patient] |= score_case(h, t, dice);
        times[h->patient]++;
        for (int r = 0; r < REGIONS; r++)
            s->dice[h->patient * REGIONS + (size_t)r] += dice[r];
    }
    for (size_t p = 0; p < n; p++) {
        s->changed += changed[p];
        for (size_t r = 0; r < REGIONS; r++)
            s->region[r] += (s->dice[p * REGIONS + r] /= (double)times[p]) / (double)n;
    }
    s->mean = (s->region[0] + s->region[1] + s->region[2]) / REGIONS;
    free(times);
    free(changed);
}

/* What each patient gains by s over what there was. */
static void gains(const struct scores *s, const struct scores *before, double *gain)
{
    for (size_t p = 0; p < patients.count; p++)
        gain[p] = of_patient(s, p) - of_patient(before, p);
}

static double mean(const double *v)
{
    double sum = 0;
    for (size_t p = 0; p < patients.count; p++)
        sum += v[p];
    return sum / (double)patients.count;
}

/* --- the table -------------------------------------------------------------------------------- */

static uint64_t seed;
static bool json;
static const char *const columns[] = {"row", "rule", "options",  "patients", "changed",
                                      "WT",  "TC",   "ET",       "mean",     "gain",
                                      "low", "high", "left_out", "verdict"};

static void interval(const double *gain, double *low, double *high)
{
    struct rng key = rng_seed(seed);
    rng_mix_text(&key, "tidy");
    if (met_bootstrap(gain, patients.count, key, low, high))
        tool_die("out of memory");
}

static void put_row(const char *row, const char *rule, const struct met_tidy *t,
                    const struct scores *s, const double *gain, double left_out,
                    const char *verdict)
{
    char options[TIDY_OPTIONS];
    double low, high;
    tidy_describe(t, options);
    interval(gain, &low, &high);
    const char *const texts[] = {row, rule, *options ? options : "-"};
    const double numbers[] = {
        patients.count, (double)s->changed, s->region[0], s->region[1], s->region[2],
        s->mean,        mean(gain),         low,          high,         left_out};
    for (int i = 0; i < 3; i++) {
        tool_put_cell(columns[i], !i, json);
        tool_put_text(texts[i], json);
    }
    for (int i = 0; i < 10; i++) {
        tool_put_cell(columns[3 + i], false, json);
        if (json)
            tool_put_number(numbers[i], json);
        else
            printf(i < 2 ? "%.0f" : "%.6f", numbers[i]);
    }
    tool_put_cell(columns[13], false, json);
    tool_put_text(verdict, json);
    tool_put_row_end(json);
}

/* What they gain who had no say: each by the volume that is best for all others. */
static double left_out_gain(double (*const gain)[VOLUMES], int tries)
{
    double sum[VOLUMES] = {0}, all = 0;
    for (size_t p = 0; p < patients.count; p++)
        for (int k = 0; k < tries; k++)
            sum[k] += gain[p][k];
    for (size_t p = 0; p < patients.count; p++) {
        int best = -1;
        double most = ROUNDING;
        for (int k = 0; k < tries; k++)
            if (sum[k] - gain[p][k] > most) {
                best = k;
                most = sum[k] - gain[p][k] + ROUNDING;
            }
        all += best < 0 ? 0 : gain[p][best];
    }
    return all / (double)patients.count;
}

static const char *judge(const double *gain, double left_out)
{
    double low, high;
    interval(gain, &low, &high);
    return mean(gain) <= ROUNDING ? "dropped: it raises nothing"
           : mean(gain) < MARGIN  ? "dropped: it raises the mean by less than 0.001"
           : low < -ROUNDING      ? "dropped: the interval of what it raises holds a loss"
           : left_out <= ROUNDING ? "dropped: nothing is gained by patients left out"
                                  : "kept";
}

/* Tries one rule upon those in t, which gets it where it is worth it; `now` are the scores of t. */
static void try_rule(enum met_rule rule, struct met_tidy *t, struct scores *now)
{
    const int tries = tidy_rules[rule].always > 0 ? 1 : VOLUMES;
    double(*gain)[VOLUMES] = tool_alloc(patients.count * sizeof *gain);
    double *one = tool_alloc(patients.count * sizeof *one), most = 0, left_out;
    struct scores s = new_scores();
    int best = 0;
    for (int k = 0; k < tries; k++) {
        struct met_tidy with = *t;
        with.rule[rule] = tries > 1 ? volumes[k] : tidy_rules[rule].always;
        score(&with, &s);
        gains(&s, now, one);
        put_row("try", tidy_rules[rule].name, &with, &s, one, NAN, "-");
        for (size_t p = 0; p < patients.count; p++)
            gain[p][k] = one[p];
        if (mean(one) > most + ROUNDING) {
            best = k;
            most = mean(one);
        }
    }
    left_out = left_out_gain(gain, tries);
    struct met_tidy with = *t;
    with.rule[rule] = tries > 1 ? volumes[best] : tidy_rules[rule].always;
    score(&with, &s);
    gains(&s, now, one);
    const char *verdict = judge(one, left_out);
    put_row("rule", tidy_rules[rule].name, &with, &s, one, left_out, verdict);
    if (!strcmp(verdict, "kept")) {
        struct scores old = *now;
        *now = s;
        s = old;
        *t = with;
    }
    free(s.dice);
    free(gain);
    free(one);
}

void tidy_choose(int neighbours, uint64_t of_seed, bool as_json)
{
    struct met_tidy t = {.neighbours = neighbours};
    struct scores start = new_scores(), now = new_scores();
    double *gain = tool_alloc(patients.count * sizeof *gain);
    label = tool_alloc(largest);
    pred = tool_alloc(largest);
    seed = of_seed;
    json = as_json;
    score(&t, &start);
    score(&t, &now);
    gains(&now, &start, gain);
    for (int i = 0; i < 14 && !json; i++)
        printf("%s%s", columns[i], i < 13 ? "\t" : "\n");
    put_row("start", "-", &t, &start, gain, NAN, "-");
    for (int rule = 0; rule < MET_RULES; rule++)
        try_rule((enum met_rule)rule, &t, &now);
    gains(&now, &start, gain);
    put_row("chosen", "-", &t, &now, gain, NAN, "-");
    tool_put_rows_end(json);
    for (size_t i = 0; i < cases; i++)
        free(held[i].stretch);
    free(held);
    free(start.dice);
    free(now.dice);
    free(gain);
    free(label);
    free(pred);
    names_free(&patients);
}
