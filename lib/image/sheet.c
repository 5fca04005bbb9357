#include "lib/image/sheet.h"

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

/* All voxels of one value, as paint. */
static void paint(struct img_picture *p, const uint8_t *m, int value, int w, int h, int x, int y,
                  int zoom, uint32_t rgb, int alpha)
{
    for (int r = 0; r < h; r++)
        for (int q = 0; q < w; q++)
            if (m[r * w + q] == value)
                img_box(p, x + q * zoom, y + r * zoom, zoom, zoom, rgb, alpha);
}

/* The border of all voxels of one value: the pixels on both sides of it. */
static void outline(struct img_picture *p, const uint8_t *m, int value, int w, int h, int x, int y,
                    int zoom, uint32_t rgb)
{
#define IN(r, q)                                                                                   \
    ((r) >= 0 && (r) < h * zoom && (q) >= 0 && (q) < w * zoom &&                                   \
     m[(r) / zoom * w + (q) / zoom] == value)
    for (int r = -1; r <= h * zoom; r++)
        for (int q = -1; q <= w * zoom; q++) {
            bool in = IN(r, q), edge = false;
            for (int k = 0; k < 9 && !edge; k++)
                edge = IN(r + k / 3 - 1, q + k % 3 - 1) != in;
            if (edge)
                img_box(p, x + q, y + r, 1, 1, rgb, zoom > 1 ? 191 : 128);
        }
#undef IN
}

static void draw_classes(struct img_picture *p, const struct img_sheet *s, const uint8_t *m, int w,
                         int h, int x, int y)
{
    static const int order[] = {2, 1, 3,
                                4}; /* the innermost last, so that its outline stays whole */
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        int v = order[i];
        if (s->lines)
            outline(p, m, v, w, h, x, y, s->zoom, classes[v].rgb);
        else
            paint(p, m, v, w, h, x, y, s->zoom, classes[v].rgb, 153);
    }
}

static void draw_overlap(struct img_picture *p, const struct img_slice *sl, int x, int y, int zoom)
{
    for (int r = 0; r < sl->h; r++)
        for (int q = 0; q < sl->w; q++) {
            int t = sl->label[r * sl->w + q], g = sl->pred[r * sl->w + q];
            int v = !t && !g ? NOTHING : t == g ? FOUND : !g ? MISSED : !t ? INVENTED : MIXED;
            if (v != NOTHING)
                img_box(p, x + q * zoom, y + r * zoom, zoom, zoom, verdicts[v].rgb, 191);
        }
}

static int swatch(struct img_picture *p, int x, int y, uint32_t rgb, const char *name)
{
    img_box(p, x, y - 9, 10, 10, rgb, 255);
    img_text(p, x + 14, y, 11, false, 0xdddddd, name);
    return x + 14 + img_text_width(11, name) + 14;
}

static void draw_legend(struct img_picture *p, const struct img_sheet *s, int x, int y, int right)
{
    int start = x;
    if (s->label || s->pred)
        for (int v = 1; v <= 3; v++)
            x = swatch(p, x, y, classes[v].rgb, classes[v].name);
    if (s->label && s->pred) {
        int need = 18;
        for (int v = FOUND; v <= INVENTED; v++)
            need += 28 + img_text_width(11, verdicts[v].name);
        if (x + need > right) {
            x = start;
            y += LEGEND - 6;
        } else {
            x += 18;
        }
        for (int v = FOUND; v <= INVENTED; v++)
            x = swatch(p, x, y, verdicts[v].rgb, verdicts[v].name);
    }
}

static void draw_side(struct img_picture *p, int x, int y, int w, long z)
{
    char t[32];
    snprintf(t, sizeof t, "z %ld", z);
    img_text(p, x + 4, y + 14, 11, false, 0xdddddd, t);
    /* Radiological view: the patient's right is on the left of the picture. */
    img_text(p, x + 4, y + w / 2, 10, false, 0x999999, "R");
    img_text(p, x + w - 11, y + w / 2, 10, false, 0x999999, "L");
}

static void draw_row(struct img_picture *p, const struct img_sheet *s, const struct img_slice *sl,
                     int x, int y, int step)
{
    for (int i = 0; i < s->nscan; i++, x += step) {
        img_scan(p, sl->scan[i], sl->w, sl->h, x, y, s->zoom);
        if (i == 0)
            draw_side(p, x, y, sl->w * s->zoom, sl->z);
    }
    for (int k = 0; k < 2; k++)
        if (k == 0 ? s->label : s->pred) {
            img_scan(p, sl->scan[0], sl->w, sl->h, x, y, s->zoom);
            draw_classes(p, s, k == 0 ? sl->label : sl->pred, sl->w, sl->h, x, y);
            x += step;
        }
    if (s->label && s->pred) {
        img_scan(p, sl->scan[0], sl->w, sl->h, x, y, s->zoom);
        draw_overlap(p, sl, x, y, s->zoom);
    }
}

static void draw_head(struct img_picture *p, const struct img_sheet *s, int step, int y)
{
    const char *names[IMG_SHEET_SCANS + 3];
    int k = 0;
    img_text(p, MARGIN, MARGIN + 14, 15, true, 0xffffff, s->title);
    img_text(p, MARGIN, MARGIN + TITLE + 10, 12, false, 0xbbbbbb, s->note);
    for (; k < s->nscan; k++)
        names[k] = s->scan_name[k];
    if (s->label)
        names[k++] = "truth";
    if (s->pred)
        names[k++] = "prediction";
    if (s->label && s->pred)
        names[k++] = "overlap";
    for (int i = 0; i < k; i++)
        img_text(p, MARGIN + i * step, y - 6, 12, false, 0xdddddd, names[i]);
}

int img_sheet_draw(const struct img_sheet *s, const struct img_slice *sl, int n,
                   struct img_picture *out)
{
    int panels = s->nscan + s->label + s->pred + (s->label && s->pred), w = 0;
    int y = MARGIN + TITLE + (*s->note ? NOTE : 0) + HEAD;
    double height = y;
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
    if (img_picture_new(out, (int)width, (int)height, 0x16181d))
        return -2;
    draw_head(out, s, (int)step, y);
    for (int i = 0; i < n; i++) {
        draw_row(out, s, &sl[i], MARGIN, y, (int)step);
        y += sl[i].h * s->zoom + GAP;
    }
    draw_legend(out, s, MARGIN, y + LEGEND - 8, (int)width - MARGIN);
    return 0;
}
