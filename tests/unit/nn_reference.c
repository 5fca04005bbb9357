/* The three networks against vectors that PyTorch computed in double: REFERENCE names the folder of
 * {unet,attention,residual}.safetensors. Every algorithm; the instruction-set level is KR_ISA's. */
#include "formats/safetensors.h"
#include "lib/nn/nn.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* How far each parameter is from `which`.NAME, against its step there: the worst element whose
 * gradient exceeds `least`, or, where that is 0, the worst tensor in L2 norm. Parameters are float,
 * so half a unit in the last place at either end does not count. */
static double step_error(const struct nn *nn, const char *which, double least)
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
            double x = tensor_get(&p[i], j), y = tensor_get(want, j), x0 = tensor_get(from, j);
            double error = fmax(0, fabs(x - y) - 1.2e-7 * fmax(fabs(y), fabs(x0)));
            errors += square(error);
            steps += square(y - x0);
            if (least > 0 && fabs(tensor_get(grad, j)) > least)
                worst_step = fmax(worst_step, error / fabs(y - x0));
        }
        if (least == 0)
            worst_step = fmax(worst_step, sqrt(errors / steps));
    }
    return worst_step;
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
    const struct tensor *grads = nn_gradients(nn, &n);
    const char *name = "";
    d = 0;
    for (size_t i = 0; i < n; i++) {
        double g = l2(grads[i].data, get("grad.", grads[i].name));
        if (!(g <= d))
            d = g, name = grads[i].name;
    }
    ok(n > 0 && d < grad_bound, "%s: %zu gradients within %g (%.2g in %s)", label, n, grad_bound, d,
       name);
    const struct tensor *p = nn_params(nn, &n);
    d = 0;
    for (size_t i = 0; i < n; i++)
        if (strstr(p[i].name, "running"))
            d = fmax(d, worst(p[i].data, get("running.", p[i].name)));
    ok(d < 1e-5, "%s: running statistics within 1e-5 (%.2g)", label, d);
    e = nn_update(nn, 1e-3);
    d = step_error(nn, "adam.", 1e-6);
    ok(!e && d < 0.01, "%s: a step of Adam within 1%% (%.2g)", label, d);
    nn_free(nn);

    o.gradients = false;
    o.training = (struct nn_training){.optim = NN_SGD, .momentum = 0.99, .decay = 3e-5};
    nn = open_net(&o, arch);
    e = nn_train(nn, &batch, 1e-2, NULL);
    d = step_error(nn, "sgd.", 0);
    ok(!e && d < 0.01, "%s: a step of SGD within 1%% (%.2g)", label, d);
    nn_free(nn);
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
        for (int k = KR_DIRECT; k <= KR_WINOGRAD; k++) {
            snprintf(label, sizeof label, "%s %s %s", nn_arch_name((enum nn_arch)a), kr_level(),
                     algos[k]);
            check((enum nn_arch)a, (enum kr_algo)k, label);
        }
        st_close(&file);
    }
    return done_testing();
}
