/* op_input.c - the batch's planar image becomes a map, where an operation cannot read it as it
 * is. */
#include "lib/nn/net.h"

static void forward(struct nn *nn, const struct op *op)
{
    struct kr_dims d = nn_dims(nn, op->out);
    struct kr_out out = nn_target(nn, op);
    kr_from_planar(&d, out.c, nn->batch->image, out.y, out.dtype);
}

static const struct kind kind = {.name = "input", .forward = forward};

int nn_input(struct graph *g, int cin)
{
    struct op *op = nn_append(g, &kind, "input", "");
    int v = nn_map(g, op, cin, 0);
    g->value[v].fixed = true;
    return v;
}
