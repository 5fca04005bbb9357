/* outline.c - a description's operations as a list, without what the engine makes of them. */
#include "lib/nn/handle.h"
#include "lib/nn/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(NN_SAID >= NN_ATTRS && NN_SAID >= NN_PARAMS, "room for all of an operation");

static void say(struct nn_said *s, const struct graph *g, const struct op *op, const int *number)
{
    *s = (struct nn_said){.op = op->kind->name, .ins = op->ins, .channels = nn_channels(g, op->id)};
    snprintf(s->name, sizeof s->name, "%s", op->name);
    for (int i = 0; i < op->ins; i++)
        s->in[i] = number[g->value[op->in[i]].writer];
    for (const struct nn_rule *r = op->kind->rule; r && r->name; r++) {
        s->attr[s->attrs].name = r->name;
        s->attr[s->attrs].axes = r->type == NN_AXES;
        memcpy(s->attr[s->attrs].v, op->attr[s->attrs].v, sizeof s->attr->v);
        s->attrs++;
    }
    for (int i = 0; i < op->params; i++)
        s->param[s->params++] = g->param[op->param[i]].t;
}

int nn_outline(const struct nn_spec *spec, struct nn_outline *o, char *why, size_t size)
{
    struct graph g;
    *o = (struct nn_outline){0};
    if (nn_graph(&g, spec, why, size))
        return -1;
    int *number = calloc((size_t)g.ops, sizeof *number);
    o->said = calloc((size_t)g.ops, sizeof *o->said);
    if (!number || !o->said) {
        snprintf(why, size, "no memory");
        free(number);
        nn_graph_free(&g);
        nn_outline_free(o);
        return -1;
    }
    for (int i = 0; i < g.ops; i++) {
        const struct op *op = &g.op[i];
        if (op->kind == &nn_copy)
            number[i] = number[g.value[op->in[0]].writer];
        if (op->kind == &nn_copy || !op->output || op->kind->effect == NN_LOSS)
            continue;
        number[i] = o->count;
        say(&o->said[o->count++], &g, op, number);
    }
    free(number);
    nn_graph_free(&g);
    return 0;
}

void nn_outline_free(struct nn_outline *o)
{
    free(o->said);
    *o = (struct nn_outline){0};
}
