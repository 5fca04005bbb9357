/* table.h - every kernel that is compiled for each ISA level, once: result, name, parameters,
 * arguments. A new kernel is a line here and a function KR_NAME(its name) in
 * lib/kernels/simd. */
#ifndef TABLE_H
#define TABLE_H

#include "lib/kernels/bf16.h"
#include "lib/kernels/kernels.h"
#include "lib/kernels/pointwise.h"
#include "lib/kernels/product.h"

#define KR_ENTRIES(X)                                                                              \
    KR_ENTRIES_CONV3X3(X) KR_ENTRIES_GEMM(X) KR_ENTRIES_POINTWISE(X) KR_ENTRIES_PRODUCT(X)

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
      (const struct kr_conv3x3 *p, const struct kr_dy *dy, float *dw, void *workspace),            \
      (p, dy, dw, workspace))                                                                      \
    X(bool, kr_conv3x3_planar, (const struct kr_conv3x3 *p), (p))                                  \
    X(bool, kr_conv3x3_fuses, (const struct kr_conv3x3 *p, bool data), (p, data))                  \
    X(size_t, kr_conv3x3_backward_workspace, (const struct kr_conv3x3 *p), (p))                    \
    X(void, kr_conv3x3_backward,                                                                   \
      (const struct kr_conv3x3 *p, const struct kr_dy *dy, const struct kr_dx dx[2], float *dw,    \
       void *workspace),                                                                           \
      (p, dy, dx, dw, workspace))

#define KR_ENTRIES_GEMM(X)                                                                         \
    X(size_t, kr_conv1x1_workspace, (const struct kr_conv1x1 *p), (p))                             \
    X(void, kr_conv1x1_forward,                                                                    \
      (const struct kr_conv1x1 *p, const struct kr_out *out, void *workspace),                     \
      (p, out, workspace))                                                                         \
    X(void, kr_conv1x1_backward_data,                                                              \
      (const struct kr_conv1x1 *p, const float *dy, const struct kr_dx dx[2], void *workspace),    \
      (p, dy, dx, workspace))                                                                      \
    X(void, kr_conv1x1_backward_weight,                                                            \
      (const struct kr_conv1x1 *p, const float *dy, float *dw, float *dbias, void *workspace),     \
      (p, dy, dw, dbias, workspace))                                                               \
    X(size_t, kr_conv_forward_workspace, (const struct kr_conv *p), (p))                           \
    X(void, kr_conv_forward, (const struct kr_conv *p, const struct kr_out *out, void *workspace), \
      (p, out, workspace))                                                                         \
    X(size_t, kr_conv_backward_data_workspace, (const struct kr_conv *p), (p))                     \
    X(void, kr_conv_backward_data,                                                                 \
      (const struct kr_conv *p, const struct kr_dy *dy, const struct kr_dx dx[2],                  \
       void *workspace),                                                                           \
      (p, dy, dx, workspace))                                                                      \
    X(size_t, kr_conv_backward_weight_workspace, (const struct kr_conv *p), (p))                   \
    X(void, kr_conv_backward_weight,                                                               \
      (const struct kr_conv *p, const struct kr_dy *dy, float *dw, float *dbias, void *workspace), \
      (p, dy, dw, dbias, workspace))                                                               \
    X(size_t, kr_upconv_workspace, (const struct kr_upconv *p), (p))                               \
    X(void, kr_upconv_forward,                                                                     \
      (const struct kr_upconv *p, const struct kr_out *out, void *workspace), (p, out, workspace)) \
    X(void, kr_upconv_backward_data,                                                               \
      (const struct kr_upconv *p, const float *dy, const struct kr_dx *dx, void *workspace),       \
      (p, dy, dx, workspace))                                                                      \
    X(void, kr_upconv_backward_weight,                                                             \
      (const struct kr_upconv *p, const float *dy, float *dw, float *dbias, void *workspace),      \
      (p, dy, dw, dbias, workspace))

#define KR_ENTRIES_POINTWISE(X)                                                                    \
    X(size_t, kr_pointwise_workspace, (const struct kr_dims *d, int c), (d, c))                    \
    X(void, kr_bn_apply,                                                                           \
      (const struct kr_dims *d, int c, const float *dz, const void *x, enum kr_dtype dtype,        \
       const float *k, size_t stride, float *dx),                                                  \
      (d, c, dz, x, dtype, k, stride, dx))                                                         \
    X(void, kr_add,                                                                                \
      (const struct kr_dims *d, int nin, const struct kr_in in[], const struct kr_out *out,        \
       void *workspace),                                                                           \
      (d, nin, in, out, workspace))                                                                \
    X(void, kr_add_backward,                                                                       \
      (const struct kr_dims *d, const float *dy, int ndx, const struct kr_dx dx[],                 \
       void *workspace),                                                                           \
      (d, dy, ndx, dx, workspace))                                                                 \
    X(void, kr_join,                                                                               \
      (const struct kr_dims *d, const struct kr_in in[2], const struct kr_out *out,                \
       void *workspace),                                                                           \
      (d, in, out, workspace))                                                                     \
    X(void, kr_join_backward,                                                                      \
      (const struct kr_dims *d, const float *dy, const struct kr_dx dx[2], void *workspace),       \
      (d, dy, dx, workspace))                                                                      \
    X(void, kr_multiply,                                                                           \
      (const struct kr_dims *d, const struct kr_in in[2], const struct kr_out *out,                \
       void *workspace),                                                                           \
      (d, in, out, workspace))                                                                     \
    X(void, kr_multiply_backward,                                                                  \
      (const struct kr_dims *d, const struct kr_in in[2], const float *dy,                         \
       const struct kr_dx dx[2], void *workspace),                                                 \
      (d, in, dy, dx, workspace))                                                                  \
    X(void, kr_curve_forward,                                                                      \
      (const struct kr_dims *d, enum kr_curve curve, const struct kr_in *in,                       \
       const struct kr_out *out, void *workspace),                                                 \
      (d, curve, in, out, workspace))                                                              \
    X(void, kr_curve_backward,                                                                     \
      (const struct kr_dims *d, enum kr_curve curve, const struct kr_in *in, const float *dy,      \
       const struct kr_dx *dx, void *workspace),                                                   \
      (d, curve, in, dy, dx, workspace))                                                           \
    X(void, kr_softmax_forward,                                                                    \
      (const struct kr_dims *d, const struct kr_in *in, const struct kr_out *out,                  \
       void *workspace),                                                                           \
      (d, in, out, workspace))                                                                     \
    X(void, kr_softmax_backward,                                                                   \
      (const struct kr_dims *d, const struct kr_in *in, const float *dy, const struct kr_dx *dx,   \
       void *workspace),                                                                           \
      (d, in, dy, dx, workspace))                                                                  \
    X(void, kr_layer_norm_forward,                                                                 \
      (const struct kr_dims *d, const struct kr_layer_norm *l, const struct kr_out *out,           \
       void *workspace),                                                                           \
      (d, l, out, workspace))                                                                      \
    X(void, kr_layer_norm_backward,                                                                \
      (const struct kr_dims *d, const struct kr_layer_norm *l, const float *dy,                    \
       const struct kr_dx *dx, float *dgamma, float *dbeta, void *workspace),                      \
      (d, l, dy, dx, dgamma, dbeta, workspace))                                                    \
    X(size_t, kr_resize_workspace, (const struct kr_resize *r, int c), (r, c))                     \
    X(void, kr_resize_forward,                                                                     \
      (const struct kr_resize *r, const struct kr_in *in, const struct kr_out *out,                \
       void *workspace),                                                                           \
      (r, in, out, workspace))                                                                     \
    X(void, kr_resize_backward,                                                                    \
      (const struct kr_resize *r, const float *dy, const struct kr_dx *dx, void *workspace),       \
      (r, dy, dx, workspace))                                                                      \
    X(void, kr_from_planar,                                                                        \
      (const struct kr_dims *d, int c, const float *planar, void *map, enum kr_dtype dtype),       \
      (d, c, planar, map, dtype))                                                                  \
    X(void, kr_pool_forward,                                                                       \
      (const struct kr_pool *p, const struct kr_in *in, const struct kr_out *out,                  \
       void *workspace),                                                                           \
      (p, in, out, workspace))                                                                     \
    X(void, kr_pool_backward,                                                                      \
      (const struct kr_pool *p, const struct kr_in *in, const float *dy, const struct kr_dx *dx,   \
       void *workspace),                                                                           \
      (p, in, dy, dx, workspace))                                                                  \
    X(void, kr_gate_score,                                                                         \
      (const struct kr_dims *d, const struct kr_gate *gate, float *score, double *sums,            \
       void *workspace),                                                                           \
      (d, gate, score, sums, workspace))                                                           \
    X(void, kr_gate_apply,                                                                         \
      (const struct kr_dims *d, const struct kr_gate *gate, const float *score,                    \
       const struct kr_out *out, void *workspace),                                                 \
      (d, gate, score, out, workspace))                                                            \
    X(void, kr_gate_apply_backward,                                                                \
      (const struct kr_dims *d, const struct kr_gate *gate, const float *score, const float *dout, \
       const struct kr_dx *dx, float *dscore, double *sums, void *workspace),                      \
      (d, gate, score, dout, dx, dscore, sums, workspace))                                         \
    X(void, kr_gate_score_backward,                                                                \
      (const struct kr_dims *d, const struct kr_gate *gate, const struct kr_dy *dy,                \
       const struct kr_dx dx[2], float *dpsi, void *workspace),                                    \
      (d, gate, dy, dx, dpsi, workspace))                                                          \
    X(void, kr_predict,                                                                            \
      (const struct kr_planes *d, const float *logits, const uint8_t *paints, uint8_t *pred,       \
       float *prob),                                                                               \
      (d, logits, paints, pred, prob))                                                             \
    X(size_t, kr_loss_workspace, (void), ())                                                       \
    X(void, kr_loss_sums,                                                                          \
      (const struct kr_planes *d, const struct kr_loss *loss, struct kr_loss_sums *sums,           \
       void *workspace),                                                                           \
      (d, loss, sums, workspace))                                                                  \
    X(size_t, kr_head_workspace, (const struct kr_planes *d, int c), (d, c))                       \
    X(void, kr_head_forward,                                                                       \
      (const struct kr_planes *d, const struct kr_in *in, const float *weight, const float *bias,  \
       float *logits, void *workspace),                                                            \
      (d, in, weight, bias, logits, workspace))                                                    \
    X(void, kr_head_backward,                                                                      \
      (const struct kr_planes *d, const struct kr_loss *loss, const struct kr_loss_sums *sums,     \
       const struct kr_in *in, const float *weight, const struct kr_dx *dx, float *dw,             \
       float *dbias, void *workspace),                                                             \
      (d, loss, sums, in, weight, dx, dw, dbias, workspace))                                       \
    X(void, kr_adam,                                                                               \
      (const struct kr_adam *o, size_t n, float *w, const float *g, void *m, void *v),             \
      (o, n, w, g, m, v))                                                                          \
    X(void, kr_sgd, (const struct kr_sgd *o, size_t n, float *w, const float *g, void *m),         \
      (o, n, w, g, m))                                                                             \
    X(double, kr_sum_squares, (size_t n, const float *g, int threads), (n, g, threads))            \
    X(void, kr_squares,                                                                            \
      (size_t n, const float *g, int threads, size_t from, size_t to, double *piece),              \
      (n, g, threads, from, to, piece))                                                            \
    X(int64_t, kr_find_nonfinite, (size_t n, const void *x, enum kr_dtype dtype, int threads),     \
      (n, x, dtype, threads))

#define KR_ENTRIES_PRODUCT(X)                                                                      \
    X(size_t, kr_linear_workspace, (const struct kr_linear *l), (l))                               \
    X(void, kr_linear_forward, (const struct kr_linear *l, const float *x, float *y), (l, x, y))   \
    X(void, kr_linear_backward_data,                                                               \
      (const struct kr_linear *l, const float *dy, float *dx, bool accumulate),                    \
      (l, dy, dx, accumulate))                                                                     \
    X(void, kr_linear_backward_weight,                                                             \
      (const struct kr_linear *l, const float *x, const float *dy, float *dw, float *dbias,        \
       void *workspace),                                                                           \
      (l, x, dy, dw, dbias, workspace))                                                            \
    X(size_t, kr_attention_workspace, (const struct kr_attention *a), (a))                         \
    X(void, kr_attention_forward, (const struct kr_attention *a, float *out, void *workspace),     \
      (a, out, workspace))                                                                         \
    X(void, kr_attention_backward,                                                                 \
      (const struct kr_attention *a, const float *dy, const struct kr_attention_dx dx[3],          \
       void *workspace),                                                                           \
      (a, dy, dx, workspace))

/* Those of bf16.h, in simd/bf16_*.c: for levels of their own (kernels.h). */
#define KR_ENTRIES_BF16(X)                                                                         \
    X(size_t, kr_bf16_packed, (const struct kr_bf16 *p), (p))                                      \
    X(void, kr_bf16_pack, (const struct kr_bf16 *p, void *to), (p, to))                            \
    X(size_t, kr_bf16_forward_workspace, (const struct kr_bf16 *p), (p))                           \
    X(void, kr_bf16_forward, (const struct kr_bf16 *p, const struct kr_out *out, void *workspace), \
      (p, out, workspace))                                                                         \
    X(size_t, kr_bf16_backward_data_workspace, (const struct kr_bf16 *p), (p))                     \
    X(void, kr_bf16_backward_data,                                                                 \
      (const struct kr_bf16 *p, const struct kr_dy *dy, const struct kr_dx dx[2],                  \
       void *workspace),                                                                           \
      (p, dy, dx, workspace))                                                                      \
    X(size_t, kr_bf16_backward_weight_workspace, (const struct kr_bf16 *p), (p))                   \
    X(void, kr_bf16_backward_weight,                                                               \
      (const struct kr_bf16 *p, const struct kr_dy *dy, float *dw, float *dbias, void *workspace), \
      (p, dy, dw, dbias, workspace))

#define KR_PASTE2(a, b) a##_##b
#define KR_PASTE(a, b) KR_PASTE2(a, b)

/* Inside lib/kernels/simd: the name of a function at the level that is being compiled; at the one
 * that it stands on, where it is for products in bf16 alone. */
#ifdef KR_LEVEL
#define KR_NAME(f) KR_PASTE(f, KR_LEVEL)
#ifndef KR_BASE
#define KR_BASE KR_LEVEL
#endif
#define KR_BASE_NAME(f) KR_PASTE(f, KR_BASE)
#define KR_DECLARE(type, name, params, args) type KR_NAME(name) params;
KR_ENTRIES(KR_DECLARE)
KR_ENTRIES_BF16(KR_DECLARE)
#endif

#endif
