/* stream.c - runs a plan on volumes that come slice by slice. Each call does every step once, for
 * the slices that can be made by then. A map's slices lie one behind the other, so that a kernel
 * finds the neighbours of those that it reads; when its memory is full, those that are still needed
 * move to the front.
 *
 * A network that sees a volume as a whole is run once, when the volume is over, which is held until
 * then; of the logits, which are kept, those slices go out whose turn it is. */
#include "lib/nn/handle.h"

#include <limits.h>
#include <string.h>

/* Slices of a map once `t` of the image have come; none is made beyond the volume's end. */
static long made(const struct stream *s, const struct flow *f, long t)
{
    const long n = nn_made(f, t), end = s->total / f->down;
    return s->total < 0 || n < end ? n : end;
}

static const struct flow *head(const struct nn *nn)
{
    return &nn->plans.eval.flow[nn->g.op[nn->g.head].out];
}

/* What has come out: nothing of what was padded, and of a volume as a whole nothing before the
 * deepest could be over. */
static long given(const struct nn *nn, const struct stream *s, long t)
{
    const int deep = nn->opt.deep;
    const long n = !deep ? made(s, head(nn), t) : t < deep ? 0 : t - deep;
    return s->total < 0 || n < s->depth ? n : s->depth;
}

/* So many slices, or as much of nothing, as time goes. */
static int beats(const struct nn *nn, int n)
{
    const int every = nn_every(&nn->g, nn->opt.stream);
    return (n + every - 1) / every * every;
}

/* The volume as it is known with the next n slices; `over`: there are none, else it is over behind
 * those that are no whole beats. */
static struct stream coming(const struct nn *nn, int n, bool over)
{
    struct stream s = nn->stream;
    if ((over || n < beats(nn, n)) && s.total < 0) {
        s.depth = s.pushed + (over ? 0 : n);
        s.total = nn_padded((int)s.depth, nn->g.multiple[0]);
    }
    return s;
}

/* --- windows ---------------------------------------------------------------------------------- */

static size_t slice_bytes(const struct nn *nn, int root)
{
    const struct value *v = &nn->g.value[root];
    const struct nn_size one = {1, v->e.down[0], nn->size.h, nn->size.w};
    const struct nn_shape s = nn_shape_of(v, &one);
    return nn_pixels(&s) * (size_t)nn_lanes(v) *
           kr_dtype_size(nn_narrow(nn->now, root) ? KR_BF16 : KR_F32);
}

static char *slice_at(const struct nn *nn, int root, long slice)
{
    char *map = nn_at(nn, nn->now->value[root].map);
    return map + (size_t)(slice - nn->stream.base[root]) * slice_bytes(nn, root);
}

/* n slices to somewhere below them, or apart from them. A thread moves a stripe of each. */
static void move(const struct nn *nn, int root, char *to, const char *from, long n)
{
    const size_t bytes = slice_bytes(nn, root), threads = (size_t)nn->opt.threads;
#pragma omp parallel for schedule(static) num_threads(nn->opt.threads)
    for (size_t i = 0; i < threads; i++) {
        const size_t begin = bytes * i / threads, end = bytes * (i + 1) / threads;
        for (size_t j = 0; j < (size_t)n; j++)
            memmove(to + j * bytes + begin, from + j * bytes + begin, end - begin);
    }
}

/* The first slice of a map, of those that there are at that time, that somebody will read. */
static long needed(const struct nn *nn, int map, long t)
{
    const struct graph *g = &nn->g;
    long first = made(&nn->stream, &nn->now->flow[map], t);
    for (int k = 0; k < g->ops; k++) {
        const struct op *op = &g->op[k];
        if (!op->output || nn_is_view(op))
            continue;
        NN_FOR_ROOTS(g, op, i, j, root)
        if (root == map && nn_needs(nn->now, op, root, t) < first)
            first = nn_needs(nn->now, op, root, t);
    }
    return first;
}

/* Before a step: what was put by of a map that it makes lies there again; one that is kept has room
 * for what is made from t to `end`. */
static void open_window(struct nn *nn, int map, long t, long end)
{
    const struct flow *f = &nn->now->flow[map];
    char *front = nn_at(nn, nn->now->value[map].map), *tail = nn_at(nn, nn->now->value[map].tail);
    long *base = &nn->stream.base[map];
    const long have = made(&nn->stream, f, t);
    if (!f->kept) {
        move(nn, map, front, tail, have - *base);
    } else if (made(&nn->stream, f, end) - *base > f->room) {
        const long first = needed(nn, map, t);
        move(nn, map, front, slice_at(nn, map, first), have - first);
        *base = first;
    }
}

/* Behind the last step that reads a map. */
static void close_window(struct nn *nn, int map, long end)
{
    const struct flow *f = &nn->now->flow[map];
    const long first = needed(nn, map, end), n = made(&nn->stream, f, end) - first;
    if (f->kept)
        return;
    move(nn, map, nn_at(nn, nn->now->value[map].tail), slice_at(nn, map, first), n);
    nn->stream.base[map] = first;
}

/* --- steps ------------------------------------------------------------------------------------ */

/* One step for the slices of what it makes that are new. */
static void advance(struct nn *nn, const struct step *s, long t, long end)
{
    const struct graph *g = &nn->g;
    const struct plan *p = nn->now;
    const struct op *op = &g->op[s->op];
    const struct flow *y = nn_pace(p, op);
    const struct nn_reach reach = nn_reach_of(op);
    const bool last = op->kind->effect == NN_LOSS;
    const long from = last ? given(nn, &nn->stream, t) : made(&nn->stream, y, t);
    const long to = last ? given(nn, &nn->stream, end) : made(&nn->stream, y, end);
    if (from == to)
        return;
    const struct nn_size size = nn_slab(p, op, (int)(to - from));
    nn->size.n = size.n, nn->size.d = size.d;
    nn->beside = (struct nn_beside){.phase = from % NN_GROUP};
    NN_FOR_ROOTS(g, op, i, j, root)
    {
        const struct flow *x = &p->flow[root];
        const long a = from * y->down / x->down, b = to * y->down / x->down;
        const long rest = nn->stream.total < 0 ? LONG_MAX : nn->stream.total / x->down - b;
        nn->beside.before = a < reach.before ? (int)a : reach.before;
        nn->beside.behind = rest < reach.behind ? (int)rest : reach.behind;
        nn->map_at[root] = slice_at(nn, root, a);
    }
    if (op->out >= 0 && !nn_is_view(op))
        nn->map_at[op->out] = slice_at(nn, op->out, from);
    nn_do(nn, s);
}

static void step(struct nn *nn, int i, long t, long end)
{
    const struct plan *p = nn->now;
    const int makes = nn->g.op[p->step[i].op].out;
    if (makes >= 0 && p->value[makes].map >= 0)
        open_window(nn, makes, t, end);
    advance(nn, &p->step[i], t, end);
    for (int map = 0; map < nn->g.values; map++)
        if (p->value[map].map >= 0 && !p->flow[map].kept && p->buffer[p->value[map].map].last == i)
            close_window(nn, map, end);
}

static int run(struct nn *nn, const struct nn_batch *b, const struct nn_output *out)
{
    const struct nn_hooks *h = &nn->opt.hooks;
    const struct plan *p = nn->now;
    const long t = nn->stream.pushed, end = t + beats(nn, b->n);
    const struct nn_batch batch = {
        .n = (int)(given(nn, &nn->stream, end) - given(nn, &nn->stream, t)),
        .h = nn->size.h,
        .w = nn->size.w,
        .image = b->image,
        .label = b->label};
    nn->io = (struct nn_io){.batch = &batch, .output = out, .result = &nn->result, .hooks = h};
    nn->result = (struct nn_result){0};
    for (int i = 0; i < p->steps && !nn->failed; i++) {
        if (h->cancel && h->cancel(h->ctx))
            nn_fail(nn, NN_ESTOP, "cancelled");
        else
            step(nn, i, t, end);
        if (h->progress)
            h->progress(h->ctx, i + 1, p->steps);
    }
    nn->stream.pushed = end;
    nn->io = (struct nn_io){0};
    return nn->failed ? nn->failed : batch.n;
}

/* --- a volume as a whole ---------------------------------------------------------------------- */

struct kept nn_kept(const struct nn *nn)
{
    const struct nn_options *o = &nn->opt;
    const size_t plane = (size_t)o->eval_h * (size_t)o->eval_w * sizeof(float);
    const size_t deep = (size_t)o->eval_d, outputs = (size_t)nn_channels(&nn->g, nn->g.head);
    struct kept k = {0};
    if (!o->deep)
        return k;
    k.logits = nn_up(deep * (size_t)nn_channels(&nn->g, nn->g.input) * plane);
    k.slices = k.logits + nn_up(deep * outputs * plane);
    k.bytes = k.slices + nn_up((size_t)o->stream * outputs * plane);
    return k;
}

static size_t plane(const struct nn *nn)
{
    return (size_t)nn->size.h * (size_t)nn->size.w;
}

/* Slices come with their channels; a volume has its slices in each channel. */
static void hold(struct nn *nn, const struct nn_batch *b)
{
    const size_t channels = (size_t)nn_channels(&nn->g, nn->g.input);
    const size_t deep = (size_t)nn->opt.eval_d, n = plane(nn);
    float *to = (float *)nn->kept + (size_t)nn->stream.pushed * n;
    for (size_t i = 0; i < (size_t)b->n; i++)
        for (size_t c = 0; c < channels; c++)
            memcpy(to + (c * deep + i) * n, b->image + (i * channels + c) * n, n * sizeof *to);
}

/* It is over. */
static int run_whole(struct nn *nn)
{
    const size_t depth = (size_t)nn->stream.depth, total = (size_t)nn->stream.total, n = plane(nn);
    float *image = (float *)nn->kept;
    for (size_t c = 0; c < (size_t)nn_channels(&nn->g, nn->g.input); c++) {
        float *to = image + c * total * n;
        memmove(to, image + c * (size_t)nn->opt.eval_d * n, depth * n * sizeof *to);
        memset(to + depth * n, 0, (total - depth) * n * sizeof *to);
    }
    const struct nn_batch b = {
        .n = 1, .d = (int)total, .h = nn->size.h, .w = nn->size.w, .image = image};
    const struct nn_output out = {.logits = (float *)(nn->kept + nn_kept(nn).logits)};
    return nn_run(nn, nn->now, &b, &out);
}

/* The network's end, of some slices. */
static void finish(struct nn *nn, const struct nn_batch *b, const struct nn_output *out, long from)
{
    const struct plan *p = nn->now;
    const int value = nn->g.op[nn->g.head].out;
    const size_t outputs = (size_t)nn_channels(&nn->g, nn->g.head);
    const size_t total = (size_t)nn->stream.total, n = plane(nn);
    const struct kept kept = nn_kept(nn);
    const float *logits = (const float *)(nn->kept + kept.logits) + (size_t)from * n;
    float *to = (float *)(nn->kept + kept.slices);
    for (size_t i = 0; i < (size_t)b->n; i++)
        for (size_t k = 0; k < outputs; k++)
            memcpy(to + (i * outputs + k) * n, logits + (k * total + i) * n, n * sizeof *to);
    nn->map_at[value] = (char *)to;
    nn->size.n = b->n, nn->size.d = 1;
    nn->io =
        (struct nn_io){.batch = b, .output = out, .result = &nn->result, .hooks = &nn->opt.hooks};
    nn->result = (struct nn_result){0};
    for (int i = 0; i < p->steps && !nn->failed; i++)
        if (p->step[i].op == nn->g.loss)
            nn_do(nn, &p->step[i]);
    nn->io = (struct nn_io){0};
}

static int push_whole(struct nn *nn, const struct nn_batch *b, const struct nn_output *out,
                      bool ends)
{
    const long t = nn->stream.pushed, from = given(nn, &nn->stream, t);
    const struct nn_batch due = {.n = (int)(given(nn, &nn->stream, t + b->n) - from),
                                 .h = nn->size.h,
                                 .w = nn->size.w,
                                 .label = b->label};
    if (b->image)
        hold(nn, b);
    else if (ends && nn->stream.depth)
        run_whole(nn);
    if (due.n && !nn->failed)
        finish(nn, &due, out, from);
    nn->stream.pushed += b->n;
    return nn->failed ? nn->failed : due.n;
}

/* --- calls ------------------------------------------------------------------------------------ */

struct nn_stream nn_stream(const struct nn *nn)
{
    if (nn->opt.deep)
        return (struct nn_stream){nn->opt.stream, nn->opt.stream, nn->opt.deep};
    return (struct nn_stream){nn->opt.stream, head(nn)->most, nn_lag(&nn->g)};
}

int nn_stream_begin(struct nn *nn)
{
    const struct plan *p = &nn->plans.eval;
    if (!nn->opt.stream)
        return nn_fail(nn, NN_EARG, "the network was not planned for a stream of slices");
    if (!nn->ready)
        return nn_fail(nn, NN_EARG, "the network has no parameters yet");
    long *base = nn->stream.base;
    memset(base, 0, (size_t)nn->g.values * sizeof *base);
    nn->stream = (struct stream){.open = true, .depth = -1, .total = -1, .base = base};
    nn->failed = 0;
    nn->now = p;
    nn->size = (struct nn_size){p->size.n, p->size.d, 0, 0};
    nn->beside = (struct nn_beside){0};
    nn_all_norms(nn, false);
    return 0;
}

int nn_stream_due(const struct nn *nn, int n, bool over)
{
    const struct stream s = coming(nn, n, over);
    return (int)(given(nn, &s, s.pushed + beats(nn, n)) - given(nn, &s, s.pushed));
}

static int unusable(struct nn *nn, const struct nn_batch *b, const struct nn_output *out)
{
    const int *m = nn->g.multiple;
    const struct nn_size *most = &nn->plans.eval.size, *now = &nn->size;
    if (!nn->stream.open)
        return nn_fail(nn, NN_EARG, "no volume has begun");
    if (b->n < 1 || b->n > nn->opt.stream || b->d > 1)
        return nn_fail(nn, NN_EARG, "slices at once out of range (wanted 1..%d, got %d)",
                       nn->opt.stream, b->n);
    if (b->image && nn->stream.total >= 0)
        return nn_fail(nn, NN_EARG, "the volume is over");
    if (b->image && nn->opt.deep && nn->stream.pushed + b->n > nn->opt.deep)
        return nn_fail(nn, NN_EARG, "a volume of more than the planned %d slices", nn->opt.deep);
    if (b->image && nn->stream.pushed && (b->h != now->h || b->w != now->w))
        return nn_fail(nn, NN_EARG, "slices of one volume differ in size (%dx%d, %dx%d)", now->h,
                       now->w, b->h, b->w);
    if (b->image && (b->h < 1 || b->w < 1 || b->h % m[1] || b->w % m[2] ||
                     (double)b->h * b->w > (double)most->h * most->w))
        return nn_fail(nn, NN_EARG,
                       "height and width must be divisible by %d and %d, and the slice no larger "
                       "than the planned %dx%d (got %dx%d)",
                       m[1], m[2], most->h, most->w, b->h, b->w);
    if (out->result && !b->label && nn_stream_due(nn, b->n, !b->image))
        return nn_fail(nn, NN_EARG, "a comparison needs labels");
    return 0;
}

int nn_stream_push(struct nn *nn, const struct nn_batch *b, const struct nn_output *out)
{
    if (unusable(nn, b, out) || nn_pack(nn))
        return nn->failed;
    if (b->image)
        nn->size.h = b->h, nn->size.w = b->w;
    const bool ends = !b->image && nn->stream.total < 0;
    nn->stream = coming(nn, b->n, !b->image);
    const int n = nn->opt.deep ? push_whole(nn, b, out, ends) : run(nn, b, out);
    nn->stream.open = n >= 0;
    if (n > 0 && out->result)
        *out->result = nn->result;
    return n;
}
