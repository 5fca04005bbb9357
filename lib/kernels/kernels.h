/* kernels.h - the arithmetic under the networks, one table for each ISA level: the convolutions.
 *
 * LAYOUT. A map, which is an activation or its gradient, is NHWC, as PyTorch's channels_last:
 * (N, H, W, C'), where C' = kr_pad(C), the channels rounded up to a multiple of KR_LANES on every
 * machine. Padded channels hold zeros, and every kernel keeps them so. Maps start on 64-byte
 * boundaries. What is NCHW, without padding, is called planar, or planes: images and logits.
 *
 * FUSION. Normalisation, activation, dropout and concatenation need not be stored: the kernel that
 * reads a map applies them (struct kr_in), the one that writes a map takes its statistics (kr_out),
 * the one that writes a gradient applies their backward pass (kr_dx). An operand may be two maps,
 * which are read as if concatenated along the channels.
 *
 * WEIGHTS keep the layout of the model file, (Cout, Cin, 3, 3) and so on, unpadded, so that they
 * can be used straight from a mapped file. They need 4-byte alignment only.
 *
 * THREADS. Kernels run on the OpenMP team of `threads` threads given in the call. Every reduction
 * has a partition and an order fixed by the shapes alone: results are the same bytes for any number
 * of threads. Between ISA levels they differ by rounding.
 *
 * WORKSPACE. A kernel that needs scratch memory has a twin, NAME_workspace, which says how many
 * bytes (64-byte aligned) for the same description; kernels allocate nothing.
 *
 * Shapes have been checked by the caller; a kernel asserts them and cannot fail. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KR_LANES 16

static inline int kr_pad(int channels)
{
    return (channels + KR_LANES - 1) / KR_LANES * KR_LANES;
}

enum kr_dtype { KR_F32, KR_BF16 };

static inline size_t kr_dtype_size(enum kr_dtype d)
{
    return d == KR_F32 ? 4 : 2;
}

/* An operand, and what is fused into its reading:
 *
 *     v = scale[c] * x + shift[c]     where they are given, else x
 *     v = max(v, slope * v)           if relu
 *
 * scale and shift are both NULL or both of kr_pad(c) floats, zero in the padding. With a stride,
 * sample n uses scale + n * stride and shift + n * stride: so a channel dropout, which multiplies
 * by 0 or 1/(1-p), costs nothing (max(m * v, 0) = m * max(v, 0) for m >= 0), and neither does a
 * normalisation with statistics of each sample. */
struct kr_in {
    const void *x;
    int c; /* real channels */
    enum kr_dtype dtype;
    const float *scale, *shift;
    size_t stride; /* floats from one sample's scale to the next; 0: one for all */
    bool relu;
    float slope; /* of the activation, 0 <= slope < 1; 0 is ReLU */
    bool planar; /* x is an image, NCHW floats, v = x: for a 1x1 convolution, and for a 3x3
                    convolution that kr_conv3x3_planar says */
};

/* A map, and what is fused into its writing, v being the kernel's result, with bias:
 *
 *     y = scale[c] * v + shift[c]     where they are given, else v
 *     y = max(y, slope * y)           if relu
 *
 * `sums`, where given, receives what batch statistics are made of: for each of kr_pad(c) channels
 * the sum of v over N, H, W, and behind all these the sum of v * v (2 * kr_pad(c) doubles). With
 * `each` it has n such rows, of every sample by itself, over H, W: the same bytes whatever other
 * samples there are. */
struct kr_out {
    void *y;
    int c;
    enum kr_dtype dtype;
    const float *scale, *shift;
    bool relu;
    float slope;
    double *sums;
    bool each;
};

/* The gradient of an operand, dx (N,H,W,C') float, and what is fused into its writing, g being the
 * kernel's result, the gradient by v:
 *
 *     g = g + dx                      if accumulate: what is there already
 *     g = slope * g                   if act->relu, where act's scale * x + shift is not positive;
 *                                     with slope 0 it is 0
 *     g = gain[n * kr_pad(c) + c] * g where given: a channel dropout's factors
 *     dx = g
 *
 * `act` is the operand as forward read it. `sums`, where given, receives the sum of g and then that
 * of g * act->x, the raw x (2 * kr_pad(c) doubles): what the backward pass of the normalisation in
 * front of the activation needs; with `each`, rows of them as in kr_out. */
struct kr_dx {
    float *dx;
    int c;
    bool accumulate;
    const struct kr_in *act;
    const float *gain;
    double *sums;
    bool each;
};

enum kr_algo { KR_AUTO, KR_DIRECT, KR_WINOGRAD };

/* --- 3x3 and 3x3x3 convolution, stride 1, zero padding 1 ---------------------------------------
 *
 *     y[n,h,w,o] = bias[o] + sum_{i,r,s} w[o,i,r,s] * v[n, h+r-1, w+s-1, i]
 *
 * v is the concatenation of in[0..nin-1] in that order, of in[0].c + ... real channels. Padding is
 * with v = 0 (not with relu(shift)). Winograd F(4x4,3x3) and F(6x6,3x3) after Lavin & Gray,
 * arXiv:1509.09308.
 *
 * A sample may be a volume of d slices, which follow each other: the map is (n, d, h, w). With
 * `depth` 3 a result is the sum over its own slice and the two beside it, w being (cout, cin, 3, 3,
 * 3). Rows of each sample (scales with a stride, gains, sums, k) are rows of each of n * d slices.
 *
 * A volume may be taken by windows of consecutive slices, n being 1: `before` and `behind` say how
 * many slices of it, 0 or 1, lie in memory before the first of the operand and behind its last, and
 * are read where there would be zeros otherwise; with rows of scale and shift where these have a
 * stride. Results are made by groups of `group` slices, 4 or 2 (0: what saves most), of which the
 * first begins `phase` slices before the first. The results are the same bytes as those of the
 * whole volume, by the same groups, if a window holds whole groups of four, but for those that go
 * beyond the volume; pairs may be apart. That is for forward alone, and for operands that are not
 * planar. */
struct kr_conv3x3 {
    int n, h, w;
    int d, depth;       /* 0 is 1 */
    int before, behind; /* with depth 3 */
    int group, phase;   /* the same */
    int cout;
    const float *weight; /* (cout, cin, 3, 3), or (cout, cin, 3, 3, 3) */
    const float *bias;   /* (cout) or NULL; forward only */
    int nin;
    struct kr_in in[2];
    enum kr_algo algo;
    int threads;
};

/* Whether its one operand may be planar, so that an image need not be made NHWC first. */
bool kr_conv3x3_planar(const struct kr_conv3x3 *);

size_t kr_conv3x3_forward_workspace(const struct kr_conv3x3 *);
void kr_conv3x3_forward(const struct kr_conv3x3 *, const struct kr_out *, void *workspace);

/*     dv[n,h,w,i] = sum_{o,r,s} w[o,i,r,s] * dy[n, h-r+1, w-s+1, o]
 *
 * written to dx[0..nin-1], the parts of the concatenation (a part with dx == NULL is skipped). dy
 * is a plain float map of cout channels. */
size_t kr_conv3x3_backward_data_workspace(const struct kr_conv3x3 *);
void kr_conv3x3_backward_data(const struct kr_conv3x3 *, const float *dy, const struct kr_dx dx[2],
                              void *workspace);

/* The gradient dy of the output; or, where k is given, fused into its reading,
 *
 *     k[0][c] * dy + k[1][c] * x + k[2][c]
 *
 * the gradient behind the normalisation of that output, x being the output as it was written,
 * float, and k from kr_bn_backward. So kr_bn_apply is no pass of its own. Sample n
 * uses k + n * stride. */
struct kr_dy {
    const float *dy, *x, *k;
    size_t stride; /* 0: one for all */
};

/*     dw[o,i,r,s] = sum_{n,h,w} dy[n,h,w,o] * v[n, h+r-1, w+s-1, i]
 *
 * in the layout of weight; overwrites. */
size_t kr_conv3x3_backward_weight_workspace(const struct kr_conv3x3 *);
void kr_conv3x3_backward_weight(const struct kr_conv3x3 *, const struct kr_dy *, float *dw,
                                void *workspace);

/* Whether the backward pass reads the maps once, so that it should take the normalisation behind it
 * along: with `data` both gradients by kr_conv3x3_backward, without that of the weights. */
bool kr_conv3x3_fuses(const struct kr_conv3x3 *, bool data);

/* Both gradients in one pass over the maps, which pays where they come from memory: for those
 * convolutions only that kr_conv3x3_fuses says; at least one part of dx is wanted. */
size_t kr_conv3x3_backward_workspace(const struct kr_conv3x3 *);
void kr_conv3x3_backward(const struct kr_conv3x3 *, const struct kr_dy *, const struct kr_dx dx[2],
                         float *dw, void *workspace);

/* --- 1x1 convolution: the same with w (cout, cin) ---------------------------------------------
 * dbias (cout) receives the sum of dy over N, H, W, or is NULL. */
struct kr_conv1x1 {
    int n, h, w;
    int cout;
    const float *weight;
    const float *bias;
    int nin;
    struct kr_in in[2];
    int threads;
};

size_t kr_conv1x1_workspace(const struct kr_conv1x1 *);
void kr_conv1x1_forward(const struct kr_conv1x1 *, const struct kr_out *, void *workspace);
void kr_conv1x1_backward_data(const struct kr_conv1x1 *, const float *dy, const struct kr_dx dx[2],
                              void *workspace);
void kr_conv1x1_backward_weight(const struct kr_conv1x1 *, const float *dy, float *dw, float *dbias,
                                void *workspace);

/* --- convolution of any kernel, stride and dilation, of two or three axes -----------------------
 *
 *   y[n, z, y, x, o] = bias[o] + sum over i, a, b, c of w[o, i, a, b, c] *
 *                      v[n, z * stride[0] + a * dilation[0] - padding[0], ..., ..., i]
 *
 * Axes are z, y, x. The map is (n, d, h, w); one of two axes has d = 1, and 1 in its kernel, stride
 * and dilation. Kernels are odd, 1 to 7, with zero padding dilation * (kernel - 1) / 2, or even and
 * their stride, without padding or dilation. Strides are 1 to 4 and divide d, h and w. Scales with
 * a stride, gains and sums of each have a row for each of n * d slices. `before` and `behind` are
 * as in kr_conv3x3, up to dilation[0] * (kernel[0] - 1) / 2 slices. */
struct kr_conv {
    int n, d, h, w;
    int before, behind;
    int cout;
    int kernel[3], stride[3], dilation[3];
    const float *weight; /* (cout, cin, kernel[0], kernel[1], kernel[2]) */
    const float *bias;   /* (cout) or NULL; forward only */
    int nin;
    struct kr_in in[2]; /* one of at most 64 channels may be planar: NCDHW floats */
    int threads;
};

size_t kr_conv_forward_workspace(const struct kr_conv *);
void kr_conv_forward(const struct kr_conv *, const struct kr_out *, void *workspace);
size_t kr_conv_backward_data_workspace(const struct kr_conv *);
void kr_conv_backward_data(const struct kr_conv *, const struct kr_dy *, const struct kr_dx dx[2],
                           void *workspace);

/* dbias (cout) receives the sum of dy, or is NULL; with it dy has no k. */
size_t kr_conv_backward_weight_workspace(const struct kr_conv *);
void kr_conv_backward_weight(const struct kr_conv *, const struct kr_dy *, float *dw, float *dbias,
                             void *workspace);

/* --- transposed convolution, its kernel its stride ----------------------------------------------
 *
 *   y[n, A*z+a, B*y+b, C*x+c, o] = bias[o] + sum over i of w[i,o,a,b,c] * v[n,z,y,x,i]
 *
 * weight (cin, cout, A, B, C); d, h and w are the input's. Factors are 1 to 4; all 0: 1, 2, 2, with
 * n slices. */
struct kr_upconv {
    int n, h, w;
    int cout;
    const float *weight;
    const float *bias;
    struct kr_in in;
    int threads;
    int d, factor[3]; /* d: 0 is 1 */
};

size_t kr_upconv_workspace(const struct kr_upconv *);
void kr_upconv_forward(const struct kr_upconv *, const struct kr_out *, void *workspace);
void kr_upconv_backward_data(const struct kr_upconv *, const float *dy, const struct kr_dx *,
                             void *workspace);
void kr_upconv_backward_weight(const struct kr_upconv *, const float *dy, float *dw, float *dbias,
                               void *workspace);

/* --- ISA levels -------------------------------------------------------------------------------
 * The level in use: the best that the processor has, capped by the environment variable
 * KR_ISA=plain | avx2 | avx512 | avx512bf16 | amx | neon. kr_init must be called once, before any
 * kernel, from one thread, and before the process gives up calls of the system, one of which asks
 * for AMX; it returns NULL, or a message for a KR_ISA that is unknown or that this processor lacks.
 *
 * avx512bf16 and amx differ from avx512 in products of bfloat16 alone (bf16.h): kr_level is avx512
 * for all three, kr_level_bf16 is one of them. Where a level has no instruction for such products
 * they are made of floats. */
const char *kr_init(void);
const char *kr_level(void);
const char *kr_level_bf16(void);

/* NULL, or why there are no products of matrices (product.h). The first call after kr_init, from
 * one thread, loads the library for them; kr_products_free gives it back. */
const char *kr_products(void);
void kr_products_free(void);

#endif
