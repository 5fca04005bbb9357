/* The layout is worked out first and drawn after, so that a picture that is too large is refused
 * unmade. */
#include "lib/image/sheet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* On a sheet of at most this many pixels across; wider ones have all of it larger. */
enum { SEEN = 1000, MARGIN = 14, GAP = 8, TITLE = 24, NOTE = 18, HEAD = 20, LEGEND = 24, BAR = 80 };

/* Found by a search over colours for the greatest least distance, as seen by people with all cones
 * or without one kind; the first three and white are of Okabe and Ito's. From 5 on, labels that no
 * data set of the field has, some are near another. */
static const struct {
    uint32_t rgb;
    const char *name;
} classes[IMG_LABELS] =
    {
        {0x000000, "background"}, {0xd55e00, "core"},     {0x56b4e9, "oedema"},
        {0xf0e442, "enhancing"},  {0xffffff, "cavity"},   {0xaacc55, "label 5"},
        {0x5522bb, "label 6"},    {0x880000, "label 7"},  {0x9988ff, "label 8"},
        {0xbbddff, "label 9"},    {0x8855bb, "label 10"}, {0x880055, "label 11"},
        {0xaa8899, "label 12"},   {0x99ff99, "label 13"}, {0x660088, "label 14"},
        {0x66aa55, "label 15"},
},
  verdicts[IMG_VERDICTS] = {
      [IMG_FOUND] = {0x007744, "found"},
      [IMG_MIXED] = {0xff9999, "tumour, other class"},
      [IMG_MISSED] = {0x995599, "missed"},
      [IMG_INVENTED] = {0x4444ff, "invented"},
};

/* From dark to bright, so that grey or any colour vision sees the same order. */
static const uint32_t heats[] = {0x1b0c41, 0x781c6d, 0xcf4446, 0xfb9b06, 0xfcffa4};

uint32_t img_heat_colour(uint8_t v)
{
    int steps = sizeof heats / sizeof *heats - 1, at = v * steps / 255, part = v * steps % 255;
    uint32_t rgb = 0, from = heats[at], to = heats[at < steps ? at + 1 : at];
    for (int shift = 0; shift < 24; shift += 8) {
        int a = from >> shift & 255, b = to >> shift & 255;
        rgb |= (uint32_t)(a + (b - a) * part / 255) << shift;
    }
    return rgb;
}

int img_heat_alpha(uint8_t v)
{
    return v < 85 ? 2 * v + v / 2 : 212;
}

uint32_t img_verdict_colour(enum img_verdict v)
{
    return verdicts[v].rgb;
}

uint32_t img_class_colour(int label)
{
    return label >= 0 && label < IMG_LABELS ? classes[label].rgb : 0xffffff;
}

const char *img_class_name(int label)
{
    return label >= 0 && label < IMG_LABELS ? classes[label].name : "unknown";
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void img_grey_range(float *v, size_t n, float range[2])
{
    range[0] = range[1] = 0;
    if (!n)
        return;
    qsort(v, n, sizeof *v, by_value);
    range[0] = v[n / 100];
    range[1] = v[(size_t)((double)(n - 1) * 0.995)];
}

void img_grey(const float *v, size_t n, const float range[2], uint8_t *grey)
{
    float lo = range[0], wide = range[1] > lo ? range[1] - lo : 1;
    /* Brain starts a little above black, so that its outline shows against the background. */
    for (size_t i = 0; i < n; i++) {
        float g = 20 + 235 * (v[i] - lo) / wide;
        grey[i] = v[i] == 0 || !isfinite(v[i]) ? 0 : g < 20 ? 20 : g > 255 ? 255 : (uint8_t)g;
    }
}

void img_to_grey(const float *v, size_t n, float *scratch, uint8_t *grey)
{
    float range[2];
    size_t m = 0;
    for (size_t i = 0; i < n; i++)
        if (v[i] != 0 && isfinite(v[i]))
            scratch[m++] = v[i];
    img_grey_range(scratch, m, range);
    img_grey(v, n, range, grey);
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
    static const int order[IMG_LABELS - 1] = {/* the innermost last: its outline stays whole */
                                              2, 3, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    bool there[UINT8_MAX + 1] = {false};
    for (int i = 0; i < a->w * a->h; i++)
        there[m[i]] = true;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (there[order[i]])
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

static void draw_heat(struct img_picture *p, const uint8_t *m, const struct img_area *a)
{
    for (int r = 0; r < a->h; r++)
        for (int q = 0; q < a->w; q++) {
            uint8_t v = m[r * a->w + q];
            paint_voxel(p, a, r, q, img_heat_colour(v), img_heat_alpha(v));
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

/* What the legend names, in the order of reading: labels, what became of them, heat. Each kind goes
 * into a new line where it would not fit into the picture. */
enum { LABELS, VERDICTS, HEAT, KINDS };
struct legend {
    const char *name[IMG_LABELS + IMG_VERDICTS], *heat;
    uint32_t rgb[IMG_LABELS + IMG_VERDICTS];
    int n, end[KINDS]; /* of all; of each kind */
    int width[KINDS];
};

static void legend_add(struct legend *l, double by, int kind, const char *name, uint32_t rgb)
{
    l->name[l->n] = name;
    l->rgb[l->n++] = rgb;
    l->end[kind] = l->n;
    l->width[kind] += 2 * larger(by, 14) + img_text_width(larger(by, 11), name);
}

static struct legend legend_of(const struct img_sheet *s, double by, const struct img_slice *sl,
                               int n)
{
    struct legend l = {.heat = s->heat};
    for (int v = 1; (s->label || s->pred) && v < IMG_LABELS; v++) {
        bool there = v <= 3; /* others few data sets have */
        for (int i = 0; i < n && !there; i++) {
            size_t all = (size_t)sl[i].w * (size_t)sl[i].h;
            there = holds(sl[i].label, all, v) || holds(sl[i].pred, all, v);
        }
        if (there)
            legend_add(&l, by, LABELS, classes[v].name, classes[v].rgb);
    }
    for (int v = 0; s->label && s->pred && v < IMG_VERDICTS; v++)
        legend_add(&l, by, VERDICTS, verdicts[v].name, verdicts[v].rgb);
    if (s->heat)
        l.width[HEAT] = img_text_width(larger(by, 11), s->heat) + larger(by, BAR + 50);
    return l;
}

/* Whether a kind begins a line, and where: *x is the end of what stands before it. */
static bool breaks(const struct legend *l, double by, int kind, int width, int *x)
{
    int start = larger(by, MARGIN), gap = *x > start ? larger(by, 18) : 0;
    bool full = gap && *x + gap + l->width[kind] + start > width;
    *x = !l->width[kind] ? *x : full ? start : *x + gap;
    return full && l->width[kind];
}

static int legend_lines(const struct legend *l, double by, int width)
{
    int lines = 1, x = larger(by, MARGIN);
    for (int kind = 0; kind < KINDS; x += l->width[kind++])
        lines += breaks(l, by, kind, width, &x);
    return lines;
}

/* The name, and a bar from 0 to 1 on the grey of tissue. */
static void draw_bar(struct img_picture *p, const struct legend *l, double by, int x, int y)
{
    int size = larger(by, 11), side = larger(by, 10), width = larger(by, BAR);
    img_text(p, x, y, size, false, 0xdddddd, l->heat);
    x += img_text_width(size, l->heat) + larger(by, 8);
    img_text(p, x, y, size, false, 0xdddddd, "0");
    x += larger(by, 12);
    img_box(p, x, y - side + 1, width, side, 0x707070, 255);
    for (int i = 0; i < width; i++) {
        uint8_t v = (uint8_t)(255 * i / (width - 1));
        img_box(p, x + i, y - side + 1, 1, side, img_heat_colour(v), img_heat_alpha(v));
    }
    img_text(p, x + width + larger(by, 5), y, size, false, 0xdddddd, "1");
}

static void draw_legend(struct img_picture *p, const struct legend *l, double by, int y)
{
    int x = larger(by, MARGIN);
    for (int kind = 0, i = 0; kind < KINDS; kind++) {
        if (breaks(l, by, kind, p->width, &x))
            y += larger(by, LEGEND - 6);
        for (int to = x; i < l->end[kind]; i++)
            to = swatch(p, by, to, y, l->rgb[i], l->name[i]);
        if (kind == HEAT && l->heat)
            draw_bar(p, l, by, x, y);
        x += l->width[kind];
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
        a.x += step;
    }
    if (s->heat) {
        img_scan(p, sl->scan[0], &a);
        draw_heat(p, sl->heat, &a);
    }
}

static int panels_of(const struct img_sheet *s)
{
    return s->nscan + s->label + s->pred + (s->label && s->pred) + (s->heat != NULL);
}

static void draw_head(struct img_picture *p, const struct img_sheet *s, double by, int step, int y)
{
    const char *names[IMG_SHEET_SCANS + 4];
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
    if (s->heat)
        names[k++] = s->heat;
    for (int i = 0; i < k; i++)
        img_text(p, x + i * step, y - larger(by, 6), larger(by, 12), false, 0xdddddd, names[i]);
}

/* --- what of the slices is shown -------------------------------------------------------------- */

struct box {
    int x0, y0, x1, y1;
};

static void grow_box(struct box *b, const uint8_t *v, int w, int h)
{
    for (int y = 0; v && y < h; y++)
        for (int x = 0; x < w; x++)
            if (v[y * w + x]) {
                b->x0 = x < b->x0 ? x : b->x0;
                b->x1 = x > b->x1 ? x : b->x1;
                b->y0 = y < b->y0 ? y : b->y0;
                b->y1 = y > b->y1 ? y : b->y1;
            }
}

static void cut(const uint8_t *plane, int w, const struct box *b)
{
    uint8_t *to = (uint8_t *)plane; /* img_slice only promises to leave it */
    size_t n = (size_t)(b->x1 - b->x0 + 1);
    for (int y = b->y0; plane && y <= b->y1; y++, to += n)
        memmove(to, plane + (size_t)y * (size_t)w + b->x0, n);
}

void img_sheet_trim(const struct img_sheet *s, struct img_slice *sl, int n)
{
    enum { AROUND = 4 };
    int w = n ? sl->w : 0, h = n ? sl->h : 0;
    struct box b = {w, h, -1, -1};
    for (int i = 0; i < n; i++) {
        if (sl[i].w != w || sl[i].h != h)
            return;
        for (int k = 0; k < s->nscan; k++)
            grow_box(&b, sl[i].scan[k], w, h);
        grow_box(&b, sl[i].label, w, h);
        grow_box(&b, sl[i].pred, w, h);
    }
    if (b.x1 < 0)
        return;
    b.x0 = b.x0 > AROUND ? b.x0 - AROUND : 0;
    b.y0 = b.y0 > AROUND ? b.y0 - AROUND : 0;
    b.x1 = b.x1 + AROUND < w ? b.x1 + AROUND : w - 1;
    b.y1 = b.y1 + AROUND < h ? b.y1 + AROUND : h - 1;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < s->nscan; k++)
            cut(sl[i].scan[k], w, &b);
        cut(sl[i].label, w, &b);
        cut(sl[i].pred, w, &b);
        cut(sl[i].heat, w, &b);
        sl[i].w = b.x1 - b.x0 + 1;
        sl[i].h = b.y1 - b.y0 + 1;
    }
}

/* --- all of it -------------------------------------------------------------------------------- */

int img_sheet_draw(const struct img_sheet *s, const struct img_slice *sl, int n,
                   struct img_picture *out)
{
    int panels = panels_of(s), w = 0;
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
    for (int k = 0; k < KINDS; k++)
        width = width < 2 * margin + l.width[k] ? 2 * margin + l.width[k] : width;
    if (width > IMG_SHEET_MAX_SIDE)
        return -1;
    if (width < 320)
        width = 320;
    height += larger(by, LEGEND * legend_lines(&l, by, (int)width)) + margin - gap;
    if (!(height <= IMG_SHEET_MAX_SIDE))
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

int img_panel_draw(const struct img_slice *sl, enum img_panel panel, const double zoom[2],
                   struct img_picture *out)
{
    const double width = side(sl->w, zoom[0]), height = side(sl->h, zoom[1]);
    const struct img_sheet lines = {.lines = true};
    const struct img_area a = {.w = sl->w, .h = sl->h, .wide = (int)width, .high = (int)height};
    memset(out, 0, sizeof *out);
    if (!(width <= IMG_SHEET_MAX_SIDE && height <= IMG_SHEET_MAX_SIDE))
        return -1;
    if (img_picture_new(out, (int)width, (int)height, 0))
        return -2;
    img_scan(out, sl->scan[0], &a);
    if (panel == IMG_PANEL_LINES && (sl->pred || sl->label))
        draw_classes(out, &lines, sl->pred ? sl->pred : sl->label, &a);
    if (panel == IMG_PANEL_HEAT && sl->heat)
        draw_heat(out, sl->heat, &a);
    return 0;
}
