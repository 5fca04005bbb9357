/* affine.c - maps of space, in double. */
#include "lib/base/affine.h"

#include <math.h>

const struct affine affine_identity = {{{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}}};

void affine_map(const struct affine *a, const double in[3], double out[3])
{
    for (int i = 0; i < 3; i++)
        out[i] = a->m[i][0] * in[0] + a->m[i][1] * in[1] + a->m[i][2] * in[2] + a->m[i][3];
}

struct affine affine_then(const struct affine *first, const struct affine *second)
{
    struct affine r;

    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++) {
            r.m[i][j] = j == 3 ? second->m[i][3] : 0;
            for (int k = 0; k < 3; k++)
                r.m[i][j] += second->m[i][k] * first->m[k][j];
        }
    return r;
}

double affine_determinant(const struct affine *a)
{
    const double(*m)[4] = a->m;
    return m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
           m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
           m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
}

bool affine_inverse(const struct affine *a, struct affine *out)
{
    const double(*m)[4] = a->m;
    double det = affine_determinant(a), size = 1, length[3];
    struct affine r;

    affine_lengths(a, length);
    for (int j = 0; j < 3; j++)
        size *= length[j];
    if (!(fabs(det) > 1e-12 * size) || !isfinite(det))
        return false;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) { /* the cofactor of m[j][i] */
            int p = (j + 1) % 3, q = (j + 2) % 3, s = (i + 1) % 3, t = (i + 2) % 3;
            r.m[i][j] = (m[p][s] * m[q][t] - m[p][t] * m[q][s]) / det;
        }
    for (int i = 0; i < 3; i++) {
        r.m[i][3] = -(r.m[i][0] * m[0][3] + r.m[i][1] * m[1][3] + r.m[i][2] * m[2][3]);
        if (!isfinite(r.m[i][3]))
            return false;
    }
    *out = r;
    return true;
}

void affine_lengths(const struct affine *a, double length[3])
{
    for (int j = 0; j < 3; j++)
        length[j] =
            sqrt(a->m[0][j] * a->m[0][j] + a->m[1][j] * a->m[1][j] + a->m[2][j] * a->m[2][j]);
}

double affine_turn(const struct affine *a)
{
    double length[3], trace = 0;

    affine_lengths(a, length);
    for (int j = 0; j < 3; j++)
        trace += a->m[j][j] / length[j];
    return acos(fmin(1, fmax(-1, (trace - 1) / 2))) * 180 / acos(-1);
}
