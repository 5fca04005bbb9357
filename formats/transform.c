/* transform.c - a file of each program, told by what it begins with, to one affine map. */
#include "formats/transform.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/json.h"
#include "formats/nifti.h"
#include "formats/nifti_impl.h"
#include "formats/plain.h"
#include "lib/base/number.h"

enum { TEXT = 65536, MOST = 32 }; /* bytes of a file; numbers of a line of elastix's */

static const char *blank(const char *p)
{
    return p + strspn(p, " \t\r");
}

/* --- JSON ------------------------------------------------------------------------------------- */

static int from_json(const char *text, const char *name, double m[4][4], char *why)
{
    int code, e = 0;
    json_t *all = json_read(name, text, strlen(text), false, &code, why, NII_WHY);
    const json_t *rows = json_object_get(all, "fixed_to_moving");

    if (!all)
        return -1;
    if (json_array_size(rows) != 4)
        e = nii_fail(why, name,
                     "no 'fixed_to_moving' of four rows (wanted what niimath -savemat "
                     "writes)");
    for (size_t i = 0; i < 4 && !e; i++) {
        const json_t *row = json_array_get(rows, i);
        for (size_t j = 0; j < 4 && !e; j++) {
            const json_t *v = json_array_get(row, j);
            if (json_array_size(row) != 4 || !json_is_number(v))
                e = nii_fail(why, name, "row %zu of 'fixed_to_moving' is not four numbers", i + 1);
            else
                m[i][j] = json_number_value(v);
        }
    }
    json_decref(all);
    return e;
}

/* --- elastix ---------------------------------------------------------------------------------- */

/* What stands behind (KEY, up to the bracket that closes it: numbers, as many as there are, or a
 * word in quotes. -1 where there is no such line. */
static int numbers_of(const char *text, const char *key, double *v, int most)
{
    size_t len = strlen(key);

    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        const char *q = blank(p);
        int n = 0;
        char *end;
        if (*q != '(' || strncmp(q + 1, key, len) || (q[len + 1] != ' ' && q[len + 1] != '\t'))
            continue;
        for (q = blank(q + len + 1); *q != ')'; q = blank(end))
            if (n == most || !number_read(q, &end, &v[n++]))
                return -1;
        return n;
    }
    return -1;
}

static bool word_of(const char *text, const char *key, char word[64])
{
    char start[64];
    size_t n = (size_t)snprintf(start, sizeof start, "(%s \"", key);

    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        const char *q = blank(p);
        if (strncmp(q, start, n))
            continue;
        snprintf(word, 64, "%.*s", (int)strcspn(q + n, "\"\n"), q + n);
        return true;
    }
    return false;
}

static void rotation(const double angle[3], bool zyx, double m[4][4])
{
    const double cx = cos(angle[0]), sx = sin(angle[0]), cy = cos(angle[1]), sy = sin(angle[1]),
                 cz = cos(angle[2]), sz = sin(angle[2]);
    const struct affine x = {{{1, 0, 0, 0}, {0, cx, -sx, 0}, {0, sx, cx, 0}}},
                        y = {{{cy, 0, sy, 0}, {0, 1, 0, 0}, {-sy, 0, cy, 0}}},
                        z = {{{cz, -sz, 0, 0}, {sz, cz, 0, 0}, {0, 0, 1, 0}}};
    struct affine r = zyx ? affine_then(&x, &y) : affine_then(&y, &x);

    r = affine_then(&r, &z);
    for (int i = 0; i < 3; i++)
        memcpy(m[i], r.m[i], sizeof r.m[i]);
}

static int from_elastix(const char *text, const char *name, double m[4][4], char *why)
{
    char word[64];
    double v[MOST], centre[3] = {0, 0, 0}, dimension;
    const char *const before[] = {"InitialTransformParametersFileName",
                                  "InitialTransformParameterFileName"};
    int n, wanted;

    for (int i = 0; i < 2; i++)
        if (word_of(text, before[i], word) && strcmp(word, "NoInitialTransform"))
            return nii_fail(why, name, "%s '%s' (wanted one transform alone)", before[i], word);
    if (word_of(text, "UseDirectionCosines", word) && strcmp(word, "true"))
        return nii_fail(why, name, "UseDirectionCosines '%s' (wanted true)", word);
    if (numbers_of(text, "FixedImageDimension", &dimension, 1) == 1 && dimension != 3)
        return nii_fail(why, name, "%g dimensions (wanted 3)", dimension);
    if (!word_of(text, "Transform", word))
        return nii_fail(why, name, "no line (Transform \"...\")");
    wanted = !strcmp(word, "TranslationTransform") ? 3
             : !strcmp(word, "EulerTransform")     ? 6
             : !strcmp(word, "AffineTransform")    ? 12
                                                   : 0;
    if (!wanted)
        return nii_fail(why, name,
                        "a transform '%s' (wanted TranslationTransform, EulerTransform or "
                        "AffineTransform)",
                        word);
    n = numbers_of(text, "TransformParameters", v, MOST);
    if (n != wanted)
        return nii_fail(why, name, "TransformParameters: (wanted %d numbers, got %d)", wanted,
                        n < 0 ? 0 : n);
    if (wanted > 3 && numbers_of(text, "CenterOfRotationPoint", centre, 3) != 3)
        return nii_fail(why, name, "CenterOfRotationPoint: (wanted 3 numbers)");
    if (wanted == 6)
        rotation(v, word_of(text, "ComputeZYX", word) && !strcmp(word, "true"), m);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; wanted == 12 && j < 3; j++)
            m[i][j] = v[3 * i + j];
        m[i][3] = v[wanted - 3 + i] + centre[i];
        for (int j = 0; j < 3; j++)
            m[i][3] -= m[i][j] * centre[j];
    }
    for (int i = 0; i < 3; i++) /* x and y the other way */
        for (int j = 0; j < 4; j++)
            if ((i < 2) != (j < 2))
                m[i][j] = -m[i][j];
    return 0;
}

/* --- plain ------------------------------------------------------------------------------------ */

static int from_rows(const char *text, const char *name, double m[4][4], char *why)
{
    int rows = 0;

    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        const char *q = blank(p);
        if (*q == '#' || *q == '\n' || !*q)
            continue;
        if (rows == 4)
            return nii_fail(why, name, "more than four rows");
        for (int j = 0; j < 4; j++, q = blank(q)) {
            char *end;
            if (!number_read(q, &end, &m[rows][j]))
                return nii_fail(why, name,
                                "row %d is not four numbers (wanted a matrix, what "
                                "niimath -savemat or what elastix writes)",
                                rows + 1);
            q = end;
        }
        if (*q && *q != '\n')
            return nii_fail(why, name, "row %d has more than four numbers", rows + 1);
        rows++;
    }
    return rows < 3 ? nii_fail(why, name, "%d rows (wanted 3 or 4)", rows) : 0;
}

/* --- any -------------------------------------------------------------------------------------- */

int xfm_parse(const char *text, const char *name, struct affine *out, char *why)
{
    double m[4][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}, det;
    const char *p = text + strspn(text, " \t\r\n");
    int e = *p == '{'                                   ? from_json(text, name, m, why)
            : *p == '(' || (p[0] == '/' && p[1] == '/') ? from_elastix(text, name, m, why)
                                                        : from_rows(text, name, m, why);

    if (e)
        return e;
    if (m[3][0] != 0 || m[3][1] != 0 || m[3][2] != 0 || m[3][3] != 1)
        return nii_fail(why, name, "the last row is not 0 0 0 1");
    memcpy(out->m, m, sizeof out->m);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            if (!(fabs(m[i][j]) <= 1e5))
                return nii_fail(why, name, "row %d: %g is no number of a head", i + 1, m[i][j]);
    det = affine_determinant(out);
    if (!(det > 0))
        return nii_fail(why, name, "%s", det < 0 ? "it mirrors the head" : "it is singular");
    if (!(det >= 1 / XFM_MOST && det <= XFM_MOST))
        return nii_fail(why, name, "it makes %g of one millilitre (wanted %g to %g)", det,
                        1 / XFM_MOST, XFM_MOST);
    return 0;
}

int xfm_read(const char *path, struct affine *out, char *why)
{
    FILE *f = plain_open(path, why, NII_WHY);
    char *text = f ? malloc(TEXT + 1) : NULL;
    size_t n;
    int e = -1;

    if (!f)
        return -1;
    n = text ? fread(text, 1, TEXT + 1, f) : 0;
    if (!text)
        nii_fail(why, path, "out of memory");
    else if (ferror(f))
        nii_fail(why, path, "cannot be read");
    else if (n > TEXT)
        nii_fail(why, path, "too long for a transform (wanted at most %d bytes)", TEXT);
    else if (text[n] = 0, strlen(text) < n)
        nii_fail(why, path, "no text");
    else
        e = xfm_parse(text, path, out, why);
    free(text);
    fclose(f);
    return e;
}
