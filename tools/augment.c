/* augment - random changes of slices for training, each with its probability
 *
 * reads   image (f32), patient, case, slice, epoch, repeat; label with -T
 * changes image; label with rotate, scale, elastic, flip
 * adds    nothing */
#include "lib/image/augment.h"
#include "tools/tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "[-Hv] [-s SEED] [-T LABELS] OP[=LO:HI][@PROBABILITY]... < STREAM > STREAM";

static struct {
    unsigned long long seed;
    const char *labels;
    bool wanted[256];
    struct img_range op[IMG_OPS];
} opt;

static void set_labels(const char *text)
{
    const char *p = opt.labels = text;
    do {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (errno || end == p || v < 0 || v > 255 || (*end && *end != ','))
            tool_misuse("-T: (wanted labels such as 1,3, got '%s')", text);
        opt.wanted[v] = true;
        p = end + (*end == ',');
    } while (*p);
}

static double number(const char *text, const char **end, const char *whole)
{
    char *e;
    errno = 0;
    double v = strtod(text, &e);
    if (errno || e == text || !(v - v == 0))
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
    rng_mix_text(&r, tool_need_key(rec, "slice"));
    rng_mix(&r, (uint64_t)epoch);
    rng_mix(&r, (uint64_t)repeat);
    return r;
}

static bool holds_wanted(const struct tensor *label)
{
    const uint8_t *v = label->data;
    for (size_t i = 0, n = tensor_count(label); i < n; i++)
        if (opt.wanted[v[i]])
            return true;
    return false;
}

/* Operations that move pixels must move all that lies on them. */
static bool moves(void)
{
    return opt.op[IMG_ROTATE].p > 0 || opt.op[IMG_SCALE].p > 0 || opt.op[IMG_ELASTIC].p > 0 ||
           opt.op[IMG_FLIP].p > 0;
}

static void change(struct tns_record *rec)
{
    static float *scratch;
    static size_t room;
    struct tensor *image = tool_need_image(rec, DT_F32), *label = tns_tensor(rec, "label");
    uint32_t c = image->dim[0], h = image->dim[1], w = image->dim[2];
    if (h > IMG_MAX_SIDE || w > IMG_MAX_SIDE)
        tool_die_at(rec, "image: too large (wanted at most %d by %d, got %u by %u)", IMG_MAX_SIDE,
                    IMG_MAX_SIDE, h, w);
    if (label || opt.labels) {
        label = tool_need(rec, "label", DT_U8, 2);
        if (label->dim[0] != h || label->dim[1] != w)
            tool_die_at(rec, "label: wrong shape (wanted %u by %u, got %u by %u)", h, w,
                        label->dim[0], label->dim[1]);
    }
    if (moves() && (tns_tensor(rec, "pred") || tns_tensor(rec, "prob")))
        tool_die_at(rec, "an operation that moves pixels would tear image and prediction apart");
    if (opt.labels && !holds_wanted(label))
        return;
    size_t need = img_augment_scratch((int)h, (int)w);
    if (need > room) {
        free(scratch);
        scratch = tool_alloc(need * sizeof *scratch);
        room = need;
    }
    img_augment(opt.op, key(rec), image->data, (int)c, (int)h, (int)w, label ? label->data : NULL,
                scratch);
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    char what[900];
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt("s:T:")) != -1)
        switch (c) {
        case 's':
            opt.seed = (unsigned long long)tool_int('s', optarg, 0, __LONG_MAX__);
            break;
        case 'T':
            set_labels(optarg);
            break;
        }
    if (optind == argc)
        tool_usage();
    while (optind < argc)
        set_op(argv[optind++]);

    describe(what, sizeof what);
    tool_open("%s", what);
    tool_uses("image label");
    while (tool_read(&rec)) {
        change(&rec);
        tool_write(&rec);
    }
    tns_release(&rec);
    return tool_finish();
}
