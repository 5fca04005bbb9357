/* Validation in train: a stream from a file, pooled by case. A planar network sees batches of
 * slices of one size, one with neighbours each slice with those beside it, one of volumes each case
 * as a stream of slices. One thing: what is counted of a case, however it came. */
#include "tools/train.h"

#include "lib/image/batch.h"
#include "lib/image/beside.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pool { /* of a case */
    uint64_t table[MET_CLASSES][MET_CLASSES];
    struct met_soft soft;
};

/* Of a case, where processes may share the cases out: the sum of all is that in their order. */
struct entropy {
    double sum;
    uint64_t count;
};

enum { MOST = 16 }; /* slices at once */

struct at { /* of a slice: its sides, the number of its case */
    int h, w;
    uint32_t pool;
};

static struct tns_reader *reader(struct validation *v)
{
    struct tns_reader *in = tns_reader_files(v->files);
    if (!in)
        tool_die("out of memory");
    return in;
}

static const char *key(struct validation *v, struct tns_reader *in, struct tns_record *rec,
                       const char *name)
{
    const char *text = tns_get(&rec->meta, name);
    if (!text)
        tool_die("%s: record %llu: no key '%s'", v->path, (unsigned long long)tns_count(in) - 1,
                 name);
    return text;
}

static struct tensor *image_of(struct validation *v, struct tns_reader *in, struct tns_record *rec,
                               int channels)
{
    struct tensor *image = tns_tensor(rec, "image"), *label = tns_tensor(rec, "label");
    unsigned long long n = tns_count(in) - 1;
    if (!image || image->rank != 3 || !label || label->rank != 2 || label->dtype != DT_U8 ||
        label->dim[0] != image->dim[1] || label->dim[1] != image->dim[2])
        tool_die("%s: record %llu: wants an image and a label of its size", v->path, n);
    if (image->dim[0] != (uint32_t)channels)
        tool_die("%s: record %llu: wrong number of channels (wanted %d, as configured, got %u)",
                 v->path, n, channels, image->dim[0]);
    if (image->dim[1] > NN_MAX_SIDE || image->dim[2] > NN_MAX_SIDE)
        tool_die("%s: record %llu: image larger than %d", v->path, n, NN_MAX_SIDE);
    return image;
}

static void same(struct validation *v, struct tns_reader *in, struct tns_record *rec,
                 const char *name, char **known)
{
    const char *text = key(v, in, rec, name);
    if (!*known)
        *known = tool_copy(text);
    if (strcmp(*known, text))
        tool_die("%s: record %llu: %s differ within the stream (%.100s, %.100s)", v->path,
                 (unsigned long long)tns_count(in) - 1, name, *known, text);
}

static void same_keys(struct validation *v, struct tns_reader *in, struct tns_record *rec)
{
    struct contract_keys keys;
    char why[256];
    contract_keys(&rec->meta, &keys);
    if (tns_count(in) == 1)
        v->keys = keys;
    if (contract_keys_differ(&v->keys, &keys, why, sizeof why))
        tool_die("%s: record %llu: prepared differently from the first record: %s", v->path,
                 (unsigned long long)tns_count(in) - 1, why);
}

/* Of the case that comes now, where slices hang on those beside them. */
static struct {
    long next, slices;
    uint32_t side[2];
} volume;

/* Case i is over: nothing of it may be missing at its end. */
static void check_whole(const struct validation *v, uint32_t i)
{
    if (volume.next < volume.slices)
        tool_die("%s: case '%.60s' ends behind slice %ld of %ld: a volume without gaps is wanted, "
                 "all of its slices in rising order",
                 v->path, names_text(&v->cases, i), volume.next, volume.slices);
}

/* A case has all of its slices, in order and of one size. */
static void follow(struct validation *v, struct tns_reader *in, struct tns_record *rec,
                   const char *name, bool new)
{
    const struct tensor *image = tns_tensor(rec, "image");
    const unsigned long long at = tns_count(in) - 1;
    const uint32_t last = v->cases.count - 1;
    long slice, slices;
    if (!tns_get_int(&rec->meta, "slices", 1, INT_MAX, &slices) ||
        !tns_get_int(&rec->meta, "slice", 0, slices - 1, &slice))
        tool_die("%s: record %llu: no keys 'slice' and 'slices', or no numbers in them", v->path,
                 at);
    if (!new && strcmp(names_text(&v->cases, last), name))
        tool_die("%s: record %llu: case '%.60s' comes again, behind others", v->path, at, name);
    if (new && last)
        check_whole(v, last - 1);
    if (new) {
        volume.next = 0, volume.slices = slices;
        memcpy(volume.side, image->dim + 1, sizeof volume.side);
    }
    if (slice != volume.next || slices != volume.slices)
        tool_die("%s: record %llu (%.60s): a volume without gaps is wanted, all of its slices in "
                 "rising order (wanted slice %ld of %ld, got %ld of %ld)",
                 v->path, at, name, volume.next, volume.slices, slice, slices);
    if (image->dim[1] != volume.side[0] || image->dim[2] != volume.side[1])
        tool_die("%s: record %llu: another size than the slice before it (wanted %u by %u, got %u "
                 "by %u: crop -p case)",
                 v->path, at, volume.side[0], volume.side[1], image->dim[1], image->dim[2]);
    volume.next++;
    v->deep = slices > v->deep ? (int)slices : v->deep;
}

static void add_case(struct validation *v, struct tns_reader *in, struct tns_record *rec,
                     const struct settings *set)
{
    const char *name = tns_get(&rec->meta, "case");
    const uint32_t known = v->cases.count;
    name = name ? name : key(v, in, rec, "patient");
    const uint32_t i = tool_add_name(&v->cases, name);
    if (set->volume || set->neighbours)
        follow(v, in, rec, name, i == known);
}

void validation_open(struct validation *v, const char *path, const struct settings *set)
{
    struct tns_record rec = {0};
    char *const paths[] = {tool_copy(path)};
    uint64_t at;
    int e;
    *v = (struct validation){
        .path = path, .files = tool_files(paths, 1, ", and validation reads it after each epoch")};
    free(paths[0]);
    struct tns_reader *in = reader(v);
    while ((e = tns_hop(in, &rec, &at)) == 1) {
        if (tns_is_mark(&rec))
            tool_die("%s: came out of epochs (wanted the stream before it)", path);
        const char *prints = tns_get(&rec.meta, "fingerprint");
        if (prints && !tns_is_fingerprint(prints))
            tool_die("%s: record %llu: key 'fingerprint': (" TNS_FINGERPRINT ", got '%.80s')", path,
                     (unsigned long long)tns_count(in) - 1, prints);
        if (ledger_add(&v->ledger, key(v, in, &rec, "patient"), prints))
            tool_die("%s: out of memory (or more than %d scans)", path, LEDGER_MAX);
        same(v, in, &rec, "modalities", &v->modalities);
        same(v, in, &rec, "scheme", &v->scheme);
        same_keys(v, in, &rec);
        struct tensor *image = image_of(v, in, &rec, set->channels);
        add_case(v, in, &rec, set);
        int h = nn_padded((int)image->dim[1], set->multiple[1]);
        int w = nn_padded((int)image->dim[2], set->multiple[2]);
        v->h = h > v->h ? h : v->h;
        v->w = w > v->w ? w : v->w;
    }
    if (e < 0)
        tool_die("%s", tns_why(in));
    if (!v->modalities)
        tool_die("%s: holds no records", path);
    if (set->volume || set->neighbours)
        check_whole(v, v->cases.count - 1);
    if (ledger_blind(&v->ledger))
        tool_warn("%s: no fingerprint in some records: patients are compared by name alone", path);
    int known = contract_steps(tns_header(in), v->steps);
    if (known < 0)
        tool_die("%s: history too long", path);
    v->steps_known = known;
    v->digest = tns_digest(in);
    v->header = tns_header(in)->len;
    v->pools = names_memory(&v->cases) + v->cases.count * sizeof(struct pool);
    v->pools += set->groups > 1 ? v->cases.count * sizeof(struct entropy) : 0;
    tns_release(&rec);
    tns_reader_free(in);
}

void validation_size(struct validation *v, size_t pixels, const struct settings *set)
{
    const size_t n = pixels / ((size_t)v->h * (size_t)v->w);
    v->n = set->volume ? NN_GROUP + set->multiple[0] : n < 1 ? 1 : n > MOST ? MOST : (int)n;
}

static size_t most_pixels(const struct validation *v)
{
    return (size_t)v->n * (size_t)v->h * (size_t)v->w;
}

/* Slices of a case that wait for those behind them. */
static size_t waiting_most(const struct validation *v, const struct settings *set)
{
    const int lag = set->whole ? v->deep : set->lag;
    return set->volume       ? (size_t)(lag + VALIDATION_PIECE + 1)
           : set->neighbours ? (size_t)img_beside_planes(set->neighbours)
                             : 0;
}

size_t validation_memory(const struct validation *v, const struct settings *set)
{
    const size_t planes = (size_t)img_beside_planes(set->neighbours);
    const size_t channels = (size_t)set->channels, slice = (size_t)v->h * (size_t)v->w;
    size_t pixel = (channels * planes + (size_t)set->targets.outputs) * sizeof(float) + 2;
    size_t waiting = waiting_most(v, set) * (slice + sizeof(struct at));
    waiting += set->neighbours ? planes * channels * slice * sizeof(float) : 0;
    return most_pixels(v) * pixel + waiting + record_memory(set, v->h, v->w);
}

/* --- what the network sees at once -------------------------------------------------------------*/

struct part {
    int n, most, h, w; /* slices so far, and at most; sides, padded */
    struct at *at;     /* of each slice */
    float *image, *prob;
    uint8_t *label, *pred;
};

/* Slices of the case now that have come, whose labels wait until it is predicted. */
static struct {
    struct at *at;
    uint8_t *label;
    size_t most;
    long in, out;
} waiting;

static struct img_beside beside;
static struct pool *pools; /* by the number of their cases */
static double ce_sum;
static uint64_t ce_count;
static struct entropy *entropy;

/* Counts n slices that have been predicted. */
static void count(const struct part *p, int n, const struct nn_result *result,
                  const struct settings *set)
{
    const size_t plane = (size_t)p->h * (size_t)p->w, outputs = (size_t)set->targets.outputs;
    double *sum = entropy ? &entropy[p->at[0].pool].sum : &ce_sum;
    *sum += result->ce * (double)result->pixels;
    *(entropy ? &entropy[p->at[0].pool].count : &ce_count) += result->pixels;
    for (int i = 0; i < n; i++) {
        struct pool *to = &pools[p->at[i].pool];
        const uint8_t *label = p->label + (size_t)i * plane, *pred = p->pred + (size_t)i * plane;
        const float *prob = p->prob + (size_t)i * outputs * plane;
        for (int y = 0; y < p->at[i].h; y++) {
            const size_t at = (size_t)y * (size_t)p->w, columns = (size_t)p->at[i].w;
            met_count(label + at, pred + at, columns, set->classes, to->table);
            met_soft_count(&to->soft, label + at, prob + at, plane, columns);
        }
    }
}

/* The label of the slice that has waited longest is that of slice i. */
static void let_go(struct part *p, int i)
{
    const size_t plane = (size_t)p->h * (size_t)p->w;
    const size_t slot = (size_t)waiting.out++ % waiting.most;
    memcpy(p->label + (size_t)i * plane, waiting.label + slot * plane, plane);
    p->at[i] = waiting.at[slot];
}

/* The next slices of a volume go in, or, when it is over, nothing; those that come out count. */
static void push(struct part *p, struct nn *nn, const struct settings *set, bool over)
{
    const int n = over ? VALIDATION_PIECE : p->n, due = nn_stream_due(nn, n, over);
    struct nn_result result;
    struct nn_batch b = {
        .n = n, .h = p->h, .w = p->w, .image = over ? NULL : p->image, .label = p->label};
    struct nn_output out = {.pred = p->pred, .prob = p->prob, .result = &result};
    for (int i = 0; i < due; i++)
        let_go(p, i);
    if (nn_stream_push(nn, &b, &out) < 0)
        tool_die("validation: %s", nn_why(nn));
    if (due)
        count(p, due, &result, set);
    p->n = 0;
}

/* What there is of slices is predicted. */
static void evaluate(struct part *p, struct nn *nn, const struct settings *set)
{
    struct nn_result result;
    struct nn_batch b = {.n = p->n, .h = p->h, .w = p->w, .image = p->image, .label = p->label};
    struct nn_output out = {.pred = p->pred, .prob = p->prob, .result = &result};
    if (!p->n)
        return;
    if (set->volume) {
        push(p, nn, set, false);
        return;
    }
    if (nn_infer(nn, &b, &out))
        tool_die("validation: %s", nn_why(nn));
    count(p, p->n, &result, set);
    p->n = 0;
}

/* Slices that have all their neighbours. */
static void take_ready(struct part *p, struct nn *nn, const struct settings *set, bool over)
{
    const size_t planes = (size_t)beside.c * (size_t)img_beside_planes(beside.k);
    while (img_beside_ready(&beside, waiting.out, over)) {
        img_beside_get(&beside, waiting.out,
                       p->image + (size_t)p->n * planes * (size_t)p->h * (size_t)p->w);
        let_go(p, p->n++);
        if (p->n == p->most)
            evaluate(p, nn, set);
    }
}

static void add(struct part *p, struct nn *nn, const struct settings *set,
                const struct tensor *image, const struct tensor *label, uint32_t pool)
{
    const size_t plane = (size_t)p->h * (size_t)p->w, i = (size_t)p->n;
    const struct at at = {(int)image->dim[1], (int)image->dim[2], pool};
    const size_t slot = waiting.most ? (size_t)waiting.in++ % waiting.most : i;
    img_batch_label(label, NN_IGNORE, p->h, p->w,
                    (waiting.most ? waiting.label : p->label) + slot * plane);
    *(waiting.most ? &waiting.at[slot] : &p->at[slot]) = at;
    if (set->neighbours) {
        img_beside_put(&beside, image, NULL);
        take_ready(p, nn, set, false);
        return;
    }
    img_batch_image(image, NULL, p->h, p->w, p->image + i * image->dim[0] * plane);
    p->n++;
}

/* Another size, or another case, where slices hang on those beside them. */
static void finish(struct part *p, struct nn *nn, const struct settings *set)
{
    take_ready(p, nn, set, true);
    evaluate(p, nn, set);
    while (waiting.out < waiting.in)
        push(p, nn, set, true);
}

static void begin(struct part *p, struct nn *nn, const struct validation *v,
                  const struct settings *set, int h, int w)
{
    const size_t most = most_pixels(v) / ((size_t)h * (size_t)w);
    p->h = h;
    p->w = w;
    p->most = set->volume ? VALIDATION_PIECE : most > MOST ? MOST : (int)most;
    if (!most)
        tool_die("%s: has changed since the run began", v->path);
    waiting.in = waiting.out = 0;
    img_beside_begin(&beside, h, w);
    if (set->volume && nn_stream_begin(nn))
        tool_die("validation: %s", nn_why(nn));
}

static void reckon(struct scores *s, uint32_t cases, const struct settings *set)
{
    const struct met_convention *policy = met_convention("brats2023");
    struct met_mean loss = {0}, dice[MET_PARTS] = {{0}}, soft[MET_PARTS] = {{0}};
    double hd[MET_HDS] = {0};
    for (uint32_t i = 0; i < cases; i++) {
        met_mean_add(&loss, met_dice_loss(&pools[i].soft, !set->background));
        for (int k = 0; k < MET_PARTS; k++) {
            struct met_counts counts =
                met_counts((const uint64_t(*)[MET_CLASSES])pools[i].table, met_parts[k].labels);
            met_mean_add(&dice[k], met_score(policy, &counts, hd).dice);
            met_mean_add(&soft[k], met_soft_dice(&pools[i].soft, met_parts[k].labels));
        }
    }
    s->loss = set->loss == NN_CE || set->loss == NN_FOCAL ? 0 : met_mean_value(&loss);
    s->loss += set->loss != NN_DICE && ce_count ? ce_sum / (double)ce_count : 0;
    for (int k = 0; k < MET_PARTS; k++) {
        s->dice[k] = met_mean_value(&dice[k]);
        s->soft[k] = met_mean_value(&soft[k]);
    }
    s->score = (s->dice[MET_WT] + s->dice[MET_TC] + s->dice[MET_ET]) / 3;
}

/* Cases that another process has counted come to rank 0, and what it makes of all to the others. */
struct counted {
    struct pool pool;
    struct entropy entropy;
};

static bool is_own(uint32_t pool, int rank)
{
    return pool % (uint32_t)share.ranks == (uint32_t)rank;
}

static void take_counted(void *ctx, int rank, const void *data, size_t bytes)
{
    const struct validation *v = ctx;
    const struct counted *from = data;
    (void)bytes;
    for (uint32_t i = 0; i < v->cases.count; i++)
        if (is_own(i, rank)) {
            pools[i] = from->pool;
            entropy[i] = from++->entropy;
        }
}

static void join(struct validation *v)
{
    struct counted *own = tool_alloc(v->cases.count * sizeof *own);
    size_t n = 0;
    for (uint32_t i = 0; i < v->cases.count; i++)
        if (is_own(i, share.rank)) {
            own[n].pool = pools[i];
            own[n++].entropy = entropy[i];
        }
    share_to_first(own, n * sizeof *own, take_counted, v);
    free(own);
    for (uint32_t i = 0; i < v->cases.count; i++) {
        ce_sum += entropy[i].sum;
        ce_count += entropy[i].count;
    }
    free(entropy);
    entropy = NULL;
}

/* Which case a record is of. */
static uint32_t case_of(struct validation *v, struct tns_reader *in, struct tns_record *rec)
{
    const char *name = tns_get(&rec->meta, "case");
    const uint32_t pool = names_find(&v->cases, name ? name : key(v, in, rec, "patient"));
    if (pool == NAMES_NONE)
        tool_die("%s: has changed since the run began", v->path);
    return pool;
}

/* A record that validation_open has seen, now with its payloads. */
static void check(struct validation *v, struct tns_reader *in, struct tns_record *rec,
                  const struct settings *set)
{
    const struct tensor *image = tns_tensor(rec, "image"), *label = tns_tensor(rec, "label");
    const uint8_t *value = label->data;
    char why[128];
    for (size_t i = 0, n = tensor_count(label); i < n; i++)
        if (value[i] >= set->classes)
            tool_die("%s: record %llu: label outside the classes (wanted 0 to %d, got %u)", v->path,
                     (unsigned long long)tns_count(in) - 1, set->classes - 1, value[i]);
    if (tool_odd_value(image, why))
        tool_die("%s: record %llu: %s", v->path, (unsigned long long)tns_count(in) - 1, why);
}

static void make_room(const struct validation *v, struct nn *nn, const struct settings *set,
                      struct part *p)
{
    const size_t most = most_pixels(v), slice = (size_t)v->h * (size_t)v->w;
    const size_t planes = (size_t)set->channels * (size_t)img_beside_planes(set->neighbours);
    if (set->volume && nn_stream(nn).out > v->n)
        tool_die("validation: more slices at once than planned (wanted %d, got %d)", v->n,
                 nn_stream(nn).out);
    *p = (struct part){.image = tool_alloc(most * planes * sizeof(float)),
                       .prob = tool_alloc(most * (size_t)set->targets.outputs * sizeof(float)),
                       .label = tool_alloc(most),
                       .pred = tool_alloc(most),
                       .at =
                           tool_alloc(((size_t)v->n > MOST ? (size_t)v->n : MOST) * sizeof *p->at)};
    beside = (struct img_beside){
        .k = set->neighbours, .c = set->channels, .room = img_beside_planes(set->neighbours)};
    if (set->neighbours)
        beside.ring = tool_alloc(planes * slice * sizeof(float));
    waiting.most = waiting_most(v, set);
    waiting.label = tool_alloc(waiting.most * slice);
    waiting.at = tool_alloc(waiting.most * sizeof *waiting.at);
    waiting.in = waiting.out = 0;
}

static void free_room(struct part *p)
{
    void *all[] = {p->image, p->prob,     p->label,      p->pred,
                   p->at,    beside.ring, waiting.label, waiting.at};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

void validation_run(struct validation *v, struct nn *nn, const struct settings *set,
                    struct scores *s)
{
    struct tns_reader *in = reader(v);
    struct tns_record rec = {0};
    struct part p;
    const bool whole = set->volume || set->neighbours || set->groups > 1; /* cases, not slices */
    uint32_t now = NAMES_NONE;
    int e;
    make_room(v, nn, set, &p);
    if (!(pools = calloc(v->cases.count, sizeof *pools)))
        tool_die("out of memory");
    for (uint32_t i = 0; i < v->cases.count; i++)
        met_soft_begin(&pools[i].soft, set->targets.outputs, set->targets.labels);
    ce_sum = 0;
    ce_count = 0;
    if (set->groups > 1 && !(entropy = calloc(v->cases.count, sizeof *entropy)))
        tool_die("out of memory");
    while ((e = tns_next(in, &rec)) == 1) {
        const uint32_t pool = case_of(v, in, &rec);
        share_tick();
        if (!is_own(pool, share.rank)) {
            finish(&p, nn, set);
            now = pool;
            continue;
        }
        tns_keep(&rec, TRAIN_USES);
        struct tensor *image = image_of(v, in, &rec, set->channels);
        if ((e = tns_take(in, &rec, NULL)) < 0)
            break;
        check(v, in, &rec, set);
        const int h = nn_padded((int)image->dim[1], set->multiple[1]);
        const int w = nn_padded((int)image->dim[2], set->multiple[2]);
        if (h != p.h || w != p.w || (whole && pool != now)) {
            finish(&p, nn, set);
            begin(&p, nn, v, set, h, w);
            now = pool;
        }
        if (p.n == p.most)
            evaluate(&p, nn, set);
        add(&p, nn, set, image, tns_tensor(&rec, "label"), pool);
        tool_progress("validating: %llu slices", (unsigned long long)tns_count(in));
    }
    if (e < 0)
        tool_die("%s", tns_why(in));
    if (tns_digest(in) != v->digest)
        tool_die("%s: has changed since the run began", v->path);
    finish(&p, nn, set);
    if (entropy)
        join(v);
    if (!share.rank)
        reckon(s, v->cases.count, set);
    share_from_first(s, sizeof *s);
    free(pools);
    free_room(&p);
    tns_release(&rec);
    tns_reader_free(in);
}
