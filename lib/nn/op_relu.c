/* op_relu.c - max(x, 0): a view; readers apply it, and the last writer of the gradient masks. */
#include "lib/nn/op.h"

const struct nn_kind nn_relu = {.name = "relu", .effect = NN_ACTIVATION, .least = 1, .most = 1};
