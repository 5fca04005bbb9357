/* The data loader of train: records become items, slices or rows of them, and these become batches,
 * one ahead of the one in use. */
#include "tools/train.h"

#include "lib/base/ring.h"
#include "lib/image/batch.h"

#include <limits.h>
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
    /* the batch that is being gathered: slices as they came, item by item */
    struct batch *b;
    struct tensor *image, *label; /* floats, bytes */
    struct item {
        int group;         /* of this process' */
        int depth, centre; /* its slices, the one that it stands for with those beside it */
        long slab;
        char *scan;
    } *item;
    int n, taken;  /* items, slices of the one behind them */
    uint64_t next; /* position wanted */
    long marks;    /* passes over */
    /* positions: where the batch that comes ends, and what is this process' of it */
    struct {
        uint64_t end, from, to;
    } now;
} feed;

enum { GATHER, LEARN, STAGES };
static struct ring ring = RING(SLOTS, STAGES);

/* Items of this process in a batch, at most. */
static size_t batch_items(const struct settings *set)
{
    const size_t all = (size_t)(source_items(set) * source_groups(set).own);
    return all < (size_t)set->batch ? all : (size_t)set->batch;
}

static size_t batch_pixels(const struct settings *set, const struct source *s)
{
    return batch_items(set) * (size_t)s->d * (size_t)s->h * (size_t)s->w;
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

static size_t plane(const struct nn_batch *b)
{
    return (size_t)b->h * (size_t)b->w;
}

/* A slice as the `at`-th of so many of a sample. */
static void put_image(const struct tensor *image, const struct nn_batch *b, int planes, int at,
                      float *sample)
{
    img_batch_slice(image, NULL, b->h, b->w, (size_t)planes * plane(b),
                    sample + (size_t)at * plane(b));
}

/* Outside of a slice nothing counts in the loss, and where there is none. */
static void put_volume(const struct tensor *image, const struct tensor *label, int depth,
                       const struct nn_batch *b, float *sample, uint8_t *target)
{
    const size_t channels = (size_t)feed.o.set->channels, missing = (size_t)(b->d - depth);
    for (int z = 0; z < depth; z++) {
        put_image(&image[z], b, b->d, z, sample);
        img_batch_label(&label[z], NN_IGNORE, b->h, b->w, target + (size_t)z * plane(b));
    }
    for (size_t c = 0; c < channels; c++)
        memset(sample + (c * (size_t)b->d + (size_t)depth) * plane(b), 0,
               missing * plane(b) * sizeof *sample);
    memset(target + (size_t)depth * plane(b), NN_IGNORE, missing * plane(b));
}

/* One slice with those beside it, as beside.h has it. */
static void put_beside(const struct tensor *image, const struct item *item,
                       const struct nn_batch *b, float *sample)
{
    const int k = feed.o.set->neighbours;
    for (int j = -k; j <= k; j++) {
        const int z = item->centre + j, last = item->depth - 1;
        put_image(&image[z < 0 ? 0 : z > last ? last : z], b, 2 * k + 1, j + k, sample);
    }
}

/* The sizes of a group, of the items from one to another; one without any is as small as may be. */
static void measure(struct nn_batch *b, int from, int to)
{
    const struct settings *set = feed.o.set;
    int slices = 0;
    *b = (struct nn_batch){.d = 1};
    if (from == to)
        *b = (struct nn_batch){.d = set->multiple[0], .h = set->multiple[1], .w = set->multiple[2]};
    for (int i = from; i < to; i++) {
        const int depth = nn_padded(feed.item[i].depth, set->multiple[0]);
        const struct tensor *image = &feed.image[i * feed.o.source->d];
        for (int z = 0; z < feed.item[i].depth; z++) {
            const int h = nn_padded((int)image[z].dim[1], set->multiple[1]);
            const int w = nn_padded((int)image[z].dim[2], set->multiple[2]);
            b->h = h > b->h ? h : b->h;
            b->w = w > b->w ? w : b->w;
        }
        b->d = set->volume && depth > b->d ? depth : b->d;
        slices += feed.item[i].depth;
    }
    b->n = feed.o.source->rows == SLABS && !set->volume ? slices : to - from;
}

static void assemble(struct nn_batch *b, float *to, uint8_t *labels, int from, int end)
{
    const struct settings *set = feed.o.set;
    measure(b, from, end);
    b->image = to;
    b->label = labels;
    const size_t planes = (size_t)(set->volume ? b->d : 2 * set->neighbours + 1);
    const size_t sample = (size_t)set->channels * planes * plane(b),
                 target = (size_t)b->d * plane(b);
    for (int i = from; i < end; i++) {
        const struct item *item = &feed.item[i];
        const struct tensor *image = &feed.image[i * feed.o.source->d];
        const struct tensor *label = &feed.label[i * feed.o.source->d];
        const int samples = set->volume || set->neighbours ? 1 : item->depth;
        for (int k = 0; k < samples; k++, to += sample, labels += target) {
            if (set->volume) {
                put_volume(image, label, item->depth, b, to, labels);
                continue;
            }
            const int at = set->neighbours ? item->centre : k;
            if (set->neighbours)
                put_beside(image, item, b, to);
            else
                put_image(&image[at], b, 1, 0, to);
            img_batch_label(&label[at], NN_IGNORE, b->h, b->w, labels);
        }
    }
}

static void finish_batch(long epoch)
{
    const struct settings *set = feed.o.set;
    const size_t pixel = (size_t)set->channels * (size_t)(2 * set->neighbours + 1);
    struct batch *b = feed.b;
    size_t at = 0;
    for (int i = 0, from = 0, to = 0; i < source_groups(set).own; i++, from = to) {
        struct nn_batch *part = &b->part[i];
        while (to < feed.n && feed.item[to].group == i)
            to++;
        assemble(part, b->image + at * pixel, b->label + at, from, to);
        at += (size_t)part->n * (size_t)part->d * plane(part);
    }
    b->kind = BATCH_TRAIN;
    b->items = feed.n;
    b->epoch = epoch;
    b->position = feed.now.end;
    feed.n = 0;
    pass(b);
}

/* What comes next of this process begins at that position, with which a batch begins or an epoch
 * ends. Where it has nothing of a batch it takes part all the same. */
static void aim(uint64_t at)
{
    const uint64_t length = feed.o.source->length, most = (uint64_t)feed.o.set->batch;
    const uint64_t begin = (uint64_t)feed.marks * length, end = begin + length;
    feed.next = at;
    while (at < end && feed.marks < feed.o.source->epochs) {
        const uint64_t k = img_batch_of(at - begin, length, most);
        const uint64_t first = begin + img_batch_begin(k, length, most);
        feed.now.end = begin + img_batch_begin(k + 1, length, most);
        const uint64_t n = feed.now.end - first, ranks = (uint64_t)share.ranks;
        feed.now.from = first + img_batch_part((uint64_t)share.rank, n, ranks);
        feed.now.to = first + img_batch_part((uint64_t)share.rank + 1, n, ranks);
        feed.next = at > feed.now.from ? at : feed.now.from;
        if (feed.now.from < feed.now.to)
            return;
        feed.b = await(GATHER);
        finish_batch(feed.marks);
        feed.next = at = feed.now.end;
    }
}

/* The part of its batch that an item is in, of so many. */
static int part_of(uint64_t position, int parts)
{
    const uint64_t length = feed.o.source->length, most = (uint64_t)feed.o.set->batch;
    return (int)img_batch_part_of(position % length, length, most, (uint64_t)parts);
}

static void push_sign(int kind, long epoch)
{
    struct batch *b = await(GATHER);
    b->kind = kind;
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

/* The model will name whom the first record of an item names. */
static void check_patient(struct tns_record *rec, const char *patient, const char *prints)
{
    const char *first = feed.b->patient[feed.n], *known = feed.b->prints[feed.n];
    if (strcmp(patient, first))
        tool_die_at(rec, "another patient than its slab's (wanted %.60s, got %.60s)", first,
                    patient);
    if (strcmp(prints ? prints : "none", known ? known : "none"))
        tool_die_at(rec, "another fingerprint than its slab's (wanted %.80s, got %.80s)",
                    known ? known : "none", prints ? prints : "none");
}

static void gather(struct tns_record *rec)
{
    const struct source *s = feed.o.source;
    int c = feed.o.set->channels;
    struct tensor *image = tool_need(rec, "image", DT_COUNT, 3);
    struct tensor *label = tool_need(rec, "label", DT_U8, 2);
    const char *patient = tool_need_key(rec, "patient"), *prints = tool_fingerprint(rec);
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
    const struct tensor *first = &feed.image[feed.n * s->d];
    if (feed.taken && (h != first->dim[1] || w != first->dim[2]))
        tool_die_at(rec, "image: another size than its slab's (wanted %u by %u, got %u by %u)",
                    first->dim[1], first->dim[2], h, w);
    if (feed.taken)
        check_patient(rec, patient, prints);
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
    const int at = feed.n * s->d + feed.taken;
    memcpy(feed.image[at].dim, image->dim, sizeof image->dim);
    memcpy(feed.label[at].dim, label->dim, sizeof label->dim);
    tensor_to_f32(image, 0, tensor_count(image), feed.image[at].data);
    memcpy(feed.label[at].data, label->data, tensor_count(label));
}

/* What is said of an item its first record says. */
static void describe(struct tns_record *rec, int i)
{
    const char *patient = tns_get(&rec->meta, "patient"), *name = tns_get(&rec->meta, "case");
    const char *what = feed.o.source->rows == SLABS ? "slab" : "slice";
    const char *number = tns_get(&rec->meta, feed.o.source->rows == BESIDE ? "centre" : what);
    char text[128];
    snprintf(text, sizeof text, "%.80s%s%s%s%.20s", name ? name : patient, number ? " " : "",
             number ? what : "", number ? " " : "", number ? number : "");
    if (!tns_get_numbers(&rec->meta, "spacing", 3, feed.b->spacing[i]))
        memset(feed.b->spacing[i], 0, sizeof feed.b->spacing[i]);
    const char *missing = tns_get(&rec->meta, "missing");
    feed.b->missing[i] = 0;
    if (missing && contract_set(feed.o.source->modalities, missing, &feed.b->missing[i]))
        tool_die_at(rec, "key 'missing': (wanted some of %s, got '%.60s')",
                    feed.o.source->modalities, missing);
    replace(&feed.b->patient[i], patient);
    replace(&feed.b->prints[i], tool_fingerprint(rec));
    replace(&feed.b->name[i], text);
}

/* The item that the record is of, whose slices come one after the other. */
static struct item *check_row(struct tns_record *rec)
{
    const struct source *s = feed.o.source;
    struct item *item = &feed.item[feed.n];
    if (s->rows == SLICES) {
        if (tns_get(&rec->meta, "slab"))
            tool_die_at(rec, "a slab, where slices came by themselves before");
        item->depth = 1;
        return item;
    }
    const char *name = tool_need_key(rec, "case");
    const long slab = tool_need_int(rec, "slab", 0, INT_MAX);
    const long slice = tool_need_int(rec, "slice", 0, INT_MAX);
    const int depth = (int)tool_need_int(rec, "depth", 1, s->d);
    const char *centre = tns_get(&rec->meta, "centre");
    if (!centre != (s->rows == SLABS))
        tool_die_at(rec, "slabs and slices with their neighbours in one stream");
    if (!feed.taken) {
        item->depth = depth;
        item->slab = slab;
        replace(&item->scan, name);
        if (centre)
            item->centre = (int)(tool_need_int(rec, "centre", slab, slab + depth - 1) - slab);
    }
    if (depth != item->depth || slab != item->slab || strcmp(name, item->scan))
        tool_die_at(rec,
                    "another slab, where the one before is not over (wanted slice %ld of "
                    "%.60s, %d of %d)",
                    item->slab + feed.taken, item->scan, feed.taken + 1, item->depth);
    if (slice != slab + feed.taken)
        tool_die_at(rec,
                    "out of order, or slices of its slab are missing (wanted slice %ld, got "
                    "%ld)",
                    slab + feed.taken, slice);
    return item;
}

static void check_pass(struct tns_record *rec)
{
    const struct source *s = feed.o.source;
    if (tool_need_int(rec, "epochs", 1, 1000000) != s->epochs)
        tool_die_at(rec, "another run's record (wanted epochs=%ld, got %s)", s->epochs,
                    tns_get(&rec->meta, "epochs"));
}

static void take(struct tns_record *rec)
{
    uint64_t length = feed.o.source->length;
    bool mark = tns_is_mark(rec);
    check_pass(rec);
    if (mark && feed.taken)
        tool_die_at(rec, "a slab has lost its last slices");
    long epoch = tool_need_int(rec, "epoch", 0, feed.o.source->epochs - 1);
    long index = tool_need_int(rec, "index", 0, (long)length - !mark);
    uint64_t position = (uint64_t)epoch * length + (uint64_t)index;
    if (mark ? epoch < feed.marks : position < feed.o.start)
        return; /* a resumed run has had it */
    if (!mark && part_of(position, share.ranks) != share.rank)
        return; /* another process has it */
    if (position != feed.next || epoch != feed.marks)
        tool_die_at(rec,
                    "%ss are missing (wanted %s %llu of epoch %ld, got %ld of %ld); a run is "
                    "continued from its beginning or from epochs -k %llu",
                    source_item(feed.o.source), source_item(feed.o.source),
                    (unsigned long long)(feed.next % length), feed.marks, index, epoch,
                    (unsigned long long)feed.next);
    if (mark) {
        push_sign(BATCH_MARK, epoch);
        feed.marks++;
        aim(feed.next);
        return;
    }
    struct item *item = check_row(rec);
    gather(rec);
    if (!feed.n && !feed.taken)
        feed.b = await(GATHER);
    if (!feed.taken)
        describe(rec, feed.n);
    if (++feed.taken < item->depth)
        return;
    feed.taken = 0;
    item->group = part_of(position, feed.o.set->groups) - source_groups(feed.o.set).first;
    feed.n++;
    feed.next++;
    if (feed.next < feed.now.to)
        return;
    finish_batch(epoch);
    aim(feed.now.end);
}

static void *reading(void *unused)
{
    (void)unused;
    aim(feed.next);
    while (feed.first || tool_front(&feed.rec)) {
        feed.first = false;
        share_tick();
        take(&feed.rec);
    }
    push_sign(BATCH_END, feed.marks);
    return NULL;
}

void feed_start(const struct feed *o, struct tns_record *first)
{
    size_t pixels = batch_pixels(o->set, o->source), n = batch_items(o->set);
    size_t slices = n * (size_t)o->source->d;
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
    feed.image = tool_alloc(slices * sizeof *feed.image);
    feed.label = tool_alloc(slices * sizeof *feed.label);
    if (!(feed.item = calloc(n + 1, sizeof *feed.item)))
        tool_die("out of memory");
    for (size_t i = 0, most = pixels / slices; i < slices; i++) {
        feed.image[i] = (struct tensor){
            .dtype = DT_F32, .rank = 3, .data = images + i * most * (size_t)o->set->channels};
        feed.label[i] = (struct tensor){.dtype = DT_U8, .rank = 2, .data = labels + i * most};
    }
    for (int i = 0; i < SLOTS; i++) {
        struct batch *b = &feed.slot[i];
        b->image = tool_alloc(pixels * (size_t)o->set->channels * sizeof *b->image);
        b->label = tool_alloc(pixels);
        b->spacing = tool_alloc(n * sizeof *b->spacing);
        b->missing = tool_alloc(n * sizeof *b->missing);
        b->patient = calloc(n, sizeof *b->patient);
        b->prints = calloc(n, sizeof *b->prints);
        b->name = calloc(n, sizeof *b->name);
        if (!b->patient || !b->prints || !b->name)
            tool_die("out of memory");
    }
    pthread_detach(tool_thread(reading));
}
