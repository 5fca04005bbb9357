/* A study is an anatomy, drawn once for the patient, and a function of a point in space that
 * looks it up. Slices and grids are only where that function is asked. */
#include "lib/image/phantom.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "lib/base/rng.h"
#include "lib/image/scheme.h"

enum { CSF, GREY, WHITE, OEDEMA, NECROSIS, SOLID, ENHANCING };
enum { FLAIR, T1, T1GD, T2 };

/* How bright a tissue is beside white matter in T1. */
static const double contrast[IMG_TISSUES][4] = {
    [CSF] = {0.30, 0.40, 0.38, 1.30},       [GREY] = {0.78, 0.74, 0.72, 0.68},
    [WHITE] = {0.66, 1.00, 0.95, 0.50},     [OEDEMA] = {1.28, 0.70, 0.68, 1.02},
    [NECROSIS] = {0.72, 0.46, 0.50, 1.18},  [SOLID] = {1.12, 0.62, 0.64, 1.00},
    [ENHANCING] = {1.06, 0.72, 1.62, 0.86},
};

/* --- noise in space: smooth, from hashed lattice points, in -1..1 ----------------------------- */

static double corner(uint64_t key, int64_t x, int64_t y, int64_t z)
{
    uint64_t h = key ^ ((uint64_t)x * 0x9e3779b97f4a7c15u) ^ ((uint64_t)y * 0xc2b2ae3d27d4eb4fu) ^
                 ((uint64_t)z * 0x165667b19e3779f9u);
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return (double)(int64_t)(h ^ h >> 31) * 0x1p-63;
}

static double smooth(double t)
{
    return t <= 0 ? 0 : t >= 1 ? 1 : t * t * (3 - 2 * t);
}

static double ramp(double lo, double hi, double v)
{
    return smooth((v - lo) / (hi - lo));
}

static double mix(double a, double b, double t)
{
    return a + (b - a) * t;
}

/* `grain` is the distance in mm over which the noise changes. */
static double noise(uint64_t key, const double p[3], double grain)
{
    double f[3], plane[2], line[2];
    int64_t i[3];

    for (int a = 0; a < 3; a++) {
        double v = p[a] / grain, whole = floor(v);
        i[a] = (int64_t)whole;
        f[a] = smooth(v - whole);
    }
    for (int z = 0; z < 2; z++) {
        for (int y = 0; y < 2; y++)
            line[y] = mix(corner(key, i[0], i[1] + y, i[2] + z),
                          corner(key, i[0] + 1, i[1] + y, i[2] + z), f[0]);
        plane[z] = mix(line[0], line[1], f[1]);
    }
    return mix(plane[0], plane[1], f[2]);
}

/* --- the anatomy of a study ------------------------------------------------------------------- */

static double length3(double x, double y, double z)
{
    return sqrt(x * x + y * y + z * z);
}

static void plan_anatomy(struct img_phantom *p, struct rng *r)
{
    double angle = 0.08 * rng_normal(r);

    p->centre[0] = rng_range(r, -4, 4);
    p->centre[1] = rng_range(r, -5, 5);
    p->centre[2] = rng_range(r, -4, 2);
    p->semi[0] = 66 * (1 + 0.04 * rng_normal(r));
    p->semi[1] = 83 * (1 + 0.04 * rng_normal(r));
    p->semi[2] = 66 * (1 + 0.04 * rng_normal(r));
    p->turn[0] = cos(angle);
    p->turn[1] = sin(angle);
    p->ventricle = rng_range(r, 0.6, 1.3);
    p->fold = rng_range(r, 0.8, 1.3);
    p->spots = (int)rng_below(r, IMG_SPOTS + 1);
    for (int i = 0; i < IMG_SPOTS; i++) {
        p->spot[i][0] = (rng_below(r, 2) ? 1 : -1) * rng_range(r, 14, 38);
        p->spot[i][1] = rng_range(r, -45, 45);
        p->spot[i][2] = rng_range(r, 0, 34);
        p->spot[i][3] = rng_range(r, 1.5, 4.5);
    }
    for (int i = 0; i < IMG_VESSELS; i++)
        for (int a = 0; a < 6; a++)
            p->vessel[i][a] = (a >= 3 ? p->vessel[i][a - 3] : 0) +
                              (a >= 3 ? rng_range(r, -22, 22)
                                      : rng_range(r, -0.6 * p->semi[a % 3], 0.6 * p->semi[a % 3]));
}

/* Where a tumour sits, how large it is and what it is made of; drawn for the patient, so that a
 * later visit finds it again. */
static void plan_lesions(struct img_phantom *p, struct rng *r)
{
    bool enhances = rng_uniform(r) >= 0.15;

    p->lesions = rng_uniform(r) < 0.15 ? 2 : 1;
    for (int i = 0; i < IMG_LESIONS; i++) {
        double size = 25 * exp(0.3 * rng_normal(r)), away;
        size = size < 12 ? 12 : size > 42 ? 42 : size;
        p->lesion[i].size = i ? 0.45 * size : size;
        do {
            away = 0;
            for (int a = 0; a < 3; a++) {
                double u = rng_range(r, -0.75, 0.75) * (a == 2 ? 0.75 : 1);
                p->lesion[i].at[a] = u * p->semi[a];
                away += u * u;
            }
        } while (away > 0.5 || fabs(p->lesion[i].at[0]) < 12);
        for (int a = 0; a < 3; a++) {
            p->lesion[i].axis[a] = rng_range(r, 0.75, 1.25);
            p->lesion[i].shift[a] = rng_range(r, -0.15, 0.15);
        }
        p->lesion[i].core = enhances ? rng_range(r, 0.4, 0.75) : rng_range(r, 0.55, 0.9);
        p->lesion[i].rim = enhances ? rng_range(r, 0.18, 0.6) : 0;
        p->lesion[i].gap = rng_range(r, -0.9, -0.15);
        p->lesion[i].push = rng_range(r, 0.05, 0.35);
        p->lesion[i].oedema = rng_range(r, 0.7, 1.0);
    }
}

static void plan_visit(struct img_phantom *p, struct rng *r)
{
    for (int i = 0; i < IMG_LESIONS; i++) {
        p->lesion[i].size *= rng_range(r, 0.75, 1.25);
        p->lesion[i].core *= rng_range(r, 0.8, 1.15);
        p->lesion[i].rim *= rng_range(r, 0.6, 1.3);
    }
}

static void plan_scanner(struct img_phantom *p, struct rng *r)
{
    for (int m = 0; m < 4; m++) {
        double gamma = exp(0.12 * rng_normal(r));
        p->gain[m] = exp(rng_range(r, log(250), log(1500)));
        p->sigma[m] = rng_range(r, 0.02, 0.055);
        for (int t = 0; t < IMG_TISSUES; t++)
            p->value[t][m] = pow(contrast[t][m] * (1 + 0.06 * rng_normal(r)), gamma);
        for (int i = 0; i < 9; i++)
            p->bias[m][i] = 0.13 * rng_normal(r);
    }
}

void img_phantom_plan(struct img_phantom *p, const uint32_t grid[3], uint64_t seed,
                      uint64_t patient, int visit)
{
    static const double field[3] = {240, 240, 155}; /* mm */
    struct rng r = rng_seed(seed), scan;

    memset(p, 0, sizeof *p);
    p->w = grid[0];
    p->h = grid[1];
    p->d = grid[2];
    for (int a = 0; a < 3; a++)
        p->spacing[a] = field[a] / grid[a];
    rng_mix(&r, patient);
    p->key = rng_u64(&r);
    plan_anatomy(p, &r);
    plan_lesions(p, &r);
    scan = r;
    rng_mix(&scan, (uint64_t)visit);
    p->noise_key = rng_u64(&scan);
    if (visit)
        plan_visit(p, &scan);
    plan_scanner(p, &scan);
}

/* --- one voxel -------------------------------------------------------------------------------- */

/* Moves a point of pushed tissue back to where the tissue comes from. */
static void unpush(const struct img_phantom *p, const double q[3], double out[3])
{
    memcpy(out, q, 3 * sizeof *out);
    for (int i = 0; i < p->lesions; i++) {
        const double *at = p->lesion[i].at;
        double d = length3(q[0] - at[0], q[1] - at[1], q[2] - at[2]) / (1.1 * p->lesion[i].size);
        double pull = p->lesion[i].push * exp(-d * d);
        for (int a = 0; a < 3; a++)
            out[a] -= pull * (q[a] - at[a]);
    }
}

static double ellipsoid(const double q[3], double x, double y, double z, double a, double b,
                        double c)
{
    return length3((q[0] - x) / a, (q[1] - y) / b, (q[2] - z) / c);
}

/* Shares of CSF, grey and white matter; false in air. */
static bool tissue(const struct img_phantom *p, const double q0[3], double share[IMG_TISSUES],
                   double *depth)
{
    double q[3], r, n, csf, grey, v = p->ventricle;

    r = length3(q0[0] / p->semi[0], q0[1] / p->semi[1], q0[2] / p->semi[2]);
    if (r > 1.1)
        return false;
    r += 0.04 * noise(p->key, q0, 30) + 0.015 * noise(p->key + 1, q0, 9);
    if (r >= 1)
        return false;
    *depth = (1 - r) * 70;
    unpush(p, q0, q);
    n = fabs(noise(p->key + 2, q, 8 * p->fold));
    csf = ramp(0.14, 0.04, n) * ramp(20, 5, *depth) * 0.85;
    grey = fmax(ramp(4.5, 3, *depth), 0.9 * ramp(0.42, 0.2, n) * ramp(26, 16, *depth));
    grey = fmax(grey, 0.25 * ramp(0.1, 0.6, noise(p->key + 4, q, 16)));
    csf = fmax(csf, ramp(1.6, 0.6, fabs(q[0] + 1.5 * noise(p->key + 3, q, 20))) *
                        ramp(30, 22, *depth) * ramp(-25, -10, q[2]));
    for (int side = -1; side <= 1; side += 2) {
        csf =
            fmax(csf, ramp(1.12, 0.92, ellipsoid(q, side * (9 + 3 * v), -4, 12, 6 * v, 27 * v, 9)));
        csf = fmax(csf, ramp(1.12, 0.92, ellipsoid(q, side * 19, 24, 2, 5 * v, 13, 9 * v)));
        grey = fmax(grey, 0.85 * ramp(1.15, 0.9, ellipsoid(q, side * 13, 4, -2, 7, 12, 9)));
        grey = fmax(grey, 0.75 * ramp(1.15, 0.9, ellipsoid(q, side * 24, -6, 0, 5, 17, 11)));
    }
    csf = fmax(csf, ramp(1.2, 0.8, ellipsoid(q, 0, 0, -6, 2.5, 12, 10)));
    memset(share, 0, IMG_TISSUES * sizeof *share);
    share[CSF] = csf;
    share[GREY] = (1 - csf) * grey;
    share[WHITE] = 1 - share[CSF] - share[GREY];
    return true;
}

static void cover(double share[IMG_TISSUES], int with, double much)
{
    for (int t = 0; t < IMG_TISSUES; t++)
        share[t] *= 1 - much;
    share[with] += much;
}

/* Lays a tumour over the tissue; returns its class at this point. */
static int lesion(const struct img_phantom *p, int i, const double q[3], double share[IMG_TISSUES])
{
    double size = p->lesion[i].size, core = p->lesion[i].core, far, whole, inside, d[3], e[3];
    uint64_t key = p->key + 16 * (uint64_t)(i + 1);

    for (int a = 0; a < 3; a++) {
        d[a] = (q[a] - p->lesion[i].at[a]) / (size * p->lesion[i].axis[a]);
        e[a] = d[a] / core - p->lesion[i].shift[a];
    }
    far = length3(d[0], d[1], d[2]);
    if (far > 1.6)
        return IMG_BACKGROUND;
    whole = 1 - far - 0.5 * noise(key, q, 0.6 * size) - 0.22 * noise(key + 1, q, 0.25 * size) -
            0.15 * share[GREY] - 0.7 * share[CSF];
    inside = 1 - length3(e[0], e[1], e[2]) - 0.42 * noise(key + 2, q, 0.45 * size) -
             0.2 * noise(key + 3, q, 0.2 * size);
    if (whole > -0.05)
        cover(share, OEDEMA,
              ramp(-0.05, 0.22, whole) * p->lesion[i].oedema *
                  (0.75 + 0.3 * noise(key + 4, q, 0.3 * size)));
    if (inside > -0.04) {
        double rim = p->lesion[i].rim * (1 + 0.8 * noise(key + 5, q, 0.4 * size));
        bool bright = p->lesion[i].rim > 0 && inside < rim &&
                      noise(key + 6, q, 0.55 * size) > p->lesion[i].gap;
        double patch = ramp(-0.35, 0.35, noise(key + 7, q, 0.3 * size));
        double edge = ramp(-0.04, 0.07, inside);
        cover(share, bright ? ENHANCING : p->lesion[i].rim > 0 ? NECROSIS : SOLID, edge);
        cover(share, bright ? SOLID : p->lesion[i].rim > 0 ? SOLID : OEDEMA, 0.5 * edge * patch);
        if (inside > 0)
            return bright ? IMG_ENHANCING : IMG_CORE;
    }
    return whole > 0.04 ? IMG_OEDEMA : IMG_BACKGROUND;
}

static double to_segment(const double q[3], const double s[6])
{
    double d[3] = {s[3] - s[0], s[4] - s[1], s[5] - s[2]}, t = 0, n = 0;

    for (int a = 0; a < 3; a++) {
        t += (q[a] - s[a]) * d[a];
        n += d[a] * d[a];
    }
    t = n > 0 ? t / n : 0;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return length3(q[0] - s[0] - t * d[0], q[1] - s[1] - t * d[1], q[2] - s[2] - t * d[2]);
}

/* What is bright and no tumour: spots in FLAIR and T2, vessels and dura in T1 with contrast. */
static void distract(const struct img_phantom *p, const double q[3], double depth, double value[4])
{
    double agent = 0;

    for (int i = 0; i < p->spots; i++) {
        const double *s = p->spot[i];
        double a = 0.8 * ramp(1.2, 0.7, length3(q[0] - s[0], q[1] - s[1], q[2] - s[2]) / s[3]);
        if (depth > 8) {
            value[FLAIR] = mix(value[FLAIR], p->value[OEDEMA][FLAIR], a);
            value[T2] = mix(value[T2], 0.9 * p->value[OEDEMA][T2], a);
            value[T1] = mix(value[T1], 0.85 * p->value[WHITE][T1], a);
        }
    }
    for (int i = 0; i < IMG_VESSELS; i++)
        agent = fmax(agent, ramp(1.8, 0.6, to_segment(q, p->vessel[i])));
    if (depth < 6) {
        agent = fmax(agent, 0.7 * ramp(0.35, 0.6, noise(p->key + 8, q, 14)) * ramp(4, 1.5, depth));
        agent = fmax(agent, ramp(3.5, 1.5, fabs(q[0])) * ramp(6, 2, depth) * ramp(0, 20, q[2]));
    }
    value[T1GD] = mix(value[T1GD], 1.5 * p->value[WHITE][T1GD], agent);
}

static int voxel(const struct img_phantom *p, const double q[3], struct rng *r, int16_t out[4])
{
    double share[IMG_TISSUES], value[4] = {0}, depth, grain, u[3];
    int class = IMG_BACKGROUND;

    if (!tissue(p, q, share, &depth))
        return -1;
    for (int i = 0; i < p->lesions; i++) {
        int c = lesion(p, i, q, share);
        class = c == IMG_BACKGROUND || class == IMG_ENHANCING ? class : c;
    }
    for (int t = 0; t < IMG_TISSUES; t++)
        for (int m = 0; m < 4; m++)
            value[m] += share[t] * p->value[t][m];
    if (class == IMG_BACKGROUND)
        distract(p, q, depth, value);
    grain = 0.05 * noise(p->key + 9, q, 11) + 0.05 * noise(p->key + 10, q, 4);
    for (int a = 0; a < 3; a++)
        u[a] = q[a] / 80;
    for (int m = 0; m < 4; m++) {
        const double *b = p->bias[m];
        double bias = b[0] * u[0] + b[1] * u[1] + b[2] * u[2] + b[3] * u[0] * u[1] +
                      b[4] * u[0] * u[2] + b[5] * u[1] * u[2] + b[6] * u[0] * u[0] +
                      b[7] * u[1] * u[1] + b[8] * u[2] * u[2];
        double v = value[m] * exp(bias) * (1 + grain);
        /* Magnitude images have Rician noise. */
        double size = p->sigma[m] * sqrt(-2 * log(1 - rng_uniform(r)));
        double angle = 6.283185307179586 * rng_uniform(r);
        v = p->gain[m] * hypot(v + size * cos(angle), size * sin(angle));
        out[m] = (int16_t)(v < 1 ? 1 : v > 32767 ? 32767 : v + 0.5);
    }
    return class;
}

void img_phantom_slice(const struct img_phantom *p, uint32_t z, int16_t *image, uint8_t *label)
{
    size_t plane = (size_t)p->w * p->h;
    struct rng r = rng_seed(p->noise_key);

    rng_mix(&r, z);
    memset(image, 0, 4 * plane * sizeof *image);
    memset(label, 0, plane);
    for (uint32_t y = 0; y < p->h; y++)
        for (uint32_t x = 0; x < p->w; x++) {
            double s[3] = {(x - (p->w - 1) / 2.0) * p->spacing[0] - p->centre[0],
                           (y - (p->h - 1) / 2.0) * p->spacing[1] - p->centre[1],
                           (z - (p->d - 1) / 2.0) * p->spacing[2] - p->centre[2]};
            double q[3] = {p->turn[0] * s[0] + p->turn[1] * s[1],
                           p->turn[0] * s[1] - p->turn[1] * s[0], s[2]};
            int16_t v[4];
            int found = voxel(p, q, &r, v);
            if (found < 0)
                continue;
            label[(size_t)y * p->w + x] = (uint8_t)found;
            for (int m = 0; m < 4; m++)
                image[(size_t)m * plane + (size_t)y * p->w + x] = v[m];
        }
}
