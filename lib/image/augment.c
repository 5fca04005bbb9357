/* The table of operations, what each draws for a slice and its channels, and windows and dropped
 * modalities; what changes the geometry is in augment_space.c, what changes values beside it. */
#include "lib/image/augment.h"
#include "lib/image/augment_impl.h"

#include <math.h>
#include <string.h>

const struct img_op_info img_ops[IMG_OPS] = {
    [IMG_ROTATE] = {"rotate", {-180, 180, 0.2}, -360, 360},
    [IMG_SCALE] = {"scale", {0.7, 1.4, 0.2}, 0.1, 10},
    [IMG_STRETCH] = {"stretch", {0.65, 1.6, 0.1}, 0.1, 10},
    [IMG_ELASTIC] = {"elastic", {0, 8, 0.2}, 0, 100},
    [IMG_FLIP] = {"flip", {1, 1, 0.5}, 0, 1},
    [IMG_BIASFIELD] = {"biasfield", {0, 0.5, 0.1}, 0, 1},
    [IMG_NOISE] = {"noise", {0, 0.1, 0.1}, 0, 1000},
    [IMG_BLUR] = {"blur", {0.5, 1, 0.2}, 0.1, 20},
    [IMG_BRIGHTNESS] = {"brightness", {0.75, 1.25, 0.15}, 0.01, 100},
    [IMG_SHIFT] = {"shift", {0.2, 0.2, 0.3}, 0, 1000},
    [IMG_CONTRAST] = {"contrast", {0.75, 1.25, 0.15}, 0.01, 100},
    [IMG_LOWRES] = {"lowres", {0.5, 1, 0.25}, 0.05, 1},
    [IMG_ANISOTROPY] = {"anisotropy", {0.2, 0.67, 0.1}, 0.05, 1},
    [IMG_GAMMAINV] = {"gammainv", {0.7, 1.5, 0.1}, 0.1, 10},
    [IMG_GAMMA] = {"gamma", {0.7, 1.5, 0.3}, 0.1, 10},
    [IMG_HISTOGRAM] = {"histogram", {10, 10, 0.1}, 3, IMG_MAX_POINTS},
    [IMG_CUTOUT] = {"cutout", {0.1, 0.33, 0.1}, 0, 1},
    [IMG_DROPOUT] = {"dropout", {0.25, 0.25, 1}, 0, 1},
};

int img_op_find(const char *name, size_t len)
{
    for (int i = 0; i < IMG_OPS; i++)
        if (strlen(img_ops[i].name) == len && !memcmp(img_ops[i].name, name, len))
            return i;
    return -1;
}

size_t img_augment_scratch(int h, int w)
{
    size_t plane = (size_t)h * (size_t)w, side = (size_t)(h > w ? h : w);
    size_t moved = img_move_scratch(h, w), blurred = plane + 2 * side + 512;
    return moved > blurred ? moved : blurred;
}

static double draw(struct rng *r, const struct img_range *op)
{
    return rng_range(r, op->lo, op->hi);
}

/* Below 1 as often as above. */
static double draw_factor(struct rng *r, const struct img_range *op)
{
    bool below = rng_uniform(r) < 0.5;
    if (op->lo >= 1 || op->hi <= 1)
        return draw(r, op);
    return below ? rng_range(r, op->lo, 1) : rng_range(r, 1, op->hi);
}

static unsigned move(const struct img_range op[IMG_OPS], struct rng r[IMG_OPS], unsigned wanted,
                     const struct img_slice *s)
{
    struct img_motion m = {.factor = {1, 1}};
    wanted &= 1u << IMG_ROTATE | 1u << IMG_SCALE | 1u << IMG_STRETCH | 1u << IMG_ELASTIC;
    if (!wanted)
        return 0;
    if (wanted & 1u << IMG_ROTATE)
        m.angle = draw(&r[IMG_ROTATE], &op[IMG_ROTATE]) * (3.14159265358979323846 / 180);
    if (wanted & 1u << IMG_SCALE)
        m.factor[0] = m.factor[1] = draw_factor(&r[IMG_SCALE], &op[IMG_SCALE]);
    for (int axis = 0; axis < 2 && wanted & 1u << IMG_STRETCH; axis++)
        m.factor[axis] *= draw_factor(&r[IMG_STRETCH], &op[IMG_STRETCH]);
    if (wanted & 1u << IMG_ELASTIC)
        m.most = draw(&r[IMG_ELASTIC], &op[IMG_ELASTIC]);
    m.bend = r[IMG_ELASTIC];
    img_move(&m, s);
    return wanted;
}

static unsigned flip(const struct img_range *op, struct rng *r, const struct img_slice *s)
{
    bool x = rng_uniform(r) < op->p && op->lo > 0, y = rng_uniform(r) < op->p && op->hi > 0;
    if (!x && !y)
        return 0;
    img_mirror(s, x, y);
    return 1u << IMG_FLIP;
}

/* Changes a channel only with an even chance. */
static bool halved(enum img_op o)
{
    return o == IMG_BLUR || o == IMG_SHIFT || o == IMG_LOWRES || o == IMG_ANISOTROPY ||
           o == IMG_CUTOUT;
}

static bool is_factor(enum img_op o)
{
    return o == IMG_BRIGHTNESS || o == IMG_CONTRAST || o == IMG_GAMMAINV || o == IMG_GAMMA;
}

static void change_channel(enum img_op o, const struct img_range *op, struct rng *r,
                           const struct img_slice *s, int k)
{
    size_t n = (size_t)s->h * (size_t)s->w;
    float *p = s->image + (size_t)k * n;
    bool chosen = !halved(o) || rng_uniform(r) < 0.5;
    double v = is_factor(o) ? draw_factor(r, op) : draw(r, op);
    bool along = o == IMG_ANISOTROPY && rng_uniform(r) < 0.5;
    struct rng own;
    if (!chosen)
        return;
    switch (o) {
    case IMG_BIASFIELD:
        img_biasfield(p, s->h, s->w, r, v);
        break;
    case IMG_NOISE:
        rng_mix(r, (uint64_t)k);
        own = *r;
        if (s->among)
            rng_mix(&own, s->among);
        img_noise(p, n, own, (float)v, s->scratch);
        break;
    case IMG_BLUR:
        img_blur(p, s->h, s->w, v, s->scratch);
        break;
    case IMG_BRIGHTNESS:
        img_brightness(p, n, (float)v);
        break;
    case IMG_SHIFT:
        img_shift(p, n, (float)(v * rng_normal(r)));
        break;
    case IMG_CONTRAST:
        img_contrast(p, n, (float)v);
        break;
    case IMG_LOWRES:
        img_lowres(p, s->h, s->w, v, v, s->scratch);
        break;
    case IMG_ANISOTROPY:
        img_lowres(p, s->h, s->w, along ? v : 1, along ? 1 : v, s->scratch);
        break;
    case IMG_GAMMAINV:
    case IMG_GAMMA:
        img_gamma(p, n, (float)v, o == IMG_GAMMAINV);
        break;
    case IMG_HISTOGRAM:
        img_histogram(p, n, r, (int)rng_range(r, op->lo, op->hi + 1));
        break;
    case IMG_CUTOUT:
        img_cutout(p, s->h, s->w, r, op->lo, op->hi);
        break;
    default:
        break;
    }
}

unsigned img_augment(const struct img_range op[IMG_OPS], struct rng key, uint64_t among,
                     float *image, int c, int h, int w, uint8_t *label, float *scratch)
{
    struct img_slice s = {image, scratch, label, c, h, w, among};
    struct rng r[IMG_OPS];
    unsigned wanted = 0, done;
    for (int o = 0; o < IMG_OPS; o++) {
        r[o] = key;
        rng_mix_text(&r[o], img_ops[o].name);
        if (o != IMG_FLIP && op[o].p > 0 && rng_uniform(&r[o]) < op[o].p)
            wanted |= 1u << o;
    }
    done = move(op, r, wanted, &s);
    if (op[IMG_FLIP].p > 0)
        done |= flip(&op[IMG_FLIP], &r[IMG_FLIP], &s);
    for (int o = IMG_FLIP + 1; o < IMG_DROPOUT; o++)
        if (wanted & 1u << o) {
            for (int k = 0; k < c; k++)
                change_channel((enum img_op)o, &op[o], &r[o], &s, k);
            done |= 1u << o;
        }
    return done;
}

uint64_t img_dropout(const struct img_range *op, struct rng key, float *image, int c, int h, int w,
                     uint64_t absent)
{
    uint64_t dropped = 0;
    int left = 0;
    rng_mix_text(&key, img_ops[IMG_DROPOUT].name);
    if (!(op->p > 0) || rng_uniform(&key) >= op->p)
        return 0;
    const double share = draw(&key, op);
    for (int k = 0; k < c; k++) {
        const bool drop = rng_uniform(&key) < share, there = !(absent >> k & 1);
        dropped |= (uint64_t)(drop && there) << k;
        left += there && !drop;
    }
    if (!left) { /* any of those that were there may stay */
        uint64_t n = 0, nth;
        for (int k = 0; k < c; k++)
            n += dropped >> k & 1;
        nth = n ? rng_below(&key, n) : 0;
        for (int k = 0; k < c; k++)
            if (dropped >> k & 1 && nth-- == 0) {
                dropped &= ~((uint64_t)1 << k);
                break;
            }
    }
    for (int k = 0; k < c; k++)
        if (dropped >> k & 1)
            memset(image + (size_t)k * (size_t)h * (size_t)w, 0,
                   (size_t)h * (size_t)w * sizeof *image);
    return dropped;
}

/* A pixel of a label other than 0; false if there is none. */
static bool draw_pixel(struct rng *r, const uint8_t *label, size_t n, size_t *at)
{
    size_t count[256] = {0}, present = 0, chosen;
    int v = 0;
    for (size_t i = 0; i < n; i++)
        count[label[i]]++;
    for (int i = 1; i < 256; i++)
        present += count[i] > 0;
    if (!present)
        return false;
    chosen = (size_t)rng_below(r, present);
    for (v = 1; !count[v] || chosen-- > 0;)
        v++;
    chosen = (size_t)rng_below(r, count[v]);
    for (*at = 0; label[*at] != v || chosen-- > 0;)
        ++*at;
    return true;
}

static long within(long from, long last)
{
    return from < 0 ? 0 : from > last ? last : from;
}

struct img_box img_window(struct rng key, const uint8_t *label, int h, int w, int height, int width,
                          double share)
{
    struct img_box b = {0, 0, height < h ? height : h, width < w ? width : w};
    size_t at;
    rng_mix_text(&key, "window");
    bool centred = rng_uniform(&key) < share;
    b.y = (long)rng_below(&key, (uint64_t)(h - b.height + 1));
    b.x = (long)rng_below(&key, (uint64_t)(w - b.width + 1));
    if (centred && label && draw_pixel(&key, label, (size_t)h * (size_t)w, &at)) {
        b.y = within((long)(at / (size_t)w) - b.height / 2, h - b.height);
        b.x = within((long)(at % (size_t)w) - b.width / 2, w - b.width);
    }
    return b;
}
