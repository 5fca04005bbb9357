/* graph.c - appends operations, values and parameters to a graph.
 * The networks are ours, so a graph that does not fit its tables is a mistake of the program. */
#include "lib/nn/net.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct op *nn_append(struct graph *g, const struct kind *kind, const char *block, const char *part)
{
    assert(g->ops < MAX_OPS);
    struct op *op = &g->op[g->ops];
    *op = (struct op){.kind = kind, .id = g->ops++, .out = -1, .gamma = -1};
    const char *dot = *block && *part ? "." : "";
    int n = snprintf(op->name, sizeof op->name, "%s%s%s", block, dot, part);
    assert(n > 0 && n < (int)sizeof op->name);
    (void)n;
    return op;
}

int nn_map(struct graph *g, struct op *op, int c, int level)
{
    assert(g->values < MAX_VALUES);
    int id = g->values++;
    g->value[id] = (struct value){.c = c,
                                  .level = level,
                                  .root = id,
                                  .part = {id, -1},
                                  .writer = op->id,
                                  .norm = -1,
                                  .drop = -1,
                                  .last = id};
    return op->out = id;
}

int nn_view(struct graph *g, struct op *op, int of)
{
    assert(g->values < MAX_VALUES);
    const struct value *x = &g->value[of];
    assert(x->root >= 0 && g->value[x->root].last == of && !g->value[x->root].readers);
    int id = g->values++;
    g->value[id] = *x;
    g->value[id].part[0] = id;
    g->value[id].writer = op->id;
    g->value[x->root].last = id;
    op->in[op->nin++] = of;
    return op->out = id;
}

void nn_read(struct graph *g, struct op *op, int value)
{
    for (int i = 0; i < 2; i++) {
        int part = g->value[value].part[i];
        if (part < 0)
            continue;
        struct value *root = &g->value[g->value[part].root];
        assert(root->last == part);
        root->readers++;
    }
    assert(op->nin < (int)(sizeof op->in / sizeof *op->in));
    op->in[op->nin++] = value;
}

int nn_param(struct graph *g, struct op *op, const char *suffix, bool trained, int rank,
             const uint32_t dim[])
{
    assert(g->params < MAX_PARAMS && op->nparams < (int)(sizeof op->param / sizeof *op->param));
    struct param *p = &g->param[g->params];
    *p = (struct param){.trained = trained, .t = {.dtype = DT_F32, .rank = rank}};
    int n = snprintf(p->t.name, sizeof p->t.name, "%s.%s", op->name, suffix);
    assert(n < (int)sizeof p->t.name);
    (void)n;
    memcpy(p->t.dim, dim, (size_t)rank * sizeof *dim);
    return op->param[op->nparams++] = g->params++;
}
