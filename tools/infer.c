/* infer - segment slices with trained networks
 *
 * reads   image, label's scheme, patient, fingerprint, modalities, norm, crop, cropped, spacing,
 *         missing
 * changes scheme, if there is no label
 * adds    pred (u8), trained, trained_as; prob (f32) and regions with -P; with -u entropy (f32)
 *         and, of several models, disagreement (f32)
 * drops   what of these an earlier one had added
 *
 * Where a network sees volumes, it reads case, slice and slices too, and a record goes out when
 * those behind it that its prediction needs have come.
 *
 * Three threads, so that pipes and arithmetic do not wait for each other: one reads records into
 * batches of equal size, one computes, one writes. Batches go round in the order of the stream.
 *
 * Memory is planned for a record's shapes before its payloads are taken, and again, once the ring
 * is empty, when a record comes that does not fit. Where the image is the smaller part of a record,
 * or the ceiling too low for whole ones, they go in turn: one at a time, as far as its image, the
 * rest straight from input to output. */
#include "lib/base/ring.h"
#include "tools/infer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "[-bFHPuv] [-j THREADS] [-M SIZE] [-t AXES] -m MODEL... < STREAM > STREAM\n"
    "       infer -n -m MODEL...";
static const char options[] =
    "-b --bf16 -F --force -j --threads= -m --model= -M --memory= -n --needs -P --probabilities "
    "-t --mirror= -u --uncertainty";

struct options opt = {.axes = MIRROR_X | MIRROR_Y};

enum { READ, COMPUTE, WRITE, STAGES }; /* of the ring: a thread each */

/* Records of one padded size, or what a stream still has of a case, or one that passes as it is, or
 * the header of a segment. */
struct batch {
    enum { SLICES, REST, PASSES, SEGMENT, END } kind;
    int n, h, w;
    struct tns_record rec[MOST];
    struct tns_meta header;
};

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

static void empty_ring(void)
{
    for (int s = 0; s < SLOTS; s++) {
        for (int i = 0; i < MOST; i++)
            tns_release(&slot[s].rec[i]);
        free(slot[s].header.text);
        slot[s].header = (struct tns_meta){0};
    }
}

/* --- reading ---------------------------------------------------------------------------------- */

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

/* A stream's case of so many slices is over: as many turns as it takes for those to come out that
 * have not. */
static void end_case(int slices, int h, int w)
{
    check_whole();
    for (int left = plan.spooled ? slices : plan.lag; left > 0; left -= plan.n) {
        struct batch *b = await(READ);
        b->kind = REST;
        b->n = 0;
        b->h = h;
        b->w = w;
        pass(b);
    }
}

static void *reading(void *unused)
{
    struct tns_record rec = {0};
    struct batch *b = NULL; /* being filled */
    int segment = 0, lag, slices = 0, before[2] = {0, 0};
    bool more, inside = false, streams = models_stream(&lag);
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
            check_record(&rec);
            models_pad(tns_tensor(&rec, "image"), &h, &w);
        }
        bool ends = inside && (begins || !more || mark || !check_goes_on(&rec));
        inside = inside && !ends;
        bool fits = !more || mark || inside || plan_holds(&rec, h, w);
        if (b && ends) {
            pass(b);
            b = NULL;
        }
        if (ends)
            end_case(slices, before[0], before[1]);
        if (b && (begins || !more || mark || !fits || h != b->h || w != b->w || b->n == plan.n)) {
            pass(b);
            b = NULL;
        }
        if (!fits) {
            ring_drain(&ring);
            empty_ring();
            plan_make(&rec, h, w);
        }
        if (begins) {
            struct batch *s = await(READ);
            s->kind = SEGMENT;
            if (tns_copy(&s->header, tool_header()))
                tool_die("out of memory");
            pass(s);
        }
        if (streams && more && !mark) {
            check_slice(&rec);
            plan_check(&rec);
            slices = inside ? slices + 1 : 1;
            inside = true;
            before[0] = h, before[1] = w;
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
        if ((b->kind == SLICES || b->kind == REST) && plan.streams)
            b->n = compute_stream(b->rec, b->n, b->h, b->w);
        else if (b->kind == SLICES)
            compute(b->rec, b->n, b->h, b->w);
        pass(b);
        if (end)
            break;
    }
    pthread_join(reader, NULL);
    pthread_join(writer, NULL);
}

/* --- options ---------------------------------------------------------------------------------- */

static const char axis_names[] = "xyz"; /* in the order of their bits */

static int axes(const char *text)
{
    int all = 0;
    if (!strcmp(text, "none"))
        return 0;
    for (const char *p = text; *p || !all; p++) {
        const char *axis = *p ? strchr(axis_names, *p) : NULL;
        const int bit = axis ? 1 << (axis - axis_names) : 0;
        if (!bit || all & bit)
            tool_misuse("-t: (wanted some of x, y and z, or none, got '%s')", text);
        all |= bit;
    }
    return all;
}

static void open_stream(void)
{
    char models[MODELS * 64], mirrors[] = " -t xyz";
    size_t n = opt.axes ? strcspn(mirrors, axis_names) : 0;
    for (int i = 0; axis_names[i]; i++)
        if (opt.axes >> i & 1)
            mirrors[n++] = axis_names[i];
    mirrors[n] = 0;
    models_history(models, sizeof models);
    tool_open("%s%s%s%s%s%s", models, mirrors, opt.bf16 ? " -b" : "", opt.prob ? " -P" : "",
              opt.uncertain ? " -u" : "", opt.force ? " -F" : "");
    tool_read_ahead();
    tool_header();
}

int main(int argc, char **argv)
{
    int c;
    bool print = false;

    opt.threads = tool_cores(NN_MAX_THREADS);
    tool_start(argc, argv, usage);
    tool_share_cores();
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'b':
            opt.bf16 = true;
            break;
        case 'F':
            opt.force = true;
            break;
        case 'j':
            opt.threads = (int)tool_int('j', optarg, 1, NN_MAX_THREADS);
            break;
        case 'm':
            if (members == MODELS)
                tool_misuse("-m: more than %d models", MODELS);
            member[members++].path = optarg;
            break;
        case 'M':
            opt.memory = tool_size('M', optarg);
            break;
        case 'n':
            print = true;
            break;
        case 'P':
            opt.prob = true;
            break;
        case 't':
            opt.axes = axes(optarg);
            break;
        case 'u':
            opt.uncertain = true;
            break;
        }
    tool_no_operands();
    if (!members)
        tool_usage();

    if (!print)
        tool_promise();
    const char *bad = kr_init();
    if (bad)
        tool_die("%s", bad);
    kr_products(); /* before tool_confine, as it may load a library */
    for (int i = 0; i < members; i++)
        tool_may_read(member[i].path);
    if (averages() && !print)
        compute_spool();
    tool_confine();
    models_open();
    int lag;
    if (opt.axes & MIRROR_Z && !models_stream(&lag))
        tool_die("-t: z is for networks that see beside a slice, and %s sees none", member->path);
    if (print) {
        models_print();
    } else {
        models_know();
        open_stream();
        flow();
        empty_ring();
        plan_free();
    }
    models_close();
    return tool_finish();
}
