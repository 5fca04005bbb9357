/* gemm.h - 1x1 and transposed 2x2 convolutions as matrix products over pixels.
 *
 * A map, or two side by side, is a matrix: a row for each pixel, a column for each padded channel.
 * The output of a transposed convolution is one too: a row for each input pixel, 4 times the padded
 * channels of columns, phase (a,b) = (row & 1, column & 1) of the output pixel by phase. Weights
 * are indexed by two such columns. */
#ifndef GEMM_H
#define GEMM_H

#include "lib/kernels/simd/map.h"
#include "lib/kernels/table.h"

struct matrix {
    int n, h, w; /* pixels */
    int parts;
    struct kr_in in[2];
    bool phases; /* in[0] is a plain float map (n, 2h, 2w) */
};

/* The weight between input channel i and output channel o, phase q, is w[i*si + o*so + q]. */
struct weights {
    const float *w;
    size_t si, so;
};

/* What becomes of a product: OUT a map, after `bias` (out->c, or NULL); else gradients. */
struct result {
    const struct kr_out *out;
    const float *bias;
    const struct kr_dx *dx;
    bool phases; /* the map has (n, 2h, 2w) pixels */
};

/* result = a * weights, where the columns of the result are output channels if `forward` (a's are
 * input channels), else the other way round. `cout` and the input's channels `c`, of `parts` parts,
 * as in the forward direction. */
struct product {
    struct matrix a;
    struct weights weights;
    struct result result;
    bool forward;
    int threads;
};

size_t KR_NAME(kr_product_workspace)(const struct product *);
void KR_NAME(kr_product)(const struct product *, void *workspace);

/* dw of the same weights: dw[i*si + o*so + q] = sum over pixels of v[i] * dy[q, o], and
 * dbias[o] = sum of dy[q, o] over pixels and phases, or NULL. */
struct outer {
    struct matrix v, dy;
    struct weights weights; /* w is not read */
    float *dw, *dbias;
    int threads;
};

size_t KR_NAME(kr_outer_workspace)(const struct outer *);
void KR_NAME(kr_outer)(const struct outer *, void *workspace);

#endif
