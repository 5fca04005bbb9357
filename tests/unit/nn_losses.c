/* Losses and targets through a network's handle, against PyTorch: tests/vectors/losses.tsv holds
 * what it computed in double, and losses.py beside it says what and how. */
#include "lib/base/rng.h"
#include "lib/nn/nn.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VECTORS "tests/vectors/losses.tsv"
enum { FIELDS = 80 };

/* --- values from names, as losses.py makes them ----------------------------------------------- */

static void fill(float *x, size_t count, const char *name, double width)
{
    struct rng r = rng_seed(0);
    rng_mix_text(&r, name);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(width * (2 * rng_uniform(&r) - 1));
}

static void fill_labels(uint8_t *label, size_t count, int classes)
{
    struct rng r = rng_seed(0);
    rng_mix_text(&r, "label");
    for (size_t i = 0; i < count; i++) {
        uint64_t w = rng_u64(&r);
        label[i] = w % 16 == 0 ? NN_IGNORE : (uint8_t)(w / 256 % (uint64_t)classes);
    }
}

/* --- a case ----------------------------------------------------------------------------------- */

static struct nn *net;
static struct nn_batch batch;
static struct nn_result result;
static char label[200];

static enum nn_loss loss_of(const char *text)
{
    static const char *const name[] = {"dice", "dice+ce", "ce", "dice+focal", "focal"};
    int i = 0;
    while (i < 4 && strcmp(name[i], text))
        i++;
    return (enum nn_loss)i;
}

static void end(void)
{
    nn_free(net);
    free((void *)(uintptr_t)batch.image);
    free((void *)(uintptr_t)batch.label);
    net = NULL;
    batch = (struct nn_batch){0};
}

/* Fields: case, name, size, classes, loss, options, gamma, weights, regions, losses. */
static void begin(char *const f[])
{
    static const char one[] = "network: [{op: input, name: x, channels: 3}, {op: head, name: head, "
                              "channels: classes}, {op: loss}%s]\nparameters: {classes: 4}\n";
    static const char two[] = ", {op: max_pool, in: x, size: 2}, {op: head, name: low, "
                              "channels: classes}, {op: loss, weight: 0.5}";
    char text[600], why[300];
    struct nn_batch *b = &batch;
    struct nn_options o = {.train = true, .gradients = true, .threads = 2};
    struct nn_spec spec = {.text = text, .name = f[1]};
    size_t count;
    end();
    snprintf(label, sizeof label, "%s", f[1]);
    if (sscanf(f[2], "%d,%d,%d,%d", &b->n, &b->d, &b->h, &b->w) != 4)
        return;
    o.n = b->n, o.d = b->d, o.h = b->h, o.w = b->w;
    o.training.loss = loss_of(f[4]);
    o.training.sample = strstr(f[5], "sample");
    o.training.foreground = strstr(f[5], "foreground");
    o.training.squared = strstr(f[5], "squared");
    o.training.gamma = *f[6] == '-' ? 2 : atof(f[6]);
    int weights = 0;
    for (char *p = f[7], *q; *p && *p != '-'; p = q + (*q == ','))
        o.training.weight[weights++] = strtod(p, &q);
    if (targets_make(&o.targets, atoi(f[3]), *f[8] == '-' ? "" : f[8], why, sizeof why))
        return;
    spec.length = (size_t)snprintf(text, sizeof text, one, *f[9] == '2' ? two : "");
    nn_set(&spec, "classes", o.targets.outputs);
    const size_t pixels = (size_t)b->n * (size_t)b->d * (size_t)b->h * (size_t)b->w;
    float *image = malloc(3 * pixels * sizeof *image);
    uint8_t *labels = malloc(pixels);
    fill(image, 3 * pixels, "x0", sqrt(3));
    fill_labels(labels, pixels, o.targets.classes);
    b->image = image, b->label = labels;
    if (!(net = nn_new(&spec, &o, why, sizeof why)) || nn_init(net, 1)) {
        ok(false, "%s: %s", label, net ? nn_why(net) : why);
        return;
    }
    const struct tensor *t = nn_params(net, &count);
    for (size_t i = 0; i < count; i++)
        fill(t[i].data, tensor_count(&t[i]), t[i].name, strstr(t[i].name, "bias") ? 0.3 : sqrt(2));
    if (nn_backward(net, &batch, &result, NULL)) {
        ok(false, "%s: %s", label, nn_why(net));
        end();
    }
}

static void gradient(char *const f[], int fields)
{
    size_t count;
    const struct tensor *t = nn_gradients(net, &count);
    double worst = 0, most = 0;
    while (count && strcmp(t->name, f[1]))
        t++, count--;
    if (!count || tensor_count(t) != (size_t)fields - 2) {
        ok(false, "%s: no gradient of %s", label, f[1]);
        return;
    }
    for (int i = 2; i < fields; i++) {
        worst = fmax(worst, fabs(tensor_get(t, (size_t)i - 2) - atof(f[i])));
        most = fmax(most, fabs(atof(f[i])));
    }
    ok(worst <= 1e-4 * most, "%s: gradient of %s (error %.1e)", label, f[1], worst / most);
}

static void near(const char *what, double got, double want)
{
    ok(fabs(got - want) <= 1e-5 * fabs(want), "%s: %s %.7f, wanted %.7f", label, what, got, want);
}

static void line(char *text)
{
    char *f[FIELDS];
    int n = 0;
    for (char *p = strtok(text, "\t\n"); p && n < FIELDS; p = strtok(NULL, "\t\n"))
        f[n++] = p;
    if (n && !strcmp(f[0], "case"))
        begin(f);
    else if (!n || *f[0] == '#' || !net)
        return;
    else if (!strcmp(f[0], "grad"))
        gradient(f, n);
    else
        near(f[0],
             !strcmp(f[0], "loss")   ? result.loss
             : !strcmp(f[0], "dice") ? result.dice
                                     : result.ce,
             atof(f[1]));
}

int main(void)
{
    FILE *in = fopen(VECTORS, "r");
    static char text[1 << 14];
    kr_init();
    while (in && fgets(text, sizeof text, in))
        line(text);
    end();
    if (!in || fclose(in))
        ok(false, "%s cannot be read", VECTORS);
    return done_testing();
}
