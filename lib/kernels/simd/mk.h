/* mk.h - the GEMM micro-kernel under every convolution:
 *
 *   c[t][j] (+)= sum over r < runs, k < K of a[r*ar + t*at + k*ak] * b[r*br + k*bk + j]
 *
 * t < rows, j < nr, one panel of nr columns. Either ak == 1 (rows of a are contiguous along the
 * sum) or at == 1 (a is read transposed). The tile is MR rows by NV vectors: on AVX-512 6x4, so
 * that 24 of 32 registers accumulate and each step does 24 multiply-adds for 10 loads; where a
 * panel is narrower it is taller. The order of a sum depends on runs and K alone, never on the
 * tile, and with MK_GO_ON not on how K was cut either. */
#ifndef MK_H
#define MK_H

#include "lib/kernels/simd/vec.h"

#include <stddef.h>

#if defined KR_LEVEL_avx512
#define MK_NR 64 /* at most */
#elif defined KR_LEVEL_avx2 || defined __ARM_NEON
#define MK_NR 16
#else
#define MK_NR 8
#endif

/* What becomes of what is in c already. */
enum mk_into {
    MK_SET,  /* overwritten */
    MK_ADD,  /* added last, so that a long sum is one of short sums */
    MK_GO_ON /* the sum goes on from it, term by term: the same bytes as one call for all terms */
};

struct mk {
    int rows, nr, runs, k;
    const float *a;
    size_t at, ak, ar;
    const float *b;
    size_t bk, br;
    float *c;
    size_t ct;
    enum mk_into into;
};

/* Where the sums of VL columns begin, and end. */
INLINE vf mk_first(const struct mk *m, const float *c)
{
    return m->into == MK_GO_ON ? vload(c) : (vf){0};
}

INLINE void mk_last(const struct mk *m, float *c, vf sum)
{
    vstore(c, m->into == MK_ADD ? sum + vload(c) : sum);
}

/* The width of the panel that starts at column o of a block of `width` (a multiple of KR_LANES). */
INLINE int mk_panel(int o, int width)
{
#if defined KR_LEVEL_avx512
    return width - o >= 64 ? 64 : width - o >= 32 ? 32 : 16;
#else
    (void)o, (void)width;
    return MK_NR;
#endif
}

/* `steps` terms of the sums of a tile. Rows are reached from every third one with an index register
 * (addresses scale it by 1 or 2). */
INLINE void mk_steps(vf acc[16][4], const float *g[6], const float **b, size_t at, size_t ak,
                     size_t bk, const int MR, const int NV, const int steps)
{
    UNROLL(2)
    for (int k = 0; k < steps; k++) {
        vf u[4];
        UNROLL(4)
        for (int j = 0; j < NV; j++)
            u[j] = vload(*b + VL * j);
        UNROLL(16)
        for (int t = 0; t < MR; t++) {
            vf x = vset(g[t / 3][(size_t)(t % 3) * at + (size_t)k * ak]);
            UNROLL(4)
            for (int j = 0; j < NV; j++)
                acc[t][j] = vfma(x, u[j], acc[t][j]);
        }
        *b += bk;
    }
    UNROLL(6)
    for (int i = 0; i < (MR + 2) / 3; i++) {
        g[i] += (size_t)steps * ak;
        KEEP(g[i]);
    }
}

INLINE void mk_tile(const struct mk *m, int t0, const int MR, const int NV, const bool along)
{
    const size_t at = along ? m->at : 1, ak = along ? 1 : m->ak, bk = m->bk;
    float *c = m->c + (size_t)t0 * m->ct;
    vf acc[16][4];
    UNROLL(16)
    for (int t = 0; t < MR; t++) {
        UNROLL(4)
        for (int j = 0; j < NV; j++)
            acc[t][j] = mk_first(m, c + (size_t)t * m->ct + VL * j);
    }
    for (int r = 0; r < m->runs; r++) {
        const float *b = m->b + (size_t)r * m->br, *g[6];
        UNROLL(6)
        for (int i = 0; i < (MR + 2) / 3; i++)
            g[i] = m->a + (size_t)r * m->ar + (size_t)(t0 + 3 * i) * at;
        int k = 0;
        for (; NV > 1 && k + 2 <= m->k; k += 2)
            mk_steps(acc, g, &b, at, ak, bk, MR, NV, 2);
        for (; k < m->k; k++)
            mk_steps(acc, g, &b, at, ak, bk, MR, NV, 1);
    }
    UNROLL(16)
    for (int t = 0; t < MR; t++) {
        UNROLL(4)
        for (int j = 0; j < NV; j++)
            mk_last(m, c + (size_t)t * m->ct + VL * j, acc[t][j]);
    }
}

#if defined KR_LEVEL_avx512
/* 16 rows by one vector, 16 terms along the sum: the products of 16 channels with 16, without a
 * loop. */
INLINE void mk_sixteen(const struct mk *m, int t0)
{
    const size_t at = m->at;
    float *c = m->c + (size_t)t0 * m->ct;
    const float *b = m->b, *g[6];
    vf acc[16];
    UNROLL(16)
    for (int t = 0; t < 16; t++)
        acc[t] = mk_first(m, c + (size_t)t * m->ct);
    UNROLL(6)
    for (int i = 0; i < 6; i++)
        g[i] = m->a + (size_t)(t0 + 3 * i) * at;
    UNROLL(16)
    for (int k = 0; k < 16; k++) {
        vf u = vload(b);
        b += m->bk;
        UNROLL(16)
        for (int t = 0; t < 16; t++)
            acc[t] = vfma(vset(g[t / 3][(size_t)(t % 3) * at + (size_t)k]), u, acc[t]);
    }
    UNROLL(16)
    for (int t = 0; t < 16; t++)
        mk_last(m, c + (size_t)t * m->ct, acc[t]);
}
#endif

#define MK_TILES(MR, NV)                                                                           \
    for (; m->rows - t >= (MR); t += (MR))                                                         \
    mk_tile(m, t, MR, NV, along)

INLINE void mk_run(const struct mk *m, const bool along)
{
    int t = 0;
#if defined KR_LEVEL_avx512
    if (m->nr == 64) {
        MK_TILES(6, 4);
        MK_TILES(4, 4);
        MK_TILES(2, 4);
        MK_TILES(1, 4);
    } else if (m->nr == 32) {
        MK_TILES(12, 2);
        MK_TILES(6, 2);
        MK_TILES(4, 2);
        MK_TILES(1, 2);
    } else {
        for (; along && m->k == 16 && m->runs == 1 && m->rows - t >= 16; t += 16)
            mk_sixteen(m, t);
        MK_TILES(16, 1);
        MK_TILES(8, 1);
        MK_TILES(4, 1);
        MK_TILES(1, 1);
    }
#elif defined __ARM_NEON
    MK_TILES(6, 4);
    MK_TILES(4, 4);
    MK_TILES(2, 4);
    MK_TILES(1, 4);
#elif defined KR_LEVEL_avx2
    MK_TILES(6, 2);
    MK_TILES(4, 2);
    MK_TILES(2, 2);
    MK_TILES(1, 2);
#else
    MK_TILES(4, 2);
    MK_TILES(2, 2);
    MK_TILES(1, 2);
#endif
}

/* --- rows that lie anywhere ---------------------------------------------------------------------
 * The same product, a's rows or terms found by a table of offsets from m->a: a convolution of any
 * stride or dilation over any map. */
#if defined KR_LEVEL_avx512 || defined KR_LEVEL_avx2 || defined __ARM_NEON
#define MK_ROWS 6
#else
#define MK_ROWS 4
#endif
#define MK_NONE UINT32_MAX

INLINE void mk_gather_tile(const struct mk *m, const uint32_t *from, const int NV)
{
    vf acc[MK_ROWS][4];
    UNROLL(6)
    for (int t = 0; t < MK_ROWS; t++) {
        UNROLL(4)
        for (int j = 0; j < NV; j++)
            acc[t][j] = mk_first(m, m->c + (size_t)t * m->ct + VL * j);
    }
    for (int r = 0; r < m->runs; r++, from += MK_ROWS) {
        const float *b = m->b + (size_t)r * m->br, *p[MK_ROWS];
        if (from[0] == MK_NONE)
            continue;
        UNROLL(6)
        for (int t = 0; t < MK_ROWS; t++)
            p[t] = m->a + from[t];
        for (size_t k = 0; k < (size_t)m->k; k++, b += VL * NV) {
            vf u[4];
            UNROLL(4)
            for (int j = 0; j < NV; j++)
                u[j] = vload(b + VL * j);
            UNROLL(6)
            for (int t = 0; t < MK_ROWS; t++) {
                const vf x = vset(p[t][k]);
                UNROLL(4)
                for (int j = 0; j < NV; j++)
                    acc[t][j] = vfma(x, u[j], acc[t][j]);
            }
        }
    }
    UNROLL(6)
    for (int t = 0; t < MK_ROWS; t++) {
        UNROLL(4)
        for (int j = 0; j < NV; j++)
            mk_last(m, m->c + (size_t)t * m->ct + VL * j, acc[t][j]);
    }
}

/* MK_ROWS rows by nr columns: row t of run r begins at m->a[from[r * MK_ROWS + t]]; a run whose
 * first offset is MK_NONE is left out. bk is nr. */
INLINE void mk_gather(const struct mk *m, const uint32_t *from)
{
#if defined KR_LEVEL_avx512
    if (m->nr == 64)
        mk_gather_tile(m, from, 4);
    else if (m->nr == 32)
        mk_gather_tile(m, from, 2);
    else
        mk_gather_tile(m, from, 1);
#else
    mk_gather_tile(m, from, MK_NR / VL);
#endif
}

INLINE void mk_outer_tile(const struct mk *m, const uint32_t *from, int t0, const int MR,
                          const int NV)
{
    float *c = m->c + (size_t)t0 * m->ct;
    const float *a = m->a + t0, *b = m->b;
    vf acc[16][4];
    UNROLL(16)
    for (int t = 0; t < MR; t++) {
        UNROLL(4)
        for (int j = 0; j < NV; j++)
            acc[t][j] = mk_first(m, c + (size_t)t * m->ct + VL * j);
    }
    for (int k = 0; k < m->k; k++, b += m->bk) {
        const float *p = a + from[k];
        vf u[4];
        UNROLL(4)
        for (int j = 0; j < NV; j++)
            u[j] = vload(b + VL * j);
        UNROLL(16)
        for (int t = 0; t < MR; t++) {
            const vf x = vset(p[t]);
            UNROLL(4)
            for (int j = 0; j < NV; j++)
                acc[t][j] = vfma(x, u[j], acc[t][j]);
        }
    }
    UNROLL(16)
    for (int t = 0; t < MR; t++) {
        UNROLL(4)
        for (int j = 0; j < NV; j++)
            mk_last(m, c + (size_t)t * m->ct + VL * j, acc[t][j]);
    }
}

#define MK_OUTER(MR, NV)                                                                           \
    for (; m->rows - t >= (MR); t += (MR))                                                         \
    mk_outer_tile(m, from, t, MR, NV)

/* m->rows rows by nr columns: term k of row t is m->a[from[k] + t]. One run. */
INLINE void mk_outer(const struct mk *m, const uint32_t *from)
{
    int t = 0;
#if defined KR_LEVEL_avx512
    if (m->nr == 64) {
        MK_OUTER(6, 4);
        MK_OUTER(4, 4);
        MK_OUTER(2, 4);
        MK_OUTER(1, 4);
    } else if (m->nr == 32) {
        MK_OUTER(12, 2);
        MK_OUTER(4, 2);
        MK_OUTER(1, 2);
    } else {
        MK_OUTER(16, 1);
        MK_OUTER(12, 1);
        MK_OUTER(4, 1);
        MK_OUTER(1, 1);
    }
#else
    MK_OUTER(MK_ROWS, MK_NR / VL);
    MK_OUTER(2, MK_NR / VL);
    MK_OUTER(1, MK_NR / VL);
#endif
}

#endif
