/* infer_compute.c - predicts.
 *
 * A prediction is the mean of the probabilities of all models, in their order, each of all views of
 * the slice: as it is, mirrored in x, in y, in both, as far as wanted, and mirrored back. Sums have
 * this one order. A model sees a slice padded for it alone, so neither company nor the other models
 * change what it makes of it.
 *
 * Of streams the slices that come out are not those that went in: records wait in between. All
 * models give the same slices at once, for one that lags less is given its slices later. */
#include "lib/image/batch.h"
#include "lib/image/entropy.h"
#include "tools/infer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

size_t backs(void)
{
    return !(opt.axes & MIRROR_Z) ? 0 : compares() ? (size_t)members : 1;
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

/* Its neighbours change sides. */
static void turn_beside(const struct member *m, size_t plane, float *image)
{
    const size_t planes = (size_t)img_beside_planes(m->model.neighbours);
    for (size_t c = 0; c < (size_t)m->channels; c++)
        for (size_t i = 0; i < planes / 2; i++) {
            float *a = image + (c * planes + i) * plane,
                  *b = image + (c * planes + planes - 1 - i) * plane;
            for (size_t k = 0; k < plane; k++) {
                const float v = a[k];
                a[k] = b[k];
                b[k] = v;
            }
        }
}

/* Slice z of its case, where the model sees those beside it. */
static void load(const struct member *m, const struct slice *s, long z, int axes, int h, int w,
                 float *to)
{
    int order[NN_MAX_CIN];
    if (m->model.neighbours) {
        img_beside_get(&m->beside, z, to);
        if (axes & MIRROR_Z)
            turn_beside(m, (size_t)h * (size_t)w, to);
    } else {
        order_of(m, s->rec, order);
        img_batch_image(s->image, order, h, w, to);
    }
    img_batch_mirror(to, (size_t)m->about.inputs, h, w, s->rows, s->columns, axes & MIRROR_X,
                     axes & MIRROR_Y);
}

/* Of slices that were run: death where there is no number. */
static void check_run(struct nn *nn, int e, const struct slice *s, size_t n, const uint8_t *pred,
                      size_t plane)
{
    for (size_t i = 0; e == NN_ENAN && i < n; i++)
        if (memchr(pred + i * plane, NN_IGNORE, plane))
            tool_die("stdin: case %s slice %s: %s", key_or(s[i].rec, "case"),
                     key_or(s[i].rec, "slice"), nn_why(nn));
    if (e < 0)
        tool_die("%s", nn_why(nn));
}

/* What one view of a model found goes where it is wanted. */
static void collect(const struct member *m, int axes, struct slice *s, size_t n, int h, int w)
{
    size_t k = (size_t)m->about.outputs, plane = (size_t)h * (size_t)w;
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

/* Slices from `first` on, upwards or, mirrored along z, downwards. */
static void load_all(const struct member *m, int axes, const struct slice *s, long first, size_t n,
                     int h, int w)
{
    size_t slice = (size_t)m->about.inputs * (size_t)h * (size_t)w;
#pragma omp parallel for schedule(static) num_threads(opt.threads)
    for (size_t i = 0; i < n; i++)
        load(m, &s[i], axes & MIRROR_Z ? first - (long)i : first + (long)i, axes, h, w,
             held.image + i * slice);
}

/* One view of one model. */
static void predict(int which, int axes, struct slice *s, size_t n, int h, int w)
{
    struct nn *nn = held.nn[which][0];
    struct nn_batch batch = {.n = (int)n, .h = h, .w = w, .image = held.image};
    struct nn_output out = {.pred = held.pred, .prob = held.prob};
    load_all(&member[which], axes, s, 0, n, h, w);
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

/* What a model found from the end of the case on, or all of them at once. */
static void add_back(int which, struct slice *s, long z)
{
    const size_t k = (size_t)member->about.outputs, n = k * s->pixels;
    if (which && !compares())
        return;
    const float *back = held.back + ((size_t)which * (size_t)plan.d + (size_t)z) * k * held.pixels;
    for (size_t i = 0; i < n; i++) {
        s->sum[i] += back[i];
        if (s->own)
            s->own[i] += back[i];
    }
}

/* What all models make of a batch, each by `one`; of a case, from slice `first` on. */
static void predict_all(struct slice *s, size_t n, int h, int w, long first,
                        void (*one)(int which, int axes, struct slice *, size_t n, int h, int w))
{
    const size_t stride = (size_t)member_side(member, 2, w);
    const size_t plane = stride * (size_t)member_side(member, 1, h);
    for (int m = 0; m < members; m++) {
        for (int axes = 0; axes < VIEWS; axes++)
            if (is_view(axes) && !(axes & MIRROR_Z))
                one(m, axes, s, n, member_side(&member[m], 1, h), member_side(&member[m], 2, w));
#pragma omp parallel for schedule(static) num_threads(opt.threads)
        for (size_t i = 0; i < n; i++) {
            if (held.back)
                add_back(m, &s[i], first + (long)i);
            if (s[i].own)
                add_entropy(&member[m], &s[i]);
        }
    }
#pragma omp parallel for schedule(static) num_threads(opt.threads)
    for (size_t i = 0; i < n; i++)
        finish(&s[i], held.pred + i * plane, stride);
}

void compute(struct tns_record *rec, int n, int h, int w)
{
    struct slice s[MOST];
    for (int i = 0; i < n; i++)
        begin(&s[i], &rec[i], (size_t)i);
    predict_all(s, (size_t)n, h, w, 0, predict);
}

/* --- streams ---------------------------------------------------------------------------------- */

/* The case: slices of it that came and that went, at what time; the slices that come next, if any,
 * pass in so many. */
static struct {
    long in, out, time;
    int step;
    bool back; /* it was seen from its end on */
} now;

static struct tns_record *waiting(long slice)
{
    return &held.line[slice % (plan.lag + plan.n)];
}

static void exchange(struct tns_record *a, struct tns_record *b)
{
    struct tns_record t = *a;
    *a = *b;
    *b = t;
}

/* n slices more into one stream, from `first` on, or nothing where none are left; how many came,
 * behind `got` others. */
static int push(int which, int axes, long first, int n, struct slice *s, int got, int h, int w)
{
    const struct member *m = &member[which];
    struct nn *nn = held.nn[which][axes];
    const size_t plane = (size_t)h * (size_t)w, k = (size_t)m->about.outputs;
    const bool over = first >= now.in;
    struct slice in[MOST];
    if (n < 1)
        return 0;
    for (int i = 0; i < n && !over; i++)
        in[i] = slice_of(waiting(first + i));
    if (!over)
        load_all(m, axes, in, first, (size_t)n, h, w);
    struct nn_batch batch = {.n = n, .h = h, .w = w, .image = over ? NULL : held.image};
    struct nn_output out = {.pred = held.pred + (size_t)got * plane,
                            .prob = held.prob ? held.prob + (size_t)got * k * plane : NULL};
    const int due = nn_stream_due(nn, n, over), e = nn_stream_push(nn, &batch, &out);
    check_run(nn, e, s + got, (size_t)due, out.pred, plane);
    return e;
}

/* One view of one model, which is behind the slowest by less than that is behind the image, and
 * gets its slices later by as many. */
static void predict_stream(int which, int axes, struct slice *s, size_t n, int h, int w)
{
    const long late = plan.lag - network_lag(&member[which]), t = now.time - late;
    const long from = t > 0 ? t : 0, to = t + now.step > 0 ? t + now.step : 0;
    const long mid = to < now.in ? to : from > now.in ? from : now.in;
    if (!from && to && nn_stream_begin(held.nn[which][axes]))
        tool_die("%s", nn_why(held.nn[which][axes]));
    int got = push(which, axes, from, (int)(mid - from), s, 0, h, w);
    got += push(which, axes, mid, (int)(to - mid), s, got, h, w);
    if ((size_t)got != n)
        tool_die("%s: gave %d slices (wanted %zu)", member[which].path, got, n);
    collect(&member[which], axes, s, n, h, w);
}

/* One view of one model, from the last slice of the case, which is all there, to its first. */
static void predict_back(int which, int axes, int h, int w)
{
    const struct member *m = &member[which];
    struct nn *nn = held.nn[which][axes];
    const size_t plane = (size_t)h * (size_t)w, k = (size_t)m->about.outputs;
    struct slice s[MOST];
    if (nn_stream_begin(nn))
        tool_die("%s", nn_why(nn));
    for (long in = 0, out = 0, n; out < now.in; in += n) {
        n = now.in - in < plan.n ? now.in - in : plan.n;
        const int step = n ? (int)n : plan.n, due = nn_stream_due(nn, step, !n);
        for (long i = 0; i < n; i++)
            s[i] = slice_of(waiting(now.in - 1 - in - i));
        load_all(m, axes, s, now.in - 1 - in, (size_t)n, h, w);
        for (int i = 0; i < due; i++) {
            const long z = now.in - 1 - out - i;
            s[i] = slice_of(waiting(z));
            s[i].sum = held.back + ((compares() ? (size_t)which * (size_t)plan.d : 0) + (size_t)z) *
                                       k * held.pixels;
        }
        struct nn_batch batch = {.n = step, .h = h, .w = w, .image = n ? held.image : NULL};
        struct nn_output to = {.pred = held.pred, .prob = held.prob};
        const int e = nn_stream_push(nn, &batch, &to);
        check_run(nn, e, s, (size_t)due, held.pred, plane);
        collect(m, axes, s, (size_t)due, h, w);
        out += due;
    }
}

static void see_back(int h, int w)
{
    memset(held.back, 0,
           backs() * (size_t)plan.d * (size_t)member->about.outputs * held.pixels *
               sizeof *held.back);
    for (int m = 0; m < members; m++)
        for (int axes = 0; axes < VIEWS; axes++)
            if (is_view(axes) && axes & MIRROR_Z)
                predict_back(m, axes, member_side(&member[m], 1, h), member_side(&member[m], 2, w));
    now.back = true;
}

/* Slices of the case that have come out by then, where the slowest model waits for neighbours. */
static long given(long time)
{
    const long n = time - plan.lag;
    return n < 0 ? 0 : n > now.in ? now.in : n;
}

/* What the slowest model will give. */
static int due(bool over)
{
    int slow = 0;
    while (slow < members && network_lag(&member[slow]) < plan.lag)
        slow++;
    if (slow == members)
        return (int)(given(now.time + now.step) - given(now.time));
    if (!now.time && nn_stream_begin(held.nn[slow][0]))
        tool_die("%s", nn_why(held.nn[slow][0]));
    return nn_stream_due(held.nn[slow][0], now.step, over);
}

/* Who sees neighbours keeps the slices from `first` on by himself. */
static void keep(struct member *m, long first, int h, int w)
{
    int order[NN_MAX_CIN];
    if (!now.time)
        img_beside_begin(&m->beside, member_side(m, 1, h), member_side(m, 2, w));
    for (; first < now.in; first++) {
        order_of(m, waiting(first), order);
        img_beside_put(&m->beside, tns_tensor(waiting(first), "image"), order);
    }
}

int compute_stream(struct tns_record *rec, int n, int h, int w)
{
    struct slice s[MOST];
    if (!n && now.out == now.in)
        return 0;
    for (int i = 0; i < n; i++)
        exchange(waiting(now.in++), &rec[i]);
    for (struct member *m = member; m < member + members; m++)
        if (m->model.neighbours)
            keep(m, now.in - n, h, w);
    if (!n && held.back && !now.back)
        see_back(h, w);
    now.step = n ? n : plan.n;
    const int out = due(!n);
    for (int i = 0; i < out; i++)
        begin(&s[i], waiting(now.out + i), (size_t)i);
    predict_all(s, (size_t)out, h, w, now.out, predict_stream);
    for (int i = 0; i < out; i++)
        exchange(waiting(now.out++), &rec[i]);
    now.time += now.step;
    if (!n && now.out == now.in)
        now.in = now.out = now.time = now.back = 0;
    return out;
}
