/* augment.h - random changes of a slice that a network should not mind.
 *
 * Operations, in the order in which they are done, with the ranges and probabilities that nnU-Net
 * uses by default for 2-D networks; lo..hi is what is drawn:
 *
 * - rotate: degrees about the centre, counter-clockwise as seen; scale: factor of size; elastic:
 *   greatest displacement in pixels, of control points 32 pixels apart, between which a cubic
 *   B-spline leads. The three are one interpolation: images bilinear, labels nearest, zero from
 *   outside.
 * - flip: along x and along y, each with the probability (lo: x, hi: y, 1 if wanted).
 * - noise: standard deviation of Gaussian noise, each channel its own.
 * - blur: standard deviation in pixels of a Gaussian, each channel with an even chance and its own
 *   draw.
 * - brightness: factor, each channel its own.
 * - contrast: factor about the channel's mean, clamped to the channel's range, each its own.
 * - lowres: factor by which a channel is downsampled (nearest) and upsampled again (bilinear),
 *   each with an even chance and its own draw.
 * - gammainv, gamma: exponent on the channel scaled to 0..1 (gammainv: on the negative), after
 *   which mean and deviation are what they were; each channel its own.
 *
 * Factors and exponents are drawn below 1 with an even chance and else above, evenly on each side.
 * Means, deviations and ranges are those of a channel's pixels that are not zero. A pixel of a
 * channel that is exactly zero is background and stays exactly zero.
 *
 * Random numbers depend on the key and the operation's name alone: adding an operation changes
 * nothing in the others' draws. Arithmetic is plain float without calls into libm but for a few
 * constants of a slice, so that machines agree. */
#ifndef AUGMENT_H
#define AUGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/rng.h"

enum img_op {
    IMG_ROTATE,
    IMG_SCALE,
    IMG_ELASTIC,
    IMG_FLIP,
    IMG_NOISE,
    IMG_BLUR,
    IMG_BRIGHTNESS,
    IMG_CONTRAST,
    IMG_LOWRES,
    IMG_GAMMAINV,
    IMG_GAMMA,
    IMG_OPS
};

struct img_range {
    double lo, hi, p; /* drawn from lo..hi with probability p; p = 0: never */
};

/* What an operation is called, draws by default (p is never 0 here) and may draw. */
struct img_op_info {
    const char *name;
    struct img_range usual;
    double min, max;
};
extern const struct img_op_info img_ops[IMG_OPS];
int img_op_find(const char *name, size_t len); /* the enum, or -1 */

#define IMG_MAX_SIDE 16384

/* Floats that img_augment wants as scratch for a slice of this size. */
size_t img_augment_scratch(int h, int w);

/* Changes image (c,h,w) and label (h,w; may be NULL) in place. Sides are at most IMG_MAX_SIDE.
 * Returns the set of operations that happened, as bits 1 << op. */
unsigned img_augment(const struct img_range op[IMG_OPS], struct rng key, float *image, int c, int h,
                     int w, uint8_t *label, float *scratch);

/* n normal deviates, mean 0, deviation 1, that depend on the key's state alone. */
void img_normals(struct rng key, float *out, size_t n);

#endif
