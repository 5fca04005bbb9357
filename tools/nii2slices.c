/* nii2slices - one record for each axial slice of NIfTI studies
 *
 * reads   NIfTI files
 * adds    image, label, pred, entropy, disagreement, nifti; case, patient, slice, slices,
 *         modalities, scheme, spacing, brain, mean, std, fingerprint;
 *         missing with -a
 *
 * It is one thing: which files there are, a first pass over a case's, and a second, with the case
 * between them in two slots. */
#include "formats/layout.h"
#include "formats/lines.h"
#include "formats/nifti.h"
#include "formats/origin.h"
#include "formats/plain.h"
#include "lib/base/names.h"
#include "lib/base/ring.h"
#include "lib/image/patient.h"
#include "tools/tool.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "[-tHLPv] [-a NAME,...] [-j THREADS] [-l brats|bids|msd|nnunet|file|slices2nii] "
    "[-m NAME=PATTERN,...] [-p DIR] [-w WHO] CASE... > STREAM";
static const char options[] =
    "-a --absent= -j --threads= -l --layout= -L --no-labels -m --names= -p --predictions= "
    "-P --private -t --tumour -w --who=";

static struct {
    bool tumour, unlabelled, texts;
    enum layout layout;
    const char *pattern[LAY_FILES];
    long threads;
    const char *pred, *who;
    unsigned may_lack;
} opt;

/* --- the cases -------------------------------------------------------------------------------- */

static struct lay_list list;

/* Who is who, where a file says so. */
static struct {
    struct names cases, patients;
    uint32_t *of; /* each case: its patient */
} who;

static void read_who(void)
{
    static struct lines l;
    char *field[2];
    int e;
    l.name = opt.who;
    if (!(l.file = plain_open(opt.who, l.why, sizeof l.why)))
        tool_die("%s", l.why);
    while ((e = lines_next(&l)) == 1) {
        if (!*l.text || *l.text == '#')
            continue;
        int n = lines_split(&l, "\t", 0, field, 2);
        uint32_t known = who.cases.count, i = n == 2 ? names_add(&who.cases, field[0]) : 0;
        if (n != 2 || !*field[0] || !*field[1])
            lines_fail(&l, "wanted case and patient, with a tab between");
        else if (i < known)
            lines_fail(&l, "case '%.60s' stands twice", field[0]);
        else if (i == NAMES_NONE || !(who.of = realloc(who.of, (i + 1ul) * sizeof *who.of)) ||
                 (who.of[i] = names_add(&who.patients, field[1])) == NAMES_NONE)
            lines_fail(&l, "out of memory");
        else
            continue;
        e = -1;
        break;
    }
    if (e)
        tool_die("%s", l.why);
    fclose(l.file);
}

/* Whom a case shows. The text lives until the next call. */
static const char *patient_of(const char *name)
{
    static char own[LAY_NAME];
    uint32_t i = names_find(&who.cases, name);
    if (opt.who && i == NAMES_NONE)
        tool_die("case %s is not in %s", name, opt.who);
    if (opt.who)
        return names_text(&who.patients, who.of[i]);
    img_patient(name, own);
    return own;
}

static void find_case(size_t i, struct lay_case *c, char *why)
{
    if (lay_list_case(&list, i, c, why) || (opt.pred && lay_pred(opt.pred, c, why)))
        tool_die("%s", why);
    if (opt.unlabelled)
        *c->label = 0;
}

/* Every case is looked at before the first record is written. */
static void list_cases(int argc, char **argv)
{
    static char why[NII_WHY];
    static struct lay_case c;

    if (lay_list(&list, opt.layout, argc, argv, opt.pattern, opt.may_lack, why))
        tool_die("%s", why);
    for (size_t i = 0; i < list.n; i++) {
        find_case(i, &c, why);
        patient_of(c.name);
        if (opt.tumour && !*c.label)
            tool_die("%s: no segmentation (option -t needs one%s%s)", c.name,
                     *c.others ? "; passed over: " : "", c.others);
        if (*c.others)
            tool_warn("%s: passed over: %s (option -m takes files of other names)", c.name,
                      c.others);
        if (*c.lacks)
            tool_warn("%s: no file for %s, which is background then", c.name, c.lacks);
        for (int m = 0; m < c.modalities; m++)
            if (m == 0 || opt.layout != LAY_MSD)
                nii_each_half(c.file[m], tool_may_read);
        if (opt.layout == LAY_WRITTEN)
            nii_each_half(c.file[0], tool_may_read);
        nii_each_half(c.label, tool_may_read);
        nii_each_half(c.pred, tool_may_read);
        for (int m = 0; m < LAY_MAPS; m++)
            nii_each_half(c.map[m], tool_may_read);
    }
    for (size_t p = 0; p < list.places; p++)
        tool_may_read(list.place[p].dir);
}

/* --- the first pass: on several threads, at most one case ahead of the second ----------------- */

#define AHEAD 2 /* cases at work: one in each pass */

enum { PREPARE, SCAN, WRITE, STAGES };

struct study {
    struct lay_case c;
    struct nii_file *file[LAY_MODALITIES];
    struct nii_header head;
    struct nii_channel channel[LAY_MODALITIES]; /* in the stream's order, as the readers */
    struct nii_reader *reader[LAY_MODALITIES], *label, *pred, *map[LAY_MAPS];
    const char *grid_of;    /* the file that the others are to agree with, whose header is kept */
    uint8_t *used, *header; /* used: slices with tumour */
    size_t header_bytes;
    uint32_t first;
    int files;
    char why[LAY_MODALITIES + 1][NII_WHY]; /* of each file, then of the preparation */
};

static struct study studies[AHEAD];
static struct ring ring = RING(AHEAD, STAGES);

static int same_grid(struct study *s, const struct nii_file *f, const char *path, char *why)
{
    char differ[NII_WHY];
    const void *bytes;

    if (s->header && !nii_grids_differ(&s->head, nii_head(f), differ))
        return 0;
    if (s->header) {
        snprintf(why, NII_WHY, "%.380s: not on the grid of %.380s (%.200s)", path, s->grid_of,
                 differ);
        return -1;
    }
    s->head = *nii_head(f);
    s->grid_of = path;
    bytes = nii_bytes(f, &s->header_bytes);
    if (!opt.texts)
        return (s->header = origin_bare(bytes, s->header_bytes, &s->header_bytes, why)) ? 0 : -1;
    s->header = tool_alloc(s->header_bytes);
    memcpy(s->header, bytes, s->header_bytes);
    return 0;
}

/* (Inlined, path and why are parts of one study, which GCC 14 takes for an overlap.) */
static __attribute__((noinline)) int wrong_number(const char *path, const char *what,
                                                  const char *wanted, uint32_t got, char *why)
{
    snprintf(why, NII_WHY, "%.700s: %s (wanted %s, got %u)", path, what, wanted, got);
    return -1;
}

/* A volume that is no modality: one there may be, or not. */
static int scan_beside(struct study *s, const char *path, bool label, struct nii_reader **reader,
                       char *why)
{
    struct nii_channel channel;
    struct nii_file *f;
    int e = -1;

    if (!*path)
        return 0;
    if (!(f = nii_open(path, why)))
        return -1;
    if (nii_head(f)->channels != 1) {
        snprintf(why, NII_WHY, "%.700s: %s with %u volumes (wanted 1)", path,
                 label ? "a segmentation" : "a map", nii_head(f)->channels);
    } else if (!same_grid(s, f, path, why)) {
        if (reader == &s->label)
            s->used = tool_alloc(s->head.grid[2]);
        e = nii_scan(f, label, &channel, reader == &s->label ? s->used : NULL, s->first, reader,
                     why);
    }
    nii_close(f);
    return e;
}

/* Opens a file of modalities; one of all is to have them all. */
static int open_image(struct study *s, int f, char *why)
{
    const char *path = s->c.file[f];
    uint32_t n;

    if (!(s->file[f] = nii_open(path, why)))
        return -1;
    n = nii_head(s->file[f])->channels;
    if (opt.layout == LAY_WRITTEN) {
        if (n != 1 && n != LAY_MODALITIES)
            return wrong_number(path, "wrong number of volumes", "1 or 4", n, why);
        s->c.modalities = (int)n;
        for (int m = 0; m < s->c.modalities; m++)
            s->c.channel[m] = m;
    } else if (n != (opt.layout == LAY_MSD ? LAY_MODALITIES : 1)) {
        return wrong_number(path, "wrong number of volumes", opt.layout == LAY_MSD ? "4" : "1", n,
                            why);
    }
    return same_grid(s, s->file[f], path, why);
}

/* Opens every file of a case, compares their grids, and learns from the segmentation where to
 * start. */
static int prepare(struct study *s, size_t i, char *why)
{
    find_case(i, &s->c, why);
    if (scan_beside(s, s->c.label, true, &s->label, why))
        return -1;
    while (opt.tumour && s->first < s->head.grid[2] && !s->used[s->first])
        s->first++;
    if (scan_beside(s, s->c.pred, true, &s->pred, why))
        return -1;
    s->files = opt.layout == LAY_MSD       ? 1
               : opt.layout == LAY_WRITTEN ? *s->c.file[0] != 0
                                           : s->c.modalities;
    for (int f = 0; f < s->files; f++) {
        s->channel[f].whole = true; /* of one that is missing */
        if (*s->c.file[f] && open_image(s, f, why))
            return -1;
    }
    for (int m = 0; m < LAY_MAPS; m++)
        if (scan_beside(s, s->c.map[m], false, &s->map[m], why))
            return -1;
    return 0;
}

static int scan(struct study *s, int f, char *why)
{
    struct nii_channel channel[LAY_MODALITIES];
    struct nii_reader *reader[LAY_MODALITIES];

    if (!s->file[f])
        return 0;
    if (nii_scan(s->file[f], false, channel, NULL, s->first, reader, why))
        return -1;
    for (int m = 0; m < s->c.modalities; m++)
        if (s->files == 1 || m == f) {
            s->channel[m] = channel[s->c.channel[m]];
            s->reader[m] = reader[s->c.channel[m]];
        }
    nii_close(s->file[f]);
    s->file[f] = NULL;
    return 0;
}

/* Takes the oldest thing to do: the file of a case that is prepared, or the next case. */
static void *worker(void *unused)
{
    (void)unused;
    for (;;) {
        struct ring_turn t = ring_take(&ring, PREPARE, SCAN);
        struct study *s = &studies[t.slot];
        char *prepared = s->why[LAY_MODALITIES];
        if (t.stage == SCAN && !*prepared)
            scan(s, (int)t.part, s->why[t.part]);
        else if (t.stage == PREPARE && prepare(s, t.number, prepared) == 0 && s->files)
            ring_split(&ring, t.slot, (unsigned)s->files);
        ring_pass(&ring, t.slot);
    }
    return NULL;
}

static void start_workers(void)
{
    ring.end = list.n;
    for (long i = 0; i < opt.threads; i++)
        pthread_detach(tool_thread(worker));
}

static struct study *await(void)
{
    struct study *s = &studies[ring_take(&ring, WRITE, WRITE).slot];

    for (int f = 0; f <= LAY_MODALITIES; f++)
        if (*s->why[f])
            tool_die("%s", s->why[f]);
    return s;
}

static void release(struct study *s)
{
    for (int m = 0; m < LAY_MODALITIES; m++)
        nii_reader_free(s->reader[m]);
    for (int m = 0; m < LAY_MAPS; m++)
        nii_reader_free(s->map[m]);
    nii_reader_free(s->label);
    nii_reader_free(s->pred);
    free(s->used);
    free(s->header);
    memset(s, 0, sizeof *s);
    ring_pass(&ring, (unsigned)(s - studies));
}

/* --- the second pass: the records ------------------------------------------------------------- */

static void describe_image(struct tns_record *rec, const struct study *s)
{
    double mean[LAY_MODALITIES], std[LAY_MODALITIES];
    uint32_t box[2][2] = {{UINT32_MAX, 0}, {UINT32_MAX, 0}};
    char names[64] = "", prints[LAY_MODALITIES * 17 + 1] = "";

    for (int m = 0; m < s->c.modalities; m++) {
        const struct nii_channel *c = &s->channel[m];
        mean[m] = c->mean;
        std[m] = c->std;
        for (int a = 0; a < 2 && c->count; a++) {
            box[a][0] = c->box[a][0] < box[a][0] ? c->box[a][0] : box[a][0];
            box[a][1] = c->box[a][1] > box[a][1] ? c->box[a][1] : box[a][1];
        }
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", m ? "," : "",
                 s->c.modalities == 1 ? "image" : lay_modality[m]);
        snprintf(prints + strlen(prints), sizeof prints - strlen(prints), "%s%016" PRIx64,
                 m ? "," : "", c->print);
    }
    tool_set(rec, "modalities", "%s", names);
    if (box[0][1])
        tool_set(rec, "brain", "%u %u %u %u", box[1][0], box[0][0], box[1][1] - box[1][0],
                 box[0][1] - box[0][0]);
    else
        tool_set(rec, "brain", "0 0 0 0");
    if (*s->c.lacks)
        tool_set(rec, "missing", "%s", s->c.lacks);
    tool_set_numbers(rec, "mean", s->c.modalities, mean);
    tool_set_numbers(rec, "std", s->c.modalities, std);
    tool_set(rec, "fingerprint", "%s", prints);
}

static void describe(struct tns_record *rec, const struct study *s)
{
    tool_set(rec, "case", "%s", s->c.name);
    tool_set(rec, "patient", "%s", patient_of(s->c.name));
    tool_set(rec, "slices", "%u", s->head.grid[2]);
    if (s->label || s->pred)
        tool_set(rec, "scheme", "raw");
    if (s->label && s->c.labels && *s->c.labels)
        tool_set(rec, "labels", "%s", s->c.labels);
    tool_set_numbers(rec, "spacing", 3, s->head.spacing);
    if (s->c.modalities)
        describe_image(rec, s);
}

/* All tensors of a record but for what is in them. */
static void lay_out(struct tns_record *rec, const struct study *s, enum dtype type)
{
    uint32_t n = (uint32_t)s->header_bytes;
    uint32_t image[3] = {(uint32_t)s->c.modalities, s->head.grid[1], s->head.grid[0]};

    if (s->c.modalities)
        tool_add(rec, "image", type, 3, image);
    if (s->label)
        tool_add(rec, "label", DT_U8, 2, image + 1);
    if (s->pred)
        tool_add(rec, "pred", DT_U8, 2, image + 1);
    for (int m = 0; m < LAY_MAPS; m++)
        if (s->map[m])
            tool_add(rec, lay_map[m], DT_F32, 2, image + 1);
    memcpy(tool_add(rec, "nifti", DT_U8, 1, &n)->data, s->header, n);
}

static void take_slice(struct tns_record *rec, const char *name, struct nii_reader *r, uint32_t z)
{
    struct tensor *t = r ? tns_tensor(rec, name) : NULL;
    char why[NII_WHY];

    if (t && nii_slice(r, z, t->dtype, t->data, why))
        tool_die("%s", why);
}

static void write_slices(struct tns_record *rec, struct study *s)
{
    uint32_t slices = s->head.grid[2];
    enum dtype type = DT_I16;
    char why[NII_WHY];
    uint64_t written = 0;

    for (int m = 0; m < s->c.modalities; m++)
        type = s->channel[m].whole ? type : DT_F32;
    for (uint32_t z = s->first; z < slices; z++) {
        size_t plane = (size_t)s->head.grid[0] * s->head.grid[1] * dtype_size(type);
        if (opt.tumour && !s->used[z])
            continue;
        if (written++ == 0) {
            tns_clear(rec);
            describe(rec, s);
            lay_out(rec, s, type);
        }
        tool_set(rec, "slice", "%u", z);
        for (int m = 0; m < s->c.modalities; m++) {
            char *to = (char *)tns_tensor(rec, "image")->data + (size_t)m * plane;
            if (!s->reader[m])
                memset(to, 0, plane);
            else if (nii_slice(s->reader[m], z, type, to, why))
                tool_die("%s", why);
        }
        take_slice(rec, "label", s->label, z);
        take_slice(rec, "pred", s->pred, z);
        for (int m = 0; m < LAY_MAPS; m++)
            take_slice(rec, lay_map[m], s->map[m], z);
        tool_write(rec);
    }
    for (int m = 0; m < s->c.modalities; m++)
        if (s->reader[m] && nii_unchanged(s->reader[m], why))
            tool_die("%s", why);
    tool_note("%s: %llu of %u slices", s->c.name, (unsigned long long)written, slices);
}

/* What the case's files tell of how they were made comes into the history, before this tool; where
 * it is another than that of the case before, into another segment's. */
static void tell_steps(const struct study *s)
{
    static char *last;
    struct origin *o = tool_alloc(sizeof *o);
    struct tns_meta other = {0}, *header = last ? &other : tool_header();
    const char *generator = tns_get(tool_header(), "generator");
    char why[NII_WHY];

    if (origin_read(s->header, s->header_bytes, o, why) < 0)
        tool_die("%s: %s", s->c.name, why);
    if (!last || strcmp(last, o->made)) {
        if (last && generator && tns_set(&other, "generator", generator))
            tool_die("out of memory");
        for (char *p = o->made, *end; *p; p = end + 1) {
            end = strchr(p, '\n');
            *end = 0;
            if (tns_append(header, "history", p))
                tool_die("%s: the history cannot take this line: %s", s->c.name, p);
            *end = '\n';
        }
        if (last)
            tool_write_segment(&other);
        free(last);
        last = tool_copy(o->made);
        free(other.text);
    }
    free(o);
}

int main(int argc, char **argv)
{
    static struct tns_record rec;
    char why[NII_WHY];
    const char *layout = "brats", *absent = NULL;
    bool named = false;
    int c;

    tool_start(argc, argv, usage);
    opt.threads = tool_cores(1024);
    opt.threads = opt.threads < 1 ? 1 : opt.threads > 4 ? 4 : opt.threads;
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'a':
            if (lay_set(absent = optarg, &opt.may_lack, why))
                tool_misuse("-a: %s", why);
            break;
        case 'j':
            opt.threads = tool_int('j', optarg, 1, 64);
            break;
        case 'l':
            if (lay_by_name(layout = optarg, &opt.layout))
                tool_misuse("-l: unknown layout (wanted brats, bids, msd, nnunet, file or "
                            "slices2nii, got '%s')",
                            optarg);
            break;
        case 'L':
            opt.unlabelled = true;
            break;
        case 'm':
            if (lay_set_names(optarg, opt.pattern, why))
                tool_misuse("-m: %s", why);
            named = true;
            break;
        case 'p':
            opt.pred = optarg;
            break;
        case 'P':
            opt.texts = true;
            break;
        case 't':
            opt.tumour = true;
            break;
        case 'w':
            opt.who = optarg;
            break;
        }
    if (optind == argc)
        tool_usage();
    if (opt.tumour && opt.unlabelled)
        tool_misuse("-t: looks into segmentations, which -L leaves alone");
    if (named && opt.layout != LAY_BRATS && opt.layout != LAY_BIDS)
        tool_misuse("-m: names the files of a case folder (wanted -l brats or bids, got -l %s)",
                    layout);
    if (absent && opt.layout != LAY_BRATS && opt.layout != LAY_BIDS)
        tool_misuse("-a: of a case folder (wanted -l brats or bids, got -l %s)", layout);
    tool_promise();
    tool_may_read("/");
    tool_confine();
    if (opt.who)
        read_who();
    list_cases(argc - optind, argv + optind);
    tool_open_out("%s%s%s-l %s%s%s%s", absent ? "-a " : "", absent ? absent : "", absent ? " " : "",
                  layout, opt.pred ? " -p" : "", opt.tumour ? " -t" : "",
                  opt.unlabelled ? " -L" : "");
    start_workers();

    for (size_t i = 0; i < list.n; i++) {
        struct study *s = await();
        if (*s->head.doubt)
            tool_warn("%s: %s", s->c.name, s->head.doubt);
        tell_steps(s);
        write_slices(&rec, s);
        release(s);
    }
    tns_release(&rec);
    lay_list_free(&list);
    names_free(&who.cases);
    names_free(&who.patients);
    free(who.of);
    return tool_finish();
}
