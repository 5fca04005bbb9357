/* The products of gemm.h. The weights are packed once, in panels as mk.h takes them. A task is a
 * piece of the pixels for a group of the columns; block by block it packs its pixels, with what is
 * fused into their reading, multiplies them by the panels, and writes the results while they are in
 * cache. */
#include "lib/kernels/simd/gemm.h"

#include "lib/kernels/simd/mk.h"
#include "lib/kernels/simd/shuffle.h"

#include <assert.h>
#include <omp.h>

#define BLOCK_MOST 96 /* pixels of a block: of a's rows, packed, at most 384 KiB */
#define BLOCK_BYTES (384 << 10)

static struct columns result_columns(const struct result *r, int parts)
{
    if (r->out)
        return (struct columns){1, {r->out->c, 0}, r->phases};
    return (struct columns){parts, {r->dx[0].c, parts > 1 ? r->dx[1].c : 0}, false};
}

/* --- reading -------------------------------------------------------------------------------- */

/* Where a matrix is its map as it lies, the map. */
static const float *matrix_plain(const struct matrix *m)
{
    const struct kr_in *in = &m->in[0];
    bool plain = m->parts == 1 && !m->phases && in->dtype == KR_F32 && !in->scale && !in->relu &&
                 !in->planar;
    return plain ? in->x : NULL;
}

/* Columns j0..j1 (multiples of 64) of a map with phases: 16 channels, phase by phase. */
static void phases_pack(const struct matrix *m, size_t p0, size_t count, int j0, int j1, float *to,
                        size_t ld)
{
    const size_t cp = (size_t)kr_pad(m->in[0].c), below = 2 * (size_t)m->w * cp;
    for (size_t p = p0; p < p0 + count; p++, to += ld) {
        const float *from = (const float *)m->in[0].x + corner(m->w, p) * cp + j0 / 4;
        for (size_t f = 0; f < 4; f++) {
            const float *x = from + (f >> 1) * below + (f & 1) * cp;
            for (int j = 0; j < j1 - j0; j += 64, x += KR_LANES)
                for (size_t l = 0; l < KR_LANES; l += VL)
                    vstore(to + (size_t)j + f * KR_LANES + l, vload(x + l));
        }
    }
}

void KR_NAME(kr_matrix_pack)(const struct matrix *m, size_t p0, size_t count, int j0, int j1,
                             float *to, size_t ld)
{
    const size_t sample = (size_t)m->h * (size_t)m->w;
    if (m->phases) {
        phases_pack(m, p0, count, j0, j1, to, ld);
        return;
    }
    for (size_t p = p0, stop; p < p0 + count; p = stop) { /* sample by sample */
        const int n = (int)(p / sample);
        stop = min_size(p0 + count, (size_t)(n + 1) * sample);
        for (int i = 0, first = 0; i < m->parts; i++) {
            const struct kr_in *in = &m->in[i];
            const int cp = kr_pad(in->c), c0 = j0 > first ? j0 - first : 0,
                      c1 = j1 - first < cp ? j1 - first : cp;
            if (in->planar) {
                assert(m->parts == 1 && j0 == 0 && j1 == cp);
                for (size_t q = p; q < stop; q++)
                    memset(to + (q - p0) * ld, 0, (size_t)(j1 - j0) * sizeof *to);
                planes_read(in, sample, p, stop - p, to + (p - p0) * ld, ld);
                break;
            }
            for (size_t q = p; q < stop; q++)
                for (int c = c0; c < c1; c += VL) {
                    const struct view v = view_at(in, n, c);
                    vstore(to + (q - p0) * ld + (first + c - j0),
                           view_get(&v, q * (size_t)cp + (size_t)c));
                }
            first += cp;
        }
    }
}

/* --- writing -------------------------------------------------------------------------------- */

/* A panel's product c (count x width) for pixels p0.. and columns from j0 on. The slots of samples
 * after the first, where each has its own, follow. */
static void result_set(const struct product *p, const struct columns *cols, size_t p0, size_t count,
                       int j0, int width, const float *c, double *slot, size_t slot_size, bool each)
{
    const struct matrix *m = &p->a;
    const struct result *r = &p->result;
    const size_t sample = (size_t)m->h * (size_t)m->w, ld = (size_t)width;
    for (int j = 0; j < width; j += VL) {
        const struct column k = column_at(cols, j0 + j);
        vf sum = vset(0), products = vset(0);
        double *to = slot ? slot + j0 + j : NULL;
        float bias[VL] = {0};
        for (int l = 0; r->bias && l < VL && k.c + l < r->out->c; l++)
            bias[l] = r->bias[k.c + l];
        const vf b = vload(bias);
        if (!r->out && !r->dx[k.part].dx)
            continue;
        for (size_t t = 0, stop; t < count; t = stop) {
            const size_t n = (p0 + t) / sample;
            stop = r->out && !each ? count : min_size(count, (n + 1) * sample - p0);
            if (r->out) {
                const size_t cp = (size_t)kr_pad(r->out->c);
                struct put y = put_at(r->out, k.c);
                if (r->phases) {
                    const size_t shift =
                        (size_t)(k.phase >> 1) * 2 * (size_t)m->w + (size_t)(k.phase & 1);
                    for (; t < stop; t++)
                        put_set(&y, (corner(m->w, p0 + t) + shift) * cp + (size_t)k.c,
                                vload(c + t * ld + j) + b);
                } else {
                    for (; t < stop; t++)
                        put_set(&y, (p0 + t) * cp + (size_t)k.c, vload(c + t * ld + j) + b);
                }
                sum += y.sum;
                products += y.squares;
            } else {
                const struct kr_dx *dx = &r->dx[k.part];
                const size_t cp = (size_t)kr_pad(dx->c);
                struct grad g = grad_at(dx, (int)n, k.c);
                for (; t < stop; t++)
                    grad_set(&g, (p0 + t) * cp + (size_t)k.c, vload(c + t * ld + j));
                sum += g.sum;
                products += g.products;
            }
            if (to && (each || stop == count)) {
                sum_add(to, sum);
                sum_add(to + slot_size / 2, products);
                sum = products = vset(0);
                to += slot_size;
            }
        }
    }
}

/* --- the product ---------------------------------------------------------------------------- */

struct division {
    struct columns ka, kr; /* of a and of the result */
    int k, cols;
    size_t sample, pixels;
    struct cut cut;   /* slots */
    int tasks, whole; /* pieces of the pixels; of `whole` samples, or 0: a slot's */
    int groups;       /* pieces of the columns */
    int block;        /* pixels */
    bool sums, each;
    size_t panels, slots, a, c, size; /* places in the workspace; a and c: one of each a thread */
};

static struct division product_divide(const struct product *p)
{
    struct division q = {.ka = matrix_columns(&p->a), .pixels = matrix_pixels(&p->a)};
    q.kr = result_columns(&p->result, p->result.dx && p->result.dx[1].c ? 2 : 1);
    q.k = columns_count(&q.ka);
    q.cols = columns_count(&q.kr);
    if (p->result.out)
        q.sums = p->result.out->sums, q.each = q.sums && p->result.out->each;
    for (int i = 0; !p->result.out && i < q.kr.parts; i++) {
        q.sums = q.sums || p->result.dx[i].sums;
        q.each = q.each || (p->result.dx[i].sums && p->result.dx[i].each);
    }
    q.sample = (size_t)p->a.h * (size_t)p->a.w;
    q.cut = cut_of(p->a.n, q.sample, 1, q.each);
    q.tasks = q.cut.chunks;
    if (q.cut.per == 1) { /* samples are small: as many tasks as for all together */
        const int all = chunk_count(q.pixels, 1);
        q.tasks = p->a.n < all ? p->a.n : all;
        q.whole = (p->a.n + q.tasks - 1) / q.tasks;
        q.tasks = (p->a.n + q.whole - 1) / q.whole;
    }
    q.groups = 16 / q.tasks;
    q.groups = q.groups > q.cols / 128 ? q.cols / 128 : q.groups;
    q.groups = q.groups < 1 ? 1 : q.groups;
    q.block = BLOCK_BYTES / 4 / q.k / 6 * 6;
    q.block = q.block < 24 ? 24 : q.block > BLOCK_MOST ? BLOCK_MOST : q.block;
    q.panels = take(&q.size, (size_t)q.k * (size_t)q.cols * sizeof(float));
    q.slots = take(&q.size, cut_most(p->a.n, q.sample, 1) * 2 * (size_t)q.cols * sizeof(double));
    q.a = take(&q.size, (size_t)p->threads * (size_t)q.block * (size_t)q.k * sizeof(float));
    q.c = take(&q.size, (size_t)p->threads * (size_t)q.block * MK_NR * sizeof(float));
    return q;
}

/* Columns are cut into groups at multiples of 64. */
INLINE int group_start(const struct division *q, int group)
{
    const int units = (q->cols + 63) / 64, at = units * group / q->groups * 64;
    return at < q->cols ? at : q->cols;
}

/* Row k of the packed weights, KR_LANES columns from j on (whole in one panel if panels are
 * wide). */
INLINE void panel_store(const struct division *q, float *panels, int k, int j, const float *row)
{
    for (int l = 0, nr, o; l < KR_LANES; l += VL) {
        for (o = (j + l) / 64 * 64; o + (nr = mk_panel(o, q->cols)) <= j + l; o += nr)
            ;
        vstore(panels + (size_t)q->k * (size_t)o + (size_t)k * (size_t)nr + (j + l - o),
               vload(row + l));
    }
}

/* A block of KR_LANES x KR_LANES channels, by rows: its transpose. */
INLINE void block_transpose(float t[KR_LANES][KR_LANES])
{
    for (int i = 0; i < KR_LANES; i += VL)
        for (int j = 0; j <= i; j += VL) {
            vf a[VL], b[VL];
            for (int l = 0; l < VL; l++) {
                a[l] = vload(t[i + l] + j);
                b[l] = vload(t[j + l] + i);
            }
            vtranspose(a);
            vtranspose(b);
            for (int l = 0; l < VL; l++) {
                vstore(t[i + l] + j, b[l]);
                vstore(t[j + l] + i, a[l]);
            }
        }
}

/* The weights between KR_LANES channels of rows from k on (with phases: all four) and KR_LANES of
 * the columns from j on. */
static void weights_block(const struct product *p, const struct division *q, int k, int j,
                          float *panels)
{
    const struct weights *w = &p->weights;
    const struct column row = column_at(&q->ka, k), col = column_at(&q->kr, j);
    const int phases = q->ka.phases || q->kr.phases ? 4 : 1;
    const size_t srow = p->forward ? w->si : w->so, scol = p->forward ? w->so : w->si;
    const float *from = w->w + (size_t)row.real * srow + (size_t)col.real * scol;
    const int rows = q->ka.c[row.part] - row.c, cols = q->kr.c[col.part] - col.c;
    float t[4][KR_LANES][KR_LANES];
    if (rows < KR_LANES || cols < KR_LANES) {
        for (int f = 0; f < phases; f++)
            for (int i = 0; i < KR_LANES; i++)
                for (int l = 0; l < KR_LANES; l++)
                    t[f][i][l] = i < rows && l < cols
                                     ? from[(size_t)i * srow + (size_t)l * scol + (size_t)f]
                                     : 0;
    } else { /* along the direction that is contiguous in memory */
        const bool along_rows = srow < scol;
        const size_t step = along_rows ? scol : srow;
        for (size_t i = 0; i < KR_LANES; i++)
            for (size_t l = 0; l < KR_LANES; l += VL) {
                if (phases == 1) {
                    vstore(t[0][i] + l, vload(from + i * step + l));
                } else {
                    vf v[4];
                    vload_fours(from + i * step + 4 * l, v);
                    for (int f = 0; f < 4; f++)
                        vstore(t[f][i] + l, v[f]);
                }
            }
        for (int f = 0; along_rows && f < phases; f++)
            block_transpose(t[f]);
    }
    for (int f = 0; f < phases; f++)
        for (int i = 0; i < KR_LANES; i++)
            panel_store(q, panels, k + i + (q->ka.phases ? f * KR_LANES : 0),
                        j + (q->kr.phases ? f * KR_LANES : 0), t[f][i]);
}

size_t KR_NAME(kr_product_workspace)(const struct product *p)
{
    return product_divide(p).size;
}

/* Where task i of the pixels begins. */
INLINE size_t task_start(const struct division *q, int i)
{
    return q->whole ? min_size((size_t)(i * q->whole) * q->sample, q->pixels)
                    : cut_start(&q->cut, i);
}

static void product_task(const struct product *p, const struct division *q, int task, int group,
                         const float *panels, float *a, float *c, double *slots)
{
    const size_t last = task_start(q, task + 1), k = (size_t)q->k, size = 2 * (size_t)q->cols;
    const int first = group_start(q, group), end = group_start(q, group + 1);
    const float *plain = matrix_plain(&p->a);
    for (size_t p0 = task_start(q, task), count; p0 < last; p0 += count) {
        double *slot = q->sums ? slots + size * (q->whole ? p0 / q->sample : (size_t)task) : NULL;
        count = min_size((size_t)q->block, last - p0);
        if (q->whole && count > q->sample) /* whole samples, or a part of one */
            count = count / q->sample * q->sample;
        else if (q->whole)
            count = min_size(count, q->sample - p0 % q->sample);
        if (!plain)
            KR_NAME(kr_matrix_pack)(&p->a, p0, count, 0, q->k, a, k);
        for (int o = first, nr; o < end; o += nr) {
            nr = mk_panel(o, end);
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
            result_set(p, &q->kr, p0, count, o, nr, c, slot, size, q->each);
        }
    }
}

void KR_NAME(kr_product)(const struct product *p, void *workspace)
{
    const struct division q = product_divide(p);
    char *base = workspace;
    float *panels = (float *)(base + q.panels);
    double *slots = (double *)(base + q.slots);
    if (q.sums)
        memset(slots, 0, (size_t)q.cut.chunks * 2 * (size_t)q.cols * sizeof *slots);
#pragma omp parallel num_threads(p->threads)
    {
        const size_t me = (size_t)omp_get_thread_num();
        float *a = (float *)(base + q.a) + me * (size_t)q.block * (size_t)q.k;
        float *c = (float *)(base + q.c) + me * (size_t)q.block * MK_NR;
#pragma omp for schedule(static)
        for (int k = 0; k < q.k; k += q.ka.phases ? 64 : KR_LANES)
            for (int j = 0; j < q.cols; j += q.kr.phases ? 64 : KR_LANES)
                weights_block(p, &q, k, j, panels);
#pragma omp for schedule(dynamic)
        for (int task = 0; task < q.tasks * q.groups; task++)
            product_task(p, &q, task / q.groups, task % q.groups, panels, a, c, slots);
    }
    if (!q.sums)
        return;
    const size_t cols = (size_t)q.cols, first = (size_t)kr_pad(q.kr.c[0]);
    if (p->result.out) {
        double *sums = p->result.out->sums;
        memset(sums, 0, (q.each ? q.cut.n : 1) * 2 * first * sizeof *sums);
        for (int chunk = 0; chunk < q.cut.chunks; chunk++) /* phases add up */
            for (size_t half = 0; half < 2; half++) {
                double *to = sums + half * first;
                if (q.each)
                    to += (size_t)(chunk / q.cut.per) * 2 * first;
                for (size_t j = 0; j < cols; j++)
                    to[column_at(&q.kr, (int)j).c] += slots[((size_t)chunk * 2 + half) * cols + j];
            }
        return;
    }
    for (int i = 0; i < q.kr.parts; i++) {
        const struct kr_dx *dx = &p->result.dx[i];
        const size_t from = i ? first : 0, cp = (size_t)kr_pad(q.kr.c[i]);
        cut_sum(&q.cut, slots, 2 * cols, from, cp, dx->sums, dx->each, 2 * cp);
        cut_sum(&q.cut, slots, 2 * cols, cols + from, cp, dx->sums ? dx->sums + cp : NULL, dx->each,
                2 * cp);
    }
}
