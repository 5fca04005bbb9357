/* vmath.h - elementary functions on four floats at a time, the same on every machine.
 *
 * Vector extensions of GCC and Clang at the width that every 64-bit target has; only additions,
 * multiplications, shifts and comparisons, none of them fused. (The exp and log of
 * lib/kernels/simd/vmath.h are as wide as the level and fused where it can: other bytes on another
 * machine, which an augmented image must not have.) Errors are relative, over the stated range.
 * Polynomials: Cephes' single precision functions (Moshier). */
#ifndef VMATH_H
#define VMATH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef float v4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));
typedef uint32_t u4 __attribute__((vector_size(16)));

#define V4(x) ((v4){(x), (x), (x), (x)})

static inline v4 v4_load(const float *p)
{
    v4 v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void v4_store(float *p, v4 v)
{
    memcpy(p, &v, sizeof v);
}

/* The first n, of which there may be less than four; the others are zero. */
static inline v4 v4_load_some(const float *p, size_t n)
{
    v4 v = V4(0);
    if (n >= 4)
        return v4_load(p);
    memcpy(&v, p, n * sizeof *p);
    return v;
}

static inline void v4_store_some(float *p, v4 v, size_t n)
{
    if (n >= 4)
        v4_store(p, v);
    else
        memcpy(p, &v, n * sizeof *p);
}

/* mask ? a : b, mask from a comparison */
static inline v4 v4_pick(i4 mask, v4 a, v4 b)
{
    return (v4)((mask & (i4)a) | (~mask & (i4)b));
}

static inline v4 v4_min(v4 a, v4 b)
{
    return v4_pick(a < b, a, b);
}

static inline v4 v4_max(v4 a, v4 b)
{
    return v4_pick(a > b, a, b);
}

/* natural logarithm of normal x > 0; 2e-7 (absolute near 1) */
static inline v4 v4_log(v4 x)
{
    u4 bits = (u4)x;
    i4 e = (i4)(bits >> 23) - 126;
    v4 m = (v4)((bits & 0x7fffffu) | 0x3f000000u); /* [0.5, 1) */
    i4 low = m < V4(0.70710678f);
    e += low; /* true is -1 */
    m = m + (v4)((i4)m & low) - V4(1.0f);
    v4 z = m * m, y = V4(7.0376836292e-2f);
    y = y * m + V4(-1.1514610310e-1f);
    y = y * m + V4(1.1676998740e-1f);
    y = y * m + V4(-1.2420140846e-1f);
    y = y * m + V4(1.4249322787e-1f);
    y = y * m + V4(-1.6668057665e-1f);
    y = y * m + V4(2.0000714765e-1f);
    y = y * m + V4(-2.4999993993e-1f);
    y = y * m + V4(3.3333331174e-1f);
    v4 fe = __builtin_convertvector(e, v4);
    return m + (y * m * z - V4(0.5f) * z + fe * V4(-2.12194440e-4f)) + fe * V4(0.693359375f);
}

/* 2^x for -126 < x < 127; 2e-7 */
static inline v4 v4_exp2(v4 x)
{
    i4 n = __builtin_convertvector(x + V4(0.5f), i4);
    n += __builtin_convertvector(n, v4) > x + V4(0.5f); /* floor */
    v4 f = x - __builtin_convertvector(n, v4), y = V4(1.535336188319500e-4f);
    y = y * f + V4(1.339887440266574e-3f);
    y = y * f + V4(9.618437357674640e-3f);
    y = y * f + V4(5.550332471162809e-2f);
    y = y * f + V4(2.402264791363012e-1f);
    y = y * f + V4(6.931472028550421e-1f);
    y = y * f + V4(1.0f);
    return y * (v4)((n + 127) << 23);
}

/* square root of x >= 0; 3e-7 */
static inline v4 v4_sqrt(v4 x)
{
    v4 y = (v4)(0x5f3759df - ((i4)x >> 1));
    for (int i = 0; i < 3; i++)
        y = y * (V4(1.5f) - V4(0.5f) * x * y * y);
    return x * y;
}

/* sine and cosine of a turn's fraction t/2^32; 2e-7 absolute */
static inline void v4_sincos(u4 t, v4 *s, v4 *c)
{
    u4 q = (t + 0x20000000u) >> 30; /* nearest quarter */
    v4 a = __builtin_convertvector((i4)(t - (q << 30)), v4) * V4(1.4629180792671596e-9f);
    v4 z = a * a;
    v4 ps = V4(-1.9515295891e-4f) * z + V4(8.3321608736e-3f);
    v4 pc = V4(2.443315711809948e-5f) * z + V4(-1.388731625493765e-3f);
    ps = (ps * z + V4(-1.6666654611e-1f)) * z * a + a;
    pc = (pc * z + V4(4.166664568298827e-2f)) * z * z - V4(0.5f) * z + V4(1.0f);
    i4 odd = -(i4)(q & 1u);
    i4 minus_s = (i4)((q & 2u) << 30), minus_c = (i4)(((q + 1u) & 2u) << 30);
    *s = (v4)((i4)v4_pick(odd, pc, ps) ^ minus_s);
    *c = (v4)((i4)v4_pick(odd, ps, pc) ^ minus_c);
}

/* Mixes all bits (Wellons, "Prospecting for hash functions", lowbias32). */
static inline u4 u4_hash(u4 x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

#endif
