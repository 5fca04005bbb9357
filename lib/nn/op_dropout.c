/* op_dropout.c - drops whole channels of a sample: a view, folded into the scale and shift of the
 * normalisation under it (max(m * v, 0) = m * max(v, 0) for m >= 0). The mask depends on the seed,
 * the step and the layer alone. */
#include "lib/nn/net.h"

#include <assert.h>

static void forward(struct nn *nn, const struct op *op)
{
    const struct value *v = &nn->g.value[op->out];
    const struct drop *d = &nn->dropout[op->id];
    const struct norm *s = &nn->norm[v->norm];
    kr_dropout_gain(nn->n, v->c, op->number, nn->opt.training.seed, nn->steps, (uint64_t)op->id, 0,
                    d->gain);
    kr_dropout_fold(nn->n, v->c, d->gain, s->scale, d->scale);
    kr_dropout_fold(nn->n, v->c, d->gain, s->shift, d->shift);
}

const struct kind nn_kind_dropout = {.name = "dropout", .view = true, .forward = forward};

int nn_dropout(struct graph *g, int x, double p, const char *block)
{
    struct op *op = nn_append(g, &nn_kind_dropout, block, "dropout");
    assert(g->value[x].norm >= 0);
    op->number = p;
    int v = nn_view(g, op, x);
    g->value[v].drop = op->id;
    return v;
}
