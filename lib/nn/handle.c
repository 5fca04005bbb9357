/* handle.c - makes and frees a network: checks what was asked, lays out its memory. */
#include "lib/nn/handle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *check_size(const struct graph *g, int n, int d, int h, int w, char *why,
                              size_t size)
{
    const int *m = g->multiple;
    if (n < 1 || n > NN_MAX_BATCH)
        snprintf(why, size, "batch out of range (wanted 1..%d, got %d)", NN_MAX_BATCH, n);
    else if (d < m[0] || d > NN_MAX_SIDE || d % m[0])
        snprintf(why, size, "depth must be divisible by %d, %d..%d (got %d)", m[0], m[0],
                 NN_MAX_SIDE, d);
    else if (m[1] == m[2] &&
             (h < m[1] || w < m[2] || h > NN_MAX_SIDE || w > NN_MAX_SIDE || h % m[1] || w % m[2]))
        snprintf(why, size, "height and width must be divisible by %d, %d..%d (got %dx%d)", m[1],
                 m[1], NN_MAX_SIDE, h, w);
    else if (h < m[1] || w < m[2] || h > NN_MAX_SIDE || w > NN_MAX_SIDE || h % m[1] || w % m[2])
        snprintf(why, size,
                 "height must be divisible by %d and width by %d, at most %d (got %dx%d)", m[1],
                 m[2], NN_MAX_SIDE, h, w);
    else if ((double)n * d * h * w > 1 << 30)
        snprintf(why, size, "a batch of %dx%dx%dx%d has more than %d pixels", n, d, h, w, 1 << 30);
    else
        return NULL;
    return why;
}

static const char *check_options(const struct graph *g, const struct nn_options *o, char *why,
                                 size_t size)
{
    const struct nn_training *t = &o->training;
    const struct nn_groups *q = &o->groups;
    const int outputs = nn_channels(g, g->head);
    for (int i = 0; i < g->ops; i++)
        if (g->op[i].kind->effect == NN_HEAD && nn_channels(g, i) != outputs) {
            snprintf(why, size,
                     "operation '%s': as many outputs as the first head (wanted %d, got %d)",
                     g->op[i].name, outputs, nn_channels(g, i));
            return why;
        }
    if (check_size(g, o->n, o->d, o->h, o->w, why, size) ||
        check_size(g, o->eval_n, o->eval_d, o->eval_h, o->eval_w, why, size))
        return why;
    const struct op *whole = o->stream && !o->deep ? nn_whole(g) : NULL;
    if (whole)
        snprintf(why, size,
                 "operation '%s' (%s) is of a volume as a whole, so the network cannot take one "
                 "slice by slice",
                 whole->name, whole->kind->name);
    else if (o->stream < 0 || o->stream > NN_MAX_BATCH ||
             (double)o->stream * o->eval_h * o->eval_w > 1 << 30)
        snprintf(why, size, "slices at once out of range (wanted 1..%d, got %d)", NN_MAX_BATCH,
                 o->stream);
    else if (o->threads < 1 || o->threads > NN_MAX_THREADS)
        snprintf(why, size, "threads out of range (wanted 1..%d, got %d)", NN_MAX_THREADS,
                 o->threads);
    else if (o->weights != DT_F32 && o->weights != DT_F16 && o->weights != DT_BF16)
        snprintf(why, size, "weights must be f32, f16 or bf16");
    else if (o->train && o->weights != DT_F32)
        snprintf(why, size, "training needs f32 weights");
    else if (o->targets.regions && o->targets.outputs != outputs)
        snprintf(why, size, "the network has %d outputs (wanted %d, one for each region)", outputs,
                 o->targets.outputs);
    else if (q->all < 1 || q->all > NN_MAX_GROUPS || q->first < 0 || q->own < 1 ||
             q->first + q->own > q->all ||
             (q->own < q->all && ((q->own & (q->own - 1)) || q->first % q->own)))
        snprintf(why, size, "groups: %d from %d are no branch of a tree of %d (1..%d)", q->own,
                 q->first, q->all, NN_MAX_GROUPS);
    else if (t->foreground && outputs < 2)
        snprintf(why, size, "no output is left beside the background");
    else if (o->train && (t->clip < 0 || t->momentum < 0 || t->momentum >= 1 || t->decay < 0 ||
                          t->beta1 < 0 || t->beta1 >= 1 || t->beta2 < 0 || t->beta2 >= 1))
        snprintf(why, size, "an option of the optimiser is out of range");
    else
        return NULL;
    return why;
}

/* The lists that a handle has of its operations, values and parameters. */
static int lists(struct nn *nn)
{
    const struct nn_options *o = &nn->opt;
    const struct graph *g = &nn->g;
    const struct nn_size train = {o->n, o->d, o->h, o->w};
    const struct nn_size eval = {o->eval_n, o->eval_d, o->eval_h, o->eval_w};
    size_t ops = (size_t)g->ops, params = (size_t)g->params + 1, values = (size_t)g->values + 1;
    const size_t groups = (size_t)o->groups.own;
    if (nn_plan_new(&nn->plans.eval, g, &nn->opt, false, &eval) ||
        (o->train && nn_plan_new(&nn->plans.train, g, &nn->opt, true, &train)))
        return -1;
    nn->param = calloc(params, sizeof *nn->param);
    nn->norm = nn->group.norm = calloc(groups * ops, sizeof *nn->norm);
    nn->dropped = nn->group.dropped = calloc(groups * ops, sizeof *nn->dropped);
    nn->loss = nn->group.loss = calloc(groups * ops, sizeof *nn->loss);
    nn->map_at = nn->group.map_at = calloc(groups * values, sizeof *nn->map_at);
    nn->stream.base = calloc(values, sizeof *nn->stream.base);
    nn->params = calloc(params, sizeof *nn->params);
    nn->grads = calloc(params, sizeof *nn->grads);
    nn->moments = calloc(3 * params, sizeof *nn->moments);
    nn->bytes = sizeof *nn + nn_graph_bytes(g) + nn->plans.eval.bytes + nn->plans.train.bytes +
                groups * ops * (sizeof *nn->norm + sizeof *nn->dropped + sizeof *nn->loss) +
                params * (sizeof *nn->param + 5 * sizeof *nn->params) +
                (size_t)g->values * (groups * sizeof *nn->map_at + sizeof *nn->stream.base);
    return nn->param && nn->stream.base && nn->norm && nn->dropped && nn->loss && nn->map_at &&
                   nn->params && nn->grads && nn->moments
               ? 0
               : -1;
}

/* Lays out the tables and plans the maps. */
static int lay_out(struct nn *nn)
{
    const struct graph *g = &nn->g;
    struct plans *s = &nn->plans;
    if (lists(nn))
        return nn_fail(nn, NN_EMEM, "no memory");
    for (int i = 0; i < g->params; i++) {
        struct stored *p = &nn->param[i];
        p->t = g->param[i].t;
        p->owned = nn->opt.train || p->t.rank == 1;
        p->widened = nn_widened(&nn->opt, &g->param[i]);
    }
    for (int i = 0; i < g->ops; i++)
        nn->each |= g->op[i].kind->each;
    nn->table_bytes = nn_lay_tables(nn, NULL);
    nn->tables = calloc(1, nn->table_bytes + 64);
    if (!nn->tables)
        return nn_fail(nn, NN_EMEM, "no memory: %zu bytes", nn->table_bytes);
    nn_lay_tables(nn, (char *)nn_up((size_t)(uintptr_t)nn->tables));
    s->products = nn_graph_products(g) ? nn_base_threads(nn->opt.train) : 0;
    for (int i = 0; i < 2; i++) {
        s->moments_narrow = i == 1;
        s->rest[i] = nn_measure(nn);
    }
    s->moments_narrow = false;
    nn->failed = nn_plan(s, nn->why, sizeof nn->why);
    nn_measure(nn);
    return nn->failed;
}

/* A stream's plan is of the fewest slices that all maps have whole ones of, or of the deepest
 * volume. */
static void plan_stream(struct nn_options *o, const struct graph *g)
{
    const int m = g->multiple[0];
    o->deep = nn_whole(g) ? o->deep : 0;
    o->eval_n = 1, o->eval_d = o->deep ? nn_padded(o->deep, m) : m;
    if (!o->train)
        o->n = o->eval_n, o->d = o->eval_d;
}

struct nn *nn_new(const struct nn_spec *spec, const struct nn_options *options, char *why,
                  size_t size)
{
    struct nn_options o = *options;
    o.threads = o.threads ? o.threads : 1;
    if (!o.train || !o.groups.all)
        o.groups = (struct nn_groups){.all = 1, .own = 1, .narrow = o.groups.narrow};
    o.groups.own = o.groups.own ? o.groups.own : o.groups.all;
    o.d = o.d ? o.d : 1;
    o.deep = o.stream ? o.deep : 0;
    if (o.weights == DT_U8)
        o.weights = DT_F32;
    if (!o.train || !o.eval_n)
        o.eval_n = o.n, o.eval_d = o.d, o.eval_h = o.h, o.eval_w = o.w;
    o.eval_d = o.eval_d ? o.eval_d : o.d;
    struct nn *nn = calloc(1, sizeof *nn);
    if (!nn) {
        snprintf(why, size, "no memory");
        return NULL;
    }
    nn->opt = o;
    snprintf(nn->name, sizeof nn->name, "%s", spec->name);
    bool bad = nn_graph(&nn->g, spec, why, size);
    if (!bad && o.stream)
        plan_stream(&nn->opt, &nn->g);
    bad = bad || check_options(&nn->g, &nn->opt, why, size);
    if (!bad && lay_out(nn)) {
        snprintf(why, size, "%s", nn->why);
        bad = true;
    }
    if (bad) {
        nn_free(nn);
        return NULL;
    }
    nn_list(nn);
    return nn;
}

void nn_free(struct nn *nn)
{
    if (!nn)
        return;
    nn_arena_free(nn);
    void *all[] = {nn->tables,        nn->spare,      nn->param,        nn->group.norm,
                   nn->group.dropped, nn->group.loss, nn->group.map_at, nn->params,
                   nn->grads,         nn->moments,    nn->stream.base};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    nn_plan_free(&nn->plans.train);
    nn_plan_free(&nn->plans.eval);
    nn_graph_free(&nn->g);
    free(nn);
}

struct nn_memory nn_memory(const struct nn *nn)
{
    return nn->memory;
}

int nn_inputs(const struct nn *nn)
{
    return nn_channels(&nn->g, nn->g.input);
}

int nn_classes(const struct nn *nn)
{
    return nn_channels(&nn->g, nn->g.head);
}

int nn_about(const struct nn_spec *spec, struct nn_about *about, char *why, size_t size)
{
    struct graph g;
    if (nn_graph(&g, spec, why, size))
        return -1;
    *about = (struct nn_about){.inputs = nn_channels(&g, g.input),
                               .outputs = nn_channels(&g, g.head),
                               .flops = g.flops,
                               .products = nn_graph_products(&g),
                               .volume = nn_volume(&g),
                               .whole = nn_whole(&g),
                               .lag = nn_lag(&g)};
    memcpy(about->multiple, g.multiple, sizeof g.multiple);
    nn_graph_free(&g);
    return 0;
}

struct nn_spec nn_network(const char *name, int base, int inputs, int classes)
{
    struct nn_spec s = {.name = name};
    s.text = nn_known(name, &s.length);
    nn_set(&s, "base", base);
    nn_set(&s, "inputs", inputs);
    nn_set(&s, "classes", classes);
    return s;
}

void nn_set(struct nn_spec *s, const char *name, double value)
{
    int i = 0;
    while (i < s->settings && strcmp(s->set[i].name, name))
        i++;
    if (i == NN_MAX_SETTINGS)
        return;
    s->settings = i < s->settings ? s->settings : i + 1;
    snprintf(s->set[i].name, sizeof s->set[i].name, "%s", name);
    s->set[i].value = value;
}
