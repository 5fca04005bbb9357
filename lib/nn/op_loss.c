/* op_loss.c - behind the head: softmax, prediction, soft Dice and cross-entropy. The backward pass
 * is the head's. */
#include "lib/nn/net.h"

#include <math.h>
#include <string.h>

#define DICE_EPS 1e-5

static void compare(struct nn *nn, const struct kr_planes *d, int logits)
{
    const struct kr_loss loss = nn_loss(nn, logits);
    struct kr_loss_sums *s = &nn->sums;
    struct nn_result *r = &nn->result;
    const int c = d->c;
    kr_loss_sums(d, &loss, s, nn_workspace(nn));
    if (s->bad) {
        nn_fail(nn, NN_ELABEL, "labels outside the %d classes (%llu of them)", c,
                (unsigned long long)s->bad);
        return;
    }
    *r = (struct nn_result){.dice = kr_loss_dice(&loss, c, s), .ce = kr_loss_ce(&loss, c, s)};
    r->loss = nn->opt.training.loss == NN_DICE_CE ? r->dice + r->ce : r->dice;
    r->pixels = s->pixels;
    for (int i = 0; i < c; i++) {
        r->inter[i] = s->inter[i], r->prob[i] = s->prob[i];
        r->truth[i] = s->truth[i], r->pred[i] = s->pred[i], r->hit[i] = s->hit[i];
    }
    if (nn->now->learn && !isfinite(r->loss))
        nn_fail(nn, NN_ENAN, "the loss is not finite");
}

static void forward(struct nn *nn, const struct op *op)
{
    struct kr_planes d = nn_planes(nn, op->in[0]);
    struct kr_in in[2];
    nn_operands(nn, op->in[0], in);
    const float *logits = in[0].x;
    const struct nn_output *out = nn->output;
    if (nn->now->learn || out->result)
        compare(nn, &d, op->in[0]);
    if (out && (out->pred || out->prob))
        kr_predict(&d, logits, NULL, out->pred, out->prob);
    if (out && out->pred && memchr(out->pred, NN_IGNORE, (size_t)d.n * (size_t)d.h * (size_t)d.w))
        nn_fail(nn, NN_ENAN, "the network's output is not finite");
    if (out && out->logits)
        memcpy(out->logits, logits,
               (size_t)d.n * (size_t)in[0].c * (size_t)d.h * (size_t)d.w * sizeof *logits);
}

struct kr_loss nn_loss(const struct nn *nn, int logits)
{
    struct kr_in in[2];
    nn_operands(nn, logits, in);
    return (struct kr_loss){.logits = in[0].x,
                            .classes = in[0].c,
                            .label = nn->batch->label,
                            .eps = DICE_EPS,
                            .wdice = 1,
                            .wce = nn->opt.training.loss == NN_DICE_CE};
}

static size_t workspace(const struct nn *nn, const struct op *op, enum pass pass)
{
    (void)nn, (void)op;
    return pass == PASS_FORWARD ? kr_loss_workspace() : 0;
}

static const struct kind kind = {.name = "loss", .forward = forward, .workspace = workspace};

void nn_loss_op(struct graph *g, int logits)
{
    struct op *op = nn_append(g, &kind, "loss", "");
    nn_read(g, op, logits);
}
