/* ops.h - every operation, once. */
#ifndef NN_OPS_H
#define NN_OPS_H

#include "lib/nn/op.h"

#define NN_OPS(X)                                                                                  \
    X(input)                                                                                       \
    X(convolution)                                                                                 \
    X(transposed_convolution)                                                                      \
    X(max_pool)                                                                                    \
    X(average_pool)                                                                                \
    X(batch_norm)                                                                                  \
    X(group_norm)                                                                                  \
    X(instance_norm)                                                                               \
    X(relu)                                                                                        \
    X(leaky_relu)                                                                                  \
    X(dropout)                                                                                     \
    X(concat)                                                                                      \
    X(add)                                                                                         \
    X(multiply)                                                                                    \
    X(sigmoid)                                                                                     \
    X(gelu)                                                                                        \
    X(silu)                                                                                        \
    X(softmax)                                                                                     \
    X(layer_norm)                                                                                  \
    X(nearest)                                                                                     \
    X(linear_resize)                                                                               \
    X(linear)                                                                                      \
    X(attention)                                                                                   \
    X(copy)                                                                                        \
    X(positions)                                                                                   \
    X(attention_score)                                                                             \
    X(gate)                                                                                        \
    X(head)                                                                                        \
    X(loss)

#define NN_DECLARE(name) extern const struct nn_kind nn_##name;
NN_OPS(NN_DECLARE)

/* The kind of that name, or NULL; all of them, ended by NULL. */
const struct nn_kind *nn_kind(const char *name);
extern const struct nn_kind *const nn_kinds[];

#endif
