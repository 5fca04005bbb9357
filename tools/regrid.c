/* regrid - scans of several grids and places onto one grid, each interpolated once
 *
 * It is one thing: a case is found, its maps are composed, its scans are carried over, its slices
 * are written.
 *
 * reads   NIfTI files, transforms
 * adds    image, label, nifti; case, patient, slice, slices, modalities, scheme, spacing, brain,
 * mean, std, fingerprint; missing with -a */
#include "formats/layout.h"
#include "formats/nifti.h"
#include "formats/nifti_write.h"
#include "formats/origin.h"
#include "formats/transform.h"
#include "lib/image/patient.h"
#include "lib/image/resample.h"
#include "tools/tool.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "[-Hv] [-g scan|brats|mni152|FILE] [-s MM] [-n linear|cubic|lanczos]\n"
    "              [-a NAME,...] [-k MASK] [-j THREADS] [-m NAME=PATTERN,...] CASE... > STREAM";

enum { T1GD = 2, MASK = LAY_FILES, ATLAS_SPACE = 2, SCANNER_SPACE = 1 };

#define LEAST_HEAD 100.0 /* mm that a scan of a head shows along each axis */
#define LEAST_SHARE 0.1  /* of the T1 with contrast agent that a scan has to show, */
#define GOOD_SHARE 0.6   /* and without a warning */
#define MOST_TURN 45.0   /* degrees */

static struct {
    const char *grid, *mask;
    const char *pattern[LAY_FILES];
    double spacing;
    enum img_kernel kernel;
    long threads;
    unsigned may_lack;
} opt = {.grid = "scan", .spacing = 1};

/* Where the voxels of the result lie. */
struct target {
    uint32_t grid[3];
    double spacing[3];
    struct affine place; /* index to mm */
    int space;
};

static struct target fixed; /* for all cases, unless each has its own */
static bool own;

/* --- the cases -------------------------------------------------------------------------------- */

struct study {
    struct lay_case c;
    char mask[LAY_PATH];
    struct affine map[LAY_MODALITIES]; /* mm of the result to mm of each scan */
    bool atlas;
};

static struct lay_list list;

static void find_case(size_t i, struct lay_case *c)
{
    char why[NII_WHY];

    if (lay_list_case(&list, i, c, why))
        tool_die("%s", why);
}

/* A file beside the T1 with contrast agent. */
static void beside(const struct lay_case *c, const char *name, char path[LAY_PATH])
{
    const char *slash = strrchr(c->file[T1GD], '/');
    int dir = slash ? (int)(slash - c->file[T1GD]) + 1 : 0;

    if (snprintf(path, LAY_PATH, "%.*s%s", dir, c->file[T1GD], name) >= LAY_PATH)
        tool_die("%s: the path is too long", c->name);
}

/* FROM-to-TO with one of the endings, or identity. */
static bool read_map(const struct lay_case *c, const char *from, const char *to, struct affine *map)
{
    static const char *const endings[] = {"json", "txt", "mat"};
    char name[64], path[LAY_PATH], found[LAY_PATH] = "", why[NII_WHY];
    double length[3];
    struct stat there;

    *map = affine_identity;
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s-to-%s.%s", from, to, endings[i]);
        beside(c, name, path);
        if (lstat(path, &there)) /* a link that leads nowhere is a map that is lost */
            continue;
        if (*found)
            tool_die("%s: two transforms for %s (%s and %s)", c->name, from, found, path);
        strcpy(found, path);
    }
    if (!*found)
        return false;
    if (xfm_read(found, map, why))
        tool_die("%s", why);
    affine_lengths(map, length);
    if (affine_turn(map) > MOST_TURN)
        tool_warn("%s: %s is turned by %.0f degrees: did the registration fail?", c->name, from,
                  affine_turn(map));
    for (int i = 0; i < 3; i++)
        if (length[i] < 0.7 || length[i] > 1.4) {
            tool_warn("%s: %s is stretched by %.2g: did the registration fail?", c->name, from,
                      length[i]);
            break;
        }
    tool_note("%s: %s by %s", c->name, from, found);
    return true;
}

static void find_study(size_t i, struct study *s)
{
    struct affine atlas, own_map;

    memset(s, 0, sizeof *s);
    find_case(i, &s->c);
    if (!*s->c.file[T1GD])
        tool_die("%s: no %s, on which the others are to lie", s->c.name, lay_modality[T1GD]);
    s->atlas = read_map(&s->c, lay_modality[T1GD], "atlas", &atlas);
    if (s->atlas && own)
        tool_die("%s: the T1 with contrast agent lies on an atlas (wanted -g with its grid)",
                 s->c.name);
    for (int m = 0; m < LAY_MODALITIES; m++) {
        own_map = affine_identity;
        if (m != T1GD)
            read_map(&s->c, lay_modality[m], lay_modality[T1GD], &own_map);
        s->map[m] = affine_then(&atlas, &own_map);
    }
    if (opt.mask) {
        beside(&s->c, opt.mask, s->mask);
        if (access(s->mask, F_OK))
            tool_die("%s: no mask: %s", s->mask, strerror(errno));
    }
}

/* Every case is looked at, and every transform is read, before the first record is written. */
static struct study *list_cases(int argc, char **argv)
{
    char why[NII_WHY];
    struct study *studies;

    if (lay_list(&list, LAY_BRATS, argc, argv, opt.pattern, opt.may_lack, why))
        tool_die("%s", why);
    studies = tool_alloc(list.n * sizeof *studies);
    for (size_t i = 0; i < list.n; i++) {
        struct study *s = &studies[i];
        find_study(i, s);
        for (int m = 0; m < LAY_MODALITIES; m++)
            nii_each_half(s->c.file[m], tool_may_read);
        nii_each_half(s->c.label, tool_may_read);
        nii_each_half(s->mask, tool_may_read);
    }
    return studies;
}

/* --- where to --------------------------------------------------------------------------------- */

static void set_target(struct target *t, const uint32_t grid[3], double mm, double x, double y,
                       double z)
{
    const struct affine lps = {{{-mm, 0, 0, x}, {0, -mm, 0, y}, {0, 0, mm, z}}};

    memcpy(t->grid, grid, sizeof t->grid);
    t->place = lps;
    t->space = ATLAS_SPACE;
    for (int c = 0; c < 3; c++)
        t->spacing[c] = mm;
}

static void target_of_file(const char *path, struct target *t)
{
    char why[NII_WHY];
    struct nii_file *f = nii_open(path, why);

    if (!f)
        tool_die("%s", why);
    const struct nii_header *h = nii_head(f);
    memcpy(t->grid, h->grid, sizeof t->grid);
    memcpy(t->spacing, h->spacing, sizeof t->spacing);
    t->place = nii_place(h);
    t->space = ATLAS_SPACE;
    nii_close(f);
}

/* The scan's own field, turned as it is, in cubes. */
static struct target target_of_scan(const struct nii_header *h)
{
    struct target t = {.space = SCANNER_SPACE};
    const struct affine place = nii_place(h);
    double length[3];

    affine_lengths(&place, length);
    for (int c = 0; c < 3; c++) {
        double n = ceil(h->grid[c] * h->spacing[c] / opt.spacing - 0.01);
        t.grid[c] = n < 1 ? 1 : (uint32_t)n;
        t.spacing[c] = opt.spacing;
    }
    for (int i = 0; i < 3; i++) {
        t.place.m[i][3] = place.m[i][3];
        for (int c = 0; c < 3; c++) {
            double unit = place.m[i][c] / length[c];
            t.place.m[i][c] = unit * opt.spacing;
            /* the middles are one */
            t.place.m[i][3] +=
                unit * (length[c] * (h->grid[c] - 1) - opt.spacing * (t.grid[c] - 1)) / 2;
        }
    }
    return t;
}

static void choose_grid(void)
{
    const uint32_t brats[3] = {240, 240, 155}, mni152[3] = {197, 233, 189};

    own = !strcmp(opt.grid, "scan");
    if (!strcmp(opt.grid, "brats"))
        set_target(&fixed, brats, 1, 0, 239, 0);
    else if (!strcmp(opt.grid, "mni152"))
        set_target(&fixed, mni152, 1, 98, 98, -72);
    else if (!own)
        target_of_file(opt.grid, &fixed);
}

/* --- a scan ----------------------------------------------------------------------------------- */

struct carried {
    void *voxels; /* of the result: DT_I16 or DT_F32 */
    enum dtype type;
    uint64_t print;
    double mean, std;
    uint8_t header[NII_HEADER];
};

/* The volume of a file, canonical, in one piece. */
struct source {
    struct nii_header head;
    struct nii_channel channel;
    uint8_t header[NII_HEADER];
    void *voxels;
    double share; /* of the voxels asked for that lie within */
};

static void read_source(const char *path, bool label, struct source *s)
{
    char why[NII_WHY];
    struct nii_reader *reader;
    size_t bytes, n;
    enum dtype type = label ? DT_U8 : DT_F32;
    struct nii_file *f = nii_open(path, why);

    if (!f)
        tool_die("%s", why);
    s->head = *nii_head(f);
    memcpy(s->header, nii_bytes(f, &n), NII_HEADER);
    if (s->head.channels != 1)
        tool_die("%s: wrong number of volumes (wanted 1, got %u)", path, s->head.channels);
    if (nii_scan(f, label, &s->channel, NULL, 0, &reader, why))
        tool_die("%s", why);
    nii_close(f);
    bytes = (size_t)s->head.grid[0] * s->head.grid[1] * dtype_size(type);
    s->voxels = tool_alloc(bytes * s->head.grid[2]);
    for (uint32_t z = 0; z < s->head.grid[2]; z++)
        if (nii_slice(reader, z, type, (char *)s->voxels + z * bytes, why))
            tool_die("%s", why);
    if (nii_unchanged(reader, why))
        tool_die("%s", why);
    nii_reader_free(reader);
}

/* Index of the result to index of the file. */
static struct affine route(const struct target *t, const struct affine *map,
                           const struct nii_header *h, const char *path)
{
    struct affine place = nii_place(h), back, there = affine_then(&t->place, map);

    if (!affine_inverse(&place, &back))
        tool_die("%s: the orientation matrix is singular", path);
    return affine_then(&there, &back);
}

static size_t voxels_of(const uint32_t grid[3])
{
    return (size_t)grid[0] * grid[1] * grid[2];
}

/* What a mask leaves, 1 where at least half of the place is within. NULL without one. */
static uint8_t *carry_mask(const struct study *s, const struct target *t)
{
    struct source from;
    const size_t plane = (size_t)t->grid[0] * t->grid[1];
    struct img_volume v = {.least = 0, .most = 1};
    struct affine map;
    uint8_t *mask;
    size_t n, kept = 0;

    if (!*s->mask)
        return NULL;
    read_source(s->mask, false, &from);
    map = route(t, &s->map[T1GD], &from.head, s->mask);
    memcpy(v.grid, from.head.grid, sizeof v.grid);
    n = voxels_of(v.grid);
    for (size_t i = 0; i < n; i++)
        ((float *)from.voxels)[i] = ((float *)from.voxels)[i] != 0;
    v.voxels = from.voxels;
    mask = tool_alloc(voxels_of(t->grid));
#pragma omp parallel for schedule(dynamic) reduction(+ : kept)
    for (uint32_t z = 0; z < t->grid[2]; z++) {
        float *row = tool_alloc(plane * sizeof *row);
        img_resample(&v, &map, IMG_LINEAR, z, t->grid[1], t->grid[0], row);
        for (size_t i = 0; i < plane; i++)
            kept += mask[z * plane + i] = row[i] >= 0.5f;
        free(row);
    }
    free(from.voxels);
    if (!kept)
        tool_die("%s: the mask leaves nothing", s->mask);
    return mask;
}

static double carry(const char *path, const struct target *t, const struct affine *map,
                    const uint8_t *mask, struct carried *out)
{
    struct source from;
    const size_t plane = (size_t)t->grid[0] * t->grid[1], n = voxels_of(t->grid);
    struct img_volume v = {.air = true};
    size_t inside = 0, count = 0;
    struct affine to;

    memset(out, 0, sizeof *out);
    if (!*path) { /* it is missing, and background */
        out->type = DT_I16;
        out->voxels = tool_alloc(n * sizeof(int16_t));
        memset(out->voxels, 0, n * sizeof(int16_t));
        return 0;
    }
    read_source(path, false, &from);
    to = route(t, map, &from.head, path);
    memcpy(v.grid, from.head.grid, sizeof v.grid);
    memcpy(out->header, from.header, NII_HEADER);
    v.voxels = from.voxels;
    v.least = v.most = v.voxels[0];
    for (size_t i = 0; i < voxels_of(v.grid); i++) {
        v.least = fminf(v.least, v.voxels[i]);
        v.most = fmaxf(v.most, v.voxels[i]);
    }
    out->print = from.channel.print;
    out->type = from.channel.whole ? DT_I16 : DT_F32;
    out->voxels = tool_alloc(n * dtype_size(out->type));
#pragma omp parallel for schedule(dynamic) reduction(+ : inside)
    for (uint32_t z = 0; z < t->grid[2]; z++) {
        float *row = tool_alloc(plane * sizeof *row);
        inside += img_resample(&v, &to, opt.kernel, z, t->grid[1], t->grid[0], row);
        for (size_t i = 0; i < plane; i++) {
            float x = mask && !mask[z * plane + i] ? 0 : row[i];
            if (out->type == DT_I16)
                ((int16_t *)out->voxels)[z * plane + i] = (int16_t)lrintf(x);
            else
                ((float *)out->voxels)[z * plane + i] = x;
        }
        free(row);
    }
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        double x = out->type == DT_I16 ? ((int16_t *)out->voxels)[i] : ((float *)out->voxels)[i];
        count += x != 0;
        sum += x;
    }
    out->mean = count ? sum / (double)count : 0;
    for (size_t i = 0; i < n; i++) {
        double x = out->type == DT_I16 ? ((int16_t *)out->voxels)[i] : ((float *)out->voxels)[i];
        square += x != 0 ? (x - out->mean) * (x - out->mean) : 0;
    }
    out->std = count ? sqrt(square / (double)count) : 0;
    free(from.voxels);
    return (double)inside;
}

static uint8_t *carry_label(const struct study *s, const struct target *t)
{
    struct source from;
    struct affine map;
    const size_t plane = (size_t)t->grid[0] * t->grid[1];
    uint8_t *label;

    if (!*s->c.label)
        return NULL;
    read_source(s->c.label, true, &from);
    map = route(t, &s->map[T1GD], &from.head, s->c.label);
    label = tool_alloc(voxels_of(t->grid));
#pragma omp parallel for schedule(dynamic)
    for (uint32_t z = 0; z < t->grid[2]; z++)
        img_resample_nearest(from.voxels, 1, from.head.grid, &map, z, t->grid[1], t->grid[0],
                             label + z * plane);
    free(from.voxels);
    return label;
}

/* --- a case ----------------------------------------------------------------------------------- */

/* How much of the T1 with contrast agent each scan shows, and how much of it the grid. */
static void judge(const struct study *s, const struct target *t, const struct nii_header *h,
                  const double inside[LAY_MODALITIES])
{
    const double field = h->spacing[0] * h->spacing[1] * h->spacing[2] * (double)voxels_of(h->grid),
                 voxel = t->spacing[0] * t->spacing[1] * t->spacing[2];
    double share = inside[T1GD] * voxel / field;

    for (int c = 0; c < 3; c++)
        if (h->spacing[c] * h->grid[c] < LEAST_HEAD) {
            tool_warn("%s: the scan %s shows %.0fx%.0fx%.0f mm (x, y, z): is that a whole head?",
                      s->c.name, lay_modality[T1GD], h->spacing[0] * h->grid[0],
                      h->spacing[1] * h->grid[1], h->spacing[2] * h->grid[2]);
            break;
        }
    for (int m = -1; m < LAY_MODALITIES; m++) {
        if (m >= 0 && !*s->c.file[m])
            continue;
        const char *who = m < 0 ? "the grid" : lay_modality[m],
                   *whom = m < 0 ? "scan t1gd" : "what t1gd shows";
        if (m >= 0)
            share = inside[T1GD] > 0 ? inside[m] / inside[T1GD] : 0;
        if (!(share >= LEAST_SHARE))
            tool_die("%s: %s has %.0f %% of %s (wanted at least %.0f %%: is it registered, and the "
                     "same part of the body?)",
                     s->c.name, who, 100 * share, whom, 100 * LEAST_SHARE);
        if (share < GOOD_SHARE)
            tool_warn("%s: %s has %.0f %% of %s: is it registered, and the same part of the body?",
                      s->c.name, who, 100 * share, whom);
    }
}

static void add_box(const struct carried *c, const uint32_t grid[3], uint32_t box[4])
{
    size_t i = 0;

    for (uint32_t z = 0; z < grid[2]; z++)
        for (uint32_t y = 0; y < grid[1]; y++)
            for (uint32_t x = 0; x < grid[0]; x++, i++)
                if (c->type == DT_I16 ? ((int16_t *)c->voxels)[i] != 0
                                      : ((float *)c->voxels)[i] != 0) {
                    box[0] = y < box[0] ? y : box[0];
                    box[1] = x < box[1] ? x : box[1];
                    box[2] = y + 1 > box[2] ? y + 1 : box[2];
                    box[3] = x + 1 > box[3] ? x + 1 : box[3];
                }
}

static void describe(struct tns_record *rec, const struct study *s, const struct target *t,
                     const struct carried scan[LAY_MODALITIES])
{
    char patient[LAY_NAME], names[64] = "", prints[LAY_MODALITIES * 17 + 1] = "";
    double mean[LAY_MODALITIES], std[LAY_MODALITIES];
    uint32_t box[4] = {UINT32_MAX, UINT32_MAX, 0, 0};

    img_patient(s->c.name, patient);
    for (int m = 0; m < LAY_MODALITIES; m++) {
        mean[m] = scan[m].mean;
        std[m] = scan[m].std;
        add_box(&scan[m], t->grid, box);
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", m ? "," : "",
                 lay_modality[m]);
        snprintf(prints + strlen(prints), sizeof prints - strlen(prints), "%s%016" PRIx64,
                 m ? "," : "", scan[m].print);
    }
    tool_set(rec, "case", "%s", s->c.name);
    tool_set(rec, "patient", "%s", patient);
    tool_set(rec, "slices", "%u", t->grid[2]);
    tool_set(rec, "modalities", "%s", names);
    if (*s->c.lacks) {
        tool_set(rec, "missing", "%s", s->c.lacks);
        tool_warn("%s: no scan of %s", s->c.name, s->c.lacks);
    }
    if (*s->c.label)
        tool_set(rec, "scheme", "raw");
    tool_set_numbers(rec, "spacing", 3, t->spacing);
    if (box[2])
        tool_set(rec, "brain", "%u %u %u %u", box[0], box[1], box[2] - box[0], box[3] - box[1]);
    else
        tool_set(rec, "brain", "0 0 0 0");
    tool_set_numbers(rec, "mean", LAY_MODALITIES, mean);
    tool_set_numbers(rec, "std", LAY_MODALITIES, std);
    tool_set(rec, "fingerprint", "%s", prints);
}

static void write_slices(struct tns_record *rec, const struct study *s, const struct target *t,
                         const struct carried scan[LAY_MODALITIES], const uint8_t *label,
                         const uint8_t *header, uint32_t header_bytes)
{
    const size_t plane = (size_t)t->grid[0] * t->grid[1];
    const uint32_t dim[3] = {LAY_MODALITIES, t->grid[1], t->grid[0]};
    enum dtype type = DT_I16;

    for (int m = 0; m < LAY_MODALITIES; m++)
        type = scan[m].type == DT_F32 ? DT_F32 : type;
    tns_clear(rec);
    describe(rec, s, t, scan);
    struct tensor *image = tool_add(rec, "image", type, 3, dim),
                  *labels = label ? tool_add(rec, "label", DT_U8, 2, dim + 1) : NULL;
    memcpy(tool_add(rec, "nifti", DT_U8, 1, &header_bytes)->data, header, header_bytes);
    image = tns_tensor(rec, "image");
    labels = labels ? tns_tensor(rec, "label") : NULL;
    for (uint32_t z = 0; z < t->grid[2]; z++) {
        for (int m = 0; m < LAY_MODALITIES; m++) {
            size_t e = dtype_size(scan[m].type), at = z * plane;
            char *to = (char *)image->data + (size_t)m * plane * dtype_size(type);
            if (scan[m].type == type)
                memcpy(to, (char *)scan[m].voxels + at * e, plane * e);
            else
                for (size_t i = 0; i < plane; i++)
                    ((float *)to)[i] = ((int16_t *)scan[m].voxels)[at + i];
        }
        if (labels)
            memcpy(labels->data, label + z * plane, plane);
        tool_set(rec, "slice", "%u", z);
        tool_write(rec);
    }
}

static void regrid(struct tns_record *rec, const struct study *s)
{
    char why[NII_WHY];
    struct nii_file *f = nii_open(s->c.file[T1GD], why);
    struct carried scan[LAY_MODALITIES];
    struct origin origin = {0};
    uint8_t raw[NII_HEADER], *header, *mask, *label;
    double inside[LAY_MODALITIES];
    size_t bytes;

    if (!f)
        tool_die("%s", why);
    const struct nii_header head = *nii_head(f);
    nii_close(f);
    if (*head.doubt)
        tool_warn("%s: %s", s->c.name, head.doubt);
    const struct target t = own ? target_of_scan(&head) : fixed;
    if (t.grid[0] > 16384 || t.grid[1] > 16384 || t.grid[2] > 16384 ||
        (double)t.grid[0] * t.grid[1] > 1e8 || voxels_of(t.grid) > (size_t)1 << 32)
        tool_die("%s: a grid of %ux%ux%u (wanted a larger -s)", s->c.name, t.grid[0], t.grid[1],
                 t.grid[2]);
    mask = carry_mask(s, &t);
    for (int m = 0; m < LAY_MODALITIES; m++) {
        inside[m] = carry(s->c.file[m], &t, &s->map[m], mask, &scan[m]);
        if (*s->c.file[m])
            origin_add(&origin, lay_modality[m], &s->map[m], scan[m].header);
    }
    judge(s, &t, &head, inside);
    label = carry_label(s, &t);
    nii_make_header(raw, t.grid, 1, t.spacing, DT_I16, "gliopipe regrid");
    nii_move_header(raw, &t.place, t.space);
    if (!(header = origin_write(&origin, raw, &bytes)))
        tool_die("out of memory");
    write_slices(rec, s, &t, scan, label, header, (uint32_t)bytes);
    tool_note("%s: %ux%ux%u", s->c.name, t.grid[0], t.grid[1], t.grid[2]);
    for (int m = 0; m < LAY_MODALITIES; m++)
        free(scan[m].voxels);
    free(header);
    free(label);
    free(mask);
}

int main(int argc, char **argv)
{
    static struct tns_record rec;
    char why[NII_WHY], spacing[TNS_NUMBER], how[128];
    struct study *studies;
    int c;

    tool_start(argc, argv, usage);
    tool_share_cores();
    opt.threads = tool_cores(1024);
    while ((c = tool_getopt("a:g:j:k:m:n:s:")) != -1)
        switch (c) {
        case 'a':
            if (lay_set(optarg, &opt.may_lack, why))
                tool_misuse("-a: %s", why);
            break;
        case 'g':
            opt.grid = optarg;
            break;
        case 'j':
            opt.threads = tool_int('j', optarg, 1, 1024);
            break;
        case 'k':
            opt.mask = optarg;
            break;
        case 'm':
            if (lay_set_names(optarg, opt.pattern, why))
                tool_misuse("-m: %s", why);
            break;
        case 'n':
            if (img_kernel_by_name(optarg, &opt.kernel))
                tool_misuse("-n: (wanted linear, cubic or lanczos, got '%s')", optarg);
            break;
        case 's':
            opt.spacing = tool_double('s', optarg, 0.1, 20);
            break;
        }
    if (optind == argc)
        tool_usage();
    if (opt.spacing != 1 && strcmp(opt.grid, "scan"))
        tool_misuse("-s: is for -g scan (got -g %s)", opt.grid);
    omp_set_num_threads((int)opt.threads);
    tool_promise();
    tool_may_read("/");
    tool_confine();
    choose_grid();
    studies = list_cases(argc - optind, argv + optind);
    if (own)
        snprintf(how, sizeof how, "-g scan -s %s", tns_number(opt.spacing, spacing));
    else
        snprintf(how, sizeof how, "-g %ux%ux%u", fixed.grid[0], fixed.grid[1], fixed.grid[2]);
    tool_open_out("%s -n %s%s", how, img_kernel_names[opt.kernel], opt.mask ? " -k" : "");

    for (size_t i = 0; i < list.n; i++)
        regrid(&rec, &studies[i]);
    tns_release(&rec);
    free(studies);
    lay_list_free(&list);
    return tool_finish();
}
