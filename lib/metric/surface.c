/* The area of the surface that marching cubes lays among eight voxel centres.
 *
 * The surface cuts each edge of the cube that has one end inside in its middle. Where at most four
 * corners are inside, each group of them connected by edges of the cube is cut off by a polygon of
 * its own; with more than four the same is done for the corners outside, so that swapping inside
 * and outside never changes the area. The polygon joins cuts that lie on one face. Three kinds are
 * flat (a triangle about one corner, a rectangle along an edge or a face, a regular hexagon about a
 * corner with its three neighbours) and their area leaves no choice. Two are not flat, and how they
 * are folded matters, with equal as with unequal spacing:
 *
 * - five cuts about an L of three corners: folded so that its mirror symmetry stays: a triangle of
 *   the three cuts at right angles to the L, and a trapezium;
 * - six cuts about a path of four corners that turns twice: a fan of triangles from a cut that is
 *   parallel to the middle of the path (there are two such; both give the same area).
 *
 * Folded so, all 256 areas equal those of the table that the surface-distance library carries. */
#include "lib/metric/metric.h"

#include <math.h>
#include <string.h>

/* Corners are numbered 4z+2y+x, so a neighbour along an axis is one bit away. Axis 0 is z. */
static int across(int corner, int axis)
{
    return corner ^ (4 >> axis);
}

static int count(unsigned set)
{
    return __builtin_popcount(set);
}

/* The corners of `set` that edges of the cube connect with its lowest. */
static unsigned group_of(unsigned set)
{
    unsigned group = set & -set, more = group;
    while (more) {
        unsigned next = 0;
        for (int c = 0; c < 8; c++)
            if (more >> c & 1)
                for (int a = 0; a < 3; a++)
                    next |= 1u << across(c, a);
        more = next & set & ~group;
        group |= more;
    }
    return group;
}

struct cut {
    int corner, axis; /* the corner inside, and where the edge leads */
    double at[3];     /* mm */
};

static int on_one_face(const struct cut *a, const struct cut *b)
{
    for (int i = 0; i < 3; i++)
        if (a->axis != i && b->axis != i && !((a->corner ^ b->corner) & (4 >> i)))
            return 1;
    return 0;
}

/* Cuts in the order of the polygon, from the one that its fan of triangles shall start from. */
static int order(struct cut *cut, int n, int first)
{
    struct cut t = cut[0];
    cut[0] = cut[first];
    cut[first] = t;
    for (int i = 1; i < n; i++) {
        int j = i;
        while (j < n && !on_one_face(&cut[i - 1], &cut[j]))
            j++;
        if (j == n)
            return 0;
        t = cut[i];
        cut[i] = cut[j];
        cut[j] = t;
    }
    return 1;
}

static double triangle(const double *a, const double *b, const double *c)
{
    double u[3], v[3], n[3];
    for (int i = 0; i < 3; i++) {
        u[i] = b[i] - a[i];
        v[i] = c[i] - a[i];
    }
    for (int i = 0; i < 3; i++)
        n[i] = u[(i + 1) % 3] * v[(i + 2) % 3] - u[(i + 2) % 3] * v[(i + 1) % 3];
    return sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) / 2;
}

/* How many neighbours a corner has in its group. */
static int degree(unsigned group, int c)
{
    int n = 0;
    for (int a = 0; a < 3; a++)
        n += group >> across(c, a) & 1;
    return n;
}

/* The cut to start from, by the two rules above; any other polygon is flat. */
static int start(const struct cut *cut, int n, unsigned group)
{
    int along[3] = {0};
    for (int i = 0; i < n; i++)
        along[cut[i].axis]++;
    for (int i = 0; i < n; i++) {
        int end = degree(group, cut[i].corner) == 1, axis = cut[i].axis;
        if (count(group) == 3 && end && along[axis] == 3)
            return i;
        if (count(group) == 4 && end) {
            /* the middle of the path joins its two corners of degree 2 */
            for (int c = 0; c < 8; c++)
                if (group >> c & 1 && group >> across(c, axis) & 1 && degree(group, c) == 2 &&
                    degree(group, across(c, axis)) == 2)
                    return i;
        }
    }
    return 0;
}

static double polygon(unsigned group, const double spacing[3])
{
    struct cut cut[12];
    double area = 0;
    int n = 0;
    for (int c = 0; c < 8; c++)
        for (int a = 0; a < 3; a++)
            if (group >> c & 1 && !(group >> across(c, a) & 1)) {
                cut[n].corner = c;
                cut[n].axis = a;
                for (int i = 0; i < 3; i++)
                    cut[n].at[i] = spacing[i] * (i == a ? 0.5 : (c & (4 >> i)) != 0);
                n++;
            }
    order(cut, n, start(cut, n, group));
    for (int i = 1; i + 1 < n; i++)
        area += triangle(cut[0].at, cut[i].at, cut[i + 1].at);
    return area;
}

void met_surface_areas(const double spacing[3], double area[256])
{
    for (unsigned code = 0; code < 256; code++) {
        area[code] = 0;
        for (unsigned set = count(code) > 4 ? ~code & 255 : code; set;) {
            unsigned group = group_of(set);
            area[code] += polygon(group, spacing);
            set &= ~group;
        }
    }
}
