/* params.c - parameters, gradients and moments: their names, their memory, their first values. */
#include "lib/nn/handle.h"
#include "lib/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct tensor *nn_params(const struct nn *nn, size_t *count)
{
    *count = nn->nparams;
    return nn->params;
}

const struct tensor *nn_gradients(const struct nn *nn, size_t *count)
{
    *count = nn->ngrads;
    return nn->grads;
}

const struct tensor *nn_moments(const struct nn *nn, size_t *count)
{
    *count = nn->nmoments;
    return nn->moments;
}

uint64_t nn_steps(const struct nn *nn)
{
    return nn->steps;
}

void nn_set_steps(struct nn *nn, uint64_t steps)
{
    nn->steps = steps;
}

const struct tensor *nn_find(const struct tensor *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(list[i].name, name))
            return &list[i];
    return NULL;
}

void nn_shape_text(const struct tensor *t, char *text, size_t size)
{
    size_t at = 0;
    text[0] = 0;
    for (int i = 0; i < t->rank && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%u", i ? "x" : "", t->dim[i]);
}

/* NULL and a message unless the tensor is there with the wanted shape and a float type. */
static const struct tensor *wanted(struct nn *nn, const struct tensor *list, size_t count,
                                   const struct tensor *want)
{
    const struct tensor *t = nn_find(list, count, want->name);
    if (!t) {
        nn_fail(nn, NN_EARG, "parameter '%s' is missing", want->name);
        return NULL;
    }
    bool same = t->rank == want->rank;
    for (int i = 0; same && i < t->rank; i++)
        same = t->dim[i] == want->dim[i];
    if (!same) {
        char a[64], b[64];
        nn_shape_text(want, a, sizeof a);
        nn_shape_text(t, b, sizeof b);
        nn_fail(nn, NN_EARG, "parameter '%s': wrong shape (wanted %s, got %s)", want->name, a, b);
        return NULL;
    }
    if (t->dtype != DT_F32 && t->dtype != DT_F16 && t->dtype != DT_BF16 && t->dtype != DT_F64) {
        nn_fail(nn, NN_EARG, "parameter '%s': wrong type (wanted a float, got %s)", want->name,
                dtype_name(t->dtype));
        return NULL;
    }
    return t;
}

static void moment(struct nn *nn, const struct stored *p, const char *prefix, enum dtype type,
                   void *data)
{
    struct tensor *t = &nn->moments[nn->nmoments++];
    *t = p->t;
    t->dtype = type;
    t->data = data;
    int n = snprintf(t->name, sizeof t->name, "%s:%s", prefix, p->t.name);
    assert(n < (int)sizeof t->name);
    (void)n;
}

/* Tables of names; data where the arena already has it. */
void nn_list(struct nn *nn)
{
    const struct graph *g = &nn->g;
    const enum dtype type = nn->plans.moments_narrow ? DT_BF16 : DT_F32;
    nn->nparams = nn->ngrads = nn->nmoments = 0;
    for (int i = 0; i < g->params; i++) {
        struct stored *p = &nn->param[i];
        nn->params[nn->nparams++] = p->raw.data ? p->raw : p->t;
        if (nn->shown)
            moment(nn, p, "w", DT_F32, p->average);
        if (!g->param[i].trained || !nn->opt.train)
            continue;
        if (nn_keeps_gradient(nn)) {
            nn->grads[nn->ngrads] = p->t;
            nn->grads[nn->ngrads++].data = p->grad;
        }
        if (p->m)
            moment(nn, p, "m", type, p->m);
        if (p->v)
            moment(nn, p, "v", type, p->v);
    }
}

int nn_load(struct nn *nn, const struct tensor *list, size_t count)
{
    struct graph *g = &nn->g;
    if (nn_arena(nn))
        return nn->failed;
    for (int i = 0; i < g->params; i++) {
        struct stored *p = &nn->param[i];
        const struct tensor *t = wanted(nn, list, count, &p->t);
        if (!t)
            return nn->failed;
        if (p->widened) {
            if (t->dtype != nn->opt.weights)
                return nn_fail(nn, NN_EARG, "parameter '%s': planned for %s (got %s)", t->name,
                               dtype_name(nn->opt.weights), dtype_name(t->dtype));
            p->raw = *t;
        } else if (nn_packed(&nn->opt, &g->param[i]) &&
                   (t->dtype != DT_F32 || (uintptr_t)t->data % 4 == 0)) {
            p->raw = *t;
        } else if (p->owned) {
            tensor_to_f32(t, 0, tensor_count(t), p->t.data);
        } else if (t->dtype != DT_F32 || (uintptr_t)t->data % 4) {
            return nn_fail(nn, NN_EARG, "parameter '%s': wanted f32 on a 4-byte boundary (got %s)",
                           t->name, dtype_name(t->dtype));
        } else {
            p->t.data = t->data;
        }
    }
    nn->unpacked = nn->opt.bf16 && !nn->opt.train;
    nn->ready = true;
    nn_list(nn);
    return 0;
}

int nn_init(struct nn *nn, uint64_t seed)
{
    struct graph *g = &nn->g;
    if (!nn->opt.train)
        return nn_fail(nn, NN_EARG, "only a network planned for training can be initialised");
    if (nn_arena(nn))
        return nn->failed;
    for (int i = 0; i < g->params; i++) {
        const struct param *p = &g->param[i];
        float *x = nn->param[i].t.data;
        size_t n = tensor_count(&p->t);
        if (nn_is_common(nn, i) && !nn->opt.hooks.gathers)
            continue;
        struct rng r = rng_seed(seed);
        rng_mix_text(&r, p->t.name);
        double bound = p->first == NN_UNIFORM ? 1 / sqrt((double)p->fan) : 0;
        for (size_t j = 0; j < n; j++)
            x[j] =
                p->first == NN_UNIFORM ? (float)rng_range(&r, -bound, bound) : p->first == NN_ONES;
    }
    nn->ready = true;
    nn_list(nn);
    return 0;
}

int nn_load_moment(struct nn *nn, size_t i, const struct tensor *list, size_t count)
{
    if (!nn->ready)
        return nn_fail(nn, NN_EARG, "the network has no parameters yet");
    struct tensor *m = &nn->moments[i];
    const struct tensor *t = wanted(nn, list, count, m);
    if (!t)
        return nn->failed;
    if (t->dtype == m->dtype) {
        memcpy(m->data, t->data, tensor_bytes(m));
        return 0;
    }
    float piece[1024];
    for (size_t at = 0, n = tensor_count(m); at < n; at += 1024) {
        size_t k = n - at < 1024 ? n - at : 1024;
        tensor_to_f32(t, at, k, piece);
        tensor_from_f32(m, at, k, piece);
    }
    return 0;
}

/* --- the average ------------------------------------------------------------------------------ */

void nn_average(struct nn *nn, double share)
{
    for (int i = 0; i < nn->g.params; i++) {
        const float *x = nn->param[i].t.data, k = (float)share;
        float *a = nn->param[i].average;
        const struct nn_part at = nn_part(nn, i);
#pragma omp parallel for simd schedule(static) num_threads(nn->opt.threads)
        for (size_t j = at.from; j < at.from + at.n; j++)
            a[j] = k < 1 ? a[j] + k * (x[j] - a[j]) : x[j];
    }
}

void nn_show_average(struct nn *nn, bool shown)
{
    if (shown != nn->shown)
        nn_swap_average(nn);
    nn->shown = shown;
    nn_list(nn);
}
