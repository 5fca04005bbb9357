/* The model that a run begins from (-i): what it says of itself, whom it learned from, and what the
 * run's network takes of its weights. */
#include "tools/train.h"

#include "lib/image/beside.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INHERITED "the training of -i's model"

/* What others wrote must not move a cursor, nor end a line. */
static void plain(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

/* Its checksum and name, then what it began from itself. */
static char *begun_text(const struct model *m, const char *path, const char *sum)
{
    const char *slash = strrchr(path, '/');
    char *name = tool_copy(slash ? slash + 1 : path), *text;
    plain(name);
    if (asprintf(&text, m->begun ? "%s %s\n%s" : "%s %s", sum, name, m->begun) < 0)
        tool_die("out of memory");
    free(name);
    return text;
}

/* Bytes of the file that are no weights. */
static size_t head(const struct st_file *f)
{
    size_t n = f->size;
    for (int i = 0; i < f->tensors; i++)
        n -= tensor_bytes(&f->tensor[i]);
    return n;
}

void origin_open(struct origin *o, const char *path)
{
    enum { TEXTS = 1 << 20 }; /* of its head, as they are understood */
    struct model *m = &o->model;
    char why[1024];
    *o = (struct origin){.path = path};
    tool_maps(path);
    if (model_open(m, path, why, sizeof why))
        tool_die("-i: %s", why);
    tool_mapped(m->file.bytes, m->file.size);
    if (st_digest(&m->file, o->sum))
        tool_die("out of memory");
    size_t most = ST_PIECE;
    for (int i = 0; i < m->file.tensors; i++)
        most = tensor_bytes(&m->file.tensor[i]) > most ? tensor_bytes(&m->file.tensor[i]) : most;
    o->bytes = NN_FIXED_BYTES + TEXTS + most + 3 * head(&m->file);
    if (ledger_add_lines(&o->ledger, m->patients, m->scans))
        tool_die("out of memory (or more than %d scans)", LEDGER_MAX);
    if (ledger_blind(&o->ledger))
        tool_warn("-i: %s: holds no fingerprints of some it was trained on: they are known by name "
                  "alone",
                  path);
}

void origin_agree(const struct origin *o, const struct source *source, bool force)
{
    const struct model *m = &o->model;
    char why[512];
    if (force)
        return;
    if (strcmp(m->scheme, source->scheme))
        tool_die("-i: %s: another label scheme than the training stream's (wanted %.60s, got "
                 "%.60s); -F lets that pass",
                 o->path, source->scheme, m->scheme);
    if (!m->steps)
        tool_die("-i: %s: does not say how its data was prepared; -F lets that pass", o->path);
    if (contract_keys_differ(&m->keys, &source->keys, why, sizeof why) ||
        (source->steps_known && contract_differs(m->steps, source->steps, why, sizeof why)))
        tool_die("stdin: prepared differently from what -i's model learned from: %s; -F lets that "
                 "pass",
                 why);
}

bool origin_apart(const struct origin *o, const struct validation *val, bool leaky)
{
    return source_apart(&o->ledger, INHERITED, val, leaky) || o->model.leaky;
}

void origin_inherit(const struct origin *o, struct run *run)
{
    const struct model *m = &o->model;
    if (ledger_add_lines(&run->ledger, m->patients, m->scans))
        tool_die("out of memory (or more than %d scans)", LEDGER_MAX);
    run->spacing = m->learned;
    run->begun = begun_text(m, o->path, o->sum);
    run->inherited = tool_copy(m->patients);
}

size_t origin_memory(const struct origin *o)
{
    if (!o->path)
        return 0;
    /* As texts lie, and as they are understood. */
    return ledger_memory(&o->ledger) + 3 * head(&o->model.file);
}

void origin_close(struct origin *o)
{
    if (o->path)
        model_close(&o->model);
}

/* --- weights -----------------------------------------------------------------------------------*/

/* A list of names for people, the first few. */
struct list {
    char text[200];
    int count;
};

static void add(struct list *l, const char *name, size_t n)
{
    enum { SHOWN = 4 };
    size_t at = strlen(l->text);
    if (l->count++ < SHOWN)
        snprintf(l->text + at, sizeof l->text - at, "%s%.*s", at ? ", " : "", (int)n, name);
    else if (l->count == SHOWN + 1)
        snprintf(l->text + at, sizeof l->text - at, ", ...");
    plain(l->text);
}

static void show(const struct list *l, const char *what)
{
    if (l->count)
        fprintf(stderr, "; %s: %s", what, l->text);
}

/* Of each of ours the place in theirs, and those that are not there. How many there are of ours. */
static int match(const char *ours, const char *theirs, int *to, struct list *lacking)
{
    int i = 0;
    for (const char *p = ours;; p++) {
        size_t n = strcspn(p, ",");
        int at = contract_find(theirs, p, n);
        if (at < 0)
            add(lacking, p, n);
        if (to)
            to[i] = at;
        i++;
        p += n;
        if (!*p)
            return i;
    }
}

/* The same of the network's channels, which are each modality's with its neighbours', as beside.h
 * has them. */
static void match_channels(const struct settings *s, const struct model *m, const int *modality,
                           int *to)
{
    const int k = s->neighbours, theirs = m->neighbours;
    for (int c = 0; c < s->channels; c++)
        for (int j = -k; j <= k; j++)
            *to++ = modality[c] < 0 || j < -theirs || j > theirs
                        ? -1
                        : modality[c] * img_beside_planes(theirs) + theirs + j;
}

/* A label is itself; a region is known by its name. */
static void match_outputs(const struct targets *ours, const struct targets *theirs, int *to)
{
    for (int i = 0; i < ours->outputs; i++) {
        to[i] = -1;
        for (int k = 0; k < theirs->outputs && ours->regions == theirs->regions; k++)
            if (ours->regions ? !strcmp(ours->name[i], theirs->name[k]) : i == k)
                to[i] = k;
    }
}

struct report {
    struct list part, none;
    const struct st_file *file;
};

static void next(void *ctx)
{
    st_forget(((struct report *)ctx)->file);
}

static void left(void *ctx, const char *name, bool part, const char *why)
{
    struct report *r = ctx;
    add(part ? &r->part : &r->none, name, strlen(name));
    tool_note("-i: parameter '%s': %s", name, why);
}

static void find_unused(const struct nn *nn, const struct st_file *f, struct list *unused)
{
    size_t n;
    const struct tensor *t = nn_params(nn, &n);
    for (int i = 0; i < f->tensors; i++) {
        size_t k = 0;
        const char *name = f->tensor[i].name;
        while (k < n && strcmp(t[k].name, name))
            k++;
        if (k == n && !strchr(name, ':')) /* else a moment (nn.h) */
            add(unused, name, strlen(name));
    }
}

void origin_take(const struct origin *o, struct nn *nn, const struct settings *s,
                 const struct source *source)
{
    const struct model *m = &o->model;
    int modality[NN_MAX_CIN], input[NN_MAX_CIN], output[NN_MAX_CLASSES];
    struct report report = {.file = &m->file};
    struct list fresh = {0}, gone = {0}, unused = {0};
    double taken;
    match(source->modalities, m->modalities, modality, &fresh);
    match_channels(s, m, modality, input);
    match_outputs(&s->targets, &m->targets, output);
    struct nn_giver g = {.list = m->file.tensor,
                         .count = (size_t)m->file.tensors,
                         .input = input,
                         .inputs = match(m->modalities, source->modalities, NULL, &gone) *
                                   img_beside_planes(m->neighbours),
                         .output = output,
                         .outputs = m->targets.outputs,
                         .left = left,
                         .next = next,
                         .ctx = &report};
    if (nn_take(nn, &g, &taken))
        tool_die("%s", nn_why(nn));
    if (st_changed(&m->file))
        tool_die("-i: %s: has changed since it was opened", o->path);
    if (taken < 0.5)
        tool_die("-i: %s: another network than %s: of the weights %.2g %% fit by name and shape "
                 "(wanted half of them)",
                 o->path, s->called, 100 * taken);
    find_unused(nn, &m->file, &unused);
    fprintf(stderr, "%s: begins from %s: %g %% of the weights", tool_name(), o->path,
            floor(1e4 * taken) / 100);
    show(&fresh, "modalities that it did not know");
    show(&gone, "of it, modalities that do not come");
    show(&report.part, "in part");
    show(&report.none, "as initialised");
    show(&unused, "of it, left out");
    fputc('\n', stderr);
}
