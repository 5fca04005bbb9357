/* One file: every operation is tried on the same disc. */
#include "lib/image/augment.h"
#include "lib/image/vmath.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { H = 96, W = 112, N = H * W };

static float before[4 * N], after[4 * N], scratch[4 * N];
static uint8_t lab[N], lab_before[N];

/* A disc of smooth texture in a background of zeros; labels are rings. */
static void make(void)
{
    for (int i = 0; i < N; i++) {
        double y = i / W - (H - 1) / 2.0, x = i % W - (W - 1) / 2.0, r = hypot(y, x);
        for (int k = 0; k < 4; k++)
            before[k * N + i] =
                r > 44 ? 0 : (float)(sin(0.13 * x + k) + cos(0.11 * y) + 0.01 * r + 2.7);
        lab_before[i] = r > 30 ? 0 : r > 20 ? 2 : r > 10 ? 3 : 1;
    }
}

static unsigned run(enum img_op o, double lo, double hi, uint64_t seed)
{
    struct img_range op[IMG_OPS] = {0};
    op[o] = (struct img_range){lo, hi, 1};
    memcpy(after, before, sizeof after);
    memcpy(lab, lab_before, sizeof lab);
    return img_augment(op, rng_seed(seed), 0, after, 4, H, W, lab, scratch);
}

static void moments(const float *p, double *mean, double *sd)
{
    double s = 0, q = 0, n = 0;
    for (int i = 0; i < N; i++)
        if (p[i] != 0)
            s += p[i], n++;
    for (int i = 0; i < N; i++)
        if (p[i] != 0)
            q += (p[i] - s / n) * (p[i] - s / n);
    *mean = s / n;
    *sd = sqrt(q / n);
}

static void elementary_functions(void)
{
    double log_err = 0, exp_err = 0, sqrt_err = 0, sin_err = 0;
    for (int i = 1; i < 200000; i++) {
        float x = (float)i * 37.7e-5f, e = ((float)i - 100000) * 1e-3f;
        uint32_t t = (uint32_t)i * 21475u;
        v4 s, c;
        v4_sincos((u4){t, t, t, t}, &s, &c);
        log_err = fmax(log_err, fabs(v4_log(V4(x))[0] - log(x)) / fmax(1, fabs(log(x))));
        exp_err = fmax(exp_err, fabs(v4_exp2(V4(e))[0] / exp2(e) - 1));
        sqrt_err = fmax(sqrt_err, fabs(v4_sqrt(V4(x))[0] / sqrt(x) - 1));
        double turn = 2 * 3.14159265358979323846 * t / 4294967296.0;
        sin_err = fmax(sin_err, fmax(fabs(s[0] - sin(turn)), fabs(c[0] - cos(turn))));
    }
    ok(log_err < 3e-7, "log agrees with libm (%.1e)", log_err);
    ok(exp_err < 3e-7, "exp2 agrees with libm (%.1e)", exp_err);
    ok(sqrt_err < 4e-7, "sqrt agrees with libm (%.1e)", sqrt_err);
    ok(sin_err < 3e-7, "sine and cosine agree with libm (%.1e)", sin_err);
}

/* Bounds are five standard errors of the estimate at this n. */
static void normal_deviates(void)
{
    enum { M = 1 << 20 };
    float *z = malloc(M * sizeof *z), seven[7];
    double m[5] = {0}, n = M, tail = 0, lag = 0, pair = 0;
    if (!z)
        exit(1);
    img_normals(rng_seed(3), z, M);
    for (int i = 0; i < M; i++) {
        for (int k = 1; k < 5; k++)
            m[k] += pow(z[i], k) / n;
        tail += fabs(z[i]) > 3;
        lag += i ? z[i] * z[i - 1] / n : 0;
        pair += i >= 4 ? z[i] * z[i - 4] / n : 0;
    }
    ok(fabs(m[1]) < 5 / sqrt(n), "normal: mean 0 (%.5f)", m[1]);
    ok(fabs(m[2] - 1) < 5 * sqrt(2 / n), "normal: variance 1 (%.5f)", m[2]);
    ok(fabs(m[3]) < 5 * sqrt(15 / n), "normal: no skew (%.5f)", m[3]);
    ok(fabs(m[4] - 3) < 5 * sqrt(96 / n), "normal: kurtosis 3 (%.5f)", m[4]);
    double p = erfc(3 / sqrt(2));
    ok(fabs(tail / n - p) < 5 * sqrt(p / n), "normal: %.5f beyond 3, wanted %.5f", tail / n, p);
    ok(fabs(lag) < 5 / sqrt(n) && fabs(pair) < 5 / sqrt(n), "normal: neighbours are unrelated");
    img_normals(rng_seed(3), seven, 7);
    ok(!memcmp(seven, z, sizeof seven), "normal: fewer are the first of more");
    free(z);
}

static void background(void)
{
    for (int o = 0; o < IMG_DROPOUT; o++) {
        bool zero = true, changed = false;
        for (uint64_t seed = 0; seed < 8; seed++) {
            run((enum img_op)o, img_ops[o].usual.lo, img_ops[o].usual.hi, seed);
            bool moves = o <= IMG_FLIP;
            for (int i = 0; i < 4 * N; i++) {
                zero &= moves || (before[i] != 0) == (after[i] != 0);
                changed |= before[i] != after[i];
            }
            for (int i = 0; i < 4; i++)
                zero &= after[i * N] == 0;
            changed |= !moves && memcmp(lab, lab_before, sizeof lab);
        }
        ok(zero && changed, "%s: changes the image, background stays exact zero", img_ops[o].name);
    }
}

static void intensity(void)
{
    double m0, s0, m1, s1;
    run(IMG_NOISE, 0.5, 0.5, 1);
    for (int i = 0; i < 4 * N; i++)
        after[i] -= before[i];
    moments(after, &m1, &s1);
    /* about 6080 pixels: a standard error of the deviation is 0.9 % of it */
    ok(fabs(m1) < 5 * 0.5 / 77 && fabs(s1 / 0.5 - 1) < 0.05, "noise: of the deviation asked for");
    double cross = 0;
    for (int i = 0; i < N; i++)
        cross += after[i] * after[N + i] / (0.25 * 6080);
    ok(fabs(cross) < 5 / sqrt(6080), "noise: channels have their own");

    run(IMG_BRIGHTNESS, 1.2, 1.2, 1);
    bool same = true;
    for (int i = 0; i < 4 * N; i++)
        same &= after[i] == before[i] * 1.2f;
    ok(same, "brightness: times the factor");

    moments(before, &m0, &s0);
    run(IMG_CONTRAST, 0.8, 0.8, 1);
    moments(after, &m1, &s1);
    ok(fabs(m1 - m0) < 1e-5 && fabs(s1 - 0.8 * s0) < 1e-5, "contrast: about the mean");
    run(IMG_CONTRAST, 2, 2, 1);
    float top = 0, old = 0;
    for (int i = 0; i < N; i++) {
        top = fmaxf(top, after[i]);
        old = fmaxf(old, before[i]);
    }
    ok(top == old, "contrast: stays within the range");

    for (int inv = 0; inv < 2; inv++) {
        bool rises = true, curved = false;
        run(inv ? IMG_GAMMAINV : IMG_GAMMA, 1.5, 1.5, 1);
        moments(after, &m1, &s1);
        /* Against the definition in double, up to the line that restores mean and deviation. */
        float lo = INFINITY, hi = 0;
        static double want[N];
        double wm = 0, ws = 0, n = 0, worst = 0;
        for (int i = 0; i < N; i++)
            if (before[i] != 0) {
                lo = fminf(lo, before[i]);
                hi = fmaxf(hi, before[i]);
            }
        for (int i = 0; i < N; i++)
            if (before[i] != 0) {
                double x = inv ? (hi - before[i]) / (hi - lo) : (before[i] - lo) / (hi - lo);
                want[i] = (inv ? -1 : 1) * pow(x, 1.5);
                wm += want[i], n++;
            }
        for (int i = 0; i < N; i++)
            if (before[i] != 0)
                ws += pow(want[i] - wm / n, 2) / n;
        for (int i = 0; i < N; i++)
            if (before[i] != 0)
                worst = fmax(worst, fabs((want[i] - wm / n) / sqrt(ws) * s0 + m0 - after[i]));
        for (int i = 1; i < N; i++)
            if (before[i] != 0 && before[i - 1] != 0) {
                rises &= (before[i] > before[i - 1]) == (after[i] > after[i - 1]) ||
                         fabsf(before[i] - before[i - 1]) < 1e-5f;
                curved |= fabsf(before[i] - after[i]) > 0.05f;
            }
        ok(fabs(m1 - m0) < 1e-5 && fabs(s1 - s0) < 1e-5, "gamma%s: mean and deviation are kept",
           inv ? "inv" : "");
        ok(rises && curved && worst < 1e-5, "gamma%s: the curve of its definition (%.1e)",
           inv ? "inv" : "", worst);
    }

    run(IMG_LOWRES, 1, 1, 1);
    ok(!memcmp(after, before, sizeof after), "lowres: a factor of 1 changes nothing");
}

static bool changed(int k)
{
    return memcmp(after + k * N, before + k * N, N * sizeof *after) != 0;
}

/* What is added is one number a channel, of the deviation asked for, in half of the channels. */
static void shifting(void)
{
    enum { SEEDS = 400 };
    int n = 0;
    double sum = 0, square = 0, most = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        run(IMG_SHIFT, 0.2, 0.2, seed);
        for (int k = 0; k < 4; k++) {
            double added = after[k * N + N / 2 + W / 2] - before[k * N + N / 2 + W / 2];
            if (!changed(k))
                continue;
            n++;
            sum += added;
            square += added * added;
            for (int i = k * N; i < (k + 1) * N; i++)
                most = fmax(most, before[i] != 0 ? fabs(after[i] - before[i] - added) : 0);
        }
    }
    /* five standard errors: of 1600 even chances, of a mean, of a deviation */
    ok(abs(n - 2 * SEEDS) < 5 * 20, "shift: half of the channels (%d of %d)", n, 4 * SEEDS);
    ok(most < 1e-6, "shift: the same for every pixel (%.1e)", most);
    ok(fabs(sum / n) < 5 * 0.2 / sqrt(n) && fabs(sqrt(square / n) / 0.2 - 1) < 5 / sqrt(2.0 * n),
       "shift: normal with the deviation asked for (%.4f, %.4f)", sum / n, sqrt(square / n));
}

/* The brightest and the darkest stay; between them it rises, straight from point to point. */
static void remapping(void)
{
    for (int points = 3; points <= 11; points += 4) {
        bool rises = true, moved = false, straight = true;
        for (int k = 0; k < 4; k++)
            for (int i = 0; i < N; i++)
                before[k * N + i] = (float)(1 + i); /* every value once, in their order */
        run(IMG_HISTOGRAM, points, points, 7);
        for (int k = 0; k < 4; k++) {
            const float *p = after + k * N;
            double cell = (N - 1.0) / (points - 1);
            for (int i = 1; i < N; i++) {
                rises &= p[i] >= p[i - 1];
                moved |= fabsf(p[i] - before[i]) > N / 100.0f;
            }
            for (int i = 1; i < N - 1; i++)
                if (floor((i - 1) / cell) == floor((i + 1) / cell))
                    straight &= fabs(p[i + 1] - 2.0 * p[i] + p[i - 1]) < 0.01;
            rises &= fabsf(p[0] - 1) < 0.01f && fabsf(p[N - 1] - N) < 0.01f;
        }
        ok(rises && moved && straight,
           "histogram: %d points, a rising piecewise linear map of the range onto itself", points);
        make();
    }
}

/* What comes back of a plain image with one dark pixel is a + b times the field: the field's
 * logarithm has to be a polynomial of degree 3, whose fourth differences along x and y are 0. */
static void fields(void)
{
    double m0, s0, m1, s1, worst = 0, varies = 0;
    for (int i = 0; i < 4 * N; i++)
        before[i] = i % N == 17 ? 1 : 3 + (float)(i % 2) * 1e-3f;
    moments(before, &m0, &s0);
    run(IMG_BIASFIELD, 0.5, 0.5, 4);
    moments(after, &m1, &s1);
    ok(fabs(m1 - m0) < 1e-4 && fabs(s1 - s0) < 1e-4, "biasfield: mean and deviation are kept");
    for (int k = 0; k < 4; k++) {
        static double f[N];
        const float *p = after + k * N;
        for (int i = 0; i < N; i++) /* the dark pixel tells what no signal became */
            f[i] = log((p[i] - p[17]) / (before[k * N + i] - 1.0));
        for (int i = 2 * W; i < N - 64 * W; i++)
            if (i % W < W - 64) {
                double x[5], y[5];
                for (int j = 0; j < 5; j++) {
                    x[j] = f[i + 16 * j];
                    y[j] = f[i + 16 * W * j];
                }
                worst = fmax(worst, fabs(x[0] - 4 * x[1] + 6 * x[2] - 4 * x[3] + x[4]));
                worst = fmax(worst, fabs(y[0] - 4 * y[1] + 6 * y[2] - 4 * y[3] + y[4]));
                varies = fmax(varies, fabs(x[4] - x[0]));
            }
    }
    ok(worst < 2e-3 && varies > 0.02,
       "biasfield: a smooth factor, of degree 3 in its logarithm (%.1e of %.2f)", worst, varies);
    make();
}

/* Stripes of one pixel along both axes: those along one go, those along the other stay. */
static void one_axis(void)
{
    int along[2] = {0}, wrong = 0;
    for (int i = 0; i < 4 * N; i++)
        before[i] = (float)(1 + i % N % W % 2 + 2 * (i % N / W % 2));
    for (uint64_t seed = 0; seed < 40; seed++) {
        run(IMG_ANISOTROPY, 0.5, 0.5, seed);
        for (int k = 0; k < 4; k++) {
            int down = 0, right = 0, n = 0;
            if (!changed(k))
                continue;
            for (int i = k * N; i < (k + 1) * N - W; i++)
                if (i % N % W < W - 1) {
                    down += fabsf(after[i] - after[i + W]) == 2;
                    right += fabsf(after[i] - after[i + 1]) == 1;
                    n++;
                }
            wrong += !((down == n && right == 0) || (down == 0 && right == n));
            along[right == n]++;
        }
    }
    /* 40 of 160 expected either way, deviation 5.5 */
    ok(wrong == 0 && abs(along[0] - 40) < 28 && abs(along[1] - 40) < 28,
       "anisotropy: along one axis alone, either as often (%d, %d of 160)", along[0], along[1]);
    make();
}

static void boxes(void)
{
    int hit = 0, wrong = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        run(IMG_CUTOUT, 0.25, 0.25, seed);
        for (int k = 0; k < 4; k++) {
            double mean, sd;
            int n = 0;
            if (!changed(k))
                continue;
            moments(before + k * N, &mean, &sd);
            for (int i = k * N; i < (k + 1) * N; i++)
                if (after[i] != before[i]) {
                    n++;
                    wrong += before[i] == 0 || fabs(after[i] - mean) > 1e-5;
                }
            wrong += n > 4 * (H / 4) * (W / 4);
            hit++;
        }
        wrong += memcmp(lab, lab_before, sizeof lab) != 0;
    }
    /* A box may lie wholly in the background, so fewer than half. */
    ok(wrong == 0 && hit > 100 && hit < 250,
       "cutout: at most four boxes become the mean, labels and background stay (%d of 400)", hit);
}

static void blurring(void)
{
    /* An impulse on a plain: what arrives has its weight and its variance. */
    int hits = 0;
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < N; i++)
            before[k * N + i] = 1 + 1000.0f * (i == 50 * W + 60);
    run(IMG_BLUR, 1, 1, 5);
    for (int k = 0; k < 4; k++) {
        double sum = 0, var = 0;
        if (after[k * N + 50 * W + 60] == 1001)
            continue; /* channels have an even chance */
        hits++;
        for (int i = 0; i < N; i++) {
            sum += after[k * N + i] - 1;
            var += (after[k * N + i] - 1) * pow(i % W - 60, 2) / 1000;
        }
        ok(fabs(sum - 1000) < 0.1 && fabs(var - 1) < 0.05,
           "blur: keeps the sum, spreads by sigma^2 (%.3f, %.4f)", sum, var);
    }
    ok(hits > 0, "blur: happens");
    make();
}

/* Channels that tell where they are from, x and y, which bilinear keeps; the label tells the pixel.
 * It is the nearest to where the image is from, whatever moved them. */
static void places(void)
{
    for (int o = IMG_ROTATE; o <= IMG_ELASTIC; o++) {
        double much = o == IMG_ROTATE                      ? 17
                      : o == IMG_SCALE || o == IMG_STRETCH ? 1.4
                                                           : img_ops[o].usual.hi;
        for (int y_wanted = 0; y_wanted < 2; y_wanted++) {
            int inside = 0, wrong = 0;
            float sum = 0;
            for (int i = 0; i < 4 * N; i++)
                before[i] = (float)(1000 + (i / N % 2 ? i % N / W : i % W));
            for (int i = 0; i < N; i++)
                lab_before[i] = (uint8_t)(y_wanted ? i / W : i % W);
            run((enum img_op)o, much, much, 3);
            for (int i = 0; i < N; i++) {
                float y = after[N + i] - 1000, x = after[i] - 1000,
                      apart = (float)lab[i] - (y_wanted ? y : x);
                if (i / W < 16 || i / W >= H - 16 || i % W < 16 || i % W >= W - 16)
                    continue; /* near the border it is mixed with what lies outside */
                inside++;
                wrong += fabsf(apart) > 0.501f;
                sum += apart;
            }
            ok(inside > N / 4 && wrong == 0 && fabsf(sum) < 0.05f * (float)inside,
               "%s: the label is that of the nearest pixel, along %c (%d of %d wrong, %.3f off)",
               img_ops[o].name, y_wanted ? 'y' : 'x', wrong, inside, sum / (float)inside);
            make();
        }
    }
}

static void spatial(void)
{
    static float square[2 * 64 * 64], turned[2 * 64 * 64], room[8 * 64 * 64];
    static uint8_t sl[64 * 64];
    struct img_range op[IMG_OPS] = {[IMG_ROTATE] = {90, 90, 1}};
    bool right = true, labels = true;
    for (int i = 0; i < 2 * 64 * 64; i++)
        turned[i] = square[i] = (float)(1 + i % 971);
    for (int i = 0; i < 64 * 64; i++)
        sl[i] = (uint8_t)(i % 5);
    img_augment(op, rng_seed(1), 0, turned, 2, 64, 64, sl, room);
    for (int y = 0; y < 64; y++)
        for (int x = 0; x < 64; x++) {
            /* counter-clockwise as seen with y downwards: the right edge comes to the top */
            right &= fabsf(turned[y * 64 + x] - square[x * 64 + 63 - y]) < 0.05f;
            labels &= sl[y * 64 + x] == (x * 64 + 63 - y) % 5;
        }
    ok(right && labels, "rotate: a quarter turn is that of the grid, labels too");

    run(IMG_SCALE, 2, 2, 1);
    int was = 0, is = 0;
    for (int i = 0; i < N; i++) {
        was += lab_before[i] == 1;
        is += lab[i] == 1;
    }
    ok(abs(is - 4 * was) < was / 10, "scale: twice the size is four times the area (%d, %d)", was,
       is);

    /* Axes of their own: from 1 to 4, the rings become ellipses that are not round. */
    double spread[2] = {0};
    for (uint64_t seed = 0; seed < 20; seed++) {
        double y2 = 0, x2 = 0, n = 0;
        run(IMG_STRETCH, 1, 2, seed);
        for (int i = 0; i < N; i++)
            if (lab[i] == 1) {
                y2 += pow(i / W - (H - 1) / 2.0, 2);
                x2 += pow(i % W - (W - 1) / 2.0, 2);
                n++;
            }
        /* a disc of radius 10 has a variance of 25 along each axis */
        double fy = sqrt(y2 / n / 25), fx = sqrt(x2 / n / 25);
        spread[0] = fmax(spread[0], fabs(fy / fx - 1));
        spread[1] = fmax(spread[1], fabs(fy * fx / (n / (10 * 10 * 3.14159)) - 1));
    }
    ok(spread[0] > 0.3 && spread[1] < 0.05,
       "stretch: each axis by a factor of its own (%.2f), both together the area (%.3f off)",
       spread[0], spread[1]);

    for (int i = 0; i < N; i++)
        lab_before[i] = (uint8_t)(i % 251); /* the rings look the same from either side */
    run(IMG_FLIP, 1, 1, 1);
    bool mirrored = true;
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < N; i++)
            mirrored &= after[k * N + i] == before[k * N + N - 1 - i];
    for (int i = 0; i < N; i++)
        mirrored &= lab[i] == lab_before[N - 1 - i];
    ok(mirrored, "flip: of both axes turns the order round, labels too");
    run(IMG_FLIP, 0, 1, 1);
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < N; i++)
            mirrored &= after[k * N + i] == before[k * N + (H - 1 - i / W) * W + i % W];
    for (int i = 0; i < N; i++)
        mirrored &= lab[i] == lab_before[(H - 1 - i / W) * W + i % W];
    ok(mirrored, "flip: along y alone, labels too");
    run(IMG_FLIP, 1, 0, 1);
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < N; i++)
            mirrored &= after[k * N + i] == before[k * N + i / W * W + W - 1 - i % W];
    for (int i = 0; i < N; i++)
        mirrored &= lab[i] == lab_before[i / W * W + W - 1 - i % W];
    ok(mirrored, "flip: along x alone, labels too");
    make();

    /* Moved labels lie on moved pixels: the image is the label here. */
    for (int o = IMG_ROTATE; o <= IMG_ELASTIC; o++) {
        for (int i = 0; i < 4 * N; i++)
            before[i] = (float)lab_before[i % N];
        run((enum img_op)o, img_ops[o].usual.lo, img_ops[o].usual.hi, 9);
        int apart = 0, moved = 0;
        for (int i = 0; i < N; i++) {
            apart += fabsf(after[i] - (float)lab[i]) > 2.001f;
            moved += lab[i] != lab_before[i];
        }
        ok(apart == 0 && (moved > 20 || o == IMG_ROTATE), "%s: labels go with the image (%d moved)",
           img_ops[o].name, moved);
        make();
    }
    places();
    /* Displacements stay within the range: a sawtooth as high as it is far. */
    for (int i = 0; i < 4 * N; i++)
        before[i] = (float)(1000 + i % W);
    run(IMG_ELASTIC, 6, 6, 2);
    float far = 0;
    for (int i = 0; i < N; i++)
        if (i / W > 8 && i / W < H - 8 && i % W > 8 && i % W < W - 8)
            far = fmaxf(far, fabsf(after[i] - before[i]));
    ok(far > 0.5f && far <= 6, "elastic: moves by at most what was drawn (%.2f)", far);
    make();
}

/* Windows lie within the slice, anywhere with equal chances, or around a label, each as often. */
static void windows(void)
{
    enum { SEEDS = 2000, SIDE = 32 };
    int outside = 0, missed = 0, of[4] = {0};
    double y = 0, x = 0;
    uint8_t small[N] = {0};
    for (int i = 0; i < N; i++) /* of label 1 four pixels, of label 3 thousands */
        small[i] = i / W >= 60 && i % W >= 60 ? 3 : i / W < 2 && i % W < 2 ? 1 : 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct img_box b = img_window(rng_seed(seed), small, H, W, SIDE, SIDE, 0);
        outside += b.y < 0 || b.x < 0 || b.y + SIDE > H || b.x + SIDE > W || b.height != SIDE ||
                   b.width != SIDE;
        y += (double)b.y / SEEDS;
        x += (double)b.x / SEEDS;
        b = img_window(rng_seed(seed), small, H, W, SIDE, SIDE, 1);
        outside += b.y < 0 || b.x < 0 || b.y + SIDE > H || b.x + SIDE > W;
        /* the middle, but at the edges */
        int at = (int)((b.y + SIDE / 2) * W + b.x + SIDE / 2);
        of[b.y == 0 && b.x == 0 ? 1 : small[at]]++;
        missed += b.y != 0 && b.y != H - SIDE && b.x != 0 && b.x != W - SIDE && small[at] != 3;
    }
    /* uniform over 0..64 and 0..80: deviations 18.8 and 23.4; 1000 of 2000: 22 */
    ok(outside == 0 && fabs(y - 32) < 5 * 18.8 / sqrt(SEEDS) &&
           fabs(x - 40) < 5 * 23.4 / sqrt(SEEDS),
       "window: within the slice, anywhere in it (%.1f, %.1f)", y, x);
    ok(missed == 0 && abs(of[1] - SEEDS / 2) < 110,
       "window: centred on each label as often, however many pixels it has (%d of %d)", of[1],
       SEEDS);
    struct img_box all = img_window(rng_seed(1), NULL, H, W, 1000, 48, 1);
    ok(all.y == 0 && all.height == H && all.width == 48,
       "window: no higher than the slice, and without a label anywhere");
}

static void keys(void)
{
    struct img_range both[IMG_OPS] = {[IMG_NOISE] = {0, 0.1, 1}, [IMG_BRIGHTNESS] = {1, 1, 1}};
    static float one[4 * N];
    run(IMG_NOISE, 0, 0.1, 4);
    memcpy(one, after, sizeof one);
    run(IMG_NOISE, 0, 0.1, 4);
    ok(!memcmp(one, after, sizeof one), "the same key gives the same");
    run(IMG_NOISE, 0, 0.1, 5);
    ok(memcmp(one, after, sizeof one), "another key gives another");
    memcpy(after, before, sizeof after);
    img_augment(both, rng_seed(4), 0, after, 4, H, W, NULL, scratch);
    ok(!memcmp(one, after, sizeof one), "another operation beside it does not change its draws");

    int n = 0;
    struct img_range some[IMG_OPS] = {[IMG_GAMMA] = {0.7, 1.5, 0.3}};
    for (uint64_t seed = 0; seed < 400; seed++) {
        float pixel[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        n += img_augment(some, rng_seed(seed), 0, pixel, 1, 2, 4, NULL, scratch) != 0;
    }
    /* binomial: 120 expected, deviation 9.2 */
    ok(n > 120 - 46 && n < 120 + 46, "happens with its probability (%d of 400, wanted 120)", n);
}

static void odd_sizes(void)
{
    for (int h = 1; h < 12; h += 2)
        for (int w = 1; w < 12; w += 3) {
            size_t n = (size_t)(h * w);
            float *im = malloc(2 * n * sizeof *im);
            float *room = malloc(img_augment_scratch(h, w) * sizeof *room);
            uint8_t *l = calloc(n, 1);
            struct img_range all[IMG_OPS];
            if (!im || !room || !l)
                exit(1);
            for (size_t i = 0; i < 2 * n; i++)
                im[i] = (float)(i % 7);
            for (int o = 0; o < IMG_OPS; o++)
                all[o] = (struct img_range){img_ops[o].usual.lo, img_ops[o].usual.hi, 1};
            all[IMG_BLUR].hi = 20;
            img_augment(all, rng_seed(n), 0, im, 2, h, w, l, room);
            bool finite = true;
            for (size_t i = 0; i < 2 * n; i++)
                finite &= im[i] - im[i] == 0;
            if (!finite)
                ok(0, "everything on %d by %d stays finite", h, w);
            free(im);
            free(room);
            free(l);
        }
    ok(1, "everything runs on the smallest slices");
}

int main(void)
{
    make();
    elementary_functions();
    normal_deviates();
    background();
    intensity();
    shifting();
    remapping();
    fields();
    one_axis();
    boxes();
    blurring();
    spatial();
    windows();
    keys();
    odd_sizes();
    return done_testing();
}
