/* The weights' gradient of gemm.h's products. The sum runs over pixels. These are cut into `splits`
 * pieces, few where the result is big; a task is one piece for one group of rows and one of
 * columns, whose part of the result stays in the second cache. It reads its rows and columns of a
 * block of pixels once, as they lie, and adds their product to its sums. */
#include "lib/kernels/simd/gemm.h"

#include "lib/kernels/simd/mk.h"
#include "lib/kernels/simd/shuffle.h"

#include <omp.h>

#define BLOCK 96                        /* pixels: a panel of 64 columns fits L1 */
#define ROWS 256                        /* of a group, at most */
#define GROUP_BYTES ((size_t)256 << 10) /* of a task's result, about */
#define GROUP_MOST 512                  /* columns */
#define SUM_BYTES ((size_t)4 << 20)

struct outer_plan {
    struct columns kr, kc; /* of the rows, of the columns */
    int rows, cols, splits;
    int high, down;   /* rows of a group, groups */
    int wide, across; /* columns of a group (a multiple of 64, or all), groups */
    size_t pixels;
    size_t sums, bias, a, b, size; /* places in the workspace; a, b: one each a thread */
};

static struct outer_plan outer_plan(const struct outer *p)
{
    const bool across = p->dy.phases;
    struct outer_plan q = {.kr = matrix_columns(across ? &p->v : &p->dy),
                           .kc = matrix_columns(across ? &p->dy : &p->v)};
    q.rows = columns_count(&q.kr);
    q.cols = columns_count(&q.kc);
    q.pixels = matrix_pixels(&p->v);
    q.high = q.rows < ROWS ? q.rows : ROWS;
    q.down = (q.rows + q.high - 1) / q.high;
    const size_t fit = GROUP_BYTES / sizeof(float) / (size_t)q.high / 64 * 64;
    q.wide = fit > GROUP_MOST ? GROUP_MOST : (int)fit;
    q.wide = q.wide < q.cols ? q.wide : q.cols;
    q.across = (q.cols + q.wide - 1) / q.wide;
    const size_t bytes = (size_t)q.rows * (size_t)q.cols * sizeof(float);
    const size_t splits = min_size(min_size(SUM_BYTES / bytes, CHUNKS), q.pixels / 128);
    q.splits = splits < 1 ? 1 : (int)splits;
    q.sums = take(&q.size, (size_t)q.splits * bytes);
    q.bias = take(&q.size, (size_t)q.splits * (size_t)(across ? q.cols : q.rows) * sizeof(double));
    q.a = take(&q.size, (size_t)p->threads * BLOCK * (size_t)q.high * sizeof(float));
    q.b = take(&q.size, (size_t)p->threads * BLOCK * (size_t)q.wide * sizeof(float));
    return q;
}

size_t KR_NAME(kr_outer_workspace)(const struct outer *p)
{
    return outer_plan(p).size;
}

/* Adds the columns of a packed block to the bias. */
static void bias_add(double *bias, const float *a, size_t count, size_t width)
{
    for (size_t j = 0; bias && j < width; j += VL)
        for (size_t t = 0; t < count;) {
            vf s = vset(0);
            for (const size_t stop = min_size(count, t + BLOCK); t < stop; t++)
                s += vload(a + t * width + j);
            sum_add(bias + j, s);
        }
}

/* The first column of a group, or the number of columns. */
INLINE int group_start(const struct outer_plan *q, int group)
{
    return group < q->across ? group * q->wide : q->cols;
}

/* sums: (rows, width), of which the task writes the rows from r0 on. */
static void outer_task(const struct outer *p, const struct outer_plan *q, int split, int group,
                       int r0, float *a, float *b, float *sums, double *bias)
{
    const struct matrix *mr = p->dy.phases ? &p->v : &p->dy, *mc = p->dy.phases ? &p->dy : &p->v;
    const size_t first = chunk_start(q->pixels, q->splits, split),
                 last = chunk_start(q->pixels, q->splits, split + 1);
    const int j0 = group_start(q, group), width = group_start(q, group + 1) - j0;
    const int rows = q->rows - r0 < q->high ? q->rows - r0 : q->high;
    for (size_t p0 = first, count; p0 < last; p0 += count) {
        count = min_size(BLOCK, last - p0);
        KR_NAME(kr_matrix_pack)(mc, p0, count, j0, j0 + width, b, (size_t)width);
        KR_NAME(kr_matrix_pack)(mr, p0, count, r0, r0 + rows, a, (size_t)rows);
        if (bias && p->dy.phases && !r0)
            bias_add(bias + j0, b, count, (size_t)width);
        else if (bias && !p->dy.phases && !group)
            bias_add(bias + r0, a, count, (size_t)rows);
        for (int o = 0, nr; o < width; o += nr) {
            nr = mk_panel(o, width);
            const struct mk m = {.rows = rows,
                                 .nr = nr,
                                 .runs = 1,
                                 .k = (int)count,
                                 .a = a,
                                 .at = 1,
                                 .ak = (size_t)rows,
                                 .b = b + o,
                                 .bk = (size_t)width,
                                 .c = sums + (size_t)r0 * (size_t)width + o,
                                 .ct = (size_t)width,
                                 .into = p0 > first ? MK_ADD : MK_SET};
            mk_run(&m, false);
        }
    }
}

/* Row r of dw, columns of the group, from the splits in order; `sums` is the group's first
 * split. */
static void outer_write(const struct outer *p, const struct outer_plan *q, int r, int group,
                        const float *sums)
{
    const size_t whole = (size_t)q->rows * (size_t)q->cols;
    const int j0 = group_start(q, group), width = group_start(q, group + 1) - j0;
    const struct column row = column_at(&q->kr, r);
    const size_t srow = p->dy.phases ? p->weights.si : p->weights.so;
    const size_t scol = p->dy.phases ? p->weights.so : p->weights.si;
    float t[GROUP_MOST];
    if (row.c >= q->kr.c[row.part])
        return;
    for (int j = 0; j < width; j += VL) {
        vf s = vset(0);
        for (int split = 0; split < q->splits; split++)
            s += vload(sums + (size_t)split * whole + (size_t)(r * width + j));
        vstore(t + j, s);
    }
    float *to = p->dw + (size_t)row.real * srow;
    int done = 0;
    for (; p->dy.phases && done < width; done += 64) {
        const int c = (j0 + done) / 4;
        if (c + KR_LANES > q->kc.c[0])
            break;
        for (int l = 0; l < KR_LANES; l += VL) {
            const float *from = t + done + l;
            const vf v[4] = {vload(from), vload(from + KR_LANES), vload(from + 2 * KR_LANES),
                             vload(from + 3 * KR_LANES)};
            vstore_fours(to + (size_t)(c + l) * 4, v);
        }
    }
    for (int j = done; j < width; j++) {
        const struct column col = column_at(&q->kc, j0 + j);
        if (col.c < q->kc.c[col.part])
            to[(size_t)col.real * scol + (size_t)col.phase] = t[j];
    }
}

void KR_NAME(kr_outer)(const struct outer *p, void *workspace)
{
    const struct outer_plan q = outer_plan(p);
    const struct columns ky = matrix_columns(&p->dy);
    const size_t rows = (size_t)q.rows, whole = rows * (size_t)q.cols,
                 ny = (size_t)columns_count(&ky);
    char *base = workspace;
    float *sums = (float *)(base + q.sums);
    double *bias = p->dbias ? (double *)(base + q.bias) : NULL;
    if (bias)
        memset(bias, 0, (size_t)q.splits * ny * sizeof *bias);
#pragma omp parallel num_threads(p->threads)
    {
        const size_t me = (size_t)omp_get_thread_num();
        float *a = (float *)(base + q.a) + me * BLOCK * (size_t)q.high;
        float *b = (float *)(base + q.b) + me * BLOCK * (size_t)q.wide;
#pragma omp for schedule(dynamic)
        for (int task = 0; task < q.splits * q.across * q.down; task++) {
            const int split = task / (q.across * q.down), group = task / q.down % q.across;
            outer_task(p, &q, split, group, task % q.down * q.high, a, b,
                       sums + (size_t)split * whole + rows * (size_t)group_start(&q, group),
                       bias ? bias + (size_t)split * ny : NULL);
        }
#pragma omp for schedule(static)
        for (int r = 0; r < q.rows; r++)
            for (int group = 0; group < q.across; group++)
                outer_write(p, &q, r, group, sums + rows * (size_t)group_start(&q, group));
    }
    if (!bias)
        return;
    for (int o = 0; o < ky.c[0]; o++) {
        const size_t j = ky.phases ? (size_t)(o / KR_LANES * 64 + o % KR_LANES) : (size_t)o;
        double s = 0;
        for (size_t split = 0; split < (size_t)q.splits; split++)
            for (size_t f = 0; f < (ky.phases ? 4 : 1); f++)
                s += bias[split * ny + j + f * KR_LANES];
        p->dbias[o] = (float)s;
    }
}
