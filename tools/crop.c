/* crop - cut slices to the brain, or put them back
 *
 * reads   image, label, pred, prob, entropy, disagreement; brain unless -p slice; crop, regions
 * changes image, label, pred, prob, entropy, disagreement
 * adds    crop, cropped, with -w whole; with -u drops them */
#include "lib/image/crop.h"
#include "tools/tool.h"

#include <stdio.h>
#include <string.h>

static const char usage[] = "[-FHvw] [-p case|slice] [-m MULTIPLE | -s HxW] < STREAM > STREAM\n"
                            "       crop -u [-Hv] < STREAM > STREAM";
static const char options[] =
    "-F --force -m --multiple= -p --per= -s --size= -u --undo -w --whole-label";

#define MAX_SIDE 16384
#define SPARE 0.01 /* of a case's brain: what a box may leave out, a rim and stray voxels */

static const char *const cropped[] = {"image", "label", "pred", "prob", "entropy", "disagreement"};
enum { IMAGE, LABEL, PRED, PROB, CROPPED = sizeof cropped / sizeof *cropped };

static struct {
    bool by_slice, undo, force, whole;
    long multiple, height, width; /* multiple, or height and width, or neither: as if 16 */
    char how[64];                 /* the box, as options say it */
} opt;

static struct {
    unsigned long long voxels, slices; /* of tumour */
    unsigned long long cases;          /* whose brain was cut by more than can be spared */
    double most;                       /* of them, and whose */
    char of[128];
} lost;

/* The case in hand, in records that come together: its voxels that are not zero, and those outside
 * the box. */
static struct {
    char name[sizeof lost.of];
    double brain, outside;
    struct img_box box;
    bool fills; /* the brain's is the whole slice */
} now;

/* Where the record's tensors lie: `now` on the uncropped grid of rows x columns. */
struct place {
    struct img_box now;
    long rows, columns;
};

static void set_size(const char *text)
{
    const char *x = strchr(text, 'x');
    char height[16];
    if (!x || (size_t)(x - text) >= sizeof height)
        tool_misuse("-s: (wanted HxW such as 192x160, got '%s')", text);
    memcpy(height, text, (size_t)(x - text));
    height[x - text] = 0;
    opt.height = tool_int('s', height, 1, MAX_SIDE);
    opt.width = tool_int('s', x + 1, 1, MAX_SIDE);
}

/* n whole numbers of a key. */
static void whole_numbers(struct tns_record *rec, const char *key, int n, long *out)
{
    double v[8];
    tool_need_numbers(rec, key, n, v);
    for (int i = 0; i < n; i++) {
        if (!(v[i] >= -MAX_SIDE && v[i] <= TNS_MAX_DIM) || v[i] != (double)(long)v[i])
            tool_die_at(rec, "key '%s': (wanted whole numbers, got %g)", key, v[i]);
        out[i] = (long)v[i];
    }
}

/* The slice's place, told by the key `crop` or by the tensors, which have to agree. */
static struct place find_place(struct tns_record *rec)
{
    struct place p = {{0, 0, 0, 0}, 0, 0};
    const char *first = NULL;
    long v[6];
    for (int i = 0; i < CROPPED; i++) {
        struct tensor *t = tns_tensor(rec, cropped[i]);
        if (!t)
            continue;
        tool_need(rec, cropped[i], DT_COUNT, i == IMAGE || i == PROB ? 3 : 2);
        long h = t->dim[t->rank - 2], w = t->dim[t->rank - 1];
        if (first && (h != p.now.height || w != p.now.width))
            tool_die_at(rec, "tensors '%s' and '%s' differ in size (%ldx%ld and %ldx%ld)", first,
                        cropped[i], p.now.height, p.now.width, h, w);
        first = cropped[i];
        p.now.height = h;
        p.now.width = w;
    }
    if (!first)
        tool_die_at(rec, "nothing to crop (wanted one of image, label, pred, prob)");
    p.rows = p.now.height;
    p.columns = p.now.width;
    if (tns_get(&rec->meta, "crop")) {
        whole_numbers(rec, "crop", 6, v);
        if (v[2] != p.now.height || v[3] != p.now.width || v[4] < 1 || v[5] < 1)
            tool_die_at(rec, "key 'crop' does not fit tensor '%s' (%ldx%ld, got '%s')", first,
                        p.now.height, p.now.width, tns_get(&rec->meta, "crop"));
        p = (struct place){{v[0], v[1], v[2], v[3]}, v[4], v[5]};
    }
    return p;
}

/* The box to cut, on the uncropped grid. */
static struct img_box choose(struct tns_record *rec, const struct place *p)
{
    struct img_box b;
    long v[4];
    if (opt.by_slice) {
        struct tensor *t = tool_need(rec, "image", DT_COUNT, 3);
        if (img_nonzero_box(t, &b)) {
            b.y += p->now.y;
            b.x += p->now.x;
        }
    } else {
        whole_numbers(rec, "brain", 4, v);
        b = (struct img_box){v[0], v[1], v[2], v[3]};
        now.fills = b.height == p->rows && b.width == p->columns;
        if (b.y < 0 || b.x < 0 || b.height < 0 || b.width < 0 || b.y + b.height > p->rows ||
            b.x + b.width > p->columns)
            tool_die_at(rec, "key 'brain' does not lie on the slice (%ldx%ld, got '%s')", p->rows,
                        p->columns, tns_get(&rec->meta, "brain"));
    }
    return opt.height ? img_box_fixed(b, opt.height, opt.width, p->rows, p->columns)
                      : img_box_multiple(b, opt.multiple, p->rows, p->columns);
}

/* The label as it is, beside what is cut of it, until -u puts it back. */
static void keep_whole(struct tns_record *rec, const struct place *p)
{
    const struct tensor *label = tns_tensor(rec, "label");
    if (!label || tns_tensor(rec, "whole"))
        return;
    if (label->dim[0] != p->rows || label->dim[1] != p->columns)
        tool_die_at(rec, "-w: the label was cropped before (wanted %ldx%ld, got %ux%u)", p->rows,
                    p->columns, label->dim[0], label->dim[1]);
    const struct tensor in = *label;
    memcpy(tool_add(rec, "whole", in.dtype, 2, in.dim)->data, in.data, tensor_bytes(&in));
}

static void put_whole_back(struct tns_record *rec, const struct place *p)
{
    const struct tensor *whole = tns_tensor(rec, "whole");
    if (!whole)
        return;
    tool_need(rec, "whole", DT_U8, 2);
    if (whole->dim[0] != p->rows || whole->dim[1] != p->columns)
        tool_die_at(rec, "whole: wrong shape (wanted %ld by %ld, got %u by %u)", p->rows,
                    p->columns, whole->dim[0], whole->dim[1]);
    const struct tensor in = *whole;
    memcpy(tool_add(rec, "label", DT_U8, 2, in.dim)->data, in.data, tensor_bytes(&in));
    tns_remove(rec, "whole");
}

/* Tumour outside the box is never lost without a word. */
static void check_tumour(struct tns_record *rec, struct img_box b)
{
    size_t most = 0;
    for (int i = LABEL; i <= PRED; i++) {
        struct tensor *t = tns_tensor(rec, cropped[i]);
        size_t n = t && !(i == LABEL && opt.whole) ? img_count_outside(t, b) : 0;
        if (n && !opt.force)
            tool_die_at(rec,
                        "%s: %zu voxels lie outside the box of %ldx%ld (a larger -s or -m keeps "
                        "them, -F drops them)",
                        cropped[i], n, b.height, b.width);
        most = n > most ? n : most;
    }
    lost.voxels += most;
    lost.slices += most > 0;
}

/* Nor is brain. One slice says little, so the case is judged, where the next begins. */
static void judge_case(void)
{
    double share = now.outside > 0 ? now.outside / now.brain : 0;
    if (share > SPARE && !opt.force)
        tool_die("stdin: case %s: image: %.1f %% of the brain's voxels lie outside the box of "
                 "%ldx%ld (wanted at most %g %%; a larger -s or -m keeps them, -F drops them)%s",
                 now.name, 100 * share, now.box.height, now.box.width, 100 * SPARE,
                 now.fills ? "; its background is not zero, so all of it counts as brain" : "");
    if (share > 0)
        tool_note("case %s: %.3f %% of the brain's voxels lay outside the box", now.name,
                  100 * share);
    if (share > SPARE) {
        lost.cases++;
        if (share > lost.most) {
            lost.most = share;
            memcpy(lost.of, now.name, sizeof lost.of);
        }
    }
    now.brain = now.outside = 0;
}

static void follow_case(const struct tns_record *rec)
{
    const char *name = tns_get(&rec->meta, "case");
    name = name ? name : "";
    if (strncmp(name, now.name, sizeof now.name - 1)) {
        judge_case();
        snprintf(now.name, sizeof now.name, "%s", name);
    }
}

static void count_brain(struct tns_record *rec, struct img_box b)
{
    const struct tensor *t = tns_tensor(rec, "image");
    if (!t)
        return;
    now.box = b;
    now.brain += (double)img_count_outside(t, (struct img_box){0, 0, 0, 0});
    now.outside += (double)img_count_outside(t, b);
}

/* Cuts what `b` is, on the uncropped grid. Where probabilities are made up, all is background: of
 * classes the first is 1, of regions none. */
static void cut(struct tns_record *rec, const struct place *p, struct img_box b)
{
    struct img_box local = {b.y - p->now.y, b.x - p->now.x, b.height, b.width};
    for (int i = 0; i < CROPPED; i++) {
        struct tensor *t = tns_tensor(rec, cropped[i]), in;
        if (!t)
            continue;
        in = *t;
        uint32_t dim[3] = {in.dim[0], (uint32_t)b.height, (uint32_t)b.width};
        t = tool_add(rec, cropped[i], in.dtype, in.rank, in.rank == 3 ? dim : dim + 1);
        img_crop(&in, local, t);
        if (i != PROB || tns_get(&rec->meta, "regions"))
            continue;
        for (long y = 0; y < b.height; y++)
            for (long x = 0; x < b.width; x++)
                if (local.y + y < 0 || local.y + y >= p->now.height || local.x + x < 0 ||
                    local.x + x >= p->now.width)
                    tensor_set(t, (size_t)(y * b.width + x), 1);
    }
}

static void crop(struct tns_record *rec)
{
    struct place p = find_place(rec);
    struct img_box b;
    if (opt.undo) {
        cut(rec, &p, (struct img_box){0, 0, p.rows, p.columns});
        put_whole_back(rec, &p);
        tns_unset(&rec->meta, "crop");
        tns_unset(&rec->meta, "cropped");
        return;
    }
    follow_case(rec);
    b = choose(rec, &p);
    struct img_box local = {b.y - p.now.y, b.x - p.now.x, b.height, b.width};
    check_tumour(rec, local);
    count_brain(rec, local);
    if (opt.whole)
        keep_whole(rec, &p);
    cut(rec, &p, b);
    tool_set(rec, "crop", "%ld %ld %ld %ld %ld %ld", b.y, b.x, b.height, b.width, p.rows,
             p.columns);
    tool_set(rec, "cropped", "%s", opt.how);
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    int c;
    bool how = false;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'F':
            opt.force = how = true;
            break;
        case 'm':
            opt.multiple = tool_int('m', optarg, 1, MAX_SIDE);
            break;
        case 'p':
            if (strcmp(optarg, "case") && strcmp(optarg, "slice"))
                tool_misuse("-p: (wanted case or slice, got '%s')", optarg);
            opt.by_slice = *optarg == 's';
            how = true;
            break;
        case 's':
            set_size(optarg);
            break;
        case 'u':
            opt.undo = true;
            break;
        case 'w':
            opt.whole = how = true;
            break;
        }
    tool_no_operands();
    if (opt.undo && (how || opt.multiple || opt.height))
        tool_misuse("-u: takes no other option");
    if (opt.multiple && opt.height)
        tool_misuse("-m and -s: wanted one of them");
    if (!opt.multiple)
        opt.multiple = 16;

    const char *per = opt.by_slice ? "slice" : "case";
    if (opt.height)
        snprintf(opt.how, sizeof opt.how, "-p %s -s %ldx%ld", per, opt.height, opt.width);
    else
        snprintf(opt.how, sizeof opt.how, "-p %s -m %ld", per, opt.multiple);
    tool_open("%s%s%s", opt.force ? "-F " : "", opt.whole ? "-w " : "", opt.undo ? "-u" : opt.how);
    tool_uses("image label pred prob entropy disagreement whole");
    while (tool_read(&rec)) {
        if (!opt.undo || tns_get(&rec.meta, "crop"))
            crop(&rec);
        tool_write(&rec);
    }
    judge_case();
    if (lost.voxels)
        tool_warn("%llu voxels of tumour in %llu slices lay outside the box", lost.voxels,
                  lost.slices);
    if (lost.cases)
        tool_warn("%.1f %% of the brain's voxels of case %s lay outside the box (cases that lost "
                  "more than %g %%: %llu)",
                  100 * lost.most, lost.of, 100 * SPARE, lost.cases);
    tns_release(&rec);
    return tool_finish();
}
