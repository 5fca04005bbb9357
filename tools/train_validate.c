/* Validation in train: a stream from a file, pooled by case. */
#include "tools/train.h"

#include "lib/image/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct pool { /* of a case */
    uint64_t table[MET_CLASSES][MET_CLASSES];
    struct met_soft soft;
};

static struct tns_reader *reader(struct validation *v)
{
    if (lseek(v->fd, 0, SEEK_SET) != 0)
        tool_die("%s: %s", v->path, strerror(errno));
    struct tns_reader *in = tns_reader_new(v->fd);
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

void validation_open(struct validation *v, const char *path, const struct settings *set)
{
    struct tns_record rec = {0};
    struct stat st;
    uint64_t at;
    int e;
    *v = (struct validation){.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (v->fd < 0 || fstat(v->fd, &st))
        tool_die("%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        tool_misuse("-e %s: is no regular file, and validation reads it after each epoch", path);
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
        const char *name = tns_get(&rec.meta, "case");
        tool_add_name(&v->cases, name ? name : key(v, in, &rec, "patient"));
        same(v, in, &rec, "modalities", &v->modalities);
        same(v, in, &rec, "scheme", &v->scheme);
        same_keys(v, in, &rec);
        struct tensor *image = image_of(v, in, &rec, set->channels);
        int h = nn_padded((int)image->dim[1], set->multiple[0]);
        int w = nn_padded((int)image->dim[2], set->multiple[1]);
        v->h = h > v->h ? h : v->h;
        v->w = w > v->w ? w : v->w;
    }
    if (e < 0)
        tool_die("%s: %s", path, tns_why(in));
    if (!v->modalities)
        tool_die("%s: holds no records", path);
    if (ledger_blind(&v->ledger))
        tool_warn("%s: no fingerprint in some records: patients are compared by name alone", path);
    int known = contract_steps(tns_header(in), v->steps);
    if (known < 0)
        tool_die("%s: history too long", path);
    v->steps_known = known;
    v->digest = tns_digest(in);
    v->header = tns_header(in)->len;
    v->pools = names_memory(&v->cases) + v->cases.count * sizeof(struct pool);
    tns_release(&rec);
    tns_reader_free(in);
}

void validation_size(struct validation *v, size_t pixels)
{
    size_t n = pixels / ((size_t)v->h * (size_t)v->w);
    v->n = n < 1 ? 1 : n > 16 ? 16 : (int)n;
}

static size_t most_pixels(const struct validation *v)
{
    return (size_t)v->n * (size_t)v->h * (size_t)v->w;
}

size_t validation_memory(const struct validation *v, const struct settings *set)
{
    size_t pixel = (size_t)(set->channels + set->targets.outputs) * sizeof(float) + 2;
    return most_pixels(v) * pixel + record_memory(set, v->h, v->w);
}

/* --- a batch of equal slices -------------------------------------------------------------------*/

struct part {
    int n, h, w; /* padded */
    int shape[16][2];
    uint32_t pool[16];
    float *image, *prob;
    uint8_t *label, *pred;
};

static struct pool *pools; /* by the number of their cases */
static double ce_sum;
static uint64_t ce_count;

static void evaluate(struct part *p, struct nn *nn, const struct settings *set)
{
    struct nn_result result;
    struct nn_batch b = {.n = p->n, .h = p->h, .w = p->w, .image = p->image, .label = p->label};
    struct nn_output out = {.pred = p->pred, .prob = p->prob, .result = &result};
    size_t plane = (size_t)p->h * (size_t)p->w;
    if (!p->n)
        return;
    if (nn_infer(nn, &b, &out))
        tool_die("validation: %s", nn_why(nn));
    ce_sum += result.ce * (double)result.pixels;
    ce_count += result.pixels;
    for (int i = 0; i < p->n; i++) {
        struct pool *to = &pools[p->pool[i]];
        for (int y = 0; y < p->shape[i][0]; y++) {
            size_t at = (size_t)y * (size_t)p->w, n = (size_t)p->shape[i][1];
            uint8_t *label = p->label + (size_t)i * plane + at;
            uint8_t *pred = p->pred + (size_t)i * plane + at;
            met_count(label, pred, n, set->classes, to->table);
            met_soft_count(&to->soft, label,
                           p->prob + (size_t)i * (size_t)set->targets.outputs * plane + at, plane,
                           n);
        }
    }
    p->n = 0;
}

static void add(struct part *p, const struct tensor *image, const struct tensor *label,
                uint32_t pool)
{
    size_t plane = (size_t)p->h * (size_t)p->w, i = (size_t)p->n;
    img_batch_image(image, NULL, p->h, p->w, p->image + i * image->dim[0] * plane);
    img_batch_label(label, NN_IGNORE, p->h, p->w, p->label + i * plane);
    p->shape[i][0] = (int)image->dim[1];
    p->shape[i][1] = (int)image->dim[2];
    p->pool[i] = pool;
    p->n++;
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

void validation_run(struct validation *v, struct nn *nn, const struct settings *set,
                    struct scores *s)
{
    struct tns_reader *in = reader(v);
    struct tns_record rec = {0};
    size_t most = most_pixels(v), plane, c = (size_t)set->channels;
    const size_t k = (size_t)set->targets.outputs;
    struct part p = {.image = tool_alloc(most * c * sizeof(float)),
                     .prob = tool_alloc(most * k * sizeof(float)),
                     .label = tool_alloc(most),
                     .pred = tool_alloc(most)};
    char why[128];
    int e;
    if (!(pools = calloc(v->cases.count, sizeof *pools)))
        tool_die("out of memory");
    for (uint32_t i = 0; i < v->cases.count; i++)
        met_soft_begin(&pools[i].soft, set->targets.outputs, set->targets.labels);
    ce_sum = 0;
    ce_count = 0;
    while ((e = tns_next(in, &rec)) == 1) {
        tns_keep(&rec, TRAIN_USES);
        struct tensor *image = image_of(v, in, &rec, set->channels);
        if ((e = tns_take(in, &rec, NULL)) < 0)
            break;
        const struct tensor *label = tns_tensor(&rec, "label");
        const char *name = tns_get(&rec.meta, "case");
        int h = nn_padded((int)image->dim[1], set->multiple[0]);
        int w = nn_padded((int)image->dim[2], set->multiple[1]);
        const uint8_t *value = label->data;
        for (size_t i = 0, n = tensor_count(label); i < n; i++)
            if (value[i] >= set->classes)
                tool_die("%s: record %llu: label outside the classes (wanted 0 to %d, got %u)",
                         v->path, (unsigned long long)tns_count(in) - 1, set->classes - 1,
                         value[i]);
        if (tool_odd_value(image, why))
            tool_die("%s: record %llu: %s", v->path, (unsigned long long)tns_count(in) - 1, why);
        plane = (size_t)h * (size_t)w;
        if (plane > most)
            tool_die("%s: has changed since the run began", v->path);
        if (h != p.h || w != p.w || p.n == 16 || (size_t)(p.n + 1) * plane > most)
            evaluate(&p, nn, set);
        p.h = h;
        p.w = w;
        uint32_t pool = names_find(&v->cases, name ? name : key(v, in, &rec, "patient"));
        if (pool == NAMES_NONE)
            tool_die("%s: has changed since the run began", v->path);
        add(&p, image, label, pool);
        tool_progress("validating: %llu slices", (unsigned long long)tns_count(in));
    }
    if (e < 0)
        tool_die("%s: %s", v->path, tns_why(in));
    if (tns_digest(in) != v->digest)
        tool_die("%s: has changed since the run began", v->path);
    evaluate(&p, nn, set);
    reckon(s, v->cases.count, set);
    free(pools);
    free(p.image);
    free(p.prob);
    free(p.label);
    free(p.pred);
    tns_release(&rec);
    tns_reader_free(in);
}
