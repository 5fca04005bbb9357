/* The files of a training run. Beside MODEL, which appears when the run is over:
 *
 * - MODEL.last: the whole state at a moment between two batches, replaced as the run goes on;
 * - MODEL.previous: what MODEL.last was before, should that be damaged;
 * - MODEL.best: the weights of the best epoch so far, until they become MODEL;
 * - MODEL.tsv: the log (train_log.c); locked while a process writes to any of these.
 *
 * It is one thing: what is written here is read here again, key by key. */
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

static const char *beside(const char *model, const char *suffix)
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
        tool_may_replace(beside(model, suffix[i]));
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
    set(k, "isa", nn_isa());
    set(k, "arch", s->called);
    set(k, "network", s->spec.text);
    set(k, "parameters", s->parameters);
    SETF(k, "classes", "%d", s->classes);
    if (s->targets.regions)
        set(k, "regions", s->regions);
    set(k, "weights", "f32");
    set(k, "config", settings_text(s));
    set(k, "modalities", source->modalities);
    set(k, "scheme", source->scheme);
    if (source->steps_known)
        set(k, "steps", source->steps);
    set(k, "norm", source->keys.norm);
    set(k, "cropped", source->keys.cropped);
    const double *least = run->spacing.least, *greatest = run->spacing.greatest;
    if (greatest[0] > 0)
        SETF(k, "spacing", "%.9g %.9g %.9g %.9g %.9g %.9g", least[0], least[1], least[2],
             greatest[0], greatest[1], greatest[2]);
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

/* Opens a file of the run that this program wrote; a single bit that is not as written is found. */
static int open_own(struct st_file *f, const char *path, char *why, size_t size)
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

/* The digest of -e, or "none". */
static const char *digest_text(const struct validation *v)
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
    write_file(beside(run->model, ".best"), k, t, n);
}

/* The new state takes the place of MODEL.previous, then the two change names in one moment: there
 * is never a moment without a MODEL.last. */
static void replace_last(const char *model, const struct model_keys *k, const struct tensor *t,
                         size_t n)
{
    char *last = strdup(beside(model, ".last"));
    const char *previous = beside(model, ".previous");
    if (!last)
        tool_die("out of memory");
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
    set(k, "run.validation", digest_text(v));
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
    const bool own = from_best && access(beside(run->model, ".best"), F_OK);
    const char *path = beside(run->model, own ? "" : from_best ? ".best" : ".last");
    if (open_own(&f, path, why, sizeof why))
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
        unlink(beside(run->model, ".best"));
    unlink(beside(run->model, ".previous"));
}

void save_lock(const char *model)
{
    const char *path = beside(model, ".tsv");
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
        afile_sweep_target(beside(model, written[i])); /* of runs that were killed */
}

/* --- continuing --------------------------------------------------------------------------------*/

static struct st_file last;

static const char *need(const char *key)
{
    const char *text = st_meta(&last, key);
    if (!text)
        tool_die("the checkpoint has no '%s' (was it written by train?)", key);
    return text;
}

static uint64_t number(const char *key)
{
    char *end;
    const char *text = need(key);
    errno = 0;
    uint64_t v = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-')
        tool_die("the checkpoint's '%s' is no number", key);
    return v;
}

static double real(const char *key)
{
    char *end;
    const char *text = need(key);
    double v = strtod(text, &end);
    if (end == text || *end || isnan(v))
        tool_die("the checkpoint's '%s' is no number", key);
    return v;
}

/* Of a line of history by epochs: how far it says how many. A run may be given more than it had. */
static size_t passes(const char *key, const char *line)
{
    static const char head[] = "epochs -n ";
    const size_t n = sizeof head - 1;
    bool is = !strcmp(key, "history") && !strncmp(line, head, n);
    return is ? n + strspn(line + n, "0123456789") : 0;
}

static void same(const char *key, const char *what, const char *now)
{
    const char *then = need(key);
    while (*then && *now) {
        size_t a = strcspn(then, "\n"), b = strcspn(now, "\n");
        size_t x = passes(key, then), y = passes(key, now);
        if (!x != !y || a - x != b - y || memcmp(then + x, now + y, a - x))
            break;
        then += a + (then[a] == '\n');
        now += b + (now[b] == '\n');
    }
    if (*then || *now)
        tool_die("-r: another %s than that of the run so far (wanted '%.*s', got '%.*s')", what,
                 (int)strcspn(then, "\n"), then, (int)strcspn(now, "\n"), now);
}

/* MODEL.last is damaged: says so, and how to go on. */
static _Noreturn void refuse_last(const char *model, const char *damage)
{
    char why[1024];
    const char *path = beside(model, ".previous");
    struct st_file f;
    if (access(path, F_OK))
        tool_die("%s; no earlier state is kept, remove it to begin anew", damage);
    if (open_own(&f, path, why, sizeof why))
        tool_die("%s; so is the state before it (%s), remove both to begin anew", damage, why);
    const char *position = st_meta(&f, "run.position");
    tool_die("%s; %s is whole, of record %s: 'mv %s %s.last', and -r continues from there", damage,
             path, position ? position : "?", path, model);
}

static bool open_last(const char *model)
{
    char why[1024];
    const char *path = beside(model, ".last");
    if (access(path, F_OK) && errno == ENOENT)
        return false;
    if (open_own(&last, path, why, sizeof why))
        refuse_last(model, why);
    if (number("model") > MODEL_VERSION)
        tool_die("%s: a checkpoint of a newer version (wanted %d, got %s)", path, MODEL_VERSION,
                 need("model"));
    return true;
}

bool save_unfinished(const char *model)
{
    struct stat st;
    if (!open_last(model))
        return false;
    st_close(&last);
    /* The last thing a run does is to write MODEL, from then on the newer of the two. */
    char *name = strdup(beside(model, ".last"));
    struct stat of_last;
    bool unfinished = !name || stat(name, &of_last) || stat(model, &st) ||
                      st.st_mtim.tv_sec < of_last.st_mtim.tv_sec ||
                      (st.st_mtim.tv_sec == of_last.st_mtim.tv_sec &&
                       st.st_mtim.tv_nsec < of_last.st_mtim.tv_nsec);
    free(name);
    return unfinished;
}

/* The first, in bytes, of a ledger's patients who is not in the other; NULL if there is none. */
static const char *missing(const struct names *in, const struct names *from)
{
    const char *first = NULL;
    for (uint32_t i = 0; i < from->count; i++) {
        const char *name = names_text(from, i);
        if (names_find(in, name) == NAMES_NONE && (!first || strcmp(name, first) < 0))
            first = name;
    }
    return first;
}

/* What differs between the patients then and now, in words; those then are all only if `whole`. */
static const char *difference(const struct ledger *then, const struct ledger *now, bool whole)
{
    static char text[160];
    const char *gone = now->people.count ? missing(&now->people, &then->people) : NULL;
    const char *new = whole && !gone ? missing(&then->people, &now->people) : NULL;
    if (gone)
        snprintf(text, sizeof text, "patient %.100s is missing", gone);
    else if (new)
        snprintf(text, sizeof text, "patient %.100s was not in it", new);
    return gone || new ? text : "other records, or the same in another order, or changed otherwise";
}

/* The training stream has to hold the records that it held, -e those that it had. */
static void same_streams(const struct run *run, const struct source *source, bool have_stream,
                         const struct validation *v)
{
    const char *then = need("run.validation"), *stream = need("run.stream");
    struct ledger validated = {0};
    if (strcmp(then, digest_text(v))) {
        if (!v)
            tool_die("-r: the run so far was validated (wanted the -e that it had)");
        if (!strcmp(then, "none"))
            tool_die("-r: the run so far was not validated (wanted no -e, got %s)", v->path);
        if (ledger_add_lines(&validated, need("validated"), NULL))
            tool_die("out of memory");
        tool_die("-r: %s: another validation stream than that of the run so far (%s)", v->path,
                 difference(&validated, &v->ledger, true));
    }
    if (have_stream && strcmp(stream, source->digest))
        tool_die("-r: another training stream than that of the run so far (%s)",
                 difference(&run->ledger, &source->named, run->position >= source->length));
    if (have_stream && !strcmp(stream, "none"))
        tool_warn("-r: the stream has no digest: nobody can tell whether it is that of the run so "
                  "far");
}

/* The run began from the model that -i names, or from none. */
static void same_origin(struct run *run, const struct origin *o)
{
    const char *begun = st_meta(&last, "begun");
    int sum = begun ? (int)strcspn(begun, " ") : 0, name = begun ? (int)strcspn(begun, "\n") : 0;
    if (begun && !o->path)
        tool_die("-r: the run so far began from %.*s (wanted the -i that it had)", name - sum,
                 begun + sum + (sum < name));
    if (!begun && o->path)
        tool_die("-r: the run so far began from no model (wanted no -i, got %s)", o->path);
    if (!begun)
        return;
    if (strncmp(begun, o->sum, (size_t)sum) || o->sum[sum])
        tool_die("-r: %s: another model than the run so far began from (wanted checksum %.*s, got "
                 "%s)",
                 o->path, sum, begun, o->sum);
    run->begun = strdup(begun);
    run->inherited = strdup(need("inherited"));
    if (!run->begun || !run->inherited)
        tool_die("out of memory");
}

/* A constant rate does not know how many passes will come. What does, a falling one or an average of
 * the last passes, was made for fewer of them: then the run says for ever that it was given more. */
static void more_passes(struct run *run, const struct settings *s, const struct source *source)
{
    const long then = (long)number("epochs");
    char *before = run->continued;
    if (source->epochs < then)
        tool_die("-r: fewer passes than those of the run so far (wanted at least %ld, got %ld)",
                 then, source->epochs);
    run->longer = source->epochs > then;
    if (!run->longer || (s->schedule == NN_CONSTANT && !(s->average && run->averaged)))
        return;
    tool_warn("-r: %ld passes instead of %ld: what has been was made for %ld, and the model is not "
              "that of one run of %ld",
              source->epochs, then, then, source->epochs);
    if (asprintf(&run->continued, "%s%s%llu", before ? before : "", before ? " " : "",
                 (unsigned long long)(run->position / source->length)) < 0)
        tool_die("out of memory");
    free(before);
}

/* The best weights so far are in MODEL.best or, when the run was over, in MODEL. */
static void best_is_there(const struct run *run, const struct settings *s)
{
    struct st_file f;
    char why[1024], epoch[24];
    if (run->best_epoch < 0 || s->keep != KEEP_BEST || !access(beside(run->model, ".best"), F_OK))
        return;
    if (st_open(&f, run->model, why, sizeof why))
        tool_die("-r: the best weights so far are gone: %s", why);
    snprintf(epoch, sizeof epoch, "%ld", run->best_epoch);
    const char *its = st_meta(&f, "epoch"), *config = st_meta(&f, "config");
    if (!its || strcmp(its, epoch) || !config || strcmp(config, settings_text(s)))
        tool_die("%s: is not of this run, whose best weights so far are gone", run->model);
    st_close(&f);
}

bool save_resume(struct run *run, const struct settings *s, struct source *source, bool have_stream,
                 const struct validation *v, const struct origin *origin)
{
    if (!open_last(run->model))
        return false;
    if (!st_meta(&last, "run.stream") || !st_meta(&last, "network"))
        tool_die(
            "%s: a checkpoint of an older version, which this one cannot continue (begin anew)",
            beside(run->model, ".last"));
    same("config", "configuration", settings_text(s));
    same("network", "network", s->spec.text);
    same_origin(run, origin);
    run->position = number("run.position");
    run->steps = number("run.steps");
    run->averaged = number("run.averaged");
    run->loss_sum = real("run.loss_sum");
    run->loss_count = number("run.loss_count");
    run->best_epoch = (long)real("run.best_epoch");
    run->best_score = real("run.best_score");
    run->stopped = !strcmp(need("run.stopped"), "yes");
    const char *spacing = st_meta(&last, "spacing"), *continued = st_meta(&last, "continued");
    if (continued && !(run->continued = strdup(continued)))
        tool_die("out of memory");
    if (spacing && contract_spacing_read(&run->spacing, spacing))
        tool_die("the checkpoint's 'spacing' is no range");
    if (ledger_add_lines(&run->ledger, need("patients"), need("scans")))
        tool_die("out of memory");
    uint64_t length = number("run.length");
    if (have_stream && length != source->length)
        tool_die("-r: another stream than that of the run so far (wanted epochs of %llu records, "
                 "got %llu)",
                 (unsigned long long)length, (unsigned long long)source->length);
    if (!length || run->position > length * number("epochs"))
        tool_die("the checkpoint's position is past its end");
    if (have_stream) {
        more_passes(run, s, source);
        same("modalities", "list of modalities", source->modalities);
        same("scheme", "label scheme", source->scheme);
        same("history", "history of the stream", source->history);
    } else {
        source->digest = strdup(need("run.stream"));
        source->modalities = strdup(need("modalities"));
        source->scheme = strdup(need("scheme"));
        source->history = strdup(need("history"));
        source->epochs = (long)number("epochs");
        source->length = length;
        if (!source->modalities || !source->scheme || !source->history || !source->digest)
            tool_die("out of memory");
        snprintf(source->keys.norm, sizeof source->keys.norm, "%s", need("norm"));
        snprintf(source->keys.cropped, sizeof source->keys.cropped, "%s", need("cropped"));
        const char *steps = st_meta(&last, "steps");
        source->steps_known = steps != NULL;
        snprintf(source->steps, sizeof source->steps, "%s", steps ? steps : "");
    }
    same_streams(run, source, have_stream, v);
    best_is_there(run, s);
    return true;
}

void save_restore(const struct run *run, struct nn *nn)
{
    size_t m;
    char narrowed[NN_NARROWED_MAX];
    nn_narrowed(nn, narrowed, sizeof narrowed);
    if (strcmp(narrowed, need("run.narrowed")))
        tool_die("-r: the run so far kept other things as bf16 to fit its memory; give the -M that "
                 "it had (wanted %.200s, got %.200s)",
                 need("run.narrowed"), narrowed);
    /* File and network hold the same: never both whole in memory. */
    st_forget(&last);
    average_show(run, nn, true);
    if (nn_load(nn, last.tensor, (size_t)last.tensors))
        tool_die("%s: %s", beside(run->model, ".last"), nn_why(nn));
    nn_moments(nn, &m);
    for (size_t i = 0; i < m; i++) {
        st_forget(&last);
        if (nn_load_moment(nn, i, last.tensor, (size_t)last.tensors))
            tool_die("%s: %s", beside(run->model, ".last"), nn_why(nn));
    }
    average_show(run, nn, false);
    nn_set_steps(nn, run->steps);
    st_close(&last);
}
