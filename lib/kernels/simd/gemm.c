#include "lib/kernels/simd/gemm.h"

#include "lib/kernels/simd/mk.h"

#include <assert.h>
#include <omp.h>

#define BLOCK_MOST 96 /* pixels of a block: of a's rows, packed, at most 384 KiB */
#define BLOCK_BYTES (384 << 10)

/* --- columns -------------------------------------------------------------------------------- */

/* The channels of a matrix' columns: up to two parts, each padded, or four phases of one. */
struct columns {
    int parts, c[2];
    bool phases;
};

struct column {
    int part, phase;
    int c;    /* in the part; not a real one where >= columns.c[part] */
    int real; /* counted over the parts */
};

static int columns_count(const struct columns *s)
{
    int n = kr_pad(s->c[0]);
    return s->phases ? 4 * n : s->parts > 1 ? n + kr_pad(s->c[1]) : n;
}

INLINE struct column column_at(const struct columns *s, int j)
{
    const int first = kr_pad(s->c[0]);
    if (s->phases)
        return (struct column){0, j / first, j % first, j % first};
    if (j < first)
        return (struct column){0, 0, j, j};
    return (struct column){1, 0, j - first, s->c[0] + j - first};
}

static struct columns matrix_columns(const struct matrix *m)
{
    return (struct columns){m->parts, {m->in[0].c, m->parts > 1 ? m->in[1].c : 0}, m->phases};
}

static struct columns result_columns(const struct result *r, int parts)
{
    if (r->out)
        return (struct columns){1, {r->out->c, 0}, r->phases};
    return (struct columns){parts, {r->dx[0].c, parts > 1 ? r->dx[1].c : 0}, false};
}

static size_t matrix_pixels(const struct matrix *m)
{
    return (size_t)m->n * (size_t)m->h * (size_t)m->w;
}

/* --- reading -------------------------------------------------------------------------------- */

/* Where a matrix is its map as it lies, the map. */
static const float *matrix_plain(const struct matrix *m)
{
    const struct kr_in *in = &m->in[0];
    bool plain = m->parts == 1 && !m->phases && in->dtype == KR_F32 && !in->scale && !in->relu;
    return plain ? in->x : NULL;
}

/* The first of the four output pixels of input pixel p. */
INLINE size_t corner(int h, int w, size_t p)
{
    const size_t row = p / (size_t)w, x = p % (size_t)w;
    (void)h;
    return row * 4 * (size_t)w + 2 * x; /* rows of the output are 2w long, and two for one */
}

/* Columns j0..j1 of pixels p0..p0+count to `to`, `ld` floats a pixel. */
static void matrix_pack(const struct matrix *m, const struct columns *cols, size_t p0, size_t count,
                        int j0, int j1, float *to, size_t ld)
{
    const size_t sample = (size_t)m->h * (size_t)m->w;
    if (m->phases) {
        const size_t cp = (size_t)kr_pad(m->in[0].c), below = 2 * (size_t)m->w;
        for (size_t p = 0; p < count; p++) {
            const size_t first = corner(m->h, m->w, p0 + p);
            for (int j = j0; j < j1; j += VL) {
                const struct column k = column_at(cols, j);
                const size_t i = first + (size_t)(k.phase >> 1) * below + (size_t)(k.phase & 1);
                vstore(to + p * ld + (j - j0),
                       vload((const float *)m->in[0].x + i * cp + (size_t)k.c));
            }
        }
        return;
    }
    for (size_t p = 0, stop; p < count; p = stop) { /* sample by sample */
        const size_t n = (p0 + p) / sample;
        stop = min_size(count, (n + 1) * sample - p0);
        for (int j = j0; j < j1; j += VL) {
            const struct column k = column_at(cols, j);
            const size_t cp = (size_t)kr_pad(m->in[k.part].c);
            const struct view v = view_at(&m->in[k.part], (int)n, k.c);
            for (size_t q = p; q < stop; q++)
                vstore(to + q * ld + (j - j0), view_get(&v, (p0 + q) * cp + (size_t)k.c));
        }
    }
}

/* --- writing -------------------------------------------------------------------------------- */

/* A panel's product c (count x width) for pixels p0.. and columns from j0 on. */
static void result_set(const struct product *p, const struct columns *cols, size_t p0, size_t count,
                       int j0, int width, const float *c, double *slot, size_t slot_size)
{
    const struct matrix *m = &p->a;
    const struct result *r = &p->result;
    const size_t sample = (size_t)m->h * (size_t)m->w, ld = (size_t)width;
    for (int j = 0; j < width; j += VL) {
        const struct column k = column_at(cols, j0 + j);
        vf sum = vset(0), products = vset(0);
        if (r->out) {
            const size_t cp = (size_t)kr_pad(r->out->c);
            struct put y = put_at(r->out, k.c);
            float bias[VL] = {0};
            for (int l = 0; r->bias && l < VL && k.c + l < r->out->c; l++)
                bias[l] = r->bias[k.c + l];
            const vf b = vload(bias);
            if (r->phases) {
                const size_t shift =
                    (size_t)(k.phase >> 1) * 2 * (size_t)m->w + (size_t)(k.phase & 1);
                for (size_t t = 0; t < count; t++)
                    put_set(&y, (corner(m->h, m->w, p0 + t) + shift) * cp + (size_t)k.c,
                            vload(c + t * ld + j) + b);
            } else {
                for (size_t t = 0; t < count; t++)
                    put_set(&y, (p0 + t) * cp + (size_t)k.c, vload(c + t * ld + j) + b);
            }
            sum = y.sum;
            products = y.squares;
        } else {
            const struct kr_dx *dx = &r->dx[k.part];
            const size_t cp = (size_t)kr_pad(dx->c);
            if (!dx->dx)
                continue;
            for (size_t t = 0, stop; t < count; t = stop) {
                const size_t n = (p0 + t) / sample;
                struct grad g = grad_at(dx, (int)n, k.c);
                stop = min_size(count, (n + 1) * sample - p0);
                for (; t < stop; t++)
                    grad_set(&g, (p0 + t) * cp + (size_t)k.c, vload(c + t * ld + j));
                sum += g.sum;
                products += g.products;
            }
        }
        if (slot) {
            sum_add(slot + j0 + j, sum);
            sum_add(slot + slot_size / 2 + j0 + j, products);
        }
    }
}

/* --- the product ---------------------------------------------------------------------------- */

struct plan {
    struct columns ka, kr; /* of a and of the result */
    int k, cols;
    size_t pixels;
    int chunks, groups; /* tasks: pieces of the pixels, pieces of the columns */
    int block;          /* pixels */
    bool sums;
    size_t panels, slots, a, c, size; /* places in the workspace; a and c: one of each a thread */
};

static size_t take(size_t *used, size_t bytes)
{
    size_t at = *used;
    *used += (bytes + 63) / 64 * 64;
    return at;
}

static struct plan product_plan(const struct product *p)
{
    struct plan q = {.ka = matrix_columns(&p->a), .pixels = matrix_pixels(&p->a)};
    q.kr = result_columns(&p->result, p->result.dx && p->result.dx[1].c ? 2 : 1);
    q.k = columns_count(&q.ka);
    q.cols = columns_count(&q.kr);
    q.chunks = chunk_count(q.pixels, 1);
    q.groups = 16 / q.chunks;
    q.groups = q.groups > q.cols / 128 ? q.cols / 128 : q.groups;
    q.groups = q.groups < 1 ? 1 : q.groups;
    q.block = BLOCK_BYTES / 4 / q.k / 6 * 6;
    q.block = q.block < 24 ? 24 : q.block > BLOCK_MOST ? BLOCK_MOST : q.block;
    if (p->result.out)
        q.sums = p->result.out->sums;
    for (int i = 0; !p->result.out && i < q.kr.parts; i++)
        q.sums = q.sums || p->result.dx[i].sums;
    q.panels = take(&q.size, (size_t)q.k * (size_t)q.cols * sizeof(float));
    q.slots = take(&q.size, (size_t)q.chunks * 2 * (size_t)q.cols * sizeof(double));
    q.a = take(&q.size, (size_t)p->threads * (size_t)q.block * (size_t)q.k * sizeof(float));
    q.c = take(&q.size, (size_t)p->threads * (size_t)q.block * MK_NR * sizeof(float));
    return q;
}

/* Packs the panel of columns o..o+nr, k rows of nr. */
static void weights_pack(const struct product *p, const struct plan *q, int o, int nr, float *to)
{
    const struct weights *w = &p->weights;
    size_t at[MK_NR];
    bool real[MK_NR];
    for (int j = 0; j < nr; j++) {
        const struct column k = column_at(&q->kr, o + j);
        real[j] = k.c < q->kr.c[k.part];
        at[j] = (size_t)k.real * (p->forward ? w->so : w->si) + (size_t)k.phase;
    }
    for (int i = 0; i < q->k; i++, to += nr) {
        const struct column k = column_at(&q->ka, i);
        const size_t row = (size_t)k.real * (p->forward ? w->si : w->so) + (size_t)k.phase;
        const bool is = k.c < q->ka.c[k.part];
        for (int j = 0; j < nr; j++)
            to[j] = is && real[j] ? w->w[row + at[j]] : 0;
    }
}

size_t KR_NAME(kr_product_workspace)(const struct product *p)
{
    return product_plan(p).size;
}

static void product_task(const struct product *p, const struct plan *q, int chunk, int group,
                         const float *panels, float *a, float *c, double *slot)
{
    const size_t last = chunk_start(q->pixels, q->chunks, chunk + 1), k = (size_t)q->k;
    const int first_panel = (int)chunk_start((size_t)q->cols / KR_LANES, q->groups, group);
    const int last_panel = (int)chunk_start((size_t)q->cols / KR_LANES, q->groups, group + 1);
    const float *plain = matrix_plain(&p->a);
    for (size_t p0 = chunk_start(q->pixels, q->chunks, chunk), count; p0 < last; p0 += count) {
        count = min_size((size_t)q->block, last - p0);
        if (!plain)
            matrix_pack(&p->a, &q->ka, p0, count, 0, q->k, a, k);
        for (int o = first_panel * KR_LANES, nr; o < last_panel * KR_LANES; o += nr) {
            nr = mk_panel(o, last_panel * KR_LANES);
            const struct mk m = {.rows = (int)count,
                                 .nr = nr,
                                 .runs = 1,
                                 .k = q->k,
                                 .a = plain ? plain + p0 * k : a,
                                 .at = k,
                                 .ak = 1,
                                 .b = panels + k * (size_t)o,
                                 .bk = (size_t)nr,
                                 .c = c,
                                 .ct = (size_t)nr};
            mk_run(&m, true);
            result_set(p, &q->kr, p0, count, o, nr, c, slot, 2 * (size_t)q->cols);
        }
    }
}

void KR_NAME(kr_product)(const struct product *p, void *workspace)
{
    const struct plan q = product_plan(p);
    char *base = workspace;
    float *panels = (float *)(base + q.panels);
    double *slots = (double *)(base + q.slots);
    if (q.sums)
        memset(slots, 0, (size_t)q.chunks * 2 * (size_t)q.cols * sizeof *slots);
#pragma omp parallel num_threads(p->threads)
    {
        const size_t me = (size_t)omp_get_thread_num();
        float *a = (float *)(base + q.a) + me * (size_t)q.block * (size_t)q.k;
        float *c = (float *)(base + q.c) + me * (size_t)q.block * MK_NR;
#pragma omp for schedule(dynamic)
        for (int group = 0; group < q.groups; group++) {
            const int end = (int)chunk_start((size_t)q.cols / KR_LANES, q.groups, group + 1);
            int o = (int)chunk_start((size_t)q.cols / KR_LANES, q.groups, group) * KR_LANES;
            for (int nr; o < end * KR_LANES; o += nr) {
                nr = mk_panel(o, end * KR_LANES);
                weights_pack(p, &q, o, nr, panels + (size_t)q.k * (size_t)o);
            }
        }
#pragma omp for schedule(dynamic)
        for (int task = 0; task < q.chunks * q.groups; task++) {
            const int chunk = task / q.groups;
            product_task(p, &q, chunk, task % q.groups, panels, a, c,
                         q.sums ? slots + (size_t)chunk * 2 * (size_t)q.cols : NULL);
        }
    }
    if (!q.sums)
        return;
    const size_t cols = (size_t)q.cols, first = (size_t)kr_pad(q.kr.c[0]);
    if (p->result.out) {
        double *sums = p->result.out->sums;
        memset(sums, 0, 2 * first * sizeof *sums);
        for (int chunk = 0; chunk < q.chunks; chunk++) /* phases add up */
            for (size_t half = 0; half < 2; half++)
                for (size_t j = 0; j < cols; j++)
                    sums[half * first + j % first] += slots[((size_t)chunk * 2 + half) * cols + j];
        return;
    }
    for (int i = 0; i < q.kr.parts; i++) {
        double *sums = p->result.dx[i].sums;
        const size_t from = i ? first : 0, cp = (size_t)kr_pad(q.kr.c[i]);
        slots_sum(slots, q.chunks, 2 * cols, from, cp, sums);
        slots_sum(slots, q.chunks, 2 * cols, cols + from, cp, sums ? sums + cp : NULL);
    }
}

/* --- the weights' gradient --------------------------------------------------------------------
 * Rows are dy's columns,
 * columns are v's; the sum runs over pixels. The pixels are cut into `splits` pieces of the sum,
 * few where the matrix is big; v's columns into panels. */
#define OUTER_BLOCK                                                                                \
    128 /* pixels summed by the microkernel before they join the sum of the split                  \
         */
#define OUTER_BYTES ((size_t)4 << 20)

struct outer_plan {
    struct columns ky, kv;
    int rows, cols, groups, splits; /* a group: a panel of at most MK_NR columns */
    size_t pixels;
    size_t sums, bias, y, v, c, size;
};

static struct outer_plan outer_plan(const struct outer *p)
{
    struct outer_plan q = {.ky = matrix_columns(&p->dy), .kv = matrix_columns(&p->v)};
    q.rows = columns_count(&q.ky);
    q.cols = columns_count(&q.kv);
    q.pixels = matrix_pixels(&p->v);
    for (int o = 0; o < q.cols; q.groups++)
        o += mk_panel(o, q.cols);
    const size_t bytes = (size_t)q.rows * (size_t)q.cols * sizeof(float);
    size_t splits = OUTER_BYTES / bytes;
    splits = min_size(min_size(splits, CHUNKS), q.pixels / OUTER_BLOCK);
    q.splits = splits < 1 ? 1 : (int)splits;
    q.sums = take(&q.size, (size_t)q.splits * bytes);
    q.bias = take(&q.size, (size_t)q.splits * (size_t)q.rows * sizeof(double));
    q.y = take(&q.size, (size_t)p->threads * OUTER_BLOCK * (size_t)q.rows * sizeof(float));
    q.v = take(&q.size, (size_t)p->threads * OUTER_BLOCK * MK_NR * sizeof(float));
    q.c = take(&q.size, (size_t)p->threads * (size_t)q.rows * MK_NR * sizeof(float));
    return q;
}

size_t KR_NAME(kr_outer_workspace)(const struct outer *p)
{
    return outer_plan(p).size;
}

/* One split of the sum for the panel of columns o..o+nr. */
static void outer_task(const struct outer *p, const struct outer_plan *q, int split, int o, int nr,
                       float *y, float *v, float *c, float *sums, double *bias)
{
    const size_t last = chunk_start(q->pixels, q->splits, split + 1), rows = (size_t)q->rows;
    const float *plain = matrix_plain(&p->dy);
    memset(sums, 0, rows * (size_t)nr * sizeof *sums);
    for (size_t p0 = chunk_start(q->pixels, q->splits, split), count; p0 < last; p0 += count) {
        count = min_size(OUTER_BLOCK, last - p0);
        matrix_pack(&p->v, &q->kv, p0, count, o, o + nr, v, (size_t)nr);
        if (!plain)
            matrix_pack(&p->dy, &q->ky, p0, count, 0, q->rows, y, rows);
        const float *a = plain ? plain + p0 * rows : y;
        const struct mk m = {.rows = q->rows,
                             .nr = nr,
                             .runs = 1,
                             .k = (int)count,
                             .a = a,
                             .at = 1,
                             .ak = rows,
                             .b = v,
                             .bk = (size_t)nr,
                             .c = c,
                             .ct = (size_t)nr};
        mk_run(&m, false);
        for (size_t i = 0; i < rows * (size_t)nr; i += VL)
            vstore(sums + i, vload(sums + i) + vload(c + i));
        for (size_t j = 0; bias && j < rows; j += VL) {
            vf s = vset(0);
            for (size_t t = 0; t < count; t++)
                s += vload(a + t * rows + j);
            sum_add(bias + j, s);
        }
    }
}

/* dw of the panel o..o+nr: the splits in order. */
static void outer_write(const struct outer *p, const struct outer_plan *q, int o, int nr,
                        const float *sums)
{
    const size_t rows = (size_t)q->rows, whole = rows * (size_t)q->cols;
    for (int i = 0; i < q->rows; i++) {
        const struct column y = column_at(&q->ky, i);
        if (y.c >= q->ky.c[y.part])
            continue;
        for (int j = 0; j < nr; j++) {
            const struct column v = column_at(&q->kv, o + j);
            float s = 0;
            if (v.c >= q->kv.c[v.part])
                continue;
            for (int split = 0; split < q->splits; split++)
                s += sums[(size_t)split * whole + rows * (size_t)o + (size_t)(i * nr + j)];
            p->dw[(size_t)v.real * p->weights.si + (size_t)y.real * p->weights.so +
                  (size_t)y.phase] = s;
        }
    }
}

void KR_NAME(kr_outer)(const struct outer *p, void *workspace)
{
    const struct outer_plan q = outer_plan(p);
    const size_t rows = (size_t)q.rows, whole = rows * (size_t)q.cols;
    char *base = workspace;
    float *sums = (float *)(base + q.sums);
    double *bias = p->dbias ? (double *)(base + q.bias) : NULL;
    if (bias)
        memset(bias, 0, (size_t)q.splits * rows * sizeof *bias);
#pragma omp parallel num_threads(p->threads)
    {
        const size_t me = (size_t)omp_get_thread_num();
        float *y = (float *)(base + q.y) + me * OUTER_BLOCK * rows;
        float *v = (float *)(base + q.v) + me * OUTER_BLOCK * MK_NR;
        float *c = (float *)(base + q.c) + me * rows * MK_NR;
#pragma omp for schedule(dynamic)
        for (int task = 0; task < q.splits * q.groups; task++) {
            const int split = task / q.groups, group = task % q.groups;
            int o = 0;
            for (int g = 0; g < group; g++)
                o += mk_panel(o, q.cols);
            outer_task(p, &q, split, o, mk_panel(o, q.cols), y, v, c,
                       sums + (size_t)split * whole + rows * (size_t)o,
                       bias && !group ? bias + (size_t)split * rows : NULL);
        }
#pragma omp for schedule(static)
        for (int group = 0; group < q.groups; group++) {
            int o = 0;
            for (int g = 0; g < group; g++)
                o += mk_panel(o, q.cols);
            outer_write(p, &q, o, mk_panel(o, q.cols), sums);
        }
    }
    for (int o = 0; bias && o < p->dy.in[0].c; o++) {
        double s = 0;
        for (int split = 0; split < q.splits; split++)
            for (size_t j = (size_t)o; j < rows; j += (size_t)kr_pad(p->dy.in[0].c))
                s += bias[(size_t)split * rows + j];
        p->dbias[o] = (float)s;
    }
}
