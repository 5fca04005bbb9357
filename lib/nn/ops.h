/* ops.h - every operation, once. */
#ifndef NN_OPS_H
#define NN_OPS_H

#define NN_OPS(X)                                                                                  \
    X(input)                                                                                       \
    X(convolution)                                                                                 \
    X(transposed_convolution)                                                                      \
    X(max_pool)                                                                                    \
    X(batch_norm)                                                                                  \
    X(relu)                                                                                        \
    X(dropout)                                                                                     \
    X(concat)                                                                                      \
    X(add)                                                                                         \
    X(copy)                                                                                        \
    X(attention_score)                                                                             \
    X(gate)                                                                                        \
    X(head)                                                                                        \
    X(loss)

#endif
