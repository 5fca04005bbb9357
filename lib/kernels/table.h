/* table.h - every entry of kernels.h that has a variant for each level, once: result, name,
 * parameters, arguments. A new kernel is a line here and a function KR_NAME(its name) in
 * lib/kernels/simd. */
#ifndef TABLE_H
#define TABLE_H

#include "lib/kernels/kernels.h"

#define KR_ENTRIES(X) KR_ENTRIES_CONV3X3(X)

#define KR_ENTRIES_CONV3X3(X)                                                                      \
    X(size_t, kr_conv3x3_forward_workspace, (const struct kr_conv3x3 *p), (p))                     \
    X(void, kr_conv3x3_forward,                                                                    \
      (const struct kr_conv3x3 *p, const struct kr_out *out, void *workspace),                     \
      (p, out, workspace))                                                                         \
    X(size_t, kr_conv3x3_backward_data_workspace, (const struct kr_conv3x3 *p), (p))               \
    X(void, kr_conv3x3_backward_data,                                                              \
      (const struct kr_conv3x3 *p, const float *dy, const struct kr_dx dx[2], void *workspace),    \
      (p, dy, dx, workspace))                                                                      \
    X(size_t, kr_conv3x3_backward_weight_workspace, (const struct kr_conv3x3 *p), (p))             \
    X(void, kr_conv3x3_backward_weight,                                                            \
      (const struct kr_conv3x3 *p, const float *dy, float *dw, void *workspace),                   \
      (p, dy, dw, workspace))

#define KR_PASTE2(a, b) a##_##b
#define KR_PASTE(a, b) KR_PASTE2(a, b)

/* Inside lib/kernels/simd: the name of a function at the level that is being compiled. */
#ifdef KR_LEVEL
#define KR_NAME(f) KR_PASTE(f, KR_LEVEL)
#define KR_DECLARE(type, name, params, args) type KR_NAME(name) params;
KR_ENTRIES(KR_DECLARE)
#endif

#endif
