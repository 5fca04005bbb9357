/* handle.h - inside lib/nn: the handle, what it owns and where its parts meet. */
#ifndef NN_HANDLE_H
#define NN_HANDLE_H

#include "lib/nn/plan.h"

/* A parameter as it lies in memory. */
struct stored {
    struct tensor t;    /* float, in the arena or the caller's */
    float *grad;        /* trained; NULL where it lives in the plan's maps alone */
    float *average;     /* or, while that is shown, what is trained; NULL: there is none */
    void *m, *v;        /* moments, or NULL */
    bool owned;         /* lies in our memory */
    const void *packed; /* in memory of ours, or NULL */
    bool widened;       /* 16-bit weights, made float for each use */
    struct tensor raw;  /* those, as they were given */
    size_t first;       /* elements in all parameters before it */
};

/* What a dropout keeps: for each slice. */
struct dropped {
    float *gain, *scale, *shift;
};

struct nn {
    struct nn_options opt;
    struct graph g;
    struct plans plans;
    struct nn_memory memory;
    char name[64]; /* of the description */
    char why[256];
    int failed;

    char *arena, *maps; /* maps: where the plan's buffers start */
    char *common;       /* what is the same memory in all processes, or NULL */
    size_t arena_bytes, common_bytes;
    bool shared;  /* the arena is another handle's */
    char *packed; /* parameters that are, or NULL */
    size_t packed_bytes;
    bool unpacked; /* those that are to be packed have not been yet */
    char *kept; /* of a stream that sees volumes as a whole: the volume now, its logits, and those
                    of slices that go out; or NULL */
    void *tables;
    size_t table_bytes, bytes; /* bytes: of the handle and its lists */
    struct stored *param;
    struct nn_norm *norm; /* of each operation: the group's that is computed now, as the next */
    struct dropped *dropped;
    struct nn_loss_state *loss;
    struct { /* of all groups, one behind the other */
        int now;
        struct nn_norm *norm;
        struct dropped *dropped;
        struct nn_loss_state *loss;
        char **map_at;
    } group;
    bool each;  /* some statistics are of each sample */
    bool ready; /* has parameters */
    struct tensor *params, *grads, *moments;
    size_t nparams, ngrads, nmoments;
    uint64_t steps;
    uint64_t gathered; /* samples whose gradients have been added up for the next step */
    uint64_t batches;  /* that they came in */
    bool shown;        /* the average has changed places with the parameters */

    /* while running */
    const struct plan *now;
    struct nn_size size;
    const struct nn_batch *batch; /* of each group */
    struct nn_beside beside;      /* of a step's input */
    struct stream {
        bool open;
        long pushed, depth, total; /* slices of the image: that have come, of the volume once it is
                                      over (or -1), and of it as it is padded */
        long *base;                /* of each map: the slice that lies first in memory */
    } stream;
    struct nn_io io;
    struct nn_result result;
    double rate;
    void *spare; /* workspace for a shape that needs more than was planned */
    size_t spare_bytes;
    char **map_at; /* of each value */
};

/* why.c: keeps a line and the code, and returns the code. */
int nn_fail(struct nn *, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* arena.c. nn_lay_tables counts first, without memory. */
size_t nn_lay_tables(struct nn *, char *base);
size_t nn_measure(struct nn *); /* nn->memory under the plans as they stand; the sum */
int nn_arena(struct nn *);      /* allocates once, at the first nn_load or nn_init */
void nn_arena_free(struct nn *);
void nn_swap_average(struct nn *); /* parameters and their average change places */

/* stream.c: what it keeps of a volume that the network sees as a whole. */
struct kept {
    size_t logits, slices, bytes; /* where they begin in nn->kept; of all */
} nn_kept(const struct nn *);

/* run.c: where a buffer lies, of the group that is computed now; a batch through a plan; a step of
 * nn->now, of nn->size; the hook of all normalisations that prepares an evaluation, or commits a
 * batch. */
char *nn_at(const struct nn *, int buffer);
int nn_run(struct nn *, const struct plan *, const struct nn_batch *, const struct nn_output *);
void nn_do(struct nn *, const struct step *);
void nn_all_norms(struct nn *, bool commit);

/* pack.c; packs what is to be, before the first use, by the thread that computes; bytes of what
 * the first parameter of an operation becomes where it is packed, else 0 */
int nn_pack(struct nn *);
size_t nn_packed_bytes(const struct nn *, const struct op *);

/* params.c; of a list, the tensor of that name or NULL; "4x3x3" */
void nn_list(struct nn *);
const struct tensor *nn_find(const struct tensor *, size_t count, const char *name);
void nn_shape_text(const struct tensor *, char *text, size_t size);

/* Whether there is a whole gradient, behind a backward pass. */
static inline bool nn_keeps_gradient(const struct nn *nn)
{
    return nn->opt.accumulate || nn->opt.gradients || nn->opt.training.clip > 0;
}

/* optim.c: one parameter's step; one batch's gradient of it, added to those before; what of it is
 * this process' to step. All of them go by that part. */
int nn_step(struct nn *, int param, const float *grad, double gain);
void nn_gather(struct nn *, int param, const float *grad);
struct nn_part nn_part(const struct nn *, int param);
bool nn_is_common(const struct nn *, int param); /* lies where all processes see it */
int nn_arrived(struct nn *);                     /* what others have stepped is there */

#endif
