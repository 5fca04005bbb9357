/* flow.c - what a network is as a stream of slices: when a slice of a map can be made, and how long
 * it is needed.
 *
 * Time is counted in slices of the image. A kernel that reaches `behind` slices further than the
 * one that it makes lags behind its input by as many; one that reaches `before` keeps what it has
 * read. Two maps side by side are read at the pace of the slower, so a skip waits for the whole
 * path below it. What is made by several slices at once (a factor along z) is read as if the last
 * of them were the first: so all that follows runs evenly.
 *
 * Where some kernel makes groups of slices for less, time goes by groups: the image's slices wait
 * until there are so many, and each map's groups are those that such a step makes. */
#include "lib/nn/plan.h"

#include <stdlib.h>

#define MOST_BEFORE 64 /* slices that any kernel reaches */

/* Whether it makes a map that the output is made of. */
static bool makes(const struct graph *g, const struct op *op)
{
    return op->output && op->out >= 0 && g->value[op->out].root == op->out;
}

struct nn_reach nn_reach_of(const struct op *op)
{
    return op->kind->reach ? op->kind->reach(op->attr) : (struct nn_reach){0};
}

/* Whether it makes each slice of the one in the same place. */
static bool flat(const struct graph *g, const struct op *op)
{
    const struct nn_reach r = nn_reach_of(op);
    bool same = !r.before && !r.behind;
    for (int i = 0; i < op->ins && op->out >= 0; i++)
        same = same && g->value[op->in[i]].e.down[0] == g->value[op->out].e.down[0];
    return same;
}

bool nn_volume(const struct graph *g)
{
    for (int i = 0; i < g->ops; i++)
        if (g->op[i].output && !flat(g, &g->op[i]))
            return true;
    return false;
}

/* Of a planar network a slice is the sample. */
const struct op *nn_whole(const struct graph *g)
{
    for (int i = 0; i < g->ops && nn_volume(g); i++)
        if (g->op[i].output && nn_reach_of(&g->op[i]).whole)
            return &g->op[i];
    return NULL;
}

static int beat(const struct graph *g)
{
    for (int i = 0; i < g->ops; i++)
        if (makes(g, &g->op[i]) && nn_reach_of(&g->op[i]).groups)
            return NN_GROUP;
    return 1;
}

int nn_every(const struct graph *g, int slices)
{
    return nn_whole(g) || g->multiple[0] > 1 || slices % beat(g) ? 1 : beat(g);
}

void nn_flow(const struct graph *g, struct flow *of)
{
    const int together = beat(g);
    for (int i = 0; i < g->ops; i++) {
        const struct op *op = &g->op[i];
        const int behind = nn_reach_of(op).behind;
        if (!makes(g, op))
            continue;
        struct flow *y = &of[op->out];
        *y = (struct flow){
            .down = g->value[op->out].e.down[0], .by = 1, .beat = op->ins ? together : 1};
        NN_FOR_ROOTS(g, op, k, j, root)
        {
            const struct flow *x = &of[root];
            const int lag = x->lag + (x->by - 1 + behind) * x->down;
            y->lag = lag > y->lag ? lag : y->lag;
            y->by = x->down > y->down ? x->down / y->down : y->by;
        }
    }
}

/* That of the last of those that are made at once. */
int nn_lag(const struct graph *g)
{
    struct flow *of = calloc((size_t)g->values + 1, sizeof *of);
    if (!of)
        return -1;
    nn_flow(g, of);
    const struct flow *out = &of[g->op[g->head].out];
    const int lag = out->lag + out->by - 1 + out->beat - 1;
    free(of);
    return lag;
}

const struct flow *nn_pace(const struct plan *p, const struct op *op)
{
    return &p->flow[op->out >= 0 ? p->g->value[op->out].root : nn_root(p->g, op, 0, 0)];
}

long nn_made(const struct flow *f, long t)
{
    t -= t % f->beat;
    return t < f->lag ? 0 : (t - f->lag) / (f->by * f->down) * f->by;
}

long nn_needs(const struct plan *p, const struct op *op, int root, long t)
{
    const struct flow *y = nn_pace(p, op), *x = &p->flow[root];
    const long from = nn_made(y, t) * y->down / x->down - nn_reach_of(op).before;
    return from > 0 ? from : 0;
}

struct nn_size nn_slab(const struct plan *p, const struct op *op, int slices)
{
    const int down = nn_pace(p, op)->down;
    struct nn_size s = {1, slices * down, p->size.h, p->size.w};
    if (flat(p->g, op))
        s.n = slices, s.d = down;
    return s;
}

/* What a beat makes lies a lag behind: groups begin there, in a volume at once too. A map that is
 * made by fewer slices, or by a number that groups do not divide, has pairs, and so has one of a
 * network that sees a volume as a whole, as they are more exact. */
int nn_groups(struct plan *p)
{
    const struct graph *g = p->g;
    struct flow *of = calloc((size_t)g->values + 1, sizeof *of);
    if (!of)
        return -1;
    nn_flow(g, of);
    const bool streams = !nn_whole(g);
    for (int i = 0; i < g->ops; i++) {
        if (!makes(g, &g->op[i]))
            continue;
        const struct flow *y = &of[g->op[i].out];
        const int step = y->by * y->down;
        const bool whole = y->by % NN_GROUP == 0 || (y->down == 1 && NN_GROUP % step == 0);
        p->op[i].group = streams && whole ? NN_GROUP : 2;
        p->op[i].phase = (y->lag + step - 1) / step * y->by % NN_GROUP;
    }
    free(of);
    return 0;
}

/* Few slices that stay are put by, and the map's memory is free for others until the next call.
 * Many are moved to the front of their memory when it is full. */
static void settle(struct flow *f)
{
    f->kept = f->stay > f->most;
    f->room = f->window + (f->kept ? f->stay / 8 : 0);
}

void nn_windows(struct plan *p)
{
    const struct graph *g = p->g;
    const int slices = p->opt->stream, turn = g->multiple[0] * NN_GROUP,
              every = nn_every(g, slices);
    nn_flow(g, p->flow);
    long start = 0; /* when no map begins any more: from then on all repeats in turns */
    for (int i = 0; i < g->values; i++)
        start = p->flow[i].lag > start ? p->flow[i].lag : start;
    start = (start + (long)MOST_BEFORE * turn) / NN_GROUP * NN_GROUP;
    for (int i = 0; i < g->ops; i++) {
        const struct op *op = &g->op[i];
        if (!op->output || nn_is_view(op))
            continue;
        NN_FOR_ROOTS(g, op, k, j, root)
        for (long t = start; t < start + turn; t += every) {
            struct flow *x = &p->flow[root];
            const long from = nn_needs(p, op, root, t), have = nn_made(x, t),
                       end = nn_made(x, t + slices);
            x->most = end - have > x->most ? (int)(end - have) : x->most;
            x->window = end - from > x->window ? (int)(end - from) : x->window;
            x->stay = have - from > x->stay ? (int)(have - from) : x->stay;
        }
    }
    for (int i = 0; i < g->values; i++)
        settle(&p->flow[i]);
}
