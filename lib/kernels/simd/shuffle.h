/* shuffle.h - turning small matrices of vectors. */
#ifndef SHUFFLE_H
#define SHUFFLE_H

#include "lib/kernels/simd/vec.h"

#if VL == 16
#define LOW_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif VL == 8
#define LOW_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define LOW_HALVES 0, 4, 1, 5
#define HIGH_HALVES 2, 6, 3, 7
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#endif

/* r becomes its transpose, VL x VL: a perfect shuffle of the rows, log2(VL) times. */
INLINE void vtranspose(vf r[VL])
{
    UNROLL(4)
    for (int step = 1; step < VL; step *= 2) {
        vf t[VL];
        UNROLL(8)
        for (int i = 0; i < VL / 2; i++) {
            t[2 * i] = __builtin_shufflevector(r[i], r[i + VL / 2], LOW_HALVES);
            t[2 * i + 1] = __builtin_shufflevector(r[i], r[i + VL / 2], HIGH_HALVES);
        }
        memcpy(r, t, sizeof t);
    }
}

/* 4 * VL floats, four for each of VL things: v[q] is number q of each; and the reverse. */
INLINE void vload_fours(const float *from, vf v[4])
{
    const vf a = vload(from), b = vload(from + VL);
    const vf c = vload(from + 2 * VL), d = vload(from + 3 * VL);
    const vf even0 = __builtin_shufflevector(a, b, EVEN), odd0 = __builtin_shufflevector(a, b, ODD);
    const vf even1 = __builtin_shufflevector(c, d, EVEN), odd1 = __builtin_shufflevector(c, d, ODD);
    v[0] = __builtin_shufflevector(even0, even1, EVEN);
    v[1] = __builtin_shufflevector(odd0, odd1, EVEN);
    v[2] = __builtin_shufflevector(even0, even1, ODD);
    v[3] = __builtin_shufflevector(odd0, odd1, ODD);
}

INLINE void vstore_fours(float *to, const vf v[4])
{
    const vf a = __builtin_shufflevector(v[0], v[2], LOW_HALVES);
    const vf b = __builtin_shufflevector(v[1], v[3], LOW_HALVES);
    const vf c = __builtin_shufflevector(v[0], v[2], HIGH_HALVES);
    const vf d = __builtin_shufflevector(v[1], v[3], HIGH_HALVES);
    vstore(to, __builtin_shufflevector(a, b, LOW_HALVES));
    vstore(to + VL, __builtin_shufflevector(a, b, HIGH_HALVES));
    vstore(to + 2 * VL, __builtin_shufflevector(c, d, LOW_HALVES));
    vstore(to + 3 * VL, __builtin_shufflevector(c, d, HIGH_HALVES));
}

#endif
