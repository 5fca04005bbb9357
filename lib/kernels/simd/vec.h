/* vec.h - one vector type for every ISA level. VL floats make a vector; KR_LANES is a multiple of
 * VL, so a map's channels are whole vectors. Loads and stores are unaligned unless a comment says
 * more. */
#ifndef VEC_H
#define VEC_H

#include "lib/kernels/kernels.h"

#include <stdint.h>
#include <string.h>

#ifdef __AVX__
#include <immintrin.h>
#elif defined __SSE2__
#include <emmintrin.h> /* in a tenth of the time */
#endif
#ifdef __ARM_NEON
#include <arm_neon.h>
#endif

#if defined KR_LEVEL_avx512
#define VL 16
#elif defined KR_LEVEL_avx2
#define VL 8
#else
#define VL 4
#endif

#define INLINE static inline __attribute__((always_inline, unused))

/* In front of a loop of n rounds at most: all of them, one after another. Arrays of vectors become
 * registers only then. */
#define PRAGMA(x) _Pragma(#x)
#ifdef __clang__
#define UNROLL(n) PRAGMA(clang loop unroll(full))
#else
#define UNROLL(n) PRAGMA(GCC unroll n)
#endif

typedef float vf __attribute__((vector_size(4 * VL)));
typedef int32_t vi __attribute__((vector_size(4 * VL)));
typedef uint32_t vu __attribute__((vector_size(4 * VL)));
typedef uint16_t vh __attribute__((vector_size(2 * VL)));
typedef vf vf_mem __attribute__((aligned(4), may_alias));
typedef vh vh_mem __attribute__((aligned(2), may_alias));

INLINE vf vload(const float *p)
{
    return *(const vf_mem *)p;
}

INLINE void vstore(float *p, vf v)
{
    *(vf_mem *)p = v;
}

INLINE vf vset(float x)
{
    return x - (vf){0};
}

/* a * b + c, a * b - c and c - a * b, rounded once where the level has such an instruction. The
 * compiler fuses nothing by itself (-ffp-contract=off), so that what two functions write alike is
 * alike in every bit, whoever compiled them. */
INLINE vf vfma(vf a, vf b, vf c)
{
#if defined KR_LEVEL_avx512
    return _mm512_fmadd_ps(a, b, c);
#elif defined KR_LEVEL_avx2
    return _mm256_fmadd_ps(a, b, c);
#elif defined __ARM_FEATURE_FMA
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
}

INLINE vf vfms(vf a, vf b, vf c)
{
#if defined KR_LEVEL_avx512
    return _mm512_fmsub_ps(a, b, c);
#elif defined KR_LEVEL_avx2
    return _mm256_fmsub_ps(a, b, c);
#elif defined __ARM_FEATURE_FMA
    return vfmaq_f32(-c, a, b);
#else
    return a * b - c;
#endif
}

INLINE vf vfnma(vf a, vf b, vf c)
{
#if defined KR_LEVEL_avx512
    return _mm512_fnmadd_ps(a, b, c);
#elif defined KR_LEVEL_avx2
    return _mm256_fnmadd_ps(a, b, c);
#elif defined __ARM_FEATURE_FMA
    return vfmsq_f32(c, a, b);
#else
    return c - a * b;
#endif
}

/* max(v, low), and NaN where v is NaN. */
INLINE vf vmaximum(vf v, vf low)
{
#if defined KR_LEVEL_avx512
    return _mm512_max_ps(low, v);
#elif defined KR_LEVEL_avx2
    return _mm256_max_ps(low, v);
#elif defined __SSE__
    return _mm_max_ps(low, v);
#elif defined __ARM_NEON
    return vmaxq_f32(v, low);
#else
    vi m = v < low;
    return (vf)(((vi)low & m) | ((vi)v & ~m));
#endif
}

/* v where m, which is a comparison's result, else 0. */
INLINE vf vwhere(vi m, vf v)
{
    return (vf)((vi)v & m);
}

/* a where m, else b. */
INLINE vf vselect(vi m, vf a, vf b)
{
    return (vf)(((vi)a & m) | ((vi)b & ~m));
}

/* max(v, low * v) if leaky, else max(v, low); and NaN where v is NaN. */
INLINE vf vactivate(vf v, const bool leaky, vf low)
{
    return vmaximum(v, leaky ? low * v : low);
}

/* The first n floats, zeros behind; nothing past them is read. */
INLINE vf vload_first(const float *p, size_t n)
{
    float t[VL] = {0};
    if (n >= VL)
        return vload(p);
    memcpy(t, p, n * sizeof *t);
    return vload(t);
}

/* All of lanes 0 .. n - 1. */
INLINE vi lanes_before(int n)
{
    vi lane;
    for (int i = 0; i < VL; i++)
        lane[i] = i;
    return lane < n;
}

INLINE vf vload_bf16(const uint16_t *p)
{
    return (vf)(__builtin_convertvector(*(const vh_mem *)p, vu) << 16);
}

/* Round to nearest even; a NaN stays one. (The instruction takes a denormal as 0.) */
INLINE void vstore_bf16(uint16_t *p, vf v)
{
#ifdef __AVX512BF16__
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v));
#else
    vu u = (vu)v, nan = (vu)(v != v);
    vu r = u + 0x7fff + (u >> 16 & 1);
    r = (r & ~nan) | ((u | 0x400000) & nan);
    *(vh_mem *)p = __builtin_convertvector(r >> 16, vh);
#endif
}

INLINE vf vload_as(const void *base, enum kr_dtype t, size_t i)
{
    return t == KR_F32 ? vload((const float *)base + i) : vload_bf16((const uint16_t *)base + i);
}

/* Makes a pointer or index opaque. Where dozens of addresses are a base plus multiples of a stride,
 * the compiler would keep an induction variable for each, in memory, and update them all in every
 * step. */
#define KEEP(x) __asm__("" : "+r"(x))

/* n vectors (at most nine), s floats apart, with a base register for every three. */
INLINE void vload_row(const int n, const float *p, size_t s, vf v[])
{
    const float *q = p + 3 * s, *r = p + 6 * s;
    KEEP(q);
    KEEP(r);
    UNROLL(9)
    for (int i = 0; i < n; i++)
        v[i] = vload((i < 3 ? p : i < 6 ? q : r) + (size_t)(i % 3) * s);
}

INLINE void vstore_row(const int n, float *p, size_t s, const vf v[])
{
    float *q = p + 3 * s, *r = p + 6 * s;
    KEEP(q);
    KEEP(r);
    UNROLL(9)
    for (int i = 0; i < n; i++)
        vstore((i < 3 ? p : i < 6 ? q : r) + (size_t)(i % 3) * s, v[i]);
}

#endif
