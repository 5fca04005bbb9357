/* Gradient of 3x3 weights by Winograd: the transpose of the forward algorithm in the weights, dw =
 * G^T (sum over tiles of (B^T d B) * (A dy A^T)) G.
 *
 * A task owns a block of input channels, a block of output channels and a span of the tiles. It
 * takes a run of tiles at a time through both transforms and the matrix products that add to its
 * sums: so that no sum in float is longer than RUN products before it is added to the total, which
 * keeps the rounding error of long sums down (by four, measured against one running sum over 3600
 * tiles).
 *
 * With `dx` a run goes on to the gradient of the data, while its maps are in cache. */
#include "lib/kernels/simd/winograd.h"

#define RUN 32
#define TASKS 16 /* at least, where the blocks of channels alone are fewer */
#define PAD 16
#define RUN_BYTES ((size_t)400 << 10) /* of a run's transforms, about, where `dx` is made too */

struct plan {
    int side, points, iblocks, oblocks, spans, run;
    size_t vp, wp, up, fp; /* strides of planes, in floats */
    size_t v, w, u, f, slots, partial, size, private, bytes;
};

static struct plan plan(const struct source *s, int cout, const struct sink *dx)
{
    int m = !dx && large_tiles_pay(s) ? 6 : 4;
    struct tiling g = tiling(s, m);
    struct plan p = {.side = m,
                     .points = POINTS(m),
                     .iblocks = (s->cp + BLOCK - 1) / BLOCK,
                     .oblocks = (cout + BLOCK - 1) / BLOCK,
                     .run = RUN};
    int width_i = min_int(BLOCK, s->cp), width_o = min_int(BLOCK, kr_pad(cout));
    int blocks = p.iblocks * p.oblocks;
    size_t used = 0, mine = 0, points = (size_t)p.points;
    if (dx) {
        size_t tile = points * (size_t)(width_i + width_o) * sizeof(float);
        p.run = min_int(RUN, max_int(12, (int)(RUN_BYTES / tile) / 6 * 6));
    }
    p.spans = max_int(1, min_int((TASKS + blocks - 1) / blocks, g.count / p.run));
    p.size = 9 * (size_t)width_i * (size_t)width_o;
    p.vp = (size_t)p.run * (size_t)width_i + PAD;
    p.wp = (size_t)p.run * (size_t)width_o + PAD;
    p.up = (size_t)width_i * (size_t)width_o + PAD;
    if (p.spans > 1)
        p.partial = take(&used, (size_t)(p.spans * blocks) * p.size, sizeof(float));
    if (dx) {
        p.fp = (size_t)kr_pad(cout) * (size_t)dx->cp + PAD;
        p.f = take(&used, points * p.fp, sizeof(float));
        p.slots = take(&used, (size_t)p.spans * 2 * (size_t)dx->cp, sizeof(double));
    }
    p.v = take(&mine, points * p.vp, sizeof(float));
    p.w = take(&mine, points * p.wp, sizeof(float));
    p.u = take(&mine, points * p.up, sizeof(float));
    p.private = used;
    p.bytes = mine;
    return p;
}

size_t KR_NAME(kr_conv3x3_winograd_weight_workspace)(const struct source *s, int cout,
                                                     const struct sink *dx, int threads)
{
    struct plan p = plan(s, cout, dx);
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
            size_t first =
                (((size_t)t.n * (size_t)g->h + (size_t)t.y) * (size_t)g->w + (size_t)t.x) * cp +
                (size_t)(o0 + o);
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

/* The gradient of the data of a run of tiles, through v and w, whose contents are used up. */
static void data_tiles(const struct source *dy, const struct sink *dx, const struct plan *p,
                       const struct tiling *g, int t0, int count, const float *f, float *v,
                       float *w, double *slot)
{
    size_t k = (size_t)dy->cp;
    input_transform(dy, g, t0, count, 0, dy->cp, w, k, p->wp);
    for (int i = 0, blocks = sink_blocks(dx); i < blocks; i++) {
        struct block b = sink_block(dx, i);
        struct ahead ahead = {.walks = 0};
        ahead_sink(&ahead, b.part, g, t0, count, b.o, b.width);
        KR_NAME(kr_winograd_products)
        (g, &b, count, dy->cp, w, k, p->wp, f + (size_t)(b.part->first + b.o) * k, p->fp, v, p->vp,
         false, &ahead);
        KR_NAME(kr_winograd_output)(dx, &b, g, t0, count, v, (size_t)b.width, p->vp, slot);
    }
}

void KR_NAME(kr_conv3x3_winograd_weight)(const struct source *s, const struct source *dy, float *dw,
                                         const struct filters *f, const struct sink *dx,
                                         int threads, void *workspace)
{
    struct plan p = plan(s, dy->c, dx);
    struct tiling g = tiling(s, p.side);
    char *ws = workspace;
    float *partial = (float *)(ws + p.partial), *turned = (float *)(ws + p.f);
    double *slots = (double *)(ws + p.slots);
    int blocks = p.iblocks * p.oblocks;
    size_t filters = 9 * (size_t)s->c; /* of one output channel */
    assert(!dx || blocks == 1);
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p.private + (size_t)omp_get_thread_num() * p.bytes;
        float *v = (float *)(mine + p.v), *w = (float *)(mine + p.w), *u = (float *)(mine + p.u);
        if (dx) {
#pragma omp for schedule(static)
            for (int i = 0; i < sink_blocks(dx); i++) {
                struct block b = sink_block(dx, i);
                KR_NAME(kr_winograd_weights)
                (p.side, dy, f, &b, 0, dy->cp,
                 turned + (size_t)(b.part->first + b.o) * (size_t)dy->cp, p.fp);
            }
        }
#pragma omp for schedule(dynamic)
        for (int t = 0; t < p.spans * blocks; t++) {
            int i0 = t % blocks / p.oblocks * BLOCK, o0 = t % blocks % p.oblocks * BLOCK;
            int wi = min_int(BLOCK, s->cp - i0), wo = min_int(BLOCK, dy->cp - o0);
            int from = (int)((int64_t)g.count * (t / blocks) / p.spans),
                to = (int)((int64_t)g.count * (t / blocks + 1) / p.spans);
            int runs = (to - from + p.run - 1) / p.run;
            double *slot = dx ? slots + (size_t)t * 2 * (size_t)dx->cp : NULL;
            if (dx)
                memset(slot, 0, 2 * (size_t)dx->cp * sizeof(double));
            for (int r = 0; r < runs; r++) {
                int k = from + (to - from) * r / runs, next = from + (to - from) * (r + 1) / runs;
                int count = next - k;
                input_transform(s, &g, k, count, i0, i0 + wi, v, (size_t)wi, p.vp);
                gradient_transform(dy, &g, k, count, o0, wo, w, p.wp);
                struct ahead ahead = {.walks = 0};
                if (next < to) {
                    ahead_source(&ahead, s, &g, next, count, i0, i0 + wi);
                    ahead_source(&ahead, dy, &g, next, count, o0, o0 + wo);
                }
                for (int q = 0; q < p.points; q++) {
                    ahead_fetch(&ahead, &g);
                    for (int o = 0, nr; o < wo; o += nr) {
                        nr = mk_panel(o, wo);
                        struct mk x = {.rows = wi,
                                       .nr = nr,
                                       .runs = 1,
                                       .k = count,
                                       .a = v + (size_t)q * p.vp,
                                       .ak = (size_t)wi,
                                       .b = w + (size_t)q * p.wp + o,
                                       .bk = (size_t)wo,
                                       .c = u + (size_t)q * p.up + o,
                                       .ct = (size_t)wo,
                                       .add = r > 0};
                        product(&x);
                    }
                }
                if (dx)
                    data_tiles(dy, dx, &p, &g, k, count, turned, v, w, slot);
            }
            for (int i = 0; i < wi; i++)
                for (int o = 0; o < wo; o += VL) {
                    int real = real_channel(s, i0 + i);
                    vf grad[9];
                    filter_gradient(p.side, u + (size_t)i * (size_t)wo + o, p.up, grad);
                    if (p.spans > 1)
                        for (int q = 0; q < 9; q++)
                            vstore(partial + (size_t)t * p.size +
                                       ((size_t)i * 9 + (size_t)q) * (size_t)wo + o,
                                   grad[q]);
                    else if (real >= 0 && o0 + o < dy->c)
                        taps_store(dw + (size_t)(o0 + o) * filters + 9 * (size_t)real, filters,
                                   min_int(VL, dy->c - o0 - o), grad);
                }
        }
        if (p.spans > 1) {
#pragma omp for schedule(dynamic)
            for (int k = 0; k < s->cp; k++) {
                int real = real_channel(s, k), i = k % BLOCK;
                for (int o = 0; o < dy->c && real >= 0; o += VL) {
                    int b = k / BLOCK * p.oblocks + o / BLOCK,
                        wo = min_int(BLOCK, dy->cp - o / BLOCK * BLOCK);
                    vf sum[9] = {{0}};
                    for (int t = b; t < p.spans * blocks; t += blocks)
                        for (int q = 0; q < 9; q++)
                            sum[q] += vload(partial + (size_t)t * p.size +
                                            ((size_t)i * 9 + (size_t)q) * (size_t)wo + o % BLOCK);
                    taps_store(dw + (size_t)o * filters + 9 * (size_t)real, filters,
                               min_int(VL, dy->c - o), sum);
                }
            }
        }
    }
    if (dx)
        KR_NAME(kr_conv3x3_sums)(dx, slots, p.spans);
}
