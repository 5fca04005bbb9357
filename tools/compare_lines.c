/* A line for each score and each difference, over all units and over those of each site; then
 * Holm's correction over each family, and the table. */
#include "tools/compare.h"
#include "lib/metric/metric.h"
#include "lib/metric/paired.h"
#include "tools/tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOBODY UINT32_MAX

struct line {
    uint32_t site, part, metric, a, b; /* NOBODY: all sites; no second table */
    size_t n;
    double mean_a, mean_b, mean, sd, low, high, equal, w, p, holm;
    const char *test;
};

static struct line *line;
static size_t lines;
static const struct compared *all;
static uint32_t *order; /* of units, by name: no sum depends on the order of files */

static double value(uint32_t table, uint32_t unit, uint32_t series)
{
    return all->value[table][(size_t)unit * series_of(all) + series];
}

static bool in_site(uint32_t unit, uint32_t site)
{
    return site == NOBODY || all->site[unit] == site;
}

static bool is_compared(uint32_t a, uint32_t b)
{
    return !all->baseline || !a || !b;
}

/* A line without any number yet. */
static struct line *new_line(uint32_t site, uint32_t series, uint32_t a, uint32_t b)
{
    uint32_t part = series % parts_of(all), metric = series / parts_of(all);
    if ((lines & (lines - 1)) == 0 &&
        !(line = realloc(line, (lines ? 2 * lines : 1) * sizeof *line)))
        tool_die("out of memory");
    line[lines] = (struct line){site, part, metric, a,   b,   0,   NAN, NAN, NAN,
                                NAN,  NAN,  NAN,    NAN, NAN, NAN, NAN, "-"};
    return &line[lines++];
}

/* Whether a site, of a list that may name many, has any of the units. */
static bool is_anywhere(uint32_t site)
{
    for (uint32_t u = 0; u < all->units.count; u++)
        if (all->site[u] == site)
            return true;
    return false;
}

/* --- numbers ---------------------------------------------------------------------------------- */

static void summarise(const double *v, size_t n, struct line *l)
{
    struct rng key = rng_seed(all->seed);
    struct met_mean m = {0};
    rng_mix_text(&key, "compare");
    for (size_t i = 0; i < n; i++)
        met_mean_add(&m, v[i]);
    l->n = n;
    l->mean = met_mean_value(&m);
    l->sd = met_mean_deviation(&m);
    if (met_bootstrap(v, n, key, &l->low, &l->high))
        tool_die("out of memory");
}

static void add_score(uint32_t site, uint32_t series, uint32_t table, double *v)
{
    struct line *l = new_line(site, series, table, NOBODY);
    size_t n = 0;
    for (uint32_t i = 0; i < all->units.count; i++) {
        double x = value(table, order[i], series);
        if (in_site(order[i], site) && !isnan(x))
            v[n++] = x;
    }
    summarise(v, n, l);
}

static void add_difference(uint32_t site, uint32_t series, uint32_t a, uint32_t b, double *v)
{
    struct line *l = new_line(site, series, a, b);
    struct met_mean of_a = {0}, of_b = {0};
    struct met_wilcoxon w;
    size_t n = 0;
    for (uint32_t i = 0; i < all->units.count; i++) {
        double x = value(a, order[i], series), y = value(b, order[i], series);
        if (!in_site(order[i], site) || isnan(x) || isnan(y))
            continue;
        met_mean_add(&of_a, x);
        met_mean_add(&of_b, y);
        v[n++] = y - x;
    }
    summarise(v, n, l);
    l->mean_a = met_mean_value(&of_a);
    l->mean_b = met_mean_value(&of_b);
    if (!n)
        return;
    if (met_wilcoxon(v, n, &w))
        tool_die("out of memory");
    l->equal = (double)w.zeros;
    l->w = w.w;
    l->p = w.p;
    l->test = w.exact ? "exact" : "normal";
}

static void add_lines(uint32_t site, double *v)
{
    for (uint32_t s = 0; s < series_of(all); s++)
        for (uint32_t t = 0; t < all->tables.count; t++)
            add_score(site, s, t, v);
    for (uint32_t s = 0; s < series_of(all); s++)
        for (uint32_t a = 0; a < all->tables.count; a++)
            for (uint32_t b = a + 1; b < all->tables.count && is_compared(a, b); b++)
                add_difference(site, s, a, b, v);
}

/* The tests of lines from..to are one family. */
static void correct(size_t from, size_t to)
{
    double *p = tool_alloc((to - from) * sizeof *p);
    size_t n = 0;
    for (size_t i = from; i < to; i++)
        if (!isnan(line[i].p))
            p[n++] = line[i].p;
    if (met_holm(p, n))
        tool_die("out of memory");
    n = 0;
    for (size_t i = from; i < to; i++)
        if (!isnan(line[i].p))
            line[i].holm = p[n++];
    free(p);
}

/* --- who has no partner ----------------------------------------------------------------------- */

static void put_json_names(uint32_t a, uint32_t b, size_t n, bool first)
{
    printf("%s\n  {\"in\": ", first ? "" : ",");
    tool_put_text(names_text(&all->tables, a), true);
    printf(", \"not_in\": ");
    tool_put_text(names_text(&all->tables, b), true);
    printf(", \"names\": [");
    for (uint32_t i = 0; i < all->units.count && n; i++)
        if (all->has[a][order[i]] && !all->has[b][order[i]]) {
            tool_put_text(names_text(&all->units, order[i]), true);
            printf("%s", --n ? ", " : "");
        }
    printf("]}");
}

/* Where nobody has a partner there is nothing to compare. */
static void check_pairs(void)
{
    for (uint32_t a = 0; a < all->tables.count; a++)
        for (uint32_t b = a + 1; b < all->tables.count && is_compared(a, b); b++) {
            size_t u = 0;
            while (u < all->units.count && !(all->has[a][u] && all->has[b][u]))
                u++;
            if (u == all->units.count)
                tool_die("%s and %s: no %s is in both", names_text(&all->tables, a),
                         names_text(&all->tables, b), all->by_patient ? "patient" : "case");
        }
}

static size_t lonely(uint32_t a, uint32_t b, char *list, size_t size)
{
    size_t n = 0, len = 0, told = 0;
    *list = 0;
    for (uint32_t i = 0; i < all->units.count; i++) {
        const char *name = names_text(&all->units, order[i]);
        if (!all->has[a][order[i]] || all->has[b][order[i]])
            continue;
        if (n++ == told && strlen(name) + 3 < size - len) {
            len += (size_t)snprintf(list + len, size - len, "%s%s", told ? ", " : "", name);
            told++;
        }
    }
    if (told < n)
        snprintf(list + len, 40, "%s%zu more", told ? " and " : "", n - told);
    return n;
}

/* Says it once of each ordered pair; with JSON, all names stand there. */
static void name_lonely(void)
{
    char list[840];
    bool first = true;
    for (uint32_t a = 0; a < all->tables.count; a++)
        for (uint32_t b = 0; b < all->tables.count; b++) {
            size_t n = a != b && is_compared(a, b) ? lonely(a, b, list, sizeof list - 40) : 0;
            if (!n)
                continue;
            tool_warn("%zu in %s, not in %s: %s", n, names_text(&all->tables, a),
                      names_text(&all->tables, b), list);
            if (all->json)
                put_json_names(a, b, n, first);
            first = false;
        }
}

/* --- the table -------------------------------------------------------------------------------- */

/* Columns that are numbers, where they lie in a line. */
static const struct {
    const char *name;
    size_t at;
} number[] = {{"mean_a", offsetof(struct line, mean_a)}, {"mean_b", offsetof(struct line, mean_b)},
              {"mean", offsetof(struct line, mean)},     {"sd", offsetof(struct line, sd)},
              {"low", offsetof(struct line, low)},       {"high", offsetof(struct line, high)},
              {"equal", offsetof(struct line, equal)},   {"w", offsetof(struct line, w)},
              {"p", offsetof(struct line, p)},           {"holm", offsetof(struct line, holm)}};
enum { NUMBERS = sizeof number / sizeof *number };

static void put_word(const char *column, const struct names *set, uint32_t i, const char *none)
{
    const char *text = i == NOBODY || i >= set->count ? none : names_text(set, i);
    if (all->json)
        printf(", \"%s\": ", column);
    else
        putchar('\t');
    if (all->json && i == NOBODY)
        printf("null");
    else
        tool_put_text(text, all->json);
}

static void put_line(const struct line *l, bool first)
{
    const char *row = l->b == NOBODY ? "score" : "difference";
    if (all->json)
        printf("%s\n  {\"row\": \"%s\"", first ? "" : ",", row);
    else
        printf("%s", row);
    put_word("site", &all->sites, l->site, "-");
    put_word("part", &all->parts, l->part, "mean");
    put_word("metric", &all->metrics, l->metric, "-");
    put_word("a", &all->tables, l->a, "-");
    put_word("b", &all->tables, l->b, "-");
    printf(all->json ? ", \"n\": %zu" : "\t%zu", l->n);
    for (int i = 0; i < NUMBERS; i++) {
        double v;
        memcpy(&v, (const char *)l + number[i].at, sizeof v);
        if (all->json)
            printf(", \"%s\": ", number[i].name);
        else
            putchar('\t');
        tool_put_number(v, all->json);
    }
    printf(all->json ? ", \"test\": \"%s\"}" : "\t%s\n", l->test);
}

static void put_head(void)
{
    if (all->json) {
        printf("{\"unit\": \"%s\", \"seed\": %llu, \"resamples\": %d,\n \"unpaired\": [",
               all->by_patient ? "patient" : "case", (unsigned long long)all->seed, MET_RESAMPLES);
        return;
    }
    printf("row\tsite\tpart\tmetric\ta\tb\tn");
    for (int i = 0; i < NUMBERS; i++)
        printf("\t%s", number[i].name);
    puts("\ttest");
}

static const struct names *sorted_set;

static int by_name(const void *a, const void *b)
{
    return strcmp(names_text(sorted_set, *(const uint32_t *)a),
                  names_text(sorted_set, *(const uint32_t *)b));
}

static uint32_t *sorted(const struct names *set)
{
    uint32_t *v = tool_alloc(set->count * sizeof *v);
    for (uint32_t i = 0; i < set->count; i++)
        v[i] = i;
    sorted_set = set;
    qsort(v, set->count, sizeof *v, by_name);
    return v;
}

void compare_write(const struct compared *c)
{
    double *v = tool_alloc(c->units.count * sizeof *v);
    uint32_t *sites = sorted(&c->sites);
    size_t overall;
    all = c;
    check_pairs();
    order = sorted(&c->units);
    add_lines(NOBODY, v);
    correct(0, overall = lines);
    for (uint32_t s = 0; s < c->sites.count; s++)
        if (is_anywhere(sites[s]))
            add_lines(sites[s], v);
    correct(overall, lines);
    put_head();
    name_lonely();
    if (c->json)
        printf("],\n \"lines\": [");
    for (size_t i = 0; i < lines; i++)
        put_line(&line[i], i == 0);
    if (c->json)
        puts("]}");
    free(line);
    free(order);
    free(sites);
    free(v);
}
