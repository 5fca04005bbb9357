/* The slices of a case, put together on its full grid and taken apart again. */
#include "tools/tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of one case's grid, at most; a byte or two are held for each. */
#define MAX_VOXELS (1u << 29)

static void read_crop(struct tns_record *rec, const struct tensor *t, struct tool_place *p)
{
    double c[6];
    if (!tns_get(&rec->meta, "crop"))
        return;
    tool_need_numbers(rec, "crop", 6, c);
    for (int i = 0; i < 6; i++)
        if (c[i] != floor(c[i]) || fabs(c[i]) > TNS_MAX_DIM || (i > 1 && c[i] < 1))
            tool_die_at(rec, "key 'crop': no rectangle (got '%.80s')", tns_get(&rec->meta, "crop"));
    if (c[2] != p->h || c[3] != p->w)
        tool_die_at(rec, "%s is not the size of its crop (wanted %gx%g, got %zux%zu)", t->name,
                    c[2], c[3], p->h, p->w);
    p->y = (long)c[0];
    p->x = (long)c[1];
    p->H = (size_t)c[4];
    p->W = (size_t)c[5];
}

struct tool_place tool_place(struct tns_record *rec, const struct tensor *t)
{
    struct tool_place p = {.h = t->dim[0], .w = t->dim[1], .H = t->dim[0], .W = t->dim[1]};
    read_crop(rec, t, &p);
    p.slices = (size_t)tool_need_int(rec, "slices", 1, TNS_MAX_DIM);
    p.slice = (size_t)tool_need_int(rec, "slice", 0, (long)p.slices - 1);
    tool_spacing(rec, p.spacing);
    return p;
}

void tool_spacing(struct tns_record *rec, double mm[3])
{
    double xyz[3];
    tool_need_numbers(rec, "spacing", 3, xyz);
    for (int i = 0; i < 3; i++)
        if (!((mm[i] = xyz[2 - i]) > 0 && mm[i] < 1e6))
            tool_die_at(rec, "key 'spacing': (wanted millimetres above 0, got %g)", mm[i]);
}

void tool_values(struct tns_record *rec, const struct tensor *t, int classes)
{
    uint64_t table[MET_CLASSES][MET_CLASSES] = {{0}};
    size_t bad = met_count(t->data, t->data, tensor_count(t), classes, table);
    if (bad)
        tool_die_at(rec,
                    "%s: value outside the scheme (wanted 0 to %d, got %u at row %zu, column %zu)",
                    t->name, classes - 1, ((const uint8_t *)t->data)[bad - 1],
                    (bad - 1) / t->dim[1], (bad - 1) % t->dim[1]);
}

/* Row y of the rectangle lies in the slice from column `lo` of the rectangle to `hi`. */
static bool row_inside(const struct tool_place *p, long y, long *lo, long *hi)
{
    *lo = p->x < 0 ? -p->x : 0;
    *hi = (long)p->W - p->x;
    *hi = *hi < (long)p->w ? *hi : (long)p->w;
    return *lo < *hi && y + p->y >= 0 && y + p->y < (long)p->H;
}

void tool_paste(const struct tool_place *p, const uint8_t *from, uint8_t *slice)
{
    long lo, hi;
    for (long y = 0; y < (long)p->h; y++)
        if (row_inside(p, y, &lo, &hi))
            memcpy(slice + (size_t)(y + p->y) * p->W + (size_t)(p->x + lo),
                   from + (size_t)y * p->w + (size_t)lo, (size_t)(hi - lo));
}

void tool_lift(const struct tool_place *p, const uint8_t *slice, uint8_t *to)
{
    long lo, hi;
    for (long y = 0; y < (long)p->h; y++)
        if (row_inside(p, y, &lo, &hi))
            memcpy(to + (size_t)y * p->w + (size_t)lo,
                   slice + (size_t)(y + p->y) * p->W + (size_t)(p->x + lo), (size_t)(hi - lo));
}

void tool_canonical(struct tns_record *rec)
{
    const char *scheme = tool_need_key(rec, "scheme");
    if (strcmp(scheme, "canonical"))
        tool_die_at(rec,
                    "labels are not canonical (wanted scheme=canonical, got scheme=%.40s; "
                    "recode comes first)",
                    scheme);
}

static char *copy(const char *s)
{
    return strcpy(tool_alloc(strlen(s) + 1), s);
}

/* Pages that nobody touches cost nothing: a file may claim more slices than it has. */
static void *zeroed(const struct tool_case *c, size_t n)
{
    void *p = calloc(n, 1);
    if (!p)
        tool_die("out of memory (case %s)", c->name);
    return p;
}

void tool_case_begin(struct tool_case *c, struct tns_record *rec, const struct met_grid *g,
                     struct names *finished, bool label)
{
    const char *name = tool_need_key(rec, "case"), *patient = tns_get(&rec->meta, "patient");
    size_t n = g->dim[1] * g->dim[2];
    uint32_t before = finished ? finished->count : 0;
    if (finished && tool_add_name(finished, name) < before)
        tool_die_at(rec, "the case was there before (wanted all its slices in a row)");
    if (n > MAX_VOXELS || g->dim[0] > MAX_VOXELS / n)
        tool_die_at(rec, "the case is too large (wanted at most %u voxels, got %zux%zux%zu)",
                    MAX_VOXELS, g->dim[0], g->dim[1], g->dim[2]);
    *c = (struct tool_case){.name = copy(name), .patient = copy(patient ? patient : name)};
    c->grid = *g;
    c->label = label ? zeroed(c, g->dim[0] * n) : NULL;
    c->pred = zeroed(c, g->dim[0] * n);
    c->seen = zeroed(c, g->dim[0]);
}

void tool_case_slice(struct tool_case *c, struct tns_record *rec, const struct met_grid *g,
                     size_t slice)
{
    if (memcmp(g, &c->grid, sizeof *g))
        tool_die_at(rec, "the case's size or spacing changes");
    if (c->seen[slice])
        tool_die_at(rec, "the slice is there twice");
    c->seen[slice] = 1;
    c->slices++;
}

void tool_case_end(struct tool_case *c)
{
    free(c->name);
    free(c->patient);
    free(c->label);
    free(c->pred);
    free(c->seen);
    memset(c, 0, sizeof *c);
}
