/* Convolutions of at most 16 channels on both sides, stride 1, plain maps: the product straight
 * from the map, tap by tap. A kernel with gaps would stage far more rows than it makes; here
 * nothing is staged, and where columns have taps outside the map, these are left out. Sums have the
 * order of gather.h, so that results are the same bytes whichever road a map's form allows. */
#include "lib/kernels/simd/conv_narrow.h"

#include "lib/kernels/simd/map.h"

#define LANES KR_LANES
#define NV (LANES / VL)
#define SUMS ((size_t)2 * LANES)
#if defined KR_LEVEL_avx512
#define MOST 16 /* pixels of a tile */
#define SOME 4
#elif defined KR_LEVEL_avx2 || defined __ARM_NEON
#define MOST 6
#define SOME 2
#else
#define MOST 2
#define SOME 1
#endif

bool KR_NAME(kr_narrow)(const struct kr_conv *p)
{
    const struct kr_in *in = &p->in[0];
    for (int i = 0; i < 3; i++)
        if (p->stride[i] != 1 || p->kernel[i] % 2 == 0)
            return false;
    return p->nin == 1 && in->c <= LANES && p->cout <= LANES && !in->planar &&
           in->dtype == KR_F32 && !in->scale && !in->relu;
}

static size_t taps_of(const struct kr_conv *p)
{
    return (size_t)p->kernel[0] * (size_t)p->kernel[1] * (size_t)p->kernel[2];
}

static struct cut rows_of(const struct kr_conv *p)
{
    return cut_of(p->n * p->d, (size_t)p->h, (size_t)p->w, true);
}

static size_t weights_bytes(const struct kr_conv *p)
{
    return taps_of(p) * (size_t)p->in[0].c * LANES * sizeof(float);
}

size_t KR_NAME(kr_narrow_workspace)(const struct kr_conv *p)
{
    return weights_bytes(p) + (size_t)rows_of(p).chunks * SUMS * sizeof(double);
}

/* To [tap][input][output]. */
static void pack(const struct kr_conv *p, float *to)
{
    const size_t taps = taps_of(p), cin = (size_t)p->in[0].c;
    memset(to, 0, weights_bytes(p));
    for (size_t o = 0; o < (size_t)p->cout; o++)
        for (size_t i = 0; i < cin; i++)
            for (size_t t = 0; t < taps; t++)
                to[(t * cin + i) * LANES + o] = p->weight[(o * cin + i) * taps + t];
}

/* What some columns of a row are sums of: the pixel of column 0, which need not be there, and the
 * weights. */
struct tap {
    const float *x, *w;
};

struct columns {
    struct tap tap[7 * 7 * 7];
    int taps, cin;
    vf bias[NV];
};

INLINE void tile(const struct columns *c, int x, size_t at, struct put put[NV], const int count)
{
    vf acc[16][NV];
    UNROLL(16)
    for (int t = 0; t < count; t++) {
        UNROLL(4)
        for (int j = 0; j < NV; j++)
            acc[t][j] = vset(0);
    }
    for (int i = 0; i < c->taps; i++) {
        const float *from = c->tap[i].x + (ptrdiff_t)x * LANES, *w = c->tap[i].w;
        for (int k = 0; k < c->cin; k++, from++, w += LANES) {
            vf u[NV];
            UNROLL(4)
            for (int j = 0; j < NV; j++)
                u[j] = vload(w + VL * j);
            UNROLL(16)
            for (int t = 0; t < count; t++) {
                const vf v = vset(from[t * LANES]);
                UNROLL(4)
                for (int j = 0; j < NV; j++)
                    acc[t][j] = vfma(v, u[j], acc[t][j]);
            }
        }
    }
    UNROLL(16)
    for (int t = 0; t < count; t++) {
        UNROLL(4)
        for (int j = 0; j < NV; j++)
            put_set(&put[j], at + (size_t)(t * LANES + VL * j), acc[t][j] + c->bias[j]);
    }
}

/* Columns x0 up to x1, all of whose taps are there; pixel 0 of the row is element `row`. */
static void columns_make(const struct columns *c, int x0, int x1, size_t row,
                         const struct kr_out *out, double *slot)
{
    for (int x = x0, end; x < x1; x = end) {
        struct put put[NV];
        end = x1 - x < SWEEP_MOST ? x1 : x + SWEEP_MOST;
        for (int j = 0; j < NV; j++)
            put[j] = put_at(out, VL * j);
        for (; end - x >= MOST; x += MOST)
            tile(c, x, row + (size_t)x * LANES, put, MOST);
        for (; end - x >= SOME; x += SOME)
            tile(c, x, row + (size_t)x * LANES, put, SOME);
        for (; end - x >= 1; x++)
            tile(c, x, row + (size_t)x * LANES, put, 1);
        for (int j = 0; j < NV; j++)
            put_sum(&put[j], slot, LANES, (size_t)(VL * j));
    }
}

/* The taps of columns from x on, and up to which column they are the same. */
static int taps_from(const struct kr_conv *p, const float *weights, int slice, int y, int x,
                     struct columns *c)
{
    const int z = slice % p->d, mid[] = {p->kernel[0] / 2, p->kernel[1] / 2, p->kernel[2] / 2};
    const size_t size = (size_t)c->cin * LANES;
    const float *w = weights;
    int end = p->w;
    c->taps = 0;
    for (int i = -mid[0]; i <= mid[0]; i++)
        for (int j = -mid[1]; j <= mid[1]; j++)
            for (int k = -mid[2]; k <= mid[2]; k++, w += size) {
                const int dz = i * p->dilation[0], dy = j * p->dilation[1], dx = k * p->dilation[2];
                if (x + dx < 0 && -dx < end)
                    end = -dx;
                if (x + dx < p->w && p->w - dx < end)
                    end = p->w - dx;
                if (z + dz < -p->before || z + dz >= p->d + p->behind || y + dy < 0 ||
                    y + dy >= p->h || x + dx < 0 || x + dx >= p->w)
                    continue;
                const ptrdiff_t at = ((ptrdiff_t)(slice + dz) * p->h + y + dy) * p->w + dx;
                c->tap[c->taps++] = (struct tap){(const float *)p->in[0].x + at * LANES, w};
            }
    return end;
}

void KR_NAME(kr_narrow_forward)(const struct kr_conv *p, const struct kr_out *out, void *workspace)
{
    const struct cut cut = rows_of(p);
    float *weights = workspace;
    void *slots = out->sums ? (char *)workspace + weights_bytes(p) : NULL;
    pack(p, weights);
#pragma omp parallel for schedule(static) num_threads(p->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        struct columns c = {.cin = p->in[0].c};
        float bias[LANES] = {0};
        double *slot = slot_at(slots, chunk, SUMS);
        if (p->bias)
            memcpy(bias, p->bias, (size_t)p->cout * sizeof *bias);
        for (int j = 0; j < NV; j++)
            c.bias[j] = vload(bias + VL * j);
        for (size_t r = cut_start(&cut, chunk); r < cut_start(&cut, chunk + 1); r++) {
            const int slice = (int)(r / (size_t)p->h), y = (int)(r % (size_t)p->h);
            for (int x = 0, end; x < p->w; x = end) {
                end = taps_from(p, weights, slice, y, x, &c);
                columns_make(&c, x, end, r * (size_t)p->w * LANES, out, slot);
            }
        }
    }
    cut_sum(&cut, slots, SUMS, 0, SUMS, out->sums, out->each, SUMS);
}
