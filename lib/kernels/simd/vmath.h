/* vmath.h - exp and log on vectors, after the Cephes library's single precision versions
 * (Moshier, netlib.org/cephes): relative error below 2e-7. */
#ifndef VMATH_H
#define VMATH_H

#include "lib/kernels/simd/vec.h"

/* e^x; x is held to [-87, 88], NaN stays. */
INLINE vf vexp(vf x)
{
    const vi bad = x != x;
    vf t = vmaximum(x, vset(-87));
    const vi big = t > 88;
    t = (vf)(((vi)vset(88) & big) | ((vi)t & ~big));
    const vf magic = vset(12582912); /* 1.5 * 2^23: adding it rounds to an integer */
    const vf shifted = vfma(t, vset(1.44269504088896341f), magic), n = shifted - magic;
    const vf r = vfma(n, vset(2.12194440e-4f), vfnma(n, vset(0.693359375f), t));
    vf p = vset(1.9875691500e-4f);
    p = vfma(p, r, vset(1.3981999507e-3f));
    p = vfma(p, r, vset(8.3334519073e-3f));
    p = vfma(p, r, vset(4.1665795894e-2f));
    p = vfma(p, r, vset(1.6666665459e-1f));
    p = vfma(p, r, vset(5.0000001201e-1f));
    p = vfma(p, r * r, r) + 1;
    const vi power = ((vi)shifted - (vi)magic + 127) << 23;
    p *= (vf)power;
    return (vf)(((vi)x & bad) | ((vi)p & ~bad));
}

/* log x for normal x > 0; NaN stays. */
INLINE vf vlog(vf x)
{
    const vi one = (vi)vset(1);
    /* x = 2^e * m with m in [sqrt(1/2), sqrt(2)) */
    const vi e = ((vi)x - 0x3f3504f3) >> 23;
    const vf m = (vf)((vi)x - (e << 23)), r = m - (vf)one, z = r * r;
    vf p = vset(7.0376836292e-2f);
    p = vfms(p, r, vset(1.1514610310e-1f));
    p = vfma(p, r, vset(1.1676998740e-1f));
    p = vfms(p, r, vset(1.2420140846e-1f));
    p = vfma(p, r, vset(1.4249322787e-1f));
    p = vfms(p, r, vset(1.6668057665e-1f));
    p = vfma(p, r, vset(2.0000714765e-1f));
    p = vfms(p, r, vset(2.4999993993e-1f));
    p = vfma(p, r, vset(3.3333331174e-1f));
    const vf n = __builtin_convertvector(e, vf);
    const vf y = vfnma(z, vset(0.5f), vfma(r * z, p, n * -2.12194440e-4f));
    return vfma(n, vset(0.693359375f), r + y) + (x - x);
}

#endif
