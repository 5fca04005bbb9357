/* The data loader of train: records become batches, one ahead of the one in use. */
#include "tools/train.h"

#include "lib/base/ring.h"
#include "lib/image/batch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 2 };

static struct {
    struct feed o;
    struct tns_record rec;
    bool first; /* rec holds a record already */
    struct batch slot[SLOTS];
    /* the batch that is being gathered: slices as they came */
    struct batch *b;
    struct tensor *image, *label; /* floats, bytes */
    int n;
    uint64_t next; /* position wanted */
    long marks;    /* passes over */
} feed;

enum { GATHER, LEARN, STAGES };
static struct ring ring = RING(SLOTS, STAGES);

static size_t batch_pixels(const struct settings *set, const struct source *s)
{
    return (size_t)set->batch * (size_t)s->h * (size_t)s->w;
}

size_t record_memory(const struct settings *set, int h, int w)
{
    return (size_t)h * (size_t)w * ((size_t)set->channels * sizeof(double) + 1) + 16384;
}

size_t feed_memory(const struct settings *set, const struct source *s)
{
    size_t pixel = (size_t)set->channels * sizeof(float) + 1;
    size_t small = (size_t)1 << 20; /* names, the thread's stack, the buffers of files */
    return small + (SLOTS + 1) * batch_pixels(set, s) * pixel + record_memory(set, s->h, s->w);
}

static struct batch *await(unsigned stage)
{
    return &feed.slot[ring_take(&ring, stage, stage).slot];
}

static void pass(const struct batch *b)
{
    ring_pass(&ring, (unsigned)(b - feed.slot));
}

struct batch *feed_next(void)
{
    static struct batch *before;
    if (before)
        pass(before);
    return before = await(LEARN);
}

/* --- batches -----------------------------------------------------------------------------------*/

/* Outside of a slice nothing counts in the loss. */
static void assemble(struct batch *b)
{
    const int *multiple = feed.o.set->multiple;
    size_t channels = (size_t)feed.o.set->channels;
    b->n = feed.n;
    b->h = b->w = 0;
    for (int i = 0; i < feed.n; i++) {
        int h = nn_padded((int)feed.image[i].dim[1], multiple[0]);
        int w = nn_padded((int)feed.image[i].dim[2], multiple[1]);
        b->h = h > b->h ? h : b->h;
        b->w = w > b->w ? w : b->w;
    }
    size_t plane = (size_t)b->h * (size_t)b->w;
    for (size_t i = 0; i < (size_t)feed.n; i++) {
        img_batch_image(&feed.image[i], NULL, b->h, b->w, b->image + i * channels * plane);
        img_batch_label(&feed.label[i], NN_IGNORE, b->h, b->w, b->label + i * plane);
    }
}

static void finish_batch(long epoch)
{
    if (!feed.n)
        return;
    struct batch *b = feed.b;
    assemble(b);
    b->kind = BATCH_TRAIN;
    b->epoch = epoch;
    b->position = feed.next;
    feed.n = 0;
    pass(b);
}

static void push_sign(int kind, long epoch)
{
    struct batch *b = await(GATHER);
    b->kind = kind;
    b->n = 0;
    b->epoch = epoch;
    b->position = feed.next;
    pass(b);
}

static void replace(char **to, const char *text)
{
    free(*to);
    *to = text ? tool_copy(text) : NULL;
}

static void check_labels(struct tns_record *rec, const struct tensor *label)
{
    const uint8_t *v = label->data;
    for (size_t i = 0, n = tensor_count(label); i < n; i++)
        if (v[i] >= feed.o.set->classes)
            tool_die_at(rec, "label: outside the classes (wanted 0 to %d, got %u)",
                        feed.o.set->classes - 1, v[i]);
}

static void gather(struct tns_record *rec)
{
    const struct source *s = feed.o.source;
    int c = feed.o.set->channels;
    struct tensor *image = tool_need(rec, "image", DT_COUNT, 3);
    struct tensor *label = tool_need(rec, "label", DT_U8, 2);
    const char *patient = tool_need_key(rec, "patient"), *name = tns_get(&rec->meta, "case");
    const char *slice = tns_get(&rec->meta, "slice"), *prints = tool_fingerprint(rec);
    uint32_t h = image->dim[1], w = image->dim[2];
    if (image->dim[0] != (uint32_t)c)
        tool_die_at(rec, "image: wrong number of channels (wanted %d, as configured, got %u)", c,
                    image->dim[0]);
    if (strcmp(tool_need_key(rec, "modalities"), s->modalities))
        tool_die_at(rec, "other modalities than the first record's (wanted %.100s, got %.100s)",
                    s->modalities, tns_get(&rec->meta, "modalities"));
    if (strcmp(tool_need_key(rec, "scheme"), s->scheme))
        tool_die_at(rec, "another label scheme than the first record's (wanted %.60s, got %.60s)",
                    s->scheme, tns_get(&rec->meta, "scheme"));
    if (label->dim[0] != h || label->dim[1] != w)
        tool_die_at(rec, "label: wrong shape (wanted %u by %u, got %u by %u)", h, w, label->dim[0],
                    label->dim[1]);
    if (h > (uint32_t)s->h || w > (uint32_t)s->w)
        tool_die_at(rec,
                    "image: larger than planned (wanted at most %d by %d, got %u by %u); set size, "
                    "or crop with -s %dx%d",
                    s->h, s->w, h, w, s->h, s->w);
    struct contract_keys keys;
    char why[256];
    contract_keys(&rec->meta, &keys);
    if (!feed.o.force && contract_keys_differ(&s->keys, &keys, why, sizeof why))
        tool_die_at(rec, "prepared differently from the first record: %s; -F mixes them", why);
    struct meeting m;
    if (!feed.o.leaky && ledger_meets(feed.o.validated, patient, prints, &m)) {
        char words[400];
        ledger_words(patient, TRAINED, &m, VALIDATED, words, sizeof words);
        tool_die_at(rec, "%s; -L lets that pass, and the model says so", words);
    }
    tool_take(rec, TRAIN_USES);
    image = tool_need_image(rec, DT_COUNT);
    label = tns_tensor(rec, "label");
    check_labels(rec, label);
    if (!feed.n)
        feed.b = await(GATHER);
    int i = feed.n;
    memcpy(feed.image[i].dim, image->dim, sizeof image->dim);
    memcpy(feed.label[i].dim, label->dim, sizeof label->dim);
    tensor_to_f32(image, 0, tensor_count(image), feed.image[i].data);
    memcpy(feed.label[i].data, label->data, tensor_count(label));
    char text[128];
    snprintf(text, sizeof text, "%.80s%s%.20s", name ? name : patient, slice ? " slice " : "",
             slice ? slice : "");
    if (!tns_get_numbers(&rec->meta, "spacing", 3, feed.b->spacing[i]))
        memset(feed.b->spacing[i], 0, sizeof feed.b->spacing[i]);
    replace(&feed.b->patient[i], patient);
    replace(&feed.b->prints[i], prints);
    replace(&feed.b->name[i], text);
    feed.n++;
}

static void check_pass(struct tns_record *rec)
{
    const struct source *s = feed.o.source;
    if (tool_need_int(rec, "epochs", 1, 1000000) != s->epochs)
        tool_die_at(rec, "another run's record (wanted epochs=%ld, got %s)", s->epochs,
                    tns_get(&rec->meta, "epochs"));
}

/* Whether a batch ends before record `at` > 0 of an epoch: a last one of a few slices would be a
 * wild step, and spoil the running statistics with which the epoch ends. */
static bool batch_ends(uint64_t at)
{
    uint64_t length = feed.o.source->length, most = (uint64_t)feed.o.set->batch;
    return img_batch_of(at, length, most) > img_batch_of(at - 1, length, most);
}

static void take(struct tns_record *rec)
{
    uint64_t length = feed.o.source->length;
    bool mark = tns_is_mark(rec);
    check_pass(rec);
    long epoch = tool_need_int(rec, "epoch", 0, feed.o.source->epochs - 1);
    long index = tool_need_int(rec, "index", 0, (long)length - !mark);
    uint64_t position = (uint64_t)epoch * length + (uint64_t)index;
    if (mark ? epoch < feed.marks : position < feed.o.start)
        return; /* a resumed run has had it */
    if (position != feed.next || epoch != feed.marks)
        tool_die_at(
            rec,
            "records are missing (wanted record %llu of epoch %ld, got %ld of %ld); a run is "
            "continued from its beginning or from epochs -k %llu",
            (unsigned long long)(feed.next % length), feed.marks, index, epoch,
            (unsigned long long)feed.next);
    if (mark) {
        finish_batch(epoch);
        push_sign(BATCH_MARK, epoch);
        feed.marks++;
        return;
    }
    gather(rec);
    feed.next++;
    if (batch_ends((uint64_t)index + 1))
        finish_batch(epoch);
}

static void *reading(void *unused)
{
    (void)unused;
    while (feed.first || tool_front(&feed.rec)) {
        feed.first = false;
        take(&feed.rec);
    }
    push_sign(BATCH_END, feed.marks);
    return NULL;
}

void feed_start(const struct feed *o, struct tns_record *first)
{
    size_t pixels = batch_pixels(o->set, o->source), n = (size_t)o->set->batch;
    feed.o = *o;
    feed.next = o->start;
    feed.marks = (long)(o->start / o->source->length);
    if (first) {
        feed.rec = *first;
        *first = (struct tns_record){0};
        feed.first = true;
    }
    float *images = tool_alloc(pixels * (size_t)o->set->channels * sizeof *images);
    uint8_t *labels = tool_alloc(pixels);
    feed.image = tool_alloc(n * sizeof *feed.image);
    feed.label = tool_alloc(n * sizeof *feed.label);
    for (size_t i = 0, most = pixels / n; i < n; i++) {
        feed.image[i] = (struct tensor){
            .dtype = DT_F32, .rank = 3, .data = images + i * most * (size_t)o->set->channels};
        feed.label[i] = (struct tensor){.dtype = DT_U8, .rank = 2, .data = labels + i * most};
    }
    for (int i = 0; i < SLOTS; i++) {
        struct batch *b = &feed.slot[i];
        b->image = tool_alloc(pixels * (size_t)o->set->channels * sizeof *b->image);
        b->label = tool_alloc(pixels);
        b->spacing = tool_alloc(n * sizeof *b->spacing);
        b->patient = calloc(n, sizeof *b->patient);
        b->prints = calloc(n, sizeof *b->prints);
        b->name = calloc(n, sizeof *b->name);
        if (!b->patient || !b->prints || !b->name)
            tool_die("out of memory");
    }
    pthread_detach(tool_thread(reading));
}
