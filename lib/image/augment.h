/* augment.h - random changes of a slice, or of the slices of a slab alike, that a network should
 * not mind.
 *
 * Operations, in the order in which they are done; lo..hi is what is drawn. Those marked * change a
 * channel with an even chance only. Each channel has draws of its own.
 *
 * - rotate: degrees about the centre, counter-clockwise as seen; scale: factor of size; stretch: a
 *   factor along y and one along x; elastic: greatest displacement in pixels, of control points 32
 *   pixels apart, between which a cubic B-spline leads. The four are one interpolation (stretched
 *   first, bent last): images bilinear, labels nearest, zero from outside.
 * - flip: along x and along y, each with the probability (lo: x, hi: y, 1 if wanted).
 * - biasfield: greatest coefficient of a polynomial of degree 3 in x and y, both from -1 to 1. Its
 *   exponential multiplies what lies above the channel's least value, which stands for no signal;
 *   mean and deviation are what they were.
 * - noise: standard deviation of Gaussian noise.
 * - blur*: standard deviation in pixels of a Gaussian.
 * - brightness: factor.
 * - shift*: standard deviation of a normal number that is added.
 * - contrast: factor about the channel's mean, clamped to the channel's range.
 * - lowres*: factor by which a channel is downsampled (nearest) and upsampled again (bilinear);
 *   anisotropy*: the same along y alone or x alone, with an even chance.
 * - gammainv, gamma: exponent on the channel scaled to 0..1 (gammainv: on the negative), after
 *   which mean and deviation are what they were.
 * - histogram: number of control points of a piecewise linear map of the channel's range onto
 *   itself that rises everywhere.
 * - cutout*: share of each side, of one to four boxes that become the channel's mean. Labels stay.
 * - dropout: probability with which each channel is background as a whole, but never all of them.
 *
 * Factors and exponents are drawn below 1 with an even chance and else above, evenly on each side
 * (not those of lowres and anisotropy). Means, deviations and ranges are those of a channel's
 * pixels that are not zero. A pixel of a channel that is exactly zero is background and stays
 * exactly zero.
 *
 * Where the usual ranges and probabilities come from:
 * - nnU-Net's for 2-D networks: rotate, scale, flip, noise, blur, brightness, contrast, lowres,
 *   gammainv, gamma (nnUNetTrainer.py, MIC-DKFZ/nnUNet).
 * - The winner of BraTS 2020: stretch (0.3 of the 0.3 of slices that it scales), shift, elastic's
 *   probability; it also widens scale to 0.65:1.6 and gamma to 0.5:1.6, and turns by at most 90
 *   degrees (nnUNetTrainerV2BraTSRegions_moreDA.py; Isensee et al., arXiv 2011.00848).
 * - TorchIO: biasfield (RandomBiasField: degree 3, coefficients within 0.5; Van Leemput et al.,
 *   IEEE TMI 18, 1999) and anisotropy (RandomAnisotropy: one axis by a factor of 1.5 to 5).
 * - MONAI: histogram (RandHistogramShift: 10 points, 0.1).
 * - Modality dropout: Neverova et al., ModDrop, IEEE TPAMI 38, 2016.
 * - nnUNetTrainerDA5: cutout (BlankRectangleTransform; there at 0.4). Before: DeVries and Taylor,
 *   arXiv 1708.04552.
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
#include "lib/image/crop.h"

enum img_op {
    IMG_ROTATE,
    IMG_SCALE,
    IMG_STRETCH,
    IMG_ELASTIC,
    IMG_FLIP, /* the last that moves pixels */
    IMG_BIASFIELD,
    IMG_NOISE,
    IMG_BLUR,
    IMG_BRIGHTNESS,
    IMG_SHIFT,
    IMG_CONTRAST,
    IMG_LOWRES,
    IMG_ANISOTROPY,
    IMG_GAMMAINV,
    IMG_GAMMA,
    IMG_HISTOGRAM,
    IMG_CUTOUT,
    IMG_DROPOUT, /* not done by img_augment: img_dropout */
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
#define IMG_MAX_POINTS 100 /* of histogram */

/* Floats that img_augment wants as scratch for a slice of this size. */
size_t img_augment_scratch(int h, int w);

/* Changes image (c,h,w) and label (h,w; may be NULL) in place. Sides are at most IMG_MAX_SIDE.
 * Slices of one size that share a key, as those of a slab do, have all their draws in common, so
 * that they stay one thing; but for the noise of each pixel, which is each slice's own by its
 * number `among` them, 0 for the first. Means, deviations and ranges are each slice's.
 * Returns the set of operations that happened, as bits 1 << op. */
unsigned img_augment(const struct img_range op[IMG_OPS], struct rng key, uint64_t among,
                     float *image, int c, int h, int w, uint8_t *label, float *scratch);

/* Dropout, after all else. Channels of the set `absent` (bits) are background already and stay so;
 * of the others one at least stays as it is. Returns those that were dropped; c is at most 64. */
uint64_t img_dropout(const struct img_range *, struct rng key, float *image, int c, int h, int w,
                     uint64_t absent);

/* A window of a slice of h by w: at most height by width, anywhere within it with equal chances. A
 * share of them is centred, as far as the edges allow, on a pixel of a label: drawn evenly among
 * the labels other than 0 that the slice holds, then among that label's pixels (nnU-Net's rule;
 * there for a third of each batch). The label may be NULL. */
struct img_box img_window(struct rng key, const uint8_t *label, int h, int w, int height, int width,
                          double share);

/* n normal deviates, mean 0, deviation 1, that depend on the key's state alone. */
void img_normals(struct rng key, float *out, size_t n);

#endif
