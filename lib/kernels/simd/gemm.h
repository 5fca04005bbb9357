/* gemm.h - 1x1 and transposed 2x2 convolutions as matrix products over pixels.
 *
 * A map, or two side by side, is a matrix: a row for each pixel, a column for each padded channel.
 * The output of a transposed convolution is one too: a row for each input pixel, 64 columns for
 * each 16 channels: those of phase 0, of phase 1, and so on; phase 2 * a + b is the output pixel
 * (a, b) of the four. Weights are indexed by two such columns. */
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
 * dbias[o] = sum of dy[q, o] over pixels and phases, or NULL. One of v and dy gives the rows of the
 * result, the other the columns: dy, where it has phases. */
struct outer {
    struct matrix v, dy;
    struct weights weights; /* w is not read */
    float *dw, *dbias;
    int threads;
};

size_t KR_NAME(kr_outer_workspace)(const struct outer *);
void KR_NAME(kr_outer)(const struct outer *, void *workspace);

/* --- what gemm.c and outer.c share ------------------------------------------------------------ */

/* The channels of a matrix' columns: up to two parts, each padded, or four phases of one. */
struct columns {
    int parts, c[2];
    bool phases;
};

struct column {
    int part, phase;
    int c;    /* in the part; not a real one where >= columns.c[part] */
    int real; /* counted over the parts */
};

INLINE int columns_count(const struct columns *s)
{
    const int n = kr_pad(s->c[0]);
    return s->phases ? 4 * n : s->parts > 1 ? n + kr_pad(s->c[1]) : n;
}

INLINE struct column column_at(const struct columns *s, int j)
{
    const int first = kr_pad(s->c[0]), c = j / 64 * KR_LANES + j % KR_LANES;
    if (s->phases)
        return (struct column){0, j / KR_LANES % 4, c, c};
    if (j < first)
        return (struct column){0, 0, j, j};
    return (struct column){1, 0, j - first, s->c[0] + j - first};
}

INLINE struct columns matrix_columns(const struct matrix *m)
{
    return (struct columns){m->parts, {m->in[0].c, m->parts > 1 ? m->in[1].c : 0}, m->phases};
}

INLINE size_t matrix_pixels(const struct matrix *m)
{
    return (size_t)m->n * (size_t)m->h * (size_t)m->w;
}

/* The first of the four output pixels of input pixel p: two output rows for one, 2w long. */
INLINE size_t corner(int w, size_t p)
{
    return p / (size_t)w * 4 * (size_t)w + 2 * (p % (size_t)w);
}

/* Columns j0..j1 (with phases, multiples of 64) of pixels p0..p0+count to `to`, `ld` floats a
 * pixel. In gemm.c. */
void KR_NAME(kr_matrix_pack)(const struct matrix *, size_t p0, size_t count, int j0, int j1,
                             float *to, size_t ld);

INLINE size_t take(size_t *used, size_t bytes)
{
    const size_t at = *used;
    *used += (bytes + 63) / 64 * 64;
    return at;
}

#endif
