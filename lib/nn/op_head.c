/* op_head.c - the end of a network: a 1x1 convolution with a bias makes the logits, planes. Its
 * backward pass begins with the loss, whose gradient is never stored. */
#include "lib/nn/op.h"

static const struct nn_rule rule[] = {{"channels", NN_INTEGER, 1, NN_MAX_CLASSES, NAN}, {0}};

static int shape(struct nn_build *b)
{
    uint32_t dim[] = {(uint32_t)nn_int(b->attr, 0), (uint32_t)b->in[0]->c, 1, 1};
    size_t fan = (size_t)b->in[0]->c;
    nn_declare(b, "weight", true, NN_UNIFORM, fan, 4, dim);
    nn_declare(b, "bias", true, NN_UNIFORM, fan, 1, dim);
    b->out.c = nn_int(b->attr, 0);
    return 0;
}

static void forward(const struct nn_call *c)
{
    struct kr_planes d = nn_planes(&c->y, c->threads);
    kr_head_forward(&d, c->in[0], c->param[0], c->param[1], c->out.y, c->workspace);
}

static void backward(const struct nn_call *c)
{
    struct kr_planes d = nn_planes(&c->y, c->threads);
    kr_head_backward(&d, &c->loss->loss, &c->loss->sums, c->in[0], c->param[0], c->dx[0],
                     c->grad[0], c->grad[1], c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    struct kr_planes d = nn_planes(&c->y, c->threads);
    return kr_head_workspace(&d, c->x[0].c);
}

static double flops(const struct nn_call *c)
{
    return 2.0 * c->x[0].c * c->y.c * (double)nn_pixels(&c->y);
}

const struct nn_kind nn_head = {.name = "head",
                                .effect = NN_HEAD,
                                .rule = rule,
                                .least = 1,
                                .most = 1,
                                .reads = NN_VIEWS,
                                .shape = shape,
                                .forward = forward,
                                .weight = backward, /* where no gradient is wanted below */
                                .backward = backward,
                                .workspace = workspace,
                                .flops = flops};
