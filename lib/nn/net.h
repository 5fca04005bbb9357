/* net.h - inside lib/nn: a network as data, a plan, a handle.
 *
 * A GRAPH is a list of operations in the order of execution. An operation reads values and makes
 * one. A value is either a map in memory, or a VIEW: a way of reading a map. Normalisation,
 * activation, dropout and concatenation make views, so they cost nothing but a few numbers for each
 * channel; every kernel reads through them (struct kr_in). All consumers of a map read it through
 * the same last view, and the gradient kept for a map is that of the view, turned by the last
 * consumer's kernel (mask, dropout factor: struct kr_dx) and by the normalisation's backward step
 * into that of the map itself.
 *
 * An operation is one file: op_NAME.c holds its shape rule (the function that appends it to a
 * graph) and its kind: forward, backward to weights, backward to data, workspace, flops. */
#ifndef NN_NET_H
#define NN_NET_H

#include "lib/kernels/pointwise.h"
#include "lib/nn/nn.h"

#define MAX_OPS 192
#define MAX_VALUES 192
#define MAX_PARAMS 256
#define MAX_STEPS (5 * MAX_OPS)
#define MAX_BUFFERS (6 * MAX_OPS)

enum pass {
    PASS_FORWARD,
    PASS_WEIGHT,
    PASS_DATA,
    PASS_BACKWARD, /* both in one */
    PASS_UPDATE,
    PASS_AGAIN /* forward, recomputed */
};
#define PASSES (PASS_AGAIN + 1)

struct op;
struct graph;

struct kind {
    const char *name;
    bool view;       /* makes no map */
    bool aux;        /* keeps one float a pixel besides */
    bool data_reads; /* `data` reads the input's map even where no activation lies on it */
    bool narrow;     /* can write its map as bfloat16 */
    bool in_place;   /* may write over its input[0], and the gradient of that over its own */
    void (*forward)(struct nn *, const struct op *);
    void (*weight)(struct nn *, const struct op *);
    void (*data)(struct nn *, const struct op *);
    void (*backward)(struct nn *, const struct op *); /* both in one, where `behind` or alone */
    /* Whether its backward passes should take the normalisation behind it along (plan.behind). */
    bool (*behind)(const struct nn *, const struct op *, bool data);
    /* Whether it can read its input as planes (plan.image). */
    bool (*planar)(const struct nn *, const struct op *);
    size_t (*workspace)(const struct nn *, const struct op *, enum pass); /* NULL: none */
    double (*flops)(const struct graph *, const struct op *); /* for each pixel of the output */
};

/* A value. For a map root == itself; for a view root is the map that it reads; a concatenation has
 * no root, but two parts. */
struct value {
    int c, level; /* channels; height and width are those of the image >> level */
    int root, part[2];
    int writer;     /* the operation that made it */
    int norm, drop; /* the operations of the view, or -1 */
    bool relu;
    bool fixed;  /* needs no gradient: the image */
    bool planes; /* (N,C,H,W) floats, neither narrowed nor made again: the logits */
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
    return v->planes ? v->c : kr_pad(v->c);
}

struct op {
    const struct kind *kind;
    char name[TENSOR_MAX_NAME];
    int id, in[3], nin, out; /* values */
    int param[5], nparams;
    double number;     /* dropout's probability */
    int gamma, norm_c; /* of a normalisation in it: its first parameter, or -1, and channels */
    bool absorbed;     /* a normalisation whose backward step its consumer does */
};

struct param {
    struct tensor t; /* float, in the arena or the caller's */
    bool trained;
    float *grad;       /* trained; NULL where it lives in the plan's maps */
    void *m, *v;       /* moments, or NULL */
    bool owned;        /* lies in our memory */
    size_t first;      /* elements in all parameters before it */
    bool widened;      /* without train: 16-bit weights, made float for each use */
    struct tensor raw; /* those, as they were given */
};

struct graph {
    struct op op[MAX_OPS];
    struct value value[MAX_VALUES];
    struct param param[MAX_PARAMS];
    int ops, values, params;
};

/* --- graph.c: building -------------------------------------------------------------------------*/
void nn_build(struct graph *, const struct nn_spec *); /* networks.c */

struct op *nn_append(struct graph *, const struct kind *, const char *block, const char *part);
int nn_map(struct graph *, struct op *, int c, int level); /* a new map, op's output */
int nn_view(struct graph *, struct op *, int of);          /* a new view on a value */
void nn_read(struct graph *, struct op *, int value);      /* one more input */
int nn_param(struct graph *, struct op *, const char *suffix, bool trained, int rank,
             const uint32_t dim[]);

/* Each appends one operation called BLOCK.PART and returns its value. */
int nn_input(struct graph *, int cin);
int nn_conv3x3(struct graph *, int x, int cout, const char *block, const char *part);
int nn_conv1x1(struct graph *, int x, int cout, bool bias, const char *block, const char *part);
int nn_upconv(struct graph *, int x, int cout, const char *block, const char *part);
int nn_norm(struct graph *, int x, const char *block, const char *part);
int nn_relu(struct graph *, int x, const char *block);
int nn_dropout(struct graph *, int x, double p, const char *block);
int nn_pool(struct graph *, int x, const char *block);
int nn_concat(struct graph *, int a, int b, const char *block);
int nn_add(struct graph *, int a, int b, const char *block);
int nn_gate(struct graph *, int a, int b, int x, const char *block);
int nn_head(struct graph *, int x, int classes);
void nn_loss_op(struct graph *, int logits);

/* --- plan.c ------------------------------------------------------------------------------------*/

/* One step of a schedule: a pass over an operation. */
struct step {
    short op;
    enum pass pass;
    int workspace; /* buffer, or -1 */
    int threads;   /* that it has room for, and that there are */
};

/* A piece of the arena, in use from step `first` to step `last`. */
struct buffer {
    size_t bytes, offset;
    int first, last;
};

struct plan {
    bool learn;
    int n, h, w;
    struct step step[MAX_STEPS];
    int steps;
    struct buffer buffer[MAX_BUFFERS];
    int buffers;
    int map[MAX_VALUES], again[MAX_VALUES], grad[MAX_VALUES]; /* buffers of a map, or -1 */
    int dweight[MAX_PARAMS], wide[MAX_PARAMS]; /* a gradient's or widened weight's buffer, or -1 */
    bool first[MAX_OPS][3], final[MAX_OPS][3]; /* the input's gradient: first and last writer */
    bool behind[MAX_OPS]; /* its backward pass takes the normalisation behind it along (kr_dy) */
    int aux[MAX_OPS];
    int image; /* the value that is the batch's image as it was given, planes, or -1 */
    int idle[MAX_VALUES][2]; /* of a map: its last step forward and first step backward, or -1 */
    bool drop[MAX_VALUES];   /* chosen: the map is made again for the backward pass */
    bool narrow[MAX_VALUES]; /* chosen: the map is kept as bfloat16 */
    size_t extent;           /* of all buffers */
    size_t least[MAX_OPS][PASSES]; /* of a step's workspace, plus 1; 0: not yet known */
};

int nn_plan(struct nn *); /* the choices; 0 or NN_EMEM */
/* Steps and buffers from the choices, with workspaces for nn->threads. A workspace also does, with
 * one thread, for every batch of at most the plan's number, height and width. */
void nn_schedule(struct nn *, struct plan *);
size_t nn_wants(struct nn *, struct plan *, const struct step *, int threads);
void nn_place(struct plan *);                                               /* offsets */
double nn_flops(const struct nn *, const struct plan *, const struct op *); /* forward */

/* --- the handle --------------------------------------------------------------------------------*/

/* What a normalisation keeps: see kr_bn. */
struct norm {
    float *scale, *shift; /* kr_pad(c) */
    double *mean, *invstd;
    double *sums; /* 2 * kr_pad(c): forward of y and y * y, backward of dz and dz * y */
    float *k;     /* 3 * kr_pad(c) */
};

/* What a dropout keeps: N vectors of kr_pad(c). */
struct drop {
    float *gain, *scale, *shift;
};

struct nn {
    struct nn_spec spec;
    struct nn_options opt;
    struct graph g;
    struct plan train, eval;
    struct nn_memory memory;
    char why[256];
    bool moments_narrow; /* chosen by the plan */
    bool stepwise;       /* likewise: each parameter takes its step when its gradient is whole */

    char *arena, *maps; /* maps: where the plan's buffers start */
    size_t arena_bytes;
    void *tables;
    size_t table_bytes;
    struct norm norm[MAX_OPS];
    struct drop dropout[MAX_OPS];
    bool ready; /* has parameters */
    struct tensor params[MAX_PARAMS], grads[MAX_PARAMS], moments[2 * MAX_PARAMS];
    size_t nparams, ngrads, nmoments;
    uint64_t steps;

    /* while running */
    const struct plan *now;
    const struct step *at; /* the step that runs, or is planned */
    int n, h, w, threads;
    const struct nn_batch *batch;
    const struct nn_output *output;
    struct nn_result result;
    struct kr_loss_sums sums;
    int failed;
    double rate;
    void *spare; /* workspace for a shape that needs more than was planned */
    size_t spare_bytes;
    char *map_at[MAX_VALUES];
};

/* --- run.c: what operations ask ----------------------------------------------------------------*/
struct kr_dims nn_dims(const struct nn *, int value);
struct kr_planes nn_planes(const struct nn *, int value);
int nn_operands(const struct nn *, int value, struct kr_in *in); /* how many: 1 or 2 */
struct kr_out nn_target(const struct nn *, const struct op *);
float *nn_dy(const struct nn *, int value); /* the gradient of a map or of the view on it */
void nn_dx(const struct nn *, const struct op *, int input, const struct kr_in *in,
           struct kr_dx *dx);
float *nn_aux(const struct nn *, const struct op *);
const float *nn_weight(const struct nn *, const struct op *, int i); /* its parameter i */
float *nn_dweight(const struct nn *, const struct op *, int i);
void *nn_workspace(struct nn *);
int nn_fail(struct nn *, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* op_loss.c */
struct kr_loss nn_loss(const struct nn *, int logits);

/* op_norm.c */
struct kr_bn nn_bn(const struct nn *, const struct op *);
size_t nn_count(const struct nn *, const struct op *); /* N*H*W */
void nn_norm_commit(struct nn *, const struct op *);   /* running statistics take the batch's */

/* handle.c */
struct nn *nn_from(void (*build)(struct graph *, const struct nn_spec *), const struct nn_spec *,
                   const struct nn_options *, char *why, size_t size); /* nn_new for any graph */
int nn_arena(struct nn *);      /* allocates once, at the first nn_load or nn_init */
size_t nn_measure(struct nn *); /* the peak under the plan as it stands: nn->memory */

/* params.c */
void nn_list(struct nn *);

/* optim.c */
void nn_step(struct nn *, int param, double gain);

extern const struct kind nn_kind_norm, nn_kind_dropout;

#endif
