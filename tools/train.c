/* train - train a network on a stream of epochs
 *
 * reads   image, label, patient, case, fingerprint, modalities, scheme, spacing, norm, crop,
 *         cropped, epoch, index, epochs, length, largest, slice, slices, slab, depth, centre; marks
 * writes  a model; no stream
 *
 * One thing: the state of a run, which each of these functions takes a step further. */
#include "tools/train.h"

#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "[-FLnrv] [-c CONFIG] [-e VALIDATION] [-i MODEL] [-j THREADS] "
                            "[-M SIZE] [-s SEED] [-t SECONDS] [-x PASSES] -o MODEL < STREAM";
static const char options[] =
    "-c --config= -e --validation= -F --force -i --init= -j --threads= -L --leaky "
    "-M --memory= -n --plan -o --output= -r --resume -s --seed= -t --timeout= "
    "-x --passes=";

static struct {
    const char *config, *model, *validation, *origin;
    bool force, leaky, plan, resume, seeded;
    int threads;
    unsigned long long memory;
    uint64_t seed;
    long passes;    /* after which to pause; 0: none */
    double silence; /* of another process, after which it is given up */
} opt = {.silence = 45};

static struct settings set;
static struct source source;
static struct validation val;
static struct origin origin;
static struct run run = {.best_epoch = -1, .best_score = -1};
static struct model_keys keys;
static struct nn *nn;

/* --- before the first step ---------------------------------------------------------------------*/

static void print_line(void *ctx, const char *text)
{
    (void)ctx;
    puts(text);
}

static void make_network(void)
{
    char why[512];
    struct nn_options o = {
        .train = true,
        .n = source_samples(&source, &set),
        .d = set.volume ? source.d : 1,
        .stream = set.volume ? VALIDATION_PIECE : 0,
        .deep = opt.validation ? val.deep : source.d,
        .h = source.h,
        .w = source.w,
        .threads = opt.threads,
        .ceiling = opt.memory,
        .accumulate = set.accumulate > 1,
        .average = set.ema > 0 || set.average,
        .before = origin.bytes,
        .groups = source_groups(&set),
        .hooks = share_hooks(set.gradients),
        .outside = feed_memory(&set, &source) + share_memory() +
                   met_memory(&run, &set, &source, opt.validation ? &val : NULL, &origin),
        .bf16 = set.precision,
        .training = settings_training(&set),
        .targets = set.targets};
    if (opt.validation) {
        validation_size(&val, (size_t)o.n * (size_t)source.h * (size_t)source.w, &set);
        o.eval_n = val.n;
        o.eval_h = val.h;
        o.eval_w = val.w;
        o.outside += validation_memory(&val, &set);
    }
    if (!(nn = nn_new(&set.spec, &o, why, sizeof why)))
        tool_die("%s", why);
}

/* --- the run -----------------------------------------------------------------------------------*/

/* Held while a file is written, so that the reading thread's death does not interrupt that. */
static pthread_mutex_t writing = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static void on_signal(int sig)
{
    (void)sig;
    share.stop = 1;
}

static void wait_for_files(void)
{
    pthread_mutex_lock(&writing);
}

static uint64_t total(void) /* items of the run */
{
    return source.length * (uint64_t)source.epochs;
}

/* Whether -x ends this process, and not the run. */
static bool paused(void)
{
    return opt.passes && run.position < total() &&
           run.position / source.length >= (uint64_t)opt.passes;
}

static uint64_t steps_of_pass(void)
{
    uint64_t items = (uint64_t)set.batch * (uint64_t)set.accumulate;
    return (source.length + items - 1) / items;
}

static double rate_at(uint64_t step)
{
    struct nn_rate r = {(enum nn_schedule)set.schedule, set.rate, (uint64_t)set.warmup,
                        steps_of_pass() * (uint64_t)source.epochs};
    return nn_rate_at(&r, step);
}

/* How long this process has trained and waited for its stream since it last told. */
static struct {
    double begun, waited, told;
} spent;

static void join(void)
{
    static double waited;
    const double now = tool_now();
    met_join(&run, now - spent.told, spent.waited - waited);
    spent.told = now;
    waited = spent.waited;
}

/* What each process has its part of becomes whole: of the average in all, to evaluate it, or all of
 * the state in rank 0. */
static void collect(bool state)
{
    size_t n, m;
    average_show(&run, nn, true);
    const struct tensor *t = nn_params(nn, &n);
    for (size_t i = 0; i < n && run.averaged; i++)
        share_parts(t[i].data, tensor_count(&t[i]), dtype_size(t[i].dtype), !state);
    average_show(&run, nn, false);
    t = nn_moments(nn, &m);
    for (size_t i = 0; i < m && state; i++)
        share_parts(t[i].data, tensor_count(&t[i]), dtype_size(t[i].dtype), false);
    share_meet();
}

static void checkpoint(void)
{
    join();
    collect(true);
    met_check_room(&run, &set, &source, opt.validation ? &val : NULL, nn_memory(nn).peak,
                   opt.memory);
    if (share.rank)
        return;
    pthread_mutex_lock(&writing);
    save_describe(&keys, &set, &source, opt.validation ? &val : NULL, &run, nn_steps(nn));
    save_last(&run, &keys, &source, opt.validation ? &val : NULL, nn);
    model_clear(&keys);
    pthread_mutex_unlock(&writing);
}

static _Noreturn void not_finite(const struct batch *b)
{
    char names[600] = "";
    size_t n = 0;
    share_follow();
    for (int i = 0; i < b->items && n < sizeof names - 140; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, i ? ", %s" : "%s", b->name[i]);
    tool_die("step %llu (epoch %ld): %s; records: %s%s; %s.last is as it was",
             (unsigned long long)nn_steps(nn), b->epoch, nn_why(nn), names,
             n >= sizeof names - 140 ? ", ..." : "", opt.model);
}

static const char *item(void)
{
    return source.rows == SLABS ? "slab" : "slice";
}

static void show(const struct batch *b, double loss)
{
    static double began;
    static uint64_t from;
    double t = tool_now();
    if (share.rank)
        return;
    if (began == 0) {
        began = t;
        from = b->position;
        return;
    }
    double rate = (double)(b->position - from) / (t - began);
    double left = rate > 0 ? (double)(total() - b->position) / rate : 0;
    tool_progress("epoch %ld/%ld, step %llu, loss %.4f, %.1f %ss/s, %.0f MiB, %.0f:%02.0f left",
                  b->epoch + 1, source.epochs, (unsigned long long)nn_steps(nn), loss, rate, item(),
                  (double)nn_memory(nn).peak / 1048576, floor(left / 60), fmod(left, 60));
}

/* Batches since the last step. */
static int pending;

/* A step is taken with the last of its batches; those that an epoch leaves over make one. */
static int take_step(const struct batch *b, struct nn_result *result)
{
    double rate = rate_at(nn_steps(nn));
    int e = set.accumulate > 1 ? nn_backward(nn, b->part, result, NULL)
                               : nn_train(nn, b->part, rate, result);
    if (e || (++pending < set.accumulate && b->position % source.length))
        return e;
    if (set.accumulate > 1 && (e = nn_update(nn, rate)))
        return e;
    pending = 0;
    if (set.ema > 0)
        average_take(&run, nn, &set);
    return 0;
}

static void learn(const struct batch *b)
{
    struct nn_result result;
    int e = take_step(b, &result);
    if (e == NN_ENAN)
        not_finite(b);
    if (e)
        tool_die("step %llu: %s", (unsigned long long)nn_steps(nn), nn_why(nn));
    met_add(&run, b, &val.ledger);
    met_check_room(&run, &set, &source, opt.validation ? &val : NULL, nn_memory(nn).peak,
                   opt.memory);
    run.loss_sum += result.loss * (double)result.samples;
    run.loss_count += result.samples;
    run.position = b->position;
    show(b, result.loss);
}

/* Hours, minutes and seconds. */
static const char *clock_of(double seconds, char to[32])
{
    const long t = lround(seconds);
    if (t < 3600)
        snprintf(to, 32, "%ld:%02ld", t / 60, t % 60);
    else
        snprintf(to, 32, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    return to;
}

static long passes; /* of this process */

/* s: NULL where nothing was validated. */
static void tell(long epoch, double loss, const struct scores *s)
{
    log_epoch(epoch, nn_steps(nn), rate_at(nn_steps(nn) - 1), loss, s);
    char left[32], scores[128] = "";
    if (s)
        snprintf(scores, sizeof scores, ", validation %.4f, Dice WT %.3f TC %.3f ET %.3f", s->loss,
                 s->dice[MET_WT], s->dice[MET_TC], s->dice[MET_ET]);
    tool_say("epoch %ld/%ld: loss %.4f%s, %s left", epoch + 1, source.epochs, loss, scores,
             clock_of((double)(source.epochs - epoch - 1) * (tool_now() - spent.begun) / ++passes,
                      left));
}

/* An epoch is over. */
static void evaluate(const struct batch *b)
{
    struct scores s;
    double loss = run.loss_count ? run.loss_sum / (double)run.loss_count : NAN;
    if (set.average && b->epoch >= source.epochs - set.average)
        average_take(&run, nn, &set);
    if (opt.validation) {
        collect(false);
        average_show(&run, nn, true);
        validation_run(&val, nn, &set, &s);
        if (!isfinite(s.loss)) {
            share_follow();
            tool_die("validation after epoch %ld: the loss is not finite; %s.last is as it was",
                     b->epoch, opt.model);
        }
        bool better = s.score > run.best_score;
        if (better || set.keep == KEEP_LAST) {
            run.best_score = s.score;
            run.best_epoch = b->epoch;
        }
        if (better && set.keep == KEEP_BEST)
            join();
        if (better && set.keep == KEEP_BEST && !share.rank) {
            pthread_mutex_lock(&writing);
            save_describe(&keys, &set, &source, &val, &run, nn_steps(nn));
            save_best(&run, &keys, nn);
            model_clear(&keys);
            pthread_mutex_unlock(&writing);
        }
        average_show(&run, nn, false);
        run.stopped = set.patience && b->epoch - run.best_epoch >= set.patience;
    }
    if (!share.rank)
        tell(b->epoch, loss, opt.validation ? &s : NULL);
    run.loss_sum = 0;
    run.loss_count = 0;
    checkpoint();
}

/* Filters begin when the first batch is asked for, so that one counts for nothing, and may take as
 * long as it likes. */
static struct batch *next_batch(void)
{
    const double asked = tool_now();
    const bool first = spent.begun <= 0;
    if (first)
        share_idle(true);
    struct batch *b = feed_next();
    double got = tool_now();
    if (first) {
        share_idle(false);
        spent.begun = spent.told = got;
    } else {
        spent.waited += got - asked;
    }
    return b;
}

/* Whether somebody was asked to stop, and whether rank 0 finds it time for a checkpoint. */
static void decide(bool *stop, bool *due)
{
    double n[] = {share.stop != 0, !share.rank && *due};
    share_sums(NULL, n, 2);
    *stop = n[0] > 0;
    *due = n[1] > 0;
}

static void train(void)
{
    double saved = tool_now();
    for (;;) {
        struct batch *b = next_batch();
        if (b->kind == BATCH_END)
            break;
        if (b->kind == BATCH_MARK)
            evaluate(b);
        else
            learn(b);
        if (run.stopped || (b->kind == BATCH_MARK && paused()))
            return;
        bool between = run.position % source.length != 0; /* else the mark comes next */
        if (pending)
            continue; /* a checkpoint has no half steps */
        bool stop, due = set.checkpoint > 0 && tool_now() - saved > 60 * set.checkpoint;
        decide(&stop, &due);
        if (stop && (between || b->kind == BATCH_MARK)) {
            checkpoint();
            share_follow();
            tool_die("stopped by a signal; -r continues from %s %llu", source_item(&source),
                     (unsigned long long)run.position);
        }
        if (between && due) {
            checkpoint();
            saved = tool_now();
        } else if (!between) {
            saved = tool_now();
        }
    }
    if (run.position != total())
        tool_die("stdin: ended after %s %llu (wanted %llu: %ld epochs of %llu)",
                 source_item(&source), (unsigned long long)run.position,
                 (unsigned long long)total(), source.epochs, (unsigned long long)source.length);
}

static void finish(void)
{
    uint64_t steps = nn ? nn_steps(nn) : run.steps;
    bool best = set.keep == KEEP_BEST && run.best_epoch >= 0;
    nn_free(nn); /* its memory makes room for the files' */
    if (share.rank)
        return;
    save_describe(&keys, &set, &source, opt.validation ? &val : NULL, &run, steps);
    ledger_free(&run.ledger);
    pthread_mutex_lock(&writing);
    save_final(&run, &keys, &set, best);
    pthread_mutex_unlock(&writing);
    tool_progress(NULL);
    if (spent.begun > 0)
        tool_note("waited for the stream %.1f s of %.1f", spent.waited, tool_now() - spent.begun);
    if (best)
        tool_note("%s: of epoch %ld, mean Dice %.4f", opt.model, run.best_epoch, run.best_score);
}

/* Reads the first record, if there is one, and from it what the stream is. */
static bool begin_stream(struct tns_record *rec)
{
    if (!opt.plan && !share.rank)
        save_may_write(opt.model);
    tool_open_in();
    if (!tool_front(rec)) {
        if (!opt.resume || opt.plan)
            tool_die("stdin: holds no records");
        return false;
    }
    source_read(&source, rec, &set);
    return true;
}

static void plan(void)
{
    struct tns_record rec = {0};
    if (set.size[0] && !set.volume) {
        source.d = 2 * set.neighbours + 1;
        source.h = set.size[0];
        source.w = set.size[1];
    } else {
        begin_stream(&rec);
    }
    if (opt.origin)
        origin_inherit(&origin, &run);
    make_network();
    if (!share.rank)
        nn_print(nn, print_line, NULL);
    nn_free(nn);
    tns_release(&rec);
}

static void read_options(int argc, char **argv)
{
    int c;
    opt.threads = tool_cores(NN_MAX_THREADS);
    tool_start(argc, argv, usage);
    tool_share_cores();
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'c':
            opt.config = optarg;
            break;
        case 'e':
            opt.validation = optarg;
            break;
        case 'F':
            opt.force = true;
            break;
        case 'i':
            opt.origin = optarg;
            break;
        case 'j':
            opt.threads = (int)tool_int('j', optarg, 1, NN_MAX_THREADS);
            break;
        case 'L':
            opt.leaky = true;
            break;
        case 'M':
            opt.memory = tool_size('M', optarg);
            break;
        case 'n':
            opt.plan = true;
            break;
        case 'o':
            opt.model = optarg;
            break;
        case 'r':
            opt.resume = true;
            break;
        case 's':
            opt.seed = (uint64_t)tool_int('s', optarg, 0, __LONG_MAX__);
            opt.seeded = true;
            break;
        case 't':
            opt.silence = tool_double('t', optarg, 1, 1e6);
            break;
        case 'x':
            opt.passes = tool_int('x', optarg, 1, 1000000);
            break;
        }
    tool_no_operands();
    if (!opt.model && !opt.plan)
        tool_usage();
}

/* The settings may name a description that lies beside them. */
static void may_read_settings(void)
{
    if (!opt.config)
        return;
    char *copy = tool_copy(opt.config);
    tool_may_read(opt.config);
    tool_may_read(dirname(copy));
    free(copy);
}

/* A run that began before something was recommended goes on without it. */
static void read_settings(void)
{
    const uint64_t *seed = opt.seeded ? &opt.seed : NULL;
    static struct settings before;
    bool old = false;
    settings_read(&set, opt.config, seed, true);
    if (opt.resume && !opt.plan && !share.rank && !save_is_of(opt.model, &set)) {
        settings_read(&before, opt.config, seed, false);
        old = save_is_of(opt.model, &before);
    }
    share_from_first(&old, sizeof old);
    if (old)
        settings_read(&set, opt.config, seed, false);
}

/* Each process has as many of the groups, a branch of their tree. */
static void check_groups(void)
{
    const int n = share.ranks, own = set.groups / n;
    if (n > 1 && (set.groups % n || (own & (own - 1))))
        tool_die("groups: (wanted %d, or that times 2, 4, ..., for %d processes, got %d)", n, n,
                 set.groups);
}

/* All have to train the same. */
static void check_alike(void)
{
    share_same("version", GLIOPIPE_VERSION);
    share_same("level of the processor (KR_ISA caps it)", nn_isa(set.precision));
    share_same("configuration", settings_text(&set));
    share_same("network", set.spec.text);
    share_same("validation stream", save_digest(opt.validation ? &val : NULL));
}

/* The run as rank 0 has it. */
static void share_run(bool *resumed)
{
    struct {
        uint64_t position, steps, loss_count, averaged;
        double loss_sum, best_score;
        long best_epoch;
        bool stopped, longer, leaky, resumed;
    } r = {run.position,   run.steps,   run.loss_count, run.averaged, run.loss_sum, run.best_score,
           run.best_epoch, run.stopped, run.longer,     run.leaky,    *resumed};
    share_from_first(&r, sizeof r);
    run.position = r.position, run.steps = r.steps, run.loss_count = r.loss_count;
    run.averaged = r.averaged, run.loss_sum = r.loss_sum, run.best_score = r.best_score;
    run.best_epoch = r.best_epoch, run.stopped = r.stopped, run.longer = r.longer;
    run.leaky = r.leaky, *resumed = r.resumed;
}

static void share_tensor(const struct tensor *t)
{
    if (!near_holds(t->data))
        share_from_first(t->data, tensor_bytes(t));
}

/* The network's state as rank 0 has it. */
static void share_network(void)
{
    size_t n, m;
    char narrowed[NN_NARROWED_MAX];
    nn_narrowed(nn, narrowed, sizeof narrowed);
    share_same("choice of what is bf16 (-M)", narrowed);
    for (int shown = 0; shown < (run.averaged ? 2 : 1); shown++) {
        average_show(&run, nn, shown);
        const struct tensor *t = nn_params(nn, &n);
        for (size_t i = 0; i < n; i++)
            share_tensor(&t[i]);
    }
    average_show(&run, nn, false);
    const struct tensor *moment = nn_moments(nn, &m);
    for (size_t i = 0; i < m; i++)
        share_tensor(&moment[i]);
    share_meet();
    nn_set_steps(nn, run.steps);
}

/* What each of the other processes takes at most; nothing where there is none. */
static const char *others_memory(void)
{
    static char text[40];
    double peak[NN_MAX_GROUPS] = {0}, most = 0;
    peak[share.rank] = (double)nn_memory(nn).peak;
    share_sums(NULL, peak, NN_MAX_GROUPS);
    for (int i = 1; i < share.ranks; i++)
        most = fmax(most, peak[i]);
    if (share.ranks > 1)
        snprintf(text, sizeof text, ", others %.0f MiB", ceil(most / 1048576));
    return text;
}

static void prepare(bool resumed)
{
    if (!share.rank)
        log_keep((long)(run.position / source.length), set.classes);
    make_network();
    uint64_t all = steps_of_pass() * (uint64_t)source.epochs;
    int items = set.batch * set.accumulate;
    char deep[16] = "";
    if (source.rows == SLABS)
        snprintf(deep, sizeof deep, "%dx", source.d);
    const char *others = others_memory();
    if (!share.rank)
        fprintf(stderr,
                "%s: %s%s%s, %llu step%s of %d %s%s up to %s%dx%d, %d thread%s, %.0f MiB%s\n",
                tool_name(), set.called, *set.parameters ? " " : "", set.parameters,
                (unsigned long long)all, tool_s(all), items, item(), tool_s((unsigned)items), deep,
                source.h, source.w, opt.threads, tool_s((unsigned)opt.threads),
                ceil((double)nn_memory(nn).peak / 1048576), others);
    if (resumed && !share.rank)
        save_restore(&run, nn);
    else if (nn_init(nn, set.seed))
        tool_die("%s", nn_why(nn));
    else if (opt.origin)
        origin_take(&origin, nn, &set, &source);
    origin_close(&origin);
    if (share.ranks > 1)
        share_network();
    if (set.average && run.longer)
        run.averaged = 0; /* those were not the last passes */
}

static void go(struct tns_record *first)
{
    struct feed feed = {&set, &source, &val.ledger, opt.leaky, opt.force, run.position};
    struct sigaction stop = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    atexit(wait_for_files);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    feed_start(&feed, first);
    train();
}

int main(int argc, char **argv)
{
    struct tns_record first = {0};

    read_options(argc, argv);
    tool_own_progress();
    share_begin(opt.silence);
    if (share.rank)
        opt.origin = NULL; /* rank 0 tells */
    may_read_settings();
    if (opt.validation)
        tool_may_read(opt.validation);
    if (opt.origin)
        tool_may_read(opt.origin);
    if (!opt.plan && !share.rank)
        save_may_write(opt.model);
    const char *bad = kr_init();
    if (bad)
        tool_die("%s", bad);
    kr_products(); /* before tool_confine, as it may load a library */
    tool_confine();
    share_watch();
    share_idle(true);
    read_settings();
    check_groups();
    if (!set.products)
        kr_products_free();
    if (opt.validation)
        validation_open(&val, opt.validation, &set);
    if (opt.origin)
        origin_open(&origin, opt.origin);
    check_alike();
    if (opt.plan) {
        plan();
        share_end();
        return tool_finish();
    }
    if (set.patience && !opt.validation)
        tool_die("%s: patience waits for a better score (wanted -e)", opt.config);

    bool more = begin_stream(&first);
    if (more)
        source_agree(&source, &set, opt.config ? opt.config : "settings",
                     opt.validation ? &val : NULL, opt.force, opt.leaky);
    if (more && opt.origin)
        origin_agree(&origin, &source, opt.force);
    share_same("training stream", more ? source.digest : "");
    run.model = opt.model;
    if (!share.rank)
        save_lock(opt.model);
    if (!opt.resume && !share.rank && save_unfinished(opt.model))
        tool_die("%s.last: a run that is not finished (-r continues it; remove it to begin anew)",
                 opt.model);
    bool resumed = opt.resume && !share.rank &&
                   save_resume(&run, &set, &source, more, opt.validation ? &val : NULL, &origin);
    if (!resumed && !share.rank && access(opt.model, F_OK) == 0)
        tool_die("%s: exists already (wanted another -o; remove it to train it anew)", opt.model);
    run.leaky = origin_apart(&origin, &val, opt.leaky);
    if (opt.origin && !resumed)
        origin_inherit(&origin, &run);
    run.leaky |= source_apart(&run.ledger, TRAINED, &val, opt.leaky);
    share_run(&resumed);
    bool over = resumed && (run.stopped || run.position == total() || paused());
    if (!more && !over)
        tool_die("stdin: holds no records");
    if (!over)
        prepare(resumed);
    share_idle(false);
    if (!run.stopped && !paused())
        go(more ? &first : NULL);
    double ended = 1;
    share_sums(NULL, &ended, 1); /* every stream has come to a good end */
    if (paused())
        tool_progress(NULL);
    else
        finish();
    share_end();
    return tool_finish();
}
