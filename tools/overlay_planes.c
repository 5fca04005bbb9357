/* A case in three planes, and its voxels for a page that scrolls through them. */
#include "tools/overlay.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/atomic.h"
#include "formats/contract.h"
#include "formats/png.h"

enum { X, Y, Z, AXES, SCANS = 2, AROUND = 3, SAMPLE = 1 << 18 };

#define MAX_VOXELS (1u << 28)

/* The case in hand, x fastest: to the patient's left, to the posterior, to the superior. */
static struct {
    char name[256];
    size_t size[AXES], voxels;
    double mm[AXES];
    const char *modality[SCANS];
    int scans;
    float *scan[SCANS];
    uint8_t *grey[SCANS];
    uint8_t *mark, *heat;      /* prediction, or else label; NULL where there is none */
    size_t lo[AXES], hi[AXES]; /* what is drawn, to one past the last */
    size_t at[AXES];           /* the plane across each axis */
} now;

static struct names done;

/* The first two of -m of which the case has a scan; if it has none, the first. */
static void choose_scans(const struct overlay_options *o, struct tns_record *rec)
{
    const char *missing = tns_get(&rec->meta, "missing");
    now.scans = 0;
    for (int i = 0; i < o->nmodality && now.scans < SCANS; i++)
        if (!missing || contract_find(missing, o->modality[i], strlen(o->modality[i])) < 0)
            now.modality[now.scans++] = o->modality[i];
    if (!now.scans)
        now.modality[now.scans++] = o->modality[0];
}

static void begin(const struct overlay_options *o, struct tns_record *rec, const char *name)
{
    const struct tensor *image = tool_need(rec, "image", DT_COUNT, 3);
    double mm[AXES];
    if (names_find(&done, name) != NAMES_NONE)
        tool_die_at(rec, "records of this case are not together");
    if (strlen(name) >= sizeof now.name)
        tool_die_at(rec, "key 'case' is too long");
    tool_spacing(rec, mm);
    strcpy(now.name, name);
    now.size[X] = image->dim[2];
    now.size[Y] = image->dim[1];
    now.size[Z] = (size_t)tool_need_int(rec, "slices", 1, 100000);
    for (int a = 0; a < AXES; a++)
        now.mm[a] = mm[AXES - 1 - a];
    if (now.size[X] * now.size[Y] > MAX_VOXELS / now.size[Z])
        tool_die_at(rec, "-p: too large a case (wanted at most %u voxels)", MAX_VOXELS);
    now.voxels = now.size[X] * now.size[Y] * now.size[Z];
    choose_scans(o, rec);
    for (int i = 0; i < now.scans; i++) {
        now.scan[i] = tool_alloc(now.voxels * sizeof *now.scan[i]);
        memset(now.scan[i], 0, now.voxels * sizeof *now.scan[i]);
    }
    if (tns_tensor(rec, "pred") || tns_tensor(rec, "label"))
        memset(now.mark = tool_alloc(now.voxels), 0, now.voxels);
    if (o->heat)
        memset(now.heat = tool_alloc(now.voxels), 0, now.voxels);
}

static void put(uint8_t *to, const uint8_t *from, size_t n)
{
    memcpy(to, from, n);
    free((void *)from);
}

void planes_take(const struct overlay_options *o, struct tns_record *rec)
{
    const char *name = tool_need_key(rec, "case");
    const struct tensor *image = tool_need(rec, "image", DT_COUNT, 3);
    uint32_t h = image->dim[1], w = image->dim[2];
    size_t n = (size_t)h * w, at;
    if (strcmp(name, now.name) || !*now.name) {
        planes_end(o);
        begin(o, rec, name);
    }
    if (w != now.size[X] || h != now.size[Y])
        tool_die_at(rec, "-p: slices of one case differ in size (wanted %zux%zu, got %ux%u)",
                    now.size[Y], now.size[X], h, w);
    at = n * (size_t)tool_need_int(rec, "slice", 0, (long)now.size[Z] - 1);
    for (int i = 0; i < now.scans; i++)
        tensor_to_f32(image, overlay_channel(rec, now.modality[i], image->dim[0]) * n, n,
                      now.scan[i] + at);
    if (now.mark)
        put(now.mark + at, overlay_labels(rec, tns_tensor(rec, "pred") ? "pred" : "label", h, w),
            n);
    if (now.heat)
        put(now.heat + at, overlay_heat(rec, o->heat, h, w), n);
}

/* --- a case leaves ---------------------------------------------------------------------------- */

static void make_grey(int scan)
{
    float *v = now.scan[scan], range[2], *sample = tool_alloc(SAMPLE * sizeof *sample);
    size_t there = 0, step, m = 0, k = 0;
    for (size_t i = 0; i < now.voxels; i++)
        there += v[i] != 0;
    step = there / SAMPLE + 1;
    for (size_t i = 0; i < now.voxels; i++)
        if (v[i] != 0 && k++ % step == 0 && isfinite(v[i]))
            sample[m++] = v[i];
    img_grey_range(sample, m, range);
    free(sample);
    now.grey[scan] = tool_alloc(now.voxels);
    img_grey(v, now.voxels, range, now.grey[scan]);
    free(v);
    now.scan[scan] = NULL;
}

/* What is not black or marked, and a margin; and of each axis the plane with the most tumour, or
 * the middle where there is none. */
static void look(void)
{
    size_t *count[AXES], i = 0;
    for (int a = 0; a < AXES; a++) {
        memset(count[a] = tool_alloc(now.size[a] * sizeof *count[a]), 0,
               now.size[a] * sizeof *count[a]);
        now.lo[a] = now.size[a];
        now.hi[a] = 0;
    }
    for (size_t z = 0; z < now.size[Z]; z++)
        for (size_t y = 0; y < now.size[Y]; y++)
            for (size_t x = 0; x < now.size[X]; x++, i++) {
                const size_t p[AXES] = {x, y, z};
                const bool marked = now.mark && now.mark[i];
                bool there = marked;
                for (int k = 0; k < now.scans; k++)
                    there |= now.grey[k][i] != 0;
                for (int a = 0; a < AXES && there; a++) {
                    now.lo[a] = p[a] < now.lo[a] ? p[a] : now.lo[a];
                    now.hi[a] = p[a] >= now.hi[a] ? p[a] + 1 : now.hi[a];
                    count[a][p[a]] += marked;
                }
            }
    for (int a = 0; a < AXES; a++) {
        if (!now.hi[a])
            now.lo[a] = 0, now.hi[a] = now.size[a];
        now.lo[a] -= now.lo[a] < AROUND ? now.lo[a] : AROUND;
        now.hi[a] += now.size[a] - now.hi[a] < AROUND ? now.size[a] - now.hi[a] : AROUND;
        now.at[a] = (now.lo[a] + now.hi[a]) / 2;
        for (size_t k = now.lo[a]; k < now.hi[a]; k++)
            if (count[a][k] > count[a][now.at[a]])
                now.at[a] = k;
        free(count[a]);
    }
}

/* The plane across an axis: columns along `c`, rows along `r`, from the top of the head down. */
static const uint8_t *plane(const uint8_t *volume, int across, int c, int r)
{
    const size_t step[AXES] = {1, now.size[X], now.size[X] * now.size[Y]};
    uint8_t *out, *to;
    if (!volume)
        return NULL;
    to = out = tool_alloc((now.hi[c] - now.lo[c]) * (now.hi[r] - now.lo[r]));
    for (size_t j = now.lo[r]; j < now.hi[r]; j++) {
        const size_t row = r == Z ? now.lo[r] + now.hi[r] - 1 - j : j;
        for (size_t i = now.lo[c]; i < now.hi[c]; i++)
            *to++ = volume[now.at[across] * step[across] + i * step[c] + row * step[r]];
    }
    return out;
}

static const char *path_of(const struct overlay_options *o, const char *what, const char *ending)
{
    struct tns_record named = {0};
    const char *path;
    tool_set(&named, "case", "%s", now.name);
    path = tool_case_path(&named, o->dir, "_%s%s", what, ending);
    tns_release(&named);
    return path;
}

static void draw_plane(const struct overlay_options *o, int across, int c, int r, const char *name)
{
    const double least = fmin(now.mm[X], fmin(now.mm[Y], now.mm[Z]));
    const double zoom[2] = {o->zoom * now.mm[c] / least, o->zoom * now.mm[r] / least};
    struct img_slice s = {.w = (int)(now.hi[c] - now.lo[c]), .h = (int)(now.hi[r] - now.lo[r])};
    struct img_picture p;
    char ending[80];
    s.scan[0] = plane(now.grey[0], across, c, r);
    s.pred = plane(now.mark, across, c, r);
    s.heat = plane(now.heat, across, c, r);
    int drawn = img_panel_draw(&s, IMG_PANEL_LINES, zoom, &p);
    overlay_save(path_of(o, name, ".png"), &p, drawn);
    if (o->heat) {
        snprintf(ending, sizeof ending, "_%.63s.png", o->heat);
        drawn = img_panel_draw(&s, IMG_PANEL_HEAT, zoom, &p);
        overlay_save(path_of(o, name, ending), &p, drawn);
    }
    free((void *)s.scan[0]);
    free((void *)s.pred);
    free((void *)s.heat);
}

/* All axial slices in one picture, side by side: red the first scan, green the second, blue the
 * label in three bits and the heat in the five above. */
static int draw_voxels(const struct overlay_options *o)
{
    const size_t w = now.hi[X] - now.lo[X], h = now.hi[Y] - now.lo[Y], d = now.hi[Z] - now.lo[Z];
    const size_t columns = (size_t)ceil(sqrt((double)d * (double)h / (double)w));
    const size_t rows = (d + columns - 1) / columns;
    const uint8_t *second = now.grey[now.scans - 1];
    struct img_picture p = {0};
    int drawn = columns * w > IMG_SHEET_MAX_SIDE || rows * h > IMG_SHEET_MAX_SIDE ? -1
                : img_picture_new(&p, (int)(columns * w), (int)(rows * h), 0)     ? -2
                                                                                  : 0;
    for (size_t z = 0; z < d && !drawn; z++)
        for (size_t y = 0; y < h; y++)
            for (size_t x = 0; x < w; x++) {
                const size_t i =
                    x + now.lo[X] + now.size[X] * (y + now.lo[Y] + now.size[Y] * (z + now.lo[Z]));
                const uint32_t mark = now.mark ? now.mark[i] & 7u : 0;
                const uint32_t heat = now.heat ? now.heat[i] & 0xf8u : 0;
                p.pixels[(z / columns * h + y) * columns * w + z % columns * w + x] =
                    (uint32_t)now.grey[0][i] << 16 | (uint32_t)second[i] << 8 | mark | heat;
            }
    overlay_save(path_of(o, "voxels", ".png"), &p, drawn);
    return (int)columns;
}

static void write_facts(const struct overlay_options *o, int columns)
{
    const char *path = path_of(o, "voxels", ".tsv");
    char text[1024], why[256];
    int n = snprintf(text, sizeof text,
                     "size\t%zu %zu %zu\ncolumns\t%d\nspacing\t%.9g %.9g %.9g\norigin\t%zu %zu "
                     "%zu\ngrid\t%zu %zu %zu\nat\t%zu %zu %zu\n",
                     now.hi[X] - now.lo[X], now.hi[Y] - now.lo[Y], now.hi[Z] - now.lo[Z], columns,
                     now.mm[X], now.mm[Y], now.mm[Z], now.lo[X], now.lo[Y], now.lo[Z], now.size[X],
                     now.size[Y], now.size[Z], now.at[X], now.at[Y], now.at[Z]);
    for (int i = 0; i < now.scans; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "scan\t%.60s\n", now.modality[i]);
    if (afile_put(path, text, (size_t)n, why, sizeof why))
        tool_die("%s: %s", path, why);
}

void planes_end(const struct overlay_options *o)
{
    if (!*now.name)
        return;
    for (int i = 0; i < now.scans; i++)
        make_grey(i);
    look();
    draw_plane(o, Z, X, Y, "axial");
    draw_plane(o, Y, X, Z, "coronal");
    draw_plane(o, X, Y, Z, "sagittal");
    write_facts(o, draw_voxels(o));
    tool_add_name(&done, now.name);
    for (int i = 0; i < now.scans; i++)
        free(now.grey[i]);
    free(now.mark);
    free(now.heat);
    memset(&now, 0, sizeof now);
}
