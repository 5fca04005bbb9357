/* op_attention_score.c - the additive attention gate's score (Oktay et al. 2018, arXiv:1804.03999):
 * a 1x1 convolution to one channel of relu(a + b), in one pass. One float a pixel. */
#include "lib/nn/op.h"

enum { A, B };

static int shape(struct nn_build *b)
{
    uint32_t dim[] = {1, (uint32_t)b->in[A]->c, 1, 1};
    if (nn_same_size(b) || nn_same_channels(b))
        return -1;
    nn_declare(b, "weight", true, NN_UNIFORM, (size_t)b->in[A]->c, 4, dim);
    b->out.c = 1;
    return 0;
}

static struct kr_gate describe(const struct nn_call *c)
{
    return (struct kr_gate){
        .a = c->in[A][0], .b = c->in[B][0], .psi = c->param[0], .each = c->out.each};
}

static void forward(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    struct kr_gate k = describe(c);
    kr_gate_score(&d, &k, c->out.y, c->out.sums, c->workspace);
}

static void backward(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    struct kr_gate k = describe(c);
    const struct kr_dx dx[2] = {c->dx[A][0], c->dx[B][0]};
    kr_gate_score_backward(&d, &k, &c->dy, dx, c->grad[0], c->workspace);
}

static bool behind(const struct nn_call *c, bool data)
{
    (void)c;
    return data;
}

static size_t workspace(const struct nn_call *c)
{
    struct kr_dims d = nn_slices(&c->y, c->threads);
    return kr_pointwise_workspace(&d, 2 * c->x[A].c);
}

const struct nn_kind nn_attention_score = {.name = "attention_score",
                                           .least = 2,
                                           .most = 2,
                                           .reads = NN_VIEWS,
                                           .finishes = true,
                                           .planes = true,
                                           .shape = shape,
                                           .forward = forward,
                                           .backward = backward,
                                           .behind = behind,
                                           .workspace = workspace};
