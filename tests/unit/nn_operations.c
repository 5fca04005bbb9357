/* Every operation in a tiny network against PyTorch: tests/vectors/operations.tsv holds what it
 * computed in double, and operations.py beside it says what and how. At every instruction-set
 * level; and the same bytes for any number of threads. */
#include "lib/base/rng.h"
#include "lib/nn/nn.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VECTORS "tests/vectors/operations.tsv"
#define FORWARD 1e-5 /* of the largest of a tensor */
#define BACKWARD 1e-4
#define NOISE 1e-6 /* of the largest gradient of all: some are zero but for rounding */

/* One line: what it is, the name of a parameter, numbers. */
struct line {
    char *what, *name, *values;
};

static char *file;
static struct line lines[10000];
static size_t line_count;

static void die(const char *what)
{
    printf("Bail out! %s: %s\n", VECTORS, what);
    exit(1);
}

static char *cut(char **at, int end)
{
    char *field = *at, *tab = strchr(field, end);
    *at = tab ? tab + 1 : field + strlen(field);
    if (tab)
        *tab = 0;
    return field;
}

static void read_lines(void)
{
    FILE *f = fopen(VECTORS, "r");
    size_t room = 1 << 20;
    file = calloc(1, room);
    if (!f || !file || fread(file, 1, room, f) == room)
        die("cannot be read whole");
    fclose(f);
    for (char *at = file; *at && line_count < sizeof lines / sizeof *lines;) {
        char *text = cut(&at, '\n');
        struct line *l = &lines[line_count];
        if (*text == '#')
            continue;
        l->what = cut(&text, '\t');
        if (!strcmp(l->what, "grad") || !strcmp(l->what, "running") || !strcmp(l->what, "case"))
            l->name = cut(&text, '\t');
        l->values = text;
        line_count++;
    }
}

/* The largest error of n numbers, of which `values` holds what they should be, and the largest of
 * these. */
static double error_of(const char *values, const float *have, size_t n, double *largest)
{
    double worst = 0;
    char *end;
    *largest = 0;
    for (size_t i = 0; i < n; i++, values = end) {
        double want = strtod(values, &end), d = fabs((double)have[i] - want);
        if (end == values)
            return INFINITY;
        worst = d > worst || isnan(d) ? d : worst;
        worst = isnan(worst) ? INFINITY : worst;
        *largest = fmax(*largest, fabs(want));
    }
    return values[strspn(values, " \t")] ? INFINITY : worst;
}

/* --- what both sides make --------------------------------------------------------------------- */
static void fill(float *x, size_t count, const char *name, double middle, double width)
{
    struct rng r = rng_seed(0);
    rng_mix_text(&r, name);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(middle + width * (2 * rng_uniform(&r) - 1));
}

static void set_parameters(const struct tensor *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *name = p[i].name, *last = strrchr(name, '.') + 1;
        size_t count = tensor_count(&p[i]);
        if (p[i].rank > 1)
            fill(p[i].data, count, name, 0, sqrt(6.0 / (double)(count / p[i].dim[0])));
        else if (!strcmp(last, "weight") || !strcmp(last, "running_var"))
            fill(p[i].data, count, name, 1, 0.5);
        else
            fill(p[i].data, count, name, 0, 0.3);
    }
}

static void set_labels(uint8_t *label, size_t count, int classes)
{
    struct rng r = rng_seed(0);
    rng_mix_text(&r, "label");
    for (size_t i = 0; i < count; i++) {
        uint64_t w = rng_u64(&r);
        label[i] = w % 16 ? (uint8_t)(w / 256 % (unsigned)classes) : NN_IGNORE;
    }
}

/* --- a case ----------------------------------------------------------------------------------- */
struct trial {
    const char *name, *text;
    struct nn_batch batch;
    struct nn *nn;
    float *image, *logits, *eval;
    uint8_t *label;
    size_t outputs;
    struct nn_result result;
};

static int start(struct trial *t, const char *image, int threads, char *why, size_t size)
{
    const struct nn_spec spec = {.text = t->text, .length = strlen(t->text), .name = t->name};
    const struct nn_batch *b = &t->batch;
    const struct nn_options o = {.train = true,
                                 .n = b->n,
                                 .d = b->d,
                                 .h = b->h,
                                 .w = b->w,
                                 .threads = threads,
                                 .algo = KR_DIRECT,
                                 .gradients = true};
    size_t pixels = (size_t)b->n * (size_t)b->d * (size_t)b->h * (size_t)b->w, n;
    if (!(t->nn = nn_new(&spec, &o, why, size)))
        return -1;
    if (nn_init(t->nn, 0)) {
        snprintf(why, size, "%s", nn_why(t->nn));
        return -1;
    }
    const struct tensor *p = nn_params(t->nn, &n);
    set_parameters(p, n);
    size_t inputs = pixels * (size_t)nn_inputs(t->nn);
    t->outputs = pixels * (size_t)nn_classes(t->nn);
    t->image = malloc(inputs * sizeof(float));
    t->label = malloc(pixels);
    t->logits = malloc(t->outputs * sizeof(float));
    t->eval = malloc(t->outputs * sizeof(float));
    fill(t->image, inputs, image, 0, sqrt(3));
    set_labels(t->label, pixels, nn_classes(t->nn));
    t->batch.image = t->image;
    t->batch.label = t->label;
    const struct nn_output out = {.logits = t->eval};
    if (nn_infer(t->nn, &t->batch, &out) || nn_backward(t->nn, &t->batch, &t->result, t->logits)) {
        snprintf(why, size, "%s", nn_why(t->nn));
        return -1;
    }
    return 0;
}

static void stop(struct trial *t)
{
    nn_free(t->nn);
    free(t->image);
    free(t->label);
    free(t->logits);
    free(t->eval);
}

static const struct tensor *named(const struct tensor *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(list[i].name, name))
            return &list[i];
    return NULL;
}

/* The tensors of the case's lines `what`. */
static void compare(const struct trial *t, const struct line *l, const char *what,
                    const struct tensor *list, size_t n, double bound, double noise)
{
    double worst = 0;
    const char *where = "";
    for (; l < lines + line_count && strcmp(l->what, "case"); l++) {
        if (strcmp(l->what, what))
            continue;
        const struct tensor *have = named(list, n, l->name);
        double largest = 0, e = INFINITY;
        if (have)
            e = error_of(l->values, have->data, tensor_count(have), &largest) /
                (largest + noise / bound);
        if (e >= worst)
            worst = e, where = l->name;
    }
    ok(worst < bound, "%s: %s: %s within %g (%.2g in %s)", kr_level(), t->name, what, bound, worst,
       where);
}

static double largest_gradient(const struct line *l)
{
    double most = 0;
    for (; l < lines + line_count && strcmp(l->what, "case"); l++)
        for (char *at = l->values, *end; !strcmp(l->what, "grad"); at = end) {
            double v = strtod(at, &end);
            if (end == at)
                break;
            most = fmax(most, fabs(v));
        }
    return most;
}

static void run(const struct line *l)
{
    char *field = strdup(l->values), *at = field, why[512] = "";
    struct nn_batch b = {0};
    if (sscanf(cut(&at, '\t'), "%d,%d,%d,%d", &b.n, &b.d, &b.h, &b.w) != 4)
        die("a case without a size");
    const char *image = cut(&at, '\t');
    struct trial one = {.name = l->name, .text = at, .batch = b}, many = one;
    if (start(&one, image, 1, why, sizeof why) || start(&many, image, 3, why, sizeof why)) {
        ok(false, "%s: %s: %s", kr_level(), l->name, why);
    } else {
        size_t grads, params, same = 0;
        const struct tensor *g = nn_gradients(one.nn, &grads), *p = nn_params(one.nn, &params);
        const struct tensor *g3 = nn_gradients(many.nn, &grads);
        bool running = false;
        for (const struct line *m = l + 1; m < lines + line_count && strcmp(m->what, "case"); m++) {
            double largest = 0, e = 0;
            bool eval = !strcmp(m->what, "eval");
            running |= !strcmp(m->what, "running");
            if (!strcmp(m->what, "loss"))
                ok(fabs(one.result.loss - strtod(m->values, NULL)) < FORWARD,
                   "%s: %s: loss %.8f (%.8s)", kr_level(), l->name, one.result.loss, m->values);
            if (!eval && strcmp(m->what, "logits"))
                continue;
            e = error_of(m->values, eval ? one.eval : one.logits, one.outputs, &largest) / largest;
            ok(e < FORWARD, "%s: %s: %s within %g (%.2g)", kr_level(), l->name, m->what, FORWARD,
               e);
        }
        compare(&one, l + 1, "grad", g, grads, BACKWARD, NOISE * largest_gradient(l + 1));
        if (running)
            compare(&one, l + 1, "running", p, params, FORWARD, 0);
        for (size_t i = 0; i < grads; i++)
            same += !memcmp(g[i].data, g3[i].data, tensor_bytes(&g[i]));
        ok(same == grads && !memcmp(one.logits, many.logits, one.outputs * sizeof(float)) &&
               !memcmp(one.eval, many.eval, one.outputs * sizeof(float)),
           "%s: %s: the same bytes for 1 and 3 threads", kr_level(), l->name);
    }
    stop(&one);
    stop(&many);
    free(field);
}

/* Without OpenBLAS a network with products is refused where it stands, and only such a one. */
static void without_library(void)
{
    static const char text[] = "{network: [{op: input, channels: 2}, {op: %s, name: a, channels: 3"
                               "%s}, {op: head, name: b, channels: 2}, {op: loss}]}";
    const struct nn_options o = {.n = 1, .h = 4, .w = 4};
    char product[256], other[256], why[512] = "";
    snprintf(product, sizeof product, text, "linear", "");
    snprintf(other, sizeof other, text, "convolution", ", kernel: 1");
    const struct nn_spec spec[] = {{.text = product, .length = strlen(product), .name = "p"},
                                   {.text = other, .length = strlen(other), .name = "o"}};
    struct nn_about about;
    ok(!nn_about(&spec[0], &about, why, sizeof why) && about.products,
       "a network with a product says so %s", why);
    kr_products_free();
    struct nn *with = nn_new(&spec[0], &o, why, sizeof why);
    ok(!with && strstr(why, "'a' (linear)") && strstr(why, "OpenBLAS"), "without OpenBLAS: %s",
       why);
    struct nn *without = nn_new(&spec[1], &o, why, sizeof why);
    ok(without && !nn_about(&spec[1], &about, why, sizeof why) && !about.products,
       "a network without products needs none");
    nn_free(with);
    nn_free(without);
}

/* Names of cases to run alone, if any. */
int main(int argc, char **argv)
{
    static const char *const levels[] = {"plain", "avx2", "avx512", "neon"};
    read_lines();
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        setenv("KR_ISA", levels[i], 1);
        if (kr_init()) /* not this machine's */
            continue;
        for (size_t k = 0; k < line_count; k++) {
            bool wanted = argc < 2;
            for (int j = 1; j < argc && lines[k].name; j++)
                wanted |= !strcmp(argv[j], lines[k].name);
            if (wanted && !strcmp(lines[k].what, "case"))
                run(&lines[k]);
        }
    }
    unsetenv("KR_ISA");
    if (!kr_init())
        without_library();
    free(file);
    return done_testing();
}
