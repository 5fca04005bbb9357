/* 3x3x3 convolution by Winograd in the plane and directly along z: each slice's tiles are
 * transformed once and used by three slices of results, whose products make one sum, over the
 * slices in their order and the channels of each.
 *
 * A task is a pillar: some tiles of each slice, from the first slice to the last, or where pillars
 * are few to a part of them. It walks along z by layers, so many that their transforms stay in its
 * cache; the transforms of the last two slices move on to the next layers. Products of a point run
 * over all tiles of the layers at once, as slices are rows of one matrix.
 *
 * Where the transformed weights would not stay in cache, or pillars are too few, layers are whole
 * slices, transformed by all threads, and tasks are blocks of output channels, as `panel` of
 * conv3x3_winograd.c has them; where only pillars are too few, with weights of all input channels
 * at once, so that a sum has the same order either way.
 *
 * Forward, a result depends on its slices alone: it is the same bytes in every window that holds
 * it. */
#include "lib/kernels/simd/winograd.h"

#define FUSED_WEIGHTS ((size_t)10 << 20) /* of transformed weights, at most, for pillars */
#define STAGED_BYTES ((size_t)8 << 20)   /* of staged input, about, else */
#define LARGE 16                         /* channels on both sides from which tiles of 6x6 serve */
#define DEPTH 64                         /* input channels of a panel of weights */
#define PAD 16 /* floats that keep the planes from falling on the same cache sets */

struct division {
    bool fused, pairs;
    int planes;      /* of transformed weights: one of each slice of the kernel, or of pairs four */
    int side, depth; /* depth: input channels of a panel of weights */
    struct tiling g;
    struct pillars pillars;
    size_t vs, vp, up, mp;
    size_t u, v, m, x, slots, private, bytes;
};

static struct division divide(const struct source *s, const struct sink *out)
{
    struct division p = {.side = min_int(s->cp, out->cp) >= LARGE && large_tiles_pay(s) ? 6 : 4};
    const size_t k = (size_t)s->cp, o = (size_t)out->cp, width = o < BLOCK ? o : BLOCK;
    const size_t points = (size_t)POINTS(p.side), tile = points * sizeof(float);
    size_t used = 0, mine = 0;
    p.g = tiling(s, p.side, 1);
    p.vs = k % 256 ? k : k + PAD;
    p.pillars = pillars(s, &p.g, tile * k, tile * width);
    const bool light = 3 * tile * k * o <= FUSED_WEIGHTS;
    p.depth = light ? s->cp : min_int(s->cp, DEPTH);
    p.fused = light && p.pillars.count >= PILLARS / 2;
    if (!p.fused)
        p.pillars =
            slabs(s, &p.g, (int)(STAGED_BYTES / (tile * k * (size_t)p.g.count / (size_t)s->n + 1)));
    p.pairs = p.fused && out->part[0].kind == SINK_DX && s->d >= PAIRS;
    p.planes = p.pairs ? 4 : 3;
    const size_t tiles = (size_t)p.pillars.tiles,
                 rows = tiles * (size_t)(p.pillars.layers + p.pairs);
    p.vp = (rows + 2 * tiles) * p.vs + PAD;
    p.mp = rows * width + PAD;
    p.up = (size_t)p.planes * (p.fused ? k * o : (size_t)p.depth * width) + PAD;
    p.slots = take(&used, (size_t)(s->n * p.pillars.across) * 2 * o, sizeof(double));
    size_t *u = p.fused ? &used : &mine, *v = p.fused ? &mine : &used;
    p.u = take(u, points * p.up, sizeof(float));
    p.v = take(v, points * p.vp, sizeof(float));
    p.m = take(&mine, points * p.mp, sizeof(float));
    p.x = take(&mine, p.pairs ? 2 * rows * (p.vs + width) : 0, sizeof(float));
    p.private = used;
    p.bytes = mine;
    return p;
}

size_t KR_NAME(kr_conv3x3_volume_workspace)(const struct source *s, const struct sink *out,
                                            int threads)
{
    const struct division p = divide(s, out);
    return p.private + (size_t)threads * p.bytes;
}

/* Of one slot `count` tiles from t on. */
static void slot_input(const struct source *s, const struct tiling *g, const struct layers *l,
                       int slot, int t, int count, int c0, int c1, float *v, size_t vs, size_t ps)
{
    const int z = l->z - 1 + slot;
    v += (size_t)(slot * l->count + t) * vs;
    if (z >= -s->before && z < l->d + s->after) {
        KR_NAME(kr_winograd_input)
        (s, g, layers_tile(l, g, s->before + slot - 1) + t, count, c0, c1, v, vs, ps);
    } else {
        for (int p = 0; p < POINTS(g->m); p++)
            memset(v + (size_t)p * ps, 0, (size_t)count * vs * sizeof *v);
    }
}

void KR_NAME(kr_volume_input)(const struct source *s, const struct tiling *g,
                              const struct layers *l, int c0, int c1, float *v, size_t vs,
                              size_t ps)
{
    const size_t slice = (size_t)l->count * vs;
    for (int p = 0; p < POINTS(g->m) && l->known; p++)
        memmove(v + (size_t)p * ps, v + (size_t)p * ps + (size_t)l->known * slice,
                2 * slice * sizeof *v);
    for (int i = l->known ? 2 : 0; i < l->deep + 2; i++)
        slot_input(s, g, l, i, 0, l->count, c0, c1, v, vs, ps);
}

/* The filters of the kernel's slice r. */
static struct filters slice_of(const struct filters *f, int r)
{
    struct filters one = *f;
    one.w += 9 * (f->flip ? 2 - r : r);
    return one;
}

/* The results of a pillar's layers, and their sums. */
static void output(const struct sink *out, const struct block *b, const struct division *p,
                   const struct layers *l, const float *m, double *slots)
{
    for (int i = 0; i < l->deep; i++) {
        const int slice = l->n * l->d + l->z + i;
        double *slot = slots + ((size_t)slice * (size_t)p->pillars.across + (size_t)l->pillar) * 2 *
                                   (size_t)out->cp;
        KR_NAME(kr_winograd_output)
        (out, b, &p->g, layers_tile(l, &p->g, i), l->count, -1,
         m + (size_t)(i * l->count) * (size_t)b->width, (size_t)b->width, p->mp, slot);
    }
}

/* --- pairs of slices: F(2,3) along z ------------------------------------------------------------
 * Of slices d0..d3 and weights g0..g2 the results are m0 + m1 + m2 and m1 - m2 - m3, where
 *
 *     m0 = (d0 - d2) g0, m1 = (d1 + d2) (g0 + g1 + g2) / 2, m2 = (d2 - d1) (g0 - g1 + g2) / 2,
 *     m3 = (d1 - d3) g2:
 *
 * four products instead of six. For gradients alone, as a result depends on where its pair begins,
 * and a window of a volume begins anywhere. */

/* Planes 0, 1 and 3 of a block's weights at a point, g0, g1 and g2, become those of pairs. */
static void pairs_weights(float *u, size_t plane)
{
    for (size_t i = 0; i < plane; i += VL) {
        const vf s = 0.5f * (vload(u + i) + vload(u + 3 * plane + i));
        const vf h = 0.5f * vload(u + plane + i);
        vstore(u + plane + i, s + h);
        vstore(u + 2 * plane + i, s - h);
    }
}

static __attribute__((noinline)) void product(const struct mk *m)
{
    mk_run(m, true);
}

/* The results of layers at a point, by pairs. */
static void pairs_point(const struct division *p, const struct block *b, const struct layers *l,
                        int k, const float *v, const float *u, float *x, float *m)
{
    const int pairs = (l->deep + 1) / 2, rows = pairs * l->count;
    const size_t si = (size_t)l->count * p->vs, so = (size_t)(l->count * b->width);
    const size_t ni = (size_t)pairs * si, no = (size_t)pairs * so;
    float *y = x + 4 * ni;
    for (int n = 0; n < pairs; n++, v += 2 * si)
        for (size_t i = 0, j = (size_t)n * si; i < si; i += VL, j += VL) {
            const vf d1 = vload(v + si + i), d2 = vload(v + 2 * si + i);
            vstore(x + j, vload(v + i) - d2);
            vstore(x + ni + j, d1 + d2);
            vstore(x + 2 * ni + j, d2 - d1);
            vstore(x + 3 * ni + j, d1 - vload(v + 3 * si + i));
        }
    for (int q = 0; q < 4; q++)
        for (int o = 0, nr; o < b->width; o += nr) {
            nr = mk_panel(o, b->width);
            const struct mk a = {.rows = rows,
                                 .nr = nr,
                                 .runs = 1,
                                 .k = k,
                                 .a = x + (size_t)q * ni,
                                 .at = p->vs,
                                 .b = u + (size_t)(q * b->width + o) * (size_t)k,
                                 .bk = (size_t)nr,
                                 .c = y + (size_t)q * no + o,
                                 .ct = (size_t)b->width,
                                 .into = MK_SET};
            product(&a);
        }
    for (int n = 0; n < pairs; n++, m += 2 * so)
        for (size_t i = 0, j = (size_t)n * so; i < so; i += VL, j += VL) {
            const vf m1 = vload(y + no + j), m2 = vload(y + 2 * no + j);
            vstore(m + i, vload(y + j) + (m1 + m2));
            vstore(m + so + i, m1 - m2 - vload(y + 3 * no + j));
        }
}

static void pairs_products(const struct division *p, const struct block *b, const struct layers *l,
                           int k, float *v, const float *u, float *x, float *m, struct ahead *ahead)
{
    const size_t slice = (size_t)l->count * p->vs;
    for (int q = 0; q < POINTS(p->side); q++, v += p->vp, u += p->up, m += p->mp) {
        ahead_fetch(ahead, &p->g);
        if (l->deep % 2)
            memset(v + (size_t)(l->deep + 2) * slice, 0, slice * sizeof *v);
        pairs_point(p, b, l, k, v, u, x, m);
    }
}

/* --- schedules -------------------------------------------------------------------------------- */

static void fused(const struct source *s, const struct filters *f, const struct sink *out,
                  const struct division *p, int threads, char *ws)
{
    const int blocks = sink_blocks(out);
    float *u = (float *)(ws + p->u);
    double *slots = (double *)(ws + p->slots);
    struct queue queue = {.tasks = p->pillars.count, .threads = threads};
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p->private + (size_t)omp_get_thread_num() * p->bytes;
        float *v = (float *)(mine + p->v), *m = (float *)(mine + p->m);
        float *x = (float *)(mine + p->x);
        const size_t k = (size_t)s->cp, planes = (size_t)p->planes;
#pragma omp for schedule(static)
        for (int i = 0; i < 3 * blocks; i++) {
            const struct block b = sink_block(out, i / 3);
            const struct filters one = slice_of(f, i % 3);
            const int plane = p->pairs && i % 3 == 2 ? 3 : i % 3;
            const size_t at = planes * (size_t)(b.part->first + b.o) + (size_t)(plane * b.width);
            KR_NAME(kr_winograd_weights)(p->side, s, &one, &b, 0, s->cp, u + at * k, p->up);
        }
#pragma omp for schedule(static)
        for (int i = 0; i < (p->pairs ? POINTS(p->side) : 0); i++)
            for (int j = 0; j < blocks; j++) {
                const struct block b = sink_block(out, j);
                pairs_weights(u + (size_t)i * p->up + 4 * (size_t)(b.part->first + b.o) * k,
                              k * (size_t)b.width);
            }
        for (int t = queue_take(&queue), next; t < queue.tasks; t = next) {
            const bool early = queue_early(&queue, t);
            next = early ? queue_take(&queue) : queue.tasks;
            for (struct layers l = layers_first(&p->pillars, t); l.deep; layers_next(&l)) {
                struct layers then = l;
                layers_next(&then);
                if (!then.deep && next < queue.tasks)
                    then = layers_first(&p->pillars, next);
                KR_NAME(kr_volume_input)(s, &p->g, &l, 0, s->cp, v, p->vs, p->vp);
                for (int i = 0; i < blocks; i++) {
                    const struct block b = sink_block(out, i);
                    struct ahead ahead = {.slices = l.deep};
                    ahead_sink(&ahead, b.part, &p->g, layers_tile(&l, &p->g, 0), l.count, b.o,
                               b.width);
                    if (i == 0 && then.deep)
                        ahead_layers(&ahead, s, &p->g, &then, 0, s->cp);
                    const float *w = u + planes * (size_t)(b.part->first + b.o) * k;
                    if (p->pairs) {
                        pairs_products(p, &b, &l, s->cp, v, w, x, m, &ahead);
                    } else {
                        KR_NAME(kr_winograd_products)
                        (&p->g, &b, l.deep * l.count, 3, s->cp, v, p->vs, (size_t)l.count * p->vs,
                         p->vp, w, p->up, m, p->mp, MK_SET, &ahead);
                    }
                    output(out, &b, p, &l, m, slots);
                }
            }
            if (!early)
                next = queue_take(&queue);
        }
    }
}

static void panel(const struct source *s, const struct filters *f, const struct sink *out,
                  const struct division *p, int threads, char *ws)
{
    const int blocks = sink_blocks(out);
    float *v = (float *)(ws + p->v);
    double *slots = (double *)(ws + p->slots);
    struct ahead none = {.walks = 0};
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p->private + (size_t)omp_get_thread_num() * p->bytes;
        float *u = (float *)(mine + p->u), *m = (float *)(mine + p->m);
        for (int t = 0; t < p->pillars.count; t++)
            for (struct layers l = layers_first(&p->pillars, t); l.deep; layers_next(&l)) {
#pragma omp for schedule(dynamic)
                for (int i = 0; i < (l.deep + 2) * l.count; i++)
                    slot_input(s, &p->g, &l, i / l.count, i % l.count, 1, 0, s->cp, v, p->vs,
                               p->vp);
#pragma omp for schedule(dynamic)
                for (int i = 0; i < blocks; i++) {
                    const struct block b = sink_block(out, i);
                    for (int k = 0; k < s->cp; k += p->depth) {
                        const int depth = min_int(p->depth, s->cp - k);
                        for (int r = 0; r < 3; r++) {
                            const struct filters one = slice_of(f, r);
                            KR_NAME(kr_winograd_weights)
                            (p->side, s, &one, &b, k, k + depth,
                             u + (size_t)(r * depth) * (size_t)b.width, p->up);
                        }
                        KR_NAME(kr_winograd_products)
                        (&p->g, &b, l.deep * l.count, 3, depth, v + k, p->vs,
                         (size_t)l.count * p->vs, p->vp, u, p->up, m, p->mp, k ? MK_ADD : MK_SET,
                         &none);
                    }
                    output(out, &b, p, &l, m, slots);
                }
            }
    }
}

void KR_NAME(kr_conv3x3_volume)(const struct source *s, const struct filters *f,
                                const struct sink *out, int threads, void *workspace)
{
    const struct division p = divide(s, out);
    char *ws = workspace;
    double *slots = (double *)(ws + p.slots);
    const int count = s->n * p.pillars.across;
    memset(slots, 0, (size_t)count * 2 * (size_t)out->cp * sizeof *slots);
    if (p.fused)
        fused(s, f, out, &p, threads, workspace);
    else
        panel(s, f, out, &p, threads, workspace);
    KR_NAME(kr_conv3x3_sums)(out, slots, count, s->n);
}
