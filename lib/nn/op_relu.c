/* op_relu.c - max(x, 0): a view; readers apply it, and the last writer of the gradient masks. */
#include "lib/nn/net.h"

static const struct kind kind = {.name = "relu", .view = true};

int nn_relu(struct graph *g, int x, const char *block)
{
    struct op *op = nn_append(g, &kind, block, "relu");
    int v = nn_view(g, op, x);
    g->value[v].relu = true;
    return v;
}
