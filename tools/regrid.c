/* regrid - scans of several grids and places onto one grid, each interpolated once
 *
 * reads   NIfTI files, transforms
 * adds    image, label, nifti; case, patient, slice, slices, modalities, scheme, spacing, brain,
 * mean, std, fingerprint; missing with -a */
#include "formats/layout.h"
#include "formats/nifti_write.h"
#include "formats/origin.h"
#include "formats/transform.h"
#include "lib/image/patient.h"
#include "tools/regrid.h"
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
static const char options[] =
    "-a --absent= -g --grid= -j --threads= -k --mask= -m --names= -n --kernel= "
    "-s --spacing=";

enum { T1GD = 2, MASK = LAY_FILES, ATLAS_SPACE = 2, SCANNER_SPACE = 1 };

#define LEAST_HEAD 100.0 /* mm that a scan of a head shows along each axis */
#define LEAST_SHARE 0.1  /* of the T1 with contrast agent that a scan has to show, */
#define GOOD_SHARE 0.6   /* and without a warning */
#define MOST_TURN 45.0   /* degrees */
#define MOST_BRAIN 2200  /* ml: an atlas that shows more shows a head */
#define MOST_HIDDEN 0.03 /* of an atlas */

static struct {
    const char *grid, *mask;
    const char *pattern[LAY_FILES];
    double spacing;
    enum img_kernel kernel;
    long threads;
    unsigned may_lack;
} opt = {.grid = "scan", .spacing = 1};

static struct target fixed; /* for all cases, unless each has its own */
static bool own, of_file;   /* the file may be an atlas, to be looked at again */

/* --- the cases -------------------------------------------------------------------------------- */

struct study {
    struct lay_case c;
    char mask[LAY_PATH];
    struct affine map[LAY_MODALITIES]; /* mm of the result to mm of each scan */
    char maps[LAY_MODALITIES][32];     /* the files that say so; "" where none does */
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
static bool read_map(const struct lay_case *c, const char *from, const char *to, struct affine *map,
                     char file[32])
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
        snprintf(file, 32, "%.31s", name);
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
    s->atlas = read_map(&s->c, lay_modality[T1GD], "atlas", &atlas, s->maps[T1GD]);
    if (s->atlas && own)
        tool_die("%s: the T1 with contrast agent lies on an atlas (wanted -g with its grid)",
                 s->c.name);
    for (int m = 0; m < LAY_MODALITIES; m++) {
        own_map = affine_identity;
        if (m != T1GD)
            read_map(&s->c, lay_modality[m], lay_modality[T1GD], &own_map, s->maps[m]);
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
    if (of_file)
        nii_each_half(opt.grid, tool_may_read);
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
    else if (!own) {
        target_of_file(opt.grid, &fixed);
        of_file = true;
    }
}

/* --- a case ----------------------------------------------------------------------------------- */

static size_t voxels_of(const uint32_t grid[3])
{
    return (size_t)grid[0] * grid[1] * grid[2];
}

static bool lies_within(const struct affine *to, const uint32_t grid[3], uint32_t x, uint32_t y,
                        uint32_t z)
{
    double at[3];
    affine_map(to, (const double[]){x, y, z}, at);
    for (int c = 0; c < 3; c++)
        if (!(at[c] >= -0.5 && at[c] < grid[c] - 0.5))
            return false;
    return true;
}

/* How much of the T1 with contrast agent each scan shows, and how much of it the grid. */
static void judge(const struct study *s, const struct target *t, const struct nii_header *h,
                  const struct carried scan[LAY_MODALITIES])
{
    const double field = h->spacing[0] * h->spacing[1] * h->spacing[2] * (double)voxels_of(h->grid),
                 voxel = t->spacing[0] * t->spacing[1] * t->spacing[2],
                 shown = (double)scan[T1GD].inside;
    double share = shown * voxel / field;

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
            share = shown > 0 ? (double)scan[m].inside / shown : 0;
        if (!(share >= LEAST_SHARE))
            tool_die("%s: %s has %.0f %% of %s (wanted at least %.0f %%: is it registered, and the "
                     "same part of the body?)",
                     s->c.name, who, 100 * share, whom, 100 * LEAST_SHARE);
        if (share < GOOD_SHARE)
            tool_warn("%s: %s has %.0f %% of %s: is it registered, and the same part of the body?",
                      s->c.name, who, 100 * share, whom);
    }
}

/* What the atlas shows and no scan does, of every third point of every third row. Of a whole head
 * only the upper half counts: below it a neck is left out on purpose. */
static void judge_atlas(const struct study *s, const struct carried scan[LAY_MODALITIES])
{
    char why[NII_WHY];
    struct nii_channel channel;
    struct nii_reader *reader;
    struct nii_file *f = nii_open(opt.grid, why);
    struct affine place, to[LAY_MODALITIES];
    struct nii_header h, of[LAY_MODALITIES];
    double all[2] = {0}, hidden[2] = {0}, ml; /* 1: in the upper half */

    if (!f)
        tool_die("%s", why);
    h = *nii_head(f);
    if (h.channels != 1 || nii_scan(f, false, &channel, NULL, 0, &reader, why)) {
        nii_close(f); /* its grid is enough */
        return;
    }
    nii_close(f);
    place = nii_place(&h);
    for (int m = 0; m < LAY_MODALITIES; m++)
        if (*s->c.file[m]) {
            struct affine back, there = affine_then(&place, &s->map[m]), lies;
            if (nii_parse(scan[m].header, s->c.file[m], &of[m], why))
                tool_die("%s", why);
            lies = nii_place(&of[m]);
            if (!affine_inverse(&lies, &back))
                return;
            to[m] = affine_then(&there, &back);
        }
    float *slice = tool_alloc((size_t)h.grid[0] * h.grid[1] * sizeof *slice);
    for (uint32_t z = 0; z < h.grid[2]; z++) {
        const int upper = 2 * z >= channel.box[2][0] + channel.box[2][1];
        if (nii_slice(reader, z, DT_F32, slice, why))
            tool_die("%s", why);
        for (uint32_t y = 0; y < h.grid[1]; y += 3)
            for (uint32_t x = 0; x < h.grid[0]; x += 3) {
                bool shown = false;
                if (slice[(size_t)y * h.grid[0] + x] == 0)
                    continue;
                for (int m = 0; m < LAY_MODALITIES; m++)
                    shown |= *s->c.file[m] && lies_within(&to[m], of[m].grid, x, y, z);
                all[upper]++;
                hidden[upper] += !shown;
            }
    }
    free(slice);
    nii_reader_free(reader);
    ml = (double)channel.count * h.spacing[0] * h.spacing[1] * h.spacing[2] / 1000;
    const bool brain = ml <= MOST_BRAIN;
    const double total = all[1] + (brain ? all[0] : 0), out = hidden[1] + (brain ? hidden[0] : 0);
    if (total > 0 && out > MOST_HIDDEN * total)
        tool_warn(
            "%s: no scan shows %.0f %% of the %s that the atlas has: is an end of it missing?",
            s->c.name, 100 * out / total, brain ? "brain" : "upper half of the head");
}

static void add_box(const uint32_t from[4], uint32_t box[4])
{
    for (int i = 0; i < 4; i++)
        box[i] = (i < 2) == (from[i] < box[i]) ? from[i] : box[i];
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
        add_box(scan[m].box, box);
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
                         const struct carried scan[LAY_MODALITIES], const struct carried *label,
                         const uint8_t *header, uint32_t header_bytes)
{
    const size_t plane = (size_t)t->grid[0] * t->grid[1];
    const uint32_t dim[3] = {LAY_MODALITIES, t->grid[1], t->grid[0]};
    enum dtype type = DT_I16;
    int16_t *narrow = NULL;

    for (int m = 0; m < LAY_MODALITIES; m++)
        type = scan[m].type == DT_F32 ? DT_F32 : type;
    tns_clear(rec);
    describe(rec, s, t, scan);
    tool_add(rec, "image", type, 3, dim);
    if (*s->c.label)
        tool_add(rec, "label", DT_U8, 2, dim + 1);
    memcpy(tool_add(rec, "nifti", DT_U8, 1, &header_bytes)->data, header, header_bytes);
    char *image = tns_tensor(rec, "image")->data;
    void *labels = *s->c.label ? tns_tensor(rec, "label")->data : NULL;
    memset(image, 0, LAY_MODALITIES * plane * dtype_size(type)); /* what is missing stays so */
    for (uint32_t z = 0; z < t->grid[2]; z++) {
        for (int m = 0; m < LAY_MODALITIES; m++) {
            char *to = image + (size_t)m * plane * dtype_size(type);
            if (!*s->c.file[m])
                continue;
            if (scan[m].type == type) {
                carried_slice(&scan[m], t, z, to);
                continue;
            }
            narrow = narrow ? narrow : tool_alloc(plane * sizeof *narrow);
            carried_slice(&scan[m], t, z, narrow);
            for (size_t i = 0; i < plane; i++)
                ((float *)to)[i] = narrow[i];
        }
        if (labels)
            carried_slice(label, t, z, labels);
        tool_set(rec, "slice", "%u", z);
        tool_write(rec);
    }
    free(narrow);
}

static void regrid(struct tns_record *rec, const struct study *s)
{
    char why[NII_WHY];
    struct nii_file *f = nii_open(s->c.file[T1GD], why);
    struct carried scan[LAY_MODALITIES], mask, label;
    struct origin origin = {0};
    uint8_t raw[NII_HEADER], *header;
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
    carry_anew();
    if (*s->mask)
        carry_mask(s->mask, &t, &s->map[T1GD], &mask);
    for (int m = 0; m < LAY_MODALITIES; m++) {
        if (!*s->c.file[m]) { /* it is missing, and background */
            scan[m] = (struct carried){.type = DT_I16, .box = {UINT32_MAX, UINT32_MAX, 0, 0}};
            continue;
        }
        carry_scan(s->c.file[m], &t, &s->map[m], opt.kernel, *s->mask ? &mask : NULL, &scan[m]);
        origin_add(&origin, lay_modality[m], &s->map[m], scan[m].header);
    }
    judge(s, &t, &head, scan);
    if (s->atlas && of_file)
        judge_atlas(s, scan);
    if (*s->c.label)
        carry_label(s->c.label, &t, &s->map[T1GD], &label);
    nii_make_header(raw, t.grid, 1, t.spacing, DT_I16, "gliopipe regrid");
    nii_move_header(raw, &t.place, t.space);
    if (!(header = origin_write(&origin, raw, &bytes)))
        tool_die("out of memory");
    write_slices(rec, s, &t, scan, &label, header, (uint32_t)bytes);
    tool_note("%s: %ux%ux%u", s->c.name, t.grid[0], t.grid[1], t.grid[2]);
    free(header);
}

/* For the history: how the scans of all cases were registered, " t1-to-t1gd.txt ..."; what only
 * some have is not in it. */
static void name_maps(const struct study *studies, char *to)
{
    *to = 0;
    for (int m = 0; m < LAY_MODALITIES; m++) {
        const char *name = studies[0].maps[m];
        size_t have = 0;
        while (have < list.n && *name && !strcmp(studies[have].maps[m], name))
            have++;
        if (have == list.n)
            to += sprintf(to, " %s", name);
    }
}

int main(int argc, char **argv)
{
    static struct tns_record rec;
    char why[NII_WHY], spacing[TNS_NUMBER], how[128], maps[LAY_MODALITIES * 33 + 1];
    struct study *studies;
    int c;

    tool_start(argc, argv, usage);
    tool_share_cores();
    opt.threads = tool_cores(1024);
    while ((c = tool_getopt(options)) != -1)
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
    carry_open();
    tool_may_read("/");
    tool_confine();
    choose_grid();
    studies = list_cases(argc - optind, argv + optind);
    if (own)
        snprintf(how, sizeof how, "-g scan -s %s", tns_number(opt.spacing, spacing));
    else
        snprintf(how, sizeof how, "-g %ux%ux%u", fixed.grid[0], fixed.grid[1], fixed.grid[2]);
    name_maps(studies, maps);
    tool_open_out("%s -n %s%s%s", how, img_kernel_names[opt.kernel], opt.mask ? " -k" : "", maps);

    for (size_t i = 0; i < list.n; i++)
        regrid(&rec, &studies[i]);
    tns_release(&rec);
    free(studies);
    lay_list_free(&list);
    return tool_finish();
}
