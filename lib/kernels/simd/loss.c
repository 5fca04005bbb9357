#include "lib/kernels/pointwise.h"

#include "lib/kernels/simd/map.h"
#include "lib/kernels/simd/shuffle.h"
#include "lib/kernels/simd/vmath.h"
#include "lib/kernels/table.h"

#include <assert.h>

#define RUN 64 /* pixels worked on together, of one sample */

/* A run, class by class. */
struct planes {
    float v[KR_CLASSES_MAX][RUN];
};

INLINE void planes_load(struct planes *t, int c, size_t plane, const float *from, size_t count)
{
    for (int k = 0; k < c; k++) {
        memcpy(t->v[k], from + (size_t)k * plane, count * sizeof *from);
        memset(t->v[k] + count, 0, (RUN - count) * sizeof *from);
    }
}

/* v: logits to probabilities; of each pixel the class of the first largest, -1 where one is not
 * finite, and the log of sum exp(logit - largest) plus largest. */
INLINE void planes_softmax(struct planes *t, int c, int32_t *best, float *logsum)
{
    for (size_t p = 0; p < RUN; p += VL) {
        vf top = vload(t->v[0] + p), sum = vset(0), zero = vset(0);
        vi which = (vi){0};
        for (int k = 1; k < c; k++) {
            const vf v = vload(t->v[k] + p);
            const vi more = v > top;
            top = (vf)(((vi)v & more) | ((vi)top & ~more));
            which = (which & ~more) | (((vi){0} + k) & more);
        }
        for (int k = 0; k < c; k++) {
            zero += vload(t->v[k] + p) * 0; /* unless it is not finite */
            const vf e = vexp(vload(t->v[k] + p) - top);
            vstore(t->v[k] + p, e);
            sum += e;
        }
        const vf scale = 1 / sum;
        for (int k = 0; k < c; k++)
            vstore(t->v[k] + p, vload(t->v[k] + p) * scale);
        which |= zero != vset(0);
        if (best)
            memcpy(best + p, &which, sizeof which);
        if (logsum)
            vstore(logsum + p, vlog(sum) + top);
    }
}

INLINE size_t run_length(size_t p, size_t end, size_t plane)
{
    return min_size(min_size(RUN, end - p), plane - p % plane);
}

#define FOR_RUNS(chunks, chunk, total, plane)                                                      \
    for (size_t end = chunk_start(total, chunks, (chunk) + 1),                                     \
                p0 = chunk_start(total, chunks, chunk), count = run_length(p0, end, plane);        \
         p0 < end; p0 += count, count = run_length(p0, end, plane))

void KR_NAME(kr_predict)(const struct kr_dims *d, int c, const float *logits, uint8_t *pred,
                         float *prob)
{
    const size_t plane = (size_t)d->h * (size_t)d->w, total = (size_t)d->n * plane;
    const int chunks = chunk_count(total, 1);
    assert(c <= KR_CLASSES_MAX);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < chunks; chunk++)
        FOR_RUNS(chunks, chunk, total, plane)
        {
            const size_t at = planes_at(c, plane, p0);
            struct planes t;
            int32_t best[RUN];
            planes_load(&t, c, plane, logits + at, count);
            planes_softmax(&t, c, best, NULL);
            for (size_t p = 0; pred && p < count; p++)
                pred[p0 + p] = (uint8_t)best[p];
            for (int k = 0; prob && k < c; k++)
                memcpy(prob + at + (size_t)k * plane, t.v[k], count * sizeof *prob);
        }
}

size_t KR_NAME(kr_loss_workspace)(void)
{
    return CHUNKS * sizeof(struct kr_loss_sums);
}

/* The sums of a chunk, lane by lane; counts are negative. */
struct lanes {
    double inter[KR_CLASSES_MAX][VL], prob[KR_CLASSES_MAX][VL], ce[VL];
    vi truth[KR_CLASSES_MAX], pred[KR_CLASSES_MAX], hit[KR_CLASSES_MAX], pixels, bad;
};

INLINE void sums_run(struct lanes *s, int c, size_t plane, const float *logits,
                     const uint8_t *label, size_t count)
{
    struct planes t;
    int32_t lab[RUN], best[RUN];
    float logsum[RUN];
    vf ce = vset(0);
    planes_load(&t, c, plane, logits, count);
    for (size_t p = 0; p < RUN; p++)
        lab[p] = p < count ? label[p] : KR_IGNORE;
    /* -log p[label] = log sum exp - logit[label]; logits must be read before they are
     * overwritten. */
    for (int k = 0; k < c; k++)
        for (size_t p = 0; p < RUN; p += VL) {
            vi l;
            memcpy(&l, lab + p, sizeof l);
            ce -= vwhere(l == k, vload(t.v[k] + p));
        }
    planes_softmax(&t, c, best, logsum);
    for (size_t p = 0; p < RUN; p += VL) {
        vi l;
        memcpy(&l, lab + p, sizeof l);
        const vi valid = l < c;
        s->pixels += valid;
        s->bad += ~valid & (l != KR_IGNORE);
        ce += vwhere(valid, vload(logsum + p));
    }
    sum_add(s->ce, ce);
    for (int k = 0; k < c; k++) {
        vf inter = vset(0), prob = vset(0);
        vi truth = {0}, pred = {0}, hit = {0};
        for (size_t p = 0; p < RUN; p += VL) {
            vi l, b;
            memcpy(&l, lab + p, sizeof l);
            memcpy(&b, best + p, sizeof b);
            const vi valid = l < c, is = l == k, says = (b == k) & valid;
            const vf v = vload(t.v[k] + p);
            inter += vwhere(is, v);
            prob += vwhere(valid, v);
            truth += is;
            pred += says;
            hit += is & says;
        }
        sum_add(s->inter[k], inter);
        sum_add(s->prob[k], prob);
        s->truth[k] += truth;
        s->pred[k] += pred;
        s->hit[k] += hit;
    }
}

static double lanes_sum(const double v[VL])
{
    double sum = 0;
    for (int i = 0; i < VL; i++)
        sum += v[i];
    return sum;
}

static uint64_t lanes_count(vi v)
{
    uint64_t n = 0;
    for (int i = 0; i < VL; i++)
        n += (uint64_t)-v[i];
    return n;
}

void KR_NAME(kr_loss_sums)(const struct kr_dims *d, int c, const float *logits,
                           const uint8_t *label, struct kr_loss_sums *sums, void *workspace)
{
    const size_t plane = (size_t)d->h * (size_t)d->w, total = (size_t)d->n * plane;
    const int chunks = chunk_count(total, 1);
    struct kr_loss_sums *part = workspace;
    assert(c <= KR_CLASSES_MAX);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        struct kr_loss_sums *to = &part[chunk];
        struct lanes s;
        memset(&s, 0, sizeof s);
        FOR_RUNS(chunks, chunk, total, plane)
        sums_run(&s, c, plane, logits + planes_at(c, plane, p0), label + p0, count);
        *to = (struct kr_loss_sums){
            .ce = lanes_sum(s.ce), .pixels = lanes_count(s.pixels), .bad = lanes_count(s.bad)};
        for (int k = 0; k < c; k++) {
            to->inter[k] = lanes_sum(s.inter[k]);
            to->prob[k] = lanes_sum(s.prob[k]);
            to->truth[k] = lanes_count(s.truth[k]);
            to->pred[k] = lanes_count(s.pred[k]);
            to->hit[k] = lanes_count(s.hit[k]);
        }
    }
    *sums = part[0];
    for (int i = 1; i < chunks; i++)
        kr_loss_add(sums, &part[i]);
}

/* d loss / d p of class k: all[k], and at pixels of that label own[k] more;
 * d ce / d logit: ce * (p - label). */
struct slope {
    float all[KR_CLASSES_MAX], own[KR_CLASSES_MAX], ce;
};

static struct slope slope(const struct kr_loss *l)
{
    struct slope s = {.ce = l->sums->pixels ? (float)(l->wce / (double)l->sums->pixels) : 0};
    assert(l->c <= KR_CLASSES_MAX);
    for (int k = 0; k < l->c; k++) {
        double bottom = l->sums->prob[k] + (double)l->sums->truth[k] + l->eps;
        s.own[k] = (float)(-l->wdice * 2 / bottom / l->c);
        s.all[k] = (float)(l->wdice * (2 * l->sums->inter[k] + l->eps) / bottom / bottom / l->c);
    }
    return s;
}

/* dlogits of `count` pixels from p0 on; zero beyond. */
INLINE void gradient_run(const struct kr_loss *loss, const struct slope *s, size_t plane, size_t p0,
                         size_t count, struct planes *t)
{
    const int c = loss->c;
    int32_t lab[RUN];
    planes_load(t, c, plane, loss->logits + planes_at(c, plane, p0), count);
    planes_softmax(t, c, NULL, NULL);
    for (size_t p = 0; p < RUN; p++)
        lab[p] = p < count ? loss->label[p0 + p] : KR_IGNORE;
    for (size_t p = 0; p < RUN; p += VL) {
        vi l;
        vf mean = vset(0);
        memcpy(&l, lab + p, sizeof l);
        for (int k = 0; k < c; k++)
            mean = vfma(vload(t->v[k] + p), s->all[k] + vwhere(l == k, vset(s->own[k])), mean);
        for (int k = 0; k < c; k++) {
            const vf v = vload(t->v[k] + p), g = s->all[k] + vwhere(l == k, vset(s->own[k]));
            const vf dv = vfms(v, g - mean + s->ce, vwhere(l == k, vset(s->ce)));
            vstore(t->v[k] + p, vwhere(l < c, dv));
        }
    }
}

/* --- the head: classes in fours, those past the last are zero --------------------------------- */

static int fours(int classes)
{
    return (classes + 3) / 4 * 4;
}

/* Logits k..k+4 of VL pixels from element `at` of the map on, of which `count` are there; `plain`:
 * all of them, of a float map. */
INLINE void head_logits(const struct kr_in *in, int n, size_t at, size_t count, const bool plain,
                        const float *weight, vf sum[4])
{
    const size_t cp = (size_t)kr_pad(in->c), c = (size_t)in->c;
    for (size_t j = 0; j < c; j += VL) {
        const struct view x = view_at(in, n, (int)j);
        const float *from = (const float *)in->x + at + j;
        vf v[VL];
        UNROLL(16)
        for (size_t p = 0; p < VL; p++)
            v[p] = plain       ? vmaximum(vfma(vload(from + p * cp), x.scale, x.shift), x.low)
                   : p < count ? view_get(&x, at + p * cp + j)
                               : vset(0);
        vtranspose(v);
        UNROLL(16)
        for (size_t i = 0; i < VL; i++) {
            UNROLL(4)
            for (size_t k = 0; k < 4; k++)
                sum[k] = vfma(v[i], vset(weight[k * cp + j + i]), sum[k]);
        }
    }
}

/* The weights, a row of kr_pad(c) for each class. */
static void head_rows(int c, int classes, const float *weight, float *rows)
{
    const size_t cp = (size_t)kr_pad(c);
    memset(rows, 0, (size_t)fours(classes) * cp * sizeof *rows);
    for (int k = 0; k < classes; k++)
        memcpy(rows + (size_t)k * cp, weight + (size_t)(k * c), (size_t)c * sizeof *rows);
}

void KR_NAME(kr_head_forward)(const struct kr_dims *d, const struct kr_in *in, const float *weight,
                              const float *bias, int classes, float *logits, void *workspace)
{
    const size_t plane = (size_t)d->h * (size_t)d->w, total = (size_t)d->n * plane;
    const size_t cp = (size_t)kr_pad(in->c);
    const int chunks = chunk_count(total, 1);
    assert(classes <= KR_CLASSES_MAX);
    head_rows(in->c, classes, weight, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < chunks; chunk++)
        FOR_RUNS(chunks, chunk, total, plane)
        {
            float *to = logits + planes_at(classes, plane, p0);
            for (size_t p = 0; p < count; p += VL)
                for (int k = 0; k < classes; k += 4) {
                    const size_t have = min_size(VL, count - p);
                    vf sum[4];
                    for (int i = 0; i < 4; i++)
                        sum[i] = vset(k + i < classes ? bias[k + i] : 0);
                    const float *row = (float *)workspace + (size_t)k * cp;
                    if (have == VL && in->dtype == KR_F32)
                        head_logits(in, (int)(p0 / plane), (p0 + p) * cp, have, true, row, sum);
                    else
                        head_logits(in, (int)(p0 / plane), (p0 + p) * cp, have, false, row, sum);
                    for (int i = 0; i < 4 && k + i < classes; i++) {
                        float t[VL];
                        vstore(t, sum[i]);
                        memcpy(to + (size_t)(k + i) * plane + p, t, have * sizeof *t);
                    }
                }
        }
}

/* Doubles of a slot: gradient of the weights, one row of kr_pad(c) for each class; of the bias; the
 * sums of dx. */
static size_t head_slot(int c, int classes)
{
    return (size_t)fours(classes) * (size_t)kr_pad(c) + KR_LANES + 2 * (size_t)kr_pad(c);
}

size_t KR_NAME(kr_head_workspace)(const struct kr_dims *d, int c, int classes)
{
    (void)d;
    return CHUNKS * head_slot(c, classes) * sizeof(double) +
           (size_t)fours(classes) * (size_t)kr_pad(c) * sizeof(float);
}

/* VL channels of a run, whose first is element `at` of the map: dx, and what the run adds to the
 * gradient of the weights. */
INLINE void head_run(const struct planes *t, int classes, size_t at, size_t cp, size_t count,
                     const struct view *in, struct grad *dx, const float *weight, double *slot)
{
    for (int k = 0; k < classes; k += 4) {
        vf sum[4] = {{0}};
        for (size_t p = 0; p < count; p++) {
            const vf x = view_get(in, at + p * cp);
            UNROLL(4)
            for (int i = 0; i < 4; i++)
                sum[i] = vfma(x, vset(t->v[k + i][p]), sum[i]);
        }
        for (int i = 0; i < 4; i++)
            sum_add(slot + (size_t)(k + i) * cp, sum[i]);
    }
    for (size_t p = 0; p < count; p++) {
        vf v = vset(0);
        for (int k = 0; k < classes; k += 4)
            UNROLL(4)
        for (int i = 0; i < 4; i++)
            v = vfma(vload(weight + (size_t)(k + i) * cp), vset(t->v[k + i][p]), v);
        grad_set(dx, at + p * cp, v);
    }
}

void KR_NAME(kr_head_backward)(const struct kr_dims *d, const struct kr_loss *loss,
                               const struct kr_in *in, const float *weight, const struct kr_dx *dx,
                               float *dw, float *dbias, void *workspace)
{
    const size_t sample = (size_t)d->h * (size_t)d->w, cp = (size_t)kr_pad(in->c);
    const int classes = fours(loss->c), chunks = chunk_count(sample * (size_t)d->n, 1);
    const size_t size = head_slot(in->c, loss->c), bias = (size_t)classes * cp;
    const size_t sums = bias + KR_LANES;
    const struct slope s = slope(loss);
    float *rows = (float *)((double *)workspace + CHUNKS * size);
    head_rows(in->c, loss->c, weight, rows);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, size);
        FOR_RUNS(chunks, chunk, sample * (size_t)d->n, sample)
        {
            const int n = (int)(p0 / sample);
            struct planes t;
            gradient_run(loss, &s, sample, p0, count, &t);
            for (int k = loss->c; k < classes; k++)
                memset(t.v[k], 0, sizeof t.v[k]);
            for (int k = 0; k < loss->c; k++) {
                vf sum = vset(0);
                for (size_t p = 0; p < RUN; p += VL)
                    sum += vload(t.v[k] + p);
                slot[bias + (size_t)k] += (double)sum_lanes(sum);
            }
            for (size_t j = 0; j < cp; j += VL) {
                const struct view x = view_at(in, n, (int)j);
                struct grad g = grad_at(dx, n, (int)j);
                head_run(&t, classes, p0 * cp + j, cp, count, &x, &g, rows + j, slot + j);
                sum_add(slot + sums + j, g.sum);
                sum_add(slot + sums + cp + j, g.products);
            }
        }
    }
    for (int k = 0; k < loss->c; k++) {
        for (int i = 0; i < in->c; i++) {
            double sum = 0;
            for (int chunk = 0; chunk < chunks; chunk++)
                sum += ((double *)workspace)[(size_t)chunk * size + (size_t)k * cp + (size_t)i];
            dw[k * in->c + i] = (float)sum;
        }
        double sum = 0;
        for (int chunk = 0; chunk < chunks; chunk++)
            sum += ((double *)workspace)[(size_t)chunk * size + bias + (size_t)k];
        dbias[k] = (float)sum;
    }
    slots_sum(workspace, chunks, size, sums, 2 * cp, dx->sums);
}
