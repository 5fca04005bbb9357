/* infer_models.c - opens the models and says what they want: several that predict together are of
 * one contract, so the first speaks for all. */
#include "tools/infer.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct member member[MODELS];
int members;
struct ledger trained;

/* --- opening ---------------------------------------------------------------------------------- */

/* The description that the model holds, or, of an old one, that of the network it names. */
static void read_network(struct member *m)
{
    char why[512];
    struct nn_spec *spec = &m->spec;
    *spec = (struct nn_spec){.name = m->path, .text = m->model.network};
    if (spec->text)
        spec->length = strlen(spec->text);
    else if (!(spec->text = nn_known(m->model.arch, &spec->length)))
        tool_die("%s: unknown architecture '%.40s'", m->path, m->model.arch);
    for (int i = 0; i < m->model.parameters; i++)
        nn_set(spec, m->model.parameter[i].name, m->model.parameter[i].value);
    if (nn_about(spec, &m->about, why, sizeof why))
        tool_die("%s", why);
    if (m->model.neighbours && m->about.volume)
        tool_die("%s: neighbours are of planar networks, and its sees volumes", m->path);
    m->channels = m->about.inputs / img_beside_planes(m->model.neighbours);
    if (m->about.inputs % img_beside_planes(m->model.neighbours))
        tool_die("%s: a network of other inputs than the model's neighbours (got %d)", m->path,
                 m->about.inputs);
    if (m->about.outputs != m->model.targets.outputs)
        tool_die("%s: a network of other outputs than the model's targets (wanted %d, got %d)",
                 m->path, m->model.targets.outputs, m->about.outputs);
}

static bool differ(const char *key, const char *a, const char *b, char *why, size_t size)
{
    if (!strcmp(a, b))
        return false;
    snprintf(why, size, "%s (wanted %.100s, got %.100s)", key, a, b);
    return true;
}

/* What of the contract no stream could satisfy for both; `prepared` is for -F to pass over. */
static bool contract_of_both(const struct member *a, const struct member *b, char *why, size_t size)
{
    char classes[2][16], inputs[2][16];
    int order[NN_MAX_CIN];
    const struct model *m[] = {&a->model, &b->model};
    const struct member *of[] = {a, b};
    for (int i = 0; i < 2; i++) {
        snprintf(classes[i], sizeof classes[i], "%d", m[i]->targets.classes);
        snprintf(inputs[i], sizeof inputs[i], "%d", of[i]->channels);
    }
    return !differ("scheme", m[0]->scheme, m[1]->scheme, why, size) &&
           contract_order(m[0]->modalities, m[1]->modalities, order, NN_MAX_CIN, why, size) >= 0 &&
           !differ("inputs", inputs[0], inputs[1], why, size) &&
           !differ("classes", classes[0], classes[1], why, size) &&
           !differ("regions", m[0]->regions ? m[0]->regions : "none",
                   m[1]->regions ? m[1]->regions : "none", why, size);
}

static bool prepared_alike(const struct member *a, const struct member *b, char *why, size_t size)
{
    return !differ("preparation", a->model.steps ? "known" : "unknown",
                   b->model.steps ? "known" : "unknown", why, size) &&
           !contract_keys_differ(&a->model.keys, &b->model.keys, why, size) &&
           !(a->model.steps && contract_differs(a->model.steps, b->model.steps, why, size));
}

void models_open(void)
{
    char why[512];
    bool products = false;
    for (struct member *m = member; m < member + members; m++) {
        tool_maps(m->path);
        if (model_open(&m->model, m->path, why, sizeof why))
            tool_die("%s", why);
        tool_mapped(m->model.file.bytes, m->model.file.size);
        st_forget(&m->model.file);
        read_network(m);
        products |= m->about.products;
        if (!contract_of_both(member, m, why, sizeof why))
            tool_die("%s: another contract than that of %s: %s", m->path, member->path, why);
        if (!opt.force && !prepared_alike(member, m, why, sizeof why))
            tool_die("%s: prepared differently from %s: %s; -F lets that pass", m->path,
                     member->path, why);
    }
    if (!products)
        kr_products_free();
}

/* --- what they know --------------------------------------------------------------------------- */

/* Bytes of weights, which are used where they lie. */
static size_t weights(const struct st_file *f)
{
    size_t sum = 0;
    for (int i = 0; i < f->tensors; i++)
        if (f->tensor[i].rank > 1)
            sum += tensor_bytes(&f->tensor[i]);
    return sum;
}

size_t models_memory(void)
{
    enum { TENSOR = 256 }; /* structs; pages begun */
    size_t sum = ledger_memory(&trained);
    for (const struct member *m = member; m < member + members; m++) {
        const struct st_file *f = &m->model.file;
        sum += 3 * (f->size - weights(f)) + TENSOR * (size_t)f->tensors;
    }
    return sum;
}

size_t models_opening(void)
{
    size_t most = 0;
    for (const struct member *m = member; m < member + members; m++)
        most = weights(&m->model.file) > most ? weights(&m->model.file) : most;
    return NN_START_BYTES + models_memory() + most;
}

/* A ceiling that does not even hold the models' texts is refused before they are taken, where they
 * are large; else the plan knows better what would do. */
void models_know(void)
{
    struct ledger_size all = {0};
    bool blind = false;
    for (const struct member *m = member; m < member + members; m++) {
        struct ledger_size s = ledger_size_of(m->model.patients, m->model.scans);
        all.scans += s.scans;
        all.prints += s.prints;
        all.bytes += s.bytes;
    }
    if (ledger_reserve(&trained, &all))
        tool_die("out of memory");
    size_t least = models_opening();
    if (opt.memory && least > opt.memory && models_memory() > 1 << 20)
        tool_die("%s%s: with %u scans it takes at least %zu MiB (wanted within -M)", member->path,
                 members > 1 ? " and others" : "", all.scans, (least >> 20) + 1);
    for (const struct member *m = member; m < member + members; m++) {
        if (ledger_add_lines(&trained, m->model.patients, m->model.scans))
            tool_die("out of memory");
        if (!blind && (blind = ledger_blind(&trained)))
            tool_warn("%s: holds no fingerprints of some it was trained on: they are known by name "
                      "alone",
                      m->path);
    }
}

void models_close(void)
{
    for (struct member *m = member; m < member + members; m++) {
        if (st_changed(&m->model.file))
            tool_die("%s: has changed while it was in use", m->path);
        model_close(&m->model);
    }
    ledger_free(&trained);
}

/* --- sizes ------------------------------------------------------------------------------------ */

static int common_divisor(int a, int b)
{
    return b ? common_divisor(b, a % b) : a;
}

void models_pad(const struct tensor *image, int *h, int *w)
{
    int by[2] = {0, 0};
    for (const struct member *m = member; m < member + members; m++)
        for (int i = 0; i < 2; i++)
            by[i] = common_divisor(m->about.multiple[i + 1], by[i]);
    *h = nn_padded((int)image->dim[1], by[0]);
    *w = nn_padded((int)image->dim[2], by[1]);
}

bool models_stream(int *lag)
{
    bool any = false;
    *lag = 0;
    for (const struct member *m = member; m < member + members; m++) {
        any |= m->about.volume || m->model.neighbours;
        *lag = member_lag(m) > *lag ? member_lag(m) : *lag;
    }
    return any;
}

bool models_whole(void)
{
    bool any = false;
    for (const struct member *m = member; m < member + members; m++)
        any |= m->about.whole;
    return any;
}

/* --- what is said of them --------------------------------------------------------------------- */

void models_history(char *text, size_t size)
{
    size_t n = 0;
    for (const struct member *m = member; m < member + members && n < size; m++) {
        const char *sum = st_meta(&m->model.file, "xxh3");
        char base[32] = ""; /* which belongs to a network's name as people say it: unet64 */
        for (int i = 0; i < m->spec.settings; i++)
            if (!strcmp(m->spec.set[i].name, "base"))
                snprintf(base, sizeof base, "%g", m->spec.set[i].value);
        n += (size_t)snprintf(text + n, size - n, "%s-m %.20s%s:%.16s", n ? " " : "", m->model.arch,
                              base, sum ? sum : "unknown");
    }
}

/* A model is somebody's file, so its texts are kept on their line. */
static void print_text(const char *key, const char *text, size_t n)
{
    printf("%s\t", key);
    for (size_t i = 0; i < n; i++)
        putchar((unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i]);
    putchar('\n');
}

static void print_lines(const char *key, const char *text)
{
    for (const char *p = text; *p; p += *p == '\n') {
        size_t n = strcspn(p, "\n");
        print_text(key, p, n);
        p += n;
    }
}

/* Those that a stream has to go through, or those that made its scans before. */
static void print_steps(const char *key, bool made)
{
    for (const char *p = member->model.steps; *p; p += strcspn(p, "\n") + 1)
        if (contract_is_made(p) == made)
            print_text(key, p, strcspn(p, "\n"));
}

/* A step that the records told of, and no history. */
static void print_hidden(const char *tool, const char *options, const char *key)
{
    const char *steps = member->model.steps;
    char text[128];
    if (!steps || !key || !strcmp(key, "none") || contract_has(steps, tool))
        return;
    snprintf(text, sizeof text, "%s %s%.60s", tool, options, key);
    print_text("step", text, strlen(text));
}

/* What was set of a description's parameters. */
static void parameters(const struct member *m, char text[MODEL_MAX_PARAMETERS * 64])
{
    size_t len = 0;
    *text = 0;
    for (int i = 0; i < m->spec.settings; i++)
        len = model_put_parameter(text, MODEL_MAX_PARAMETERS * 64, len, m->spec.set[i].name,
                                  m->spec.set[i].value);
}

/* What holds for all is said. */
static void print_shared(const char *key, const char *(*of)(const struct member *))
{
    for (int i = 1; i < members; i++)
        if (strcmp(of(&member[0]), of(&member[i])))
            return;
    print_text(key, of(&member[0]), strlen(of(&member[0])));
}

static const char *arch(const struct member *m)
{
    return m->model.arch;
}

static const char *generator(const struct member *m)
{
    return m->model.generator;
}

/* The description, line by line, and what was set of its parameters. */
static void print_network(void)
{
    char text[2][MODEL_MAX_PARAMETERS * 64];
    parameters(member, text[0]);
    for (int i = 1; i < members; i++) {
        parameters(&member[i], text[1]);
        if (strcmp(text[0], text[1]) || strcmp(member->spec.text, member[i].spec.text))
            return;
    }
    print_text("parameters", text[0], strlen(text[0]));
    print_lines("network", member->spec.text);
}

void models_print(void)
{
    const struct model *m = &member->model;
    bool leaky = false;
    for (int i = 0; i < members; i++)
        leaky |= member[i].model.leaky;
    print_shared("arch", arch);
    print_text("modalities", m->modalities, strlen(m->modalities));
    print_text("scheme", m->scheme, strlen(m->scheme));
    print_shared("generator", generator);
    print_lines("leaky", leaky ? "yes" : "no");
    uint64_t spared = m->spared;
    char without[2048];
    for (int i = 1; i < members; i++)
        spared &= member[i].model.spared;
    contract_names(m->modalities, spared, without, sizeof without);
    print_lines("without", without);
    print_lines("prepared", m->steps ? "known" : "unknown");
    int lag;
    if (m->neighbours)
        printf("neighbours\t%d\n", m->neighbours);
    const bool streams = models_stream(&lag);
    if (streams && (models_whole() || averages()))
        print_lines("lag", "case");
    else if (streams)
        printf("lag\t%d\n", lag);
    if (m->regions)
        print_text("regions", m->regions, strlen(m->regions));
    for (int i = 0; i < members; i++) {
        const char *score = st_meta(&member[i].model.file, "score");
        print_lines("spacing", member[i].model.spacing ? member[i].model.spacing : "");
        print_lines("score", score ? score : "");
        print_lines("begun", member[i].model.begun ? member[i].model.begun : "");
    }
    for (int i = 0; i < members; i++) {
        size_t patients = 0;
        for (const char *line = member[i].model.patients; *line; patients++)
            line += strcspn(line, "\n"), line += *line == '\n';
        printf("patients\t%zu\n", patients);
    }
    if (m->steps) {
        print_steps("made", true);
        print_steps("step", false);
    }
    print_hidden("znorm", "-p ", m->norm);
    print_hidden("crop", "", m->cropped);
    print_network();
}
