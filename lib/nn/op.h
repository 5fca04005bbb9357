/* op.h - what an operation is: all that the file of one includes.
 *
 * A network is a list of operations. Each reads values and makes one: a MAP in memory, or a VIEW, a
 * way of reading the map under it. Normalisation, ReLU, leaky ReLU, dropout and concatenation are
 * views and cost next to nothing: the kernel that writes a map leaves the sums that a normalisation
 * needs, kernels that read it apply scale, shift and activation (struct kr_in), and the kernel that
 * writes a gradient last turns it into the gradient below the view (struct kr_dx). Where a kernel
 * cannot, the graph puts a copy in between; an operation need not know.
 *
 * An operation is one file, op_NAME.c, with a `const struct nn_kind nn_NAME`, and one line in
 * ops.h. It is told its attributes, shapes, operands and gradients by a call, and sees
 * neither the plan nor other operations. */
#ifndef NN_OP_H
#define NN_OP_H

#include "lib/kernels/bf16.h"
#include "lib/kernels/pointwise.h"
#include "lib/nn/nn.h"

#include <math.h>

#define NN_IN 4     /* inputs of an operation, at most */
#define NN_ATTRS 8  /* attributes */
#define NN_PARAMS 5 /* parameters */

/* --- attributes ------------------------------------------------------------------------------- */

/* AXES: [z, y, x], or [y, x], or one number for y and x; z is 1 unless it is given. */
enum nn_type { NN_INTEGER, NN_REAL, NN_BOOL, NN_AXES };

/* An attribute that a description may give: bounds included; `preset` where it does not, NAN where
 * it must. A kind's rules end with one without a name. */
struct nn_rule {
    const char *name;
    enum nn_type type;
    double low, high, preset;
};

struct nn_attr {
    double v[3]; /* z, y, x; a single number is v[0] */
};

/* --- building --------------------------------------------------------------------------------- */

/* A value's shape beside the image: channels, and by what the image's depth, height and width are
 * divided. A planar network's down[0] is 1. */
struct nn_extent {
    int c, down[3];
};

/* First values: as torch.nn begins, keyed by (seed, name). */
enum nn_first { NN_UNIFORM /* within 1 / sqrt(fan) */, NN_ONES, NN_ZEROS };

/* What a shape rule sees, and says what the operation makes through. */
struct nn_build {
    const struct nn_attr *attr;
    const struct nn_extent *in[NN_IN];
    int ins;
    struct nn_extent out; /* to be set; before: that of the first input */
    struct nn_param {
        const char *suffix;
        bool trained;
        enum nn_first first;
        size_t fan;
        int rank;
        uint32_t dim[TENSOR_MAX_RANK];
    } param[NN_PARAMS]; /* by nn_declare */
    int params;
    char *why;
    size_t size;
};

/* Declares the next parameter, "OPERATION.suffix". Trained ones have a gradient; others are
 * statistics. fan: of NN_UNIFORM. */
void nn_declare(struct nn_build *, const char *suffix, bool trained, enum nn_first, size_t fan,
                int rank, const uint32_t dim[]);

/* 0, or a refusal where the inputs are not of one size, or not of as many channels. */
int nn_same_size(struct nn_build *);
int nn_same_channels(struct nn_build *);

/* "what" of an error; returns -1. */
int nn_refuse(struct nn_build *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- running ---------------------------------------------------------------------------------- */

struct nn_shape {
    int n, d, h, w, c;
};

/* A planar kernel takes the slices of volumes as samples. */
static inline struct kr_dims nn_slices(const struct nn_shape *s, int threads)
{
    return (struct kr_dims){.n = s->n * s->d, .h = s->h, .w = s->w, .threads = threads};
}

/* Planes of logits. */
static inline struct kr_planes nn_planes(const struct nn_shape *s, int threads)
{
    return (struct kr_planes){
        .n = s->n, .d = s->d, .h = s->h, .w = s->w, .c = s->c, .threads = threads};
}

static inline size_t nn_pixels(const struct nn_shape *s)
{
    return (size_t)s->n * (size_t)s->d * (size_t)s->h * (size_t)s->w;
}

/* What a normalisation keeps, for each of `rows` rows: one, or (statistics of each sample) one for
 * each slice. cp = kr_pad(c). */
struct nn_norm {
    int rows;
    size_t count;          /* values of a channel that `sums` goes over, in all processes */
    float *scale, *shift;  /* rows * cp */
    double *mean, *invstd; /* rows * cp */
    double *sums; /* rows * 2 * cp: forward of y, then y * y; backward of dz, then dz * y */
    float *k;     /* rows * 3 * cp: kr_bn_backward's, the gradient below is
                     k[0] * dz + k[1] * y + k[2] */
};

/* What a loss keeps from its forward pass, for the head's backward pass. */
struct nn_loss_state {
    struct kr_loss_sums sums;
    struct kr_loss loss;
};

/* The batch from outside: for the input and the loss. */
struct nn_io {
    const struct nn_batch *batch;
    const struct nn_output *output; /* NULL while learning, and no logits asked for */
    struct nn_result *result;
    const struct nn_hooks *hooks;
};

enum nn_pass {
    PASS_FORWARD,
    PASS_WEIGHT,   /* gradients of parameters */
    PASS_DATA,     /* gradients of inputs */
    PASS_BACKWARD, /* both in one */
    PASS_START,    /* gradients are whole, and may go to other processes; as the next */
    PASS_UPDATE,   /* the optimiser's step, or what adds to its gradient; no operation sees it */
    PASS_RECOMPUTE /* forward, once more, for a backward pass */
};
#define NN_PASSES (PASS_RECOMPUTE + 1)

/* Slices of the sample that lie in memory before an input's first and behind its last, as far as
 * the kind's reach asks for them. In use results are made by groups of `group` slices of the
 * sample, one of which begins `phase` slices before the output's first. */
struct nn_beside {
    int before, behind;
    int group, phase;
};

/* One pass over one operation. While planning, when only `workspace` is asked, there are no
 * pointers. Input i has parts[i] maps: two where it is a concatenation. */
struct nn_call {
    enum nn_pass pass;
    bool learn; /* else evaluation: running statistics, no dropout */
    const struct nn_attr *attr;
    int id; /* of the operation: for random numbers */
    int ins, parts[NN_IN];
    struct nn_shape x[NN_IN], y;
    struct kr_in in[NN_IN][2]; /* forward, weight; data only where the kind has data_reads, or there
                                  is a dx.act */
    struct kr_out out;         /* forward */
    struct kr_dy dy;           /* backward; with a k only where behind() was true */
    struct kr_dx dx[NN_IN][2]; /* data: to be written, or with `accumulate` added to; a part whose
                                  dx is NULL is not wanted */
    const float *param[NN_PARAMS]; /* NULL: there is none */
    float *statistic[NN_PARAMS];   /* those that are not trained: for `commit` */
    float *grad[NN_PARAMS];        /* weight, backward: to be overwritten; NULL: not wanted */
    bool centred;                  /* a normalisation takes the output's mean away: what is added to
                                      a channel, as a bias is, has the gradient 0 */
    struct nn_norm *norm;          /* of a normalisation */
    float *gain;                   /* of a dropout: rows of kr_pad(c) */
    struct nn_loss_state *loss;    /* of a loss; of a head: that of the loss that reads it */
    bool first;                    /* of a loss: the first, whose head is the network's output */
    const struct nn_io *io;
    const struct nn_training *training;
    const struct targets *targets;
    uint64_t step, before;   /* steps taken; samples of this one in batches before */
    struct nn_beside beside; /* in a stream */
    enum kr_algo algo;
    bool bf16;          /* products of bfloat16, where it has some */
    const void *packed; /* the weights as kr_bf16_pack left them, or NULL */
    int threads;
    void *workspace; /* what `workspace` asked for, 64-byte aligned */
    int *failed;     /* nn_fault sets it */
    char *why;
    size_t size;
};

int nn_fault(const struct nn_call *, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* --- kinds ------------------------------------------------------------------------------------ */

enum nn_effect {
    NN_MAP,
    NN_NORM, /* a view: `forward` makes norm->scale and shift of norm->sums, `data` the gradients of
                its parameters and norm->k */
    NN_ACTIVATION, /* a view: max(x, slope * x), slope its first attribute, 0 <= slope < 1 */
    NN_DROPOUT,    /* a view: `forward` makes `gain` */
    NN_CONCAT,     /* a view of its inputs side by side */
    NN_INPUT,      /* a map that no gradient flows to */
    NN_HEAD,       /* a map of planes, (N,C,D,H,W) floats: logits */
    NN_LOSS        /* makes nothing */
};

/* What its kernels can read: plain float maps; through scale, shift, activation and from bf16; and
 * two maps side by side too. */
enum nn_reading { NN_PLAIN, NN_VIEWS, NN_PARTS };

/* What slices of the output need along z besides the input's that lie under them, which pooling,
 * strides and factors take whole. */
struct nn_reach {
    int before, behind; /* so many on either side */
    bool whole;         /* all of the sample's: it cannot be computed slice by slice */
    bool groups;        /* it makes NN_GROUP slices at once for less than so many one by one */
};

struct nn_kind {
    const char *name; /* as descriptions write it: the field's */
    enum nn_effect effect;
    const struct nn_rule *rule; /* NULL: no attributes */
    int least, most;            /* inputs */
    enum nn_reading reads;
    bool finishes;  /* can do all that kr_out asks (scale, shift, activation, sums, bf16) and, where
                       `reads` is not NN_PLAIN, all that kr_dx asks; else it writes plain float */
    bool planes;    /* its map is planes, (N,C,D,H,W) floats, not padded: no view but a
                       normalisation's, which its reader sees as in.scale and in.shift */
    bool planes_in; /* its first input may be such planes, which then nobody else reads */
    bool data_reads; /* `data` reads its inputs' maps, activation or not */
    bool in_place; /* may write over its first input, and its first input's gradient over its own */
    /* Whether it may in evaluation, where a map is so large; NULL: as in_place says. */
    bool (*overwrites)(const struct nn_call *);
    bool each;     /* of a normalisation: statistics of each sample, in evaluation too */
    bool mixes;    /* of a normalisation: its mean is not of each channel by itself */
    bool products; /* its kernels are OpenBLAS': refused where there is none */
    struct nn_reach (*reach)(const struct nn_attr *); /* NULL: none */
    int (*shape)(struct nn_build *); /* 0, or -1 by nn_refuse; NULL: as the first input */
    void (*forward)(const struct nn_call *);
    void (*weight)(const struct nn_call *);
    void (*data)(const struct nn_call *);
    void (*backward)(const struct nn_call *); /* both in one, where `behind` or alone */
    /* Whether its backward passes should take along the normalisation behind it (kr_dy.k): with
     * `data` by `backward`, else by `weight`. */
    bool (*behind)(const struct nn_call *, bool data);
    /* Whether it can read its input as it was given, planes: then no map is made of it. */
    bool (*planar)(const struct nn_call *);
    size_t (*workspace)(const struct nn_call *); /* bytes, whatever dtypes maps have; NULL: none */
    double (*flops)(const struct nn_call *);     /* forward, of the whole batch; NULL: hardly any */
    /* As convolution with products of bfloat16, whose weights, the first parameter, are packed for
     * use. NULL: it is none. */
    struct kr_bf16 (*bf16)(const struct nn_call *);
    /* Of a normalisation: scale and shift from running statistics, before an evaluation; running
     * statistics take the batch's, once the loss is known to be finite. */
    void (*prepare)(const struct nn_call *);
    void (*commit)(const struct nn_call *);
    /* Of a loss: what its sums make, once they are those of all groups. */
    void (*settle)(const struct nn_call *);
};

static inline int nn_int(const struct nn_attr *attr, int i)
{
    return (int)attr[i].v[0];
}

#endif
