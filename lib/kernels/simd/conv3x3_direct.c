/* Direct 3x3 convolution. A task activates a few rows into a private buffer of exactly the real
 * channels, with the zero halo; then the three taps of a filter row and all channels are one
 * contiguous run, and the convolution is a product of three such runs with packed weights. */
#include "lib/kernels/simd/conv3x3.h"

#define ROWS 4    /* output rows of a task */
#define PIXELS 48 /* output pixels gathered before they are written */

/* The row of sample n that begins with pixel number `pixel`, activated: s->c floats each. */
static void stage_pixels(const struct source *s, int n, size_t pixel, float *dst)
{
    if (s->in[0].planar) {
        planes_read(s->in, (size_t)s->h * (size_t)s->w, pixel, (size_t)s->w, dst, (size_t)s->c);
        return;
    }
    for (int x = 0; x < s->w; x++, pixel++) {
        float *d = dst + (size_t)x * (size_t)s->c;
        for (int i = 0; i < s->parts; i++) {
            const struct kr_in *in = &s->in[i];
            size_t cp = (size_t)kr_pad(in->c);
            const bool leaky = in->relu && in->slope != 0;
            const vf low = low_of(in->relu, in->slope);
            for (size_t c = 0; c < (size_t)in->c; c += VL) {
                vf v = vload_as(in->x, in->dtype, pixel * cp + c);
                if (in->scale)
                    v = vfma(v, vload(in->scale + (size_t)n * in->stride + c),
                             vload(in->shift + (size_t)n * in->stride + c));
                /* Lanes past the real channels are overwritten by what follows. */
                vstore(d + c, vactivate(v, leaky, low));
            }
            d += in->c;
        }
    }
}

/* Row y of sample n: (w + 2) pixels of s->c floats, zeros at both ends, and KR_LANES beyond. */
static void stage_row(const struct source *s, int n, int y, float *dst)
{
    size_t c = (size_t)s->c, row = (size_t)(s->w + 2) * c;
    if (y < 0 || y >= s->h) {
        memset(dst, 0, (row + KR_LANES) * sizeof(float));
        return;
    }
    memset(dst, 0, c * sizeof(float));
    stage_pixels(s, n, ((size_t)n * (size_t)s->h + (size_t)y) * (size_t)s->w, dst + c);
    memset(dst + row - c, 0, (c + KR_LANES) * sizeof(float));
}

/* Filters of columns o .. o+nr of a block as dst[r][tap column * c + i][nr]. */
static void pack(const struct filters *f, const struct block *b, int o, int nr, int c, float *dst)
{
    int first = b->part->real + b->o;
    for (int t = 0; t < 9; t++)
        for (int i = 0; i < c; i++, dst += nr)
            for (int j = 0; j < nr; j++)
                dst[j] = o + j < b->real ? f->w[(size_t)(first + o + j) * f->so +
                                                (size_t)i * f->si + (size_t)(f->flip ? 8 - t : t)]
                                         : 0;
}

struct division {
    int tasks, groups; /* row groups of a sample */
    size_t row;        /* floats of a staged row */
    size_t weights, slots, private, rows, tile, bytes;
};

static struct division divide(const struct source *s, const struct sink *out)
{
    struct division p = {.groups = (s->h + ROWS - 1) / ROWS};
    size_t used = 0, mine = 0;
    p.tasks = s->n * p.groups;
    p.row = ((size_t)(s->w + 2) * (size_t)s->c + 2 * KR_LANES - 1) / KR_LANES * KR_LANES;
    p.weights = take(&used, 9 * (size_t)s->c * (size_t)out->cp, sizeof(float));
    p.slots = take(&used, (size_t)p.tasks * 2 * (size_t)out->cp, sizeof(double));
    p.rows = take(&mine, (ROWS + 2) * p.row, sizeof(float));
    p.tile = take(&mine, PIXELS * BLOCK, sizeof(float));
    p.private = used;
    p.bytes = mine;
    return p;
}

size_t KR_NAME(kr_conv3x3_direct_workspace)(const struct source *s, const struct sink *out,
                                            int threads)
{
    struct division p = divide(s, out);
    return p.private + (size_t)threads * p.bytes;
}

INLINE void write_pixels(const struct sink *out, const struct block *b, const enum sink_kind kind,
                         int o, int nr, int n, size_t pixel, int count, const float *tile,
                         double *slot)
{
    for (int j = 0; j < nr; j += VL) {
        struct lane l = sink_lane(b->part, kind, b->o + o + j, n);
        vf sum[2] = {{0}};
        for (int x = 0; x < count; x++)
            sink_put(b->part, kind, &l,
                     (pixel + (size_t)x) * (size_t)b->part->cp + (size_t)(b->o + o + j),
                     vload(tile + x * BLOCK + j), sum);
        sink_sum(out, b->part, slot, b->o + o + j, sum);
    }
}

/* One group of rows, all output channels. */
static void rows(const struct source *s, const struct sink *out, const struct division *p, int task,
                 const float *weights, double *slot, char *mine)
{
    float *row = (float *)(mine + p->rows), *tile = (float *)(mine + p->tile);
    int n = task / p->groups, y0 = task % p->groups * ROWS, count = min_int(ROWS, s->h - y0);
    size_t c = (size_t)s->c;
    memset(slot, 0, 2 * (size_t)out->cp * sizeof(double));
    for (int y = 0; y < count + 2; y++)
        stage_row(s, n, y0 + y - 1, row + (size_t)y * p->row);
    for (int i = 0, blocks = sink_blocks(out); i < blocks; i++) {
        struct block b = sink_block(out, i);
        for (int o = 0, nr; o < b.width; o += nr) {
            nr = mk_panel(o, b.width);
            const float *panel = weights + 9 * c * (size_t)(b.part->first + b.o + o);
            for (int y = 0; y < count; y++)
                for (int x = 0; x < s->w; x += PIXELS) {
                    int m = min_int(PIXELS, s->w - x);
                    size_t pixel =
                        ((size_t)n * (size_t)s->h + (size_t)(y0 + y)) * (size_t)s->w + (size_t)x;
                    struct mk k = {.rows = m,
                                   .nr = nr,
                                   .runs = 3,
                                   .k = 3 * s->c,
                                   .a = row + (size_t)y * p->row + (size_t)x * c,
                                   .at = c,
                                   .ar = p->row,
                                   .b = panel,
                                   .bk = (size_t)nr,
                                   .br = 3 * c * (size_t)nr,
                                   .c = tile,
                                   .ct = BLOCK};
                    mk_run(&k, true);
                    if (b.part->kind == SINK_F32)
                        write_pixels(out, &b, SINK_F32, o, nr, n, pixel, m, tile, slot);
                    else if (b.part->kind == SINK_BF16)
                        write_pixels(out, &b, SINK_BF16, o, nr, n, pixel, m, tile, slot);
                    else if (b.part->kind == SINK_LEAKY)
                        write_pixels(out, &b, SINK_LEAKY, o, nr, n, pixel, m, tile, slot);
                    else
                        write_pixels(out, &b, SINK_DX, o, nr, n, pixel, m, tile, slot);
                }
        }
    }
}

void KR_NAME(kr_conv3x3_direct)(const struct source *s, const struct filters *f,
                                const struct sink *out, int threads, void *workspace)
{
    struct division p = divide(s, out);
    char *ws = workspace;
    float *weights = (float *)(ws + p.weights);
    double *slots = (double *)(ws + p.slots);
    size_t c = (size_t)s->c;
    int blocks = sink_blocks(out);
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p.private + (size_t)omp_get_thread_num() * p.bytes;
#pragma omp for schedule(static)
        for (int i = 0; i < blocks; i++) {
            struct block b = sink_block(out, i);
            for (int o = 0, nr; o < b.width; o += nr) {
                nr = mk_panel(o, b.width);
                pack(f, &b, o, nr, s->c, weights + 9 * c * (size_t)(b.part->first + b.o + o));
            }
        }
#pragma omp for schedule(dynamic)
        for (int t = 0; t < p.tasks; t++)
            rows(s, out, &p, t, weights, slots + (size_t)t * 2 * (size_t)out->cp, mine);
    }
    KR_NAME(kr_conv3x3_sums)(out, slots, p.tasks, s->n);
}

/* --- gradient of the weights ---------------------------------------------------------------------
 * Tasks are spans of rows x blocks of output channels; each adds up dw[r][s * c + i][o] in its own
 * part of the workspace. */

#define SPANS 16
#define SPANS_BYTES ((size_t)64 << 20)

struct weight_plan {
    int spans;
    size_t row, size, partial, gradient, private, bytes; /* gradient: in a thread's own */
};

static struct weight_plan weight_plan(const struct source *s, int cout)
{
    struct weight_plan p;
    size_t used = 0, mine = 0;
    p.row = ((size_t)(s->w + 2) * (size_t)s->c + 2 * KR_LANES - 1) / KR_LANES * KR_LANES;
    p.size = 9 * (size_t)s->c * (size_t)kr_pad(cout);
    size_t fit = SPANS_BYTES / (p.size * sizeof(float));
    p.spans = min_int(s->n * s->h, fit < 1 ? 1 : fit < SPANS ? (int)fit : SPANS);
    p.partial = take(&used, (size_t)p.spans * p.size, sizeof(float));
    p.private = used;
    take(&mine, 3 * p.row, sizeof(float));
    p.gradient = take(&mine, (size_t)s->w * (size_t)kr_pad(cout), sizeof(float));
    p.bytes = mine;
    return p;
}

size_t KR_NAME(kr_conv3x3_direct_weight_workspace)(const struct source *s, int cout, int threads)
{
    struct weight_plan p = weight_plan(s, cout);
    return p.private + (size_t)threads * p.bytes;
}

/* Channels o0..o0+width of row q of the gradient, by kr_dy, to dst. */
static void gradient_row(const struct source *dy, int q, int o0, int width, float *dst)
{
    size_t cp = (size_t)dy->cp, from = (size_t)q * (size_t)dy->w * cp;
    for (int o = o0; o < o0 + width; o += VL) {
        const struct reader r = reader_at(dy, dy->in, READ_BEHIND, q / dy->h, o);
        for (size_t i = (size_t)o; i < (size_t)dy->w * cp; i += cp)
            vstore(dst + i, read_value(&r, READ_BEHIND, from + i));
    }
}

static void span(const struct source *s, const struct source *dy, const struct weight_plan *p,
                 int number, int o0, float *dst, float *ring, float *made)
{
    int cp = dy->cp, width = min_int(BLOCK, cp - o0);
    int total = s->n * s->h, from = share(total, number, p->spans),
        to = share(total, number + 1, p->spans);
    for (int q = from; q < to; q++) {
        int n = q / s->h, y = q % s->h;
        for (int r = q == from || y == 0 ? 0 : 2; r < 3; r++)
            stage_row(s, n, y + r - 1, ring + (size_t)((y + r) % 3) * p->row);
        const float *row = dy->behind.dy + (size_t)q * (size_t)s->w * (size_t)cp;
        if (dy->behind.k) {
            gradient_row(dy, q, o0, width, made);
            row = made;
        }
        for (int r = 0; r < 3; r++)
            for (int o = 0, nr; o < width; o += nr) {
                nr = mk_panel(o, width);
                struct mk k = {.rows = 3 * s->c,
                               .nr = nr,
                               .runs = 1,
                               .k = s->w,
                               .a = ring + (size_t)((y + r) % 3) * p->row,
                               .ak = (size_t)s->c,
                               .b = row + (o0 + o),
                               .bk = (size_t)cp,
                               .c = dst + (size_t)r * 3 * (size_t)s->c * (size_t)cp + (o0 + o),
                               .ct = (size_t)cp,
                               .into = q > from ? MK_ADD : MK_SET};
                mk_run(&k, false);
            }
    }
}

void KR_NAME(kr_conv3x3_direct_weight)(const struct source *s, const struct source *dy, float *dw,
                                       int threads, void *workspace)
{
    struct weight_plan p = weight_plan(s, dy->c);
    char *ws = workspace;
    float *partial = (float *)(ws + p.partial);
    int cp = dy->cp, blocks = (cp + BLOCK - 1) / BLOCK;
#pragma omp parallel num_threads(threads)
    {
        char *mine = ws + p.private + (size_t)omp_get_thread_num() * p.bytes;
#pragma omp for schedule(dynamic)
        for (int t = 0; t < p.spans * blocks; t++)
            span(s, dy, &p, t / blocks, t % blocks * BLOCK, partial + (size_t)(t / blocks) * p.size,
                 (float *)mine, (float *)(mine + p.gradient));
#pragma omp for schedule(static)
        for (int i = 0; i < s->c; i++)
            for (int t = 0; t < 9; t++)
                for (int o = 0; o < dy->c; o++) {
                    float sum = 0;
                    for (int k = 0; k < p.spans; k++)
                        sum += partial[(size_t)k * p.size +
                                       ((size_t)t * (size_t)s->c + (size_t)i) * (size_t)cp +
                                       (size_t)o];
                    dw[((size_t)o * (size_t)s->c + (size_t)i) * 9 + (size_t)t] = sum;
                }
    }
}
