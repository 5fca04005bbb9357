/* plan.h - what is done when, and where everything lies: passes over operations in an order, and
 * pieces of memory with a lifetime and a place. */
#ifndef NN_PLAN_H
#define NN_PLAN_H

#include "lib/nn/graph.h"

/* One step: a pass over an operation. */
struct step {
    int op;
    enum nn_pass pass;
    int workspace; /* buffer, or -1 */
    int threads;   /* that it has room for, and that there are */
};

/* A piece of the arena, in use from step `first` to step `last`. What each group of a batch has for
 * itself lies `part` bytes apart; 0: it serves all, one after the other. */
struct buffer {
    size_t bytes, offset, part;
    int first, last;
};

/* While buffers are placed: the heaviest first. */
struct placing {
    double weight;
    int buffer;
};

/* Of an operation. */
struct plan_op {
    bool first[NN_IN][2], final[NN_IN][2]; /* the part's gradient: first and last writer */
    int group, phase;                      /* in use: of its slices (nn_beside) */
    bool behind;             /* its backward pass takes the normalisation behind it along (kr_dy) */
    double cost;             /* of making its map */
    size_t least[NN_PASSES]; /* of a step's workspace, plus 1; 0: not yet known */
    size_t wants[NN_PASSES]; /* the same, with as many threads as choices are made for */
};

/* Of a value: buffers, or -1. */
struct plan_value {
    int map, again, grad;
    int tail;    /* in a stream: what of the map is put by between calls */
    int idle[2]; /* of a map: its last step forward and first step backward, or -1 */
};

/* Of a value: what was chosen. */
struct plan_choice {
    bool recompute; /* the map is made again for the backward pass */
    bool narrow;    /* the map is kept as bfloat16 */
};

/* Of a map that is made slice by slice, in a stream: when `t` slices of the image have come there
 * are by * floor((t - lag) / (by * down)) of its own, t being a multiple of `beat`. */
struct flow {
    int down, lag, by, beat;
    int most;   /* that a call makes */
    int window; /* that are needed at once */
    int stay;   /* that later calls need */
    bool kept;  /* the map's memory outlives a call; else those that stay are put by, if any */
    int room;   /* in memory: with more of it they are moved to its front less often */
};

struct plan {
    const struct graph *g;
    const struct nn_options *opt;
    bool learn, stepwise; /* stepwise: each parameter's gradient is used up when it is whole */
    int groups;           /* of the batch, that are computed here */
    struct nn_size size;
    int image;  /* the value that is the batch's image as it was given, planes, or -1 */
    int logits; /* the value that is the caller's logits, or -1 */
    struct step *step;
    struct buffer *buffer;
    int steps, buffers, step_room, buffer_room;
    struct plan_op *op;
    struct plan_value *value;
    struct plan_choice *choice;
    struct flow *flow;   /* of each value, or NULL: no stream. `size` is then of the fewest slices
                          that all maps have whole ones of */
    int *dweight, *wide; /* of a parameter: a gradient's or widened weight's buffer, or -1 */
    size_t extent;       /* of all buffers */
    size_t bytes;        /* of these tables */
    size_t *live;        /* of each step: bytes in use; scratch */
    struct placing *placing; /* of each buffer; scratch, as the next */
    int *scratch;            /* 2 of each buffer */
};

/* Both plans of a network, and what the process needs besides their maps: rest[1] with moments as
 * bfloat16. `products`: the threads that compute products of matrices, each of which
 * needs memory; before the choices those they are made for, 0 where there are no products. */
struct plans {
    struct plan train, eval;
    bool moments_narrow;
    int products;
    size_t rest[2];
};

/* The choices must be the same for any number of threads, so they are made as if there were these
 * many; then each step gets as many as there are and it has room for. */
static inline int nn_base_threads(bool learn)
{
    return learn ? 2 : 1;
}

/* Whether it is run by a stream's slices; one that sees a volume as a whole is not. */
static inline bool nn_flows(const struct nn_options *o)
{
    return o->stream && !o->deep;
}

/* A sum along the tree of groups, of which these are the next: where the next one's goes, as they
 * wait on top of each other, and how many may wait. */
static inline int nn_slot(int group)
{
    int n = 0;
    for (; group; group &= group - 1)
        n++;
    return n;
}

static inline int nn_slots(int groups)
{
    int most = 0;
    for (int i = 0; i < groups; i++)
        most = nn_slot(i) + 1 > most ? nn_slot(i) + 1 : most;
    return most;
}

/* flow.c: lag and steps of each map that the output is made of; how many slices to plan for. What a
 * step needs of its inputs is shaped by the slices that it makes: so many samples where it works on
 * each by itself, else one sample. */
void nn_flow(const struct graph *, struct flow *of);
bool nn_volume(const struct graph *);            /* some operation sees more than one slice */
int nn_lag(const struct graph *);                /* of its output; -1 if memory is short */
const struct op *nn_whole(const struct graph *); /* sees a whole sample, along z; or NULL */
/* By calls of so many slices at most time goes by multiples of this. */
int nn_every(const struct graph *, int slices);
void nn_windows(struct plan *);
int nn_groups(struct plan *); /* makes groups those that a stream's calls make; 0 or -1 */
struct nn_reach nn_reach_of(const struct op *);
struct nn_size nn_slab(const struct plan *, const struct op *, int slices);
const struct flow *nn_pace(const struct plan *, const struct op *); /* of what it makes, or reads */

/* Of a map's slices: those there are; the first that a reader needs which has made so much. */
long nn_made(const struct flow *, long t);
long nn_needs(const struct plan *, const struct op *, int root, long t);

/* A plan without choices; 0 or -1 if memory is short. */
int nn_plan_new(struct plan *, const struct graph *, const struct nn_options *, bool learn,
                const struct nn_size *);
void nn_plan_free(struct plan *);

/* The choices: 0, or NN_EMEM and a line in why. */
int nn_plan(struct plans *, char *why, size_t size);

/* Steps and buffers from the choices, with workspaces for nn_base_threads. A workspace also does,
 * with one thread, for every batch of at most the plan's number, depth, height and width. */
void nn_schedule(struct plan *);
size_t nn_wants(struct plan *, const struct step *, int threads);
void nn_place(struct plan *); /* offsets */

/* A call for one pass as the plan has it, for a batch of that size; no pointers. */
struct nn_call nn_planned(const struct plan *, const struct op *, enum nn_pass,
                          const struct nn_size *, int threads);

/* Of the process, which has taken so much at some time: the most of all times. */
static inline size_t nn_peak(const struct nn_options *o, size_t bytes)
{
    size_t before = o->before > NN_START_BYTES ? o->before : NN_START_BYTES;
    return bytes > before ? bytes : before;
}

double nn_flops(const struct plan *, const struct op *); /* forward */

/* Whether a parameter is read as it was packed once. */
static inline bool nn_packed(const struct nn_options *o, const struct param *p)
{
    return !o->train && o->bf16 && p->packs;
}

/* Whether weights are 16 bits wide in the caller's memory and made float for each use. */
static inline bool nn_widened(const struct nn_options *o, const struct param *p)
{
    return !o->train && p->t.rank > 1 && o->weights != DT_F32 && !nn_packed(o, p);
}

/* Whether a map may be kept as bfloat16, and whether it is. */
static inline bool nn_may_narrow(const struct plan *p, int root)
{
    const struct value *v = &p->g->value[root];
    return p->g->op[v->writer].kind->finishes && !v->plain && !v->planes;
}

static inline bool nn_narrow(const struct plan *p, int root)
{
    return p->choice[root].narrow || (p->opt->bf16 && nn_may_narrow(p, root));
}

#endif
