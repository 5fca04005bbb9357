/* op_leaky_relu.c - max(x, slope * x), as torch.nn.LeakyReLU: a view, as ReLU is. */
#include "lib/nn/op.h"

static const struct nn_rule rule[] = {{"slope", NN_REAL, 0, 0.999, 0.01}, {0}};

const struct nn_kind nn_leaky_relu = {
    .name = "leaky_relu", .effect = NN_ACTIVATION, .rule = rule, .least = 1, .most = 1};
