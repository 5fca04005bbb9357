/* model2onnx - a model as an ONNX graph, whose weights stay where they are
 *
 * reads   a model
 * writes  the graph, or its operations as JSON; no stream */
#include "tools/model2onnx.h"

#include "lib/image/beside.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "[-Hv] [-e | -w NAME] MODEL > GRAPH\n"
                            "       model2onnx -l MODEL\n"
                            "       model2onnx -t MODEL";

static const char options[] = "-e --embed -l --list -t --test -w --weights=";

enum { LIST = 8192 };

struct options opt;
struct model model;
struct nn_about about;
struct nn_outline outline;

/* --- the model -------------------------------------------------------------------------------- */

static void open_model(void)
{
    char why[512];
    struct nn_spec spec = {.name = opt.path};
    tool_maps(opt.path);
    if (model_open(&model, opt.path, why, sizeof why))
        tool_die("%s", why);
    tool_mapped(model.file.bytes, model.file.size);
    if ((spec.text = model.network))
        spec.length = strlen(spec.text);
    else if (!(spec.text = nn_known(model.arch, &spec.length)))
        tool_die("%s: unknown architecture '%.40s'", opt.path, model.arch);
    for (int i = 0; i < model.parameters; i++)
        nn_set(&spec, model.parameter[i].name, model.parameter[i].value);
    if (nn_about(&spec, &about, why, sizeof why) || nn_outline(&spec, &outline, why, sizeof why))
        tool_die("%s", why);
    const int planes = img_beside_planes(model.neighbours);
    if (about.inputs != planes * contract_count(model.modalities))
        tool_die("%s: a network of other inputs than the model's modalities (wanted %d, got %d)",
                 opt.path, planes * contract_count(model.modalities), about.inputs);
    if (about.outputs != model.targets.outputs)
        tool_die("%s: a network of other outputs than the model's targets (wanted %d, got %d)",
                 opt.path, model.targets.outputs, about.outputs);
}

const struct tensor *parameter(const struct tensor *wanted)
{
    const struct st_file *f = &model.file;
    for (int i = 0; i < f->tensors; i++) {
        const struct tensor *t = &f->tensor[i];
        if (strcmp(t->name, wanted->name))
            continue;
        if (t->rank != wanted->rank ||
            memcmp(t->dim, wanted->dim, (size_t)t->rank * sizeof *t->dim))
            tool_die("%s: parameter '%s': another shape than the network's", opt.path, t->name);
        return t;
    }
    tool_die("%s: parameter '%s' is missing", opt.path, wanted->name);
}

/* --- what is said of it ----------------------------------------------------------------------- */

/* Names of the image's channels in their order, those of neighbours with their distance. */
static void channels(char *to, size_t size)
{
    size_t at = 0;
    for (const char *p = model.modalities; *p; p += *p == ',') {
        const size_t n = strcspn(p, ",");
        for (int j = -model.neighbours; j <= model.neighbours && at < size; j++) {
            at += (size_t)snprintf(to + at, size - at, "%s%.*s", at ? "," : "", (int)n, p);
            if (j && at < size)
                at += (size_t)snprintf(to + at, size - at, "%+d", j);
        }
        p += n;
    }
    if (at >= size)
        tool_die("%s: its modalities have too long names", opt.path);
}

/* What a probability is of: labels in the scheme's numbers, or regions. */
static void outputs(char *to, size_t size)
{
    size_t at = 0;
    for (int i = 0; i < model.targets.outputs && at < size; i++)
        if (model.targets.regions)
            at += (size_t)snprintf(to + at, size - at, "%s%s", i ? "," : "", model.targets.name[i]);
        else
            at += (size_t)snprintf(to + at, size - at, "%s%d", i ? "," : "", i);
}

/* What a reader must know to feed it, and to understand what comes: not whom it learned from. */
static void each_key(void (*put)(void *, const char *key, const char *value), void *to)
{
    static const char *const keys[] = {
        "model",   "arch",      "modalities", "scheme",     "classes", "regions", "norm",
        "cropped", "spacing",   "steps",      "neighbours", "without", "depth",   "score",
        "leaky",   "generator", "parameters", "network",    "weights", "xxh3"};
    char text[LIST];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (st_meta(&model.file, keys[i]))
            put(to, keys[i], st_meta(&model.file, keys[i]));
    channels(text, sizeof text);
    put(to, "channels", text);
    outputs(text, sizeof text);
    put(to, "outputs", text);
}

/* --- as ONNX ---------------------------------------------------------------------------------- */

static void put_pair(void *to, const char *key, const char *value)
{
    onnx_pair(to, ONNX_MODEL_METADATA, key, value);
}

static void write_graph(void)
{
    struct onnx_out o = {0};
    onnx_int(&o, ONNX_MODEL_IR, ONNX_IR);
    onnx_text(&o, ONNX_MODEL_PRODUCER, "gliopipe");
    onnx_text(&o, ONNX_MODEL_PRODUCER_VERSION, GLIOPIPE_VERSION);
    onnx_text(
        &o, ONNX_MODEL_DOC,
        "image: channels as `channels` says, prepared as `steps`, `norm` and `cropped` say; of "
        "any size. prob: probabilities of what `outputs` says.");
    const size_t at = onnx_begin(&o, ONNX_MODEL_GRAPH);
    graph_write(&o);
    onnx_end(&o, at);
    const size_t set = onnx_begin(&o, ONNX_MODEL_OPSET);
    onnx_text(&o, ONNX_OPSET_DOMAIN, "");
    onnx_int(&o, ONNX_OPSET_VERSION, ONNX_OPSET);
    onnx_end(&o, set);
    each_key(put_pair, &o);
    if (o.failed)
        tool_die("out of memory");
    if (o.size > INT_MAX)
        tool_die(
            "%s: its weights are too many to be within the graph, which has 2 GiB at most (-e)",
            opt.path);
    fwrite(o.data, 1, o.size, stdout);
    free(o.data);
}

/* --- as JSON ---------------------------------------------------------------------------------- */

static void put_key(void *to, const char *key, const char *value)
{
    int *n = to;
    fputs((*n)++ ? ", " : "", stdout);
    tool_put_text(key, true);
    fputs(": ", stdout);
    tool_put_text(value, true);
}

/* Of an operation: type, shape, and where its bytes begin. A kernel has all three axes. */
static void put_weights(const struct nn_said *s)
{
    static const char *const kinds[DT_COUNT] = {
        [DT_F16] = "float16", [DT_BF16] = "bfloat16", [DT_F32] = "float32", [DT_F64] = "float64"};
    const int full = !strcmp(s->op, "positions") ? 4 : 5, first = full - 3;
    fputs(", \"weights\": {", stdout);
    for (int i = 0; i < s->params; i++) {
        const struct tensor *t = parameter(&s->param[i]);
        const int lacks = t->rank > 1 ? full - t->rank : 0;
        if (!kinds[t->dtype])
            tool_die("%s: parameter '%s': (wanted a float, got %s)", opt.path, t->name,
                     dtype_name(t->dtype));
        printf("%s\"%s\": [\"%s\", [", i ? ", " : "", strrchr(t->name, '.') + 1, kinds[t->dtype]);
        for (int k = 0; k < t->rank + lacks; k++)
            printf(k ? ", %u" : "%u", k < first           ? t->dim[k]
                                      : k < first + lacks ? 1
                                                          : t->dim[k - lacks]);
        printf("], %zu]", offset(t));
    }
    putchar('}');
}

static void list(void)
{
    int n = 0;
    printf("{\"volume\": %s, \"multiple\": [%d, %d, %d], \"metadata\": {",
           about.volume ? "true" : "false", about.multiple[0], about.multiple[1],
           about.multiple[2]);
    each_key(put_key, &n);
    fputs("},\n\"operations\": [\n", stdout);
    for (int i = 0; i < outline.count; i++) {
        const struct nn_said *s = &outline.said[i];
        printf("{\"op\": \"%s\", \"name\": \"%s\", \"in\": [", s->op, s->name);
        for (int k = 0; k < s->ins; k++)
            printf(k ? ", %d" : "%d", s->in[k]);
        putchar(']');
        for (int k = 0; k < s->attrs; k++) {
            const double *v = s->attr[k].v;
            printf(", \"%s\": ", s->attr[k].name);
            for (int a = 0; a < (s->attr[k].axes ? 3 : 1); a++) {
                fputs(s->attr[k].axes ? a ? ", " : "[" : "", stdout);
                tool_put_number(v[a], true);
            }
            fputs(s->attr[k].axes ? "]" : "", stdout);
        }
        put_weights(s);
        puts(i < outline.count - 1 ? "}," : "}");
    }
    puts("]}");
}

/* --- main ------------------------------------------------------------------------------------- */

/* A file beside the graph, or below it: ONNX allows no other. */
static const char *beside(const char *name)
{
    for (const char *p = name; *p; p += strcspn(p, "/"), p += *p == '/')
        if (*p == '/' || !strncmp(p, "../", 3) || !strcmp(p, ".."))
            tool_misuse("-w: (wanted a file beside the graph or below it, got '%.100s')", name);
    if (!*name || name[strlen(name) - 1] == '/')
        tool_misuse("-w: (wanted the name of a file, got '%.100s')", name);
    return name;
}

int main(int argc, char **argv)
{
    int c;
    bool listed = false, tested = false, within = false;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'e':
            within = true;
            break;
        case 'l':
            listed = true;
            break;
        case 't':
            tested = true;
            break;
        case 'w':
            opt.weights = beside(optarg);
            break;
        }
    if (optind != argc - 1 || listed + tested + within + !!opt.weights > 1)
        tool_usage();
    opt.path = argv[optind];
    if (tested)
        test_run(opt.path);
    if (!listed && isatty(1))
        tool_misuse("stdout: is a terminal (a graph is no text; pipe it on or redirect it)");
    if (!within && !opt.weights)
        opt.weights = strrchr(opt.path, '/') ? strrchr(opt.path, '/') + 1 : opt.path;

    const char *bad = kr_init();
    if (bad)
        tool_die("%s", bad);
    kr_products(); /* before tool_confine, as it may load a library */
    tool_may_read(opt.path);
    tool_confine();
    open_model();
    (listed ? list : write_graph)();
    if (st_changed(&model.file))
        tool_die("%s: has changed while it was in use", opt.path);
    nn_outline_free(&outline);
    model_close(&model);
    return tool_finish();
}
