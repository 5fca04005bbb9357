/* arena.c - lays out the memory of a handle: tables of numbers for each channel, and the arena with
 * parameters, gradients, moments and maps. */
#include "lib/nn/handle.h"

#include "lib/kernels/product.h"

#include <stdint.h>
#include <sys/mman.h>

/* Slices of the largest batch. */
static int slices(const struct nn *nn)
{
    const struct nn_options *o = &nn->opt;
    const int learn = o->n * o->d, use = nn_flows(o) ? o->stream : o->eval_n * o->eval_d;
    return learn > use ? learn : use;
}

/* Numbers for each channel: normalisations, dropouts, in use also the small parameters. Called
 * first without memory, to count. */
size_t nn_lay_tables(struct nn *nn, char *base)
{
    struct graph *g = &nn->g;
    size_t at = 0;
#define TAKE(pointer, count)                                                                       \
    do {                                                                                           \
        if (base)                                                                                  \
            (pointer) = (void *)(base + at);                                                       \
        at += nn_up((size_t)(count) * sizeof *(pointer));                                          \
    } while (0)
    const int groups = nn->opt.groups.own;
    for (int k = 0; k < groups * g->ops; k++) {
        const int i = k % g->ops;
        const struct op *op = &g->op[i];
        if (op->kind->effect == NN_NORM) {
            struct nn_norm *s = &nn->group.norm[k];
            s->rows = op->kind->each ? slices(nn) : 1;
            size_t c = (size_t)kr_pad(g->value[op->out].e.c) * (size_t)s->rows;
            if (k != i && !op->kind->each) {
                *s = nn->group.norm[i]; /* but its sums */
                TAKE(s->sums, 2 * c + 1);
                continue;
            }
            TAKE(s->scale, c);
            TAKE(s->shift, c);
            TAKE(s->mean, c);
            TAKE(s->invstd, c);
            TAKE(s->sums, 2 * c + 1);
            TAKE(s->k, 3 * c);
        }
        if (op->kind->effect == NN_DROPOUT && nn->opt.train) {
            struct dropped *d = &nn->group.dropped[k];
            size_t n = (size_t)slices(nn) * (size_t)kr_pad(g->value[op->out].e.c);
            TAKE(d->gain, n);
            TAKE(d->scale, n);
            TAKE(d->shift, n);
        }
    }
    for (int i = 0; i < g->params && !nn->opt.train; i++) {
        float *x = NULL;
        if (nn->param[i].owned) {
            TAKE(x, tensor_count(&nn->param[i].t));
            nn->param[i].t.data = x;
        }
    }
#undef TAKE
    return at;
}

/* What a part of a moment adds to those of its pages that are not its own. */
enum { EDGES = 128 << 10 };

static int count_moments(const struct nn *nn)
{
    return nn->opt.training.optim == NN_SGD ? nn->opt.training.momentum > 0 : 2;
}

static size_t moment_bytes(const struct nn *nn, int param)
{
    return nn_up(tensor_count(&nn->param[param].t) * (nn->plans.moments_narrow ? 2 : 4));
}

/* Of a moment's bytes, those that other processes alone have in memory. */
static size_t others_bytes(const struct nn *nn, int param)
{
    const size_t n = tensor_count(&nn->param[param].t), bytes = moment_bytes(nn, param),
                 own = bytes / n * nn_part(nn, param).n + EDGES;
    return own < bytes ? bytes - own : 0;
}

/* The next so many bytes of the arena or of what is common; NULL while it is only measured. */
static void *take(struct nn *nn, int param, bool laid, size_t *at, size_t bytes)
{
    const bool common = nn_is_common(nn, param);
    char *base = common ? nn->common : nn->arena;
    size_t *cursor = common ? &nn->common_bytes : at, from = *cursor;
    *cursor += bytes;
    return laid ? base + from : NULL;
}

/* The arena when training: parameters, their average, gradients, moments, then the plans' maps; of
 * parameters that are common, gradients alone. */
static size_t lay_arena(struct nn *nn, bool laid)
{
    struct graph *g = &nn->g;
    struct nn_memory *m = &nn->memory;
    size_t at = 0, elements = 0;
    const int moments = count_moments(nn);
    m->parameters = m->gradients = m->moments = nn->common_bytes = 0;
    for (int i = 0; i < g->params; i++) {
        struct stored *p = &nn->param[i];
        size_t n = tensor_count(&p->t);
        p->first = elements;
        elements += n;
        if (!nn->opt.train) {
            if (!p->owned && !nn_packed(&nn->opt, &g->param[i]))
                m->parameters += n * dtype_size(nn->opt.weights);
            continue;
        }
        p->t.data = take(nn, i, laid, &at, nn_up(n * 4));
        m->parameters += nn_up(n * 4);
        if (!nn->opt.average)
            continue;
        p->average = take(nn, i, laid, &at, nn_up(n * 4));
        m->parameters += nn_up(n * 4);
    }
    nn->packed_bytes = 0;
    for (int i = 0; i < g->ops; i++)
        nn->packed_bytes += nn_up(nn_packed_bytes(nn, &g->op[i]));
    m->parameters += nn->packed_bytes;
    for (int i = 0; i < g->params && nn->opt.train; i++) {
        struct stored *p = &nn->param[i];
        size_t n = tensor_count(&p->t);
        if (!g->param[i].trained)
            continue;
        if (nn_keeps_gradient(nn)) {
            p->grad = laid ? (float *)(nn->arena + at) : NULL;
            at += nn_up(n * 4);
            m->gradients += nn_up(n * 4);
        }
        for (int j = 0; j < moments; j++) {
            const size_t bytes = moment_bytes(nn, i);
            *(j ? &p->v : &p->m) = take(nn, i, laid, &at, bytes);
            m->moments += bytes;
        }
    }
    nn->maps = laid ? nn->arena + at : NULL;
    size_t maps = nn->plans.eval.extent;
    if (nn->opt.train && nn->plans.train.extent > maps)
        maps = nn->plans.train.extent;
    m->maps = maps;
    m->common = nn->common_bytes;
    return at + maps;
}

/* The moments that are common and of which this process has no part in memory. */
static size_t unseen(const struct nn *nn)
{
    size_t n = 0;
    for (int i = 0; i < nn->g.params && nn->opt.train; i++)
        if (nn_is_common(nn, i) && !nn->opt.hooks.gathers)
            n += (size_t)count_moments(nn) * others_bytes(nn, i);
    return n;
}

/* The sum is of a process that gathers, so that all choose alike. */
size_t nn_measure(struct nn *nn)
{
    struct nn_memory *m = &nn->memory;
    nn->arena_bytes = lay_arena(nn, false);
    m->own = nn->bytes + nn->table_bytes + nn_kept(nn).bytes;
    if (nn_graph_products(&nn->g))
        m->products = KR_PRODUCTS_BYTES + (size_t)nn->plans.products * KR_PRODUCT_BYTES;
    m->fixed = NN_FIXED_BYTES + m->own + m->products + nn->opt.outside;
    size_t sum = m->parameters + m->gradients + m->moments + m->maps + m->fixed;
    m->moments -= unseen(nn);
    m->peak = nn_peak(&nn->opt, m->parameters + m->gradients + m->moments + m->maps + m->fixed);
    return sum;
}

static char *map(struct nn *nn, size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) {
        nn_fail(nn, NN_EMEM, "no memory: %zu bytes", bytes);
        return NULL;
    }
    /* The transforms walk dozens of streams at once, each in a page of its own. */
    madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

static int keep(struct nn *nn)
{
    const size_t bytes = nn_kept(nn).bytes;
    if (bytes && !nn->kept && !(nn->kept = map(nn, bytes)))
        return NN_EMEM;
    return nn->packed_bytes && !nn->packed && !(nn->packed = map(nn, nn->packed_bytes)) ? NN_EMEM
                                                                                        : 0;
}

void nn_swap_average(struct nn *nn)
{
    for (int i = 0; i < nn->g.params; i++) {
        struct stored *p = &nn->param[i];
        float *x = p->t.data;
        p->t.data = p->average;
        p->average = x;
    }
}

int nn_arena(struct nn *nn)
{
    if (nn->arena)
        return 0;
    const struct nn_hooks *h = &nn->opt.hooks;
    if (keep(nn) || !(nn->arena = map(nn, nn->arena_bytes)))
        return NN_EMEM;
    if (nn->common_bytes && !(nn->common = h->common(h->ctx, nn->common_bytes)))
        return nn_fail(nn, NN_EMEM, "no memory that processes share: %zu bytes", nn->common_bytes);
    lay_arena(nn, true); /* the same places for the same in all processes, whatever is shown */
    if (nn->shown)
        nn_swap_average(nn);
    return 0;
}

int nn_share(struct nn *nn, struct nn *of)
{
    if (nn->opt.train || of->opt.train || nn->arena || nn->arena_bytes > of->arena_bytes)
        return nn_fail(nn, NN_EARG, "the maps of these networks cannot share their memory");
    if (nn_arena(of))
        return nn_fail(nn, of->failed, "%s", of->why);
    if (keep(nn))
        return NN_EMEM;
    nn->shared = true;
    nn->arena = of->arena;
    lay_arena(nn, true);
    return 0;
}

void nn_arena_free(struct nn *nn)
{
    if (nn->arena && !nn->shared)
        munmap(nn->arena, nn->arena_bytes);
    if (nn->common)
        munmap(nn->common, nn->common_bytes);
    if (nn->kept)
        munmap(nn->kept, nn_kept(nn).bytes);
    if (nn->packed)
        munmap(nn->packed, nn->packed_bytes);
    nn->arena = nn->common = nn->kept = nn->packed = NULL;
}
