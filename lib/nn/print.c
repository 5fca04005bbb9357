/* print.c - describes a network and its plan in lines of text. */
#include "lib/nn/handle.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

struct sink {
    void (*line)(void *ctx, const char *text);
    void *ctx;
};

__attribute__((format(printf, 2, 3))) static void say(const struct sink *s, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->line(s->ctx, text);
}

static double mib(size_t bytes)
{
    return (double)bytes / (1 << 20);
}

void nn_print(const struct nn *nn, void (*line)(void *ctx, const char *text), void *ctx)
{
    const struct graph *g = &nn->g;
    const struct nn_options *o = &nn->opt;
    const struct nn_memory *m = &nn->memory;
    const struct plan *p = o->train ? &nn->plans.train : &nn->plans.eval;
    struct sink s = {line, ctx};
    size_t weights = 0;
    double flops = 0;
    int again = 0, narrow = 0;
    for (int i = 0; i < g->params; i++)
        weights += g->param[i].trained ? tensor_count(&g->param[i].t) : 0;
    say(&s, "%s: %d channels in, %d classes, %zu weights", nn->name, nn_inputs(nn), nn_classes(nn),
        weights);
    if (o->deep)
        say(&s, "a stream of slices of %dx%d, volumes of up to %d as a whole", o->eval_h, o->eval_w,
            o->deep);
    else if (o->stream)
        say(&s, "a stream of slices of %dx%d, %d at once, %d behind", o->eval_h, o->eval_w,
            o->stream, nn_stream(nn).lag);
    say(&s, "%s, batch %d of %dx%d, %d thread%s, kernels %s", o->train ? "training" : "inference",
        p->size.n, p->size.h, p->size.w, o->threads, o->threads == 1 ? "" : "s", kr_level());
    say(&s, "%-28s %-22s %-18s %10s %9s", "operation", "kind", "output", "weights", "MFLOP");
    for (int i = 0; i < g->ops; i++) {
        const struct op *op = &g->op[i];
        char shape[64] = "-", note[32] = "";
        size_t own = 0;
        for (int j = 0; j < op->params; j++)
            if (g->param[op->param[j]].trained)
                own += tensor_count(&g->param[op->param[j]].t);
        double f = 0;
        if (op->out >= 0) {
            const struct value *v = &g->value[op->out];
            struct nn_shape y = nn_shape_of(v, &p->size);
            if (y.d > 1)
                snprintf(shape, sizeof shape, "%dx%dx%dx%d", y.c, y.d, y.h, y.w);
            else
                snprintf(shape, sizeof shape, "%dx%dx%d", y.c, y.h, y.w);
            f = nn_flops(p, op) / p->size.n;
            if (v->root == op->out && p->choice[op->out].recompute)
                snprintf(note, sizeof note, "  recomputed"), again++;
            if (v->root == op->out && nn_narrow(p, op->out))
                snprintf(note, sizeof note, "  bf16"), narrow++;
        }
        flops += f;
        say(&s, "%-28s %-22s %-18s %10zu %9.1f%s", op->name, op->kind->name, shape, own, f / 1e6,
            note);
    }
    say(&s, "%.2f GFLOP forward for each sample", flops / 1e9);
    if (o->train)
        say(&s, "%d maps recomputed, %d kept as bf16, moments %s, gradient %s", again, narrow,
            nn->plans.moments_narrow ? "bf16" : "f32",
            nn->opt.accumulate      ? "added up"
            : nn_keeps_gradient(nn) ? "kept whole"
                                    : "used up parameter by parameter");
    if (o->groups.all > 1)
        say(&s, "such batches are groups of one: %d in all, %d of them here", o->groups.all,
            o->groups.own);
    say(&s, "memory: parameters %.1f, gradients %.1f, moments %.1f, maps %.1f, fixed %.1f MiB",
        mib(m->parameters), mib(m->gradients), mib(m->moments), mib(m->maps), mib(m->fixed));
    if (m->common)
        say(&s, "of these, the processes of this machine have %.1f MiB once", mib(m->common));
    say(&s, "peak: %.1f MiB", ceil(mib(m->peak) * 10) / 10);
}

void nn_narrowed(const struct nn *nn, char *text, size_t size)
{
    size_t len = 0;
    snprintf(text, size, "nothing");
    for (int i = 0; i <= nn->g.ops && len < size; i++) {
        const struct op *op = &nn->g.op[i];
        bool narrow = i == nn->g.ops ? nn->plans.moments_narrow
                                     : op->out >= 0 && nn->g.value[op->out].root == op->out &&
                                           nn->plans.train.choice[op->out].narrow;
        if (narrow)
            len += (size_t)snprintf(text + len, size - len, "%s%s", len ? "," : "",
                                    i == nn->g.ops ? "moments" : op->name);
    }
}

const char *nn_isa(bool bf16)
{
    return bf16 ? kr_level_bf16() : kr_level();
}
