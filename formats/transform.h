/* transform.h - a map of one scan's space to another's, as registration programs write it.
 *
 * All of them take a point of the fixed image, in mm, to the point of the moving image that shows
 * the same place. Here x runs to the right, y to the front, z up, as in NIfTI. Read are:
 *
 * - what niimath's -savemat writes: JSON with `fixed_to_moving`, four rows of four;
 * - elastix's TransformParameters.0.txt: TranslationTransform, EulerTransform or AffineTransform in
 *   three dimensions, without an initial transform. Its x runs to the left and its y to the back;
 * - a text of three rows of four numbers, or four, of which the last is 0 0 0 1; lines that begin
 *   with # are passed over.
 *
 * Errors: -1 and one line in why (NII_WHY bytes): "PATH: what". */
#ifndef TRANSFORM_H
#define TRANSFORM_H

#include "lib/base/affine.h"

/* Heads are scaled by no more than this, in volume, and mirrored never. */
#define XFM_MOST 8.0

int xfm_read(const char *path, struct affine *, char *why);

/* The same of a text in memory, which ends in a NUL; `name` is for messages. */
int xfm_parse(const char *text, const char *name, struct affine *, char *why);

#endif
