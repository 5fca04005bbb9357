/* op_multiply.c - the product of two values; one of a single channel multiplies all of the
 * other's. */
#include "lib/nn/op.h"

/* Which input comes first for the kernel: that of more channels. */
static int wide(int c0, int c1)
{
    return c0 == 1 && c1 > 1;
}

static int shape(struct nn_build *b)
{
    const struct nn_extent *x = b->in[0], *y = b->in[1];
    if (nn_same_size(b))
        return -1;
    if (x->c != y->c && x->c != 1 && y->c != 1)
        return nn_refuse(b,
                         "its inputs differ in channels (wanted the same, or one, got %d and %d)",
                         x->c, y->c);
    b->out.c = b->in[wide(x->c, y->c)]->c;
    return 0;
}

static void forward(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    const int first = wide(c->x[0].c, c->x[1].c);
    const struct kr_in in[2] = {c->in[first][0], c->in[!first][0]};
    kr_multiply(&d, in, &c->out, c->workspace);
}

static void data(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    const int first = wide(c->x[0].c, c->x[1].c);
    const struct kr_in in[2] = {c->in[first][0], c->in[!first][0]};
    const struct kr_dx dx[2] = {c->dx[first][0], c->dx[!first][0]};
    kr_multiply_backward(&d, in, c->dy.dy, dx, c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    const struct kr_dims d = nn_slices(&c->y, c->threads);
    return kr_pointwise_workspace(&d, c->y.c);
}

const struct nn_kind nn_multiply = {.name = "multiply",
                                    .least = 2,
                                    .most = 2,
                                    .reads = NN_VIEWS,
                                    .finishes = true,
                                    .data_reads = true,
                                    .shape = shape,
                                    .forward = forward,
                                    .data = data,
                                    .workspace = workspace};
