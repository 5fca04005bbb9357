/* affine.h - maps of space, x -> M x + t, as three rows of four numbers; in double. */
#ifndef AFFINE_H
#define AFFINE_H

#include <stdbool.h>

struct affine {
    double m[3][4];
};

extern const struct affine affine_identity;

void affine_map(const struct affine *, const double in[3], double out[3]);

/* First one, then the other. */
struct affine affine_then(const struct affine *first, const struct affine *second);

/* False, and nothing, where there is none: the map is singular, or not finite. */
bool affine_inverse(const struct affine *, struct affine *out);

double affine_determinant(const struct affine *);

/* What a unit along each axis becomes; the angle in degrees of the turn that is left when axes have
 * been brought to unit length. */
void affine_lengths(const struct affine *, double length[3]);
double affine_turn(const struct affine *);

#endif
