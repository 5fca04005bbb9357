/* Gradient of 3x3 weights by Winograd F(4x4,3x3): the transpose of the forward algorithm in the
 * weights, dw = G^T (sum over tiles of (B^T d B) * (A dy A^T)) G.
 *
 * A task owns a block of input channels, a block of output channels and a span of the tiles. It
 * takes RUN tiles at a time through both transforms and 36 matrix products that add to its sums: so
 * that no sum in float is longer than RUN products before it is added to the total, which keeps the
 * rounding error of long sums down (by four, measured against one running sum over 3600 tiles). */
#include "lib/kernels/simd/winograd.h"

#define RUN 32
#define TASKS 16 /* at least, where the blocks of channels alone are fewer */
#define PAD 16

struct plan {
    int iblocks, oblocks, spans;
    size_t vp, wp, up; /* strides of planes, in floats */
    size_t v, w, u, partial, size, private, bytes;
};

static struct plan plan(const struct source *s, int cout)
{
    struct tiling g = tiling(s);
    struct plan p = {.iblocks = (s->cp + BLOCK - 1) / BLOCK, .oblocks = (cout + BLOCK - 1) / BLOCK};
    int width_i = min_int(BLOCK, s->cp), width_o = min_int(BLOCK, kr_pad(cout));
    int blocks = p.iblocks * p.oblocks;
    size_t used = 0, mine = 0;
    p.spans = max_int(1, min_int((TASKS + blocks - 1) / blocks, g.count / RUN));
    p.size = 9 * (size_t)width_i * (size_t)width_o;
    p.vp = (size_t)RUN * (size_t)width_i + PAD;
    p.wp = (size_t)RUN * (size_t)width_o + PAD;
    p.up = (size_t)width_i * (size_t)width_o + PAD;
    if (p.spans > 1)
        p.partial = take(&used, (size_t)(p.spans * blocks) * p.size, sizeof(float));
    p.v = take(&mine, POINTS * p.vp, sizeof(float));
    p.w = take(&mine, POINTS * p.wp, sizeof(float));
    p.u = take(&mine, POINTS * p.up, sizeof(float));
    p.private = used;
    p.bytes = mine;
    return p;
}

size_t KR_NAME(kr_conv3x3_winograd_weight_workspace)(const struct source *s, int cout, int threads)
{
    struct plan p = plan(s, cout);
    return p.private + (size_t)threads * p.bytes;
}

/* A dy A^T of one tile, VL channels from o on. */
INLINE void gradient_vector(const float *dy, size_t cp, const bool whole, const struct tiling *g,
                            const struct tile *t, int o, float *w, size_t wp)
{
    vf e[6][4];
    const float *from =
        dy + (((size_t)t->n * (size_t)g->h + (size_t)t->y) * (size_t)g->w + (size_t)t->x) * cp + o;
    size_t row = (size_t)g->w * cp;
    KEEP(from);
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        vf d[4], r[6];
#pragma GCC unroll 4
        for (int a = 0; a < 4; a++)
            if (whole || (t->y + a < g->h && t->x + q < g->w))
                d[a] =
                    vload(a < 2 ? from + (size_t)a * row : from + 2 * row + (size_t)(a - 2) * row);
            else
                d[a] = (vf){0};
        from += cp;
        KEEP(from);
        at4_t(d, r);
#pragma GCC unroll 6
        for (int a = 0; a < 6; a++)
            e[a][q] = r[a];
    }
#pragma GCC unroll 6
    for (int a = 0; a < 6; a++) {
        vf r[6];
        at4_t(e[a], r);
        vstore6(w, wp, r);
        w += 6 * wp;
        KEEP(w);
    }
}

static void gradient_transform(const float *dy, int cp, const struct tiling *g, int t0, int count,
                               int o0, int width, float *w, size_t wp)
{
    struct tile t = tile_at(g, t0);
    for (int i = 0; i < count; i++, tile_next(g, &t), w += width) {
        bool whole = t.y + 4 <= g->h && t.x + 4 <= g->w;
        for (int o = 0; o < width; o += VL)
            if (whole)
                gradient_vector(dy, (size_t)cp, true, g, &t, o0 + o, w + o, wp);
            else
                gradient_vector(dy, (size_t)cp, false, g, &t, o0 + o, w + o, wp);
    }
}

static __attribute__((noinline)) void product(const struct mk *m)
{
    mk_run(m, false);
}

/* G^T u G of VL filters. */
INLINE void filter_gradient(const float *u, size_t up, vf g[9])
{
    vf e[3][6];
    for (int q = 0; q < 6; q++) {
        vf d[6], r[3];
        vload6(u, 6 * up, d);
        u += up;
        KEEP(u);
        g3_t(d, r);
        for (int a = 0; a < 3; a++)
            e[a][q] = r[a];
    }
    for (int a = 0; a < 3; a++)
        g3_t(e[a], g + 3 * a);
}

/* Real channel of padded channel k of the concatenation; -1 for padding. */
static int real_channel(const struct source *s, int k)
{
    int cp = kr_pad(s->in[0].c);
    if (k < cp)
        return k < s->in[0].c ? k : -1;
    return k - cp < s->in[1].c ? s->in[0].c + k - cp : -1;
}

void KR_NAME(kr_conv3x3_winograd_weight)(const struct source *s, int cout, const float *dy,
                                         float *dw, int threads, void *workspace)
{
    struct tiling g = tiling(s);
    struct plan p = plan(s, cout);
    char *ws = workspace;
    float *partial = (float *)(ws + p.partial);
    int blocks = p.iblocks * p.oblocks, ocp = kr_pad(cout);
    size_t filters = 9 * (size_t)s->c; /* of one output channel */
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p.private + (size_t)omp_get_thread_num() * p.bytes;
        float *v = (float *)(mine + p.v), *w = (float *)(mine + p.w), *u = (float *)(mine + p.u);
#pragma omp for schedule(dynamic)
        for (int t = 0; t < p.spans * blocks; t++) {
            int i0 = t % blocks / p.oblocks * BLOCK, o0 = t % blocks % p.oblocks * BLOCK;
            int wi = min_int(BLOCK, s->cp - i0), wo = min_int(BLOCK, ocp - o0);
            int from = (int)((int64_t)g.count * (t / blocks) / p.spans),
                to = (int)((int64_t)g.count * (t / blocks + 1) / p.spans);
            for (int k = from; k < to; k += RUN) {
                int count = min_int(RUN, to - k);
                input_transform(s, &g, k, count, i0, i0 + wi, v, (size_t)wi, p.vp);
                gradient_transform(dy, ocp, &g, k, count, o0, wo, w, p.wp);
                for (int q = 0; q < POINTS; q++) {
                    if (k + RUN < to) {
                        fetch_source(s, &g, k + RUN, count, i0, i0 + wi, q);
                        fetch_map(&g, k + RUN, count, 0, dy, (size_t)ocp * 4, (size_t)o0 * 4,
                                  (size_t)wo * 4, q, false);
                    }
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
                                       .add = k > from};
                        product(&x);
                    }
                }
            }
            for (int i = 0; i < wi; i++)
                for (int o = 0; o < wo; o += VL) {
                    int real = real_channel(s, i0 + i);
                    vf f[9];
                    filter_gradient(u + (size_t)i * (size_t)wo + o, p.up, f);
                    if (p.spans > 1)
                        for (int q = 0; q < 9; q++)
                            vstore(partial + (size_t)t * p.size +
                                       ((size_t)i * 9 + (size_t)q) * (size_t)wo + o,
                                   f[q]);
                    else if (real >= 0 && o0 + o < cout)
                        taps_store(dw + (size_t)(o0 + o) * filters + 9 * (size_t)real, filters,
                                   min_int(VL, cout - o0 - o), f);
                }
        }
        if (p.spans > 1) {
#pragma omp for schedule(dynamic)
            for (int k = 0; k < s->cp; k++) {
                int real = real_channel(s, k), i = k % BLOCK;
                for (int o = 0; o < cout && real >= 0; o += VL) {
                    int b = k / BLOCK * p.oblocks + o / BLOCK,
                        wo = min_int(BLOCK, ocp - o / BLOCK * BLOCK);
                    vf f[9] = {{0}};
                    for (int t = b; t < p.spans * blocks; t += blocks)
                        for (int q = 0; q < 9; q++)
                            f[q] += vload(partial + (size_t)t * p.size +
                                          ((size_t)i * 9 + (size_t)q) * (size_t)wo + o % BLOCK);
                    taps_store(dw + (size_t)o * filters + 9 * (size_t)real, filters,
                               min_int(VL, cout - o), f);
                }
            }
        }
    }
}
