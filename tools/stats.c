/* stats - what the cases hold: volume and share of each class, distribution of intensities
 *
 * reads   label or pred (u8), image; case, spacing, modalities
 * writes  a table; no stream */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/image/scheme.h"
#include "lib/image/sheet.h"
#include "tools/tool.h"

static const char usage[] =
    "[-J] [-n label|pred | -i [-l] [-b BINS] [-p case] [-r LOW:HIGH]] < STREAM > TABLE";
static const char options[] =
    "-b --bins= -i --intensities -J --json -l --log -n --tensor= -p --per= -r --range=";

#define MAX_CHANNELS 16
#define MAX_VALUES 256

static struct {
    bool intensities, json, log, by_case;
    const char *tensor;
    int bins;
    double low, high;
} opt = {.tensor = "label", .bins = 80, .low = -4, .high = 6};

static struct {
    char name[256];
    uint64_t voxels[MAX_VALUES], slices, tumour_slices;
    double spacing[3], mm3; /* of one voxel */
} now;

static uint64_t *histogram[MAX_CHANNELS], outside[MAX_CHANNELS], counted[MAX_CHANNELS];
static char modality[MAX_CHANNELS][32];
static uint32_t channels;

static void keep_name(struct tns_record *rec, const char *name)
{
    if (strlen(name) >= sizeof now.name)
        tool_die_at(rec, "key 'case' is too long");
    strcpy(now.name, name);
}

static void put_text(const char *name, bool first, const char *text)
{
    tool_put_cell(name, first, opt.json);
    tool_put_text(text, opt.json);
}

static void put(const char *name, const char *format, double v)
{
    tool_put_cell(name, false, opt.json);
    printf(format, v);
}

static void print_case(void)
{
    uint64_t all = 0;
    if (!now.slices)
        return;
    for (int v = 0; v < MAX_VALUES; v++)
        all += now.voxels[v];
    for (int v = 0; v < MAX_VALUES; v++)
        if (v < IMG_CAVITY || now.voxels[v]) {
            put_text("case", true, now.name);
            put("label", "%.0f", v);
            put_text("class", false, img_class_name(v));
            put("voxels", "%.0f", (double)now.voxels[v]);
            put("mm3", "%.1f", (double)now.voxels[v] * now.mm3);
            put("share", "%.6f", all ? (double)now.voxels[v] / (double)all : 0);
            put("slices", "%.0f", (double)now.slices);
            put("tumour_slices", "%.0f", (double)now.tumour_slices);
            tool_put_row_end(opt.json);
        }
}

static void count_classes(struct tns_record *rec)
{
    const char *name = tool_need_key(rec, "case"), *scheme = tns_get(&rec->meta, "scheme");
    double mm[3];
    if (strcmp(name, now.name)) {
        print_case();
        memset(&now, 0, sizeof now);
        keep_name(rec, name);
    }
    if (scheme && strcmp(scheme, "canonical"))
        tool_die_at(rec, "labels are not canonical (wanted recode -s SCHEME before, got scheme=%s)",
                    scheme);
    tool_spacing(rec, mm);
    if (now.slices && memcmp(mm, now.spacing, sizeof mm))
        tool_die_at(rec, "the case's spacing changes");
    memcpy(now.spacing, mm, sizeof mm);
    now.mm3 = mm[0] * mm[1] * mm[2];
    now.slices++;
    struct tensor *t = tool_need(rec, opt.tensor, DT_U8, 2);
    const uint8_t *v = t->data;
    size_t n = tensor_count(t), tumour = 0;
    for (size_t i = 0; i < n; i++) {
        now.voxels[v[i]]++;
        tumour += v[i] != 0;
    }
    now.tumour_slices += tumour > 0;
}

static void name_channels(struct tns_record *rec, uint32_t c)
{
    const char *p = tool_need_key(rec, "modalities");
    if (c > MAX_CHANNELS)
        tool_die_at(rec, "tensor 'image': too many channels (wanted at most %d, got %u)",
                    MAX_CHANNELS, c);
    for (channels = 0; channels < c; channels++) {
        size_t n = strcspn(p, ",");
        snprintf(modality[channels], sizeof *modality, "%.*s", (int)n, p);
        histogram[channels] = calloc((size_t)opt.bins, sizeof **histogram);
        if (!histogram[channels])
            tool_die("out of memory");
        p += n + (p[n] == ',');
    }
}

static void print_histogram(void)
{
    double width = (opt.high - opt.low) / opt.bins;
    for (uint32_t c = 0; c < channels; c++) {
        for (int b = 0; b < opt.bins; b++) {
            if (opt.by_case)
                put_text("case", true, now.name);
            put_text("modality", !opt.by_case, modality[c]);
            put("from", "%g", opt.low + b * width);
            put("to", "%g", opt.low + (b + 1) * width);
            put("voxels", "%.0f", (double)histogram[c][b]);
            put("share", "%.6f", counted[c] ? (double)histogram[c][b] / (double)counted[c] : 0);
            tool_put_row_end(opt.json);
        }
        if (outside[c])
            tool_note("%s%s%s: %llu of %llu voxels lie outside %g to %g", now.name,
                      opt.by_case ? ": " : "", modality[c], (unsigned long long)outside[c],
                      (unsigned long long)counted[c], opt.low, opt.high);
        memset(histogram[c], 0, (size_t)opt.bins * sizeof **histogram);
        outside[c] = counted[c] = 0;
    }
}

/* A histogram is of one case. */
static void begin_case(struct tns_record *rec)
{
    const char *name = tool_need_key(rec, "case");
    if (!strcmp(name, now.name))
        return;
    if (*now.name)
        print_histogram();
    keep_name(rec, name);
}

/* Voxels that are zero are background and not counted. */
static void count_intensities(struct tns_record *rec, float **row, size_t *room)
{
    struct tensor *t = tool_need(rec, "image", DT_COUNT, 3);
    size_t n = (size_t)t->dim[1] * t->dim[2];
    if (opt.by_case)
        begin_case(rec);
    if (!channels)
        name_channels(rec, t->dim[0]);
    if (t->dim[0] != channels)
        tool_die_at(rec, "tensor 'image': (wanted %u channels, got %u)", channels, t->dim[0]);
    if (n > *room) {
        free(*row);
        *row = tool_alloc(n * sizeof **row);
        *room = n;
    }
    double scale = opt.bins / (opt.high - opt.low);
    for (uint32_t c = 0; c < channels; c++) {
        tensor_to_f32(t, c * n, n, *row);
        for (size_t i = 0; i < n; i++) {
            double v = (*row)[i];
            if (v == 0)
                continue;
            v = ((opt.log ? (v > 0 ? log2(v + 1) : -1) : v) - opt.low) * scale;
            counted[c]++;
            if (v >= 0 && v < opt.bins)
                histogram[c][(int)v]++;
            else
                outside[c]++;
        }
    }
}

static void set_range(char *text)
{
    char *colon = strchr(text, ':');
    if (!colon)
        tool_misuse("-r: (wanted LOW:HIGH, got '%s')", text);
    *colon = 0;
    opt.low = tool_double('r', text, -1e9, 1e9);
    opt.high = tool_double('r', colon + 1, -1e9, 1e9);
    if (opt.low >= opt.high)
        tool_misuse("-r: (wanted LOW below HIGH, got %g and %g)", opt.low, opt.high);
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    float *row = NULL;
    size_t room = 0;
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'b':
            opt.bins = (int)tool_int('b', optarg, 1, 10000);
            break;
        case 'i':
            opt.intensities = true;
            break;
        case 'J':
            opt.json = true;
            break;
        case 'l':
            opt.log = true;
            break;
        case 'n':
            if (strcmp(optarg, "label") && strcmp(optarg, "pred"))
                tool_misuse("-n: (wanted label or pred, got '%s')", optarg);
            opt.tensor = optarg;
            break;
        case 'p':
            if (strcmp(optarg, "case"))
                tool_misuse("-p: (wanted case, got '%s')", optarg);
            opt.by_case = true;
            break;
        case 'r':
            set_range(optarg);
            break;
        }
    tool_no_operands();

    tool_open_in();
    if (opt.json)
        ;
    else if (opt.intensities)
        printf("%smodality\tfrom\tto\tvoxels\tshare\n", opt.by_case ? "case\t" : "");
    else
        printf("case\tlabel\tclass\tvoxels\tmm3\tshare\tslices\ttumour_slices\n");
    tool_uses(opt.intensities ? "image" : opt.tensor);
    while (tool_read(&rec))
        if (!tns_is_mark(&rec)) {
            if (opt.intensities)
                count_intensities(&rec, &row, &room);
            else
                count_classes(&rec);
        }
    if (opt.intensities)
        print_histogram();
    else
        print_case();
    tool_put_rows_end(opt.json);
    free(row);
    tns_release(&rec);
    return tool_finish();
}
