/* op_gate.c - the additive attention gate: x * sigmoid(norm(psi(relu(a + b)))), where a and b are
 * normalised convolutions. The one-channel map in the middle is kept as one float a pixel; the
 * backward step does those of the normalisations of a and b too (they are `absorbed`). */
#include "lib/nn/net.h"

#include <assert.h>

enum { PSI, GAMMA, BETA, MEAN, VAR };
enum { A, B, X };

static struct kr_gate describe(const struct nn *nn, const struct op *op)
{
    struct kr_in in[3][2];
    for (int i = 0; i < 3; i++)
        nn_operands(nn, op->in[i], in[i]);
    const struct norm *s = &nn->norm[op->id];
    return (struct kr_gate){.a = in[A][0],
                            .b = in[B][0],
                            .psi = nn_weight(nn, op, PSI),
                            .x = in[X][0],
                            .scale = s->scale,
                            .shift = s->shift};
}

static void forward(struct nn *nn, const struct op *op)
{
    struct kr_dims d = nn_dims(nn, op->out);
    struct kr_gate k = describe(nn, op);
    struct kr_out out = nn_target(nn, op);
    float *score = nn_aux(nn, op);
    if (nn->at->pass == PASS_FORWARD) {
        struct norm *s = &nn->norm[op->id];
        kr_gate_score(&d, &k, score, nn->now->learn ? s->sums : NULL, nn_workspace(nn));
        if (nn->now->learn) {
            struct kr_bn bn = nn_bn(nn, op);
            bn.running_mean = bn.running_var = NULL;
            kr_bn_train(&bn, nn_count(nn, op), s->sums);
        }
    }
    kr_gate_apply(&d, &k, score, &out, nn_workspace(nn));
}

static size_t dscore_bytes(const struct nn *nn, const struct op *op)
{
    return nn_up(nn_count(nn, op) * sizeof(float));
}

static void data(struct nn *nn, const struct op *op)
{
    const struct op *ops = nn->g.op;
    const struct value *a = &nn->g.value[op->in[A]], *b = &nn->g.value[op->in[B]];
    struct kr_dims d = nn_dims(nn, op->out);
    struct kr_gate k = describe(nn, op);
    struct kr_in in[2] = {k.x};
    struct kr_dx dx[2];
    nn_dx(nn, op, X, in, dx);
    struct norm *s = &nn->norm[op->id], *sa = &nn->norm[a->norm], *sb = &nn->norm[b->norm];
    float *dscore = nn_workspace(nn), *score = nn_aux(nn, op);
    void *work = (char *)dscore + dscore_bytes(nn, op);
    size_t n = nn_count(nn, op);

    kr_gate_apply_backward(&d, &k, score, nn_dy(nn, op->out), dx, dscore, s->sums, work);
    struct kr_bn bn = nn_bn(nn, op);
    kr_bn_backward(&bn, n, s->sums, nn_dweight(nn, op, GAMMA), nn_dweight(nn, op, BETA), s->k);
    kr_gate_score_sums(&d, &k, score, dscore, s->k, sa->sums, sb->sums, nn_dweight(nn, op, PSI),
                       work);
    const struct op *norm[2] = {&ops[a->norm], &ops[b->norm]};
    for (int i = 0; i < 2; i++) {
        struct norm *si = &nn->norm[norm[i]->id];
        bn = nn_bn(nn, norm[i]);
        kr_bn_backward(&bn, n, si->sums, nn_dweight(nn, norm[i], 0), nn_dweight(nn, norm[i], 1),
                       si->k);
    }
    kr_gate_score_backward(&d, &k, score, dscore, s->k, sa->k, sb->k, nn_dy(nn, op->in[A]),
                           nn_dy(nn, op->in[B]));
}

static size_t workspace(const struct nn *nn, const struct op *op, enum pass pass)
{
    struct kr_dims d = nn_dims(nn, op->out);
    size_t bytes = kr_pointwise_workspace(&d, nn->g.value[op->out].c);
    return pass == PASS_DATA ? bytes + dscore_bytes(nn, op) : bytes;
}

static const struct kind kind = {.name = "gate",
                                 .aux = true,
                                 .data_reads = true,
                                 .narrow = true,
                                 .forward = forward,
                                 .data = data,
                                 .workspace = workspace};

int nn_gate(struct graph *g, int a, int b, int x, const char *block)
{
    struct op *op = nn_append(g, &kind, block, "");
    uint32_t psi[] = {1, (uint32_t)g->value[a].c, 1, 1}, one[] = {1};
    assert(g->value[a].norm >= 0 && !g->value[a].relu && g->value[b].norm >= 0 &&
           !g->value[b].relu);
    nn_param(g, op, "psi.weight", true, 4, psi);
    nn_param(g, op, "psi_norm.weight", true, 1, one);
    nn_param(g, op, "psi_norm.bias", true, 1, one);
    nn_param(g, op, "psi_norm.running_mean", false, 1, one);
    nn_param(g, op, "psi_norm.running_var", false, 1, one);
    op->gamma = GAMMA;
    op->norm_c = 1;
    g->op[g->value[a].norm].absorbed = g->op[g->value[b].norm].absorbed = true;
    nn_read(g, op, a);
    nn_read(g, op, b);
    nn_read(g, op, x);
    return nn_map(g, op, g->value[x].c, g->value[x].level);
}
