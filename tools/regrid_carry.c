/* A file is carried onto the target: it is inflated into a file without a name, in bricks, and each
 * slice of the target looks at it where the map says. The slices go into a second such file, and
 * wait there: what the first record tells of them is known when the last one is made. So nothing
 * that is held grows with the number of slices, of the scan or of the target. */
#include "tools/regrid.h"
#include "tools/tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOGETHER 8 /* slices of the target, of which what they look at stays in memory */

static struct {
    int scan, result;
    const char *dir;
    uint64_t end; /* of the results */
} on_disk;

void carry_open(void)
{
    on_disk.dir = tool_tmpdir();
    on_disk.scan = tool_nameless(NULL);
    on_disk.result = tool_nameless(NULL);
}

void carry_anew(void)
{
    on_disk.end = 0;
}

static size_t slice_of(const struct target *t)
{
    return (size_t)t->grid[0] * t->grid[1];
}

void carried_slice(const struct carried *c, const struct target *t, uint32_t z, void *out)
{
    size_t bytes = slice_of(t) * dtype_size(c->type);

    tool_get_at(on_disk.result, on_disk.dir, out, bytes, c->at + z * bytes);
}

static void put_slice(const struct carried *c, const struct target *t, uint32_t z,
                      const void *slice)
{
    size_t bytes = slice_of(t) * dtype_size(c->type);

    tool_put_at(on_disk.result, on_disk.dir, slice, bytes, c->at + z * bytes);
    on_disk.end = c->at + (z + 1) * bytes;
}

/* --- a scan to look at ------------------------------------------------------------------------ */

struct source {
    struct img_volume look; /* canonical */
    struct affine to;       /* index of the target to index of that */
    struct nii_channel channel;
    uint8_t header[NII_HEADER];
    struct tool_volume *lies; /* as in the file */
    size_t *backwards[3];     /* where an axis is turned */
};

enum kind { SCAN, LABEL, MASK };

/* Plane after plane of the file into bricks; of a mask 0 and 1. */
static void into_bricks(struct nii_reader *reader, const struct nii_header *h, enum kind kind,
                        struct source *s)
{
    const size_t n = (size_t)h->dim[0] * h->dim[1];
    const enum dtype type = kind == LABEL ? DT_U8 : DT_F32;
    struct img_volume *v = &s->look;
    char why[NII_WHY];
    float *plane = tool_alloc(n * dtype_size(type));

    v->least = INFINITY;
    v->most = -INFINITY;
    s->lies = tool_volume_new(on_disk.scan, on_disk.dir, h->dim, dtype_size(type));
    for (uint32_t k = 0; k < h->dim[2]; k++) {
        if (nii_plane(reader, k, type, plane, why))
            tool_die("%s", why);
        for (size_t i = 0; kind == MASK && i < n; i++)
            plane[i] = plane[i] != 0;
        for (size_t i = 0; kind != LABEL && i < n; i++) {
            v->least = plane[i] < v->least ? plane[i] : v->least;
            v->most = plane[i] > v->most ? plane[i] : v->most;
        }
        tool_volume_put(s->lies, plane);
    }
    free(plane);
    tool_volume_show(s->lies);
}

/* The axes of the file as those of the patient. */
static void turn(const struct nii_header *h, struct source *s)
{
    struct img_volume *v = &s->look;

    v->voxels = s->lies->voxels;
    for (int c = 0; c < 3; c++) {
        const uint32_t n = v->grid[c] = h->grid[c];
        const size_t *lies = s->lies->at[h->axis[c]];
        v->at[c] = lies;
        if (!h->flip[c])
            continue;
        v->at[c] = s->backwards[c] = tool_alloc(n * sizeof(size_t));
        for (uint32_t i = 0; i < n; i++)
            s->backwards[c][i] = lies[n - 1 - i];
    }
}

static void open_source(const char *path, enum kind kind, const struct target *t,
                        const struct affine *map, struct source *s)
{
    char why[NII_WHY];
    struct nii_reader *reader;
    struct affine place, back, there = affine_then(&t->place, map);
    size_t n;
    struct nii_file *f = nii_open(path, why);

    memset(s, 0, sizeof *s);
    if (!f)
        tool_die("%s", why);
    const struct nii_header h = *nii_head(f);
    memcpy(s->header, nii_bytes(f, &n), NII_HEADER);
    if (h.channels != 1)
        tool_die("%s: wrong number of volumes (wanted 1, got %u)", path, h.channels);
    place = nii_place(&h);
    if (!affine_inverse(&place, &back))
        tool_die("%s: the orientation matrix is singular", path);
    s->to = affine_then(&there, &back);
    if (nii_scan(f, kind == LABEL, &s->channel, NULL, 0, &reader, why))
        tool_die("%s", why);
    nii_close(f);
    into_bricks(reader, &h, kind, s);
    if (nii_unchanged(reader, why))
        tool_die("%s", why);
    nii_reader_free(reader);
    turn(&h, s);
}

static void close_source(struct source *s)
{
    for (int c = 0; c < 3; c++)
        free(s->backwards[c]);
    tool_volume_free(s->lies);
}

static void looked(struct source *s, uint32_t z)
{
    if ((z + 1) % TOGETHER == 0)
        tool_volume_forget(s->lies);
}

/* --- onto the target -------------------------------------------------------------------------- */

void carry_mask(const char *path, const struct target *t, const struct affine *map,
                struct carried *out)
{
    struct source from;
    const uint32_t w = t->grid[0], h = t->grid[1];
    float *slice = tool_alloc(slice_of(t) * sizeof *slice);
    uint8_t *mask = tool_alloc(slice_of(t));
    size_t kept = 0;

    *out = (struct carried){.type = DT_U8, .at = on_disk.end};
    open_source(path, MASK, t, map, &from);
    for (uint32_t z = 0; z < t->grid[2]; z++) {
#pragma omp parallel for schedule(dynamic, 8) reduction(+ : kept)
        for (uint32_t y = 0; y < h; y++) {
            img_resample(&from.look, &from.to, IMG_LINEAR, z, y, w, slice + (size_t)y * w);
            for (size_t i = (size_t)y * w; i < (size_t)(y + 1) * w; i++)
                kept += mask[i] = slice[i] >= 0.5f;
        }
        put_slice(out, t, z, mask);
        looked(&from, z);
    }
    close_source(&from);
    free(slice);
    free(mask);
    if (!kept)
        tool_die("%s: the mask leaves nothing", path);
}

static double value(const struct carried *c, const void *slice, size_t i)
{
    return c->type == DT_I16 ? ((const int16_t *)slice)[i] : ((const float *)slice)[i];
}

/* The slice's sum, of so many values, in their order; its box. */
static void add_up(struct carried *c, const struct target *t, const void *slice, double *sum,
                   size_t *count)
{
    size_t i = 0;

    for (uint32_t y = 0; y < t->grid[1]; y++)
        for (uint32_t x = 0; x < t->grid[0]; x++, i++) {
            double v = value(c, slice, i);
            if (v == 0)
                continue;
            *sum += v;
            ++*count;
            c->box[0] = y < c->box[0] ? y : c->box[0];
            c->box[1] = x < c->box[1] ? x : c->box[1];
            c->box[2] = y + 1 > c->box[2] ? y + 1 : c->box[2];
            c->box[3] = x + 1 > c->box[3] ? x + 1 : c->box[3];
        }
}

static double spread(const struct carried *c, const struct target *t, void *slice)
{
    double square = 0;

    for (uint32_t z = 0; z < t->grid[2]; z++) {
        carried_slice(c, t, z, slice);
        for (size_t i = 0; i < slice_of(t); i++) {
            double v = value(c, slice, i);
            square += v != 0 ? (v - c->mean) * (v - c->mean) : 0;
        }
    }
    return square;
}

void carry_scan(const char *path, const struct target *t, const struct affine *map,
                enum img_kernel kernel, const struct carried *mask, struct carried *out)
{
    struct source from;
    const uint32_t w = t->grid[0], h = t->grid[1];
    float *slice = tool_alloc(slice_of(t) * sizeof *slice);
    uint8_t *within = mask ? tool_alloc(slice_of(t)) : NULL;
    uint64_t inside = 0;
    size_t count = 0;
    double sum = 0;
    void *made;

    open_source(path, SCAN, t, map, &from);
    from.look.air = true;
    *out = (struct carried){.type = from.channel.whole ? DT_I16 : DT_F32,
                            .at = on_disk.end,
                            .print = from.channel.print,
                            .box = {UINT32_MAX, UINT32_MAX, 0, 0}};
    memcpy(out->header, from.header, NII_HEADER);
    made = out->type == DT_F32 ? (void *)slice : tool_alloc(slice_of(t) * sizeof(int16_t));
    for (uint32_t z = 0; z < t->grid[2]; z++) {
        if (mask)
            carried_slice(mask, t, z, within);
#pragma omp parallel for schedule(dynamic, 8) reduction(+ : inside)
        for (uint32_t y = 0; y < h; y++) {
            inside += img_resample(&from.look, &from.to, kernel, z, y, w, slice + (size_t)y * w);
            for (size_t i = (size_t)y * w; i < (size_t)(y + 1) * w; i++) {
                slice[i] = mask && !within[i] ? 0 : slice[i];
                if (out->type == DT_I16)
                    ((int16_t *)made)[i] = (int16_t)lrintf(slice[i]);
            }
        }
        add_up(out, t, made, &sum, &count);
        put_slice(out, t, z, made);
        looked(&from, z);
    }
    close_source(&from);
    out->inside = inside;
    out->mean = count ? sum / (double)count : 0;
    out->std = count ? sqrt(spread(out, t, made) / (double)count) : 0;
    if (made != slice)
        free(made);
    free(slice);
    free(within);
}

void carry_label(const char *path, const struct target *t, const struct affine *map,
                 struct carried *out)
{
    struct source from;
    const uint32_t w = t->grid[0], h = t->grid[1];
    uint8_t *slice = tool_alloc(slice_of(t));

    *out = (struct carried){.type = DT_U8, .at = on_disk.end};
    open_source(path, LABEL, t, map, &from);
    for (uint32_t z = 0; z < t->grid[2]; z++) {
#pragma omp parallel for schedule(dynamic, 8)
        for (uint32_t y = 0; y < h; y++)
            img_resample_nearest(&from.look, 1, &from.to, z, y, w, slice + (size_t)y * w);
        put_slice(out, t, z, slice);
        looked(&from, z);
    }
    close_source(&from);
    free(slice);
}
