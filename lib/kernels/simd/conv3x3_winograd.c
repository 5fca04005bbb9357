/* 3x3 convolution by Winograd: F(4x4,3x3) takes 36 products for a tile of 16 results where the
 * direct sum takes 144, F(6x6,3x3) 64 for 36 instead of 324. Two schedules:
 *
 * fused: the weights are transformed once, whole, into the workspace; then each task takes a block
 *   of tiles through the input transform, the matrix products and the output transform inside its
 *   cache.
 * panel: where the transformed weights (4 or 7.1 times the file's) would not stay in cache, but
 *   tiles are few: the input transform of many tiles is staged in the workspace, and each task owns
 *   a block of output channels, transforms its weights panel by panel as it needs them and takes
 *   all tiles through.
 *
 * Which: fused up to 10 MiB of transformed weights (256 -> 256 channels with small tiles), unless
 * that makes few tasks. Up to there both make one sum over all input channels, so that a result is
 * the same bytes however many samples there are; above, where panels alone serve, a sum of each
 * panel's, which is more exact. The large tiles from 64 channels on, where products outweigh
 * transforms, unless they overhang the map. The constants below were measured on a 240x240 net with
 * base 64, see lib/kernels/README.md. Against sums in double the largest error of a layer is 1e-5
 * to 3e-5 of the RMS with small tiles, 1e-5 to 5e-5 with large, where direct has 1e-6. */
#include "lib/kernels/simd/winograd.h"

#define FUSED_WEIGHTS ((size_t)10 << 20) /* bytes of transformed weights, at most, for `fused` */
#define BLOCK_BYTES(M) ((M) == 6 ? 400 << 10 : 600 << 10) /* of a block's V and M, about, there */
#define LARGE 64                       /* channels on both sides from which tiles of 6x6 serve */
#define STAGED_BYTES ((size_t)8 << 20) /* of staged input, about, for `panel` */
#define DEPTH 64                       /* input channels of a panel of weights */
#define PAD 16  /* floats that keep the planes from falling on the same cache sets */
#define RUN 512 /* results whose sums are gathered in float, about */

struct division {
    bool fused, each;
    enum mk_into more; /* how a panel's products join those before */
    int side;          /* of a tile */
    struct tiling g;
    int tiles;             /* of a block or chunk, at most */
    int cells, tasks;      /* of a block or chunk; number of blocks or chunks */
    size_t vs, vp, up, mp; /* strides in floats: tile of V, planes of V, U, M */
    size_t u, v, m, slots, private, bytes;
};

static struct division divide(const struct source *s, const struct sink *out)
{
    struct division p = {.side = min_int(s->cp, out->cp) >= LARGE && large_tiles_pay(s) ? 6 : 4};
    struct tiling g = tiling(s, p.side, 1);
    size_t k = (size_t)s->cp, o = (size_t)out->cp, used = 0, mine = 0;
    size_t points = (size_t)POINTS(p.side), tile = points * sizeof(float);
    int fit = (int)((size_t)BLOCK_BYTES(p.side) / (tile * (k + (o < BLOCK ? o : BLOCK))));
    p.vs = k % 256 ? k : k + PAD;
    const int most = max_int(12, min_int(48, fit / 6 * 6));
    p.tiles = min_int(g.count, most);
    p.tasks = (g.count + p.tiles - 1) / p.tiles;
    bool light = tile * k * o <= FUSED_WEIGHTS;
    p.more = light ? MK_GO_ON : MK_ADD;
    p.fused = light && p.tasks > 3 * sink_blocks(out);
    if (!p.fused) {
        fit = max_int(12, (int)(STAGED_BYTES / (tile * k)));
        p.tasks = (g.count + fit - 1) / fit;
        p.tiles = (g.count + p.tasks - 1) / p.tasks;
    }
    p.each = sink_each(out);
    const struct tiling alone = tiling(s, p.side, cell_tiles(most));
    p.g = p.each ? alone : g;
    p.cells = max_int(1, p.tiles / p.g.cell);
    p.tasks = (p.g.cells + p.cells - 1) / p.cells;
    p.tiles = max_int(p.tiles, alone.cell);
    p.vp = (size_t)p.tiles * p.vs + PAD;
    p.mp = (size_t)p.tiles * (o < BLOCK ? o : BLOCK) + PAD;
    p.up = (p.fused ? k * o : (size_t)DEPTH * BLOCK) + PAD;
    p.slots = take(&used, (size_t)max_int(p.tasks, alone.cells) * 2 * o, sizeof(double));
    size_t *u = p.fused ? &used : &mine, *v = p.fused ? &mine : &used;
    p.u = take(u, points * p.up, sizeof(float));
    p.v = take(v, points * p.vp, sizeof(float));
    p.m = take(&mine, points * p.mp, sizeof(float));
    p.private = used;
    p.bytes = mine;
    return p;
}

size_t KR_NAME(kr_conv3x3_winograd_workspace)(const struct source *s, const struct sink *out,
                                              int threads)
{
    struct division p = divide(s, out);
    return p.private + (size_t)threads * p.bytes;
}

/* G g G^T of the filters of input channels i..i+count (real) to VL output channels from o on, to
 * u[p * ps + channel * ks]. Where output channels are rows of the weights, a power of two or nearly
 * so apart, they share few sets of the first cache: lines of each are copied side by side, and
 * those of the next step fetched. `more`: that the VL rows below these come next. */
INLINE void filters_tiles(const int M, const struct filters *f, int i, int count, int o, int real,
                          bool more, float *u, size_t ks, size_t ps)
{
    enum { STEP = 16, ROW = STEP * 9 }; /* floats: whole lines */
    float rows[VL * ROW];
    for (int n = 0; n < count; n += STEP) {
        struct filters near = *f;
        int some = min_int(STEP, count - n), first = i + n, out = o;
        const char *next = NULL;
        if (f->so > f->si && some == STEP) {
            const float *w = f->w + (size_t)o * f->so + (size_t)first * f->si;
            for (int l = 0; l < min_int(VL, real); l++)
                if (f->si == 9)
                    memcpy(rows + l * ROW, w + (size_t)l * f->so, sizeof(float[ROW]));
                else
                    for (int k = 0; k < STEP; k++)
                        memcpy(rows + l * ROW + 9 * k, w + (size_t)l * f->so + (size_t)k * f->si,
                               sizeof(float[9]));
            near.w = rows;
            near.so = ROW;
            near.si = 9;
            first = out = 0;
            if (n + 2 * STEP <= count)
                next = (const char *)(w + STEP * f->si);
            else if (more)
                next = (const char *)(w + VL * f->so - (size_t)n * f->si);
        }
        for (int k = 0; k < some; k++) {
            for (int l = k * VL / STEP; next && l < (k + 1) * VL / STEP; l++)
                for (size_t b = 0; b < sizeof(float[ROW]); b += 64)
                    __builtin_prefetch(next + (size_t)l * f->so * sizeof(float) + b, 0, 3);
            filter_transform(M, &near, first + k, out, real, u + (size_t)(n + k) * ks, ps);
        }
    }
}

static void filters_transform(int m, const struct filters *f, int i, int count, int o, int real,
                              bool more, float *u, size_t ks, size_t ps)
{
    if (m == 6)
        filters_tiles(6, f, i, count, o, real, more, u, ks, ps);
    else
        filters_tiles(4, f, i, count, o, real, more, u, ks, ps);
}

static __attribute__((noinline)) void input_border(const struct source *s, const struct kr_in *in,
                                                   enum reading how, const struct tiling *g,
                                                   const struct tile *t, int c, float *v, size_t ps)
{
    float patch[SIDE_MOST * SIDE_MOST * VL];
    int side = SIDE(g->m);
    const struct reader r = reader_at(s, in, how, t->n, c), p = {.from = patch};
    read_patch(&r, how, g, t->n, t->y - 1, t->x - 1, side, (size_t)kr_pad(in->c), c, patch);
    if (g->m == 6)
        input_core(6, &p, READ_PLAIN, 0, VL, SIDE(6) * VL, v, ps);
    else
        input_core(4, &p, READ_PLAIN, 0, VL, SIDE(4) * VL, v, ps);
}

INLINE void input_part(const int M, const struct source *s, const struct kr_in *in,
                       const enum reading how, const struct tiling *g, int t0, int count, int c0,
                       int c1, float *v, size_t vs, size_t ps)
{
    struct tile t = tile_at(g, t0);
    size_t cp = (size_t)kr_pad(in->c), row = (size_t)g->w * cp;
    for (int i = 0; i < count; i++, tile_next(g, &t), v += vs) {
        bool whole = t.y > 0 && t.x > 0 && t.y + M + 1 <= g->h && t.x + M + 1 <= g->w;
        whole = whole && how != READ_BF16_LEAKY; /* rare: not worth code of its own */
        for (int c = c0; c < c1 && !whole; c += VL)
            input_border(s, in, how, g, &t, c, v + (c - c0), ps);
        for (int c = c0; c < c1 && whole; c += VL) {
            const struct reader r = reader_at(s, in, how, t.n, c);
            size_t corner = tile_first(g, &t) * cp - row - cp + (size_t)c;
            input_core(M, &r, how, corner, cp, row, v + (c - c0), ps);
        }
    }
}

INLINE void input_tiles(const int M, const struct source *s, const struct tiling *g, int t0,
                        int count, int c0, int c1, float *v, size_t vs, size_t ps)
{
    for (int i = 0, first = 0; i < s->parts; i++) {
        const struct kr_in *in = &s->in[i];
        int cp = kr_pad(in->c), a = max_int(c0, first), b = min_int(c1, first + cp);
        if (a < b) {
            float *d = v + (a - c0);
            enum reading how = reading(s, in);
            if (how == READ_PLAIN)
                input_part(M, s, in, READ_PLAIN, g, t0, count, a - first, b - first, d, vs, ps);
            else if (how == READ_AFFINE)
                input_part(M, s, in, READ_AFFINE, g, t0, count, a - first, b - first, d, vs, ps);
            else if (how == READ_LEAKY)
                input_part(M, s, in, READ_LEAKY, g, t0, count, a - first, b - first, d, vs, ps);
            else if (how == READ_BF16)
                input_part(M, s, in, READ_BF16, g, t0, count, a - first, b - first, d, vs, ps);
            else if (how == READ_BF16_LEAKY)
                input_part(M, s, in, READ_BF16_LEAKY, g, t0, count, a - first, b - first, d, vs,
                           ps);
            else
                input_part(M, s, in, READ_BEHIND, g, t0, count, a - first, b - first, d, vs, ps);
        }
        first += cp;
    }
}

void KR_NAME(kr_winograd_input)(const struct source *s, const struct tiling *g, int t0, int count,
                                int c0, int c1, float *v, size_t vs, size_t ps)
{
    if (g->m == 6)
        input_tiles(6, s, g, t0, count, c0, c1, v, vs, ps);
    else
        input_tiles(4, s, g, t0, count, c0, c1, v, vs, ps);
}

void KR_NAME(kr_winograd_weights)(int m, const struct source *s, const struct filters *f,
                                  const struct block *b, int k0, int k1, float *u, size_t ps)
{
    for (int i = 0, first = 0, real = 0; i < s->parts; i++) {
        int c = s->in[i].c, cp = kr_pad(c), k = max_int(k0, first), stop = min_int(k1, first + cp);
        for (int o = 0, nr; k < stop && o < b->width; o += nr) {
            nr = mk_panel(o, b->width);
            float *d = u + (size_t)o * (size_t)(k1 - k0) + (size_t)(k - k0) * (size_t)nr;
            for (int j = 0; j < nr; j += VL) {
                int have = min_int(VL, b->real - o - j), count = min_int(stop, first + c) - k;
                count = have > 0 ? max_int(0, count) : 0;
                filters_transform(m, f, real + k - first, count, b->part->real + b->o + o + j, have,
                                  b->real - o - j >= 2 * VL, d + j, (size_t)nr, ps);
                for (int n = count; n < stop - k; n++)
                    for (int p = 0; p < POINTS(m); p++)
                        vstore(d + j + (size_t)n * (size_t)nr + (size_t)p * ps, (vf){0});
            }
        }
        first += cp;
        real += c;
    }
}

void KR_NAME(kr_winograd_product)(const struct mk *m)
{
    mk_run(m, true);
}

/* A^T m: M rows of side values. */
INLINE void output_columns(const int M, const float *m, size_t mp, vf e[6][SIDE_MOST])
{
    UNROLL(8)
    for (int q = 0; q < SIDE(M); q++) {
        vf d[SIDE_MOST], r[6];
        vload_row(SIDE(M), m, (size_t)SIDE(M) * mp, d);
        m += mp;
        KEEP(m);
        at(M, d, r);
        UNROLL(6)
        for (int a = 0; a < M; a++)
            e[a][q] = r[a];
    }
}

/* The output transform of one tile, VL channels; i: the element of its corner. */
INLINE void output_vector(const int M, const struct sink_part *part, const enum sink_kind kind,
                          const struct lane *l, size_t i, size_t row, const float *m, size_t mp,
                          vf sum[2])
{
    vf e[6][SIDE_MOST];
    output_columns(M, m, mp, e);
    UNROLL(6)
    for (int a = 0; a < M; a++) {
        vf r[6];
        size_t j = i;
        KEEP(j);
        at(M, e[a], r);
        UNROLL(6)
        for (int q = 0; q < M; q++) {
            sink_put(part, kind, l, j, r[q], sum);
            j += (size_t)part->cp;
        }
        i += row;
    }
}

/* The same of a tile that overhangs the map: `down` rows of `across` results lie on it. */
static __attribute__((noinline)) void output_border(int M, const struct sink_part *part,
                                                    enum sink_kind kind, const struct lane *l,
                                                    size_t i, size_t row, int down, int across,
                                                    const float *m, size_t mp, vf sum[2])
{
    vf e[6][SIDE_MOST];
    if (M == 6)
        output_columns(6, m, mp, e);
    else
        output_columns(4, m, mp, e);
    for (int a = 0; a < min_int(M, down); a++, i += row) {
        vf r[6];
        if (M == 6)
            at(6, e[a], r);
        else
            at(4, e[a], r);
        for (int q = 0; q < min_int(M, across); q++)
            sink_put(part, kind, l, i + (size_t)q * (size_t)part->cp, r[q], sum);
    }
}

INLINE void output_block(const int M, const struct sink *out, const struct block *b,
                         const enum sink_kind kind, const struct tiling *g, int t0, int count,
                         int cell, const float *m, size_t ms, size_t mp, double *slot)
{
    const size_t cp = (size_t)b->part->cp, row = (size_t)g->w * cp;
    for (int r = 0, end; r < count; r = end) {
        end = min_int(count, r + RUN / (M * M));
        if (cell >= 0)
            end = cell_start(g, ++cell) - t0;
        for (int j = 0; j < b->width; j += VL) {
            struct tile t = tile_at(g, t0 + r);
            struct lane l;
            vf sum[2] = {{0}};
            for (int i = r, n = -1; i < end; i++, tile_next(g, &t)) {
                if (t.n != n)
                    l = sink_lane(b->part, kind, b->o + j, n = t.n);
                const float *from = m + (size_t)i * ms + j;
                size_t corner = tile_first(g, &t) * cp + (size_t)(b->o + j);
                int down = g->h - t.y, across = g->w - t.x;
                if (M <= down && M <= across)
                    output_vector(M, b->part, kind, &l, corner, row, from, mp, sum);
                else
                    output_border(M, b->part, kind, &l, corner, row, down, across, from, mp, sum);
            }
            sink_sum(out, b->part, slot, b->o + j, sum);
        }
        if (cell >= 0)
            slot += 2 * (size_t)out->cp;
    }
}

INLINE void output_tiles(const int M, const struct sink *out, const struct block *b,
                         const struct tiling *g, int t0, int count, int cell, const float *m,
                         size_t ms, size_t mp, double *slot)
{
    if (b->part->kind == SINK_F32)
        output_block(M, out, b, SINK_F32, g, t0, count, cell, m, ms, mp, slot);
    else if (b->part->kind == SINK_BF16)
        output_block(M, out, b, SINK_BF16, g, t0, count, cell, m, ms, mp, slot);
    else if (b->part->kind == SINK_LEAKY)
        output_block(M, out, b, SINK_LEAKY, g, t0, count, cell, m, ms, mp, slot);
    else
        output_block(M, out, b, SINK_DX, g, t0, count, cell, m, ms, mp, slot);
}

void KR_NAME(kr_winograd_output)(const struct sink *out, const struct block *b,
                                 const struct tiling *g, int t0, int count, int cell,
                                 const float *m, size_t ms, size_t mp, double *slot)
{
    if (g->m == 6)
        output_tiles(6, out, b, g, t0, count, cell, m, ms, mp, slot);
    else
        output_tiles(4, out, b, g, t0, count, cell, m, ms, mp, slot);
}

void KR_NAME(kr_winograd_products)(const struct tiling *g, const struct block *b, int count, int k,
                                   const float *v, size_t vs, size_t vp, const float *u, size_t up,
                                   float *m, size_t mp, enum mk_into into, struct ahead *ahead)
{
    for (int p = 0; p < POINTS(g->m); p++) {
        ahead_fetch(ahead, g);
        for (int o = 0, nr; o < b->width; o += nr) {
            nr = mk_panel(o, b->width);
            struct mk x = {.rows = count,
                           .nr = nr,
                           .runs = 1,
                           .k = k,
                           .a = v + (size_t)p * vp,
                           .at = vs,
                           .b = u + (size_t)p * up + (size_t)o * (size_t)k,
                           .bk = (size_t)nr,
                           .c = m + (size_t)p * mp + o,
                           .ct = (size_t)b->width,
                           .into = into};
            KR_NAME(kr_winograd_product)(&x);
        }
    }
}

/* The tiles of block or chunk t, and where its sums go: to its slot or those of its cells. */
struct portion {
    int t0, count, cell;
    double *slot;
};

INLINE struct portion portion_at(const struct division *p, const struct sink *out, int t,
                                 double *slots)
{
    const int first = t * p->cells, end = min_int(p->g.cells, first + p->cells);
    struct portion s = {.t0 = cell_start(&p->g, first), .cell = p->each ? first : -1};
    s.count = cell_start(&p->g, end) - s.t0;
    s.slot = slots + (size_t)(p->each ? first : t) * 2 * (size_t)out->cp;
    return s;
}

/* Slots that tasks write. */
INLINE int slots_used(const struct division *p)
{
    return p->each ? p->g.cells : p->tasks;
}

static void fused(const struct source *s, const struct filters *f, const struct sink *out,
                  const struct division *p, int threads, char *ws)
{
    const struct tiling g = p->g;
    int blocks = sink_blocks(out);
    float *u = (float *)(ws + p->u);
    double *slots = (double *)(ws + p->slots);
    struct queue queue = {.tasks = p->tasks, .threads = threads};
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p->private + (size_t)omp_get_thread_num() * p->bytes;
        float *v = (float *)(mine + p->v), *m = (float *)(mine + p->m);
#pragma omp for schedule(static)
        for (int i = 0; i < blocks; i++) {
            struct block b = sink_block(out, i);
            KR_NAME(kr_winograd_weights)
            (p->side, s, f, &b, 0, s->cp, u + (size_t)(b.part->first + b.o) * (size_t)s->cp, p->up);
        }
        for (int t = queue_take(&queue), next; t < p->tasks; t = next) {
            bool early = queue_early(&queue, t);
            next = early ? queue_take(&queue) : p->tasks;
            const struct portion a = portion_at(p, out, t, slots);
            const size_t cells = p->each ? (size_t)(min_int(p->cells, g.cells - a.cell)) : 1;
            memset(a.slot, 0, cells * 2 * (size_t)out->cp * sizeof(double));
            KR_NAME(kr_winograd_input)(s, &g, a.t0, a.count, 0, s->cp, v, p->vs, p->vp);
            for (int i = 0; i < blocks; i++) {
                struct block b = sink_block(out, i);
                struct ahead ahead = {.walks = 0};
                if (i == 0 && next < p->tasks) {
                    const struct portion then = portion_at(p, out, next, slots);
                    ahead_source(&ahead, s, &g, then.t0, then.count, 0, s->cp);
                }
                ahead_sink(&ahead, b.part, &g, a.t0, a.count, b.o, b.width);
                KR_NAME(kr_winograd_products)
                (&g, &b, a.count, s->cp, v, p->vs, p->vp,
                 u + (size_t)(b.part->first + b.o) * (size_t)s->cp, p->up, m, p->mp, MK_SET,
                 &ahead);
                KR_NAME(kr_winograd_output)
                (out, &b, &g, a.t0, a.count, a.cell, m, (size_t)b.width, p->mp, a.slot);
            }
            if (!early)
                next = queue_take(&queue);
        }
    }
    KR_NAME(kr_conv3x3_sums)(out, slots, slots_used(p), s->n);
}

static void panel(const struct source *s, const struct filters *f, const struct sink *out,
                  const struct division *p, int threads, char *ws)
{
    const struct tiling g = p->g;
    int blocks = sink_blocks(out);
    float *v = (float *)(ws + p->v);
    double *slots = (double *)(ws + p->slots);
    struct ahead none = {.walks = 0};
    memset(slots, 0, (size_t)slots_used(p) * 2 * (size_t)out->cp * sizeof(double));
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p->private + (size_t)omp_get_thread_num() * p->bytes;
        float *u = (float *)(mine + p->u), *m = (float *)(mine + p->m);
        for (int t = 0; t < p->tasks; t++) {
            const struct portion a = portion_at(p, out, t, slots);
#pragma omp for schedule(dynamic)
            for (int i = 0; i < a.count; i++)
                KR_NAME(kr_winograd_input)(s, &g, a.t0 + i, 1, 0, s->cp, v + (size_t)i * p->vs,
                                           p->vs, p->vp);
#pragma omp for schedule(dynamic)
            for (int i = 0; i < blocks; i++) {
                struct block b = sink_block(out, i);
                for (int k = 0; k < s->cp; k += DEPTH) {
                    int depth = min_int(DEPTH, s->cp - k);
                    KR_NAME(kr_winograd_weights)(p->side, s, f, &b, k, k + depth, u, p->up);
                    KR_NAME(kr_winograd_products)
                    (&g, &b, a.count, depth, v + k, p->vs, p->vp, u, p->up, m, p->mp,
                     k ? p->more : MK_SET, &none);
                }
                KR_NAME(kr_winograd_output)
                (out, &b, &g, a.t0, a.count, a.cell, m, (size_t)b.width, p->mp, a.slot);
            }
        }
    }
    KR_NAME(kr_conv3x3_sums)(out, slots, slots_used(p), s->n);
}

void KR_NAME(kr_conv3x3_winograd)(const struct source *s, const struct filters *f,
                                  const struct sink *out, int threads, void *workspace)
{
    struct division p = divide(s, out);
    if (p.fused)
        fused(s, f, out, &p, threads, workspace);
    else
        panel(s, f, out, &p, threads, workspace);
}
