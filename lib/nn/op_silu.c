/* op_silu.c - x times its sigmoid (Elfwing et al. 2017, arXiv:1702.03118), as torch.nn.SiLU. An
 * operation without a kernel of its own: plain loops over plain maps. */
#include "lib/nn/op.h"

static size_t numbers(const struct nn_shape *s)
{
    return nn_pixels(s) * (size_t)kr_pad(s->c);
}

static void forward(const struct nn_call *c)
{
    const float *x = c->in[0][0].x;
    float *y = c->out.y;
#pragma omp parallel for schedule(static) num_threads(c->threads)
    for (size_t i = 0; i < numbers(&c->y); i++)
        y[i] = x[i] / (1 + expf(-x[i]));
}

static void data(const struct nn_call *c)
{
    const float *x = c->in[0][0].x, *dy = c->dy.dy;
    const struct kr_dx *to = &c->dx[0][0];
#pragma omp parallel for schedule(static) num_threads(c->threads)
    for (size_t i = 0; i < numbers(&c->y); i++) {
        float p = 1 / (1 + expf(-x[i])), dx = dy[i] * p * (1 + x[i] * (1 - p));
        to->dx[i] = to->accumulate ? to->dx[i] + dx : dx;
    }
}

const struct nn_kind nn_silu = {
    .name = "silu", .least = 1, .most = 1, .data_reads = true, .forward = forward, .data = data};
