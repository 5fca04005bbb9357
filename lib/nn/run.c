/* run.c - executes a plan: makes a call of each step, and keeps the views' numbers. One thing: each
 * step is a call, of one group or of all in turn, and what they sum lies between two of them. */
#include "lib/nn/handle.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- calls ------------------------------------------------------------------------------------ */

char *nn_at(const struct nn *nn, int buffer)
{
    const struct buffer *b = &nn->now->buffer[buffer < 0 ? 0 : buffer];
    return buffer < 0 || !nn->maps ? NULL : nn->maps + b->offset + (size_t)nn->group.now * b->part;
}

/* A gradient of a parameter, where the sum along the tree puts it. */
static float *slot(const struct nn *nn, int param, int at)
{
    const size_t bytes = nn_up(tensor_count(&nn->param[param].t) * sizeof(float));
    return (float *)(nn_at(nn, nn->now->dweight[param]) + (size_t)at * bytes);
}

/* From now on it is that group's. */
static void turn(struct nn *nn, int group)
{
    const size_t ops = (size_t)(group * nn->g.ops), values = (size_t)(group * (nn->g.values + 1));
    nn->group.now = group;
    nn->norm = nn->group.norm + ops;
    nn->dropped = nn->group.dropped + ops;
    nn->loss = nn->group.loss + ops;
    nn->map_at = nn->group.map_at + values;
    nn->io.batch = nn->batch + group;
    nn->size = (struct nn_size){nn->io.batch->n, nn->io.batch->d ? nn->io.batch->d : 1,
                                nn->io.batch->h, nn->io.batch->w};
}

/* Whether readers apply the view, or the writer has: in evaluation a map lies in memory as its view
 * has it, but where the numbers come of the data. */
static bool deferred(const struct nn *nn, const struct value *v)
{
    return nn->now->learn || v->planes || (v->norm >= 0 && nn->g.op[v->norm].kind->each);
}

/* How the kernels read a value that is no concatenation. */
static void operand(const struct nn *nn, int value, struct kr_in *k)
{
    const struct value *v = &nn->g.value[value];
    k->x = nn->map_at[v->root];
    if (!deferred(nn, v))
        return;
    k->relu = v->activation;
    k->slope = v->slope;
    if (v->dropout >= 0 && nn->now->learn) {
        k->scale = nn->dropped[v->dropout].scale;
        k->shift = nn->dropped[v->dropout].shift;
        k->stride = (size_t)kr_pad(v->e.c);
    } else if (v->norm >= 0) {
        const struct nn_norm *s = &nn->norm[v->norm];
        k->scale = s->scale;
        k->shift = s->shift;
        k->stride = s->rows > 1 ? (size_t)kr_pad(v->e.c) : 0;
    }
}

/* How they write a map. */
static void target(const struct nn *nn, const struct op *op, struct nn_call *c)
{
    const struct value *v = &nn->g.value[nn->g.value[op->out].last];
    struct kr_out *out = &c->out;
    out->y = nn->map_at[op->out];
    if (!deferred(nn, v)) {
        out->relu = v->activation;
        out->slope = v->slope;
        if (v->norm >= 0) {
            out->scale = nn->norm[v->norm].scale;
            out->shift = nn->norm[v->norm].shift;
        }
    } else if (v->norm >= 0 && c->pass == PASS_FORWARD &&
               (nn->now->learn || nn->g.op[v->norm].kind->each)) {
        out->sums = nn->norm[v->norm].sums;
        out->each = nn->g.op[v->norm].kind->each;
    }
}

static float *gradient_of(const struct nn *nn, int value)
{
    return (float *)nn_at(nn, nn->now->value[nn->g.value[value].root].grad);
}

/* How they write the gradient of part j of input i, the k-th map of it. */
static void wanted(const struct nn *nn, const struct op *op, int i, int j, int k, struct nn_call *c)
{
    int part = nn->g.value[op->in[i]].part[j];
    const struct value *v = &nn->g.value[part];
    const struct plan_op *o = &nn->now->op[op->id];
    struct kr_dx *dx = &c->dx[i][k];
    *dx = (struct kr_dx){.c = v->e.c};
    if (v->fixed)
        return;
    dx->dx = gradient_of(nn, part);
    dx->accumulate = !o->first[i][j];
    if (!o->final[i][j])
        return;
    if (v->activation || v->norm >= 0)
        dx->act = &c->in[i][k];
    if (v->dropout >= 0)
        dx->gain = nn->dropped[v->dropout].gain;
    if (v->norm >= 0) {
        dx->sums = nn->norm[v->norm].sums;
        dx->each = nn->g.op[v->norm].kind->each;
    }
}

/* The loss that reads a head, or the operation's own. */
static struct nn_loss_state *loss_of(const struct nn *nn, const struct op *op)
{
    if (op->kind->effect == NN_LOSS)
        return &nn->loss[op->id];
    for (int i = 0; i < nn->g.ops && op->kind->effect == NN_HEAD; i++)
        if (nn->g.op[i].kind->effect == NN_LOSS && nn->g.op[i].in[0] == op->out)
            return &nn->loss[i];
    return NULL;
}

static void fill(struct nn *nn, const struct op *op, enum nn_pass pass, int threads,
                 struct nn_call *c)
{
    const struct graph *g = &nn->g;
    const struct plan *p = nn->now;
    const struct nn_groups *groups = &nn->opt.groups;
    bool back = pass == PASS_DATA || pass == PASS_BACKWARD;
    *c = nn_planned(p, op, pass, &nn->size, threads);
    c->beside.before = nn->beside.before;
    c->beside.behind = nn->beside.behind;
    c->beside.phase += nn->beside.phase;
    for (int i = 0; i < op->ins; i++)
        for (int j = 0, k = 0; j < 2; j++)
            if (g->value[op->in[i]].part[j] >= 0) {
                operand(nn, g->value[op->in[i]].part[j], &c->in[i][k]);
                if (back)
                    wanted(nn, op, i, j, k, c);
                k++;
            }
    if (op->out >= 0 && g->value[op->out].root == op->out) {
        target(nn, op, c);
        c->dy.dy = p->learn ? gradient_of(nn, op->out) : NULL;
        if (p->learn && p->op[op->id].behind) {
            const struct nn_norm *s = &nn->norm[g->value[g->value[op->out].last].norm];
            c->dy.x = (const float *)nn->map_at[op->out];
            c->dy.k = s->k;
            c->dy.stride = s->rows > 1 ? 3 * (size_t)kr_pad(c->y.c) : 0;
        }
    }
    for (int i = 0; i < op->params; i++) {
        const struct stored *q = &nn->param[op->param[i]];
        if (!g->param[op->param[i]].trained)
            c->statistic[i] = q->t.data;
        c->param[i] = q->widened ? (const float *)nn_at(nn, p->wide[op->param[i]]) : q->t.data;
        if (p->learn && g->param[op->param[i]].trained)
            c->grad[i] = p->stepwise ? slot(nn, op->param[i], nn_slot(nn->group.now)) : q->grad;
    }
    c->packed = op->params ? nn->param[op->param[0]].packed : NULL;
    c->norm = &nn->norm[op->id];
    c->gain = nn->dropped[op->id].gain;
    c->loss = loss_of(nn, op);
    c->first = op->id == g->loss;
    c->io = &nn->io;
    c->step = nn->steps;
    c->before =
        groups->all == 1
            ? nn->gathered
            : (nn->batches * (uint64_t)groups->all + (uint64_t)(groups->first + nn->group.now)) *
                  (uint64_t)nn->opt.n;
    c->failed = &nn->failed;
    c->why = nn->why;
    c->size = sizeof nn->why;
}

/* A batch of another shape than the plan's takes as many threads as the step's workspace has room
 * for. One that is higher or wider may ask for more than there is. */
static int workspace(struct nn *nn, const struct step *s, struct nn_call *c)
{
    const struct plan *p = nn->now;
    const struct nn_kind *kind = nn->g.op[s->op].kind;
    size_t bytes = 0, have = s->workspace < 0 ? 0 : p->buffer[s->workspace].bytes;
    c->workspace = nn_at(nn, s->workspace);
    if (!kind->workspace || (!p->flow && !memcmp(&nn->size, &p->size, sizeof p->size)))
        return 0;
    while ((bytes = kind->workspace(c)) > have && c->threads > 1)
        c->threads--;
    if (bytes <= have)
        return 0;
    if (bytes > nn->spare_bytes) {
        free(nn->spare);
        nn->spare_bytes = 0;
        if (!(nn->spare = aligned_alloc(64, nn_up(bytes))))
            return nn_fail(nn, NN_EMEM, "no memory: %zu bytes", bytes);
        nn->spare_bytes = bytes;
    }
    c->workspace = nn->spare;
    return 0;
}

/* --- views ------------------------------------------------------------------------------------ */

/* A dropout's numbers are those of the normalisation under it, multiplied: max(m * v, s * m * v) =
 * m * max(v, s * v) for m >= 0. */
static void fold(struct nn *nn, const struct op *op, const struct nn_call *c)
{
    const struct value *v = &nn->g.value[op->out];
    struct dropped *d = &nn->dropped[op->id];
    int slices = c->y.n * c->y.d;
    size_t cp = (size_t)kr_pad(c->y.c);
    if (v->norm < 0) {
        memcpy(d->scale, d->gain, (size_t)slices * cp * sizeof *d->scale);
        memset(d->shift, 0, (size_t)slices * cp * sizeof *d->shift);
        return;
    }
    const struct nn_norm *s = &nn->norm[v->norm];
    const int step = s->rows > 1 ? 1 : slices; /* slices that share its numbers */
    for (int i = 0; i < slices; i += step) {
        size_t to = (size_t)i * cp, from = step == 1 ? to : 0;
        kr_dropout_fold(step, c->y.c, d->gain + to, s->scale + from, d->scale + to);
        kr_dropout_fold(step, c->y.c, d->gain + to, s->shift + from, d->shift + to);
    }
}

/* The gradient of a view becomes that of the map under it, unless the map's writer does that as it
 * reads. */
static void apply(struct nn *nn, const struct op *op, int threads)
{
    const struct value *v = &nn->g.value[op->out];
    const struct nn_norm *s = &nn->norm[op->id];
    if (nn->now->op[nn->g.value[v->root].writer].behind)
        return;
    struct nn_shape y = nn_shape_of(v, &nn->size);
    struct kr_dims d = nn_slices(&y, threads);
    float *dy = gradient_of(nn, op->out);
    kr_bn_apply(&d, y.c, dy, nn->map_at[v->root], nn_narrow(nn->now, v->root) ? KR_BF16 : KR_F32,
                s->k, s->rows > 1 ? 3 * (size_t)kr_pad(y.c) : 0, dy);
}

/* --- groups, and several processes ------------------------------------------------------------ */

/* Calls add(ctx, to, from) for each pair of the tree of so many groups. */
static void along_tree(int groups, void (*add)(void *ctx, int to, int from), void *ctx)
{
    for (int step = 1; step < groups; step *= 2)
        for (int i = 0; i + step < groups; i += 2 * step)
            add(ctx, i, i + step);
}

struct over_groups {
    struct nn *nn;
    int op;
    size_t n;
};

static void add_norms(void *ctx, int to, int from)
{
    const struct over_groups *s = ctx;
    double *x = s->nn->group.norm[to * s->nn->g.ops + s->op].sums;
    const double *y = s->nn->group.norm[from * s->nn->g.ops + s->op].sums;
    for (size_t i = 0; i < s->n; i++)
        x[i] += y[i];
}

/* Sums over a group become sums over the batch, of all processes, in the first group's place;
 * statistics of each sample are whole in their process. */
static int agree(struct nn *nn, const struct op *op, const struct nn_call *c)
{
    const struct nn_hooks *h = &nn->opt.hooks;
    struct nn_norm *s = &nn->norm[op->id];
    const size_t n = 2 * (size_t)kr_pad(c->y.c);
    struct over_groups all = {nn, op->id, n + 1};
    s->count = nn_pixels(&c->y);
    if (op->kind->each || !nn->now->learn || (!h->sums && nn->now->groups == 1))
        return 0;
    for (int i = 0; i < nn->now->groups; i++) {
        const struct nn_batch *b = &nn->batch[i];
        const struct nn_size size = {b->n, b->d ? b->d : 1, b->h, b->w};
        const struct nn_shape y = nn_shapes(&nn->g, op, &size).y;
        double *sums = nn->group.norm[i * nn->g.ops + op->id].sums;
        sums[n] = (double)nn_pixels(&y);
        if (!b->n)
            memset(sums, 0, (n + 1) * sizeof *sums);
    }
    along_tree(nn->now->groups, add_norms, &all);
    if (h->sums && h->sums(h->ctx, s->sums, n + 1))
        return nn_fail(nn, NN_ESTOP, "the processes could not agree");
    s->count = (size_t)s->sums[n];
    return 0;
}

static void add_losses(void *ctx, int to, int from)
{
    const struct over_groups *s = ctx;
    struct nn_loss_state *of = s->nn->group.loss + s->op;
    kr_loss_add(&of[to * s->nn->g.ops].sums, &of[from * s->nn->g.ops].sums);
}

/* The sums of a loss, likewise; then each group's backward pass begins with them. */
static void settle(struct nn *nn, const struct op *op, const struct nn_call *first)
{
    struct over_groups all = {nn, op->id, 0};
    for (int i = 0; i < nn->now->groups; i++)
        if (nn->now->learn && !nn->batch[i].n)
            nn->group.loss[i * nn->g.ops + op->id].sums = (struct kr_loss_sums){0};
    along_tree(nn->now->groups, add_losses, &all);
    op->kind->settle(first);
    for (int i = 1; i < nn->now->groups; i++)
        nn->group.loss[i * nn->g.ops + op->id].sums = nn->group.loss[op->id].sums;
}

static void narrow(const struct nn *nn, float *x, size_t n)
{
#pragma omp parallel for simd schedule(static) num_threads(nn->opt.threads)
    for (size_t i = 0; i < n; i++)
        x[i] = bf16_rounded(x[i]);
}

/* The group's gradients of parameters join those of the groups before it. */
static void join(struct nn *nn, const struct op *op, int group)
{
    const int last = nn->now->groups - 1;
    for (int i = 0; i < op->params; i++) {
        const int q = op->param[i];
        const size_t n = tensor_count(&nn->param[q].t);
        if (!nn_agreed(&nn->g, q))
            continue;
        if (!nn->batch[group].n)
            memset(slot(nn, q, nn_slot(group)), 0, n * sizeof(float));
        if (nn->opt.groups.narrow)
            narrow(nn, slot(nn, q, nn_slot(group)), n);
        for (int at = nn_slot(group), odd = group; at && (odd & 1 || group == last);
             at--, odd >>= 1) {
            float *to = slot(nn, q, at - 1);
            const float *from = slot(nn, q, at);
#pragma omp parallel for simd schedule(static) num_threads(nn->opt.threads)
            for (size_t j = 0; j < n; j++)
                to[j] += from[j];
            if (nn->opt.groups.narrow)
                narrow(nn, to, n);
        }
    }
}

/* --- steps ------------------------------------------------------------------------------------ */

static int trap(struct nn *nn, const struct op *op, const char *what, size_t n, const void *x,
                enum kr_dtype dtype)
{
    if (x && kr_find_nonfinite(n, x, dtype, nn->opt.threads) >= 0)
        return nn_fail(nn, NN_ENAN, "%s: its %s is the first value that is not finite", op->name,
                       what);
    return 0;
}

/* Looks at what the step wrote. */
static void look(struct nn *nn, const struct op *op, const struct nn_call *c)
{
    const struct graph *g = &nn->g;
    bool forward = c->pass == PASS_FORWARD || c->pass == PASS_RECOMPUTE;
    bool data = c->pass == PASS_DATA || c->pass == PASS_BACKWARD;
    if (forward && op->out >= 0 && g->value[op->out].root == op->out)
        trap(nn, op, "output", nn_pixels(&c->y) * (size_t)nn_lanes(&g->value[op->out]), c->out.y,
             c->out.dtype);
    for (int i = 0; i < op->params && !forward && !nn->failed; i++)
        if (c->grad[i] && c->pass != PASS_DATA)
            trap(nn, op, "weights' gradient", tensor_count(&g->param[op->param[i]].t), c->grad[i],
                 KR_F32);
    for (int i = 0; data && i < op->ins; i++)
        for (int j = 0; j < c->parts[i] && !nn->failed; j++)
            trap(nn, op, "input's gradient", nn_pixels(&c->x[i]) * (size_t)kr_pad(c->dx[i][j].c),
                 c->dx[i][j].dx, KR_F32);
}

static void widen(struct nn *nn, const struct op *op)
{
    enum { PIECE = 1 << 16 };
    for (int i = 0; i < op->params; i++) {
        const struct stored *q = &nn->param[op->param[i]];
        if (!q->widened)
            continue;
        float *wide = (float *)nn_at(nn, nn->now->wide[op->param[i]]);
        size_t n = tensor_count(&q->raw);
#pragma omp parallel for schedule(static) num_threads(nn->opt.threads)
        for (size_t at = 0; at < n; at += PIECE)
            tensor_to_f32(&q->raw, at, n - at < PIECE ? n - at : PIECE, wide + at);
    }
}

/* What becomes of gradients that are whole, or begins to. */
static void update(struct nn *nn, const struct op *op, bool start)
{
    const struct nn_hooks *h = &nn->opt.hooks;
    for (int i = 0; i < op->params; i++) {
        int q = op->param[i];
        if (!nn->g.param[q].trained)
            continue;
        const size_t n = tensor_count(&nn->param[q].t);
        const struct nn_part at = nn_part(nn, q);
        float *grad = slot(nn, q, 0);
        int (*hook)(void *, float *, size_t) = start ? h->start : h->gradient;
        if (hook && nn_agreed(&nn->g, q) && hook(h->ctx, grad, n)) {
            nn_fail(nn, NN_ESTOP, "the processes could not agree");
            return;
        }
        if (start)
            continue;
        if (nn->opt.accumulate)
            nn_gather(nn, q, grad);
        else if (nn_keeps_gradient(nn))
            memcpy(nn->param[q].grad + at.from, grad + at.from, at.n * sizeof *grad);
        else if (nn_step(nn, q, grad, 1))
            return;
    }
}

void nn_all_norms(struct nn *nn, bool commit)
{
    for (int i = 0; i < nn->g.ops; i++) {
        const struct op *op = &nn->g.op[i];
        void (*f)(const struct nn_call *) = commit ? op->kind->commit : op->kind->prepare;
        struct nn_call c;
        if (!f)
            continue;
        fill(nn, op, PASS_FORWARD, 1, &c);
        f(&c);
    }
}

/* A step of the group whose turn it is, and the call that was made. `made`: what a normalisation
 * makes of its sums, for all groups, is there. */
static void go(struct nn *nn, const struct step *s, bool made, struct nn_call *c)
{
    const struct op *op = &nn->g.op[s->op];
    const struct nn_kind *kind = op->kind;
    if (s->pass == PASS_RECOMPUTE)
        nn->map_at[op->out] = nn_at(nn, nn->now->value[op->out].again);
    fill(nn, op, s->pass, s->threads, c);
    if (workspace(nn, s, c))
        return;
    if (made) {
        if (s->pass == PASS_DATA)
            apply(nn, op, s->threads);
        return;
    }
    if (kind->effect == NN_NORM && agree(nn, op, c))
        return;
    switch (s->pass) {
    case PASS_RECOMPUTE:
    case PASS_FORWARD:
        widen(nn, op);
        kind->forward(c);
        if (kind->effect == NN_DROPOUT)
            fold(nn, op, c);
        break;
    case PASS_WEIGHT:
        kind->weight(c);
        break;
    case PASS_DATA:
        kind->data(c);
        if (kind->effect == NN_NORM && c->y.n)
            apply(nn, op, s->threads);
        break;
    case PASS_BACKWARD:
        kind->backward(c);
        break;
    case PASS_START:
    case PASS_UPDATE:
        break;
    }
    if (nn->opt.trap && !nn->failed)
        look(nn, op, c);
}

void nn_do(struct nn *nn, const struct step *s)
{
    const struct op *op = &nn->g.op[s->op];
    const struct nn_kind *kind = op->kind;
    const bool once = nn->now->learn && kind->effect == NN_NORM && !kind->each;
    const bool gradients = s->pass == PASS_WEIGHT || s->pass == PASS_BACKWARD ||
                           (s->pass == PASS_DATA && !kind->weight);
    struct nn_call c, first;
    if (s->pass == PASS_UPDATE || s->pass == PASS_START) {
        update(nn, op, s->pass == PASS_START);
        return;
    }
    for (int i = 0; i < nn->now->groups && !nn->failed; i++) {
        if (nn->now->groups > 1)
            turn(nn, i);
        if (nn->size.n || (once && !i))
            go(nn, s, once && i, i ? &c : &first);
        else if (!i)
            fill(nn, op, s->pass, s->threads, &first);
        if (gradients && nn->now->learn && !nn->failed && nn->now->stepwise)
            join(nn, op, i);
    }
    if (nn->now->groups > 1)
        turn(nn, 0);
    if (kind->effect == NN_LOSS && s->pass == PASS_FORWARD && !nn->failed)
        settle(nn, op, &first);
}

int nn_run(struct nn *nn, const struct plan *p, const struct nn_batch *b,
           const struct nn_output *out)
{
    const struct nn_hooks *h = &nn->opt.hooks;
    int last = 0; /* of the losses */
    nn->now = p;
    nn->beside = (struct nn_beside){0};
    nn->io = (struct nn_io){.output = out, .result = &nn->result, .hooks = &nn->opt.hooks};
    nn->batch = b;
    nn->failed = 0;
    nn->result = (struct nn_result){0};
    for (int k = p->groups - 1; k >= 0; k--) {
        turn(nn, k);
        nn->result.samples += (uint64_t)b[k].n;
        for (int i = 0; i < nn->g.values; i++)
            nn->map_at[i] = i == p->image    ? (char *)(uintptr_t)b[k].image
                            : i == p->logits ? (char *)out->logits
                                             : nn_at(nn, p->value[i].map);
    }
    for (int i = 0; i < nn->g.ops; i++)
        last = nn->g.op[i].kind->effect == NN_LOSS ? i : last;
    if (!p->learn)
        nn_all_norms(nn, false);
    for (int i = 0; i < p->steps; i++) {
        if (h->cancel && h->cancel(h->ctx))
            return nn_fail(nn, NN_ESTOP, "cancelled");
        nn_do(nn, &p->step[i]);
        if (nn->failed)
            return nn->failed;
        if (h->progress)
            h->progress(h->ctx, i + 1, p->steps);
        if (p->learn && p->step[i].op == last && p->step[i].pass == PASS_FORWARD) {
            if (!isfinite(nn->result.loss))
                return nn_fail(nn, NN_ENAN, "the loss is not finite");
            nn_all_norms(nn, true);
        }
    }
    return 0;
}

/* --- the handle's calls ----------------------------------------------------------------------- */

static int usable(struct nn *nn, const struct plan *p, const struct nn_batch *b)
{
    const int *m = nn->g.multiple, d = b->d ? b->d : 1;
    if (!nn->ready)
        return nn_fail(nn, NN_EARG, "the network has no parameters yet");
    const int least = p->learn && nn->opt.groups.all > 1 ? 0 : 1;
    if (b->n < least || d < 1 || b->h < 1 || b->w < 1 || d % m[0] || b->h % m[1] || b->w % m[2])
        return nn_fail(
            nn, NN_EARG,
            "depth, height and width must be divisible by %d, %d and %d (got %dx%dx%dx%d)", m[0],
            m[1], m[2], b->n, d, b->h, b->w);
    double size = (double)b->n * d * b->h * b->w;
    double most = (double)p->size.n * p->size.d * p->size.h * p->size.w;
    bool rows = p->learn || nn->each; /* tables have so many */
    if (size > most || (rows && b->n * d > p->size.n * p->size.d))
        return nn_fail(nn, NN_EARG, "a batch of %dx%dx%dx%d exceeds the planned %dx%dx%dx%d", b->n,
                       d, b->h, b->w, p->size.n, p->size.d, p->size.h, p->size.w);
    return 0;
}

static int learn(struct nn *nn, const struct nn_batch *b, const struct nn_output *out)
{
    for (int i = 0; i < nn->opt.groups.own; i++)
        if (usable(nn, &nn->plans.train, &b[i]))
            return nn->failed;
    if (out && out->logits && nn->opt.groups.all > 1)
        return nn_fail(nn, NN_EARG, "groups give no logits");
    if (nn_run(nn, &nn->plans.train, b, out))
        return nn->failed;
    nn->gathered += nn->opt.accumulate ? nn->result.samples : 0;
    nn->batches += nn->opt.accumulate;
    return 0;
}

int nn_backward(struct nn *nn, const struct nn_batch *b, struct nn_result *result, float *logits)
{
    struct nn_output out = {.logits = logits};
    if (!nn->opt.train || !(nn->opt.gradients || nn->opt.accumulate))
        return nn_fail(nn, NN_EARG, "the network was not planned with its whole gradient");
    if (learn(nn, b, &out))
        return nn->failed;
    if (result)
        *result = nn->result;
    return 0;
}

int nn_train(struct nn *nn, const struct nn_batch *b, double rate, struct nn_result *result)
{
    if (!nn->opt.train)
        return nn_fail(nn, NN_EARG, "the network was not planned for training");
    nn->rate = rate;
    if (learn(nn, b, NULL))
        return nn->failed;
    if (nn_keeps_gradient(nn) ? nn_update(nn, rate) : nn_arrived(nn))
        return nn->failed;
    if (!nn_keeps_gradient(nn))
        nn->steps++;
    if (result)
        *result = nn->result;
    return 0;
}

int nn_infer(struct nn *nn, const struct nn_batch *b, const struct nn_output *out)
{
    if (nn->opt.stream)
        return nn_fail(nn, NN_EARG, "the network was planned for a stream of slices");
    if (usable(nn, &nn->plans.eval, b))
        return nn->failed;
    if (out->result && !b->label)
        return nn_fail(nn, NN_EARG, "a comparison needs labels");
    if (nn->opt.bare && !out->logits)
        return nn_fail(nn, NN_EARG, "the network was planned for logits of the caller's");
    if (nn_pack(nn))
        return nn->failed;
    if (nn_run(nn, &nn->plans.eval, b, out))
        return nn->failed;
    if (out->result)
        *out->result = nn->result;
    return 0;
}
