/* op_concat.c - channels of one value, then of another: a view of two parts, never copied. */
#include "lib/nn/net.h"

#include <assert.h>

static const struct kind kind = {.name = "concat", .view = true};

int nn_concat(struct graph *g, int a, int b, const char *block)
{
    struct op *op = nn_append(g, &kind, block, "concat");
    assert(g->value[a].root >= 0 && g->value[b].root >= 0 && g->values < MAX_VALUES);
    assert(g->value[a].level == g->value[b].level && g->value[a].root != g->value[b].root);
    int id = g->values++;
    g->value[id] = (struct value){.c = g->value[a].c + g->value[b].c,
                                  .level = g->value[a].level,
                                  .root = -1,
                                  .part = {a, b},
                                  .writer = op->id,
                                  .norm = -1,
                                  .drop = -1};
    op->in[0] = a, op->in[1] = b, op->nin = 2;
    return op->out = id;
}
