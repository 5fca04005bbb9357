/* maps.h - for tests of kernels: memory that ends at a guard page, random maps, operands as
 * doubles, and every kernel run at each level that the processor has. */
#ifndef MAPS_H
#define MAPS_H

#include "lib/base/rng.h"
#include "lib/base/tensor.h"
#include "lib/kernels/kernels.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAPS_UNUSED __attribute__((unused))

/* --- memory --------------------------------------------------------------------------------- */
enum { LEFT = -1, IDLE = 0 }; /* or in use since guards_open was called so often, and once more */
static struct guard {
    char *base;
    size_t bytes;
    int use;
} guards[512];
static int nguards, guards_deep = 1;

/* Pages that no test has any more (a fresh one costs more than all that is done with it), or new
 * ones. */
static char *guard_pages(size_t bytes, size_t page)
{
    for (int i = 0; i < nguards; i++)
        if (guards[i].use <= IDLE && guards[i].bytes == bytes) {
            guards[i].use = guards_deep;
            return guards[i].base;
        }
    char *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base, page, PROT_NONE) ||
        mprotect(base + bytes - page, page, PROT_NONE) || nguards == 512) {
        printf("Bail out! no guarded memory\n");
        exit(1);
    }
    guards[nguards++] = (struct guard){base, bytes, guards_deep};
    return base;
}

/* Not a byte behind it may be touched (but what alignment adds), nor a page before it; full of
 * NaN. */
MAPS_UNUSED static void *guarded(size_t bytes, size_t align)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (bytes + align - 1) / align * align;
    size_t span = (size + page - 1) / page * page;
    char *base = guard_pages(span + 2 * page, page);
    memset(base + page, 0xff, span);
    return base + page + span - size;
}

/* What is taken between these two is given back by the second. */
MAPS_UNUSED static void guards_open(void)
{
    guards_deep++;
}

MAPS_UNUSED static void guards_close(void)
{
    for (int i = 0; i < nguards; i++)
        if (guards[i].use == guards_deep)
            guards[i].use = IDLE;
    guards_deep--;
}

/* Gives all back; what nobody wanted since the last time is unmapped. */
MAPS_UNUSED static void guards_free(void)
{
    int kept = 0;
    for (int i = 0; i < nguards; i++)
        if (guards[i].use == LEFT) {
            munmap(guards[i].base, guards[i].bytes);
        } else {
            guards[i].use = guards[i].use == IDLE ? LEFT : IDLE;
            guards[kept++] = guards[i];
        }
    nguards = kept;
    guards_deep = 1;
}

MAPS_UNUSED static double *doubles(size_t n)
{
    return guarded(n * sizeof(double), sizeof(double));
}

MAPS_UNUSED static float *floats(size_t n)
{
    return guarded(n * sizeof(float), sizeof(float));
}

/* --- maps ----------------------------------------------------------------------------------- */
struct shape {
    int n, h, w;
};

MAPS_UNUSED static size_t pixels_of(struct shape s)
{
    return (size_t)s.n * (size_t)s.h * (size_t)s.w;
}

MAPS_UNUSED static size_t elements(struct shape s, int c)
{
    return pixels_of(s) * (size_t)kr_pad(c);
}

/* Pixel number p of all samples' pixels, channel c. */
MAPS_UNUSED static double get(const void *map, enum kr_dtype t, int channels, size_t p, int c)
{
    size_t i = p * (size_t)kr_pad(channels) + (size_t)c;
    return (double)(t == KR_F32 ? ((const float *)map)[i]
                                : bf16_to_f32(((const uint16_t *)map)[i]));
}

MAPS_UNUSED static void set(void *map, enum kr_dtype t, int channels, size_t p, int c, float v)
{
    size_t i = p * (size_t)kr_pad(channels) + (size_t)c;
    if (t == KR_F32)
        ((float *)map)[i] = v;
    else
        ((uint16_t *)map)[i] = f32_to_bf16(v);
}

MAPS_UNUSED static void *empty_map(struct shape s, int c, enum kr_dtype t)
{
    return guarded(elements(s, c) * kr_dtype_size(t), 64);
}

/* Of deviation 1 about 0; even, as normal ones took a fifth of the time. */
MAPS_UNUSED static double random_value(struct rng *r)
{
    return sqrt(12) * (rng_uniform(r) - 0.5);
}

MAPS_UNUSED static void *random_map(struct rng *r, struct shape s, int c, enum kr_dtype t)
{
    void *m = empty_map(s, c, t);
    for (size_t p = 0; p < pixels_of(s); p++)
        for (int k = 0; k < kr_pad(c); k++)
            set(m, t, c, p, k, k < c ? (float)random_value(r) : 0);
    return m;
}

/* Rows of kr_pad(c) floats. */
MAPS_UNUSED static float *random_rows(struct rng *r, int rows, int c, double mean, double spread)
{
    float *p = guarded((size_t)rows * (size_t)kr_pad(c) * sizeof *p, 64);
    for (int i = 0; i < rows * kr_pad(c); i++)
        p[i] = i % kr_pad(c) < c ? (float)(mean + spread * random_value(r)) : 0;
    return p;
}

MAPS_UNUSED static float *random_floats(struct rng *r, size_t n, double mean, double spread)
{
    float *p = floats(n);
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(mean + spread * random_value(r));
    return p;
}

/* --- operands ------------------------------------------------------------------------------- */
enum { AFFINE = 1, RELU = 2, STRIDED = 4, BF16 = 8, LEAKY = 16 };

MAPS_UNUSED static struct kr_in random_in(struct rng *r, struct shape s, int c, int how)
{
    struct kr_in in = {.c = c, .dtype = how & BF16 ? KR_BF16 : KR_F32};
    in.relu = how & (RELU | LEAKY);
    in.slope = how & LEAKY ? 0.2f : 0;
    in.x = random_map(r, s, c, in.dtype);
    if (how & (AFFINE | STRIDED)) {
        in.stride = how & STRIDED ? (size_t)kr_pad(c) : 0;
        in.scale = random_rows(r, how & STRIDED ? s.n : 1, c, 1, 0.3);
        in.shift = random_rows(r, how & STRIDED ? s.n : 1, c, 0, 0.5);
    }
    return in;
}

/* A plain float map's values as an image. */
MAPS_UNUSED static struct kr_in planar_in(const struct kr_in *in, struct shape s)
{
    const size_t plane = (size_t)s.h * (size_t)s.w;
    float *x = floats(pixels_of(s) * (size_t)in->c);
    for (size_t p = 0; p < pixels_of(s); p++)
        for (int c = 0; c < in->c; c++)
            x[(p / plane * (size_t)in->c + (size_t)c) * plane + p % plane] =
                (float)get(in->x, KR_F32, in->c, p, c);
    return (struct kr_in){.x = x, .c = in->c, .planar = true};
}

/* scale * x + shift: what the activation sees, and what it makes of it. */
MAPS_UNUSED static double before(const struct kr_in *in, struct shape s, size_t p, int c)
{
    double v = get(in->x, in->dtype, in->c, p, c);
    size_t i = p / ((size_t)s.h * (size_t)s.w) * in->stride + (size_t)c;
    return in->scale ? v * (double)in->scale[i] + (double)in->shift[i] : v;
}

MAPS_UNUSED static double value(const struct kr_in *in, struct shape s, size_t p, int c)
{
    double v = before(in, s, p, c);
    return in->relu && v < 0 ? v * (double)in->slope : v;
}

/* Doubles of the sums of a map: in one row, or one for each sample. */
MAPS_UNUSED static size_t sums_count(struct shape s, int c, bool each)
{
    return 2 * (size_t)kr_pad(c) * (size_t)(each ? s.n : 1);
}

/* --- comparison ----------------------------------------------------------------------------- */

/* The error of a result: the largest difference over the root mean square of what was wanted. */
struct error {
    double worst, squares, n;
};

MAPS_UNUSED static void compare(struct error *e, double have, double want)
{
    double d = fabs(have - want);
    if (d > e->worst || d != d)
        e->worst = d != d ? INFINITY : d;
    e->squares += want * want;
    e->n++;
}

MAPS_UNUSED static double relative(const struct error *e)
{
    double rms = e->n > 0 ? sqrt(e->squares / e->n) : 0;
    return e->worst == 0 ? 0 : e->worst / (rms + 1e-30);
}

MAPS_UNUSED static double floats_error(const float *have, const double *want, size_t n)
{
    struct error e = {0};
    for (size_t i = 0; i < n; i++)
        compare(&e, (double)have[i], want[i]);
    return relative(&e);
}

/* What kr_out asks for, from v (pixel by pixel, c channels), against what the kernel wrote. */
MAPS_UNUSED static double out_error(const struct kr_out *out, struct shape s, const double *v)
{
    struct error e = {0}, sums = {0};
    const size_t cp = (size_t)kr_pad(out->c), run = pixels_of(s) / (out->each ? (size_t)s.n : 1);
    for (int c = 0; c < kr_pad(out->c); c++) {
        double sum = 0, squares = 0;
        for (size_t p = 0; p < pixels_of(s); p++) {
            double have = get(out->y, out->dtype, out->c, p, c);
            double want = c < out->c ? v[p * (size_t)out->c + (size_t)c] : 0;
            sum = p % run ? sum + want : want;
            squares = p % run ? squares + want * want : want * want;
            if (out->sums && p % run == run - 1) {
                const double *row = out->sums + p / run * 2 * cp;
                compare(&sums, row[c], sum);
                compare(&sums, row[cp + (size_t)c], squares);
            }
            if (c < out->c && out->scale)
                want = want * (double)out->scale[c] + (double)out->shift[c];
            if (out->relu && want < 0)
                want *= (double)out->slope;
            if (c >= out->c && have != 0)
                return INFINITY;
            compare(&e, have, want);
        }
    }
    return fmax(relative(&e), relative(&sums));
}

/* The same for kr_dx: `old` is what dx held before. Elements within 1e-5 of the activation's kink
 * are taken as the kernel had them. */
MAPS_UNUSED static double dx_error(const struct kr_dx *dx, struct shape s, const float *old,
                                   const double *v)
{
    struct error e = {0}, sums = {0};
    const size_t cp = (size_t)kr_pad(dx->c), run = pixels_of(s) / (dx->each ? (size_t)s.n : 1);
    for (int c = 0; c < kr_pad(dx->c); c++) {
        double sum = 0, products = 0, scale = 1e-30;
        for (size_t p = 0; p < pixels_of(s); p++) {
            if (p % run == 0)
                sum = products = 0, scale = 1e-30;
            double have = dx->dx ? get(dx->dx, KR_F32, dx->c, p, c) : 0, want = 0;
            bool close = false;
            size_t n = p / ((size_t)s.h * (size_t)s.w);
            if (c < dx->c) {
                want = v[p * (size_t)dx->c + (size_t)c];
                if (dx->accumulate)
                    want += get(old, KR_F32, dx->c, p, c);
                if (dx->act && dx->act->relu) {
                    double kink = before(dx->act, s, p, c);
                    want *= kink > 0 ? 1 : (double)dx->act->slope;
                    close = fabs(kink) < 1e-5 && dx->dx;
                }
                if (dx->gain)
                    want *= (double)dx->gain[n * (size_t)kr_pad(dx->c) + (size_t)c];
                if (close)
                    want = have;
                sum += want;
                if (dx->act)
                    products += want * get(dx->act->x, dx->act->dtype, dx->c, p, c);
                scale += fabs(want);
            } else if (have != 0) {
                return INFINITY;
            }
            if (dx->dx)
                compare(&e, have, want);
            if (dx->sums && p % run == run - 1) {
                /* against the sum of magnitudes: the sum itself may cancel */
                const double *row = dx->sums + p / run * 2 * cp;
                compare(&sums, row[c] / scale, sum / scale);
                if (dx->act)
                    compare(&sums, row[cp + (size_t)c] / scale, products / scale);
            }
        }
    }
    return fmax(relative(&e), sums.worst);
}

/* --- levels --------------------------------------------------------------------------------- */
MAPS_UNUSED static void each_of(const char *const levels[], size_t n, void (*test)(void))
{
    for (size_t i = 0; i < n; i++) {
        setenv("KR_ISA", levels[i], 1);
        const char *why = kr_init();
        if (why) {
            printf("# not on this machine: %s: %s\n", levels[i], why);
            continue;
        }
        test();
        guards_free();
    }
}

MAPS_UNUSED static void each_level(void (*test)(void))
{
    static const char *const levels[] = {"plain", "avx2", "avx512", "neon"};
    each_of(levels, sizeof levels / sizeof levels[0], test);
}

/* The same of products in bfloat16. */
MAPS_UNUSED static void each_level_bf16(void (*test)(void))
{
    static const char *const levels[] = {"plain", "avx2", "avx512", "avx512bf16", "amx", "neon"};
    each_of(levels, sizeof levels / sizeof levels[0], test);
}

#endif
