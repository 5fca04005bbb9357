/* nn.h - networks: what they are, the memory that they will take, their training and their use.
 *
 * One handle, in this order:
 *
 *     nn_new                  checks the description, plans every byte, allocates almost nothing
 *     nn_memory, nn_print     what it will take, and what it is: before anything runs
 *     nn_load or nn_init      parameters, from tensors or from a seed
 *     nn_train, nn_infer      as often as wanted, in any order (validation amid training)
 *     nn_free
 *
 * A network is a description (text.h, and the page network(7)); what operations there are, ops.h
 * lists. Images are planar float (N,C,D,H,W), labels are uint8 (N,D,H,W); D is 1 for planar
 * networks. What depth, height and width must be divisible by follows from the network. Names of
 * parameters, losses and optimisers are those of PyTorch's definitions.
 *
 * The same calls on the same data give the same bytes for any number of threads. A handle is used
 * by one thread at a time. Nothing here reads files, the environment or a clock; kr_init() has been
 * called. */
#ifndef NN_H
#define NN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/base/targets.h"
#include "lib/base/tensor.h"
#include "lib/kernels/kernels.h"

#define NN_MAX_CIN 64
#define NN_MAX_CLASSES 16
#define NN_MAX_SIDE 8192
#define NN_MAX_BATCH 1024
#define NN_MAX_THREADS 256
#define NN_IGNORE 255 /* a label out of the loss and of the counts: padding */

/* Every function that can fail returns 0 or one of these, and leaves one line of text (nn_why). */
enum nn_error {
    NN_EARG = -1,   /* a shape, option or parameter that does not fit */
    NN_EMEM = -2,   /* does not fit the ceiling, or the system has no more */
    NN_ENAN = -3,   /* the loss or the output is not finite, or the trap went off */
    NN_ELABEL = -4, /* a label outside the classes */
    NN_ESTOP = -5,  /* a hook said so */
};

enum nn_arch { NN_UNET, NN_ATTENTION, NN_RESIDUAL, NN_ARCH_COUNT };

/* A parameter of a description, and what it is set to. */
struct nn_setting {
    char name[32];
    double value;
};

#define NN_MAX_SETTINGS 16
#define NN_TEXT_MAX (64 << 10) /* bytes of a description */
#define NN_MAX_FLOPS 1e9       /* of a network: forward, for each pixel of an image */
#define NN_MAX_WEIGHTS 2e9

/* A description, what errors call it, and settings of its parameters. The text is not kept. */
struct nn_spec {
    const char *text;
    size_t length;
    const char *name;
    struct nn_setting set[NN_MAX_SETTINGS];
    int settings;
};

/* The text of a network that comes with the program (unet, attention, residual, nnunet2d,
 * transunet, unet3d, attention3d, residual3d, transunet3d), or NULL; the names, ended by NULL. */
const char *nn_known(const char *name, size_t *length);
extern const char *const nn_names[];

/* One of these with its usual settings; nn_set adds or changes one. */
struct nn_spec nn_network(const char *name, int base, int inputs, int classes);
void nn_set(struct nn_spec *, const char *name, double value);

/* What a description is of, before any size is known: channels of its image and of its output, what
 * depth, height and width must be divisible by, the work for each pixel of an image. A program
 * whose networks compute no products of matrices may give the library for that back
 * (kr_products_free). */
struct nn_about {
    int inputs, outputs, multiple[3];
    double flops; /* forward */
    bool products;
    bool volume; /* some kernel, pool or factor goes over slices: what comes out of one hangs on
                    those beside it */
    bool whole;  /* on all of the volume, even: as a stream it needs options.deep */
    int lag;     /* as a stream, as nn_stream has it; not of a volume as a whole */
};
int nn_about(const struct nn_spec *, struct nn_about *, char *why, size_t size);

/* What a description comes to, for who says the same in another language: its operations in their
 * order, blocks and expressions resolved. Those that serve training alone are left out, so the last
 * is the head that predicts. */
#define NN_SAID 8
struct nn_said {
    const char *op;
    char name[TENSOR_MAX_NAME];
    int in[4], ins; /* which of them made what it reads */
    int channels;   /* of what it makes */
    struct {
        const char *name;
        bool axes;   /* z, y, x; else one number */
        double v[3]; /* given or preset */
    } attr[NN_SAID];
    int attrs;
    struct tensor param[NN_SAID]; /* names and shapes */
    int params;
};
struct nn_outline {
    struct nn_said *said;
    int count;
};
int nn_outline(const struct nn_spec *, struct nn_outline *, char *why, size_t size);
void nn_outline_free(struct nn_outline *);

/* A side as it must be. */
static inline int nn_padded(int side, int multiple)
{
    return (side + multiple - 1) / multiple * multiple;
}

/* --- training ----------------------------------------------------------------------------------*/

/* Soft Dice over all outputs, background included:
 *
 *     1 - mean_k (2 sum p o + eps) / (sum p + sum o + eps)
 *
 * sums over all pixels of the batch, eps 1e-5; p = softmax, or of regions the sigmoid.
 * Cross-entropy is the mean of a pixel; of regions the binary one, the mean of pixels and regions;
 * focal is it with each logarithm times (1 - p)^gamma. Pixels labelled NN_IGNORE are in none. All
 * is as pointwise.h defines it. */
enum nn_loss { NN_DICE, NN_DICE_CE, NN_CE, NN_DICE_FOCAL, NN_FOCAL };

/* As torch.optim: decay is added to the gradient, or for AdamW taken from the parameter. */
enum nn_optim { NN_ADAM, NN_ADAMW, NN_SGD /* Nesterov */ };

struct nn_training {
    enum nn_loss loss;
    enum nn_optim optim;
    double beta1, beta2, eps; /* Adam; all 0: 0.9, 0.999, 1e-8 */
    double momentum;          /* SGD; 0: none */
    double decay;
    double clip;     /* largest norm of the whole gradient, which it needs at once; 0: none */
    uint64_t seed;   /* of the dropout */
    bool sample;     /* Dice of each sample, and their mean */
    bool foreground; /* Dice without output 0 */
    bool squared;    /* p * p for p below Dice's fraction */
    double gamma;    /* of focal */
    double weight[NN_MAX_CLASSES]; /* of outputs, in cross-entropy and focal; all 0: all 1 */
};

/* The rate at a step, from 0. The first `warmup` steps rise linearly to `top`; then, where t goes
 * from 0 to 1 at step `steps`:
 *
 *     constant      top
 *     cosine        top * (1 + cos(pi t)) / 2
 *     polynomial    top * (1 - t)^0.9
 */
enum nn_schedule { NN_CONSTANT, NN_COSINE, NN_POLYNOMIAL };
struct nn_rate {
    enum nn_schedule schedule;
    double top;
    uint64_t warmup, steps;
};
double nn_rate_at(const struct nn_rate *, uint64_t step);

/* --- planning ----------------------------------------------------------------------------------*/

/* What any process of ours has resident: of program and libraries 3.7 MiB, as they were measured,
 * of OpenBLAS, once given back, up to 0.5, a heap of small things, and the stacks of some
 * threads. */
#define NN_FIXED_BYTES ((size_t)10 << 19)

/* The same where nothing has been read yet: OpenBLAS has been loaded, whoever needs it. Measured
 * were up to 5.5 MiB. */
#define NN_START_BYTES ((size_t)6 << 20)

/* Called from the thread that calls; NULL: none, and then nothing changes. Several processes that
 * share a batch agree at three places: `sums` of a normalisation's statistics and of the loss, and
 * each parameter's `gradient`, become those of all of them (a normalisation's own parameters have
 * the whole batch's gradient already). With `start`, which is told of a gradient once it is whole,
 * `gradient` is called for it later, behind the next one's `start`: they may travel meanwhile.
 *
 * With `part` each steps and averages a part of a parameter alone, those of its n numbers that
 * `part` says: from a multiple of nn_piece(n) up to one or to the end. Either none has all of them
 * or each has. `gradient` may leave the other numbers of a gradient as they are. `spread` gives the
 * own part of a parameter to the others and takes theirs, which may travel until `arrived`, before
 * the call ends. Moments, the whole gradient and the average are true in the own part alone.
 *
 * With `common` too, which gives bytes of 0 that all of them see (nn_free unmaps them), those
 * parameters, their moments and averages lie there, once for all: what the others have stepped is
 * there when `arrived` is over, so that `spread` has nothing to do, and nn_init leaves them to who
 * `gathers`: he has all of the moments in memory, as a checkpoint is written, the others their
 * part.
 *
 * Not 0 from a hook: the call fails with NN_ESTOP. A call that is cancelled behind the loss may
 * have moved some parameters. */
struct nn_part {
    size_t from, n;
};
size_t nn_piece(size_t n);
struct nn_hooks {
    void *ctx;
    int (*sums)(void *ctx, double *sums, size_t n);
    int (*start)(void *ctx, float *gradient, size_t n);
    int (*gradient)(void *ctx, float *gradient, size_t n);
    struct nn_part (*part)(void *ctx, size_t n);
    int (*spread)(void *ctx, float *parameter, size_t n);
    int (*arrived)(void *ctx);
    void *(*common)(void *ctx, size_t bytes);
    bool gathers;
    void (*progress)(void *ctx, int step, int steps); /* steps of a call that are done */
    void (*packed)(void *ctx, const struct tensor *); /* that nn_load was given: not read again */
    bool (*cancel)(void *ctx);                        /* asked before each step */
};

/* A batch of training in groups of samples: what goes over all of it (a batch normalisation's
 * statistics, the sums of the loss, gradients) is summed within each group as within a batch, and
 * then over the groups along a binary tree, whose leaves they are: neighbours first, one without a
 * neighbour waits for the next storey. So the sums are the same whether a process has all groups or
 * several have some each, as long as those of each are a branch of that tree: so many that they are
 * a power of two, the same in each (`hooks` then go on with the tree above). `own` of them, from
 * `first`, are this process'. All 0: one group, and nothing of this. */
#define NN_MAX_GROUPS 64
struct nn_groups {
    int all, first, own;
    bool narrow; /* each group's gradient, and each sum along the tree, is rounded to bfloat16 */
};

struct nn_options {
    bool train;     /* else only nn_infer */
    int n, d, h, w; /* the largest batch: later ones have n*d*h*w at most this, and, in
                                   training, n*d too; their shapes may differ. d 0: 1 */
    int eval_n, eval_d, eval_h, eval_w; /* with train: the same for nn_infer; 0: as n, d, h, w */
    int stream;         /* use is by nn_stream_push, of so many slices at most, and not by
                                   nn_infer, and needs no n nor d. 0: no */
    int deep;           /* of a stream: slices of the deepest volume, of which one is held where
                                   the network sees it as a whole; 0: such a network is refused */
    int threads;        /* 0: 1 */
    size_t ceiling;     /* bytes, for the whole process; 0: none */
    size_t outside;     /* bytes that the caller itself keeps resident, counted in the peak */
    size_t before;      /* that the process took before there was a network; the peak is no less */
    enum dtype weights; /* without train: what nn_load will be given, DT_F32, DT_F16 or DT_BF16.
                           Used where they lie (a mapped file); the latter two are widened layer by
                           layer. DT_U8, the zero value, means DT_F32 */
    enum kr_algo algo;  /* KR_AUTO but for tests */
    bool bf16;      /* convolutions multiply in bfloat16 and maps are kept so, where they can; sums,
                  parameters, gradients and moments stay float. Without train, weights are
                  packed anew before they are used first */
    bool bare;      /* without train: nn_infer is always given `logits`, which are the head's
                           own map (in the caller's memory: `outside`) and may lie over the image */
    bool gradients; /* keep the whole gradient: for nn_gradients and nn_update */
    bool accumulate; /* the same, but nn_backward adds to it until nn_update takes the mean */
    bool average;    /* keep an average of the parameters, which nn_average makes */
    struct nn_groups groups; /* of a batch of training, of which n, d, h and w are one's */
    bool trap; /* name the first operation that makes a value that is not finite (slow) */
    struct nn_training training;
    struct nn_hooks hooks;
    struct targets targets; /* what the outputs are; all 0: classes */
};

/* What the process will have resident at its worst, in bytes. */
struct nn_memory {
    size_t parameters; /* with running statistics, and the average of both; for inference the
                          caller's mapped weights */
    size_t gradients, moments;
    size_t maps; /* activations, their gradients, and what is widened or recomputed */
    size_t workspace;
    size_t fixed;    /* program, libraries, tables, threads, and `outside` */
    size_t common;   /* of these what all processes of `common` have there once */
    size_t own;      /* of these the handle's: what another one in the same process adds */
    size_t products; /* of these OpenBLAS', which all handles of a process share */
    size_t peak;     /* the sum; no less than what the process took before */
};

struct nn;

/* NULL on failure, with a line of text in why[0..size-1]: a bad description, or a ceiling that
 * nothing fits, and then the least that would do. */
struct nn *nn_new(const struct nn_spec *, const struct nn_options *, char *why, size_t size);
void nn_free(struct nn *);

const char *nn_why(const struct nn *);

/* Channels of its image and of its output. */
int nn_inputs(const struct nn *);
int nn_classes(const struct nn *);

struct nn_memory nn_memory(const struct nn *);

/* What the plan keeps as bfloat16, which results depend on, other choices not: the operations of
 * maps, and "moments", joined by commas (as far as there is room); "nothing" else. */
void nn_narrowed(const struct nn *, char *text, size_t size);
#define NN_NARROWED_MAX 4096

/* Calls `line` with each line of a description: operations, shapes, parameters, memory, what was
 * chosen to fit the ceiling. No newline at the end. */
void nn_print(const struct nn *, void (*line)(void *ctx, const char *text), void *ctx);

/* The instruction-set level of the kernels in use, with options.bf16 that of products: results
 * are the same bytes for one level. */
const char *nn_isa(bool bf16);

/* --- parameters --------------------------------------------------------------------------------*/

/* The parameters and running statistics in the order of the operations, DT_F32; data is NULL
 * until nn_load or nn_init. With train, the data may be read and written between calls. */
const struct tensor *nn_params(const struct nn *, size_t *count);

/* Takes parameters by name; others are passed over. Missing ones and wrong shapes are errors. With
 * train they are copied (from any float dtype); without, big ones are used in place and must
 * stay. */
int nn_load(struct nn *, const struct tensor *, size_t count);

/* Of two handles for use alone, which never run at the same time, nor while the other's volume is
 * under way as a stream: the maps of `nn` will lie where those of `of` do, which must take as many
 * bytes (nn_memory) and outlive it. Before nn_load. */
int nn_share(struct nn *nn, struct nn *of);

/* As torch.nn begins, keyed by (seed, name): a convolution's weights and bias uniform within
 * 1 / sqrt(fan), where fan is the number of weights for each index of the first dimension; 1 and 0
 * for normalisation. */
int nn_init(struct nn *, uint64_t seed);

/* Another network's parameters, for one that is initialised to begin with (fine-tuning): those of
 * the same name and shape are copied, from any float dtype; the others stay as they are. Where a
 * dimension goes over the channels of the image or over the network's outputs (a head's), each is
 * looked for by itself: `input` says of each of our channels which of theirs it is, -1 for none,
 * `output` the same of outputs. Weights of a channel that is new are 0, so that the network begins
 * as theirs was; those of an output that is new stay. A kernel with one more extent has theirs as
 * its middle slice and 0 around it, as the mean of its slices if it is even, as each of them if it
 * is transposed: where all slices of a volume are one, its values are those of the slice. */
struct nn_giver {
    const struct tensor *list;
    size_t count;
    const int *input, *output;
    int inputs, outputs; /* that they have */
    /* Of each parameter that was not taken, or in part: why. */
    void (*left)(void *ctx, const char *name, bool part, const char *why);
    void (*next)(void *ctx); /* before each: memory of a file's may be given back */
    void *ctx;
};
/* share: of all our numbers, those that were taken. */
int nn_take(struct nn *, const struct nn_giver *, double *share);

/* The optimiser's memory, "m:NAME" and "v:NAME" (Adam) or "m:NAME" (SGD with momentum), DT_F32 or,
 * to fit a ceiling, DT_BF16 (no parameter's name has a colon); and the number of steps taken. For
 * checkpoints: restoring both, and the parameters, continues the run bit for bit. nn_load_moment
 * takes the i-th of them from a list, by its name. */
const struct tensor *nn_moments(const struct nn *, size_t *count);
int nn_load_moment(struct nn *, size_t i, const struct tensor *, size_t count);
uint64_t nn_steps(const struct nn *);
void nn_set_steps(struct nn *, uint64_t steps);

/* The average of parameters and running statistics goes `share` of the way to what they are: all of
 * it, 1, the first time. While it is shown it stands in their place: nn_params lists it, nn_load
 * loads it, nn_infer runs with it; the parameters that are trained are then among the moments,
 * "w:NAME". It is not to be shown while the network learns. Only with options.average. */
void nn_average(struct nn *, double share);
void nn_show_average(struct nn *, bool shown);

/* --- running -----------------------------------------------------------------------------------*/

struct nn_batch {
    int n, d, h, w;     /* d 0: 1 */
    const float *image; /* (N,C,D,H,W) */
    const uint8_t
        *label; /* (N,D,H,W), 0..classes-1 or NN_IGNORE; NULL in nn_infer without result */
};

/* Sums over the batch, so that those of several batches may be added. */
struct nn_result {
    double loss; /* of this batch: all losses by their weights, in use the first alone, of
                    which the rest is */
    double dice, ce;
    double inter[NN_MAX_CLASSES], prob[NN_MAX_CLASSES]; /* of each output, sum p o, sum p */
    uint64_t truth[NN_MAX_CLASSES]; /* sum o: pixels of that label, or in that region */
    uint64_t pred[NN_MAX_CLASSES];  /* argmax is the class; p of the region is above 0.5 */
    uint64_t hit[NN_MAX_CLASSES];   /* and o is 1 */
    uint64_t pixels;                /* not ignored */
    uint64_t samples;               /* of training: of the batch, in all groups */
};

/* With groups, `own` batches in a row are given to nn_train and nn_backward, each group's, of any
 * size that fits, also of no samples (but with sides), and `logits` are NULL; the result is of all.
 *
 * One step: forward with the batch's statistics, loss, backward, optimiser; result may be NULL.
 * Where the loss is not finite nothing has changed. */
int nn_train(struct nn *, const struct nn_batch *, double rate, struct nn_result *);

/* Forward with the running statistics. `pred` (N,D,H,W) receives the class of the largest
 * probability (the first of equals) or, of regions, the label that targets.h paints; NN_IGNORE
 * where a logit is not finite, and the call fails. `prob` (N,outputs,D,H,W) receives the softmax or
 * the sigmoids, `logits` what went into it; any may be NULL. `result`, if given, compares with
 * batch->label. */
struct nn_output {
    uint8_t *pred;
    float *prob, *logits;
    struct nn_result *result;
};
int nn_infer(struct nn *, const struct nn_batch *, const struct nn_output *);

/* --- a stream of slices ------------------------------------------------------------------------*/

#define NN_GROUP 4 /* slices that convolutions of volumes make together */

/* Use of a network on volumes of any depth, slice by slice: slices go in, and slices of output come
 * out behind them, as nn_infer of the volume would give them, byte for byte, in memory that does
 * not depend on its depth. A depth that is not divisible as it must be is padded with slices of
 * zeros, whose output nobody sees. Nothing is computed twice. A planar network is a stream without
 * lag. Where `stream` is a multiple of NN_GROUP a piece that is none is the volume's last. A
 * network with an operation that is of a volume as a whole (normalisation by the statistics of each
 * sample, attention, linear interpolation along z) takes slices and gives them in the same way, but
 * holds the volume, up to options.deep slices of it, until it is over.
 *
 *     nn_stream_begin(nn)
 *     for each piece of the volume, n slices:
 *         out.pred = room for nn_stream_due(nn, n, false)
 *         nn_stream_push(nn, &piece, &out)
 *
 *     while fewer have come out than have gone in:
 *         the same with nothing: an image that is NULL
 *
 * Between them nothing else is called that runs the network. */
struct nn_stream {
    int in, out; /* slices of a call, at most */
    int lag;     /* slice i has come out once i + 1 + lag have gone in, or as much of nothing */
};
struct nn_stream nn_stream(const struct nn *);

/* Before each volume. One that is under way is given up. */
int nn_stream_begin(struct nn *);

/* How many slices will come out when n go in, or when it is over. */
int nn_stream_due(const struct nn *, int n, bool over);

/* batch->n slices go in, (N,C,H,W), all of a volume of one size; what is due comes out, and is
 * returned: `out` is of so many slices, and so is batch->label for its result. Where image is NULL
 * the volume is over, and it goes on as if so many slices went in. An error ends the volume. */
int nn_stream_push(struct nn *, const struct nn_batch *, const struct nn_output *out);

/* The halves of nn_train, for programs that add the gradients of several processes between them, or
 * those of several batches; only with options.gradients or accumulate. The names are those of the
 * parameters; running statistics have none. `logits` (N,outputs,D,H,W) may be NULL. The running
 * statistics move in nn_backward.
 *
 * With options.accumulate nn_backward adds the gradient times the batch's samples, and nn_update
 * divides by the samples of all: the gradient of the mean loss of a sample. */
int nn_backward(struct nn *, const struct nn_batch *, struct nn_result *, float *logits);
const struct tensor *nn_gradients(const struct nn *, size_t *count);
int nn_update(struct nn *, double rate);

#endif
