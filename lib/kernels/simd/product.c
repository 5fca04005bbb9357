/* product.c - torch.nn.Linear at each position, and attention. Tasks are cut by the shapes alone,
 * and each computes its products by itself, in one order. */
#include "lib/kernels/product.h"

#include "lib/kernels/sgemm.h"
#include "lib/kernels/simd/map.h"
#include "lib/kernels/simd/vmath.h"
#include "lib/kernels/table.h"

#include <assert.h>
#include <math.h>
#include <omp.h>

#define LINEAR_ROWS 256   /* positions of a task */
#define LINEAR_COLUMNS 64 /* of the weights' gradient */
#define ATTENTION_ROWS 64 /* positions whose probabilities are held at a time */

INLINE int product_threads(int threads)
{
    return threads < kr_products_threads() ? threads : kr_products_threads();
}

/* --- linear ----------------------------------------------------------------------------------- */

/* Rows of a slice, so that a sample's bytes do not depend on the others of its batch. */
struct rows {
    size_t first, count;
};

INLINE size_t row_tasks(const struct kr_dims *d)
{
    const size_t slice = (size_t)d->h * (size_t)d->w;
    return (size_t)d->n * ((slice + LINEAR_ROWS - 1) / LINEAR_ROWS);
}

INLINE struct rows rows_of(const struct kr_dims *d, size_t task)
{
    const size_t slice = (size_t)d->h * (size_t)d->w;
    const size_t per = (slice + LINEAR_ROWS - 1) / LINEAR_ROWS, r = task % per * LINEAR_ROWS;
    return (struct rows){task / per * slice + r, min_size(LINEAR_ROWS, slice - r)};
}

/* Padding becomes zero, the rest has `bias` added, if there is one. */
INLINE void finish_rows(float *y, size_t count, int c, const float *bias)
{
    const size_t cp = (size_t)kr_pad(c), real = (size_t)c;
    for (; count--; y += cp) {
        memset(y + real, 0, (cp - real) * sizeof *y);
        for (size_t i = 0; bias && i < real; i++)
            y[i] += bias[i];
    }
}

void KR_NAME(kr_linear_forward)(const struct kr_linear *l, const float *x, float *y)
{
    const size_t in = (size_t)kr_pad(l->cin), out = (size_t)kr_pad(l->cout);
    const size_t tasks = row_tasks(&l->dims);
#pragma omp parallel for schedule(static) num_threads(product_threads(l->dims.threads))
    for (size_t i = 0; i < tasks; i++) {
        const struct rows r = rows_of(&l->dims, i);
        float *to = y + r.first * out;
        kr_sgemm(r.count, (size_t)l->cout, (size_t)l->cin, 1,
                 (struct kr_matrix){x + r.first * in, in, false},
                 (struct kr_matrix){l->weight, (size_t)l->cin, true}, 0, to, out);
        finish_rows(to, r.count, l->cout, l->bias);
    }
}

void KR_NAME(kr_linear_backward_data)(const struct kr_linear *l, const float *dy, float *dx,
                                      bool accumulate)
{
    const size_t in = (size_t)kr_pad(l->cin), out = (size_t)kr_pad(l->cout);
    const size_t tasks = row_tasks(&l->dims);
#pragma omp parallel for schedule(static) num_threads(product_threads(l->dims.threads))
    for (size_t i = 0; i < tasks; i++) {
        const struct rows r = rows_of(&l->dims, i);
        float *to = dx + r.first * in;
        kr_sgemm(r.count, (size_t)l->cin, (size_t)l->cout, 1,
                 (struct kr_matrix){dy + r.first * out, out, false},
                 (struct kr_matrix){l->weight, (size_t)l->cin, false}, accumulate, to, in);
        finish_rows(to, r.count, l->cin, NULL);
    }
}

size_t KR_NAME(kr_linear_workspace)(const struct kr_linear *l)
{
    return 2 * (size_t)kr_pad(l->cout) * sizeof(double) +
           KR_NAME(kr_pointwise_workspace)(&l->dims, l->cout);
}

void KR_NAME(kr_linear_backward_weight)(const struct kr_linear *l, const float *x, const float *dy,
                                        float *dw, float *dbias, void *workspace)
{
    const size_t in = (size_t)kr_pad(l->cin), out = (size_t)kr_pad(l->cout);
    const size_t pixels = (size_t)l->dims.n * (size_t)l->dims.h * (size_t)l->dims.w;
    const size_t cout = (size_t)l->cout, cin = (size_t)l->cin;
    const size_t tasks = (cout + LINEAR_COLUMNS - 1) / LINEAR_COLUMNS;
#pragma omp parallel for schedule(static) num_threads(product_threads(l->dims.threads))
    for (size_t i = 0; i < tasks; i++) {
        const size_t o = i * LINEAR_COLUMNS;
        kr_sgemm(min_size(LINEAR_COLUMNS, cout - o), cin, pixels, 1,
                 (struct kr_matrix){dy + o, out, true}, (struct kr_matrix){x, in, false}, 0,
                 dw + o * cin, cin);
    }
    if (!dbias)
        return;
    double *sums = workspace;
    KR_NAME(kr_add_backward)
    (&l->dims, dy, 1, &(struct kr_dx){.c = l->cout, .sums = sums}, sums + 2 * out);
    for (size_t o = 0; o < cout; o++)
        dbias[o] = (float)sums[o];
}

/* --- attention -------------------------------------------------------------------------------- */

/* One head of one sample. */
struct one {
    size_t c, cv, from, to; /* its channels, positions */
    size_t ld, ldv, q, k, v, out;
    float scale;
};

INLINE struct one one_of(const struct kr_attention *a, size_t i)
{
    const size_t n = i / (size_t)a->heads, head = i % (size_t)a->heads;
    struct one o = {.c = (size_t)(a->c / a->heads), .cv = (size_t)(a->cv / a->heads)};
    o.from = (size_t)a->from;
    o.to = (size_t)a->to;
    o.ld = (size_t)kr_pad(a->c);
    o.ldv = (size_t)kr_pad(a->cv);
    o.q = n * o.from * o.ld + head * o.c;
    o.k = n * o.to * o.ld + head * o.c;
    o.v = n * o.to * o.ldv + head * o.cv;
    o.out = n * o.from * o.ldv + head * o.cv;
    o.scale = 1 / sqrtf((float)o.c);
    return o;
}

/* Floats of a row of probabilities. */
INLINE size_t row_floats(const struct kr_attention *a)
{
    return (size_t)(a->to + KR_LANES - 1) / KR_LANES * KR_LANES;
}

/* Of a thread: of probabilities, and of their gradients. */
size_t KR_NAME(kr_attention_workspace)(const struct kr_attention *a)
{
    return (size_t)product_threads(a->threads) * 2 * ATTENTION_ROWS * row_floats(a) * sizeof(float);
}

INLINE float *thread_rows(const struct kr_attention *a, void *workspace)
{
    return (float *)workspace + (size_t)omp_get_thread_num() * 2 * ATTENTION_ROWS * row_floats(a);
}

/* A row of n, and of zeros up to a whole vector, becomes its softmax. */
INLINE void softmax_row(float *s, size_t n)
{
    vf most = vset(-__builtin_inff()), sum = vset(0);
    size_t i = n;
    float t[VL];
    for (; i % VL; i++)
        s[i] = -__builtin_inff();
    const size_t end = i;
    for (i = 0; i < end; i += VL)
        most = vmaximum(vload(s + i), most);
    vstore(t, most);
    for (int l = 1; l < VL; l++)
        t[0] = t[l] > t[0] || t[l] != t[l] ? t[l] : t[0];
    most = vset(t[0]);
    for (i = 0; i < end; i += VL) {
        const vf v = vload(s + i), e = vwhere(v != -__builtin_inff(), vexp(v - most));
        sum += e;
        vstore(s + i, e);
    }
    const vf scale = vset(1 / sum_lanes(sum));
    for (i = 0; i < end; i += VL)
        vstore(s + i, vload(s + i) * scale);
}

/* dp (n) becomes the gradient of what the softmax p was made of. */
INLINE void softmax_row_backward(const float *p, float *dp, size_t n)
{
    size_t end = n;
    for (; end % VL; end++)
        dp[end] = 0;
    vf sum = vset(0);
    for (size_t i = 0; i < end; i += VL)
        sum = vfma(vload(p + i), vload(dp + i), sum);
    const vf mean = vset(sum_lanes(sum));
    for (size_t i = 0; i < end; i += VL)
        vstore(dp + i, vload(p + i) * (vload(dp + i) - mean));
}

/* p[i] = the probabilities of positions first .. first + count. */
INLINE void probabilities(const struct kr_attention *a, const struct one *o, size_t first,
                          size_t count, float *p)
{
    const size_t ld = row_floats(a);
    kr_sgemm(count, o->to, o->c, o->scale,
             (struct kr_matrix){a->q + o->q + first * o->ld, o->ld, false},
             (struct kr_matrix){a->k + o->k, o->ld, true}, 0, p, ld);
    for (size_t i = 0; i < count; i++)
        softmax_row(p + i * ld, o->to);
}

/* The padding of `count` positions from the first on, which the first head's task sees to. */
INLINE void clear_padding(float *map, int c, size_t first, size_t count)
{
    const size_t cp = (size_t)kr_pad(c);
    for (size_t i = first; i < first + count; i++)
        memset(map + i * cp + c, 0, (cp - (size_t)c) * sizeof *map);
}

void KR_NAME(kr_attention_forward)(const struct kr_attention *a, float *out, void *workspace)
{
    const size_t ones = (size_t)a->n * (size_t)a->heads, ld = row_floats(a);
    const size_t blocks = ((size_t)a->from + ATTENTION_ROWS - 1) / ATTENTION_ROWS;
    assert(a->c % a->heads == 0 && a->cv % a->heads == 0);
#pragma omp parallel for schedule(static) num_threads(product_threads(a->threads))
    for (size_t i = 0; i < ones * blocks; i++) {
        const struct one o = one_of(a, i / blocks);
        const size_t first = i % blocks * ATTENTION_ROWS;
        const size_t count = min_size(ATTENTION_ROWS, o.from - first);
        float *p = thread_rows(a, workspace);
        probabilities(a, &o, first, count, p);
        kr_sgemm(count, o.cv, o.to, 1, (struct kr_matrix){p, ld, false},
                 (struct kr_matrix){a->v + o.v, o.ldv, false}, 0, out + o.out + first * o.ldv,
                 o.ldv);
        if (i / blocks % (size_t)a->heads == 0)
            clear_padding(out + o.out, a->cv, first, count);
    }
}

void KR_NAME(kr_attention_backward)(const struct kr_attention *a, const float *dy,
                                    const struct kr_attention_dx dx[3], void *workspace)
{
    const size_t ones = (size_t)a->n * (size_t)a->heads, ld = row_floats(a);
    float *const dq = dx[0].dx, *const dk = dx[1].dx, *const dv = dx[2].dx;
    assert(a->c % a->heads == 0 && a->cv % a->heads == 0);
#pragma omp parallel for schedule(static) num_threads(product_threads(a->threads))
    for (size_t i = 0; i < ones; i++) {
        const struct one o = one_of(a, i);
        float *p = thread_rows(a, workspace), *dp = p + ATTENTION_ROWS * ld;
        for (size_t first = 0; first < o.from; first += ATTENTION_ROWS) {
            const size_t count = min_size(ATTENTION_ROWS, o.from - first);
            const struct kr_matrix dout = {dy + o.out + first * o.ldv, o.ldv, false};
            probabilities(a, &o, first, count, p);
            if (dv)
                kr_sgemm(o.to, o.cv, count, 1, (struct kr_matrix){p, ld, true}, dout,
                         first || dx[2].accumulate, dv + o.v, o.ldv);
            if (!dq && !dk)
                continue;
            kr_sgemm(count, o.to, o.cv, 1, dout, (struct kr_matrix){a->v + o.v, o.ldv, true}, 0, dp,
                     ld);
            for (size_t r = 0; r < count; r++)
                softmax_row_backward(p + r * ld, dp + r * ld, o.to);
            if (dq)
                kr_sgemm(count, o.c, o.to, o.scale, (struct kr_matrix){dp, ld, false},
                         (struct kr_matrix){a->k + o.k, o.ld, false}, dx[0].accumulate,
                         dq + o.q + first * o.ld, o.ld);
            if (dk)
                kr_sgemm(o.to, o.c, count, o.scale, (struct kr_matrix){dp, ld, true},
                         (struct kr_matrix){a->q + o.q + first * o.ld, o.ld, false},
                         first || dx[1].accumulate, dk + o.k, o.ld);
        }
        if (i % (size_t)a->heads)
            continue;
        if (dq)
            clear_padding(dq + o.q, a->c, 0, o.from);
        if (dk)
            clear_padding(dk + o.k, a->c, 0, o.to);
        if (dv)
            clear_padding(dv + o.v, a->cv, 0, o.to);
    }
}
