/* The 348 bytes of a header, checked in the order of formats/nifti.md before anything is made of
 * them. */
#include "formats/nifti.h"
#include "formats/nifti_impl.h"

#include <math.h>
#include <nifti1_io.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int nii_fail(char *why, const char *path, const char *fmt, ...)
{
    va_list ap;
    int n = snprintf(why, NII_WHY, "%.700s: ", path);

    va_start(ap, fmt);
    vsnprintf(why + n, NII_WHY - (size_t)n, fmt, ap);
    va_end(ap);
    return -1;
}

/* --- header ----------------------------------------------------------------------------------- */

static int get16(const uint8_t *p, bool swap)
{
    int16_t v;
    memcpy(&v, p, 2);
    return swap ? (int16_t)__builtin_bswap16((uint16_t)v) : v;
}

static float getf(const uint8_t *p, bool swap)
{
    uint32_t u;
    float f;
    memcpy(&u, p, 4);
    u = swap ? __builtin_bswap32(u) : u;
    memcpy(&f, &u, 4);
    return f;
}

double nii_tidy(float f)
{
    char text[32];

    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)f);
        if (strtof(text, NULL) == f)
            break;
    }
    return strtod(text, NULL);
}

static int check_start(const uint8_t *raw, const char *path, bool *swap, char *why)
{
    int32_t size;

    memcpy(&size, raw, 4);
    *swap = size == (int32_t)__builtin_bswap32(NII_HEADER);
    if (size != (int32_t)NII_HEADER && !*swap) {
        if (size == 540 || size == (int32_t)__builtin_bswap32(540))
            return nii_fail(why, path, "NIfTI-2 (wanted NIfTI-1)");
        return nii_fail(why, path, "not a NIfTI file");
    }
    if (memcmp(raw + 344, "n+1", 4) && memcmp(raw + 344, "ni1", 4))
        return nii_fail(why, path, "not a NIfTI file (ANALYZE 7.5 has no orientation; convert it)");
    return 0;
}

static int check_dims(const uint8_t *raw, bool swap, const char *path, struct nii_header *h,
                      char *why)
{
    int n = get16(raw + 40, swap);
    uint64_t bytes = h->size;

    if (n < 1 || n > 7)
        return nii_fail(why, path, "bad number of dimensions (wanted 1 to 7, got %d)", n);
    for (int i = 1; i <= 7; i++) {
        int d = get16(raw + 40 + 2 * i, swap);
        if (i <= n && d < 1)
            return nii_fail(why, path, "bad dimension %d (wanted 1 or more, got %d)", i, d);
        if (i > n && i > 3)
            d = 1;
        if (i > n && i <= 3)
            return nii_fail(why, path, "too few dimensions (wanted 3 or 4, got %d)", n);
        if (i > 4 && d != 1)
            return nii_fail(why, path,
                            "too many dimensions (wanted 3 or 4, got %d of which the last is %d)",
                            i, d);
        if (i <= 3)
            h->dim[i - 1] = (uint32_t)d;
        else if (i == 4)
            h->channels = (uint32_t)d;
        if (__builtin_mul_overflow(bytes, (uint64_t)d, &bytes) || bytes > (uint64_t)1 << 46)
            return nii_fail(why, path, "impossible size (the dimensions multiply past 64 TiB)");
    }
    bytes = (uint64_t)h->dim[0] * h->dim[1] * h->size;
    if (bytes > NII_MAX_PLANE)
        return nii_fail(why, path, "a plane of %llu bytes (wanted at most %u)",
                        (unsigned long long)bytes, NII_MAX_PLANE);
    return 0;
}

static int check_datatype(const uint8_t *raw, bool swap, const char *path, struct nii_header *h,
                          char *why)
{
    int nbyper, swapsize;

    h->datatype = get16(raw + 70, swap);
    switch (h->datatype) {
    case DT_UINT8:
    case DT_INT8:
    case DT_INT16:
    case DT_UINT16:
    case DT_INT32:
    case DT_UINT32:
    case DT_INT64:
    case DT_UINT64:
    case DT_FLOAT32:
    case DT_FLOAT64:
        nifti_datatype_sizes(h->datatype, &nbyper, &swapsize);
        h->size = (uint32_t)nbyper;
        return 0;
    default:
        return nii_fail(why, path,
                        "voxel type not supported (wanted integers or float32/64, got %s)",
                        nifti_datatype_string(h->datatype));
    }
}

static int check_scaling(const uint8_t *raw, bool swap, const char *path, struct nii_header *h,
                         char *why)
{
    double slope = getf(raw + 112, swap), inter = getf(raw + 116, swap);

    h->slope = 1;
    h->inter = 0;
    if (slope == 0 || isnan(slope))
        return 0;
    if (!isfinite(slope) || isinf(inter))
        return nii_fail(why, path, "scl_slope or scl_inter is infinite");
    h->slope = slope;
    h->inter = isnan(inter) ? 0 : inter;
    return 0;
}

static int check_offset(const uint8_t *raw, bool swap, const char *path, struct nii_header *h,
                        char *why)
{
    double at = getf(raw + 108, swap);

    h->pair = raw[345] == 'i';
    if (at == 0)
        at = h->pair ? 0 : 352;
    if (!(at >= (h->pair ? 0 : 352) && at <= 0x1p40) || at != floor(at))
        return nii_fail(why, path, "bad vox_offset (wanted a whole number of %d or more, got %g)",
                        h->pair ? 0 : 352, at);
    h->offset = (uint64_t)at;
    return 0;
}

/* nifticlib's rotation, with what its reader makes of a number that is not finite: zero. (The
 * reader itself allocates, and prints where it cannot.) */
static mat44 quatern_to_mat44(const uint8_t *raw, bool swap)
{
    float v[6], d[3];

    for (int i = 0; i < 6; i++) {
        v[i] = getf(raw + 256 + 4 * i, swap);
        v[i] = isfinite(v[i]) ? v[i] : 0;
    }
    for (int i = 0; i < 3; i++)
        d[i] = fabsf(getf(raw + 80 + 4 * i, swap));
    return nifti_quatern_to_mat44(v[0], v[1], v[2], v[3], v[4], v[5], d[0], d[1], d[2],
                                  getf(raw + 76, swap) < 0 ? -1 : 1);
}

static void doubt(struct nii_header *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void doubt(struct nii_header *h, const char *fmt, ...)
{
    size_t n = strlen(h->doubt);
    va_list ap;

    if (n)
        n += (size_t)snprintf(h->doubt + n, sizeof h->doubt - n, "; ");
    va_start(ap, fmt);
    vsnprintf(h->doubt + n, sizeof h->doubt - n, fmt, ap);
    va_end(ap);
}

/* Millimetres in the header's unit of length; none named is the millimetre. */
static double unit(const uint8_t *raw)
{
    int u = XYZT_TO_SPACE(raw[123]);
    return u == NIFTI_UNITS_METER ? 1000 : u == NIFTI_UNITS_MICRON ? 0.001 : 1;
}

/* The three letters that an affine's axes go to: "LPS"; false if it has none. */
static bool axes_of(mat44 m, char letters[4])
{
    int code[3];

    nifti_mat44_to_orientation(m, &code[0], &code[1], &code[2]);
    for (int i = 0; i < 3; i++) {
        if (code[i] < NIFTI_L2R || code[i] > NIFTI_S2I)
            return false;
        letters[i] = "RLAPSI"[code[i] - NIFTI_L2R];
    }
    letters[3] = 0;
    return true;
}

/* The affine: sform before qform; without either as nibabel and ANALYZE do, x to the left. */
static int set_affine(const uint8_t *raw, bool swap, const char *path, struct nii_header *h,
                      char *why)
{
    int s = get16(raw + 254, swap), q = get16(raw + 252, swap);
    double mm = unit(raw), pixdim[3];
    mat44 quatern = {{{0}}}, sform = {{{0}}};
    char by_q[4], by_s[4];

    for (int i = 0; i < 3; i++) {
        pixdim[i] = fabs(nii_tidy(getf(raw + 80 + 4 * i, swap)));
        if (!isfinite(pixdim[i]))
            return nii_fail(why, path, "pixdim[%d] is not a finite number", i + 1);
        pixdim[i] = nii_tidy((float)(mm * (pixdim[i] == 0 ? 1 : pixdim[i])));
    }
    if (q > 0)
        quatern = quatern_to_mat44(raw, swap);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++) {
            sform.m[i][j] = getf(raw + 280 + 16 * i + 4 * j, swap);
            h->affine[i][j] = s > 0   ? mm * (double)sform.m[i][j]
                              : q > 0 ? mm * (double)quatern.m[i][j]
                              : i != j
                                  ? (j == 3 ? (i ? -1 : 1) * pixdim[i] * (h->dim[i] - 1) / 2 : 0)
                                  : (i ? 1 : -1) * pixdim[i];
            if (!isfinite(h->affine[i][j]))
                return nii_fail(why, path,
                                "the orientation matrix holds a number that is not finite");
        }
    for (int c = 0; c < 3; c++)
        h->spacing[c] = pixdim[c]; /* by file axis here; set_axes sorts them */
    if (s <= 0 && q <= 0)
        doubt(h, "no orientation in the header (left and right are a guess)");
    if (s > 0 && q > 0 && axes_of(sform, by_s) && axes_of(quatern, by_q) && strcmp(by_s, by_q))
        doubt(h, "the sform turns the axes to %s, the qform to %s (the sform counts)", by_s, by_q);
    return 0;
}

static int set_axes(const char *path, struct nii_header *h, char *why)
{
    mat44 m = {{{0}}};
    char to[4];
    double spacing[3], det, size;
    const double(*a)[4] = (const double(*)[4])h->affine;

    det = a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1]) -
          a[0][1] * (a[1][0] * a[2][2] - a[1][2] * a[2][0]) +
          a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0]);
    size = 1;
    for (int j = 0; j < 3; j++)
        size *= sqrt(a[0][j] * a[0][j] + a[1][j] * a[1][j] + a[2][j] * a[2][j]);
    if (!(fabs(det) > 1e-12 * size))
        return nii_fail(why, path, "the orientation matrix is singular");
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            m.m[i][j] = (float)a[i][j];
    memcpy(spacing, h->spacing, sizeof spacing);
    for (int c = 0; c < 3; c++)
        h->axis[c] = -1;
    for (int i = 0; i < 3; i++) {
        int c = !axes_of(m, to) ? -1 : strchr("RL", to[i]) ? 0 : strchr("AP", to[i]) ? 1 : 2;
        if (c < 0 || h->axis[c] >= 0)
            return nii_fail(why, path, "the orientation matrix has no nearest axes");
        h->axis[c] = i;
        h->flip[c] = strchr("RAI", to[i]) != NULL;
        h->grid[c] = h->dim[i];
        h->spacing[c] = spacing[i];
    }
    return 0;
}

/* pixdim, unless a rigid sform (codes 1 and 2: the scanner's space, or aligned to it) has columns
 * of another length; that of a template's space may stretch. */
static int set_spacing(const uint8_t *raw, const char *path, struct nii_header *h, char *why)
{
    int s = get16(raw + 254, h->swapped);
    bool rigid = s == NIFTI_XFORM_SCANNER_ANAT || s == NIFTI_XFORM_ALIGNED_ANAT, differ = false;
    int small = 0, fine = 0;
    double column[3], *v = h->spacing;

    for (int c = 0; c < 3; c++) {
        double square = 0;
        for (int i = 0; i < 3; i++)
            square += h->affine[i][h->axis[c]] * h->affine[i][h->axis[c]];
        column[c] = nii_tidy((float)sqrt(square));
        differ |= !(fabs(column[c] - v[c]) <= 1e-3 * column[c]);
    }
    if (differ)
        doubt(h, "voxels are %gx%gx%g mm by pixdim, %gx%gx%g by the %s (%s counts)", v[0], v[1],
              v[2], column[0], column[1], column[2], s > 0 ? "sform" : "qform",
              rigid ? "the sform" : "pixdim");
    if (differ && rigid)
        memcpy(v, column, sizeof column);
    for (int c = 0; c < 3; c++) {
        if (!(v[c] >= NII_MIN_SPACING && v[c] <= NII_MAX_SPACING))
            return nii_fail(why, path, "voxels of %gx%gx%g mm%s (wanted %g to %g)", v[0], v[1],
                            v[2],
                            unit(raw) > 1   ? ", by a header in metres"
                            : unit(raw) < 1 ? ", by a header in micrometres"
                                            : "",
                            NII_MIN_SPACING, NII_MAX_SPACING);
        if (v[c] * h->grid[c] > NII_MAX_EXTENT)
            return nii_fail(why, path, "a grid of %gx%gx%g mm (wanted at most %g)",
                            v[0] * h->grid[0], v[1] * h->grid[1], v[2] * h->grid[2],
                            NII_MAX_EXTENT);
        small += v[c] * h->grid[c] < NII_LEAST_HEAD;
        fine += v[c] < 1;
    }
    if (small >= 2 && fine == 3)
        doubt(h, "a grid of %gx%gx%g mm is small for a head: is the header's unit right?",
              v[0] * h->grid[0], v[1] * h->grid[1], v[2] * h->grid[2]);
    return 0;
}

int nii_parse(const void *raw, const char *path, struct nii_header *h, char *why)
{
    memset(h, 0, sizeof *h);
    if (check_start(raw, path, &h->swapped, why) || check_datatype(raw, h->swapped, path, h, why) ||
        check_dims(raw, h->swapped, path, h, why) || check_scaling(raw, h->swapped, path, h, why) ||
        check_offset(raw, h->swapped, path, h, why) || set_affine(raw, h->swapped, path, h, why) ||
        set_axes(path, h, why))
        return -1;
    return set_spacing(raw, path, h, why);
}

void nii_layout(const struct nii_header *h, int64_t *base, int64_t step[3])
{
    int64_t stride[3] = {1, h->grid[0], (int64_t)h->grid[0] * h->grid[1]};

    *base = 0;
    for (int c = 0; c < 3; c++) {
        step[h->axis[c]] = h->flip[c] ? -stride[c] : stride[c];
        *base += h->flip[c] ? stride[c] * (h->grid[c] - 1) : 0;
    }
}

struct affine nii_place(const struct nii_header *h)
{
    struct affine a;

    for (int i = 0; i < 3; i++) {
        a.m[i][3] = h->affine[i][3];
        for (int c = 0; c < 3; c++) {
            double step = h->affine[i][h->axis[c]];
            a.m[i][c] = h->flip[c] ? -step : step;
            a.m[i][3] += h->flip[c] ? step * (h->grid[c] - 1) : 0;
        }
    }
    return a;
}

const char *nii_grids_differ(const struct nii_header *a, const struct nii_header *b, char *why)
{
    if (memcmp(a->dim, b->dim, sizeof a->dim)) {
        snprintf(why, NII_WHY, "%ux%ux%u voxels against %ux%ux%u", a->dim[0], a->dim[1], a->dim[2],
                 b->dim[0], b->dim[1], b->dim[2]);
        return why;
    }
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            if (!(fabs(a->affine[i][j] - b->affine[i][j]) <= 1e-3)) {
                snprintf(why, NII_WHY, "affine row %d column %d is %.9g against %.9g", i + 1, j + 1,
                         a->affine[i][j], b->affine[i][j]);
                return why;
            }
    return NULL;
}
