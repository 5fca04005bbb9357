/* compare - tables of dice side by side: paired differences, and whether they are more than chance
 *
 * reads   tables that dice wrote (TSV), one or more for each name; maybe a table of sites
 * writes  a table, or JSON with -J; no stream */
#include "tools/compare.h"
#include "formats/lines.h"
#include "formats/plain.h"
#include "lib/base/number.h"
#include "tools/tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "[-bJLPv] [-g SITES | -G FIELDS] [-m METRIC,...] [-r PART,...] "
                            "[-s SEED] NAME=TABLE NAME=TABLE... > TABLE";
static const char options[] =
    "-b --baseline -g --sites= -G --fields= -J --json -m --metrics= -L --leaky "
    "-r --parts= -P --patients -s --seed=";

#define MOST_SCORE 1e100 /* whose square, and the sum of many, is a number */

enum { MOST_FIELDS = 128, MOST_LIST = 32, MOST_TABLES = 64, MOST_NAME = 63 };

static struct {
    bool trained_too;
    const char *sites;
    int site_fields;
} opt;

static struct compared all = {.seed = 1};

static struct input {
    const char *path;
    FILE *file;
    uint32_t table;
} *input;
static size_t inputs;

/* Of each table: sums over what came of a unit, and how often it came. */
static struct sums {
    double *sum;
    uint32_t *times;
    size_t units, trained, repeated;
} *sums;

static struct names site_of_case; /* number i has place[i] in all.sites */
static uint32_t *place;

/* --- arguments -------------------------------------------------------------------------------- */

static void set_list(char letter, struct names *list, char *text)
{
    char *save = NULL;
    names_free(list);
    for (char *w = strtok_r(text, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        uint32_t before = list->count;
        if (tool_add_name(list, w) < before)
            tool_misuse("-%c: '%.60s' stands twice", letter, w);
    }
    if (!list->count || list->count > MOST_LIST)
        tool_misuse("-%c: (wanted 1 to %d names with commas between)", letter, MOST_LIST);
}

static void add_input(char *text)
{
    char *is = strchr(text, '=');
    if (!is || is == text || !is[1] || is - text > MOST_NAME)
        tool_misuse("operand '%.100s': (wanted NAME=TABLE, a name of at most %d bytes)", text,
                    MOST_NAME);
    *is = 0;
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            tool_misuse("operand '%.100s': a control character in the name", text);
    input[inputs++] = (struct input){is + 1, NULL, tool_add_name(&all.tables, text)};
    if (all.tables.count > MOST_TABLES)
        tool_misuse("wanted at most %d names", MOST_TABLES);
}

/* --- sites ------------------------------------------------------------------------------------ */

static FILE *open_plain(const char *path)
{
    char why[256];
    FILE *f = plain_open(path, why, sizeof why);
    if (!f)
        tool_die("%s", why);
    return f;
}

static void read_sites(FILE *file)
{
    struct lines l = {.file = file, .name = opt.sites};
    char *field[2];
    int e;
    while ((e = lines_next(&l)) == 1) {
        if (lines_split(&l, "\t", 0, field, 2) != 2 || !*field[0] || !*field[1]) {
            e = lines_fail(&l, "wanted case and site, with a tab between");
            break;
        }
        uint32_t n = site_of_case.count, i = tool_add_name(&site_of_case, field[0]);
        uint32_t site = tool_add_name(&all.sites, field[1]);
        if (i < n && place[i] != site) {
            e = lines_fail(&l, "case '%.60s' has two sites", field[0]);
            break;
        }
        if ((i & (i + 1)) == 0 && i == n &&
            !(place = realloc(place, 2 * (i + 1ul) * sizeof *place)))
            tool_die("out of memory");
        place[i] = site;
    }
    if (e < 0)
        tool_die("%s", l.why);
    fclose(file);
}

/* The first fields of a name; the whole name if it has no more. */
static uint32_t site_in_name(const char *name)
{
    char site[LINES_MAX_LENGTH + 1];
    size_t n = strcspn(name, "-_");
    for (int i = 1; i < opt.site_fields && name[n]; i++)
        n += 1 + strcspn(name + n + 1, "-_");
    snprintf(site, sizeof site, "%.*s", (int)n, name);
    return tool_add_name(&all.sites, site);
}

static void put_in_site(struct lines *l, const char *name, uint32_t unit, bool is_new)
{
    uint32_t i, site;
    if (!opt.sites && !opt.site_fields)
        return;
    if (opt.site_fields) {
        site = site_in_name(name);
    } else {
        if ((i = names_find(&site_of_case, name)) == NAMES_NONE)
            tool_die("%s: line %lu: case '%.100s' has no site in %.100s", l->name, l->number, name,
                     opt.sites);
        site = place[i];
    }
    if (is_new && (unit & (unit + 1)) == 0 &&
        !(all.site = realloc(all.site, 2 * (unit + 1ul) * sizeof *all.site)))
        tool_die("out of memory");
    if (is_new)
        all.site[unit] = site;
    else if (all.site[unit] != site)
        tool_die("%s: line %lu: '%.100s' is of two sites, %.60s and %.60s", l->name, l->number,
                 names_text(&all.units, unit), names_text(&all.sites, all.site[unit]),
                 names_text(&all.sites, site));
}

/* --- tables ----------------------------------------------------------------------------------- */

/* What a table says of its scores: by other definitions they are other scores. Each concerns the
 * metrics that begin so. */
static const struct {
    const char *column, *metric[4];
} definition[] = {{"convention", {""}},
                  {"hd95_by", {"hd95"}},
                  {"lesion_rule", {"lesion_", "found", "missed", "invented"}}};
enum { DEFINITIONS = sizeof definition / sizeof *definition };

/* What the first row says, and of which table it is; NULL before. */
static struct {
    char says[MOST_NAME + 1];
    const char *of;
} defined[DEFINITIONS];

/* Where the columns are; a definition that is not there, or concerns no metric, is at -1. */
struct columns {
    int n, row, name, patient, trained, part, metric[MOST_LIST], definition[DEFINITIONS];
};

static int find_column(struct lines *l, char **field, int n, const char *name)
{
    int i = lines_seek(field, n, name);
    if (i >= 0)
        return i;
    tool_die("%s: line %lu: no column '%s' (wanted a table that dice wrote)", l->name, l->number,
             name);
}

static bool concerns_a_metric(int d)
{
    for (uint32_t m = 0; m < all.metrics.count; m++)
        for (int i = 0; i < 4 && definition[d].metric[i]; i++)
            if (!strncmp(names_text(&all.metrics, m), definition[d].metric[i],
                         strlen(definition[d].metric[i])))
                return true;
    return false;
}

static void read_head(struct lines *l, struct columns *c)
{
    char *field[MOST_FIELDS];
    int e = lines_next(l);
    if (e < 0)
        tool_die("%s", l->why);
    c->n = e ? lines_split(l, "\t", 0, field, MOST_FIELDS) : 0;
    if (c->n > MOST_FIELDS)
        tool_die("%s: line 1: more than %d columns", l->name, MOST_FIELDS);
    c->row = find_column(l, field, c->n, "row");
    c->name = find_column(l, field, c->n, "case");
    c->patient = find_column(l, field, c->n, "patient");
    c->trained = find_column(l, field, c->n, "trained");
    c->part = find_column(l, field, c->n, "part");
    for (uint32_t m = 0; m < all.metrics.count; m++)
        c->metric[m] = find_column(l, field, c->n, names_text(&all.metrics, m));
    for (int d = 0; d < DEFINITIONS; d++)
        c->definition[d] =
            concerns_a_metric(d) ? lines_seek(field, c->n, definition[d].column) : -1;
}

static void check_definitions(struct lines *l, const struct columns *c, char **field)
{
    for (int d = 0; d < DEFINITIONS; d++) {
        if (c->definition[d] < 0)
            continue;
        const char *says = field[c->definition[d]];
        if (!defined[d].of) {
            snprintf(defined[d].says, sizeof defined[d].says, "%s", says);
            defined[d].of = l->name;
        }
        if (strncmp(says, defined[d].says, sizeof defined[d].says - 1))
            tool_die("%s: line %lu: %s is not that of %.200s, so the scores do not compare "
                     "(wanted %s, got %.40s)",
                     l->name, l->number, definition[d].column, defined[d].of, defined[d].says,
                     says);
    }
}

/* Room for the unit's sums, which begin with nothing. */
static void make_room(struct sums *s, uint32_t unit)
{
    size_t series = all.metrics.count * all.parts.count, old = s->units;
    if (unit < old)
        return;
    s->units = 2 * (unit + 32ul);
    s->sum = realloc(s->sum, s->units * series * sizeof *s->sum);
    s->times = realloc(s->times, s->units * series * sizeof *s->times);
    if (!s->sum || !s->times)
        tool_die("out of memory");
    memset(s->sum + old * series, 0, (s->units - old) * series * sizeof *s->sum);
    memset(s->times + old * series, 0, (s->units - old) * series * sizeof *s->times);
}

static double read_number(struct lines *l, const char *column, const char *text)
{
    char *end;
    double v;
    if (!strcmp(text, "nan"))
        return NAN;
    if (!number_read(text, &end, &v) || *end || fabs(v) > MOST_SCORE)
        tool_die("%s: line %lu: column '%s': (wanted a number or nan, got '%.40s')", l->name,
                 l->number, column, text);
    return v;
}

static void add_row(struct lines *l, const struct columns *c, char **field, uint32_t table)
{
    struct sums *s = &sums[table];
    uint32_t part = names_find(&all.parts, field[c->part]), before = all.units.count, unit;
    if (part == NAMES_NONE)
        return;
    if (!strcmp(field[c->trained], "yes") && !opt.trained_too) {
        s->trained += part == 0;
        return;
    }
    unit = tool_add_name(&all.units, field[all.by_patient ? c->patient : c->name]);
    put_in_site(l, field[c->name], unit, unit == before);
    make_room(s, unit);
    for (uint32_t m = 0; m < all.metrics.count; m++) {
        size_t i = ((size_t)unit * all.metrics.count + m) * all.parts.count + part;
        s->repeated += s->times[i]++ == 1 && !m && !part;
        s->sum[i] += read_number(l, names_text(&all.metrics, m), field[c->metric[m]]);
    }
}

static void read_table(const struct input *in)
{
    struct lines l = {.file = in->file, .name = in->path};
    struct columns c;
    char *field[MOST_FIELDS];
    size_t rows = 0;
    int e;
    read_head(&l, &c);
    while ((e = lines_next(&l)) == 1) {
        if (lines_split(&l, "\t", 0, field, MOST_FIELDS) != c.n)
            tool_die("%s: line %lu: (wanted %d columns, as the first line has)", l.name, l.number,
                     c.n);
        if (!strcmp(field[c.row], "slice"))
            tool_die("%s: line %lu: scores of slices (wanted those of cases: the slices of a "
                     "patient are no samples of their own)",
                     l.name, l.number);
        if (strcmp(field[c.row], "case"))
            continue;
        check_definitions(&l, &c, field);
        add_row(&l, &c, field, in->table);
        rows++;
    }
    if (e < 0)
        tool_die("%s", l.why);
    if (!rows)
        tool_die("%s: no case in it", l.name);
    fclose(in->file);
}

/* The mean of what came of a unit; behind the parts of a metric, the mean of them. */
static void settle(uint32_t table)
{
    const struct sums *s = &sums[table];
    uint32_t parts = all.parts.count, wide = parts_of(&all);
    double *v = tool_alloc((size_t)all.units.count * series_of(&all) * sizeof *v);
    char *has = tool_alloc(all.units.count);
    all.value[table] = v;
    all.has[table] = has;
    for (size_t u = 0; u < all.units.count; u++) {
        has[u] = 0;
        for (uint32_t m = 0; m < all.metrics.count; m++, v += wide) {
            size_t from = (u * all.metrics.count + m) * parts;
            double sum = 0;
            for (uint32_t p = 0; p < parts; p++) {
                bool there = u < s->units && s->times[from + p];
                v[p] = there ? s->sum[from + p] / s->times[from + p] : NAN;
                has[u] |= there;
                sum += v[p];
            }
            if (wide > parts)
                v[parts] = sum / parts;
        }
    }
}

static void check_parts(uint32_t table)
{
    const char *name = names_text(&all.tables, table);
    for (uint32_t p = 0; p < all.parts.count; p++) {
        bool there = false;
        for (size_t u = 0; u < all.units.count && u < sums[table].units; u++)
            there |= sums[table].times[u * all.metrics.count * all.parts.count + p] > 0;
        if (!there)
            tool_die("%s: no part '%s' of any case%s", name, names_text(&all.parts, p),
                     sums[table].trained ? " that the model was not trained on (-L)" : "");
    }
}

static void release(void)
{
    for (uint32_t t = 0; t < all.tables.count; t++) {
        free(sums[t].sum);
        free(sums[t].times);
        free(all.value[t]);
        free(all.has[t]);
    }
    struct names *sets[] = {&all.metrics, &all.parts, &all.tables,
                            &all.units,   &all.sites, &site_of_case};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        names_free(sets[i]);
    free(all.value);
    free(all.has);
    free(all.site);
    free(place);
    free(sums);
    free(input);
}

static void compare(void)
{
    FILE *sites = opt.sites ? open_plain(opt.sites) : NULL;
    for (size_t i = 0; i < inputs; i++)
        input[i].file = open_plain(input[i].path);
    tool_confine();
    if (sites)
        read_sites(sites);
    sums = tool_alloc(all.tables.count * sizeof *sums);
    memset(sums, 0, all.tables.count * sizeof *sums);
    all.value = tool_alloc(all.tables.count * sizeof *all.value);
    all.has = tool_alloc(all.tables.count * sizeof *all.has);
    for (size_t i = 0; i < inputs; i++)
        read_table(&input[i]);
    for (uint32_t t = 0; t < all.tables.count; t++) {
        const char *name = names_text(&all.tables, t);
        check_parts(t);
        settle(t);
        if (sums[t].trained)
            tool_warn("%s: left out: %zu cases of patients that the model was trained on (-L "
                      "counts them)",
                      name, sums[t].trained);
        if (sums[t].repeated && !all.by_patient)
            tool_warn("%s: %zu cases are there several times: the mean counts", name,
                      sums[t].repeated);
    }
    compare_write(&all);
    release();
}

int main(int argc, char **argv)
{
    char metrics[] = "dice", parts[] = "WT,TC,ET";
    int c;

    tool_start(argc, argv, usage);
    set_list('m', &all.metrics, metrics);
    set_list('r', &all.parts, parts);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'b':
            all.baseline = true;
            break;
        case 'g':
            opt.sites = optarg;
            break;
        case 'G':
            opt.site_fields = (int)tool_int('G', optarg, 1, 16);
            break;
        case 'J':
            all.json = true;
            break;
        case 'L':
            opt.trained_too = true;
            break;
        case 'm':
            set_list('m', &all.metrics, optarg);
            break;
        case 'P':
            all.by_patient = true;
            break;
        case 'r':
            set_list('r', &all.parts, optarg);
            break;
        case 's':
            all.seed = (uint64_t)tool_int('s', optarg, 0, 2147483647);
            break;
        }
    if (opt.sites && opt.site_fields)
        tool_misuse("-g and -G: wanted one of them");
    input = tool_alloc((size_t)(argc - optind + 1) * sizeof *input);
    for (; optind < argc; optind++)
        add_input(argv[optind]);
    if (all.tables.count < 2)
        tool_misuse("wanted two names or more, got %u", all.tables.count);
    compare();
    return tool_finish();
}
