/* Adam and SGD as in torch.optim, the norm of a gradient for clipping, the search for what is not
 * finite: one pass over memory each. */
#include "lib/kernels/pointwise.h"

#include "lib/base/rng.h"
#include "lib/kernels/simd/map.h"
#include "lib/kernels/table.h"

#include <math.h>

/* Elements of one task. A task's vectors start at multiples of VL, so that the tail that is not a
 * whole vector is at the end of the array, however many threads there are. */
#define TASK ((size_t)16384)

INLINE vf sqrt_lanes(vf v)
{
#if defined KR_LEVEL_avx512
    return _mm512_sqrt_ps(v);
#elif defined KR_LEVEL_avx2
    return _mm256_sqrt_ps(v);
#elif defined __SSE__
    return _mm_sqrt_ps(v);
#elif defined __ARM_NEON
    return vsqrtq_f32(v);
#else
    for (int i = 0; i < VL; i++)
        v[i] = sqrtf(v[i]);
    return v;
#endif
}

/* 32 random bits for each element from `first` on: the finaliser of Wellons' hash prospector
 * (nullprogram.com/blog/2018/07/31), on a key and the element's number. */
INLINE vu random_bits(uint32_t key, uint64_t first)
{
    vu x;
    for (uint32_t i = 0; i < VL; i++)
        x[i] = i;
    x += (uint32_t)first;
    x ^= key ^ (uint32_t)(first >> 32) * 0x9e3779b9u;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

/* Stochastic rounding: adds 16 random bits below the last kept one. */
INLINE void store_moment(void *m, enum kr_dtype t, size_t i, vf v, vu random)
{
    if (t == KR_F32) {
        vstore((float *)m + i, v);
    } else {
        const vu u = ((vu)v + (random & 0xffff)) >> 16;
        *(vh_mem *)((uint16_t *)m + i) = __builtin_convertvector(u, vh);
    }
}

static uint32_t key_of(uint64_t seed, uint64_t step)
{
    struct rng r = rng_seed(seed);
    rng_mix_text(&r, "moments");
    rng_mix(&r, step);
    return (uint32_t)rng_u64(&r);
}

/* A piece of the arrays; m2 is Adam's second moment. */
struct piece {
    size_t n;        /* a multiple of VL */
    uint64_t number; /* of the first element, for random_bits */
    float *w;
    const float *g;
    void *m, *m2;
    enum kr_dtype t;
};

struct adam {
    float gain, decay, shrink, beta1, beta2, rate, root, eps;
    uint32_t key;
};

INLINE void adam_piece(const struct adam *a, const struct piece *p, const enum kr_dtype t)
{
    const float new1 = 1 - a->beta1, new2 = 1 - a->beta2;
    for (size_t i = 0; i < p->n; i += VL) {
        const vu random = t == KR_F32 ? (vu){0} : random_bits(a->key, p->number + i);
        const vf w = vload(p->w + i), g = vfma(vload(p->g + i), vset(a->gain), w * a->decay);
        const vf m = vfma(vset(a->beta1), vload_as(p->m, t, i), new1 * g);
        const vf v = vfma(vset(a->beta2), vload_as(p->m2, t, i), new2 * (g * g));
        store_moment(p->m, t, i, m, random);
        store_moment(p->m2, t, i, v, random >> 16);
        const vf root = vfma(sqrt_lanes(v), vset(a->root), vset(a->eps));
        vstore(p->w + i, w - vfma(w, vset(a->shrink), a->rate * (m / root)));
    }
}

struct sgd {
    float gain, decay, rate, momentum;
    bool nesterov, first;
    uint32_t key;
};

INLINE void sgd_piece(const struct sgd *a, const struct piece *p, const enum kr_dtype t)
{
    for (size_t i = 0; i < p->n; i += VL) {
        const vf w = vload(p->w + i);
        vf g = vfma(vload(p->g + i), vset(a->gain), w * a->decay);
        if (p->m) {
            const vu random = t == KR_F32 ? (vu){0} : random_bits(a->key, p->number + i);
            const vf m = a->first ? g : vfma(vset(a->momentum), vload_as(p->m, t, i), g);
            store_moment(p->m, t, i, m, random);
            g = a->nesterov ? vfma(vset(a->momentum), m, g) : m;
        }
        vstore(p->w + i, vfnma(vset(a->rate), g, w));
    }
}

static void adam_step(const void *a, const struct piece *p)
{
    if (p->t == KR_F32)
        adam_piece(a, p, KR_F32);
    else
        adam_piece(a, p, KR_BF16);
}

static void sgd_step(const void *a, const struct piece *p)
{
    if (p->t == KR_F32)
        sgd_piece(a, p, KR_F32);
    else
        sgd_piece(a, p, KR_BF16);
}

/* The last few elements, moved to where whole vectors can be read. */
static void step_tail(void (*step)(const void *, const struct piece *), const void *how,
                      const struct piece *p)
{
    const size_t size = kr_dtype_size(p->t);
    float w[VL] = {0}, g[VL] = {0}, m[VL] = {0}, m2[VL] = {0};
    memcpy(w, p->w, p->n * sizeof *w);
    memcpy(g, p->g, p->n * sizeof *g);
    if (p->m)
        memcpy(m, p->m, p->n * size);
    if (p->m2)
        memcpy(m2, p->m2, p->n * size);
    step(how, &(struct piece){VL, p->number, w, g, p->m ? m : NULL, p->m2 ? m2 : NULL, p->t});
    memcpy(p->w, w, p->n * sizeof *w);
    if (p->m)
        memcpy(p->m, m, p->n * size);
    if (p->m2)
        memcpy(p->m2, m2, p->n * size);
}

static void *moved(void *m, enum kr_dtype t, size_t i)
{
    return m ? (char *)m + i * kr_dtype_size(t) : NULL;
}

static void step_all(void (*step)(const void *, const struct piece *), const void *how,
                     const struct piece *all, int threads)
{
#pragma omp parallel for schedule(static) num_threads(threads) if (all->n > TASK)
    for (size_t i = 0; i < all->n; i += TASK) {
        const size_t n = min_size(TASK, all->n - i), whole = n / VL * VL;
        struct piece p = {whole,      all->number + i,          all->w + i,
                          all->g + i, moved(all->m, all->t, i), moved(all->m2, all->t, i),
                          all->t};
        step(how, &p);
        if (whole < n) {
            p = (struct piece){n - whole,   p.number + whole,       p.w + whole,
                               p.g + whole, moved(p.m, p.t, whole), moved(p.m2, p.t, whole),
                               p.t};
            step_tail(step, how, &p);
        }
    }
}

void KR_NAME(kr_adam)(const struct kr_adam *o, size_t n, float *w, const float *g, void *m, void *v)
{
    const double correct1 = 1 - pow(o->beta1, (double)o->step);
    const double correct2 = 1 - pow(o->beta2, (double)o->step);
    const struct adam a = {
        .gain = (float)o->gain,
        .decay = o->decoupled ? 0 : (float)o->decay,
        .shrink = o->decoupled ? (float)(o->rate * o->decay) : 0,
        .beta1 = (float)o->beta1,
        .beta2 = (float)o->beta2,
        .rate = (float)(o->rate / correct1),
        .root = (float)(1 / sqrt(correct2)),
        .eps = (float)o->eps,
        .key = key_of(o->seed, o->step),
    };
    step_all(adam_step, &a, &(struct piece){n, o->first, w, g, m, v, o->moments}, o->threads);
}

void KR_NAME(kr_sgd)(const struct kr_sgd *o, size_t n, float *w, const float *g, void *m)
{
    const struct sgd a = {
        .gain = (float)o->gain,
        .decay = (float)o->decay,
        .rate = (float)o->rate,
        .momentum = (float)o->momentum,
        .nesterov = o->nesterov,
        .first = o->step <= 1,
        .key = key_of(o->seed, o->step),
    };
    step_all(sgd_step, &a, &(struct piece){n, o->first, w, g, m, NULL, o->moments}, o->threads);
}

void KR_NAME(kr_squares)(size_t n, const float *g, int threads, size_t from, size_t to,
                         double *piece)
{
    const size_t size = kr_piece(n); /* KR_PIECES * size >= n */
#pragma omp parallel for schedule(static) num_threads(threads) if (n > TASK)
    for (size_t k = from; k < to; k++) {
        double sum = 0;
        size_t i = min_size(k * size, n), end = min_size(i + size, n);
        while (end - i >= VL) {
            vf s = vset(0);
            for (size_t stop = min_size(end, i + 64 * VL); i + VL <= stop; i += VL)
                s = vfma(vload(g + i), vload(g + i), s);
            sum += (double)sum_lanes(s);
        }
        for (; i < end; i++)
            sum += (double)g[i] * (double)g[i];
        piece[k] = sum;
    }
}

double KR_NAME(kr_sum_squares)(size_t n, const float *g, int threads)
{
    double piece[KR_PIECES], sum = 0;
    KR_NAME(kr_squares)(n, g, threads, 0, KR_PIECES, piece);
    for (int k = 0; k < KR_PIECES; k++)
        sum += piece[k];
    return sum;
}

int64_t KR_NAME(kr_find_nonfinite)(size_t n, const void *x, enum kr_dtype t, int threads)
{
    int64_t first = INT64_MAX;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(min : first) if (n > TASK)
    for (size_t i0 = 0; i0 < n; i0 += TASK) {
        const size_t n1 = min_size(i0 + TASK, n);
        size_t i = i0;
        vi bad = {0};
        for (; i + VL <= n1; i += VL) {
            const vf v = vload_as(x, t, i);
            bad |= ((vi)v & 0x7f800000) == 0x7f800000;
        }
        bool any = i < n1;
        for (int l = 0; l < VL; l++)
            any = any || bad[l];
        for (size_t k = i0; any && k < n1; k++) {
            const uint32_t high =
                t == KR_F32 ? ((const uint32_t *)x)[k] >> 16 : ((const uint16_t *)x)[k];
            if ((high & 0x7f80) == 0x7f80) {
                first = (int64_t)k < first ? (int64_t)k : first;
                break;
            }
        }
    }
    return first == INT64_MAX ? -1 : first;
}
