/* The weights of epochs: each patient's share, each site's, and those of a table. */
#include "tools/epochs.h"

#include "formats/lines.h"
#include "formats/plain.h"
#include "lib/base/number.h"
#include "lib/base/rng.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 1e6 /* weight */

static struct {
    bool by_patient;
    struct lines table, sites;    /* of a name: its weight; of a patient: his site */
    struct names weighed, placed; /* names of the tables */
    double *weight;               /* of weighed */
    uint32_t *site;               /* of placed: number in site_names */
    struct names site_names, patients;
    bool met; /* one of the names of the table */
    /* of each item */
    double *factor;
    uint32_t *patient;
    uint32_t room;
} w;

static void open_table(struct lines *l, const char *path)
{
    l->name = path;
    if (path && !(l->file = plain_open(path, l->why, sizeof l->why)))
        tool_die("%s", l->why);
}

void weights_open(const char *table, const char *sites, bool by_patient)
{
    w.by_patient = by_patient;
    open_table(&w.table, table);
    open_table(&w.sites, sites);
}

static void *grown(void *p, uint32_t count, size_t size)
{
    if (!(p = realloc(p, (count + 1ul) * size)))
        tool_die("out of memory");
    return p;
}

/* A line's two fields; the first is new to the set and has its number. False at the end. */
static bool next_line(struct lines *l, struct names *set, uint32_t *number, char *field[2],
                      const char *wanted)
{
    int e;
    while ((e = lines_next(l)) == 1 && (!*l->text || *l->text == '#'))
        ;
    if (e == 0)
        return false;
    if (e == 1) {
        int n = lines_split(l, "\t", 0, field, 2);
        if (n == 2 && *field[0] && *field[1] && (*number = set->count) <= NAMES_NONE - 2 &&
            tool_add_name(set, field[0]) == *number)
            return true;
        if (n == 2 && *field[0] && *field[1])
            lines_fail(l, "'%.60s' stands twice", field[0]);
        else
            lines_fail(l, "wanted %s, with a tab between", wanted);
    }
    tool_die("%s", l->why);
}

static void read_table(struct rng *digest)
{
    char *field[2], *end;
    uint32_t i;
    while (next_line(&w.table, &w.weighed, &i, field, "a case, patient or site and its weight")) {
        double v;
        if (!number_read(field[1], &end, &v) || *end || !(v >= 0 && v <= MOST)) {
            lines_fail(&w.table, "weight (wanted a number from 0 to %g, got '%.60s')", MOST,
                       field[1]);
            tool_die("%s", w.table.why);
        }
        w.weight = grown(w.weight, i, sizeof *w.weight);
        w.weight[i] = v;
        rng_mix_text(digest, field[0]);
        rng_mix_text(digest, field[1]);
    }
}

static void read_sites(struct rng *digest)
{
    char *field[2];
    uint32_t i;
    while (next_line(&w.sites, &w.placed, &i, field, "a patient and his site")) {
        w.site = grown(w.site, i, sizeof *w.site);
        w.site[i] = tool_add_name(&w.site_names, field[1]);
        rng_mix_text(digest, field[0]);
        rng_mix_text(digest, field[1]);
    }
}

/* Tables are told in the history by what they say, not by where they lie. */
const char *weights_read(void)
{
    static char text[64];
    int n = snprintf(text, sizeof text, "%s", w.by_patient ? " -p" : "");
    struct lines *l[2] = {&w.sites, &w.table};
    for (int i = 0; i < 2; i++) {
        struct rng digest = rng_seed(0);
        if (!l[i]->file)
            continue;
        (i ? read_table : read_sites)(&digest);
        n += snprintf(text + n, sizeof text - (size_t)n, " -%c %016" PRIx64, i ? 'w' : 'S',
                      rng_u64(&digest));
        fclose(l[i]->file);
    }
    return text;
}

static double weight_of(const char *name)
{
    uint32_t i = name ? names_find(&w.weighed, name) : NAMES_NONE;
    w.met |= i != NAMES_NONE;
    return i == NAMES_NONE ? 1 : w.weight[i];
}

/* CASE:SLICE, of an item that is a slice. */
static double weight_of_slice(const struct tns_meta *meta, const char *scan)
{
    const char *slice = tns_get(meta, "slice");
    char *name;
    if (!scan || !slice || opt.depth)
        return 1;
    if (asprintf(&name, "%s:%s", scan, slice) < 0)
        tool_die("out of memory");
    const double v = weight_of(name);
    free(name);
    return v;
}

/* The site of a patient of the file, or death. */
static uint32_t site_of(const char *patient, uint32_t record, const char *file)
{
    uint32_t i = names_find(&w.placed, patient);
    if (i == NAMES_NONE)
        tool_die("%s: record %u: patient '%.60s' has no site in %s", file, record, patient,
                 w.sites.name);
    return w.site[i];
}

void weights_note(const struct tns_meta *meta, uint32_t item, uint32_t record, const char *file)
{
    const char *patient = tns_get(meta, "patient"), *scan = tns_get(meta, "case");
    bool grouped = w.by_patient || w.sites.name;
    if (!grouped && !w.table.name)
        return;
    if (!patient && grouped)
        tool_die("%s: record %u: no key 'patient', by which -p and -S weigh", file, record);
    if (item >= w.room) {
        w.room = item < 2048 ? 4096 : 2 * item;
        w.factor = grown(w.factor, w.room, sizeof *w.factor);
        w.patient = grown(w.patient, w.room, sizeof *w.patient);
    }
    w.factor[item] = weight_of(patient);
    if (scan && (!patient || strcmp(scan, patient)))
        w.factor[item] *= weight_of(scan);
    if (w.table.name)
        w.factor[item] *= weight_of_slice(meta, scan ? scan : patient);
    if (w.sites.name)
        w.factor[item] *= weight_of(names_text(&w.site_names, site_of(patient, record, file)));
    w.patient[item] = patient ? tool_add_name(&w.patients, patient) : 0;
}

/* Divides each weight by the sum of those of its group, as `of` has it. */
static void even_out(double *weight, uint32_t items, const uint32_t *of, uint32_t groups)
{
    double *sum = tool_alloc(groups * sizeof *sum);
    for (uint32_t i = 0; i < groups; i++)
        sum[i] = 0;
    for (uint32_t i = 0; i < items; i++)
        sum[of[w.patient[i]]] += weight[i];
    for (uint32_t i = 0; i < items; i++)
        weight[i] /= sum[of[w.patient[i]]];
    free(sum);
}

double *weights_make(uint32_t items, const char *file)
{
    uint32_t people = w.patients.count, *of = tool_alloc(people * sizeof *of);
    double *weight = w.factor ? tool_alloc(items * sizeof *weight) : NULL, sum = 0;
    for (uint32_t i = 0; weight && i < items; i++)
        weight[i] = 1;
    for (uint32_t i = 0; i < people; i++)
        of[i] = i;
    if (w.by_patient)
        even_out(weight, items, of, people);
    for (uint32_t i = 0; w.sites.name && i < people; i++)
        of[i] = site_of(names_text(&w.patients, i), 0, file);
    if (w.sites.name)
        even_out(weight, items, of, w.site_names.count);
    for (uint32_t i = 0; weight && i < items; i++)
        sum += weight[i] *= w.factor[i];
    if (w.table.name && !w.met)
        tool_die("%s: names no case, patient or site of %s", w.table.name, file);
    if (weight && !(sum > 0))
        tool_die("%s: every record of %s weighs 0", w.table.name, file);
    free(of);
    free(w.factor);
    free(w.patient);
    free(w.weight);
    free(w.site);
    names_free(&w.weighed);
    names_free(&w.placed);
    names_free(&w.site_names);
    names_free(&w.patients);
    return weight;
}
