/* text.h - a network's description: a text becomes a list of operations.
 *
 * The text is YAML, one mapping:
 *
 *     description: what it is, and whose            (a line of prose; optional)
 *     parameters: {inputs: 4, classes: 4, base: 16} (names and what they are if nobody sets them)
 *     blocks:                                       (macros; optional)
 *       double:
 *         inputs: [x]                               (names of its inputs; optional: [x])
 *         parameters: [c]                           (names of its numbers; optional)
 *         body:                                     (a list as `network` is)
 *           - {op: convolution, name: conv1, in: x, channels: c, kernel: 3, bias: false}
 *           - {op: batch_norm, name: norm1}
 *           - {op: relu}
 *     network:
 *       - {op: input, channels: inputs}
 *       - {op: double, name: enc1, c: base}
 *       - {op: max_pool, size: 2}
 *       - ...
 *       - {op: head, name: head, channels: classes}
 *       - {op: loss}
 *
 * An entry's `op` is an operation or a block; `name` is its name within the list, and a block's own
 * names follow it and a dot ("enc1.conv1"); a block without a name adds nothing, its names join the
 * list's. `in` is a name or a list of names of values made before, in this list (inside a block of
 * it: enc1.conv1) or given to this block; without it the value of the entry before, in a block's
 * first entry its first input. A block's value is its last entry's. `when: EXPRESSION` leaves an
 * entry out where that is 0: its value is then its first input's. All else are attributes: numbers,
 * true, false, or lists of up to three; or an expression of numbers, parameters, + - * / ( ),
 * == != < <= > >=, min(a, b), max(a, b), floor(a) and channels(VALUE), in quotes where it has a
 * comma and stands between braces. In integer attributes the result must be an integer. A parameter
 * may be an expression of those before it. A block sees its own parameters and the text's.
 *
 * Limits: a text of NN_TEXT_MAX bytes, NN_TEXT_OPS operations after all blocks, blocks in blocks 8
 * deep, 64 keys in a mapping, names of 31 bytes, of NN_TEXT_NAME with those of the blocks around
 * them. Anchors, aliases, tags and merge keys are refused. */
#ifndef NN_TEXT_H
#define NN_TEXT_H

#include "lib/nn/op.h"

#define NN_TEXT_OPS 512
#define NN_TEXT_NAME 48 /* so that "v:NAME.running_mean" is within TENSOR_MAX_NAME */

/* One operation, its inputs and attributes as numbers. */
struct nn_line {
    const char *op;
    char name[TENSOR_MAX_NAME]; /* in full; "" where it has none */
    int line;                   /* of the text */
    int in[NN_IN], ins;         /* what `emit` returned for them */
    struct {
        char name[32];
        int count; /* of values */
        double value[3];
    } attr[NN_ATTRS];
    int attrs;
};

/* Who takes the operations, in order. `emit` returns the number of the value that the operation
 * makes, 0 or more, or -1 with what is wrong in why. */
struct nn_taker {
    void *ctx;
    int (*emit)(void *ctx, const struct nn_line *, char *why, size_t size);
    int (*channels)(void *ctx, int value);
    const char *(*op)(void *ctx, int i); /* names of operations, which no block may have; NULL past
                                            the last */
};

/* Settings are values of parameters from outside, each of which the text must have. 0, or -1 with
 * "NAME:LINE: operation 'enc1.conv1' (convolution): what (wanted X, got Y)" in why; NAME is the
 * caller's for the text. */
int nn_text(const char *text, size_t length, const char *name, const struct nn_setting *,
            int settings, const struct nn_taker *, char *why, size_t size);

#endif
