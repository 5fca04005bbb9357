/* loss.c - softmax and sigmoid, prediction, losses, and the head, whose backward pass begins with
 * the loss.
 *
 * It is one thing: all of them go over planes in runs of pixels, and the gradient of a run is made
 * where the head takes it, never stored. */
#include "lib/kernels/pointwise.h"

#include "lib/kernels/simd/map.h"
#include "lib/kernels/simd/shuffle.h"
#include "lib/kernels/simd/vmath.h"
#include "lib/kernels/table.h"

#include <assert.h>

INLINE vf vabs(vf v)
{
    return (vf)((vi)v & 0x7fffffff);
}

/* a where m, which is a comparison's result, else b. */
INLINE vf vchoose(vi m, vf a, vf b)
{
    return (vf)(((vi)a & m) | ((vi)b & ~m));
}

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

/* v: logits to probabilities; of each pixel -1 in `odd` where one is not finite, else 0. */
INLINE void planes_sigmoid(struct planes *t, int c, int32_t *odd)
{
    for (size_t p = 0; p < RUN; p += VL) {
        vf zero = vset(0);
        for (int k = 0; k < c; k++) {
            const vf z = vload(t->v[k] + p), e = vexp(-vabs(z)), one = 1 / (1 + e);
            zero += z * 0;
            vstore(t->v[k] + p, vchoose(z < 0, e * one, one));
        }
        const vi which = zero != vset(0);
        memcpy(odd + p, &which, sizeof which);
    }
}

INLINE size_t run_length(size_t p, size_t end, size_t plane)
{
    return min_size(min_size(RUN, end - p), plane - p % plane);
}

/* From pixel `from` up to `to`, run by run; no run is of two planes. */
#define FOR_RUNS_BETWEEN(from, to, plane)                                                          \
    for (size_t end = (to), p0 = (from), count = run_length(p0, end, plane); p0 < end;             \
         p0 += count, count = run_length(p0, end, plane))

/* A chunk of `total` pixels from `first` on. */
#define FOR_RUNS_OF(first, chunks, chunk, total, plane)                                            \
    FOR_RUNS_BETWEEN((first) + chunk_start(total, chunks, chunk),                                  \
                     (first) + chunk_start(total, chunks, (chunk) + 1), plane)

#define FOR_RUNS(chunks, chunk, total, plane) FOR_RUNS_OF(0, chunks, chunk, total, plane)

static size_t slice_of(const struct kr_planes *d)
{
    return (size_t)d->h * (size_t)d->w;
}

static size_t volume_of(const struct kr_planes *d)
{
    return (size_t)d->d * slice_of(d);
}

void KR_NAME(kr_predict)(const struct kr_planes *d, const float *logits, const uint8_t *paints,
                         uint8_t *pred, float *prob)
{
    const size_t plane = volume_of(d), total = (size_t)d->n * plane;
    const int chunks = chunk_count(total, 1), c = d->c;
    assert(c <= KR_CLASSES_MAX);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < chunks; chunk++)
        FOR_RUNS(chunks, chunk, total, plane)
        {
            const size_t at = planes_at(c, plane, p0);
            struct planes t;
            int32_t best[RUN];
            planes_load(&t, c, plane, logits + at, count);
            if (paints)
                planes_sigmoid(&t, c, best);
            else
                planes_softmax(&t, c, best, NULL);
            for (size_t p = 0; pred && p < count; p++)
                pred[p0 + p] = (uint8_t)best[p];
            for (int k = 0; pred && paints && k < c; k++)
                for (size_t p = 0; p < count; p++)
                    if (t.v[k][p] > 0.5f && best[p] == 0)
                        pred[p0 + p] = paints[k];
            for (int k = 0; prob && k < c; k++)
                memcpy(prob + at + (size_t)k * plane, t.v[k], count * sizeof *prob);
        }
}

/* The labels of a run, KR_IGNORE behind its end. */
INLINE void labels_load(const struct kr_planes *d, const struct kr_loss *loss, size_t p0,
                        size_t count, int32_t *lab)
{
    size_t f[3], x, y, z;
    for (size_t p = count; p < RUN; p++)
        lab[p] = KR_IGNORE;
    for (int a = 0; a < 3; a++)
        f[a] = loss->down[a] > 1 ? (size_t)loss->down[a] : 1;
    if (f[0] * f[1] * f[2] == 1) {
        for (size_t p = 0; p < count; p++)
            lab[p] = loss->label[p0 + p];
        return;
    }
    const size_t h = (size_t)d->h, w = (size_t)d->w;
    x = p0 % w, y = p0 / w % h, z = p0 / w / h; /* z: of all samples' slices */
    for (size_t p = 0; p < count; p++) {
        lab[p] = loss->label[((z * f[0] + f[0] / 2) * h * f[1] + y * f[1] + f[1] / 2) * w * f[2] +
                             x * f[2] + f[2] / 2];
        if (++x == w)
            x = 0, y++; /* of one slice */
    }
}

size_t KR_NAME(kr_loss_workspace)(void)
{
    return CHUNKS * sizeof(struct kr_loss_sums);
}

/* The sums of a chunk, lane by lane; counts are negative. */
struct lanes {
    double inter[KR_CLASSES_MAX][VL], prob[KR_CLASSES_MAX][VL], squares[KR_CLASSES_MAX][VL], ce[VL];
    vi truth[KR_CLASSES_MAX], pred[KR_CLASSES_MAX], hit[KR_CLASSES_MAX], pixels, bad;
};

/* Classes; no logarithm is weighted, no square wanted. */
INLINE void sums_run(struct lanes *s, int c, size_t plane, const float *logits, const int32_t *lab,
                     size_t count)
{
    struct planes t;
    int32_t best[RUN];
    float logsum[RUN];
    vf ce = vset(0);
    planes_load(&t, c, plane, logits, count);
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

/* --- any loss: what is left out above --------------------------------------------------------- */

static bool is_plain(const struct kr_loss *l)
{
    return !l->regions && !l->weight && !l->squared && l->gamma == 0;
}

/* Of a run: p and o of each output, and what -log (o ? p : 1 - p), weighted, is and how steep; of
 * classes of the label's p alone, in place 0. */
struct run {
    struct planes p;
    float log[KR_CLASSES_MAX][RUN], steep[KR_CLASSES_MAX][RUN];
    int32_t lab[RUN], best[RUN];
    int32_t is[RUN]; /* bit k: o of output k; 0 where ignored */
};

INLINE vi run_is(const struct run *r, int k, size_t p)
{
    vi is;
    memcpy(&is, r->is + p, sizeof is);
    return -(is >> k & 1);
}

INLINE vi run_valid(const struct run *r, int classes, size_t p)
{
    vi l;
    memcpy(&l, r->lab + p, sizeof l);
    return l < classes;
}

/* Of p, of which q = 1 - p and log = log p are known too: w q^gamma * -log p, and the factor f of
 * its derivative by a logit, f * (p - o): w q^gamma (1 + gamma p r), where r = -log p / q, which
 * near q = 0 is 1 + q / 2 + ... */
INLINE void focal(vf p, vf q, vf log, vf w, float gamma, float *value, float *steep)
{
    if (gamma > 0) {
        const vf tiny = vset(1e-37f),
                 r = vchoose(q < 1e-3f, 1 + q * (0.5f + q * (1 / 3.0f)), -log / vmaximum(q, tiny));
        w *= vexp(gamma * vlog(vmaximum(q, tiny)));
        vstore(steep, w * (1 + gamma * p * r));
    } else {
        vstore(steep, w);
    }
    vstore(value, w * -log);
}

INLINE void run_classes(struct run *r, const struct kr_loss *loss, int c, const float *w)
{
    float z[RUN], logsum[RUN];
    for (size_t p = 0; p < RUN; p += VL) {
        vf own = vset(0);
        for (int k = 0; k < c; k++)
            own += vwhere(run_is(r, k, p), vload(r->p.v[k] + p));
        vstore(z + p, own);
    }
    planes_softmax(&r->p, c, r->best, logsum);
    for (size_t p = 0; p < RUN; p += VL) {
        vf own = vset(0), rest = vset(0), weight = vset(0);
        for (int k = 0; k < c; k++) {
            const vi is = run_is(r, k, p);
            own += vwhere(is, vload(r->p.v[k] + p));
            rest += vwhere(~is, vload(r->p.v[k] + p));
            weight += vwhere(is, vset(w[k]));
        }
        focal(own, rest, vload(z + p) - vload(logsum + p), weight, (float)loss->gamma,
              r->log[0] + p, r->steep[0] + p);
    }
}

INLINE void run_regions(struct run *r, const struct kr_loss *loss, int c, const float *w)
{
    for (int k = 0; k < c; k++)
        for (size_t p = 0; p < RUN; p += VL) {
            const vf z = vload(r->p.v[k] + p), t = vchoose(run_is(r, k, p), z, -z);
            const vf e = vexp(-vabs(t)), one = 1 / (1 + e), other = e * one;
            const vf log = vchoose(t < 0, t, vset(0)) - vlog(1 + e) + z * 0;
            focal(vchoose(t < 0, other, one), vchoose(t < 0, one, other), log, vset(w[k]),
                  (float)loss->gamma, r->log[k] + p, r->steep[k] + p);
        }
    planes_sigmoid(&r->p, c, r->best);
}

static void run_load(struct run *r, const struct kr_planes *d, const struct kr_loss *loss,
                     size_t p0, size_t count)
{
    const size_t plane = volume_of(d);
    const int classes = loss->regions ? loss->classes : d->c;
    float w[KR_CLASSES_MAX];
    for (int k = 0; k < d->c; k++)
        w[k] = loss->weight ? (float)loss->weight[k] : 1;
    labels_load(d, loss, p0, count, r->lab);
    for (size_t p = 0; p < RUN; p++)
        r->is[p] = r->lab[p] >= classes ? 0 : loss->regions ? loss->of[r->lab[p]] : 1 << r->lab[p];
    planes_load(&r->p, d->c, plane, loss->logits + planes_at(d->c, plane, p0), count);
    if (loss->regions)
        run_regions(r, loss, d->c, w);
    else
        run_classes(r, loss, d->c, w);
}

static void sums_any(struct lanes *s, const struct kr_planes *d, const struct kr_loss *loss,
                     size_t p0, size_t count)
{
    const int classes = loss->regions ? loss->classes : d->c;
    struct run r;
    run_load(&r, d, loss, p0, count);
    for (size_t p = 0; p < RUN; p += VL) {
        vi l;
        memcpy(&l, r.lab + p, sizeof l);
        const vi valid = l < classes;
        s->pixels += valid;
        s->bad += ~valid & (l != KR_IGNORE);
    }
    for (int k = 0; k < d->c; k++) {
        vf inter = vset(0), prob = vset(0), squares = vset(0), ce = vset(0);
        for (size_t p = 0; p < RUN; p += VL) {
            vi b;
            memcpy(&b, r.best + p, sizeof b);
            const vi valid = run_valid(&r, classes, p), is = run_is(&r, k, p);
            const vf v = vwhere(valid, vload(r.p.v[k] + p));
            const vi says = (loss->regions ? v > 0.5f : b == k) & valid;
            inter += vwhere(is, v);
            prob += v;
            squares += v * v;
            if (loss->regions || !k)
                ce += vwhere(valid, vload(r.log[k] + p));
            s->truth[k] += is;
            s->pred[k] += says;
            s->hit[k] += is & says;
        }
        sum_add(s->inter[k], inter);
        sum_add(s->prob[k], prob);
        sum_add(s->squares[k], squares);
        sum_add(s->ce, ce);
    }
}

/* --- the loss and its gradient ---------------------------------------------------------------- */

/* Of `pixels` pixels from `first` on. */
static void sums_of(const struct kr_planes *d, const struct kr_loss *loss, size_t first,
                    size_t pixels, struct kr_loss_sums *sums, struct kr_loss_sums *part)
{
    const size_t plane = volume_of(d), slice = slice_of(d);
    const int chunks = chunk_count(pixels, 1);
    const bool plain = is_plain(loss);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        struct kr_loss_sums *to = &part[chunk];
        struct lanes s;
        memset(&s, 0, sizeof s);
        FOR_RUNS_OF(first, chunks, chunk, pixels, slice)
        {
            int32_t lab[RUN];
            if (plain) {
                labels_load(d, loss, p0, count, lab);
                sums_run(&s, d->c, plane, loss->logits + planes_at(d->c, plane, p0), lab, count);
            } else {
                sums_any(&s, d, loss, p0, count);
            }
        }
        *to = (struct kr_loss_sums){
            .ce = lanes_sum(s.ce), .pixels = lanes_count(s.pixels), .bad = lanes_count(s.bad)};
        for (int k = 0; k < d->c; k++) {
            to->inter[k] = lanes_sum(s.inter[k]);
            to->prob[k] = lanes_sum(s.prob[k]);
            to->squares[k] = lanes_sum(s.squares[k]);
            to->truth[k] = lanes_count(s.truth[k]);
            to->pred[k] = lanes_count(s.pred[k]);
            to->hit[k] = lanes_count(s.hit[k]);
        }
    }
    *sums = part[0];
    for (int i = 1; i < chunks; i++)
        kr_loss_add(sums, &part[i]);
}

/* d dice / d p of output k: all[k] (squared: times 2p), and where o is 1 own[k] more. */
struct slope {
    float all[KR_CLASSES_MAX], own[KR_CLASSES_MAX];
};

/* Of so many samples' mean. */
static struct slope slope(const struct kr_loss *l, int c, const struct kr_loss_sums *sums,
                          uint64_t samples)
{
    const double *prob = l->squared ? sums->squares : sums->prob;
    const double weight = l->wdice / (double)samples;
    const int first = l->foreground;
    struct slope s = {{0}, {0}};
    for (int k = first; k < c; k++) {
        double bottom = prob[k] + (double)sums->truth[k] + l->eps;
        s.own[k] = (float)(-weight * 2 / bottom / (c - first));
        s.all[k] = (float)(weight * (2 * sums->inter[k] + l->eps) / bottom / bottom / (c - first));
    }
    return s;
}

/* The sums of the batch, sample by sample, and where `to` is given the slopes of each: `samples`
 * are all that the mean is of. */
static void each_sample(const struct kr_planes *d, const struct kr_loss *loss,
                        struct kr_loss_sums *sums, struct slope *to, uint64_t samples,
                        struct kr_loss_sums *part)
{
    const size_t plane = volume_of(d);
    *sums = (struct kr_loss_sums){.samples = 0};
    for (int n = 0; n < d->n; n++) {
        struct kr_loss_sums own;
        sums_of(d, loss, (size_t)n * plane, plane, &own, part);
        if (to)
            to[n] = slope(loss, d->c, &own, samples);
        own.dice = kr_loss_dice(loss, d->c, &own);
        own.samples = 1;
        kr_loss_add(sums, &own);
    }
}

void KR_NAME(kr_loss_sums)(const struct kr_planes *d, const struct kr_loss *loss,
                           struct kr_loss_sums *sums, void *workspace)
{
    assert(d->c <= KR_CLASSES_MAX && d->c > loss->foreground);
    if (loss->each)
        each_sample(d, loss, sums, NULL, 0, workspace);
    else
        sums_of(d, loss, 0, (size_t)d->n * volume_of(d), sums, workspace);
}

/* dlogits of `count` pixels from p0 on; zero beyond. d ce / d logit is ce * (p - o). */
INLINE void gradient_run(const struct kr_planes *d, const struct kr_loss *loss,
                         const struct slope *s, float ce, size_t p0, size_t count, struct planes *t)
{
    const size_t plane = volume_of(d);
    const int c = d->c;
    int32_t lab[RUN];
    planes_load(t, c, plane, loss->logits + planes_at(c, plane, p0), count);
    planes_softmax(t, c, NULL, NULL);
    labels_load(d, loss, p0, count, lab);
    for (size_t p = 0; p < RUN; p += VL) {
        vi l;
        vf mean = vset(0);
        memcpy(&l, lab + p, sizeof l);
        for (int k = 0; k < c; k++)
            mean = vfma(vload(t->v[k] + p), s->all[k] + vwhere(l == k, vset(s->own[k])), mean);
        for (int k = 0; k < c; k++) {
            const vf v = vload(t->v[k] + p), g = s->all[k] + vwhere(l == k, vset(s->own[k]));
            const vf dv = vfms(v, g - mean + ce, vwhere(l == k, vset(ce)));
            vstore(t->v[k] + p, vwhere(l < c, dv));
        }
    }
}

static void gradient_any(const struct kr_planes *d, const struct kr_loss *loss,
                         const struct slope *s, float ce, size_t p0, size_t count, struct planes *t)
{
    const int c = d->c, classes = loss->regions ? loss->classes : c;
    struct run r;
    run_load(&r, d, loss, p0, count);
    for (size_t p = 0; p < RUN; p += VL) {
        const vi valid = run_valid(&r, classes, p);
        vf g[KR_CLASSES_MAX], mean = vset(0);
        for (int k = 0; k < c; k++) {
            const vf v = vload(r.p.v[k] + p);
            g[k] = s->all[k] * (loss->squared ? 2 * v : vset(1)) +
                   vwhere(run_is(&r, k, p), vset(s->own[k]));
            mean = vfma(v, g[k], mean);
        }
        for (int k = 0; k < c; k++) {
            const vf v = vload(r.p.v[k] + p), o = vwhere(run_is(&r, k, p), vset(1));
            const vf steep = ce * vload(r.steep[loss->regions ? k : 0] + p);
            const vf inner = loss->regions ? g[k] * (1 - v) : g[k] - mean;
            vstore(t->v[k] + p, vwhere(valid, vfma(v, inner, steep * (v - o))));
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
            v[p] = plain       ? vfma(vload(from + p * cp), x.scale, x.shift)
                   : p < count ? view_get(&x, at + p * cp + j)
                               : vset(0);
        for (size_t p = 0; plain && p < VL; p++)
            v[p] = vactivate(v[p], x.leaky, x.low);
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

void KR_NAME(kr_head_forward)(const struct kr_planes *d, const struct kr_in *in,
                              const float *weight, const float *bias, float *logits,
                              void *workspace)
{
    const size_t plane = volume_of(d), slice = slice_of(d), total = (size_t)d->n * plane;
    const size_t cp = (size_t)kr_pad(in->c);
    const int chunks = chunk_count(total, 1), classes = d->c;
    assert(classes <= KR_CLASSES_MAX);
    head_rows(in->c, classes, weight, workspace);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < chunks; chunk++)
        FOR_RUNS(chunks, chunk, total, slice)
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
                        head_logits(in, (int)(p0 / slice), (p0 + p) * cp, have, true, row, sum);
                    else
                        head_logits(in, (int)(p0 / slice), (p0 + p) * cp, have, false, row, sum);
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

static size_t head_slots(const struct kr_planes *d)
{
    return cut_most(d->n * d->d, slice_of(d), 1);
}

size_t KR_NAME(kr_head_workspace)(const struct kr_planes *d, int c)
{
    return head_slots(d) * head_slot(c, d->c) * sizeof(double) +
           (size_t)fours(d->c) * (size_t)kr_pad(c) * sizeof(float) +
           (size_t)d->n * sizeof(struct slope) + KR_NAME(kr_loss_workspace)();
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

void KR_NAME(kr_head_backward)(const struct kr_planes *d, const struct kr_loss *loss,
                               const struct kr_loss_sums *sums, const struct kr_in *in,
                               const float *weight, const struct kr_dx *dx, float *dw, float *dbias,
                               void *workspace)
{
    const size_t slice = slice_of(d);
    const size_t cp = (size_t)kr_pad(in->c), size = head_slot(in->c, d->c);
    const struct cut cut = cut_of(d->n * d->d, slice, 1, dx->each);
    const int classes = fours(d->c);
    const size_t bias = (size_t)classes * cp, sums_at = bias + KR_LANES;
    const bool plain = is_plain(loss);
    const double share = kr_loss_share(loss, d->c, sums);
    const float ce = share > 0 ? (float)(loss->wce / share) : 0;
    float *rows = (float *)((double *)workspace + head_slots(d) * size);
    struct slope *slopes = (struct slope *)(rows + bias), all;
    assert(d->c <= KR_CLASSES_MAX && d->c > loss->foreground);
    if (loss->each) {
        struct kr_loss_sums again;
        each_sample(d, loss, &again, slopes, sums->samples, (struct kr_loss_sums *)(slopes + d->n));
    } else {
        all = slope(loss, d->c, sums, 1);
    }
    head_rows(in->c, d->c, weight, rows);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int chunk = 0; chunk < cut.chunks; chunk++) {
        double *slot = slot_at(workspace, chunk, size);
        FOR_RUNS_BETWEEN(cut_start(&cut, chunk), cut_start(&cut, chunk + 1), slice)
        {
            const int n = (int)(p0 / slice);
            const struct slope *s = loss->each ? &slopes[n / d->d] : &all;
            struct planes t;
            if (plain)
                gradient_run(d, loss, s, ce, p0, count, &t);
            else
                gradient_any(d, loss, s, ce, p0, count, &t);
            for (int k = d->c; k < classes; k++)
                memset(t.v[k], 0, sizeof t.v[k]);
            for (int k = 0; k < d->c; k++) {
                vf sum = vset(0);
                for (size_t p = 0; p < RUN; p += VL)
                    sum += vload(t.v[k] + p);
                slot[bias + (size_t)k] += (double)sum_lanes(sum);
            }
            for (size_t j = 0; j < cp; j += VL) {
                const struct view x = view_at(in, n, (int)j);
                struct grad g = grad_at(dx, n, (int)j);
                head_run(&t, classes, p0 * cp + j, cp, count, &x, &g, rows + j, slot + j);
                grad_sum(&g, slot + sums_at, cp, j);
            }
        }
    }
    for (int k = 0; k < d->c; k++) {
        for (int i = 0; i < in->c; i++) {
            double sum = 0;
            for (int chunk = 0; chunk < cut.chunks; chunk++)
                sum += ((double *)workspace)[(size_t)chunk * size + (size_t)k * cp + (size_t)i];
            dw[k * in->c + i] = (float)sum;
        }
        double sum = 0;
        for (int chunk = 0; chunk < cut.chunks; chunk++)
            sum += ((double *)workspace)[(size_t)chunk * size + bias + (size_t)k];
        dbias[k] = (float)sum;
    }
    cut_sum(&cut, workspace, size, sums_at, 2 * cp, dx->sums, dx->each, 2 * cp);
}
