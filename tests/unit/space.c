/* Maps and interpolation against numpy (tests/vectors/space.tsv, space.py beside it says what), and
 * against what they are by definition; transforms and origins against texts. */
#include "formats/nifti_write.h"
#include "formats/origin.h"
#include "formats/transform.h"
#include "lib/image/resample.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VECTORS "tests/vectors/space.tsv"
enum { X = 5, Y = 6, Z = 7, FIELDS = 64 };

static char why[NII_WHY];

static int far(const double *want, const double *got, int n)
{
    for (int i = 0; i < n; i++)
        if (!(fabs(want[i] - got[i]) <= 1e-9 * fmax(1, fabs(want[i]))))
            return 1;
    return 0;
}

static struct affine matrix(char **field)
{
    struct affine a;
    for (int i = 0; i < 12; i++)
        a.m[i / 4][i % 4] = strtod(field[i], NULL);
    return a;
}

static float voxels[X * Y * Z];
static size_t place[3][Z]; /* as it lies: row after row, plane after plane */

static struct img_volume volume(bool air)
{
    for (int z = 0; z < Z; z++)
        for (int y = 0; y < Y; y++)
            for (int x = 0; x < X; x++)
                voxels[(z * Y + y) * X + x] = (float)((7 * x + 13 * y + 29 * z + x * y * z) % 17);
    for (size_t i = 0; i < Z; i++) {
        place[0][i] = i;
        place[1][i] = i * X;
        place[2][i] = i * X * Y;
    }
    return (struct img_volume){{X, Y, Z}, voxels, {place[0], place[1], place[2]}, 0, 16, air};
}

static size_t resample_plane(const struct img_volume *v, const struct affine *map,
                             enum img_kernel k, uint32_t z, uint32_t h, uint32_t w, float *out)
{
    size_t inside = 0;
    for (uint32_t y = 0; y < h; y++)
        inside += img_resample(v, map, k, z, y, w, out + y * w);
    return inside;
}

static float at(const struct img_volume *v, enum img_kernel k, double x, double y, double z)
{
    const struct affine to = {{{1, 0, 0, x}, {0, 1, 0, y}, {0, 0, 1, z}}};
    float out;
    img_resample(v, &to, k, 0, 0, 1, &out);
    return out;
}

static int compared[5];

static void compare(char **f, int n)
{
    static const char *const kinds[] = {"then", "inverse", "turn", "elastix", "sample"};
    static const int fields[] = {37, 25, 14, 15, 7};
    struct affine a, b;
    enum img_kernel k;
    int kind = 0;

    while (kind < 5 && strcmp(f[0], kinds[kind]))
        kind++;
    if (kind == 5 || n != fields[kind]) {
        ok(0, "a line of %d fields that begins with %s", n, f[0]);
        return;
    }
    compared[kind]++;
    if (kind == 0) {
        struct affine first = matrix(f + 1), second = matrix(f + 13);
        a = affine_then(&first, &second);
        b = matrix(f + 25);
    } else if (kind == 1) {
        struct affine m = matrix(f + 1);
        if (!affine_inverse(&m, &a))
            memset(&a, 0, sizeof a);
        b = matrix(f + 13);
    } else if (kind == 2) {
        struct affine m = matrix(f + 1);
        double got = affine_turn(&m), want = strtod(f[13], NULL);
        if (!(fabs(got - want) <= 1e-9 * want))
            ok(0, "turn: wanted %.12g, got %.12g", want, got);
        return;
    } else if (kind == 3) {
        for (char *p = f[2]; *p; p++)
            *p = *p == '|' ? '\n' : *p;
        if (xfm_parse(f[2], f[1], &a, why))
            ok(0, "elastix: %s", why);
        b = matrix(f + 3);
    } else {
        struct img_volume v = volume(*f[2] == '1');
        float got, want = strtof(f[6], NULL);
        img_kernel_by_name(f[1], &k);
        got = at(&v, k, strtod(f[3], NULL), strtod(f[4], NULL), strtod(f[5], NULL));
        if (!(fabsf(got - want) <= 1e-4f))
            ok(0, "%s at %s %s %s: wanted %g, got %g", f[1], f[3], f[4], f[5], want, got);
        return;
    }
    if (far(b.m[0], a.m[0], 12))
        ok(0, "%s %d: not numpy's matrix", kinds[kind], compared[kind]);
}

static void test_vectors(void)
{
    static char text[16384];
    FILE *in = fopen(VECTORS, "r");

    while (in && fgets(text, sizeof text, in)) {
        char *field[FIELDS], *save;
        int n = 0;
        for (char *p = strtok_r(text, "\t\n", &save); p && n < FIELDS;
             p = strtok_r(NULL, "\t\n", &save))
            field[n++] = p;
        if (n)
            compare(field, n);
    }
    if (in)
        fclose(in);
    ok(compared[0] == 4 && compared[1] == 4 && compared[2] == 4, "maps are numpy's");
    ok(compared[3] == 4, "elastix's parameters mean what ITK says");
    ok(compared[4] == 162, "kernels are numpy's");
}

static void test_kernels(void)
{
    struct img_volume v = volume(false);
    struct affine half = {{{0.5, 0, 0, -0.25}, {0, 0.5, 0, -0.25}, {0, 0, 0.5, -0.25}}};
    float out[X * Y], plane[4 * X * Y];
    size_t inside;
    int same = 1, kept = 1;

    for (enum img_kernel k = IMG_LINEAR; k <= IMG_LANCZOS; k++)
        for (uint32_t z = 0; z < Z; z++) {
            inside = resample_plane(&v, &affine_identity, k, z, Y, X, out);
            same &= inside == X * Y && !memcmp(out, voxels + z * X * Y, sizeof out);
        }
    ok(same, "a point that lies on a voxel has its value, to the bit");
    for (int i = 0; i < X * Y * Z; i++) { /* 1 + x + 2 y - z + x x / 4 */
        double x = i % X, y = i / X % Y, z = i / X / Y;
        voxels[i] = (float)(1 + x + 2 * y - z + x * x / 4);
    }
    v.least = -1e9f;
    v.most = 1e9f;
    for (double x = 1; x < 2.9; x += 0.13)
        kept &= fabs(at(&v, IMG_CUBIC, x, 2.4, 3.3) - (1 + x + 4.8 - 3.3 + x * x / 4)) < 1e-4;
    ok(kept, "the cubic kernel keeps parabolas");
    inside = resample_plane(&v, &half, IMG_LINEAR, 0, 2 * Y, 2 * X, plane);
    ok(inside == 4 * X * Y, "a volume reaches half a voxel beyond its centres");
    ok(at(&v, IMG_LINEAR, -0.51, 0, 0) == 0 && at(&v, IMG_LINEAR, -0.5, 0, 0) == voxels[0] &&
           at(&v, IMG_LINEAR, NAN, 0, 0) == 0,
       "and no farther");
}

static void test_nearest(void)
{
    uint8_t from[X * Y * Z], to[X * Y];
    struct img_volume v = volume(false);
    const struct affine turned = {{{-1, 0, 0, X - 1}, {0, -1, 0, Y - 1}, {0, 0, 1, 0.4}}};
    int same = 1;

    v.voxels = from;
    for (int i = 0; i < X * Y * Z; i++)
        from[i] = (uint8_t)i;
    for (uint32_t z = 0; z < Z; z++) {
        for (uint32_t y = 0; y < Y; y++)
            img_resample_nearest(&v, 1, &turned, z, y, X, to + y * X);
        for (int i = 0; i < X * Y; i++)
            same &= to[i] == from[z * X * Y + X * Y - 1 - (uint32_t)i];
    }
    ok(same, "the nearest voxel comes as it is");
}

static void refuse(const char *text, const char *says)
{
    struct affine a;
    int e = xfm_parse(text, "t", &a, why);
    ok(e && !strncmp(why, "t: ", 3) && strstr(why, says), "refused: %s", e ? why : "it is not");
}

#define EULER "(Transform \"EulerTransform\")\n(TransformParameters 0 0 0 1 2 3)\n"

static void test_transforms(void)
{
    struct affine a;
    const double want[12] = {1, 0, 0, 4, 0, 1, 0, -5, 0, 0, 1, 6};

    ok(!xfm_parse("# a comment\n1 0 0 4\n0 1 0 -5\n 0 0 1e0 6\n", "t", &a, why) &&
           !far(want, a.m[0], 12),
       "three rows are a map");
    ok(!xfm_parse(
           "{\"type\":\"allineate_affine\",\"fixed_to_moving\":[[1,0,0,4],[0,1,0,-5],[0,0,1,6],"
           "[0,0,0,1]]}",
           "t", &a, why) &&
           !far(want, a.m[0], 12),
       "so is niimath's JSON");
    ok(!xfm_parse("// a comment\n" EULER "(CenterOfRotationPoint 7 8 9)\n", "t", &a, why) &&
           a.m[0][3] == -1 && a.m[1][3] == -2 && a.m[2][3] == 3,
       "elastix's x and y run the other way");
    refuse("", "0 rows");
    refuse("1 0 0 0\n0 1 0 0\n", "2 rows");
    refuse("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 1 1\n", "last row");
    refuse("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n0 0 0 1\n", "more than four rows");
    refuse("1 0 0 0 0\n0 1 0 0\n0 0 1 0\n", "more than four numbers");
    refuse("1 0 0 nan\n0 1 0 0\n0 0 1 0\n", "not four numbers");
    refuse("1 0 0 1e9\n0 1 0 0\n0 0 1 0\n", "no number of a head");
    refuse("-1 0 0 0\n0 1 0 0\n0 0 1 0\n", "mirrors");
    refuse("0 0 0 0\n0 1 0 0\n0 0 1 0\n", "singular");
    refuse("9 0 0 0\n0 1 0 0\n0 0 1 0\n", "millilitre");
    refuse("{\"fixed_to_moving\":[[1,0,0,4]]}", "four rows");
    refuse("{\"fixed_to_moving\":[[1,0,0,4],[0,1,0],[0,0,1,6],[0,0,0,1]]}", "row 2");
    refuse("{\"fixed_to_moving\":", "t: byte");
    refuse(EULER, "CenterOfRotationPoint");
    refuse(EULER "(CenterOfRotationPoint 0 0 0)\n(InitialTransformParameterFileName \"a.txt\")\n",
           "one transform alone");
    refuse("(Transform \"BSplineTransform\")\n(TransformParameters 0 0)\n", "'BSplineTransform'");
    refuse("(Transform \"EulerTransform\")\n(TransformParameters 0 0)\n",
           "wanted 6 numbers, got 2");
}

static void test_origin(void)
{
    const uint32_t grid[3] = {4, 5, 6};
    const double spacing[3] = {1, 2, 3};
    const struct affine map = {{{1, 0.1, 0, 7}, {0, 1, 1 / 3.0, -8}, {0, 0, 1.5, 9}}};
    static struct origin o, back;
    uint8_t raw[NII_HEADER], *out;
    struct nii_header h;
    size_t n;
    int damaged = 1;

    nii_make_header(raw, grid, 1, spacing, DT_I16, "Doe^Jane 1950-01-01");
    memcpy(raw + 14, "1950-01-01", 10);
    memcpy(raw + 228, "Doe", 3);
    origin_add(&o, "flair", &map, raw);
    origin_add(&o, "t1gd", &affine_identity, raw);
    nii_make_header(raw, grid, 1, spacing, DT_I16, "");
    out = origin_write(&o, raw, &n);
    ok(out && n % 16 == 0 && !nii_parse(out, "out", &h, why) && h.offset == n,
       "the extension ends where the voxels begin");
    ok(out && origin_read(out, n, &back, why) == 1 && back.n == 2 &&
           !memcmp(&back.scan[0].map, &map, sizeof map) && origin_find(&back, "t1gd") &&
           !origin_find(&back, "t1"),
       "what was written is read, to the bit");
    ok(out && !nii_parse(back.scan[0].header, "flair", &h, why) && h.grid[2] == 6 &&
           h.spacing[1] == 2,
       "the scan's header with it");
    ok(!memmem(back.scan[0].header, NII_HEADER, "Doe", 3) &&
           !memmem(back.scan[0].header, NII_HEADER, "1950", 4),
       "but for texts that may say whom it shows");
    ok(origin_read(raw, NII_HEADER, &back, why) == 0, "a header alone has none");
    for (size_t i = 352 + 8 + 18; out && i < 352 + 8 + 18 + 60; i++) {
        uint8_t was = out[i];
        out[i] = '/';
        damaged &= origin_read(out, n, &back, why) == -1;
        out[i] = was;
    }
    ok(damaged, "a damaged one is told");
    free(out);
}

int main(void)
{
    struct affine none = {{{1, 2, 3, 0}, {2, 4, 6, 0}, {0, 0, 1, 0}}};

    test_vectors();
    ok(!affine_inverse(&none, &none), "a singular map has no inverse");
    test_kernels();
    test_nearest();
    test_transforms();
    test_origin();
    return done_testing();
}
