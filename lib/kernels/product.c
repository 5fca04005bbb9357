/* product.c - OpenBLAS, loaded. It is not linked: who needs no products does not pay for it, and
 * what it is told by the environment it reads once, while it is loaded. */
#include "lib/kernels/product.h"

#include "lib/kernels/sgemm.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libopenblas.so.0"

/* cblas.h, which a machine that only runs the tools has not. */
enum { ROWS = 101, AS_IT_IS = 111, TRANSPOSED = 112 };
typedef void sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                   int lda, const float *b, int ldb, float beta, float *c, int ldc);

static struct {
    void *handle;
    sgemm *product;
    char *(*core)(void);
    bool serial;
    const char *level; /* to be loaded for, when somebody asks; NULL: it has been done */
    char why[256];
} blas = {.why = "kr_init has not been called"};

/* OpenBLAS' name for the kernels of a level: each needs no more than the level asks for. */
static const char *core_of(const char *level)
{
#ifdef __x86_64__
    return !strcmp(level, "avx512") ? "SkylakeX" : !strcmp(level, "avx2") ? "Haswell" : "Prescott";
#else
    (void)level;
    return "ARMV8";
#endif
}

static void refuse(const char *what)
{
    kr_products_free();
    snprintf(blas.why, sizeof blas.why, "no OpenBLAS, which computes products of matrices (%s)",
             what ? what : LIBRARY);
}

void kr_products_level(const char *level)
{
    kr_products_free();
    blas.level = level;
}

static void load(const char *level)
{
    blas.level = NULL;
    setenv("OPENBLAS_CORETYPE", core_of(level), 1);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    if (!(blas.handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL))) {
        refuse(dlerror());
        return;
    }
    void (*threads)(int);
    int (*parallel)(void);
    /* As POSIX has it: an object pointer that may be a function's. */
    *(void **)&blas.product = dlsym(blas.handle, "cblas_sgemm");
    *(void **)&blas.core = dlsym(blas.handle, "openblas_get_corename");
    *(void **)&threads = dlsym(blas.handle, "openblas_set_num_threads");
    *(void **)&parallel = dlsym(blas.handle, "openblas_get_parallel");
    if (!blas.product || !blas.core || !threads || !parallel) {
        refuse(dlerror());
        return;
    }
    threads(1); /* where it was built on OpenMP */
    blas.serial = parallel() == 0;
    blas.why[0] = 0;
}

void kr_products_free(void)
{
    if (blas.handle)
        dlclose(blas.handle);
    memset(&blas, 0, sizeof blas);
    snprintf(blas.why, sizeof blas.why, "OpenBLAS has been given back");
}

const char *kr_products(void)
{
    if (blas.level)
        load(blas.level);
    return blas.product ? NULL : blas.why;
}

int kr_products_threads(void)
{
    return blas.serial ? 1 : KR_PRODUCT_THREADS;
}

const char *kr_products_core(void)
{
    return blas.product ? blas.core() : "none";
}

void kr_sgemm(size_t m, size_t n, size_t k, float alpha, struct kr_matrix a, struct kr_matrix b,
              float beta, float *c, size_t ldc)
{
    assert(blas.product);
    blas.product(ROWS, a.transposed ? TRANSPOSED : AS_IT_IS, b.transposed ? TRANSPOSED : AS_IT_IS,
                 (int)m, (int)n, (int)k, alpha, a.at, (int)a.ld, b.at, (int)b.ld, beta, c,
                 (int)ldc);
}
