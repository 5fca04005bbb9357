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

/* One parameter's step. `first` numbers its elements among all: the key of stochastic rounding. */
void nn_step(struct nn *nn, int param, const float *g, double gain)
{
    const struct nn_training *t = &nn->opt.training;
    struct stored *p = &nn->param[param];
    size_t n = tensor_count(&p->t);
    enum kr_dtype moments = nn->plans.moments_narrow ? KR_BF16 : KR_F32;
    if (t->optim == NN_SGD) {
        struct kr_sgd k = {.rate = nn->rate,
                           .momentum = t->momentum,
                           .decay = t->decay,
                           .nesterov = t->momentum > 0,
                           .step = nn->steps + 1,
                           .gain = gain,
                           .moments = moments,
                           .seed = t->seed,
                           .first = p->first,
                           .threads = nn->opt.threads};
        kr_sgd(&k, n, p->t.data, g, p->m);
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
                        .first = p->first,
                        .threads = nn->opt.threads};
    kr_adam(&k, n, p->t.data, g, p->m, p->v);
}

void nn_gather(struct nn *nn, int param, const float *g)
{
    float *sum = nn->param[param].grad;
    const float samples = (float)nn->result.samples;
    const size_t n = tensor_count(&nn->param[param].t);
    const bool first = nn->gathered == 0;
#pragma omp parallel for simd schedule(static) num_threads(nn->opt.threads)
    for (size_t i = 0; i < n; i++)
        sum[i] = (first ? 0 : sum[i]) + samples * g[i];
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
            if (g->param[i].trained)
                sum += kr_sum_squares(tensor_count(&g->param[i].t), nn->param[i].grad,
                                      nn->opt.threads);
        if (!isfinite(sum))
            return nn_fail(nn, NN_ENAN, "the gradient is not finite");
        gain *= fmin(1, clip / (gain * sqrt(sum) + 1e-6));
    }
    nn->rate = rate;
    for (int i = 0; i < g->params; i++)
        if (g->param[i].trained)
            nn_step(nn, i, nn->param[i].grad, gain);
    nn->steps++;
    nn->gathered = nn->batches = 0;
    return 0;
}
