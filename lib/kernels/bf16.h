/* bf16.h - convolutions whose products are of bfloat16 and whose sums are float.
 *
 *     y = sum of bf16(w) * bf16(v)
 *
 * Weights and values, which are v of kr_in or dy, are rounded to the nearest before they are
 * multiplied; sums, and what is fused into writing, are as in kernels.h. Maps are of either type.
 * Convolution is direct: in bfloat16 Winograd's transforms would lose what the products keep.
 *
 * The order of a sum depends on the shapes alone, but how a sum of two products is rounded depends
 * on the level: AMX and vdpbf16ps take denormals as 0 and round in between, as floats do not. */
#ifndef BF16_H
#define BF16_H

#include "lib/kernels/kernels.h"

struct kr_bf16 {
    struct kr_conv conv; /* every kind that is described there; of a transposed one, as kr_upconv,
                            its input's n, d, h and w, and a kernel that is its stride */
    bool transposed;
    const void *packed; /* the weights as kr_bf16_pack left them; NULL: that is done each time */
};

/* The weights as forward reads them: bytes, and how they get there, 64-byte aligned. The same for
 * every level, and any n, d, h and w. Of operands only the number of channels counts. */
size_t kr_bf16_packed(const struct kr_bf16 *);
void kr_bf16_pack(const struct kr_bf16 *, void *to);

size_t kr_bf16_forward_workspace(const struct kr_bf16 *);
void kr_bf16_forward(const struct kr_bf16 *, const struct kr_out *, void *workspace);

/* The gradient of the data, of those with kr_bf16_data: with stride 1, or transposed. dy has no x
 * and k. */
static inline bool kr_bf16_data(const struct kr_bf16 *p)
{
    const int *s = p->conv.stride;
    return p->transposed || (s[0] == 1 && s[1] == 1 && s[2] == 1);
}
size_t kr_bf16_backward_data_workspace(const struct kr_bf16 *);
void kr_bf16_backward_data(const struct kr_bf16 *, const struct kr_dy *, const struct kr_dx dx[2],
                           void *workspace);

/* The gradient of the weights, as kernels.h has it for each kind. Products are of bfloat16 where
 * the level has tiles of them, for 3x3 and 3x3x3 with stride 1, whose dbias is NULL, and transposed
 * ones of at most eight phases; else of floats, by what kernels.h has. */
size_t kr_bf16_backward_weight_workspace(const struct kr_bf16 *);
void kr_bf16_backward_weight(const struct kr_bf16 *, const struct kr_dy *, float *dw, float *dbias,
                             void *workspace);

#endif
