/* Convolutions in bfloat16, forward and to the data. A task makes a band of rows: what they read of
 * the operands is activated, rounded and laid side by side with its zero halo, the weights lie
 * packed in blocks of 32 columns, and each block goes over the band. One thing: what lies where in
 * the stage, in the weights and in the results is one arithmetic. */
#include "lib/kernels/bf16.h"

#include "lib/kernels/simd/bf16_mk.h"
#include "lib/kernels/simd/conv3x3.h"

#define STAGE (512 << 10) /* bytes of what a band reads, about, where weights stay in the cache */
#define WIDE (1152 << 10) /* where they do not */
#define KEPT (1 << 20)    /* of weights that do */

/* A product as a convolution: what is read (`in`, whose maps may be gradients), where it goes. The
 * position (z, y, x) of a phase reads stride * (z, y, x) + first + step * tap. */
struct job {
    struct source in;
    struct sink out;
    struct filters f; /* `f.w` of column o, channel i, tap t: o * so + i * si + t * st */
    size_t st;
    int taps, last; /* taps in all; of flipped ones tap t is number `last` - t */
    int kernel[3], stride[3], step[3], first[3], up[3];
    int slices, d, h, w; /* positions: slices of all samples, of one; rows; columns */
    const uint16_t *packed;
    int threads;

    int cs;           /* channels of a staged pixel */
    bool chunks;      /* 32 of them lie side by side, those of all pixels before the next 32 */
    int px;           /* channels that lie side by side */
    size_t plane;     /* elements between those and the next */
    int steps, units; /* units: columns of all phases by 16 */
    int rows, tiles;  /* of a tile; tiles of a row */
    int band, bands, groups;
    int sr, sw;                            /* staged rows of a slice and pixels of a row */
    size_t staged, at, slots, stage, size; /* bytes; places in the workspace */
};

/* --- what is to be computed ------------------------------------------------------------------- */

static int padded(const struct kr_conv *c, int i)
{
    return c->kernel[i] % 2 ? c->dilation[i] * (c->kernel[i] - 1) / 2 : 0;
}

static int channels_of(const struct kr_conv *c)
{
    return c->in[0].c + (c->nin > 1 ? c->in[1].c : 0);
}

static int taps_of(const struct kr_conv *c)
{
    return c->kernel[0] * c->kernel[1] * c->kernel[2];
}

/* The operands, from the slices before them on. */
static struct source source_of(const struct kr_conv *c)
{
    struct source s = {.n = c->n * c->d,
                       .h = c->h,
                       .w = c->w,
                       .d = c->d,
                       .parts = c->nin,
                       .before = c->before,
                       .after = c->behind};
    for (int i = 0; i < c->nin; i++) {
        s.in[i] = KR_BASE_NAME(kr_conv3x3_beside)(&c->in[i], c->before, c->h * c->w);
        s.c += c->in[i].c;
        s.cp += kr_pad(c->in[i].c);
    }
    return s;
}

/* Positions of forward's result. */
static void positions(struct job *j, const struct kr_bf16 *p)
{
    const struct kr_conv *c = &p->conv;
    const int by[3] = {p->transposed ? 1 : c->stride[0], p->transposed ? 1 : c->stride[1],
                       p->transposed ? 1 : c->stride[2]};
    j->d = c->d / by[0];
    j->h = c->h / by[1];
    j->w = c->w / by[2];
    j->slices = c->n * j->d;
}

static struct job forward(const struct kr_bf16 *p, const struct kr_out *out)
{
    const struct kr_conv *c = &p->conv;
    const struct kr_conv3x3 like = {.cout = c->cout, .bias = c->bias};
    const size_t taps = (size_t)taps_of(c);
    struct job j = {.in = source_of(c), .threads = c->threads, .packed = p->packed};
    j.out = KR_BASE_NAME(kr_conv3x3_sink_y)(&like, out);
    positions(&j, p);
    for (int i = 0; i < 3; i++) {
        j.kernel[i] = p->transposed ? 1 : c->kernel[i];
        j.up[i] = p->transposed ? c->kernel[i] : 1;
        j.stride[i] = p->transposed ? 1 : c->stride[i];
        j.step[i] = p->transposed ? 1 : c->dilation[i];
        j.first[i] = p->transposed ? 0 : -padded(c, i);
    }
    j.taps = p->transposed ? 1 : (int)taps;
    j.st = 1;
    if (p->transposed)
        j.f = (struct filters){c->weight, taps, (size_t)c->cout * taps, false};
    else
        j.f = (struct filters){c->weight, (size_t)channels_of(c) * taps, taps, false};
    return j;
}

static struct job backward(const struct kr_bf16 *p, const struct kr_dy *dy,
                           const struct kr_dx dx[2])
{
    const struct kr_conv *c = &p->conv;
    struct kr_conv3x3 like = {.nin = c->nin, .in = {c->in[0], c->in[1]}};
    const size_t taps = (size_t)taps_of(c);
    struct job j = {.threads = c->threads};
    j.out = KR_BASE_NAME(kr_conv3x3_sink_dx)(&like, dx);
    j.slices = c->n * c->d;
    j.d = c->d, j.h = c->h, j.w = c->w;
    j.taps = (int)taps;
    j.st = 1;
    const int by[3] = {p->transposed ? c->kernel[0] : 1, p->transposed ? c->kernel[1] : 1,
                       p->transposed ? c->kernel[2] : 1};
    for (int i = 0; i < 3; i++) {
        j.kernel[i] = c->kernel[i];
        j.up[i] = 1;
        j.stride[i] = by[i];
        j.step[i] = p->transposed ? 1 : c->dilation[i];
        j.first[i] = p->transposed ? 0 : -padded(c, i);
    }
    if (p->transposed) {
        j.f = (struct filters){c->weight, (size_t)c->cout * taps, taps, false};
    } else {
        j.f = (struct filters){c->weight, taps, (size_t)channels_of(c) * taps, true};
    }
    j.in = (struct source){.n = j.slices * by[0],
                           .h = c->h * by[1],
                           .w = c->w * by[2],
                           .d = c->d * by[0],
                           .parts = 1,
                           .c = c->cout,
                           .cp = kr_pad(c->cout),
                           .in = {{.x = dy->dy, .c = c->cout, .dtype = KR_F32}},
                           .behind = *dy};
    return j;
}

/* --- terms ------------------------------------------------------------------------------------ */

/* Runs of terms that lie side by side in the stage: a filter's row, or one tap. */
static int run_taps(const struct job *j)
{
    return !j->chunks && j->step[2] == 1 ? j->kernel[2] : 1;
}

static int run_steps(const struct job *j)
{
    return (run_taps(j) * j->cs + MK16_STEP - 1) / MK16_STEP;
}

/* Step k: its tap (the first of its run), and its first term in the run. */
static int step_tap(const struct job *j, int k, int *term)
{
    if (j->chunks) { /* all taps of some channels, then those of the next */
        *term = k / j->taps * MK16_STEP;
        return k % j->taps;
    }
    *term = k % run_steps(j) * MK16_STEP;
    return k / run_steps(j) * run_taps(j);
}

/* Bytes of the stage from where a row begins to a step's terms. */
static uint32_t step_at(const struct job *j, int k)
{
    int term;
    const int tap = step_tap(j, k, &term), s = tap % j->kernel[2], r = tap / j->kernel[2];
    const int row = r / j->kernel[1] * j->sr + r % j->kernel[1] * j->step[1];
    const size_t pixel = (size_t)((row * j->sw + s * j->step[2]) * j->px), c = (size_t)term;
    return 2 * (uint32_t)(j->chunks ? c / MK16_STEP * j->plane + pixel : pixel + c);
}

/* The weights' offset of a term, or SIZE_MAX: zero. */
static size_t term_weight(const struct job *j, int tap, int term)
{
    const int t = tap + term / j->cs, c = term % j->cs, first = kr_pad(j->in.in[0].c);
    if (term >= run_taps(j) * j->cs)
        return SIZE_MAX;
    const bool second = c >= first && j->in.parts > 1;
    const int local = second ? c - first : c;
    if (local >= j->in.in[second].c)
        return SIZE_MAX;
    const size_t real = (size_t)(local + (second ? j->in.in[0].c : 0));
    return real * j->f.si + (size_t)(j->f.flip ? j->taps - 1 - t : t) * j->st;
}

/* --- columns ---------------------------------------------------------------------------------- */

struct columns16 {
    const struct sink_part *part;
    int phase, o, units, first; /* first: of the packed units before it */
};

static int part_blocks(const struct sink_part *p)
{
    return (p->cp + 31) / 32;
}

static int phases(const struct job *j)
{
    return j->up[0] * j->up[1] * j->up[2];
}

static int blocks(const struct job *j)
{
    int n = 0;
    for (int i = 0; i < j->out.parts; i++)
        n += part_blocks(&j->out.part[i]);
    return n * phases(j);
}

static struct columns16 columns(const struct job *j, int b)
{
    const int each = blocks(j) / phases(j);
    struct columns16 c = {j->out.part, b / each, b % each, 2, b / each * j->out.cp / MK16_UNIT};
    while (c.o >= part_blocks(c.part))
        c.o -= part_blocks(c.part++);
    c.o *= 32;
    c.units = c.part->cp - c.o >= 32 ? 2 : 1;
    c.first += (c.part->first + c.o) / MK16_UNIT;
    return c;
}

static size_t panel_at(const struct job *j, const struct columns16 *c)
{
    return (size_t)c->first * (size_t)j->steps * MK16_PANEL;
}

/* --- weights ---------------------------------------------------------------------------------- */

INLINE uint16_t rounded(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return x != x ? (uint16_t)(u >> 16 | 0x40) : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void pack_block(const struct job *j, int b, uint16_t *to)
{
    const struct columns16 c = columns(j, b);
    to += panel_at(j, &c);
    for (int k = 0; k < j->steps; k++) {
        size_t from[MK16_STEP];
        int term;
        const int tap = step_tap(j, k, &term);
        for (int i = 0; i < MK16_STEP; i++)
            from[i] = term_weight(j, tap, term + i);
        for (int u = 0; u < c.units; u++, to += MK16_PANEL)
            for (int o = 0; o < MK16_UNIT; o++) {
                const int column = c.o + u * MK16_UNIT + o;
                const bool real = column < c.part->c;
                const float *w = j->f.w + (size_t)c.phase;
                w += real ? (size_t)(c.part->real + column) * j->f.so : 0;
                for (int i = 0; i < MK16_STEP; i++)
                    to[i / 2 * 32 + 2 * o + i % 2] =
                        real && from[i] != SIZE_MAX ? rounded(w[from[i]]) : 0;
            }
    }
}

static void pack(const struct job *j, uint16_t *to)
{
    const int n = blocks(j);
#pragma omp parallel for schedule(dynamic) num_threads(j->threads)
    for (int b = 0; b < n; b++)
        pack_block(j, b, to);
}

/* --- division --------------------------------------------------------------------------------- */

static int up_to(int a, int b)
{
    return (a + b - 1) / b;
}

/* Of forward's weights, whatever the sizes. */
static void divide_weights(struct job *j)
{
    const struct kr_in *in = j->in.in;
    j->cs = in->planar ? (in->c + 1) / 2 * 2 : j->in.cp;
    j->chunks = j->cs % MK16_STEP == 0;
    j->steps = j->chunks ? j->taps * (j->cs / MK16_STEP) : j->taps / run_taps(j) * run_steps(j);
    j->units = j->out.cp / MK16_UNIT * phases(j);
}

static size_t packed_bytes(const struct job *j)
{
    return (size_t)j->units * (size_t)j->steps * MK16_PANEL * sizeof(uint16_t);
}

/* Sums: of each slice of results, of each band. */
static size_t slots_of(const struct job *j)
{
    return (size_t)(j->slices * j->up[0] * j->bands);
}

static void divide(struct job *j)
{
    size_t used = 0;
    divide_weights(j);
    j->tiles = up_to(j->w, MK16_ROWS);
#if defined KR_LEVEL_amx
    j->rows = up_to(j->w, j->tiles);
#else
    j->rows = MK16_ROWS;
#endif
    j->sw = (j->tiles * j->rows - 1) * j->stride[2] + (j->kernel[2] - 1) * j->step[2] + 1;
    const int more = (j->kernel[1] - 1) * j->step[1] + 1;
    const size_t row = (size_t)(j->sw * j->cs) * 2 * (size_t)j->kernel[0];
    const size_t room = packed_bytes(j) > KEPT ? WIDE : STAGE;
    j->band = (int)(room / row) - more;
    j->band = max_int(1, min_int(j->band / j->stride[1] + 1, j->h));
    j->bands = up_to(j->h, j->band);
    j->band = up_to(j->h, j->bands);
    j->bands = up_to(j->h, j->band);
    j->sr = (j->band - 1) * j->stride[1] + more;
    const int spans = j->slices * j->bands, most = blocks(j);
    j->groups = 1; /* so that all threads have as much to do, as far as tasks are few */
    while (spans * j->groups < 8 * j->threads && spans * j->groups % j->threads && j->groups < most)
        j->groups++;
    /* An odd number of lines: chunks of a pixel do not share a set of the cache. */
    j->px = j->chunks ? MK16_STEP : j->cs;
    j->plane = (size_t)(j->kernel[0] * j->sr * j->sw * j->px);
    j->plane += j->chunks && j->plane / MK16_STEP % 2 == 0 ? MK16_STEP : 0;
    j->staged = (size_t)(j->cs / j->px) * j->plane * sizeof(uint16_t);
    j->staged = (j->staged + 2 * MK16_STEP * sizeof(uint16_t) + 63) / 64 * 64;
    take(&used, j->packed ? 0 : packed_bytes(j), 1);
    j->at = take(&used, (size_t)j->steps, sizeof(uint32_t));
    j->slots = take(&used, slots_of(j) * 2 * (size_t)j->out.cp, sizeof(double));
    j->stage = used;
    j->size = used + (size_t)j->threads * (j->staged + 4 * 256 * sizeof(float));
}

/* --- operands --------------------------------------------------------------------------------- */

/* Where channel c of pixel x of a row lies that begins at `to`. */
INLINE uint16_t *place(const struct job *j, uint16_t *to, int x, int c)
{
    to += (size_t)(x * j->px);
    return j->chunks ? to + (size_t)(c / MK16_STEP) * j->plane + c % MK16_STEP : to + c;
}

/* Zeros for `count` pixels from pixel x of a row on. */
static void stage_zeros(const struct job *j, uint16_t *to, int x, int count)
{
    for (int c = 0; c < j->cs; c += j->px)
        memset(place(j, to, x, c), 0, (size_t)(count * j->px) * sizeof *to);
}

/* An operand whose channels follow `off` others. */
INLINE void stage_part(const struct job *j, const struct kr_in *in, const enum reading how,
                       int slice, size_t pixel, int x, int count, int off, uint16_t *to)
{
    enum { SOME = 8 }; /* pixels, whose channels are in the first cache */
    const int cp = kr_pad(in->c);
    for (int x0 = 0, n; x0 < count; x0 += n) {
        n = min_int(SOME, count - x0);
        for (int c = 0; c < cp; c += VL) {
            const struct reader r = reader_at(&j->in, in, how, slice, c);
            size_t at = (pixel + (size_t)x0) * (size_t)cp + (size_t)c;
            uint16_t *d = place(j, to, x + x0, off + c);
            for (int i = 0; i < n; i++, at += (size_t)cp, d += j->px)
                vstore_bf16(d, read_value(&r, how, at));
        }
    }
}

/* The same of what need not be touched. */
INLINE void stage_copy(const struct job *j, const struct kr_in *in, size_t pixel, int x, int count,
                       int off, const int unit, uint16_t *to)
{
    const int cp = kr_pad(in->c);
    const uint16_t *from = (const uint16_t *)in->x + pixel * (size_t)cp;
    for (int i = 0; i < count; i++, from += cp) {
        uint16_t *d = place(j, to, x + i, off);
        for (int c = 0; c < cp; c += unit)
            if (unit == MK16_STEP) {
                memcpy(d, from + c, MK16_STEP * sizeof *to);
                d += j->plane;
            } else {
                memcpy(place(j, to, x + i, off + c), from + c, (size_t)unit * sizeof *to);
            }
    }
}

/* `count` pixels of a slice, counted from the first in memory, from number `pixel` of all pixels
 * on, to pixel x of a row. */
static void stage_pixels(const struct job *j, int slice, size_t pixel, int x, int count,
                         uint16_t *to)
{
    for (int i = 0, off = 0; i < j->in.parts; i++) {
        const struct kr_in *in = &j->in.in[i];
        const int cp = kr_pad(in->c);
        const enum reading how = reading(&j->in, in);
        if (how == READ_BF16 && !in->scale && !in->relu) {
            if (cp % MK16_STEP || off % MK16_STEP)
                stage_copy(j, in, pixel, x, count, off, KR_LANES, to);
            else
                stage_copy(j, in, pixel, x, count, off, MK16_STEP, to);
        } else if (how == READ_BF16) {
            stage_part(j, in, READ_BF16, slice, pixel, x, count, off, to);
        } else if (how == READ_BF16_LEAKY) {
            stage_part(j, in, READ_BF16_LEAKY, slice, pixel, x, count, off, to);
        } else if (how == READ_LEAKY) {
            stage_part(j, in, READ_LEAKY, slice, pixel, x, count, off, to);
        } else if (how == READ_AFFINE) {
            stage_part(j, in, READ_AFFINE, slice, pixel, x, count, off, to);
        } else if (how == READ_BEHIND) {
            stage_part(j, in, READ_BEHIND, slice, pixel, x, count, off, to);
        } else {
            stage_part(j, in, READ_PLAIN, slice, pixel, x, count, off, to);
        }
        off += cp;
    }
}

/* The same of an image, planes of volumes. */
static void stage_planes(const struct job *j, int slice, int y, int x, int count, uint16_t *to)
{
    const struct kr_in *in = j->in.in;
    const size_t plane = (size_t)j->in.h * (size_t)j->in.w, d = (size_t)j->in.d;
    const float *from = (const float *)in->x + (size_t)(slice / j->in.d * in->c) * d * plane +
                        (size_t)(slice % j->in.d) * plane + (size_t)(y * j->in.w);
    for (int c = 0; c < j->cs; c++, from += d * plane) {
        uint16_t *first = place(j, to, x, c);
        for (int i = 0; i < count; i++)
            first[i * j->px] = c < in->c ? rounded(from[i]) : 0;
    }
}

/* Row y of a slice, or zeros, with what lies beside it. `slice` counts those of all samples; z is
 * its number in its own. */
static void stage_row(const struct job *j, int slice, int z, int y, uint16_t *to)
{
    const struct source *s = &j->in;
    const int left = -j->first[2], count = min_int(s->w, j->sw - left);
    if (y < 0 || y >= s->h || z < -s->before || z >= s->d + s->after) {
        stage_zeros(j, to, 0, j->sw);
        return;
    }
    stage_zeros(j, to, 0, left);
    if (s->in[0].planar)
        stage_planes(j, slice, y, left, count, to);
    else
        stage_pixels(j, slice + s->before,
                     ((size_t)(slice + s->before) * (size_t)s->h + (size_t)y) * (size_t)s->w, left,
                     count, to);
    stage_zeros(j, to, left + count, j->sw - left - count);
}

/* What rows y0 .. y1 - 1 of a slice of positions read. */
static void stage_band(const struct job *j, int slice, int y0, int y1, uint16_t *to)
{
    const int sample = slice / j->d, z = slice % j->d * j->stride[0] + j->first[0];
    const int y = y0 * j->stride[1] + j->first[1];
    const int rows = (y1 - y0 - 1) * j->stride[1] + (j->kernel[1] - 1) * j->step[1] + 1;
    for (int k = 0; k < j->kernel[0]; k++) {
        const int from = z + k * j->step[0];
        for (int r = 0; r < rows; r++)
            stage_row(j, sample * j->in.d + from, from, y + r,
                      to + (size_t)((k * j->sr + r) * j->sw * j->px));
    }
    memset(to + (size_t)(j->cs / j->px) * j->plane, 0, 2 * MK16_STEP * sizeof *to);
}

/* --- results ---------------------------------------------------------------------------------- */

/* Tiles of a band that are worked on together: of each the position of its first row. */
struct tile16 {
    int y, x, rows; /* rows: that are real */
};

/* The number of the pixel of a result's map that a position of a phase makes. */
INLINE size_t target(const struct job *j, int slice, int phase, int y, int x)
{
    const int *up = j->up;
    const int a = phase / (up[1] * up[2]), b = phase / up[2] % up[1], c = phase % up[2];
    const size_t z = (size_t)slice * (size_t)up[0] + (size_t)a;
    return (z * (size_t)(j->h * up[1]) + (size_t)(y * up[1] + b)) * (size_t)(j->w * up[2]) +
           (size_t)(x * up[2] + c);
}

/* What the next band reads, fetched bit by bit while the products leave memory idle. */
struct ahead {
    const char *from[8];
    size_t lines[8];
    int runs, run;
    size_t at, each; /* lines of the run that are fetched; to be fetched at a time */
};

static struct ahead look_ahead(const struct job *j, int slice, int y0, int y1, int times)
{
    struct ahead a = {0};
    const struct source *s = &j->in;
    const int sample = slice / j->d, z = slice % j->d * j->stride[0] + j->first[0];
    const int first = max_int(0, y0 * j->stride[1] + j->first[1]);
    const int last =
        min_int(s->h, (y1 - 1) * j->stride[1] + j->first[1] + (j->kernel[1] - 1) * j->step[1] + 1);
    size_t all = 0;
    for (int k = 0; k < j->kernel[0] && !s->in[0].planar; k++) {
        const int from = z + k * j->step[0];
        if (from < -s->before || from >= s->d + s->after)
            continue;
        for (int i = 0; i < s->parts && a.runs < 8; i++) {
            const size_t pixel = (size_t)kr_pad(s->in[i].c) * kr_dtype_size(s->in[i].dtype);
            const size_t row = (size_t)s->w * pixel;
            const size_t at = (size_t)(sample * s->d + from + s->before) * (size_t)s->h;
            a.from[a.runs] = (const char *)s->in[i].x + (at + (size_t)first) * row;
            all += a.lines[a.runs++] = (size_t)(last - first) * row / 64;
        }
    }
    a.each = all / (size_t)times + 1;
    return a;
}

INLINE void fetch_ahead(struct ahead *a)
{
    size_t left = a->each;
    while (left && a->run < a->runs) {
        const size_t n = a->lines[a->run] - a->at < left ? a->lines[a->run] - a->at : left;
        const char *p = a->from[a->run] + 64 * a->at;
        for (size_t i = 0; i < n; i++)
            __builtin_prefetch(p + 64 * i, 0, 2);
        a->at += n;
        left -= n;
        if (a->at == a->lines[a->run])
            a->at = 0, a->run++;
    }
}

enum { LANES16 = 2 * MK16_UNIT / VL };

/* Tiles of a band's slice that are worked on together, and what their columns' results pass. */
struct group16 {
    const struct job *j;
    const struct columns16 *c;
    int slice;
    struct tile16 tile[4];
    const float *from;
    struct lane lane[LANES16];
    vf sum[LANES16][2];
};

INLINE void finish(struct group16 *g, const enum sink_kind kind, const int units, const bool sums)
{
    const struct sink_part *part = g->c->part;
    const size_t cp = (size_t)part->cp, step = (size_t)g->j->up[2] * cp;
    for (int v = 0; v < units * MK16_UNIT / VL; v++) {
        const struct lane lane = g->lane[v];
        vf sum[2] = {g->sum[v][0], g->sum[v][1]};
        const float *from = g->from + v * VL;
        for (int n = 0; n < MK16_TILES(units); n++, from += 16 * units * MK16_UNIT) {
            const struct tile16 *t = &g->tile[n];
            size_t i =
                target(g->j, g->slice, g->c->phase, t->y, t->x) * cp + (size_t)(g->c->o + v * VL);
            for (int r = 0; r < t->rows; r++, i += step)
                sink_put(part, kind, &lane, i, vload(from + r * units * MK16_UNIT), sum);
        }
        if (sums) {
            g->sum[v][0] = sum[0];
            g->sum[v][1] = sum[1];
        }
    }
}

/* Where the results will go. */
static void fetch_targets(const struct group16 *g, int n)
{
    const struct sink_part *part = g->c->part;
    const size_t size = part->kind == SINK_DX ? sizeof(float) : kr_dtype_size(part->dtype);
    const size_t pixel = (size_t)part->cp * size, step = (size_t)g->j->up[2] * pixel;
    for (int i = 0; i < n; i++) {
        const struct tile16 *t = &g->tile[i];
        const char *p = (const char *)part->y +
                        target(g->j, g->slice, g->c->phase, t->y, t->x) * pixel +
                        (size_t)g->c->o * size;
        for (int r = 0; r < t->rows; r++, p += step) {
            __builtin_prefetch(p, 1);
            if (size == sizeof(float))
                __builtin_prefetch(p + 64, 1);
        }
    }
}

#define FINISH(name, kind, units, sums)                                                            \
    static void name(struct group16 *g)                                                            \
    {                                                                                              \
        finish(g, kind, units, sums);                                                              \
    }
#define FINISHES(X)                                                                                \
    X(f32, SINK_F32)                                                                               \
    X(bf16, SINK_BF16)                                                                             \
    X(leaky, SINK_LEAKY)                                                                           \
    X(dx, SINK_DX)
#define FINISH_ALL(name, kind)                                                                     \
    FINISH(name##_1, kind, 1, false)                                                               \
    FINISH(name##_2, kind, 2, false)                                                               \
    FINISH(name##_1_sums, kind, 1, true)                                                           \
    FINISH(name##_2_sums, kind, 2, true)
FINISHES(FINISH_ALL)

#define FINISH_ROW(name, kind) [kind] = {{name##_1, name##_1_sums}, {name##_2, name##_2_sums}},
static void (*const finishes[4][2][2])(struct group16 *) = {FINISHES(FINISH_ROW)};

/* A block of columns over rows y0 .. y1 - 1. */
static void block16(const struct job *j, int block, int slice, int y0, int y1,
                    const uint16_t *packed, const uint16_t *stage, const uint32_t *at, float *tiles,
                    double *slot, struct ahead *ahead)
{
    const struct columns16 c = columns(j, block);
    const struct sink_part *part = c.part;
    const int all = (y1 - y0) * j->tiles, n = MK16_TILES(c.units), lanes = c.units * MK16_UNIT / VL;
    slot += (size_t)(c.phase / (j->up[1] * j->up[2]) * j->bands) * 2 * (size_t)j->out.cp;
    void (*const end)(struct group16 *) = finishes[part->kind][c.units - 1][part->sums != NULL];
    struct group16 g = {.j = j, .c = &c, .slice = slice, .from = tiles};
    struct mk16 m = {.steps = j->steps,
                     .rows = j->rows,
                     .units = c.units,
                     .at = at,
                     .stride = (size_t)(j->stride[2] * j->px) * 2,
                     .b = packed + panel_at(j, &c),
                     .c = tiles};
    for (int v = 0; v < lanes; v++)
        g.lane[v] = sink_lane(part, part->kind, c.o + v * VL, slice);
    for (int q = 0; q < all; q += n) {
        for (int i = 0; i < n; i++) {
            const int p = min_int(q + i, all - 1), y = p / j->tiles, x = p % j->tiles * j->rows;
            g.tile[i] = (struct tile16){y0 + y, x, q + i < all ? min_int(j->rows, j->w - x) : 0};
            m.a[i] = (const char *)(stage + (size_t)((y * j->stride[1] * j->sw + x * j->stride[2]) *
                                                     j->px));
        }
        fetch_targets(&g, n);
        fetch_ahead(ahead);
        mk16_run(&m);
        end(&g);
        if (part->sums && (q / n % 4 == 3 || q + n >= all)) {
            for (int v = 0; v < lanes; v++)
                sink_sum(&j->out, part, slot, c.o + v * VL, g.sum[v]);
            memset(g.sum, 0, sizeof g.sum);
        }
    }
}

static void run(struct job *j, void *workspace)
{
    divide(j);
    char *base = workspace;
    uint32_t *at = (uint32_t *)(base + j->at);
    double *slots = (double *)(base + j->slots);
    const uint16_t *packed = j->packed ? j->packed : (uint16_t *)base;
    const int tasks = j->slices * j->bands * j->groups, n = blocks(j);
    if (!j->packed)
        pack(j, (uint16_t *)base);
    for (int k = 0; k < j->steps; k++)
        at[k] = step_at(j, k);
    memset(slots, 0, slots_of(j) * 2 * (size_t)j->out.cp * sizeof *slots);
#pragma omp parallel num_threads(j->threads)
    {
        char *mine =
            base + j->stage + (size_t)omp_get_thread_num() * (j->staged + 4 * 256 * sizeof(float));
        uint16_t *stage = (uint16_t *)mine;
        float *tiles = (float *)(mine + j->staged);
        mk16_begin(j->rows);
        const int me = omp_get_thread_num(), end = share(tasks, me + 1, j->threads);
        int staged = -1;
        for (int task = share(tasks, me, j->threads); task < end; task++) {
            const int span = task / j->groups, g = task % j->groups, next = span + 1;
            const int slice = span / j->bands, band = span % j->bands;
            const int y0 = band * j->band, y1 = min_int(j->h, y0 + j->band);
            const int first = share(n, g, j->groups), last = share(n, g + 1, j->groups);
            double *slot =
                slots + (size_t)(slice * j->up[0] * j->bands + band) * 2 * (size_t)j->out.cp;
            struct ahead ahead = {0};
            if (g == j->groups - 1 && task + 1 < end) {
                const int y = next % j->bands * j->band;
                ahead = look_ahead(j, next / j->bands, y, min_int(j->h, y + j->band),
                                   (last - first) * up_to((y1 - y0) * j->tiles, 2));
            }
            if (span != staged)
                stage_band(j, slice, y0, y1, stage);
            staged = span;
            for (int b = first; b < last; b++)
                block16(j, b, slice, y0, y1, packed, stage, at, tiles, slot, &ahead);
        }
        mk16_end();
    }
    KR_BASE_NAME(kr_conv3x3_sums)(&j->out, slots, (int)slots_of(j), j->slices * j->up[0]);
}

/* --- entries ---------------------------------------------------------------------------------- */

size_t KR_NAME(kr_bf16_packed)(const struct kr_bf16 *p)
{
    struct job j = forward(p, NULL);
    divide_weights(&j);
    return packed_bytes(&j);
}

void KR_NAME(kr_bf16_pack)(const struct kr_bf16 *p, void *to)
{
    struct job j = forward(p, NULL);
    divide_weights(&j);
    pack(&j, to);
}

size_t KR_NAME(kr_bf16_forward_workspace)(const struct kr_bf16 *p)
{
    struct job j = forward(p, NULL);
    divide(&j);
    return j.size;
}

void KR_NAME(kr_bf16_forward)(const struct kr_bf16 *p, const struct kr_out *out, void *workspace)
{
    struct job j = forward(p, out);
    run(&j, workspace);
}

size_t KR_NAME(kr_bf16_backward_data_workspace)(const struct kr_bf16 *p)
{
    struct job j = backward(p, &(struct kr_dy){0}, NULL);
    divide(&j);
    return j.size;
}

void KR_NAME(kr_bf16_backward_data)(const struct kr_bf16 *p, const struct kr_dy *dy,
                                    const struct kr_dx dx[2], void *workspace)
{
    struct job j = backward(p, dy, dx);
    if (j.out.parts)
        run(&j, workspace);
}
