/* product.h - products of matrices, by OpenBLAS: torch.nn.Linear at each position, and attention.
 *
 * OpenBLAS chooses its kernels when it is loaded, by the processor; Debian's does not know each of
 * them and may take slower ones than it has. So kr_products loads it itself, tells it those of
 * the level in use, and to make no threads: a product is one task's, of a size and in an order
 * fixed by the shapes alone. Results are the same bytes for one level and one build of OpenBLAS.
 *
 * Maps, threads and workspaces are as in kernels.h. Operands are plain float maps. */
#ifndef PRODUCT_H
#define PRODUCT_H

#include "lib/kernels/pointwise.h"

/* What OpenBLAS says it is ("Haswell"). */
const char *kr_products_core(void);

/* What it has resident, as measured: the library, and at most this for each thread. */
#define KR_PRODUCTS_BYTES ((size_t)3 << 20)
#define KR_PRODUCT_BYTES ((size_t)3 << 19)

/* No more threads than this compute them at a time: OpenBLAS has places for so many. The serial
 * build (libopenblas0-serial) locks nothing, so its products are one thread's at a time. */
#define KR_PRODUCT_THREADS 32
int kr_products_threads(void);

/* --- y[p][o] = bias[o] + sum_i weight[o][i] * x[p][i] -----------------------------------------
 * at each of the pixels of `dims`. Weight (cout, cin), bias (cout) or NULL. Backward, the gradient
 * of x is added to what is there if `accumulate`; dbias may be NULL. */
struct kr_linear {
    struct kr_dims dims;
    int cin, cout;
    const float *weight, *bias;
};
size_t kr_linear_workspace(const struct kr_linear *);
void kr_linear_forward(const struct kr_linear *, const float *x, float *y);
void kr_linear_backward_data(const struct kr_linear *, const float *dy, float *dx, bool accumulate);
void kr_linear_backward_weight(const struct kr_linear *, const float *x, const float *dy, float *dw,
                               float *dbias, void *workspace);

/* --- attention --------------------------------------------------------------------------------
 * out = softmax(q k^T / sqrt(c / heads)) v for each of n samples and each head, a head's channels
 * side by side. q: `from` positions of a sample, k and v: `to`; q and k of c channels, v and out of
 * cv. Probabilities are never stored, but for some positions at a time. Backward a NULL dx is not
 * wanted. */
struct kr_attention {
    int n, heads, c, cv;
    int from, to;
    const float *q, *k, *v;
    int threads;
};
struct kr_attention_dx {
    float *dx;
    bool accumulate;
};
size_t kr_attention_workspace(const struct kr_attention *);
void kr_attention_forward(const struct kr_attention *, float *out, void *workspace);
void kr_attention_backward(const struct kr_attention *, const float *dy,
                           const struct kr_attention_dx dx[3], void *workspace);

#endif
