/* Networks against PyTorch: tests/vectors/networks.tsv holds what it computed in double,
 * and networks.py beside it says what and how. Every algorithm, every instruction-set level. */
#include "lib/base/rng.h"
#include "lib/nn/nn.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VECTORS "tests/vectors/networks.tsv"
enum { N = 3, SLICES = 4, H = 32, W = 16, PIXELS = H * W, SUMS = 4 };

static struct line {
    char arch[16], what[16], name[TENSOR_MAX_NAME];
    int base, fields;
    double norm, sum[SUMS];
} lines[4000];
static size_t line_count;

static void read_lines(void)
{
    FILE *f = fopen(VECTORS, "r");
    char text[512];
    while (f && fgets(text, sizeof text, f) && line_count < sizeof lines / sizeof lines[0]) {
        struct line *l = &lines[line_count];
        l->fields =
            sscanf(text, "%15s %d %15s %63s %lf %lf %lf %lf %lf", l->arch, &l->base, l->what,
                   l->name, &l->norm, &l->sum[0], &l->sum[1], &l->sum[2], &l->sum[3]);
        line_count += text[0] != '#';
    }
    if (!f || !feof(f) || !line_count) {
        printf("Bail out! %s: (wanted lines of PyTorch's results)\n", VECTORS);
        exit(1);
    }
    fclose(f);
}

static const struct line *find(const char *arch, int base, const char *what, const char *name)
{
    for (struct line *l = lines; l < lines + line_count; l++)
        if (!strcmp(l->arch, arch) && l->base == base && !strcmp(l->what, what) &&
            (!name || !strcmp(l->name, name)))
            return l;
    printf("Bail out! %s: no %s of %s %d %s\n", VECTORS, what, arch, base, name);
    exit(1);
}

/* How far `count` numbers are from a line of the file, as a share of their norm: x, or how far it
 * is from `start`, or that times |weight|. */
static double off(const struct line *want, const float *x, const float *start, const float *weight,
                  size_t count)
{
    double sum[SUMS] = {0}, error = 0;
    char key[TENSOR_MAX_NAME + 8];
    snprintf(key, sizeof key, "signs %s", want->name);
    struct rng r = rng_seed(0);
    rng_mix_text(&r, key);
    for (size_t i = 0; i < count; i++) {
        double v = ((double)x[i] - (start ? start[i] : 0)) * (weight ? fabs(weight[i]) : 1);
        uint64_t bits = rng_u64(&r);
        for (size_t k = 0; k < SUMS; k++)
            sum[k] += count <= SUMS ? (i == k) * v : bits >> k & 1 ? v : -v;
    }
    for (int k = 0; k < SUMS; k++)
        error += (sum[k] - want->sum[k]) * (sum[k] - want->sum[k]);
    return isnan(error) ? INFINITY : sqrt(error / (count > SUMS ? SUMS : 1)) / want->norm;
}

/* --- parameters and inputs, from their names -------------------------------------------------- */
static void fill(float *x, size_t count, const char *name, double middle, double width)
{
    struct rng r = rng_seed(0);
    rng_mix_text(&r, name);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(middle + width * (2 * rng_uniform(&r) - 1));
}

static bool ends(const char *name, const char *end)
{
    return strlen(name) >= strlen(end) && !strcmp(name + strlen(name) - strlen(end), end);
}

static bool of_volumes(const char *arch)
{
    return ends(arch, "3d");
}

static struct nn *open_net(const struct nn_options *o, const char *arch, int base)
{
    struct nn_spec spec = nn_network(arch, base, 4, 4);
    if (of_volumes(arch)) {
        nn_set(&spec, "flat", 1);
        nn_set(&spec, "pool_z", 1);
    }
    char why[256];
    struct nn *nn = nn_new(&spec, o, why, sizeof why);
    if (!nn || nn_init(nn, 0)) {
        printf("Bail out! %s\n", nn ? nn_why(nn) : why);
        exit(1);
    }
    size_t n;
    const struct tensor *p = nn_params(nn, &n);
    for (size_t i = 0; i < n; i++) {
        const char *name = p[i].name;
        size_t count = tensor_count(&p[i]);
        bool norm = strstr(name, "norm"), scale = ends(name, "weight") || ends(name, "running_var");
        size_t fan = strstr(name, ".up.") ? p[i].dim[0] : count / p[i].dim[0];
        if (norm && scale)
            fill(p[i].data, count, name, 1, 0.5);
        else if (!norm && p[i].rank >= 4)
            fill(p[i].data, count, name, 0, sqrt(6.0 / (double)fan));
        else
            fill(p[i].data, count, name, 0, 0.3);
    }
    return nn;
}

static void make_labels(uint8_t *t, int slices)
{
    for (int n = 0, i = 0; n < slices; n++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++, i++) {
                int dy = 2 * y - H + 3 * n, dx = 2 * x - W - n, r = dy * dy + dx * dx;
                t[i] = r < 25 ? 3 : r < 81 ? 1 : r < 225 ? 2 : 0;
            }
}

/* --- tests ----------------------------------------------------------------------------------- */
static bool running(const struct tensor *t)
{
    return strstr(t->name, "running");
}

/* The values of those that are learned, one after another. */
static float *values(const struct tensor *list, size_t n)
{
    float *all = NULL;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (running(&list[i]))
            continue;
        all = realloc(all, at * sizeof *all + tensor_bytes(&list[i]));
        memcpy(all + at, list[i].data, tensor_bytes(&list[i]));
        at += tensor_count(&list[i]);
    }
    return all;
}

/* Each tensor of the list that has a line `what`: the worst is within the bound, and every line was
 * met. */
static void compare(const char *arch, int base, const char *what, const struct tensor *list,
                    size_t n, const float *start, const float *weight, double bound,
                    const char *label)
{
    size_t met = 0, wanted = 0;
    double worst = 0;
    const char *where = "";
    for (size_t i = 0, at = 0; i < n; i++) {
        if (running(&list[i]) != !strcmp(what, "running"))
            continue;
        size_t count = tensor_count(&list[i]);
        double d = off(find(arch, base, what, list[i].name), list[i].data,
                       start ? start + at : NULL, weight ? weight + at : NULL, count);
        if (!(d <= worst))
            worst = d, where = list[i].name;
        at += count;
        met++;
    }
    for (size_t i = 0; i < line_count; i++)
        wanted +=
            !strcmp(lines[i].arch, arch) && lines[i].base == base && !strcmp(lines[i].what, what);
    ok(worst < bound && met == wanted, "%s: %s within %g (%.2g in %s), %zu tensors of %zu", label,
       what, bound, worst, where, met, wanted);
}

static void check(const char *arch, int base, enum kr_algo algo)
{
    static float image[SLICES * 4 * PIXELS], logits[SLICES * 4 * PIXELS];
    static uint8_t t[SLICES * PIXELS];
    const bool volume = of_volumes(arch);
    const int samples = volume ? 1 : N, slices = volume ? SLICES : N;
    const size_t values_of = (size_t)slices * 4 * PIXELS;
    static const char *const algos[] = {"auto", "direct", "winograd"};
    char label[64];
    snprintf(label, sizeof label, "%s %d, %s, %s", arch, base, kr_level(), algos[algo]);
    fill(image, values_of, find(arch, base, "image", NULL)->name, 0, sqrt(3));
    make_labels(t, slices);
    struct nn_batch batch = {
        .n = samples, .d = volume ? SLICES : 1, .h = H, .w = W, .image = image, .label = t};
    struct nn_options o = {.train = true,
                           .n = samples,
                           .d = volume ? SLICES : 1,
                           .h = H,
                           .w = W,
                           .threads = 2,
                           .algo = algo,
                           .gradients = true,
                           .trap = true};
    double bound = algo == KR_DIRECT ? 3e-5 : 1e-4;
    struct nn_result r = {0};
    size_t n;

    struct nn *nn = open_net(&o, arch, base);
    int e = nn_infer(nn, &batch, &(struct nn_output){.logits = logits});
    double d = off(find(arch, base, "logits.eval", NULL), logits, NULL, NULL, values_of);
    ok(!e && d < bound, "%s: logits in use within %g (%.2g)", label, bound, d);

    e = nn_backward(nn, &batch, &r, logits);
    d = off(find(arch, base, "logits.train", NULL), logits, NULL, NULL, values_of);
    ok(!e && d < bound, "%s: logits in training within %g (%.2g)", label, bound, d);
    double dice = find(arch, base, "dice", NULL)->norm,
           both = find(arch, base, "dice_ce", NULL)->norm;
    ok(fabs(r.dice - dice) < 1e-5 * dice, "%s: Dice loss %.8f (%.8f)", label, r.dice, dice);
    ok(fabs(r.dice + r.ce - both) < 1e-5 * both, "%s: Dice and cross-entropy %.8f (%.8f)", label,
       r.dice + r.ce, both);
    const struct tensor *p = nn_params(nn, &n);
    compare(arch, base, "running", p, n, NULL, NULL, 3e-5, label);

    /* The wide networks' gradients jump (see networks.py). */
    if (base == 4) {
        size_t grads;
        const struct tensor *g = nn_gradients(nn, &grads);
        compare(arch, base, "grad", g, grads, NULL, NULL, 10 * bound, label);
    }
    if (base == 4 && !volume) {
        size_t grads;
        const struct tensor *g = nn_gradients(nn, &grads);
        float *start = values(p, n), *weight = values(g, grads);
        e = nn_update(nn, 1e-3);
        compare(arch, base, "adam", p, n, start, weight, 1e-3, label);
        free(weight);
        nn_free(nn);

        o.gradients = false;
        o.training = (struct nn_training){.optim = NN_SGD, .momentum = 0.99, .decay = 0.01};
        nn = open_net(&o, arch, base);
        p = nn_params(nn, &n);
        ok(!nn_train(nn, &batch, 1, NULL) && !e, "%s: a step of Adam and one of SGD", label);
        compare(arch, base, "sgd", p, n, start, NULL, 1e-3, label);
        free(start);
    }
    nn_free(nn);
}

int main(void)
{
    static const char *const levels[] = {"plain", "avx2", "avx512", "neon"};
    read_lines();
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        setenv("KR_ISA", levels[i], 1);
        if (kr_init()) /* not this machine's */
            continue;
        for (int a = 0; a < 3; a++)
            for (int k = KR_AUTO; k <= KR_WINOGRAD; k++) {
                check(nn_names[a], 4, (enum kr_algo)k);
                check(nn_names[a], 16, (enum kr_algo)k);
            }
        check("transunet", 4, KR_DIRECT);
        for (int k = KR_AUTO; k <= KR_WINOGRAD; k++)
            check("unet3d", 4, (enum kr_algo)k);
        check("attention3d", 4, KR_AUTO);
        check("residual3d", 4, KR_DIRECT);
        check("transunet3d", 4, KR_DIRECT);
    }
    return done_testing();
}
