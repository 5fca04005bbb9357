/* run.c - executes a plan: what operations ask of it, and the steps one by one. */
#include "lib/nn/net.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int nn_fail(struct nn *nn, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(nn->why, sizeof nn->why, fmt, ap);
    va_end(ap);
    return nn->failed = code;
}

/* --- what operations ask -----------------------------------------------------------------------*/

static char *place(const struct nn *nn, int buffer)
{
    return buffer < 0 || !nn->maps ? NULL : nn->maps + nn->now->buffer[buffer].offset;
}

struct kr_dims nn_dims(const struct nn *nn, int value)
{
    int level = nn->g.value[value].level;
    return (struct kr_dims){
        .n = nn->n, .h = nn->h >> level, .w = nn->w >> level, .threads = nn->threads};
}

struct kr_planes nn_planes(const struct nn *nn, int value)
{
    const struct kr_dims d = nn_dims(nn, value);
    return (struct kr_planes){d.n, 1, d.h, d.w, nn->g.value[value].c, d.threads};
}

/* When learning, a map lies in memory as its convolution made it, and the view is applied by
 * whoever reads; in use it lies there as the view has it. */
int nn_operands(const struct nn *nn, int value, struct kr_in *in)
{
    int n = 0;
    for (int i = 0; i < 2; i++) {
        int part = nn->g.value[value].part[i];
        if (part < 0)
            continue;
        const struct value *v = &nn->g.value[part];
        struct kr_in *k = &in[n++];
        *k = (struct kr_in){.x = nn->map_at[v->root],
                            .c = v->c,
                            .dtype = nn->now->narrow[v->root] ? KR_BF16 : KR_F32,
                            .planar = part == nn->now->image};
        if (!nn->now->learn)
            continue;
        k->relu = v->relu;
        if (v->drop >= 0) {
            k->scale = nn->dropout[v->drop].scale;
            k->shift = nn->dropout[v->drop].shift;
            k->stride = (size_t)kr_pad(v->c);
        } else if (v->norm >= 0) {
            k->scale = nn->norm[v->norm].scale;
            k->shift = nn->norm[v->norm].shift;
        }
    }
    return n;
}

struct kr_out nn_target(const struct nn *nn, const struct op *op)
{
    const struct value *v = &nn->g.value[nn->g.value[op->out].last];
    struct kr_out out = {
        .y = nn->map_at[op->out], .c = v->c, .dtype = nn->now->narrow[op->out] ? KR_BF16 : KR_F32};
    if (!nn->now->learn) {
        out.relu = v->relu;
        if (v->norm >= 0) {
            out.scale = nn->norm[v->norm].scale;
            out.shift = nn->norm[v->norm].shift;
        }
    } else if (v->norm >= 0 && nn->at->pass == PASS_FORWARD) {
        out.sums = nn->norm[v->norm].sums;
    }
    return out;
}

float *nn_dy(const struct nn *nn, int value)
{
    return (float *)place(nn, nn->now->grad[nn->g.value[value].root]);
}

void nn_dx(const struct nn *nn, const struct op *op, int input, const struct kr_in *in,
           struct kr_dx *dx)
{
    int n = 0;
    for (int i = 0; i < 2; i++) {
        int part = nn->g.value[op->in[input]].part[i];
        if (part < 0)
            continue;
        const struct value *v = &nn->g.value[part];
        dx[n] = (struct kr_dx){.c = v->c};
        if (!v->fixed) {
            dx[n].dx = nn_dy(nn, part);
            dx[n].accumulate = !nn->now->first[op->id][input + i];
            if (nn->now->final[op->id][input + i] && (v->relu || v->norm >= 0)) {
                dx[n].act = &in[n];
                dx[n].gain = v->drop >= 0 ? nn->dropout[v->drop].gain : NULL;
                dx[n].sums = v->norm >= 0 ? nn->norm[v->norm].sums : NULL;
            }
        }
        n++;
    }
}

float *nn_aux(const struct nn *nn, const struct op *op)
{
    return (float *)place(nn, nn->now->aux[op->id]);
}

const float *nn_weight(const struct nn *nn, const struct op *op, int i)
{
    if (i >= op->nparams)
        return NULL;
    const struct param *p = &nn->g.param[op->param[i]];
    return p->widened ? (const float *)place(nn, nn->now->wide[op->param[i]]) : p->t.data;
}

float *nn_dweight(const struct nn *nn, const struct op *op, int i)
{
    if (i >= op->nparams)
        return NULL;
    int p = op->param[i];
    return nn->stepwise ? (float *)place(nn, nn->now->dweight[p]) : nn->g.param[p].grad;
}

/* A batch of another shape than the plan's takes as many threads as the step's workspace has room
 * for. One that is higher or wider may ask for more than there is. */
static int spare(struct nn *nn, const struct op *op)
{
    const struct plan *p = nn->now;
    size_t bytes = 0, have = nn->at->workspace < 0 ? 0 : p->buffer[nn->at->workspace].bytes;
    nn->threads = nn->at->threads;
    if (!op->kind->workspace || (nn->n == p->n && nn->h == p->h && nn->w == p->w))
        return 0;
    while ((bytes = op->kind->workspace(nn, op, nn->at->pass)) > have && nn->threads > 1)
        nn->threads--;
    if (bytes <= have || bytes <= nn->spare_bytes)
        return 0;
    free(nn->spare);
    nn->spare_bytes = 0;
    if (!(nn->spare = aligned_alloc(64, nn_up(bytes))))
        return nn_fail(nn, NN_EMEM, "no memory: %zu bytes", bytes);
    nn->spare_bytes = bytes;
    return 0;
}

void *nn_workspace(struct nn *nn)
{
    const struct plan *p = nn->now;
    const struct op *op = &nn->g.op[nn->at->op];
    if (nn->spare && op->kind->workspace) {
        size_t bytes = op->kind->workspace(nn, op, nn->at->pass);
        if (bytes > (nn->at->workspace < 0 ? 0 : p->buffer[nn->at->workspace].bytes))
            return nn->spare;
    }
    return place(nn, nn->at->workspace);
}

/* --- execution ---------------------------------------------------------------------------------*/

static int trap(struct nn *nn, const struct op *op, const char *what, size_t n, const void *x,
                enum kr_dtype dtype)
{
    if (x && kr_find_nonfinite(n, x, dtype, nn->opt.threads) >= 0)
        return nn_fail(nn, NN_ENAN, "%s: its %s is the first value that is not finite", op->name,
                       what);
    return 0;
}

/* Looks at what the step wrote. */
static int check(struct nn *nn, const struct step *s, const struct op *op)
{
    const struct graph *g = &nn->g;
    if ((s->pass == PASS_FORWARD || s->pass == PASS_AGAIN) && op->out >= 0 && !op->kind->view) {
        struct kr_dims d = nn_dims(nn, op->out);
        size_t n = (size_t)d.n * (size_t)d.h * (size_t)d.w * (size_t)nn_lanes(&g->value[op->out]);
        return trap(nn, op, "output", n, nn->map_at[op->out],
                    nn->now->narrow[op->out] ? KR_BF16 : KR_F32);
    }
    if (s->pass == PASS_WEIGHT || s->pass == PASS_BACKWARD)
        for (int i = 0; i < op->nparams && !nn->failed; i++)
            if (g->param[op->param[i]].trained)
                trap(nn, op, "weights' gradient", tensor_count(&g->param[op->param[i]].t),
                     nn_dweight(nn, op, i), KR_F32);
    bool data = s->pass == PASS_DATA || s->pass == PASS_BACKWARD;
    for (int i = 0; data && i < op->nin; i++)
        for (int j = 0; j < 2 && !nn->failed; j++) {
            int part = g->value[op->in[i]].part[j];
            if (part < 0 || g->value[part].fixed)
                continue;
            struct kr_dims d = nn_dims(nn, part);
            trap(nn, op, "input's gradient",
                 (size_t)d.n * (size_t)d.h * (size_t)d.w * (size_t)kr_pad(g->value[part].c),
                 nn_dy(nn, part), KR_F32);
        }
    return nn->failed;
}

static void widen(struct nn *nn, const struct op *op)
{
    enum { PIECE = 1 << 16 };
    for (int i = 0; i < op->nparams; i++) {
        const struct param *p = &nn->g.param[op->param[i]];
        if (!p->widened)
            continue;
        float *wide = (float *)place(nn, nn->now->wide[op->param[i]]);
        size_t n = tensor_count(&p->raw);
#pragma omp parallel for schedule(static) num_threads(nn->opt.threads)
        for (size_t at = 0; at < n; at += PIECE)
            tensor_to_f32(&p->raw, at, n - at < PIECE ? n - at : PIECE, wide + at);
    }
}

static void update(struct nn *nn, const struct op *op)
{
    for (int i = 0; i < op->nparams; i++)
        if (nn->g.param[op->param[i]].trained)
            nn_step(nn, op->param[i], 1);
}

/* The loss is the last operation; once it is known to be finite the running statistics may move. */
static void commit(struct nn *nn)
{
    for (int i = 0; i < nn->g.ops; i++)
        if (nn->g.op[i].gamma >= 0)
            nn_norm_commit(nn, &nn->g.op[i]);
}

static int run(struct nn *nn, const struct plan *p, const struct nn_batch *b,
               const struct nn_output *out)
{
    nn->now = p;
    nn->n = b->n, nn->h = b->h, nn->w = b->w;
    nn->batch = b;
    nn->output = out;
    nn->failed = 0;
    for (int i = 0; i < nn->g.values; i++)
        nn->map_at[i] = i == p->image ? (char *)(uintptr_t)b->image : place(nn, p->map[i]);
    for (int i = 0; i < p->steps; i++) {
        const struct step *s = nn->at = &p->step[i];
        const struct op *op = &nn->g.op[s->op];
        if (spare(nn, op))
            return nn->failed;
        switch (s->pass) {
        case PASS_AGAIN:
            nn->map_at[op->out] = place(nn, p->again[op->out]);
            /* fallthrough */
        case PASS_FORWARD:
            widen(nn, op);
            op->kind->forward(nn, op);
            break;
        case PASS_WEIGHT:
            op->kind->weight(nn, op);
            break;
        case PASS_DATA:
            op->kind->data(nn, op);
            break;
        case PASS_BACKWARD:
            op->kind->backward(nn, op);
            break;
        case PASS_UPDATE:
            update(nn, op);
            break;
        }
        if (nn->opt.trap && !nn->failed)
            check(nn, s, op);
        if (nn->failed)
            return nn->failed;
        if (p->learn && s->pass == PASS_FORWARD && op->out < 0)
            commit(nn);
    }
    return 0;
}

static int usable(struct nn *nn, const struct plan *p, const struct nn_batch *b)
{
    if (!nn->ready)
        return nn_fail(nn, NN_EARG, "the network has no parameters yet");
    if (b->n < 1 || b->h < 16 || b->w < 16 || b->h % 16 || b->w % 16)
        return nn_fail(nn, NN_EARG, "height and width must be divisible by 16 (got %dx%dx%d)", b->n,
                       b->h, b->w);
    double size = (double)b->n * b->h * b->w, most = (double)p->n * p->h * p->w;
    if (size > most || (p->learn && b->n > p->n))
        return nn_fail(nn, NN_EARG, "a batch of %dx%dx%d exceeds the planned %dx%dx%d", b->n, b->h,
                       b->w, p->n, p->h, p->w);
    return 0;
}

int nn_backward(struct nn *nn, const struct nn_batch *b, struct nn_result *result, float *logits)
{
    struct nn_output out = {.logits = logits};
    if (!nn->opt.train || !nn->opt.gradients)
        return nn_fail(nn, NN_EARG, "the network was not planned with its whole gradient");
    if (usable(nn, &nn->train, b) || run(nn, &nn->train, b, &out))
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
    if (usable(nn, &nn->train, b) || run(nn, &nn->train, b, NULL))
        return nn->failed;
    if (!nn->stepwise && nn_update(nn, rate))
        return nn->failed;
    if (nn->stepwise)
        nn->steps++;
    if (result)
        *result = nn->result;
    return 0;
}

int nn_infer(struct nn *nn, const struct nn_batch *b, const struct nn_output *out)
{
    if (usable(nn, &nn->eval, b))
        return nn->failed;
    if (out->result && !b->label)
        return nn_fail(nn, NN_EARG, "a comparison needs labels");
    for (int i = 0; i < nn->g.ops; i++)
        if (nn->g.op[i].gamma >= 0) {
            struct kr_bn bn = nn_bn(nn, &nn->g.op[i]);
            kr_bn_eval(&bn);
        }
    if (run(nn, &nn->eval, b, out))
        return nn->failed;
    if (out->result)
        *out->result = nn->result;
    return 0;
}
