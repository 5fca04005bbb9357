/* strip - take the skull off: what is no brain becomes zero
 *
 * reads   image (any dtype), nifti with -k; case, slice, slices, spacing, modalities; missing and
 *         crop, if present
 * changes image; brain, mean, std
 * adds    mask (u8) with -K; with -l it changes no image, but makes of label the mask, and scheme
 *
 * A case is known when its last slice has come; until then its records wait in a file. The mask is
 * somebody else's, or a network's, which sees modalities of the whole case, one after the other. */
#include "formats/model.h"
#include "formats/nifti.h"
#include "lib/image/conform.h"
#include "lib/image/crop.h"
#include "lib/image/znorm.h"
#include "lib/metric/tidy.h"
#include "lib/nn/nn.h"
#include "tools/tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "[-HKlv] [-c MODALITY,...] [-j THREADS] [-M SIZE] -m MODEL < STREAM > STREAM\n"
    "       strip [-HKlv] -k MASK < STREAM > STREAM";
static const char options[] =
    "-c --modalities= -j --threads= -k --mask= -K --keep-mask -l --look -m --model= "
    "-M --memory=";

#define CHANNELS 64
#define NAME 64
#define LEAST_ML 700 /* of an adult's brain with its fluid; what is outside is doubted */
#define MOST_ML 2200
#define PIECES_ML 10   /* that hang together with nothing */
#define SAME_PLACE 0.1 /* of a voxel's least side */
#define EDGE_CM2 30 /* of brain in the last slice on a side, where a slice more would show some */
#define LEAST_SHOWN 0.97 /* of the brain that the scan shows which shows most */
#define SURE 240         /* of votes: all views are sure that it is brain */

static struct {
    const char *modality, *mask, *path;
    bool keep, look;
    int threads;
    unsigned long long memory;
} opt;

static struct {
    struct model model;
    struct nn_spec spec;
} net;

/* The case in hand: unit.pred is its mask. */
static struct tool_case unit;
static struct names finished;
static bool masked; /* a file of one case's mask has been used */

/* What the network is to see of the case: names, and channels; and the scan that it sees. */
static struct {
    int n, channel[CHANNELS], now;
    char name[CHANNELS][NAME];
    float *scan;
} view;

/* --- reading ---------------------------------------------------------------------------------- */

/* Of the image's channels the one of that name, or -1 where none is, or none was scanned. */
static int channel_of(const struct tns_record *rec, const char *names, const char *wanted)
{
    const char *missing = tns_get(&rec->meta, "missing");
    const size_t n = strlen(wanted);
    return missing && contract_find(missing, wanted, n) >= 0 ? -1 : contract_find(names, wanted, n);
}

/* Those of -c, or of the two T1, in which the brain stands out, as many as there are; or the one
 * channel of a stream without names. */
static void choose_views(struct tns_record *rec, const struct tensor *image)
{
    const char *names = tool_need_key(rec, "modalities"), *list = opt.modality ? opt.modality
                                                                  : strcmp(names, "image") != 0
                                                                      ? "t1gd,t1"
                                                                      : names;
    view.n = 0;
    for (const char *p = list; *p; p += *p == ',') {
        const size_t n = strcspn(p, ",");
        char name[NAME];
        snprintf(name, sizeof name, "%.*s", (int)(n < NAME ? n : 0), p);
        const int c = channel_of(rec, names, name);
        if (c >= (int)image->dim[0] || (c < 0 && opt.modality))
            tool_die_at(rec, "no modality '%s' (wanted by -c, got %.100s)", name, names);
        if (c >= 0) {
            strcpy(view.name[view.n], name);
            view.channel[view.n++] = c;
        }
        p += n;
    }
    if (!view.n)
        tool_die_at(rec, "no modality 't1gd or t1' (wanted by -c, got %.100s)", names);
}

static struct tool_place place_of(struct tns_record *rec, const struct tensor *image)
{
    struct tensor plane = *image;
    plane.rank = 2;
    plane.dim[0] = image->dim[1];
    plane.dim[1] = image->dim[2];
    return tool_place(rec, &plane);
}

/* The channel's slice becomes part of the scan; what lies beyond the full slice was padding. */
static void take_scan(struct tns_record *rec)
{
    const struct tensor *image = tool_need_image(rec, DT_COUNT);
    const struct tool_place at = place_of(rec, image), *p = &at;
    const size_t c = (size_t)view.channel[view.now];
    const long lo = p->x < 0 ? -p->x : 0,
               hi = (long)p->W - p->x < (long)p->w ? (long)p->W - p->x : (long)p->w;
    for (long y = 0; y < (long)p->h && lo < hi; y++)
        if (y + p->y >= 0 && y + p->y < (long)p->H)
            tensor_to_f32(image, (c * p->h + (size_t)y) * p->w + (size_t)lo, (size_t)(hi - lo),
                          view.scan + (p->slice * p->H + (size_t)(y + p->y)) * p->W +
                              (size_t)(p->x + lo));
}

/* --- a mask that others made ------------------------------------------------------------------ */

/* How far the corners of two grids of one size lie from each other, in mm: programs write the place
 * of a scan with other digits than they read, and in another order of axes. */
static double corners_apart(const struct nii_header *a, const struct nii_header *b)
{
    const struct affine p = nii_place(a), q = nii_place(b);
    double most = 0;
    for (unsigned corner = 0; corner < 8; corner++) {
        double d[3];
        for (int i = 0; i < 3; i++) {
            d[i] = p.m[i][3] - q.m[i][3];
            for (int c = 0; c < 3; c++)
                if (corner >> c & 1)
                    d[i] += (p.m[i][c] - q.m[i][c]) * (a->grid[c] - 1);
        }
        most = fmax(most, sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]));
    }
    return most;
}

static void read_mask(struct tns_record *rec, const struct met_grid *g)
{
    const struct tensor *header = tns_tensor(rec, "nifti");
    const char *path = opt.mask;
    char why[NII_WHY];
    struct stat s;
    if (!stat(path, &s) && S_ISDIR(s.st_mode))
        path = tool_case_path(rec, opt.mask, ".nii.gz");
    else if (masked)
        tool_die_at(rec, "%s is the mask of one case (wanted a folder of them, as CASE.nii.gz)",
                    opt.mask);
    masked = true;
    struct nii_file *f = nii_open(path, why);
    if (!f)
        tool_die_at(rec, "%s", why);
    const struct nii_header *h = nii_head(f);
    struct nii_header image;
    struct nii_channel known;
    struct nii_reader *r;
    char differ[NII_WHY] = "";
    if (h->channels != 1)
        tool_die_at(rec, "%s: a mask of %u volumes (wanted 1)", path, h->channels);
    if (h->grid[0] != g->dim[2] || h->grid[1] != g->dim[1] || h->grid[2] != g->dim[0]) {
        snprintf(differ, sizeof differ, "wanted %zux%zux%zu, got %ux%ux%u", g->dim[2], g->dim[1],
                 g->dim[0], h->grid[0], h->grid[1], h->grid[2]);
    } else if (header && header->rank == 1 && header->dtype == DT_U8 &&
               header->dim[0] >= NII_HEADER) {
        if (nii_parse(header->data, "tensor 'nifti'", &image, why))
            tool_die_at(rec, "%s", why);
        const double least = fmin(fmin(h->spacing[0], h->spacing[1]), h->spacing[2]),
                     mm = corners_apart(&image, h);
        if (!(mm <= SAME_PLACE * least))
            snprintf(differ, sizeof differ, "a corner lies %.2g mm away, wanted %.2g at most", mm,
                     SAME_PLACE * least);
    }
    if (*differ)
        tool_die_at(rec, "%s: not on the grid of the scan (%.300s)", path, differ);
    if (nii_scan(f, false, &known, NULL, 0, &r, why))
        tool_die_at(rec, "%s", why);
    const size_t plane = g->dim[1] * g->dim[2];
    float *row = tool_alloc(plane * sizeof *row);
    for (uint32_t z = 0; z < h->grid[2]; z++) {
        if (nii_slice(r, z, DT_F32, row, why))
            tool_die_at(rec, "%s", why);
        for (size_t i = 0; i < plane; i++)
            unit.pred[z * plane + i] = row[i] != 0;
    }
    free(row);
    nii_reader_free(r);
    nii_close(f);
}

/* --- the network's ---------------------------------------------------------------------------- */

static void open_model(void)
{
    struct nn_about about;
    char why[512];
    tool_maps(opt.path);
    if (model_open(&net.model, opt.path, why, sizeof why))
        tool_die("%s", why);
    tool_mapped(net.model.file.bytes, net.model.file.size);
    if (!net.model.network)
        tool_die("%s: no network of its own (wanted one that tells brain)", opt.path);
    net.spec = (struct nn_spec){
        .name = opt.path, .text = net.model.network, .length = strlen(net.model.network)};
    for (int i = 0; i < net.model.parameters; i++)
        nn_set(&net.spec, net.model.parameter[i].name, net.model.parameter[i].value);
    if (nn_about(&net.spec, &about, why, sizeof why))
        tool_die("%s", why);
    if (strcmp(net.model.scheme, "brain") || about.inputs != 1 || about.outputs != 2)
        tool_die("%s: no network that tells brain from one modality (wanted scheme brain, 1 input, "
                 "2 outputs, got %.40s, %d, %d)",
                 opt.path, net.model.scheme, about.inputs, about.outputs);
    if (!about.products)
        kr_products_free();
}

static double millilitres(uint64_t voxels)
{
    const double *mm = unit.grid.spacing;
    return (double)voxels * mm[0] * mm[1] * mm[2] / 1000;
}

/* The largest piece of a mask, without holes, and how many voxels were in others. */
static uint64_t one_piece(uint8_t *mask, const struct met_grid *g, bool holes)
{
    const size_t n = g->dim[0] * g->dim[1] * g->dim[2];
    struct met_tidy t = {.neighbours = 6};
    uint64_t changed[MET_RULES] = {0};
    t.rule[MET_LARGEST] = 1;
    t.rule[MET_HOLES] = holes;
    for (size_t i = 0; i < n; i++) /* what tidy calls oedema is brain */
        mask[i] = mask[i] ? 2 : 0;
    if (met_tidy(mask, g, &t, changed))
        tool_die("out of memory (case %s)", unit.name);
    for (size_t i = 0; i < n; i++)
        mask[i] = mask[i] != 0;
    return changed[MET_LARGEST];
}

/* Image, and logits over it: `both` has room for the latter. */
static void compute(const struct img_conform *c, float *both)
{
    const size_t n = c->n[0] * c->n[1] * c->n[2],
                 voxels = unit.grid.dim[0] * unit.grid.dim[1] * unit.grid.dim[2];
    const struct nn_options o = {.n = 1,
                                 .d = (int)c->n[0],
                                 .h = (int)c->n[1],
                                 .w = (int)c->n[2],
                                 .threads = opt.threads,
                                 .bare = true,
                                 .ceiling = opt.memory,
                                 .outside = 2 * n * sizeof *both + voxels,
                                 .weights = net.model.weights};
    const struct nn_batch b = {.n = 1, .d = o.d, .h = o.h, .w = o.w, .image = both};
    const struct nn_output out = {.logits = both};
    char why[512];
    struct nn *nn = nn_new(&net.spec, &o, why, sizeof why);
    if (!nn)
        tool_die("case %s: %s", unit.name, why);
    tool_note("case %s: %s at %dx%dx%d of 1 mm, %d thread%s, %.0f MiB", unit.name,
              view.name[view.now], o.w, o.h, o.d, opt.threads, tool_s((unsigned)opt.threads),
              ceil((double)nn_memory(nn).peak / 1048576));
    if (nn_load(nn, net.model.file.tensor, (size_t)net.model.file.tensors))
        tool_die("%s: %s", opt.path, nn_why(nn));
    if (nn_infer(nn, &b, &out) < 0)
        tool_die("case %s: %s", unit.name, nn_why(nn));
    nn_free(nn);
}

/* How sure the network is of each voxel adds to unit.pred, SURE for all views together. */
static void vote(const struct img_conform *c)
{
    const struct met_grid *g = &unit.grid;
    const size_t n = c->n[0] * c->n[1] * c->n[2], voxels = g->dim[0] * g->dim[1] * g->dim[2];
    const float share = SURE / (float)view.n;
    if (!(view.scan = calloc(voxels, sizeof *view.scan)))
        tool_die("out of memory (case %s)", unit.name);
    tool_spool_each("image", take_scan);
    float *both = tool_alloc(2 * n * sizeof *both);
    if (!(img_conform_scan(c, view.scan, both) > 0))
        tool_die("case %s: %s: nothing to tell brain by (wanted more than one value)", unit.name,
                 view.name[view.now]);
    free(view.scan);
    compute(c, both);
    for (size_t i = 0; i < n; i++)
        if (!((both[i] = 1 / (1 + expf(both[i] - both[n + i]))) >= 0))
            tool_die("case %s: the network's output is not finite", unit.name);
    float *back = tool_alloc(voxels * sizeof *back);
    img_conform_back(c, both, back);
    free(both);
    for (size_t i = 0; i < voxels; i++)
        unit.pred[i] = (uint8_t)(unit.pred[i] + (unsigned)(share * back[i] + 0.5f));
    free(back);
}

static void find_mask(void)
{
    const struct met_grid *g = &unit.grid;
    const size_t voxels = g->dim[0] * g->dim[1] * g->dim[2];
    struct img_conform c;
    if (unit.slices < g->dim[0])
        tool_die("case %s: %zu of %zu slices came (wanted all: the network sees the whole head)",
                 unit.name, unit.slices, g->dim[0]);
    if (img_conform(&c, g->dim, g->spacing))
        tool_die("case %s: the scan is too large (wanted sides of at most %d mm, got %gx%gx%g)",
                 unit.name, IMG_CUBE_MOST, (double)g->dim[2] * g->spacing[2],
                 (double)g->dim[1] * g->spacing[1], (double)g->dim[0] * g->spacing[0]);
    memset(unit.pred, 0, voxels);
    for (view.now = 0; view.now < view.n; view.now++)
        vote(&c);
    for (size_t i = 0; i < voxels; i++)
        unit.pred[i] = unit.pred[i] > SURE / 2;
    const uint64_t others = one_piece(unit.pred, g, true);
    if (millilitres(others) > PIECES_ML)
        tool_warn("case %s: the mask was in pieces: %.0f ml beside the largest were left out; look "
                  "at it",
                  unit.name, millilitres(others));
}

/* --- what is unlikely ------------------------------------------------------------------------- */

/* Where the brain ends with the scan. */
static void judge_edges(void)
{
    static const char *const side[3][2] = {{"bottom", "top"}, {"front", "back"}, {"right", "left"}};
    const struct met_grid *g = &unit.grid;
    const size_t step[3] = {g->dim[1] * g->dim[2], g->dim[2], 1};
    for (int a = 0; a < 3; a++) {
        const int b = (a + 1) % 3, c = (a + 2) % 3;
        for (int last = 0; last < 2; last++) {
            size_t n = 0;
            for (size_t i = 0; i < g->dim[b]; i++)
                for (size_t j = 0; j < g->dim[c]; j++)
                    n +=
                        unit.pred[(last ? g->dim[a] - 1 : 0) * step[a] + i * step[b] + j * step[c]];
            const double cm2 = (double)n * g->spacing[b] * g->spacing[c] / 100;
            if (cm2 > EDGE_CM2)
                tool_warn("case %s: the brain reaches the scan's %s with %.0f cm2: is an end of it "
                          "missing?",
                          unit.name, side[a][last], cm2);
        }
    }
}

static void judge(void)
{
    const struct met_grid *g = &unit.grid;
    const size_t n = g->dim[0] * g->dim[1] * g->dim[2];
    uint64_t voxels = 0;
    for (size_t i = 0; i < n; i++)
        voxels += unit.pred[i];
    if (!voxels)
        tool_die("case %s: no brain in the mask", unit.name);
    if (millilitres(voxels) < LEAST_ML || millilitres(voxels) > MOST_ML)
        tool_warn("case %s: a mask of %.0f ml is no likely brain (wanted %d to %d); look at it",
                  unit.name, millilitres(voxels), LEAST_ML, MOST_ML);
    tool_note("case %s: %.0f ml", unit.name, millilitres(voxels));
    judge_edges();
    if (!opt.mask)
        return;
    uint8_t *copy = tool_alloc(n);
    memcpy(copy, unit.pred, n);
    const uint64_t others = one_piece(copy, g, false);
    free(copy);
    if (millilitres(others) > PIECES_ML)
        tool_warn("case %s: the mask is in pieces: %.0f ml lie beside the largest; look at it",
                  unit.name, millilitres(others));
}

/* --- the records ------------------------------------------------------------------------------ */

/* Of the stripped case, over the voxels that are not zero; `channels` are those of its records. */
static struct {
    int channels;
    char *names, *missing; /* NULL where the stream has no such keys */
    double count[CHANNELS], mean[CHANNELS], squares[CHANNELS]; /* sums of (v - mean)^2 */
    long low[2], high[2];                                      /* of the brain's box */
} left;

static void strip(struct tns_record *rec, const struct tensor *image, const struct tool_place *p)
{
    const size_t plane = p->h * p->w, size = dtype_size(image->dtype);
    uint8_t *mask = tool_alloc(plane);
    memset(mask, 0, plane);
    tool_lift(p, unit.pred + p->slice * p->H * p->W, mask);
    for (size_t c = 0; c < image->dim[0] && !opt.look; c++)
        for (size_t i = 0; i < plane; i++)
            if (!mask[i])
                memset((char *)image->data + (c * plane + i) * size, 0, size);
    const uint32_t dim[2] = {(uint32_t)p->h, (uint32_t)p->w};
    if (opt.keep)
        memcpy(tool_add(rec, "mask", DT_U8, 2, dim)->data, mask, plane);
    if (opt.look)
        memcpy(tool_add(rec, "label", DT_U8, 2, dim)->data, mask, plane);
    free(mask);
}

static void count(struct tns_record *rec)
{
    const struct tensor *image = tool_need_image(rec, DT_COUNT);
    const struct tool_place p = place_of(rec, image);
    const size_t plane = p.h * p.w;
    const bool keep = opt.keep, look = opt.look;
    struct img_box b;
    opt.keep = opt.look = false;
    strip(rec, image, &p);
    opt.keep = keep;
    opt.look = look;
    left.channels = (int)image->dim[0];
    for (int c = 0; c < left.channels; c++) {
        double mean, std;
        const double n = (double)img_moments(image, (size_t)c * plane, plane, &mean, &std);
        const double all = left.count[c] + n, apart = mean - left.mean[c];
        if (!(n > 0))
            continue;
        left.squares[c] += n * std * std + apart * apart * left.count[c] * n / all;
        left.mean[c] += apart * n / all;
        left.count[c] = all;
    }
    if (!img_nonzero_box(image, &b))
        return;
    const long from[2] = {b.y + p.y, b.x + p.x}, to[2] = {from[0] + b.height, from[1] + b.width};
    const bool first = left.high[0] == 0;
    for (int i = 0; i < 2; i++) {
        left.low[i] = first || from[i] < left.low[i] ? from[i] : left.low[i];
        left.high[i] = to[i] > left.high[i] ? to[i] : left.high[i];
    }
}

/* Scans that show less of the brain than another: of those of one head an end may be missing. */
static void judge_scans(void)
{
    double most = 0;
    int c = 0;
    for (int i = 0; i < left.channels; i++)
        most = fmax(most, left.count[i]);
    for (const char *p = left.names; p && *p && c < left.channels; p += *p == ',', c++) {
        const size_t n = strcspn(p, ",");
        if (left.count[c] < LEAST_SHOWN * most &&
            !(left.missing && contract_find(left.missing, p, n) >= 0))
            tool_warn("case %s: %.*s shows nothing in %.0f %% of the brain: is an end of it "
                      "missing?",
                      unit.name, (int)(n < NAME ? n : NAME), p, 100 * (1 - left.count[c] / most));
        p += n;
    }
}

static void write_stripped(struct tns_record *rec)
{
    const struct tensor *image = tool_need_image(rec, DT_COUNT);
    const struct tool_place p = place_of(rec, image);
    double std[CHANNELS];
    strip(rec, image, &p);
    if (opt.look) {
        tool_set(rec, "scheme", "canonical");
        tool_write(rec);
        return;
    }
    for (int c = 0; c < left.channels; c++)
        std[c] = left.count[c] > 0 ? sqrt(left.squares[c] / left.count[c]) : 0;
    tool_set(rec, "brain", "%ld %ld %ld %ld", left.low[0], left.low[1], left.high[0] - left.low[0],
             left.high[1] - left.low[1]);
    tool_set_numbers(rec, "mean", left.channels, left.mean);
    tool_set_numbers(rec, "std", left.channels, std);
    tool_write(rec);
}

/* --- flow ------------------------------------------------------------------------------------- */

static void finish(void)
{
    if (!unit.name)
        return;
    if (!opt.mask)
        find_mask();
    judge();
    tool_spool_each("image", count);
    judge_scans();
    tool_spool_each("image label", write_stripped);
    free(left.names);
    free(left.missing);
    memset(&left, 0, sizeof left);
    tool_case_end(&unit);
}

static void add(struct tns_record *rec)
{
    const struct tensor *image = tool_need_image(rec, DT_COUNT);
    const char *name = tool_need_key(rec, "case"), *norm = tns_get(&rec->meta, "norm");
    if (norm)
        tool_die_at(rec, "the image is normalised already (norm=%.40s; strip comes first)", norm);
    if (image->dim[0] > CHANNELS)
        tool_die_at(rec, "tensor 'image': too many channels (wanted at most %d, got %u)", CHANNELS,
                    image->dim[0]);
    const struct tool_place p = place_of(rec, image);
    const struct met_grid g = {{p.slices, p.H, p.W}, {p.spacing[0], p.spacing[1], p.spacing[2]}};
    if (unit.name && strcmp(unit.name, name))
        finish();
    if (!unit.name) {
        const double least = (double)(g.dim[0] * g.dim[1] * g.dim[2]) * (sizeof *view.scan + 1);
        if (!opt.mask && opt.memory && least > (double)opt.memory)
            tool_die("case %s: the scan alone takes %.0f MiB (wanted -M above that)", name,
                     ceil(least / 1048576));
        tool_case_begin(&unit, rec, &g, &finished, false);
        const char *names = tns_get(&rec->meta, "modalities"),
                   *missing = tns_get(&rec->meta, "missing");
        left.channels = (int)image->dim[0];
        left.names = names ? tool_copy(names) : NULL;
        left.missing = missing ? tool_copy(missing) : NULL;
        if (opt.mask)
            read_mask(rec, &g);
        else
            choose_views(rec, image);
    }
    if ((int)image->dim[0] != left.channels)
        tool_die_at(rec, "tensor 'image': channels differ within the case (wanted %d, got %u)",
                    left.channels, image->dim[0]);
    tool_case_slice(&unit, rec, &g, p.slice);
    tool_spool(rec);
}

static void open_stream(void)
{
    const char *sum = opt.path ? st_meta(&net.model.file, "xxh3") : NULL;
    if (opt.mask)
        tool_open("%s-k", opt.look ? "-l " : "");
    else
        tool_open("%s-m %.20s:%.16s%s%.100s", opt.look ? "-l " : "", net.model.arch,
                  sum ? sum : "unknown", opt.modality ? " -c " : "",
                  opt.modality ? opt.modality : "");
}

int main(int argc, char **argv)
{
    bool of_network = false;
    int c;

    opt.threads = tool_cores(NN_MAX_THREADS);
    tool_start(argc, argv, usage);
    tool_share_cores();
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'c':
            opt.modality = optarg;
            of_network = true;
            break;
        case 'j':
            opt.threads = (int)tool_int('j', optarg, 1, NN_MAX_THREADS);
            of_network = true;
            break;
        case 'k':
            opt.mask = optarg;
            break;
        case 'K':
            opt.keep = true;
            break;
        case 'l':
            opt.look = true;
            break;
        case 'm':
            opt.path = optarg;
            break;
        case 'M':
            opt.memory = tool_size('M', optarg);
            of_network = true;
            break;
        }
    tool_no_operands();
    if (!opt.mask == !opt.path)
        tool_misuse("wanted -m or -k, and one of them");
    if (opt.mask && of_network)
        tool_misuse("-c, -j and -M go with -m alone");

    tool_promise();
    tool_spool_open();
    if (opt.mask) {
        tool_may_read(opt.mask);
    } else {
        const char *bad = kr_init();
        if (bad)
            tool_die("%s", bad);
        kr_products(); /* before tool_confine, as it may load a library */
        tool_may_read(opt.path);
        tool_confine();
        open_model();
    }
    open_stream();
    tool_spool_cases(opt.mask ? "image nifti" : "image", add, finish);
    names_free(&finished);
    if (!opt.mask)
        model_close(&net.model);
    return tool_finish();
}
