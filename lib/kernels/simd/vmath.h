/* vmath.h - exp, log and the normal distribution on vectors, after the Cephes library's single
 * precision versions (Moshier, netlib.org/cephes): relative error below 2e-7. */
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

/* The standard normal distribution up to x, (1 + erf(x / sqrt 2)) / 2; NaN stays. */
INLINE vf vnormal(vf x)
{
    const vf t = x * 0.707106781186547524f, z = t * t, far = vmaximum(t, -t), u = 1 / far;
    vf p = vset(7.853861353153693e-5f); /* erf t = t * p(t^2) up to 1 */
    p = vfms(p, z, vset(8.010193625184903e-4f));
    p = vfma(p, z, vset(5.188327685732524e-3f));
    p = vfms(p, z, vset(2.685381193529856e-2f));
    p = vfma(p, z, vset(1.128358514861418e-1f));
    p = vfms(p, z, vset(3.761262582423300e-1f));
    p = vfma(p, z, vset(1.128379165726710e+0f));
    const vf v = u * u;
    vf q = vset(2.326819970068386e-2f); /* erfc t = e^(-t^2) / t * q(1 / t^2) up to 2 */
    q = vfms(q, v, vset(1.387039388740657e-1f));
    q = vfma(q, v, vset(3.687424674597105e-1f));
    q = vfms(q, v, vset(5.824733027278666e-1f));
    q = vfma(q, v, vset(6.210004621745983e-1f));
    q = vfms(q, v, vset(4.944515323274145e-1f));
    q = vfma(q, v, vset(3.404879937665872e-1f));
    q = vfms(q, v, vset(2.741127028184656e-1f));
    q = vfma(q, v, vset(5.638259427386472e-1f));
    vf r = vset(-1.047766399936249e+1f); /* and beyond */
    r = vfma(r, v, vset(1.297719955372516e+1f));
    r = vfms(r, v, vset(7.495518717768503e+0f));
    r = vfma(r, v, vset(2.921019019210786e+0f));
    r = vfms(r, v, vset(1.015265279202700e+0f));
    r = vfma(r, v, vset(4.218463358204948e-1f));
    r = vfms(r, v, vset(2.820767439740514e-1f));
    r = vfma(r, v, vset(5.641895067754075e-1f));
    const vf tail = vexp(-z) * u * vselect(far < 2, q, r) * 0.5f;
    const vf beyond = vselect(t > 0, 1 - tail, tail);
    return vselect(far < 1, vfma(t * p, vset(0.5f), vset(0.5f)), beyond);
}

#endif
