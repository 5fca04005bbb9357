/* 3x3x3 convolution by Winograd, F(6x6,3x3) or F(4x4,3x3) in the plane and F(4,3) or F(2,3) along
 * z: each slice's tiles are transformed once, and each group of four slices of results takes six
 * products of what is made of the six slices that it reaches, instead of twelve; a pair four
 * instead of six.
 *
 * A task is a pillar: some tiles of each slice, from the first slice to the last, or where pillars
 * are few to a part of them. It walks along z by layers, so many that their transforms stay in its
 * cache; the transforms of the last two slices move on to the next layers. Products of a point run
 * over all tiles of the layers at once, as groups are rows of one matrix.
 *
 * Where the transformed weights would not stay in cache, or pillars are too few, or take more of
 * the weights between them than all transforms are, layers are whole slices, transformed by all
 * threads, and tasks are blocks of output channels, as `panel` of conv3x3_winograd.c has them; but
 * for the first, with weights of all input channels at once, so that a sum has the same order
 * either way.
 *
 * A result depends on the slices of its group alone, or of a pair on the three that it is made of,
 * and groups are those of the volume: it is the same bytes in every window that holds it and these.
 */
#include "lib/kernels/simd/winograd.h"

#define FUSED_WEIGHTS ((size_t)10 << 20) /* of transformed weights, at most, for pillars */
#define STAGED_BYTES ((size_t)8 << 20)   /* of staged input, about, else */
#define LARGE 16                         /* channels on both sides from which tiles of 6x6 serve */
#define ROWS 6                           /* of products, of which groups should make multiples */
#define NARROW_ROWS 8                    /* the same of 16 columns */
#define DEPTH 64                         /* input channels of a panel of weights */
#define PLANES(R) ((R) + 2)              /* of transformed weights: products of R slices */
#define PAD 16 /* floats that keep the planes from falling on the same cache sets */

struct division {
    bool fused;
    int side, depth; /* depth: input channels of a panel of weights */
    struct tiling g;
    struct pillars pillars;
    size_t vs, vp, up, mp, xs;
    size_t u, v, m, x, slots, private, bytes;
};

/* large_tiles_pay, where weights are made and moved for each run of layers, too: it costs as much
 * as so many rows of their products. Whatever the window, layers are taken as two groups. */
static bool large_pay(const struct source *s)
{
    enum { ROWS_OF_WEIGHTS = 40 };
    const struct tiling small = tiling(s, 4, 1), large = tiling(s, 6, 1);
    const int groups = 2;
    return POINTS(6) * (groups * large.down * large.across + ROWS_OF_WEIGHTS) <=
           POINTS(4) * (groups * small.down * small.across + ROWS_OF_WEIGHTS);
}

static struct division divide(const struct source *s, const struct sink *out)
{
    struct division p = {.side = min_int(s->cp, out->cp) >= LARGE && large_pay(s) ? 6 : 4};
    const size_t k = (size_t)s->cp, o = (size_t)out->cp, width = o < BLOCK ? o : BLOCK;
    const size_t points = (size_t)POINTS(p.side), tile = points * sizeof(float);
    size_t used = 0, mine = 0;
    p.g = tiling(s, p.side, 1);
    p.vs = k % 256 ? k : k + PAD;
    /* What a pillar costs is its weights once more, from beyond the cache: those that have many are
     * wider, though their transforms then leave it, too. */
    const size_t weights = (size_t)PLANES(s->group) * tile * k * o, wide = weights / 3 * 2;
    p.pillars = pillars(s, &p.g, wide > ROOM ? wide : ROOM, tile * k, tile * width,
                        width < 32 ? NARROW_ROWS : ROWS);
    const bool light = 3 * tile * k * o <= FUSED_WEIGHTS;
    p.depth = light ? s->cp : min_int(s->cp, DEPTH);
    const size_t blocks = (size_t)sink_blocks(out), staged = tile * k * (size_t)p.g.count;
    const bool few = blocks > 1 && (size_t)p.pillars.count * weights > (blocks + 1) * staged;
    p.fused = light && p.pillars.count >= PILLARS / 2 && !few;
    if (!p.fused)
        p.pillars =
            slabs(s, &p.g, (int)(STAGED_BYTES / (tile * k * (size_t)p.g.count / (size_t)s->n + 1)));
    const size_t tiles = (size_t)p.pillars.tiles, layers = (size_t)p.pillars.layers;
    const size_t planes = (size_t)PLANES(s->group),
                 rows = planes * tiles * layers / (size_t)s->group;
    p.vp = (layers + 2) * tiles * p.vs + PAD;
    p.mp = layers * tiles * width + PAD;
    p.up = planes * (p.fused ? k * o : (size_t)p.depth * width) + PAD;
    p.xs = (size_t)p.depth % 256 ? (size_t)p.depth : (size_t)p.depth + PAD;
    p.slots = take(&used, (size_t)(s->n * p.pillars.across) * 2 * o, sizeof(double));
    size_t *u = p.fused ? &used : &mine, *v = p.fused ? &mine : &used;
    p.u = take(u, points * p.up, sizeof(float));
    p.v = take(v, points * p.vp, sizeof(float));
    p.m = take(&mine, points * p.mp, sizeof(float));
    p.x = take(&mine, rows * (p.xs + width), sizeof(float));
    p.private = used;
    p.bytes = mine;
    return p;
}

/* For windows that begin anywhere in a group. */
size_t KR_NAME(kr_conv3x3_volume_workspace)(const struct source *s, const struct sink *out,
                                            int threads)
{
    struct source from = *s;
    size_t most = 0;
    for (from.phase = 0; from.phase < s->group; from.phase++) {
        const struct division p = divide(&from, out);
        const size_t bytes = p.private + (size_t)threads * p.bytes;
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* Of one slot `count` tiles from t on; slices that are not there are zero. */
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
    for (int i = layers_from(l); i < layers_to(l); i++) {
        const int slice = l->n * l->d + l->z + i;
        double *slot = slots + ((size_t)slice * (size_t)p->pillars.across + (size_t)l->pillar) * 2 *
                                   (size_t)out->cp;
        KR_NAME(kr_winograd_output)
        (out, b, &p->g, layers_tile(l, &p->g, i), l->count, -1,
         m + (size_t)(i * l->count) * (size_t)b->width, (size_t)b->width, p->mp, slot);
    }
}

/* --- groups of slices ----------------------------------------------------------------------------
 * F(2,3): of slices d0..d3 and weights g0..g2 the results are m0 + (m1 + m2) and m1 - m2 - m3,
 *
 *     m0 = (d0 - d2) g0, m1 = (d1 + d2) (g0 + g1 + g2) / 2, m2 = (d2 - d1) (g0 - g1 + g2) / 2,
 *     m3 = (d1 - d3) g2.
 *
 * So either result needs three products, of the three slices that it is made of. F(4,3): as in the
 * plane (winograd.h). */

/* Planes 0, 1 and the last of a block's weights at a point, g0, g1 and g2, become all. */
INLINE void group_weights(const int R, float *u, size_t plane)
{
    for (size_t i = 0; i < plane; i += VL) {
        const vf g0 = vload(u + i), g1 = vload(u + plane + i);
        const vf g2 = vload(u + (size_t)(PLANES(R) - 1) * plane + i);
        if (R == 2) {
            const vf s = 0.5f * (g0 + g2), h = 0.5f * g1;
            vstore(u + plane + i, s + h);
            vstore(u + 2 * plane + i, s - h);
        } else {
            vf o[PLANES(4)];
            g3(4, g0, g1, g2, o);
            vstore_row(PLANES(4), u + i, plane, o);
        }
    }
}

static void weights(int group, float *u, size_t plane)
{
    if (group == 4)
        group_weights(4, u, plane);
    else
        group_weights(2, u, plane);
}

/* `rows` rows of `size` floats, of each of a group's slices, `slice` floats apart, to the operands
 * of its products, `next` floats apart. */
INLINE void group_operands(const int R, int rows, int size, const float *d, size_t vs, size_t slice,
                           float *x, size_t xs, size_t next)
{
    for (int t = 0; t < rows; t++, d += vs, x += xs)
        for (int i = 0; i < size; i += VL) {
            vf e[PLANES(4)], o[PLANES(4)];
            vload_row(PLANES(R), d + i, slice, e);
            if (R == 2) {
                o[0] = e[0] - e[2];
                o[1] = e[1] + e[2];
                o[2] = e[2] - e[1];
                o[3] = e[1] - e[3];
            } else {
                bt(4, e, o);
            }
            vstore_row(PLANES(R), x + i, next, o);
        }
}

/* The results of a group's slices that there are, from `from` up to `to`, `size` floats of each. */
INLINE void group_results(const int R, size_t size, const float *y, size_t next, int from, int to,
                          float *m, bool more)
{
    for (size_t j = 0; j < size; j += VL) {
        vf e[PLANES(4)], o[4];
        vload_row(PLANES(R), y + j, next, e);
        if (R == 2) {
            o[0] = e[0] + (e[1] + e[2]);
            o[1] = e[1] - e[2] - e[3];
        } else {
            at(4, e, o);
        }
        UNROLL(4)
        for (int i = 0; i < R; i++) {
            if (i < from || i >= to)
                continue;
            float *to_m = m + (size_t)i * size + j;
            vstore(to_m, more ? o[i] + vload(to_m) : o[i]);
        }
    }
}

/* The results of layers at a point from k channels, or with `more` added to those there are. */
INLINE void group_point(const int R, const struct division *p, const struct block *b,
                        const struct layers *l, int k, const float *v, const float *u, float *x,
                        float *m, bool more)
{
    const bool flat = p->vs == (size_t)k && p->xs == (size_t)k;
    const int rows = flat ? 1 : l->count, size = flat ? k * l->count : k, groups = l->deep / R;
    const size_t slice = (size_t)l->count * p->vs, si = (size_t)l->count * p->xs;
    const size_t so = (size_t)(l->count * b->width);
    const size_t ni = (size_t)groups * si, no = (size_t)groups * so;
    float *y = x + PLANES(R) * ni;
    for (int i = 0; i < groups; i++)
        group_operands(R, rows, size, v + (size_t)(i * R) * slice, p->vs, slice, x + (size_t)i * si,
                       p->xs, ni);
    for (int q = 0; q < PLANES(R); q++)
        for (int o = 0, nr; o < b->width; o += nr) {
            nr = mk_panel(o, b->width);
            const struct mk a = {.rows = groups * l->count,
                                 .nr = nr,
                                 .runs = 1,
                                 .k = k,
                                 .a = x + (size_t)q * ni,
                                 .at = p->xs,
                                 .b = u + (size_t)(q * b->width + o) * (size_t)k,
                                 .bk = (size_t)nr,
                                 .c = y + (size_t)q * no + o,
                                 .ct = (size_t)b->width,
                                 .into = MK_SET};
            KR_NAME(kr_winograd_product)(&a);
        }
    for (int i = 0; i < groups; i++)
        group_results(R, so, y + (size_t)i * so, no, max_int(0, -l->z - i * R),
                      min_int(R, l->d - l->z - i * R), m + (size_t)(i * R) * so, more);
}

static void point(const struct division *p, const struct block *b, const struct layers *l, int k,
                  const float *v, const float *u, float *x, float *m, bool more)
{
    if (l->group == 4)
        group_point(4, p, b, l, k, v, u, x, m, more);
    else
        group_point(2, p, b, l, k, v, u, x, m, more);
}

/* --- schedules -------------------------------------------------------------------------------- */

static void fused(const struct source *s, const struct filters *f, const struct sink *out,
                  const struct division *p, int threads, char *ws)
{
    const int blocks = sink_blocks(out), planes = PLANES(s->group);
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
            const int plane = i % 3 == 2 ? planes - 1 : i % 3;
            const size_t to = (size_t)(planes * (b.part->first + b.o) + plane * b.width);
            KR_NAME(kr_winograd_weights)(p->side, s, &one, &b, 0, s->cp, u + to * k, p->up);
        }
#pragma omp for schedule(static)
        for (int i = 0; i < POINTS(p->side); i++)
            for (int j = 0; j < blocks; j++) {
                const struct block b = sink_block(out, j);
                weights(s->group,
                        u + (size_t)i * p->up + (size_t)(planes * (b.part->first + b.o)) * k,
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
                    const int from = layers_from(&l);
                    struct ahead ahead = {.slices = layers_to(&l) - from};
                    ahead_sink(&ahead, b.part, &p->g, layers_tile(&l, &p->g, from), l.count, b.o,
                               b.width);
                    if (i == 0 && then.deep)
                        ahead_layers(&ahead, s, &p->g, &then, 0, s->cp);
                    const float *w = u + (size_t)(planes * (b.part->first + b.o)) * k;
                    for (size_t q = 0; q < (size_t)POINTS(p->side); q++) {
                        ahead_fetch(&ahead, &p->g);
                        point(p, &b, &l, s->cp, v + q * p->vp, w + q * p->up, x, m + q * p->mp,
                              false);
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
    const int blocks = sink_blocks(out), planes = PLANES(s->group);
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
                    for (int k = 0; k < s->cp; k += p->depth) {
                        const int depth = min_int(p->depth, s->cp - k);
                        const size_t plane = (size_t)depth * (size_t)b.width;
                        for (int r = 0; r < 3; r++) {
                            const struct filters one = slice_of(f, r);
                            KR_NAME(kr_winograd_weights)
                            (p->side, s, &one, &b, k, k + depth,
                             u + (size_t)(r < 2 ? r : planes - 1) * plane, p->up);
                        }
                        for (size_t q = 0; q < (size_t)POINTS(p->side); q++) {
                            weights(s->group, u + q * p->up, plane);
                            point(p, &b, &l, depth, v + q * p->vp + k, u + q * p->up, x,
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
