/* Every operation and the three networks against finite differences. The forward pass is written
 * out once more here, in double and as plainly as possible; its loss is differentiated by central
 * differences along a random direction of each parameter, and along the gradient that the engine
 * found. Odd sizes and numbers of channels, ignored pixels, direct convolution and Winograd. */
#include "lib/base/rng.h"
#include "lib/nn/net.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const struct nn *nn;
    int n, h, w;
    const float *image;
    const uint8_t *label;
    double *param[MAX_PARAMS], *value[MAX_VALUES];
    double loss;
} net;

static size_t size_of(int v)
{
    const struct value *x = &net.nn->g.value[v];
    return (size_t)(net.n * x->c) * (size_t)(net.h >> x->level) * (size_t)(net.w >> x->level);
}

/* --- the forward pass in double ----------------------------------------------------------------*/

static void conv(const struct op *op, int taps)
{
    const struct value *x = &net.nn->g.value[op->in[0]], *y = &net.nn->g.value[op->out];
    int h = net.h >> y->level, w = net.w >> y->level, half = taps / 2;
    const double *k = net.param[op->param[0]];
    for (int n = 0; n < net.n; n++)
        for (int o = 0; o < y->c; o++)
            for (int i = 0; i < h; i++)
                for (int j = 0; j < w; j++) {
                    double sum = op->nparams > 1 ? net.param[op->param[1]][o] : 0;
                    for (int c = 0; c < x->c; c++)
                        for (int r = 0; r < taps; r++)
                            for (int s = 0; s < taps; s++) {
                                int a = i + r - half, b = j + s - half;
                                if (a >= 0 && a < h && b >= 0 && b < w)
                                    sum += k[((o * x->c + c) * taps + r) * taps + s] *
                                           net.value[op->in[0]][((n * x->c + c) * h + a) * w + b];
                            }
                    net.value[op->out][((n * y->c + o) * h + i) * w + j] = sum;
                }
}

static void upconv(const struct op *op)
{
    const struct value *x = &net.nn->g.value[op->in[0]], *y = &net.nn->g.value[op->out];
    int h = net.h >> y->level, w = net.w >> y->level;
    for (int n = 0; n < net.n; n++)
        for (int o = 0; o < y->c; o++)
            for (int i = 0; i < h; i++)
                for (int j = 0; j < w; j++) {
                    double sum = net.param[op->param[1]][o];
                    for (int c = 0; c < x->c; c++)
                        sum += net.param[op->param[0]][((c * y->c + o) * 2 + i % 2) * 2 + j % 2] *
                               net.value[op->in[0]]
                                        [((n * x->c + c) * (h / 2) + i / 2) * (w / 2) + j / 2];
                    net.value[op->out][((n * y->c + o) * h + i) * w + j] = sum;
                }
}

/* In place: x (N,C,P), gamma, beta */
static void norm(double *x, int c, int pixels, const double *gamma, const double *beta)
{
    for (int k = 0; k < c; k++) {
        double sum = 0, squares = 0, count = net.n * pixels;
        for (int n = 0; n < net.n; n++)
            for (int i = 0; i < pixels; i++)
                sum += x[(n * c + k) * pixels + i];
        for (int n = 0; n < net.n; n++)
            for (int i = 0; i < pixels; i++)
                squares += pow(x[(n * c + k) * pixels + i] - sum / count, 2);
        for (int n = 0; n < net.n; n++)
            for (int i = 0; i < pixels; i++) {
                double *v = &x[(n * c + k) * pixels + i];
                *v = gamma[k] * (*v - sum / count) / sqrt(squares / count + 1e-5) + beta[k];
            }
    }
}

static void pool(const struct op *op)
{
    const struct value *y = &net.nn->g.value[op->out];
    int h = net.h >> y->level, w = net.w >> y->level;
    for (int p = 0; p < net.n * y->c; p++)
        for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++) {
                const double *x = net.value[op->in[0]] + (p * 2 * h + 2 * i) * 2 * w + 2 * j;
                net.value[op->out][(p * h + i) * w + j] =
                    fmax(fmax(x[0], x[1]), fmax(x[2 * w], x[2 * w + 1]));
            }
}

static void gate(const struct op *op)
{
    const struct value *a = &net.nn->g.value[op->in[0]], *y = &net.nn->g.value[op->out];
    int pixels = (net.h >> y->level) * (net.w >> y->level);
    double *score = calloc((size_t)(net.n * pixels), sizeof *score);
    for (int n = 0; n < net.n; n++)
        for (int c = 0; c < a->c; c++)
            for (int i = 0; i < pixels; i++) {
                size_t at = (size_t)((n * a->c + c) * pixels + i);
                double z = net.value[op->in[0]][at] + net.value[op->in[1]][at];
                score[n * pixels + i] += net.param[op->param[0]][c] * fmax(z, 0);
            }
    norm(score, 1, pixels, net.param[op->param[1]], net.param[op->param[2]]);
    for (int n = 0; n < net.n; n++)
        for (int c = 0; c < y->c; c++)
            for (int i = 0; i < pixels; i++) {
                size_t at = (size_t)((n * y->c + c) * pixels + i);
                net.value[op->out][at] =
                    net.value[op->in[2]][at] / (1 + exp(-score[n * pixels + i]));
            }
    free(score);
}

static void loss(const struct op *op)
{
    int c = net.nn->g.value[op->in[0]].c, pixels = net.h * net.w;
    double inter[NN_MAX_CLASSES] = {0}, total[NN_MAX_CLASSES] = {0}, ce = 0, count = 0, dice = 0;
    for (int n = 0; n < net.n; n++)
        for (int i = 0; i < pixels; i++) {
            const double *x = net.value[op->in[0]] + n * c * pixels + i;
            int t = net.label[n * pixels + i];
            double sum = 0;
            if (t == NN_IGNORE)
                continue;
            for (int k = 0; k < c; k++)
                sum += exp(x[k * pixels]);
            for (int k = 0; k < c; k++) {
                double p = exp(x[k * pixels]) / sum;
                inter[k] += k == t ? p : 0;
                total[k] += p + (k == t);
            }
            ce -= x[t * pixels] - log(sum);
            count++;
        }
    for (int k = 0; k < c; k++)
        dice += (2 * inter[k] + 1e-5) / (total[k] + 1e-5) / c;
    net.loss = 1 - dice + (net.nn->opt.training.loss == NN_DICE_CE ? ce / count : 0);
}

static double forward(void)
{
    const struct graph *g = &net.nn->g;
    for (int i = 0; i < g->ops; i++) {
        const struct op *op = &g->op[i];
        const char *kind = op->kind->name;
        double *y = op->out >= 0 ? net.value[op->out] : NULL;
        const double *x = op->nin ? net.value[op->in[0]] : NULL;
        size_t n = y ? size_of(op->out) : 0;
        if (!strcmp(kind, "input")) {
            for (size_t j = 0; j < n; j++)
                y[j] = net.image[j];
        } else if (!strcmp(kind, "conv3x3")) {
            conv(op, 3);
        } else if (!strcmp(kind, "conv1x1") || !strcmp(kind, "head")) {
            conv(op, 1);
        } else if (!strcmp(kind, "upconv")) {
            upconv(op);
        } else if (!strcmp(kind, "norm")) {
            memcpy(y, x, n * sizeof *y);
            int level = g->value[op->out].level;
            norm(y, g->value[op->out].c, (net.h >> level) * (net.w >> level),
                 net.param[op->param[0]], net.param[op->param[1]]);
        } else if (!strcmp(kind, "relu")) {
            for (size_t j = 0; j < n; j++)
                y[j] = fmax(x[j], 0);
        } else if (!strcmp(kind, "dropout")) {
            int c = g->value[op->out].c;
            size_t pixels = n / (size_t)(net.n * c);
            float *gain = calloc((size_t)(net.n * kr_pad(c)), sizeof *gain);
            kr_dropout_gain(net.n, c, op->number, net.nn->opt.training.seed, 0, (uint64_t)op->id, 0,
                            gain);
            for (size_t j = 0; j < n; j++) {
                size_t sample = j / pixels / (size_t)c, k = j / pixels % (size_t)c;
                y[j] = x[j] * gain[sample * (size_t)kr_pad(c) + k];
            }
            free(gain);
        } else if (!strcmp(kind, "pool")) {
            pool(op);
        } else if (!strcmp(kind, "concat")) {
            size_t a = size_of(op->in[0]) / (size_t)net.n, b = size_of(op->in[1]) / (size_t)net.n;
            for (size_t s = 0; s < (size_t)net.n; s++) {
                memcpy(y + s * (a + b), x + s * a, a * sizeof *y);
                memcpy(y + s * (a + b) + a, net.value[op->in[1]] + s * b, b * sizeof *y);
            }
        } else if (!strcmp(kind, "add")) {
            for (size_t j = 0; j < n; j++)
                y[j] = x[j] + net.value[op->in[1]][j];
        } else if (!strcmp(kind, "gate")) {
            gate(op);
        } else if (!strcmp(kind, "loss")) {
            loss(op);
        } else {
            printf("Bail out! no forward pass for %s\n", kind);
            exit(1);
        }
    }
    return net.loss;
}

/* --- the check ---------------------------------------------------------------------------------*/

static double along(double *x, const double *from, const double *direction, size_t n)
{
    const double h = 1e-6;
    double side[2];
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < n; i++)
            x[i] = from[i] + (k ? -h : h) * direction[i];
        side[k] = forward();
    }
    memcpy(x, from, n * sizeof *x);
    return (side[0] - side[1]) / (2 * h);
}

static void check(void (*build)(struct graph *, const struct nn_spec *), const struct nn_spec *spec,
                  const char *label, int h, int w, enum kr_algo algo, double bound)
{
    struct nn_options o = {.train = true,
                           .n = 3,
                           .h = h,
                           .w = w,
                           .threads = 2,
                           .algo = algo,
                           .gradients = true,
                           .trap = true,
                           .training = {.loss = NN_DICE_CE, .seed = 5}};
    char why[256];
    struct nn *nn = nn_from(build, spec, &o, why, sizeof why);
    if (!nn || nn_init(nn, 6)) {
        printf("Bail out! %s: %s\n", label, nn ? nn_why(nn) : why);
        exit(1);
    }
    struct rng r = rng_seed(11);
    size_t pixels = (size_t)(o.n * h * w), count;
    float *image = malloc(pixels * (size_t)spec->cin * sizeof *image);
    uint8_t *truth = malloc(pixels);
    for (size_t i = 0; i < pixels * (size_t)spec->cin; i++)
        image[i] = (float)rng_normal(&r);
    for (size_t i = 0; i < pixels; i++) /* the last class is absent */
        truth[i] = i % 11 == 10 ? NN_IGNORE : (uint8_t)rng_below(&r, (uint64_t)spec->classes - 1);
    const struct tensor *p = nn_params(nn, &count);
    for (size_t i = 0; i < count; i++) /* off the symmetric start, and well off ReLU's kink */
        for (size_t j = 0; j < tensor_count(&p[i]); j++)
            if (p[i].rank == 1)
                ((float *)p[i].data)[j] += (float)rng_range(&r, -0.3, 0.3);
            else
                ((float *)p[i].data)[j] *= 2.5f;

    net.nn = nn, net.n = o.n, net.h = h, net.w = w, net.image = image, net.label = truth;
    for (int v = 0; v < nn->g.values; v++)
        net.value[v] = malloc(size_of(v) * sizeof(double));
    for (int i = 0; i < nn->g.params; i++) {
        const struct tensor *t = &nn->g.param[i].t;
        net.param[i] = malloc(tensor_count(t) * sizeof(double));
        for (size_t j = 0; j < tensor_count(t); j++)
            net.param[i][j] = tensor_get(t, j);
    }
    struct nn_batch batch = {.n = o.n, .h = h, .w = w, .image = image, .label = truth};
    struct nn_result result = {0};
    int e = nn_backward(nn, &batch, &result, NULL);
    double exact = forward();
    ok(!e && fabs(result.loss - exact) < 2e-5 * fabs(exact), "%s: the loss is %.7f (%.7f)%s", label,
       result.loss, exact, e ? nn_why(nn) : "");

    double worst = 0, total = 0;
    const char *where = "";
    for (int i = 0; i < nn->g.params; i++)
        for (size_t j = 0; nn->g.param[i].trained && j < tensor_count(&nn->g.param[i].t); j++)
            total += pow((double)nn->g.param[i].grad[j], 2);
    for (int i = 0; i < nn->g.params; i++) {
        const struct param *q = &nn->g.param[i];
        size_t n = tensor_count(&q->t);
        if (!q->trained)
            continue;
        double *from = malloc(n * sizeof *from), *d = malloc(n * sizeof *d), norm2 = 0;
        memcpy(from, net.param[i], n * sizeof *from);
        for (size_t j = 0; j < n; j++)
            norm2 += pow((double)q->grad[j], 2);
        /* What a gradient of this size is off by: a convolution in front of a normalisation may
         * have hardly any, so a small share of the whole counts too. */
        double scale = sqrt(norm2) + 1e-3 * sqrt(total);
        /* Half along the gradient found, which sees its length, half anywhere: 1/sqrt(n) of an
         * error. */
        double want = 0, length = 0;
        for (size_t j = 0; j < n; j++)
            length += pow(d[j] = rng_normal(&r), 2);
        for (size_t j = 0; j < n; j++) {
            d[j] = d[j] / sqrt(length) + (double)q->grad[j] / (sqrt(norm2) + 1e-30);
            want += d[j] * (double)q->grad[j];
        }
        double off = fabs(along(net.param[i], from, d, n) - want) / scale;
        if (!(off <= worst))
            worst = off, where = q->t.name;
        free(from), free(d);
    }
    ok(worst < bound, "%s: %d parameters agree with finite differences within %g (%.2g in %s)",
       label, nn->g.params, bound, worst, where);
    for (int v = 0; v < nn->g.values; v++)
        free(net.value[v]);
    for (int i = 0; i < nn->g.params; i++)
        free(net.param[i]);
    nn_free(nn);
    free(image), free(truth);
}

/* --- each operation between two 1x1 convolutions -----------------------------------------------*/

static int front(struct graph *g, const struct nn_spec *s, int c)
{
    return nn_conv1x1(g, nn_input(g, s->cin), c, true, "front", "");
}

static void back(struct graph *g, const struct nn_spec *s, int x)
{
    nn_loss_op(g, nn_head(g, x, s->classes));
}

static void just_conv3x3(struct graph *g, const struct nn_spec *s)
{
    back(g, s, nn_conv3x3(g, front(g, s, 5), 7, "op", "conv"));
}

static void just_conv1x1(struct graph *g, const struct nn_spec *s)
{
    back(g, s, nn_conv1x1(g, front(g, s, 19), 7, true, "op", "conv"));
}

static void just_upconv(struct graph *g, const struct nn_spec *s)
{
    back(g, s, nn_upconv(g, nn_pool(g, front(g, s, 5), "op"), 6, "op", "up"));
}

static void just_norm(struct graph *g, const struct nn_spec *s)
{
    back(g, s, nn_norm(g, front(g, s, 18), "op", "norm"));
}

static void just_relu(struct graph *g, const struct nn_spec *s)
{
    back(g, s, nn_relu(g, front(g, s, 5), "op"));
}

static void just_normrelu(struct graph *g, const struct nn_spec *s)
{
    back(g, s, nn_relu(g, nn_norm(g, front(g, s, 5), "op", "norm"), "op"));
}

static void just_dropout(struct graph *g, const struct nn_spec *s)
{
    int x = nn_relu(g, nn_norm(g, front(g, s, 9), "op", "norm"), "op");
    back(g, s, nn_dropout(g, x, 0.4, "op"));
}

static void just_pool(struct graph *g, const struct nn_spec *s)
{
    int x = nn_relu(g, nn_norm(g, front(g, s, 5), "op", "norm"), "op");
    back(g, s, nn_upconv(g, nn_pool(g, x, "op"), 5, "op", "up"));
}

static void just_concat(struct graph *g, const struct nn_spec *s)
{
    int x = front(g, s, 5), y = nn_conv3x3(g, x, 17, "op", "side");
    y = nn_relu(g, nn_norm(g, y, "op", "norm"), "op");
    back(g, s, nn_conv3x3(g, nn_concat(g, x, y, "op"), 3, "op", "conv"));
}

static void just_add(struct graph *g, const struct nn_spec *s)
{
    int x = front(g, s, 5), y = nn_norm(g, nn_conv3x3(g, x, 5, "op", "side"), "op", "norm");
    back(g, s, nn_relu(g, nn_add(g, y, x, "op"), "op"));
}

static void just_gate(struct graph *g, const struct nn_spec *s)
{
    int x = nn_relu(g, nn_norm(g, front(g, s, 7), "op", "norm"), "op");
    int a = nn_norm(g, nn_conv1x1(g, x, 3, false, "op", "g"), "op", "g_norm");
    int b = nn_norm(g, nn_conv3x3(g, x, 3, "op", "x"), "op", "x_norm");
    back(g, s, nn_gate(g, a, b, x, "op"));
}

int main(void)
{
    const char *bad = kr_init();
    if (bad) {
        printf("Bail out! %s\n", bad);
        return 1;
    }
    static const struct {
        const char *name;
        void (*build)(struct graph *, const struct nn_spec *);
    } just[] = {
        {"conv1x1 and loss", just_conv1x1},
        {"conv3x3", just_conv3x3},
        {"upconv", just_upconv},
        {"norm", just_norm},
        {"relu", just_relu},
        {"norm and relu", just_normrelu},
        {"dropout", just_dropout},
        {"pool", just_pool},
        {"concat", just_concat},
        {"add", just_add},
        {"gate", just_gate},
    };
    struct nn_spec spec = {.cin = 3, .classes = 5};
    for (size_t i = 0; i < sizeof just / sizeof *just; i++) {
        spec.base = 1;
        check(just[i].build, &spec, just[i].name, 16, 32, KR_DIRECT, 2e-4);
    }
    static const int bases[NN_ARCH_COUNT] = {3, 2, 3};
    for (int a = 0; a < NN_ARCH_COUNT; a++)
        for (int k = KR_DIRECT; k <= KR_WINOGRAD; k++) {
            char label[64];
            spec.arch = (enum nn_arch)a;
            spec.base = bases[a];
            spec.dropout = a == NN_RESIDUAL ? 0.3 : 0;
            snprintf(label, sizeof label, "%s, %s", nn_arch_name(spec.arch),
                     k == KR_DIRECT ? "direct" : "winograd");
            /* A gate's normalisation over few pixels makes much of a rounding, so it gets more. */
            bool gates = a == NN_ATTENTION;
            if (gates && k == KR_WINOGRAD)
                continue;
            check(nn_build, &spec, label, gates ? 48 : 32, gates ? 48 : 16, (enum kr_algo)k, 2e-2);
        }
    return done_testing();
}
