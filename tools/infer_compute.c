/* infer_compute.c - predicts.
 *
 * A prediction is the mean of the probabilities of all models, in their order, each of all views of
 * the slice: as it is, mirrored in x, in y, in both, as far as wanted, and mirrored back. Sums have
 * this one order. A model sees a slice padded for it alone, so neither company nor the other models
 * change what it makes of it.
 *
 * Of streams the slices that come out are not those that went in: records wait in between. Where
 * several predictions are averaged a case waits in a file until all have been made, one after the
 * other, and the sums in another. */
#include "lib/image/batch.h"
#include "lib/image/entropy.h"
#include "tools/infer.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- what is wanted --------------------------------------------------------------------------- */

bool is_view(int axes)
{
    return (axes & opt.axes) == axes;
}

int views(void)
{
    int n = 0;
    for (int axes = 0; axes < VIEWS; axes++)
        n += is_view(axes);
    return n;
}

bool averages(void)
{
    return members * views() > 1;
}

bool sums(void)
{
    return averages() || opt.prob || opt.uncertain;
}

bool compares(void)
{
    return opt.uncertain && members > 1;
}

/* --- a slice ---------------------------------------------------------------------------------- */

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

/* What a network is given of it. */
static struct slice slice_of(struct tns_record *rec)
{
    const struct tensor *image = tns_tensor(rec, "image");
    const size_t rows = image->dim[1], columns = image->dim[2];
    return (struct slice){.rec = rec,
                          .image = image,
                          .rows = (int)rows,
                          .columns = (int)columns,
                          .pixels = rows * columns};
}

/* What the record gains, still empty. */
static void begin(struct slice *s, struct tns_record *rec, size_t i)
{
    const struct model *model = &member->model;
    size_t k = (size_t)member->about.outputs;
    result(rec, "pred", DT_U8, 2);
    *s = slice_of(rec);
    s->sum = opt.prob   ? result(rec, "prob", DT_F32, 3)
             : held.sum ? held.sum + i * k * held.pixels
                        : NULL;
    s->entropy = opt.uncertain ? result(rec, "entropy", DT_F32, 2) : NULL;
    s->apart = compares() ? result(rec, "disagreement", DT_F32, 2) : NULL;
    s->own = held.own ? held.own + i * k * held.pixels : NULL;
    if (held.sum)
        memset(s->sum, 0, k * s->pixels * sizeof *s->sum);
    if (s->own)
        memset(s->own, 0, k * s->pixels * sizeof *s->own);
    if (opt.prob && model->regions)
        tool_set(rec, "regions", "%s", model->regions);
    tool_set(rec, "scheme", "%s", model->scheme);
}

static void order_of(const struct member *m, const struct tns_record *rec, int order[NN_MAX_CIN])
{
    char why[64];
    contract_order(m->model.modalities, tns_get(&rec->meta, "modalities"), order, NN_MAX_CIN, why,
                   sizeof why);
}

/* The first of n slices that a network could make no number of, or n; death of other causes. */
static size_t odd_slice(struct nn *nn, int e, size_t n, const uint8_t *pred, size_t plane)
{
    for (size_t i = 0; e == NN_ENAN && i < n; i++)
        if (memchr(pred + i * plane, NN_IGNORE, plane))
            return i;
    if (e < 0)
        tool_die("%s", nn_why(nn));
    return n;
}

static _Noreturn void no_number(const struct nn *nn, const struct tns_record *rec)
{
    tool_die("stdin: case %s slice %s: %s", key_or(rec, "case"), key_or(rec, "slice"), nn_why(nn));
}

/* Of slices that were run: death where there is no number. */
static void check_run(struct nn *nn, int e, const struct slice *s, size_t n, const uint8_t *pred,
                      size_t plane)
{
    const size_t odd = odd_slice(nn, e, n, pred, plane);
    if (odd < n)
        no_number(nn, s[odd].rec);
}

/* What one view of a model found of a slice goes where it is wanted. */
static void collect_one(int axes, float *prob, size_t k, struct slice *s, int h, int w)
{
    if (s->sum) {
        img_batch_mirror(prob, k, h, w, s->rows, s->columns, axes & MIRROR_X, axes & MIRROR_Y);
        img_batch_add(prob, k, h, w, s->rows, s->columns, s->sum);
    }
    if (s->own)
        img_batch_add(prob, k, h, w, s->rows, s->columns, s->own);
}

static void collect(const struct member *m, int axes, struct slice *s, size_t n, int h, int w)
{
    size_t k = (size_t)m->about.outputs, plane = (size_t)h * (size_t)w;
#pragma omp parallel for schedule(static) num_threads(opt.threads)
    for (size_t i = 0; i < n; i++)
        collect_one(axes, held.prob + i * k * plane, k, &s[i], h, w);
}

/* Slices as the network takes them: of one that sees neighbours, slice `first` of its case and
 * those behind it. */
static void load(const struct member *m, int axes, const struct slice *s, long first, size_t n,
                 int h, int w)
{
    const size_t size = (size_t)m->about.inputs * (size_t)h * (size_t)w;
#pragma omp parallel for schedule(static) num_threads(opt.threads)
    for (size_t i = 0; i < n; i++) {
        float *to = held.image + i * size;
        int order[NN_MAX_CIN];
        if (m->model.neighbours) {
            img_beside_get(&m->beside, first + (long)i, to);
        } else {
            order_of(m, s[i].rec, order);
            img_batch_image(s[i].image, order, h, w, to);
        }
        img_batch_mirror(to, (size_t)m->about.inputs, h, w, s[i].rows, s[i].columns,
                         axes & MIRROR_X, axes & MIRROR_Y);
    }
}

/* One view of one model. */
static void predict(int which, int axes, struct slice *s, size_t n, int h, int w)
{
    struct nn *nn = held.nn[which];
    struct nn_batch batch = {.n = (int)n, .h = h, .w = w, .image = held.image};
    struct nn_output out = {.pred = held.pred, .prob = held.prob};
    load(&member[which], axes, s, 0, n, h, w);
    check_run(nn, nn_infer(nn, &batch, &out), s, n, held.pred, (size_t)h * (size_t)w);
    collect(&member[which], axes, s, n, h, w);
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

/* --- batches ---------------------------------------------------------------------------------- */

static void finish_all(struct slice *s, size_t n, int h, int w)
{
    const size_t stride = (size_t)member_side(member, 2, w);
    const size_t plane = stride * (size_t)member_side(member, 1, h);
#pragma omp parallel for schedule(static) num_threads(opt.threads)
    for (size_t i = 0; i < n; i++)
        finish(&s[i], held.pred + i * plane, stride);
}

void compute(struct tns_record *rec, int n, int h, int w)
{
    struct slice s[MOST];
    for (int i = 0; i < n; i++)
        begin(&s[i], &rec[i], (size_t)i);
    for (int m = 0; m < members; m++) {
        for (int axes = 0; axes < VIEWS; axes++)
            if (is_view(axes))
                predict(m, axes, s, (size_t)n, member_side(&member[m], 1, h),
                        member_side(&member[m], 2, w));
#pragma omp parallel for schedule(static) num_threads(opt.threads)
        for (int i = 0; i < n; i++)
            if (s[i].own)
                add_entropy(&member[m], &s[i]);
    }
    finish_all(s, (size_t)n, h, w);
}

/* --- streams ---------------------------------------------------------------------------------- */

/* The case: slices of it that came and that went; how far the network is, which is given a slice
 * when its neighbours have come. */
static struct {
    long in, out, given;
    int rows, columns;
} now;

static void end_case(void)
{
    now.in = now.out = now.given = 0;
}

static struct tns_record *waiting(long slice)
{
    return &held.line[slice % held.lines];
}

static void exchange(struct tns_record *a, struct tns_record *b)
{
    struct tns_record t = *a;
    *a = *b;
    *b = t;
}

/* Who sees neighbours keeps the slice by himself. */
static void keep(struct member *m, struct tns_record *rec)
{
    int order[NN_MAX_CIN];
    order_of(m, rec, order);
    img_beside_put(&m->beside, tns_tensor(rec, "image"), order);
}

static void begin_case(struct member *m, int h, int w)
{
    if (m->model.neighbours)
        img_beside_begin(&m->beside, h, w);
    if (nn_stream_begin(held.nn[m - member]))
        tool_die("%s", nn_why(held.nn[m - member]));
}

/* n slices more into the network, or nothing where all are in it; what comes out goes behind `got`
 * others. */
static int push(int n, struct tns_record *rec, int got, int h, int w)
{
    const struct member *m = member;
    struct nn *nn = held.nn[0];
    const int high = member_side(m, 1, h), wide = member_side(m, 2, w);
    const size_t plane = (size_t)high * (size_t)wide;
    const bool over = now.given == now.in;
    const int due = nn_stream_due(nn, n, over);
    struct slice s[MOST];
    for (int i = 0; i < n && !over; i++)
        s[i] = slice_of(waiting(now.given + i));
    if (!over)
        load(m, 0, s, now.given, (size_t)n, high, wide);
    for (int i = 0; i < due; i++)
        begin(&s[i], waiting(now.out + i), (size_t)i);
    struct nn_batch batch = {.n = n, .h = high, .w = wide, .image = over ? NULL : held.image};
    struct nn_output out = {.pred = held.pred, .prob = held.prob};
    check_run(nn, nn_stream_push(nn, &batch, &out), s, (size_t)due, held.pred, plane);
    collect(m, 0, s, (size_t)due, high, wide);
    finish_all(s, (size_t)due, h, w);
    now.given += over ? 0 : n;
    for (int i = 0; i < due; i++)
        exchange(waiting(now.out++), &rec[got + i]);
    return due;
}

/* One view of one model: each slice goes as soon as it can. */
static int compute_now(struct tns_record *rec, int n, int h, int w)
{
    const int late = member->model.neighbours;
    if (n && !now.in)
        begin_case(member, member_side(member, 1, h), member_side(member, 2, w));
    for (int i = 0; i < n; i++) {
        exchange(waiting(now.in), &rec[i]);
        if (late)
            keep(member, waiting(now.in));
        now.in++;
    }
    int ready = (int)(now.in - now.given) - (n ? late : 0), got = 0;
    if (n && ready > 0)
        got = push(ready, rec, 0, h, w);
    for (int left = n ? 0 : plan.n; left > 0; left -= ready) {
        ready = (int)(now.in - now.given);
        ready = ready > 0 && ready < left ? ready : left;
        got += push(ready, rec, got, h, w);
    }
    if (!n && now.out == now.in)
        end_case();
    return got;
}

/* --- cases in a file -----------------------------------------------------------------------------
 * The sums of what was found of each slice: of all models, and where they are compared of one, and
 * how uncertain those are that were seen. */

static struct {
    const char *dir;
    int fd, error;
} sums_of = {.fd = -1};

void compute_spool(void)
{
    sums_of.dir = tool_tmpdir();
    if (access(sums_of.dir, W_OK | X_OK)) {
        sums_of.error = errno;
        return;
    }
    tool_spool_open();
    sums_of.fd = tool_nameless(NULL);
}

/* A slice's sums, in memory, come from the file or go there; those of nobody yet are 0. */
static void exchange_sums(bool put, const struct slice *s, long z, bool first, bool alone)
{
    const size_t k = (size_t)member->about.outputs, n = s->pixels;
    float *part[] = {s->sum, s->own, s->apart};
    const size_t size[] = {k * n, k * n, n};
    const bool empty[] = {first, alone, first};
    uint64_t at = (uint64_t)z * (compares() ? 2 * k + 1 : k) * n * sizeof(float);
    for (int i = 0; i < (compares() ? 3 : 1); at += size[i++] * sizeof(float)) {
        if (put)
            tool_put_at(sums_of.fd, sums_of.dir, part[i], size[i] * sizeof(float), at);
        else if (empty[i])
            memset(part[i], 0, size[i] * sizeof(float));
        else if (part[i])
            tool_get_at(sums_of.fd, sums_of.dir, part[i], size[i] * sizeof(float), at);
    }
}

/* The case's slice that a view sees as its slice i. */
static long place(int axes, long i)
{
    return axes & MIRROR_Z ? now.in - 1 - i : i;
}

/* The slices of a view from `first` on, as the network takes them. */
static void fetch(struct member *m, int axes, long first, int n, int h, int w)
{
    struct slice s[MOST];
    const long last = first + n + m->model.neighbours;
    if (m->model.neighbours)
        for (long i = m->beside.in; i < last && i < now.in; i++) {
            tool_spool_at((size_t)place(axes, i), held.line, "image");
            keep(m, held.line);
        }
    for (int i = 0; i < n; i++) {
        if (!m->model.neighbours)
            tool_spool_at((size_t)place(axes, first + i), &held.line[i], "image");
        s[i] = m->model.neighbours ? (struct slice){.rows = now.rows, .columns = now.columns}
                                   : slice_of(&held.line[i]);
    }
    load(m, axes, s, first, (size_t)n, h, w);
}

/* What one view of a model found of n slices from `first` on is added to what there is. */
static void add_view(int which, int axes, long first, int n, int h, int w)
{
    const struct member *m = &member[which];
    const size_t k = (size_t)m->about.outputs, plane = (size_t)h * (size_t)w;
    const bool last = axes == opt.axes;
#pragma omp parallel for schedule(static) num_threads(opt.threads)
    for (int i = 0; i < n; i++) {
        const size_t j = (size_t)i * held.pixels;
        const long z = place(axes, first + i);
        struct slice s = {.rows = now.rows,
                          .columns = now.columns,
                          .pixels = (size_t)now.rows * (size_t)now.columns,
                          .sum = held.sum + j * k,
                          .own = held.own ? held.own + j * k : NULL,
                          .apart = held.apart ? held.apart + 2 * j : NULL};
        s.entropy = s.apart ? s.apart + held.pixels : NULL;
        exchange_sums(false, &s, z, !which && !axes, !axes);
        collect_one(axes, held.prob + (size_t)i * k * plane, k, &s, h, w);
        if (s.own && last)
            add_entropy(m, &s);
        exchange_sums(true, &s, z, false, false);
    }
}

/* One view of one model, of the whole case. */
static void see(int which, int axes, int h, int w)
{
    struct member *m = &member[which];
    struct nn *nn = held.nn[which];
    begin_case(m, h, w);
    for (long in = 0, out = 0; out < now.in;) {
        const bool over = in == now.in;
        const int n = over || now.in - in > plan.n ? plan.n : (int)(now.in - in);
        const int due = nn_stream_due(nn, n, over);
        if (!over)
            fetch(m, axes, in, n, h, w);
        struct nn_batch batch = {.n = n, .h = h, .w = w, .image = over ? NULL : held.image};
        struct nn_output to = {.pred = held.pred, .prob = held.prob};
        const int e = nn_stream_push(nn, &batch, &to);
        const int odd = (int)odd_slice(nn, e, (size_t)due, held.pred, (size_t)h * (size_t)w);
        if (odd < due) {
            tool_spool_at((size_t)place(axes, out + odd), held.line, "");
            no_number(nn, held.line);
        }
        add_view(which, axes, out, due, h, w);
        in += over ? 0 : n;
        out += due;
    }
}

static void put_by(struct tns_record *rec)
{
    const struct tensor *image = tns_tensor(rec, "image");
    if (sums_of.fd < 0)
        tool_die("%s: temporary file: %s", sums_of.dir, strerror(sums_of.error));
    now.rows = (int)image->dim[1];
    now.columns = (int)image->dim[2];
    tool_spool(rec);
    now.in++;
}

/* Several predictions: all of them when the case is over. */
static int compute_case(struct tns_record *rec, int n, int h, int w)
{
    struct slice s[MOST];
    int got = 0;
    for (int i = 0; i < n; i++)
        put_by(&rec[i]);
    for (int m = 0; m < members && !n && !now.out; m++)
        for (int axes = 0; axes < VIEWS; axes++)
            if (is_view(axes))
                see(m, axes, member_side(&member[m], 1, h), member_side(&member[m], 2, w));
    for (; !n && got < plan.n && now.out < now.in; got++, now.out++) {
        tool_spool_at((size_t)now.out, &rec[got], NULL);
        begin(&s[got], &rec[got], (size_t)got);
        s[got].own = NULL;
        exchange_sums(false, &s[got], now.out, false, false);
    }
    finish_all(s, (size_t)got, h, w);
    if (!n && now.out == now.in)
        end_case();
    return got;
}

int compute_stream(struct tns_record *rec, int n, int h, int w)
{
    if (!n && now.out == now.in)
        return 0;
    return plan.spooled ? compute_case(rec, n, h, w) : compute_now(rec, n, h, w);
}
