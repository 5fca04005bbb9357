/* Whole pixels and integers, so that a picture is the same on every machine; letters alone are
 * drawn from distances, in double. */
#include "lib/image/canvas.h"

#include <math.h>
#include <stdlib.h>

/* --- pixels ----------------------------------------------------------------------------------- */

int img_picture_new(struct img_picture *p, int width, int height, uint32_t rgb)
{
    *p = (struct img_picture){width, height, malloc((size_t)width * (size_t)height * 4)};
    if (!p->pixels)
        return -1;
    for (size_t i = 0, n = (size_t)width * (size_t)height; i < n; i++)
        p->pixels[i] = rgb;
    return 0;
}

void img_picture_free(struct img_picture *p)
{
    free(p->pixels);
    *p = (struct img_picture){0};
}

static void blend(struct img_picture *p, int x, int y, uint32_t rgb, int alpha)
{
    if (x < 0 || y < 0 || x >= p->width || y >= p->height || alpha <= 0)
        return;
    uint32_t *to = &p->pixels[(size_t)y * (size_t)p->width + (size_t)x], out = 0;
    for (int shift = 0; shift < 24; shift += 8) {
        int a = (int)(rgb >> shift & 255), b = (int)(*to >> shift & 255);
        out |= (uint32_t)((a * alpha + b * (255 - alpha) + 127) / 255) << shift;
    }
    *to = out;
}

void img_box(struct img_picture *p, int x, int y, int w, int h, uint32_t rgb, int alpha)
{
    for (int j = y; j < y + h; j++)
        for (int i = x; i < x + w; i++)
            blend(p, i, j, rgb, alpha);
}

/* Along one side: n voxels on `pixels`. */
static int first_pixel(int i, int n, int pixels)
{
    return (int)((int64_t)i * pixels / n);
}

static int voxel_of(int pixel, int n, int pixels)
{
    return (int)((((int64_t)pixel + 1) * n - 1) / pixels);
}

int img_area_x(const struct img_area *a, int column)
{
    return a->x + first_pixel(column, a->w, a->wide);
}

int img_area_y(const struct img_area *a, int row)
{
    return a->y + first_pixel(row, a->h, a->high);
}

int img_area_column(const struct img_area *a, int x)
{
    return voxel_of(x - a->x, a->w, a->wide);
}

int img_area_row(const struct img_area *a, int y)
{
    return voxel_of(y - a->y, a->h, a->high);
}

/* Where a pixel lies between the centres of two voxels: the first, and the share of the second in
 * 1/(2 pixels). */
static int between(int i, int n, int pixels, int64_t *share)
{
    int64_t at = (2 * (int64_t)i + 1) * n - pixels; /* from the first centre */
    if (at < 0 || at >= 2 * (int64_t)pixels * (n - 1)) {
        *share = 0;
        return at < 0 ? 0 : n - 1;
    }
    *share = at % (2 * pixels);
    return (int)(at / (2 * pixels));
}

void img_scan(struct img_picture *p, const uint8_t *grey, const struct img_area *s)
{
    int64_t across = 2 * s->wide, down = 2 * s->high;
    for (int j = 0; j < s->high; j++) {
        int64_t a, b;
        int r = between(j, s->h, s->high, &b);
        const uint8_t *up = grey + (size_t)r * (size_t)s->w, *low = b ? up + s->w : up;
        for (int i = 0; i < s->wide; i++) {
            int q = between(i, s->w, s->wide, &a), next = a ? q + 1 : q;
            int64_t v = (down - b) * ((across - a) * up[q] + a * up[next]) +
                        b * ((across - a) * low[q] + a * low[next]);
            v = (v + across * down / 2) / (across * down);
            blend(p, s->x + i, s->y + j, (uint32_t)v * 0x010101u, 255);
        }
    }
}

/* --- text ------------------------------------------------------------------------------------- */

/* Strokes of the characters from ' ' to '~': a digit across and a digit up for each point, a blank
 * where the pen is lifted. Capitals stand from 2 to 9, small letters to 7. */
static const char *const strokes[] = {
    "",
    "0904 0202",
    "0907 2927",
    "1129 3149 0444 0747",
    "483919080716354443321203 2120 2129",
    "0259 0819281708 3344534233",
    "5217182938370403123255",
    "0907",
    "291806041221",
    "091826241201",
    "2428 0547 0745",
    "2327 0545",
    "121100",
    "0535",
    "0202",
    "0149",
    /* 0 */ "193948433212030819",
    "072922 0242",
    "08193948460242",
    "0819394847364543321203 1636",
    "32390444",
    "490906364543321203",
    "483919080312324345361605",
    "094912",
    "16070819394847361605031232434536",
    "031232434839190806153546",
    /* : */ "0202 0606",
    "121100 1616",
    "380532",
    "0444 0646",
    "083502",
    "08193948472524 2222",
    "53421203081949585544 473726253444 4744",
    /* A */ "022942 1535",
    "02093948473606 3645433202",
    "4839190803123243",
    "02093948433202",
    "49090242 0636",
    "490902 0636",
    "48391908031232434525",
    "0902 4942 0646",
    "0902",
    "3933221203",
    "0902 4905 1642",
    "090242",
    "0209356962",
    "02094249",
    "194958534212030819",
    "02093948463505",
    "194958534212030819 3452",
    "02093948463505 2542",
    "483919080716354443321203",
    "0949 2922",
    "090312324349",
    "092249",
    "0912375269",
    "0942 4902",
    "092649 2622",
    "09490242",
    /* [ */ "29090121",
    "0941",
    "09292101",
    "072947",
    "0151",
    "0918",
    /* a */ "0617374642 45150403123243",
    "0902 0312324346371706",
    "4637170603123243",
    "4942 4332120306173746",
    "05454637170603123243",
    "39291812 0737",
    "4741301001 4332120306173746",
    "0902 0617374642",
    "0702 0909",
    "171100 1919",
    "0902 3704 1532",
    "090312",
    "0702 0617273632 3647576662",
    "0702 0617374642",
    "173746433212030617",
    "0700 0312324346371706",
    "4740 4332120306173746",
    "0702 052737",
    "463717061534433212 1203",
    "19132232 0737",
    "070312324347 4742",
    "072247",
    "0712365267",
    "0742 4702",
    "0722 471000",
    "07470242",
    /* { */ "29181605141221",
    "0901",
    "09181625141201",
    "05163445",
};
static const char unknown[] = "0209494202";

static const char *glyph(unsigned char c)
{
    return c >= ' ' && c <= '~' ? strokes[c - ' '] : unknown;
}

/* The bytes of one character of UTF-8 after its first are none of their own. */
static bool continues(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

static double unit(int size)
{
    return 0.104 * size;
}

static double advance(const char *g, int size)
{
    int right = *g ? 0 : 2;
    for (; *g; g += *g == ' ' ? 1 : 2)
        if (*g != ' ' && *g - '0' > right)
            right = *g - '0';
    return unit(size) * (right + 1.9);
}

/* Square of the distance of (x, y) from the segment a-b. */
static double distance(double x, double y, const double a[2], const double b[2])
{
    double dx = b[0] - a[0], dy = b[1] - a[1], n = dx * dx + dy * dy;
    double t = n > 0 ? ((x - a[0]) * dx + (y - a[1]) * dy) / n : 0;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    dx = x - a[0] - t * dx;
    dy = y - a[1] - t * dy;
    return dx * dx + dy * dy;
}

/* How far pixel (x, y), seen from the start of the line, is from the nearest stroke. */
static double nearest(const char *g, double x, double y, double u)
{
    double a[2] = {0, 0}, b[2], best = 1e9;
    bool down = false;
    for (; *g; g += 2) {
        if (*g == ' ') {
            down = false;
            g++;
        }
        b[0] = (g[0] - '0') * u;
        b[1] = (2 - (g[1] - '0')) * u;
        double d = down ? distance(x, y, a, b) : distance(x, y, b, b);
        best = d < best ? d : best;
        a[0] = b[0];
        a[1] = b[1];
        down = true;
    }
    return sqrt(best);
}

void img_text(struct img_picture *p, int x, int y, int size, bool bold, uint32_t rgb, const char *s)
{
    double u = unit(size), half = size * (bold ? 0.075 : 0.055), left = x + 0.5 + half;
    for (; *s && left < p->width; s++) {
        if (continues((unsigned char)*s))
            continue;
        const char *g = glyph((unsigned char)*s);
        double step = advance(g, size), foot = y - half;
        for (int j = (int)(foot - 7 * u - 2); *g && j <= (int)(foot + 2 * u + 2); j++)
            for (int i = (int)(left - 2); i <= (int)(left + step); i++) {
                double cover = half + 0.5 - nearest(g, i + 0.5 - left, j + 0.5 - foot, u);
                blend(p, i, j, rgb, cover >= 1 ? 255 : (int)(255 * cover));
            }
        left += step;
    }
}

int img_text_width(int size, const char *s)
{
    double w = 0;
    for (; *s; s++)
        if (!continues((unsigned char)*s))
            w += advance(glyph((unsigned char)*s), size);
    return (int)ceil(w);
}
