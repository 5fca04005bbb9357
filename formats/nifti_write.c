/* The header is the scan's own with few fields changed; voxels follow as they are, through zlib or
 * not. */
#include "formats/nifti_write.h"

#include <nifti1_io.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "formats/atomic.h"
#include "formats/nifti_impl.h"

#define OUT_ROOM 32768

struct nii_out {
    struct afile file;
    bool gzip, deflating, sealed;
    z_stream z;
    uint8_t *out;
};

/* --- headers ---------------------------------------------------------------------------------- */

static const struct {
    int16_t datatype, bitpix;
} types[DT_COUNT] = {
    [DT_U8] = {DT_UINT8, 8},     [DT_I16] = {DT_INT16, 16},    [DT_I32] = {DT_INT32, 32},
    [DT_F16] = {DT_FLOAT32, 32}, [DT_BF16] = {DT_FLOAT32, 32}, [DT_F32] = {DT_FLOAT32, 32},
    [DT_F64] = {DT_FLOAT64, 64},
};

void nii_make_header(uint8_t raw[NII_HEADER], const uint32_t grid[3], uint32_t volumes,
                     const double spacing[3], enum dtype dtype, const char *description)
{
    struct nifti_1_header h;
    float s[3] = {(float)spacing[0], (float)spacing[1], (float)spacing[2]};

    memset(&h, 0, sizeof h);
    h.sizeof_hdr = NII_HEADER;
    h.regular = 'r';
    h.dim[0] = volumes > 1 ? 4 : 3;
    for (int i = 0; i < 7; i++) {
        h.dim[i + 1] = (short)(i < 3 ? grid[i] : i == 3 ? volumes : 1);
        h.pixdim[i + 1] = i < 3 ? s[i] : 1;
    }
    h.pixdim[0] = 1;
    h.datatype = types[dtype].datatype;
    h.bitpix = types[dtype].bitpix;
    h.vox_offset = 352;
    h.scl_slope = 1;
    h.xyzt_units = NIFTI_UNITS_MM | NIFTI_UNITS_SEC;
    snprintf(h.descrip, sizeof h.descrip, "%s", description);
    h.qform_code = h.sform_code = NIFTI_XFORM_SCANNER_ANAT;
    h.quatern_d = 1; /* half a turn about z: x to the left, y to the posterior */
    h.qoffset_y = s[1] * (float)(grid[1] - 1);
    h.srow_x[0] = -s[0];
    h.srow_y[1] = -s[1];
    h.srow_y[3] = h.qoffset_y;
    h.srow_z[2] = s[2];
    memcpy(h.magic, "n+1", 4);
    memcpy(raw, &h, NII_HEADER);
}

void nii_move_header(uint8_t raw[NII_HEADER], const struct affine *a, int code)
{
    struct nifti_1_header h;
    float *const row[3] = {h.srow_x, h.srow_y, h.srow_z};
    mat44 m = {{{0}}};

    memcpy(&h, raw, NII_HEADER);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            row[i][j] = m.m[i][j] = (float)a->m[i][j];
    nifti_mat44_to_quatern(m, &h.quatern_b, &h.quatern_c, &h.quatern_d, &h.qoffset_x, &h.qoffset_y,
                           &h.qoffset_z, NULL, NULL, NULL, &h.pixdim[0]);
    h.qform_code = h.sform_code = (short)code;
    memcpy(raw, &h, NII_HEADER);
}

static uint32_t get16(const uint8_t *p, bool swap)
{
    uint16_t u;
    memcpy(&u, p, 2);
    return swap ? __builtin_bswap16(u) : u;
}

static void put16(uint8_t *p, uint32_t v, bool swap)
{
    uint16_t u = swap ? __builtin_bswap16((uint16_t)v) : (uint16_t)v;
    memcpy(p, &u, 2);
}

static void putf(uint8_t *p, float v, bool swap)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    u = swap ? __builtin_bswap32(u) : u;
    memcpy(p, &u, 4);
}

void nii_plain_header(uint8_t raw[NII_HEADER])
{
    static const struct {
        uint16_t at, n;
    } meant[] = {{0, 4}, {40, 16}, {68, 6}, {76, 16}, {123, 1}, {252, 4}, {344, 4}};
    uint8_t was[NII_HEADER];
    int32_t size;
    bool swap;

    memcpy(was, raw, NII_HEADER);
    memcpy(&size, was, 4);
    swap = size != (int32_t)NII_HEADER;
    memset(raw, 0, NII_HEADER);
    for (size_t i = 0; i < sizeof meant / sizeof *meant; i++)
        memcpy(raw + meant[i].at, was + meant[i].at, meant[i].n);
    for (uint32_t i = get16(was + 40, swap) + 1; i < 8; i++)
        put16(raw + 40 + 2 * i, 1, swap);
    if (get16(was + 68, swap) != NIFTI_INTENT_LABEL)
        put16(raw + 68, 0, swap);
    for (int i = 4; i < 8; i++)
        putf(raw + 76 + 4 * i, 1, swap);
    putf(raw + 108, 352, swap);
    putf(raw + 112, 1, swap);
    if ((int16_t)get16(was + 252, swap) > 0)
        memcpy(raw + 256, was + 256, 24);
    if ((int16_t)get16(was + 254, swap) > 0)
        memcpy(raw + 280, was + 280, 48);
}

size_t nii_remake_header(const uint8_t *raw, size_t n, uint32_t volumes, enum dtype dtype,
                         uint8_t *out)
{
    int32_t size;
    bool swap;

    memcpy(&size, raw, 4);
    swap = size != (int32_t)NII_HEADER;
    memcpy(out, raw, n);
    for (; n < 352; n++) /* a header that came alone has no extension */
        out[n] = 0;
    if (volumes != (get16(out + 40, swap) >= 4 ? get16(out + 48, swap) : 1)) {
        put16(out + 40, volumes > 1 ? 4 : 3, swap);
        put16(out + 48, volumes, swap);
    }
    put16(out + 70, (uint32_t)types[dtype].datatype, swap);
    put16(out + 72, (uint32_t)types[dtype].bitpix, swap);
    putf(out + 108, (float)n, swap);
    putf(out + 112, 1, swap);
    putf(out + 116, 0, swap);
    memset(out + 124, 0, 8); /* cal_max, cal_min */
    if (dtype != DT_U8 || get16(out + 68, swap) != NIFTI_INTENT_LABEL) {
        memset(out + 56, 0, 14);  /* intent_p1 to intent_code */
        memset(out + 328, 0, 16); /* intent_name */
    }
    memcpy(out + 344, "n+1", 4);
    return n;
}

/* --- files ------------------------------------------------------------------------------------ */

static int deflate_some(struct nii_out *o, int flush, char *why)
{
    do {
        size_t n;
        o->z.next_out = o->out;
        o->z.avail_out = OUT_ROOM;
        if (deflate(&o->z, flush) == Z_STREAM_ERROR)
            return nii_fail(why, o->file.path, "zlib fails");
        n = OUT_ROOM - o->z.avail_out;
        if (n && afile_write(&o->file, o->out, n, why, NII_WHY))
            return -1;
    } while (o->z.avail_out == 0);
    return 0;
}

struct nii_out *nii_create(const char *path, const void *header, size_t n, char *why)
{
    struct nii_out *o = calloc(1, sizeof *o);
    size_t len = strlen(path);

    if (!o) {
        nii_fail(why, path, "out of memory");
        return NULL;
    }
    o->file.fd = -1;
    o->gzip = len > 3 && !strcmp(path + len - 3, ".gz");
    o->out = malloc(OUT_ROOM);
    o->deflating = o->gzip && o->out &&
                   deflateInit2(&o->z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    if (!o->out || o->gzip != o->deflating)
        nii_fail(why, path, "out of memory");
    else if (!afile_open(&o->file, path, why, NII_WHY) && !nii_put(o, header, n, why))
        return o;
    nii_abort(o);
    return NULL;
}

int nii_put(struct nii_out *o, const void *voxels, size_t bytes, char *why)
{
    const uint8_t *p = voxels;

    if (!o->gzip)
        return afile_write(&o->file, voxels, bytes, why, NII_WHY);
    while (bytes) {
        size_t n = bytes < 1u << 30 ? bytes : 1u << 30;
        o->z.next_in = (Bytef *)p;
        o->z.avail_in = (uInt)n;
        if (deflate_some(o, Z_NO_FLUSH, why))
            return -1;
        p += n;
        bytes -= n;
    }
    return 0;
}

static void drop_buffers(struct nii_out *o)
{
    if (o->deflating)
        deflateEnd(&o->z);
    o->deflating = false;
    free(o->out);
    o->out = NULL;
}

int nii_seal(struct nii_out *o, char *why)
{
    o->z.avail_in = 0;
    if (o->gzip && deflate_some(o, Z_FINISH, why))
        return -1;
    drop_buffers(o);
    o->sealed = true;
    return afile_seal(&o->file, why, NII_WHY);
}

int nii_commit(struct nii_out *o, char *why)
{
    int e = o->sealed ? 0 : nii_seal(o, why);

    if (e) {
        nii_abort(o);
        return -1;
    }
    e = afile_commit(&o->file, why, NII_WHY);
    free(o);
    return e;
}

void nii_abort(struct nii_out *o)
{
    if (!o)
        return;
    drop_buffers(o);
    afile_abort(&o->file);
    free(o);
}
