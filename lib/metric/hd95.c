/* All three definitions ask for distances from one mask's border elements to the other's; they
 * differ in what an element is, what it weighs, and when the percentile is taken. */
#include "lib/metric/metric.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const met_hd_names[MET_HDS] = {"none", "surface", "pooled", "border"};

/* A border element: its squared distance, and the row of the weight table it weighs by. */
struct item {
    float sq;
    uint32_t code;
};

static void swap(struct item *a, struct item *b)
{
    struct item t = *a;
    *a = *b;
    *b = t;
}

static float middle(float a, float b, float c)
{
    float lo = a < b ? a : b, hi = a < b ? b : a;
    return c < lo ? lo : c > hi ? hi : c;
}

/* The smallest distance such that the items no farther weigh `need` together; the largest if all of
 * them weigh less. Quickselect: the order of the items changes. */
static float reach(struct item *it, size_t n, const double weight[256], double need)
{
    float pivot = 0;
    while (n) {
        double below = 0, equal = 0;
        size_t lt = 0, i = 0, gt = n;
        pivot = middle(it[0].sq, it[n / 2].sq, it[n - 1].sq);
        while (i < gt) {
            if (it[i].sq < pivot) {
                below += weight[it[i].code];
                swap(&it[lt++], &it[i++]);
            } else if (it[i].sq > pivot) {
                swap(&it[i], &it[--gt]);
            } else {
                equal += weight[it[i++].code];
            }
        }
        if (need <= below) {
            n = lt;
        } else if (need <= below + equal || gt == n) {
            break;
        } else {
            need -= below + equal;
            it += gt;
            n -= gt;
        }
    }
    return pivot;
}

/* Sums of areas differ in their last digits by the order of adding; a share that is 95 % but for
 * that is 95 %. */
static double share95(struct item *it, size_t n, const double weight[256])
{
    double all = 0;
    for (size_t i = 0; i < n; i++)
        all += weight[it[i].code];
    return sqrt(reach(it, n, weight, 0.95 * all * (1 - 1e-12)));
}

static double percentile95(struct item *it, size_t n)
{
    double one[256] = {1}, at = 0.95 * (double)(n - 1), low = floor(at);
    double a = sqrt(reach(it, n, one, low + 1)), b = sqrt(reach(it, n, one, low + 2));
    return a + (b - a) * (at - low);
}

/* One code for each corner of a voxel, (D+1,H+1,W+1): bit 4z+2y+x tells whether the voxel on that
 * side of it is in the mask. Outside the grid nothing is. */
static void corner_codes(const uint8_t *mask, const size_t dim[3], uint8_t *code)
{
    size_t H = dim[1] + 1, W = dim[2] + 1;
    memset(code, 0, (dim[0] + 1) * H * W);
    for (size_t z = 0; z < dim[0]; z++)
        for (size_t y = 0; y < dim[1]; y++)
            for (size_t x = 0; x < dim[2]; x++) {
                if (!*mask++)
                    continue;
                for (size_t c = 0; c < 8; c++) {
                    size_t dz = c >> 2, dy = c >> 1 & 1, dx = c & 1;
                    code[((z + dz) * H + y + dy) * W + x + dx] |= (uint8_t)(1 << (7 - c));
                }
            }
}

static void border_voxels(const uint8_t *mask, const size_t dim[3], uint8_t *border)
{
    size_t D = dim[0], H = dim[1], W = dim[2], i = 0;
    for (size_t z = 0; z < D; z++)
        for (size_t y = 0; y < H; y++)
            for (size_t x = 0; x < W; x++, i++)
                border[i] = mask[i] && !(z && z + 1 < D && y && y + 1 < H && x && x + 1 < W &&
                                         mask[i - 1] && mask[i + 1] && mask[i - W] && mask[i + W] &&
                                         mask[i - H * W] && mask[i + H * W]);
}

/* The distances of the elements of `from` to those of `to`, appended to a list. */
static size_t collect(const uint8_t *from, const float *sq, size_t n, const uint8_t in[256],
                      int coded, struct item *it)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (in[from[i]])
            it[count++] = (struct item){sq[i], coded ? from[i] : 0};
    return count;
}

static size_t count_in(const uint8_t *v, size_t n, const uint8_t in[256])
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += in[v[i]];
    return count;
}

static int measure(const struct met_pair *p, int surface, unsigned wanted, double hd[MET_HDS])
{
    struct met_grid g = p->grid;
    for (int a = 0; a < 3; a++)
        g.dim[a] += (size_t)surface;
    size_t n = g.dim[0] * g.dim[1] * g.dim[2], nt, np;
    uint8_t *t = malloc(n), *q = malloc(n), in[256];
    float *sq = malloc(n * sizeof *sq);
    struct item *it = NULL;
    int r = MET_NOMEM;
    if (!t || !q || !sq)
        goto out;
    for (int i = 0; i < 256; i++)
        in[i] = i != 0 && i != 255;
    (surface ? corner_codes : border_voxels)(p->truth, p->grid.dim, t);
    (surface ? corner_codes : border_voxels)(p->pred, p->grid.dim, q);
    nt = count_in(t, n, in);
    np = count_in(q, n, in);
    it = malloc((nt + np) * sizeof *it);
    if (!it || met_edt(q, in, &g, sq) < 0)
        goto out;
    collect(t, sq, n, in, surface, it);
    if (met_edt(t, in, &g, sq) < 0)
        goto out;
    collect(q, sq, n, in, surface, it + nt);
    if (surface) {
        double area[256];
        met_surface_areas(g.spacing, area);
        hd[MET_HD_SURFACE] = fmax(share95(it, nt, area), share95(it + nt, np, area));
    }
    if (wanted & 1u << MET_HD_BORDER && !surface)
        hd[MET_HD_BORDER] = fmax(percentile95(it, nt), percentile95(it + nt, np));
    if (wanted & 1u << MET_HD_POOLED && !surface)
        hd[MET_HD_POOLED] = percentile95(it, nt + np);
    r = 0;
out:
    free(t);
    free(q);
    free(sq);
    free(it);
    return r;
}

int met_hd95(const struct met_pair *p, unsigned wanted, double hd[MET_HDS])
{
    int r = 0;
    for (int d = 0; d < MET_HDS; d++)
        hd[d] = NAN;
    if (!p->truth_count || !p->pred_count)
        return 0;
    if (wanted & 1u << MET_HD_SURFACE)
        r = measure(p, 1, wanted, hd);
    if (r == 0 && wanted & (1u << MET_HD_POOLED | 1u << MET_HD_BORDER))
        r = measure(p, 0, wanted, hd);
    return r;
}
