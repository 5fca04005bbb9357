/* The files of a training run. Beside MODEL, which appears when the run is over:
 *
 * - MODEL.last: the whole state at a moment between two batches, replaced as the run goes on;
 * - MODEL.previous: what MODEL.last was before, should that be damaged;
 * - MODEL.best: the weights of the best epoch so far, until they become MODEL;
 * - MODEL.tsv: the log (train_log.c); locked while a process writes to any of these.
 *
 * What is written here train_resume.c reads again. */
#include "tools/train.h"

#include <errno.h>
#include <float.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/atomic.h"

static const char *const dtypes[] = {"f32", "f16", "bf16"};

const char *save_path(const char *model, const char *suffix)
{
    static char path[4096];
    int n = snprintf(path, sizeof path, "%s%s", model, suffix);
    if (n < 0 || (size_t)n >= sizeof path)
        tool_die("-o: name too long");
    return path;
}

void save_may_write(const char *model)
{
    static const char *const suffix[] = {"", ".best", ".last", ".previous", ".tsv"};
    for (size_t i = 0; i < sizeof suffix / sizeof *suffix; i++)
        tool_may_replace(save_path(model, suffix[i]));
}

static void set(struct model_keys *k, const char *key, const char *value)
{
    if (model_set(k, key, value))
        tool_die("out of memory");
}

#define SETF(keys, key, ...)                                                                       \
    do {                                                                                           \
        if (model_setf(keys, key, __VA_ARGS__))                                                    \
            tool_die("out of memory");                                                             \
    } while (0)

static void give(struct model_keys *k, const char *key, char *text)
{
    if (model_give(k, key, text))
        tool_die("out of memory");
}

size_t save_memory(const struct settings *s, const struct source *source,
                   const struct validation *v, const struct run *run,
                   const struct ledger_size *trained)
{
    size_t history = s->spec.length + (source->history ? strlen(source->history) : 0);
    size_t names = v ? ledger_text_bytes(&v->ledger.size) : 0;
    names += run->begun ? strlen(run->begun) + strlen(run->inherited) : 0;
    size_t text = ledger_text_bytes(trained) + names + history;
    size_t file = ledger_file_bytes(trained) + 6 * names + 2 * history;
    /* The keys, the head of the file, and that again as the reader maps and understands it. */
    return 2 * text + 2 * file;
}

void save_describe(struct model_keys *k, const struct settings *s, const struct source *source,
                   const struct validation *v, const struct run *run, uint64_t steps)
{
    SETF(k, "model", "%d", MODEL_VERSION);
    set(k, "generator", "gliopipe " GLIOPIPE_VERSION);
    set(k, "isa", nn_isa(s->precision));
    set(k, "arch", s->called);
    set(k, "network", s->spec.text);
    set(k, "parameters", s->parameters);
    SETF(k, "classes", "%d", s->classes);
    if (s->targets.regions)
        set(k, "regions", s->regions);
    set(k, "weights", "f32");
    set(k, "config", settings_text(s));
    set(k, "modalities", source->modalities);
    if (s->neighbours)
        SETF(k, "neighbours", "%d", s->neighbours);
    if (s->volume)
        SETF(k, "depth", "%d", source->d);
    set(k, "scheme", source->scheme);
    if (source->steps_known)
        set(k, "steps", source->steps);
    set(k, "norm", source->keys.norm);
    set(k, "cropped", source->keys.cropped);
    const double *least = run->spacing.least, *greatest = run->spacing.greatest;
    if (greatest[0] > 0)
        SETF(k, "spacing", "%.9g %.9g %.9g %.9g %.9g %.9g", least[0], least[1], least[2],
             greatest[0], greatest[1], greatest[2]);
    if (run->missing) {
        char names[2048];
        contract_names(source->modalities, run->missing, names, sizeof names);
        set(k, "without", names);
    }
    set(k, "history", source->history);
    give(k, "patients", ledger_patients(&run->ledger, '\n'));
    give(k, "scans", ledger_scans(&run->ledger));
    if (v)
        give(k, "validated", ledger_patients(&v->ledger, '\n'));
    if (run->continued)
        set(k, "continued", run->continued);
    if (run->begun) {
        set(k, "begun", run->begun);
        set(k, "inherited", run->inherited);
    }
    set(k, "leaky", run->leaky ? "yes" : "no");
    SETF(k, "seed", "%llu", (unsigned long long)s->seed);
    SETF(k, "epochs", "%ld", source->epochs);
    SETF(k, "steps_taken", "%llu", (unsigned long long)steps);
    if (run->best_epoch >= 0) {
        SETF(k, "epoch", "%ld", run->best_epoch);
        SETF(k, "score", "%.17g", run->best_score);
    }
}

static void write_file(const char *path, const struct model_keys *k, const struct tensor *t,
                       size_t n)
{
    char why[512];
    if (st_write(path, k->pair, k->n, t, (int)n, why, sizeof why))
        tool_die("%s", why);
}

int save_open(struct st_file *f, const char *path, char *why, size_t size)
{
    char text[256];
    tool_maps(path);
    if (st_open(f, path, why, size))
        return -1;
    int e = st_check(f, text, sizeof text);
    if (e == 1)
        return 0;
    st_close(f);
    snprintf(why, size, "%.700s: %s", path, e ? text : "the checksum is missing");
    return -1;
}

/* Weights that are not finite would be a checkpoint that nobody can continue. */
static void check_finite(const struct tensor *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (tensor_find_outside(&t[i], -FLT_MAX, FLT_MAX) < tensor_count(&t[i]))
            tool_die("parameter '%s' is not finite after step; nothing was saved, -r goes back "
                     "to the last checkpoint",
                     t[i].name);
}

const char *save_digest(const struct validation *v)
{
    static char text[17];
    snprintf(text, sizeof text, v ? "%016" PRIx64 : "none", v ? v->digest : 0);
    return text;
}

void save_best(const struct run *run, const struct model_keys *k, const struct nn *nn)
{
    size_t n;
    const struct tensor *t = nn_params(nn, &n);
    check_finite(t, n);
    write_file(save_path(run->model, ".best"), k, t, n);
}

/* The new state takes the place of MODEL.previous, then the two change names in one moment: there
 * is never a moment without a MODEL.last. */
static void replace_last(const char *model, const struct model_keys *k, const struct tensor *t,
                         size_t n)
{
    char *last = tool_copy(save_path(model, ".last"));
    const char *previous = save_path(model, ".previous");
    if (access(last, F_OK)) {
        unlink(previous); /* of another run */
        write_file(last, k, t, n);
    } else {
        write_file(previous, k, t, n);
        if (renameat2(AT_FDCWD, previous, AT_FDCWD, last, RENAME_EXCHANGE) &&
            rename(previous, last)) /* a file system that cannot exchange keeps one */
            tool_die("%s: cannot rename: %s", last, strerror(errno));
    }
    free(last);
}

void save_last(const struct run *run, struct model_keys *k, const struct source *source,
               const struct validation *v, struct nn *nn)
{
    size_t n, m;
    average_show(run, nn, true); /* here too it has the weights' names, and they have others */
    const struct tensor *params = nn_params(nn, &n), *moments = nn_moments(nn, &m);
    struct tensor *all = tool_alloc((n + m) * sizeof *all);
    check_finite(params, n);
    memcpy(all, params, n * sizeof *all);
    if (m)
        memcpy(all + n, moments, m * sizeof *all);
    SETF(k, "run.position", "%llu", (unsigned long long)run->position);
    SETF(k, "run.length", "%llu", (unsigned long long)source->length);
    set(k, "run.stream", source->digest);
    set(k, "run.validation", save_digest(v));
    SETF(k, "run.steps", "%llu", (unsigned long long)nn_steps(nn));
    SETF(k, "run.loss_sum", "%a", run->loss_sum);
    SETF(k, "run.loss_count", "%llu", (unsigned long long)run->loss_count);
    SETF(k, "run.averaged", "%llu", (unsigned long long)run->averaged);
    SETF(k, "run.best_epoch", "%ld", run->best_epoch);
    SETF(k, "run.best_score", "%a", run->best_score);
    set(k, "run.stopped", run->stopped ? "yes" : "no");
    char narrowed[NN_NARROWED_MAX];
    nn_narrowed(nn, narrowed, sizeof narrowed);
    set(k, "run.narrowed", narrowed);
    replace_last(run->model, k, all, n + m);
    average_show(run, nn, false);
    free(all);
}

/* Weights of convolutions in the type asked for; the small tensors stay as they are. */
static void convert(struct tensor *t, enum dtype to)
{
    if (t->rank < 2 || t->dtype != DT_F32 || to == DT_F32)
        return;
    const float *from = t->data;
    t->dtype = to;
    t->data = tool_alloc(tensor_bytes(t));
    tensor_from_f32(t, 0, tensor_count(t), from);
    if (tensor_find_outside(t, -FLT_MAX, FLT_MAX) < tensor_count(t))
        tool_die("parameter '%s' has values that %s does not hold (weights: f32 would)", t->name,
                 dtype_name(to));
}

void save_final(const struct run *run, struct model_keys *k, const struct settings *s,
                bool from_best)
{
    char why[1024];
    struct st_file f;
    static const enum dtype type[] = {DT_F32, DT_F16, DT_BF16};
    const bool own = from_best && access(save_path(run->model, ".best"), F_OK);
    const char *path = save_path(run->model, own ? "" : from_best ? ".best" : ".last");
    if (save_open(&f, path, why, sizeof why))
        tool_die("%s", why);
    set(k, "weights", dtypes[s->weights]);
    struct tensor *t = tool_alloc((size_t)f.tensors * sizeof *t);
    int n = 0;
    for (int i = 0; i < f.tensors; i++)
        if (!strchr(f.tensor[i].name, ':')) { /* else a moment (nn.h) */
            t[n] = f.tensor[i];
            convert(&t[n++], type[s->weights]);
        }
    write_file(run->model, k, t, (size_t)n);
    for (int i = 0; i < n; i++)
        if (t[i].dtype != DT_F32)
            free(t[i].data);
    free(t);
    st_close(&f);
    if (from_best)
        unlink(save_path(run->model, ".best"));
    unlink(save_path(run->model, ".previous"));
}

void save_lock(const char *model)
{
    const char *path = save_path(model, ".tsv");
    int fd = log_open(path);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        if (errno == EWOULDBLOCK)
            tool_die("%s: another process is training this model", model);
        tool_warn("%s: cannot be locked (%s): nobody keeps a second process from training this "
                  "model",
                  path, strerror(errno));
    }
    static const char *const written[] = {"", ".last", ".best", ".previous"};
    for (size_t i = 0; i < sizeof written / sizeof *written; i++)
        afile_sweep_target(save_path(model, written[i])); /* of runs that were killed */
}
