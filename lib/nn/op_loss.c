/* op_loss.c - behind a head: softmax or sigmoid, prediction, soft Dice, cross-entropy and focal
 * loss, as the training and the targets say. A head coarser than the label takes the nearest of it.
 * The backward pass is the head's. */
#include "lib/nn/op.h"

#include <string.h>

#define DICE_EPS 1e-5

static const struct nn_rule rule[] = {{"weight", NN_REAL, 0, 1e6, 1}, {0}};

/* Sums of all processes' batches. */
static int agree(const struct nn_call *c, struct kr_loss_sums *s)
{
    enum { N = NN_MAX_CLASSES };
    const struct nn_hooks *h = c->io->hooks;
    double *part[] = {s->inter, s->prob, s->squares}, all[6 * N + 5], *to = all;
    uint64_t *count[] = {s->truth, s->pred, s->hit};
    if (!c->learn || !h->sums)
        return 0;
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < N; i++) {
            to[2 * k * N + i] = part[k][i];
            to[(2 * k + 1) * N + i] = (double)count[k][i];
        }
    to += 6 * N;
    to[0] = s->ce, to[1] = (double)s->pixels, to[2] = s->dice, to[3] = (double)s->samples;
    to[4] = (double)c->io->result->samples;
    if (h->sums(h->ctx, all, sizeof all / sizeof *all))
        return nn_fault(c, NN_ESTOP, "the processes could not agree");
    s->ce = to[0], s->pixels = (uint64_t)to[1], s->dice = to[2], s->samples = (uint64_t)to[3];
    if (c->first)
        c->io->result->samples = (uint64_t)to[4];
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < N; i++) {
            part[k][i] = all[2 * k * N + i];
            count[k][i] = (uint64_t)all[(2 * k + 1) * N + i];
        }
    return 0;
}

static struct kr_loss describe(const struct nn_call *c, const struct kr_planes *d,
                               const float *logits)
{
    const double weight = c->attr[0].v[0];
    const struct nn_training *t = c->training;
    const struct targets *targets = c->targets;
    const struct nn_batch *b = c->io->batch;
    const bool focal = t->loss == NN_FOCAL || t->loss == NN_DICE_FOCAL;
    bool weighted = false;
    for (int k = 0; k < d->c; k++)
        weighted = weighted || t->weight[k] > 0;
    struct kr_loss loss = {.logits = logits,
                           .label = b->label,
                           .wdice = t->loss == NN_CE || t->loss == NN_FOCAL ? 0 : weight,
                           .wce = t->loss == NN_DICE ? 0 : weight,
                           .eps = DICE_EPS,
                           .down = {(b->d ? b->d : 1) / d->d, b->h / d->h, b->w / d->w},
                           .squared = t->squared,
                           .foreground = t->foreground,
                           .each = t->sample,
                           .gamma = focal ? t->gamma : 0,
                           .weight = weighted ? t->weight : NULL,
                           .regions = targets->regions,
                           .classes = targets->regions ? targets->classes : d->c};
    memcpy(loss.of, targets->of, sizeof loss.of);
    return loss;
}

static void compare(const struct nn_call *c, const struct kr_planes *d, const float *logits)
{
    struct kr_loss_sums *s = &c->loss->sums;
    struct kr_loss *loss = &c->loss->loss;
    *loss = describe(c, d, logits);
    kr_loss_sums(d, loss, s, c->workspace);
    if (s->bad)
        nn_fault(c, NN_ELABEL, "labels outside the %d classes (%llu of them)", loss->classes,
                 (unsigned long long)s->bad);
}

static void settle(const struct nn_call *c)
{
    struct kr_loss_sums *s = &c->loss->sums;
    struct nn_result *r = c->io->result;
    const struct nn_output *out = c->io->output;
    const int outputs = c->x[0].c;
    if (!(c->learn || out->result))
        return;
    /* Of a group without samples only its sums are like the others'. */
    const struct kr_planes d = nn_planes(&c->x[0], c->threads);
    const struct kr_loss as = describe(c, &d, NULL), *loss = &as;
    if (agree(c, s))
        return;
    double dice = kr_loss_dice(loss, outputs, s), entropy = kr_loss_ce(loss, outputs, s);
    if (loss->wdice > 0 && loss->wce > 0)
        r->loss += c->attr[0].v[0] * (dice + entropy);
    else
        r->loss += loss->wdice > 0 ? loss->wdice * dice : loss->wce > 0 ? loss->wce * entropy : 0;
    if (!c->first)
        return;
    r->dice = dice, r->ce = entropy, r->pixels = s->pixels;
    for (int i = 0; i < outputs; i++) {
        r->inter[i] = s->inter[i], r->prob[i] = s->prob[i];
        r->truth[i] = s->truth[i], r->pred[i] = s->pred[i], r->hit[i] = s->hit[i];
    }
}

static void forward(const struct nn_call *c)
{
    struct kr_planes d = nn_planes(&c->x[0], c->threads);
    const size_t pixels = nn_pixels(&c->x[0]);
    const float *logits = c->in[0][0].x;
    const struct nn_output *out = c->io->output;
    if (c->learn || out->result)
        compare(c, &d, logits);
    if (!c->first || !out)
        return;
    if (out->pred || out->prob)
        kr_predict(&d, logits, c->targets->regions ? c->targets->paints : NULL, out->pred,
                   out->prob);
    if (out->pred && memchr(out->pred, NN_IGNORE, pixels))
        nn_fault(c, NN_ENAN, "the network's output is not finite");
    if (out->logits && out->logits != logits)
        memcpy(out->logits, logits, pixels * (size_t)d.c * sizeof *logits);
}

static size_t workspace(const struct nn_call *c)
{
    (void)c;
    return kr_loss_workspace();
}

const struct nn_kind nn_loss = {.name = "loss",
                                .effect = NN_LOSS,
                                .rule = rule,
                                .least = 1,
                                .most = 1,
                                .forward = forward,
                                .workspace = workspace,
                                .settle = settle};
