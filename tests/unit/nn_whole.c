/* Networks that see a volume at once, against PyTorch (tests/vectors/whole.py): dilated
 * convolutions, normalisation over the volume without weights, GELU; at every instruction-set
 * level, and the same bytes for any number of threads. Where a volume is deep one map is all that
 * there is room for. */
#include "lib/base/rng.h"
#include "lib/nn/nn.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VECTORS "tests/vectors/whole.tsv"
#define NETWORK "pipelines/networks/mindgrab.yaml"
#define STRIDE 61
#define CLOSE 1e-5 /* of the largest, or of the norm */

static char *read_file(const char *path)
{
    char *text = calloc(1, 1 << 20);
    FILE *f = fopen(path, "r");
    if (!f || !text || fread(text, 1, (1 << 20) - 1, f) == 0) {
        printf("Bail out! %s cannot be read\n", path);
        exit(1);
    }
    fclose(f);
    return text;
}

static void fill(float *x, size_t count, const char *name, double width)
{
    struct rng r = rng_seed(0);
    rng_mix_text(&r, name);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(width * (2 * rng_uniform(&r) - 1));
}

struct volume {
    int d, h, w, base, rounds;
};

/* The logits, 2 of each voxel; NULL and a line if it fails. */
static float *compute(const char *text, const struct volume *v, int threads)
{
    const size_t voxels = (size_t)v->d * (size_t)v->h * (size_t)v->w;
    const struct nn_spec spec = {.text = text,
                                 .length = strlen(text),
                                 .name = NETWORK,
                                 .set = {{"base", v->base}, {"rounds", v->rounds}},
                                 .settings = 2};
    const struct nn_options o = {.n = 1, .d = v->d, .h = v->h, .w = v->w, .threads = threads};
    char why[512] = "";
    struct nn *nn = nn_new(&spec, &o, why, sizeof why);
    size_t n = 0;
    const struct tensor *p = nn ? nn_params(nn, &n) : NULL;
    struct tensor *mine = calloc(n + 1, sizeof *mine);
    for (size_t i = 0; i < n; i++) {
        const size_t count = tensor_count(&p[i]);
        const double fan = p[i].rank > 1 ? p[i].dim[1] * 27.0 : 0;
        mine[i] = p[i];
        mine[i].data = malloc(count * sizeof(float));
        fill(mine[i].data, count, p[i].name, p[i].rank > 1 ? sqrt(6 / fan) : 0.3);
    }
    float *image = malloc(voxels * sizeof *image), *logits = calloc(2 * voxels, sizeof *logits);
    fill(image, voxels, "image", 1);
    const struct nn_batch b = {.n = 1, .d = v->d, .h = v->h, .w = v->w, .image = image};
    const struct nn_output out = {.logits = logits};
    const bool good = nn && !nn_load(nn, mine, n) && nn_infer(nn, &b, &out) >= 0;
    if (!good)
        printf("# %s\n", nn ? nn_why(nn) : why);
    for (size_t i = 0; i < n; i++)
        free(mine[i].data);
    free(mine);
    free(image);
    nn_free(nn);
    if (good)
        return logits;
    free(logits);
    return NULL;
}

static void compare(const char *text, const char *line)
{
    struct volume v;
    int read = 0;
    if (sscanf(line, "%d %d %d %d %d%n", &v.d, &v.h, &v.w, &v.base, &v.rounds, &read) != 5)
        return;
    char *at = (char *)(uintptr_t)line + read;
    const double norm = strtod(at, &at);
    const size_t n = 2 * (size_t)v.d * (size_t)v.h * (size_t)v.w;
    float *y = compute(text, &v, 1), *z = compute(text, &v, 3);
    double squares = 0, worst = 0, largest = 0;
    for (size_t i = 0; y && i < n; i++) {
        squares += (double)y[i] * (double)y[i];
        if (i % STRIDE)
            continue;
        const double want = strtod(at, &at);
        worst = fmax(worst, fabs((double)y[i] - want));
        largest = fmax(largest, fabs(want));
    }
    ok(y && worst < CLOSE * largest && fabs(sqrt(squares) - norm) < CLOSE * norm,
       "%s: %dx%dx%d, %d channels, %d layers: as PyTorch (%.1e of %.1f)", kr_level(), v.d, v.h, v.w,
       v.base, 5 * v.rounds, worst, largest);
    ok(y && z && !memcmp(y, z, n * sizeof *y), "%s: the same bytes for 1 and 3 threads",
       kr_level());
    free(y);
    free(z);
}

/* Of a volume there is one map at a time, and a window of some slices. */
static void one_map(const char *text)
{
    const struct nn_options o = {.n = 1, .d = 200, .h = 160, .w = 160, .threads = 2};
    const struct nn_spec spec = {.text = text, .length = strlen(text), .name = NETWORK};
    const double map = 200.0 * 160 * 160 * 16 * sizeof(float);
    char why[512] = "";
    struct nn *nn = nn_new(&spec, &o, why, sizeof why);
    ok(nn && (double)nn_memory(nn).maps < 1.25 * map, "one map and a window are all it takes");
    nn_free(nn);
}

int main(void)
{
    static const char *const levels[] = {"plain", "avx2", "avx512", "neon"};
    char *text = read_file(NETWORK), *vectors = read_file(VECTORS);
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        setenv("KR_ISA", levels[i], 1);
        if (kr_init()) /* not this machine's */
            continue;
        for (const char *l = vectors; *l; l += strcspn(l, "\n"), l += *l == '\n')
            if (*l != '#')
                compare(text, l);
    }
    unsetenv("KR_ISA");
    if (!kr_init())
        one_map(text);
    free(text);
    free(vectors);
    return done_testing();
}
