/* tiles.h - maps cut into tiles of m x m results: where they lie, and fetching them ahead. */
#ifndef TILES_H
#define TILES_H

#include "lib/kernels/simd/conv3x3.h"

#define SIDE(M) ((M) + 2)
#define POINTS(M) (SIDE(M) * SIDE(M)) /* products of a tile */
#define SIDE_MOST SIDE(6)

/* Where tile t of a map lies: sample, first output row and column. */
struct tile {
    int n, y, x;
};

/* A task takes whole cells of tiles: where sums of each sample are wanted, up to `cell` tiles of
 * one sample, that have a slot of their own, so that a sample's sums are its alone; else single
 * ones. */
struct tiling {
    int m, h, w, down, across, count; /* m: side of a tile; count: of all samples */
    int cell, per, cells;             /* of a sample, of all */
};

INLINE struct tiling tiling(const struct source *s, int m, int cell)
{
    struct tiling t = {m, s->h, s->w, (s->h + m - 1) / m, (s->w + m - 1) / m, 0, 0, 0, 0};
    t.count = s->n * t.down * t.across;
    t.cell = min_int(cell, t.down * t.across);
    t.per = (t.down * t.across + t.cell - 1) / t.cell;
    t.cells = s->n * t.per;
    return t;
}

/* The first tile of cell c, after the last of the one before. */
INLINE int cell_start(const struct tiling *g, int c)
{
    const int tiles = g->down * g->across;
    return c / g->per * tiles + min_int(tiles, c % g->per * g->cell);
}

/* Tiles of a cell, at most, where sums of each sample are wanted: tasks of `most` are full of them.
 */
INLINE int cell_tiles(int most)
{
    return most % 16 ? 6 : 16;
}

/* Whether tiles of 6x6 need at least a tenth less products than tiles of 4x4: at full tiles it is
 * 64/36 against 36/16, a fifth. */
INLINE bool large_tiles_pay(const struct source *s)
{
    struct tiling small = tiling(s, 4, 1), large = tiling(s, 6, 1);
    return 10L * POINTS(6) * large.down * large.across <=
           9L * POINTS(4) * small.down * small.across;
}

INLINE struct tile tile_at(const struct tiling *g, int t)
{
    int r = t / g->across;
    return (struct tile){r / g->down, r % g->down * g->m, t % g->across * g->m};
}

/* The number of its first pixel. */
INLINE size_t tile_first(const struct tiling *g, const struct tile *t)
{
    return ((size_t)t->n * (size_t)g->h + (size_t)t->y) * (size_t)g->w + (size_t)t->x;
}

INLINE void tile_next(const struct tiling *g, struct tile *t)
{
    t->x += g->m;
    if (t->x >= g->w) {
        t->x = 0;
        t->y += g->m;
        if (t->y >= g->h) {
            t->y = 0;
            t->n++;
        }
    }
}

/* --- volumes -------------------------------------------------------------------------------------
 * Tiles of slices walked along z, by tasks that are pillars: up to `tiles` tiles of each slice, of
 * one volume's slices or, where there are `runs`, of a run of them. A pillar is walked by layers,
 * up to so many slices: whole groups of those whose results are made together, of which the first
 * may begin before the volume, and the last end behind it. */
#define ROOM ((size_t)640 << 10) /* of what a pillar keeps in cache, about */
#define LAYERS 8                 /* at most, a multiple of all groups */
#define PILLARS 16               /* at least, where z can be cut */

struct pillars {
    int d, tiles, slice, across, runs, layers, count; /* slice: tiles of one; across: pillars */
    int lead, group, groups; /* lead: slices of the first group that are before the volume */
};

/* Layers of `layers` slices at most, as even as can be, and pillars of `tiles` tiles. */
INLINE struct pillars pillars_of(const struct source *s, const struct tiling *g, int tiles,
                                 int layers, int tasks)
{
    struct pillars p = {.d = s->d, .slice = g->down * g->across};
    p.group = s->group;
    p.lead = s->phase;
    p.groups = (p.lead + p.d + p.group - 1) / p.group;
    const int most = max_int(1, layers / p.group), steps = (p.groups + most - 1) / most;
    p.layers = (p.groups + steps - 1) / steps * p.group;
    p.across = (p.slice + tiles - 1) / tiles;
    p.tiles = tiles;
    p.runs = max_int(1, min_int(steps, tasks / p.across));
    p.count = s->n / p.d * p.runs * p.across;
    return p;
}

/* A tile's transform takes v bytes, and its sums m. As many tiles as have room, but so many that
 * the products of a layer's groups are whole tiles of `rows` rows; and so few that there are
 * pillars for some threads. */
INLINE struct pillars pillars(const struct source *s, const struct tiling *g, size_t room, size_t v,
                              size_t m, int rows)
{
    const int deep = (s->phase + s->d + s->group - 1) / s->group * s->group;
    const int layers = min_int(LAYERS, deep), groups = layers / s->group;
    const int fit = (int)(room / ((size_t)(layers + 2) * v + (size_t)layers * m));
    const int unit = max_int(1, rows / groups);
    const int tiles = max_int(unit, (fit + unit / 2) / unit * unit);
    const int most = max_int(unit, g->count / s->d / (PILLARS / 2));
    return pillars_of(s, g, min_int(min_int(tiles, most), g->down * g->across), LAYERS, PILLARS);
}

/* The same of whole slices, one volume after the other. */
INLINE struct pillars slabs(const struct source *s, const struct tiling *g, int layers)
{
    return pillars_of(s, g, g->down * g->across, layers, 1);
}

/* `deep` slices from z on of a pillar, `count` tiles from t0 on of each; z may be before the
 * volume, and their end behind it. `known`: how many slices the layers before had, whose last two
 * transforms are the first two here; 0: none. */
struct layers {
    int n, pillar, t0, count, d, z, end, deep, known, most, group;
};

INLINE void layers_cut(struct layers *l)
{
    const int left = (l->end - l->z) / l->group, most = l->most / l->group;
    const int steps = (left + most - 1) / most;
    l->deep = left ? (left + steps - 1) / steps * l->group : 0;
}

INLINE struct layers layers_first(const struct pillars *p, int number)
{
    struct layers l = {
        .d = p->d, .most = p->layers, .group = p->group, .pillar = number % p->across};
    const int run = number / p->across % p->runs;
    l.n = number / p->across / p->runs;
    l.t0 = l.pillar * p->tiles;
    l.count = min_int(p->tiles, p->slice - l.t0);
    l.z = share(p->groups, run, p->runs) * p->group - p->lead;
    l.end = share(p->groups, run + 1, p->runs) * p->group - p->lead;
    layers_cut(&l);
    return l;
}

INLINE void layers_next(struct layers *l)
{
    l->known = l->deep;
    l->z += l->deep;
    layers_cut(l);
}

/* Their slices that the volume has: the first, and the number behind the last. */
INLINE int layers_from(const struct layers *l)
{
    return max_int(0, -l->z);
}

INLINE int layers_to(const struct layers *l)
{
    return min_int(l->deep, l->d - l->z);
}

/* The first tile of the layers' slice i. */
INLINE int layers_tile(const struct layers *l, const struct tiling *g, int i)
{
    return (l->n * l->d + l->z + i) * g->down * g->across + l->t0;
}

/* --- prefetching ---------------------------------------------------------------------------------
 * While the products of a block of tiles run, memory is idle: what the transforms will touch next
 * is fetched then, a piece with each product. */

/* A walk over M rows of pixels of each tile of a block, of volumes in each of some slices. */
struct walk {
    const char *map, *first, *pixel; /* first: of this row */
    size_t step, size, row;          /* bytes from pixel to pixel, that are fetched, of a row */
    int width, left, rows, tiles;    /* pixels of a row, left of it; rows and tiles to come */
    int down;
    struct tile t, start; /* start, count: of the block */
    int count, slices;
    bool write;
};

struct ahead {
    struct walk walk[6];
    int walks, piece; /* pixels fetched with each product */
    int slices;       /* of the maps that are added; 0: one */
};

/* Goes to the tiles that begin in the walk's row of tiles, from t on. */
INLINE void walk_run(struct walk *w, const struct tiling *g)
{
    int run = min_int(w->tiles, (g->w - w->t.x + g->m - 1) / g->m), y = w->t.y + w->down;
    w->tiles -= run;
    w->width = w->left = min_int(g->m * run, g->w - w->t.x);
    w->rows = max_int(0, min_int(g->m, g->h - y));
    w->first = w->pixel =
        w->map +
        (((size_t)w->t.n * (size_t)g->h + (size_t)y) * (size_t)g->w + (size_t)w->t.x) * w->step;
    w->t.x = 0;
    w->t.y += g->m;
    if (w->t.y >= g->h)
        w->t.y = 0, w->t.n++;
}

/* Goes to the same tiles of the next slice, if there is one. */
INLINE bool walk_deeper(struct walk *w)
{
    if (--w->slices <= 0)
        return false;
    w->start.n++;
    w->t = w->start;
    w->tiles = w->count;
    return true;
}

/* Of `count` tiles from t0 on, the rows from row `down` below a tile's first: `size` bytes from
 * `at` on of each pixel of a map whose pixels have `bytes` bytes. */
INLINE void ahead_map(struct ahead *a, const struct tiling *g, int t0, int count, int down,
                      const void *map, size_t bytes, size_t at, size_t size, bool write)
{
    count = min_int(count, g->count - t0);
    if (count <= 0)
        return;
    struct walk *w = &a->walk[a->walks++];
    *w = (struct walk){.map = (const char *)map + at,
                       .step = bytes,
                       .size = size,
                       .row = (size_t)g->w * bytes,
                       .tiles = count,
                       .down = down,
                       .t = tile_at(g, t0),
                       .start = tile_at(g, t0),
                       .count = count,
                       .slices = max_int(1, a->slices),
                       .write = write};
    const int pixels = g->m * g->m * count * w->slices;
    walk_run(w, g);
    a->piece = max_int(a->piece, (pixels + POINTS(g->m) - 1) / POINTS(g->m));
}

INLINE void walk_fetch(struct walk *w, const struct tiling *g, int pixels)
{
    while (pixels > 0) {
        if (!w->left) {
            w->first = w->pixel = w->first + w->row;
            w->left = w->width;
            w->rows--;
        }
        if (w->rows <= 0) {
            if (!w->tiles && !walk_deeper(w))
                return;
            walk_run(w, g);
            continue;
        }
        int n = min_int(pixels, w->left);
        const char *p = w->pixel;
        for (int i = 0; i < n; i++, p += w->step)
            for (size_t b = 0; b < w->size; b += 64) {
                if (w->write)
                    __builtin_prefetch(p + b, 1, 2);
                else
                    __builtin_prefetch(p + b, 0, 2);
            }
        w->pixel = p;
        w->left -= n;
        pixels -= n;
    }
}

/* With each product. */
INLINE void ahead_fetch(struct ahead *a, const struct tiling *g)
{
    for (int i = 0; i < a->walks; i++)
        walk_fetch(&a->walk[i], g, a->piece);
}

/* Channels c0..c1 of the concatenation. */
INLINE void ahead_source(struct ahead *a, const struct source *s, const struct tiling *g, int t0,
                         int count, int c0, int c1)
{
    for (int i = 0, first = 0; i < s->parts; i++) {
        size_t one = kr_dtype_size(s->in[i].dtype);
        int cp = kr_pad(s->in[i].c), from = max_int(c0 - first, 0), to = min_int(c1 - first, cp);
        if (from < to) {
            size_t bytes = (size_t)cp * one, at = (size_t)from * one;
            size_t size = (size_t)(to - from) * one;
            ahead_map(a, g, t0, count, 1, s->in[i].x, bytes, at, size, false);
            if (s->behind.k)
                ahead_map(a, g, t0, count, 1, s->behind.x, bytes, at, size, false);
        }
        first += cp;
    }
}

/* Channels o..o+width of a part. */
INLINE void ahead_sink(struct ahead *a, const struct sink_part *part, const struct tiling *g,
                       int t0, int count, int o, int width)
{
    size_t one = kr_dtype_size(part->dtype);
    if (part->kind == SINK_DX && part->act) {
        size_t x = kr_dtype_size(part->act->dtype);
        ahead_map(a, g, t0, count, 0, part->act->x, (size_t)part->cp * x, (size_t)o * x,
                  (size_t)width * x, false);
    }
    ahead_map(a, g, t0, count, 0, part->y, (size_t)part->cp * one, (size_t)o * one,
              (size_t)width * one, true);
}

/* What a pillar's layers will read that those before have not. */
INLINE void ahead_layers(struct ahead *a, const struct source *s, const struct tiling *g,
                         const struct layers *l, int c0, int c1)
{
    const int from = max_int(l->z + (l->known ? 1 : -1), -s->before);
    a->slices = min_int(l->z + l->deep + 1, l->d + s->after) - from;
    if (a->slices > 0)
        ahead_source(a, s, g, layers_tile(l, g, s->before + from - l->z), l->count, c0, c1);
}

/* --- sharing ---------------------------------------------------------------------------------- */

/* The tasks 0, 1, ... that the threads of a team share, `next` of them taken. Taking one before the
 * last is done tells what to fetch meanwhile; not when few are left, lest somebody wait for it. */
struct queue {
    int next, tasks, threads;
};

INLINE int queue_take(struct queue *q)
{
    return __atomic_fetch_add(&q->next, 1, __ATOMIC_RELAXED);
}

/* Whether the task after t should be taken already. */
INLINE bool queue_early(const struct queue *q, int t)
{
    return q->tasks - t > 2 * q->threads;
}

#endif
