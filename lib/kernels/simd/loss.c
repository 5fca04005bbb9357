#include "lib/kernels/pointwise.h"

#include "lib/kernels/simd/map.h"
#include "lib/kernels/simd/vmath.h"
#include "lib/kernels/table.h"

#include <assert.h>

/* Pixels worked on together, class by class: logits are turned from pixels of 16 floats to planes.
 */
#define RUN 64

struct planes {
    float v[KR_CLASSES_MAX][RUN];
};

INLINE void planes_load(struct planes *t, int c, const float *logits, size_t count)
{
    for (size_t p = 0; p < count; p++)
        for (int k = 0; k < c; k++)
            t->v[k][p] = logits[p * KR_LANES + (size_t)k];
    for (size_t p = count; p < RUN; p++)
        for (int k = 0; k < c; k++)
            t->v[k][p] = 0;
}

/* v: logits to probabilities; of each pixel the class of the first largest, and the log of
 * sum exp(logit - largest) plus largest. */
INLINE void planes_softmax(struct planes *t, int c, int32_t *best, float *logsum)
{
    for (size_t p = 0; p < RUN; p += VL) {
        vf top = vload(t->v[0] + p), sum = vset(0);
        vi which = (vi){0};
        for (int k = 1; k < c; k++) {
            const vf v = vload(t->v[k] + p);
            const vi more = v > top;
            top = (vf)(((vi)v & more) | ((vi)top & ~more));
            which = (which & ~more) | (((vi){0} + k) & more);
        }
        for (int k = 0; k < c; k++) {
            const vf e = vexp(vload(t->v[k] + p) - top);
            vstore(t->v[k] + p, e);
            sum += e;
        }
        const vf scale = 1 / sum;
        for (int k = 0; k < c; k++)
            vstore(t->v[k] + p, vload(t->v[k] + p) * scale);
        if (best)
            memcpy(best + p, &which, sizeof which);
        if (logsum)
            vstore(logsum + p, vlog(sum) + top);
    }
}

#define FOR_RUNS(chunks, chunk, total)                                                             \
    for (size_t end = chunk_start(total, chunks, (chunk) + 1),                                     \
                p0 = chunk_start(total, chunks, chunk), count = min_size(RUN, end - p0);           \
         p0 < end; p0 += count, count = min_size(RUN, end - p0))

void KR_NAME(kr_predict)(const struct kr_dims *d, int c, const float *logits, uint8_t *pred,
                         float *prob)
{
    const size_t plane = (size_t)d->h * (size_t)d->w;
    const int chunks = chunk_count(plane, 1);
    assert(c <= KR_CLASSES_MAX);
#pragma omp parallel for collapse(2) schedule(static) num_threads(d->threads)
    for (int n = 0; n < d->n; n++)
        for (int chunk = 0; chunk < chunks; chunk++)
            FOR_RUNS(chunks, chunk, plane)
            {
                struct planes t;
                int32_t best[RUN];
                planes_load(&t, c, logits + ((size_t)n * plane + p0) * KR_LANES, count);
                planes_softmax(&t, c, best, NULL);
                for (size_t p = 0; pred && p < count; p++)
                    pred[(size_t)n * plane + p0 + p] = (uint8_t)best[p];
                for (int k = 0; prob && k < c; k++)
                    memcpy(prob + (size_t)(n * c + k) * plane + p0, t.v[k], count * sizeof *prob);
            }
}

size_t KR_NAME(kr_loss_workspace)(void)
{
    return CHUNKS * sizeof(struct kr_loss_sums);
}

INLINE uint64_t count_lanes(vi mask)
{
    int32_t n = 0;
    for (int i = 0; i < VL; i++)
        n -= mask[i];
    return (uint64_t)n;
}

INLINE void sums_run(struct kr_loss_sums *s, int c, const float *logits, const uint8_t *label,
                     size_t count)
{
    struct planes t;
    int32_t lab[RUN], best[RUN];
    float logsum[RUN];
    vf ce = vset(0);
    planes_load(&t, c, logits, count);
    for (size_t p = 0; p < RUN; p++)
        lab[p] = p < count ? label[p] : KR_IGNORE;
    /* -log p[label] = log sum exp - logit[label]; logits must be read before they are overwritten.
     */
    for (int k = 0; k < c; k++)
        for (size_t p = 0; p < RUN; p += VL) {
            vi l;
            memcpy(&l, lab + p, sizeof l);
            ce -= vwhere(l == k, vload(t.v[k] + p));
        }
    planes_softmax(&t, c, best, logsum);
    vi valid_count = {0}, bad_count = {0};
    for (size_t p = 0; p < RUN; p += VL) {
        vi l;
        memcpy(&l, lab + p, sizeof l);
        const vi valid = l < c;
        valid_count += valid;
        bad_count += ~valid & (l != KR_IGNORE);
        ce += vwhere(valid, vload(logsum + p));
    }
    s->ce += (double)sum_lanes(ce);
    s->pixels += count_lanes(valid_count);
    s->bad += count_lanes(bad_count);
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
        s->inter[k] += (double)sum_lanes(inter);
        s->prob[k] += (double)sum_lanes(prob);
        s->truth[k] += count_lanes(truth);
        s->pred[k] += count_lanes(pred);
        s->hit[k] += count_lanes(hit);
    }
}

void KR_NAME(kr_loss_sums)(const struct kr_dims *d, int c, const float *logits,
                           const uint8_t *label, struct kr_loss_sums *sums, void *workspace)
{
    const size_t total = (size_t)d->n * (size_t)d->h * (size_t)d->w;
    const int chunks = chunk_count(total, 1);
    struct kr_loss_sums *part = workspace;
    assert(c <= KR_CLASSES_MAX);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        part[chunk] = (struct kr_loss_sums){.ce = 0};
        FOR_RUNS(chunks, chunk, total)
        sums_run(&part[chunk], c, logits + p0 * KR_LANES, label + p0, count);
    }
    *sums = part[0];
    for (int i = 1; i < chunks; i++)
        kr_loss_add(sums, &part[i]);
}

/* d loss / d p of class k: all[k], and at pixels of that label own[k] more; d ce / d logit: ce * (p
 * - label). */
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
INLINE void gradient_run(const struct kr_loss *loss, const struct slope *s, size_t p0, size_t count,
                         struct planes *t)
{
    const int c = loss->c;
    int32_t lab[RUN];
    planes_load(t, c, loss->logits + p0 * KR_LANES, count);
    planes_softmax(t, c, NULL, NULL);
    for (size_t p = 0; p < RUN; p++)
        lab[p] = p < count ? loss->label[p0 + p] : KR_IGNORE;
    for (size_t p = 0; p < RUN; p += VL) {
        vi l;
        vf mean = vset(0);
        memcpy(&l, lab + p, sizeof l);
        for (int k = 0; k < c; k++)
            mean += vload(t->v[k] + p) * (s->all[k] + vwhere(l == k, vset(s->own[k])));
        for (int k = 0; k < c; k++) {
            const vf v = vload(t->v[k] + p), g = s->all[k] + vwhere(l == k, vset(s->own[k]));
            const vf dv = v * (g - mean + s->ce) - vwhere(l == k, vset(s->ce));
            vstore(t->v[k] + p, vwhere(l < c, dv));
        }
    }
}

void KR_NAME(kr_loss_backward)(const struct kr_dims *d, const struct kr_loss *loss, float *dlogits)
{
    const size_t total = (size_t)d->n * (size_t)d->h * (size_t)d->w;
    const int chunks = chunk_count(total, 1);
    const struct slope s = slope(loss);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        float out[RUN][KR_LANES];
        memset(out, 0, sizeof out);
        FOR_RUNS(chunks, chunk, total)
        {
            struct planes t;
            gradient_run(loss, &s, p0, count, &t);
            for (size_t p = 0; p < count; p++)
                for (int k = 0; k < loss->c; k++)
                    out[p][k] = t.v[k][p];
            memcpy(dlogits + p0 * KR_LANES, out, count * sizeof out[0]);
        }
    }
}

/* --- through the head: classes in fours, those past the last are zero ---------------------------- */

static int fours(int classes)
{
    return (classes + 3) / 4 * 4;
}

/* Doubles of a slot: gradient of the weights, one row of kr_pad(c) for each class; of the bias; the
 * sums of dx. */
static size_t head_slot(int c, int classes)
{
    return (size_t)fours(classes) * (size_t)kr_pad(c) + KR_LANES + 2 * (size_t)kr_pad(c);
}

size_t KR_NAME(kr_head_workspace)(int c, int classes)
{
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
                sum[i] += x * t->v[k + i][p];
        }
        for (int i = 0; i < 4; i++)
            sum_add(slot + (size_t)(k + i) * cp, sum[i]);
    }
    for (size_t p = 0; p < count; p++) {
        vf v = vset(0);
        for (int k = 0; k < classes; k += 4)
            UNROLL(4)
        for (int i = 0; i < 4; i++)
            v += vload(weight + (size_t)(k + i) * cp) * t->v[k + i][p];
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
    memset(rows, 0, (size_t)classes * cp * sizeof *rows);
    for (int k = 0; k < loss->c; k++)
        memcpy(rows + (size_t)k * cp, weight + (size_t)(k * in->c), (size_t)in->c * sizeof *rows);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, size);
        const size_t total = sample * (size_t)d->n, end = chunk_start(total, chunks, chunk + 1);
        for (size_t p0 = chunk_start(total, chunks, chunk), p1; p0 < end; p0 = p1) {
            const size_t n = p0 / sample;
            struct planes t;
            p1 = min_size(min_size(p0 + RUN, end), (n + 1) * sample);
            gradient_run(loss, &s, p0, p1 - p0, &t);
            for (int k = loss->c; k < classes; k++)
                memset(t.v[k], 0, sizeof t.v[k]);
            for (int k = 0; k < loss->c; k++) {
                vf sum = vset(0);
                for (size_t p = 0; p < RUN; p += VL)
                    sum += vload(t.v[k] + p);
                slot[bias + (size_t)k] += (double)sum_lanes(sum);
            }
            for (size_t j = 0; j < cp; j += VL) {
                const struct view x = view_at(in, (int)n, (int)j);
                struct grad g = grad_at(dx, (int)n, (int)j);
                head_run(&t, classes, p0 * cp + j, cp, p1 - p0, &x, &g, rows + j, slot + j);
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
        if (dbias)
            dbias[k] = (float)sum;
    }
    slots_sum(workspace, chunks, size, sums, 2 * cp, dx->sums);
}
