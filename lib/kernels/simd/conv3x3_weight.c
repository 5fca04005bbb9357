/* Gradient of 3x3 weights by Winograd: the transpose of the forward algorithm in the weights, dw =
 * G^T (sum over tiles of (B^T d B) * (A dy A^T)) G.
 *
 * A task owns a block of input channels, a block of output channels and a span of the tiles. It
 * takes a run of tiles at a time through both transforms and the matrix products that add to its
 * sums: so that no sum in float is longer than RUN products before it is added to the total, which
 * keeps the rounding error of long sums down (by four, measured against one running sum over 3600
 * tiles).
 *
 * Where channels are many and tiles few, every tile is transformed once, for all, before the
 * products: tasks are then blocks of channels alone, and keep their sums in the second cache.
 *
 * Of kernels of three slices a span is pillars (tiles.h), a run their layers: a slice's transforms,
 * each made once, join the products of the sums of all three slices of the kernel; by groups of
 * slices, where there are enough.
 *
 * With `dx` a run goes on to the gradient of the data, while its maps are in cache.
 *
 * It is one thing: all of these share the division, the tasks, and what becomes of the sums. */
#include "lib/kernels/simd/winograd.h"

#define RUN 32
#define TASKS 16 /* at least, where the blocks of channels alone are fewer */
#define PAD 16
#define RUN_BYTES ((size_t)400 << 10) /* of a run's transforms, about, where `dx` is made too */
#define STAGED 256 /* tiles, at most, that are transformed before: more leave the cache */
#define STAGED_BYTES ((size_t)40 << 20) /* for them, at most */
#define STAGED_BLOCK 32                 /* input channels of a task then */
#define STAGED_RUN 8                    /* tiles of a task that transforms */

struct division {
    struct tiling g;
    struct pillars pillars;
    int depth, planes; /* slices of the kernel; sums of a point: one of each, or of pairs four */
    int side, iblock, iblocks, oblocks, spans, run;
    bool staged, each;     /* each: sums of dx of each sample */
    size_t vp, wp, up, fp; /* strides of planes, in floats */
    size_t v, w, u, x, f, slots, partial, size, private, bytes;
};

static struct division divide(const struct source *s, int cout, const struct sink *dx)
{
    int m = !dx && large_tiles_pay(s) ? 6 : 4;
    struct tiling g = tiling(s, m, 1);
    size_t used = 0, mine = 0, points = (size_t)POINTS(m);
    size_t transforms = points * (size_t)g.count * (size_t)(s->cp + kr_pad(cout)) * sizeof(float);
    struct division p = {.side = m, .run = RUN, .depth = s->d ? 3 : 1};
    p.planes = s->d && s->group > 1 ? s->group + 2 : p.depth;
    p.staged =
        !s->d && max_int(s->cp, cout) > BLOCK && g.count <= STAGED && transforms <= STAGED_BYTES;
    p.iblock = p.staged ? STAGED_BLOCK : BLOCK;
    p.iblocks = (s->cp + p.iblock - 1) / p.iblock;
    p.oblocks = (cout + BLOCK - 1) / BLOCK;
    int width_i = min_int(p.iblock, s->cp), width_o = min_int(BLOCK, kr_pad(cout));
    int blocks = p.iblocks * p.oblocks;
    if (dx) {
        size_t tile = points * (size_t)(width_i + width_o) * sizeof(float);
        p.run = min_int(RUN, max_int(12, (int)(RUN_BYTES / tile) / 6 * 6));
    }
    p.each = dx && sink_each(dx);
    const struct tiling alone = tiling(s, m, cell_tiles(p.run));
    p.g = p.each ? alone : g;
    p.spans = p.staged ? 1 : max_int(1, min_int((TASKS + blocks - 1) / blocks, g.count / p.run));
    p.size = (size_t)p.depth * 9 * (size_t)width_i * (size_t)width_o;
    int tiles = p.staged ? g.count : p.run, beside = 0;
    if (s->d) {
        const int layers = (min_int(LAYERS, s->d) + s->group - 1) / s->group * s->group;
        p.pillars = pillars_of(s, &g, max_int(1, (s->group > 1 ? s->group * RUN : RUN) / layers),
                               layers, TASKS / blocks);
        p.spans = min_int((TASKS + blocks - 1) / blocks, p.pillars.count);
        tiles = p.pillars.tiles * p.pillars.layers;
        beside = 2 * p.pillars.tiles;
    }
    p.vp = (size_t)(tiles + beside) * (size_t)width_i + PAD;
    p.wp = (size_t)tiles * (size_t)width_o + PAD;
    p.up = (size_t)p.planes * (size_t)width_i * (size_t)width_o + PAD;
    if (p.spans > 1)
        p.partial = take(&used, (size_t)(p.spans * blocks) * p.size, sizeof(float));
    if (dx) {
        p.fp = (size_t)kr_pad(cout) * (size_t)dx->cp + PAD;
        p.f = take(&used, points * p.fp, sizeof(float));
        p.slots =
            take(&used, (size_t)max_int(p.spans, alone.cells) * 2 * (size_t)dx->cp, sizeof(double));
    }
    size_t *v = p.staged ? &used : &mine;
    p.v = take(v, points * p.vp * (size_t)(p.staged ? p.iblocks : 1), sizeof(float));
    p.w = take(v, points * p.wp * (size_t)(p.staged ? p.oblocks : 1), sizeof(float));
    p.u = take(&mine, points * p.up, sizeof(float));
    if (p.planes > p.depth)
        p.x = take(&mine,
                   (size_t)(tiles / s->group) *
                       (size_t)(p.planes * width_i + (p.planes - 2) * width_o),
                   sizeof(float));
    p.private = used;
    p.bytes = mine;
    return p;
}

size_t KR_NAME(kr_conv3x3_winograd_weight_workspace)(const struct source *s, int cout,
                                                     const struct sink *dx, int threads)
{
    struct division p = divide(s, cout, dx);
    return p.private + (size_t)threads * p.bytes;
}

/* A dy A^T of M x M values from index i on, `col` and `row` floats apart, to w[p * wp]. */
INLINE void gradient_core(const int M, const struct reader *r, const enum reading how, size_t i,
                          size_t col, size_t row, float *w, size_t wp)
{
    vf e[SIDE_MOST][6];
    KEEP(i);
    UNROLL(6)
    for (int q = 0; q < M; q++) {
        vf d[6], z[SIDE_MOST];
        size_t j = i + 2 * row, k = i + 4 * row;
        KEEP(j);
        KEEP(k);
        UNROLL(6)
        for (int a = 0; a < M; a++)
            d[a] = read_value(r, how, (a < 2 ? i : a < 4 ? j : k) + (size_t)(a % 2) * row);
        i += col;
        KEEP(i);
        at_t(M, d, z);
        UNROLL(8)
        for (int a = 0; a < SIDE(M); a++)
            e[a][q] = z[a];
    }
    UNROLL(8)
    for (int a = 0; a < SIDE(M); a++) {
        vf z[SIDE_MOST];
        at_t(M, e[a], z);
        vstore_row(SIDE(M), w, wp, z);
        w += SIDE(M) * wp;
        KEEP(w);
    }
}

static __attribute__((noinline)) void gradient_border(const struct source *dy, enum reading how,
                                                      const struct tiling *g, const struct tile *t,
                                                      int o, float *w, size_t wp)
{
    float patch[6 * 6 * VL];
    const struct reader r = reader_at(dy, dy->in, how, t->n, o), p = {.from = patch};
    read_patch(&r, how, g, t->n, t->y, t->x, g->m, (size_t)dy->cp, o, patch);
    if (g->m == 6)
        gradient_core(6, &p, READ_PLAIN, 0, VL, 6 * VL, w, wp);
    else
        gradient_core(4, &p, READ_PLAIN, 0, VL, 4 * VL, w, wp);
}

INLINE void gradient_tiles(const int M, const struct source *dy, const enum reading how,
                           const struct tiling *g, int t0, int count, int o0, int width, float *w,
                           size_t wp)
{
    struct tile t = tile_at(g, t0);
    size_t cp = (size_t)dy->cp, row = (size_t)g->w * cp;
    for (int i = 0; i < count; i++, tile_next(g, &t), w += width) {
        bool whole = t.y + M <= g->h && t.x + M <= g->w;
        for (int o = 0; o < width && !whole; o += VL)
            gradient_border(dy, how, g, &t, o0 + o, w + o, wp);
        for (int o = 0; o < width && whole; o += VL) {
            const struct reader r = reader_at(dy, dy->in, how, t.n, o0 + o);
            size_t first = tile_first(g, &t) * cp + (size_t)(o0 + o);
            gradient_core(M, &r, how, first, cp, row, w + o, wp);
        }
    }
}

static void gradient_transform(const struct source *dy, const struct tiling *g, int t0, int count,
                               int o0, int width, float *w, size_t wp)
{
    if (g->m == 6 && dy->behind.k)
        gradient_tiles(6, dy, READ_BEHIND, g, t0, count, o0, width, w, wp);
    else if (g->m == 6)
        gradient_tiles(6, dy, READ_PLAIN, g, t0, count, o0, width, w, wp);
    else if (dy->behind.k)
        gradient_tiles(4, dy, READ_BEHIND, g, t0, count, o0, width, w, wp);
    else
        gradient_tiles(4, dy, READ_PLAIN, g, t0, count, o0, width, w, wp);
}

static __attribute__((noinline)) void product(const struct mk *m)
{
    mk_run(m, false);
}

/* G^T u G of VL filters. */
INLINE void filter_tile(const int M, const float *u, size_t up, vf g[9])
{
    vf e[3][SIDE_MOST];
    for (int q = 0; q < SIDE(M); q++) {
        vf d[SIDE_MOST], r[3];
        vload_row(SIDE(M), u, (size_t)SIDE(M) * up, d);
        u += up;
        KEEP(u);
        g3_t(M, d, r);
        for (int a = 0; a < 3; a++)
            e[a][q] = r[a];
    }
    for (int a = 0; a < 3; a++)
        g3_t(M, e[a], g + 3 * a);
}

static void filter_gradient(int m, const float *u, size_t up, vf g[9])
{
    if (m == 6)
        filter_tile(6, u, up, g);
    else
        filter_tile(4, u, up, g);
}

/* Real channel of padded channel k of the concatenation; -1 for padding. */
static int real_channel(const struct source *s, int k)
{
    int cp = kr_pad(s->in[0].c);
    if (k < cp)
        return k < s->in[0].c ? k : -1;
    return k - cp < s->in[1].c ? s->in[0].c + k - cp : -1;
}

/* What is given, how it is cut up, and the shared parts of the workspace. */
struct work {
    const struct source *s, *dy;
    const struct sink *dx;
    struct division p;
    struct tiling g;
    float *dw, *partial, *turned; /* turned: transformed filters for dx */
    double *slots;
};

/* One task: blocks of channels, and its thread's own memory. */
struct task {
    int number, i0, wi, o0, wo;
    float *v, *w, *u, *x; /* x: of a point, what pairs of slices make of v and w */
};

/* Adds the products at point q to the task's sums of plane r: of `runs` runs of `count` tiles, one
 * after the other in a, br floats apart in b. */
INLINE void point_product(const struct division *p, const struct task *t, int q, int r,
                          const float *a, const float *b, int runs, size_t br, int count,
                          bool first)
{
    for (int o = 0, nr; o < t->wo; o += nr) {
        nr = mk_panel(o, t->wo);
        struct mk x = {.rows = t->wi,
                       .nr = nr,
                       .runs = runs,
                       .k = count,
                       .a = a,
                       .ak = (size_t)t->wi,
                       .ar = (size_t)(count * t->wi),
                       .b = b + o,
                       .bk = (size_t)t->wo,
                       .br = br,
                       .c = t->u + (size_t)q * p->up + (size_t)(r * t->wi * t->wo + o),
                       .ct = (size_t)t->wo,
                       .into = first ? MK_SET : MK_ADD};
        product(&x);
    }
}

/* The same of the task's `count` tiles, v's from tile v0 on with w's from w0 on. */
INLINE void tiles_product(const struct division *p, const struct task *t, int q, int r, int v0,
                          int w0, int count, bool first)
{
    point_product(p, t, q, r, t->v + (size_t)q * p->vp + (size_t)(v0 * t->wi),
                  t->w + (size_t)q * p->wp + (size_t)(w0 * t->wo), 1, 0, count, first);
}

/* Adds the products of the `count` tiles from t0 on to the task's sums, which are begun by `first`;
 * the next run is fetched meanwhile. */
static void weight_run(const struct work *k, const struct task *t, int t0, int count, int more,
                       bool first)
{
    const struct division *p = &k->p;
    struct ahead ahead = {.walks = 0};
    KR_NAME(kr_winograd_input)(k->s, &k->g, t0, count, t->i0, t->i0 + t->wi, t->v, (size_t)t->wi,
                               p->vp);
    gradient_transform(k->dy, &k->g, t0, count, t->o0, t->wo, t->w, p->wp);
    if (more) {
        ahead_source(&ahead, k->s, &k->g, t0 + count, more, t->i0, t->i0 + t->wi);
        ahead_source(&ahead, k->dy, &k->g, t0 + count, more, t->o0, t->o0 + t->wo);
    }
    for (int q = 0; q < POINTS(p->side); q++) {
        ahead_fetch(&ahead, &k->g);
        tiles_product(p, t, q, 0, 0, 0, count, first);
    }
}

/* The gradient of the data of the same tiles, through v and w, whose contents are used up; `cell`
 * is their first. */
static void data_run(const struct work *k, const struct task *t, int t0, int count, int cell)
{
    const struct division *p = &k->p;
    int cp = k->dy->cp;
    double *slot = k->slots + (size_t)(p->each ? cell : t->number) * 2 * (size_t)k->dx->cp;
    KR_NAME(kr_winograd_input)(k->dy, &k->g, t0, count, 0, cp, t->w, (size_t)cp, p->wp);
    for (int i = 0, blocks = sink_blocks(k->dx); i < blocks; i++) {
        struct block b = sink_block(k->dx, i);
        const float *f = k->turned + (size_t)(b.part->first + b.o) * (size_t)cp;
        struct ahead ahead = {.walks = 0};
        ahead_sink(&ahead, b.part, &k->g, t0, count, b.o, b.width);
        KR_NAME(kr_winograd_products)
        (&k->g, &b, count, cp, t->w, (size_t)cp, p->wp, f, p->fp, t->v, p->vp, MK_SET, &ahead);
        KR_NAME(kr_winograd_output)
        (k->dx, &b, &k->g, t0, count, p->each ? cell : -1, t->v, (size_t)b.width, p->vp, slot);
    }
}

/* The products of layers at a point, of each of the kernel's slices. What would meet slices that
 * are not there is left out. */
INLINE void slices_product(const struct division *p, const struct task *t, const struct layers *l,
                           int q, bool first)
{
    for (int r = 0; r < 3; r++) {
        const int from = max_int(0, 1 - r - l->z), to = min_int(l->deep, l->d + 1 - r - l->z);
        tiles_product(p, t, q, r, (from + r) * l->count, from * l->count,
                      max_int(0, to - from) * l->count, first);
    }
}

/* The same of groups of slices, by the transpose of F(2,3) or F(4,3) along z. Of a pair dy0, dy1
 * and the slices d0..d3 that it meets: (d0 - d2) dy0, (d1 + d2) (dy0 + dy1), (d2 - d1) (dy0 - dy1)
 * and (d3 - d1) dy1, four products instead of six; of four slices six instead of twelve. */
INLINE void groups_product(const int R, const struct division *p, const struct task *t,
                           const struct layers *l, int q, bool first)
{
    enum { MOST = 6 };
    const int groups = l->deep / R, last = R + 1;
    const size_t si = (size_t)(l->count * t->wi), so = (size_t)(l->count * t->wo);
    const size_t ni = (size_t)groups * si, no = (size_t)groups * so;
    const float *v = t->v + (size_t)q * p->vp, *w = t->w + (size_t)q * p->wp;
    float *x = t->x, *y = t->x + (size_t)(R + 2) * ni;
    for (int n = 0; n < groups; n++) {
        const float *d = v + (size_t)(R * n) * si, *e = w + (size_t)(R * n) * so;
        for (size_t i = 0, j = (size_t)n * si; i < si; i += VL, j += VL) {
            vf a[MOST], o[MOST];
            vload_row(R + 2, d + i, si, a);
            if (R == 2) {
                o[0] = a[0] - a[2];
                o[1] = a[1] + a[2];
                o[2] = a[2] - a[1];
                o[3] = a[3] - a[1];
            } else {
                bt(4, a, o);
            }
            vstore_row(R + 2, x + j, ni, o);
        }
        for (size_t i = 0, j = (size_t)n * so; i < so; i += VL, j += VL) {
            vf a[4], o[MOST];
            vload_row(R, e + i, so, a);
            if (R == 2) {
                o[1] = a[0] + a[1];
                o[2] = a[0] - a[1];
            } else {
                at_t(4, a, o);
            }
            vstore_row(R, y + j, no, o + 1);
        }
    }
    point_product(p, t, q, 0, x, w, groups, (size_t)R * so, l->count, first);
    for (int r = 1; r < last; r++)
        point_product(p, t, q, r, x + (size_t)r * ni, y + (size_t)(r - 1) * no, 1, 0,
                      groups * l->count, first);
    point_product(p, t, q, last, x + (size_t)last * ni, w + (size_t)(R - 1) * so, groups,
                  (size_t)R * so, l->count, first);
}

/* The sums of the kernel's three slices from those of groups. */
INLINE void groups_sums(const int R, const struct division *p, const struct task *t)
{
    const size_t size = (size_t)t->wi * (size_t)t->wo;
    for (int q = 0; q < POINTS(p->side); q++) {
        float *u = t->u + (size_t)q * p->up;
        for (size_t i = 0; i < size; i += VL) {
            vf a[6], o[3];
            vload_row(R + 2, u + i, size, a);
            if (R == 2) {
                const vf s = 0.5f * (a[1] + a[2]);
                o[0] = a[0] + s;
                o[1] = 0.5f * (a[1] - a[2]);
                o[2] = a[3] + s;
            } else {
                g3_t(4, a, o);
            }
            vstore_row(3, u + i, size, o);
        }
    }
}

static void groups_end(const struct division *p, const struct task *t)
{
    if (p->pillars.group == 4)
        groups_sums(4, p, t);
    else
        groups_sums(2, p, t);
}

/* Adds the products of a pillar's layers to the task's sums; `then` are fetched meanwhile. */
static void layers_run(const struct work *k, const struct task *t, const struct layers *l,
                       const struct layers *then, bool first)
{
    const struct division *p = &k->p;
    const int points = POINTS(p->side);
    const size_t slice = (size_t)(l->count * t->wo);
    struct ahead ahead = {.walks = 0};
    KR_NAME(kr_volume_input)
    (k->s, &k->g, l, t->i0, t->i0 + t->wi, t->v, (size_t)t->wi, p->vp);
    for (int i = 0; i < layers_to(l); i++)
        gradient_transform(k->dy, &k->g, layers_tile(l, &k->g, i), l->count, t->o0, t->wo,
                           t->w + (size_t)i * slice, p->wp);
    for (int q = 0; q < points; q++)
        for (int i = layers_to(l); i < l->deep; i++)
            memset(t->w + (size_t)q * p->wp + (size_t)i * slice, 0, slice * sizeof *t->w);
    if (then->deep) {
        ahead_layers(&ahead, k->s, &k->g, then, t->i0, t->i0 + t->wi);
        ahead.slices = layers_to(then);
        ahead_source(&ahead, k->dy, &k->g, layers_tile(then, &k->g, 0), then->count, t->o0,
                     t->o0 + t->wo);
    }
    for (int q = 0; q < points; q++) {
        ahead_fetch(&ahead, &k->g);
        if (l->group == 4)
            groups_product(4, p, t, l, q, first);
        else if (l->group == 2)
            groups_product(2, p, t, l, q, first);
        else
            slices_product(p, t, l, q, first);
    }
}

/* The sums of the pillars from `from` up to `to`. */
static void pillars_run(const struct work *k, const struct task *t, int from, int to)
{
    const struct pillars *p = &k->p.pillars;
    for (int i = from; i < to; i++)
        for (struct layers l = layers_first(p, i), then; l.deep; l = then) {
            struct layers next = l;
            layers_next(&next);
            then = next;
            if (!next.deep && i + 1 < to)
                next = layers_first(p, i + 1);
            layers_run(k, t, &l, &next, i == from && !l.known);
        }
}

/* The task's filters, to dw, or to its part where others share them: of each pair of channels those
 * of each slice of the kernel. */
static void filters_write(const struct work *k, const struct task *t)
{
    const int depth = k->p.depth;
    const size_t taps = 9 * (size_t)depth, filters = taps * (size_t)k->s->c;
    float *partial = k->partial + (size_t)t->number * k->p.size;
    for (int i = 0; i < t->wi * depth; i++)
        for (int o = 0; o < t->wo; o += VL) {
            int r = i / t->wi, real = real_channel(k->s, t->i0 + i % t->wi);
            int left = k->dy->c - t->o0 - o;
            vf f[9];
            filter_gradient(k->p.side, t->u + (size_t)i * (size_t)t->wo + o, k->p.up, f);
            if (k->p.spans > 1)
                for (int q = 0; q < 9; q++)
                    vstore(partial + ((size_t)i * 9 + (size_t)q) * (size_t)t->wo + o, f[q]);
            else if (real >= 0 && left > 0)
                taps_store(k->dw + (size_t)(t->o0 + o) * filters + taps * (size_t)real + 9 * r,
                           filters, min_int(VL, left), f);
        }
}

/* Adds up what the spans made of the filters of input channel c, slice r of the kernel, in their
 * order. */
static void filters_sum(const struct work *k, int c, int r)
{
    const int iblock = k->p.iblock;
    int real = real_channel(k->s, c), blocks = k->p.iblocks * k->p.oblocks;
    const size_t taps = 9 * (size_t)k->p.depth, filters = taps * (size_t)k->s->c;
    const int wi = min_int(iblock, k->s->cp - c / iblock * iblock);
    for (int o = 0; o < k->dy->c && real >= 0; o += VL) {
        int b = c / iblock * k->p.oblocks + o / BLOCK;
        size_t wo = (size_t)min_int(BLOCK, k->dy->cp - o / BLOCK * BLOCK);
        size_t at = (size_t)(r * wi + c % iblock) * 9 * wo + (size_t)(o % BLOCK);
        vf sum[9] = {{0}};
        for (int t = b; t < k->p.spans * blocks; t += blocks)
            for (int q = 0; q < 9; q++)
                sum[q] += vload(k->partial + (size_t)t * k->p.size + at + (size_t)q * wo);
        taps_store(k->dw + (size_t)o * filters + taps * (size_t)real + 9 * r, filters,
                   min_int(VL, k->dy->c - o), sum);
    }
}

/* Task number n: of its span, blocks of channels in their order. */
static struct task task_at(const struct work *k, int n, float *v, float *w, float *u, float *x)
{
    const struct division *p = &k->p;
    int i = n / p->oblocks % p->iblocks, o = n % p->oblocks;
    struct task t = {
        .number = n, .i0 = i * p->iblock, .o0 = o * BLOCK, .v = v, .w = w, .u = u, .x = x};
    t.wi = min_int(p->iblock, k->s->cp - t.i0);
    t.wo = min_int(BLOCK, k->dy->cp - t.o0);
    return t;
}

/* Every tile's transforms, then every task's products and filters. */
static void staged(const struct work *k, int threads, char *ws)
{
    const struct division *p = &k->p;
    const size_t points = (size_t)POINTS(p->side);
    float *v = (float *)(ws + p->v), *w = (float *)(ws + p->w);
    int groups = (k->g.count + STAGED_RUN - 1) / STAGED_RUN;
#pragma omp parallel num_threads(threads)
    {
        float *u = (float *)(ws + p->private + (size_t)omp_get_thread_num() * p->bytes + p->u);
#pragma omp for schedule(dynamic)
        for (int n = 0; n < groups * (p->iblocks + p->oblocks); n++) {
            int block = n / groups, t0 = n % groups * STAGED_RUN, o = block - p->iblocks;
            int count = min_int(STAGED_RUN, k->g.count - t0);
            if (o < 0) {
                int i0 = block * p->iblock, i1 = min_int(k->s->cp, i0 + p->iblock);
                size_t step = (size_t)(i1 - i0);
                KR_NAME(kr_winograd_input)(k->s, &k->g, t0, count, i0, i1,
                                           v + points * p->vp * (size_t)block + (size_t)t0 * step,
                                           step, p->vp);
            } else {
                int width = min_int(BLOCK, k->dy->cp - o * BLOCK);
                gradient_transform(k->dy, &k->g, t0, count, o * BLOCK, width,
                                   w + points * p->wp * (size_t)o + (size_t)t0 * (size_t)width,
                                   p->wp);
            }
        }
#pragma omp for schedule(dynamic)
        for (int n = 0; n < p->iblocks * p->oblocks; n++) {
            struct task t = task_at(k, n, v + points * p->vp * (size_t)(n / p->oblocks),
                                    w + points * p->wp * (size_t)(n % p->oblocks), u, NULL);
            for (int q = 0; q < (int)points; q++)
                for (int a = 0, runs = (k->g.count + p->run - 1) / p->run; a < runs; a++) {
                    int t0 = share(k->g.count, a, runs), t1 = share(k->g.count, a + 1, runs);
                    tiles_product(p, &t, q, 0, t0, t0, t1 - t0, a == 0);
                }
            filters_write(k, &t);
        }
    }
}

void KR_NAME(kr_conv3x3_winograd_weight)(const struct source *s, const struct source *dy, float *dw,
                                         const struct filters *f, const struct sink *dx,
                                         int threads, void *workspace)
{
    const struct division p = divide(s, dy->c, dx);
    char *ws = workspace;
    const struct work k = {.s = s,
                           .dy = dy,
                           .dx = dx,
                           .p = p,
                           .g = p.g,
                           .dw = dw,
                           .partial = (float *)(ws + p.partial),
                           .turned = (float *)(ws + p.f),
                           .slots = (double *)(ws + p.slots)};
    int blocks = p.iblocks * p.oblocks;
    assert(!dx || blocks == 1);
    if (p.staged) {
        staged(&k, threads, ws);
        return;
    }
    if (dx)
        memset(k.slots, 0,
               (size_t)(p.each ? k.g.cells : p.spans) * 2 * (size_t)dx->cp * sizeof(double));
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p.private + (size_t)omp_get_thread_num() * p.bytes;
        if (dx) {
#pragma omp for schedule(static)
            for (int i = 0; i < sink_blocks(dx); i++) {
                struct block b = sink_block(dx, i);
                float *u = k.turned + (size_t)(b.part->first + b.o) * (size_t)dy->cp;
                KR_NAME(kr_winograd_weights)(p.side, dy, f, &b, 0, dy->cp, u, p.fp);
            }
        }
#pragma omp for schedule(dynamic)
        for (int n = 0; n < p.spans * blocks; n++) {
            struct task t = task_at(&k, n, (float *)(mine + p.v), (float *)(mine + p.w),
                                    (float *)(mine + p.u), (float *)(mine + p.x));
            if (s->d) {
                pillars_run(&k, &t, share(p.pillars.count, n / blocks, p.spans),
                            share(p.pillars.count, n / blocks + 1, p.spans));
                if (p.planes > p.depth)
                    groups_end(&p, &t);
                filters_write(&k, &t);
                continue;
            }
            int from = share(k.g.cells, n / blocks, p.spans), most = max_int(1, p.run / k.g.cell);
            int cells = share(k.g.cells, n / blocks + 1, p.spans) - from;
            int runs = (cells + most - 1) / most;
            for (int r = 0; r < runs; r++) {
                int cell = from + share(cells, r, runs), next = from + share(cells, r + 1, runs);
                int then = r + 1 < runs ? from + share(cells, r + 2, runs) : next;
                int a = cell_start(&k.g, cell), b = cell_start(&k.g, next);
                weight_run(&k, &t, a, b - a, cell_start(&k.g, then) - b, r == 0);
                if (dx)
                    data_run(&k, &t, a, b - a, cell);
            }
            filters_write(&k, &t);
        }
        if (p.spans > 1) {
#pragma omp for schedule(dynamic)
            for (int c = 0; c < s->cp * p.depth; c++)
                filters_sum(&k, c / p.depth, c % p.depth);
        }
    }
    if (dx)
        KR_NAME(kr_conv3x3_sums)(dx, k.slots, p.each ? k.g.cells : p.spans, s->n);
}
