/* handle.c - makes and frees a network: checks what was asked, lays out its memory, describes
 * it. */
#include "lib/nn/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const char *check_spec(const struct nn_spec *s, char *why, size_t size)
{
    if ((unsigned)s->arch >= NN_ARCH_COUNT)
        snprintf(why, size, "unknown architecture %d", (int)s->arch);
    else if (s->base < 1 || s->base > NN_MAX_BASE)
        snprintf(why, size, "base channels out of range (wanted 1..%d, got %d)", NN_MAX_BASE,
                 s->base);
    else if (s->cin < 1 || s->cin > NN_MAX_CIN)
        snprintf(why, size, "input channels out of range (wanted 1..%d, got %d)", NN_MAX_CIN,
                 s->cin);
    else if (s->classes < 2 || s->classes > NN_MAX_CLASSES)
        snprintf(why, size, "classes out of range (wanted 2..%d, got %d)", NN_MAX_CLASSES,
                 s->classes);
    else if (!(s->dropout >= 0 && s->dropout < 1))
        snprintf(why, size, "dropout out of range (wanted 0 <= p < 1, got %g)", s->dropout);
    else if (s->dropout > 0 && s->arch != NN_RESIDUAL)
        snprintf(why, size, "dropout is the residual network's alone");
    else
        return NULL;
    return why;
}

static const char *check_shape(int n, int h, int w, char *why, size_t size)
{
    if (n < 1 || n > NN_MAX_BATCH)
        snprintf(why, size, "batch out of range (wanted 1..%d, got %d)", NN_MAX_BATCH, n);
    else if (h < 16 || w < 16 || h > NN_MAX_SIDE || w > NN_MAX_SIDE || h % 16 || w % 16)
        snprintf(why, size, "height and width must be divisible by 16, 16..%d (got %dx%d)",
                 NN_MAX_SIDE, h, w);
    else if ((double)n * h * w > 1 << 30)
        snprintf(why, size, "a batch of %dx%dx%d has more than %d pixels", n, h, w, 1 << 30);
    else
        return NULL;
    return why;
}

static const char *check_options(const struct nn_options *o, char *why, size_t size)
{
    const struct nn_training *t = &o->training;
    if (check_shape(o->n, o->h, o->w, why, size) ||
        check_shape(o->eval_n, o->eval_h, o->eval_w, why, size))
        return why;
    if (o->threads < 1 || o->threads > NN_MAX_THREADS)
        snprintf(why, size, "threads out of range (wanted 1..%d, got %d)", NN_MAX_THREADS,
                 o->threads);
    else if (o->weights != DT_F32 && o->weights != DT_F16 && o->weights != DT_BF16)
        snprintf(why, size, "weights must be f32, f16 or bf16");
    else if (o->train && o->weights != DT_F32)
        snprintf(why, size, "training needs f32 weights");
    else if (o->train && (t->clip < 0 || t->momentum < 0 || t->momentum >= 1 || t->decay < 0 ||
                          t->beta1 < 0 || t->beta1 >= 1 || t->beta2 < 0 || t->beta2 >= 1))
        snprintf(why, size, "an option of the optimiser is out of range");
    else
        return NULL;
    return why;
}

/* Numbers for each channel: normalisations, dropouts, in use also the small parameters. Called
 * first without memory, to count. */
static size_t lay_tables(struct nn *nn, char *base)
{
    struct graph *g = &nn->g;
    size_t at = 0;
#define TAKE(pointer, count)                                                                       \
    do {                                                                                           \
        if (base)                                                                                  \
            (pointer) = (void *)(base + at);                                                       \
        at += nn_up((size_t)(count) * sizeof *(pointer));                                          \
    } while (0)
    for (int i = 0; i < g->ops; i++) {
        const struct op *op = &g->op[i];
        if (op->gamma >= 0) {
            struct norm *s = &nn->norm[i];
            int c = kr_pad(op->norm_c);
            TAKE(s->scale, c);
            TAKE(s->shift, c);
            TAKE(s->mean, c);
            TAKE(s->invstd, c);
            TAKE(s->sums, 2 * c);
            TAKE(s->k, 3 * c);
        }
        if (op->kind == &nn_kind_dropout && nn->opt.train) {
            struct drop *d = &nn->dropout[i];
            size_t n = (size_t)nn->opt.n * (size_t)kr_pad(g->value[op->out].c);
            TAKE(d->gain, n);
            TAKE(d->scale, n);
            TAKE(d->shift, n);
        }
    }
    for (int i = 0; i < g->params && !nn->opt.train; i++) {
        float *x = NULL;
        if (g->param[i].owned) {
            TAKE(x, tensor_count(&g->param[i].t));
            g->param[i].t.data = x;
        }
    }
#undef TAKE
    return at;
}

/* The arena when training: parameters, gradients, moments, then the plans' maps. */
static size_t lay_arena(struct nn *nn, char *base)
{
    struct graph *g = &nn->g;
    struct nn_memory *m = &nn->memory;
    size_t at = 0, elements = 0;
    int moments = nn->opt.training.optim == NN_SGD ? nn->opt.training.momentum > 0 : 2;
    m->parameters = m->gradients = m->moments = 0;
    for (int i = 0; i < g->params; i++) {
        struct param *p = &g->param[i];
        size_t n = tensor_count(&p->t);
        p->first = elements;
        elements += n;
        if (!nn->opt.train) {
            m->parameters += p->owned ? 0 : n * dtype_size(nn->opt.weights);
            continue;
        }
        if (base)
            p->t.data = base + at;
        at += nn_up(n * 4);
        m->parameters += nn_up(n * 4);
    }
    for (int i = 0; i < g->params && nn->opt.train; i++) {
        struct param *p = &g->param[i];
        size_t n = tensor_count(&p->t);
        if (!p->trained)
            continue;
        if (!nn->stepwise) {
            if (base)
                p->grad = (float *)(base + at);
            at += nn_up(n * 4);
            m->gradients += nn_up(n * 4);
        }
        for (int j = 0; j < moments; j++) {
            size_t bytes = nn_up(n * (nn->moments_narrow ? 2 : 4));
            if (base)
                *(j ? &p->v : &p->m) = base + at;
            at += bytes;
            m->moments += bytes;
        }
    }
    if (base)
        nn->maps = base + at;
    size_t maps = nn->eval.extent;
    if (nn->opt.train && nn->train.extent > maps)
        maps = nn->train.extent;
    m->maps = maps;
    return at + maps;
}

size_t nn_measure(struct nn *nn)
{
    struct nn_memory *m = &nn->memory;
    nn->arena_bytes = lay_arena(nn, NULL);
    m->fixed = NN_FIXED_BYTES + sizeof *nn + nn->table_bytes + nn->opt.outside;
    m->peak = m->parameters + m->gradients + m->moments + m->maps + m->fixed;
    return m->peak;
}

struct nn *nn_new(const struct nn_spec *spec, const struct nn_options *options, char *why,
                  size_t size)
{
    return nn_from(nn_build, spec, options, why, size);
}

struct nn *nn_from(void (*build)(struct graph *, const struct nn_spec *),
                   const struct nn_spec *spec, const struct nn_options *options, char *why,
                   size_t size)
{
    struct nn_options o = *options;
    o.threads = o.threads ? o.threads : 1;
    if (o.weights == DT_U8)
        o.weights = DT_F32;
    if (!o.train || !o.eval_n)
        o.eval_n = o.n, o.eval_h = o.h, o.eval_w = o.w;
    if (check_spec(spec, why, size) || check_options(&o, why, size))
        return NULL;
    struct nn *nn = calloc(1, sizeof *nn);
    if (!nn) {
        snprintf(why, size, "no memory");
        return NULL;
    }
    nn->spec = *spec;
    nn->opt = o;
    build(&nn->g, spec);
    for (int i = 0; i < nn->g.params; i++) {
        struct param *p = &nn->g.param[i];
        p->owned = o.train || p->t.rank == 1;
        p->widened = !p->owned && o.weights != DT_F32;
    }
    nn->table_bytes = lay_tables(nn, NULL);
    nn->tables = calloc(1, nn->table_bytes + 64);
    if (!nn->tables)
        nn_fail(nn, NN_EMEM, "no memory: %zu bytes", nn->table_bytes);
    else {
        lay_tables(nn, (char *)nn_up((size_t)(uintptr_t)nn->tables));
        nn_plan(nn);
    }
    if (nn->failed) {
        snprintf(why, size, "%s", nn->why);
        nn_free(nn);
        return NULL;
    }
    nn_list(nn);
    return nn;
}

int nn_arena(struct nn *nn)
{
    if (nn->arena)
        return 0;
    void *p = mmap(NULL, nn->arena_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return nn_fail(nn, NN_EMEM, "no memory: %zu bytes", nn->arena_bytes);
    /* The transforms walk dozens of streams at once, each in a page of its own. */
    madvise(p, nn->arena_bytes, MADV_HUGEPAGE);
    nn->arena = p;
    lay_arena(nn, nn->arena);
    return 0;
}

void nn_free(struct nn *nn)
{
    if (!nn)
        return;
    if (nn->arena)
        munmap(nn->arena, nn->arena_bytes);
    free(nn->tables);
    free(nn->spare);
    free(nn);
}

const char *nn_why(const struct nn *nn)
{
    return nn->why;
}

struct nn_memory nn_memory(const struct nn *nn)
{
    return nn->memory;
}
