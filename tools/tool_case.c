/* The slices of a case, put together on its full grid and taken apart again. */
#include "tools/tool.h"

#include <math.h>
#include <string.h>

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
    double spacing[3];
    read_crop(rec, t, &p);
    p.slices = (size_t)tool_need_int(rec, "slices", 1, TNS_MAX_DIM);
    p.slice = (size_t)tool_need_int(rec, "slice", 0, (long)p.slices - 1);
    tool_need_numbers(rec, "spacing", 3, spacing);
    for (int i = 0; i < 3; i++)
        if (!((p.spacing[i] = spacing[2 - i]) > 0 && p.spacing[i] < 1e6))
            tool_die_at(rec, "key 'spacing': (wanted millimetres above 0, got %g)", p.spacing[i]);
    return p;
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
