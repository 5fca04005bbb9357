#include "lib/image/sheet.h"

#include <cairo/cairo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MARGIN = 14, GAP = 8, TITLE = 24, NOTE = 18, HEAD = 20, LEGEND = 24 };

static const struct {
    uint32_t rgb;
    const char *name;
} classes[] = {
    {0x000000, "background"}, {0xd55e00, "core"},   {0x56b4e9, "oedema"},
    {0xf0e442, "enhancing"},  {0xffffff, "cavity"},
};

enum verdict { NOTHING, FOUND, MIXED, MISSED, INVENTED };
static const struct {
    uint32_t rgb;
    const char *name;
} verdicts[] = {
    [FOUND] = {0x009e73, "found"},
    [MIXED] = {0xe69f00, "tumour, other class"},
    [MISSED] = {0xcc79a7, "missed"},
    [INVENTED] = {0xf0e442, "invented"},
};

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

static void colour(cairo_t *c, uint32_t rgb, double alpha)
{
    cairo_set_source_rgba(c, (rgb >> 16) / 255.0, (rgb >> 8 & 255) / 255.0, (rgb & 255) / 255.0,
                          alpha);
}

static void text(cairo_t *c, double x, double y, double size, bool bold, const char *s)
{
    cairo_select_font_face(c, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(c, size);
    cairo_move_to(c, x, y);
    cairo_show_text(c, s);
}

static double text_width(cairo_t *c, double size, const char *s)
{
    cairo_text_extents_t e;
    cairo_select_font_face(c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(c, size);
    cairo_text_extents(c, s, &e);
    return e.x_advance;
}

/* The grey scan, every voxel a square. */
static int draw_scan(cairo_t *c, const uint8_t *scan, int w, int h, double x, double y, int zoom)
{
    cairo_surface_t *s = cairo_image_surface_create(CAIRO_FORMAT_RGB24, w, h);
    if (cairo_surface_status(s)) {
        cairo_surface_destroy(s);
        return -1;
    }
    unsigned char *p = cairo_image_surface_get_data(s);
    int stride = cairo_image_surface_get_stride(s);
    for (int r = 0; r < h; r++)
        for (int q = 0; q < w; q++) {
            uint32_t v = scan[r * w + q] * 0x010101u;
            memcpy(p + r * stride + 4 * q, &v, 4);
        }
    cairo_surface_mark_dirty(s);
    cairo_save(c);
    cairo_translate(c, x, y);
    cairo_scale(c, zoom, zoom);
    cairo_set_source_surface(c, s, 0, 0);
    cairo_pattern_set_filter(cairo_get_source(c), CAIRO_FILTER_BILINEAR);
    cairo_rectangle(c, 0, 0, w, h);
    cairo_fill(c);
    cairo_restore(c);
    cairo_surface_destroy(s);
    return 0;
}

/* All voxels of one value, as paint. */
static void paint(cairo_t *c, const uint8_t *m, int value, int w, int h, double x, double y,
                  int zoom)
{
    for (int r = 0; r < h; r++)
        for (int q = 0; q < w; q++) {
            int from = q;
            while (q < w && m[r * w + q] == value)
                q++;
            if (q > from)
                cairo_rectangle(c, x + from * zoom, y + r * zoom, (q - from) * zoom, zoom);
        }
    cairo_fill(c);
}

/* The border of all voxels of one value, along the edges of the voxels. */
static void outline(cairo_t *c, const uint8_t *m, int value, int w, int h, double x, double y,
                    int zoom)
{
#define IN(r, q) ((r) >= 0 && (r) < h && (q) >= 0 && (q) < w && m[(r)*w + (q)] == value)
    for (int r = 0; r <= h; r++)
        for (int q = 0; q <= w; q++) {
            if (IN(r - 1, q) != IN(r, q)) {
                cairo_move_to(c, x + q * zoom, y + r * zoom);
                cairo_rel_line_to(c, zoom, 0);
            }
            if (IN(r, q - 1) != IN(r, q)) {
                cairo_move_to(c, x + q * zoom, y + r * zoom);
                cairo_rel_line_to(c, 0, zoom);
            }
        }
#undef IN
    cairo_stroke(c);
}

static void draw_classes(cairo_t *c, const struct img_sheet *s, const uint8_t *m, int w, int h,
                         double x, double y)
{
    cairo_set_antialias(c, s->lines ? CAIRO_ANTIALIAS_DEFAULT : CAIRO_ANTIALIAS_NONE);
    cairo_set_line_width(c, s->zoom > 1 ? 1.5 : 1);
    cairo_set_line_cap(c, CAIRO_LINE_CAP_SQUARE);
    static const int order[] = {2, 1, 3,
                                4}; /* the innermost last, so that its outline stays whole */
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        int v = order[i];
        colour(c, classes[v].rgb, s->lines ? 1 : 0.6);
        (s->lines ? outline : paint)(c, m, v, w, h, x, y, s->zoom);
    }
    cairo_set_antialias(c, CAIRO_ANTIALIAS_DEFAULT);
}

static int draw_overlap(cairo_t *c, const struct img_slice *sl, double x, double y, int zoom)
{
    size_t n = (size_t)sl->w * (size_t)sl->h;
    uint8_t *map = malloc(n);
    if (!map)
        return -1;
    for (size_t i = 0; i < n; i++) {
        uint8_t t = sl->label[i], p = sl->pred[i];
        map[i] = !t && !p ? NOTHING : t == p ? FOUND : !p ? MISSED : !t ? INVENTED : MIXED;
    }
    cairo_set_antialias(c, CAIRO_ANTIALIAS_NONE);
    for (int v = FOUND; v <= INVENTED; v++) {
        colour(c, verdicts[v].rgb, 0.75);
        paint(c, map, v, sl->w, sl->h, x, y, zoom);
    }
    cairo_set_antialias(c, CAIRO_ANTIALIAS_DEFAULT);
    free(map);
    return 0;
}

static double swatch(cairo_t *c, double x, double y, uint32_t rgb, const char *name)
{
    colour(c, rgb, 1);
    cairo_rectangle(c, x, y - 9, 10, 10);
    cairo_fill(c);
    colour(c, 0xdddddd, 1);
    text(c, x + 14, y, 11, false, name);
    return x + 14 + text_width(c, 11, name) + 14;
}

static void draw_legend(cairo_t *c, const struct img_sheet *s, double x, double y, double right)
{
    double start = x;
    if (s->label || s->pred)
        for (int v = 1; v <= 3; v++)
            x = swatch(c, x, y, classes[v].rgb, classes[v].name);
    if (s->label && s->pred) {
        double need = 18;
        for (int v = FOUND; v <= INVENTED; v++)
            need += 28 + text_width(c, 11, verdicts[v].name);
        if (x + need > right) {
            x = start;
            y += LEGEND - 6;
        } else {
            x += 18;
        }
        for (int v = FOUND; v <= INVENTED; v++)
            x = swatch(c, x, y, verdicts[v].rgb, verdicts[v].name);
    }
}

static void draw_side(cairo_t *c, double x, double y, int w, long z)
{
    char t[32];
    snprintf(t, sizeof t, "z %ld", z);
    colour(c, 0xdddddd, 1);
    text(c, x + 4, y + 14, 11, false, t);
    /* Radiological view: the patient's right is on the left of the picture. */
    colour(c, 0x999999, 1);
    text(c, x + 4, y + 0.5 * w, 10, false, "R");
    text(c, x + w - 11, y + 0.5 * w, 10, false, "L");
}

static int draw_row(cairo_t *c, const struct img_sheet *s, const struct img_slice *sl, double x,
                    double y, double step)
{
    int e = 0, w = sl->w * s->zoom;
    for (int i = 0; i < s->nscan; i++, x += step) {
        e |= draw_scan(c, sl->scan[i], sl->w, sl->h, x, y, s->zoom);
        if (i == 0)
            draw_side(c, x, y, w, sl->z);
    }
    const uint8_t *back = sl->scan[0];
    for (int k = 0; k < 2; k++)
        if (k == 0 ? s->label : s->pred) {
            e |= draw_scan(c, back, sl->w, sl->h, x, y, s->zoom);
            draw_classes(c, s, k == 0 ? sl->label : sl->pred, sl->w, sl->h, x, y);
            x += step;
        }
    if (s->label && s->pred) {
        e |= draw_scan(c, back, sl->w, sl->h, x, y, s->zoom);
        e |= draw_overlap(c, sl, x, y, s->zoom);
    }
    return e;
}

int img_sheet_draw(const struct img_sheet *s, const struct img_slice *sl, int n,
                   struct img_picture *out)
{
    int panels = s->nscan + s->label + s->pred + (s->label && s->pred), w = 0, e = 0;
    double height = MARGIN + TITLE + (*s->note ? NOTE : 0) + HEAD, y = height, x = MARGIN;
    for (int i = 0; i < n; i++) {
        w = sl[i].w > w ? sl[i].w : w;
        height += sl[i].h * (double)s->zoom + GAP;
    }
    double step = w * (double)s->zoom + GAP, width = 2 * MARGIN + panels * step - GAP;
    bool two = s->label && s->pred && width < 620;
    height += LEGEND + (two ? LEGEND : 0) + MARGIN - GAP;
    if (width < 320)
        width = 320;
    memset(out, 0, sizeof *out);
    if (width > IMG_SHEET_MAX_SIDE || height > IMG_SHEET_MAX_SIDE)
        return -1;
    cairo_surface_t *surface =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)width, (int)height);
    cairo_t *c = cairo_create(surface);
    colour(c, 0x16181d, 1);
    cairo_paint(c);

    colour(c, 0xffffff, 1);
    text(c, x, MARGIN + 14, 15, true, s->title);
    colour(c, 0xbbbbbb, 1);
    if (*s->note)
        text(c, x, MARGIN + TITLE + 10, 12, false, s->note);
    const char *names[IMG_SHEET_SCANS + 3];
    int k = 0;
    for (; k < s->nscan; k++)
        names[k] = s->scan_name[k];
    if (s->label)
        names[k++] = "truth";
    if (s->pred)
        names[k++] = "prediction";
    if (s->label && s->pred)
        names[k++] = "overlap";
    colour(c, 0xdddddd, 1);
    for (int i = 0; i < k; i++)
        text(c, x + i * step, y - 6, 12, false, names[i]);
    for (int i = 0; i < n; i++) {
        e |= draw_row(c, s, &sl[i], x, y, step);
        y += sl[i].h * (double)s->zoom + GAP;
    }
    draw_legend(c, s, x, y + LEGEND - 8, width - MARGIN);
    if (cairo_status(c))
        e = -1;
    cairo_destroy(c);
    cairo_surface_flush(surface);
    if (e || cairo_surface_status(surface)) {
        cairo_surface_destroy(surface);
        return -1;
    }
    *out = (struct img_picture){
        cairo_image_surface_get_width(surface), cairo_image_surface_get_height(surface),
        cairo_image_surface_get_stride(surface), cairo_image_surface_get_data(surface), surface};
    return 0;
}

void img_picture_free(struct img_picture *p)
{
    if (p->surface)
        cairo_surface_destroy(p->surface);
    memset(p, 0, sizeof *p);
}
