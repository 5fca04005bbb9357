/* infer - segment slices with a trained network
 *
 * reads   image, label's scheme, patient, fingerprint, modalities, norm, crop, cropped, spacing
 * changes scheme, if there is no label
 * adds    pred (u8), trained, trained_as; prob (f32) and regions with -P
 *
 * Three threads, so that pipes and arithmetic do not wait for each other: one reads records into
 * batches of equal size, one computes, one writes. Batches go round in the order of the stream.
 *
 * Memory is planned for a record's shapes before its payloads are taken, and again, once the ring
 * is empty, when a record comes that does not fit. Where the image is the smaller part of a record,
 * or the ceiling too low for whole ones, they go in turn: one at a time, as far as its image, the
 * rest straight from input to output. */
#include "formats/contract.h"
#include "formats/ledger.h"
#include "formats/model.h"
#include "lib/base/ring.h"
#include "lib/image/batch.h"
#include "lib/nn/nn.h"
#include "tools/tool.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "[-FHPv] [-j THREADS] [-M SIZE] -m MODEL < STREAM > STREAM\n"
                            "       infer -n -m MODEL";

static struct {
    const char *model;
    bool force, print, prob;
    int threads;
    unsigned long long memory;
} opt;

#define FILLS 0.95 /* of each side of a slice; brains in their field of view take up to 0.8 */

#define WORTH 106e9 /* FLOP at once: a slice of 240x240 in a U-Net of base 64, and a quarter */

enum { READ, COMPUTE, WRITE, STAGES }; /* of the ring: a thread each */
enum { SLOTS = 3, MOST = 16 };
enum { SAID = 65536 }; /* bytes of what was warned of */

/* Records of one padded size, or one that passes as it is, or the header of a segment. */
struct batch {
    enum { SLICES, PASSES, SEGMENT, END } kind;
    int n, h, w;
    struct tns_record rec[MOST];
    struct tns_meta header;
};

static struct model model;
static struct ledger trained; /* whom it was trained on */
static struct nn_spec spec;   /* its network */
static struct nn_about about;
static struct contract_spacing learned; /* from voxels of which size, if the model says */

/* What the plan is for. It changes while the ring is empty. */
static struct {
    struct nn *nn;
    int n, h, w;   /* the largest batch */
    size_t record; /* bytes of a record's payloads */
    size_t header; /* bytes of the segment's */
    size_t ledger; /* bytes of who is known */
    bool in_turn;
    float *image, *prob;
    uint8_t *pred;
} plan;

static struct ring ring = RING(SLOTS, STAGES);
static struct batch slot[SLOTS];

/* The batch whose turn it is at that stage; it is passed on. */
static struct batch *await(unsigned stage)
{
    return &slot[ring_take(&ring, stage, stage).slot];
}

static void pass(const struct batch *b)
{
    ring_pass(&ring, (unsigned)(b - slot));
}

/* --- planning ----------------------------------------------------------------------------------*/

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

static bool planned_for(const struct tns_record *rec, int h, int w)
{
    return plan.nn && h <= plan.h && w <= plan.w && tool_header()->len <= plan.header &&
           ledger_memory(&trained) <= plan.ledger && payloads(rec, plan.in_turn) <= plan.record;
}

/* The model's file but for the weights, as it lies, as it is understood and what reading it leaves
 * in the heap, and whom it names. */
static size_t model_memory(void)
{
    enum { TENSOR = 256 }; /* structs; pages begun */
    size_t file = model.file.size, tensors = (size_t)model.file.tensors;
    for (size_t i = 0; i < tensors; i++)
        if (model.file.tensor[i].rank > 1)
            file -= tensor_bytes(&model.file.tensor[i]);
    return 3 * file + TENSOR * tensors + ledger_memory(&trained);
}

/* What is resident beside the network: the ring's records with what is added to them, a batch as
 * the network takes and gives it; headers, in the ring, the reader, the writer and their buffers;
 * the model's texts. */
static size_t outside(int n, size_t pixels, size_t record)
{
    enum { RECORD = 16384 }; /* texts and structs */
    size_t c = (size_t)about.inputs, result = 1 + (opt.prob ? 4 * (size_t)about.outputs : 0);
    return (size_t)n * (SLOTS * (record + pixels * result + RECORD) + pixels * (4 * c + result)) +
           (SLOTS + 3) * plan.header + 2 * SAID + model_memory();
}

static void empty_ring(void)
{
    for (int s = 0; s < SLOTS; s++) {
        for (int i = 0; i < MOST; i++)
            tns_release(&slot[s].rec[i]);
        free(slot[s].header.text);
        slot[s].header = (struct tns_meta){0};
    }
    nn_free(plan.nn);
    free(plan.image);
    free(plan.prob);
    free(plan.pred);
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

/* For records and slices as large as this and those before: as many at once as are worth while and
 * fit. Small networks and small slices gain from company, as each layer is too little work for the
 * threads. */
static void make_plan(const struct tns_record *rec, int h, int w)
{
    char why[512];
    plan.h = h = h > plan.h ? h : plan.h;
    plan.w = w = w > plan.w ? w : plan.w;
    double work = (double)h * w * about.flops;
    size_t plane = (size_t)h * (size_t)w, outputs = (size_t)about.outputs;
    int n = 1;
    while (n < MOST / 2 && 2 * n * work <= WORTH)
        n *= 2;
    empty_ring();
    plan.header = tool_header()->len;
    plan.ledger = ledger_memory(&trained);
    plan.in_turn = payloads(rec, false) > 4 * payloads(rec, true) + (1 << 20);
    for (plan.nn = NULL, n = plan.in_turn ? 1 : n; !plan.nn;) {
        /* A little more, so that not every longer header means a new plan. */
        plan.record = (payloads(rec, plan.in_turn) + 32768) / 16384 * 16384;
        struct nn_options o = {.n = n,
                               .h = h,
                               .w = w,
                               .threads = opt.threads,
                               .ceiling = opt.memory,
                               .outside = outside(n, plane, plan.record),
                               .weights = model.weights,
                               .targets = model.targets};
        plan.nn = nn_new(&spec, &o, why, sizeof why);
        plan.n = n;
        if (!plan.nn && n == 1 && plan.in_turn)
            refuse(rec, why);
        if (!plan.nn && n == 1)
            plan.in_turn = true;
        else
            n /= 2;
    }
    if (!nn_products(plan.nn))
        kr_products_free();
    if (nn_load(plan.nn, model.file.tensor, (size_t)model.file.tensors))
        tool_die("%s: %s", opt.model, nn_why(plan.nn));
    plane *= (size_t)plan.n;
    plan.image = tool_alloc(plane * (size_t)about.inputs * sizeof *plan.image);
    plan.pred = tool_alloc(plane);
    plan.prob = opt.prob ? tool_alloc(plane * outputs * sizeof *plan.prob) : NULL;
    tool_note("%d at once of %dx%d%s, %d threads, %.1f MiB", plan.n, h, w,
              plan.in_turn ? ", records in turn" : "", opt.threads,
              ceil((double)nn_memory(plan.nn).peak / 104857.6) / 10);
}

/* --- reading -----------------------------------------------------------------------------------*/

static void check_segment(const struct tns_meta *header)
{
    char steps[CONTRACT_MAX], why[512];
    int known = contract_steps(header, steps);
    if (known < 0)
        tool_die("stdin: history too long");
    if (opt.force)
        return;
    if (!model.steps)
        tool_die("%s: does not say how its data was prepared; -F lets that pass", opt.model);
    if (!known)
        tool_die("stdin: no history, so nobody can tell how it was prepared; -F lets that pass");
    if (contract_differs(model.steps, steps, why, sizeof why))
        tool_die("stdin: prepared differently from what the model learned from: %s; -F lets that "
                 "pass",
                 why);
}

/* What is true of a whole case is said once of it; of so many, and no more. */
static bool first_time(struct names *said, const char *text)
{
    uint32_t known = said->count;
    if (names_find(said, text) != NAMES_NONE || names_memory(said) > SAID / 2)
        return false;
    tool_add_name(said, text);
    if (names_memory(said) > SAID / 2)
        tool_warn("... and so on; this is not said again after %u times", known + 1);
    return true;
}

static const char *key_or(const struct tns_record *rec, const char *key)
{
    const char *v = tns_get(&rec->meta, key);
    return v ? v : "?";
}

/* Was the model trained on this patient, maybe under another name? Who was found out by one scan is
 * known by all that come after it. */
static void check_trained(struct tns_record *rec)
{
    const char *patient = tool_need_key(rec, "patient"), *prints = tool_fingerprint(rec);
    struct meeting m;
    bool met = ledger_meets(&trained, patient, prints, &m);
    bool renamed = met && strcmp(m.patient, patient);
    tool_set(rec, "trained", met ? "yes" : "no");
    tns_unset(&rec->meta, "trained_as");
    if (met && ledger_tie(&trained, patient, prints, m.patient))
        tool_die("out of memory");
    if (!renamed)
        return;
    tool_set(rec, "trained_as", "%s", m.patient);
    static struct names said;
    char words[400];
    if (first_time(&said, patient)) {
        ledger_words(patient, "the stream", &m, "the model's training", words, sizeof words);
        tool_warn("%s", words);
    }
}

/* A brain ends before the slice does; a head with its skull, in the noise around it, does not. */
static void check_brain(struct tns_record *rec)
{
    static struct names said;
    const struct tensor *t = tns_tensor(rec, "image");
    double box[4], crop[6];
    if (!tns_get_numbers(&rec->meta, "brain", 4, box))
        return;
    if (!tns_get_numbers(&rec->meta, "crop", 6, crop))
        crop[4] = t->dim[1], crop[5] = t->dim[2];
    if (box[2] >= FILLS * crop[4] && box[3] >= FILLS * crop[5] &&
        first_time(&said, key_or(rec, "case")))
        tool_warn_at(rec,
                     "what is not zero fills the slice (%gx%g of %gx%g), as a head with its skull "
                     "does, or a background that is not zero",
                     box[2], box[3], crop[4], crop[5]);
}

/* How the record says that its image was prepared, whatever the history shows. */
static void check_keys(struct tns_record *rec)
{
    static struct names said;
    char why[256];
    struct contract_keys wanted, got;
    double spacing[3];
    contract_keys_of_steps(model.steps ? model.steps : "", &wanted);
    if (model.norm)
        snprintf(wanted.norm, sizeof wanted.norm, "%s", model.norm);
    if (model.cropped)
        snprintf(wanted.cropped, sizeof wanted.cropped, "%s", model.cropped);
    contract_keys(&rec->meta, &got);
    if (!opt.force && contract_keys_differ(&wanted, &got, why, sizeof why))
        tool_die_at(rec,
                    "prepared differently from what the model learned from: %s; -F lets that pass",
                    why);
    if (model.spacing && tns_get_numbers(&rec->meta, "spacing", 3, spacing) &&
        !contract_spacing_near(&learned, spacing) && first_time(&said, key_or(rec, "case")))
        tool_warn_at(rec, "spacing %.60s is not what the model learned from (%.120s)",
                     tns_get(&rec->meta, "spacing"), model.spacing);
}

static void check_record(struct tns_record *rec, int order[NN_MAX_CIN])
{
    char why[512];
    const struct tensor *t = tool_need(rec, "image", DT_COUNT, 3);
    const char *scheme = tns_get(&rec->meta, "scheme");
    int n = contract_order(model.modalities, tool_need_key(rec, "modalities"), order, NN_MAX_CIN,
                           why, sizeof why);
    if (n < 0)
        tool_die_at(rec, "%s", why);
    if (n != about.inputs || t->dim[0] != (uint32_t)n)
        tool_die_at(rec, "image: wrong number of channels (wanted %d, got %u)", about.inputs,
                    t->dim[0]);
    if (t->dim[1] > NN_MAX_SIDE || t->dim[2] > NN_MAX_SIDE)
        tool_die_at(rec, "image: too large (wanted at most %d, got %u by %u)", NN_MAX_SIDE,
                    t->dim[1], t->dim[2]);
    if (tns_tensor(rec, "label") && (!scheme || strcmp(scheme, model.scheme))) {
        if (!opt.force)
            tool_die_at(rec,
                        "another label scheme than the model's (wanted %.60s, got %.60s: recode); "
                        "-F drops the label",
                        model.scheme, scheme ? scheme : "none");
        tns_remove(rec, "label"); /* a record has one scheme, and pred will have the model's */
    }
    check_keys(rec);
    check_brain(rec);
    check_trained(rec);
}

/* The front goes over to a record of the ring, whose memory stays its own. */
static void hand_over(struct tns_record *to, struct tns_record *from)
{
    struct tns_meta text = to->meta;
    tns_clear(to);
    to->meta = from->meta;
    from->meta = text;
    to->ntensors = from->ntensors;
    to->from = from->from;
    memcpy(to->tensor, from->tensor, (size_t)from->ntensors * sizeof *to->tensor);
}

static void *reading(void *unused)
{
    struct tns_record rec = {0};
    struct batch *b = NULL; /* being filled */
    int order[NN_MAX_CIN], segment = 0;
    bool more;
    (void)unused;
    do {
        more = tool_front(&rec);
        bool begins = tool_segment() > segment, mark = more && tns_is_mark(&rec);
        int h = 0, w = 0;
        if (begins) {
            segment = tool_segment();
            check_segment(tool_header());
        }
        if (more && !mark) {
            check_record(&rec, order);
            const struct tensor *image = tns_tensor(&rec, "image");
            h = nn_padded((int)image->dim[1], about.multiple[1]);
            w = nn_padded((int)image->dim[2], about.multiple[2]);
        }
        bool fits = !more || mark || planned_for(&rec, h, w);
        if (b && (begins || !more || mark || !fits || h != b->h || w != b->w || b->n == plan.n)) {
            pass(b);
            b = NULL;
        }
        if (!fits) {
            ring_drain(&ring);
            make_plan(&rec, h, w);
        }
        if (begins) {
            struct batch *s = await(READ);
            s->kind = SEGMENT;
            if (tns_copy(&s->header, tool_header()))
                tool_die("out of memory");
            pass(s);
        }
        if (!b && more) {
            b = await(READ);
            b->kind = mark ? PASSES : SLICES;
            b->n = 0;
            b->h = h;
            b->w = w;
        }
        if (more) {
            struct tns_record *to = &b->rec[b->n++];
            hand_over(to, &rec);
            tool_take(to, plan.in_turn ? "image" : NULL);
            if (!mark)
                tool_need_image(to, DT_COUNT);
        }
        if (mark || (more && plan.in_turn)) {
            pass(b);
            b = NULL;
        }
        if (more && plan.in_turn)
            ring_drain(&ring);
    } while (more);
    struct batch *end = await(READ);
    end->kind = END;
    pass(end);
    tns_release(&rec);
    return NULL;
}

/* --- computing ---------------------------------------------------------------------------------*/

static void load_slice(struct tns_record *rec, float *to, int h, int w)
{
    int order[NN_MAX_CIN];
    char why[64];
    contract_order(model.modalities, tns_get(&rec->meta, "modalities"), order, NN_MAX_CIN, why,
                   sizeof why);
    img_batch_image(tns_tensor(rec, "image"), order, h, w, to);
}

static void keep_result(struct tns_record *rec, const uint8_t *from, const float *p, int h, int w)
{
    const struct tensor *t = tns_tensor(rec, "image");
    uint32_t dim[3] = {(uint32_t)about.outputs, t->dim[1], t->dim[2]};
    size_t rows = dim[1], columns = dim[2];
    uint8_t *to = tool_add(rec, "pred", DT_U8, 2, dim + 1)->data;
    for (size_t y = 0; y < rows; y++)
        memcpy(to + y * columns, from + y * (size_t)w, columns);
    if (opt.prob) {
        float *q = tool_add(rec, "prob", DT_F32, 3, dim)->data;
        for (size_t k = 0; k < dim[0]; k++)
            for (size_t y = 0; y < rows; y++)
                memcpy(q + (k * rows + y) * columns, p + (k * (size_t)h + y) * (size_t)w,
                       columns * sizeof *q);
        if (model.regions)
            tool_set(rec, "regions", "%s", model.regions);
        else
            tns_unset(&rec->meta, "regions");
    }
    tool_set(rec, "scheme", "%s", model.scheme);
}

static void compute(struct batch *b)
{
    size_t plane = (size_t)b->h * (size_t)b->w, n = (size_t)b->n;
    size_t c = (size_t)about.inputs, k = (size_t)about.outputs;
    for (size_t i = 0; i < n; i++)
        load_slice(&b->rec[i], plan.image + i * c * plane, b->h, b->w);
    struct nn_batch batch = {.n = b->n, .h = b->h, .w = b->w, .image = plan.image};
    struct nn_output out = {.pred = plan.pred, .prob = plan.prob};
    int e = nn_infer(plan.nn, &batch, &out);
    for (size_t i = 0; e == NN_ENAN && i < n; i++)
        if (memchr(plan.pred + i * plane, NN_IGNORE, plane))
            tool_die("stdin: case %s slice %s: %s", key_or(&b->rec[i], "case"),
                     key_or(&b->rec[i], "slice"), nn_why(plan.nn));
    if (e)
        tool_die("%s", nn_why(plan.nn));
    for (size_t i = 0; i < n; i++)
        keep_result(&b->rec[i], plan.pred + i * plane, plan.prob ? plan.prob + i * k * plane : NULL,
                    b->h, b->w);
}

/* --- writing -----------------------------------------------------------------------------------*/

static void *writing(void *unused)
{
    (void)unused;
    for (;;) {
        struct batch *b = await(WRITE);
        if (b->kind == END)
            return NULL;
        if (b->kind == SEGMENT)
            tool_write_segment(&b->header);
        else
            for (int i = 0; i < b->n; i++)
                tool_write(&b->rec[i]);
        pass(b);
    }
}

static void flow(void)
{
    pthread_t reader = tool_thread(reading), writer = tool_thread(writing);
    for (;;) {
        struct batch *b = await(COMPUTE);
        bool end = b->kind == END;
        if (b->kind == SLICES)
            compute(b);
        pass(b);
        if (end)
            break;
    }
    pthread_join(reader, NULL);
    pthread_join(writer, NULL);
}

static void release(void)
{
    empty_ring();
    ledger_free(&trained);
    model_close(&model);
}

/* What -n says: what a stream for this model has to be. A model is somebody's file, so its texts
 * are kept on their line. */
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

/* A step that the records told of, and no history. */
static void print_hidden(const char *tool, const char *options, const char *key)
{
    char text[128];
    if (!model.steps || !key || !strcmp(key, "none") || contract_has(model.steps, tool))
        return;
    snprintf(text, sizeof text, "%s %s%.60s", tool, options, key);
    print_text("step", text, strlen(text));
}

/* The description, line by line, and what was set of its parameters. */
static void print_network(void)
{
    char text[MODEL_MAX_PARAMETERS * 64];
    size_t len = 0;
    *text = 0;
    for (int i = 0; i < spec.settings; i++)
        len = model_put_parameter(text, sizeof text, len, spec.set[i].name, spec.set[i].value);
    print_text("parameters", text, len);
    print_lines("network", spec.text);
}

static void print_model(void)
{
    const char *line[][2] = {{"arch", model.arch},
                             {"modalities", model.modalities},
                             {"scheme", model.scheme},
                             {"generator", model.generator},
                             {"leaky", model.leaky ? "yes" : "no"},
                             {"prepared", model.steps ? "known" : "unknown"}};
    for (size_t i = 0; i < sizeof line / sizeof *line; i++)
        print_text(line[i][0], line[i][1], strlen(line[i][1]));
    if (model.regions)
        print_text("regions", model.regions, strlen(model.regions));
    print_lines("step", model.steps ? model.steps : "");
    print_hidden("znorm", "-p ", model.norm);
    print_hidden("crop", "", model.cropped);
    print_network();
}

/* The description that the model holds, or, of an old one, that of the network it names. */
static void read_network(void)
{
    char why[512];
    spec = (struct nn_spec){.name = opt.model, .text = model.network};
    if (spec.text)
        spec.length = strlen(spec.text);
    else if (!(spec.text = nn_known(model.arch, &spec.length)))
        tool_die("%s: unknown architecture '%.40s'", opt.model, model.arch);
    for (int i = 0; i < model.parameters; i++)
        nn_set(&spec, model.parameter[i].name, model.parameter[i].value);
    if (nn_about(&spec, &about, why, sizeof why))
        tool_die("%s", why);
    if (about.outputs != model.targets.outputs)
        tool_die("%s: a network of other outputs than the model's targets (wanted %d, got %d)",
                 opt.model, model.targets.outputs, about.outputs);
}

/* A ceiling that does not even hold the model's texts is refused before they are taken, where they
 * are large; else the plan knows better what would do. */
static void read_ledger(void)
{
    struct ledger_size size = ledger_size_of(model.patients, model.scans);
    if (ledger_reserve(&trained, &size))
        tool_die("out of memory");
    size_t least = NN_FIXED_BYTES + model_memory();
    if (opt.memory && least > opt.memory && model_memory() > 1 << 20)
        tool_die("%s: with %u scans it takes at least %zu MiB (wanted within -M)", opt.model,
                 size.scans, (least >> 20) + 1);
    if (ledger_add_lines(&trained, model.patients, model.scans))
        tool_die("out of memory");
}

/* The width, which belongs to a network's name as people say it: unet64. */
static const char *base_text(void)
{
    static char text[32];
    for (int i = 0; i < spec.settings; i++)
        if (!strcmp(spec.set[i].name, "base"))
            snprintf(text, sizeof text, "%g", spec.set[i].value);
    return text;
}

int main(int argc, char **argv)
{
    char why[512];
    int c;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    opt.threads = cores < 1 ? 1 : cores > NN_MAX_THREADS ? NN_MAX_THREADS : (int)cores;
    tool_start(argc, argv, usage);
    tool_share_cores();
    while ((c = tool_getopt("Fj:m:M:nP")) != -1)
        switch (c) {
        case 'F':
            opt.force = true;
            break;
        case 'j':
            opt.threads = (int)tool_int('j', optarg, 1, NN_MAX_THREADS);
            break;
        case 'm':
            opt.model = optarg;
            break;
        case 'M':
            opt.memory = tool_size('M', optarg);
            break;
        case 'n':
            opt.print = true;
            break;
        case 'P':
            opt.prob = true;
            break;
        }
    tool_no_operands();
    if (!opt.model)
        tool_usage();

    if (!opt.print)
        tool_promise();
    const char *bad = kr_init(), *sum;
    if (bad)
        tool_die("%s", bad);
    tool_may_read(opt.model);
    tool_confine();
    tool_maps(opt.model);
    if (model_open(&model, opt.model, why, sizeof why))
        tool_die("%s", why);
    read_network();
    if (opt.print) {
        print_model();
        model_close(&model);
        return tool_finish();
    }
    read_ledger();
    if (ledger_blind(&trained))
        tool_warn(
            "%s: holds no fingerprints of some it was trained on: they are known by name alone",
            opt.model);
    if (model.spacing && contract_spacing_read(&learned, model.spacing))
        tool_die("%s: the model's metadata has no sound 'spacing'", opt.model);
    sum = st_meta(&model.file, "xxh3");
    tool_open("-m %.20s%s:%.16s%s%s", model.arch, base_text(), sum ? sum : "unknown",
              opt.prob ? " -P" : "", opt.force ? " -F" : "");
    tool_read_ahead();
    tool_header();
    flow();
    if (st_changed(&model.file))
        tool_die("%s: has changed while it was in use", opt.model);
    release();
    return tool_finish();
}
