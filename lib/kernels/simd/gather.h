/* gather.h - convolutions of any kernel, stride and dilation, over maps of two or three axes.
 *
 * One engine makes results of a source: each result is a sum over taps, source positions a step
 * apart. Forward that is the convolution. The gradient of the data, which is what a transposed
 * convolution does forward, falls apart into as many phases as the strides' product: the results
 * that are `phases` apart on each axis have the same taps, a step apart in the source again.
 * A phase may have no tap: its results are 0.
 *
 * Weights are (low, high, kz, ky, kx): `low` the channels of the map with fewer pixels, the output
 * of a convolution and the input of a transposed one. */
#ifndef GATHER_H
#define GATHER_H

#include "lib/kernels/simd/conv3x3.h"

#define GATHER_STRIDE 4 /* at most */
#define GATHER_KERNEL 7
#define GATHER_TAPS (GATHER_KERNEL * GATHER_KERNEL * GATHER_KERNEL)

/* The taps of one phase: tap j, of the kernel's axis tap + j * tap_step, is at first + j * step. */
struct taps {
    int first, count, tap, tap_step;
};

/* Result phase + m * phases reads the source from m * mul + lo to m * mul + hi at most. */
struct axis {
    int from, to, kernel; /* extents of the source, of the result */
    int phases, mul, step, lo, hi;
    struct taps taps[GATHER_STRIDE];
};

struct gather {
    int n;
    struct axis axis[3]; /* z, y, x */
};

/* One axis of a convolution, from the high map's extent; forward, the source has so many positions
 * more before it and behind it. */
struct axis_shape {
    int extent, kernel, stride, dilation, padding, before, behind;
};

struct gather KR_NAME(kr_gather_forward)(int n, const struct axis_shape[3]);
struct gather KR_NAME(kr_gather_backward)(int n, const struct axis_shape[3]);

/* The weights, as they lie from w up to `end`, of `high` high channels. The source's channels are
 * the low ones where `low`. */
struct gather_weights {
    const float *w, *end;
    int high;
    bool low;
};

/* A source's and a sink's extents are those of g: n, h and w of a source are not read. */
size_t KR_NAME(kr_gather_workspace)(const struct gather *, const struct source *,
                                    const struct sink *, int threads);
void KR_NAME(kr_gather)(const struct gather *, const struct source *, const struct gather_weights *,
                        const struct sink *, int threads, void *workspace);

/* dw[l, h, tap] = sum over the low map's pixels of low[p, l] * high[that tap's pixel, h]; g is a
 * forward one. */
size_t KR_NAME(kr_gather_outer_workspace)(const struct gather *, const struct source *high,
                                          const struct source *low, int threads);
void KR_NAME(kr_gather_outer)(const struct gather *, const struct source *high,
                              const struct source *low, float *dw, int threads, void *workspace);

#endif
