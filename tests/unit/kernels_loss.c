/* The head, softmax, prediction, loss: against double, whose gradient is held to finite
 * differences. One file, as the head is held to the same losses that are checked alone. */
#include "lib/kernels/pointwise.h"
#include "tests/lib/maps.h"

/* logits (pixels, c) as doubles. */
static void softmax(const double *logits, int c, double *p)
{
    double top = logits[0], sum = 0;
    for (int k = 1; k < c; k++)
        top = fmax(top, logits[k]);
    for (int k = 0; k < c; k++)
        sum += p[k] = exp(logits[k] - top);
    for (int k = 0; k < c; k++)
        p[k] /= sum;
}

/* A loss and what it is of; x are the logits, (pixels, c) doubles. */
struct what {
    struct kr_planes d;
    struct kr_loss l;
    double *x;
};

struct parts {
    double inter[16], prob[16], squares[16], ce, share, dice;
    uint64_t truth[16], pred[16], hit[16], pixels, bad;
};

static size_t volume(const struct what *w)
{
    return (size_t)w->d.d * (size_t)w->d.h * (size_t)w->d.w;
}

static size_t pixels(const struct what *w)
{
    return (size_t)w->d.n * volume(w);
}

/* The label of pixel i: that of the finer grid nearest to the centre, the later of two. */
static unsigned label_of(const struct what *w, size_t i)
{
    const size_t x = i % (size_t)w->d.w, y = i / (size_t)w->d.w % (size_t)w->d.h;
    const size_t z = i / (size_t)w->d.w / (size_t)w->d.h, at[3] = {z, y, x};
    const size_t side[3] = {0, (size_t)w->d.h, (size_t)w->d.w};
    size_t index = 0;
    for (int a = 0; a < 3; a++) {
        const size_t f = w->l.down[a] ? (size_t)w->l.down[a] : 1;
        index = index * side[a] * f + (size_t)floor(((double)at[a] + 0.5) * (double)f);
    }
    return w->l.label[index];
}

static bool is_of(const struct what *w, unsigned label, int k)
{
    return w->l.regions ? w->l.of[label] >> k & 1 : label == (unsigned)k;
}

static void probabilities(const struct what *w, size_t i, double *p)
{
    const double *x = w->x + i * (size_t)w->d.c;
    if (!w->l.regions)
        softmax(x, w->d.c, p);
    for (int k = 0; w->l.regions && k < w->d.c; k++)
        p[k] = 1 / (1 + exp(-x[k]));
}

static double weight_of(const struct what *w, int k)
{
    return w->l.weight ? w->l.weight[k] : 1;
}

static double dice_of(const struct what *w, const struct parts *s)
{
    double sum = 0;
    for (int k = w->l.foreground; k < w->d.c; k++)
        sum += (2 * s->inter[k] + w->l.eps) /
               ((w->l.squared ? s->squares[k] : s->prob[k]) + (double)s->truth[k] + w->l.eps);
    return 1 - sum / (w->d.c - w->l.foreground);
}

/* Of pixels from..to. */
static void count(const struct what *w, size_t from, size_t to, struct parts *s)
{
    const int c = w->d.c;
    for (size_t i = from; i < to; i++) {
        const unsigned label = label_of(w, i);
        const double *x = w->x + i * (size_t)c;
        double p[16];
        int best = 0;
        s->bad += label >= (unsigned)w->l.classes && label != KR_IGNORE;
        if (label >= (unsigned)w->l.classes)
            continue;
        probabilities(w, i, p);
        for (int k = 1; k < c; k++)
            best = x[k] > x[best] ? k : best;
        for (int k = 0; k < c; k++) {
            const bool o = is_of(w, label, k), says = w->l.regions ? x[k] > 0 : best == k;
            s->prob[k] += p[k];
            s->squares[k] += p[k] * p[k];
            s->inter[k] += o ? p[k] : 0;
            s->truth[k] += o;
            s->pred[k] += says;
            s->hit[k] += says && o;
            if (w->l.regions || o) {
                const double t = o ? p[k] : 1 - p[k];
                s->ce -= weight_of(w, k) * pow(1 - t, w->l.gamma) * log(t);
                s->share += w->l.regions ? 1 : weight_of(w, k);
            }
        }
        s->pixels++;
    }
}

/* wdice * dice + wce * ce, as the header defines them. */
static double loss(const struct what *w, struct parts *out)
{
    struct parts all = {.ce = 0};
    count(w, 0, pixels(w), &all);
    all.dice = w->l.each ? 0 : dice_of(w, &all);
    for (int n = 0; w->l.each && n < w->d.n; n++) {
        struct parts own = {.ce = 0};
        count(w, (size_t)n * volume(w), (size_t)(n + 1) * volume(w), &own);
        all.dice += dice_of(w, &own) / w->d.n;
    }
    if (out)
        *out = all;
    return w->l.wdice * all.dice + (all.share > 0 ? w->l.wce * all.ce / all.share : 0);
}

/* d loss / d logits (pixels, c), by the chain rule from d loss / d p. */
static double *gradient(const struct what *w)
{
    const int c = w->d.c;
    double *d = doubles(pixels(w) * (size_t)c);
    struct parts all, s = {.ce = 0};
    loss(w, &all);
    for (size_t i = 0; i < pixels(w); i++) {
        const unsigned label = label_of(w, i);
        double p[16], g[16], mean = 0;
        if (i % volume(w) == 0) {
            s = all;
            if (w->l.each) {
                s = (struct parts){.ce = 0};
                count(w, i, i + volume(w), &s);
            }
        }
        probabilities(w, i, p);
        for (int k = 0; k < c; k++) {
            const bool o = label < (unsigned)w->l.classes && is_of(w, label, k);
            const double bottom =
                (w->l.squared ? s.squares[k] : s.prob[k]) + (double)s.truth[k] + w->l.eps;
            const double share = w->l.wdice / (c - w->l.foreground) / (w->l.each ? w->d.n : 1);
            g[k] = (2 * s.inter[k] + w->l.eps) / bottom / bottom * (w->l.squared ? 2 * p[k] : 1);
            g[k] = k < w->l.foreground ? 0 : share * (g[k] - (o ? 2 / bottom : 0));
            if (w->l.regions || o) {
                const double t = o ? p[k] : 1 - p[k], q = 1 - t, gamma = w->l.gamma;
                double dt = -pow(q, gamma) / t;
                if (gamma > 0 && q > 0)
                    dt += gamma * pow(q, gamma - 1) * log(t);
                g[k] += w->l.wce / all.share * weight_of(w, k) * dt * (o ? 1 : -1);
            }
            mean += w->l.regions ? 0 : p[k] * g[k];
        }
        for (int k = 0; k < c; k++) {
            const double slope = p[k] * (w->l.regions ? 1 - p[k] : 1) * (g[k] - mean);
            d[i * (size_t)c + (size_t)k] = label >= (unsigned)w->l.classes ? 0 : slope;
        }
    }
    return d;
}

/* Of c planes for each sample, output k of pixel i. */
static float *logit(const float *planes, size_t plane, int c, size_t i, int k)
{
    return (float *)(uintptr_t)planes + (i / plane * (size_t)c + (size_t)k) * plane + i % plane;
}

/* Labels 0 .. classes - 1, some ignored, of the grid that the loss says. */
static uint8_t *random_labels(struct rng *r, const struct what *w, int classes, bool ignore)
{
    size_t n = pixels(w);
    for (int a = 0; a < 3; a++)
        n *= w->l.down[a] ? (size_t)w->l.down[a] : 1;
    uint8_t *label = guarded(n, 1);
    for (size_t i = 0; i < n; i++) {
        label[i] = (uint8_t)rng_below(r, (uint64_t)classes);
        if (ignore && i % 5 == 0)
            label[i] = KR_IGNORE;
    }
    return label;
}

static const double weights[16] = {0.5, 2, 1.25, 0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

/* Every term and every option of a loss. Regions: of five labels three, one within the other, and
 * one apart. */
static const struct {
    const char *name;
    struct kr_planes d;
    struct kr_loss l;
} losses[] = {
    {"dice, cross-entropy", {2, 1, 9, 11, 4, 1}, {.wdice = 1, .wce = 0.5}},
    {"volumes", {2, 3, 5, 7, 3, 1}, {.wdice = 1, .wce = 1}},
    {"one class", {1, 1, 5, 7, 1, 1}, {.wdice = 1}},
    {"16 classes", {1, 1, 30, 31, 16, 1}, {.wdice = 1, .wce = 1}},
    {"cross-entropy", {1, 1, 16, 16, 4, 1}, {.wce = 1}},
    {"of each sample", {3, 1, 9, 11, 4, 1}, {.wdice = 1, .wce = 1, .each = true}},
    {"without background", {2, 1, 9, 11, 4, 1}, {.wdice = 1, .foreground = true}},
    {"squared", {2, 1, 9, 11, 4, 1}, {.wdice = 1, .squared = true}},
    {"of each sample, without background, squared",
     {2, 2, 6, 9, 3, 1},
     {.wdice = 2, .each = true, .foreground = true, .squared = true}},
    {"weights", {2, 1, 9, 11, 5, 1}, {.wdice = 1, .wce = 1, .weight = weights}},
    {"focal", {2, 1, 9, 11, 4, 1}, {.wce = 1, .gamma = 2}},
    {"focal, weights",
     {2, 1, 9, 11, 4, 1},
     {.wdice = 1, .wce = 2, .gamma = 0.5, .weight = weights}},
    {"coarser", {2, 2, 9, 11, 4, 1}, {.wdice = 1, .wce = 1, .down = {2, 4, 3}}},
    {"coarser, of each sample", {2, 1, 5, 6, 4, 1}, {.wdice = 1, .each = true, .down = {1, 2, 2}}},
    {"regions", {2, 1, 9, 11, 4, 1}, {.wdice = 1, .wce = 0.5, .regions = true}},
    {"regions of each sample, squared, coarser",
     {2, 2, 9, 11, 4, 1},
     {.wdice = 1, .wce = 1, .regions = true, .each = true, .squared = true, .down = {2, 2, 2}}},
    {"regions, focal, weights",
     {1, 1, 30, 31, 4, 1},
     {.wdice = 1, .wce = 1, .regions = true, .gamma = 2, .weight = weights}},
};
#define LOSSES ((int)(sizeof losses / sizeof *losses))

static struct what make(struct rng *r, int which, int outputs, double spread)
{
    static const uint16_t of[5] = {0, 3, 1, 7, 8};
    struct what w = {losses[which].d, losses[which].l, NULL};
    w.d.c = outputs ? outputs : w.d.c;
    const size_t n = pixels(&w), c = (size_t)w.d.c;
    w.l.eps = 1e-5;
    w.l.classes = w.l.regions ? 5 : w.d.c;
    memcpy(w.l.of, of, sizeof of);
    float *logits = random_floats(r, n * c, 0, spread);
    w.x = doubles(n * c);
    for (size_t i = 0; i < n * c; i++) {
        float *v = logit(logits, volume(&w), w.d.c, i / c, (int)(i % c));
        *v = i / c % 7 == 3 ? 1 : *v; /* ties: the first class wins */
        w.x[i] = (double)*v;
    }
    w.l.logits = logits;
    return w;
}

static void test_loss(int which, double spread, bool ignore, bool bad)
{
    struct rng r = rng_seed(11);
    struct what w = make(&r, which, 0, spread);
    const int c = w.d.c;
    struct parts want;
    /* one class is absent */
    uint8_t *label =
        random_labels(&r, &w, w.l.classes > 1 ? w.l.classes - !w.l.regions : 1, ignore);
    w.l.label = label;
    if (bad)
        label[pixels(&w) / 2] = (uint8_t)w.l.classes;
    const double both = loss(&w, &want);
    struct kr_loss_sums sums = {.ce = 0}, first = {.ce = 0};
    struct error e = {0};
    bool counts = true, same = true;
    for (int threads = 1; threads <= 4; threads++) {
        w.d.threads = threads;
        kr_loss_sums(&w.d, &w.l, &sums, guarded(kr_loss_workspace(), 64));
        first = threads == 1 ? sums : first;
        same = same && !memcmp(&first, &sums, sizeof sums);
    }
    for (int k = 0; k < c; k++) {
        compare(&e, sums.inter[k], want.inter[k]);
        compare(&e, sums.prob[k], want.prob[k]);
        if (w.l.squared)
            compare(&e, sums.squares[k], want.squares[k]);
        counts = counts && sums.truth[k] == want.truth[k] && sums.pred[k] == want.pred[k] &&
                 sums.hit[k] == want.hit[k];
    }
    compare(&e, sums.ce, want.ce);
    const double dice = kr_loss_dice(&w.l, c, &sums), ce = kr_loss_ce(&w.l, c, &sums);
    const double got = w.l.wdice * dice + w.l.wce * ce;
    ok(relative(&e) < 2e-6, "%s: %s, spread %g: sums (error %.1e)", kr_level(), losses[which].name,
       spread, relative(&e));
    ok(counts && sums.pixels == want.pixels && sums.bad == want.bad, "%s: counts", kr_level());
    ok(fabs(dice - want.dice) <= 1e-6 && fabs(got - both) <= 2e-6 * fmax(1, both),
       "%s: dice %.9f, loss %.9f, wanted %.9f", kr_level(), dice, got, both);
    ok(same, "%s: the same bytes for 1 to 4 threads", kr_level());

    struct error eg = {0};
    const double *d = gradient(&w);
    for (int i = 0; i < 50; i++) {
        size_t at = rng_below(&r, pixels(&w)) * (size_t)c + rng_below(&r, (uint64_t)c);
        double keep = w.x[at], up, down;
        w.x[at] = keep + 1e-5, up = loss(&w, NULL);
        w.x[at] = keep - 1e-5, down = loss(&w, NULL);
        w.x[at] = keep;
        compare(&eg, d[at], (up - down) / 2e-5);
    }
    ok(eg.worst <= 1e-8, "the formula of the gradient of %s (error %.1e)", losses[which].name,
       eg.worst);
    guards_free();
}

static void test_predict(struct kr_planes d, const uint8_t *paints)
{
    struct rng r = rng_seed(12);
    const int c = d.c;
    const size_t plane = (size_t)d.d * (size_t)d.h * (size_t)d.w, n = (size_t)d.n * plane;
    float *logits = random_floats(&r, n * (size_t)c, 0, 1), *prob = NULL;
    struct what w = {d, {.regions = paints}, doubles(n * (size_t)c)};
    uint8_t *pred = NULL, *first = NULL;
    struct error e = {0};
    bool right = true, same = true;
    for (int threads = 1; threads <= 4; threads++) {
        d.threads = threads;
        pred = guarded(n, 1);
        prob = floats(n * (size_t)c);
        kr_predict(&d, logits, paints, pred, prob);
        kr_predict(&d, logits, paints, NULL, prob);
        kr_predict(&d, logits, paints, pred, NULL);
        first = first ? first : pred;
        same = same && !memcmp(first, pred, n);
    }
    for (size_t i = 0; i < n * (size_t)c; i++)
        w.x[i] = (double)*logit(logits, plane, c, i / (size_t)c, (int)(i % (size_t)c));
    for (size_t i = 0; i < n; i++) {
        double *x = w.x + i * (size_t)c, p[16];
        int best = 0, painted = 0;
        probabilities(&w, i, p);
        for (int k = 0; k < c; k++) {
            best = x[k] > x[best] ? k : best;
            painted = paints && x[k] > 0 ? paints[k] : painted;
            compare(&e, (double)*logit(prob, plane, c, i, k), p[k]);
        }
        right = right && pred[i] == (paints ? painted : best);
    }
    ok(right && same && relative(&e) < 1e-6, "%s: prediction of %d %s (error %.1e)", kr_level(), c,
       paints ? "regions" : "classes", relative(&e));
    *logit(logits, plane, c, n - 1, c - 1) = INFINITY;
    kr_predict(&d, logits, paints, pred, NULL);
    ok(pred[n - 1] == 255 && (n == 1 || pred[n - 2] == first[n - 2]),
       "%s: what is not finite is no label", kr_level());
    guards_free();
}

/* Forward, and the loss through the head, against sums in double. */
static void test_head(int which, int c, int outputs, enum kr_dtype t, bool accumulate)
{
    const bool each = accumulate; /* and a leaky activation */
    struct rng r = rng_seed(14);
    struct what w = make(&r, which, outputs, 1);
    const struct shape s = {w.d.n * w.d.d, w.d.h, w.d.w};
    const int classes = w.d.c;
    const size_t n = pixels_of(s), slice = (size_t)s.h * (size_t)s.w, cp = (size_t)kr_pad(c);
    const size_t filters = (size_t)(c * classes);
    const struct kr_in in = {.x = random_map(&r, s, c, t),
                             .c = c,
                             .dtype = t,
                             .scale = random_rows(&r, s.n, c, 1, 0.3f),
                             .shift = random_rows(&r, s.n, c, 0.2f, 0.3f),
                             .stride = cp,
                             .relu = true,
                             .slope = each ? 0.2f : 0};
    const float *gain = random_rows(&r, s.n, c, 1, 0.3f), *before = random_map(&r, s, c, KR_F32);
    const float *weight = random_floats(&r, filters, 0, 1 / sqrt(c));
    const float *bias = random_floats(&r, (size_t)classes, 0, 1);
    const size_t room = kr_head_workspace(&w.d, c);
    float *logits = floats(n * (size_t)classes);
    struct kr_loss_sums sums;
    struct error ey = {0};
    w.l.logits = logits;
    w.l.label = random_labels(&r, &w, w.l.classes, true);
    kr_head_forward(&w.d, &in, weight, bias, logits, guarded(room, 64));
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < classes; k++) {
            double sum = (double)bias[k];
            for (int j = 0; j < c; j++)
                sum += (double)weight[k * c + j] * value(&in, s, i, j);
            w.x[i * (size_t)classes + (size_t)k] =
                (double)*logit(logits, volume(&w), classes, i, k);
            compare(&ey, w.x[i * (size_t)classes + (size_t)k], sum);
        }
    ok(relative(&ey) < 1e-5, "%s: logits of a head of %d to %d (error %.1e)", kr_level(), c,
       classes, relative(&ey));
    kr_loss_sums(&w.d, &w.l, &sums, guarded(kr_loss_workspace(), 64));
    const double *dlogits = gradient(&w);

    double *dw = doubles(filters), *db = doubles((size_t)classes), *dx = doubles(n * (size_t)c);
    double *total = doubles(sums_count(s, c, each));
    memset(dw, 0, filters * sizeof *dw), memset(db, 0, (size_t)classes * sizeof *db);
    memset(total, 0, sums_count(s, c, each) * sizeof *total);
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < classes; k++)
            db[k] += dlogits[i * (size_t)classes + (size_t)k];
        for (int j = 0; j < c; j++) {
            size_t row = i / slice * cp + (size_t)j;
            double x = get(in.x, t, c, i, j);
            double v = x * (double)in.scale[row] + (double)in.shift[row];
            double g = accumulate ? get(before, KR_F32, c, i, j) : 0;
            for (int k = 0; k < classes; k++) {
                double d = dlogits[i * (size_t)classes + (size_t)k];
                dw[k * c + j] += fmax(v, v * (double)in.slope) * d;
                g += (double)weight[k * c + j] * d;
            }
            g *= (v > 0 ? 1 : (double)in.slope) * (double)gain[row];
            dx[i * (size_t)c + (size_t)j] = g;
            double *sum = total + (each ? i / slice * 2 * cp : 0);
            sum[j] += g;
            sum[cp + (size_t)j] += g * x;
        }
    }
    struct error ew = {0}, eb = {0}, ex = {0}, es = {0};
    float *first = NULL;
    bool same = true, zero = true;
    for (int threads = 1; threads <= 4; threads++) {
        w.d.threads = threads;
        float *y = floats(n * (size_t)classes);
        kr_head_forward(&w.d, &in, weight, bias, y, guarded(room, 64));
        same = same && !memcmp(y, logits, n * (size_t)classes * sizeof *y);
        float *gw = floats(filters), *b = floats((size_t)classes);
        struct kr_dx to = {.dx = empty_map(s, c, KR_F32),
                           .c = c,
                           .accumulate = accumulate,
                           .act = &in,
                           .gain = gain,
                           .each = each,
                           .sums = doubles(sums_count(s, c, each))};
        if (accumulate)
            memcpy(to.dx, before, elements(s, c) * sizeof(float));
        kr_head_backward(&w.d, &w.l, &sums, &in, weight, &to, gw, b, guarded(room, 64));
        same = same && (!first || !memcmp(first, to.dx, elements(s, c) * sizeof(float)));
        first = first ? first : to.dx;
        for (size_t i = 0; i < filters; i++)
            compare(&ew, (double)gw[i], dw[i]);
        for (int k = 0; k < classes; k++)
            compare(&eb, (double)b[k], db[k]);
        for (size_t i = 0; i < elements(s, c); i++)
            if (i % cp >= (size_t)c || (!accumulate && label_of(&w, i / cp) == KR_IGNORE))
                zero = zero && to.dx[i] == 0;
            else
                compare(&ex, (double)to.dx[i], dx[i / cp * (size_t)c + i % cp]);
        for (size_t j = 0; j < sums_count(s, c, each); j++)
            if (j % cp < (size_t)c)
                compare(&es, to.sums[j], total[j]);
    }
    ok(same && zero && relative(&ew) < 1e-5 && relative(&eb) < 1e-5 && relative(&ex) < 1e-5 &&
           relative(&es) < 1e-5,
       "%s: %s, through a head of %d to %d (errors %.1e %.1e %.1e %.1e, threads %d, zeros %d)",
       kr_level(), losses[which].name, c, classes, relative(&ew), relative(&eb), relative(&ex),
       relative(&es), same, zero);
    guards_free();
}

static void test_extremes(bool regions)
{
    const struct shape s = {1, 1, 4};
    const struct kr_planes d = {1, 1, 1, 4, 4, 1};
    struct rng r = rng_seed(13);
    float *logits = random_floats(&r, 16, 0, 1), dx[4 * KR_LANES], dw[4 * 16], db[4];
    uint8_t label[4] = {0, 1, 2, 3};
    struct kr_loss_sums sums;
    const struct kr_loss l = {.logits = logits,
                              .label = label,
                              .wdice = 1,
                              .wce = 1,
                              .eps = 1e-5,
                              .regions = regions,
                              .classes = 4,
                              .of = {1, 2, 4, 8}};
    void *workspace = guarded(kr_loss_workspace(), 64);
    for (int k = 0; k < 4; k++) {
        *logit(logits, 4, 4, 0, k) = k ? -1e30f : 1e30f;
        *logit(logits, 4, 4, 1, k) = k ? -200 : 200;
    }
    kr_loss_sums(&d, &l, &sums, workspace);
    ok(isfinite(sums.ce) && sums.ce > 300, "%s: huge logits give a finite loss: %g", kr_level(),
       sums.ce);
    for (int odd = 0; odd < 2; odd++) {
        *logit(logits, 4, 4, 2, 2) = odd ? INFINITY : NAN;
        kr_loss_sums(&d, &l, &sums, workspace);
        ok(isnan(sums.ce) && (odd || isnan(kr_loss_dice(&l, 4, &sums))),
           "%s: what is not finite is not hidden", kr_level());
    }
    memset(label, KR_IGNORE, 4);
    kr_loss_sums(&d, &l, &sums, workspace);
    const struct kr_in in = random_in(&r, s, 16, 0);
    const struct kr_dx to = {.dx = dx, .c = 16};
    kr_head_backward(&d, &l, &sums, &in, random_floats(&r, 64, 0, 1), &to, dw, db,
                     guarded(kr_head_workspace(&d, 16), 64));
    bool zero = true;
    for (int i = 0; i < 64; i++)
        zero = zero && dx[i] == 0 && dw[i] == 0 && db[i / 16] == 0;
    ok(sums.pixels == 0 && kr_loss_dice(&l, 4, &sums) == 0 && kr_loss_ce(&l, 4, &sums) == 0 && zero,
       "%s: nothing but ignored pixels is no loss and no gradient", kr_level());
    guards_free();
}

static void all(void)
{
    static const uint8_t paints[4] = {2, 1, 3, 4};
    for (int i = 0; i < LOSSES; i++) {
        test_loss(i, i % 3 ? 2 : 1, i % 2, i % 4 == 1);
        test_head(i, i % 2 ? 16 : 5, 0, KR_F32, i % 2);
    }
    test_loss(0, 10, false, true);
    test_predict((struct kr_planes){2, 1, 7, 33, 4, 1}, NULL);
    test_predict((struct kr_planes){2, 3, 5, 31, 3, 1}, NULL);
    test_predict((struct kr_planes){1, 1, 1, 1, 1, 1}, NULL);
    test_predict((struct kr_planes){2, 2, 7, 33, 4, 1}, paints);
    test_head(0, 70, 3, KR_F32, true);
    test_head(0, 20, 5, KR_BF16, false);
    test_head(0, 1, 16, KR_F32, true);
    test_extremes(false);
    test_extremes(true);
}

int main(void)
{
    each_level(all);
    return done_testing();
}
