/* optim.c - the optimiser's steps and the rate's course. */
#include "lib/nn/handle.h"

#include <math.h>

double nn_rate_at(const struct nn_rate *r, uint64_t step)
{
    if (step < r->warmup)
        return r->top * (double)(step + 1) / (double)r->warmup;
    if (r->schedule == NN_CONSTANT || r->steps <= r->warmup)
        return r->top;
    double t = (double)(step - r->warmup) / (double)(r->steps - r->warmup);
    t = t < 1 ? t : 1;
    return r->schedule == NN_COSINE ? r->top * (1 + cos(3.14159265358979323846 * t)) / 2
                                    : r->top * pow(1 - t, 0.9);
}

size_t nn_piece(size_t n)
{
    return kr_piece(n);
}

struct nn_part nn_part(const struct nn *nn, int param)
{
    const struct nn_hooks *h = &nn->opt.hooks;
    const size_t n = tensor_count(&nn->param[param].t);
    return h->part ? h->part(h->ctx, n) : (struct nn_part){0, n};
}

bool nn_is_common(const struct nn *nn, int param)
{
    return nn->opt.hooks.common && nn->g.param[param].trained &&
           nn_part(nn, param).n < tensor_count(&nn->param[param].t);
}

int nn_arrived(struct nn *nn)
{
    const struct nn_hooks *h = &nn->opt.hooks;
    return h->arrived && h->arrived(h->ctx) ? nn_fail(nn, NN_ESTOP, "the processes could not agree")
                                            : 0;
}

static void *moved(void *moment, enum kr_dtype type, size_t by)
{
    return moment ? (char *)moment + by * kr_dtype_size(type) : NULL;
}

/* `first` numbers a parameter's elements among all: the key of stochastic rounding. */
static void step(struct nn *nn, int param, struct nn_part at, const float *g, double gain)
{
    const struct nn_training *t = &nn->opt.training;
    struct stored *p = &nn->param[param];
    const enum kr_dtype moments = nn->plans.moments_narrow ? KR_BF16 : KR_F32;
    float *w = (float *)p->t.data + at.from;
    void *m = moved(p->m, moments, at.from), *v = moved(p->v, moments, at.from);
    if (t->optim == NN_SGD) {
        struct kr_sgd k = {.rate = nn->rate,
                           .momentum = t->momentum,
                           .decay = t->decay,
                           .nesterov = t->momentum > 0,
                           .step = nn->steps + 1,
                           .gain = gain,
                           .moments = moments,
                           .seed = t->seed,
                           .first = p->first + at.from,
                           .threads = nn->opt.threads};
        kr_sgd(&k, at.n, w, g + at.from, m);
        return;
    }
    bool preset = t->beta1 == 0 && t->beta2 == 0 && t->eps == 0;
    struct kr_adam k = {.rate = nn->rate,
                        .beta1 = preset ? 0.9 : t->beta1,
                        .beta2 = preset ? 0.999 : t->beta2,
                        .eps = preset ? 1e-8 : t->eps,
                        .decay = t->decay,
                        .decoupled = t->optim == NN_ADAMW,
                        .step = nn->steps + 1,
                        .gain = gain,
                        .moments = moments,
                        .seed = t->seed,
                        .first = p->first + at.from,
                        .threads = nn->opt.threads};
    kr_adam(&k, at.n, w, g + at.from, m, v);
}

int nn_step(struct nn *nn, int param, const float *g, double gain)
{
    const struct nn_hooks *h = &nn->opt.hooks;
    const size_t n = tensor_count(&nn->param[param].t);
    step(nn, param, nn_part(nn, param), g, gain);
    return h->spread && h->spread(h->ctx, nn->param[param].t.data, n)
               ? nn_fail(nn, NN_ESTOP, "the processes could not agree")
               : 0;
}

void nn_gather(struct nn *nn, int param, const float *g)
{
    float *sum = nn->param[param].grad;
    const float samples = (float)nn->result.samples;
    const struct nn_part at = nn_part(nn, param);
    const bool first = nn->gathered == 0;
#pragma omp parallel for simd schedule(static) num_threads(nn->opt.threads)
    for (size_t i = at.from; i < at.from + at.n; i++)
        sum[i] = (first ? 0 : sum[i]) + samples * g[i];
}

/* Of a parameter's whole gradient: to *sum. Each has the squares of its part, and 0 where another
 * has them. */
static int add_squares(struct nn *nn, int param, double *sum)
{
    const struct nn_hooks *h = &nn->opt.hooks;
    const struct nn_part at = nn_part(nn, param);
    const size_t n = tensor_count(&nn->param[param].t), size = kr_piece(n);
    const float *g = nn->param[param].grad;
    double piece[KR_PIECES] = {0}, all = 0;
    kr_squares(n, g, nn->opt.threads, at.from / size, (at.from + at.n + size - 1) / size, piece);
    if (at.n < n && h->sums(h->ctx, piece, KR_PIECES))
        return nn_fail(nn, NN_ESTOP, "the processes could not agree");
    for (int i = 0; i < KR_PIECES; i++)
        all += piece[i];
    *sum += all;
    return 0;
}

int nn_update(struct nn *nn, double rate)
{
    const struct graph *g = &nn->g;
    double gain = nn->gathered ? 1 / (double)nn->gathered : 1, clip = nn->opt.training.clip;
    if (!nn->opt.train || !nn_keeps_gradient(nn))
        return nn_fail(nn, NN_EARG, "the network was not planned with its whole gradient");
    if (clip > 0) {
        double sum = 0;
        for (int i = 0; i < g->params; i++)
            if (g->param[i].trained && add_squares(nn, i, &sum))
                return nn->failed;
        if (!isfinite(sum))
            return nn_fail(nn, NN_ENAN, "the gradient is not finite");
        gain *= fmin(1, clip / (gain * sqrt(sum) + 1e-6));
    }
    nn->rate = rate;
    for (int i = 0; i < g->params; i++)
        if (g->param[i].trained && nn_step(nn, i, nn->param[i].grad, gain))
            return nn->failed;
    nn->steps++;
    nn->gathered = nn->batches = 0;
    return nn_arrived(nn);
}
