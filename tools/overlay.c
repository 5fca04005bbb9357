/* overlay - pictures of scan, truth, prediction and their overlap
 *
 * reads   image, label, pred (u8), the map of -u (f32); case, slice, slices, modalities, scheme,
 *         spacing
 * writes  PNG files, with -p a text too; no stream */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "formats/atomic.h"
#include "formats/contract.h"
#include "formats/png.h"
#include "lib/image/scheme.h"
#include "lib/metric/metric.h"
#include "tools/overlay.h"

static const char usage[] =
    "[-bclv] [-a | -k EVERY | -n COUNT | -p] [-m MODALITY,...] [-u MAP] [-z ZOOM] -o DIR < STREAM\n"
    "       overlay -I FILE";
static const char options[] =
    "-a --all -b --board -c --sheet -I --itksnap= -k --every= -l --lines -m --modalities= "
    "-n --count= -o --output= -p --planes -u --uncertainty= -z --zoom=";

static struct {
    const char *labels;
    int every;
    size_t most; /* slices with much tumour; 0: all, or every k-th */
    bool board, sheet, lines, planes;
} opt = {.most = 4};

static struct overlay_options all = {.zoom = 2}; /* what -p heeds too */

struct kept {
    struct img_slice s;
    size_t worth; /* voxels of tumour, or of brain where there is none */
    bool taken;
};

/* While slices are chosen, this many for each that is wanted. */
enum { CANDIDATES = 4, BOARD_MM = 20 };

/* The case in hand. Its slices are kept as grey and labels, one byte a voxel, in the order of z. */
static struct {
    char name[256], scan_name[IMG_SHEET_SCANS][32];
    struct kept *slice;
    size_t n, room;
    bool tumour;    /* while choosing: those kept hold some, and then others are not wanted */
    long stride;    /* and there is one slice in each stretch of this many */
    long low, high; /* of those that could be chosen */
    double zoom[2], mm[2];
    bool label, pred;
    long seen, slices; /* records so far; of the whole case, 0 unknown */
    double hit[3], truth[3], guess[3];
} now;

/* Cases already drawn: a second run of records of one would silently replace its pictures. */
static struct names done;

static void split_modalities(char *text)
{
    for (char *p = strtok(text, ","); p; p = strtok(NULL, ",")) {
        if (all.nmodality == IMG_SHEET_SCANS)
            tool_misuse("-m: more than %d modalities", IMG_SHEET_SCANS);
        all.modality[all.nmodality++] = p;
    }
}

/* ITK-SNAP's label description file: IDX R G B A VIS MSH "LABEL". */
static void write_labels(const char *path)
{
    char text[512], why[256];
    int n = 0;
    for (int v = 0; v < IMG_CLASSES; v++) {
        uint32_t c = img_class_colour(v);
        n += snprintf(text + n, sizeof text - (size_t)n, "%5d %5u %4u %4u %8d %2d %2d    \"%s\"\n",
                      v, c >> 16, c >> 8 & 255, c & 255, v > 0, v > 0, v > 0,
                      v ? img_class_name(v) : "Clear Label");
    }
    if (afile_put(path, text, (size_t)n, why, sizeof why))
        tool_die("%s: %s", path, why);
}

static void free_slice(struct kept *k)
{
    for (int i = 0; i < IMG_SHEET_SCANS; i++)
        free((void *)k->s.scan[i]);
    free((void *)k->s.label);
    free((void *)k->s.pred);
    free((void *)k->s.heat);
}

/* What the picture says of a region, and of which slices it is the truth. */
static void write_note(char *note, size_t size)
{
    static const char *const name[] = {"WT", "TC", "ET"};
    int n = now.slices > 0 && now.seen < now.slices
                ? snprintf(note, size, "Dice of %ld of %ld slices:", now.seen, now.slices)
                : snprintf(note, size, "Dice of the case:");
    for (int r = 0; r < 3; r++) {
        double sum = now.truth[r] + now.guess[r];
        if (sum > 0)
            n += snprintf(note + n, size - (size_t)n, "%s %s %.3f%s", r ? "  " : "", name[r],
                          2 * now.hit[r] / sum, now.truth[r] > 0 ? "" : " (none in truth)");
        else
            n +=
                snprintf(note + n, size - (size_t)n, "%s %s none in truth", r ? "  " : "", name[r]);
    }
}

void overlay_save(const char *path, struct img_picture *p, int drawn)
{
    char why[512];
    if (drawn)
        tool_die("%s: %s", path,
                 drawn == -1 ? "the picture is too large (wanted fewer slices or a smaller -z)"
                             : "out of memory");
    if (png_save(path, p->width, p->height, p->pixels, why, sizeof why))
        tool_die("%s: %s", path, why);
    img_picture_free(p);
}

static void draw(struct img_sheet *s, const struct img_slice *list, size_t n, const char *path)
{
    struct img_picture p;
    int drawn = img_sheet_draw(s, list, (int)n, &p);
    overlay_save(path, &p, drawn);
}

/* The best slice that lies as far from those taken, or NULL. */
static struct kept *best(long distance)
{
    struct kept *found = NULL;
    for (size_t i = 0; i < now.n; i++) {
        struct kept *k = &now.slice[i];
        bool far = !k->taken;
        for (size_t t = 0; t < now.n; t++)
            far &= !now.slice[t].taken || labs(now.slice[t].s.z - k->s.z) >= distance;
        if (far && (!found || k->worth > found->worth))
            found = k;
    }
    return found;
}

/* Of a case's slices those with the most tumour, apart from each other, so that they do not show
 * the same thing: by a share of the tumour's height, or as far as there are enough slices. */
static void choose(void)
{
    size_t n = 0, m = 0;
    if (!opt.most || !now.n)
        return;
    long distance = (now.high - now.low + 1) / ((long)opt.most + 1);
    while (n < opt.most && n < now.n) {
        struct kept *k = best(distance);
        if (k)
            k->taken = true, n++;
        else
            distance /= 2;
    }
    for (size_t i = 0; i < now.n; i++)
        if (now.slice[i].taken)
            now.slice[m++] = now.slice[i];
        else
            free_slice(&now.slice[i]);
    now.n = m;
}

static void finish_case(void)
{
    char title[512], note[256] = "";
    struct img_sheet s = {.title = title,
                          .note = note,
                          .nscan = all.nmodality,
                          .label = now.label,
                          .pred = now.pred,
                          .heat = all.heat,
                          .lines = opt.lines,
                          .zoom = {now.zoom[0], now.zoom[1]}};
    if (!now.seen)
        return;
    choose();
    for (int i = 0; i < all.nmodality; i++)
        s.scan_name[i] = now.scan_name[i];
    snprintf(title, sizeof title, "%s", now.name);
    if (now.label && now.pred)
        write_note(note, sizeof note);
    struct img_slice *list = tool_alloc((now.n + 1) * sizeof *list);
    for (size_t i = 0; i < now.n; i++)
        list[i] = now.slice[i].s;
    img_sheet_trim(&s, list, (int)now.n);
    struct tns_record named = {0};
    tool_set(&named, "case", "%s", now.name);
    if (opt.sheet && now.n)
        draw(&s, list, now.n, tool_case_path(&named, all.dir, ".png"));
    for (size_t i = 0; i < now.n; i++) {
        if (!opt.sheet)
            draw(&s, &list[i], 1, tool_case_path(&named, all.dir, "_z%03ld.png", list[i].z));
        free_slice(&now.slice[i]);
    }
    tns_release(&named);
    free(list);
    tool_add_name(&done, now.name);
    now.n = 0;
}

/* Voxels are drawn as they are, the shorter side `all.zoom` pixels long. */
static void set_zoom(struct tns_record *rec)
{
    double mm[3] = {1, 1, 1};
    if (tns_get(&rec->meta, "spacing"))
        tool_need_numbers(rec, "spacing", 3, mm);
    if (!(mm[0] > 0 && mm[1] > 0))
        tool_die_at(rec, "key 'spacing': (wanted millimetres above 0, got '%.40s')",
                    tns_get(&rec->meta, "spacing"));
    double least = mm[0] < mm[1] ? mm[0] : mm[1];
    for (int i = 0; i < 2; i++)
        now.zoom[i] = all.zoom * mm[i] / least, now.mm[i] = mm[i];
}

static void begin_case(struct tns_record *rec, const char *name)
{
    if (names_find(&done, name) != NAMES_NONE)
        tool_die_at(rec, "records of this case are not together");
    if (strlen(name) >= sizeof now.name)
        tool_die_at(rec, "key 'case' is too long");
    strcpy(now.name, name);
    now.label = tns_tensor(rec, "label") != NULL;
    now.pred = tns_tensor(rec, "pred") != NULL;
    now.seen = 0;
    now.stride = 1;
    now.tumour = false;
    set_zoom(rec);
    now.slices = tns_get(&rec->meta, "slices") ? tool_need_int(rec, "slices", 1, 1000000) : 0;
    memset(now.hit, 0, sizeof now.hit);
    memset(now.truth, 0, sizeof now.truth);
    memset(now.guess, 0, sizeof now.guess);
}

/* Index of a modality in the record's image. */
uint32_t overlay_channel(struct tns_record *rec, const char *wanted, uint32_t channels)
{
    const char *names = tool_need_key(rec, "modalities");
    const int i = contract_find(names, wanted, strlen(wanted));
    if (i < 0 || (uint32_t)i >= channels)
        tool_die_at(rec, "no modality '%s' (have %s)", wanted, names);
    return (uint32_t)i;
}

static void same_shape(struct tns_record *rec, const struct tensor *t, uint32_t h, uint32_t w)
{
    if (t->dim[0] != h || t->dim[1] != w)
        tool_die_at(rec, "tensor '%s': shape differs from the image's (wanted %ux%u, got %ux%u)",
                    t->name, h, w, t->dim[0], t->dim[1]);
}

const uint8_t *overlay_labels(struct tns_record *rec, const char *name, uint32_t h, uint32_t w)
{
    struct tensor *t = tool_need(rec, name, DT_U8, 2);
    same_shape(rec, t, h, w);
    uint8_t *p = tool_alloc((size_t)h * w);
    memcpy(p, t->data, (size_t)h * w);
    for (size_t i = 0; i < (size_t)h * w; i++)
        if (p[i] >= IMG_LABELS)
            tool_die_at(rec, "%s: row %zu, column %zu: (wanted 0 to %d, got %u)", name, i / w,
                        i % w, IMG_LABELS - 1, p[i]);
    return p;
}

/* Every other square of a scan becomes the first one's: where they lie on each other, edges go on
 * from square to square. */
static void mix_board(struct img_slice *s, const double mm[2], uint8_t *scan)
{
    for (int y = 0; y < s->h; y++)
        for (int x = 0; x < s->w; x++)
            if (((int)(x * mm[0] / BOARD_MM) + (int)(y * mm[1] / BOARD_MM)) % 2)
                scan[y * s->w + x] = s->scan[0][y * s->w + x];
}

/* A tensor from 0 to 1, in as many steps as a byte has. */
const uint8_t *overlay_heat(struct tns_record *rec, const char *name, uint32_t h, uint32_t w)
{
    const struct tensor *t = tool_need(rec, name, DT_F32, 2);
    const float *v = t->data;
    same_shape(rec, t, h, w);
    for (size_t i = 0; i < (size_t)h * w; i++)
        if (!(v[i] >= 0 && v[i] <= 1))
            tool_die_at(rec, "tensor '%s': row %zu, column %zu: (wanted 0 to 1, got %g)", name,
                        i / w, i % w, (double)v[i]);
    uint8_t *p = tool_alloc((size_t)h * w);
    for (size_t i = 0; i < (size_t)h * w; i++)
        p[i] = (uint8_t)(255 * v[i] + 0.5f);
    return p;
}

static void count(const uint8_t *t, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (int r = 0; r < 3; r++) {
            unsigned region = met_parts[MET_WT + r].labels;
            bool a = region >> t[i] & 1, b = region >> p[i] & 1;
            now.truth[r] += a;
            now.guess[r] += b;
            now.hit[r] += a && b;
        }
}

static bool wanted(long z, size_t worth, bool tumour)
{
    if (!opt.most)
        return z % opt.every == 0;
    if (now.tumour && !tumour)
        return false;
    if (tumour && !now.tumour) {
        while (now.n)
            free_slice(&now.slice[--now.n]);
        now.tumour = true;
        now.stride = 1;
    }
    now.low = now.n && now.low < z ? now.low : z;
    now.high = now.n && now.high > z ? now.high : z;
    for (size_t i = 0; i < now.n; i++)
        if (now.slice[i].s.z / now.stride == z / now.stride)
            return worth > now.slice[i].worth;
    return true;
}

/* Leaves the best slice of each stretch. */
static void thin(void)
{
    size_t m = 0;
    for (size_t i = 0; i < now.n; i++) {
        struct kept *k = &now.slice[i], *last = m ? &now.slice[m - 1] : NULL;
        if (!last || k->s.z / now.stride != last->s.z / now.stride) {
            now.slice[m++] = *k;
        } else if (k->worth > last->worth) {
            free_slice(last);
            *last = *k;
        } else {
            free_slice(k);
        }
    }
    now.n = m;
}

static void keep(struct kept k)
{
    if (now.n == now.room) {
        now.room = now.room ? 2 * now.room : 16;
        if (!(now.slice = realloc(now.slice, now.room * sizeof *now.slice)))
            tool_die("out of memory");
    }
    size_t i = now.n++;
    for (; i > 0 && now.slice[i - 1].s.z > k.s.z; i--)
        now.slice[i] = now.slice[i - 1];
    now.slice[i] = k;
    for (; opt.most && (thin(), now.n > CANDIDATES * opt.most); now.stride *= 2)
        ;
}

static void check_scheme(struct tns_record *rec)
{
    const char *scheme = tns_get(&rec->meta, "scheme");
    if (scheme && strcmp(scheme, "canonical"))
        tool_die_at(rec, "labels are not canonical (wanted recode -s SCHEME before, got scheme=%s)",
                    scheme);
}

static void take(struct tns_record *rec)
{
    struct tensor *image = tool_need(rec, "image", DT_COUNT, 3);
    uint32_t h = image->dim[1], w = image->dim[2];
    size_t n = (size_t)h * w;
    struct kept k = {.s = {.w = (int)w, .h = (int)h, .z = tool_need_int(rec, "slice", 0, 1000000)}};
    if (now.label || now.pred)
        check_scheme(rec);
    if (now.label)
        k.s.label = overlay_labels(rec, "label", h, w);
    if (now.pred)
        k.s.pred = overlay_labels(rec, "pred", h, w);
    if (all.heat)
        k.s.heat = overlay_heat(rec, all.heat, h, w);
    if (now.label && now.pred)
        count(k.s.label, k.s.pred, n);
    const uint8_t *chosen = now.label ? k.s.label : k.s.pred;
    for (size_t i = 0; chosen && i < n; i++)
        k.worth += chosen[i] > 0;
    bool tumour = k.worth > 0;
    for (size_t i = 0; !tumour && i < n; i++)
        k.worth += tensor_get(image, i) != 0;
    if (!wanted(k.s.z, k.worth, tumour)) {
        free_slice(&k);
        return;
    }
    float *v = tool_alloc(2 * n * sizeof *v);
    for (int i = 0; i < all.nmodality; i++) {
        uint8_t *grey = tool_alloc(n);
        tensor_to_f32(image, overlay_channel(rec, all.modality[i], image->dim[0]) * n, n, v);
        img_to_grey(v, n, v + n, grey);
        k.s.scan[i] = grey;
        snprintf(now.scan_name[i], sizeof *now.scan_name, "%s", all.modality[i]);
        if (opt.board && i) {
            mix_board(&k.s, now.mm, grey);
            snprintf(now.scan_name[i], sizeof *now.scan_name, "%.13s and %.13s", all.modality[i],
                     all.modality[0]);
        }
    }
    free(v);
    keep(k);
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    char t1gd[] = "t1gd", *uses;
    int c, ways = 0;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'a':
            opt.most = 0, opt.every = 1, ways++;
            break;
        case 'b':
            opt.board = true;
            break;
        case 'c':
            opt.sheet = true;
            break;
        case 'I':
            opt.labels = optarg;
            break;
        case 'k':
            opt.every = (int)tool_int('k', optarg, 1, 100000), opt.most = 0, ways++;
            break;
        case 'l':
            opt.lines = true;
            break;
        case 'm':
            split_modalities(optarg);
            break;
        case 'n':
            opt.most = (size_t)tool_int('n', optarg, 1, 1000), ways++;
            break;
        case 'o':
            all.dir = optarg;
            break;
        case 'p':
            opt.planes = true, ways++;
            break;
        case 'u':
            all.heat = optarg;
            break;
        case 'z':
            all.zoom = (int)tool_int('z', optarg, 1, 8);
            break;
        }
    tool_no_operands();
    if (opt.labels)
        write_labels(opt.labels);
    if (opt.labels && !all.dir)
        return tool_finish();
    if (!all.dir || ways > 1)
        tool_usage();
    if (!all.nmodality)
        split_modalities(t1gd);
    if (opt.board && (opt.planes || all.nmodality < 2))
        tool_misuse("-b: wanted two modalities or more (-m), and no -p");

    if (mkdir(all.dir, 0777) && errno != EEXIST)
        tool_die("%s: %s", all.dir, strerror(errno));
    tool_may_write(all.dir);
    tool_open_in();
    if (asprintf(&uses, "image label pred %s", all.heat ? all.heat : "") < 0)
        tool_die("out of memory");
    tool_uses(uses);
    while (tool_read(&rec)) {
        if (tns_is_mark(&rec))
            continue;
        if (opt.planes) {
            check_scheme(&rec);
            planes_take(&all, &rec);
            continue;
        }
        const char *name = tool_need_key(&rec, "case");
        if (!now.seen || strcmp(name, now.name)) {
            finish_case();
            begin_case(&rec, name);
        }
        if ((tns_tensor(&rec, "label") != NULL) != now.label ||
            (tns_tensor(&rec, "pred") != NULL) != now.pred)
            tool_die_at(&rec, "some slices of the case have 'label' or 'pred', others not");
        now.seen++;
        take(&rec);
    }
    finish_case();
    planes_end(&all);
    names_free(&done);
    free(now.slice);
    free(uses);
    tns_release(&rec);
    return tool_finish();
}
