/* infer_plan.c - plans the memory for records of some size, and predicts in it.
 *
 * A prediction is the mean of the probabilities of all models, in their order, each of all views of
 * the slice: as it is, mirrored in x, in y, in both, as far as wanted, and mirrored back. Sums have
 * this one order. A model sees a slice padded for it alone, so neither company nor the other models
 * change what it makes of it. The models run one after another, with their maps in one memory. */
#include "lib/image/batch.h"
#include "lib/image/entropy.h"
#include "tools/infer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORTH 106e9 /* FLOP at once: a slice of 240x240 in a U-Net of base 64, and a quarter */

struct plan plan;

/* What is held for it. */
static struct {
    struct nn *nn[MODELS];
    size_t record;       /* bytes of a record's payloads */
    size_t header;       /* bytes of the segment's */
    size_t ledger;       /* bytes of who is known */
    size_t pixels;       /* of a slice */
    float *image, *prob; /* of a batch, as a network takes and gives it */
    float *sum, *own;    /* of each slice: of all models where no tensor holds it, of one */
    uint8_t *pred;
} held;

/* --- what is wanted --------------------------------------------------------------------------- */

static bool is_view(int axes)
{
    return (axes & opt.axes) == axes;
}

static int views(void)
{
    int n = 0;
    for (int axes = 0; axes <= (MIRROR_X | MIRROR_Y); axes++)
        n += is_view(axes);
    return n;
}

static bool averages(void)
{
    return members * views() > 1;
}

static bool sums(void)
{
    return averages() || opt.prob || opt.uncertain;
}

static bool compares(void)
{
    return opt.uncertain && members > 1;
}

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

bool plan_holds(const struct tns_record *rec, int h, int w)
{
    return held.nn[0] && h <= plan.h && w <= plan.w && tool_header()->len <= held.header &&
           ledger_memory(&trained) <= held.ledger && payloads(rec, plan.in_turn) <= held.record;
}

/* What is resident beside the networks: the ring's records with what is added to them, a batch as a
 * network takes and gives it, and sums; headers, in the ring, the reader, the writer and their
 * buffers; the models' texts. */
static size_t outside(int n)
{
    enum { RECORD = 16384 }; /* texts and structs */
    size_t c = (size_t)member->about.inputs, k = (size_t)member->about.outputs;
    size_t result = 1 + 4 * (k * opt.prob + opt.uncertain + compares());
    size_t scratch = 1 + 4 * (c + k * (sums() + (sums() && !opt.prob) + compares()));
    return (size_t)n *
               (SLOTS * (held.record + held.pixels * result + RECORD) + held.pixels * scratch) +
           (SLOTS + 3) * held.header + 2 * SAID + models_memory();
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

static struct nn *network(const struct member *m, int n, size_t beside, size_t ceiling, char *why,
                          size_t size)
{
    struct nn_options o = {.n = n,
                           .h = member_side(m, 1, plan.h),
                           .w = member_side(m, 2, plan.w),
                           .threads = opt.threads,
                           .ceiling = ceiling,
                           .outside = beside,
                           .before = models_opening(),
                           .weights = m->model.weights,
                           .targets = m->model.targets};
    return nn_new(&m->spec, &o, why, size);
}

/* All networks for n slices at once, if they fit together: each beside the weights and tables of
 * the others. Only the largest maps count, so who has them comes first: a ceiling that does for him
 * does for all. */
static bool make_networks(int n, char *why, size_t size)
{
    size_t alone[MODELS], all = 0, most = 0;
    int first = 0;
    for (int i = 0; i < members && members > 1; i++) {
        struct nn *nn = network(&member[i], n, 0, 0, why, size);
        if (!nn)
            return false;
        struct nn_memory m = nn_memory(nn);
        nn_free(nn);
        all += alone[i] = m.own + m.parameters;
        if (m.maps > most)
            most = m.maps, first = i;
    }
    for (int j = 0; j < members; j++) {
        int i = (first + j) % members;
        size_t beside = outside(n) + (members > 1 ? all - alone[i] : 0);
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
    int largest = 0;
    for (int i = 0; i < members; i++) {
        struct nn_memory m = nn_memory(held.nn[i]);
        peak = m.peak > peak ? m.peak : peak;
        if (m.maps > nn_memory(held.nn[largest]).maps)
            largest = i;
    }
    for (int i = 0; i < members; i++) {
        struct nn *nn = held.nn[i];
        const struct st_file *f = &member[i].model.file;
        if ((i != largest && nn_share(nn, held.nn[largest])) ||
            nn_load(nn, f->tensor, (size_t)f->tensors))
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
    char why[512], models[32] = "", seen[32] = "";
    plan_free();
    plan.h = h > plan.h ? h : plan.h;
    plan.w = w > plan.w ? w : plan.w;
    double work = flops() * (double)held.pixels;
    int n = 1;
    while (n < MOST / 2 && 2 * n * work <= WORTH)
        n *= 2;
    held.header = tool_header()->len;
    held.ledger = ledger_memory(&trained);
    plan.in_turn = payloads(rec, false) > 4 * payloads(rec, true) + (1 << 20);
    for (n = plan.in_turn ? 1 : n;;) {
        /* A little more, so that not every longer header means a new plan. */
        held.record = (payloads(rec, plan.in_turn) + 32768) / 16384 * 16384;
        if (make_networks(n, why, sizeof why))
            break;
        if (n == 1 && plan.in_turn)
            refuse(rec, why);
        if (n == 1)
            plan.in_turn = true;
        else
            n /= 2;
    }
    plan.n = n;
    double peak = (double)load_networks();
    size_t k = (size_t)member->about.outputs, floats = (size_t)plan.n * held.pixels * sizeof(float);
    held.image = tool_alloc(floats * (size_t)member->about.inputs);
    held.pred = tool_alloc((size_t)plan.n * held.pixels);
    held.prob = sums() ? tool_alloc(floats * k) : NULL;
    held.sum = sums() && !opt.prob ? tool_alloc(floats * k) : NULL;
    held.own = compares() ? tool_alloc(floats * k) : NULL;
    if (members > 1)
        snprintf(models, sizeof models, ", %d models", members);
    if (views() > 1)
        snprintf(seen, sizeof seen, ", %d views", views());
    tool_note("%d at once of %dx%d%s%s%s, %d thread%s, %.1f MiB", plan.n, plan.h, plan.w,
              plan.in_turn ? ", records in turn" : "", models, seen, opt.threads,
              tool_s((unsigned)opt.threads), ceil(peak / 104857.6) / 10);
}

void plan_free(void)
{
    free_networks();
    free(held.image);
    free(held.prob);
    free(held.sum);
    free(held.own);
    free(held.pred);
    held.image = held.prob = held.sum = held.own = NULL;
    held.pred = NULL;
}

/* --- computing -------------------------------------------------------------------------------- */

/* A slice of the batch: its sides, and where its sums are. */
struct slice {
    struct tns_record *rec;
    const struct tensor *image;
    int rows, columns;
    size_t pixels;
    float *sum, *own, *entropy, *apart;
};

static void scale(float *v, size_t n, int parts)
{
    for (size_t i = 0; parts > 1 && i < n; i++)
        v[i] /= (float)parts;
}

static float *result(struct tns_record *rec, const char *name, enum dtype type, int rank)
{
    const struct tensor *image = tns_tensor(rec, "image");
    uint32_t dim[3] = {(uint32_t)member->about.outputs, image->dim[1], image->dim[2]};
    struct tensor *t = tool_add(rec, name, type, rank, rank == 3 ? dim : dim + 1);
    memset(t->data, 0, tensor_bytes(t));
    return t->data;
}

/* What the record gains, still empty. */
static void begin(struct slice *s, struct tns_record *rec, size_t i)
{
    const struct model *model = &member->model;
    size_t k = (size_t)member->about.outputs;
    *s = (struct slice){.rec = rec};
    result(rec, "pred", DT_U8, 2);
    s->sum = opt.prob   ? result(rec, "prob", DT_F32, 3)
             : held.sum ? held.sum + i * k * held.pixels
                        : NULL;
    s->entropy = opt.uncertain ? result(rec, "entropy", DT_F32, 2) : NULL;
    s->apart = compares() ? result(rec, "disagreement", DT_F32, 2) : NULL;
    s->own = held.own ? held.own + i * k * held.pixels : NULL;
    s->image = tns_tensor(rec, "image");
    s->rows = (int)s->image->dim[1];
    s->columns = (int)s->image->dim[2];
    s->pixels = (size_t)s->rows * (size_t)s->columns;
    if (held.sum)
        memset(s->sum, 0, k * s->pixels * sizeof *s->sum);
    if (s->own)
        memset(s->own, 0, k * s->pixels * sizeof *s->own);
    if (opt.prob && model->regions)
        tool_set(rec, "regions", "%s", model->regions);
    tool_set(rec, "scheme", "%s", model->scheme);
}

static void load(const struct member *m, const struct slice *s, int axes, int h, int w, float *to)
{
    int order[NN_MAX_CIN];
    char why[64];
    contract_order(m->model.modalities, tns_get(&s->rec->meta, "modalities"), order, NN_MAX_CIN,
                   why, sizeof why);
    img_batch_image(s->image, order, h, w, to);
    img_batch_mirror(to, (size_t)m->about.inputs, h, w, s->rows, s->columns, axes & MIRROR_X,
                     axes & MIRROR_Y);
}

static void run(struct nn *nn, const struct slice *s, size_t n, int h, int w)
{
    size_t plane = (size_t)h * (size_t)w;
    struct nn_batch batch = {.n = (int)n, .h = h, .w = w, .image = held.image};
    struct nn_output out = {.pred = held.pred, .prob = held.prob};
    int e = nn_infer(nn, &batch, &out);
    for (size_t i = 0; e == NN_ENAN && i < n; i++)
        if (memchr(held.pred + i * plane, NN_IGNORE, plane))
            tool_die("stdin: case %s slice %s: %s", key_or(s[i].rec, "case"),
                     key_or(s[i].rec, "slice"), nn_why(nn));
    if (e)
        tool_die("%s", nn_why(nn));
}

/* One view of one model. */
static void predict(int which, int axes, struct slice *s, size_t n, int h, int w)
{
    const struct member *m = &member[which];
    size_t c = (size_t)m->about.inputs, k = (size_t)m->about.outputs;
    h = member_side(m, 1, h);
    w = member_side(m, 2, w);
    size_t plane = (size_t)h * (size_t)w;
#pragma omp parallel for schedule(static) num_threads(opt.threads)
    for (size_t i = 0; i < n; i++)
        load(m, &s[i], axes, h, w, held.image + i * c * plane);
    run(held.nn[which], s, n, h, w);
#pragma omp parallel for schedule(static) num_threads(opt.threads)
    for (size_t i = 0; i < n; i++) {
        float *p = held.prob + i * k * plane;
        if (s[i].sum) {
            img_batch_mirror(p, k, h, w, s[i].rows, s[i].columns, axes & MIRROR_X, axes & MIRROR_Y);
            img_batch_add(p, k, h, w, s[i].rows, s[i].columns, s[i].sum);
        }
        if (s[i].own)
            img_batch_add(p, k, h, w, s[i].rows, s[i].columns, s[i].own);
    }
}

/* How uncertain a model is by itself, when all its views are there. */
static void add_entropy(const struct member *m, struct slice *s)
{
    size_t k = (size_t)m->about.outputs;
    scale(s->own, k * s->pixels, views());
    img_entropy(&m->model.targets, s->own, s->pixels, s->entropy);
    for (size_t i = 0; i < s->pixels; i++)
        s->apart[i] += s->entropy[i];
    memset(s->own, 0, k * s->pixels * sizeof *s->own);
}

static void finish(struct slice *s, const uint8_t *from, size_t stride)
{
    const struct targets *targets = &member->model.targets;
    size_t columns = (size_t)s->columns;
    uint8_t *pred = tns_tensor(s->rec, "pred")->data;
    if (averages()) {
        scale(s->sum, s->pixels * (size_t)targets->outputs, members * views());
        targets_predict(targets, s->sum, s->pixels, pred);
    } else {
        for (size_t y = 0; y < (size_t)s->rows; y++)
            memcpy(pred + y * columns, from + y * stride, columns);
    }
    if (s->entropy)
        img_entropy(targets, s->sum, s->pixels, s->entropy);
    if (s->apart) {
        scale(s->apart, s->pixels, members);
        for (size_t i = 0; i < s->pixels; i++)
            s->apart[i] = fmaxf(s->entropy[i] - s->apart[i], 0);
    }
}

void compute(struct tns_record *rec, int n, int h, int w)
{
    struct slice s[MOST];
    const size_t stride = (size_t)member_side(member, 2, w);
    const size_t plane = stride * (size_t)member_side(member, 1, h);
    for (int i = 0; i < n; i++)
        begin(&s[i], &rec[i], (size_t)i);
    for (int m = 0; m < members; m++) {
        for (int axes = 0; axes <= (MIRROR_X | MIRROR_Y); axes++)
            if (is_view(axes))
                predict(m, axes, s, (size_t)n, h, w);
#pragma omp parallel for schedule(static) num_threads(opt.threads)
        for (int i = 0; i < n; i++)
            if (s[i].own)
                add_entropy(&member[m], &s[i]);
    }
#pragma omp parallel for schedule(static) num_threads(opt.threads)
    for (int i = 0; i < n; i++)
        finish(&s[i], held.pred + (size_t)i * plane, stride);
}
