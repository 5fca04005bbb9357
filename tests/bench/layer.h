/* layer.h - what the benches of convolutions share: a clock, the processor's multiply-add peak,
 * memory, random maps. */
#ifndef LAYER_H
#define LAYER_H

#include "lib/base/rng.h"
#include "lib/kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* CLOCK_PROCESS_CPUTIME_ID where others are at work on the machine, with one thread. */
static clockid_t bench_clock = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec t;
    clock_gettime(bench_clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The multiply-add peak. */
#define PEAK(name, target, v, zero, step)                                                          \
    target static float name(long steps)                                                           \
    {                                                                                              \
        v a0 = zero, a1 = a0 + 1, a2 = a0 + 2, a3 = a0 + 3, a4 = a0 + 4, a5 = a0 + 5, a6 = a0 + 6; \
        v a7 = a0 + 7, a8 = a0 + 8, a9 = a0 + 9, a10 = a0 + 10, a11 = a0 + 11;                     \
        v m = a0 + 0.999f, c = a0 + 1e-3f;                                                         \
        for (long k = 0; k < steps; k++) {                                                         \
            a0 = step(a0, m, c), a1 = step(a1, m, c), a2 = step(a2, m, c), a3 = step(a3, m, c);    \
            a4 = step(a4, m, c), a5 = step(a5, m, c), a6 = step(a6, m, c), a7 = step(a7, m, c);    \
            a8 = step(a8, m, c), a9 = step(a9, m, c), a10 = step(a10, m, c);                       \
            a11 = step(a11, m, c);                                                                 \
        }                                                                                          \
        a0 += a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;                              \
        return ((const float *)&a0)[0];                                                            \
    }

#ifdef __x86_64__
#include <immintrin.h>
PEAK(peak16, __attribute__((target("avx512f,fma"))), __m512, _mm512_setzero_ps(), _mm512_fmadd_ps)
PEAK(peak8, __attribute__((target("avx2,fma"))), __m256, _mm256_setzero_ps(), _mm256_fmadd_ps)
#endif
typedef float v4 __attribute__((vector_size(16)));
#define PLAIN(a, m, c) ((a) * (m) + (c))
PEAK(peak4, , v4, (v4){0}, PLAIN)

static __attribute__((unused)) double peak(int threads)
{
    const long steps = 2000000;
    float (*f)(long) = peak4;
    int lanes = 4;
#ifdef __x86_64__
    if (!strcmp(kr_level(), "avx512"))
        f = peak16, lanes = 16;
    else if (!strcmp(kr_level(), "avx2"))
        f = peak8, lanes = 8;
#endif
    double best = 1e9;
    volatile float keep = 0;
    for (int r = 0; r < 5; r++) {
        double t = now();
#pragma omp parallel num_threads(threads)
        {
            float x = f(steps);
#pragma omp critical
            keep += x;
        }
        t = now() - t;
        best = t < best ? t : best;
    }
    return 2.0 * 12 * lanes * (double)steps * threads / best / 1e9;
}

static void *memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    memset(p, 0, bytes);
    return p;
}

static float *map(struct rng *r, size_t pixels, int c)
{
    size_t cp = (size_t)kr_pad(c);
    float *p = memory(pixels * cp * 4);
    for (size_t i = 0; i < pixels; i++)
        for (int k = 0; k < c; k++)
            p[i * cp + (size_t)k] = (float)rng_range(r, -1, 1);
    return p;
}

#endif
