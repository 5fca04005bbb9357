/* 3x3x3 convolution by Winograd, F(6x6,3x3) or F(4x4,3x3) in the plane and F(2,3) along z: each
 * slice's tiles are transformed once, and each pair of slices of results takes four products of
 * what is made of the four slices that it reaches, instead of six.
 *
 * A task is a pillar: some tiles of each slice, from the first slice to the last, or where pillars
 * are few to a part of them. It walks along z by layers, so many that their transforms stay in its
 * cache; the transforms of the last two slices move on to the next layers. Products of a point run
 * over all tiles of the layers at once, as pairs are rows of one matrix.
 *
 * Where the transformed weights would not stay in cache, or pillars are too few, layers are whole
 * slices, transformed by all threads, and tasks are blocks of output channels, as `panel` of
 * conv3x3_winograd.c has them; where only pillars are too few, with weights of all input channels
 * at once, so that a sum has the same order either way.
 *
 * A result depends on the three slices that it is made of and on its place in its pair alone, and
 * pairs are those of the volume: it is the same bytes in every window that holds it. */
#include "lib/kernels/simd/winograd.h"

#define FUSED_WEIGHTS ((size_t)10 << 20) /* of transformed weights, at most, for pillars */
#define STAGED_BYTES ((size_t)8 << 20)   /* of staged input, about, else */
#define LARGE 16                         /* channels on both sides from which tiles of 6x6 serve */
#define DEPTH 64                         /* input channels of a panel of weights */
#define PLANES 4                         /* of transformed weights: those of pairs */
#define PAD 16 /* floats that keep the planes from falling on the same cache sets */

struct division {
    bool fused;
    int side, depth; /* depth: input channels of a panel of weights */
    struct tiling g;
    struct pillars pillars;
    size_t vs, vp, up, mp, xs;
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
    const size_t tiles = (size_t)p.pillars.tiles, layers = (size_t)p.pillars.layers;
    const size_t pairs = tiles * (layers / 2 + 1);
    p.vp = (layers + 2) * tiles * p.vs + PAD;
    p.mp = layers * tiles * width + PAD;
    p.up = PLANES * (p.fused ? k * o : (size_t)p.depth * width) + PAD;
    p.xs = (size_t)p.depth % 256 ? (size_t)p.depth : (size_t)p.depth + PAD;
    p.slots = take(&used, (size_t)(s->n * p.pillars.across) * 2 * o, sizeof(double));
    size_t *u = p.fused ? &used : &mine, *v = p.fused ? &mine : &used;
    p.u = take(u, points * p.up, sizeof(float));
    p.v = take(v, points * p.vp, sizeof(float));
    p.m = take(&mine, points * p.mp, sizeof(float));
    p.x = take(&mine, 4 * pairs * (p.xs + width), sizeof(float));
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
 * Of slices d0..d3 and weights g0..g2 the results are m0 + (m1 + m2) and m1 - m2 - m3, where
 *
 *     m0 = (d0 - d2) g0, m1 = (d1 + d2) (g0 + g1 + g2) / 2, m2 = (d2 - d1) (g0 - g1 + g2) / 2,
 *     m3 = (d1 - d3) g2.
 *
 * So either result needs three products, of the three slices that it is made of. */

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

/* What layers are as pairs: `odd` if the first of their slices is the second of its pair. */
struct pairs {
    int count, odd, whole; /* pairs; of which the second slice is there */
};

INLINE struct pairs pairs_of(const struct source *s, const struct layers *l)
{
    const int odd = (l->z + s->odd) % 2;
    return (struct pairs){(odd + l->deep + 1) / 2, odd, (odd + l->deep) / 2};
}

/* `rows` rows of `size` floats, of each of a pair's slices, `slice` floats apart, to the operands
 * of its products, `next` floats apart. */
INLINE void pair_operands(int rows, int size, const float *d, size_t vs, size_t slice, float *x,
                          size_t xs, size_t next, bool first, bool second)
{
    for (int t = 0; t < rows; t++, d += vs, x += xs)
        for (int i = 0; i < size; i += VL) {
            const vf d1 = vload(d + slice + i), d2 = vload(d + 2 * slice + i);
            if (first)
                vstore(x + i, vload(d + i) - d2);
            vstore(x + next + i, d1 + d2);
            vstore(x + 2 * next + i, d2 - d1);
            if (second)
                vstore(x + 3 * next + i, d1 - vload(d + 3 * slice + i));
        }
}

/* The results of layers at a point from k channels, or with `more` added to those there are. */
static void pairs_point(const struct division *p, const struct block *b, const struct layers *l,
                        const struct pairs *n, int k, const float *v, const float *u, float *x,
                        float *m, bool more)
{
    const bool flat = p->vs == (size_t)k && p->xs == (size_t)k;
    const int rows = flat ? 1 : l->count, size = flat ? k * l->count : k;
    const size_t slice = (size_t)l->count * p->vs, si = (size_t)l->count * p->xs;
    const size_t so = (size_t)(l->count * b->width);
    const size_t ni = (size_t)n->count * si, no = (size_t)n->count * so;
    float *y = x + 4 * ni;
    v -= (size_t)n->odd * slice;
    for (int i = 0; i < n->count; i++)
        pair_operands(rows, size, v + 2 * (size_t)i * slice, p->vs, slice, x + (size_t)i * si,
                      p->xs, ni, i >= n->odd, i < n->whole);
    for (int q = 0; q < 4; q++) {
        const int from = q == 0 ? n->odd : 0, end = q == 3 ? n->whole : n->count;
        for (int o = 0, nr; o < b->width; o += nr) {
            nr = mk_panel(o, b->width);
            const struct mk a = {.rows = (end - from) * l->count,
                                 .nr = nr,
                                 .runs = 1,
                                 .k = k,
                                 .a = x + (size_t)q * ni + (size_t)from * si,
                                 .at = p->xs,
                                 .b = u + (size_t)(q * b->width + o) * (size_t)k,
                                 .bk = (size_t)nr,
                                 .c = y + (size_t)q * no + (size_t)from * so + o,
                                 .ct = (size_t)b->width,
                                 .into = MK_SET};
            KR_NAME(kr_winograd_product)(&a);
        }
    }
    for (int i = 0; i < n->count; i++, y += so)
        for (int half = 0; half < 2; half++) {
            if (half ? i >= n->whole : i < n->odd)
                continue;
            for (size_t j = 0; j < so; j += VL) {
                const vf m1 = vload(y + no + j), m2 = vload(y + 2 * no + j);
                vf r = half ? m1 - m2 - vload(y + 3 * no + j) : vload(y + j) + (m1 + m2);
                vstore(m + j, more ? r + vload(m + j) : r);
            }
            m += so;
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
        const size_t k = (size_t)s->cp;
#pragma omp for schedule(static)
        for (int i = 0; i < 3 * blocks; i++) {
            const struct block b = sink_block(out, i / 3);
            const struct filters one = slice_of(f, i % 3);
            const int plane = i % 3 == 2 ? 3 : i % 3;
            const size_t at = PLANES * (size_t)(b.part->first + b.o) + (size_t)(plane * b.width);
            KR_NAME(kr_winograd_weights)(p->side, s, &one, &b, 0, s->cp, u + at * k, p->up);
        }
#pragma omp for schedule(static)
        for (int i = 0; i < POINTS(p->side); i++)
            for (int j = 0; j < blocks; j++) {
                const struct block b = sink_block(out, j);
                pairs_weights(u + (size_t)i * p->up + PLANES * (size_t)(b.part->first + b.o) * k,
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
                const struct pairs n = pairs_of(s, &l);
                KR_NAME(kr_volume_input)(s, &p->g, &l, 0, s->cp, v, p->vs, p->vp);
                for (int i = 0; i < blocks; i++) {
                    const struct block b = sink_block(out, i);
                    struct ahead ahead = {.slices = l.deep};
                    ahead_sink(&ahead, b.part, &p->g, layers_tile(&l, &p->g, 0), l.count, b.o,
                               b.width);
                    if (i == 0 && then.deep)
                        ahead_layers(&ahead, s, &p->g, &then, 0, s->cp);
                    const float *w = u + PLANES * (size_t)(b.part->first + b.o) * k;
                    for (size_t q = 0; q < (size_t)POINTS(p->side); q++) {
                        ahead_fetch(&ahead, &p->g);
                        pairs_point(p, &b, &l, &n, s->cp, v + q * p->vp, w + q * p->up, x,
                                    m + q * p->mp, false);
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
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p->private + (size_t)omp_get_thread_num() * p->bytes;
        float *u = (float *)(mine + p->u), *m = (float *)(mine + p->m);
        float *x = (float *)(mine + p->x);
        for (int t = 0; t < p->pillars.count; t++)
            for (struct layers l = layers_first(&p->pillars, t); l.deep; layers_next(&l)) {
#pragma omp for schedule(dynamic)
                for (int i = 0; i < (l.deep + 2) * l.count; i++)
                    slot_input(s, &p->g, &l, i / l.count, i % l.count, 1, 0, s->cp, v, p->vs,
                               p->vp);
#pragma omp for schedule(dynamic)
                for (int i = 0; i < blocks; i++) {
                    const struct block b = sink_block(out, i);
                    const struct pairs n = pairs_of(s, &l);
                    for (int k = 0; k < s->cp; k += p->depth) {
                        const int depth = min_int(p->depth, s->cp - k);
                        const size_t plane = (size_t)depth * (size_t)b.width;
                        for (int r = 0; r < 3; r++) {
                            const struct filters one = slice_of(f, r);
                            KR_NAME(kr_winograd_weights)
                            (p->side, s, &one, &b, k, k + depth,
                             u + (size_t)(r < 2 ? r : 3) * plane, p->up);
                        }
                        for (size_t q = 0; q < (size_t)POINTS(p->side); q++) {
                            pairs_weights(u + q * p->up, plane);
                            pairs_point(p, &b, &l, &n, depth, v + q * p->vp + k, u + q * p->up, x,
                                        m + q * p->mp, k > 0);
                        }
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
