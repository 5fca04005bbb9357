/* What epochs draws: slices; slabs, which are consecutive slices of one case (-d); or slices with
 * those beside them (-N).
 *
 * A case of n slices is cut into slabs of DEPTH anew in each deal. They begin evenly, from an
 * offset that is drawn, at the n + DEPTH - 1 places at which a slab has a part of the case, and
 * what hangs over an end is pushed inward. So however the offset falls the number of slabs is the
 * same, every slice comes, and the cuts lie elsewhere in each deal. */
#include "tools/epochs.h"

#include "lib/base/rng.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* A case: its records, their items in a deal, the number of its first slice. */
struct scan {
    uint32_t first, n, item, items;
    long slice;
};

static struct scan *scan;
static uint32_t scans, room, items, deepest;
static struct names cases;

static bool in_rows(void)
{
    return opt.depth || opt.neighbours;
}

static uint32_t depth_of(uint32_t slices)
{
    return slices < opt.depth ? slices : (uint32_t)opt.depth;
}

/* Items of so many slices. */
static uint32_t items_of(uint32_t slices)
{
    uint32_t d = (uint32_t)opt.depth;
    if (!opt.depth)
        return slices;
    return slices <= d ? 1 : 1 + (slices - 2 + d) / d;
}

static struct scan *new_scan(const char *name, uint32_t record, long slice, const char *file,
                             uint32_t its)
{
    if (names_find(&cases, name) != NAMES_NONE)
        tool_die("%s: record %u: case '%.60s' comes again, behind others (wanted its slices in a "
                 "row, for -%c)",
                 file, its, name, opt.depth ? 'd' : 'N');
    tool_add_name(&cases, name);
    if (scans == room && !(scan = realloc(scan, (room = room ? 2 * room : 64) * sizeof *scan)))
        tool_die("%s: out of memory (at record %u)", file, its);
    scan[scans] = (struct scan){.first = record, .item = items, .slice = slice};
    return &scan[scans++];
}

/* The slices of a volume are of one size. */
static void check_size(const struct tns_record *rec, const char *file, uint32_t its, bool begins)
{
    static uint32_t side[2];
    for (int i = 0; i < rec->ntensors; i++) {
        const struct tensor *t = &rec->tensor[i];
        if (strcmp(t->name, "image") || t->rank != 3)
            continue;
        if (!begins && (t->dim[1] != side[0] || t->dim[2] != side[1]))
            tool_die("%s: record %u: another size than the slice before it (wanted %u by %u, got "
                     "%u by %u: crop -p case)",
                     file, its, side[0], side[1], t->dim[1], t->dim[2]);
        side[0] = t->dim[1];
        side[1] = t->dim[2];
    }
}

/* The case of the record, which is the last one met or new. */
static struct scan *scan_of(const struct tns_record *rec, uint32_t record, const char *file,
                            uint32_t its)
{
    const char *name = tns_get(&rec->meta, "case");
    struct scan *s = scans ? &scan[scans - 1] : NULL;
    long slice;
    if (!name || !tns_get_int(&rec->meta, "slice", 0, INT_MAX, &slice))
        tool_die("%s: record %u: no key '%s', which -%c wants", file, its, name ? "slice" : "case",
                 opt.depth ? 'd' : 'N');
    bool begins = !s || strcmp(names_text(&cases, scans - 1), name);
    if (begins)
        s = new_scan(name, record, slice, file, its);
    else if (slice != s->slice + (long)s->n)
        tool_die("%s: record %u (%.60s): slice %ld behind slice %ld: a volume without gaps is "
                 "wanted, all of its slices in rising order",
                 file, its, name, slice, s->slice + (long)s->n - 1);
    check_size(rec, file, its, begins);
    return s;
}

void slabs_note(const struct tns_record *rec, uint32_t record, const char *file, uint32_t its)
{
    if (!in_rows()) {
        weights_note(&rec->meta, items++, its, file);
        return;
    }
    struct scan *s = scan_of(rec, record, file, its);
    for (s->n++; s->items < items_of(s->n); s->items++)
        weights_note(&rec->meta, items++, its, file);
    const uint32_t depth = opt.depth ? depth_of(s->n) : 2 * (uint32_t)opt.neighbours + 1;
    deepest = depth > deepest ? depth : deepest;
}

uint32_t slabs_count(void)
{
    return items;
}

uint32_t slabs_depth(void)
{
    return deepest;
}

void slabs_cut(const struct rng *key, uint32_t *from)
{
    for (uint32_t c = 0; c < scans; c++) {
        const struct scan *s = &scan[c];
        struct rng r = *key;
        rng_mix_text(&r, names_text(&cases, c));
        const int64_t depth = depth_of(s->n), places = s->n + depth - 1;
        const int64_t offset = (int64_t)rng_below(&r, (uint64_t)places), last = s->n - depth;
        for (uint32_t i = 0; i < s->items; i++) {
            int64_t at = (i * places + offset) / s->items - (depth - 1);
            from[s->item + i] = s->first + (uint32_t)(at < 0 ? 0 : at > last ? last : at);
        }
    }
}

static const struct scan *find(uint32_t record)
{
    uint32_t lo = 0, hi = scans;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (scan[mid].first <= record)
            lo = mid;
        else
            hi = mid;
    }
    return &scan[lo];
}

struct span slabs_span(uint32_t from)
{
    if (!in_rows())
        return (struct span){from, 1};
    const struct scan *s = find(from);
    if (opt.depth)
        return (struct span){from, depth_of(s->n)};
    const uint32_t k = (uint32_t)opt.neighbours, at = from - s->first;
    const uint32_t below = at < k ? at : k, above = s->n - 1 - at < k ? s->n - 1 - at : k;
    return (struct span){from - below, below + 1 + above};
}

void slabs_tell(struct tns_record *rec, uint32_t from)
{
    if (!in_rows())
        return;
    const struct scan *s = find(from);
    const struct span p = slabs_span(from);
    tool_set(rec, "slab", "%ld", s->slice + (long)(p.from - s->first));
    tool_set(rec, "depth", "%u", p.n);
    if (opt.neighbours)
        tool_set(rec, "centre", "%ld", s->slice + (long)(from - s->first));
}

void slabs_free(void)
{
    free(scan);
    names_free(&cases);
}
