/* augment_impl.h - what the files of augment.c share. */
#ifndef AUGMENT_IMPL_H
#define AUGMENT_IMPL_H

#include "lib/image/augment.h"

/* A slice: planes of h by w, one after the other. label may be NULL. */
struct img_slice {
    float *image, *scratch;
    uint8_t *label;
    int c, h, w;
    uint64_t among; /* its number among slices with the same draws */
};

/* --- augment_space.c: pixels move, all channels' and the label's alike ------------------------ */

/* In the order in which they happen to what is seen: stretched by `factor` along y and x, turned by
 * `angle` (radians, counter-clockwise), bent by at most `most` pixels. */
struct img_motion {
    double factor[2], angle, most;
    struct rng bend; /* draws the control points */
};
size_t img_move_scratch(int h, int w);
void img_move(const struct img_motion *, const struct img_slice *);
void img_mirror(const struct img_slice *, bool x, bool y);

/* --- augment_values.c: values of one channel change, zeros excepted --------------------------- */

/* Whatever the values are, a function draws as many numbers: slices with one key stay in step. */

void img_noise(float *p, size_t n, struct rng key, float deviation, float *normal);
void img_brightness(float *p, size_t n, float factor);
void img_shift(float *p, size_t n, float added);
void img_contrast(float *p, size_t n, float factor);
void img_gamma(float *p, size_t n, float exponent, bool inverse);
void img_histogram(float *p, size_t n, struct rng *, int points);

/* Of planes of h by w; scratch as of img_augment_scratch. */
void img_blur(float *p, int h, int w, double sigma, float *scratch);
void img_lowres(float *p, int h, int w, double fy, double fx, float *scratch);
void img_biasfield(float *p, int h, int w, struct rng *, double most);
void img_cutout(float *p, int h, int w, struct rng *, double lo, double hi);

#endif
