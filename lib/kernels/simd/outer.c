/* The weights' gradient of gemm.h's products. The sum runs over pixels. These are cut into `splits`
 * pieces, few where the result is big; a task is one piece for one group of at most 64 columns. It
 * reads its columns once, a stretch of pixels at a time, and goes over them for each panel of rows.
 */
#include "lib/kernels/simd/gemm.h"

#include "lib/kernels/simd/mk.h"
#include "lib/kernels/simd/shuffle.h"

#include <omp.h>

#define STRETCH 1024 /* pixels: their columns take 256 KiB */
#define BLOCK 96     /* pixels of the panel of rows: together with the columns' they fit L1 */
#define ROWS 48      /* of a panel */
#define GROUP 64     /* columns */
#define SUM_BYTES ((size_t)4 << 20)

struct outer_plan {
    struct columns kr, kc; /* of the rows, of the columns */
    int rows, cols, groups, splits;
    size_t pixels;
    size_t sums, bias, a, b, c, size; /* places in the workspace; a, b, c: one each a thread */
};

static struct outer_plan outer_plan(const struct outer *p)
{
    const bool across = p->dy.phases;
    struct outer_plan q = {.kr = matrix_columns(across ? &p->v : &p->dy),
                           .kc = matrix_columns(across ? &p->dy : &p->v)};
    q.rows = columns_count(&q.kr);
    q.cols = columns_count(&q.kc);
    q.pixels = matrix_pixels(&p->v);
    q.groups = (q.cols + GROUP - 1) / GROUP;
    const size_t bytes = (size_t)q.rows * (size_t)q.cols * sizeof(float);
    const size_t splits = min_size(min_size(SUM_BYTES / bytes, CHUNKS), q.pixels / 128);
    q.splits = splits < 1 ? 1 : (int)splits;
    q.sums = take(&q.size, (size_t)q.splits * bytes);
    q.bias = take(&q.size, (size_t)q.splits * (size_t)(across ? q.cols : q.rows) * sizeof(double));
    q.a = take(&q.size, (size_t)p->threads * BLOCK * ROWS * sizeof(float));
    q.b = take(&q.size, (size_t)p->threads * STRETCH * GROUP * sizeof(float));
    q.c = take(&q.size, (size_t)p->threads * ROWS * GROUP * sizeof(float));
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

/* sums: (rows, width), the task's part of the result. */
static void outer_task(const struct outer *p, const struct outer_plan *q, int split, int group,
                       float *a, float *b, float *c, float *sums, double *bias)
{
    const struct matrix *mr = p->dy.phases ? &p->v : &p->dy, *mc = p->dy.phases ? &p->dy : &p->v;
    const size_t last = chunk_start(q->pixels, q->splits, split + 1);
    const int j0 = group * GROUP, width = q->cols - j0 < GROUP ? q->cols - j0 : GROUP;
    memset(sums, 0, (size_t)q->rows * (size_t)width * sizeof *sums);
    for (size_t p0 = chunk_start(q->pixels, q->splits, split), stretch; p0 < last; p0 += stretch) {
        stretch = min_size(STRETCH, last - p0);
        KR_NAME(kr_matrix_pack)(mc, &q->kc, p0, stretch, j0, j0 + width, b, (size_t)width);
        if (p->dy.phases)
            bias_add(bias ? bias + j0 : NULL, b, stretch, (size_t)width);
        for (int r = 0; r < q->rows; r += ROWS) {
            const int rows = q->rows - r < ROWS ? q->rows - r : ROWS;
            for (size_t t = 0, count; t < stretch; t += count) {
                count = min_size(BLOCK, stretch - t);
                KR_NAME(kr_matrix_pack)(mr, &q->kr, p0 + t, count, r, r + rows, a, (size_t)rows);
                if (!p->dy.phases && !group)
                    bias_add(bias ? bias + r : NULL, a, count, (size_t)rows);
                for (int o = 0, nr; o < width; o += nr) {
                    nr = mk_panel(o, width);
                    const struct mk m = {.rows = rows,
                                         .nr = nr,
                                         .runs = 1,
                                         .k = (int)count,
                                         .a = a,
                                         .at = 1,
                                         .ak = (size_t)rows,
                                         .b = b + t * (size_t)width + o,
                                         .bk = (size_t)width,
                                         .c = c + o,
                                         .ct = (size_t)width,
                                         .add = t > 0};
                    mk_run(&m, false);
                }
            }
            float *to = sums + (size_t)r * (size_t)width;
            for (int i = 0; i < rows * width; i += VL)
                vstore(to + i, vload(to + i) + vload(c + i));
        }
    }
}

/* Row r of dw, columns of the group, from the splits in order; `sums` is the group's first split.
 */
static void outer_write(const struct outer *p, const struct outer_plan *q, int r, int group,
                        const float *sums)
{
    const size_t whole = (size_t)q->rows * (size_t)q->cols;
    const int j0 = group * GROUP, width = q->cols - j0 < GROUP ? q->cols - j0 : GROUP;
    const struct column row = column_at(&q->kr, r);
    const size_t srow = p->dy.phases ? p->weights.si : p->weights.so;
    const size_t scol = p->dy.phases ? p->weights.so : p->weights.si;
    float t[GROUP];
    if (row.c >= q->kr.c[row.part])
        return;
    for (int j = 0; j < width; j += VL) {
        vf s = vset(0);
        for (int split = 0; split < q->splits; split++)
            s += vload(sums + (size_t)split * whole + (size_t)(r * width + j));
        vstore(t + j, s);
    }
    float *to = p->dw + (size_t)row.real * srow;
    const struct column first = column_at(&q->kc, j0);
    if (p->dy.phases && first.c + KR_LANES <= q->kc.c[0]) {
        for (int l = 0; l < KR_LANES; l += VL) {
            const vf v[4] = {vload(t + l), vload(t + KR_LANES + l), vload(t + 2 * KR_LANES + l),
                             vload(t + 3 * KR_LANES + l)};
            vstore_fours(to + (size_t)(first.c + l) * 4, v);
        }
        return;
    }
    for (int j = 0; j < width; j++) {
        const struct column col = column_at(&q->kc, j0 + j);
        if (col.c < q->kc.c[col.part])
            to[(size_t)col.real * scol + (size_t)col.phase] = t[j];
    }
}

void KR_NAME(kr_outer)(const struct outer *p, void *workspace)
{
    const struct outer_plan q = outer_plan(p);
    const struct columns ky = matrix_columns(&p->dy);
    const size_t whole = (size_t)q.rows * (size_t)q.cols, ny = (size_t)columns_count(&ky);
    char *base = workspace;
    float *sums = (float *)(base + q.sums);
    double *bias = p->dbias ? (double *)(base + q.bias) : NULL;
    if (bias)
        memset(bias, 0, (size_t)q.splits * ny * sizeof *bias);
#pragma omp parallel num_threads(p->threads)
    {
        const size_t me = (size_t)omp_get_thread_num();
        float *a = (float *)(base + q.a) + me * BLOCK * ROWS;
        float *b = (float *)(base + q.b) + me * STRETCH * GROUP;
        float *c = (float *)(base + q.c) + me * ROWS * GROUP;
#pragma omp for schedule(dynamic)
        for (int task = 0; task < q.splits * q.groups; task++) {
            const int split = task / q.groups, group = task % q.groups;
            outer_task(p, &q, split, group, a, b, c,
                       sums + (size_t)split * whole + (size_t)q.rows * GROUP * (size_t)group,
                       bias ? bias + (size_t)split * ny : NULL);
        }
#pragma omp for schedule(static)
        for (int r = 0; r < q.rows; r++)
            for (int group = 0; group < q.groups; group++)
                outer_write(p, &q, r, group, sums + (size_t)q.rows * GROUP * (size_t)group);
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
