/* Gradient of 3x3 weights in bfloat16 by AMX.
 *
 * The sum goes over pixels, two at a time, while a map has the channels of a pixel side by side. So
 * the gradient lies turned, the pixels of each output channel one after the other, and the operand
 * in pairs of pixels, with zeros around every row: that twice, by pairs that begin at even and at
 * odd pixels, as the taps of a row of the kernel begin at both, and a load of a tile that is not
 * aligned takes six times as long. Both are made, from whatever maps they are, for a strip of a few
 * rows at a time, of a block of channels each, in a thread's own memory, and serve all taps.
 *
 * A task owns a block of input channels, one of output channels, a slice of the kernel and a span
 * of the strips. */
#include "lib/kernels/simd/bf16_weight.h"
#include "lib/kernels/simd/winograd.h"

#ifdef KR_LEVEL_amx

#define STRIP 768    /* pixels of a strip, about */
#define STEPS 8      /* tiles of it that stay in the first cache */
#define CHANNELS 128 /* of a block, at most */
#define TASKS 16     /* at least, where the blocks of channels alone are fewer */

struct division {
    int rows, strips, total; /* rows of a strip; strips of a slice, of all */
    int pitch, steps,
        ld; /* pixels of a row with its zeros; tiles of a strip; halves of a channel */
    int depth, blocks, iblocks, oblocks, spans;
    size_t group, odd;                              /* halves of 16 channels' pairs */
    size_t size, partial, v, dy, u, private, bytes; /* size: of a task's sums, in floats */
};

static struct division divide(const struct source *s, int cout)
{
    struct division p = {.pitch = (s->w + 2) / 2 * 2, .depth = s->d ? 3 : 1};
    size_t used = 0, mine = 0;
    const int rows = min_int(s->h, max_int(1, STRIP / p.pitch)), cp = kr_pad(cout);
    p.strips = (s->h + rows - 1) / rows;
    p.rows = (s->h + p.strips - 1) / p.strips;
    p.total = s->n * p.strips;
    p.steps = (p.rows * p.pitch + 31) / 32;
    /* Room for what is turned with a row's last pixels, and an odd number of lines, so that the
     * rows of a tile lie in different sets of the cache. */
    p.ld = ((p.steps + 1) | 1) * 32;
    p.group = 32 * (size_t)(p.pitch + 16 * p.steps + 1);
    p.iblocks = (s->cp + CHANNELS - 1) / CHANNELS;
    p.oblocks = (cp + CHANNELS - 1) / CHANNELS;
    p.blocks = p.depth * p.iblocks * p.oblocks;
    p.spans = min_int((TASKS + p.blocks - 1) / p.blocks, p.total);
    const size_t wi = (size_t)min_int(CHANNELS, s->cp), wo = (size_t)min_int(CHANNELS, cp);
    p.odd = wi / 16 * p.group;
    p.size = 9 * wi * wo;
    if (p.spans > 1)
        p.partial = take(&used, (size_t)(p.spans * p.blocks) * p.size, sizeof(float));
    else
        p.u = take(&mine, p.size, sizeof(float));
    p.v = take(&mine, 2 * p.odd, sizeof(uint16_t));
    p.dy = take(&mine, wo * (size_t)p.ld, sizeof(uint16_t));
    p.private = used;
    p.bytes = mine;
    return p;
}

static size_t tiles_workspace(const struct source *s, int cout, int threads)
{
    const struct division p = divide(s, cout);
    return p.private + (size_t)threads * p.bytes;
}

/* The part of the concatenation that has padded channel k, which becomes its own. */
static const struct kr_in *part_of(const struct source *s, int *k)
{
    const int cp = kr_pad(s->in[0].c);
    if (*k < cp)
        return s->in;
    *k -= cp;
    return s->in + 1;
}

/* --- operands --------------------------------------------------------------------------------- */

/* Pixels of a row of 16 channels from the even one x up to `to_x`, in pairs: those that begin at
 * even pixels at `odd` halves behind `to`, the others, of which the first begins with the pixel
 * before, at `to`; w and what is outside are zeros. */
INLINE void pair_pixels(const struct reader *r, const enum reading how, size_t i, size_t cp, int x,
                        int to_x, int w, uint16_t *to, size_t odd)
{
    vu last = {0};
    if (x)
        last = (vu)pair_of((vf){0}, read_value(r, how, i - cp));
    for (; x < to_x; x += 2, i += 2 * cp, to += 32) {
        vf a = {0}, b = {0};
        if (x < w)
            a = read_ahead(r, how, i, cp);
        if (x + 1 < w)
            b = read_ahead(r, how, i + cp, cp);
        const vu v = (vu)pair_of(a, b), between = last >> 16 | v << 16;
        memcpy(to + odd, &v, sizeof v);
        memcpy(to, &between, sizeof v);
        last = v;
    }
}

static void pairs(const struct reader *r, enum reading how, size_t i, size_t cp, int x, int to_x,
                  int w, uint16_t *to, size_t odd)
{
    EACH_READING(pair_pixels, how, i, cp, x, to_x, w, to, odd)
}

struct task {
    int number, dz, i0, wi, o0, wo;
    uint16_t *v, *dy;
    float *u;
};

/* Row y of slice n, all channels of some pixels after the other, as they lie in memory. */
static void operand_row(const struct source *s, const struct division *p, const struct task *t,
                        int n, int y, uint16_t *to)
{
    const size_t first = ((size_t)n * (size_t)s->h + (size_t)y) * (size_t)s->w;
    for (int x = 0; x < p->pitch; x += RUN)
        for (int c = 0; c < t->wi; c += 16) {
            int k = t->i0 + c;
            const struct kr_in *in = part_of(s, &k);
            const size_t cp = (size_t)kr_pad(in->c);
            const enum reading how = reading(s, in);
            const struct reader r = reader_at(s, in, how, n, k);
            pairs(&r, how, (first + (size_t)x) * cp + (size_t)k, cp, x, min_int(x + RUN, p->pitch),
                  s->w, to + (size_t)(c / 16) * p->group + 16 * (size_t)x, p->odd);
        }
}

/* Rows y0 - 1 up to y0 + count of slice q of the operand (of zeros where there are none), of which
 * the first two are the last of the strip before if they are `known`. */
static void operand(const struct source *s, const struct division *p, const struct task *t, int q,
                    int y0, int count, bool known)
{
    const size_t row = 16 * (size_t)p->pitch, bytes = row * sizeof *t->v;
    const bool none = p->depth == 3 && (q % s->d + t->dz < 1 || q % s->d + t->dz > s->d);
    for (int c = 0; c < t->wi && known; c += 16) {
        uint16_t *to = t->v + (size_t)(c / 16) * p->group;
        memmove(to, to + (size_t)p->rows * row, 2 * bytes);
        memmove(to + p->odd, to + p->odd + (size_t)p->rows * row, 2 * bytes);
    }
    for (int i = known ? 2 : 0; i < count + 2; i++) {
        const int y = y0 + i - 1;
        uint16_t *to = t->v + (size_t)i * row;
        if (!none && y >= 0 && y < s->h) {
            operand_row(s, p, t, q + (p->depth == 3 ? t->dz - 1 : 0), y, to);
            continue;
        }
        for (int c = 0; c < t->wi; c += 16, to += p->group) {
            memset(to, 0, bytes);
            memset(to + p->odd, 0, bytes);
        }
    }
}

/* The gradient of the same strip, whose last tile ends in zeros. */
static void gradient(const struct source *dy, const struct division *p, const struct task *t, int q,
                     int y0, int count)
{
    const size_t cp = (size_t)dy->cp, ld = (size_t)p->ld;
    const enum reading how = reading(dy, dy->in);
    for (int i = 0; i < count; i++)
        for (int x = 0; x < dy->w; x += RUN)
            for (int o = 0; o < t->wo; o += 16) {
                const struct reader r = reader_at(dy, dy->in, how, q, t->o0 + o);
                const size_t y = (size_t)q * (size_t)dy->h + (size_t)(y0 + i);
                turn(&r, how, (y * (size_t)dy->w + (size_t)x) * cp + (size_t)(t->o0 + o), cp,
                     min_int(RUN, dy->w - x), t->dy + (size_t)o * ld + i * p->pitch + x, ld);
            }
    for (int o = 0; o < t->wo; o++) {
        uint16_t *to = t->dy + (size_t)o * ld;
        for (int i = 0; i < count; i++)
            memset(to + i * p->pitch + dy->w, 0, (size_t)(p->pitch - dy->w) * sizeof *to);
        memset(to + count * p->pitch, 0, (ld - (size_t)(count * p->pitch)) * sizeof *to);
    }
}

/* --- products --------------------------------------------------------------------------------- */

/* Sums of a tap are by output channels. */

/* 16 by 16 channels of the three taps of a row, their sums `tap` floats apart. */
static void three(const uint16_t *a, size_t ld, const uint16_t *b, size_t odd, int steps, float *u,
                  size_t tap, bool first)
{
    TILE_BEGIN(0, u);
    TILE_BEGIN(1, u + tap);
    TILE_BEGIN(2, u + 2 * tap);
    for (int k = 0; k < steps; k++, a += 32, b += 512) {
        _tile_loadd(6, a, ld * sizeof *a);
        _tile_loadd(3, b, 64);
        _tile_dpbf16ps(0, 6, 3);
        _tile_loadd(4, b + odd, 64);
        _tile_dpbf16ps(1, 6, 4);
        _tile_loadd(5, b + 32, 64);
        _tile_dpbf16ps(2, 6, 5);
    }
    _tile_stored(0, u, 64);
    _tile_stored(1, u + tap, 64);
    _tile_stored(2, u + 2 * tap, 64);
}

/* Of the tiles from k0 on. */
static void steps_products(const struct division *p, const struct task *t, int k0, int steps,
                           bool first)
{
    const size_t ld = (size_t)p->ld, tap = (size_t)(t->wi * t->wo), ou = 16 * (size_t)t->wi;
    for (int i = 0; i < t->wi; i += 32)
        for (int r = 0; r < 3; r++)
            for (int o = 0; o < t->wo; o += 32) {
                const uint16_t *a = t->dy + (size_t)o * ld + 32 * k0;
                const uint16_t *b = t->v + (size_t)(i / 16) * p->group +
                                    16 * (size_t)(r * p->pitch) + 512 * (size_t)k0;
                float *u = t->u + (size_t)(3 * r) * tap + (size_t)(o * t->wi + i * 16);
                if (t->wo - o >= 32 && t->wi - i >= 32) {
                    tiles_square(a, ld, b, p->group, steps, u, ou, first);
                    tiles_square(a, ld, b + p->odd, p->group, steps, u + tap, ou, first);
                    tiles_square(a, ld, b + 32, p->group, steps, u + 2 * tap, ou, first);
                    continue;
                }
                for (int e = o; e < min_int(o + 32, t->wo); e += 16, a += 16 * ld, u += ou)
                    for (int j = i; j < min_int(i + 32, t->wi); j += 16)
                        three(a, ld, b + (size_t)((j - i) / 16) * p->group, p->odd, steps,
                              u + (size_t)(j - i) * 16, tap, first);
            }
}

static void products(const struct division *p, const struct task *t, int count, bool first)
{
    const int steps = (count * p->pitch + 31) / 32, parts = (steps + STEPS - 1) / STEPS;
    mk16_stored(t->v);
    for (int i = 0; i < parts; i++) {
        const int from = share(steps, i, parts);
        steps_products(p, t, from, share(steps, i + 1, parts) - from, first && i == 0);
    }
}

/* --- tasks ------------------------------------------------------------------------------------ */

static struct task task_at(const struct source *s, const struct source *dy,
                           const struct division *p, int n, char *ws, char *mine)
{
    struct task t = {.number = n, .v = (uint16_t *)(mine + p->v), .dy = (uint16_t *)(mine + p->dy)};
    const int b = n % p->blocks;
    t.dz = b / (p->iblocks * p->oblocks);
    t.i0 = b / p->oblocks % p->iblocks * CHANNELS;
    t.o0 = b % p->oblocks * CHANNELS;
    t.wi = min_int(CHANNELS, s->cp - t.i0);
    t.wo = min_int(CHANNELS, dy->cp - t.o0);
    t.u = p->spans > 1 ? (float *)(ws + p->partial) + (size_t)n * p->size : (float *)(mine + p->u);
    return t;
}

static void span(const struct source *s, const struct source *dy, const struct division *p,
                 const struct task *t)
{
    const int from = share(p->total, t->number / p->blocks, p->spans);
    const int to = share(p->total, t->number / p->blocks + 1, p->spans);
    /* What no row of a strip overwrites is multiplied by zeros, and no number may come of it. */
    memset(t->v, 0, 2 * p->odd * sizeof *t->v);
    for (int i = from; i < to; i++) {
        const int q = i / p->strips, y0 = i % p->strips * p->rows;
        const int count = min_int(p->rows, s->h - y0);
        operand(s, p, t, q, y0, count, i > from && y0 > 0);
        gradient(dy, p, t, q, y0, count);
        products(p, t, count, i == from);
    }
}

/* Filters to output channel o of the task's block, of what `spans` tasks left `step` floats apart,
 * in their order. */
static void filters(const struct source *s, const struct source *dy, const struct division *p,
                    const struct task *t, int o, size_t step, int spans, float *dw)
{
    const size_t taps = 9 * (size_t)p->depth, tap = (size_t)(t->wi * t->wo);
    if (t->o0 + o >= dy->c)
        return;
    float *to = dw + (size_t)(t->o0 + o) * taps * (size_t)s->c + 9 * (size_t)t->dz;
    for (int i = 0; i < t->wi; i += 16) {
        int k = t->i0 + i;
        const struct kr_in *in = part_of(s, &k);
        const float *u = t->u + (size_t)(o / 16 * 16 * t->wi + i * 16 + o % 16 * 16);
        vf f[9] = {{0}};
        for (int n = 0; n < spans; n++, u += step)
            for (int q = 0; q < 9; q++)
                f[q] += vload(u + (size_t)q * tap);
        const int first = in == s->in ? k : s->in[0].c + k;
        taps_store(to + taps * (size_t)first, taps, min_int(VL, in->c - k), f);
    }
}

static void tiles_weight(const struct source *s, const struct source *dy, float *dw, int threads,
                         void *workspace)
{
    const struct division p = divide(s, dy->c);
    char *ws = workspace;
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p.private + (size_t)omp_get_thread_num() * p.bytes;
        mk16_begin(16);
#pragma omp for schedule(dynamic)
        for (int n = 0; n < p.spans * p.blocks; n++) {
            const struct task t = task_at(s, dy, &p, n, ws, mine);
            span(s, dy, &p, &t);
            for (int o = 0; o < t.wo && p.spans == 1; o++)
                filters(s, dy, &p, &t, o, 0, 1, dw);
        }
        mk16_end();
        if (p.spans > 1) {
#pragma omp for schedule(dynamic)
            for (int n = 0; n < p.blocks * CHANNELS; n++) {
                const struct task t = task_at(s, dy, &p, n / CHANNELS, ws, mine);
                if (n % CHANNELS < t.wo)
                    filters(s, dy, &p, &t, n % CHANNELS, (size_t)p.blocks * p.size, p.spans, dw);
            }
        }
    }
}

#endif

/* --- entries ---------------------------------------------------------------------------------- */

/* Whether it is a convolution of kernels.h's first kind, which then is *c. */
static bool is_conv3x3(const struct kr_bf16 *p, struct kr_conv3x3 *c)
{
    const struct kr_conv *k = &p->conv;
    if (p->transposed || k->before || k->behind || k->kernel[1] != 3 || k->kernel[2] != 3 ||
        (k->kernel[0] != 1 && k->kernel[0] != 3))
        return false;
    for (int i = 0; i < 3; i++)
        if (k->stride[i] != 1 || k->dilation[i] != 1)
            return false;
    *c = (struct kr_conv3x3){.n = k->n,
                             .h = k->h,
                             .w = k->w,
                             .d = k->d,
                             .depth = k->kernel[0],
                             .cout = k->cout,
                             .nin = k->nin,
                             .in = {k->in[0], k->in[1]},
                             .threads = k->threads};
    return !k->in[0].planar || kr_conv3x3_planar(c);
}

#ifdef KR_LEVEL_amx
static struct source source_of(const struct kr_conv3x3 *p)
{
    struct source s = {.n = p->n * max_int(1, p->d), .h = p->h, .w = p->w, .parts = p->nin};
    for (int i = 0; i < p->nin; i++) {
        s.in[i] = p->in[i];
        s.c += p->in[i].c;
        s.cp += kr_pad(p->in[i].c);
    }
    s.d = p->depth == 3 ? max_int(1, p->d) : 0;
    return s;
}

static struct source gradient_of(const struct kr_conv3x3 *p, const struct kr_dy *dy)
{
    return (struct source){.n = p->n * max_int(1, p->d),
                           .h = p->h,
                           .w = p->w,
                           .parts = 1,
                           .c = p->cout,
                           .cp = kr_pad(p->cout),
                           .in = {{.x = dy->dy, .c = p->cout, .dtype = KR_F32}},
                           .behind = *dy};
}
#endif

static struct kr_upconv upconv(const struct kr_bf16 *p)
{
    const struct kr_conv *k = &p->conv;
    return (struct kr_upconv){.n = k->n,
                              .h = k->h,
                              .w = k->w,
                              .cout = k->cout,
                              .in = k->in[0],
                              .threads = k->threads,
                              .d = k->d,
                              .factor = {k->kernel[0], k->kernel[1], k->kernel[2]}};
}

#ifdef KR_LEVEL_amx
static bool few_phases(const struct kr_upconv *p)
{
    return p->factor[0] * p->factor[1] * p->factor[2] <= 8;
}
#endif

size_t KR_NAME(kr_bf16_backward_weight_workspace)(const struct kr_bf16 *p)
{
    struct kr_conv3x3 c;
    if (is_conv3x3(p, &c)) {
#ifdef KR_LEVEL_amx
        if (!c.in[0].planar) {
            const struct source s = source_of(&c);
            return tiles_workspace(&s, c.cout, c.threads);
        }
#endif
        return kr_conv3x3_backward_weight_workspace(&c);
    }
    if (p->transposed) {
        const struct kr_upconv u = upconv(p);
#ifdef KR_LEVEL_amx
        if (few_phases(&u))
            return KR_NAME(kr_bf16_upweight_workspace)(&u);
#endif
        return kr_upconv_workspace(&u);
    }
    return kr_conv_backward_weight_workspace(&p->conv);
}

void KR_NAME(kr_bf16_backward_weight)(const struct kr_bf16 *p, const struct kr_dy *dy, float *dw,
                                      float *dbias, void *workspace)
{
    struct kr_conv3x3 c;
    if (is_conv3x3(p, &c)) {
        assert(!dbias);
#ifdef KR_LEVEL_amx
        if (!c.in[0].planar) {
            const struct source s = source_of(&c), d = gradient_of(&c, dy);
            tiles_weight(&s, &d, dw, c.threads, workspace);
            return;
        }
#endif
        kr_conv3x3_backward_weight(&c, dy, dw, workspace);
    } else if (p->transposed) {
        assert(!dy->k);
        const struct kr_upconv u = upconv(p);
#ifdef KR_LEVEL_amx
        if (few_phases(&u)) {
            KR_NAME(kr_bf16_upweight)(&u, dy->dy, dw, dbias, workspace);
            return;
        }
#endif
        kr_upconv_backward_weight(&u, dy->dy, dw, dbias, workspace);
    } else {
        kr_conv_backward_weight(&p->conv, dy, dw, dbias, workspace);
    }
}
