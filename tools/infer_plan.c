/* infer_plan.c - plans the memory for records of some size.
 *
 * Models run one after another, with their maps in one memory. Where a network sees volumes, all
 * are streams (nn.h). One view of one model gives each slice as soon as it can, and records wait
 * for that. Several see a case one after the other, from its first slice to its last: it waits in a
 * file until all have, and so do the sums of what they found. */
#include "tools/infer.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORTH 106e9 /* FLOP at once: a slice of 240x240 in a U-Net of base 64, and a quarter */

/* Slices of volumes at once: each call transforms all weights, and half as many cost 15 % of the
 * time. */
enum { IN_STREAMS = 8 };

struct plan plan;

struct held held;

/* --- planning --------------------------------------------------------------------------------- */

/* Bytes of a record's payloads, all of them or as far as the image. */
static size_t payloads(const struct tns_record *rec, bool in_turn)
{
    size_t sum = 0, image = 0;
    for (int i = 0; i < rec->ntensors; i++) {
        sum += (tensor_bytes(&rec->tensor[i]) + 63) / 64 * 64;
        if (!strcmp(rec->tensor[i].name, "image"))
            image = sum;
    }
    return in_turn ? image : sum;
}

int plan_depth(const struct tns_record *rec)
{
    long slices;
    if (!models_whole())
        return 0;
    return tns_get_int(&rec->meta, "slices", 1, INT_MAX, &slices) ? (int)slices : 1;
}

bool plan_holds(const struct tns_record *rec, int h, int w)
{
    return held.nn[0] && h <= plan.h && w <= plan.w && plan_depth(rec) <= plan.d &&
           tool_header()->len <= held.header && ledger_memory(&trained) <= held.ledger &&
           payloads(rec, plan.in_turn) <= held.record;
}

void plan_check(const struct tns_record *rec)
{
    if (opt.memory && payloads(rec, false) > held.record)
        tool_die_at(rec,
                    "takes more than the case's first slice, for which memory was planned (at "
                    "most %zu bytes, got %zu)",
                    held.record, payloads(rec, false));
}

/* The most channels that a model takes. */
static size_t inputs(void)
{
    int most = 0;
    for (const struct member *m = member; m < member + members; m++)
        most = m->about.inputs > most ? m->about.inputs : most;
    return (size_t)most;
}

/* Slices that are kept for one that sees neighbours. */
static int kept(const struct member *m, int n)
{
    return m->model.neighbours ? 2 * m->model.neighbours + n : 0;
}

/* Records that wait; of a case in a file, that are taken at once. */
static int lines(int n)
{
    return plan.spooled ? n : plan.lag + n;
}

/* What is resident beside the networks: the ring's records with what is added to them, a batch as a
 * network takes and gives it, and sums; headers, in the ring, the reader, the writer and their
 * buffers; the models' texts. */
static size_t outside(int n)
{
    enum { RECORD = 16384 }; /* texts and structs */
    size_t c = inputs(), k = (size_t)member->about.outputs, beside = 0;
    for (const struct member *m = member; m < member + members; m++)
        beside += (size_t)kept(m, n) * (size_t)m->channels * held.pixels * sizeof(float);
    size_t result = 1 + 4 * (k * opt.prob + opt.uncertain + compares());
    const size_t sum = sums() && (plan.spooled || !opt.prob), apart = plan.spooled && compares();
    size_t scratch = 1 + 4 * (c + k * (sums() + sum + compares()) + 2 * apart);
    size_t records = SLOTS * (size_t)plan.out + (plan.streams ? (size_t)lines(n) : 0);
    return beside + records * (held.record + held.pixels * result + RECORD) +
           (size_t)plan.out * held.pixels * scratch + (SLOTS + 3) * held.header + 2 * SAID +
           models_memory();
}

/* The ceiling is too low even for one record at a time. */
static _Noreturn void refuse(const struct tns_record *rec, const char *why)
{
    const struct tensor *most = &rec->tensor[0];
    for (int i = 0; strcmp(rec->tensor[i].name, "image"); i++)
        if (tensor_bytes(&rec->tensor[i + 1]) > tensor_bytes(most))
            most = &rec->tensor[i + 1];
    if (!strcmp(most->name, "image"))
        tool_die_at(rec, "%s", why);
    tool_die_at(rec, "%s; tensor '%s' stands before the image and takes %.1f MiB, %d times", why,
                most->name, (double)tensor_bytes(most) / 1048576, SLOTS);
}

static void free_networks(void)
{
    for (int i = 0; i < members; i++) {
        nn_free(held.nn[i]);
        held.nn[i] = NULL;
    }
}

/* Weights that are packed are not read where the file lies. */
static void forget(void *ctx, const struct tensor *t)
{
    const struct member *m = ctx;
    (void)t;
    st_forget(&m->model.file);
}

static struct nn *network(const struct member *m, int n, size_t beside, size_t ceiling, char *why,
                          size_t size)
{
    struct nn_options o = {.n = n,
                           .stream = plan.streams ? n : 0,
                           .deep = m->about.whole ? plan.d : 0,
                           .h = member_side(m, 1, plan.h),
                           .w = member_side(m, 2, plan.w),
                           .threads = opt.threads,
                           .ceiling = ceiling,
                           .outside = beside,
                           .before = models_opening(),
                           .weights = m->model.weights,
                           .bf16 = opt.bf16,
                           .hooks = {.ctx = (void *)(uintptr_t)m, .packed = forget},
                           .targets = m->model.targets};
    return nn_new(&m->spec, &o, why, size);
}

/* All networks for n slices at once, if they fit together: each beside the weights and tables of
 * the others. Only the largest maps count, so who has them comes first: a ceiling that does for him
 * does for all. */
static bool make_networks(int n, char *why, size_t size)
{
    size_t alone[MODELS], all = 0, most = 0, products[MODELS] = {0}, shared = 0;
    int first = 0;
    for (int i = 0; i < members && (plan.streams || members > 1); i++) {
        struct nn *nn = network(&member[i], n, 0, 0, why, size);
        if (!nn)
            return false;
        struct nn_memory m = nn_memory(nn);
        const int out = plan.streams ? nn_stream(nn).out : n;
        nn_free(nn);
        if (out > MOST)
            tool_die("%s: gives too many slices at once (wanted at most %d, got %d)",
                     member[i].path, MOST, out);
        plan.out = out > plan.out ? out : plan.out;
        all += alone[i] = m.own + m.parameters;
        products[i] = m.products;
        shared = m.products > shared ? m.products : shared;
        if (m.maps > most)
            most = m.maps, first = i;
    }
    for (int j = 0; j < members; j++) {
        int i = (first + j) % members;
        size_t beside = outside(n) + (members > 1 ? all - alone[i] + shared - products[i] : 0);
        held.nn[i] = network(&member[i], n, beside, opt.memory, why, size);
        if (!held.nn[i]) {
            free_networks();
            return false;
        }
    }
    return true;
}

/* Their maps come to lie in one memory; what the process will take, in bytes. */
static size_t load_networks(void)
{
    size_t peak = 0;
    struct nn *largest = NULL;
    for (int i = 0; i < members; i++) {
        struct nn_memory m = nn_memory(held.nn[i]);
        peak = m.peak > peak ? m.peak : peak;
        if (!largest || m.maps > nn_memory(largest).maps)
            largest = held.nn[i];
    }
    for (int i = 0; i < members; i++) {
        struct nn *nn = held.nn[i];
        const struct st_file *f = &member[i].model.file;
        if ((nn != largest && nn_share(nn, largest)) || nn_load(nn, f->tensor, (size_t)f->tensors))
            tool_die("%s: %s", member[i].path, nn_why(nn));
    }
    return peak;
}

/* The most work for a pixel, and the most pixels of a slice, that a model makes of it. */
static double flops(void)
{
    double most = 0;
    held.pixels = 0;
    for (const struct member *m = member; m < member + members; m++) {
        size_t n = (size_t)member_side(m, 1, plan.h) * (size_t)member_side(m, 2, plan.w);
        held.pixels = n > held.pixels ? n : held.pixels;
        most = m->about.flops > most ? m->about.flops : most;
    }
    return most;
}

/* For records and slices as large as this and those before: as many at once as are worth while and
 * fit. Small networks and small slices gain from company, as each layer is too little work for the
 * threads. */
void plan_make(const struct tns_record *rec, int h, int w)
{
    char why[512], models[32] = "", seen[32] = "", late[64] = "";
    plan_free();
    plan.h = h > plan.h ? h : plan.h;
    plan.w = w > plan.w ? w : plan.w;
    plan.d = plan_depth(rec) > plan.d ? plan_depth(rec) : plan.d;
    double work = flops() * (double)held.pixels;
    int n = 1;
    plan.streams = models_stream(&plan.lag);
    plan.spooled = plan.streams && averages();
    while (n < (plan.streams ? IN_STREAMS : MOST / 2) && (plan.streams || 2 * n * work <= WORTH))
        n *= 2;
    held.header = tool_header()->len;
    held.ledger = ledger_memory(&trained);
    plan.in_turn = !plan.streams && payloads(rec, false) > 4 * payloads(rec, true) + (1 << 20);
    for (n = plan.in_turn ? 1 : n;;) {
        /* A little more, so that not every longer header means a new plan. */
        held.record = (payloads(rec, plan.in_turn) + 32768) / 16384 * 16384;
        plan.out = n;
        if (make_networks(n, why, sizeof why))
            break;
        if (n == 1 && (plan.in_turn || plan.streams))
            refuse(rec, why);
        if (n == 1)
            plan.in_turn = true;
        else
            n /= 2;
    }
    plan.n = n;
    double peak = (double)load_networks();
    size_t k = (size_t)member->about.outputs,
           floats = (size_t)plan.out * held.pixels * sizeof(float);
    held.image = tool_alloc(floats * inputs());
    held.pred = tool_alloc((size_t)plan.out * held.pixels);
    held.prob = sums() ? tool_alloc(floats * k) : NULL;
    held.sum = sums() && (plan.spooled || !opt.prob) ? tool_alloc(floats * k) : NULL;
    held.own = compares() ? tool_alloc(floats * k) : NULL;
    held.apart = plan.spooled && compares() ? tool_alloc(2 * floats) : NULL;
    for (struct member *m = member; m < member + members; m++)
        if (m->model.neighbours) {
            m->beside = (struct img_beside){
                .k = m->model.neighbours, .c = m->channels, .room = kept(m, plan.n)};
            m->beside.ring = tool_alloc((size_t)m->beside.room * (size_t)m->channels * held.pixels *
                                        sizeof(float));
        }
    held.lines = plan.streams ? lines(plan.n) : 0;
    held.line = plan.streams ? calloc((size_t)held.lines, sizeof *held.line) : NULL;
    if (plan.streams && !held.line)
        tool_die("out of memory");
    if (members > 1)
        snprintf(models, sizeof models, ", %d models", members);
    if (views() > 1)
        snprintf(seen, sizeof seen, ", %d views", views());
    if (models_whole())
        snprintf(late, sizeof late, ", cases of %d slices", plan.d);
    else if (plan.spooled)
        snprintf(late, sizeof late, ", cases in a temporary file");
    else if (plan.streams)
        snprintf(late, sizeof late, ", each %d slices later", plan.lag);
    tool_note("%d at once of %dx%d%s%s%s%s, %d thread%s, %.1f MiB", plan.n, plan.h, plan.w,
              plan.in_turn ? ", records in turn" : "", late, models, seen, opt.threads,
              tool_s((unsigned)opt.threads), ceil(peak / 104857.6) / 10);
}

void plan_free(void)
{
    free_networks();
    for (int i = 0; i < held.lines; i++)
        tns_release(&held.line[i]);
    held.lines = 0;
    for (struct member *m = member; m < member + members; m++) {
        free(m->beside.ring);
        m->beside.ring = NULL;
    }
    free(held.line);
    held.line = NULL;
    free(held.image);
    free(held.prob);
    free(held.sum);
    free(held.own);
    free(held.apart);
    free(held.pred);
    held.image = held.prob = held.sum = held.own = held.apart = NULL;
    held.pred = NULL;
}
