/* augment - random changes of slices for training, each with its probability
 *
 * reads   image (f32), patient, case, slice, slab, epoch, repeat; label with -T and -f; crop
 * and largest with -w; modalities and missing with dropout
 * changes image; label with rotate, scale, stretch, elastic, flip; with -w image, label, largest
 * adds    crop and cropped with -w; missing with dropout
 *
 * With -j threads one more reads and checks, so that what is wrong is told in the order of the
 * stream, and the first writes. */
#include "formats/contract.h"
#include "lib/base/number.h"
#include "lib/base/ring.h"
#include "lib/image/augment.h"
#include "tools/tool.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "[-Hv] [-j THREADS] [-s SEED] [-T LABELS] [-w HxW [-f SHARE]] [OP[=LO:HI][@PROBABILITY]...] "
    "< STREAM > STREAM";
static const char options[] = "-f --share= -j --threads= -s --seed= -T --labels= -w --window=";

/* What is done where nothing is named: on held-out patients better than all else that was tried. */
static const enum img_op recommended[] = {IMG_FLIP,       IMG_BIASFIELD, IMG_NOISE,    IMG_BLUR,
                                          IMG_BRIGHTNESS, IMG_SHIFT,     IMG_CONTRAST, IMG_LOWRES,
                                          IMG_GAMMAINV,   IMG_GAMMA};

#define ALONG 65536 /* bytes behind image and label that are taken along */

static struct {
    unsigned long long seed;
    long threads;
    const char *labels;
    bool wanted[256];
    long height, width; /* of windows; 0: none */
    double share;       /* of them, around tumour */
    struct img_range op[IMG_OPS];
} opt = {.threads = 1};

static void set_labels(const char *text)
{
    opt.labels = text;
    for (const char *p = text; p;)
        opt.wanted[tool_label('T', text, &p)] = true;
}

static void set_window(const char *text)
{
    char end;
    if (sscanf(text, "%ldx%ld%c", &opt.height, &opt.width, &end) != 2 || opt.height < 1 ||
        opt.width < 1 || opt.height > IMG_MAX_SIDE || opt.width > IMG_MAX_SIDE)
        tool_misuse("-w: (wanted HxW such as 128x128, each from 1 to %d, got '%s')", IMG_MAX_SIDE,
                    text);
}

static double number(const char *text, const char **end, const char *whole)
{
    char *e;
    double v;
    if (!number_read(text, &e, &v))
        tool_misuse("%s: (wanted OP=LO:HI@PROBABILITY with numbers, got '%s')", whole, text);
    *end = e;
    return v;
}

static void set_op(const char *text)
{
    size_t len = strcspn(text, "=@");
    const char *p = text + len;
    int o = img_op_find(text, len);
    if (o < 0) {
        char known[256] = "";
        for (int i = 0; i < IMG_OPS; i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), i ? ", %s" : "%s",
                     img_ops[i].name);
        tool_misuse("unknown operation (wanted one of %s, got '%.*s')", known, (int)len, text);
    }
    if (opt.op[o].p > 0)
        tool_misuse("%s: stands twice", img_ops[o].name);
    struct img_range r = img_ops[o].usual;
    if (*p == '=' && o == IMG_FLIP) {
        size_t n = strcspn(++p, "@");
        r.lo = memchr(p, 'x', n) != NULL;
        r.hi = memchr(p, 'y', n) != NULL;
        if (!n || (double)n != r.lo + r.hi)
            tool_misuse("%s: (wanted flip=x, flip=y or flip=xy)", text);
        p += n;
    } else if (*p == '=') {
        r.lo = r.hi = number(p + 1, &p, text);
        if (*p == ':')
            r.hi = number(p + 1, &p, text);
    }
    if (*p == '@')
        r.p = number(p + 1, &p, text);
    if (*p || !(r.p > 0 && r.p <= 1))
        tool_misuse("%s: (wanted OP=LO:HI@PROBABILITY, the last above 0 and at most 1)", text);
    if ((o != IMG_FLIP && r.lo > r.hi) || r.lo < img_ops[o].min || r.hi > img_ops[o].max)
        tool_misuse("%s: range (wanted LO:HI within %g:%g, LO not above HI)", text, img_ops[o].min,
                    img_ops[o].max);
    opt.op[o] = r;
}

/* All that changes the result, spelled out in the order in which it is done. */
static void describe(char *out, size_t size)
{
    int n = snprintf(out, size, "-s %llu", opt.seed);
    if (opt.labels)
        n += snprintf(out + n, size - (size_t)n, " -T %.200s", opt.labels);
    if (opt.height)
        n += snprintf(out + n, size - (size_t)n, " -w %ldx%ld -f %g", opt.height, opt.width,
                      opt.share);
    for (int o = 0; o < IMG_OPS; o++) {
        const struct img_range *r = &opt.op[o];
        if (r->p > 0 && o == IMG_FLIP)
            n += snprintf(out + n, size - (size_t)n, " flip=%s%s@%g", r->lo > 0 ? "x" : "",
                          r->hi > 0 ? "y" : "", r->p);
        else if (r->p > 0)
            n += snprintf(out + n, size - (size_t)n, " %s=%g:%g@%g", img_ops[o].name, r->lo, r->hi,
                          r->p);
    }
}

static bool in_slab(const struct tns_record *rec)
{
    return tns_get(&rec->meta, "slab");
}

/* Slices of a slab share theirs. */
static struct rng key(struct tns_record *rec)
{
    struct rng r = rng_seed(opt.seed);
    long epoch = 0, repeat = 0;
    const char *c = tns_get(&rec->meta, "case");
    if (tns_get(&rec->meta, "epoch"))
        epoch = tool_need_int(rec, "epoch", 0, 1000000000);
    if (tns_get(&rec->meta, "repeat"))
        repeat = tool_need_int(rec, "repeat", 0, 1000000000);
    rng_mix_text(&r, tool_need_key(rec, "patient"));
    rng_mix_text(&r, c ? c : "");
    rng_mix_text(&r, tool_need_key(rec, in_slab(rec) ? "slab" : "slice"));
    rng_mix(&r, (uint64_t)epoch);
    rng_mix(&r, (uint64_t)repeat);
    return r;
}

/* A slice's number among those of its slab. */
static uint64_t among(struct tns_record *rec)
{
    if (!in_slab(rec))
        return 0;
    const long first = tool_need_int(rec, "slab", 0, INT_MAX);
    return (uint64_t)(tool_need_int(rec, "slice", first, INT_MAX) - first);
}

static bool holds_wanted(const struct tensor *label)
{
    const uint8_t *v = label->data;
    for (size_t i = 0, n = tensor_count(label); i < n; i++)
        if (opt.wanted[v[i]])
            return true;
    return false;
}

/* What moves pixels must move all that lies on them. */
static bool moves(void)
{
    bool any = opt.height > 0;
    for (int o = 0; o <= IMG_FLIP; o++)
        any |= opt.op[o].p > 0;
    return any;
}

/* The modalities that are not there, and so are background already. */
static uint64_t absent(struct tns_record *rec)
{
    const char *names = tns_get(&rec->meta, "missing");
    uint64_t set = 0;
    if (names && contract_set(tool_need_key(rec, "modalities"), names, &set))
        tool_die_at(rec, "key 'missing': (wanted some of its modalities, got '%.60s')", names);
    return set;
}

static void check_modalities(struct tns_record *rec, uint32_t channels)
{
    const uint32_t n = (uint32_t)contract_count(tool_need_key(rec, "modalities"));
    if (n != channels || n > 64)
        tool_die_at(rec, "dropout: key 'modalities' (wanted %u names, at most 64, got %u)",
                    channels, n);
    absent(rec);
}

static void check(struct tns_record *rec)
{
    const struct tensor *image = tool_need_image(rec, DT_F32), *label = tns_tensor(rec, "label");
    uint32_t h = image->dim[1], w = image->dim[2];
    if (h > IMG_MAX_SIDE || w > IMG_MAX_SIDE)
        tool_die_at(rec, "image: too large (wanted at most %d by %d, got %u by %u)", IMG_MAX_SIDE,
                    IMG_MAX_SIDE, h, w);
    if (label || opt.labels || opt.share > 0) {
        label = tool_need(rec, "label", DT_U8, 2);
        if (label->dim[0] != h || label->dim[1] != w)
            tool_die_at(rec, "label: wrong shape (wanted %u by %u, got %u by %u)", h, w,
                        label->dim[0], label->dim[1]);
    }
    if (moves() && (tns_tensor(rec, "pred") || tns_tensor(rec, "prob")))
        tool_die_at(rec, "an operation that moves pixels would tear image and prediction apart");
    if (in_slab(rec) && (opt.labels || opt.share > 0))
        tool_die_at(rec, "-%c: a slab is changed as one thing, whatever one of its slices holds",
                    opt.labels ? 'T' : 'f');
    if (opt.op[IMG_DROPOUT].p > 0)
        check_modalities(rec, image->dim[0]);
    key(rec);
    among(rec);
}

static void cut(struct tns_record *rec, const char *name, struct img_box b)
{
    struct tensor *t = tns_tensor(rec, name), in;
    if (!t)
        return;
    in = *t;
    uint32_t dim[3] = {in.dim[0], (uint32_t)b.height, (uint32_t)b.width};
    img_crop(&in, b, tool_add(rec, name, in.dtype, in.rank, in.rank == 3 ? dim : dim + 1));
}

/* So that train plans for windows. */
static void limit_largest(struct tns_record *rec)
{
    double v[3] = {0};
    const int first = in_slab(rec) ? 0 : 1;
    if (!tns_get(&rec->meta, "largest"))
        return;
    tool_need_numbers(rec, "largest", 3 - first, v + first);
    v[1] = fmin(v[1], (double)opt.height);
    v[2] = fmin(v[2], (double)opt.width);
    if (first)
        tool_set(rec, "largest", "%.0f %.0f", v[1], v[2]);
    else
        tool_set(rec, "largest", "%.0f %.0f %.0f", v[0], v[1], v[2]);
}

/* The key `crop` says where the window lies, so that crop -u finds its place; how the slice was
 * cropped before, or that it was not, stays as it was: models are compared with slices by that. */
static void take_window(struct tns_record *rec)
{
    const struct tensor *image = tns_tensor(rec, "image"), *label = tns_tensor(rec, "label");
    int h = (int)image->dim[1], w = (int)image->dim[2];
    double was[6] = {0, 0, h, w, h, w};
    struct img_box b = img_window(key(rec), label ? label->data : NULL, h, w, (int)opt.height,
                                  (int)opt.width, opt.share);
    if (tns_get(&rec->meta, "crop"))
        tool_need_numbers(rec, "crop", 6, was);
    else
        tool_set(rec, "cropped", "none");
    cut(rec, "image", b);
    cut(rec, "label", b);
    tool_set(rec, "crop", "%.0f %.0f %ld %ld %.0f %.0f", was[0] + (double)b.y, was[1] + (double)b.x,
             b.height, b.width, was[4], was[5]);
    limit_largest(rec);
}

/* What is dropped, the record says is missing: so a model knows what it learned to do without. */
static void drop(struct tns_record *rec, const struct tensor *image)
{
    char names[4096];
    const uint64_t had = absent(rec);
    const uint64_t set =
        img_dropout(&opt.op[IMG_DROPOUT], key(rec), image->data, (int)image->dim[0],
                    (int)image->dim[1], (int)image->dim[2], had);
    if (!set)
        return;
    contract_names(tool_need_key(rec, "modalities"), had | set, names, sizeof names);
    tool_set(rec, "missing", "%s", names);
}

struct scratch {
    float *floats;
    size_t room;
};

static void change(struct tns_record *rec, struct scratch *s)
{
    struct tensor *image = tns_tensor(rec, "image"), *label = tns_tensor(rec, "label");
    int c = (int)image->dim[0], h = (int)image->dim[1], w = (int)image->dim[2];
    size_t need = img_augment_scratch(h, w);
    if (need > s->room) {
        free(s->floats);
        s->floats = tool_alloc(need * sizeof *s->floats);
        s->room = need;
    }
    if (!opt.labels || holds_wanted(label)) {
        img_augment(opt.op, key(rec), among(rec), image->data, c, h, w, label ? label->data : NULL,
                    s->floats);
        if (opt.op[IMG_DROPOUT].p > 0)
            drop(rec, image);
    }
    if (opt.height)
        take_window(rec);
}

/* What stands behind image and label goes from input to output in pieces, unless it is little; then
 * nothing of the record is left in the input, and true is returned. */
static bool take(struct tns_record *rec)
{
    size_t behind = 0;
    for (int i = 0; i < rec->ntensors; i++) {
        const struct tensor *t = &rec->tensor[i];
        bool used = !strcmp(t->name, "image") || !strcmp(t->name, "label");
        behind = used ? 0 : behind + tensor_bytes(t);
    }
    tool_take(rec, behind <= ALONG ? NULL : "image label");
    return behind <= ALONG;
}

/* --- threads: a ring of records that are read, changed by some thread, and written in order --- */

enum { READ, CHANGE, WRITE, STAGES };

struct slot {
    enum { SLICE, PASSES, END } kind;
    bool begins; /* a segment, with this header */
    struct tns_meta header;
    struct tns_record rec;
};

static struct slot slots[RING_SLOTS];
static struct ring ring = RING(RING_SLOTS, STAGES);

static void *reading(void *unused)
{
    struct slot *s;
    int segment = 0;
    (void)unused;
    do {
        unsigned turn = ring_take(&ring, READ, READ).slot;
        s = &slots[turn];
        s->kind = !tool_front(&s->rec) ? END : tns_is_mark(&s->rec) ? PASSES : SLICE;
        s->begins = tool_segment() > segment;
        segment = tool_segment();
        if (s->begins && tns_copy(&s->header, tool_header()))
            tool_die("out of memory");
        bool whole = s->kind == END || take(&s->rec);
        if (s->kind == SLICE)
            check(&s->rec);
        ring_pass(&ring, turn);
        if (!whole) /* the rest is passed on while it is written */
            ring_drain(&ring);
    } while (s->kind != END);
    return NULL;
}

static void *changing(void *unused)
{
    struct scratch scratch = {0};
    (void)unused;
    for (;;) {
        unsigned turn = ring_take(&ring, CHANGE, CHANGE).slot;
        struct slot *s = &slots[turn];
        if (s->kind == SLICE)
            change(&s->rec, &scratch);
        ring_pass(&ring, turn);
    }
    return NULL;
}

static void in_threads(void)
{
    struct slot *s;
    ring.slots = (unsigned)opt.threads + 2;
    tool_read_ahead();
    pthread_detach(tool_thread(reading));
    for (long i = 0; i < opt.threads; i++)
        pthread_detach(tool_thread(changing));
    for (;;) {
        unsigned turn = ring_take(&ring, WRITE, WRITE).slot;
        s = &slots[turn];
        if (s->begins)
            tool_write_segment(&s->header);
        if (s->kind == END)
            return;
        tool_write(&s->rec);
        ring_pass(&ring, turn);
    }
}

static void alone(void)
{
    struct tns_record rec = {0};
    struct scratch scratch = {0};
    while (tool_front(&rec)) {
        take(&rec);
        if (!tns_is_mark(&rec)) {
            check(&rec);
            change(&rec, &scratch);
        }
        tool_write(&rec);
    }
    tns_release(&rec);
    free(scratch.floats);
}

int main(int argc, char **argv)
{
    char what[1600];
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'f':
            opt.share = tool_double('f', optarg, 0, 1);
            break;
        case 'j':
            opt.threads = tool_int('j', optarg, 1, RING_SLOTS - 2);
            break;
        case 's':
            opt.seed = (unsigned long long)tool_int('s', optarg, 0, __LONG_MAX__);
            break;
        case 'T':
            set_labels(optarg);
            break;
        case 'w':
            set_window(optarg);
            break;
        }
    if (optind == argc && !opt.height)
        for (size_t i = 0; i < sizeof recommended / sizeof *recommended; i++)
            opt.op[recommended[i]] = img_ops[recommended[i]].usual;
    if (opt.share > 0 && !opt.height)
        tool_misuse("-f: of windows, which -w asks for");
    while (optind < argc)
        set_op(argv[optind++]);

    describe(what, sizeof what);
    tool_open("%s", what);
    if (opt.threads > 1)
        in_threads();
    else
        alone();
    return tool_finish();
}
