/* nn infer|train ARCH BASE N[xD] H W [-j THREADS] [-M SIZE] [-r REPEATS] [-n] [-v] [-s] [-D]
 *    [-b] [-d f16|bf16] [-p NAME=VALUE]... [-S SLICES]
 *
 * Times inference or a training step with Adam and the Dice loss, with -s by nnU-Net's recipe (SGD
 * with Nesterov's momentum 0.99, decay 3e-5, Dice without background and cross-entropy), and
 * prints one a line
 * seconds_per_slice (median of the repeats), planned_bytes and peak_bytes (the process's peak
 * resident memory), of N samples or NxD slices of volumes. -p sets a parameter of the network.
 * Inference maps its weights from a file, as infer does; with -S it takes a volume as a stream, so
 * many slices at once. -v prints the plan, -n only that; -D convolves directly, -b in bfloat16. */
#include "formats/safetensors.h"
#include "lib/base/rng.h"
#include "lib/nn/nn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "nn: %s\n", what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* VmHWM, as ru_maxrss begins with what the process had before exec. */
static size_t peak(void)
{
    char line[256];
    unsigned long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib << 10;
}

static void line(void *ctx, const char *text)
{
    (void)ctx;
    fprintf(stderr, "%s\n", text);
}

/* In a process of its own, so that its memory does not count. */
static void write_weights(const struct nn_spec *spec, const char *path, enum dtype dtype)
{
    pid_t child = fork();
    if (child == 0) {
        char why[256];
        size_t n;
        struct nn_options o = {.train = true, .n = 1, .d = 16, .h = 32, .w = 32};
        struct nn *nn = nn_new(spec, &o, why, sizeof why);
        if (!nn || nn_init(nn, 1))
            die(nn ? nn_why(nn) : why);
        const struct tensor *p = nn_params(nn, &n);
        struct tensor *list = calloc(n, sizeof *list);
        for (size_t i = 0; i < n; i++) {
            list[i] = p[i];
            list[i].dtype = dtype;
            size_t count = tensor_count(&p[i]);
            if (!(list[i].data = malloc(count * dtype_size(dtype))))
                die("no memory");
            tensor_from_f32(&list[i], 0, count, p[i].data);
        }
        if (st_write(path, NULL, 0, list, (int)n, why, sizeof why))
            die(why);
        _exit(0);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) < 0 || status)
        die("cannot make weights");
}

/* A volume slice by slice, from the first to the last. */
static int stream(struct nn *nn, const struct nn_batch *volume, int at_once, uint8_t *pred)
{
    const size_t plane = (size_t)volume->h * (size_t)volume->w;
    float *some = malloc((size_t)at_once * plane * (size_t)nn_inputs(nn) * sizeof *some);
    int e = nn_stream_begin(nn), out = 0;
    for (int z = 0, n; !e && out < volume->d; z += n) {
        const bool over = z >= volume->d;
        n = over || z + at_once <= volume->d ? at_once : volume->d - z;
        struct nn_batch b = {.n = n, .h = volume->h, .w = volume->w, .image = over ? NULL : some};
        for (size_t i = 0; i < (size_t)n && !over; i++)
            for (size_t c = 0; c < (size_t)nn_inputs(nn); c++)
                memcpy(some + (i * (size_t)nn_inputs(nn) + c) * plane,
                       volume->image + (c * (size_t)volume->d + (size_t)z + i) * plane,
                       plane * sizeof *some);
        const struct nn_output o = {.pred = pred + (size_t)out * plane};
        const int got = nn_stream_push(nn, &b, &o);
        e = got < 0 ? got : 0;
        out += got > 0 ? got : 0;
    }
    free(some);
    return e;
}

static void forget(void *ctx, const struct tensor *t)
{
    (void)t;
    st_forget(ctx);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    enum { CIN = 4, CLASSES = 4 };
    size_t length;
    struct nn_options o = {.threads = 2, .weights = DT_F32};
    int repeats = 5, c;
    bool verbose = false, only = false;
    struct nn_setting set[NN_MAX_SETTINGS];
    int sets = 0;
    char why[256], path[] = "/tmp/nn-bench-XXXXXX", *end;
    while ((c = getopt(argc, argv, "j:M:r:vnsDd:p:S:b")) >= 0)
        switch (c) {
        case 'j':
            o.threads = atoi(optarg);
            break;
        case 'M':
            o.ceiling = (size_t)(strtod(optarg, &end) * (*end == 'G' ? 1 << 30 : 1 << 20));
            break;
        case 'r':
            repeats = atoi(optarg);
            break;
        case 'v':
            verbose = true;
            break;
        case 'n':
            verbose = only = true;
            break;
        case 's':
            o.training = (struct nn_training){.loss = NN_DICE_CE,
                                              .foreground = true,
                                              .optim = NN_SGD,
                                              .momentum = 0.99,
                                              .decay = 3e-5};
            break;
        case 'S':
            o.stream = atoi(optarg);
            break;
        case 'b':
            o.bf16 = true;
            break;
        case 'D':
            o.algo = KR_DIRECT;
            break;
        case 'd':
            o.weights = *optarg == 'f' ? DT_F16 : DT_BF16;
            break;
        case 'p':
            end = strchr(optarg, '=');
            if (!end || sets == NN_MAX_SETTINGS)
                return 2;
            *end = '\0';
            snprintf(set[sets].name, sizeof set->name, "%s", optarg);
            set[sets++].value = strtod(end + 1, NULL);
            break;
        default:
            return 2;
        }
    argv += optind;
    if (argc - optind != 6 || !nn_known(argv[1], &length) || repeats < 1 || repeats > 1000) {
        fprintf(
            stderr,
            "usage: nn infer|train ARCH BASE N[xD] H W [-j THREADS] [-M SIZE] "
            "[-r REPEATS] [-n] [-v] [-s] [-D] [-b] [-d f16|bf16] [-p NAME=VALUE]... [-S SLICES]\n");
        return 2;
    }
    o.train = !strcmp(argv[0], "train");
    struct nn_spec spec = nn_network(argv[1], atoi(argv[2]), CIN, CLASSES);
    for (int i = 0; i < sets; i++)
        nn_set(&spec, set[i].name, set[i].value);
    o.n = (int)strtol(argv[3], &end, 10), o.d = *end == 'x' ? atoi(end + 1) : 1;
    o.h = atoi(argv[4]), o.w = atoi(argv[5]);

    struct nn_about about;
    const char *bad = kr_init();
    if (bad || nn_about(&spec, &about, why, sizeof why))
        die(bad ? bad : why);
    if (!about.products)
        kr_products_free();
    struct st_file file = {0};
    if (!o.train) {
        int fd = mkstemp(path);
        if (fd < 0)
            die("cannot make a temporary file");
        close(fd);
        write_weights(&spec, path, o.weights);
        if (st_open(&file, path, why, sizeof why))
            die(why);
        unlink(path);
    }
    const int slices = o.n * o.d;
    size_t pixels = (size_t)slices * (size_t)o.h * (size_t)o.w;
    o.outside = pixels * ((size_t)CIN * sizeof(float) + 2);
    o.hooks = (struct nn_hooks){.ctx = &file, .packed = forget};
    struct nn *nn = nn_new(&spec, &o, why, sizeof why);
    if (!nn)
        die(why);
    if (verbose)
        nn_print(nn, line, NULL);
    if (only)
        return 0;
    if (o.train ? nn_init(nn, 1) : nn_load(nn, file.tensor, (size_t)file.tensors))
        die(nn_why(nn));

    float *image = malloc(pixels * (size_t)CIN * sizeof *image);
    uint8_t *label = calloc(pixels, 1), *pred = malloc(pixels);
    struct rng r = rng_seed(1);
    for (size_t i = 0; i < pixels * (size_t)CIN; i++)
        image[i] = (float)rng_range(&r, -1.7, 1.7);
    for (size_t i = 0; i < pixels; i++)
        label[i] = (uint8_t)(i / 97 % 7 > 3 ? 0 : i / 97 % 4);
    struct nn_batch batch = {
        .n = o.n, .d = o.d, .h = o.h, .w = o.w, .image = image, .label = label};
    struct nn_output out = {.pred = pred};
    double took[1000];
    for (int i = -1; i < repeats; i++) {
        double start = now();
        if (o.train    ? nn_train(nn, &batch, 1e-4, NULL)
            : o.stream ? stream(nn, &batch, o.stream, pred)
                       : nn_infer(nn, &batch, &out))
            die(nn_why(nn));
        if (i >= 0)
            took[i] = now() - start;
    }
    qsort(took, (size_t)repeats, sizeof *took, by_value);
    printf("seconds_per_slice %.6f\n", took[repeats / 2] / slices);
    printf("planned_bytes %zu\n", nn_memory(nn).peak);
    printf("peak_bytes %zu\n", peak());
    if (verbose)
        fprintf(stderr, "least %.6f\n", took[0] / slices);
    nn_free(nn);
    st_close(&file);
    free(image), free(label), free(pred);
    return 0;
}
