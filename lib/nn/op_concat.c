/* op_concat.c - channels of one value, then of another: a view of two parts, never copied. */
#include "lib/nn/op.h"

static int shape(struct nn_build *b)
{
    if (nn_same_size(b))
        return -1;
    b->out.c = b->in[0]->c + b->in[1]->c;
    return 0;
}

const struct nn_kind nn_concat = {
    .name = "concat", .effect = NN_CONCAT, .least = 2, .most = 2, .shape = shape};
