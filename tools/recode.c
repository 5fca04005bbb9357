/* recode - bring labels to the canonical numbering, or back
 *
 * reads   label (u8), scheme, labels
 * changes label, pred
 * adds    scheme, if absent; tumour, where there is a label
 * drops   labels, which tell of the numbers that were */
#include "lib/image/scheme.h"
#include "lib/image/sheet.h"
#include "tools/tool.h"

#include <stdio.h>
#include <string.h>

static const char usage[] = "[-FiHv] [-r background|keep] -s SCHEME < STREAM > STREAM";
static const char options[] = "-F --force -i --inverse -r --cavity= -s --scheme=";

static struct {
    bool inverse, force;
    int cavity; /* what becomes of a resection cavity: IMG_NONE until the user has chosen */
    const struct img_scheme *scheme;
} opt = {.cavity = IMG_NONE};

static void set_scheme(const char *name)
{
    if ((opt.scheme = img_scheme(name)))
        return;
    char known[256] = "";
    for (int i = 0; img_scheme_name(i); i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), i ? ", %s" : "%s",
                 img_scheme_name(i));
    tool_misuse("-s: unknown scheme (wanted one of %s, got '%s')", known, name);
}

static bool recode(struct tns_record *rec, const char *name, const uint8_t map[256])
{
    struct tensor *t = tns_tensor(rec, name);
    if (!t)
        return false;
    t = tool_need(rec, name, DT_U8, 2);
    uint8_t *v = t->data;
    size_t n = tensor_count(t), i = img_recode(v, n, map);
    if (i < n && v[i] == opt.scheme->cavity)
        tool_die_at(rec, "%s: value %u is a resection cavity (wanted -r background or -r keep)",
                    name, v[i]);
    if (i < n)
        tool_die_at(
            rec, "%s: value outside the scheme (wanted one of %s, got %u at row %zu, column %zu)",
            name, opt.inverse ? "canonical" : opt.scheme->name, v[i], i / t->dim[1], i % t->dim[1]);
    return true;
}

/* For pick -k 'tumour>100', which need not look at labels. */
static void count_tumour(struct tns_record *rec)
{
    const struct tensor *t = tns_tensor(rec, "label");
    const uint8_t *v = t->data;
    size_t n = tensor_count(t), tumour = 0;
    for (size_t i = 0; i < n; i++)
        tumour += v[i] != IMG_BACKGROUND;
    tool_set(rec, "tumour", "%zu", tumour);
}

/* The data set's own names of its numbers, where the files came with them. */
static void check_names(struct tns_record *rec)
{
    static bool warned;
    const char *list = tns_get(&rec->meta, "labels");
    struct img_denial d;

    if (!list || !img_scheme_denied(opt.scheme, list, &d))
        return;
    if (!opt.force)
        tool_die_at(rec,
                    "the data set calls %u '%.*s', which is %s; in %s %u is %s (wanted another "
                    "scheme, or -F)",
                    d.value, d.n, d.words, img_class_name(d.means), opt.scheme->name, d.value,
                    img_class_name(d.takes));
    if (!warned)
        tool_warn_at(rec, "%u, which the data set calls '%.*s', is taken for %s", d.value, d.n,
                     d.words, img_class_name(d.takes));
    warned = true;
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    uint8_t map[256];
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'F':
            opt.force = true;
            break;
        case 'i':
            opt.inverse = true;
            break;
        case 'r':
            if (strcmp(optarg, "background") && strcmp(optarg, "keep"))
                tool_misuse("-r: (wanted background or keep, got '%s')", optarg);
            opt.cavity = *optarg == 'k' ? IMG_CAVITY : IMG_BACKGROUND;
            break;
        case 's':
            set_scheme(optarg);
            break;
        }
    tool_no_operands();
    if (!opt.scheme)
        tool_usage();

    if (opt.cavity != IMG_NONE && !opt.scheme->cavity)
        tool_misuse("-r: scheme %s has no resection cavity", opt.scheme->name);

    tool_open("%s%s-s %s", opt.inverse ? "-i " : "",
              opt.cavity == IMG_CAVITY ? "-r keep "
              : opt.cavity == IMG_NONE ? ""
                                       : "-r background ",
              opt.scheme->name);
    memcpy(map, opt.scheme->to_canonical, sizeof map);
    if (opt.scheme->cavity)
        map[opt.scheme->cavity] = (uint8_t)opt.cavity;
    if (opt.inverse)
        img_scheme_inverse(opt.scheme, map);

    tool_uses("label pred");
    while (tool_read(&rec)) {
        const char *from = opt.inverse ? "canonical" : "raw", *have = tns_get(&rec.meta, "scheme");
        /* Labels that -i brought back say so; they may come in again. */
        bool back_again = !opt.inverse && have && !strcmp(have, opt.scheme->name);
        if (have && strcmp(have, from) && !back_again)
            tool_die_at(&rec, "labels were recoded already (wanted scheme=%s, got scheme=%s)", from,
                        have);
        if (!opt.inverse)
            check_names(&rec);
        tns_unset(&rec.meta, "labels");
        if (recode(&rec, "label", map))
            count_tumour(&rec);
        recode(&rec, "pred", map);
        tool_set(&rec, "scheme", "%s", opt.inverse ? opt.scheme->name : "canonical");
        tool_write(&rec);
    }
    tns_release(&rec);
    return tool_finish();
}
