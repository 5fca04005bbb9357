/* pointwise.h - the arithmetic under the networks that is not convolution: normalisation, sums
 * and products, sigmoid and GELU, resizing, pooling, gates, loss, optimisers.
 *
 * Layout, fusion, threads and ISA levels are as in kernels.h. Where a function takes
 * `workspace` it needs kr_pointwise_workspace(d, c) bytes, 64-byte aligned, c the largest number of
 * channels in the call; NULL will do where none of its kr_out and kr_dx has `sums` (except where
 * it says so).
 *
 * A map that is written may be one of those read (in place) where a comment says so, never else. */
#ifndef POINTWISE_H
#define POINTWISE_H

#include "lib/kernels/kernels.h"

/* The size of maps, and the threads of the call. */
struct kr_dims {
    int n, h, w;
    int threads;
};

size_t kr_pointwise_workspace(const struct kr_dims *, int c);

/* --- batch normalisation ----------------------------------------------------------------------
 * Fused: it makes no pass over its map. Forward, the convolution in front of it writes its raw
 * output x and the sums (kr_out.sums), kr_bn_train makes of them a scale and a shift, and whoever
 * reads the map applies them (kr_in). Backward, the kernel that adds the last part to dz, the
 * gradient of scale * x + shift, leaves the sums (kr_dx.sums), and kr_bn_backward makes of them k,
 * with which for each channel
 *
 *     dx = k[0] * dz + k[1] * x + k[2]
 *
 * That is fused into the convolution's backward pass (struct kr_dy), or kr_bn_apply does it.
 * Statistics and their derivatives are computed in double. All in O(c) but kr_bn_apply. */
struct kr_bn {
    int c;
    const float *gamma, *beta;         /* (c) weight and bias */
    float *running_mean, *running_var; /* (c); NULL in training: not kept */
    float *scale, *shift;              /* (kr_pad(c)) written, zero in the padding */
    double *mean, *invstd;             /* (c) written by kr_bn_train, read by kr_bn_backward */
    double eps, momentum;              /* 1e-5, 0.1 */
};

/* From sums over count = N*H*W values: mean, variance (biased; never below 0), scale = gamma *
 * invstd, shift = beta - mean * scale; running += momentum * (batch - running), with the unbiased
 * variance. */
void kr_bn_train(const struct kr_bn *, size_t count, const double *sums);

/* scale and shift from the running statistics; mean and invstd are not touched and may be NULL. */
void kr_bn_eval(const struct kr_bn *);

/* sums: of dz and of dz * x (2 * kr_pad(c) doubles). Writes dgamma, dbeta (c; overwritten) and
 * k (3 * kr_pad(c): k[0] of all channels, then k[1], k[2]). */
void kr_bn_backward(const struct kr_bn *, size_t count, const double *sums, float *dgamma,
                    float *dbeta, float *k);

/* dx = k0 * dz + k1 * x + k2; x is raw, of type `dtype`; dx may be dz. Sample n uses k + n * stride
 * (0: one for all). */
void kr_bn_apply(const struct kr_dims *, int c, const float *dz, const void *x, enum kr_dtype dtype,
                 const float *k, size_t stride, float *dx);

/* --- group normalisation ----------------------------------------------------------------------
 * Wu & He 2018 (arXiv:1803.08494): over each group of c / groups channels next to each other of
 * each sample; instance normalisation (Ulyanov et al. 2016, arXiv:1607.08022) is that of groups of
 * one channel. A sample is d slices: kernels take these as samples of their own, so everything is
 * in rows, one for each of n * d slices, and a sample's are alike. As above, with m values in a
 * group, x' = (x - mean) / sqrt(var + eps), y = gamma x' + beta:
 *
 *   dgamma = sum dz x', dbeta = sum dz              over all samples
 *   dx = (gamma dz - mean(gamma dz) - x' mean(gamma dz x')) / sqrt(var + eps)
 *
 * where mean is over the group's m values. */
struct kr_gn {
    int n, d, c, groups;
    const float *gamma, *beta; /* (c), or both NULL: 1 and 0 */
    float *scale, *shift;      /* rows of kr_pad(c): written, zero in the padding */
    double *mean, *invstd;     /* rows of kr_pad(c): written, read by kr_gn_backward */
    double eps;                /* 1e-5 */
};

/* sums: rows of 2 * kr_pad(c), over `count` = H*W values (kr_out.each). */
void kr_gn_train(const struct kr_gn *, size_t count, const double *sums);

/* sums: of dz and of dz * x (kr_dx.each). Writes dgamma, dbeta (c; overwritten; not
 * without gamma) and k, rows of 3 * kr_pad(c). */
void kr_gn_backward(const struct kr_gn *, size_t count, const double *sums, float *dgamma,
                    float *dbeta, float *k);

/* --- sums, copies -----------------------------------------------------------------------------
 * out = in[0] + ... + in[nin-1] (1 <= nin <= 2), each read through its kr_in. With one operand:
 * stores what is fused into it, or converts between float and bf16. May be in place if the types
 * are the same. */
void kr_add(const struct kr_dims *, int nin, const struct kr_in in[], const struct kr_out *,
            void *workspace);

/* The gradient dy goes to each of dx[0..ndx-1] (1 <= ndx <= 2) by the rules of kr_dx; dx[i].dx
 * may be dy if not `accumulate`. Where dx[i].dx is NULL nothing is written but the sums. */
void kr_add_backward(const struct kr_dims *, const float *dy, int ndx, const struct kr_dx dx[],
                     void *workspace);

/* Two operands side by side become one map of in[0].c + in[1].c channels, none of them padding:
 * for a kernel that cannot read two. Its gradient dy goes to the parts by the rules of kr_dx; a
 * part where dx is NULL receives nothing but the sums. */
void kr_join(const struct kr_dims *, const struct kr_in in[2], const struct kr_out *,
             void *workspace);
void kr_join_backward(const struct kr_dims *, const float *dy, const struct kr_dx dx[2],
                      void *workspace);

/* NCHW floats, unpadded, become a map, NHWC. */
void kr_from_planar(const struct kr_dims *, int c, const float *planar, void *map, enum kr_dtype);

/* --- element by element -----------------------------------------------------------------------
 * out = in[0] * in[1]; in[1] may have one channel, which then multiplies all of in[0]'s. Backward
 * a part where dx is NULL receives nothing but the sums. */
void kr_multiply(const struct kr_dims *, const struct kr_in in[2], const struct kr_out *,
                 void *workspace);
void kr_multiply_backward(const struct kr_dims *, const struct kr_in in[2], const float *dy,
                          const struct kr_dx dx[2], void *workspace);

/* sigmoid: 1 / (1 + e^-v); GELU: v * (1 + erf(v / sqrt 2)) / 2, exact. out may be in->x, dx may be
 * dy. */
enum kr_curve { KR_SIGMOID, KR_GELU };
void kr_curve_forward(const struct kr_dims *, enum kr_curve, const struct kr_in *,
                      const struct kr_out *, void *workspace);
void kr_curve_backward(const struct kr_dims *, enum kr_curve, const struct kr_in *, const float *dy,
                       const struct kr_dx *, void *workspace);

/* --- over the channels of each pixel ----------------------------------------------------------
 * softmax: e^v[c] / sum_i e^v[i].
 * Layer normalisation: (v - mean) / sqrt(var + eps) * gamma[c] + beta[c], var biased. Backward
 * either dx or dgamma and dbeta (c; overwritten) may be NULL, and `workspace` is needed always. */
void kr_softmax_forward(const struct kr_dims *, const struct kr_in *, const struct kr_out *,
                        void *workspace);
void kr_softmax_backward(const struct kr_dims *, const struct kr_in *, const float *dy,
                         const struct kr_dx *, void *workspace);

struct kr_layer_norm {
    struct kr_in in;
    const float *gamma, *beta; /* (c) */
    double eps;
};
void kr_layer_norm_forward(const struct kr_dims *, const struct kr_layer_norm *,
                           const struct kr_out *, void *workspace);
void kr_layer_norm_backward(const struct kr_dims *, const struct kr_layer_norm *, const float *dy,
                            const struct kr_dx *, float *dgamma, float *dbeta, void *workspace);

/* --- resizing ---------------------------------------------------------------------------------
 * n samples of d slices of (h, w), the input's; every axis up by a factor of 1 to
 * KR_FACTOR_MOST. Nearest, or
 * linear with the corners of pixels, not their middles, in one place (align_corners=False of
 * PyTorch). kr_in and kr_dx take the n * d slices as samples, kr_out the n * d * factor[0]. */
#define KR_FACTOR_MOST 16

struct kr_resize {
    int n, d, h, w;
    int factor[3]; /* z, y, x */
    bool linear;
    int threads;
};
size_t kr_resize_workspace(const struct kr_resize *, int c);
void kr_resize_forward(const struct kr_resize *, const struct kr_in *, const struct kr_out *,
                       void *workspace);
void kr_resize_backward(const struct kr_resize *, const float *dy, const struct kr_dx *,
                        void *workspace);

/* --- pooling ------------------------------------------------------------------------------------
 * Windows of size[0] x size[1] x size[2] (z, y, x: 1 to 4 each), next to each other, of a map
 * (n, d, h, w); what is left over at an end is left out. The largest value, of equals the first in
 * row-major order, NaN where there is one, as in PyTorch; backward finds it again. Or the average,
 * whose backward pass reads no map. Workspace as for the input's n * d slices. */
struct kr_pool {
    int n, d, h, w;
    int size[3];
    bool average;
    int threads;
};

void kr_pool_forward(const struct kr_pool *, const struct kr_in *, const struct kr_out *,
                     void *workspace);
void kr_pool_backward(const struct kr_pool *, const struct kr_in *, const float *dy,
                      const struct kr_dx *, void *workspace);

/* --- attention gate (Oktay et al. 2018) -------------------------------------------------------
 * score = sum_c psi[c] * max(a + b, 0)      (N,H,W), one float a pixel: no padding to 16 lanes
 * alpha = sigmoid(bn[0] * score + bn[1])    never stored
 * out   = alpha * x                         (N,H,W,C')
 * a and b are the two 1x1 convolutions read through their normalisations (relu false), psi (a->c)
 * the weight of the third, bn the scale and shift of its normalisation: kr_bn with c = 1, whose
 * scale and shift have 16 floats of which this takes the first.
 *
 * Sums are those of a map of one channel: 2 * 16 doubles, the second at 16.
 *
 * Forward: kr_gate_score, with sums (of score and of its square) -> kr_bn_train ->
 * kr_gate_apply. Backward, from dout:
 *   kr_gate_apply_backward   dx (kr_dx) from alpha * dout; dscore (N,H,W), the derivative by
 *                            bn's output; sums of dscore and of dscore * score
 *   kr_bn_backward           -> k of 3 * 16 floats
 *   kr_gate_score_backward   ds = k0 * dscore + k1 * score + k2, by kr_dy of both, dz = ds *
 *                            psi[c] where a + b > 0, to dx[0] for a and dx[1] for b; dpsi */
struct kr_gate {
    struct kr_in a, b;
    const float *psi; /* (a.c) */
    struct kr_in x;
    const float *scale, *shift; /* one of each, of psi's normalisation; or NULL: 1 and 0 */
    size_t stride;              /* floats from one sample's to the next; 0: one for all */
    bool each;                  /* the score's sums: of each sample, in rows */
};

void kr_gate_score(const struct kr_dims *, const struct kr_gate *, float *score, double *sums,
                   void *workspace); /* sums may be NULL; workspace is needed if not */
void kr_gate_apply(const struct kr_dims *, const struct kr_gate *, const float *score,
                   const struct kr_out *, void *workspace);
void kr_gate_apply_backward(const struct kr_dims *, const struct kr_gate *, const float *score,
                            const float *dout, const struct kr_dx *, float *dscore, double *sums,
                            void *workspace); /* workspace is needed; dscore may not be score */
void kr_gate_score_backward(const struct kr_dims *, const struct kr_gate *, const struct kr_dy *,
                            const struct kr_dx dx[2], float *dpsi,
                            void *workspace); /* kr_pointwise_workspace(2 * a.c) */

/* --- channel dropout --------------------------------------------------------------------------
 * gain[n * kr_pad(c) + c]: 0 with probability p, else 1/(1-p); zero in the padding. Depends on the
 * arguments alone: sample `first` + i has row i. */
void kr_dropout_gain(int n, int c, double p, uint64_t seed, uint64_t step, uint64_t layer,
                     uint64_t first, float *gain);

/* A normalisation with the dropout behind its ReLU, for kr_in with stride = kr_pad(c):
 * out[n][c] = gain[n][c] * v[c], for v = scale and for v = shift. */
void kr_dropout_fold(int n, int c, const float *gain, const float *v, float *out);

/* --- outputs, prediction ----------------------------------------------------------------------
 * Logits are planes, NCDHW floats, of c <= 16 outputs. Either the outputs are the classes,
 * and their probabilities p the softmax; or they are regions, which may overlap, and each p is the
 * sigmoid of its logit. */
#define KR_CLASSES_MAX 16

struct kr_planes {
    int n, d, h, w, c;
    int threads;
};

/* pred (N,D,H,W): the class of the largest logit, the first of equals; or, where `paints` is given
 * (c; regions), 0, and then, for one region after another whose p is above 0.5, paints[region]. 255
 * where a logit is not finite. prob (N,C,D,H,W): p. Either may be NULL. */
void kr_predict(const struct kr_planes *, const float *logits, const uint8_t *paints, uint8_t *pred,
                float *prob);

/* --- loss -------------------------------------------------------------------------------------
 * With p as above, o 1 where the output is the label or, of a region, where it holds the label, and
 * sums over all pixels that are not ignored:
 *
 *   dice = 1 - mean_k (2 sum p o + eps) / (sum p + sum o + eps)
 *   ce   = sum w[label] * -log p[label] / sum w[label]                 (classes: cross-entropy)
 *        = mean over pixels and k of w[k] * -log (o ? p : 1 - p)       (regions: binary)
 *
 *   squared     sum p p instead of sum p, below the fraction
 *   foreground  k from 1 on, not from 0
 *   each        dice of each sample, and the mean of these, not of the batch as one
 *   gamma       above 0: each logarithm times (1 - what it is of)^gamma: the focal loss (Lin et al.
 *               2017)
 *   weight      w, of c; NULL: all 1
 *
 * label (N,D,H,W) uint8; KR_IGNORE is out of every sum. Other labels >= classes are counted in
 * `bad` and otherwise ignored. With factors in `down` (z, y, x) the label's grid is so much finer
 * than the logits', and the label nearest to a pixel's centre is taken: of f the one at f / 2. */
#define KR_IGNORE 255

struct kr_loss_sums {
    double inter[KR_CLASSES_MAX], prob[KR_CLASSES_MAX]; /* sum p o, sum p */
    double squares[KR_CLASSES_MAX];                     /* sum p p, if asked for */
    double ce;                                          /* the sum above the fraction */
    double dice;                                        /* each: the sum over the samples */
    uint64_t samples;
    uint64_t truth[KR_CLASSES_MAX]; /* sum o */
    uint64_t pred[KR_CLASSES_MAX];  /* argmax is the class; the region's p is above 0.5 */
    uint64_t hit[KR_CLASSES_MAX];   /* and o is 1 */
    uint64_t pixels;                /* not ignored */
    uint64_t bad;                   /* labels outside the classes */
};

struct kr_loss {
    const float *logits;
    const uint8_t *label;
    double wdice, wce; /* the loss is wdice * dice + wce * ce */
    double eps;        /* 1e-5 */
    int down[3];       /* 0: 1 */
    bool squared, foreground, each;
    double gamma;
    const double *weight;
    bool regions;
    int classes;                 /* labels; not of regions: c */
    uint16_t of[KR_CLASSES_MAX]; /* of a label: the set of regions that hold it, bit k for k */
};

size_t kr_loss_workspace(void);
void kr_loss_sums(const struct kr_planes *, const struct kr_loss *, struct kr_loss_sums *,
                  void *workspace);

/* Of those sums, or of several calls' sums added up. */
double kr_loss_dice(const struct kr_loss *, int c, const struct kr_loss_sums *);
double kr_loss_ce(const struct kr_loss *, int c, const struct kr_loss_sums *);
double kr_loss_share(const struct kr_loss *, int c,
                     const struct kr_loss_sums *); /* below ce's fraction; where 0, so is ce */
void kr_loss_add(struct kr_loss_sums *, const struct kr_loss_sums *);

/* The head, a 1x1 convolution that makes the logits: weight and dw (c, in->c), bias and dbias (c).
 * Its backward pass begins with the loss, whose gradient, zero at ignored pixels, is never stored.
 * Workspace always. */
size_t kr_head_workspace(const struct kr_planes *, int c);
void kr_head_forward(const struct kr_planes *, const struct kr_in *in, const float *weight,
                     const float *bias, float *logits, void *workspace);
void kr_head_backward(const struct kr_planes *, const struct kr_loss *, const struct kr_loss_sums *,
                      const struct kr_in *in, const float *weight, const struct kr_dx *dx,
                      float *dw, float *dbias, void *workspace);

/* --- optimisers, as in torch.optim ------------------------------------------------------------
 * One call steps n parameters w with gradient `gain` * g. `step` counts from 1. Moments, which are
 * Adam's exp_avg m and exp_avg_sq v, or SGD's momentum buffer m, are zero
 * before the first step, float or bf16; bf16 moments are rounded stochastically, keyed by (seed,
 * step, element number from `first`), as v would otherwise never decay. Any alignment of 4 (2 for
 * bf16) bytes. */
struct kr_adam {
    double rate, beta1, beta2, eps;
    double decay;
    bool decoupled; /* AdamW: w -= rate * decay * w first; else decay * w joins the gradient */
    uint64_t step;
    double gain;
    enum kr_dtype moments;
    uint64_t seed, first;
    int threads;
};
void kr_adam(const struct kr_adam *, size_t n, float *w, const float *g, void *m, void *v);

/* m may be NULL where momentum is 0. */
struct kr_sgd {
    double rate, momentum, decay;
    bool nesterov;
    uint64_t step; /* the first step's momentum buffer is the gradient, as in PyTorch */
    double gain;
    enum kr_dtype moments;
    uint64_t seed, first;
    int threads;
};
void kr_sgd(const struct kr_sgd *, size_t n, float *w, const float *g, void *m);

/* Sum of squares in double; the order is fixed by n. For clipping: gain = min(1, clip / (norm +
 * 1e-6)). It is the sum, one after the other, of those of KR_PIECES pieces of so many numbers (the
 * last ones have fewer or none), which kr_squares gives from one piece to before another. */
#define KR_PIECES 256
static inline size_t kr_piece(size_t n)
{
    return (n / KR_PIECES + 64) / 64 * 64;
}
double kr_sum_squares(size_t n, const float *g, int threads);
void kr_squares(size_t n, const float *g, int threads, size_t from, size_t to, double *piece);

/* --- detection of anomalies -------------------------------------------------------------------
 * Index of the first of n values that is NaN or infinite, or -1. */
int64_t kr_find_nonfinite(size_t n, const void *x, enum kr_dtype, int threads);

#endif
