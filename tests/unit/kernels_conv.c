/* Convolutions of any kernel, stride and dilation, over planes and volumes, those of 3x3x3 that
 * have kernels of their own, and transposed ones of any factors, all passes, against sums written
 * out in double; and with products of bfloat16, which are exact where all is small whole numbers.
 * All are a map with more pixels, a map with fewer, and weights between them: one oracle,
 * so one file. */
#include "lib/kernels/bf16.h"
#include "tests/lib/maps.h"

struct variant {
    int n, d, h, w;   /* of the high map */
    int c0, c1, cout; /* c1: a second part, or 0 */
    int kernel[3], stride[3], dilation[3];
    int how;
    bool bias, sums, each, accumulate, act, gain, bf16_out, relu_out, behind;
};

/* In bfloat16 (HALF) also of whole numbers. */
enum engine { ANY, CUBED, UP, HALF, HALF_WHOLE, HALF_UP, HALF_UP_WHOLE };

/* `up`: transposed, from the low map to the high one; `cubed`: by the kernels for 3x3x3. */
struct problem {
    const struct variant *v;
    bool up, cubed, half, whole;
    int cin, taps, threads, group; /* group: of a volume's slices */
    struct shape high, low, from, to;
    struct kr_in in[2];
    float *weight, *bias;
};

static void whole_map(void *map, struct shape s, int channels, enum kr_dtype t)
{
    for (size_t i = 0; i < pixels_of(s); i++)
        for (int c = 0; c < channels; c++)
            set(map, t, channels, i, c, (float)rint(4 * get(map, t, channels, i, c)));
}

static struct problem make(struct rng *r, const struct variant *v, enum engine by)
{
    const bool up = by == UP || by >= HALF_UP;
    struct problem p = {.v = v, .up = up, .cubed = by == CUBED, .cin = v->c0 + v->c1};
    p.half = by >= HALF;
    p.whole = by == HALF_WHOLE || by == HALF_UP_WHOLE;
    p.high = (struct shape){v->n * v->d, v->h, v->w};
    p.low = (struct shape){v->n * v->d / v->stride[0], v->h / v->stride[1], v->w / v->stride[2]};
    p.from = up ? p.low : p.high;
    p.to = up ? p.high : p.low;
    p.taps = v->kernel[0] * v->kernel[1] * v->kernel[2];
    p.in[0] = random_in(r, p.from, v->c0, v->how);
    if (v->c1)
        p.in[1] = random_in(r, p.from, v->c1, v->how ^ RELU);
    p.weight = random_floats(r, (size_t)(p.cin * v->cout * p.taps), 0, 1 / sqrt(p.cin * p.taps));
    p.bias = v->bias ? random_floats(r, (size_t)v->cout, 0, 1) : NULL;
    if (!p.whole)
        return p;
    for (int i = 0; i < (v->c1 ? 2 : 1); i++)
        whole_map((void *)(uintptr_t)p.in[i].x, p.from, p.in[i].c, p.in[i].dtype);
    for (size_t i = 0; i < (size_t)(p.cin * v->cout * p.taps); i++)
        p.weight[i] = (float)rng_below(r, 9) - 4;
    for (int i = 0; v->bias && i < v->cout; i++)
        p.bias[i] = rintf(p.bias[i] * 4);
    return p;
}

static double input(const struct problem *p, size_t pixel, int i)
{
    return i < p->v->c0 ? value(&p->in[0], p->from, pixel, i)
                        : value(&p->in[1], p->from, pixel, i - p->v->c0);
}

static size_t weight_at(const struct problem *p, int i, int o, int tap)
{
    const int l = p->up ? i : o, h = p->up ? o : i, highs = p->up ? p->v->cout : p->cin;
    return ((size_t)l * (size_t)highs + (size_t)h) * (size_t)p->taps + (size_t)tap;
}

/* The high map's pixel that `pixel` of the low one meets at a tap; false outside. */
static bool meets(const struct problem *p, size_t pixel, int tap, size_t *high)
{
    const struct variant *v = p->v;
    const int extent[] = {v->d, v->h, v->w};
    int at[3], k[3];
    size_t n = pixel;
    for (int i = 2; i >= 0; i--) {
        const int low = extent[i] / v->stride[i];
        at[i] = (int)(n % (size_t)low);
        n /= (size_t)low;
        k[i] = tap % v->kernel[i];
        tap /= v->kernel[i];
        const int padding =
            p->up || v->kernel[i] % 2 == 0 ? 0 : v->dilation[i] * (v->kernel[i] - 1) / 2;
        at[i] = at[i] * v->stride[i] + k[i] * v->dilation[i] - padding;
        if (at[i] < 0 || at[i] >= extent[i])
            return false;
    }
    *high = ((n * (size_t)v->d + (size_t)at[0]) * (size_t)v->h + (size_t)at[1]) * (size_t)v->w +
            (size_t)at[2];
    return true;
}

static struct kr_conv conv(const struct problem *p)
{
    const struct variant *v = p->v;
    struct kr_conv k = {.n = v->n,
                        .d = v->d,
                        .h = v->h,
                        .w = v->w,
                        .cout = v->cout,
                        .weight = p->weight,
                        .bias = p->bias,
                        .nin = v->c1 ? 2 : 1,
                        .in = {p->in[0], p->in[1]},
                        .threads = p->threads};
    memcpy(k.kernel, v->kernel, sizeof k.kernel);
    memcpy(k.stride, v->stride, sizeof k.stride);
    memcpy(k.dilation, v->dilation, sizeof k.dilation);
    return k;
}

static struct kr_upconv upconv(const struct problem *p)
{
    const struct variant *v = p->v;
    struct kr_upconv k = {.n = v->n,
                          .d = v->d / v->stride[0],
                          .h = v->h / v->stride[1],
                          .w = v->w / v->stride[2],
                          .cout = v->cout,
                          .weight = p->weight,
                          .bias = p->bias,
                          .in = p->in[0],
                          .threads = p->threads};
    memcpy(k.factor, v->stride, sizeof k.factor);
    return k;
}

static struct kr_conv3x3 cube(const struct problem *p)
{
    const struct variant *v = p->v;
    return (struct kr_conv3x3){.n = v->n,
                               .d = v->d,
                               .depth = 3,
                               .group = p->group,
                               .h = v->h,
                               .w = v->w,
                               .cout = v->cout,
                               .weight = p->weight,
                               .bias = p->bias,
                               .nin = v->c1 ? 2 : 1,
                               .in = {p->in[0], p->in[1]},
                               .threads = p->threads};
}

static struct kr_bf16 half(const struct problem *p)
{
    struct kr_bf16 k = {.conv = conv(p), .transposed = p->up};
    if (p->up) {
        const struct kr_upconv u = upconv(p);
        k.conv.d = u.d, k.conv.h = u.h, k.conv.w = u.w;
    }
    return k;
}

/* With two threads the weights are packed before. */
static void forward_half(const struct problem *p, const struct kr_out *out)
{
    struct kr_bf16 k = half(p);
    if (p->threads == 2) {
        void *to = guarded(kr_bf16_packed(&k), 64);
        kr_bf16_pack(&k, to);
        k.packed = to;
    }
    kr_bf16_forward(&k, out, guarded(kr_bf16_forward_workspace(&k), 64));
}

static void run_forward(const struct problem *p, const struct kr_out *out)
{
    if (p->half) {
        forward_half(p, out);
        return;
    }
    const struct kr_conv a = conv(p);
    const struct kr_conv3x3 b = cube(p);
    const struct kr_upconv u = upconv(p);
    if (p->up)
        kr_upconv_forward(&u, out, guarded(kr_upconv_workspace(&u), 64));
    else if (p->cubed)
        kr_conv3x3_forward(&b, out, guarded(kr_conv3x3_forward_workspace(&b), 64));
    else
        kr_conv_forward(&a, out, guarded(kr_conv_forward_workspace(&a), 64));
}

/* dbias is not touched where the kernels make none. */
static void run_backward(const struct problem *p, const struct kr_dy *dy, const float *made,
                         const struct kr_dx dx[2], float *dw, float *dbias)
{
    const struct kr_conv a = conv(p);
    const struct kr_conv3x3 b = cube(p);
    const struct kr_upconv u = upconv(p);
    if (p->half) {
        const struct kr_bf16 k = half(p);
        kr_bf16_backward_data(&k, &(struct kr_dy){.dy = made}, dx,
                              guarded(kr_bf16_backward_data_workspace(&k), 64));
        kr_bf16_backward_weight(&k, dy, dw, dbias,
                                guarded(kr_bf16_backward_weight_workspace(&k), 64));
    } else if (p->up) {
        kr_upconv_backward_data(&u, dy->dy, dx, guarded(kr_upconv_workspace(&u), 64));
        kr_upconv_backward_weight(&u, dy->dy, dw, dbias, guarded(kr_upconv_workspace(&u), 64));
    } else if (p->cubed) {
        kr_conv3x3_backward_data(&b, made, dx, guarded(kr_conv3x3_backward_data_workspace(&b), 64));
        kr_conv3x3_backward_weight(&b, dy, dw,
                                   guarded(kr_conv3x3_backward_weight_workspace(&b), 64));
    } else {
        kr_conv_backward_data(&a, dy, dx, guarded(kr_conv_backward_data_workspace(&a), 64));
        kr_conv_backward_weight(&a, dy, dw, dbias,
                                guarded(kr_conv_backward_weight_workspace(&a), 64));
    }
}

static void describe(const struct problem *p, char *text, size_t size)
{
    const struct variant *v = p->v;
    snprintf(text, size,
             "%s: %s %dx%dx%d stride %dx%dx%d dilation %d, %dx%dx%dx%d, %d+%d to %d, how %d",
             p->half ? kr_level_bf16() : kr_level(),
             p->whole   ? "bf16, whole"
             : p->half  ? "bf16"
             : p->up    ? "transposed"
             : p->cubed ? "cube"
                        : "kernel",
             v->kernel[0], v->kernel[1], v->kernel[2], v->stride[0], v->stride[1], v->stride[2],
             v->dilation[2], v->n, v->d, v->h, v->w, v->c0, v->c1, v->cout, v->how);
}

/* Transformed sums are less exact. */
static double bound(const struct problem *p, double direct)
{
    return p->whole ? 1e-6 : p->half ? 4e-2 : p->cubed ? 20 * direct : direct;
}

static void test_forward(struct rng *r, const struct variant *v, enum engine by)
{
    struct problem p = make(r, v, by);
    const bool up = p.up;
    const size_t n = pixels_of(p.to) * (size_t)v->cout;
    const float *scale = random_rows(r, 1, v->cout, 1, 0.2);
    const float *shift = random_rows(r, 1, v->cout, 0, 0.2);
    double *want = doubles(n), error = 0;
    struct kr_out out = {.c = v->cout, .dtype = v->bf16_out ? KR_BF16 : KR_F32};
    const size_t bytes = elements(p.to, v->cout) * kr_dtype_size(out.dtype);
    const void *first = NULL;
    const double *first_sums = NULL;
    bool same = true;
    for (size_t i = 0; i < n; i++)
        want[i] = p.bias ? (double)p.bias[i % (size_t)v->cout] : 0;
    for (size_t low = 0, high; low < pixels_of(p.low); low++)
        for (int t = 0; t < p.taps; t++)
            for (int c = 0; c < p.cin && meets(&p, low, t, &high); c++) {
                const double x = input(&p, up ? low : high, c);
                for (int o = 0; o < v->cout; o++)
                    want[(up ? high : low) * (size_t)v->cout + (size_t)o] +=
                        x * (double)p.weight[weight_at(&p, c, o, t)];
            }
    for (p.threads = 1; p.threads <= 4; p.threads++) {
        out.y = empty_map(p.to, v->cout, out.dtype);
        out.sums = v->sums ? doubles(sums_count(p.to, v->cout, v->each)) : NULL;
        out.each = v->each;
        out.relu = v->relu_out;
        out.slope = v->how & LEAKY ? 0.1f : 0;
        if (v->relu_out) {
            out.scale = scale;
            out.shift = shift;
        }
        run_forward(&p, &out);
        if (!first) {
            first = out.y;
            first_sums = out.sums;
            error = out_error(&out, p.to, want);
        }
        same = same && !memcmp(first, out.y, bytes) &&
               (!out.sums ||
                !memcmp(first_sums, out.sums, sums_count(p.to, v->cout, v->each) * sizeof(double)));
    }
    char text[200];
    describe(&p, text, sizeof text);
    ok(error < (v->bf16_out ? 4e-2 : bound(&p, 1e-5)), "%s: forward (error %.1e)", text, error);
    ok(same, "%s: forward the same bytes for 1 to 4 threads", text);
    guards_free();
}

/* A gradient behind a normalisation, where the variant asks: dz, x and k of *behind, and the
 * gradient that they make. */
static const float *gradient(struct rng *r, const struct problem *p, struct kr_dy *behind)
{
    const int cout = p->v->cout;
    const size_t cp = (size_t)kr_pad(cout), size = elements(p->to, cout);
    behind->dy = random_map(r, p->to, cout, KR_F32);
    if (p->whole)
        whole_map((void *)(uintptr_t)behind->dy, p->to, cout, KR_F32);
    if (!p->v->behind || p->up)
        return behind->dy;
    behind->x = random_map(r, p->to, cout, KR_F32);
    const int rows = p->v->each ? p->to.n : 1;
    float *k = floats((size_t)rows * 3 * cp), *dy = floats(size);
    for (size_t i = 0; i < (size_t)rows * 3; i++)
        memcpy(k + i * cp, random_rows(r, 1, cout, i % 3 == 0, 0.3), cp * sizeof *k);
    behind->k = k;
    behind->stride = rows > 1 ? 3 * cp : 0;
    for (size_t i = 0; i < size; i++) {
        const float *row = k + i / (size / (size_t)p->to.n) * behind->stride + i % cp;
        dy[i] = (float)((double)row[0] * (double)behind->dy[i] +
                        (double)row[cp] * (double)behind->x[i] + (double)row[2 * cp]);
    }
    return dy;
}

static void test_backward(struct rng *r, const struct variant *v, enum engine by)
{
    struct problem p = make(r, v, by);
    const bool up = p.up;
    const int parts = v->c1 ? 2 : 1;
    const size_t weights = (size_t)(p.cin * v->cout * p.taps);
    struct kr_dy read = {0};
    const float *dy = gradient(r, &p, &read);
    double *dv[2] = {NULL, NULL}, *dw = doubles(weights), *db = doubles((size_t)v->cout);
    const float *old[2] = {NULL, NULL}, *gain[2] = {NULL, NULL};
    memset(dw, 0, weights * sizeof *dw);
    memset(db, 0, (size_t)v->cout * sizeof *db);
    for (int k = 0; k < parts; k++) {
        int c = p.in[k].c;
        dv[k] = doubles(pixels_of(p.from) * (size_t)c);
        memset(dv[k], 0, pixels_of(p.from) * (size_t)c * sizeof *dv[k]);
        old[k] = random_map(r, p.from, c, KR_F32);
        gain[k] = random_rows(r, p.from.n, c, 1, 0.3);
    }
    for (size_t i = 0; i < pixels_of(p.to); i++)
        for (int o = 0; o < v->cout; o++)
            db[o] += get(dy, KR_F32, v->cout, i, o);
    for (size_t low = 0, high; low < pixels_of(p.low); low++)
        for (int t = 0; t < p.taps; t++)
            for (int c = 0; c < p.cin && meets(&p, low, t, &high); c++) {
                const size_t from = up ? low : high;
                const double x = input(&p, from, c);
                double sum = 0;
                for (int o = 0; o < v->cout; o++) {
                    const double g = get(dy, KR_F32, v->cout, up ? high : low, o);
                    sum += g * (double)p.weight[weight_at(&p, c, o, t)];
                    dw[weight_at(&p, c, o, t)] += g * x;
                }
                const int k = c >= v->c0, part = k ? c - v->c0 : c;
                dv[k][from * (size_t)p.in[k].c + (size_t)part] += sum;
            }
    struct kr_dx dx[2] = {{0}, {0}}, first[2] = {{0}, {0}};
    float *w = NULL, *first_w = NULL, *b = NULL, *first_b = NULL;
    bool same = true;
    double error = 0;
    for (p.threads = 1; p.threads <= 4; p.threads++) {
        for (int k = 0; k < parts; k++) {
            int c = p.in[k].c;
            dx[k] =
                (struct kr_dx){.dx = empty_map(p.from, c, KR_F32),
                               .c = c,
                               .accumulate = v->accumulate,
                               .act = v->act ? &p.in[k] : NULL,
                               .gain = v->gain ? gain[k] : NULL,
                               .each = v->each,
                               .sums = v->sums ? doubles(sums_count(p.from, c, v->each)) : NULL};
            if (v->accumulate)
                memcpy(dx[k].dx, old[k], elements(p.from, c) * sizeof(float));
        }
        w = floats(weights);
        b = read.k || p.cubed || (p.half && !up) ? NULL : floats((size_t)v->cout);
        run_backward(&p, &read, dy, dx, w, b);
        for (int k = 0; k < parts; k++) {
            const size_t sums = sums_count(p.from, p.in[k].c, v->each);
            if (!first[k].dx) {
                first[k] = dx[k];
                error = fmax(error, dx_error(&dx[k], p.from, old[k], dv[k]));
            }
            same = same && !memcmp(first[k].dx, dx[k].dx, elements(p.from, dx[k].c) * 4) &&
                   (!v->sums || !memcmp(first[k].sums, dx[k].sums, sums * sizeof(double)));
        }
        first_w = first_w ? first_w : w;
        first_b = first_b ? first_b : b;
        same = same && !memcmp(first_w, w, weights * 4) &&
               (!b || !memcmp(first_b, b, (size_t)v->cout * 4));
    }
    char text[200];
    const double ew = floats_error(w, dw, weights);
    const double eb = floats_error(b, db, b ? (size_t)v->cout : 0);
    describe(&p, text, sizeof text);
    ok(error < bound(&p, 2e-5), "%s: backward to data (error %.1e)", text, error);
    /* Made of floats by transforms, they are not quite whole. */
    const bool floats_are = p.whole && strcmp(kr_level_bf16(), "amx") != 0;
    ok(ew < (floats_are ? 1e-4 : bound(&p, 4e-5)), "%s: backward to weights (error %.1e)", text,
       ew);
    ok(eb < 2e-5, "%s: backward to the bias (error %.1e)", text, eb);
    ok(same, "%s: backward the same bytes for 1 to 4 threads", text);
    guards_free();
}

/* A sample has the same result alone as among others. */
static void test_alone(struct rng *r, const struct variant *v)
{
    struct problem p = make(r, v, ANY);
    p.threads = 2;
    struct kr_conv k = conv(&p);
    const int slices = p.low.n / v->n, from = p.high.n / v->n;
    const size_t sy = 2 * (size_t)kr_pad(v->cout), sx = 2 * (size_t)kr_pad(v->c0);
    struct kr_out y = {.y = empty_map(p.low, v->cout, KR_F32), .c = v->cout, .each = true};
    struct kr_dx dx[2] = {{.dx = empty_map(p.high, v->c0, KR_F32), .c = v->c0, .each = true}};
    const struct kr_dy dy = {.dy = random_map(r, p.low, v->cout, KR_F32)};
    y.sums = doubles((size_t)p.low.n * sy);
    dx[0].sums = doubles((size_t)p.high.n * sx);
    kr_conv_forward(&k, &y, guarded(kr_conv_forward_workspace(&k), 64));
    kr_conv_backward_data(&k, &dy, dx, guarded(kr_conv_backward_data_workspace(&k), 64));
    const size_t ly = elements(p.low, v->cout) / (size_t)v->n,
                 lx = elements(p.high, v->c0) / (size_t)v->n;
    bool same = true;
    k.n = 1;
    for (size_t i = 0; i < (size_t)v->n; i++) {
        struct kr_out y1 = {.y = floats(ly), .c = v->cout, .each = true};
        struct kr_dx dx1[2] = {{.dx = floats(lx), .c = v->c0, .each = true}};
        const struct kr_dy dy1 = {.dy = dy.dy + i * ly};
        const size_t ny = (size_t)slices * sy, nx = (size_t)from * sx;
        y1.sums = doubles(ny);
        dx1[0].sums = doubles(nx);
        k.in[0].x = (const float *)p.in[0].x + i * lx;
        kr_conv_forward(&k, &y1, guarded(kr_conv_forward_workspace(&k), 64));
        kr_conv_backward_data(&k, &dy1, dx1, guarded(kr_conv_backward_data_workspace(&k), 64));
        same = same && !memcmp(y1.y, (float *)y.y + i * ly, ly * 4) &&
               !memcmp(dx1[0].dx, dx[0].dx + i * lx, lx * 4) &&
               !memcmp(y1.sums, y.sums + i * ny, ny * sizeof(double)) &&
               !memcmp(dx1[0].sums, dx[0].sums + i * nx, nx * sizeof(double));
    }
    char text[200];
    describe(&p, text, sizeof text);
    ok(same, "%s: a sample alone has the bytes and sums that it has among others", text);
    guards_free();
}

/* A volume by windows of its slices, with those beside them, has the bytes that it has as a whole.
 * Groups of four stay whole, but at the volume's ends, wherever the first begins. */
static void test_windows(struct rng *r, const struct variant *v, enum engine by, int group,
                         int phase)
{
    struct problem p = make(r, v, by);
    p.group = group;
    const size_t slice = elements(p.to, v->cout) / (size_t)v->d;
    const int reach = v->dilation[0] * (v->kernel[0] - 1) / 2;
    struct kr_out y = {.y = empty_map(p.to, v->cout, KR_F32), .c = v->cout};
    p.threads = 2;
    if (p.cubed) {
        struct kr_conv3x3 b = cube(&p);
        b.phase = phase;
        kr_conv3x3_forward(&b, &y, guarded(kr_conv3x3_forward_workspace(&b), 64));
    } else {
        run_forward(&p, &y);
    }
    for (int size = group == 4 ? 4 : 1; size <= (group == 4 ? 4 : 3); size++) {
        bool same = true;
        for (int z = 0, deep; z < v->d; z += deep) {
            struct kr_conv a = conv(&p);
            struct kr_conv3x3 b = cube(&p);
            deep = group == 4 && !z ? size - phase : size;
            deep = v->d - z < deep ? v->d - z : deep;
            for (int i = 0; i < (v->c1 ? 2 : 1); i++) {
                struct kr_in *in = &a.in[i];
                in->x = (const char *)in->x + (size_t)z * (size_t)(v->h * v->w * kr_pad(in->c)) *
                                                  kr_dtype_size(in->dtype);
                in->scale = in->scale ? in->scale + (size_t)z * in->stride : NULL;
                in->shift = in->scale ? in->shift + (size_t)z * in->stride : NULL;
                b.in[i] = *in;
            }
            a.d = b.d = deep;
            b.phase = group ? (phase + z) % group : 0;
            a.before = b.before = z < reach ? z : reach;
            a.behind = b.behind = v->d - z - deep < reach ? v->d - z - deep : reach;
            const struct kr_out out = {.y = floats((size_t)deep * slice), .c = v->cout};
            const struct kr_bf16 half_of = {.conv = a};
            if (p.half)
                kr_bf16_forward(&half_of, &out, guarded(kr_bf16_forward_workspace(&half_of), 64));
            else if (p.cubed)
                kr_conv3x3_forward(&b, &out, guarded(kr_conv3x3_forward_workspace(&b), 64));
            else
                kr_conv_forward(&a, &out, guarded(kr_conv_forward_workspace(&a), 64));
            same =
                same && !memcmp(out.y, (float *)y.y + (size_t)z * slice, (size_t)deep * slice * 4);
        }
        char text[200];
        describe(&p, text, sizeof text);
        ok(same, "%s: windows of %d slices make the bytes of the whole, from %d on", text, size,
           phase);
    }
    guards_free();
}

/* Volumes read as (N,C,D,H,W) give what their maps give. */
static void test_planar(struct rng *r, enum engine by)
{
    static const struct variant v = {.n = 2,
                                     .d = 4,
                                     .h = 6,
                                     .w = 10,
                                     .c0 = 4,
                                     .cout = 20,
                                     .kernel = {3, 3, 3},
                                     .stride = {1, 2, 1},
                                     .dilation = {1, 1, 1}};
    struct problem p = make(r, &v, by);
    const float *dy = random_map(r, p.low, v.cout, KR_F32);
    const size_t bytes = elements(p.low, v.cout) * 4, weights = (size_t)(v.c0 * v.cout * p.taps);
    const struct shape volumes = {v.n, v.d * v.h, v.w};
    const struct kr_in map = p.in[0], image = planar_in(&map, volumes);
    void *y[2];
    float *dw[2];
    for (int i = 0; i < 2; i++) {
        struct kr_out out = {.y = y[i] = empty_map(p.low, v.cout, KR_F32), .c = v.cout};
        p.threads = 1 + i;
        p.in[0] = i ? image : map;
        const struct kr_conv k = conv(&p);
        run_forward(&p, &out);
        dw[i] = floats(weights);
        kr_conv_backward_weight(&k, &(struct kr_dy){.dy = dy}, dw[i], NULL,
                                guarded(kr_conv_backward_weight_workspace(&k), 64));
    }
    ok(!memcmp(y[0], y[1], bytes) && !memcmp(dw[0], dw[1], weights * 4),
       "%s: an image as planes, the same bytes", p.half ? kr_level_bf16() : kr_level());
    guards_free();
}

#define CUBE(a) {a, a, a}
#define PLANE(a) {1, a, a}
#define CUBED_SHAPE(N, D, H, W)                                                                    \
    .n = N, .d = D, .h = H, .w = W, .kernel = CUBE(3), .stride = CUBE(1), .dilation = CUBE(1)

static const struct variant variants[] = {
    {.n = 2,
     .d = 1,
     .h = 8,
     .w = 10,
     .c0 = 16,
     .cout = 16,
     .kernel = PLANE(3),
     .stride = PLANE(2),
     .dilation = CUBE(1)},
    {.n = 2, /* few channels on both sides, plain: wide gaps, some wider than the map */
     .d = 5,
     .h = 9,
     .w = 37,
     .c0 = 15,
     .cout = 13,
     .kernel = CUBE(3),
     .stride = CUBE(1),
     .dilation = {2, 4, 8},
     .bias = true,
     .sums = true,
     .each = true},
    {.n = 1,
     .d = 3,
     .h = 4,
     .w = 70,
     .c0 = 3,
     .cout = 16,
     .kernel = {1, 5, 3},
     .stride = CUBE(1),
     .dilation = {1, 16, 2},
     .sums = true,
     .relu_out = true,
     .bf16_out = true},
    {.n = 3,
     .d = 1,
     .h = 12,
     .w = 10,
     .c0 = 70,
     .cout = 130,
     .kernel = PLANE(3),
     .stride = PLANE(2),
     .dilation = CUBE(1),
     .how = STRIDED | LEAKY,
     .sums = true,
     .each = true,
     .act = true,
     .gain = true,
     .bias = true},
    {.n = 1,
     .d = 1,
     .h = 20,
     .w = 24,
     .c0 = 32,
     .cout = 64,
     .kernel = PLANE(3),
     .stride = PLANE(2),
     .dilation = CUBE(1),
     .how = AFFINE | RELU,
     .sums = true,
     .accumulate = true,
     .act = true,
     .behind = true},
    {.n = 1,
     .d = 1,
     .h = 9,
     .w = 7,
     .c0 = 4,
     .cout = 20,
     .kernel = PLANE(5),
     .stride = CUBE(1),
     .dilation = CUBE(1),
     .bias = true,
     .bf16_out = true},
    {.n = 2,
     .d = 1,
     .h = 16,
     .w = 12,
     .c0 = 3,
     .c1 = 5,
     .cout = 7,
     .kernel = PLANE(7),
     .stride = {1, 4, 2},
     .dilation = CUBE(1),
     .how = AFFINE | RELU,
     .sums = true,
     .act = true},
    {.n = 1,
     .d = 1,
     .h = 17,
     .w = 19,
     .c0 = 20,
     .c1 = 40,
     .cout = 33,
     .kernel = PLANE(3),
     .stride = CUBE(1),
     .dilation = PLANE(4),
     .how = AFFINE | BF16 | LEAKY,
     .relu_out = true,
     .sums = true},
    {.n = 1,
     .d = 1,
     .h = 6,
     .w = 8,
     .c0 = 80,
     .c1 = 70,
     .cout = 64,
     .kernel = PLANE(3),
     .stride = PLANE(2),
     .dilation = PLANE(3),
     .how = RELU,
     .bias = true,
     .act = true,
     .accumulate = true},
    {.n = 2,
     .d = 4,
     .h = 6,
     .w = 8,
     .c0 = 8,
     .cout = 12,
     .kernel = CUBE(3),
     .stride = CUBE(1),
     .dilation = CUBE(1),
     .how = STRIDED | RELU,
     .bias = true,
     .sums = true,
     .act = true},
    {.n = 2,
     .d = 6,
     .h = 4,
     .w = 6,
     .c0 = 66,
     .cout = 40,
     .kernel = CUBE(3),
     .stride = {1, 2, 2},
     .dilation = CUBE(1),
     .how = AFFINE,
     .sums = true,
     .each = true,
     .behind = true},
    {.n = 1,
     .d = 3,
     .h = 5,
     .w = 7,
     .c0 = 12,
     .cout = 9,
     .kernel = {3, 5, 1},
     .stride = CUBE(1),
     .dilation = {16, 2, 1},
     .how = RELU,
     .act = true},
    {.n = 2,
     .d = 4,
     .h = 8,
     .w = 12,
     .c0 = 24,
     .cout = 18,
     .kernel = {1, 1, 1},
     .stride = {2, 2, 3},
     .dilation = CUBE(1),
     .bias = true,
     .sums = true},
    {.n = 1,
     .d = 1,
     .h = 8,
     .w = 6,
     .c0 = 16,
     .cout = 16,
     .kernel = {1, 4, 2},
     .stride = {1, 4, 2},
     .dilation = CUBE(1),
     .how = AFFINE,
     .bias = true,
     .sums = true},
    {.n = 1,
     .d = 1,
     .h = 1,
     .w = 1,
     .c0 = 1,
     .cout = 1,
     .kernel = CUBE(3),
     .stride = CUBE(1),
     .dilation = CUBE(1),
     .bias = true},
    {.n = 1,
     .d = 1,
     .h = 6,
     .w = 6,
     .c0 = 300,
     .cout = 200,
     .kernel = PLANE(3),
     .stride = PLANE(2),
     .dilation = CUBE(1),
     .how = AFFINE | RELU,
     .sums = true},
    /* Many bands of a slice, and more than one to a span. */
    {.n = 1,
     .d = 1,
     .h = 80,
     .w = 40,
     .c0 = 5,
     .cout = 20,
     .kernel = PLANE(3),
     .stride = CUBE(1),
     .dilation = CUBE(1),
     .how = AFFINE | LEAKY,
     .bias = true,
     .sums = true,
     .each = true,
     .act = true},
};

static const struct variant ups[] = {
    {.n = 2,
     .d = 1,
     .h = 6,
     .w = 12,
     .c0 = 16,
     .cout = 16,
     .kernel = PLANE(3),
     .stride = PLANE(3),
     .dilation = CUBE(1),
     .bias = true},
    {.n = 2,
     .d = 4,
     .h = 6,
     .w = 8,
     .c0 = 20,
     .cout = 12,
     .kernel = CUBE(2),
     .stride = CUBE(2),
     .dilation = CUBE(1),
     .how = STRIDED | LEAKY,
     .bias = true,
     .sums = true,
     .each = true,
     .act = true,
     .gain = true},
    {.n = 1,
     .d = 3,
     .h = 8,
     .w = 4,
     .c0 = 70,
     .cout = 66,
     .kernel = {3, 4, 1},
     .stride = {3, 4, 1},
     .dilation = CUBE(1),
     .how = BF16 | AFFINE,
     .accumulate = true,
     .sums = true,
     .relu_out = true},
    {.n = 2,
     .d = 3,
     .h = 4,
     .w = 6,
     .c0 = 8,
     .cout = 8,
     .kernel = {1, 2, 2},
     .stride = {1, 2, 2},
     .dilation = CUBE(1),
     .how = RELU,
     .act = true,
     .bf16_out = true},
};

static const struct variant cubes[] = {
    {CUBED_SHAPE(1, 5, 7, 9), .c0 = 16, .cout = 16, .bias = true},
    {CUBED_SHAPE(1, 4, 12, 10), .c0 = 4, .cout = 20, .bias = true, .sums = true},
    {CUBED_SHAPE(2, 3, 9, 14), .c0 = 16, .c1 = 24, .cout = 32, .how = AFFINE | LEAKY, .sums = true,
     .act = true, .gain = true},
    {CUBED_SHAPE(1, 1, 6, 5), .c0 = 32, .cout = 48, .how = RELU, .sums = true},
    {CUBED_SHAPE(2, 5, 8, 8), .c0 = 40, .cout = 20, .how = STRIDED | RELU, .sums = true,
     .each = true, .act = true, .accumulate = true, .behind = true},
    {CUBED_SHAPE(1, 2, 3, 3), .c0 = 272, .cout = 128}, /* more weights than stay in cache */
    {CUBED_SHAPE(1, 6, 7, 6), .c0 = 20, .c1 = 16, .cout = 16, .how = BF16 | AFFINE | RELU},
    {CUBED_SHAPE(1, 4, 12, 12), .c0 = 64, .cout = 64, .how = STRIDED | LEAKY, .sums = true},
    {CUBED_SHAPE(2, 2, 6, 5), .c0 = 96, .cout = 80, .how = AFFINE | RELU, .bf16_out = true,
     .relu_out = true, .sums = true, .behind = true},
};

static void all(void)
{
    struct rng r = rng_seed(1);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        test_forward(&r, &variants[i], ANY);
        test_backward(&r, &variants[i], ANY);
        if (!variants[i].c1 && !variants[i].how)
            test_alone(&r, &variants[i]);
    }
    for (size_t i = 0; i < sizeof ups / sizeof ups[0]; i++) {
        test_forward(&r, &ups[i], UP);
        test_backward(&r, &ups[i], UP);
    }
    for (size_t i = 0; i < sizeof cubes / sizeof cubes[0]; i++) {
        test_forward(&r, &cubes[i], CUBED);
        test_backward(&r, &cubes[i], CUBED);
        if (cubes[i].n == 1 && !cubes[i].bf16_out) {
            test_windows(&r, &cubes[i], ANY, 0, 0);
            test_windows(&r, &cubes[i], CUBED, 2, i % 2);
            for (int phase = 0; phase < 4; phase++)
                test_windows(&r, &cubes[i], CUBED, 4, phase);
        }
    }
    static const struct variant apart = {.n = 1,
                                         .d = 9,
                                         .h = 4,
                                         .w = 5,
                                         .c0 = 20,
                                         .c1 = 6,
                                         .cout = 16,
                                         .kernel = {5, 1, 3},
                                         .stride = CUBE(1),
                                         .dilation = {2, 1, 1},
                                         .how = STRIDED | RELU};
    test_windows(&r, &apart, ANY, 0, 0);
    static const struct variant many = {.n = 5,
                                        .d = 1,
                                        .h = 12,
                                        .w = 10,
                                        .c0 = 96,
                                        .cout = 80,
                                        .kernel = PLANE(3),
                                        .stride = PLANE(2),
                                        .dilation = CUBE(1)};
    test_alone(&r, &many);
    test_planar(&r, ANY);
}

/* All but what is not whole. */
static struct variant whole(const struct variant *v)
{
    struct variant w = *v;
    w.how &= BF16;
    w.bf16_out = w.relu_out = w.act = w.gain = w.accumulate = w.behind = false;
    return w;
}

static void both_passes(struct rng *r, const struct variant *v, enum engine by)
{
    const struct problem p = {.v = v, .up = by >= HALF_UP};
    const struct kr_bf16 k = half(&p);
    test_forward(r, v, by);
    if (kr_bf16_data(&k))
        test_backward(r, v, by);
}

static void halves(void)
{
    const struct {
        const struct variant *v;
        size_t n;
        enum engine by;
    } some[] = {{variants, sizeof variants / sizeof variants[0], HALF},
                {cubes, sizeof cubes / sizeof cubes[0], HALF},
                {ups, sizeof ups / sizeof ups[0], HALF_UP}};
    struct rng r = rng_seed(2);
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < some[k].n; i++) {
            const struct variant w = whole(&some[k].v[i]);
            both_passes(&r, &w, some[k].by + 1);
            if (some[k].v[i].how || some[k].v[i].relu_out || some[k].v[i].bf16_out)
                both_passes(&r, &some[k].v[i], some[k].by);
        }
    test_windows(&r, &cubes[0], HALF, 0, 0);
    test_windows(&r, &cubes[6], HALF, 0, 0);
    test_planar(&r, HALF_WHOLE);
}

int main(void)
{
    each_level(all);
    each_level_bf16(halves);
    return done_testing();
}
