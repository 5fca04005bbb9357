/* Continuing a run of train: MODEL.last is read again, key by key, and is of the same run. */
#include "tools/train.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* epochs deals slices by their labels where nobody says otherwise, which it did not always. */
static bool dealt_otherwise(const char *then, const char *now)
{
    return !strncmp(then, "epochs ", 7) && !strncmp(now, "epochs ", 7) &&
           memmem(now, strcspn(now, "\n"), " -b ", 4) &&
           !memmem(then, strcspn(then, "\n"), " -b ", 4);
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
        tool_die("-r: another %s than that of the run so far (wanted '%.*s', got '%.*s'%s)", what,
                 (int)strcspn(then, "\n"), then, (int)strcspn(now, "\n"), now,
                 dealt_otherwise(then, now) ? "; epochs -b 0 takes slices as they come" : "");
}

/* MODEL.last is damaged: says so, and how to go on. */
static _Noreturn void refuse_last(const char *model, const char *damage)
{
    char why[1024];
    const char *path = save_path(model, ".previous");
    struct st_file f;
    if (access(path, F_OK))
        tool_die("%s; no earlier state is kept, remove it to begin anew", damage);
    if (save_open(&f, path, why, sizeof why))
        tool_die("%s; so is the state before it (%s), remove both to begin anew", damage, why);
    const char *position = st_meta(&f, "run.position");
    tool_die("%s; %s is whole, of record %s: 'mv %s %s.last', and -r continues from there", damage,
             path, position ? position : "?", path, model);
}

static bool open_last(const char *model)
{
    char why[1024];
    const char *path = save_path(model, ".last");
    if (access(path, F_OK) && errno == ENOENT)
        return false;
    if (save_open(&last, path, why, sizeof why))
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
    char *name = tool_copy(save_path(model, ".last"));
    struct stat of_last;
    bool unfinished = stat(name, &of_last) || stat(model, &st) ||
                      st.st_mtim.tv_sec < of_last.st_mtim.tv_sec ||
                      (st.st_mtim.tv_sec == of_last.st_mtim.tv_sec &&
                       st.st_mtim.tv_nsec < of_last.st_mtim.tv_nsec);
    free(name);
    return unfinished;
}

bool save_is_of(const char *model, const struct settings *s)
{
    struct st_file f;
    char why[1024];
    if (st_open(&f, save_path(model, ".last"), why, sizeof why))
        return false;
    const char *config = st_meta(&f, "config");
    const bool is = config && !strcmp(config, settings_text(s));
    st_close(&f);
    return is;
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
    if (strcmp(then, save_digest(v))) {
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
    run->begun = tool_copy(begun);
    run->inherited = tool_copy(need("inherited"));
}

/* A constant rate does not know how many passes will come. What does, a falling one or an average
 * of the last passes, was made for fewer: then the run says for ever that it was given more. */
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
    if (run->best_epoch < 0 || s->keep != KEEP_BEST ||
        !access(save_path(run->model, ".best"), F_OK))
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
            save_path(run->model, ".last"));
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
    run->continued = continued ? tool_copy(continued) : NULL;
    if (spacing && contract_spacing_read(&run->spacing, spacing))
        tool_die("the checkpoint's 'spacing' is no range");
    const char *without = st_meta(&last, "without");
    if (without && contract_set(need("modalities"), without, &run->missing))
        tool_die("the checkpoint's 'without' names no modalities");
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
        source->digest = tool_copy(need("run.stream"));
        source->modalities = tool_copy(need("modalities"));
        source->scheme = tool_copy(need("scheme"));
        source->history = tool_copy(need("history"));
        source->epochs = (long)number("epochs");
        source->length = length;
        source->d = s->volume ? (int)number("depth") : 1;
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
        tool_die("%s: %s", save_path(run->model, ".last"), nn_why(nn));
    nn_moments(nn, &m);
    for (size_t i = 0; i < m; i++) {
        st_forget(&last);
        if (nn_load_moment(nn, i, last.tensor, (size_t)last.tensors))
            tool_die("%s: %s", save_path(run->model, ".last"), nn_why(nn));
    }
    average_show(run, nn, false);
    nn_set_steps(nn, run->steps);
    st_close(&last);
}
