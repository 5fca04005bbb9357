/* Gradient of the weights of a transposed convolution in bfloat16 by AMX,
 *
 *     dw[i, o, phase] = sum over pixels p of v[p, i] * dy[p's pixel of the phase, o]
 *
 * by strips of some rows, which are laid out (bf16_weight.h) in a thread's own memory: the operand
 * turned, the gradient in pairs of pixels, phase by phase. A task owns a block of input channels,
 * one of output channels and a span of the strips. */
#include "lib/kernels/simd/bf16_weight.h"

#ifdef KR_LEVEL_amx

#define STRIP 256 /* pixels of a strip, about */
#define INPUTS 256
#define OUTPUTS 64 /* channels of a block, at most */
#define TASKS 16   /* at least, where the blocks of channels alone are fewer */

struct division {
    int cp, op, phases;      /* padded channels of the operand, and of the gradient */
    int rows, strips, total; /* rows of a strip; strips of a slice, of all */
    int pitch, steps, ld;    /* pixels of a row, even; tiles of a strip; halves of a channel */
    int iblocks, oblocks, blocks, spans;
    size_t group;                        /* halves of 16 channels' pairs */
    size_t size, partial, sums, private; /* size: of a task's sums, in floats */
    size_t v, dy, u, bytes;
};

static struct division divide(const struct kr_upconv *p)
{
    struct division k = {.cp = kr_pad(p->in.c), .op = kr_pad(p->cout)};
    size_t used = 0, mine = 0;
    k.phases = p->factor[0] * p->factor[1] * p->factor[2];
    k.pitch = (p->w + 1) / 2 * 2;
    const int rows = min_int(p->h, max_int(1, STRIP / k.pitch));
    k.strips = (p->h + rows - 1) / rows;
    k.rows = (p->h + k.strips - 1) / k.strips;
    k.total = p->n * max_int(1, p->d) * k.strips;
    k.steps = (k.rows * k.pitch + 31) / 32;
    k.ld = ((k.steps + 1) | 1) * 32;
    k.group = 512 * (size_t)k.steps;
    k.iblocks = (k.cp + INPUTS - 1) / INPUTS;
    k.oblocks = (k.op + OUTPUTS - 1) / OUTPUTS;
    k.blocks = k.iblocks * k.oblocks;
    k.spans = min_int((TASKS + k.blocks - 1) / k.blocks, k.total);
    const size_t wi = (size_t)min_int(INPUTS, k.cp), wo = (size_t)min_int(OUTPUTS, k.op);
    k.size = (size_t)k.phases * wi * wo;
    k.sums = take(&used, (size_t)(k.spans * k.op), sizeof(double));
    if (k.spans > 1)
        k.partial = take(&used, (size_t)(k.spans * k.blocks) * k.size, sizeof(float));
    else
        k.u = take(&mine, k.size, sizeof(float));
    k.v = take(&mine, wi * (size_t)k.ld, sizeof(uint16_t));
    k.dy = take(&mine, (size_t)k.phases * (wo / 16) * k.group, sizeof(uint16_t));
    k.private = used;
    k.bytes = mine;
    return k;
}

size_t KR_NAME(kr_bf16_upweight_workspace)(const struct kr_upconv *p)
{
    const struct division k = divide(p);
    return k.private + (size_t)p->threads * k.bytes;
}

struct task {
    int number, i0, wi, o0, wo;
    uint16_t *v, *dy;
    float *u;
    double *sums; /* of the gradient's channels; NULL: another task's */
};

/* Rows y0 up to y0 + count of slice q of the operand, whose last tile ends in zeros. */
static void operand(const struct kr_upconv *p, const struct division *k, const struct task *t,
                    int q, int y0, int count)
{
    const struct source s = {.cp = k->cp, .in = {p->in}};
    const enum reading how = reading(&s, s.in);
    const size_t cp = (size_t)k->cp, ld = (size_t)k->ld;
    const size_t first = ((size_t)q * (size_t)p->h + (size_t)y0) * (size_t)p->w;
    for (int y = 0; y < count; y++)
        for (int x = 0; x < p->w; x += RUN)
            for (int c = 0; c < t->wi; c += 16) {
                const struct reader r = reader_at(&s, s.in, how, q, t->i0 + c);
                turn(&r, how, (first + (size_t)(y * p->w + x)) * cp + (size_t)(t->i0 + c), cp,
                     min_int(RUN, p->w - x), t->v + (size_t)c * ld + y * k->pitch + x, ld);
            }
    for (int c = 0; c < t->wi; c++) {
        uint16_t *to = t->v + (size_t)c * ld;
        for (int y = 0; y < count && k->pitch > p->w; y++)
            to[y * k->pitch + p->w] = 0;
        memset(to + count * k->pitch, 0, (ld - (size_t)(count * k->pitch)) * sizeof *to);
    }
}

/* `count` pixels of 16 channels, `step` floats apart, in pairs; their sum. */
static vf pairs(const float *from, size_t step, int count, uint16_t *to)
{
    vf sum = {0};
    for (int x = 0; x < count; x += 2, from += 2 * step, to += 32) {
        vf a = vload(from), b = {0};
        __builtin_prefetch(from + RUN * step);
        if (x + 1 < count) {
            b = vload(from + step);
            __builtin_prefetch(from + (RUN + 1) * step);
        }
        const vf v = pair_of(a, b);
        memcpy(to, &v, sizeof v);
        sum += a + b;
    }
    return sum;
}

/* The gradient of the same strip. */
static void gradient(const struct kr_upconv *p, const struct division *k, const struct task *t,
                     const float *dy, int q, int y0, int count)
{
    const int A = p->factor[0], B = p->factor[1], C = p->factor[2];
    const size_t op = (size_t)k->op, row = (size_t)(p->w * C) * op;
    for (int y = 0; y < count; y++)
        for (int e = 0; e < A * B; e++) {
            const size_t slice = (size_t)(q * A + e / B);
            const size_t at = slice * (size_t)(p->h * B) + (size_t)((y0 + y) * B + e % B);
            for (int x = 0; x < p->w; x += RUN)
                for (int o = 0; o < t->wo; o += 16)
                    for (int c = 0; c < C; c++) {
                        const size_t to = (size_t)((e * C + c) * (t->wo / 16) + o / 16) * k->group;
                        const vf sum =
                            pairs(dy + at * row + (size_t)(x * C + c) * op + (size_t)(t->o0 + o),
                                  (size_t)C * op, min_int(RUN, p->w - x),
                                  t->dy + to + (size_t)(y * k->pitch + x) * 16);
                        if (t->sums)
                            sum_add(t->sums + t->o0 + o, sum);
                    }
        }
    const size_t end = (size_t)(count * k->pitch) * 16;
    for (int i = 0; i < k->phases * (t->wo / 16); i++)
        memset(t->dy + (size_t)i * k->group + end, 0, (k->group - end) * sizeof *t->dy);
}

/* 16 rows by 16 columns. */
static void one(const uint16_t *a, size_t ld, const uint16_t *b, int steps, float *u, bool first)
{
    TILE_BEGIN(0, u);
    for (int k = 0; k < steps; k++, a += 32, b += 512) {
        _tile_loadd(4, a, ld * sizeof *a);
        _tile_loadd(6, b, 64);
        _tile_dpbf16ps(0, 4, 6);
    }
    _tile_stored(0, u, 64);
}

static void products(const struct division *k, const struct task *t, int count, bool first)
{
    const size_t ld = (size_t)k->ld, second = 16 * (size_t)t->wo;
    const int steps = (count * k->pitch + 31) / 32;
    mk16_stored(t->v);
    for (int e = 0; e < k->phases; e++)
        for (int o = 0; o < t->wo; o += 32)
            for (int i = 0; i < t->wi; i += 32) {
                const uint16_t *a = t->v + (size_t)i * ld;
                const uint16_t *b = t->dy + (size_t)((e * t->wo + o) / 16) * k->group;
                float *u = t->u + (size_t)((e * t->wi + i) * t->wo + o * 16);
                if (t->wo - o >= 32 && t->wi - i >= 32) {
                    tiles_square(a, ld, b, k->group, steps, u, second, first);
                    continue;
                }
                for (int j = 0; j < min_int(32, t->wi - i); j += 16)
                    for (int c = 0; c < min_int(32, t->wo - o); c += 16)
                        one(a + (size_t)j * ld, ld, b + (size_t)(c / 16) * k->group, steps,
                            u + (size_t)(j * t->wo + c * 16), first);
            }
}

static struct task task_at(const struct division *k, int n, char *ws, char *mine)
{
    struct task t = {.number = n, .v = (uint16_t *)(mine + k->v), .dy = (uint16_t *)(mine + k->dy)};
    t.i0 = n % k->blocks / k->oblocks * INPUTS;
    t.o0 = n % k->oblocks * OUTPUTS;
    t.wi = min_int(INPUTS, k->cp - t.i0);
    t.wo = min_int(OUTPUTS, k->op - t.o0);
    t.u = k->spans > 1 ? (float *)(ws + k->partial) + (size_t)n * k->size : (float *)(mine + k->u);
    t.sums = t.i0 ? NULL : (double *)(ws + k->sums) + (size_t)(n / k->blocks) * (size_t)k->op;
    return t;
}

/* Filters of input channel i of the task's block, of what `spans` tasks left `step` floats apart,
 * in their order. */
static void filters(const struct kr_upconv *p, const struct division *k, const struct task *t,
                    int i, size_t step, int spans, float *dw)
{
    if (t->i0 + i >= p->in.c)
        return;
    for (int o = 0; o < t->wo && t->o0 + o < p->cout; o += 16) {
        const size_t phases = (size_t)k->phases;
        float *to = dw + ((size_t)(t->i0 + i) * (size_t)p->cout + (size_t)(t->o0 + o)) * phases;
        const int real = min_int(16, p->cout - t->o0 - o);
        for (int e = 0; e < k->phases; e++) {
            const float *u =
                t->u + (size_t)((e * t->wi + i / 16 * 16) * t->wo) + (size_t)(o * 16 + i % 16 * 16);
            vf sum = {0};
            for (int n = 0; n < spans; n++, u += step)
                sum += vload(u);
            for (int c = 0; c < real; c++)
                to[(size_t)c * phases + (size_t)e] = sum[c];
        }
    }
}

void KR_NAME(kr_bf16_upweight)(const struct kr_upconv *p, const float *dy, float *dw, float *dbias,
                               void *workspace)
{
    const struct division k = divide(p);
    char *ws = workspace;
    memset(ws + k.sums, 0, (size_t)(k.spans * k.op) * sizeof(double));
#pragma omp parallel num_threads(p->threads)
    {
        char *mine = ws + k.private + (size_t)omp_get_thread_num() * k.bytes;
        mk16_begin(16);
#pragma omp for schedule(dynamic)
        for (int n = 0; n < k.spans * k.blocks; n++) {
            const struct task t = task_at(&k, n, ws, mine);
            const int from = share(k.total, n / k.blocks, k.spans);
            const int to = share(k.total, n / k.blocks + 1, k.spans);
            for (int i = from; i < to; i++) {
                const int y0 = i % k.strips * k.rows, count = min_int(k.rows, p->h - y0);
                operand(p, &k, &t, i / k.strips, y0, count);
                gradient(p, &k, &t, dy, i / k.strips, y0, count);
                products(&k, &t, count, i == from);
            }
            for (int i = 0; i < t.wi && k.spans == 1; i++)
                filters(p, &k, &t, i, 0, 1, dw);
        }
        mk16_end();
        if (k.spans > 1) {
#pragma omp for schedule(dynamic)
            for (int n = 0; n < k.blocks * INPUTS; n++) {
                const struct task t = task_at(&k, n / INPUTS, ws, mine);
                if (n % INPUTS < t.wi)
                    filters(p, &k, &t, n % INPUTS, (size_t)k.blocks * k.size, k.spans, dw);
            }
        }
    }
    for (int o = 0; dbias && o < p->cout; o++) {
        double sum = 0;
        for (int n = 0; n < k.spans; n++)
            sum += ((const double *)(ws + k.sums))[n * k.op + o];
        dbias[o] = (float)sum;
    }
}

#endif
