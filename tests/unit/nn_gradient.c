/* Every operation and the networks against finite differences. The forward pass is written out once
 * more here, in double and as plainly as possible; its loss is differentiated by central
 * differences along a random direction of each parameter, and along the gradient that the engine
 * found. Odd numbers of channels, ignored pixels, volumes, direct convolution and Winograd.
 *
 * It is one file as one forward pass: a function and a line of a table for each operation. */
#include "lib/base/rng.h"
#include "lib/nn/handle.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const struct nn *nn;
    struct nn_size size;
    const float *image;
    const uint8_t *label;
    double **param, **value; /* values are (N,C,D,H,W) */
    double loss;
} net;

static struct nn_shape shape_of(int v)
{
    return nn_shape_of(&net.nn->g.value[v], &net.size);
}

static size_t size_of(int v)
{
    struct nn_shape s = shape_of(v);
    return nn_pixels(&s) * (size_t)s.c;
}

/* --- the forward pass in double --------------------------------------------------------------- */

/* An operation at work: its values, shapes and parameters. */
struct work {
    const struct op *op;
    const double *x[NN_IN], *param[NN_PARAMS];
    double *y;
    struct nn_shape in[NN_IN], out;
    size_t n; /* numbers of y */
};

static size_t at(const struct nn_shape *s, int n, int c, int z, int y, int x)
{
    return ((((size_t)n * (size_t)s->c + (size_t)c) * (size_t)s->d + (size_t)z) * (size_t)s->h +
            (size_t)y) *
               (size_t)s->w +
           (size_t)x;
}

#define EACH(s, i, j, k, l, m)                                                                     \
    for (int i = 0; i < (s).n; i++)                                                                \
        for (int j = 0; j < (s).c; j++)                                                            \
            for (int k = 0; k < (s).d; k++)                                                        \
                for (int l = 0; l < (s).h; l++)                                                    \
                    for (int m = 0; m < (s).w; m++)

static double attr(const struct work *w, const char *name, int axis)
{
    const struct nn_rule *r = w->op->kind->rule;
    for (int i = 0; r[i].name; i++)
        if (!strcmp(r[i].name, name))
            return w->op->attr[i].v[axis];
    printf("Bail out! %s has no %s\n", w->op->kind->name, name);
    exit(1);
}

static void convolve(const struct work *w, const int k[3], const int s[3], const int d[3],
                     const double *bias)
{
    int pad[3];
    for (int i = 0; i < 3; i++)
        pad[i] = k[i] % 2 ? d[i] * (k[i] - 1) / 2 : 0;
    EACH(w->out, n, o, z, y, x)
    w->y[at(&w->out, n, o, z, y, x)] = bias ? bias[o] : 0;
    const size_t taps = (size_t)(k[0] * k[1] * k[2]);
    for (int o = 0; o < w->out.c; o++)
        for (int c = 0; c < w->in[0].c; c++)
            for (int t = 0; t < (int)taps; t++)
                for (int n = 0; n < w->out.n; n++)
                    for (int z = 0; z < w->out.d; z++)
                        for (int y = 0; y < w->out.h; y++) {
                            int a = z * s[0] + t / k[2] / k[1] * d[0] - pad[0];
                            int b = y * s[1] + t / k[2] % k[1] * d[1] - pad[1];
                            int e = t % k[2] * d[2] - pad[2];
                            if (a < 0 || a >= w->in[0].d || b < 0 || b >= w->in[0].h)
                                continue;
                            const double *row = &w->x[0][at(&w->in[0], n, c, a, b, 0)];
                            double *sum = &w->y[at(&w->out, n, o, z, y, 0)];
                            double v =
                                w->param[0][((size_t)o * (size_t)w->in[0].c + (size_t)c) * taps +
                                            (size_t)t];
                            for (int x = 0; x < w->out.w; x++, e += s[2])
                                if (e >= 0 && e < w->in[0].w)
                                    sum[x] += v * row[e];
                        }
}

static void convolution(const struct work *w)
{
    int k[3], s[3], d[3];
    for (int i = 0; i < 3; i++) {
        k[i] = (int)attr(w, "kernel", i);
        s[i] = (int)attr(w, "stride", i), d[i] = (int)attr(w, "dilation", i);
    }
    convolve(w, k, s, d, w->op->params > 1 ? w->param[1] : NULL);
}

static void head(const struct work *w)
{
    const int one[3] = {1, 1, 1};
    convolve(w, one, one, one, w->param[1]);
}

static void transposed(const struct work *w)
{
    int s[3];
    for (int i = 0; i < 3; i++)
        s[i] = (int)attr(w, "stride", i);
    EACH(w->out, n, o, z, y, x)
    {
        double sum = w->op->params > 1 ? w->param[1][o] : 0;
        int t = (z % s[0] * s[1] + y % s[1]) * s[2] + x % s[2], taps = s[0] * s[1] * s[2];
        for (int c = 0; c < w->in[0].c; c++)
            sum +=
                w->param[0][((size_t)c * (size_t)w->out.c + (size_t)o) * (size_t)taps + (size_t)t] *
                w->x[0][at(&w->in[0], n, c, z / s[0], y / s[1], x / s[2])];
        w->y[at(&w->out, n, o, z, y, x)] = sum;
    }
}

static void pool(const struct work *w, bool average)
{
    int s[3];
    for (int i = 0; i < 3; i++)
        s[i] = (int)attr(w, "size", i);
    EACH(w->out, n, c, z, y, x)
    {
        double most = -INFINITY, sum = 0;
        for (int t = 0; t < s[0] * s[1] * s[2]; t++) {
            double v = w->x[0][at(&w->in[0], n, c, z * s[0] + t / s[2] / s[1],
                                  y * s[1] + t / s[2] % s[1], x * s[2] + t % s[2])];
            most = fmax(most, v);
            sum += v;
        }
        w->y[at(&w->out, n, c, z, y, x)] = average ? sum / (s[0] * s[1] * s[2]) : most;
    }
}

static void max_pool(const struct work *w)
{
    pool(w, false);
}

static void average_pool(const struct work *w)
{
    pool(w, true);
}

/* Normalises samples n0..n1, channels c0..c1, as one. */
static void normalise(const struct work *w, int n0, int n1, int c0, int c1)
{
    const size_t pixels = (size_t)w->out.d * (size_t)w->out.h * (size_t)w->out.w;
    const double count = (double)(n1 - n0) * (c1 - c0) * (double)pixels;
    double sum = 0, squares = 0;
    for (int pass = 0; pass < 3; pass++)
        for (int n = n0; n < n1; n++)
            for (int c = c0; c < c1; c++)
                for (size_t i = 0; i < pixels; i++) {
                    size_t j = at(&w->out, n, c, 0, 0, 0) + i;
                    double v = w->x[0][j] - (pass ? sum / count : 0);
                    if (pass == 0)
                        sum += v;
                    else if (pass == 1)
                        squares += v * v;
                    else
                        w->y[j] =
                            v / sqrt(squares / count + 1e-5) * w->param[0][c] + w->param[1][c];
                }
}

static void batch_norm(const struct work *w)
{
    for (int c = 0; c < w->out.c; c++)
        normalise(w, 0, w->out.n, c, c + 1);
}

static void group_norm(const struct work *w)
{
    bool instance = !strcmp(w->op->kind->name, "instance_norm");
    int groups = instance ? w->out.c : (int)attr(w, "groups", 0), each = w->out.c / groups;
    for (int n = 0; n < w->out.n; n++)
        for (int g = 0; g < groups; g++)
            normalise(w, n, n + 1, g * each, (g + 1) * each);
}

static void layer_norm(const struct work *w)
{
    EACH(w->out, n, c, z, y, x)
    {
        double sum = 0, squares = 0;
        for (int k = 0; k < w->out.c; k++)
            sum += w->x[0][at(&w->in[0], n, k, z, y, x)] / w->out.c;
        for (int k = 0; k < w->out.c; k++)
            squares += pow(w->x[0][at(&w->in[0], n, k, z, y, x)] - sum, 2) / w->out.c;
        size_t i = at(&w->out, n, c, z, y, x);
        w->y[i] = (w->x[0][i] - sum) / sqrt(squares + 1e-5) * w->param[0][c] + w->param[1][c];
    }
}

static void relu(const struct work *w)
{
    double slope = w->op->kind->rule ? attr(w, "slope", 0) : 0;
    for (size_t i = 0; i < w->n; i++)
        w->y[i] = w->x[0][i] > 0 ? w->x[0][i] : slope * w->x[0][i];
}

static void gelu(const struct work *w)
{
    for (size_t i = 0; i < w->n; i++)
        w->y[i] = w->x[0][i] * (1 + erf(w->x[0][i] / sqrt(2))) / 2;
}

static void silu(const struct work *w)
{
    for (size_t i = 0; i < w->n; i++)
        w->y[i] = w->x[0][i] / (1 + exp(-w->x[0][i]));
}

static void sigmoid(const struct work *w)
{
    for (size_t i = 0; i < w->n; i++)
        w->y[i] = 1 / (1 + exp(-w->x[0][i]));
}

static void softmax(const struct work *w)
{
    EACH(w->out, n, c, z, y, x)
    {
        double sum = 0; /* of exp(x - x_c): e^1000 is no number */
        size_t i = at(&w->out, n, c, z, y, x);
        for (int k = 0; k < w->out.c; k++)
            sum += exp(w->x[0][at(&w->in[0], n, k, z, y, x)] - w->x[0][i]);
        w->y[i] = 1 / sum;
    }
}

static void copy(const struct work *w)
{
    memcpy(w->y, w->x[0], w->n * sizeof *w->y);
}

static void add(const struct work *w)
{
    for (size_t i = 0; i < w->n; i++)
        w->y[i] = w->x[0][i] + w->x[1][i];
}

static void multiply(const struct work *w)
{
    EACH(w->out, n, c, z, y, x)
    w->y[at(&w->out, n, c, z, y, x)] = w->x[0][at(&w->in[0], n, w->in[0].c > 1 ? c : 0, z, y, x)] *
                                       w->x[1][at(&w->in[1], n, w->in[1].c > 1 ? c : 0, z, y, x)];
}

static void concat(const struct work *w)
{
    EACH(w->out, n, c, z, y, x)
    {
        int i = 0, k = c;
        while (k >= w->in[i].c)
            k -= w->in[i++].c;
        w->y[at(&w->out, n, c, z, y, x)] = w->x[i][at(&w->in[i], n, k, z, y, x)];
    }
}

static void dropout(const struct work *w)
{
    const int row = kr_pad(w->out.c);
    float *gain = calloc((size_t)(w->out.n * row), sizeof *gain);
    kr_dropout_gain(w->out.n, w->out.c, attr(w, "p", 0), net.nn->opt.training.seed, 0,
                    (uint64_t)w->op->id, 0, gain);
    EACH(w->out, n, c, z, y, x)
    {
        size_t i = at(&w->out, n, c, z, y, x);
        w->y[i] = w->x[0][i] * (double)gain[n * row + c];
    }
    free(gain);
}

static void attention_score(const struct work *w)
{
    EACH(w->out, n, c, z, y, x)
    {
        double sum = 0;
        for (int k = 0; k < w->in[0].c; k++)
            sum += w->param[0][k] * fmax(w->x[0][at(&w->in[0], n, k, z, y, x)] +
                                             w->x[1][at(&w->in[1], n, k, z, y, x)],
                                         0);
        w->y[at(&w->out, n, c, z, y, x)] = sum;
    }
}

static void gate(const struct work *w)
{
    EACH(w->out, n, c, z, y, x)
    {
        size_t i = at(&w->out, n, c, z, y, x);
        w->y[i] = w->x[1][i] / (1 + exp(-w->x[0][at(&w->in[0], n, 0, z, y, x)]));
    }
}

/* Where position i of `factor` times as many lies between two of n: the first, and how far. */
static int between(int i, int factor, int n, double *t)
{
    double s = (i + 0.5) / factor - 0.5;
    s = s < 0 ? 0 : s;
    int a = (int)s;
    *t = a + 1 < n ? s - a : 0;
    return a < n - 1 ? a : n - 1;
}

static void nearest(const struct work *w)
{
    EACH(w->out, n, c, z, y, x)
    w->y[at(&w->out, n, c, z, y, x)] =
        w->x[0][at(&w->in[0], n, c, z * w->in[0].d / w->out.d, y * w->in[0].h / w->out.h,
                   x * w->in[0].w / w->out.w)];
}

static void linear_resize(const struct work *w)
{
    const struct nn_shape *s = &w->in[0];
    EACH(w->out, n, c, z, y, x)
    {
        double t[3], sum = 0;
        int a[3] = {between(z, w->out.d / s->d, s->d, &t[0]),
                    between(y, w->out.h / s->h, s->h, &t[1]),
                    between(x, w->out.w / s->w, s->w, &t[2])};
        for (int k = 0; k < 8; k++) {
            double share = 1;
            int p[3];
            for (int i = 0; i < 3; i++) {
                int up = k >> i & 1, limit = i == 0 ? s->d : i == 1 ? s->h : s->w;
                share *= up ? t[i] : 1 - t[i];
                p[i] = a[i] + up < limit ? a[i] + up : limit - 1;
            }
            sum += share * w->x[0][at(s, n, c, p[0], p[1], p[2])];
        }
        w->y[at(&w->out, n, c, z, y, x)] = sum;
    }
}

/* Place o of n on a grid: the lower neighbour, and how far the upper one is taken. */
static int on_grid(int o, int n, int grid, double *t)
{
    double place = fmax((o + 0.5) * grid / n - 0.5, 0);
    *t = place - floor(place);
    return (int)place;
}

static void positions(const struct work *w)
{
    const int g[3] = {(int)attr(w, "size", 0), (int)attr(w, "size", 1), (int)attr(w, "size", 2)};
    EACH(w->out, n, c, z, y, x)
    {
        double t[3], sum = 0;
        const int a[3] = {on_grid(z, w->out.d, g[0], &t[0]), on_grid(y, w->out.h, g[1], &t[1]),
                          on_grid(x, w->out.w, g[2], &t[2])};
        for (int k = 0; k < 8; k++) {
            double share = 1;
            int p = c;
            for (int i = 0; i < 3; i++) {
                int up = k >> i & 1;
                share *= up ? t[i] : 1 - t[i];
                p = p * g[i] + (a[i] + up < g[i] ? a[i] + up : g[i] - 1);
            }
            sum += share * w->param[0][p];
        }
        w->y[at(&w->out, n, c, z, y, x)] = w->x[0][at(&w->out, n, c, z, y, x)] + sum;
    }
}

static void linear(const struct work *w)
{
    const int one[3] = {1, 1, 1};
    convolve(w, one, one, one, w->op->params > 1 ? w->param[1] : NULL);
}

static void attention(const struct work *w)
{
    const int heads = (int)attr(w, "heads", 0), c = w->out.c / heads;
    const size_t all = (size_t)w->out.d * (size_t)w->out.h * (size_t)w->out.w;
    const size_t pixels = attr(w, "planar", 0) > 0 ? all / (size_t)w->out.d : all;
    double *p = malloc(pixels * sizeof *p);
    for (int n = 0; n < w->out.n; n++)
        for (int h = 0; h < heads; h++)
            for (size_t i = 0; i < all; i++) {
                const size_t first = at(&w->out, n, h * c, 0, 0, 0), those = i / pixels * pixels;
                double sum = 0, most = -INFINITY;
                for (size_t j = 0; j < pixels; j++) {
                    double dot = 0;
                    for (int k = 0; k < c; k++)
                        dot += w->x[0][first + (size_t)k * all + i] *
                               w->x[1][first + (size_t)k * all + those + j];
                    p[j] = dot / sqrt(c);
                    most = fmax(most, p[j]);
                }
                for (size_t j = 0; j < pixels; j++)
                    sum += p[j] = exp(p[j] - most);
                for (int k = 0; k < c; k++) {
                    double v = 0;
                    for (size_t j = 0; j < pixels; j++)
                        v += p[j] / sum * w->x[2][first + (size_t)k * all + those + j];
                    w->y[first + (size_t)k * all + i] = v;
                }
            }
    free(p);
}

static void loss(const struct work *w)
{
    const struct nn_shape *s = &w->in[0];
    const size_t pixels = (size_t)s->d * (size_t)s->h * (size_t)s->w;
    const int f[3] = {net.size.d / s->d, net.size.h / s->h, net.size.w / s->w};
    double inter[NN_MAX_CLASSES] = {0}, total[NN_MAX_CLASSES] = {0}, ce = 0, count = 0, dice = 0;
    for (int n = 0; n < s->n; n++)
        for (size_t i = 0; i < pixels; i++) {
            const double *x = w->x[0] + at(s, n, 0, 0, 0, 0) + i;
            int z = (int)(i / (size_t)s->w / (size_t)s->h), a = (int)(i / (size_t)s->w) % s->h;
            int b = (int)(i % (size_t)s->w);
            int t = net.label[((n * net.size.d + z * f[0] + f[0] / 2) * net.size.h + a * f[1] +
                               f[1] / 2) *
                                  net.size.w +
                              b * f[2] + f[2] / 2];
            double sum = 0, most = -INFINITY;
            if (t == NN_IGNORE)
                continue;
            for (int k = 0; k < s->c; k++)
                most = fmax(most, x[(size_t)k * pixels]);
            for (int k = 0; k < s->c; k++)
                sum += exp(x[(size_t)k * pixels] - most);
            for (int k = 0; k < s->c; k++) {
                double p = exp(x[(size_t)k * pixels] - most) / sum;
                inter[k] += k == t ? p : 0;
                total[k] += p + (k == t);
            }
            ce -= x[(size_t)t * pixels] - most - log(sum);
            count++;
        }
    for (int k = 0; k < s->c; k++)
        dice += (2 * inter[k] + 1e-5) / (total[k] + 1e-5) / s->c;
    net.loss += attr(w, "weight", 0) * (1 - dice + ce / count);
}

static void input(const struct work *w)
{
    for (size_t i = 0; i < w->n; i++)
        w->y[i] = net.image[i];
}

static const struct {
    const char *kind;
    void (*forward)(const struct work *);
} forwards[] = {
    {"input", input},
    {"convolution", convolution},
    {"transposed_convolution", transposed},
    {"max_pool", max_pool},
    {"average_pool", average_pool},
    {"batch_norm", batch_norm},
    {"instance_norm", group_norm},
    {"group_norm", group_norm},
    {"layer_norm", layer_norm},
    {"relu", relu},
    {"leaky_relu", relu},
    {"gelu", gelu},
    {"silu", silu},
    {"sigmoid", sigmoid},
    {"softmax", softmax},
    {"dropout", dropout},
    {"copy", copy},
    {"join", concat},
    {"concat", concat},
    {"add", add},
    {"multiply", multiply},
    {"attention_score", attention_score},
    {"gate", gate},
    {"nearest", nearest},
    {"linear_resize", linear_resize},
    {"linear", linear},
    {"attention", attention},
    {"positions", positions},
    {"head", head},
    {"loss", loss},
};

/* The loss; what operations before `first` made stands. */
static double forward(int first)
{
    const struct graph *g = &net.nn->g;
    net.loss = 0;
    for (int i = 0; i < g->ops; i++) {
        const struct op *op = &g->op[i];
        if (i < first && op->out >= 0)
            continue;
        struct work w = {.op = op};
        size_t k = 0;
        for (int j = 0; j < op->ins; j++) {
            w.x[j] = net.value[op->in[j]];
            w.in[j] = shape_of(op->in[j]);
        }
        for (int j = 0; j < op->params; j++)
            w.param[j] = net.param[op->param[j]];
        if (op->out >= 0) {
            w.y = net.value[op->out];
            w.out = shape_of(op->out);
            w.n = size_of(op->out);
        }
        while (k < sizeof forwards / sizeof *forwards && strcmp(forwards[k].kind, op->kind->name))
            k++;
        if (k == sizeof forwards / sizeof *forwards) {
            printf("Bail out! no forward pass for %s\n", op->kind->name);
            exit(1);
        }
        forwards[k].forward(&w);
    }
    return net.loss;
}

/* --- the check ---------------------------------------------------------------------------------*/

/* The first operation that reads a parameter. */
static int reader(int param)
{
    const struct graph *g = &net.nn->g;
    for (int i = 0; i < g->ops; i++)
        for (int j = 0; j < g->op[i].params; j++)
            if (g->op[i].param[j] == param)
                return i;
    return 0;
}

/* Values of operations from `first` on need not be those of the parameters as they are. */
static double along(int first, double *x, const double *from, const double *direction, size_t n)
{
    const double h = 1e-6;
    double side[2];
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < n; i++)
            x[i] = from[i] + (k ? -h : h) * direction[i];
        side[k] = forward(first);
    }
    memcpy(x, from, n * sizeof *x);
    return (side[0] - side[1]) / (2 * h);
}

static void check(const struct nn_spec *spec, const char *label, int d, int h, int w,
                  enum kr_algo algo, double bound)
{
    struct nn_options o = {.train = true,
                           .n = 3,
                           .d = d,
                           .h = h,
                           .w = w,
                           .threads = 2,
                           .algo = algo,
                           .gradients = true,
                           .trap = true,
                           .training = {.loss = NN_DICE_CE, .seed = 5}};
    char why[256];
    struct nn *nn = nn_new(spec, &o, why, sizeof why);
    if (!nn || nn_init(nn, 6)) {
        ok(false, "%s: %s", label, nn ? nn_why(nn) : why);
        nn_free(nn);
        return;
    }
    struct rng r = rng_seed(11);
    size_t pixels = (size_t)(o.n * d * h * w), count;
    const int cin = nn_inputs(nn), classes = nn_classes(nn);
    float *image = malloc(pixels * (size_t)cin * sizeof *image);
    uint8_t *truth = malloc(pixels);
    for (size_t i = 0; i < pixels * (size_t)cin; i++)
        image[i] = (float)rng_normal(&r);
    for (size_t i = 0; i < pixels; i++) /* the last class is absent */
        truth[i] = i % 11 == 10 ? NN_IGNORE : (uint8_t)rng_below(&r, (uint64_t)classes - 1);
    const struct tensor *p = nn_params(nn, &count);
    for (size_t i = 0; i < count; i++) /* off the symmetric start, and well off ReLU's kink */
        for (size_t j = 0; j < tensor_count(&p[i]); j++)
            if (p[i].rank == 1)
                ((float *)p[i].data)[j] += (float)rng_range(&r, -0.3, 0.3);
            else
                ((float *)p[i].data)[j] *= 2.5f;

    net.nn = nn, net.size = (struct nn_size){o.n, d, h, w}, net.image = image, net.label = truth;
    net.value = calloc((size_t)nn->g.values, sizeof *net.value);
    net.param = calloc((size_t)nn->g.params, sizeof *net.param);
    for (int v = 0; v < nn->g.values; v++)
        net.value[v] = malloc(size_of(v) * sizeof(double));
    for (int i = 0; i < nn->g.params; i++) {
        const struct tensor *t = &nn->param[i].t;
        net.param[i] = malloc(tensor_count(t) * sizeof(double));
        for (size_t j = 0; j < tensor_count(t); j++)
            net.param[i][j] = tensor_get(t, j);
    }
    struct nn_batch batch = {.n = o.n, .d = d, .h = h, .w = w, .image = image, .label = truth};
    struct nn_result result = {0};
    int e = nn_backward(nn, &batch, &result, NULL);
    double exact = forward(0);
    ok(!e && fabs(result.loss - exact) < 2e-5 * fabs(exact), "%s: the loss is %.7f (%.7f)%s", label,
       result.loss, exact, e ? nn_why(nn) : "");

    double worst = 0, total = 0;
    int changed = nn->g.ops;
    const char *where = "";
    for (int i = 0; i < nn->g.params; i++)
        for (size_t j = 0; nn->g.param[i].trained && j < tensor_count(&nn->g.param[i].t); j++)
            total += pow((double)nn->param[i].grad[j], 2);
    for (int i = 0; i < nn->g.params; i++) {
        const struct param *q = &nn->g.param[i];
        const float *grad = nn->param[i].grad;
        size_t n = tensor_count(&q->t);
        if (!q->trained)
            continue;
        double *from = malloc(n * sizeof *from), *way = malloc(n * sizeof *way), norm2 = 0;
        memcpy(from, net.param[i], n * sizeof *from);
        for (size_t j = 0; j < n; j++)
            norm2 += pow((double)grad[j], 2);
        /* What a gradient of this size is off by: a convolution in front of a normalisation may
         * have hardly any, so a small share of the whole counts too. */
        double scale = sqrt(norm2) + 1e-3 * sqrt(total);
        /* Half along the gradient found, which sees its length, half anywhere: 1/sqrt(n) of an
         * error. */
        double want = 0, length = 0;
        for (size_t j = 0; j < n; j++)
            length += pow(way[j] = rng_normal(&r), 2);
        for (size_t j = 0; j < n; j++) {
            way[j] = way[j] / sqrt(length) + (double)grad[j] / (sqrt(norm2) + 1e-30);
            want += way[j] * (double)grad[j];
        }
        int first = reader(i) < changed ? reader(i) : changed;
        changed = reader(i);
        double off = fabs(along(first, net.param[i], from, way, n) - want) / scale;
        if (!(off <= worst))
            worst = off, where = q->t.name;
        free(from), free(way);
    }
    ok(worst < bound, "%s: %d parameters agree with finite differences within %g (%.2g in %s)",
       label, nn->g.params, bound, worst, where);
    for (int v = 0; v < nn->g.values; v++)
        free(net.value[v]);
    for (int i = 0; i < nn->g.params; i++)
        free(net.param[i]);
    nn_free(nn);
    free(net.value), free(net.param);
    free(image), free(truth);
}

/* --- each operation between two 1x1 convolutions ---------------------------------------------- */

#define C(name, c) "{op: convolution, name: " name ", channels: " c ", kernel: 1}"
#define N(name) "{op: batch_norm, name: " name "}"

static const struct {
    const char *name, *ops; /* of the value `front` */
    int d, h, w;
} just[] = {
    {"convolution 1x1 and loss", C("op", "7"), 1, 16, 32},
    {"convolution 3x3", "{op: convolution, name: op, channels: 7, kernel: 3}", 1, 16, 32},
    {"3x3 before a normalisation", "{op: convolution, name: op, channels: 7, kernel: 3}, " N("n"),
     1, 16, 32},
    {"kernel 5x3, dilated", "{op: convolution, name: op, channels: 6, kernel: [5, 3], dilation: 2}",
     1, 16, 32},
    {"stride 2",
     "{op: convolution, name: op, channels: 6, kernel: 3, stride: 2}, {op: "
     "transposed_convolution, name: up, channels: 5, kernel: 2, stride: 2}",
     1, 16, 32},
    {"3x3x3 in a volume", "{op: convolution, name: op, channels: 6, kernel: [3, 3, 3]}", 4, 8, 16},
    {"transposed convolution",
     "{op: max_pool, size: 2}, {op: transposed_convolution, name: up, "
     "channels: 6, kernel: 2, stride: 2}",
     1, 16, 32},
    {"transposed in a volume",
     "{op: average_pool, size: [2, 2, 2]}, {op: transposed_convolution, name: up, "
     "channels: 6, kernel: [2, 2, 2], stride: [2, 2, 2]}",
     4, 8, 16},
    {"pooling by 3", "{op: max_pool, size: 3}, {op: nearest, factor: 3}", 1, 12, 24},
    {"batch norm", N("op"), 1, 16, 32},
    {"batch norm in a volume", N("op"), 4, 8, 16},
    {"instance norm", "{op: instance_norm, name: op}", 1, 16, 32},
    {"instance norm in a volume, leaky ReLU", "{op: instance_norm, name: op}, {op: leaky_relu}", 4,
     8, 16},
    {"group norm", "{op: group_norm, name: op, groups: 3}, {op: relu}", 1, 16, 32},
    {"layer norm", "{op: layer_norm, name: op}", 1, 16, 32},
    {"ReLU", "{op: relu}", 1, 16, 32},
    {"leaky ReLU", "{op: leaky_relu, slope: 0.2}", 1, 16, 32},
    {"norm and ReLU", N("op") ", {op: relu}", 1, 16, 32},
    {"GELU", "{op: gelu}", 1, 16, 32},
    {"SiLU", "{op: silu}", 1, 16, 32},
    {"SiLU of a view, read twice",
     "{op: batch_norm, name: n}, {op: relu, name: r}, {op: silu, name: s}, {op: multiply, in: [r, "
     "s]}",
     1, 16, 32},
    {"sigmoid", "{op: sigmoid}", 1, 16, 32},
    {"softmax", "{op: softmax}", 1, 16, 32},
    {"dropout", N("op") ", {op: relu}, {op: dropout, p: 0.4}", 1, 16, 32},
    {"dropout alone, in a volume", "{op: dropout, p: 0.4}", 4, 8, 16},
    {"positions", "{op: positions, name: op, size: [3, 40]}", 1, 16, 32},
    {"positions in a volume", "{op: positions, name: op, size: [2, 3, 5]}", 4, 8, 16},
    {"max pool",
     N("op") ", {op: relu}, {op: max_pool, size: 2}, {op: transposed_convolution, "
             "name: up, channels: 5, kernel: 2, stride: 2}",
     1, 16, 32},
    {"concat",
     "{op: convolution, name: side, channels: 17, kernel: 3}, " N(
         "n") ", {op: relu, "
              "name: r}, {op: concat, in: [front, r]}, {op: convolution, name: op, channels: 3, "
              "kernel: 3}",
     1, 16, 32},
    {"concat read by a pool",
     "{op: convolution, name: side, channels: 17, kernel: 3}, {op: relu, "
     "name: r}, {op: concat, in: [front, r]}, {op: max_pool, size: 2}, "
     "{op: nearest, factor: 2}",
     1, 16, 32},
    {"add",
     "{op: convolution, name: side, channels: 9, kernel: 3}, " N(
         "n") ", {op: add, in: [n, front]}, {op: relu}",
     1, 16, 32},
    {"a map read raw and through a view",
     "{op: batch_norm, name: n}, {op: relu, name: r}, "
     "{op: convolution, name: c, channels: 9, kernel: 3}, "
     "{op: add, in: [c, front]}",
     1, 16, 32},
    {"a value added to itself", "{op: add, in: [front, front]}", 1, 16, 32},
    {"multiply",
     "{op: convolution, name: s, channels: 9, kernel: 3}, {op: sigmoid, name: t}, {op: "
     "multiply, in: [front, t]}",
     1, 16, 32},
    {"multiply by one channel",
     "{op: convolution, name: s, channels: 1, kernel: 1}, {op: sigmoid, "
     "name: t}, {op: multiply, in: [front, t]}",
     1, 16, 32},
    {"gate",
     N("x0") ", {op: relu, name: x}, {op: convolution, name: g, channels: 3, kernel: 1, "
             "bias: false}, {op: batch_norm, name: g_norm}, {op: convolution, in: x, name: y, "
             "channels: 3, kernel: 3, bias: false}, {op: batch_norm, name: y_norm}, {op: "
             "attention_score, name: psi, in: [g_norm, y_norm]}, {op: batch_norm, name: psi_norm}, "
             "{op: gate, in: [psi_norm, x]}",
     1, 16, 32},
    {"linear", "{op: linear, name: op, channels: 7}, {op: gelu}", 1, 16, 32},
    {"attention",
     "{op: linear, name: q, channels: 6}, {op: linear, name: k, in: front, channels: "
     "6}, {op: linear, name: v, in: front, channels: 6}, {op: attention, in: [q, k, "
     "v], heads: 2}",
     1, 4, 6},
    {"attention in each slice",
     "{op: linear, name: q, channels: 4}, {op: linear, name: k, in: front, channels: "
     "4}, {op: linear, name: v, in: front, channels: 4}, {op: attention, in: [q, k, v], "
     "heads: 2, planar: true}",
     3, 4, 4},
    {"linear resize", "{op: average_pool, size: 2}, {op: linear_resize, factor: 2}", 1, 16, 32},
    {"linear resize in a volume",
     "{op: average_pool, size: [2, 2, 2]}, {op: linear_resize, factor: [2, 2, 2]}", 4, 8, 16},
    {"two heads",
     "{op: convolution, name: op, channels: 9, kernel: 3}, {op: max_pool, size: 4, name: low}, "
     "{op: "
     "nearest, factor: 4, name: up}, {op: add, in: [op, up]}",
     1, 16, 32},
};

/* --- networks that nobody thought of ---------------------------------------------------------- */

/* Values made so far, of 1/down of the image's height and width. */
struct made {
    int c, down, uses;
};

/* A network of random operations on random values; the rest are brought together at the end. */
static void invent(uint64_t seed, char *text, size_t size)
{
    struct rng r = rng_seed(seed);
    struct made v[64] = {{.c = 5, .down = 1}};
    int n = 1, ops = 3 + (int)rng_below(&r, 9);
    size_t at = (size_t)snprintf(text, size,
                                 "network: [{op: input, channels: 3}, {op: convolution, "
                                 "name: v0, channels: 5, kernel: 1}");
#define SAY(...) at += (size_t)snprintf(text + at, size - at, __VA_ARGS__)
    for (int i = 0; i < ops; i++) {
        int x = (int)rng_below(&r, (uint64_t)n), y = (int)rng_below(&r, (uint64_t)n);
        int c = 1 + (int)rng_below(&r, 20), pick = (int)rng_below(&r, 20);
        struct made *w = &v[n];
        *w = (struct made){.c = v[x].c, .down = v[x].down};
        static const char *const plain[] = {"relu", "leaky_relu", "gelu", "sigmoid", "softmax"};
        static const char *const norms[] = {"batch_norm", "instance_norm", "layer_norm"};
        if (pick < 4) {
            SAY(", {op: %s, in: v%d, name: v%d}", plain[rng_below(&r, 5)], x, n);
        } else if (pick < 8) {
            SAY(", {op: %s, in: v%d, name: v%d}", norms[rng_below(&r, 3)], x, n);
        } else if (pick < 12) {
            static const char *const kernels[] = {"1", "3", "3, dilation: 2", "[1, 3]"};
            SAY(", {op: convolution, in: v%d, name: v%d, channels: %d, kernel: %s, bias: %s}", x, n,
                w->c = c, kernels[rng_below(&r, 4)], c % 2 ? "true" : "false");
        } else if (pick == 12 && v[x].down < 4) {
            SAY(", {op: convolution, in: v%d, name: v%d, channels: %d, kernel: 3, stride: 2}", x, n,
                w->c = c);
            w->down *= 2;
        } else if (pick == 13 && v[x].down < 4) {
            SAY(", {op: %s_pool, in: v%d, name: v%d, size: 2}", c % 2 ? "max" : "average", x, n);
            w->down *= 2;
        } else if (pick == 14 && v[x].down > 1) {
            SAY(", {op: transposed_convolution, in: v%d, name: v%d, channels: %d, kernel: 2, "
                "stride: "
                "2}",
                x, n, w->c = c);
            w->down /= 2;
        } else if (pick == 15) {
            SAY(", {op: dropout, in: v%d, name: v%d, p: 0.3}", x, n);
        } else if (pick < 18 && v[x].down == v[y].down) {
            SAY(", {op: concat, in: [v%d, v%d], name: v%d}", x, y, n);
            w->c = v[x].c + v[y].c;
            v[y].uses++;
        } else if (v[x].down == v[y].down && v[x].c == v[y].c) {
            SAY(", {op: %s, in: [v%d, v%d], name: v%d}", c % 2 ? "add" : "multiply", x, y, n);
            v[y].uses++;
        } else {
            continue;
        }
        v[x].uses++;
        n++;
    }
    int sum = -1;
    for (int i = 0; i < n; i++) {
        if (v[i].uses)
            continue;
        SAY(", {op: convolution, in: v%d, name: e%d, channels: 6, kernel: 1}", i, i);
        if (v[i].down > 1)
            SAY(", {op: nearest, factor: %d}", v[i].down);
        SAY(", {op: convolution, name: f%d, channels: 6, kernel: 1}", i);
        if (sum >= 0)
            SAY(", {op: add, in: [f%d, %c%d], name: g%d}", i, sum >= 64 ? 'g' : 'f', sum % 64, i);
        sum = sum >= 0 ? 64 + i : i;
    }
    SAY(", {op: head, name: head, channels: 5}, {op: loss}]");
#undef SAY
}

int main(void)
{
    const char *bad = kr_init();
    if (bad) {
        printf("Bail out! %s\n", bad);
        return 1;
    }
    for (size_t i = 0; i < sizeof just / sizeof *just; i++) {
        char text[2048];
        bool two = !strcmp(just[i].name, "two heads");
        int n = snprintf(text, sizeof text,
                         "network: [{op: input, channels: 3}, " C(
                             "front", "9") ", %s, {op: head, "
                                           "name: head, channels: 5}, {op: loss}%s]",
                         just[i].ops,
                         two ? ", {op: head, in: low, name: head2, channels: 5}, {op: loss, "
                               "weight: 0.3}"
                             : "");
        struct nn_spec spec = {.text = text, .length = (size_t)n, .name = just[i].name};
        check(&spec, just[i].name, just[i].d, just[i].h, just[i].w, KR_DIRECT, 2e-4);
    }
    const char *full = getenv("LONG");
    for (uint64_t i = 0; i < (full ? 500 : 20); i++) {
        char text[8192], label[32];
        invent(i, text, sizeof text);
        snprintf(label, sizeof label, "invented %d", (int)i);
        struct nn_spec spec = {.text = text, .length = strlen(text), .name = label};
        /* Of 500 one loses three digits: its loss in float32 is off by 3e-7 already. */
        check(&spec, label, 1, 8, 16, KR_AUTO, 2e-3);
    }
    static const struct {
        const char *name;
        int base, h, w;
    } networks[] = {{"unet", 3, 32, 16}, {"attention", 2, 48, 48}, {"residual", 3, 32, 16}};
    for (int i = 0; i < 3; i++)
        for (int k = KR_DIRECT; k <= KR_WINOGRAD; k++) {
            char label[64];
            struct nn_spec spec = nn_network(networks[i].name, networks[i].base, 3, 5);
            /* A gate's normalisation over few pixels makes much of a rounding. */
            if (k == KR_WINOGRAD && !strcmp(networks[i].name, "attention"))
                continue;
            if (!strcmp(networks[i].name, "residual"))
                nn_set(&spec, "dropout", 0.3);
            snprintf(label, sizeof label, "%s, %s", networks[i].name,
                     k == KR_DIRECT ? "direct" : "winograd");
            check(&spec, label, 1, networks[i].h, networks[i].w, (enum kr_algo)k, 2e-2);
        }
    return done_testing();
}
