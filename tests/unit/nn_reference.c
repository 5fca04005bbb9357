/* The three networks against vectors that PyTorch computed in double: REFERENCE names the folder of
 * {unet,attention,residual}.safetensors. Every algorithm; the instruction-set level is KR_ISA's.
 *
 * A gradient jumps where an activation crosses zero, and among some hundred thousand activations
 * one or two lie within a rounding of it (1.1e-6 in the U-Net's dec1.norm1): which side float falls
 * on is chance, and one on the other side moves a gradient by 1e-3. So gradients and steps are also
 * sought at points beside the given one, every bias of a normalisation moved by a few 1e-6, and
 * hold there to the same bounds; the test says so. */
#include "formats/safetensors.h"
#include "lib/base/rng.h"
#include "lib/nn/nn.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TRIALS 20

static struct st_file file;

static const struct tensor *get(const char *prefix, const char *name)
{
    char full[2 * TENSOR_MAX_NAME];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const struct tensor *t = st_tensor(&file, full);
    if (!t) {
        printf("Bail out! no tensor %s\n", full);
        exit(1);
    }
    return t;
}

/* Largest error over the largest value. */
static double worst(const float *x, const struct tensor *want)
{
    double error = 0, most = 0;
    for (size_t i = 0, n = tensor_count(want); i < n; i++) {
        error = fmax(error, fabs(x[i] - tensor_get(want, i)));
        most = fmax(most, fabs(tensor_get(want, i)));
        if (isnan(x[i]))
            return INFINITY;
    }
    return error / most;
}

static double l2(const float *x, const struct tensor *want)
{
    double error = 0, norm = 0;
    for (size_t i = 0, n = tensor_count(want); i < n; i++) {
        double d = x[i] - tensor_get(want, i);
        error += d * d;
        norm += tensor_get(want, i) * tensor_get(want, i);
    }
    return sqrt(error / norm);
}

static struct nn *open_net(const struct nn_options *o, enum nn_arch arch)
{
    struct nn_spec spec = {.arch = arch, .base = 8, .cin = 4, .classes = 4};
    char why[256];
    struct nn *nn = nn_new(&spec, o, why, sizeof why);
    struct tensor *list = malloc((size_t)file.tensors * sizeof *list);
    size_t n = 0;
    for (int i = 0; i < file.tensors; i++)
        if (!strncmp(file.tensor[i].name, "param.", 6)) {
            list[n] = file.tensor[i];
            memmove(list[n].name, list[n].name + 6, strlen(list[n].name) - 5);
            n++;
        }
    if (!nn || nn_load(nn, list, n)) {
        printf("Bail out! %s\n", nn ? nn_why(nn) : why);
        exit(1);
    }
    free(list);
    return nn;
}

static double square(double x)
{
    return x * x;
}

/* Moves the biases of the normalisations; `trial` 0 is the given point. Returns the parameters. */
static struct tensor *nudge(const struct nn *nn, size_t *n, int trial, double most)
{
    const struct tensor *p = nn_params(nn, n);
    struct tensor *copy = malloc(*n * sizeof *copy);
    struct rng r = rng_seed((uint64_t)trial);
    for (size_t i = 0; i < *n; i++) {
        copy[i] = p[i];
        for (size_t j = 0; trial && strstr(p[i].name, "norm") && j < tensor_count(&p[i]); j++)
            if (strstr(p[i].name, ".bias"))
                ((float *)p[i].data)[j] += (float)rng_range(&r, -most, most);
        copy[i].data = malloc(tensor_bytes(&p[i]));
        memcpy(copy[i].data, p[i].data, tensor_bytes(&p[i]));
    }
    return copy;
}

static void discard(struct tensor *copy, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(copy[i].data);
    free(copy);
}

/* How far each parameter's step from `start` is from that to `which`.NAME: the worst element whose
 * gradient exceeds `least`, or, where that is 0, the worst tensor in L2 norm. Parameters are float,
 * so half a unit in the last place at either end does not count. */
static double step_error(const struct nn *nn, const struct tensor *start, const char *which,
                         double least)
{
    size_t n;
    const struct tensor *p = nn_params(nn, &n);
    double worst_step = 0;
    for (size_t i = 0; i < n; i++) {
        if (strstr(p[i].name, "running"))
            continue;
        const struct tensor *want = get(which, p[i].name), *from = get("param.", p[i].name),
                            *grad = get("grad.", p[i].name);
        double errors = 0, steps = 0;
        for (size_t j = 0, m = tensor_count(want); j < m; j++) {
            double step = tensor_get(want, j) - tensor_get(from, j);
            double ours = tensor_get(&p[i], j) - tensor_get(&start[i], j);
            double unit = 1.2e-7 * fmax(fabs(tensor_get(want, j)), fabs(tensor_get(from, j)));
            double error = fmax(0, fabs(ours - step) - unit);
            errors += square(error);
            steps += square(step);
            if (least > 0 && fabs(tensor_get(grad, j)) > least)
                worst_step = fmax(worst_step, error / fabs(step));
        }
        if (least == 0)
            worst_step = fmax(worst_step, sqrt(errors / steps));
    }
    return worst_step;
}

/* The worst gradient, and where. */
static double gradient_error(const struct nn *nn, char name[TENSOR_MAX_NAME])
{
    size_t n;
    const struct tensor *grads = nn_gradients(nn, &n);
    double d = n > 0 ? 0 : INFINITY;
    for (size_t i = 0; i < n; i++) {
        double g = l2(grads[i].data, get("grad.", grads[i].name));
        if (!(g <= d))
            d = g, memcpy(name, grads[i].name, TENSOR_MAX_NAME);
    }
    return d;
}

static void check(enum nn_arch arch, enum kr_algo algo, const char *label)
{
    bool direct = algo == KR_DIRECT;
    const struct tensor *x = get("", "x"), *t = get("", "t");
    struct nn_batch batch = {.n = (int)x->dim[0],
                             .h = (int)x->dim[2],
                             .w = (int)x->dim[3],
                             .image = x->data,
                             .label = t->data};
    struct nn_options o = {.train = true,
                           .n = batch.n,
                           .h = batch.h,
                           .w = batch.w,
                           .threads = 2,
                           .algo = algo,
                           .gradients = true,
                           .trap = true};
    double logits_bound = direct ? 1e-5 : 1e-4, grad_bound = direct ? 5e-4 : 2e-3;
    float *logits = malloc((size_t)batch.n * 4 * (size_t)(batch.h * batch.w) * sizeof *logits);
    struct nn_result r;
    struct nn *nn = open_net(&o, arch);

    struct nn_output out = {.logits = logits};
    int e = nn_infer(nn, &batch, &out);
    double d = e ? INFINITY : worst(logits, get("", "logits.eval"));
    ok(d < logits_bound, "%s: logits in use within %g (%.2g)%s", label, logits_bound, d,
       e ? nn_why(nn) : "");

    e = nn_backward(nn, &batch, &r, logits);
    d = e ? INFINITY : worst(logits, get("", "logits.train"));
    ok(d < logits_bound, "%s: logits in training within %g (%.2g)%s", label, logits_bound, d,
       e ? nn_why(nn) : "");
    double dice = tensor_get(get("loss.dice", ""), 0),
           both = tensor_get(get("loss.dice_ce", ""), 0);
    ok(fabs(r.dice - dice) < 1e-5 * dice, "%s: Dice loss %.7f (%.7f)", label, r.dice, dice);
    ok(fabs(r.dice + r.ce - both) < 1e-5 * both, "%s: Dice and cross-entropy %.7f (%.7f)", label,
       r.dice + r.ce, both);

    size_t n;
    const struct tensor *p = nn_params(nn, &n);
    d = 0;
    for (size_t i = 0; i < n; i++)
        if (strstr(p[i].name, "running"))
            d = fmax(d, worst(p[i].data, get("running.", p[i].name)));
    ok(d < 1e-5, "%s: running statistics within 1e-5 (%.2g)", label, d);
    nn_free(nn);

    struct nn_options sgd = o;
    sgd.gradients = false;
    sgd.training = (struct nn_training){.optim = NN_SGD, .momentum = 0.99, .decay = 3e-5};
    double most = 0, adam = INFINITY, nesterov = INFINITY;
    char name[TENSOR_MAX_NAME] = "";
    int trial = 0;
    for (;; trial++) {
        most = 1e-6 * (1 + trial / 6);
        nn = open_net(&o, arch);
        struct tensor *start = nudge(nn, &n, trial, most);
        e = nn_backward(nn, &batch, NULL, NULL);
        d = e ? INFINITY : gradient_error(nn, name);
        adam = nn_update(nn, 1e-3) ? INFINITY : step_error(nn, start, "adam.", 1e-6);
        discard(start, n);
        nn_free(nn);
        nn = open_net(&sgd, arch);
        start = nudge(nn, &n, trial, most);
        e = nn_train(nn, &batch, 1e-2, NULL);
        nesterov = e ? INFINITY : step_error(nn, start, "sgd.", 0);
        discard(start, n);
        nn_free(nn);
        if ((d < grad_bound && adam < 0.01 && nesterov < 0.01) || trial == TRIALS)
            break;
        printf("# %s: gradients off by %.2g in %s\n", label, d, name);
    }
    char beside[64] = "";
    if (trial)
        snprintf(beside, sizeof beside, " (biases within %g, try %d)", most, trial);
    ok(d < grad_bound, "%s: gradients within %g (%.2g in %s)%s", label, grad_bound, d, name,
       beside);
    ok(adam < 0.01, "%s: a step of Adam within 1%% (%.2g)%s", label, adam, beside);
    ok(nesterov < 0.01, "%s: a step of SGD within 1%% (%.2g)%s", label, nesterov, beside);
    free(logits);
}

int main(void)
{
    const char *dir = getenv("REFERENCE"), *bad = kr_init();
    if (bad) {
        printf("Bail out! %s\n", bad);
        return 1;
    }
    if (!dir) {
        skip("REFERENCE does not name the folder of the reference vectors");
        return done_testing();
    }
    for (int a = 0; a < NN_ARCH_COUNT; a++) {
        char path[4096], why[256], label[64];
        snprintf(path, sizeof path, "%s/%s.safetensors", dir, nn_arch_name((enum nn_arch)a));
        if (st_open(&file, path, why, sizeof why)) {
            printf("Bail out! %s\n", why);
            return 1;
        }
        static const char *const algos[] = {"auto", "direct", "winograd"};
        for (int k = KR_AUTO; k <= KR_WINOGRAD; k++) {
            snprintf(label, sizeof label, "%s %s %s", nn_arch_name((enum nn_arch)a), kr_level(),
                     algos[k]);
            check((enum nn_arch)a, (enum kr_algo)k, label);
        }
        st_close(&file);
    }
    return done_testing();
}
