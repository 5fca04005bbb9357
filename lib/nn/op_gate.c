/* op_gate.c - x times the sigmoid of a map of one channel: the end of the additive attention gate
 * (Oktay et al. 2018). */
#include "lib/nn/op.h"

enum { SCORE, X };

static int shape(struct nn_build *b)
{
    if (nn_same_size(b))
        return -1;
    if (b->in[SCORE]->c != 1)
        return nn_refuse(b, "its first input: wanted one channel (got %d)", b->in[SCORE]->c);
    b->out.c = b->in[X]->c;
    return 0;
}

static struct kr_gate describe(const struct nn_call *c)
{
    const struct kr_in *score = &c->in[SCORE][0];
    return (struct kr_gate){.x = c->in[X][0],
                            .scale = score->scale,
                            .shift = score->shift,
                            .stride = score->stride,
                            .each = c->dx[SCORE][0].each};
}

static void forward(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    struct kr_gate k = describe(c);
    kr_gate_apply(&d, &k, c->in[SCORE][0].x, &c->out, c->workspace);
}

static void data(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    struct kr_gate k = describe(c);
    const struct kr_dx *score = &c->dx[SCORE][0];
    kr_gate_apply_backward(&d, &k, c->in[SCORE][0].x, c->dy.dy, &c->dx[X][0], score->dx,
                           score->sums, c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    return kr_pointwise_workspace(&d, c->y.c);
}

const struct nn_kind nn_gate = {.name = "gate",
                                .least = 2,
                                .most = 2,
                                .reads = NN_VIEWS,
                                .finishes = true,
                                .planes_in = true,
                                .data_reads = true,
                                .shape = shape,
                                .forward = forward,
                                .data = data,
                                .workspace = workspace};
