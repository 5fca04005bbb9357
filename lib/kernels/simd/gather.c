/* gather.c - the engine of gather.h. It is one thing: how results are cut decides what is staged,
 * what the table says and how products run.
 *
 * A task stages a band of the source, activated, into memory of its own, so many rows (or slices,
 * or samples) that the band has some hundred results of each phase; a table
 * says where each result finds each of its taps; and the register-tiled product goes over results
 * by six and columns by 64, whatever the map's shape. A tap outside the source finds zeros, and
 * where it is outside for all six it is left out.
 *
 * Where channels are few, the taps of a row of the kernel are one contiguous run, and the source is
 * staged with zeros at both ends of its rows. Where bands are few, tasks share the columns. */
#include "lib/kernels/simd/gather.h"

#include "lib/kernels/simd/shuffle.h"

#define PIXELS 128                       /* of a band, at least, where it may grow */
#define ROWS 4                           /* of a band, likewise */
#define BAND_BYTES ((size_t)512 << 10)   /* of a staged band, as a rule */
#define MERGED 64                        /* channels from which a tap is a run of its own */
#define AHEAD 8                          /* pixels that are fetched before they are staged */
#define WEIGHT_BYTES ((size_t)256 << 10) /* of packed weights that a sweep over a band takes */
#define RUN 128                          /* pixels of a sum before it is added to the total */
#define TASKS 16                         /* at least, where shapes allow */
#define HIGH 64                          /* high channels of a task of the weights' gradient */
#define LOW 256                          /* low ones */
#define PARTIAL_BYTES ((size_t)64 << 20) /* of its sums, about */

/* --- geometry ------------------------------------------------------------------------------- */

static void axis_bounds(struct axis *a)
{
    for (int f = 0, first = 1; f < a->phases; f++) {
        const struct taps *t = &a->taps[f];
        if (!t->count)
            continue;
        const int last = t->first + (t->count - 1) * a->step;
        a->lo = first ? t->first : min_int(a->lo, t->first);
        a->hi = first ? last : max_int(a->hi, last);
        first = 0;
    }
}

struct gather KR_NAME(kr_gather_forward)(int n, const struct axis_shape s[3])
{
    struct gather g = {.n = n};
    for (int i = 0; i < 3; i++) {
        struct axis *a = &g.axis[i];
        assert(s[i].extent > 0 && s[i].kernel > 0 && s[i].kernel <= GATHER_KERNEL);
        assert(s[i].stride > 0 && s[i].stride <= GATHER_STRIDE && s[i].dilation > 0);
        assert(s[i].extent % s[i].stride == 0);
        *a = (struct axis){.from = s[i].before + s[i].extent + s[i].behind,
                           .to = s[i].extent / s[i].stride,
                           .kernel = s[i].kernel,
                           .phases = 1,
                           .mul = s[i].stride,
                           .step = s[i].dilation};
        a->taps[0] = (struct taps){s[i].before - s[i].padding, s[i].kernel, 0, 1};
        axis_bounds(a);
    }
    return g;
}

/* High position p sees low position q at the tap t of p + padding = q * stride + t * dilation. */
struct gather KR_NAME(kr_gather_backward)(int n, const struct axis_shape s[3])
{
    struct gather g = KR_NAME(kr_gather_forward)(n, s);
    for (int i = 0; i < 3; i++) {
        struct axis *a = &g.axis[i];
        const int stride = s[i].stride, d = s[i].dilation;
        assert(!s[i].before && !s[i].behind);
        int common = d; /* with the stride */
        while (stride % common || d % common)
            common--;
        a->from = s[i].extent / stride;
        a->to = s[i].extent;
        a->phases = stride;
        a->mul = 1;
        a->step = d / common;
        for (int f = 0; f < stride; f++) {
            struct taps t = {0};
            for (int k = 0; k < s[i].kernel; k++)
                if ((f + s[i].padding - k * d) % stride == 0) {
                    t.count++;
                    t.tap = k;
                    t.first = (f + s[i].padding - k * d) / stride;
                }
            t.tap_step = -(stride / common);
            a->taps[f] = t;
        }
        axis_bounds(a);
    }
    return g;
}

INLINE int axis_units(const struct axis *a)
{
    return a->to / a->phases;
}

/* Whether any result reads position p. */
static bool axis_reads(const struct axis *a, int p)
{
    for (int f = 0; f < a->phases; f++)
        for (int j = 0; j < a->taps[f].count; j++) {
            const int m = p - a->taps[f].first - j * a->step;
            if (m >= 0 && m % a->mul == 0)
                return true;
        }
    return false;
}

INLINE int kernel_taps(const struct gather *g)
{
    return g->axis[0].kernel * g->axis[1].kernel * g->axis[2].kernel;
}

/* One phase of all three axes. */
struct phase {
    int at[3], count; /* count: of taps */
    const struct taps *taps[3];
};

static int phases(const struct gather *g)
{
    return g->axis[0].phases * g->axis[1].phases * g->axis[2].phases;
}

static struct phase phase_at(const struct gather *g, int f)
{
    struct phase p = {.count = 1};
    for (int i = 2; i >= 0; i--) {
        p.at[i] = f % g->axis[i].phases;
        f /= g->axis[i].phases;
        p.taps[i] = &g->axis[i].taps[p.at[i]];
        p.count *= p.taps[i]->count;
    }
    return p;
}

/* --- bands ---------------------------------------------------------------------------------- */

/* Channels that are staged together, of one part or two. */
struct channels {
    int slabs, c;
    struct {
        int part, first, count;
    } slab[2];
};

/* How results are cut into bands, and how the source of one is staged: pixels of c floats, rows of
 * `width` pixels of which the first `left` are zeros, `zeros` floats before them. */
struct bands {
    int limit[3], bands[3], most[3]; /* samples, slices, rows (units of a phase) */
    int count, pixels;               /* bands; pixels of a band's phase, at most */
    bool merged;
    int c, left, width;
    size_t zeros, floats;
};

/* Source positions that `units` results next to each other read, at most. */
static int axis_span(const struct axis *a, int units)
{
    return min_int(a->from, (units - 1) * a->mul + a->hi - a->lo + 1);
}

static size_t band_floats(const struct gather *g, const struct bands *k, const int u[3])
{
    return (size_t)u[0] * (size_t)axis_span(&g->axis[0], u[1]) *
           (size_t)axis_span(&g->axis[1], u[2]) * (size_t)k->width * (size_t)k->c;
}

static struct bands bands_of(const struct gather *g, int c, int pixels, bool merged)
{
    const struct axis *x = &g->axis[2];
    const int wide = axis_units(x);
    struct bands k = {.limit = {g->n, axis_units(&g->axis[0]), axis_units(&g->axis[1])},
                      .merged = merged,
                      .c = c};
    int u[3] = {1, 1, 1};
    k.left = merged ? max_int(0, -x->lo) : 0;
    k.width = merged ? k.left + max_int(x->from, (wide - 1) * x->mul + x->hi + 1) : x->from;
    for (int i = 2; i >= 0; i--) {
        while (u[i] < k.limit[i] &&
               (u[0] * u[1] * u[2] * wide < pixels || (i == 2 && u[2] < ROWS))) {
            u[i]++;
            if (band_floats(g, &k, u) * sizeof(float) > BAND_BYTES) {
                u[i]--;
                break;
            }
        }
        if (u[i] < k.limit[i])
            break;
    }
    k.count = 1;
    k.pixels = wide;
    for (int i = 0; i < 3; i++) {
        k.bands[i] = (k.limit[i] + u[i] - 1) / u[i];
        k.most[i] = (k.limit[i] + k.bands[i] - 1) / k.bands[i];
        k.count *= k.bands[i];
        k.pixels *= k.most[i];
    }
    k.zeros = (size_t)kr_pad(c * (merged ? x->kernel : 1));
    k.floats = k.zeros + band_floats(g, &k, k.most) + KR_LANES;
    assert(k.floats < MK_NONE);
    return k;
}

struct band {
    int from[3], to[3];   /* samples, slices, rows (units) */
    int z, y, deep, high; /* the source's: first slice and row, how many */
};

static struct band band_at(const struct gather *g, const struct bands *k, int number)
{
    struct band b;
    for (int i = 2; i >= 0; i--) {
        const int at = number % k->bands[i];
        number /= k->bands[i];
        b.from[i] = share(k->limit[i], at, k->bands[i]);
        b.to[i] = share(k->limit[i], at + 1, k->bands[i]);
    }
    const struct axis *z = &g->axis[0], *y = &g->axis[1];
    b.z = max_int(0, b.from[1] * z->mul + z->lo);
    b.y = max_int(0, b.from[2] * y->mul + y->lo);
    b.deep = max_int(0, min_int(z->from, (b.to[1] - 1) * z->mul + z->hi + 1) - b.z);
    b.high = max_int(0, min_int(y->from, (b.to[2] - 1) * y->mul + y->hi + 1) - b.y);
    return b;
}

INLINE int band_pixels(const struct gather *g, const struct band *b)
{
    return (b->to[0] - b->from[0]) * (b->to[1] - b->from[1]) * (b->to[2] - b->from[2]) *
           axis_units(&g->axis[2]);
}

/* --- staging -------------------------------------------------------------------------------- */

INLINE void ahead_fetch(const struct kr_in *in, size_t i)
{
    i += AHEAD * (size_t)kr_pad(in->c);
    __builtin_prefetch((const char *)in->x + i * kr_dtype_size(in->dtype));
}

INLINE void pixels_as(const struct source *s, const struct channels *ch, const enum reading how,
                      int slice, size_t pixel, int count, float *to)
{
    const struct kr_in *in = &s->in[ch->slab[0].part];
    if (ch->slabs == 1 && ch->c <= VL) {
        const size_t cp = (size_t)kr_pad(in->c), first = (size_t)ch->slab[0].first;
        const struct reader r = reader_at(s, in, how, slice, (int)first);
        for (size_t i = pixel * cp + first, end = i + (size_t)count * cp; i < end; i += cp) {
            ahead_fetch(in, i);
            vstore(to, read_value(&r, how, i));
            to += ch->c;
        }
        return;
    }
    for (int x = 0; x < count; x++, pixel++)
        for (int i = 0; i < ch->slabs; i++) {
            const int first = ch->slab[i].first, wide = ch->slab[i].count;
            in = &s->in[ch->slab[i].part];
            const size_t at = pixel * (size_t)kr_pad(in->c) + (size_t)first;
            for (int k = 0; k < wide; k += VL) {
                const struct reader r = reader_at(s, in, how, slice, first + k);
                ahead_fetch(in, at + (size_t)k);
                vstore(to + k, read_value(&r, how, at + (size_t)k));
            }
            to += wide;
        }
}

/* `count` pixels of a slice from pixel number `pixel` on. Lanes past the channels are overwritten
 * by what follows. */
static void pixels_read(const struct source *s, const struct channels *ch, int slice, size_t pixel,
                        int count, float *to)
{
    const enum reading how = reading(s, &s->in[ch->slab[0].part]);
    if (ch->slabs == 2 && how != reading(s, &s->in[1])) {
        for (size_t p = pixel; p < pixel + (size_t)count; p++)
            for (int i = 0; i < 2; i++) {
                const struct channels one = {1, ch->slab[i].count, {ch->slab[i]}};
                pixels_read(s, &one, slice, p, 1, to);
                to += one.c;
            }
        return;
    }
    if (how == READ_PLAIN)
        pixels_as(s, ch, READ_PLAIN, slice, pixel, count, to);
    else if (how == READ_AFFINE)
        pixels_as(s, ch, READ_AFFINE, slice, pixel, count, to);
    else if (how == READ_LEAKY)
        pixels_as(s, ch, READ_LEAKY, slice, pixel, count, to);
    else if (how == READ_BF16)
        pixels_as(s, ch, READ_BF16, slice, pixel, count, to);
    else if (how == READ_BF16_LEAKY)
        pixels_as(s, ch, READ_BF16_LEAKY, slice, pixel, count, to);
    else
        pixels_as(s, ch, READ_BEHIND, slice, pixel, count, to);
}

static void stage(const struct gather *g, const struct source *s, const struct bands *k,
                  const struct channels *ch, const struct band *b, float *to)
{
    const struct axis *az = &g->axis[0], *ay = &g->axis[1];
    const int w = g->axis[2].from;
    const size_t c = (size_t)ch->c, left = (size_t)k->left * c, row = (size_t)k->width * c,
                 mid = (size_t)w * c;
    memset(to, 0, k->zeros * sizeof *to);
    to += k->zeros;
    for (int n = b->from[0]; n < b->to[0]; n++)
        for (int z = b->z; z < b->z + b->deep; z++)
            for (int y = b->y; y < b->y + b->high; y++, to += row) {
                const int slice = n * az->from + z;
                const size_t pixel = ((size_t)slice * (size_t)ay->from + (size_t)y) * (size_t)w;
                if (!axis_reads(az, z) || !axis_reads(ay, y))
                    continue;
                memset(to, 0, left * sizeof *to);
                assert(!s->in[0].planar || ch->c == s->in[0].c);
                if (s->in[0].planar)
                    planes_read(s->in, (size_t)az->from * (size_t)ay->from * (size_t)w, pixel,
                                (size_t)w, to + left, c);
                else
                    pixels_read(s, ch, slice, pixel, w, to + left);
                memset(to + left + mid, 0, (row - left - mid) * sizeof *to);
            }
}

INLINE int phase_runs(const struct bands *k, const struct phase *f)
{
    return k->merged ? f->taps[0]->count * f->taps[1]->count : f->count;
}

/* Where pixel p of a band finds the first value of run r in what was staged, 0 (zeros) where that
 * is outside: in tiles of `tile` pixels, run by run. */
static void offsets(const struct gather *g, const struct bands *k, int c, const struct band *b,
                    const struct phase *f, int tile, uint32_t *table)
{
    const struct axis *az = &g->axis[0], *ay = &g->axis[1], *ax = &g->axis[2];
    const struct taps *tz = f->taps[0], *ty = f->taps[1], *tx = f->taps[2];
    const int runs = phase_runs(k, f), wide = axis_units(ax), across = k->merged ? 1 : tx->count;
    const int tiles = (band_pixels(g, b) + tile - 1) / tile;
    uint32_t row[GATHER_KERNEL * GATHER_KERNEL];
    memset(table, 0, (size_t)tiles * (size_t)tile * (size_t)runs * sizeof *table);
    int lane = 0;
    for (int n = b->from[0]; n < b->to[0]; n++)
        for (int z = b->from[1]; z < b->to[1]; z++)
            for (int y = b->from[2]; y < b->to[2]; y++) {
                for (int i = 0, r = 0; i < tz->count; i++)
                    for (int j = 0; j < ty->count; j++, r++) {
                        const int pz = z * az->mul + tz->first + i * az->step - b->z;
                        const int py = y * ay->mul + ty->first + j * ay->step - b->y;
                        const bool in = pz >= 0 && pz < b->deep && py >= 0 && py < b->high;
                        row[r] =
                            !in ? 0
                                : (uint32_t)(k->zeros + ((size_t)((n - b->from[0]) * b->deep + pz) *
                                                             (size_t)b->high +
                                                         (size_t)py) *
                                                            (size_t)k->width * (size_t)c);
                    }
                for (int x = 0; x < wide; x++) {
                    uint32_t *at = table + lane;
                    for (int r = 0; r < tz->count * ty->count; r++)
                        for (int i = 0; i < across; i++, at += tile) {
                            const int px = x * ax->mul + tx->first + i * ax->step;
                            if (row[r] && (k->merged || (px >= 0 && px < ax->from)))
                                *at = row[r] + (uint32_t)((px + k->left) * c);
                        }
                    if (++lane == tile) {
                        lane = 0;
                        table += (size_t)tile * (size_t)runs;
                    }
                }
            }
}

/* --- weights ---------------------------------------------------------------------------------- */

/* VL rows, `stride` apart, of which `real` are there, from float q of `length` on: v[i] is column
 * q + i. Nothing is read from `end` on. */
INLINE void columns_load(const float *from, size_t stride, int real, size_t q, size_t length,
                         const float *end, vf v[VL])
{
    for (int l = 0; l < VL; l++) {
        const float *p = from + (size_t)l * stride + q;
        float part[VL] = {0};
        if (l >= real)
            v[l] = vset(0);
        else if (end - p >= VL)
            v[l] = vload(p);
        else
            v[l] = (memcpy(part, p, min_size(VL, length - q) * sizeof *p), vload(part));
    }
    vtranspose(v);
}

/* Where a tap's weights lie: `before` taps of phases before its own, whose `count` it is of. */
struct place {
    int before, count, index;
};

static void places(const struct gather *g, struct place place[GATHER_TAPS])
{
    const int ky = g->axis[1].kernel, kx = g->axis[2].kernel;
    for (int i = 0, before = 0; i < phases(g); i++) {
        const struct phase f = phase_at(g, i);
        for (int q = 0; q < f.count; q++) {
            const struct taps *z = f.taps[0], *y = f.taps[1], *x = f.taps[2];
            const int tz = z->tap + q / (y->count * x->count) * z->tap_step;
            const int ty = y->tap + q / x->count % y->count * y->tap_step;
            const int tx = x->tap + q % x->count * x->tap_step;
            place[(tz * ky + ty) * kx + tx] = (struct place){before, f.count, q};
        }
        before += f.count;
    }
}

/* The weights of source channels k0..k1 for a block of columns, to panels: for each phase, panel by
 * panel, [tap][channel][column]. */
static void pack(const struct gather *g, const struct source *s, const struct gather_weights *w,
                 const struct sink *out, const struct block *b, const struct place *place, int k0,
                 int k1, float *panels)
{
    const size_t taps = (size_t)kernel_taps(g), c = (size_t)s->c, cols = (size_t)out->cp;
    const size_t column = w->low ? taps : (size_t)w->high * taps;
    const size_t length = w->low ? taps : (size_t)(k1 - k0) * taps;
    const int first = b->part->real + b->o, at = b->part->first + b->o;
    for (int o = 0, nr; o < b->width; o += nr) {
        nr = mk_panel(o, b->width);
        for (int j = 0; j < nr; j += VL) {
            const int real = b->real - o - j;
            for (int k = k0; k < (w->low ? k1 : k0 + 1); k++) {
                const size_t row = (size_t)k * (w->low ? (size_t)w->high * taps : taps);
                const float *from = w->w + (size_t)(first + o + j) * column + row;
                for (size_t q = 0, i = (size_t)k, t = 0; q < length; q += VL) {
                    vf v[VL];
                    columns_load(from, column, real, q, length, w->end, v);
                    for (size_t l = 0; l < min_size(VL, length - q); l++) {
                        const struct place *p = &place[t];
                        vstore(panels +
                                   c * ((size_t)p->before * cols +
                                        (size_t)p->count * (size_t)(at + o)) +
                                   ((size_t)p->index * c + i) * (size_t)nr + j,
                               v[l]);
                        if (++t == taps) {
                            t = 0;
                            i++;
                        }
                    }
                }
            }
        }
    }
}

/* --- results ---------------------------------------------------------------------------------- */

struct division {
    struct bands bands;
    int blocks, groups; /* of columns */
    bool sums;
    size_t weights, slots, private, staged, table, tile, bytes;
};

/* Sums: for each slice of the result, one slot for each of its bands. */
INLINE size_t slots_count(const struct gather *g, const struct bands *k)
{
    return (size_t)g->n * (size_t)g->axis[0].to * (size_t)k->bands[2];
}

static struct division divide(const struct gather *g, const struct source *s,
                              const struct sink *out)
{
    struct division p = {.bands = bands_of(g, s->c, PIXELS, s->c < MERGED && g->axis[2].step == 1)};
    size_t used = 0, mine = 0, most = 1;
    p.blocks = sink_blocks(out);
    p.groups = min_int(p.blocks, (TASKS + p.bands.count - 1) / p.bands.count);
    for (int i = 0; i < out->parts; i++)
        p.sums = p.sums || out->part[i].sums;
    for (int i = 0; i < 3; i++) {
        int taps = 1;
        for (int f = 0; f < g->axis[i].phases; f++)
            taps = max_int(taps, g->axis[i].taps[f].count);
        most *= (size_t)taps;
    }
    const size_t pixels = (size_t)(p.bands.pixels + MK_ROWS - 1) / MK_ROWS * MK_ROWS;
    p.weights = take(&used, (size_t)kernel_taps(g) * (size_t)s->c * (size_t)out->cp, sizeof(float));
    p.slots = take(&used, slots_count(g, &p.bands) * 2 * (size_t)out->cp, sizeof(double));
    p.staged = take(&mine, p.bands.floats, sizeof(float));
    p.table = take(&mine, pixels * most, sizeof(uint32_t));
    p.tile = take(&mine, pixels * MK_NR, sizeof(float));
    p.private = used;
    p.bytes = mine;
    return p;
}

size_t KR_NAME(kr_gather_workspace)(const struct gather *g, const struct source *s,
                                    const struct sink *out, int threads)
{
    const struct division p = divide(g, s, out);
    return p.private + (size_t)threads * p.bytes;
}

/* A panel's results of one phase: columns o..o+nr of a block, pixel by pixel in `tile`. */
INLINE void results_put(const struct gather *g, const struct band *b, const struct phase *f,
                        const struct sink *out, const struct block *k, const enum sink_kind kind,
                        int o, int nr, const float *tile, double *slots, int bands)
{
    const struct axis *az = &g->axis[0], *ay = &g->axis[1], *ax = &g->axis[2];
    const int wide = axis_units(ax), high = b->to[2] - b->from[2];
    const size_t cp = (size_t)k->part->cp, row = (size_t)ax->to * cp;
    for (int n = b->from[0]; n < b->to[0]; n++)
        for (int z = b->from[1]; z < b->to[1]; z++) {
            const int slice = n * az->to + z * az->phases + f->at[0];
            const size_t first =
                ((size_t)slice * (size_t)ay->to + (size_t)(b->from[2] * ay->phases + f->at[1])) *
                    row +
                (size_t)f->at[2] * cp;
            for (int j = 0; j < nr; j += VL) {
                const struct lane l = sink_lane(k->part, kind, k->o + o + j, slice);
                const float *from = tile + j;
                for (int y = 0; y < high; y++) {
                    size_t i = first + (size_t)(y * ay->phases) * row + (size_t)(k->o + o + j);
                    vf sum[2] = {{0}};
                    for (int x = 0; x < wide; x++, i += (size_t)ax->phases * cp, from += nr)
                        sink_put(k->part, kind, &l, i, vload(from), sum);
                    sink_sum(out, k->part, slots + (size_t)(slice * bands) * 2 * (size_t)out->cp,
                             k->o + o + j, sum);
                }
            }
            tile += (size_t)high * (size_t)wide * (size_t)nr;
        }
}

/* All results of one phase, blocks b0..b1. */
static void phase_run(const struct gather *g, const struct bands *k, const struct band *b,
                      const struct phase *f, int before, const struct sink *out, int b0, int b1,
                      const float *panels, const float *staged, uint32_t *table, float *tile,
                      double *slots)
{
    const int runs = phase_runs(k, f), c = k->c, terms = k->merged ? f->taps[2]->count * c : c;
    const int tiles = (band_pixels(g, b) + MK_ROWS - 1) / MK_ROWS;
    offsets(g, k, c, b, f, MK_ROWS, table);
    for (int i = 0; i < tiles * runs; i++) {
        uint32_t any = 0;
        for (int t = 0; t < MK_ROWS; t++)
            any |= table[i * MK_ROWS + t];
        if (!any)
            table[i * MK_ROWS] = MK_NONE;
    }
    for (int i = b0; i < b1; i++) {
        const struct block block = sink_block(out, i);
        for (int o = 0, nr; o < block.width; o += nr) {
            nr = mk_panel(o, block.width);
            const float *panel =
                panels + (size_t)c * ((size_t)before * (size_t)out->cp +
                                      (size_t)f->count * (size_t)(block.part->first + block.o + o));
            const size_t size = (size_t)terms * (size_t)nr;
            const int fit = max_int(1, (int)(WEIGHT_BYTES / (size * sizeof(float) + 1)));
            if (!runs)
                memset(tile, 0, (size_t)tiles * MK_ROWS * (size_t)nr * sizeof *tile);
            for (int r = 0; r < runs; r += fit)
                for (int t = 0; t < tiles; t++) {
                    const struct mk m = {.nr = nr,
                                         .runs = min_int(fit, runs - r),
                                         .k = terms,
                                         .a = staged,
                                         .b = panel + (size_t)r * size,
                                         .br = size,
                                         .c = tile + (size_t)t * MK_ROWS * (size_t)nr,
                                         .ct = (size_t)nr,
                                         .into = r ? MK_GO_ON : MK_SET};
                    mk_gather(&m, table + ((size_t)t * (size_t)runs + (size_t)r) * MK_ROWS);
                }
            if (block.part->kind == SINK_F32)
                results_put(g, b, f, out, &block, SINK_F32, o, nr, tile, slots, k->bands[2]);
            else if (block.part->kind == SINK_BF16)
                results_put(g, b, f, out, &block, SINK_BF16, o, nr, tile, slots, k->bands[2]);
            else if (block.part->kind == SINK_LEAKY)
                results_put(g, b, f, out, &block, SINK_LEAKY, o, nr, tile, slots, k->bands[2]);
            else
                results_put(g, b, f, out, &block, SINK_DX, o, nr, tile, slots, k->bands[2]);
        }
    }
}

static struct channels all_channels(const struct source *s)
{
    struct channels ch = {.slabs = s->parts, .c = s->c};
    for (int i = 0; i < s->parts; i++) {
        ch.slab[i].part = i;
        ch.slab[i].count = s->in[i].c;
    }
    return ch;
}

void KR_NAME(kr_gather)(const struct gather *g, const struct source *s,
                        const struct gather_weights *w, const struct sink *out, int threads,
                        void *workspace)
{
    const struct division p = divide(g, s, out);
    const struct channels ch = all_channels(s);
    struct place place[GATHER_TAPS];
    char *ws = workspace;
    float *panels = (float *)(ws + p.weights);
    double *slots = (double *)(ws + p.slots);
    const size_t slot = 2 * (size_t)out->cp;
    const int pieces = (s->c + KR_LANES - 1) / KR_LANES;
    places(g, place);
    if (p.sums)
        memset(slots, 0, slots_count(g, &p.bands) * slot * sizeof *slots);
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p.private + (size_t)omp_get_thread_num() * p.bytes;
        float *staged = (float *)(mine + p.staged), *tile = (float *)(mine + p.tile);
        uint32_t *table = (uint32_t *)(mine + p.table);
#pragma omp for schedule(static)
        for (int i = 0; i < p.blocks * pieces; i++) {
            const struct block b = sink_block(out, i / pieces);
            const int k = i % pieces * KR_LANES;
            pack(g, s, w, out, &b, place, k, min_int(s->c, k + KR_LANES), panels);
        }
#pragma omp for schedule(dynamic)
        for (int i = 0; i < p.bands.count * p.groups; i++) {
            const struct band b = band_at(g, &p.bands, i / p.groups);
            const int b0 = share(p.blocks, i % p.groups, p.groups),
                      b1 = share(p.blocks, i % p.groups + 1, p.groups);
            stage(g, s, &p.bands, &ch, &b, staged);
            for (int q = 0, before = 0; q < phases(g); q++) {
                const struct phase f = phase_at(g, q);
                phase_run(g, &p.bands, &b, &f, before, out, b0, b1, panels, staged, table, tile,
                          slots + (size_t)(i / p.groups % p.bands.bands[2]) * slot);
                before += f.count;
            }
        }
    }
    if (p.sums)
        KR_NAME(kr_conv3x3_sums)(out, slots, (int)slots_count(g, &p.bands), g->n * g->axis[0].to);
}

/* --- gradient of the weights: tasks are spans of bands x blocks of high channels x blocks of low
 * ones; each adds up dw[tap][high][low] in its own part of the workspace. ------------------------
 */

struct outer_plan {
    struct bands bands;
    int highs, lows, spans;
    int wide; /* low channels of a block, at most */
    size_t size, partial, private, staged, table, low, bytes;
};

static struct outer_plan outer_plan(const struct gather *g, const struct source *high,
                                    const struct source *low)
{
    struct outer_plan p = {.wide = min_int(LOW, low->cp)};
    const int taps = kernel_taps(g);
    size_t used = 0, mine = 0;
    p.bands = bands_of(g, min_int(high->c, HIGH), PIXELS, high->c < MERGED && g->axis[2].step == 1);
    p.highs = 1;
    if (high->c > HIGH) {
        p.highs = 0;
        for (int i = 0; i < high->parts; i++)
            p.highs += (high->in[i].c + HIGH - 1) / HIGH;
    }
    p.lows = (low->cp + LOW - 1) / LOW;
    p.size = (size_t)taps * (size_t)p.bands.c * (size_t)p.wide;
    const int blocks = p.highs * p.lows;
    const size_t fit = PARTIAL_BYTES / (p.size * (size_t)blocks * sizeof(float));
    p.spans = min_int(min_int((TASKS + blocks - 1) / blocks, p.bands.count),
                      fit < 1 ? 1 : (int)min_size(fit, TASKS));
    p.partial = take(&used, (size_t)(p.spans * blocks) * p.size, sizeof(float));
    p.staged = take(&mine, p.bands.floats, sizeof(float));
    p.table = take(&mine, (size_t)p.bands.pixels * (size_t)taps, sizeof(uint32_t));
    p.low = take(&mine, (size_t)p.bands.pixels * (size_t)p.wide + KR_LANES, sizeof(float));
    p.private = used;
    p.bytes = mine;
    return p;
}

size_t KR_NAME(kr_gather_outer_workspace)(const struct gather *g, const struct source *high,
                                          const struct source *low, int threads)
{
    const struct outer_plan p = outer_plan(g, high, low);
    return p.private + (size_t)threads * p.bytes;
}

/* Block number i of the high channels; `real`: its first, counted over the parts. */
static struct channels high_block(const struct source *s, int i, int *real)
{
    *real = 0;
    if (s->c <= HIGH)
        return all_channels(s);
    int part = 0;
    for (; i >= (s->in[part].c + HIGH - 1) / HIGH; part++) {
        i -= (s->in[part].c + HIGH - 1) / HIGH;
        *real += s->in[part].c;
    }
    const int first = i * HIGH, count = min_int(HIGH, s->in[part].c - first);
    *real += first;
    return (struct channels){1, count, {{part, first, count}}};
}

/* The low channels of a block. */
static struct channels low_block(const struct source *s, int i)
{
    const int wide = min_int(LOW, s->cp - i * LOW);
    return (struct channels){1, wide, {{0, i * LOW, wide}}};
}

static void outer_task(const struct gather *g, const struct source *high, const struct source *low,
                       const struct outer_plan *p, int span, const struct channels *ch,
                       const struct channels *cl, float *sums, float *staged, uint32_t *table,
                       float *made)
{
    const struct phase f = phase_at(g, 0);
    const int runs = phase_runs(&p->bands, &f), wide = cl->c, w = axis_units(&g->axis[2]);
    const int terms = p->bands.merged ? f.taps[2]->count * ch->c : ch->c;
    const int from = share(p->bands.count, span, p->spans),
              to = share(p->bands.count, span + 1, p->spans);
    for (int i = from; i < to; i++) {
        const struct band b = band_at(g, &p->bands, i);
        const int pixels = band_pixels(g, &b), pieces = (pixels + RUN - 1) / RUN;
        float *row = made;
        stage(g, high, &p->bands, ch, &b, staged);
        for (int n = b.from[0]; n < b.to[0]; n++)
            for (int z = b.from[1]; z < b.to[1]; z++)
                for (int y = b.from[2]; y < b.to[2]; y++, row += w * wide) {
                    const int slice = n * g->axis[0].to + z;
                    pixels_read(low, cl, slice,
                                ((size_t)slice * (size_t)g->axis[1].to + (size_t)y) * (size_t)w, w,
                                row);
                }
        offsets(g, &p->bands, ch->c, &b, &f, pixels, table);
        for (int j = 0; j < pieces; j++)
            for (int r = 0; r < runs; r++)
                for (int o = 0, nr; o < wide; o += nr) {
                    const int p0 = share(pixels, j, pieces);
                    nr = mk_panel(o, wide);
                    const struct mk m = {.rows = terms,
                                         .nr = nr,
                                         .k = share(pixels, j + 1, pieces) - p0,
                                         .a = staged,
                                         .b = made + p0 * wide + o,
                                         .bk = (size_t)wide,
                                         .c = sums + (size_t)r * (size_t)terms * (size_t)wide + o,
                                         .ct = (size_t)wide,
                                         .into = i > from || j ? MK_ADD : MK_SET};
                    mk_outer(&m, table + (size_t)r * (size_t)pixels + p0);
                }
    }
}

/* A block's part of dw, VL low channels from o on of it, from the spans in order. */
static void outer_write(const struct gather *g, const struct outer_plan *p, const float *sums,
                        size_t stride, const struct channels *ch, int wide, int o, int real,
                        float *dw, size_t column)
{
    const size_t taps = (size_t)kernel_taps(g), length = (size_t)ch->c * taps;
    for (size_t q = 0, i = 0, t = 0; q < length; q += VL) {
        const size_t count = min_size(VL, length - q);
        vf v[VL];
        for (size_t l = 0; l < VL; l++) {
            v[l] = vset(0);
            const float *from = sums + (t * (size_t)ch->c + i) * (size_t)wide + o;
            for (int k = 0; k < p->spans && l < count; k++)
                v[l] += vload(from + (size_t)k * stride);
            if (l < count && ++t == taps) {
                t = 0;
                i++;
            }
        }
        vtranspose(v);
        for (int l = 0; l < min_int(VL, real); l++)
            memcpy(dw + (size_t)l * column + q, &v[l], count * sizeof(float));
    }
}

void KR_NAME(kr_gather_outer)(const struct gather *g, const struct source *high,
                              const struct source *low, float *dw, int threads, void *workspace)
{
    const struct outer_plan p = outer_plan(g, high, low);
    const int blocks = p.highs * p.lows;
    const size_t column = (size_t)high->c * (size_t)kernel_taps(g);
    char *ws = workspace;
    float *partial = (float *)(ws + p.partial);
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p.private + (size_t)omp_get_thread_num() * p.bytes;
#pragma omp for schedule(dynamic)
        for (int i = 0; i < p.spans * blocks; i++) {
            int real;
            const struct channels ch = high_block(high, i % blocks / p.lows, &real),
                                  cl = low_block(low, i % p.lows);
            outer_task(g, high, low, &p, i / blocks, &ch, &cl, partial + (size_t)i * p.size,
                       (float *)(mine + p.staged), (uint32_t *)(mine + p.table),
                       (float *)(mine + p.low));
        }
#pragma omp for schedule(dynamic)
        for (int i = 0; i < p.highs * low->cp / VL; i++) {
            const int h = i / (low->cp / VL), l = i % (low->cp / VL) * VL;
            int first;
            const struct channels ch = high_block(high, h, &first), cl = low_block(low, l / LOW);
            outer_write(g, &p, partial + (size_t)(h * p.lows + l / LOW) * p.size,
                        (size_t)blocks * p.size, &ch, cl.c, l % LOW, low->c - l,
                        dw + (size_t)l * column + (size_t)first * (size_t)kernel_taps(g), column);
        }
    }
}
