/* graph.h - a network as data: operations, the values that they make, parameters.
 *
 * Made of a description (text.h) in two readings of it: the first counts who uses what, the second
 * decides which operations are views (op.h), and puts a copy wherever a kernel could not read or
 * write as it would have to, or where two operations would read one map in two ways. So in a graph
 * all consumers of a map read it through the same view, its last; and no operation reads a map
 * twice. */
#ifndef NN_GRAPH_H
#define NN_GRAPH_H

#include "lib/nn/op.h"

/* A value. For a map root == itself; for a view root is the map that it reads; a concatenation has
 * no root, but two parts. */
struct value {
    struct nn_extent e;
    int root, part[2];
    int writer;        /* the operation that made it */
    int norm, dropout; /* the operations of the view, or -1 */
    bool activation;   /* max(x, slope * x) */
    float slope;
    bool fixed;  /* no gradient flows to it: the image */
    bool planes; /* (N,C,D,H,W) floats, never narrowed nor recomputed */
    bool plain;  /* somebody reads floats only: never narrowed */
    int last;    /* of a map: the view that its consumers read */
    int readers; /* of a map: how many operations read it */
};

/* Bytes up to the end of a cache line, where every piece of memory begins and ends. */
static inline size_t nn_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Floats of a pixel of its map. */
static inline int nn_lanes(const struct value *v)
{
    return v->planes ? v->e.c : kr_pad(v->e.c);
}

struct op {
    const struct nn_kind *kind;
    char name[TENSOR_MAX_NAME]; /* the description's, or its kind's with a number */
    int id, line;
    int in[NN_IN], ins, out; /* values; out -1: none */
    int param[NN_PARAMS], params;
    struct nn_attr attr[NN_ATTRS];
    bool output; /* the network's output depends on it: others serve training alone */
};

/* A parameter as it is declared: name, shape, float. */
struct param {
    struct tensor t;
    bool trained;
    bool packs;  /* its operation packs it for products of bfloat16 */
    bool shared; /* a batch normalisation's: its gradient is the whole batch's */
    enum nn_first first;
    size_t fan;
};

struct graph {
    struct op *op;
    struct value *value;
    struct param *param;
    int ops, values, params;
    int input, head, loss; /* operations: the image's, the first loss's head, the first loss */
    int multiple[3];       /* what depth, height and width must be divisible by */
    double flops;          /* forward, for each pixel of an image */
};

/* 0, or -1 and a line in why. The graph is zeroed or freed before. */
int nn_graph(struct graph *, const struct nn_spec *, char *why, size_t size);
void nn_graph_free(struct graph *);
size_t nn_graph_bytes(const struct graph *);  /* that it takes */
bool nn_graph_products(const struct graph *); /* whether any operation computes some */

/* The map under part j of an operation's input i, or -1. */
static inline int nn_root(const struct graph *g, const struct op *op, int i, int j)
{
    int part = g->value[op->in[i]].part[j];
    return part < 0 ? -1 : g->value[part].root;
}

#define NN_FOR_ROOTS(g, op, i, j, root)                                                            \
    for (int i = 0, j = 0, root; i < (op)->ins; i += j, j = !j)                                    \
        if ((root = nn_root(g, op, i, j)) >= 0)

/* Channels of what an operation makes. */
static inline int nn_channels(const struct graph *g, int op)
{
    return g->value[g->op[op].out].e.c;
}

static inline bool nn_is_view(const struct op *op)
{
    enum nn_effect e = op->kind->effect;
    return e == NN_NORM || e == NN_ACTIVATION || e == NN_DROPOUT || e == NN_CONCAT;
}

/* The size of a batch. */
struct nn_size {
    int n, d, h, w;
};

/* A call's attributes and shapes, for a batch of that size; no pointers. */
struct nn_call nn_shapes(const struct graph *, const struct op *, const struct nn_size *);
struct nn_shape nn_shape_of(const struct value *, const struct nn_size *);

/* Whether processes that share a batch must still agree on a parameter's gradient. */
static inline bool nn_agreed(const struct graph *g, int param)
{
    return g->param[param].trained && !g->param[param].shared;
}

#endif
