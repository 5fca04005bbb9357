/* The layout is worked out first and drawn after, so that a picture that is too large is refused
 * unmade. */
#include "lib/image/sheet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* On a sheet of at most this many pixels across; wider ones have all of it larger. */
enum { SEEN = 1000, MARGIN = 14, GAP = 8, TITLE = 24, NOTE = 18, HEAD = 20, LEGEND = 24 };

/* Found by a search over colours for the greatest least distance, as seen by people with all cones
 * or without one kind; the first three and white are of Okabe and Ito's. */
static const struct {
    uint32_t rgb;
    const char *name;
} classes[] =
    {
        {0x000000, "background"}, {0xd55e00, "core"},   {0x56b4e9, "oedema"},
        {0xf0e442, "enhancing"},  {0xffffff, "cavity"},
},
  verdicts[IMG_VERDICTS] = {
      [IMG_FOUND] = {0x007744, "found"},
      [IMG_MIXED] = {0xff9999, "tumour, other class"},
      [IMG_MISSED] = {0x995599, "missed"},
      [IMG_INVENTED] = {0x4444ff, "invented"},
};

uint32_t img_verdict_colour(enum img_verdict v)
{
    return verdicts[v].rgb;
}

uint32_t img_class_colour(int label)
{
    return label >= 0 && label < (int)(sizeof classes / sizeof *classes) ? classes[label].rgb
                                                                         : 0xffffff;
}

const char *img_class_name(int label)
{
    return label >= 0 && label < (int)(sizeof classes / sizeof *classes) ? classes[label].name
                                                                         : "unknown";
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void img_to_grey(const float *v, size_t n, float *scratch, uint8_t *grey)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (v[i] != 0 && isfinite(v[i]))
            scratch[m++] = v[i];
    if (!m) {
        memset(grey, 0, n);
        return;
    }
    qsort(scratch, m, sizeof *scratch, by_value);
    float lo = scratch[m / 100], hi = scratch[(size_t)((double)(m - 1) * 0.995)];
    float range = hi > lo ? hi - lo : 1;
    /* Brain starts a little above black, so that its outline shows against the background. */
    for (size_t i = 0; i < n; i++) {
        float g = 20 + 235 * (v[i] - lo) / range;
        grey[i] = v[i] == 0 || !isfinite(v[i]) ? 0 : g < 20 ? 20 : g > 255 ? 255 : (uint8_t)g;
    }
}

/* A voxel's whole box. */
static void paint_voxel(struct img_picture *p, const struct img_area *a, int r, int q, uint32_t rgb,
                        int alpha)
{
    int x = img_area_x(a, q), y = img_area_y(a, r);
    img_box(p, x, y, img_area_x(a, q + 1) - x, img_area_y(a, r + 1) - y, rgb, alpha);
}

/* All voxels of one value, as paint. */
static void paint(struct img_picture *p, const uint8_t *m, int value, const struct img_area *a,
                  uint32_t rgb)
{
    for (int r = 0; r < a->h; r++)
        for (int q = 0; q < a->w; q++)
            if (m[r * a->w + q] == value)
                paint_voxel(p, a, r, q, rgb, 153);
}

/* The border of all voxels of one value: the pixels on both sides of it. */
static void outline(struct img_picture *p, const uint8_t *m, int value, const struct img_area *a,
                    uint32_t rgb)
{
    int right = a->x + a->wide, bottom = a->y + a->high;
#define IN(j, i)                                                                                   \
    ((j) >= a->y && (j) < bottom && (i) >= a->x && (i) < right &&                                  \
     m[img_area_row(a, j) * a->w + img_area_column(a, i)] == value)
    for (int j = a->y - 1; j <= bottom; j++)
        for (int i = a->x - 1; i <= right; i++) {
            bool in = IN(j, i), edge = false;
            for (int k = 0; k < 9 && !edge; k++)
                edge = IN(j + k / 3 - 1, i + k % 3 - 1) != in;
            if (edge)
                img_box(p, i, j, 1, 1, rgb, a->wide > a->w ? 255 : 128);
        }
#undef IN
}

static void draw_classes(struct img_picture *p, const struct img_sheet *s, const uint8_t *m,
                         const struct img_area *a)
{
    static const int order[] = {2, 3, 1, 4}; /* the innermost last: its outline stays whole */
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        (s->lines ? outline : paint)(p, m, order[i], a, classes[order[i]].rgb);
}

static void draw_overlap(struct img_picture *p, const struct img_slice *sl,
                         const struct img_area *a)
{
    for (int r = 0; r < a->h; r++)
        for (int q = 0; q < a->w; q++) {
            int t = sl->label[r * a->w + q], g = sl->pred[r * a->w + q];
            if (t || g)
                paint_voxel(p, a, r, q,
                            img_verdict_colour(t == g ? IMG_FOUND
                                               : !g   ? IMG_MISSED
                                               : !t   ? IMG_INVENTED
                                                      : IMG_MIXED),
                            191);
        }
}

/* --- text, `by` times as large as on a narrow sheet ------------------------------------------- */

static int larger(double by, int n)
{
    return (int)(by * n + 0.5);
}

static int swatch(struct img_picture *p, double by, int x, int y, uint32_t rgb, const char *name)
{
    int side = larger(by, 10), size = larger(by, 11), after = larger(by, 14);
    img_box(p, x, y - side + 1, side, side, rgb, 255);
    img_text(p, x + after, y, size, false, 0xdddddd, name);
    return x + 2 * after + img_text_width(size, name);
}

static bool holds(const uint8_t *m, size_t n, int value)
{
    return m && memchr(m, value, n);
}

/* What the legend names, in the order of reading: labels, then what became of them. */
struct legend {
    const char *name[8];
    uint32_t rgb[8];
    int n, labels; /* of all; of the first kind */
    int width[2];  /* of each kind in a line of its own */
    bool two;      /* lines, as the picture is too narrow for one */
};

static void legend_add(struct legend *l, double by, int kind, const char *name, uint32_t rgb)
{
    l->name[l->n] = name;
    l->rgb[l->n++] = rgb;
    l->labels += kind == 0;
    l->width[kind] += larger(by, 28) + img_text_width(larger(by, 11), name);
}

static struct legend legend_of(const struct img_sheet *s, double by, const struct img_slice *sl,
                               int n)
{
    struct legend l = {.n = 0};
    bool cavity = false; /* few data sets have it */
    for (int i = 0; i < n; i++) {
        size_t all = (size_t)sl[i].w * (size_t)sl[i].h;
        cavity |= holds(sl[i].label, all, 4) || holds(sl[i].pred, all, 4);
    }
    for (int v = 1; (s->label || s->pred) && v <= 3 + cavity; v++)
        legend_add(&l, by, 0, classes[v].name, classes[v].rgb);
    for (int v = 0; s->label && s->pred && v < IMG_VERDICTS; v++)
        legend_add(&l, by, 1, verdicts[v].name, verdicts[v].rgb);
    return l;
}

static void draw_legend(struct img_picture *p, const struct legend *l, double by, int y)
{
    int start = larger(by, MARGIN), x = start;
    for (int i = 0; i < l->n; i++) {
        if (i == l->labels && l->two)
            x = start, y += larger(by, LEGEND - 6);
        else if (i == l->labels)
            x += larger(by, 18);
        x = swatch(p, by, x, y, l->rgb[i], l->name[i]);
    }
}

static void draw_side(struct img_picture *p, double by, const struct img_area *a, long z)
{
    char t[32];
    int near = larger(by, 4), y = a->y + a->high / 2;
    snprintf(t, sizeof t, "z %ld", z);
    img_text(p, a->x + near, a->y + larger(by, 14), larger(by, 11), false, 0xdddddd, t);
    /* Radiological view: the patient's right is on the left of the picture. */
    img_text(p, a->x + near, y, larger(by, 10), false, 0x999999, "R");
    img_text(p, a->x + a->wide - larger(by, 11), y, larger(by, 10), false, 0x999999, "L");
}

/* --- the sheet -------------------------------------------------------------------------------- */

static double side(int voxels, double zoom)
{
    return floor(voxels * zoom + 0.5);
}

static void draw_row(struct img_picture *p, const struct img_sheet *s, double by,
                     const struct img_slice *sl, struct img_area a, int step)
{
    for (int i = 0; i < s->nscan; i++, a.x += step) {
        img_scan(p, sl->scan[i], &a);
        if (i == 0)
            draw_side(p, by, &a, sl->z);
    }
    for (int k = 0; k < 2; k++)
        if (k == 0 ? s->label : s->pred) {
            img_scan(p, sl->scan[0], &a);
            draw_classes(p, s, k == 0 ? sl->label : sl->pred, &a);
            a.x += step;
        }
    if (s->label && s->pred) {
        img_scan(p, sl->scan[0], &a);
        draw_overlap(p, sl, &a);
    }
}

static void draw_head(struct img_picture *p, const struct img_sheet *s, double by, int step, int y)
{
    const char *names[IMG_SHEET_SCANS + 3];
    int k = 0, x = larger(by, MARGIN);
    img_text(p, x, x + larger(by, 14), larger(by, 15), true, 0xffffff, s->title);
    img_text(p, x, x + larger(by, TITLE + 10), larger(by, 12), false, 0xbbbbbb, s->note);
    for (; k < s->nscan; k++)
        names[k] = s->scan_name[k];
    if (s->label)
        names[k++] = "truth";
    if (s->pred)
        names[k++] = "prediction";
    if (s->label && s->pred)
        names[k++] = "overlap";
    for (int i = 0; i < k; i++)
        img_text(p, x + i * step, y - larger(by, 6), larger(by, 12), false, 0xdddddd, names[i]);
}

int img_sheet_draw(const struct img_sheet *s, const struct img_slice *sl, int n,
                   struct img_picture *out)
{
    int panels = s->nscan + s->label + s->pred + (s->label && s->pred), w = 0;
    for (int i = 0; i < n; i++)
        w = sl[i].w > w ? sl[i].w : w;
    double width = panels * (side(w, s->zoom[0]) + GAP), by = width > SEEN ? width / SEEN : 1;
    memset(out, 0, sizeof *out);
    if (!(width <= IMG_SHEET_MAX_SIDE))
        return -1;
    int margin = larger(by, MARGIN), gap = larger(by, GAP);
    int y = margin + larger(by, TITLE + (*s->note ? NOTE : 0) + HEAD);
    double step = side(w, s->zoom[0]) + gap, height = y;
    width = 2 * margin + panels * step - gap;
    for (int i = 0; i < n; i++)
        height += side(sl[i].h, s->zoom[1]) + gap;
    struct legend l = legend_of(s, by, sl, n);
    for (int k = 0; k < 2; k++)
        width = width < 2 * margin + l.width[k] ? 2 * margin + l.width[k] : width;
    l.two = 2 * margin + l.width[0] + larger(by, 18) + l.width[1] > width && l.n > l.labels;
    height += larger(by, LEGEND + (l.two ? LEGEND : 0)) + margin - gap;
    if (width < 320)
        width = 320;
    if (width > IMG_SHEET_MAX_SIDE || !(height <= IMG_SHEET_MAX_SIDE))
        return -1;
    if (img_picture_new(out, (int)width, (int)height, 0x16181d))
        return -2;
    draw_head(out, s, by, (int)step, y);
    for (int i = 0; i < n; i++) {
        struct img_area a = {.w = sl[i].w,
                             .h = sl[i].h,
                             .x = margin,
                             .y = y,
                             .wide = (int)side(sl[i].w, s->zoom[0]),
                             .high = (int)side(sl[i].h, s->zoom[1])};
        draw_row(out, s, by, &sl[i], a, (int)step);
        y += a.high + gap;
    }
    draw_legend(out, &l, by, y + larger(by, LEGEND - 8));
    return 0;
}
