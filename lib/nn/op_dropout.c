/* op_dropout.c - drops whole channels of a sample, as torch.nn.Dropout2d: a view. The mask depends
 * on the seed, the step and the operation alone. */
#include "lib/nn/op.h"

#include <string.h>

static const struct nn_rule rule[] = {{"p", NN_REAL, 0, 0.999, 0.5}, {0}};

static void forward(const struct nn_call *c)
{
    const size_t row = (size_t)kr_pad(c->y.c), slices = (size_t)c->y.d;
    for (int n = 0; n < c->y.n; n++) {
        float *gain = c->gain + (size_t)n * slices * row;
        kr_dropout_gain(1, c->y.c, c->attr[0].v[0], c->training->seed, c->step, (uint64_t)c->id,
                        c->before + (uint64_t)n, gain);
        for (size_t z = 1; z < slices; z++)
            memcpy(gain + z * row, gain, row * sizeof *gain);
    }
}

const struct nn_kind nn_dropout = {.name = "dropout",
                                   .effect = NN_DROPOUT,
                                   .rule = rule,
                                   .least = 1,
                                   .most = 1,
                                   .forward = forward};
