/* phantom - write synthetic studies in the layout of a data set
 *
 * reads   nothing
 * writes  NIfTI files */
#include "formats/atomic.h"
#include "formats/nifti_write.h"
#include "lib/image/phantom.h"
#include "lib/image/scheme.h"
#include "tools/tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char usage[] =
    "[-v] [-n COUNT] [-d WxHxD] [-s SEED] [-l brats2020|brats2023|msd] -o DIR";
static const char options[] = "-d --size= -l --layout= -n --count= -o --output= -s --seed=";

#define PATH_ROOM 4352
#define WHY_ROOM (NII_WHY + 64)

static struct {
    long count;
    uint32_t grid[3];
    uint64_t seed;
    enum { BRATS2020, BRATS2023, MSD } layout;
    const char *dir;
    uint8_t values[256]; /* canonical labels to the layout's */
} opt = {.count = 1, .grid = {96, 96, 48}, .seed = 1};

static const char *const layouts[] = {"brats2020", "brats2023", "msd"};
static const char *const schemes[] = {"brats2017", "brats2023", "msd"};
static const char *const suffixes[2][4] = {{"flair", "t1", "t1ce", "t2"},
                                           {"t2f", "t1n", "t1c", "t2w"}};

/* Which patient and which visit study i is: in BraTS 2023 every fourth patient comes twice. */
static void identify(long i, uint64_t *patient, int *visit)
{
    *patient = (uint64_t)i;
    *visit = 0;
    if (opt.layout != BRATS2023)
        return;
    *patient = (uint64_t)(i / 5 * 4 + (i % 5 > 1 ? i % 5 - 1 : i % 5));
    if (i % 5 == 2) /* 0, 1, 1 again, 2, 3 */
        *visit = 1;
}

static void name_study(long i, char out[64])
{
    uint64_t patient;
    int visit;

    identify(i, &patient, &visit);
    if (opt.layout == BRATS2020)
        snprintf(out, 64, "BraTS20_Training_%03ld", i + 1);
    else if (opt.layout == BRATS2023)
        snprintf(out, 64, "BraTS-GLI-%05u-%03d", (unsigned)patient, visit);
    else
        snprintf(out, 64, "BRATS_%03ld", i + 1);
}

/* --- files ------------------------------------------------------------------------------------ */

static void make_dir(const char *path)
{
    if (mkdir(path, 0777) && errno != EEXIST)
        tool_die("%s: %s", path, strerror(errno));
}

static void path_in(char out[PATH_ROOM], const char *dir, const char *name)
{
    if (snprintf(out, PATH_ROOM, "%s/%s", dir, name) >= PATH_ROOM)
        tool_die("%s: the path is too long", dir);
}

struct study {
    struct img_phantom plan;
    char name[64];
    int16_t *image;
    uint8_t *label;
};

static struct nii_out *create(const struct study *s, const char *dir, const char *suffix,
                              uint32_t volumes, enum dtype type, char *why)
{
    char path[PATH_ROOM], file[128];
    uint8_t header[NII_HEADER + 4] = {0};

    snprintf(file, sizeof file, "%s%s.nii.gz", s->name, suffix);
    path_in(path, dir, file);
    nii_make_header(header, opt.grid, volumes, s->plan.spacing, type, "gliopipe phantom");
    return nii_create(path, header, sizeof header, why);
}

/* Writes slices of one modality, or (m = 4) of the label, into open files: out[m] or nowhere. */
static int put_slices(struct study *s, struct nii_out *const out[5], char *why)
{
    size_t plane = (size_t)opt.grid[0] * opt.grid[1];

    for (uint32_t z = 0; z < opt.grid[2]; z++) {
        img_phantom_slice(&s->plan, z, s->image, s->label);
        for (size_t i = 0; i < plane; i++)
            s->label[i] = opt.values[s->label[i]];
        for (int m = 0; m < 4; m++)
            if (out[m] && nii_put(out[m], s->image + (size_t)m * plane, 2 * plane, why))
                return -1;
        if (out[4] && nii_put(out[4], s->label, plane, why))
            return -1;
    }
    return 0;
}

static int finish(struct nii_out *out[5], int bad, char *why)
{
    for (int m = 0; m < 5; m++)
        if (out[m] && bad)
            nii_abort(out[m]);
        else if (out[m])
            bad = nii_commit(out[m], why);
    return bad;
}

static int write_folder(struct study *s, char *why)
{
    char dir[PATH_ROOM], suffix[16];
    struct nii_out *out[5] = {0};
    int bad = 0;

    path_in(dir, opt.dir, s->name);
    make_dir(dir);
    for (int m = 0; m < 5 && !bad; m++) {
        snprintf(suffix, sizeof suffix, "%c%s", opt.layout == BRATS2023 ? '-' : '_',
                 m == 4 ? "seg" : suffixes[opt.layout == BRATS2023][m]);
        out[m] = create(s, dir, suffix, 1, m == 4 ? DT_U8 : DT_I16, why);
        bad = !out[m];
    }
    return finish(out, bad || put_slices(s, out, why), why);
}

/* The channel is the slowest dimension of the file, so the study is computed once for each. */
static int write_4d(struct study *s, char *why)
{
    char images[PATH_ROOM], labels[PATH_ROOM];
    struct nii_out *open[5] = {0};
    int bad = 0;

    path_in(images, opt.dir, "imagesTr");
    path_in(labels, opt.dir, "labelsTr");
    open[0] = create(s, images, "", 4, DT_I16, why);
    open[4] = open[0] ? create(s, labels, "", 1, DT_U8, why) : NULL;
    bad = !open[4];
    for (int m = 0; m < 4 && !bad; m++) {
        struct nii_out *out[5] = {0};
        out[m] = open[0];
        out[4] = m == 0 ? open[4] : NULL;
        bad = put_slices(s, out, why);
    }
    return finish(open, bad, why);
}

static int write_study(long i, char *why)
{
    struct study s;
    size_t plane = (size_t)opt.grid[0] * opt.grid[1];
    uint64_t patient;
    int visit, bad;

    name_study(i, s.name);
    identify(i, &patient, &visit);
    img_phantom_plan(&s.plan, opt.grid, opt.seed, patient, visit);
    s.image = malloc(4 * plane * sizeof *s.image);
    s.label = malloc(plane);
    if (!s.image || !s.label)
        bad = snprintf(why, WHY_ROOM, "out of memory");
    else
        bad = opt.layout == MSD ? write_4d(&s, why) : write_folder(&s, why);
    free(s.image);
    free(s.label);
    return bad;
}

/* Appends to a file, or dies. */
__attribute__((format(printf, 2, 3))) static void print(struct afile *f, const char *fmt, ...)
{
    char text[1024], why[WHY_ROOM];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (afile_write(f, text, (size_t)n, why, sizeof why)) {
        afile_abort(f);
        tool_die("%s", why);
    }
}

/* dataset.json of the Medical Segmentation Decathlon, Task01. */
static void describe_dataset(void)
{
    char path[PATH_ROOM], why[WHY_ROOM], name[64];
    struct afile f;

    path_in(path, opt.dir, "dataset.json");
    if (afile_open(&f, path, why, sizeof why))
        tool_die("%s", why);
    print(&f,
          "{\n"
          " \"name\": \"PHANTOM\",\n"
          " \"description\": \"synthetic gliomas\",\n"
          " \"tensorImageSize\": \"4D\",\n"
          " \"modality\": {\"0\": \"FLAIR\", \"1\": \"T1w\", \"2\": \"t1gd\", \"3\": \"T2w\"},\n"
          " \"labels\": {\"0\": \"background\", \"1\": \"edema\", \"2\": \"non-enhancing tumor\", "
          "\"3\": \"enhancing tumour\"},\n"
          " \"numTraining\": %ld,\n"
          " \"numTest\": 0,\n"
          " \"training\": [",
          opt.count);
    for (long i = 0; i < opt.count; i++) {
        name_study(i, name);
        print(&f,
              "%s\n  {\"image\": \"./imagesTr/%s.nii.gz\", \"label\": \"./labelsTr/%s.nii.gz\"}",
              i ? "," : "", name, name);
    }
    print(&f, "\n ],\n \"test\": []\n}\n");
    if (afile_commit(&f, why, sizeof why))
        tool_die("%s", why);
}

static void set_grid(const char *text)
{
    char *end;

    for (int a = 0; a < 3; a++) {
        unsigned long v = strtoul(text, &end, 10);
        if (*text < '0' || *text > '9' || *end != (a < 2 ? 'x' : 0) || v < 8 || v > 1024)
            tool_misuse("-d: (wanted WxHxD, each from 8 to 1024, got '%s')", optarg);
        opt.grid[a] = (uint32_t)v;
        text = end + 1;
    }
}

int main(int argc, char **argv)
{
    char path[PATH_ROOM], first[WHY_ROOM] = "";
    int c, l;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'd':
            set_grid(optarg);
            break;
        case 'l':
            for (l = 0; l < 3 && strcmp(optarg, layouts[l]); l++)
                ;
            if (l == 3)
                tool_misuse("-l: unknown layout (wanted brats2020, brats2023 or msd, got '%s')",
                            optarg);
            opt.layout = l;
            break;
        case 'n':
            opt.count = tool_int('n', optarg, 1, 99999);
            break;
        case 'o':
            opt.dir = optarg;
            break;
        case 's':
            opt.seed = (uint64_t)tool_int('s', optarg, 0, 0x7fffffffffffffff);
            break;
        }
    tool_no_operands();
    if (!opt.dir)
        tool_usage();

    img_scheme_inverse(img_scheme(schemes[opt.layout]), opt.values);
    make_dir(opt.dir);
    if (opt.layout == MSD) {
        path_in(path, opt.dir, "imagesTr");
        make_dir(path);
        path_in(path, opt.dir, "labelsTr");
        make_dir(path);
    }
    tool_may_write(opt.dir);
    tool_confine();

#pragma omp parallel for schedule(dynamic)
    for (long i = 0; i < opt.count; i++) {
        char why[WHY_ROOM], name[64];
        bool stop;
#pragma omp critical
        stop = *first != 0;
        if (stop)
            continue;
        if (write_study(i, why)) {
#pragma omp critical
            if (!*first)
                memcpy(first, why, sizeof why);
        } else {
            name_study(i, name);
            tool_note("%s", name);
        }
    }
    if (*first)
        tool_die("%s", first);
    if (opt.layout == MSD)
        describe_dataset();
    return tool_finish();
}
