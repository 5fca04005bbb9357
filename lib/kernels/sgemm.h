/* sgemm.h - what the kernels of product.h stand on. Matrices are in rows. */
#ifndef SGEMM_H
#define SGEMM_H

#include <stdbool.h>
#include <stddef.h>

/* For kr_init: OpenBLAS is to be that for this level. Who asks for products (kr_products) loads
 * it. */
void kr_products_level(const char *level);

/* A matrix, or its transpose; ld floats from one row to the next as it lies in memory. */
struct kr_matrix {
    const float *at;
    size_t ld;
    bool transposed;
};

/* c (m, n) = alpha * a (m, k) * b (k, n) + beta * c; with beta 0, c is not read. By this thread. */
void kr_sgemm(size_t m, size_t n, size_t k, float alpha, struct kr_matrix a, struct kr_matrix b,
              float beta, float *c, size_t ldc);

#endif
