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
 * A result depends on its slices alone: it is the same bytes in every window that holds it. */
#include "lib/kernels/simd/winograd.h"

#define FUSED_WEIGHTS ((size_t)10 << 20) /* of transformed weights, at most, for pillars */
#define STAGED_BYTES ((size_t)8 << 20)   /* of staged input, about, else */
#define LARGE 16                         /* channels on both sides from which tiles of 6x6 serve */
#define DEPTH 64                         /* input channels of a panel of weights */
#define PAD 16 /* floats that keep the planes from falling on the same cache sets */

struct plan {
    bool fused;
    int side, depth; /* depth: input channels of a panel of weights */
    struct tiling g;
    struct pillars pillars;
    size_t vs, vp, up, mp;
    size_t u, v, m, slots, private, bytes;
};

static struct plan plan(const struct source *s, const struct sink *out)
{
    struct plan p = {.side = min_int(s->cp, out->cp) >= LARGE && large_tiles_pay(s) ? 6 : 4};
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
    const size_t rows = (size_t)p.pillars.tiles * (size_t)p.pillars.layers;
    p.vp = (rows + 2 * (size_t)p.pillars.tiles) * p.vs + PAD;
    p.mp = rows * width + PAD;
    p.up = 3 * (p.fused ? k * o : (size_t)p.depth * width) + PAD;
    p.slots = take(&used, (size_t)(s->n * p.pillars.across) * 2 * o, sizeof(double));
    size_t *u = p.fused ? &used : &mine, *v = p.fused ? &mine : &used;
    p.u = take(u, points * p.up, sizeof(float));
    p.v = take(v, points * p.vp, sizeof(float));
    p.m = take(&mine, points * p.mp, sizeof(float));
    p.private = used;
    p.bytes = mine;
    return p;
}

size_t KR_NAME(kr_conv3x3_volume_workspace)(const struct source *s, const struct sink *out,
                                            int threads)
{
    const struct plan p = plan(s, out);
    return p.private + (size_t)threads * p.bytes;
}

/* Of one slot `count` tiles from t on. */
static void slot_input(const struct source *s, const struct tiling *g, const struct layers *l,
                       int slot, int t, int count, int c0, int c1, float *v, size_t vs, size_t ps)
{
    const int z = l->z - 1 + slot;
    v += (size_t)(slot * l->count + t) * vs;
    if (z >= -s->before && z < l->d + s->after)
        KR_NAME(kr_winograd_input)
    (s, g, layers_tile(l, g, s->before + slot - 1) + t, count, c0, c1, v, vs, ps);
    else for (int p = 0; p < POINTS(g->m); p++)
        memset(v + (size_t)p * ps, 0, (size_t)count * vs * sizeof *v);
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
static void output(const struct sink *out, const struct block *b, const struct plan *p,
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

static void fused(const struct source *s, const struct filters *f, const struct sink *out,
                  const struct plan *p, int threads, char *ws)
{
    const int blocks = sink_blocks(out);
    float *u = (float *)(ws + p->u);
    double *slots = (double *)(ws + p->slots);
    struct queue queue = {.tasks = p->pillars.count, .threads = threads};
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p->private + (size_t)omp_get_thread_num() * p->bytes;
        float *v = (float *)(mine + p->v), *m = (float *)(mine + p->m);
#pragma omp for schedule(static)
        for (int i = 0; i < 3 * blocks; i++) {
            const struct block b = sink_block(out, i / 3);
            const struct filters one = slice_of(f, i % 3);
            const size_t at = 3 * (size_t)(b.part->first + b.o) + (size_t)(i % 3 * b.width);
            KR_NAME(kr_winograd_weights)
            (p->side, s, &one, &b, 0, s->cp, u + at * (size_t)s->cp, p->up);
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
                    KR_NAME(kr_winograd_products)
                    (&p->g, &b, l.deep * l.count, 3, s->cp, v, p->vs, (size_t)l.count * p->vs,
                     p->vp, u + 3 * (size_t)(b.part->first + b.o) * (size_t)s->cp, p->up, m, p->mp,
                     MK_SET, &ahead);
                    output(out, &b, p, &l, m, slots);
                }
            }
            if (!early)
                next = queue_take(&queue);
        }
    }
}

static void panel(const struct source *s, const struct filters *f, const struct sink *out,
                  const struct plan *p, int threads, char *ws)
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
    const struct plan p = plan(s, out);
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
